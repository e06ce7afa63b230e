"""Phone numbers as people type them and as Vonage writes them."""

from __future__ import annotations

import re

BETWEEN_DIGITS = re.compile(r"[\s().\-/]")
TYPED_NUMBER = re.compile(r"\+?[0-9]+")

# A run of digits, with what people write between them, that may be a phone number.
NUMBER = re.compile("\\d(?:[ ()._\\-/\u200b-\u200d\u2060\ufeff]{0,2}\\d){6,}")
BULLET = "•"
LONG_DIGITS = 11
HEAD_DIGITS = 4
TAIL_DIGITS = 3
SHORT_TAIL_DIGITS = 2

# Whose parties are ids and no phone numbers, though they may be digits.
CHANNELS_OF_IDS = frozenset({"messenger"})


def phone_number(channel: str | None, party: str | None) -> str | None:
    """A party's phone number; None where it has none on that channel."""
    return None if (channel or "").lower() in CHANNELS_OF_IDS else party


def masked(text: str, bullet: str = BULLET) -> str:
    """A text with the middle of every phone number in it hidden: `4477•••••001`."""
    return NUMBER.sub(lambda number: _masked(number[0], bullet), text)


def _masked(number: str, bullet: str) -> str:
    digits = [at for at, character in enumerate(number) if character.isdigit()]
    long = len(digits) >= LONG_DIGITS
    hidden = set(digits[HEAD_DIGITS:-TAIL_DIGITS] if long else digits[:-SHORT_TAIL_DIGITS])
    return "".join(bullet if at in hidden else character for at, character in enumerate(number))


def normal_number(typed: str) -> str:
    """A number as Vonage writes it, digits from the country code on; a name stays as it is."""
    number = BETWEEN_DIGITS.sub("", typed)
    return number.removeprefix("+").removeprefix("00") if TYPED_NUMBER.fullmatch(number) else typed
