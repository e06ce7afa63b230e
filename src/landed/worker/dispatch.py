"""The dispatch: brings events to those who want them, at least once, or lets them be seen as dead.

It takes from the outbox what may go out, lets the carriers take it there, and writes what came of it; each step is one
transaction. What was answered and cannot be written now, since the disk is full, stays in memory until it can: it is
never sent again for that. What was on its way when the process ended is sent again by the next one, since nobody knows
the answer.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from math import inf
from random import random as any_number
from typing import TypeVar

import msgspec
import structlog

from landed.domain.events import encode_event
from landed.errors import StoreUnable
from landed.store.outbox import Ask, DeliveryState, KeptEvent, Kind, Note, Outbox, Subscriber, SubscriberState, Taken
from landed.worker.lane import Lane, Manner
from landed.worker.letters import Answer, Carrier, Letter

IDLE_SECONDS = 0.05
# Answers that come meanwhile are written together.
BETWEEN_STEPS_SECONDS = 0.01
RETRY_SECONDS = 1.0
MEET_SECONDS = 0.5
RETIRE_SECONDS = 60.0
LEAVE_SECONDS = 1.5
SECOND_US = 1_000_000
US_A_DAY = 24 * 60 * 60 * SECOND_US
# Nothing waits for longer than somebody may ask for, spread and all.
WAIT_US_MAX = 27 * 60 * 60 * SECOND_US
ASKS_A_STEP = 16

# From a handler's to the longest that a webhook usually may take.
ATTEMPT_BOUNDS_SECONDS: Sequence[float] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)

UNKNOWN = "what it speaks of is not known any more"
GONE = "it answered that it is gone, and wants no events any more"

log = structlog.get_logger("landed.dispatch")

_T = TypeVar("_T")


def clock_us() -> int:
    """The time of this machine, in microseconds since 1970."""
    return time.time_ns() // 1_000


class Figures(msgspec.Struct, kw_only=True):
    """What came of the attempts at one subscriber since this process began: events, and how long attempts took.

    `failed` ones are tried again, `dead` ones are not. `counts` has the attempts up to each bound, but for those up to
    the one before it; the last one has those beyond all bounds.
    """

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    seconds: float = 0.0
    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(ATTEMPT_BOUNDS_SECONDS) + 1))

    def count(self, notes: Collection[Note], took_seconds: float) -> None:
        """One attempt more, at one event or several."""
        self.delivered += sum(note.state is DeliveryState.DELIVERED for note in notes)
        self.failed += sum(note.failed and note.state is DeliveryState.WAITING for note in notes)
        self.dead += sum(note.failed and note.state is DeliveryState.DEAD for note in notes)
        self.seconds += took_seconds
        self.counts[bisect_left(ATTEMPT_BOUNDS_SECONDS, took_seconds)] += 1

    def upto(self) -> list[tuple[float, int]]:
        """For each bound how many attempts took no longer; infinity has them all."""
        return list(zip((*ATTEMPT_BOUNDS_SECONDS, inf), accumulate(self.counts), strict=True))


class Round(msgspec.Struct, frozen=True):
    """What one step is to write, and what it may take."""

    notes: Collection[Note]
    asks: Collection[Ask]


class Desk:
    """All lanes, and what is to be written of them. No I/O and no clock: it says what to do, and is told what came."""

    def __init__(self, manners: Mapping[Kind, Manner], random: Callable[[], float] = any_number) -> None:
        self.lanes: dict[int, Lane] = {}
        # By name; the same mapping for as long as this lives, so that others may look into it.
        self.figures: dict[str, Figures] = {}
        self._manners = manners
        self._random = random
        self._notes: list[Note] = []
        self._stood_back: set[int] = set()

    def meet(self, subscribers: Collection[Subscriber]) -> None:
        """Serve those of them that are active, and nobody else."""
        for name in self.figures.keys() - {each.name for each in subscribers}:
            del self.figures[name]
        known = {each.row: each for each in subscribers if each.state is SubscriberState.ACTIVE}
        for row in self.lanes.keys() - known.keys():
            # What is on its way still comes back to it; who is served again begins anew.
            self._notes += self.lanes.pop(row).give_back()
        for row, subscriber in known.items():
            if row in self.lanes:
                self.lanes[row].subscriber = subscriber
            else:
                self.lanes[row] = Lane(subscriber, self._manners.get(subscriber.kind, Manner()), self._random)

    def round(self, now_us: int) -> Round:
        """What the next step is to do; nothing else may begin one before its `got`."""
        asks = [ask for lane in self.lanes.values() if (ask := lane.ask(now_us)) is not None]
        # Who had to stand back in the last step comes first.
        asks.sort(key=lambda ask: ask.subscriber.row not in self._stood_back)
        return Round(notes=tuple(self._notes), asks=asks)

    def got(self, done: Round, several: Collection[Taken], now_us: int, stood_back: Collection[Ask] = ()) -> None:
        """That step is done, and these were taken; some asks had to stand back for others."""
        del self._notes[: len(done.notes)]
        self._stood_back = {ask.subscriber.row for ask in stood_back}
        by_row: dict[int, list[Taken]] = {ask.subscriber.row: [] for ask in done.asks}
        for taken in several:
            if taken.kept.event is None:
                self._notes.append(_unknown(taken, now_us))
            else:
                by_row[taken.subscriber].append(taken)
        for ask in done.asks:
            if ask.subscriber.row not in self._stood_back:
                self.lanes[ask.subscriber.row].put(ask, by_row[ask.subscriber.row])

    def done(self, lane: Lane, several: Sequence[Taken], answer: Answer, now_us: int) -> None:
        """An answer came for what went out together."""
        was_open = lane.is_open
        notes = lane.done(several, answer, now_us)
        self._notes += notes
        self.figures.setdefault(lane.subscriber.name, Figures()).count(notes, answer.took_seconds)
        _log(lane, was_open=was_open, notes=notes, answer=answer, now_us=now_us)

    def leave(self) -> Round:
        """What is to be written before the end: what did not go out waits again."""
        for lane in self.lanes.values():
            self._notes += lane.give_back()
        return Round(notes=tuple(self._notes), asks=())


class Dispatch:
    """Runs a desk over an outbox, with a carrier for each kind of subscriber.

    `days` is how long events are kept. `failed` is told of the error that ended it.
    """

    def __init__(
        self,
        open_outbox: Callable[[], Outbox],
        carriers: Mapping[Kind, Carrier],
        manners: Mapping[Kind, Manner],
        *,
        days: int,
        now_us: Callable[[], int] = clock_us,
    ) -> None:
        self._open_outbox = open_outbox
        self._carriers = carriers
        self._desk = Desk(manners)
        self._days = days
        self._now_us = now_us
        # One thread for all that touches the disk: the loop never waits for it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        self._flights: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._leaves = asyncio.Event()
        self._met = self._retired = float("-inf")
        self._waits = False

    @property
    def figures(self) -> Mapping[str, Figures]:
        """What came of the attempts at each subscriber, by its name; it goes on."""
        return self._desk.figures

    def leave(self) -> None:
        """End soon: nothing new goes out."""
        self._leaves.set()
        self._woken.set()

    async def run(self) -> None:
        """Bring events to their subscribers until told to leave."""
        outbox = await self._in_thread(self._open_outbox)
        try:
            await self._until_written(outbox.begin)
            while not self._leaves.is_set():
                await self._pause(await self._step(outbox))
            await self._last(outbox)
        finally:
            for carrier in self._carriers.values():
                await carrier.close()
            await self._in_thread(outbox.close)
            self._thread.shutdown(wait=False)

    async def _step(self, outbox: Outbox) -> float:
        """One step; the seconds to wait before the next."""
        self._woken.clear()
        try:
            if time.monotonic() - self._met > MEET_SECONDS:
                self._met = time.monotonic()
                self._desk.meet(await self._in_thread(outbox.subscribers))
            now_us = self._now_us()
            todo = self._desk.round(now_us)
            stood_back, taken = await self._in_thread(lambda: stepped(outbox, todo, now_us))
            # At once: what was taken is nobody else's.
            self._desk.got(todo, taken, now_us, stood_back)
            await self._tidy(outbox, now_us)
        except StoreUnable as error:
            if not self._waits:
                log.error("dispatch.waits", error=str(error))  # noqa: TRY400 - the sentence says it all
            self._waits = True
            return RETRY_SECONDS
        self._waits = False
        for lane in list(self._desk.lanes.values()):
            self._launch(lane, outbox)
        return BETWEEN_STEPS_SECONDS if taken or todo.notes or stood_back else IDLE_SECONDS

    def _launch(self, lane: Lane, outbox: Outbox) -> None:
        """Send what may go out of a lane."""
        while not self._leaves.is_set() and (several := lane.next(self._now_us())):
            flight = asyncio.create_task(self._fly(lane, several, outbox))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    async def _fly(self, lane: Lane, several: Sequence[Taken], outbox: Outbox) -> None:
        subscriber = lane.subscriber
        began = time.monotonic()
        try:
            secrets = subscriber.secrets_at(self._now_us())
            letters = [
                letter
                for taken in several
                if (letter := letter_of(taken.kept, attempt=taken.attempts + 1, is_replay=taken.is_replay)) is not None
            ]
            answer = await self._carriers[subscriber.kind].carry(subscriber.address, secrets, letters)
        except Exception as error:
            # A mistake of ours in one carrier must not hold up the subscriber's queue for good.
            log.exception("carrier.failed", subscriber=subscriber.name)
            answer = Answer(taken=False, said=f"landed's own mistake: {type(error).__name__}")
        answer = msgspec.structs.replace(answer, took_seconds=time.monotonic() - began)
        self._desk.done(lane, several, answer, self._now_us())
        if answer.is_gone:
            await self._until_written(lambda: outbox.stop(subscriber.row, GONE))
            self._met = float("-inf")
        self._launch(lane, outbox)
        self._woken.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds - BETWEEN_STEPS_SECONDS)
        await asyncio.sleep(BETWEEN_STEPS_SECONDS)

    async def _last(self, outbox: Outbox) -> None:
        """Wait a moment for what is on its way, and write what came of it."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=LEAVE_SECONDS)
        for flight in self._flights:
            flight.cancel()
        todo = self._desk.leave()
        with suppress(StoreUnable):
            await self._in_thread(lambda: outbox.step(todo.notes, todo.asks, self._now_us()))

    async def _tidy(self, outbox: Outbox, now_us: int) -> None:
        """Now and then, let go of what is too old; a clock that is ahead for a moment makes nothing old."""
        if time.monotonic() - self._retired > RETIRE_SECONDS:
            await self._in_thread(lambda: outbox.wake(now_us + WAIT_US_MAX))
            newest_us = await self._in_thread(outbox.newest_at_us)
            retired = await self._in_thread(lambda: outbox.retire(min(now_us, newest_us) - self._days * US_A_DAY))
            if not retired:
                self._retired = time.monotonic()

    async def _until_written(self, write: Callable[[], None]) -> None:
        while not self._leaves.is_set():
            with suppress(StoreUnable):
                await self._in_thread(write)
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def stepped(outbox: Outbox, todo: Round, now_us: int) -> tuple[list[Ask], list[Taken]]:
    """One step for a bounded number of subscribers, so that it is short; those that stood back, and what was taken."""
    worth = outbox.worth(todo.asks, now_us)
    return worth[ASKS_A_STEP:], outbox.step(todo.notes, worth[:ASKS_A_STEP], now_us)


def letter_of(kept: KeptEvent, *, attempt: int = 1, is_replay: bool = False) -> Letter | None:
    """What is sent of an event; None where nothing is known of it any more."""
    if kept.event is None:
        return None
    return Letter(
        id=kept.id,
        type=kept.type,
        at=kept.at,
        attempt=attempt,
        event=kept.event,
        body=encode_event(kept.event),
        traits=kept.traits,
        is_replay=is_replay,
    )


def _unknown(taken: Taken, now_us: int) -> Note:
    return Note(
        subscriber=taken.subscriber,
        event=taken.kept.seq,
        state=DeliveryState.DEAD,
        attempts=taken.attempts,
        at_us=now_us,
        said=UNKNOWN,
    )


def _log(lane: Lane, *, was_open: bool, notes: Collection[Note], answer: Answer, now_us: int) -> None:
    """What did not arrive is told; and when a subscriber is left alone, and is back."""
    name = lane.subscriber.name
    # What an application's own error says may be somebody's number: it is in the outbox, and in no log.
    about = {"subscriber": name} | ({} if lane.subscriber.kind is Kind.HANDLER else {"said": answer.said})
    if lane.is_open and not was_open:
        log.warning("subscriber.left_alone", **about)
    elif was_open and not lane.is_open:
        log.info("subscriber.back", subscriber=name)
    dead = [note for note in notes if note.state is DeliveryState.DEAD]
    failed = [note for note in notes if note.failed and note.state is not DeliveryState.DEAD]
    if dead:
        log.error("event.dead", seq=dead[0].event, events=len(dead), attempts=dead[0].attempts, **about)
    if failed and (unsaid := lane.may_log(now_us)) is not None:
        log.warning("event.failed", seq=failed[0].event, events=len(failed), unsaid=unsaid, **about)
