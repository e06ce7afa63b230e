"""How fast receipts are folded while the gate takes them, and how the fold does when much is stored.

Part one runs gate and worker as `landed serve` does, under wrk, beside nginx `return 204` in the same
minutes: what the gate took, what was folded meanwhile, and how far behind the fold was at the end.
Part two fills a store (--stored 1 is a million messages of one receipt) and measures, with new messages of two
receipts, the fold; and look-ups and bytes on disk.

    python bench/road.py [--seconds 10] [--rounds 3] [--stored 1 5 10]

The data lie in the system's directory for temporary files, or in BENCH_DIRECTORY: it should be on a real disk.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
from fold import records
from gate import HOST, LINE_BREAK, NGINX_NAME, WRK, Server, measure, running, servers, signed_requests

from landed.domain.moments import moment
from landed.journal.record import RequestRecord, decode
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, store_path
from landed.store import Changes, Progress
from landed.store.firsts import first_of
from landed.store.sqlite import SqliteReader, SqliteStore
from landed.vonage.signing import Trust
from landed.vonage.usual import read_usual
from landed.worker.fold import Fold

MILLION = 1_000_000
FILL_MESSAGES = 20_000
MEASURED_RECORDS = 40_000
MEASURED_TIMES = 3
LOOKUPS = 2_000
REQUESTS_A_SECOND_MAX = 50_000
CATCH_UP_SECONDS = 120.0


class Road(msgspec.Struct):
    """One run: requests a second taken and folded, and seconds until the fold had caught up."""

    taken: float
    folded: float
    lag_seconds: float


class Rate(msgspec.Struct):
    """Of one fold: records a second, and microseconds of CPU a record, of which other programs take none."""

    folded: float
    cpu_us: float


def distinct_lines(directory: Path, seconds: int) -> Path:
    """A file of signed requests, one a line, that lasts for a run: what comes twice is folded otherwise."""
    file = directory / "requests"
    with file.open("w") as lines:
        lines.writelines(
            request.replace("\r\n", LINE_BREAK) + "\n" for request in signed_requests(seconds * REQUESTS_A_SECOND_MAX)
        )
    return file


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
    """Fill a store step by step with messages of one receipt, and measure at each step."""
    journal, store = SqliteJournal(directory / "journal.db"), SqliteStore(directory / "store.db")
    fold = Fold(journal, store)
    print(f"\n{'messages stored':>16}{'CPU µs':>8}{'of empty':>10}{'folded/s':>11}", end="")
    print(f"{'of empty':>10}{'look-up p99 ms':>16}{'bytes a message':>17}")
    base: Rate | None = None
    messages = 0
    for wanted in (0, *(million * MILLION for million in millions)):
        while messages < wanted:
            fill(store, fold.progress)
            messages += FILL_MESSAGES
        size = sum(file.stat().st_size for file in directory.glob("store.db*")) / messages if messages else 0.0
        # What is done once, at the first look into what is stored, is no part of the rate.
        folded_rate(fold, journal, records(2))
        rates = [folded_rate(fold, journal, records(MEASURED_RECORDS)) for _ in range(MEASURED_TIMES)]
        rate = Rate(*(statistics.median(getattr(each, name) for each in rates) for name in Rate.__struct_fields__))
        base = base or rate
        print(f"{messages:>16,}{rate.cpu_us:>8.1f}{base.cpu_us / rate.cpu_us:>10.2f}{rate.folded:>11,.0f}", end="")
        print(f"{rate.folded / base.folded:>10.2f}{lookup_p99_ms(directory):>16.2f}{size:>17.0f}", flush=True)
        messages += MEASURED_RECORDS // 2 * MEASURED_TIMES
    store.close()
    journal.close()


def fill(store: SqliteStore, progress: Progress) -> None:
    """Write messages of one receipt as the fold does, but without reading any records, for the time it takes."""
    record = decode(records(2)[0])
    assert isinstance(record, RequestRecord)  # noqa: S101 - it was made so
    brief = read_usual(record.account, record, Trust(verified=True))
    assert brief is not None  # noqa: S101 - the same
    with store.transaction():
        message_row, receipt_row = store.next_rows()
        firsts = []
        for number in range(FILL_MESSAGES):
            new = msgspec.structs.replace(brief, message_id=str(uuid.uuid4()), client_ref=os.urandom(4).hex())
            first = first_of(0, record.received_us + message_row + number, new)
            first.message_row, first.receipt_row = message_row + number, receipt_row + number
            firsts.append(first)
        at, position = moment(record.at_us), progress.position
        store.save(Changes(firsts=firsts), epoch=progress.epoch, before=position, position=position, at=at)


def folded_rate(fold: Fold, journal: SqliteJournal, told: list[bytes]) -> Rate:
    """Fold these records."""
    journal.append(told)
    began, began_cpu = time.perf_counter(), time.process_time()
    while fold.step():
        pass
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    return Rate(folded=len(told) / seconds, cpu_us=cpu_seconds / len(told) * 1e6)


def lookup_p99_ms(directory: Path) -> float:
    """Finding one message by its id, with its receipts: known ones from all over and unknown ones by turns."""
    reader = SqliteReader(directory / "store.db")
    newest = reader.newest_receipt()
    places = [newest * place // LOOKUPS for place in range(LOOKUPS)]
    known = [kept.fact.receipt.message_id for place in places for kept, _ in reader.receipts_after(place, 1)]
    random.shuffle(known)
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
    arguments.add_argument("--rounds", type=int, default=3, help="0 leaves out part one")
    arguments.add_argument("--stored", type=int, nargs="*", default=[1], metavar="MILLIONS")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as name:
        directory = Path(name)
        if not asked.rounds:
            pass
        elif shutil.which("wrk") and shutil.which("nginx"):
            script = directory / "wrk.lua"
            script.write_text(WRK % distinct_lines(directory, asked.seconds))
            beside(directory, script, asked.seconds, asked.rounds)
        else:
            print("Part one of bench/road.py needs Debian's packages wrk and nginx-light.")
        stored(directory, asked.stored)


def beside(directory: Path, script: Path, seconds: int, rounds: int) -> None:
    """Part one."""
    nginx = next(server for server in servers(directory) if server.name == NGINX_NAME)
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
