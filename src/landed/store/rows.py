"""What a row of the store's tables says, and how it is written: messages, receipts, inbound messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from landed.domain.brief import Kind
from landed.domain.events import EventType, event_id
from landed.domain.lifecycle import Fact, Message, Source
from landed.domain.moments import microseconds, moment, shared_microseconds
from landed.domain.receipt import OUTCOMES, Api, Inbound, Outcome, Part, Receipt, Segment, Status, Workflow
from landed.domain.rollups import price_text
from landed.domain.sending import Sending, SendState
from landed.store import Kept, KeptInbound
from landed.store.outbox import Said

GENERATION_BITS = 16
# A batch's messages are looked for and then written.
HASHES_REMEMBERED_MAX = 8_192

MESSAGE_COLUMNS = (
    "id, generation, key, account, message_id, outcome, status, provider_status, api, channel, recipient, sender, "
    "client_ref, network, code, conflict, verified, receipts, seen_us, sent_us, first_us, final_us, price, currency, "
    "segments, group_id, part, parts"
)
RECEIPT_COLUMNS = "id, message, key, position, source, copies, received_us, told, first_position"
INBOUND_COLUMNS = (
    "key, position, copies, received_us, account, message_id, api, channel, message_type, text, recipient, sender, "
    "occurred_us, zone_assumed, api_key, verified, stale, first_position"
)
SENDING_COLUMNS = (
    "id, position, at_us, account, api, channel, recipient, sender, client_ref, batch, number, state, parts, reason, "
    "detail"
)
EVENT_COLUMNS = "e.seq, e.type, e.at_us, e.account, e.subject, e.receipt, e.cause, e.data, " + ", ".join(
    f"m.{column}" for column in MESSAGE_COLUMNS.split(", ")
)

# As they are kept; a number that was given to a type is never given to another.
EVENT_NUMBERS: Mapping[EventType, int] = {
    EventType.ACCEPTED: 1,
    EventType.DELIVERED: 2,
    EventType.READ: 3,
    EventType.FAILED: 4,
    EventType.UNCONFIRMED: 5,
    EventType.CONFLICT: 6,
    EventType.INBOUND: 7,
    EventType.QUARANTINE: 8,
}

# The kind of a message whose row is yet to be told.
NO_KIND = 0
NO_KIND_ROW = (NO_KIND, "", "", "", "", "", None, None, None, None, False, False, None, None, None)

WEBHOOK = Source.WEBHOOK.value

Value = str | bytes | int | None
Row = tuple[Any, ...]

_parts: msgspec.json.Decoder[tuple[tuple[int, str], ...]] = msgspec.json.Decoder(tuple[tuple[int, str], ...])


class _More(msgspec.Struct, frozen=True, omit_defaults=True):
    """The seldom fields of a receipt, as JSON."""

    detail: str | None = None
    segments: tuple[Segment, ...] = ()
    workflow: Workflow | None = None
    part: Part | None = None


_more = msgspec.json.Decoder(_More)
_NOTHING_MORE = _More()

packed = msgspec.msgpack.Encoder().encode
# By the type that SQLite gives: what an older landed wrote in columns became JSON when it was brought forward.
_UNPACKED: Mapping[type, Callable[[Any], list[Any]]] = {bytes: msgspec.msgpack.decode, str: msgspec.json.decode}


@lru_cache(HASHES_REMEMBERED_MAX)
def hash_of(message_id: str) -> int:
    """The 64-bit hash that a message is looked up by."""
    digest = hashlib.blake2b(message_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _us(time: datetime | None) -> int | None:
    return None if time is None else microseconds(time)


def _time(us: int | None) -> datetime | None:
    return None if us is None else moment(us)


def _text(price: Decimal | None) -> str | None:
    return price_text(price) or None


def _price(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def message_row(row: int, message: Message) -> Row:
    """A message as its table has it."""
    return (
        row,
        row >> GENERATION_BITS,
        hash_of(message.message_id),
        message.account,
        message.message_id,
        message.outcome,
        message.status,
        message.provider_status,
        message.api,
        message.channel,
        message.to,
        message.sender,
        message.client_ref,
        message.network,
        message.code,
        message.conflict,
        message.verified,
        message.receipts,
        microseconds(message.seen_at),
        _us(message.sent_at),
        _us(message.first_at),
        _us(message.final_at),
        _text(message.price),
        message.currency,
        message.segments,
        *_part_columns(message.part),
    )


def _part_columns(part: Part | None) -> Row:
    return (None, None, None) if part is None else (part.group, part.number, part.of)


def numbered_row(row: int, message_id: str) -> Row:
    """A new message that gets its number among those of one receipt, and all that it says from its `message_row`."""
    return (row >> GENERATION_BITS, hash_of(message_id), message_id, None, None, 0, NO_KIND)


def kind_row(number: int, kind: Kind) -> Row:
    """What the rows of all messages have in common of which the only receipt is of that kind."""
    outcome = OUTCOMES[kind.status]
    return (
        number,
        kind.account,
        outcome,
        kind.status,
        kind.provider_status,
        kind.api,
        kind.channel,
        kind.sender,
        kind.network,
        kind.code,
        kind.verified,
        outcome is not Outcome.PENDING,
        _text(kind.price),
        kind.currency,
        kind.segments,
    )


def message_of_row(row: Row) -> Message:
    """A message from its row."""
    return Message(
        account=row[3],
        message_id=row[4],
        outcome=Outcome(row[5]),
        status=Status(row[6]),
        provider_status=row[7],
        api=Api(row[8]),
        channel=row[9],
        to=row[10],
        sender=row[11],
        client_ref=row[12],
        network=row[13],
        code=row[14],
        conflict=bool(row[15]),
        verified=bool(row[16]),
        receipts=row[17],
        seen_at=moment(row[18]),
        sent_at=_time(row[19]),
        first_at=_time(row[20]),
        final_at=_time(row[21]),
        price=_price(row[22]),
        currency=row[23],
        segments=row[24],
        part=None if row[25] is None else Part(group=row[25], number=row[26], of=row[27]),
    )


def receipt_row(message: int, kept: Kept) -> Row:
    """A receipt, or the sender's own word, as its table has it."""
    fact = kept.fact
    said = (kept.row, message, fact.key, kept.position, fact.source, fact.copies, microseconds(fact.received_at))
    return (*said, _told(fact.receipt), kept.first_position)


def told_of_kind(kind: Kind) -> tuple[Row, Row]:
    """What the receipts of a kind tell before the recipient, and behind the times, as `_told` has it.

    As plain text: whoever packs a member of an enumeration asks first what it is.
    """
    api, status = kind.api.value, kind.status.value
    detail = None if kind.detail is None else msgspec.json.encode(_More(kind.detail)).decode()
    price = _text(kind.price)
    return (
        (api, kind.channel, status, kind.provider_status, kind.code, kind.network),
        (kind.zone_assumed, price, kind.currency, kind.segments, kind.api_key, kind.verified, kind.stale, detail),
    )


def _told(receipt: Receipt) -> bytes:
    told = (
        receipt.api,
        receipt.channel,
        receipt.status,
        receipt.provider_status,
        receipt.code,
        receipt.network,
        receipt.to,
        receipt.sender,
        receipt.client_ref,
        shared_microseconds(receipt.occurred_at),
        shared_microseconds(receipt.pushed_at),
        receipt.zone_assumed,
        _text(receipt.price),
        receipt.currency,
        receipt.segments,
        receipt.api_key,
        receipt.verified,
        receipt.stale,
        _seldom(receipt),
    )
    return packed(told)


def _seldom(receipt: Receipt) -> str | None:
    if receipt.detail is None and receipt.workflow is None and receipt.part is None and not receipt.segment_receipts:
        return None
    more = _More(receipt.detail, receipt.segment_receipts, receipt.workflow, receipt.part)
    return msgspec.json.encode(more).decode()


def kept_of_row(row: Row, message_id: str) -> Kept:
    """A receipt from its row, which does not bear its message's id."""
    told = _UNPACKED[type(row[7])](row[7])
    more = _NOTHING_MORE if told[18] is None else _more.decode(told[18])
    receipt = Receipt(
        api=Api(told[0]),
        message_id=message_id,
        channel=told[1],
        status=Status(told[2]),
        provider_status=told[3],
        code=told[4],
        network=told[5],
        to=told[6],
        sender=told[7],
        client_ref=told[8],
        occurred_at=_time(told[9]),
        pushed_at=_time(told[10]),
        zone_assumed=bool(told[11]),
        price=_price(told[12]),
        currency=told[13],
        segments=told[14],
        api_key=told[15],
        verified=bool(told[16]),
        stale=bool(told[17]),
        detail=more.detail,
        segment_receipts=more.segments,
        workflow=more.workflow,
        part=more.part,
    )
    fact = Fact(receipt=receipt, key=row[2], received_at=moment(row[6]), source=Source(row[4]), copies=row[5])
    return Kept(row=row[0], position=row[3], first_position=row[8], fact=fact)


def unreadable_row(position: int, at: datetime, reason: str) -> Row:
    """A request that could not be read, as its table has it."""
    return (position, microseconds(at), reason)


def sending_row(sending: Sending) -> Row:
    """A send as its table has it."""
    return (
        sending.id,
        sending.position,
        microseconds(sending.at),
        sending.account,
        sending.api,
        sending.channel,
        sending.to,
        sending.sender,
        sending.client_ref,
        sending.batch,
        sending.number,
        int(sending.state),
        msgspec.json.encode(sending.parts).decode(),
        sending.reason,
        sending.detail,
    )


def sending_of_row(row: Row) -> Sending:
    """A send from its row."""
    return Sending(
        id=row[0],
        position=row[1],
        at=moment(row[2]),
        account=row[3],
        api=row[4],
        channel=row[5],
        to=row[6],
        sender=row[7],
        client_ref=row[8],
        batch=row[9],
        number=row[10],
        state=SendState(row[11]),
        parts=_parts.decode(row[12]),
        reason=row[13],
        detail=row[14],
    )


def key_of(event: bytes) -> int:
    """The number that an event is looked up by: the beginning of its id."""
    return int.from_bytes(event[:8], "big", signed=True)


def event_row(seq: int, at_us: int, said: Said) -> Row:
    """An event of the fold's as its table has it."""
    return (
        seq >> GENERATION_BITS,
        key_of(event_id(said.account, said.subject, said.type)),
        EVENT_NUMBERS[said.type],
        at_us,
        said.account,
        said.subject,
        said.message,
        said.receipt,
        said.cause,
        "",
    )


def inbound_row(kept: KeptInbound) -> Row:
    """An inbound message as its table has it."""
    inbound = kept.inbound
    return (
        kept.key,
        kept.position,
        kept.copies,
        microseconds(kept.received_at),
        kept.account,
        inbound.message_id,
        inbound.api,
        inbound.channel,
        inbound.message_type,
        inbound.text,
        inbound.to,
        inbound.sender,
        _us(inbound.occurred_at),
        inbound.zone_assumed,
        inbound.api_key,
        inbound.verified,
        inbound.stale,
        kept.first_position,
    )


def inbound_of_row(row: Row) -> KeptInbound:
    """An inbound message from its row."""
    inbound = Inbound(
        message_id=row[5],
        api=Api(row[6]),
        channel=row[7],
        message_type=row[8],
        text=row[9],
        to=row[10],
        sender=row[11],
        occurred_at=_time(row[12]),
        zone_assumed=bool(row[13]),
        api_key=row[14],
        verified=bool(row[15]),
        stale=bool(row[16]),
    )
    return KeptInbound(
        key=row[0],
        position=row[1],
        first_position=row[17],
        copies=row[2],
        received_at=moment(row[3]),
        account=row[4],
        inbound=inbound,
    )
