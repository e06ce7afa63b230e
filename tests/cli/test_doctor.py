"""`landed doctor` on real data."""

from __future__ import annotations

import json
from contextlib import closing
from http import HTTPStatus

import pytest

from landed.gate.meter import UNVERIFIED, Meter
from landed.journal.record import Ids, TickRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, store_path
from landed.store.outbox import Kind, Subscriber
from landed.store.sqlite_outbox import SqliteOutbox
from landed.work import LOCK_FILE, only_worker

BEGAN_US = 1_738_584_865_000_000  # where `record` counts its seconds from
SECOND_US = 1_000_000


def found(run):
    return [finding["name"] for finding in json.loads(run.stdout)["findings"]]


def test_where_nothing_is_the_doctor_says_so(landed):
    run = landed("doctor", "--offline", "--json")
    assert run.returncode == 1
    assert found(run) == ["no-data", "no-secret"]


def test_a_store_without_its_worker_gate_and_secret_is_told(landed, data):
    run = landed("doctor", "--offline", "--data", data, "--json")
    assert run.returncode == 1
    assert found(run) == ["no-worker", "no-gate", "no-secret"]
    assert json.loads(run.stdout)["ledger"] == {
        "received": 7,
        "folded": 7,
        "duplicate": 0,
        "unreadable": 0,
        "waiting": 0,
        "quarantined": 0,
    }


def test_a_sound_machine_has_nothing_to_mend(landed, data, record, now_us):
    journal = SqliteJournal(journal_path(data))
    came = record((now_us - BEGAN_US) // SECOND_US, b"{}")
    journal.append([came, encode(TickRecord(id=Ids().next(), at_us=now_us))])
    journal.close()
    with only_worker(data):
        run = landed("doctor", "--offline", "--data", data, VONAGE_SIGNATURE_SECRET="s")
    assert (run.returncode, run.stderr) == (0, "")
    assert "8 requests received: 7 new, 0 duplicate, 0 unreadable, 1 waiting; 0 in quarantine." in run.stdout
    assert "Nothing is wrong in what was looked at." in run.stdout


def test_looking_takes_nobodys_place(landed, data):
    (data / LOCK_FILE).touch()
    landed("doctor", "--offline", "--data", data)
    with only_worker(data):
        pass


def test_a_store_that_cannot_be_read_is_told_and_not_a_traceback(landed, data):
    store_path(data).write_bytes(b"no database, but long enough to be taken for one" * 100)
    run = landed("doctor", "--offline", "--data", data, "--json")
    assert (run.returncode, run.stderr) == (1, "")
    assert found(run) == ["store-unusable", "no-worker", "no-gate", "no-secret"]


def test_advice_alone_is_no_fault(landed, data, now_us):
    journal = SqliteJournal(journal_path(data))
    journal.append([encode(TickRecord(id=Ids().next(), at_us=now_us))])
    journal.close()
    meter = Meter(data)
    meter.refused(HTTPStatus.NO_CONTENT, UNVERIFIED)
    meter.close()
    with only_worker(data):
        run = landed("doctor", "--offline", "--data", data, "--json", VONAGE_SIGNATURE_SECRET="s")
        told = landed("doctor", "--offline", "--data", data, VONAGE_SIGNATURE_SECRET="s")
    assert (run.returncode, json.loads(run.stdout)["ok"]) == (0, True)
    assert [(each["name"], each["advice"]) for each in json.loads(run.stdout)["findings"]] == [("unverified", True)]
    assert told.returncode == 0
    assert told.stdout.endswith("Nothing is wrong in what was looked at. 1 to think about.\n")


def test_who_gets_no_events_any_more_is_told_to_people_and_programs(landed, data, now_us):
    journal = SqliteJournal(journal_path(data))
    journal.append([encode(TickRecord(id=Ids().next(), at_us=now_us))])
    journal.close()
    with closing(SqliteOutbox(store_path(data))) as outbox:
        shop = outbox.add(Subscriber(name="shop", kind=Kind.WEBHOOK, address="https://shop.example.com/?token=hidden"))
        outbox.stop(shop.row, "it is \x1b[31mgone")
    with only_worker(data):
        run = landed("doctor", "--offline", "--data", data, "--json", VONAGE_SIGNATURE_SECRET="s")
        told = landed("doctor", "--offline", "--data", data, VONAGE_SIGNATURE_SECRET="s")
    assert (run.returncode, found(run)) == (1, ["subscriber-stopped"])
    assert json.loads(run.stdout)["findings"][0].keys() == {"name", "what", "why", "do", "advice"}
    assert told.returncode == 1
    assert "shop was stopped: it is \ufffd[31mgone; 0 waiting, 0 unseen. [subscriber-stopped]" in told.stdout
    assert "hidden" not in run.stdout + told.stdout


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"LANDED_PORT": "many", "LANDED_PRINT": "all"}, ["Setting port", "Setting print"]),
        ({"VONAGE_SIGNATURE_SECRET": " "}, ["Setting VONAGE_SIGNATURE_SECRET: it is empty"]),
        ({"LANDED_DATE": "here"}, ["Environment variable LANDED_DATE"]),
    ],
    ids=["two", "an empty secret", "misspelt"],
)
def test_wrong_settings_are_findings(landed, wrong, named):
    run = landed("doctor", "--offline", "--json", **wrong)
    assert (run.returncode, run.stderr) == (1, "")
    said = json.loads(run.stdout)
    assert [finding["name"] for finding in said["findings"]] == ["settings"] * len(named)
    assert all(finding["what"].startswith(name) for finding, name in zip(said["findings"], named, strict=True))
    assert (said["ok"], said["ledger"]) == (False, None)


@pytest.mark.parametrize("text", [b"port = [", b"\xff"], ids=["no TOML", "no text"])
def test_a_settings_file_that_cannot_be_read_is_a_finding(landed, tmp_path, text):
    (tmp_path / "landed.toml").write_bytes(text)
    run = landed("doctor", "--offline")
    assert (run.returncode, run.stderr) == (1, "")
    assert "The settings cannot be read, in landed.toml or the environment" in run.stdout
    assert run.stdout.endswith("1 to mend.\n")
