"""How many calls a second the simulator makes on one core, beside httpx, to a receiver that does nothing.

python bench/calls.py [CALLS]
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from statistics import median

import httpx
import uvloop

from landed.simulator.account import Settings
from landed.simulator.load import Load
from landed.simulator.scenario import Scenario
from landed.simulator.server import simulator_of
from landed.simulator.wire import Client

CALLS = 20_000
LANES = 32
ROUNDS = 3
RATE = 10_000
BODY = b'{"message_uuid":"aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab","status":"delivered","channel":"sms"}'
HEADERS = ((b"content-type", b"application/json"), (b"authorization", b"Bearer " + b"x" * 500))


class Nothing(asyncio.Protocol):
    """Answers 204 to each request, whose head and body come together."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Asyncio's."""
        count = data.count(b" HTTP/1.1\r\n")
        self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n" * count)  # type: ignore[attr-defined]


def receive(told: Connection) -> None:
    """The receiver's process."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Nothing, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


async def rate_of(call: Callable[[], Awaitable[object]], calls: int) -> tuple[float, float]:
    """Calls a second, and microseconds of this process for one, with so many under way at once."""
    left = calls

    async def lane() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane() for _ in range(LANES)))
    return calls / (time.perf_counter() - began), (time.process_time() - cpu) / calls * 1e6


async def measure(port: int, calls: int) -> None:
    """Alternate the two clients, then drive at a rate."""
    url = f"http://127.0.0.1:{port}/webhooks/message-status"
    ours, figures = Client(), {"simulator": [], "httpx": []}  # type: ignore[var-annotated]
    async with httpx.AsyncClient() as theirs:
        for _ in range(ROUNDS):
            figures["simulator"].append(await rate_of(lambda: ours.call("POST", url, b"", HEADERS, BODY), calls))
            figures["httpx"].append(
                await rate_of(lambda: theirs.post(url, content=BODY, headers=list(HEADERS)), calls // 20)
            )
    print(f"{calls:,} calls, {LANES} at once, medians of {ROUNDS} alternating rounds")
    usual = median(rate for rate, _ in figures["httpx"])
    for name, rounds in figures.items():
        rate, cpu = median(rate for rate, _ in rounds), median(cpu for _, cpu in rounds)
        print(f"  {name:<12}{rate:>10,.0f} calls/s   {cpu:>7.0f} µs of a core each   {rate / usual:>5.1f} of httpx")
    scenario = Scenario(status_url=url, receipt_url=url, settings=Settings(webhook_format=None))
    simulator = simulator_of(scenario, ours, "")
    cpu = time.process_time()
    report = await Load(simulator, RATE).drive(5, 5, lambda _: None)
    cpu = (time.process_time() - cpu) / report.asked * 1e6
    rate = report.asked / report.seconds
    print(f"planned, signed and called at {RATE:,} a second: {rate:,.0f} receipts/s, {cpu:.0f} µs of a core each")
    await simulator.clock.stop()
    ours.close()


def main() -> None:
    """Measure."""
    told, tells = Pipe()
    receiver = Process(target=receive, args=(tells,), daemon=True)
    receiver.start()
    try:
        uvloop.run(measure(told.recv(), int(sys.argv[1]) if len(sys.argv) > 1 else CALLS))
    finally:
        receiver.terminate()


if __name__ == "__main__":
    main()
