"""Cells, histograms, shares."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from landed.domain.lifecycle import Fact, message_of, receipt_key
from landed.domain.receipt import Api, Receipt, Status
from landed.domain.rollups import (
    LATENCY_BOUNDS_MS,
    NO_LATENCY,
    Summary,
    bucket_of,
    cell_of,
    days_of,
    percentile_ms,
    wilson,
)

NOON = datetime(2026, 8, 1, 12, 30, tzinfo=UTC)


def message(**fields):
    about = {"api": Api.SMS, "message_id": "m", "channel": "sms", "status": Status.FAILED, "provider_status": "failed"}
    receipt = Receipt(**(about | {"to": "447700900001", "sender": "ACME", "network": "23410", "code": "6"} | fields))
    fact = Fact(receipt=receipt, key=receipt_key("default", receipt), received_at=NOON)
    return message_of("default", [fact])


def test_a_message_is_counted_by_what_it_is_and_when_it_was_seen():
    cell = cell_of(message(price=Decimal("0.03330000"), currency="EUR"))
    hour = int(NOON.timestamp()) // 3_600

    assert cell == (
        hour,
        "default",
        "sms",
        "23410",
        "",
        "ACME",
        "failed",
        "anti-spam-rejection",
        NO_LATENCY,
        "0.03330000",
        "EUR",
    )
    assert days_of({cell: 2, (hour + 1, *cell[1:]): 3}) == {(hour // 24 * 24, *cell[1:]): 5}


def test_the_country_is_counted_where_no_network_tells_it():
    assert cell_of(message(network=None))[4] == "GB"
    assert cell_of(message(network="12345"))[4] == "GB"
    assert cell_of(message(network=None, to=None))[4] == ""


def test_what_others_wrote_at_length_takes_little_room():
    long = "x" * 100_000
    cell = cell_of(message(channel=long, network=long, sender=long, currency=long, to=long, code=long))

    assert sum(len(each) for each in cell if isinstance(each, str)) < 500
    assert cell == cell_of(message(channel=long, network=long, sender=long + "y", currency=long, to=long, code=long))


@given(st.integers(-10, 2**33))
def test_a_latency_lies_within_its_bucket(latency_ms):
    bucket = bucket_of(latency_ms)

    assert bucket == 0 or LATENCY_BOUNDS_MS[bucket - 1] <= latency_ms
    assert bucket == len(LATENCY_BOUNDS_MS) or latency_ms < LATENCY_BOUNDS_MS[bucket]


@pytest.mark.parametrize("part", [0.5, 0.95, 0.99])
def test_a_percentile_is_right_to_a_fifth(part):
    chance = random.Random(7)  # noqa: S311 - a curve, not a secret
    times = sorted(int(chance.lognormvariate(8, 1.5)) for _ in range(5_000))
    latencies = {}
    for time in times:
        latencies[bucket_of(time)] = latencies.get(bucket_of(time), 0) + 1

    assert percentile_ms(latencies, part) == pytest.approx(times[int(part * len(times)) - 1], rel=0.2)
    assert percentile_ms({}, part) is None


@given(st.lists(st.integers(0, 10**9), min_size=1), st.lists(st.integers(0, 10**9)))
def test_histograms_merge(one, other):
    def summary(times):
        summed = Summary()
        for time in times:
            summed.add("delivered", bucket_of(time), "", "", 1)
        return summed

    both, first = summary(one + other), summary(one)
    first.latencies.update(summary(other).latencies)

    assert first.latencies == both.latencies
    assert both.percentile_ms(0.0) <= both.percentile_ms(0.5) <= both.percentile_ms(1.0)


# From the literature: Newcombe, Statistics in Medicine 17 (1998), table I.
@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share(successes, count, low, high):
    assert wilson(successes, count) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_a_row_of_a_report():
    summary = Summary()
    summary.add("delivered", 40, "0.0333", "EUR", 3)
    summary.add("failed", NO_LATENCY, "0.01", "EUR", 1)
    summary.add("pending", NO_LATENCY, "", "", 4)
    summary.add("delivered", 44, "0.1", "", 1)

    assert (summary.total, summary.decided, summary.share) == (9, 5, 0.8)
    assert summary.cost == {
        ("delivered", "EUR"): Decimal("0.0999"),
        ("failed", "EUR"): Decimal("0.01"),
        ("delivered", ""): Decimal("0.1"),
    }
    assert summary.costs() == {"": Decimal("0.1"), "EUR": Decimal("0.1099")}
    assert Summary().share is None
    assert Summary().interval is None


def test_an_id_is_no_number():
    assert cell_of(message(network=None, channel="messenger"))[4] == ""


def test_costs_are_never_rounded():
    summary = Summary()
    summary.add("delivered", 1, "0.00000001", "EUR", 1)
    summary.add("delivered", 1, "12345678901234567890123456789.1", "EUR", 3)

    whole = Summary()
    for _ in range(3):
        whole.join(summary)

    assert summary.costs() == {"EUR": Decimal("37037036703703703670370370367.30000001")}
    assert whole.costs() == {"EUR": Decimal("111111110111111111011111111101.90000003")}


def test_a_latency_is_counted_where_it_is_known():
    told = replace(message(), sent_at=NOON - timedelta(seconds=2), final_at=NOON)

    assert cell_of(told)[8] == bucket_of(2_000)
