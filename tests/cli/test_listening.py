"""Events for who writes an application: `landed events listen` and `landed events try`."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from landed.domain.events import EventType
from landed.run import store_path
from landed.store.outbox import Kind, Subscriber
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker.webhook import new_secret


def _loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


command = _loaded("within", Path(__file__).with_name("within.py")).command
receiver = _loaded("receiver", Path(__file__).parent.with_name("receiver.py"))
receiving, until, SECONDS_MAX = receiver.receiving, receiver.until, receiver.SECONDS_MAX

NUMBER = "447700900001"
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}


class Listening:
    """A running `landed events listen`."""

    def __init__(self, directory, *options):
        self.printed, self.said = directory / "listen.out", directory / "listen.err"
        with self.printed.open("wb") as stdout, self.said.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "landed", "events", "listen", "--data", str(directory), *options],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=BARE | {"PYTHONUTF8": "1"},
            )

    def lines(self):
        return self.printed.read_text().splitlines()

    def interrupt(self):
        """Press Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(SECONDS_MAX)


@contextmanager
def listening(directory, *options):
    listen = Listening(directory, *options)
    try:
        yield listen
    finally:
        listen.process.kill()
        listen.process.wait(SECONDS_MAX)


@pytest.fixture
def tell(store_of):
    """Receive one more message of that name; or of that beginning, one after another until something is so."""

    def telling(name, condition=None, **fields):
        usual = {"status": "delivered", "channel": "sms", "to": NUMBER}
        for number in range(1_000):
            message = name if condition is None else f"{name}-{number}"
            store_of(usual | {"message_uuid": message} | fields)
            if condition is None:
                return
            try:
                until(condition, seconds_max=0.3)
            except AssertionError:
                continue
            return
        raise AssertionError(name)

    return telling


# Listening.


def test_new_events_are_printed_with_masked_numbers_until_ctrl_c_ends_it_well(tmp_path, tell):
    tell("old")
    with listening(tmp_path, "--event", "message.failed", "--event", "message.delivered", "--channel", "sms") as listen:
        tell("new", listen.lines)
        tell("other", channel="whatsapp")
        tell("failed", status="rejected", error={"title": "1180"})
        until(lambda: any("failed" in line for line in listen.lines()))
        assert listen.interrupt() == 0
    printed = listen.printed.read_text()
    assert "message.delivered" in printed
    assert "absent-subscriber-temporary" in printed
    assert not {"old", "other"} & {word for line in listen.lines() for word in line.split()}
    assert "4477•••••001" in printed
    assert NUMBER not in printed
    assert listen.said.read_text() == ""


def test_where_nothing_is_yet_the_first_event_is_told_too(tmp_path, tell):
    with listening(tmp_path, "--json") as listen:
        until(lambda: "waiting for `landed serve`" in listen.said.read_text())
        tell("first")
        (line,) = until(listen.lines)
        assert listen.interrupt() == 0
    event = json.loads(line)
    assert (event["type"], event["data"]["message"]["message_id"]) == ("message.delivered", "first")
    assert event["data"]["message"]["to"] == NUMBER


def test_numbers_are_shown_in_full_when_they_are_asked_for(tmp_path, tell):
    tell("old")
    with listening(tmp_path, "--show-numbers") as listen:
        tell("new", listen.lines)
    assert NUMBER in listen.printed.read_text()


def test_each_event_is_posted_to_an_application_nearby_signed_and_what_it_answers_is_said(tmp_path, tell):
    secret = new_secret()
    with receiving() as shop:
        tell("old")
        with listening(tmp_path, "--forward-to", shop.url.replace("127.0.0.1", "localhost")) as listen:
            tell("new", lambda: shop.got and listen.lines())
            shop.answer = lambda _: (500, {})
            tell("refused")
            until(lambda: any("500" in line for line in listen.lines()))
            assert listen.interrupt() == 0
        generated = listen.said.read_text().split()[-1]
        assert all(got.verified(generated) for got in shop.got)
        assert "old" not in shop.messages()
        assert listen.lines()[0].endswith("→ 204")

        with listening(tmp_path, "--forward-to", shop.url, "--secret", secret, "--json") as listen:
            tell("own", listen.lines)
            shop.close()
            tell("nobody")
            until(lambda: json.loads(listen.lines()[-1])["answer"] == "connection refused")
        assert shop.got[-1].verified(secret)
        shop.open()
    assert secret not in listen.said.read_text()


def test_a_reader_that_has_read_enough_ends_it(tmp_path, tell):
    tell("old")
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "landed", "events", "listen", "--data", str(tmp_path)], stdout=write, env=BARE
    ) as process:
        os.close(write)
        os.close(read)
        tell("new", lambda: process.poll() is not None)
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--forward-to", "localhost:8000/hook"], "write http://localhost:8000/hook"),
        (["--forward-to", "ftp://localhost/"], "does not begin with https://"),
        (["--forward-to", "http://10.0.0.1/"], "private, unless its network is among networks in [events]."),
        (["--event", "message.lost"], "No event is 'message.lost'"),
        (["--secret", "letmein"], "The secret is none"),
        (["--outcome", "lost"], "No outcome is 'lost'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_listened_to_is_said_in_one_sentence(command, options, sentence):
    run = command("events", "listen", *options)
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
    assert sentence in run.err


# Trying.


@pytest.mark.parametrize("name", [*EventType, "delivered", "failed", "read", "inbound", "quarantine"])
def test_a_sample_of_each_type_may_be_sent(command, name):
    with receiving() as shop:
        run = command("events", "try", str(name), "--to", shop.url)
    (got,) = shop.got
    assert (run.code, run.out.splitlines()[-1].startswith("taken: 204 (")) == (0, True), run
    assert name in got.type
    assert got.headers["landed-sample"] == "true"
    assert got.verified(run.out.splitlines()[0].split()[-1])["id"] == got.headers["webhook-id"]


def test_each_sample_has_an_id_of_its_own(command):
    secret = new_secret()
    with receiving() as shop:
        runs = [command("events", "try", "delivered", "--to", shop.url, "--secret", secret) for _ in range(2)]
    assert len({got.verified(secret)["id"] for got in shop.got}) == 2
    assert secret not in "".join(run.out for run in runs)


def test_a_sample_to_a_subscriber_is_signed_with_its_secrets(command, tmp_path):
    near = {"LANDED_EVENTS__PLAIN_HTTP": "true", "LANDED_EVENTS__NETWORKS": "127.0.0.0/8"}
    data = ("--data", tmp_path)
    with receiving(path="/hook?token=hidden") as shop:
        old = json.loads(command("events", "subscribe", shop.url, "--name", "shop", "--json", *data, **near).out)
        new = json.loads(command("events", "rotate", "shop", "--json", *data).out)
        run = command("events", "try", "failed", "--subscriber", "shop", *data, **near)
        refused = command("events", "try", "failed", "--subscriber", "shop", *data)
    (got,) = shop.got
    assert got.verified(old["secret"]) == got.verified(new["secret"])
    assert run.code == 0
    assert not {"hidden", old["secret"], new["secret"]} & set(run.out.replace("=", " ").split())
    assert (refused.code, "plain_http in [events]" in refused.out) == (1, True)


@pytest.mark.parametrize("answer", [500, 410, 302])
def test_what_is_not_taken_is_a_no(command, answer):
    with receiving() as shop:
        shop.answer = lambda _: (answer, {"Location": "/"})
        run = command("events", "try", "delivered", "--to", shop.url)
    assert run.code == 1
    assert f"not taken: {answer}" in run.out


def test_where_nobody_is_that_is_said(command):
    with receiving() as shop:
        url = shop.url
    run = command("events", "try", "delivered", "--to", url)
    assert (run.code, "not taken: connection refused" in run.out) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["delivered"], "Say where to: either --to URL or --subscriber NAME."),
        (["delivered", "--to", "http://localhost:1/", "--subscriber", "shop"], "Say where to: either"),
        (["delivered", "--subscriber", "shop"], "There is no subscriber 'shop'"),
        (["delivered", "--subscriber", "app:arrived"], "app:arrived is a handler: try it with landed handlers --try."),
        (["delivered", "--subscriber", "shop", "--secret", "whsec_"], "--secret goes with --to"),
        (["delivred", "--to", "http://localhost:1/"], "'message.delivered' is meant, perhaps."),
        (["delivered", "--to", "localhost:1"], "write http://localhost:1"),
        (["delivered", "--to", "http://localhost:1/", "--secret", "letmein"], "The secret is none"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_wrong_use_of_try_is_said_in_one_sentence(command, data, arguments, sentence):
    with closing(SqliteOutbox(store_path(data))) as outbox:
        outbox.add(Subscriber(name="app:arrived", kind=Kind.HANDLER, address="app:arrived"))
    run = command("events", "try", *arguments, "--data", data)
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
    assert sentence in run.err
