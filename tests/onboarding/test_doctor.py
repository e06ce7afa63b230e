"""The doctor: finds each planted fault and names it, and finds nothing on a sound machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from landed.onboarding.doctor import BEHIND_RECORDS_MAX, Ledger, Seen, examine, ledger_of
from landed.store import Tally

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOUND = Seen(
    now=NOW,
    data="landed-data",
    has_secrets=True,
    journal_epoch="e",
    store_epoch="e",
    journal_position=120,
    fold_position=110,
    newest_at=NOW - timedelta(seconds=20),
    worker_runs=True,
    tally=Tally(received=100, folded=80, duplicate=15, unreadable=5),
    journal_requests=100,
    waiting=7,
    free_bytes=10**12,
)


@pytest.mark.parametrize(
    ("planted", "names"),
    [
        ({}, []),
        ({"problems": ["The journal cannot be opened."]}, ["unusable"]),
        ({"journal_epoch": None, "store_epoch": None, "newest_at": None}, ["no-journal"]),
        ({"store_epoch": "other"}, ["other-journal"]),
        ({"fold_position": 121}, ["journal-went-back"]),
        ({"worker_runs": False}, ["no-worker"]),
        ({"journal_position": 111 + BEHIND_RECORDS_MAX}, ["behind"]),
        ({"newest_at": NOW - timedelta(minutes=3)}, ["no-gate"]),
        ({"newest_at": NOW + timedelta(hours=1)}, ["clock"]),
        ({"newest_at": NOW + timedelta(minutes=4)}, []),
        ({"journal_requests": 101}, ["ledger"]),
        ({"journal_requests": 99}, ["ledger"]),
        ({"tally": Tally(received=100, folded=80, duplicate=15, unreadable=4)}, ["ledger"]),
        ({"free_bytes": 1000}, ["disk"]),
        ({"has_secrets": False}, ["no-secret"]),
        ({"has_secrets": False, "worker_runs": False, "free_bytes": 0}, ["no-worker", "disk", "no-secret"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_each_fault_is_found_and_named(planted, names):
    findings = examine(replace(SOUND, **planted))
    assert [finding.name for finding in findings] == names
    for finding in findings:
        assert all(sentence.endswith(".") for sentence in (finding.what, finding.why, finding.do))


def test_the_ledger_is_what_the_journal_has_beside_what_the_store_made_of_it():
    ledger = ledger_of(SOUND)
    assert ledger == Ledger(received=107, folded=80, duplicate=15, unreadable=5, waiting=7)
    assert ledger.is_even
