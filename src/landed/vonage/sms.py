"""The SMS API's webhooks: delivery receipt and inbound message, parsed and rendered.

The receipt's naming is inverted: `msisdn` is the recipient and `to` is the sender ID.
Fields: https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

import msgspec

from landed.domain.brief import KINDS_REMEMBERED_MAX, Brief, Kind
from landed.domain.lifecycle import status_of
from landed.domain.receipt import Api, Inbound, Receipt
from landed.vonage.request import FIELDS_MAX, as_fields, read_pairs, text_of
from landed.vonage.signing import Trust
from landed.vonage.values import REMEMBERED_MAX, iso, price_of, read_scts, read_time, scts, spaced

Fields = Mapping[str, object]

CHANNEL = "sms"
MESSAGE_ID_NAMES = ("messageId", "message-id")
ESCAPED_TIME_CHARACTERS_MAX = 60
RECEIPT_NAMES = ("status", "err-code", "scts")
INBOUND_NAMES = ("text", "keyword", "type", "data", "udh", "msisdn")

# What a query string may consist of, to become JSON by other punctuation alone.
_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$'()*,;:@/?%+&="


class _UsualReceipt(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, rename="kebab"):
    """A delivery receipt as Vonage writes it; a field that is not here may be one of these with escapes."""

    message_id: str = msgspec.field(name="messageId")
    status: str
    msisdn: str = ""
    to: str = ""
    network_code: str = ""
    price: str = ""
    scts: str = ""
    err_code: str = ""
    client_ref: str = ""
    api_key: str = ""
    message_timestamp: str = ""
    timestamp: str = ""
    nonce: str = ""
    sig: str = ""


_usual = msgspec.json.Decoder(_UsualReceipt)


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


def usual_receipt(account: str, encoded: bytes, trust: Trust) -> Brief | None:
    """What `parse_receipt` makes of a usual query string or form, in brief; None for any other."""
    if encoded.translate(None, _PLAIN) or encoded.count(b"&") >= FIELDS_MAX:
        return None
    # Of a repeated name the first stands here, and the last in JSON.
    fields = b'","'.join(encoded.split(b"&")[::-1]).replace(b"=", b'":"')
    try:
        told = _usual.decode(b'{"' + fields + b'"}')
    except msgspec.MsgspecError:
        return None
    message_id, status, to, network, code = told.message_id, told.status, told.msisdn, told.network_code, told.err_code
    plain = message_id + status + to + network + code + told.scts
    if not message_id or not status or _is_escaped(plain) or len(told.message_timestamp) > ESCAPED_TIME_CHARACTERS_MAX:
        return None
    sender, client_ref, api_key = told.to, told.client_ref, told.api_key
    if _is_escaped(sender + client_ref + api_key):
        sender, client_ref, api_key = map(_unescaped, (sender, client_ref, api_key))
    occurred_at = read_scts(told.scts)
    pushed_at, assumed = read_escaped_time(told.message_timestamp)
    # By place, and the price as it came: this is asked for each receipt.
    kind = _kind(
        account,
        trust.api_key or api_key or None,
        trust.verified,
        trust.stale,
        status,
        sender or None,
        network or None,
        code or None,
        told.price,
        assumed or occurred_at is not None,
    )
    return Brief(kind, message_id, to or None, client_ref or None, occurred_at, pushed_at)


@lru_cache(KINDS_REMEMBERED_MAX)
def _kind(  # noqa: PLR0913, PLR0917 - all that a kind is told apart by
    account: str,
    api_key: str | None,
    verified: bool,  # noqa: FBT001 - see `usual_receipt`
    stale: bool,  # noqa: FBT001
    provider_status: str,
    sender: str | None,
    network: str | None,
    code: str | None,
    price: str,
    zone_assumed: bool,  # noqa: FBT001
) -> Kind:
    return Kind(
        account=account,
        api=Api.SMS,
        channel=CHANNEL,
        status=status_of(Api.SMS, provider_status, code),
        provider_status=provider_status,
        sender=sender,
        network=network,
        code=code,
        zone_assumed=zone_assumed,
        price=price_of(_unescaped(price)),
        api_key=api_key,
        verified=verified,
        stale=stale,
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


def _is_escaped(text: str) -> bool:
    return "%" in text or "+" in text


def _unescaped(text: str) -> str:
    """The text of a value; empty when it is blank. Totally: an odd escape is text."""
    if not _is_escaped(text):
        return text
    (value,) = as_fields(read_pairs(b"=" + text.encode())).values()
    return text_of(value) or ""


# In a query string each time has escapes, so it is remembered with them.
@lru_cache(REMEMBERED_MAX)
def read_escaped_time(text: str) -> tuple[datetime | None, bool]:
    """As `read_time`, of a time as it stands in a query string."""
    return read_time(_unescaped(text))


def _pushed(time: datetime | None, *, zone: bool) -> str | None:
    if time is None:
        return None
    return iso(time) if zone else spaced(time)
