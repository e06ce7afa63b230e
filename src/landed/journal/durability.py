"""What a file's errors mean for durability, and the rule that follows a failed write.

After a write whose result is unknown, such as a failed fsync, the file is never tried again: a second
try could be told "on disk" of what the first one lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from landed.errors import JournalBroken, JournalUnable
from landed.sqlite import is_unable


class Durability:
    """Watches over one connection. JournalUnable: nothing was written; JournalBroken: that is unknown, for good."""

    def __init__(self, what: str, path: Path) -> None:
        self._file = f"{what} {path}"
        self._broken: JournalBroken | None = None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Around all that is asked of the file."""
        if self._broken is not None:
            raise self._broken
        try:
            yield
        except apsw.Error as error:
            if is_unable(error):
                raise JournalUnable(f"The {self._file} cannot be used now: {error}.") from error
            self._broken = JournalBroken(f"The {self._file} failed: {error}.")
            raise self._broken from error
