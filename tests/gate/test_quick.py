"""The quick way, which is compiled: whatever it takes, the short way takes as well, with the same record and answer."""

from __future__ import annotations

import _hashlib
import base64
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote_plus

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from usual_requests import (
    BODIES,
    KEYED,
    KEYLESS,
    LIMITS,
    LINES,
    NOW_S,
    NOW_US,
    OTHER,
    PEER,
    PIECES,
    REQUESTS,
    SECRET,
    keeper,
    post,
    signed_receipt,
    signed_status,
    status,
    token_of,
)

from landed.gate.judge import Judge, Policy
from landed.gate.keeper import Judged
from landed.gate.usual import UsualRequests, quick_way
from landed.journal.record import decode, encode
from landed.vonage.signing import ISSUER, JWT_HEADER, Account, Keyring, sign_jwt, sign_sig

compiled = pytest.mark.skipif(quick_way() is None, reason="landed was not compiled: there was no C compiler")


can_compile = shutil.which("cc") is not None and Path(sysconfig.get_path("include"), "Python.h").exists()


@pytest.mark.skipif(not can_compile and "NOTHING_SKIPPED" not in os.environ, reason="there is no C compiler for Python")
def test_where_there_is_a_compiler_it_is_compiled():
    assert quick_way() is not None


class Watched(UsualRequests):
    """The usual requests, which says how often it was asked."""

    def __init__(self, judge, keeping, path_of):
        super().__init__(judge, keeping, LIMITS, path_of)
        self.asked = 0

    def taken(self, data, now_us, peer):
        self.asked += 1
        return super().taken(data, now_us, peer)


class Quick:
    """The quick way with what it was taught; `took` gives what it takes by itself."""

    def __init__(self, *lessons, keyring=KEYED, policy=None, path_of=lambda path: path, by_openssl=True):
        self.keeping = keeper()
        judge = Judge(keyring, policy=policy)
        self.other = Watched(judge, self.keeping, path_of)
        self.way = quick_way()(self.other, judge, self.keeping, by_openssl=by_openssl)
        for lesson in lessons * 2:
            self.taken(lesson)

    def taken(self, data, now_us=NOW_US, peer=PEER):
        return self.way.taken(data, now_us, peer)

    def took(self, data, now_us=NOW_US, peer=PEER):
        before = self.other.asked
        taken = self.taken(data, now_us, peer)
        return taken if self.other.asked == before else None


def essence(taken):
    """What was made of a request, without its id."""
    if not isinstance(taken, Judged):
        return taken
    record = msgspec.structs.replace(decode(taken.record), id=b"")
    return taken.verdict, taken.at_us, taken.signature, record, len(taken.record)


def usual(data, keyring=KEYED, now_us=NOW_US, peer=PEER, path_of=lambda path: path):
    return UsualRequests(Judge(keyring), keeper(), LIMITS, path_of).taken(data, now_us, peer)


def status_of(number, **more):
    """Of each number another request with the same head but for the token."""
    body = json.dumps(status(message_uuid=f"{number:08}", **more)).encode()
    return post(body, token_of(body))


def receipt_of(number, **more):
    return signed_receipt(messageId=f"{number:08}", **more)


@compiled
@pytest.mark.parametrize("keyring", [KEYED, KEYLESS], ids=["keyed", "keyless"])
@pytest.mark.parametrize("make", [status_of, receipt_of])
def test_a_head_that_came_before_is_taken_the_quick_way_to_the_same_record(make, keyring):
    way = Quick(make(1), keyring=keyring)

    for number in range(2, 300):
        data = make(number)
        taken = way.took(data)
        assert isinstance(taken, Judged)
        assert essence(taken) == essence(usual(data, keyring))


@compiled
@pytest.mark.skipif(getattr(_hashlib, "__file__", None) is None, reason="Python has no OpenSSL that others can call")
def test_where_pythons_openssl_can_be_called_it_is():
    assert Quick().way.by_openssl
    assert not Quick(by_openssl=False).way.by_openssl


ONLY_APPROVED = """
import _hashlib
_hashlib.get_fips_mode = lambda: 1
from landed.gate.judge import Judge
from landed.gate.usual import UsualRequests, quick_way
from usual_requests import KEYED, LIMITS, NOW_US, PEER, keeper, signed_status
keeping, judge = keeper(), Judge(KEYED)
way = quick_way()(UsualRequests(judge, keeping, LIMITS, str), judge, keeping)
print(way.by_openssl, [way.taken(signed_status(), NOW_US, PEER).verdict.trust.verified for _ in range(4)])
"""


@compiled
def test_where_only_approved_ways_of_hashing_are_allowed_hashlib_goes():
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", ONLY_APPROVED], env=environment, capture_output=True, text=True, check=False
    )

    assert done.stdout == f"False {[True] * 4}\n", done.stderr


@compiled
@pytest.mark.parametrize("by_openssl", [True, False], ids=["OpenSSL", "hashlib"])
@pytest.mark.parametrize("secret", ["k", "k" * 63, "k" * 64, "k" * 65, "k" * 500], ids=len)
@pytest.mark.parametrize("filler", [*range(66), 1_000])
def test_whoever_hashes_what_holds_is_taken_and_nothing_else(filler, secret, by_openssl):
    """Of all sizes that end in another place of a block."""
    keyring = Keyring([Account(name="a", api_key="abcd1234", secrets=(b"other", secret.encode()))])
    body = json.dumps(status(filler="f" * filler)).encode()
    claims = claims_of(body, jti="j" * filler)
    way = Quick(token_with(claims, body, secret=secret), keyring=keyring, by_openssl=by_openssl)
    way.taken(signed_receipt(secret=secret, method="sha256", filler="f" * filler))
    way.taken(signed_receipt(secret=secret, method="sha256", filler="g" * filler))

    for data in (
        token_with(claims | {"jti": "i" * filler}, body, secret=secret),
        signed_receipt(secret=secret, method="sha256", filler="h" * filler),
    ):
        assert essence(way.took(data)) == essence(usual(data, keyring))
    for data in (
        token_with(claims | {"jti": "i" * filler}, body, secret=secret + "."),
        token_with(claims | {"payload_hash": hashlib.sha256(body + b" ").hexdigest()}, body, secret=secret),
        signed_receipt(secret=secret + ".", method="sha256", filler="h" * filler),
    ):
        assert way.took(data) is None


@compiled
@pytest.mark.parametrize("method", ["md5hash", "md5", "sha1", "sha256", "sha512"])
def test_each_method_of_sig_is_taken_the_quick_way(method):
    way = Quick(receipt_of(1, method=method))

    assert essence(way.took(receipt_of(2, method=method))) == essence(usual(receipt_of(2, method=method)))


@compiled
@pytest.mark.parametrize("filler", [0, 30, 70, 100, 150, 250, 700, 1_500])
@pytest.mark.parametrize("peer", ["", PEER, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "peer-" * 60])
@pytest.mark.parametrize("make", [status_of, receipt_of])
def test_records_of_all_sizes_are_encoded_as_ever(make, peer, filler):
    """Beyond 255 bytes a length takes two, and beyond 31 characters another form."""
    way = Quick(make(1, to="4" * filler))
    data = make(2, to="5" * filler)

    assert essence(way.took(data, peer=peer)) == essence(usual(data, peer=peer))


@compiled
def test_ids_are_given_once():
    way = Quick(status_of(0))

    ids = [decode(way.took(status_of(number)).record).id for number in range(1, 700)]

    assert all(later > earlier for earlier, later in pairwise(ids))
    assert len({each[:10] for each in ids}) == 1
    assert ids[0][:10] != decode(Quick(status_of(0)).taken(status_of(1)).record).id[:10]


@compiled
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(status_of(2).replace(b"Host: h", b"Host: i"), id="another host"),
        pytest.param(status_of(2).replace(b"POST ", b"PUT "), id="another method"),
        pytest.param(status_of(2)[:-1], id="a byte short"),
        pytest.param(status_of(2) + b"}", id="a byte long"),
        pytest.param(status_of(2) * 2, id="two at once"),
        pytest.param(signed_status(secret=OTHER), id="wrong secret"),
        pytest.param(signed_status(key="unknown"), id="unknown key"),
        pytest.param(signed_status(key="b"), id="a key without a secret"),
        pytest.param(signed_status(at=NOW_S - 26 * 3_600), id="stale"),
        pytest.param(signed_status(at=NOW_S + 600), id="from the future"),
        pytest.param(status_of(2).replace(b"delivered", b"undelived"), id="tampered"),
        pytest.param(receipt_of(2, at=NOW_S - 74 * 3_600), id="stale receipt"),
        pytest.param(receipt_of(2, secret=OTHER), id="wrong sig"),
        pytest.param(receipt_of(2, to="Acme & Co"), id="a separator in a value"),
        pytest.param(receipt_of(2, to="=A"), id="an equals sign in a value"),
        pytest.param(receipt_of(2, to="A\0"), id="a NUL in a value"),
        pytest.param(receipt_of(2).replace(b"&sig=", b"&gis="), id="no sig"),
        pytest.param(receipt_of(2).replace(b"status=delivered", b"status=failed"), id="tampered receipt"),
        pytest.param(receipt_of(2).replace(b"?", b"?status=failed&"), id="a name twice"),
        pytest.param(receipt_of(2).replace(b"?", b"?x&"), id="a name without a value"),
        pytest.param(receipt_of(2).replace(b"?", b"?=x&"), id="a value without a name"),
        pytest.param(receipt_of(2).replace(b"?", b"?&"), id="an empty field"),
        pytest.param(receipt_of(2).replace(b" HTTP", b"& HTTP"), id="an empty field at the end"),
        pytest.param(receipt_of(2).replace(b" HTTP", b"%4 HTTP"), id="half an escape"),
        pytest.param(receipt_of(2).replace(b" HTTP", b"%zz HTTP"), id="an escape that is none"),
        pytest.param(receipt_of(2).replace(b" HTTP", b"#x HTTP"), id="a fragment"),
        pytest.param(receipt_of(2).replace(b" HTTP", b"\xff HTTP"), id="a byte beyond ASCII"),
        pytest.param(receipt_of(2, **{f"a{number}": "" for number in range(100)}), id="very many fields"),
        pytest.param(receipt_of(2).replace(b"GET", b"HEAD"), id="HEAD"),
        pytest.param(status_of("landed-check-"), id="a check of ours"),
        pytest.param(receipt_of("landed-check-"), id="a check of ours by query"),
    ],
)
def test_everything_else_is_left_to_the_other_ways(data):
    way = Quick(status_of(1), receipt_of(1), signed_status())

    assert way.took(data) is None
    assert essence(way.taken(data)) == essence(usual(data))


@compiled
@pytest.mark.parametrize("make", [status_of, receipt_of])
@pytest.mark.parametrize(
    "before", ["", "k", "k" * 11, "k" * 12, "k" * 40, "landed-chick-", "landed-check", "check-landed-"]
)
@pytest.mark.parametrize("behind", ["", "-", "k", "landed-chec"])
def test_a_check_is_left_to_the_other_ways_wherever_it_is(make, before, behind):
    """Not because of its size: one that is as long, and none, is taken."""
    way = Quick(make(1, to=f"{before}landed-chalk-{behind}"))

    assert way.took(make(2, to=f"{before}landed-chock-{behind}")) is not None
    assert way.took(make(2, to=f"{before}landed-check-{behind}")) is None


def token_with(claims, body, *, header=JWT_HEADER, secret=SECRET, padding=b""):
    """A token that is signed whatever it says."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return token_of_payload(encoded(payload) + padding, body, header=header, secret=secret)


def token_of_payload(payload, body, *, header=JWT_HEADER, secret=SECRET):
    signed = header + b"." + payload
    code = hmac.digest(secret.encode(), signed, "sha256")
    return post(body, f"Authorization: Bearer {(signed + b'.' + encoded(code)).decode()}")


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def claims_of(body, **more):
    claims = {"iat": NOW_S, "iss": ISSUER, "payload_hash": hashlib.sha256(body).hexdigest(), "api_key": "abcd1234"}
    return {name: value for name, value in (claims | more).items() if value is not ...}


BODY = json.dumps(status()).encode()


@compiled
@pytest.mark.parametrize("filler", range(4))
def test_a_character_of_no_alphabet_is_found_anywhere(filler):
    """In a claim that nobody reads, so that nothing else is wrong."""
    payload = encoded(json.dumps({"jti": "x" * (20 + filler)} | claims_of(BODY)).encode())
    way = Quick(token_of_payload(payload, BODY))
    assert way.took(token_of_payload(payload, BODY)) is not None

    for place in range(12, 30):
        data = token_of_payload(payload[:place] + b"!" + payload[place + 1 :], BODY)
        assert way.took(data) is None
    data = token_of_payload(payload[:-1] + b"!", BODY)
    assert way.took(data) is None


@compiled
@pytest.mark.parametrize(
    ("claims", "takes"),
    [
        ({}, True),
        ({"jti": "x" * 500, "aud": {"a": [1, 2]}}, True),
        ({"iat": NOW_S - 25 * 3_600}, True),
        ({"iat": NOW_S - 25 * 3_600 - 1}, False),
        ({"iat": NOW_S + 300}, True),
        ({"iat": NOW_S + 301}, False),
        ({"iat": float(NOW_S)}, False),
        ({"iat": str(NOW_S)}, False),
        ({"iat": True}, False),
        ({"iat": None}, False),
        ({"iat": ...}, False),
        ({"iat": -1}, False),
        ({"iat": 2**33 + 1}, False),
        ({"iat": 2**70}, False),
        ({"iss": "Somebody"}, False),
        ({"iss": ...}, False),
        ({"iss": 7}, False),
        ({"payload_hash": ...}, False),
        ({"payload_hash": hashlib.sha256(b"").hexdigest()}, False),
        ({"payload_hash": hashlib.sha256(BODY).hexdigest().upper()}, True),
        ({"payload_hash": hashlib.sha256(BODY).hexdigest()[:-1]}, False),
        ({"payload_hash": hashlib.sha256(BODY).hexdigest() + "0"}, False),
        ({"payload_hash": "\u00e9" * 32}, False),
        ({"payload_hash": "\0" * 64}, False),
        ({"api_key": "b"}, False),
        ({"api_key": 7}, False),
        ({"api_key": ["abcd1234"]}, False),
    ],
)
def test_claims_are_judged_as_ever(claims, takes):
    way = Quick(token_with(claims_of(BODY), BODY))
    data = token_with(claims_of(BODY, **claims), BODY)

    assert (way.took(data) is not None) == takes
    assert essence(way.taken(data)) == essence(usual(data))


@compiled
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(token_with(claims_of(BODY), BODY, header=encoded(header)), id=name)
        for name, header in {
            "none": b'{"alg":"none","typ":"JWT"}',
            "RS256": b'{"alg":"RS256","typ":"JWT"}',
            "a blank in the header": b'{"alg": "HS256","typ":"JWT"}',
            "crit": b'{"alg":"HS256","crit":["x"]}',
        }.items()
    ]
    + [
        pytest.param(token_with(claims_of(BODY), BODY, padding=b"="), id="padding"),
        pytest.param(token_with(claims_of(BODY), BODY, padding=b"A" * 5), id="more characters"),
        pytest.param(token_with(b"{", BODY), id="no JSON"),
        pytest.param(token_with(b"[" * 900, BODY), id="deep JSON"),
        pytest.param(token_with(b'{"iss":"\xff"}', BODY), id="no UTF-8"),
        pytest.param(token_with(b"", BODY), id="no claims"),
        pytest.param(post(BODY, "Authorization: Bearer .."), id="dots"),
        pytest.param(post(BODY, f"Authorization: Bearer {'.' * 100}"), id="many dots"),
        pytest.param(post(BODY, "Authorization: Bearer " + "A" * 43), id="too short"),
        pytest.param(post(BODY, f"Authorization: Bearer {JWT_HEADER.decode()}.{'A' * 43}"), id="no claims at all"),
        pytest.param(post(BODY, f"Authorization: Bearer {JWT_HEADER.decode()}..{'A' * 43}"), id="empty claims"),
        pytest.param(post(BODY, f"Authorization: Bearer {JWT_HEADER.decode()}.\x7f.{'A' * 43}"), id="odd characters"),
        pytest.param(post(b"", token_of(b"")), id="no body"),
        pytest.param(post(b"[1]", token_of(b"[1]")), id="another body"),
    ],
)
def test_odd_tokens_are_left_to_the_other_ways(data):
    way = Quick(token_with(claims_of(BODY), BODY), post(b"{1}", token_of(b"{1}")))

    assert way.took(data) is None
    assert essence(way.taken(data)) == essence(usual(data))


@compiled
def test_each_character_of_a_signature_counts():
    way = Quick(status_of(1))
    data = status_of(2)
    end = data.index(b"\r\nContent-Length")
    assert way.took(data) is not None

    for place in range(end - 43, end):
        other = b"B" if data[place : place + 1] == b"A" else b"A"
        assert way.took(data[:place] + other + data[place + 1 :]) is None


@compiled
def test_each_character_of_a_sig_counts_and_its_letter_case_does_not():
    way = Quick(receipt_of(1))
    data = receipt_of(2)
    end = data.index(b" HTTP")
    sig = data[end - 64 : end]
    for spelled in (sig.lower(), sig.upper()):
        alike = data[: end - 64] + spelled + data[end:]
        assert essence(way.took(alike)) == essence(usual(alike))

    for place in range(end - 64, end):
        for other in (b"0", b"1", b"g", b" ", b"-"):
            if data[place : place + 1] != other:
                assert way.took(data[:place] + other + data[place + 1 :]) is None


@compiled
@pytest.mark.parametrize("only", [None, "sha256", "md5hash", "sha512"])
def test_an_account_that_signs_by_one_method_signs_by_no_other(only):
    ring = Keyring([Account(name="ours", api_key="abcd1234", secrets=(SECRET.encode(),), method=only)])
    way = Quick(receipt_of(1, method=only or "sha256"), keyring=ring)

    for method in ("sha256", "md5hash", "sha512"):
        data = receipt_of(2, method=method)
        assert (way.took(data) is not None) == (only in (None, method))
        assert essence(way.taken(data)) == essence(usual(data, ring))


@compiled
@pytest.mark.parametrize("timestamp", ["", "0", "-1", "1.5", "9" * 10, "9" * 11, "9" * 30, "+1", "1e9", "1 ", "\u0661"])
def test_odd_times_of_a_sig_are_judged_as_ever(timestamp):
    way = Quick(receipt_of(1))
    data = receipt_of(2, timestamp=timestamp)

    assert way.took(data) is None
    assert essence(way.taken(data)) == essence(usual(data))


@compiled
@pytest.mark.parametrize("filler", range(4))
def test_claims_of_a_length_that_base64_cannot_have_are_left_to_the_other_ways(filler):
    data = token_with(claims_of(BODY, jti="x" * filler), BODY, padding=b"A")
    way = Quick(token_with(claims_of(BODY), BODY))

    assert way.took(data) is None
    assert essence(way.taken(data)) == essence(usual(data))


@compiled
@pytest.mark.parametrize(
    ("query", "base"),
    [
        ("a=1&a=2", "&a=1&a=2"),
        ("a=1&a=2", "&a=2&a=1"),
        ("a=1&b=&a=2", "&a=1&a=2&b="),
        ("a=b=c", "&a=b_c"),
        ("a=b=c", "&ab=c"),
        ("a=1&b", "&a=1&b="),
        ("a=%26b", "&a=_b"),
        ("a=%26b", "&a=&b"),
        ("a=%00", "&a=\0"),
    ],
)
def test_queries_that_could_mean_several_things_are_left_to_the_other_ways(query, base):
    def signed(query, base):
        base += f"&timestamp={NOW_S}"
        sig = hmac.digest(SECRET.encode(), base.encode(), "sha256").hex()
        target = f"/webhooks/delivery-receipt?{query}&timestamp={NOW_S}&sig={sig}"
        return f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()

    way, data = Quick(signed("a=1", "&a=1"), keyring=KEYLESS), signed(query, base)

    assert way.took(signed("a=2", "&a=2")) is not None
    assert way.took(data) is None
    assert essence(way.taken(data)) == essence(usual(data, KEYLESS))


@compiled
def test_of_several_secrets_and_accounts_the_one_that_signed_stands():
    ring = Keyring(
        [
            Account(name="a", api_key="key-a", secrets=(b"one", b"two")),
            Account(name="b", api_key="key-b", secrets=(b"three",)),
            Account(name="anyone", secrets=(b"four", b"two")),
        ]
    )
    cases = [(key, secret) for key in ("key-a", "key-b", "key-c", None) for secret in ("one", "two", "three", "four")]
    requests = [token_with(claims_of(BODY, api_key=key), BODY, secret=secret) for key, secret in cases]
    way = Quick(*requests, keyring=ring)

    for data in requests:
        expected = usual(data, ring)
        assert (way.took(data) is not None) == isinstance(expected, Judged)
        assert essence(way.taken(data)) == essence(expected)


@compiled
def test_copies_that_were_kept_often_enough_are_left_to_the_other_ways():
    way = Quick(status_of(1))
    signature = way.took(status_of(2)).signature
    seen = way.keeping.seen

    seen.note([signature])
    assert way.took(status_of(2)) is not None
    seen.note([signature])
    assert way.took(status_of(2)) is None
    # When it has become one of the older ones, too.
    seen.note([b"%d" % number for number in range(LIMITS.signatures_max // 2)])
    assert not seen.newer
    assert way.took(status_of(2)) is None
    assert way.took(status_of(3)) is not None


@compiled
def test_heads_are_forgotten_rather_than_kept_without_end():
    way = Quick(status_of(1))

    def others(numbers):
        for number in numbers:
            for _ in range(2):
                way.taken(status_of(1).replace(b"Host: h", b"Host: h%d" % number))

    others(range(1_000))
    assert way.took(status_of(2)) is not None
    others(range(1_000, 1_100))
    assert way.took(status_of(2)) is None
    assert way.took(status_of(2)) is None
    assert way.took(status_of(2)) is not None


@compiled
def test_heads_that_come_once_do_not_displace_those_that_come_again():
    way = Quick(status_of(1))

    for number in range(5_000):
        way.taken(status_of(1).replace(b"Host: h", b"Host: h%d" % number))
    assert way.took(status_of(2)) is not None


@compiled
@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_another_header_that_has_the_token_keeps_its_own(places):
    first, second = (json.dumps(status(message_uuid=f"{number}")).encode() for number in (1, 2))
    old = token_of(first)

    def request(body, token):
        lines = ["X-Copy" + old.removeprefix("Authorization"), token]
        return post(body, *(lines[place] for place in places))

    way = Quick(request(first, old))
    data = request(second, token_of(second))

    assert essence(way.took(data)) == essence(usual(data))


@compiled
def test_a_very_long_head_is_not_remembered():
    data, longer = (status_of(1).replace(b"Host: h", b"Host: h\r\nX: " + b"x" * size) for size in (700, 1_100))
    way = Quick(data, longer)

    assert way.took(data) is not None
    assert way.took(longer) is None


@compiled
def test_signers_are_forgotten_rather_than_kept_without_end():
    accounts = [Account(name=f"a{number}", api_key=f"key-{number:04}", secrets=(b"a secret",)) for number in range(70)]
    requests = [signed_status(key=account.api_key) for account in accounts]
    way = Quick(*requests[:64], keyring=Keyring(accounts))

    assert way.took(requests[0]) is not None
    way.taken(requests[64])
    assert way.took(requests[0]) is None
    for data in requests * 2:
        assert essence(way.taken(data)) == essence(usual(data, Keyring(accounts)))


@compiled
def test_a_token_in_another_place_is_in_another_head():
    first, second = (
        post(BODY, *lines) for token in [token_of(BODY)] for lines in ((token, "X: y", "Z: a"), ("X: y", token, "Z: a"))
    )
    way = Quick(first)

    assert way.took(second) is None
    assert [essence(way.taken(data)) for data in (first, second)] == [essence(usual(data)) for data in (first, second)]


@compiled
def test_nothing_is_learned_of_a_record_that_is_made_otherwise():
    way = Quick()
    plain_taken = way.other.taken

    class Odd:
        bytes_max = way.other.bytes_max

        @staticmethod
        def taken(data, now_us, peer):
            judged = plain_taken(data, now_us, peer)
            record = msgspec.structs.replace(decode(judged.record), accepted_by="somebody")
            return msgspec.structs.replace(judged, record=encode(record))

    odd = quick_way()(Odd, Judge(KEYED), way.keeping)

    for _ in range(4):
        assert decode(odd.taken(status_of(1), NOW_US, PEER).record).accepted_by == "somebody"


@compiled
@pytest.mark.parametrize("now_us", [-1, 0, 2**32 - 1])
def test_where_the_clock_stands_at_its_beginning_records_are_encoded_as_ever(now_us):
    """A number up to 32 bits is shorter in a record."""
    body = json.dumps(status()).encode()
    data = post(body, token_of(body, at=0))
    way = Quick()
    for _ in range(2):
        way.taken(data, now_us=2**32)

    assert way.took(data, now_us=2**32) is not None
    assert way.took(data, now_us=now_us) is None


@compiled
def test_where_it_matters_who_sent_it_or_nothing_is_checked_nothing_is_learned():
    elsewhere, unchecked = Quick(policy=Policy(networks=("192.0.2.0/24",))), Quick(keyring=Keyring([]))

    for way in (elsewhere, unchecked):
        way.taken(status_of(1))
        assert way.took(status_of(1)) is None


@compiled
def test_quickly_too_a_path_is_kept_as_we_call_it():
    def path_of(path):
        return path.replace("/hooks//", "/").rstrip("/")

    body = json.dumps(status()).encode()
    data = post(body, token_of(body), path="/hooks//webhooks/message-status/")
    way = Quick(data, path_of=path_of)

    assert decode(way.took(data).record).path == "/webhooks/message-status"
    assert essence(way.taken(data)) == essence(usual(data, path_of=path_of))


@compiled
@settings(max_examples=2_000)
@given(
    data=st.sampled_from([status_of(2), signed_status(), receipt_of(2), receipt_of(2, method="md5", to="Söhne + 1 %")]),
    at=st.integers(0, 1_000),
    cut=st.integers(0, 3),
    piece=PIECES | st.binary(max_size=3),
    keyring=st.sampled_from([KEYED, KEYLESS]),
)
def test_whatever_is_changed_on_the_way_the_quick_way_agrees(data, at, cut, piece, keyring):
    way = Quick(data, keyring=keyring)
    changed = data[:at] + piece + data[at + cut :]

    assert essence(way.taken(changed)) == essence(usual(changed, keyring))


NAMES = st.text(st.sampled_from("abgst-=&%+ \0é"), max_size=3) | st.sampled_from(["sig", "api-key", "timestamp", "to"])
VALUES = st.text(st.sampled_from("a9&=%+ #\0é"), max_size=4)


@compiled
@settings(max_examples=1_000)
@given(
    pairs=st.lists(st.tuples(NAMES, VALUES), max_size=8),
    method=st.sampled_from(["md5hash", "sha256"]),
    at=st.integers(NOW_S - 80 * 3_600, NOW_S + 900),
    quoted=st.booleans(),
    place=st.integers(0, 8),
)
def test_signed_queries_of_any_fields_are_taken_alike(pairs, method, at, quoted, place):
    fields = {"timestamp": str(at), "api-key": "abcd1234"} | dict(pairs)
    fields.pop("sig", None)
    signed = [*fields.items()]
    signed.insert(place, ("sig", sign_sig(fields, SECRET, method)))
    write = quote_plus if quoted else lambda text: text.replace(" ", "+")
    query = "&".join(f"{write(name)}={write(value)}" for name, value in signed)
    data = f"GET /webhooks/delivery-receipt?{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    way = Quick(receipt_of(1))

    assert essence(way.taken(data)) == essence(usual(data))


def bearer_of(body):
    return b"Bearer " + sign_jwt(body, SECRET, issued_at=NOW_S, token_id="j", api_key=None).encode()


def signed_request_of(target, lines, body, place):
    lines = [*lines[:place], b"Authorization: " + bearer_of(body), *lines[place:]]
    head = [b"POST " + target + b" HTTP/1.1", b"Host: h", *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*head, b"", body])


# Bodies that are signed, and look like the rest of a head.
SIGNED_BODIES = st.sampled_from([b"{}", b"{]", *(b"{" + body for body in BODIES)])
SIGNED_TARGETS = st.sampled_from(
    [b"/webhooks/message-status", b"/webhooks/message-status?", b"/webhooks/message-status?b=c", b"/a?b"]
)
# And headers that are like the token's.
SIGNED_LINES = st.lists(LINES | st.just(b"X: " + bearer_of(b"{}")), max_size=2)
SIGNED = st.builds(signed_request_of, SIGNED_TARGETS, SIGNED_LINES, SIGNED_BODIES, st.integers(0, 2))
QUERIES = st.builds(
    lambda number, line: signed_receipt(messageId=number).replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n"),
    st.sampled_from(["m", "n", "o?p"]),
    LINES | st.just(b"Content-Length: 0"),
)


@compiled
@settings(max_examples=1_000)
@given(several=st.lists(SIGNED | QUERIES | REQUESTS, min_size=2, max_size=12))
def test_what_was_learned_before_changes_nothing_in_what_is_taken(several):
    way = Quick(*several)

    assert [essence(way.taken(data)) for data in several] == [essence(usual(data)) for data in several]


@compiled
def test_over_a_socket_a_compiled_gate_answers_and_keeps_what_another_does(start):
    requests = []
    for number in range(60):
        good, receipt = status_of(number), receipt_of(number)
        requests += [
            good,
            receipt,
            (good, good.replace(b"delivered", b"undelived"), signed_status(secret=OTHER))[number % 3],
            (receipt.replace(b"delivered", b"failedfai"), receipt_of(number, at=NOW_S - 74 * 3_600))[number % 2],
        ]
    told = []
    for is_compiled in (True, False):
        gate = start(keyring=KEYED, compiled=is_compiled, quarantine={"rows_max": 1_000}, unverified_burst_max=1_000)
        with gate.connect() as client:
            statuses = []
            for data in requests:
                client.send(data)
                statuses.append(client.answer().status)
        kept = [msgspec.structs.replace(record, id=b"", at_us=0, received_us=0) for record in gate.kept()]
        held = sorted((each.reason, each.record.body, each.record.query) for each in gate.held.read(0, 1_000))
        told.append((statuses, kept, held))

    assert told[0] == told[1]
    assert (len(told[0][1]), len(told[0][2])) == (170, 51)
