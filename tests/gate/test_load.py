"""`landed serve`, whole and with its default limits, while a crowd idles and while a flood of forgeries comes."""

import asyncio
import json
import os
import re
import resource
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
import uvloop

from landed.journal.quarantine import SqliteQuarantine
from landed.journal.record import RequestRecord, decode
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, quarantine_path
from landed.settings import Limits
from landed.vonage.signing import sign_jwt, sign_sig

# It wants the machine for itself.
pytestmark = pytest.mark.alone

SECRET = "a signature secret of the tests"
KEY = "abcd1234"
SECONDS_MAX = 30
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}
LIMITS = Limits()

IDLE = 5_000
IDLE_SECONDS = 10
A_CONNECTION_KIB_MAX = 8

# How long the flood lasts, and from how many clients, can be said from outside, for a closer look.
FLOOD_SECONDS = float(os.environ.get("LANDED_TEST_FLOOD_SECONDS", "30"))
FLOOD_CONNECTIONS = int(os.environ.get("LANDED_TEST_FLOOD_CONNECTIONS", "256"))
FLOOD_PER_SECOND_MIN = 1_000
SIGNED_PER_SECOND = 200
ANEW_OF_FOUR = 2
P99_MS_MAX = 250
GROWTH_KIB_MAX = 32 * 1024
A_RECORD_BYTES_MAX = 4 * 1024


class Serve:
    """A running `landed serve` in a directory of its own."""

    def __init__(self, directory, **limits):
        self.data = directory / "data"
        said = directory / "stderr"
        environment = CLEAN | {"VONAGE_SIGNATURE_SECRET": SECRET}
        environment |= {f"LANDED_LIMITS__{name.upper()}": str(value) for name, value in limits.items()}
        ports = ["--host", "127.0.0.1", "--port", "0", "--private-port", "0", "--print", "none"]
        with said.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "landed", "serve", *ports, "--data", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environment,
                cwd=directory,
            )
        try:
            _until(lambda: "signatures" in said.read_text() or self.process.poll() is not None)
            self.url = re.search(r"http://127\.0\.0\.1:\d+", said.read_text())[0]
            self.port = int(self.url.rpartition(":")[2])
            _until(self.is_up)
        except BaseException:
            self.end()
            raise

    def is_up(self):
        try:
            return httpx.get(self.url + "/healthz", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def processes(self):
        """The resident memory of the parent and its children, in KiB, by their process ids."""
        listed = subprocess.run(
            [shutil.which("ps"), "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True
        )
        rows = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
        return {pid: rss for pid, parent, rss in rows if self.process.pid in (pid, parent)}

    def files_bytes(self):
        return {file.name: file.stat().st_size for file in self.data.iterdir()}

    def kept(self):
        """All requests in the journal."""
        kept, after = [], 0
        with closing(SqliteJournal(journal_path(self.data))) as journal:
            while rows := journal.read(after, 1_000):
                after = rows[-1][0]
                kept += [record for _, data in rows if isinstance(record := decode(data), RequestRecord)]
        return kept

    def quarantined(self):
        with closing(SqliteQuarantine(quarantine_path(self.data), only_read=True)) as quarantine:
            return quarantine.totals()

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(SECONDS_MAX)
        finally:
            self.process.kill()


@contextmanager
def serving(directory, **limits):
    serve = Serve(directory, **limits)
    try:
        yield serve
    finally:
        serve.end()


def _until(holds):
    deadline = time.monotonic() + SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def signed(number):
    """A signed webhook, of both APIs in turn; the id of its message, and its bytes."""
    message = str(uuid.uuid4())
    if number % 2:
        fields = {"msisdn": "447700900001", "to": "ACME", "messageId": message, "status": "delivered", "err-code": "0"}
        fields |= {"scts": "2602031214", "api-key": KEY, "timestamp": str(int(time.time()))}
        query = urlencode(fields | {"sig": sign_sig(fields, SECRET, "sha256")})
        return message, f"GET /webhooks/delivery-receipt?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    about = {"message_uuid": message, "to": "447700900000", "from": "447700900001", "channel": "sms"}
    body = json.dumps(about | {"timestamp": "2026-02-03T12:14:25Z", "status": "delivered"})
    token = sign_jwt(body.encode(), SECRET, issued_at=int(time.time()), token_id=message, api_key=KEY)
    head = f"POST /webhooks/message-status HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
    return message, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def message_of(record):
    """The id of the message that a request of ours is about."""
    return re.search(rb"(?:messageId=|\"message_uuid\": \")([^&\"]+)", record.query + record.body)[1].decode()


def latencies_ms(client, count):
    """How long each of so many signed requests took, one after the other."""
    took = []
    for number in range(count):
        _, data = signed(number)
        began = time.perf_counter()
        client.send(data)
        assert client.answer().status in (200, 204)
        took.append((time.perf_counter() - began) * 1_000)
    return took


@pytest.fixture
def descriptors():
    """Room for as many sockets as the machine allows; the children inherit it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[1], 2 * IDLE), before[1]))
    yield min(before[1], 2 * IDLE)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_five_thousand_idle_connections_slow_nobody_and_are_ended_in_their_time(tmp_path, client, descriptors):
    assert descriptors > IDLE + 100, "raise the hard limit of open files (ulimit -Hn)"
    times = {"first_byte_seconds_max": IDLE_SECONDS, "idle_seconds_max": IDLE_SECONDS}
    with serving(tmp_path, **times) as serve, ExitStack() as stack:
        before_ms = latencies_ms(stack.enter_context(client(serve.port)), 400)
        before_kib = serve.processes()
        crowd = [stack.enter_context(client(serve.port)) for _ in range(IDLE)]
        # Half of them never say a word, and half have been answered once.
        for one in crowd[::2]:
            one.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert all(one.answer().status == 200 for one in crowd[::2])
        during_ms = latencies_ms(stack.enter_context(client(serve.port)), 400)
        during_kib = serve.processes()
        assert not _closed(crowd), "the crowd was gone before it was measured beside"
        deadline = time.monotonic() + IDLE_SECONDS + SECONDS_MAX
        while crowd:
            assert time.monotonic() < deadline
            closed = _closed(crowd, wait_ms=500)
            assert all(one.is_closed() for one in crowd if one.socket.fileno() in closed)
            crowd = [one for one in crowd if one.socket.fileno() not in closed]
        after_ms = latencies_ms(stack.enter_context(client(serve.port)), 400)

    # What most took, since others may be using the machine as well.
    before, during, after = (statistics.quantiles(took, n=4)[0] for took in (before_ms, during_ms, after_ms))
    assert during < 1.5 * max(before, after)
    assert statistics.quantiles(during_ms, n=100)[-1] < P99_MS_MAX
    assert during_kib.keys() == before_kib.keys()
    assert sum(during_kib.values()) - sum(before_kib.values()) < A_CONNECTION_KIB_MAX * IDLE


def _closed(crowd, wait_ms=0):
    """The descriptors of those on which something came: the end, as they asked for nothing."""
    poll = select.poll()
    for one in crowd:
        poll.register(one.socket.fileno(), select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(wait_ms)}


class Sender:
    """Signed requests at a steady rate, whether or not the earlier ones are answered; half of them connect anew."""

    def __init__(self, port):
        self.answers = {}
        self.took_ms = []
        self._port = port
        self._free = []

    async def run(self, seconds):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as asking:
            for number in range(int(seconds * SIGNED_PER_SECOND)):
                due = begun + number / SIGNED_PER_SECOND
                await asyncio.sleep(due - loop.time())
                asking.create_task(self._ask(*signed(number), due, anew=number % 4 < ANEW_OF_FOUR))
        for _, writer in self._free:
            writer.close()

    async def _ask(self, message, data, due, *, anew):
        """Its time counts from when it was due."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS_MAX):
            is_free = self._free and not anew
            reader, writer = self._free.pop() if is_free else await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
        self.took_ms.append((loop.time() - due) * 1_000)
        self.answers[message] = int(head[9:12])
        if anew:
            writer.close()
        else:
            self._free.append((reader, writer))


@contextmanager
def flooding(port):
    """A flood, and what it was answered when it is over."""
    answers = {}
    command = [sys.executable, str(Path(__file__).with_name("flood.py")), str(port), str(FLOOD_CONNECTIONS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline()
            yield answers
            process.send_signal(signal.SIGTERM)
            answers.update(json.loads(process.stdout.readline()))
        finally:
            process.kill()


async def watch(serve, seen):
    """Look every second at what the processes take."""
    while True:
        seen.append(await asyncio.to_thread(serve.processes))
        await asyncio.sleep(1)


async def send(serve, seconds, seen):
    sender = Sender(serve.port)
    watching = asyncio.create_task(watch(serve, seen))
    await sender.run(seconds)
    watching.cancel()
    return sender


def test_a_flood_of_forgeries_neither_delays_nor_loses_what_is_signed_nor_fills_memory_or_disk(tmp_path):
    with serving(tmp_path) as serve:
        warm = uvloop.run(send(serve, 2, quiet_kib := []))
        began = time.monotonic()
        with flooding(serve.port) as answers:
            sender = uvloop.run(send(serve, FLOOD_SECONDS, flooded_kib := []))
        seconds = time.monotonic() - began
        files_bytes, kept, quarantined = sum(serve.files_bytes().values()), serve.kept(), serve.quarantined()
    verified = [message_of(record) for record in kept if record.verified]
    unverified = len(kept) - len(verified)

    assert answers.keys() == {"204", "401", "503"}
    assert sum(answers.values()) > FLOOD_PER_SECOND_MIN * FLOOD_SECONDS
    # What is signed: in time, all of it, once; and nothing else passes for it.
    assert len(sender.answers) == FLOOD_SECONDS * SIGNED_PER_SECOND
    assert set(sender.answers.values()) == {200, 204}
    assert sorted(verified) == sorted([*warm.answers, *sender.answers])
    assert statistics.quantiles(sender.took_ms, n=100)[-1] < P99_MS_MAX
    # What is not: each is kept that was answered so, and no more than its rate allows.
    assert answers["204"] <= unverified <= answers["204"] + FLOOD_CONNECTIONS
    assert unverified + quarantined.copies <= LIMITS.unverified_burst_max + LIMITS.unverified_per_second_max * seconds
    assert quarantined.rows <= LIMITS.quarantine_rows_max
    assert quarantined.bytes <= LIMITS.quarantine_bytes_max
    assert files_bytes < A_RECORD_BYTES_MAX * (len(kept) + quarantined.rows)
    # The same processes as before, and about as large.
    assert {frozenset(each) for each in flooded_kib} == {frozenset(quiet_kib[0])}
    assert max(sum(each.values()) for each in flooded_kib) - sum(quiet_kib[-1].values()) < GROWTH_KIB_MAX
