"""The life of a message. No other file may decide what a state is or move one.

A message's state is a join, not a machine. Receipts come late, twice and in any order, so:

1. `STATES` maps (API, status word), with its conditions on code and segments, to one of our states.
2. `RANKS` orders the states. A fact's *order* is (verified, rank, provider's time, receipt key).
3. The message's state is that of its greatest fact; every other field comes from the greatest fact
   that has it, except `code`, which explains a state and so comes from facts of the same state.
4. Of facts with one receipt key the greatest by (verified, hash of its facts) is kept.

A maximum over a set does not see order or repetition, so neither can matter, and there is no
transition that could fail. Delivered outranks failed because acting twice costs more than not
acting; a message that has both is flagged `conflict`.

Our own word that a message was sent is no claim about its arrival: it is the lowest of all, so that
it never stands in the way of a receipt that could not be verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Context, Decimal
from enum import StrEnum
from functools import reduce
from typing import TypeVar

import msgspec

from landed.domain.brief import Brief
from landed.domain.moments import MILLISECOND, microseconds, shared_microseconds
from landed.domain.reasons import normal_code, says_something
from landed.domain.receipt import Api, Inbound, Outcome, Part, Receipt, Segment, Status

RANKS: Mapping[Status, int] = {
    Status.UNRECOGNISED: 0,
    Status.SENT: 1,
    Status.ACCEPTED: 2,
    Status.BUFFERED: 3,
    Status.UNCONFIRMED: 4,
    Status.FAILED: 5,
    Status.DELIVERED: 6,
    Status.READ: 7,
}

# https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts
# 0 is success, 1 and 95 say "unknown", 99 is a general error: none of them says that it failed.
CODES_WITHOUT_KNOWLEDGE = frozenset({"", "0", "1", "95", "99"})

# https://developer.vonage.com/en/messages/concepts/sms-status-callbacks
# The Messages API turns the SMS API's `expired` into 1360 and its `unknown` into 1330.
CODES_OF_EXPIRED_AND_UNKNOWN = frozenset({"1360", "1330"})

# Sums of money are never rounded.
EXACT = Context(prec=200)

TIME_MISSING_US = -(2**63)

_T = TypeVar("_T")

Condition = Callable[[str, int, Sequence[Segment]], bool]


def _failing_code(code: str, _count: int, _segments: Sequence[Segment]) -> bool:
    return normal_code(code) not in CODES_WITHOUT_KNOWLEDGE


def _nothing_known(code: str, count: int, segments: Sequence[Segment]) -> bool:
    """Whether a Messages API `rejected` may be a message that arrived.

    A long SMS is also rejected when a segment's receipt is more than five minutes late:
    https://developer.vonage.com/en/messages/concepts/multisegment-sms-handling
    """
    if normal_code(code) in CODES_OF_EXPIRED_AND_UNKNOWN:
        return True
    several = max(count, len(segments)) > 1
    return several and not says_something(code) and not any(_has_failed(segment) for segment in segments)


def _has_failed(segment: Segment) -> bool:
    """In the words of either API: the segments' own words are not written down."""
    return any(status_of(api, segment.provider_status, "") is Status.FAILED for api in Api)


# (API, word) → the state, and states that come before it when their condition holds.
STATES: Mapping[tuple[Api, str], tuple[Status, tuple[tuple[Condition, Status], ...]]] = {
    (Api.MESSAGES, "submitted"): (Status.ACCEPTED, ()),
    (Api.MESSAGES, "accepted"): (Status.ACCEPTED, ()),
    (Api.MESSAGES, "delivered"): (Status.DELIVERED, ()),
    (Api.MESSAGES, "read"): (Status.READ, ()),
    (Api.MESSAGES, "rejected"): (Status.FAILED, ((_nothing_known, Status.UNCONFIRMED),)),
    (Api.MESSAGES, "undeliverable"): (Status.FAILED, ()),
    (Api.SMS, "accepted"): (Status.ACCEPTED, ()),
    (Api.SMS, "buffered"): (Status.BUFFERED, ()),
    (Api.SMS, "delivered"): (Status.DELIVERED, ()),
    (Api.SMS, "expired"): (Status.UNCONFIRMED, ((_failing_code, Status.FAILED),)),
    (Api.SMS, "failed"): (Status.FAILED, ()),
    (Api.SMS, "rejected"): (Status.FAILED, ()),
    (Api.SMS, "unknown"): (Status.UNCONFIRMED, ()),
}


def status_of(
    api: Api,
    provider_status: str,
    code: str | None,
    segments: int | None = None,
    segment_receipts: Sequence[Segment] = (),
) -> Status:
    """Our state for Vonage's words. Total: a word not in the table is `unrecognised`."""
    state = STATES.get((api, provider_status)) or STATES.get((api, provider_status.strip().lower()))
    if state is None:
        return Status.UNRECOGNISED
    status, exceptions = state
    for condition, instead in exceptions:
        if condition((code or "").strip(), segments or 0, segment_receipts):
            return instead
    return status


class Source(StrEnum):
    """Who said it: Vonage's webhook, or the side that sent the message."""

    WEBHOOK = "webhook"
    SENT = "sent"


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One receipt as it is kept for a message: what was said, by whom, when we first heard it."""

    receipt: Receipt
    key: bytes
    received_at: datetime
    source: Source = Source.WEBHOOK
    copies: int = 1


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one message: the join of its facts.

    `receipts` counts distinct receipts. `first_at` and `final_at` are when we heard the first
    receipt and the first one with this outcome and trust; `sent_at` is the sender's own word. `latency_ms`
    is from `sent_at`, or else `first_at`, to `final_at`; None while that says nothing.
    """

    account: str
    message_id: str
    outcome: Outcome
    status: Status
    provider_status: str
    api: Api
    channel: str | None
    to: str | None
    sender: str | None
    client_ref: str | None
    network: str | None
    code: str | None
    conflict: bool
    verified: bool
    receipts: int
    seen_at: datetime
    sent_at: datetime | None
    first_at: datetime | None
    final_at: datetime | None
    price: Decimal | None
    currency: str | None
    segments: int | None
    part: Part | None = None

    @property
    def latency_ms(self) -> int | None:
        """Milliseconds until the outcome was known."""
        since = self.began_at
        if self.final_at is None or since is None or (since is not self.sent_at and since == self.final_at):
            return None
        return (self.final_at - since) // MILLISECOND

    @property
    def began_at(self) -> datetime | None:
        """When it was sent, or else first heard of, as where a send was told with a later time than its end."""
        is_usable = self.sent_at is not None and (self.final_at is None or self.sent_at <= self.final_at)
        return self.sent_at if is_usable else self.first_at


def receipt_key(account: str, receipt: Receipt) -> bytes:
    """16 bytes that are the same for every copy of one receipt, however often it is pushed.

    Vonage gives no id for an event; so: API, account, message id, status, code, provider's time.
    """
    told = (receipt.api, account, receipt.message_id, receipt.provider_status)
    return _receipt_key(told, receipt.code, receipt.occurred_at)


def brief_key(brief: Brief) -> bytes:
    """The same of a receipt in brief."""
    kind = brief.kind
    told = (kind.api, kind.account, brief.message_id, kind.provider_status)
    return _receipt_key(told, kind.code, brief.occurred_at)


def _receipt_key(told: tuple[str, ...], code: str | None, occurred_at: datetime | None) -> bytes:
    time = "" if occurred_at is None else str(shared_microseconds(occurred_at))
    # No part has a NUL in it (see `text_of`), so no two receipts tell the same.
    text = "\0".join((*told, code or "", time))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def inbound_key(account: str, inbound: Inbound) -> bytes:
    """16 bytes that are the same for every copy of one inbound message."""
    content = (inbound.message_type, inbound.text, inbound.sender, inbound.to)
    return _digest(inbound.api, account, inbound.message_id, *(part or "" for part in content))


def greater_copy(one: Fact, other: Fact) -> Fact:
    """Of two facts with one key, the one that stands, with what both together tell.

    It was first heard at the earlier time, and the copies of both are counted.
    """
    # Most copies are alike, and then there is nothing to choose.
    best = one if one.receipt == other.receipt else max(one, other, key=_copy_order)
    return msgspec.structs.replace(
        best, received_at=min(one.received_at, other.received_at), copies=one.copies + other.copies
    )


def message_of(account: str, facts: Collection[Fact]) -> Message:
    """The join of all facts about one message; `facts` are its kept ones, at least one."""
    ordered = sorted(facts, key=_order, reverse=True) if len(facts) > 1 else list(facts)
    receipts = [fact.receipt for fact in ordered]
    greatest = receipts[0]
    outcomes = {receipt.outcome for receipt in receipts}
    heard = [fact for fact in ordered if fact.source is Source.WEBHOOK]
    priced = next((receipt for receipt in receipts if receipt.price is not None), greatest)
    return Message(
        account=account,
        message_id=greatest.message_id,
        outcome=greatest.outcome,
        status=greatest.status,
        provider_status=greatest.provider_status,
        api=greatest.api,
        channel=_first([receipt.channel for receipt in receipts]),
        to=_first([receipt.to for receipt in receipts]),
        sender=_first([receipt.sender for receipt in receipts]),
        client_ref=_first([receipt.client_ref for receipt in receipts]),
        network=_first([receipt.network for receipt in receipts]),
        code=_first([receipt.code for receipt in receipts if receipt.status is greatest.status]),
        conflict=Outcome.DELIVERED in outcomes and Outcome.FAILED in outcomes,
        verified=greatest.verified,
        receipts=len(heard),
        seen_at=min([fact.received_at for fact in ordered]),
        sent_at=_earliest([fact.receipt.occurred_at for fact in ordered if fact.source is Source.SENT]),
        first_at=_earliest([fact.received_at for fact in heard]),
        final_at=None if greatest.outcome is Outcome.PENDING else _final_at(heard, greatest),
        price=priced.price,
        currency=priced.currency,
        segments=_first([receipt.segments for receipt in receipts]),
        part=_first([receipt.part for receipt in receipts]),
    )


# Of a long text the worst part decides: what lacks a part has not arrived. An open part keeps all open, until then.
OUTCOMES_WORST_FIRST = (Outcome.FAILED, Outcome.PENDING, Outcome.UNCONFIRMED, Outcome.DELIVERED)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A long text that was sent in parts, each a message of its own.

    `parts` has those that are known, in order; `outcome` is None before all `of` of them are. `price` is the sum of
    the prices that are known, None where there is none or they are in several currencies.
    """

    group: str
    of: int
    parts: tuple[Message, ...]
    outcome: Outcome | None
    conflict: bool
    price: Decimal | None
    currency: str | None

    @property
    def delivered(self) -> int:
        """How many parts were delivered."""
        return sum(part.outcome is Outcome.DELIVERED for part in self.parts)


def group_of(messages: Iterable[Message]) -> Group | None:
    """The group of these parts, in whatever order they come; None where there are none.

    Of several messages that claim one part's place, which only a mistake of the sender's makes, the worst stands.
    """
    claims = [(message.part, message) for message in messages if message.part is not None]
    if not claims:
        return None
    claims.sort(key=lambda claim: (OUTCOMES_WORST_FIRST.index(claim[1].outcome), claim[1].message_id))
    places: dict[int, Message] = {}
    for part, message in claims:
        places.setdefault(part.number, message)
    of = max(part.of for part, _ in claims)
    parts = tuple(places[number] for number in sorted(places))
    outcomes = {each.outcome for each in parts}
    prices = [each.price for each in parts if each.price is not None]
    currencies = {each.currency for each in parts if each.price is not None}
    is_summed = len(currencies) == 1
    return Group(
        group=claims[0][0].group,
        of=of,
        parts=parts,
        outcome=next(each for each in OUTCOMES_WORST_FIRST if each in outcomes) if len(parts) == of else None,
        conflict=any(each.conflict for each in parts),
        price=reduce(EXACT.add, prices) if is_summed else None,
        currency=currencies.pop() if is_summed else None,
    )


def greatest(facts: Iterable[Fact]) -> Fact:
    """The fact that a message's state comes from; at least one is given."""
    return max(facts, key=_order)


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    """Facts as a story: by the time we first heard of each, then by their order in the join."""
    return sorted(facts, key=lambda fact: (fact.received_at, _order(fact)))


def _order(fact: Fact) -> tuple[bool, int, int, bytes]:
    receipt = fact.receipt
    time_us = TIME_MISSING_US if receipt.occurred_at is None else microseconds(receipt.occurred_at)
    claims = fact.source is Source.WEBHOOK
    return (receipt.verified and claims, RANKS[receipt.status], time_us, fact.key)


def _copy_order(fact: Fact) -> tuple[bool, bytes]:
    facts = msgspec.structs.replace(fact.receipt, raw={})
    return (facts.verified, hashlib.blake2b(msgspec.msgpack.encode(facts), digest_size=16).digest())


def _final_at(heard: Iterable[Fact], greatest: Receipt) -> datetime | None:
    """When we first heard the outcome from a receipt as trusted as the one that stands."""
    return _earliest(
        [
            fact.received_at
            for fact in heard
            if fact.receipt.outcome is greatest.outcome and fact.receipt.verified is greatest.verified
        ]
    )


def _first(values: Iterable[_T | None]) -> _T | None:
    for value in values:
        if value is not None:
            return value
    return None


def _earliest(moments: Iterable[datetime | None]) -> datetime | None:
    return min([moment for moment in moments if moment is not None], default=None)


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b(_joined(*parts), digest_size=16).digest()


def _joined(*parts: str) -> bytes:
    """Parts told apart by their lengths, so that no two lists of parts join to the same bytes."""
    encoded = [part.encode(errors="surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
