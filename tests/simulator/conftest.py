"""A simulation's parts, put together for a test, and a receiver on a port of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from landed.simulator.clock import STEPPED
from landed.simulator.scenario import Scenario
from landed.simulator.server import simulator_of
from landed.simulator.wire import Client

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
SECONDS_MAX = 120
REAL = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Receiver:
    """Takes HTTP requests on a port of its own, and answers each with the next of these statuses, the last for ever.

    None reads the request and closes the connection.
    """

    def __init__(self, answers=(200,)):
        self.requests = []
        self.answers = list(answers)
        self.url = ""

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                self.requests.append(head + await reader.readexactly(length))
                status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if status is None:
                    writer.close()
                    return
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def receiving(*answers):
    receiver = Receiver(answers or (200,))
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, limit=1 << 20)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield receiver
    finally:
        server.close()


@asynccontextmanager
async def simulating(*answers, **options):
    """A simulator in stepped time from noon on, and the receiver that all its receipts go to."""
    async with receiving(*answers) as receiver:
        usual = {"speed": STEPPED, "began_at": NOON, "status_url": receiver.url, "receipt_url": receiver.url}
        client = Client()
        simulator = simulator_of(Scenario(**(usual | options)), client, "", lambda: REAL)
        try:
            yield simulator, receiver
        finally:
            await simulator.clock.stop()
            client.close()


@pytest.fixture
def simulation():
    """Play a coroutine function with a simulator and its receiver: `simulation(play, *answers, **scenario)`."""

    def run(play, *answers, **options):
        async def playing():
            async with simulating(*answers, **options) as (simulator, receiver):
                return await play(simulator, receiver)

        return asyncio.run(asyncio.wait_for(playing(), 120))

    return run


class Landed:
    """A running `landed serve`: `url` is its public one, `secret` what its receipts are to be signed with."""

    secret = "a signature secret of the tests"

    def __init__(self, directory):
        self.data = directory / "data"
        self._directory = directory
        self._command = [sys.executable, "-m", "landed"]
        names = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}
        self._environment = names | {"VONAGE_SIGNATURE_SECRET": self.secret, "LANDED_DATA": str(self.data)}
        ports = ["--host", "127.0.0.1", "--port", "0", "--private-port", "0", "--print", "none"]
        said = directory / "said"
        with said.open("wb") as stderr:
            self._serving = subprocess.Popen(
                [*self._command, "serve", *ports], stderr=stderr, env=self._environment, cwd=directory
            )
        deadline = time.monotonic() + SECONDS_MAX
        while not (urls := re.findall(r"(http://127\.0\.0\.1:\d+)/webhooks", said.read_text())):
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.02)
        self.url = urls[0]

    def ledger(self):
        """What became of all requests, once all are folded."""
        deadline = time.monotonic() + SECONDS_MAX
        while (ledger := self.ask("doctor")["ledger"])["waiting"]:
            assert time.monotonic() < deadline, ledger
        return ledger

    def ask(self, *arguments):
        run = subprocess.run(
            [*self._command, *arguments, "--json"],
            env=self._environment,
            cwd=self._directory,
            capture_output=True,
            check=False,
        )
        return json.loads(run.stdout)

    def stop(self):
        self._serving.send_signal(signal.SIGTERM)
        self._serving.wait(SECONDS_MAX)


@pytest.fixture
def landed_serves(tmp_path):
    """A running landed in a directory of its own."""
    landed = Landed(tmp_path)
    yield landed
    landed.stop()
