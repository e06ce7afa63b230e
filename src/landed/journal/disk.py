"""The room on disk that the journal may take, and what is left to others."""

from __future__ import annotations

import os
from pathlib import Path

from landed.errors import JournalUnable
from landed.journal import Journal
from landed.settings import Limits


class Disk:
    """The disk under the journal's path, and how much of it may be used."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._directory = path.parent
        self._limits = limits

    def shortage(self, journal: Journal) -> str | None:
        """What is beyond its bound, in a sentence; None when all is well."""
        limits = self._limits
        return self._shortage(
            journal,
            ("journal_bytes_max", limits.journal_bytes_max),
            ("free_bytes_min", limits.free_bytes_min),
        )

    def shortage_for_unverified(self, journal: Journal) -> str | None:
        """The same for what nobody signed, which leaves the last room to the rest."""
        limits = self._limits
        return self._shortage(
            journal,
            ("unverified_journal_share_max", int(limits.journal_bytes_max * limits.unverified_journal_share_max)),
            ("unverified_free_bytes_min", max(limits.free_bytes_min, limits.unverified_free_bytes_min)),
        )

    def _shortage(self, journal: Journal, most: tuple[str, int], least: tuple[str, int]) -> str | None:
        (most_name, journal_bytes_max), (least_name, free_bytes_min) = most, least
        try:
            disk = os.statvfs(self._directory)
            used = journal.used_bytes() if journal_bytes_max else 0
        except (OSError, JournalUnable) as error:
            return f"The disk of {self._directory} cannot be looked at: {error}."
        free = disk.f_bavail * disk.f_frsize
        if free < free_bytes_min:
            return f"The disk of {self._directory} has {free:,} free bytes, fewer than {least_name}."
        if journal_bytes_max and used > journal_bytes_max:
            return (
                f"The journal uses {used:,} bytes, more than {most_name} allows: raise it, or set journal_days, "
                "so that older records are retired."
            )
        return None
