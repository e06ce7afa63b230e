"""The fold's thread: catches up by itself, waits when it must, stops when told, says what ended it."""

import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import apsw
import msgspec
import pytest
from structlog.testing import capture_logs

from landed import run
from landed.cli import keep
from landed.errors import FoldStopped, SurroundingsError
from landed.journal import Retired
from landed.journal.record import Ids, RequestRecord, TickRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.onboarding.seen import ledger_of
from landed.settings import Settings
from landed.store import Tally
from landed.store.sqlite import SqliteReader, SqliteStore
from landed.work import Work
from landed.worker import fold
from landed.worker.loop import FoldLoop

SECONDS_MAX = 20
IDS = Ids()


def status(message_id, at_us=1):
    body = msgspec.json.encode({"message_uuid": message_id, "channel": "sms", "status": "delivered"})
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


class Worker:
    """A loop over a directory, and what it told."""

    def __init__(self, directory, **options):
        self.directory = directory
        self.journal_busy_ms = 2_000
        self.heard = []
        self.failures = []
        self.failed = threading.Event()
        self.loop = FoldLoop(
            lambda: SqliteJournal(run.journal_path(directory), busy_ms=self.journal_busy_ms),
            lambda: self.store(),  # noqa: PLW0108 - a test may put another one there
            self.heard.extend,
            self.fail,
            **options,
        )

    def store(self):
        return SqliteStore(run.store_path(self.directory))

    def tally(self):
        with closing(SqliteReader(run.store_path(self.directory))) as reader:
            progress = reader.progress()
            return Tally() if progress is None else progress.tally

    def fail(self, error):
        self.failures.append(error)
        self.failed.set()


def until(condition):
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def journal(tmp_path):
    with closing(SqliteJournal(run.journal_path(tmp_path))) as journal:
        yield journal


@pytest.fixture
def worker(tmp_path, journal):
    assert journal.last_position() == 0
    worker = Worker(tmp_path)
    worker.store().close()
    yield worker
    if worker.loop.is_alive:
        worker.loop.stop()


def test_what_is_there_and_what_comes_is_folded(worker, journal):
    journal.append([status("m1")])
    worker.loop.start()
    until(lambda: worker.tally().folded == 1)
    journal.append([status("m2"), status("m3")])
    until(lambda: worker.tally().folded == 3)
    until(lambda: worker.loop.progress is not None and worker.loop.progress.position == 3)
    until(lambda: worker.loop.behind == 0)

    assert worker.loop.is_alive
    worker.loop.stop()
    assert not worker.loop.is_alive
    assert [each.position for each in worker.heard] == [1, 2, 3]
    assert worker.failures == []


def test_told_to_stop_it_folds_what_is_there_and_lets_go_of_the_files(worker, journal):
    worker.loop.start()
    until(lambda: worker.loop.progress is not None)
    journal.append([status(f"m{number}") for number in range(5_000)])
    began = time.monotonic()
    worker.loop.stop()

    assert time.monotonic() - began < 4
    assert worker.tally() == Tally(received=5_000, folded=5_000)
    journal.close()
    # The last one to close a file takes its WAL away.
    assert sorted(file.name for file in worker.directory.iterdir()) == ["journal.db", "store.db"]


@pytest.fixture
def retaining(tmp_path, journal, monkeypatch):
    """A worker that keeps four days, and counts the ledger and retires all the time."""
    monkeypatch.setattr("landed.worker.loop.LEDGER_SECONDS", 0.0)
    assert journal.last_position() == 0
    worker = Worker(tmp_path, journal_days=4)
    worker.store().close()
    yield worker
    if worker.loop.is_alive:
        worker.loop.stop()


@pytest.fixture
def held(worker):
    """A worker whose store another process holds, and the way to let go of it."""
    store = worker.store()
    store._db.set_busy_timeout(20)  # noqa: SLF001 - so that the test need not wait for long
    worker.store = lambda: store
    with closing(apsw.Connection(str(run.store_path(worker.directory)))) as other:
        other.execute("BEGIN IMMEDIATE")
        yield lambda: other.execute("ROLLBACK")


def test_a_store_that_is_held_is_waited_for(worker, journal, held, monkeypatch):
    monkeypatch.setattr("landed.worker.loop.RETRY_SECONDS", 0.05)
    journal.append([status("m1")])
    with capture_logs() as said:
        worker.loop.start()
        until(lambda: said)
        assert worker.loop.is_alive
        held()
        until(lambda: worker.tally().folded == 1)
        worker.loop.stop()
    assert [each["event"] for each in said] == ["fold.waits"]

    assert worker.failures == []
    assert len(worker.heard) == 1


def test_told_to_stop_while_the_store_is_held_it_ends_soon(worker, journal, held):
    journal.append([status("m1")])
    with capture_logs():
        worker.loop.start()
        began = time.monotonic()
        worker.loop.stop()
    assert time.monotonic() - began < 2
    held()

    assert worker.failures == []
    assert worker.tally() == Tally()


def test_a_damaged_record_ends_it_loudly(worker, journal):
    journal.append([b"damaged"])
    worker.loop.start()

    assert worker.failed.wait(SECONDS_MAX)
    until(lambda: not worker.loop.is_alive)
    (error,) = worker.failures
    assert isinstance(error, FoldStopped)


def test_a_listener_that_fails_ends_it_loudly_and_repeats_nothing(worker, journal):
    def fail(_folded):
        raise KeyError

    journal.append([status("m1")])
    loop = FoldLoop(
        lambda: SqliteJournal(run.journal_path(worker.directory)),
        worker.store,
        fail,
        worker.fail,
    )
    loop.start()

    assert worker.failed.wait(SECONDS_MAX)
    assert isinstance(worker.failures[0], KeyError)
    assert worker.tally() == Tally(received=1, folded=1)
    worker.loop.start()
    journal.append([status("m2")])
    until(lambda: worker.tally() == Tally(received=2, folded=2))


def test_files_that_cannot_be_opened_are_told(worker):
    run.store_path(worker.directory).unlink()
    run.store_path(worker.directory).mkdir()
    worker.loop.start()

    assert worker.failed.wait(SECONDS_MAX)
    assert isinstance(worker.failures[0], SurroundingsError)


def test_an_idle_worker_lets_go_of_files_on_a_disk_that_became_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr("landed.worker.loop.LOOK_SECONDS", 0.01)
    is_writable = threading.Event()
    is_writable.set()
    worker = Worker(tmp_path, is_writable=is_writable.is_set)
    worker.loop.start()
    time.sleep(0.05)
    assert worker.loop.is_alive
    is_writable.clear()
    assert worker.failed.wait(SECONDS_MAX)
    assert "read-only" in str(worker.failures[0])
    worker.loop.stop()


def test_it_checkpoints_the_journal_behind_the_gate(worker, journal, monkeypatch):
    monkeypatch.setattr("landed.worker.loop.CHECKPOINT_SECONDS", 0.0)
    journal_file = run.journal_path(worker.directory)
    # The first one moves what was there.
    journal.append([status("m")])
    before = journal_file.stat().st_size
    journal.append([status(f"m{number}") for number in range(3_000)])
    assert journal_file.stat().st_size == before
    worker.loop.start()

    until(lambda: journal_file.stat().st_size > before + 3_000 * 100)


def test_a_ledger_that_is_even_is_no_alarm_and_one_that_differs_is(worker, journal, monkeypatch):
    monkeypatch.setattr("landed.worker.loop.LEDGER_SECONDS", 0.0)
    worker.loop.start()
    journal.append([status("a"), encode(TickRecord(id=IDS.next(), at_us=1)), status("b")])
    until(lambda: worker.tally().received == 2)
    assert worker.loop.ledger_is_even

    with closing(apsw.Connection(str(run.store_path(worker.directory)))) as store:
        store.set_busy_timeout(1000)
        store.execute("UPDATE fold SET received = received + 1, folded = folded + 1")
    journal.append([status("c")])
    until(lambda: not worker.loop.ledger_is_even)
    assert not worker.failures


def a_few_checks_later(worker):
    for _ in range(3):
        checked_at = worker.loop.ledger_checked_at
        until(lambda checked_at=checked_at: worker.loop.ledger_checked_at != checked_at)


def test_what_is_older_than_journal_days_is_retired_and_every_ledger_stays_even(retaining, journal):
    now_us = time.time_ns() // 1_000
    retaining.loop.start()
    for _ in range(5):
        journal.append([status(f"m{number}") for number in range(1_000)])
    journal.append([status(f"y{number}", now_us) for number in range(10)])
    until(lambda: journal.retired().records == 5_000)
    a_few_checks_later(retaining)

    assert (retaining.loop.is_alive, retaining.loop.ledger_is_even) == (True, True)
    assert [position for position, _ in journal.read(0, 100)] == list(range(5_001, 5_011))
    assert retaining.tally() == Tally(received=5_010, folded=1_010, duplicate=4_000)
    seen = run.look_around(Settings(data=retaining.directory), datetime.now(UTC))
    assert (ledger_of(seen).is_even, ledger_of(seen).received) == (True, 5_010)


def test_without_journal_days_nothing_is_ever_retired(worker, journal, monkeypatch):
    monkeypatch.setattr("landed.worker.loop.LEDGER_SECONDS", 0.0)
    journal.append([status("old"), status("old")])
    worker.loop.start()
    until(lambda: worker.tally().received == 2)
    a_few_checks_later(worker)

    assert journal.retired() == Retired()


def test_while_the_ledger_differs_nothing_more_is_retired(retaining, journal):
    retaining.loop.ledger_is_even = False
    journal.append([status("old"), status("old")])
    with capture_logs() as said:
        retaining.loop.start()
        until(lambda: retaining.tally().received == 2)
        a_few_checks_later(retaining)
        retaining.loop.stop()

    assert journal.retired() == Retired()
    assert {each["event"] for each in said} == {"ledger.differs"}


def test_a_journal_that_cannot_be_retired_from_holds_up_no_fold(retaining, journal):
    retaining.journal_busy_ms = 20
    with capture_logs() as said, closing(apsw.Connection(str(run.journal_path(retaining.directory)))) as other:
        journal.append([status("a"), status("b")])
        other.execute("BEGIN IMMEDIATE")
        retaining.loop.start()
        until(lambda: any(each["event"] == "retention.waits" for each in said))
        assert retaining.tally().received == 2
        assert journal.retired() == Retired()
        other.execute("ROLLBACK")
        until(lambda: journal.retired().records == 1)

    assert not retaining.failures


@pytest.mark.parametrize("compiled", [True, False])
def test_the_setting_turns_off_what_is_compiled(monkeypatch, tmp_path, journal, compiled):
    asked = []
    monkeypatch.setattr(fold, "quickest", lambda: asked.append(True) or fold.read_record)
    journal.append([status("m1")])
    loop = Work(Settings(_env_file=None, data=tmp_path, compiled=compiled), None, print).fold
    loop.start()
    until(lambda: loop.progress is not None and loop.progress.position == 1)
    loop.stop()

    assert asked == [True] * compiled


@pytest.mark.parametrize("compiled", [True, False])
def test_the_setting_turns_it_off_for_a_rebuild_too(monkeypatch, tmp_path, journal, compiled):
    asked = []
    monkeypatch.setattr(fold, "quickest", lambda: asked.append(True) or fold.read_record)
    monkeypatch.setenv("LANDED_COMPILED", str(compiled).lower())
    journal.append([status("m1")])
    with closing(SqliteStore(run.store_path(tmp_path))) as store:
        store.progress(journal.epoch)
    keep.rebuild(data=tmp_path)

    assert bool(asked) is compiled
