"""Somebody who gets events by HTTP, a carrier to go there, and what came of it, on real sockets of this machine.

127.0.0.1 is allowed here, and plays the Internet; 127.0.0.2, which is not, plays what is inside.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
import uvloop

from landed.domain.events import Event, EventType, QuarantineData, encode_event
from landed.settings import EventSettings
from landed.worker.letters import Letter
from landed.worker.webhook import Webhook, new_secret

SECONDS_MAX = 20
NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
OUTSIDE, INSIDE = ip_address("127.0.0.1"), ip_address("127.0.0.2")
SECRET, OLD_SECRET = new_secret(), new_secret()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# What a server does in place of an answer.
CLOSE, RESET, NEVER = "close", "reset", "never"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def letter(number=1, **more):
    event = Event(
        id=f"evt_{number:032x}",
        type=EventType.QUARANTINE,
        timestamp=NOON,
        data=QuarantineData(held=1, came=1, reasons={"wrong": number}),
    )
    usual = {"id": event.id, "type": event.type, "at": NOON, "attempt": 1, "event": event, "body": encode_event(event)}
    return Letter(**(usual | more))


class Request:
    def __init__(self, head, body):
        self.line, *lines = head.decode().split("\r\n")[:-2]
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.body = body


class Server:
    """Answers the requests that come with each of these in turn, the last for ever.

    Each is bytes, one of the words above, or a coroutine function that is given the writer.
    """

    def __init__(self, answers):
        self.answers = list(answers)
        self.connections = 0
        self.requests = []
        self.heard, self.ended = asyncio.Event(), asyncio.Event()
        self.writer = None
        self.url = ""
        self.port = 0

    async def serve(self, reader, writer):
        self.connections += 1
        self.writer = writer
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request = Request(head, b"")
                request.body = await reader.readexactly(int(request.headers["content-length"]))
                self.requests.append(request)
                self.heard.set()
                await self.answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.ended.set()

    async def answer(self, writer):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == NEVER:
            return
        if answer == RESET:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if answer in (CLOSE, RESET):
            raise ConnectionAbortedError
        if callable(answer):
            await answer(writer)
        else:
            writer.write(answer)
            await writer.drain()

    def now(self, *, say=b"", end=False):
        """Say or end something on the newest connection at once, before any loop has a turn."""
        with closing(socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno()))) as connection:
            if say:
                connection.send(say)
            if end:
                connection.shutdown(socket.SHUT_RDWR)


@asynccontextmanager
async def serving(*answers, host="127.0.0.1", port=0, tls=None):
    server = Server(answers or (OK,))
    listening = await asyncio.start_server(server.serve, host, port, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://{host}:{server.port}/hook?a=1"
    try:
        yield server
    finally:
        listening.close()


async def public(_host, _port):
    return [OUTSIDE]


@asynccontextmanager
async def carrying(*, resolver=public, tls=None, now=None, connections_max=None, **given_settings):
    usual = {"networks": ["127.0.0.1/32"], "plain_http": True}
    clock = {"now": now} if now else {}
    events = EventSettings(**(usual | given_settings))
    webhook = Webhook(events, resolver=resolver, tls=tls, connections_max=connections_max, **clock)
    try:
        yield webhook
    finally:
        await webhook.close()


@asynccontextmanager
async def meeting(*answers, **given_settings):
    """A server, and a carrier to go to it."""
    async with serving(*answers) as server, carrying(**given_settings) as webhook:
        yield server, webhook


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine in a loop of its own, of both kinds: the worker's is uvloop's."""

    def running(coroutine):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(asyncio.wait_for(coroutine, SECONDS_MAX))

    return running


def carried(run, *answers, **given_settings):
    """What came of one letter to a server that answers so, and the server."""

    async def going():
        async with meeting(*answers, **given_settings) as (server, webhook):
            return await webhook.carry(server.url, [SECRET], [letter()]), server

    return run(going())


def status(code, *headers, body=b""):
    lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
