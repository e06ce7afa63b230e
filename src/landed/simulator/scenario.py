"""What a simulation is started with, from a TOML file and from the command line, which wins.

seed = 7
speed = 60                      # simulated seconds a real one, or "stepped"
status_url = "http://127.0.0.1:3000/webhooks/message-status"

[account]                       # what is set in the dashboard
webhook_format = "GET"          # or POST, POST-JSON, "each" in turn

[fates]                         # what becomes of messages to a number
"447911123456" = "buffered"

[network.23410]                 # how a network behaves; what is not named stays
latency_seconds = 30
fates = { delivered = 90, lost = 10 }

[[fault]]                       # what goes wrong
kind = "outage"
from = "10m"
for = "1h"
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec

from landed.errors import SettingsError
from landed.simulator.account import BALANCE, Settings, changed_settings
from landed.simulator.clock import STEPPED
from landed.simulator.fates import fate_named
from landed.simulator.faults import Wanted, wanted
from landed.simulator.networks import ELSEWHERE, NETWORKS, Network

SEED = 1
# Stepped time begins here, so that the same seed gives the same bytes.
STEPPED_BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)
SPEED_MAX = 1_000_000.0
LATENCY_SECONDS_MAX = 86_400.0
SPREAD_MAX = 3.0
YEARS = range(1970, 9_000)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A simulation. `began_at` of None is now, or STEPPED_BEGAN in stepped time; `lanes` is the clock's."""

    seed: int = SEED
    speed: float = 1.0
    began_at: datetime | None = None
    lanes: int = 1
    status_url: str = ""
    receipt_url: str = ""
    balance: Decimal = BALANCE
    settings: Settings = msgspec.field(default_factory=Settings)
    # In the place of those that follow from the seed.
    api_key: str | None = None
    api_secret: str | None = None
    signature_secret: str | None = None
    fates: Mapping[str, str] = {}
    networks: tuple[Network, ...] = ()
    faults: tuple[Wanted, ...] = ()

    def begins_at(self, now: datetime) -> datetime:
        """When its time begins."""
        return self.began_at or (STEPPED_BEGAN if self.speed == STEPPED else now)


class _Scenario(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The file, as it is written."""

    seed: int = SEED
    speed: float | str = 1.0
    begin: datetime | None = None
    status_url: str = ""
    receipt_url: str = ""
    account: dict[str, object] = {}
    fates: dict[str, str] = {}
    network: dict[str, dict[str, object]] = {}
    fault: list[dict[str, object]] = []


def load_scenario(file: Path | None) -> Scenario:
    """The scenario of a file, or the usual one. SettingsError says what in it is wrong."""
    if file is None:
        return Scenario()
    try:
        written = msgspec.convert(tomllib.loads(file.read_text("utf-8")), _Scenario, strict=False)
        return _scenario(written)
    except OSError as error:
        raise SettingsError(f"The scenario {file} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, SettingsError) as error:
        raise SettingsError(f"The scenario {file} is not as it must be: {str(error).rstrip('.')}.") from error


def speed_of(value: object) -> float:
    """How fast time passes: a number, or `stepped`."""
    try:
        speed = STEPPED if value == "stepped" else float(str(value))
    except ValueError:
        speed = -1.0
    if not 0 <= speed <= SPEED_MAX:
        raise SettingsError(f"The speed is a number of simulated seconds a real one, or stepped; not {value!r}.")
    return speed


def _scenario(written: _Scenario) -> Scenario:
    account = dict(written.account)
    balance = account.pop("balance", BALANCE)
    key, secret, signature = (account.pop(name, None) for name in ("api_key", "api_secret", "signature_secret"))
    for fate in written.fates.values():
        fate_named(fate)
    return Scenario(
        seed=written.seed,
        speed=speed_of(written.speed),
        began_at=aware(written.begin),
        status_url=written.status_url,
        receipt_url=written.receipt_url,
        balance=_amount(balance),
        api_key=None if key is None else str(key),
        api_secret=None if secret is None else str(secret),
        signature_secret=None if signature is None else str(signature),
        settings=changed_settings(Settings(), account),
        fates=written.fates,
        networks=tuple(_network(code, changes) for code, changes in written.network.items()),
        faults=tuple(wanted(options) for options in written.fault),
    )


def _amount(value: object) -> Decimal:
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise SettingsError(f"The account's balance is an amount in EUR, not {value!r}.")
    return amount


def _network(code: str, changes: Mapping[str, object]) -> Network:
    known = next((network for network in (*NETWORKS, ELSEWHERE) if network.code == code), None)
    if known is None:
        raise SettingsError(f"There is no network {code!r} in the simulator.")
    try:
        network = msgspec.convert(msgspec.to_builtins(known) | dict(changes), _StrictNetwork, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"network.{code}: {error}") from error
    for fate in network.fates:
        fate_named(fate)
    numbers = (network.share, network.latency_seconds, network.spread, network.duplicates, network.disorder)
    if not all(0 <= number < math.inf for number in (*numbers, *network.fates.values())):
        raise SettingsError(f"network.{code}: no number is below 0, and none is infinite")
    if sum(network.fates.values()) <= 0 or max(network.duplicates, network.disorder) > 1:
        raise SettingsError(f"network.{code}: some fate has a weight, and duplicates and disorder are 1 at most")
    if network.latency_seconds > LATENCY_SECONDS_MAX or network.spread > SPREAD_MAX:
        raise SettingsError(f"network.{code}: a latency is a day at most, and its spread {SPREAD_MAX:g}")
    return network


class _StrictNetwork(Network, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A network, where a name that there is not is an error."""


def aware(moment: datetime | None) -> datetime | None:
    """A time with its zone. SettingsError for one near the ends of the calendar."""
    if moment is not None and moment.year not in YEARS:
        raise SettingsError(f"Time begins between the years {YEARS.start} and {YEARS.stop - 1}, not in {moment.year}")
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
