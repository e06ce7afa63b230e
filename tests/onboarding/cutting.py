"""A road to the offline Vonage on which one request goes wrong: TLS on this side, HTTP/1.1, everything counted.

    with Cutting(vonage) as cutting:
        cutting.cut(3, Cut.AFTER)           # the third request is done, and the connection closed in place of an answer
        ...                                 # with cutting.environment, or cutting.address as the host
        assert cutting.asked[2].path == "/number/buy"

Tests of other directories take it with `runpy.run_path`, since tests are files and no package.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from contextlib import suppress
from email.utils import formatdate
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from landed.simulator.environment import Keys

HOST = "127.0.0.1"
SECONDS_MAX = 30.0
OF_A_CONNECTION = ("connection", "content-length", "host", "keep-alive", "transfer-encoding")


class Cut(Enum):
    """What becomes of a request: it is not passed on; it is, and nobody hears of that; or so, and nothing ends."""

    BEFORE = auto()
    AFTER = auto()
    HELD = auto()


class Asked(NamedTuple):
    """A request that came, passed on or not."""

    method: str
    path: str
    body: bytes


class Answer(NamedTuple):
    """What is answered in Vonage's place; a header of None is left out of the usual ones."""

    status: int
    body: bytes
    headers: dict[str, str | None] = {}  # noqa: RUF012 - it is never changed


class Cutting(ThreadingHTTPServer):
    """The proxy, in threads of its own; `address` is a name and a port, as Vonage's SDK wants a host."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, vonage):
        super().__init__((HOST, 0), _Road)
        keys = Keys(directory=Path(vonage.environment["REQUESTS_CA_BUNDLE"]).parent)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        keys.certificate(HOST).configure_cert(self._tls)
        self._serving = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._lock = threading.Lock()
        self._open = set()
        self._faults = {}
        self._always = None
        self._ended = threading.Event()
        self.behind = urlsplit(vonage.url).netloc
        self.address = f"{HOST}:{self.server_port}"
        self.environment = {"VONAGE_API_HOST": self.address, "VONAGE_REST_HOST": self.address}
        self.asked = []
        self.held = threading.Event()

    def cut(self, at, how):
        """Let the request of that number, from 1 on, go wrong."""
        self._faults[at] = how

    def answer(self, status, body=b"{}", *, at=None, **headers):
        """Answer that request so, or every one; `content_length="100"` and the like are headers."""
        answer = Answer(status, body, {name.replace("_", "-").title(): value for name, value in headers.items()})
        if at is None:
            self._always = answer
        else:
            self._faults[at] = answer

    def mend(self):
        """Let nothing go wrong from here on, and count from 1 again."""
        self.asked.clear()
        self._faults.clear()
        self._always = None
        self.held.clear()

    def fault_of(self, asked):
        """Count a request; what is to become of it, or None."""
        with self._lock:
            self.asked.append(asked)
            return self._faults.get(len(self.asked), self._always)

    def hold(self):
        """Keep a request until the end."""
        self.held.set()
        self._ended.wait()

    def get_request(self):
        """A connection, whose handshake is left to its own thread."""
        connection, address = super().get_request()
        secure = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open.add(secure)
        return secure, address

    def shutdown_request(self, request):
        """Forget a connection, and close it."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """Say nothing: who was cut off goes away as it likes."""

    def __enter__(self):
        self._serving.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.shutdown()
        with self._lock:
            kept = list(self._open)
        for connection in kept:
            with suppress(OSError):
                connection.shutdown(2)
        self.server_close()
        self._serving.join(SECONDS_MAX)


class _Road(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = SECONDS_MAX

    def setup(self):
        self.request.settimeout(SECONDS_MAX)
        self.request.do_handshake()
        super().setup()

    def log_message(self, format, *args):  # noqa: A002
        """Say nothing: the test tells what it wants to know."""

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault_of(Asked(self.command, self.path, body))
        self.close_connection = True
        if isinstance(fault, Answer):
            usual = {"Date": formatdate(usegmt=True), "Content-Type": "application/json"}
            usual |= {"Content-Length": str(len(fault.body)), "Connection": "close"}
            self._say(fault.status, {**usual, **fault.headers}, fault.body)
        elif fault is not Cut.BEFORE:
            status, headers, said = self._asked_behind(body)
            if fault is Cut.HELD:
                self.server.hold()
            elif fault is None:
                self.close_connection = False
                self._say(status, headers | {"Content-Length": str(len(said))}, said)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815 - the server's names

    def _asked_behind(self, body):
        behind = http.client.HTTPConnection(self.server.behind, timeout=SECONDS_MAX)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in OF_A_CONNECTION}
            behind.request(self.command, self.path, body, headers)
            with behind.getresponse() as answer:
                kept = {name: each for name, each in answer.getheaders() if name.lower() not in OF_A_CONNECTION}
                return answer.status, kept, answer.read()
        finally:
            behind.close()

    def _say(self, status, headers, body):
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
