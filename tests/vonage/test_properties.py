"""What holds for any bytes and any facts: parse is total, parse and render are inverses, signatures bind."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from landed.domain.lifecycle import inbound_key, receipt_key, status_of
from landed.domain.receipt import Api, Inbound, Receipt, Segment, Workflow
from landed.errors import BadSignature, Unreadable
from landed.vonage import messages, sms
from landed.vonage.parse import named_api_key, parse, reads_as_sms
from landed.vonage.request import Request
from landed.vonage.signing import METHODS, sign_jwt, sign_sig

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
NOON_S = int(NOON.timestamp())
few = settings(max_examples=60, deadline=None)
many = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Facts as Vonage can state them: text is never blank, without NUL, and valid Unicode.

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda text: not text.isspace()
)
ids = texts | st.uuids().map(str) | st.from_regex(r"[0-9A-F]{16}", fullmatch=True)
words = (
    st.sampled_from(["submitted", "delivered", "read", "rejected", "accepted", "buffered", "expired", "unknown"])
    | texts
)
codes = st.sampled_from(["0", "1", "12", "012", "1000", "1360", "99999999999999999999"]) | texts
channels = st.sampled_from(["sms", "mms", "rcs", "whatsapp", "messenger", "viber_service", "new"])
times = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them so
minutes = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - the same
    max_value=datetime(2099, 12, 31),  # noqa: DTZ001 - the same
    timezones=st.just(UTC),
).map(lambda time: time.replace(second=0, microsecond=0))
prices = st.decimals(min_value=-9999, max_value=10**9, places=8).map(lambda price: price or Decimal(0))


def maybe(strategy):
    return st.none() | strategy


@st.composite
def statuses(draw):
    """Receipts of the Messages API."""
    listed = draw(st.lists(st.builds(Segment, provider_status=words, occurred_at=maybe(times)), max_size=3))
    segments = draw(st.integers(0, 9999)) if listed else draw(maybe(st.integers(0, 9999)))
    word, code, time = draw(words), draw(maybe(codes)), draw(maybe(times))
    detail = draw(maybe(texts))
    return Receipt(
        api=Api.MESSAGES,
        message_id=draw(ids),
        channel=draw(maybe(channels)),
        status=status_of(Api.MESSAGES, word, code, segments, listed),
        provider_status=word,
        to=draw(maybe(texts)),
        sender=draw(maybe(texts)),
        network=draw(maybe(texts)),
        code=code,
        detail=detail,
        client_ref=draw(maybe(texts)),
        occurred_at=time,
        zone_assumed=time is not None and draw(st.booleans()),
        price=draw(maybe(prices)),
        currency=draw(maybe(texts)),
        segments=segments,
        segment_receipts=tuple(listed),
        workflow=draw(maybe(st.builds(Workflow, workflow_id=ids, items_number=maybe(texts), items_total=maybe(texts)))),
    )


@st.composite
def receipts(draw):
    """Receipts of the SMS API, whose `scts` never has a zone."""
    word, code = draw(words), draw(maybe(codes))
    occurred_at, pushed_at = draw(maybe(minutes)), draw(maybe(times))
    assumed = occurred_at is not None or (pushed_at is not None and draw(st.booleans()))
    return Receipt(
        api=Api.SMS,
        message_id=draw(ids),
        channel="sms",
        status=status_of(Api.SMS, word, code),
        provider_status=word,
        to=draw(maybe(texts)),
        sender=draw(maybe(texts)),
        network=draw(maybe(texts)),
        code=code,
        client_ref=draw(maybe(texts)),
        occurred_at=occurred_at,
        pushed_at=pushed_at,
        zone_assumed=assumed,
        price=draw(maybe(prices)),
        api_key=draw(maybe(texts)),
    )


@st.composite
def inbounds(draw, api=Api.MESSAGES):
    is_sms = api is Api.SMS
    time = draw(maybe(times))
    return Inbound(
        api=api,
        message_id=draw(ids),
        channel="sms" if is_sms else draw(maybe(channels)),
        message_type=draw(maybe(texts)),
        text=draw(maybe(texts)),
        to=draw(maybe(texts)),
        sender=draw(texts if is_sms else maybe(texts)),
        occurred_at=time,
        zone_assumed=time is not None and draw(st.booleans()),
        api_key=draw(maybe(texts)) if is_sms else None,
    )


def bare(fact):
    return msgspec.structs.replace(fact, raw={})


def encodings(fields):
    """The same fields as each sender may send them: (query, body)."""
    text = json.dumps(fields)
    yield "", text.encode()
    yield "", msgspec.json.encode(fields)
    yield "", json.dumps(fields, ensure_ascii=False, indent=1).encode()
    yield "", f"[{text}]".encode()
    yield "", quote(text).encode()
    if all(isinstance(value, str) for value in fields.values()):
        yield urlencode(fields), b""
        yield "", urlencode(fields).encode()
        half = list(fields.items())
        yield urlencode(half[::2]), urlencode(half[1::2]).encode()
        yield urlencode(half[::2]), json.dumps(dict(half[1::2])).encode()


def assert_reads_back(fact, fields, *, split=True):
    for query, body in encodings(fields):
        if not split and query and body:
            continue
        (read,) = parse("POST", "/webhooks/message-status", query, {}, body)
        assert bare(read) == fact
        assert read.raw


@given(statuses())
@few
def test_a_status_rendered_is_parsed_back(receipt):
    # A body that has no message_uuid would be completed by the query, but one that has is not.
    assert_reads_back(receipt, messages.render_status(receipt), split=False)


@given(statuses())
@few
def test_a_v01_status_rendered_is_parsed_back(receipt):
    assert_reads_back(receipt, messages.render_status(receipt, "v0.1"), split=False)


@given(receipts())
@few
def test_an_sms_receipt_rendered_is_parsed_back(receipt):
    assert_reads_back(receipt, sms.render_receipt(receipt))


@given(inbounds(), st.sampled_from(["v1", "v0.1"]))
@few
def test_an_inbound_message_rendered_is_parsed_back(inbound, version):
    assert_reads_back(inbound, messages.render_inbound(inbound, version), split=False)


@given(inbounds(Api.SMS))
@few
def test_an_inbound_sms_rendered_is_parsed_back(inbound):
    assert_reads_back(inbound, sms.render_inbound(inbound))


# Signatures bind.

secret_texts = texts


@given(statuses(), secret_texts, st.integers(NOON_S - 25 * 3600, NOON_S + 300), st.sampled_from([None, "abcd1234"]))
@few
def test_what_we_sign_with_a_token_verifies(receipt, secret, issued_at, api_key):
    body = msgspec.json.encode(messages.render_status(receipt))
    token = sign_jwt(body, secret, issued_at=issued_at, token_id="j", api_key=api_key)

    for secrets in (secret, ["other", secret], {"abcd1234": secret}):
        (read,) = parse("POST", "/", "", {"authorization": f"Bearer {token}"}, body, secrets=secrets, now=NOON)
        assert (read.verified, read.stale, read.api_key) == (True, False, api_key)
        assert read.message_id == receipt.message_id


@given(receipts(), secret_texts, st.sampled_from(METHODS))
@few
def test_what_we_sign_with_a_sig_verifies_by_query_form_and_json(receipt, secret, method):
    fields = sms.render_receipt(receipt) | {"timestamp": str(NOON_S)}
    signed = fields | {"sig": sign_sig(fields, secret, method)}

    for query, body in [
        (urlencode(signed), b""),
        ("", urlencode(signed).encode()),
        ("", msgspec.json.encode(signed)),
        ("", quote(json.dumps(signed)).encode()),
    ]:
        (read,) = parse("POST", "/", query, {}, body, secrets=secret, now=NOON)
        assert bare(read) == msgspec.structs.replace(receipt, verified=True)


def refused(*args, **kwargs):
    with pytest.raises(BadSignature):
        parse(*args, **kwargs)


STATUS_BODY = b'{"message_uuid":"u","to":"1","from":"2","channel":"sms","status":"delivered"}'
TOKEN = sign_jwt(STATUS_BODY, "secret", issued_at=NOON_S, token_id="j", api_key="abcd1234").encode()


def changed(data, at, to):
    at %= len(data)
    to = to if data[at] != to else to ^ 1
    return data[:at] + bytes([to]) + data[at + 1 :]


@given(st.integers(0, 10**4), st.integers(0, 255))
@many
def test_any_one_changed_byte_of_a_signed_body_is_refused(at, to):
    refused(
        "POST", "/", "", {b"Authorization": b"Bearer " + TOKEN}.items(), changed(STATUS_BODY, at, to), secrets="secret"
    )


@given(st.integers(0, 10**4), st.integers(0, 255).filter(lambda byte: byte not in b" \t\n\r\x0b\x0c"))
@example(len(TOKEN) - 1, ord("A"))
@many
def test_any_one_changed_byte_of_a_token_is_refused(at, to):
    refused("POST", "/", "", [(b"Authorization", b"Bearer " + changed(TOKEN, at, to))], STATUS_BODY, secrets="secret")


SIGNED = {"messageId": "0A00", "msisdn": "447700900000", "status": "delivered", "err-code": "0", "text": "a-b"}
ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-."


@given(st.sampled_from(METHODS), st.sampled_from([*SIGNED, "sig"]), st.integers(0, 200), st.sampled_from(ALPHABET))
@many
def test_any_one_changed_character_of_a_signed_parameter_is_refused(method, name, at, to):
    """Only letter case in the sig itself, and `&` or `=` for `_` in a value, are the same by Vonage's own rule."""
    fields = SIGNED | {"sig": sign_sig(SIGNED, "secret", method)}
    fields[name] = changed(fields[name].encode(), at, to).decode()

    if fields["sig"].lower() == sign_sig(SIGNED, "secret", method).lower() and name == "sig":
        return
    refused("GET", "/", urlencode(fields), {}, b"", secrets="secret")


@given(st.dictionaries(texts, texts, max_size=5), st.dictionaries(texts, texts, max_size=5))
@many
def test_two_sets_of_parameters_share_a_signature_only_by_vonages_own_rule(one, other):
    def plain(fields):
        return {name: value.replace("&", "_").replace("=", "_") for name, value in fields.items()}

    one, other = ({n: v for n, v in each.items() if not {"&", "="} & set(n) and n != "sig"} for each in (one, other))

    assert (sign_sig(one, "s") == sign_sig(other, "s")) is (plain(one) == plain(other))


# Total.

NAMES = [
    "message_uuid",
    "messageId",
    "status",
    "sig",
    "timestamp",
    "to",
    "from",
    "text",
    "message_type",
    "error",
    "sms",
]
NAMES += [
    "usage",
    "scts",
    "err-code",
    "price",
    "api-key",
    "workflow",
    "message",
    "destination",
    "client_ref",
    "channel",
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["0", "read"])
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(NAMES), json_values, max_size=8)
lookalikes = st.lists(
    st.tuples(st.sampled_from(NAMES), st.text(max_size=5) | st.sampled_from(["delivered", "0", "%", "&"])), max_size=6
)
valid_bodies = st.sampled_from(
    [
        STATUS_BODY,
        b'{"messageId":"m","msisdn":"1","status":"failed","err-code":12,"price":0.5,"sig":"x"}',
        b"messageId=m&status=delivered&scts=2001011400&price=0.1&sig=%41",
        b'{"message_uuid":"u","to":{"type":"sms","number":1},"timestamp":{},"status":"read","sms":{"segments":[{}]}}',
        b'{"message_uuid":"u","message":{"content":{"type":"text","text":"\\ud83d\\ude00"}},"direction":"inbound"}',
    ]
)
INSERTS = [
    b"\x00",
    b"\xff",
    b"{",
    b"[",
    b'"',
    b"\\",
    b"\\ud800",
    b"&",
    b"=",
    b"%",
    b"%0",
    b"9" * 30,
    b"1e999",
    b"NaN",
    b"null",
]


@st.composite
def mutated(draw):
    """A valid body with pieces cut out, repeated and put in."""
    body = draw(valid_bodies)
    for _ in range(draw(st.integers(0, 4))):
        at, to = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
        body = body[:at] + draw(st.sampled_from([b"", body[at:to] * 2, *INSERTS])) + body[to:]
    return body


bodies = (
    st.binary(max_size=60)
    | mutated()
    | objects.map(lambda value: json.dumps(value).encode())
    | st.lists(objects, max_size=3).map(lambda value: json.dumps(value).encode())
    | lookalikes.map(lambda pairs: urlencode(pairs).encode())
    | objects.map(lambda value: quote(json.dumps(value)).encode())
)
queries = bodies | st.text(st.characters(), max_size=20)
token_parts = st.sampled_from(TOKEN.split(b".")) | st.binary(max_size=20) | bodies.map(lambda body: body[:40])
authorizations = (
    st.none()
    | st.binary(max_size=30)
    | st.text(st.characters(), max_size=20)
    | st.lists(token_parts, max_size=4).map(lambda parts: b"Bearer " + b".".join(parts))
    | st.just(b"Bearer " + TOKEN)
)
secrets_or_none = st.sampled_from(
    [None, "secret", ["old", "secret"], {"abcd1234": "secret"}, {"a": ["b", "c"], "": "d"}]
)


def assert_can_be_kept(fact):
    """What is parsed can be written by every encoder and keyed, whatever it was."""
    msgspec.json.encode(fact)
    msgspec.msgpack.encode(fact)
    key = receipt_key if isinstance(fact, Receipt) else inbound_key
    assert len(key("default", fact)) == 16
    for name in fact.__struct_fields__:
        value = getattr(fact, name)
        if isinstance(value, str):
            value.encode()
            assert "\0" not in value
            assert value.strip() or name == "provider_status"


def attempt(query, authorization, body, secrets, *, path="/webhooks/message-status", method="POST"):
    headers = [] if authorization is None else [("Authorization", authorization)]
    try:
        facts = parse(method, path, query, headers, body, secrets=secrets, now=NOON)
    except (BadSignature, Unreadable) as error:
        assert error.reason  # noqa: PT017 - either outcome is right, and this is what holds of one
        return
    for fact in facts:
        assert fact.verified is (secrets is not None)
        assert_can_be_kept(fact)


@given(queries, authorizations, bodies, secrets_or_none)
@many
def test_parse_raises_nothing_but_its_own_errors(query, authorization, body, secrets):
    attempt(query, authorization, body, secrets)


@given(st.text(st.characters(), max_size=10), st.text(st.characters(), max_size=20), st.binary(max_size=40))
@few
def test_parse_takes_any_method_and_path(method, path, body):
    attempt("", None, body, None, path=path, method=method)


@given(bodies, secrets_or_none)
@many
def test_whatever_a_good_token_covers_is_read_or_unreadable(body, secrets):
    token = sign_jwt(body, "secret", issued_at=NOON_S, token_id="j", api_key="abcd1234")

    attempt("status=read", f"Bearer {token}", body, secrets)


@given(lookalikes, lookalikes, st.sampled_from(METHODS))
@many
def test_whatever_a_good_sig_covers_is_read_or_refused(in_query, in_body, method):
    fields = {name: value for name, value in in_query + in_body if name != "sig"}
    sig = sign_sig(fields, "secret", method)

    attempt(urlencode([*in_query, ("sig", sig)]), None, urlencode(in_body).encode(), "secret")
    attempt(urlencode(in_query), None, json.dumps({**dict(in_body), "sig": sig}).encode(), "secret")


@given(queries.filter(lambda query: isinstance(query, bytes)), bodies)
@many
def test_what_the_gate_asks_is_total_too(query, body):
    request = Request(method="POST", path="/", query=query, body=body)

    assert isinstance(reads_as_sms(request), bool)
    assert named_api_key(request) is None or named_api_key(request)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["a", "read", "0"])), max_size=5), bodies)
@many
def test_nothing_outside_of_a_tokens_body_changes_what_is_said(pairs, body):
    token = sign_jwt(body, "secret", issued_at=NOON_S, token_id="j", api_key=None)

    def said(query):
        try:
            return parse("POST", "/", query, {"Authorization": f"Bearer {token}"}, body, secrets="secret")
        except Unreadable as error:
            return error.reason

    if body.strip(b" \t\r\n"):
        assert said(urlencode(pairs)) == said("")
