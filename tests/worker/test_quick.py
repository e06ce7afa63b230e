"""Reading records by compiled code: whatever it reads says what is said of it where nothing is compiled."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landed.domain.brief import Brief
from landed.errors import FoldStopped, Unreadable
from landed.journal.record import Ids, RequestRecord, SentRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.store import First
from landed.store.sqlite import SqliteStore
from landed.vonage.values import read_time
from landed.worker import fold
from landed.worker.fold import Fold, quickest, read_record

compiled = pytest.mark.skipif(quickest() is read_record, reason="landed was not compiled: there was no C compiler")
can_compile = shutil.which("cc") is not None and Path(sysconfig.get_path("include"), "Python.h").exists()

NOON_US = 1_785_585_600_000_000
IDS = Ids()
STATUS = {
    "message_uuid": "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab",
    "to": "447700900000",
    "from": "447700900001",
    "timestamp": "2025-02-03T12:14:25Z",
    "status": "delivered",
    "channel": "sms",
    "client_ref": "order-1",
    "usage": {"currency": "EUR", "price": "0.0333"},
    "destination": {"network_code": "12345"},
}
RECEIPT = {
    "msisdn": "447700900001",
    "to": "AcmeInc",
    "network-code": "23410",
    "messageId": "0A0000001234567B",
    "price": "0.03330000",
    "status": "delivered",
    "scts": "2001011400",
    "err-code": "0",
    "api-key": "abcd1234",
    "client-ref": "order-1",
    "message-timestamp": "2020-01-01 12:00:00",
    "timestamp": "1795945435",
    "nonce": "e7304129-628b-49a7-b47a-d5e5a492f7c3",
    "sig": "5505FC01",
}
HEADERS = ((b"Host", b"receipts.example"), (b"Authorization", b"Bearer " + b"x" * 400))


def request(body=b"", query=b"", **told):
    about = {
        "id": IDS.next(),
        "at_us": NOON_US,
        "received_us": NOON_US,
        "account": "default",
        "api_key": "abcd1234",
        "coverage": "body" if body[:1] == b"{" else "parameters",
        "verified": True,
        "stale": False,
        "answer": 200,
        "method": "POST",
        "path": "/webhooks/message-status",
        "query": query,
        "headers": HEADERS,
        "body": body,
        "peer": "127.0.0.1",
    }
    return encode(RequestRecord(**about | told))


def status(told=None, **fields):
    return request(json.dumps(STATUS | fields).encode(), **told or {})


def receipt(told=None, *, in_body=False, **fields):
    encoded = urlencode(RECEIPT | {name.replace("_", "-"): value for name, value in fields.items()}).encode()
    return request(**{"body" if in_body else "query": encoded}, **told or {})


def sent(sent_us):
    told = {"id": IDS.next(), "at_us": NOON_US, "account": "default", "message_id": "m", "api": "sms", "channel": "sms"}
    return encode(SentRecord(**told, to="447700900000", sender="AcmeInc", client_ref=None, sent_us=sent_us))


class Quick:
    """A reader with what it was taught; `took` says whether it reads something by itself."""

    def __init__(self, *lessons):
        from landed.worker.quick import QuickReader  # noqa: PLC0415 - it need not be there

        self.asked = 0
        self.reader = QuickReader(self._asked)
        for lesson in lessons:
            self.read(lesson)

    def _asked(self, position, data):
        self.asked += 1
        return read_record(position, data)

    def read(self, data):
        return self.reader.read(7, data)

    def took(self, data):
        before = self.asked
        assert essence(self.read, data) == essence(plainly, data)
        return self.asked == before


def plainly(data):
    return read_record(7, data)


def essence(read, data):
    """All that is said of a record, or that it stops the fold."""
    try:
        told = read(data)
    except FoldStopped as stopped:
        return str(stopped)
    if isinstance(told, First):
        return msgspec.structs.astuple(told)[:2], told.receipt, told.kind.account, told.key, told.hash
    position, record, facts = told
    return position, record, str(facts) if isinstance(facts, Unreadable) else facts


@pytest.mark.skipif(not can_compile and "NOTHING_SKIPPED" not in os.environ, reason="there is no C compiler for Python")
def test_where_there_is_a_compiler_it_is_compiled():
    assert quickest() is not read_record


LESSONS = {"status": status(), "query": receipt(), "form": receipt(in_body=True)}
TAUGHT = list(LESSONS.values())


@compiled
@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_what_came_before_is_read_by_itself_and_the_first_one_was_not(lesson):
    quick = Quick()

    assert [quick.took(lesson) for _ in range(3)] == [False, True, True]


@compiled
@pytest.mark.parametrize(
    "record",
    [
        status(message_uuid="m-2", to="33700000000", client_ref="order-2", timestamp="2026-01-01T00:00:00.000Z"),
        status(timestamp="2025-02-03T12:14:25+02:00"),
        status(client_ref="a:b,c;d'<é>"[:9]),
        status({"received_us": NOON_US + 1, "peer": "2001:db8::1", "accepted_by": "someone", "id": IDS.next()}),
        status({"headers": HEADERS * 20, "query": b"a=b"}),
        status({"headers": ()}),
        receipt(messageId="0B", msisdn="33700000000", scts="2601011400", client_ref="x", timestamp="1", nonce="n"),
        receipt(message_timestamp="2026-01-01 12:00:00", sig="ab"),
        receipt(in_body=True, messageId="0B"),
        status(timestamp="yesterday"),
        status(timestamp="2025-02-03T12:14:25Z" + "0" * 90),
        receipt(scts="soon"),
        receipt(message_timestamp="soon"),
        receipt(message_timestamp="2020-01-01T12:00:00+01:00"),
    ],
)
def test_what_differs_in_what_varies_is_read_by_itself(record):
    assert Quick(*TAUGHT).took(record)


OTHERS = {
    "another state": status(status="rejected"),
    "another price": status(usage={"currency": "EUR", "price": "0.1"}),
    "another network": status(destination={"network_code": "1"}),
    "another account": status({"account": "other"}),
    "not verified": status({"verified": False}),
    "stale": status({"stale": True}),
    "no API key": status({"api_key": None}),
    "a time without a zone": status(timestamp="2025-02-03T12:14:25"),
    "a time with a blank": status(timestamp="2025-02-03 12:14:25"),
    "no reference": request(json.dumps({k: v for k, v in STATUS.items() if k != "client_ref"}).encode()),
    "a reference that is empty": status(client_ref=""),
    "a reference that is blank": status(client_ref="  "),
    "a reference with blanks": status(client_ref=" x"),
    "a reference of another script": request(json.dumps(STATUS | {"client_ref": "é"}, ensure_ascii=False).encode()),
    "a reference that is escaped": status(client_ref="é"),
    "a reference that is a number": status(client_ref=7),
    "a reference that is null": status(client_ref=None),
    "a reference with brackets": status(client_ref="{[" * 100),
    "a reference that is long": status(client_ref="x" * 300),
    "an id that is long": status(message_uuid="x" * 300),
    "an id that is too long for any": status(message_uuid="x" * 1_000),
    "no id": request(json.dumps({k: v for k, v in STATUS.items() if k != "message_uuid"}).encode()),
    "an id within something else": status(destination={"network_code": "12345", "message_uuid": "other"}),
    "an id twice": request(json.dumps(STATUS).encode().replace(b'"channel"', b'"message_uuid": "n", "channel"')),
    "a reference twice": request(json.dumps(STATUS).encode().replace(b'"channel"', b'"client_ref": "n", "channel"')),
    "an id as a value": status({}, channel="message_uuid"),
    "other blanks": request(json.dumps(STATUS, indent=1).encode()),
    "no blanks": request(json.dumps(STATUS, separators=(",", ":")).encode()),
    "blanks before a colon": request(json.dumps(STATUS).encode().replace(b'"to":', b'"to" :')),
    "more behind it": request(json.dumps(STATUS).encode() + b"x"),
    "cut short": request(json.dumps(STATUS).encode()[:-1]),
    "cut short in an id": request(json.dumps(STATUS).encode()[:30]),
    "nothing but a bracket": request(b"{"),
    "nothing but a quote": request(b'{"'),
    "segments": status(sms={"count_total": "2"}),
    "receipts of segments": status(sms={"segments": [{"status": "delivered"}]}),
    "a workflow": status(workflow={"id": "w", "items_number": "1", "items_total": "2"}),
    "too long to be usual": status(filler="x" * 2_100),
    "as long as may be": status(filler="x" * 60_000),
    "as long as may be in a query": request(b"", b"more=" + b"x" * 60_000 + b"&" + urlencode(RECEIPT).encode()),
    "just as long as is usual": status(filler="x" * (2_048 - len(json.dumps(STATUS | {"filler": ""})))),
    "a long path": status({"path": "/" + "x" * 3_000}),
    "an inbound message": request(b'{"message_uuid":"m","channel":"sms","message_type":"text","text":"hi"}'),
    "a query with the status": request(b"", urlencode(STATUS).encode()),
    "an id that is escaped": receipt(messageId="0A%"),
    "a recipient with a plus": receipt(msisdn="+447700900001"),
    "an empty recipient": receipt(msisdn=""),
    "an empty time of a receipt": receipt(scts=""),
    "a pushed time that is far too long": receipt(message_timestamp="2020-01-01 12:00:00" + "0" * 60),
    "a reference that is escaped in a query": receipt(client_ref="a b"),
    "a sender that is escaped": receipt(to="Acme Inc"),
    "another code": receipt(err_code="9"),
    "a field that is not known": receipt(more="1"),
    "a field without a value": request(b"", urlencode(RECEIPT).encode() + b"&more"),
    "a field twice": request(b"", urlencode(RECEIPT).encode() + b"&messageId=0C"),
    "a nonce twice": request(b"", urlencode(RECEIPT).encode() + b"&nonce=0C"),
    "a state twice": request(b"", urlencode(RECEIPT).encode() + b"&status=failed"),
    "two equals": request(b"", urlencode(RECEIPT).encode().replace(b"=0A", b"=0A=")),
    "an ampersand at the end": request(b"", urlencode(RECEIPT).encode() + b"&"),
    "a signature with equals": request(b"", urlencode(RECEIPT).encode() + b"=="),
    "a pushed time with equals": request(b"", urlencode(RECEIPT).encode().replace(b"12%3A00", b"12=00")),
    "two ampersands": request(b"", urlencode(RECEIPT).encode().replace(b"&scts", b"&&scts")),
    "a character that must be escaped": request(b"", urlencode(RECEIPT).encode() + b"&more=\xff"),
    "a signature with such a one": request(b"", urlencode(RECEIPT).encode().replace(b"5505", b'"505')),
    "many fields": request(b"", urlencode(RECEIPT).encode() + b"&a=1" * 300),
    "in both": request(urlencode(RECEIPT).encode(), urlencode(RECEIPT).encode()),
    "a receipt whose body is covered": receipt({"coverage": "body"}),
    "a receipt as JSON": request(json.dumps(RECEIPT).encode(), coverage="parameters"),
    "nothing": request(),
    "a send": sent(NOON_US),
    "received long ago": status({"received_us": 5}),
    "received before there were computers": status({"received_us": -(2**50)}),
    "appended long ago": status({"at_us": 5}),
    "another path": status({"path": "/elsewhere", "method": "GET", "answer": 404}),
}


@compiled
@pytest.mark.parametrize("record", OTHERS.values(), ids=OTHERS)
def test_what_differs_in_anything_else_is_not_taken_for_what_came_before(record):
    quick = Quick(*TAUGHT)

    assert not quick.took(record)
    # What it learned from that says the same, and what was known before is known.
    for again in (record, *TAUGHT):
        quick.took(again)


@compiled
@pytest.mark.parametrize(
    "lesson",
    [
        status(usage={"currency": "EUR", "price": "0.0333", "to": "x", "client_ref": "y"}),
        request(json.dumps({"more": [{"to": "x"}, ["y"]]} | STATUS).encode()),
        request(json.dumps(STATUS, separators=(",", ":")).encode()),
    ],
    ids=["within something else", "behind an array", "no blanks"],
)
def test_what_varies_is_found_wherever_it_is(lesson):
    assert Quick(lesson).took(lesson)


@compiled
def test_of_a_field_that_comes_twice_it_is_the_same_one_that_counts():
    encoded = urlencode(RECEIPT).encode()
    quick = Quick(request(b"", encoded + b"&messageId=" + RECEIPT["messageId"].encode()))

    quick.took(request(b"", encoded + b"&messageId=another"))


@compiled
@pytest.mark.parametrize("name", ["message_uuid", "to", "client_ref", "timestamp"])
@pytest.mark.parametrize("blank", [b" ", b"\t", b"\n", b""])
@pytest.mark.parametrize("is_first", [True, False])
def test_of_a_name_that_comes_twice_in_json_it_is_the_same_one_that_counts(name, blank, is_first):
    def twice(value, other):
        body = json.dumps(STATUS | {name: value}).encode()
        again = b'"%s"%s: "%s"' % (name.encode(), blank, other.encode())
        return request(b"{" + again + b", " + body[1:] if is_first else body[:-1] + b", " + again + b"}")

    value, other = STATUS[name], "2026-01-01T00:00:00Z"
    quick = Quick(twice(value, value), twice(other, other))

    for record in (twice(value, other), twice(other, value), twice(value, value)):
        quick.took(record)


@compiled
def test_a_value_that_is_a_name_is_no_name():
    record = status(status="to", channel="timestamp")
    quick = Quick(record)

    assert not quick.took(record)


@compiled
def test_a_time_without_another_one_says_itself_whether_its_zone_was_assumed():
    told = {name: value for name, value in RECEIPT.items() if name != "scts"}
    quick = Quick(request(b"", urlencode(told).encode()))

    assert not quick.took(request(b"", urlencode(told | {"message-timestamp": "2020-01-01T12:00:00Z"}).encode()))


@compiled
@pytest.mark.parametrize("name", ["body", "query", "peer", "accepted_by"])
def test_a_record_that_has_a_text_where_bytes_belong_or_bytes_for_a_text_stops_the_fold(name):
    fields = list(msgspec.msgpack.decode(status()))
    at = 1 + RequestRecord.__struct_fields__.index(name)
    fields[at] = fields[at].encode() if isinstance(fields[at], str) else fields[at].decode()
    quick = Quick(*TAUGHT)

    assert not quick.took(encode(fields))
    with pytest.raises(FoldStopped):
        quick.read(encode(fields))


@compiled
@settings(max_examples=1_500, deadline=None)
@given(data=st.data())
def test_whatever_bytes_come_are_read_as_they_are_elsewhere(data):
    quick = Quick(*TAUGHT, status(status="submitted"), receipt(status="failed"))
    for _ in range(3):
        record = data.draw(st.sampled_from(TAUGHT))
        for _ in range(data.draw(st.integers(0, 3))):
            at, cut = data.draw(st.integers(0, len(record))), data.draw(st.integers(0, 3))
            record = record[:at] + data.draw(st.sampled_from(PIECES) | st.binary(max_size=2)) + record[at + cut :]
        quick.took(record)


PIECES = [b"", b'"', b"\\", b"{", b"}", b":", b",", b" ", b"=", b"&", b"%41", b"+", b'"to": "1", ', b"&to=1", b"\x00"]
PIECES += [b'"timestamp"', b"scts", b"\xc4", b"\xc5", b"\xd9", b"\x92", b"\xc0", b"\xcf", b"[]", b"null", b"\xe9"]

names = st.sampled_from([*STATUS, *RECEIPT, "error", "sms", "x"])
texts = st.sampled_from(["", " ", "a", "delivered", "2025-02-03T12:14:25Z", "2601011400", "é", "a b", "+1", "1000"])
values = texts | st.integers(0, 9) | st.none() | st.dictionaries(names, texts, max_size=2)


@compiled
@settings(max_examples=800, deadline=None)
@given(
    several=st.lists(
        st.tuples(
            st.sampled_from([status, receipt]),
            st.dictionaries(names, values, max_size=3),
            st.sampled_from([{}, {"verified": False}, {"account": "other"}, {"api_key": None}]),
        ),
        max_size=4,
    ),
    ids=st.lists(st.sampled_from(["m1", "m2", "m3"]), min_size=1, max_size=3),
)
def test_whatever_receipts_come_are_read_as_they_are_elsewhere(several, ids):
    quick = Quick()
    for message_id in ids:
        for make, fields, told in several:
            plain = {name.replace("-", "_"): value for name, value in fields.items() if isinstance(value, str)}
            quick.took(
                make(told, **fields | {"message_uuid": message_id})
                if make is status
                else make(told, **plain | {"messageId": message_id})
            )


@compiled
def test_no_more_shapes_and_times_are_remembered_than_may_be(monkeypatch):
    from landed.worker import quick as module  # noqa: PLC0415 - it need not be there

    monkeypatch.setattr(module, "KINDS_REMEMBERED_MAX", 4)
    monkeypatch.setattr(module, "REMEMBERED_MAX", 3)
    asked = []
    monkeypatch.setattr(module, "read_time", lambda text: asked.append(text) or read_time(text))
    quick = Quick()
    for number in range(20):
        assert not quick.took(status(status=f"state{number}", timestamp=f"2025-02-03T12:14:{number:02}Z"))
        assert quick.took(status(status=f"state{number}", timestamp=f"2025-02-03T12:14:{number:02}Z"))
    assert len(asked) == 20
    quick.took(status(timestamp="2025-02-03T12:14:00Z"))
    assert len(asked) == 21

    assert not quick.took(status(status="state0"))


@compiled
def test_what_would_not_be_read_as_it_was_is_not_remembered():
    from landed.worker.quick import QuickReader  # noqa: PLC0415 - it need not be there

    def otherwise(position, data):
        told = read_record(position, data)
        return msgspec.structs.replace(told, client_ref="another")

    reader = QuickReader(otherwise)
    for _ in range(3):
        assert reader.read(7, status()).client_ref == "another"


def test_where_nothing_was_compiled_all_is_read_and_folded_alike(monkeypatch, tmp_path):
    records = [*TAUGHT, *OTHERS.values(), *TAUGHT, *OTHERS.values()]
    with closing(SqliteJournal(tmp_path / "journal.db")) as journal:
        journal.append(records)
        views = [folded(journal, tmp_path / "quickly.db"), folded(journal, tmp_path / "plainly.db", compiled=False)]
        monkeypatch.setitem(sys.modules, "landed.worker.quick", None)

        assert fold.quickest() is read_record
        views.append(folded(journal, tmp_path / "otherwise.db"))
    assert views[0] == views[1] == views[2]
    assert len(views[0]["message"]) > 5


def folded(journal, path, **options):
    with closing(SqliteStore(path)) as store:
        folding = Fold(journal, store, **options)
        while folding.step():
            pass
    with closing(apsw.Connection(str(path))) as db:
        tables = ("message", "receipt", "unreadable", "inbound", "rollup", "event", "fold")
        return {table: list(db.execute(f"SELECT * FROM {table}")) for table in tables}  # noqa: S608 - our names


def test_a_send_at_a_time_that_never_is_stops_the_fold():
    with pytest.raises(FoldStopped, match="Record 7 of the journal is damaged"):
        plainly(sent(2**62))


def test_a_receipt_says_at_length_what_it_says_in_brief():
    told = read_record(7, status())

    assert isinstance(told, First)
    assert told.receipt == Brief(*msgspec.structs.astuple(told)[2:8]).receipt
