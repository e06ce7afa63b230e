"""The journal: append-only, the one place where a request first becomes durable.

Every fact that changes what we know of a message is a record here; the store's views can be made
again from it. `append` returns after the bytes are on disk, and `read` gives them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# A record can be as large as a body and its headers together; a batch of them must not fill the memory.
BYTES_A_READ_MAX = 4 * 1024 * 1024


class Journal(Protocol):
    """What every journal does; one conformance suite holds all of them to it."""

    @property
    def epoch(self) -> str:
        """The random name of this very journal: positions of another one mean nothing here."""

    def append(self, records: Sequence[bytes]) -> int:
        """Make encoded records durable, all or none, and give the position of the last.

        Raises JournalUnable when nothing was written, JournalBroken when that cannot be known; after
        the latter it never tries again.
        """

    def read(self, after: int, limit: int, bytes_max: int = BYTES_A_READ_MAX) -> list[tuple[int, bytes]]:
        """Records behind that position, oldest first, with their positions; empty at the end.

        It ends with the record that makes them `limit`, or together `bytes_max` bytes or more.
        """

    def last_position(self) -> int:
        """The highest position ever given; positions never run backwards."""

    def count_requests(self, after: int, upto: int) -> int:
        """How many `request` records there are behind the one position, up to and with the other."""

    def checkpoint(self) -> None:
        """Tidy up behind the appenders; the reader's work, so that they need not wait for it."""

    def close(self) -> None:
        """Let go of the files."""
