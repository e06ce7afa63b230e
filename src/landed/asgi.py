"""HTTP servers inside a process that has more to do than serve."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import uvicorn

from landed.errors import SurroundingsError

# As often as uvicorn itself looks.
TICK_SECONDS = 0.1


def at_once(listening: socket.socket) -> None:
    """Let what is written to a socket's connections leave at once.

    uvicorn writes an answer in two pieces. asyncio sees to it only where it can tell that a socket is TCP; the second
    piece waited 40 ms for the other end (measured).
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Unsignalled(uvicorn.Server):
    """uvicorn without its own signal handlers: whoever runs it stops its parts in their own order, and at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()
        self._leaves = asyncio.Event()

    def leave(self) -> None:
        """End, without waiting for uvicorn's next look at whether it should."""
        self.should_exit = True
        self._leaves.set()

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

    async def main_loop(self) -> None:
        """Do what uvicorn does from time to time, until it is told to leave."""
        ticks = count()
        while not await self.on_tick(next(ticks)):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaves.wait(), TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, but cut connections on which nothing is asked: with TLS those wait for their end.

        Where none is left then, there is nothing to wait for.
        """
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is None or cycle.response_complete:
                connection.transport.abort()
        # Who was cut is told in the next round of the loop.
        await asyncio.sleep(0)
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for listening in sockets or []:
            listening.close()
        await self.lifespan.shutdown()
