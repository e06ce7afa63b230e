"""What a file's errors mean for durability, and the rule that follows a failed write.

After a write whose result is unknown, such as a failed fsync, the file is never tried again: a second
try could be told "on disk" of what the first one lost.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Self

import apsw

from landed.errors import JournalBroken, JournalUnable
from landed.sqlite import begin_log_anew, is_unable, lengthen_log, log_of


class Durability:
    """Watches over one connection. JournalUnable: nothing was written; JournalBroken: that is unknown, for good."""

    def __init__(self, what: str, path: Path, log_bytes: int = 0) -> None:
        self._file = f"{what} {path}"
        self._log = log_of(path)
        self._log_bytes = log_bytes
        self._broken: JournalBroken | None = None
        self._is_begun = False

    def close(self, db: apsw.Connection) -> None:
        """Close the connection; after a failed write without SQLite's own last try, a checkpoint."""
        if self._broken is not None:
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.close()

    def write(self, db: apsw.Connection) -> Self:
        """Around a write that is to be durable; before the first one the log is begun anew."""
        if not self._is_begun and self._broken is None:
            self._begin(db)
        return self

    def watch(self) -> Self:
        """Around all that is asked of the file."""
        return self

    # Not by contextlib, whose generators are felt in a lone append.

    def __enter__(self) -> None:
        if self._broken is not None:
            raise self._broken

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, apsw.Error):
            if is_unable(error):
                raise JournalUnable(f"The {self._file} cannot be used now: {error}.") from error
            self._broken = JournalBroken(f"The {self._file} failed: {error}.")
            raise self._broken from error

    def _begin(self, db: apsw.Connection) -> None:
        try:
            # Busy: somebody has been reading in it since before, and will not be waited for longer.
            with suppress(apsw.BusyError):
                begin_log_anew(db)
            if self._log_bytes:
                lengthen_log(db, self._log, self._log_bytes)
        except (apsw.Error, OSError) as error:
            # Of ours nothing was written, and what was is copied again by the next try.
            raise JournalUnable(f"The {self._file} cannot be written now: {error}.") from error
        self._is_begun = True
