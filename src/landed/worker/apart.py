"""Calls the application's handlers in a process of their own, so that what breaks there breaks nothing else.

A handler that crashes, that ends its process or blocks Python's lock ends the calls that are under way there, and the
next process is started, after a while that grows with each that dies young. Whose fault it was decides what becomes of
those calls and handlers:

1. One call was under way: it has failed, and its handler is *guilty*.
2. Several of one handler: nobody knows which it was, so none of them was an attempt, and the handler is guilty.
3. Several of several handlers: none was an attempt, and all of these handlers are *suspect*.

Both are called in a room of their own, that is in another process, so that a crash there harms nobody else and tells
whose it was. Who is guilty is called one at a time at first, so that it tells the call, too. Both are back among the
others when so many calls have come back without a crash; suspects after a while in any case. If there are more of them
than rooms, some share one, and are called one at a time.

What has only used up its time is cancelled or given up in there (see `landed.worker.calls`); a process is killed for it
in two cases: it does not answer when it is asked whether it is alive, or all places of a handler are taken by calls
that do not return. In the second case others may end theirs first, and a new process takes what comes meanwhile.

The processes end when this one does, however that goes.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
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
# How long a call waits for its turn, and for a process when there is none.
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
DISMISSED = "no call needs it any more"
QUIETLY = (CLOSED, UNLOADED, DISMISSED)
BACK_OFF_FIRST_SECONDS = 0.2
BACK_OFF_LAST_SECONDS = 5.0
STEADY_SECONDS = 60.0
# Beside the one for all.
ROOMS_MAX = 8
# Calls that come back from one process: until it counts as one that works, suspects are trusted, and who is guilty is
# called as often at once as others. Those that were under way at a crash are called again first, so twice as many as
# those may be are enough in any case.
WELL_CALLS_MIN = 20
WELL_CALLS_A_PLACE = 2
# Until who is guilty is trusted: one event in so many may crash it.
ACQUITTED_CALLS = 1_000
SUSPECT_SECONDS = 60.0

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
        self._is_closed = False
        self._children: set[_Child] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._well_calls = max(WELL_CALLS_MIN, WELL_CALLS_A_PLACE * settings.concurrency)
        self._hall = self._new_room()
        # Where those are called that are suspect or guilty.
        self._rooms: dict[str, _Room] = {}

    @property
    def pid(self) -> int | None:
        """The process that takes the calls of all that are not apart from the others."""
        return None if self._hall.child is None else self._hall.child.pid

    async def start(self) -> list[tuple[str, Wanted]]:
        """Start the process; the handlers' names and what each wants. SettingsError when there are none."""
        child, handlers = await self._started()
        self._hall.take(child)
        return list(handlers)

    async def carry(self, address: str, secrets: Sequence[str], letters: Sequence[Letter]) -> Answer:
        """Call the handler of that name with each letter in turn, up to the first that is not taken."""
        del secrets
        return await carry_each(address, letters, lambda letter: self._call(address, letter))

    async def close(self) -> None:
        """End the processes, within two seconds."""
        self._is_closed = True
        for room in {self._hall, *self._rooms.values()}:
            room.close()
        for ending in self._ending:
            ending.cancel()
        await asyncio.gather(*(child.end() for child in self._children))

    async def _call(self, name: str, letter: Letter) -> Called:
        room = self._rooms.get(name, self._hall)
        called, child = await room.call(name, letter)
        if child is not None and called.is_stuck and child is room.child:
            room.renew()
            self._end(child.retire(f"calls of {name} do not return"))
        if room.is_trusted:
            self._let_go(room, room.guests)
        return called

    def _fell(self, room: _Room, child: _Child) -> None:
        """A process has died: who was under way there is called apart from now on."""
        names = set() if self._is_closed else set(child.died_with)
        is_guilty = len(names) == 1
        for name in names:
            self._set_apart(name, is_guilty=is_guilty)
        if is_guilty and room is not self._hall:
            self._let_suspects_go(room, room.guests)

    def _set_apart(self, name: str, *, is_guilty: bool) -> None:
        room = self._rooms.get(name)
        if room is None:
            room = self._room_to_be_had()
            self._rooms[name] = room
            asyncio.get_running_loop().call_later(SUSPECT_SECONDS, self._let_suspects_go, room, [name])
            log.warning("handlers.apart", handler=name, guilty=is_guilty)
        room.guests[name] = room.guests.get(name, False) or is_guilty

    def _room_to_be_had(self) -> _Room:
        rooms = set(self._rooms.values())
        if len(rooms) >= ROOMS_MAX:
            return min(rooms, key=lambda room: len(room.guests))
        room = self._new_room()
        room.begin()
        return room

    def _new_room(self) -> _Room:
        return _Room(self._started, self._fell, self._well_calls)

    def _let_suspects_go(self, room: _Room, guests: Iterable[str]) -> None:
        """Those of them that are still there, and not guilty."""
        self._let_go(room, [guest for guest in guests if room.guests.get(guest) is False])

    def _let_go(self, room: _Room, guests: Iterable[str]) -> None:
        """Call these among the others again; a room that nobody needs is closed when its last call has come back."""
        for name in list(guests):
            del room.guests[name], self._rooms[name]
        if not room.guests and not room.is_closed:
            room.close()
            if room.child is not None:
                self._end(room.child.dismiss())

    def _end(self, ending: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

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


class _Room:
    """Where calls go: one process after the other, the next one started as soon as it may when the last one ends.

    `guests` are those that it is for, and whether each is guilty; none where it is for all.
    """

    def __init__(
        self,
        started: Callable[[], Awaitable[tuple[_Child, object]]],
        fell: Callable[[_Room, _Child], None],
        well_calls: int,
    ) -> None:
        self._started = started
        self._fell = fell
        self._well_calls = well_calls
        self._back_off = BackOff()
        self._turn = asyncio.Lock()
        self._starting: asyncio.Task[None] | None = None
        # Of the start that is under way.
        self._outcome = asyncio.Event()
        self._why = ""
        self.child: _Child | None = None
        self.guests: dict[str, bool] = {}
        self.is_closed = False

    @property
    def is_trusted(self) -> bool:
        """Whether its guests may be called among the others again."""
        enough = ACQUITTED_CALLS if any(self.guests.values()) else self._well_calls
        return bool(self.guests) and self._came_back >= enough

    @property
    def _came_back(self) -> int:
        return 0 if self.child is None else self.child.came_back

    @property
    def _is_one_at_a_time(self) -> bool:
        return len(self.guests) > 1 or (any(self.guests.values()) and self._came_back < self._well_calls)

    async def call(self, name: str, letter: Letter) -> tuple[Called, _Child | None]:
        """Call a handler in the process that there is, or will be soon; what came of it, and which it was."""
        child = await self._up()
        if child is None or not self._is_one_at_a_time:
            return await self._called(child, name, letter)
        try:
            async with asyncio.timeout(UP_SECONDS_MAX):
                await self._turn.acquire()
        except TimeoutError:
            return Called(said="others have their turn", error="no turn", is_untried=True), None
        try:
            return await self._called(await self._up(), name, letter)
        finally:
            self._turn.release()

    def begin(self) -> None:
        """Start a process."""
        self._outcome = asyncio.Event()
        self._starting = asyncio.create_task(self._start())

    def take(self, child: _Child) -> None:
        """Call in this one from now on."""
        self.child = child
        child.when_over = lambda: self._over(child)
        if child.is_over:
            self._over(child)

    def renew(self) -> None:
        """Give the process no more calls, and start the next one."""
        if self.child is not None:
            if self._came_back >= self._well_calls:
                self._back_off.reset()
            self._back_off.note(self.child.lived_seconds)
            self.child = None
        if not self.is_closed:
            self.begin()

    def close(self) -> None:
        """Start nothing any more; a process that there is goes on."""
        self.is_closed = True
        if self._starting is not None:
            self._starting.cancel()
        self._outcome.set()

    def _over(self, child: _Child) -> None:
        if child is self.child:
            self.renew()
        self._fell(self, child)

    async def _called(self, child: _Child | None, name: str, letter: Letter) -> tuple[Called, _Child | None]:
        if child is not None:
            return await child.call(name, letter), child
        said = self._why or "the handlers' process has not started yet"
        return Called(said=bounded(said, ANSWER_CHARACTERS_MAX), error="no process", is_untried=True), None

    async def _up(self) -> _Child | None:
        """The process, after waiting for it for a while."""
        if self.child is None:
            if not self.is_closed and (self._starting is None or self._starting.done()):
                self.begin()
            with suppress(TimeoutError):
                async with asyncio.timeout(UP_SECONDS_MAX):
                    await self._outcome.wait()
        return self.child

    async def _start(self) -> None:
        """Until there is one."""
        while True:
            await asyncio.sleep(self._back_off.left_seconds)
            try:
                child, _ = await self._started()
            except (SettingsError, SurroundingsError) as error:
                self._why = str(error)
                self._back_off.note(0.0)
                log.error("handlers.unstarted", error=self._why)  # noqa: TRY400 - the sentence says it all
                outcome, self._outcome = self._outcome, asyncio.Event()
                outcome.set()
            else:
                self._why = ""
                self._outcome.set()
                self.take(child)
                return


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

    def reset(self) -> None:
        """One did its work."""
        self._seconds = 0.0

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
        # The handlers of those that are calls.
        self._names: dict[int, str] = {}
        self._began = time.monotonic()
        self._killed_for = ""
        self.is_over = False
        self.came_back = 0
        # The handlers of the calls that were under way when it died of itself, or was killed for its silence.
        self.died_with: tuple[str, ...] = ()
        self.when_over: Callable[[], None] = lambda: None
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
        self._names[number] = name
        try:
            await self._wait_for(answer)
        finally:
            del self._asked[number], self._names[number]
            if not answer.done():
                self._write(GiveUp(number))
        return (
            answer.result() if answer.done() else Called(said="the handlers' process gave no answer", error="silence")
        )

    async def retire(self, reason: str) -> None:
        """Let what is under way come to its end, and then end it."""
        await self._all_answered(TIMES_A_CALL * (self._seconds_max + SLACK_SECONDS))
        await self.silence(reason)

    async def dismiss(self) -> None:
        """Let what is under way come to its end, and then ask it to end."""
        await self._all_answered(TIMES_A_CALL * (self._seconds_max + SLACK_SECONDS))
        await self.end(DISMISSED)

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

    async def end(self, reason: str = CLOSED) -> None:
        """Ask it to end, and see that it does."""
        self._killed_for = self._killed_for or reason
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
            answer.set_result(Called(said="the handlers' process has ended", error="process died", is_untried=True))
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
        unanswered = [number for number, answer in self._asked.items() if not answer.done()]
        names = tuple(self._names[number] for number in unanswered if number in self._names)
        for number in unanswered:
            self._asked[number].set_result(self._died(len(names)))
        if self._killed_for not in QUIETLY:
            log.warning("handlers.died", pid=self.pid, how=self.how, killed_for=self._killed_for or None)
            self.died_with = names
        self.when_over()

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
                        self.came_back += reply.number in self._names
                elif not self.greeting.done():
                    self.greeting.set_result(reply)

    def _died(self, calls: int) -> Called:
        said = f"the handlers' process died ({self.how})"
        if self._killed_for:
            said = f"the handlers' process was ended: {self._killed_for}"
        # Whose fault it was is known where there was one only, and whether it was anybody's.
        is_untried = calls > 1 or self._killed_for in QUIETLY
        if calls > 1:
            said += f", with {calls} calls under way"
        return Called(said=bounded(said, ANSWER_CHARACTERS_MAX), error="process died", is_untried=is_untried)


def _run(theirs: socket.socket, settings: EventSettings, target: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", CHILD_MODULE, str(theirs.fileno()), settings.model_dump_json(), target]
    # A group of its own, so that Ctrl-C reaches landed alone and the order of leaving is ours.
    return subprocess.Popen(  # noqa: S603 - our own program
        arguments, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, process_group=0
    )
