"""Calls back: both schedules to the second, each answer as Vonage reads it, against a real receiver."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import accumulate
from urllib.parse import parse_qs

import pytest

import landed
from landed.domain.receipt import Api
from landed.simulator.account import Settings, SmsSetting, Transport
from landed.simulator.callbacks import SCHEDULES, Verdict, verdict_on
from landed.simulator.simulator import Send

# Vonage's own list for its sandbox, and then every 900 seconds for a day.
DOUBLING = [5, 10, 20, 40, 80, 160, 320, 640]
SECRET = "s3cret"


def send(api, to="447700900001", **options):
    return Send(api=api, to=to, sender="ACME", text="Hello", **options)


@pytest.fixture
def attempts(simulation):
    """The tries of a message's first receipt, in seconds since the first, at a receiver that answers so."""

    def tries(api, *answers, url=None):
        async def play(simulator, _receiver):
            simulator.take(send(api, "447700900013", url=url))
            await simulator.clock.settle()
            (callback,) = simulator.caller.callbacks
            began = callback.attempts[0].at
            return [(attempt.at - began).total_seconds() for attempt in callback.attempts], callback

        return simulation(play, *answers)

    return tries


def test_the_messages_api_doubles_from_five_seconds_to_a_quarter_of_an_hour_for_a_day(attempts):
    at, callback = attempts(Api.MESSAGES, 503)

    assert at == [0, *accumulate(DOUBLING + [900] * 94)]
    assert (len(at), callback.state) == (103, "given up")
    assert at[-1] <= 86_400 < at[-1] + 900


def test_the_sms_api_tries_every_minute_for_three_days(attempts):
    at, callback = attempts(Api.SMS, 500)

    assert at == [60 * number for number in range(72 * 60 + 1)]
    assert callback.state == "given up"


@pytest.mark.parametrize("status", [200, 202, 204, 205])
@pytest.mark.parametrize("api", Api)
def test_what_is_taken_is_not_tried_again(attempts, api, status):
    at, callback = attempts(api, status)

    assert (at, callback.state, callback.is_taken) == ([0], "taken", True)


def test_a_receiver_that_comes_back_is_found_by_the_next_try(attempts):
    assert attempts(Api.MESSAGES, 503, 429, 500, 200)[0] == [0, 5, 15, 35]
    assert attempts(Api.SMS, 404, 401, 204)[0] == [0, 60, 120]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 406])
def test_the_messages_api_gives_up_where_it_is_refused(attempts, status):
    at, callback = attempts(Api.MESSAGES, status)

    assert (at, callback.attempts[0].verdict, callback.state) == ([0], Verdict.DROPPED, "dropped")


def test_nobody_there_is_no_answer(attempts):
    at, callback = attempts(Api.MESSAGES, url="http://127.0.0.1:1/")

    assert len(at) == 103
    assert {attempt.status for attempt in callback.attempts} == {None}
    assert "no connection" in callback.attempts[0].error


def test_a_schedule_waits_as_long_as_it_may_and_no_longer():
    for schedule in SCHEDULES.values():
        waits = list(schedule.waits())
        assert sum(waits) <= schedule.for_seconds < sum(waits) + schedule.last_seconds
    assert verdict_on(Api.SMS, None) is verdict_on(Api.MESSAGES, None) is Verdict.AGAIN


def test_each_try_is_made_anew(simulation):
    async def play(simulator, receiver):
        simulator.take(send(Api.SMS, "447700900013"))
        await simulator.clock.settle()
        return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in receiver.requests]

    first, second = simulation(play, 503, 200)
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"message-timestamp", "nonce", "sig"}
    assert (first["message-timestamp"], second["message-timestamp"]) == ("2026-08-01 12:00:00", "2026-08-01 12:01:00")


@pytest.mark.parametrize("transport", Transport)
def test_a_receipt_of_the_sms_api_comes_in_the_account_s_form_and_signed(simulation, transport):
    async def play(simulator, receiver):
        simulator.account.settings.webhook_format = transport
        simulator.take(send(Api.SMS, "447700900002"))
        await simulator.clock.settle()
        return receiver.requests[-1], simulator.caller.callbacks[-1].request

    wire, request = simulation(play, signature_secret=SECRET)
    line, _, rest = wire.partition(b"\r\n")
    headers, _, body = rest.partition(b"\r\n\r\n")
    method, target, _ = line.decode().split()
    path, _, query = target.partition("?")
    pairs = [tuple(header.split(b": ", 1)) for header in headers.split(b"\r\n")]
    (fact,) = landed.parse(method, path, query.encode(), pairs, body, secrets=SECRET)

    assert (fact.verified, fact.provider_status, fact.code, fact.to) == (True, "failed", "2", "447700900002")
    assert method == ("GET" if transport is Transport.GET else "POST")
    assert (request.method, request.query.decode()) == (method, query)
    if transport is Transport.POST_JSON:
        assert json.loads(body)["err-code"] == "2"
    else:
        assert parse_qs(query or body.decode())["err-code"] == ["2"]


def test_formats_are_taken_in_turn_where_none_is_set(simulation):
    async def play(simulator, receiver):
        for _ in range(3):
            simulator.take(send(Api.SMS, "447700900013"))
        await simulator.clock.settle()
        return [request.split(b" ", 1)[0] for request in receiver.requests], [b"json" in r for r in receiver.requests]

    options = Settings(webhook_format=None)
    assert simulation(play, settings=options) == ([b"GET", b"POST", b"POST"], [False, False, True])


def test_a_receipt_goes_to_the_url_of_its_message_else_its_application_s_else_its_account_s(simulation):
    async def play(simulator, receiver):
        simulator.account.settings.receipt_url = receiver.url + "account"
        application = simulator.account.application
        application.capabilities = {"messages": {"webhooks": {"status_url": {"address": receiver.url + "application"}}}}
        for options in ({"application_id": application.id}, {}, {"url": receiver.url + "own?a=b"}):
            simulator.take(send(Api.MESSAGES, "447700900013", **options))
        simulator.take(send(Api.SMS, "447700900013"))
        simulator.take(send(Api.SMS, "447700900013", url=receiver.url + "own"))
        simulator.take(send(Api.SMS, "447700900013", wants_receipts=False))
        await simulator.clock.settle()
        return [request.split(b" ")[1].decode() for request in receiver.requests]

    assert simulation(play) == ["/application", "/account", "/own?a=b", "/account", "/own"]


@pytest.mark.parametrize(
    ("setting", "forms"),
    [
        (None, ["message_uuid", "messageId"]),
        (SmsSetting.SMS, ["messageId"] * 2),
        (SmsSetting.MESSAGES, ["message_uuid"] * 2),
    ],
)
def test_the_account_s_setting_says_in_which_form_receipts_of_sms_come(simulation, setting, forms):
    async def play(simulator, receiver):
        simulator.take(send(Api.MESSAGES, "447700900013", application_id=simulator.account.application.id))
        simulator.take(send(Api.SMS, "447700900013"))
        await simulator.clock.settle()
        bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in receiver.requests]
        return [next(name for name in ("message_uuid", "messageId") if name in body) for body in bodies]

    assert simulation(play, settings=Settings(sms_setting=setting)) == forms


def test_a_fault_of_the_simulator_itself_loses_no_receipt(simulation):
    async def play(simulator, receiver):
        simulator.account.settings.signature_method = "none that there is"
        simulator.take(send(Api.SMS, "447700900013"))
        await simulator.clock.step(timedelta(minutes=1, seconds=30))
        simulator.account.settings.signature_method = None
        await simulator.clock.step(timedelta(minutes=1))
        (callback,) = simulator.caller.callbacks
        return [attempt.error for attempt in callback.attempts], callback.state, len(receiver.requests)

    errors, state, requests = simulation(play)
    assert (state, requests, errors[2]) == ("taken", 1, None)
    assert all("ValueError" in error for error in errors[:2])


def test_a_request_that_was_read_and_not_answered_is_one_attempt(simulation):
    async def play(simulator, receiver):
        simulator.take(send(Api.SMS, "447700900013"))
        simulator.take(send(Api.SMS, "447700900013"))
        await simulator.clock.settle()
        attempts = [len(callback.attempts) for callback in simulator.caller.callbacks]
        return attempts, len(receiver.requests)

    attempts, requests = simulation(play, 200, None, 200)
    assert attempts == [1, 2]
    assert requests == 3


def test_what_falls_over_to_a_number_that_is_refused_ends_there(simulation):
    async def play(simulator, _receiver):
        simulator.take(send(Api.MESSAGES, "447700900102", failover=(send(Api.MESSAGES, "447700900707"),)))
        await simulator.clock.settle()
        return list(simulator.messages.values())

    (message,) = simulation(play)
    assert message.send.to == "447700900102"
