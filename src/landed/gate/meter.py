"""What a gate counts: requests by verdict and answer, the size of batches, the time of commits and answers.

Each process counts in its own memory and writes the sums, once a second, into a small file of its own in
the data directory; whoever shows them adds up the files (`figures_in`). The rules:

1. A file belongs to the process that holds its lock. A process that begins takes the first file that
   nobody holds and counts on from what stands there, so figures do not run backwards when a gate starts
   again, and there are never more files than processes at one time. Nothing has to be tidied up.
2. A file has its full size from the beginning and is written over in place, so that the figures go on when
   the disk is full, which is when they matter. It is not mapped into memory: a disk that fails would kill
   the process. Two halves are written in turn, each with its checksum: one of them is always whole.
3. Nothing here raises or retries: what cannot be written is written a second later.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
import zlib
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Literal, get_args

import msgspec

from landed.gate.judge import Verdict
from landed.vonage.signing import Trust

FILES_MAX = 1_024
HALF_BYTES = 16 * 1024
WRITE_SECONDS = 1.0
# Raised when the bounds or the fields change: figures of another version are not added to ours.
VERSION = 1

BATCH_BOUNDS: Sequence[int] = tuple(2**power for power in range(13))
TIME_BOUNDS_US: Sequence[int] = (
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
)

VERIFIED = "verified"
STALE = "stale"
UNVERIFIED = "unverified"
# Answered before anybody looked at what it says: malformed, late, too much, another path or method.
UNJUDGED = "unjudged"
HEALTH = "health"

Kept = Literal["journal", "quarantine"]
Source = Literal["serve", "mount"]


class Histogram(msgspec.Struct, array_like=True):
    """How many values were up to which bound, each bucket by itself and the last one beyond all bounds."""

    counts: list[int]
    sum: int = 0

    @classmethod
    def over(cls, bounds: Sequence[int]) -> Histogram:
        """An empty one."""
        return cls(counts=[0] * (len(bounds) + 1))

    def add(self, bounds: Sequence[int], value: int) -> None:
        """Count a value."""
        self.counts[bisect_left(bounds, value)] += 1
        self.sum += value

    def add_all(self, bounds: Sequence[int], values: Sequence[int]) -> None:
        """Count values, which are in order."""
        first, last = bisect_left(bounds, values[0]), bisect_left(bounds, values[-1])
        below = 0
        for bucket in range(first, last):
            upto = bisect_right(values, bounds[bucket])
            self.counts[bucket] += upto - below
            below = upto
        self.counts[last] += len(values) - below
        self.sum += sum(values)

    def join(self, other: Histogram) -> None:
        """Count what another one has."""
        self.counts = [mine + others for mine, others in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def upto(self, bounds: Sequence[int]) -> list[tuple[int | None, int]]:
        """For each bound the number of values up to it; None, the last one, has them all."""
        total, rows = 0, []
        for bound, count in zip((*bounds, None), self.counts, strict=True):
            total += count
            rows.append((bound, total))
        return rows


class Figures(msgspec.Struct, kw_only=True):
    """The sums of one process and of those before it in the same file.

    `requests` counts by verdict and answer, joined by a blank. `kept` counts the requests made durable in
    the journal with this `epoch`, and in any quarantine. `was_served` says whether one of the processes was
    anything but a mount. `unwritten` counts the times that these very figures could not be written.
    """

    version: int = VERSION
    number: int = 0
    source: Source = "serve"
    was_served: bool = False
    epoch: str = ""
    kept: dict[Kept, int] = msgspec.field(default_factory=lambda: {"journal": 0, "quarantine": 0})
    requests: dict[str, int] = {}
    batches: Histogram = msgspec.field(default_factory=lambda: Histogram.over(BATCH_BOUNDS))
    commits_us: dict[Kept, Histogram] = msgspec.field(
        default_factory=lambda: {
            "journal": Histogram.over(TIME_BOUNDS_US),
            "quarantine": Histogram.over(TIME_BOUNDS_US),
        }
    )
    answers_us: Histogram = msgspec.field(default_factory=lambda: Histogram.over(TIME_BOUNDS_US))
    unwritten: int = 0

    def join(self, other: Figures) -> None:
        """Count what another one has; of its journal, only if that is ours."""
        for key, count in other.requests.items():
            self.requests[key] = self.requests.get(key, 0) + count
        self.batches.join(other.batches)
        for file, commits in other.commits_us.items():
            self.commits_us[file].join(commits)
        self.answers_us.join(other.answers_us)
        self.kept["quarantine"] += other.kept["quarantine"]
        if other.epoch == self.epoch:
            self.kept["journal"] += other.kept["journal"]
        self.was_served = self.was_served or other.was_served
        self.unwritten += other.unwritten

    @property
    def is_whole(self) -> bool:
        """Whether they have all that ours have, so that they can be joined."""
        times = [self.answers_us, *self.commits_us.values()]
        return (
            self.version == VERSION
            and len(self.batches.counts) == len(BATCH_BOUNDS) + 1
            and all(len(each.counts) == len(TIME_BOUNDS_US) + 1 for each in times)
            and len(self.kept) == len(self.commits_us) == len(get_args(Kept))
        )


class Meter:
    """Counts for one process. Any of its threads may; without a directory nothing is written."""

    _lock: threading.Lock
    _figures: Figures
    _requests: Counter[tuple[str, HTTPStatus]]
    _file: int | None
    _path: Path
    _written: float
    _timer: threading.Timer | None

    def __init__(self, data: Path | None = None, source: Source = "serve") -> None:
        self._data = data
        self._source: Source = source
        self._begin()
        forget = weakref.WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (of_us := forget()) and of_us())

    def count_for(self, epoch: str) -> None:
        """From now on requests are kept in the journal of that epoch."""
        with self._lock:
            if self._figures.epoch != epoch:
                self._figures.epoch = epoch
                self._figures.kept["journal"] = 0

    def wrote(self, file: Kept, requests: int, taken_us: int) -> None:
        """A commit made so many requests durable, and took so long."""
        with self._lock:
            self._figures.kept[file] += requests
            self._figures.commits_us[file].add(TIME_BOUNDS_US, taken_us)

    def answered(
        self, verdicts: Iterable[Verdict], answers: Sequence[HTTPStatus], came_us: Iterable[int], now_us: int
    ) -> None:
        """A batch was answered now, behind its commit; `came_us` says when each request was whole."""
        # A second look at what is usual, the signed receipt in time, is what this costs: 0.2 µs a request (measured).
        words = [
            verdict.reason
            or (VERIFIED if (trust := verdict.trust).verified and not trust.stale else _word_of_trust(trust))
            for verdict in verdicts
        ]
        if not words:
            return
        # Sorted, although it nearly always is: the clock may have been set meanwhile.
        waited_us = sorted([now_us - came if came < now_us else 0 for came in came_us])
        with self._lock:
            if (size := len(words)) == words.count(words[0]) == answers.count(answers[0]):
                self._requests[words[0], answers[0]] += size
            else:
                self._requests.update(zip(words, answers, strict=True))
            self._figures.batches.add(BATCH_BOUNDS, size)
            self._figures.answers_us.add_all(TIME_BOUNDS_US, waited_us)

    def refused(self, answer: HTTPStatus, word: str = UNJUDGED, count: int = 1) -> None:
        """So many requests were answered at once, and nothing was kept; `word` is their verdict's, if there is one."""
        with self._lock:
            self._requests[word, answer] += count

    def write(self) -> None:
        """Write the figures down, for whoever shows them. The gate does so once a second."""
        with self._lock:
            self._write()

    def write_soon(self) -> None:
        """The same, once a second at most, for who has no clock of its own; what is left over follows by itself."""
        with self._lock:
            if time.monotonic() >= self._written + WRITE_SECONDS:
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(WRITE_SECONDS, self._write_late)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Write the last figures and leave the file to the next process; a later write takes one again."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._data is not None:
                self._write()
            if self._file is not None:
                self._let_go(self._file)
                # They stand in the file now, and whoever takes it, perhaps we, goes on from there.
                self._figures = self._none(self._figures.epoch)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._figures = self._none()
        # By tuples, which cost less than texts; they become figures when they are written.
        self._requests = Counter()
        self._file = None
        self._path = Path()
        self._written = float("-inf")
        self._timer = None

    def _forget(self) -> None:
        """In the child of a fork: the counts and the file are the parent's, who goes on holding its lock."""
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
        epoch = self._figures.epoch
        self._begin()
        self._figures.epoch = epoch

    def _none(self, epoch: str = "") -> Figures:
        return Figures(source=self._source, was_served=self._source == "serve", epoch=epoch)

    def _write_late(self) -> None:
        with self._lock:
            self._timer = None
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._data is None:
            return
        try:
            if self._file is not None and not _is_at(self._file, self._path):
                # Somebody removed it or put another data directory in its place.
                self._let_go(self._file)
            if self._file is None:
                self._take(self._data)
            if self._file is not None:
                self._sum_up()
                self._figures.number += 1
                os.pwrite(self._file, _encode(self._figures), self._figures.number % 2 * HALF_BYTES)
        except OSError:
            self._figures.unwritten += 1

    def _sum_up(self) -> None:
        requests = self._figures.requests
        for (word, answer), count in self._requests.items():
            key = f"{word} {answer:d}"
            requests[key] = requests.get(key, 0) + count
        self._requests.clear()

    def _take(self, data: Path) -> None:
        """Take the first file that nobody holds, with the figures that stand there."""
        for number in range(FILES_MAX):
            path = data / f"gate-{number}.figures"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._adopt(file)
            except BlockingIOError:
                os.close(file)
                continue
            except OSError:
                os.close(file)
                raise
            self._file, self._path = file, path
            return

    def _adopt(self, file: int) -> None:
        there = _decode(os.pread(file, 2 * HALF_BYTES, 0))
        if os.fstat(file).st_size < 2 * HALF_BYTES:
            _fill(file)
        if there is not None:
            self._figures.epoch = self._figures.epoch or there.epoch
            self._figures.join(there)
            self._figures.number = there.number

    def _let_go(self, file: int) -> None:
        self._file = None
        os.close(file)


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """What all gates of a data directory have counted: `serving` and `mounted` are the processes at work now.

    `kept_in` counts the requests that were kept in a journal, by its epoch; `sums` has those of no journal.
    """

    serving: int = 0
    mounted: int = 0
    kept_in: Mapping[str, int] = {}
    sums: Figures = msgspec.field(default_factory=Figures)

    @property
    def requests(self) -> Mapping[tuple[str, ...], int]:
        """Requests by verdict and answer."""
        return {
            (verdict, answer): count
            for key, count in sorted(self.sums.requests.items())
            for verdict, _, answer in [key.partition(" ")]
        }


def figures_in(data: Path) -> Gates:
    """The sums over all files in a data directory."""
    sums, kept_in = Figures(), Counter[str]()
    serving = mounted = 0
    for path in data.glob("gate-*.figures"):
        with suppress(OSError), path.open("rb") as file:
            figures = _decode(file.read(2 * HALF_BYTES))
            if figures is None:
                continue
            sums.join(figures)
            kept_in[figures.epoch] += figures.kept["journal"]
            if _is_held(file.fileno()):
                serving += figures.source == "serve"
                mounted += figures.source == "mount"
    return Gates(serving=serving, mounted=mounted, kept_in=kept_in, sums=sums)


_decoder = msgspec.json.Decoder(Figures)


def _word_of_trust(trust: Trust) -> str:
    return STALE if trust.verified else UNVERIFIED


def _encode(figures: Figures) -> bytes:
    text = msgspec.json.encode(figures)
    line = b"%08x %s\n" % (zlib.crc32(text), text)
    if len(line) > HALF_BYTES:
        raise OSError("The figures are larger than their place.")
    return line


def _decode(data: bytes) -> Figures | None:
    """The newer of the two halves that is whole; None when neither is, or another landed wrote them."""
    halves = (_half(data[:HALF_BYTES]), _half(data[HALF_BYTES:]))
    return max((half for half in halves if half is not None), key=lambda half: half.number, default=None)


def _half(data: bytes) -> Figures | None:
    line = data.partition(b"\n")[0]
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        figures = _decoder.decode(text)
    except msgspec.MsgspecError:
        return None
    return figures if figures.is_whole else None


def _fill(file: int) -> None:
    """Give the file its whole size on the disk, so that it needs no more when the disk is full."""
    blanks = b" " * (2 * HALF_BYTES)
    if os.pwrite(file, blanks, 0) < len(blanks):
        raise OSError("There is no room for the figures.")


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _is_held(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
