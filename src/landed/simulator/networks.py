"""How the simulated networks behave: how soon, how often, and how truthfully they report.

Codes are real ones, so that what receives them shows real names. The figures are made up for tests, and say nothing
of the operators. What countries are known for follows Vonage: long codes of the USA end at `accepted`, and its short
codes expire where a carrier keeps silent; in the Philippines receipts are false or missing, and end as `expired`.
https://api.support.vonage.com/hc/en-us/articles/204014863
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from landed.domain.networks import country_of_number
from landed.simulator.dice import Dice
from landed.simulator.fates import CARDS

Weights = Mapping[str, float]

# What becomes of messages, by kind of network; fates from `landed.simulator.fates`, by weight.
HONEST: Weights = {
    "delivered": 955,
    "buffered": 12,
    "absent-subscriber-temporary": 12,
    "absent-subscriber-permanent": 8,
    "switched-off": 5,
    "blocked-by-carrier": 3,
    "handset-busy": 2,
    "unknown": 1,
    "late": 1,
    "conflict": 1,
}
HASTY: Weights = {
    "delivered": 920,
    "false": 40,
    "absent-subscriber-permanent": 15,
    "destination-unreachable": 10,
    "silent": 10,
    "lost": 5,
}
FILTERED: Weights = {
    "delivered": 900,
    "content-filter": 30,
    "entity-filter": 20,
    "header-filter": 15,
    "consent-filter": 5,
    "absent-subscriber-temporary": 20,
    "buffered": 10,
}
CROWDED: Weights = {
    "delivered": 820,
    "absent-subscriber-temporary": 60,
    "switched-off": 30,
    "buffered": 30,
    "network-error": 20,
    "recipient-out-of-credit": 10,
    "late": 10,
    "late-segment": 10,
    "lost-segment": 5,
    "denied": 5,
}
FAKE: Weights = {"delivered": 350, "silent": 350, "false": 150, "lost": 100, "absent-subscriber-permanent": 50}
LONG_CODE: Weights = {"carrier": 950, "carrier-lost": 25, "anti-spam-rejection": 15, "unroutable": 10}
SHORT_CODE: Weights = {"delivered": 900, "silent": 60, "lost": 15, "blocked-by-carrier": 25}
TOLL_FREE: Weights = {"delivered": 940, "carrier": 30, "unroutable": 10, "anti-spam-rejection": 20}


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network: `share` of its country's numbers, the latency's median and spread, and what it does to messages.

    `duplicates` and `disorder` are the shares of messages whose receipts come twice, or in the wrong order.
    """

    code: str
    country: str
    share: float
    latency_seconds: float
    spread: float
    fates: Weights
    duplicates: float = 0.0
    disorder: float = 0.0


def _network(  # noqa: PLR0913, PLR0917 - the columns of the table below
    code: str,
    country: str,
    share: float,
    latency_seconds: float,
    spread: float,
    fates: Weights,
    duplicates: float = 0.0,
    disorder: float = 0.0,
) -> Network:
    return Network(
        code=code,
        country=country,
        share=share,
        latency_seconds=latency_seconds,
        spread=spread,
        fates=fates,
        duplicates=duplicates,
        disorder=disorder,
    )


# Code, country, share of its numbers, latency's median in seconds and spread, fates, duplicates, disorder.
NETWORKS: Sequence[Network] = (
    _network("23410", "GB", 0.30, 2.5, 0.5, HONEST),
    _network("23415", "GB", 0.25, 3.0, 0.5, HONEST),
    _network("23430", "GB", 0.30, 2.8, 0.6, HONEST, 0.01),
    _network("23420", "GB", 0.15, 3.5, 0.7, HONEST),
    _network("26201", "DE", 0.40, 2.2, 0.4, HONEST),
    _network("26202", "DE", 0.30, 2.6, 0.5, HONEST),
    _network("26203", "DE", 0.30, 3.8, 0.8, HONEST, 0.02),
    _network("20801", "FR", 0.40, 3.0, 0.5, HONEST),
    _network("20810", "FR", 0.25, 3.4, 0.6, HONEST),
    _network("20820", "FR", 0.20, 3.2, 0.6, HONEST, 0.0, 0.02),
    _network("20815", "FR", 0.15, 4.5, 0.9, HASTY),
    _network("21407", "ES", 0.40, 3.0, 0.5, HONEST),
    _network("21401", "ES", 0.30, 3.3, 0.6, HONEST),
    _network("21403", "ES", 0.30, 3.6, 0.6, HONEST),
    _network("22201", "IT", 0.40, 3.5, 0.6, HONEST),
    _network("22210", "IT", 0.30, 3.1, 0.6, HONEST),
    _network("22288", "IT", 0.30, 5.0, 1.0, HONEST, 0.01, 0.01),
    _network("42501", "IL", 0.30, 4.0, 0.7, HONEST),
    _network("42502", "IL", 0.30, 4.2, 0.7, HONEST),
    _network("42503", "IL", 0.20, 4.4, 0.7, HASTY),
    _network("42507", "IL", 0.20, 5.5, 0.8, HONEST),
    _network("310260", "US", 0.35, 1.5, 0.4, LONG_CODE),
    _network("310410", "US", 0.35, 1.6, 0.4, LONG_CODE),
    _network("311480", "US", 0.30, 1.7, 0.4, LONG_CODE),
    _network("302720", "CA", 0.40, 2.0, 0.5, HASTY),
    _network("302610", "CA", 0.30, 2.1, 0.5, HASTY),
    _network("302220", "CA", 0.30, 2.0, 0.5, HONEST),
    _network("334020", "MX", 0.60, 4.0, 0.9, CROWDED, 0.02),
    _network("334050", "MX", 0.40, 4.5, 0.9, CROWDED),
    _network("72406", "BR", 0.40, 4.0, 1.0, CROWDED, 0.03),
    _network("72405", "BR", 0.35, 4.5, 1.0, HASTY),
    _network("72403", "BR", 0.25, 5.0, 1.1, CROWDED, 0.0, 0.05),
    _network("40445", "IN", 0.45, 6.0, 1.0, FILTERED, 0.02),
    _network("405857", "IN", 0.55, 5.0, 1.0, FILTERED),
    _network("62130", "NG", 0.50, 8.0, 1.2, CROWDED, 0.05, 0.03),
    _network("62120", "NG", 0.30, 9.0, 1.2, CROWDED, 0.02, 0.05),
    _network("62150", "NG", 0.20, 12.0, 1.4, HASTY),
    _network("63902", "KE", 0.70, 5.0, 0.8, CROWDED),
    _network("63903", "KE", 0.30, 7.0, 1.0, CROWDED, 0.02),
    _network("65501", "ZA", 0.50, 4.0, 0.8, HONEST),
    _network("65510", "ZA", 0.30, 4.5, 0.8, CROWDED),
    _network("65507", "ZA", 0.20, 5.0, 0.9, HASTY),
    _network("51010", "ID", 0.60, 7.0, 1.1, CROWDED, 0.03, 0.02),
    _network("51011", "ID", 0.40, 8.0, 1.1, HASTY),
    _network("51502", "PH", 0.50, 6.0, 1.0, FAKE),
    _network("51503", "PH", 0.50, 6.5, 1.0, FAKE),
    _network("50501", "AU", 0.50, 2.0, 0.4, HONEST),
    _network("50502", "AU", 0.30, 2.3, 0.5, HONEST),
    _network("50503", "AU", 0.20, 2.5, 0.5, HONEST),
    _network("28601", "TR", 0.50, 4.0, 0.8, HONEST),
    _network("28602", "TR", 0.50, 4.4, 0.8, CROWDED),
)

# Numbers of a country that is not in the table go to a network that is nobody's.
ELSEWHERE = _network("99999", "", 1.0, 4.0, 0.8, HONEST)

# Where mobile numbers of a country begin, and how many digits follow.
MOBILE: Mapping[str, tuple[str, int]] = {
    "GB": ("447400", 6), "DE": ("49151", 8), "FR": ("336", 8), "ES": ("346", 8), "IT": ("3934", 8),
    "IL": ("97252", 7), "US": ("1212555", 4), "CA": ("1416555", 4), "MX": ("5255", 8), "BR": ("55119", 8),
    "IN": ("919", 9), "NG": ("234803", 7), "KE": ("25472", 7), "ZA": ("2782", 7), "ID": ("62812", 8),
    "PH": ("63917", 7), "AU": ("614", 8), "TR": ("90532", 7),
}  # fmt: skip

# What the other channels do, whichever country: there the network is the application.
_APP: Weights = {"read": 700, "delivered": 240, "not-a-user": 30, "silent": 20, "undeliverable": 5, "provider-error": 5}
CHANNELS: Mapping[str, Network] = {
    "whatsapp": _network("", "", 1.0, 1.2, 0.6, {**_APP, "outside-window": 10, "limited-by-provider": 5}),
    "messenger": _network("", "", 1.0, 1.0, 0.6, {**_APP, "outside-window": 10}),
    "viber_service": _network("", "", 1.0, 1.5, 0.6, _APP),
    "rcs": _network("", "", 1.0, 1.5, 0.6, _APP),
}
# Whose receipts name the recipient's network.
WITH_NETWORK = frozenset({"sms", "mms", "rcs"})

# What one segment costs, in EUR; elsewhere the last.
PRICES: Mapping[str, Decimal] = {
    country: Decimal(price)
    for country, price in {
        "GB": "0.0333", "DE": "0.0745", "FR": "0.0648", "ES": "0.0520", "IT": "0.0610", "IL": "0.0930",
        "US": "0.0073", "CA": "0.0067", "MX": "0.0247", "BR": "0.0400", "IN": "0.0389", "NG": "0.1260",
        "KE": "0.0720", "ZA": "0.0180", "ID": "0.2400", "PH": "0.0890", "AU": "0.0370", "TR": "0.0340",
        "": "0.0500",
    }.items()
}  # fmt: skip


class Sender(StrEnum):
    """What a sender of the USA is."""

    LONG_CODE = "long code"
    TOLL_FREE = "toll-free number"
    SHORT_CODE = "short code"


# https://api.support.vonage.com/hc/en-us/articles/204014863
USA: Mapping[Sender, Weights] = {
    Sender.LONG_CODE: LONG_CODE,
    Sender.TOLL_FREE: TOLL_FREE,
    Sender.SHORT_CODE: SHORT_CODE,
}
TOLL_FREE_NUMBER = re.compile(r"1(?:800|833|844|855|866|877|888)\d{7}")
SHORT_CODE_NUMBER = re.compile(r"\d{5,6}")


class Networks:
    """The networks of one simulation; `changed` ones stand in the place of those in the table."""

    def __init__(self, dice: Dice, changed: Sequence[Network] = ()) -> None:
        self._dice = dice
        self._by_code = {network.code: network for network in (*NETWORKS, ELSEWHERE, *changed)}
        self._shares: dict[str, dict[str, float]] = {}
        for network in self._by_code.values():
            self._shares.setdefault(network.country, {})[network.code] = network.share

    def __iter__(self) -> Iterator[Network]:
        return iter(self._by_code.values())

    def network_of(self, recipient: str) -> Network:
        """The mobile network of a recipient: always the same for one number and seed."""
        country = country_of_number(recipient) or ""
        code = self._dice.pick(self._shares.get(country, {ELSEWHERE.code: 1.0}), "network", recipient)
        return self._by_code[code]

    def fate_of(self, network: Network, sender: str, recipient: str, message_id: str) -> str:
        """What becomes of a message: what its recipient forces, or else one of its network's fates."""
        if recipient in CARDS:
            return CARDS[recipient]
        # Of the USA, one whose fates nobody changed.
        weights = USA[sender_kind(sender)] if network.fates == LONG_CODE else network.fates
        return self._dice.pick(weights, "fate", message_id)


def recipient_in(country: str, dice: Dice, *what: object) -> str:
    """A mobile number of a country."""
    prefix, digits = MOBILE[country]
    return f"{prefix}{int(dice.share('recipient', country, *what) * 10**digits):0{digits}}"


def sender_kind(sender: str) -> Sender:
    """What a sender is in the USA; names are no numbers there, and go out from a long code."""
    if TOLL_FREE_NUMBER.fullmatch(sender):
        return Sender.TOLL_FREE
    return Sender.SHORT_CODE if SHORT_CODE_NUMBER.fullmatch(sender) else Sender.LONG_CODE


def price_of(country: str) -> Decimal:
    """What one segment to a country costs, in EUR."""
    return PRICES.get(country, PRICES[""])
