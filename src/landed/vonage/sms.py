"""The SMS API's webhooks: delivery receipt and inbound message, parsed and rendered.

The receipt's naming is inverted: `msisdn` is the recipient and `to` is the sender ID.
Fields: https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from landed.domain.lifecycle import status_of
from landed.domain.receipt import Api, Inbound, Receipt
from landed.vonage.request import text_of
from landed.vonage.signing import Trust
from landed.vonage.values import iso, price_of, read_scts, read_time, scts, spaced

Fields = Mapping[str, object]

CHANNEL = "sms"
MESSAGE_ID_NAMES = ("messageId", "message-id")
RECEIPT_NAMES = ("status", "err-code", "scts")
INBOUND_NAMES = ("text", "keyword", "type", "data", "udh", "msisdn")


def is_receipt(fields: Fields) -> bool:
    """Whether this reports on a message of ours."""
    return any(name in fields for name in RECEIPT_NAMES)


def is_inbound(fields: Fields) -> bool:
    """Whether this is somebody's message to us."""
    return any(name in fields for name in INBOUND_NAMES)


def parse_receipt(fields: Fields, message_id: str, trust: Trust) -> Receipt:
    """A delivery receipt; what is odd loses only itself."""
    provider_status = text_of(fields.get("status")) or ""
    code = text_of(fields.get("err-code"))
    occurred_at = read_scts(fields.get("scts"))
    pushed_at, assumed = read_time(fields.get("message-timestamp"))
    return Receipt(
        api=Api.SMS,
        message_id=message_id,
        channel=CHANNEL,
        status=status_of(Api.SMS, provider_status, code),
        provider_status=provider_status,
        to=text_of(fields.get("msisdn")),
        sender=text_of(fields.get("to")),
        network=text_of(fields.get("network-code")),
        code=code,
        client_ref=text_of(fields.get("client-ref")),
        occurred_at=occurred_at,
        pushed_at=pushed_at,
        zone_assumed=assumed or occurred_at is not None,
        price=price_of(fields.get("price")),
        api_key=trust.api_key or text_of(fields.get("api-key")),
        verified=trust.verified,
        stale=trust.stale,
        raw=fields,
    )


def parse_inbound(fields: Fields, message_id: str, trust: Trust) -> Inbound:
    """An inbound SMS; one part of it where it came in several."""
    occurred_at, assumed = read_time(fields.get("message-timestamp"))
    return Inbound(
        api=Api.SMS,
        message_id=message_id,
        channel=CHANNEL,
        message_type=text_of(fields.get("type")),
        text=text_of(fields.get("text")) or text_of(fields.get("data")),
        to=text_of(fields.get("to")),
        sender=text_of(fields.get("msisdn")),
        occurred_at=occurred_at,
        zone_assumed=assumed,
        api_key=trust.api_key or text_of(fields.get("api-key")),
        verified=trust.verified,
        stale=trust.stale,
        raw=fields,
    )


def render_receipt(receipt: Receipt) -> dict[str, str]:
    """The fields that Vonage sends for this receipt: the inverse of `parse_receipt`."""
    fields = {
        "msisdn": receipt.to,
        "to": receipt.sender,
        "network-code": receipt.network,
        "messageId": receipt.message_id,
        "price": None if receipt.price is None else format(receipt.price, "f"),
        "status": receipt.provider_status,
        "scts": None if receipt.occurred_at is None else scts(receipt.occurred_at),
        "err-code": receipt.code,
        "api-key": receipt.api_key,
        "client-ref": receipt.client_ref,
        "message-timestamp": _pushed(receipt.pushed_at, zone=not receipt.zone_assumed),
    }
    return {name: value for name, value in fields.items() if value is not None}


def render_inbound(inbound: Inbound) -> dict[str, str]:
    """The fields that Vonage sends for this inbound SMS: the inverse of `parse_inbound`."""
    fields = {
        "msisdn": inbound.sender,
        "to": inbound.to,
        "messageId": inbound.message_id,
        "text": inbound.text,
        "type": inbound.message_type,
        "api-key": inbound.api_key,
        "message-timestamp": _pushed(inbound.occurred_at, zone=not inbound.zone_assumed),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _pushed(time: datetime | None, *, zone: bool) -> str | None:
    if time is None:
        return None
    return iso(time) if zone else spaced(time)
