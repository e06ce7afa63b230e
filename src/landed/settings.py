"""All settings: the command line, then the environment, then `landed.toml`; each with its meaning.

Vonage's own names are kept for what is Vonage's (`VONAGE_SIGNATURE_SECRET`); ours begin with
`LANDED_`, and a table's members are joined by two underscores (`LANDED_LIMITS__BODY_BYTES_MAX`).
Wrong settings end the start with all their errors together, never with a guess.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import TomlConfigSettingsSource as TomlSource

from landed.errors import SettingsError

FILE = "landed.toml"

Method = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]
PrintMode = Literal["pretty", "json", "raw", "none"]
Role = Literal["all", "gate", "worker"]
Port = Annotated[int, Field(ge=0, le=65_535)]


def _several(value: object) -> object:
    """One secret, a list of them, or several in one text with commas between."""
    if isinstance(value, str):
        value = [part for each in value.split(",") if (part := each.strip())]
        if not value:
            raise ValueError("it is empty, which would check nothing; unset it to take unsigned receipts on purpose")
    return value


Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_several)]


class AccountSettings(BaseModel):
    """One more Vonage account, as an `[[account]]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="What the account is called here.")
    api_key: str | None = Field(default=None, min_length=1, description="Its API key at Vonage.")
    signature_secret: Secrets = Field(min_length=1, description="Its signature secret; several while rotating.")
    signature_method: Method | None = Field(default=None, description="The only method taken for `sig`; else any.")


class Limits(BaseModel):
    """The `[limits]` table: what one client of the public port, and all of them together, may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url_bytes_max: int = Field(default=8 * 1024, gt=0, description="Longest request target, bytes.")
    header_bytes_max: int = Field(default=16 * 1024, gt=0, description="All headers of a request, bytes.")
    header_count_max: int = Field(default=64, gt=0, description="Headers of a request.")
    body_bytes_max: int = Field(default=256 * 1024, gt=0, description="Largest body, bytes.")
    buffered_bytes_max: int = Field(default=64 * 1024 * 1024, gt=0, description="Unfinished bodies together, bytes.")
    connections_max: int = Field(default=8_192, gt=0, description="Open connections.")
    in_flight_max: int = Field(default=16_384, gt=0, description="Requests that wait for one commit.")
    first_byte_seconds_max: float = Field(default=15.0, gt=0, description="From connecting to the first byte, seconds.")
    head_seconds_max: float = Field(default=10.0, gt=0, description="From the first byte to whole headers, seconds.")
    request_seconds_max: float = Field(default=30.0, gt=0, description="From the first byte to the last, seconds.")
    idle_seconds_max: float = Field(default=75.0, gt=0, description="Between requests on one connection, seconds.")
    write_seconds_max: float = Field(default=15.0, gt=0, description="For a client that does not read, seconds.")


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="LANDED_",
        env_nested_delimiter="__",
        toml_file=FILE,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
    )

    host: str = Field(default="0.0.0.0", description="Address of the public port.")  # noqa: S104 - webhooks come from outside
    port: Port = Field(default=3000, description="Public port: the webhooks.")
    private_host: str = Field(default="127.0.0.1", description="Address of the private port.")
    private_port: Port = Field(default=3001, description="Private port: page, health, metrics.")
    data: Path = Field(default=Path("landed-data"), description="Directory of the journal and the store.")
    role: Role = Field(default="all", description="Which processes to run.")
    print: PrintMode | None = Field(default=None, description="How receipts are printed; by the terminal if unset.")
    show_numbers: bool = Field(default=False, description="Print phone numbers in full.")
    jwt_window_hours: float = Field(default=25.0, ge=25, description="Age of a Messages API signature, hours.")
    sig_window_hours: float = Field(default=73.0, ge=73, description="Age of an SMS API signature, hours.")
    ahead_minutes: float = Field(default=5.0, ge=5, description="How far a signature's clock may be ahead, minutes.")
    api_key: str | None = Field(
        default=None,
        validation_alias=AliasChoices("api_key", "VONAGE_API_KEY"),
        description="The account's API key at Vonage.",
    )
    signature_secret: Secrets = Field(
        default=(),
        validation_alias=AliasChoices("signature_secret", "VONAGE_SIGNATURE_SECRET"),
        description="The account's signature secret; several, with commas between, while rotating.",
    )
    signature_method: Method | None = Field(
        default=None,
        validation_alias=AliasChoices("signature_method", "VONAGE_SIGNATURE_METHOD"),
        description="The only method taken for the SMS API's `sig`; any if unset.",
    )
    account: tuple[AccountSettings, ...] = Field(default=(), description="More accounts.")
    limits: Limits = Field(default=Limits(), description="Limits of the public port.")

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


def load(**given: Any) -> Settings:  # noqa: ANN401 - the command line's values, judged by the model
    """The settings, with what was given on the command line; SettingsError names everything wrong."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(fault) for fault in error.errors())) from error
    except ValueError as error:
        raise SettingsError(f"{FILE} cannot be read: {error}.") from error


def _sentence(fault: Any) -> str:  # noqa: ANN401 - pydantic's dictionary
    name = ".".join(str(part) for part in fault["loc"])
    return f"Setting {name}: {fault['msg'].rstrip('.')}. Mend it in {FILE}, the environment or the command line."
