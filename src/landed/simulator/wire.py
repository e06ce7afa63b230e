"""The simulator's HTTP client: small, so that one core calls back thousands of times a second.

httpx needs a millisecond of it for each call, which is all that a receiver beside it would have had (measured:
docs/performance.md). This one writes a request on a kept connection and reads no more of the answer than its status.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from urllib.parse import quote, urlsplit

import httptools
import msgspec

from landed.errors import SurroundingsError

# https://api.support.vonage.com/hc/en-us/articles/226572227
CONNECT_SECONDS_MAX = 3.0
ANSWER_SECONDS_MAX = 15.0
ANSWER_BYTES_MAX = 1 << 20
IDLE_MAX = 64
ORIGINS_REMEMBERED_MAX = 1_024

UNBROKEN = re.compile(r"[^\s\x00-\x1f\x7f]+")
# All that may stand in a path and query as it is; other characters are escaped.
URL_CHARACTERS = "%/:?#[]@!$&'()*+,;=-._~"

Headers = Iterable[tuple[bytes, bytes]]


class NoAnswer(Exception):
    """The receiver gave none; the text says how."""


class Target(msgspec.Struct, frozen=True):
    """Where a URL leads: the origin, and what is asked of it there."""

    host: str
    port: int
    is_secure: bool
    authority: bytes
    path: bytes


def target_of(url: str) -> Target:
    """The parts of a URL. SurroundingsError when it is none that can be called."""
    try:
        parts = urlsplit(url)
        port, authority = parts.port, parts.netloc.rpartition("@")[2].encode("idna")
    except ValueError as error:
        raise SurroundingsError(f"{url!r} is no URL: {error}.") from error
    if not UNBROKEN.fullmatch(url):
        raise SurroundingsError(f"{url!r} is no URL that can be called: a blank or control character is in it.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SurroundingsError(f"{url!r} is no URL that can be called: it begins with http:// or https:// and a host.")
    is_secure = parts.scheme == "https"
    path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=URL_CHARACTERS)
    return Target(parts.hostname, port or (443 if is_secure else 80), is_secure, authority, path.encode())


class Client:
    """Calls by HTTP/1.1 over connections that are kept; as many at once as it is asked for."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int, bool], list[_Connection]] = {}
        self._targets: dict[str, Target] = {}

    async def call(self, method: str, url: str, query: bytes, headers: Headers, body: bytes) -> int:
        """The status of the answer. NoAnswer when there is none within the time that Vonage waits."""
        target = self._target(url)
        head = _head(method, target, query, headers, body)
        connection = await self._connection(target)
        try:
            # Once and no more: whoever closed a connection may have read what was written to it.
            return await connection.exchange(head + body)
        except ConnectionError as error:
            raise NoAnswer(f"connection lost: {error}") from error
        finally:
            self._put_back(target, connection)

    def close(self) -> None:
        """Close all connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def _target(self, url: str) -> Target:
        target = self._targets.get(url)
        if target is None:
            target = target_of(url)
            if len(self._targets) < ORIGINS_REMEMBERED_MAX:
                self._targets[url] = target
        return target

    async def _connection(self, target: Target) -> _Connection:
        idle = self._idle.get((target.host, target.port, target.is_secure), [])
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                _, connection = await loop.create_connection(
                    _Connection,
                    target.host,
                    target.port,
                    ssl=_tls() if target.is_secure else None,
                )
        except TimeoutError as error:
            raise NoAnswer(f"no connection within {CONNECT_SECONDS_MAX:.0f} s") from error
        except OSError as error:
            raise NoAnswer(f"no connection: {error}") from error
        return connection

    def _put_back(self, target: Target, connection: _Connection) -> None:
        if not connection.is_open:
            return
        idle = self._idle.setdefault((target.host, target.port, target.is_secure), [])
        if len(idle) < IDLE_MAX:
            idle.append(connection)
        else:
            connection.abort()


class _Connection(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self) -> None:
        self.is_open = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[int] | None = None
        self._received = 0
        self._status = 0
        self._is_framed = False

    async def exchange(self, request: bytes) -> int:
        """Send a request and wait for the status of its answer."""
        if not self.is_open:
            raise ConnectionResetError("closed by the receiver")
        self._is_framed, self._received, self._status = False, 0, 0
        self._answer = self._loop.create_future()
        timer = self._loop.call_later(ANSWER_SECONDS_MAX, self._late)
        self._transport.write(request)
        try:
            return await self._answer
        except BaseException:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._answer = None

    def abort(self) -> None:
        """Close it at once."""
        self.is_open = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._transport = transport  # type: ignore[assignment]
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's."""
        self.is_open = False
        if self._status and not self._is_framed:
            # An answer without a length ends with its connection.
            self._end()
        self._fail(ConnectionResetError(str(exc) if exc else "closed by the receiver"))

    def data_received(self, data: bytes) -> None:
        """Asyncio's."""
        self._received += len(data)
        if self._answer is None or self._received > ANSWER_BYTES_MAX:
            self.abort()
            self._fail(NoAnswer("an answer that nobody asked for, or one that is too long"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.abort()
            self._fail(NoAnswer(f"no HTTP answer: {error}"))

    def on_header(self, name: bytes, _value: bytes) -> None:
        """httptools': whether the answer says where it ends."""
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._is_framed = True

    def on_headers_complete(self) -> None:
        """httptools': the status is known, which is not the last one where it only announces an answer."""
        status = self._parser.get_status_code()
        self._status = status if status >= HTTPStatus.OK else 0

    def on_message_complete(self) -> None:
        """httptools': the answer is whole."""
        if not self._status:
            return
        if not self._parser.should_keep_alive():
            self.is_open = False
            self._transport.close()
        self._end()

    def _end(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._status)

    def _late(self) -> None:
        self._fail(NoAnswer(f"no answer within {ANSWER_SECONDS_MAX:.0f} s"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _head(method: str, target: Target, query: bytes, headers: Headers, body: bytes) -> bytes:
    path = target.path
    if query:
        path += (b"&" if b"?" in path else b"?") + query
    lines = [method.encode() + b" " + path + b" HTTP/1.1", b"host: " + target.authority, b"accept: */*"]
    lines += [name + b": " + value for name, value in headers]
    if body or method != "GET":
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n"


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
