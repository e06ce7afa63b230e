"""The short way through the gate: a plain request whose signature holds, judged and encoded in one go.

Nearly all that Vonage sends is that. It says None to everything else, which goes the long way, through `Judge` and
`Keeper`: what it takes, the long way takes, too, with the same record and the same answer. A property holds this.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from landed.domain.moments import MICROSECONDS_A_SECOND
from landed.errors import BadSignature
from landed.gate.judge import ANSWERS, Judge, Keep, Verdict
from landed.gate.keeper import Judged, Keeper
from landed.gate.plain import Plain
from landed.journal.record import REQUEST, encode
from landed.vonage.check import PREFIX
from landed.vonage.signing import Coverage, Signed, Trust, plain_query, verify_jwt, verify_sig

BEARER = b"Bearer "
# Its answer is another one.
HEAD = "HEAD"
# Paths and verdicts that are alike are made once.
PATHS_MAX = 64
VERDICTS_MAX = 1_024

# What a verdict depends on: the answer's number, the account, the API key, and whether the body is covered.
_Kind = tuple[int, str, str | None, bool]


class ShortWay:
    """The usual requests, by this judge's secrets; `path_of` gives a path as we call it."""

    def __init__(self, judge: Judge, keeper: Keeper, path_of: Callable[[str], str]) -> None:
        self._keyring = judge.keyring
        self._windows = judge.windows
        # Where it matters who sent it, that is looked into the long way.
        self._is_open = judge.checks and not judge.networks
        self._seen = keeper.seen
        self._ids = keeper.ids
        self._path_of = path_of
        self._paths: dict[str, tuple[str, HTTPStatus, int]] = {}
        self._verdicts: dict[_Kind, Verdict] = {}

    def judged(self, plain: Plain, now_us: int, peer: str) -> Judged | None:
        """A usual request, to be kept in the journal; None when it must go the long way."""
        place = (self._paths.get(plain.path) or self._place(plain.path)) if self._is_open else None
        if place is None or plain.method == HEAD:
            return None
        # A receipt of our own making, perhaps. Not by `in`, which tries to make a number of it first (measured).
        if plain.body.find(_CHECK) >= 0 or plain.query.find(_CHECK) >= 0:
            return None
        try:
            signed = self._signed(plain)
        except BadSignature:
            return None
        if signed is None or signed.is_stale(now_us / MICROSECONDS_A_SECOND, self._windows.ahead_seconds):
            return None
        signature, account, api_key = signed.signature, signed.account, signed.api_key
        if self._seen.is_kept_often_enough(signature):
            return None
        path, answer, number = place
        covers_body = plain.credentials is not None
        kind = (number, account, api_key, covers_body)
        verdict = self._verdicts.get(kind) or self._verdict(kind, answer)
        record = encode(
            # In the order of RequestRecord, whose making would cost as much as its encoding.
            (
                REQUEST,
                self._ids.next(),
                now_us,
                now_us,
                account,
                api_key,
                _BODY if covers_body else _PARAMETERS,
                True,
                False,
                number,
                plain.method,
                path,
                plain.query,
                plain.headers,
                plain.body,
                peer,
                "",
            )
        )
        return Judged(verdict, now_us, signature, record)

    def _signed(self, plain: Plain) -> Signed | None:
        """The signature of a request that bears one in the usual place."""
        credentials, body = plain.credentials, plain.body
        if credentials is None:
            read = None if body else plain_query(plain.query)
            return None if read is None else verify_sig(read[0], self._keyring, self._windows, read[1])
        # Without a body it may be the probe of a URL.
        if body[:1] != b"{" or credentials[: len(BEARER)] != BEARER:
            return None
        return verify_jwt(credentials[len(BEARER) :], body, self._keyring, self._windows)

    def _place(self, asked: str) -> tuple[str, HTTPStatus, int] | None:
        """A path as we call it and its answer; None when it is none of the webhooks'."""
        path = self._path_of(asked)
        answer = ANSWERS.get(path)
        if answer is None:
            return None
        place = (path, answer, int(answer))
        if len(self._paths) < PATHS_MAX:
            self._paths[asked] = place
        return place

    def _verdict(self, kind: _Kind, answer: HTTPStatus) -> Verdict:
        _, account, api_key, covers_body = kind
        coverage = Coverage.BODY if covers_body else Coverage.PARAMETERS
        trust = Trust(coverage=coverage, verified=True, stale=False, api_key=api_key)
        verdict = Verdict(answer=answer, keep=Keep.JOURNAL, account=account, trust=trust)
        if len(self._verdicts) < VERDICTS_MAX:
            self._verdicts[kind] = verdict
        return verdict


_CHECK = PREFIX.encode()
_BODY, _PARAMETERS = Coverage.BODY.value, Coverage.PARAMETERS.value
