"""What only the embedded store can be put through: generations, equal hashes, a full file, its schema."""
# ruff: noqa: SLF001 - a limit on a file's pages belongs to the connection that it is to limit

import sys
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import apsw
import msgspec
import pytest

from landed.domain.brief import Brief, Kind
from landed.domain.events import EventType
from landed.domain.lifecycle import Fact, message_of, receipt_key
from landed.domain.receipt import Api, Receipt, Status
from landed.domain.rollups import cell_of
from landed.errors import FoldStopped, StoreUnable
from landed.store import Changes, Filter, Kept, Tally, rows, sqlite
from landed.store.firsts import first_of
from landed.store.outbox import Said
from landed.store.sqlite import SqliteReader, SqliteStore

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
EPOCH = "a journal's name"
ACCOUNT = "default"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def store(path):
    with closing(SqliteStore(path)) as store:
        store.progress(EPOCH)
        yield store


@pytest.fixture
def reader(store):
    with closing(SqliteReader(store.path)) as reader:
        yield reader


def small_generations(monkeypatch, bits):
    for module in (rows, sqlite):
        monkeypatch.setattr(module, "GENERATION_BITS", bits)


def keep(store, *message_ids, position, detail=None):
    """Write these messages as new ones, in one transaction, as the fold does."""
    changes = Changes(tally=Tally(received=len(message_ids), folded=len(message_ids)))
    with store.transaction():
        row, kept_row = store.next_rows()
        for at, message_id in enumerate(message_ids):
            receipt = Receipt(
                api=Api.SMS,
                message_id=message_id,
                channel="sms",
                status=Status.DELIVERED,
                provider_status="delivered",
                client_ref=f"ref-{message_id}",
                detail=detail,
            )
            fact = Fact(receipt=receipt, key=receipt_key(ACCOUNT, receipt), received_at=NOON)
            changes.messages.append((row + at, message_of(ACCOUNT, [fact])))
            changes.cells[cell_of(changes.messages[-1][1])] += 1
            kept = Kept(row=kept_row + at, position=position, first_position=position, fact=fact)
            changes.facts.append((row + at, kept))
        return store.save(changes, epoch=EPOCH, before=position - 1, position=position, at=NOON)


def test_messages_are_found_in_every_generation(monkeypatch, store, reader):
    small_generations(monkeypatch, 2)
    names = [f"m{number}" for number in range(23)]
    for position in range(1, 24):
        keep(store, names[position - 1], position=position)
    known = store.load([(ACCOUNT, name) for name in [*names, "unknown"]])

    assert {row[0] for row in apsw_rows(store, "SELECT DISTINCT generation FROM message")} == set(range(6))
    assert {key[1]: each.row for key, each in known.items()} == {name: row for row, name in enumerate(names, 1)}
    assert all(len(each.facts) == 1 for each in known.values())
    for name in names:
        (found,) = reader.find(name, limit=5)
        assert found.message_id == name
        assert len(reader.facts(found)) == 1
        assert reader.find(f"ref-{name}", limit=5) == [found]
        assert [each.message_id for each in reader.messages(Filter(), limit=1, after=name)] == names[
            max(0, names.index(name) - 1) : names.index(name)
        ]


@pytest.mark.parametrize("lost", ["nothing", "filters", "memory"])
def test_messages_are_found_by_filters_that_were_kept_and_by_filters_made_again(monkeypatch, store, lost):
    small_generations(monkeypatch, 3)
    monkeypatch.setattr(sqlite, "ERA_BITS", 1)
    names = [f"m{number}" for number in range(100)]
    keep(store, *names, position=1)
    assert len(store.load([(ACCOUNT, "unknown")])) == 0
    assert apsw_rows(store, "SELECT era FROM era_filter") == [(number,) for number in range(6)]

    if lost == "filters":
        store._db.execute("DELETE FROM era_filter")
    with closing(SqliteStore(store.path) if lost != "nothing" else store) as again:
        assert {key[1] for key in again.load([(ACCOUNT, name) for name in names])} == set(names)


@pytest.mark.parametrize("era_bits", [0, 1, 4])
def test_what_is_new_is_seldom_looked_for(monkeypatch, store, era_bits):
    small_generations(monkeypatch, 8)
    monkeypatch.setattr(sqlite, "ERA_BITS", era_bits)
    keep(store, *(f"m{number}" for number in range(500)), position=1)
    store.load([(ACCOUNT, "unknown")])
    keep(store, *(f"n{number}" for number in range(500)), position=2)
    looked = []
    store._db.set_exec_trace(lambda _cursor, sql, _values: looked.append(sql) or True)
    for number in range(1_000):
        store.load([(ACCOUNT, f"new{number}")])
    looked = [sql for sql in looked if sql == sqlite.queries()["messages_by_key"]]

    # One in a hundred and fifty, in each of four eras, some in two statements; twice that is no surprise.
    assert len(looked) <= 4 * 1_000 / 150 * 2 * 2


def test_a_message_is_known_as_soon_as_it_is_written_in_whatever_era(monkeypatch, store):
    small_generations(monkeypatch, 2)
    monkeypatch.setattr(sqlite, "ERA_BITS", 1)
    names = [f"m{number}" for number in range(60)]
    for position, name in enumerate(names, 1):
        assert store.load([(ACCOUNT, name)]) == {}
        keep(store, name, position=position)
        assert [key[1] for key in store.load([(ACCOUNT, name), (ACCOUNT, "unknown")])] == [name]
    assert {key[1] for key in store.load([(ACCOUNT, name) for name in names])} == set(names)


def test_what_was_not_written_after_all_is_not_known(store):
    store.load([(ACCOUNT, "m1")])
    with pytest.raises(FoldStopped):
        keep(store, "m1", position=5)

    assert store.load([(ACCOUNT, "m1")]) == {}
    keep(store, "m1", position=1)
    assert len(store.load([(ACCOUNT, "m1")])) == 1


def firsts(store, *briefs):
    message_row, receipt_row = store.next_rows()
    firsts = []
    for at, each in enumerate(briefs):
        firsts.append(first_of(1, 1_785_585_600_000_000, each))
        firsts[-1].message_row, firsts[-1].receipt_row = message_row + at, receipt_row + at
    return firsts


def brief(message_id, **told):
    kind = Kind(account=ACCOUNT, api=Api.SMS, channel="sms", status=Status.FAILED, provider_status="failed", **told)
    return Brief(kind, message_id, "447700900000", f"ref-{message_id}", NOON)


def save(store, *briefs, position, messages=(), events=()):
    changes = Changes(firsts=firsts(store, *briefs), messages=list(messages), events=list(events))
    return store.save(changes, epoch=EPOCH, before=position - 1, position=position, at=NOON)


def test_messages_of_ever_more_kinds_say_each_what_its_kind_says(monkeypatch, store, reader):
    monkeypatch.setattr(sqlite, "KINDS_REMEMBERED_MAX", 3)
    for position in range(1, 6):
        with store.transaction():
            save(store, *[brief(f"m{position}-{code}", code=str(code)) for code in range(position)], position=position)

    assert {each.message_id: each.code for each in reader.messages(Filter(), limit=50)} == {
        f"m{position}-{code}": str(code) for position in range(1, 6) for code in range(position)
    }


def test_a_kind_that_was_not_written_after_all_is_told_again(store, reader):
    known, other = brief("m1", code="4"), brief("m2", code="9")
    with store.transaction():
        save(store, known, position=1)
    for number in (known, other):
        with pytest.raises(FoldStopped), store.transaction():
            save(store, number, position=5)
    with store.transaction():
        save(store, other, msgspec.structs.replace(known, message_id="m3"), position=2)

    assert [(each.message_id, each.code) for each in reader.messages(Filter(), limit=9)] == [
        ("m3", "4"),
        ("m2", "9"),
        ("m1", "4"),
    ]


def test_a_message_whose_kind_is_missing_is_refused_and_not_left_out(store, reader):
    known = brief("m1")
    with store.transaction():
        save(store, known, position=1)
    store._db.execute("DELETE FROM temp.kind")
    with pytest.raises(apsw.ConstraintError), store.transaction():
        save(store, msgspec.structs.replace(known, message_id="m2"), position=2)

    with store.transaction():
        save(store, msgspec.structs.replace(known, message_id="m2"), position=2)
    assert [each.message_id for each in reader.messages(Filter(), limit=9)] == ["m2", "m1"]


@pytest.mark.parametrize("row", [1, 3, 4])
def test_messages_that_would_not_have_the_next_numbers_are_refused(store, reader, row):
    keep(store, "m1", position=1)
    messages = [] if row == 1 else [(row, message_of(ACCOUNT, [fact_of("m2")]))]
    changes = Changes(firsts=firsts(store, brief("m3")), messages=messages)
    if row != 4:
        changes.firsts[0].message_row = row

    with pytest.raises(FoldStopped, match="numbered otherwise"), store.transaction():
        store.save(changes, epoch=EPOCH, before=1, position=2, at=NOON)
    assert [each.message_id for each in reader.messages(Filter(), limit=9)] == ["m1"]


@pytest.mark.skipif(sys.platform != "linux", reason="open files are told by /proc")
def test_pages_are_not_copied_for_the_case_that_half_a_statement_fails(store):
    # Many, in several statements, so that what SQLite copies aside would not stay in memory.
    with store.transaction():
        save(store, *[brief(str(uuid4())) for _ in range(3_000)], position=1, events=failures(3_000))
    before = temporary_files()
    with store.transaction():
        new = [brief(str(uuid4())) for _ in range(1_000)]
        known = [(row, message_of(ACCOUNT, [fact_of(str(uuid4()))])) for row in range(1, 3_000, 3)]
        save(store, *new, position=2, messages=known, events=failures(1_000))

        assert temporary_files() == before
        # And that it would be seen.
        store._db.execute(
            f"INSERT INTO message ({rows.MESSAGE_COLUMNS}) "  # noqa: S608 - our names
            f"SELECT id + 9000, generation, random(), {rows.MESSAGE_COLUMNS.partition('key, ')[2]} FROM message"
        )
        assert len(temporary_files()) == len(before) + 1


def failures(count):
    return [Said(EventType.FAILED, ACCOUNT, str(uuid4()), 1, 1, b"") for _ in range(count)]


def fact_of(message_id):
    return Fact(receipt=brief(message_id).receipt, key=b"k" * 16, received_at=NOON)


def temporary_files():
    """What is open here and has no name, as SQLite's temporary files."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(descriptor.readlink()))
    return [link for link in links if link.endswith("(deleted)")]


@pytest.mark.parametrize("bits", [1, 20])
def test_messages_with_equal_hashes_are_told_apart(monkeypatch, store, reader, bits):
    small_generations(monkeypatch, bits)
    for module in (rows, sqlite):
        monkeypatch.setattr(module, "hash_of", lambda _message_id: -7)
    keep(store, "a", "b", position=1)
    keep(store, "c", position=2)
    known = store.load([(ACCOUNT, "a"), (ACCOUNT, "c"), (ACCOUNT, "d")])

    assert {key[1]: each.row for key, each in known.items()} == {"a": 1, "c": 3}
    for name in "abc":
        (found,) = reader.find(name, limit=5)
        assert found.message_id == name
        assert [kept.fact.receipt.message_id for kept in reader.facts(found)] == [name]
        assert [kept.row for kept in reader.facts(found)] == [" abc".index(name)]
    assert reader.find("d", limit=5) == []


def test_a_hash_is_the_same_for_ever_and_fits_a_column():
    # Written down, since rows that are stored would not be found again after a change.
    assert rows.hash_of("0A0000001234567B") == 1743009068192474037
    assert all(-(2**63) <= rows.hash_of(str(number)) < 2**63 for number in range(1_000))


def test_a_full_store_takes_nothing_and_goes_on_afterwards(store, reader):
    keep(store, "before", position=1)
    pages = store._db.pragma("page_count")
    store._db.pragma("max_page_count", pages + 4)
    names = [f"m{number}" for number in range(300)]
    for _ in range(3):
        with pytest.raises(StoreUnable, match="full"):
            keep(store, *names, position=2, detail="x" * 2_000)
    assert [each.message_id for each in reader.messages(Filter(), limit=5)] == ["before"]
    assert store.progress(EPOCH).tally == Tally(received=1, folded=1)

    store._db.pragma("max_page_count", 100_000)
    keep(store, *names, position=2, detail="x" * 2_000)
    assert len(reader.messages(Filter(), limit=1_000)) == 301
    assert store.progress(EPOCH).position == 2


def test_a_held_store_takes_nothing_and_goes_on_afterwards(store):
    store._db.set_busy_timeout(50)
    with closing(apsw.Connection(str(store.path))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnable, match="locked"):
            keep(store, "a", position=1)
        with pytest.raises(StoreUnable, match="locked"):
            store.progress(EPOCH)
        other.execute("ROLLBACK")

    assert keep(store, "a", position=1).position == 1


@pytest.mark.parametrize(
    ("table", "names", "unnamed"),
    [
        ("message", sqlite.MESSAGE_COLUMNS, []),
        ("receipt", sqlite.RECEIPT_COLUMNS, []),
        ("inbound", sqlite.INBOUND_COLUMNS, ["id"]),
    ],
)
def test_the_columns_that_are_named_are_those_of_the_schema(store, table, names, unnamed):
    columns = [row[1] for row in apsw_rows(store, f"PRAGMA table_info({table})")]

    assert columns == unnamed + names.split(", ")


def test_the_views_are_tables_and_every_statement_can_be_prepared(store):
    tables = {row[0] for row in apsw_rows(store, "SELECT name FROM sqlite_schema WHERE type = 'table'")}

    assert set(sqlite.VIEWS) <= tables
    for name, sql in sqlite.queries().items():
        nulls = ",".join(["NULL"] * (sql.split("VALUES {rows}")[0].count(",") + 1))
        whole = sql.replace("{rows}", f"({nulls})").replace("{of}", "network")
        whole = whole.replace("{by}", "").replace("{sought}", "")
        assert apsw_rows(store, "EXPLAIN " + whole, _Anything()), name


class _Anything(dict):
    def __missing__(self, _name):
        return None


def test_no_search_by_key_reads_a_whole_table(store):
    for name in (
        "messages_by_key",
        "keys_of_era",
        "filter",
        "receipts_by_message",
        "inbound_by_key",
        "messages_by_id",
        "messages_by_row",
    ):
        plan = [row[3] for row in apsw_rows(store, "EXPLAIN QUERY PLAN " + sqlite.queries()[name], _Anything())]
        assert not [step for step in plan if step.startswith("SCAN") and "json_each" not in step], name
        assert name != "keys_of_era" or "COVERING INDEX" in plan[0]


@pytest.mark.parametrize("how", sqlite.SOUGHT)
def test_a_list_is_read_from_an_index(store, how):
    by, sought = sqlite.SOUGHT[how]
    query = sqlite.queries()["list_messages"].replace("{by}", by).replace("{sought}", sought)
    plan = [row[3] for row in apsw_rows(store, "EXPLAIN QUERY PLAN " + query, _Anything())]

    assert [step for step in plan if f"USING INDEX message_by_{how}" in step]
    assert not [step for step in plan if step.startswith("SCAN message")]


def test_a_rebuilt_stores_views_take_the_place_of_the_old_ones_and_nothing_else_is_touched(tmp_path, store, reader):
    keep(store, "old", position=1)
    store._db.execute("CREATE TABLE outbox (event TEXT) STRICT; INSERT INTO outbox VALUES ('said')")
    built = tmp_path / "built.db"
    with closing(SqliteStore(built)) as fresh:
        fresh.progress(EPOCH)
        keep(fresh, "new", "newer", position=1)
    expected = views(built)

    store.replace_views(built)

    assert views(store.path) == expected
    assert apsw_rows(store, "SELECT event FROM outbox") == [("said",)]
    assert sorted(each.message_id for each in reader.messages(Filter(), limit=5)) == ["new", "newer"]
    keep(store, "newest", position=2)


def test_a_rebuild_that_does_not_fit_leaves_the_old_views(tmp_path, store, reader):
    keep(store, "old", position=1)
    before = views(store.path)
    built = tmp_path / "built.db"
    with closing(SqliteStore(built)) as fresh:
        fresh.progress(EPOCH)
        keep(fresh, *(f"m{number}" for number in range(300)), position=1, detail="x" * 2_000)
    store._db.pragma("max_page_count", store._db.pragma("page_count") + 4)

    with pytest.raises(StoreUnable, match="full"):
        store.replace_views(built)

    assert views(store.path) == before
    assert [each.message_id for each in reader.messages(Filter(), limit=5)] == ["old"]
    keep(store, "new", position=2)


def test_no_read_is_left_open(store, reader):
    keep(store, *(f"m{number}" for number in range(20)), position=1)
    (found,) = reader.find("m3", limit=1)
    assert reader.messages(Filter(), limit=3)
    assert reader.facts(found)
    assert reader.receipts_after(0, 3)
    assert reader.outcomes()
    assert reader.progress() is not None
    keep(store, "more", position=2)

    # A reader that were still at work would make this one busy.
    assert store._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE) == (0, 0)


def apsw_rows(store, sql, bindings=None):
    return list(store._db.execute(sql, bindings))


def views(path):
    with closing(apsw.Connection(str(path))) as db:
        return {table: sorted(db.execute(f"SELECT * FROM {table}"), key=repr) for table in sqlite.VIEWS}  # noqa: S608
