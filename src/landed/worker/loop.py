"""The fold's own thread: folds as long as it may, rarely and much, and says how it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime

import structlog

from landed.errors import JournalUnable, StoreUnable, Unable
from landed.journal import Journal
from landed.store import Progress, Store
from landed.worker.fold import Fold, Heard
from landed.worker.retention import Retention

IDLE_SECONDS = 0.02
# Commits of the fold slow the gate's: let what comes meanwhile share the next one.
BETWEEN_BATCHES_SECONDS = 0.05
CHECKPOINT_SECONDS = 1.0
RETRY_SECONDS = 1.0
LOOK_SECONDS = 1.0
LAST_BATCHES_SECONDS = 1.5
LEDGER_SECONDS = 60.0

log = structlog.get_logger("landed.fold")


class FoldLoop:
    """Runs a fold in a thread; `failed` is told, from there, of the error that ended it.

    A disk that is full or a file that is held ends nothing: it waits and tries again. One that the kernel made
    read-only ends it, so that nobody holds a file of it and it can be repaired. Records older than `journal_days` are
    retired from the journal, up to where the ledger was even a minute ago.
    """

    def __init__(  # noqa: PLR0913 - its two doors, whom it tells, and what bounds it
        self,
        open_journal: Callable[[], Journal],
        open_store: Callable[[], Store],
        heard: Heard | None,
        failed: Callable[[BaseException], None],
        *,
        journal_days: int = 0,
        compiled: bool = True,
        is_writable: Callable[[], bool] = lambda: True,
    ) -> None:
        self._is_writable = is_writable
        self._looked = time.monotonic()
        self._open_journal = open_journal
        self._open_store = open_store
        self._heard = heard
        self._failed = failed
        self._journal_days = journal_days
        self._compiled = compiled
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fold", daemon=True)
        self._checkpointed = time.monotonic()
        self._ledger: Progress | None = None
        self._ledger_at = time.monotonic()
        self.ledger_is_even = True
        self.ledger_checked_at: datetime | None = None
        self.progress: Progress | None = None
        self.behind = 0

    def start(self) -> None:
        """Begin to fold."""
        self._thread.start()

    def stop(self) -> None:
        """Fold what is there, for a moment at most, and end."""
        self._stop.set()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the fold goes on."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            with closing(self._open_journal()) as journal, closing(self._open_store()) as store:
                self._fold(journal, store)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the process must hear of it
            self._failed(error)

    def _fold(self, journal: Journal, store: Store) -> None:
        fold: Fold | None = None
        retention = Retention(journal, store, self._journal_days)
        waits = False
        while not self._stop.is_set():
            try:
                fold = fold or Fold(journal, store, self._heard, compiled=self._compiled)
                self._ledger = self._ledger or fold.progress
                pause, waits = self._round(journal, fold, retention), False
            except (StoreUnable, JournalUnable) as error:
                # Said once, not at each try: it often waits for the very disk that the log is on.
                if not waits:
                    log.error("fold.waits", error=str(error))  # noqa: TRY400 - the sentence says it all
                pause, waits = RETRY_SECONDS, True
            self._stop.wait(pause)
        deadline = time.monotonic() + LAST_BATCHES_SECONDS
        with suppress(StoreUnable, JournalUnable):
            while fold is not None and time.monotonic() < deadline and fold.step():
                pass

    def _round(self, journal: Journal, fold: Fold, retention: Retention) -> float:
        """Fold a batch and tidy up; the seconds to wait before the next."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            # Who has nothing to write would never find out.
            if not self._is_writable():
                raise Unable("The data directory can no longer be written: its file system is read-only.")
        folded = fold.step()
        self.progress = fold.progress
        self.behind = journal.last_position() - fold.progress.position
        has_written = retention.step() or folded > 0
        if has_written and time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS:
            journal.checkpoint()
            self._checkpointed = time.monotonic()
        if time.monotonic() - self._ledger_at > LEDGER_SECONDS:
            self._ledger_at = time.monotonic()
            counted = self._ledger
            self.check_ledger(journal, fold.progress)
            # Not up to here: what is retired was counted, and folded for a minute at least.
            if counted is not None and self.ledger_is_even:
                retention.begin(counted.position)
        if fold.was_full:
            return 0
        return BETWEEN_BATCHES_SECONDS if folded else IDLE_SECONDS

    def check_ledger(self, journal: Journal, progress: Progress) -> None:
        """Count the requests folded since the last check in the journal itself; a difference is an alarm."""
        since, self._ledger = self._ledger, progress
        counted = journal.count_requests(since.position, progress.position) if since else 0
        folded = progress.tally.received - since.tally.received if since else 0
        self.ledger_checked_at = datetime.now(UTC)
        self.ledger_is_even = self.ledger_is_even and counted == folded and progress.tally.is_even
        if not self.ledger_is_even:
            log.critical("ledger.differs", journal_has=counted, fold_took=folded, position=progress.position)
