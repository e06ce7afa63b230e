"""One HTTP request and the parameters in it. Total: any bytes give fields or None, never an error.

Content decides, not the declared type: a body that reads as JSON is JSON, whatever it is called,
since receipts sent as JSON and read as an empty form were lost by others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from urllib.parse import unquote_to_bytes

import msgspec

FIELDS_MAX = 512
BRACKETS_MAX = 256
INTEGER_DIGITS_MAX = 18
DECIMAL_DIGITS_MAX = 40
BLANKS = b" \t\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# As numbers: looking for bytes in bytes tries to make a number of them first, at ten times the cost (measured).
PERCENT, PLUS, BACKSLASH = b"%+\\"

Pairs = list[tuple[bytes, bytes]]

# Floats stay exact as Decimal; a number that even Decimal refuses goes the slow way.
_json = msgspec.json.Decoder(float_hook=Decimal)
_string = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# A long run of digits is found in what is left when all digits are made equal, at a fifth of a pattern's cost.
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER = b"0" * (INTEGER_DIGITS_MAX + 1)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What came over HTTP, undecoded: `query` is the raw query string without its question mark."""

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    @property
    def is_probe(self) -> bool:
        """Whether there are no parameters and no body: how Vonage tries a URL before saving it."""
        return not self.query and not self.body.strip(BLANKS)

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        for key, value in self.headers:
            if len(key) == len(name) and key.lower() == name:
                return value
        return None


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded body: JSON objects and their JSON, or the pairs of a form, or neither when nothing fits."""

    objects: tuple[dict[str, object], ...] = ()
    json: bytes = b""
    pairs: tuple[tuple[bytes, bytes], ...] = ()


def read_body(body: bytes) -> Body:
    """The JSON objects in a body, or else its form pairs."""
    text = body.removeprefix(BYTE_ORDER_MARK).strip(BLANKS)
    if not text:
        return Body()
    if text[:1] in b"{[":
        return _json_body(text)
    pairs = read_pairs(text)
    if len(pairs) == 1 and pairs[0][0][:1] == b"{":
        # JSON whose sender encoded it as the only name of a form.
        name, value = pairs[0]
        decoded = _json_body(name + (b"=" + value if value else b""))
        if decoded.objects:
            return decoded
    return Body(pairs=tuple(pairs))


def read_pairs(encoded: bytes) -> Pairs:
    """The decoded pairs of a query string or form, in order, repeats kept; none when absurdly many."""
    if encoded.count(b"&") >= FIELDS_MAX:
        return []
    pairs: Pairs = []
    for field in encoded.split(b"&"):
        name, _, value = field.partition(b"=")
        if PERCENT in field or PLUS in field:
            pairs.append((_unquote(name), _unquote(value)))
        elif field:
            pairs.append((name, value))
    return pairs


def as_fields(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, object]:
    """Pairs as text; of a repeated name the first stands, as in Vonage's own Java SDK."""
    fields: dict[str, object] = {}
    for name, value in pairs:
        fields.setdefault(name.decode(errors="replace"), value.decode(errors="replace"))
    return fields


def text_of(value: object) -> str | None:
    """A field's text: text and numbers as they are; anything else, or blank, is as if absent.

    A NUL, which not every database can keep, becomes the replacement character.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return value.replace("\0", "\ufffd") if value and not value.isspace() else None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    if isinstance(value, int):
        return str(value)
    return format(value, "f") if value.is_finite() and abs(value.adjusted()) < DECIMAL_DIGITS_MAX else None


def object_of(value: object) -> Mapping[str, object]:
    """A nested object, or an empty one when it is something else."""
    return value if isinstance(value, dict) else {}


def _unquote(encoded: bytes) -> bytes:
    return unquote_to_bytes(encoded.replace(b"+", b" "))


def _json_body(text: bytes) -> Body:
    # Python's own limit on nesting depends on who calls, so one body could be read today and not
    # tomorrow. This limit is the same for everybody; brackets in text do not count.
    if _brackets(text) > BRACKETS_MAX and _brackets(_string.sub(b"", text)) > BRACKETS_MAX:
        return Body()
    value = _json_value(text)
    values = value if isinstance(value, list) else [value]
    objects = tuple(each for each in values if isinstance(each, dict))
    return Body(objects=objects, json=text) if objects else Body()


def _brackets(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


def _json_value(text: bytes) -> object:
    # An integer beyond 64 bits can be decoded, at a quadratic cost, but no longer encoded.
    if _LONG_INTEGER not in text.translate(_DIGITS_ALIKE):
        try:
            return _json.decode(text)
        except (msgspec.MsgspecError, UnicodeError, InvalidOperation, RecursionError):
            pass
    return _json_leniently(text)


def _json_leniently(text: bytes) -> object:
    """JSON with a bad byte, a lone surrogate or an impossible number: only that value is lost."""
    try:
        value = json.loads(text.decode(errors="replace"), parse_float=_decimal, parse_int=_integer, strict=False)
        return _without_surrogates(value)
    except (ValueError, RecursionError):
        return None


def _decimal(literal: str) -> object:
    try:
        return Decimal(literal)
    except InvalidOperation:
        return literal


def _integer(literal: str) -> object:
    return int(literal) if len(literal) <= INTEGER_DIGITS_MAX else literal


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {str(_without_surrogates(name)): _without_surrogates(each) for name, each in value.items()}
    return value
