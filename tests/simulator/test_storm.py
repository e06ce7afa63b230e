"""An hour's outage at a hundred receipts a second: the storm comes as computed, and landed loses none of it."""

from __future__ import annotations

import gc
from collections import Counter
from datetime import timedelta
from itertools import accumulate, chain, repeat

import uvloop

from landed.domain.receipt import Api
from landed.simulator.clock import STEPPED
from landed.simulator.faults import wanted_of
from landed.simulator.scenario import Scenario
from landed.simulator.server import simulator_of
from landed.simulator.simulator import Send
from landed.simulator.wire import Client

OUTAGE_SECONDS = 3_600
# Two receipts each.
MESSAGES_A_SECOND = 50
AFTER_SECONDS = 905
USUAL = 2 * MESSAGES_A_SECOND


def when_tried():
    """Seconds after a receipt is due at which the Messages API tries it, by its own words: 5 s, doubling, 15 min."""
    doubling = [5 * 2**number for number in range(8)]
    return accumulate(chain([0], doubling, repeat(900)))


def when_taken(due):
    """The first try that is made after the outage."""
    return next(due + after for after in when_tried() if due + after >= OUTAGE_SECONDS)


async def storm(landed):
    """Send for an hour in which nobody answers, and for a while after; the seconds at which receipts were taken."""
    client = Client()
    scenario = Scenario(
        speed=STEPPED,
        lanes=64,
        status_url=f"{landed.url}/webhooks/message-status",
        signature_secret=landed.secret,
        balance=1_000_000,
        faults=(wanted_of(f"outage,for={OUTAGE_SECONDS}s"),),
    )
    simulator = simulator_of(scenario, client, "")
    send = Send(
        api=Api.MESSAGES,
        to="447700900001",
        sender="ACME",
        text="Your code",
        application_id=simulator.account.application.id,
    )
    began = simulator.clock.now()
    for _ in range(OUTAGE_SECONDS + AFTER_SECONDS):
        for _ in range(MESSAGES_A_SECOND):
            simulator.take(send)
        await simulator.clock.step(timedelta(seconds=1))
    # Those of the last seconds.
    await simulator.clock.step(timedelta(seconds=5))
    client.close()
    return began, simulator.caller.callbacks


def test_the_storm_after_an_hour_s_outage_comes_as_computed_and_nothing_is_lost(landed_serves):
    # Half a million receipts that all stay: looking for garbage among them takes as long as all the rest.
    gc.disable()
    try:
        began, callbacks = uvloop.run(storm(landed_serves))
    finally:
        gc.enable()

    sent = (OUTAGE_SECONDS + AFTER_SECONDS) * MESSAGES_A_SECOND
    assert len(callbacks) == 2 * sent
    taken, computed = Counter(), Counter()
    for number, callback in enumerate(callbacks):
        assert callback.is_taken, callback
        due = (callback.attempts[0].at - began).total_seconds()
        taken[int((callback.attempts[-1].at - began).total_seconds())] += 1
        computed[int(when_taken(due))] += 1
        if number % 100 == 0:
            at = [round((attempt.at - began).total_seconds() - due, 3) for attempt in callback.attempts]
            assert at == [after for after, _ in zip(when_tried(), at, strict=False)]
    assert taken == computed
    assert min(taken) == OUTAGE_SECONDS
    storm_seconds = [taken[second] for second in range(OUTAGE_SECONDS, OUTAGE_SECONDS + 900)]
    assert 4.5 < sum(storm_seconds) / len(storm_seconds) / USUAL < 5.5

    assert landed_serves.ledger() == {
        "received": 2 * sent,
        "folded": 2 * sent,
        "duplicate": 0,
        "unreadable": 0,
        "waiting": 0,
        "quarantined": 0,
    }
