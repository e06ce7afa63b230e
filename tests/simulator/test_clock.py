"""Simulated time: nothing passes while something happens, and all happens in its order."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from landed.errors import SurroundingsError
from landed.simulator.clock import STEPPED, Clock

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)


def seconds(number):
    return timedelta(seconds=number)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 10))


async def until(is_so):
    while not is_so():  # noqa: ASYNC110 - real time passes meanwhile
        await asyncio.sleep(0.001)


def tell(clock, heard, name, *moments, work=0.0):
    """Say at each moment, in seconds after noon, that it is there; the work is an activity that takes real time."""

    async def activity():
        await asyncio.sleep(work)
        heard.append((name, (clock.now() - NOON).total_seconds()))

    for moment in moments:
        clock.at(NOON + seconds(moment), lambda: clock.begin(activity()))


def test_stepped_time_passes_from_moment_to_moment_and_waits_for_what_happens():
    async def play():
        clock, heard = Clock(NOON, STEPPED), []
        tell(clock, heard, "a", 1, 5, 100, work=0.01)
        tell(clock, heard, "b", 2, 5, 9)
        await clock.step(seconds(10))
        return clock.now(), heard

    now, heard = run(play())
    assert now == NOON + seconds(10)
    assert heard == [("a", 1), ("b", 2), ("a", 5), ("b", 5), ("b", 9)]


def test_what_has_passed_is_done_at_once():
    async def play():
        clock, heard = Clock(NOON, STEPPED), []
        await clock.step(seconds(50))
        tell(clock, heard, "late", 10, 50, 60)
        await clock.step(seconds(0))
        return heard

    assert run(play()) == [("late", 50), ("late", 50)]


def test_what_is_asked_for_within_a_moment_still_happens_in_it():
    async def play():
        clock, heard = Clock(NOON, STEPPED), []
        clock.at(NOON + seconds(3), lambda: tell(clock, heard, "then", 1, 3, 4))
        await clock.step(seconds(3))
        return heard

    assert run(play()) == [("then", 3), ("then", 3)]


def test_days_pass_at_once_and_to_the_second():
    async def play():
        clock, heard = Clock(NOON, STEPPED), []
        tell(clock, heard, "a", *range(0, 72 * 3_600, 60))
        await clock.settle()
        return heard

    assert run(play()) == [("a", moment) for moment in range(0, 72 * 3_600, 60)]


@pytest.mark.parametrize(("lanes", "together"), [(1, 1), (3, 3), (64, 10)])
def test_of_one_moment_as_many_are_under_way_as_there_are_lanes(lanes, together):
    async def play():
        clock, now, most = Clock(NOON, STEPPED, lanes), set(), 0

        async def activity(number):
            nonlocal most
            now.add(number)
            most = max(most, len(now))
            await asyncio.sleep(0.001)
            now.remove(number)

        for number in range(10):
            clock.at(NOON + seconds(1), lambda number=number: clock.begin(activity(number)))
        await clock.step(seconds(1))
        return most

    assert run(play()) == together


def test_real_time_runs_at_its_speed():
    async def play():
        clock, heard = Clock(NOON, 1_000.0), []
        began = asyncio.get_running_loop().time()
        tell(clock, heard, "a", 50, 100)
        await until(lambda: len(heard) == 2)
        return heard, asyncio.get_running_loop().time() - began

    heard, real = run(play())
    assert [name for name, _ in heard] == ["a", "a"]
    assert heard[0][1] >= 50
    assert heard[1][1] >= 100
    assert real >= 0.09


def test_time_that_runs_can_be_stepped_too_and_runs_on_from_there():
    async def play():
        clock, heard = Clock(NOON, 100.0), []
        tell(clock, heard, "a", 3_600, 7_200, 7_201)
        await clock.step(seconds(7_200))
        stepped = list(heard)
        await until(lambda: len(heard) == 3)
        return stepped, heard

    stepped, heard = run(play())
    assert [moment for _, moment in stepped] == [3_600, 7_200]
    assert 7_201 <= heard[2][1] < 7_300


def test_its_speed_can_be_changed():
    async def play():
        clock, heard = Clock(NOON, STEPPED), []
        tell(clock, heard, "a", 60)
        await asyncio.sleep(0.01)
        before = list(heard)
        clock.run_at(6_000.0)
        await until(lambda: heard)
        return before, clock.now()

    before, now = run(play())
    assert before == []
    assert now >= NOON + seconds(60)


@pytest.mark.parametrize("speed", [STEPPED, 1.0])
def test_what_is_stopped_ends_where_it_is(speed):
    async def play():
        clock, heard = Clock(NOON, speed), []
        tell(clock, heard, "a", 0)
        tell(clock, heard, "b", 0, 3_600, work=60)
        if speed == STEPPED:
            stepping = asyncio.ensure_future(clock.step(seconds(0)))
        await asyncio.sleep(0.05)
        await clock.stop()
        if speed == STEPPED:
            with pytest.raises(SurroundingsError, match="stopped before"):
                await stepping
        await clock.settle()
        return heard

    assert [name for name, _ in run(play())] == ["a"]


def test_who_steps_hears_of_what_failed():
    async def play():
        clock = Clock(NOON, STEPPED)

        async def activity():
            raise ValueError("failed")

        clock.at(NOON, lambda: clock.begin(activity()))
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        with pytest.raises(ValueError, match="failed"):
            await clock.step(seconds(1))

    run(play())


def test_time_goes_on_after_a_step_that_was_cancelled_or_failed():
    async def play():
        clock, heard = Clock(NOON, 1_000.0), []

        async def hanging():
            await asyncio.sleep(0.2)

        def fail():
            raise ValueError("failed")

        clock.at(NOON + seconds(3_600), lambda: clock.begin(hanging()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(clock.step(seconds(86_400)), 0.05)
        stood_at = clock.now()
        clock.at(clock.now(), fail)
        with pytest.raises(ValueError, match="failed"):
            await clock.step(seconds(1))
        clock.at(clock.now(), lambda: heard.append(clock.now()))
        await until(lambda: heard)
        return stood_at

    assert NOON + seconds(3_600) <= run(play()) < NOON + seconds(7_200)
