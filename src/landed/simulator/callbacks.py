"""The simulator's calls: receipts in the forms and with the signatures of both APIs, tried again until taken.

Each try is made anew, so that what changes on a retry does: the SMS API's `message-timestamp`, `timestamp`, `nonce` and
`sig`. Every try is kept, with its answer, for whoever asks what was called.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from itertools import count
from typing import Protocol
from urllib.parse import urlencode, urlsplit

import msgspec

from landed.domain.receipt import Api, Receipt
from landed.errors import SurroundingsError
from landed.simulator.account import Account, Transport
from landed.simulator.clock import Clock
from landed.simulator.dice import Dice
from landed.simulator.fates import COPIES_MAX, Signature
from landed.simulator.faults import Fault, FaultKind, Wanted
from landed.simulator.wire import Headers, NoAnswer
from landed.vonage import messages, sms
from landed.vonage.messages import Version
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
_WAITS: Mapping[Api, tuple[timedelta, ...]] = {
    api: tuple(timedelta(seconds=wait) for wait in schedule.waits()) for api, schedule in SCHEDULES.items()
}
# Copies of one call come so far apart.
COPY_SECONDS = 7.0
# Of so many messages, and calls, it is known what became of them; the oldest are forgotten.
KEPT_MAX = 1_000_000
SKEW_SECONDS = 3_600.0
USER_AGENT = (b"user-agent", b"Nexmo/MessagingHUB/v1.0")
JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"application/x-www-form-urlencoded")


class Verdict(StrEnum):
    """What Vonage makes of an answer."""

    TAKEN = "taken"
    AGAIN = "again"
    DROPPED = "dropped"


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


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One try: when, in simulated time, with what answer (None where there was none), and what was made of it.

    `took_ms` is real time; None where nothing was sent.
    """

    at: datetime
    status: int | None
    verdict: Verdict
    error: str | None = None
    took_ms: float | None = None


class Form(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a receipt is written: the API whose form it has, and the kind of it."""

    api: Api
    transport: Transport = Transport.POST
    version: Version = "v1"
    application_id: str | None = None
    # What belongs into a body besides: https://developer.vonage.com/en/messages/concepts/whatsapp
    more: Mapping[str, object] = {}


class Callback(msgspec.Struct, kw_only=True, gc=False):
    """One receipt on its way to one address, with all tries that were made; `request` is the last of them."""

    number: int
    message_id: str
    url: str
    form: Form
    receipt: Receipt
    due_at: datetime
    signature: Signature | None = None
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    request: Request | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has it."""
        return bool(self.attempts) and self.attempts[-1].verdict is Verdict.TAKEN

    @property
    def state(self) -> str:
        """What became of it: taken, dropped, still to be tried, or given up after the last try."""
        if not self.attempts:
            return "waiting"
        verdict = self.attempts[-1].verdict
        is_over = verdict is Verdict.AGAIN and len(self.attempts) > len(_WAITS[self.form.api])
        return "given up" if is_over else "waiting" if verdict is Verdict.AGAIN else str(verdict)


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is signed with: the secret (None leaves it unsigned), the method, and the time it bears."""

    secret: str | None
    at: datetime
    method: str
    token_id: str


class Sender(Protocol):
    """Whoever sends a request and waits for its answer."""

    async def call(self, method: str, url: str, query: bytes, headers: Headers, body: bytes) -> int:
        """The status of the answer; NoAnswer when there was none."""


class Caller:
    """Makes the calls, each until it is taken, dropped, or its schedule is over."""

    def __init__(
        self, sender: Sender, clock: Clock, account: Account, dice: Dice, real_now: Callable[[], datetime]
    ) -> None:
        self.callbacks: deque[Callback] = deque(maxlen=KEPT_MAX)
        # Whether calls are kept when they are over; a load of millions would not fit.
        self.keeps = True
        self.faults: tuple[Fault, ...] = ()
        # The same by kind: each try asks for several.
        self._of_kind: dict[FaultKind, list[Fault]] = {}
        # How many calls wait for their answer.
        self.under_way = 0
        # Told of each try, after it.
        self.heard: Callable[[Callback, Attempt], None] | None = None
        self._sender = sender
        self._clock = clock
        self._account = account
        self._dice = dice
        self._real_now = real_now
        # What bursts hold back, by the number of the fault.
        self._held: dict[int, list[Callback]] = {}
        self._numbers = count(1)
        self._fault_numbers = count(1)

    def begin(self, wanted: Wanted) -> Fault:
        """Let something go wrong."""
        now = self._clock.now()
        fault = wanted.fault(next(self._fault_numbers), now)
        kept = [each for each in self.faults if each.ends_at is None or each.ends_at > now]
        self._set_faults([*kept, fault])
        return fault

    def end(self, fault_id: int) -> bool:
        """Let it go well again; whether there was such a fault."""
        for fault in self.faults:
            if fault.id == fault_id:
                now = self._clock.now()
                ends_at = now if fault.ends_at is None else min(now, fault.ends_at)
                ended = msgspec.structs.replace(fault, ends_at=ends_at)
                self._set_faults([ended if each is fault else each for each in self.faults])
                self._let_go(fault_id)
                return True
        return False

    def _set_faults(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        self._of_kind = {kind: [fault for fault in faults if fault.kind is kind] for kind in FaultKind}

    def post(self, callback: Callback) -> int:
        """Make a call when it is due, as often as it is to be made; how many calls that are."""
        callback.number = next(self._numbers)
        due_at = callback.due_at
        copies = int(min(COPIES_MAX, self._amount(FaultKind.DUPLICATES, callback) or 1))
        for copy in range(copies):
            each = callback
            if copy:
                each = msgspec.structs.replace(callback, number=next(self._numbers), attempts=[])
            disorder = self._amount(FaultKind.DISORDER, each) * self._share("held back", each)
            each.due_at = due_at + timedelta(seconds=copy * COPY_SECONDS + disorder)
            if self.keeps:
                self.callbacks.append(each)
            self._clock.at(each.due_at, lambda each=each: self._try(each))  # type: ignore[misc]
        return copies

    def _hold(self, callback: Callback, burst: Fault) -> None:
        """Hold a call until a burst ends, and then let all that it held go."""
        held = self._held.setdefault(burst.id, [])
        if not held and burst.ends_at is not None:
            self._clock.at(burst.ends_at, lambda: self._let_go(burst.id))
        held.append(callback)

    def _let_go(self, fault_id: int) -> None:
        now = self._clock.now()
        for callback in self._held.pop(fault_id, ()):
            callback.due_at = max(now, callback.due_at)
            self._clock.at(callback.due_at, lambda callback=callback: self._try(callback))  # type: ignore[misc]

    def _try(self, callback: Callback) -> None:
        bursts = self._on(FaultKind.BURST, callback)
        if bursts:
            self._hold(callback, bursts[-1])
        elif any(self._on(FaultKind.OUTAGE, callback)):
            self._tried(callback, Attempt(at=self._clock.now(), status=None, verdict=Verdict.AGAIN, error="outage"))
        else:
            self.under_way += 1
            self._clock.begin(self._call(callback))

    async def _call(self, callback: Callback) -> None:
        at, status, error = self._clock.now(), None, None
        slow = self._amount(FaultKind.SLOW, callback)
        if slow:
            await asyncio.sleep(slow)
        began = time.perf_counter()
        try:
            request = callback.request = request_of(callback, self._account.api_key, at, self._signing(callback))
            status = await self._sender.call(request.method, callback.url, request.query, request.headers, request.body)
        except (NoAnswer, SurroundingsError) as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001 - a fault of ours is no reason to lose a receipt: it is tried again
            error = f"{type(failure).__name__}: {failure}"
        finally:
            self.under_way -= 1
        took_ms = (time.perf_counter() - began) * 1_000
        verdict = verdict_on(callback.form.api, status)
        self._tried(callback, Attempt(at=at, status=status, verdict=verdict, error=error, took_ms=took_ms))

    def _tried(self, callback: Callback, attempt: Attempt) -> None:
        callback.attempts.append(attempt)
        waits = _WAITS[callback.form.api]
        if attempt.verdict is Verdict.AGAIN and len(callback.attempts) <= len(waits):
            # From when it was due, so that slow answers do not shift the schedule.
            callback.due_at += waits[len(callback.attempts) - 1]
            self._clock.at(callback.due_at, lambda: self._try(callback))
        if self.heard is not None:
            self.heard(callback, attempt)

    def _signing(self, callback: Callback) -> Signing:
        secret: str | None = self._account.signature_secret
        is_first = not callback.attempts
        at = self._real_now() + timedelta(seconds=self._amount(FaultKind.SKEW, callback))
        if callback.signature is Signature.SKEWED:
            at += timedelta(seconds=SKEW_SECONDS)
        if callback.signature is Signature.WRONG_SECRET or any(self._on(FaultKind.WRONG_SECRET, callback)):
            secret = f"not-{secret}"
        unsigned_once = callback.signature is Signature.UNSIGNED_ONCE and is_first
        if unsigned_once or any(self._on(FaultKind.UNSIGNED, callback)):
            secret = None
        if callback.form.api is Api.SMS and not self._account.settings.signs_receipts:
            secret = None
        method = self._account.settings.signature_method or "md5hash"
        token_id = self._dice.uuid("token", callback.number, len(callback.attempts))
        return Signing(secret=secret, at=at, method=method, token_id=token_id)

    def _on(self, kind: FaultKind, callback: Callback) -> list[Fault]:
        """The faults of a kind that go on now and hit this call."""
        faults = self._of_kind.get(kind)
        if not faults:
            return []
        now = self._clock.now()
        return [
            fault
            for fault in faults
            if fault.is_on(now) and (fault.part >= 1 or self._share("part", callback, fault.id) < fault.part)
        ]

    def _amount(self, kind: FaultKind, callback: Callback) -> float:
        return max((fault.amount for fault in self._on(kind, callback)), default=0.0, key=abs)

    def _share(self, name: str, callback: Callback, *what: object) -> float:
        return self._dice.share(name, callback.number, *what)


def request_of(callback: Callback, api_key: str, now: datetime, signing: Signing) -> Request:
    """A try of the call: `now` is the simulated time, which a receipt of the SMS API says it was pushed at."""
    path = urlsplit(callback.url).path or "/"
    if callback.form.api is Api.MESSAGES:
        return status_request(callback.receipt, callback.form, api_key, path, signing)
    receipt = msgspec.structs.replace(callback.receipt, pushed_at=now.replace(microsecond=0))
    return receipt_request(receipt, callback.form.transport, path, signing)


def status_request(receipt: Receipt, form: Form, api_key: str, path: str, signing: Signing) -> Request:
    """A status webhook of the Messages API."""
    body = msgspec.json.encode(messages.render_status(receipt, form.version) | dict(form.more))
    if signing.secret is None:
        return Request(method="POST", path=path, headers=(JSON,), body=body)
    token = sign_jwt(
        body,
        signing.secret,
        issued_at=int(signing.at.timestamp()),
        token_id=signing.token_id,
        api_key=api_key,
        application_id=form.application_id,
    )
    return Request(method="POST", path=path, headers=((b"authorization", f"Bearer {token}".encode()), JSON), body=body)


def receipt_request(receipt: Receipt, transport: Transport, path: str, signing: Signing) -> Request:
    """A delivery receipt of the SMS API, in the account's webhook format."""
    fields = sms.render_receipt(receipt)
    if signing.secret is not None:
        fields |= {"timestamp": str(int(signing.at.timestamp())), "nonce": signing.token_id}
        fields["sig"] = sign_sig(fields, signing.secret, signing.method)
    if transport is Transport.GET:
        return Request(method="GET", path=path, query=urlencode(fields).encode(), headers=(USER_AGENT,))
    if transport is Transport.POST:
        return Request(method="POST", path=path, headers=(USER_AGENT, FORM), body=urlencode(fields).encode())
    return Request(method="POST", path=path, headers=(USER_AGENT, JSON), body=msgspec.json.encode(fields))


def now_utc() -> datetime:
    """The real time, which signatures carry."""
    return datetime.now(UTC)
