"""The simulator's calls: receipts in the forms and with the signatures of both APIs, tried again until taken.

https://api.support.vonage.com/hc/en-us/articles/360028543292: 5 seconds after the first failure, then
twice as long each time.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlencode

import httpx
import msgspec

from landed.domain.receipt import Receipt
from landed.vonage import messages, sms
from landed.vonage.request import Request
from landed.vonage.signing import sign_jwt, sign_sig

RETRY_FIRST_SECONDS = 5.0
RETRY_LAST_SECONDS = 900.0
ATTEMPTS_MAX = 103
# https://api.support.vonage.com/hc/en-us/articles/226572227
CONNECT_SECONDS_MAX = 3.0
ANSWER_SECONDS_MAX = 15.0
TIMEOUT = httpx.Timeout(ANSWER_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)
USER_AGENT = (b"user-agent", b"Nexmo/MessagingHUB/v1.0")
JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"application/x-www-form-urlencoded")


class Transport(StrEnum):
    """The account's webhook format of the SMS API; the Messages API always posts JSON."""

    GET = "GET"
    POST = "POST"
    POST_JSON = "POST-JSON"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The simulated account: its key, its signature secret, and where it is called back."""

    api_key: str
    signature_secret: str
    application_id: str
    status_url: str
    receipt_url: str


def status_request(receipt: Receipt, account: Account, path: str, now: datetime) -> Request:
    """A signed status webhook of the Messages API."""
    body = msgspec.json.encode(messages.render_status(receipt))
    token = sign_jwt(
        body,
        account.signature_secret,
        issued_at=int(now.timestamp()),
        token_id=str(uuid.uuid4()),
        api_key=account.api_key,
        application_id=account.application_id,
    )
    headers = ((b"authorization", f"Bearer {token}".encode()), JSON)
    return Request(method="POST", path=path, headers=headers, body=body)


def receipt_request(receipt: Receipt, account: Account, path: str, now: datetime, transport: Transport) -> Request:
    """A signed delivery receipt of the SMS API, in the account's webhook format."""
    fields = sms.render_receipt(receipt)
    fields |= {"timestamp": str(int(now.timestamp())), "nonce": str(uuid.uuid4())}
    fields["sig"] = sign_sig(fields, account.signature_secret)
    if transport is Transport.GET:
        return Request(method="GET", path=path, query=urlencode(fields).encode(), headers=(USER_AGENT,))
    if transport is Transport.POST:
        return Request(method="POST", path=path, headers=(USER_AGENT, FORM), body=urlencode(fields).encode())
    return Request(method="POST", path=path, headers=(USER_AGENT, JSON), body=msgspec.json.encode(fields))


class Caller:
    """Makes the calls, each until it is answered with 2xx or its attempts are used up."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def call(self, url: str, request: Request) -> bool:
        """Whether the receiver took it in the end."""
        wait = RETRY_FIRST_SECONDS
        for _ in range(ATTEMPTS_MAX):
            if await self._attempt(url, request):
                return True
            await asyncio.sleep(wait)
            wait = min(wait * 2, RETRY_LAST_SECONDS)
        return False

    async def _attempt(self, url: str, request: Request) -> bool:
        target = url + (f"?{request.query.decode()}" if request.query else "")
        try:
            answer = await self._client.request(
                request.method, target, content=request.body or None, headers=list(request.headers), timeout=TIMEOUT
            )
        except httpx.HTTPError:
            return False
        return answer.is_success


def now_utc() -> datetime:
    """The real time, which signatures carry."""
    return datetime.now(UTC)
