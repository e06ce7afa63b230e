"""Reads the road's figures from the data directory, for health, `/metrics` and the page."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec

from landed.api.metrics import Attempts, GateFigures, Health, Road, SubscriberFigures
from landed.domain.moments import moment
from landed.errors import LandedError
from landed.journal.quarantine import FILE as QUARANTINE_FILE
from landed.journal.quarantine import SqliteQuarantine, Totals
from landed.journal.record import decode
from landed.journal.sqlite import FILE as JOURNAL_FILE
from landed.journal.sqlite import SqliteJournal
from landed.store import Tally
from landed.store.outbox import Backlog, Subscriber
from landed.store.sqlite import FILE as STORE_FILE
from landed.store.sqlite import SqliteReader
from landed.store.sqlite_outbox import SqliteOutbox

FILES: Mapping[str, str] = {"journal": JOURNAL_FILE, "store": STORE_FILE, "quarantine": QUARANTINE_FILE}
# Counting some millions of messages takes a second: it is done for a twentieth of the time at most.
PAUSES_PER_COUNT = 20


class FoldState(msgspec.Struct, frozen=True, kw_only=True):
    """What only the fold's own process knows: whether it goes on, and what the last count of the ledger said."""

    folding: bool
    ledger_is_even: bool = True
    ledger_checked_at: datetime | None = None


class RoadWatch:
    """Looks at one data directory, from any thread.

    `fold` says how the fold is, `gates` what gates counted, `attempts` what came of those at subscribers, by name.
    """

    def __init__(
        self,
        data: Path,
        fold: Callable[[], FoldState],
        gates: Callable[[], GateFigures],
        attempts: Callable[[], Mapping[str, Attempts]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data = data
        self._fold = fold
        self._gates = gates
        self._attempts = attempts
        self._clock = clock
        self._outcomes: Mapping[str, int] = {}
        self._count_at = 0.0
        self._counting = threading.Lock()

    def health(self) -> Health:
        """How the fold is, and how far behind."""
        with closing(SqliteReader(self._data / STORE_FILE)) as reader:
            progress = reader.progress()
        position = progress.position if progress else 0
        with closing(SqliteJournal(self._data / JOURNAL_FILE, only_read=True)) as journal:
            return self._health(journal, position)

    def look(self) -> Road:
        """All figures of now."""
        # The gates first and the journal last: what gates had kept by then is in the journal behind it,
        # and what was folded is, too.
        gates, fold = self._gates(), self._fold()
        with closing(SqliteReader(self._data / STORE_FILE)) as reader:
            progress = reader.progress()
            outcomes = self._count_outcomes(reader)
        with closing(SqliteOutbox(self._data / STORE_FILE, only_read=True)) as outbox:
            events, subscribers = outbox.newest(), self._subscribers(outbox)
        position, tally = (progress.position, progress.tally) if progress else (0, Tally())
        with closing(SqliteJournal(self._data / JOURNAL_FILE, only_read=True)) as journal:
            road = Road(
                health=self._health(journal, position),
                epoch=journal.epoch,
                tally=tally,
                waiting=journal.count_requests(position, journal.last_position()),
                checked_at=fold.ledger_checked_at,
                outcomes=outcomes,
                quarantine=self._totals(),
                file_bytes={part: _bytes_of(self._data / file) for part, file in FILES.items()},
                free_bytes=shutil.disk_usage(self._data).free,
                gates=gates,
                events=events,
                subscribers=subscribers,
            )
        is_even = fold.ledger_is_even and tally.is_even and road.kept <= road.received
        return msgspec.structs.replace(road, is_even=is_even)

    def _health(self, journal: SqliteJournal, position: int) -> Health:
        behind = journal.last_position() - position
        first = journal.read(position, 1)
        waits = (datetime.now(UTC) - moment(decode(first[0][1]).at_us)).total_seconds() if first else 0.0
        return Health(
            folding=self._fold().folding, position=position, behind=max(behind, 0), lag_seconds=max(waits, 0.0)
        )

    def _subscribers(self, outbox: SqliteOutbox) -> list[SubscriberFigures]:
        """Who gets events; one that came or went meanwhile is left out."""
        attempts, several, backlogs = self._attempts(), outbox.subscribers(), outbox.backlogs()
        return [
            _figures(each, backlogs[each.row], attempts.get(each.name, Attempts()))
            for each in several
            if each.row in backlogs
        ]

    def _totals(self) -> Totals | None:
        with (
            suppress(LandedError, apsw.Error),
            closing(SqliteQuarantine(self._data / QUARANTINE_FILE, only_read=True)) as quarantine,
        ):
            return quarantine.totals()
        return None

    def _count_outcomes(self, reader: SqliteReader) -> Mapping[str, int]:
        if self._clock() >= self._count_at and self._counting.acquire(blocking=False):
            try:
                began = self._clock()
                self._outcomes = {str(outcome): count for outcome, count in reader.outcomes().items()}
                ended = self._clock()
                self._count_at = ended + PAUSES_PER_COUNT * (ended - began)
            finally:
                self._counting.release()
        return self._outcomes


def _figures(subscriber: Subscriber, backlog: Backlog, attempts: Attempts) -> SubscriberFigures:
    now = datetime.now(UTC)
    return SubscriberFigures(
        name=subscriber.name,
        kind=subscriber.kind,
        state=subscriber.state,
        backlog=backlog,
        oldest_seconds=max((now - (backlog.oldest_at or now)).total_seconds(), 0.0),
        attempts=attempts,
    )


def _bytes_of(file: Path) -> int:
    sizes = []
    for each in (file, file.with_name(file.name + "-wal")):
        with suppress(FileNotFoundError):
            sizes.append(each.stat().st_size)
    return sum(sizes)
