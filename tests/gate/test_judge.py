"""The verdict table of design.md, row by row."""

import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from urllib.parse import urlencode

import pytest

from landed.domain.moments import microseconds
from landed.gate.judge import ANSWERS, Judge, Keep, Policy
from landed.vonage.request import Request
from landed.vonage.signing import Account, Coverage, Keyring, Windows, sign_jwt, sign_sig

SECRET = "secret"
NOON = datetime(2025, 2, 3, 12, tzinfo=UTC)
NOON_S = int(NOON.timestamp())
NOON_US = microseconds(NOON)
STATUS_PATH = "/webhooks/message-status"
RECEIPT_PATH = "/webhooks/delivery-receipt"
PATHS = tuple(ANSWERS)

RECEIPT = {"messageId": "m", "msisdn": "1", "to": "2", "status": "delivered", "err-code": "0"}
STATUS = {"message_uuid": "u", "to": "1", "from": "2", "channel": "sms", "status": "delivered"}
INBOUND_SMS = {"messageId": "m", "msisdn": "1", "to": "2", "text": "hello", "type": "text"}

OPEN = Keyring([])
ONE = Keyring.of(SECRET)
KEYED = Keyring([Account(name="ours", api_key="key-a", secrets=(b"secret-a",))])
TWO = Keyring(
    [
        Account(name="first", api_key="key-a", secrets=(b"secret-a", b"secret-a-old")),
        Account(name="second", api_key="key-b", secrets=(b"secret-b",)),
    ]
)
MIXED = Keyring(
    [Account(name="first", api_key="key-a", secrets=(b"secret-a",)), Account(name="other", secrets=(b"secret-o",))]
)
KEYED_BUT_OPEN = Keyring([Account(name="ours", api_key="key-a")])


def request(path=STATUS_PATH, method="POST", query="", body=b"", token=None):
    headers = ((b"Host", b"a"),) + (((b"authorization", b"Bearer " + token.encode()),) if token else ())
    return Request(method=method, path=path, query=query.encode(), headers=headers, body=body)


def verdict(keyring, asked, now=NOON, windows=None):
    return Judge(keyring, windows).verdict(asked, microseconds(now))


def signed_status(path=STATUS_PATH, secret=SECRET, api_key=None, at=NOON_S, body=None, **kwargs):
    body = json.dumps(STATUS).encode() if body is None else body
    token = sign_jwt(body, secret, issued_at=at, token_id="j", api_key=api_key)
    return request(path, body=body, token=token, **kwargs)


def sig_query(secret=SECRET, api_key=None, at=NOON_S, **fields):
    params = RECEIPT | fields | {"timestamp": str(at)} | ({"api-key": api_key} if api_key else {})
    return urlencode(params | {"sig": sign_sig(params, secret, "sha256")})


def unsigned_sms(**kwargs):
    return request(RECEIPT_PATH, "GET", urlencode(RECEIPT), **kwargs)


def is_kept(given, answer, account="default"):
    return (given.keep, given.answer, given.account) == (Keep.JOURNAL, answer, account)


def is_refused(given, reason):
    answer = 503 if reason == "missing" else 401
    return (given.keep, given.answer, given.reason) == (Keep.QUARANTINE, answer, reason)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("keyring", [OPEN, ONE, KEYED, TWO], ids=["open", "one", "keyed", "two"])
def test_a_good_signature_or_none_required_is_kept_and_answered_as_the_path_says(path, keyring):
    answer = 204 if path == RECEIPT_PATH else 200
    key, secret = ("key-a", "secret-a") if keyring in (KEYED, TWO) else (None, "secret")
    account = {KEYED: "ours", TWO: "first"}.get(keyring, "default")
    for asked in (
        signed_status(path, secret, key),
        request(path, "GET", sig_query(secret, key)),
        request(path, "HEAD", sig_query(secret, key)),
        request(path, body=sig_query(secret, key).encode()),
        request(path, "GET", urlencode(RECEIPT)),
        request(path, body=json.dumps(INBOUND_SMS).encode()),
    ):
        assert is_kept(verdict(keyring, asked), answer, account)


def test_the_trust_says_what_the_signature_covers():
    by_token = verdict(TWO, signed_status(secret="secret-b", api_key="key-b")).trust
    by_sig = verdict(TWO, request(method="GET", query=sig_query("secret-a", "key-a"))).trust
    by_none = verdict(TWO, unsigned_sms()).trust

    assert (by_token.coverage, by_token.verified, by_token.api_key) == (Coverage.BODY, True, "key-b")
    assert (by_sig.coverage, by_sig.verified, by_sig.api_key) == (Coverage.PARAMETERS, True, "key-a")
    assert (by_none.coverage, by_none.verified, by_none.api_key) == (Coverage.NOTHING, False, None)


@pytest.mark.parametrize(
    ("age", "stale"),
    [
        pytest.param(timedelta(), False, id="now"),
        pytest.param(timedelta(hours=24, minutes=59), False, id="a-late-retry"),
        pytest.param(timedelta(hours=25, minutes=1), True, id="too-late"),
        pytest.param(-timedelta(minutes=4), False, id="a-clock-ahead"),
        pytest.param(-timedelta(minutes=6), True, id="a-clock-far-ahead"),
        pytest.param(timedelta(days=9_000), True, id="another-age"),
    ],
)
def test_a_token_made_outside_its_window_is_stale_and_still_verified(age, stale):
    given = verdict(ONE, signed_status(at=int((NOON - age).timestamp())))

    assert is_kept(given, 200)
    assert (given.trust.verified, given.trust.stale) == (True, stale)


@pytest.mark.parametrize(("hours", "stale"), [(72.9, False), (73.1, True), (-0.05, False), (-0.1, True)])
def test_a_sig_made_outside_its_window_is_stale_and_still_verified(hours, stale):
    given = verdict(ONE, request(RECEIPT_PATH, "GET", sig_query(at=int(NOON_S - hours * 3600))))

    assert is_kept(given, 204)
    assert (given.trust.verified, given.trust.stale) == (True, stale)


def test_the_window_is_a_setting():
    asked = signed_status(at=NOON_S - 26 * 3600)

    assert not verdict(ONE, asked, windows=Windows(jwt_back_seconds=27 * 3600)).trust.stale


@pytest.mark.parametrize(
    ("keyring", "asked", "account"),
    [
        pytest.param(TWO, signed_status(secret="secret-b", api_key="key-b"), "second", id="token-with-key"),
        pytest.param(TWO, signed_status(secret="secret-b"), "second", id="token-without-key"),
        pytest.param(TWO, signed_status(secret="secret-a-old", api_key="key-a"), "first", id="rotating"),
        pytest.param(TWO, request(query=sig_query("secret-b", "key-b")), "second", id="sig-with-key"),
        pytest.param(TWO, request(query=sig_query("secret-b")), "second", id="sig-without-key"),
        pytest.param(TWO, request(query=urlencode(RECEIPT | {"api-key": "key-b"})), "second", id="unsigned-named"),
        pytest.param(TWO, unsigned_sms(), "first", id="unsigned-unnamed"),
        pytest.param(MIXED, signed_status(secret="secret-o", api_key="key-x"), "other", id="keyless-takes-any-key"),
        pytest.param(MIXED, request(query=urlencode(RECEIPT | {"api-key": "key-x"})), "first", id="keyless-unsigned"),
        pytest.param(ONE, signed_status(api_key="anything"), "default", id="no-key-configured"),
        pytest.param(OPEN, request(query=urlencode(RECEIPT | {"api-key": "any"})), "default", id="open"),
        pytest.param(KEYED_BUT_OPEN, unsigned_sms(), "ours", id="keyed-without-secret"),
        pytest.param(KEYED_BUT_OPEN, signed_status(secret="?"), "ours", id="token-that-nobody-can-check"),
    ],
)
def test_the_account_is_the_one_whose_secret_verified_else_the_named_else_the_default(keyring, asked, account):
    assert is_kept(verdict(keyring, asked), ANSWERS[asked.path], account)


@pytest.mark.parametrize(
    ("keyring", "asked", "reason"),
    [
        pytest.param(KEYED, request(query=urlencode(RECEIPT | {"api-key": "key-x"})), "account", id="unsigned"),
        pytest.param(KEYED_BUT_OPEN, request(query=urlencode(RECEIPT | {"api-key": "x"})), "account", id="no-secrets"),
        pytest.param(TWO, signed_status(secret="secret-a", api_key="key-x"), "account", id="token"),
        pytest.param(TWO, request(query=sig_query("secret-a", "key-x")), "account", id="sig"),
    ],
)
def test_an_account_is_unknown_only_when_every_account_has_its_key(keyring, asked, reason):
    assert is_refused(verdict(keyring, asked), reason)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param(signed_status(secret="other"), "wrong", id="token-of-another-secret"),
        pytest.param(
            request(
                body=b'{"message_uuid":"u"}', token=sign_jwt(b"{}", "secret", issued_at=1, token_id="", api_key="")
            ),
            "body",
            id="token-of-another-body",
        ),
        pytest.param(request(body=b"{}", token="x"), "malformed", id="token-that-is-none"),
        pytest.param(request(body=b"{}", token="e30.e30.x"), "algorithm", id="token-without-algorithm"),
        pytest.param(request(query=sig_query("other")), "wrong", id="sig-of-another-secret"),
        pytest.param(request(query=sig_query() + "&status=failed"), "uncovered", id="parameter-twice"),
        pytest.param(request(query=sig_query() + "&more=1"), "wrong", id="parameter-added"),
        pytest.param(request(query="messageId=m&status=delivered&sig="), "wrong", id="empty-sig"),
        pytest.param(
            request(body=json.dumps(RECEIPT | {"sig": "0" * 32, "more": {}}).encode()), "uncovered", id="nested"
        ),
    ],
)
def test_a_bad_signature_is_put_into_quarantine_and_answered_401(asked, reason):
    assert is_refused(verdict(ONE, asked), reason)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"body": json.dumps(STATUS).encode()}, id="messages-status"),
        pytest.param({"query": urlencode(STATUS), "method": "GET"}, id="messages-status-by-query"),
        pytest.param({"body": json.dumps(STATUS | RECEIPT).encode()}, id="both-apis-at-once"),
        pytest.param({"body": b"hello"}, id="unreadable"),
        pytest.param({"body": b'{"message_uuid":'}, id="json-cut-short"),
        pytest.param({"body": b"{}"}, id="empty-object"),
        pytest.param({"query": "a=b"}, id="unknown-parameters"),
        pytest.param({"query": "messageId=&status=delivered"}, id="empty-id"),
    ],
)
def test_what_does_not_read_as_the_sms_api_must_be_signed_once_there_is_a_secret(path, asked):
    assert is_refused(verdict(ONE, request(path, **asked)), "missing")
    assert is_kept(verdict(OPEN, request(path, **asked)), ANSWERS[path])


@pytest.mark.parametrize(
    "asked",
    [
        unsigned_sms(),
        request(body=urlencode(RECEIPT).encode()),
        request(body=json.dumps(RECEIPT).encode()),
        request(body=json.dumps(INBOUND_SMS).encode()),
        request(query="messageId=m"),
    ],
    ids=["get", "form", "json", "inbound", "only-an-id"],
)
def test_the_sms_api_is_taken_unsigned_and_unverified(asked):
    given = verdict(ONE, asked)

    assert is_kept(given, ANSWERS[asked.path])
    assert given.trust.verified is False


@pytest.mark.parametrize("body", [b"hello", b"{}", b"[1]", b'{"message_uuid":', b"\xff\x00", b"a=b"])
def test_what_is_trusted_but_unreadable_is_kept(body):
    given = verdict(ONE, signed_status(body=body))

    assert is_kept(given, 200)
    assert given.trust.verified


def test_a_token_is_judged_before_a_sig():
    asked = signed_status(query=sig_query("other"))

    assert verdict(ONE, asked).trust.coverage is Coverage.BODY


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("keyring", [OPEN, ONE, KEYED], ids=["open", "one", "keyed"])
@pytest.mark.parametrize("body", [b"", b" \r\n\t"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_probe_of_a_url_is_answered_200_and_not_kept(path, keyring, body, method):
    given = verdict(keyring, request(path, method, body=body))

    assert (given.keep, given.answer) == (Keep.NOTHING, 200)


def test_another_scheme_of_authorization_is_a_proxys_business():
    asked = Request(
        method="GET",
        path=RECEIPT_PATH,
        query=urlencode(RECEIPT).encode(),
        headers=((b"Authorization", b"Basic YTpi"),),
    )

    assert is_kept(verdict(ONE, asked), 204)


@pytest.mark.parametrize("keyring", [ONE, KEYED], ids=["one", "keyed"])
def test_the_sms_api_too_must_be_signed_when_that_is_required(keyring):
    judge = Judge(keyring, policy=Policy(sms_must_be_signed=True))
    signed = sig_query("secret-a", "key-a") if keyring is KEYED else sig_query()

    assert is_refused(judge.verdict(unsigned_sms(), NOON_US), "missing")
    assert judge.verdict(request(query=signed), NOON_US).trust.verified


def test_a_body_over_the_limit_is_kept_where_nothing_is_believed():
    given = Judge(ONE).too_large()

    assert (given.keep, given.answer, given.trust.verified) == (Keep.QUARANTINE, 413, False)


# Addresses.

NETWORKS = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def forwarded(*values, name=b"Forwarded"):
    return tuple((name, value.encode()) for value in values)


def by_list(*values):
    return forwarded(*values, name=b"X-Forwarded-For")


@pytest.mark.parametrize(
    ("peer", "headers", "listed"),
    [
        pytest.param("192.0.2.1", (), True, id="listed"),
        pytest.param("192.0.3.1", (), False, id="not-listed"),
        pytest.param("2001:db8::1", (), True, id="six"),
        pytest.param("2001:db8::1%eth0", (), True, id="six-with-its-zone"),
        pytest.param("::ffff:192.0.2.1", (), True, id="four-within-six"),
        pytest.param("", (), False, id="nobody-known"),
        pytest.param("192.0.3.1", by_list("192.0.2.1"), False, id="header-of-a-stranger"),
        pytest.param("192.0.2.1", by_list("192.0.3.1"), True, id="header-of-a-listed-one-is-not-read"),
        pytest.param("10.0.0.1", (), False, id="the-proxy-itself"),
        pytest.param("10.0.0.1", by_list("192.0.2.1"), True, id="behind-a-proxy"),
        pytest.param("10.0.0.1", by_list("192.0.2.1:4711"), True, id="with-a-port"),
        pytest.param("10.0.0.1", by_list("192.0.2.1, 10.0.0.2"), True, id="behind-two-proxies"),
        pytest.param("10.0.0.1", by_list("192.0.2.1", "10.0.0.2"), True, id="in-two-lines"),
        pytest.param("10.0.0.1", by_list("192.0.2.1, 192.0.3.1"), False, id="the-left-one-is-anybodys-word"),
        pytest.param("10.0.0.1", by_list("192.0.3.1, 192.0.2.1"), True, id="the-right-one-counts"),
        pytest.param("10.0.0.1", by_list("192.0.2.1", "192.0.3.1"), False, id="the-last-line-counts"),
        pytest.param("10.0.0.1", by_list("192.0.2.1, unknown"), False, id="unknown"),
        pytest.param("10.0.0.1", by_list("192.0.2.1,"), False, id="nothing-behind-the-comma"),
        pytest.param("10.0.0.1", by_list(""), False, id="empty"),
        pytest.param("10.0.0.1", by_list("\xff"), False, id="no-text"),
        pytest.param("10.0.0.1", by_list("10.0.0.3, 10.0.0.2"), False, id="only-proxies"),
        pytest.param("10.0.0.1", forwarded("for=192.0.2.1"), True, id="forwarded"),
        pytest.param("10.0.0.1", forwarded("proto=https;For=192.0.2.1;by=10.0.0.1"), True, id="forwarded-with-more"),
        pytest.param("10.0.0.1", forwarded('for="[2001:db8::1]:4711"'), True, id="forwarded-six"),
        pytest.param("fd00::1", forwarded('for="192.0.2.1:80", for="[fd00::2]"'), True, id="forwarded-twice"),
        pytest.param("10.0.0.1", forwarded("for=192.0.2.1, for=192.0.3.1"), False, id="forwarded-right-most"),
        pytest.param("10.0.0.1", forwarded("for=_hidden"), False, id="forwarded-hidden"),
        pytest.param("10.0.0.1", forwarded("by=192.0.2.1"), False, id="forwarded-without-for"),
        pytest.param("10.0.0.1", forwarded('for="192.0.2.1'), False, id="forwarded-unclosed"),
        pytest.param("10.0.0.1", forwarded("for=192.0.2.1") + by_list("192.0.3.1"), False, id="they-disagree"),
        pytest.param("10.0.0.1", forwarded("for=192.0.3.1") + by_list("192.0.2.1"), False, id="they-disagree-too"),
        pytest.param("10.0.0.1", forwarded("for=192.0.2.1") + by_list("192.0.2.1"), True, id="they-agree"),
    ],
)
@pytest.mark.parametrize("keyring", [OPEN, ONE], ids=["open", "one"])
def test_who_is_not_on_the_list_goes_into_quarantine_however_good_the_signature(keyring, peer, headers, listed):
    judge = Judge(keyring, policy=Policy(networks=NETWORKS, trusted_proxies=PROXIES))
    asked = signed_status()
    asked = Request(method="POST", path=STATUS_PATH, headers=asked.headers + headers, body=asked.body)
    given = judge.verdict(asked, NOON_US, peer)

    assert is_kept(given, 200) if listed else is_refused(given, "address")


def test_without_a_list_everybody_is_taken():
    judge = Judge(ONE, policy=Policy(trusted_proxies=PROXIES))

    assert is_kept(judge.verdict(signed_status(), NOON_US, ""), 200)


# The rate of what is not verified.


def test_the_allowance_grows_again_with_time_and_never_beyond_its_burst():
    judge = Judge(ONE, policy=Policy(unverified_per_second_max=2.0, unverified_burst_max=3))

    def taken(at, count=5):
        verdicts = [judge.verdict(unsigned_sms(), microseconds(NOON + timedelta(seconds=at))) for _ in range(count)]
        assert {given.reason for given in verdicts if given.answer == 503} <= {"rate"}
        return [given.answer for given in verdicts].count(204)

    assert [taken(0), taken(0.4), taken(1), taken(100), taken(100)] == [3, 0, 2, 3, 0]
    # The clock jumps back by a day and forth again: nobody is shut out, and nobody gets more than a burst.
    assert [taken(-86_400), taken(-86_399), taken(0)] == [0, 2, 3]


def test_what_is_verified_and_what_is_a_probe_have_no_such_rate():
    judge = Judge(ONE, policy=Policy(unverified_per_second_max=1.0, unverified_burst_max=1))
    judge.verdict(unsigned_sms(), NOON_US)

    for asked in (signed_status(), request(query=sig_query()), request()):
        assert judge.verdict(asked, NOON_US).reason in ("", "probe")
    assert judge.verdict(signed_status(secret="x"), NOON_US).reason == "rate"
    assert judge.too_large(NOON_US).reason == "rate"
