"""Calls the application's handlers in a process of their own, so that what breaks there breaks nothing else.

A handler that crashes, that ends its process or blocks Python's lock fails the calls that are under way there, and the
next process is started, after a while that grows with each that dies young. What has only used up its time is cancelled
or given up in there (see `landed.worker.calls`); a process is killed for it in two cases: it does not answer when it is
asked whether it is alive, or all places of a handler are taken by calls that do not return. In the second case others
may end theirs first, and a new process takes what comes meanwhile.

The process ends when this one does, however that goes.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

import msgspec
import structlog

from landed.domain.events import Wanted
from landed.errors import SettingsError, SurroundingsError
from landed.handlers import bounded
from landed.settings import EventSettings
from landed.worker.apart_child import DUMP_SIGNAL, END_SECONDS_MAX
from landed.worker.calls import CANCEL_SECONDS_MAX, Called, carry_each
from landed.worker.frames import Call, Done, GiveUp, Loaded, Ping, Question, Unloaded, decode_reply, frame, read_frame
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Answer, Letter

CHILD_MODULE = "landed.worker.apart_child"
START_SECONDS_MAX = 60.0
# How long a call waits for a process when there is none.
UP_SECONDS_MAX = 10.0
PONG_SECONDS_MAX = 5.0
# From the end of a call's time until its answer ought to be here.
SLACK_SECONDS = CANCEL_SECONDS_MAX + 0.5
# A call waits for a place, and then it has its time.
TIMES_A_CALL = 2
# For the lines that say where each thread is.
DUMP_SECONDS = 0.2
# From SIGTERM to SIGKILL, and from there to the end.
TERM_SECONDS_MAX = END_SECONDS_MAX + 0.2
KILL_SECONDS_MAX = 1.0
# Seldom needed: who dies closes its socket, unless a process that it had started keeps that open.
LOOK_SECONDS = 0.5
REAP_SECONDS = 0.01
# Ends that are no news.
CLOSED = "landed ends"
UNLOADED = "its handlers do not load"
QUIETLY = (CLOSED, UNLOADED)
BACK_OFF_FIRST_SECONDS = 0.2
BACK_OFF_LAST_SECONDS = 5.0
STEADY_SECONDS = 60.0

log = structlog.get_logger("landed.handlers")


class Apart:
    """Carries letters to the handlers of a file or module, by their names. It belongs to the loop that uses it."""

    def __init__(
        self,
        target: Path | str,
        settings: EventSettings,
        *,
        start_seconds_max: float = START_SECONDS_MAX,
        pong_seconds_max: float = PONG_SECONDS_MAX,
    ) -> None:
        self._target = str(target)
        self._settings = settings
        self._start_seconds_max = start_seconds_max
        self._pong_seconds_max = pong_seconds_max
        self._child: _Child | None = None
        self._children: set[_Child] = set()
        self._starting: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._back_off = BackOff()
        self._why = ""
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """The process that takes calls now."""
        return None if self._child is None else self._child.pid

    async def start(self) -> list[tuple[str, Wanted]]:
        """Start the process; the handlers' names and what each wants. SettingsError when there are none."""
        self._child, handlers = await self._started()
        return list(handlers)

    async def carry(self, address: str, secrets: Sequence[str], letters: Sequence[Letter]) -> Answer:
        """Call the handler of that name with each letter in turn, up to the first that is not taken."""
        del secrets
        return await carry_each(address, letters, lambda letter: self._call(address, letter))

    async def close(self) -> None:
        """End the process, within two seconds."""
        self._is_closed = True
        if self._starting is not None:
            self._starting.cancel()
        for ending in self._ending:
            ending.cancel()
        await asyncio.gather(*(child.end() for child in self._children))

    async def _call(self, name: str, letter: Letter) -> Called:
        child = await self._up()
        if isinstance(child, Called):
            return child
        called = await child.call(name, letter)
        if called.is_stuck and child is self._child:
            self._leave(child)
            ending = asyncio.create_task(child.retire(f"calls of {name} do not return"))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        return called

    async def _up(self) -> _Child | Called:
        """The process, after waiting for it for a while; or what to say without one."""
        if self._child is not None and self._child.is_over:
            self._leave(self._child)
        if self._child is None and not self._is_closed:
            self._starting = self._starting or asyncio.create_task(self._start_again())
            await asyncio.wait({self._starting}, timeout=UP_SECONDS_MAX)
        if self._child is not None:
            return self._child
        said = self._why or "the handlers' process has not started yet"
        return Called(said=bounded(said, ANSWER_CHARACTERS_MAX), error="no process")

    def _leave(self, child: _Child) -> None:
        """Give it no more calls."""
        self._child = None
        self._back_off.note(child.lived_seconds)

    async def _start_again(self) -> None:
        try:
            await asyncio.sleep(self._back_off.left_seconds)
            self._child, _ = await self._started()
            self._why = ""
        except (SettingsError, SurroundingsError) as error:
            self._why = str(error)
            self._back_off.note(0.0)
            log.error("handlers.unstarted", error=self._why)  # noqa: TRY400 - the sentence says it all
        finally:
            self._starting = None

    async def _started(self) -> tuple[_Child, tuple[tuple[str, Wanted], ...]]:
        """A process that has loaded its handlers."""
        child = await _Child.start(self._target, self._settings, self._pong_seconds_max)
        self._children.add(child)
        child.tending.add_done_callback(lambda _: self._children.discard(child))
        try:
            async with asyncio.timeout(self._start_seconds_max):
                said = await child.greeting
        except TimeoutError:
            said = Unloaded(
                f"{self._target} does not load within {self._start_seconds_max:g} s: let it do less when it is "
                "imported, or start without --handlers."
            )
            await child.silence(UNLOADED)
        except asyncio.CancelledError:
            child.kill(CLOSED)
            raise
        if isinstance(said, Loaded):
            log.info("handlers.started", pid=child.pid, handlers=len(said.handlers))
            return child, said.handlers
        child.kill(UNLOADED)
        await child.tending
        if said is None:
            raise SettingsError(
                f"{self._target} ends its process as it is loaded ({child.how}): mend it, or start without --handlers."
            )
        raise SettingsError(said.sentence)


class BackOff:
    """When the next process may start: later each time, and soon again after one that lived long."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._until = 0.0

    def note(self, lived_seconds: float) -> None:
        """One ended that had lived so long."""
        is_first = lived_seconds > STEADY_SECONDS or not self._seconds
        self._seconds = BACK_OFF_FIRST_SECONDS if is_first else min(self._seconds * 2, BACK_OFF_LAST_SECONDS)
        self._until = time.monotonic() + self._seconds

    @property
    def left_seconds(self) -> float:
        """How long to wait still."""
        return max(0.0, self._until - time.monotonic())


class _Child:
    """One process, from its start to its end, and what it was asked."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        seconds_max: float,
        pong_seconds_max: float,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._seconds_max = seconds_max
        self._pong_seconds_max = pong_seconds_max
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Called]] = {}
        self._began = time.monotonic()
        self._killed_for = ""
        self.is_over = False
        self.greeting: asyncio.Future[Loaded | Unloaded | None] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read())
        self.tending = asyncio.create_task(self._tend())

    @classmethod
    async def start(cls, target: str, settings: EventSettings, pong_seconds_max: float) -> _Child:
        """A new process. SurroundingsError when there can be none."""
        with ExitStack() as unless_started:
            try:
                ours, theirs = socket.socketpair()
                unless_started.callback(ours.close)
                with theirs:
                    reader, writer = await asyncio.open_unix_connection(sock=ours)
                    unless_started.callback(writer.close)
                    process = _run(theirs, settings, target)
            except OSError as error:
                raise SurroundingsError(f"The handlers' process cannot be started ({error.strerror}).") from error
            unless_started.pop_all()
        return cls(process, reader, writer, settings.handler_seconds_max, pong_seconds_max)

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def lived_seconds(self) -> float:
        """How long it has lived."""
        return time.monotonic() - self._began

    @property
    def how(self) -> str:
        """How it ended, in a few words."""
        code = self._process.returncode
        if code is None:
            return "it speaks no more"
        return f"signal {-code}" if code < 0 else f"exit {code}"

    async def call(self, name: str, letter: Letter) -> Called:
        """Call a handler there; an answer comes, if only since the process ends."""
        number, answer = self._ask(
            lambda number: Call(
                number=number,
                handler=name,
                body=letter.body,
                attempt=letter.attempt,
                is_replay=letter.is_replay,
                is_sample=letter.is_sample,
            )
        )
        try:
            await self._wait_for(answer)
        finally:
            del self._asked[number]
            if not answer.done():
                self._write(GiveUp(number))
        return (
            answer.result() if answer.done() else Called(said="the handlers' process gave no answer", error="silence")
        )

    async def retire(self, reason: str) -> None:
        """Let what is under way come to its end, and then end it."""
        await self._all_answered(TIMES_A_CALL * (self._seconds_max + SLACK_SECONDS))
        await self.silence(reason)

    async def silence(self, reason: str) -> None:
        """End it, and let it print first where its threads are."""
        self._killed_for = self._killed_for or reason
        self._process.send_signal(DUMP_SIGNAL)
        await asyncio.wait({self.tending}, timeout=DUMP_SECONDS)
        self._process.kill()

    def kill(self, reason: str) -> None:
        """End it at once."""
        self._killed_for = self._killed_for or reason
        self._process.kill()

    async def end(self) -> None:
        """Ask it to end, and see that it does."""
        self._killed_for = self._killed_for or CLOSED
        self._process.terminate()
        await asyncio.wait({self.tending}, timeout=TERM_SECONDS_MAX)
        self._process.kill()
        await asyncio.wait({self.tending}, timeout=KILL_SECONDS_MAX)

    async def _wait_for(self, answer: asyncio.Future[Called]) -> None:
        for _ in range(TIMES_A_CALL):
            await asyncio.wait({answer}, timeout=self._seconds_max + SLACK_SECONDS)
            if answer.done():
                return
            if not await self._is_alive():
                await self.silence(f"it has not answered for {self._seconds_max + SLACK_SECONDS:g} s")
                await asyncio.wait({answer}, timeout=KILL_SECONDS_MAX)
                return

    async def _is_alive(self) -> bool:
        """Whether it answers."""
        number, pong = self._ask(Ping)
        try:
            await asyncio.wait({pong}, timeout=self._pong_seconds_max)
        finally:
            del self._asked[number]
        return pong.done()

    async def _all_answered(self, seconds_max: float) -> None:
        if self._asked:
            await asyncio.wait(set(self._asked.values()), timeout=seconds_max)

    def _ask(self, question: Callable[[int], Question]) -> tuple[int, asyncio.Future[Called]]:
        number = next(self._numbers)
        answer: asyncio.Future[Called] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        if self.is_over:
            answer.set_result(self._died())
        else:
            self._write(question(number))
        return number, answer

    def _write(self, question: Question) -> None:
        # Never waited for: a process that does not read is found out by its silence.
        if not self._reading.done():
            self._writer.write(frame(question))

    async def _tend(self) -> None:
        """Hear what it says until it ends, and then say so to all who wait."""
        while self._process.poll() is None and not self._reading.done():
            await asyncio.wait({self._reading}, timeout=LOOK_SECONDS)
        await self._reap()
        # Its last words may still be on their way.
        await asyncio.wait({self._reading}, timeout=REAP_SECONDS)
        self._reading.cancel()
        self.is_over = True
        self._writer.close()
        if not self.greeting.done():
            self.greeting.set_result(None)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(self._died())
        if self._killed_for not in QUIETLY:
            log.warning("handlers.died", pid=self.pid, how=self.how, killed_for=self._killed_for or None)

    async def _reap(self) -> None:
        """Wait for the end of one that speaks no more, and end it when it does not come."""
        deadline = time.monotonic() + TERM_SECONDS_MAX
        while self._process.poll() is None and time.monotonic() < deadline + KILL_SECONDS_MAX:
            if time.monotonic() > deadline:
                self._process.kill()
            await asyncio.sleep(REAP_SECONDS)

    async def _read(self) -> None:
        with suppress(EOFError, msgspec.MsgspecError):
            while True:
                reply = decode_reply(await read_frame(self._reader))
                if isinstance(reply, Done):
                    answer = self._asked.get(reply.number)
                    if answer is not None and not answer.done():
                        answer.set_result(reply.called)
                elif not self.greeting.done():
                    self.greeting.set_result(reply)

    def _died(self) -> Called:
        said = f"the handlers' process died ({self.how})"
        if self._killed_for:
            said = f"the handlers' process was ended: {self._killed_for}"
        return Called(said=bounded(said, ANSWER_CHARACTERS_MAX), error="process died")


def _run(theirs: socket.socket, settings: EventSettings, target: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", CHILD_MODULE, str(theirs.fileno()), settings.model_dump_json(), target]
    # A group of its own, so that Ctrl-C reaches landed alone and the order of leaving is ours.
    return subprocess.Popen(  # noqa: S603 - our own program
        arguments, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, process_group=0
    )
