"""How fast receipts are folded while the gate takes them, and how the fold does when much is stored.

Part one runs gate and worker as `landed serve` does, under wrk, beside nginx `return 204` in the same
minutes: what the gate took, what was folded meanwhile, and how far behind the fold was at the end.
Part two fills a store (--stored 1 is a million messages) and measures the fold, look-ups and bytes.

    python bench/road.py [--seconds 10] [--rounds 3] [--stored 1 5]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
from fold import records
from gate import HOST, WRK, Server, measure, running, servers, signed_lines

from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, store_path
from landed.store.sqlite import SqliteReader, SqliteStore
from landed.worker.fold import Fold

MILLION = 1_000_000
FILL_RECORDS = 20_000
MEASURED_RECORDS = 100_000
LOOKUPS = 2_000
CATCH_UP_SECONDS = 120.0


class Road(msgspec.Struct):
    """One run: requests a second taken and folded, and seconds until the fold had caught up."""

    taken: float
    folded: float
    lag_seconds: float


def road(directory: Path, script: Path, seconds: int) -> Road:
    """Gate and worker under load."""
    data = directory / f"road-{uuid.uuid4()}"
    gate = servers(data)[0]
    arguments = [part.replace("gate", "all") if part == "gate" else part for part in gate.command]
    both = Server(gate.name, [*arguments, "--private-port", "0", "--print", "none"], environment=gate.environment)
    with running(both, directory) as port:
        run = measure(port, script, seconds, 64)
        folded = folded_requests(data / "data")
        caught_up = wait_until_even(data / "data")
        everything = folded_requests(data / "data")
    shutil.rmtree(data)
    return Road(taken=run.rate, folded=run.rate * folded / everything, lag_seconds=caught_up)


def folded_requests(data: Path) -> int:
    """How many requests the store has by now."""
    reader = SqliteReader(store_path(data))
    progress = reader.progress()
    reader.close()
    return progress.tally.received if progress else 0


def wait_until_even(data: Path) -> float:
    """Seconds until the fold is at the journal's end."""
    journal, reader = SqliteJournal(journal_path(data)), SqliteReader(store_path(data))
    began = time.monotonic()
    last = journal.last_position()
    while (progress := reader.progress()) is None or progress.position < last:
        if time.monotonic() - began > CATCH_UP_SECONDS:
            break
        time.sleep(0.01)
    reader.close()
    journal.close()
    return time.monotonic() - began


def stored(directory: Path, millions: Sequence[int]) -> None:
    """Fill a store step by step, and measure at each step."""
    journal, store = SqliteJournal(directory / "journal.db"), SqliteStore(directory / "store.db")
    fold = Fold(journal, store)
    messages = 0
    base = 0.0
    print(f"\n{'messages stored':>16}{'folded/s':>11}{'of empty':>10}{'look-up p99 ms':>16}{'bytes a message':>17}")
    for wanted in (0, *(million * MILLION for million in millions)):
        while messages < wanted:
            journal.append(records(FILL_RECORDS))
            while fold.step():
                pass
            messages += FILL_RECORDS // 2
        journal.append(records(MEASURED_RECORDS))
        began = time.perf_counter()
        while fold.step():
            pass
        rate = MEASURED_RECORDS / (time.perf_counter() - began)
        messages += MEASURED_RECORDS // 2
        base = base or rate
        size = sum(file.stat().st_size for file in directory.glob("store.db*")) / messages
        print(f"{messages:>16,}{rate:>11,.0f}{rate / base:>10.2f}{lookup_p99_ms(directory):>16.2f}{size:>17.0f}")
    store.close()
    journal.close()


def lookup_p99_ms(directory: Path) -> float:
    """Finding one message by its id, with its receipts: known ones and unknown ones by turns."""
    reader = SqliteReader(directory / "store.db")
    known = [kept.fact.receipt.message_id for kept, _ in reader.receipts_after(reader.newest_receipt() // 3, LOOKUPS)]
    times = []
    for number, message_id in enumerate(known):
        began = time.perf_counter()
        for message in reader.find(message_id if number % 2 else str(uuid.uuid4()), limit=1):
            reader.facts(message)
        times.append((time.perf_counter() - began) * 1000)
    reader.close()
    return statistics.quantiles(times, n=100)[98]


def main() -> None:
    """Both parts."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--stored", type=int, nargs="*", default=[1], metavar="MILLIONS")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as name:
        directory = Path(name)
        if shutil.which("wrk") and shutil.which("nginx"):
            script = directory / "wrk.lua"
            script.write_text(WRK % signed_lines(directory))
            beside(directory, script, asked.seconds, asked.rounds)
        else:
            print("Part one of bench/road.py needs Debian's packages wrk and nginx-light.")
        stored(directory, asked.stored)


def beside(directory: Path, script: Path, seconds: int, rounds: int) -> None:
    """Part one."""
    nginx = servers(directory)[1]
    roads, bases = [], []
    for _ in range(rounds):
        roads.append(road(directory, script, seconds))
        with running(nginx, directory) as port:
            bases.append(measure(port, script, seconds, 64).rate)
    base = statistics.median(bases)
    taken, folded, lag = (statistics.median(getattr(run, field) for run in roads) for field in Road.__struct_fields__)
    print(f"64 connections, {seconds} s, medians of {rounds} alternating rounds, on {HOST}")
    print(f"  nginx, return 204        {base:>9,.0f} requests/s")
    print(f"  taken, durably           {taken:>9,.0f} requests/s   {taken / base:.3f} of nginx")
    print(f"  folded meanwhile         {folded:>9,.0f} requests/s   {folded / base:.3f} of nginx")
    print(f"  caught up after          {lag:>9.2f} s")


if __name__ == "__main__":
    main()
