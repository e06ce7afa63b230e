"""Looks for the doctor beyond this machine: asks Vonage what it has of us, and tries the way from outside.

Nothing is changed at Vonage.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

from msgspec.structs import replace

from landed.errors import LandedError, Refused, SettingsError
from landed.onboarding.addresses import Addresses
from landed.onboarding.pointing import is_guarded, pointed_in
from landed.onboarding.seen import Seen, VonageSeen
from landed.onboarding.trying import Trial
from landed.settings import Settings
from landed.vonage.configuration import Application, Configuration
from landed.vonage.keys import public_key_of
from landed.vonage.sdk import API_HOST, Credentials
from landed.vonage.signing import Keyring, Windows

# Somebody waits for the doctor.
SECONDS_MAX = 10.0
Told = Callable[[str], None]


def look_farther(settings: Settings, keyring: Keyring, windows: Windows, seen: Seen, told: Told) -> Seen:
    """All that can be seen from here of Vonage and of the way from outside, put into `seen`; `told` hears of each."""
    seen = _what_is_set(settings, seen)
    if seen.has_credentials:
        told("Asking Vonage …")
        seen = replace(seen, vonage=ask(replace(_credentials_of(settings), seconds_max=SECONDS_MAX)))
    if seen.addresses is not None:
        told(f"Trying {seen.addresses.base} …")
        seen = replace(seen, tries=tuple(Trial(settings.data, keyring, windows).of(seen.addresses)))
    return seen


def _what_is_set(settings: Settings, seen: Seen) -> Seen:
    trouble, key = "", settings.vonage_private_key
    try:
        Credentials.of(settings)
    except SettingsError as error:
        trouble = str(error)
    addresses, left, tunnel_trouble = Addresses.of_settings(settings), "", ""
    try:
        pointed = pointed_in(settings.data)
        if pointed is not None and is_guarded(settings.data):
            addresses = Addresses(base=pointed.url)
        elif pointed is not None:
            left = pointed.url
    except LandedError as error:
        tunnel_trouble = str(error)
    return replace(
        seen,
        is_far_seen=True,
        has_credentials=bool(settings.vonage_api_key and settings.vonage_api_secret),
        application_id=settings.vonage_application_id,
        has_private_key=key is not None and not trouble,
        key_trouble=trouble,
        is_real_vonage=settings.vonage_api_host in (None, API_HOST),
        sender=(settings.sender or "").lstrip("+"),
        addresses=addresses,
        left_pointed=left,
        tunnel_trouble=tunnel_trouble,
    )


def _credentials_of(settings: Settings) -> Credentials:
    """Those of the account, whatever the private key is."""
    try:
        return Credentials.of(settings)
    except SettingsError:
        return Credentials.of(settings.model_copy(update={"vonage_private_key": None}))


# What Vonage has of us.


def ask(credentials: Credentials) -> VonageSeen:
    """Ask Vonage for everything; what it does not answer is missing, and the first trouble is told."""
    seen = VonageSeen(asked_at=datetime.now(UTC))
    try:
        vonage = Configuration(credentials)
        # First of all whether it knows us: every answer would be the same.
        seen = replace(seen, balance=vonage.balance(), asked_at=datetime.now(UTC))
    except SettingsError as error:
        return replace(seen, has_sdk=False, trouble=str(error))
    except LandedError as error:
        refused = isinstance(error, Refused) and error.status == HTTPStatus.UNAUTHORIZED
        return replace(seen, refused=refused, trouble=str(error))
    seen = replace(seen, at=vonage.at)
    for question in (_application, _account, _numbers):
        try:
            seen = question(vonage, credentials, seen)
        except LandedError as error:
            seen = replace(seen, trouble=seen.trouble or str(error))
    return seen


def _application(vonage: Configuration, credentials: Credentials, seen: VonageSeen) -> VonageSeen:
    if credentials.application_id is None:
        return seen
    try:
        application = vonage.application(credentials.application_id)
    except Refused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return replace(seen, is_application_missing=True)
        raise
    return replace(seen, application=application, key_fits=_key_fits(credentials.private_key, application))


def _key_fits(private_key: str | None, application: Application) -> bool | None:
    if not private_key:
        return None
    try:
        ours = public_key_of(private_key)
    except ValueError:
        return False
    return ours.split() == application.public_key.split()


def _account(vonage: Configuration, _credentials: Credentials, seen: VonageSeen) -> VonageSeen:
    return replace(seen, account=vonage.webhooks())


def _numbers(vonage: Configuration, _credentials: Credentials, seen: VonageSeen) -> VonageSeen:
    return replace(seen, numbers=tuple(vonage.numbers()))
