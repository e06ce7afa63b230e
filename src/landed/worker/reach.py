"""Where an event may go: the judge of addresses and of URLs. Pure; it opens no socket and asks no name server.

A URL is somebody's wish, and this process stands inside a network: what it dials could be a neighbour that trusts it,
or the metadata of its cloud. So it dials only what all of the Internet can reach, and beside that the networks that
the operator allows. Names are not judged here, but what they lead to, at the moment of dialling.

Some IPv6 addresses stand for an IPv4 address that is written in them. Such a form is refused, whatever is in it, unless

- the IPv4 address is in a network that is allowed, or
- the form is in one, as `64:ff9b::/96` where NAT64 is the only way out, and the IPv4 address in it is public.

A URL is read by a grammar narrower than RFC 3986's: one spelling for each address, so that no two programs can
disagree on where it leads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from landed.errors import SettingsError
from landed.settings import Network

Address = IPv4Address | IPv6Address

URL_CHARACTERS_MAX = 2_048
# https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4
NAME_CHARACTERS_MAX = 253
PORT_MAX = 65_535
PORTS: Mapping[str, int] = {"https": 443, "http": 80}

METADATA = "the metadata of a cloud"
# What an operator may well mean, and allows by its network; whatever else is refused is hardly ever meant.
INSIDE = frozenset({"private", "loopback", "unique-local", "shared behind a carrier's NAT"})

# Why, by network; the first that holds an address says it.
# https://www.iana.org/assignments/iana-ipv4-special-registry
_IPV4: tuple[tuple[str, str], ...] = (
    # Amazon, Google, Azure and most others; Alibaba; Oracle; Azure's, which is no private address at all.
    ("169.254.169.254/32", METADATA),
    ("100.100.100.200/32", METADATA),
    ("192.0.0.192/32", METADATA),
    ("168.63.129.16/32", METADATA),
    ("0.0.0.0/32", "unspecified"),
    ("0.0.0.0/8", "reserved"),
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("100.64.0.0/10", "shared behind a carrier's NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "for documentation"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("192.88.99.0/24", "a 6to4 relay"),
    ("198.18.0.0/15", "for benchmarks"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("240.0.0.0/4", "reserved"),
)
# https://www.iana.org/assignments/iana-ipv6-special-registry
_IPV6: tuple[tuple[str, str], ...] = (
    # Amazon; Google.
    ("fd00:ec2::254/128", METADATA),
    ("fd20:ce::254/128", METADATA),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("100::/64", "discarded"),
    ("2001:2::/48", "for benchmarks"),
    ("2001:db8::/32", "for documentation"),
    ("3fff::/20", "for documentation"),
    ("2001::/23", "reserved"),
    ("fc00::/7", "unique-local"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
    # https://www.iana.org/assignments/ipv6-address-space
    # All but 2000::/3, which is all that is given out to be reached from anywhere.
    ("::/3", "reserved"),
    ("4000::/2", "reserved"),
    ("8000::/1", "reserved"),
)
REFUSED: Mapping[int, tuple[tuple[Network, str], ...]] = {
    4: tuple((IPv4Network(network), why) for network, why in _IPV4),
    6: tuple((IPv6Network(network), why) for network, why in _IPV6),
}


def _low(bits: int) -> int:
    return bits & 0xFFFF_FFFF


# Forms that stand for an IPv4 address, and where in their bits it is.
FORMS: tuple[tuple[IPv6Network, str, Callable[[int], int]], ...] = (
    (IPv6Network("::ffff:0:0/96"), "IPv4-mapped", _low),
    (IPv6Network("::ffff:0:0:0/96"), "IPv4-translated", _low),
    (IPv6Network("::/96"), "IPv4-compatible", _low),
    (IPv6Network("64:ff9b::/96"), "NAT64", _low),
    (IPv6Network("2002::/16"), "6to4", lambda bits: _low(bits >> 80)),
    # https://www.rfc-editor.org/rfc/rfc4380#section-4
    # The client's address is written with all bits turned, so that no NAT on the way mends it.
    (IPv6Network("2001::/32"), "Teredo", lambda bits: _low(~bits)),
)
# These two are none of them, though they lie in ::/96.
PLAIN = frozenset({IPv6Address("::"), IPv6Address("::1")})
# https://www.rfc-editor.org/rfc/rfc5214#section-6.1
# The middle of an address, in any network, whose low 32 bits are an IPv4 address.
ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})

LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
LOCALHOST = "localhost"

# https://www.rfc-editor.org/rfc/rfc3986#section-2
_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?]*)(.*)")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::(.*))?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Underscores are in no host's name by RFC 952, and in those of many containers.
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?")
# https://url.spec.whatwg.org/#ends-in-a-number-checker
# Some programs take a host whose last part is a number for an IPv4 address, in whatever spelling.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a URL leads: `host` in lower case without brackets, `path` with its query, from its slash on.

    `address` is the host when that is no name.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None = None

    @property
    def url(self) -> str:
        """The URL in its one spelling."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def judge(address: Address, allowed: Iterable[Network] = ()) -> str | None:
    """Why an address may not be dialled, in a word or two; None when it may."""
    allowed = tuple(allowed)
    is_allowed = any(address in network for network in allowed)
    form = _form_of(address)
    if form is None:
        return None if is_allowed else _kind_of(address)
    name, embedded = form
    if any(embedded in network for network in allowed):
        return None
    if not is_allowed:
        return name
    why = _kind_of(embedded)
    return None if why is None else f"{name} of {embedded}, {why}"


def _kind_of(address: Address) -> str | None:
    return next((why for network, why in REFUSED[address.version] if address in network), None)


def _form_of(address: Address) -> tuple[str, IPv4Address] | None:
    """The name of the form and the IPv4 address in it, where there is one."""
    if address.version == 4 or address in PLAIN:  # noqa: PLR2004 - IPv4
        return None
    bits = int(address)
    for network, name, embedded in FORMS:
        if address in network:
            return name, IPv4Address(embedded(bits))
    return ("ISATAP", IPv4Address(_low(bits))) if _low(bits >> 32) in ISATAP else None


def read_url(text: str, *, plain_http: bool = False, allowed: Iterable[Network] = ()) -> Target:
    """Where a webhook's URL leads. SettingsError says in one sentence why it may not be one.

    With `plain_http` it may begin with `http://`. An address in it is judged at once, with the networks that are
    `allowed`; a name may still lead to any address.
    """
    allowed = tuple(allowed)
    scheme, authority, path = _split(text)
    if scheme not in PORTS:
        raise SettingsError("The URL does not begin with https://, and nothing else is a webhook's.")
    if scheme == "http" and not plain_http:
        raise SettingsError(
            "The URL begins with http://, which anybody on the way can read: give https://, or allow it by plain_http "
            "in [events]."
        )
    host, port = _split_authority(authority)
    address = _address_of(host)
    if address is None:
        _check_name(host, allowed)
    elif why := judge(address, allowed):
        raise SettingsError(f"The URL leads to {address}, which may not be reached: {why}{_allowing(why)}.")
    return Target(
        scheme=scheme,
        host=host if address is None else str(address),
        port=PORTS[scheme] if port is None else port,
        path=path if path.startswith("/") else f"/{path}",
        address=address,
    )


def _split(text: str) -> tuple[str, str, str]:
    """Scheme, authority, and the rest."""
    if len(text) > URL_CHARACTERS_MAX:
        raise SettingsError(f"The URL is longer than {URL_CHARACTERS_MAX} characters.")
    if not text.isascii():
        raise SettingsError(
            "The URL has characters beyond ASCII: give its host in punycode (xn--…), and percent-encode the rest."
        )
    if not _CHARACTERS.fullmatch(text):
        raise SettingsError("The URL has a blank, a control character or one that none has: percent-encode it.")
    if "#" in text:
        raise SettingsError("The URL has a fragment, which is never sent: leave out # and what follows.")
    if _BAD_ESCAPE.search(text):
        raise SettingsError("The URL has a % that no two hexadecimal digits follow: write it %25.")
    parts = _URL.fullmatch(text)
    if not parts:
        raise SettingsError("The URL is none: it begins with https:// and a host.")
    scheme, authority, path = parts.groups()
    return scheme.lower(), authority, path


def _split_authority(authority: str) -> tuple[str, int | None]:
    """The host, an IPv6 address in its brackets, and the port."""
    if "@" in authority:
        raise SettingsError("The URL has a user's name or a password before its host: leave them out, with the @.")
    if "%" in authority:
        raise SettingsError("The URL's host has a %: give it plainly, without escapes and without a zone.")
    parts = _AUTHORITY.fullmatch(authority)
    if not parts or not parts[1]:
        raise SettingsError("The URL has no host that can be told from a port: write an IPv6 address in [brackets].")
    host, port = parts.groups()
    if port is None:
        return host.lower(), None
    if not _PORT.fullmatch(port) or int(port) > PORT_MAX:
        raise SettingsError(f"The URL's port is none: it is a number from 1 to {PORT_MAX}, without leading zeros.")
    return host.lower(), int(port)


def _address_of(host: str) -> Address | None:
    """The address that a host is; None when it is a name."""
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1])
        except AddressValueError as error:
            raise SettingsError("The URL has in [brackets] what is no IPv6 address.") from error
    if not _NUMBER.fullmatch(host):
        return None
    try:
        return IPv4Address(host)
    except AddressValueError as error:
        raise SettingsError(
            "The URL's host ends in a number and is no IPv4 address in its usual form, four numbers such as 192.0.2.1."
        ) from error


def _check_name(host: str, allowed: tuple[Network, ...]) -> None:
    if host.endswith("."):
        raise SettingsError("The URL's host ends with a dot: leave it out.")
    if len(host) > NAME_CHARACTERS_MAX or not _NAME.fullmatch(host):
        raise SettingsError("The URL's host is no name: letters, digits and hyphens, with dots between parts.")
    if (host == LOCALHOST or host.endswith(f".{LOCALHOST}")) and not _has_loopback(allowed):
        raise SettingsError(f"The URL leads to {LOCALHOST}, which may not be reached: loopback{_allowing('loopback')}.")


def _allowing(why: str) -> str:
    """What to do about an address inside; to follow why it is refused."""
    return ", unless its network is among networks in [events]" if why in INSIDE else ""


def _has_loopback(allowed: tuple[Network, ...]) -> bool:
    return any(one.overlaps(other) for one in allowed for other in LOOPBACK if one.version == other.version)
