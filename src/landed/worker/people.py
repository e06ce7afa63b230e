"""Events to people, by mail, chat or text message: one digest of however many there are, sent through Apprise.

The digest is counts, reasons with what to do about them, and a few examples. Numbers are masked in it, what others
wrote is on one line each, and it fits what the service takes: the worst comes first, and the rest is a number.

Apprise is imported when it is first used, which takes a while, and it blocks; so all of it happens in threads of our
own, which are bounded in number and hold up no exit. Who comes when all of them are busy waits for one, and was not
tried when none came. It gets one try: to try again is the dispatch's. What was sent but not answered in time is sent
again, so people may read it twice. An address may name a service, and nothing on this machine: no file, no template, no
keys.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from landed.domain.events import EventType, InboundData, MessageData, QuarantineData, ReasonView
from landed.domain.networks import network_of
from landed.domain.numbers import masked
from landed.errors import SettingsError
from landed.settings import EventSettings
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Answer, Letter
from landed.worker.threads import Crowded, Threads

if TYPE_CHECKING:
    from apprise import AppriseAsset, NotifyBase

EXAMPLE = "mailto://user:password@example.com"
FORMS = "https://appriseit.com/services/"
ADDRESS_CHARACTERS_MAX = 2_048
# Each is one service that hangs, for no longer than its own limits as a rule; what is well takes seconds.
SENDS_MAX = 32

TITLE_CHARACTERS_MAX = 100
# Discord takes 2,000 characters, and some of what is sent grows on the way, as it is escaped.
BODY_CHARACTERS_MAX = 1_600
BODY_CHARACTERS_MIN = 140
FIELD_CHARACTERS_MAX = 64
EXAMPLES_MAX = 10
REASONS_MAX = 3
NETWORKS_MAX = 3
WORDS_IN_TITLE_MAX = 3

# Parameters by which a service reads a file, by Apprise's names for what was parsed.
FILES = frozenset({"keyfile", "subfile", "pgp_key", "pgp_privkey"})
# Parameters that would have Apprise try again, take a failure for success, or choose among services.
NOT_TAKEN_OVER = frozenset({"retry", "wait", "optional", "tag"})

# Of each type, worst first: how many there are, and what one of them is.
WORDS: Mapping[EventType, str] = {
    EventType.FAILED: "failed",
    EventType.UNCONFIRMED: "unconfirmed",
    EventType.CONFLICT: "in conflict",
    EventType.QUARANTINE: "about the quarantine",
    EventType.INBOUND: "inbound",
    EventType.READ: "read",
    EventType.DELIVERED: "delivered",
    EventType.ACCEPTED: "accepted",
}
TITLES: Mapping[EventType, str] = {
    EventType.FAILED: "message to {party} failed",
    EventType.UNCONFIRMED: "message to {party} unconfirmed",
    EventType.CONFLICT: "receipts disagree about the message to {party}",
    EventType.QUARANTINE: "{held} requests in quarantine",
    EventType.INBOUND: "message from {party}",
    EventType.READ: "message to {party} read",
    EventType.DELIVERED: "message to {party} delivered",
    EventType.ACCEPTED: "message to {party} accepted",
}
RANKS: Mapping[EventType, int] = {event: rank for rank, event in enumerate(WORDS)}
TROUBLE = frozenset({EventType.FAILED, EventType.UNCONFIRMED})

HIDDEN = "•••"
BETWEEN_SECRETS = re.compile(r"[/:@?&=#,;+|\s]+")
# A shorter secret is hidden where it stands alone, and not in the middle of words.
SECRET_CHARACTERS_MIN = 6


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What people read of many events."""

    title: str
    body: str


class _Line(msgspec.Struct, frozen=True):
    """A line of a digest; `shows` says of how many events it tells by itself."""

    text: str
    shows: int = 0


def _field(text: str | None) -> str:
    """What somebody else wrote, on one line and not for long."""
    shown = "".join(each if each.isprintable() else "\ufffd" for each in (text or "?")[:FIELD_CHARACTERS_MAX])
    return shown + ("…" if text and len(text) > FIELD_CHARACTERS_MAX else "")


def _party(text: str | None) -> str:
    # Masked before it is cut, since what is left of a number is none any more.
    return _field(masked((text or "?")[: 2 * FIELD_CHARACTERS_MAX]))


# The digest.


def digest_of(letters: Sequence[Letter], characters_max: int = BODY_CHARACTERS_MAX) -> Digest:
    """One message for all of these letters, its body within a number of characters."""
    ordered = sorted(letters, key=lambda letter: (RANKS[letter.type], letter.at))
    lines = _lines_of_one(ordered[0]) if len(ordered) == 1 else _lines(ordered)
    return Digest(title=_title(ordered), body=_fitted(lines, len(ordered), characters_max))


def _fitted(lines: Iterable[_Line], events: int, characters_max: int) -> str:
    """As many lines as fit, and how many events none of them shows."""
    taken: list[str] = []
    left = characters_max - len(f"… and {events} more")
    for line in lines:
        left -= len(line.text) + 1
        if left < 0:
            break
        taken.append(line.text)
        events -= line.shows
    if events > 0:
        taken.append(f"… and {events} more")
    return "\n".join(taken)


def _title(letters: Sequence[Letter]) -> str:
    what = _title_of_one(letters[0]) if len(letters) == 1 else _title_of_many(letters)
    mark = ""
    if all(letter.is_sample for letter in letters):
        mark = " (sample)"
    elif all(letter.is_replay for letter in letters):
        mark = " (again)"
    title = f"landed{mark}: {what}"
    return title if len(title) <= TITLE_CHARACTERS_MAX else title[: TITLE_CHARACTERS_MAX - 1] + "…"


def _title_of_one(letter: Letter) -> str:
    data = letter.event.data
    if isinstance(data, QuarantineData):
        return TITLES[letter.type].format(held=data.held)
    party = data.inbound.sender if isinstance(data, InboundData) else data.message.to
    title = TITLES[letter.type].format(party=_party(party))
    return f"{title}: {_why(data)}" if letter.type in TROUBLE and isinstance(data, MessageData) else title


def _title_of_many(letters: Sequence[Letter]) -> str:
    counts = Counter(letter.type for letter in letters)
    if len(counts) == 1:
        return f"{len(letters)} events, all {WORDS[letters[0].type]}"
    words = [f"{counts[event]} {word}" for event, word in WORDS.items() if event in counts]
    dots = ", …" if len(words) > WORDS_IN_TITLE_MAX else ""
    return f"{len(letters)} events: {', '.join(words[:WORDS_IN_TITLE_MAX])}{dots}"


def _lines_of_one(letter: Letter) -> Iterator[_Line]:
    yield _Line(_example(letter), 1)
    data = letter.event.data
    if isinstance(data, MessageData):
        if data.message.network:
            yield _Line(f"Network: {_network(data.message.network)}")
        if data.reason is not None:
            yield _Line(f"{data.reason.meaning} {data.reason.advice}")


def _lines(letters: Sequence[Letter]) -> Iterator[_Line]:
    yield _Line(_span([letter.at for letter in letters]))
    yield from _marks(letters)
    yield _Line("")
    yield from _counts(letters)
    troubled = [
        data for letter in letters if isinstance(data := letter.event.data, MessageData) and _is_trouble(letter)
    ]
    yield from _reasons(troubled)
    yield from _networks(troubled)
    yield _Line("")
    yield from (_Line(_example(letter), 1) for letter in letters[:EXAMPLES_MAX])


def _is_trouble(letter: Letter) -> bool:
    return letter.type in TROUBLE


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _span(times: Sequence[datetime]) -> str:
    first, last = _clock(min(times)), _clock(max(times))
    if first == last:
        return f"{first} UTC"
    is_one_day = first[:10] == last[:10]
    return f"{first} to {last[11:] if is_one_day else last} UTC"


def _marks(letters: Sequence[Letter]) -> Iterator[_Line]:
    replays = sum(letter.is_replay for letter in letters)
    samples = sum(letter.is_sample for letter in letters)
    if replays:
        yield _Line(f"Asked for again by a person: {replays}.")
    if samples:
        yield _Line(f"Samples, which never happened: {samples}.")


def _counts(letters: Sequence[Letter]) -> Iterator[_Line]:
    counts = Counter(letter.type for letter in letters)
    width = len(str(max(counts.values())))
    return (_Line(f"{counts[event]:>{width}} {event}") for event in WORDS if event in counts)


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The greatest first; what is as great by its name, so that one digest is always the same."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def _reasons(troubled: Sequence[MessageData]) -> Iterator[_Line]:
    if not troubled:
        return
    counts = _most(Counter(_why(data) for data in troubled))
    views: dict[str, ReasonView] = {data.reason.slug: data.reason for data in troubled if data.reason is not None}
    yield _Line("")
    yield _Line("Why they failed, or are unconfirmed:")
    for why, count in counts[:REASONS_MAX]:
        view = views.get(why)
        yield _Line(f"{count} {why}" + ("" if view is None else f": {view.meaning} {view.advice}"))
    if len(counts) > REASONS_MAX:
        yield _Line(f"{sum(count for _, count in counts[REASONS_MAX:])} for other reasons")


def _networks(troubled: Sequence[MessageData]) -> Iterator[_Line]:
    counts = _most(Counter(data.message.network for data in troubled if data.message.network))
    if counts:
        named = ", ".join(f"{_network(code)} {count}" for code, count in counts[:NETWORKS_MAX])
        yield _Line("")
        yield _Line(f"Networks most hit: {named}")


def _network(code: str) -> str:
    network = network_of(code)
    return _field(code if network.operator is None else f"{network.operator} ({code})")


def _why(data: MessageData) -> str:
    # The message is as it stands now, which may be better than when the event was said.
    return f"now {data.message.outcome}" if data.reason is None else _field(data.reason.slug)


def _example(letter: Letter) -> str:
    marks = (" (again)" if letter.is_replay else "") + (" (sample)" if letter.is_sample else "")
    return f"{_clock(letter.at)} {letter.type}{marks} {_about(letter)}"


def _about(letter: Letter) -> str:
    data = letter.event.data
    if isinstance(data, QuarantineData):
        reasons = ", ".join(f"{_field(reason)} {count}" for reason, count in _most(data.reasons)[:REASONS_MAX])
        return f"{data.held} held, {data.came} new" + (f": {reasons}" if reasons else "")
    if isinstance(data, InboundData):
        inbound = data.inbound
        return f"from {_party(inbound.sender)} to {_party(inbound.to)}, id {_field(inbound.message_id)}"
    why = f", {_why(data)}" if _is_trouble(letter) else ""
    return f"to {_party(data.message.to)}{why}, id {_field(data.message.message_id)}"


# Sending it.


def read_people_url(text: str) -> str:
    """The name of the service that an Apprise URL is of; SettingsError, without a secret, where it is of none."""
    return str(_service(text, connect_seconds_max=1.0, read_seconds_max=1.0).service_name)


class People:
    """The carrier to people. It belongs to one loop."""

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        self._threads = Threads("messages to people", SENDS_MAX)

    async def carry(self, address: str, secrets: Sequence[str], letters: Sequence[Letter]) -> Answer:
        """Send one digest of all letters; taken when the service says that it took it.

        It may take twice as long as a whole answer may: to wait for a thread, and then for the service.
        """
        began = time.perf_counter()
        answer = await self._sent(address, letters) if letters else Answer(taken=True, said="there was nothing to tell")
        said = _scrubbed(answer.said, address, secrets)
        return msgspec.structs.replace(answer, said=said, took_seconds=time.perf_counter() - began)

    async def close(self) -> None:
        """Wait for nothing: what is on its way ends by its own time limits, or with the process."""

    async def _sent(self, address: str, letters: Sequence[Letter]) -> Answer:
        seconds = self._settings.whole_seconds_max
        try:
            sending = await self._threads.start(partial(_send, address, letters, self._settings), seconds)
            async with asyncio.timeout(seconds):
                taken, said = await asyncio.wrap_future(sending)
        except Crowded as error:
            return Answer(taken=False, said=str(error), is_untried=True)
        except TimeoutError:
            return Answer(taken=False, said=f"no answer within {seconds:g} s")
        return Answer(taken=taken, said=said)


def _send(address: str, letters: Sequence[Letter], settings: EventSettings) -> tuple[bool, str]:
    """Whether a digest was taken, and what is said of that; it never raises."""
    try:
        service = _service(
            address,
            connect_seconds_max=settings.connect_seconds_max,
            read_seconds_max=settings.first_byte_seconds_max,
        )
        return _notified(service, letters)
    except SettingsError as error:
        return False, str(error)
    except BaseException as error:  # noqa: BLE001 - whatever a service's own code does is an answer, by the contract
        return False, f"the service's code failed: {type(error).__name__}"


def _notified(service: NotifyBase, letters: Sequence[Letter]) -> tuple[bool, str]:
    from apprise import Apprise, NotifyFormat, NotifyType  # noqa: PLC0415 - an extra

    digest = digest_of(letters, _characters_max(service))
    apprise = Apprise(asset=service.asset)
    apprise.add(service)
    is_trouble = any(_is_trouble(letter) for letter in letters)
    result = apprise.notify(
        title=digest.title,
        body=digest.body,
        body_format=NotifyFormat.TEXT,
        notify_type=NotifyType.WARNING if is_trouble else NotifyType.INFO,
    )
    if result:
        return True, f"taken by {service.service_name}"
    logged = dict.fromkeys(entry.message for entry in result.logs())
    return False, " ".join(logged) or f"{service.service_name} did not take it"


def _characters_max(service: NotifyBase) -> int:
    """How long a body may be for a service, some of which have the title in it."""
    is_title_inside = service.title_maxlen <= 0 or service.overflow_amalgamate_title
    left = service.body_maxlen - (TITLE_CHARACTERS_MAX + 1 if is_title_inside else 0)
    return max(BODY_CHARACTERS_MIN, min(left, BODY_CHARACTERS_MAX))


def _service(text: str, *, connect_seconds_max: float, read_seconds_max: float) -> NotifyBase:
    """Apprise's service behind a URL. Its own settings of the URL hold, but for what would be ours to decide."""
    _be_quiet()
    try:
        from apprise import Apprise, AppriseAttachment, plugins  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise SettingsError("To tell people needs Apprise: pip install 'landed[alerts]'.") from error
    address = text.strip()
    if len(address) > ADDRESS_CHARACTERS_MAX or " " in address or not address.isprintable():
        raise _wrong("has blanks or line ends in it, or is too long")
    parsed: dict[str, object] | None = plugins.url_to_dict(address)  # type: ignore[no-untyped-call] # Apprise's
    if parsed is None:
        raise _wrong("is of no service that it knows")
    if any(parsed.get(name) for name in FILES & parsed.keys()):
        raise _wrong("names a file, and none is read for an address")
    kept = {name: value for name, value in parsed.items() if name not in NOT_TAKEN_OVER}
    # What is too long after all is cut by Apprise, not refused by the service.
    limits = {"overflow": "truncate", "cto": connect_seconds_max, "rto": read_seconds_max}
    service = None
    # Told to raise, it does not log what it was given, secrets and all.
    with suppress(Exception):
        service = Apprise.instantiate(kept | limits, asset=_asset(), suppress_exceptions=False)
    if service is None:
        raise _wrong("is incomplete, or its service needs a library that is not installed")
    # Whatever a service calls the parameter, this is how Apprise reads files and fetches what is elsewhere.
    if any(isinstance(value, AppriseAttachment) and len(value) for value in vars(service).values()):
        raise _wrong("names a file, and none is read for an address")
    return service


def _wrong(what: str) -> SettingsError:
    return SettingsError(f"That Apprise address {what}; one looks like {EXAMPLE}, and all are at {FORMS}.")


def _asset() -> AppriseAsset:
    """How Apprise behaves: in this thread, once, with nothing on this machine's disk."""
    from apprise import AppriseAsset  # noqa: PLC0415 - an extra

    return AppriseAsset(
        app_id="landed",
        app_desc="landed",
        async_mode=False,
        # Without a time limit of its own it stays in our thread.
        service_timeout=0,
        storage_mode="memory",
        allow_templates=False,
        pgp_autogen=False,
        pem_autogen=False,
        # What is redirected becomes a GET, whose 200 says nothing of the message.
        http_redirects=False,
    )


def _be_quiet() -> None:
    """Let Apprise log to whoever captures it for an answer, and nowhere else: it names hosts and recipients."""
    logger = logging.getLogger("apprise")
    if logger.propagate:
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.WARNING)
        # By which it asks; that one logs paths, which may be secrets.
        logging.getLogger("urllib3").setLevel(logging.WARNING)


def _scrubbed(said: str, address: str, secrets: Sequence[str]) -> str:
    """What was said, without any part of the address, numbers or line ends."""
    rest = address.strip().partition("://")[2]
    parts = {part for text in (rest, unquote(rest)) for part in BETWEEN_SECRETS.split(text)}
    hidden = sorted({address, rest, *parts, *secrets} - {""}, key=len, reverse=True)
    if hidden:
        said = re.sub("|".join(map(_pattern, hidden)), HIDDEN, said, flags=re.IGNORECASE)
    said = "".join(each if each.isprintable() else " " for each in masked(said))
    return said[:ANSWER_CHARACTERS_MAX]


def _pattern(secret: str) -> str:
    escaped = re.escape(secret)
    return escaped if len(secret) >= SECRET_CHARACTERS_MIN else rf"(?<!\w){escaped}(?!\w)"
