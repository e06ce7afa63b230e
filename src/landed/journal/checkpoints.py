"""Keeps the log behind a busy appender short, in a thread beside it.

The commit that finds the log full copies it into the file, and waits for the disk to have it, while all wait: 64 MiB
took 150 ms (measured). What this thread has copied before, and brought to the disk, without anybody waiting, that
commit need not. It has a connection of its own, and does nothing while little is appended, which the worker sees to.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import closing, suppress

import structlog

from landed.errors import JournalUnable, LandedError
from landed.journal.sqlite import SqliteJournal
from landed.sqlite import descriptors_of

LOOK_SECONDS = 0.005
APPENDED_BYTES = 1024 * 1024

log = structlog.get_logger("landed.journal")


class Checkpoints:
    """Checkpoints behind `journal`, of whose file `open_again` gives another connection.

    A checkpoint that fails takes nothing from what was committed, which is on disk in the log and stays there: the
    thread ends, and the commits go on. It ends after a sync that failed in particular, since the next one might say
    that all is well.
    """

    def __init__(self, journal: SqliteJournal, open_again: Callable[[], SqliteJournal]) -> None:
        self._journal = journal
        self._open_again = open_again
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End, behind the checkpoint that is under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            before = descriptors_of(self._journal.path)
            with closing(self._open_again()) as journal:
                # Its own: a failed sync is told once to each, and the appender's must be told to SQLite.
                own = descriptors_of(journal.path) - before
                self._checkpoint(journal, own.pop() if len(own) == 1 else None)
        except (LandedError, OSError) as error:
            log.error("checkpoints.ended", error=str(error))  # noqa: TRY400 - the sentence says it all

    def _checkpoint(self, journal: SqliteJournal, descriptor: int | None) -> None:
        upto = self._journal.appended_bytes
        while not self._stop.wait(LOOK_SECONDS):
            appended = self._journal.appended_bytes
            if appended - upto >= APPENDED_BYTES:
                upto = appended
                # On a disk that says no there will be another time.
                with suppress(JournalUnable):
                    journal.checkpoint()
                # SQLite does so only when nothing was committed meanwhile.
                if descriptor is not None:
                    os.fdatasync(descriptor)
