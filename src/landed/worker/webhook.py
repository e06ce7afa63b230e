"""Takes events to an application by HTTP: one POST of its JSON for each, signed by https://www.standardwebhooks.com/.

An attempt never raises and never sends its event twice. What counts is the head of the answer: once it is there whole
with a status of 2xx the event is taken, whatever becomes of the body, which is read only so that the connection can be
kept. (A body that comes with its head and is no HTTP from its first byte makes all of it none.) A connection that ends
before that counts as an attempt that failed, because whoever closed it may have read the event, and to say it again is
the dispatch's to decide. A kept connection is used only when this machine has no word of its end and nothing came on it
that nobody asked for; else the event goes by the next one, and none of it has been sent.

What a name leads to is judged at the moment of dialling, once for each connection, and exactly what was judged is
dialled; the socket asks the judge again, since an address in a URL passes by no resolver.

Requests are made by aiohttp: where it was compared with httpx, which serves the rest of the house, one core made 20,000
of them a second with the one and 750 with the other.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import resource
import select
import socket
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import lru_cache, partial
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from secrets import token_bytes
from typing import Any

import aiohttp
import certifi
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook as Signer
from yarl import URL

from landed import __version__
from landed.errors import SettingsError
from landed.settings import EventSettings, Network
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Answer, Letter
from landed.worker.reach import Address, judge, read_url
from landed.worker.threads import Crowded, LookUps

AGENT = f"landed/{__version__}"

# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
SECRET_PREFIX = "whsec_"  # noqa: S105 - how every secret begins
SECRET_BYTES = 32
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
SIGNERS_MAX = 1_024
URLS_MAX = 1_024

# A safety net, for a subscriber's own bound is its lane's: who is slow must not keep others from connecting. Of the
# files that the process may open, a share is left to everything else, and to connections that are kept unused.
CONNECTIONS_MAX = 16_384
FILES_LEFT_SHARE = 0.5
# What may go by until a thread is free to look up, of the time to connect, and until a connection is, of the whole; the
# rest is left for what that is for.
PLACE_SHARE = 0.5
# Shorter than servers keep one, so that they seldom close it while we write: gunicorn does after 2 s, others after 5.
KEPT_SECONDS_MAX = 1.5
ADDRESSES_MAX = 16
HEAD_LINE_BYTES_MAX = 8 * 1024
HEADERS_MAX = 64
# What says of one event that it is not taken, and of others nothing: 500 is what most frameworks make of an exception.
# The rest (a wrong path or password, too many at once, a proxy without anybody behind it) is the same for each event.
OF_ONE_EVENT = frozenset({400, 406, 409, 412, 413, 415, 422, 431, 500})
WAIT_SECONDS_MAX = 24 * 60 * 60.0
# The process or the machine has no file left to open a socket with, of which the subscriber knows nothing.
NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})

_SECONDS = re.compile(r"[0-9]+")

Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]


class Undialled(OSError):
    """An address that may not be dialled, or a name that leads to no other; its text is for a person."""


class Unfit(Exception):
    """A kept connection that ended, or on which something came unasked; nothing was sent on it."""


class Phase(StrEnum):
    """What an attempt waits for; the value says of which limit it ran out, whose seconds are in the braces."""

    QUEUE = "no connection was free within {:g} s"
    CONNECT = "not connected within {:g} s"
    ANSWER = "not answered within {:g} s"
    WHOLE = "not ended within {:g} s"


class Webhook:
    """Carries events over connections that are kept; `resolver` gives the addresses of a host and port.

    `tls` is whom to trust; without it the machine's authorities and certifi's. `connections_max` is of all together. It
    belongs to the loop that uses it.
    """

    def __init__(
        self,
        settings: EventSettings,
        *,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        connections_max: int | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._resolver = resolver or LookUps(settings.connect_seconds_max * PLACE_SHARE)
        self._tls = tls
        self._connections_max = connections_max or _connections_max()
        self._now = now
        self._limits = {
            Phase.QUEUE: settings.whole_seconds_max * PLACE_SHARE,
            Phase.CONNECT: settings.connect_seconds_max,
            Phase.ANSWER: settings.first_byte_seconds_max,
            Phase.WHOLE: settings.whole_seconds_max,
        }
        self._signer = lru_cache(SIGNERS_MAX)(_signer_of)
        self._url = lru_cache(URLS_MAX)(partial(_url_of, settings))
        self._session: aiohttp.ClientSession | None = None

    async def carry(self, address: str, secrets: Sequence[str], letters: Sequence[Letter]) -> Answer:
        """Post each letter in turn, up to the first that is not taken."""
        began = time.monotonic()
        answer = Answer(taken=True, said="nothing to say")
        for letter in letters:
            answer = await self._carry(address, secrets, letter)
            if not answer.taken:
                break
        said = answer.said[:ANSWER_CHARACTERS_MAX]
        return msgspec.structs.replace(answer, said=said, took_seconds=time.monotonic() - began)

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _carry(self, address: str, secrets: Sequence[str], letter: Letter) -> Answer:
        try:
            return await self._post(self._url(address), self._headers(secrets, letter), letter.body)
        except Exception as error:  # noqa: BLE001 - whatever a server can bring about is an answer, and no fault of ours
            return Answer(taken=False, said=_said_of(error), is_untried=_is_ours(error))

    def _headers(self, secrets: Sequence[str], letter: Letter) -> Mapping[str, str]:
        if not secrets:
            raise SettingsError("There is no secret to sign with: give the subscriber one.")
        # The library relabels a time that is not UTC's, and never converts it.
        at = self._now().astimezone(UTC).replace(microsecond=0)
        sign = partial(Signer.sign, msg_id=letter.id, timestamp=at, data=letter.body.decode())
        headers = {
            "content-type": "application/json",
            "user-agent": AGENT,
            "webhook-id": letter.id,
            "webhook-timestamp": f"{at.timestamp():.0f}",
            "webhook-signature": " ".join(sign(self._signer(secret)) for secret in secrets),
            "landed-attempt": str(letter.attempt),
        }
        marks = {"landed-replay": letter.is_replay, "landed-sample": letter.is_sample}
        return headers | {name: "true" for name, is_so in marks.items() if is_so}

    async def _post(self, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer of whoever is there. Raises when none came whole, or none within its time."""
        watch = _Watch(self._limits)
        _WATCH.set(watch)
        try:
            async with watch.timeout:
                while True:
                    # Each turn has one kept connection less, and a new one is always fit.
                    with suppress(Unfit):
                        return await self._exchange(url, headers, body, watch)
        except TimeoutError as error:
            # The system has such an error of its own.
            said = watch.said if watch.timeout.expired() else _said_of(error)
            is_untried = watch.timeout.expired() and watch.phase is Phase.QUEUE
            return watch.answered(f", and {said}") or Answer(taken=False, said=said, is_untried=is_untried)

    async def _exchange(self, url: URL, headers: Mapping[str, str], body: bytes, watch: _Watch) -> Answer:
        watch.enter(Phase.QUEUE)
        try:
            async with self._opened().post(url, headers=headers, data=body, allow_redirects=False) as response:
                watch.answer = answer = self._answer_of(response)
                watch.enter(Phase.WHOLE)
                is_whole = await self._is_read(response)
                return answer if is_whole else watch.answered(", and too much came with it") or answer
        except Exception:
            if answered := watch.answered(", and it was cut off"):
                return answered
            raise

    async def _is_read(self, response: aiohttp.ClientResponse) -> bool:
        """Whether all of a body came before it was too much; then its connection is not kept."""
        left = self._settings.answer_bytes_max
        async for part in response.content.iter_any():
            left -= len(part)
            if left < 0:
                response.close()
                return False
        return True

    def _answer_of(self, response: aiohttp.ClientResponse) -> Answer:
        status = response.status
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return Answer(taken=True, said=str(status))
        is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
        return Answer(
            taken=False,
            said=f"{status}, and redirects are not followed" if is_redirect else str(status),
            is_refusal=status in OF_ONE_EVENT,
            is_gone=status == HTTPStatus.GONE,
            wait_seconds=wait_of(response.headers.get("retry-after", ""), self._now()),
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_Judged(self._resolver, self._settings),
                    socket_factory=partial(_open_socket, self._settings.networks),
                    # Nothing is remembered of a look-up; but those that come at once share one.
                    ttl_dns_cache=0,
                    ssl=self._tls or _usual_tls(),
                    limit=self._connections_max,
                    limit_per_host=0,
                    keepalive_timeout=KEPT_SECONDS_MAX,
                ),
                request_class=_Request,
                trace_configs=[_tracing()],
                # Ours are exact, and each says which it was.
                timeout=aiohttp.ClientTimeout(),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept-Encoding",),
                auto_decompress=False,
                trust_env=False,
                max_line_size=HEAD_LINE_BYTES_MAX,
                max_field_size=HEAD_LINE_BYTES_MAX,
                max_headers=HEADERS_MAX,
            )
        return self._session


def new_secret(randomness: Callable[[int], bytes] = token_bytes) -> str:
    """A secret to sign with; `randomness` gives so many bytes."""
    return SECRET_PREFIX + b64encode(randomness(SECRET_BYTES)).decode()


def check_secret(text: str) -> str:
    """A secret that somebody gave. SettingsError when it is none of Standard Webhooks'."""
    encoded = text.removeprefix(SECRET_PREFIX)
    try:
        length = len(b64decode(encoded, validate=True))
    except ValueError:
        length = 0
    if encoded == text or not SECRET_BYTES_MIN <= length <= SECRET_BYTES_MAX:
        raise SettingsError(
            f"The secret is none: it begins with {SECRET_PREFIX}, and after that come {SECRET_BYTES_MIN} to "
            f"{SECRET_BYTES_MAX} bytes in base64."
        )
    return text


def wait_of(header: str, now: datetime) -> float | None:
    """How long `Retry-After` asks to wait, seconds, WAIT_SECONDS_MAX at most; None when it says nothing of use."""
    text = header.strip()
    if text.isascii() and _SECONDS.fullmatch(text):
        return min(float(text), WAIT_SECONDS_MAX)
    try:
        at = parsedate_to_datetime(text)
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(seconds, 0.0), WAIT_SECONDS_MAX)


def _url_of(settings: EventSettings, address: str) -> URL:
    """The URL of an address; SettingsError when it is none that may be reached."""
    target = read_url(address, plain_http=settings.plain_http, allowed=settings.networks)
    return URL(target.url, encoded=True)


def _signer_of(secret: str) -> Signer:
    return Signer(check_secret(secret))


def _usual_tls() -> ssl.SSLContext:
    """The machine's authorities, those of a company among them, and certifi's, for machines that have none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _connections_max() -> int:
    """How many connections there may be, by how many files this process may open."""
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(1, min(CONNECTIONS_MAX, int(files_max * (1 - FILES_LEFT_SHARE))))


# What is dialled.


class _Judged(AbstractResolver):
    """Gives of a resolver's answers those that may be dialled."""

    def __init__(self, resolver: Resolver, settings: EventSettings) -> None:
        self._resolver = resolver
        self._allowed = settings.networks
        self._seconds_max = settings.connect_seconds_max

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp asks for all there are
    ) -> list[ResolveResult]:
        found = await self._found(host, port)
        reasons = {address: judge(address, self._allowed) for address in found}
        reached = [address for address, why in reasons.items() if why is None]
        if not reached:
            raise _undialled(found[0], reasons[found[0]], f"{host} leads to ")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=_family_of(address),
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in reached
        ]

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _found(self, host: str, port: int) -> Sequence[Address]:
        """All addresses, each once. Its limit is its own: aiohttp shares a look-up, and ends none with an attempt."""
        try:
            async with asyncio.timeout(self._seconds_max):
                found = tuple(dict.fromkeys(await self._resolver(host, port)))[:ADDRESSES_MAX]
        except TimeoutError as error:
            raise Undialled(f"{host} was not looked up within {self._seconds_max:g} s") from error
        if not found:
            raise Undialled(f"{host} has no address")
        return found


def _undialled(address: Address, why: str | None, before: str = "") -> Undialled:
    return Undialled(f"{before}{address}, which may not be reached: {why}")


def _family_of(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET


def _open_socket(allowed: tuple[Network, ...], info: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for an address that may be dialled. Raises Undialled for any other."""
    family, kind, protocol, _, at = info
    address = ip_address(at[0])
    if why := judge(address, allowed):
        raise _undialled(address, why)
    return socket.socket(family, kind, protocol)


class _Request(aiohttp.ClientRequest):
    """A request that is not written to a kept connection on which an end or an answer is waiting.

    aiohttp would write it, and take for its answer what came before.
    """

    async def send(self, conn: Any) -> aiohttp.ClientResponse:  # noqa: ANN401 - it has no public name
        if _WATCH.get().is_kept and not _is_quiet(conn.protocol):
            raise Unfit
        conn.add_callback(partial(asyncio.get_running_loop().call_soon, _drop, conn.protocol.transport))
        return await super().send(conn)


def _is_quiet(protocol: Any) -> bool:  # noqa: ANN401 - the same
    """Whether a connection is open and brought nothing, be it that it still waits in the kernel."""
    if protocol.should_close or not protocol.is_connected():
        return False
    waiting = select.poll()
    waiting.register(protocol.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not waiting.poll(0)


def _drop(transport: asyncio.Transport) -> None:
    """Let go of a connection that is not kept, or whose request was not read: to close it would wait until it is."""
    if transport.is_closing() or transport.get_write_buffer_size():
        transport.abort()


# Time.


class _Watch:
    """The limits of one attempt: that of its phase, within the one of the whole. It keeps the answer's head."""

    def __init__(self, limits: Mapping[Phase, float]) -> None:
        self._limits = limits
        self._now = asyncio.get_running_loop().time
        self._ends_at = self._now() + limits[Phase.WHOLE]
        self.phase = Phase.QUEUE
        self.timeout = asyncio.timeout_at(self._ends_at)
        self.is_kept = False
        self.answer: Answer | None = None

    def enter(self, phase: Phase) -> None:
        """Wait for this from now on."""
        at = self._now() + self._limits[phase]
        # Who waits for a connection has said nothing yet, be it that the time of the whole ends first.
        self.phase = phase if at < self._ends_at or phase is Phase.QUEUE else Phase.WHOLE
        self.timeout.reschedule(min(at, self._ends_at))

    @property
    def said(self) -> str:
        """Which limit it ran out of."""
        return self.phase.format(self._limits[self.phase])

    def answered(self, more: str) -> Answer | None:
        """What the head said, and what came of the rest; None without a head."""
        return self.answer and msgspec.structs.replace(self.answer, said=self.answer.said + more)


# That of the attempt that runs. aiohttp tells of it to its traces alone, and not where a request is written.
_WATCH: ContextVar[_Watch] = ContextVar("watch")


def _tracing() -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(_connecting)
    tracing.on_connection_create_end.append(_connected)
    tracing.on_connection_reuseconn.append(_kept)
    return tracing


async def _connecting(*_: object) -> None:
    _WATCH.get().enter(Phase.CONNECT)


async def _connected(*_: object) -> None:
    _WATCH.get().is_kept = False
    _WATCH.get().enter(Phase.ANSWER)


async def _kept(*_: object) -> None:
    _WATCH.get().is_kept = True
    _WATCH.get().enter(Phase.ANSWER)


# What happened, for a person.


def _cause_of(error: Exception) -> BaseException:
    return error.__cause__ if isinstance(error, aiohttp.ClientConnectorError) and error.__cause__ else error


def _is_ours(error: Exception) -> bool:
    """Whether it was for want of something here that nothing reached the subscriber."""
    cause = _cause_of(error)
    return isinstance(cause, Crowded) or (isinstance(cause, OSError) and cause.errno in NO_FILES)


def _said_of(error: Exception) -> str:
    cause = _cause_of(error)
    return next((say(cause) for kind, say in SAYINGS if isinstance(cause, kind)), f"failed: {type(cause).__name__}")


def _of_system(error: Any) -> str:  # noqa: ANN401 - an OSError, whose number may be missing
    return os.strerror(error.errno).lower() if error.errno else f"failed: {type(error).__name__}"


# The first kind that an error is says what happened.
SAYINGS: Iterable[tuple[type[BaseException], Callable[[Any], str]]] = (
    (SettingsError, str),
    (Undialled, str),
    (Crowded, str),
    (socket.gaierror, lambda _: "its name cannot be looked up"),
    (ssl.SSLCertVerificationError, lambda error: f"its certificate does not hold: {error.verify_message}"),
    (ssl.SSLError, lambda error: f"no TLS with it: {error.reason or 'the connection ended'}"),
    (aiohttp.ServerDisconnectedError, lambda _: "the connection was closed without an answer"),
    (aiohttp.ClientResponseError, lambda _: "what it answered is no HTTP, or its head is too large"),
    (OSError, _of_system),
)
