"""The doctor: finds each planted fault and names it, and finds nothing on a sound machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from landed.domain.receipt import Api
from landed.journal.quarantine import Totals
from landed.onboarding.addresses import Addresses
from landed.onboarding.doctor import BEHIND_RECORDS_MAX, examine, wrong_settings
from landed.onboarding.seen import Ledger, Seen, Try, VonageSeen, ledger_of
from landed.store import Tally
from landed.vonage.configuration import Webhooks

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SOUND = Seen(
    now=NOW,
    data="landed-data",
    has_secrets=True,
    journal_epoch="e",
    store_epoch="e",
    journal_position=120,
    fold_position=110,
    newest_at=NOW - timedelta(seconds=20),
    oldest_waiting_at=NOW - timedelta(seconds=40),
    worker_runs=True,
    gates_serving=1,
    gates_kept=107,
    tally=Tally(received=100, folded=80, duplicate=15, unreadable=5),
    journal_requests=100,
    waiting=7,
    journal_bytes=1_000,
    journal_bytes_max=10_000,
    free_bytes=10**12,
    free_bytes_min=10**6,
    quarantine=Totals(rows=0, bytes=0),
    quarantine_rows_max=100,
    quarantine_bytes_max=10_000,
    newest_verified_at=NOW - 10 * MINUTE,
    delays=[timedelta(seconds=2)] * 10,
)
SILENT = {"newest_at": NOW - 3 * MINUTE, "oldest_waiting_at": None}


def held(*, rows=3, size=0, newest=30, newest_signed=None):
    """A quarantine whose last requests came so many minutes ago."""
    newest_us, signed_us = (
        None if minutes is None else int((NOW - minutes * MINUTE).timestamp() * 1_000_000)
        for minutes in (newest, newest_signed)
    )
    totals = Totals(rows=rows, bytes=size, copies=rows + 1, newest_us=newest_us, newest_signed_us=signed_us)
    return {"quarantine": totals}


@pytest.mark.parametrize(
    ("planted", "names"),
    [
        ({}, []),
        ({"unusable": {"journal": "The journal is no good."}, "journal_epoch": None}, ["journal-unusable"]),
        ({"unusable": {"store": "The store is no good."}, "fold_position": 0}, ["store-unusable"]),
        ({"unusable": {"quarantine": "It is no good."}, "quarantine": None}, ["quarantine-unusable"]),
        ({"journal_epoch": None, "store_epoch": None, "newest_at": None}, ["no-journal"]),
        ({"has_data": False, "journal_epoch": None, "store_epoch": None, "newest_at": None}, ["no-data"]),
        ({"store_epoch": "other"}, ["other-journal"]),
        ({"fold_position": 121}, ["journal-went-back"]),
        ({"worker_runs": False}, ["no-worker"]),
        ({"journal_position": 111 + BEHIND_RECORDS_MAX}, ["behind"]),
        ({"oldest_waiting_at": NOW - 6 * MINUTE}, ["behind"]),
        ({"oldest_waiting_at": NOW - 4 * MINUTE}, []),
        (SILENT, ["gate-silent"]),
        (SILENT | {"gates_serving": 0}, ["no-gate"]),
        (SILENT | {"gates_serving": 0, "gates_mounted": 1, "only_mounts": True}, []),
        (SILENT | {"gates_serving": 0, "only_mounts": True}, ["no-gate (advice)"]),
        ({"newest_at": NOW + timedelta(hours=1)}, ["clock"]),
        ({"newest_at": NOW + 4 * MINUTE}, []),
        ({"delays": [timedelta(seconds=2)] * 9 + [-6 * MINUTE]}, ["clock"]),
        ({"delays": [-4 * MINUTE] * 9}, []),
        ({"delays": [6 * MINUTE] * 9}, ["clock"]),
        ({"delays": [6 * MINUTE] * 9 + [4 * MINUTE]}, []),
        ({"delays": [6 * MINUTE] * 4}, []),
        ({"journal_requests": 101}, ["ledger"]),
        ({"journal_requests": 99, "gates_kept": 0}, ["ledger"]),
        ({"tally": Tally(received=100, folded=80, duplicate=15, unreadable=4)}, ["ledger"]),
        ({"tally": Tally(received=101, folded=80, duplicate=15, unreadable=5)}, ["ledger"]),
        ({"gates_kept": 108}, ["ledger-of-gates"]),
        ({"gates_kept": 0}, []),
        ({"free_bytes": 600 * 1024**2, "free_bytes_min": 700 * 1024**2}, ["disk"]),
        ({"free_bytes": 500 * 1024**2}, ["disk"]),
        ({"journal_bytes": 9_000}, ["journal-full"]),
        ({"journal_bytes": 8_999}, []),
        ({"journal_bytes": 10**12, "journal_bytes_max": 0}, []),
        ({"has_secrets": False}, ["no-secret"]),
        ({"has_odd_secrets": True}, ["odd-secret"]),
        (held(newest_signed=9), ["refused"]),
        (held(newest_signed=11), ["quarantined (advice)"]),
        (held(newest_signed=11) | {"newest_verified_at": None}, ["refused"]),
        (held(newest=1), ["quarantined (advice)"]),
        (held(rows=90), ["quarantine-full", "quarantined (advice)"]),
        (held(size=9_000), ["quarantine-full", "quarantined (advice)"]),
        ({"sms_signed": 1}, ["sms-signature (advice)"]),
        ({"sms_signed": 1, "sms_must_be_signed": True}, []),
        ({"sms_unsigned": 1, "unverified": 1}, ["unverified (advice)"]),
        (
            {"has_secrets": False, "worker_runs": False, "free_bytes": 0, "unverified": 5, "sms_unsigned": 5},
            ["no-worker", "disk", "no-secret"],
        ),
        (
            {"sms_signed": 1, "has_odd_secrets": True} | held(newest_signed=11),
            ["odd-secret", "quarantined (advice)", "sms-signature (advice)"],
        ),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_each_fault_is_found_and_named(planted, names):
    findings = examine(replace(SOUND, **planted))
    assert [finding.name + " (advice)" * finding.advice for finding in findings] == names
    for finding in findings:
        assert all(sentence.endswith(".") for sentence in (finding.what, finding.why, finding.do))


def test_the_ledger_is_what_the_journal_has_beside_what_the_store_made_of_it():
    ledger = ledger_of(replace(SOUND, **held()))
    assert ledger == Ledger(received=107, folded=80, duplicate=15, unreadable=5, waiting=7, quarantined=3)
    assert ledger.is_even


def test_each_wrong_setting_is_a_finding():
    findings = wrong_settings("Setting port: wrong.\nSetting host: wrong.")
    assert [(finding.name, finding.what) for finding in findings] == [
        ("settings", "Setting port: wrong."),
        ("settings", "Setting host: wrong."),
    ]


ADDRESSES = Addresses(base="https://hooks.example.com")
ASKED = VonageSeen(asked_at=NOW, at=NOW)
NO_URLS = replace(ASKED, account=Webhooks())
FAR = replace(SOUND, is_far_seen=True, has_credentials=True, application_id="a", addresses=ADDRESSES, vonage=ASKED)


def tried(**about):
    """The second of two tries, of which the first one was fine."""
    fine = Try(api=Api.MESSAGES, url=ADDRESSES.base, status=200, has_arrived=True)
    return {"tries": (fine, Try(api=Api.SMS, url=ADDRESSES.base, **about))}


@pytest.mark.parametrize(
    ("planted", "names"),
    [
        ({}, []),
        ({"vonage": replace(ASKED, has_sdk=False)}, ["no-sdk (advice)"]),
        ({"vonage": replace(ASKED, at=NOW - 6 * MINUTE)}, ["clock-vonage"]),
        ({"vonage": replace(ASKED, at=NOW + 6 * MINUTE)}, ["clock-vonage"]),
        ({"vonage": replace(ASKED, at=NOW + 4 * MINUTE)}, []),
        ({"addresses": Addresses(base="http://hooks.example.com")}, ["public-url-plain (advice)"]),
        ({"addresses": Addresses(base="https://10.0.0.1")}, ["public-url-private"]),
        ({"addresses": Addresses(base="https://localhost:3000/hooks")}, ["public-url-private"]),
        ({"addresses": Addresses(base="https://[::1]")}, ["public-url-private"]),
        ({"addresses": Addresses(base="https://10.0.0.1"), "is_real_vonage": False}, []),
        (tried(status=204, has_arrived=True), []),
        (tried(status=204, has_arrived=True, is_stale=True), ["outside-clock"]),
        (tried(fault="timeout", detail="10 s"), ["outside-timeout"]),
        (tried(status=200), ["outside-other"]),
        (tried(status=308, location="https://b.example"), ["outside-redirect"]),
        (tried(status=413), ["outside-status"]),
        (tried(status=503, held_for="missing"), ["outside-unsigned"]),
        (tried(status=401, held_for="body", diagnosis="It was rewritten."), ["outside-changed"]),
        (tried(status=401, held_for="wrong"), ["outside-secrets"]),
        ({"silent_sends": 3}, ["silence"]),
        ({"silent_sends": 3, "heard_sends": 1}, []),
        ({"sms_heard_as_messages": 1}, ["sms-setting"]),
        (
            {"vonage": replace(ASKED, account=Webhooks()), "uses_sms": True},
            ["account-no-url", "account-inbound (advice)"],
        ),
    ],
    ids=repr,
)
def test_each_fault_beyond_this_machine_is_named(planted, names):
    findings = examine(replace(FAR, **planted))
    assert [finding.name + finding.advice * " (advice)" for finding in findings] == names
    assert all(each.what.strip() and each.why.endswith(".") and each.do.endswith(".") for each in findings)
