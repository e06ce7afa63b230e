"""Sums over messages: how many of a kind there are, how long they took, what they cost.

A message lies in one *cell*, by what it is and when it was first seen, and a rollup is the number of messages in each
cell. Latency and price are parts of the cell, so that histograms and costs are sums of counts: exact, in any order, and
what was counted can be taken back. A message that changes leaves its old cell and is counted in the new one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from math import sqrt

import msgspec

from landed.domain.brief import KINDS_REMEMBERED_MAX, Kind
from landed.domain.lifecycle import EXACT, Message
from landed.domain.moments import microseconds
from landed.domain.networks import country_of, network_of, numbers_version, table_version
from landed.domain.numbers import phone_number
from landed.domain.reasons import reason_of, reasons_version
from landed.domain.receipt import OUTCOMES, Api, Outcome, Receipt, Status

HOUR_US = 3_600_000_000
HOURS_A_DAY = 24

# Log-spaced: four buckets to each doubling, from a millisecond to twelve days. A bucket is named by its upper bound's
# place here; what took longer than all bounds is in the one behind them.
BUCKETS_A_DOUBLING = 4
DOUBLINGS = 30
LATENCY_BOUNDS_MS: Sequence[int] = tuple(
    sorted({round(2 ** (step / BUCKETS_A_DOUBLING)) for step in range(DOUBLINGS * BUCKETS_A_DOUBLING + 1)})
)
NO_LATENCY = -1

# Of what others wrote no more than that tells cells apart.
TEXT_CHARACTERS_MAX = 64
REASONS_REMEMBERED_MAX = 4_096

# Hour since 1970, account, channel, network, country, sender, outcome, reason, latency's bucket, price, currency.
# A text that is absent is empty; the country is there only where the network does not tell it.
Cell = tuple[int, str, str, str, str, str, str, str, int, str, str]
CELL_FIELDS = (
    "hour",
    "account",
    "channel",
    "network",
    "country",
    "sender",
    "outcome",
    "reason",
    "latency",
    "price",
    "currency",
)

# Two-sided, for 95 %.
Z = 1.959964


def cells_version() -> str:
    """By what cells are told apart; where it changes, all messages are counted again."""
    return f"2 {reasons_version()} {table_version()} {numbers_version()}"


def cell_of(message: Message) -> Cell:
    """Where a message is counted."""
    seen_us, latency = microseconds(message.seen_at), bucket_of(message.latency_ms)
    return _cell(seen_us // HOUR_US, message.account, message, message.to, latency)


def cell_of_first(account: str, receipt: Receipt, received_us: int) -> Cell:
    """Where a message is counted of which there is this one receipt."""
    return _cell(received_us // HOUR_US, account, receipt, receipt.to, NO_LATENCY)


def cells_of_firsts(firsts: Iterable[tuple[int, Kind, str | None]]) -> Counter[Cell]:
    """Where messages are counted of which there is one receipt each: when it was received, its kind, and to whom.

    Of most there are many alike, so a cell is made for all of them and not for each message.
    """
    cells: Counter[Cell] = Counter()
    alike = [(received_us // HOUR_US, kind, None if _is_of_country(kind) else to) for received_us, kind, to in firsts]
    for (hour, kind, to), count in Counter(alike).items():
        cells[_cell(hour, kind.account, kind, to, NO_LATENCY)] += count
    return cells


def _cell(hour: int, account: str, told: Message | Receipt | Kind, to: str | None, latency: int) -> Cell:
    status, word, code = (
        told.status,
        told.provider_status[:TEXT_CHARACTERS_MAX],
        (told.code or "")[:TEXT_CHARACTERS_MAX],
    )
    outcome = OUTCOMES[status]
    return (
        hour,
        account,
        (told.channel or "")[:TEXT_CHARACTERS_MAX],
        (told.network or "")[:TEXT_CHARACTERS_MAX],
        "" if _tells_country(told.network) else country_of(None, phone_number(told.channel, to)) or "",
        (told.sender or "")[:TEXT_CHARACTERS_MAX],
        outcome,
        _slug(told.api, status, outcome, word, code),
        latency,
        price_text(told.price),
        (told.currency or "")[:TEXT_CHARACTERS_MAX],
    )


@lru_cache(REASONS_REMEMBERED_MAX)
def _slug(api: Api, status: Status, outcome: Outcome, provider_status: str, code: str) -> str:
    reason = reason_of(api, status, outcome, provider_status, code)
    return "" if reason is None else reason.slug


def bucket_of(latency_ms: int | None) -> int:
    """The bucket of a latency."""
    return NO_LATENCY if latency_ms is None else bisect_right(LATENCY_BOUNDS_MS, max(latency_ms, 0))


def price_text(price: Decimal | None) -> str:
    """A price as it is kept, exactly; empty where there is none."""
    if price is None:
        return ""
    # At a third of the cost of `format`, which seldom says anything else.
    text = str(price)
    return format(price, "f") if "E" in text else text


@lru_cache(KINDS_REMEMBERED_MAX)
def _is_of_country(kind: Kind) -> bool:
    """Whether the country of a message is told by its network, so that its recipient need not."""
    return _tells_country(kind.network)


def _tells_country(network: str | None) -> bool:
    return network is not None and network_of(network).country is not None


class Summary(msgspec.Struct):
    """What the cells of one row of a report come to; latencies of what was delivered, cost by outcome and currency."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    latencies: Counter[int] = msgspec.field(default_factory=Counter)
    cost: dict[tuple[str, str], Decimal] = msgspec.field(default_factory=dict)

    def add(self, outcome: str, latency: int, price: str, currency: str, count: int) -> None:
        """Count so many messages that are alike."""
        self.counts[outcome] += count
        if latency != NO_LATENCY and outcome == Outcome.DELIVERED:
            self.latencies[latency] += count
        if price:
            self._pay((outcome, currency), EXACT.multiply(Decimal(price), Decimal(count)))

    def join(self, other: Summary) -> None:
        """Count what another one has."""
        self.counts.update(other.counts)
        self.latencies.update(other.latencies)
        for key, cost in other.cost.items():
            self._pay(key, cost)

    def _pay(self, key: tuple[str, str], cost: Decimal) -> None:
        self.cost[key] = EXACT.add(self.cost.get(key, Decimal(0)), cost)

    @property
    def total(self) -> int:
        """All messages."""
        return self.counts.total()

    @property
    def decided(self) -> int:
        """Messages with a final outcome."""
        return self.total - self.counts[Outcome.PENDING]

    @property
    def share(self) -> float | None:
        """Which part of the decided ones was delivered; None before there are any."""
        return self.counts[Outcome.DELIVERED] / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Between what the true share lies, in 95 of 100 cases."""
        return wilson(self.counts[Outcome.DELIVERED], self.decided) if self.decided else None

    def percentile_ms(self, part: float) -> int | None:
        """The latency that so large a part of the messages did not exceed, to a bucket's width; None before any."""
        return percentile_ms(self.latencies, part)

    def costs(self) -> dict[str, Decimal]:
        """The cost of all, by currency."""
        costs: dict[str, Decimal] = {}
        for (_, currency), cost in sorted(self.cost.items()):
            costs[currency] = EXACT.add(costs.get(currency, Decimal(0)), cost)
        return costs


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The score interval of a share, which holds for small counts and shares near 0 and 1, too.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    share, square = successes / count, Z * Z
    middle = share + square / (2 * count)
    reach = Z * sqrt(share * (1 - share) / count + square / (4 * count * count))
    scale = 1 + square / count
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def percentile_ms(latencies: Mapping[int, int], part: float) -> int | None:
    """From a histogram: in the bucket where that part is reached, as if all in it lay evenly."""
    total = sum(latencies.values())
    if not total:
        return None
    wanted, below = part * total, 0
    for bucket in sorted(latencies):
        if below + latencies[bucket] >= wanted:
            within = (wanted - below) / latencies[bucket]
            low = LATENCY_BOUNDS_MS[bucket - 1] if bucket else 0
            high = LATENCY_BOUNDS_MS[min(bucket, len(LATENCY_BOUNDS_MS) - 1)]
            return round(low + (high - low) * within)
        below += latencies[bucket]
    return None


def days_of(cells: Mapping[Cell, int]) -> Counter[Cell]:
    """The same counts by days, in cells whose hour is the day's first."""
    days: Counter[Cell] = Counter()
    for cell, count in cells.items():
        days[(cell[0] // HOURS_A_DAY * HOURS_A_DAY, *cell[1:])] += count
    return days


def counted(messages: Iterable[Message]) -> Counter[Cell]:
    """The rollup of these messages."""
    return Counter(map(cell_of, messages))
