"""What the configuration APIs share: who may ask, what is asked, and how each family of them says no."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from landed.simulator.account import Account
from landed.simulator.credentials import Unauthorized, check_basic, check_parameters

# How the older APIs say that a request cannot be carried out; no status of HTTP has that number.
METHOD_FAILURE = 420
BAD_REQUEST = HTTPStatus.BAD_REQUEST


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request: the parts of its path, the parameters of its query and form, its body, its URL."""

    path: Mapping[str, str]
    fields: Mapping[str, str]
    body: bytes
    url: str

    def field(self, name: str) -> str:
        """A parameter, empty when it is not there."""
        return self.fields.get(name, "")

    def number(self, name: str, usual: int, least: int = 1, most: int = 1_000_000) -> int:
        """A parameter that is a whole number."""
        number = whole(self.fields.get(name, str(usual)), most)
        if number is None or number < least:
            raise Refusal(BAD_REQUEST, "Bad Request", f"{name} is a number from {least} to {most}.", name)
        return number


def whole(text: str, most: int) -> int | None:
    """A whole number of at most so much; None for anything else, however long."""
    is_number = text.isascii() and text.isdecimal() and len(text.lstrip("0")) <= len(str(most))
    return int(text) if is_number and int(text) <= most else None


class Told(NamedTuple):
    """Why a request is refused."""

    status: HTTPStatus
    title: str
    detail: str


class Refusal(Exception):
    """A request that is not carried out."""

    def __init__(self, status: HTTPStatus, title: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.told = Told(status, title, detail)
        self.field = field


Endpoint = Callable[[Request], Awaitable[Response]]
Action = Callable[[Asked], object]


def guarded(account: Account, action: Action) -> Endpoint:
    """An endpoint for whoever knows the account's key and secret; what the action returns is JSON, or a response."""

    async def endpoint(request: Request) -> Response:
        try:
            asked = await asked_of(request)
            _check(request, asked, account)
            answer = action(asked)
            if inspect.isawaitable(answer):
                answer = await answer
        except Unauthorized:
            told = Told(HTTPStatus.UNAUTHORIZED, "Unauthorized", "These are not the account's key and secret.")
            return _refused(request, told, None)
        except Refusal as refusal:
            return _refused(request, refusal.told, refusal.field)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return endpoint


async def asked_of(request: Request) -> Asked:
    """A request, read."""
    body, fields = await request.body(), dict(request.query_params)
    # By content: Vonage's Python SDK goes on calling its forms JSON once it has sent any.
    if request.method == "POST" and not body.lstrip().startswith(b"{"):
        fields |= dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    return Asked(path=request.path_params, fields=fields, body=body, url=str(request.url))


def _check(request: Request, asked: Asked, account: Account) -> None:
    header = request.headers.get("authorization")
    if header is None:
        check_parameters(asked.fields, None, account)
    else:
        check_basic(header, account)


def _refused(request: Request, told: Told, field: str | None) -> Response:
    """In the form of the API that was asked: the older ones have codes of their own."""
    if not request.url.path.startswith("/v2/"):
        code = int(told.status) if told.status is HTTPStatus.UNAUTHORIZED else METHOD_FAILURE
        return JSONResponse({"error-code": str(code), "error-code-label": told.detail}, code)
    body: dict[str, object] = {
        "type": "https://developer.vonage.com/api-errors#" + told.title.lower().replace(" ", "-"),
        "title": told.title,
        "detail": told.detail,
    }
    if field is not None:
        body["invalid_parameters"] = [{"name": field, "reason": told.detail}]
    return JSONResponse(body, told.status, media_type="application/problem+json")
