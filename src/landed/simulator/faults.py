"""Trouble on demand: what goes wrong with the calls, from when, for how long, and for which part of them.

One table of kinds serves the command line (`outage,from=10m,for=1h`), a scenario's `[[fault]]` and the control API.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import msgspec

from landed.durations import seconds_of
from landed.errors import SettingsError
from landed.simulator.fates import COPIES_MAX


class FaultKind(StrEnum):
    """What goes wrong."""

    OUTAGE = "outage"
    WRONG_SECRET = "wrong-secret"  # noqa: S105 - the name of a fault
    UNSIGNED = "unsigned"
    SKEW = "skew"
    SLOW = "slow"
    BURST = "burst"
    DUPLICATES = "duplicates"
    DISORDER = "disorder"


class Kind(NamedTuple):
    """What a kind of fault does, the option that says how much of it, and that option's usual value."""

    does: str
    option: str = ""
    usual: float = 0.0


KINDS: Mapping[FaultKind, Kind] = {
    FaultKind.OUTAGE: Kind("No call reaches the receiver; all are tried again after, which is the storm."),
    FaultKind.WRONG_SECRET: Kind("Calls are signed with another secret."),
    FaultKind.UNSIGNED: Kind("Calls bear no signature, as after an error within Vonage."),
    FaultKind.SKEW: Kind("Signatures bear a time so far from the real one.", "by", 3_600.0),
    FaultKind.SLOW: Kind("Each call takes so much longer to get there, in real time.", "by", 2.0),
    FaultKind.BURST: Kind("Calls are held back, and come all at once when it ends."),
    FaultKind.DUPLICATES: Kind(f"Each call is made so many times (at most {COPIES_MAX}).", "copies", 2),
    FaultKind.DISORDER: Kind("Each call is held back by any time up to this, so that the order is lost.", "by", 60.0),
}
OPTIONS = ("from", "for", "part", "by", "copies")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, from `began_at` until `ends_at` (None is for good), for a `part` of all calls from 0 to 1."""

    id: int
    kind: FaultKind
    began_at: datetime
    ends_at: datetime | None = None
    part: float = 1.0
    amount: float = 0.0

    def is_on(self, now: datetime) -> bool:
        """Whether it goes on at that time."""
        return self.began_at <= now and (self.ends_at is None or now < self.ends_at)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A fault as somebody asks for it, in seconds from when that is."""

    kind: FaultKind
    from_seconds: float = 0.0
    for_seconds: float | None = None
    part: float = 1.0
    amount: float = 0.0

    def fault(self, fault_id: int, now: datetime) -> Fault:
        """The fault, as of that time."""
        began = now + timedelta(seconds=self.from_seconds)
        ends = None if self.for_seconds is None else began + timedelta(seconds=self.for_seconds)
        return Fault(id=fault_id, kind=self.kind, began_at=began, ends_at=ends, part=self.part, amount=self.amount)


def wanted(options: Mapping[str, object]) -> Wanted:
    """A fault from its options by name, as a scenario or the control API gives it. SettingsError says what is wrong."""
    kind = _kind(str(options.get("kind", "")))
    does = KINDS[kind]
    allowed = {"kind", "from", "for", "part", *([does.option] if does.option else ())}
    unknown = set(options) - allowed
    if unknown:
        raise SettingsError(
            f"A fault of the kind {kind} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(allowed))}."
        )
    part = _number("part", options.get("part", 1.0))
    if not 0 <= part <= 1:
        raise SettingsError(f"The part of a fault is from 0 to 1, not {part:g}.")
    amount = does.usual
    if does.option == "copies":
        amount = _number("copies", options.get("copies", does.usual))
        if amount not in range(1, COPIES_MAX + 1):
            raise SettingsError(f"A call is made 1 to {COPIES_MAX} times, not {amount:g}.")
    elif does.option:
        amount = seconds_of(options.get(does.option, does.usual), signed=kind is FaultKind.SKEW)
    if kind is FaultKind.BURST and "for" not in options:
        raise SettingsError("A burst needs an end, such as for=1m: that is when the calls come.")
    return Wanted(
        kind=kind,
        from_seconds=seconds_of(options.get("from", 0)),
        for_seconds=seconds_of(options["for"]) if "for" in options else None,
        part=part,
        amount=amount,
    )


def wanted_of(text: str) -> Wanted:
    """A fault as the command line has it: `outage,from=10m,for=1h`."""
    kind, *options = text.split(",")
    pairs = [option.partition("=") for option in options]
    if not all(value for _, _, value in pairs):
        raise SettingsError(
            f"{text!r} is no fault: a kind, then options as name=value, such as outage,from=10m,for=1h."
        )
    return wanted({"kind": kind.strip()} | {name.strip(): value.strip() for name, _, value in pairs})


def _kind(text: str) -> FaultKind:
    try:
        return FaultKind(text)
    except ValueError:
        raise SettingsError(f"{text!r} is no kind of fault; there are {', '.join(FaultKind)}.") from None


def _number(name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise SettingsError(f"{name} is a number, not {value!r}.") from None
