"""The embedded journal: one append-only SQLite table, as fast as a hand-written file (measured).

WAL with synchronous=FULL, so a commit is on disk before it returns. Several processes may append.
AUTOINCREMENT, so that a position is never given twice, even after its record was retired.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import apsw

from landed.journal import BYTES_A_READ_MAX
from landed.journal.durability import Durability
from landed.journal.record import REQUEST_TAG, REQUEST_TAG_WITHIN_BYTES
from landed.sqlite import BUSY_MS, open_file, writing

FILE = "journal.db"
APPLICATION_ID = 0x6C6E646A
ROWS_A_STATEMENT = 128
# The worker checkpoints; an appender does it only when no worker did for about 64 MiB.
WAL_PAGES_MAX = 16_384

MIGRATIONS = (
    """
    CREATE TABLE record (position INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL) STRICT;
    CREATE TABLE journal (epoch TEXT NOT NULL) STRICT;
    INSERT INTO journal (epoch) VALUES (lower(hex(randomblob(16))));
    """,
)


class SqliteJournal:
    """A journal in one SQLite file. A connection belongs to one thread at a time."""

    def __init__(self, path: Path, *, busy_ms: int = BUSY_MS) -> None:
        self.path = path
        self._durability = Durability("journal", path)
        self._db = open_file(
            path, application_id=APPLICATION_ID, migrations=MIGRATIONS, synchronous="full", busy_ms=busy_ms
        )
        self._db.wal_autocheckpoint(WAL_PAGES_MAX)
        self._epoch: str = self._db.execute("SELECT epoch FROM journal").get

    @property
    def epoch(self) -> str:
        """The random name of this very journal."""
        return self._epoch

    def append(self, records: Sequence[bytes]) -> int:
        """Make encoded records durable, all or none, and give the position of the last."""
        if not records:
            return self.last_position()
        with self._durability.watch():
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
            last: int = self._db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'record'").get
        return last

    def count_requests(self, after: int, upto: int) -> int:
        """How many `request` records there are behind the one position, up to and with the other."""
        query = "SELECT count(*) FROM record WHERE position > ? AND position <= ? AND instr(substr(data, 1, ?), ?) > 0"
        with self._durability.watch():
            count: int = self._db.execute(query, (after, upto, REQUEST_TAG_WITHIN_BYTES, REQUEST_TAG)).get
        return count

    def checkpoint(self) -> None:
        """Move what is in the WAL into the file, as far as nobody is in the way."""
        # Busy: another process is at it.
        with self._durability.watch(), suppress(apsw.BusyError):
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _insert(self, records: Sequence[bytes]) -> None:
        rows = ",".join(["(?)"] * len(records))
        self._db.execute(f"INSERT INTO record (data) VALUES {rows}", records)  # noqa: S608 - placeholders only
