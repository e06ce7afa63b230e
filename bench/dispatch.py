"""How many events a second reach local webhooks, durably noted and signed, beside clients that only post.

Everything shares two cores: the dispatch, the receivers' process, and, in the last row, the fold that finds the events.
The clients beside it post the same bytes over as many connections, read nothing from a disk and write nothing down.

    python bench/dispatch.py [--events 20000] [--rounds 3] [--subscribers 1 4]

The data lie in the system's directory for temporary files, or in BENCH_DIRECTORY: it should be on a real disk.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_network
from multiprocessing import Pipe, Process, Value
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import httptools
import httpx
import uvloop
from fold import records

from landed import run
from landed.journal.sqlite import SqliteJournal
from landed.settings import EventSettings, Settings
from landed.store.outbox import DeliveryState, Kind, SecretKept, Sought, Subscriber
from landed.store.sqlite import SqliteStore
from landed.store.sqlite_outbox import SqliteOutbox
from landed.work import Work
from landed.worker.dispatch import letter_of
from landed.worker.fold import Fold
from landed.worker.webhook import new_secret

HOST = "127.0.0.1"
SECONDS_MAX = 120.0
# Of the messages that `records` makes so many are on their way at the end.
NOT_DELIVERED = 20
EVENTS = EventSettings(networks=(ip_network("127.0.0.0/8"),), plain_http=True)


class Receiver(asyncio.Protocol):
    """Answers 204 to each request, and counts them."""

    def __init__(self, count: Any) -> None:  # noqa: ANN401 - multiprocessing's
        self._count = count
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Asyncio's."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """The parser's: a request is whole."""
        with self._count.get_lock():
            self._count.value += 1
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # type: ignore[attr-defined]


def receive(told: Connection, count: Any) -> None:  # noqa: ANN401 - multiprocessing's
    """The receivers' process."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Receiver(count), HOST, 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


@contextmanager
def receiving() -> Iterator[tuple[int, Any]]:
    """A receiver's port, and how many requests it has had."""
    here, there = Pipe()
    count = Value("l", 0)
    process = Process(target=receive, args=(there, count), daemon=True)
    process.start()
    try:
        yield here.recv(), count
    finally:
        process.terminate()
        process.join()


def filled(directory: Path, events: int, subscribers: int, port: int, *, folds: bool) -> Path:
    """A data directory with so many events, found or yet to be found, and who wants them."""
    data = directory / str(uuid.uuid4())
    run.prepare(data)
    with closing(SqliteJournal(run.journal_path(data))) as journal, closing(SqliteStore(run.store_path(data))) as store:
        with closing(SqliteOutbox(run.store_path(data))) as outbox:
            for number in range(subscribers):
                secrets = (SecretKept(new_secret()),)
                url = f"http://{HOST}:{port}/{number}"
                outbox.add(Subscriber(name=f"s{number}", kind=Kind.WEBHOOK, address=url, secrets=secrets))
        rows = records(2 * (events // subscribers + NOT_DELIVERED))
        for start in range(0, len(rows), 1_000):
            journal.append(rows[start : start + 1_000])
        fold = Fold(journal, store)
        while folds and fold.step():
            pass
    return data


def dispatched(data: Path, count: Any, wanted: int) -> float:  # noqa: ANN401 - multiprocessing's
    """Events a second that a worker brings, from its start until each is noted as delivered."""

    async def work() -> float:
        errors: list[BaseException] = []
        began = time.perf_counter()
        working = Work(Settings(data=data, events=EVENTS), None, errors.append)
        working.start()
        with closing(SqliteOutbox(run.store_path(data), only_read=True)) as outbox:
            deadline = began + SECONDS_MAX
            while count.value < wanted or outbox.deliveries(Sought(states=(DeliveryState.TAKEN,)), limit=1):
                await asyncio.sleep(0.01)
                if errors or time.perf_counter() > deadline:
                    raise SystemExit(f"It did not come to an end: {errors or count.value}")
        seconds = time.perf_counter() - began
        await working.stop()
        return wanted / seconds

    return uvloop.run(work())


def posted(client: str, port: int, bodies: list[bytes]) -> float:
    """Posts a second of the same bodies by a client that only posts."""
    url, headers = f"http://{HOST}:{port}/", {"content-type": "application/json", "webhook-id": "x" * 36}

    async def all_of(post: Callable[[bytes], Awaitable[object]]) -> float:
        left = iter(bodies)

        async def lane() -> None:
            for body in left:
                await post(body)

        began = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(EVENTS.concurrency)))
        return len(bodies) / (time.perf_counter() - began)

    async def by_aiohttp() -> float:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

            async def post(body: bytes) -> None:
                async with session.post(url, data=body, headers=headers) as response:
                    await response.read()

            return await all_of(post)

    async def by_httpx() -> float:
        async with httpx.AsyncClient() as session:
            return await all_of(lambda body: session.post(url, content=body, headers=headers))

    return uvloop.run(by_httpx() if client == "httpx" else by_aiohttp())


def bodies_of(data: Path, count: int) -> list[bytes]:
    """The bytes of so many events."""
    with closing(SqliteOutbox(run.store_path(data))) as outbox:
        letters = [letter_of(kept) for kept in outbox.events(range(1, count + 1))]
    return [letter.body for letter in letters if letter is not None]


def measure(directory: Path, events: int, subscribers: list[int]) -> dict[str, float]:
    """One round."""
    rates: dict[str, float] = {}
    with receiving() as (port, count):
        bodies = bodies_of(filled(directory, min(events, 2_000), 1, port, folds=True), 2_000)
        rates["httpx, which only posts"] = posted("httpx", port, bodies)
        rates["aiohttp, which only posts"] = posted("aiohttp", port, bodies * (events // len(bodies)))
        for several in subscribers:
            for folds in (True, False):
                data = filled(directory, events, several, port, folds=folds)
                count.value = 0
                name = f"landed, {several} webhook{'s' if several > 1 else ''}"
                rates[name + ("" if folds else ", folding meanwhile")] = dispatched(data, count, events)
    return rates


def main() -> None:
    """Measure in rounds and print the medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--subscribers", type=int, nargs="+", default=[1, 4])
    chosen = options.parse_args()
    assert threading.active_count() == 1, "processes are forked"  # noqa: S101 - a mistake of ours
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as directory:
        rounds = [measure(Path(directory), chosen.events, chosen.subscribers) for _ in range(chosen.rounds)]
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    bare = medians["aiohttp, which only posts"]
    print(f"{chosen.events:,} events, medians of {chosen.rounds} rounds")
    print(f"{'':<38}{'events/s':>10}{'of aiohttp':>12}")
    for name, rate in medians.items():
        print(f"{name:<38}{rate:>10,.0f}{rate / bare:>12.3f}")


if __name__ == "__main__":
    main()
