"""Handlers in a process of their own: whatever they do to it, calls fail, and the next ones are taken."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from landed.domain.events import Event, EventType, Wanted, encode_event, message_data
from landed.domain.lifecycle import Fact, message_of, receipt_key
from landed.domain.receipt import Api, Receipt, Status
from landed.errors import SettingsError
from landed.handlers import load
from landed.settings import EventSettings
from landed.worker.apart import BACK_OFF_FIRST_SECONDS, BACK_OFF_LAST_SECONDS, STEADY_SECONDS, Apart, BackOff
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Letter

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
SECONDS_MAX = 20
# Of a handler's time, where it is to run out.
SHORT_SECONDS = 0.2
CLOSE_SECONDS_MAX = 2.0

APP = """
import asyncio
import ctypes
import os
import re
import sys
import threading
import time
from pathlib import Path

from landed import on


@on.failed(channel="sms")
def well(event):
    print("heard", event.id, event.message.to, event.attempt, event.is_replay, event.is_sample)


@on("message.*", network=["26201", "26202"])
async def coroutine(event):
    await asyncio.sleep(0)


@on.read
def raises(event):
    raise ValueError(f"no order for {event.message.to}")


@on.read
async def raises_apart(event):
    raise KeyError("order")


@on.read
def exits(event):
    sys.exit("enough")


@on.read
async def interrupts(event):
    raise KeyboardInterrupt


@on.read
def enormous(event):
    raise ValueError("x" * 20_000_000)


@on.read
def no_text(event):
    raise ValueError(chr(0xD800))


@on.read
def ends(event):
    os._exit(3)


@on.read
def crashes(event):
    ctypes.string_at(0)


@on.read
def hangs(event):
    Path(f"begun-{event.attempt}").touch()
    threading.Event().wait()


@on.read
async def sleeps(event):
    Path("begun").touch()
    try:
        await asyncio.sleep(3_600)
    finally:
        Path("cancelled").touch()


@on.read
def spins(event):
    while True:
        pass


@on.read
def holds_the_lock(event):
    Path("begun").touch()
    re.match("(a+)+$", "a" * 60 + "b")


@on.read
async def blocks_the_loop(event):
    time.sleep(3_600)


@on.read
def meets(event, met=threading.Barrier(3)):
    met.wait(10)


@on.read
def leaves_one_behind(event):
    if os.fork() == 0:
        time.sleep(2)
        os._exit(0)
    os._exit(0)


@on.read
def tells(event):
    print(sys.argv, os.getpgid(0) == os.getpid(), sys.stdin.read())
"""


def letter(number=1, **fields):
    receipt = Receipt(
        api=Api.SMS, message_id="m", channel="sms", status=Status.FAILED, provider_status="failed", to="491701234567"
    )
    fact = Fact(receipt=receipt, key=receipt_key("default", receipt), received_at=NOON)
    data = message_data(message_of("default", [fact]), fact)
    event = Event(id=f"evt_{number}", type=EventType.FAILED, timestamp=NOON, data=data)
    body = encode_event(event)
    return Letter(id=event.id, type=event.type, at=NOON, attempt=number, event=event, body=body, **fields)


class Office:
    """Calls to a file's handlers, by their functions' names."""

    def __init__(self, apart):
        self.apart = apart

    async def call(self, name, number=1, **fields):
        return await self.apart.carry(f"app:{name}", (), [letter(number, **fields)])

    async def said(self, name, number=1):
        return (await self.call(name, number)).said


@pytest.fixture
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(APP)


pytestmark = pytest.mark.usefixtures("_here")


@asynccontextmanager
async def office(*, seconds=10.0, concurrency=4, pong_seconds=5.0):
    settings = EventSettings(handler_seconds_max=seconds, concurrency=concurrency)
    apart = Apart("app.py", settings, pong_seconds_max=pong_seconds)
    await apart.start()
    try:
        yield Office(apart)
    finally:
        await apart.close()


def run(test):
    """Run a coroutine function's test within its time."""

    def timed():
        asyncio.run(asyncio.wait_for(test(), SECONDS_MAX))

    timed.__name__ = test.__name__
    return timed


def is_there(pid):
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout  # noqa: S607
    return bool(state.strip()) and not state.startswith("Z")


def left(pattern):
    """What handlers left behind to say how far they are."""
    return list(Path.cwd().glob(pattern))


def leave(name):
    """A sign for a handler that waits for one."""
    Path(name).touch()


def rewrite(text):
    """Another application in the same file."""
    Path("app.py").write_text(text)


async def until(condition):
    """Wait until a condition holds, which another process brings about."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.01)


# Starting.


@run
async def test_a_start_tells_the_handlers_and_what_each_wants():
    apart = Apart(Path("app.py"), EventSettings())
    try:
        handlers = dict(await apart.start())
    finally:
        await apart.close()

    assert len(handlers) == APP.count("@on")
    assert handlers["app:well"] == Wanted(events=("message.failed",), channels=("sms",))
    assert handlers["app:coroutine"] == Wanted(events=("message.*",), networks=("26201", "26202"))


# Each by the text of the file: how the sentence begins.
UNLOADABLE = {
    "an-error": ("\n1 / 0\n", "app.py:2 does not load: ZeroDivisionError: division by zero. Mend it"),
    "its-end": ("import os\nos._exit(7)\n", "app.py ends its process as it is loaded (exit 7): mend it, or start"),
    "a-crash": ("import ctypes\nctypes.string_at(0)\n", "app.py ends its process as it is loaded (signal 11): mend"),
    "a-thread-that-stays": (
        "import threading as t\nt.Thread(target=t.Event().wait).start()\n1 / 0\n",
        "app.py:3 does ",
    ),
}


@pytest.mark.parametrize(("text", "beginning"), UNLOADABLE.values(), ids=UNLOADABLE)
def test_a_file_that_does_not_load_stops_the_start_with_its_line(text, beginning):
    rewrite(text)

    async def start():
        apart = Apart("app.py", EventSettings())
        try:
            await apart.start()
        finally:
            await apart.close()

    with pytest.raises(SettingsError) as raised:
        asyncio.run(asyncio.wait_for(start(), SECONDS_MAX))

    assert str(raised.value).startswith(beginning)


def test_a_file_that_is_not_there_is_told_as_without_a_process():
    async def start():
        await Apart("gone.py", EventSettings()).start()

    with pytest.raises(SettingsError) as alone:
        load("gone.py")
    with pytest.raises(SettingsError) as raised:
        asyncio.run(start())

    assert str(raised.value) == str(alone.value)


def test_a_file_that_never_ends_loading_is_given_up_and_says_where_it_was(capfd):
    rewrite("import threading\n\nthreading.Event().wait()\n")

    async def start():
        await Apart("app.py", EventSettings(), start_seconds_max=1.0).start()

    with pytest.raises(SettingsError, match=r"^app\.py does not load within 1 s: "):
        asyncio.run(asyncio.wait_for(start(), SECONDS_MAX))

    assert 'app.py", line 3 in <module>' in capfd.readouterr().err


# Calls.


def test_a_handler_hears_the_event_s_fields_and_may_print(capfd):
    async def both():
        async with office() as it:
            return [await it.call("well", 7, is_replay=True), await it.call("coroutine"), await it.call("tells")]

    answers = asyncio.run(asyncio.wait_for(both(), SECONDS_MAX))

    assert [(answer.taken, answer.said) for answer in answers] == [(True, "returned")] * 3
    assert answers[0].took_seconds > 0
    printed = capfd.readouterr().out
    assert "heard evt_7 491701234567 7 True False\n" in printed
    assert "['app.py'] True \n" in printed


def line_of(text):
    return APP[: APP.index(text)].count("\n") + 1


# Each by the handler: what is said.
RAISED = {
    "raises": f"ValueError: no order for 491701234567 (app.py:{line_of('raise ValueError(f')})",
    "raises_apart": f"KeyError: 'order' (app.py:{line_of('raise KeyError')})",
    "exits": f"SystemExit: enough (app.py:{line_of('sys.exit')})",
    "interrupts": f"KeyboardInterrupt (app.py:{line_of('raise KeyboardInterrupt')})",
    "no_text": f"ValueError: (app.py:{line_of('raise ValueError(chr')})",
}


@run
async def test_what_is_raised_fails_that_call_and_the_process_stays():
    async with office() as it:
        pid = it.apart.pid
        with capture_logs() as lines:
            said = {name: await it.said(name) for name in RAISED}
            enormous = await it.said("enormous")

        assert said == RAISED
        assert enormous.startswith("ValueError: xxx")
        assert len(enormous) <= ANSWER_CHARACTERS_MAX
        assert (await it.call("well")).taken
        assert it.apart.pid == pid
        assert "491701234567" not in str(lines)
        assert {line["event"] for line in lines} == {"handler.failed"}


@run
async def test_calls_run_beside_each_other():
    async with office(concurrency=3) as it:
        answers = await asyncio.gather(*(it.call("meets", number) for number in range(3)))

    assert all(answer.taken for answer in answers)


@run
async def test_a_handler_that_there_is_not_is_told():
    async with office() as it:
        assert await it.said("gone") == "there is no handler app:gone"


@run
async def test_who_waits_no_more_cancels_a_coroutine():
    async with office() as it:
        call = asyncio.create_task(it.call("sleeps"))
        await until(lambda: left("begun"))
        call.cancel()
        await until(lambda: left("cancelled"))
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await it.call("well")).taken


# Time.


@run
async def test_a_coroutine_that_takes_too_long_is_cancelled_and_the_process_stays():
    async with office(seconds=SHORT_SECONDS) as it:
        pid = it.apart.pid

        assert await it.said("sleeps") == "app:sleeps was cancelled after 0.2 s"
        assert left("cancelled")
        assert it.apart.pid == pid


@run
async def test_calls_that_hang_are_given_up_until_all_places_are_taken_and_then_the_process_is_another():
    async with office(seconds=SHORT_SECONDS, concurrency=2) as it:
        first = it.apart.pid
        assert await it.said("hangs", 1) == "app:hangs has not returned after 0.2 s"
        assert (await it.call("well")).taken
        assert it.apart.pid == first

        assert await it.said("hangs", 2) == "app:hangs has not returned after 0.2 s"

        assert (await it.call("well")).taken
        assert it.apart.pid != first
        await until(lambda: not is_there(first))


@run
async def test_what_is_under_way_beside_calls_that_hang_may_come_to_its_end():
    rewrite(APP + "\n\n@on.read\ndef waits(event):\n    while not Path('go').exists():\n        time.sleep(0.01)\n")
    async with office(seconds=0.6, concurrency=1) as it:
        first = it.apart.pid
        hangs = asyncio.create_task(it.call("hangs"))
        # Its time is to be up later than that of the other.
        await asyncio.sleep(0.3)
        waits = asyncio.create_task(it.call("waits"))
        assert not (await hangs).taken
        assert is_there(first)
        leave("go")

        assert (await waits).taken
        await until(lambda: not is_there(first))


@run
async def test_a_busy_loop_is_given_up_while_others_are_called():
    async with office(seconds=SHORT_SECONDS) as it:
        pid = it.apart.pid

        spins, well = await asyncio.gather(it.call("spins"), it.call("well"))

        assert spins.said == "app:spins has not returned after 0.2 s"
        assert well.taken
        assert it.apart.pid == pid


@pytest.mark.parametrize("name", ["holds_the_lock", "blocks_the_loop"])
def test_a_process_that_does_not_answer_is_killed_and_says_where_it_was(name, capfd):
    async def blocked():
        async with office(seconds=SHORT_SECONDS, pong_seconds=SHORT_SECONDS) as it:
            first = it.apart.pid
            said = await it.said(name)
            return said, (await it.call("well")).taken, it.apart.pid != first

    answers = asyncio.run(asyncio.wait_for(blocked(), SECONDS_MAX))

    assert answers == ("the handlers' process was ended: it has not answered for 1.7 s", True, True)
    assert f"in {name}" in capfd.readouterr().err


# Ends.


# Each by the handler: what is said of a call that ended its process.
ENDS = {
    "ends": "the handlers' process died (exit 3)",
    "crashes": "the handlers' process died (signal 11)",
    "leaves_one_behind": "the handlers' process died (exit 0)",
}


@pytest.mark.parametrize(("name", "said"), ENDS.items(), ids=ENDS)
def test_a_call_that_ends_the_process_fails_and_the_next_is_taken(name, said):
    async def ended():
        async with office() as it:
            with capture_logs() as lines:
                died = await it.call(name)
                assert not died.is_untried, "no other can have been to blame"
                return died.said, (await it.call("well")).taken, [line["event"] for line in lines][:3]

    answers = asyncio.run(asyncio.wait_for(ended(), SECONDS_MAX))

    assert answers == (said, True, ["handlers.died", "handlers.apart", "handler.failed"])


@run
async def test_calls_under_way_together_when_the_process_is_killed_were_not_tried():
    async with office() as it:
        calls = [asyncio.create_task(it.call("hangs", number)) for number in (1, 2, 3)]
        await until(lambda: len(left("begun-*")) == 3)
        os.kill(it.apart.pid, signal.SIGKILL)
        answers = await asyncio.gather(*calls)

        died = "the handlers' process died (signal 9), with 3 calls under way"
        assert {(answer.taken, answer.said, answer.is_untried) for answer in answers} == {(False, died, True)}
        assert (await it.call("well")).taken


@run
async def test_many_calls_that_end_it_all_come_back_and_are_told_so():
    async with office() as it:
        answers = await asyncio.gather(*(it.call("ends", number) for number in range(10)))

        assert not any(answer.taken for answer in answers)
        assert (await it.call("well")).taken


@run
async def test_a_file_that_was_broken_meanwhile_is_told_and_one_that_was_mended_is_called():
    async with office() as it:
        rewrite("1 / 0\n")
        await it.call("ends")
        broken = await it.said("well")
        rewrite(APP)
        await until_taken(it)

    assert broken.startswith("app.py:1 does not load: ZeroDivisionError")


async def until_taken(it):
    deadline = time.monotonic() + SECONDS_MAX
    while not (await it.call("well")).taken:
        assert time.monotonic() < deadline


def test_the_wait_for_the_next_process_grows_up_to_a_limit():
    back_off = BackOff()
    waits = []
    for _ in range(10):
        back_off.note(lived_seconds=0.1)
        waits.append(round(back_off.left_seconds, 1))

    assert waits[:3] == [BACK_OFF_FIRST_SECONDS, 2 * BACK_OFF_FIRST_SECONDS, 4 * BACK_OFF_FIRST_SECONDS]
    assert max(waits) == waits[-1] == BACK_OFF_LAST_SECONDS

    back_off.note(lived_seconds=STEADY_SECONDS + 1)
    assert back_off.left_seconds <= BACK_OFF_FIRST_SECONDS
    back_off.note(lived_seconds=0.1)
    back_off.reset()
    back_off.note(lived_seconds=0.1)
    assert back_off.left_seconds <= BACK_OFF_FIRST_SECONDS


# The end.


# Each by the handler that is under way.
UNDER_WAY = {"a-thread": "hangs", "a-held-lock": "holds_the_lock"}


@pytest.mark.parametrize("name", UNDER_WAY.values(), ids=UNDER_WAY)
def test_closing_ends_the_process_soon_whatever_is_under_way(name):
    async def closed():
        async with office() as it:
            pid = it.apart.pid
            call = asyncio.create_task(it.call(name))
            await until(lambda: left("begun*"))
            began = time.monotonic()
            await it.apart.close()
            assert time.monotonic() - began < CLOSE_SECONDS_MAX
            assert not is_there(pid)
            assert not (await call).taken
            assert not (await it.call("well")).taken

    asyncio.run(asyncio.wait_for(closed(), SECONDS_MAX))


@run
async def test_closing_lets_the_application_tidy_up():
    rewrite(APP + "\n\nimport atexit\natexit.register(Path('tidied').touch)\n")
    async with office() as it:
        await it.call("well")

    assert left("tidied")


def test_it_runs_on_the_worker_s_loop_too():
    async def calls():
        async with office() as it:
            return [(await it.call("well")).taken, await it.said("ends"), (await it.call("well")).taken]

    answers = uvloop.run(asyncio.wait_for(calls(), SECONDS_MAX))

    assert answers == [True, "the handlers' process died (exit 3)", True]


PARENT = """
import asyncio, sys
sys.path.insert(0, {directory!r})
from test_apart import letter
from landed.settings import EventSettings
from landed.worker.apart import Apart

async def main():
    apart = Apart("app.py", EventSettings())
    await apart.start()
    print(apart.pid, flush=True)
    await apart.carry(sys.argv[1], (), [letter()])
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "name",
    [
        "well",
        "hangs",
        pytest.param(
            "holds_the_lock", marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends it with us")
        ),
    ],
)
def test_the_process_ends_with_its_parent_however_that_went(name):
    code = PARENT.format(directory=str(Path(__file__).parent))
    arguments = [sys.executable, "-c", code, f"app:{name}"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(next(line for line in parent.stdout if line.strip().isdigit()))
        try:
            assert is_there(pid)
            if name != "well":
                asyncio.run(until(lambda: left("begun*")))
        finally:
            parent.kill()

    asyncio.run(until(lambda: not is_there(pid)))
