"""Load: realistic signed traffic at a steady rate, for any receiver.

Messages of every channel, network and fate, in both APIs' forms; each of their receipts comes in its order, with long
waits made short. Calls begin when they are due, whether or not those before them were answered, as Vonage's do, up to
a limit of calls under way; what found no room by the end was not called, and is reported so.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import count

import msgspec

from landed.domain.receipt import Api
from landed.errors import SettingsError
from landed.simulator.callbacks import Attempt, Callback, Verdict
from landed.simulator.networks import CHANNELS, MOBILE, recipient_in
from landed.simulator.plan import Claim
from landed.simulator.simulator import Message, Send, Simulator
from landed.simulator.wire import target_of

TICK_SECONDS = 0.002
# No more calls than these wait for their answers at once.
UNDER_WAY_MAX = 2_000
# A receipt that comes hours after its message is not waited for longer than this, in messages at 1 a millisecond.
WAIT_SECONDS_MAX = 20.0
MESSAGES_A_SECOND = 1_000.0
# Of how many calls the progress tells the latency.
RECENT = 5_000
PARTS = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
# After so many calls, answers are read.
BREATH = 64
TEXT = "Your code is 123456."
LONG_TEXT = "Your order is on its way. " * 12
SENDERS = ("ACME", "14155550100", "18885550100", "447700900999")
# Of a hundred messages; texts are through either API, and some of them long.
MIX: Mapping[tuple[Api, str, str], float] = {
    (Api.MESSAGES, "sms", TEXT): 35,
    (Api.MESSAGES, "sms", LONG_TEXT): 5,
    (Api.SMS, "sms", TEXT): 40,
    (Api.SMS, "sms", LONG_TEXT): 3,
    (Api.MESSAGES, "whatsapp", TEXT): 10,
    (Api.MESSAGES, "viber_service", TEXT): 2,
    (Api.MESSAGES, "messenger", TEXT): 2,
    (Api.MESSAGES, "rcs", TEXT): 2,
    (Api.MESSAGES, "mms", TEXT): 1,
}
_COUNTRIES: Mapping[str, float] = dict.fromkeys(MOBILE, 1.0)


class Report(msgspec.Struct, kw_only=True):
    """What became of a load: calls by answer and by verdict, how long answers took, and what had to be repeated.

    `asked` counts the receipts that were called with, `not_called` those for which there was no room in time.
    """

    asked: int = 0
    not_called: int = 0
    seconds: float = 0.0
    calls: int = 0
    retries: int = 0
    answers: dict[str, int] = {}
    states: dict[str, int] = {}
    latency_ms: dict[str, float] = {}
    held_back_ms: float = 0.0

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has every receipt."""
        return self.states.get(Verdict.TAKEN, 0) == self.asked and not self.not_called


class Load:
    """Calls at a rate, in receipts a second. SettingsError where time does not run, or there is no address to call."""

    def __init__(self, simulator: Simulator, rate: float) -> None:
        if simulator.clock.is_stepped:
            raise SettingsError("A load needs time that runs: leave out --speed, or give a number.")
        for url in (simulator.account.application.status_url, simulator.account.settings.receipt_url):
            target_of(url)
        self._simulator = simulator
        self._caller = simulator.caller
        self._rate = rate
        self._asked = self._not_called = self._calls = self._retries = 0
        self._answers: Counter[str] = Counter()
        self._over: Counter[Verdict] = Counter()
        self._latencies = array("f")
        self._held_back = 0.0
        self._began = self._told = 0.0
        self._caller.keeps = False
        self._caller.heard = self._heard

    async def drive(self, seconds: float, patience_seconds: float, progress: Callable[[Report], None]) -> Report:
        """Call for so long, then wait so long for what is still to be taken."""
        loop = asyncio.get_running_loop()
        self._began = self._told = loop.time()
        traffic = traffic_of(self._simulator)
        wanted = max(1, int(seconds * self._rate))
        ends = self._began + wanted / self._rate
        while self._asked < wanted:
            due = self._began + self._asked / self._rate
            while (wait := due - loop.time()) > 0 or self._is_full(loop.time(), ends):
                await self._rest(max(wait, TICK_SECONDS), progress)
            if self._caller.under_way >= UNDER_WAY_MAX:
                self._not_called = wanted - self._asked
                break
            self._held_back = max(self._held_back, loop.time() - due)
            self._call(traffic)
            if self._asked % BREATH == 0:
                await asyncio.sleep(0)
        took = loop.time() - self._began
        until = loop.time() + patience_seconds
        while self._over.total() < self._asked and loop.time() < until:
            await self._rest(TICK_SECONDS, progress)
        return msgspec.structs.replace(self.report(whole=True), seconds=took)

    def report(self, *, whole: bool = False) -> Report:
        """What is known so far; latencies of the latest calls alone, unless of the whole."""
        latencies = sorted(self._latencies if whole else self._latencies[-RECENT:])
        states = {str(verdict): count for verdict, count in self._over.items()}
        return Report(
            asked=self._asked,
            not_called=self._not_called,
            seconds=asyncio.get_running_loop().time() - self._began,
            calls=self._calls,
            retries=self._retries,
            answers=dict(self._answers.most_common()),
            states=states | {"waiting": self._asked - self._over.total()},
            latency_ms={
                name: latencies[max(0, math.ceil(len(latencies) * part) - 1)] for name, part in PARTS if latencies
            },
            held_back_ms=self._held_back * 1_000,
        )

    def _is_full(self, now: float, ends: float) -> bool:
        """Whether what is due has to wait for answers; when the time is over nothing waits any longer."""
        return self._caller.under_way >= UNDER_WAY_MAX and now < ends

    async def _rest(self, seconds: float, progress: Callable[[Report], None]) -> None:
        await asyncio.sleep(min(seconds, 1.0))
        now = asyncio.get_running_loop().time()
        if now - self._told >= 1:
            self._told = now
            progress(self.report())

    def _call(self, traffic: Iterator[tuple[Message, Claim]]) -> None:
        """Call with the next thing that is to be said; an API says nothing of some."""
        now, callback = self._simulator.clock.now(), None
        while callback is None:
            message, claim = next(traffic)
            callback = self._simulator.callback_of(message, claim, now, now - timedelta(seconds=1))
        self._asked += self._caller.post(callback)

    def _heard(self, callback: Callback, attempt: Attempt) -> None:
        self._calls += 1
        self._retries += len(callback.attempts) > 1
        self._answers[str(attempt.status or attempt.error)] += 1
        if attempt.took_ms is not None:
            self._latencies.append(attempt.took_ms)
        if attempt.verdict is not Verdict.AGAIN:
            self._over[attempt.verdict] += 1


def traffic_of(simulator: Simulator) -> Iterator[tuple[Message, Claim]]:
    """Messages and what is said of them, without end, in the order in which it is said."""
    # When it is said, on a clock of its own; the number keeps what is said at once in order.
    waiting: list[tuple[float, int, Message, Claim]] = []
    order = 0
    for number in count():
        now = number / MESSAGES_A_SECOND
        for message in _sent(simulator, number):
            for claim in message.plan.claims:
                order += 1
                heapq.heappush(waiting, (now + min(claim.after_seconds, WAIT_SECONDS_MAX), order, message, claim))
        while waiting and waiting[0][0] <= now:
            _, _, message, claim = heapq.heappop(waiting)
            for _ in range(claim.copies):
                yield message, claim


def _sent(simulator: Simulator, number: int) -> list[Message]:
    dice = simulator.dice
    api, channel, text = dice.pick(MIX, "load", number)
    country = dice.pick(_COUNTRIES, "load's country", number)
    send = Send(
        api=api,
        channel=channel,
        text=text,
        to=recipient_in(country, dice, number),
        sender=dice.pick(dict.fromkeys(SENDERS, 1.0), "load's sender", number) if channel not in CHANNELS else "ACME",
        client_ref=f"load-{number}",
        application_id=simulator.account.application.id if api is Api.MESSAGES else None,
    )
    return simulator.plan(send)
