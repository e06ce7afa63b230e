"""The log of who appends much: it has its length at once, and a thread beside the appender keeps it short."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import closing, contextmanager

import apsw
import pytest
from structlog.testing import capture_logs

from landed.errors import JournalUnable
from landed.journal import checkpoints
from landed.journal.checkpoints import APPENDED_BYTES, Checkpoints
from landed.journal.sqlite import LOG_BYTES, PAGE_BYTES, WAL_BYTES_MAX, SqliteJournal
from landed.sqlite import descriptors_of, log_of

RECORD = b"r" * 1_000
SECONDS_MAX = 20


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "journal.db"
    SqliteJournal(path).close()
    return path


def log_bytes(path):
    return log_of(path).stat().st_size


def until(condition):
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


@contextmanager
def checkpointing(journal, open_again=None):
    thread = Checkpoints(journal, open_again or (lambda: SqliteJournal(journal.path)))
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def append_much(journal):
    # Once it looks, so that what comes next is what it sees come.
    time.sleep(20 * checkpoints.LOOK_SECONDS)
    upto = journal.appended_bytes + 2 * APPENDED_BYTES
    while journal.appended_bytes < upto:
        journal.append([RECORD] * 64)


def test_who_appends_much_finds_the_log_long_enough_and_nothing_else_in_the_journal(path):
    with closing(SqliteJournal(path, appends_much=True)) as journal:
        used = journal.used_bytes()
        assert journal.append([RECORD]) == 1

        assert log_bytes(path) >= LOG_BYTES
        assert journal.read(0, 10) == [(1, RECORD)]
        assert journal.used_bytes() == used
        with closing(apsw.Connection(str(path))) as other:
            assert not list(other.execute("SELECT name FROM sqlite_schema WHERE name = 'filler'"))


def test_who_appends_a_little_leaves_the_log_as_it_is(path):
    with closing(SqliteJournal(path)) as journal:
        journal.append([RECORD])

        assert log_bytes(path) < LOG_BYTES // 10


def test_a_log_that_is_long_enough_is_not_made_longer(path):
    with closing(SqliteJournal(path, appends_much=True)) as journal:
        journal.append([RECORD])
        before = log_bytes(path)
        with closing(SqliteJournal(path, appends_much=True)) as other:
            other.append([RECORD])

        assert log_bytes(path) == before


def test_a_journal_with_pages_of_another_size_keeps_them_and_its_log_is_no_longer(tmp_path, monkeypatch):
    path = tmp_path / "older.db"
    with monkeypatch.context() as older:
        older.setattr("landed.journal.sqlite.PAGE_BYTES", 4_096)
        SqliteJournal(path).close()
    with closing(SqliteJournal(path, appends_much=True)) as journal, closing(SqliteJournal(path)) as reading:
        journal.append([RECORD])

        assert journal._db.pragma("page_size") == 4_096  # noqa: SLF001 - nobody else asks
        for each, log in ((journal, LOG_BYTES), (reading, WAL_BYTES_MAX)):
            assert each._db.pragma("wal_autocheckpoint") * 4_096 == log  # noqa: SLF001 - the same
        assert journal.read(0, 10) == [(1, RECORD)]


def test_the_pages_of_a_new_journal_have_their_own_size(path):
    with closing(SqliteJournal(path)) as journal:
        assert journal._db.pragma("page_size") == PAGE_BYTES  # noqa: SLF001 - nobody else asks


def test_what_was_in_the_log_is_there_when_it_was_made_longer(path):
    with closing(SqliteJournal(path)) as journal, closing(SqliteJournal(path, appends_much=True)) as other:
        journal.append([b"before"])
        other.append([b"after"])

        assert [data for _, data in journal.read(0, 10)] == [b"before", b"after"]


def test_without_room_for_its_length_the_log_is_short_and_appends_go_on(path):
    with closing(SqliteJournal(path, appends_much=True)) as journal:
        journal._db.pragma("max_page_count", 64)  # noqa: SLF001 - a disk without room, for this one
        journal.append([RECORD])
        journal.append([RECORD])

        assert log_bytes(path) < LOG_BYTES
        assert len(journal.read(0, 10)) == 2


def test_while_another_writes_nothing_is_appended_and_later_all_is(path):
    with (
        closing(SqliteJournal(path, appends_much=True, busy_ms=20)) as journal,
        closing(apsw.Connection(str(path))) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnable):
            journal.append([RECORD])
        other.execute("ROLLBACK")
        journal.append([RECORD])

        assert journal.read(0, 10) == [(1, RECORD)]


def test_with_the_thread_at_work_the_log_stays_short_and_all_is_there_in_order(path):
    with closing(SqliteJournal(path, appends_much=True)) as journal, checkpointing(journal):
        for number in range(600):
            journal.append([RECORD + number.to_bytes(2, "big")] * 64)
            assert log_bytes(path) < 4 * LOG_BYTES

        after, seen = 0, []
        while rows := journal.read(after, 10_000):
            seen += [int.from_bytes(data[-2:], "big") for _, data in rows]
            after = rows[-1][0]
        assert seen == [number for number in range(600) for _ in range(64)]


def test_the_thread_copies_what_is_in_the_log_without_the_appender(path):
    with closing(SqliteJournal(path, appends_much=True)) as journal:
        journal.append([RECORD])
        before = path.stat().st_size
        with checkpointing(journal):
            append_much(journal)
            until(lambda: path.stat().st_size > before + APPENDED_BYTES)


def test_what_the_thread_copied_it_brings_to_the_disk_too(path, monkeypatch):
    """Else the commit that finds the log full would wait for all of it."""
    synced = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (synced.append((file, os.fstat(file).st_ino)), sync(file)))
    with closing(SqliteJournal(path, appends_much=True)) as journal:
        appenders = descriptors_of(path)
        with checkpointing(journal):
            append_much(journal)
            until(lambda: synced)

    assert {inode for _, inode in synced} == {path.stat().st_ino}
    # To whom a failed sync is told, it is told once: SQLite must hear of it where it appends.
    assert appenders
    assert appenders.isdisjoint(file for file, _ in synced)


def test_after_a_sync_that_failed_the_thread_ends_and_tries_no_other(path, monkeypatch):
    tried = []

    def fail(file):
        tried.append(file)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with capture_logs() as said, closing(SqliteJournal(path, appends_much=True)) as journal, checkpointing(journal):
        append_much(journal)
        until(lambda: [line["event"] for line in said] == ["checkpoints.ended"])
        append_much(journal)

    assert len(tried) == 1


def test_descriptors_are_sqlites_own_and_none_where_the_system_does_not_tell(path, tmp_path, monkeypatch):
    assert not descriptors_of(path)
    with closing(SqliteJournal(path)), closing(SqliteJournal(path)):
        assert len(descriptors_of(path)) == 2
        assert all(os.path.samestat(os.fstat(each), path.stat()) for each in descriptors_of(path))
        monkeypatch.setattr("landed.sqlite.OPEN_FILES", tmp_path / "nowhere")
        assert not descriptors_of(path)


def test_while_little_is_appended_the_thread_leaves_the_file_alone(path):
    with closing(SqliteJournal(path, appends_much=True)) as journal:
        journal.append([RECORD])
        before = path.stat().st_size
        with checkpointing(journal):
            for _ in range(20):
                journal.append([RECORD])
                time.sleep(checkpoints.LOOK_SECONDS)

        assert path.stat().st_size == before


def test_a_thread_that_cannot_go_on_says_so_and_the_appender_goes_on(path, tmp_path):
    (tmp_path / "other.db").write_bytes(b"no SQLite file at all" * 100)
    with capture_logs() as said, closing(SqliteJournal(path, appends_much=True)) as journal:
        with checkpointing(journal, lambda: SqliteJournal(tmp_path / "other.db")):
            until(lambda: [line["event"] for line in said] == ["checkpoints.ended"])
            journal.append([RECORD])

        assert journal.read(0, 10) == [(1, RECORD)]


def test_several_appenders_wait_for_each_other_and_none_is_left_out(path):
    def append():
        with closing(SqliteJournal(path)) as journal:
            for _ in range(100):
                journal.append([RECORD])

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_MAX)

    with closing(SqliteJournal(path)) as journal:
        assert journal.last_position() == 400
