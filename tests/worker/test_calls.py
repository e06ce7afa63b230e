"""Handlers that are called in this very process: in their time, in their places, and whatever they do."""

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from landed.domain.events import Event, EventType, encode_event, message_data
from landed.domain.lifecycle import Fact, message_of, receipt_key
from landed.domain.receipt import Api, Receipt, Status
from landed.handlers import On
from landed.settings import EventSettings
from landed.worker.calls import Calls
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Letter

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
SECONDS_MAX = 10
# Of a handler's time, where it is to run out.
SHORT_SECONDS = 0.1
FILE = Path(__file__).name


def letter(number=1):
    receipt = Receipt(
        api=Api.SMS, message_id="m", channel="sms", status=Status.FAILED, provider_status="failed", to="491701234567"
    )
    fact = Fact(receipt=receipt, key=receipt_key("default", receipt), received_at=NOON)
    data = message_data(message_of("default", [fact]), fact)
    event = Event(id=f"evt_{number}", type=EventType.FAILED, timestamp=NOON, data=data)
    return Letter(id=event.id, type=event.type, at=NOON, attempt=number, event=event, body=encode_event(event))


class Office:
    """Calls to the functions of a test, by their own names."""

    def __init__(self, calls, names):
        self.calls = calls
        self.names = names

    async def call(self, function, number=1):
        return await self.calls.carry(self.names[function.__name__], (), [letter(number)])


@asynccontextmanager
async def office(*functions, seconds=float(SECONDS_MAX), concurrency=4):
    on = On()
    for function in functions:
        on.failed(function)
    handlers = on.handlers()
    calls = Calls(handlers, EventSettings(handler_seconds_max=seconds, concurrency=concurrency))
    try:
        yield Office(calls, {handler.function.__name__: handler.name for handler in handlers})
    finally:
        await calls.close()


def run(test):
    """Run a coroutine function's test within its time."""

    def timed():
        asyncio.run(asyncio.wait_for(test(), SECONDS_MAX))

    timed.__name__ = test.__name__
    return timed


async def until(condition):
    """Wait until a condition holds, which another thread brings about."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.005)


@run
async def test_functions_and_coroutine_functions_hear_an_event_with_its_fields():
    heard = []

    def plain(event):
        heard.append((event.id, event.attempt, event.message.to, event.message.outcome, threading.current_thread()))

    async def coroutine(event):
        heard.append((event.id, event.attempt, event.message.to, event.receipt.status, threading.current_thread()))

    async with office(plain, coroutine) as it:
        answers = [await it.call(plain, 1), await it.call(coroutine, 2)]

    assert [(answer.taken, answer.said) for answer in answers] == [(True, "returned")] * 2
    assert [each[:4] for each in heard] == [
        ("evt_1", 1, "491701234567", "failed"),
        ("evt_2", 2, "491701234567", "failed"),
    ]
    assert heard[0][4].daemon
    assert heard[1][4] is threading.main_thread()


class Absurd(BaseException):
    """Not even an Exception."""


# Each by what is raised: how it is told.
RAISED = {
    "an-error": (lambda: ValueError("no such\norder"), "ValueError: no such order"),
    "sys-exit": (lambda: SystemExit(3), "SystemExit: 3"),
    "an-interruption": (KeyboardInterrupt, "KeyboardInterrupt"),
    "a-generator's-end": (GeneratorExit, "GeneratorExit"),
    "a-cancellation": (asyncio.CancelledError, "CancelledError"),
    "a-time-out-of-its-own": (lambda: TimeoutError("of a database"), "TimeoutError: of a database"),
    "a-stop": (StopAsyncIteration, "StopAsyncIteration"),
    "nothing-known": (lambda: Absurd("so"), "Absurd: so"),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
@pytest.mark.parametrize(("error", "told"), RAISED.values(), ids=RAISED)
def test_what_is_raised_fails_that_call_and_nothing_else(error, told, is_async):
    def plain(_):
        raise error()

    async def coroutine(_):
        raise error()

    def well(_): ...

    async def both():
        async with office(function := coroutine if is_async else plain, well) as it:
            return await it.call(function), await it.call(well)

    failed, after = asyncio.run(both())

    line = (coroutine if is_async else plain).__code__.co_firstlineno + 1
    assert not failed.taken
    assert failed.is_refusal
    assert failed.said == f"{told} ({FILE}:{line})"
    assert after.taken


@run
async def test_an_enormous_text_is_told_in_few_characters_with_its_line():
    def enormous(_):
        raise ValueError("x" * 5_000_000)

    async with office(enormous) as it:
        answer = await it.call(enormous)

    assert len(answer.said) <= ANSWER_CHARACTERS_MAX
    assert answer.said.startswith("ValueError: xxxx")
    assert answer.said.endswith(f"({FILE}:{enormous.__code__.co_firstlineno + 1})")


@run
async def test_an_error_in_a_library_is_told_with_the_line_that_called_it():
    def reads(_):
        textwrap.dedent(None)

    async with office(reads) as it:
        answer = await it.call(reads)

    assert answer.said.endswith(f"({FILE}:{reads.__code__.co_firstlineno + 1})")


@run
async def test_the_log_says_who_failed_and_where_and_nothing_of_the_message():
    def leaks(event):
        raise ValueError(event.message.to)

    with capture_logs() as lines:
        async with office(leaks) as it:
            await it.call(leaks)

    (line,) = lines
    assert line == {
        "event": "handler.failed",
        "log_level": "warning",
        "handler": it.names["leaks"],
        "event_id": "evt_1",
        "error": "ValueError",
        "where": f"{FILE}:{leaks.__code__.co_firstlineno + 1}",
    }


@run
async def test_a_coroutine_that_takes_too_long_is_cancelled():
    ended = []

    async def sleeps(_):
        try:
            await asyncio.sleep(3_600)
        finally:
            ended.append(True)

    async with office(sleeps, seconds=SHORT_SECONDS) as it:
        answer = await it.call(sleeps)

    assert not answer.taken
    assert answer.said.endswith("sleeps was cancelled after 0.1 s")
    assert ended == [True]


def test_a_coroutine_that_is_not_to_be_cancelled_keeps_its_place_until_it_returns(monkeypatch):
    monkeypatch.setattr("landed.worker.calls.CANCEL_SECONDS_MAX", SHORT_SECONDS)

    async def stubborn():
        free = asyncio.Event()

        async def stays(_):
            while not free.is_set():
                try:
                    await free.wait()
                except asyncio.CancelledError:
                    continue

        async with office(stays, seconds=SHORT_SECONDS, concurrency=1) as it:
            said = [(await it.call(stays)).said, (await it.call(stays)).said]
            free.set()
            await until(lambda: it.calls.under_way == 0)
            return [*said, (await it.call(stays)).said]

    hung, at_once, after = asyncio.run(asyncio.wait_for(stubborn(), SECONDS_MAX))

    assert hung.endswith("stays has not returned after 0.1 s")
    assert at_once.startswith("1 call of ")
    assert after == "returned"


@run
async def test_calls_that_hang_keep_their_places_and_no_thread_more_is_started():
    free = threading.Event()

    def hangs(_):
        free.wait(SECONDS_MAX)

    before = threading.active_count()
    async with office(hangs, seconds=SHORT_SECONDS, concurrency=4) as it:
        answers = await asyncio.gather(*(it.call(hangs, number) for number in range(4)))
        assert {answer.said.partition("hangs ")[2] for answer in answers} == {"has not returned after 0.1 s"}
        assert not any(answer.is_refusal for answer in answers), "it may be that it takes no other, either"
        began = time.monotonic()
        refused = await asyncio.gather(*(it.call(hangs, number) for number in range(50)))
        assert time.monotonic() - began < SHORT_SECONDS
        assert {answer.said for answer in refused} == {f"4 calls of {it.names['hangs']} have not returned"}
        assert threading.active_count() == before + 4
        free.set()
        await until(lambda: it.calls.under_way == 0)
        assert (await it.call(hangs)).taken
        assert threading.active_count() == before + 4


@run
async def test_one_handler_that_hangs_holds_up_no_other():
    free = threading.Event()

    def hangs(_):
        free.wait(SECONDS_MAX)

    def well(_): ...

    async with office(hangs, well, seconds=SHORT_SECONDS, concurrency=1) as it:
        await it.call(hangs)
        assert (await it.call(well)).taken
        free.set()


@run
async def test_a_call_waits_for_a_place_while_others_hang():
    free = threading.Event()
    begun = []

    def some_hang(event):
        begun.append(event.attempt)
        if event.attempt == 1:
            free.wait(SECONDS_MAX)

    async with office(some_hang, seconds=SHORT_SECONDS, concurrency=2) as it:
        assert not (await it.call(some_hang, 1)).taken
        answers = await asyncio.gather(*(it.call(some_hang, number) for number in range(2, 12)))
        free.set()

    assert all(answer.taken for answer in answers)
    assert sorted(begun) == list(range(1, 12))


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_as_many_calls_as_there_are_places_run_at_once_and_no_more(is_async):
    now = most = 0
    lock = threading.Lock()
    all_there, all_here = threading.Barrier(3), asyncio.Event()

    def plain(_):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        all_there.wait(SECONDS_MAX)
        with lock:
            now -= 1

    async def coroutine(_):
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            all_here.set()
        await all_here.wait()
        now -= 1

    async def nine():
        function = coroutine if is_async else plain
        async with office(function, concurrency=3) as it:
            return await asyncio.gather(*(it.call(function, number) for number in range(9)))

    answers = asyncio.run(asyncio.wait_for(nine(), SECONDS_MAX))

    assert all(answer.taken for answer in answers)
    assert most == 3


@run
async def test_a_thread_that_has_served_serves_again():
    threads = set()

    def notes(_):
        threads.add(threading.get_ident())

    async with office(notes) as it:
        for number in range(5):
            await it.call(notes, number)

    assert len(threads) == 1


@run
async def test_threads_go_when_it_is_closed():
    def well(_): ...

    before = threading.active_count()
    async with office(well) as it:
        await it.call(well)

    await until(lambda: threading.active_count() == before)


@run
async def test_a_function_that_gives_a_coroutine_back_has_done_nothing():
    async def later(_): ...

    def forgets(event):
        return later(event)

    async with office(forgets) as it:
        answer = await it.call(forgets)

    assert not answer.taken
    assert "gave back what nobody awaits" in answer.said


@run
async def test_who_waits_no_more_cancels_a_coroutine():
    begun, ended = asyncio.Event(), asyncio.Event()

    async def sleeps(_):
        begun.set()
        try:
            await asyncio.sleep(3_600)
        finally:
            ended.set()

    async with office(sleeps) as it:
        call = asyncio.create_task(it.call(sleeps))
        await begun.wait()
        call.cancel()
        await ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: it.calls.under_way == 0)


@run
async def test_several_letters_go_in_turn_up_to_the_first_that_fails():
    heard = []

    def second_fails(event):
        heard.append(event.id)
        if event.attempt == 2:
            raise ValueError

    async with office(second_fails) as it:
        answer = await it.calls.carry(it.names["second_fails"], (), [letter(1), letter(2), letter(3)])

    assert heard == ["evt_1", "evt_2"]
    assert answer.said.startswith("ValueError")


@run
async def test_a_handler_that_there_is_not_is_told():
    async with office() as it:
        answer = await it.calls.carry("app:gone", (), [letter()])

    assert (answer.taken, answer.said) == (False, "there is no handler app:gone")


HANGS = """
import asyncio, sys, threading
sys.path.insert(0, {directory!r})
from test_calls import letter
from landed.handlers import On
from landed.settings import EventSettings
from landed.worker.calls import Calls

on = On()

@on.failed
def hangs(event):
    threading.Event().wait()

async def main():
    (handler,) = on.handlers()
    calls = Calls([handler], EventSettings(handler_seconds_max=0.05))
    print((await calls.carry(handler.name, (), [letter()])).taken)
    await calls.close()

asyncio.run(main())
"""


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_process():
    code = HANGS.format(directory=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS_MAX, check=True)

    assert done.stdout.endswith("False\n")
