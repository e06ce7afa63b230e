"""What passes between the worker and the process of its own that the handlers run in.

A frame is the length of what follows, four bytes, most significant first, and then that: one message as msgpack. The
worker asks, and numbers what it asks; the handlers' process answers under that number.
"""

from __future__ import annotations

import asyncio

import msgspec

from landed.domain.events import Wanted
from landed.worker.calls import Called

LENGTH_BYTES = 4
FRAME_BYTES_MAX = 16 * 1024 * 1024


class Call(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Call a handler. `body` is the event's JSON, the rest what a letter says beside it."""

    number: int
    handler: str
    body: bytes
    attempt: int
    is_replay: bool
    is_sample: bool


class GiveUp(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for that call any more."""

    number: int


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Answer, if there is anybody."""

    number: int


Question = Call | GiveUp | Ping


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The first word of a process: the names of its handlers, and what each wants."""

    handlers: tuple[tuple[str, Wanted], ...]


class Unloaded(msgspec.Struct, frozen=True, tag=True):
    """The first and last word of a process that has no handlers, and why."""

    sentence: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """What came of a call, or that a ping came."""

    number: int
    called: Called


Reply = Loaded | Unloaded | Done

_encoder = msgspec.msgpack.Encoder()
decode_question = msgspec.msgpack.Decoder(Question).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def frame(message: Question | Reply) -> bytes:
    """A message as it crosses."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES) + body


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next message. EOFError when none comes any more, or none that could be one of ours."""
    try:
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
        if length > FRAME_BYTES_MAX:
            raise EOFError
        return await reader.readexactly(length)
    except OSError as error:
        raise EOFError from error
