"""Messages that were not known, each with the only receipt of it: what nearly all messages begin as.

They go to their rows without a join, and many at once: what `message_of` makes of one fact is in them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache

import msgspec

from landed.domain.brief import KINDS_REMEMBERED_MAX, Brief, Kind
from landed.domain.events import EventType, event_id
from landed.domain.lifecycle import brief_key
from landed.domain.moments import shared_microseconds
from landed.domain.receipt import Receipt, Status
from landed.store.rows import EVENT_NUMBERS, GENERATION_BITS, WEBHOOK, Value, hash_of, key_of, packed, told_of_kind


class First(msgspec.Struct, gc=False):
    """A receipt, where it stands in the journal, and its rows once it has some.

    `key` is the receipt's and `hash` its message's, by which both are found.
    """

    position: int
    received_us: int
    kind: Kind
    message_id: str
    to: str | None
    client_ref: str | None
    occurred_at: datetime | None
    pushed_at: datetime | None
    key: bytes
    hash: int
    message_row: int = 0
    receipt_row: int = 0

    @property
    def receipt(self) -> Receipt:
        """The same at length."""
        told = (self.kind, self.message_id, self.to, self.client_ref, self.occurred_at, self.pushed_at)
        return Brief(*told).receipt


def first_of(position: int, received_us: int, brief: Brief) -> First:
    """A receipt in brief that stands there."""
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


class Firsts(list[First]):
    """Several of them, in the order of their rows, and the values that they are written by, one row behind another."""

    def kinds(self) -> Collection[Kind]:
        """All that they are of."""
        return {first.kind for first in self}

    def rows(self) -> Sequence[tuple[int, int]]:
        """Each message's row, and what it is looked up by."""
        return [(first.message_row, first.hash) for first in self]

    def message_values(self, start: int, stop: int, numbers: Mapping[Kind, int]) -> Sequence[Value]:
        """For `add_messages`: those from `start` to before `stop`, of kinds that have these numbers."""
        values: list[Value] = []
        for first in self[start:stop]:
            generation, kind = first.message_row >> GENERATION_BITS, numbers[first.kind]
            values += (
                generation,
                first.hash,
                first.message_id,
                first.to,
                first.client_ref,
                first.received_us,
                kind,
            )
        return values

    def receipt_values(self) -> Sequence[Value]:
        """For `add_receipts`."""
        values: list[Value] = []
        for first in self:
            position, told = first.position, _told(first)
            values += (
                first.receipt_row,
                first.message_row,
                first.key,
                position,
                WEBHOOK,
                1,
                first.received_us,
                told,
                position,
            )
        return values

    def event_values(self, seq: int, at_us: int, called: Mapping[Status, Sequence[EventType]]) -> Sequence[Value]:
        """For `add_events`, which have the numbers from `seq` on: what each state calls for."""
        values: list[Value] = []
        for first in self:
            kind, message_id = first.kind, first.message_id
            for event in called.get(kind.status, ()):
                key = key_of(event_id(kind.account, message_id, event))
                rows = first.message_row, first.receipt_row
                said = EVENT_NUMBERS[event], at_us, kind.account, message_id
                values += (seq >> GENERATION_BITS, key, *said, *rows, first.key, "")
                seq += 1
        return values


def _told(first: First) -> bytes:
    before, behind = _told_of_kind(first.kind)
    occurred_us, pushed_us = shared_microseconds(first.occurred_at), shared_microseconds(first.pushed_at)
    return packed((*before, first.to, first.kind.sender, first.client_ref, occurred_us, pushed_us, *behind))


_told_of_kind = lru_cache(KINDS_REMEMBERED_MAX)(told_of_kind)
