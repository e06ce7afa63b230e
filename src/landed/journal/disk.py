"""The room on disk that the journal may take, and what is left to others."""

from __future__ import annotations

import os
from pathlib import Path

from landed.errors import JournalUnable
from landed.journal import Journal


class Disk:
    """The disk under the journal's path, and how much of it may be used."""

    def __init__(self, path: Path, *, journal_bytes_max: int, free_bytes_min: int) -> None:
        self._directory = path.parent
        self._journal_bytes_max = journal_bytes_max
        self._free_bytes_min = free_bytes_min

    def shortage(self, journal: Journal) -> str | None:
        """What is beyond its bound, in a sentence; None when all is well."""
        try:
            disk = os.statvfs(self._directory)
            used = journal.used_bytes() if self._journal_bytes_max else 0
        except (OSError, JournalUnable) as error:
            return f"The disk of {self._directory} cannot be looked at: {error}."
        free = disk.f_bavail * disk.f_frsize
        if free < self._free_bytes_min:
            return f"The disk of {self._directory} has {free:,} free bytes, fewer than free_bytes_min."
        if self._journal_bytes_max and used > self._journal_bytes_max:
            return (
                f"The journal uses {used:,} bytes, more than journal_bytes_max: raise it, or set journal_days, "
                "so that older records are retired."
            )
        return None
