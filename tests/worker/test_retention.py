"""Retention: what is old leaves the journal, never before the store has it for certain, and nothing is lost by it."""

import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing

import apsw
import msgspec
import pytest
from structlog.testing import capture_logs

from landed import run
from landed.errors import FoldStopped
from landed.journal import Retired
from landed.journal.record import Ids, RequestRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.store import Tally
from landed.store.sqlite import VIEWS, SqliteReader, SqliteStore
from landed.worker.fold import Fold
from landed.worker.retention import US_A_DAY, Retention

IDS = Ids()
DAYS = 4
NOW_US = 1_800_000_000_000_000
MESSAGES = 2_000
KILLS = 8
SECONDS_MAX = 30


def status(message_id, word="delivered", *, days_ago=0):
    at_us = NOW_US - round(days_ago * US_A_DAY)
    body = msgspec.json.encode({"message_uuid": message_id, "channel": "sms", "status": word})
    return encode(
        RequestRecord(
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
    )


@pytest.fixture
def journal(tmp_path):
    with closing(SqliteJournal(run.journal_path(tmp_path), busy_ms=50)) as journal:
        yield journal


@pytest.fixture
def store(tmp_path):
    with closing(SqliteStore(run.store_path(tmp_path))) as store:
        yield store


def fold(journal, store):
    folding = Fold(journal, store)
    while folding.step():
        pass
    return folding.progress


def retained(journal, store, *, days=DAYS):
    return Retention(journal, store, days, lambda: NOW_US)


def retire(journal, store, upto, *, days=DAYS):
    retention = retained(journal, store, days=days)
    retention.begin(upto)
    while retention.step():
        pass


def positions(journal):
    return [position for position, _ in journal.read(0, 1_000_000, 1 << 30)]


def views(data):
    with closing(apsw.Connection(str(run.store_path(data)))) as db:
        return {table: list(db.execute(f"SELECT * FROM {table} ORDER BY 1")) for table in VIEWS}  # noqa: S608


def rebuild(data):
    return run.rebuild(data, lambda _position, _last: None)


@pytest.mark.parametrize(
    ("days", "left"),
    [
        pytest.param(0, [1, 2, 3, 4], id="for-ever"),
        pytest.param(4, [3, 4], id="four-days"),
        pytest.param(6, [2, 3, 4], id="six-days"),
        pytest.param(400, [1, 2, 3, 4], id="a-year"),
    ],
)
def test_records_older_than_so_many_days_are_retired(journal, store, days, left):
    journal.append([status(f"m{ago}", days_ago=ago) for ago in (7, 5, 3, 1)])
    position = fold(journal, store).position

    with capture_logs() as said:
        retire(journal, store, position, days=days)

    assert positions(journal) == left
    assert [each["records"] for each in said] == ([4 - len(left)] if len(left) < 4 else [])


def test_a_record_of_exactly_that_age_stays(journal, store):
    journal.append([status("m1", days_ago=4), status("m2", days_ago=0)])

    retire(journal, store, fold(journal, store).position)

    assert positions(journal) == [1, 2]


def test_nothing_is_retired_before_it_has_begun(journal, store):
    journal.append([status("m", days_ago=9)] * 2)
    fold(journal, store)

    assert not retained(journal, store).step()
    assert positions(journal) == [1, 2]


def test_what_is_retired_is_in_the_stores_file_even_when_its_log_is_lost(tmp_path, journal, store):
    journal.append([status(f"m{number}", days_ago=9) for number in range(100)])
    last = fold(journal, store).position
    retire(journal, store, last)

    assert journal.retired() == Retired(records=99, requests=99, position=99)
    # A machine that dies now may lose whatever was not synced: of a store, at worst all of the log.
    shutil.copy(run.store_path(tmp_path), tmp_path / "after.db")
    with closing(SqliteReader(tmp_path / "after.db")) as reader:
        assert reader.progress().position == last


def test_nothing_is_retired_while_the_store_cannot_be_made_durable(tmp_path, journal, store):
    journal.append([status("m", days_ago=9)] * 3)
    with closing(apsw.Connection(str(run.store_path(tmp_path)))) as reader, reader, capture_logs() as said:
        reader.execute("SELECT count(*) FROM fold").fetchall()
        last = fold(journal, store).position
        retire(journal, store, last)
        assert positions(journal) == [1, 2, 3]
        assert [each["event"] for each in said] == ["retention.waits"]

    retire(journal, store, last)
    assert positions(journal) == [3]


def test_a_journal_that_is_held_is_left_alone_and_tried_again(tmp_path, journal, store):
    journal.append([status("m", days_ago=9)] * 3)
    last = fold(journal, store).position
    with closing(apsw.Connection(str(run.journal_path(tmp_path)))) as other:
        other.execute("BEGIN IMMEDIATE")
        with capture_logs() as said:
            retire(journal, store, last)
        other.execute("ROLLBACK")
    assert [each["event"] for each in said] == ["retention.waits"]
    assert journal.retired() == Retired()

    retire(journal, store, last)
    assert positions(journal) == [3]


def test_a_store_older_than_what_is_retired_stops_the_fold_until_a_rebuild_and_what_is_lost_shows(
    tmp_path, journal, store
):
    journal.append([status("m1", days_ago=9), status("m2", days_ago=9)])
    fold(journal, store)
    assert store.settle()
    older = shutil.copy(run.store_path(tmp_path), tmp_path / "older.db")
    journal.append([status("m1", days_ago=9), status("m3", days_ago=9), status("m4")])
    retire(journal, store, fold(journal, store).position)
    assert positions(journal) == [5]
    store.close()
    older.replace(run.store_path(tmp_path))

    with closing(SqliteStore(run.store_path(tmp_path))) as again:
        with pytest.raises(FoldStopped, match=r"up to record 2, but .* up to 4 are retired: .*`landed rebuild`"):
            Fold(journal, again)
        # m1 and m2 are known by the copy, m4 by the journal; the copy of m1, and m3, are lost.
        assert rebuild(tmp_path) == (Tally(received=3, folded=3), 2)
        assert fold(journal, again).position == 5
    with closing(SqliteReader(run.store_path(tmp_path))) as reader:
        assert [reader.find(name, limit=1) != [] for name in ("m1", "m2", "m3", "m4")] == [True, True, False, True]
    assert journal.count_requests(0, 5) == 5


def test_a_store_of_another_journal_gives_nothing_to_a_rebuild(tmp_path, journal, store):
    journal.append([status("m1", days_ago=9), status("m2")])
    retire(journal, store, fold(journal, store).position)
    with store.transaction():
        store._db.execute("UPDATE fold SET epoch = 'another'")  # noqa: SLF001 - as if it were another one's

    assert rebuild(tmp_path) == (Tally(received=1, folded=1), 0)
    with closing(SqliteReader(run.store_path(tmp_path))) as reader:
        assert reader.find("m1", limit=1) == []


def test_a_message_whose_newer_receipts_are_read_otherwise_than_before_is_what_its_receipts_say(
    tmp_path, journal, store, monkeypatch
):
    journal.append([status("m1", "submitted", days_ago=9), status("m1", "delivered"), status("m2")])
    retire(journal, store, fold(journal, store).position)
    read = sys.modules["landed.worker.fold"].read
    # As a later version would that takes such a receipt for none of this message's.
    monkeypatch.setattr(
        "landed.worker.fold.read",
        lambda request, trust: [
            msgspec.structs.replace(fact, message_id="m9") if fact.provider_status == "delivered" else fact
            for fact in read(request, trust)
        ],
    )
    assert positions(journal) == [2, 3]

    assert rebuild(tmp_path) == (Tally(received=3, folded=2, duplicate=1), 1)
    with closing(SqliteReader(run.store_path(tmp_path))) as reader:
        (sealed,) = reader.find("m1", limit=1)
        assert (sealed.provider_status, sealed.receipts) == ("submitted", 1)


FOLD_AND_RETIRE = """
import sys
from pathlib import Path
from landed import run
from landed.journal import sqlite
from landed.store.sqlite import SqliteStore
from landed.worker.fold import Fold
from landed.worker.retention import Retention
sqlite.RECORDS_RETIRED_MAX = 30
data = Path(sys.argv[1])
journal, store = sqlite.SqliteJournal(run.journal_path(data)), SqliteStore(run.store_path(data))
fold = Fold(journal, store, records_a_batch=60)
retention = Retention(journal, store, 4)
print("ready", flush=True)
while fold.step():
    retention.begin(fold.progress.position)
    while retention.step():
        pass
"""


def _begun(data):
    process = subprocess.Popen([sys.executable, "-c", FOLD_AND_RETIRE, str(data)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_at_any_instant_of_retiring_it_loses_nothing(tmp_path, journal):
    chance = random.Random(2)  # noqa: S311 - one that can be had again
    words = ("submitted", "delivered", "submitted", "read")
    journal.append([status(f"m{number}", word, days_ago=9_000) for word in words for number in range(MESSAGES)])
    retired = []
    for _ in range(KILLS):
        process = _begun(tmp_path)
        # A random instant is what is asked for here; most of them are within a transaction.
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == -signal.SIGKILL
        gone = journal.retired()
        retired.append(gone.records)
        assert gone.records == gone.requests == gone.position
        assert positions(journal) == list(range(gone.position + 1, 4 * MESSAGES + 1))
        with closing(SqliteReader(run.store_path(tmp_path))) as reader:
            assert reader.progress().position >= gone.position
    assert len(set(retired)) > KILLS // 2
    last = _begun(tmp_path)
    assert last.wait(SECONDS_MAX) == 0
    last.stdout.close()
    grown = views(tmp_path)

    assert journal.retired().records == 4 * MESSAGES - 1
    assert journal.count_requests(0, 4 * MESSAGES) == 4 * MESSAGES
    tally = Tally(received=4 * MESSAGES, folded=3 * MESSAGES, duplicate=MESSAGES)
    assert rebuild(tmp_path) == (tally, MESSAGES)
    assert views(tmp_path) == grown
