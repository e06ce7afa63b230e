"""Somebody who gets events by HTTP on this machine, and checks them as the documentation says."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from standardwebhooks import Webhook

from landed.worker.webhook import new_secret

SECONDS_MAX = 30


class Got(NamedTuple):
    """One request. `at` is when it came, by the monotonic clock."""

    at: float
    headers: dict[str, str]
    body: bytes

    @property
    def type(self):
        return json.loads(self.body)["type"]

    @property
    def message(self):
        return json.loads(self.body)["data"]["message"]["message_id"]

    @property
    def signatures(self):
        return self.headers["webhook-signature"].split()

    def verified(self, secret):
        """The event; raises unless one of the signatures holds."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """Answers each request by `answer`, which is given what came and says a status with headers."""

    def __init__(self, path="/hook"):
        self.secret = new_secret()
        self.got: list[Got] = []
        self.answer = lambda _got: (204, {})
        self._path = path
        self._server = None
        self._port = 0
        self.open()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}{self._path}"

    def open(self):
        """Be there, at the same port as before."""
        receiver = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                got = Got(time.monotonic(), headers, body)
                receiver.got.append(got)
                status, more = receiver.answer(got)
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Answering)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        """Be there no more."""
        self._server.shutdown()
        self._server.server_close()

    def messages(self, event=None):
        """The messages of the events that came, in their order."""
        return [got.message for got in list(self.got) if event in (None, got.type)]

    def of(self, message):
        """All that came of a message."""
        return [got for got in list(self.got) if got.message == message]


@contextmanager
def receiving(**more):
    receiver = Receiver(**more)
    try:
        yield receiver
    finally:
        receiver.close()


def until(condition, about=lambda: "", seconds_max=SECONDS_MAX):
    """Wait for what a condition gives, as long as it gives nothing."""
    deadline, tick = time.monotonic() + seconds_max, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not come about in time: {about()}"
        tick.wait(0.02)
    return found
