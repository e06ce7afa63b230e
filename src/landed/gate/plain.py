"""Plain requests: whole, in one piece, and with nothing unusual in their heads.

Nearly all that Vonage sends is that, and reading it in a few steps costs a fifth of calling a parser
back for each part. `read` takes a subset of what RFC 9112 allows and says None to everything else,
which then goes to the parser: what it takes, the parser takes, too, as the same request.
"""

from __future__ import annotations

import re

import msgspec

from landed.settings import Limits

VERSION = b"HTTP/1.1"
BREAK = b"\r\n"
METHODS = {b"POST": "POST", b"GET": "GET", b"HEAD": "HEAD"}
PRINTABLE = bytes(range(0x20, 0x7F))
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HOST = re.compile(rb"[A-Za-z0-9._~:\[\]%!$&'()*+,;=-]*")
FRAGMENT = ord("#")
LENGTH_DIGITS_MAX = 9
# Headers that change how a request is read, or how its connection goes on.
UNUSUAL = frozenset(
    {b"transfer-encoding", b"te", b"trailer", b"expect", b"upgrade", b"connection", b"proxy-connection", b"keep-alive"}
)
# What a header is to a plain request: one Host, at most one Content-Length, and nothing unusual.
_ANY, _HOST, _LENGTH, _AUTHORIZATION, _NEVER = 0, 1, 1 << 8, 1 << 16, -1
_FRAMES = _AUTHORIZATION - 1
_WITHOUT_BODY, _WITH_BODY = _HOST, _HOST + _LENGTH
# Names and lines that come again and again are looked at once.
KNOWN_NAMES_MAX = 1_024
KNOWN_LINES_MAX = 1_024
KNOWN_LINE_BYTES_MAX = 128

_Header = tuple[bytes, bytes]


class Plain(msgspec.Struct, gc=False):
    """A plain request; `credentials` are those of its only Authorization header, None where there is none."""

    method: str
    path: str
    query: bytes
    headers: tuple[_Header, ...]
    body: bytes
    credentials: bytes | None


class PlainReader:
    """Reads plain requests within the limits; it remembers lines, a bounded number of them."""

    def __init__(self, limits: Limits) -> None:
        # What is shorter than every limit is within all of them. A header counts four bytes beside its name and value.
        header_bytes_max = limits.header_bytes_max - limits.header_count_max
        self._bytes_max = min(limits.url_bytes_max, header_bytes_max, limits.body_bytes_max)
        self._header_count_max = limits.header_count_max
        self._names: dict[bytes, int] = {}
        self._lines: dict[bytes, tuple[_Header, int, int]] = {}
        self._first_lines: dict[bytes, tuple[str, str, bytes]] = {}

    def read(self, data: bytes) -> Plain | None:
        """The request that these bytes are, all of them; None when it is not plain."""
        head, blank, body = data.partition(b"\r\n\r\n")
        first, *lines = head.split(BREAK)
        # Nothing but printable characters and whole line breaks.
        if not blank or len(data) > self._bytes_max or head.translate(None, PRINTABLE) != BREAK * len(lines):
            return None
        asked = self._first_lines.get(first) or self._first_line(first)
        if asked is None or len(lines) > self._header_count_max:
            return None
        known = self._lines
        headers: list[_Header] = []
        credentials = None
        frames = says = 0
        for line in lines:
            read = known.get(line) or self._line(line)
            if read is None:
                return None
            header, weight, length = read
            headers.append(header)
            frames += weight
            says += length
            if weight == _AUTHORIZATION:
                credentials = header[1]
        if frames & _FRAMES not in (_WITHOUT_BODY, _WITH_BODY) or frames >> 17 or says != len(body):
            return None
        return Plain(*asked, tuple(headers), body, credentials)

    def _first_line(self, first: bytes) -> tuple[str, str, bytes] | None:
        method, _, rest = first.partition(b" ")
        target, _, version = rest.partition(b" ")
        if version != VERSION or method not in METHODS or target[:1] != b"/" or FRAGMENT in target:
            return None
        path, _, query = target.partition(b"?")
        asked = (METHODS[method], path.decode(), query)
        if len(first) <= KNOWN_LINE_BYTES_MAX and len(self._first_lines) < KNOWN_LINES_MAX:
            self._first_lines[first] = asked
        return asked

    def _line(self, line: bytes) -> tuple[_Header, int, int] | None:
        """A header, what it frames, and the length that it says; None for what is unusual."""
        name, colon, value = line.partition(b":")
        frames = self._names.get(name)
        if frames is None:
            frames = self._name(name)
        says = 0
        value = value.strip(b" ")
        if not colon or frames == _NEVER or (frames == _HOST and HOST.fullmatch(value) is None):
            return None
        if frames == _LENGTH:
            if not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
                return None
            says = int(value)
        read = ((name, value), frames, says)
        if len(line) <= KNOWN_LINE_BYTES_MAX and len(self._lines) < KNOWN_LINES_MAX:
            self._lines[line] = read
        return read

    def _name(self, name: bytes) -> int:
        lower = name.lower()
        frames = _FRAMING.get(lower, _ANY)
        if lower in UNUSUAL or TOKEN.fullmatch(name) is None:
            frames = _NEVER
        if len(name) <= KNOWN_LINE_BYTES_MAX and len(self._names) < KNOWN_NAMES_MAX:
            self._names[name] = frames
        return frames


_FRAMING = {b"host": _HOST, b"content-length": _LENGTH, b"authorization": _AUTHORIZATION}
