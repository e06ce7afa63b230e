"""A worker's work: it folds, brings events to who wants them, and says what it sees. One at a time on a data directory.

`landed serve` has a process for it. Where none runs, `landed.Worker` does the same inside an application, in a thread
of its own: of several processes one works, and another goes on when that one is gone.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import fcntl
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import apsw
import structlog

from landed.domain.events import Wanted
from landed.errors import LandedError, SurroundingsError, Unable
from landed.handlers import On, on
from landed.journal.quarantine import FILE as QUARANTINE_FILE
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.sqlite import FILE as JOURNAL_FILE
from landed.journal.sqlite import SqliteJournal
from landed.settings import EventSettings, Settings, load
from landed.store.outbox import Kind, Origin, SecretKept, Subscriber
from landed.store.sqlite import FILE as STORE_FILE
from landed.store.sqlite import SqliteStore
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker.calls import Calls
from landed.worker.dispatch import Dispatch, clock_us
from landed.worker.fold import Heard
from landed.worker.growing import LOOK_SECONDS, say_growing
from landed.worker.lane import Manner
from landed.worker.letters import Carrier
from landed.worker.loop import FoldLoop
from landed.worker.nats import Nats
from landed.worker.people import People
from landed.worker.subscribing import SIGNED, check_name, enrol, kind_of
from landed.worker.webhook import Webhook, check_secret

LOCK_FILE = "worker.lock"
# Of what people get, more than these together would be told in the next message.
TOLD_TOGETHER_MAX = 10_000
TRY_AGAIN_SECONDS = 1.0
LEAVE_SECONDS = 3.0

log = structlog.get_logger("landed")

Named = Sequence[tuple[str, Wanted]]


@contextmanager
def only_worker(data: Path) -> Iterator[None]:
    """Hold the worker's lock: one fold at a time may write to a store."""
    with closing(_lock_file(data)) as file:
        if not _is_locked(file):
            raise SurroundingsError(
                f"Another worker runs on {data}: stop it first, or name another directory with --data."
            )
        yield


def worker_runs(data: Path) -> bool:
    """Whether a worker holds the lock."""
    lock = data / LOCK_FILE
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _lock_file(data: Path) -> IO[str]:
    try:
        return (data / LOCK_FILE).open("a+")
    except OSError as error:
        raise Unable(f"{data / LOCK_FILE} cannot be opened ({error.strerror}): check its directory.") from error


def _is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_writable(data: Path) -> bool:
    """Whether the file system still takes a change; after an error, recent Linux tells of it by no flag, only so."""
    try:
        os.utime(data / LOCK_FILE)
    except OSError as error:
        return error.errno != errno.EROFS
    return True


def subscribers_of(settings: Settings) -> list[Subscriber]:
    """The subscribers that the settings name; SettingsError when one of them cannot be."""
    return [
        Subscriber(
            name=check_name(each.name),
            kind=(kind := kind_of(each.url, settings.events)),
            address=each.url,
            wanted=each.wanted(),
            secrets=tuple(SecretKept(check_secret(secret.get_secret_value())) for secret in each.secret)
            if kind in SIGNED
            else (),
            origin=Origin.SETTINGS,
            created_us=clock_us(),
        )
        for each in settings.subscriber
    ]


def manners_of(settings: EventSettings) -> dict[Kind, Manner]:
    """How each kind of subscriber is served."""
    usual = Manner(concurrency=settings.concurrency)
    together = Manner(concurrency=1, together_max=TOLD_TOGETHER_MAX, every_seconds=settings.digest_seconds)
    return {Kind.WEBHOOK: usual, Kind.NATS: usual, Kind.HANDLER: usual, Kind.PEOPLE: together}


def carriers_of(settings: EventSettings) -> dict[Kind, Carrier]:
    """Who brings events to each kind of subscriber, but for handlers."""
    return {Kind.WEBHOOK: Webhook(settings), Kind.NATS: Nats(settings), Kind.PEOPLE: People(settings)}


class Work:
    """The worker's parts on one loop. `failed` is told of the error that ended one, from any thread.

    `calls` carries events to the handlers that are `named`. It is started within the loop, by whoever holds the lock.
    """

    def __init__(
        self,
        settings: Settings,
        heard: Heard | None,
        failed: Callable[[BaseException], None],
        *,
        calls: Carrier | None = None,
        named: Named = (),
    ) -> None:
        self._settings = settings
        self._failed = failed
        self._named = named
        self._subscribers = subscribers_of(settings)
        self._store = settings.data / STORE_FILE
        events = settings.events
        carriers = carriers_of(events)
        if calls is not None:
            carriers[Kind.HANDLER] = calls
        self._dispatch = Dispatch(lambda: SqliteOutbox(self._store), carriers, manners_of(events), days=events.days)
        self.fold = FoldLoop(
            lambda: SqliteJournal(settings.data / JOURNAL_FILE),
            lambda: SqliteStore(self._store),
            heard,
            failed,
            journal_days=settings.journal_days,
            is_writable=lambda: _is_writable(settings.data),
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin. Unable or SettingsError when it cannot."""
        with closing(SqliteOutbox(self._store)) as outbox:
            enrol(outbox, self._subscribers, Origin.SETTINGS)
            enrol(outbox, [_subscriber(name, wanted) for name, wanted in self._named], Origin.HANDLERS)
        self.fold.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._dispatched()), loop.create_task(self._watched())]

    async def stop(self) -> None:
        """Fold what is there and bring what is on its way, for a moment at most, and end."""
        self._dispatch.leave()
        dispatching, watching = self._tasks
        watching.cancel()
        await asyncio.gather(dispatching, asyncio.to_thread(self.fold.stop))

    async def _dispatched(self) -> None:
        try:
            await self._dispatch.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must hear of it
            self._failed(error)

    async def _watched(self) -> None:
        """Look at the quarantine from time to time."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(self._look)
            except (LandedError, apsw.Error) as error:
                log.error("quarantine.unable", error=str(error))  # noqa: TRY400 - the sentence says it all

    def _look(self) -> None:
        path = self._settings.data / QUARANTINE_FILE
        with closing(SqliteOutbox(self._store)) as outbox, closing(SqliteQuarantine(path, only_read=True)) as held:
            say_growing(outbox, held.totals().rows, held.reasons_since, clock_us())


def _subscriber(name: str, wanted: Wanted) -> Subscriber:
    return Subscriber(
        name=name, kind=Kind.HANDLER, address=name, wanted=wanted, origin=Origin.HANDLERS, created_us=clock_us()
    )


class Worker:
    """Folds receipts and calls handlers inside an application, unless a worker runs elsewhere on the same data.

    Give it to `landed.Webhooks(worker=…)`, which starts it in each process with the first webhook, or `start()` it. Of
    several processes one works; when that one ends, another goes on. Handlers are those of `landed.on`, called in
    threads of this process, each within `handler_seconds_max`.
    """

    def __init__(self, *, data: Path | str | None = None, settings: Settings | None = None, handlers: On = on) -> None:
        self._settings = settings or load(data=data)
        self._handlers = handlers
        self._thread: threading.Thread | None = None
        self._lock: IO[str] | None = None
        self._be_new()
        forget = weakref.WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (of_us := forget()) and of_us())

    @property
    def works(self) -> bool:
        """Whether this process is the one that works."""
        return self._lock is not None

    def start(self) -> None:
        """Work from now on, if no other does. May be called again and again, from any thread."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None:
                _log_as_the_application_does()
                self._thread = threading.Thread(target=self._run, name="landed-worker", daemon=True)
                self._thread.start()
                atexit.register(self.stop)

    def stop(self) -> None:
        """End, and let another process go on."""
        self._leaves.set()
        if self._thread is not None:
            self._thread.join(LEAVE_SECONDS)
        atexit.unregister(self.stop)

    def _be_new(self) -> None:
        self._starting = threading.Lock()
        self._leaves = threading.Event()
        self._thread = None
        self._lock = None

    def _forget(self) -> None:
        """Be as new, in the child of a fork; a copy of the lock there would hold it when this process is gone."""
        if self._lock is not None:
            self._lock.close()
        self._be_new()

    def _run(self) -> None:
        said = ""
        while not self._leaves.is_set():
            try:
                self._settings.data.mkdir(parents=True, exist_ok=True)
                with closing(_lock_file(self._settings.data)) as file:
                    if _is_locked(file):
                        self._lock = file
                        asyncio.run(self._work())
            except (LandedError, OSError, apsw.Error) as error:
                # Said once, not at each try.
                if str(error) != said:
                    log.error("worker.waits", error=str(error))  # noqa: TRY400 - the sentence says it all
                said = str(error)
            finally:
                self._lock = None
            self._leaves.wait(TRY_AGAIN_SECONDS)

    async def _work(self) -> None:
        """Work until told to leave, or until it fails, which is raised."""
        loop = asyncio.get_running_loop()
        failures: list[BaseException] = []
        ended = asyncio.Event()

        def failed(error: BaseException) -> None:
            failures.append(error)
            loop.call_soon_threadsafe(ended.set)

        SqliteJournal(self._settings.data / JOURNAL_FILE).close()
        handlers = self._handlers.handlers()
        named = [(handler.name, handler.wanted) for handler in handlers]
        calls = Calls(handlers, self._settings.events)
        work = Work(self._settings, None, failed, calls=calls, named=named)
        work.start()
        log.info("worker.works", data=str(self._settings.data), handlers=len(named))
        leaving = loop.create_task(asyncio.to_thread(self._leaves.wait))
        leaving.add_done_callback(lambda _: ended.set())
        await ended.wait()
        await work.stop()
        if failures:
            raise failures[0]


def _log_as_the_application_does() -> None:
    """Log through the standard library's logging, where the application has not arranged structlog itself."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.KeyValueRenderer(key_order=["event"], sort_keys=True),
        ],
        logger_factory=lambda *names: logging.getLogger(*names[:1]),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
