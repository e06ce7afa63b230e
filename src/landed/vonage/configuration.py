"""What Vonage keeps for us: applications, the account's webhooks, numbers, and the balance; looked at and changed.

Through the client of Vonage's SDK (extra `send`), and not its models: putting an application in place of what was would
lose every capability that a model does not know, and its names of the account's webhooks are not those of the
specification. What is not ours goes back as it came.

Applications: https://developer.vonage.com/en/api/application.v2
Settings and balance: https://developer.vonage.com/en/api/account
Numbers: https://developer.vonage.com/en/api/numbers
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec

from landed.errors import Refused, SettingsError, Unanswered
from landed.vonage.sdk import Credentials, auth_of, client_of

if TYPE_CHECKING:
    from requests import Response

PAGE = 100
PAGES_MAX = 100
APPLICATIONS = "/v2/applications"
# https://developer.vonage.com/en/api/numbers
OK = "200"
SMS = "SMS"
SETTINGS = {"mo-callback-url", "dr-callback-url", "max-outbound-request"}
VERSION = "v1"

Host = Literal["api", "rest"]
_T = TypeVar("_T")
Kind = Literal["json", "form", "query_params"]


class Webhooks(msgspec.Struct, frozen=True, kw_only=True):
    """Two addresses: of receipts (or statuses), and of inbound messages; empty where there is none."""

    receipts: str = ""
    inbound: str = ""


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """An application as Vonage shows it; `shown` is all of that."""

    id: str
    name: str
    public_key: str
    shown: Mapping[str, Any]

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> Self:
        """What Vonage shows, read."""
        return cls(
            id=str(shown["id"]),
            name=str(shown.get("name", "")),
            public_key=str(_object(shown.get("keys")).get("public_key") or ""),
            shown=shown,
        )

    @property
    def messages(self) -> Mapping[str, Any] | None:
        """Its Messages capability; None when it has none."""
        messages = _object(self.shown.get("capabilities")).get("messages")
        return messages if isinstance(messages, dict) else None

    @property
    def webhooks(self) -> Webhooks:
        """Where statuses and inbound messages of it go."""
        return webhooks_in(self.messages)

    @property
    def version(self) -> str:
        """The version of the Messages API that its webhooks are written in; empty when it does not say."""
        return str((self.messages or {}).get("version") or "")


class Number(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A number of the account. What of it belongs to voice goes back as it came."""

    country: str
    msisdn: str
    features: tuple[str, ...] = ()
    mo_http_url: str = ""
    voice_callback_type: str = ""
    voice_callback_value: str = ""
    app_id: str = msgspec.field(default="", name="app_id")
    # The same by another name: "always `app`", and an application's id.
    messages_callback_value: str = ""

    @property
    def application_id(self) -> str:
        """The application that it is linked to; empty when it is none."""
        return self.app_id or self.messages_callback_value


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A number that can be bought; `cost` is EUR a month, as Vonage writes it."""

    country: str
    msisdn: str
    cost: str = ""
    features: tuple[str, ...] = ()


class Configuration:
    """The account at Vonage. Every method asks it, and raises Refused for a no and Unanswered where nothing came.

    `api_key` is the account's, `at` the time by Vonage's clock in its last answer.
    """

    def __init__(self, credentials: Credentials) -> None:
        if not (credentials.api_key and credentials.api_secret):
            raise SettingsError(
                "Looking at Vonage's side needs VONAGE_API_KEY and VONAGE_API_SECRET: see the dashboard's first page."
            )
        self.api_key = credentials.api_key
        self._client = client_of(credentials, auth_of(credentials, by_application=False))
        self.at: datetime | None = None

    def application(self, application_id: str) -> Application:
        """One application."""
        return _application(self._ask("GET", "api", f"{APPLICATIONS}/{application_id}"))

    def applications(self) -> Iterator[Application]:
        """All of them."""
        for page in range(1, PAGES_MAX):
            found = self._ask("GET", "api", APPLICATIONS, {"page_size": PAGE, "page": page}, "query_params")
            yield from map(_application, _list(_object(found.get("_embedded")).get("applications"), "applications"))
            if page >= _count(found.get("total_pages")):
                return

    def create(self, name: str, public_key: str, webhooks: Webhooks) -> Application:
        """Make an application with the Messages capability, for which we hold the private key."""
        capabilities = {"messages": _with_webhooks(None, webhooks)}
        wanted = {"name": name, "keys": {"public_key": public_key}, "capabilities": capabilities}
        return _application(self._ask("POST", "api", APPLICATIONS, wanted))

    def change(
        self, application: Application, *, webhooks: Webhooks | None = None, public_key: str | None = None
    ) -> Application:
        """Give an application other webhooks of the Messages API, or another key; all else stays as it was."""
        capabilities = dict(_object(application.shown.get("capabilities")))
        if webhooks is not None:
            capabilities["messages"] = _with_webhooks(application.messages, webhooks)
        return self._replace(application, capabilities, public_key or application.public_key)

    def restore(self, application: Application, messages: Mapping[str, Any] | None) -> Application:
        """Put a Messages capability back as it was, or none."""
        capabilities = dict(_object(application.shown.get("capabilities")))
        capabilities.pop("messages", None)
        if messages is not None:
            capabilities["messages"] = messages
        return self._replace(application, capabilities, application.public_key)

    def _replace(self, application: Application, capabilities: dict[str, Any], public_key: str) -> Application:
        if isinstance(verify := capabilities.get("verify"), dict):
            # It is shown, and must not be set.
            capabilities["verify"] = {name: value for name, value in verify.items() if name != "version"}
        wanted = {
            name: value
            for name, value in application.shown.items()
            if name not in ("id", "_links", "capabilities", "keys")
        }
        wanted |= {"capabilities": capabilities}
        if public_key:
            wanted["keys"] = {"public_key": public_key}
        return _application(self._ask("PUT", "api", f"{APPLICATIONS}/{application.id}", wanted))

    def webhooks(self) -> Webhooks:
        """The account's webhooks of the SMS API; asked by a change of nothing, since Vonage has no other way."""
        return _webhooks(self._ask("POST", "rest", "/account/settings", {}, "form"))

    def change_webhooks(self, *, receipts: str | None = None, inbound: str | None = None) -> Webhooks:
        """Set those that are given, and give what Vonage says that both are now; it looks whether they answer 200."""
        given = {"moCallBackUrl": inbound, "drCallBackUrl": receipts}
        wanted = {name: url for name, url in given.items() if url is not None}
        return _webhooks(self._ask("POST", "rest", "/account/settings", wanted, "form"))

    def numbers(self) -> Iterator[Number]:
        """All numbers of the account."""
        for index in range(1, PAGES_MAX):
            found = self._ask("GET", "rest", "/account/numbers", {"size": PAGE, "index": index}, "query_params")
            yield from _read(found, Number)
            if index * PAGE >= _count(found.get("count", 0)):
                return

    def offers(self, country: str) -> tuple[Offer, ...]:
        """Numbers of a country that can be bought and can send and take SMS."""
        asked = {"country": country, "features": SMS, "size": PAGE}
        found = self._ask("GET", "rest", "/number/search", asked, "query_params")
        return tuple(_read(found, Offer))

    def buy(self, offer: Offer) -> None:
        """Buy a number."""
        self._do("/number/buy", {"country": offer.country, "msisdn": offer.msisdn})

    def link(self, number: Number, application_id: str) -> None:
        """Link a number to an application; its own webhook and what belongs to voice stay."""
        kept = {
            "moHttpUrl": number.mo_http_url,
            "voiceCallbackType": number.voice_callback_type,
            "voiceCallbackValue": number.voice_callback_value,
        }
        wanted = {"country": number.country, "msisdn": number.msisdn, "app_id": application_id}
        self._do("/number/update", wanted | {name: value for name, value in kept.items() if value})

    def balance(self) -> Decimal:
        """What is left of the account's money, EUR."""
        found = self._ask("GET", "rest", "/account/get-balance", {}, "query_params")
        with suppress(InvalidOperation):
            balance = Decimal(str(found.get("value")))
            if balance.is_finite():
                return balance
        raise Unanswered("Vonage's answer about the balance could not be read.")

    def _do(self, path: str, wanted: Mapping[str, str]) -> None:
        answer = self._ask("POST", "rest", path, dict(wanted), "form")
        if "error-code" not in answer:
            raise Unanswered(f"What Vonage answered at {path} does not say whether it was done.")
        if str(answer["error-code"]) != OK:
            raise Refused(HTTPStatus.OK, f"Vonage refused {path}: {answer.get('error-code-label')}.")

    def _ask(
        self, method: str, host: Host, path: str, wanted: Mapping[str, Any] | None = None, kind: Kind = "json"
    ) -> dict[str, Any]:
        """Ask once, and read the answer, which is an object."""
        from requests import RequestException  # noqa: PLC0415
        from vonage_http_client import HttpRequestError  # noqa: PLC0415

        client = self._client
        name = client.api_host if host == "api" else client.rest_host
        # The client goes on with the header of its last request, and a form would be called JSON.
        client._headers.pop("Content-Type", None)  # noqa: SLF001 - it has no other way
        try:
            answer = client.make_request(method, name, path, wanted, "basic", kind)
        except HttpRequestError as error:
            self._look_at_clock(error.response)
            raise _refused(error.response, path) from error
        except RequestException as error:
            raise Unanswered(f"Vonage gave no answer at {name} ({_cause(error)}).") from error
        except (ValueError, RecursionError) as error:
            # Numbers and depths that no answer has, or a name that no host has.
            raise Unanswered(f"What answered at {name} could not be read ({type(error).__name__}).") from error
        self._look_at_clock(client.last_response)
        if not isinstance(answer, dict):
            raise Unanswered(f"What answered at {name} is not Vonage: it was no JSON object.")
        return answer

    def _look_at_clock(self, response: Response | None) -> None:
        said = response.headers.get("date") if response is not None else None
        with suppress(ValueError, TypeError, OverflowError):
            self.at = parsedate_to_datetime(said).astimezone(UTC) if said else self.at


def webhooks_in(messages: Mapping[str, Any] | None) -> Webhooks:
    """The two addresses in a Messages capability, which there may not be."""
    webhooks = _object(_object(messages).get("webhooks"))
    return Webhooks(receipts=_address(webhooks.get("status_url")), inbound=_address(webhooks.get("inbound_url")))


def _with_webhooks(messages: Mapping[str, Any] | None, webhooks: Webhooks) -> dict[str, Any]:
    """A Messages capability with these webhooks; what else there was stays."""
    given = {"status_url": webhooks.receipts, "inbound_url": webhooks.inbound}
    # https://developer.vonage.com/en/api/application.v2: POST is the only method there.
    addresses = {name: {"address": url, "http_method": "POST"} for name, url in given.items() if url}
    return {"version": VERSION, **(messages or {}), "webhooks": addresses}


def _application(shown: object) -> Application:
    if not isinstance(shown, dict) or "id" not in shown:
        raise Unanswered("What Vonage answered is no application.")
    return Application.of(shown)


def _read(found: Mapping[str, Any], kind: type[_T]) -> Iterator[_T]:
    """The numbers in an answer, with nulls as if they were not there. Where there are none, Vonage answers `{}`."""
    try:
        for each in _list(found.get("numbers"), "numbers") if found else ():
            there = {name: value for name, value in each.items() if value is not None}
            yield msgspec.convert(there, kind, strict=False)
    except (msgspec.ValidationError, AttributeError) as error:
        raise Unanswered(f"What Vonage answered is no list of numbers: {error}.") from error


def _list(shown: object, what: str) -> list[Any]:
    """A list; what is none must not count as an empty one, for more would be made or bought."""
    if not isinstance(shown, list):
        raise Unanswered(f"What Vonage answered is no list of {what}.")
    return shown


def _address(webhook: object) -> str:
    return str(_object(webhook).get("address") or "")


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    try:
        return int(str(value))
    except ValueError as error:
        raise Unanswered("What Vonage answered does not say how long the list is.") from error


def _webhooks(answer: Mapping[str, Any]) -> Webhooks:
    """The account's webhooks in an answer; one that knows nothing of settings must not count as none being set."""
    if not SETTINGS & answer.keys():
        raise Unanswered("What Vonage answered does not say what the account's webhooks are.")
    return Webhooks(receipts=str(answer.get("dr-callback-url") or ""), inbound=str(answer.get("mo-callback-url") or ""))


def _refused(response: Response, path: str) -> Refused:
    """What Vonage says against it, in one sentence; its pages of errors are of several shapes."""
    said = ""
    with suppress(ValueError, AttributeError, RecursionError):
        problem = response.json()
        said = str(problem.get("detail") or problem.get("title") or problem.get("error-code-label") or "")
    about = f": {said.rstrip('.')}" if said else ""
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        about = ": VONAGE_API_KEY and VONAGE_API_SECRET are not those of an account"
    return Refused(response.status_code, f"Vonage answered {response.status_code} at {path}{about}.")


def _cause(error: Exception) -> str:
    """The plainest word for why a connection failed."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(cause).__name__
