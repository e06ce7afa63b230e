"""Events to a NATS subject: with a stream's acknowledgement where a stream keeps the subject, else to the server.

A server that acknowledges has it for certain. In core NATS it is the server that has it, and whoever listens at that
moment; the answer says so. Of a repeat a stream keeps one copy, as long as its duplicate window: `Nats-Msg-Id` is the
event's id, the same at each attempt. What a person asked for (a replay, a sample) bears an id of its own each time,
since whoever asks twice wants it twice; a lost acknowledgement of such a one may put it there twice.

There is one connection for each server and who one is there. None is mended behind our back: a connection that was
lost or gave no answer is let go of, and the next letter opens another. nats-py is imported when it is first used.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import socket
import ssl
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from landed.domain.events import EventType
from landed.errors import SettingsError, SurroundingsError
from landed.settings import EventSettings
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Answer, Letter

if TYPE_CHECKING:
    from nats.aio.client import Client

EXAMPLE = "nats://events.example.com/landed.events.{type}"
PLACE = "{type}"
SCHEMES = ("nats", "tls")
PORT = 4222
HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+")
SUBJECT_CHARACTERS_MAX = 255
ADDRESS_CHARACTERS_MAX = 2_048

CONNECTIONS_MAX = 32
SUBJECTS_REMEMBERED_MAX = 256
# A stream may be made while we are connected; until we ask again, what is published is kept by it, unacknowledged.
NO_STREAM_SECONDS = 30.0
ASK_SECONDS_MAX = 2.0
CLOSE_SECONDS_MAX = 1.0

# https://github.com/nats-io/nats-server/blob/main/server/errors.json
NO_JETSTREAM_CODES = frozenset({None, 10039, 10076})

HIDDEN = "•••"
SECRET_CHARACTERS_MIN = 6
STORED = "stored by stream {stream}"
STORED_BEFORE = "stored by stream {stream} before"
NOT_STORED = "published; no stream keeps it"
HUNG_UP = "the server hung up; it may not know that user or token"
NOT_KNOWN = "published; the server does not say whether a stream keeps it"

# What may be wrong with a subject, `{type}` in it replaced.
# https://docs.nats.io/nats-concepts/subjects
WRONG_IN_SUBJECT: Mapping[str, str] = {
    r"^$": "has no subject after its host",
    r"/": "has a slash in its subject, which is parted by dots",
    r"[*>]": "has a wildcard (* or >) in its subject, and those are for who listens",
    r"[^\x21-\x7e]": "has a blank in its subject, or a letter that is not ASCII",
    r"^\.|\.\.|\.$": "has a dot too many in its subject",
    r"[{}]": "has braces in its subject, of which only {type} is known",
    r"^(\$|_INBOX\.)": "has a subject that the server keeps for itself",
}

_Result = TypeVar("_Result")


class NatsAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where to publish. `server` is a URL without who one is there; `subject` may have `{type}` in it."""

    server: str
    subject: str
    user: str | None = None
    password: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"NatsAddress({self.server!r}, {self.subject!r})"

    @property
    def who(self) -> tuple[str | None, ...]:
        """What one connection is for."""
        return self.server, self.user, self.password, self.token

    def subject_of(self, event: EventType) -> str:
        """The subject for events of a type."""
        return self.subject.replace(PLACE, event)


def read_nats_url(text: str) -> NatsAddress:
    """`nats://[user:password@|token@]host[:4222]/subject`, or `tls://`; SettingsError, without a secret, for others."""
    address = text.strip()
    parts = _parts(address)
    host, port = _host(parts), _port(parts)
    user, password = parts.username, parts.password
    if password is not None and not user:
        raise _wrong("has a password and no user")
    return NatsAddress(
        server=f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}",
        subject=_subject(parts),
        user=None if password is None else unquote(user or ""),
        password=None if password is None else unquote(password),
        token=unquote(user) if user and password is None else None,
    )


def _wrong(what: str) -> SettingsError:
    return SettingsError(f"That NATS address {what}; one looks like {EXAMPLE}.")


def _parts(address: str) -> SplitResult:
    if len(address) > ADDRESS_CHARACTERS_MAX:
        raise _wrong(f"is longer than {ADDRESS_CHARACTERS_MAX} characters")
    # urlsplit would drop line ends without a word.
    if not address.isprintable():
        raise _wrong("has line ends or control characters in it")
    try:
        parts = urlsplit(address)
    except ValueError:
        raise _wrong("is no URL") from None
    if parts.scheme not in SCHEMES:
        raise _wrong("begins with neither nats:// nor tls://")
    if "?" in address or "#" in address:
        raise _wrong("has ? or # in it, which a password has as %3F or %23")
    return parts


def _host(parts: SplitResult) -> str:
    if not parts.hostname or not HOST.fullmatch(parts.hostname) or "," in parts.netloc.rpartition("@")[2]:
        raise _wrong("names no host, or several")
    return parts.hostname


def _port(parts: SplitResult) -> int:
    try:
        port = PORT if parts.port is None else parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _wrong("has a port that is none")
    return port


def _subject(parts: SplitResult) -> str:
    subject = unquote(parts.path.removeprefix("/"))
    if len(subject) > SUBJECT_CHARACTERS_MAX:
        raise _wrong(f"has a subject longer than {SUBJECT_CHARACTERS_MAX} characters")
    filled = subject.replace(PLACE, EventType.DELIVERED)
    for pattern, what in WRONG_IN_SUBJECT.items():
        if re.search(pattern, filled):
            raise _wrong(what)
    return subject


def headers_of(letter: Letter, at_ns: int) -> dict[str, str]:
    """What is sent beside the body. `at_ns` tells one asked-for copy of an event from another."""
    headers = {
        "Nats-Msg-Id": letter.id,
        "Landed-Event-Id": letter.id,
        "Landed-Event-Type": letter.type.value,
        "Landed-Attempt": str(letter.attempt),
        "Content-Type": "application/json",
    }
    for word, is_so in (("replay", letter.is_replay), ("sample", letter.is_sample)):
        if is_so:
            headers |= {"Nats-Msg-Id": f"{letter.id}.{word}.{at_ns}", f"Landed-{word.title()}": "true"}
    return headers


class Nats:
    """The carrier to NATS."""

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        # The one used longest ago first.
        self._links: dict[tuple[str | None, ...], asyncio.Task[_Link]] = {}

    async def carry(self, address: str, secrets: Sequence[str], letters: Sequence[Letter]) -> Answer:
        """Publish letters; taken when all of them are with a stream or, where none keeps the subject, the server."""
        began = time.perf_counter()
        taken, said, hidden = False, "", list(secrets)
        try:
            where = read_nats_url(address)
            hidden += [each for each in (where.user, where.password, where.token) if each]
            async with asyncio.timeout(self._settings.whole_seconds_max):
                taken, said = True, await self._published(where, letters)
        except Exception as error:  # noqa: BLE001 - whatever came of it is an answer, by the contract
            said = _words(error)
        return Answer(taken=taken, said=_clean(said, hidden), took_seconds=time.perf_counter() - began)

    async def close(self) -> None:
        """Let go of all connections."""
        links, self._links = list(self._links.values()), {}
        for opening in links:
            opening.cancel()
        await asyncio.gather(*map(_let_go, links))

    async def _published(self, where: NatsAddress, letters: Sequence[Letter]) -> str:
        link = await self._link(where)
        link.users += 1
        try:
            said = ""
            for letter in letters:
                said = await link.publish(where.subject_of(letter.type), letter)
            return said
        finally:
            link.users -= 1

    async def _link(self, where: NatsAddress) -> _Link:
        """The connection to a server, opened if need be; all that wait for it share its opening and its failing."""
        opening = self._links.pop(where.who, None)
        if opening is not None and not _is_usable(opening):
            await _let_go(opening)
            opening = None
        if opening is None:
            await self._make_room()
            # Somebody else may have begun meanwhile.
            opening = self._links.pop(where.who, None) or self._begin(where)
        self._links[where.who] = opening
        return await asyncio.shield(opening)

    def _begin(self, where: NatsAddress) -> asyncio.Task[_Link]:
        opening = asyncio.create_task(_open(where, self._settings))
        opening.add_done_callback(_look)
        return opening

    async def _make_room(self) -> None:
        while len(self._links) >= CONNECTIONS_MAX:
            idle = next((who for who, opening in self._links.items() if _is_idle(opening)), None)
            if idle is None:
                raise SurroundingsError(f"{CONNECTIONS_MAX} connections to NATS are in use already")
            await _let_go(self._links.pop(idle))


class _Link:
    """One connection, and what is known of the streams behind it."""

    def __init__(self, client: Client, seconds_max: float) -> None:
        self.client = client
        self.users = 0
        self.problem: Exception | None = None
        self._seconds_max = seconds_max
        self._streams = client.jetstream(timeout=min(ASK_SECONDS_MAX, seconds_max))
        # By subject: whether a stream keeps it, None where that may not be asked; and until when to believe it.
        self._kept: dict[str, tuple[bool | None, float]] = {}
        self._lost = asyncio.Event()
        self._problems = 0
        self._doubtful = False

    @property
    def is_usable(self) -> bool:
        """Whether another letter may go by it."""
        return self.client.is_connected and not self._lost.is_set() and not self._doubtful

    async def heard(self, error: Exception) -> None:
        """Remember what went wrong, in place of the client's own logging of it."""
        self.problem = error
        self._problems += 1

    async def lost(self) -> None:
        """Fail what is on its way: the client would wait for answers that cannot come any more."""
        self._lost.set()

    async def close(self) -> None:
        """Let go of it, soon."""
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await self.client.close()
        self._lost.set()

    async def publish(self, subject: str, letter: Letter) -> str:
        """Publish a letter, and say in a few words where it is now."""
        return await self._unless_lost(self._published(subject, letter.body, headers_of(letter, time.time_ns())))

    async def _published(self, subject: str, body: bytes, headers: dict[str, str]) -> str:
        from nats.js.errors import NoStreamResponseError  # noqa: PLC0415 - an extra

        if await self._is_kept(subject):
            try:
                return await self._stored(subject, body, headers)
            except NoStreamResponseError:
                # The stream went away, or takes other subjects now.
                del self._kept[subject]
                if await self._is_kept(subject):
                    raise
        return await self._sent(subject, body, headers)

    async def _is_kept(self, subject: str) -> bool | None:
        clock = asyncio.get_running_loop().time
        kept, until = self._kept.get(subject, (None, -math.inf))
        if clock() > until:
            problems = self._problems
            kept = await self._asked(subject)
            if len(self._kept) >= SUBJECTS_REMEMBERED_MAX:
                self._kept.clear()
            # To ask what one may not ask is a problem each time, and delays what waits for the answer.
            is_for_good = kept or self._problems != problems
            self._kept[subject] = kept, (math.inf if is_for_good else clock() + NO_STREAM_SECONDS)
        return kept

    async def _asked(self, subject: str) -> bool | None:
        from nats.js.errors import NotFoundError, ServiceUnavailableError  # noqa: PLC0415 - an extra

        try:
            await self._streams.find_stream_name_by_subject(subject)
        except NotFoundError:
            return False
        except ServiceUnavailableError as error:
            # There are streams, but not now: published without one, the event could be lost.
            if error.err_code not in NO_JETSTREAM_CODES:
                raise
            return False
        except TimeoutError:
            # A server does not answer what one may not ask.
            return None
        return True

    async def _stored(self, subject: str, body: bytes, headers: dict[str, str]) -> str:
        try:
            # The client writes into the headers that it is given.
            ack = await self._streams.publish(subject, body, timeout=self._seconds_max, headers=dict(headers))
        except TimeoutError:
            self._doubtful = True
            if self.problem is not None:
                raise SurroundingsError(f"no acknowledgement; the server said {_words(self.problem)}") from None
            raise
        return (STORED_BEFORE if ack.duplicate else STORED).format(stream=ack.stream)

    async def _sent(self, subject: str, body: bytes, headers: dict[str, str]) -> str:
        problems = self._problems
        await self.client.publish(subject, body, headers=headers)
        try:
            # Not `flush`, which asks nothing once a task of the client has ended.
            async with asyncio.timeout(self._seconds_max):
                await self.client.rtt(math.ceil(self._seconds_max) + 1)
        except BaseException:
            # The client takes a late answer to a question that was given up for a reason to stop reading.
            self._doubtful = True
            raise
        # A publication that is not allowed is told before the answer to what was asked after it.
        if self._problems != problems and self.problem is not None:
            raise SurroundingsError(f"the server said {_words(self.problem)}")
        return NOT_STORED if self._kept.get(subject, (None,))[0] is False else NOT_KNOWN

    async def _unless_lost(self, work: Coroutine[None, None, _Result]) -> _Result:
        doing, losing = asyncio.ensure_future(work), asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({doing, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise SurroundingsError("the connection was lost before the server had it for certain")
            return doing.result()
        finally:
            doing.cancel()
            losing.cancel()
            await asyncio.gather(doing, losing, return_exceptions=True)


async def _open(where: NatsAddress, settings: EventSettings) -> _Link:
    """A new connection; SurroundingsError says why there is none."""
    client = _client()
    link = _Link(client, settings.first_byte_seconds_max)
    try:
        async with asyncio.timeout(settings.connect_seconds_max):
            await _connect(client, link, where, settings)
    except BaseException as error:
        problem = link.problem
        await link.close()
        if isinstance(error, Exception):
            raise SurroundingsError(f"not connected: {_why_not(error, problem)}") from None
        raise
    return link


def _why_not(error: Exception, problem: Exception | None) -> str:
    """Why there is no connection. The client says of several attempts only that none came through."""
    if isinstance(error, ConnectionError):
        # Connected, but not for long: what the server said last is lost when it hangs up at once.
        return HUNG_UP
    return _words(error if problem is None or isinstance(error, SurroundingsError) else problem)


async def _connect(client: Client, link: _Link, where: NatsAddress, settings: EventSettings) -> None:
    def secured() -> None:
        # The client connects without TLS to who does not ask for it, whatever the address says.
        if where.server.startswith("tls:") and not client._server_info.get("tls_required"):  # noqa: SLF001
            raise SurroundingsError("the server speaks no TLS")

    def told(text: str) -> str:
        secured()
        return text

    user, token = where.user, where.token
    await client.connect(
        where.server,
        error_cb=link.heard,
        closed_cb=link.lost,
        name="landed",
        allow_reconnect=False,
        # Of attempts to connect: none at all would be without end.
        max_reconnect_attempts=1,
        reconnect_time_wait=0,
        # Ours is the limit; the client's would make another attempt.
        connect_timeout=math.ceil(settings.connect_seconds_max) + 1,
        # It writes at once, so that a ping never overtakes what was published before it.
        pending_size=1,
        user=None if user is None else lambda: told(user),
        password=where.password,
        token=None if token is None else lambda: told(token),
    )
    secured()
    if not client.is_connected:
        raise ConnectionResetError


def _client() -> Client:
    # It logs what it is told, too; what matters of that is in answers.
    logging.getLogger("nats").setLevel(logging.CRITICAL + 1)
    try:
        from nats.aio.client import Client  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise SettingsError("Events to NATS need nats-py: pip install 'landed[nats]'.") from error
    return Client()


def _is_usable(opening: asyncio.Task[_Link]) -> bool:
    return not opening.done() or (not _failed(opening) and opening.result().is_usable)


def _is_idle(opening: asyncio.Task[_Link]) -> bool:
    return opening.done() and (_failed(opening) or opening.result().users == 0)


def _failed(opening: asyncio.Task[_Link]) -> bool:
    return opening.cancelled() or opening.exception() is not None


def _look(opening: asyncio.Task[_Link]) -> None:
    """See how it ended, so that it is not told as never seen when all that waited have gone."""
    _failed(opening)


async def _let_go(opening: asyncio.Task[_Link]) -> None:
    await asyncio.wait({opening})
    if not _failed(opening):
        await opening.result().close()


def _words(error: BaseException) -> str:
    """What went wrong, in the words of who said it."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        # asyncio has another text there, without what went wrong.
        return os.strerror(error.errno)
    text = str(error).removeprefix("nats: ").strip(" '")
    return text or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _clean(said: str, hidden: Sequence[str]) -> str:
    for each in sorted(filter(None, hidden), key=len, reverse=True):
        # A short one is hidden where it stands alone, and not in the middle of words.
        pattern = re.escape(each) if len(each) >= SECRET_CHARACTERS_MIN else rf"(?<!\w){re.escape(each)}(?!\w)"
        said = re.sub(pattern, HIDDEN, said)
    return "".join(each if each.isprintable() else " " for each in said)[:ANSWER_CHARACTERS_MAX]
