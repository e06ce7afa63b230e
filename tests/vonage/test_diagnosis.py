"""Why a signature does not hold: each thing that goes wrong is found, and nothing is found that is not so."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landed.vonage.diagnosis import REPAIRS, diagnose
from landed.vonage.request import Request
from landed.vonage.signing import Account, Keyring, Windows, sign_jwt, sign_sig

SECRET = "secret"
NOON = datetime(2025, 2, 3, 12, tzinfo=UTC)
NOON_S = int(NOON.timestamp())
STATUS = {"message_uuid": "u", "to": "447700900001", "text": "h\u00e4 / \u20ac", "usage": {"price": "0.1"}, "n": [1, 2]}
RECEIPT = {"messageId": "m", "msisdn": "1", "to": "2", "text": "a b+c", "empty": "", "status": "delivered"}
COMPACT = json.dumps(STATUS, separators=(",", ":"), ensure_ascii=False).encode()

ONE = Keyring.of(SECRET)
TWO = Keyring(
    [
        Account(name="first", api_key="key-a", secrets=(b"secret-a", b"secret-a-old")),
        Account(name="second", api_key="key-b", secrets=(b"secret-b",), method="sha256"),
    ]
)


def by_token(body=COMPACT, *, secret=SECRET, sent=None, at=NOON_S, api_key=None, query=b"", method="POST"):
    token = sign_jwt(body, secret, issued_at=at, token_id="j", api_key=api_key)
    headers = ((b"Authorization", b"Bearer " + token.encode()),)
    return Request(
        method=method,
        path="/webhooks/message-status",
        query=query,
        headers=headers,
        body=body if sent is None else sent,
    )


def by_sig(secret=SECRET, method="sha256", at=NOON_S, api_key=None, sign=None, **fields):
    params = RECEIPT | fields | {"timestamp": str(at)} | ({"api-key": api_key} if api_key else {})
    sig = sign_sig(sign(params) if sign else params, secret, method)
    return Request(method="GET", path="/webhooks/delivery-receipt", query=urlencode(params | {"sig": sig}).encode())


def changed(request, old, new):
    assert old in request.query
    return Request(method=request.method, path=request.path, query=request.query.replace(old, new))


def with_token(header, signature=b"x"):
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=")
    token = encoded + b"." + base64.urlsafe_b64encode(b'{"iss":"Vonage"}').rstrip(b"=")
    made = base64.urlsafe_b64encode(signature(token) if callable(signature) else signature).rstrip(b"=")
    headers = ((b"Authorization", b"Bearer " + token + b"." + made),)
    return Request(method="POST", path="/webhooks/message-status", headers=headers, body=b"{}")


def dumped(**style):
    return json.dumps(STATUS, **style).encode()


def kinds(request, keyring=ONE, at=NOON, **more):
    return [finding.kind for finding in diagnose(request, keyring, Windows(), at, **more)]


def told(request, keyring=ONE, at=NOON, **more):
    return " ".join(finding.sentence for finding in diagnose(request, keyring, Windows(), at, **more))


FOUND = [
    pytest.param(ONE, by_token(), ["holds"], "account default", id="token-holds"),
    pytest.param(ONE, by_sig(), ["holds"], "landed quarantine recheck", id="sig-holds"),
    # Secrets and accounts.
    pytest.param(ONE, by_token(secret="x"), ["secret"], "1 of account default", id="token-secret"),
    pytest.param(ONE, by_sig("x"), ["secret"], "compare them", id="sig-secret"),
    pytest.param(TWO, by_sig("x", api_key="key-a"), ["secret"], "2 of account first", id="secrets-of-that-account"),
    pytest.param(
        TWO, by_token(secret="secret-b", api_key="key-a"), ["other-account"], "of account second", id="token-account"
    ),
    pytest.param(TWO, by_sig("secret-a", api_key="key-b"), ["other-account"], "of account first", id="sig-account"),
    pytest.param(
        TWO, by_token(secret="secret-a", api_key="key-x"), ["other-account"], "key-x", id="our-secret-another-key"
    ),
    pytest.param(TWO, by_token(secret="x", api_key="key-x"), ["account"], "key-x", id="token-unknown-account"),
    pytest.param(TWO, by_sig("x", api_key="key-x"), ["account"], "key-x", id="sig-unknown-account"),
    # Algorithms.
    pytest.param(TWO, by_sig("secret-b", "md5hash", api_key="key-b"), ["algorithm"], "fits by md5hash", id="md5hash"),
    pytest.param(TWO, by_sig("secret-b", "sha512", api_key="key-b"), ["algorithm"], "set to sha256", id="sha512"),
    pytest.param(
        ONE,
        with_token({"alg": "HS512"}, lambda token: hmac.digest(b"secret", token, hashlib.sha512)),
        ["algorithm"],
        "HS512, and a secret of account default fits",
        id="token-by-hs512",
    ),
    pytest.param(ONE, with_token({"alg": "HS384"}), ["algorithm"], "by HS384", id="token-by-another-hs384"),
    pytest.param(ONE, with_token({"alg": "RS256"}), ["algorithm"], "by RS256", id="token-by-rs256"),
    pytest.param(ONE, with_token({"alg": "none"}), ["algorithm"], "by none", id="token-by-none"),
    pytest.param(ONE, with_token({"alg": 5}), ["malformed"], "no JWT", id="token-by-a-number"),
    pytest.param(ONE, with_token({}), ["algorithm"], "by no algorithm", id="token-without-algorithm"),
    # Bodies written anew.
    pytest.param(ONE, by_token(sent=dumped()), ["re-encoded"], "JSON without blanks", id="came-with-blanks"),
    pytest.param(ONE, by_token(sent=dumped(indent=2)), ["re-encoded"], "without blanks", id="came-indented"),
    pytest.param(
        ONE, by_token(dumped(ensure_ascii=False), sent=COMPACT), ["re-encoded"], "JSON with blanks", id="came-compact"
    ),
    pytest.param(
        ONE,
        by_token(dumped(separators=(",", ":")).replace(b"/", b"\\/"), sent=COMPACT),
        ["re-encoded"],
        "letters escaped",
        id="came-unescaped",
    ),
    pytest.param(ONE, by_token(dumped(), sent=COMPACT), ["re-encoded"], "with blanks, its letters", id="both"),
    pytest.param(ONE, by_token(dumped(indent=4, ensure_ascii=False), sent=COMPACT), ["re-encoded"], "four", id="four"),
    pytest.param(ONE, by_token(sent=COMPACT + b"\n"), ["re-encoded"], "line ends", id="line-end-added"),
    pytest.param(ONE, by_token(COMPACT + b"\r\n", sent=COMPACT), ["re-encoded"], "line ends", id="line-end-removed"),
    pytest.param(ONE, by_token(sent=b"\xef\xbb\xbf" + COMPACT), ["re-encoded"], "", id="byte-order-mark-added"),
    pytest.param(
        ONE,
        by_token(b'{"message_uuid":"u","status":"read"}', sent=b"", query=b"message_uuid=u&status=read", method="GET"),
        ["re-encoded"],
        "query as a JSON object",
        id="query-as-json",
    ),
    pytest.param(ONE, by_token(sent=COMPACT.replace(b"0.1", b"0.2")), ["body"], "another body", id="another-body"),
    pytest.param(ONE, by_token(sent=b"{}", secret="x"), ["secret"], "none of the secrets", id="both-wrong"),
    # Parameters changed on the way.
    pytest.param(ONE, changed(by_sig(), b"&timestamp", "\u00d7tamp".encode()), ["times"], "\u00d7tamp", id="times-raw"),
    pytest.param(ONE, changed(by_sig(), b"&timestamp", b"%C3%97tamp"), ["times"], "HTML", id="times-encoded"),
    pytest.param(
        ONE, changed(by_sig(text="+44"), b"%2B44", b"+44"), ["re-encoded"], "plus sign lost", id="plus-unencoded"
    ),
    pytest.param(
        ONE,
        changed(by_sig(text="a b"), b"a+b", b"a%252520b".replace(b"2525", b"25")),
        ["re-encoded"],
        "twice",
        id="twice",
    ),
    pytest.param(ONE, changed(by_sig(text="\u00e9"), b"%C3%A9", b"%E9"), ["re-encoded"], "character set", id="latin"),
    pytest.param(
        ONE,
        by_sig(sign=lambda params: {name: value for name, value in params.items() if value}),
        ["re-encoded"],
        "without its empty",
        id="empty-dropped",
    ),
    pytest.param(ONE, changed(by_sig(), b"&status", b"&to=2&status"), ["re-encoded"], "doubled", id="doubled"),
    pytest.param(ONE, changed(by_sig(), b"&sig", b"&utm_source=x&sig"), ["added"], "more than was signed", id="added"),
    pytest.param(
        TWO,
        changed(by_sig("secret-b", "md5", api_key="key-b"), b"&timestamp", b"%C3%97tamp"),
        ["times", "algorithm"],
        "fits by md5",
        id="two-things-at-once",
    ),
    # Clocks.
    pytest.param(ONE, by_token(at=NOON_S - 27 * 3600), ["clock", "holds"], "1 d 3 h before", id="token-late"),
    pytest.param(ONE, by_sig(at=NOON_S - 80 * 3600), ["clock", "holds"], "3 d 8 h before", id="sig-late"),
    pytest.param(ONE, by_token(at=NOON_S + 3_700), ["clock", "holds"], "1 h 1 min after", id="ahead"),
    pytest.param(ONE, by_sig(timestamp="x", at="x"), ["clock", "holds"], "no time", id="without-a-time"),
    pytest.param(
        ONE, by_token(sent=dumped(), at=NOON_S - 30 * 3600), ["re-encoded", "clock"], "1 d 6 h", id="late-and-rewritten"
    ),
    # Unsigned.
    pytest.param(
        ONE, Request(method="POST", path="/", body=COMPACT), ["unsigned"], "comes again with a signature", id="unsigned"
    ),
    pytest.param(
        ONE,
        Request(method="GET", path="/", query=urlencode(RECEIPT).encode()),
        ["unsigned"],
        "when-present",
        id="unsigned-sms",
    ),
    pytest.param(
        TWO,
        Request(method="GET", path="/", query=urlencode(RECEIPT | {"api-key": "key-x"}).encode()),
        ["account"],
        "key-x",
        id="unsigned-unknown-account",
    ),
    pytest.param(Keyring([]), by_token(), ["unsigned"], "no signature secret here", id="no-secrets"),
    # Tokens and parameters that cannot be right.
    pytest.param(
        ONE,
        Request(method="POST", path="/", headers=((b"authorization", b"bearer x.y"),), body=b"{}"),
        ["malformed"],
        "no JWT",
        id="malformed",
    ),
    pytest.param(
        ONE,
        Request(method="POST", path="/", body=b'{"messageId":"m","sig":"0","more":{}}'),
        ["uncovered"],
        "nested",
        id="nested",
    ),
]


@pytest.mark.parametrize(("keyring", "request_", "expected", "words"), FOUND)
def test_what_is_wrong_is_found_and_said(keyring, request_, expected, words):
    assert kinds(request_, keyring) == expected
    assert words in told(request_, keyring)


def test_an_address_and_a_body_cut_short_are_said_first():
    assert kinds(by_token(), is_listed=False) == ["address", "holds"]
    assert kinds(by_token(), is_whole=False) == ["too-large"]
    assert kinds(by_token(secret="x"), is_listed=False, is_whole=False) == ["address", "too-large"]


def test_an_issuer_that_is_not_vonage_is_said():
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    signing = header + b"." + base64.urlsafe_b64encode(b'{"iss":"me"}').rstrip(b"=")
    made = base64.urlsafe_b64encode(hmac.digest(b"secret", signing, "sha256")).rstrip(b"=")
    request = Request(method="POST", path="/", headers=((b"Authorization", b"Bearer " + signing + b"." + made),))
    assert kinds(request) == ["issuer"]


def test_no_secret_is_ever_said():
    keyring = Keyring([Account(name="ours", api_key="key", secrets=(b"not-to-be-said",), method="md5")])
    for secret, method, key in [("x", "md5", "key"), ("not-to-be-said", "sha1", "key"), ("not-to-be-said", "md5", "k")]:
        assert "not-to-be-said" not in told(by_sig(secret, method, api_key=key), keyring)


def test_every_try_has_a_kind_and_a_sentence_but_the_first():
    assert REPAIRS[0][:2] == ("", "")
    assert all(kind and sentence.endswith(".") for kind, sentence, _ in REPAIRS[1:])


@given(
    query=st.binary(max_size=60) | st.just(b"sig=0&a=b"),
    body=st.binary(max_size=60) | st.sampled_from([b'{"sig":"0"}', b"[" * 5_000, b'{"a":' * 3_000, b'"\\ud800"']),
    token=st.none() | st.binary(max_size=60) | st.sampled_from([b"e30.e30.x", b"eyJhbGciOiJIUzUxMiJ9.e30.x"]),
)
def test_any_bytes_have_a_diagnosis(query, body, token):
    headers = () if token is None else ((b"Authorization", b"Bearer " + token),)
    request = Request(method="POST", path="/", query=query, headers=headers, body=body)
    for keyring in (Keyring([]), ONE, TWO):
        findings = diagnose(request, keyring, Windows(), NOON + timedelta(hours=1))
        assert findings
        assert all(finding.kind and finding.sentence for finding in findings)
