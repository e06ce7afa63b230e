"""The public server: a small HTTP/1.1 of our own on httptools, with a limit on everything.

A request is judged when it is whole, its record is appended, and its answer is given only when the
journal, or the quarantine, says that the record is durable. Records of the requests that arrive in turns of the
loop that follow each other share one commit, for two milliseconds at most; no timer delays a lone
request. The commit runs on the loop's own thread: handing it over would cost more than it takes.

Malformed requests are answered 400 and the connection closed, as RFC 9112 asks; never 5xx. What is
kept for a client while it is slow to send or to read is counted, and bounded for all of them together.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

import httptools
import msgspec
import structlog

from landed.errors import JournalBroken
from landed.gate.answers import answer_bytes
from landed.gate.judge import ANSWERS, METHODS, Judge, Keep, Verdict, normal
from landed.gate.keeper import CUT_BYTES, Judged, Keeper
from landed.gate.meter import HEALTH, UNJUDGED
from landed.gate.plain import HOST
from landed.gate.usual import UsualRequests, quickest
from landed.settings import Limits
from landed.vonage.request import Request

HEALTH_PATH = "/healthz"
SWEEP_SECONDS = 1.0
TICK_SECONDS = 30.0
LINGER_SECONDS = 2.0
# Clients beyond the limit of connections that are told so; further ones are closed at once.
TURNED_AWAY_MAX = 256
# What came at once is parsed piece by piece, one a turn of the loop: the others have their turn in
# between, and a client that does not read its answers is noticed.
PIECE_BYTES_MAX = 4 * 1024
UNREAD_BYTES_MAX = 16 * 1024
# Records that wait for one commit; beyond this they do not wait for more.
COMMIT_RECORDS_MAX = 256
# In a flood each turn brings more, and is long.
GATHER_SECONDS_MAX = 0.002
COMMIT_BYTES_MAX = 4 * 1024 * 1024
# What a record takes beside its query and body, roughly.
RECORD_BYTES = 1024
# One byte a chunk takes six on the wire; more than this is not a body but an attack.
WIRE_BYTES_A_BODY_BYTE_MAX = 8

# A request whose method is another one, as far as it came; a line of another protocol is none.
METHOD_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [^\r\n]*(?:(?<= HTTP/1\.[01])\r?\n|\Z)")
# https://www.rfc-editor.org/rfc/rfc9110#section-4.2.1
HOSTLESS = re.compile(rb"https?://(?:[/?#]|\Z)", re.IGNORECASE)
LINE_ENDS = {"1.0": b" HTTP/1.0\r\n", "1.1": b" HTTP/1.1\r\n"}
FRAMING = frozenset({b"host", b"transfer-encoding", b"content-length", b"expect"})

ADVICE_ON_REFUSED = "see why: landed quarantine list; compare VONAGE_SIGNATURE_SECRET with Vonage's dashboard"

# A member of an enumeration costs more to look up than a name.
_JOURNAL = Keep.JOURNAL

log = structlog.get_logger("landed.gate")


class Exchange(msgspec.Struct):
    """One request's place in the order of answers on its connection."""

    connection: Connection
    head: bool
    last: bool
    status: HTTPStatus | None = None


class Gate:
    """All connections of one listening socket, and the commits that their requests share."""

    def __init__(  # noqa: PLR0913 - its doors, its bounds, and where it stands
        self,
        keeper: Keeper,
        judge: Judge,
        limits: Limits,
        *,
        broken: Callable[[JournalBroken], None],
        path_prefix: str = "",
        compiled: bool = True,
    ) -> None:
        self.limits = limits
        self.connections: set[Connection] = set()
        self.buffered_bytes = 0
        self.stopping = False
        self._keeper = keeper
        self._broken = broken
        self._path_prefix = path_prefix
        self._compiled = compiled
        self.judge_by(judge)
        self.loop = asyncio.get_running_loop()
        # What waits for the next commit, and who for its answer.
        self._batch: list[Judged] = []
        self._waiting: list[Exchange] = []
        self._waiting_bytes = 0
        self._is_broken = False
        self._answers: dict[tuple[int, bool, bool], bytes] = {}
        self._refused: Counter[str] = Counter()
        self._ticked = 0.0
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def judge_by(self, judge: Judge) -> None:
        """Judge by other secrets and another policy from now on."""
        self._judge = judge
        usual = UsualRequests(judge, self._keeper, self.limits, self._path)
        self._usual = quickest(usual, judge, self._keeper) if self._compiled else usual

    def protocol(self) -> Connection:
        """A protocol for one new connection."""
        return Connection(self)

    def takes_plain(self, data: bytes, connection: Connection) -> bool:
        """Answer a plain request, if that is what all these bytes are, the usual ones without the long way."""
        if len(self._waiting) >= self.limits.in_flight_max:
            return False
        taken = self._usual.taken(data, time.time_ns() // 1_000, connection.peer)
        if taken is None:
            return False
        if isinstance(taken, Judged):
            # Never by HEAD, whose answer is another one.
            self._keep(taken, len(taken.record), connection.exchange("POST", last=False))
            return True
        request = Request(
            method=taken.method, path=taken.path, query=taken.query, headers=taken.headers, body=taken.body
        )
        self.route(request, connection.exchange(taken.method, last=False))
        return True

    def route(self, request: Request, exchange: Exchange) -> None:
        """Answer a whole request, now or after the next commit."""
        if request.path not in ANSWERS or self._path_prefix:
            request = msgspec.structs.replace(request, path=self._path(request.path))
            if request.path not in ANSWERS:
                self._answer_elsewhere(request, exchange)
                return
        if request.method not in METHODS:
            self.answer(exchange, HTTPStatus.METHOD_NOT_ALLOWED)
        elif len(self._waiting) >= self.limits.in_flight_max:
            self.answer(exchange, HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            now_us = time.time_ns() // 1_000
            self._settle(request, self._judge.verdict(request, now_us, exchange.connection.peer), now_us, exchange)

    def route_cut(self, request: Request, exchange: Exchange) -> None:
        """Answer a request whose body is over the limit; this much of it came."""
        request = msgspec.structs.replace(request, path=self._path(request.path))
        if request.path not in ANSWERS or request.method not in METHODS:
            self.answer(exchange, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif len(self._waiting) >= self.limits.in_flight_max:
            self.answer(exchange, HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            now_us = time.time_ns() // 1_000
            self._settle(request, self._judge.too_large(now_us), now_us, exchange)

    def answer(self, exchange: Exchange, status: HTTPStatus, word: str = UNJUDGED) -> None:
        """Give a request, of which nothing is kept, its answer, in its turn; `word` is its verdict's."""
        if status is not HTTPStatus.CONTINUE:
            self._keeper.meter.refused(status, word)
        exchange.status = status
        exchange.connection.flush()

    def bytes_of(self, status: HTTPStatus, *, close: bool, head: bool) -> bytes:
        """The bytes of an answer, kept for the second that its date holds."""
        # A member of an enumeration is hashed by Python code.
        key = (id(status), close, head)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = answer_bytes(status, close=close, head=head)
        return answer

    async def stop(self, seconds: float) -> None:
        """Answer what is in flight and close; what is not whole after so many seconds is cut off."""
        self.stopping = True
        self._sweeper.cancel()
        await self._turn()
        for connection in list(self.connections):
            connection.close_if_idle()
        deadline = self.loop.time() + seconds
        while self.connections and self.loop.time() < deadline:  # noqa: ASYNC110 - a deadline, not an event
            await asyncio.sleep(0.01)
        self._commit()
        await self._turn()
        for connection in list(self.connections):
            connection.abort()
        self._commit()

    async def _turn(self) -> None:
        """Let the loop read what has come and write what is to go; two, since one may be half over."""
        for _ in range(2):
            await asyncio.sleep(0)

    def _path(self, asked: str) -> str:
        """A request's path as we call it; none when it lies elsewhere than behind our prefix."""
        path = normal(asked)
        return path.removeprefix(self._path_prefix) if path.startswith(self._path_prefix + "/") else ""

    def _answer_elsewhere(self, request: Request, exchange: Exchange) -> None:
        if request.path == HEALTH_PATH and request.method in ("GET", "HEAD"):
            able = self._keeper.able and not self._is_broken
            self.answer(exchange, HTTPStatus.OK if able else HTTPStatus.SERVICE_UNAVAILABLE, HEALTH)
        else:
            self.answer(exchange, HTTPStatus.NOT_FOUND)

    def _settle(self, request: Request, given: Verdict, now_us: int, exchange: Exchange) -> None:
        """Answer by this verdict: at once when nothing is kept, else behind the next commit."""
        verdict = self._keeper.spare(given, checks=self._judge.checks)
        if verdict.keep is not _JOURNAL:
            if verdict.answer >= HTTPStatus.BAD_REQUEST:
                self._refused[verdict.reason] += 1
            if verdict.keep is Keep.NOTHING:
                self.answer(exchange, verdict.answer, verdict.reason)
                return
        judged = self._keeper.judged(request, verdict, now_us, exchange.connection.peer)
        self._keep(judged, RECORD_BYTES + len(request.query) + len(request.body), exchange)

    def _keep(self, judged: Judged, size: int, exchange: Exchange) -> None:
        """Let it wait for the next commit."""
        if not self._waiting:
            self.loop.call_soon(self._gather, 0, self.loop.time() + GATHER_SECONDS_MAX)
        self._batch.append(judged)
        self._waiting.append(exchange)
        self._waiting_bytes += size
        if self._waiting_bytes > COMMIT_BYTES_MAX:
            self._commit()

    def _gather(self, before: int, until: float) -> None:
        """Commit once a turn of the loop brings no more: requests that are on their way share the commit.

        A lone one waits for none: what comes while it is written has the next commit.
        """
        count = len(self._waiting)
        is_first_turn = not before
        if before < count < COMMIT_RECORDS_MAX and count > 1 and (is_first_turn or self.loop.time() < until):
            self.loop.call_soon(self._gather, count, until)
        else:
            self._commit()

    def _commit(self) -> None:
        batch, waiting = self._batch, self._waiting
        if not waiting:
            return
        self._batch, self._waiting, self._waiting_bytes = [], [], 0
        answers = self._durable(batch)
        for exchange, status in zip(waiting, answers, strict=True):
            exchange.status = status
            exchange.connection.flush()
        self._keeper.note(batch, answers)
        verdicts, came_us = [each.verdict for each in batch], [each.at_us for each in batch]
        self._keeper.meter.answered(verdicts, answers, came_us, time.time_ns() // 1_000)

    def _durable(self, batch: list[Judged]) -> list[HTTPStatus]:
        if not self._is_broken:
            try:
                return self._keeper.commit(batch)
            except JournalBroken as error:
                self._break(error)
        return [HTTPStatus.SERVICE_UNAVAILABLE] * len(batch)

    def _break(self, error: JournalBroken) -> None:
        # Whether the bytes are on disk cannot be known: no 2xx, and never another try.
        self._is_broken = True
        self._broken(error)

    def _sweep(self) -> None:
        """Once a second: end what took too long, refresh the date, and tick if nothing else did."""
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)
        self._answers.clear()
        now = self.loop.time()
        for connection in list(self.connections):
            connection.end_if_late(now)
        self._keeper.look()
        self._keeper.meter.write()
        if self._refused:
            # Gathered, so that a flood of forged requests is one line a second.
            log.warning("requests.refused", advice=ADVICE_ON_REFUSED, **self._refused)
            self._refused.clear()
        if now - self._ticked >= TICK_SECONDS and not self._is_broken:
            self._ticked = now
            try:
                self._keeper.tick(time.time_ns() // 1_000)
            except JournalBroken as error:
                self._break(error)


class Connection(asyncio.Protocol):
    """One client: parses what it sends, keeps its requests in order, holds it to the limits.

    `_ending` means that no further request is taken; `_lingering`, that all answers are written.
    """

    _url: bytes
    _version: str
    _headers: list[tuple[bytes, bytes]]
    _framing: dict[bytes, list[bytes]]
    _body: bytes | bytearray
    _refusal: HTTPStatus | None

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
        self._held = b""
        self._is_going_on = False
        self._counted_bytes = 0
        self._requests = 0
        self._deadline = 0.0
        self._whole_deadline = 0.0
        self._write_deadline = 0.0
        self._head = b""
        self._forget()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = transport  # type: ignore[assignment] # a stream's transport, by how the server was made
        transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)  # type: ignore[attr-defined] # the same
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if peer else ""
        self._deadline = self._gate.loop.time() + self._limits.first_byte_seconds_max
        self._gate.connections.add(self)
        beyond = len(self._gate.connections) - self._limits.connections_max
        if beyond > TURNED_AWAY_MAX:
            transport.close()
        elif beyond > 0 or self._gate.stopping:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone; what it sent whole is kept all the same."""
        self._transport = None
        self._ending = True
        self._gate.connections.discard(self)
        self._forget_all()
        # The parser and its callbacks hold each other.
        del self._parser

    def eof_received(self) -> bool:
        """The client sends no more; it may still read the answers to what it sent."""
        if self._is_too_large and not self._held:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._ending = self._client_is_done = True
        return bool(self._exchanges)

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more from it."""
        self._paused = True
        self._write_deadline = self._gate.loop.time() + self._limits.write_seconds_max
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again: go on with what it sent meanwhile."""
        self._paused = False
        self._go_on_soon()

    def data_received(self, data: bytes) -> None:
        """Bytes came: parse them, and answer each request that they complete."""
        if self._ending:
            return
        is_whole = not self._in_message and not self._held and len(data) <= PIECE_BYTES_MAX
        if is_whole and self._gate.takes_plain(data, self):
            return
        self._parse(data[:PIECE_BYTES_MAX])
        if len(data) > PIECE_BYTES_MAX and not self._ending:
            self._hold(data[PIECE_BYTES_MAX:])
        if self._in_message or self._paused or self._held or self._counted_bytes:
            self._count()

    # What the parser tells. An error raised here stops it; `_refusal` says why.

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._ending:
            self._stop_parsing(HTTPStatus.BAD_REQUEST)
        now = self._gate.loop.time()
        self._in_message = True
        self._wire_bytes = 0
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
        if self._head_is_whole:
            return
        value = value.strip(b" \t")
        self._headers.append((name, value))
        if (lower := name.lower()) in FRAMING:
            self._framing.setdefault(lower, []).append(value)

    def on_headers_complete(self) -> None:
        """The head is whole: refuse now what need not be read."""
        self._head_is_whole = True
        self._deadline = self._whole_deadline
        if self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT":
            # Asked again without the wish for an upgrade; see `_parse`.
            return
        refusal = self._fault_of_head()
        if refusal is HTTPStatus.REQUEST_ENTITY_TOO_LARGE and not self._is_continue_expected():
            # Its beginning is kept before it is refused.
            self._is_too_large = True
        elif refusal is not None:
            self._stop_parsing(refusal)
        if self._expects_continue:
            exchange = Exchange(connection=self, head=False, last=False)
            self._exchanges.append(exchange)
            self._gate.answer(exchange, HTTPStatus.CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A piece of the body: nearly always the whole; many small ones take no more room than their bytes."""
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        bytes_max = self._limits.body_bytes_max
        if len(self._body) > (min(bytes_max, CUT_BYTES) if self._is_too_large else bytes_max):
            self._stop_parsing(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._parser.should_upgrade():
            return
        method = self._parser.get_method().decode()
        # A client of HTTP/1.0 counts on a connection only when told that it stays; it never does.
        last = self._ending = self._version != "1.1" or not self._parser.should_keep_alive()
        request = self._request(method)
        self._forget()
        self._gate.route(request, self.exchange(method, last=last))

    # What the gate asks.

    def flush(self) -> None:
        """Write the answers that are ready, in the order of their requests."""
        exchanges, gate, transport = self._exchanges, self._gate, self._transport
        if len(exchanges) == 1 and not (self._ending or gate.stopping or transport is None):
            # The usual one: nothing before it, nothing behind it.
            exchange = exchanges[0]
            if exchange.status is not None:
                exchanges.clear()
                transport.write(gate.bytes_of(exchange.status, close=False, head=exchange.head))
            return
        ready = []
        while exchanges and (status := exchanges[0].status) is not None:
            exchange = exchanges.popleft()
            last = exchange.last or (gate.stopping and not exchanges and status is not HTTPStatus.CONTINUE)
            ready.append(gate.bytes_of(status, close=last, head=exchange.head))
            self._ending = self._ending or last
        if transport is None:
            return
        if ready:
            transport.write(b"".join(ready))
        if self._ending and not exchanges and not self._lingering:
            self._linger()

    def exchange(self, method: str, *, last: bool) -> Exchange:
        """The place of a whole request in the order of answers."""
        self._requests += 1
        self._deadline = self._gate.loop.time() + self._limits.idle_seconds_max
        exchange = Exchange(connection=self, head=method == "HEAD", last=last)
        self._exchanges.append(exchange)
        return exchange

    def close_if_idle(self) -> None:
        """The gate is stopping: a connection without a request in flight has nothing to wait for."""
        busy = self._exchanges or self._in_message or self._held or self._lingering
        if not busy and self._transport is not None:
            self._transport.close()

    def end_if_late(self, now: float) -> None:
        """End the connection when its time for what it is doing is over."""
        if now < (self._write_deadline if self._paused else self._deadline):
            return
        if self._in_message and not self._paused:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the connection."""
        self._ending = True
        self._forget_all()
        if self._transport is not None:
            self._transport.abort()

    # Within.

    def _hold(self, rest: bytes) -> None:
        self._held = rest
        if self._transport is not None:
            self._transport.pause_reading()
        if not self._paused:
            self._go_on_soon()

    def _go_on_soon(self) -> None:
        if not self._is_going_on:
            self._is_going_on = True
            self._gate.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take what was held, and read again when nothing is left of it."""
        self._is_going_on = False
        if self._paused or self._transport is None:
            return
        held, self._held = self._held, b""
        self.data_received(held)
        if not self._held and not self._paused:
            self._transport.resume_reading()

    def _parse(self, piece: bytes) -> None:
        requests = self._requests
        self._wire_bytes += len(piece)
        self._head = self._head + piece if self._in_message and not self._head_is_whole else piece
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            # Nobody here speaks another protocol, and the parser would leave the body unread.
            # https://www.rfc-editor.org/rfc/rfc9110#section-7.8
            again = self._head_without_upgrade() + piece[upgrade.args[0] :]
            self._parser = httptools.HttpRequestParser(self)
            self._forget()
            self._parse(again)
        except httptools.HttpParserInvalidMethodError:
            known = self._requests == requests and METHOD_LINE.match(self._head)
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.BAD_REQUEST)
        except httptools.HttpParserCallbackError:
            if self._refusal is None:
                # A mistake of ours: the loop logs it and closes, for a 4xx could lose a receipt.
                raise
            self._refuse(self._refusal)
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST)
        else:
            self._refuse_if_too_much()
            if self._head_is_whole or not self._in_message:
                self._head = b""

    def _fault_of_head(self) -> HTTPStatus | None:
        """What is wrong with a head that the parser let through."""
        method = self._parser.get_method()
        version = self._version = self._parser.get_http_version()
        hosts = self._framing.get(b"host", [])
        codings = self._framing.get(b"transfer-encoding", [])
        # The parser lets several spaces and other protocols' names through.
        # https://www.rfc-editor.org/rfc/rfc9112#section-3
        if version not in LINE_ENDS or method + b" " + self._url + LINE_ENDS[version] not in self._head:
            return HTTPStatus.BAD_REQUEST
        # https://www.rfc-editor.org/rfc/rfc9112#section-3.2
        is_odd = len(hosts) > 1 or (version == "1.1" and not hosts) or (hosts and not HOST.fullmatch(hosts[0]))
        if is_odd or HOSTLESS.match(self._url):
            return HTTPStatus.BAD_REQUEST
        # https://www.rfc-editor.org/rfc/rfc9112#section-6.1
        if codings and (version == "1.0" or [coding.lower() for coding in codings] != [b"chunked"]):
            return HTTPStatus.BAD_REQUEST
        if method == b"CONNECT":
            return HTTPStatus.METHOD_NOT_ALLOWED
        length = int(self._framing.get(b"content-length", [b"0"])[0])
        if length > self._limits.body_bytes_max:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        self._expects_continue = bool(codings or length) and self._is_continue_expected()
        return None

    def _is_continue_expected(self) -> bool:
        """Whether the client waits to be told to go on. To refuse any other wish, as one may, could lose a receipt.

        https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
        """
        wishes = b",".join(self._framing.get(b"expect", [])).lower().split(b",")
        return self._version != "1.0" and b"100-continue" in [wish.strip(b" \t") for wish in wishes]

    def _head_without_upgrade(self) -> bytes:
        """The head as if nobody had asked for another protocol; the connection is closed behind it."""
        version = self._parser.get_http_version().encode()
        kept = [header for header in self._headers if header[0].lower() not in (b"connection", b"upgrade")]
        lines = [b"%s: %s\r\n" % header for header in (*kept, (b"Connection", b"close"))]
        return b"%s %s HTTP/%s\r\n%s\r\n" % (self._parser.get_method(), self._url, version, b"".join(lines))

    def _refuse_if_too_much(self) -> None:
        limits = self._limits
        if not self._head_is_whole:
            if self._wire_bytes > limits.url_bytes_max + limits.header_bytes_max:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._wire_bytes > WIRE_BYTES_A_BODY_BYTE_MAX * limits.body_bytes_max:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _count(self) -> None:
        """Count what is kept for a client that is slow to send or to read; too much together is refused."""
        kept_bytes = len(self._held) + len(self._head) + self._header_bytes + len(self._body)
        if self._paused and self._transport is not None:
            kept_bytes += self._transport.get_write_buffer_size()
        self._gate.buffered_bytes += kept_bytes - self._counted_bytes
        self._counted_bytes = kept_bytes
        if self._gate.buffered_bytes > self._limits.buffered_bytes_max:
            if self._paused:
                self.abort()
            else:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def _stop_parsing(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise _StopParsing

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer, after all that came before, and close."""
        if self._ending:
            # Bytes behind a last request: its own answer is the last one.
            return
        method = self._parser.get_method().decode() if self._url else ""
        is_cut = status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE and self._head_is_whole
        request = self._request(method) if is_cut else None
        self._ending = True
        self._forget_all()
        exchange = Exchange(connection=self, head=method == "HEAD", last=True)
        self._exchanges.append(exchange)
        if request is not None:
            self._gate.route_cut(request, exchange)
        else:
            self._gate.answer(exchange, status)

    def _request(self, method: str) -> Request:
        """What has come, as a request; of a body over the limit, its beginning."""
        target, _, query = self._url.partition(b"?")
        body = self._body[:CUT_BYTES] if len(self._body) > self._limits.body_bytes_max else self._body
        return Request(
            method=method,
            path=target.decode("latin-1"),
            query=query,
            headers=tuple(self._headers),
            body=bytes(body),
        )

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

    def _forget(self) -> None:
        """Be ready for the next request."""
        self._url = b""
        self._version = ""
        self._headers = []
        self._framing = {}
        self._header_bytes = 0
        self._header_count = 0
        self._head_is_whole = False
        self._expects_continue = False
        self._is_too_large = False
        self._body = b""
        self._wire_bytes = 0
        self._in_message = False
        self._refusal = None

    def _forget_all(self) -> None:
        """Be done: nothing is kept for this client but its answers."""
        self._forget()
        self._head = self._held = b""
        self._gate.buffered_bytes -= self._counted_bytes
        self._counted_bytes = 0


class _StopParsing(Exception):
    """Raised in the parser's callbacks; it wraps it into its own error."""
