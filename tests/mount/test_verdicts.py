# ruff: noqa: S107 - the secrets of tests are no secrets
# ruff: noqa: PLR0917 - a table's row may have many columns
"""The verdict table row by row over real sockets: what the gate answers and keeps, each mount does."""

import json
import time
from urllib.parse import urlencode

import pytest

from landed.gate.judge import ANSWERS
from landed.vonage.signing import sign_jwt, sign_sig

PATHS = tuple(ANSWERS)
STATUS_PATH, RECEIPT_PATH, INBOUND_PATH, INBOUND_SMS_PATH = PATHS
RECEIPT = {"messageId": "m", "msisdn": "1", "to": "2", "status": "delivered", "err-code": "0"}
STATUS = {"message_uuid": "u", "to": "1", "from": "2", "channel": "sms", "status": "delivered"}
BODY = json.dumps(STATUS).encode()
PARTS = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--b--\r\n'
MULTIPART = [("Content-Type", "multipart/form-data; boundary=b")]
LIMIT = 256 * 1024
LONG = [(f"X-{number}", "x" * 4_000) for number in range(5)]
MANY = [(f"X-{number}", "x") for number in range(65)]
HOURS = 3600


def bearer(body=BODY, *, secret="secret-a", api_key="key-a", age_seconds=0):
    token = sign_jwt(body, secret, issued_at=int(time.time()) - age_seconds, token_id="j", api_key=api_key)
    return [("Authorization", f"Bearer {token}")]


def sig(*, secret="secret-a", age_seconds=0, **fields):
    params = RECEIPT | {"api-key": "key-a", "timestamp": str(int(time.time()) - age_seconds)} | fields
    return urlencode(params | {"sig": sign_sig(params, secret, "sha256")})


def row(name, status, kept, method, target, body=None, headers=(), **more):
    return pytest.param(status, kept, (method, target, body, headers), more, id=name)


# What came; the answer; where it is kept, by the account.
ROWS = [
    *(row(f"token-{path[10:]}", ANSWERS[path], "default", "POST", path, BODY, bearer()) for path in PATHS),
    *(row(f"sig-{path[10:]}", ANSWERS[path], "default", "GET", f"{path}?{sig()}") for path in PATHS),
    row("sig-in-a-form", 204, "default", "POST", RECEIPT_PATH, sig().encode()),
    row("head", 204, "default", "HEAD", f"{RECEIPT_PATH}?{sig()}"),
    row("chunked", 200, "default", "POST", STATUS_PATH, BODY, bearer(), chunked=True),
    row("old-secret", 200, "default", "POST", STATUS_PATH, BODY, bearer(secret="secret-a-old")),
    row("second-account", 200, "second", "POST", STATUS_PATH, BODY, bearer(secret="secret-b", api_key="key-b")),
    row("stale-token", 200, "default", "POST", STATUS_PATH, BODY, bearer(age_seconds=26 * HOURS)),
    row("stale-sig", 204, "default", "GET", f"{RECEIPT_PATH}?{sig(age_seconds=74 * HOURS)}"),
    row("unsigned-sms", 204, "default", "GET", f"{RECEIPT_PATH}?{urlencode(RECEIPT)}"),
    row("unsigned-sms-json", 204, "default", "POST", RECEIPT_PATH, json.dumps(RECEIPT).encode()),
    row("trusted-but-unreadable", 200, "default", "POST", STATUS_PATH, b"hello", bearer(b"hello")),
    row("trusted-bytes", 200, "default", "POST", STATUS_PATH, b"\xff\x00\r\n", bearer(b"\xff\x00\r\n")),
    row("as-large-as-allowed", 200, "default", "POST", STATUS_PATH, b"a" * LIMIT, bearer(b"a" * LIMIT)),
    row("odd-query", 200, "default", "POST", f"{STATUS_PATH}?%00%ff&&=&+%2B", BODY, bearer()),
    row("unsigned-where-required", 503, "held", "POST", STATUS_PATH, b'{"message_uuid":"unsigned","status":"read"}'),
    row("unsigned-unreadable", 503, "held", "POST", INBOUND_PATH, b"hello"),
    row("unsigned-multipart", 503, "held", "POST", STATUS_PATH, PARTS, MULTIPART),
    row("wrong-token", 401, "held", "POST", STATUS_PATH, BODY, bearer(secret="other")),
    row("wrong-sig", 401, "held", "GET", f"{RECEIPT_PATH}?{sig(secret='other')}"),
    row("unknown-account", 401, "held", "GET", f"{RECEIPT_PATH}?{urlencode(RECEIPT | {'api-key': 'x'})}"),
    row("too-large", 413, "held", "POST", STATUS_PATH, b"b" * (LIMIT + 1)),
    row("too-large-in-chunks", 413, "held", "POST", STATUS_PATH, b"c" * (LIMIT + 1), chunked=True),
    *(row(f"probe-{method}", 200, None, method, RECEIPT_PATH) for method in ("GET", "HEAD", "POST")),
    row("probe-of-blanks", 200, None, "POST", STATUS_PATH, b" \r\n"),
    row("another-path", 404, None, "POST", "/webhooks/other", BODY, bearer()),
    row("another-method", 405, None, "PUT", STATUS_PATH, BODY, bearer()),
    row("delete", 405, None, "DELETE", STATUS_PATH),
    row("options", 405, None, "OPTIONS", STATUS_PATH),
    row("slash-behind", 200, "default", "POST", STATUS_PATH + "/", BODY, bearer()),
    row("slashes-doubled-within", 200, "default", "POST", "/webhooks//message-status", BODY, bearer()),
    row("path-escaped", 200, "default", "POST", "/webhooks/message%2Dstatus", BODY, bearer()),
    row("url-too-long", 414, None, "GET", f"{RECEIPT_PATH}?x={'x' * 8_192}"),
    row("header-too-long", 431, None, "GET", f"{RECEIPT_PATH}?{sig()}", None, LONG),
    row("headers-too-many", 431, None, "GET", f"{RECEIPT_PATH}?{sig()}", None, MANY),
]  # fmt: skip

# Servers that stand before the mount and say no in their own words, or cannot do it.
# wsgiref, which runs Django's development server, does not decode chunks: nothing of it is answered 2xx.
ELSEWHERE = {
    ("django", "chunked"): 503,
    ("django", "too-large-in-chunks"): 503,
    ("flask-gunicorn", "url-too-long"): 414,
    ("wsgi-gunicorn", "url-too-long"): 414,
    ("django-gunicorn", "url-too-long"): 414,
}


@pytest.mark.parametrize(("status", "kept", "asked", "more"), ROWS)
def test_each_row_of_the_table_is_the_same_everywhere(request, checked, status, kept, asked, more):
    name = request.node.callspec.id.partition(f"{checked.name}-")[2]
    elsewhere = ELSEWHERE.get((checked.name, name))
    position, held = checked.position(), checked.held()

    answer = checked.ask(*asked, **more)

    assert answer.status == (elsewhere or status), checked.said[-2000:]
    records = checked.kept(position)
    if elsewhere is not None:
        assert records == []
        return
    now_held = checked.held()
    copies = sum(each.copies for each in now_held.values()) - sum(each.copies for each in held.values())
    assert [record.account for record in records] == ([] if kept in (None, "held") else [kept])
    assert copies == (kept == "held")
    assert (answer.body == b"") == (status < 400 or asked[0] == "HEAD")
    assert ("retry-after" in answer.headers) == (status == 503)
    assert answer.headers.get("allow") == ("GET, HEAD, POST" if status == 405 else None)
    for record in records:
        method, target, body, _ = asked
        assert (record.method, record.query, record.body) == (method, target.partition("?")[2].encode(), body or b"")
        assert (record.answer, record.peer) == (status, "127.0.0.1")
        assert record.path in PATHS
        assert record.stale == name.startswith("stale")
        assert record.verified == (not name.startswith("unsigned"))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(("POST", "", BODY), id="messages"),
        pytest.param(("GET", "?" + urlencode(RECEIPT), None), id="sms"),
        pytest.param(("POST", "", b"hello"), id="unreadable"),
    ],
)
def test_without_any_secret_everything_is_kept_unverified(unchecked, path, asked):
    position = unchecked.position()
    method, query, body = asked

    answer = unchecked.ask(method, path + query, body)

    (record,) = unchecked.kept(position)
    assert answer.status == ANSWERS[path]
    assert (record.verified, record.account, record.path) == (False, "default", path)


def test_what_is_too_large_is_kept_by_its_beginning(checked):
    body = json.dumps(STATUS | {"message_uuid": f"large-{checked.name}"}).encode().ljust(LIMIT + 10)

    assert checked.ask("POST", STATUS_PATH, body).status == 413

    held = [each for each in checked.held().values() if each.record.body == body[: 4 * 1024]]
    assert len(held) == 1
    assert held[0].reason == "too-large"


def test_the_health_of_the_mount_can_be_asked(checked):
    path = "/healthz" if checked.name in ("gate", "wsgi-gunicorn", "asgi") else "/webhooks/healthz"

    assert checked.ask("GET", path).status == 200


def test_the_application_around_it_is_left_alone(checked):
    if checked.name in ("gate", "wsgi-gunicorn", "asgi"):
        pytest.skip("there is none")

    assert (
        checked.ask(
            "POST", "/orders/1/text?to=2", b"to=2", [("Content-Type", "application/x-www-form-urlencoded")]
        ).status
        == 503
    )
    assert checked.ask("GET", "/other").status == 404
