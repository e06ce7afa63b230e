"""The vocabulary: what one receipt and one inbound message say, in words both of Vonage's APIs share.

Everything here is frozen data. Vonage's own words stay beside ours (`provider_status`, `code`,
`raw`); a value that was absent or unusable is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec


class Api(StrEnum):
    """Which of Vonage's two APIs spoke."""

    MESSAGES = "messages"
    SMS = "sms"


class Status(StrEnum):
    """Where a message stands, in our words. Ranks and outcomes are in `lifecycle`."""

    UNRECOGNISED = "unrecognised"
    SENT = "sent"
    ACCEPTED = "accepted"
    BUFFERED = "buffered"
    UNCONFIRMED = "unconfirmed"
    FAILED = "failed"
    DELIVERED = "delivered"
    READ = "read"


class Outcome(StrEnum):
    """What an application needs to know."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"


OUTCOMES: Mapping[Status, Outcome] = {
    Status.UNRECOGNISED: Outcome.PENDING,
    Status.SENT: Outcome.PENDING,
    Status.ACCEPTED: Outcome.PENDING,
    Status.BUFFERED: Outcome.PENDING,
    Status.UNCONFIRMED: Outcome.UNCONFIRMED,
    Status.FAILED: Outcome.FAILED,
    Status.DELIVERED: Outcome.DELIVERED,
    Status.READ: Outcome.DELIVERED,
}


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One segment's own result, as the Messages API breaks down a long SMS.

    https://developer.vonage.com/en/messages/concepts/multisegment-sms-handling
    """

    provider_status: str
    occurred_at: datetime | None = None


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a failover workflow a message stands; the numbers are kept as Vonage's text."""

    workflow_id: str
    items_number: str | None = None
    items_total: str | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a long text a message is: `number` from 1, `of` so many; `group` is the first part's message id.

    Only the sender can know that. Receipts that share a reference and a recipient may be of different texts.
    """

    group: str
    number: int
    of: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What Vonage said of one message at one moment.

    Ids and references are opaque text in the sender's letter case. Datetimes are aware and UTC.
    `price` is exact, in `currency` (ISO 4217) where Vonage names one. `segments` counts the SMS
    parts. `occurred_at` is the provider's time: the Messages API's `timestamp`, the SMS API's
    `scts` (minutes only). `pushed_at` is when Vonage began to push an SMS API receipt, which
    changes on a retry. `zone_assumed` says that a time came without a zone and was taken as UTC.

    Nothing in it leads back to itself, so Python's collector need not follow each of very many.
    """

    api: Api
    message_id: str
    channel: str | None
    status: Status
    provider_status: str
    to: str | None = None
    sender: str | None = None
    network: str | None = None
    code: str | None = None
    detail: str | None = None
    client_ref: str | None = None
    occurred_at: datetime | None = None
    pushed_at: datetime | None = None
    zone_assumed: bool = False
    price: Decimal | None = None
    currency: str | None = None
    segments: int | None = None
    segment_receipts: tuple[Segment, ...] = ()
    workflow: Workflow | None = None
    part: Part | None = None
    api_key: str | None = None
    verified: bool = False
    stale: bool = False
    raw: Mapping[str, object] = {}

    @property
    def outcome(self) -> Outcome:
        """What this receipt alone would mean for the message."""
        return OUTCOMES[self.status]


class Inbound(msgspec.Struct, frozen=True, kw_only=True):
    """A message that somebody sent to one of our numbers. Kept and acknowledged, not interpreted."""

    api: Api
    message_id: str
    channel: str | None
    message_type: str | None = None
    text: str | None = None
    to: str | None = None
    sender: str | None = None
    occurred_at: datetime | None = None
    zone_assumed: bool = False
    api_key: str | None = None
    verified: bool = False
    stale: bool = False
    raw: Mapping[str, object] = {}
