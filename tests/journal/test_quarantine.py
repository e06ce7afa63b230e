"""The quarantine keeps what was not trusted, each content once, within its bounds, durably."""

from __future__ import annotations

import subprocess
import sys
import threading

import apsw
import pytest

from landed.errors import JournalBroken, JournalUnable, SurroundingsError
from landed.journal.quarantine import ROW_BYTES, SqliteQuarantine, Suspect
from landed.journal.record import Ids, RequestRecord, encode

IDS = Ids()


def suspect(content=b"c", *, signed=False, at=1, body=b"", reason="wrong"):
    record = RequestRecord(
        id=IDS.next(),
        at_us=at,
        received_us=at,
        account="",
        api_key=None,
        coverage="nothing",
        verified=False,
        stale=False,
        answer=401,
        method="POST",
        path="/webhooks/message-status",
        query=b"",
        headers=((b"Host", b"a"),),
        body=body,
    )
    return Suspect(content=content, reason=reason, signed=signed, record=record)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "quarantine.db"


@pytest.fixture
def start(path):
    """Open the quarantine; all are closed in the end."""
    opened = []

    def open_quarantine(**options):
        opened.append(SqliteQuarantine(path, **options))
        return opened[-1]

    yield open_quarantine
    for each in opened:
        each.close()


def test_what_was_kept_is_read_by_another_connection_as_it_came(start):
    quarantine = start()
    one, two = suspect(b"1", at=5, body=b"x"), suspect(b"2", at=6, reason="account")

    assert quarantine.keep([one, two]) == [True, True]

    held = start(only_read=True).read(0, 10)
    assert [(each.reason, each.copies, each.first_us, each.last_us) for each in held] == [
        ("wrong", 1, 5, 5),
        ("account", 1, 6, 6),
    ]
    assert [each.record for each in held] == [one.record, two.record]


@pytest.mark.parametrize("together", [True, False], ids=["one-batch", "several"])
@pytest.mark.parametrize(
    ("signed", "stands"),
    [
        pytest.param([False, False], 0, id="unsigned-the-first"),
        pytest.param([False, True], 1, id="unsigned-then-signed"),
        pytest.param([True, False], 0, id="signed-then-unsigned"),
        pytest.param([True, True], 1, id="signed-the-later"),
        pytest.param([False, True, False, True, False], 3, id="many"),
    ],
)
def test_a_copy_raises_the_count_and_the_later_signed_one_stands(start, together, signed, stands):
    quarantine = start()
    copies = [suspect(signed=each, at=at, body=b"%d" % at) for at, each in enumerate(signed)]

    for batch in [copies] if together else [[copy] for copy in copies]:
        assert all(quarantine.keep(batch))

    (held,) = quarantine.read(0, 10)
    assert held.record == copies[stands].record
    assert (held.copies, held.first_us, held.last_us, held.signed) == (len(signed), 0, len(signed) - 1, any(signed))
    assert quarantine.totals().rows == 1


def test_the_totals_count_copies_and_say_when_the_last_ones_came(start):
    quarantine = start()
    totals = quarantine.totals()
    assert (totals.rows, totals.bytes, totals.copies, totals.newest_us, totals.newest_signed_us) == (
        0,
        0,
        0,
        None,
        None,
    )
    for each in (suspect(b"1", at=3), suspect(b"1", at=4), suspect(b"2", at=7, signed=True), suspect(b"3", at=9)):
        quarantine.keep([each])
    totals = quarantine.totals()
    assert (totals.rows, totals.copies, totals.newest_us, totals.newest_signed_us) == (3, 4, 9, 7)


def test_a_full_one_takes_copies_and_nothing_else_until_there_is_room(start):
    quarantine = start(rows_max=2)

    assert quarantine.keep([suspect(b"1"), suspect(b"2"), suspect(b"3")]) == [True, True, False]
    assert quarantine.keep([suspect(b"1", signed=True), suspect(b"3"), suspect(b"2")]) == [True, False, True]
    quarantine.remove(quarantine.read(0, 1))
    assert quarantine.keep([suspect(b"3"), suspect(b"4")]) == [True, False]
    assert quarantine.totals().rows == 2


def test_the_bytes_have_a_bound_that_a_larger_copy_does_not_break_either(start):
    large = suspect(b"1", body=b"x" * 1_000)
    room = len(encode(large.record)) + ROW_BYTES
    quarantine = start(bytes_max=room)

    assert quarantine.keep([large, suspect(b"2")]) == [True, False]
    assert quarantine.keep([suspect(b"1", signed=True, body=b"y" * 1_001)]) == [False]
    assert quarantine.keep([suspect(b"1", signed=True, body=b"y" * 1_000)]) == [True]
    assert quarantine.totals().bytes == room
    quarantine.remove(quarantine.read(0, 1))
    assert quarantine.totals().bytes == 0


def test_what_a_later_copy_replaced_is_not_removed_with_the_earlier_one(start):
    quarantine = start()
    quarantine.keep([suspect(signed=False)])
    seen = quarantine.read(0, 10)
    quarantine.keep([suspect(signed=True)])

    assert quarantine.remove(seen) == 0
    assert quarantine.remove(quarantine.read(0, 10)) == 1
    assert quarantine.read(0, 10) == []


def test_ids_are_not_given_again(start):
    quarantine = start()
    quarantine.keep([suspect(b"1"), suspect(b"2")])
    last = quarantine.read(0, 10)[-1]
    quarantine.remove([last])
    quarantine.keep([suspect(b"3")])

    assert quarantine.find(last.id) is None
    assert quarantine.read(last.id, 10)[0].record is not None


def test_reading_is_bounded_and_goes_on_behind_what_was_read(start):
    quarantine = start()
    quarantine.keep([suspect(b"%d" % number, body=b"x" * 100) for number in range(5)])

    first = quarantine.read(0, 2)
    assert len(first) == 2
    assert len(quarantine.read(0, 10, bytes_max=1)) == 1
    assert len(quarantine.read(first[-1].id, 10)) == 3


def test_a_held_one_takes_nothing_and_works_again_afterwards(start, path):
    quarantine = start(busy_ms=20)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalUnable, match="locked"):
        quarantine.keep([suspect()])
    other.execute("ROLLBACK")
    other.close()

    assert quarantine.keep([suspect()]) == [True]


def test_a_full_disk_takes_nothing_and_works_again_afterwards(start):
    quarantine = start()
    db = quarantine._db  # noqa: SLF001 - the limit belongs to the connection
    db.pragma("max_page_count", db.pragma("page_count"))
    with pytest.raises(JournalUnable, match="full"):
        quarantine.keep([suspect(b"%d" % number, body=b"x" * 4_000) for number in range(10)])
    assert quarantine.totals().rows == 0
    db.pragma("max_page_count", 10_000)

    assert quarantine.keep([suspect()]) == [True]


def test_after_a_failure_that_leaves_durability_unknown_it_never_tries_again(start, path):
    quarantine = start()
    quarantine.keep([suspect(b"%d" % number, body=b"x" * 5_000) for number in range(50)])
    path.write_bytes(b"x" * path.stat().st_size)
    path.with_name(path.name + "-wal").write_bytes(b"")
    quarantine._db.cache_flush()  # noqa: SLF001 - what it read before must be read again
    quarantine._db.release_memory()  # noqa: SLF001
    with pytest.raises(JournalBroken):
        quarantine.keep([suspect(b"%d" % number, body=b"x" * 5_000) for number in range(50, 100)])

    with pytest.raises(JournalBroken):
        quarantine.totals()


def test_another_file_is_refused(path):
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(SurroundingsError, match="not a file of landed's"):
        SqliteQuarantine(path)


def test_several_threads_with_connections_of_their_own_keep_each_content_once(start, path):
    start()

    def keep():
        mine = SqliteQuarantine(path, busy_ms=10_000)
        for number in range(50):
            assert mine.keep([suspect(b"%d" % number), suspect(b"%d" % (number + 1))]) == [True, True]
        mine.close()

    threads = [threading.Thread(target=keep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    held = start().read(0, 1_000)
    assert len(held) == start().totals().rows == 51
    assert sum(each.copies for each in held) == 400


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_quarantine import suspect
from landed.journal.quarantine import SqliteQuarantine
quarantine = SqliteQuarantine(Path(sys.argv[1]))
for number in range(1_000_000):
    quarantine.keep([suspect(b"%d" % number)])
    print(number, flush=True)
"""


def test_what_was_said_to_be_kept_is_there_after_kill_9(start, path):
    here = __file__.rpartition("/")[0]
    command = [sys.executable, "-c", KILLED, str(path), here]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(20):
            said = int(process.stdout.readline())
        process.kill()
        said = max([said, *(int(line) for line in process.stdout.read().split("\n")[:-1])])

    assert len(start().read(0, 100_000)) in (said + 1, said + 2)
