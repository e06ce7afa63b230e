"""How a text becomes SMS: which alphabet it needs, and into how many segments it goes.

GSM 03.38, the usual alphabet, has septets; its extension characters take two of them. A text with any other character
goes as UCS-2, in units of 16 bits. A text of several segments loses room in each to the header that joins them.
https://www.etsi.org/deliver/etsi_ts/123000_123099/123038/ (alphabet) and 123040 (segments)
https://developer.vonage.com/en/messaging/sms/guides/concatenation-and-encoding
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

# In the order of their codes; the escape, 0x1B, is no character.
GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION = "\f^{}\\[~]|€"
_BASIC, _EXTENSION = frozenset(GSM_BASIC), frozenset(GSM_EXTENSION)


class Encoding(StrEnum):
    """The alphabet of an SMS."""

    GSM = "text"
    UCS2 = "unicode"


class Room(msgspec.Struct, frozen=True):
    """How many units one segment has: alone, and as one of several."""

    single: int
    joined: int


ROOMS = {Encoding.GSM: Room(160, 153), Encoding.UCS2: Room(70, 67)}


def encoding_of(text: str) -> Encoding:
    """The alphabet that a text needs."""
    return Encoding.GSM if all(character in _BASIC or character in _EXTENSION for character in text) else Encoding.UCS2


def units_of(character: str, encoding: Encoding) -> int:
    """How many units a character takes: septets, or 16-bit units."""
    if encoding is Encoding.GSM:
        return 2 if character in _EXTENSION else 1
    return 2 if ord(character) > 0xFFFF else 1  # noqa: PLR2004 - beyond the basic plane


def segments_of(text: str, encoding: Encoding | None = None) -> list[str]:
    """A text in segments, none of which ends within a character; an empty text is one empty segment."""
    encoding = encoding or encoding_of(text)
    room = ROOMS[encoding]
    if sum(units_of(character, encoding) for character in text) <= room.single:
        return [text]
    return ["".join(segment) for segment in _filled(text, encoding, room.joined)]


def _filled(text: Iterable[str], encoding: Encoding, room: int) -> Iterator[list[str]]:
    segment: list[str] = []
    used = 0
    for character in text:
        units = units_of(character, encoding)
        if used + units > room:
            yield segment
            segment, used = [], 0
        segment.append(character)
        used += units
    yield segment
