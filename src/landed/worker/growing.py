"""Says that the quarantine grows: requests that were not trusted keep coming, so a secret is wrong or somebody tries.

At most once an hour, and only of what came since the last time. Nothing of it is in the journal, so nothing of it is
said again by a rebuild.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from landed.domain.events import EventType, QuarantineData
from landed.store.sqlite_outbox import SqliteOutbox

LOOK_SECONDS = 60.0
HOUR_US = 3_600 * 1_000_000


def say_growing(
    outbox: SqliteOutbox, held: int, reasons_since: Callable[[int], Mapping[str, int]], now_us: int
) -> bool:
    """Say so when there is something new to say; whether there was.

    `held` requests are there; `reasons_since` counts, by reason, those that came after a moment in microseconds.
    """
    last_us, _ = outbox.newest_of(EventType.QUARANTINE)
    if last_us > now_us:
        # The clock was wrong when that was said, and must not keep us silent until it is that late.
        last_us = 0
    if now_us - last_us < HOUR_US:
        return False
    # What came before the first time may be old; later nothing is left out, however long nobody looked.
    since_us = last_us or now_us - HOUR_US
    reasons = dict(reasons_since(since_us))
    if not reasons:
        return False
    data = QuarantineData(held=held, came=sum(reasons.values()), reasons=reasons)
    outbox.say_quarantine(f"since {since_us}", data, now_us)
    return True
