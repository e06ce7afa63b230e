"""Runs one worker after another on a data directory, and kills each at a random instant; the last one ends by itself.

Started by `test_dispatch_killed.py`: data directory, kills, seed. A line for each kill: when. Its clock runs ahead, so
that the hours between attempts are not waited for. Each worker is a child of this process, which has loaded what they
need, and is ended by its own id.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import structlog

from landed import run
from landed.journal.sqlite import SqliteJournal
from landed.settings import EventSettings
from landed.store.outbox import Kind
from landed.store.sqlite import SqliteStore
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker.dispatch import Dispatch
from landed.worker.lane import Manner
from landed.worker.loop import FoldLoop
from landed.worker.webhook import Webhook

SPEED = 10_000
LIVES_SECONDS = (0.02, 0.25)
QUIET_SECONDS_MAX = 90.0
EVENTS = EventSettings(
    networks=(ip_network("127.0.0.0/8"),), plain_http=True, first_byte_seconds_max=0.3, whole_seconds_max=0.3
)
BEGAN = time.time()


def now_us() -> int:
    return round((BEGAN + (time.time() - BEGAN) * SPEED) * 1_000_000)


async def work(data: Path, *, until_quiet: bool) -> None:
    store = run.store_path(data)
    fold = FoldLoop(lambda: SqliteJournal(run.journal_path(data)), lambda: SqliteStore(store), None, print)
    dispatch = Dispatch(
        lambda: SqliteOutbox(store),
        {Kind.WEBHOOK: Webhook(EVENTS)},
        {Kind.WEBHOOK: Manner(concurrency=8)},
        days=36_500,
        now_us=now_us,
    )
    fold.start()
    running = asyncio.create_task(dispatch.run())
    deadline = time.monotonic() + QUIET_SECONDS_MAX
    with closing(SqliteOutbox(store, only_read=True)) as outbox, closing(SqliteJournal(run.journal_path(data))) as log:
        while not until_quiet or not is_quiet(fold, log, outbox):
            assert time.monotonic() < deadline, outbox.backlogs()
            await asyncio.sleep(0.05)
    dispatch.leave()
    await running
    fold.stop()


def is_quiet(fold: FoldLoop, journal: SqliteJournal, outbox: SqliteOutbox) -> bool:
    if fold.progress is None or fold.progress.position < journal.last_position():
        return False
    return all(not backlog.waiting and not backlog.unseen for backlog in outbox.backlogs().values())


def main(data: Path, kills: int, seed: int) -> None:
    structlog.configure(processors=[lambda *_: ""], logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    dice = random.Random(seed)  # noqa: S311 - when to kill
    for _ in range(kills):
        child = os.fork()
        if not child:
            asyncio.run(work(data, until_quiet=False))
            os._exit(0)
        time.sleep(dice.uniform(*LIVES_SECONDS))
        sys.stdout.write(f"{time.time()}\n")
        sys.stdout.flush()
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it ended by itself"
    asyncio.run(work(data, until_quiet=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
