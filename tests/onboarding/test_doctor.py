"""The doctor: finds each planted fault and names it, and finds nothing on a sound machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from landed.domain.receipt import Api
from landed.journal.quarantine import Totals
from landed.onboarding.addresses import Addresses
from landed.onboarding.doctor import BEHIND_RECORDS_MAX, examine, wrong_settings
from landed.onboarding.seen import Ledger, Seen, SubscriberSeen, Try, VonageSeen, ledger_of
from landed.store import Tally
from landed.store.outbox import Backlog, Kind, Origin, SubscriberState
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


HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# A sound subscriber, in whatever state; and what is wrong only in some of them.
SHOP = SubscriberSeen(name="shop", backlog=Backlog(waiting=2, unseen=5, oldest_at=NOW - 59 * MINUTE))
GONE = {"state": SubscriberState.STOPPED, "reason": "it answered that it is gone"}
PAUSED = {"state": SubscriberState.PAUSED}
ABSENT = {"state": SubscriberState.ABSENT, "origin": Origin.SETTINGS}


def open_for(age, **more):
    return {"backlog": Backlog(**({"waiting": 3, "unseen": 4_500} | more), oldest_at=NOW - age)}


@pytest.mark.parametrize(
    ("about", "names"),
    [
        ({}, []),
        ({"backlog": Backlog()}, []),
        ({"said": "503", "said_at": NOW}, []),
        (open_for(HOUR), []),
        (open_for(61 * MINUTE), ["events-late"]),
        (open_for(61 * MINUTE, waiting=0), ["events-late"]),
        (open_for(61 * MINUTE, unseen=0), ["events-late"]),
        (open_for(61 * MINUTE) | {"kind": Kind.HANDLER}, ["events-late"]),
        (open_for(61 * MINUTE) | {"kind": Kind.PEOPLE}, []),
        (open_for(2 * HOUR + MINUTE) | {"kind": Kind.PEOPLE}, ["events-late"]),
        ({"backlog": Backlog(dead=1)}, ["dead-letters (advice)"]),
        (open_for(61 * MINUTE, dead=1), ["events-late", "dead-letters (advice)"]),
        (GONE, ["subscriber-stopped"]),
        (GONE | {"backlog": Backlog()}, ["subscriber-stopped"]),
        (GONE | open_for(2 * DAY), ["subscriber-stopped"]),
        (PAUSED, []),
        (PAUSED | open_for(DAY), []),
        (PAUSED | open_for(DAY + MINUTE), ["subscriber-paused (advice)"]),
        (ABSENT | {"backlog": Backlog()}, []),
        (ABSENT, ["subscriber-absent (advice)"]),
        (ABSENT | {"backlog": Backlog(waiting=1, oldest_at=NOW)}, ["subscriber-absent (advice)"]),
        (ABSENT | {"backlog": Backlog(unseen=1, oldest_at=NOW)}, ["subscriber-absent (advice)"]),
        (ABSENT | {"backlog": Backlog(dead=1)}, ["dead-letters (advice)"]),
        ({"goes_plain": True}, ["webhook-plain (advice)"]),
        (PAUSED | {"goes_plain": True}, ["webhook-plain (advice)"]),
        (ABSENT | {"goes_plain": True, "backlog": Backlog()}, []),
    ],
    ids=repr,
)
def test_each_fault_on_the_way_to_a_subscriber_is_found_and_named(about, names):
    several = (SHOP, replace(SHOP, **about), SHOP)
    findings = examine(replace(SOUND, subscribers=several))
    assert [finding.name + " (advice)" * finding.advice for finding in findings] == names
    for finding in findings:
        assert "shop" in finding.what + finding.do
        assert all(sentence.endswith(".") for sentence in (finding.what, finding.why, finding.do))


def test_where_no_worker_runs_that_alone_is_why_events_are_late():
    late = replace(SHOP, **open_for(9 * HOUR))
    assert [each.name for each in examine(replace(SOUND, subscribers=(late,), worker_runs=False))] == ["no-worker"]


@pytest.mark.parametrize(
    ("about", "what", "do"),
    [
        (
            open_for(2 * HOUR) | {"said": "503", "said_at": NOW - 4 * MINUTE},
            (
                "Events do not arrive at shop: 3 waiting, 4,500 unseen, the oldest for 2:00:00; the last attempt, "
                "0:04:00 ago: 503."
            ),
            "Look at its log and at the way there; `landed events try delivered --subscriber shop` sends a sample.",
        ),
        (
            open_for(2 * HOUR) | {"kind": Kind.HANDLER, "name": "app:make.<locals>.told"},
            "Events do not arrive at app:make.<locals>.told: 3 waiting, 4,500 unseen, the oldest for 2:00:00.",
            "Mend it, try it with `landed handlers FILE --try ID`, and restart what calls it.",
        ),
        (
            GONE | {"said": "410", "said_at": NOW - 3 * HOUR},
            "shop was stopped 3:00:00 ago: it answered that it is gone; 2 waiting, 5 unseen.",
            "Run `landed events resume shop` when it wants them again, or run `landed events remove shop`.",
        ),
        (
            PAUSED | open_for(2 * DAY) | {"origin": Origin.SETTINGS},
            "shop is paused, and events pile up: 3 waiting, 4,500 unseen, the oldest for 2 days, 0:00:00.",
            (
                "Run `landed events resume shop`, or take it out of landed.toml, restart landed, and run "
                "`landed events remove shop`."
            ),
        ),
        (
            ABSENT,
            "shop stands in landed.toml no more: 2 waiting, 5 unseen.",
            "Put the old name back and restart landed, or run `landed events remove shop`.",
        ),
        (
            ABSENT | {"origin": Origin.HANDLERS, "name": "my app:{told}"},
            "There is no handler my app:{told} any more: 2 waiting, 5 unseen.",
            "Put the old name back and restart landed, or run `landed events remove 'my app:{told}'`.",
        ),
    ],
    ids=["late", "a handler that is late", "stopped", "paused", "absent", "no handler any more"],
)
def test_of_a_subscriber_it_is_said_how_it_stands_and_what_to_do(about, what, do):
    (finding,) = examine(replace(SOUND, subscribers=(replace(SHOP, **about),)))
    assert (finding.what, finding.do) == (what, do)


@pytest.mark.parametrize(
    ("dead", "what"),
    [
        ((1,), "One event is dead: 1 of shop-0."),
        ((1_200, 0, 34), "1,234 events are dead: 1,200 of shop-0, 34 of shop-2."),
        (
            (1,) * 7,
            "7 events are dead: 1 of shop-0, 1 of shop-1, 1 of shop-2, 1 of shop-3, 1 of shop-4 and 2 more.",
        ),
    ],
)
def test_dead_letters_of_all_are_one_piece_of_advice(dead, what):
    several = tuple(
        SubscriberSeen(name=f"shop-{number}", backlog=Backlog(dead=count)) for number, count in enumerate(dead)
    )
    assert [each.what for each in examine(replace(SOUND, subscribers=several))] == [what]
