"""What the fold says: once, in its own transaction, and nothing when the views are made again."""

import random
from contextlib import closing

import pytest

from landed import run
from landed.domain.events import EventType, Wanted
from landed.store.outbox import Kind, Subscriber
from landed.store.sqlite import SqliteReader
from landed.store.sqlite_outbox import SqliteOutbox

ACCEPTED, DELIVERED, READ = EventType.ACCEPTED, EventType.DELIVERED, EventType.READ
FAILED, UNCONFIRMED, CONFLICT = EventType.FAILED, EventType.UNCONFIRMED, EventType.CONFLICT
UNVERIFIED = {"verified": False}
EXPIRED = {"error": {"title": "1360"}}

# Receipts of one message in batches, and what is said of it, in order.
STORIES = {
    "delivered-at-once": ([["delivered"]], [DELIVERED]),
    "submitted-says-nothing": ([["submitted"]], []),
    "submitted-then-delivered": ([["submitted"], ["delivered"]], [DELIVERED]),
    "in-one-batch": ([["submitted", "delivered"]], [DELIVERED]),
    "delivered-twice": ([["delivered"], ["delivered"]], [DELIVERED]),
    "out-of-order": ([["delivered"], ["submitted"]], [DELIVERED]),
    "read-alone": ([["read"]], [DELIVERED, READ]),
    "read-after-delivered": ([["delivered"], ["read"]], [DELIVERED, READ]),
    "delivered-after-read": ([["read"], ["delivered"]], [DELIVERED, READ]),
    "rejected": ([["submitted"], ["rejected"]], [FAILED]),
    "expired": ([[("rejected", EXPIRED)]], [UNCONFIRMED]),
    "expired-then-delivered": ([[("rejected", EXPIRED)], ["delivered"]], [UNCONFIRMED, DELIVERED]),
    "failed-then-delivered": ([["rejected"], ["delivered"]], [FAILED, CONFLICT, DELIVERED]),
    "delivered-then-failed": ([["delivered"], ["rejected"]], [DELIVERED, CONFLICT]),
    "failed-and-delivered-together": ([["rejected", "delivered"]], [CONFLICT, DELIVERED]),
    "trust-overturns": ([[("delivered", UNVERIFIED)], ["rejected"]], [DELIVERED, FAILED, CONFLICT]),
    "trust-overturns-and-back": (
        [[("delivered", UNVERIFIED)], ["rejected"], ["delivered"]],
        [DELIVERED, FAILED, CONFLICT],
    ),
    "trust-begins-anew": (
        [[("delivered", UNVERIFIED)], ["submitted"], ["delivered"], ["read"]],
        [DELIVERED, READ],
    ),
    "no-trust-overturns-nothing": ([["rejected"], [("delivered", UNVERIFIED)]], [FAILED, CONFLICT]),
    "unverified-and-then-verified": ([[("delivered", UNVERIFIED)], ["delivered"]], [DELIVERED]),
    "an-unknown-word": ([["misplaced"]], []),
}


def told(word):
    return ("m", word) if isinstance(word, str) else ("m", *word)


@pytest.mark.parametrize(("batches", "said"), STORIES.values(), ids=STORIES)
def test_each_story_is_told_once_and_in_order(road, batches, said):
    for batch in batches:
        road.say(*map(told, batch))
        road.begin_fold_again()
    assert road.events() == [(event, "m") for event in said]


@pytest.mark.parametrize(("batches", "said"), STORIES.values(), ids=STORIES)
def test_a_rebuild_says_nothing_and_what_comes_after_it_is_not_said_again(road, batches, said):
    for batch in batches:
        road.say(*map(told, batch))
    run.rebuild(road.data, lambda _position, _last: None)
    road.begin_fold_again()
    assert road.events() == [(event, "m") for event in said]
    for batch in batches:
        road.say(*map(told, batch))
    assert road.events() == [(event, "m") for event in said]


def test_what_was_not_folded_before_a_rebuild_is_said_in_it(road):
    road.say(("one", "delivered"))
    road.receive(("two", "delivered"), ("three", "rejected"), ("one", "read"))
    run.rebuild(road.data, lambda _position, _last: None)
    road.begin_fold_again()
    assert road.fold.step() == 0
    assert sorted(road.events()) == [(DELIVERED, "one"), (DELIVERED, "two"), (FAILED, "three"), (READ, "one")]


def test_a_store_that_was_made_anew_says_nothing_of_what_an_older_one_may_have_said(road):
    road.say(("one", "delivered"))
    road.close()
    for file in road.data.glob("store.db*"):
        file.unlink()
    run.rebuild(road.data, lambda _position, _last: None)
    with closing(SqliteOutbox(run.store_path(road.data))) as outbox:
        assert outbox.newest() == 0


def test_accepted_is_said_only_while_somebody_asks_for_it_by_name(road):
    road.say(("one", "submitted"))
    road.outbox.add(Subscriber(name="all", kind=Kind.WEBHOOK, address="https://all.example"))
    road.say(("two", "submitted"))
    wanted = Wanted(events=("message.accepted",))
    road.outbox.add(Subscriber(name="some", kind=Kind.WEBHOOK, address="https://some.example", wanted=wanted))
    road.say(("three", "submitted"))
    road.say(("four", "read"))
    road.say(("one", "delivered"))
    assert road.events() == [
        (ACCEPTED, "three"),
        (ACCEPTED, "four"),
        (DELIVERED, "four"),
        (READ, "four"),
        (DELIVERED, "one"),
    ]


def test_accounts_with_the_same_message_id_have_events_of_their_own(road):
    road.say(("m", "delivered", {"account": "one"}), ("m", "delivered", {"account": "two"}))
    found = road.outbox.find("m")
    assert {kept.event.data.account for kept in found} == {"one", "two"}
    assert len({kept.id for kept in found}) == 2


def test_an_event_carries_the_message_as_it_stands_now_and_the_receipt_that_it_comes_from(road):
    road.say(("m", "rejected", {"error": {"title": "1240"}, "to": "491701234567"}))
    road.say(("m", "delivered", {"to": "491701234567"}))
    failed, conflict, delivered = road.outbox.find("m")[0], *road.outbox.events([2, 3])
    assert failed.type is FAILED
    assert failed.event.data.receipt.provider_status == "rejected"
    assert failed.event.data.message.outcome == "delivered"
    assert failed.event.data.message.conflict
    assert conflict.type is CONFLICT
    assert delivered.event.data.receipt.provider_status == "delivered"


def test_inbound_messages_are_said_once(road):
    fields = {"message_type": "text", "text": "STOP", "from": "491701234567", "to": "12015550123"}
    for _ in range(2):
        road.say(("i", None, fields))
    inbound = [kept for kept in road.outbox.events(range(1, 9)) if kept.type is EventType.INBOUND]
    assert [kept.event.data.inbound.text for kept in inbound] == ["STOP"]
    assert [kept.traits.channel for kept in inbound] == ["sms"]


def test_however_receipts_are_cut_into_batches_the_end_of_each_message_is_said_once(road):
    dice = random.Random(7)  # noqa: S311 - which receipts come
    words = ("submitted", "delivered", "read", "rejected", "undeliverable")
    receipts = [(f"m{dice.randrange(60)}", dice.choice(words)) for _ in range(600)]
    while receipts:
        count = dice.randrange(1, 40)
        road.say(*receipts[:count])
        del receipts[:count]
    events = road.events()
    assert len(events) == len(set(events))
    for message_id in {message_id for _, message_id in events}:
        ends = {event for event, each in events if each == message_id}
        (message,) = SqliteReader(run.store_path(road.data)).find(message_id, limit=9)
        assert EventType(f"message.{message.outcome}") in ends
        assert (CONFLICT in ends) == message.conflict
        assert READ not in ends or DELIVERED in ends
