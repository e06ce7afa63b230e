"""Threads of our own, and look-ups in them: real threads that hang for as long as a test wants, under both loops."""

from __future__ import annotations

import asyncio
import importlib.util
import resource
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from landed.worker import threads, webhook
from landed.worker.threads import Crowded, LookUps, Threads

_spec = importlib.util.spec_from_file_location("subscriber", Path(__file__).with_name("subscriber.py"))
subscriber = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(subscriber)
OUTSIDE = subscriber.OUTSIDE
SECONDS_MAX = subscriber.SECONDS_MAX
SECRET = subscriber.SECRET
letter = subscriber.letter
serving = subscriber.serving
carrying = subscriber.carrying
run = subscriber.run

# As many as libuv has for a whole process.
LIBUV_THREADS = 4


class Names:
    """A resolver of this machine that hangs for every name that begins with "dead", until it may go on."""

    def __init__(self):
        self.goes_on = threading.Event()
        self.asked = []
        self.hanging = threading.Semaphore(0)

    def __call__(self, host, _port):
        self.asked.append(host)
        if host.startswith("dead"):
            self.hanging.release()
            self.goes_on.wait(SECONDS_MAX)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if host.startswith("wrong"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [OUTSIDE]

    async def hang(self, count):
        """Wait until so many look-ups hang."""
        for _ in range(count):
            assert await asyncio.to_thread(self.hanging.acquire, timeout=SECONDS_MAX)


@contextmanager
def hanging():
    names = Names()
    try:
        yield names
    finally:
        names.goes_on.set()


async def asked_for(look_ups, host, seconds_max):
    """What is known of a name within a time."""
    try:
        async with asyncio.timeout(seconds_max):
            return await look_ups(host, 443)
    except (TimeoutError, OSError, Crowded) as error:
        return type(error)


# Threads.


def test_what_a_thread_makes_or_raises_comes_back(run):
    async def going():
        some = Threads("some", 1)
        made = await asyncio.wrap_future(await some.start(lambda: 7, 1))
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(await some.start(lambda: 1 // 0, 1))
        return made

    assert run(going()) == 7


def test_who_comes_when_all_are_busy_goes_in_turn_when_one_ends(run):
    async def going():
        some, goes_on, order = Threads("some", 1), threading.Event(), []
        first = await some.start(lambda: goes_on.wait(SECONDS_MAX), 1)
        waiting = [asyncio.create_task(some.start(lambda at=at: order.append(at), SECONDS_MAX)) for at in range(3)]
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting)
        goes_on.set()
        for each in [first, *(await asyncio.gather(*waiting))]:
            await asyncio.wrap_future(each)
        return order

    assert run(going()) == [0, 1, 2]


def test_who_gets_none_in_time_is_told_so_and_takes_no_place(run):
    async def going():
        some, goes_on, done = Threads("some", 1), threading.Event(), []
        first = await some.start(lambda: goes_on.wait(SECONDS_MAX), 1)
        for _ in range(3):
            with pytest.raises(Crowded, match=r"not tried: of 1 threads for some none was free within 0\.02 s"):
                await some.start(lambda: done.append(1), 0.02)
        goes_on.set()
        await asyncio.wrap_future(first)
        await asyncio.wrap_future(await some.start(lambda: done.append(2), SECONDS_MAX))
        return done

    assert run(going()) == [2]


def test_a_system_without_threads_is_no_error_and_costs_no_place(run, monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    async def going():
        some = Threads("some", 1)
        with monkeypatch.context() as patched:
            patched.setattr(threads.Thread, "start", start)
            with pytest.raises(Crowded, match="the system gave no other"):
                await some.start(lambda: 1, 0.1)
        return await asyncio.wrap_future(await some.start(lambda: 1, 0.1))

    assert run(going()) == 1


# Look-ups.


def test_a_name_that_hangs_takes_one_thread_however_often_it_is_asked(run):
    async def going():
        before = set(threading.enumerate())
        with hanging() as names:
            look_ups = LookUps(1.0, resolve=names)
            for _ in range(5):
                assert set(await asyncio.gather(*(asked_for(look_ups, "dead", 0.03) for _ in range(20)))) == {
                    TimeoutError
                }
            running = [each.name for each in set(threading.enumerate()) - before].count("look-ups")
            return names.asked.count("dead"), running, await asked_for(look_ups, "well", 1)

    assert run(going()) == (1, 1, [OUTSIDE])


@pytest.mark.parametrize("dead", [LIBUV_THREADS, threads.LOOK_UPS_MAX - 1])
def test_a_healthy_name_is_looked_up_while_others_hang(run, dead):
    async def going():
        with hanging() as names:
            look_ups = LookUps(1.0, resolve=names)
            lost = [asyncio.create_task(asked_for(look_ups, f"dead{at}", 0.1)) for at in range(dead)]
            await names.hang(dead)
            assert set(await asyncio.gather(*lost)) == {TimeoutError}
            began = time.monotonic()
            return await asked_for(look_ups, "well", 1), time.monotonic() - began < 0.5

    assert run(going()) == ([OUTSIDE], True)


def test_when_all_threads_hang_another_name_is_not_tried_until_one_ends(run):
    async def going():
        with hanging() as names:
            look_ups = LookUps(0.1, resolve=names, count_max=2)
            lost = [asyncio.create_task(asked_for(look_ups, f"dead{at}", SECONDS_MAX)) for at in range(2)]
            await names.hang(2)
            crowded = await asked_for(look_ups, "well", 1)
            names.goes_on.set()
            return crowded, await asyncio.gather(*lost), await asked_for(look_ups, "well", 1), names.asked.count("well")

    assert run(going()) == (Crowded, [socket.gaierror] * 2, [OUTSIDE], 1)


def test_nothing_is_remembered_of_a_look_up_that_ended(run):
    async def going():
        names = Names()
        look_ups = LookUps(1.0, resolve=names)
        said = [await asked_for(look_ups, host, 1) for host in ("well", "wrong", "well", "wrong")]
        return said, names.asked

    said, asked = run(going())
    assert said == [[OUTSIDE], socket.gaierror] * 2
    assert asked == ["well", "wrong"] * 2


def test_an_error_after_everybody_left_is_told_to_nobody(run):
    async def going():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(about))
        with hanging() as names:
            look_ups = LookUps(1.0, resolve=names)
            assert await asked_for(look_ups, "dead", 0.02) is TimeoutError
            names.goes_on.set()
            # Whether it joins that one or asks again, both have ended after it.
            assert await asked_for(look_ups, "dead", 1) is socket.gaierror
        return told

    assert run(going()) == []


def test_an_exit_waits_for_no_look_up_that_hangs():
    code = """
import asyncio, threading, uvloop
from landed.worker.threads import LookUps
async def main():
    try:
        async with asyncio.timeout(0.2):
            await LookUps(1.0, resolve=lambda *_: threading.Event().wait(600))("dead", 443)
    except TimeoutError:
        print("given up")
uvloop.run(main())
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "given up\n", "")
    assert time.monotonic() - began < SECONDS_MAX


# Webhooks by them.


def test_webhooks_to_names_that_hang_hold_up_no_other(run):
    async def going():
        with hanging() as names:
            look_ups = LookUps(0.1, resolve=names)
            async with serving() as server, carrying(resolver=look_ups, connect_seconds_max=0.2) as carrier:

                async def to(host):
                    return await carrier.carry(f"http://{host}:{server.port}/", [SECRET], [letter()])

                for _ in range(3):
                    lost = await asyncio.gather(*(to(f"dead{at % 8}.example") for at in range(32)))
                    assert not any(answer.taken or answer.is_untried for answer in lost)
                return (await to("well.example")).said, len(names.asked)

    assert run(going()) == ("200", 8 + 1)


def test_a_webhook_for_whose_name_no_thread_is_free_was_not_tried(run):
    async def going():
        with hanging() as names:
            look_ups = LookUps(0.1, resolve=names, count_max=1)
            async with carrying(resolver=look_ups, connect_seconds_max=1) as carrier:
                dead = asyncio.create_task(carrier.carry("http://dead.example/", [SECRET], [letter()]))
                await names.hang(1)
                answer = await carrier.carry("http://well.example/", [SECRET], [letter()])
                names.goes_on.set()
                return answer, await dead

    answer, dead = run(going())
    assert (answer.taken, answer.is_untried) == (False, True)
    assert answer.said == "not tried: of 1 threads for look-ups none was free within 0.1 s"
    assert (dead.is_untried, dead.said) == (False, "its name cannot be looked up")


def test_by_default_a_thread_is_waited_for_no_longer_than_an_attempt_may_connect(run, monkeypatch):
    with hanging() as names:
        monkeypatch.setattr(threads, "_resolve", names)

        async def going():
            async with carrying(resolver=None, connect_seconds_max=0.4) as carrier:

                def to(host):
                    return carrier.carry(f"http://{host}.example/", [SECRET], [letter()])

                lost = asyncio.gather(*(to(f"dead{at}") for at in range(threads.LOOK_UPS_MAX)))
                await names.hang(threads.LOOK_UPS_MAX)
                await lost
                return await to("well")

        answer = run(going())
    assert (answer.taken, answer.is_untried) == (False, True)
    assert answer.said == "not tried: of 64 threads for look-ups none was free within 0.2 s"


@pytest.mark.parametrize(
    ("files", "connections"),
    [(1_024, 512), (1, 1), (20_000, 10_000), (1_000_000, 16_384), (resource.RLIM_INFINITY, 16_384)],
)
def test_connections_leave_files_to_the_rest_of_the_process(monkeypatch, files, connections):
    monkeypatch.setattr(webhook.resource, "getrlimit", lambda _: (files, files))
    assert webhook._connections_max() == connections  # noqa: SLF001
