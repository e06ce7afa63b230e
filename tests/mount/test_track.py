"""The sending side's word: joined with the receipts whenever either comes, from any process."""

import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest

import landed
from landed import Outcome
from landed.domain.receipt import Api
from landed.errors import JournalUnable, SettingsError, SurroundingsError
from landed.journal.record import Ids, RequestRecord, SentRecord, decode, encode
from landed.journal.sqlite import FILE, SqliteJournal
from landed.run import journal_path, prepare, store_path
from landed.store.sqlite import SqliteReader, SqliteStore
from landed.worker.fold import Fold

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _bare(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("LANDED_DATA", "VONAGE_API_KEY", "VONAGE_SIGNATURE_SECRET"):
        monkeypatch.delenv(name, raising=False)


def tracked(data):
    with closing(SqliteJournal(data / FILE)) as journal:
        records = [decode(record) for _, record in journal.read(0, 1_000)]
    return [record for record in records if isinstance(record, SentRecord)]


def test_what_was_sent_is_recorded_with_its_numbers_as_vonage_writes_them(tmp_path):
    landed.track(
        "m-1",
        api="sms",
        channel="SMS",
        to="+44 7700 900-001",
        sender="0044 20 7946 0000",
        client_ref="order-1",
        sent_at=NOON.astimezone(timezone(timedelta(hours=5))),
        data=tmp_path / "data",
    )

    (record,) = tracked(tmp_path / "data")
    assert (record.message_id, record.api, record.channel) == ("m-1", Api.SMS, "sms")
    assert (record.to, record.sender, record.client_ref) == ("447700900001", "442079460000", "order-1")
    assert (record.account, record.sent_us) == ("default", int(NOON.timestamp()) * 1_000_000)


def test_the_parts_of_a_long_text_are_one_group(tmp_path):
    landed.track(["p-1", "p-2", "p-3"], api="sms", client_ref="long", data=tmp_path / "data")
    landed.track(("alone",), api="sms", data=tmp_path / "data")

    *parts, alone = tracked(tmp_path / "data")
    assert [(each.message_id, each.group, each.part, each.parts) for each in parts] == [
        ("p-1", "p-1", 1, 3),
        ("p-2", "p-1", 2, 3),
        ("p-3", "p-1", 3, 3),
    ]
    assert len({each.id for each in parts}) == 3
    assert (alone.message_id, alone.group, alone.part, alone.parts) == ("alone", "", 0, 0)


@pytest.mark.parametrize(
    "ids", [[], ["a", "a"], ["a", ""], ["a", None], [str(number) for number in range(256)]], ids=len
)
def test_ids_that_are_no_parts_are_said_to_be_wrong_and_nothing_is_recorded(tmp_path, ids):
    with pytest.raises(SettingsError):
        landed.track(ids, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_only_the_id_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDED_DATA", str(tmp_path / "elsewhere"))
    landed.track("m-1")

    (record,) = tracked(tmp_path / "elsewhere")
    assert (record.api, record.channel, record.to, record.sender, record.client_ref) == (
        "messages",
        "sms",
        None,
        None,
        None,
    )
    assert record.sent_us == record.at_us


def test_a_name_is_no_number(tmp_path):
    landed.track("m-1", sender="ACME 24", to="", data=tmp_path)

    assert [(record.sender, record.to) for record in tracked(tmp_path)] == [("ACME 24", None)]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"message_id": ""}, id="no-id"),
        pytest.param({"message_id": None}, id="none"),
        pytest.param({"message_id": "x" * 257}, id="long-id"),
        pytest.param({"api": "fax"}, id="api"),
        pytest.param({"account": "third"}, id="account"),
        pytest.param({"sent_at": NOON.replace(tzinfo=None)}, id="naive-time"),
    ],
)
def test_what_is_wrong_in_the_call_is_said_and_nothing_recorded(tmp_path, wrong):
    (tmp_path / "landed.toml").write_text('[[account]]\nname = "second"\nsignature_secret = "s"\n')

    with pytest.raises(SettingsError):
        landed.track(**{"message_id": "m-1", "data": tmp_path / "data"} | wrong)

    assert not (tmp_path / "data").exists()


def test_the_account_is_the_first_one_or_the_named_one(tmp_path):
    accounts = "".join(f'[[account]]\nname = "{name}"\nsignature_secret = "s"\n' for name in ("first", "second"))
    (tmp_path / "landed.toml").write_text(accounts)
    landed.track("m-1", data=tmp_path)
    landed.track("m-2", account="second", data=tmp_path)

    assert [record.account for record in tracked(tmp_path)] == ["first", "second"]


def test_a_journal_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SurroundingsError):
        landed.track("m-1", data=tmp_path / "file")
    landed.track("m-1", data=tmp_path / "data")
    with closing(SqliteJournal(tmp_path / "data" / FILE)) as holder:
        holder._db.execute("BEGIN IMMEDIATE")  # noqa: SLF001 - as another process would hold it
        with pytest.raises(JournalUnable):
            landed.track("m-2", data=tmp_path / "data")


def test_several_processes_track_into_one_journal(tmp_path):
    code = f"import landed, sys\nfor n in range(25): landed.track(f'{{sys.argv[1]}}-{{n}}', data={str(tmp_path)!r})"
    running = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for number in range(4)]

    assert [process.wait(60) for process in running] == [0] * 4
    assert {record.message_id for record in tracked(tmp_path)} == {f"{p}-{n}" for p in range(4) for n in range(25)}


def receipt(data):
    """A receipt as a gate keeps it."""
    at_us = int(NOON.timestamp()) * 1_000_000
    record = RequestRecord(
        id=Ids().next(),
        at_us=at_us,
        received_us=at_us,
        account="default",
        api_key=None,
        coverage="body",
        verified=True,
        stale=False,
        answer=200,
        method="POST",
        path="/webhooks/message-status",
        query=b"",
        headers=(),
        body=b'{"message_uuid":"m-1","to":"447700900001","from":"ACME","channel":"sms","status":"delivered"}',
    )
    with closing(SqliteJournal(journal_path(data))) as journal:
        journal.append([encode(record)])


def sent(data):
    landed.track("m-1", to="+447700900001", sender="ACME", client_ref="order-1", data=data)


@pytest.mark.parametrize(
    "steps", [(sent, receipt), (receipt, sent), (sent, receipt, sent)], ids=["ahead", "late", "twice"]
)
def test_it_joins_the_receipts_before_or_after_them(tmp_path, steps):
    prepare(tmp_path)
    with closing(SqliteJournal(journal_path(tmp_path))) as journal, closing(SqliteStore(store_path(tmp_path))) as store:
        fold = Fold(journal, store)
        for step in steps:
            step(tmp_path)
            while fold.step():
                pass
    with closing(SqliteReader(store_path(tmp_path))) as reader:
        (message,) = reader.find("m-1", limit=2)

    assert (message.outcome, message.client_ref, message.to) == (Outcome.DELIVERED, "order-1", "447700900001")
    assert message.sent_at is not None
