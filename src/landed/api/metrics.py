"""What `/metrics` shows: one table. docs/metrics.md is tested against what it comes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from landed.journal.quarantine import Totals
from landed.store import Tally
from landed.store.outbox import Backlog, Kind, SubscriberState

# What comes of an attempt at an event: failed ones are tried again, dead ones are not.
RESULTS = ("delivered", "failed", "dead")


class Buckets(msgspec.Struct, frozen=True, kw_only=True):
    """How many values were up to which bound, infinity being the last, and the sum of all."""

    upto: Sequence[tuple[float, int]] = ((math.inf, 0),)
    sum: float = 0.0


class GateFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What all gates have counted; `requests` by verdict and answer, times in seconds.

    `kept_in` counts what was kept in a journal, by its epoch, `held` what was kept in the quarantine.
    """

    processes: Mapping[str, int] = {}
    requests: Mapping[tuple[str, ...], int] = {}
    kept_in: Mapping[str, int] = {}
    held: int = 0
    batches: Buckets = Buckets()
    commits: Mapping[str, Buckets] = {}
    answers: Buckets = Buckets()
    unwritten: int = 0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the worker is. `behind` counts records that wait to be folded; `lag_seconds` is how long the first has."""

    folding: bool
    position: int
    behind: int
    lag_seconds: float


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the attempts at one subscriber since the worker began: events by result, and times in seconds."""

    results: Mapping[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    times: Buckets = Buckets()


class SubscriberFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with one who gets events; `oldest_seconds` is how old its oldest event that is open is."""

    name: str
    kind: Kind
    state: SubscriberState
    backlog: Backlog = Backlog()
    oldest_seconds: float = 0.0
    attempts: Attempts = msgspec.field(default_factory=Attempts)

    @property
    def oldest(self) -> str:
        """The same for people."""
        return str(timedelta(seconds=round(self.oldest_seconds)))


class Road(msgspec.Struct, frozen=True, kw_only=True):
    """All of the road's figures at one moment.

    `waiting` counts requests, `events` all events that were ever said; what could not be read is None.
    """

    health: Health
    epoch: str
    tally: Tally
    waiting: int = 0
    is_even: bool = True
    checked_at: datetime | None = None
    outcomes: Mapping[str, int] = {}
    quarantine: Totals | None = None
    file_bytes: Mapping[str, int] = {}
    free_bytes: int | None = None
    gates: GateFigures = msgspec.field(default_factory=GateFigures)
    events: int = 0
    subscribers: Sequence[SubscriberFigures] = ()

    @property
    def received(self) -> int:
        """Requests that came into the journal, folded or not."""
        return self.tally.received + self.waiting

    @property
    def kept(self) -> int:
        """Requests that gates say they put into this journal; never more than it received."""
        return self.gates.kept_in.get(self.epoch, 0)


Labels = tuple[str, ...]
Samples = Mapping[Labels, float | Buckets]

OF_SUBSCRIBER: Labels = ("subscriber", "kind")


class Shown(msgspec.Struct, frozen=True):
    """One metric: its name, what kind it is, its labels, its meaning, and where its values are."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    meaning: str
    samples: Callable[[Road], Samples]


METRICS: Sequence[Shown] = (
    Shown(
        "landed_gate_requests_total",
        "counter",
        ("verdict", "answer"),
        "Requests that gates answered.",
        lambda road: road.gates.requests,
    ),
    Shown(
        "landed_gate_kept_total",
        "counter",
        ("file",),
        "Requests that gates made durable, in this journal or the quarantine.",
        lambda road: {("journal",): road.kept, ("quarantine",): road.gates.held},
    ),
    Shown(
        "landed_gate_batch_requests",
        "histogram",
        (),
        "Requests that shared a commit.",
        lambda road: {(): road.gates.batches},
    ),
    Shown(
        "landed_gate_commit_seconds",
        "histogram",
        ("file",),
        "Time that a commit took, with its fsync.",
        lambda road: {(file,): buckets for file, buckets in road.gates.commits.items()},
    ),
    Shown(
        "landed_gate_answer_seconds",
        "histogram",
        (),
        "Time from a whole request to its answer, for requests that were kept.",
        lambda road: {(): road.gates.answers},
    ),
    Shown(
        "landed_gate_processes",
        "gauge",
        ("kind",),
        "Processes that take webhooks now: of `landed serve`, and mounts in applications.",
        lambda road: _by_label(road.gates.processes),
    ),
    Shown(
        "landed_gate_unwritten_total",
        "counter",
        (),
        "Times that a gate could not write down its figures, and did so later.",
        lambda road: {(): road.gates.unwritten},
    ),
    Shown(
        "landed_requests_received_total",
        "counter",
        (),
        "The ledger: requests in the journal, those that have left it included.",
        lambda road: {(): road.received},
    ),
    Shown(
        "landed_requests_total",
        "counter",
        ("result",),
        "The ledger: requests folded, by what they were.",
        lambda road: {(each,): getattr(road.tally, each) for each in ("folded", "duplicate", "unreadable")},
    ),
    Shown(
        "landed_requests_waiting",
        "gauge",
        (),
        "The ledger: requests that wait to be folded.",
        lambda road: {(): road.waiting},
    ),
    Shown(
        "landed_ledger_even",
        "gauge",
        (),
        "1 while gates, journal and store agree on how many requests there were, 0 when they do not.",
        lambda road: {(): int(road.is_even)},
    ),
    Shown(
        "landed_ledger_checked_timestamp_seconds",
        "gauge",
        (),
        "When the worker last counted the journal for the ledger, seconds since 1970.",
        lambda road: {} if road.checked_at is None else {(): road.checked_at.timestamp()},
    ),
    Shown(
        "landed_quarantine_requests",
        "gauge",
        (),
        "Requests in quarantine, each content once.",
        lambda road: _of_quarantine(road, "rows"),
    ),
    Shown(
        "landed_quarantine_copies",
        "gauge",
        (),
        "Requests in quarantine, with their repetitions.",
        lambda road: _of_quarantine(road, "copies"),
    ),
    Shown(
        "landed_quarantine_bytes",
        "gauge",
        (),
        "What counts for quarantine_bytes_max.",
        lambda road: _of_quarantine(road, "bytes"),
    ),
    Shown(
        "landed_fold_alive",
        "gauge",
        (),
        "1 while the fold goes on.",
        lambda road: {(): int(road.health.folding)},
    ),
    Shown(
        "landed_fold_position",
        "gauge",
        (),
        "Position in the journal of the last record folded.",
        lambda road: {(): road.health.position},
    ),
    Shown(
        "landed_fold_behind",
        "gauge",
        (),
        "Records of the journal that wait to be folded.",
        lambda road: {(): road.health.behind},
    ),
    Shown(
        "landed_fold_lag_seconds",
        "gauge",
        (),
        "How long the oldest record that waits has waited.",
        lambda road: {(): road.health.lag_seconds},
    ),
    Shown(
        "landed_messages",
        "gauge",
        ("outcome",),
        "Messages; with millions of them counted seldom, so that counting costs little.",
        lambda road: _by_label(road.outcomes),
    ),
    Shown(
        "landed_events_total",
        "counter",
        (),
        "Events that were said, whether anybody wants them or not.",
        lambda road: {(): road.events},
    ),
    Shown(
        "landed_subscriber_state",
        "gauge",
        (*OF_SUBSCRIBER, "state"),
        "1 for the state that a subscriber is in, 0 for the others.",
        lambda road: {
            (each.name, each.kind, state): int(each.state is state)
            for each in road.subscribers
            for state in SubscriberState
        },
    ),
    Shown(
        "landed_events_waiting",
        "gauge",
        OF_SUBSCRIBER,
        "Events that are on their way to a subscriber or are tried again.",
        lambda road: _by_subscriber(road, lambda each: each.backlog.waiting),
    ),
    Shown(
        "landed_events_unseen",
        "gauge",
        OF_SUBSCRIBER,
        "Newer events that were not looked at yet for a subscriber, whether it wants them or not.",
        lambda road: _by_subscriber(road, lambda each: each.backlog.unseen),
    ),
    Shown(
        "landed_events_dead",
        "gauge",
        OF_SUBSCRIBER,
        "Events that never arrived at a subscriber, and are kept.",
        lambda road: _by_subscriber(road, lambda each: each.backlog.dead),
    ),
    Shown(
        "landed_events_oldest_seconds",
        "gauge",
        OF_SUBSCRIBER,
        "How old a subscriber's oldest event is that waits or is unseen; 0 where there is none.",
        lambda road: _by_subscriber(road, lambda each: each.oldest_seconds),
    ),
    Shown(
        "landed_event_attempts_total",
        "counter",
        (*OF_SUBSCRIBER, "result"),
        "Attempts at events since the worker began, by what came of them.",
        lambda road: {
            (each.name, each.kind, result): count
            for each in road.subscribers
            for result, count in each.attempts.results.items()
        },
    ),
    Shown(
        "landed_event_attempt_seconds",
        "histogram",
        OF_SUBSCRIBER,
        "Time that an attempt took, to the end of the answer.",
        lambda road: _by_subscriber(road, lambda each: each.attempts.times),
    ),
    Shown(
        "landed_file_bytes",
        "gauge",
        ("file",),
        "Size of the journal, the store and the quarantine, each with its write-ahead log.",
        lambda road: _by_label(road.file_bytes),
    ),
    Shown(
        "landed_disk_free_bytes",
        "gauge",
        (),
        "Free room on the disk of the data directory.",
        lambda road: {} if road.free_bytes is None else {(): road.free_bytes},
    ),
)


class RoadCollector(Collector):
    """Reads the road's figures when it is scraped."""

    def __init__(self, look: Callable[[], Road]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing: to be registered is no reason to look."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All metrics with their values of now."""
        road = self._look()
        return [_family(shown, shown.samples(road)) for shown in METRICS]


def _family(shown: Shown, samples: Samples) -> Metric:
    if shown.kind == "histogram":
        histogram = HistogramMetricFamily(shown.name, shown.meaning, labels=shown.labels)
        for labels, buckets in samples.items():
            if isinstance(buckets, Buckets):
                upto = [("+Inf" if bound == math.inf else f"{bound:g}", count) for bound, count in buckets.upto]
                histogram.add_metric(labels, upto, buckets.sum)
        return histogram
    kind = CounterMetricFamily if shown.kind == "counter" else GaugeMetricFamily
    family = kind(shown.name.removesuffix("_total"), shown.meaning, labels=shown.labels)
    for labels, value in samples.items():
        if not isinstance(value, Buckets):
            family.add_metric(labels, value)
    return family


def _by_label(counts: Mapping[str, int]) -> Samples:
    return {(label,): count for label, count in counts.items()}


def _by_subscriber(road: Road, value: Callable[[SubscriberFigures], float | Buckets]) -> Samples:
    return {(each.name, each.kind): value(each) for each in road.subscribers}


def _of_quarantine(road: Road, field: str) -> Samples:
    return {} if road.quarantine is None else {(): getattr(road.quarantine, field)}
