"""A real gate on a real journal behind a real socket, and a client that holds it to HTTP/1.1."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop

from landed.gate.http import Gate
from landed.gate.judge import Judge
from landed.gate.keeper import Keeper
from landed.journal.disk import Disk
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.record import RequestRecord, decode
from landed.journal.sqlite import SqliteJournal
from landed.settings import Limits
from landed.vonage.signing import Keyring

SECONDS = 10
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [A-Za-z -]+")
DATE_LINE = re.compile(rb"Date: [^\r]*\r\n")
FIELD_LINE = re.compile(rb"([A-Za-z-]+): ([\x21-\x7e][\x20-\x7e]*)")
REFUSAL = re.compile(rb"HTTP/1\.1 (4..) [^\r]*\r\n(?:[^\r]+\r\n)*Connection: close\r\n\r\n[^\r]*\Z")


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Client:
    """One connection, held to what RFC 9112 asks of a server."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        # Pieces leave as they are sent, instead of waiting for each other.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *pieces):
        for piece in pieces:
            self.socket.sendall(piece)

    def send_all(self, data):
        """Send, and say that nothing follows; a server that has closed already has said so too."""
        self.try_to_send(data)
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def try_to_send(self, data):
        """Send as much as the gate takes."""
        with suppress(OSError):
            self.socket.sendall(data)

    def answer(self, *, to_head=False):
        """The next answer; None when the gate closed instead."""
        while b"\r\n\r\n" not in self._unread:
            if not self._receive():
                assert not self._unread, "an answer cut short"
                return None
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        status = int(STATUS_LINE.fullmatch(first)[1])
        fields = [FIELD_LINE.fullmatch(line).groups() for line in lines]
        headers = {name.lower(): value for name, value in fields}
        assert len(headers) == len(fields)
        assert status == 100 or b"date" in headers
        assert (b"content-length" in headers) == (status not in (100, 204))
        length = 0 if to_head else int(headers.get(b"content-length", b"0"))
        while len(self._unread) < length:
            assert self._receive(), "a body cut short"
        body, self._unread = self._unread[:length], self._unread[length:]
        return Answer(status, headers, body)

    def answers(self, *, to_head=False):
        """All answers until the gate closes; the one that says so is the last."""
        got = []
        while (answer := self.answer(to_head=to_head)) is not None:
            assert not any(b"connection" in before.headers for before in got), "an answer behind the last one"
            got.append(answer)
        return got

    def everything(self):
        """All bytes until the gate closes."""
        while self._receive():
            pass
        return self._unread

    def is_closed(self):
        """Whether nothing but the end comes."""
        return not self._unread and not self._receive()

    def _receive(self):
        try:
            got = self.socket.recv(65_536)
        except ConnectionResetError:
            return False
        self._unread += got
        return bool(got)


class Running:
    """A gate in a thread of its own."""

    def __init__(self, path, keyring, limits, busy_ms=2_000, *, quarantine=None, policy=None, disk=None, **gate):
        self.path = path
        self.broken = []
        self.errors = []
        self._clients = []
        self._keyring = keyring
        self._limits = limits
        self._busy_ms = busy_ms
        self._quarantine = quarantine or {}
        self._policy = policy
        self._disk = {"free_bytes_min": 0, "unverified_free_bytes_min": 0} | (disk or {})
        self._gate = gate
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._main()))
        self._thread.start()
        assert self._started.wait(SECONDS)
        self.reader = SqliteJournal(path)
        self.held = SqliteQuarantine(path.with_suffix(".quarantine"), only_read=True)

    async def _main(self):
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self._stop = asyncio.Event()
        self.drain_seconds = 0
        self.journal = SqliteJournal(self.path, busy_ms=self._busy_ms)
        self.quarantine = SqliteQuarantine(
            self.path.with_suffix(".quarantine"), busy_ms=self._busy_ms, **self._quarantine
        )
        disk = Disk(self.path, self._limits.model_copy(update=self._disk))
        keeper = Keeper(self.journal, self.quarantine, self._limits, disk)
        judge = Judge(self._keyring, policy=self._policy)
        self.gate = Gate(keeper, judge, self._limits, broken=self.broken.append, **self._gate)
        server = await self.loop.create_server(self.gate.protocol, "127.0.0.1", 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        await self.gate.stop(self.drain_seconds)
        self.journal.close()
        self.quarantine.close()

    def begin_stop(self, seconds):
        self.drain_seconds = seconds
        self.loop.call_soon_threadsafe(self._stop.set)

    def join(self):
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def close(self):
        for client in self._clients:
            client.socket.close()
        if self._thread.is_alive():
            self.begin_stop(0)
        self.join()
        self.reader.close()
        self.held.close()
        assert self.errors == []

    def connect(self):
        self._clients.append(Client(self.port))
        return self._clients[-1]

    def ask(self, data, *, to_head=False):
        """All answers to these bytes, when nothing follows them."""
        with self.connect() as client:
            client.send_all(data)
            return client.answers(to_head=to_head)

    def holds_in_pieces(self, data, *ways):
        """These bytes are answered and kept alike, whole and in each of these ways to cut them."""
        (whole,), kept = self.in_pieces([data])
        answers, kept_in_pieces = self.in_pieces(*ways)
        for way, answer in zip(ways, answers, strict=True):
            assert answer == whole, way
        assert kept_in_pieces == {record: len(ways) * count for record, count in kept.items()}

    def in_pieces(self, *ways):
        """What each of several connections is answered, and what all of them leave in the journal.

        Each piece is read before the next one is sent. What differs from time to time is left out.
        """
        before = self.reader.last_position()
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(self.port)) for _ in ways]
            self.wait_until(lambda: len(self.gate.connections) >= len(clients))
            for pieces in zip_longest(*ways):
                for client, piece in zip(clients, pieces, strict=True):
                    if piece:
                        client.try_to_send(piece)
                self.turn()
            for client in clients:
                client.send_all(b"")
            answers = [_essence(client.everything()) for client in clients]
        return answers, Counter(
            (record.method, record.path, record.query, record.headers, record.body, record.answer, record.account)
            for record in self.kept(before)
        )

    def turn(self):
        """Let the gate's loop read what has been sent."""
        turned = threading.Event()
        self.loop.call_soon_threadsafe(self.loop.call_soon, turned.set)
        assert turned.wait(SECONDS)

    def statuses(self, data):
        return [answer.status for answer in self.ask(data)]

    def on_loop(self, function):
        """What a function says on the gate's own thread."""

        async def call():
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(SECONDS)

    def wait_until(self, holds):
        """Turn the gate's loop until it is so."""
        deadline = time.monotonic() + SECONDS
        while not self.on_loop(holds):
            assert time.monotonic() < deadline

    def kept(self, after=0):
        """The requests in the journal, read by another connection."""
        kept = []
        while rows := self.reader.read(after, 1_000):
            after = rows[-1][0]
            records = (decode(data) for _, data in rows)
            kept += [record for record in records if isinstance(record, RequestRecord)]
        return kept


def _essence(answers):
    """Answers without their dates, and of a refusal that ends a connection its status alone.

    The parser refuses an unknown method (405, else 400) or a HEAD's odd target at the first wrong letter, and what
    came with it decides whether the method was known by then, and so whether the refusal has a body.
    """
    return REFUSAL.sub(lambda found: found[1].replace(b"405", b"400"), DATE_LINE.sub(b"", answers))


@pytest.fixture
def start(tmp_path):
    """Start gates with these limits; all are stopped in the end."""
    running = []

    def start_gate(
        *,
        keyring=None,
        busy_ms=2_000,
        quarantine=None,
        policy=None,
        disk=None,
        path_prefix="",
        compiled=True,
        **limits,
    ):
        path = tmp_path / f"journal-{len(running)}.db"
        more = {"quarantine": quarantine, "policy": policy, "disk": disk}
        more |= {"path_prefix": path_prefix, "compiled": compiled}
        running.append(Running(path, keyring or Keyring([]), Limits(**limits), busy_ms, **more))
        return running[-1]

    yield start_gate
    for each in running:
        each.close()


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory):
    """Start gates that all tests of a file share."""
    running = []

    def start_gate(**limits):
        running.append(Running(tmp_path_factory.mktemp("gate") / "journal.db", Keyring([]), Limits(**limits)))
        return running[-1]

    yield start_gate
    for each in running:
        each.close()


@pytest.fixture(scope="module")
def shared(start_shared):
    """One gate with ordinary limits for all rows of a table."""
    return start_shared()


@contextmanager
def gate_process(path, **limits):
    """A gate in a process of its own, and its port."""
    arguments = [sys.executable, str(Path(__file__).with_name("serve.py")), str(path), json.dumps(limits)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(SECONDS)


@pytest.fixture
def start_process():
    """Start a gate in a process of its own."""
    return gate_process


@pytest.fixture
def client():
    """Connect to a port."""
    return Client
