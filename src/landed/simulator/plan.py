"""What becomes of one message, planned when it is sent: its truth, and what will be said of it. Pure.

Three rules of Vonage's stand here. A message that is not delivered within its time to live expires. One of which no
network said anything final for 72 hours is said to have `expired`, and what its network says later is ignored:
https://api.support.vonage.com/hc/en-us/articles/115007053127
And the Messages API says one thing of all segments of a long SMS, five minutes after the first at the latest:
https://developer.vonage.com/en/messages/concepts/multisegment-sms-handling
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from landed.simulator.fates import FINALS, HOUR_SECONDS, Difference, Fate, Step, Word

PATIENCE_SECONDS = 72 * HOUR_SECONDS
SEGMENTS_SECONDS = 300.0
# A network's queue says so a moment after the time to live has passed.
EXPIRY_SECONDS = 1.0
DISORDER_SECONDS = 1.5
SAYS_NOTHING = frozenset({Word.EXPIRED, Word.UNKNOWN})


class SegmentClaim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is said of one segment."""

    word: Word
    occurred_seconds: float


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that is said, in seconds after the send: when it comes, and when it says that it happened."""

    word: Word
    reason: str = ""
    after_seconds: float
    occurred_seconds: float
    copies: int = 1
    segments: tuple[SegmentClaim, ...] = ()

    @property
    def says_delivered(self) -> bool:
        """Whether this says that the message arrived."""
        return self.word in (Word.DELIVERED, Word.READ)

    @property
    def says_failed(self) -> bool:
        """Whether this says that the message did not arrive; a late segment's refusal says nothing."""
        return self.word in FINALS - {Word.DELIVERED} - SAYS_NOTHING and bool(self.reason)


class Plan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message's truth and what is said of it. Seconds are after the send; None is never."""

    claims: tuple[Claim, ...]
    arrived_seconds: float | None = None
    read_seconds: float | None = None
    differs: frozenset[Difference] = frozenset()


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One segment on its way: how long its network takes, and whether it is the last of several."""

    latency_seconds: float
    is_last: bool = False


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """How a message's receipts come, whatever they say, and whether its channel tells that it was read."""

    ttl_seconds: float | None = None
    repeats: bool = False
    is_disordered: bool = False
    tells_read: bool = False


def plan_of(fate: Fate, parts: Sequence[Part], traits: Traits) -> Plan:
    """What becomes of a message of these parts."""
    said = [_claims(fate, part) for part in parts]
    is_late = False
    claims = said[0]
    if len(parts) > 1:
        claims, is_late = _joined(said)
    arrived = _arrived_seconds(fate, parts)
    if not traits.tells_read:
        claims = [claim for claim in claims if claim.word is not Word.READ]
    if traits.ttl_seconds is not None:
        claims, arrived = _expired(claims, arrived, traits.ttl_seconds)
        # Of what is mute, nobody says that it expired either.
        claims = [] if fate.mute else claims
    if not fate.mute and not fate.settled:
        claims = _patient(claims)
    read = next((claim.occurred_seconds for claim in claims if claim.word is Word.READ), None)
    return Plan(
        claims=tuple(_as_it_comes(claims, traits)),
        arrived_seconds=arrived,
        read_seconds=read if fate.reads and arrived is not None else None,
        differs=_differs(fate, claims, arrived, is_late=is_late),
    )


def _claims(fate: Fate, part: Part) -> list[Claim]:
    steps = fate.steps
    if part.is_last and fate.last is not None:
        steps = [fate.last if step.word in FINALS else step for step in steps]
    return sorted((_claim(step, part.latency_seconds) for step in steps), key=_when)


def _claim(step: Step, latency_seconds: float) -> Claim:
    after = step.after(latency_seconds)
    return Claim(
        word=step.word,
        reason=step.reason,
        after_seconds=after,
        occurred_seconds=after - step.before_seconds,
        copies=step.copies,
    )


def _when(claim: Claim) -> float:
    return claim.after_seconds


def _joined(said: Sequence[Sequence[Claim]]) -> tuple[list[Claim], bool]:
    """What the Messages API says of all segments together, and whether some came too late to be in it."""
    together = [claim for claim in said[0] if claim.word is Word.ACCEPTED]
    finals = [next((claim for claim in each if claim.word in FINALS), None) for each in said]
    known = [final for final in finals if final is not None]
    if not known:
        return together, False
    until = min(map(_when, known)) + SEGMENTS_SECONDS
    in_time = [final for final in known if final.after_seconds <= until]
    # Of several that did not arrive, one whose network says why.
    others = [final for final in in_time if final.word is not Word.DELIVERED]
    failed = min(others, key=lambda final: final.word in SAYS_NOTHING, default=None)
    is_late = len(in_time) < len(said) and failed is None
    after = max(map(_when, in_time)) if len(in_time) == len(said) else until
    final = Claim(
        word=failed.word if failed else Word.REJECTED if is_late else Word.DELIVERED,
        reason=failed.reason if failed else "",
        after_seconds=after,
        occurred_seconds=max(claim.occurred_seconds for claim in in_time),
        copies=max(claim.copies for claim in in_time),
        segments=tuple(_segment(final, until) for final in finals),
    )
    return [*together, final], is_late


def _segment(final: Claim | None, until: float) -> SegmentClaim:
    if final is None or final.after_seconds > until:
        return SegmentClaim(word=Word.ACCEPTED, occurred_seconds=0.0)
    return SegmentClaim(word=final.word, occurred_seconds=final.occurred_seconds)


def _arrived_seconds(fate: Fate, parts: Sequence[Part]) -> float | None:
    """When the handset had all of it."""
    if not fate.arrives or (not fate.last_arrives and any(part.is_last for part in parts)):
        return None
    return max(fate.arrives_seconds + part.latency_seconds for part in parts)


def _expired(claims: list[Claim], arrived: float | None, ttl_seconds: float) -> tuple[list[Claim], float | None]:
    """The same with a time to live: what has not arrived by then does not, unless something final was said before."""
    if arrived is not None and arrived <= ttl_seconds:
        return claims, arrived
    before = [claim for claim in claims if claim.after_seconds <= ttl_seconds]
    if any(claim.word in FINALS for claim in before):
        return before, None
    at = ttl_seconds + EXPIRY_SECONDS
    expired = Claim(word=Word.EXPIRED, reason="expired", after_seconds=at, occurred_seconds=at)
    return [*before, expired], None


def _patient(claims: list[Claim]) -> list[Claim]:
    before = [claim for claim in claims if claim.after_seconds <= PATIENCE_SECONDS]
    if any(claim.word in FINALS for claim in before):
        return before
    at = PATIENCE_SECONDS
    return [*before, Claim(word=Word.EXPIRED, reason="expired", after_seconds=at, occurred_seconds=at)]


def _as_it_comes(claims: Sequence[Claim], traits: Traits) -> list[Claim]:
    final = next((claim for claim in claims if claim.word in FINALS), None)
    if final is None:
        return list(claims)
    come = list(claims)
    if traits.repeats:
        come = [msgspec.structs.replace(claim, copies=claim.copies + 1) if claim is final else claim for claim in come]
    if traits.is_disordered:
        late = final.after_seconds + DISORDER_SECONDS
        come = [
            msgspec.structs.replace(claim, after_seconds=max(late, claim.after_seconds))
            if claim.word is Word.ACCEPTED
            else claim
            for claim in come
        ]
    return sorted(come, key=_when)


def _differs(fate: Fate, claims: Sequence[Claim], arrived: float | None, *, is_late: bool) -> frozenset[Difference]:
    """Why what is said differs from the truth; empty where it does not."""
    if any(claim.says_delivered for claim in claims):
        return frozenset() if arrived is not None else fate.differs
    if any(claim.says_failed for claim in claims):
        return frozenset() if arrived is None else fate.differs
    if is_late:
        return frozenset({Difference.SEGMENTS})
    return fate.differs & {Difference.CARRIER} or frozenset({Difference.SILENT})
