"""Sending through Vonage's own SDK (extra `send`): one send is one message.

There is one client for each API, since a client that has called the Messages API goes on with a stale header. The
SDK's signed SMS are not used: it signs parameters that it then leaves out, which no account can verify
(tests/simulator/test_sdk.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from landed.domain.reasons import SMS_SEND_CODES, send_reason_of
from landed.domain.receipt import Api
from landed.errors import NotTaken, SettingsError, Unclear
from landed.vonage.sdk import Credentials, auth_of, client_of
from landed.vonage.text import encoding_of

if TYPE_CHECKING:
    from requests import RequestException, Response
    from vonage_http_client import HttpClient

THROTTLED = "throttled"
# What the SDK's fields are to a person.
NAMES = {"to": "recipient", "from_": "sender", "client_ref": "client reference", "ttl": "time to live"}
# "Throughput Rate Exceeded - please wait [ 250 ] and retry", as was seen in the wild; else a second.
WAIT_SECONDS = 1.0
WAIT_SECONDS_MAX = 60.0


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A text to send. `failover` are further texts, of other channels, for when this one is rejected."""

    api: Api
    channel: str
    to: str
    sender: str
    text: str
    client_ref: str
    ttl_seconds: int | None = None
    failover: tuple[Outgoing, ...] = ()


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What Vonage took: an id for each part of the text, and the workflow where there is one."""

    message_ids: tuple[str, ...]
    workflow_id: str | None = None


_Call = Callable[["HttpClient"], Taken]


class Gateway:
    """Vonage, to send through; one at a time."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._clients: dict[Api, HttpClient] = {}

    def send(self, outgoing: Outgoing) -> Taken:
        """Send one message, once. NotTaken when Vonage certainly did not take it, Unclear when nobody can know.

        SettingsError when it cannot be sent at all; nothing has left then.
        """
        client, call = self._client(outgoing.api), _CALLS[outgoing.api](outgoing)
        from requests import RequestException  # noqa: PLC0415
        from vonage_http_client import HttpRequestError  # noqa: PLC0415
        from vonage_sms import SmsError  # noqa: PLC0415

        try:
            return call(client)
        except HttpRequestError as error:
            raise _refusal(error.response) from error
        except SmsError as error:
            raise _sms_refusal(client.last_response) from error
        except RequestException as error:
            raise _lost(error) from error
        except (KeyError, ValueError, TypeError) as error:
            # An answer that is none of Vonage's: the request was read by somebody.
            raise Unclear(f"the answer could not be read ({type(error).__name__})") from error

    def check(self, outgoing: Outgoing) -> None:
        """SettingsError when it could not be sent: there are no credentials, or Vonage does not take a field of it."""
        self._client(outgoing.api)
        _CALLS[outgoing.api](outgoing)

    def _client(self, api: Api) -> HttpClient:
        client = self._clients.get(api)
        if client is None:
            client = self._clients[api] = client_of(self._credentials, _auth(self._credentials, api))
        return client


def _auth(credentials: Credentials, api: Api) -> Any:  # noqa: ANN401 - the SDK's, which has no types
    if api is Api.MESSAGES and credentials.application_id and credentials.private_key:
        return auth_of(credentials, by_application=True)
    if credentials.api_key and credentials.api_secret:
        return auth_of(credentials, by_application=False)
    if api is Api.MESSAGES:
        raise SettingsError(
            "The Messages API needs VONAGE_APPLICATION_ID and VONAGE_PRIVATE_KEY, or the account's VONAGE_API_KEY and "
            "VONAGE_API_SECRET."
        )
    raise SettingsError("The SMS API needs VONAGE_API_KEY and VONAGE_API_SECRET.")


def _message_call(outgoing: Outgoing) -> _Call:
    """How to send a text through the Messages API."""
    model = _model(outgoing)
    failover = [_model(each) for each in outgoing.failover]

    def call(client: HttpClient) -> Taken:
        from vonage_messages import Messages  # noqa: PLC0415

        # Its parameter does not take the None that is its default.
        answer = Messages(client).send(model, failover) if failover else Messages(client).send(model)
        return Taken(message_ids=(answer.message_uuid,), workflow_id=answer.workflow_id)

    return call


def _sms_call(outgoing: Outgoing) -> _Call:
    """How to send a text through the SMS API."""
    from vonage_sms import Sms, SmsMessage  # noqa: PLC0415

    message = _made(
        SmsMessage,
        to=outgoing.to,
        from_=outgoing.sender,
        text=outgoing.text,
        client_ref=outgoing.client_ref,
        ttl=None if outgoing.ttl_seconds is None else outgoing.ttl_seconds * 1_000,
        type=encoding_of(outgoing.text).value,
    )

    def call(client: HttpClient) -> Taken:
        answer = Sms(client).send(message)
        return Taken(message_ids=tuple(str(part.message_id) for part in answer.messages))

    return call


def _model(outgoing: Outgoing) -> Any:  # noqa: ANN401 - the SDK's
    """The SDK's model of a text for its channel."""
    from vonage_messages import models  # noqa: PLC0415

    kinds = {
        "sms": models.Sms,
        "mms": models.MmsText,
        "rcs": models.RcsText,
        "whatsapp": models.WhatsappText,
        "messenger": models.MessengerText,
        "viber_service": models.ViberText,
    }
    if outgoing.channel not in kinds:
        raise SettingsError(f"{outgoing.channel!r} is no channel: it is one of {', '.join(kinds)}.")
    return _made(
        kinds[outgoing.channel],
        to=outgoing.to,
        from_=outgoing.sender,
        text=outgoing.text,
        client_ref=outgoing.client_ref,
        ttl=outgoing.ttl_seconds,
    )


def _made(model: Any, **fields: object) -> Any:  # noqa: ANN401 - the same
    """A model of the SDK's. SettingsError says which field it does not take."""
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        return model(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = NAMES.get(str(first["loc"][0]), str(first["loc"][0])) if first["loc"] else "message"
        raise SettingsError(f"Vonage does not take the {name} of this message: {first['msg']}.") from error


def _refusal(response: Response) -> NotTaken | Unclear:
    """What an HTTP answer that is no success means: one of the server's own errors tells nothing of the message."""
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unclear(f"Vonage answered {response.status_code}")
    try:
        problem = response.json()
        kind, title = str(problem.get("type", "")), str(problem.get("title", ""))
        invalid = problem.get("invalid_parameters") or [{}]
        detail = f"{title}: {invalid[0]['name']} {invalid[0]['reason']}" if invalid[0] else title
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        kind, detail = "", ""
    reason = send_reason_of(response.status_code, kind)
    wait = _wait_seconds(response.headers.get("retry-after", ""))
    return NotTaken(reason.slug, detail or f"Vonage answered {response.status_code}", wait)


def _sms_refusal(response: Response | None) -> NotTaken | Unclear:
    """What the SMS API's answer says, which is HTTP 200 whatever it is."""
    try:
        parts = response.json()["messages"] if response is not None else []
        code = next(part["status"] for part in parts if part["status"] != "0")
        text = next(part.get("error-text", "") for part in parts if part["status"] != "0")
    except (ValueError, KeyError, TypeError, StopIteration):
        return Unclear("the answer could not be read")
    taken = tuple(part["message-id"] for part in parts if part["status"] == "0")
    reason = SMS_SEND_CODES.get(str(code), "unknown-code")
    milliseconds = "".join(filter(str.isdigit, str(text))) if reason == THROTTLED else ""
    wait = min(int(milliseconds[:9]) / 1_000, WAIT_SECONDS_MAX) if milliseconds else WAIT_SECONDS
    return NotTaken(reason, str(text) or f"status {code}", wait, taken)


def _lost(error: RequestException) -> NotTaken | Unclear:
    """What a request without an answer means: where no connection came about, nobody has read it."""
    from requests.exceptions import ConnectTimeout, SSLError  # noqa: PLC0415
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError  # noqa: PLC0415

    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, ConnectTimeout | SSLError) or isinstance(reason, ConnectTimeoutError | NewConnectionError):
        return NotTaken("communication-failed", f"no connection to Vonage ({type(reason or error).__name__})", 0.0)
    return Unclear(f"the connection ended without an answer ({type(error).__name__})")


def _wait_seconds(text: str) -> float:
    return min(float(text), WAIT_SECONDS_MAX) if text.isascii() and text.isdecimal() and len(text) < 5 else WAIT_SECONDS  # noqa: PLR2004


_CALLS: Mapping[Api, Callable[[Outgoing], _Call]] = {Api.MESSAGES: _message_call, Api.SMS: _sms_call}
