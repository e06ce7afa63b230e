"""Composition: the one room that knows every door. Starts the processes and wires their parts.

`landed serve` is a small parent that owns the listening sockets and starts its children, a gate or several and the
worker, because CPython's lock makes one process do both badly. A child that dies is started again;
one that exits with 2 or 3 (wrong settings, wrong surroundings) ends the parent with the same. The
children hold the read end of a pipe whose write end is the parent's: when the parent is gone, however
it went, they leave too.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from datetime import datetime
from pathlib import Path

import apsw
import structlog
import uvicorn
import uvloop
from msgspec.structs import replace

from landed import __version__
from landed.api.app import create_app
from landed.api.metrics import RESULTS, Attempts, Buckets, GateFigures
from landed.api.road import FoldState, RoadWatch
from landed.asgi import Unsignalled
from landed.errors import JournalBroken, LandedError, SettingsError, SurroundingsError, Unable
from landed.gate.closed import ClosedDoor
from landed.gate.http import Gate
from landed.gate.judge import ANSWERS, Judge, keyring_of, windows_of
from landed.gate.keeper import Keeper
from landed.gate.meter import BATCH_BOUNDS, TIME_BOUNDS_US, UNVERIFIED, Histogram, Meter, figures_in
from landed.journal.checkpoints import Checkpoints
from landed.journal.disk import Disk
from landed.journal.quarantine import FILE as QUARANTINE_FILE
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.record import Record, encode
from landed.journal.sqlite import FILE as JOURNAL_FILE
from landed.journal.sqlite import SqliteJournal
from landed.onboarding.asking import Told, look_farther
from landed.onboarding.look import look_at
from landed.onboarding.seen import Seen
from landed.settings import FILE as SETTINGS_FILE
from landed.settings import Settings
from landed.store import Tally
from landed.store.sqlite import FILE as STORE_FILE
from landed.store.sqlite import SqliteReader, SqliteStore
from landed.vonage.signing import Keyring
from landed.work import Work, only_worker, subscribers_of, worker_runs
from landed.worker.apart import Apart
from landed.worker.dispatch import Figures
from landed.worker.fold import Fold, Heard
from landed.worker.loop import LEDGER_SECONDS, FoldLoop

EXIT_DONE = 0
EXIT_NO = 1
FINAL_EXITS = (SettingsError.exit_code, SurroundingsError.exit_code)

REBUILD_FILE = "rebuild.db"
BACKLOG = 2_048
# uvloop accepts one connection a turn of its loop for each server; in a flood of new ones a turn is long.
ACCEPTED_A_TURN = 16
LOOK_AT_FILE_SECONDS = 1.0
OPEN_AGAIN_SECONDS = 1.0
COLLECT_AFTER_OBJECTS = 100_000
# Where gates and a worker share the cores, receiving goes before understanding, which can catch up later.
NICENESS_OF_WORKER = 5
# Open files beside the connections: the journal's, and clients that are turned away.
DESCRIPTORS_BESIDE = 512
PRIVATE_CONNECTIONS_MAX = 256

TEND_SECONDS = 0.1
STOP_SECONDS = 5.0
GATE_DRAIN_SECONDS = 1.5
BACK_OFF_FIRST_SECONDS = 0.2
BACK_OFF_LAST_SECONDS = 30.0
# While the gate is away nothing is kept, so it never stays away for long.
BACK_OFF_LAST_OF_GATE_SECONDS = 1.0
STEADY_SECONDS = 60.0
SECOND_US = 1_000_000

ADVICE_ON_CLOSED = "all is answered 503 until they can be opened: look after the disk"

log = structlog.get_logger("landed")


def journal_path(data: Path) -> Path:
    """Where the embedded journal is."""
    return data / JOURNAL_FILE


def quarantine_path(data: Path) -> Path:
    """Where the quarantine is."""
    return data / QUARANTINE_FILE


def store_path(data: Path) -> Path:
    """Where the embedded store is."""
    return data / STORE_FILE


def prepare(data: Path) -> None:
    """Make the directory and its files, or bring them to this version; SurroundingsError if it cannot be."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe = data / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SurroundingsError(
            f"The data directory {data} cannot be written ({error.strerror}): name another with --data."
        ) from error
    SqliteJournal(journal_path(data)).close()
    SqliteQuarantine(quarantine_path(data)).close()
    SqliteStore(store_path(data)).close()


def listen(host: str, port: int, option: str) -> socket.socket:
    """A listening socket, or one sentence that says who is in the way."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        raise SurroundingsError(
            f"Port {port} on {host} cannot be used ({error.strerror}): stop what listens there, or choose another "
            f"with {option}."
        ) from error
    return listening


class Parent:
    """Owns the listening sockets and tends the children; without a private one there is no worker among them."""

    def __init__(self, settings: Settings, public: socket.socket, private: socket.socket | None) -> None:
        prepare(settings.data)
        self.public = public
        self.private = private
        self._settings = settings
        self._alive_read, self._alive_write = os.pipe()
        self._gates = [_Child("gate", public, BACK_OFF_LAST_OF_GATE_SECONDS) for _ in range(settings.gates)]
        self.children = list(self._gates)
        if private is not None:
            subscribers_of(settings)
            with only_worker(settings.data):
                pass
            self.children.append(_Child("worker", private, BACK_OFF_LAST_SECONDS))

    @property
    def port(self) -> int:
        """The public port in use."""
        port: int = self.public.getsockname()[1]
        return port

    @property
    def private_port(self) -> int | None:
        """The private port in use."""
        return None if self.private is None else self.private.getsockname()[1]

    def start(self) -> None:
        """Start the children."""
        for child in self.children:
            self._start(child)

    def tend(self) -> int | None:
        """Start again what died; the exit code when there is no use in going on."""
        for child in self.children:
            code = child.process.poll() if child.process is not None else None
            if code in FINAL_EXITS:
                return code
            if code is not None:
                child.process = None
                child.lived = time.monotonic() - child.started
                child.back_off()
                log.warning("child.died", child=child.name, code=code, again_in_seconds=child.wait_seconds)
            elif child.process is None and time.monotonic() >= child.start_at:
                self._start(child)
        return None

    def renew(self) -> None:
        """Let the gates read the secrets and their policy again."""
        for gate in self._gates:
            if gate.process is not None and gate.process.poll() is None:
                gate.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Stop the gates, let the worker fold what they took, and leave; within five seconds."""
        deadline = time.monotonic() + STOP_SECONDS - 0.5
        for children in (self._gates, self.children[len(self._gates) :]):
            running = [(child.name, child.process) for child in children if child.process is not None]
            for _, process in running:
                process.send_signal(signal.SIGTERM)
            for name, process in running:
                _wait_for(name, process, deadline)
        self.public.close()
        if self.private is not None:
            self.private.close()
        os.close(self._alive_write)
        os.close(self._alive_read)

    def _start(self, child: _Child) -> None:
        settings, private_port = self._settings, self.private_port or self._settings.private_port
        arguments = [sys.executable, "-m", "landed", "serve", "--role", child.name, "--data", str(settings.data)]
        arguments += ["--socket-fd", str(child.listening.fileno()), "--parent-fd", str(self._alive_read)]
        arguments += ["--host", settings.host, "--port", str(self.port), "--private-port", str(private_port)]
        arguments += ["--gates", str(settings.gates)]
        arguments += ["--print", settings.print] if settings.print is not None else []
        arguments += ["--show-numbers"] if settings.show_numbers else []
        arguments += ["--handlers", settings.handlers] if settings.handlers is not None else []
        # Told to read its settings again before it knows how to, a child would die of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            # A group of its own, so that Ctrl-C reaches the parent alone and the order of leaving is ours.
            child.process = subprocess.Popen(  # noqa: S603 - our own program
                arguments,
                pass_fds=(child.listening.fileno(), self._alive_read),
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        child.started = time.monotonic()


class _Child:
    def __init__(self, name: str, listening: socket.socket, back_off_last_seconds: float) -> None:
        self.name = name
        self.listening = listening
        self._back_off_last_seconds = back_off_last_seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.lived = 0.0
        self.start_at = 0.0
        self.wait_seconds = 0.0

    def back_off(self) -> None:
        """Wait longer each time, and anew after it was steady for a while."""
        steady = self.lived > STEADY_SECONDS or not self.wait_seconds
        self.wait_seconds = (
            BACK_OFF_FIRST_SECONDS if steady else min(self.wait_seconds * 2, self._back_off_last_seconds)
        )
        self.start_at = time.monotonic() + self.wait_seconds


def _wait_for(name: str, process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait for a child that was told to leave, and end it when it does not."""
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        log.warning("child.killed", child=name)
        process.kill()
        process.wait()


def run_parent(settings: Settings, around: Callable[[Parent], AbstractContextManager[None]]) -> int:
    """Run the gates, and the worker unless gates alone are wanted, until told to stop; the exit code.

    `around` is entered when they have been started, and left before they are stopped.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: stopping.append(received))
    public = listen(settings.host, settings.port, "--port")
    private = None
    if settings.role == "all":
        private = listen(settings.private_host, settings.private_port, "--private-port")
    parent = Parent(settings, public, private)
    if not _has_terminal():
        signal.signal(signal.SIGHUP, lambda _received, _frame: parent.renew())
    parent.start()
    code: int | None = None
    try:
        with around(parent):
            while not stopping and code is None:
                time.sleep(TEND_SECONDS)
                code = parent.tend()
    finally:
        parent.stop()
    return code or EXIT_DONE


def _has_terminal() -> bool:
    """Whether somebody sits before it; a service may have been started without any input."""
    return sys.stdin is not None and sys.stdin.isatty()


def run_gate(settings: Settings, listening: socket.socket, parent_fd: int | None, again: Callable[[], Settings]) -> int:
    """A gate's process; the exit code. `again` reads the settings anew."""
    settings = settings.of_one_gate()
    _collect_seldom()
    _allow_descriptors(settings.limits.connections_max + DESCRIPTORS_BESIDE)
    return uvloop.run(_gate(settings, listening, parent_fd, again))


def run_worker(settings: Settings, listening: socket.socket, parent_fd: int | None, heard: Heard | None) -> int:
    """The worker's process; the exit code."""
    _collect_seldom()
    if parent_fd is not None:
        os.nice(NICENESS_OF_WORKER)
    try:
        with only_worker(settings.data):
            return uvloop.run(_worker(settings, listening, parent_fd, heard))
    except Unable as error:
        if parent_fd is None:
            raise
        log.error("worker.unable", error=str(error))  # noqa: TRY400 - the sentence says it all
        return EXIT_NO


def record(data: Path, records: Sequence[Record]) -> None:
    """Append records of our own to the journal: what the sending side knows. Any process may."""
    with closing(SqliteJournal(journal_path(data))) as journal:
        journal.append([encode(each) for each in records])


def rebuild(data: Path, progress: Callable[[int, int], None], *, compiled: bool = True) -> tuple[Tally, int]:
    """Make the views again from the journal, beside the old ones, and put them in place at once.

    What retired records told is carried over as it stands. What had been folded says nothing again; the rest is folded
    behind it as ever, with its events. `progress` is told, after each batch, the position folded and the last one. The
    ledger, and how many messages were carried over.
    """

    def folded(fold: Fold) -> Tally:
        while fold.step():
            progress(fold.progress.position, journal.last_position())
        return fold.progress.tally

    built = data / REBUILD_FILE
    with only_worker(data), closing(SqliteJournal(journal_path(data))) as journal:
        _remove(built)
        try:
            # Brought to this version, so that it can be read beside the new one.
            SqliteStore(store_path(data)).close()
            with closing(SqliteStore(built)) as fresh:
                sealed = fresh.carry(store_path(data), journal.epoch, journal.retired())
                silent_upto = _folded_upto(data, journal)
                folded(Fold(journal, fresh, sealed=sealed, silent_upto=silent_upto, compiled=compiled))
            with closing(SqliteStore(store_path(data))) as store:
                store.replace_views(built)
                tally = folded(Fold(journal, store, sealed=sealed, compiled=compiled))
        finally:
            _remove(built)
    return tally, sealed.messages


def _folded_upto(data: Path, journal: SqliteJournal) -> int:
    """Up to where the journal has been folded; all of it where the store cannot tell, which is of another or new."""
    with closing(SqliteReader(store_path(data))) as reader:
        progress = reader.progress()
    return progress.position if progress is not None and progress.epoch == journal.epoch else journal.last_position()


def look_around(settings: Settings, now: datetime, told: Told | None = None) -> Seen:
    """All that the doctor can see of this machine and its data; with `told`, of Vonage and the way from there, too."""
    data, limits, keyring = settings.data, settings.limits, keyring_of(settings)
    seen = Seen(
        now=now,
        data=str(data),
        has_secrets=keyring.has_secrets,
        has_odd_secrets=any(_is_odd(secret) for account in keyring.accounts for secret in account.secrets),
        sms_must_be_signed=settings.sms_signature == "required",
        worker_runs=worker_runs(data),
        journal_bytes_max=limits.journal_bytes_max,
        free_bytes_min=limits.free_bytes_min,
        quarantine_rows_max=limits.quarantine_rows_max,
        quarantine_bytes_max=limits.quarantine_bytes_max,
    )
    # The gates' figures first: what they had kept by then must be in the journal that is looked at next.
    gates = figures_in(data)
    seen = look_at(data, seen)
    seen = replace(
        seen,
        gates_serving=gates.serving,
        gates_mounted=gates.mounted,
        only_mounts=bool(gates.kept_in) and not gates.sums.was_served,
        gates_kept=gates.kept_in.get(seen.journal_epoch or "", 0),
        unverified=sum(count for (verdict, _), count in gates.requests.items() if verdict == UNVERIFIED),
    )
    return seen if told is None else look_farther(settings, keyring, windows_of(settings), seen, told)


def _is_odd(secret: bytes) -> bool:
    """Whether a secret was written with something around it that was not meant to be a part of it."""
    return secret[:1] in (b'"', b"'") or secret.split() != [secret]


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _collect_seldom() -> None:
    """Look for cycles seldom: receipts leave none, and the looking took a fifth of the fold's time (measured)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)


def _allow_descriptors(wanted: int) -> None:
    """Raise the soft limit on open files, often 1,024 or less, as far as the hard one lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "descriptors.few", wanted=wanted, allowed=allowed, advice="raise `ulimit -n` or lower connections_max"
        )


async def _gate(
    settings: Settings, listening: socket.socket, parent_fd: int | None, again: Callable[[], Settings]
) -> int:
    limits = settings.limits
    failures: list[JournalBroken] = []
    stop = _stop_event(parent_fd)
    files = await _files(settings, listening, stop)
    if files is None:
        return EXIT_DONE
    journal, quarantine = files

    def broken(error: JournalBroken) -> None:
        failures.append(error)
        log.critical("journal.broken", error=str(error))
        stop.set()

    meter = Meter(settings.data)
    gate = Gate(
        Keeper(journal, quarantine, limits, Disk(journal.path, limits), meter),
        Judge.of(settings, keyring_of(settings)),
        limits,
        broken=broken,
        path_prefix=settings.path_prefix or "",
        compiled=settings.compiled,
    )
    loop = asyncio.get_running_loop()
    checkpoints = Checkpoints(journal, lambda: SqliteJournal(journal.path))
    checkpoints.start()
    renewing = loop.create_task(_renew(gate, settings, again, stop))
    # Of several gates the first one awake would take all that come together, and the others would have nothing to do.
    accepted = ACCEPTED_A_TURN if settings.gates == 1 else 1
    servers = [await loop.create_server(gate.protocol, sock=listening.dup(), backlog=BACKLOG) for _ in range(accepted)]
    await stop.wait()
    renewing.cancel()
    for server in servers:
        server.close()
    await gate.stop(0 if failures else GATE_DRAIN_SECONDS)
    checkpoints.stop()
    journal.close()
    quarantine.close()
    meter.close()
    return EXIT_NO if failures else EXIT_DONE


async def _files(
    settings: Settings, listening: socket.socket, stop: asyncio.Event
) -> tuple[SqliteJournal, SqliteQuarantine] | None:
    """The gate's files. As long as they cannot be opened all is answered 503; None when told to stop meanwhile."""
    try:
        return _opened(settings)
    except Unable as error:
        log.error("gate.closed", error=str(error), advice=ADVICE_ON_CLOSED)  # noqa: TRY400 - the sentence says it all
    server = await asyncio.get_running_loop().create_server(ClosedDoor, sock=listening.dup(), backlog=BACKLOG)
    try:
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), OPEN_AGAIN_SECONDS)
            with suppress(Unable):
                return _opened(settings)
    finally:
        server.close()
    return None


def _opened(settings: Settings) -> tuple[SqliteJournal, SqliteQuarantine]:
    limits = settings.limits
    journal = SqliteJournal(journal_path(settings.data), appends_much=True)
    try:
        return journal, SqliteQuarantine(
            quarantine_path(settings.data), rows_max=limits.quarantine_rows_max, bytes_max=limits.quarantine_bytes_max
        )
    except BaseException:
        journal.close()
        raise


async def _renew(gate: Gate, settings: Settings, again: Callable[[], Settings], stop: asyncio.Event) -> None:
    """Judge by the secrets and the policy of today: at SIGHUP, and when the settings' file changes.

    What is wrong, or would end the checking of signatures, changes nothing and is said.
    """
    asked = asyncio.Event()
    # Where there is a terminal, SIGHUP says that it is gone.
    hung_up = stop if _has_terminal() else asked
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    # The parent started us with it held back: what came meanwhile is told now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    had_secrets, stamp = keyring_of(settings).has_secrets, _stamp()
    if _has_changed(settings, again):
        asked.set()
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), LOOK_AT_FILE_SECONDS)
        if not asked.is_set() and _stamp() == stamp:
            continue
        asked.clear()
        stamp = _stamp()
        try:
            judge, ring = _judge_of(again().of_one_gate(), checking=had_secrets)
        except SettingsError as error:
            log.error("settings.not_renewed", error=str(error))  # noqa: TRY400 - the sentence says it all
        else:
            gate.judge_by(judge)
            had_secrets = ring.has_secrets
            log.info("settings.renewed", accounts=[account.name for account in ring.accounts])


def _has_changed(settings: Settings, again: Callable[[], Settings]) -> bool:
    """Whether the settings are others than those that were read at the start."""
    try:
        return again().of_one_gate() != settings
    except SettingsError:
        return True


def _judge_of(settings: Settings, *, checking: bool) -> tuple[Judge, Keyring]:
    ring = keyring_of(settings)
    if checking and not ring.has_secrets:
        raise SettingsError("The settings have no signature secret any more: restart landed if that is meant.")
    return Judge.of(settings, ring), ring


def _stamp() -> tuple[int, int, int] | None:
    """What changes when the settings' file does."""
    try:
        now = Path(SETTINGS_FILE).stat()
    except OSError:
        return None
    return now.st_mtime_ns, now.st_size, now.st_ino


async def _worker(settings: Settings, listening: socket.socket, parent_fd: int | None, heard: Heard | None) -> int:
    loop = asyncio.get_running_loop()
    failures: list[BaseException] = []
    stop = _stop_event(parent_fd)

    def failed(error: BaseException) -> None:
        failures.append(error)
        loop.call_soon_threadsafe(stop.set)

    calls = None if settings.handlers is None else Apart(settings.handlers, settings.events)
    named = [] if calls is None else await calls.start()
    work = Work(settings, heard, failed, calls=calls, named=named)
    work.start()
    watch = RoadWatch(
        settings.data,
        lambda: _fold_state(work.fold),
        lambda: _gate_figures(settings.data),
        lambda: _attempts(work.figures),
    )
    watching = loop.create_task(_watch_ledger(watch))
    app = create_app(
        watch.health,
        watch.look,
        version=__version__,
        facts=_page_facts(settings),
        host=settings.private_host,
    )
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        limit_concurrency=PRIVATE_CONNECTIONS_MAX,
    )
    server = Unsignalled(config)
    serving = loop.create_task(server.serve(sockets=[listening]))
    serving.add_done_callback(lambda _: stop.set())
    await stop.wait()
    watching.cancel()
    server.leave()
    await work.stop()
    await serving
    for error in failures:
        log.critical("worker.stopped", error=str(error))
    return max((_exit_code(error) for error in failures), default=EXIT_DONE)


def _exit_code(error: BaseException) -> int:
    """What the worker ends with; a disk that fails now need not fail the next one."""
    return EXIT_NO if isinstance(error, JournalBroken | Unable) else getattr(error, "exit_code", EXIT_NO)


def _fold_state(fold: FoldLoop) -> FoldState:
    return FoldState(
        folding=fold.is_alive, ledger_is_even=fold.ledger_is_even, ledger_checked_at=fold.ledger_checked_at
    )


def _attempts(figures: Mapping[str, Figures]) -> Mapping[str, Attempts]:
    """What the dispatch counted; it goes on counting in another thread meanwhile."""
    return {
        name: Attempts(
            results={result: getattr(each, result) for result in RESULTS},
            times=Buckets(upto=each.upto(), sum=each.seconds),
        )
        for name, each in dict(figures).items()
    }


def _gate_figures(data: Path) -> GateFigures:
    gates = figures_in(data)
    return GateFigures(
        processes={"serve": gates.serving, "mount": gates.mounted},
        requests=gates.requests,
        kept_in=gates.kept_in,
        held=gates.sums.kept["quarantine"],
        batches=_buckets(gates.sums.batches, BATCH_BOUNDS, 1),
        commits={file: _buckets(times, TIME_BOUNDS_US, SECOND_US) for file, times in gates.sums.commits_us.items()},
        answers=_buckets(gates.sums.answers_us, TIME_BOUNDS_US, SECOND_US),
        unwritten=gates.sums.unwritten,
    )


def _buckets(histogram: Histogram, bounds: Sequence[int], per_unit: int) -> Buckets:
    upto = [(math.inf if bound is None else bound / per_unit, count) for bound, count in histogram.upto(bounds)]
    return Buckets(upto=upto, sum=histogram.sum / per_unit)


async def _watch_ledger(watch: RoadWatch) -> None:
    """Hold what the gates say they kept against journal and store, every minute; a difference is an alarm.

    The fold counts journal and store against each other; gates are other processes.
    """
    while True:
        await asyncio.sleep(LEDGER_SECONDS)
        try:
            road = await asyncio.to_thread(watch.look)
        except (LandedError, apsw.Error) as error:
            log.error("ledger.unable", error=str(error))  # noqa: TRY400 - the sentence says it all
        else:
            if road.kept > road.received:
                log.critical("ledger.differs", gates_kept=road.kept, received=road.received)


def _page_facts(settings: Settings) -> Mapping[str, str]:
    checked = "checked" if keyring_of(settings).has_secrets else "not checked: no signature secret is set"
    facts = {"Signatures": checked, "Data": str(settings.data.absolute())}
    return facts | {
        f"Webhook {number}": f"{settings.path_prefix or ''}{path}" for number, path in enumerate(ANSWERS, 1)
    }


def _stop_event(parent_fd: int | None) -> asyncio.Event:
    """Set by SIGTERM, by Ctrl-C, or when the parent is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent_fd is not None:
        loop.add_reader(parent_fd, stop.set)
    return stop
