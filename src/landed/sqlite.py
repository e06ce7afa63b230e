"""An SQLite file of ours: opened in WAL mode, told from other files, and brought to this version.

`user_version` is the number of migrations applied, each one a text of SQL. A file of a newer landed
is refused with one sentence; an older one is brought forward in one transaction. A file that is not
ours is left as it was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import apsw

from landed.errors import SurroundingsError, Unable

OPEN_FILES = Path("/proc/self/fd")
BUSY_MS = 2_000
STATEMENTS_KEPT = 100
POLL_SECONDS = 0.01
# Whoever holds a file is nearly always done in less than a millisecond, and hardly ever not in ten.
COMMIT_SECONDS = 0.000_05
COMMITS_WAITED_FOR = 100
# SQLite's own defaults.
CACHE_BYTES = 2_000 * 1024
PAGE_BYTES = 4_096

# What says that nothing was written, and that it may work again later: full, held, or not writable.
# The index beside the WAL needs disk, too, and has no such type of its own.
UNABLE = (apsw.FullError, apsw.BusyError, apsw.ReadOnlyError, apsw.CantOpenError)
UNABLE_EXTENDED = frozenset({apsw.SQLITE_IOERR_SHMSIZE})

Synchronous = Literal["full", "normal"]


def open_file(  # noqa: PLR0913 - what SQLite is told at the beginning
    path: Path,
    *,
    application_id: int,
    migrations: Sequence[str],
    synchronous: Synchronous,
    busy_ms: int = BUSY_MS,
    statements: int = STATEMENTS_KEPT,
    page_bytes: int = PAGE_BYTES,
) -> apsw.Connection:
    """A writing connection to the file, made if it is not there, migrated to this version.

    It keeps so many `statements` prepared, those that were used last. A file that is there keeps its pages' size.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    with _opened(path, flags, busy_ms, statements) as db:
        db.transaction_mode = "IMMEDIATE"
        if db.readonly("main"):
            # SQLite falls back to this by itself, and would stay with it for good.
            raise Unable(f"{path} can only be read: check how its disk is mounted, and whose it is.")
        _version(db, path, application_id, len(migrations))
        db.pragma("page_size", page_bytes)
        _write_ahead(db, path, time.monotonic() + busy_ms / 1000)
        db.pragma("synchronous", synchronous)
        _migrate(db, application_id, migrations)
        return db


def open_to_read(
    path: Path, *, application_id: int, migrations: Sequence[str], busy_ms: int = BUSY_MS
) -> apsw.Connection:
    """A reading connection to a file that is there and of this version."""
    with _opened(path, apsw.SQLITE_OPEN_READWRITE, busy_ms) as db:
        db.pragma("query_only", 1)
        deadline = time.monotonic() + busy_ms / 1000
        while (version := _version(db, path, application_id, len(migrations))) == 0 and time.monotonic() < deadline:
            # Another process is making it at this moment.
            time.sleep(POLL_SECONDS)
        if version < len(migrations):
            raise SurroundingsError(
                f"{path} was written by an older landed: start `landed serve` once to bring it forward."
            )
        return db


@contextmanager
def writing(db: apsw.Connection) -> Iterator[None]:
    """One writing transaction: all that is done within, or nothing.

    Not by `with db`, which waits for another writer with Python's own lock in hand, so that a writer in
    another thread could not go on.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def log_of(path: Path) -> Path:
    """The file of the WAL beside a file."""
    return path.with_name(path.name + "-wal")


def descriptors_of(path: Path) -> set[int]:
    """Those that SQLite has open on a file in this process; none where the system does not tell.

    To open one of our own, and close it, would let go of SQLite's locks on the file.
    https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    descriptors = set()
    with suppress(OSError):
        for entry in OPEN_FILES.iterdir():
            with suppress(OSError):
                if entry.samefile(path):
                    descriptors.add(int(entry.name))
    return descriptors


def begin_log_anew(db: apsw.Connection) -> None:
    """See to it that nothing that must be durable is written behind what may not be.

    What another process left in the WAL after a failed fsync can be read, but may never reach the disk:
    the kernel takes it for clean. Behind such a gap all later commits would be lost in a power cut, since
    SQLite reads a WAL up to the first frame that is damaged. So what is there is copied into the file, and
    the WAL begins anew. Raises apsw.BusyError when somebody reads in it all the while.
    (https://www.sqlite.org/c3ref/wal_checkpoint_v2.html, https://wiki.postgresql.org/wiki/Fsync_Errors)
    """
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)


def lengthen_log(db: apsw.Connection, log: Path, length_bytes: int) -> None:
    """Make the file of the WAL that long, so that no commit has to: half the time of a lone one (measured).

    By a transaction that is taken back: what it left in the file is no part of the log, and is written over.
    Where there is no room for that, or somebody else writes, the log stays as it is.
    """
    if log.stat().st_size >= length_bytes:
        return
    with suppress(_TakenBack, *UNABLE), writing(db):
        # Far beyond the cache, of which nothing is written.
        db.execute("CREATE TABLE filler (data BLOB)")
        db.execute("INSERT INTO filler VALUES (zeroblob(?))", (length_bytes + CACHE_BYTES,))
        raise _TakenBack


def is_unable(error: apsw.Error) -> bool:
    """Whether nothing was written and a later try may succeed; anything else leaves that unknown."""
    return isinstance(error, UNABLE) or getattr(error, "extendedresult", None) in UNABLE_EXTENDED


class _TakenBack(Exception):
    """Raised to roll back what was never meant to stay."""


@contextmanager
def _opened(path: Path, flags: int, busy_ms: int, statements: int = STATEMENTS_KEPT) -> Iterator[apsw.Connection]:
    """A connection that is closed again when it turns out to be of no use."""
    db = None
    try:
        db = apsw.Connection(str(path), flags=flags, statementcachesize=statements)
        db.set_busy_handler(_waiting(busy_ms / 1000))
        yield db
    except BaseException as error:
        if db is not None:
            db.close(force=True)
        if isinstance(error, apsw.NotADBError):
            raise _foreign(path) from error
        if isinstance(error, apsw.Error):
            raise Unable(
                f"{path} cannot be opened ({error}): check that its directory can be written and has space."
            ) from error
        raise


def _waiting(seconds_max: float) -> Callable[[int], bool]:
    """Waits for who holds a file. SQLite's own way, a millisecond and then longer, is far more than a commit takes."""
    until = 0.0

    def wait(times: int) -> bool:
        nonlocal until
        now = time.monotonic()
        if not times:
            until = now + seconds_max
        time.sleep(COMMIT_SECONDS if times < COMMITS_WAITED_FOR else POLL_SECONDS)
        return now < until

    return wait


def _version(db: apsw.Connection, path: Path, application_id: int, version_known: int) -> int:
    """The version of the file, 0 if it is empty; refuses what is not ours or newer than we are."""
    # One statement, so that a file that another process is making is seen before or after, never between.
    found, version, tables = db.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) "
        "FROM pragma_application_id, pragma_user_version"
    ).get
    if found != application_id and (found or version or tables):
        raise _foreign(path)
    if version > version_known:
        raise SurroundingsError(f"{path} was written by a newer landed: install that version, or name another --data.")
    return int(version)


def _foreign(path: Path) -> SurroundingsError:
    return SurroundingsError(f"{path} is not a file of landed's: name another directory with --data.")


def _write_ahead(db: apsw.Connection, path: Path, deadline: float) -> None:
    mode = None
    while mode is None:
        try:
            mode = db.pragma("journal_mode", "wal")
        except apsw.BusyError:
            # Another process makes the same change, and SQLite does not wait for that one.
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
    if mode != "wal":
        raise SurroundingsError(f"{path} lies where SQLite cannot keep a write-ahead log: name another --data.")


def _migrate(db: apsw.Connection, application_id: int, migrations: Sequence[str]) -> None:
    if db.pragma("user_version") == len(migrations):
        return
    with db:
        # Asked again under the write lock: another process may have been first.
        applied = db.pragma("user_version")
        for number, sql in enumerate(migrations[applied:], applied + 1):
            db.execute(sql)
            db.pragma("user_version", number)
        db.pragma("application_id", application_id)
