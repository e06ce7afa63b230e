"""Applications as they run: several processes that append while one folds, kills, and the examples' sends."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, nullcontext, suppress
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode

import pytest

from landed import Outcome
from landed.journal.record import SentRecord, decode
from landed.journal.sqlite import FILE, SqliteJournal
from landed.run import store_path
from landed.store.sqlite import SqliteReader
from landed.vonage.signing import sign_sig
from landed.work import worker_runs

SECONDS = 30
CLIENTS = 8
# Servers of several processes that start another for one that was killed, and how often one is;
# uvicorn takes its time, up to five seconds, to see that one is gone.
KILLS = {"flask-gunicorn": 15, "django-gunicorn": 15, "fastapi-workers": 6, "wsgi-gunicorn": 10}
# Those whose processes only append: a worker runs beside them. The examples have one of theirs.
ONLY_APPEND = ("wsgi-gunicorn",)


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


@contextmanager
def worker(mounted):
    """The worker beside an application: folds what its processes append."""
    with (mounted.directory / "worker").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "landed", "serve", "--role", "worker", "--private-port", "0", "--print", "none"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=mounted.directory,
            env=os.environ | {"LANDED_DATA": str(mounted.data), "VONAGE_SIGNATURE_SECRET": "secret-a"},
        )
    try:
        until(lambda: store_path(mounted.data).exists())
        yield process
        process.terminate()
        assert process.wait(SECONDS) == 0, (mounted.directory / "worker").read_text()
    finally:
        process.kill()
        process.wait()


class Client(threading.Thread):
    """Sends receipts of both APIs in turn, each again and again until it is answered 2xx."""

    def __init__(self, mounted, name, stop):
        super().__init__(daemon=True)
        self._mounted, self._client, self._stop_sending = mounted, name, stop
        self.answered = []
        self.others = set()

    def run(self):
        number = 0
        while not self._stop_sending.is_set():
            message_id = f"{self._client}-{number}"
            status = None
            with suppress(OSError, HTTPException):
                status = receipt(self._mounted, message_id) if number % 2 else self._mounted.status(message_id)
            if status in (200, 204):
                self.answered.append(message_id)
                number += 1
            elif status is not None:
                self.others.add(status)


def receipt(mounted, message_id):
    """Send a signed receipt of the SMS API, by GET or in a form; its answer."""
    fields = {"messageId": message_id, "status": "delivered", "msisdn": "1", "to": "2", "api-key": "key-a"}
    fields |= {"timestamp": str(int(time.time())), "scts": "2608011200", "err-code": "0"}
    fields["sig"] = sign_sig(fields, "secret-a")
    path, text = "/webhooks/delivery-receipt", urlencode(fields)
    if message_id[-1] in "159":
        return mounted.ask("GET", f"{path}?{text}").status
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    return mounted.ask("POST", path, text.encode(), form).status


def message_id_of(record):
    """The message that a kept request tells of."""
    if record.path == "/webhooks/message-status":
        return json.loads(record.body)["message_uuid"]
    return parse_qs((record.query or record.body).decode())["messageId"][0]


def known(mounted):
    if not store_path(mounted.data).exists():
        return 0, None
    with closing(SqliteReader(store_path(mounted.data))) as reader:
        progress = reader.progress()
        return (0, None) if progress is None else (progress.position, progress.tally)


@pytest.mark.parametrize(("name", "kills"), KILLS.items(), ids=KILLS)
def test_what_was_answered_is_kept_and_folded_though_processes_are_killed(mount, name, kills):
    chance = random.Random(1)  # noqa: S311 - the chance of a test is one that can be had again
    stop = threading.Event()
    with mount(name) as mounted:
        assert mounted.status("first") == 200
        with worker(mounted) if name in ONLY_APPEND else nullcontext():
            clients = [Client(mounted, f"client-{number}", stop) for number in range(CLIENTS)]
            for client in clients:
                client.start()
            try:
                _kill(mounted, clients, chance, kills)
            finally:
                stop.set()
            for client in clients:
                client.join(SECONDS)
                assert not client.is_alive()
            until(lambda: _is_folded(mounted))
            tally = known(mounted)[1]
        records = mounted.kept()

    answered = {message_id for client in clients for message_id in client.answered}
    kept = [message_id_of(record) for record in records]
    assert {record.path for record in records} == {"/webhooks/message-status", "/webhooks/delivery-receipt"}
    assert len(answered) > kills * CLIENTS
    assert set().union(*(client.others for client in clients)) <= {503}
    assert answered <= set(kept)
    assert len({record.id for record in records}) == len(records)
    assert tally.is_even
    assert (tally.received, tally.folded, tally.unreadable) == (len(kept), len(set(kept)), 0)


@pytest.mark.parametrize("name", ["flask", "fastapi", "asgi"])
def test_what_was_answered_is_kept_when_the_only_process_is_killed(mount, name):
    stop = threading.Event()
    with mount(name) as mounted:
        clients = [Client(mounted, f"client-{number}", stop) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            until(lambda: sum(len(client.answered) for client in clients) > 10 * CLIENTS)
            mounted.process.kill()
        finally:
            stop.set()
        for client in clients:
            client.join(SECONDS)
        kept = {message_id_of(record) for record in mounted.kept()}

    assert {message_id for client in clients for message_id in client.answered} <= kept


def _is_folded(mounted):
    """Whether all is folded. A process that was started again works from its first webhook on, so it may need one."""
    if not worker_runs(mounted.data):
        with suppress(OSError, HTTPException):
            mounted.status("last")
    return known(mounted)[0] == mounted.position()


def _kill(mounted, clients, chance, kills):
    """Kill one process after the other, each time when all clients could go on for a while."""
    for _ in range(kills):
        before = sum(len(client.answered) for client in clients)
        until(lambda before=before: sum(len(client.answered) for client in clients) > before + CLIENTS)
        with suppress(ProcessLookupError):
            os.kill(chance.choice(until(mounted.processes)), signal.SIGKILL)


class Vonage(BaseHTTPRequestHandler):
    """As much of the Messages API as a send needs; it pushes the receipt before it answers."""

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        asked = json.loads(self.rfile.read(length))
        self.server.asked.append((self.path, self.headers["Authorization"], asked))
        for word in ("submitted", "delivered"):
            self.server.answers.append(self.server.mounted.status("sent-1", word))
        answer = json.dumps({"message_uuid": "sent-1"}).encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("name", ["flask", "django", "fastapi", "fastapi-workers"])
def test_an_example_tracks_its_send_which_joins_the_receipts_that_came_before(mount, name):
    """Also a proof that an application that waits for Vonage goes on to take receipts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Vonage) as vonage:
        vonage.asked, vonage.answers = [], []
        threading.Thread(target=vonage.serve_forever, daemon=True).start()
        environment = {
            "VONAGE_API_KEY": "key-a",
            "VONAGE_API_SECRET": "not a real one",
            "VONAGE_SIGNATURE_SECRET": "secret-a",
            "VONAGE_API_URL": f"http://127.0.0.1:{vonage.server_port}",
        }
        with mount(name, environment) as mounted:
            vonage.mounted = mounted
            form = [("Content-Type", "application/x-www-form-urlencoded")]
            target = "/orders/7/text" + ("?to=%2B447700900001" if name.startswith("fastapi") else "")
            answer = mounted.ask("POST", target, b"to=%2B447700900001", form)
            assert (answer.status, json.loads(answer.body)) == (202, {"message_id": "sent-1"}), mounted.said
            until(lambda: known(mounted)[0] == mounted.position())
            with closing(SqliteReader(store_path(mounted.data))) as reader:
                (message,) = reader.find("7", limit=2)
        vonage.shutdown()

    ((path, authorization, asked),) = vonage.asked
    assert (path, authorization[:6], asked["channel"]) == ("/v1/messages", "Basic ", "sms")
    assert vonage.answers == [200, 200]
    assert (message.message_id, message.outcome, message.client_ref) == ("sent-1", Outcome.DELIVERED, "7")
    assert (message.verified, message.receipts, message.sent_at is not None) == (True, 2, True)
    with closing(SqliteJournal(mounted.data / FILE)) as journal:
        sent = [record for _, data in journal.read(0, 100) if isinstance(record := decode(data), SentRecord)]
    assert [record.to for record in sent] == ["447700900001"]
