"""The simulator's sending side: Vonage's two endpoints, small. What they take, they call back about.

`POST /v1/messages`: https://developer.vonage.com/en/api/messages.
`POST /sms/json`: https://developer.vonage.com/en/api/sms; a long text becomes parts with an id each.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from itertools import cycle
from urllib.parse import parse_qsl, urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from landed.domain.lifecycle import status_of
from landed.domain.receipt import Api, Receipt, Segment
from landed.simulator.callbacks import Account, Callback, Caller, Transport, now_utc, receipt_request, status_request
from landed.simulator.clock import Clock
from landed.simulator.networks import Behaviour, Step, behaviour_of
from landed.vonage.request import Request as Wire
from landed.vonage.text import segments_of

NETWORK = "23410"
PRICE = Decimal("0.0333")
CURRENCY = "EUR"
BALANCE = "10.00000000"


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator took: one message of the Messages API, or one part of the SMS API."""

    api: Api
    message_id: str
    to: str
    sender: str
    client_ref: str | None
    segments: int
    behaviour: Behaviour


class Simulator:
    """Takes sends and plays what becomes of them, in its clock's time."""

    def __init__(self, account: Account, caller: Caller, clock: Clock) -> None:
        self.sent: dict[str, Sent] = {}
        self._account = account
        self._caller = caller
        self.clock = clock
        self._transports = cycle(Transport)
        self.app = Starlette(
            routes=[
                Route("/v1/messages", self._messages, methods=["POST"]),
                Route("/sms/json", self._sms, methods=["POST"]),
            ]
        )

    async def _messages(self, request: Request) -> Response:
        fields = _fields(await request.body())
        to, sender = str(fields.get("to", "")), str(fields.get("from", ""))
        if not to or not sender or fields.get("channel") is None:
            problem = {
                "type": "https://developer.vonage.com/api-errors/messages#1150",
                "title": "Invalid params",
                "detail": "The value of one or more parameters is invalid.",
                "instance": uuid.uuid4().hex,
            }
            return JSONResponse(problem, HTTPStatus.UNPROCESSABLE_ENTITY)
        segments = len(segments_of(str(fields.get("text", ""))))
        sent = self._take(Api.MESSAGES, to, sender, fields.get("client_ref"), segments)
        return JSONResponse({"message_uuid": sent.message_id}, HTTPStatus.ACCEPTED)

    async def _sms(self, request: Request) -> Response:
        fields = _fields(await request.body())
        to, sender = str(fields.get("to", "")), str(fields.get("from", ""))
        if not to or not sender or not fields.get("text"):
            error = {"status": "2", "error-text": "Missing to, from or text param"}
            return JSONResponse({"message-count": "1", "messages": [error]})
        parts = [self._take(Api.SMS, to, sender, fields.get("client-ref"), 1) for _ in segments_of(str(fields["text"]))]
        entries = [
            {
                "to": part.to,
                "message-id": part.message_id,
                "status": "0",
                "remaining-balance": BALANCE,
                "message-price": f"{PRICE:.8f}",
                "network": NETWORK,
            }
            for part in parts
        ]
        return JSONResponse({"message-count": str(len(entries)), "messages": entries})

    def _take(self, api: Api, to: str, sender: str, client_ref: object, segments: int) -> Sent:
        sent = Sent(
            api=api,
            message_id=str(uuid.uuid4()),
            to=to,
            sender=sender,
            client_ref=None if client_ref is None else str(client_ref),
            segments=segments,
            behaviour=behaviour_of(to),
        )
        self.sent[sent.message_id] = sent
        transport = next(self._transports)
        for step in sent.behaviour.steps:
            self.clock.begin(self._play(sent, step, self.clock.now(), transport))
        return sent

    async def _play(self, sent: Sent, step: Step, began: datetime, transport: Transport) -> None:
        await self.clock.until(began + timedelta(seconds=step.after_seconds))
        occurred_at = began + timedelta(seconds=step.occurred_seconds or step.after_seconds)
        is_status = sent.api is Api.MESSAGES
        url = self._account.status_url if is_status else self._account.receipt_url
        path = urlsplit(url).path

        def request_at(now: datetime) -> Wire:
            receipt = receipt_of(sent, step, occurred_at, now, self._account.api_key)
            if is_status:
                return status_request(receipt, self._account, path, now_utc())
            return receipt_request(receipt, self._account, path, now_utc(), transport)

        for _ in range(step.copies):
            await self._caller.call(Callback(api=sent.api, message_id=sent.message_id, url=url), request_at)


def receipt_of(sent: Sent, step: Step, occurred_at: datetime, now: datetime, api_key: str) -> Receipt:
    """What Vonage says of the message at this step."""
    said, code = step.said(sent.api), step.code(sent.api)
    messages = sent.api is Api.MESSAGES
    whole = occurred_at.replace(microsecond=0)
    segments: tuple[Segment, ...] = ()
    if messages and sent.segments > 1 and said != "submitted":
        segments = (Segment(provider_status=said, occurred_at=whole),) * sent.segments
    return Receipt(
        api=sent.api,
        message_id=sent.message_id,
        channel="sms",
        status=status_of(sent.api, said, code, sent.segments, segments),
        provider_status=said,
        to=sent.to,
        sender=sent.sender,
        network=NETWORK,
        code=code,
        client_ref=sent.client_ref,
        occurred_at=whole,
        pushed_at=None if messages else now.replace(microsecond=0),
        price=PRICE if messages else PRICE.quantize(Decimal("0.00000001")),
        currency=CURRENCY if messages else None,
        segments=sent.segments if messages else None,
        segment_receipts=segments,
        api_key=None if messages else api_key,
    )


def _fields(body: bytes) -> Mapping[str, object]:
    """JSON, as the Messages API takes and Vonage's Node SDK sends; else a form."""
    with suppress(msgspec.MsgspecError, UnicodeError):
        fields = msgspec.json.decode(body)
        return fields if isinstance(fields, dict) else {}
    return dict(parse_qsl(body.decode(errors="replace")))
