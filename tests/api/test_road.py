"""The road's figures, read from real files."""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import UTC, datetime
from itertools import count

import apsw
import pytest

from landed.api.metrics import Attempts, GateFigures
from landed.api.road import PAUSES_PER_COUNT, FoldState, RoadWatch
from landed.domain.events import EventType
from landed.errors import SurroundingsError
from landed.journal.quarantine import SqliteQuarantine, Suspect, Totals
from landed.journal.record import Ids, RequestRecord, TickRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.store import Tally
from landed.store.outbox import Kind, Origin, Subscriber, SubscriberState
from landed.store.rows import EVENT_NUMBERS
from landed.store.sqlite import SqliteStore
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker.fold import Fold

IDS = Ids()
SECOND_US = 1_000_000


def now_us():
    return time.time_ns() // 1_000


def request(body, at_us=None):
    at_us = now_us() if at_us is None else at_us
    return RequestRecord(
        id=IDS.next(),
        at_us=at_us,
        received_us=at_us,
        account="default",
        api_key=None,
        coverage="body",
        verified=True,
        stale=False,
        answer=200,
        method="POST",
        path="/webhooks/message-status",
        query=b"",
        headers=(),
        body=body,
    )


def receipt(name, at_us=None):
    return request(json.dumps({"message_uuid": name, "status": "delivered", "channel": "sms"}).encode(), at_us)


def subscriber(name, *, kind=Kind.WEBHOOK, **more):
    return Subscriber(name=name, kind=kind, address="https://shop.example.com/?token=secret", **more)


class Place:
    def __init__(self, data):
        self.data = data
        self.state = FoldState(folding=True)
        self.figures = GateFigures()
        self.attempts = {}
        self.journal = SqliteJournal(data / "journal.db")
        self.store = SqliteStore(data / "store.db")
        self.quarantine = SqliteQuarantine(data / "quarantine.db")
        self.watch = RoadWatch(data, lambda: self.state, lambda: self.figures, lambda: self.attempts)

    def append(self, *records):
        self.journal.append([encode(record) for record in records])

    def fold(self):
        fold = Fold(self.journal, self.store)
        while fold.step():
            pass

    def subscribe(self, *subscribers):
        with closing(SqliteOutbox(self.data / "store.db")) as outbox:
            return [outbox.add(subscriber) for subscriber in subscribers]

    def happen(self, count, at_us):
        """So many events at once, one a second, the first at that moment."""
        self.sql(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1) "
            "INSERT INTO event SELECT n, n >> 16, n, ?2, ?3 + n * 1000000, '', 'hour ' || n, 0, 0, x'', '{}' "
            "FROM numbers",
            (count, EVENT_NUMBERS[EventType.QUARANTINE], at_us - SECOND_US),
        )

    def sql(self, statement, values=()):
        with closing(apsw.Connection(str(self.data / "store.db"))) as db:
            db.execute(statement, values)


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    with closing(place.journal), closing(place.store), closing(place.quarantine):
        yield place


def test_a_road_that_nobody_went_yet_is_shown(place):
    road = place.watch.look()
    assert (road.health.behind, road.health.lag_seconds, road.received, road.is_even) == (0, 0, 0, True)
    assert place.watch.health() == road.health


def test_the_ledger_counts_what_was_folded_and_what_waits(place):
    place.append(receipt("a"), receipt("a"), receipt("b"), request(b"?"), TickRecord(id=IDS.next(), at_us=now_us()))
    place.fold()
    place.append(receipt("c"), TickRecord(id=IDS.next(), at_us=now_us()))
    road = place.watch.look()
    assert road.tally == Tally(received=4, folded=2, duplicate=1, unreadable=1)
    assert (road.received, road.waiting, road.health.position, road.health.behind) == (5, 1, 5, 2)
    assert road.outcomes == {"delivered": 2}
    assert road.is_even


def test_the_lag_is_how_long_the_first_that_waits_has_waited(place):
    place.append(receipt("a", now_us() - 600 * SECOND_US))
    place.fold()
    assert place.watch.health().lag_seconds == 0
    place.append(receipt("b", now_us() - 60 * SECOND_US), receipt("c"))
    assert 60 <= place.watch.health().lag_seconds < 90
    place.fold()
    assert place.watch.health().lag_seconds == 0


def test_a_clock_that_was_set_back_makes_no_lag_below_nothing(place):
    place.append(receipt("a", now_us() + 600 * SECOND_US))
    assert place.watch.health().lag_seconds == 0


@pytest.mark.parametrize(
    ("kept", "is_even"), [(0, True), (1, True), (2, True), (3, False)], ids=["none", "fewer", "as many", "more"]
)
def test_the_ledger_is_odd_when_gates_kept_more_than_the_journal_received(place, kept, is_even):
    place.append(receipt("a"))
    place.fold()
    place.append(receipt("b"))
    place.figures = GateFigures(kept_in={place.journal.epoch: kept, "another": 100})
    assert (place.watch.look().kept, place.watch.look().is_even) == (kept, is_even)


def test_the_ledger_is_odd_when_the_store_s_own_sum_is(place):
    place.append(receipt("a"))
    place.fold()
    with closing(apsw.Connection(str(place.data / "store.db"))) as db:
        db.execute("UPDATE fold SET duplicate = duplicate + 1")
    assert not place.watch.look().is_even


def test_the_ledger_is_odd_when_the_worker_found_it_so(place):
    checked_at = datetime.now(UTC)
    place.state = FoldState(folding=True, ledger_is_even=False, ledger_checked_at=checked_at)
    assert (place.watch.look().is_even, place.watch.look().checked_at) == (False, checked_at)


def test_sizes_are_those_of_the_files_with_what_is_not_yet_in_them(place):
    place.append(receipt("a"))
    road = place.watch.look()
    for name in ("journal", "store", "quarantine"):
        files = place.data.glob(f"{name}.db*")
        assert road.file_bytes[name] == sum(file.stat().st_size for file in files if not file.name.endswith("-shm"))
    assert road.file_bytes["journal"] > 0
    assert road.free_bytes > 0


def test_the_quarantine_is_shown_and_left_out_when_it_cannot_be_read(place):
    record = request(b"?")
    place.quarantine.keep([Suspect(content=b"c", reason="wrong", signed=False, record=record)] * 3)
    road = place.watch.look()
    assert (road.quarantine.rows, road.quarantine.copies) == (1, 3)
    assert isinstance(road.quarantine, Totals)
    place.quarantine.close()
    (place.data / "quarantine.db").write_bytes(b"no database" * 1_000)
    assert place.watch.look().quarantine is None


def test_a_store_that_cannot_be_read_is_an_error_of_ours(place):
    place.store.close()
    (place.data / "store.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(SurroundingsError):
        place.watch.look()


def test_messages_are_counted_for_a_small_part_of_the_time_only(place):
    # Each look at this clock takes a second, so a counting does, too.
    seconds = count(start=1)
    watch = RoadWatch(place.data, lambda: place.state, lambda: place.figures, dict, clock=lambda: next(seconds))
    place.append(receipt("a"))
    place.fold()
    assert watch.look().outcomes == {"delivered": 1}
    place.append(receipt("b"))
    place.fold()
    for _ in range(PAUSES_PER_COUNT - 1):
        assert watch.look().outcomes == {"delivered": 1}
    assert watch.look().outcomes == {"delivered": 2}


def test_a_road_on_which_nobody_gets_events_has_none(place):
    place.append(receipt("a"))
    place.fold()
    assert (place.watch.look().events, place.watch.look().subscribers) == (1, [])


@pytest.mark.parametrize("state", SubscriberState)
def test_who_gets_events_is_shown_with_what_waits_is_unseen_and_is_dead(place, state):
    place.subscribe(
        subscriber("app:arrived", kind=Kind.HANDLER, origin=Origin.HANDLERS), subscriber("shop", state=state)
    )
    place.happen(10, now_us() - 3_600 * SECOND_US)
    place.sql("UPDATE subscriber SET cursor = 9 WHERE name = 'shop'")
    place.sql(
        "INSERT INTO delivery SELECT 2, seq, CASE WHEN seq < 5 THEN 3 ELSE seq % 2 END, 1, 0, 0, '', 0 FROM event"
    )
    place.sql("DELETE FROM delivery WHERE event = 10")
    place.attempts = {"shop": Attempts(results={"delivered": 7}), "gone": Attempts()}
    road = place.watch.look()
    handler, shop = road.subscribers
    assert road.events == 10
    assert (handler.name, handler.kind, handler.state) == ("app:arrived", Kind.HANDLER, SubscriberState.ACTIVE)
    assert (handler.backlog.waiting, handler.backlog.dead, handler.backlog.unseen) == (0, 0, 10)
    assert 3_600 <= handler.oldest_seconds < 3_630
    assert handler.attempts == Attempts()
    assert (shop.name, shop.kind, shop.state) == ("shop", Kind.WEBHOOK, state)
    assert (shop.backlog.waiting, shop.backlog.dead, shop.backlog.unseen) == (5, 4, 1)
    assert 3_596 <= shop.oldest_seconds < 3_626
    assert shop.attempts.results == {"delivered": 7}


@pytest.mark.parametrize("ahead_seconds", [None, 600], ids=["nothing is open", "the clock was set back"])
def test_no_event_is_younger_than_now(place, ahead_seconds):
    place.subscribe(subscriber("shop"))
    if ahead_seconds is not None:
        place.happen(1, now_us() + ahead_seconds * SECOND_US)
    assert place.watch.look().subscribers[0].oldest_seconds == 0


def test_figures_are_quick_with_a_million_events_waiting(place):
    place.subscribe(*(subscriber(f"shop-{number}") for number in range(20)))
    place.happen(1_000_000, now_us())
    place.sql("INSERT INTO delivery SELECT 1, seq, 3 * (seq % 2), 1, 0, 0, '', 0 FROM event")
    began = time.perf_counter()
    road = place.watch.look()
    took = time.perf_counter() - began
    assert (road.subscribers[0].backlog.waiting, road.subscribers[0].backlog.dead) == (500_000, 500_000)
    assert {each.backlog.unseen for each in road.subscribers} == {1_000_000}
    assert took < 1, "35 ms where it was made"
