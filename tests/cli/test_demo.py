"""`landed demo`: ends by itself, says what is so, leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from landed.cli.demo import Sent, _report
from landed.domain.lifecycle import Fact, message_of
from landed.domain.receipt import Api, Receipt, Status


@contextlib.contextmanager
def taken(*ports: int):
    """Hold these ports, or leave them to whoever holds them."""
    with contextlib.ExitStack() as stack:
        for port in ports:
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        yield


def test_the_demo_ends_with_the_outcome_of_every_message(landed, tmp_path):
    with taken(3000, 3001):
        run = landed("demo", "--messages", "20", "--exit", TMPDIR=str(tmp_path), PYTHONUTF8="1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Every one of" in run.stdout
    port = re.search(r"receipts come to port (\d+)", run.stdout)
    assert port is not None
    assert port[1] not in ("3000", "3001")
    assert re.search(r"POST /webhooks/message-status 200 +signed\n +submitted ", run.stdout)
    assert re.search(r"(GET|POST) /webhooks/delivery-receipt 204 +signed\n +accepted ", run.stdout)
    for outcome in ("delivered", "failed", "unconfirmed", "pending"):
        assert re.search(rf"{outcome} +[0-9a-f-]{{36}}", run.stdout), outcome
    assert "duplicate" in run.stdout
    assert not list(tmp_path.glob("landed-demo-*"))


@pytest.mark.alone  # where seconds are fractions of one, they come in order on a machine that has time
def test_of_a_message_that_simply_arrives_submitted_is_said_of_an_earlier_time_than_delivered(landed, tmp_path):
    # The SMS API tells minutes only, so of its two what came first counts, which a machine that is held up may change.
    assert any(_words(landed, tmp_path) == IN_ORDER for _ in range(3))


def test_two_demos_at_once_both_do_their_work(landed, tmp_path):
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: landed("demo", "--messages", "1", "--exit", TMPDIR=str(tmp_path)), range(2)))
    assert [run.returncode for run in runs] == [0, 0]


def test_neither_settings_nor_surroundings_change_the_demo(landed, tmp_path):
    (tmp_path / "landed.toml").write_text("port = 1")
    surroundings = {"API_KEY": "x", "VONAGE_API_KEY": "x", "VONAGE_SIGNATURE_SECRET": "x", "LANDED_PORT": "1"}
    run = landed("demo", "--messages", "1", "--exit", TMPDIR=str(tmp_path), **surroundings)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_demo_that_is_interrupted_says_no_and_leaves_nothing_behind(tmp_path):
    arguments = [sys.executable, "-m", "landed", "demo", "--messages", "100", "--exit"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as demo:
        while "Sending" not in demo.stdout.readline():
            pass
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=20)
    assert demo.returncode == 1
    assert not list(tmp_path.glob("landed-demo-*"))


def sent() -> Sent:
    return Sent(api="sms", message_id="m", to="447700900001", what="arrives", arrived=True, outcome="delivered")


@pytest.mark.parametrize(
    ("status", "code"), [(Status.DELIVERED, 0), (Status.ACCEPTED, 1), (None, 1)], ids=["right", "wrong", "unknown"]
)
def test_the_demo_says_no_when_an_outcome_is_not_what_its_receipts_imply(capsys, status, code):
    message = None
    if status is not None:
        receipt = Receipt(api=Api.SMS, message_id="m", channel="sms", status=status, provider_status=status)
        message = message_of("default", [Fact(receipt=receipt, key=b"k", received_at=datetime.now(UTC))])
    assert _report([(sent(), message)], show_numbers=False) == code
    assert ("do not have the outcome" in capsys.readouterr().out) == bool(code)


IN_ORDER = [["accepted", "delivered"], ["submitted", "delivered"]]


def _words(landed, tmp_path):
    """What was said of each message of a demo with two, by the provider's time, else as it came."""
    run = landed("demo", "--messages", "2", "--exit", "--print", "json", TMPDIR=str(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    receipts = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    words: dict[str, list[str]] = {}
    for receipt in sorted(receipts, key=lambda receipt: receipt["occurred_at"]):
        words.setdefault(receipt["message_id"], []).append(receipt["provider_status"])
    return sorted(words.values())
