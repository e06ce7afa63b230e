"""The quarantine: requests that were not trusted, kept durably so that a 4xx loses nothing.

One SQLite file beside the journal, bounded in rows and bytes. What Vonage repeats is kept once: a
copy of the same content only raises a count. Of two copies the one that bears a signature stands,
and the later of two such, since a secret that was mended meanwhile may fit it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from landed.journal import BYTES_A_READ_MAX
from landed.journal.durability import Durability
from landed.journal.record import RequestRecord, encode
from landed.sqlite import open_file, open_to_read, writing

FILE = "quarantine.db"
APPLICATION_ID = 0x6C6E6471
# A gate waits for the command line's short transactions, but not for long: its other requests wait with it.
BUSY_MS = 250
# What a row takes beside its record, roughly.
ROW_BYTES = 256
ROWS_MAX = 10_000
BYTES_MAX = 64 * 1024 * 1024

MIGRATIONS = (
    """
    CREATE TABLE suspect (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        content BLOB NOT NULL UNIQUE,
        record_id BLOB NOT NULL,
        reason TEXT NOT NULL,
        signed INTEGER NOT NULL,
        copies INTEGER NOT NULL,
        first_us INTEGER NOT NULL,
        last_us INTEGER NOT NULL,
        size INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    CREATE TABLE total (rows INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
    INSERT INTO total (rows, bytes) VALUES (0, 0);
    CREATE TRIGGER suspect_came AFTER INSERT ON suspect
        BEGIN UPDATE total SET rows = rows + 1, bytes = bytes + new.size; END;
    CREATE TRIGGER suspect_changed AFTER UPDATE OF size ON suspect
        BEGIN UPDATE total SET bytes = bytes + new.size - old.size; END;
    CREATE TRIGGER suspect_went AFTER DELETE ON suspect
        BEGIN UPDATE total SET rows = rows - 1, bytes = bytes - old.size; END;
    """,
)

_decoder = msgspec.msgpack.Decoder(RequestRecord)


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A request to be kept: `content` is what a repetition of it has in common with it, hashed."""

    content: bytes
    reason: str
    signed: bool
    record: RequestRecord


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is kept, and how often and when it came; times in microseconds since 1970."""

    id: int
    reason: str
    signed: bool
    copies: int
    first_us: int
    last_us: int
    record: RequestRecord


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept, how many requests that stands for, and when the last ones came, microseconds since 1970."""

    rows: int
    bytes: int
    copies: int = 0
    newest_us: int | None = None
    newest_signed_us: int | None = None


class Quarantine(Protocol):
    """What a gate needs of a quarantine."""

    def keep(self, suspects: Sequence[Suspect]) -> list[bool]:
        """Make requests durable, and say of each whether there was room for it.

        Raises JournalUnable when nothing was written, JournalBroken when that cannot be known.
        """


class SqliteQuarantine:
    """A quarantine in one SQLite file. A connection belongs to one thread at a time."""

    def __init__(
        self,
        path: Path,
        *,
        rows_max: int = ROWS_MAX,
        bytes_max: int = BYTES_MAX,
        busy_ms: int = BUSY_MS,
        only_read: bool = False,
    ) -> None:
        self.path = path
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._durability = Durability("quarantine", path)
        if only_read:
            self._db = open_to_read(path, application_id=APPLICATION_ID, migrations=MIGRATIONS, busy_ms=busy_ms)
        else:
            self._db = open_file(
                path, application_id=APPLICATION_ID, migrations=MIGRATIONS, synchronous="full", busy_ms=busy_ms
            )

    def keep(self, suspects: Sequence[Suspect]) -> list[bool]:
        """Make requests durable in one transaction, and say of each whether there was room for it."""
        with self._transaction():
            return [self._keep(suspect) for suspect in suspects]

    def read(self, after: int, limit: int, bytes_max: int = BYTES_A_READ_MAX) -> list[Held]:
        """What is kept behind that id, oldest first, until there are `limit` of them or `bytes_max` are reached."""
        held: list[Held] = []
        size = 0
        query = f"{_SELECT} WHERE id > ? ORDER BY id LIMIT ?"
        with self._durability.watch(), closing(self._db.execute(query, (after, limit))) as cursor:
            for row in cursor:
                held.append(_held(row))
                size += len(row[-1])
                if size >= bytes_max:
                    break
        return held

    def find(self, number: int) -> Held | None:
        """What is kept under that id."""
        with self._durability.watch():
            row = self._db.execute(f"{_SELECT} WHERE id = ?", (number,)).get
        return None if row is None else _held(row)

    def totals(self) -> Totals:
        """How much is kept."""
        with self._durability.watch():
            rows, size, copies, newest_us, newest_signed_us = self._db.execute(
                "SELECT rows, bytes, coalesce(sum(copies), 0), max(last_us), max(last_us) FILTER (WHERE signed) "
                "FROM total LEFT JOIN suspect"
            ).get
        return Totals(rows=rows, bytes=size, copies=copies, newest_us=newest_us, newest_signed_us=newest_signed_us)

    def reasons_since(self, since_us: int) -> dict[str, int]:
        """How many of those kept came, or came again, after a moment, by reason."""
        query = "SELECT reason, count(*) FROM suspect WHERE last_us > ? GROUP BY reason ORDER BY reason"
        return dict(self._db.execute(query, (since_us,)))

    def remove(self, held: Sequence[Held]) -> int:
        """Let go of these; how many there were. One whose place a later copy took meanwhile stays."""
        removed = 0
        with self._transaction():
            for each in held:
                self._db.execute("DELETE FROM suspect WHERE id = ? AND record_id = ?", (each.id, each.record.id))
                removed += self._db.changes()
        return removed

    def close(self) -> None:
        """Let go of the file."""
        self._durability.close(self._db)

    def _keep(self, suspect: Suspect) -> bool:
        record = suspect.record
        found = self._db.execute("SELECT id, size FROM suspect WHERE content = ?", (suspect.content,)).get
        if found is not None and not suspect.signed:
            self._db.execute(
                "UPDATE suspect SET copies = copies + 1, last_us = ? WHERE id = ?", (record.received_us, found[0])
            )
            return True
        data = encode(record)
        size = len(data) + ROW_BYTES
        rows_kept, bytes_kept = self._db.execute("SELECT rows, bytes FROM total").get
        if bytes_kept + size - (found[1] if found else 0) > self._bytes_max:
            return False
        if found is not None:
            self._db.execute(
                "UPDATE suspect SET record_id = ?, reason = ?, signed = 1, copies = copies + 1, last_us = ?, size = ?, "
                "data = ? WHERE id = ?",
                (record.id, suspect.reason, record.received_us, size, data, found[0]),
            )
            return True
        if rows_kept >= self._rows_max:
            return False
        self._db.execute(
            "INSERT INTO suspect (content, record_id, reason, signed, copies, first_us, last_us, size, data) "
            "VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)",
            (
                suspect.content,
                record.id,
                suspect.reason,
                int(suspect.signed),
                record.received_us,
                record.received_us,
                size,
                data,
            ),
        )
        return True

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._durability.write(self._db), writing(self._db):
            yield


_SELECT = "SELECT id, reason, signed, copies, first_us, last_us, data FROM suspect"


def _held(row: tuple[int, str, int, int, int, int, bytes]) -> Held:
    number, reason, signed, copies, first_us, last_us, data = row
    return Held(
        id=number,
        reason=reason,
        signed=bool(signed),
        copies=copies,
        first_us=first_us,
        last_us=last_us,
        record=_decoder.decode(data),
    )
