"""The simulated account: what a person sets in Vonage's dashboard, and what its configuration APIs change.

Ids and secrets are functions of the seed, so that a program set up once goes on working with the next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from landed.errors import SettingsError, SurroundingsError
from landed.simulator.dice import Dice
from landed.simulator.wire import target_of
from landed.vonage.signing import METHODS

# A webhook format that is each of them in turn.
EACH = "each"

BALANCE = Decimal("100.00")
# https://api.support.vonage.com/hc/en-us/articles/203993598
THROUGHPUT = 30
# The number that the account has from the start.
NUMBER = "447700900999"


class Transport(StrEnum):
    """The account's webhook format of the SMS API; the Messages API always posts JSON."""

    GET = "GET"
    POST = "POST"
    POST_JSON = "POST-JSON"


class SmsSetting(StrEnum):
    """Which API an account's SMS belong to: it decides in which form their receipts come.

    https://developer.vonage.com/en/dashboard/control/api-settings
    """

    SMS = "sms"
    MESSAGES = "messages"


class Settings(msgspec.Struct, kw_only=True):
    """The account's settings, most of which are set in the dashboard alone.

    `sms_setting` of None lets each API answer in its own form; `webhook_format` of None takes each in turn.
    `signature_method` of None signs as Vonage does by itself, and takes sends signed by any method. `throughput` is
    sends a second: 0 is any number, and so is None where time is stepped; elsewhere None is THROUGHPUT.
    `takes_misspelt_urls` is whether `drCallbackUrl` is as good as `drCallBackUrl`.
    """

    receipt_url: str = ""
    inbound_url: str = ""
    sms_setting: SmsSetting | None = None
    webhook_format: Transport | None = Transport.POST_JSON
    signs_receipts: bool = True
    signature_method: Literal[METHODS] | None = None  # type: ignore[valid-type]
    throughput: Annotated[int, msgspec.Meta(ge=0)] | None = None
    takes_misspelt_urls: bool = True
    takes_conversions: bool = True


class Application(msgspec.Struct, kw_only=True):
    """An application: its public key, and what was configured of it, as the Application API shows it."""

    id: str
    name: str
    public_key: str
    capabilities: Mapping[str, object] = {}
    privacy: Mapping[str, object] = msgspec.field(default_factory=lambda: {"improve_ai": False})

    @property
    def status_url(self) -> str:
        """Where statuses of its messages go; empty when it has none."""
        status = _object(_object(_object(self.capabilities.get("messages")).get("webhooks")).get("status_url"))
        return str(status.get("address") or "")

    @property
    def version(self) -> str | None:
        """Which version of the Messages API its webhooks are written in, when it says."""
        version = _object(self.capabilities.get("messages")).get("version")
        return version if isinstance(version, str) else None


class Number(msgspec.Struct, kw_only=True, rename="camel"):
    """A number of the account, as the Numbers API shows it."""

    country: str
    msisdn: str
    type: str = "mobile-lvn"
    features: tuple[str, ...] = ("SMS", "VOICE")
    mo_http_url: str | None = None
    voice_callback_type: str | None = None
    voice_callback_value: str | None = None
    app_id: str | None = msgspec.field(default=None, name="app_id")


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What an application said of a message: whether its user acted on it."""

    message_id: str
    delivered: bool
    at: datetime | None


class Account(msgspec.Struct, kw_only=True):
    """The account, and all that belongs to it."""

    api_key: str
    api_secret: str
    signature_secret: str
    settings: Settings
    balance: Decimal = BALANCE
    applications: dict[str, Application] = {}
    numbers: dict[str, Number] = {}
    conversions: list[Conversion] = []

    @classmethod
    def of_seed(cls, dice: Dice, settings: Settings, public_key: str, status_url: str) -> Account:
        """The account of a seed, with one application that has this key."""
        application = Application(
            id=dice.uuid("application"),
            name="simulated",
            public_key=public_key,
            capabilities=messages_capability(status_url),
        )
        # The secret as the dashboard wants one: small and capital letters and digits, at most 25.
        return cls(
            api_key=dice.hex(8, "api key"),
            api_secret="S" + dice.hex(15, "api secret") + "k9",
            signature_secret="sim" + dice.hex(29, "signature secret"),
            settings=settings,
            applications={application.id: application},
            numbers={NUMBER: Number(country="GB", msisdn=NUMBER, app_id=application.id)},
        )

    @property
    def application(self) -> Application:
        """The first application. SettingsError when all were deleted."""
        if not self.applications:
            raise SettingsError("The account has no application left; create one, or start anew.")
        return next(iter(self.applications.values()))


def changed_settings(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """The settings with some of them changed. SettingsError says which one cannot be."""
    each = {name: None if value == EACH and name == "webhook_format" else value for name, value in changes.items()}
    try:
        changed = msgspec.convert(msgspec.to_builtins(settings) | each, _Strict, strict=False)
        for url in filter(None, (changed.receipt_url, changed.inbound_url)):
            target_of(url)
    except (msgspec.ValidationError, SurroundingsError) as error:
        raise SettingsError(f"A setting of the account is not as it must be: {str(error).rstrip('.')}.") from error
    return changed


class _Strict(Settings, kw_only=True, forbid_unknown_fields=True):
    """The settings, where a name that there is not is an error."""


def messages_capability(status_url: str, inbound_url: str = "") -> dict[str, object]:
    """The capability of an application that sends messages."""
    webhooks = {
        "status_url": {"address": status_url, "http_method": "POST"},
        "inbound_url": {"address": inbound_url, "http_method": "POST"},
    }
    return {"messages": {"webhooks": webhooks, "version": "v1", "authenticate_inbound_media": False}}


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
