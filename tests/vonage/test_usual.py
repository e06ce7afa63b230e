"""What is read the quick way is what the way of all reads, whatever came; and the usual receipts go the quick way."""

import json
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from landed.errors import Unreadable
from landed.vonage.parse import read
from landed.vonage.request import BRACKETS_MAX, Request
from landed.vonage.signing import Coverage, Trust
from landed.vonage.usual import read_usual

PAYLOADS = Path(__file__).parent.parent / "payloads"
SIGNED = Trust(coverage=Coverage.BODY, verified=True, api_key="abcd1234")
UNSIGNED = Trust()
STATUS = {
    "message_uuid": "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab",
    "to": "447700900000",
    "from": "447700900001",
    "timestamp": "2025-02-03T12:14:25Z",
    "status": "delivered",
    "channel": "sms",
    "client_ref": "order 7",
    "usage": {"currency": "EUR", "price": "0.0333"},
    "destination": {"network_code": "12345"},
}
RECEIPT = {
    "msisdn": "447700900001",
    "to": "Acme & Sons",
    "network-code": "12345",
    "messageId": "0A0000001234567B",
    "price": "0.03330000",
    "status": "delivered",
    "scts": "2001011400",
    "err-code": "0",
    "client-ref": "100%",
    "api-key": "abcd1234",
    "message-timestamp": "2020-01-01 12:00:00",
}

trusts = st.builds(
    Trust,
    coverage=st.sampled_from(Coverage),
    verified=st.booleans(),
    stale=st.booleans(),
    api_key=st.sampled_from([None, "abcd1234"]),
)
odd_texts = st.sampled_from(
    [
        "",
        " ",
        "\t",
        "\u3000",
        "\0",
        "a\0b",
        " a ",
        "é",
        "😀",
        "\\",
        '"',
        "a=b&c",
        "%",
        "%41",
        "%zz",
        "+",
        "1e5",
        "0.1",
        "2025-02-03T12:14:25.5+01:00",
        "2020-01-01 12:00:00",
        "9999-12-31T23:59:59-23:59",
        "2001011400",
        "x" * 300,
        "viber_service_msg",
        "rejected",
        "expired",
        "DELIVERED",
        "00",
        "1360",
    ]
)
texts = odd_texts | st.text(max_size=5)
odd_values = st.one_of(
    texts,
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.dictionaries(
        st.sampled_from(["price", "currency", "network_code", "title", "type", "detail", "code", "count_total", "id"]),
        texts | st.none() | st.integers(0, 5000),
        max_size=3,
    ),
    st.just({"segments": [{"status": "rejected", "timestamp": "2025-02-03T12:14:25Z"}, 1], "total_count": "2"}),
    st.lists(st.just({}), max_size=2),
)


def bare(request, trust):
    """What the way of all reads of it."""
    try:
        return tuple(msgspec.structs.replace(fact, raw={}) for fact in read(request, trust))
    except Unreadable as unreadable:
        return unreadable.reason


def assert_same(query, body, trust):
    request = Request(method="POST", path="/", query=query, body=body)
    brief = read_usual("ours", request, trust)
    assert brief is None or ((brief.receipt,) == bare(request, trust) and brief.kind.account == "ours")
    return brief


@st.composite
def bodies(draw, fields, names):
    """An object near to the usual one: some fields odd, some missing, some twice, some unknown."""
    changed = draw(st.dictionaries(st.sampled_from(names), odd_values, max_size=3))
    missing = draw(st.lists(st.sampled_from(names), max_size=2))
    pairs = [pair for pair in (fields | changed).items() if pair[0] not in missing]
    pairs += draw(st.lists(st.tuples(st.sampled_from(names), odd_values), max_size=1))
    ascii_only, between = draw(st.booleans()), draw(st.sampled_from([", ", ",", "\n,\t"]))
    told = (f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=ascii_only)}" for name, value in pairs)
    body = ("{" + between.join(told) + "}" + draw(st.sampled_from(["", "\n", " x", ",", "}"]))).encode()
    at, byte = draw(st.integers(0, len(body))), draw(st.sampled_from([b"", b"\0", b"\xff", b"\xe2", b'"', b"\\", b"["]))
    return body[:at] + byte + body[at + draw(st.integers(0, 1)) :] if byte else body


@st.composite
def forms(draw):
    """Parameters near to the usual ones, in the ways of several encoders."""
    names = [*RECEIPT, "timestamp", "nonce", "sig", "message-id", "message_uuid", "text", "new", "message%49d", "m+d"]
    changed = draw(st.dictionaries(st.sampled_from(names), texts, max_size=3))
    missing = draw(st.lists(st.sampled_from(names), max_size=2))
    pairs = [pair for pair in (RECEIPT | changed).items() if pair[0] not in missing]
    pairs += draw(st.lists(st.tuples(st.sampled_from(names), texts), max_size=1))
    as_it_is = draw(st.booleans())
    fields = [f"{name}={value if as_it_is else quote_plus(value)}" for name, value in pairs]
    fields += draw(st.lists(st.sampled_from(["", "=", "status", "a==b", "status=read", '"', "{", "\\"]), max_size=1))
    return "&".join(draw(st.permutations(fields))).encode()


@settings(max_examples=600, deadline=None)
@given(body=bodies(STATUS, [*STATUS, "error", "sms", "workflow", "message_type", "direction", "new"]), trust=trusts)
@example(body=json.dumps(STATUS).encode().replace(b"order", b"or\0der"), trust=SIGNED)
@example(body=json.dumps(STATUS).encode().replace(b"order", b"or\xffder"), trust=SIGNED)
@example(body=json.dumps(STATUS | {"new": "order"}).encode().replace(b'"new"', b'"n\xffw"'), trust=SIGNED)
@example(body=json.dumps(STATUS | {"channel": " "}).encode(), trust=SIGNED)
@example(body=json.dumps(STATUS | {"usage": {"currency": " "}}).encode(), trust=SIGNED)
@example(body=json.dumps(STATUS | {"new": "{" * 300}).encode(), trust=SIGNED)
@example(body=json.dumps(STATUS)[:-1].encode() + b', "new": ' + b"[" * 300 + b"]" * 300 + b"}", trust=SIGNED)
@example(body=json.dumps(STATUS)[:-1].encode() + b', "error": {"title": 1e999999999999999999999}}', trust=SIGNED)
@example(body=json.dumps(STATUS)[:-1].encode() + b', "error": {"title": 1234567890123456789012}}', trust=SIGNED)
@example(body=json.dumps(STATUS)[:-1].encode() + b', "error": {"title": 1.50}}', trust=SIGNED)
@example(body=json.dumps(STATUS)[:-1].encode() + b', "error": {"title": ' + b"9" * 5000 + b"}}", trust=SIGNED)
@example(body=json.dumps(STATUS)[:-1].encode() + b', "status": "read"}', trust=SIGNED)
def test_an_object_read_quickly_says_what_it_says(body, trust):
    assert_same(b"", body, trust)
    assert_same(b"", body[: len(body) // 2], trust)
    assert_same(b"message_uuid=other&status=read&channel=mms", body, trust)


@settings(max_examples=600, deadline=None)
@given(form=forms(), trust=trusts)
@example(form=urlencode(RECEIPT).encode() + b"&status=failed", trust=UNSIGNED)
@example(form=urlencode(RECEIPT).encode() + b"&message%49d=other", trust=UNSIGNED)
@example(form=b"status=failed&messageId=%20&message-id=b", trust=UNSIGNED)
@example(form=b"status=failed&messageId=a" + b"&nonce=1" * 600, trust=UNSIGNED)
@example(form=b"status=failed&messageId=" + b"a" * 257, trust=UNSIGNED)
def test_parameters_read_quickly_say_what_they_say(form, trust):
    assert_same(form, b"", trust)
    assert_same(b"", form, trust)
    assert_same(form, form, trust)


@pytest.mark.parametrize("trust", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
@pytest.mark.parametrize("name", sorted(path.name for path in PAYLOADS.glob("*") if "expected" not in path.name))
def test_a_documented_payload_read_quickly_says_what_vonage_documents(name, trust):
    told = (PAYLOADS / name).read_bytes().strip()
    usual = assert_same(*((told, b"") if name.endswith(".query") else (b"", told)), trust)

    if name.startswith(("messages_sms_", "messages_mms_", "messages_rcs_", "messages_messenger_", "messages_viber_")):
        assert (usual is None) == ("workflow" in name or "segments" in name)


def test_the_usual_receipts_go_the_quick_way():
    error = {"type": "https://example.com/#1000", "title": 1000, "detail": "Throttled"}
    for more in ({}, {"error": error}, {"sms": {"count_total": "2"}}, {"new": [{"deep": None}]}, {"client_ref": None}):
        assert assert_same(b"", json.dumps(STATUS | more).encode(), SIGNED) is not None
    form = urlencode(RECEIPT | {"timestamp": "1", "nonce": "n", "sig": "s"}).encode()
    for trust in (UNSIGNED, Trust(coverage=Coverage.PARAMETERS, verified=True, api_key="abcd1234")):
        assert assert_same(form, b"", trust) is not None
        assert assert_same(b"", form, trust) is not None


def test_a_body_with_too_many_brackets_is_not_read_quickly():
    body = json.dumps(STATUS | {"new": [[]] * BRACKETS_MAX}).encode()

    assert read_usual("ours", Request(method="POST", path="/", body=body), SIGNED) is None


def test_receipts_that_are_alike_share_their_kind():
    def kind_of(account="ours", trust=SIGNED, **more):
        body = json.dumps(STATUS | more).encode()
        return read_usual(account, Request(method="POST", path="/", body=body), trust).kind

    own = {"message_uuid": "another", "to": "447700900009", "client_ref": "8", "timestamp": "2025-02-04T12:14:25Z"}
    assert kind_of() is kind_of(**own)
    for more in ({"from": "Other"}, {"status": "read"}, {"usage": {"price": "1"}}, {"sms": {"count_total": "2"}}):
        assert kind_of(**more) is not kind_of()
    assert kind_of(account="theirs").account == "theirs"
    assert kind_of(trust=UNSIGNED).verified is False


def test_what_is_long_is_not_read_in_brief_since_kinds_are_remembered():
    for name in ("from", "client_ref", "status"):
        body = json.dumps(STATUS | {name: "x" * 2_000}).encode()
        assert read_usual("ours", Request(method="POST", path="/", body=body), SIGNED) is None
        form = urlencode(RECEIPT | {name: "x" * 2_000}).encode()
        assert read_usual("ours", Request(method="GET", path="/", query=form), UNSIGNED) is None


def test_what_tells_of_segments_or_a_workflow_is_not_read_in_brief():
    for more in ({"sms": {"segments": [{"status": "delivered"}]}}, {"workflow": {"id": "w"}}):
        body = json.dumps(STATUS | more).encode()
        assert read_usual("ours", Request(method="POST", path="/", body=body), SIGNED) is None
