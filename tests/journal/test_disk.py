"""The room on disk: what is beyond its bound is said in a sentence, and retired records make room again."""

from contextlib import closing

import pytest

from landed.journal.disk import Disk
from landed.journal.record import Ids, TickRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.settings import Limits

IDS = Ids()
MIB = 1024 * 1024


@pytest.fixture
def journal(tmp_path):
    with closing(SqliteJournal(tmp_path / "journal.db")) as journal:
        yield journal


def disk(journal, **limits):
    return Disk(journal.path, Limits(**({"free_bytes_min": 0, "unverified_free_bytes_min": 0} | limits)))


def fill(journal, rows):
    return journal.append([encode(TickRecord(id=IDS.next() + b"x" * 2_000, at_us=1)) for _ in range(rows)])


def test_without_bounds_there_is_room(journal):
    assert disk(journal).shortage(journal) is None


def test_a_journal_over_its_bound_is_short_of_room_and_the_sentence_says_what_to_do(journal):
    bounded = disk(journal, journal_bytes_max=MIB)
    assert bounded.shortage(journal) is None
    fill(journal, 600)

    said = bounded.shortage(journal)

    assert all(word in said for word in ("journal_bytes_max", "journal_days", f"{journal.used_bytes():,} bytes"))


def test_too_little_free_space_is_a_shortage(journal):
    assert "free_bytes_min" in disk(journal, free_bytes_min=2**60).shortage(journal)


def test_a_journal_that_cannot_be_measured_is_a_shortage_and_no_crash(journal):
    journal.close()

    assert "cannot be looked at" in disk(journal, journal_bytes_max=MIB).shortage(journal)


def test_retired_records_end_a_shortage_although_the_file_does_not_shrink(journal):
    bounded = disk(journal, journal_bytes_max=4 * MIB)
    last = fill(journal, 3_000)
    journal.checkpoint()
    size = journal.path.stat().st_size
    assert bounded.shortage(journal) is not None

    while journal.retire(last, 2):
        pass
    journal.checkpoint()

    assert bounded.shortage(journal) is None
    assert journal.path.stat().st_size == size > 5 * MIB


def test_a_log_of_usual_size_makes_no_shortage_and_a_larger_one_does(journal, monkeypatch):
    bounded = disk(journal, journal_bytes_max=MIB)
    last = fill(journal, 2_000)
    while journal.retire(last, 2):
        pass
    log_bytes = journal.path.with_name("journal.db-wal").stat().st_size
    assert log_bytes > 2 * MIB
    assert bounded.shortage(journal) is None

    used = journal.used_bytes()
    # As when a reader that sleeps keeps the log from its file.
    monkeypatch.setattr("landed.journal.sqlite.WAL_BYTES_MAX", MIB)
    assert journal.used_bytes() == used + log_bytes - MIB
    assert bounded.shortage(journal) is not None


def test_new_records_take_the_room_of_retired_ones_and_the_file_stops_growing(journal):
    sizes = []
    for _ in range(5):
        last = fill(journal, 1_000)
        while journal.retire(last, 2):
            pass
        journal.checkpoint()
        sizes.append(journal.path.stat().st_size)

    assert max(sizes) - sizes[0] < 64 * 1024
    assert sizes[0] > MIB
