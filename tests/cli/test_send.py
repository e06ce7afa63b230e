"""`landed send`, `wait`, `track` and `jwt`, as they are run, against the offline Vonage and a running worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading

import jwt
import pytest

import landed as library
from landed.vonage.keys import public_key_of

SECONDS_MAX = 30
TO = "447700900001"


@pytest.fixture
def command(vonage, tmp_path):  # noqa: ARG001 - its environment is what is run in
    """Run the command line in the environment of the offline Vonage."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "landed", *arguments],
            env=os.environ | {"LANDED_DATA": str(tmp_path / "data")} | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )

    return run


@pytest.fixture
def serving(vonage, tmp_path):
    """A running landed that the offline Vonage calls back."""
    said = tmp_path / "said"
    environment = os.environ | {"LANDED_DATA": str(tmp_path / "data")}
    ports = ["--host", "127.0.0.1", "--port", "0", "--private-port", "0", "--print", "none"]
    with said.open("wb") as stderr:
        running = subprocess.Popen(
            [sys.executable, "-m", "landed", "serve", *ports], stderr=stderr, env=environment, cwd=tmp_path
        )
    tick = threading.Event()
    while not (urls := re.findall(r"(http://127\.0\.0\.1:\d+)/webhooks", said.read_text())):
        assert running.poll() is None, said.read_text()
        tick.wait(0.02)
    vonage.webhooks(status=f"{urls[0]}/webhooks/message-status", receipt=f"{urls[0]}/webhooks/delivery-receipt")
    yield running
    running.terminate()
    running.wait(SECONDS_MAX)


@pytest.mark.usefixtures("serving")
@pytest.mark.vonage(speed=60)
@pytest.mark.parametrize(("to", "code", "word"), [(TO, 0, "delivered"), ("447700900102", 1, "rejected")])
def test_a_send_that_waits_shows_its_receipts_and_ends_with_the_outcome(vonage, command, to, code, word):
    done = command("send", "Your code is 123456.", "--to", f"+{to}", "--from", "ACME", "--wait")
    assert done.returncode == code, done.stdout + done.stderr
    (message,) = vonage.messages()
    assert (message.to, message.text) == (to, "Your code is 123456.")
    lines = done.stdout.splitlines()
    assert message.message_id in lines[1]
    assert [word for word in ("submitted", word) if word in done.stdout] == ["submitted", word]


@pytest.mark.usefixtures("serving")
@pytest.mark.vonage(speed=60)
def test_a_message_is_waited_for_by_its_reference(command):
    command("send", "Hello", "--to", TO, "--from", "ACME", "--client-ref", "order-7", "--api", "sms")
    done = command("wait", "order-7", "--json")
    assert done.returncode == 0
    assert [json.loads(line)["provider_status"] for line in done.stdout.splitlines()] == ["accepted", "delivered"]


def test_what_never_comes_is_not_waited_for_for_ever(command):
    done = command("wait", "nothing", "--wait-for", "300ms")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No last word within 300ms" in done.stderr


def test_what_was_sent_is_told_for_programs(vonage, command):
    done = command("send", "x" * 400, "--to", TO, "--from", "ACME", "--api", "sms", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["state"]) == (0, "sent")
    assert told["message_ids"] == [message.message_id for message in vonage.messages()]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--to", "447700900707"], 1, "Not sent (invalid-number)"),
        (["--to", "447700900709", "--api", "sms"], 1, "Not sent (insufficient-credit)"),
        (["--to", "12"], 2, "Vonage does not take the recipient"),
        (["--to", TO, "--api", "voice"], 2, "'voice' is no API"),
        (["--to", TO, "--channel", "pigeon"], 2, "'pigeon' is no channel"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_was_not_sent_is_said_with_its_reason(vonage, command, arguments, code, sentence):
    done = command("send", "Hello", "--from", "ACME", *arguments)
    assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr
    assert vonage.messages() == []


def test_where_nobody_is_reached_nothing_was_sent(command):
    done = command("send", "Hello", "--to", TO, "--from", "ACME", VONAGE_API_HOST="127.0.0.1:1")
    assert done.returncode == 1
    assert "Not sent (communication-failed)" in done.stderr


@pytest.mark.parametrize(
    ("unset", "sentence"),
    [
        ({"VONAGE_PRIVATE_KEY": "nowhere.key"}, "VONAGE_PRIVATE_KEY is neither a key nor a file"),
        ({"VONAGE_PRIVATE_KEY": "-----BEGIN RSA PRIVATE KEY-----"}, "VONAGE_PRIVATE_KEY is none of Vonage's keys"),
        ({"VONAGE_APPLICATION_ID": "", "VONAGE_API_SECRET": ""}, "The Messages API needs VONAGE_APPLICATION_ID"),
    ],
    ids=["no file", "another key", "no credentials"],
)
def test_credentials_that_are_missing_or_wrong_are_named(command, unset, sentence):
    done = command("send", "Hello", "--to", TO, "--from", "ACME", **unset)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert sentence in done.stderr


def test_no_number_and_no_secret_is_logged(vonage, command):
    done = command("send", "Hello", "--to", "447700900709", "--from", "ACME")
    assert "447700900709" not in done.stdout + done.stderr
    assert vonage.api_secret not in done.stdout + done.stderr


def test_a_token_is_the_application_s(vonage, command):
    token = command("jwt", "--for", "1h").stdout.strip()
    with open(vonage.private_key) as key:  # noqa: PTH123
        claims = jwt.decode(token, public_key_of(key.read()), algorithms=["RS256"])
    assert claims["application_id"] == vonage.application_id
    assert claims["exp"] - claims["iat"] == pytest.approx(3_600, abs=2)


@pytest.mark.parametrize("lasts", ["1s", "2d", "soon"])
def test_a_token_that_vonage_would_not_take_is_refused(command, lasts):
    assert command("jwt", "--for", lasts).returncode == 2


def test_a_send_made_elsewhere_is_tracked(command, tmp_path):
    done = command("track", "m-1", "m-2", "--api", "sms", "--to", "+44 7700 900001", "--client-ref", "order-7")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "journal.db").exists()
    assert callable(library.track)


def test_what_is_rejected_falls_over_to_what_the_file_says(vonage, command, tmp_path):
    (tmp_path / "failover.json").write_text('[{"channel": "sms", "text": "Hello by SMS", "to": "447700900001"}]')
    options = ["--channel", "whatsapp", "--failover", "failover.json", "--json"]
    done = command("send", "Hello", "--to", "447700900102", "--from", "447700900999", *options)
    told = json.loads(done.stdout)
    vonage.step(minutes=1)
    assert (done.returncode, told["state"]) == (0, "sent")
    assert told["workflow_id"]
    assert [(message.channel, message.text) for message in vonage.messages()] == [
        ("whatsapp", "Hello"),
        ("sms", "Hello by SMS"),
    ]


@pytest.mark.parametrize(
    ("content", "options"),
    [("[{}]", []), ("{", []), ('[{"channel": "sms", "text": "x"}]', ["--api", "sms"]), (None, [])],
    ids=["incomplete", "no JSON", "SMS API", "no file"],
)
def test_a_failover_that_is_none_is_said(vonage, command, tmp_path, content, options):
    if content is not None:
        (tmp_path / "failover.json").write_text(content)
    done = command("send", "Hello", "--to", TO, "--from", "ACME", "--failover", "failover.json", *options)
    assert (done.returncode, "ailover" in done.stderr, vonage.messages()) == (2, True, [])


@pytest.mark.usefixtures("serving")
def test_a_send_that_was_not_taken_is_shown_with_what_to_do(command):
    command("send", "Hello", "--to", "447700900709", "--from", "ACME", "--client-ref", "order-7")
    for _ in range(100):
        shown = command("show", "order-7")
        if shown.returncode == 0:
            break
    assert "Vonage did not take it: Low balance." in shown.stdout
    assert "insufficient-credit" in shown.stdout
    assert "447700900709" not in shown.stdout
    told = json.loads(command("show", "order-7", "--json").stdout)
    assert (told["state"], told["reason"], told["to"]) == ("refused", "insufficient-credit", "447700900709")
