"""`list`, `show`, `tail` as a person and as a program sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from landed.cli.read import read_moment
from landed.domain.numbers import normal_number
from landed.errors import SettingsError

KEYS = [
    *("message_id", "outcome", "status", "provider_status", "api", "channel", "to", "from", "client_ref", "network"),
    *("country", "code", "reason", "conflict", "verified", "receipts", "sent_at", "first_at", "final_at"),
    *("latency_ms", "price", "currency"),
]


def ids(run):
    return [json.loads(line)["message_id"] for line in run.stdout.splitlines()]


def test_list_is_newest_first(landed, data):
    assert ids(landed("list", "--data", data, "--json")) == ["m-both", "m-pending", "m-read", "m-failed", "m-delivered"]


def test_json_of_a_message_has_the_agreed_keys_and_values(landed, data):
    (line,) = landed(
        "list", "--data", data, "--json", "--status", "delivered", "--client-ref", "order-1"
    ).stdout.splitlines()
    message = json.loads(line)
    assert list(message) == KEYS
    assert message["to"] == "447700900001"
    assert message["from"] == "AcmeInc"
    assert (message["outcome"], message["network"], message["receipts"]) == ("delivered", "23410", 2)
    assert (message["price"], message["currency"]) == ("0.0333", "EUR")
    assert message["sent_at"] == "2025-02-03T12:14:24Z"
    assert message["latency_ms"] == 5000


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--outcome", "failed"], ["m-failed"]),
        (["--outcome", "delivered"], ["m-both", "m-read", "m-delivered"]),
        (["--status", "read"], ["m-read"]),
        (["--status", "SUBMITTED"], ["m-pending"]),
        (["--channel", "whatsapp"], ["m-read"]),
        (["--network", "23410"], ["m-delivered"]),
        (["--to", "+44 7700 900002"], ["m-pending"]),
        (["--to", "00447700900002"], ["m-pending"]),
        (["--client-ref", "order-1"], ["m-read", "m-delivered"]),
        (["--since", "2025-02-03T12:14:45Z"], ["m-both", "m-pending", "m-read"]),
        (["--until", "2025-02-03T12:14:45Z"], ["m-failed", "m-delivered"]),
        (["--since", "1h"], []),
        (["--limit", "2"], ["m-both", "m-pending"]),
        (["--limit", "2", "--after", "m-pending"], ["m-read", "m-failed"]),
        (["--after", "m-delivered"], []),
    ],
    ids=" ".join,
)
def test_filters_of_list(landed, data, arguments, expected):
    assert ids(landed("list", "--data", data, "--json", *arguments)) == expected


def test_paging_on_from_nobody_is_wrong_usage(landed, data):
    run = landed("list", "--data", data, "--after", "nobody")
    assert (run.returncode, run.stderr) == (2, "landed: --after nobody is no message that is known here.\n")


def test_a_page_has_a_limit(landed, data):
    assert landed("list", "--data", data, "--limit", "9223372036854775808").returncode == 2


def test_list_for_people_masks_numbers_and_flags_a_conflict(landed, data):
    shown = landed("list", "--data", data, PYTHONUTF8="1").stdout
    assert "4477•••••001" in shown
    assert "447700900001" not in shown
    assert "conflict" in next(line for line in shown.splitlines() if "m-both" in line)
    assert "447700900001" in landed("list", "--data", data, "--show-numbers").stdout


@pytest.mark.parametrize("command", [["list"], ["show", "m"]], ids=" ".join)
def test_nothing_yet_is_a_friendly_answer(landed, command):
    run = landed(*command)
    assert run.returncode == 0
    assert "landed demo" in run.stdout
    silent = landed(*command, "--json")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")


def test_an_unknown_outcome_is_wrong_usage(landed, data):
    run = landed("list", "--data", data, "--outcome", "lost")
    assert run.returncode == 2
    assert "choose pending, delivered, failed, unconfirmed" in run.stderr


def test_show_tells_every_receipt_with_both_words(landed, data):
    shown = landed("show", "m-delivered", "--data", data, PYTHONUTF8="1").stdout
    said = [line for line in shown.splitlines() if "→" in line]
    assert ["sent" in said[0], "submitted     → accepted" in said[1], "delivered     → delivered" in said[2]] == [
        True
    ] * 3
    assert "5.0 s after it was sent" in shown


def test_show_says_so_when_there_are_more_than_it_shows(landed, tmp_path, store_of):
    store_of(*({"message_uuid": f"m{number}", "status": "read", "client_ref": "sale"} for number in range(25)))
    assert "landed list --client-ref sale" in landed("show", "sale", "--data", tmp_path).stdout
    assert len(landed("show", "sale", "--data", tmp_path, "--json").stdout.splitlines()) == 25


def test_a_recipient_is_found_however_vonage_wrote_it(landed, tmp_path, store_of):
    store_of({"message_uuid": "m", "status": "read", "to": "+447700900123"})
    assert ids(landed("list", "--data", tmp_path, "--json", "--to", "00 44 7700 900123")) == ["m"]


def test_show_finds_by_client_reference(landed, data):
    shown = landed("show", "order-1", "--data", data, "--json").stdout
    messages = [json.loads(line) for line in shown.splitlines()]
    assert [message["message_id"] for message in messages] == ["m-read", "m-delivered"]
    assert [receipt["provider_status"] for receipt in messages[1]["history"]] == ["sent", "submitted", "delivered"]
    assert list(messages[0])[:-1] == KEYS


def test_show_says_no_when_nobody_was_named(landed, data):
    run = landed("show", "nobody", "--data", data)
    assert run.returncode == 1
    assert "No receipt has named nobody" in run.stderr


@pytest.mark.parametrize(("arguments", "first"), [([], "m-delivered"), (["--outcome", "failed"], "m-failed")])
def test_tail_prints_what_is_there_and_goes_on(data, arguments, first):
    command = [sys.executable, "-m", "landed", "tail", "--data", str(data), "--json", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as tail:
        line = json.loads(tail.stdout.readline())
        tail.terminate()
    assert line["message_id"] == first


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("+44 7700 900001", "447700900001"),
        ("0044 (7700) 900-001", "447700900001"),
        ("447700900001", "447700900001"),
        ("AcmeInc", "AcmeInc"),
        ("page-12", "page-12"),
        ("++447700900001", "++447700900001"),
    ],
)
def test_numbers_are_understood_as_people_type_them(typed, number):
    assert normal_number(typed) == number


def test_moments_are_understood_as_people_type_them():
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert read_moment("2h", now, "--since") == now - timedelta(hours=2)
    assert read_moment("3d", now, "--since") == now - timedelta(days=3)
    assert read_moment("2026-11-20T14:00Z", now, "--since") == datetime(2026, 11, 20, 14, tzinfo=UTC)
    for typed in ("yesterday", "999999w", "9999-99-99"):
        with pytest.raises(SettingsError, match="--since"):
            read_moment(typed, now, "--since")
