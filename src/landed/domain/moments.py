"""Moments as whole microseconds since 1970, exact both ways."""

from __future__ import annotations

from datetime import datetime

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
MICROSECOND = datetime.resolution
MILLISECOND = MICROSECOND * 1000


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970 of an aware datetime."""
    return (moment - EPOCH) // MICROSECOND


def moment(microseconds: int) -> datetime:
    """The aware UTC datetime of that many microseconds since 1970."""
    return EPOCH + MICROSECOND * microseconds
