"""What is read from outside, by the names that the command line and the API share."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from landed.domain.lifecycle import Fact, Message
from landed.domain.receipt import Inbound, Receipt


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """A message as a reading command prints it under `--json`."""

    message_id: str
    outcome: str
    status: str
    provider_status: str
    api: str
    channel: str | None
    to: str | None
    sender: str | None = msgspec.field(name="from")
    client_ref: str | None
    network: str | None
    country: str | None = None
    code: str | None
    reason: str | None = None
    conflict: bool
    verified: bool
    receipts: int
    sent_at: datetime | None
    first_at: datetime | None
    final_at: datetime | None
    latency_ms: int | None
    price: Decimal | None
    currency: str | None

    @classmethod
    def of(cls, message: Message) -> MessageView:
        """The view of a message."""
        return cls(
            message_id=message.message_id,
            outcome=message.outcome,
            status=message.status,
            provider_status=message.provider_status,
            api=message.api,
            channel=message.channel,
            to=message.to,
            sender=message.sender,
            client_ref=message.client_ref,
            network=message.network,
            code=message.code,
            conflict=message.conflict,
            verified=message.verified,
            receipts=message.receipts,
            sent_at=message.sent_at,
            first_at=message.first_at,
            final_at=message.final_at,
            latency_ms=message.latency_ms,
            price=message.price,
            currency=message.currency,
        )


class ReceiptView(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt: Vonage's words and ours. `source` is `webhook`, or `sent` for the sender's own word."""

    message_id: str
    outcome: str
    status: str
    provider_status: str
    api: str
    channel: str | None
    to: str | None
    sender: str | None = msgspec.field(name="from")
    client_ref: str | None
    network: str | None
    code: str | None
    detail: str | None
    price: Decimal | None
    currency: str | None
    segments: int | None
    occurred_at: datetime | None
    received_at: datetime | None
    verified: bool
    stale: bool
    source: str
    copies: int

    @classmethod
    def of(cls, receipt: Receipt, *, received_at: datetime | None, source: str, copies: int) -> ReceiptView:
        """The view of a receipt that was just received."""
        return cls(
            message_id=receipt.message_id,
            outcome=receipt.outcome,
            status=receipt.status,
            provider_status=receipt.provider_status,
            api=receipt.api,
            channel=receipt.channel,
            to=receipt.to,
            sender=receipt.sender,
            client_ref=receipt.client_ref,
            network=receipt.network,
            code=receipt.code,
            detail=receipt.detail,
            price=receipt.price,
            currency=receipt.currency,
            segments=receipt.segments,
            occurred_at=receipt.occurred_at,
            received_at=received_at,
            verified=receipt.verified,
            stale=receipt.stale,
            source=source,
            copies=copies,
        )

    @classmethod
    def of_fact(cls, fact: Fact) -> ReceiptView:
        """The view of a receipt that is kept."""
        return cls.of(fact.receipt, received_at=fact.received_at, source=fact.source, copies=fact.copies)


class InboundView(msgspec.Struct, frozen=True, kw_only=True):
    """One inbound message."""

    message_id: str
    api: str
    channel: str | None
    message_type: str | None
    text: str | None
    to: str | None
    sender: str | None = msgspec.field(name="from")
    occurred_at: datetime | None
    verified: bool
    stale: bool

    @classmethod
    def of(cls, inbound: Inbound) -> InboundView:
        """The view of an inbound message."""
        return cls(
            message_id=inbound.message_id,
            api=inbound.api,
            channel=inbound.channel,
            message_type=inbound.message_type,
            text=inbound.text,
            to=inbound.to,
            sender=inbound.sender,
            occurred_at=inbound.occurred_at,
            verified=inbound.verified,
            stale=inbound.stale,
        )
