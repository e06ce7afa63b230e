"""Phone numbers as people type them and as Vonage writes them."""

from __future__ import annotations

import re

BETWEEN_DIGITS = re.compile(r"[\s().\-/]")
TYPED_NUMBER = re.compile(r"\+?[0-9]+")


# Whose parties are ids and no phone numbers, though they may be digits.
CHANNELS_OF_IDS = frozenset({"messenger"})


def phone_number(channel: str | None, party: str | None) -> str | None:
    """A party's phone number; None where it has none on that channel."""
    return None if (channel or "").lower() in CHANNELS_OF_IDS else party


def normal_number(typed: str) -> str:
    """A number as Vonage writes it, digits from the country code on; a name stays as it is."""
    number = BETWEEN_DIGITS.sub("", typed)
    return number.removeprefix("+").removeprefix("00") if TYPED_NUMBER.fullmatch(number) else typed
