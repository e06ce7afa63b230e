"""An SQLite file of ours: opened in WAL mode, told from other files, and brought to this version.

`user_version` is the number of migrations applied, each one a text of SQL. A file of a newer landed
is refused with one sentence; an older one is brought forward in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import apsw

from landed.errors import SurroundingsError

BUSY_MS = 2_000

Synchronous = Literal["full", "normal"]


def open_file(
    path: Path, *, application_id: int, migrations: Sequence[str], synchronous: Synchronous, busy_ms: int = BUSY_MS
) -> apsw.Connection:
    """A writing connection to the file, made if it is not there, migrated to this version."""
    try:
        db = apsw.Connection(str(path))
        db.set_busy_timeout(busy_ms)
        db.transaction_mode = "IMMEDIATE"
        _refuse_foreign(db, path, application_id, len(migrations))
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", synchronous)
        _migrate(db, application_id, migrations)
    except apsw.Error as error:
        raise _unusable(path, error) from error
    return db


def open_to_read(
    path: Path, *, application_id: int, migrations: Sequence[str], busy_ms: int = BUSY_MS
) -> apsw.Connection:
    """A reading connection to a file that is there and of this version."""
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        db.set_busy_timeout(busy_ms)
        db.pragma("query_only", 1)
        _refuse_foreign(db, path, application_id, len(migrations))
        version = db.pragma("user_version")
    except apsw.Error as error:
        raise _unusable(path, error) from error
    if version < len(migrations):
        raise SurroundingsError(
            f"{path} was written by an older landed: start `landed serve` once to bring it forward."
        )
    return db


def _refuse_foreign(db: apsw.Connection, path: Path, application_id: int, version: int) -> None:
    if db.pragma("application_id") not in (0, application_id):
        raise SurroundingsError(f"{path} is not a file of landed's: name another directory with --data.")
    if db.pragma("user_version") > version:
        raise SurroundingsError(f"{path} was written by a newer landed: install that version, or name another --data.")


def _migrate(db: apsw.Connection, application_id: int, migrations: Sequence[str]) -> None:
    if db.pragma("user_version") == len(migrations):
        return
    with db:
        # Asked again under the write lock: another process may have been first.
        for number, sql in enumerate(migrations[db.pragma("user_version") :], db.pragma("user_version") + 1):
            db.execute(sql)
            db.pragma("user_version", number)
        db.pragma("application_id", application_id)


def _unusable(path: Path, error: apsw.Error) -> SurroundingsError:
    return SurroundingsError(f"{path} cannot be opened ({error}): check that its directory can be written.")
