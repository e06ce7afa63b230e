"""Signatures: published vectors, what is refused and why, and what a signature covers."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landed.errors import BadSignature, SettingsError, Unreadable
from landed.vonage.parse import authenticate, parse
from landed.vonage.request import Request, read_pairs
from landed.vonage.signing import (
    METHODS,
    Account,
    Coverage,
    HmacSha256,
    Keyring,
    Windows,
    plain_query,
    sign_jwt,
    sign_sig,
    signature_base,
    signed_params,
    verify_jwt,
    verify_sig,
)

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
NOON_S = int(NOON.timestamp())
STATUS_PATH, RECEIPT_PATH = "/webhooks/message-status", "/webhooks/delivery-receipt"


def verified_by(params, secret, method=None):
    keyring = Keyring([Account(name="ours", secrets=(secret.encode(),), method=method)])
    encoded = {name.encode(): value.encode() for name, value in params.items()}
    return verify_sig(encoded, keyring, Windows()).account == "ours"


def reason_of(call, *args, **kwargs):
    with pytest.raises(BadSignature) as caught:
        call(*args, **kwargs)
    return caught.value.reason


# Vectors that Vonage's SDKs publish.

V1 = {
    "message-timestamp": "2013-11-21 15:27:30",
    "messageId": "020000001B0FE827",
    "msisdn": "14843472194",
    "text": "Test again",
    "timestamp": "1385047698",
    "to": "13239877404",
    "type": "text",
}
V2 = {
    "keyword": "TEST",
    "message-timestamp": "2017-04-04 22:57:47",
    "messageId": "0B00000042AC53BD",
    "msisdn": "14843472194",
    "nonce": "929d6744-bd28-42c8-b6cf-31d5b4f43732",
    "text": "Test with & and =",
    "timestamp": "1491346667",
    "to": "12192259404",
    "type": "text",
}
V7 = {"a": "alphabet", "b": "bananas", "timestamp": "2100"}
V7_WITHOUT_B = {"a": "alphabet", "timestamp": "2100"}
V7_EMPTY_B = {"a": "alphabet", "b": "", "timestamp": "2100"}
V8 = {"param1": "value1", "param2": "value2", "timestamp": "1234567890"}
V8_SPECIAL = {"param1": "value&1", "param2": "value=2", "timestamp": "1234567890"}
V8_SHORT = {"param": "value", "timestamp": "1234567890"}
PHP, JAVA, PYTHON = "my_secret_key_for_testing", "abcde", "signature_secret"

VECTORS = [
    pytest.param(V1, PHP, "md5hash", "d2e7b1dc968737c5998ad624e02f90b7", id="php-md5hash"),
    pytest.param(V1, PHP, "md5", "DDEBD46008C2D4E93CCE578A332A52D5", id="php-md5"),
    pytest.param(V1, PHP, "sha1", "27D0D05C2876C7CB1720DBCDBA4D492E1E55C09A", id="php-sha1"),
    pytest.param(
        V1, PHP, "sha256", "DDB8397C2B90AAC7F3882D306475C9A5058C92322EEF43C92B298B6E0FC0D330", id="php-sha256"
    ),
    pytest.param(
        V1,
        PHP,
        "sha512",
        "E0D3C650F8C9D1A5C174D10DDDBFB003E561F59B265616208B0487C5D819481C"
        "D3C311D59CF6165ECD1139622D5BA3A256C0D763AC4A9AD9144B5A426B94FE82",
        id="php-sha512",
    ),
    pytest.param(V2, PHP, "md5hash", "e06d9763e3fd0b9c31beb5fc2fcb011c", id="php-special-characters"),
    pytest.param(V7, JAVA, "md5hash", "7d43241108912b32cc315b48ce681acf", id="java-md5hash"),
    pytest.param(V7, JAVA, "md5", "e0afe267aefd6dd18a848c1681517a19", id="java-md5"),
    pytest.param(V7, JAVA, "sha1", "b7f749de27b4adcf736cc95c9a7e059a16c85127", id="java-sha1"),
    pytest.param(
        V7, JAVA, "sha256", "8d1b0428276b6a070578225914c3502cc0687a454dfbbbb370c76a14234cb546", id="java-sha256"
    ),
    pytest.param(
        V7,
        JAVA,
        "sha512",
        "1c834a1f6a377d4473971387b065cb38e2ad6c4869ba77b7b53e207a344e87ba"
        "04b456dfc697b371a2d1ce476d01dafd4394aa97525eff23badad39d2389a710",
        id="java-sha512",
    ),
    pytest.param(V7_WITHOUT_B, JAVA, "md5hash", "a3368bf718ba104dcb392d8877e8eb2b", id="java-b-omitted"),
    pytest.param(V7_EMPTY_B, JAVA, "md5hash", "dcc17a25d6a9ae77d48ef49158ee1072", id="b-empty"),
    pytest.param(
        V8, PYTHON, "sha256", "280c4320703dbc98bfa22db676655ed2acfbfe8792b062ff7622e67f1183c287", id="python-sha256"
    ),
    pytest.param(V8, PYTHON, "md5", "724c2bf6ca423c36e20631b11d1c5753", id="python-md5"),
    pytest.param(V8_SPECIAL, PYTHON, "md5", "2bbf0abafb2c55e5af6231513896a2ac", id="python-special-characters"),
    pytest.param(V8_SHORT, PYTHON, "md5", "655a4d0b7f064dff438defc52b012cf5", id="python-short"),
]


@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.swapcase], ids=["lower", "upper", "swapped"])
@pytest.mark.parametrize(("params", "secret", "method", "sig"), VECTORS)
def test_a_published_vector_verifies_in_any_letter_case(params, secret, method, sig, spelled):
    assert verified_by({**params, "sig": spelled(sig)}, secret)
    assert verified_by({**params, "sig": spelled(sig)}, secret, method)


@pytest.mark.parametrize(("params", "secret", "method", "sig"), VECTORS)
def test_we_sign_as_the_published_vector_does(params, secret, method, sig):
    assert sign_sig(params, secret, method).lower() == sig.lower()


@pytest.mark.parametrize(("params", "secret", "method", "sig"), VECTORS)
def test_a_published_vector_fails_with_another_secret_or_method(params, secret, method, sig):
    signed = {**params, "sig": sig}

    assert reason_of(verified_by, signed, secret + "x") == "wrong"
    for other in set(METHODS) - {method}:
        assert reason_of(verified_by, signed, secret, other) == "wrong"


def test_an_empty_parameter_is_part_of_the_signature():
    sig = "a3368bf718ba104dcb392d8877e8eb2b"

    assert reason_of(verified_by, {**V7_EMPTY_B, "sig": sig}, JAVA) == "wrong"


RUBY_SECRET = "ZYtdTtGV3BCFN7tWmOWr1md66XsquMggr4W2cTtXtcPgfnI0Xw"
RUBY_TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    "eyJpYXQiOjE1ODc0OTQ5NjIsImp0aSI6ImM1YmE4ZjI0LTFhMTQtNGMxMC1iZmRmLTNmYmU4Y2U1MTFiNSIsImlzcyI6IlZvbmFnZSIs"
    "InBheWxvYWRfaGFzaCI6ImQ2YzBlNzRiNTg1N2RmMjBlM2I3ZTUxYjMwYzBjMmE0MGVjNzNhNzc4NzliNmYwNzRkZGM3YTIzMTdkZDAz"
    "MWIiLCJhcGlfa2V5IjoiYTFiMmMzZCIsImFwcGxpY2F0aW9uX2lkIjoiYWFhYWFhYWEtYmJiYi1jY2NjLWRkZGQtMDEyMzQ1Njc4OWFiIn0."
    "JQRKi1d0SQitmjPINfTWMpt3XZkGsLbD7EjCdXoNSbk"
)
SYMFONY_SECRET = "secret-key"
SYMFONY_BODY = b'{"status":"delivered","message_uuid":"1","to":"447700900000","channel":"sms"}'
SYMFONY_TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    "eyJwYXlsb2FkX2hhc2giOiI4ZTc4M2NlOGMwNjVmOTQ3NmQyZThiYTA3NWQyMDllMmI5ZmUyZGMwNjFmY2RmZjRiNzRlMzVmZWVkYzRkNTg0"
    "IiwiaWF0IjoxNTE2MjM5MDIyLCJqdGkiOiJqdGkiLCJpc3MiOiJWb25hZ2UifQ.phPpAWnQ8LF9c4F3r8x0_RHYt_k1py1MqL2Acy3-q5c"
)


def with_token(token, body, query="", **kwargs):
    return parse("POST", STATUS_PATH, query, {"Authorization": f"Bearer {token}"}, body, **kwargs)


def test_the_documented_token_holds_and_only_its_unpublished_body_is_missing():
    assert reason_of(with_token, RUBY_TOKEN, b"{}", secrets=RUBY_SECRET) == "body"
    assert reason_of(with_token, RUBY_TOKEN, b"{}", secrets={"a1b2c3d": RUBY_SECRET}) == "body"
    assert reason_of(with_token, RUBY_TOKEN, b"{}", secrets=RUBY_SECRET + "x") == "wrong"
    assert reason_of(with_token, RUBY_TOKEN, b"{}", secrets={"a1b2c3e": RUBY_SECRET}) == "account"


def test_symfonys_token_verifies_its_body():
    (receipt,) = with_token(SYMFONY_TOKEN, SYMFONY_BODY, secrets=SYMFONY_SECRET)

    assert (receipt.verified, receipt.stale, receipt.message_id) == (True, False, "1")


def test_symfonys_token_says_when_it_was_made():
    keyring = Keyring.of(SYMFONY_SECRET)

    signed = verify_jwt(SYMFONY_TOKEN.encode(), SYMFONY_BODY, keyring, Windows())

    assert signed.made_at == datetime(2018, 1, 18, 1, 30, 22, tzinfo=UTC)


# Tokens that are refused, each with its reason.

SECRET = "s3cret"
BODY = b'{"message_uuid":"m","status":"delivered","to":"447700900000","from":"Acme","channel":"sms"}'
HS256 = {"alg": "HS256", "typ": "JWT"}
CLAIMS = {
    "iat": NOON_S,
    "jti": "j",
    "iss": "Vonage",
    "payload_hash": hashlib.sha256(BODY).hexdigest(),
    "api_key": "abcd1234",
}


def part(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def token(header=HS256, claims=CLAIMS, secret=SECRET, algorithm="sha256"):
    signing_input = f"{part(header)}.{part(claims)}"
    return f"{signing_input}.{part(hmac.digest(secret.encode(), signing_input.encode(), algorithm))}"


def without(name):
    return {key: value for key, value in CLAIMS.items() if key != name}


def unsigned(header):
    return f"{part(header)}.{part(CLAIMS)}."


REFUSED = [
    pytest.param(unsigned({"alg": "none"}), "algorithm", id="alg-none"),
    pytest.param(unsigned({"alg": "None", "typ": "JWT"}), "algorithm", id="alg-None"),
    pytest.param(unsigned(HS256), "wrong", id="no-signature"),
    pytest.param(token({"alg": "RS256", "typ": "JWT"}), "algorithm", id="alg-RS256"),
    pytest.param(token({"alg": "HS512", "typ": "JWT"}, algorithm="sha512"), "algorithm", id="alg-HS512"),
    pytest.param(token({"alg": "hs256"}), "algorithm", id="alg-lower-case"),
    pytest.param(token({"typ": "JWT"}), "algorithm", id="alg-missing"),
    pytest.param(token({"alg": "HS256", "crit": ["b64"], "b64": False}), "algorithm", id="crit"),
    pytest.param(token({"alg": ["HS256"]}), "malformed", id="alg-a-list"),
    pytest.param(token(algorithm="sha512"), "wrong", id="signed-by-another-algorithm"),
    pytest.param(token(secret="other"), "wrong", id="another-secret"),
    pytest.param(token(claims=CLAIMS | {"iss": "vonage"}), "issuer", id="iss-letter-case"),
    pytest.param(token(claims=CLAIMS | {"iss": "Vonage "}), "issuer", id="iss-blank"),
    pytest.param(token(claims=without("iss")), "issuer", id="iss-missing"),
    pytest.param(token(claims=CLAIMS | {"iss": None}), "malformed", id="iss-null"),
    pytest.param(token(claims=without("payload_hash")), "body", id="payload-hash-missing"),
    pytest.param(token(claims=CLAIMS | {"payload_hash": ""}), "body", id="payload-hash-empty"),
    pytest.param(token(claims=CLAIMS | {"payload_hash": "\u017f"}), "body", id="payload-hash-non-ascii"),
    pytest.param(token(claims=CLAIMS | {"payload_hash": 5}), "malformed", id="payload-hash-a-number"),
    pytest.param(token(claims=CLAIMS | {"api_key": 5}), "malformed", id="api-key-a-number"),
    pytest.param(token(claims=[CLAIMS]), "malformed", id="claims-a-list"),
    pytest.param(token(claims=b"{" * 9999), "malformed", id="claims-not-json"),
    pytest.param(token(claims=b'{"iat":' + b"[" * 9999), "malformed", id="claims-deep"),
    pytest.param(token(claims=b'{"iss":"\xff"}'), "malformed", id="claims-not-utf-8"),
    pytest.param("", "malformed", id="empty"),
    pytest.param(".", "malformed", id="a-dot"),
    pytest.param("..", "malformed", id="two-dots"),
    pytest.param("a.b", "malformed", id="two-parts"),
    pytest.param(token() + ".e30", "malformed", id="four-parts"),
    pytest.param(token().replace(".", ".a", 1), "malformed", id="claims-one-character-too-many"),
    pytest.param(token() + "=", "wrong", id="padded"),
    pytest.param(token() + "é", "wrong", id="non-ascii"),
    pytest.param("\ud800", "malformed", id="a-lone-surrogate"),
]


@pytest.mark.parametrize(("bearer", "reason"), REFUSED)
def test_a_token_is_refused_with_its_reason(bearer, reason):
    assert reason_of(with_token, bearer, BODY, secrets=SECRET) == reason


def test_the_token_of_these_tests_is_good():
    (receipt,) = with_token(token(), BODY, secrets={"abcd1234": SECRET}, now=NOON)

    assert (receipt.verified, receipt.stale, receipt.api_key) == (True, False, "abcd1234")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_header_and_scheme_are_read_in_any_letter_case(name, scheme):
    facts = parse("POST", STATUS_PATH, "", {name: f"{scheme} {token()} "}, BODY, secrets=SECRET)

    assert facts[0].verified


def test_another_order_of_the_header_and_claims_is_good():
    bearer = token({"typ": "JWT", "alg": "HS256", "kid": "1"}, dict(reversed(CLAIMS.items())))

    assert with_token(bearer, BODY, secrets=SECRET)[0].verified


def test_a_payload_hash_in_upper_case_is_good():
    bearer = token(claims=CLAIMS | {"payload_hash": hashlib.sha256(BODY).hexdigest().upper()})

    assert with_token(bearer, BODY, secrets=SECRET)[0].verified


@pytest.mark.parametrize("body", [BODY + b" ", BODY[:-1], b"", BODY.replace(b"delivered", b"rejected")])
def test_another_body_than_the_signed_one_is_refused(body):
    assert reason_of(with_token, token(), body, query="a=b", secrets=SECRET) == "body"


def test_a_token_signature_has_one_spelling_only():
    bearer = token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same_bytes = bearer[:-1] + alphabet[alphabet.index(bearer[-1]) ^ 1]

    assert reason_of(with_token, same_bytes, BODY, secrets=SECRET) == "wrong"


# Whose secret.


def test_any_of_several_secrets_verifies():
    for secrets in (["old", SECRET], (SECRET, "new"), iter([SECRET])):
        assert with_token(token(), BODY, secrets=secrets)[0].verified


def test_a_rotated_secret_verifies_and_a_retired_one_does_not():
    rotating = {"abcd1234": ["old", "new"]}

    assert with_token(token(secret="old"), BODY, secrets=rotating)[0].verified
    assert with_token(token(secret="new"), BODY, secrets=rotating)[0].verified
    assert reason_of(with_token, token(secret="old"), BODY, secrets={"abcd1234": "new"}) == "wrong"


def test_the_secret_is_that_of_the_named_api_key():
    secrets = {"abcd1234": SECRET, "other": "other-secret"}

    assert with_token(token(), BODY, secrets=secrets)[0].api_key == "abcd1234"
    assert reason_of(with_token, token(secret="other-secret"), BODY, secrets=secrets) == "wrong"
    assert reason_of(with_token, token(), BODY, secrets={"other": SECRET}) == "account"
    assert reason_of(with_token, token(claims=CLAIMS | {"api_key": ""}), BODY, secrets=secrets) == "account"


def test_an_api_key_that_is_not_named_may_be_any_of_ours():
    bearer = token(claims=without("api_key"), secret="two")

    assert with_token(bearer, BODY, secrets={"a": "one", "b": ["old", "two"]})[0].verified


def test_the_account_is_the_one_whose_secret_verified():
    keyring = Keyring(
        [
            Account(name="keyed", api_key="abcd1234", secrets=(b"other",)),
            Account(name="keyless", secrets=(SECRET.encode(),)),
        ]
    )

    assert verify_jwt(token().encode(), BODY, keyring, Windows()).account == "keyless"
    assert [keyring.name_of(key) for key in ("abcd1234", "unheard", None)] == ["keyed", "keyed", "keyed"]


def test_an_unsigned_request_is_of_an_unknown_account_only_when_every_account_has_its_key():
    keyed = Account(name="keyed", api_key="a", secrets=(b"x",))

    assert Keyring([keyed]).name_of("b") is None
    assert Keyring([keyed]).name_of("a") == "keyed"
    assert Keyring([keyed, Account(name="keyless")]).name_of("b") == "keyed"
    assert Keyring([]).name_of("b") == "default"
    assert not Keyring([Account(name="keyless")]).has_secrets


@pytest.mark.parametrize(
    "secrets",
    [
        "",
        " ",
        [],
        [""],
        ["good", ""],
        (),
        {},
        {"a": ""},
        {"a": []},
        {"a": "good", "b": [""]},
        iter([]),
        b"bytes",
        [None],
    ],
    ids=lambda secrets: type(secrets).__name__ if hasattr(secrets, "__next__") else repr(secrets),
)
def test_empty_secrets_are_a_wrong_setting_and_never_accept_all(secrets):
    with pytest.raises(SettingsError):
        with_token(token(), BODY, secrets=secrets)
    with pytest.raises(SettingsError):
        parse("GET", RECEIPT_PATH, "", {}, b"", secrets=[] if not isinstance(secrets, dict) else {})


@pytest.mark.parametrize("secret", [b"", b" "])
def test_a_keyring_takes_no_empty_secret(secret):
    with pytest.raises(SettingsError):
        Keyring([Account(name="ours", secrets=(b"good", secret))])


@pytest.mark.parametrize("method", ["", "none", "MD5HASH", "sha3_256"])
def test_a_keyring_takes_no_unknown_method(method):
    with pytest.raises(SettingsError):
        Keyring([Account(name="ours", secrets=(b"good",), method=method)])


def test_an_account_without_secrets_verifies_nothing():
    keyring = Keyring([Account(name="ours")])

    assert reason_of(verify_jwt, token(secret="x").encode(), BODY, keyring, Windows()) == "wrong"


# Windows: outside of them a fact is stale, which is no error.

SIG_PARAMS = {"messageId": "m", "status": "delivered", "msisdn": "447700900000", "err-code": "0", "api-key": "abcd1234"}


@pytest.mark.parametrize(
    ("seconds", "stale"),
    [
        pytest.param(0, False, id="now"),
        pytest.param(25 * 3600, False, id="25-hours"),
        pytest.param(25 * 3600 + 1, True, id="over-25-hours"),
        pytest.param(-300, False, id="5-minutes-ahead"),
        pytest.param(-301, True, id="over-5-minutes-ahead"),
        pytest.param(10 * 365 * 86400, True, id="ten-years"),
    ],
)
def test_a_token_is_stale_outside_its_window(seconds, stale):
    bearer = token(claims=CLAIMS | {"iat": NOON_S - seconds})

    (receipt,) = with_token(bearer, BODY, secrets=SECRET, now=NOON)

    assert (receipt.verified, receipt.stale) == (True, stale)


@pytest.mark.parametrize(
    "iat",
    [None, "text", str(NOON_S), -1, 1e308, 10**30, 2**63, [], {}, False, 0, NOON_S * 1000],
    ids=repr,
)
def test_a_token_whose_time_is_odd_is_stale_and_not_lost(iat):
    bearer = token(claims=CLAIMS | {"iat": iat})

    assert with_token(bearer, BODY, secrets=SECRET, now=NOON)[0].stale
    assert not with_token(bearer, BODY, secrets=SECRET)[0].stale


def test_a_token_without_a_time_is_stale():
    assert with_token(token(claims=without("iat")), BODY, secrets=SECRET, now=NOON)[0].stale


def test_a_token_with_a_fraction_of_a_second_is_timed():
    assert not with_token(token(claims=CLAIMS | {"iat": NOON_S + 0.5}), BODY, secrets=SECRET, now=NOON)[0].stale


def signed_query(params, secret=SECRET, method="md5hash"):
    return urlencode({**params, "sig": sign_sig(params, secret, method)})


@pytest.mark.parametrize(
    ("timestamp", "stale"),
    [
        pytest.param(str(NOON_S), False, id="now"),
        pytest.param(str(NOON_S - 73 * 3600), False, id="73-hours"),
        pytest.param(str(NOON_S - 73 * 3600 - 1), True, id="over-73-hours"),
        pytest.param(str(NOON_S + 300), False, id="5-minutes-ahead"),
        pytest.param(str(NOON_S + 301), True, id="over-5-minutes-ahead"),
        pytest.param("", True, id="empty"),
        pytest.param("9" * 5000, True, id="5000-digits"),
        pytest.param("1_0", True, id="underscore"),
        pytest.param("١٢٣", True, id="other-digits"),
        pytest.param("inf", True, id="inf"),
    ],
)
def test_a_sig_is_stale_outside_its_window(timestamp, stale):
    query = signed_query({**SIG_PARAMS, "timestamp": timestamp})

    (receipt,) = parse("GET", RECEIPT_PATH, query, {}, b"", secrets=SECRET, now=NOON)

    assert (receipt.verified, receipt.stale) == (True, stale)


def test_a_sig_without_a_time_is_stale():
    query = signed_query(SIG_PARAMS)

    assert parse("GET", RECEIPT_PATH, query, {}, b"", secrets=SECRET, now=NOON)[0].stale


def test_windows_can_be_set():
    request = Request(method="POST", path="/", headers=((b"authorization", b"Bearer " + token().encode()),), body=BODY)
    windows = Windows(jwt_back_seconds=timedelta(days=7).total_seconds(), ahead_seconds=0)

    signed, coverage = authenticate(request, Keyring.of(SECRET), windows)

    assert coverage is Coverage.BODY
    assert not signed.is_stale((NOON + timedelta(days=7)).timestamp(), windows.ahead_seconds)
    assert signed.is_stale((NOON + timedelta(days=7, seconds=1)).timestamp(), windows.ahead_seconds)
    assert signed.is_stale((NOON - timedelta(seconds=1)).timestamp(), windows.ahead_seconds)


def test_a_blank_api_key_is_as_if_absent():
    query = signed_query(SIG_PARAMS | {"api-key": " "})

    assert parse("GET", RECEIPT_PATH, query, {}, b"", secrets={"abcd1234": SECRET})[0].api_key is None


# What a sig covers.


def as_json(params):
    return json.dumps(params).encode()


def signed_json(params, **more):
    return as_json({**params, "sig": sign_sig({name: str(value) for name, value in params.items()}, SECRET), **more})


def by_sig(query=b"", body=b"", **kwargs):
    return parse("POST", RECEIPT_PATH, query, {}, body, secrets=SECRET, **kwargs)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_verifies_by_query_form_and_json(method):
    query = signed_query(SIG_PARAMS, method=method)
    sig = sign_sig(SIG_PARAMS, SECRET, method)

    by_query = by_sig(query)
    by_form = by_sig(body=query.encode())
    by_json = by_sig(body=as_json({**SIG_PARAMS, "sig": sig}))

    assert by_query == by_form == by_json
    assert by_query[0].verified
    assert by_query[0].api_key == "abcd1234"


def test_a_json_sig_verifies_when_the_json_came_as_a_form():
    body = signed_json(SIG_PARAMS)

    assert by_sig(body=urlencode({body.decode(): ""}).encode())[0].verified


def test_numbers_are_signed_as_they_are_written():
    params = SIG_PARAMS | {"err-code": 0, "price": 0.5, "to": 12345678901234567890123}
    sig = sign_sig(SIG_PARAMS | {"price": "0.50", "to": "12345678901234567890123"}, SECRET)
    body = as_json({**params, "sig": sig}).replace(b"0.5,", b"0.50,")

    assert by_sig(body=body)[0].verified
    assert by_sig(body=body)[0].sender == "12345678901234567890123"


def test_parameters_of_query_and_body_are_signed_together():
    sig = sign_sig(SIG_PARAMS, SECRET)
    first, second = dict(list(SIG_PARAMS.items())[:2]), dict(list(SIG_PARAMS.items())[2:])

    for query, body in [
        (urlencode(first | {"sig": sig}), urlencode(second).encode()),
        (urlencode(first), urlencode(second | {"sig": sig}).encode()),
        (urlencode(first), as_json(second | {"sig": sig})),
        (urlencode(first | {"sig": sig}), as_json(second)),
    ]:
        (receipt,) = by_sig(query, body)
        assert (receipt.verified, receipt.message_id, receipt.to) == (True, "m", "447700900000")


GOOD_SIG = sign_sig(SIG_PARAMS, SECRET)
UNCOVERED = [
    pytest.param(signed_query(SIG_PARAMS) + "&status=failed", b"", id="name-twice-in-the-query"),
    pytest.param("status=failed&" + signed_query(SIG_PARAMS), b"", id="name-twice-first-differs"),
    pytest.param(signed_query(SIG_PARAMS), b"status=failed", id="name-in-query-and-form"),
    pytest.param(signed_query(SIG_PARAMS), b'{"status":"failed"}', id="name-in-query-and-json"),
    pytest.param("status=failed", signed_json(SIG_PARAMS), id="name-in-json-and-query"),
    pytest.param(signed_query(SIG_PARAMS) + "&sig=" + GOOD_SIG, b"", id="sig-twice"),
    pytest.param(b"", signed_json(SIG_PARAMS).replace(b'"sig"', b'"status": "failed", "sig"'), id="duplicate-json-key"),
    pytest.param(
        b"",
        signed_json(SIG_PARAMS).replace(b'"sig"', b'"stat\\u0075s": "failed", "sig"'),
        id="escaped-duplicate-json-key",
    ),
    pytest.param(b"", signed_json(SIG_PARAMS, usage={"price": "1"}), id="nested-object"),
    pytest.param(b"", signed_json(SIG_PARAMS, usage={}), id="nested-empty-object"),
    pytest.param(b"", signed_json(SIG_PARAMS, usage=["1"]), id="nested-list"),
    pytest.param(b"", signed_json(SIG_PARAMS, usage=True), id="bool"),
    pytest.param(b"", signed_json(SIG_PARAMS, usage=None), id="null"),
    pytest.param(b"", signed_json(SIG_PARAMS).replace(b'"sig"', b'"price": NaN, "sig"'), id="nan"),
    pytest.param(b"", b"[" + signed_json(SIG_PARAMS) + b"]", id="list-of-one"),
    pytest.param(signed_query(SIG_PARAMS), b'[{"status":"failed"}]', id="query-signed-body-a-list"),
    pytest.param(signed_query(SIG_PARAMS), b'{"usage":{"price":"1"}}', id="query-signed-body-nested"),
    pytest.param(b"", signed_json(SIG_PARAMS).replace(b'"sig"', b'"x": "\xff", "sig"'), id="json-not-utf-8"),
    pytest.param(b"", signed_json(SIG_PARAMS).replace(b'"sig"', b'"x": "\\ud800", "sig"'), id="json-lone-surrogate"),
    pytest.param(signed_query(SIG_PARAMS | {"a&b": "c"}), b"", id="ampersand-in-a-name"),
    pytest.param(signed_query(SIG_PARAMS | {"a=b": "c"}), b"", id="equals-in-a-name"),
    pytest.param(b"", signed_json(SIG_PARAMS | {"a&b": "c"}), id="ampersand-in-a-json-name"),
]


@pytest.mark.parametrize(("query", "body"), UNCOVERED)
def test_what_a_sig_cannot_cover_is_a_bad_signature(query, body):
    assert reason_of(by_sig, query, body) == "uncovered"


def test_a_name_that_hides_another_parameter_in_the_signature_is_refused():
    """The base of {"a": "1", "status": "failed"} is also that of {"a": "1", "status=failed": ...} without this rule."""
    signed = {"a": "1", "messageId": "m", "status": "failed"}
    sig = sign_sig(signed, SECRET)

    assert reason_of(by_sig, urlencode({"a": "1&messageId=m&status=failed", "sig": sig})) == "wrong"
    assert reason_of(by_sig, urlencode({"a=1&messageId": "m", "status": "failed", "sig": sig})) == "uncovered"


@pytest.mark.parametrize(
    ("query", "body"),
    [
        pytest.param(signed_query(SIG_PARAMS) + "&client-ref=x", b"", id="a-parameter-more"),
        pytest.param(signed_query(SIG_PARAMS), b"client-ref=x", id="a-parameter-more-in-the-form"),
        pytest.param(signed_query(SIG_PARAMS), b'{"client-ref":"x"}', id="a-parameter-more-in-the-json"),
        pytest.param(signed_query(SIG_PARAMS), b'{"message_uuid":"x","status_":"read"}', id="messages-body"),
        pytest.param(signed_query(SIG_PARAMS).replace("err-code=0&", ""), b"", id="a-parameter-less"),
        pytest.param(signed_query(SIG_PARAMS).replace("delivered", "failed"), b"", id="another-value"),
        pytest.param(signed_query(SIG_PARAMS)[:-1], b"", id="a-sig-cut-short"),
        pytest.param(urlencode(SIG_PARAMS | {"sig": ""}), b"", id="an-empty-sig"),
        pytest.param(urlencode(SIG_PARAMS | {"sig": "é" * 32}), b"", id="a-non-ascii-sig"),
        pytest.param(urlencode(SIG_PARAMS) + "&sig=%ff%00", b"", id="a-sig-of-bytes"),
        pytest.param(urlencode(SIG_PARAMS) + "&sig", b"", id="a-sig-without-value"),
    ],
)
def test_a_sig_over_anything_else_is_wrong(query, body):
    assert reason_of(by_sig, query, body) == "wrong"


def test_a_sig_in_json_that_is_no_text_is_refused():
    assert reason_of(by_sig, b"", as_json(SIG_PARAMS | {"sig": None})) == "uncovered"
    assert reason_of(by_sig, b"", as_json(SIG_PARAMS | {"sig": 5})) == "wrong"


@pytest.mark.parametrize("method", METHODS)
def test_an_account_with_a_method_takes_no_other(method):
    params = {name.encode(): value.encode() for name, value in SIG_PARAMS.items()}
    keyring = Keyring([Account(name="ours", secrets=(SECRET.encode(),), method=method)])

    for other in METHODS:
        signed = {**params, b"sig": sign_sig(SIG_PARAMS, SECRET, other).encode()}
        if other == method:
            assert verify_sig(signed, keyring, Windows()).account == "ours"
        else:
            assert reason_of(verify_sig, signed, keyring, Windows()) == "wrong"


def test_a_sig_takes_the_secret_of_its_api_key():
    query = signed_query(SIG_PARAMS)

    assert parse("GET", RECEIPT_PATH, query, {}, b"", secrets={"abcd1234": ["old", SECRET]})[0].verified
    assert reason_of(parse, "GET", RECEIPT_PATH, query, {}, b"", secrets={"other": SECRET}) == "account"


# What may be believed.


def test_under_a_token_only_the_body_is_believed():
    (receipt,) = with_token(token(), BODY, query="client_ref=x&status=rejected&messageId=y", secrets=SECRET)

    assert (receipt.message_id, receipt.provider_status, receipt.client_ref) == ("m", "delivered", None)


def test_under_a_token_parameters_of_the_query_alone_are_unreadable():
    bearer = token(claims=CLAIMS | {"payload_hash": hashlib.sha256(b"").hexdigest()})

    with pytest.raises(Unreadable):
        with_token(bearer, b"", query=urlencode(SIG_PARAMS), secrets=SECRET)


def test_under_a_token_a_form_that_misses_its_id_does_not_take_it_from_the_query():
    body = b"status=delivered&msisdn=447700900000"
    bearer = token(claims=CLAIMS | {"payload_hash": hashlib.sha256(body).hexdigest()})

    with pytest.raises(Unreadable):
        with_token(bearer, body, query="messageId=m", secrets=SECRET)


def test_a_bad_token_is_not_saved_by_a_good_sig():
    headers = {"Authorization": f"Bearer {token(secret='other')}"}

    assert reason_of(parse, "GET", RECEIPT_PATH, signed_query(SIG_PARAMS), headers, b"", secrets=SECRET) == "wrong"


def test_a_proxys_basic_authorization_is_no_signature():
    headers = {"Authorization": "Basic dXNlcjpwYXNz"}

    assert parse("GET", RECEIPT_PATH, signed_query(SIG_PARAMS), headers, b"", secrets=SECRET)[0].verified
    assert reason_of(parse, "POST", STATUS_PATH, "", headers, BODY, secrets=SECRET) == "missing"


def test_no_signature_is_missing_where_secrets_are_given():
    assert reason_of(parse, "POST", STATUS_PATH, "", {}, BODY, secrets=SECRET) == "missing"
    assert reason_of(parse, "GET", RECEIPT_PATH, urlencode(SIG_PARAMS), {}, b"", secrets=SECRET) == "missing"


def test_without_secrets_nothing_is_checked_and_nothing_verified():
    (receipt,) = with_token("rubbish", BODY)

    assert (receipt.verified, receipt.stale, receipt.api_key) == (False, False, None)


def test_our_own_tokens_and_sigs_verify():
    bearer = sign_jwt(BODY, SECRET, issued_at=NOON_S, token_id="j", api_key="abcd1234", application_id="app")

    (receipt,) = with_token(bearer, BODY, secrets={"abcd1234": SECRET}, now=NOON)

    assert (receipt.verified, receipt.stale) == (True, False)


FIELDS = st.sampled_from(
    ["sig", "%73ig", "a", "a-b", "a.b", "a=", "", "b%26", "b%3D", "b%00", "c%zz", "%", "é", "sig%20", "+"]
)
VALUES = st.sampled_from(["", "1", "x+y", "12%3A00", "a%26b", "a%3Db", "a=b", "%00", "%", "ABCDEF", "%E9"])


@given(st.lists(st.tuples(FIELDS, st.sampled_from(["=", "=", "=", ""]), VALUES), max_size=6), st.booleans())
def test_a_query_that_is_read_at_once_says_what_it_says_field_by_field(parts, doubled):
    query = ("&&" if doubled else "&").join("".join(part) for part in parts).encode()

    read = plain_query(query)

    if read is not None:
        params, base = read
        assert params == signed_params(read_pairs(query))
        assert base == signature_base(params)


def test_usual_receipts_are_read_at_once():
    params = {"messageId": "m", "message-timestamp": "2020-01-01 12:00:00", "status": "delivered", "sig": "ABC"}

    assert plain_query(urlencode(params).encode()) is not None


@pytest.mark.parametrize("key", [b"k", b"k" * 63, b"k" * 64, b"k" * 65, b"k" * 500], ids=len)
@given(message=st.binary(max_size=300))
def test_hmac_with_its_pads_hashed_once_is_hmac(key, message):
    assert HmacSha256(key).digest(message) == hmac.digest(key, message, "sha256")
