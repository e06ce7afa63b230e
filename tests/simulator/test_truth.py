"""Ten thousand messages over all networks: what landed says of each, beside what became of it in truth."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta

from landed.domain.receipt import Api, Outcome
from landed.run import store_path
from landed.simulator.account import Settings
from landed.simulator.clock import STEPPED
from landed.simulator.fates import FATES, Difference
from landed.simulator.networks import CHANNELS, MOBILE, NETWORKS, USA, recipient_in, sender_kind
from landed.simulator.scenario import Scenario
from landed.simulator.server import simulator_of
from landed.simulator.simulator import Send
from landed.simulator.wire import Client
from landed.store.sqlite import SqliteReader

MESSAGES = 10_000
TEXTS = ("Your code is 123456.", "Your order is on its way. " * 12)
SENDERS = ("ACME", "14155550100", "18885550100", "28777")


def sends(dice, application_id):
    """Through both APIs, every channel and every country; a quarter is long, one in twenty has little time to live."""
    countries, apps = list(MOBILE), list(CHANNELS)
    for number in range(MESSAGES):
        api = Api.SMS if number % 2 else Api.MESSAGES
        is_app = api is Api.MESSAGES and number % 10 == 0
        yield Send(
            api=api,
            channel=apps[number // 10 % len(apps)] if is_app else "sms",
            to=recipient_in(countries[number % len(countries)], dice, number),
            sender=SENDERS[number // 7 % len(SENDERS)],
            text=TEXTS[number % 11 in (0, 4, 8)],
            ttl_seconds=30.0 if number % 20 == 3 and not is_app else None,
            client_ref=f"order-{number}",
            application_id=application_id if api is Api.MESSAGES else None,
        )


async def play(landed):
    client = Client()
    scenario = Scenario(
        speed=STEPPED,
        lanes=64,
        status_url=f"{landed.url}/webhooks/message-status",
        receipt_url=f"{landed.url}/webhooks/delivery-receipt",
        signature_secret=landed.secret,
        balance=1_000_000,
        settings=Settings(webhook_format=None),
    )
    simulator = simulator_of(scenario, client, "")
    for send in sends(simulator.dice, simulator.account.application.id):
        simulator.take(send)
        await simulator.clock.step(timedelta(milliseconds=100))
    await simulator.clock.settle()
    client.close()
    return simulator


def told_otherwise(outcome, arrived):
    """Whether what landed says is not what became of the message."""
    return outcome not in (Outcome.DELIVERED, Outcome.FAILED) or (outcome == Outcome.DELIVERED) != arrived


def was_told_to(message, difference):
    """Whether a message's network, or its sender, asked for this difference."""
    network, send = message.network, message.send
    weights = USA[sender_kind(send.sender)] if network.country == "US" else network.fates
    assert message.fate in weights
    if difference is Difference.SILENT and send.ttl_seconds is not None and message.arrived_at is None:
        return True
    if difference is Difference.SEGMENTS:
        return message.segments > 1
    return difference in FATES[message.fate].differs


def test_every_receipt_is_accounted_for_and_every_difference_is_one_that_was_asked_for(landed_serves):
    simulator = asyncio.run(play(landed_serves))
    messages = list(simulator.messages.values())
    callbacks = simulator.caller.callbacks
    assert {message.network.code for message in messages} >= {network.code for network in NETWORKS}
    assert {message.send.channel for message in messages} == {"sms", *CHANNELS}

    # Each call was taken, and each is one request that landed has; copies of one receipt are duplicates.
    assert {callback.state for callback in callbacks} == {"taken"}
    receipts = {}
    for callback in callbacks:
        said = (callback.receipt.provider_status, callback.receipt.code, callback.receipt.occurred_at)
        is_minute = callback.form.api is Api.SMS
        occurred_at = said[2].replace(second=0) if is_minute else said[2]
        receipts.setdefault(callback.message_id, set()).add((*said[:2], occurred_at))
    distinct = sum(map(len, receipts.values()))
    ledger = landed_serves.ledger()
    assert ledger == {
        "received": len(callbacks),
        "folded": distinct,
        "duplicate": len(callbacks) - distinct,
        "unreadable": 0,
        "waiting": 0,
        "quarantined": 0,
    }

    outcomes, differences = set(), set()
    with closing(SqliteReader(store_path(landed_serves.data))) as reader:
        for message in messages:
            found = reader.find(message.message_id, limit=1)
            outcome = found[0].outcome if found else Outcome.PENDING
            assert (found[0].receipts if found else 0) == len(receipts.get(message.message_id, ()))
            arrived = message.arrived_at is not None
            assert told_otherwise(outcome, arrived) == bool(message.plan.differs), message
            assert all(was_told_to(message, difference) for difference in message.plan.differs), message
            outcomes.add((outcome, arrived))
            differences |= message.plan.differs
    # All that can be said, and all that can be wrong with it, came about.
    assert len(outcomes) == 8
    assert differences == set(Difference)
