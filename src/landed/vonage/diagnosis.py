"""Why a request's signature does not hold, by trying what usually goes wrong. Pure and total.

Each try is a change that is known to happen on the way, undone, or a setting of ours, loosened; the
first after which the signature holds is the reason. What is found is for people to read: nothing
here lets a request in.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from urllib.parse import unquote_to_bytes, urlencode

import msgspec

from landed.errors import BadSignature
from landed.vonage.parse import authenticate, named_api_key, reads_as_sms
from landed.vonage.request import Pairs, Request, read_body, read_pairs
from landed.vonage.signing import METHODS, SIG, Account, Keyring, Signed, Windows, bearer_token, flat_json

# Of so many parameters each is tried as one that was added on the way.
ADDED_MAX = 32
OTHER_ALGORITHMS = {"HS384": "sha384", "HS512": "sha512"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was found, in a sentence; `kind` names it for programs."""

    kind: str
    sentence: str


def diagnose(  # noqa: PLR0913 - what the gate knows beside the request
    request: Request,
    keyring: Keyring,
    windows: Windows,
    at: datetime,
    *,
    is_listed: bool = True,
    is_whole: bool = True,
) -> tuple[Finding, ...]:
    """What is wrong with a request that came at that time, the plainest first; never empty.

    `is_listed` says whether it came from a network that is accepted from, `is_whole` whether all of
    its body was kept.
    """
    findings = []
    if not is_listed:
        findings.append(Finding(kind="address", sentence=ADDRESS))
    if not is_whole:
        return (*findings, Finding(kind="too-large", sentence=TOO_LARGE))
    if not keyring.has_secrets:
        return (*findings, *_unsigned(request, keyring))
    try:
        authenticated = authenticate(request, keyring, windows)
    except BadSignature as bad:
        return (*findings, *_bad(request, keyring, windows, at, bad))
    if authenticated is None:
        return (*findings, *_unsigned(request, keyring))
    signed = authenticated[0]
    return (*findings, *_clock(signed, windows, at), Finding(kind="holds", sentence=HOLDS.format(signed.account)))


ADDRESS = "It came from an address that is on none of the networks in `networks`: add that network if it is Vonage's."
TOO_LARGE = "Its body is over the limit, so only the beginning was kept, and a signature cannot be judged by that."
HOLDS = "With today's settings its signature holds, for account {}: `landed quarantine recheck` lets it in."
UNSIGNED = (
    "It bears no signature, and the Messages API always signs once the account has a secret. Vonage sends such ones "
    "after errors of its own, and comes again with a signature; anybody else can send them, too."
)
UNSIGNED_SMS = (
    "It bears no signature. Vonage signs the SMS API's requests only after its support enabled it for the account: "
    'ask for that, or take them unverified with sms_signature = "when-present".'
)
UNKNOWN_ACCOUNT = (
    "It names the API key {}, which no account here has, and no secret here fits: if it is yours, add an [[account]] "
    "with that api_key and its signature_secret."
)
UNKNOWN_UNSIGNED = "It names the API key {}, which no account here has: if it is yours, add an [[account]] with it."
NO_SECRETS = "It bears nothing that could be checked, since there is no signature secret here."
OTHER_ACCOUNT = (
    "It names the API key {key}, but it was signed with the secret of account {account}: the two are mixed up here, "
    "or that account has this key."
)
OTHER_METHOD = (
    "The secret of account {account} fits by {method}, but this account is set to {set}: set its signature method to "
    "{method}, or leave it out."
)
WRONG = (
    "It was signed, but none of the secrets here fits ({secrets} of {accounts}), neither by any algorithm nor with any "
    "known change on the way undone: compare them with Vonage's dashboard, and keep the old one while rotating."
)
OTHER_BODY = (
    "Its token was made with a secret that is known here, but for another body, and it is none of the known rewritings "
    "of this one: something on the way changes bodies, or somebody put two requests together."
)
OTHER_ALGORITHM = (
    "Its token is signed by {0}, and a secret of account {1} fits; Vonage uses HS256 only, so it comes from elsewhere."
)
FOREIGN_ALGORITHM = "Its token is signed by {0}; Vonage uses HS256 only, so it was not Vonage that made it."
MALFORMED = (
    "Its bearer token is no JWT such as Vonage sends: it was cut or changed on the way, or comes from elsewhere."
)
ISSUER = "Its token was made with a secret that is known here, but does not say that Vonage made it."
UNCOVERED = (
    "Its parameters cannot be what was signed: one of them comes twice, or is nested, or has a name with `&` or `=`."
)


# What happens to requests on the way, undone. Each gives the requests that it may have been.


def _as_it_came(request: Request) -> Iterator[Request]:
    yield request


def _times(request: Request) -> Iterator[Request]:
    for mangled in (b"\xc3\x97tamp=", b"%C3%97tamp=", b"%c3%97tamp=", b"\xd7tamp=", b"%D7tamp="):
        if mangled in request.query or mangled in request.body:
            yield msgspec.structs.replace(
                request,
                query=request.query.replace(mangled, b"&timestamp="),
                body=request.body.replace(mangled, b"&timestamp="),
            )


def _json_of(**style: object) -> Callable[[Request], Iterator[Request]]:
    def rewritten(request: Request) -> Iterator[Request]:
        try:
            text = json.dumps(json.loads(request.body), **style)  # type: ignore[arg-type] # its own options
        except (ValueError, RecursionError):
            return
        for body in (text, text.replace("/", "\\/")):
            yield msgspec.structs.replace(request, body=body.encode(errors="replace"))

    return rewritten


def _ends(request: Request) -> Iterator[Request]:
    body = request.body
    for other in (
        body.strip(b" \t\r\n"),
        body + b"\n",
        body + b"\r\n",
        body.replace(b"\r\n", b"\n"),
        body.replace(b"\n", b"\r\n"),
        body.removeprefix(b"\xef\xbb\xbf"),
    ):
        yield msgspec.structs.replace(request, body=other)


def _query_as_body(request: Request) -> Iterator[Request]:
    pairs = read_pairs(request.query)
    if pairs and not request.body:
        fields = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in pairs}
        text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
        yield msgspec.structs.replace(request, body=text.encode(errors="replace"))


def _plus(request: Request) -> Iterator[Request]:
    yield msgspec.structs.replace(
        request, query=request.query.replace(b"+", b"%2B"), body=request.body.replace(b"+", b"%2B")
    )


def _encoded_twice(request: Request) -> Iterator[Request]:
    yield msgspec.structs.replace(request, query=unquote_to_bytes(request.query), body=unquote_to_bytes(request.body))


def _changed(change: Callable[[Pairs], Iterator[Pairs]]) -> Callable[[Request], Iterator[Request]]:
    def changed(request: Request) -> Iterator[Request]:
        if bearer_token(request.header(b"authorization")) is not None:
            return
        for pairs in change(_pairs(request)):
            yield msgspec.structs.replace(request, query=urlencode(pairs).encode(), body=b"")

    return changed


def _without_empty(pairs: Pairs) -> Iterator[Pairs]:
    yield [(name, value) for name, value in pairs if value.strip()]


def _once(pairs: Pairs) -> Iterator[Pairs]:
    yield list(dict(pairs).items())
    yield list(dict(reversed(pairs)).items())


def _without_one(pairs: Pairs) -> Iterator[Pairs]:
    for added in list(dict.fromkeys(name for name, _ in pairs if name != SIG))[:ADDED_MAX]:
        yield [(name, value) for name, value in pairs if name != added]


def _in_latin(pairs: Pairs) -> Iterator[Pairs]:
    for source, target in (("utf-8", "latin-1"), ("latin-1", "utf-8")):
        yield [(name, value.decode(source, "replace").encode(target, "replace")) for name, value in pairs]


_REWRITTEN = "The body was written anew on the way: its token fits the same JSON {}. Let the raw bytes come through."
_COMPACT = (",", ":")

# The first that fits is what is said; the plainest come first.
REPAIRS: tuple[tuple[str, str, Callable[[Request], Iterator[Request]]], ...] = (
    ("", "", _as_it_came),
    (
        "times",
        "On the way `&timestamp` was read as HTML and became `\u00d7tamp`: something decodes HTML in URL or body.",
        _times,
    ),
    ("re-encoded", "The body's line ends, or the blanks around it, were changed on the way.", _ends),
    (
        "re-encoded",
        _REWRITTEN.format("without blanks"),
        _json_of(separators=_COMPACT, ensure_ascii=False),
    ),
    ("re-encoded", _REWRITTEN.format("with blanks"), _json_of(ensure_ascii=False)),
    ("re-encoded", _REWRITTEN.format("with its letters escaped"), _json_of(separators=_COMPACT)),
    ("re-encoded", _REWRITTEN.format("with blanks, its letters escaped"), _json_of()),
    ("re-encoded", _REWRITTEN.format("in lines, indented by two"), _json_of(indent=2, ensure_ascii=False)),
    ("re-encoded", _REWRITTEN.format("in lines, indented by four"), _json_of(indent=4, ensure_ascii=False)),
    ("re-encoded", "Its token was made for the query as a JSON object.", _query_as_body),
    ("re-encoded", "A plus sign lost its encoding on the way: `%2B` became `+`, which means a blank.", _plus),
    ("re-encoded", "Its parameters were encoded twice on the way.", _encoded_twice),
    ("re-encoded", "Its letters were taken from one character set into another on the way.", _changed(_in_latin)),
    ("re-encoded", "It was signed without its empty parameters.", _changed(_without_empty)),
    ("re-encoded", "One of its parameters was doubled on the way.", _changed(_once)),
    ("added", "One parameter more than was signed came with it: something on the way adds it.", _changed(_without_one)),
)


def _bad(request: Request, keyring: Keyring, windows: Windows, at: datetime, bad: BadSignature) -> Iterator[Finding]:
    for kind, sentence, repair in REPAIRS:
        for repaired in repair(request):
            for loosened in _loosened(keyring):
                signed = _signed(repaired, loosened, windows)
                if signed is None:
                    continue
                if kind:
                    yield Finding(kind=kind, sentence=sentence)
                if loosened is not keyring:
                    yield _loosening(repaired, keyring, signed)
                yield from _clock(signed, windows, at)
                return
    yield _hopeless(request, keyring, bad)


def _loosened(keyring: Keyring) -> Iterator[Keyring]:
    """Our settings, then without the methods, then without the keys either."""
    yield keyring
    accounts = [msgspec.structs.replace(account, method=None) for account in keyring.accounts]
    yield Keyring(accounts)
    yield Keyring([msgspec.structs.replace(account, api_key=None) for account in accounts])


def _signed(request: Request, keyring: Keyring, windows: Windows) -> Signed | None:
    try:
        authenticated = authenticate(request, keyring, windows)
    except BadSignature:
        return None
    return None if authenticated is None else authenticated[0]


def _loosening(request: Request, keyring: Keyring, signed: Signed) -> Finding:
    """Which setting of ours it was that did not fit."""
    if signed.api_key is not None and signed.account not in {
        account.name for account in keyring.candidates(signed.api_key)
    }:
        sentence = OTHER_ACCOUNT.format(key=signed.api_key, account=signed.account)
        return Finding(kind="other-account", sentence=sentence)
    account = next(account for account in keyring.accounts if account.name == signed.account)
    sentence = OTHER_METHOD.format(account=account.name, method=_method(request, account), set=account.method)
    return Finding(kind="algorithm", sentence=sentence)


def _method(request: Request, account: Account) -> str:
    for method in METHODS:
        only = Keyring([msgspec.structs.replace(account, api_key=None, method=method)])
        if _signed(request, only, Windows()) is not None:
            return method
    return "another one"


def _hopeless(request: Request, keyring: Keyring, bad: BadSignature) -> Finding:
    if bad.reason == "algorithm":
        return _other_algorithm(request, keyring)
    if bad.reason == "account":
        return Finding(kind="account", sentence=UNKNOWN_ACCOUNT.format(_key_of(request) or "of somebody"))
    fixed = {"malformed": MALFORMED, "issuer": ISSUER, "body": OTHER_BODY, "uncovered": UNCOVERED}
    if bad.reason in fixed:
        return Finding(kind=bad.reason, sentence=fixed[bad.reason])
    accounts = keyring.candidates(_key_of(request))
    sentence = WRONG.format(
        secrets=sum(len(account.secrets) for account in accounts),
        accounts="account " + ", ".join(account.name for account in accounts),
    )
    return Finding(kind="secret", sentence=sentence)


def _other_algorithm(request: Request, keyring: Keyring) -> Finding:
    token = bearer_token(request.header(b"authorization")) or b""
    signing_input, _, signature = token.rpartition(b".")
    algorithm = _part(signing_input.partition(b".")[0]).get("alg")
    digest = OTHER_ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    for account in keyring.accounts if digest is not None else ():
        for secret in account.secrets:
            made = base64.urlsafe_b64encode(hmac.digest(secret, signing_input, str(digest))).rstrip(b"=")
            if hmac.compare_digest(made, signature):
                return Finding(kind="algorithm", sentence=OTHER_ALGORITHM.format(algorithm, account.name))
    named = algorithm if isinstance(algorithm, str) and algorithm else "no algorithm"
    return Finding(kind="algorithm", sentence=FOREIGN_ALGORITHM.format(named))


def _key_of(request: Request) -> str | None:
    """The API key that it names, in its token or its parameters."""
    token = bearer_token(request.header(b"authorization"))
    if token is None:
        return named_api_key(request)
    key = _part(token.partition(b".")[2].partition(b".")[0]).get("api_key")
    return key if isinstance(key, str) else None


def _part(encoded: bytes) -> dict[str, object]:
    """A part of a token, or nothing when it is none."""
    try:
        decoded = msgspec.json.decode(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _unsigned(request: Request, keyring: Keyring) -> Iterator[Finding]:
    key = named_api_key(request)
    if key is not None and keyring.name_of(key) is None:
        yield Finding(kind="account", sentence=UNKNOWN_UNSIGNED.format(key))
    elif not keyring.has_secrets:
        yield Finding(kind="unsigned", sentence=NO_SECRETS)
    else:
        yield Finding(kind="unsigned", sentence=UNSIGNED_SMS if reads_as_sms(request) else UNSIGNED)


def _clock(signed: Signed, windows: Windows, at: datetime) -> Iterator[Finding]:
    if not signed.is_stale(at.timestamp(), windows.ahead_seconds):
        return
    if signed.made_at is None:
        yield Finding(kind="clock", sentence="Its signature bears no time that anybody could mean.")
    elif signed.made_at > at:
        sentence = f"Its signature is of {_long(signed.made_at - at)} after it came: one of the two clocks is wrong."
        yield Finding(kind="clock", sentence=sentence)
    else:
        usual = timedelta(seconds=signed.back_seconds)
        sentence = (
            f"Its signature was made {_long(at - signed.made_at)} before it came, and {_long(usual)} are usual: "
            "a late copy, or a clock that is wrong. It is taken all the same, flagged stale."
        )
        yield Finding(kind="clock", sentence=sentence)


def _long(time: timedelta) -> str:
    """A duration for people, in its two greatest units."""
    seconds = int(time.total_seconds())
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def _pairs(request: Request) -> Pairs:
    body = read_body(request.body)
    pairs = read_pairs(request.query)
    if not body.objects:
        return pairs + list(body.pairs)
    try:
        return pairs + flat_json(body.json)
    except BadSignature:
        return pairs
