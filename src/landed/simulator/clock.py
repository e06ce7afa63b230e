"""The simulator's time: as fast as real time, faster by a factor, or only when it is told to go on.

Carriers, receipts and retries live in this time; signatures carry the real one, since whoever checks them looks at
a real clock. What is to happen waits in one queue, in the order of its moments. While time is stepped nothing passes
as long as an activity is under way, such as a call that is being answered, so that 72 hours take as long as
what happens in them, and happen in the same order each time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from itertools import count

from landed.errors import SurroundingsError

STEPPED = 0.0
# After so many things that happened without anybody waiting, others are let in.
TURNS_MAX = 1_000


class Clock:
    """Begins at `began`; `speed` is simulated seconds a real second, STEPPED lets time pass by `step` alone.

    `lanes` activities of one moment may be under way together while time is stepped. With 1, whoever is called is
    called in a fixed order.
    """

    def __init__(self, began: datetime, speed: float = 1.0, lanes: int = 1) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._stands_at = began
        self._speed = speed
        self._lanes = lanes
        self._real_began = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._stepping = asyncio.Lock()
        # Of what is due at one moment, the first to be asked for is the first to happen.
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = count()
        self._activities: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._is_stopped = False
        self._free = asyncio.Event()
        self._still = asyncio.Event()
        self._free.set()
        self._still.set()

    @property
    def is_stepped(self) -> bool:
        """Whether time passes only when it is told to."""
        return self._speed == STEPPED

    @property
    def speed(self) -> float:
        """Simulated seconds a real second."""
        return self._speed

    @property
    def waiting(self) -> int:
        """How many things are to happen."""
        return len(self._due)

    def run_at(self, speed: float) -> None:
        """Change how fast time passes from now on."""
        self._set_back(self.now())
        self._speed = speed
        self._arm()

    def now(self) -> datetime:
        """The simulated time."""
        if self._speed == STEPPED or self._stepping.locked():
            return self._stands_at
        return self._began + timedelta(seconds=(self._loop.time() - self._real_began) * self._speed)

    def at(self, moment: datetime, action: Callable[[], None]) -> None:
        """Do something at a moment; as soon as possible when it has passed."""
        heapq.heappush(self._due, (moment, next(self._order), action))
        if self._due[0][2] is action:
            self._arm()

    def begin(self, activity: Coroutine[None, None, None]) -> None:
        """Run an activity, during which stepped time stands still."""
        task = self._loop.create_task(activity)
        self._activities.add(task)
        self._still.clear()
        if len(self._activities) >= self._lanes:
            self._free.clear()
        task.add_done_callback(self._end)

    async def step(self, by: timedelta) -> None:
        """Let so much time pass at once, and all that happens in it happen, one moment after the other."""
        try:
            async with self._stepping:
                self._disarm()
                if not self.is_stepped:
                    self._stands_at = self._passed()
                await self._pass_to(self._stands_at + by)
        finally:
            # However it ended, time goes on from where it stands.
            if not self._stepping.locked():
                self._set_back(self._stands_at)
                self._arm()

    async def settle(self) -> None:
        """Let time pass until nothing is left that is to happen."""
        while self._due or self._activities:
            await self.step(max(self._due[0][0] - self.now(), timedelta()) if self._due else timedelta())

    async def stop(self) -> None:
        """End all activities where they are; nothing more happens, and a step that is under way says so."""
        self._is_stopped = True
        self._disarm()
        self._due.clear()
        for activity in self._activities:
            activity.cancel()
        await asyncio.gather(*self._activities, return_exceptions=True)

    async def _pass_to(self, until: datetime) -> None:
        turns = 0
        await self._until_still()
        while self._due and self._due[0][0] <= until:
            if self._due[0][0] > self._stands_at:
                # Time passes only when all that happens in this moment has ended.
                await self._until_still()
                if self._due[0][0] > until:
                    break
                self._stands_at = max(self._stands_at, self._due[0][0])
            heapq.heappop(self._due)[2]()
            await self._free.wait()
            turns += 1
            if turns % TURNS_MAX == 0:
                await asyncio.sleep(0)
            if not self._due or self._due[0][0] > self._stands_at:
                await self._until_still()
        if self._is_stopped:
            raise SurroundingsError("The simulator was stopped before all of that time had passed.")
        self._stands_at = until

    async def _until_still(self) -> None:
        await self._still.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _passed(self) -> datetime:
        return self._began + timedelta(seconds=(self._loop.time() - self._real_began) * self._speed)

    def _set_back(self, now: datetime) -> None:
        self._began = self._stands_at = now
        self._real_began = self._loop.time()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """Wake up when the first thing is due, where time passes by itself."""
        self._disarm()
        if self._due and not self.is_stepped and not self._stepping.locked():
            wait = (self._due[0][0] - self.now()).total_seconds() / self._speed
            self._timer = self._loop.call_later(max(0.0, wait), self._happen)

    def _happen(self) -> None:
        self._timer = None
        try:
            for _ in range(TURNS_MAX):
                if not self._due or self._due[0][0] > self.now():
                    break
                heapq.heappop(self._due)[2]()
        finally:
            # What failed is told by the loop; what is due next happens all the same.
            self._arm()

    def _end(self, activity: asyncio.Task[None]) -> None:
        self._activities.discard(activity)
        failure = None if activity.cancelled() else activity.exception()
        if failure is not None:
            self._failure = failure
            # Whoever steps hears of it; where time passes by itself, nobody waits for an answer.
            self._loop.call_exception_handler({"message": "An activity of the simulator failed.", "exception": failure})
        if len(self._activities) < self._lanes:
            self._free.set()
        if not self._activities:
            self._still.set()
