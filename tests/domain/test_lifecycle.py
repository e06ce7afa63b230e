"""The table of states and the join, by tables and by properties; no other test decides a state."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from landed.domain.lifecycle import (
    RANKS,
    STATES,
    Fact,
    Source,
    greater_copy,
    in_order,
    inbound_key,
    message_of,
    receipt_key,
    status_of,
)
from landed.domain.moments import microseconds, moment
from landed.domain.receipt import OUTCOMES, Api, Inbound, Outcome, Receipt, Segment, Status

MESSAGES, SMS = Api.MESSAGES, Api.SMS
NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
ACCOUNT = "default"

# Vonage's word, with any code or none and any count of segments.
WORDS = {
    (MESSAGES, "submitted"): Status.ACCEPTED,
    (MESSAGES, "accepted"): Status.ACCEPTED,
    (MESSAGES, "delivered"): Status.DELIVERED,
    (MESSAGES, "read"): Status.READ,
    (MESSAGES, "undeliverable"): Status.FAILED,
    (SMS, "accepted"): Status.ACCEPTED,
    (SMS, "buffered"): Status.BUFFERED,
    (SMS, "delivered"): Status.DELIVERED,
    (SMS, "failed"): Status.FAILED,
    (SMS, "rejected"): Status.FAILED,
    (SMS, "unknown"): Status.UNCONFIRMED,
}
CODES = (None, "", "0", "1", "2", "12", "95", "99", "1000", "1330", "1360", "words")
SMS_CODES = [str(code) for code in (*range(17), *range(50, 55), 95, 99)]
CODES_THAT_SAY_NOTHING = {"0", "1", "95", "99"}
DELIVERED, REJECTED = Segment(provider_status="delivered"), Segment(provider_status="rejected")
UNDELIVERABLE = Segment(provider_status="undeliverable")


@pytest.mark.parametrize("count", [None, 1, 2])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("api", "word"), WORDS, ids=str)
def test_a_word_without_conditions_is_its_state_whatever_the_code(api, word, code, count):
    assert status_of(api, word, code, count) is WORDS[api, word]


@pytest.mark.parametrize("code", SMS_CODES)
def test_expired_with_a_failing_code_failed_and_without_one_is_unconfirmed(code):
    expected = Status.UNCONFIRMED if code in CODES_THAT_SAY_NOTHING else Status.FAILED

    assert status_of(SMS, "expired", code) is expected


@pytest.mark.parametrize("code", [None, "", " ", "00", "01", "095", " 99", "1 "])
def test_expired_with_no_code_or_an_oddly_written_harmless_one_is_unconfirmed(code):
    assert status_of(SMS, "expired", code) is Status.UNCONFIRMED


@pytest.mark.parametrize("code", ["012", " 12", "100", "990", "-1", "words"])
def test_expired_with_an_oddly_written_failing_code_failed(code):
    assert status_of(SMS, "expired", code) is Status.FAILED


@pytest.mark.parametrize(
    ("code", "count", "segments", "expected"),
    [
        pytest.param(None, None, (), Status.FAILED, id="plain"),
        pytest.param(None, 1, (), Status.FAILED, id="one-segment"),
        pytest.param("1000", None, (), Status.FAILED, id="a-code"),
        pytest.param("1360", None, (), Status.UNCONFIRMED, id="1360-is-expired"),
        pytest.param(" 1360 ", None, (), Status.UNCONFIRMED, id="1360-with-blanks"),
        pytest.param(" ", 2, (), Status.UNCONFIRMED, id="two-segments-blank-code"),
        pytest.param("1330", None, (), Status.UNCONFIRMED, id="1330-is-unknown"),
        pytest.param("1360", 3, (REJECTED,) * 3, Status.UNCONFIRMED, id="1360-in-segments"),
        pytest.param(None, 2, (), Status.UNCONFIRMED, id="two-segments-no-code"),
        pytest.param("", 2, (), Status.UNCONFIRMED, id="two-segments-empty-code"),
        pytest.param("1000", 2, (), Status.FAILED, id="two-segments-and-a-code"),
        pytest.param(None, 2, (DELIVERED, DELIVERED), Status.UNCONFIRMED, id="all-delivered-but-late"),
        pytest.param(None, 2, (DELIVERED,), Status.UNCONFIRMED, id="one-never-came"),
        pytest.param(None, None, (DELIVERED, DELIVERED), Status.UNCONFIRMED, id="uncounted-segments"),
        pytest.param(None, 2, (DELIVERED, REJECTED), Status.FAILED, id="one-rejected"),
        pytest.param(None, 2, (DELIVERED, UNDELIVERABLE), Status.FAILED, id="one-undeliverable"),
    ],
)
def test_rejected_is_failed_unless_it_may_have_arrived(code, count, segments, expected):
    assert status_of(MESSAGES, "rejected", code, count, segments) is expected


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("word", ["", " ", "seen", "deleted", "DELIVRD", "доставлено", "\x00", "delivered!"])
def test_an_unknown_word_is_unrecognised_and_pending(api, word):
    state = status_of(api, word, "12", 2, (REJECTED,))

    assert state is Status.UNRECOGNISED
    assert OUTCOMES[state] is Outcome.PENDING


@pytest.mark.parametrize("word", ["Delivered", "DELIVERED", " delivered "])
def test_a_word_is_known_in_any_letter_case(word):
    assert status_of(SMS, word, None) is Status.DELIVERED


@pytest.mark.parametrize(
    ("api", "word"), [(MESSAGES, "buffered"), (MESSAGES, "expired"), (SMS, "read"), (SMS, "submitted")]
)
def test_a_word_of_the_other_api_is_unrecognised(api, word):
    assert status_of(api, word, None) is Status.UNRECOGNISED


def test_this_file_covers_the_whole_table():
    assert set(STATES) == set(WORDS) | {(SMS, "expired"), (MESSAGES, "rejected")}
    assert set(RANKS) == set(OUTCOMES) == set(Status)


def test_ranks_are_in_the_order_that_the_design_gives():
    order = ["unrecognised", "sent", "accepted", "buffered", "unconfirmed", "failed", "delivered", "read"]

    assert sorted(Status, key=RANKS.__getitem__) == order


# The join.


def fact(word, minute=0, *, api=MESSAGES, verified=True, heard=0, **fields):
    """A fact of one message as the fold would make it."""
    occurred_at = None if minute is None else NOON + timedelta(minutes=minute)
    receipt = Receipt(
        api=api,
        message_id="m",
        channel=fields.pop("channel", "sms"),
        status=status_of(api, word, fields.get("code")),
        provider_status=word,
        occurred_at=occurred_at,
        verified=verified,
        **fields,
    )
    return Fact(receipt=receipt, key=receipt_key(ACCOUNT, receipt), received_at=NOON + timedelta(seconds=heard))


def sent(minute=0, **fields):
    """The sender's own word."""
    receipt = Receipt(
        api=MESSAGES,
        message_id="m",
        channel=None,
        status=Status.SENT,
        provider_status="sent",
        occurred_at=NOON + timedelta(minutes=minute),
        verified=True,
        **fields,
    )
    return Fact(
        receipt=receipt, key=b"sent" + bytes([minute]), received_at=NOON + timedelta(minutes=minute), source=Source.SENT
    )


def kept(facts):
    """What the store keeps: one fact for each key."""
    by_key = {}
    for each in facts:
        by_key[each.key] = greater_copy(by_key[each.key], each) if each.key in by_key else each
    return list(by_key.values())


def joined(*facts):
    return message_of(ACCOUNT, kept(facts))


@dataclass
class Story:
    facts: tuple
    status: Status
    conflict: bool = False
    verified: bool = True


STORIES = {
    "submitted_then_delivered": Story((fact("submitted"), fact("delivered", 1)), Status.DELIVERED),
    "read_after_delivered_is_read": Story((fact("delivered"), fact("read", 1)), Status.READ),
    "read_without_delivered_is_read": Story((fact("submitted"), fact("read")), Status.READ),
    "late_submitted_does_not_undo_delivered": Story((fact("delivered"), fact("submitted", 9)), Status.DELIVERED),
    "accepted_after_delivered_does_not_undo_it": Story(
        (fact("delivered", api=SMS), fact("accepted", 9, api=SMS)), Status.DELIVERED
    ),
    "buffered_outranks_accepted": Story((fact("buffered", api=SMS), fact("accepted", 9, api=SMS)), Status.BUFFERED),
    "delivered_after_expired": Story((fact("expired", api=SMS), fact("delivered", -9, api=SMS)), Status.DELIVERED),
    "failed_outranks_unconfirmed": Story((fact("unknown", 9, api=SMS), fact("failed", api=SMS)), Status.FAILED),
    "delivered_then_failed_is_a_conflict": Story(
        (fact("delivered"), fact("rejected", 9)), Status.DELIVERED, conflict=True
    ),
    "read_then_failed_is_a_conflict": Story((fact("read"), fact("undeliverable", 9)), Status.READ, conflict=True),
    "unconfirmed_and_delivered_is_no_conflict": Story(
        (fact("rejected", code="1360"), fact("delivered")), Status.DELIVERED
    ),
    "unrecognised_alone": Story((fact("seen"),), Status.UNRECOGNISED),
    "unverified_delivered_does_not_outweigh_verified_submitted": Story(
        (fact("delivered", 9, verified=False), fact("submitted")), Status.ACCEPTED
    ),
    "unverified_failed_does_not_outweigh_verified_unrecognised": Story(
        (fact("undeliverable", 9, verified=False), fact("seen")), Status.UNRECOGNISED
    ),
    "unverified_failed_against_verified_delivered": Story(
        (fact("undeliverable", 9, verified=False), fact("delivered")), Status.DELIVERED, conflict=True
    ),
    "unverified_alone_is_believed_as_such": Story(
        (fact("delivered", verified=False),), Status.DELIVERED, verified=False
    ),
    "sent_alone": Story((sent(),), Status.SENT),
    "sent_never_overwrites_a_receipt": Story((sent(9), fact("delivered")), Status.DELIVERED),
    "sent_does_not_outweigh_an_unverified_receipt": Story(
        (sent(9), fact("delivered", verified=False)), Status.DELIVERED, verified=False
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_a_story_ends_the_same_in_every_order(name):
    story = STORIES[name]

    messages = [joined(*order) for order in permutations(story.facts)]

    for message in messages:
        assert message == messages[0]
    assert messages[0].status is story.status
    assert messages[0].outcome is OUTCOMES[story.status]
    assert messages[0].conflict is story.conflict
    assert messages[0].verified is story.verified


def test_the_later_of_two_equal_states_stands_and_a_missing_time_is_the_earliest():
    message = joined(
        fact("delivered", None, network="1"), fact("delivered", 1, network="2"), fact("delivered", 0, network="3")
    )

    assert message.network == "2"


def test_each_field_comes_from_the_greatest_receipt_that_has_it():
    message = joined(
        fact("submitted", client_ref="ref", network="old", price=Decimal("0.03"), currency="EUR"),
        fact("delivered", 1, network="new"),
    )

    assert (message.client_ref, message.network) == ("ref", "new")
    assert (message.price, message.currency) == (Decimal("0.03"), "EUR")


def test_the_currency_is_that_of_the_price():
    message = joined(fact("submitted", currency="EUR"), fact("delivered", 1, price=Decimal("0.03")))

    assert (message.price, message.currency) == (Decimal("0.03"), None)


def test_the_code_of_a_failure_does_not_explain_a_delivery():
    message = joined(fact("failed", api=SMS, code="12"), fact("delivered", 1, api=SMS))

    assert message.code is None


def test_times_say_when_we_heard_and_how_long_it_took():
    message = joined(sent(), fact("submitted", heard=2), fact("delivered", 1, heard=5), fact("read", 2, heard=60))

    assert message.sent_at == NOON
    assert message.first_at == NOON + timedelta(seconds=2)
    assert message.final_at == NOON + timedelta(seconds=5)
    assert message.latency_ms == 5000
    assert message.receipts == 3


def test_a_message_without_its_sender_is_timed_from_its_first_receipt():
    assert joined(fact("submitted", heard=2), fact("delivered", heard=5)).latency_ms == 3000


@pytest.mark.parametrize(
    "facts", [(fact("submitted"),), (fact("delivered"),), (sent(),)], ids=["pending", "only-one-receipt", "only-sent"]
)
def test_a_latency_that_nobody_can_know_is_none(facts):
    assert joined(*facts).latency_ms is None


def test_facts_as_a_story_are_in_the_order_in_which_we_heard_them():
    first, second, third = fact("delivered", heard=1), fact("submitted", heard=2), fact("read", heard=3)

    assert in_order([third, first, second]) == [first, second, third]


# Keys.


def test_a_retried_sms_receipt_has_the_same_key_whatever_changes_on_a_retry():
    one = fact("delivered", api=SMS, pushed_at=NOON, raw={"nonce": "a", "sig": "x"})
    retry = fact("delivered", api=SMS, pushed_at=NOON + timedelta(hours=1), raw={"nonce": "b", "sig": "y"})

    assert one.key == retry.key
    assert len(kept([one, retry])) == 1


@pytest.mark.parametrize(
    "other",
    [
        fact("delivered", 1),
        fact("delivered", None),
        fact("read"),
        fact("delivered", code="1"),
        fact("delivered", api=SMS),
    ],
    ids=["time", "no-time", "status", "code", "api"],
)
def test_another_event_has_another_key(other):
    assert fact("delivered").key != other.key


def test_keys_differ_by_account_and_cannot_be_shifted_between_parts():
    receipt = fact("delivered").receipt

    assert receipt_key("a", receipt) != receipt_key("b", receipt)
    assert receipt_key("a", replace(receipt, message_id="bc")) != receipt_key("ab", replace(receipt, message_id="c"))


def inbound(**fields):
    return Inbound(
        **{"api": SMS, "message_id": "m", "channel": "sms", "text": "Hello", "sender": "1", "to": "2"} | fields
    )


def test_inbound_keys_differ_by_content_only():
    assert inbound_key(ACCOUNT, inbound()) == inbound_key(ACCOUNT, inbound(verified=True, raw={"nonce": "x"}))
    assert inbound_key(ACCOUNT, inbound()) != inbound_key(ACCOUNT, inbound(text="Hello!"))
    assert inbound_key(ACCOUNT, inbound(sender="1\0", to="2")) != inbound_key(
        ACCOUNT, inbound(sender="1", to="\0" + "2")
    )


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "😀"], ids=["lone-surrogate", "nul", "emoji"])
def test_any_text_has_a_key(text):
    assert len(inbound_key(ACCOUNT, inbound(text=text))) == 16


@given(st.datetimes(timezones=st.just(UTC)))
@settings(max_examples=50, deadline=None)
def test_microseconds_and_moment_are_inverses(time):
    assert moment(microseconds(time)) == time


# The join is a join.

WORDS_OF_MESSAGES = ["submitted", "delivered", "read", "rejected", "undeliverable", "seen"]
facts_of_one_message = st.builds(
    fact,
    st.sampled_from(WORDS_OF_MESSAGES),
    st.sampled_from([None, 0, 1, 2]),
    verified=st.booleans(),
    heard=st.integers(0, 9),
    code=st.sampled_from([None, "1000", "1360"]),
    network=st.sampled_from([None, "1", "2"]),
    price=st.sampled_from([None, Decimal("0.1"), Decimal("0.10"), Decimal("0.2")]),
    currency=st.sampled_from([None, "EUR"]),
    client_ref=st.sampled_from([None, "a", "b"]),
    segments=st.sampled_from([None, 1, 2]),
)
sent_of_one_message = st.builds(sent, st.integers(0, 2), client_ref=st.sampled_from([None, "a"]))
fact_sets = st.lists(facts_of_one_message | sent_of_one_message, min_size=1, max_size=8)


@given(fact_sets, st.data())
@settings(max_examples=300, deadline=None)
def test_all_orders_and_repetitions_give_the_same_message(facts, data):
    repeated = data.draw(st.lists(st.sampled_from(facts), max_size=8))
    reordered = data.draw(st.permutations(facts + repeated))

    assert joined(*reordered) == joined(*facts)


@given(fact_sets, st.data())
@settings(max_examples=100, deadline=None)
def test_a_fold_in_several_transactions_gives_the_same_message(facts, data):
    cut = data.draw(st.integers(0, len(facts)))

    assert joined(*kept(facts[:cut]), *facts[cut:]) == joined(*facts)


@given(fact_sets)
@settings(max_examples=200, deadline=None)
def test_verified_is_never_outweighed_by_unverified(facts):
    message = joined(*facts)

    verified = [each for each in kept(facts) if each.receipt.verified and each.source is Source.WEBHOOK]
    if verified:
        assert message.verified
        assert message.status is message_of(ACCOUNT, verified).status


@given(fact_sets)
@settings(max_examples=200, deadline=None)
def test_delivered_and_failed_together_are_a_conflict_and_nothing_else_is(facts):
    outcomes = {each.receipt.outcome for each in kept(facts)}

    assert joined(*facts).conflict is ({Outcome.DELIVERED, Outcome.FAILED} <= outcomes)


@given(st.lists(facts_of_one_message.filter(lambda each: each.receipt.verified), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_once_read_a_message_stays_delivered(facts):
    message = joined(*facts, fact("read", 1))

    assert message.status is Status.READ
    assert message.outcome is Outcome.DELIVERED


@given(facts_of_one_message, facts_of_one_message)
@settings(max_examples=100, deadline=None)
def test_of_two_copies_the_verified_one_stands_and_both_are_counted(one, other):
    other = msgspec.structs.replace(other, key=one.key)

    best = greater_copy(one, other)

    assert best.receipt == greater_copy(other, one).receipt
    assert best.receipt.verified is (one.receipt.verified or other.receipt.verified)
    assert best.received_at == min(one.received_at, other.received_at)
    assert best.copies == 2


def test_the_outcome_is_known_from_the_first_receipt_as_trusted_as_itself():
    doubtful = fact("delivered", verified=False, heard=1)
    signed = fact("delivered", heard=5)

    assert message_of(ACCOUNT, [doubtful, signed]).final_at == signed.received_at
    assert message_of(ACCOUNT, [doubtful]).final_at == doubtful.received_at


@pytest.mark.parametrize("code", ["1360", "01360", " 1330 "])
def test_a_rejected_that_expired_or_is_unknown_is_unconfirmed_however_its_code_is_written(code):
    assert status_of(MESSAGES, "rejected", code) is Status.UNCONFIRMED


@pytest.mark.parametrize("word", ["rejected", "failed", "undeliverable"])
def test_a_segment_that_failed_in_the_words_of_either_api_fails_the_message(word):
    segments = (DELIVERED, Segment(provider_status=word))

    assert status_of(MESSAGES, "rejected", None, 2, segments) is Status.FAILED
    assert status_of(MESSAGES, "rejected", "0", 2, (DELIVERED, DELIVERED)) is Status.UNCONFIRMED


@pytest.mark.parametrize(
    ("sent", "first", "final", "latency_ms"),
    [(0, 1, 5, 5_000), (None, 1, 5, 4_000), (None, 5, 5, None), (9, 5, 5, None), (9, 1, 5, 4_000), (5, 5, 5, 0)],
)
def test_a_latency_is_from_the_send_or_the_first_receipt_and_never_negative(sent, first, final, latency_ms):
    receipt = Receipt(api=SMS, message_id="m", channel="sms", status=Status.DELIVERED, provider_status="delivered")
    message = message_of(ACCOUNT, [Fact(receipt=receipt, key=b"k", received_at=NOON)])
    at = [None if each is None else NOON + timedelta(seconds=each) for each in (sent, first, final)]

    assert replace(message, sent_at=at[0], first_at=at[1], final_at=at[2]).latency_ms == latency_ms
