"""What a sender may try with its signature: each entry point refuses it the same, keeping it in quarantine."""

import base64
import hashlib
import hmac
import json
import time
from urllib.parse import quote, urlencode

import pytest

from landed.vonage.signing import sign_jwt, sign_sig

STATUS_PATH = "/webhooks/message-status"
RECEIPT_PATH = "/webhooks/delivery-receipt"
BODY = b'{"message_uuid":"u","to":"1","from":"2","channel":"sms","status":"delivered"}'
RECEIPT = {"messageId": "m", "msisdn": "1", "to": "2", "status": "delivered", "err-code": "0", "api-key": "key-a"}
NOW = int(time.time())


def encoded(data):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(header=None, claims=None, key=b"secret-a", digest=hashlib.sha256, signature=None):
    about = {"iat": NOW, "iss": "Vonage", "jti": "j", "api_key": "key-a"}
    about |= {"payload_hash": hashlib.sha256(BODY).hexdigest()}
    claims = claims if isinstance(claims, bytes) else about | (claims or {})
    signed = encoded(header or {"alg": "HS256", "typ": "JWT"}) + b"." + encoded(claims)
    if signature is None:
        signature = encoded(hmac.new(key, signed, digest).digest())
    return (signed + b"." + signature).decode("latin-1")


def jwt(value, body=BODY):
    return ("POST", STATUS_PATH, body, [("Authorization", f"Bearer {value}")])


def sig(secret="secret-a", more="", **fields):  # noqa: S107 - a secret of the tests
    params = RECEIPT | {"timestamp": str(NOW)} | fields
    return ("GET", f"{RECEIPT_PATH}?{urlencode(params | {'sig': sign_sig(params, secret, 'sha256')})}{more}", None, [])


def signed(secret, api_key):
    return sign_jwt(BODY, secret, issued_at=NOW, token_id="j", api_key=api_key)


GOOD = token()
SHA512 = {"header": {"alg": "HS512", "typ": "JWT"}, "digest": hashlib.sha512}
CLAIMS_TWICE = b'{"iat":%d,"iss":"Vonage","payload_hash":"%s","payload_hash":"0","api_key":"key-a"}'

TAKEN = {
    "token": jwt(GOOD),
    "token-in-small-letters": ("POST", STATUS_PATH, BODY, [("authorization", f"bearer {GOOD}")]),
    "token-of-the-old-secret": jwt(signed("secret-a-old", "key-a")),
    "token-of-the-other-account": jwt(signed("secret-b", "key-b")),
    "token-that-names-none": jwt(signed("secret-b", None)),
    "sig": sig(),
    "sig-of-the-old-secret": sig("secret-a-old"),
    "sig-of-the-other-account": sig("secret-b", **{"api-key": "key-b"}),
    "sig-of-other-letters": sig(text="J\xf6rg \u20ac"),
}
REFUSED = {
    "wrong-secret": jwt(token(key=b"secret-x")),
    "retired-secret": jwt(signed("secret-a-older", "key-a")),
    "other-account-s-secret": jwt(signed("secret-b", "key-a")),
    "other-account-s-name": jwt(signed("secret-a", "key-b")),
    "unknown-account": jwt(signed("secret-a", "key-x")),
    "tampered-body": jwt(GOOD, BODY.replace(b"delivered", b"rejected")),
    "body-re-encoded": jwt(GOOD, json.dumps(json.loads(BODY)).encode()),
    "body-with-blank-behind": jwt(GOOD, BODY + b"\n"),
    "tampered-claims": jwt(GOOD.replace(GOOD.split(".")[1], encoded({"iss": "Vonage"}).decode())),
    "no-body-hash": jwt(token(claims={"payload_hash": ""})),
    "another-issuer": jwt(token(claims={"iss": "Somebody"})),
    "alg-none": jwt(token({"alg": "none", "typ": "JWT"})),
    "alg-none-unsigned": jwt(token({"alg": "none", "typ": "JWT"}, signature=b"")),
    "alg-none-in-capitals": jwt(token({"alg": "NONE"}, signature=b"")),
    "alg-missing": jwt(token({"typ": "JWT"})),
    "alg-rs256-by-the-secret": jwt(token({"alg": "RS256", "typ": "JWT"})),
    "alg-hs512": jwt(token(**SHA512)),
    "alg-twice": jwt(token(b'{"alg":"HS256","alg":"none"}', signature=b"")),
    "critical-header": jwt(token({"alg": "HS256", "crit": ["x"]})),
    "signature-empty": jwt(token(signature=b"")),
    "signature-cut": jwt(GOOD[:-2]),
    "signature-of-high-bytes": jwt(token(signature=b"\xff\xfe\xe9")),
    "three-dots": jwt("..."),
    "a-word-behind-bearer": jwt("x"),
    "no-base64": jwt("a.b.c"),
    "token-of-high-bytes": jwt("\xe9.\xff.\xfe"),
    "claims-are-a-list": jwt(token(claims=b"[]")),
    "claims-twice": jwt(token(claims=CLAIMS_TWICE % (NOW, hashlib.sha256(BODY).hexdigest().encode()))),
    "claims-nested": jwt(token(claims=b"[" * 4_000)),
    "claims-huge": jwt(token(key=b"x", claims={"jti": "j" * 5_000})),
    "claims-of-huge-numbers": jwt(token(key=b"x", claims=b'{"iat":' + b"9" * 4_000 + b"}")),
    "sig-wrong": sig("secret-x"),
    "sig-of-the-other-account-s-secret": sig("secret-b"),
    "sig-of-an-unknown-account": sig(**{"api-key": "key-x"}),
    "sig-parameter-changed": sig(more="&status=failed"),
    "sig-parameter-added": sig(more="&more=1"),
    "sig-twice": sig(more="&sig=0"),
    "sig-with-a-body-added": ("POST", sig()[1], b"status=failed", []),
    "sig-of-high-bytes": ("GET", f"{RECEIPT_PATH}?{urlencode(RECEIPT)}&sig={quote('é€')}", None, []),
    "sig-of-raw-bytes": ("GET", f"{RECEIPT_PATH}?{urlencode(RECEIPT)}&sig=%ff%fe", None, []),
    "sig-empty": ("GET", f"{RECEIPT_PATH}?{urlencode(RECEIPT)}&sig=", None, []),
    "sig-in-json-twice": ("POST", RECEIPT_PATH, b'{"messageId":"m","status":"delivered","sig":"a","sig":"b"}', []),
    "sig-in-json-nested": ("POST", RECEIPT_PATH, b'{"messageId":"m","status":{},"sig":"' + b"0" * 64 + b'"}', []),
}
UNSIGNED = {
    "no-token": ("POST", STATUS_PATH, BODY, []),
    "another-scheme": ("POST", STATUS_PATH, BODY, [("Authorization", "Basic YTpi")]),
    "token-in-the-query": ("POST", f"{STATUS_PATH}?authorization=Bearer%20{GOOD}", BODY, []),
    "token-in-another-header": ("POST", STATUS_PATH, BODY, [("X-Authorization", f"Bearer {GOOD}")]),
    "both-apis-at-once": ("POST", RECEIPT_PATH, json.dumps(RECEIPT | {"message_uuid": "u"}).encode(), []),
}


def asked(checked, request):
    """The answer, and how many more of it are in the journal and in the quarantine."""
    position, held = checked.position(), copies(checked)
    answer = checked.ask(*request)
    return answer.status, checked.kept(position), copies(checked) - held


def copies(checked):
    return sum(each.copies for each in checked.held().values())


@pytest.mark.parametrize("request_", TAKEN.values(), ids=TAKEN)
def test_a_signature_that_holds_is_verified(checked, request_):
    status, kept, held = asked(checked, request_)

    assert (status in (200, 204), [record.verified for record in kept], held) == (True, [True], 0)


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_a_signature_that_does_not_hold_is_401_and_only_in_quarantine(checked, request_):
    assert asked(checked, request_) == (401, [], 1)


@pytest.mark.parametrize("request_", UNSIGNED.values(), ids=UNSIGNED)
def test_what_must_be_signed_and_is_not_is_503_and_only_in_quarantine(checked, request_):
    assert asked(checked, request_) == (503, [], 1)
