"""A gate alone in its process, for tests that measure it, kill it or run several. Prints its port."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import uvloop

from landed.gate.http import Gate
from landed.gate.judge import Judge
from landed.gate.keeper import Keeper
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.sqlite import SqliteJournal
from landed.settings import Limits
from landed.vonage.signing import Keyring


async def serve(path: str, limits: str) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    journal = SqliteJournal(Path(path))
    quarantine = SqliteQuarantine(Path(path).with_suffix(".quarantine"))
    given = Limits(**json.loads(limits))
    gate = Gate(Keeper(journal, quarantine, given), Judge(Keyring([])), given, broken=lambda _: stop.set())
    server = await loop.create_server(gate.protocol, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how the test learns it
    await stop.wait()
    server.close()
    await gate.stop(1)
    journal.close()
    quarantine.close()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:]))
