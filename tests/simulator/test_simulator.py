"""What becomes of messages: the well-known numbers, the same seed, failover, balance, and signatures that hold."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from vonage_http_client import Auth
from vonage_jwt import verify_signature

import landed
from landed.domain.receipt import Api, Outcome
from landed.simulator.account import Settings
from landed.simulator.fates import CARDS, FATES, REFUSED
from landed.simulator.simulator import Refused, Send

SECRET = "signature-secret-of-the-test-which-is-long"
LONG_TEXT = "x" * 400


def send(to="447700900001", api=Api.MESSAGES, **options):
    return Send(api=api, to=to, sender="ACME", **({"text": "Hello"} | options))


def parsed(callback, secret=SECRET):
    request = callback.request
    return landed.parse(request.method, request.path, request.query, request.headers, request.body, secrets=secret)


def code(status):
    return status.get("error", {}).get("title")


def words(receiver):
    return [json.loads(request.partition(b"\r\n\r\n")[2])["status"] for request in receiver.requests]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("api", Api)
def test_the_first_number_is_delivered_within_a_minute_under_every_seed(simulation, api, seed):
    async def play(simulator, receiver):
        simulator.take(send(api=api))
        await simulator.clock.step(timedelta(minutes=1))
        return words(receiver)

    assert simulation(play, seed=seed)[-1] == "delivered"


# What the strongest of a number's receipts says, once all have come; None where none come.
OUTCOMES = {
    "mute": None,
    "silent": Outcome.UNCONFIRMED,
    "lost": Outcome.UNCONFIRMED,
    "expired": Outcome.UNCONFIRMED,
    "switched-off": Outcome.UNCONFIRMED,
    "unknown": Outcome.UNCONFIRMED,
    "carrier": Outcome.PENDING,
    "undeliverable": Outcome.FAILED,
    "denied": Outcome.FAILED,
}
DELIVERED = {"delivered", "duplicates", "disorder", "false", "conflict", "buffered", "late", "read", "late-segment"} | {
    *("lost-segment", "flood", "unsigned", "wrong-secret", "skewed")
}
RANKED = [Outcome.PENDING, Outcome.UNCONFIRMED, Outcome.FAILED, Outcome.DELIVERED]


@pytest.mark.parametrize("number", CARDS)
@pytest.mark.parametrize("api", Api)
def test_a_number_forces_its_fate_through_both_apis(simulation, api, number):
    async def play(simulator, _receiver):
        (message,) = simulator.take(send(number, api))
        await simulator.clock.settle()
        return message, simulator.caller.callbacks

    message, callbacks = simulation(play, signature_secret=SECRET)
    fate = CARDS[number]
    assert message.fate == fate
    outcomes = [callback.receipt.outcome for callback in callbacks]
    expected = Outcome.DELIVERED if fate in DELIVERED else OUTCOMES.get(fate, Outcome.FAILED)
    assert max(outcomes, key=RANKED.index, default=None) == expected
    assert (message.arrived_at is not None) == FATES[fate].arrives


@pytest.mark.parametrize("number", [number for number in CARDS if number.startswith("4477009001")])
def test_the_last_two_digits_are_the_code_of_the_receipt(simulation, number):
    async def play(simulator, receiver):
        simulator.take(send(number, Api.SMS))
        await simulator.clock.settle()
        return json.loads(receiver.requests[-1].partition(b"\r\n\r\n")[2])["err-code"]

    assert simulation(play) == str(int(number[-2:]))


@pytest.mark.parametrize("number", REFUSED)
def test_who_sends_to_these_is_refused_with_the_status_of_the_last_two_digits(simulation, number):
    async def play(simulator, _receiver):
        with pytest.raises(Refused) as refused:
            simulator.take(send(number, Api.SMS))
        return refused.value.code

    assert simulation(play) == str(int(number[-2:]))


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(simulation):
    async def play(simulator, receiver):
        for number in range(40):
            to = f"44740000{number:04}"
            simulator.take(send(to, Api.SMS if number % 2 else Api.MESSAGES, text=LONG_TEXT))
            await simulator.clock.step(timedelta(seconds=number))
        await simulator.clock.settle()
        return [re.sub(rb"host: \S+", b"host: receiver", request) for request in receiver.requests]

    options = {"settings": Settings(webhook_format=None), "seed": 7}
    first = simulation(play, **options)
    assert len(first) > 100
    assert simulation(play, **options) == first
    assert simulation(play, **(options | {"seed": 8})) != first


@pytest.mark.parametrize("api", Api)
def test_what_it_signs_we_accept_and_tampered_we_refuse(simulation, api):
    async def play(simulator, _receiver):
        simulator.take(send(api=api, application_id=simulator.account.application.id))
        await simulator.clock.settle()
        return simulator.caller.callbacks

    for callback in simulation(play, signature_secret=SECRET):
        (fact,) = parsed(callback)
        assert fact.verified
        with pytest.raises(landed.BadSignature):
            parsed(callback, secret="another one")
        body = callback.request.body.replace(b"447700900001", b"447700900002")
        request = callback.request
        with pytest.raises(landed.BadSignature):
            landed.parse(request.method, request.path, b"", request.headers, body, secrets=SECRET)


def test_what_it_signs_the_sdk_accepts(simulation):
    async def play(simulator, _receiver):
        simulator.take(send(application_id=simulator.account.application.id))
        await simulator.clock.settle()
        return simulator.caller.callbacks[0].request

    token = dict(simulation(play, signature_secret=SECRET).headers)[b"authorization"].decode().removeprefix("Bearer ")
    assert verify_signature(token, SECRET)
    assert not verify_signature(token, SECRET + "!")


@pytest.mark.parametrize("method", ["md5", "sha1", "sha256", "sha512"])
def test_what_it_signs_by_hmac_the_sdk_accepts(simulation, method):
    async def play(simulator, _receiver):
        simulator.take(send(api=Api.SMS))
        await simulator.clock.settle()
        return json.loads(simulator.caller.callbacks[0].request.body)

    fields = simulation(play, signature_secret=SECRET, settings=Settings(signature_method=method))
    auth = Auth(api_key=fields["api-key"], signature_secret=SECRET, signature_method=method)
    assert auth.check_signature(dict(fields))
    assert not auth.check_signature(fields | {"status": "delivered" if fields["status"] != "delivered" else "failed"})


def test_a_rejected_message_falls_over_to_the_next_of_its_workflow(simulation):
    async def play(simulator, receiver):
        following = (send("447700900103", channel="viber_service"), send("447700900001"))
        (first,) = simulator.take(send("447700900102", channel="whatsapp", failover=following))
        await simulator.clock.settle()
        said = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in receiver.requests]
        return first.workflow.workflow_id, [
            (each["channel"], each["status"], each["workflow"]["items_number"], each["workflow"]["items_total"])
            for each in said
            if each["status"] != "submitted"
        ]

    _, said = simulation(play)
    assert said == [
        ("whatsapp", "rejected", "1", "3"),
        ("viber_service", "rejected", "2", "3"),
        ("sms", "delivered", "3", "3"),
    ]


def test_what_arrives_falls_over_to_nothing(simulation):
    async def play(simulator, receiver):
        simulator.take(send(failover=(send("447700900002"),)))
        await simulator.clock.settle()
        return words(receiver)

    assert simulation(play) == ["submitted", "delivered"]


def test_money_goes_with_each_segment_until_there_is_none(simulation):
    async def play(simulator, _receiver):
        (one,) = simulator.take(send(text=LONG_TEXT))
        parts = simulator.take(send(api=Api.SMS, text=LONG_TEXT))
        left = simulator.account.balance
        simulator.take(send())
        with pytest.raises(Refused) as refused:
            simulator.take(send())
        return one.price, [part.price for part in parts], left, refused.value.code

    price, prices, left, code = simulation(play, balance=Decimal("0.25"))
    assert (price, prices, left, code) == (Decimal("0.0999"), [Decimal("0.0333")] * 3, Decimal("0.0502"), "9")


def test_more_than_the_account_s_throughput_is_told_how_long_to_wait(simulation):
    async def play(simulator, _receiver):
        for _ in range(5):
            simulator.take(send())
        await simulator.clock.step(timedelta(milliseconds=400))
        with pytest.raises(Refused) as refused:
            simulator.take(send())
        await simulator.clock.step(timedelta(milliseconds=refused.value.wait_ms))
        simulator.take(send())
        return refused.value.code, refused.value.wait_ms

    assert simulation(play, settings=Settings(throughput=5)) == ("1", 601)


def test_expired_is_made_up_after_three_days_and_what_comes_later_is_ignored(simulation):
    async def play(simulator, receiver):
        simulator.take(send("447700900006", Api.SMS))
        simulator.take(send("447700900006", Api.MESSAGES))
        await simulator.clock.step(timedelta(hours=72, seconds=-1))
        before = words(receiver)
        await simulator.clock.step(timedelta(seconds=1))
        said = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in receiver.requests[len(before) :]]
        return before, [(each["status"], each.get("err-code") or each["error"]["title"]) for each in said]

    assert simulation(play) == (["accepted", "submitted"], [("expired", "1"), ("rejected", "1360")])


def test_segments_are_told_together_and_a_late_one_rejects_what_arrived(simulation):
    async def play(simulator, receiver):
        for to in ("447700900001", "447700900015", "447700900016"):
            simulator.take(send(to, text=LONG_TEXT))
        await simulator.clock.settle()
        arrived = [message.arrived_at is not None for message in simulator.messages.values()]
        said = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in receiver.requests]
        finals = {each["to"]: each for each in said if each["status"] != "submitted"}
        return arrived, [
            (
                each["status"],
                [segment["status"] for segment in each["sms"]["segments"]],
                each.get("error", {}).get("title"),
            )
            for each in (finals[to] for to in ("447700900001", "447700900015", "447700900016"))
        ]

    arrived, finals = simulation(play)
    assert arrived == [True, True, False]
    assert finals == [
        ("delivered", ["delivered"] * 3, None),
        ("rejected", ["delivered", "delivered", "submitted"], None),
        ("rejected", ["delivered", "delivered", "rejected"], "1220"),
    ]
