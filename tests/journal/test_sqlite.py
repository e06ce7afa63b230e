"""What only the embedded journal can be put through: full, held, retired from, and failing to sync."""
# ruff: noqa: SLF001 - a limit on a file's pages belongs to the connection that it is to limit

from contextlib import closing

import apsw
import pytest

from landed.errors import JournalBroken, JournalUnable, SurroundingsError
from landed.journal.record import TickRecord, encode
from landed.journal.sqlite import APPLICATION_ID, MIGRATIONS, SqliteJournal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path):
    journal = SqliteJournal(path, busy_ms=50)
    yield journal
    journal.close()


@pytest.fixture
def other(journal):
    """Another connection to the same file, as another process has one."""
    other = apsw.Connection(str(journal.path))
    yield other
    other.close()


@pytest.mark.parametrize("count", [20, 500], ids=["one-statement", "several-statements"])
def test_a_full_journal_takes_nothing_and_works_again_afterwards(journal, count):
    first = journal.append([b"before"])
    journal._db.pragma("max_page_count", 8)

    for _ in range(3):
        with pytest.raises(JournalUnable, match="full"):
            journal.append([b"x" * 4_000] * count)
    assert journal.read(0, 10) == [(first, b"before")]
    assert journal.last_position() == first

    journal._db.pragma("max_page_count", 10_000)
    last = journal.append([b"x" * 4_000] * count)
    assert len(journal.read(0, 1_000)) == 1 + count
    assert last == journal.last_position()


def test_a_small_append_still_fits_when_a_large_one_did_not(journal):
    journal._db.pragma("max_page_count", 8)
    with pytest.raises(JournalUnable):
        journal.append([b"x" * 4_000] * 200)

    position = journal.append([b"small"])

    assert journal.read(0, 10) == [(position, b"small")]


def test_a_held_journal_takes_nothing_and_works_again_afterwards(journal, other):
    with other:
        other.execute("INSERT INTO record (data) VALUES (x'00')")
        with pytest.raises(JournalUnable, match="locked"):
            journal.append([b"one"])
        with pytest.raises(JournalUnable, match="locked"):
            journal.append([b"one"] * 200)
        other.execute("DELETE FROM record")

    position = journal.append([b"two"])

    assert journal.read(0, 10) == [(position, b"two")]


def test_positions_never_run_backwards_even_when_all_that_may_be_is_retired(path, journal):
    ticks = [encode(TickRecord(id=b"t", at_us=1)) for _ in range(4)]
    last = journal.append(ticks[:3])
    while journal.retire(last, 2):
        pass

    assert journal.read(0, 10) == [(last, ticks[2])]
    assert journal.last_position() == last
    journal.close()
    again = SqliteJournal(path)
    assert again.last_position() == last
    assert again.append(ticks[3:]) == last + 1
    again.close()


def test_a_journal_of_an_older_landed_is_brought_forward_with_its_positions(path):
    older = apsw.Connection(str(path))
    older.execute("".join(MIGRATIONS[:2]))
    older.pragma("user_version", 2)
    older.pragma("application_id", APPLICATION_ID)
    older.execute("INSERT INTO record (position, data) VALUES (7, x'01'), (8, x'02')")
    older.close()

    journal = SqliteJournal(path)

    assert journal.append([b"three"]) == 9
    assert journal.read(0, 10) == [(7, b"\1"), (8, b"\2"), (9, b"three")]
    journal.close()
    with closing(apsw.Connection(str(path))) as db:
        assert "AUTOINCREMENT" not in db.execute("SELECT sql FROM sqlite_schema WHERE name = 'record'").get
        assert db.pragma("integrity_check") == "ok"


@pytest.mark.parametrize("limits", [(2,), (100, 1), (100,)], ids=["records", "bytes", "all"])
def test_no_read_is_left_open(journal, other, limits):
    journal.append([b"x" * 100] * 10)
    assert journal.read(0, *limits)
    journal.append([b"y"])
    assert other.execute("SELECT count(*) FROM record").get == 11

    # A reader that were still at work would make this one busy.
    assert other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE) == (0, 0)


def test_a_checkpoint_beside_another_one_is_no_error(journal, other):
    journal.append([b"one"])
    with other:
        other.execute("SELECT * FROM record").fetchall()
        journal.checkpoint()

    assert len(journal.read(0, 10)) == 1


class _FailingSync(apsw.VFS):
    """A disk whose syncs of the WAL fail when told to; it counts them."""

    def __init__(self):
        self.fails = False
        self.syncs = 0
        super().__init__("failing-sync", "unix", makedefault=True)

    def xOpen(self, name, flags):  # noqa: N802 - SQLite's name
        return _FailingFile(self, name, flags)


class _FailingFile(apsw.VFSFile):
    def __init__(self, vfs, name, flags):
        self._vfs = vfs
        super().__init__("unix", name, flags)

    def xSync(self, flags):  # noqa: N802 - SQLite's name
        self._vfs.syncs += 1
        if self._vfs.fails:
            error = apsw.IOError("fsync failed")
            error.extendedresult = apsw.SQLITE_IOERR_FSYNC
            raise error
        super().xSync(flags)


@pytest.fixture
def disk():
    default = apsw.vfs_names()[0]
    disk = _FailingSync()
    yield disk
    disk.unregister()
    assert apsw.vfs_names()[0] == default


def test_after_a_failed_sync_the_journal_is_broken_and_never_tries_again(disk, path):
    journal = SqliteJournal(path)
    journal.append([b"one"])
    disk.fails = True
    with pytest.raises(JournalBroken):
        journal.append([b"two"])
    disk.fails = False
    syncs = disk.syncs

    for records in ([b"three"], [b"three"] * 200):
        with pytest.raises(JournalBroken):
            journal.append(records)

    assert disk.syncs == syncs
    journal.close()
    again = SqliteJournal(path)
    assert [data for _, data in again.read(0, 10)][:1] == [b"one"]
    again.close()


def test_who_only_reads_changes_nothing(tmp_path):
    path = tmp_path / "journal.db"
    with pytest.raises(SurroundingsError):
        SqliteJournal(path, only_read=True)
    assert not path.exists()

    with closing(SqliteJournal(path)) as journal:
        journal.append([b"a"])
        with closing(SqliteJournal(path, only_read=True)) as reader:
            assert reader.read(0, 10) == [(1, b"a")]
            with pytest.raises(JournalUnable):
                reader.append([b"b"])
        assert journal.last_position() == 1
