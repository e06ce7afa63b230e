"""The embedded journal: one append-only SQLite table, as fast as a hand-written file (measured).

WAL with synchronous=FULL, so a commit is on disk before it returns. Several processes may append.
A position is never given twice: SQLite gives the one behind the highest there is, and the newest record is never
retired. (AUTOINCREMENT would say the same by a second page in each commit, a tenth of a lone one's time.) The pages
of retired records are used again by new ones, so the file stops growing and does not shrink.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from functools import cache
from itertools import takewhile
from pathlib import Path

import apsw
import msgspec

from landed.errors import JournalUnable
from landed.journal import BYTES_A_READ_MAX, Retired
from landed.journal.durability import Durability
from landed.journal.record import REQUEST, REQUEST_TAG, REQUEST_TAG_WITHIN_BYTES
from landed.sqlite import BUSY_MS, log_of, open_file, open_to_read, writing

FILE = "journal.db"
APPLICATION_ID = 0x6C6E646A
ROWS_A_STATEMENT = 128
# One for each number of rows up to that, and the others: to prepare one again takes as long as ten rows.
STATEMENTS_KEPT = 2 * ROWS_A_STATEMENT
# Half as many pages as by default are written, and less of them is left empty behind the last record that fits.
PAGE_BYTES = 8_192
# The worker checkpoints; who appends a little does it only when no worker did for about so much.
WAL_BYTES_MAX = 64 * 1024 * 1024
# The log of who appends much is made so long at once. Written over again and again it stays in the processor's
# caches, and a commit that finds it full has little to copy (see `landed.journal.checkpoints`).
LOG_BYTES = 8 * 1024 * 1024
# Appenders wait while records are retired: for a few milliseconds at a time (measured).
RECORDS_RETIRED_MAX = 2_000
BYTES_RETIRED_MAX = 2 * 1024 * 1024

MIGRATIONS = (
    """
    CREATE TABLE record (position INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL) STRICT;
    CREATE TABLE journal (epoch TEXT NOT NULL) STRICT;
    INSERT INTO journal (epoch) VALUES (lower(hex(randomblob(16))));
    """,
    """
    CREATE TABLE retired (records INTEGER NOT NULL, requests INTEGER NOT NULL, position INTEGER NOT NULL) STRICT;
    INSERT INTO retired (records, requests, position) VALUES (0, 0, 0);
    """,
    # A change of the words alone: the rows and their positions stay as they are, however many.
    # https://www.sqlite.org/lang_altertable.html#otheralter
    """
    PRAGMA writable_schema = ON;
    UPDATE sqlite_schema SET sql = replace(sql, ' AUTOINCREMENT', '') WHERE type = 'table' AND name = 'record';
    PRAGMA writable_schema = RESET;
    """,
)


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """What every kind of record begins with."""

    kind: str
    id: bytes
    at_us: int


_head = msgspec.msgpack.Decoder(_Head)


class SqliteJournal:
    """A journal in one SQLite file. A connection belongs to one thread at a time.

    With `only_read` the file must be there and of this version, and nothing is changed in it. With
    `appends_much` the log gets its length before the first append.
    """

    def __init__(
        self, path: Path, *, busy_ms: int = BUSY_MS, only_read: bool = False, appends_much: bool = False
    ) -> None:
        self.path = path
        self.appended_bytes = 0
        self._durability = Durability("journal", path, LOG_BYTES if appends_much else 0)
        if only_read:
            self._db = open_to_read(path, application_id=APPLICATION_ID, migrations=MIGRATIONS, busy_ms=busy_ms)
        else:
            self._db = open_file(
                path,
                application_id=APPLICATION_ID,
                migrations=MIGRATIONS,
                synchronous="full",
                busy_ms=busy_ms,
                statements=STATEMENTS_KEPT,
                page_bytes=PAGE_BYTES,
            )
        log_bytes = LOG_BYTES if appends_much else WAL_BYTES_MAX
        self._db.wal_autocheckpoint(log_bytes // self._db.pragma("page_size"))
        # Once a slow reader let it grow beyond that, it would stay so.
        self._db.pragma("journal_size_limit", WAL_BYTES_MAX)
        self._epoch: str = self._db.execute("SELECT epoch FROM journal").get

    @property
    def epoch(self) -> str:
        """The random name of this very journal."""
        return self._epoch

    def append(self, records: Sequence[bytes]) -> int:
        """Make encoded records durable, all or none, and give the position of the last."""
        if not records:
            return self.last_position()
        self.appended_bytes += sum(map(len, records))
        with self._durability.write(self._db):
            if len(records) <= ROWS_A_STATEMENT:
                self._insert(records)
            else:
                with writing(self._db):
                    for start in range(0, len(records), ROWS_A_STATEMENT):
                        self._insert(records[start : start + ROWS_A_STATEMENT])
        return self._db.last_insert_rowid()

    def read(self, after: int, limit: int, bytes_max: int = BYTES_A_READ_MAX) -> list[tuple[int, bytes]]:
        """Records behind that position, oldest first, until there are `limit` of them or `bytes_max` are reached."""
        query = "SELECT position, data FROM record WHERE position > ? ORDER BY position LIMIT ?"
        rows: list[tuple[int, bytes]] = []
        size = 0
        with self._durability.watch(), closing(self._db.execute(query, (after, limit))) as cursor:
            for position, data in cursor:
                rows.append((position, data))
                size += len(data)
                if size >= bytes_max:
                    break
        return rows

    def last_position(self) -> int:
        """The highest position ever given; 0 before the first record."""
        with self._durability.watch():
            last: int = self._db.execute("SELECT coalesce(max(position), 0) FROM record").get
        return last

    def count_requests(self, after: int, upto: int) -> int:
        """How many `request` records there are behind the one position; from 0 on, with those retired."""
        # One statement, so that what is retired meanwhile is counted once.
        query = (
            "SELECT count(*) + iif(:after, 0, (SELECT requests FROM retired)) FROM record "
            "WHERE position > :after AND position <= :upto AND instr(substr(data, 1, :within), :tag) > 0"
        )
        values = {"after": after, "upto": upto, "within": REQUEST_TAG_WITHIN_BYTES, "tag": REQUEST_TAG}
        with self._durability.watch():
            count: int = self._db.execute(query, values).get
        return count

    def retire(self, upto: int, before_us: int) -> int:
        """Let go of some of the oldest records up to that position and before that time; of how many."""
        # All is read and understood before the transaction, for which appenders wait.
        before = self.retired()
        old = self._old(before.position, upto, before_us)
        if not old:
            return 0
        last = old[-1][0]
        requests = sum(head.kind == REQUEST for _, head in old)
        counted = (len(old), requests, last, before.position)
        with self._durability.watch(), writing(self._db):
            self._db.execute(
                "UPDATE retired SET records = records + ?, requests = requests + ?, position = ? WHERE position = ?",
                counted,
            )
            if not self._db.changes():
                # Another process was first.
                return 0
            self._db.execute("DELETE FROM record WHERE position <= ?", (last,))
        return len(old)

    def retired(self) -> Retired:
        """What was let go of until now."""
        with self._durability.watch():
            records, requests, position = self._db.execute("SELECT records, requests, position FROM retired").get
        return Retired(records=records, requests=requests, position=position)

    def used_bytes(self) -> int:
        """What the journal takes on disk, but for the room that retired records left, and a log of usual size."""
        query = (
            "SELECT (page_count - freelist_count) * page_size "
            "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        log = log_of(self.path)
        try:
            # Not under the watch: whatever fails here says nothing of what is durable.
            used: int = self._db.execute(query).get
            # A log of usual size stays when all of it is in the file: to count it could mean a shortage without end.
            return used + max(0, (log.stat().st_size if log.exists() else 0) - WAL_BYTES_MAX)
        except (apsw.Error, OSError) as error:
            raise JournalUnable(f"The journal {self.path} cannot be measured now: {error}.") from error

    def checkpoint(self) -> None:
        """Move what is in the WAL into the file, as far as nobody is in the way."""
        # Busy: another process is at it.
        with self._durability.watch(), suppress(apsw.BusyError):
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def close(self) -> None:
        """Let go of the file."""
        self._durability.close(self._db)

    def _old(self, after: int, upto: int, before_us: int) -> list[tuple[int, _Head]]:
        """The records that may be retired together, by what they begin with; the newest stays, and its position."""
        newest = self.last_position()
        rows = self.read(after, RECORDS_RETIRED_MAX, BYTES_RETIRED_MAX)
        last = min(upto, newest - 1)
        heads = ((position, _head_of(position, data)) for position, data in rows if position <= last)
        return list(takewhile(lambda row: row[1].at_us < before_us, heads))

    def _insert(self, records: Sequence[bytes]) -> None:
        self._db.execute(_insert_of(len(records)), records)


@cache
def _insert_of(rows: int) -> str:
    values = ",".join(["(?)"] * rows)
    return f"INSERT INTO record (data) VALUES {values}"  # noqa: S608 - placeholders only


def _head_of(position: int, data: bytes) -> _Head:
    try:
        return _head.decode(data)
    except msgspec.MsgspecError as error:
        raise JournalUnable(f"Record {position} of the journal is damaged, and is not retired: {error}.") from error
