"""Calls back: both schedules to the second, each answer as Vonage reads it, against a real receiver."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import accumulate

import httpx
import pytest

from landed.domain.receipt import Api
from landed.simulator.callbacks import SCHEDULES, Callback, Caller, Verdict, verdict_on
from landed.simulator.clock import STEPPED, Clock
from landed.vonage.request import Request

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
# Vonage's own list for its sandbox, and then every 900 seconds for a day.
DOUBLING = [5, 10, 20, 40, 80, 160, 320, 640]


@asynccontextmanager
async def receiver(answers):
    """A receiver on a port of its own that gives these answers in turn, the last one from then on."""
    left = list(answers)

    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            assert head.startswith(b"GET / HTTP/1.1")
            status = left.pop(0) if len(left) > 1 else left[0]
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

    async def quietly(reader, writer):
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


def attempts(api, *answers, url=None):
    """The tries that are made at a receiver that answers so, in seconds since the first, with what was made of each."""

    async def play():
        clock = Clock(NOON, STEPPED)
        async with receiver(answers) as there, httpx.AsyncClient() as client:
            callback = Callback(api=api, message_id="m", url=url or there)
            caller = Caller(client, clock)

            async def activity():
                await caller.call(callback, lambda _now: Request(method="GET", path="/"))

            clock.begin(activity())
            await clock.settle()
        assert caller.callbacks == [callback]
        return callback

    callback = asyncio.run(asyncio.wait_for(play(), 60))
    return [(attempt.at - NOON).total_seconds() for attempt in callback.attempts], callback


def test_the_messages_api_doubles_from_five_seconds_to_a_quarter_of_an_hour_for_a_day():
    at, callback = attempts(Api.MESSAGES, 503)

    assert at == [0, *accumulate(DOUBLING + [900] * 94)]
    assert (len(at), callback.is_taken) == (103, False)
    assert at[-1] <= 86_400 < at[-1] + 900


def test_the_sms_api_tries_every_minute_for_three_days():
    at, callback = attempts(Api.SMS, 500)

    assert at == [60 * number for number in range(72 * 60 + 1)]
    assert not callback.is_taken


@pytest.mark.parametrize("status", [200, 202, 204, 205])
@pytest.mark.parametrize("api", Api)
def test_what_is_taken_is_not_tried_again(api, status):
    at, callback = attempts(api, status)

    assert (at, callback.is_taken) == ([0], True)


def test_a_receiver_that_comes_back_is_found_by_the_next_try():
    assert attempts(Api.MESSAGES, 503, 429, 500, 200)[0] == [0, 5, 15, 35]
    assert attempts(Api.SMS, 404, 401, 204)[0] == [0, 60, 120]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 406])
def test_the_messages_api_gives_up_where_it_is_refused(status):
    at, callback = attempts(Api.MESSAGES, status)

    assert (at, callback.attempts[0].verdict) == ([0], Verdict.DROPPED)


def test_nobody_there_is_no_answer():
    at, callback = attempts(Api.MESSAGES, 200, url="http://127.0.0.1:1/")

    assert len(at) == 103
    assert {attempt.status for attempt in callback.attempts} == {None}
    assert "ConnectError" in callback.attempts[0].error


def test_a_schedule_waits_as_long_as_it_may_and_no_longer():
    for schedule in SCHEDULES.values():
        waits = list(schedule.waits())
        assert sum(waits) <= schedule.for_seconds < sum(waits) + schedule.last_seconds
    assert verdict_on(Api.SMS, None) is verdict_on(Api.MESSAGES, None) is Verdict.AGAIN
