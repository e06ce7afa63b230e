"""What a message calls for: in any order, closed downwards, once; and who wants it."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landed.domain.events import (
    CALLED_FOR,
    Event,
    EventType,
    InboundData,
    QuarantineData,
    Traits,
    Wanted,
    called_for,
    cause_of,
    check_wanted,
    decode_event,
    encode_event,
    event_id,
    id_text,
    message_data,
)
from landed.domain.lifecycle import Fact, Source, message_of, receipt_key
from landed.domain.receipt import Api, Inbound, Outcome, Receipt, Status
from landed.domain.views import InboundView

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
ACCOUNT = "default"
ACCEPTED, DELIVERED, READ = EventType.ACCEPTED, EventType.DELIVERED, EventType.READ
FAILED, UNCONFIRMED, CONFLICT = EventType.FAILED, EventType.UNCONFIRMED, EventType.CONFLICT


def fact(status, *, verified=True, after=0, source=Source.WEBHOOK, code=None):
    receipt = Receipt(
        api=Api.SMS,
        message_id="m",
        channel="sms",
        status=status,
        provider_status=str(status),
        occurred_at=NOON + timedelta(seconds=after),
        verified=verified,
        code=code,
        network="26201",
        to="491701234567",
    )
    key = receipt_key(ACCOUNT, receipt)
    return Fact(receipt=receipt, key=key, received_at=NOON + timedelta(seconds=after), source=source)


# Each by what is known of a message: (status, verified).
CALLS = {
    "nothing": ([], set()),
    "unrecognised": ([("unrecognised", True)], set()),
    "accepted": ([("accepted", True)], {ACCEPTED}),
    "buffered": ([("buffered", True)], {ACCEPTED}),
    "delivered": ([("delivered", True)], {ACCEPTED, DELIVERED}),
    "read-implies-delivered": ([("read", True)], {ACCEPTED, DELIVERED, READ}),
    "failed": ([("accepted", True), ("failed", True)], {FAILED}),
    "unconfirmed": ([("accepted", True), ("unconfirmed", True)], {UNCONFIRMED}),
    "unconfirmed-then-failed": ([("unconfirmed", True), ("failed", True)], {FAILED}),
    "unconfirmed-then-delivered": ([("unconfirmed", True), ("delivered", True)], {ACCEPTED, DELIVERED}),
    "failed-and-delivered": ([("failed", True), ("delivered", True)], {ACCEPTED, DELIVERED, CONFLICT}),
    "failed-and-read": ([("failed", True), ("read", True)], {ACCEPTED, DELIVERED, READ, CONFLICT}),
    "verified-failed-overturns": ([("delivered", False), ("failed", True)], {FAILED, CONFLICT}),
    "verified-unconfirmed-overturns-delivered": (
        [("delivered", False), ("unconfirmed", True)],
        {UNCONFIRMED, CONFLICT},
    ),
    "verified-unconfirmed-overturns-failed": ([("failed", False), ("unconfirmed", True)], {UNCONFIRMED, CONFLICT}),
    "a-verified-step-is-no-end": ([("delivered", False), ("accepted", True)], {ACCEPTED}),
    "unverified-read-of-delivered": ([("read", False), ("delivered", True)], {ACCEPTED, DELIVERED}),
}


@pytest.mark.parametrize(("known", "called"), CALLS.values(), ids=CALLS)
def test_a_message_calls_for_what_its_state_stands_for_in_any_order(known, called):
    facts = [fact(Status(word), verified=verified, after=after) for after, (word, verified) in enumerate(known)]
    for order in permutations(facts):
        assert called_for(order) == called


def test_our_own_word_that_it_was_sent_calls_for_nothing():
    assert not called_for([fact(Status.SENT, source=Source.SENT)])
    assert called_for([fact(Status.SENT, source=Source.SENT), fact(Status.FAILED)]) == {FAILED}


facts_of_one = st.lists(
    st.builds(
        fact,
        st.sampled_from([status for status in Status if status is not Status.SENT]),
        verified=st.booleans(),
        after=st.integers(0, 3),
    ),
    min_size=1,
    max_size=6,
)


@given(facts_of_one)
def test_what_is_called_for_is_closed_downwards_and_has_one_end(facts):
    called = called_for(facts)
    outcome = message_of(ACCOUNT, facts).outcome
    assert READ not in called or DELIVERED in called
    assert DELIVERED not in called or ACCEPTED in called
    assert len(called & {DELIVERED, FAILED, UNCONFIRMED}) == (outcome is not Outcome.PENDING)
    assert message_of(ACCOUNT, facts).conflict <= (CONFLICT in called)


@given(facts_of_one)
def test_the_cause_of_each_event_is_a_receipt_of_its_outcome(facts):
    for event in called_for(facts) - {ACCEPTED, CONFLICT}:
        cause = cause_of(event, facts)
        assert cause in facts
        assert event in CALLED_FOR[cause.receipt.status]


def test_the_cause_of_a_conflict_is_the_end_that_came_last():
    first, last = fact(Status.DELIVERED, after=1), fact(Status.FAILED, after=2)
    assert cause_of(CONFLICT, [last, first]) is last


def test_an_id_tells_account_subject_and_type_apart():
    ids = {event_id(account, subject, event) for account in ("a", "b") for subject in ("m", "n") for event in EventType}
    assert len(ids) == 4 * len(EventType)
    assert id_text(event_id("a", "m", DELIVERED)) == id_text(event_id("a", "m", DELIVERED))
    assert id_text(event_id("a", "m", DELIVERED)).startswith("evt_")


# Patterns, and the types among which they choose.
PATTERNS = {
    "all": (("*",), set(EventType) - {ACCEPTED}),
    "messages": (("message.*",), {DELIVERED, READ, FAILED, UNCONFIRMED, CONFLICT}),
    "accepted-by-name": (("message.accepted",), {ACCEPTED}),
    "two": (("message.failed", "inbound.*"), {FAILED, EventType.INBOUND}),
    "none-such": (("message.lost",), set()),
}


@pytest.mark.parametrize(("patterns", "types"), PATTERNS.values(), ids=PATTERNS)
def test_patterns_choose_types_and_accepted_is_off_unless_named(patterns, types):
    assert Wanted(events=patterns).types() == types


TRAITS = Traits.of(message_of(ACCOUNT, [fact(Status.FAILED, code="9")]))
FILTERS = {
    "nothing-in-particular": (Wanted(), True),
    "channel": (Wanted(channels=("sms",)), True),
    "other-channel": (Wanted(channels=("rcs", "mms")), False),
    "network": (Wanted(networks=("26202", "26201")), True),
    "other-network": (Wanted(networks=("26202",)), False),
    "outcome": (Wanted(outcomes=("failed",)), True),
    "other-outcome": (Wanted(outcomes=("delivered",)), False),
    "reason": (Wanted(reasons=("opted-out",)), True),
    "other-reason": (Wanted(reasons=("unroutable",)), False),
    "permanence": (Wanted(permanences=("permanent",)), True),
    "other-permanence": (Wanted(permanences=("temporary",)), False),
    "all-of-them": (Wanted(channels=("sms",), networks=("26201",), outcomes=("failed",), reasons=("opted-out",)), True),
    "one-does-not-fit": (Wanted(channels=("sms",), outcomes=("delivered",)), False),
}


@pytest.mark.parametrize(("wanted", "takes"), FILTERS.values(), ids=FILTERS)
def test_a_filter_takes_what_fits_all_of_it(wanted, takes):
    assert wanted.takes(TRAITS) is takes
    assert Wanted().takes(Traits())


def test_events_come_back_from_their_json_as_they_were():
    cause = fact(Status.FAILED, code="9")
    inbound = Inbound(api=Api.SMS, message_id="i", channel="sms", text="STOP", sender="491701234567")
    data = {
        FAILED: message_data(message_of(ACCOUNT, [cause]), cause),
        EventType.INBOUND: InboundData(account=ACCOUNT, inbound=InboundView.of(inbound)),
        EventType.QUARANTINE: QuarantineData(held=7, came=3, reasons={"missing": 3}),
    }
    for event, about in data.items():
        told = Event(id=id_text(event_id(ACCOUNT, "m", event)), type=event, timestamp=NOON, data=about)
        assert decode_event(encode_event(told)) == told


def test_an_event_of_a_message_carries_reason_permanence_and_advice():
    cause = fact(Status.FAILED, code="9")
    told = msgspec.json.decode(msgspec.json.encode(message_data(message_of(ACCOUNT, [cause]), cause)))
    assert told["message"]["to"] == "491701234567"
    assert told["message"]["outcome"] == "failed"
    assert told["receipt"]["provider_status"] == "failed"
    assert told["reason"]["slug"] == "opted-out"
    assert told["reason"]["permanence"] == "permanent"
    assert told["reason"]["advice"]
    assert told["account"] == ACCOUNT


# What is asked for, and what is said of it; None where it may be asked.
ASKED = {
    "all": (Wanted(), None),
    "a-pattern": (Wanted(events=("message.*",)), None),
    "misspelt-event": (Wanted(events=("mesage.failed",)), "no event is 'mesage.failed': 'message.failed' is meant"),
    "no-such-event": (Wanted(events=("zzz",)), "no event is 'zzz': there are inbound.received, message.accepted"),
    "no-event": (Wanted(events=()), "asks for no event"),
    "misspelt-outcome": (Wanted(outcomes=("faild",)), "no outcome is 'faild': 'failed' is meant"),
    "misspelt-reason": (Wanted(reasons=("opted_out",)), "no reason is 'opted_out': 'opted-out' is meant"),
    "no-such-reason": (Wanted(reasons=("zzz",)), "no reason is 'zzz': see docs/reasons.md"),
    "misspelt-permanence": (Wanted(permanences=("temp",)), "no permanence is 'temp'"),
    "inbound-has-channels": (Wanted(events=("inbound.received",), channels=("sms",)), None),
    "inbound-has-no-reason": (Wanted(events=("inbound.received",), reasons=("opted-out",)), "has no reason to filter"),
    "quarantine-has-nothing": (Wanted(events=("quarantine.*",), channels=("sms",)), "has no channel to filter by"),
}


@pytest.mark.parametrize(("wanted", "said"), ASKED.values(), ids=ASKED)
def test_who_asks_for_what_cannot_come_is_told(wanted, said):
    if said is None:
        assert check_wanted(wanted) == wanted
    else:
        with pytest.raises(ValueError, match=said):
            check_wanted(wanted)


def test_channels_are_taken_in_any_letter_case():
    assert check_wanted(Wanted(channels=("SMS",))).channels == ("sms",)
