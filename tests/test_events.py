"""The whole road of an event, as it is run: receipts in by HTTP, signed events out, and what people do meanwhile."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from standardwebhooks import WebhookVerificationError

from landed.cli import main
from landed.vonage.signing import sign_jwt
from landed.worker.webhook import new_secret

_spec = importlib.util.spec_from_file_location("receiver", Path(__file__).with_name("receiver.py"))
receiver = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(receiver)
receiving, until, SECONDS_MAX = receiver.receiving, receiver.until, receiver.SECONDS_MAX

SECRET = "a signature secret of the tests"
NEAR = {"LANDED_EVENTS__PLAIN_HTTP": "true", "LANDED_EVENTS__NETWORKS": "127.0.0.0/8"}
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}
SIGNED = BARE | {"VONAGE_SIGNATURE_SECRET": SECRET}
ON_FREE_PORTS = ("--host", "127.0.0.1", "--port", "0", "--private-port", "0", "--print", "none")
RETRY_AFTER_SECONDS = 7


class Serve:
    """A running `landed serve`, whose landed.toml and data are in a directory."""

    def __init__(self, directory, *options):
        self.directory = directory
        self.said, self.printed = directory / "stderr", directory / "stdout"
        with self.said.open("wb") as stderr, self.printed.open("wb") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "landed", "serve", *ON_FREE_PORTS, *options],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=SIGNED | NEAR,
                cwd=directory,
            )
        until(lambda: "signatures" in self.said.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said.read_text()
        self.public, self.private = re.findall(r"http://127\.0\.0\.1:\d+", self.said.read_text())[0::4]
        until(self._is_up, self.said.read_text)

    def _is_up(self):
        with httpx.Client(timeout=1) as client:
            try:
                return all(client.get(f"{url}/healthz").is_success for url in (self.public, self.private))
            except httpx.HTTPError:
                return False

    def tell(self, *messages, word="delivered", **fields):
        """Send a signed status of each of these."""
        with httpx.Client(base_url=self.public, timeout=5) as client:
            for message in messages:
                about = {"message_uuid": message, "channel": "sms", "status": word, "to": "447700900001"} | fields
                body = json.dumps(about).encode()
                token = sign_jwt(body, SECRET, issued_at=int(time.time()), token_id=message, api_key=None)
                headers = {"Authorization": f"Bearer {token}"}
                assert client.post("/webhooks/message-status", content=body, headers=headers).is_success

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(SECONDS_MAX) == 0, self.said.read_text()
        assert "Traceback" not in self.said.read_text()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def serving(directory, *options):
    serve = Serve(directory, *options)
    try:
        yield serve
    finally:
        serve.end()


@pytest.fixture
def events(tmp_path, monkeypatch, capsys):
    """Run `landed events …` beside it, in this process; what it printed."""
    monkeypatch.chdir(tmp_path)
    for name, value in (NEAR | {"PYTHONUTF8": "1"}).items():
        monkeypatch.setenv(name, value)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["landed", "events", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code in (None, 0), printed.err
        return printed.out

    return run


def subscribe(events, receiver, name, *options):
    receiver.secret = json.loads(events("subscribe", receiver.url, "--name", name, "--json", *options))["secret"]


def standing(events, name):
    """What `landed events list` says of one, for programs."""
    return next(each for each in map(json.loads, events("list", "--json").splitlines()) if each["name"] == name)


def settle(directory, *tables):
    """Write these `[[subscriber]]` tables into landed.toml."""
    lines = [
        "[[subscriber]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for table in tables
    ]
    (directory / "landed.toml").write_text("\n".join(lines))


# Who gets what.


def test_receipts_come_out_as_signed_events_at_those_who_want_them(tmp_path, events):
    with receiving() as shop, receiving() as audit, receiving() as late:
        settle(tmp_path, {"name": "shop", "url": shop.url, "secret": shop.secret})
        with serving(tmp_path) as serve:
            serve.tell("before")
            until(lambda: shop.messages() == ["before"])
            subscribe(events, audit, "audit", "--event", "message.failed", "--permanence", "temporary")
            subscribe(events, late, "late", "--since", "1h", "--network", "23410")
            serve.tell("well", destination={"network_code": "23410"})
            serve.tell("wrong-number", word="rejected", error={"title": "1240"})
            serve.tell("switched-off", word="rejected", error={"title": "1180"}, client_ref="order-7")
            until(lambda: len(shop.got) == 4 and audit.got and late.got)

    assert sorted(shop.messages()) == ["before", "switched-off", "well", "wrong-number"]
    assert (audit.messages(), late.messages()) == (["switched-off"], ["well"])
    (got,) = audit.got
    event = got.verified(audit.secret)
    assert got.headers["webhook-id"] == event["id"]
    assert (got.headers["landed-attempt"], got.headers["content-type"]) == ("1", "application/json")
    assert (event["type"], event["data"]["message"]["client_ref"]) == ("message.failed", "order-7")
    assert event["data"]["reason"]["permanence"] == "temporary"
    assert len(got.signatures) == 1
    assert all(each.verified(shop.secret) for each in shop.got)
    with pytest.raises(WebhookVerificationError):
        got.verified(shop.secret)


def test_one_is_paused_rotated_and_removed_while_events_come(tmp_path, events):
    with receiving() as shop, receiving() as audit, serving(tmp_path) as serve:
        subscribe(events, shop, "shop")
        subscribe(events, audit, "audit")
        events("pause", "shop")
        serve.tell("paused")
        until(lambda: audit.messages() == ["paused"])
        assert (shop.got, standing(events, "shop")["unseen"] > 0) == ([], True)
        events("resume", "shop")
        until(lambda: shop.messages() == ["paused"])

        old, new = shop.secret, json.loads(events("rotate", "shop", "--keep", "1h", "--json"))["secret"]
        both = told_until(serve, shop, "rotated", lambda got: len(got.signatures) == 2)
        assert both.verified(new) == both.verified(old)
        assert "signed with its old secret, too" in events("list")
        newest = json.loads(events("rotate", "shop", "--keep", "0s", "--json"))["secret"]
        alone = told_until(serve, shop, "alone", lambda got: len(got.signatures) == 1)
        assert alone.verified(newest)
        with pytest.raises(WebhookVerificationError):
            alone.verified(new)

        count = len(shop.got)
        events("remove", "shop", "--yes")
        serve.tell("removed")
        until(lambda: "removed" in audit.messages())
        assert len(shop.got) == count
        assert "shop" not in events("list")


def told_until(serve, shop, name, condition):
    """Tell of one message after another, until what comes of one is so."""
    for number in range(100):
        serve.tell(f"{name}-{number}")
        (got,) = until(lambda number=number: shop.of(f"{name}-{number}"))
        if condition(got):
            return got
    raise AssertionError(name)


def test_who_says_that_it_is_gone_is_left_alone_until_a_person_says_otherwise(tmp_path, events):
    with receiving() as shop, receiving() as audit, serving(tmp_path) as serve:
        subscribe(events, shop, "shop")
        subscribe(events, audit, "audit")
        shop.answer = lambda _: (410, {})
        serve.tell("gone")
        until(lambda: standing(events, "shop")["state"] == "stopped")
        serve.tell("after")
        until(lambda: "after" in audit.messages())
        listed = events("list")
        assert "shop is stopped: it answered that it is gone" in listed
        assert "landed events resume shop" in listed
        assert shop.messages() == ["gone"]
        shop.answer = lambda _: (200, {})
        events("resume", "shop")
        until(lambda: set(shop.messages()) == {"gone", "after"})


def test_who_is_down_or_busy_gets_it_later_and_not_sooner_than_asked(tmp_path, events):
    with receiving() as down, receiving() as busy, serving(tmp_path) as serve:
        subscribe(events, down, "down")
        subscribe(events, busy, "busy")
        down.close()
        busy.answer = lambda _: (503, {"Retry-After": str(RETRY_AFTER_SECONDS)}) if len(busy.got) == 1 else (200, {})
        serve.tell("m1")
        until(lambda: busy.got and standing(events, "down")["said"] and standing(events, "busy")["said"])
        listed = events("list")
        serve.tell("m2")
        down.open()
        until(lambda: set(down.messages()) == {"m1", "m2"} and set(busy.messages()) == {"m1", "m2"})
        until(lambda: standing(events, "busy")["waiting"] == 0)

    assert re.search(r"down did not take what was tried at .*: connection refused\.", listed)
    assert re.search(r"busy did not take what was tried at .*: 503\.", listed)
    assert [got.headers["landed-attempt"] for got in down.of("m1")] == ["2"]
    first, *others = sorted(busy.got, key=lambda got: got.at)
    assert min(got.at for got in others) - first.at > RETRY_AFTER_SECONDS - 1
    assert len({got.headers["webhook-id"] for got in busy.of("m1")}) == 1
    assert all(got.verified(busy.secret) for got in busy.got)


def test_what_is_replayed_keeps_its_id_and_says_that_it_is_a_replay(tmp_path, events):
    with receiving() as shop, serving(tmp_path) as serve:
        subscribe(events, shop, "shop")
        serve.tell("m1")
        until(lambda: standing(events, "shop")["unseen"] == standing(events, "shop")["waiting"] == 0 and shop.got)
        events("replay", "m1", "--delivered")
        until(lambda: len(shop.got) == 2)
        shown = until(lambda: "sent again" in (shown := events("show", "m1")) and "delivered 2" in shown and shown)

    first, again = shop.got
    assert first.verified(shop.secret) == again.verified(shop.secret)
    assert (first.headers.get("landed-replay"), again.headers.get("landed-replay")) == (None, "true")
    assert first.headers["webhook-id"] in shown


def test_a_stop_loses_no_event_and_none_that_was_answered_comes_again(tmp_path, events):
    answered = Counter()
    with receiving() as shop:

        def slowly(got):
            time.sleep(0.2)
            answered[got.message] += 1
            return 200, {}

        shop.answer = slowly
        names = {f"m{number}" for number in range(150)}
        with serving(tmp_path) as serve:
            subscribe(events, shop, "shop")
            serve.tell(*names)
            until(lambda: answered)
            serve.leave()
        at_the_stop = sum(answered.values())
        with serving(tmp_path) as serve:
            until(lambda: set(answered) == names, lambda: len(answered))
            serve.leave()

    assert 0 < at_the_stop < len(names)
    assert set(answered.values()) == {1}
    assert Counter(shop.messages()) == answered


# The application's own Python.

APP = """
from landed import on

print("loaded")

@on.delivered
def arrived(event):
    print("arrived", event.message.message_id, event.attempt)

@on.failed(reason="absent-subscriber-temporary")
async def lost(event):
    print("lost", event.message.message_id)

@on.failed
def breaks(event):
    raise ValueError(f"no customer {event.message.to}")
"""


def test_handlers_are_called_and_one_that_raises_breaks_nothing_else(tmp_path, events):
    (tmp_path / "app.py").write_text(APP)
    with serving(tmp_path, "--handlers", "app.py") as serve:
        serve.tell("well")
        serve.tell("off", word="rejected", error={"title": "1180"})
        until(lambda: {"arrived well 1", "lost off"} <= set(serve.printed.read_text().splitlines()))
        until(lambda: standing(events, "app:breaks")["said"])
        listed, shown, told = events("list"), events("show", "off"), events("show", "off", "--json")

    assert "ValueError: no customer 4477•••••001 (app.py:16)" in listed
    assert "ValueError: no customer 4477•••••001 (app.py:16)" in shown
    assert "447700900001" not in listed + shown
    assert "no customer 447700900001" in told
    assert [json.loads(line)["origin"] for line in events("list", "--json").splitlines()] == ["handlers"] * 3


# What ends a start.


def refused(directory, *options):
    """The sentences with which a start ends at once."""
    ended = subprocess.run(
        [sys.executable, "-m", "landed", "serve", *ON_FREE_PORTS, *options],
        capture_output=True,
        text=True,
        env=SIGNED,
        cwd=directory,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert "Traceback" not in ended.stderr
    return [line for line in ended.stderr.removeprefix("landed: ").splitlines() if "landed 0." not in line]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import landed\n\nlanded.on.arrived\n", "app.py:3 does not load: AttributeError: on has no 'arrived'"),
        ("from landed import on\n\n@on.failed(reason='busy')\ndef f(event): ...\n", "app.py:3: no reason is 'busy'"),
    ],
    ids=["raises", "filter"],
)
def test_handlers_that_do_not_load_end_the_start_with_their_line(tmp_path, text, sentence):
    (tmp_path / "app.py").write_text(text)
    assert any(sentence in line for line in refused(tmp_path, "--handlers", "app.py"))


def test_subscribers_that_cannot_be_end_the_start_with_a_sentence_each(tmp_path):
    secret = new_secret()
    settle(
        tmp_path,
        {"name": "private", "url": "https://10.0.0.1/hook", "secret": secret},
        {"name": "plain", "url": "http://shop.example.com/hook", "secret": secret},
        {"name": "scheme", "url": "htps://shop.example.com/hook"},
        {"name": "none", "url": "shop.example.com/hook"},
        {"name": "weak", "url": "https://shop.example.com/hook", "secret": "whsec_c2hvcnQ="},
        {"name": "unsigned", "url": "https://shop.example.com/hook"},
        {"name": "signed", "url": "nats://127.0.0.1/events", "secret": secret},
        {"name": "a name", "url": "https://shop.example.com/hook", "secret": secret},
        {"name": "twice", "url": "https://shop.example.com/hook", "secret": secret},
        {"name": "twice", "url": "https://shop.example.com/hook", "secret": secret},
    )
    lines = refused(tmp_path)
    words = {
        "private": "10.0.0.1, which may not be reached: private, unless its network is among networks in [events].",
        "plain": "or allow it by plain_http in [events].",
        "scheme": "https:// is meant, perhaps.",
        "none": "The address begins with no scheme: write https://…",
        "weak": "The secret is none: it begins with whsec_",
        "unsigned": "A webhook needs a secret",
        "signed": "Nothing but a webhook is signed by a secret: take it out.",
        "a name": "'a name' is no name: letters",
        "twice": "is there twice.",
    }
    assert len(lines) == len(words)
    for name, sentence in words.items():
        assert any(line.startswith(f"Setting subscriber '{name}'") and sentence in line for line in lines), name
    assert secret not in "".join(lines)


def test_filters_that_there_are_not_end_the_start_with_a_sentence_each(tmp_path):
    usual = {"name": "shop", "url": "https://shop.example.com/", "secret": new_secret()}
    wrong = ({"events": ["message.lost"]}, {"outcomes": ["gone"]}, {"event": ["message.failed"]})
    settle(tmp_path, *(usual | each for each in wrong))
    lines = refused(tmp_path)
    words = ("no event is 'message.lost'", "no outcome is 'gone'", "event: it is no setting of landed's")
    assert all(line.startswith("Setting subscriber") for line in lines)
    assert [word in line for line, word in zip(lines, words, strict=True)] == [True] * 3


def test_a_name_that_a_command_has_taken_ends_the_start(tmp_path, events):
    events("subscribe", "https://shop.example.com/", "--name", "shop")
    settle(tmp_path, {"name": "shop", "url": "https://shop.example.com/", "secret": new_secret()})
    said = "\n".join(refused(tmp_path))
    assert "There is a subscriber 'shop' by another origin, command" in said
    assert "landed events remove" in said
