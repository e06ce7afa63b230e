"""What blocks, in threads of our own: so many at most, each a daemon, so that no exit waits for one that hangs.

An executor's are waited for when the process ends, and a loop's own look-ups are no better: under uvloop they share
libuv's four threads, and to give up waiting for a look-up gives none of them back. So a name whose server never answers
would take one with each further try, until no name at all is looked up.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from threading import Thread
from typing import TypeVar

from landed.worker.reach import Address

# Each is one name whose server does not answer; what is well takes milliseconds.
LOOK_UPS_MAX = 64

Made = TypeVar("Made")


class Crowded(Exception):
    """No thread was free: nothing was done. Its text is for a person."""


class Threads:
    """So many threads at most, called `name`; who comes when all are busy waits its turn. It belongs to one loop."""

    def __init__(self, name: str, count_max: int) -> None:
        self._name = name
        self._count_max = count_max
        self._places = asyncio.Semaphore(count_max)

    async def start(self, work: Callable[[], Made], place_seconds_max: float) -> Future[Made]:
        """Work that is under way, and that nobody can cancel; Crowded when no thread was free within that time."""
        try:
            async with asyncio.timeout(place_seconds_max):
                await self._places.acquire()
        except TimeoutError as error:
            raise Crowded(self._said(f"none was free within {place_seconds_max:g} s")) from error
        future: Future[Made] = Future()
        future.set_running_or_notify_cancel()
        future.add_done_callback(partial(_tell, asyncio.get_running_loop(), self._places.release))
        try:
            Thread(target=_run, args=(work, future), name=self._name, daemon=True).start()
        except RuntimeError as error:
            self._places.release()
            raise Crowded(self._said("the system gave no other")) from error
        return future

    def _said(self, what: str) -> str:
        return f"not tried: of {self._count_max} threads for {self._name} {what}"


class LookUps:
    """This machine's resolver, which is asked for one host and port once at a time, however many want to know.

    Whoever asks for what is being asked waits with the first; each within its own limit. It belongs to one loop.
    """

    def __init__(
        self,
        place_seconds_max: float,
        *,
        resolve: Callable[[str, int], Sequence[Address]] | None = None,
        count_max: int = LOOK_UPS_MAX,
    ) -> None:
        self._place_seconds_max = place_seconds_max
        self._resolve = resolve or _resolve
        self._threads = Threads("look-ups", count_max)
        self._under_way: dict[tuple[str, int], asyncio.Task[Sequence[Address]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """All addresses. Raises OSError where there is none, and Crowded when no thread was free in time."""
        key = host, port
        asking = self._under_way.get(key)
        if asking is None:
            asking = self._under_way[key] = asyncio.create_task(self._ask(host, port))
            asking.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(asking)

    async def _ask(self, host: str, port: int) -> Sequence[Address]:
        return await asyncio.wrap_future(
            await self._threads.start(partial(self._resolve, host, port), self._place_seconds_max)
        )

    def _ended(self, key: tuple[str, int], asking: asyncio.Task[Sequence[Address]]) -> None:
        del self._under_way[key]
        if not asking.cancelled():
            # Whoever asked may have gone, and then nobody would hear of an error.
            asking.exception()


def _resolve(host: str, port: int) -> Sequence[Address]:
    """What this machine's resolver says. Zones are left out: what needs one is link-local."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(at[0]).partition("%")[0]) for _, _, _, _, at in found]


def _run(work: Callable[[], Made], future: Future[Made]) -> None:
    try:
        made = work()
    except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
        future.set_exception(error)
    else:
        future.set_result(made)


def _tell(loop: AbstractEventLoop, release: Callable[[], None], _: object) -> None:
    # A loop that has ended wants to hear of nothing.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(release)
