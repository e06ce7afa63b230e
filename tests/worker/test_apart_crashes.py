"""Handlers that crash their process: whose fault it was is found out, and nobody else pays for it."""

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from landed import run
from landed.domain.events import Event, EventType, encode_event, message_data
from landed.domain.lifecycle import Fact, message_of, receipt_key
from landed.domain.receipt import Api, Receipt, Status
from landed.settings import EventSettings
from landed.store.outbox import DeliveryState, Kind, Sought, Subscriber
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker.apart import WELL_CALLS_MIN, Apart
from landed.worker.dispatch import Dispatch
from landed.worker.letters import Letter

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
SECONDS_MAX = 20
HEALTHY_EVENTS = 500
CRASHES = 3

APP = """
import asyncio
import os
import time
from pathlib import Path

from landed import on


@on.delivered
def crashes(event):
    os._exit(3)


@on.delivered
async def healthy(event):
    await asyncio.sleep(0.05)


@on.delivered
def crashes_once(event):
    if not Path("crashed").exists():
        Path("crashed").touch()
        time.sleep(0.1)
        os._exit(3)


@on.delivered
async def waits(event):
    Path(f"begun-{event.attempt}").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)


@on.delivered
async def waits_too(event):
    await waits(event)
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rewrite(APP)


def letter(number=1):
    receipt = Receipt(api=Api.SMS, message_id="m", channel="sms", status=Status.DELIVERED, provider_status="delivered")
    fact = Fact(receipt=receipt, key=receipt_key("default", receipt), received_at=NOON)
    data = message_data(message_of("default", [fact]), fact)
    event = Event(id=f"evt_{number}", type=EventType.DELIVERED, timestamp=NOON, data=data)
    return Letter(id=event.id, type=event.type, at=NOON, attempt=number, event=event, body=encode_event(event))


@asynccontextmanager
async def office():
    apart = Apart("app.py", EventSettings(concurrency=4))
    await apart.start()
    try:
        yield apart
    finally:
        await apart.close()


def call(apart, name, number=1):
    return apart.carry(f"app:{name}", (), [letter(number)])


async def until(condition):
    """Wait until a condition holds, which another process brings about."""
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 - files and processes, not events
            await asyncio.sleep(0.01)


async def crash_together(apart, *names):
    """Kill the process while these wait; the answers."""
    calls = [asyncio.create_task(call(apart, name, number)) for number, name in enumerate(names)]
    await until(lambda: all(is_left(f"begun-{number}") for number in range(len(names))))
    os.kill(apart.pid, signal.SIGKILL)
    answers = await asyncio.gather(*calls)
    leave("go")
    return answers


async def taken(apart, name, count):
    """Call until so many were taken."""
    deadline = time.monotonic() + SECONDS_MAX
    while count:
        count -= (await call(apart, name)).taken
        assert time.monotonic() < deadline


def started(lines):
    """The processes that were started."""
    return [line["pid"] for line in lines if line["event"] == "handlers.started"]


def died(lines):
    """The processes that are known to have died."""
    return {line["pid"] for line in lines if line["event"] == "handlers.died"}


def leave(name):
    """A sign for a handler that looks for one."""
    Path(name).touch()


def take_away(name):
    """No sign any more."""
    Path(name).unlink()


def is_left(name):
    """Whether there is that sign."""
    return Path(name).exists()


def rewrite(text):
    """Another application in the same file."""
    Path("app.py").write_text(text)


def is_there(pid):
    """Whether there is that process; those that ended have been asked for."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_one_that_always_crashes_costs_the_others_little_and_its_events_their_attempts(road):
    road.say(*((f"m{number}", "delivered", {"to": "447700900123"}) for number in range(HEALTHY_EVENTS)))

    async def dispatched():
        apart = Apart("app.py", EventSettings())
        handlers = dict(await apart.start())
        for name in ("app:crashes", "app:healthy"):
            subscriber = Subscriber(name=name, kind=Kind.HANDLER, address=name, wanted=handlers[name])
            road.outbox.add(subscriber, since_us=0)
        dispatch = Dispatch(lambda: SqliteOutbox(run.store_path(road.data)), {Kind.HANDLER: apart}, {}, days=30_000)
        running = asyncio.create_task(dispatch.run())
        figures = dispatch.figures
        try:
            await until(
                lambda: (
                    len(figures) == 2
                    and figures["app:healthy"].delivered == HEALTHY_EVENTS
                    and figures["app:crashes"].failed >= CRASHES
                )
            )
        finally:
            dispatch.leave()
            await running
        return figures["app:healthy"].failed

    assert asyncio.run(dispatched()) == 0, "what others did was no attempt of its own"
    failed = [
        delivery
        for _, delivery in road.outbox.deliveries(Sought(states=(DeliveryState.WAITING,)), limit=HEALTHY_EVENTS)
        if delivery.attempts
    ]
    assert len(failed) >= CRASHES
    assert {delivery.said for delivery in failed} == {"the handlers' process died (exit 3)"}


def test_who_was_there_when_others_crashed_is_called_in_a_room_of_its_own_for_a_while():
    async def scenario():
        async with office() as apart:
            answers = await crash_together(apart, "waits", "waits_too")
            assert [answer.is_untried for answer in answers] == [True, True]
            await until(lambda: apart.pid)
            hall = apart.pid
            take_away("go")
            call_apart = asyncio.create_task(call(apart, "waits", 9))
            await until(lambda: is_left("begun-9"))
            # Whatever happens to theirs, the others do not notice.
            killed = list(filter(is_there, set(started(lines)) - {hall}))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            failed = await call_apart
            # A call to one that is dying, and not known to be, would be alone there, too.
            await until(lambda: set(killed) <= died(lines))
            assert (failed.taken, failed.is_untried) == (False, False), "it was alone there"
            leave("go")
            assert apart.pid == hall
            await taken(apart, "waits_too", WELL_CALLS_MIN)
            await until(lambda: sum(map(is_there, started(lines))) == 2)
            await taken(apart, "waits_too", 1)

    with capture_logs() as lines:
        asyncio.run(scenario())
    assert not any(is_there(pid) for pid in started(lines))
    told = [(line["handler"], line["guilty"]) for line in lines if line["event"] == "handlers.apart"]
    assert sorted(told) == [("app:waits", False), ("app:waits_too", False)]


def test_several_calls_of_one_handler_go_one_at_a_time_after_a_crash_until_it_is_known_which_it_was():
    async def scenario():
        async with office() as apart:
            answers = await asyncio.gather(*(call(apart, "crashes", number) for number in range(4)))
            assert all(answer.is_untried for answer in answers)
            return await asyncio.gather(*(call(apart, "crashes", number) for number in range(3)))

    answers = asyncio.run(scenario())

    assert [(answer.said, answer.is_untried, answer.is_refusal) for answer in answers] == [
        ("the handlers' process died (exit 3)", False, False)
    ] * 3


def test_who_crashed_is_back_among_the_others_when_its_calls_have_come_back_often_enough(monkeypatch):
    monkeypatch.setattr("landed.worker.apart.ACQUITTED_CALLS", 30)

    async def scenario():
        async with office() as apart:
            assert not (await call(apart, "crashes_once")).taken
            await taken(apart, "crashes_once", 30)
            await until(lambda: sum(map(is_there, started(lines))) == 1)
            await taken(apart, "crashes_once", 1)
            assert is_there(apart.pid)

    with capture_logs() as lines:
        asyncio.run(scenario())
    assert len(started(lines)) == 3, "the first, the next one for all, and its own"


def test_suspects_are_back_after_a_while_though_nothing_calls_them(monkeypatch):
    monkeypatch.setattr("landed.worker.apart.SUSPECT_SECONDS", 0.5)

    async def scenario():
        async with office() as apart:
            await crash_together(apart, "waits", "waits_too")
            await asyncio.sleep(0.6)
            await until(lambda: apart.pid and [pid for pid in started(lines) if is_there(pid)] == [apart.pid])
            assert (await call(apart, "waits")).taken

    with capture_logs() as lines:
        asyncio.run(scenario())


def test_more_suspects_than_rooms_share_one_and_the_innocent_are_let_go(monkeypatch):
    monkeypatch.setattr("landed.worker.apart.ROOMS_MAX", 1)

    async def scenario():
        async with office() as apart:
            answers = await asyncio.gather(call(apart, "crashes"), call(apart, "healthy"), call(apart, "crashes_once"))
            assert all(answer.is_untried for answer in answers)
            leave("crashed")
            answers = await asyncio.gather(call(apart, "healthy"), call(apart, "crashes"))
            assert [(answer.taken, answer.is_untried) for answer in answers] == [(True, False), (False, False)]
            assert (await call(apart, "healthy")).taken
            before = apart.pid
            assert not (await call(apart, "crashes")).taken
            assert apart.pid == before

    asyncio.run(scenario())


def test_the_next_process_starts_though_nobody_calls():
    async def scenario():
        async with office() as apart:
            first = apart.pid
            os.kill(first, signal.SIGKILL)
            await until(lambda: apart.pid not in {None, first})

    with capture_logs() as lines:
        asyncio.run(scenario())
    assert [line["event"] for line in lines] == ["handlers.started", "handlers.died", "handlers.started"]


def test_what_finds_no_process_was_not_tried():
    async def scenario():
        async with office() as apart:
            rewrite("1 / 0\n")
            os.kill(apart.pid, signal.SIGKILL)
            await until(lambda: apart.pid is None)
            return await call(apart, "healthy")

    answer = asyncio.run(scenario())

    assert answer.said.startswith("app.py:1 does not load")
    assert answer.is_untried
