"""The figures of gates that really run: what each request comes to in `/metrics`, through kills and mounts."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import landed
from landed.gate.meter import figures_in
from landed.settings import Settings
from landed.vonage.signing import sign_jwt

SECONDS_MAX = 20
SECRET = "secret-a"
TARGET = "/webhooks/message-status"


def until(condition):
    deadline = time.monotonic() + SECONDS_MAX
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


def signed(name, secret=SECRET, *, issued_at=None):
    body = json.dumps({"message_uuid": name, "status": "delivered", "channel": "sms"}).encode()
    issued_at = int(time.time()) if issued_at is None else issued_at
    token = sign_jwt(body, secret, issued_at=issued_at, token_id=name, api_key="key-a")
    return body, {"Authorization": f"Bearer {token}"}


@contextmanager
def serving(directory):
    """`landed serve`, and what to ask of it."""
    said = directory / "stderr"
    arguments = ["serve", "--host", "127.0.0.1", "--port", "0", "--private-port", "0", "--print", "none"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}
    environment |= {"VONAGE_SIGNATURE_SECRET": SECRET, "LANDED_LIMITS__HEAD_SECONDS_MAX": "0.5"}
    with said.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "landed", *arguments], stderr=stderr, cwd=directory, env=environment
        )
    try:
        until(lambda: "signatures" in said.read_text() or process.poll() is not None)
        yield Serve(process, *re.findall(r"http://127\.0\.0\.1:\d+", said.read_text())[0::4])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS_MAX)


@pytest.fixture
def serve(tmp_path):
    with serving(tmp_path) as serve:
        yield serve


class Serve:
    def __init__(self, process, public, private):
        self.process = process
        self.public = httpx.URL(public)
        self.private = private
        until(self.is_up)
        until(lambda: self.requests().get(("404", "unjudged")))

    def is_up(self):
        try:
            return httpx.get(f"{self.private}/healthz").is_success and httpx.get(self.public.join("/up")).status_code
        except httpx.HTTPError:
            return False

    def gate(self):
        """The process id of the gate."""
        listed = subprocess.run(
            [shutil.which("ps"), "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        )
        lines = (line.split(None, 2) for line in listed.stdout.splitlines())
        (gate,) = (int(pid) for pid, parent, args in lines if int(parent) == self.process.pid and "--role gate" in args)
        return gate

    def post(self, name, *arguments, **more):
        body, headers = signed(name, *arguments, **more)
        return httpx.post(self.public.join(TARGET), content=body, headers=headers).status_code

    def raw(self, data):
        with socket.create_connection((self.public.host, self.public.port), timeout=SECONDS_MAX) as client:
            client.sendall(data)
            return int(client.recv(100).split()[1])

    def metrics(self):
        families = text_string_to_metric_families(httpx.get(f"{self.private}/metrics").text)
        samples = (sample for family in families for sample in family.samples)
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in samples
        }

    def requests(self):
        """Requests by answer and verdict."""
        shown = self.metrics().items()
        return {tuple(labels): count for (name, *labels), count in shown if name == "landed_gate_requests_total"}


def head(first, *lines):
    return "\r\n".join([first, "Host: h", *lines, "", ""]).encode()


ASKED = (
    (lambda serve: serve.post("m"), 200, "verified"),
    (lambda serve: serve.post("m", issued_at=1_600_000_000), 200, "stale"),
    (lambda serve: serve.post("m", "another secret"), 401, "wrong"),
    (lambda serve: httpx.post(serve.public.join(TARGET), content=b'{"a":1}').status_code, 503, "missing"),
    (
        lambda serve: (
            httpx.get(
                serve.public.join("/webhooks/delivery-receipt?messageId=m&msisdn=4477&to=A&status=delivered")
            ).status_code
        ),
        204,
        "unverified",
    ),
    (lambda serve: httpx.get(serve.public.join(TARGET)).status_code, 200, "probe"),
    (lambda serve: httpx.get(serve.public.join("/healthz")).status_code, 200, "health"),
    (lambda serve: httpx.post(serve.public.join(TARGET), content=b"x" * 300_000).status_code, 413, "too-large"),
    (lambda serve: httpx.get(serve.public.join("/other")).status_code, 404, "unjudged"),
    (lambda serve: httpx.put(serve.public.join(TARGET)).status_code, 405, "unjudged"),
    (lambda serve: serve.raw(b"nonsense\r\n\r\n"), 400, "unjudged"),
    (lambda serve: serve.raw(f"POST {TARGET} HTTP/1.1\r\n".encode()), 408, "unjudged"),
    (lambda serve: serve.raw(head(f"GET /{'x' * 9_000} HTTP/1.1")), 414, "unjudged"),
    (lambda serve: serve.raw(head("GET / HTTP/1.1", f"X: {'x' * 17_000}")), 431, "unjudged"),
)


def test_each_request_is_counted_by_its_verdict_and_its_answer(serve):
    before = serve.requests()
    assert [ask(serve) for ask, _, _ in ASKED] == [answer for _, answer, _ in ASKED]
    expected = Counter(before) + Counter((str(answer), verdict) for _, answer, verdict in ASKED)
    until(lambda: sum(serve.requests().values()) >= sum(expected.values()))
    assert serve.requests() == expected


def test_figures_go_on_where_they_were_when_the_gate_is_killed(serve):
    for number in range(5):
        assert serve.post(f"m{number}") == 200
    verified = ("200", "verified")
    until(lambda: serve.requests().get(verified) == 5)
    os.kill(serve.gate(), signal.SIGKILL)
    until(serve.is_up)
    assert serve.requests()[verified] == 5
    assert serve.post("m5") == 200
    until(lambda: serve.requests()[verified] == 6)
    values = until(lambda: (now := serve.metrics())["landed_requests_received_total",] == 6 and now)
    assert values["landed_gate_kept_total", "journal"] == 6
    assert values["landed_gate_processes", "serve"] == 1
    assert values["landed_gate_answer_seconds_count",] == 6
    assert 1 <= values["landed_gate_batch_requests_count",] <= 6
    assert values["landed_gate_commit_seconds_count", "journal"] == values["landed_gate_batch_requests_count",]
    assert 0 < values["landed_gate_commit_seconds_sum", "journal"] < SECONDS_MAX
    assert values["landed_ledger_even",] == 1


class Mount:
    """Webhooks inside an application, asked as a WSGI server does."""

    def __init__(self, data):
        self.data = data
        self.webhooks = landed.Webhooks(settings=Settings(data=data, vonage_signature_secret=SECRET))

    def ask(self, method, path, body=b"", authorization=""):
        answers = []
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": authorization,
            "wsgi.input": io.BytesIO(body),
        }
        self.webhooks.wsgi(environ, lambda status, _: answers.append(int(status.split()[0])))
        return answers[0]

    def figures(self):
        self.webhooks.close()
        return figures_in(self.data)


@pytest.fixture
def mount(tmp_path):
    mount = Mount(tmp_path / "data")
    yield mount
    mount.webhooks.close()


def test_a_mount_counts_what_it_judged_as_the_gate_does(mount):
    body, headers = signed("m")
    assert mount.ask("POST", TARGET, body, headers["Authorization"]) == 200
    assert mount.ask("POST", TARGET, body + b" ", headers["Authorization"]) == 401
    assert mount.ask("GET", TARGET) == 200
    gates = figures_in(mount.data)
    assert (gates.serving, gates.mounted) == (0, 1)
    gates = mount.figures()
    assert gates.requests == {("verified", "200"): 1, ("body", "401"): 1, ("probe", "200"): 1}
    assert (gates.mounted, list(gates.kept_in.values()), gates.sums.kept["quarantine"]) == (0, [1], 1)


def test_a_mount_counts_what_it_did_not_judge(mount):
    body, headers = signed("m")
    assert mount.ask("POST", TARGET, body, headers["Authorization"]) == 200
    assert mount.ask("PUT", TARGET) == 405
    assert mount.ask("GET", "/webhooks/other") == 404
    assert mount.ask("GET", "/webhooks/message-status" + "/" * 9_000) == 414
    counted = mount.figures().requests
    assert {each: counted.get(each) for each in (("unjudged", "405"), ("unjudged", "404"), ("unjudged", "414"))} == {
        ("unjudged", "405"): 1,
        ("unjudged", "404"): 1,
        ("unjudged", "414"): 1,
    }


def test_a_mount_counts_what_it_could_not_keep(mount):
    # A file where the directory should be: nothing can be opened until it is gone.
    mount.data.touch()
    body, headers = signed("m")
    assert mount.ask("POST", TARGET, body, headers["Authorization"]) == 503
    mount.data.unlink()
    assert mount.ask("POST", TARGET, body, headers["Authorization"]) == 200
    assert mount.figures().requests == {("verified", "503"): 1, ("verified", "200"): 1}


def test_attempts_at_a_subscriber_that_does_not_answer_are_counted(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    subscriber = f'[[subscriber]]\nname = "shop"\nurl = "http://127.0.0.1:{port}/"\nsecret = "{secret}"\n'
    events = '[events]\nplain_http = true\nnetworks = ["127.0.0.0/8"]\n'
    (tmp_path / "landed.toml").write_text(subscriber + events)
    with serving(tmp_path) as serve:
        serve.post("m")
        failed = ("landed_event_attempts_total", "webhook", "failed", "shop")
        until(lambda: serve.metrics()[failed])
        metrics = serve.metrics()
    assert metrics["landed_event_attempt_seconds_count", "webhook", "shop"] == metrics[failed]
    assert metrics["landed_events_waiting", "webhook", "shop"] == 1
    assert metrics["landed_subscriber_state", "webhook", "active", "shop"] == 1
