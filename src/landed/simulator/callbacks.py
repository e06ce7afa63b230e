"""The simulator's calls: receipts in the forms and with the signatures of both APIs, tried again until taken.

Each try is made anew, so that what changes on a retry does: the SMS API's `message-timestamp`, `timestamp`, `nonce` and
`sig`. Every try is kept, with its answer, for whoever asks what was called.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import urlencode

import httpx
import msgspec

from landed.domain.receipt import Api, Receipt
from landed.simulator.clock import Clock
from landed.vonage import messages, sms
from landed.vonage.request import Request
from landed.vonage.signing import sign_jwt, sign_sig


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a call that was not taken is tried again: each wait `factor` times the one before it, up to a longest."""

    first_seconds: float
    factor: float
    last_seconds: float
    for_seconds: float

    def waits(self) -> Iterator[float]:
        """The seconds from each try to the next, as long as tries are made."""
        wait, passed = self.first_seconds, 0.0
        while passed + wait <= self.for_seconds:
            yield wait
            passed += wait
            wait = min(wait * self.factor, self.last_seconds)


SCHEDULES: Mapping[Api, Schedule] = {
    # https://api.support.vonage.com/hc/en-us/articles/360028543292
    Api.MESSAGES: Schedule(first_seconds=5, factor=2, last_seconds=900, for_seconds=24 * 3_600),
    # https://api.support.vonage.com/hc/en-us/articles/226572227
    Api.SMS: Schedule(first_seconds=60, factor=1, last_seconds=60, for_seconds=72 * 3_600),
}
# The same article.
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


class Verdict(StrEnum):
    """What Vonage makes of an answer."""

    TAKEN = "taken"
    AGAIN = "again"
    DROPPED = "dropped"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try: when, in simulated time, with what answer (None where there was none), and what was made of it."""

    at: datetime
    status: int | None
    verdict: Verdict
    error: str | None = None


class Callback(msgspec.Struct, kw_only=True):
    """One receipt on its way to one address, with all tries that were made."""

    api: Api
    message_id: str
    url: str
    attempts: list[Attempt] = msgspec.field(default_factory=list)

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has it."""
        return bool(self.attempts) and self.attempts[-1].verdict is Verdict.TAKEN


def verdict_on(api: Api, status: int | None) -> Verdict:
    """How Vonage reads an answer: the Messages API gives up at 4xx, but for 429; the SMS API never does.

    https://api.support.vonage.com/hc/en-us/articles/360028543292
    """
    if status is not None and HTTPStatus.OK <= status <= HTTPStatus.RESET_CONTENT:
        return Verdict.TAKEN
    is_final = status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR
    if api is Api.MESSAGES and is_final and status != HTTPStatus.TOO_MANY_REQUESTS:
        return Verdict.DROPPED
    return Verdict.AGAIN


class Caller:
    """Makes the calls, each until it is taken, dropped, or its schedule is over."""

    def __init__(self, client: httpx.AsyncClient, clock: Clock) -> None:
        self.callbacks: list[Callback] = []
        self._client = client
        self._clock = clock

    async def call(self, callback: Callback, request_at: Callable[[datetime], Request]) -> bool:
        """Whether the receiver took it in the end; `request_at` makes the request of a try at that time."""
        self.callbacks.append(callback)
        due = self._clock.now()
        for wait in (*SCHEDULES[callback.api].waits(), None):
            callback.attempts.append(await self._attempt(callback, request_at(self._clock.now())))
            if wait is None or callback.attempts[-1].verdict is not Verdict.AGAIN:
                break
            # From when it was due, so that slow answers do not shift the schedule.
            due += timedelta(seconds=wait)
            await self._clock.until(due)
        return callback.is_taken

    async def _attempt(self, callback: Callback, request: Request) -> Attempt:
        target = callback.url + (f"?{request.query.decode()}" if request.query else "")
        at, status, error = self._clock.now(), None, None
        try:
            answer = await self._client.request(
                request.method, target, content=request.body or None, headers=list(request.headers), timeout=TIMEOUT
            )
            status = answer.status_code
        except httpx.HTTPError as failure:
            error = f"{type(failure).__name__}: {failure}"
        return Attempt(at=at, status=status, verdict=verdict_on(callback.api, status), error=error)


def now_utc() -> datetime:
    """The real time, which signatures carry."""
    return datetime.now(UTC)
