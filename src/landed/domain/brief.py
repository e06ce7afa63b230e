"""Receipts in brief: what one has in common with very many others is its *kind*, and is there once.

The fold reads millions of receipts that differ in little but their message. What follows from a kind alone, such as
most columns of a row, is worked out once for all of them.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from landed.domain.receipt import Api, Receipt, Status

# Kinds, and what follows from them, that are remembered: one for each network, sender, state and code.
KINDS_REMEMBERED_MAX = 4_096


class Kind(msgspec.Struct, frozen=True, kw_only=True, gc=False, eq=False):
    """All that a receipt says but of which message, to whom and when; fields as in `Receipt`.

    `account` is whose receipt it is. Of two that say the same each is one of its own: comparing them would cost more
    than remembering a second one.
    """

    account: str
    api: Api
    channel: str | None
    status: Status
    provider_status: str
    sender: str | None = None
    network: str | None = None
    code: str | None = None
    detail: str | None = None
    zone_assumed: bool = False
    price: Decimal | None = None
    currency: str | None = None
    segments: int | None = None
    api_key: str | None = None
    verified: bool = False
    stale: bool = False


class Brief(msgspec.Struct, frozen=True, gc=False):
    """A receipt, without `raw`, that tells of no segments, no workflow and no part."""

    kind: Kind
    message_id: str
    to: str | None
    client_ref: str | None
    occurred_at: datetime | None
    pushed_at: datetime | None = None

    @property
    def receipt(self) -> Receipt:
        """The same at length."""
        kind = self.kind
        return Receipt(
            api=kind.api,
            message_id=self.message_id,
            channel=kind.channel,
            status=kind.status,
            provider_status=kind.provider_status,
            to=self.to,
            sender=kind.sender,
            network=kind.network,
            code=kind.code,
            detail=kind.detail,
            client_ref=self.client_ref,
            occurred_at=self.occurred_at,
            pushed_at=self.pushed_at,
            zone_assumed=kind.zone_assumed,
            price=kind.price,
            currency=kind.currency,
            segments=kind.segments,
            api_key=kind.api_key,
            verified=kind.verified,
            stale=kind.stale,
        )
