"""What a gate says while its files cannot be opened: 503 to everything, so that it is sent again.

Vonage tries again for certain only when it is told to, and a gate that is away tells nothing.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate

from landed.gate.answers import RETRY_AFTER_SECONDS

STAY_SECONDS_MAX = 2.0


class ClosedDoor(asyncio.Protocol):
    """One client, whatever it asks for; nothing of it is kept or even read."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._leave: asyncio.TimerHandle | None = None
        self._is_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected; it does not stay for long."""
        self._transport = transport  # type: ignore[assignment] # a stream's transport, by how the server was made
        self._leave = asyncio.get_running_loop().call_later(STAY_SECONDS_MAX, self._transport.abort)  # type: ignore[union-attr] # the line above

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone."""
        if self._leave is not None:
            self._leave.cancel()

    def data_received(self, _data: bytes) -> None:
        """It asks: answer at once, and let it read that while it sends the rest."""
        if self._is_answered or self._transport is None:
            return
        self._is_answered = True
        self._transport.write(_answer())
        self._transport.write_eof()


def _answer() -> bytes:
    lines = [
        "HTTP/1.1 503 Service Unavailable",
        f"Date: {formatdate(usegmt=True)}",
        "Content-Length: 0",
        f"Retry-After: {RETRY_AFTER_SECONDS}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
