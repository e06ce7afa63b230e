"""Moments as whole microseconds since 1970, exact both ways."""

from __future__ import annotations

from datetime import datetime

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
MICROSECOND = datetime.resolution
MILLISECOND = MICROSECOND * 1000
MICROSECONDS_A_SECOND = 1_000_000
SECONDS_A_DAY = 86_400


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970 of an aware datetime."""
    since = moment - EPOCH
    return (since.days * SECONDS_A_DAY + since.seconds) * MICROSECONDS_A_SECOND + since.microseconds


def moment(microseconds: int) -> datetime:
    """The aware UTC datetime of that many microseconds since 1970."""
    return EPOCH + MICROSECOND * microseconds
