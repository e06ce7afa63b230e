"""The verdict on one request: what is kept, under whose name, with what trust, and the answer.

Pure. Vonage retries for certain only after 429 and 5xx; any other 4xx may throw a receipt away for
ever (https://api.support.vonage.com/hc/en-us/articles/360028543292). So no 4xx is ever given to what
could be a receipt unless it has been kept.

| what came | kept in | answer |
|---|---|---|
| signature good, or none there and none required | journal | 200, or 204 on delivery-receipt |
| signature good but made outside its window | journal, flagged stale | the same |
| no signature where one is required | quarantine | 503, so that a signed retry comes |
| bad signature, unknown account, address not on the list | quarantine | 401, or 503 when it has no room |
| trusted but unreadable | journal; the fold marks it | as if readable |
| no parameters and no body: the probe of a URL | nothing | 200 |
| body over the limit | quarantine, its first 4 KiB | 413, or 503 when it has no room |
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus

import msgspec

from landed.errors import BadSignature
from landed.vonage.parse import UNTRUSTED, Trust, authenticate, named_api_key, reads_as_sms, trust_in
from landed.vonage.request import Request
from landed.vonage.signing import Keyring, Windows

# Which path was configured for what; each takes every known form all the same.
ANSWERS: Mapping[str, HTTPStatus] = {
    "/webhooks/message-status": HTTPStatus.OK,
    "/webhooks/delivery-receipt": HTTPStatus.NO_CONTENT,
    "/webhooks/inbound-message": HTTPStatus.OK,
    "/webhooks/inbound-sms": HTTPStatus.OK,
}
METHODS = ("GET", "HEAD", "POST")


# What bodies over the limit are refused for; only their beginning is kept.
TOO_LARGE = "too-large"


class Keep(StrEnum):
    """Where a request is made durable before it is answered."""

    JOURNAL = "journal"
    QUARANTINE = "quarantine"
    NOTHING = "nothing"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with a request: where it is kept, and the answer when it has been kept there.

    `reason` says why it was not trusted, for the log and the metrics.
    """

    answer: HTTPStatus
    keep: Keep
    account: str = ""
    trust: Trust = UNTRUSTED
    reason: str = ""


class Judge:
    """Gives the verdict on requests to one of the webhook paths."""

    def __init__(self, keyring: Keyring, windows: Windows | None = None) -> None:
        self._keyring = keyring
        self._windows = windows or Windows()
        self._has_keys = any(account.api_key for account in keyring.accounts)

    def verdict(self, request: Request, now: datetime, peer: str = "") -> Verdict:  # noqa: ARG002 - judged soon
        """The row of the table that this request falls into; `now` is aware, `peer` who connected."""
        answer = ANSWERS[request.path]
        if request.is_probe:
            return Verdict(answer=HTTPStatus.OK, keep=Keep.NOTHING, reason="probe")
        if not self._keyring.has_secrets:
            return self._unsigned(request, answer)
        try:
            authenticated = authenticate(request, self._keyring, self._windows)
        except BadSignature as bad:
            return _suspect(bad.reason)
        if authenticated is not None:
            signed, coverage = authenticated
            trust = trust_in(signed, coverage, now, self._windows)
            return Verdict(answer=answer, keep=Keep.JOURNAL, account=signed.account, trust=trust)
        if reads_as_sms(request):
            # Vonage signs the SMS API's receipts only after its support enabled it.
            return self._unsigned(request, answer)
        return _suspect("missing", HTTPStatus.SERVICE_UNAVAILABLE)

    def too_large(self) -> Verdict:
        """The row of a request whose body is over the limit."""
        return _suspect(TOO_LARGE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _unsigned(self, request: Request, answer: HTTPStatus) -> Verdict:
        account = self._keyring.name_of(named_api_key(request) if self._has_keys else None)
        if account is None:
            return _suspect("account")
        return Verdict(answer=answer, keep=Keep.JOURNAL, account=account)


def _suspect(reason: str, answer: HTTPStatus = HTTPStatus.UNAUTHORIZED) -> Verdict:
    return Verdict(answer=answer, keep=Keep.QUARANTINE, reason=reason)
