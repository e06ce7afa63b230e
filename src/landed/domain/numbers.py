"""Phone numbers as people type them and as Vonage writes them."""

from __future__ import annotations

import re

BETWEEN_DIGITS = re.compile(r"[\s().\-/]")
TYPED_NUMBER = re.compile(r"\+?[0-9]+")


def normal_number(typed: str) -> str:
    """A number as Vonage writes it, digits from the country code on; a name stays as it is."""
    number = BETWEEN_DIGITS.sub("", typed)
    return number.removeprefix("+").removeprefix("00") if TYPED_NUMBER.fullmatch(number) else typed
