"""The usual requests: whatever the short way takes, the long way takes as well, with the same record and answer."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from usual_requests import (
    KEYED,
    KEYLESS,
    LIMITS,
    NOW_S,
    NOW_US,
    OTHER,
    PEER,
    PIECES,
    REQUESTS,
    keeper,
    post,
    signed_receipt,
    signed_status,
    status,
    token_of,
)

from landed.gate.judge import ANSWERS, Judge, Keep, Policy
from landed.gate.plain import PlainReader
from landed.gate.short import ShortWay
from landed.journal.record import decode
from landed.vonage.request import Request
from landed.vonage.signing import Keyring


def both_ways(data, keyring, policy=None, path_of=lambda path: path):
    """What the short way and the long way make of these bytes; None where it is not taken."""
    plain = PlainReader(LIMITS).read(data)
    if plain is None:
        return None, None
    judge, keeping = Judge(keyring, policy=policy), keeper()
    short = ShortWay(judge, keeping, path_of).judged(plain, NOW_US, PEER)
    request = Request(
        method=plain.method, path=path_of(plain.path), query=plain.query, headers=plain.headers, body=plain.body
    )
    if request.path not in ANSWERS:
        return short, None
    verdict = judge.verdict(request, NOW_US, PEER)
    return short, keeping.judged(request, verdict, NOW_US, PEER)


def is_the_same(short, long):
    ours, theirs = decode(short.record), decode(long.record)
    return (
        msgspec.structs.replace(ours, id=theirs.id) == theirs
        and ours.id != theirs.id
        and (short.at_us, short.signature) == (long.at_us, long.signature)
        and short.verdict == msgspec.structs.replace(long.verdict, signature=b"")
    )


@pytest.mark.parametrize("keyring", [KEYED, KEYLESS], ids=["keyed", "keyless"])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(signed_status(), id="status"),
        pytest.param(signed_status(at=NOW_S - 3_600), id="status of an hour ago"),
        pytest.param(signed_status(path="/webhooks/inbound-message"), id="another path"),
        pytest.param(signed_status(path="/webhooks/message-status?a=b"), id="status with a query"),
        pytest.param(signed_receipt(), id="receipt"),
        *(pytest.param(signed_receipt(method=method), id=method) for method in ("md5hash", "md5", "sha1", "sha512")),
        pytest.param(signed_receipt(to="Söhne + 1 %"), id="receipt with escapes"),
    ],
)
def test_the_usual_goes_the_short_way_to_the_same_record(data, keyring):
    short, long = both_ways(data, keyring)

    assert short is not None
    assert is_the_same(short, long)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(signed_status(secret=OTHER), id="wrong secret"),
        pytest.param(signed_status(key="unknown"), id="unknown key"),
        pytest.param(signed_status(at=NOW_S - 26 * 3_600), id="stale status"),
        pytest.param(signed_status(at=NOW_S + 600), id="status from the future"),
        pytest.param(signed_receipt(at=NOW_S - 74 * 3_600), id="stale receipt"),
        pytest.param(signed_receipt(secret=OTHER), id="wrong sig"),
        pytest.param(signed_receipt(verb="HEAD"), id="receipt by HEAD"),
        pytest.param(signed_receipt(to="Acme & Co"), id="a separator in a value"),
        pytest.param(signed_receipt().replace(b"status=delivered", b"status=failed"), id="tampered"),
        pytest.param(signed_receipt().replace(b"&sig=", b"&gis="), id="unsigned receipt"),
        pytest.param(
            signed_receipt().replace(b"Host: h", b"Host: h\r\nAuthorization: Basic eDp5"), id="another scheme"
        ),
        pytest.param(post(json.dumps(status()).encode()), id="unsigned status"),
        pytest.param(post(b"", token_of(b"")), id="probe"),
        pytest.param(post(b"  ", token_of(b"  ")), id="blank probe"),
        pytest.param(signed_status(path="/elsewhere"), id="elsewhere"),
        pytest.param(
            signed_status().replace(b"Host: h", b"Host: h\r\nAuthorization: Bearer x"), id="two authorizations"
        ),
    ],
)
def test_everything_else_goes_the_long_way(data):
    plain = PlainReader(LIMITS).read(data)

    assert plain is None or ShortWay(Judge(KEYED), keeper(), lambda path: path).judged(plain, NOW_US, PEER) is None


@settings(max_examples=1_500)
@given(several=st.lists(REQUESTS, min_size=2, max_size=12))
def test_what_was_read_before_changes_nothing_in_what_is_read(several):
    reader = PlainReader(LIMITS)

    assert [reader.read(data) for data in several] == [PlainReader(LIMITS).read(data) for data in several]


def test_where_it_matters_who_sent_it_nothing_goes_the_short_way():
    judge = Judge(KEYED, policy=Policy(networks=("192.0.2.0/24",)))

    assert ShortWay(judge, keeper(), str).judged(PlainReader(LIMITS).read(signed_status()), NOW_US, PEER) is None


def test_where_nothing_is_checked_nothing_goes_the_short_way():
    judge = Judge(Keyring([]))

    assert ShortWay(judge, keeper(), str).judged(PlainReader(LIMITS).read(signed_status()), NOW_US, PEER) is None


def test_what_was_kept_often_enough_goes_the_long_way():
    keeping = keeper()
    short = ShortWay(Judge(KEYED), keeping, str)
    plain = PlainReader(LIMITS).read(signed_status())
    first = short.judged(plain, NOW_US, PEER)
    assert first is not None
    keeping.seen.note([first.signature] * LIMITS.copies_max)

    assert short.judged(plain, NOW_US, PEER) is None


def test_a_path_is_kept_as_we_call_it():
    data = signed_status(path="/hooks//webhooks/message-status/")

    short, long = both_ways(data, KEYED, path_of=lambda path: path.replace("/hooks//", "/").rstrip("/"))

    assert decode(short.record).path == "/webhooks/message-status"
    assert is_the_same(short, long)


@given(
    data=st.sampled_from(
        [signed_status(), signed_receipt(), signed_receipt(verb="HEAD"), signed_receipt(method="md5")]
    ),
    at=st.integers(0, 900),
    cut=st.integers(0, 3),
    piece=PIECES,
    keyring=st.sampled_from([KEYED, KEYLESS]),
)
def test_whatever_is_changed_on_the_way_both_ways_agree(data, at, cut, piece, keyring):
    short, long = both_ways(data[:at] + piece + data[at + cut :], keyring)

    if short is not None:
        assert long is not None
        assert long.verdict.keep is Keep.JOURNAL
        assert is_the_same(short, long)
