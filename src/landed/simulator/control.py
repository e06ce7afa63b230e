"""The control API: what a test asks a simulator about, and tells it to do.

Everything under `/_sim`, which the real Vonage does not have: messages with their truth beside what was claimed,
calls with every try, faults, fates, the account's settings, and time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from landed.domain.receipt import Api
from landed.durations import seconds_of
from landed.errors import SettingsError
from landed.simulator.account import changed_settings
from landed.simulator.callbacks import KEPT_MAX, Callback
from landed.simulator.endpoints import whole
from landed.simulator.fates import CARDS, FATES, REFUSED, fate_named
from landed.simulator.faults import KINDS, Fault, wanted
from landed.simulator.networks import Network
from landed.simulator.scenario import speed_of
from landed.simulator.simulator import Message, Simulator

PAGE = 100
PAGE_MAX = 10_000

_encoder = msgspec.json.Encoder()


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message, whatever was said of it."""

    arrived_at: datetime | None
    read_at: datetime | None
    fate: str
    differs: tuple[str, ...]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was said of a message, in the words of the API that said it."""

    status: str
    code: str | None
    occurred_at: datetime | None


class ShownMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message: what was sent, the truth, and what was said so far."""

    message_id: str
    api: Api
    channel: str
    to: str
    sender: str = msgspec.field(name="from")
    text: str
    client_ref: str | None
    segments: int
    network: str
    price: str
    sent_at: datetime
    truth: Truth
    said: tuple[Told, ...]


class ShownTry(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a call."""

    at: datetime
    status: int | None
    verdict: str
    error: str | None
    took_ms: float | None


class ShownCallback(msgspec.Struct, frozen=True, kw_only=True):
    """A call with all its tries, and the last request that was made."""

    number: int
    message_id: str
    api: Api
    url: str
    state: str
    says: str
    attempts: tuple[ShownTry, ...]
    method: str | None
    query: str | None
    headers: Mapping[str, str]
    body: str | None


def shown_message(message: Message) -> ShownMessage:
    """A message as the control API shows it."""
    send = message.send
    return ShownMessage(
        message_id=message.message_id,
        api=send.api,
        channel=send.channel,
        to=send.to,
        sender=send.sender,
        text=send.text,
        client_ref=send.client_ref,
        segments=message.segments,
        network=message.network.code,
        price=f"{message.price:f}",
        sent_at=message.sent_at,
        truth=Truth(
            arrived_at=message.arrived_at,
            read_at=message.read_at,
            fate=message.fate,
            differs=tuple(sorted(message.plan.differs)),
        ),
        said=tuple(
            Told(status=receipt.provider_status, code=receipt.code, occurred_at=receipt.occurred_at)
            for receipt in message.said
        ),
    )


def shown_callback(callback: Callback) -> ShownCallback:
    """A call as the control API shows it."""
    request = callback.request
    return ShownCallback(
        number=callback.number,
        message_id=callback.message_id,
        api=callback.form.api,
        url=callback.url,
        state=callback.state,
        says=callback.receipt.provider_status,
        attempts=tuple(
            ShownTry(
                at=attempt.at,
                status=attempt.status,
                verdict=attempt.verdict,
                error=attempt.error,
                took_ms=attempt.took_ms,
            )
            for attempt in callback.attempts
        ),
        method=request.method if request else None,
        query=request.query.decode() if request else None,
        headers={name.decode(): value.decode() for name, value in request.headers} if request else {},
        body=request.body.decode() if request else None,
    )


class Control:
    """The endpoints of the control API."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._caller = simulator.caller
        self._clock = simulator.clock

    @property
    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            Route("/_sim", self._overview, methods=["GET"]),
            Route("/_sim/messages", self._messages, methods=["GET"]),
            Route("/_sim/messages/{message_id}", self._message, methods=["GET"]),
            Route("/_sim/callbacks", self._callbacks, methods=["GET"]),
            Route("/_sim/faults", self._faults, methods=["GET", "POST"]),
            Route("/_sim/faults/{fault_id:int}", self._end_fault, methods=["DELETE"]),
            Route("/_sim/fates", self._fates, methods=["GET", "PUT"]),
            Route("/_sim/account", self._account, methods=["GET", "PATCH"]),
            Route("/_sim/time", self._time, methods=["GET", "POST"]),
            Route("/_sim/networks", self._networks, methods=["GET"]),
        ]

    async def _overview(self, _request: Request) -> Response:
        states: dict[str, int] = {}
        for callback in self._caller.callbacks:
            states[callback.state] = states.get(callback.state, 0) + 1
        return _answer(
            {
                "now": self._clock.now(),
                "speed": self._clock.speed,
                "seed": self._simulator.dice.seed,
                "messages": len(self._simulator.messages),
                "callbacks": states,
                "faults": [_shown_fault(fault, self._clock.now()) for fault in self._caller.faults],
                "balance": f"{self._simulator.account.balance:f}",
                "routes": sorted({route.path for route in self.routes}),
            }
        )

    async def _messages(self, request: Request) -> Response:
        wanted_to = request.query_params.get("to")
        found = [each for each in self._simulator.messages.values() if wanted_to in (None, each.send.to)]
        return _page(request, found, shown_message)

    async def _message(self, request: Request) -> Response:
        message = self._simulator.messages.get(request.path_params["message_id"])
        if message is None:
            return _wrong("There is no message of that id.", HTTPStatus.NOT_FOUND)
        return _answer(shown_message(message))

    async def _callbacks(self, request: Request) -> Response:
        wanted_id, state = (request.query_params.get(name) for name in ("message_id", "state"))
        found = [
            each
            for each in self._caller.callbacks
            if wanted_id in (None, each.message_id) and state in (None, each.state)
        ]
        return _page(request, found, shown_callback)

    async def _faults(self, request: Request) -> Response:
        now = self._clock.now()
        if request.method == "GET":
            kinds = {
                kind: {"does": told.does, "option": told.option, "usual": told.usual} for kind, told in KINDS.items()
            }
            return _answer({"faults": [_shown_fault(fault, now) for fault in self._caller.faults], "kinds": kinds})
        fault = self._caller.begin(wanted(await _object(request)))
        return _answer(_shown_fault(fault, now), HTTPStatus.CREATED)

    async def _end_fault(self, request: Request) -> Response:
        if not self._caller.end(request.path_params["fault_id"]):
            return _wrong("There is no fault of that number.", HTTPStatus.NOT_FOUND)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _fates(self, request: Request) -> Response:
        if request.method == "PUT":
            chosen = {recipient: str(fate) for recipient, fate in (await _object(request)).items()}
            for fate in filter(None, chosen.values()):
                fate_named(fate)
            for recipient, fate in chosen.items():
                self._simulator.choose(recipient, fate)
        return _answer(
            {
                "chosen": self._simulator.fates,
                "numbers": CARDS,
                "refused": REFUSED,
                "fates": {name: fate.what for name, fate in FATES.items()},
            }
        )

    async def _account(self, request: Request) -> Response:
        account = self._simulator.account
        if request.method == "PATCH":
            account.settings = changed_settings(account.settings, await _object(request))
        shown = msgspec.to_builtins(account.settings) | {
            "api_key": account.api_key,
            "balance": f"{account.balance:f}",
            "applications": {each.id: each.status_url for each in account.applications.values()},
            "numbers": list(account.numbers),
            "conversions": msgspec.to_builtins(account.conversions),
        }
        return _answer(shown)

    async def _time(self, request: Request) -> Response:
        if request.method == "POST":
            asked = await _object(request)
            if unknown := set(asked) - {"step", "speed", "settle"}:
                raise SettingsError(f"Time takes step, speed or settle, not {', '.join(sorted(unknown))}.")
            by = timedelta(seconds=seconds_of(asked.get("step", 0)))
            self._clock.run_at(speed_of(asked.get("speed", self._clock.speed)))
            if "step" in asked:
                await self._clock.step(by)
            if asked.get("settle"):
                await self._clock.settle()
        return _answer({"now": self._clock.now(), "speed": self._clock.speed, "waiting": self._clock.waiting})

    async def _networks(self, _request: Request) -> Response:
        return _answer([_shown_network(network) for network in self._simulator.networks])


def _shown_fault(fault: Fault, now: datetime) -> dict[str, object]:
    shown: dict[str, object] = msgspec.to_builtins(fault)
    return shown | {"is_on": fault.is_on(now)}


def _shown_network(network: Network) -> object:
    return msgspec.to_builtins(network)


def _page(request: Request, found: list, show: Callable) -> Response:  # type: ignore[type-arg]
    texts = (request.query_params.get("offset", "0"), request.query_params.get("limit", str(PAGE)))
    offset, limit = (whole(text, most) for text, most in zip(texts, (KEPT_MAX, PAGE_MAX), strict=True))
    if offset is None or not limit:
        raise SettingsError(f"offset and limit are whole numbers, the limit from 1 to {PAGE_MAX}.")
    return _answer({"total": len(found), "items": [show(each) for each in found[offset : offset + limit]]})


async def _object(request: Request) -> dict[str, object]:
    try:
        asked = msgspec.json.decode(await request.body() or b"{}")
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise SettingsError(f"The body is no JSON: {error}.") from error
    if not isinstance(asked, dict):
        raise SettingsError("The body is a JSON object.")
    return asked


async def say_what_is_wrong(_request: Request, error: Exception) -> Response:
    """How the control API answers what it cannot do."""
    return _wrong(str(error))


def _answer(what: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(_encoder.encode(what), status, media_type="application/json")


def _wrong(sentence: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> Response:
    return JSONResponse({"error": sentence}, status)
