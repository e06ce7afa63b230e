"""The planner: what holds of the truth and of what is said, for every fate, and a few plain cases."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from landed.simulator.fates import FATES, FINALS, HOUR_SECONDS, Difference, Word
from landed.simulator.plan import (
    DISORDER_SECONDS,
    EXPIRY_SECONDS,
    PATIENCE_SECONDS,
    SEGMENTS_SECONDS,
    Part,
    Traits,
    plan_of,
)

TTL_SECONDS_MAX = 604_800
many = settings(max_examples=500, deadline=None)

names = st.sampled_from(sorted(FATES))
# Of usual networks, and of such as take days.
latencies = st.floats(0.01, 120) | st.floats(0, 100 * HOUR_SECONDS)
some_traits = st.builds(
    Traits,
    ttl_seconds=st.none() | st.floats(20, 300) | st.floats(20, TTL_SECONDS_MAX),
    repeats=st.booleans(),
    is_disordered=st.booleans(),
    tells_read=st.booleans(),
)


def parts_of(each):
    """Parts of one message with these latencies."""
    return [
        Part(latency_seconds=latency, is_last=len(each) > 1 and number == len(each) - 1)
        for number, latency in enumerate(each)
    ]


# As the Messages API has them, all together, or the last one of several, which the SMS API tells of alone.
some_parts = st.lists(latencies, min_size=1, max_size=4).map(parts_of) | latencies.map(
    lambda latency: [Part(latency_seconds=latency, is_last=True)]
)
plans = given(name=names, parts=some_parts, traits=some_traits)


def planned(name, *each, **traits):
    return plan_of(FATES[name], parts_of(each or (3.0,)), Traits(**traits))


def told(plan):
    """What is said and when, in whole seconds."""
    return [(str(claim.word), round(claim.after_seconds)) for claim in plan.claims]


def finals(plan):
    return [claim for claim in plan.claims if claim.word in FINALS]


@plans
@example(name="disorder", parts=parts_of([303.0, 1.0]), traits=Traits(is_disordered=True))
@many
def test_what_is_said_comes_in_order_and_after_it_happened(name, parts, traits):
    plan = plan_of(FATES[name], parts, traits)
    assert all(one.after_seconds <= other.after_seconds for one, other in pairwise(plan.claims))
    assert all(-1e-6 <= claim.occurred_seconds <= claim.after_seconds for claim in plan.claims)
    assert all(claim.copies >= 1 for claim in plan.claims)


@plans
@many
def test_nothing_final_comes_after_the_expired_that_is_made_up(name, parts, traits):
    said = finals(plan_of(FATES[name], parts, traits))
    assert all(claim.after_seconds <= PATIENCE_SECONDS for claim in said if not FATES[name].settled)
    made_up = [claim for claim in said if (claim.word, claim.after_seconds) == (Word.EXPIRED, PATIENCE_SECONDS)]
    assert not made_up or made_up == said


@plans
@many
def test_who_is_neither_mute_nor_settled_has_a_final_word_in_time(name, parts, traits):
    fate, plan = FATES[name], plan_of(FATES[name], parts, traits)
    if not fate.mute and not fate.settled:
        until = PATIENCE_SECONDS
        if plan.arrived_seconds is None and traits.ttl_seconds is not None:
            until = min(until, traits.ttl_seconds + EXPIRY_SECONDS)
        assert min(claim.after_seconds for claim in finals(plan)) <= until
    elif traits.ttl_seconds is None:
        assert not finals(plan)


@given(parts=some_parts, traits=some_traits)
@example(parts=parts_of([60.0]), traits=Traits(ttl_seconds=20.0))
@many
def test_who_is_mute_says_nothing_ever(parts, traits):
    assert not plan_of(FATES["mute"], parts, traits).claims


@plans
@many
def test_what_has_not_arrived_in_its_time_to_live_never_does_and_what_has_stays_arrived(name, parts, traits):
    plan = plan_of(FATES[name], parts, traits)
    arrived = plan_of(FATES[name], parts, Traits()).arrived_seconds
    is_late = arrived is not None and traits.ttl_seconds is not None and arrived > traits.ttl_seconds
    assert plan.arrived_seconds == (None if is_late else arrived)
    if is_late:
        # What was to be said after that is not said any more, and the first word after it is the expiry.
        expiry = traits.ttl_seconds + EXPIRY_SECONDS
        assert all(claim.after_seconds <= expiry + DISORDER_SECONDS for claim in plan.claims)


@plans
@many
def test_what_is_said_differs_unless_it_agrees_with_the_truth(name, parts, traits):
    plan = plan_of(FATES[name], parts, traits)
    arrived = plan.arrived_seconds is not None
    says_delivered = any(claim.says_delivered for claim in plan.claims)
    says_failed = any(claim.says_failed for claim in plan.claims)
    agrees = arrived if says_delivered else says_failed and not arrived
    assert (not plan.differs) == agrees


@plans
@many
def test_delivered_is_not_said_before_it_is_true(name, parts, traits):
    plan = plan_of(FATES[name], parts, traits)
    if plan.arrived_seconds is not None:
        said = [claim.after_seconds for claim in plan.claims if claim.says_delivered]
        assert all(after >= plan.arrived_seconds for after in said)


@plans
@many
def test_only_what_arrived_is_read_and_only_where_the_channel_tells(name, parts, traits):
    plan = plan_of(FATES[name], parts, traits)
    assert traits.tells_read or Word.READ not in [claim.word for claim in plan.claims]
    if plan.read_seconds is not None:
        assert FATES[name].reads
        assert plan.arrived_seconds <= plan.read_seconds


@plans
@many
def test_how_receipts_come_changes_nothing_of_what_they_say(name, parts, traits):
    plan = plan_of(FATES[name], parts, traits)
    plain = plan_of(FATES[name], parts, Traits(ttl_seconds=traits.ttl_seconds, tells_read=traits.tells_read))
    assert sorted((claim.word, claim.occurred_seconds) for claim in plan.claims) == sorted(
        (claim.word, claim.occurred_seconds) for claim in plain.claims
    )
    assert (plan.arrived_seconds, plan.read_seconds, plan.differs) == (
        plain.arrived_seconds,
        plain.read_seconds,
        plain.differs,
    )
    more = sum(claim.copies for claim in plan.claims) - sum(claim.copies for claim in plain.claims)
    assert more == (1 if traits.repeats and finals(plan) else 0)


@given(name=names, each=st.lists(latencies, min_size=2, max_size=4))
@many
def test_all_segments_have_one_final_word_five_minutes_after_the_first_at_the_latest(name, each):
    parts = parts_of(each)
    said = finals(plan_of(FATES[name], parts, Traits()))
    firsts = [finals(plan_of(FATES[name], [part], Traits()))[:1] for part in parts]
    known = [first[0] for first in firsts if first and first[0].after_seconds < PATIENCE_SECONDS]
    if not known:
        return
    until = min(claim.after_seconds for claim in known) + SEGMENTS_SECONDS
    (final,) = said
    assert final.after_seconds <= min(until, PATIENCE_SECONDS)
    if not final.segments:
        # It was made up, since the five minutes end after the three days.
        assert (final.word, until > PATIENCE_SECONDS) == (Word.EXPIRED, True)
        return
    assert len(final.segments) == len(parts)
    words = {segment.word for segment in final.segments}
    assert (words == {Word.DELIVERED}) == (final.word is Word.DELIVERED)
    late = [claim for claim in known if claim.after_seconds > until]
    assert not late or Word.ACCEPTED in words


@pytest.mark.parametrize(
    ("name", "traits", "expected", "arrives_at"),
    [
        ("delivered", {}, [("accepted", 0), ("delivered", 3)], 3),
        ("delivered", {"repeats": True, "is_disordered": True}, [("delivered", 3), ("accepted", 5)], 3),
        ("delivered", {"ttl_seconds": 2.0}, [("accepted", 0), ("expired", 3)], None),
        ("read", {"tells_read": True}, [("accepted", 0), ("delivered", 3), ("read", 26)], 3),
        ("read", {}, [("accepted", 0), ("delivered", 3)], 3),
        ("buffered", {}, [("accepted", 0), ("buffered", 5), ("delivered", 1803)], 1803),
        ("buffered", {"ttl_seconds": 60.0}, [("accepted", 0), ("buffered", 5), ("expired", 61)], None),
        ("late", {"ttl_seconds": 60.0}, [("accepted", 0), ("delivered", 14_403)], 3),
        ("silent", {}, [("accepted", 0), ("expired", 259_200)], 3),
        ("lost", {}, [("accepted", 0), ("expired", 259_200)], None),
        ("lost", {"ttl_seconds": 60.0}, [("accepted", 0), ("expired", 61)], None),
        ("carrier", {}, [("accepted", 0)], 3),
        ("mute", {}, [], 3),
        ("conflict", {}, [("accepted", 0), ("delivered", 3), ("failed", 33)], 3),
        ("denied", {}, [("accepted", 0), ("failed", 3)], 3),
    ],
)
def test_a_fate_takes_its_course(name, traits, expected, arrives_at):
    plan = planned(name, **traits)
    assert (told(plan), plan.arrived_seconds) == (expected, arrives_at)


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("delivered", set()),
        ("network-error", set()),
        ("conflict", set()),
        ("false", {Difference.FALSE}),
        ("denied", {Difference.WRONG}),
        ("silent", {Difference.SILENT}),
        ("mute", {Difference.SILENT}),
        ("unknown", {Difference.SILENT}),
        ("carrier", {Difference.CARRIER}),
        ("carrier-lost", {Difference.CARRIER}),
    ],
)
def test_a_fate_says_how_its_receipts_differ_from_the_truth(name, differs):
    assert planned(name).differs == differs


def test_a_network_that_takes_longer_than_three_days_is_not_heard_any_more():
    plan = planned("delivered", 80 * HOUR_SECONDS)
    assert told(plan) == [("accepted", 0), ("expired", 259_200)]
    assert (plan.arrived_seconds, plan.differs) == (80 * HOUR_SECONDS, {Difference.SILENT})


def test_three_segments_are_told_together_when_the_last_is_known():
    plan = planned("delivered", 3.0, 100.0, 200.0)
    final = plan.claims[-1]
    assert told(plan) == [("accepted", 0), ("delivered", 200)]
    assert [(segment.word, round(segment.occurred_seconds)) for segment in final.segments] == [
        (Word.DELIVERED, 3),
        (Word.DELIVERED, 100),
        (Word.DELIVERED, 200),
    ]
    assert (plan.arrived_seconds, plan.differs) == (200, set())


@pytest.mark.parametrize(("last", "word"), [(299.9 + 3, Word.DELIVERED), (300.1 + 3, Word.REJECTED)])
def test_a_segment_is_waited_for_five_minutes(last, word):
    plan = planned("delivered", 3.0, last)
    assert (plan.claims[-1].word, plan.arrived_seconds) == (word, last)
    assert plan.differs == (set() if word is Word.DELIVERED else {Difference.SEGMENTS})


def test_a_segment_that_failed_says_why_the_message_did():
    plan = planned("lost-segment", 3.0, 3.4, 3.8)
    final = plan.claims[-1]
    assert (final.word, final.reason) == (Word.FAILED, "handset-busy")
    assert [segment.word for segment in final.segments] == [Word.DELIVERED, Word.DELIVERED, Word.FAILED]
    assert (plan.arrived_seconds, plan.differs) == (None, set())
