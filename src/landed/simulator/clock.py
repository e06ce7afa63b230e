"""The simulator's time: as fast as real time, faster by a factor, or only when it is told to go on.

Carriers, receipts and retries live in this time; signatures carry the real one, since whoever checks them looks at
a real clock. In stepped time nothing passes while an activity is under way, such as a call that is being
answered, so that 72 hours take as long as what happens in them, and happen in the same order each time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from datetime import datetime, timedelta
from itertools import count

STEPPED = 0.0


class Clock:
    """Begins at `began`; `speed` is simulated seconds a real second, STEPPED lets time pass by `step` alone."""

    def __init__(self, began: datetime, speed: float = 1.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._stands_at = began
        self._speed = speed
        self._real_began = self._loop.time()
        # Who waits until when; of those that wait for one moment the first to ask is the first to go on.
        self._waiting: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = count()
        self._activities: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._still = asyncio.Event()
        self._still.set()

    @property
    def is_stepped(self) -> bool:
        """Whether time passes only when it is told to."""
        return self._speed == STEPPED

    def now(self) -> datetime:
        """The simulated time."""
        if self.is_stepped:
            return self._stands_at
        return self._began + timedelta(seconds=(self._loop.time() - self._real_began) * self._speed)

    def begin(self, activity: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run an activity, during which stepped time stands still except where it waits for time itself."""
        self._go_on()
        task = self._loop.create_task(activity)
        self._activities.add(task)
        task.add_done_callback(self._end)
        return task

    async def until(self, moment: datetime) -> None:
        """Wait for a moment; at once when it has passed. Called within activities only."""
        if not self.is_stepped:
            await asyncio.sleep(max(0.0, (moment - self.now()).total_seconds() / self._speed))
            return
        if moment <= self._stands_at:
            return
        woken: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self._waiting, (moment, next(self._order), woken))
        self._stand()
        try:
            await woken
        except asyncio.CancelledError:
            # Whoever is cancelled while it waits is under way again until it has ended.
            if not woken.done() or woken.cancelled():
                self._go_on()
            raise

    async def step(self, by: timedelta) -> None:
        """Let so much time pass, and all that happens in it happen, one moment after the other."""
        until = self._stands_at + by
        await self._still.wait()
        while self._waiting and self._waiting[0][0] <= until:
            moment, _, woken = heapq.heappop(self._waiting)
            self._stands_at = max(self._stands_at, moment)
            if not woken.done():
                self._go_on()
                woken.set_result(None)
                await self._still.wait()
        self._stands_at = until

    async def settle(self) -> None:
        """Wait until no activity is left; in stepped time, by letting pass what they wait for."""
        while self._activities:
            if self.is_stepped:
                await self._still.wait()
                if self._waiting:
                    await self.step(max(self._waiting[0][0] - self._stands_at, timedelta()))
            else:
                await asyncio.gather(*self._activities)

    async def stop(self) -> None:
        """End all activities where they are."""
        for activity in self._activities:
            activity.cancel()
        await asyncio.gather(*self._activities, return_exceptions=True)

    def _end(self, activity: asyncio.Task[None]) -> None:
        self._activities.discard(activity)
        self._stand()

    def _go_on(self) -> None:
        self._under_way += 1
        self._still.clear()

    def _stand(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._still.set()
