"""Moments as whole microseconds since 1970, exact both ways."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
MICROSECOND = datetime.resolution
MILLISECOND = MICROSECOND * 1000
MICROSECONDS_A_SECOND = 1_000_000
SECONDS_A_DAY = 86_400
# The provider's times are whole seconds or minutes, so receipts of one moment share them.
REMEMBERED_MAX = 1_024


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970 of an aware datetime."""
    since = moment - EPOCH
    return (since.days * SECONDS_A_DAY + since.seconds) * MICROSECONDS_A_SECOND + since.microseconds


@lru_cache(REMEMBERED_MAX)
def shared_microseconds(moment: datetime | None) -> int | None:
    """As `microseconds`, for a time that many receipts have; None for none."""
    return None if moment is None else microseconds(moment)


def moment(microseconds: int) -> datetime:
    """The aware UTC datetime of that many microseconds since 1970."""
    return EPOCH + MICROSECOND * microseconds
