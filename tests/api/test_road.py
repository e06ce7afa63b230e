"""The road's figures, read from real files."""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import UTC, datetime
from itertools import count

import apsw
import pytest

from landed.api.metrics import GateFigures
from landed.api.road import PAUSES_PER_COUNT, FoldState, RoadWatch
from landed.errors import SurroundingsError
from landed.journal.quarantine import SqliteQuarantine, Suspect, Totals
from landed.journal.record import Ids, RequestRecord, TickRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.store import Tally
from landed.store.sqlite import SqliteStore
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


class Place:
    def __init__(self, data):
        self.data = data
        self.state = FoldState(folding=True)
        self.figures = GateFigures()
        self.journal = SqliteJournal(data / "journal.db")
        self.store = SqliteStore(data / "store.db")
        self.quarantine = SqliteQuarantine(data / "quarantine.db")
        self.watch = RoadWatch(data, lambda: self.state, lambda: self.figures)

    def append(self, *records):
        self.journal.append([encode(record) for record in records])

    def fold(self):
        fold = Fold(self.journal, self.store)
        while fold.step():
            pass


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
    watch = RoadWatch(place.data, lambda: place.state, lambda: place.figures, clock=lambda: next(seconds))
    place.append(receipt("a"))
    place.fold()
    assert watch.look().outcomes == {"delivered": 1}
    place.append(receipt("b"))
    place.fold()
    for _ in range(PAUSES_PER_COUNT - 1):
        assert watch.look().outcomes == {"delivered": 1}
    assert watch.look().outcomes == {"delivered": 2}
