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
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import apsw
import structlog

from landed.domain.events import Wanted, check_wanted
from landed.errors import LandedError, SettingsError, SurroundingsError, Unable
from landed.handlers import Handler, On, on
from landed.journal.quarantine import FILE as QUARANTINE_FILE
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.sqlite import FILE as JOURNAL_FILE
from landed.journal.sqlite import SqliteJournal
from landed.settings import EventSettings, Settings, SubscriberSettings, load
from landed.store.outbox import Kind, Origin, SecretKept, Subscriber, SubscriberState
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
TRY_AGAIN_LAST_SECONDS = 30.0
STEADY_SECONDS = 60.0
LEAVE_SECONDS = 3.0
# Who has just begun to work has a while to say whom it serves.
LOOK_ASIDE_SECONDS = 5.0

ADVICE_ON_MISSED = "nobody calls them: another worker runs on this data and knows them not, such as `landed serve`"

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
    """The subscribers that the settings name; SettingsError says of all that cannot be why."""
    subscribers, wrong = [], []
    for each in settings.subscriber:
        try:
            subscribers.append(_subscriber_of(each, settings.events))
        except SettingsError as error:
            wrong.append(f"Setting subscriber {each.name!r}: {error}")
    names = [each.name for each in subscribers]
    wrong += [f"Setting subscriber {name!r} is there twice." for name in sorted(set(names)) if names.count(name) > 1]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return subscribers


def _subscriber_of(named: SubscriberSettings, settings: EventSettings) -> Subscriber:
    kind = kind_of(named.url, settings)
    if (kind in SIGNED) != bool(named.secret):
        raise SettingsError(
            "A webhook needs a secret to be signed with, such as whsec_ and the base64 of 32 random bytes."
            if kind in SIGNED
            else "Nothing but a webhook is signed by a secret: take it out."
        )
    return Subscriber(
        name=check_name(named.name),
        kind=kind,
        address=named.url,
        wanted=check_wanted(named.wanted()),
        secrets=tuple(SecretKept(check_secret(secret.get_secret_value())) for secret in named.secret),
        origin=Origin.SETTINGS,
        created_us=clock_us(),
    )


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
        self.figures = self._dispatch.figures
        self.fold = FoldLoop(
            lambda: SqliteJournal(settings.data / JOURNAL_FILE),
            lambda: SqliteStore(self._store),
            heard,
            failed,
            journal_days=settings.journal_days,
            compiled=settings.compiled,
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

    Give it to `landed.Webhooks(worker=…)`, which starts it in each process that serves, or `start()` it there. Of
    several processes one works; when that one ends, another goes on. Handlers are those of `landed.on` that are
    registered by then, called in threads of this process, coroutine functions on a loop of the worker's own; each
    within `handler_seconds_max`.

    Raises SettingsError when settings or handlers are wrong. What the machine says no to is logged, and tried again.
    A fork is no matter, but for the child of one that is made while a handler is called: it cannot use landed's files.
    """

    def __init__(self, *, data: Path | str | None = None, settings: Settings | None = None, handlers: On = on) -> None:
        settings = settings or load(data=data)
        self._settings = settings if data is None else settings.model_copy(update={"data": Path(data)})
        self._handlers = handlers
        # What can be known to be wrong ends the application's start.
        subscribers_of(self._settings)
        handlers.handlers()
        self._starting = threading.Lock()
        self._shifts: list[_Shift] = []
        self._is_heir = False
        self._said = ""
        os.register_at_fork(before=self._hold, after_in_parent=self._go_on, after_in_child=self._forget)
        _at_exit(self.stop)

    @property
    def data(self) -> Path:
        """The directory on which it works."""
        return self._settings.data

    @property
    def works(self) -> bool:
        """Whether this process is the one that works."""
        return any(shift.works for shift in self._shifts)

    def start(self) -> None:
        """Work from now on, if no other does. May be called again and again, from any thread.

        SettingsError when the handlers are wrong; SurroundingsError in the child of a fork that cannot work.
        """
        if any(shift.stays for shift in self._shifts):
            return
        with self._starting:
            self._shifts = [shift for shift in self._shifts if shift.is_alive]
            if not any(shift.stays for shift in self._shifts):
                self._begin()

    def stop(self) -> None:
        """End, and let another process go on. Calls have a moment to return; those that do not are made again."""
        with self._starting:
            shifts = list(self._shifts)
        deadline = time.monotonic() + LEAVE_SECONDS
        for shift in shifts:
            shift.leave()
        for shift in shifts:
            shift.join(deadline - time.monotonic())

    def _begin(self) -> None:
        if self._is_heir:
            raise SurroundingsError(
                "This process was forked from one in which landed called a handler, so it cannot use landed's files: "
                "let the server start its processes before it serves, or start this one by exec."
            )
        shift = _Shift(self._settings, self._handlers.handlers())
        _log_as_the_application_does()
        try:
            shift.start()
        except RuntimeError as error:
            # The machine has no thread left to give. The application can do without, and asks again.
            if str(error) != self._said:
                log.error("worker.waits", error=str(error))  # noqa: TRY400 - the sentence says it all
            self._said = str(error)
        else:
            self._shifts.append(shift)

    def _hold(self) -> None:
        """Before a fork: see to it that there is nothing that a child must not have."""
        self._starting.acquire()
        for shift in self._shifts:
            shift.hold()

    def _go_on(self) -> None:
        """Behind a fork, where it was asked for."""
        for shift in self._shifts:
            shift.go_on()
        self._starting.release()

    def _forget(self) -> None:
        """Behind a fork, in the child: be as new."""
        were_at_work = [shift.abandon() for shift in self._shifts]
        self._is_heir = self._is_heir or any(were_at_work)
        self._shifts = []
        self._starting = threading.Lock()


class _Shift:
    """A thread that waits until it may work, and works until it is told to leave.

    SQLite's connections must not be open across a fork: the child would hold no lock of the files that it opens, and
    what it writes can be lost. So the thread lets go of them before each, and goes on a moment later.
    https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
    """

    def __init__(self, settings: Settings, handlers: Sequence[Handler]) -> None:
        self._settings = settings
        self._handlers = handlers
        self._thread = threading.Thread(target=self._run, name="landed-worker", daemon=True)
        self._leaves = threading.Event()
        # Held while the thread takes the worker's lock, and while the process forks.
        self._taking = threading.Lock()
        self._lock: IO[str] | None = None
        self._rests = threading.Event()
        self._pauses = False
        self._calls: Calls | None = None
        self._wake: Callable[[], object] | None = None
        self._said = ""
        self._missed: list[str] = []
        self._look_at = time.monotonic() + LOOK_ASIDE_SECONDS

    @property
    def is_alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    @property
    def stays(self) -> bool:
        """Whether it goes on."""
        return self.is_alive and not self._leaves.is_set()

    @property
    def works(self) -> bool:
        """Whether it holds the worker's lock."""
        return self._lock is not None

    def start(self) -> None:
        """Begin. RuntimeError when there is no thread to be had."""
        self._thread.start()

    def leave(self) -> None:
        """End soon."""
        self._leaves.set()
        self._end_work()

    def join(self, seconds: float) -> None:
        """Wait for the end, so long at most."""
        if self._thread is not threading.current_thread():
            self._thread.join(max(seconds, 0.0))

    def hold(self) -> None:
        """Let go of all files, unless a call is under way: none is cut for a fork, which may even be its own."""
        self._taking.acquire()
        if self.works and not (self._calls and self._calls.under_way):
            self._pauses = True
            self._end_work()
            self._rests.wait(LEAVE_SECONDS)

    def go_on(self) -> None:
        """Work again."""
        self._pauses = False
        self._taking.release()

    def abandon(self) -> bool:
        """In the child of a fork: whether files were open. A copy of the lock would hold it when the parent is gone."""
        if self._lock is None:
            return False
        self._lock.close()
        return True

    def _run(self) -> None:
        wait_seconds = TRY_AGAIN_SECONDS
        while not self._leaves.is_set():
            began = time.monotonic()
            try:
                if self._takes_lock():
                    asyncio.run(self._work())
                else:
                    self._look_aside()
                wait_seconds = TRY_AGAIN_SECONDS
            except Exception as error:  # noqa: BLE001 - whatever it is, handlers must not be forgotten for it
                if time.monotonic() - began > STEADY_SECONDS:
                    self._said, wait_seconds = "", TRY_AGAIN_SECONDS
                self._say(error)
                wait_seconds = min(wait_seconds * 2, TRY_AGAIN_LAST_SECONDS)
            finally:
                self._let_go()
            self._leaves.wait(wait_seconds)

    def _takes_lock(self) -> bool:
        with self._taking:
            data = self._settings.data
            try:
                data.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Unable(f"The data directory {data} cannot be made ({error.strerror}).") from error
            file = _lock_file(data)
            if not _is_locked(file):
                file.close()
                return False
            self._rests.clear()
            self._lock = file
            return True

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
        self._lock = None
        self._rests.set()

    def _end_work(self) -> None:
        # Its loop may be closed by now.
        with suppress(RuntimeError):
            if (wake := self._wake) is not None:
                wake()

    async def _work(self) -> None:
        """Work until told to leave, or until it fails, which is raised."""
        loop = asyncio.get_running_loop()
        failures: list[BaseException] = []
        ended = asyncio.Event()

        def failed(error: BaseException) -> None:
            failures.append(error)
            loop.call_soon_threadsafe(ended.set)

        self._wake = lambda: loop.call_soon_threadsafe(ended.set)
        # It may have been told before there was a loop to tell.
        if self._leaves.is_set() or self._pauses:
            return
        data = self._settings.data
        SqliteJournal(data / JOURNAL_FILE).close()
        SqliteQuarantine(data / QUARANTINE_FILE).close()
        named = [(handler.name, handler.wanted) for handler in self._handlers]
        self._calls = Calls(self._handlers, self._settings.events)
        work = Work(self._settings, None, failed, calls=self._calls, named=named)
        work.start()
        log.info("worker.works", data=str(data), handlers=[name for name, _ in named])
        await ended.wait()
        await work.stop()
        if failures:
            raise failures[0]

    def _look_aside(self) -> None:
        """Say so when whoever works does not know our handlers, so that nobody calls them."""
        if not self._handlers or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_ASIDE_SECONDS
        store = self._settings.data / STORE_FILE
        with self._taking, closing(SqliteOutbox(store, only_read=True)) as outbox:
            known = {each.name for each in outbox.subscribers() if each.state is not SubscriberState.ABSENT}
        missed = [handler.name for handler in self._handlers if handler.name not in known]
        if missed and missed != self._missed:
            log.warning("handlers.wait", handlers=missed, advice=ADVICE_ON_MISSED, data=str(self._settings.data))
        self._missed = missed

    def _say(self, error: Exception) -> None:
        """Once, not at each try: it often waits for the very disk that the log is on."""
        if str(error) == self._said:
            return
        self._said = str(error)
        if isinstance(error, LandedError | OSError | apsw.Error):
            log.error("worker.waits", error=str(error))
        else:
            log.error("worker.waits", error=str(error), exc_info=error)


def _at_exit(end: Callable[[], None]) -> None:
    """Have that called when the process ends, while threads can still do their work.

    `atexit` is too late: by then no pool of threads takes anything any more, and calls could not be written down.
    """
    with suppress(RuntimeError):
        getattr(threading, "_register_atexit", atexit.register)(end)


def _log_as_the_application_does() -> None:
    """Let our lines go through the standard library's logging, where the application has not arranged structlog.

    Its own lines, if it uses structlog as it comes, stay as they are.
    """
    if structlog.is_configured():
        return
    usual = structlog.get_config()["processors"]
    ours = (
        structlog.stdlib.filter_by_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["event"], sort_keys=True),
    )

    def processed(logger: Any, method: str, event: Any) -> Any:  # noqa: ANN401 - as structlog has it
        for process in ours if isinstance(logger, logging.Logger) else usual:
            event = process(logger, method, event)
        return event

    def logger_for(*names: str) -> Any:  # noqa: ANN401 - the same
        is_ours = names[:1] and names[0].partition(".")[0] == "landed"
        return logging.getLogger(names[0]) if is_ours else structlog.PrintLogger()

    structlog.configure(processors=[processed], logger_factory=logger_for, cache_logger_on_first_use=False)
