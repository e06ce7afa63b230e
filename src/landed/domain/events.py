"""What an application hears: which events a message calls for, who wants them, and what they carry.

Events are a set that only grows. A message calls for those that its state stands for, closed downwards: `read`
implies `delivered`, and what was delivered was accepted. `failed` and `unconfirmed` are not called for while the
state is `delivered` or `read`, and a verified end that overturns an unverified one calls for `message.conflict` beside
its own. Two states of one message differ in what they call for, and the difference is said once: an event's id is a
hash of whose it is and of its type, so nothing is said twice, whatever comes twice.

An event says *that* something happened; the message in it is as it stands at the moment of telling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

import msgspec

from landed.domain.lifecycle import RANKS, Fact, Message, Source, greatest
from landed.domain.meanings import REASONS, Kind
from landed.domain.reasons import reason_of
from landed.domain.receipt import OUTCOMES, Outcome, Status
from landed.domain.views import InboundView, MessageView, ReceiptView


class EventType(StrEnum):
    """What may be told."""

    ACCEPTED = "message.accepted"
    DELIVERED = "message.delivered"
    READ = "message.read"
    FAILED = "message.failed"
    UNCONFIRMED = "message.unconfirmed"
    CONFLICT = "message.conflict"
    INBOUND = "inbound.received"
    QUARANTINE = "quarantine.growing"


# In the order in which they are said when one receipt calls for several.
MESSAGE_TYPES = (
    EventType.ACCEPTED,
    EventType.FAILED,
    EventType.UNCONFIRMED,
    EventType.CONFLICT,
    EventType.DELIVERED,
    EventType.READ,
)
# Told only to who names it: it comes with nearly every message, and says nothing of its end.
ONLY_BY_NAME = frozenset({EventType.ACCEPTED})

NOTHING: frozenset[EventType] = frozenset()
CALLED_FOR: Mapping[Status, frozenset[EventType]] = {
    Status.UNRECOGNISED: NOTHING,
    Status.SENT: NOTHING,
    Status.ACCEPTED: frozenset({EventType.ACCEPTED}),
    Status.BUFFERED: frozenset({EventType.ACCEPTED}),
    Status.UNCONFIRMED: frozenset({EventType.UNCONFIRMED}),
    Status.FAILED: frozenset({EventType.FAILED}),
    Status.DELIVERED: frozenset({EventType.ACCEPTED, EventType.DELIVERED}),
    Status.READ: frozenset({EventType.ACCEPTED, EventType.DELIVERED, EventType.READ}),
}
CALLED_FOR_IN_CONFLICT: Mapping[Status, frozenset[EventType]] = {
    status: called | {EventType.CONFLICT} for status, called in CALLED_FOR.items()
}
ENDS: Mapping[EventType, Outcome] = {
    EventType.DELIVERED: Outcome.DELIVERED,
    EventType.READ: Outcome.DELIVERED,
    EventType.FAILED: Outcome.FAILED,
    EventType.UNCONFIRMED: Outcome.UNCONFIRMED,
}

FEW_WORDS = 8
ID_PREFIX = "evt_"
ID_BYTES = 16

_Data_co = TypeVar("_Data_co", covariant=True)


def called_for(facts: Collection[Fact]) -> frozenset[EventType]:
    """The events that a message calls for, by all that is known of it; in whatever order it became known."""
    if len(facts) == 1:
        (fact,) = facts
        return CALLED_FOR[fact.receipt.status] if fact.source is Source.WEBHOOK else NOTHING
    if not facts:
        return NOTHING
    top = greatest(facts)
    outcomes = {fact.receipt.outcome for fact in facts}
    is_conflict = {Outcome.DELIVERED, Outcome.FAILED} <= outcomes or _overturns(top, facts)
    return CALLED_FOR_IN_CONFLICT[top.receipt.status] if is_conflict else CALLED_FOR[top.receipt.status]


def _overturns(top: Fact, facts: Iterable[Fact]) -> bool:
    """Whether a verified end stands where an unverified, greater one would stand if it were verified."""
    if not top.receipt.verified or top.receipt.outcome is Outcome.PENDING:
        return False
    return any(
        not fact.receipt.verified
        and fact.receipt.outcome not in (Outcome.PENDING, top.receipt.outcome)
        and RANKS[fact.receipt.status] > RANKS[top.receipt.status]
        for fact in facts
    )


def cause_of(event: EventType, facts: Collection[Fact]) -> Fact:
    """The receipt that an event comes from: the greatest of its outcome; of a conflict the one that came last."""
    if event is EventType.CONFLICT:
        ends = [fact for fact in facts if fact.receipt.outcome is not Outcome.PENDING]
        return max(ends, key=lambda fact: (fact.received_at, fact.key))
    outcome = ENDS.get(event)
    same = [fact for fact in facts if OUTCOMES[fact.receipt.status] is outcome]
    return same[0] if len(same) == 1 else greatest(same or facts)


def event_id(account: str, subject: str, event: EventType) -> bytes:
    """16 bytes: the event of that type of that subject, a message's id or what else it is about."""
    return hashlib.blake2b(
        f"{account}\0{subject}\0{event}".encode("utf-8", "surrogatepass"), digest_size=ID_BYTES
    ).digest()


def id_text(event: bytes) -> str:
    """An event's id as it is written: `evt_` and 32 hexadecimal digits."""
    return ID_PREFIX + event.hex()


# Who wants what.


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What of an event may be asked for beside its type; None where it has none.

    `reason` is a slug of `landed.domain.meanings`, `permanence` the reason's kind.
    """

    channel: str | None = None
    network: str | None = None
    outcome: str | None = None
    reason: str | None = None
    permanence: str | None = None

    @classmethod
    def of(cls, message: Message) -> Traits:
        """Those of a message as it stands."""
        reason = reason_of(message.api, message.status, message.outcome, message.provider_status, message.code)
        return cls(
            channel=None if message.channel is None else message.channel.lower(),
            network=message.network,
            outcome=message.outcome,
            reason=None if reason is None else reason.slug,
            permanence=None if reason is None else reason.kind,
        )


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events somebody wants: all of `events`, patterns such as `message.*`, that have one of each other list.

    An empty list asks for nothing in particular. `message.accepted` is wanted only by its whole name.
    """

    events: tuple[str, ...] = ("*",)
    channels: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    permanences: tuple[str, ...] = ()

    def types(self) -> frozenset[EventType]:
        """The types among which to choose."""
        return frozenset(event for event in EventType if any(_fits(event, pattern) for pattern in self.events))

    def takes(self, traits: Traits) -> bool:
        """Whether an event of one of the types is wanted."""
        return (
            (not self.channels or traits.channel in self.channels)
            and (not self.networks or traits.network in self.networks)
            and (not self.outcomes or traits.outcome in self.outcomes)
            and (not self.reasons or traits.reason in self.reasons)
            and (not self.permanences or traits.permanence in self.permanences)
        )


# The words that there are, where they are ours; and what those events have that are about no message, where others
# have all.
WORDS: Mapping[str, Collection[str]] = {
    "outcome": frozenset(Outcome),
    "reason": frozenset(REASONS),
    "permanence": frozenset(Kind),
}
ONLY_TRAITS: Mapping[EventType, frozenset[str]] = {
    EventType.INBOUND: frozenset({"channel"}),
    EventType.QUARANTINE: frozenset(),
}


def check_wanted(wanted: Wanted) -> Wanted:
    """The same, if there may be such events; ValueError says in a sentence what there is not."""
    for pattern in wanted.events:
        if not Wanted(events=(pattern,)).types():
            raise ValueError(f"no event is {pattern!r}{instead_of(pattern, EventType)}")
    if not wanted.events:
        raise ValueError("it asks for no event: leave it out to get all, or name some")
    asked = {
        "channel": wanted.channels,
        "network": wanted.networks,
        "outcome": wanted.outcomes,
        "reason": wanted.reasons,
        "permanence": wanted.permanences,
    }
    for trait, words in asked.items():
        if words and not any(trait in ONLY_TRAITS.get(event, asked) for event in wanted.types()):
            raise ValueError(f"{' and '.join(sorted(wanted.types()))} has no {trait} to filter by")
        for word in words:
            if trait in WORDS and word not in WORDS[trait]:
                raise ValueError(f"no {trait} is {word!r}{instead_of(word, WORDS[trait])}")
    return msgspec.structs.replace(wanted, channels=tuple(channel.lower() for channel in wanted.channels))


def instead_of(word: str, known: Iterable[str]) -> str:
    """What was meant, perhaps; or all there are where they are few. To follow a sentence."""
    words = sorted(map(str, known))
    if close := get_close_matches(word, words, n=1):
        return f": {close[0]!r} is meant, perhaps"
    return f": there are {', '.join(words)}" if len(words) <= FEW_WORDS else ": see docs/reasons.md"


def _fits(event: EventType, pattern: str) -> bool:
    return event == pattern if event in ONLY_BY_NAME else fnmatchcase(event, pattern)


# What they carry.


class ReasonView(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message is where it is. `permanence` is a kind of `landed.domain.meanings`, `retry_seconds` when to retry.

    `retry_seconds` is None where no later try helps.
    """

    slug: str
    permanence: str
    move: str
    meaning: str
    advice: str
    retry_seconds: int | None


class MessageData(msgspec.Struct, frozen=True, kw_only=True):
    """The message as it stands now, the receipt that the event comes from, and the reason where something is wrong."""

    account: str
    message: MessageView
    receipt: ReceiptView
    reason: ReasonView | None


class InboundData(msgspec.Struct, frozen=True, kw_only=True):
    """A message that somebody sent to one of our numbers."""

    account: str
    inbound: InboundView


class QuarantineData(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests are in quarantine, how many came since the last time that was said, and why, by reason."""

    held: int
    came: int
    reasons: dict[str, int]


Data = MessageData | InboundData | QuarantineData


class Event(msgspec.Struct, Generic[_Data_co], frozen=True, kw_only=True):
    """One event, as it is sent. `timestamp` is when landed understood what it says; it stays, as the id does."""

    id: str
    type: EventType
    timestamp: datetime
    data: _Data_co


AnyEvent = Event[Data]

_of_message = msgspec.json.Decoder(Event[MessageData])
_DECODE: Mapping[EventType, Callable[[bytes], AnyEvent]] = {
    **dict.fromkeys(MESSAGE_TYPES, _of_message.decode),
    EventType.INBOUND: msgspec.json.Decoder(Event[InboundData]).decode,
    EventType.QUARANTINE: msgspec.json.Decoder(Event[QuarantineData]).decode,
}
_encoder = msgspec.json.Encoder()

encode_event = _encoder.encode


class _Typed(msgspec.Struct, frozen=True):
    type: EventType


_typed = msgspec.json.Decoder(_Typed)


def decode_event(body: bytes) -> AnyEvent:
    """An event from its JSON; raises msgspec.MsgspecError for what is none."""
    return _DECODE[_typed.decode(body).type](body)


def message_data(message: Message, cause: Fact) -> MessageData:
    """What an event of a message carries."""
    reason = reason_of(message.api, message.status, message.outcome, message.provider_status, message.code)
    return MessageData(
        account=message.account,
        message=MessageView.of(message),
        receipt=ReceiptView.of_fact(cause),
        reason=None
        if reason is None
        else ReasonView(
            slug=reason.slug,
            permanence=reason.kind,
            move=reason.move,
            meaning=reason.meaning,
            advice=reason.advice,
            retry_seconds=reason.retry_seconds,
        ),
    )
