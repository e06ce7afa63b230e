"""The verdict on one request: what is kept, under whose name, with what trust, and the answer.

Pure, but for the allowance of what is not verified, whose clock is `now_us`. Vonage retries for certain
only after 429 and 5xx; any other 4xx may throw a receipt away for ever
(https://api.support.vonage.com/hc/en-us/articles/360028543292). So no 4xx is ever given to what could
be a receipt unless it has been kept.

| what came | kept in | answer |
|---|---|---|
| signature good, or none there and none required | journal | 200, or 204 on delivery-receipt |
| signature good but made outside its window | journal, flagged stale | the same |
| no signature where one is required | quarantine | 503, so that a signed retry comes |
| bad signature, unknown account, address not on the list | quarantine | 401, or 503 when it has no room |
| trusted but unreadable | journal; the fold marks it | as if readable |
| no parameters and no body: the probe of a URL | nothing | 200 |
| body over the limit | quarantine, its first 4 KiB | 413, or 503 when it has no room |
| anything not verified, beyond its rate or its share of disk, once there is a secret | nothing | 503 |
| signature good, and kept as often as copies are | nothing more | as before |
| a receipt of our own making, by which the way is tried | journal, as such | as if it were one |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self
from urllib.parse import unquote

import msgspec

from landed.domain.moments import MICROSECONDS_A_SECOND
from landed.errors import BadSignature
from landed.settings import Network, Settings
from landed.vonage.check import check_id
from landed.vonage.parse import UNTRUSTED, Coverage, Trust, authenticate, named_api_key, reads_as_sms
from landed.vonage.request import Request
from landed.vonage.signing import Account, Keyring, Windows

# Which path was configured for what; each takes every known form all the same.
ANSWERS: Mapping[str, HTTPStatus] = {
    "/webhooks/message-status": HTTPStatus.OK,
    "/webhooks/delivery-receipt": HTTPStatus.NO_CONTENT,
    "/webhooks/inbound-message": HTTPStatus.OK,
    "/webhooks/inbound-sms": HTTPStatus.OK,
}
METHODS = ("GET", "HEAD", "POST")
SECONDS_AN_HOUR, SECONDS_A_MINUTE = 3_600.0, 60.0

# What bodies over the limit are refused for; only their beginning is kept.
TOO_LARGE = "too-large"
# Trust that is made once: an account without a key of its own may be named by any.
TRUSTS_MAX = 1_024
# Answered as before, and not kept: it has been kept often enough. And: the last room on disk is not for it.
REPEATED = "repeated"
SPARED = "share"
# Of our own making: kept, and no message.
CHECK = "check"


# Whether it covers the body, whether it is stale, and the API key.
_TrustKey = tuple[bool, bool, str | None]


class Keep(StrEnum):
    """Where a request is made durable before it is answered."""

    JOURNAL = "journal"
    QUARANTINE = "quarantine"
    NOTHING = "nothing"


# A member of an enumeration costs more to look up than a name.
_BODY, _JOURNAL = Coverage.BODY, Keep.JOURNAL


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with a request: where it is kept, and the answer when it has been kept there.

    `reason` says why it was not trusted, for the log and the metrics. `signature` is the one that holds.
    """

    answer: HTTPStatus
    keep: Keep
    account: str = ""
    trust: Trust = UNTRUSTED
    reason: str = ""
    signature: bytes = b""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided beyond the secrets.

    Without `networks` requests are taken from anywhere. Headers that say who is behind a proxy are
    believed only from `trusted_proxies`. Without `unverified_per_second_max` there is no such rate.
    """

    sms_must_be_signed: bool = False
    networks: tuple[Network, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    unverified_per_second_max: float | None = None
    unverified_burst_max: int = 1


class Judge:
    """Gives the verdict on requests to one of the webhook paths."""

    def __init__(self, keyring: Keyring, windows: Windows | None = None, policy: Policy | None = None) -> None:
        self.keyring = keyring
        self.windows = windows or Windows()
        self._policy = policy or Policy()
        self.networks = self._policy.networks
        rate = self._policy.unverified_per_second_max if keyring.has_secrets else None
        self._allowance = None if rate is None else _Allowance(rate, self._policy.unverified_burst_max)
        self.checks = keyring.has_secrets
        self._has_keys = any(account.api_key for account in keyring.accounts)
        self._trusts: dict[_TrustKey, Trust] = {}

    @classmethod
    def of(cls, settings: Settings, keyring: Keyring, *, at_any_rate: bool = False) -> Self:
        """A judge by these settings; `at_any_rate` for what came before and was counted then."""
        policy = Policy(
            sms_must_be_signed=settings.sms_signature == "required",
            networks=settings.networks,
            trusted_proxies=settings.trusted_proxies,
            unverified_per_second_max=None if at_any_rate else settings.limits.unverified_per_second_max,
            unverified_burst_max=settings.limits.unverified_burst_max,
        )
        return cls(keyring, windows_of(settings), policy)

    def verdict(self, request: Request, now_us: int, peer: str = "") -> Verdict:
        """The row that this request falls into; `now_us` since 1970, `peer` the address that connected."""
        if request.is_probe:
            return Verdict(answer=HTTPStatus.OK, keep=Keep.NOTHING, reason="probe")
        given = self._verdict(request, now_us, peer)
        if given.keep is _JOURNAL and check_id(request, given.trust) is not None:
            given = msgspec.structs.replace(given, reason=CHECK)
        return given if given.trust.verified else self._allowed(given, now_us)

    def too_large(self, now_us: int | None = None) -> Verdict:
        """The row of a request whose body is over the limit; without `now_us` at any rate."""
        given = _suspect(TOO_LARGE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return given if now_us is None else self._allowed(given, now_us)

    def is_listed(self, request: Request, peer: str) -> bool:
        """Whether it came from a network that is accepted from."""
        networks = self._policy.networks
        if not networks:
            return True
        address = sender_of(request, peer, self._policy.trusted_proxies)
        return address is not None and any(address in network for network in networks)

    def _verdict(self, request: Request, now_us: int, peer: str) -> Verdict:
        answer = ANSWERS[request.path]
        if self.networks and not self.is_listed(request, peer):
            return _suspect("address")
        if not self.keyring.has_secrets:
            return self._unsigned(request, answer)
        try:
            authenticated = authenticate(request, self.keyring, self.windows)
        except BadSignature as bad:
            return _suspect(bad.reason)
        if authenticated is not None:
            signed, coverage = authenticated
            stale = signed.is_stale(now_us / MICROSECONDS_A_SECOND, self.windows.ahead_seconds)
            # Not by the coverage itself: a member of an enumeration is hashed by Python code.
            key = (coverage is _BODY, stale, signed.api_key)
            trust = self._trusts.get(key) or self._trust(key, coverage)
            return Verdict(
                answer=answer, keep=_JOURNAL, account=signed.account, trust=trust, signature=signed.signature
            )
        if not self._policy.sms_must_be_signed and reads_as_sms(request):
            # Vonage signs the SMS API's receipts only after its support enabled it.
            return self._unsigned(request, answer)
        return _suspect("missing", HTTPStatus.SERVICE_UNAVAILABLE)

    def _trust(self, key: _TrustKey, coverage: Coverage) -> Trust:
        """The trust in what bears a signature that holds, made once for all that is alike."""
        _, stale, api_key = key
        trust = Trust(coverage=coverage, verified=True, stale=stale, api_key=api_key)
        if len(self._trusts) < TRUSTS_MAX:
            self._trusts[key] = trust
        return trust

    def _allowed(self, given: Verdict, now_us: int) -> Verdict:
        if self._allowance is None or self._allowance.take(now_us):
            return given
        return Verdict(answer=HTTPStatus.SERVICE_UNAVAILABLE, keep=Keep.NOTHING, reason="rate")

    def _unsigned(self, request: Request, answer: HTTPStatus) -> Verdict:
        account = self.keyring.name_of(named_api_key(request) if self._has_keys else None)
        if account is None:
            return _suspect("account")
        return Verdict(answer=answer, keep=Keep.JOURNAL, account=account)


def keyring_of(settings: Settings) -> Keyring:
    """The accounts whose signatures are checked: the usual one first, then each `[[account]]`."""
    accounts = []
    if settings.vonage_signature_secret or settings.vonage_api_key or not settings.account:
        accounts.append(
            Account(
                name="default",
                api_key=settings.vonage_api_key,
                secrets=tuple(secret.get_secret_value().encode() for secret in settings.vonage_signature_secret),
                method=settings.vonage_signature_method,
            )
        )
    for account in settings.account:
        secrets = tuple(secret.get_secret_value().encode() for secret in account.signature_secret)
        accounts.append(
            Account(name=account.name, api_key=account.api_key, secrets=secrets, method=account.signature_method)
        )
    return Keyring(accounts)


def windows_of(settings: Settings) -> Windows:
    """How old or early a signature may be, by these settings."""
    return Windows(
        jwt_back_seconds=settings.jwt_window_hours * SECONDS_AN_HOUR,
        sig_back_seconds=settings.sig_window_hours * SECONDS_AN_HOUR,
        ahead_seconds=settings.ahead_minutes * SECONDS_A_MINUTE,
    )


def normal(path: str) -> str:
    """A path as people configure it: absolute form, doubled or trailing slashes, needless escapes."""
    if path[:8].lower().startswith(("http://", "https://")):
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    return "/" + "/".join(part for part in unquote(path).split("/") if part)


def _suspect(reason: str, answer: HTTPStatus = HTTPStatus.UNAUTHORIZED) -> Verdict:
    return Verdict(answer=answer, keep=Keep.QUARANTINE, reason=reason)


class _Allowance:
    """So many at once, and again as many a second as its rate says; a clock set back costs nothing."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._at_us: int | None = None

    def take(self, now_us: int) -> bool:
        """Use one, if there is one left."""
        elapsed = 0.0 if self._at_us is None else max(0, now_us - self._at_us) / MICROSECONDS_A_SECOND
        self._at_us = now_us
        self._left = min(self._burst, self._left + elapsed * self._per_second)
        if self._left < 1:
            return False
        self._left -= 1
        return True


_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;"]*)', re.IGNORECASE)


def sender_of(request: Request, peer: str, trusted_proxies: tuple[Network, ...]) -> IPv4Address | IPv6Address | None:
    """The right-most address on the way that is no trusted proxy's; None when it cannot be told.

    https://www.rfc-editor.org/rfc/rfc7239
    """
    address = _address(peer)
    if not _is_among(address, trusted_proxies):
        return address
    said = [
        _sender_behind(address, hops, trusted_proxies)
        for hops in (list(_forwarded(request)), list(_forwarded_for(request)))
        if hops
    ]
    # A proxy that writes one of the two headers lets the other through as the client wrote it.
    return address if not said else said[0] if len(set(said)) == 1 else None


def _sender_behind(
    address: IPv4Address | IPv6Address | None, hops: list[str], trusted_proxies: tuple[Network, ...]
) -> IPv4Address | IPv6Address | None:
    for hop in reversed(hops):
        address = _address(hop)
        if not _is_among(address, trusted_proxies):
            break
    return address


def _is_among(address: IPv4Address | IPv6Address | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)


def _forwarded(request: Request) -> Iterator[str]:
    for hop in _list_of(request, b"forwarded"):
        found = _FORWARDED_FOR.search(hop)
        yield found[1].strip().strip('"') if found else ""


def _forwarded_for(request: Request) -> Iterator[str]:
    return _list_of(request, b"x-forwarded-for")


def _list_of(request: Request, name: bytes) -> Iterator[str]:
    for key, value in request.headers:
        if key.lower() == name:
            yield from (each.strip() for each in value.decode("latin-1").split(","))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as sockets and proxies write it, perhaps with its port; None for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
