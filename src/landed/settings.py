"""All settings: the command line, then the environment, then `landed.toml`; each with its meaning.

Vonage's own names are kept for what is Vonage's (`VONAGE_SIGNATURE_SECRET`); ours begin with
`LANDED_`, and a table's members are joined by two underscores (`LANDED_LIMITS__BODY_BYTES_MAX`).
Wrong settings end the start with all their errors together, never with a guess.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import (
    SettingsError as SettingsSourceError,
)
from pydantic_settings import (
    TomlConfigSettingsSource as TomlSource,
)

from landed.domain.events import Wanted, check_wanted
from landed.errors import SettingsError

FILE = "landed.toml"
PREFIX = "LANDED_"
NESTED = "__"
JOURNAL_DAYS_MIN = 4

Method = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]
PrintMode = Literal["pretty", "json", "raw", "none"]
Role = Literal["all", "gate", "worker"]
SmsSignature = Literal["when-present", "required"]
Network = IPv4Network | IPv6Network
Port = Annotated[int, Field(ge=0, le=65_535)]


def _several(value: object) -> object:
    """One secret, a list of them, or several in one text with commas between; never none."""
    if isinstance(value, str):
        value = [part for each in value.split(",") if (part := each.strip())]
    if not value:
        raise ValueError("it is empty, which would check nothing; unset it to take unsigned receipts on purpose")
    return value


def _words(value: object) -> object:
    """One word, a list of them, or several in one text with commas between."""
    return [part for each in value.split(",") if (part := each.strip())] if isinstance(value, str) else value


def _blank_is_unset(value: object) -> object:
    """An empty variable, as files of environments have them, sets nothing."""
    return None if isinstance(value, str) and not value.strip() else value


def _several_networks(value: object) -> object:
    """Networks as `192.0.2.0/24`, a list of them or several in one text with commas between."""
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("it is empty, which would accept from anywhere; unset it to do so on purpose")
        value = [part for each in value.split(",") if (part := each.strip())]
    if not isinstance(value, list | tuple):
        raise ValueError("it is no list of networks such as 192.0.2.0/24")  # noqa: TRY004 - pydantic's kind of error
    networks, wrong = [], []
    for each in value:
        try:
            networks.append(ip_network(each.strip() if isinstance(each, str) else each))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(networks)


def _prefix(value: object) -> object:
    """A path such as `/hooks`; blank or a lone slash is none."""
    if not isinstance(value, str):
        return value
    path = value.strip().rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError("it is no path such as /hooks: letters, digits, and - . _ ~ between slashes")
    return path or None


def _public_url(value: object) -> object:
    """A URL such as `https://hooks.example.com`, perhaps with a path; without a slash at its end."""
    if not isinstance(value, str) or not value.strip():
        return None
    url = value.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        is_url = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        is_url = False
    if not is_url or not (url.isascii() and url.isprintable()) or " " in url or set("?#@\\") & set(url):
        raise ValueError("it is no URL such as https://hooks.example.com, without query, user and fragment")
    # https://api.support.vonage.com/hc/en-us/articles/12945379904796
    if "_" in (parts.hostname or ""):
        raise ValueError("Vonage takes no host with an underscore in its name")
    return url


Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_several_networks)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_several)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Key = Annotated[str | None, BeforeValidator(_blank_is_unset)]
Secret = Annotated[SecretStr | None, BeforeValidator(_blank_is_unset)]
Hours = Annotated[float, Field(le=24 * 366, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)]


class AccountSettings(BaseModel):
    """One more Vonage account, as an `[[account]]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="What the account is called here.")
    api_key: Key = Field(default=None, description="Its API key at Vonage.")
    signature_secret: Secrets = Field(min_length=1, description="Its signature secret; several while rotating.")
    signature_method: Method | None = Field(default=None, description="The only method taken for `sig`; else any.")


class EventSettings(BaseModel):
    """The `[events]` table: how events reach those who want them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    networks: Networks = Field(
        default=(), description="Private networks that webhooks may reach all the same, such as `10.0.0.0/8`."
    )
    plain_http: bool = Field(default=False, description="Whether webhooks may go by `http://`, which anybody can read.")
    connect_seconds_max: Seconds = Field(default=5.0, description="To look up a subscriber and to connect, seconds.")
    first_byte_seconds_max: Seconds = Field(default=15.0, description="To the first byte of its answer, seconds.")
    whole_seconds_max: Seconds = Field(default=30.0, description="To the end of its answer, seconds.")
    answer_bytes_max: int = Field(default=64 * 1024, gt=0, description="Of its answer that is read, bytes.")
    concurrency: int = Field(default=16, ge=1, le=1_000, description="Events on their way to one subscriber at once.")
    handler_seconds_max: Seconds = Field(default=30.0, description="How long a handler may take, seconds.")
    digest_seconds: Seconds = Field(default=300.0, description="From one message to people to the next, seconds.")
    days: int = Field(default=30, ge=1, le=36_500, description="Days that events are kept, and dead letters with them.")


class SubscriberSettings(BaseModel):
    """Who gets events, as a `[[subscriber]]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="What it is called here; what waits for it waits under this name.")
    url: str = Field(min_length=1, description="Where to: `https://…`, `nats://host/subject`, or a URL of Apprise's.")
    secret: Secrets = Field(
        default=(), description="A webhook's secret, `whsec_…`; several while rotating, the newest first."
    )
    events: Words = Field(default=("*",), description="Types, or patterns of them such as `message.*`.")
    channels: Words = Field(default=(), description="Only those of these channels; any if unset.")
    networks: Words = Field(default=(), description="Only those of these networks, by their codes; any if unset.")
    outcomes: Words = Field(default=(), description="Only those of messages with these outcomes; any if unset.")
    reasons: Words = Field(default=(), description="Only those with these reasons, by their names; any if unset.")
    permanences: Words = Field(
        default=(), description="Only those with reasons of these kinds, such as `permanent`; any if unset."
    )

    def wanted(self) -> Wanted:
        """What it wants."""
        return Wanted(
            events=self.events,
            channels=self.channels,
            networks=self.networks,
            outcomes=self.outcomes,
            reasons=self.reasons,
            permanences=self.permanences,
        )

    @model_validator(mode="after")
    def _may_come(self) -> Self:
        check_wanted(self.wanted())
        return self


class Limits(BaseModel):
    """The `[limits]` table: what one client of the public port, and all of them together, may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url_bytes_max: int = Field(default=8 * 1024, gt=0, description="Longest request target, bytes.")
    header_bytes_max: int = Field(default=16 * 1024, gt=0, description="All headers of a request, bytes.")
    header_count_max: int = Field(default=64, gt=0, description="Headers of a request.")
    body_bytes_max: int = Field(default=256 * 1024, gt=0, description="Largest body, bytes.")
    buffered_bytes_max: int = Field(
        default=64 * 1024 * 1024, gt=0, description="Kept for slow clients together, bytes."
    )
    connections_max: int = Field(default=8_192, gt=0, description="Open connections.")
    in_flight_max: int = Field(default=16_384, gt=0, description="Requests that wait for one commit.")
    first_byte_seconds_max: Seconds = Field(default=15.0, description="From connecting to the first byte, seconds.")
    head_seconds_max: Seconds = Field(default=10.0, description="From the first byte to whole headers, seconds.")
    request_seconds_max: Seconds = Field(default=30.0, description="From the first byte to the last, seconds.")
    idle_seconds_max: Seconds = Field(default=75.0, description="Between requests on one connection, seconds.")
    write_seconds_max: Seconds = Field(default=15.0, description="For a client that does not read, seconds.")
    unverified_per_second_max: float = Field(
        default=500.0,
        gt=0,
        allow_inf_nan=False,
        description="Requests a second without a signature that holds, once there is a secret; beyond it 503.",
    )
    unverified_burst_max: int = Field(default=5_000, gt=0, description="Such requests at once, after a quiet time.")
    unverified_free_bytes_min: int = Field(
        default=512 * 1024 * 1024,
        ge=0,
        description="Free disk space under which such requests are answered 503; the rest is left to signed ones.",
    )
    unverified_journal_share_max: float = Field(
        default=0.5, gt=0, le=1, description="Share of `journal_bytes_max` beyond which such requests are answered 503."
    )
    copies_max: int = Field(
        default=100, gt=1, description="Copies of one signed request that are kept; more are answered, and not kept."
    )
    signatures_max: int = Field(
        default=131_072, gt=1, description="Signatures that are remembered, so that copies can be told."
    )
    journal_bytes_max: int = Field(
        default=0,
        ge=0,
        description="Bytes that the journal takes, without the room that retired requests left; 0 for no limit.",
    )
    quarantine_rows_max: int = Field(default=10_000, gt=0, description="Requests in quarantine.")
    quarantine_bytes_max: int = Field(default=64 * 1024 * 1024, gt=0, description="Requests in quarantine, bytes.")
    free_bytes_min: int = Field(
        default=64 * 1024 * 1024, ge=0, description="Free disk space that is left to others, bytes; under it 503."
    )


# What all clients together may use; where there are several gates, each gives its part of it.
SHARED_LIMITS = (
    "buffered_bytes_max",
    "connections_max",
    "in_flight_max",
    "unverified_per_second_max",
    "unverified_burst_max",
    "copies_max",
)
COUNT_MIN = 2


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        toml_file=FILE,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        validate_default=False,
    )

    host: str = Field(default="0.0.0.0", description="Address of the public port.")  # noqa: S104 - webhooks come from outside
    port: Port = Field(default=3000, description="Public port: the webhooks.")
    private_host: str = Field(default="127.0.0.1", description="Address of the private port.")
    private_port: Port = Field(default=3001, description="Private port: page, health, metrics.")
    path_prefix: Annotated[str | None, BeforeValidator(_prefix)] = Field(
        default=None, description="What stands before `/webhooks/…` and `/healthz` on the public port."
    )
    public_url: Annotated[str | None, BeforeValidator(_public_url)] = Field(
        default=None,
        description="What Vonage reaches the public port by, such as `https://hooks.example.com`; `path_prefix` and "
        "the paths of the webhooks follow it.",
    )
    networks: Networks = Field(
        default=(), description="Networks to accept webhooks from, such as `192.0.2.0/24`; any if unset."
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Networks of proxies whose `Forwarded` or `X-Forwarded-For` is believed; each must write one.",
    )
    data: Path = Field(default=Path("landed-data"), description="Directory of the journal and the store.")
    journal_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days that requests stay in the journal, at least 4; 0 keeps them for ever.",
    )
    role: Role = Field(default="all", description="Which processes to run.")
    gates: int = Field(
        default=1, ge=1, le=64, description="Processes that take webhooks; more than one where one core is not enough."
    )
    compiled: bool = Field(
        default=True,
        description="Take and read webhooks the compiled way, where there is one; the others do the same, slower.",
    )
    print: PrintMode | None = Field(default=None, description="How receipts are printed; by the terminal if unset.")
    show_numbers: bool = Field(default=False, description="Print phone numbers in full.")
    jwt_window_hours: Hours = Field(default=25.0, ge=25, description="Age of a Messages API signature, hours.")
    sig_window_hours: Hours = Field(default=73.0, ge=73, description="Age of an SMS API signature, hours.")
    ahead_minutes: float = Field(
        default=5.0,
        ge=5,
        le=1_440,
        allow_inf_nan=False,
        description="How far a signature's clock may be ahead, minutes.",
    )
    vonage_api_key: Key = Field(
        default=None, validation_alias="VONAGE_API_KEY", description="The account's API key at Vonage."
    )
    vonage_signature_secret: Secrets = Field(
        default=(),
        validation_alias="VONAGE_SIGNATURE_SECRET",
        description="The account's signature secret; several, with commas between, while rotating.",
    )
    vonage_signature_method: Annotated[Method | None, BeforeValidator(_blank_is_unset)] = Field(
        default=None,
        validation_alias="VONAGE_SIGNATURE_METHOD",
        description="The only method taken for the SMS API's `sig`; any if unset.",
    )
    vonage_api_secret: Secret = Field(
        default=None, validation_alias="VONAGE_API_SECRET", description="The account's API secret, to send with."
    )
    vonage_application_id: Key = Field(
        default=None, validation_alias="VONAGE_APPLICATION_ID", description="The application that sends."
    )
    vonage_private_key: Secret = Field(
        default=None,
        validation_alias="VONAGE_PRIVATE_KEY",
        description="The application's private key: the path of its file, or the key itself.",
    )
    sender: Key = Field(
        default=None, description="The sender of what `landed send` sends: a number of yours, or a name."
    )
    vonage_api_host: Key = Field(
        default=None,
        validation_alias="VONAGE_API_HOST",
        description="Host of Vonage's Messages API; `api.nexmo.com` if unset.",
    )
    vonage_rest_host: Key = Field(
        default=None,
        validation_alias="VONAGE_REST_HOST",
        description="Host of Vonage's SMS API; `rest.nexmo.com` if unset.",
    )
    send_seconds_max: Seconds = Field(default=30.0, description="How long to wait for an answer of Vonage's, seconds.")
    account: tuple[AccountSettings, ...] = Field(default=(), description="More accounts.")
    sms_signature: SmsSignature = Field(
        default="when-present", description="Whether the SMS API's requests must be signed once there is a secret."
    )
    handlers: Key = Field(
        default=None, description="The file, or the module, of the application's own handlers of events."
    )
    subscriber: tuple[SubscriberSettings, ...] = Field(default=(), description="Who gets events.")
    events: EventSettings = Field(default=EventSettings(), description="How events reach those who want them.")
    limits: Limits = Field(default=Limits(), description="Limits of the public port.")

    def of_one_gate(self) -> Self:
        """The same for one of the gates: it gives its part of what all clients together may use."""
        if self.gates == 1:
            return self
        parts = {name: _part(getattr(self.limits, name), self.gates) for name in SHARED_LIMITS}
        return self.model_copy(update={"limits": self.limits.model_copy(update=parts)})

    @field_validator("account")
    @classmethod
    def _named_once(cls, accounts: tuple[AccountSettings, ...]) -> tuple[AccountSettings, ...]:
        names = ["default", *(account.name for account in accounts)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each account needs a name of its own, and this one is taken: {', '.join(twice)}")
        return accounts

    @field_validator("journal_days")
    @classmethod
    def _as_long_as_vonage_tries(cls, days: int) -> int:
        # https://api.support.vonage.com/hc/en-us/articles/226572227
        # Delivery receipts are sent again for 72 hours: what comes of one message is to be judged together.
        if 0 < days < JOURNAL_DAYS_MIN:
            raise ValueError(
                "it is too short, since Vonage sends a receipt again for three days: give at least "
                f"{JOURNAL_DAYS_MIN}, or 0 to keep requests for ever"
            )
        return days

    @field_validator("sms_signature")
    @classmethod
    def _checkable(cls, wanted: SmsSignature, info: ValidationInfo) -> SmsSignature:
        known = {"vonage_signature_secret", "account"} <= info.data.keys()
        if wanted == "required" and known and not (info.data["vonage_signature_secret"] or info.data["account"]):
            raise ValueError("there is no signature secret to check with: set VONAGE_SIGNATURE_SECRET")
        return wanted

    @field_validator("trusted_proxies")
    @classmethod
    def _not_everybody(cls, proxies: tuple[Network, ...]) -> tuple[Network, ...]:
        if any(network.prefixlen == 0 for network in proxies):
            raise ValueError("it names every address there is, so anybody could say to be anybody")
        return proxies

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by pydantic-settings
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by pydantic-settings
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, `landed.toml`; the first that has a setting wins."""
        return init_settings, env_settings, TomlSource(settings_cls)


def _part(limit: float, gates: int) -> float:
    return limit / gates if isinstance(limit, float) else max(limit // gates, COUNT_MIN)


def load(**given: Any) -> Settings:  # noqa: ANN401 - the command line's values, judged by the model
    """The settings, with what was given on the command line; SettingsError names everything wrong."""
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join([_sentence(fault) for fault in error.errors()] + _unknown_variables())) from error
    except (SettingsSourceError, ValueError, OSError) as error:
        raise SettingsError(f"The settings cannot be read, in {FILE} or the environment: {error}.") from error
    if unknown := _unknown_variables():
        raise SettingsError("\n".join(unknown))
    return settings


def _unknown_variables() -> list[str]:
    """A sentence for each variable that is meant for us and is none of ours, such as a misspelt one."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return [
        f"Environment variable {name} is no setting of landed's: see docs/settings.md, or unset it."
        for name in os.environ
        if name.startswith(PREFIX) and name.partition(NESTED)[0] not in known
    ]


def _sentence(fault: Any) -> str:  # noqa: ANN401 - pydantic's dictionary
    name = ".".join(str(part) for part in fault["loc"])
    said = "it is no setting of landed's" if fault["type"] == "extra_forbidden" else fault["msg"].rstrip(".")
    said = said.removeprefix("Value error, ")
    return f"Setting {name}: {said[:1].lower()}{said[1:]}. Mend it in {FILE}, the environment or the command line."
