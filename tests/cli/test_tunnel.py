"""`landed serve --tunnel` and `landed tunnel`, as they are run; ngrok's service has a local forwarder in its place."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from landed.simulator.account import messages_capability

FORWARDER = str(Path(__file__).parent.parent / "onboarding" / "forwarder")
SECONDS_MAX = 30
OLD = "https://old.example"
TWO_GATES = ["--role", "gate", "--gates", "2"]
TICK = threading.Event()


def until(holds, about=lambda: ""):
    deadline = time.monotonic() + SECONDS_MAX
    while not (value := holds()):
        assert time.monotonic() < deadline, about()
        TICK.wait(0.02)
    return value


def free_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


class Place:
    """A directory, and an account at Vonage whose webhooks lead elsewhere."""

    def __init__(self, vonage, directory):
        self.vonage = vonage
        self.account = vonage._simulator.account  # noqa: SLF001 - what is done to it is what is tested
        self.directory = directory
        self.data = directory / "landed-data"
        self.pointed = self.data / "pointed.json"
        self.account.application.capabilities = messages_capability(OLD + "/status", OLD + "/inbound")
        self.account.settings.receipt_url = OLD + "/dlr"
        self.before = self.urls()
        # Putting a URL back is answered by nobody else than the one who checks it.
        self.account.settings.inbound_url = ""
        self.running = []

    def urls(self):
        return self.account.application.capabilities, self.account.settings.receipt_url

    def is_pointed_at(self, url):
        capabilities, receipts = self.urls()
        return (
            capabilities["messages"]["webhooks"]["status_url"]["address"] == url + "/webhooks/message-status"
            and receipts == url + "/webhooks/delivery-receipt"
        )

    def start(self, *arguments, **environment):
        said = self.directory / f"said-{len(self.running)}"
        names = {"PYTHONPATH": FORWARDER, "NGROK_AUTHTOKEN": "a-token-of-ngrok-s"} | environment
        with said.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "landed", *arguments],
                env=os.environ | names,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        process.said = said.read_text
        self.running.append(process)
        return process

    def run(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        return process.wait(SECONDS_MAX), process.said()

    def serve(self, *arguments, port=0, **environment):
        """A landed with a tunnel, once it is open; and its public URL."""
        ports = ["--host", "127.0.0.1", "--port", str(port), "--private-port", "0", "--print", "none"]
        process = self.start("serve", *ports, *arguments, **environment)
        until(lambda: "calls here while this runs" in process.said() or process.poll() is not None, process.said)
        found = re.search(r"tunnel +(http://[^/]+\S*)/webhooks/message-status", process.said())
        assert found, process.said()
        return process, found[1]


@pytest.fixture
def place(vonage, tmp_path):
    there = Place(vonage, tmp_path)
    # The offline Vonage looks whether the old URL answers before it takes it back, as the real one does.
    there.account.settings.receipt_url = vonage.serve(_yes) + "/dlr"
    there.before = there.urls()
    yield there
    for process in there.running:
        if process.poll() is None:
            process.terminate()
            process.wait(SECONDS_MAX)


async def _yes(scope, _receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.vonage(speed=60)
def test_the_receipts_of_both_apis_come_through_the_tunnel(place):
    process, url = place.serve("--tunnel")
    assert place.is_pointed_at(url)
    assert f"application {place.account.application.id} and the account's SMS webhooks" in process.said()
    for api in ("messages", "sms"):
        code, said = place.run("send", "Hello", "--to", "447700900001", "--from", "ACME", "--api", api, "--wait")
        assert (code, "delivered" in said) == (0, True), said
    code, said = place.run("doctor")
    assert code == 0, said
    assert said.count("(here)") == 3
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS_MAX) == 0
    assert place.urls() == place.before
    assert "as they were before the tunnel" in process.said()


ENDS = [
    *[(by, how) for by in ("serve", "tunnel") for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)],
    # To a landed that serves it says to read its secrets again.
    ("tunnel", signal.SIGHUP),
]


@pytest.mark.parametrize(("by", "how"), ENDS, ids=lambda value: getattr(value, "name", value))
def test_however_it_ends_all_is_as_before(place, by, how):
    if by == "serve":
        process, _ = place.serve("--tunnel")
    else:
        serving, process = beside(place)
    process.send_signal(how)
    process.wait(SECONDS_MAX)
    until(lambda: not place.pointed.exists())
    assert place.urls() == place.before
    assert by == "serve" or serving.poll() is None


def beside(place, *arguments):
    """A landed that runs already, and a tunnel to it."""
    port = free_port()
    serving = place.start("serve", "--host", "127.0.0.1", "--port", str(port), "--private-port", "0")
    until(lambda: "/webhooks/inbound-sms" in serving.said(), serving.said)
    tunnel = place.start("tunnel", "--port", str(port), *arguments)
    until(lambda: "calls here while this runs" in tunnel.said() or tunnel.poll() is not None, tunnel.said)
    return serving, tunnel


def test_what_cannot_be_put_back_is_told_and_restored_later(place):
    process, url = place.serve("--tunnel")
    place.account.api_secret = "changed meanwhile"
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS_MAX) == 0
    assert "landed tunnel --restore" in process.said()
    assert place.is_pointed_at(url)
    place.account.api_secret = place.vonage.api_secret
    assert place.run("tunnel", "--restore") == (0, "Vonage's webhooks are as they were before the tunnel.\n")
    assert place.urls() == place.before
    code, said = place.run("tunnel", "--restore")
    assert (code, said.startswith("Nothing is left to put back")) == (0, True)


def test_after_a_crash_of_the_machine_the_next_one_puts_back_what_was_before_the_first(place):
    process, first = place.serve("--tunnel")
    # All at once, as if the machine was gone: the guard, too.
    for pid in (guard_of(process.pid), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait(SECONDS_MAX)
    assert place.pointed.exists()
    assert place.is_pointed_at(first)
    code, said = place.run("doctor", "--json")
    assert (code, "tunnel-left" in said) == (1, True)
    process, second = place.serve("--tunnel")
    assert place.is_pointed_at(second)
    process.send_signal(signal.SIGINT)
    process.wait(SECONDS_MAX)
    assert place.urls() == place.before


def guard_of(pid):
    """The process that a landed has put there to put things back."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            if b"--guard" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise AssertionError("there is no guard")


def test_a_second_tunnel_on_the_same_data_is_refused(place):
    _, url = place.serve("--tunnel")
    port = free_port()
    code, said = place.run("serve", "--host", "127.0.0.1", "--port", str(port), *TWO_GATES, "--tunnel")
    assert (code, "Another tunnel runs" in said) == (3, True), said
    assert place.is_pointed_at(url)
    code, said = place.run("tunnel", "--restore")
    assert (code, "puts them back itself" in said) == (3, True)
    assert place.is_pointed_at(url)


def test_any_other_public_url_does_in_place_of_ngrok(place):
    port = free_port()
    url = f"http://localhost:{port}"
    process, told = place.serve("--tunnel", "--public-url", url, port=port, NGROK_AUTHTOKEN="")
    assert (told, place.is_pointed_at(url)) == (url, True)
    process.terminate()
    process.wait(SECONDS_MAX)
    assert place.urls() == place.before


@pytest.mark.parametrize(("only", "changed"), [("messages", (True, False)), ("sms", (False, True))])
def test_only_one_api_is_pointed_when_that_is_wanted(place, only, changed):
    beside(place, "--only", only)
    now = place.urls()
    assert tuple(old != new for old, new in zip(place.before, now, strict=True)) == changed


def test_a_prefix_stands_in_the_urls(place):
    _, url = place.serve("--tunnel", LANDED_PATH_PREFIX="/hooks")
    assert url.endswith("/hooks")
    assert place.is_pointed_at(url)


def test_without_key_and_secret_the_urls_are_shown_and_nobody_is_asked(place):
    process = place.start("serve", "--port", "0", "--private-port", "0", "--tunnel", VONAGE_API_SECRET="")
    until(lambda: "Vonage      not asked" in process.said(), process.said)
    assert re.search(r"tunnel +http://\S+/webhooks/delivery-receipt", process.said())
    assert place.urls() == place.before


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "sentence"),
    [
        (["serve", "--tunnel", "--private-port", "0"], {"NGROK_AUTHTOKEN": ""}, 3, "is NGROK_AUTHTOKEN set"),
        (["serve", "--tunnel", "--role", "worker"], {}, 2, "--tunnel needs a landed that owns its port"),
        (["serve", "--tunnel", "--public-url", "nowhere"], {}, 2, "Setting public_url"),
        (["tunnel"], {}, 3, "No landed answers at"),
        (["serve", "--tunnel", "--private-port", "0", "--public-url", "http://127.0.0.1:1"], {}, 3, "must answer 200"),
        (
            ["serve", "--tunnel", "--private-port", "0"],
            {"VONAGE_API_SECRET": "wrong"},
            3,
            "not those of an account",
        ),
    ],
    ids=["no token", "worker alone", "no URL", "no landed", "URL leads elsewhere", "wrong secret"],
)
def test_what_cannot_be_is_said_and_leaves_nothing_behind(place, arguments, environment, code, sentence):
    port = free_port()
    done, said = place.run(*arguments, "--port", str(port), **environment)
    assert (done, sentence in said) == (code, True), said
    assert (place.urls(), place.pointed.exists()) == (place.before, False)
    # No process of it is left that would listen there.
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_without_ngrok_s_sdk_it_says_what_to_install(place):
    code, said = place.run("serve", "--tunnel", "--port", "0", "--private-port", "0", PYTHONPATH="")
    assert code in (2, 3)
    assert "landed[ngrok]" in said or code == 3


def test_nothing_secret_is_said(place):
    process, _ = place.serve("--tunnel")
    process.terminate()
    process.wait(SECONDS_MAX)
    for secret in (place.vonage.api_secret, place.vonage.signature_secret, "a-token-of-ngrok-s", "PRIVATE KEY"):
        assert secret not in process.said()


def test_killed_at_any_instant_of_its_start_all_is_as_before(place):
    seed = int.from_bytes(os.urandom(4))
    chosen = random.Random(seed)  # noqa: S311 - instants, not secrets
    for _ in range(6):
        process = place.start("serve", "--port", "0", "--private-port", "0", "--print", "none", "--tunnel")
        TICK.wait(chosen.uniform(0.2, 1.6))
        process.kill()
        process.wait(SECONDS_MAX)
        until(lambda: is_free(place))
        assert place.run("tunnel", "--restore")[0] == 0
        assert place.urls() == place.before, f"seed {seed}"


def is_free(place):
    """Whether no guard is at work any more."""
    from landed.onboarding.pointing import is_guarded  # noqa: PLC0415

    return not is_guarded(place.data)
