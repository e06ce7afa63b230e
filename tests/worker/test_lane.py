"""One subscriber's queue: its schedule, its breaker, and what is asked of it."""

from datetime import UTC, datetime

import pytest

from landed.domain.events import EventType, Traits
from landed.store.outbox import Ask, DeliveryState, How, KeptEvent, Kind, Subscriber, Taken
from landed.worker.lane import (
    ATTEMPTS_MAX,
    BUFFERED_MAX,
    FAILURES_TO_OPEN,
    LOGGED_A_MINUTE_MAX,
    OPEN_FIRST_SECONDS,
    OPEN_LAST_SECONDS,
    REFUSALS_TO_OPEN,
    SCHEDULE_SECONDS,
    SECOND_US,
    SPREAD_SHARE,
    Lane,
    Manner,
)
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Answer

NOON_US = 1_800_000_000 * SECOND_US
WANTS = Subscriber(name="shop", kind=Kind.WEBHOOK, address="https://shop.example", row=1)
OK = Answer(taken=True, said="204")
NO = Answer(taken=False, said="503")


def taken(seq=1, *, attempts=0, due_us=0):
    at = datetime(2026, 8, 1, tzinfo=UTC)
    kept = KeptEvent(seq=seq, id=f"evt_{seq}", type=EventType.FAILED, at=at, traits=Traits(), event=None)
    return Taken(subscriber=1, kept=kept, attempts=attempts, due_us=due_us)


def put(lane, *several, how=How.USUAL):
    lane.put(Ask(subscriber=WANTS, count=len(several), how=how), several)


def lane_of(*several, spread=0.0, **manner):
    lane = Lane(WANTS, Manner(**manner), lambda: spread)
    put(lane, *several)
    return lane


def fail(lane, now_us=NOON_US, *, times=1, answer=NO):
    for seq in range(times):
        put(lane, taken(1_000 + seq))
        lane.done(lane.next(now_us), answer, now_us)


def test_an_event_is_tried_at_the_times_of_the_schedule_and_then_it_is_dead():
    assert SCHEDULE_SECONDS == (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
    waits = []
    for attempts in range(ATTEMPTS_MAX):
        lane = lane_of(taken(attempts=attempts))
        (note,) = lane.done(lane.next(NOON_US), NO, NOON_US)
        assert (note.attempts, note.said, note.failed) == (attempts + 1, "503", True)
        waits.append((note.next_us - NOON_US) / SECOND_US if note.state is DeliveryState.WAITING else None)
    assert waits == [*SCHEDULE_SECONDS[1:], None]
    assert note.state is DeliveryState.DEAD


@pytest.mark.parametrize("spread", [0.0, 0.5, 0.999])
def test_attempts_are_spread_a_little_and_never_early(spread):
    lane = lane_of(taken(attempts=1), spread=spread)
    (note,) = lane.done(lane.next(NOON_US), NO, NOON_US)
    assert 300 <= (note.next_us - NOON_US) / SECOND_US <= 300 * (1 + SPREAD_SHARE)


def test_what_was_taken_is_noted_as_delivered_and_its_answer_is_cut():
    lane = lane_of(taken(attempts=3))
    answer = Answer(taken=True, said="2" * 1_000, took_seconds=0.25)
    (note,) = lane.done(lane.next(NOON_US), answer, NOON_US)
    assert (note.state, note.attempts, note.took_us) == (DeliveryState.DELIVERED, 4, 250_000)
    assert len(note.said) == ANSWER_CHARACTERS_MAX


def test_no_more_are_on_their_way_than_may_be():
    lane = lane_of(*map(taken, range(5)), concurrency=2)
    first, second = lane.next(NOON_US), lane.next(NOON_US)
    assert [first[0].kept.seq, second[0].kept.seq] == [0, 1]
    assert lane.next(NOON_US) == []
    lane.done(first, OK, NOON_US)
    assert lane.next(NOON_US)[0].kept.seq == 2


def test_it_asks_for_more_when_half_of_what_it_may_have_is_gone():
    lane = lane_of(concurrency=1_000)
    assert lane.ask(NOON_US).count == BUFFERED_MAX
    put(lane, *map(taken, range(BUFFERED_MAX)))
    assert lane.ask(NOON_US) is None
    for _ in range(BUFFERED_MAX // 2):
        lane.next(NOON_US)
    assert lane.ask(NOON_US).count == BUFFERED_MAX // 2


def test_after_some_failures_on_end_only_a_probe_goes_out_now_and_then():
    lane = lane_of()
    fail(lane, times=FAILURES_TO_OPEN - 1)
    assert not lane.is_open
    fail(lane)
    assert lane.is_open
    assert lane.ask(NOON_US) is None
    now_us = NOON_US
    waits = []
    for _ in range(9):
        wait_us = next(step for step in range(SECOND_US, 10**9, SECOND_US) if lane.ask(now_us + step) is not None)
        now_us += wait_us
        waits.append(wait_us / SECOND_US)
        assert lane.ask(now_us).how in (How.PROBE, How.PROBE_NEW)
        assert lane.ask(now_us).count == 1
        lane.put(lane.ask(now_us), [taken(due_us=10 * now_us)])
        (note,) = lane.done(lane.next(now_us), NO, now_us)
        assert (note.attempts, note.next_us, note.failed) == (0, 10 * now_us, True), "a probe before its time is none"
    assert waits[:3] == [OPEN_FIRST_SECONDS, 2 * OPEN_FIRST_SECONDS, 4 * OPEN_FIRST_SECONDS]
    assert waits[-1] == OPEN_LAST_SECONDS


def test_a_probe_that_was_due_is_an_attempt():
    lane = lane_of()
    fail(lane, times=FAILURES_TO_OPEN)
    now_us = NOON_US + 10 * SECOND_US
    put(lane, taken(attempts=ATTEMPTS_MAX - 1, due_us=now_us), how=How.PROBE)
    (note,) = lane.done(lane.next(now_us), NO, now_us)
    assert note.state is DeliveryState.DEAD


def test_probes_are_in_turn_one_that_waits_and_a_new_one():
    lane = lane_of()
    fail(lane, times=FAILURES_TO_OPEN)
    now_us, asked = NOON_US, []
    for seq in (7, 900, 8, 901):
        now_us += 400 * SECOND_US
        ask = lane.ask(now_us)
        asked.append((ask.how, ask.after))
        lane.put(ask, [taken(seq, due_us=0 if seq >= 900 else 10 * now_us)])
        lane.done(lane.next(now_us), NO, now_us)
    assert asked == [(How.PROBE, 0), (How.PROBE_NEW, 7), (How.PROBE, 7), (How.PROBE_NEW, 8)]


def closed(lane, now_us):
    """A probe arrives."""
    lane.put(lane.ask(now_us), [taken()])
    lane.done(lane.next(now_us), OK, now_us)
    assert not lane.is_open


def test_when_a_probe_arrives_what_failed_meanwhile_is_tried_again_before_anything_new():
    lane = lane_of()
    fail(lane, times=FAILURES_TO_OPEN)
    now_us = NOON_US + 10 * SECOND_US
    closed(lane, now_us)
    ask = lane.ask(now_us)
    assert (ask.how, ask.after, ask.since_us) == (How.CATCH_UP, 0, NOON_US)
    lane.put(ask, [taken(4, due_us=10 * now_us), taken(6, due_us=10 * now_us)])
    notes = [note for _ in range(2) for note in lane.done(lane.next(now_us), NO, now_us)]
    assert [(note.attempts, note.next_us) for note in notes] == [(0, 10 * now_us)] * 2, (
        "before its time it is no attempt"
    )
    assert (lane.ask(now_us).how, lane.ask(now_us).after) == (How.CATCH_UP, 6)
    lane.put(lane.ask(now_us), [])
    assert lane.ask(now_us).how is How.USUAL


def test_one_that_gets_little_and_was_away_catches_up_as_well():
    lane = lane_of()
    fail(lane)
    later_us = NOON_US + 3_600 * SECOND_US
    put(lane, taken(2))
    lane.done(lane.next(later_us), OK, later_us)
    assert (lane.ask(later_us).how, lane.ask(later_us).since_us) == (How.CATCH_UP, NOON_US)
    lane.put(lane.ask(later_us), [taken(1, due_us=10 * later_us)])
    lane.done(lane.next(later_us), NO, later_us)
    lane.put(lane.ask(later_us), [])
    put(lane, taken(3))
    lane.done(lane.next(2 * later_us), OK, 2 * later_us)
    assert lane.ask(2 * later_us).how is How.USUAL, "it failed in that"


def test_a_failure_now_and_then_is_no_absence():
    lane = lane_of()
    fail(lane)
    put(lane, taken(2))
    lane.done(lane.next(NOON_US + SECOND_US), OK, NOON_US + SECOND_US)
    assert lane.ask(NOON_US + SECOND_US).how is How.USUAL


def test_what_is_never_taken_is_not_caught_up_with_again_and_holds_up_nothing_else():
    lane = lane_of()
    fail(lane, times=FAILURES_TO_OPEN)
    now_us = NOON_US + 10 * SECOND_US
    closed(lane, now_us)
    ask = lane.ask(now_us)
    lane.put(ask, [taken(seq, due_us=10 * now_us) for seq in range(1, FAILURES_TO_OPEN + 1)])
    lane.put(lane.ask(now_us), [])
    for _ in range(FAILURES_TO_OPEN):
        lane.done(lane.next(now_us), NO, now_us)
    assert lane.is_open
    now_us += 10 * SECOND_US
    closed(lane, now_us)
    assert lane.ask(now_us).how is How.USUAL
    fail(lane, now_us, times=FAILURES_TO_OPEN)
    now_us += 10 * SECOND_US
    closed(lane, now_us)
    assert lane.ask(now_us).how is How.CATCH_UP, "that was another time"


def test_what_was_not_sent_when_the_breaker_opens_waits_again_as_it_did():
    lane = lane_of(*[taken(seq, attempts=2, due_us=7) for seq in range(FAILURES_TO_OPEN + 3)])
    notes = [note for _ in range(FAILURES_TO_OPEN) for note in lane.done(lane.next(NOON_US), NO, NOON_US)]
    untried = [note for note in notes if not note.said]
    assert [note.event for note in untried] == [FAILURES_TO_OPEN + more for more in range(3)]
    assert {(note.state, note.attempts, note.next_us) for note in untried} == {(DeliveryState.WAITING, 2, 7)}
    assert lane.next(NOON_US) == []


def test_those_on_their_way_when_the_breaker_opens_do_not_make_it_wait_longer():
    count = FAILURES_TO_OPEN + 12
    lane = lane_of(*map(taken, range(count)), concurrency=count)
    flights = [lane.next(NOON_US) for _ in range(count)]
    for flight in flights:
        lane.done(flight, NO, NOON_US)
    assert lane.ask(NOON_US + int(OPEN_FIRST_SECONDS * SECOND_US)) is not None


def test_one_that_is_refused_among_those_that_arrive_opens_no_breaker():
    lane = lane_of()
    for _ in range(2 * FAILURES_TO_OPEN):
        fail(lane)
        put(lane, taken())
        lane.done(lane.next(NOON_US), OK, NOON_US)
    assert not lane.is_open


def test_refusals_weigh_less_and_those_of_what_was_refused_before_nothing():
    refused = Answer(taken=False, said="500", is_refusal=True)
    lane = lane_of()
    for _ in range(10 * REFUSALS_TO_OPEN):
        put(lane, taken(attempts=1))
        lane.done(lane.next(NOON_US), refused, NOON_US)
    assert not lane.is_open
    fail(lane, times=REFUSALS_TO_OPEN - 1, answer=refused)
    assert not lane.is_open
    fail(lane, times=2, answer=refused)
    assert lane.is_open


def test_who_asks_to_be_left_alone_is():
    lane = lane_of(taken(1), taken(2))
    asked = Answer(taken=False, said="429", wait_seconds=60)
    (note,) = lane.done(lane.next(NOON_US), asked, NOON_US)
    assert note.next_us == NOON_US + 60 * SECOND_US, "longer than the schedule would"
    assert lane.next(NOON_US + 59 * SECOND_US) == []
    assert lane.ask(NOON_US + 59 * SECOND_US) is None
    assert lane.next(NOON_US + 60 * SECOND_US)[0].kept.seq == 2


def test_what_was_not_tried_waits_as_it_did_and_says_nothing_of_the_subscriber():
    lane = lane_of(taken(1, attempts=3, due_us=7), taken(2))
    untried = Answer(taken=False, said="no connection was free", is_untried=True)
    notes = lane.done(lane.next(NOON_US), untried, NOON_US)
    assert [(note.event, note.attempts, note.next_us, note.said) for note in notes] == [(1, 3, 7, ""), (2, 0, 0, "")]
    assert lane.failures == 0
    assert lane.ask(NOON_US) is None
    assert lane.ask(NOON_US + 2 * SECOND_US) is not None


def test_people_who_were_not_told_are_told_soon():
    lane = lane_of(concurrency=1, together_max=10, every_seconds=300)
    put(lane, taken(1))
    put(lane)
    lane.done(lane.next(NOON_US), Answer(taken=False, said="no place", is_untried=True), NOON_US)
    assert lane.ask(NOON_US + 2 * SECOND_US) is not None


def test_a_clock_that_was_ahead_for_a_moment_does_not_silence_it():
    lane = lane_of(concurrency=1, together_max=10, every_seconds=300)
    ahead_us = NOON_US + 48 * 3_600 * SECOND_US
    lane.ask(ahead_us)
    put(lane, taken(1))
    put(lane)
    lane.done(lane.next(ahead_us), OK, ahead_us)
    assert lane.ask(NOON_US) is None
    assert lane.ask(NOON_US + 300 * SECOND_US) is not None


@pytest.mark.parametrize("count", [5_001, 9_999, 10_000, 30_000])
def test_people_are_told_however_much_there_is(count):
    lane = Lane(WANTS, Manner(concurrency=1, together_max=10_000, every_seconds=300), lambda: 0.0)
    told, left, now_us = 0, count, NOON_US
    while told < count:
        if ask := lane.ask(now_us):
            some = min(2_000, left, ask.count)
            lane.put(ask, [taken(left - number) for number in range(some)])
            left -= some
        if several := lane.next(now_us):
            told += len(lane.done(several, OK, now_us))
        now_us += SECOND_US
        assert now_us < NOON_US + 3_600 * SECOND_US
    assert told == count


def test_of_many_failures_a_few_a_minute_are_told_and_the_rest_is_counted():
    lane = lane_of()
    told = [lane.may_log(NOON_US) for _ in range(1_000)]
    assert told[:LOGGED_A_MINUTE_MAX] == [0] * LOGGED_A_MINUTE_MAX
    assert set(told[LOGGED_A_MINUTE_MAX:]) == {None}
    assert lane.may_log(NOON_US + 60 * SECOND_US) == 1_000 - LOGGED_A_MINUTE_MAX


def test_who_is_gone_gets_nothing_more_of_what_was_taken_for_it():
    lane = lane_of(*map(taken, range(3)))
    notes = lane.done(lane.next(NOON_US), Answer(taken=False, said="410", is_gone=True), NOON_US)
    assert [(note.event, note.said) for note in notes] == [(0, "410"), (1, ""), (2, "")]
    assert lane.next(NOON_US) == []
    assert lane.ask(10 * NOON_US) is None


def test_people_are_told_together_and_not_again_before_a_while():
    lane = lane_of(concurrency=1, together_max=1_000, every_seconds=300)
    put(lane, *map(taken, range(7)))
    assert lane.next(NOON_US) == [], "there may be more"
    put(lane)
    told = lane.next(NOON_US)
    assert [each.kept.seq for each in told] == list(range(7))
    assert len(lane.done(told, OK, NOON_US)) == 7
    put(lane, taken(8))
    put(lane)
    assert lane.ask(NOON_US + 299 * SECOND_US) is None
    assert lane.next(NOON_US + 299 * SECOND_US) == []
    assert len(lane.next(NOON_US + 300 * SECOND_US)) == 1
