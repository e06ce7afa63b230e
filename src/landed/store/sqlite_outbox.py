"""The outbox in the embedded store's file. SQL is in `outbox.sql`, by name.

Any process may ask and change what people change; one dispatch at a time takes and notes, which the worker's lock sees
to. Statements take many rows at once, as in the store, and for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import apsw
import msgspec

from landed.domain.events import (
    ID_PREFIX,
    Data,
    Event,
    EventType,
    InboundData,
    QuarantineData,
    Traits,
    Wanted,
    event_id,
    id_text,
    message_data,
)
from landed.domain.lifecycle import Message
from landed.domain.moments import microseconds, moment
from landed.domain.views import InboundView
from landed.errors import SettingsError, StoreUnable
from landed.sqlite import Synchronous, is_unable, open_file, open_to_read
from landed.store import Kept
from landed.store.outbox import (
    Ask,
    Attempt,
    Backlog,
    Delivery,
    DeliveryState,
    How,
    KeptEvent,
    Kind,
    Note,
    Origin,
    SecretKept,
    Sought,
    Subscriber,
    SubscriberState,
    Taken,
)
from landed.store.rows import (
    EVENT_NUMBERS,
    GENERATION_BITS,
    Row,
    hash_of,
    inbound_of_row,
    kept_of_row,
    key_of,
    message_of_row,
)
from landed.store.sqlite import APPLICATION_ID, migrations, queries, transaction

EVENT_TYPES: Mapping[int, EventType] = {number: event for event, number in EVENT_NUMBERS.items()}
# Of new events so many are looked at in one step for all subscribers together, wanted or not, and so many at least for
# each of them: the fold waits meanwhile.
LOOKED_AT_MAX = 2_000
LOOKED_AT_MIN = 100
ROWS_A_TIME_MIN = 64
RETIRED_A_TIME = 1_000
REPLAYED_A_TIME = 500
EVENT_FIELDS = 8
ALWAYS_US, NEVER_US = -(2**63), 2**63 - 1
LAST_EVENT = 2**63 - 1
EVERYTHING = Wanted()
# Indexes that have deliveries in some states only, few beside all; and the condition that each is made by.
INDEXES: Mapping[str, tuple[frozenset[DeliveryState], str]] = {
    "delivery_dead": (frozenset({DeliveryState.DEAD}), "d.state = 3"),
    "delivery_open": (frozenset({DeliveryState.WAITING, DeliveryState.TAKEN}), "d.state IN (0, 1)"),
}

# Makes what an event carries, which takes the longest.
Tell = Callable[[], Data | None]

_secrets = msgspec.json.Decoder(tuple[SecretKept, ...])
_wanted = msgspec.json.Decoder(Wanted)
_quarantine = msgspec.json.Decoder(QuarantineData)


class SqliteOutbox:
    """What is said to whom, in the store's file at `path`.

    Raises StoreUnable when nothing was written and a later try may succeed.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous = "normal", only_read: bool = False) -> None:
        self.path = path
        texts = migrations()
        if only_read:
            self._db = open_to_read(path, application_id=APPLICATION_ID, migrations=texts)
        else:
            self._db = open_file(path, application_id=APPLICATION_ID, migrations=texts, synchronous=synchronous)
        self._sql = queries("outbox.sql")
        self._views = queries()
        self._db.create_scalar_function("hash_of", hash_of, 1, deterministic=True)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # Who wants what.

    def subscribers(self) -> list[Subscriber]:
        """All there are, in the order in which they came."""
        with self._reading():
            return [_subscriber_of(row) for row in self._db.execute(self._sql["subscribers"])]

    def add(self, subscriber: Subscriber, *, since_us: int | None = None) -> Subscriber:
        """Keep a new one, from the next event on, or from those since a moment; SettingsError when its name is taken.

        The one that is kept, with its row.
        """
        with transaction(self._db, self.path):
            if any(each.name == subscriber.name for each in self.subscribers()):
                raise SettingsError(f"There is a subscriber {subscriber.name!r} already: give another name.")
            cursor = self.newest()
            if since_us is not None:
                cursor = self._db.execute(self._sql["seq_before"], {"at_us": since_us}).get or 0
            row: int = self._db.execute(
                self._sql["add_subscriber"], _subscriber_values(subscriber) | {"cursor": cursor}
            ).get
        return msgspec.structs.replace(subscriber, row=row)

    def change(self, subscriber: Subscriber, *, was: SubscriberState | None = None) -> None:
        """Keep what is new of one; its cursor stays, and its state where that is not as it `was` any more."""
        with transaction(self._db, self.path):
            self._db.execute(self._sql["change_subscriber"], _subscriber_values(subscriber) | {"was": was or ""})

    def remove(self, row: int) -> None:
        """Forget one, with all that waits for it."""
        with transaction(self._db, self.path):
            for name in ("forget_attempts", "forget_deliveries", "forget_subscriber"):
                self._db.execute(self._sql[name], {"row": row})

    def stop(self, row: int, reason: str) -> None:
        """Serve one no more, as it asked for."""
        with transaction(self._db, self.path):
            self._db.execute(self._sql["stop_subscriber"], {"row": row, "reason": reason})

    # What the dispatch does.

    def newest(self) -> int:
        """The number of the newest event; 0 before the first."""
        newest: int = self._db.execute(self._sql["newest_event"]).get
        return newest

    def begin(self) -> None:
        """Let everything wait again that was on its way when the last dispatch ended."""
        with transaction(self._db, self.path):
            self._db.execute(self._sql["begin"])

    def step(self, notes: Collection[Note], asks: Iterable[Ask], now_us: int) -> list[Taken]:
        """Write what became of what was taken, and take more; at once, or not at all."""
        asks = self.worth(asks, now_us)
        if not notes and not asks:
            return []
        looked_at_max = max(LOOKED_AT_MAX // max(len(asks), 1), LOOKED_AT_MIN)
        with transaction(self._db, self.path):
            self._note(notes)
            return [taken for ask in asks for taken in self._take(ask, now_us, looked_at_max)]

    def worth(self, asks: Iterable[Ask], now_us: int) -> list[Ask]:
        """Those of the asks for which there may be something, so that nothing is written when nothing is to be done."""
        asks = list(asks)
        if not asks:
            return []
        with self._reading():
            newest = self.newest()
            standing = {row: rest for row, *rest in self._db.execute(self._sql["standing"], {"now_us": now_us})}
        worth = []
        for ask in asks:
            cursor, is_due, waits = standing.get(ask.subscriber.row, (newest, False, False))
            if cursor < newest or is_due or (waits and ask.how is not How.USUAL):
                worth.append(ask)
        return worth

    def _note(self, notes: Collection[Note]) -> None:
        if not notes:
            return
        rows = [
            (note.subscriber, note.event, note.state, note.attempts, note.next_us, note.at_us, note.said)
            for note in notes
        ]
        failed = [
            (note.event, note.subscriber, note.at_us, note.attempts, note.said, note.took_us)
            for note in notes
            if note.failed
        ]
        # First, while what was taken can still be told from what was removed meanwhile.
        if failed:
            self._db.execute(self._sql["note_attempts"], {"attempts": msgspec.json.encode(failed).decode()})
        self._db.execute(self._sql["note"], {"notes": msgspec.json.encode(rows).decode()})

    def _take(self, ask: Ask, now_us: int, looked_at_max: int) -> list[Taken]:
        row = ask.subscriber.row
        cursor: int | None = self._db.execute(self._sql["cursor"], {"subscriber": row}).get
        if cursor is None:
            return []
        new: list[Taken] = []
        if ask.how is How.PROBE_NEW:
            new = self._take_new(ask.subscriber, cursor, ask.count, looked_at_max)
        due = {} if new else self._due(ask, now_us)
        if due:
            self._db.execute(self._sql["take"], {"subscriber": row, "events": _array(due)})
        taken = [
            Taken(
                subscriber=row,
                kept=kept,
                attempts=due[kept.seq][0],
                due_us=due[kept.seq][1],
                is_replay=bool(due[kept.seq][2]),
            )
            for kept in self.events(due)
        ]
        if ask.how in (How.USUAL, How.PROBE):
            new = self._take_new(ask.subscriber, cursor, ask.count - len(due), looked_at_max)
        return taken + new

    def _due(self, ask: Ask, now_us: int) -> dict[int, list[int]]:
        """What of what waits is to be taken: attempts, when it is due, and whether it is a replay, by the events."""
        wanted = {"subscriber": ask.subscriber.row, "count": ask.count}
        if ask.how is How.USUAL:
            return self._rows("due", wanted | {"now_us": now_us})
        if ask.how is How.CATCH_UP:
            return self._rows("waiting", wanted | {"after": ask.after, "since_us": ask.since_us})
        waiting = self._rows("waiting", wanted | {"after": ask.after, "since_us": 0})
        return waiting or self._rows("waiting", wanted | {"after": 0, "since_us": 0})

    def _rows(self, name: str, wanted: Mapping[str, int]) -> dict[int, list[int]]:
        return {event: rest for event, *rest in self._db.execute(self._sql[name], wanted)}

    def _take_new(self, subscriber: Subscriber, cursor: int, count: int, looked_at_max: int) -> list[Taken]:
        """New events for one, and its cursor behind all that were looked at."""
        if count <= 0:
            return []
        upto = min(self.newest(), cursor + looked_at_max)
        types = _array(EVENT_NUMBERS[event] for event in subscriber.wanted.types())
        events: dict[int, KeptEvent] = {}
        behind = cursor
        while behind < upto and len(events) < count:
            rows_max = max(count, ROWS_A_TIME_MIN)
            wanted = {"cursor": behind, "upto": upto, "types": types, "count": rows_max}
            rows = list(self._db.execute(self._sql["events_after"], wanted))
            behind = rows[-1][0] if len(rows) == rows_max else upto
            several = self._kept(rows, subscriber.wanted)[: count - len(events)]
            events |= {kept.seq: kept for kept in several}
            if len(events) == count:
                behind = several[-1].seq
        if behind > cursor:
            self._db.execute(self._sql["move_cursor"], {"subscriber": subscriber.row, "cursor": behind})
        if not events:
            return []
        values = {"subscriber": subscriber.row, "events": _array(events)}
        taken = sorted(seq for (seq,) in self._db.execute(self._sql["take_new"], values))
        return [Taken(subscriber=subscriber.row, kept=events[seq], attempts=0) for seq in taken]

    # Events, with what they are about.

    def events(self, seqs: Iterable[int]) -> list[KeptEvent]:
        """Events by their numbers, oldest first."""
        with self._reading():
            return self._kept(list(self._db.execute(self._sql["events_by_seq"], {"events": _array(seqs)})))

    def events_after(self, seq: int, types: Iterable[EventType], limit: int) -> list[KeptEvent]:
        """Events behind that one, oldest first."""
        numbers = _array(EVENT_NUMBERS[event] for event in types)
        wanted = {"cursor": seq, "upto": LAST_EVENT, "types": numbers, "count": limit}
        with self._reading():
            return self._kept(list(self._db.execute(self._sql["events_after"], wanted)))

    def find(self, reference: str) -> list[KeptEvent]:
        """The event with that id; or those of the messages with that id, whatever the account."""
        with self._reading():
            if reference.startswith(ID_PREFIX):
                return [kept for kept in self.events(self._seqs_by_id(reference)) if kept.id == reference]
            return self.events(self._seqs_by_message(reference))

    def _seqs_by_id(self, reference: str) -> list[int]:
        try:
            key = key_of(bytes.fromhex(reference.removeprefix(ID_PREFIX)))
        except ValueError:
            return []
        wanted = {"generations": _array(self._generations()), "key": key}
        return [row[0] for row in self._db.execute(self._sql["events_by_key"], wanted)]

    def _seqs_by_message(self, message_id: str) -> list[int]:
        generations = _array(self._generations())
        seqs = []
        for account in self._accounts(message_id):
            for event in EventType:
                wanted = {"generations": generations, "key": key_of(event_id(account, message_id, event))}
                about = {"account": account, "subject": message_id}
                seqs += [seq for (seq,) in self._db.execute(self._sql["event_by_key"], wanted | about)]
        return seqs

    def _generations(self) -> Iterable[int]:
        return range(self.newest() >> GENERATION_BITS, -1, -1)

    def _accounts(self, message_id: str) -> set[str]:
        return {row[3] for row in self._rows_by_id(message_id)}

    def _kept(self, rows: Sequence[Row], wanted: Wanted = EVERYTHING) -> list[KeptEvent]:
        """Those of the events that are wanted; of the others no more is read than that takes."""
        receipts = self._receipts(rows)
        several = (self._kept_event(row, receipts, wanted) for row in rows)
        return [kept for kept in several if kept is not None]

    def _receipts(self, rows: Iterable[Row]) -> dict[int, Row]:
        wanted = _array({row[5] for row in rows if row[5]})
        return {row[0]: row for row in self._db.execute(self._sql["receipts_by_row"], {"receipts": wanted})}

    def _kept_event(self, row: Row, receipts: Mapping[int, Row], wanted: Wanted) -> KeptEvent | None:
        seq, number, at_us, account, subject, *_ = row
        event, at = EVENT_TYPES[number], moment(at_us)
        traits, tell = self._about(event, row, receipts)
        if not wanted.takes(traits):
            return None
        text = id_text(event_id(account, subject, event))
        data = tell()
        told = None if data is None else Event(id=text, type=event, timestamp=at, data=data)
        return KeptEvent(seq=seq, id=text, type=event, at=at, traits=traits, event=told)

    def _about(self, event: EventType, row: Row, receipts: Mapping[int, Row]) -> tuple[Traits, Tell]:
        account, subject, receipt, cause, said = row[3:EVENT_FIELDS]
        if event is EventType.INBOUND:
            return self._inbound(account, cause)
        if event is EventType.QUARANTINE:
            return Traits(), partial(_quarantine.decode, said)
        found = self._message(row[EVENT_FIELDS:], account, subject)
        if found is None:
            return Traits(), _nothing
        message, message_row = found
        return Traits.of(message), partial(self._told, message, message_row, cause, receipts.get(receipt))

    def _told(self, message: Message, message_row: int, cause: bytes, receipt: Row | None) -> Data | None:
        kept = self._cause(message, message_row, cause, receipt)
        return None if kept is None else message_data(message, kept.fact)

    def _inbound(self, account: str, key: bytes) -> tuple[Traits, Tell]:
        wanted = msgspec.json.encode([key.hex()]).decode()
        row = self._db.execute(self._views["inbound_by_key"], {"keys": wanted}).fetchone()
        if row is None:
            return Traits(), _nothing
        inbound = inbound_of_row(row).inbound
        channel = None if inbound.channel is None else inbound.channel.lower()
        return Traits(channel=channel), lambda: InboundData(account=account, inbound=InboundView.of(inbound))

    def _message(self, row: Row, account: str, message_id: str) -> tuple[Message, int] | None:
        """The message of an event: by the row that it had, or, when a rebuild has moved it, by its id."""
        if row[0] is not None and row[4] == message_id and row[3] == account:
            return message_of_row(row), row[0]
        for found in self._rows_by_id(message_id):
            if found[3] == account:
                return message_of_row(found), found[0]
        return None

    def _cause(self, message: Message, message_row: int, key: bytes, row: Row | None) -> Kept | None:
        if row is not None and row[1] == message_row and row[2] == key:
            return kept_of_row(row, message.message_id)
        rows = list(self._db.execute(self._views["receipts_by_message"], {"messages": _array([message_row])}))
        same = [found for found in rows if found[2] == key] or rows[:1]
        return kept_of_row(same[0], message.message_id) if same else None

    def _rows_by_id(self, message_id: str) -> list[Row]:
        generations = _array(self._message_generations())
        values = {"generations": generations, "key": hash_of(message_id), "message_id": message_id}
        return list(self._db.execute(self._views["messages_by_id"], values))

    def _message_generations(self) -> Iterable[int]:
        newest: int = self._db.execute(self._views["newest"]).get[0]
        return range(newest >> GENERATION_BITS, -1, -1)

    # What we say ourselves.

    def newest_of(self, event: EventType) -> tuple[int, QuarantineData | None]:
        """When we said an event of that type last, in microseconds, and what of; 0 before the first."""
        row = self._db.execute(self._sql["newest_of_type"], {"type": EVENT_NUMBERS[event]}).get
        return (0, None) if row is None else (row[0], _quarantine.decode(row[1]))

    def say_quarantine(self, subject: str, data: QuarantineData, at_us: int) -> None:
        """Say that the quarantine grows; the same subject is said once."""
        with transaction(self._db, self.path):
            key = key_of(event_id("", subject, EventType.QUARANTINE))
            wanted = {"generations": _array(self._generations()), "key": key}
            if self._db.execute(self._sql["events_by_key"], wanted).get is not None:
                return
            seq = self.newest() + 1
            about = {"type": EVENT_NUMBERS[EventType.QUARANTINE], "at_us": at_us, "account": "", "subject": subject}
            place = {"seq": seq, "generation": seq >> GENERATION_BITS, "key": key}
            self._db.execute(self._sql["save_event"], place | about | {"data": msgspec.json.encode(data).decode()})

    # What people ask, and replay.

    def backlogs(self) -> dict[int, Backlog]:
        """How it stands with each subscriber, by its row."""
        return {
            row: Backlog(waiting=waiting, dead=dead, unseen=unseen, oldest_at=None if at_us is None else moment(at_us))
            for row, waiting, dead, unseen, at_us in self._db.execute(self._sql["backlogs"])
        }

    def deliveries(
        self, sought: Sought, *, limit: int, after: tuple[int, int] = (0, 0)
    ) -> list[tuple[tuple[int, int], Delivery]]:
        """Deliveries that are meant, and their places: by subscriber, then by age, from behind a place."""
        values = {
            "after_subscriber": after[0],
            "after_event": after[1],
            "before_event": 0 if sought.event is None else sought.event - 1,
            "last_event": LAST_EVENT if sought.event is None else sought.event,
            "name": sought.subscriber,
            "since": ALWAYS_US if sought.since is None else microseconds(sought.since),
            "until": NEVER_US if sought.until is None else microseconds(sought.until),
            "types": _array(EVENT_NUMBERS[event] for event in sought.types),
            "outcome": sought.outcome,
            "limit": limit,
        }
        values["generations"] = _array(self._message_generations())
        query = self._among(self._sql["deliveries"], sought.states)
        return [((row[1], row[0]), _delivery_of(row)) for row in self._db.execute(query, values)]

    def _among(self, query: str, states: Collection[DeliveryState]) -> str:
        """The query for deliveries in these states, which are literals: only so does SQLite take an index of some."""
        among = "d.state IN (" + ",".join(str(int(state)) for state in states) + ")"
        for index, (indexed, condition) in INDEXES.items():
            if states and indexed.issuperset(states):
                return query.replace("{by}", f"INDEXED BY {index}").replace("{states}", f"{condition} AND {among}")
        return query.replace("{by}", "").replace("{states}", among)

    def replay(self, sought: Sought) -> Iterator[int]:
        """Let the deliveries that are meant be tried again, from the first attempt on; tells how many, part by part."""
        place = (0, 0)
        while found := self.deliveries(sought, limit=REPLAYED_A_TIME, after=place):
            place = found[-1][0]
            pairs = msgspec.json.encode([pair for pair, _ in found]).decode()
            with transaction(self._db, self.path):
                self._db.execute(self._sql["replay"], {"pairs": pairs})
                count = self._db.changes()
            yield count

    def attempts(self, seq: int) -> list[Attempt]:
        """The attempts at an event that failed, in their order."""
        return [
            Attempt(subscriber=name, number=number, at=moment(at_us), said=said, took_seconds=took_us / 1_000_000)
            for name, number, at_us, said, took_us in self._db.execute(self._sql["attempts"], {"event": seq})
        ]

    def newest_at_us(self) -> int:
        """When the newest event happened; 0 before the first."""
        with self._reading():
            row = self._db.execute(self._sql["newest_at"]).fetchone()
        return 0 if row is None else int(row[0])

    def wake(self, beyond_us: int) -> None:
        """Let what waits for a moment beyond that wait no more: it was written while the clock was ahead."""
        with transaction(self._db, self.path):
            self._db.execute(self._sql["wake"], {"beyond_us": beyond_us})

    def retire(self, before_us: int) -> int:
        """Let go of a bounded number of events that happened before, and of what became of them; how many.

        Never of one that somebody has yet to get, nor of the newest.
        """
        with self._reading():
            if not self._retirable(before_us):
                return 0
        with transaction(self._db, self.path):
            # Asked again: meanwhile somebody may have replayed some.
            seqs = self._retirable(before_us)
            for name in ("retire_attempts", "retire_deliveries", "retire_events"):
                self._db.execute(self._sql[name], {"events": _array(seqs)})
        return len(seqs)

    def _retirable(self, before_us: int) -> list[int]:
        before: int = self._db.execute(self._sql["retirable"]).get
        oldest = list(self._db.execute(self._sql["oldest_events"], {"before": before, "count": RETIRED_A_TIME}))
        return [seq for seq, at_us in oldest if at_us < before_us]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One snapshot: a rebuild between two reads would give the rows of the views another meaning.

        StoreUnable when it cannot be read now.
        """
        begins = not self._db.in_transaction
        if begins:
            self._db.execute("BEGIN DEFERRED")
        try:
            yield
        except apsw.Error as error:
            if is_unable(error):
                raise StoreUnable(f"The store {self.path} cannot be read now: {error}.") from error
            raise
        finally:
            if begins and self._db.in_transaction:
                self._db.execute("COMMIT")


def _subscriber_values(subscriber: Subscriber) -> dict[str, str | int]:
    return {
        "row": subscriber.row,
        "name": subscriber.name,
        "kind": subscriber.kind,
        "address": subscriber.address,
        "wanted": msgspec.json.encode(subscriber.wanted).decode(),
        "secrets": msgspec.json.encode(subscriber.secrets).decode(),
        "state": subscriber.state,
        "reason": subscriber.reason,
        "origin": subscriber.origin,
        "created_us": subscriber.created_us,
    }


def _subscriber_of(row: Row) -> Subscriber:
    return Subscriber(
        row=row[0],
        name=row[1],
        kind=Kind(row[2]),
        address=row[3],
        wanted=_wanted.decode(row[4]),
        secrets=_secrets.decode(row[5]),
        state=SubscriberState(row[6]),
        reason=row[7],
        origin=Origin(row[8]),
        created_us=row[9],
    )


def _delivery_of(row: Row) -> Delivery:
    event, _, name, state, attempts, next_us, at_us, said, is_replay = row
    return Delivery(
        subscriber=name,
        event=event,
        state=DeliveryState(state),
        attempts=attempts,
        next_at=moment(next_us) if next_us and state == DeliveryState.WAITING else None,
        at=moment(at_us) if at_us else None,
        said=said,
        is_replay=bool(is_replay),
    )


def _nothing() -> None:
    """What an event carries of which nothing is known any more."""


def _array(values: Iterable[int]) -> str:
    return "[" + ",".join(map(str, values)) + "]"
