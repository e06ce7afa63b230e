"""Long texts in parts: the worst part decides, in whatever order the parts come."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from landed.domain.lifecycle import OUTCOMES_WORST_FIRST, Fact, group_of, message_of, receipt_key
from landed.domain.receipt import Api, Outcome, Part, Receipt, Status

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
STATUSES = {
    Outcome.PENDING: Status.ACCEPTED,
    Outcome.DELIVERED: Status.DELIVERED,
    Outcome.FAILED: Status.FAILED,
    Outcome.UNCONFIRMED: Status.UNCONFIRMED,
}


def part(number, outcome, *, of=3, name=None, **fields):
    receipt = Receipt(
        api=Api.SMS,
        message_id=name or f"m{number}",
        channel="sms",
        status=STATUSES[outcome],
        provider_status=STATUSES[outcome],
        part=Part(group="m1", number=number, of=of),
    )
    fact = Fact(receipt=receipt, key=receipt_key("default", receipt), received_at=NOON)
    return replace(message_of("default", [fact]), **fields)


@pytest.mark.parametrize("outcomes", list(product(Outcome, repeat=3)), ids=str)
def test_the_worst_part_decides_and_order_is_nothing(outcomes):
    parts = [part(number, outcome) for number, outcome in enumerate(outcomes, 1)]
    group = group_of(parts)

    assert group.outcome is min(outcomes, key=OUTCOMES_WORST_FIRST.index)
    assert (group.outcome is Outcome.DELIVERED) == (set(outcomes) == {Outcome.DELIVERED})
    assert (group.outcome is Outcome.FAILED) == (Outcome.FAILED in outcomes)
    assert group.delivered == outcomes.count(Outcome.DELIVERED)
    assert group_of(reversed(parts)) == group
    assert group_of([*parts, *parts]) == group


@pytest.mark.parametrize("known", [(1,), (3,), (1, 3), (2, 3)])
def test_there_is_no_verdict_before_the_parts_are_known(known):
    group = group_of(part(number, Outcome.FAILED) for number in known)

    assert group.outcome is None
    assert (group.of, [each.part.number for each in group.parts]) == (3, list(known))


def test_the_price_is_the_sum_of_the_parts():
    prices = [Decimal("0.0333"), Decimal("0.0334"), None]
    parts = [
        part(number, Outcome.DELIVERED, price=price, currency=price and "EUR") for number, price in enumerate(prices, 1)
    ]

    assert (group_of(parts).price, group_of(parts).currency) == (Decimal("0.0667"), "EUR")
    mixed = [*parts[:2], replace(parts[2], price=Decimal(1), currency="USD")]
    assert (group_of(mixed).price, group_of(mixed).currency) == (None, None)
    assert group_of([part(1, Outcome.DELIVERED)]).price is None
    long = [part(number, Outcome.DELIVERED, price=Decimal("999999999999.9999999999999999")) for number in (1, 2, 3)]
    assert group_of(long).price == Decimal("2999999999999.9999999999999997")


def test_a_conflict_in_a_part_is_one_of_the_whole():
    parts = [part(number, Outcome.DELIVERED, conflict=number == 2) for number in (1, 2, 3)]

    assert group_of(parts).conflict


def test_messages_that_are_no_parts_are_no_group():
    assert group_of([]) is None
    assert group_of([replace(part(1, Outcome.DELIVERED), part=None)]) is None


@given(
    st.lists(
        st.builds(
            part,
            st.integers(1, 3),
            st.sampled_from(Outcome),
            of=st.just(3),
            name=st.sampled_from(["a", "b"]),
        ),
        unique_by=lambda each: (each.message_id, each.part.number),
    ),
    st.randoms(use_true_random=False),
)
def test_several_that_claim_one_place_are_settled_in_any_order(parts, chance):
    shuffled = list(parts)
    chance.shuffle(shuffled)

    assert group_of(shuffled) == group_of(parts)
