"""The pytest plugin: what the fixture gives, what its mark changes, and that nothing of it stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from landed.errors import SettingsError, SurroundingsError
from landed.testing import fields_of

TEXT = {"channel": "sms", "message_type": "text", "to": "447700900001", "from": "ACME", "text": "Hello"}


def send(vonage, **fields):
    auth = (vonage.api_key, vonage.api_secret)
    return httpx.post(f"{vonage.url}/v1/messages", json=TEXT | fields, auth=auth).json()["message_uuid"]


class Heard:
    """An application, in both of Python's ways, that keeps the paths which were asked for."""

    def __init__(self):
        self.paths = []

    def wsgi(self, environ, start_response):
        self.paths.append(environ["PATH_INFO"])
        start_response("200 OK", [("content-length", "0")])
        return [b""]

    async def asgi(self, scope, _receive, send):
        if scope["type"] == "http":
            self.paths.append(scope["path"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})


@pytest.mark.parametrize("way", ["wsgi", "asgi"])
def test_an_application_is_served_and_called_back(vonage, way):
    heard = Heard()
    vonage.webhooks(receipt=vonage.serve(getattr(heard, way)) + "/status")
    send(vonage)
    vonage.step(minutes=1)
    assert heard.paths == ["/status", "/status"]
    assert [callback.state for callback in vonage.callbacks()] == ["taken", "taken"]


def test_time_stands_still_until_it_is_stepped(vonage):
    assert vonage.now == datetime(2026, 1, 1, 12, tzinfo=UTC)
    vonage.step(hours=1, seconds=1)
    assert vonage.now == datetime(2026, 1, 1, 13, 0, 1, tzinfo=UTC)


def test_settling_lets_pass_whatever_is_needed(vonage):
    vonage.webhooks(receipt=vonage.serve(Heard().wsgi))
    send(vonage, to="447700900006")
    vonage.settle()
    assert [callback.says for callback in vonage.callbacks()] == ["submitted", "rejected"]
    assert vonage.now == datetime(2026, 1, 4, 12, tzinfo=UTC)


def test_what_was_sent_is_seen_with_its_truth(vonage):
    message_id = send(vonage, to="447700900009", client_ref="order-7")
    send(vonage)
    vonage.step(minutes=1)
    (message,) = vonage.messages(to="447700900009")
    assert (message.message_id, message.client_ref, message.text) == (message_id, "order-7", "Hello")
    assert [each.status for each in message.said] == ["submitted", "delivered"]
    assert (message.truth.arrived_at, message.truth.differs) == (None, ("false receipt",))


@pytest.mark.parametrize("webhook_format", ["GET", "POST", "POST-JSON"])
def test_the_fields_of_a_call_can_be_read_whatever_its_form(vonage, webhook_format):
    vonage.setting(webhook_format=webhook_format)
    vonage.webhooks(receipt=vonage.serve(Heard().wsgi))
    credentials = {"api_key": vonage.api_key, "api_secret": vonage.api_secret}
    httpx.post(f"{vonage.url}/sms/json", data={"to": "447700900013", "from": "ACME", "text": "Hi", **credentials})
    vonage.step(minutes=1)
    (callback,) = vonage.callbacks()
    assert fields_of(callback)["status"] == "accepted"


def test_a_fault_lasts_as_long_as_its_context(vonage):
    vonage.webhooks(receipt=vonage.serve(Heard().wsgi))
    with vonage.fault("duplicates", copies=3):
        send(vonage, to="447700900013")
        vonage.step(minutes=1)
    send(vonage, to="447700900013")
    vonage.step(minutes=1)
    assert len(vonage.callbacks()) == 4


def test_options_that_python_has_taken_end_in_an_underscore(vonage):
    vonage.webhooks(receipt=vonage.serve(Heard().wsgi))
    with vonage.fault("burst", for_="10m"):
        send(vonage)
        vonage.step(minutes=9)
        assert [callback.state for callback in vonage.callbacks()] == ["waiting", "waiting"]
        vonage.step(minutes=2)
    assert [callback.state for callback in vonage.callbacks()] == ["taken", "taken"]


def test_a_fate_that_there_is_not_is_said(vonage):
    with pytest.raises(SettingsError, match="is no fate"):
        vonage.choose("447911123456", "happy")


@pytest.mark.vonage(seed=7, balance=Decimal("0.01"), began_at=datetime(2030, 1, 1, tzinfo=UTC))
def test_its_mark_changes_how_it_starts(vonage):
    assert vonage.now == datetime(2030, 1, 1, tzinfo=UTC)
    answer = httpx.post(f"{vonage.url}/v1/messages", json=TEXT, auth=(vonage.api_key, vonage.api_secret))
    assert answer.status_code == 402


@pytest.mark.vonage(speed=1_000)
def test_time_can_run_by_itself(vonage):
    before = vonage.now
    httpx.get(f"{vonage.url}/_sim")
    assert vonage.now > before


def test_an_application_that_does_not_start_is_said_to(vonage):
    async def broken(_scope, _receive, send):
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(SurroundingsError, match="did not start"):
        vonage.serve(broken)


def test_an_address_that_is_none_is_said(vonage):
    with pytest.raises(SurroundingsError, match="is no URL"):
        vonage.webhooks(status="nowhere")


@pytest.mark.vonage(
    account={"webhook_format": "GET"}, faults=["duplicates,copies=3"], fates={"447911123456": "carrier"}
)
def test_its_mark_takes_what_a_scenario_does(vonage):
    vonage.webhooks(receipt=vonage.serve(Heard().wsgi))
    credentials = {"api_key": vonage.api_key, "api_secret": vonage.api_secret}
    httpx.post(f"{vonage.url}/sms/json", data={"to": "447911123456", "from": "ACME", "text": "Hi", **credentials})
    vonage.step(minutes=1)
    assert [(callback.method, callback.says) for callback in vonage.callbacks()] == [("GET", "accepted")] * 3


def test_a_mark_that_is_misspelt_is_said(tmp_path):
    test = tmp_path / "test_it.py"
    test.write_text("import pytest\n@pytest.mark.vonage(sed=7)\ndef test_one(vonage): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "The mark vonage has no sed" in done.stdout


def test_the_environment_is_the_test_s_alone(vonage, monkeypatch):
    assert os.environ["VONAGE_API_KEY"] == vonage.api_key
    assert os.environ["VONAGE_API_HOST"] == vonage.host
    assert httpx.get(vonage.tls_url + "/_sim").status_code == 200
    monkeypatch.undo()
    assert os.environ.get("VONAGE_API_KEY") != vonage.api_key


def test_nothing_of_it_is_left_when_a_test_has_ended(tmp_path):
    test = tmp_path / "test_it.py"
    test.write_text(
        "import threading\n"
        "def test_one(vonage):\n"
        "    vonage.serve(lambda environ, start: [])\n"
        "    assert threading.active_count() > 2\n"
        "def test_two():\n"
        "    import os\n"
        "    assert threading.active_count() == 1\n"
        "    assert 'VONAGE_API_KEY' not in os.environ\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VONAGE_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(test)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_test_run_that_does_not_use_it_loads_nothing_for_it():
    code = "import sys, landed.testing; sys.exit(any(name in sys.modules for name in ('starlette', 'jwt', 'trustme')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
