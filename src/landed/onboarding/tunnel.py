"""A public URL for as long as somebody develops: by ngrok's own Python SDK (extra `ngrok`), or one that is there.

ngrok's service is on the internet and wants an account, whose token is in NGROK_AUTHTOKEN. https://ngrok.com/docs
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from landed.errors import SettingsError, SurroundingsError
from landed.onboarding.addresses import Addresses
from landed.onboarding.pointing import Pointed, guarded, point, pointed_in, restore
from landed.settings import Settings
from landed.vonage.configuration import Configuration
from landed.vonage.sdk import Credentials

HOST = "127.0.0.1"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which tunnel: to the URL that somebody else made, or by ngrok; and what of Vonage's is pointed at it."""

    url: str | None = None
    domain: str | None = None
    has_messages: bool = True
    has_sms: bool = True


class Tunnel(msgspec.Struct, frozen=True, kw_only=True):
    """An open tunnel. Nothing is pointed at it where Vonage cannot be asked: then `pointed` is None."""

    addresses: Addresses
    pointed: Pointed | None


@contextmanager
def tunnelled(settings: Settings, port: int, wanted: Wanted) -> Iterator[Tunnel]:
    """A public URL for a port on which landed answers, and Vonage pointed at it for as long as it lasts."""
    credentials = Credentials.of(settings)
    application_id = credentials.application_id if wanted.has_messages else None
    if not (application_id or wanted.has_sms):
        raise SettingsError("There is no application to point at the tunnel: VONAGE_APPLICATION_ID is not set.")
    with public_url(port, wanted.url, wanted.domain) as url:
        addresses = Addresses.of(url, settings.path_prefix)
        if not (credentials.api_key and credentials.api_secret):
            yield Tunnel(addresses=addresses, pointed=None)
            return
        configuration = Configuration(credentials)
        # Before anything is started: a file that cannot be read stops it.
        pointed_in(settings.data)
        with guarded(settings.data, configuration):
            # What an earlier one left behind, when its machine crashed.
            restore(configuration, settings.data)
            pointed = point(
                configuration, addresses, settings.data, application_id=application_id, has_sms=wanted.has_sms
            )
            yield Tunnel(addresses=addresses, pointed=pointed)


@contextmanager
def public_url(port: int, given: str | None, domain: str | None) -> Iterator[str]:
    """The URL by which the internet reaches this port, for as long as it lasts; `given` is one that is there."""
    if given is not None:
        yield given.rstrip("/")
        return
    listener, close = _opened(port, domain)
    try:
        yield str(listener.url()).rstrip("/")
    finally:
        with suppress(Exception):
            close(str(listener.url()))


def _opened(port: int, domain: str | None) -> tuple[Any, Any]:
    try:
        import ngrok  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            "A tunnel needs ngrok's SDK (pip install 'landed[ngrok]'), or a public URL of another kind (--public-url)."
        ) from error
    wanted = {"domain": domain} if domain else {}
    try:
        # Without a running loop it waits itself. https://ngrok.github.io/ngrok-python/module.html
        return ngrok.forward(f"{HOST}:{port}", authtoken_from_env=True, **wanted), ngrok.disconnect
    except (ValueError, RuntimeError, OSError, TypeError) as error:
        about = " ".join(str(part) for part in error.args if part).strip().splitlines()
        raise SurroundingsError(
            f"ngrok gave no tunnel ({about[0] if about else type(error).__name__}): is NGROK_AUTHTOKEN set, and its "
            "service reachable?"
        ) from error
