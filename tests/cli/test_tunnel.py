"""`landed serve --tunnel` and `landed tunnel`, as they are run; ngrok's service has a forwarder here in its place."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pty
import random
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from copy import deepcopy
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from ports import free_port

from landed.simulator.account import messages_capability
from landed.work import LOCK_FILE as WORKER_LOCK

ONBOARDING = Path(__file__).parent.parent / "onboarding"
STAND_IN = ONBOARDING / "forwarder"
Forwarder = runpy.run_path(str(STAND_IN / "ngrok.py"))["Forwarder"]
_cutting = runpy.run_path(str(ONBOARDING / "cutting.py"))
Cutting, Cut = _cutting["Cutting"], _cutting["Cut"]

OLD = "https://old.example"
TOKEN = "a-token-of-ngrok-s"
CALLS_HERE = "calls here while this runs"
AS_BEFORE = "Vonage's webhooks are as they were before the tunnel."
SECONDS_MAX = 30.0
POLL_SECONDS = 0.02
PORTS = ["--host", "127.0.0.1", "--port", "0", "--private-port", "0", "--print", "none"]
PS = shutil.which("ps") or "ps"


def until(holds, about=lambda: "", seconds=SECONDS_MAX):
    """Look again and again, until something holds."""
    deadline, tick = time.monotonic() + seconds, threading.Event()
    while not (value := holds()):
        assert time.monotonic() < deadline, about()
        tick.wait(POLL_SECONDS)
    return value


class Landed:
    """Something in landed's place, for a tunnel that leads to it: it answers as it is told."""

    def __init__(self):
        self.status = "200 OK"
        self.asked = threading.Event()
        # Cleared, it lets whoever asks for the receipts' path wait.
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].endswith("/delivery-receipt"):
            self.asked.set()
            self.answers.wait(SECONDS_MAX)
        start_response(self.status, [("Content-Length", "0")])
        return [b""]


class Place:
    """A directory, an account at Vonage whose webhooks lead elsewhere, and all that was started there."""

    def __init__(self, vonage, directory):
        self.vonage = vonage
        self.directory = directory
        self.account = vonage._simulator.account  # noqa: SLF001 - what is done to it is what is tested
        self.data = directory / "data"
        self.pointed = self.data / "pointed.json"
        self.running = []
        self.landed = Landed()
        self.url = vonage.serve(self.landed)
        self.port = int(self.url.rpartition(":")[2])
        voice = {"voice": {"region": "eu-west"}}
        self.account.application.capabilities = messages_capability(OLD + "/status", OLD + "/inbound") | voice
        # Vonage looks whether they answer when they are put back.
        self.account.settings.receipt_url, self.account.settings.inbound_url = self.url + "/dlr", self.url + "/mo"
        self.before = self.seen()

    def seen(self):
        """What Vonage has: what each application can do, and where the account's receipts and inbound SMS go."""
        applications = {each.id: each.capabilities for each in self.account.applications.values()}
        settings = self.account.settings
        return deepcopy((applications, settings.receipt_url, settings.inbound_url))

    def leads_to(self, url):
        """Which of the two APIs' webhooks lead to a URL, both of each."""
        webhooks = self.account.application.capabilities["messages"]["webhooks"]
        settings = self.account.settings
        return (
            {name: each["address"] for name, each in webhooks.items()}
            == {"status_url": url + "/webhooks/message-status", "inbound_url": url + "/webhooks/inbound-message"},
            (settings.receipt_url, settings.inbound_url)
            == (url + "/webhooks/delivery-receipt", url + "/webhooks/inbound-sms"),
        )

    def start(self, *arguments, stdin=subprocess.DEVNULL, **environment):
        names = {"PYTHONPATH": str(STAND_IN), "NGROK_AUTHTOKEN": TOKEN, "LANDED_DATA": str(self.data)}
        # So long a guard looks again after a change whose answer nobody had.
        names |= {"LANDED_SEND_SECONDS_MAX": "3"} | environment
        out = self.directory / f"said-{len(self.running)}"
        with out.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "landed", *map(str, arguments)],
                env=os.environ | names,
                cwd=self.directory,
                stdin=stdin,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        process.said = out.read_text
        self.running.append(process)
        return process

    def run(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        return process.wait(SECONDS_MAX), process.said()

    def opened(self, *arguments, **options):
        """A tunnel, once Vonage is pointed at it, and its URL."""
        process = self.start(*arguments, **options)
        until(lambda: CALLS_HERE in process.said() or process.poll() is not None, process.said)
        found = re.search(r"tunnel +(http://\S+)/webhooks/message-status", process.said())
        assert found, process.said()
        assert process.poll() is None, process.said()
        return process, found[1]

    def serve(self, *arguments, **options):
        """A landed that serves, with a tunnel."""
        return self.opened("serve", *PORTS, "--tunnel", *arguments, **options)

    def tunnel(self, *arguments, **options):
        """A tunnel to what answers in landed's place."""
        return self.opened("tunnel", "--port", self.port, *arguments, **options)

    def processes(self):
        """Those of landed's that work on our data, by their ids, with their command lines."""
        shown = subprocess.run([PS, "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
        lines = [line.split(maxsplit=1) for line in shown.stdout.splitlines() if f"--data {self.data}" in line]
        return {int(pid): command for pid, command in lines}

    def guard(self):
        """The id of the process that is there to put everything back."""
        (pid,) = [pid for pid, command in self.processes().items() if "--guard" in command]
        return pid

    def guards(self):
        return [command for command in self.processes().values() if "--guard" in command]

    def is_without_worker(self):
        """Whether the worker of a landed that was killed has left."""
        with (self.data / WORKER_LOCK).open("a+") as file, suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def end(self):
        """Let nothing run on; nothing secret was said by any of it, nor is shown to who lists processes."""
        shown = "".join(self.processes().values())
        for process in self.running:
            if process.poll() is None:
                process.terminate()
                process.wait(SECONDS_MAX)
        until(lambda: not self.processes(), lambda: f"still there: {self.processes()}")
        for process in self.running:
            said = process.said()
            assert "Traceback" not in said, said
            for secret in (self.vonage.api_secret, self.vonage.api_key, self.vonage.signature_secret, TOKEN):
                assert secret not in said + shown
            assert "PRIVATE KEY" not in said + shown


@pytest.fixture
def place(vonage, tmp_path):
    there = Place(vonage, tmp_path)
    yield there
    there.end()


def sentences(said):
    """What was said, without a landed's own lines, of where it listens and of what it does."""
    return [line for line in said.splitlines() if line[:1] not in ("", " ", "{") and not re.match(r"landed \d", line)]


def the_sentence(said):
    """The one sentence that was said."""
    assert len(sentences(said)) == 1, said
    return sentences(said)[0]


@pytest.mark.vonage(speed=60)
def test_the_receipts_of_both_apis_come_through_the_tunnel(place):
    process, url = place.serve()
    assert place.leads_to(url) == (True, True)
    assert f"application {place.account.application.id} and the account's SMS webhooks" in process.said()
    for api in ("messages", "sms"):
        send = ["send", "Hello", "--to", "447700900001", "--from", "ACME", "--api", api, "--wait"]
        code, said = place.run(*send)
        assert (code, "delivered" in said) == (0, True), said
    assert {callback.url for callback in place.vonage.callbacks()} == {
        url + "/webhooks/message-status",
        url + "/webhooks/delivery-receipt",
    }


def _to_itself(number):
    return lambda process, _place: process.send_signal(number)


def _to_its_group(number):
    return lambda process, _place: os.killpg(process.pid, number)


def _to_everything(number):
    def act(process, place):
        for pid in (*place.processes(), process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    return act


ENDS = {
    # What is done, and the exit code.
    "SIGINT, as by Ctrl-C": (_to_its_group(signal.SIGINT), 0),
    "SIGTERM": (_to_itself(signal.SIGTERM), 0),
    "SIGHUP": (_to_itself(signal.SIGHUP), 0),
    "SIGKILL": (_to_itself(signal.SIGKILL), -signal.SIGKILL),
    # As a service manager does that ends all of a group of processes at once.
    "SIGTERM to all, the guard too": (_to_everything(signal.SIGTERM), 0),
}


@pytest.mark.parametrize("by", [Place.serve, Place.tunnel], ids=["serve", "tunnel"])
@pytest.mark.parametrize(("act", "code"), ENDS.values(), ids=ENDS.keys())
def test_vonage_is_pointed_while_it_runs_and_exactly_as_before_however_it_ends(place, by, act, code):
    # At a terminal, which matters to a landed that serves: elsewhere SIGHUP lets it read its settings again.
    ours, terminal = pty.openpty()
    try:
        process, url = by(place, stdin=terminal)
        assert place.leads_to(url) == (True, True)
        assert place.pointed.exists()
        act(process, place)
        assert process.wait(SECONDS_MAX) == code
        until(lambda: not place.guards(), process.said)
    finally:
        os.close(ours)
        os.close(terminal)
    assert (place.seen(), place.pointed.exists()) == (place.before, False)
    assert the_sentence(process.said()) == AS_BEFORE


def test_without_a_terminal_a_hangup_lets_a_landed_read_its_settings_and_the_tunnel_stays(place):
    process, url = place.serve()
    process.send_signal(signal.SIGHUP)
    assert httpx.get(url + "/healthz", trust_env=False).status_code == HTTPStatus.OK
    assert (process.poll(), place.leads_to(url)) == (None, (True, True))
    process.send_signal(signal.SIGINT)
    process.wait(SECONDS_MAX)
    assert place.seen() == place.before


def test_killed_while_vonage_cannot_be_reached_it_says_how_to_restore_and_that_restores(place):
    road = Forwarder(place.vonage.host)
    process, url = place.tunnel(VONAGE_API_HOST=road.address, VONAGE_REST_HOST=road.address)
    road.stop()
    process.kill()
    process.wait(SECONDS_MAX)
    until(lambda: not place.guards())
    assert "`landed tunnel --restore` puts its webhooks back" in process.said()
    assert (place.pointed.exists(), place.leads_to(url)) == (True, (True, True))
    gone = {"VONAGE_API_HOST": road.address, "VONAGE_REST_HOST": road.address}
    code, said = place.run("tunnel", "--restore", **gone)
    assert (code, place.pointed.exists()) == (3, True)
    assert "gave no answer" in the_sentence(said)
    assert place.run("tunnel", "--restore") == (0, AS_BEFORE + "\n")
    assert (place.seen(), place.pointed.exists()) == (place.before, False)


def test_where_nothing_is_to_be_restored_that_is_said_and_done(place):
    code, said = place.run("tunnel", "--restore")
    assert (code, said) == (0, f"Nothing is left to put back in {place.data}.\n")
    assert place.seen() == place.before


def test_after_a_crash_of_the_machine_the_next_tunnel_leaves_what_was_before_the_first(place):
    process, first = place.serve()
    guard = place.guard()
    # Stopped first, so that neither sees the other go.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (guard, process.pid):
            os.kill(pid, number)
    process.wait(SECONDS_MAX)
    until(lambda: not place.guards() and place.is_without_worker())
    assert (place.pointed.exists(), place.leads_to(first)) == (True, (True, True))
    process, second = place.serve()
    assert (second != first, place.leads_to(second)) == (True, (True, True))
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS_MAX) == 0
    assert (place.seen(), place.pointed.exists()) == (place.before, False)


def test_where_the_guard_alone_was_killed_all_is_put_back_or_said(place):
    process, _ = place.tunnel()
    os.kill(place.guard(), signal.SIGKILL)
    until(lambda: not place.guards())
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS_MAX)
    assert "landed tunnel --restore" in process.said() or place.seen() == place.before


SECONDS = {
    "tunnel": ["tunnel", "--port"],
    "serve": ["serve", "--private-port", "0", "--tunnel", "--port"],
}


@pytest.mark.parametrize("second", SECONDS.values(), ids=SECONDS.keys())
def test_a_second_tunnel_on_the_same_data_is_refused_in_one_sentence_and_changes_nothing(place, second):
    process, url = place.tunnel()
    pointed, kept = place.seen(), place.pointed.read_bytes()
    port = place.port if second[0] == "tunnel" else free_port()
    code, said = place.run(*second, port)
    assert code == 3, said
    assert (place.seen(), place.pointed.read_bytes()) == (pointed, kept)
    assert process.poll() is None
    assert place.leads_to(url) == (True, True)
    assert "Another tunnel runs on" in the_sentence(said)


def test_what_a_tunnel_that_runs_has_pointed_is_not_restored_beneath_it(place):
    _, url = place.tunnel()
    code, said = place.run("tunnel", "--restore")
    assert (code, place.leads_to(url)) == (3, (True, True))
    assert "it puts them back itself when it ends" in the_sentence(said)


def test_a_tunnel_leads_to_a_landed_that_runs_and_leaves_it_running(place):
    port = free_port()
    serving = place.start("serve", "--host", "127.0.0.1", "--port", port, "--private-port", "0", "--print", "none")
    until(lambda: "/webhooks/inbound-sms" in serving.said(), serving.said)
    process, url = place.opened("tunnel", "--port", port)
    assert httpx.get(url + "/healthz", trust_env=False).status_code == HTTPStatus.OK
    assert place.leads_to(url) == (True, True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS_MAX) == 0
    assert (place.seen(), serving.poll()) == (place.before, None)


@pytest.mark.parametrize("status", [None, "503 Service Unavailable"], ids=["nobody", "another"])
def test_where_no_landed_answers_there_is_no_tunnel_and_one_sentence_says_so(place, status):
    port = free_port() if status is None else place.port
    place.landed.status = status
    code, said = place.run("tunnel", "--port", port)
    assert (code, place.seen(), place.pointed.exists()) == (3, place.before, False)
    assert f"No landed answers at http://127.0.0.1:{port}/webhooks/delivery-receipt" in the_sentence(said)


def test_another_public_url_does_in_place_of_ngrok(place):
    url = place.url + "/there"
    process, told = place.tunnel("--public-url", url + "/", PYTHONPATH="", NGROK_AUTHTOKEN="")
    assert (told, place.leads_to(url)) == (url, (True, True))
    process.terminate()
    process.wait(SECONDS_MAX)
    assert place.seen() == place.before


@pytest.mark.parametrize(("only", "leads"), [("messages", (True, False)), ("sms", (False, True))])
def test_only_one_api_is_pointed_when_that_is_wanted(place, only, leads):
    process, url = place.tunnel("--only", only)
    assert place.leads_to(url) == leads
    seen = place.seen()
    assert (seen[0] != place.before[0], seen[1:] != place.before[1:]) == leads
    process.send_signal(signal.SIGINT)
    process.wait(SECONDS_MAX)
    assert place.seen() == place.before


def test_where_there_is_nothing_to_point_nothing_is_said_to_be_pointed(place):
    process = place.start("tunnel", "--port", place.port, "--only", "messages", VONAGE_APPLICATION_ID="")
    until(lambda: "Vonage  " in process.said() or process.poll() is not None, process.said)
    assert CALLS_HERE not in process.said()
    assert "VONAGE_APPLICATION_ID" in process.said()


def test_the_domain_that_is_wanted_and_the_prefix_of_the_paths_are_in_the_urls(place):
    process, url = place.serve("--domain", "localhost", LANDED_PATH_PREFIX="/hooks")
    assert re.fullmatch(r"http://localhost:\d+/hooks", url)
    assert place.leads_to(url) == (True, True)
    # The stand-in listens on one of the addresses that a localhost has.
    there = url.replace("localhost", "127.0.0.1")
    assert httpx.get(there + "/healthz", trust_env=False).status_code == HTTPStatus.OK
    assert process.poll() is None


def test_without_the_secret_the_urls_are_shown_and_nobody_is_asked(place):
    with Cutting(place.vonage) as road:
        process = place.start("tunnel", "--port", place.port, VONAGE_API_SECRET="", **road.environment)
        until(lambda: "not asked: set VONAGE_API_KEY and VONAGE_API_SECRET" in process.said(), process.said)
        (base,) = re.findall(r"tunnel +(http://\S+)/webhooks/message-status", process.said())
        assert f"{base}/webhooks/delivery-receipt" in process.said()
        assert httpx.get(base + "/healthz", trust_env=False).status_code == HTTPStatus.OK
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS_MAX) == 0
        assert road.asked == []
    assert (place.seen(), place.pointed.exists()) == (place.before, False)


NO_NGROK = importlib.util.find_spec("ngrok") is None
CANNOT = {
    # What is given, what is in the environment, the exit code, and what the sentence says.
    "no token": (["--tunnel"], {"NGROK_AUTHTOKEN": ""}, 3, "is NGROK_AUTHTOKEN set"),
    "wrong secret": (["--tunnel"], {"VONAGE_API_SECRET": "wrong"}, 3, "are not those of an account"),
    "a URL of nobody": (["--tunnel", "--public-url", "http://127.0.0.1:1"], {}, 3, "must answer 200"),
    "a worker alone": (["--tunnel", "--role", "worker"], {}, 2, "--tunnel needs a landed that owns its port"),
    "no ngrok": (["--tunnel"], {"PYTHONPATH": ""}, 2, "pip install 'landed[ngrok]'"),
}


@pytest.mark.parametrize(("arguments", "environment", "code", "sentence"), CANNOT.values(), ids=CANNOT.keys())
def test_what_cannot_be_is_said_in_one_sentence_and_leaves_nothing_behind(
    place, arguments, environment, code, sentence
):
    if "PYTHONPATH" in environment and not NO_NGROK:
        pytest.skip("ngrok's SDK is installed")
    port = free_port()
    ports = ["--host", "127.0.0.1", "--port", port, "--private-port", "0"]
    done, said = place.run("serve", *ports, *arguments, **environment)
    assert done == code, said
    # No process is left, nobody listens, and nothing is to be put back.
    assert place.processes() == {}
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert (place.seen(), place.pointed.exists()) == (place.before, False)
    assert sentence in the_sentence(said)


@pytest.mark.parametrize("arguments", [["--restore"], ["--public-url", "http://127.0.0.1:1"]], ids=["restore", "start"])
def test_a_file_that_cannot_be_read_stops_a_tunnel_in_one_sentence_and_is_kept(place, arguments):
    place.data.mkdir()
    place.pointed.write_text("{")
    code, said = place.run("tunnel", "--port", place.port, *arguments)
    assert (code, place.pointed.read_text(), place.seen()) == (3, "{", place.before), said
    assert "compare them with the dashboard" in the_sentence(said)


@pytest.mark.parametrize("at", [3, 4], ids=["of the application", "of the account"])
def test_killed_while_vonage_makes_a_change_all_is_as_before(place, at):
    with Cutting(place.vonage) as road:
        road.cut(at, Cut.HELD)
        process = place.start("tunnel", "--port", place.port, **road.environment)
        until(road.held.is_set, process.said)
        process.kill()
        process.wait(SECONDS_MAX)
        until(lambda: not place.guards(), process.said)
    if place.pointed.exists():
        assert place.run("tunnel", "--restore")[0] == 0
    assert place.seen() == place.before


def test_killed_while_vonage_still_tries_the_url_all_is_as_before(place):
    place.landed.answers.clear()
    url = ["--public-url", place.url + "/there"]
    process = place.start("tunnel", "--port", place.port, *url, LANDED_SEND_SECONDS_MAX="3")
    until(place.landed.asked.is_set, process.said)
    process.kill()
    process.wait(SECONDS_MAX)
    # Vonage's own request goes on, whoever asked for it; a second is enough for a guard that does not wait for that.
    with suppress(AssertionError):
        until(lambda: not place.guards(), seconds=1)
    place.landed.answers.set()
    until(lambda: not place.guards(), process.said)
    with suppress(AssertionError):
        until(lambda: place.seen() != place.before, seconds=1)
    if place.pointed.exists():
        assert place.run("tunnel", "--restore")[0] == 0
    assert place.seen() == place.before


def test_killed_at_any_instant_of_its_start_all_is_as_before(place):
    seed = int.from_bytes(os.urandom(4))
    chosen = random.Random(seed)  # noqa: S311 - instants, not secrets
    for by in (["serve", *PORTS, "--tunnel"], ["tunnel", "--port", place.port]):
        began = time.monotonic()
        process, _ = place.opened(*by)
        start_seconds = time.monotonic() - began
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS_MAX)
        for fifth in range(5):
            process = place.start(*by)
            with suppress(subprocess.TimeoutExpired):
                process.wait((fifth + chosen.random()) / 5 * start_seconds * 1.1)
            process.kill()
            process.wait(SECONDS_MAX)
            until(lambda: not place.processes(), process.said)
            if place.pointed.exists():
                assert place.run("tunnel", "--restore")[0] == 0
            about = f"seed {seed}, {by[0]}, {fifth}: {process.said()}"
            assert (place.seen(), place.pointed.exists()) == (place.before, False), about
