"""`landed doctor`: looks at everything, and says of each fault what it is, why it matters, what to do.

Pure: what was seen comes in as `Seen`, findings go out. A check is a function of `CHECKS`; each gives
its findings or none, and none of them knows of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from landed.store import Tally

BEHIND_RECORDS_MAX = 10_000
SILENT_AFTER = timedelta(minutes=2)
AHEAD_MAX = timedelta(minutes=5)
FREE_BYTES_MIN = 512 * 1024 * 1024
MIB = 1024 * 1024


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, in three sentences."""

    name: str
    what: str
    why: str
    do: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there was to see. `problems` are sentences of what could not be looked at at all.

    `journal_requests` counts the request records up to the fold's position, counted in the journal
    itself; `waiting` those behind it. `newest_at` is the append time of the journal's last record.
    """

    now: datetime
    data: str
    problems: Sequence[str] = ()
    has_secrets: bool = False
    journal_epoch: str | None = None
    store_epoch: str | None = None
    journal_position: int = 0
    fold_position: int = 0
    newest_at: datetime | None = None
    worker_runs: bool = False
    tally: Tally = msgspec.field(default_factory=Tally)
    journal_requests: int = 0
    waiting: int = 0
    free_bytes: int = 0


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """received = folded + duplicate + unreadable + waiting; counts of requests."""

    received: int
    folded: int
    duplicate: int
    unreadable: int
    waiting: int

    @property
    def is_even(self) -> bool:
        """Whether nothing was lost or counted twice."""
        return self.received == self.folded + self.duplicate + self.unreadable + self.waiting


def ledger_of(seen: Seen) -> Ledger:
    """The sum of invariant 2: what the journal has received beside what the store made of it."""
    return Ledger(
        received=seen.journal_requests + seen.waiting,
        folded=seen.tally.folded,
        duplicate=seen.tally.duplicate,
        unreadable=seen.tally.unreadable,
        waiting=seen.waiting,
    )


def examine(seen: Seen) -> list[Finding]:
    """Every fault that shows, the gravest first."""
    if seen.problems:
        return list(_unusable(seen))
    return [finding for check in CHECKS for finding in check(seen)]


def _unusable(seen: Seen) -> Iterable[Finding]:
    for problem in seen.problems:
        yield Finding(
            name="unusable",
            what=problem,
            why="Until then nothing else can be looked at, and no receipt is kept or understood.",
            do="Mend what the sentence names, then run `landed doctor` again.",
        )


def _journal(seen: Seen) -> Iterable[Finding]:
    if seen.journal_epoch is None:
        yield Finding(
            name="no-journal",
            what=f"There is no journal in {seen.data}.",
            why="No request has ever been kept here.",
            do="Start `landed serve`, or name the directory that it uses with --data.",
        )
    elif seen.store_epoch is not None and seen.store_epoch != seen.journal_epoch:
        yield Finding(
            name="other-journal",
            what="The store was made from another journal than the one beside it.",
            why="The fold does not go on, since positions in one journal mean nothing in another.",
            do="Put back the journal that belongs to the store, or run `landed rebuild`.",
        )
    elif seen.fold_position > seen.journal_position:
        yield Finding(
            name="journal-went-back",
            what=f"The store has folded record {seen.fold_position}, but the journal ends at {seen.journal_position}.",
            why="The journal is an older copy: requests that were answered are missing from it.",
            do="Put back the newer journal, or run `landed rebuild` to go on with this one.",
        )


def _worker(seen: Seen) -> Iterable[Finding]:
    behind = seen.journal_position - seen.fold_position
    if seen.journal_epoch is None or behind < 0:
        return
    if not seen.worker_runs:
        yield Finding(
            name="no-worker",
            what=f"No worker runs on {seen.data}; {behind} records wait.",
            why="Receipts may be kept, but nobody learns what they say.",
            do="Start `landed serve`, or `landed serve --role worker` where gates run elsewhere.",
        )
    elif behind > BEHIND_RECORDS_MAX:
        yield Finding(
            name="behind",
            what=f"The fold is {behind} records behind.",
            why="What is listed is old, and whatever acts on receipts acts late.",
            do="Look at the worker's log for `fold.waits`; give it a faster disk, or fewer prints (--print none).",
        )


def _gate(seen: Seen) -> Iterable[Finding]:
    if seen.newest_at is None:
        return
    silence = seen.now - seen.newest_at
    if silence < -AHEAD_MAX:
        yield Finding(
            name="clock",
            what=f"The journal's newest record is {-silence} ahead of this machine's clock.",
            why="Signatures are judged by the clock: with a wrong one they are all called stale.",
            do="Set the clock, and keep it right with NTP.",
        )
    elif silence > SILENT_AFTER:
        yield Finding(
            name="no-gate",
            what=f"Nothing was written to the journal for {silence}; a gate that works writes every half minute.",
            why="Vonage's requests are not being kept.",
            do="Start `landed serve`; if it runs, look at its log for `journal.unable`.",
        )


def _secrets(seen: Seen) -> Iterable[Finding]:
    if not seen.has_secrets:
        yield Finding(
            name="no-secret",
            what="No signature secret is set.",
            why="Anybody who finds the address can say that a message was delivered.",
            do="Set VONAGE_SIGNATURE_SECRET to the signature secret in Vonage's dashboard, under API settings.",
        )


def _disk(seen: Seen) -> Iterable[Finding]:
    if seen.free_bytes < FREE_BYTES_MIN:
        yield Finding(
            name="disk",
            what=f"Only {seen.free_bytes // MIB} MiB are free where {seen.data} is.",
            why="When the disk is full, requests are answered 503 and nothing new is kept.",
            do="Make room, or move the data directory to a larger disk.",
        )


def _ledger(seen: Seen) -> Iterable[Finding]:
    ledger = ledger_of(seen)
    if not ledger.is_even:
        accounted = ledger.folded + ledger.duplicate + ledger.unreadable + ledger.waiting
        yield Finding(
            name="ledger",
            what=f"The journal has {ledger.received} requests, but {accounted} are accounted for.",
            why="Requests were lost or counted twice, which must never be.",
            do="Keep a copy of the data directory, run `landed rebuild`, and report it with the worker's log.",
        )


Check = Callable[[Seen], Iterable[Finding]]

CHECKS: Sequence[Check] = (_journal, _worker, _gate, _ledger, _disk, _secrets)
