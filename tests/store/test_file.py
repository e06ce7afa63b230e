"""Files of ours: told from others, brought forward, refused when newer, made once by many at once."""

import shutil
import subprocess
import sys
from contextlib import closing
from decimal import Decimal

import apsw
import pytest

from landed.domain.lifecycle import Fact
from landed.domain.moments import moment
from landed.domain.receipt import Api, Receipt, Segment, Status, Workflow
from landed.errors import SurroundingsError
from landed.journal.sqlite import SqliteJournal
from landed.sqlite import open_file, open_to_read
from landed.store import Kept
from landed.store.rows import hash_of
from landed.store.sqlite import APPLICATION_ID, SqliteReader, SqliteStore, migrations

OURS = 0x6C6E6400
FIRST = "CREATE TABLE thing (name TEXT NOT NULL) STRICT; INSERT INTO thing VALUES ('one');"
SECOND = "ALTER TABLE thing ADD COLUMN size INTEGER NOT NULL DEFAULT 3"
THIRD = "UPDATE thing SET size = size * 2"
SECONDS_MAX = 30


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.db"


def opened(path, *steps, busy_ms=50):
    return open_file(path, application_id=OURS, migrations=steps, synchronous="normal", busy_ms=busy_ms)


def opened_to_read(path, *steps, busy_ms=50):
    return open_to_read(path, application_id=OURS, migrations=steps, busy_ms=busy_ms)


def content(path):
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def one_sentence(caught, *words):
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert all(word in text for word in words), text


def test_a_new_file_is_made_at_this_version_in_wal_mode(path):
    db = opened(path, FIRST, SECOND, THIRD)

    assert db.execute("SELECT name, size FROM thing").get == ("one", 6)
    assert (db.pragma("user_version"), db.pragma("application_id"), db.pragma("journal_mode")) == (3, OURS, "wal")
    db.close()


@pytest.mark.parametrize("older", [1, 2])
def test_an_older_file_is_brought_forward_once_and_keeps_what_it_has(path, older):
    steps = (FIRST, SECOND, THIRD)
    opened(path, *steps[:older]).close()
    for _ in range(2):
        db = opened(path, *steps)
        assert db.execute("SELECT name, size FROM thing").get == ("one", 6)
        assert db.pragma("user_version") == 3
        db.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(path):
    opened(path, FIRST).close()

    with pytest.raises(SurroundingsError):
        opened(path, FIRST, SECOND, "CREATE TABLE thing (again TEXT)")

    db = opened(path, FIRST)
    assert db.pragma("user_version") == 1
    assert db.execute("SELECT * FROM thing").get == "one"
    db.close()


def test_a_newer_file_is_refused_with_one_sentence_and_left_alone(path):
    opened(path, FIRST, SECOND).close()
    before = content(path)

    for open_ in (opened, opened_to_read):
        with pytest.raises(SurroundingsError) as caught:
            open_(path, FIRST)
        one_sentence(caught, str(path), "newer landed")
    assert content(path) == before


@pytest.mark.parametrize("kind", [SqliteJournal, SqliteStore, SqliteReader])
def test_data_of_a_newer_landed_is_refused(path, kind):
    (SqliteStore if kind is SqliteReader else kind)(path).close()
    db = apsw.Connection(str(path))
    db.pragma("user_version", 99)
    db.close()

    with pytest.raises(SurroundingsError) as caught:
        kind(path)
    one_sentence(caught, "newer landed")


def test_an_older_file_is_not_read_but_the_sentence_says_what_to_do(path):
    opened(path, FIRST).close()

    with pytest.raises(SurroundingsError) as caught:
        opened_to_read(path, FIRST, SECOND)
    one_sentence(caught, "older landed", "landed serve")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param("PRAGMA application_id = 77", id="another-program's-mark"),
        pytest.param("CREATE TABLE theirs (a)", id="no-mark-but-tables"),
        pytest.param("PRAGMA user_version = 1", id="no-mark-but-a-version"),
        pytest.param(
            "PRAGMA application_id = 77; CREATE TABLE theirs (a); PRAGMA journal_mode = wal", id="in-wal-mode"
        ),
    ],
)
def test_a_foreign_database_is_refused_and_left_alone(path, make):
    db = apsw.Connection(str(path))
    db.execute(make)
    db.close()
    before = content(path)

    for open_ in (opened, opened_to_read):
        with pytest.raises(SurroundingsError) as caught:
            open_(path, FIRST)
        one_sentence(caught, str(path), "not a file of landed's")
    assert content(path) == before


@pytest.mark.parametrize("kinds", [(SqliteJournal, SqliteStore), (SqliteStore, SqliteJournal)])
def test_a_journal_is_no_store_and_a_store_no_journal(path, kinds):
    kinds[0](path).close()

    with pytest.raises(SurroundingsError, match="not a file of landed's"):
        kinds[1](path)


def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    path.write_text("These are my notes. " * 500)
    before = content(path)

    for open_ in (opened, opened_to_read):
        with pytest.raises(SurroundingsError) as caught:
            open_(path, FIRST)
        one_sentence(caught, str(path), "not a file of landed's")
    assert content(path) == before


def test_a_reader_makes_no_file(path):
    with pytest.raises(SurroundingsError, match="cannot be opened"):
        opened_to_read(path, FIRST)
    assert not path.exists()


def test_a_reader_cannot_write(path):
    opened(path, FIRST).close()
    db = opened_to_read(path, FIRST)

    with pytest.raises(apsw.ReadOnlyError):
        db.execute("DELETE FROM thing")
    db.close()


def test_a_directory_that_is_none_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SurroundingsError) as caught:
        opened(tmp_path / "file" / "file.db", FIRST)
    one_sentence(caught, "cannot be opened")


def test_a_file_that_is_held_is_told_in_one_sentence_and_opens_later(path):
    holder = apsw.Connection(str(path))
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SurroundingsError) as caught:
        opened(path, FIRST)
    one_sentence(caught, "locked")
    holder.execute("ROLLBACK")
    holder.close()

    opened(path, FIRST).close()


def test_a_store_without_first_positions_takes_those_of_the_copies_that_stand(path):
    receipt = "2, 1, x'01', 7, 'webhook', 3, 1, 'sms', 'delivered', 'delivered', 0, 1, 0"
    with closing(
        open_file(path, application_id=APPLICATION_ID, migrations=migrations()[:1], synchronous="normal")
    ) as db:
        db.execute(
            "INSERT INTO receipt (id, message, key, position, source, copies, received_us, api, status, "  # noqa: S608 - ours
            f"provider_status, zone_assumed, verified, stale) VALUES ({receipt})"
        )
        db.execute(
            "INSERT INTO inbound (key, position, copies, received_us, account, message_id, api, zone_assumed, "
            "verified, stale) VALUES (x'02', 9, 2, 1, 'default', 'i', 'sms', 0, 1, 0)"
        )
    SqliteStore(path).close()

    with closing(apsw.Connection(str(path))) as db:
        assert list(db.execute("SELECT position, first_position FROM receipt")) == [(7, 7)]
        assert list(db.execute("SELECT position, first_position FROM inbound")) == [(9, 9)]


SAID = {
    "id": 3,
    "message": 1,
    "key": b"k" * 16,
    "position": 7,
    "source": "webhook",
    "copies": 2,
    "received_us": 1_785_585_600_000_001,
    "api": "sms",
    "channel": "sms",
    "status": "failed",
    "provider_status": 'fail\u00fc"ed\n',
    "code": "5",
    "network": "26201",
    "recipient": "491701234567",
    "sender": "ACME",
    "client_ref": "",
    "occurred_us": -1,
    "pushed_us": 2**53 + 1,
    "zone_assumed": 1,
    "price": "0.00000001",
    "currency": "EUR",
    "segments": 2,
    "api_key": "abcd1234",
    "verified": 1,
    "stale": 0,
    "more": '{"detail":"\\u00fc","segments":[{"provider_status":"x"}],"workflow":{"workflow_id":"w"}}',
    "first_position": 6,
}


@pytest.mark.parametrize("has_all", [True, False])
def test_a_receipt_of_a_store_with_many_columns_tells_what_it_told(path, has_all):
    can_be_missing = {
        "channel",
        "code",
        "network",
        "recipient",
        "sender",
        "client_ref",
        "price",
        "currency",
        "segments",
    }
    can_be_missing |= {"occurred_us", "pushed_us", "api_key", "more"}
    said = SAID if has_all else SAID | dict.fromkeys(can_be_missing)
    with closing(
        open_file(path, application_id=APPLICATION_ID, migrations=migrations()[:3], synchronous="normal")
    ) as db:
        db.execute(
            "INSERT INTO message (id, generation, key, account, message_id, outcome, status, provider_status, api, "
            "conflict, verified, receipts, seen_us) VALUES "
            "(1, 0, ?, 'default', 'm', 'failed', 'failed', 'failed', 'sms', 0, 1, 1, 1)",
            (hash_of("m"),),
        )
        names = ", ".join(said)
        db.execute(f"INSERT INTO receipt ({names}) VALUES ({','.join('?' * len(said))})", tuple(said.values()))  # noqa: S608 - ours

    with closing(SqliteStore(path)) as store:
        ((kept,),) = (known.facts.values() for known in store.load([("default", "m")]).values())
    receipt = Receipt(
        api=Api.SMS,
        message_id="m",
        channel=said["channel"],
        status=Status.FAILED,
        provider_status=said["provider_status"],
        to=said["recipient"],
        sender=said["sender"],
        network=said["network"],
        code=said["code"],
        detail="\u00fc" if has_all else None,
        client_ref=said["client_ref"],
        occurred_at=moment(-1) if has_all else None,
        pushed_at=moment(2**53 + 1) if has_all else None,
        zone_assumed=True,
        price=Decimal("0.00000001") if has_all else None,
        currency=said["currency"],
        segments=said["segments"],
        segment_receipts=(Segment(provider_status="x"),) if has_all else (),
        workflow=Workflow(workflow_id="w") if has_all else None,
        api_key=said["api_key"],
        verified=True,
    )
    fact = Fact(receipt=receipt, key=b"k" * 16, received_at=moment(SAID["received_us"]), copies=2)
    assert kept == Kept(row=3, position=7, first_position=6, fact=fact)


def test_messages_of_a_store_with_great_generations_are_found(path):
    names = {1: "a", 2**16 - 1: "b", 2**16: "c", 2**20: "d", 2**20 + 2**16: "e"}
    with closing(
        open_file(path, application_id=APPLICATION_ID, migrations=migrations()[:3], synchronous="normal")
    ) as db:
        for row, name in names.items():
            db.execute(
                "INSERT INTO message (id, generation, key, account, message_id, outcome, status, provider_status, api, "
                "conflict, verified, receipts, seen_us, client_ref) VALUES "
                "(?, ?, ?, 'default', ?, 'delivered', 'delivered', 'delivered', 'sms', 0, 1, 1, 1, ?)",
                (row, row >> 20, hash_of(name), name, f"ref-{name}"),
            )
        db.execute("INSERT INTO generation_filter VALUES (0, zeroblob(2097152))")

    with closing(SqliteStore(path)) as store, closing(SqliteReader(path)) as reader:
        known = store.load([("default", name) for name in [*names.values(), "unknown"]])
        assert {key[1]: each.row for key, each in known.items()} == {name: row for row, name in names.items()}
        for name in names.values():
            assert [each.message_id for each in reader.find(name, limit=5)] == [name]
            assert [each.message_id for each in reader.find(f"ref-{name}", limit=5)] == [name]


def test_what_is_settled_is_in_the_file_even_when_its_log_is_lost(tmp_path, path):
    with closing(SqliteStore(path)) as store:
        store.progress("settled")
        assert store.settle()
        # A machine that dies now may lose whatever was not synced: at worst, all of the log.
        shutil.copy(path, tmp_path / "after.db")
    with closing(SqliteReader(tmp_path / "after.db")) as reader:
        assert reader.progress().epoch == "settled"


def test_a_store_is_not_settled_while_a_reader_or_another_process_keeps_it_from_it(path):
    with closing(SqliteStore(path)) as store, closing(apsw.Connection(str(path))) as other:
        store.progress("first")
        assert store.settle()
        with other:
            other.execute("SELECT count(*) FROM fold").fetchall()
            with store.transaction():
                store._db.execute("UPDATE fold SET epoch = 'second'")  # noqa: SLF001 - any change will do
            assert not store.settle()
        assert store.settle()


PROGRAM = """
import sys
from pathlib import Path
from landed.store.sqlite import SqliteReader, SqliteStore
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    path = Path(sys.argv[1]) / str(number)
    if sys.argv[2] == "read":
        while not path.exists():
            pass
        SqliteReader(path).close()
    else:
        SqliteStore(path).close()
"""


def test_many_processes_may_make_and_read_one_file_at_the_same_moment(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), role, "25"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in ("write", "write", "write", "read")
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=SECONDS_MAX)[1] for process in processes]

    assert said == ["", "", "", ""]
    for number in range(25):
        db = apsw.Connection(str(tmp_path / str(number)))
        assert (db.pragma("application_id"), db.pragma("user_version")) == (APPLICATION_ID, len(migrations()))
        db.close()
