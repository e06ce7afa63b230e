"""A server in Python that does nothing at all: it answers what comes, unread. No server in Python can be faster."""

import asyncio
import os

import uvloop

ANSWER = b"HTTP/1.1 204 No Content\r\nDate: Sat, 01 Aug 2026 12:00:00 GMT\r\n\r\n"


class Nothing(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to answer by."""
        self.transport = transport  # type: ignore[assignment] # a stream's transport

    def data_received(self, _data: bytes) -> None:
        """Answer."""
        self.transport.write(ANSWER)


async def serve() -> None:
    """Serve on PORT."""
    server = await asyncio.get_running_loop().create_server(Nothing, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()


uvloop.run(serve())
