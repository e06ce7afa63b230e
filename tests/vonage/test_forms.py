"""What a request is, told by its content; and odd values, which lose only themselves."""

import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote, quote_plus, urlencode

import pytest

from landed.domain.receipt import Api, Inbound, Outcome, Receipt, Segment, Status, Workflow
from landed.errors import Unreadable
from landed.vonage.parse import named_api_key, parse, reads_as_sms
from landed.vonage.request import BRACKETS_MAX, FIELDS_MAX, Request

RECEIPT_PATH = "/webhooks/delivery-receipt"
STATUS = {
    "message_uuid": "u",
    "to": "1",
    "from": "2",
    "channel": "sms",
    "status": "delivered",
    "client_ref": "a b+c=d&e",
}
RECEIPT = {
    "messageId": "m",
    "msisdn": "1",
    "to": "2",
    "status": "delivered",
    "err-code": "0",
    "client-ref": "a b+c=d&e",
}
INBOUND_SMS = {"messageId": "m", "msisdn": "1", "to": "2", "text": "Hello & = +", "type": "text"}
INBOUND = {"message_uuid": "u", "to": "1", "from": "2", "channel": "sms", "message_type": "text", "text": "Hello & = +"}
FORMS = {"status": STATUS, "receipt": RECEIPT, "inbound-sms": INBOUND_SMS, "inbound": INBOUND}
TYPES = ("application/json", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream", None)


def read(query="", body=b"", content_type=None, path=RECEIPT_PATH, method="POST"):
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = json.dumps(body).encode() if isinstance(body, dict | list) else body
    return parse(method, path, query, headers, body)


def one(query="", body=b"", **kwargs):
    (fact,) = read(query, body, **kwargs)
    return fact


def reason_of(query="", body=b""):
    with pytest.raises(Unreadable) as caught:
        read(query, body)
    return caught.value.reason


# Content decides.


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("form", FORMS)
def test_json_is_read_whatever_it_is_called(form, content_type):
    fact = one(body=FORMS[form], content_type=content_type)

    assert dict(fact.raw) == FORMS[form]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_read_whatever_it_is_called(form, content_type):
    fact = one(body=urlencode(FORMS[form]).encode(), content_type=content_type)

    assert dict(fact.raw) == FORMS[form]


@pytest.mark.parametrize("encoded", [quote, quote_plus], ids=["quoted", "quoted-with-plus"])
@pytest.mark.parametrize("end", ["", "="], ids=["bare", "as-a-name"])
@pytest.mark.parametrize("form", FORMS)
def test_json_encoded_as_a_form_is_read(form, end, encoded):
    body = encoded(json.dumps(FORMS[form])) + end

    assert dict(one(body=body.encode()).raw) == FORMS[form]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "spelled",
    [
        pytest.param(lambda body: b"\xef\xbb\xbf" + body, id="byte-order-mark"),
        pytest.param(lambda body: b" \r\n\t" + body + b"\n", id="blanks-around"),
        pytest.param(lambda body: b"[" + body + b"]", id="list-of-one"),
        pytest.param(lambda body: json.dumps(json.loads(body), indent=2).encode(), id="indented"),
        pytest.param(lambda body: body.replace(b":", b" : "), id="spaced"),
    ],
)
def test_json_is_read_however_it_is_spelled(form, spelled):
    body = json.dumps(FORMS[form]).encode()

    assert dict(one(body=spelled(body)).raw) == FORMS[form]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("form", FORMS)
def test_a_query_is_read_with_any_method(form, method):
    assert dict(one(urlencode(FORMS[form]), method=method).raw) == FORMS[form]


def test_without_a_signature_the_query_completes_the_body():
    for body in (b"status=delivered&err-code=0", b'{"status":"delivered","err-code":"0"}'):
        receipt = one("messageId=m&msisdn=1&status=failed", body)

        assert (receipt.message_id, receipt.to, receipt.provider_status) == ("m", "1", "delivered")


def test_a_messages_body_is_not_mixed_with_the_query():
    assert one("client_ref=x&messageId=m", {"message_uuid": "u", "status": "delivered"}).client_ref is None


def test_of_a_repeated_name_the_first_stands():
    assert one("messageId=m&messageId=n&status=delivered").message_id == "m"


def test_several_objects_are_several_facts_and_what_is_none_is_left_out():
    facts = read(body=[STATUS, "text", {"a": 1}, INBOUND, 5, None])

    assert [type(fact) for fact in facts] == [Receipt, Inbound]


def test_message_id_of_a_send_response_is_taken_too():
    assert one("message-id=m&status=delivered").message_id == "m"


def test_an_id_keeps_its_letter_case_and_zeros():
    assert one("messageId=00aBcD&status=delivered").message_id == "00aBcD"


@pytest.mark.parametrize(("query", "body"), [("", b""), ("", b" \r\n"), (b"", b"\t")])
def test_the_probe_of_a_url_says_nothing(query, body):
    assert read(query, body) == ()


@pytest.mark.parametrize(
    ("query", "body", "reason"),
    [
        pytest.param("a=b", b"", "unknown-form", id="unknown-parameters"),
        pytest.param("&&", b"", "not-a-form", id="only-separators"),
        pytest.param("", b"{}", "not-a-form", id="empty-object"),
        pytest.param("", b"[]", "not-a-form", id="empty-list"),
        pytest.param("", b'{"message_uuid":', "not-a-form", id="json-cut-short"),
        pytest.param("", b'["a"]', "not-a-form", id="list-of-text"),
        pytest.param("", b"\xff\xfe\x00", "unknown-form", id="bytes"),
        pytest.param("", b"hello", "unknown-form", id="a-word"),
        pytest.param("", b'{"message_uuid":"u"}', "unknown-form", id="only-an-id"),
        pytest.param("messageId=m&to=1", b"", "unknown-form", id="only-an-id-and-a-number"),
        pytest.param("", b'{"status":"delivered"}', "unknown-form", id="no-id-name"),
        pytest.param("", b'{"message_uuid":null,"status":"delivered"}', "no-message-id", id="null-id"),
        pytest.param("", b'{"message_uuid":{},"status":"delivered"}', "no-message-id", id="nested-id"),
        pytest.param("messageId=&status=delivered", b"", "no-message-id", id="empty-id"),
        pytest.param("messageId=+&status=delivered", b"", "no-message-id", id="blank-id"),
        pytest.param("messageId=" + "m" * 257 + "&status=delivered", b"", "no-message-id", id="endless-id"),
        pytest.param("a=b&" * FIELDS_MAX + "messageId=m&status=delivered", b"", "not-a-form", id="too-many-parameters"),
        pytest.param("", b"[" * 100_000, "not-a-form", id="deep-list"),
        pytest.param("", b'{"a":' * 40_000, "not-a-form", id="deep-object"),
        pytest.param("", json.dumps([STATUS] * BRACKETS_MAX).encode(), "not-a-form", id="too-many-objects"),
    ],
)
def test_what_is_no_form_is_unreadable_with_its_reason(query, body, reason):
    assert reason_of(query, body) == reason


def test_nesting_up_to_the_limit_is_read_and_brackets_in_text_do_not_count():
    deep = b"[" * (BRACKETS_MAX - 1) + b"]" * (BRACKETS_MAX - 1)
    body = b'{"message_uuid":"u","status":"read","x":%s}'

    assert one(body=body % deep).status is Status.READ
    assert reason_of(body=body % (b"[" + deep + b"]")) == "not-a-form"
    assert one(body=body % json.dumps('["{' * BRACKETS_MAX).encode()).status is Status.READ
    assert one(body=INBOUND | {"text": '\\"[' * BRACKETS_MAX}).text == '\\"[' * BRACKETS_MAX


def test_the_same_body_is_read_however_deep_the_caller_stands():
    body = b'{"message_uuid":"u","status":"read","x":%s}' % (b"[" * 255 + b"]" * 255)

    def deeper(levels):
        return one(body=body) if levels == 0 else deeper(levels - 1)

    assert deeper(0) == deeper(300)


# Unknown words never fail.


@pytest.mark.parametrize("channel", ["sms", "mms", "rcs", "whatsapp", "messenger", "viber_service", "carrier-pigeon"])
@pytest.mark.parametrize("status", ["submitted", "delivered", "read", "rejected", "undeliverable", "teleported"])
def test_any_status_on_any_channel_is_read_in_both_versions(channel, status):
    v1 = one(body=STATUS | {"channel": channel, "status": status})
    party = {"type": "viber_service_msg" if channel == "viber_service" else channel, "number": "1"}
    v01 = one(body={"message_uuid": "u", "to": party, "from": party | {"number": "2"}, "status": status})

    for receipt in (v1, v01):
        assert (receipt.channel, receipt.provider_status, receipt.to, receipt.sender) == (channel, status, "1", "2")
    assert v1.status is v01.status


@pytest.mark.parametrize("code", ["7777", "new", "-1", "0" * 300])
def test_an_unknown_code_is_kept(code):
    assert one(body=RECEIPT | {"status": "failed", "err-code": code}).code == code
    assert one(body=STATUS | {"status": "rejected", "error": {"title": code}}).code == code


def test_unknown_fields_are_kept():
    body = STATUS | {"new": {"deep": [1, None, {"x": "y"}]}}

    assert one(body=body).raw == body


# Odd values lose only themselves.

FULL = STATUS | {
    "timestamp": "2025-02-03T12:14:25Z",
    "usage": {"price": "0.0333", "currency": "EUR"},
    "destination": {"network_code": "23410"},
    "error": {"title": "1000", "detail": "Throttled", "type": "https://example.com/#1000"},
    "sms": {"count_total": "2"},
    "workflow": {"workflow_id": "w", "items_number": "1", "items_total": "2"},
}
WHOLE = one(body=FULL)
ODD = [None, "", " ", {}, [], True, False, [[]], {"a": {}}, {"number": {}}, {"type": []}, [None], 0.5, -1, 10**30]
FACTS_OF = {
    "to": {"to"},
    "from": {"sender"},
    "channel": {"channel"},
    "status": {"provider_status", "status"},
    "client_ref": {"client_ref"},
    "timestamp": {"occurred_at", "zone_assumed"},
    "usage": {"price", "currency"},
    "destination": {"network"},
    "error": {"code", "detail"},
    "sms": {"segments", "segment_receipts"},
    "workflow": {"workflow"},
}


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("name", FACTS_OF)
def test_an_odd_value_loses_only_itself(name, odd):
    receipt = one(body=FULL | {name: odd})

    for field in set(Receipt.__struct_fields__) - FACTS_OF[name] - {"raw"}:
        assert getattr(receipt, field) == getattr(WHOLE, field), field


SMS_FULL = RECEIPT | {
    "price": "0.03330000",
    "scts": "2001011400",
    "network-code": "23410",
    "message-timestamp": "2020-01-01 12:00:00",
    "api-key": "abcd1234",
}
SMS_WHOLE = one(body=SMS_FULL)
SMS_FACTS_OF = {
    "msisdn": {"to"},
    "to": {"sender"},
    "status": {"provider_status", "status"},
    "err-code": {"code"},
    "price": {"price"},
    "scts": {"occurred_at"},
    "network-code": {"network"},
    "message-timestamp": {"pushed_at"},
    "client-ref": {"client_ref"},
    "api-key": {"api_key"},
}


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("name", SMS_FACTS_OF)
def test_an_odd_value_of_an_sms_receipt_loses_only_itself(name, odd):
    receipt = one(body=SMS_FULL | {name: odd})

    for field in set(Receipt.__struct_fields__) - SMS_FACTS_OF[name] - {"raw"}:
        assert getattr(receipt, field) == getattr(SMS_WHOLE, field), field


@pytest.mark.parametrize("name", ["status", "err-code", "scts"])
def test_a_receipt_whose_only_mark_is_odd_is_still_a_receipt(name):
    receipt = one(body={"messageId": "m", "msisdn": "1", name: None})

    assert isinstance(receipt, Receipt)
    assert (receipt.status, receipt.outcome) == (Status.UNRECOGNISED, Outcome.PENDING)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("0.03330000", "0.03330000"),
        ("0", "0"),
        ("0.00000000", "0"),
        ("-0", "0"),
        (" 1.5 ", "1.5"),
        ("-0.5", "-0.5"),
        (0.0333, "0.0333"),
        (0, "0"),
        (1e-7, "0.0000001"),
        ("", None),
        ("free", None),
        ("0,03", None),
        ("1_000", None),
        ("1e5", None),
        ("NaN", None),
        ("sNaN", None),
        ("Infinity", None),
        ("\u0661", None),
        ("0." + "3" * 99, None),
        ("9" * 99, None),
        (None, None),
        ({}, None),
        (True, None),
    ],
    ids=repr,
)
def test_a_price_is_exact_or_absent(price, expected):
    for receipt in (one(body=RECEIPT | {"price": price}), one(body=STATUS | {"usage": {"price": price}})):
        assert receipt.price == (None if expected is None else Decimal(expected))


def test_a_price_of_nothing_is_written_as_such():
    assert str(one(body=RECEIPT | {"price": "0.00000000"}).price) == "0"


NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("timestamp", "expected", "assumed"),
    [
        ("2020-01-01T12:00:00Z", NOON, False),
        ("2020-01-01T12:00:00.000Z", NOON, False),
        ("2020-01-01T12:00:00.5Z", NOON.replace(microsecond=500_000), False),
        ("2020-01-01T12:00:00.123456789Z", NOON.replace(microsecond=123_456), False),
        ("2020-01-01T12:00:00.000+00:00", NOON, False),
        ("2020-01-01T14:30:00+02:30", NOON, False),
        ("2020-01-01T12:00:00", NOON, True),
        ("2020-01-01 12:00:00", NOON, True),
        (" 2020-01-01 12:00:00 ", NOON, True),
        ("2020-13-01T12:00:00Z", None, False),
        ("0001-01-01T00:00:00+23:59", None, False),
        ("9999-12-31T23:59:59-23:59", None, False),
        ("yesterday", None, False),
        ("2020-01-01T12:00:00Z" + " " * 99, None, False),
        ("\ud800", None, False),
        ("", None, False),
        ({}, None, False),
        (1577880000, None, False),
        (None, None, False),
    ],
    ids=repr,
)
def test_a_time_is_utc_or_absent_and_says_when_its_zone_was_assumed(timestamp, expected, assumed):
    receipt = one(body=STATUS | {"timestamp": timestamp})
    pushed = one(body=RECEIPT | {"message-timestamp": timestamp})

    assert (receipt.occurred_at, receipt.zone_assumed) == (expected, assumed)
    assert (pushed.pushed_at, pushed.zone_assumed) == (expected, assumed)


@pytest.mark.parametrize(
    ("scts", "expected"),
    [
        ("2001011200", NOON),
        ("200101120059", NOON.replace(second=59)),
        (2001011200, NOON),
        ("2013011200", None),
        ("20010112", None),
        ("20010112000", None),
        ("20010112-0", None),
        ("\u0661" * 10, None),
        ("", None),
        ({}, None),
    ],
    ids=repr,
)
def test_scts_is_minutes_in_utc_or_absent(scts, expected):
    assert one(body=RECEIPT | {"scts": scts}).occurred_at == expected


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        ({"title": "1000", "detail": "Throttled"}, "1000", "Throttled"),
        ({"title": 1000}, "1000", None),
        ({"title": "Throttled", "type": "https://example.com/api-errors/messages#1000"}, "1000", None),
        ({"title": "Throttled", "type": "https://example.com/"}, "Throttled", None),
        ({"title": "1000", "type": "https://example.com/#1360"}, "1000", None),
        ({"code": 1300, "reason": "Not there"}, "1300", "Not there"),
        ({"code": "1300"}, "1300", None),
        ({"title": None, "detail": {}}, None, None),
        ({}, None, None),
        ("1000", None, None),
        ([{"title": "1000"}], None, None),
    ],
    ids=repr,
)
def test_the_code_is_found_where_vonage_puts_it(error, code, detail):
    receipt = one(body=STATUS | {"status": "rejected", "error": error})

    assert (receipt.code, receipt.detail) == (code, detail)


@pytest.mark.parametrize(
    ("sms", "count", "segments"),
    [
        ({"count_total": "2"}, 2, 0),
        ({"count_total": 2}, 2, 0),
        ({"total_count": "3"}, 3, 0),
        ({"count_total": "2", "total_count": "3"}, 2, 0),
        ({"count_total": None, "total_count": "3"}, 3, 0),
        ({"segments": [{"status": "delivered"}, {"status": "rejected"}]}, 2, 2),
        ({"total_count": "3", "segments": [{"status": "delivered"}, "x", None]}, 3, 1),
        ({"segments": {}}, None, 0),
        ({"segments": []}, None, 0),
        ({"count_total": "two"}, None, 0),
        ({"count_total": "-2"}, None, 0),
        ({"count_total": "99999"}, None, 0),
        ({"count_total": "\u0662"}, None, 0),
        ("2", None, 0),
    ],
    ids=repr,
)
def test_segments_are_counted_under_either_name(sms, count, segments):
    receipt = one(body=STATUS | {"sms": sms})

    assert (receipt.segments, len(receipt.segment_receipts)) == (count, segments)


def test_a_rejected_long_message_is_judged_by_its_segments():
    late = {"total_count": "2", "segments": [{"status": "delivered"}, {"status": "delivered", "timestamp": {}}]}
    failed = {"total_count": "2", "segments": [{"status": "delivered"}, {"status": "rejected"}]}

    assert one(body=STATUS | {"status": "rejected", "sms": late}).outcome is Outcome.UNCONFIRMED
    assert one(body=STATUS | {"status": "rejected", "sms": failed}).outcome is Outcome.FAILED
    assert one(body=STATUS | {"status": "rejected", "sms": late}).segment_receipts[1] == Segment(
        provider_status="delivered"
    )


@pytest.mark.parametrize(
    ("workflow", "expected"),
    [
        ({"workflow_id": "w", "items_number": "1", "items_total": "2"}, ("w", "1", "2")),
        ({"id": "w", "item_number": 1, "total_items": 2}, ("w", "1", "2")),
        ({"workflow_id": "w"}, ("w", None, None)),
        ({"items_number": "1"}, None),
        ("w", None),
    ],
    ids=repr,
)
def test_a_workflow_is_read_under_either_name(workflow, expected):
    wanted = expected and Workflow(workflow_id=expected[0], items_number=expected[1], items_total=expected[2])

    assert one(body=STATUS | {"workflow": workflow}).workflow == wanted


@pytest.mark.parametrize("number", [447700900000, "447700900000"])
def test_numbers_as_text_and_text_as_numbers_are_the_same(number):
    assert one(body=STATUS | {"to": number}).to == "447700900000"
    assert one(body=STATUS | {"to": {"type": "sms", "number": number}}).to == "447700900000"
    assert one(body=RECEIPT | {"msisdn": number}).to == "447700900000"


@pytest.mark.parametrize("written", ["9" * 19, "9" * 4000, "9" * 100_000, "-" + "9" * 30], ids=len)
def test_an_endless_number_is_its_text_and_can_be_kept(written):
    receipt = one(body=b'{"message_uuid":%s,"status":"read","to":"1"}' % written[:30].encode())

    assert receipt.message_id == written[:30]
    assert one(body=b'{"message_uuid":"u","status":"read","x":%s}' % written.encode()).raw["x"] == written


@pytest.mark.parametrize(
    "literal",
    [
        "1e9999999999999999999999",
        "1e-999999999999999999999",
        "1e999999999999999999",
        "1e-999999999",
        "-0.0",
        "1E400",
        "NaN",
        "Infinity",
    ],
)
def test_an_impossible_number_loses_only_itself(literal):
    receipt = one(body=f'{{"message_uuid":"u","status":"read","to":{literal},"from":"2"}}'.encode())

    assert (receipt.message_id, receipt.status, receipt.sender) == ("u", Status.READ, "2")


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        pytest.param(b"a\xffb", "a\ufffdb", id="bad-byte"),
        pytest.param(b"a\\ud800b", "a\ufffdb", id="lone-high-surrogate"),
        pytest.param(b"\\udc00", "\ufffd", id="lone-low-surrogate"),
        pytest.param(b"\\ud83d\\ude00", "\U0001f600", id="a-pair"),
        pytest.param(b"a\\u0000b", "a\ufffdb", id="nul"),
        pytest.param(b"a\nb", "a\nb", id="raw-line-feed"),
    ],
)
def test_odd_characters_lose_only_themselves(text, read_as):
    inbound = one(body=b'{"message_uuid":"u","message_type":"text","from":"1","text":"%s"}' % text)

    assert (inbound.text, inbound.sender) == (read_as, "1")
    inbound.text.encode()


def test_odd_characters_of_a_form_lose_only_themselves():
    inbound = one(b"messageId=m&text=a%ff%00b%C3%A9%zz%4&msisdn=1")

    assert (inbound.text, inbound.sender) == ("a\ufffd\ufffdb\u00e9%zz%4", "1")


# What the gate asks before it decides.


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        pytest.param(urlencode(RECEIPT), b"", True, id="receipt-by-query"),
        pytest.param("", json.dumps(RECEIPT).encode(), True, id="receipt-by-json"),
        pytest.param("", urlencode(INBOUND_SMS).encode(), True, id="inbound-by-form"),
        pytest.param("", json.dumps(STATUS).encode(), False, id="status"),
        pytest.param("", json.dumps(STATUS | {"messageId": "m"}).encode(), False, id="both-ids"),
        pytest.param(urlencode(RECEIPT), json.dumps(STATUS).encode(), False, id="receipt-in-query-status-in-body"),
        pytest.param("", json.dumps([RECEIPT, STATUS]).encode(), False, id="both-in-a-list"),
        pytest.param("message_uuid=u&" + urlencode(RECEIPT), b"", False, id="both-in-a-query"),
        pytest.param("", b"", False, id="probe"),
        pytest.param("", b"{", False, id="unreadable"),
    ],
)
def test_only_what_is_wholly_of_the_sms_api_reads_as_it(query, body, expected):
    assert reads_as_sms(Request(method="POST", path="/", query=query.encode(), body=body)) is expected


def test_an_unsigned_request_names_its_api_key():
    request = Request(method="GET", path="/", query=b"messageId=m&status=delivered&api-key=abcd1234")

    assert named_api_key(request) == "abcd1234"
    assert named_api_key(Request(method="GET", path="/", query=b"messageId=m")) is None


def test_the_api_is_told_by_the_name_of_the_id():
    assert one(body=STATUS).api is Api.MESSAGES
    assert one(body=RECEIPT).api is Api.SMS


# Costs: nothing in a body of the greatest size is quadratic. A second is 20 times what the worst takes.

BODY_BYTES_MAX = 256 * 1024
HEAVY = {
    "open-brackets": b"[" * BODY_BYTES_MAX,
    "open-objects": b'{"a":' * (BODY_BYTES_MAX // 5),
    "open-strings": b'{"' + b'\\"' * (BODY_BYTES_MAX // 2),
    "quotes-and-brackets": b'{"[' * (BODY_BYTES_MAX // 3),
    "wide-list": b'{"a":[' + b"[]," * (BODY_BYTES_MAX // 3) + b"[]]}",
    "many-keys": b"{" + b",".join(b'"%d":1' % number for number in range(24_000)) + b"}",
    "many-floats": b'{"a":[' + b"1.5," * (BODY_BYTES_MAX // 4) + b"1]}",
    "many-long-integers": b'{"a":[' + (b"9" * 4000 + b",") * 64 + b"1]}",
    "one-long-integer": b'{"a":' + b"9" * BODY_BYTES_MAX + b"}",
    "almost-long-integers": b'{"a":"' + (b"9" * 18 + b"a") * (BODY_BYTES_MAX // 19) + b'"}',
    "one-long-fraction": b'{"price":1.' + b"9" * BODY_BYTES_MAX + b',"message_uuid":"u","status":"read"}',
    "lone-surrogates": b'{"a":"' + b"\\ud800" * (BODY_BYTES_MAX // 6) + b'"}',
    "bad-bytes": b'{"a":"' + b"\xff" * BODY_BYTES_MAX + b'"}',
    "escapes": b"a=" + b"%41" * (BODY_BYTES_MAX // 3),
    "scattered-escapes": b"a=" + b"a%41" * (BODY_BYTES_MAX // 4),
    "bad-escapes": b"a=" + b"%" * BODY_BYTES_MAX,
    "pluses": b"a=" + b"+" * BODY_BYTES_MAX,
    "ampersands": b"&" * BODY_BYTES_MAX,
    "equals": b"=" * BODY_BYTES_MAX,
    "blanks": b" " * BODY_BYTES_MAX + b"a",
}


@pytest.mark.parametrize("name", HEAVY)
def test_no_body_of_the_greatest_size_takes_long(name):
    body = HEAVY[name]
    headers = {"Authorization": "Bearer " + "a" * 8000}
    started = time.perf_counter()
    for secrets, query, sent in [(None, "", {}), ("secret", "sig=x", {}), ("secret", "", headers)]:
        try:
            parse("POST", RECEIPT_PATH, query, sent, body, secrets=secrets)
        except Exception as error:  # noqa: BLE001 - which error it is, the properties test
            assert type(error).__name__ in {"Unreadable", "BadSignature"}  # noqa: PT017 - the same
    assert time.perf_counter() - started < 1
