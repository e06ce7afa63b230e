"""That the quarantine grows is said once an hour at most, of what is new, and by why it was not trusted."""

from __future__ import annotations

from contextlib import closing

import pytest
from msgspec.structs import replace

from landed import run
from landed.domain.events import EventType
from landed.journal.quarantine import SqliteQuarantine, Suspect
from landed.journal.record import Ids, RequestRecord
from landed.store.outbox import Ask, Kind, Subscriber
from landed.worker.growing import HOUR_US, say_growing

NOON_US = 1_786_000_000_000_000
MINUTE_US = 60_000_000
IDS = Ids()


@pytest.fixture
def quarantine(road):
    with closing(SqliteQuarantine(run.quarantine_path(road.data))) as held:
        yield held


@pytest.fixture
def look(road, quarantine):
    """Look as a worker does from time to time; whether something was said."""
    return lambda at_us: say_growing(road.outbox, quarantine.totals().rows, quarantine.reasons_since, at_us)


def hold(quarantine, *contents, at_us, reason="wrong"):
    suspects = [
        Suspect(content=content.encode(), reason=reason, signed=False, record=_record(at_us)) for content in contents
    ]
    assert all(quarantine.keep(suspects))


def _record(at_us):
    return RequestRecord(
        id=IDS.next(),
        at_us=at_us,
        received_us=at_us,
        account="",
        api_key=None,
        coverage="nothing",
        verified=False,
        stale=False,
        answer=401,
        method="POST",
        path="/webhooks/message-status",
        query=b"",
        headers=(),
        body=b"{}",
    )


def said(road):
    """What was said, each as (held, came, reasons)."""
    events = road.outbox.events_after(0, [EventType.QUARANTINE], 100)
    return [(kept.event.data.held, kept.event.data.came, kept.event.data.reasons) for kept in events]


def test_nothing_is_said_of_an_empty_quarantine(road, look):
    assert not look(NOON_US)
    assert said(road) == []


def test_what_came_is_counted_by_its_reason(road, quarantine, look):
    hold(quarantine, "a", "b", at_us=NOON_US)
    hold(quarantine, "c", at_us=NOON_US, reason="missing")
    assert look(NOON_US + MINUTE_US)
    assert said(road) == [(3, 3, {"missing": 1, "wrong": 2})]


def test_within_an_hour_nothing_more_is_said_and_then_what_is_new(road, quarantine, look):
    hold(quarantine, "a", at_us=NOON_US)
    assert look(NOON_US + MINUTE_US)
    hold(quarantine, "b", at_us=NOON_US + 2 * MINUTE_US)
    assert not any(look(NOON_US + minute * MINUTE_US) for minute in range(2, 61))
    hold(quarantine, "c", at_us=NOON_US + 60 * MINUTE_US)
    assert look(NOON_US + 61 * MINUTE_US)
    assert not look(NOON_US + 122 * MINUTE_US)
    assert said(road) == [(1, 1, {"wrong": 1}), (3, 2, {"wrong": 2})]


def test_a_copy_that_comes_again_is_something_new(road, quarantine, look):
    hold(quarantine, "a", at_us=NOON_US)
    assert look(NOON_US + MINUTE_US)
    hold(quarantine, "a", at_us=NOON_US + HOUR_US)
    assert look(NOON_US + HOUR_US + MINUTE_US)
    assert said(road) == [(1, 1, {"wrong": 1}), (1, 1, {"wrong": 1})]


def test_what_lies_there_for_long_is_no_news_to_a_worker_that_starts(road, quarantine, look):
    hold(quarantine, "a", at_us=NOON_US)
    assert not look(NOON_US + HOUR_US + 1)
    assert said(road) == []


def test_a_clock_that_was_far_ahead_does_not_keep_it_silent(road, quarantine, look):
    hold(quarantine, "a", at_us=NOON_US + 1_000 * HOUR_US)
    assert look(NOON_US + 1_000 * HOUR_US + MINUTE_US)
    hold(quarantine, "b", at_us=NOON_US)
    assert look(NOON_US + MINUTE_US)
    assert not look(NOON_US + 2 * MINUTE_US)
    assert [came for _, came, _ in said(road)] == [1, 2]


def test_it_reaches_who_wants_it_and_nobody_else(road, quarantine, look):
    usual = {"kind": Kind.WEBHOOK, "address": "https://shop.example.com/"}
    wants = road.outbox.add(Subscriber(name="all", **usual))
    other = road.outbox.add(Subscriber(name="other", **usual))
    other = _changed(road, other, events=("message.*",))
    hold(quarantine, "a", at_us=NOON_US)
    look(NOON_US + MINUTE_US)
    asks = [Ask(subscriber=each, count=10) for each in (wants, other)]
    (taken,) = road.outbox.step((), asks, NOON_US)
    assert (taken.subscriber, taken.kept.type) == (wants.row, EventType.QUARANTINE)
    assert taken.kept.event.data.reasons == {"wrong": 1}


def _changed(road, subscriber, **wanted):
    changed = replace(subscriber, wanted=replace(subscriber.wanted, **wanted))
    road.outbox.change(changed)
    return changed


def test_a_rebuild_says_nothing_of_it_and_forgets_nothing(road, quarantine, look):
    road.say(("m1", "delivered"))
    hold(quarantine, "a", at_us=NOON_US)
    look(NOON_US + MINUTE_US)
    before = [(kept.id, kept.type) for kept in road.outbox.events_after(0, EventType, 100)]
    road.store.close()
    run.rebuild(road.data, lambda *_: None)
    assert [(kept.id, kept.type) for kept in road.outbox.events_after(0, EventType, 100)] == before
    assert not look(NOON_US + 2 * MINUTE_US)
