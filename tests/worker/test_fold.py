"""The fold: any order, any repetition, any batches, any crash between them, and the views are the same."""

import shutil
import tempfile
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import apsw
import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from landed import run
from landed.domain.lifecycle import Fact, brief_key, message_of, receipt_key
from landed.domain.moments import microseconds, moment
from landed.domain.receipt import Inbound, Outcome, Receipt, Status
from landed.domain.rollups import cell_of, cells_of_firsts, counted, days_of
from landed.errors import FoldStopped, StoreUnable
from landed.journal.record import (
    Ids,
    IntentRecord,
    NotSentRecord,
    RequestRecord,
    SentRecord,
    TickRecord,
    decode_told,
    encode,
)
from landed.journal.sqlite import SqliteJournal
from landed.store import Changes, Filter, Kept, Tally
from landed.store.firsts import first_of
from landed.store.sqlite import VIEWS, SqliteReader, SqliteStore
from landed.vonage.parse import Coverage, Trust, read
from landed.vonage.usual import read_usual
from landed.worker.fold import BYTES_A_BATCH, RECORDS_A_BATCH, Fold

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
NOON_US = microseconds(NOON)
IDS = Ids()
ACCOUNT = "default"
FOR_EVER = 2**62


# Records, as the gate and the sending side write them.


def request(*, query=b"", body=b"", account=ACCOUNT, verified=True, stale=False, received_us=NOON_US, **fields):
    coverage = "nothing" if not verified else "body" if body.startswith((b"{", b"[")) and not query else "parameters"
    about = {
        "id": IDS.next(),
        "at_us": received_us,
        "received_us": received_us,
        "account": account,
        "api_key": "abcd1234" if verified else None,
        "coverage": coverage,
        "verified": verified,
        "stale": stale,
        "answer": 200,
        "method": "POST" if body else "GET",
        "path": "/webhooks/message-status",
        "query": query,
        "headers": ((b"content-type", b"application/json"),),
        "body": body,
    }
    return RequestRecord(**(about | fields))


def status(message_id, word, **fields):
    """A Messages API status."""
    about = {"message_uuid": message_id, "channel": "sms", "status": word, "timestamp": "2026-08-01T12:00:00Z"}
    trust = {name: fields.pop(name) for name in ("account", "verified", "stale", "received_us") if name in fields}
    return request(body=msgspec.json.encode(about | fields), **trust)


def receipt(message_id, word, *, style="query", **fields):
    """An SMS API receipt, by GET, as JSON or as a form."""
    trust = {name: fields.pop(name) for name in ("account", "verified", "stale", "received_us") if name in fields}
    about = {"messageId": message_id, "msisdn": "491701234567", "to": "ACME", "status": word, "err-code": "0"}
    about |= {"scts": "2608011200"} | {name.replace("_", "-"): value for name, value in fields.items()}
    if style == "json":
        return request(body=msgspec.json.encode(about), coverage="parameters", **trust)
    encoded = urlencode(about).encode()
    return request(**{"query" if style == "query" else "body": encoded}, coverage="parameters", **trust)


def sent(message_id, **fields):
    about = {"id": IDS.next(), "at_us": NOON_US, "account": ACCOUNT, "message_id": message_id, "api": "messages"}
    about |= {"channel": "sms", "to": "491701234567", "sender": "ACME", "client_ref": None, "sent_us": NOON_US}
    return SentRecord(**(about | fields))


def inbound(message_id, text, *, received_us=NOON_US, verified=True, **fields):
    about = {"message_uuid": message_id, "channel": "sms", "message_type": "text", "text": text, "from": "491701234567"}
    return request(body=msgspec.json.encode(about | fields), received_us=received_us, verified=verified)


message_ids = st.sampled_from(["m1", "m2", "M1"])
accounts = st.sampled_from([ACCOUNT, "other"])
received = st.sampled_from([0, 1, 2, 3, 3_600, 90_000]).map(lambda seconds: NOON_US + seconds * 1_000_000)
times = st.sampled_from(["2026-08-01T12:00:00Z", "2026-08-01T12:00:01.5Z", "2026-08-01 12:00:02", "odd", ""])
trusts = st.fixed_dictionaries(
    {"account": accounts, "received_us": received, "verified": st.booleans(), "stale": st.booleans()}
)
statuses = st.builds(
    lambda message_id, word, trust, fields: status(message_id, word, **trust, **fields),
    message_ids,
    st.sampled_from(["submitted", "delivered", "rejected", "undeliverable", "read", "seen"]),
    trusts,
    st.fixed_dictionaries(
        {},
        optional={
            "timestamp": times,
            "to": st.sampled_from(["491701234567", "491707654321"]),
            "client_ref": st.sampled_from(["order-1", "order-2"]),
            "error": st.sampled_from([{"title": "1000"}, {"title": 1360, "detail": "Expired"}]),
            "usage": st.sampled_from([{"price": "0.0333", "currency": "EUR"}, {"price": ""}]),
            "destination": st.sampled_from([{"network_code": "26201"}, {"network_code": "23410"}]),
            "sms": st.sampled_from([{"count_total": "2"}, {"segments": [{"status": "delivered"}]}]),
            "workflow": st.just({"id": "w", "items_number": "1", "items_total": "2"}),
        },
    ),
)
sms_receipts = st.builds(
    lambda message_id, word, trust, fields: receipt(message_id, word, **trust, **fields),
    message_ids,
    st.sampled_from(["accepted", "buffered", "delivered", "expired", "failed", "unknown", "odd"]),
    trusts,
    st.fixed_dictionaries(
        {"style": st.sampled_from(["query", "form", "json"])},
        optional={
            "scts": st.sampled_from(["2608011200", "2608011201", ""]),
            "err_code": st.sampled_from(["1", "9", "99"]),
            "price": st.sampled_from(["0.03330000", "-1", ""]),
            "message_timestamp": times,
            "client_ref": st.sampled_from(["order-1", "order-2"]),
            "nonce": st.sampled_from(["a", "b"]),
        },
    ),
)
sents = st.builds(
    lambda message_id, part, **fields: sent(message_id, **part, **fields),
    message_ids,
    st.sampled_from([{}, {"group": "m1", "part": 1, "parts": 2}, {"group": "m1", "part": 2, "parts": 2}]),
    account=accounts,
    at_us=received,
    sent_us=received,
    client_ref=st.sampled_from([None, "order-1"]),
    api=st.sampled_from(["messages", "sms"]),
    intent=st.sampled_from([b"", b"intent 1", b"intent 2"]),
)
intents = st.builds(
    lambda **fields: IntentRecord(channel="sms", to="491701234567", sender="ACME", **fields),
    id=st.sampled_from([b"intent 1", b"intent 2"]),
    account=accounts,
    at_us=received,
    api=st.sampled_from(["messages", "sms"]),
    client_ref=st.sampled_from(["order-1", "order-2"]),
    number=st.integers(0, 2),
)
not_sents = st.builds(
    NotSentRecord,
    id=st.builds(IDS.next),
    intent=st.sampled_from([b"intent 1", b"intent 2"]),
    account=accounts,
    at_us=received,
    unclear=st.booleans(),
    reason=st.sampled_from(["", "throttled"]),
    detail=st.sampled_from(["no answer", "slower"]),
)
inbounds = st.builds(
    lambda message_id, text, fields: inbound(message_id, text, **fields),
    message_ids,
    st.sampled_from(["Hello", "STOP"]),
    st.fixed_dictionaries(
        {"received_us": received, "verified": st.booleans()}, optional={"timestamp": times, "channel": st.just("mms")}
    ),
)
unreadables = st.builds(
    lambda body, received_us: request(body=body, received_us=received_us),
    st.sampled_from([b"hello", b"{}", b'{"status": "delivered"}', b"\xff\xfe", b'{"message_uuid": "m1"}']),
    received,
)
several = st.builds(
    lambda first, second, trust: request(body=b"[" + first.body + b"," + second.body + b"]", **trust),
    statuses,
    statuses | inbounds,
    trusts,
)
ticks = st.builds(lambda at_us: TickRecord(id=IDS.next(), at_us=at_us), received)
records = st.lists(
    st.one_of(
        *(statuses, statuses, sms_receipts, sms_receipts, sents, intents, not_sents, inbounds, unreadables, several),
        ticks,
    ),
    max_size=14,
)


# A place to fold in, and all that is in it.


class Place:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.journal = SqliteJournal(run.journal_path(self.directory))
        self.heard = []

    def append(self, *several):
        return self.journal.append([encode(record) for record in several])

    @contextmanager
    def folding(self, **options):
        with closing(SqliteStore(run.store_path(self.directory))) as store:
            yield Fold(self.journal, store, self.heard.extend, **options)

    def fold(self, **options):
        with self.folding(**options) as fold:
            return caught_up(fold).progress.tally

    def message(self, message_id):
        with closing(SqliteReader(run.store_path(self.directory))) as reader:
            (message,) = reader.find(message_id, limit=5)
            return message, reader.facts(message)

    def views(self):
        with closing(apsw.Connection(str(run.store_path(self.directory)))) as db:
            return {table: list(db.execute(f"SELECT * FROM {table} ORDER BY 1")) for table in VIEWS}  # noqa: S608

    def what_is_known(self):
        """The views without what depends on arrival: row numbers, positions and counts of copies."""
        with closing(apsw.Connection(str(run.store_path(self.directory)))) as db:
            messages = {row["id"]: row for row in _rows(db, "message")}
            receipts = _rows(db, "receipt")
            for row in receipts:
                message = messages[row.pop("message")]
                row |= {"of": (message["account"], message["message_id"])}
            inbound = _rows(db, "inbound")
            unreadable = {(row["received_us"], row["reason"]) for row in _rows(db, "unreadable")}
            rollup = _rows(db, "rollup")
        for row in (*messages.values(), *receipts, *inbound):
            for name in ("id", "generation", "position", "first_position", "copies"):
                row.pop(name, None)
        return (_set(messages.values()), _set(receipts), _set(inbound), unreadable, _set(rollup))

    def rollup(self):
        """What is counted by the hour, and what a recount of the messages gives."""
        with closing(apsw.Connection(str(run.store_path(self.directory)))) as db:
            kept = {tuple(row[1:-1]): row[-1] for row in db.execute("SELECT * FROM rollup WHERE span = 1")}
            days = {tuple(row[1:-1]): row[-1] for row in db.execute("SELECT * FROM rollup WHERE span = 24")}
        with closing(SqliteReader(run.store_path(self.directory))) as reader:
            recounted = counted(reader.messages(Filter(), limit=10_000))
        assert days == days_of(kept)
        return kept, recounted


def caught_up(fold):
    while fold.step():
        pass
    return fold


def _rows(db, table):
    cursor = db.execute(f"SELECT * FROM {table}")  # noqa: S608 - our own names
    return [dict(zip((each[0] for each in cursor.getdescription()), row, strict=True)) for row in cursor]


def _set(rows):
    rows = list(rows)
    distinct = {tuple(sorted(row.items(), key=lambda item: item[0])) for row in rows}
    assert len(distinct) == len(rows)
    return distinct


@contextmanager
def a_place(*several):
    with tempfile.TemporaryDirectory() as directory:
        place = Place(directory)
        with closing(place.journal):
            place.append(*several)
            yield place


@contextmanager
def a_copy(place):
    """The same data in another directory."""
    with tempfile.TemporaryDirectory() as directory:
        for file in place.directory.iterdir():
            shutil.copy(file, directory)
        again = Place(directory)
        with closing(again.journal):
            yield again


@pytest.fixture
def place():
    with a_place() as place:
        yield place


def requests_in(several):
    return sum(isinstance(record, RequestRecord) for record in several)


def facts_of(kept):
    return [each.fact.receipt for each in kept]


# What must always hold.


@settings(max_examples=150, deadline=None)
@given(records=records, data=st.data())
def test_any_order_any_repetition_and_any_batches_give_the_same_messages_receipts_and_inbound(records, data):
    repeats = data.draw(st.lists(st.sampled_from(records), max_size=8) if records else st.just([]))
    shuffled = data.draw(st.permutations(records + repeats))
    with a_place(*records) as once, a_place(*shuffled) as again:
        first = once.fold()
        second = again.fold(records_a_batch=data.draw(st.integers(1, 6)))
        assert again.what_is_known() == once.what_is_known()

    assert (first.received, second.received) == (requests_in(records), requests_in(shuffled))
    assert first.is_even
    assert second.is_even


@settings(max_examples=80, deadline=None)
@given(records=records, more=records, data=st.data())
def test_a_rebuild_gives_exactly_the_views_that_grew(records, more, data):
    with a_place(*records) as place:
        # Each time as after a crash: the store opened anew, other batches.
        place.fold(records_a_batch=data.draw(st.integers(1, 5)))
        place.append(*more, *data.draw(st.lists(st.sampled_from(records), max_size=3) if records else st.just([])))
        with place.folding(records_a_batch=data.draw(st.integers(1, 5))) as fold:
            fold.step()
        tally = place.fold(records_a_batch=data.draw(st.integers(1, 5)))
        grown = place.views()

        assert run.rebuild(place.directory, lambda _position, _last: None) == (tally, 0)
        assert place.views() == grown
        assert not list(place.directory.glob(f"{run.REBUILD_FILE}*"))


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(records, min_size=1, max_size=4), data=st.data())
def test_a_rebuild_after_any_retirements_gives_exactly_the_views_that_grew_and_an_even_ledger(parts, data):
    told = []
    with a_place() as place:
        for part in parts:
            repeats = data.draw(st.lists(st.sampled_from(told), max_size=4) if told else st.just([]))
            told += part
            end = place.append(*part, *repeats)
            place.fold(records_a_batch=data.draw(st.integers(1, 5)))
            place.journal.retire(data.draw(st.integers(0, end)), FOR_EVER)
        # Some wait when the rebuild begins, and repeat what is retired or was folded behind it.
        waiting = data.draw(st.lists(st.sampled_from(told), max_size=4) if told else st.just([]))
        place.append(*waiting, *data.draw(records))
        with a_copy(place) as again:
            tally = place.fold()
            grown = place.views()
            sealed = len({row[1] for row in grown["receipt"] if row[-1] <= place.journal.retired().position})

            for _ in range(2):
                assert run.rebuild(again.directory, lambda _position, _last: None) == (tally, sealed)
                assert again.views() == grown
            assert not list(again.directory.glob(f"{run.REBUILD_FILE}*"))

            later = data.draw(st.lists(st.sampled_from(told), max_size=3) if told else st.just([]))
            for each in (place, again):
                end = each.append(*later, TickRecord(id=IDS.next(), at_us=1))
                assert each.fold().received == each.journal.count_requests(0, end)
            assert again.views() == place.views()
            assert place.fold().is_even


@settings(max_examples=60, deadline=None)
@given(records=records)
def test_whoever_listens_hears_each_request_once_and_with_the_ledgers_words(records):
    with a_place(*records) as place:
        tally = place.fold(records_a_batch=3)
        unreadable = [each for each in place.heard if each.unreadable is not None]

        assert len(place.heard) == tally.received
        assert len(unreadable) == tally.unreadable
        assert sum(each.new for each in place.heard) == tally.folded + tally.unreadable
        assert all(isinstance(fact, Receipt | Inbound) for each in place.heard for fact in each.facts)
        assert [each.position for each in place.heard] == sorted(each.position for each in place.heard)


# Copies.


def test_a_retry_of_an_sms_receipt_is_a_copy_although_its_push_differs(place):
    pushes = [
        {"message_timestamp": "2026-08-01 12:00:00", "timestamp": "1785585600", "nonce": "a", "sig": "1" * 32},
        {"message_timestamp": "2026-08-01 12:00:05", "timestamp": "1785585605", "nonce": "b", "sig": "2" * 32},
        {"message_timestamp": "2026-08-01 13:00:00", "timestamp": "1785589200", "nonce": "c", "sig": "3" * 32},
    ]
    place.append(*(receipt("m1", "delivered", style=style, **pushes[0]) for style in ("query", "form", "json")))
    place.append(*(receipt("m1", "delivered", **push) for push in pushes[1:]))
    tally = place.fold()
    message, facts = place.message("m1")

    assert tally == Tally(received=5, folded=1, duplicate=4)
    assert (message.receipts, message.status) == (1, Status.DELIVERED)
    assert [each.fact.copies for each in facts] == [5]


@pytest.mark.parametrize("records_a_batch", [1, 2, 100])
def test_copies_that_come_together_are_one_receipt(place, records_a_batch):
    place.append(*(status("m1", "delivered") for _ in range(7)), *(inbound("i1", "Hello") for _ in range(5)))
    tally = place.fold(records_a_batch=records_a_batch)
    message, facts = place.message("m1")

    assert tally == Tally(received=12, folded=2, duplicate=10)
    assert message.receipts == 1
    assert [each.fact.copies for each in facts] == [7]
    assert [row[3] for row in place.views()["inbound"]] == [5]


@pytest.mark.parametrize("records_a_batch", [1, 100])
@pytest.mark.parametrize("verified", [(True, False), (False, True)], ids=["signed-first", "signed-later"])
def test_of_copies_the_signed_one_stands_whenever_it_comes(place, verified, records_a_batch):
    for at, each in enumerate(verified):
        sender = "ACME" if each else "FORGED"
        place.append(receipt("m1", "delivered", to=sender, verified=each, received_us=NOON_US + at * 1_000_000))
        place.append(inbound("i1", "Hello", verified=each, received_us=NOON_US + at * 1_000_000))
    tally = place.fold(records_a_batch=records_a_batch)
    message, (kept,) = place.message("m1")

    assert tally == Tally(received=4, folded=2, duplicate=2)
    assert (message.verified, message.sender, message.receipts) == (True, "ACME", 1)
    assert (kept.fact.receipt.verified, kept.fact.copies, kept.fact.received_at) == (True, 2, NOON)
    assert kept.position == (1 if verified[0] else 3)
    with closing(SqliteReader(run.store_path(place.directory))) as reader:
        assert reader.messages(Filter(), limit=5) == [message]
    (row,) = place.views()["inbound"]
    assert row[16] == 1


def test_an_unverified_claim_never_outweighs_a_verified_one(place):
    place.append(status("m1", "delivered", verified=False), status("m1", "rejected", error={"title": "1000"}))
    place.fold()
    message, facts = place.message("m1")

    assert (message.outcome, message.verified, message.conflict) == (Outcome.FAILED, True, True)
    assert len(facts) == 2


@pytest.mark.parametrize("words", [("delivered", "submitted"), ("read", "delivered", "submitted")])
def test_a_late_receipt_moves_nothing_back(place, words):
    for word in words:
        place.append(status("m1", word))
        place.fold()

    assert place.message("m1")[0].provider_status == words[0]


@pytest.mark.parametrize("sent_first", [True, False])
def test_a_receipt_needs_no_message_and_a_late_send_joins_it(place, sent_first):
    both = [sent("m1", client_ref="order-7", sent_us=NOON_US - 2_000_000), status("m1", "delivered")]
    for record in both if sent_first else reversed(both):
        place.append(record)
        place.fold()
    message, facts = place.message("m1")

    assert message.outcome is Outcome.DELIVERED
    assert (message.client_ref, message.receipts, message.latency_ms) == ("order-7", 1, 2_000)
    assert sorted(each.fact.source for each in facts) == ["sent", "webhook"]


def test_one_message_id_in_two_accounts_is_two_messages(place):
    place.append(status("m1", "delivered"), status("m1", "rejected", account="other"))
    place.fold()
    with closing(SqliteReader(run.store_path(place.directory))) as reader:
        outcomes = {each.account: each.outcome for each in reader.find("m1", limit=5)}

    assert outcomes == {ACCOUNT: Outcome.DELIVERED, "other": Outcome.FAILED}


def test_what_cannot_be_read_is_counted_and_named_and_stops_nothing(place):
    place.append(request(body=b"hello"), status("m1", "delivered"), request(body=b"{}"))
    tally = place.fold()

    assert tally == Tally(received=3, folded=1, unreadable=2)
    assert [row[0] for row in place.views()["unreadable"]] == [1, 3]
    assert all(row[2] for row in place.views()["unreadable"])


# Batches and positions.


def test_a_mistake_of_ours_in_reading_one_request_holds_up_no_other(place, monkeypatch):
    def mistaken(asked, trust):
        if b"poison" in asked.body:
            raise ZeroDivisionError
        return read(asked, trust)

    monkeypatch.setattr("landed.worker.fold.read", mistaken)
    place.append(status("a", "delivered"), status("poison", "delivered"), status("b", "delivered"))
    assert place.fold() == Tally(received=3, folded=2, unreadable=1)
    assert [row[2] for row in place.views()["unreadable"]] == ["our-mistake"]


def test_a_batch_ends_at_a_count_or_at_a_size(place):
    place.append(*(request(body=b"x" * 1_000) for _ in range(20)))
    with place.folding(records_a_batch=3) as fold:
        assert (fold.step(), fold.was_full) == (3, True)
    with place.folding(bytes_a_batch=4_000) as fold:
        assert (fold.step(), fold.was_full) == (4, True)
    with place.folding() as fold:
        assert (fold.step(), fold.was_full) == (13, False)
        assert (fold.step(), fold.was_full) == (0, False)
    assert (RECORDS_A_BATCH, BYTES_A_BATCH) == (2_000, 4 * 1024 * 1024)


def test_progress_has_the_time_of_the_last_record(place):
    last_at = NOON + timedelta(seconds=3)
    place.append(status("m1", "delivered", received_us=NOON_US + 9_000_000))
    place.append(TickRecord(id=IDS.next(), at_us=microseconds(last_at)))
    with place.folding() as fold:
        fold.step()

        assert (fold.progress.position, fold.progress.at) == (2, last_at)
        assert fold.progress.at == moment(microseconds(last_at))


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\xff" * 40, encode(sent("m1"))[:-1]], ids=["empty", "nul", "no record", "cut short"]
)
def test_a_damaged_record_stops_the_fold_loudly_and_nothing_of_its_batch_is_written(place, data):
    place.append(status("m1", "delivered"))
    place.fold()
    place.append(status("m2", "delivered"))
    bad = place.journal.append([data])
    before = place.views()

    with place.folding() as fold:
        for _ in range(2):
            with pytest.raises(FoldStopped, match=f"Record {bad} "):
                fold.step()

    assert place.views() == before


@pytest.mark.parametrize(
    "fields", [{"kind": "intent"}, {"coverage": "everything"}, {"api": "voice"}], ids=["kind", "coverage", "api"]
)
def test_a_record_that_only_a_newer_landed_understands_stops_the_fold_loudly(place, fields):
    kind = "request" if "coverage" in fields else "sent"
    record = msgspec.msgpack.decode(encode(status("m1", "delivered") if kind == "request" else sent("m1")))
    if "kind" in fields:
        record[0] = fields["kind"]
    else:
        name = next(iter(fields))
        names = (RequestRecord if kind == "request" else SentRecord).__struct_fields__
        record[1 + names.index(name)] = fields[name]
    place.journal.append([msgspec.msgpack.encode(record)])

    with place.folding() as fold, pytest.raises(FoldStopped, match="newer landed"):
        fold.step()


def test_two_folds_cannot_both_go_on(place):
    place.append(status("m1", "delivered"))
    with place.folding() as one, place.folding() as other:
        assert one.step() == 1
        with pytest.raises(FoldStopped, match="only one worker"):
            other.step()
        place.append(status("m2", "delivered"))
        assert one.step() == 1

    assert place.fold() == Tally(received=2, folded=2)


def test_a_position_beyond_the_journals_end_stops_the_fold_until_a_rebuild(place):
    place.append(*(status(f"m{number}", "delivered") for number in range(5)))
    place.fold()
    with closing(apsw.Connection(str(run.journal_path(place.directory)))) as db:
        # As a copy taken before the last two would be: the same epoch, an earlier end.
        db.execute("DELETE FROM record WHERE position > 3")

    with pytest.raises(FoldStopped, match=r"up to record 5, but the journal ends at 3.*landed rebuild"):
        place.fold()

    run.rebuild(place.directory, lambda _position, _last: None)
    place.append(status("m9", "delivered"))
    assert place.fold() == Tally(received=4, folded=4)


def test_another_journal_stops_the_fold_until_a_rebuild(place):
    place.append(status("m1", "delivered"))
    place.fold()
    place.journal.close()
    for file in place.directory.glob("journal.db*"):
        file.unlink()
    place.journal = SqliteJournal(run.journal_path(place.directory))
    place.append(status("m2", "delivered"))

    with pytest.raises(FoldStopped, match=r"another journal.*landed rebuild"):
        place.fold()

    run.rebuild(place.directory, lambda _position, _last: None)
    place.append(status("m3", "delivered"))
    assert place.fold() == Tally(received=2, folded=2)
    assert [row[4] for row in place.views()["message"]] == ["m2", "m3"]


def test_retired_records_leave_no_hole_for_the_fold(place):
    place.append(*(status(f"m{number}", "delivered") for number in range(5)))
    with closing(apsw.Connection(str(run.journal_path(place.directory)))) as db:
        db.execute("DELETE FROM record WHERE position IN (1, 2, 4)")

    with place.folding(records_a_batch=1) as fold:
        caught_up(fold)
        assert fold.progress.position == 5
        assert fold.progress.tally == Tally(received=2, folded=2)


def test_a_fold_that_was_refused_by_a_full_store_goes_on_where_it_was(place):
    place.append(*(status(f"m{number}", "delivered", client_ref="x" * 500) for number in range(300)))
    with closing(SqliteStore(run.store_path(place.directory))) as store:
        fold = Fold(place.journal, store, place.heard.extend, records_a_batch=100)
        fold.step()
        pages = store._db.pragma("page_count")  # noqa: SLF001 - the limit belongs to the connection
        store._db.pragma("max_page_count", pages + 2)  # noqa: SLF001
        for _ in range(3):
            with pytest.raises(StoreUnable):
                fold.step()
        assert (fold.progress.position, len(place.heard)) == (100, 100)

        store._db.pragma("max_page_count", 1_000_000)  # noqa: SLF001
        caught_up(fold)
        assert fold.progress.tally == Tally(received=300, folded=300)
    assert len(place.heard) == 300


# The short ways.


@settings(max_examples=200, deadline=None)
@given(record=st.one_of(statuses, sms_receipts))
def test_a_first_receipt_gives_the_rows_that_a_join_of_one_fact_gives(record):
    trust = Trust(coverage=Coverage(record.coverage), verified=record.verified, stale=record.stale, api_key="abcd1234")
    brief = read_usual(ACCOUNT, record, trust)
    assume(brief is not None)
    receipt = brief.receipt
    key, position, row = receipt_key(ACCOUNT, receipt), 5, 1
    fact = Fact(receipt=receipt, key=key, received_at=moment(record.received_us))
    first = first_of(position, record.received_us, brief)
    first.message_row, first.receipt_row = row, 4
    joined = (row, Kept(row=4, position=position, first_position=position, fact=fact))

    short = saved(Changes(firsts=[first]))

    message = message_of(ACCOUNT, [fact])
    assert short == saved(Changes(messages=[(row, message)], facts=[joined]))
    assert [len(rows) for rows in short.values()] == [1, 1, 0, 0, 0, 1, 0, 0, 1]
    assert cells_of_firsts([(record.received_us, brief.kind, brief.to)] * 2) == {cell_of(message): 2}
    assert brief_key(brief) == key


@settings(max_examples=200, deadline=None)
@given(records=records, data=st.data())
def test_the_rollup_is_what_a_recount_of_the_messages_gives(records, data):
    with a_place() as place, place.folding(records_a_batch=data.draw(st.integers(1, 6))) as fold:
        for start in range(0, len(records), 4):
            place.append(*records[start : start + 4])
            caught_up(fold)
            kept, recounted = place.rollup()

            assert kept == recounted


@settings(max_examples=100, deadline=None)
@given(records=records, data=st.data())
def test_whether_anybody_listens_changes_nothing(records, data):
    records_a_batch = data.draw(st.integers(1, 6))
    with a_place(*records) as heard, a_place(*records) as unheard:
        tally = heard.fold(records_a_batch=records_a_batch)
        with closing(SqliteStore(run.store_path(unheard.directory))) as store:
            alone = caught_up(Fold(unheard.journal, store, records_a_batch=records_a_batch))

        assert alone.progress.tally == tally
        assert _without_epoch(unheard.views()) == _without_epoch(heard.views())


def test_a_request_is_read_back_with_every_field_but_its_headers():
    record = status("m1", "delivered")
    told = decode_told(encode(record))

    assert type(told).__struct_fields__ == type(record).__struct_fields__
    assert msgspec.msgpack.decode(told.headers, type=tuple[tuple[bytes, bytes], ...]) == record.headers
    for name in set(record.__struct_fields__) - {"headers"}:
        assert getattr(told, name) == getattr(record, name)


def saved(changes):
    with a_place() as place, closing(SqliteStore(run.store_path(place.directory))) as store:
        store.progress("epoch")
        with store.transaction():
            store.save(changes, epoch="epoch", before=0, position=9, at=NOON)
        return place.views()


def _without_epoch(views):
    return views | {"fold": [row[2:] for row in views["fold"]]}
