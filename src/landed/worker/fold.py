"""The fold: reads the journal in order and writes what it means, in one transaction with its position.

A crash at any instant repeats nothing and skips nothing. The order of records within the journal
does not matter to what a message becomes; only to the rows' numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from landed.domain.lifecycle import (
    Fact,
    Source,
    greater_copy,
    inbound_key,
    message_of,
    moment,
    receipt_key,
)
from landed.domain.receipt import Api, Inbound, Receipt, Status
from landed.errors import FoldStopped, Unreadable
from landed.journal import Journal
from landed.journal.record import Record, RequestRecord, SentRecord, decode
from landed.store import Changes, Kept, KeptInbound, Known, MessageKey, Progress, Store
from landed.vonage.parse import Coverage, Trust, read
from landed.vonage.request import Request

RECORDS_A_BATCH = 2_000


class Folded(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it was folded, for whoever prints or counts it. `facts` is empty if unreadable."""

    position: int
    record: RequestRecord
    facts: tuple[Receipt | Inbound, ...]
    new: bool
    unreadable: str | None = None


Heard = Callable[[Sequence[Folded]], None]


class Fold:
    """One journal into one store. `heard` is told of each request, after its transaction."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        heard: Heard | None = None,
        *,
        records_a_batch: int = RECORDS_A_BATCH,
    ) -> None:
        self._journal = journal
        self._store = store
        self._heard = heard
        self._records_a_batch = records_a_batch
        self.progress: Progress = store.progress(journal.epoch)
        self._refuse_positions_beyond_the_end()

    def step(self) -> int:
        """Fold the next batch, and say how many records it had; 0 when there is nothing to do."""
        before = self.progress.position
        rows = self._journal.read(before, self._records_a_batch)
        if not rows:
            return 0
        with self._store.transaction():
            batch = _Batch(self._store, rows)
            position, at = rows[-1][0], batch.at
            self._store.save(batch.changes(), epoch=self.progress.epoch, before=before, position=position, at=at)
        self.progress = self._store.progress(self.progress.epoch)
        if self._heard is not None:
            self._heard(batch.folded)
        return len(rows)

    def is_full(self, folded: int) -> bool:
        """Whether a batch was as large as one may be, so that more is waiting."""
        return folded == self._records_a_batch

    def catch_up(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Fold until there is nothing left, or until told to stop."""
        while not stop() and self.step():
            pass

    def _refuse_positions_beyond_the_end(self) -> None:
        last = self._journal.last_position()
        if self.progress.position > last:
            raise FoldStopped(
                f"The store has folded up to record {self.progress.position}, but the journal ends at {last}: "
                "the journal was put back from an older copy. Put back the newer one, or run `landed rebuild`."
            )


class _Batch:
    """One transaction's work: decode all, load what is known of their messages, join, collect."""

    def __init__(self, store: Store, rows: Sequence[tuple[int, bytes]]) -> None:
        self._store = store
        self._changes = Changes()
        self._touched: dict[MessageKey, set[bytes]] = {}
        self._inbound: dict[bytes, KeptInbound] = {}
        self.folded: list[Folded] = []
        records = [(position, _decoded(position, data)) for position, data in rows]
        read_records = [(position, record, _read(record)) for position, record in records]
        self.at = moment(max(record.at_us for _, record in records))
        self._known = store.load(_keys(read_records))
        self._next_message, self._next_receipt = store.next_rows()
        for position, record, facts in read_records:
            self._take(position, record, facts)

    def changes(self) -> Changes:
        """Everything to save."""
        for (account, _), touched, known in ((key, self._touched[key], self._known[key]) for key in self._touched):
            row = known.row
            if row is None:
                row, self._next_message = self._next_message, self._next_message + 1
            message = message_of(account, [kept.fact for kept in known.facts.values()])
            self._changes.messages.append((row, message))
            self._changes.facts.extend((row, known.facts[key]) for key in touched)
        self._changes.inbound = list(self._inbound.values())
        return self._changes

    def _take(self, position: int, record: Record, facts: _Read) -> None:
        if isinstance(record, SentRecord):
            sent = _sent(record)
            self._join(position, record.account, sent, moment(record.at_us), Source.SENT)
        elif isinstance(record, RequestRecord):
            self._take_request(position, record, facts)

    def _take_request(self, position: int, record: RequestRecord, facts: _Read) -> None:
        tally = self._changes.tally
        tally.received += 1
        received_at = moment(record.received_us)
        if isinstance(facts, Unreadable):
            tally.unreadable += 1
            self._changes.unreadable.append((position, received_at, facts.reason))
            self.folded.append(Folded(position=position, record=record, facts=(), new=True, unreadable=str(facts)))
            return
        new = [self._take_fact(position, record, fact, received_at) for fact in facts]
        if any(new):
            tally.folded += 1
        else:
            tally.duplicate += 1
        self.folded.append(Folded(position=position, record=record, facts=facts, new=any(new)))

    def _take_fact(self, position: int, record: RequestRecord, fact: Receipt | Inbound, received_at: datetime) -> bool:
        if isinstance(fact, Receipt):
            return self._join(position, record.account, fact, received_at, Source.WEBHOOK)
        key = inbound_key(record.account, fact)
        new = key not in self._inbound and not self._store.has_inbound(key)
        if new:
            self._inbound[key] = KeptInbound(
                key=key, position=position, received_at=received_at, account=record.account, inbound=fact
            )
        return new

    def _join(self, position: int, account: str, receipt: Receipt, received_at: datetime, source: Source) -> bool:
        message = (account, receipt.message_id)
        known = self._known.setdefault(message, Known(row=None, facts={}))
        fact = Fact(receipt=receipt, key=receipt_key(account, receipt), received_at=received_at, source=source)
        self._touched.setdefault(message, set()).add(fact.key)
        kept = known.facts.get(fact.key)
        if kept is None:
            known.facts[fact.key] = Kept(row=self._next_receipt, position=position, fact=fact)
            self._next_receipt += 1
            return True
        best = greater_copy(kept.fact, fact)
        kept.position = position if best.receipt is fact.receipt else kept.position
        kept.fact = best
        return False


_Read = tuple[Receipt | Inbound, ...] | Unreadable


def _decoded(position: int, data: bytes) -> Record:
    try:
        return decode(data)
    except msgspec.MsgspecError as error:
        raise FoldStopped(f"Record {position} of the journal is damaged or of a newer landed: {error}.") from error


def _read(record: Record) -> _Read:
    if not isinstance(record, RequestRecord):
        return ()
    request = Request(
        method=record.method, path=record.path, query=record.query, headers=record.headers, body=record.body
    )
    trust = Trust(
        coverage=Coverage(record.coverage), verified=record.verified, stale=record.stale, api_key=record.api_key
    )
    try:
        return read(request, trust)
    except Unreadable as unreadable:
        return unreadable


def _keys(records: Iterable[tuple[int, Record, _Read]]) -> set[MessageKey]:
    keys: set[MessageKey] = set()
    for _, record, facts in records:
        if isinstance(record, SentRecord):
            keys.add((record.account, record.message_id))
        elif isinstance(record, RequestRecord) and not isinstance(facts, Unreadable):
            keys.update((record.account, fact.message_id) for fact in facts if isinstance(fact, Receipt))
    return keys


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
        verified=True,
    )
