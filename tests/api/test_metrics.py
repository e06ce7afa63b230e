"""What `/metrics` says, and that docs/metrics.md says the same of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from landed.api.metrics import METRICS, RESULTS, GateFigures
from landed.cli.quarantine import REASONS
from landed.gate.judge import REPEATED, SPARED
from landed.gate.meter import HEALTH, STALE, UNJUDGED, UNVERIFIED, VERIFIED
from landed.store.outbox import Kind, SubscriberState

STATES = ("active", "paused", "stopped", "absent")
DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def values_of(text):
    """Each sample's value by its name and its labels in their order, as Prometheus reads them."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_figure_of_the_road_is_shown(private, road):
    odd = road.subscribers[1].name
    values = values_of(private.get("/metrics").text)
    assert values == {
        ("landed_gate_requests_total", "200", "verified"): 8,
        ("landed_gate_requests_total", "401", "wrong"): 11,
        ("landed_gate_kept_total", "journal"): 8,
        ("landed_gate_kept_total", "quarantine"): 11,
        ("landed_gate_batch_requests_bucket", "1"): 2,
        ("landed_gate_batch_requests_bucket", "2"): 3,
        ("landed_gate_batch_requests_bucket", "+Inf"): 3,
        ("landed_gate_batch_requests_count",): 3,
        ("landed_gate_batch_requests_sum",): 4,
        **times("landed_gate_commit_seconds", "journal"),
        **times("landed_gate_commit_seconds", "quarantine"),
        **times("landed_gate_answer_seconds"),
        ("landed_gate_processes", "serve"): 1,
        ("landed_gate_processes", "mount"): 2,
        ("landed_gate_unwritten_total",): 1,
        ("landed_requests_received_total",): 8,
        ("landed_requests_total", "folded"): 4,
        ("landed_requests_total", "duplicate"): 1,
        ("landed_requests_total", "unreadable"): 1,
        ("landed_requests_waiting",): 2,
        ("landed_ledger_even",): 1,
        ("landed_ledger_checked_timestamp_seconds",): 1_795_305_600,
        ("landed_quarantine_requests",): 5,
        ("landed_quarantine_copies",): 11,
        ("landed_quarantine_bytes",): 2_000,
        ("landed_fold_alive",): 1,
        ("landed_fold_position",): 7,
        ("landed_fold_behind",): 2,
        ("landed_fold_lag_seconds",): 1.5,
        ("landed_messages", "delivered"): 3,
        ("landed_messages", "failed"): 1,
        ("landed_events_total",): 900,
        **states("webhook", "shop", "active"),
        **states("handler", odd, "absent"),
        **of("webhook", "shop", waiting=12, unseen=4_500, dead=3, oldest_seconds=7_200.4),
        **of("handler", odd, waiting=0, unseen=0, dead=0, oldest_seconds=0),
        **attempts("webhook", "shop", delivered=70, failed=8, dead=3),
        **attempts("handler", odd, delivered=0, failed=0, dead=0),
        **times("landed_event_attempt_seconds", "webhook", "shop", middle=1),
        ("landed_event_attempt_seconds_bucket", "handler", "+Inf", odd): 0,
        ("landed_event_attempt_seconds_count", "handler", odd): 0,
        ("landed_event_attempt_seconds_sum", "handler", odd): 0,
        ("landed_file_bytes", "journal"): 8_192,
        ("landed_file_bytes", "store"): 4_096,
        ("landed_file_bytes", "quarantine"): 100,
        ("landed_disk_free_bytes",): 10**9,
    }


def states(kind, name, state):
    return {("landed_subscriber_state", kind, each, name): int(each == state) for each in STATES}


def of(kind, name, **figures):
    return {(f"landed_events_{figure}", kind, name): value for figure, value in figures.items()}


def attempts(kind, name, **results):
    return {("landed_event_attempts_total", kind, result, name): count for result, count in results.items()}


def times(name, *labels, middle=None):
    """Labels are in their names' order, and `le` is among them: `middle` of them come before it."""
    middle = len(labels) if middle is None else middle
    before, behind = labels[:middle], labels[middle:]
    return {
        (f"{name}_bucket", *before, "0.001", *behind): 3,
        (f"{name}_bucket", *before, "0.01", *behind): 4,
        (f"{name}_bucket", *before, "+Inf", *behind): 5,
        (f"{name}_count", *labels): 5,
        (f"{name}_sum", *labels): 1.25,
    }


def test_what_is_not_known_is_left_out_and_not_shown_as_nothing(serve, road):
    little = replace(road, checked_at=None, quarantine=None, free_bytes=None, gates=GateFigures())
    with serve(lambda: little.health, lambda: little) as private:
        values = values_of(private.get("/metrics").text)
    names = {name for name, *_ in values}
    assert not names & {"landed_quarantine_requests", "landed_disk_free_bytes"}
    assert "landed_ledger_checked_timestamp_seconds" not in names
    assert values["landed_gate_answer_seconds_count",] == 0


@pytest.mark.parametrize(
    "word", [VERIFIED, STALE, UNVERIFIED, UNJUDGED, HEALTH, *REASONS, REPEATED, SPARED, "rate", "probe"]
)
def test_every_verdict_is_documented(word):
    assert f"`{word}`" in DOCUMENT.partition("**Verdicts.**")[2]


@pytest.mark.parametrize("word", [*Kind, *SubscriberState, *RESULTS])
def test_every_word_for_a_subscriber_is_documented(word):
    assert f"`{word}`" in DOCUMENT.partition("**Events.**")[2]


@pytest.mark.parametrize("shown", METRICS, ids=lambda shown: shown.name)
def test_every_metric_is_documented_with_its_kind_labels_and_meaning(shown):
    labels = ", ".join(f"`{label}`" for label in shown.labels)
    assert f"| `{shown.name}` | {shown.kind} | {labels} | {shown.meaning} |" in DOCUMENT


def test_nothing_is_documented_that_is_not_shown_and_nothing_shown_that_is_not_documented(private):
    documented = set(re.findall(r"^\| `(landed_\w+)` \|", DOCUMENT, re.MULTILINE))
    families = {
        family.name + "_total" * (family.type == "counter")
        for family in text_string_to_metric_families(private.get("/metrics").text)
    }
    assert documented == families
