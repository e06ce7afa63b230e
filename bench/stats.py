"""How long `landed stats` and `landed list` take when millions of messages are stored.

The messages are of thirty days, of fourteen networks, three senders, and mixed outcomes, written as the fold writes
them. Each report is made several times by a reader that is opened for it; the time of a whole command, which is mostly
Python's start, stands beside it.

    python bench/stats.py [--millions 5]

The data lie in the system's directory for temporary files, or in BENCH_DIRECTORY.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

from landed.cli import stats
from landed.cli.printing import Look, message_table
from landed.domain.lifecycle import Message
from landed.domain.receipt import Api, Outcome, Status
from landed.domain.rollups import counted
from landed.run import store_path
from landed.store import Changes, Filter, Progress, Tally
from landed.store.sqlite import DIMENSIONS, SqliteReader, SqliteStore

MILLION = 1_000_000
MESSAGES_A_BATCH = 20_000
DAYS = 30
TIMES = 7
NETWORKS = [
    *("23410", "23415", "23420", "26201", "26202", "20801", "20810", "21401"),
    *("22201", "310260", "310410", "51502", "724005", "US-TOLL-FREE"),
]
NETWORK_SHARES = [30, 20, 10, 10, 8, 6, 4, 3, 3, 2, 2, 1, 0.5, 0.5]
SENDERS = ["AcmeInc", "ACME", "447700900123"]
# Status, code, and how many of a hundred.
ENDS = [
    (Status.DELIVERED, None, 93),
    (Status.FAILED, "1180", 2),
    (Status.FAILED, "1240", 1),
    (Status.FAILED, "1210", 1),
    (Status.UNCONFIRMED, "1360", 2),
    (Status.ACCEPTED, None, 1),
]
OUTCOMES = {
    Status.DELIVERED: Outcome.DELIVERED,
    Status.FAILED: Outcome.FAILED,
    Status.UNCONFIRMED: Outcome.UNCONFIRMED,
    Status.ACCEPTED: Outcome.PENDING,
}
BEGAN = datetime(2026, 8, 1, tzinfo=UTC)


def fill(store: SqliteStore, count: int) -> None:
    """Write so many messages, in the order of their times."""
    chance = random.Random(5)  # noqa: S311 - a mix, not a secret
    progress: Progress = store.progress("bench")
    step = timedelta(days=DAYS) / count
    for start in range(0, count, MESSAGES_A_BATCH):
        several = [message(chance, BEGAN + (start + at) * step) for at in range(min(MESSAGES_A_BATCH, count - start))]
        position = progress.position + len(several)
        with store.transaction():
            row, _ = store.next_rows()
            changes = Changes(
                messages=[(row + at, each) for at, each in enumerate(several)],
                cells=counted(several),
                tally=Tally(received=len(several), folded=len(several)),
            )
            progress = store.save(changes, epoch="bench", before=progress.position, position=position, at=BEGAN)
        print(f"\r{start + len(several):,} messages", end="", file=sys.stderr)
    print(file=sys.stderr)


def message(chance: random.Random, seen_at: datetime) -> Message:
    """One message, with a usual end."""
    status, code, _ = chance.choices(ENDS, [share for *_, share in ENDS])[0]
    outcome = OUTCOMES[status]
    final_at = None if outcome is Outcome.PENDING else seen_at + timedelta(seconds=chance.lognormvariate(1.5, 1))
    return Message(
        account="default",
        message_id=str(uuid.UUID(int=chance.getrandbits(128))),
        outcome=outcome,
        status=status,
        provider_status={Status.DELIVERED: "delivered", Status.ACCEPTED: "submitted"}.get(status, "rejected"),
        api=Api.MESSAGES,
        channel="sms",
        to=f"4477{chance.randrange(10**8):08}",
        sender=chance.choice(SENDERS),
        client_ref=None,
        network=chance.choices(NETWORKS, NETWORK_SHARES)[0],
        code=code,
        conflict=False,
        verified=True,
        receipts=2,
        seen_at=seen_at,
        sent_at=seen_at,
        first_at=seen_at,
        final_at=final_at,
        price=Decimal("0.0333"),
        currency="EUR",
        segments=1,
    )


def report(path: Path, by: str, since: datetime | None, *, compares: bool = True) -> None:
    """What `landed stats` does, but for Python's start."""
    reader = SqliteReader(path)
    asked = {"until": BEGAN + timedelta(days=DAYS), "account": None, "channel": None, "network": None}
    period = stats.period(reader, since=since, **asked)  # type: ignore[arg-type] # as they are named
    if period is not None:
        told = stats.report(reader, by, period, compares=compares)
        stats.print_report(told, Look(sys.stdout, show_numbers=False), 20)
    reader.close()


def listing(path: Path, wanted: Filter) -> None:
    """What `landed list` does, but for Python's start."""
    reader = SqliteReader(path)
    message_table(reader.messages(wanted, limit=50), Look(sys.stdout, show_numbers=False), sys.stdout)
    reader.close()


def milliseconds(work: Callable[[], object]) -> float:
    """The median of several times, what is printed being thrown away."""
    times = []
    for _ in range(TIMES):
        began = time.perf_counter()
        with redirect_stdout(io.StringIO()):
            work()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def command(data: Path, *arguments: str) -> float:
    """A whole command, Python's start and all."""
    whole = [sys.executable, "-m", "landed", *arguments, "--data", str(data)]
    return milliseconds(lambda: subprocess.run(whole, check=True, stdout=subprocess.DEVNULL))


def show(rows: Sequence[tuple[str, float]]) -> None:
    """A table."""
    for name, each in rows:
        print(f"  {name:<58}{each:>8.1f} ms", flush=True)


def main() -> None:
    """Fill a store and ask it."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--millions", type=float, default=5)
    count = int(arguments.parse_args().millions * MILLION)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as name:
        data = Path(name)
        path = store_path(data)
        store = SqliteStore(path)
        fill(store, count)
        store.close()
        cells = SqliteReader(path)._db.execute("SELECT span, count(*) FROM rollup GROUP BY span")  # noqa: SLF001
        print(f"{count:,} messages, cells by span: {dict(cells)}")
        ago = BEGAN + timedelta(days=DAYS - 7, hours=5)
        for by in DIMENSIONS:
            since = ago if by == "hour" else None
            show([(f"stats --by {by}", milliseconds(partial(report, path, by, since, compares=False)))])
        show([("stats --since 7d --compare previous", milliseconds(partial(report, path, "network", ago)))])
        filters = {
            "list": Filter(),
            "list --outcome failed": Filter(outcome="failed"),
            "list --status read, of which there is none": Filter(status="read"),
            "list --to, a number that is not there": Filter(to="447700900001"),
            "list --since 1d": Filter(since=BEGAN + timedelta(days=DAYS - 1)),
        }
        show([(name, milliseconds(partial(listing, path, wanted))) for name, wanted in filters.items()])
        show([("the whole command: landed stats", command(data, "stats")), ("landed list", command(data, "list"))])


if __name__ == "__main__":
    main()
