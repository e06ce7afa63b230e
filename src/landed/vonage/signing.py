"""Signatures: the Messages API's JWT and the SMS API's `sig`, verified and made.

Whatever touches a sender's bytes here is total: it returns, or raises `BadSignature`. Secrets and
digests are compared in constant time and as bytes (Python's comparison raises on non-ASCII text).
Rules: https://developer.vonage.com/en/getting-started/concepts/signing-messages and
https://developer.vonage.com/en/getting-started/concepts/webhooks#signed-webhooks
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from landed.errors import BadSignature, SettingsError
from landed.vonage.request import FIELDS_MAX, PERCENT, text_of

ISSUER = "Vonage"
WRONG = "The signature was not made with a secret that is configured."
SIG = b"sig"
METHODS = ("md5hash", "md5", "sha1", "sha256", "sha512")
METHODS_BY_LENGTH: Mapping[int, tuple[str, ...]] = {
    32: ("md5hash", "md5"),
    40: ("sha1",),
    64: ("sha256",),
    128: ("sha512",),
}

JWT_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
BEARER = b"bearer "
# As numbers; see landed.vonage.request.
AMPERSAND, EQUALS, DOT, DASH, UNDERSCORE, NUL = b"&=.-_\0"

# A retry may come a day after the event and bear its first signature; the SMS API retries receipts
# for 72 hours. https://api.support.vonage.com/hc/en-us/articles/360028543292
# https://api.support.vonage.com/hc/en-us/articles/226572227
JWT_BACK_SECONDS = 25 * 3_600.0
SIG_BACK_SECONDS = 73 * 3_600.0
AHEAD_SECONDS = 5 * 60.0
UNIX_SECONDS_MAX = 2**33
# A union of them would be made anew for each question.
_NUMBERS = (int, float)
_UNIX_DIGITS_MAX = len(str(UNIX_SECONDS_MAX))

SHA256_BLOCK_BYTES = 64
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One Vonage account: its name with us, its API key if we know it, its signature secrets.

    `method` is the account's signature method for `sig`; None takes any whose digest fits.
    """

    name: str
    api_key: str | None = None
    secrets: tuple[bytes, ...] = ()
    method: str | None = None


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """How old or early a signature may be before what it signs is called stale."""

    jwt_back_seconds: float = JWT_BACK_SECONDS
    sig_back_seconds: float = SIG_BACK_SECONDS
    ahead_seconds: float = AHEAD_SECONDS


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A signature that holds: whose it is, and when it says it was made. `signature` has one spelling."""

    signature: bytes
    account: str
    api_key: str | None
    made_seconds: float | None
    back_seconds: float

    @property
    def made_at(self) -> datetime | None:
        """When it was made, if it says so."""
        return None if self.made_seconds is None else datetime.fromtimestamp(self.made_seconds, UTC)

    def is_stale(self, now_seconds: float, ahead_seconds: float) -> bool:
        """Whether it was made outside its window, at this Unix time; one without a usable time always is."""
        made = self.made_seconds
        return made is None or not -ahead_seconds <= now_seconds - made <= self.back_seconds


class Coverage(StrEnum):
    """What part of a request its signature covers, and so what part may be believed."""

    NOTHING = "nothing"
    BODY = "body"
    PARAMETERS = "parameters"


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found out about a request's signature; kept with it in the journal."""

    coverage: Coverage = Coverage.NOTHING
    verified: bool = False
    stale: bool = False
    api_key: str | None = None


def pads_of(key: bytes) -> tuple[bytes, bytes]:
    """What stands before the message, and before its hash, in HMAC-SHA256 under that key.

    https://datatracker.ietf.org/doc/html/rfc2104#section-2
    """
    short = hashlib.sha256(key).digest() if len(key) > SHA256_BLOCK_BYTES else key
    block = short.ljust(SHA256_BLOCK_BYTES, b"\0")
    return block.translate(_INNER_PAD), block.translate(_OUTER_PAD)


class HmacSha256:
    """HMAC-SHA256 under one key, whose pads are hashed once: a third of hmac.digest's time (measured).

    https://datatracker.ietf.org/doc/html/rfc2104#section-4
    """

    __slots__ = ("inner", "outer")

    def __init__(self, key: bytes) -> None:
        inner, outer = pads_of(key)
        self.inner, self.outer = hashlib.sha256(inner), hashlib.sha256(outer)

    def digest(self, message: bytes) -> bytes:
        """The code of a message, 32 bytes."""
        inner, outer = self.inner.copy(), self.outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


class Signer(msgspec.Struct, frozen=True, gc=False):
    """A secret that an account may have signed with."""

    account: Account
    secret: bytes
    hmac_sha256: HmacSha256


class Keyring:
    """The accounts whose signatures we can check; `has_secrets` says whether there are any to check with.

    Raises SettingsError for an empty secret, which anybody could sign with, and an unknown method.
    """

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.accounts = tuple(accounts)
        for account in self.accounts:
            if not all(secret.strip() for secret in account.secrets):
                raise SettingsError(f"A signature secret of account {account.name!r} is empty; leave it out instead.")
            if account.method not in (None, *METHODS):
                raise SettingsError(
                    f"The signature method of account {account.name!r} is none of: {', '.join(METHODS)}."
                )
        self.has_secrets = any(account.secrets for account in self.accounts)
        self.default = self.accounts[0].name if self.accounts else "default"
        self._keyed: dict[str, tuple[Account, ...]] = {}
        self._keyless = tuple(account for account in self.accounts if account.api_key is None)
        for account in self.accounts:
            if account.api_key is not None:
                self._keyed[account.api_key] = (*self._keyed.get(account.api_key, ()), account)
        self._signers_of_all = _signers(self.accounts)
        self._signers_of_keyless = _signers(self._keyless)
        self._signers = {key: _signers(self.candidates(key)) for key in self._keyed}

    @classmethod
    def of(cls, secrets: str | Iterable[str] | Mapping[str, str | Iterable[str]]) -> Keyring:
        """From one secret, several, or a mapping from API key to either. An empty secret is refused."""
        if isinstance(secrets, Mapping):
            accounts = [Account(name=key, api_key=key, secrets=_secrets(each)) for key, each in secrets.items()]
        else:
            accounts = [Account(name="default", secrets=_secrets(secrets))]
        if not accounts:
            sentence = "No signature secret was given; pass None to check nothing."
            raise SettingsError(sentence)
        return cls(accounts)

    def candidates(self, api_key: str | None) -> tuple[Account, ...]:
        """The accounts that a request naming this API key may belong to."""
        if api_key is None:
            return self.accounts
        return self._keyed.get(api_key, ()) + self._keyless

    def signers(self, api_key: str | None) -> tuple[Signer, ...]:
        """Each secret of those accounts. BadSignature when there is no such account."""
        if api_key is None:
            return self._signers_of_all
        signers = self._signers.get(api_key, self._signers_of_keyless)
        if not signers and not self.candidates(api_key):
            raise BadSignature("account", "The request names an API key that is not configured.")
        return signers

    def name_of(self, api_key: str | None) -> str | None:
        """The account of an unsigned request; None when it names one that is certainly not ours."""
        if api_key is None:
            return self.default
        if api_key in self._keyed:
            return self._keyed[api_key][0].name
        return self.default if self._keyless or not self.accounts else None


class _Header(msgspec.Struct, frozen=True):
    alg: str = ""
    crit: object = None


class _Claims(msgspec.Struct, frozen=True):
    iat: object = None
    iss: str = ""
    payload_hash: str = ""
    api_key: str | None = None


_headers = msgspec.json.Decoder(_Header)
_claims = msgspec.json.Decoder(_Claims)
claims_of = _claims.decode
_flat = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str)

_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_PADDING = (b"", b"===", b"==", b"=")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")

_T = TypeVar("_T")


def bearer_token(authorization: bytes | None) -> bytes | None:
    """The token of an `Authorization: Bearer` header; other schemes are a proxy's business."""
    if authorization is None or authorization[: len(BEARER)].lower() != BEARER:
        return None
    return authorization[len(BEARER) :].strip()


def verify_jwt(token: bytes, body: bytes, keyring: Keyring, windows: Windows) -> Signed:
    """Check a Messages API webhook's token against the raw bytes of its body."""
    signing_input, _, signature = token.rpartition(b".")
    header, separator, payload = signing_input.partition(b".")
    if not separator or DOT in payload:
        raise BadSignature("malformed", "The bearer token is not a JWT of three parts.")
    if header != JWT_HEADER:
        decoded = _decoded(_headers, header)
        # https://datatracker.ietf.org/doc/html/rfc7515#section-4.1.11
        if decoded.alg != "HS256" or decoded.crit is not None:
            raise BadSignature("algorithm", "The token is not signed with HS256, the one algorithm Vonage uses.")
    claims = _decoded(_claims, payload)

    account = _signer_of_token(signing_input, signature, keyring.signers(claims.api_key))
    if claims.iss != ISSUER:
        raise BadSignature("issuer", "The token was not issued by Vonage.")
    # Nothing secret is compared here: whoever made the token knows both.
    if hashlib.sha256(body).hexdigest() != claims.payload_hash.lower():
        raise BadSignature("body", "The body is not the one that the token was made for.")
    return Signed(
        signature=signature,
        account=account.name,
        api_key=claims.api_key,
        made_seconds=_made_seconds(claims.iat),
        back_seconds=windows.jwt_back_seconds,
    )


def verify_sig(params: Mapping[bytes, bytes], keyring: Keyring, windows: Windows, base: bytes | None = None) -> Signed:
    """Check the SMS API's `sig` over all other parameters; `base` is their signature base, if it is known."""
    given = params[SIG].strip().lower()
    api_key = text_of(params.get(b"api-key", b"").decode(errors="replace"))
    if base is None:
        base = signature_base(params)
    account = _signer_of_base(base, given, keyring.signers(api_key))
    return Signed(
        signature=given,
        account=account.name,
        api_key=api_key,
        made_seconds=_made_seconds(_seconds_of(params.get(b"timestamp", b""))),
        back_seconds=windows.sig_back_seconds,
    )


def signed_params(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The parameters that a `sig` can cover, each name once; anything else is a bad signature."""
    params = dict(pairs)
    if len(params) != len(pairs):
        raise BadSignature("uncovered", "A parameter comes twice, so the signature cannot say which one it means.")
    names = b" ".join(params)
    if AMPERSAND in names or EQUALS in names:
        raise BadSignature("uncovered", "A parameter's name has a character that would hide in the signature.")
    return params


def plain_query(query: bytes) -> tuple[dict[bytes, bytes], bytes] | None:
    """The signed parameters of a query and their signature base, without a look at each of them.

    None unless that is certain to be what `signed_params` and `signature_base` make of it: each field has its
    name, `=` and value, nothing decodes to a separator, and no name comes twice.
    """
    decoded = query.replace(b"+", b" ")
    if PERCENT in decoded:
        # The colons of its times are all that is escaped in a usual one.
        decoded = decoded.replace(b"%3A", b":")
        if PERCENT in decoded:
            decoded = unquote_to_bytes(decoded)
            if decoded.count(b"=") != query.count(b"=") or decoded.count(b"&") != query.count(b"&"):
                return None
    if NUL in decoded:
        return None
    # NUL sorts below all that a name may have, so that a name stands before those that begin with it.
    fields = decoded.replace(b"=", b"\0").split(b"&")
    count = len(fields)
    if count > FIELDS_MAX:
        return None
    try:
        params: dict[bytes, bytes] = dict([field.split(b"\0") for field in fields])
    except ValueError:
        return None
    if len(params) != count or SIG not in params:
        return None
    fields.sort()
    fields.remove(b"sig\0" + params[SIG])
    return params, b"&".join([b"", *fields]).replace(b"\0", b"=")


def flat_json(body: bytes) -> list[tuple[bytes, bytes]]:
    """The members of a flat JSON object, repeats kept, numbers as they are written."""
    try:
        members = _flat.decode(body.decode())
        if not isinstance(members, tuple) or not all(isinstance(value, str) for _, value in members):
            raise BadSignature("uncovered", "The signed body is not a flat JSON object of text and numbers.")
        return [(name.encode(), value.encode()) for name, value in members]
    except (ValueError, RecursionError) as error:
        raise BadSignature("uncovered", "The signed body cannot be read as JSON.") from error


def signature_base(params: Mapping[bytes, bytes]) -> bytes:
    """What a `sig` is made over: `&name=value` for each name but `sig`, in byte order.

    An `&` or `=` in a value becomes `_`, so the three cannot be told apart in what is signed; an
    empty value stays as `&name=`.
    """
    names = sorted(params)
    if SIG in params:
        names.remove(SIG)
    base = b"".join([b"&" + name + b"=" + params[name] for name in names])
    if base.count(b"&") == base.count(b"=") == len(names):
        return base
    values = [params[name].replace(b"&", b"_").replace(b"=", b"_") for name in names]
    return b"".join([b"&" + name + b"=" + value for name, value in zip(names, values, strict=True)])


def sign_sig(params: Mapping[str, str], secret: str, method: str = "md5hash") -> str:
    """The `sig` for these parameters: hexadecimal, in the letter case Vonage uses."""
    base = signature_base({name.encode(): value.encode() for name, value in params.items()})
    digest = _digest(method, base, secret.encode())
    return digest if method == "md5hash" else digest.upper()


def sign_jwt(  # noqa: PLR0913 - the claims of Vonage's token
    body: bytes, secret: str, *, issued_at: int, token_id: str, api_key: str | None, application_id: str | None = None
) -> str:
    """The token of a Messages API webhook; `issued_at` in Unix seconds."""
    claims: dict[str, object] = {"iat": issued_at, "jti": token_id, "iss": ISSUER}
    claims["payload_hash"] = hashlib.sha256(body).hexdigest()
    if api_key is not None:
        claims["api_key"] = api_key
    if application_id is not None:
        claims["application_id"] = application_id
    payload = base64.urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=")
    signing_input = JWT_HEADER + b"." + payload
    return (signing_input + b"." + _token_signature(hmac.digest(secret.encode(), signing_input, "sha256"))).decode()


def _secrets(secrets: str | Iterable[str]) -> tuple[bytes, ...]:
    several = [secrets] if isinstance(secrets, str) else list(secrets)
    if not several or not all(isinstance(secret, str) and secret.strip() for secret in several):
        sentence = "A signature secret is empty or no text, which would check nothing; pass None to say so on purpose."
        raise SettingsError(sentence)
    return tuple(secret.encode(errors="surrogateescape") for secret in several)


def _signers(accounts: Iterable[Account]) -> tuple[Signer, ...]:
    return tuple(Signer(account, secret, HmacSha256(secret)) for account in accounts for secret in account.secrets)


# Every secret is tried, so that the time tells nothing of which one fits; of several the first stands.


def _signer_of_token(signing_input: bytes, signature: bytes, signers: Iterable[Signer]) -> Account:
    account = None
    for signer in signers:
        # Compared as text, since base64 has several spellings of the same bytes.
        made = _token_signature(signer.hmac_sha256.digest(signing_input))
        if hmac.compare_digest(made, signature) and account is None:
            account = signer.account
    if account is None:
        raise BadSignature("wrong", WRONG)
    return account


def _signer_of_base(base: bytes, given: bytes, signers: Iterable[Signer]) -> Account:
    account = None
    methods = METHODS_BY_LENGTH.get(len(given), ())
    for signer in signers:
        only = signer.account.method
        for method in methods:
            if only is None or only == method:
                made = _digest(method, base, signer.secret, signer.hmac_sha256)
                if hmac.compare_digest(made.encode(), given) and account is None:
                    account = signer.account
    if account is None:
        raise BadSignature("wrong", WRONG)
    return account


def _digest(method: str, base: bytes, secret: bytes, hmac_sha256: HmacSha256 | None = None) -> str:
    if method == "md5hash":
        return hashlib.md5(base + secret, usedforsecurity=False).hexdigest()
    if method == "sha256" and hmac_sha256 is not None:
        return hmac_sha256.digest(base).hex()
    return hmac.digest(secret, base, method).hex()


def _token_signature(digest: bytes) -> bytes:
    # What base64.urlsafe_b64encode does, at half its cost.
    return binascii.b2a_base64(digest, newline=False).translate(_TO_URL_SAFE).rstrip(b"=")


def _decoded(decoder: msgspec.json.Decoder[_T], encoded: bytes) -> _T:
    if DASH in encoded or UNDERSCORE in encoded:
        encoded = encoded.translate(_FROM_URL_SAFE)
    try:
        return decoder.decode(binascii.a2b_base64(encoded + _PADDING[len(encoded) % 4]))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadSignature("malformed", "The bearer token's parts are not what Vonage sends.") from error


def _seconds_of(timestamp: bytes) -> int | None:
    return int(timestamp) if timestamp.isdigit() and len(timestamp) <= _UNIX_DIGITS_MAX else None


def _made_seconds(seconds: object) -> float | None:
    """The time of a signature in Unix seconds; None when it is none that anybody could mean."""
    if isinstance(seconds, _NUMBERS) and 0 <= seconds <= UNIX_SECONDS_MAX:
        return seconds
    return None
