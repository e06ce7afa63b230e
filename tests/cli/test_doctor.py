"""`landed doctor` on real data."""

from __future__ import annotations

import json

from landed.journal.record import Ids, TickRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.run import LOCK_FILE, journal_path, only_worker, store_path


def found(run):
    return [finding["name"] for finding in json.loads(run.stdout)["findings"]]


def test_where_nothing_is_the_doctor_says_so(landed):
    run = landed("doctor", "--json")
    assert run.returncode == 1
    assert found(run) == ["no-journal", "no-secret"]


def test_a_store_without_its_worker_gate_and_secret_is_told(landed, data):
    run = landed("doctor", "--data", data, "--json")
    assert run.returncode == 1
    assert found(run) == ["no-worker", "no-gate", "no-secret"]
    assert json.loads(run.stdout)["ledger"] == {
        "received": 7,
        "folded": 7,
        "duplicate": 0,
        "unreadable": 0,
        "waiting": 0,
    }


def test_a_sound_machine_has_nothing_to_mend(landed, data, record, now_us):
    journal = SqliteJournal(journal_path(data))
    journal.append([record(0, b"{}"), encode(TickRecord(id=Ids().next(), at_us=now_us))])
    journal.close()
    with only_worker(data):
        run = landed("doctor", "--data", data, VONAGE_SIGNATURE_SECRET="s")
    assert (run.returncode, run.stderr) == (0, "")
    assert "8 requests received: 7 new, 0 duplicate, 0 unreadable, 1 waiting." in run.stdout
    assert "Nothing is wrong." in run.stdout


def test_looking_takes_nobodys_place(landed, data):
    (data / LOCK_FILE).touch()
    landed("doctor", "--data", data)
    with only_worker(data):
        pass


def test_a_store_that_cannot_be_read_is_told_and_not_a_traceback(landed, data):
    store_path(data).write_bytes(b"no database, but long enough to be taken for one" * 100)
    run = landed("doctor", "--data", data, "--json")
    assert (run.returncode, run.stderr, found(run)) == (1, "", ["unusable"])
