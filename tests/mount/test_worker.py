"""Applications whose own processes work: one of them calls the handlers, and another goes on when it is gone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest

from landed.gate.meter import figures_in
from landed.store.outbox import Kind, SubscriberState
from landed.store.sqlite import FILE as STORE_FILE
from landed.store.sqlite_outbox import SqliteOutbox
from landed.vonage.signing import sign_sig
from landed.work import worker_runs

SECONDS = 30
CLIENTS = 8
CHECKED = {"VONAGE_API_KEY": "key-a", "VONAGE_SIGNATURE_SECRET": "secret-a"}
# Two of them take over from each other within about this.
TAKE_OVER_SECONDS = 5
SEVERAL = ["flask-shop", "flask-shop-preloaded", "django-shop", "fastapi-shop-workers"]


class Call(NamedTuple):
    message: str
    process: int
    attempt: int


def calls(mounted, word="ended"):
    """The calls that ended, or those that have begun, in order."""
    file = mounted.directory / "calls"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [Call(message, int(process), int(attempt)) for said, message, process, attempt in lines if said == word]


def heard(mounted, word="ended"):
    return Counter(call.message for call in calls(mounted, word))


def until(condition, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


def post(mounted, messages):
    """Receipts for these messages, of both APIs in turn, from several clients; again where 503 asks for that."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(lambda each: until(lambda: _post(mounted, *each) != 503), enumerate(messages)))


def _post(mounted, number, message):
    word = "rejected" if message.endswith("lost") else "delivered"
    if number % 2:
        return _taken(mounted.status(message, word))
    fields = {"messageId": message, "msisdn": "1", "to": "2", "api-key": "key-a", "scts": "2608011200"}
    fields |= {"status": word, "err-code": "0" if word == "delivered" else "6", "timestamp": str(int(time.time()))}
    fields["sig"] = sign_sig(fields, "secret-a")
    return _taken(mounted.ask("GET", f"/webhooks/delivery-receipt?{urlencode(fields)}").status)


def _taken(status):
    assert status in (200, 204, 503)
    return status


def named(word, count):
    return [f"{word}-{number}{'-lost' if number % 3 == 0 else ''}" for number in range(count)]


def until_written(mounted):
    """Wait until nothing is on its way, or is still to come."""

    def is_written():
        with closing(SqliteOutbox(mounted.data / STORE_FILE, only_read=True)) as outbox:
            return not any(each.waiting or each.unseen for each in outbox.backlogs().values())

    until(is_written)


def until_one_works(mounted, word="first"):
    """The process that works, once everything that it was told is written."""
    post(mounted, [word])
    until(lambda: word in heard(mounted))
    until_written(mounted)
    return calls(mounted)[-1].process


@pytest.mark.parametrize("name", [*SEVERAL, "fastapi-shop", "asgi-shop"])
def test_one_process_calls_the_handlers_once_for_each_event_and_the_others_append(mount, name):
    messages = named("message", 60)
    with mount(name) as mounted:
        post(mounted, messages)
        deadline = time.monotonic() + SECONDS
        while name in SEVERAL and figures_in(mounted.data).mounted < 2 and time.monotonic() < deadline:
            # The system decides which process gets one, and one of them may be slow to start.
            messages += (more := named(f"more-{len(messages)}", CLIENTS))
            post(mounted, more)
        until(lambda: len(heard(mounted)) >= len(messages))
        until_written(mounted)
        appending = figures_in(mounted.data).mounted
        processes = mounted.processes() or [mounted.process.pid]

    assert heard(mounted) == heard(mounted, "begun") == Counter(messages)
    assert {call.attempt for call in calls(mounted)} == {1}
    (working,) = {call.process for call in calls(mounted)}
    assert working in processes
    assert appending >= (2 if name in SEVERAL else 1)


@pytest.mark.parametrize("name", SEVERAL)
def test_another_process_goes_on_when_the_one_that_works_is_killed(mount, name):
    """What was under way comes twice, perhaps, and nothing else does."""
    before, slow, behind = named("before", 30), named("slow", 6), named("behind", 30)
    with mount(name) as mounted:
        first = until_one_works(mounted)
        post(mounted, before)
        until(lambda: len(heard(mounted)) == 1 + len(before))
        until_written(mounted)
        post(mounted, slow)
        until(lambda: heard(mounted, "begun").keys() >= set(slow))
        os.kill(first, signal.SIGKILL)
        killed = time.monotonic()
        # One that is connected to it at that moment would not be answered.
        until(lambda: first not in mounted.processes())
        post(mounted, behind)
        until(lambda: heard(mounted).keys() >= {*before, *slow, *behind})
        took_over = time.monotonic() - killed
        until_written(mounted)

    begun, ended = heard(mounted, "begun"), heard(mounted)
    assert set(ended) == {"first", *before, *slow, *behind}
    assert [message for message in begun if begun[message] > 1] == [message for message in begun if message in slow]
    assert set(begun.values()) == {1, 2}
    assert {call.process for call in calls(mounted) if call.message in before} == {first}
    (second,) = {call.process for call in calls(mounted) if call.message in behind}
    assert second != first
    # Processes of uvicorn are started again only after up to five seconds, and begin to work with their application.
    assert took_over < TAKE_OVER_SECONDS * (1 + name.startswith("fastapi"))


def _end_one(_mounted, working):
    os.kill(working, signal.SIGTERM)


def _reload(mounted, _working):
    mounted.process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize(
    ("name", "end"),
    [("flask-shop", _end_one), ("flask-shop-preloaded", _end_one), ("django-shop", _reload), ("flask-shop", _reload)],
    ids=["one-ends", "one-of-threads-ends", "django-reload", "reload"],
)
def test_a_process_that_is_told_to_end_lets_its_calls_end_and_another_goes_on(mount, name, end):
    slow, behind = named("slow", 6), named("behind", 10)
    with mount(name) as mounted:
        first = until_one_works(mounted)
        post(mounted, slow)
        until(lambda: heard(mounted, "begun").keys() >= set(slow))
        end(mounted, first)
        until(lambda: first not in mounted.processes())
        post(mounted, behind)
        until(lambda: heard(mounted).keys() >= {*slow, *behind})
        until_written(mounted)

    assert heard(mounted, "begun") == heard(mounted) == Counter(["first", *slow, *behind])
    assert {call.process for call in calls(mounted) if call.message in slow} == {first}
    assert first not in {call.process for call in calls(mounted) if call.message in behind}


@pytest.mark.parametrize("name", ["flask-shop", "fastapi-shop", "fastapi-shop-workers", "asgi-shop"])
def test_a_server_that_ends_lets_calls_end_and_says_them_never_again(mount, name):
    slow = named("slow", 6)
    with mount(name) as mounted:
        until_one_works(mounted)
        post(mounted, slow)
        until(lambda: heard(mounted, "begun").keys() >= set(slow))
        mounted.process.terminate()
        mounted.process.wait(SECONDS)
        until_written(mounted)

        assert heard(mounted, "begun") == heard(mounted) == Counter(["first", *slow])
        assert not worker_runs(mounted.data)


def test_a_handler_that_raises_or_hangs_disturbs_neither_the_application_nor_its_end(mount):
    with mount("flask-shop", {"LANDED_EVENTS__HANDLER_SECONDS_MAX": "0.5"} | CHECKED) as mounted:
        until_one_works(mounted)
        post(mounted, [*named("hanging", 3), "bad-1"])
        post(mounted, named("behind", 20))
        until(lambda: heard(mounted).keys() >= {"bad-1", *named("behind", 20)})
        began = time.monotonic()
        mounted.process.terminate()
        mounted.process.wait(SECONDS)
        took = time.monotonic() - began

    assert [call.attempt for call in calls(mounted, "begun") if call.message == "bad-1"] == [1, 2]
    assert [call.attempt for call in calls(mounted) if call.message == "bad-1"] == [2]
    assert took < 10


def serve(mounted, *options):
    """A worker beside, as a service has it."""
    command = [sys.executable, "-m", "landed", "serve", "--role", "worker", "--private-port", "0", "--print", "none"]
    return subprocess.Popen(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=mounted.directory,
        env=os.environ
        | {"LANDED_DATA": str(mounted.data)}
        | {"TEST_CALLS": str(mounted.directory / "calls")}
        | CHECKED,
    )


def test_a_worker_beside_says_that_the_application_works_already(mount):
    with mount("fastapi-shop") as mounted:
        until_one_works(mounted)
        with serve(mounted) as beside:
            _, said = beside.communicate(timeout=SECONDS)
        assert (beside.returncode, "Another worker runs" in said) == (3, True)
        post(mounted, ["behind"])
        until(lambda: "behind" in heard(mounted))


def test_the_application_waits_while_a_worker_runs_beside_and_goes_on_behind_it(mount):
    """It says that its handlers wait, since that worker does not have them; they get what came meanwhile."""
    with mount("flask-shop") as mounted:
        until_one_works(mounted)
        mounted.process.terminate()
        mounted.process.wait(SECONDS)
        with serve(mounted) as beside, mount("flask-shop") as again:
            until(lambda: worker_runs(mounted.data))
            post(again, meanwhile := named("meanwhile", 10))
            until(lambda: "handlers.wait" in again.said)
            assert {each.state for each in handlers_in(again)} == {SubscriberState.ABSENT}
            assert heard(again) == Counter(["first"])
            beside.terminate()
            assert beside.wait(SECONDS) == 0
            until(lambda: heard(again).keys() >= set(meanwhile))
            until_written(again)
            assert {each.state for each in handlers_in(again)} == {SubscriberState.ACTIVE}
            assert heard(again, "begun") == Counter(["first", *meanwhile])


def test_a_worker_beside_may_have_the_handlers_of_the_application(mount):
    shops = Path(__file__).with_name("shops.py")
    with mount("flask-shop") as mounted:
        until_one_works(mounted)
        mounted.process.terminate()
        mounted.process.wait(SECONDS)
        with serve(mounted, "--handlers", str(shops)) as beside, mount("flask-shop") as again:
            until(lambda: worker_runs(mounted.data))
            post(again, messages := named("message", 10))
            until(lambda: heard(again).keys() >= set(messages))
            assert not {call.process for call in calls(again) if call.message in messages} & set(again.processes())
            beside.terminate()
            assert beside.wait(SECONDS) == 0


def handlers_in(mounted):
    with closing(SqliteOutbox(mounted.data / STORE_FILE, only_read=True)) as outbox:
        return [each for each in outbox.subscribers() if each.kind is Kind.HANDLER]


@pytest.mark.parametrize("name", ["flask-gunicorn", "django-gunicorn", "fastapi-workers", "flask", "django", "fastapi"])
def test_an_example_notes_at_the_order_that_its_text_did_not_arrive(mount, vonage, name):
    """Sent through Vonage, whose receipts come back; told by whichever process is asked."""
    lost, arrives = "447700900101", "447700900102"
    vonage.choose(lost, "absent-subscriber-temporary")
    vonage.choose(arrives, "delivered")
    with mount(name, dict(vonage.environment)) as mounted:
        vonage.webhooks(receipt=f"http://127.0.0.1:{mounted.port}/webhooks/message-status")
        form = [("Content-Type", "application/x-www-form-urlencoded")]
        for order, to in enumerate((lost, arrives)):
            target = f"/orders/{order}/text" + (f"?to={to}" if name.startswith("fastapi") else "")
            assert mounted.ask("POST", target, f"to={to}".encode(), form).status == 202, mounted.said
        vonage.step(minutes=5)
        until(lambda: json.loads(mounted.ask("GET", "/orders/0").body)["text_failed"])
        until_written(mounted)
        told = [json.loads(mounted.ask("GET", f"/orders/{order}").body)["text_failed"] for order in (0, 1)]

    assert told == ["The phone was switched off or had no coverage.", None]
    assert "the text about order 0 did not arrive" in mounted.said
