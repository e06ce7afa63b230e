"""The records of the journal, by kind. Each has the id that its writer gave it and its append time.

Records are msgpack arrays: a later version may add fields at the end, with defaults, and never
takes one away.
"""

from __future__ import annotations

import os
from itertools import count

import msgspec

REQUEST = "request"


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=REQUEST):
    """One HTTP request that the gate kept, as it came, with the gate's verdict and its answer.

    Times are microseconds since 1970. `received_us` differs from `at_us` only when a person or a
    mended secret let the request in later; `accepted_by` is that person.
    """

    id: bytes
    at_us: int
    received_us: int
    account: str
    api_key: str | None
    coverage: str
    verified: bool
    stale: bool
    answer: int
    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    peer: str = ""
    accepted_by: str = ""


class KeptRequest(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False, tag="request"):
    """A `RequestRecord` read back for its meaning: its headers stay encoded, since no fact comes from them."""

    id: bytes
    at_us: int
    received_us: int
    account: str
    api_key: str | None
    coverage: str
    verified: bool
    stale: bool
    answer: int
    method: str
    path: str
    query: bytes
    headers: msgspec.Raw
    body: bytes
    peer: str = ""
    accepted_by: str = ""


class IntentRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="intent"):
    """A send that is about to leave, kept before it does, so that no crash can hide it.

    `client_ref` goes out with it, and comes back in its receipts. `batch` and `number` say of which list it is.
    """

    id: bytes
    at_us: int
    account: str
    api: str
    channel: str
    to: str
    sender: str
    client_ref: str
    batch: str = ""
    number: int = 0


class NotSentRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="not-sent"):
    """What became of an intent that has no message ids: Vonage refused it, or nobody knows whether it took it.

    `reason` is a reason's slug, or empty; `detail` one sentence.
    """

    id: bytes
    at_us: int
    account: str
    intent: bytes
    unclear: bool
    reason: str
    detail: str


class SentRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="sent"):
    """The sending side's own word that it sent a message; it may come before or after receipts.

    Of a long text that went out in parts, each is a message: `part` of `parts`, in the group of the first one's id.
    `intent` is the record of it that was kept before, where landed itself sent it.
    """

    id: bytes
    at_us: int
    account: str
    message_id: str
    api: str
    channel: str
    to: str | None
    sender: str | None
    client_ref: str | None
    sent_us: int
    group: str = ""
    part: int = 0
    parts: int = 0
    intent: bytes = b""


class CheckRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="check"):
    """A receipt of our own making came, by which somebody tries the way to us; it is no message, and not counted.

    `check_id` is its message id, `peer` the address that it came from.
    """

    id: bytes
    at_us: int
    check_id: str
    verified: bool
    stale: bool
    method: str
    path: str
    peer: str


class TickRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="tick"):
    """A gate that is able to commit says so; gaps between ticks are our own outage."""

    id: bytes
    at_us: int


# The tag as it stands at the beginning of a request's bytes, behind the array's own length.
REQUEST_TAG = msgspec.msgpack.encode(REQUEST)
REQUEST_TAG_WITHIN_BYTES = 16

Record = RequestRecord | IntentRecord | NotSentRecord | SentRecord | CheckRecord | TickRecord
Told = KeptRequest | IntentRecord | NotSentRecord | SentRecord | CheckRecord | TickRecord

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_told: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)

encode = _encoder.encode


def decode(data: bytes) -> Record:
    """A record from its bytes; raises msgspec.MsgspecError for bytes that are none."""
    return _decoder.decode(data)


# A record from its bytes, a request without decoding its headers; raises as `decode` does.
decode_told = _told.decode


class Ids:
    """Record ids: random for the process, counted within it; 16 bytes."""

    def __init__(self) -> None:
        self._process = os.urandom(10)
        self._count = count()

    def next(self) -> bytes:
        """An id that nobody else gives."""
        return self._process + next(self._count).to_bytes(6, "big")
