"""Requests that Vonage signs, and whatever looks like them, for the tests of the usual requests."""

from __future__ import annotations

import json
import time
from urllib.parse import urlencode

from hypothesis import strategies as st

from landed.gate.keeper import Keeper
from landed.settings import Limits
from landed.vonage.signing import Account, Keyring, sign_jwt, sign_sig

NOW_S = int(time.time())
NOW_US = NOW_S * 1_000_000
PEER = "192.0.2.7"
SECRET, OTHER = "a secret", "another secret"
KEYED = Keyring(
    [Account(name="ours", api_key="abcd1234", secrets=(b"old", SECRET.encode())), Account(name="b", api_key="b")]
)
KEYLESS = Keyring([Account(name="ours", secrets=(SECRET.encode(),))])
LIMITS = Limits(copies_max=2)


class NoJournal:
    """A journal that nothing is written to here."""

    epoch = "e"


def keeper():
    return Keeper(NoJournal(), None, LIMITS)


def status(**more):
    return {"message_uuid": "m", "to": "447700900000", "status": "delivered", "channel": "sms"} | more


def post(body, *lines, path="/webhooks/message-status"):
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: h", *lines, f"Content-Length: {len(body)}"])
    return f"{head}\r\n\r\n".encode() + body


def token_of(body, secret=SECRET, at=NOW_S, key="abcd1234"):
    return f"Authorization: Bearer {sign_jwt(body, secret, issued_at=at, token_id='j', api_key=key)}"


def signed_status(secret=SECRET, at=NOW_S, key="abcd1234", path="/webhooks/message-status"):
    body = json.dumps(status()).encode()
    return post(body, token_of(body, secret, at, key), path=path)


def signed_query(method="sha256", secret=SECRET, at=NOW_S, **more):
    fields = {
        "messageId": "m",
        "status": "delivered",
        "api-key": "abcd1234",
        "message-timestamp": "2026-01-01 12:00:00",
    }
    fields |= {"timestamp": str(at)} | more
    return urlencode(fields | {"sig": sign_sig(fields, secret, method)})


def signed_receipt(verb="GET", path="/webhooks/delivery-receipt", **more):
    return f"{verb} {path}?{signed_query(**more)} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


LINES = st.sampled_from(
    [
        b"Authorization: Bearer a.b.c",
        b"Authorization: Bearer d",
        b"Authorization: Bearer ",
        b"Authorization: Bearer  a",
        b"Authorization: Bearer a b",
        b"Authorization: Basic a",
        b"authorization: Bearer a.b.c",
        b"X: Authorization: Bearer z",
        b"Referer: /x?y z",
        b"Referer: /x?w z",
        b"Referer: /x? z",
        b"X: y",
    ]
)
TARGETS = st.sampled_from([b"/a", b"/a?", b"/a?b=c", b"/a?b=d", b"/a?b?c", b"/a?b c", b"/a?b#c", b"/a#?b", b"/?a/b"])
# Bodies that look like the rest of a head, or like the line that is remembered by.
BODIES = [
    b"{}",
    b"\r\nAuthorization: Bearer d\r\n\r\n",
    b"\r\nAuthorization: Bearer d\r\nX: y\r\n\r\n{}",
    b"Authorization: Bearer d\r\nX: y\r\n\r\n",
    b"\r\nAuthorization: Bearer d",
    b"?b=c HTTP/1.1\r\nHost: h\r\n\r\n",
    b"?b=d z\r\n\r\n",
]
LENGTHS_AND_BODIES = st.sampled_from(
    [((), b""), ((b"Content-Length: 2",), b"{"), *(((), body) for body in BODIES)]
    + [((b"Content-Length: %d" % len(body),), body) for body in BODIES]
)


def request_of(target, lines, length_and_body):
    length, body = length_and_body
    return b"\r\n".join([b"POST " + target + b" HTTP/1.1", b"Host: h", *lines, *length, b"", body])


REQUESTS = st.builds(request_of, TARGETS, st.lists(LINES, max_size=2), LENGTHS_AND_BODIES)

PIECES = st.sampled_from(
    [
        b"",
        b" ",
        b"&",
        b"=",
        b"%",
        b"+",
        b"%26",
        b"%3D",
        b"sig",
        b"sig=",
        b"?",
        b"\r\n",
        b":",
        b"x",
        b"Bearer ",
        b"{",
        b"\xff",
    ]
)
