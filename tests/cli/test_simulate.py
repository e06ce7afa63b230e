"""`landed simulate`: what it writes for programs, what works against it unchanged, and how it drives a receiver."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

import landed

SECONDS_MAX = 30
TUTORIAL = """\
curl -X POST https://api.nexmo.com/v1/messages \\
  -H 'Authorization: Bearer '$JWT\\
  -H 'Content-Type: application/json' \\
  -H 'Accept: application/json' \\
  -d $'{
          "message_type": "text",
          "text": "Vonage Delivery Receipt Testing",
          "to": "'$TO_NUMBER'",
          "from": "'$FROM_NUMBER'",
          "channel": "sms"
}'
"""
OLDER_TUTORIAL = """\
curl -X "POST" "https://rest.nexmo.com/sms/json" \\
  -d "from=AcmeInc" \\
  -d "text=A text message sent using the Vonage SMS API" \\
  -d "to=$TO_NUMBER" \\
  -d "api_key=$VONAGE_API_KEY" \\
  -d "api_secret=$VONAGE_API_SECRET"
"""
SDK = """\
import os
from vonage_http_client import Auth, HttpClient, HttpClientOptions
from vonage_messages import Messages, Sms

auth = Auth(application_id=os.environ["VONAGE_APPLICATION_ID"], private_key=os.environ["VONAGE_PRIVATE_KEY"])
options = HttpClientOptions(api_host=os.environ["VONAGE_API_HOST"], rest_host=os.environ["VONAGE_REST_HOST"])
message = Sms(to=os.environ["TO_NUMBER"], from_=os.environ["FROM_NUMBER"], text="Hello")
print(Messages(HttpClient(auth, options)).send(message).message_uuid)
"""


class Receiver(BaseHTTPRequestHandler):
    """Answers all with the statuses of its server in turn, the last for ever, and keeps what came."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((self.command, self.path, list(self.headers.items()), body))
        status = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - so the server asks for it

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def receiver():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.requests, server.answers = [], [200]
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def simulating(directory, *options):
    """A running simulator, on any ports, and the environment that it wrote."""
    file = directory / "vonage.env"
    arguments = ["simulate", "--port", "0", "--tls-port", "0", "--env", str(file), *options]
    with subprocess.Popen(
        [sys.executable, "-m", "landed", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        try:
            until(lambda: file.exists() or running.poll() is not None)
            assert running.poll() is None, running.stdout.read()
            yield environment_of(file)
        finally:
            running.send_signal(signal.SIGTERM)
            said = running.communicate(timeout=SECONDS_MAX)[0]
    assert running.returncode == 0, said


def environment_of(file):
    """What a shell makes of the file."""
    shell = [shutil.which("sh"), "-c", f'eval "$(cat {shlex.quote(str(file))})"; env -0']
    lines = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split("\0")
    return os.environ | dict(line.split("=", 1) for line in lines if line)


def until(condition):
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("line", "field"),
    [(TUTORIAL, r'"message_uuid":"([^"]+)"'), (OLDER_TUTORIAL, r'"message-id":"([^"]+)"')],
    ids=["messages", "sms"],
)
def test_the_tutorials_curl_lines_work_unchanged_and_their_receipts_come(tmp_path, receiver, line, field):
    if shutil.which("curl") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("curl is not installed")
    urls = ["--status-url", f"{receiver.url}/status", "--receipt-url", f"{receiver.url}/receipt"]
    with simulating(tmp_path, *urls, "--speed", "60") as environment:
        answer = run([shutil.which("bash"), "-c", line], environment)
        (message_id,) = re.findall(field, answer)
        until(lambda: len(receiver.requests) == 2)
    secret = environment["VONAGE_SIGNATURE_SECRET"]
    facts = [
        fact
        for method, path, headers, body in receiver.requests
        for fact in landed.parse(method, path, b"", headers, body, secrets=secret)
    ]
    assert {fact.message_id for fact in facts} == {message_id}
    assert [fact.provider_status for fact in facts][1] == "delivered"
    assert all(fact.verified for fact in facts)


def test_the_sdk_finds_it_by_its_environment(tmp_path, receiver):
    with simulating(tmp_path, "--status-url", receiver.url, "--seed", "3") as environment:
        message_id = run([sys.executable, "-c", SDK], environment).strip()
        sent = httpx.get(f"{environment['VONAGE_API_URL']}/_sim/messages").json()["items"]
    assert [each["message_id"] for each in sent] == [message_id]


def test_a_second_start_has_the_same_account_and_the_same_keys(tmp_path, receiver):
    names = [
        *("VONAGE_API_KEY", "VONAGE_API_SECRET", "VONAGE_APPLICATION_ID", "VONAGE_PRIVATE_KEY"),
        "VONAGE_SIGNATURE_SECRET",
    ]
    starts = []
    for _ in range(2):
        with simulating(tmp_path, "--status-url", receiver.url) as environment:
            starts.append([environment[name] for name in names])
            starts[-1].append((tmp_path / "vonage.env.d" / "private.key").read_text())
        (tmp_path / "vonage.env").unlink()
    assert starts[0] == starts[1]
    assert stat.S_IMODE((tmp_path / "vonage.env.d" / "private.key").stat().st_mode) == 0o600


def test_time_is_stepped_and_trouble_made_by_its_control_api(tmp_path, receiver):
    options = ["--speed", "stepped", "--fault", "outage,for=1h", "--fate", "447911123456=handset-busy"]
    with simulating(tmp_path, "--receipt-url", receiver.url, *options) as environment:
        url = environment["VONAGE_REST_URL"]
        key = {"api_key": environment["VONAGE_API_KEY"], "api_secret": environment["VONAGE_API_SECRET"]}
        httpx.post(f"{url}/sms/json", data={"to": "447911123456", "from": "ACME", "text": "Hi", **key})
        assert httpx.get(f"{url}/_sim/time").json()["now"].startswith("2026-01-01T12:00:00")
        httpx.post(f"{url}/_sim/time", json={"step": "59m"})
        assert receiver.requests == []
        httpx.post(f"{url}/_sim/time", json={"step": "2m"})
        (message,) = httpx.get(f"{url}/_sim/messages").json()["items"]
    said = [json.loads(body) for _, _, _, body in receiver.requests]
    assert [(each["status"], each["err-code"]) for each in said] == [("accepted", "0"), ("failed", "7")]
    assert (message["truth"]["arrived_at"], message["truth"]["fate"]) == (None, "handset-busy")


def test_a_scenario_is_read_and_options_win_over_it(tmp_path, receiver):
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(
        f'seed = 5\nspeed = "stepped"\nstatus_url = "{receiver.url}/from-file"\n'
        '[account]\napi_key = "deadbeef"\nbalance = "1.50"\n[[fault]]\nkind = "unsigned"\n'
    )
    with simulating(tmp_path, "--scenario", str(scenario), "--seed", "6") as environment:
        overview = httpx.get(f"{environment['VONAGE_API_URL']}/_sim").json()
        run([sys.executable, "-c", SDK], environment)
        httpx.post(f"{environment['VONAGE_API_URL']}/_sim/time", json={"step": 60})
    assert (overview["seed"], overview["balance"], environment["VONAGE_API_KEY"]) == (6, "1.50", "deadbeef")
    assert {path for _, path, _, _ in receiver.requests} == {"/from-file"}
    assert not any(name.lower() == "authorization" for _, _, headers, _ in receiver.requests for name, _ in headers)


def test_a_receiver_is_driven_with_signed_traffic_of_both_apis(landed, receiver):
    urls = ["--status-url", f"{receiver.url}/status", "--receipt-url", f"{receiver.url}/receipt"]
    secret = "a signature secret of the tests"
    options = ["--rate", "200", "--for", "2s", "--signature-secret", secret, "--json"]
    done = landed("simulate", *urls, *options)
    report = json.loads(done.stdout)
    assert (done.returncode, report["asked"], report["states"]) == (0, 400, {"taken": 400, "waiting": 0})
    assert report["answers"] == {"200": 400}
    assert len(receiver.requests) == report["calls"] == 400
    facts = [
        fact
        for method, path, headers, body in receiver.requests
        for fact in landed_parse(method, path, headers, body, secret)
    ]
    assert all(fact.verified for fact in facts)
    assert {fact.api for fact in facts} == {"messages", "sms"}
    assert {fact.channel for fact in facts} >= {"sms", "whatsapp"}
    assert 1.9 < report["seconds"] < 4


def landed_parse(method, path, headers, body, secret):
    return landed.parse(method, path, b"", headers, body, secrets=secret)


def test_what_is_not_taken_is_tried_again_and_reported(landed, receiver):
    receiver.answers = [503] * 20 + [200]
    done = landed(
        "simulate",
        "--status-url",
        receiver.url,
        "--receipt-url",
        receiver.url,
        "--rate",
        "50",
        "--for",
        "1s",
        "--wait",
        "1s",
        "--speed",
        "20",
    )
    assert done.returncode == 1, done.stdout
    assert re.search(r"calls +\d+, ([1-9]\d*) of them retries", done.stdout)
    assert "503: 20" in done.stdout
    assert re.search(r"waiting: [1-9]", done.stdout)


def test_copies_of_a_call_are_counted_as_calls(landed, receiver):
    urls = ["--status-url", receiver.url, "--receipt-url", receiver.url]
    done = landed(
        *("simulate", *urls, "--rate", "50", "--for", "1s", "--wait", "20s", "--speed", "20"),
        *("--fault", "duplicates,copies=2", "--json"),
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["asked"], report["states"]) == (0, 50, {"taken": 50, "waiting": 0})
    assert len(receiver.requests) == 50


def test_a_receiver_that_never_answers_holds_up_nothing(landed):
    with socket.create_server(("127.0.0.1", 0), backlog=4_096) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        options = ["--status-url", url, "--receipt-url", url, "--rate", "3000", "--for", "1s", "--wait", "0s", "--json"]
        done = landed("simulate", *options)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert (report["asked"] + report["not_called"], report["calls"]) == (3_000, 0)
    assert 2_000 <= report["asked"] < 2_100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_load_that_is_interrupted_tells_what_it_knows(receiver, number):
    command = [sys.executable, "-m", "landed", "simulate", "--rate", "20", "--for", "60s"]
    urls = ["--status-url", receiver.url, "--receipt-url", receiver.url]
    with subprocess.Popen([*command, *urls], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driving:
        until(lambda: len(receiver.requests) > 5)
        driving.send_signal(number)
        said, error = driving.communicate(timeout=SECONDS_MAX)
    assert driving.returncode == 1
    assert "Interrupted" in error
    assert re.search(r"answers +200: \d+", said)


def test_a_simulator_whose_output_nobody_reads_ends(tmp_path, receiver):
    options = ["--port", "0", "--tls-port", "0", "--receipt-url", receiver.url, "--env", str(tmp_path / "env")]
    command = [sys.executable, "-u", "-m", "landed", "simulate", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        until((tmp_path / "env").exists)
        running.stdout.close()
        environment = environment_of(tmp_path / "env")
        run([shutil.which("bash"), "-c", OLDER_TUTORIAL], environment)
        assert running.wait(SECONDS_MAX) == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--speed", "fast"], "The speed is a number"),
        (["--fault", "earthquake"], "is no kind of fault"),
        (["--fault", "outage,for"], "is no fault"),
        (["--fate", "447911123456=happy"], "is no fate"),
        (["--webhook-format", "XML"], "A setting of the account"),
        (["--scenario", "nowhere.toml"], "cannot be read"),
        (["--status-url", "nowhere"], "is no URL that can be called"),
        (["--rate", "10", "--env", "x"], "takes no --env"),
        (["--rate", "10", "--for", "soon"], "is no time"),
        (["--rate", "10", "--for", "0s"], "--for is how long"),
        (["--rate", "10", "--speed", "stepped"], "A load needs time that runs"),
        (["--begin", "9999-12-30"], "Time begins between the years"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_is_said_in_one_sentence(landed, options, sentence):
    done = landed("simulate", "--port", "0", "--tls-port", "0", *options)
    assert done.returncode in (2, 3)
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_there_is_to_choose_from_is_listed(landed):
    said = landed("simulate", "--list").stdout
    for word in ("447700900001", "447700900701", "handset-busy", "outage", "23410", "Philippines"):
        assert word in said
