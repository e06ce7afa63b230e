"""Records keep what they are given, and a later landed's longer ones are still read."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landed.journal.record import CheckRecord, Ids, Record, RequestRecord, SentRecord, TickRecord, decode, encode

ids = st.binary(min_size=16, max_size=16)
times_us = st.integers(0, 2**62)
texts = st.text(max_size=40)
numbers = st.none() | texts
requests = st.builds(
    RequestRecord,
    id=ids,
    at_us=times_us,
    received_us=times_us,
    account=texts,
    api_key=numbers,
    coverage=st.sampled_from(["nothing", "body", "parameters"]),
    verified=st.booleans(),
    stale=st.booleans(),
    answer=st.sampled_from([200, 204]),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    path=texts,
    query=st.binary(max_size=200),
    headers=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=60)), max_size=8).map(tuple),
    body=st.binary(max_size=2_000),
    peer=texts,
    accepted_by=texts,
)
sents = st.builds(
    SentRecord,
    id=ids,
    at_us=times_us,
    account=texts,
    message_id=texts,
    api=st.sampled_from(["messages", "sms"]),
    channel=texts,
    to=numbers,
    sender=numbers,
    client_ref=numbers,
    sent_us=times_us,
)
ticks = st.builds(TickRecord, id=ids, at_us=times_us)
checks = st.builds(
    CheckRecord,
    id=ids,
    at_us=times_us,
    check_id=texts,
    verified=st.booleans(),
    stale=st.booleans(),
    method=texts,
    path=texts,
    peer=texts,
)
records = requests | sents | checks | ticks


@given(records)
def test_a_record_is_read_as_it_was_written(record):
    assert decode(encode(record)) == record


@given(records, st.lists(st.none() | st.integers(0, 9) | texts | st.lists(texts, max_size=2), min_size=1, max_size=3))
def test_fields_that_a_later_landed_adds_at_the_end_are_passed_over(record, added):
    longer = msgspec.msgpack.encode(msgspec.msgpack.decode(encode(record)) + added)

    assert decode(longer) == record


@given(requests, st.sampled_from([{"accepted_by": ""}, {"accepted_by": "", "peer": ""}]))
def test_fields_that_an_older_landed_did_not_write_have_their_defaults(record, defaults):
    shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(encode(record))[: -len(defaults)])

    assert decode(shorter) == msgspec.structs.replace(record, **defaults)


@given(st.binary(max_size=200) | requests.map(encode).map(lambda data: data[:-1]))
def test_bytes_that_are_no_record_are_told_and_nothing_else_happens(data):
    try:
        record = decode(data)
    except msgspec.MsgspecError:
        return
    assert isinstance(record, Record)


@pytest.mark.parametrize("kind", ["quarantined", "", 7, None])
def test_a_kind_that_is_not_known_is_told(kind):
    with pytest.raises(msgspec.MsgspecError):
        decode(msgspec.msgpack.encode([kind, b"0" * 16, 1]))


def test_ids_are_never_given_twice():
    given_ids = [ids.next() for ids in (Ids(), Ids()) for _ in range(1_000)]

    assert len(set(given_ids)) == 2_000
    assert {len(each) for each in given_ids} == {16}
