"""Where each microsecond of a receipt goes: the gate's steps and the fold's, each by itself.

The steps are the real ones, called as the gate and the worker call them, with distinct signed receipts of both APIs
(bench/gate.py's mix). CPU of this process; waiting for the disk beside it. What the kernel and the event loop take for
a request and its answer is measured with a server that does nothing else, and is left out where there is no wrk.

    python bench/steps.py
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from gate import API_KEY, HOST, SECRET, WRK, Server, measure, running, signed_lines, signed_requests

from landed.gate.judge import Judge
from landed.gate.keeper import Judged, Keeper
from landed.gate.meter import Meter
from landed.gate.plain import Plain, PlainReader
from landed.gate.short import ShortWay
from landed.gate.usual import UsualRequests, quick_way
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.record import decode_told
from landed.journal.sqlite import SqliteJournal
from landed.settings import Limits
from landed.store import Changes, Known, MessageKey, Progress
from landed.store.firsts import first_of
from landed.store.sqlite import SqliteStore
from landed.vonage.signing import Account, Coverage, Keyring, Trust, Windows, plain_query, verify_jwt, verify_sig
from landed.vonage.usual import read_usual
from landed.worker.fold import Fold, quickest, read_record

COUNT = 32_000
BATCH = 64
ROUNDS = 5
WRK_SECONDS = 4

Row = tuple[str, float]


def cpu_us(work: Callable[[], object], count: int) -> float:
    """Microseconds of CPU for each of so many, the least of several rounds: what others add is not meant."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) / count * 1e6


def the_gate(directory: Path) -> tuple[list[Row], list[Row], list[bytes]]:
    """The steps of the gate, those that the compiled way stands for, and the records that they end with."""
    requests = [request.encode() for request in signed_requests(COUNT)]
    ring = Keyring([Account(name="default", api_key=API_KEY, secrets=(SECRET.encode(),))])
    journal = SqliteJournal(directory / "journal.db", appends_much=True)
    keeper = Keeper(journal, SqliteQuarantine(directory / "quarantine.db"), Limits(), meter=Meter())
    reader, way, now_us = PlainReader(Limits()), ShortWay(Judge(ring), keeper, str), time.time_ns() // 1_000
    plains = [plain for request in requests if (plain := reader.read(request)) is not None]
    judged = [each for plain in plains if (each := way.judged(plain, now_us, HOST)) is not None]
    assert len(judged) == COUNT  # noqa: S101 - all of them are usual
    batches = [judged[start : start + BATCH] for start in range(0, COUNT, BATCH)]
    reading = cpu_us(lambda: [reader.read(request) for request in requests], COUNT)
    verifying = cpu_us(lambda: [verified(plain, ring) for plain in plains], COUNT)
    judging = cpu_us(lambda: [way.judged(plain, now_us, HOST) for plain in plains], COUNT)
    taking = quickly(UsualRequests(Judge(ring), keeper, Limits(), str), Judge(ring), keeper, requests, now_us)
    waiting, committing = commits(keeper, batches)
    noting = cpu_us(lambda: note_all(keeper, batches, now_us), COUNT)
    journal.close()
    short = [
        ("read the request", reading),
        ("verify its signature (3 JWT to 1 sig)", verifying),
        ("judge it, encode its record", judging - verifying),
    ]
    rows = [
        *([("read, verify, judge, encode: compiled", taking)] if taking else short),
        (f"append to the journal, {BATCH} a commit", committing),
        ("count it, note its signature", noting),
        (f"(wait for the disk, {BATCH} together)", waiting),
    ]
    return rows, short, [each.record for each in judged]


def quickly(usual: UsualRequests, judge: Judge, keeper: Keeper, requests: Sequence[bytes], now_us: int) -> float | None:
    """Microseconds of the compiled way; None where it was not compiled."""
    compiled = quick_way()
    if compiled is None:
        return None
    way = compiled(usual, judge, keeper)
    return cpu_us(lambda: [way.taken(request, now_us, HOST) for request in requests], COUNT)


def verified(plain: Plain, ring: Keyring) -> object:
    """What checks the signature, by itself."""
    if plain.credentials is not None:
        return verify_jwt(plain.credentials.removeprefix(b"Bearer "), plain.body, ring, Windows())
    read = plain_query(plain.query)
    return None if read is None else verify_sig(read[0], ring, Windows(), read[1])


def commits(keeper: Keeper, batches: Sequence[Sequence[Judged]]) -> tuple[float, float]:
    """Microseconds a receipt of waiting and of CPU, over one commit a batch."""
    began, began_cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        keeper.commit(batch)
    cpu = time.process_time() - began_cpu
    return (time.perf_counter() - began - cpu) / COUNT * 1e6, cpu / COUNT * 1e6


def note_all(keeper: Keeper, batches: Sequence[Sequence[Judged]], now_us: int) -> None:
    """What is done behind the answers."""
    for batch in batches:
        verdicts = [each.verdict for each in batch]
        answers = [verdict.answer for verdict in verdicts]
        keeper.note(batch, answers)
        keeper.meter.answered(verdicts, answers, [each.at_us for each in batch], now_us)


class TimedStore:
    """A store whose parts are timed, as the fold calls them."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.cpu_seconds = dict.fromkeys(("look for what is known", "write the rows", "commit"), 0.0)

    def progress(self, epoch: str) -> Progress:
        """As the store's."""
        return self._store.progress(epoch)

    def transaction(self) -> AbstractContextManager[object]:
        """As the store's, with the time of its end."""
        return TimedCommit(self._store.transaction(), self.cpu_seconds)

    def may_know(self, hashes: Collection[int]) -> set[int]:
        """As the store's, timed."""
        began = time.process_time()
        known = self._store.may_know(hashes)
        self.cpu_seconds["look for what is known"] += time.process_time() - began
        return known

    def load(self, keys: Collection[MessageKey]) -> dict[MessageKey, Known]:
        """As the store's, timed."""
        began = time.process_time()
        known = self._store.load(keys)
        self.cpu_seconds["look for what is known"] += time.process_time() - began
        return known

    def save(self, changes: Changes, *, epoch: str, before: int, position: int, at: datetime) -> Progress:
        """As the store's, timed."""
        began = time.process_time()
        progress = self._store.save(changes, epoch=epoch, before=before, position=position, at=at)
        self.cpu_seconds["write the rows"] += time.process_time() - began
        return progress

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


class TimedCommit:
    """A transaction whose end is timed."""

    def __init__(self, transaction: AbstractContextManager[object], cpu_seconds: dict[str, float]) -> None:
        self._transaction = transaction
        self._cpu_seconds = cpu_seconds

    def __enter__(self) -> None:
        self._transaction.__enter__()

    def __exit__(self, *error: object) -> None:
        began = time.process_time()
        self._transaction.__exit__(*error)  # type: ignore[arg-type] # as they came
        self._cpu_seconds["commit"] += time.process_time() - began


def the_fold(directory: Path, records: Sequence[bytes]) -> tuple[list[Row], list[Row]]:
    """The steps of the fold over these records, which the journal has already, and of reading them uncompiled."""
    trust = Trust(coverage=Coverage.NOTHING, verified=True)
    told = [decode_told(record) for record in records]
    briefs = [brief for each in told if (brief := read_usual("default", each, trust)) is not None]  # type: ignore[arg-type]
    plainly = [
        ("decode the record", cpu_us(lambda: [decode_told(record) for record in records], COUNT)),
        ("read the receipt", cpu_us(lambda: [read_usual("default", each, trust) for each in told], COUNT)),  # type: ignore[arg-type]
        ("hash its keys", cpu_us(lambda: [first_of(0, 0, brief) for brief in briefs], COUNT)),
    ]
    reading = quickest()
    compiled = "" if reading is read_record else ": compiled"
    taken = cpu_us(lambda: [reading(0, record) for record in records], COUNT)
    journal, store = SqliteJournal(directory / "journal.db"), TimedStore(SqliteStore(directory / "store.db"))
    fold = Fold(journal, store)  # type: ignore[arg-type] # it has all that the fold asks of a store
    began, folded = time.process_time(), 0
    while batch := fold.step():
        folded += batch
    whole = (time.process_time() - began) / folded * 1e6
    journal.close()
    timed = {name: seconds / folded * 1e6 for name, seconds in store.cpu_seconds.items()}
    known = {f"decode, read, hash its keys{compiled}": taken} | timed
    return [*known.items(), ("read the journal, sort, count", whole - sum(known.values()))], plainly


def bare(directory: Path) -> float:
    """Microseconds of a core for a request and its answer with nothing done between, under wrk."""
    script = directory / "wrk.lua"
    script.write_text(WRK % signed_lines(directory))
    with running(Server("nothing", [sys.executable, "nothing.py"]), directory) as port:
        began = children_cpu()
        rates = [measure(port, script, WRK_SECONDS, BATCH).rate for _ in range(2)]
        wrk = children_cpu() - began
    requests = sum(rates) * WRK_SECONDS
    # The server's own time is known once it has ended.
    return (children_cpu() - began - wrk) / requests * 1e6


def children_cpu() -> float:
    """Seconds of CPU of all processes that have ended and were waited for."""
    times = os.times()
    return times.children_user + times.children_system


def report(title: str, rows: Sequence[Row]) -> None:
    """A table."""
    print(f"{title:<44}{'µs':>7}")
    for name, microseconds in rows:
        print(f"  {name:<42}{microseconds:>7.2f}")
    print(f"  {'together':<42}{sum(us for name, us in rows if not name.startswith('(')):>7.2f}\n", flush=True)


def main() -> None:
    """Both, in one directory."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as name:
        directory = Path(name)
        rows, short, records = the_gate(directory)
        if shutil.which("wrk"):
            rows.insert(0, ("receive and answer (kernel, uvloop)", bare(directory)))
        report("The gate, a receipt", rows)
        report("The short way, which is not compiled", short)
        steps, plainly = the_fold(directory, records)
        report("The fold, a receipt", steps)
        report("Reading one, where that is not compiled", plainly)


if __name__ == "__main__":
    main()
