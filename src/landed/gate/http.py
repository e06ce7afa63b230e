"""The public server: a small HTTP/1.1 of our own on httptools, with a limit on everything.

A request is judged when it is whole, its record is appended, and its answer is given only when the
journal says that the record is durable. Records of the requests that arrive within two turns of the
loop share one commit; there is no timer that would delay a lone request. The commit runs on the
loop's own thread: handing it over would cost more than it takes.

Malformed requests are answered 400 and the connection closed, as RFC 9112 asks; never 5xx.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import unquote

import httptools
import msgspec
import structlog

from landed.errors import JournalBroken, JournalUnable
from landed.gate.judge import ANSWERS, METHODS, Judge, Verdict
from landed.journal import Journal
from landed.journal.record import Ids, RequestRecord, TickRecord, encode
from landed.settings import Limits
from landed.vonage.request import Request

HEALTH_PATH = "/healthz"
RETRY_AFTER_SECONDS = 5
SWEEP_SECONDS = 1.0
TICK_SECONDS = 30.0
LINGER_SECONDS = 2.0
# One byte a chunk takes six on the wire; more than this is not a body but an attack.
WIRE_BYTES_A_BODY_BYTE_MAX = 8

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HOST = re.compile(rb"[A-Za-z0-9._~:\[\]%!$&'()*+,;=-]*")
METHOD_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} ")

log = structlog.get_logger("landed.gate")


class Exchange:
    """One request's place in the order of answers on its connection."""

    __slots__ = ("answer", "close", "connection", "head", "last")

    def __init__(self, connection: Connection, *, head: bool, last: bool) -> None:
        self.connection = connection
        self.head = head
        self.last = last
        self.answer: bytes | None = None


class Gate:
    """All connections of one listening socket, and the commits that their requests share."""

    def __init__(
        self, journal: Journal, judge: Judge, limits: Limits, *, broken: Callable[[JournalBroken], None]
    ) -> None:
        self.limits = limits
        self.connections: set[Connection] = set()
        self.buffered_bytes = 0
        self.stopping = False
        self._journal = journal
        self._judge = judge
        self._broken = broken
        self.loop = asyncio.get_running_loop()
        self._ids = Ids()
        self._pending: list[tuple[bytes, Exchange, HTTPStatus]] = []
        self._able = True
        self._answers: dict[tuple[HTTPStatus, bool, bool], bytes] = {}
        self._refused: Counter[str] = Counter()
        self._ticked = 0.0
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def protocol(self) -> Connection:
        """A protocol for one new connection."""
        return Connection(self)

    def route(self, request: Request, exchange: Exchange) -> None:
        """Answer a whole request, now or after the next commit."""
        if request.path not in ANSWERS:
            request = msgspec.structs.replace(request, path=_normal(request.path))
        if request.path == HEALTH_PATH and request.method in ("GET", "HEAD"):
            self.answer(exchange, HTTPStatus.OK if self._able else HTTPStatus.SERVICE_UNAVAILABLE)
        elif request.path not in ANSWERS:
            self.answer(exchange, HTTPStatus.NOT_FOUND)
        elif request.method not in METHODS:
            self.answer(exchange, HTTPStatus.METHOD_NOT_ALLOWED)
        elif len(self._pending) >= self.limits.in_flight_max:
            self.answer(exchange, HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._judged(request, exchange)

    def answer(self, exchange: Exchange, status: HTTPStatus) -> None:
        """Give a request its answer, in its turn."""
        exchange.answer = self._bytes_of(status, exchange.last or self.stopping, exchange.head)
        exchange.connection.flush()

    async def stop(self, seconds: float) -> None:
        """Answer what is in flight and close; what is not whole after so many seconds is cut off."""
        self.stopping = True
        self._sweeper.cancel()
        for connection in list(self.connections):
            connection.close_if_idle()
        deadline = self.loop.time() + seconds
        while self.connections and self.loop.time() < deadline:  # noqa: ASYNC110 - a deadline, not an event
            await asyncio.sleep(0.01)
        self._commit()
        for connection in list(self.connections):
            connection.abort()

    def _judged(self, request: Request, exchange: Exchange) -> None:
        now_us = time.time_ns() // 1_000
        verdict = self._judge.verdict(request, datetime.fromtimestamp(now_us / 1e6, UTC))
        if not verdict.kept:
            if verdict.answer is not HTTPStatus.OK:
                self._refused[verdict.reason] += 1
            self.answer(exchange, verdict.answer)
            return
        record = self._record(request, verdict, now_us, exchange.connection.peer)
        if not self._pending:
            # Two turns of the loop: requests that are already on their way share the commit.
            self.loop.call_soon(self.loop.call_soon, self._commit)
        self._pending.append((encode(record), exchange, verdict.answer))

    def _record(self, request: Request, verdict: Verdict, now_us: int, peer: str) -> RequestRecord:
        return RequestRecord(
            id=self._ids.next(),
            at_us=now_us,
            received_us=now_us,
            account=verdict.account,
            api_key=verdict.trust.api_key,
            coverage=verdict.trust.coverage,
            verified=verdict.trust.verified,
            stale=verdict.trust.stale,
            answer=verdict.answer,
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            body=request.body,
            peer=peer,
        )

    def _commit(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        durable = self._append([record for record, _, _ in pending])
        for _, exchange, status in pending:
            exchange.answer = self._bytes_of(
                status if durable else HTTPStatus.SERVICE_UNAVAILABLE, exchange.last or self.stopping, exchange.head
            )
        for connection in dict.fromkeys(exchange.connection for _, exchange, _ in pending):
            connection.flush()

    def _append(self, records: list[bytes]) -> bool:
        try:
            self._journal.append(records)
        except JournalUnable as error:
            if self._able:
                log.error("journal.unable", error=str(error))  # noqa: TRY400 - the sentence says it all
            self._able = False
        except JournalBroken as error:
            # Whether the bytes are on disk cannot be known: no answer, and no second try.
            self._broken(error)
            self._able = False
        else:
            self._able = True
        return self._able

    def _bytes_of(self, status: HTTPStatus, close: bool, head: bool) -> bytes:  # noqa: FBT001 - a cache's key
        answer = self._answers.get((status, close, head))
        if answer is None:
            answer = self._answers[status, close, head] = _answer(status, close=close, head=head)
        return answer

    def _sweep(self) -> None:
        """Once a second: end what took too long, refresh the date, and tick if nothing else did."""
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)
        self._answers.clear()
        now = self.loop.time()
        for connection in list(self.connections):
            connection.end_if_late(now)
        if self._refused:
            # Gathered, so that a flood of forged requests is one line a second.
            log.warning("requests.refused", **self._refused)
            self._refused.clear()
        if now - self._ticked >= TICK_SECONDS:
            self._ticked = now
            self._append([encode(TickRecord(id=self._ids.next(), at_us=time.time_ns() // 1_000))])


class Connection(asyncio.Protocol):
    """One client: parses what it sends, keeps its requests in order, holds it to the limits."""

    def __init__(self, gate: Gate) -> None:
        self.peer = ""
        self._gate = gate
        self._limits = gate.limits
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchanges: deque[Exchange] = deque()
        self._ending = False
        self._client_is_done = False
        self._lingering = False
        self._paused = False
        self._deadline = 0.0
        self._whole_deadline = 0.0
        self._begin()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = transport  # type: ignore[assignment] # a stream's transport, by how the server was made
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if peer else ""
        self._deadline = self._gate.loop.time() + self._limits.first_byte_seconds_max
        self._gate.connections.add(self)
        if len(self._gate.connections) > self._limits.connections_max or self._gate.stopping:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone; what it sent whole is kept all the same."""
        self._release_body()
        self._transport = None
        self._gate.connections.discard(self)

    def eof_received(self) -> bool:
        """The client sends no more; it may still read the answers to what it sent."""
        self._ending = self._client_is_done = True
        return bool(self._exchanges) and not self._lingering

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more from it."""
        self._paused = True
        self._deadline = self._gate.loop.time() + self._limits.write_seconds_max
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused = False
        self._deadline = self._gate.loop.time() + self._limits.idle_seconds_max
        if self._transport is not None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes came: parse them, and answer each request that they complete."""
        if self._lingering or self._ending:
            return
        # Counted from the chunk after the one in which the request began; chunks are bounded.
        self._wire_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request was taken as an ordinary one; nobody here speaks another protocol.
            self._ending = True
            self.flush()
        except httptools.HttpParserInvalidMethodError:
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED if METHOD_LINE.match(data) else HTTPStatus.BAD_REQUEST)
        except httptools.HttpParserError:
            self._refuse(self._refusal or HTTPStatus.BAD_REQUEST)
        else:
            self._refuse_if_too_much()

    # What the parser tells. An error raised here stops it; `_refusal` says why.

    def on_message_begin(self) -> None:
        """A request begins."""
        now = self._gate.loop.time()
        self._begin()
        self._in_message = True
        self._deadline = now + self._limits.head_seconds_max
        self._whole_deadline = now + self._limits.request_seconds_max

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url
        if len(self._url) > self._limits.url_bytes_max:
            self._stop_parsing(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which only counts."""
        self._header_bytes += len(name) + len(value) + 4
        self._header_count += 1
        limits = self._limits
        if self._header_bytes > limits.header_bytes_max or self._header_count > limits.header_count_max:
            self._stop_parsing(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if not self._head_is_whole:
            self._headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole: refuse now what need not be read."""
        self._head_is_whole = True
        self._deadline = self._whole_deadline
        refusal = self._fault_of_head()
        if refusal is not None:
            self._stop_parsing(refusal)
        if self._expects_continue:
            exchange = Exchange(self, head=False, last=False)
            exchange.answer = CONTINUE
            self._exchanges.append(exchange)
            self.flush()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)
        self._body_bytes += len(body)
        self._gate.buffered_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes_max:
            self._stop_parsing(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if self._gate.buffered_bytes > self._limits.buffered_bytes_max:
            self._stop_parsing(HTTPStatus.SERVICE_UNAVAILABLE)

    def on_message_complete(self) -> None:
        """The request is whole."""
        method = self._parser.get_method().decode()
        target, _, query = self._url.partition(b"?")
        last = self._ending = not self._parser.should_keep_alive()
        exchange = Exchange(self, head=method == "HEAD", last=last)
        self._exchanges.append(exchange)
        request = Request(
            method=method,
            path=target.decode("latin-1"),
            query=query,
            headers=tuple(self._headers),
            body=b"".join(self._body),
        )
        self._release_body()
        self._deadline = self._gate.loop.time() + self._limits.idle_seconds_max
        self._in_message = False
        self._gate.route(request, exchange)

    # What the gate asks.

    def flush(self) -> None:
        """Write the answers that are ready, in the order of their requests."""
        ready = []
        while self._exchanges and self._exchanges[0].answer is not None:
            exchange = self._exchanges.popleft()
            ready.append(exchange.answer)
            self._ending = self._ending or exchange.last
        if self._transport is None:
            return
        if ready:
            self._transport.write(b"".join(ready))  # type: ignore[arg-type] # answered ones have bytes
        if not self._exchanges and not self._lingering and (self._ending or self._gate.stopping):
            self._linger()

    def close_if_idle(self) -> None:
        """The gate is stopping: a connection without a request in flight has nothing to wait for."""
        if not self._exchanges and not self._in_message and self._transport is not None:
            self._transport.close()

    def end_if_late(self, now: float) -> None:
        """End the connection when its time for what it is doing is over."""
        if now < self._deadline or (self._exchanges and not self._paused):
            return
        if self._lingering or self._paused or not self._in_message:
            self.abort()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    # Within.

    def _begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._header_count = 0
        self._head_is_whole = False
        self._expects_continue = False
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._wire_bytes = 0
        self._in_message = False
        self._refusal: HTTPStatus | None = None

    def _fault_of_head(self) -> HTTPStatus | None:
        """What is wrong with a head that the parser let through."""
        version = self._parser.get_http_version()
        named: dict[bytes, list[bytes]] = {}
        for name, value in self._headers:
            named.setdefault(name.lower(), []).append(value)
        hosts = named.get(b"host", [])
        codings = named.get(b"transfer-encoding", [])
        expected = named.get(b"expect", [])
        lengths = named.get(b"content-length", [])
        if version not in ("1.0", "1.1"):
            return HTTPStatus.BAD_REQUEST
        # https://www.rfc-editor.org/rfc/rfc9112#section-3.2
        if len(hosts) > 1 or (version == "1.1" and not hosts) or (hosts and not HOST.fullmatch(hosts[0])):
            return HTTPStatus.BAD_REQUEST
        # https://www.rfc-editor.org/rfc/rfc9112#section-6.1
        if codings and (version == "1.0" or [coding.lower() for coding in codings] != [b"chunked"]):
            return HTTPStatus.BAD_REQUEST
        if lengths and int(lengths[0]) > self._limits.body_bytes_max:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        # https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
        if expected and version == "1.1":
            if [value.lower() for value in expected] != [b"100-continue"]:
                return HTTPStatus.EXPECTATION_FAILED
            self._expects_continue = bool(codings or (lengths and int(lengths[0])))
        return None

    def _refuse_if_too_much(self) -> None:
        limits = self._limits
        if not self._head_is_whole:
            if self._wire_bytes > limits.url_bytes_max + limits.header_bytes_max:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._wire_bytes > WIRE_BYTES_A_BODY_BYTE_MAX * limits.body_bytes_max:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _stop_parsing(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise _StopParsing

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer, after all that came before, and close."""
        if self._ending:
            # Bytes behind a last request: its own answer is the last one.
            return
        self._ending = True
        self._release_body()
        exchange = Exchange(self, head=False, last=True)
        self._exchanges.append(exchange)
        self._gate.answer(exchange, status)

    def _linger(self) -> None:
        """Close so that the client can still read its answer, though it may be sending."""
        self._lingering = True
        self._deadline = self._gate.loop.time() + LINGER_SECONDS
        if self._transport is None:
            return
        if self._client_is_done:
            self._transport.close()
        else:
            with suppress(OSError):
                self._transport.write_eof()

    def _release_body(self) -> None:
        self._gate.buffered_bytes -= self._body_bytes
        self._body = []
        self._body_bytes = 0


class _StopParsing(Exception):
    """Raised in the parser's callbacks; it wraps it into its own error."""


def _normal(path: str) -> str:
    """A path as people configure it: absolute form, doubled or trailing slashes, needless escapes."""
    if path.startswith(("http://", "https://")):
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    return "/" + "/".join(part for part in unquote(path).split("/") if part)


def _answer(status: HTTPStatus, *, close: bool, head: bool) -> bytes:
    sentence = (
        b"" if status < HTTPStatus.BAD_REQUEST else f"{status.phrase}: {_ADVICE.get(status, '')}".encode() + b"\n"
    )
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"Date: {formatdate(usegmt=True)}"]
    if status is not HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(sentence)}")
    if sentence:
        lines.append("Content-Type: text/plain; charset=utf-8")
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append(f"Retry-After: {RETRY_AFTER_SECONDS}")
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append(f"Allow: {', '.join(METHODS)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else sentence)


_ADVICE = {
    HTTPStatus.BAD_REQUEST: "this is not a well-formed HTTP/1.1 request.",
    HTTPStatus.NOT_FOUND: "webhooks are taken on " + ", ".join(ANSWERS) + ".",
    HTTPStatus.METHOD_NOT_ALLOWED: "webhooks come by GET, HEAD or POST.",
    HTTPStatus.REQUEST_TIMEOUT: "the request did not come whole in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "no webhook of Vonage's is that large.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "no webhook of Vonage's has a URL that long.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "no webhook of Vonage's has headers that large.",
    HTTPStatus.EXPECTATION_FAILED: "only 100-continue can be expected.",
    HTTPStatus.SERVICE_UNAVAILABLE: "it was not kept; send it again.",
}
