"""Retention of the journal in days: what is older leaves it, once the store has it past any power cut.

A little at a time beside the fold, so that appenders wait for milliseconds. What is retired is told by
the store alone from then on, and a rebuild carries it over as it stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from landed.errors import JournalUnable
from landed.journal import Journal
from landed.store import Store

US_A_DAY = 24 * 60 * 60 * 1_000_000

log = structlog.get_logger("landed.retention")


def clock_us() -> int:
    """The time of this machine, in microseconds since 1970.

    Not that of the newest record, as elsewhere: a journal without room has no new ones until some are retired.
    """
    return time.time_ns() // 1_000


class Retention:
    """Lets go of records that are older than `days`; 0 keeps all for ever."""

    def __init__(self, journal: Journal, store: Store, days: int, now_us: Callable[[], int] = clock_us) -> None:
        self._journal = journal
        self._store = store
        self._days = days
        self._now_us = now_us
        self._upto = 0
        self._before_us = 0
        self._retired = 0

    def begin(self, upto: int) -> None:
        """Retire what is old enough now, up to a position that the store has folded, if it has that for certain."""
        if not self._days:
            return
        if not self._store.settle():
            log.warning("retention.waits", advice="whoever reads the store for long, or its disk, holds it up")
            return
        self._upto = upto
        self._before_us = self._now_us() - self._days * US_A_DAY

    def step(self) -> bool:
        """Retire a bounded part of it; whether there was any."""
        if not self._upto:
            return False
        try:
            count = self._journal.retire(self._upto, self._before_us)
        except JournalUnable as error:
            # Nothing was retired, which harms nobody now; it begins again in a minute.
            log.error("retention.waits", error=str(error))  # noqa: TRY400 - the sentence says it all
            count = 0
        self._retired += count
        if not count:
            self._end()
        return count > 0

    def _end(self) -> None:
        self._upto = 0
        if self._retired:
            log.info("retention.retired", records=self._retired, days=self._days)
        self._retired = 0
