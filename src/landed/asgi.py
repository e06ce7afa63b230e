"""HTTP servers inside a process that has more to do than serve."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from landed.errors import SurroundingsError


def at_once(listening: socket.socket) -> None:
    """Let what is written to a socket's connections leave at once.

    uvicorn writes an answer in two pieces. asyncio sees to it only where it can tell that a socket is TCP; the second
    piece waited 40 ms for the other end (measured).
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Unsignalled(uvicorn.Server):
    """uvicorn without its own signal handlers: whoever runs it stops its parts in their own order."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, and say when that is done. SurroundingsError when the application will not."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise SurroundingsError("The application did not start; uvicorn's log says why.") from error
        self.is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, but cut connections on which nothing is asked: with TLS those wait for their end."""
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is None or cycle.response_complete:
                connection.transport.abort()
        await super().shutdown(sockets)
