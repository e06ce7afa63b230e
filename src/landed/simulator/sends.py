"""The two endpoints that take messages: what they want, and how they say no.

`POST /v1/messages` and `/v0.1/messages`: https://developer.vonage.com/en/api/messages
`POST /sms/json`: https://developer.vonage.com/en/api/sms; a long text becomes parts with an id each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from itertools import count
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from landed.domain.meanings import REASONS
from landed.domain.numbers import normal_number
from landed.domain.reasons import SMS_SEND_CODES
from landed.domain.receipt import Api
from landed.errors import SurroundingsError
from landed.simulator.credentials import Unauthorized, UnknownApplication, application_of, check_parameters
from landed.simulator.endpoints import whole
from landed.simulator.simulator import NO_CREDIT, THROTTLED, Message, Refused, Send, Simulator, segments_in
from landed.simulator.wire import target_of
from landed.vonage.messages import CHANNELS_OF_V01, Version
from landed.vonage.text import Encoding

Fields = Mapping[str, object]

NUMBER = re.compile(r"[1-9][0-9]{6,14}")
HEXADECIMAL = re.compile(r"(?:[0-9A-Fa-f]{2})*")
# https://developer.vonage.com/en/messages/concepts/whatsapp: an id in the place of a number.
WHATSAPP_ID = re.compile(r"[A-Z]{2}\.[0-9A-Za-z.]{1,60}")
CLIENT_REF_CHARACTERS_MAX = 100
ID_CHARACTERS_MAX = 50
TEXT_CHARACTERS_MAX = 3_200
CALLBACK_CHARACTERS_MAX = 100
BINARY_OCTETS_MAX = 140
SMS_TTL_MS = range(20_000, 604_800_001)
ERRORS = "https://developer.vonage.com/api-errors"

# The content that each channel takes: message types, each under a field of its own name.
TYPES: Mapping[str, frozenset[str]] = {
    "sms": frozenset({"text"}),
    "mms": frozenset({"text", "image", "vcard", "audio", "video", "file", "content"}),
    "rcs": frozenset({"text", "image", "video", "file", "card", "carousel", "custom"}),
    "whatsapp": frozenset({"text", "image", "audio", "video", "file", "template", "sticker", "reaction", "custom"}),
    "messenger": frozenset({"text", "image", "audio", "video", "file"}),
    "viber_service": frozenset({"text", "image", "video", "file"}),
}
# Characters of a text; the SMS channel's as Vonage's SDKs have it, its specification says 1,000.
TEXT_CHARACTERS: Mapping[str, int] = {
    "sms": TEXT_CHARACTERS_MAX,
    "mms": TEXT_CHARACTERS_MAX,
    "rcs": 3_072,
    "whatsapp": 4_096,
    "messenger": 640,
    "viber_service": 1_000,
}
WITH_URL = frozenset({"image", "vcard", "audio", "video", "file"})
# Seconds; where the channel has a time to live of its own, it stands in the channel's own object.
TTL_SECONDS: Mapping[str, range] = {
    "sms": range(20, 604_801),
    "mms": range(300, 259_201),
    "rcs": range(300, 2_592_001),
    "viber_service": range(30, 259_201),
}
VERSIONS: Mapping[str, Version] = {"v1": "v1", "v0.1": "v0.1"}


class Problem(NamedTuple):
    """How the Messages API says no: its status, the end of the error's address, and its title."""

    status: HTTPStatus
    fragment: str
    title: str


UNPROCESSABLE = HTTPStatus.UNPROCESSABLE_ENTITY
PROBLEMS: Mapping[str, Problem] = {
    # With the spelling that it has there.
    "credentials": Problem(HTTPStatus.UNAUTHORIZED, "/#unathorized", "You did not provide correct credentials."),
    "application": Problem(
        HTTPStatus.UNAUTHORIZED,
        "/#unprovisioned",
        "The crendentials provided do not have access to the requested product",
    ),
    "balance": Problem(HTTPStatus.PAYMENT_REQUIRED, "/#low-balance", "Low balance"),
    "json": Problem(UNPROCESSABLE, "#invalid-json", "The request body did not contain valid JSON"),
    "channel": Problem(UNPROCESSABLE, "/messages#1100", "Unsupported channel"),
    "options": Problem(UNPROCESSABLE, "/messages#1110", "Invalid channel parameters"),
    "sender": Problem(UNPROCESSABLE, "/messages#1120", "Invalid sender"),
    "recipient": Problem(UNPROCESSABLE, "/messages#110", "Invalid recipient"),
    "type": Problem(UNPROCESSABLE, "/messages#1140", "Invalid message type"),
    "content": Problem(UNPROCESSABLE, "/messages#1150", "Invalid params"),
    "client_ref": Problem(UNPROCESSABLE, "/messages#1060", "Invalid client reference"),
    "throttled": Problem(HTTPStatus.TOO_MANY_REQUESTS, "/messages#1000", "Rate Limit Hit"),
    "internal": Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "/messages#1000", "Internal error"),
}
# What the SMS API's refusals are in the Messages API; any other is a parameter that is not taken.
REFUSALS: Mapping[str, str] = {
    THROTTLED: "throttled", "2": "content", "3": "content", "4": "credentials", "5": "internal", "6": "content",
    "7": "recipient", "8": "credentials", NO_CREDIT: "balance", "12": "content", "14": "credentials", "15": "sender",
    "29": "recipient", "32": "credentials", "33": "recipient",
}  # fmt: skip


NOBODY = "Neither a known application's token nor the account's key and secret."
# With what the last part of a text is refused, to the one number of which it is.
PART_REFUSED = "5"


class Invalid(Exception):
    """A send of the Messages API that it does not take: which problem, and what is wrong with which field."""

    def __init__(self, problem: str, detail: str, field: str | None = None, reason: str | None = None) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.invalid = [{"name": field, "reason": reason or detail}] if field else None


class NotTaken(Exception):
    """A send of the SMS API that it does not take: the status, and what it says."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Sends:
    """The endpoints, in front of a simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._instances = count(1)

    async def messages(self, request: Request) -> Response:
        """`/v1/messages` and `/v0.1/messages`."""
        version: Version = "v0.1" if request.url.path.startswith("/v0.1") else "v1"
        # The older version calls a bad request so.
        status = HTTPStatus.BAD_REQUEST if version == "v0.1" else None
        try:
            application = application_of(request.headers.get("authorization"), self._simulator.account)
            fields = _json(await request.body())
            send = self._send(fields if version == "v1" else _of_v01(fields), version, application)
            sent = self._simulator.take(send)
        except UnknownApplication:
            return self._problem("application", "The token is of no application of this account.")
        except Unauthorized:
            return self._problem("credentials", NOBODY)
        except Invalid as invalid:
            return self._problem(invalid.problem, invalid.detail, invalid.invalid, status=status)
        except Refused as refused:
            problem = REFUSALS.get(refused.code, "content")
            return self._problem(problem, _meaning(refused.code), status=status, wait_ms=refused.wait_ms)
        answer = {"message_uuid": sent[0].message_id}
        if sent[0].workflow is not None:
            answer["workflow_id"] = sent[0].workflow.workflow_id
        return JSONResponse(answer, HTTPStatus.ACCEPTED)

    async def message(self, request: Request) -> Response:
        """`PATCH /v1/messages/{uuid}`: an inbound WhatsApp message was read, an RCS message is revoked."""
        try:
            application_of(request.headers.get("authorization"), self._simulator.account)
        except Unauthorized:
            return self._problem("credentials", NOBODY)
        missing = Problem(HTTPStatus.NOT_FOUND, "#not-found", "Not Found")
        if request.path_params["message_id"] not in self._simulator.messages:
            return self._answer(missing, "There is no message of that id.")
        return Response(status_code=HTTPStatus.OK)

    async def sms(self, request: Request) -> Response:
        """`/sms/json`, with its parameters in the query, a form, or JSON as Vonage's Node SDK sends."""
        fields = dict(request.query_params) | _parameters(await request.body())
        try:
            check_parameters(fields, request.headers.get("authorization"), self._simulator.account)
            sent = self._simulator.take(_sms(fields))
        except Unauthorized as unauthorized:
            return _refusal(unauthorized.code, _meaning(unauthorized.code))
        except NotTaken as not_taken:
            return _refusal(not_taken.code, not_taken.text)
        except Refused as refused:
            text = _meaning(refused.code)
            if refused.code == THROTTLED:
                text = f"Throughput Rate Exceeded - please wait [ {refused.wait_ms} ] and retry"
            return _refusal(refused.code, text)
        entries = [self._entry(message, fields.get("account-ref")) for message in sent]
        # Some of a text's parts may be taken, and others not.
        missing = segments_in(sent[0].send) - len(sent)
        entries += [{"status": PART_REFUSED, "error-text": _meaning(PART_REFUSED)}] * missing
        return JSONResponse({"message-count": str(len(entries)), "messages": entries})

    def _entry(self, message: Message, account_ref: str | None) -> dict[str, str]:
        entry = {
            "to": message.send.to,
            "message-id": message.message_id,
            "status": "0",
            "remaining-balance": f"{self._simulator.account.balance:.8f}",
            "message-price": f"{message.price:.8f}",
            "network": message.network.code,
            "client-ref": message.send.client_ref,
            "account-ref": account_ref,
        }
        return {name: value for name, value in entry.items() if value is not None}

    def _send(self, fields: Fields, version: Version, application_id: str | None) -> Send:
        failover = fields.get("failover") or []
        if not isinstance(failover, list) or not all(isinstance(each, dict) for each in failover):
            raise Invalid("content", "A failover is a list of messages.", "failover")
        application = self._simulator.account.applications.get(application_id or "")
        usual = version if version == "v0.1" or application is None else application.version or version
        if any("failover" in each for each in failover):
            raise Invalid("content", "A message of a failover has none of its own.", "failover")
        following = [_checked(each, usual, application_id, ()) for each in failover]
        return _checked(fields, usual, application_id, tuple(following))

    def _problem(
        self,
        name: str,
        detail: str,
        invalid: Sequence[Mapping[str, str]] | None = None,
        *,
        status: HTTPStatus | None = None,
        wait_ms: int = 0,
    ) -> Response:
        problem = PROBLEMS[name]
        if status is not None and problem.status is UNPROCESSABLE:
            problem = problem._replace(status=status)
        answer = self._answer(problem, detail, invalid)
        if problem.status is HTTPStatus.TOO_MANY_REQUESTS:
            answer.headers["retry-after"] = str(max(1, -(-wait_ms // 1_000)))
        return answer

    def _answer(self, problem: Problem, detail: str, invalid: Sequence[Mapping[str, str]] | None = None) -> Response:
        body: dict[str, object] = {
            "type": ERRORS + problem.fragment,
            "title": problem.title,
            "detail": detail,
            "instance": self._simulator.dice.hex(32, "instance", next(self._instances)),
        }
        if invalid:
            body["invalid_parameters"] = invalid
        return JSONResponse(body, problem.status, media_type="application/problem+json")


def _checked(fields: Fields, usual: str, application_id: str | None, failover: tuple[Send, ...]) -> Send:
    """A message as its channel wants it. Invalid says what is wrong."""
    channel, kind = fields.get("channel"), fields.get("message_type")
    if not isinstance(channel, str) or channel not in TYPES:
        raise Invalid("channel", f"The channel is one of {', '.join(TYPES)}.", "channel")
    to, sender = fields.get("to"), fields.get("from")
    is_id = isinstance(to, str) and (
        (channel == "messenger" and 1 <= len(to) <= ID_CHARACTERS_MAX)
        or (channel == "whatsapp" and WHATSAPP_ID.fullmatch(to) is not None)
    )
    if not is_id and not (isinstance(to, str) and NUMBER.fullmatch(to)):
        raise Invalid("recipient", "The recipient is a number of 7 to 15 digits, with its country code.", "to")
    if not isinstance(sender, str) or not 1 <= len(sender) <= ID_CHARACTERS_MAX:
        raise Invalid("sender", "The sender is a number or a name.", "from")
    if not isinstance(kind, str) or kind not in TYPES[channel]:
        kinds = ", ".join(sorted(TYPES[channel]))
        raise Invalid("type", f"A message by {channel} is one of {kinds}.", "message_type")
    text = _content(fields, channel, kind)
    client_ref = fields.get("client_ref")
    if client_ref is not None and not (isinstance(client_ref, str) and len(client_ref) <= CLIENT_REF_CHARACTERS_MAX):
        raise Invalid("client_ref", f"A client reference has {CLIENT_REF_CHARACTERS_MAX} characters at most.")
    version = VERSIONS.get(str(fields.get("webhook_version") or usual))
    if version is None:
        raise Invalid("content", "The version of webhooks is v1 or v0.1.", "webhook_version")
    return Send(
        api=Api.MESSAGES,
        to=str(to),
        sender=sender,
        channel=channel,
        text=text,
        encoding=_encoding(fields),
        client_ref=client_ref,
        ttl_seconds=_ttl_seconds(fields, channel),
        url=_url(fields.get("webhook_url")),
        version=version,
        application_id=application_id,
        failover=failover,
    )


def _content(fields: Fields, channel: str, kind: str) -> str:
    content = fields.get(kind)
    if kind == "text":
        most = TEXT_CHARACTERS[channel]
        if not isinstance(content, str) or not 1 <= len(content) <= most:
            raise Invalid("content", f"A text by {channel} has 1 to {most} characters.", "text")
        return content
    if not content:
        raise Invalid("content", f"A message of the type {kind} has its content there.", kind, "is required.")
    if kind in WITH_URL and not (isinstance(content, dict) and content.get("url")):
        raise Invalid("content", "The content is given by its URL.", f"{kind}.url", "is required.")
    return ""


def _encoding(fields: Fields) -> Encoding | None:
    options = fields.get("sms")
    wanted = options.get("encoding_type") if isinstance(options, dict) else None
    if wanted is None or wanted == "auto":
        return None
    with suppress(ValueError):
        return Encoding(str(wanted))
    raise Invalid("options", "The encoding is text, unicode or auto.", "sms.encoding_type")


def _ttl_seconds(fields: Fields, channel: str) -> float | None:
    options = fields.get(channel)
    own = options.get("ttl") if isinstance(options, dict) else None
    ttl = fields.get("ttl", own)
    allowed = TTL_SECONDS.get(channel)
    if ttl is None or allowed is None:
        return None
    if not isinstance(ttl, int) or isinstance(ttl, bool) or ttl not in allowed:
        raise Invalid("content", f"The time to live is {allowed.start} to {allowed.stop - 1} seconds.", "ttl")
    return float(ttl)


def _url(value: object) -> str | None:
    if value is None:
        return None
    with suppress(SurroundingsError):
        target_of(str(value))
        return str(value)
    raise Invalid("content", "The address of webhooks is a URL with http:// or https://.", "webhook_url")


def _of_v01(fields: Fields) -> Fields:
    """A message of v0.1, whose parties and content are objects, as one of v1."""
    flat = dict(fields)
    for name in ("to", "from"):
        party = fields.get(name)
        if isinstance(party, dict):
            flat[name] = party.get("number") or party.get("id")
            kind = party.get("type")
            if isinstance(kind, str):
                flat["channel"] = CHANNELS_OF_V01.get(kind, kind)
    message = fields.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, dict):
        flat |= {name: value for name, value in content.items() if name != "type"}
        flat["message_type"] = content.get("type")
    return flat


def _sms(fields: Mapping[str, str]) -> Send:
    """A message of the SMS API. NotTaken says what is wrong."""
    kind = fields.get("type") or "text"
    needed = ("to", "from", "body" if kind == "binary" else "text")
    for name in needed:
        if not fields.get(name):
            raise NotTaken("2", f"Missing {name} param")
    to = normal_number(fields["to"])
    if not NUMBER.fullmatch(to):
        raise NotTaken("3", "The recipient is a number of 7 to 15 digits, with its country code.")
    if kind not in ("text", "binary", "unicode"):
        raise NotTaken("3", "The type is text, binary or unicode.")
    ttl = whole(fields["ttl"], SMS_TTL_MS[-1]) if fields.get("ttl") else None
    if fields.get("ttl") and (ttl is None or ttl not in SMS_TTL_MS):
        raise NotTaken("3", "The time to live is 20000 to 604800000 milliseconds.")
    if fields.get("message-class") and whole(fields["message-class"], 3) is None:
        raise NotTaken("3", "The message class is 0 to 3.")
    if len(fields.get("client-ref") or "") > CLIENT_REF_CHARACTERS_MAX:
        raise NotTaken("3", f"A client reference has {CLIENT_REF_CHARACTERS_MAX} characters at most.")
    return Send(
        api=Api.SMS,
        to=to,
        sender=fields["from"],
        text=_sms_text(fields, kind),
        encoding=Encoding.UCS2 if kind == "unicode" else None if kind == "binary" else Encoding.GSM,
        client_ref=fields.get("client-ref") or None,
        ttl_seconds=ttl / 1_000 if ttl else None,
        url=_callback(fields.get("callback")),
        wants_receipts=(fields.get("status-report-req") or "true").lower() not in ("false", "0"),
    )


def _sms_text(fields: Mapping[str, str], kind: str) -> str:
    if kind == "binary":
        if not HEXADECIMAL.fullmatch(fields["body"] + fields.get("udh", "")):
            raise NotTaken("3", "A body and its header are octets in hexadecimal.")
        octets = len(fields["body"] + fields.get("udh", "")) // 2
        if octets > BINARY_OCTETS_MAX:
            raise NotTaken("12", f"The body with its header has {octets} octets, and {BINARY_OCTETS_MAX} at most.")
        return ""
    if len(fields["text"]) > TEXT_CHARACTERS_MAX:
        raise NotTaken("12", f"The text has {TEXT_CHARACTERS_MAX} characters at most.")
    return fields["text"]


def _callback(url: str | None) -> str | None:
    if not url:
        return None
    with suppress(SurroundingsError):
        if len(url) <= CALLBACK_CHARACTERS_MAX:
            target_of(url)
            return url
    raise NotTaken("23", f"The callback is a URL of {CALLBACK_CHARACTERS_MAX} characters at most.")


def _meaning(code: str) -> str:
    return REASONS[SMS_SEND_CODES[code]].meaning


def _refusal(code: str, text: str) -> Response:
    return JSONResponse({"message-count": "1", "messages": [{"status": code, "error-text": text}]})


def _json(body: bytes) -> Fields:
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Invalid("json", f"It cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise Invalid("json", "A message is a JSON object.")
    return fields


def _parameters(body: bytes) -> dict[str, str]:
    """A form's, or those of a JSON object, whose values may be text, numbers and truths."""
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        fields = msgspec.json.decode(body)
        if isinstance(fields, dict):
            return {name: _as_text(value) for name, value in fields.items() if value is not None}
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
