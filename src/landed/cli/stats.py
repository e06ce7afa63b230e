"""What `stats` prints: how many messages arrived, how soon, and what they cost, by network, country and more."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import typer

from landed.cli.printing import Column, Look, Style, clock, duration, encode_line, print_table
from landed.domain.moments import EPOCH
from landed.domain.networks import country_name, country_of, network_of
from landed.domain.receipt import Outcome
from landed.domain.rollups import Summary
from landed.store import Period
from landed.store.sqlite import SqliteReader

HOUR = timedelta(hours=1)
LAST_HOUR = (datetime.max.replace(tzinfo=UTC) - EPOCH) // HOUR
HOUR_FORM = "%Y-%m-%dT%H:%M:%SZ"
BAR_WIDTH = 12
BAR, BAR_ASCII = ("█", "░"), ("#", "-")
GOOD, POOR = 0.95, 0.8
PERCENTS = (50, 95, 99)
NOT_KNOWN = "(not known)"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a report: what it is called, for people and for programs, and what its messages come to."""

    value: str
    name: str
    summary: Summary
    previous: Summary | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of a period, and their sum; `previous` when it is compared with as long a period before it."""

    by: str
    since: datetime
    until: datetime
    rows: Sequence[Row]
    total: Row


def report(reader: SqliteReader, by: str, period: Period, *, compares: bool) -> Report:
    """What the store has of a period, the rows with most messages first, and hours in their order."""
    now = _named(reader.summaries(by, period), by)
    before: Mapping[str, Summary] = {}
    if compares:
        length = period.until - period.since
        earlier = msgspec.structs.replace(period, since=period.since - length, until=period.since)
        before = _named(reader.summaries(by, earlier), by)
    values = sorted({*now, *before}, key=lambda value: (value if by == "hour" else "", -_total(now, value), value))
    rows = [
        Row(
            value=value,
            name=_name(by, value),
            summary=now.get(value) or Summary(),
            previous=(before.get(value) or Summary()) if compares else None,
        )
        for value in values
    ]
    total = Row(
        value="",
        name="all",
        summary=joined(now.values()),
        previous=joined(before.values()) if compares else None,
    )
    return Report(by=by, since=at(period.since), until=at(period.until), rows=rows, total=total)


def hours_of(since: datetime | None, until: datetime | None, now: datetime, first: int) -> tuple[int, int]:
    """The whole hours from one moment to another; without them, from the first message to now."""
    from_hour = first if since is None else (since - EPOCH) // HOUR
    until_hour = -((EPOCH - (until or now)) // HOUR)
    return from_hour, min(max(from_hour, until_hour), LAST_HOUR)


def at(hour: int) -> datetime:
    """When an hour since 1970 began."""
    return EPOCH + hour * HOUR


def joined(summaries: Iterable[Summary]) -> Summary:
    """The sum of several."""
    whole = Summary()
    for summary in summaries:
        whole.join(summary)
    return whole


def print_json(told: Report) -> None:
    """One object a row, and one for all."""
    for row in (*told.rows, told.total):
        fields: dict[str, object] = {"by": told.by if row is not told.total else "all", "value": row.value or None}
        fields |= {"name": row.name, "since": told.since, "until": told.until} | _fields(row.summary)
        if row.previous is not None:
            fields |= {"previous": _fields(row.previous)}
        typer.echo(encode_line(fields))


def print_report(told: Report, look: Look, limit: int) -> None:
    """A table for people, with bars."""
    rows = told.rows[-limit:] if told.by == "hour" else told.rows[:limit]
    total = told.total.summary.total
    typer.echo(f"{total:,} messages first seen from {clock(told.since)[:-3]} to {clock(told.until)[:-3]}, by {told.by}")
    typer.echo("")
    shown = [*rows, told.total]
    print_table([*_columns(shown, told.by, look), *_compared(shown)], look, sys.stdout)
    left = len(told.rows) - len(rows)
    if left:
        typer.echo(f"… and {left:,} more: --limit {len(told.rows)} shows all.")


def _columns(rows: Sequence[Row], by: str, look: Look) -> list[Column]:
    summaries = [row.summary for row in rows]

    def counts(outcome: Outcome) -> list[str]:
        return [f"{summary.counts[outcome]:,}" if summary.counts[outcome] else "" for summary in summaries]

    def times(part: float) -> list[str]:
        return [_time(summary.percentile_ms(part)) for summary in summaries]

    names = [
        look.clean(look.mask(row.name) or "") if by in ("sender", "channel") else look.clean(row.name) for row in rows
    ]
    return [
        Column(name=by, cells=names),
        Column(name="messages", cells=[f"{summary.total:,}" for summary in summaries], is_number=True),
        Column(name="delivered", cells=counts(Outcome.DELIVERED), leaves=6, is_number=True),
        Column(name="failed", cells=counts(Outcome.FAILED), leaves=5, is_number=True),
        Column(name="unconfirmed", cells=counts(Outcome.UNCONFIRMED), leaves=7, is_number=True),
        Column(name="pending", cells=counts(Outcome.PENDING), leaves=4, is_number=True),
        Column(name="arrived", cells=[_share(summary.share) for summary in summaries], is_number=True),
        Column(
            name="", cells=[_bar(s.share, look) for s in summaries], styles=[_style(s) for s in summaries], leaves=2
        ),
        Column(name="95 % sure", cells=[_interval(summary) for summary in summaries], leaves=8),
        Column(name="p50", cells=times(0.5), leaves=1, is_number=True),
        Column(name="p95", cells=times(0.95), leaves=3, is_number=True),
        Column(name="p99", cells=times(0.99), leaves=9, is_number=True),
        Column(name="cost", cells=[_cost(summary, look) for summary in summaries], leaves=10, is_number=True),
    ]


def _compared(rows: Sequence[Row]) -> list[Column]:
    if rows[0].previous is None:
        return []
    return [
        Column(
            name="before",
            cells=[f"{row.previous.total:,}" if row.previous else "" for row in rows],
            leaves=11,
            is_number=True,
        ),
        Column(
            name="arrived before",
            cells=[_share(row.previous.share) if row.previous else "" for row in rows],
            is_number=True,
        ),
        Column(name="", cells=[_verdict(row) for row in rows]),
    ]


def _verdict(row: Row) -> str:
    """Whether the share changed by more than chance explains: the intervals do not meet."""
    now, before = row.summary.interval, None if row.previous is None else row.previous.interval
    if now is None or before is None:
        return ""
    if now[1] < before[0]:
        return "worse"
    return "better" if now[0] > before[1] else "as before"


def _named(summaries: Mapping[tuple[str, ...], Summary], by: str) -> dict[str, Summary]:
    """Summaries by one text, under which several keys may come together."""
    named: dict[str, list[Summary]] = {}
    for key, summary in summaries.items():
        value = at(int(key[0])).strftime(HOUR_FORM) if by == "hour" else str(key[0])
        if by == "country":
            value = country_of(key[0] or None, None) or key[1]
        named.setdefault(value, []).append(summary)
    return {value: joined(several) for value, several in named.items()}


def _name(by: str, value: str) -> str:
    if by == "hour":
        return clock(datetime.fromisoformat(value))[:-3]
    if by == "network" and value:
        network = network_of(value)
        place = f", {network.country}" if network.country else ""
        return f"{network.operator}{place} ({value})" if network.operator else value
    if by == "country" and value:
        return country_name(value)
    return value or ("(none needed)" if by == "reason" else NOT_KNOWN)


def _fields(summary: Summary) -> dict[str, object]:
    interval = summary.interval
    cost: dict[str, dict[str, str]] = {}
    for (outcome, currency), each in sorted(summary.cost.items()):
        cost.setdefault(currency, {})[outcome] = format(each, "f")
    return {
        "messages": summary.total,
        **{str(outcome): summary.counts[outcome] for outcome in Outcome},
        "delivered_share": summary.share,
        "delivered_share_low": None if interval is None else interval[0],
        "delivered_share_high": None if interval is None else interval[1],
        **{f"p{percent}_ms": summary.percentile_ms(percent / 100) for percent in PERCENTS},
        "cost": {currency: format(each, "f") for currency, each in summary.costs().items()},
        "cost_by_outcome": cost,
    }


def _total(summaries: Mapping[str, Summary], value: str) -> int:
    return summaries[value].total if value in summaries else 0


def _time(milliseconds: int | None) -> str:
    return "" if milliseconds is None else duration(milliseconds)


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _interval(summary: Summary) -> str:
    return "" if summary.interval is None else "{:.1%} to {:.1%}".format(*summary.interval)


def _cost(summary: Summary, look: Look) -> str:
    return ", ".join(look.price(cost, currency) for currency, cost in summary.costs().items())


def _bar(share: float | None, look: Look) -> str:
    full, empty = BAR if look.is_wide else BAR_ASCII
    if share is None:
        return ""
    filled = round(share * BAR_WIDTH)
    return full * filled + empty * (BAR_WIDTH - filled)


def _style(summary: Summary) -> Style:
    share = summary.share
    if share is None:
        return "dim"
    return "green" if share >= GOOD else "yellow" if share >= POOR else "red"


def period(  # noqa: PLR0913 - what is asked for
    reader: SqliteReader,
    *,
    since: datetime | None,
    until: datetime | None,
    account: str | None,
    channel: str | None,
    network: str | None,
) -> Period | None:
    """The period that is asked for; None before there is any message."""
    first = reader.first_hour()
    if first is None:
        return None
    from_hour, until_hour = hours_of(since, until, datetime.now(UTC), first)
    return Period(since=from_hour, until=until_hour, account=account, channel=channel, network=network)
