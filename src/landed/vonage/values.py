"""Times, prices and counts as Vonage writes them. Total: an odd value is None."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from landed.vonage.request import text_of

TIME_CHARACTERS_MAX = 40
PRICE_CHARACTERS_MAX = 30
COUNT_DIGITS_MAX = 4
CENTURY = 2000
# Receipts of one second share their times, and those of one network their prices.
REMEMBERED_MAX = 1_024

# Narrower than Decimal, which also takes `1_000`, `1e9`, `NaN` and the digits of other scripts.
_price = re.compile(r"[+-]?[0-9]{1,12}(?:\.[0-9]{0,16})?")


def read_time(value: object) -> tuple[datetime | None, bool]:
    """An ISO 8601 or `2020-01-01 12:00:00` time in UTC, and whether its zone was assumed.

    Vonage's `message-timestamp` has no zone and is UTC:
    https://developer.vonage.com/en/messaging/sms/guides/inbound-sms
    """
    if not isinstance(value, str) or len(value) > TIME_CHARACTERS_MAX:
        return None, False
    return _time(value)


@lru_cache(REMEMBERED_MAX)
def _time(text: str) -> tuple[datetime | None, bool]:
    try:
        time = datetime.fromisoformat(text.strip())
        return (time.replace(tzinfo=UTC), True) if time.tzinfo is None else (time.astimezone(UTC), False)
    except (ValueError, OverflowError):
        return None, False


def read_scts(value: object) -> datetime | None:
    """The SMS API's `scts`, YYMMDDHHMM, taken as UTC (Vonage does not say its zone)."""
    text = text_of(value) or ""
    return _scts(text) if len(text) in (10, 12) else None


@lru_cache(REMEMBERED_MAX)
def _scts(text: str) -> datetime | None:
    if not (text.isascii() and text.isdigit()):
        return None
    year, month, day, hour, minute, second = (int(text.ljust(12, "0")[at : at + 2]) for at in range(0, 12, 2))
    try:
        return datetime(CENTURY + year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def price_of(value: object) -> Decimal | None:
    """An exact price; text, or a number as a lenient sender may write it."""
    text = (text_of(value) or "").strip()
    return _decimal(text) if len(text) <= PRICE_CHARACTERS_MAX else None


@lru_cache(REMEMBERED_MAX)
def _decimal(text: str) -> Decimal | None:
    # Decimal would write 0.00000000 as 0E-8.
    return (Decimal(text) or Decimal(0)) if _price.fullmatch(text) else None


def count_of(value: object) -> int | None:
    """A count of segments, as text or number."""
    text = text_of(value) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= COUNT_DIGITS_MAX else None


def iso(time: datetime, *, zone: bool = True) -> str:
    """The Messages API's way to write a time; fractions only where there are some."""
    text = time.replace(tzinfo=None).isoformat()
    return text + "Z" if zone else text


def spaced(time: datetime) -> str:
    """The SMS API's `message-timestamp`."""
    return time.replace(tzinfo=None).isoformat(sep=" ")


def scts(time: datetime) -> str:
    """The SMS API's `scts`."""
    return time.strftime("%y%m%d%H%M")
