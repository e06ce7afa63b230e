"""Calls the application's handlers, in the very process that this is.

Each handler has so many places, and a call takes one until it has returned, however long that is. Coroutine functions
run on the loop, and are cancelled when their time is up. Others run in threads of their own, never more than there are
places: such a call that does not return cannot be ended, so it is given up, and keeps its place. When all places of a
handler are taken like that, its events are answered at once: no thread more is ever started.

The threads are daemons, since one that hangs must not hold up the end of the process. A handler that ends the process
politely, as `sys.exit()` does, fails that call and nothing else. Against one that crashes, or that blocks Python's lock
or the loop, there is no help in here: see `landed.worker.apart`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import cast

import msgspec
import structlog

from landed.handlers import Handler, HandlerEvent, bounded, kind_of, told_of, where_of
from landed.settings import EventSettings
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Answer, Letter

# How long a coroutine may tidy up that was told to end.
CANCEL_SECONDS_MAX = 1.0

log = structlog.get_logger("landed.handlers")


class Called(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a call. `error` and `where` are for the log, which has none of an error's own text.

    `has_raised` says that the handler ended it by an error of its own, which another event need not bring about.
    `is_stuck` says that all places of the handler are taken by calls that have been given up; `is_untried` that the
    handler was not called, or that it may have been another's fault.
    """

    said: str
    taken: bool = False
    error: str = ""
    where: str = ""
    is_stuck: bool = False
    has_raised: bool = False
    is_untried: bool = False

    @classmethod
    def raised(cls, error: BaseException, handler: Handler) -> Called:
        """A call that ended by an error."""
        where = where_of(handler, error)
        told = told_of(error, ANSWER_CHARACTERS_MAX - len(where) - len(" ()"))
        return cls(said=f"{told} ({where})", error=kind_of(error), where=where, has_raised=True)


RETURNED = Called(said="returned", taken=True)


class Calls:
    """Carries letters to these handlers, by their names. It belongs to the loop that uses it."""

    def __init__(self, handlers: Iterable[Handler], settings: EventSettings) -> None:
        self._seconds_max = settings.handler_seconds_max
        self._lines = {handler.name: _Line(handler, settings.concurrency) for handler in handlers}

    async def carry(self, address: str, secrets: Sequence[str], letters: Sequence[Letter]) -> Answer:
        """Call the handler of that name with each letter in turn, up to the first that is not taken."""
        del secrets
        return await carry_each(address, letters, lambda letter: self.call(address, event_of(letter)))

    async def close(self) -> None:
        """Cancel what can be cancelled, and let the threads go that do nothing."""
        tasks = [task for line in self._lines.values() for task in line.leave()]
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS_MAX)

    @property
    def under_way(self) -> int:
        """How many calls have not returned."""
        return sum(line.under_way for line in self._lines.values())

    async def call(self, name: str, event: HandlerEvent) -> Called:
        """Call a handler, within its time."""
        line = self._lines.get(name)
        if line is None:
            return Called(said=bounded(f"there is no handler {name}", ANSWER_CHARACTERS_MAX), error="unknown")
        if not await line.enter(self._seconds_max):
            some = "1 call of {} has" if line.under_way == 1 else f"{line.under_way} calls of {{}} have"
            return line.failed(some.format(name) + " not returned", "no place")
        try:
            call = line.begin(event)
        except RuntimeError:
            # The machine has no thread left to give.
            return line.failed("no thread can be started", "no thread")
        return await self._ended(line, call)

    async def _ended(self, line: _Line, call: asyncio.Future[Called]) -> Called:
        try:
            await asyncio.wait({call}, timeout=self._seconds_max)
            if call.done():
                return call.result()
            line.give_up(call)
            if line.handler.is_async:
                await asyncio.wait({call}, timeout=CANCEL_SECONDS_MAX)
        except asyncio.CancelledError:
            line.give_up(call)
            raise
        way = "was cancelled" if line.handler.is_async and call.done() else "has not returned"
        return line.failed(f"{line.handler.name} {way} after {self._seconds_max:g} s", "timeout")


class _Line:
    """A handler's places, and the threads that serve them."""

    def __init__(self, handler: Handler, places: int) -> None:
        self.handler = handler
        self._places = places
        self._free = asyncio.Semaphore(places)
        self._calls: set[asyncio.Future[Called]] = set()
        self._given_up: set[asyncio.Future[Called]] = set()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0

    @property
    def under_way(self) -> int:
        """How many calls have not returned."""
        return len(self._calls)

    @property
    def is_stuck(self) -> bool:
        """Whether calls that were given up have all places."""
        return len(self._given_up) >= self._places

    def failed(self, said: str, error: str) -> Called:
        """A call that did not end by itself."""
        return Called(
            said=bounded(said, ANSWER_CHARACTERS_MAX),
            error=error,
            where=where_of(self.handler),
            is_stuck=self.is_stuck,
        )

    async def enter(self, seconds_max: float) -> bool:
        """Take a place; no when none becomes free in that time, or none ever may."""
        if self.is_stuck:
            return False
        try:
            async with asyncio.timeout(seconds_max):
                await self._free.acquire()
        except TimeoutError:
            return False
        return True

    def begin(self, event: HandlerEvent) -> asyncio.Future[Called]:
        """Call the handler, in a place that was taken. RuntimeError when there is no thread to be had."""
        try:
            call = self._task(event) if self.handler.is_async else self._job(event)
        except RuntimeError:
            self._free.release()
            raise
        self._calls.add(call)
        call.add_done_callback(self._leave)
        return call

    def give_up(self, call: asyncio.Future[Called]) -> None:
        """Wait for that call no more. One that can be cancelled is."""
        if not call.done():
            self._given_up.add(call)
            if self.handler.is_async:
                call.cancel()

    def leave(self) -> list[asyncio.Future[Called]]:
        """End what can be ended; that which is about to."""
        for _ in range(self._threads):
            self._work.put(None)
        tasks = list(self._calls) if self.handler.is_async else []
        for task in tasks:
            task.cancel()
        return tasks

    def _leave(self, call: asyncio.Future[Called]) -> None:
        self._calls.discard(call)
        self._given_up.discard(call)
        self._free.release()

    def _task(self, event: HandlerEvent) -> asyncio.Future[Called]:
        return asyncio.create_task(_awaited(self.handler, event))

    def _job(self, event: HandlerEvent) -> asyncio.Future[Called]:
        if len(self._calls) == self._threads:
            # One that has served stays: what an application keeps for each thread, such as a connection, is kept.
            threading.Thread(target=_serve, args=(self._work,), name=self.handler.name, daemon=True).start()
            self._threads += 1
        loop = asyncio.get_running_loop()
        call: asyncio.Future[Called] = loop.create_future()
        self._work.put(lambda: _settle(loop, call, _called(self.handler, event)))
        return call


def event_of(letter: Letter) -> HandlerEvent:
    """What a handler is called with for a letter."""
    return HandlerEvent.of(letter.event, attempt=letter.attempt, is_replay=letter.is_replay, is_sample=letter.is_sample)


async def carry_each(name: str, letters: Sequence[Letter], call: Callable[[Letter], Awaitable[Called]]) -> Answer:
    """Call with each letter in turn, up to the first that is not taken; the last one's answer."""
    began = time.monotonic()
    called = RETURNED
    for letter in letters:
        called = await call(letter)
        if not called.taken:
            # Of those that were not tried there may be many, and what befell them has been told.
            if not called.is_untried:
                log.warning(
                    "handler.failed", handler=name, event_id=letter.id, error=called.error, where=called.where or None
                )
            break
    return Answer(
        taken=called.taken,
        said=called.said,
        is_refusal=called.has_raised,
        is_untried=called.is_untried,
        took_seconds=time.monotonic() - began,
    )


async def _awaited(handler: Handler, event: HandlerEvent) -> Called:
    """Run a coroutine function. SystemExit and KeyboardInterrupt would leave the task and end the loop."""
    try:
        await cast("Awaitable[object]", handler.function(event))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is that call's
        return Called.raised(error, handler)
    return RETURNED


def _called(handler: Handler, event: HandlerEvent) -> Called:
    """Call a function that is none."""
    try:
        returned = handler.function(event)
    except BaseException as error:  # noqa: BLE001 - the same
        return Called.raised(error, handler)
    if not inspect.isawaitable(returned):
        return RETURNED
    # The event would be taken, and nothing done.
    if inspect.iscoroutine(returned):
        returned.close()
    said = bounded(f"{handler.name} gave back what nobody awaits: make it `async def`", ANSWER_CHARACTERS_MAX)
    return Called(said=said, error="not awaited", where=where_of(handler))


def _serve(work: SimpleQueue[Callable[[], None] | None]) -> None:
    """A thread's life."""
    while (job := work.get()) is not None:
        job()
        # What the job holds would be held until the next one comes.
        del job


def _settle(loop: asyncio.AbstractEventLoop, call: asyncio.Future[Called], called: Called) -> None:
    # A loop that is closed has nobody who waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call.set_result, called)
