"""An application's worker within one process: its handlers, its forks, its end, disks that say no, and its log."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import apsw
import pytest
import structlog

import landed
from landed.errors import SettingsError
from landed.handlers import On
from landed.journal.record import RequestRecord, decode
from landed.journal.sqlite import FILE as JOURNAL_FILE
from landed.journal.sqlite import SqliteJournal
from landed.settings import Settings, SubscriberSettings
from landed.store.outbox import SubscriberState
from landed.store.sqlite import FILE as STORE_FILE
from landed.store.sqlite_outbox import SqliteOutbox
from landed.work import worker_runs

SECONDS = 30
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


@pytest.fixture(autouse=True)
def _bare(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("LANDED_DATA", "VONAGE_API_KEY", "VONAGE_SIGNATURE_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _log_as_before():
    was_configured = structlog.is_configured()
    yield
    if not was_configured:
        structlog.reset_defaults()


# What each program begins with: an application of one process. Its handlers write down each call.
BEGINNING = """
import logging, os, signal, sys, time
import landed, structlog

def note(line):
    file = os.open("calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (line + "\\n").encode())
    os.close(file)

@landed.on.delivered
def arrived(event):
    note(f"begun {event.message.message_id} {os.getpid()}")
    if event.message.message_id.startswith("slow"):
        time.sleep(0.7)
    if event.message.message_id.startswith("forking"):
        fork(event.message.message_id)
    note(f"ended {event.message.message_id} {os.getpid()}")

def ask(name):
    def said(status, headers):
        answers.append(int(status[:3]))
    answers = []
    query = f"messageId={name}&msisdn=1&to=2&status=delivered"
    asked = {"REQUEST_METHOD": "GET", "PATH_INFO": "/webhooks/delivery-receipt", "QUERY_STRING": query}
    webhooks.wsgi(asked, said)
    return answers[0]

def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)

def said(line):
    return os.path.exists("calls") and any(each.startswith(line + " ") for each in open("calls").read().splitlines())

worker = landed.Worker()
webhooks = landed.Webhooks(worker=worker)
"""


def run(directory, code, *, beginning=BEGINNING):
    """Start a program; it is to be waited for, or to be ended."""
    return subprocess.Popen(
        # From Python 3.12 on a fork beside threads is warned of, which is what some of them are about.
        [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", beginning + code],
        cwd=directory,
        env=BARE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(directory, code, *, beginning=BEGINNING):
    """What a program says that ends by itself, and well."""
    with run(directory, code, beginning=beginning) as program:
        said, _ = program.communicate(timeout=SECONDS)
    assert program.returncode == 0, said
    return said


def calls(directory):
    """What was written down of calls: a word, the message, the process."""
    file = directory / "calls"
    return [tuple(line.split()) for line in file.read_text().splitlines()] if file.exists() else []


def queries(data):
    with closing(SqliteJournal(data / JOURNAL_FILE)) as journal:
        records = [decode(record) for _, record in journal.read(0, 1_000)]
    return [record.query.decode() for record in records if isinstance(record, RequestRecord)]


def waiting(data):
    """How many events wait or are still to come, for anybody."""
    with closing(SqliteOutbox(data / STORE_FILE, only_read=True)) as outbox:
        return sum(each.waiting + each.unseen for each in outbox.backlogs().values())


# The end.


def test_the_end_of_the_process_lets_a_call_end_and_writes_it_down(tmp_path):
    ended(tmp_path, 'ask("slow"); until(lambda: said("begun slow"))')

    assert [call[:2] for call in calls(tmp_path)] == [("begun", "slow"), ("ended", "slow")]
    assert waiting(tmp_path / "landed-data") == 0


def test_a_worker_may_be_ended_and_started_again(tmp_path):
    code = """
for number in range(3):
    worker.start(); worker.start()
    until(lambda: worker.works)
    ask(f"m-{number}"); until(lambda: said(f"ended m-{number}"))
    worker.stop()
    assert not worker.works
"""
    ended(tmp_path, code)

    assert len(calls(tmp_path)) == 6


def test_the_lock_is_let_go_of_when_the_work_fails(tmp_path):
    """As when the journal was taken away, so that the fold will not go on; said once, and the end comes at once."""
    data = tmp_path / "landed-data"
    ended(tmp_path, 'ask("m"); until(lambda: said("ended m"))')
    for file in data.glob("journal.db*"):
        file.unlink()
    code = """
webhooks.close(); worker.start()
until(lambda: worker.works)
until(lambda: not worker.works)
until(lambda: worker.works)
until(lambda: not worker.works)
began = time.monotonic(); worker.stop()
assert time.monotonic() - began < 1, time.monotonic() - began
"""
    said = ended(tmp_path, code)

    assert said.count("worker.waits") == 1
    assert not worker_runs(data)


# Handlers.


def handled(*names):
    """A registry with functions of these names."""
    handlers = On()
    for name in names:

        def function(event):
            del event

        function.__qualname__ = name
        handlers.delivered(function)
    return handlers


def states(data):
    with closing(SqliteOutbox(data / STORE_FILE, only_read=True)) as outbox:
        return {each.name.partition(":")[2]: each.state for each in outbox.subscribers()}


def test_handlers_that_are_there_no_more_are_let_alone(tmp_path):
    for names in (("one", "two"), ("two",), ("one", "two")):
        worker = landed.Worker(data=tmp_path, handlers=handled(*names))
        worker.start()
        wanted = {name: SubscriberState.ACTIVE if name in names else SubscriberState.ABSENT for name in ("one", "two")}
        until(lambda worker=worker: worker.works and (tmp_path / STORE_FILE).exists())
        until(lambda wanted=wanted: states(tmp_path) == wanted)
        worker.stop()


def test_of_two_workers_in_one_process_one_works(tmp_path):
    first, second = (landed.Worker(data=tmp_path, handlers=handled("one")) for _ in range(2))
    first.start()
    until((tmp_path / STORE_FILE).exists)
    second.start()
    assert not second.works
    first.stop()
    until(lambda: second.works)
    second.stop()


@pytest.mark.parametrize(
    ("settings", "handlers"),
    [
        pytest.param(Settings(), handled("one", "one"), id="two-of-one-name"),
        pytest.param(
            Settings(subscriber=(SubscriberSettings(name="a", url="http://127.0.0.1/"),)), On(), id="a-subscriber"
        ),
    ],
)
def test_what_is_wrong_when_it_is_made_ends_the_start(settings, handlers):
    with pytest.raises(SettingsError):
        landed.Worker(settings=settings, handlers=handlers)


def test_data_may_be_given_beside_settings(tmp_path):
    settings = Settings(data=tmp_path / "another")

    assert landed.Worker(settings=settings).data == tmp_path / "another"
    assert landed.Worker(data=tmp_path / "data", settings=settings).data == tmp_path / "data"


def test_webhooks_are_kept_where_the_worker_works(tmp_path):
    landed.Webhooks(data=tmp_path / "data", worker=landed.Worker(data="data"))
    with pytest.raises(SettingsError, match="give both the same data"):
        landed.Webhooks(data=tmp_path / "data", worker=landed.Worker())


def test_handlers_that_are_wrong_behind_that_let_nothing_be_taken(tmp_path):
    """Vonage tries again; to take receipts of which nobody hears would look as if all were well."""
    code = """
@landed.on.delivered
def arrived(event):
    pass

assert [ask("one"), ask("two")] == [503, 503]
try:
    worker.start()
except landed.errors.SettingsError as error:
    print("raised", error)

import asyncio
sent = []
async def send(message):
    sent.append(message)
async def receive():
    return {"type": "lifespan.startup"}
asyncio.run(webhooks.asgi({"type": "lifespan"}, receive, send))
assert [message["type"] for message in sent] == ["lifespan.startup.failed"], sent
"""
    said = ended(tmp_path, code)

    assert said.count("worker.not_started") == 1
    assert "raised <string>" in said
    assert list(tmp_path.iterdir()) == []


# Disks that say no.


def test_a_directory_that_cannot_be_made_is_said_once_and_waited_for(tmp_path):
    (tmp_path / "landed-data").write_text("in the way")
    code = """
assert ask("early") == 503
time.sleep(3.5)  # for more tries than one
assert ask("early") == 503
os.unlink("landed-data")
assert ask("late") == 204
until(lambda: said("ended late"))
"""
    said = ended(tmp_path, code)

    assert said.count("worker.waits") == 1
    assert "worker.waits" in said
    assert "landed-data cannot be made" in said


def test_a_store_that_is_held_is_waited_for_while_receipts_are_taken(tmp_path):
    ended(tmp_path, 'ask("before"); until(lambda: said("ended before"))')
    code = """
import apsw
holder = apsw.Connection("landed-data/store.db")
holder.execute("BEGIN IMMEDIATE")
assert [ask(f"m-{number}") for number in range(10)] == [204] * 10
print("taken", flush=True)
time.sleep(1)
assert not said("begun m-0")
holder.execute("COMMIT")
until(lambda: all(said(f"ended m-{number}") for number in range(10)))
"""
    ended(tmp_path, code)

    assert len(calls(tmp_path)) == 22


# Forks.

FORKED = """
ask("before"); until(lambda: said("ended before"))
assert worker.works
read, write = os.pipe()
if child := os.fork():
    os.close(read)
    ask("parent"); until(lambda: said("ended parent"))
    note(f"child _ {child}")
    signal.pause()
assert not worker.works
os.close(write)
os.read(read, 1)  # until the parent is gone
assert ask("child") == 204
until(lambda: said("ended child"))
until(lambda: os.path.exists("looked"))
assert ask("behind") == 204
until(lambda: said("ended behind"))
note(f"done _ {os.getpid()}")
signal.pause()
"""


def test_the_child_of_a_fork_holds_no_lock_and_takes_over_when_its_parent_is_killed(tmp_path):
    """Nor is anything lost that it took when others look at the data meanwhile, and take themselves for the last."""
    data = tmp_path / "landed-data"
    with run(tmp_path, FORKED) as parent:
        try:
            (child,) = until(lambda: [int(pid) for word, _, pid in calls(tmp_path) if word == "child"])
            until(lambda: waiting(data) == 0)
        finally:
            parent.kill()
        try:
            until(lambda: ("ended", "child", str(child)) in calls(tmp_path))
            for file in (JOURNAL_FILE, STORE_FILE):
                with closing(apsw.Connection(str(data / file))) as db:
                    assert db.execute("PRAGMA integrity_check").get == "ok"
            (tmp_path / "looked").touch()
            until(lambda: ("done", "_", str(child)) in calls(tmp_path))
        finally:
            os.kill(child, signal.SIGKILL)

    words = ("before", "parent", "child", "behind")
    assert [query.split("&")[0] for query in queries(data)] == [f"messageId={word}" for word in words]
    by = {message: int(pid) for word, message, pid in calls(tmp_path) if word == "ended"}
    assert by == dict.fromkeys(("before", "parent"), parent.pid) | dict.fromkeys(("child", "behind"), child)
    assert len(calls(tmp_path)) == 2 * len(words) + 2


def test_a_fork_cuts_no_call_and_the_child_of_one_within_a_call_keeps_its_hands_off(tmp_path):
    code = """
children = []
def fork(name):
    if not (child := os.fork()):
        status = ask("from a child")
        os._exit(0 if status == 503 else 1)
    children.append(child)

import threading
ask("slow"); until(lambda: said("begun slow"))
fork("within another's call")
ask("forking"); until(lambda: said("ended forking")); until(lambda: said("ended slow"))
for child in children:
    assert os.waitpid(child, 0)[1] == 0
ask("behind"); until(lambda: said("ended behind"))
"""
    said = ended(tmp_path, code)

    assert said.count("worker.not_started") == 2
    assert len(calls(tmp_path)) == 6
    assert waiting(tmp_path / "landed-data") == 0


def test_forks_one_behind_the_other_leave_the_work_be(tmp_path):
    code = """
ask("first"); until(lambda: said("ended first"))
began = time.monotonic()
for number in range(30):
    ask(f"m-{number}")
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
assert time.monotonic() - began < 10, time.monotonic() - began
until(lambda: all(said(f"ended m-{number}") for number in range(30)))
"""
    ended(tmp_path, code)

    assert len(calls(tmp_path)) == 62


# The log.


def test_our_lines_go_through_the_standard_library_and_the_application_s_stay_as_they_are(tmp_path):
    code = """
logging.basicConfig(level="INFO", format="LOG %(name)s %(levelname)s %(message)s", stream=sys.stdout)
theirs = structlog.get_logger()
theirs.info("before", number=1)
worker.start(); until(lambda: worker.works); worker.stop()
theirs.info("behind", number=1)
structlog.get_logger("another").info("behind", number=1)
"""
    said = ended(tmp_path, code).splitlines()

    assert any(line.startswith("LOG landed INFO event='worker.works'") for line in said)
    before, *behind = (line for line in said if "number" in line)
    assert not before.startswith("LOG")
    assert {line.partition("behind")[2] for line in behind} == {before.partition("before")[2]}


def test_an_application_s_own_structlog_has_our_lines_too(tmp_path):
    code = """
structlog.configure(processors=[structlog.processors.JSONRenderer()])
worker.start(); until(lambda: worker.works); worker.stop()
"""
    said = ended(tmp_path, code)

    assert '{"data": "landed-data", "handlers": ["<string>:arrived"], "event": "worker.works"}' in said.splitlines()


def test_a_handlers_error_is_in_the_log_and_the_application_goes_on(tmp_path):
    code = """
@landed.on("message.delivered")
def raising(event):
    raise SystemExit("none of the application's")

logging.basicConfig(level="WARNING", stream=sys.stdout)
ask("one"); until(lambda: said("ended one"))
ask("two"); until(lambda: said("ended two"))
"""
    said = ended(tmp_path, code)

    assert said.count("event='handler.failed' error='SystemExit'") == 2


def test_nothing_is_begun_before_the_first_webhook(tmp_path):
    code = "print(len(__import__('threading').enumerate()), worker.works)"

    assert ended(tmp_path, code).endswith("1 False\n")
    assert list(Path(tmp_path).iterdir()) == []
