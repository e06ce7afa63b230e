"""How messages are written that were not known, each with the only receipt of it: many at once, and without a join.

What a statement takes for its rows, their values one row behind another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from landed.domain.brief import KINDS_REMEMBERED_MAX, Brief, Kind
from landed.domain.events import EventType, event_id
from landed.domain.lifecycle import brief_key
from landed.domain.moments import shared_microseconds
from landed.domain.receipt import Status
from landed.store import First
from landed.store.rows import EVENT_NUMBERS, GENERATION_BITS, WEBHOOK, Value, hash_of, key_of, packed, told_of_kind


def first_of(position: int, received_us: int, brief: Brief) -> First:
    """A receipt in brief that stands there in the journal."""
    message_id = brief.message_id
    return First(
        position,
        received_us,
        brief.kind,
        message_id,
        brief.to,
        brief.client_ref,
        brief.occurred_at,
        brief.pushed_at,
        brief_key(brief),
        hash_of(message_id),
    )


def message_values(firsts: Iterable[First], numbers: Mapping[Kind, int]) -> list[Value]:
    """For `add_messages`, of kinds that have these numbers."""
    values: list[Value] = []
    for first in firsts:
        values += (
            first.message_row >> GENERATION_BITS,
            first.hash,
            first.message_id,
            first.to,
            first.client_ref,
            first.received_us,
            numbers[first.kind],
        )
    return values


def receipt_values(firsts: Iterable[First]) -> list[Value]:
    """For `add_receipts`."""
    values: list[Value] = []
    for first in firsts:
        position, told = first.position, _told(first)
        said = (position, WEBHOOK, 1, first.received_us, told, position)
        values += (first.receipt_row, first.message_row, first.key, *said)
    return values


def event_values(
    firsts: Iterable[First], seq: int, at_us: int, called: Mapping[Status, Sequence[EventType]]
) -> list[Value]:
    """For `add_events`, which get the numbers from `seq` on: what each state calls for."""
    values: list[Value] = []
    for first in firsts:
        kind, message_id = first.kind, first.message_id
        for event in called.get(kind.status, ()):
            key = key_of(event_id(kind.account, message_id, event))
            said = EVENT_NUMBERS[event], at_us, kind.account, message_id
            values += (seq >> GENERATION_BITS, key, *said, first.message_row, first.receipt_row, first.key, "")
            seq += 1
    return values


def _told(first: First) -> bytes:
    before, behind = _told_of_kind(first.kind)
    occurred_us, pushed_us = shared_microseconds(first.occurred_at), shared_microseconds(first.pushed_at)
    return packed((*before, first.to, first.kind.sender, first.client_ref, occurred_us, pushed_us, *behind))


_told_of_kind = lru_cache(KINDS_REMEMBERED_MAX)(told_of_kind)
