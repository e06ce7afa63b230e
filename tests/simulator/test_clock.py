"""Simulated time: nothing passes while something happens, and all happens in its order."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from landed.simulator.clock import STEPPED, Clock

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)


def seconds(number):
    return timedelta(seconds=number)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 10))


async def told(clock, heard, name, *moments, work=0.0):
    for moment in moments:
        await clock.until(NOON + seconds(moment))
        # Real time that something takes: stepped time must wait for it.
        await asyncio.sleep(work)
        heard.append((name, (clock.now() - NOON).total_seconds()))


def test_stepped_time_passes_from_moment_to_moment_and_waits_for_what_happens():
    async def play():
        clock, heard = Clock(NOON, STEPPED), []
        clock.begin(told(clock, heard, "a", 1, 5, 100, work=0.01))
        clock.begin(told(clock, heard, "b", 2, 5, 9))
        await clock.step(seconds(10))
        return clock.now(), heard

    now, heard = run(play())
    assert now == NOON + seconds(10)
    assert heard == [("a", 1), ("b", 2), ("a", 5), ("b", 5), ("b", 9)]


def test_what_has_passed_is_not_waited_for():
    async def play():
        clock, heard = Clock(NOON, STEPPED), []
        await clock.step(seconds(50))
        clock.begin(told(clock, heard, "late", 10, 50, 60))
        await clock.step(seconds(0))
        return heard

    assert run(play()) == [("late", 50), ("late", 50)]


def test_days_pass_at_once_and_to_the_second():
    async def play():
        clock, heard = Clock(NOON, STEPPED), []
        clock.begin(told(clock, heard, "a", *range(0, 72 * 3_600, 60)))
        await clock.settle()
        return heard

    assert run(play()) == [("a", moment) for moment in range(0, 72 * 3_600, 60)]


def test_real_time_runs_at_its_speed():
    async def play():
        clock, heard = Clock(NOON, 1_000.0), []
        began = asyncio.get_running_loop().time()
        clock.begin(told(clock, heard, "a", 50, 100))
        await clock.settle()
        return heard, asyncio.get_running_loop().time() - began

    heard, real = run(play())
    assert [name for name, _ in heard] == ["a", "a"]
    assert heard[1][1] >= 100
    assert real >= 0.09


@pytest.mark.parametrize("speed", [STEPPED, 1.0])
def test_what_is_stopped_ends_where_it_is(speed):
    async def play():
        clock, heard = Clock(NOON, speed), []
        clock.begin(told(clock, heard, "a", 0, 3_600))
        await asyncio.sleep(0.05)
        await clock.stop()
        await clock.settle()
        return heard

    assert [name for name, _ in run(play())] == ["a"]


def test_time_goes_on_after_something_was_cancelled_while_it_waited():
    async def play():
        clock, heard = Clock(NOON, STEPPED), []
        waiting = clock.begin(told(clock, heard, "cancelled", 5))
        clock.begin(told(clock, heard, "b", 6))
        await asyncio.sleep(0)
        waiting.cancel()
        await clock.step(seconds(10))
        return heard

    assert run(play()) == [("b", 6)]
