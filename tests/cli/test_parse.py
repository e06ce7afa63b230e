"""`landed parse`: whichever way a receipt was copied."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from landed.cli import main
from landed.cli.parse import GRAMMAR_BYTES_MAX, TEXT_BYTES_MAX, as_requests
from landed.errors import Unreadable
from landed.vonage.parse import parse as facts_in
from landed.vonage.signing import sign_sig

PAYLOADS = Path(__file__).parent.parent / "payloads"
NAMES = sorted(path.name.removesuffix(".expected.json") for path in PAYLOADS.glob("*.expected.json"))

BODY = '{"message_uuid":"30af1182","to":"972532208231","status":"delivered","channel":"sms"}'
OTHER_BODY = '{"message_uuid":"6cdbd8ed","status":"submitted","channel":"sms"}'
QUERY = "msisdn=447700900001&to=DLRTEST2&messageId=130000002BFABABC&status=delivered&err-code=0"
TARGET = f"/webhooks/delivery-receipt?{QUERY}"
FORM = "application/x-www-form-urlencoded"

# https://developer.vonage.com/en/blog/receiving-sms-delivery-receipts-with-python-dr
TUTORIAL_2019_PRINTED = """{'err-code': ['0'],
 'message-timestamp': ['2019-05-17 10:57:28'],
 'messageId': ['130000002BFABABC'],
 'msisdn': ['447700900001'],
 'status': ['accepted'],
 'to': ['DLRTEST2']}
127.0.0.1 - - [17/May/2019 11:57:29] "%s" 204 -
{'err-code': ['0'],
 'message-timestamp': ['2019-05-17 10:57:30'],
 'messageId': ['130000002BFABABC'],
 'msisdn': ['447700900001'],
 'status': ['delivered'],
 'to': ['DLRTEST2']}
127.0.0.1 - - [17/May/2019 11:57:30] "%s" 204 -
"""
TUTORIAL_2019 = TUTORIAL_2019_PRINTED % (
    f"GET {TARGET.replace('delivered', 'accepted')} HTTP/1.1",
    f"GET {TARGET} HTTP/1.1",
)
TUTORIAL_2019_POSTED = TUTORIAL_2019_PRINTED % (("POST /webhooks/delivery-receipt HTTP/1.1",) * 2)

# https://developer.vonage.com/en/blog/receive-outbound-sms-delivery-receipts
TUTORIAL_2023 = """And in your application's tab:

{'channel': 'sms',
 'destination': {'network_code': '42507'},
 'message_uuid': '30af1182',
 'sms': {'count_total': '1'},
 'status': 'submitted',
 'usage': {'currency': 'EUR', 'price': '0.093'}}

Notice that the status is `submitted`. In a few seconds:

{'channel': 'sms',
 'message_uuid': '30af1182',
 'status': 'delivered',
 'to': '972532208231'}
127.0.0.1 - - [19/Jun/2023 10:23:23] "POST /webhooks/message-status HTTP/1.1" 200 -
"""

SMS = (("130000002BFABABC", "delivered"),)
SMS_BOTH = (("130000002BFABABC", "accepted"), ("130000002BFABABC", "delivered"))
MESSAGE = (("30af1182", "delivered"),)
MESSAGE_BOTH = (("30af1182", "submitted"), ("30af1182", "delivered"))
TWO = (*MESSAGE, ("6cdbd8ed", "submitted"))

# How it was copied: the text, and the message id and word of each receipt in it.
FORMS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "json": (BODY, MESSAGE),
    "json-indented": (json.dumps(json.loads(BODY), indent=2), MESSAGE),
    "json-after-a-byte-order-mark": (f"\ufeff{BODY}\r\n", MESSAGE),
    "json-list": (f"[{BODY}, {OTHER_BODY}]", TWO),
    "json-lines": (f"{BODY}\n{OTHER_BODY}\n", TWO),
    "json-lines-from-windows": (f"{BODY}\r\n\r\n{OTHER_BODY}\r\n", TWO),
    "json-objects-indented": ("\n".join(json.dumps(json.loads(each), indent=2) for each in (BODY, OTHER_BODY)), TWO),
    "json-among-other-lines": (f"listening\n{BODY}\nPOST /webhooks/message-status  200 OK\n{OTHER_BODY} done", TWO),
    "query": (QUERY, SMS),
    "query-after-its-mark": (f"?{QUERY}", SMS),
    "queries": (f"{QUERY.replace('delivered', 'accepted')}\n{QUERY}\n", SMS_BOTH),
    "printed": (TUTORIAL_2023.split("\n\n")[3].partition("\n127")[0], MESSAGE),
    "printed-several": (TUTORIAL_2023, MESSAGE_BOTH),
    "printed-lists": (TUTORIAL_2019.partition("\n127")[0], SMS_BOTH[:1]),
    "printed-and-logged": (TUTORIAL_2019, SMS_BOTH),
    "printed-and-logged-without-query": (TUTORIAL_2019_POSTED, SMS_BOTH),
    "logged-by-flask": (f'127.0.0.1 - - [17/May/2019 11:57:30] "GET {TARGET} HTTP/1.1" 204 -', SMS),
    "logged-by-flask-in-colour": (f'127.0.0.1 - - [17/May/2019] "\x1b[33mGET {TARGET} HTTP/1.1\x1b[0m" 404 -', SMS),
    "logged-by-nginx": (f'10.0.0.1 - - [09/Apr/2014:10:23:20 +0000] "GET {TARGET} HTTP/1.1" 200 0 "-" "-"', SMS),
    "logged-by-apache": (f'a:80 10.0.0.1 - - [09/Apr/2014] "POST {TARGET} HTTP/1.1" 200 5 "-" "Jakarta/3"', SMS),
    "logged-by-uvicorn": (f'INFO:     10.0.0.1:4321 - "GET {TARGET} HTTP/1.1" 204 No Content', SMS),
    "logged-among-others": (f'"GET / HTTP/1.1" 200\n"GET {TARGET} HTTP/1.1" 200\n"POST /x HTTP/1.1" 200', SMS),
    "request-line": (f"GET {TARGET} HTTP/1.1", SMS),
    "request-line-without-version": (f"GET {TARGET}", SMS),
    "request-lines-with-an-answer": (f"GET {TARGET.replace('delivered', 'accepted')} 204\nGET {TARGET} 204", SMS_BOTH),
    "request": (f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\r\n{BODY}", MESSAGE),
    "request-without-headers": (f"POST /x\n\n{BODY}\n", MESSAGE),
    "request-of-a-form": (f"POST /x HTTP/1.1\nHost: a\nContent-Type: {FORM}\n\n{QUERY}", SMS),
    "requests": (f"POST /x HTTP/1.1\nHost: a\n\n{BODY}\n\nPOST /x HTTP/1.1\nHost: a\n\n{OTHER_BODY}\n", TWO),
    "request-to-a-url": (f"GET https://example.com{TARGET} HTTP/1.1\r\nHost: example.com\r\n\r\n", SMS),
    "url": (f"https://example.com{TARGET}", SMS),
    "url-with-fragment": (f"https://example.com{TARGET}#top", SMS),
    "url-quoted": (f"'https://example.com{TARGET}'", SMS),
    "url-without-host": (TARGET, SMS),
    "url-without-scheme": (f"localhost:3000{TARGET}", SMS),
    "url-of-a-host-that-is-none": (f"http://[x?{QUERY}", SMS),
    "url-with-a-letter-that-is-not-encoded": (f"{TARGET}&client-ref=é", SMS),
    "urls": (f"https://a{TARGET.replace('delivered', 'accepted')}\nhttps://a{TARGET}", SMS_BOTH),
    "curl-as-the-demo-says-it": (f"  curl -i 'http://127.0.0.1:3000{TARGET}'\n", SMS),
    "curl-after-a-prompt": ("$ curl -o /dev/null --max-time 5 localhost:3000" + TARGET.replace("&", r"\&"), SMS),
    "curl-data": (f"curl -X POST http://a/x -H 'Content-Type: application/json' -d '{BODY}'", MESSAGE),
    "curl-data-glued": (f"curl -isXPOST -HA:b http://a/x -d'{BODY}'", MESSAGE),
    "curl-data-raw": (f"curl http://a/x \\\n  --header 'A: b' \\\r\n  --data-raw $'{BODY}'", MESSAGE),
    "curl-data-binary": (f"curl --request POST --url http://a/x --data-binary '{BODY}'", MESSAGE),
    "curl-json": (f"curl --json '{BODY}' http://a/x", MESSAGE),
    "curl-data-several": (f"curl http://a/x --data messageId=130000002BFABABC -d '{QUERY}'", SMS),
    "curls": (f"curl http://a/x -d '{BODY}'\ncurl http://a/x -d '{OTHER_BODY}'\n", TWO),
}
BY_FORM = [pytest.param(*row, id=name) for name, row in FORMS.items()]


@pytest.fixture
def run(capsys, monkeypatch):
    """Run `landed parse` within this process, as `landed` runs it."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["landed", "parse", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=out, err=err)

    return run


def told(run: SimpleNamespace) -> tuple[tuple[str, str], ...]:
    facts = [json.loads(line) for line in run.out.splitlines()]
    return tuple((fact["message_id"], fact["provider_status"]) for fact in facts)


@pytest.mark.parametrize("given_as", ["file", "argument", "stdin"])
@pytest.mark.parametrize(("text", "receipts"), BY_FORM)
def test_receipts_are_known_in_every_copied_form(run, tmp_path, given_as, text, receipts):
    (tmp_path / "copied").write_bytes(text.encode())
    what = {"file": tmp_path / "copied", "argument": text, "stdin": "-"}[given_as]
    ran = run("--json", what, stdin=text.encode())
    assert (told(ran), ran.code, ran.err) == (receipts, 0, "")


@pytest.mark.parametrize("name", NAMES)
def test_every_documented_payload_is_read(run, name):
    expected = json.loads((PAYLOADS / f"{name}.expected.json").read_bytes())["fact"]
    query = PAYLOADS / f"{name}.query"
    file = query if query.exists() else PAYLOADS / f"{name}.json"
    texts = [file.read_bytes(), f"POST /x HTTP/1.1\nHost: a\n\n{file.read_text()}".encode()]
    if query.exists():
        texts.append(b'- "GET /x?' + query.read_bytes().strip() + b' HTTP/1.1" 200')
    else:
        texts.append(repr(json.loads(file.read_bytes())).encode())
    for ran in (run("--json", file), *(run("--json", "-", stdin=text) for text in texts)):
        assert ran.code == 0
        assert json.loads(ran.out)["message_id"] == expected["message_id"]


JSON_AS_IT_CAME = {
    "an-escaped-emoji": rb'{"message_uuid":"1","status":"delivered","client_ref":"\ud83d\ude00"}',
    "an-escaped-slash": rb'{"message_uuid":"1","status":"delivered","client_ref":"a\/b"}',
    "a-long-decimal": b'{"message_uuid":"1","status":"delivered","usage":{"price":0.10000000000000000001}}',
    "a-name-twice": b'{"message_uuid":"1","message_uuid":"2","status":"delivered"}',
    "bytes-that-are-no-utf-8": b'{"message_uuid":"1","status":"delivered","client_ref":"\xff"}',
}


@pytest.mark.parametrize("body", JSON_AS_IT_CAME.values(), ids=JSON_AS_IT_CAME)
def test_json_stays_byte_for_byte_as_it_came(body):
    for text in (body, b"[" + body + b",1]", b"listening\n" + body, b"POST /x HTTP/1.1\r\n\r\n" + body):
        assert as_requests(text)[0].body == body


def test_a_price_keeps_every_digit(run):
    ran = run("--json", '{"message_uuid":"1","status":"delivered","usage":{"price":0.03330000}}')
    assert json.loads(ran.out)["price"] == "0.03330000"


def test_a_printed_form_keeps_every_pair_for_its_signature():
    (request,) = as_requests(b"{'messageId': ['1'], 'to': ['a b', '\\u00e9&']}")
    assert request.body == b"messageId=1&to=a+b&to=%C3%A9%26"


def test_a_whole_request_keeps_its_headers_and_a_body_of_several_lines():
    (request,) = as_requests(b"POST /x?a=b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer c:d\r\n\r\n{\r\n\r\n}\r\n")
    assert (request.method, request.path, request.query) == ("POST", "/x", b"a=b")
    assert request.headers == ((b"Host", b"a"), (b"Authorization", b"Bearer c:d"))
    assert request.body == b"{\r\n\r\n}"


def test_a_curl_command_keeps_its_headers_and_method():
    (request,) = as_requests(b"curl -sX PUT -H 'Authorization: Bearer c' --header A:b http://a/x -d 'c=\xff'")
    assert (request.method, request.path, request.body) == ("PUT", "http://a/x", b"c=\xff")
    assert request.headers == ((b"Authorization", b"Bearer c"), (b"A", b"b"))


PIECES = [
    *(text.encode() for text, _ in FORMS.values()),
    *(b'x="GET \nfoo', b'"GET /?', b"GET /x?a=b", b"POST / HTTP/1.1\n\n", b"curl ", b"-d", b"-H", b"$'", b"'", b'"'),
    *(b"{", b"}", b"[", b"]", b"{'a': ", b"[1]", b"\n", b"\r\n\r\n", b"\\", b"\\\n", b"?", b"=", b"&", b"%", b"\0"),
    *(b"http://[", b"\xff", b"\x1b[", b"\\ud800", b"1e999", b"{{}: 1}", b"{1: 1j}", b"{'a': b'c'}", b"{(1,): 2}"),
]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20)).map(b"".join))
@example("/x?messageId=2&text=é".encode())
@example(b"http://[x?messageId=1&status=delivered")
@example(b'x="GET \nfoo')
@example(b"{'a': '\\ud800'}")
@example(b"{'a': ['\\ud800']}")
@example(b"{'a': ...}")
@example(b"{'a': 1e999}")
@example(b"{{}: 1}")
@example(b"{'a': '\\d', 'b': 1is 2}")
@example(b"{'a': " + b"-" * 60_000 + b"1}")
@example(b"{'a': " + b"1+" * 30_000 + b"1}")
@example(b"{'a': " + b"9" * 5_000 + b"}")
@example(b"{'a': " * 1_000 + b"1" + b"}" * 1_000)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_give_requests_or_none(text):
    for request in as_requests(text):
        try:
            facts_in(request.method, request.path, request.query, request.headers, request.body)
        except Unreadable:
            continue


@pytest.mark.parametrize(
    "piece",
    [
        b"{",
        b"[",
        b"{\n",
        b"{}\n",
        b"\n",
        b" ",
        b"a",
        b"?",
        b"a=",
        b"a=&",
        b'"GET /',
        b"GET /",
        b"curl 'a\n",
        b"\\",
        b"'",
    ],
)
def test_the_longest_text_is_read_whatever_it_repeats(piece):
    as_requests((piece * TEXT_BYTES_MAX)[:TEXT_BYTES_MAX])


@pytest.mark.parametrize("text", ["{'a': '%s'}", "curl http://a/x?%s"], ids=["printed", "curl"])
def test_what_needs_a_grammar_and_is_longer_than_any_receipt_is_not_read_by_it(text):
    assert as_requests((text % "a=b").encode())
    assert not as_requests((text % ("a" * GRAMMAR_BYTES_MAX)).encode())


def test_a_pasted_body_is_explained_to_a_person(run):
    shown = run(BODY).out
    assert "Receipt, messages API" in shown
    assert "signature not checked" in shown
    assert "972532208231" not in shown
    assert "Outcome: delivered" in shown
    assert "972532208231" in run(BODY, "--show-numbers").out


def test_an_inbound_message_is_said_to_be_one(run):
    shown = run('{"message_uuid":"1","message_type":"text","text":"Hi"}').out
    assert "Inbound message, messages API, signature not checked" in shown


@pytest.mark.parametrize("text", [b"", b"\n", b"GET /webhooks/message-status HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_probe_is_said_to_be_one(run, text):
    ran = run("-", stdin=text)
    assert (ran.code, "probe" in ran.out) == (0, True)
    assert run("-", "--json", stdin=text).out == ""


@pytest.mark.parametrize(
    "text",
    [
        "hello\nworld",
        '{"hello":"world"}',
        '{"message_uuid":',
        "{'a': 1}",
        "{}",
        "[{}]",
        "a=b",
        "x=1&y=2",
        "/?x=1",
        "curl 'http://a?messageId=1",
        '"POST /webhooks/message-status HTTP/1.1" 200\n',
        'x="GET \nfoo',
        "\udcff=",
    ],
)
def test_what_holds_no_receipt_is_refused_with_one_sentence(run, text):
    for ran in (run(text), run("-", stdin=os.fsencode(text))):
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)


@pytest.mark.parametrize(
    "text",
    [
        f'{BODY}\n{{"hello":"world"}}\n{OTHER_BODY}',
        f'[{BODY},{{"hello":"world"}},{OTHER_BODY}]',
        f'{BODY}\n{{"message_uuid":"cut off\n{OTHER_BODY}',
        f"GET /x?hello=world\nPOST /x\n\n{BODY}\nPOST /x\n\n{OTHER_BODY}",
    ],
    ids=["lines", "list", "cut-off", "requests"],
)
def test_one_that_cannot_be_read_does_not_hide_the_others(run, text):
    ran = run("--json", text)
    assert (ran.code, told(ran)) == (1, TWO)
    assert len(ran.err.splitlines()) == 1
    assert " of 3: " in ran.err


def test_a_file_is_a_file_even_if_its_name_reads_like_a_body(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a=b&c=d", "{a}", "?a=b", "curl x"):
        Path(name).write_text(BODY)
        assert told(run("--json", name)) == MESSAGE


@pytest.mark.parametrize("what", ["nowhere.json", "hello", ".", "a" * 5_000, "/dev/null/x"])
def test_a_file_that_cannot_be_read_is_wrong_usage(run, what):
    ran = run(what)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert len(ran.err) < 400


def test_no_more_than_the_limit_is_read(run, tmp_path):
    file = tmp_path / "long"
    padded = BODY.encode().ljust(TEXT_BYTES_MAX)
    file.write_bytes(padded)
    assert told(run("--json", file)) == told(run("--json", "-", stdin=padded)) == MESSAGE
    file.write_bytes(padded + b" ")
    for ran in (run(file), run("/dev/zero"), run("-", stdin=padded + b" ")):
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert str(TEXT_BYTES_MAX) in ran.err


def test_a_signature_is_required_when_a_secret_is_given(run):
    ran = run(BODY, "--secret", "s")
    assert ran.code == 1
    assert "signature" in ran.err


@pytest.mark.parametrize(("secret", "code"), [("new", 0), ("old, new,", 0), ("old", 1), ("", 2), (" , ", 2)])
def test_a_signature_is_checked_with_any_of_the_secrets(run, secret, code):
    params = {"messageId": "1", "status": "delivered", "msisdn": "447700900001", "timestamp": "1491346667"}
    signed = urlencode(params | {"sig": sign_sig(params, "new")})
    ran = run(f"https://example.com/x?{signed}", "--secret", secret)
    assert ran.code == code
    assert ("signature holds" in ran.out) is (code == 0)


def test_a_secret_of_the_environment_is_for_others(run, monkeypatch):
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "s")
    assert told(run("--json", BODY)) == MESSAGE


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONUTF8": "1"}], ids=["C", "UTF-8"])
def test_any_letter_is_read_and_written_in_any_locale(tmp_path, locale):
    body = '{"message_uuid":"1","message_type":"text","text":"é😀"}'.encode()
    for more in ([], ["--json"]):
        command = [sys.executable, "-m", "landed", "parse", body, *more]
        ran = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, env=os.environ | locale)
        assert (ran.returncode, ran.stderr) == (0, b"")
        if more:
            assert json.loads(ran.stdout)["text"] == "é😀"


def test_standard_input_that_is_closed_is_said_to_be(tmp_path):
    command = ["/bin/sh", "-c", f"{sys.executable} -m landed parse - <&-"]
    ran = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
