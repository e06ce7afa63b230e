"""How the simulated networks behave: what becomes of a message, and what its receipts say of it.

Well-known recipients force one behaviour each, as test cards do; any other number is delivered to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from landed.domain.receipt import Api, Outcome


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt: when it comes, in seconds after the send, and what each API says in it."""

    after_seconds: float
    messages: str
    sms: str
    messages_code: str | None = None
    sms_code: str = "0"
    occurred_seconds: float | None = None
    copies: int = 1

    def said(self, api: Api) -> str:
        """The status word of that API."""
        return self.messages if api is Api.MESSAGES else self.sms

    def code(self, api: Api) -> str | None:
        """The error code of that API; the SMS API has one in every receipt."""
        return self.messages_code if api is Api.MESSAGES else self.sms_code


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """A network's way with a message. `outcome` is what all its receipts together imply."""

    what: str
    outcome: Outcome
    steps: Sequence[Step]


ACCEPTED = Step(after_seconds=0.2, messages="submitted", sms="accepted")
DELIVERED = Step(after_seconds=1.0, messages="delivered", sms="delivered")

NORMAL = Behaviour(what="arrives", outcome=Outcome.DELIVERED, steps=(ACCEPTED, DELIVERED))

BEHAVIOURS: Mapping[str, Behaviour] = {
    "447700900001": NORMAL,
    "447700900002": Behaviour(
        what="handset switched off",
        outcome=Outcome.FAILED,
        steps=(
            ACCEPTED,
            Step(after_seconds=1.2, messages="rejected", sms="failed", messages_code="1180", sms_code="2"),
        ),
    ),
    "447700900003": Behaviour(
        what="receipts come twice",
        outcome=Outcome.DELIVERED,
        steps=(
            msgspec.structs.replace(ACCEPTED, copies=2),
            msgspec.structs.replace(DELIVERED, copies=3),
        ),
    ),
    "447700900004": Behaviour(
        what="receipts in the wrong order",
        outcome=Outcome.DELIVERED,
        steps=(
            msgspec.structs.replace(DELIVERED, after_seconds=0.4, occurred_seconds=0.4),
            msgspec.structs.replace(ACCEPTED, after_seconds=1.4, occurred_seconds=0.2),
        ),
    ),
    "447700900005": Behaviour(what="no receipt ever", outcome=Outcome.PENDING, steps=()),
    "447700900006": Behaviour(what="accepted, then silence", outcome=Outcome.PENDING, steps=(ACCEPTED,)),
    "447700900007": Behaviour(
        what="never confirmed",
        outcome=Outcome.UNCONFIRMED,
        steps=(
            ACCEPTED,
            Step(after_seconds=1.6, messages="rejected", sms="expired", messages_code="1360", sms_code="1"),
        ),
    ),
    "447700900008": Behaviour(
        what="number no longer in use",
        outcome=Outcome.FAILED,
        steps=(
            ACCEPTED,
            Step(after_seconds=0.9, messages="undeliverable", sms="rejected", messages_code="1190", sms_code="3"),
        ),
    ),
}


def behaviour_of(recipient: str) -> Behaviour:
    """How the network of this recipient behaves."""
    return BEHAVIOURS.get(recipient, NORMAL)
