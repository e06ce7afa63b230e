"""The Messages API's webhooks, v1 and v0.1: message status and inbound, parsed and rendered.

Fields: https://developer.vonage.com/en/api/messages (webhooks), and for v0.1, whose `to` and `from`
are objects, https://developer.vonage.com/en/api/messages-olympus. Names that differ between Vonage's
pages and SDKs are all taken: `count_total` and `total_count`, `items_number` and `item_number`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from landed.domain.brief import KINDS_REMEMBERED_MAX, Brief, Kind
from landed.domain.lifecycle import status_of
from landed.domain.receipt import Api, Inbound, Receipt, Segment, Workflow
from landed.vonage.request import INTEGER_DIGITS_MAX, object_of, text_of
from landed.vonage.signing import Trust
from landed.vonage.values import count_of, iso, price_of, read_time

Fields = Mapping[str, object]
Version = Literal["v1", "v0.1"]

MESSAGE_ID_NAMES = ("message_uuid",)

# v0.1's `type` of a party → v1's `channel`.
CHANNELS_OF_V01: Mapping[str, str] = {"viber_service_msg": "viber_service"}
V01_OF_CHANNELS: Mapping[str, str] = {v1: v01 for v01, v1 in CHANNELS_OF_V01.items()}
V01_IDS = frozenset({"messenger"})

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Object = dict[str, object]


class _Usage(msgspec.Struct, frozen=True, gc=False):
    price: _Text | None = None
    currency: _Text | None = None


class _Destination(msgspec.Struct, frozen=True, gc=False):
    network_code: _Text | None = None


class _UsualStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={"sender": "from"}):
    """A status as v1 writes it: all of it text, in at most a few objects."""

    message_uuid: _Text
    channel: _Text
    status: _Text
    timestamp: _Text
    to: _Text | None = None
    sender: _Text | None = None
    client_ref: _Text | None = None
    error: _Object | None = None
    usage: _Usage | None = None
    destination: _Destination | None = None
    sms: _Object | None = None
    workflow: _Object | None = None


_usual = msgspec.json.Decoder(_UsualStatus, float_hook=Decimal)
_NO_USAGE = _Usage()
_NO_DESTINATION = _Destination()


def is_inbound(fields: Fields) -> bool:
    """Whether this is somebody's message to us: it has content and no status."""
    if text_of(fields.get("status")) is not None:
        return False
    inbound = text_of(fields.get("message_type")) or object_of(fields.get("message"))
    return bool(inbound) or fields.get("direction") == "inbound"


def is_status(fields: Fields) -> bool:
    """Whether this reports on a message of ours."""
    return "status" in fields


def parse_status(fields: Fields, message_id: str, trust: Trust) -> Receipt:
    """A message status of any channel, known or not; what is odd loses only itself."""
    provider_status = text_of(fields.get("status")) or ""
    code, detail = _error(fields.get("error"))
    count, segments = _segments(fields.get("sms"))
    occurred_at, assumed = read_time(fields.get("timestamp"))
    usage = object_of(fields.get("usage"))
    return Receipt(
        api=Api.MESSAGES,
        message_id=message_id,
        channel=_channel(fields),
        status=status_of(Api.MESSAGES, provider_status, code, count, segments),
        provider_status=provider_status,
        to=_party(fields.get("to")),
        sender=_party(fields.get("from")),
        network=text_of(object_of(fields.get("destination")).get("network_code")),
        code=code,
        detail=detail,
        client_ref=text_of(fields.get("client_ref")),
        occurred_at=occurred_at,
        zone_assumed=assumed,
        price=price_of(usage.get("price")),
        currency=text_of(usage.get("currency")),
        segments=count,
        segment_receipts=segments,
        workflow=_workflow(fields.get("workflow")),
        api_key=trust.api_key,
        verified=trust.verified,
        stale=trust.stale,
        raw=fields,
    )


def usual_status(account: str, body: bytes, trust: Trust) -> Brief | None:
    """What `parse_status` makes of a JSON object of the usual shape, in brief; None for any other.

    The body has no escapes.
    """
    try:
        told = _usual.decode(body)
    except (msgspec.MsgspecError, UnicodeError, InvalidOperation, RecursionError):
        return None
    usage, network = told.usage or _NO_USAGE, (told.destination or _NO_DESTINATION).network_code
    if told.workflow or (_may_have_blanks(body) and _has_blank(told, usage.currency, network)):
        return None
    code, detail = _error(told.error) if told.error else (None, None)
    count, segments = _segments(told.sms) if told.sms else (None, ())
    if segments:
        return None
    occurred_at, assumed = read_time(told.timestamp)
    # By place, and what is read last as it came: this is asked for each receipt.
    kind = _kind(
        account,
        trust.api_key,
        trust.verified,
        trust.stale,
        told.channel,
        told.status,
        told.sender,
        network,
        code,
        detail,
        count,
        usage.price,
        usage.currency,
        assumed,
    )
    return Brief(kind, told.message_uuid, told.to, told.client_ref, occurred_at)


@lru_cache(KINDS_REMEMBERED_MAX)
def _kind(  # noqa: PLR0913, PLR0917 - all that a kind is told apart by
    account: str,
    api_key: str | None,
    verified: bool,  # noqa: FBT001 - see `usual_status`
    stale: bool,  # noqa: FBT001
    channel: str,
    provider_status: str,
    sender: str | None,
    network: str | None,
    code: str | None,
    detail: str | None,
    segments: int | None,
    price: str | None,
    currency: str | None,
    zone_assumed: bool,  # noqa: FBT001
) -> Kind:
    return Kind(
        account=account,
        api=Api.MESSAGES,
        channel=CHANNELS_OF_V01.get(channel, channel),
        status=status_of(Api.MESSAGES, provider_status, code, segments),
        provider_status=provider_status,
        sender=sender,
        network=network,
        code=code,
        detail=detail,
        zone_assumed=zone_assumed,
        price=price_of(price),
        currency=currency,
        segments=segments,
        api_key=api_key,
        verified=verified,
        stale=stale,
    )


def _has_blank(told: _UsualStatus, *others: str | None) -> bool:
    texts = (told.message_uuid, told.status, told.channel, told.to, told.sender, told.client_ref, *others)
    return any(map(str.isspace, filter(None, texts)))


def _may_have_blanks(body: bytes) -> bool:
    """Whether a text in this JSON may be nothing but blanks: it would begin with one, and line ends are not let in."""
    return b'" ' in body or not body.isascii()


def parse_inbound(fields: Fields, message_id: str, trust: Trust) -> Inbound:
    """An inbound message of any channel."""
    occurred_at, assumed = read_time(fields.get("timestamp"))
    content = object_of(object_of(fields.get("message")).get("content"))
    return Inbound(
        api=Api.MESSAGES,
        message_id=message_id,
        channel=_channel(fields),
        message_type=text_of(fields.get("message_type")) or text_of(content.get("type")),
        text=text_of(fields.get("text")) or text_of(content.get("text")),
        to=_party(fields.get("to")),
        sender=_party(fields.get("from")),
        occurred_at=occurred_at,
        zone_assumed=assumed,
        api_key=trust.api_key,
        verified=trust.verified,
        stale=trust.stale,
        raw=fields,
    )


def render_status(receipt: Receipt, version: Version = "v1") -> dict[str, object]:
    """The fields that Vonage sends for this receipt: the inverse of `parse_status`."""
    fields = _envelope(receipt, version)
    fields["status"] = receipt.provider_status
    if receipt.code is not None or receipt.detail is not None:
        fields["error"] = _rendered_error(receipt.code, receipt.detail, version)
    if receipt.client_ref is not None:
        fields["client_ref"] = receipt.client_ref
    usage = {"currency": receipt.currency, "price": None if receipt.price is None else format(receipt.price, "f")}
    _add(fields, "usage", usage)
    _add(fields, "destination", {"network_code": receipt.network})
    _add(fields, "sms", _rendered_segments(receipt))
    if receipt.workflow is not None:
        workflow = receipt.workflow
        _add(
            fields,
            "workflow",
            {
                "workflow_id": workflow.workflow_id,
                "items_number": workflow.items_number,
                "items_total": workflow.items_total,
            },
        )
    return fields


def render_inbound(inbound: Inbound, version: Version = "v1") -> dict[str, object]:
    """The fields that Vonage sends for this inbound message: the inverse of `parse_inbound`."""
    fields = _envelope(inbound, version)
    content = {"type": inbound.message_type, "text": inbound.text}
    if version == "v0.1":
        fields["direction"] = "inbound"
        _add(fields, "message", {"content": {name: value for name, value in content.items() if value is not None}})
    else:
        fields |= {"message_type": inbound.message_type or "", **({"text": inbound.text} if inbound.text else {})}
        fields["direction"] = "inbound"
    return fields


def _envelope(message: Receipt | Inbound, version: Version) -> dict[str, object]:
    fields: dict[str, object] = {"message_uuid": message.message_id}
    for name, party in (("to", message.to), ("from", message.sender)):
        if version == "v0.1":
            _add(fields, name, _rendered_party(message.channel, party))
        elif party is not None:
            fields[name] = party
    if version == "v1" and message.channel is not None:
        fields["channel"] = message.channel
    if message.occurred_at is not None:
        fields["timestamp"] = iso(message.occurred_at, zone=not message.zone_assumed)
    return fields


def _add(fields: dict[str, object], name: str, values: Mapping[str, object]) -> None:
    present = {key: value for key, value in values.items() if value is not None}
    if present:
        fields[name] = present


def _channel(fields: Fields) -> str | None:
    channel = text_of(fields.get("channel"))
    if channel is None:
        types = (text_of(object_of(fields.get(name)).get("type")) for name in ("to", "from"))
        channel = next((each for each in types if each is not None), None)
    return CHANNELS_OF_V01.get(channel, channel) if channel is not None else None


def _party(value: object) -> str | None:
    if isinstance(value, dict):
        return text_of(value.get("number")) or text_of(value.get("id"))
    return text_of(value)


def _rendered_party(channel: str | None, party: str | None) -> dict[str, object]:
    kind = None if channel is None else V01_OF_CHANNELS.get(channel, channel)
    return {"type": kind, "id" if channel in V01_IDS else "number": party}


def _error(value: object) -> tuple[str | None, str | None]:
    """The code and the text of an error.

    v1 has the code as `title`, as text or integer; where the title is words it ends the `type` URL.
    v0.1 has `code` and `reason`.
    """
    error = object_of(value)
    if not error:
        return None, None
    title = text_of(error.get("title"))
    fragment = (text_of(error.get("type")) or "").rpartition("#")[2]
    codes = (text_of(error.get("code")), title, fragment or None)
    code = next((each for each in codes if each is not None and each.isdecimal()), None) or codes[0] or title
    detail = text_of(error.get("detail")) or text_of(error.get("reason"))
    return code, detail


def _rendered_error(code: str | None, detail: str | None, version: Version) -> dict[str, object]:
    if version == "v0.1":
        error: dict[str, object] = {"code": _integer_or_text(code), "reason": detail}
    else:
        url = None if code is None else f"https://developer.vonage.com/api-errors/messages#{code}"
        error = {"type": url, "title": code, "detail": detail}
    return {name: value for name, value in error.items() if value is not None}


def _integer_or_text(code: str | None) -> int | str | None:
    is_integer = code is not None and code.isascii() and code.isdigit() and len(code) <= INTEGER_DIGITS_MAX
    return int(code or 0) if is_integer and str(int(code or 0)) == code else code


def _segments(value: object) -> tuple[int | None, tuple[Segment, ...]]:
    sms = object_of(value)
    if not sms:
        return None, ()
    count = count_of(sms.get("count_total"))
    if count is None:
        count = count_of(sms.get("total_count"))
    listed = sms.get("segments")
    segments = tuple(_segment(each) for each in listed if isinstance(each, dict)) if isinstance(listed, list) else ()
    return count if count is not None else len(segments) or None, segments


def _segment(value: Mapping[str, object]) -> Segment:
    return Segment(provider_status=text_of(value.get("status")) or "", occurred_at=read_time(value.get("timestamp"))[0])


def _rendered_segments(receipt: Receipt) -> dict[str, object]:
    if not receipt.segment_receipts:
        return {"count_total": None if receipt.segments is None else str(receipt.segments)}
    return {
        "total_count": None if receipt.segments is None else str(receipt.segments),
        "segments": [_rendered_segment(segment) for segment in receipt.segment_receipts],
    }


def _rendered_segment(segment: Segment) -> dict[str, object]:
    fields: dict[str, object] = {"status": segment.provider_status}
    if segment.occurred_at is not None:
        fields["timestamp"] = iso(segment.occurred_at)
    return fields


def _workflow(value: object) -> Workflow | None:
    fields = object_of(value)
    if not fields:
        return None
    workflow_id = _named(fields, ("workflow_id", "id"))
    if workflow_id is None:
        return None
    return Workflow(
        workflow_id=workflow_id,
        items_number=_named(fields, ("items_number", "item_number")),
        items_total=_named(fields, ("items_total", "total_items")),
    )


def _named(fields: Mapping[str, object], names: Sequence[str]) -> str | None:
    return next((text for name in names if (text := text_of(fields.get(name))) is not None), None)
