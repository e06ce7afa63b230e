"""The networks: real codes, weights that draws keep to, and what single countries are known for."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal
from statistics import median

import pytest

from landed.domain import networks as domain
from landed.domain.receipt import Api
from landed.simulator.dice import Dice
from landed.simulator.fates import CARDS, FATES
from landed.simulator.networks import (
    CHANNELS,
    ELSEWHERE,
    MOBILE,
    NETWORKS,
    PRICES,
    USA,
    Networks,
    Sender,
    price_of,
    recipient_in,
    sender_kind,
)
from landed.simulator.simulator import Send

DRAWS = 10_000
DEVIATIONS = 3
COUNTRIES = sorted({network.country for network in NETWORKS})
BY_CODE = {network.code: network for network in NETWORKS}
LONG_CODE, TOLL_FREE, SHORT_CODE = "14155550100", "18885550100", "28777"


@pytest.fixture
def networks():
    return Networks(Dice(1))


def drawn(networks, network, sender="ACME"):
    """How often each fate came in so many draws."""
    return Counter(networks.fate_of(network, sender, "447400000000", f"message-{number}") for number in range(DRAWS))


def keeps_to(counted, weights):
    """Whether each count is as near to its weight as chance lets it be."""
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    far = {
        name: counted[name]
        for name, share in shares.items()
        if abs(counted[name] - DRAWS * share) > DEVIATIONS * math.sqrt(DRAWS * share * (1 - share))
    }
    return not far and set(counted) <= set(weights)


def test_there_are_many_networks_in_many_countries():
    assert len(BY_CODE) == len(NETWORKS) >= 30
    assert len(COUNTRIES) >= 15


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.code)
def test_a_network_is_a_real_one_of_its_country(network):
    known = domain.network_of(network.code)
    assert known.country == network.country
    assert known.operator
    assert network.latency_seconds > 0
    assert 0 <= network.duplicates < 1
    assert 0 <= network.disorder < 1


@pytest.mark.parametrize("country", COUNTRIES)
def test_the_shares_of_a_country_are_all_of_it(country):
    assert sum(network.share for network in NETWORKS if network.country == country) == pytest.approx(1)


WEIGHTS = {network.code: network.fates for network in (*NETWORKS, ELSEWHERE)} | {
    str(name): weights for name, weights in [*USA.items(), *((name, each.fates) for name, each in CHANNELS.items())]
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_every_fate_that_a_network_has_is_one(weights):
    assert set(weights) <= set(FATES)
    assert min(weights.values()) > 0


@pytest.mark.parametrize("code", ["23410", "40445", "51502"])
def test_draws_of_a_network_keep_to_its_weights(networks, code):
    assert keeps_to(drawn(networks, BY_CODE[code]), BY_CODE[code].fates)


@pytest.mark.parametrize("country", ["GB", "FR", "BR"])
def test_numbers_of_a_country_are_on_its_networks_by_their_shares(networks, country):
    counted = Counter(networks.network_of(recipient_in(country, Dice(1), n)).code for n in range(DRAWS))
    assert keeps_to(counted, {network.code: network.share for network in NETWORKS if network.country == country})


@pytest.mark.parametrize("country", MOBILE)
def test_a_made_up_number_is_one_of_its_country(country):
    numbers = [recipient_in(country, Dice(seed), seed) for seed in range(20)]
    assert {domain.country_of_number(number) for number in numbers} == {country}
    assert len({len(number) for number in numbers}) == 1


def test_every_country_has_numbers_and_a_price():
    assert set(COUNTRIES) == set(MOBILE) == set(PRICES) - {""}


def test_a_number_is_always_on_one_network_under_one_seed(networks):
    numbers = [recipient_in("GB", Dice(1), number) for number in range(200)]
    first = [networks.network_of(number).code for number in numbers]
    assert [Networks(Dice(1)).network_of(number).code for number in reversed(numbers)] == first[::-1]
    assert [Networks(Dice(2)).network_of(number).code for number in numbers] != first


@pytest.mark.parametrize("recipient", ["3725123456", "8801712345678", "ACME", ""])
def test_what_is_in_no_country_of_the_table_is_on_nobody_s_network(networks, recipient):
    assert networks.network_of(recipient) == ELSEWHERE


def test_a_well_known_number_has_its_fate_on_any_network(networks):
    for number, fate in CARDS.items():
        assert {networks.fate_of(network, "ACME", number, "1") for network in NETWORKS} == {fate}


@pytest.mark.parametrize(
    ("sender", "kind"),
    [
        (LONG_CODE, Sender.LONG_CODE),
        ("ACME", Sender.LONG_CODE),
        ("447700900999", Sender.LONG_CODE),
        (TOLL_FREE, Sender.TOLL_FREE),
        ("18005550100", Sender.TOLL_FREE),
        ("18085550100", Sender.LONG_CODE),
        (SHORT_CODE, Sender.SHORT_CODE),
        ("287771", Sender.SHORT_CODE),
        ("2877", Sender.LONG_CODE),
    ],
)
def test_a_sender_of_the_usa_is_known_by_its_digits(sender, kind):
    assert sender_kind(sender) is kind


@pytest.mark.parametrize("sender", [LONG_CODE, TOLL_FREE, SHORT_CODE])
@pytest.mark.parametrize("code", ["310260", "310410", "311480"])
def test_in_the_usa_the_sender_says_what_becomes_of_a_message(networks, code, sender):
    assert keeps_to(drawn(networks, BY_CODE[code], sender), USA[sender_kind(sender)])


def test_elsewhere_the_sender_says_nothing(networks):
    counts = [drawn(networks, BY_CODE["23410"], sender) for sender in (LONG_CODE, TOLL_FREE, SHORT_CODE)]
    assert counts[0] == counts[1] == counts[2]


def test_a_long_code_of_the_usa_ends_at_accepted(networks):
    counted = drawn(networks, BY_CODE["310260"], LONG_CODE)
    assert "delivered" not in counted
    assert counted["carrier"] + counted["carrier-lost"] > 0.95 * DRAWS


def test_a_short_code_of_the_usa_expires_where_nothing_comes_and_a_toll_free_number_is_told_of_handsets(networks):
    short, toll_free = (drawn(networks, BY_CODE["310260"], sender) for sender in (SHORT_CODE, TOLL_FREE))
    assert short["silent"] > 0.04 * DRAWS
    assert toll_free["delivered"] > 0.9 * DRAWS


def test_in_the_philippines_receipts_are_false_or_missing(networks):
    for network in (network for network in NETWORKS if network.country == "PH"):
        counted = drawn(networks, network)
        assert counted["false"] > 0.1 * DRAWS
        assert counted["silent"] + counted["lost"] > 0.4 * DRAWS


def test_in_the_philippines_much_ends_as_expired_whether_or_not_it_arrived(simulation):
    async def play(simulator, _receiver):
        for number in range(100):
            recipient = recipient_in("PH", simulator.dice, number)
            simulator.take(Send(api=Api.SMS, to=recipient, sender="ACME", text="Hello"))
        await simulator.clock.settle()
        return Counter(
            (message.said[-1].provider_status, message.arrived_at is not None)
            for message in simulator.messages.values()
        )

    ended = simulation(play)
    assert min(ended["expired", True], ended["expired", False], ended["delivered", False]) > 0


@pytest.mark.parametrize("code", ["26201", "23420", "62130"])
def test_half_of_a_network_s_messages_take_its_latency_or_less(simulation, code):
    async def play(simulator, _receiver):
        country = BY_CODE[code].country
        sends = (
            Send(api=Api.SMS, to=recipient_in(country, simulator.dice, number), sender="ACME", text="Hello")
            for number in range(6_000)
        )
        planned = (simulator.plan(send)[0] for send in sends if simulator.networks.network_of(send.to).code == code)
        return [message.plan.arrived_seconds for message in planned if message.fate == "delivered"]

    network, took = BY_CODE[code], simulation(play)
    # How far the median of so many strays: the root of a half of pi, times the spread, over the root of their number.
    deviation = network.latency_seconds * network.spread * math.sqrt(math.pi / 2) / math.sqrt(len(took))
    assert len(took) > 700
    assert median(took) == pytest.approx(network.latency_seconds, abs=DEVIATIONS * deviation)
    assert min(took) > 0


@pytest.mark.parametrize(
    ("country", "price"), [("GB", "0.0333"), ("US", "0.0073"), ("PH", "0.0890"), ("EE", "0.0500"), ("", "0.0500")]
)
def test_a_country_has_a_price_and_any_other_one_costs_the_same(country, price):
    assert price_of(country) == Decimal(price)


@pytest.mark.parametrize(
    ("channel", "to", "price"),
    [
        ("sms", "447400123456", "0.0666"),
        ("sms", "12125550100", "0.0146"),
        ("sms", "3725123456", "0.1000"),
        ("mms", "12125550100", "0.0073"),
        ("whatsapp", "447400123456", "0"),
        ("viber_service", "447400123456", "0.0500"),
    ],
)
def test_a_message_costs_what_each_of_its_segments_does(simulation, channel, to, price):
    async def play(simulator, _receiver):
        (message,) = simulator.plan(Send(api=Api.MESSAGES, channel=channel, to=to, sender="ACME", text="x" * 161))
        return message.price

    assert simulation(play) == Decimal(price)
