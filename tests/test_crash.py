"""Two gates and the worker are killed at random instants under load: what was answered 2xx is there, once.

With the mounts' processes (tests/mount/test_processes.py) that makes a hundred kills.

More kills by hand: `CRASH_KILLS=1000 CRASH_SEED=5 pytest --log-cli-level=INFO tests/test_crash.py`.
"""
# ruff: noqa: S311 - the chance of a test is one that can be had again

import asyncio
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from urllib.parse import urlencode

import apsw
import pytest

from landed import run
from landed.gate.meter import figures_in
from landed.journal.record import RequestRecord, decode
from landed.journal.sqlite import SqliteJournal
from landed.store.sqlite import VIEWS, SqliteReader
from landed.vonage.signing import sign_jwt, sign_sig

KILLS = int(os.environ.get("CRASH_KILLS", "64"))
SEED = int(os.environ.get("CRASH_SEED", "1"))
SECRET = "a signature secret of the tests"
KEY = "abcd1234"
CLIENTS = 12
PAUSE_SECONDS = 0.01
EVERY_RECEIPT = 2**31
BETWEEN_KILLS_SECONDS_MAX = 1.3
ANSWER_SECONDS_MAX = 30
CATCH_UP_SECONDS_MAX = 60
PROCESSES = {"one gate": "gate", "other gate": "gate", "worker": "worker"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}
ENVIRONMENT |= {"VONAGE_SIGNATURE_SECRET": SECRET, "VONAGE_API_KEY": KEY}


log = logging.getLogger(__name__)


class Road:
    """Two gates and the worker on sockets of ours, as the parent has them, but started again without back-off."""

    def __init__(self, data, stderr):
        self.data = data
        self._stderr = stderr
        self._sockets = {role: run.listen("127.0.0.1", 0, "--port") for role in set(PROCESSES.values())}
        self._running = {}
        for name in PROCESSES:
            self.start(name)

    @property
    def port(self):
        return self._sockets["gate"].getsockname()[1]

    def start(self, name):
        role = PROCESSES[name]
        number = self._sockets[role].fileno()
        arguments = ["--role", role, "--data", str(self.data), "--socket-fd", str(number), "--print", "none"]
        arguments += ["--gates", "2"]
        self._running[name] = subprocess.Popen(
            [sys.executable, "-m", "landed", "serve", *arguments],
            pass_fds=(number,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env=ENVIRONMENT,
            cwd=self.data,
        )

    def kill(self, name):
        process = self._running[name]
        # It must not have ended by itself.
        assert process.poll() is None, f"{name} ended with {process.returncode}"
        process.kill()
        assert process.wait() == -signal.SIGKILL

    def stop(self):
        """All leave when they are told to."""
        for process in self._running.values():
            process.terminate()
        return [process.wait(CATCH_UP_SECONDS_MAX) for process in self._running.values()]

    def end(self):
        for process in self._running.values():
            process.kill()
            process.wait()
        for each in self._sockets.values():
            each.close()


class Client:
    """Sends receipts, each again and again until it is answered 2xx; some are sent twice."""

    def __init__(self, name, port, chance):
        self._name = name
        self._port = port
        self._chance = chance
        self._streams = None
        self.sent = set()
        self.answered = set()
        self.tries = 0
        self.answers = Counter()

    async def send_until(self, stop):
        number = 0
        while not stop.is_set():
            number += 1
            message_id = f"{self._name}-{number}"
            forms = self._chance.choice([(_status, "submitted", "delivered"), (_receipt, "accepted", "delivered")])
            words = list(forms[1:]) + self._chance.choice([[], [forms[2]]])
            self._chance.shuffle(words)
            for word in words:
                await self._deliver(message_id, word, forms[0])
                await asyncio.sleep(PAUSE_SECONDS)
        self._hang_up()

    async def _deliver(self, message_id, word, form):
        self.sent.add((message_id, word))
        while True:
            self.tries += 1
            try:
                answer = await asyncio.wait_for(
                    self._exchange(form(message_id, word, self._chance)), ANSWER_SECONDS_MAX
                )
            except (OSError, asyncio.IncompleteReadError):
                self._hang_up()
                self.answers["none"] += 1
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self.answers[answer] += 1
            if 200 <= answer < 300:
                self.answered.add((message_id, word))
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _exchange(self, request):
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
        await reader.readexactly(length)
        if b"connection: close" in head.lower():
            self._hang_up()
        return int(lines[0].split()[1])

    def _hang_up(self):
        if self._streams is not None:
            with suppress(OSError):
                self._streams[1].transport.abort()
        self._streams = None


def _status(message_id, word, _chance):
    fields = {"message_uuid": message_id, "channel": "sms", "status": word, "timestamp": "2026-08-01T12:00:00Z"}
    body = json.dumps(fields).encode()
    token = sign_jwt(body, SECRET, issued_at=int(time.time()), token_id=message_id, api_key=KEY)
    headers = f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST /webhooks/message-status HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n".encode() + body


def _receipt(message_id, word, chance):
    """Signed anew at each try, as Vonage does: its push time and nonce change, its key does not."""
    fields = {"messageId": message_id, "status": word, "msisdn": "491701234567", "to": "ACME", "api-key": KEY}
    fields |= {"scts": "2608011200", "err-code": "0", "nonce": str(chance.random()), "timestamp": str(int(time.time()))}
    fields["sig"] = sign_sig(fields, SECRET)
    path = "/webhooks/delivery-receipt"
    if chance.random() < 0.5:
        return f"GET {path}?{urlencode(fields)} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _load_and_kill(road, chance):
    stop = asyncio.Event()
    clients = [Client(f"c{number}", road.port, random.Random(chance.random())) for number in range(CLIENTS)]
    sending = [asyncio.create_task(client.send_until(stop)) for client in clients]
    for _ in range(KILLS):
        # A random instant is what is asked for here; it may be while the one before is still starting.
        await asyncio.sleep(chance.uniform(0, BETWEEN_KILLS_SECONDS_MAX))
        killed = chance.choice([("one gate",), ("worker",), ("other gate",), ("one gate", "worker"), tuple(PROCESSES)])
        for name in killed:
            road.kill(name)
        for name in killed:
            road.start(name)
    stop.set()
    await asyncio.gather(*sending)
    return clients


def _wait_until_caught_up(data):
    deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
    with closing(SqliteJournal(run.journal_path(data))) as journal:
        # The gates go on to tick, so the end is not the same each time.
        while _position(data) < journal.last_position():
            assert time.monotonic() < deadline, "the worker did not catch up"
            time.sleep(0.05)


def _wait_until_both_gates_serve(data):
    """One of them may still be starting, and would not yet know what to do when it is told to leave."""
    deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
    while figures_in(data).serving < len(PROCESSES) - 1:
        assert time.monotonic() < deadline, "a gate did not start"
        time.sleep(0.05)


def _requests(data):
    """How many requests the journal has."""
    requests, after = 0, 0
    with closing(SqliteJournal(run.journal_path(data))) as journal:
        while rows := journal.read(after, 2_000):
            requests += sum(isinstance(decode(record), RequestRecord) for _, record in rows)
            after = rows[-1][0]
    return requests


def _position(data):
    with closing(SqliteReader(run.store_path(data))) as reader:
        progress = reader.progress()
        return 0 if progress is None else progress.position


def _views(data):
    with closing(apsw.Connection(str(run.store_path(data)))) as db:
        return {table: list(db.execute(f"SELECT * FROM {table} ORDER BY 1")) for table in VIEWS}  # noqa: S608


def _receipts(data):
    with closing(SqliteReader(run.store_path(data))) as reader:
        told = reader.receipts_after(0, EVERY_RECEIPT)
        return Counter((message.message_id, kept.fact.receipt.provider_status) for kept, message in told)


@pytest.fixture
def data(tmp_path):
    data = tmp_path / "data"
    run.prepare(data)
    return data


def test_what_was_answered_is_there_once_after_any_kills(data, tmp_path):
    chance = random.Random(SEED)
    with (tmp_path / "stderr").open("wb") as stderr:
        road = Road(data, stderr)
        try:
            clients = asyncio.run(_load_and_kill(road, chance))
            _wait_until_caught_up(data)
            _wait_until_both_gates_serve(data)
            assert road.stop() == [0, 0, 0]
        finally:
            road.end()
    sent = set().union(*(client.sent for client in clients))
    answered = set().union(*(client.answered for client in clients))
    answers = sum((client.answers for client in clients), Counter())
    said = (tmp_path / "stderr").read_text()
    requests, receipts = _requests(data), _receipts(data)
    progress = _progress(data)
    grown = _views(data)
    log.info("seed %d, %d kills: %d receipts, %d requests kept, %s", SEED, KILLS, len(answered), requests, answers)

    assert len(answered) >= 10 * KILLS
    assert answers["none"] > 0
    assert not set(answers) - {200, 204, 503, "none"}
    # Every request answered 2xx is there, none twice, and none is invented.
    assert answered <= set(receipts)
    assert set(receipts.values()) == {1}
    assert set(receipts) <= sent
    # The ledger is even, and it counts every record of the journal.
    assert progress.tally.is_even
    assert (progress.tally.received, progress.tally.unreadable) == (requests, 0)
    assert progress.tally.folded == len(receipts)
    assert "Traceback" not in said

    rebuild = [sys.executable, "-m", "landed", "rebuild", "--data", str(data)]
    subprocess.run(rebuild, env=ENVIRONMENT, check=True, capture_output=True, timeout=CATCH_UP_SECONDS_MAX)
    assert _views(data) == grown


def _progress(data):
    with closing(SqliteReader(run.store_path(data))) as reader:
        return reader.progress()
