"""The store: what we know of each message. Everything a person or program reads, it reads here.

*Views* (messages, receipts, inbound, unreadable, fold) come from the journal alone; *state* is ours,
and a rebuild never touches it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

import msgspec

from landed.domain.brief import Brief, Kind
from landed.domain.events import EventType
from landed.domain.lifecycle import Fact, Group, Message
from landed.domain.receipt import Inbound, Receipt, Status
from landed.domain.rollups import HOURS_A_DAY, Cell, Summary
from landed.domain.sending import Sending
from landed.store.outbox import Said

MessageKey = tuple[str, str]
"""Account and message id."""


class Kept(msgspec.Struct, gc=False):
    """A fact and where it stands: its row, the journal record that said it, and the first that did."""

    row: int
    position: int
    first_position: int
    fact: Fact


class Known(msgspec.Struct):
    """All that the store has of one message: its row and its facts."""

    row: int
    facts: dict[bytes, Kept]


class First(msgspec.Struct, gc=False):
    """A message that was not known, and the only receipt of it: what `message_of` makes of one fact is in it.

    Nearly all messages begin like this, so it goes to the rows without a join. `key` is the receipt's and `hash` its
    message's, by which both are found. The rows are given once the message is known to be new.
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
        """The receipt at length."""
        told = (self.kind, self.message_id, self.to, self.client_ref, self.occurred_at, self.pushed_at)
        return Brief(*told).receipt


class KeptInbound(msgspec.Struct, frozen=True, kw_only=True):
    """An inbound message as it is kept: how often it came, the record of the copy that stands and of the first."""

    key: bytes
    position: int
    first_position: int
    received_at: datetime
    account: str
    inbound: Inbound
    copies: int = 1


class Tally(msgspec.Struct, kw_only=True):
    """The ledger: of the `request` records folded, how many were what. Counts of records."""

    received: int = 0
    folded: int = 0
    duplicate: int = 0
    unreadable: int = 0

    @property
    def is_even(self) -> bool:
        """Whether nothing was lost or counted twice."""
        return self.received == self.folded + self.duplicate + self.unreadable


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far which journal has been folded, the append time of the last record, and the ledger."""

    epoch: str
    position: int
    at: datetime | None
    tally: Tally


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild carried over as it stood, since the records that told it are retired.

    That is every receipt and inbound message first told at or before `through`, of so many `messages`.
    Records up to `upto` are counted in them already.
    """

    through: int = 0
    upto: int = 0
    messages: int = 0

    def has_counted(self, position: int, first_position: int) -> bool:
        """Whether what was first told there has counted the copy at that position already."""
        return first_position <= self.through and position <= self.upto


class Changes(msgspec.Struct, kw_only=True):
    """What one batch of records changed; written in one transaction with the position.

    New messages, those of `firsts` and of `messages` together, have the next rows, one behind the other. `cells` says
    how many messages more, or fewer, there are in each cell of the rollup; `called_at_first` which events the state
    of a first calls for, and what is in `events` comes behind those.
    """

    firsts: list[First] = []
    called_at_first: Mapping[Status, Sequence[EventType]] = {}
    messages: list[tuple[int, Message]] = []
    facts: list[tuple[int, Kept]] = []
    inbound: list[KeptInbound] = []
    unreadable: list[tuple[int, datetime, str]] = []
    sendings: list[Sending] = []
    events: list[Said] = []
    cells: Counter[Cell] = msgspec.field(default_factory=Counter)
    tally: Tally = msgspec.field(default_factory=Tally)


class Store(Protocol):
    """What every store does for the fold; one conformance suite holds all of them to it.

    Raises StoreUnable when nothing was written and a later try may succeed.
    """

    def progress(self, epoch: str) -> Progress:
        """How far this journal has been folded; a store that never saw any begins with it.

        FoldStopped when the store was made from another journal.
        """

    def transaction(self) -> AbstractContextManager[object]:
        """All that is done within is written at once or not at all."""

    def may_know(self, hashes: Collection[int]) -> set[int]:
        """Of what messages are looked up by, that of which one may be known; the rest is certainly new."""

    def load(self, keys: Collection[MessageKey]) -> dict[MessageKey, Known]:
        """What is known of these messages; one that is not known is not in the answer."""

    def load_inbound(self, keys: Collection[bytes]) -> dict[bytes, KeptInbound]:
        """The inbound messages with these keys that are kept."""

    def load_sendings(self, ids: Collection[bytes]) -> dict[bytes, Sending]:
        """What is known of these sends."""

    def said(self, events: Collection[bytes]) -> set[bytes]:
        """Which of the events with these ids have been said."""

    def wants_accepted(self) -> bool:
        """Whether anybody asks for `message.accepted`, which is said to nobody else."""

    def next_rows(self) -> tuple[int, int]:
        """The rows that the next new message and the next new receipt take."""

    def save(self, changes: Changes, *, epoch: str, before: int, position: int, at: datetime) -> Progress:
        """Write the changes and move the position from `before`; FoldStopped when it is not there.

        The progress given holds once the transaction is written.
        """

    def settle(self) -> bool:
        """Make all that was written so durable that no power cut takes it back; whether that is certain."""

    def close(self) -> None:
        """Let go of the files."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages to list. `status` matches our word or Vonage's; times are of the first sight.

    `status` and `channel` are in small letters, `to` in digits; they are found however Vonage wrote them.
    """

    outcome: str | None = None
    status: str | None = None
    channel: str | None = None
    network: str | None = None
    to: str | None = None
    client_ref: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the rollup to sum: whole hours since 1970, from `since` to before `until`, and what of it.

    `channel` is in small letters, and is found however Vonage wrote it.
    """

    since: int
    until: int
    account: str | None = None
    channel: str | None = None
    network: str | None = None

    def stretches(self, by: str) -> list[tuple[int, int, int]]:
        """The same hours as (span, from, until): whole days by the day, unless hours are asked for."""
        first_day, behind_days = -(-self.since // HOURS_A_DAY) * HOURS_A_DAY, self.until // HOURS_A_DAY * HOURS_A_DAY
        if by == "hour" or first_day >= behind_days:
            return [(1, self.since, self.until)]
        return [
            (1, self.since, first_day),
            (HOURS_A_DAY, first_day, behind_days),
            (1, behind_days, self.until),
        ]


class Reader(Protocol):
    """What people and programs read."""

    def messages(self, wanted: Filter, *, limit: int, after: str | None = None) -> list[Message]:
        """Messages newest first, at most `limit`, from behind the message with the id `after`."""

    def find(self, reference: str, *, limit: int) -> list[Message]:
        """Messages with that id, or else with that client reference, newest first."""

    def facts(self, message: Message) -> Sequence[Kept]:
        """Everything said of one message, in no order."""

    def group(self, message: Message) -> Group | None:
        """The long text that a message is a part of, with all parts that are known; None where it is none."""

    def summaries(self, by: str, wanted: Period) -> dict[tuple[str, ...], Summary]:
        """The rollup of a period, summed by a dimension: its value to what the messages of it come to."""

    def sendings_of(self, client_ref: str) -> Iterable[Sending]:
        """The sends with that client reference that landed made."""

    def sendings(self, batch: str) -> Iterable[Sending]:
        """All sends of a list that landed sent."""

    def receipts_after(self, row: int, limit: int) -> Iterable[tuple[Kept, Message]]:
        """Receipts in the order in which they were folded, with their messages as they stand."""
