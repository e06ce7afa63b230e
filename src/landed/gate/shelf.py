"""Where requests that a mount has judged wait for their commit, and the files that they are kept in."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import structlog

from landed.errors import JournalBroken, SurroundingsError
from landed.gate.http import COMMIT_BYTES_MAX, RECORD_BYTES
from landed.gate.judge import Verdict
from landed.gate.keeper import Keeper
from landed.gate.meter import Meter
from landed.journal.disk import Disk
from landed.journal.quarantine import FILE as QUARANTINE_FILE
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.sqlite import FILE, SqliteJournal
from landed.settings import Limits
from landed.vonage.request import Request

FORK_SECONDS_MAX = 10.0

# Through the standard library's logging, which the application around us has arranged as it likes.
log = structlog.wrap_logger(
    logging.getLogger("landed.mount"),
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.processors.KeyValueRenderer(key_order=["event"], sort_keys=True),
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
)


class Refused(Exception):
    """Answered with that status, and nothing is kept."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


class Waiting:
    """A judged request that waits for its commit; `status` is its answer behind that."""

    __slots__ = ("now_us", "peer", "request", "status", "verdict")

    def __init__(self, request: Request, verdict: Verdict, now_us: int, peer: str) -> None:
        self.request = request
        self.verdict = verdict
        self.now_us = now_us
        self.peer = peer
        self.status: HTTPStatus | None = None


class Room:
    """How many bytes of bodies are in memory, from their first byte to their answer, all together."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Take so much; refused when it is too much."""
        with self._lock:
            if self._bytes + size > self._bytes_max:
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE)
            self._bytes += size

    def give_back(self, size: int) -> None:
        """Let others have it."""
        with self._lock:
            self._bytes -= size


class Shelf:
    """Where what was judged waits, and the files it is kept in, of this very process.

    Whoever comes first commits for all who wait; the others find that it has been done. The files are
    opened at the first need. SQLite's connections must not be open across a fork: a child would hold no lock of the
    files that it opens, and when its parent is gone others take them for nobody's, and what it writes is lost. So they
    are closed before. Where a commit takes too long for that, the child forgets them, with its parent's locks and ids.
    https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
    """

    def __init__(self, data: Path, limits: Limits, meter: Meter) -> None:
        self._data = data
        self._limits = limits
        self._meter = meter
        self._inherited: list[object] = []
        self._files: list[SqliteJournal | SqliteQuarantine] = []
        self._keeper: Keeper | None
        self._start()

    def put(self, waiting: Waiting) -> Waiting:
        """Let it wait for the next commit."""
        if len(self._waiting) >= self._limits.in_flight_max:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE)
        self._waiting.append(waiting)
        return waiting

    def spare(self, given: Verdict, *, checks: bool) -> Verdict:
        """The verdict, or the one in its place when the disk need not or should not have it."""
        keeper = self._keeper
        return given if keeper is None else keeper.spare(given, checks=checks)

    def settle(self, waiting: Waiting) -> HTTPStatus:
        """The answer to what waits, once it is durable."""
        with self._committing:
            while waiting.status is None:
                self._commit()
            return waiting.status

    def close(self) -> None:
        """Let go of the files."""
        with self._committing:
            self._let_go()

    def hold(self) -> None:
        """Before a fork: let go of the files, and let nobody open them."""
        self._holds = self._committing.acquire(timeout=FORK_SECONDS_MAX)
        if self._holds:
            self._let_go()

    def go_on(self) -> None:
        """Behind a fork, where it was asked for."""
        if self._holds:
            self._committing.release()

    def forget(self) -> None:
        """Be as new, in the child of a fork."""
        self._inherited += [*self._files, self.thread]
        self._files = []
        self._start()

    def _start(self) -> None:
        self.able = True
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="landed")
        self._waiting: deque[Waiting] = deque()
        self._committing = threading.Lock()
        self._holds = False
        self._keeper = None
        self._is_broken = False

    def _let_go(self) -> None:
        self._keeper = None
        while self._files:
            self._files.pop().close()

    def _commit(self) -> None:
        batch = self._committed()
        answers = [each.status or HTTPStatus.SERVICE_UNAVAILABLE for each in batch]
        came_us = [each.now_us for each in batch]
        self._meter.answered([each.verdict for each in batch], answers, came_us, time.time_ns() // 1_000)
        self._meter.write_soon()

    def _committed(self) -> list[Waiting]:
        """What was taken for this commit, with its answers."""
        batch: list[Waiting] = []
        batch_bytes = 0
        while self._waiting and batch_bytes < COMMIT_BYTES_MAX:
            batch.append(self._waiting.popleft())
            batch_bytes += RECORD_BYTES + len(batch[-1].request.query) + len(batch[-1].request.body)
            # What stands when anything below fails.
            batch[-1].status = HTTPStatus.SERVICE_UNAVAILABLE
        keeper = self._opened()
        if keeper is None:
            return batch
        judged = [keeper.judged(each.request, each.verdict, each.now_us, each.peer) for each in batch]
        try:
            answers = keeper.commit(judged)
        except JournalBroken as error:
            # Whether the bytes are on disk cannot be known: no 2xx, and never another try.
            log.critical("journal.broken", error=str(error), advice="answered 503 until this process starts again")
            self._is_broken, self.able = True, False
            self._let_go()
            return batch
        self.able = keeper.able
        keeper.note(judged, answers)
        for each, answer in zip(batch, answers, strict=True):
            each.status = answer
        return batch

    def _opened(self) -> Keeper | None:
        if self._keeper is None and not self._is_broken:
            try:
                self._keeper = self._open()
            except (SurroundingsError, OSError) as error:
                self._let_go()
                if self.able:
                    log.error("journal.unable", error=str(error))  # noqa: TRY400 - the sentence says it all
                self.able = False
        return self._keeper

    def _open(self) -> Keeper:
        limits, path = self._limits, self._data / FILE
        self._data.mkdir(parents=True, exist_ok=True)
        journal = SqliteJournal(path, appends_much=True)
        self._files.append(journal)
        quarantine = SqliteQuarantine(
            self._data / QUARANTINE_FILE, rows_max=limits.quarantine_rows_max, bytes_max=limits.quarantine_bytes_max
        )
        self._files.append(quarantine)
        return Keeper(journal, quarantine, limits, Disk(path, limits), self._meter)
