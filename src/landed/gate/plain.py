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
# Heads that differ in nothing but the token or the query come again and again, too.
KNOWN_SHAPES_MAX = 1_024
KNOWN_SHAPE_BYTES_MAX = 1_024
BLANK_LINE = BREAK + BREAK
BEARER_LINE = BREAK + b"Authorization: Bearer "
_BREAK_BYTES, _BLANK_LINE_BYTES, _BEARER_LINE_BYTES = len(BREAK), len(BLANK_LINE), len(BEARER_LINE)
VISIBLE = bytes(code for code in range(0x21, 0x7F) if code != FRAGMENT)

_Header = tuple[bytes, bytes]
# A head without its token or query: method, path, query, the headers before the token and those behind it, the length
# of the body, and credentials that do not vary. The query or the credentials are None where they vary.
_Shape = tuple[str, str, bytes | None, tuple[_Header, ...], tuple[_Header, ...], int, bytes | None]


class Plain(msgspec.Struct, gc=False):
    """A plain request; `credentials` are those of its only Authorization header, None where there is none."""

    method: str
    path: str
    query: bytes
    headers: tuple[_Header, ...]
    body: bytes
    credentials: bytes | None


class PlainReader:
    """Reads plain requests within the limits; it remembers lines and heads, a bounded number of them."""

    def __init__(self, limits: Limits) -> None:
        # What is shorter than every limit is within all of them. A header counts four bytes beside its name and value.
        header_bytes_max = limits.header_bytes_max - limits.header_count_max
        self.bytes_max = min(limits.url_bytes_max, header_bytes_max, limits.body_bytes_max)
        self._header_count_max = limits.header_count_max
        self._names: dict[bytes, int] = {}
        self._lines: dict[bytes, tuple[_Header, int, int]] = {}
        self._first_lines: dict[bytes, tuple[str, str, bytes]] = {}
        self._shapes: dict[bytes, _Shape] = {}

    def read(self, data: bytes) -> Plain | None:
        """The request that these bytes are, all of them; None when it is not plain."""
        # One character is found far sooner than several (measured), and the blank line is behind what varies. Where it
        # is not, the key has another one before that, and is the key of no head that was read.
        line = data.find(BEARER_LINE)
        if line >= 0:
            # The line is cut out, and the blank line that is left says where.
            start = line + _BREAK_BYTES
            end = data.find(b"\r", line + _BEARER_LINE_BYTES)
            varies = data[line + _BEARER_LINE_BYTES : end]
        else:
            start = data.find(b"?") + 1
            end = data.find(b" ", start)
            varies = data[start:end]
        blank = data.find(BLANK_LINE, end)
        key = data[:start] + data[end:blank]
        shape = self._shapes.get(key)
        if shape is None or blank < 0 or end < 0 or not varies or varies.translate(None, VISIBLE):
            return self._read_whole(data, key, varies, line)
        body = data[blank + _BLANK_LINE_BYTES :]
        method, path, query, before, behind, says, credentials = shape
        if says != len(body) or len(data) > self.bytes_max:
            return None
        if query is None:
            return Plain(method, path, varies, before, body, credentials)
        credentials = b"Bearer " + varies
        return Plain(method, path, query, (*before, (b"Authorization", credentials), *behind), body, credentials)

    def _read_whole(self, data: bytes, key: bytes, varies: bytes, line: int) -> Plain | None:
        """The same of a head that is not known, which is remembered by its key; `line` is where its token is."""
        head, blank, body = data.partition(BLANK_LINE)
        if not blank or len(data) > self.bytes_max:
            return None
        plain = self._read(head, body)
        if plain is not None and len(key) <= KNOWN_SHAPE_BYTES_MAX and line < len(head):
            self._remember(key, plain, varies, is_token=line >= 0)
        return plain

    def _remember(self, key: bytes, plain: Plain, varies: bytes, *, is_token: bool) -> None:
        """Remember a head that was read, but for what varies in it."""
        headers, credentials = plain.headers, plain.credentials
        shape: _Shape
        if is_token and credentials is not None:
            at = headers.index((b"Authorization", credentials))
            shape = (plain.method, plain.path, plain.query, headers[:at], headers[at + 1 :], len(plain.body), None)
        elif not is_token and varies and varies == plain.query:
            shape = (plain.method, plain.path, None, headers, (), len(plain.body), credentials)
        else:
            return
        if len(self._shapes) >= KNOWN_SHAPES_MAX:
            # Whoever sends others on purpose does not keep the usual ones out for long.
            self._shapes.clear()
        self._shapes[key] = shape

    def _read(self, head: bytes, body: bytes) -> Plain | None:
        """The same, line by line."""
        first, *lines = head.split(BREAK)
        # Nothing but printable characters and whole line breaks.
        if head.translate(None, PRINTABLE) != BREAK * len(lines):
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
