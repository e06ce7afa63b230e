"""A receipt of our own making, by which the way from outside to us is tried: signed like Vonage's, and never a message.

The gate knows it by its message id, and keeps a record of its own kind of it. What it says is chosen so that whoever
rewrites requests on the way changes it: letters beyond ASCII, slashes, and what forms and queries escape.
"""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlencode

import msgspec

from landed.errors import Unreadable
from landed.vonage.parse import read
from landed.vonage.request import Request
from landed.vonage.signing import Account, Trust, sign_jwt, sign_sig
from landed.vonage.values import iso, scts, spaced

PREFIX = "landed-check-"
_MARK = PREFIX.encode()
# Numbers that are nobody's: https://www.ofcom.org.uk/phones-and-broadband/phone-numbers/numbers-for-drama
TO, SENDER = "447700900000", "landed"
REFERENCE = "a check: é ü / & = + 100%"
METHOD = "md5hash"


def check_id(request: Request, trust: Trust) -> str | None:
    """The message id of a check, by what is trusted of the request; None for any other request."""
    # Not by `in`, which tries to make a number of the mark first (measured).
    if request.body.find(_MARK) < 0 and request.query.find(_MARK) < 0:
        return None
    try:
        facts = read(request, trust)
    except Unreadable:
        return None
    is_check = len(facts) == 1 and facts[0].message_id.startswith(PREFIX)
    return facts[0].message_id if is_check else None


def messages_check(path: str, nonce: str, account: Account, now: datetime) -> Request:
    """A status of the Messages API, signed where the account has a secret."""
    body = msgspec.json.encode(
        {
            "message_uuid": PREFIX + nonce,
            "to": TO,
            "from": SENDER,
            "channel": "sms",
            "timestamp": iso(now.replace(microsecond=0)),
            "status": "submitted",
            "client_ref": REFERENCE,
        }
    )
    headers = [(b"Content-Type", b"application/json")]
    if account.secrets:
        token = sign_jwt(
            body,
            account.secrets[0].decode(errors="surrogateescape"),
            issued_at=int(now.timestamp()),
            token_id=nonce,
            api_key=account.api_key,
        )
        headers.append((b"Authorization", b"Bearer " + token.encode()))
    return Request(method="POST", path=path, headers=tuple(headers), body=body)


def sms_check(path: str, nonce: str, account: Account, now: datetime) -> Request:
    """A receipt of the SMS API as a query, signed where the account has a secret."""
    fields = {
        "messageId": PREFIX + nonce,
        "msisdn": TO,
        "to": SENDER,
        "status": "accepted",
        "err-code": "0",
        "scts": scts(now),
        "message-timestamp": spaced(now.replace(microsecond=0)),
        "client-ref": REFERENCE,
    }
    if account.api_key:
        fields["api-key"] = account.api_key
    if account.secrets:
        fields |= {"timestamp": str(int(now.timestamp())), "nonce": nonce}
        secret = account.secrets[0].decode(errors="surrogateescape")
        fields["sig"] = sign_sig(fields, secret, account.method or METHOD)
    return Request(method="GET", path=path, query=urlencode(fields).encode())
