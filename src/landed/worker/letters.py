"""What passes between the dispatch and those that carry: an event for one subscriber, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from landed.domain.events import AnyEvent, EventType, Traits

ANSWER_CHARACTERS_MAX = 200


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one subscriber, for the `attempt`th time, from 1.

    `id` is the event's, the same at each attempt; `body` its JSON as it is sent, with the message as it stands now.
    `is_replay` says that a person asked for it again, `is_sample` that nothing of the kind happened.
    """

    id: str
    type: EventType
    at: datetime
    attempt: int
    event: AnyEvent
    body: bytes
    traits: Traits = Traits()
    is_replay: bool = False
    is_sample: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an attempt. `said` is for a person: an HTTP status, or what happened, in a few words.

    `is_refusal` says that the subscriber is there and did not take this one; else it may be that it takes none now.
    `is_untried` says that nothing reached it, or that others were to blame: that is no attempt, and soon tried again.
    `is_gone` says that it never wants anything again; `wait_seconds` how long it asked to be left alone.
    """

    taken: bool
    said: str
    is_refusal: bool = False
    is_untried: bool = False
    is_gone: bool = False
    wait_seconds: float | None = None
    took_seconds: float = 0.0


class Carrier(Protocol):
    """Takes letters to one kind of subscriber. It never raises, and ends within its own time limits.

    All but those to people get one letter at a time; an answer is for all that were given.
    """

    async def carry(self, address: str, secrets: Sequence[str], letters: Sequence[Letter]) -> Answer:
        """Take letters to an address, signed with each of these secrets where that is usual there."""

    async def close(self) -> None:
        """Let go of connections."""
