"""The outbox: what is said to whom, and what became of it. The truth is in its rows alone.

An event is written once, by the fold, however many want it. Each subscriber has a cursor: what is behind it has not
been looked at for that one, which costs nothing, however much it is. What is taken from there has a row of its own,
until it is delivered or dead. So a subscriber that is away for a day holds up nobody, and fills no memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Protocol

import msgspec

from landed.domain.events import AnyEvent, EventType, Traits, Wanted


class Kind(StrEnum):
    """How a subscriber is reached."""

    WEBHOOK = "webhook"
    NATS = "nats"
    PEOPLE = "people"
    HANDLER = "handler"


class Origin(StrEnum):
    """Who says that there is such a subscriber: a command, the settings' file, or the application's own Python."""

    COMMAND = "command"
    SETTINGS = "settings"
    HANDLERS = "handlers"


class SubscriberState(StrEnum):
    """Whether it is served: `stopped` by its own word, `absent` when its origin names it no more."""

    ACTIVE = "active"
    PAUSED = "paused"
    STOPPED = "stopped"
    ABSENT = "absent"


class DeliveryState(IntEnum):
    """Where an event stands for one subscriber."""

    WAITING = 0
    TAKEN = 1
    DELIVERED = 2
    DEAD = 3


class SecretKept(msgspec.Struct, frozen=True, array_like=True):
    """A secret to sign with, until a moment in microseconds, or for good."""

    text: str
    until_us: int | None = None


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants events. `row` is 0 before it is kept; `reason` says why it is stopped."""

    name: str
    kind: Kind
    address: str
    wanted: Wanted = Wanted()
    secrets: tuple[SecretKept, ...] = ()
    state: SubscriberState = SubscriberState.ACTIVE
    reason: str = ""
    origin: Origin = Origin.COMMAND
    created_us: int = 0
    row: int = 0

    def secrets_at(self, now_us: int) -> list[str]:
        """The secrets to sign with now, the newest first."""
        return [secret.text for secret in self.secrets if secret.until_us is None or secret.until_us > now_us]


class Said(msgspec.Struct, frozen=True, gc=False):
    """An event that the fold found, on its way to its row. `message` and `receipt` are rows of the views."""

    type: EventType
    account: str
    subject: str
    message: int
    receipt: int
    cause: bytes


class KeptEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event with what it is about, as that stands now; `event` is None where nothing is known of it any more."""

    seq: int
    id: str
    type: EventType
    at: datetime
    traits: Traits
    event: AnyEvent | None


class How(StrEnum):
    """What is taken for a subscriber.

    `usual` are those that are due, oldest first, and new ones behind them. A `probe` is one that waits, due or not, in
    turn, or a new one where none waits; for `probe-new` it is the other way round. To `catch-up` is to take those that
    wait, due or not, and were tried since a moment; nothing new.
    """

    USUAL = "usual"
    PROBE = "probe"
    PROBE_NEW = "probe-new"
    CATCH_UP = "catch-up"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What may be taken for a subscriber, up to `count`.

    For a probe or to catch up, behind the event `after`; to catch up, what was tried since `since_us`.
    """

    subscriber: Subscriber
    count: int
    how: How = How.USUAL
    after: int = 0
    since_us: int = 0


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was taken for a subscriber. `due_us` is when it was to be tried."""

    subscriber: int
    kept: KeptEvent
    attempts: int
    due_us: int = 0
    is_replay: bool = False


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What became of what was taken. Without `said` it was not tried, and waits again as it did."""

    subscriber: int
    event: int
    state: DeliveryState
    attempts: int
    next_us: int = 0
    at_us: int = 0
    said: str = ""
    took_us: int = 0
    failed: bool = False


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with a subscriber: how many wait for another try or are on their way, and how many are dead.

    `unseen` events are behind its cursor, whether it wants them or not; `oldest_at` is when the oldest that is open
    happened, None where nothing is.
    """

    waiting: int = 0
    dead: int = 0
    unseen: int = 0
    oldest_at: datetime | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event for one subscriber; `said` is what came of the last attempt, at `at`."""

    subscriber: str
    event: int
    state: DeliveryState
    attempts: int
    next_at: datetime | None
    at: datetime | None
    said: str
    is_replay: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A try that failed; before its event's time it has the number of the attempt before it, as it counts for none."""

    subscriber: str
    number: int
    at: datetime
    said: str
    took_seconds: float


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries are meant: of one event, subscriber, of a time, of types, of an outcome of the message."""

    states: tuple[DeliveryState, ...] = (DeliveryState.DEAD,)
    event: int | None = None
    subscriber: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    types: frozenset[EventType] = frozenset(EventType)
    outcome: str | None = None


class Outbox(Protocol):
    """What the dispatch needs. Raises StoreUnable when nothing was written and a later try may succeed."""

    def begin(self) -> None:
        """Let everything wait again that was on its way when the last dispatch ended."""

    def subscribers(self) -> list[Subscriber]:
        """All there are."""

    def step(self, notes: Collection[Note], asks: Iterable[Ask], now_us: int) -> list[Taken]:
        """Write what became of what was taken, and take more; at once, or not at all."""

    def worth(self, asks: Iterable[Ask], now_us: int) -> list[Ask]:
        """Those of the asks for which there may be something."""

    def newest_at_us(self) -> int:
        """When the newest event happened; 0 before the first."""

    def wake(self, beyond_us: int) -> None:
        """Let what waits for a moment beyond that wait no more."""

    def stop(self, subscriber: int, reason: str) -> None:
        """Serve a subscriber no more, as it asked for."""

    def retire(self, before_us: int) -> int:
        """Let go of some events that happened before, and of what became of them; how many."""

    def close(self) -> None:
        """Let go of the files."""
