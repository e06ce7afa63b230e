"""Lengths of time as people type them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from landed.errors import SettingsError

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?")
UNIT_SECONDS: Mapping[str | None, float] = {None: 1, "ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
SECONDS_MAX = 366 * 86_400.0


def seconds_of(value: object, *, signed: bool = False) -> float:
    """Seconds from a number, or from text with a unit: 250ms, 30s, 10m, 1h, 3d."""
    text = str(value).strip()
    is_minus = signed and text.startswith("-")
    match = DURATION.fullmatch(text.removeprefix("-") if is_minus else text)
    seconds = float(match[1]) * UNIT_SECONDS[match[2]] if match else SECONDS_MAX + 1
    if isinstance(value, bool) or seconds > SECONDS_MAX:
        raise SettingsError(f"{text!r} is no time: a number with ms, s, m, h or d, such as 10m, a year at most.")
    return -seconds if is_minus else seconds
