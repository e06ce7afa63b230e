"""Load: realistic signed traffic at a steady rate, for any receiver.

Messages of every channel, network and fate, in both APIs' forms; each of their receipts comes in its order, with long
waits made short. Calls begin when they are due, whether or not those before them were answered, as Vonage's do.
"""

from __future__ import annotations

import asyncio
import heapq
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

import msgspec

from landed.domain.receipt import Api
from landed.simulator.callbacks import Attempt, Callback, Verdict
from landed.simulator.networks import CHANNELS, MOBILE, recipient_in
from landed.simulator.plan import Claim
from landed.simulator.simulator import Message, Send, Simulator

TICK_SECONDS = 0.002
# No more calls than these are under way at once; what is due then waits, and the report says how long.
UNDER_WAY_MAX = 2_000
# A receipt that comes hours after its message is not waited for longer than this, in messages at 1 a millisecond.
WAIT_SECONDS_MAX = 20.0
MESSAGES_A_SECOND = 1_000.0
# Of how many calls the progress tells the latency.
RECENT = 5_000
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
    """What became of a load: calls by answer and by verdict, how long answers took, and what had to be repeated."""

    asked: int = 0
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
        return self.states.get("taken", 0) == self.asked


class Load:
    """Calls at a rate, in receipts a second."""

    def __init__(self, simulator: Simulator, rate: float) -> None:
        self._simulator = simulator
        self._caller = simulator.caller
        self._rate = rate
        self._asked = self._calls = self._retries = self._under_way = 0
        self._answers: Counter[str] = Counter()
        self._over: Counter[Verdict] = Counter()
        self._latencies = array("f")
        self._held_back = 0.0
        self._began = 0.0
        self._caller.keeps = False
        self._caller.heard = self._heard

    async def drive(self, seconds: float, patience_seconds: float, progress: Callable[[Report], None]) -> Report:
        """Call for so long, then wait so long for what is still to be taken."""
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        traffic = traffic_of(self._simulator)
        number, told = 0, self._began
        for number in range(int(seconds * self._rate)):
            due = self._began + number / self._rate
            while (wait := due - loop.time()) > 0 or self._under_way >= UNDER_WAY_MAX:
                await asyncio.sleep(max(wait, TICK_SECONDS))
                if loop.time() - told >= 1:
                    told = loop.time()
                    progress(self.report())
            self._held_back = max(self._held_back, loop.time() - due)
            while not self._call(*next(traffic)):
                pass
            if number % 64 == 0:
                await asyncio.sleep(0)
        took = loop.time() - self._began
        ends = loop.time() + patience_seconds
        while self._over.total() < self._asked and loop.time() < ends:
            await asyncio.sleep(TICK_SECONDS)
            if loop.time() - told >= 1:
                told = loop.time()
                progress(self.report())
        return msgspec.structs.replace(self.report(whole=True), seconds=took)

    def report(self, *, whole: bool = False) -> Report:
        """What is known so far; latencies of the latest calls alone, unless of the whole."""
        latencies = sorted(self._latencies if whole else self._latencies[-RECENT:])
        states = {str(verdict): count for verdict, count in self._over.items()}
        return Report(
            asked=self._asked,
            seconds=asyncio.get_running_loop().time() - self._began,
            calls=self._calls,
            retries=self._retries,
            answers=dict(self._answers.most_common()),
            states=states | {"waiting": self._asked - self._over.total()},
            latency_ms={
                name: latencies[min(len(latencies) - 1, int(len(latencies) * part))]
                for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
                if latencies
            },
            held_back_ms=self._held_back * 1_000,
        )

    def _call(self, message: Message, claim: Claim) -> bool:
        """Whether there was anything to say."""
        now = self._simulator.clock.now()
        occurred_at = now - timedelta(seconds=1)
        callback = self._simulator.callback_of(message, claim, now, occurred_at)
        if callback is None:
            return False
        self._asked += 1
        self._under_way += 1
        self._caller.post(callback)
        return True

    def _heard(self, callback: Callback, attempt: Attempt) -> None:
        self._calls += 1
        if len(callback.attempts) == 1:
            self._under_way -= 1
        else:
            self._retries += 1
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
    for number in _numbers():
        now = number / MESSAGES_A_SECOND
        for message in _sent(simulator, number):
            for claim in message.plan.claims:
                order += 1
                heapq.heappush(waiting, (now + min(claim.after_seconds, WAIT_SECONDS_MAX), order, message, claim))
        while waiting and waiting[0][0] <= now:
            _, _, message, claim = heapq.heappop(waiting)
            for _ in range(claim.copies):
                yield message, claim


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


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
