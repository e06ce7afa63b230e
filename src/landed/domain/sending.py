"""What became of a send that landed itself made: a join, as a message's state is, so that order cannot matter.

A send is kept before it leaves. It ends as sent, with the message ids that Vonage gave it, or as refused; where no
answer came, nobody knows, and it is said to be unclear until receipts with its client reference tell.
"""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum

import msgspec


class SendState(IntEnum):
    """Where a send stands; the greatest that was told stands. What was refused and has message ids went out in part."""

    BEGUN = 0
    UNCLEAR = 1
    SENT = 2
    REFUSED = 3


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """A send: whom to, as what, and what became of it. `parts` are Vonage's message ids by their numbers, from 1.

    `reason` is a slug of `landed.domain.meanings`, `detail` a sentence; both are empty where nothing went wrong.
    `batch` and `number` say of which list it is, and where in it.
    """

    id: bytes
    position: int
    at: datetime
    account: str
    api: str = ""
    channel: str = ""
    to: str = ""
    sender: str = ""
    client_ref: str = ""
    batch: str = ""
    number: int = 0
    state: SendState = SendState.BEGUN
    parts: tuple[tuple[int, str], ...] = ()
    reason: str = ""
    detail: str = ""

    @property
    def message_ids(self) -> list[str]:
        """Vonage's ids, in the order of the parts of the text."""
        return [message_id for _, message_id in self.parts]


SAME = ("account", "api", "channel", "to", "sender", "client_ref", "batch")


def joined_sending(one: Sending, other: Sending) -> Sending:
    """What two records of one send say together; what only one of them has is taken from it."""
    best = max(one, other, key=lambda each: (each.state, each.reason, each.detail))
    return msgspec.structs.replace(
        best,
        position=min(one.position, other.position),
        at=min(one.at, other.at),
        number=max(one.number, other.number),
        parts=tuple(sorted({*one.parts, *other.parts})),
        **{name: max(getattr(one, name), getattr(other, name)) for name in SAME},
    )
