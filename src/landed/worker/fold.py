"""The fold: reads the journal in order and writes what it means, in one transaction with its position.

A crash at any instant repeats nothing and skips nothing. The order of records within the journal
does not matter to what a message becomes; only to the rows' numbers.
"""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import msgspec
import structlog

from landed.domain.events import (
    CALLED_FOR,
    CALLED_FOR_IN_CONFLICT,
    MESSAGE_TYPES,
    EventType,
    called_for,
    cause_of,
    event_id,
)
from landed.domain.lifecycle import Fact, Message, Source, greater_copy, inbound_key, message_of, receipt_key
from landed.domain.moments import microseconds, moment
from landed.domain.receipt import Api, Inbound, Part, Receipt, Status
from landed.domain.rollups import Cell, cell_of, cell_of_first, cells_of_firsts
from landed.domain.sending import Sending, SendState, joined_sending
from landed.errors import FoldStopped, Unreadable
from landed.journal import Journal
from landed.journal.record import IntentRecord, KeptRequest, NotSentRecord, SentRecord, Told, decode_told
from landed.store import Changes, First, Kept, KeptInbound, Known, MessageKey, Progress, Sealed, Store
from landed.store.firsts import first_of
from landed.store.outbox import Said
from landed.store.rows import hash_of
from landed.vonage.parse import Coverage, Trust, read
from landed.vonage.request import Request
from landed.vonage.usual import read_usual

log = structlog.get_logger("landed.fold")

RECORDS_A_BATCH = 2_000
BYTES_A_BATCH = 4 * 1024 * 1024
TRUSTS_REMEMBERED_MAX = 256
# What the only receipt of a message calls for, in order.
AT_FIRST = {status: [event for event in MESSAGE_TYPES if event in called] for status, called in CALLED_FOR.items()}
AT_FIRST_BUT_ACCEPTED = {
    status: [event for event in events if event is not EventType.ACCEPTED] for status, events in AT_FIRST.items()
}


class Folded(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it was folded, for whoever prints or counts it. `facts` is empty if unreadable."""

    position: int
    record: KeptRequest
    facts: tuple[Receipt | Inbound, ...]
    new: bool
    unreadable: str | None = None


Heard = Callable[[Sequence[Folded]], None]


class Fold:
    """One journal into one store. `heard` is told of each request, after its transaction.

    `was_full` says that the last batch was as large as one may be, so that more may be waiting.
    `sealed` is what a rebuild began with; it goes to `silent_upto` and no further, and no events come of it. Unless it
    may not be `compiled`, what can be read by compiled code is, where there is any.
    """

    def __init__(  # noqa: PLR0913 - its two doors, its bounds, and what a rebuild adds
        self,
        journal: Journal,
        store: Store,
        heard: Heard | None = None,
        *,
        records_a_batch: int = RECORDS_A_BATCH,
        bytes_a_batch: int = BYTES_A_BATCH,
        sealed: Sealed | None = None,
        silent_upto: int | None = None,
        compiled: bool = True,
    ) -> None:
        self._journal = journal
        self._store = store
        self._heard = heard
        self._records_a_batch = records_a_batch
        self._bytes_a_batch = bytes_a_batch
        self._sealed = sealed or Sealed()
        self._silent_upto = silent_upto
        self._reading = read_at_length if heard is not None else quickest() if compiled else read_record
        self.was_full = False
        self.progress: Progress = store.progress(journal.epoch)
        self._refuse_positions_outside_the_journal()

    def step(self) -> int:
        """Fold the next batch, and say how many records it had; 0 when there is nothing to do."""
        before = self.progress.position
        rows = self._journal.read(before, self._records_a_batch, self._bytes_a_batch)
        if self._silent_upto is not None:
            rows = [row for row in rows if row[0] <= self._silent_upto]
        self.was_full = len(rows) == self._records_a_batch or sum(len(data) for _, data in rows) >= self._bytes_a_batch
        if not rows:
            return 0
        batch = _Batch(
            rows, self._sealed, self._reading, is_heard=self._heard is not None, says=self._silent_upto is None
        )
        with self._store.transaction():
            changes = batch.changes(self._store)
            progress = self._store.save(
                changes, epoch=self.progress.epoch, before=before, position=rows[-1][0], at=batch.at
            )
        self.progress = progress
        if self._heard is not None:
            self._heard(batch.folded)
        return len(rows)

    def _refuse_positions_outside_the_journal(self) -> None:
        last = self._journal.last_position()
        if self.progress.position > last:
            raise FoldStopped(
                f"The store has folded up to record {self.progress.position}, but the journal ends at {last}: "
                "the journal was put back from an older copy. Put back the newer one, or run `landed rebuild`."
            )
        retired = self._journal.retired().position
        if self.progress.position < retired:
            raise FoldStopped(
                f"The store has folded up to record {self.progress.position}, but the journal's records up to "
                f"{retired} are retired: the store was put back from an older copy, or made anew. Put back the newer "
                "one, or run `landed rebuild` to go on with what is left."
            )


class _Batch:
    """One transaction's work: read all, load what is known of their messages, join, collect."""

    def __init__(
        self, rows: Sequence[tuple[int, bytes]], sealed: Sealed, reading: Reading, *, is_heard: bool, says: bool
    ) -> None:
        self._sealed = sealed
        self._says = says
        self._wants_accepted = False
        # Before the transaction, which holds up nobody while this takes its time.
        self._records = [reading(position, data) for position, data in rows]
        self._is_heard = is_heard
        self.at = moment(decode_told(rows[-1][1]).at_us)
        self._firsts: list[First] = []
        self.folded: list[Folded] = []
        self._changes = Changes()
        self._known: dict[MessageKey, Known] = {}
        self._touched: dict[MessageKey, set[bytes]] = {}
        # Each message that moves, with the cell that it leaves.
        self._moved: dict[MessageKey, Cell | None] = {}
        # And what it called for until then; with those of which something was known that is not verified.
        self._called: dict[MessageKey, frozenset[EventType]] = {}
        self._doubted: set[MessageKey] = set()
        self._inbound: dict[bytes, KeptInbound] = {}
        self._sendings: dict[bytes, Sending] = {}
        self._next_message = self._next_receipt = 0

    def changes(self, store: Store) -> Changes:
        """Everything to save; asked once, within the transaction."""
        receipts = [each for each in self._records if isinstance(each, First)]
        at_length = [each for each in self._records if not isinstance(each, First)]
        message_keys, inbound_keys = _keys(at_length)
        # By their hashes, messages of which something else may be known, there or here.
        hashes = Counter([receipt.hash for receipt in receipts])
        shared = {key for key, count in hashes.items() if count > 1} | {hash_of(each) for _, each in message_keys}
        shared |= store.may_know(hashes)
        message_keys |= {(each.kind.account, each.message_id) for each in receipts if each.hash in shared}
        self._known = store.load(message_keys)
        self._inbound = store.load_inbound(inbound_keys) if inbound_keys else {}
        self._take_sendings(store, at_length)
        self._wants_accepted = self._says and store.wants_accepted()
        self._next_message, self._next_receipt = store.next_rows()
        for record in self._records:
            if not isinstance(record, First):
                self._take(*record)
            elif record.hash in shared:
                self._take_receipt(record)
            else:
                self._take_first(record)
        self._save_firsts()
        for message, touched in self._touched.items():
            known = self._known[message]
            self._changes.facts.extend((known.row, known.facts[key]) for key in touched)
            if message in self._moved:
                joined = _joined(message, known)
                self._changes.messages.append((known.row, joined))
                self._count(self._moved[message], cell_of(joined))
                if self._says:
                    self._say(store, message, known, joined)
        self._changes.inbound = list(self._inbound.values())
        self._changes.sendings = list(self._sendings.values())
        return self._changes

    def _take_sendings(self, store: Store, records: Iterable[ReadRecord]) -> None:
        told = [sending for position, record, _ in records if (sending := _sending(position, record))]
        self._sendings = store.load_sendings({each.id for each in told}) if told else {}
        for sending in told:
            kept = self._sendings.get(sending.id)
            self._sendings[sending.id] = sending if kept is None else joined_sending(kept, sending)

    def _take(self, position: int, record: Told, facts: _Facts) -> None:
        if isinstance(record, KeptRequest):
            self._take_request(position, record, facts)
        elif isinstance(record, SentRecord):
            self._join(position, record.account, _sent(record), moment(record.at_us), Source.SENT)

    def _take_request(self, position: int, record: KeptRequest, facts: _Facts) -> None:
        tally = self._changes.tally
        tally.received += 1
        if isinstance(facts, Unreadable):
            tally.unreadable += 1
            self._changes.unreadable.append((position, moment(record.received_us), facts.reason))
            self._tell(Folded(position=position, record=record, facts=(), new=True, unreadable=str(facts)))
            return
        if len(facts) == 1:
            is_new = self._take_fact(position, record, facts[0])
        else:
            is_new = True in [self._take_fact(position, record, fact) for fact in facts]
        if is_new:
            tally.folded += 1
        else:
            tally.duplicate += 1
        if self._is_heard:
            self._tell(Folded(position=position, record=record, facts=facts, new=is_new))

    def _take_fact(self, position: int, record: KeptRequest, fact: Receipt | Inbound) -> bool:
        account = record.account
        if isinstance(fact, Receipt):
            return self._join(position, account, fact, moment(record.received_us), Source.WEBHOOK)
        received_at = moment(record.received_us)
        key = inbound_key(record.account, fact)
        kept = self._inbound.get(key)
        if kept is not None and self._sealed.has_counted(position, kept.first_position):
            return False
        new = KeptInbound(
            key=key,
            position=position,
            first_position=position,
            received_at=received_at,
            account=record.account,
            inbound=fact,
        )
        self._inbound[key] = new if kept is None else _greater_inbound(kept, new)
        if kept is None and self._says:
            self._changes.events.append(Said(EventType.INBOUND, account, key.hex(), 0, 0, key))
        return kept is None

    def _take_first(self, receipt: First) -> None:
        receipt.message_row, receipt.receipt_row = self._next_message, self._next_receipt
        self._next_message += 1
        self._next_receipt += 1
        self._firsts.append(receipt)

    def _take_receipt(self, told: First) -> None:
        tally, received_at = self._changes.tally, moment(told.received_us)
        tally.received += 1
        if self._join(told.position, told.kind.account, told.receipt, received_at, Source.WEBHOOK):
            tally.folded += 1
        else:
            tally.duplicate += 1

    def _join(self, position: int, account: str, receipt: Receipt, received_at: datetime, source: Source) -> bool:
        message = (account, receipt.message_id)
        known = self._known.get(message)
        if known is None:
            known = self._known[message] = Known(row=self._next_message, facts={})
            self._next_message += 1
        fact = Fact(receipt=receipt, key=receipt_key(account, receipt), received_at=received_at, source=source)
        self._touched.setdefault(message, set()).add(fact.key)
        kept = known.facts.get(fact.key)
        if kept is None:
            self._move(message, known)
            known.facts[fact.key] = Kept(row=self._next_receipt, position=position, first_position=position, fact=fact)
            self._next_receipt += 1
            return True
        if self._sealed.has_counted(position, kept.first_position):
            return False
        best = greater_copy(kept.fact, fact)
        if best.receipt is fact.receipt:
            kept.position = position
        # A copy that says nothing else, later, is counted, and the message stays as it is.
        if best.receipt is not kept.fact.receipt or best.received_at != kept.fact.received_at:
            self._move(message, known)
        kept.fact = best
        return False

    def _move(self, message: MessageKey, known: Known) -> None:
        """Note, before it changes, where the message is counted, and what it called for."""
        if message not in self._moved:
            self._moved[message] = _cell(message, known) if known.facts else None
            if self._says:
                facts = [kept.fact for kept in known.facts.values()]
                self._called[message] = called_for(facts)
                if False in [fact.receipt.verified for fact in facts]:
                    self._doubted.add(message)

    def _say(self, store: Store, message: MessageKey, known: Known, joined: Message) -> None:
        """Say what the message calls for now and did not before."""
        facts = [kept.fact for kept in known.facts.values()]
        trusts = {fact.receipt.verified for fact in facts}
        # As `called_for` does, from what is joined already, where no trust overturns anything.
        table = CALLED_FOR_IN_CONFLICT if joined.conflict else CALLED_FOR
        called = (table[joined.status] if len(trusts) == 1 else called_for(facts)) - self._called[message]
        if not called:
            return
        # A state comes back only where trust took it away before: what it calls for has been said then.
        if message in self._doubted and True in trusts:
            ids = {event_id(*message, event): event for event in called}
            called -= {ids[said] for said in store.said(ids)}
        for event in MESSAGE_TYPES:
            if event in called and (event is not EventType.ACCEPTED or self._wants_accepted):
                cause = cause_of(event, facts)
                row = known.facts[cause.key].row
                self._changes.events.append(Said(event, *message, known.row, row, cause.key))

    def _save_firsts(self) -> None:
        firsts = self._firsts
        self._changes.tally.received += len(firsts)
        self._changes.tally.folded += len(firsts)
        self._changes.cells = cells_of_firsts([(first.received_us, first.kind, first.to) for first in firsts])
        self._changes.firsts = firsts
        if self._says:
            self._changes.called_at_first = AT_FIRST if self._wants_accepted else AT_FIRST_BUT_ACCEPTED

    def _count(self, left: Cell | None, taken: Cell) -> None:
        if left != taken:
            self._changes.cells[taken] += 1
            if left is not None:
                self._changes.cells[left] -= 1

    def _tell(self, folded: Folded) -> None:
        if self._is_heard:
            self.folded.append(folded)


def _cell(message: MessageKey, known: Known) -> Cell:
    """Where a known message is counted; nearly always there is one receipt of it until now, which needs no join."""
    if len(known.facts) == 1:
        (kept,) = known.facts.values()
        if kept.fact.source is Source.WEBHOOK:
            return cell_of_first(message[0], kept.fact.receipt, microseconds(kept.fact.received_at))
    return cell_of(_joined(message, known))


def _joined(message: MessageKey, known: Known) -> Message:
    return message_of(message[0], [kept.fact for kept in known.facts.values()])


_Facts = tuple[Receipt | Inbound, ...] | Unreadable
ReadRecord = tuple[int, Told, _Facts]
Reading = Callable[[int, bytes], First | ReadRecord]


def quickest() -> Reading:
    """How records are read quickest: compiled, where that is."""
    try:
        from landed.worker.quick import QuickReader  # noqa: PLC0415 - it need not be there
    except ImportError:
        return read_record
    return QuickReader(read_record).read


def read_record(position: int, data: bytes) -> First | ReadRecord:
    """A record and the facts in it, or a usual receipt by itself, without `raw`, for which only a listener asks.

    FoldStopped when we do not understand the record itself.
    """
    return _read(position, data, quickly=True)


def read_at_length(position: int, data: bytes) -> ReadRecord:
    """The same, with all that a listener asks for."""
    told = _read(position, data, quickly=False)
    assert not isinstance(told, First)  # noqa: S101 - only quickly
    return told


def _read(position: int, data: bytes, *, quickly: bool) -> First | ReadRecord:
    try:
        record = decode_told(data)
        if not isinstance(record, KeptRequest):
            return position, record, (_sent(record),) if isinstance(record, SentRecord) else ()
        trust = _trust(record.coverage, record.verified, record.stale, record.api_key)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise FoldStopped(f"Record {position} of the journal is damaged or of a newer landed: {error}.") from error
    try:
        if quickly and (brief := read_usual(record.account, record, trust)) is not None:
            return first_of(position, record.received_us, brief)
        asked = Request(method=record.method, path=record.path, query=record.query, body=record.body)
        return position, record, read(asked, trust)
    except Unreadable as unreadable:
        return position, record, unreadable
    except Exception as error:  # noqa: BLE001 - a mistake of ours must not hold up every other request
        # Only where it happened is logged: the error's text may have what somebody sent.
        where = traceback.extract_tb(error.__traceback__)[-1]
        mistake = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        log.error("request.not_read", position=position, mistake=mistake)  # noqa: TRY400 - see above
        return (
            position,
            record,
            Unreadable("our-mistake", "landed failed in reading it, which is a mistake of landed's."),
        )


@lru_cache(TRUSTS_REMEMBERED_MAX)
def _trust(coverage: str, verified: bool, stale: bool, api_key: str | None) -> Trust:  # noqa: FBT001 - as it is kept
    return Trust(coverage=Coverage(coverage), verified=verified, stale=stale, api_key=api_key)


def _keys(records: Iterable[ReadRecord]) -> tuple[set[MessageKey], set[bytes]]:
    """The messages that these records speak of, and the inbound messages."""
    messages: set[MessageKey] = set()
    inbound: set[bytes] = set()
    for _, record, facts in records:
        if isinstance(facts, Unreadable) or not isinstance(record, KeptRequest | SentRecord):
            continue
        for fact in facts:
            if isinstance(fact, Receipt):
                messages.add((record.account, fact.message_id))
            else:
                inbound.add(inbound_key(record.account, fact))
    return messages, inbound


def _greater_inbound(one: KeptInbound, other: KeptInbound) -> KeptInbound:
    """Of two copies the one that stands, with what both together tell; as for receipts."""
    best = max(one, other, key=_inbound_order)
    received_at = min(one.received_at, other.received_at)
    first_position = min(one.first_position, other.first_position)
    return msgspec.structs.replace(
        best, first_position=first_position, received_at=received_at, copies=one.copies + other.copies
    )


def _inbound_order(kept: KeptInbound) -> tuple[bool, bytes]:
    facts = msgspec.structs.replace(kept.inbound, raw={})
    return (facts.verified, hashlib.blake2b(msgspec.msgpack.encode(facts), digest_size=16).digest())


def _sending(position: int, record: Told) -> Sending | None:
    """What a record tells of a send that landed made; None where it tells nothing of any."""
    if isinstance(record, IntentRecord):
        return Sending(
            id=record.id,
            position=position,
            at=moment(record.at_us),
            account=record.account,
            api=record.api,
            channel=record.channel,
            to=record.to,
            sender=record.sender,
            client_ref=record.client_ref,
            batch=record.batch,
            number=record.number,
        )
    if isinstance(record, NotSentRecord):
        return Sending(
            id=record.intent,
            position=position,
            at=moment(record.at_us),
            account=record.account,
            state=SendState.UNCLEAR if record.unclear else SendState.REFUSED,
            reason=record.reason,
            detail=record.detail,
        )
    if isinstance(record, SentRecord) and record.intent:
        return Sending(
            id=record.intent,
            position=position,
            at=moment(record.at_us),
            account=record.account,
            api=record.api,
            channel=record.channel,
            to=record.to or "",
            sender=record.sender or "",
            client_ref=record.client_ref or "",
            state=SendState.SENT,
            parts=((max(record.part, 1), record.message_id),),
        )
    return None


def _sent(record: SentRecord) -> Receipt:
    return Receipt(
        api=Api(record.api),
        message_id=record.message_id,
        channel=record.channel,
        status=Status.SENT,
        provider_status=Status.SENT,
        to=record.to,
        sender=record.sender,
        client_ref=record.client_ref,
        occurred_at=moment(record.sent_us),
        part=Part(group=record.group, number=record.part, of=record.parts) if record.parts else None,
        verified=True,
    )
