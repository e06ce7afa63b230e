"""Vonage's own SDK (extra `send`): who we are to it, and a client that repeats nothing.

With its usual options it repeats a request up to ten times when a server closes the connection without an answer, so a
client gets one connection and no retries. It speaks https only, and logs whole requests, which is turned off here.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from landed.errors import SettingsError
from landed.settings import Settings

if TYPE_CHECKING:
    from vonage_http_client import HttpClient

API_HOST, REST_HOST = "api.nexmo.com", "rest.nexmo.com"
SECONDS_MAX = 30
# https://developer.vonage.com/en/getting-started/concepts/authentication
TOKEN_SECONDS = range(30, 86_401)
PEM = "-----BEGIN"
PKCS8 = "-----BEGIN PRIVATE KEY-----"
AGENT = "landed"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends: key and secret, or an application with its private key (PEM); hosts are names with a port or none."""

    api_key: str | None = None
    api_secret: str | None = None
    application_id: str | None = None
    private_key: str | None = None
    api_host: str = API_HOST
    rest_host: str = REST_HOST
    seconds_max: float = SECONDS_MAX

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings. SettingsError for a key that is none."""
        secret, key = settings.vonage_api_secret, settings.vonage_private_key
        return cls(
            api_key=settings.vonage_api_key,
            api_secret=secret.get_secret_value() if secret else None,
            application_id=settings.vonage_application_id,
            private_key=private_key_of(key.get_secret_value()) if key else None,
            api_host=settings.vonage_api_host or API_HOST,
            rest_host=settings.vonage_rest_host or REST_HOST,
            seconds_max=settings.send_seconds_max,
        )


def private_key_of(given: str) -> str:
    """A private key as PEM, given so or as the path of a file. SettingsError says what is wrong with it."""
    text = given
    if PEM not in given:
        try:
            text = Path(given).expanduser().read_text("ascii")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise SettingsError(
                f"VONAGE_PRIVATE_KEY is neither a key nor a file that can be read: {type(error).__name__}."
            ) from error
    if PKCS8 not in text:
        raise SettingsError(
            f"VONAGE_PRIVATE_KEY is none of Vonage's keys, which begin with {PKCS8}: take the file from the dashboard."
        )
    return text


def application_token(credentials: Credentials, seconds: int) -> str:
    """A token of the application, good for so many seconds. SettingsError where there is no application to sign it."""
    if not (credentials.application_id and credentials.private_key):
        raise SettingsError("A token needs VONAGE_APPLICATION_ID and VONAGE_PRIVATE_KEY.")
    claims = {"exp": int(time.time()) + seconds}
    token: bytes = auth_of(credentials, by_application=True).generate_application_jwt(claims)
    return token.decode()


def client_of(credentials: Credentials, auth: Any) -> HttpClient:  # noqa: ANN401 - the SDK's, which has no types
    """A client with one connection, which makes each request once."""
    from vonage_http_client import HttpClient, HttpClientOptions  # noqa: PLC0415

    options = HttpClientOptions(
        api_host=credentials.api_host,
        rest_host=credentials.rest_host,
        timeout=math.ceil(credentials.seconds_max),
        pool_connections=1,
        pool_maxsize=1,
        max_retries=0,
    )
    return HttpClient(auth, options, AGENT)


def auth_of(credentials: Credentials, *, by_application: bool) -> Any:  # noqa: ANN401 - the same
    """The SDK's form of who asks: the application, or the account. SettingsError where the SDK is not installed."""
    # It logs whole requests and answers, numbers and all; what matters of them is raised by us.
    logging.getLogger("vonage").setLevel(logging.CRITICAL + 1)
    try:
        from vonage_http_client import Auth  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError("That needs Vonage's SDK: pip install 'landed[send]'.") from error
    if by_application:
        return Auth(application_id=credentials.application_id, private_key=credentials.private_key)
    return Auth(api_key=credentials.api_key, api_secret=credentials.api_secret)
