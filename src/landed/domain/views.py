"""What is read from outside, by the names that the command line, the API and events share."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from landed.domain.lifecycle import Fact, Message, Source
from landed.domain.networks import country_of
from landed.domain.numbers import phone_number
from landed.domain.reasons import reason_of
from landed.domain.receipt import Inbound, Receipt
from landed.domain.worth import Knows, worth_of


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
        view = msgspec.convert(message, cls, from_attributes=True)
        reason = reason_of(message.api, message.status, message.outcome, message.provider_status, message.code)
        country = country_of(message.network, phone_number(message.channel, message.to))
        return msgspec.structs.replace(view, country=country, reason=None if reason is None else reason.slug)


class ReceiptView(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt: Vonage's words and ours. `source` is `webhook`, or `sent` for the sender's own word.

    `final` and `knows` say what the word is worth on its channel: see `landed.domain.worth`.
    """

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
    reason: str | None = None
    detail: str | None
    price: Decimal | None
    currency: str | None
    segments: int | None
    occurred_at: datetime | None
    verified: bool
    stale: bool
    final: bool = False
    knows: str = Knows.NOBODY
    received_at: datetime | None = None
    source: str = Source.WEBHOOK
    copies: int = 1

    @classmethod
    def of(cls, receipt: Receipt, received_at: datetime | None = None) -> ReceiptView:
        """The view of a receipt that was just received, or parsed only."""
        view = msgspec.convert(receipt, cls, from_attributes=True)
        reason = reason_of(receipt.api, receipt.status, receipt.outcome, receipt.provider_status, receipt.code)
        worth = worth_of(receipt.channel, receipt.provider_status, receipt.status)
        return msgspec.structs.replace(
            view,
            reason=None if reason is None else reason.slug,
            final=worth.final,
            knows=worth.knows,
            received_at=received_at,
        )

    @classmethod
    def of_fact(cls, fact: Fact) -> ReceiptView:
        """The view of a receipt that is kept."""
        view = cls.of(fact.receipt, fact.received_at)
        return msgspec.structs.replace(view, source=fact.source, copies=fact.copies)


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
        return msgspec.convert(inbound, cls, from_attributes=True)
