"""The journal: append-only, the one place where a request first becomes durable.

Every fact that changes what we know of a message is a record here; the store's views can be made
again from it. `append` returns after the bytes are on disk, and `read` gives them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

# A record can be as large as a body and its headers together; a batch of them must not fill the memory.
BYTES_A_READ_MAX = 4 * 1024 * 1024


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """What has left the journal for ever: how many records, how many of them requests, and the position of the last."""

    records: int = 0
    requests: int = 0
    position: int = 0


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
        """How many `request` records there are behind the one position, up to and with the other.

        From 0 on, those that were retired are counted, too.
        """

    def retire(self, upto: int, before_us: int) -> int:
        """Let go of the oldest records, and say of how many; 0 when there is nothing more to retire.

        They go oldest first, as long as each was appended before that time, up to and with that
        position, and never the newest record; a bounded number at a time, so that no appender waits
        for long. For whoever reads the journal alone, and has made durable what it read of them.
        """

    def retired(self) -> Retired:
        """What was let go of until now."""

    def used_bytes(self) -> int:
        """What the journal takes on disk, but for what it needs at any rate, and what retired records left free."""

    def checkpoint(self) -> None:
        """Tidy up behind the appenders; the reader's work, so that they need not wait for it."""

    def close(self) -> None:
        """Let go of the files."""
