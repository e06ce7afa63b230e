"""Makes judged requests durable, whoever took them: the gate's server, or a mount in an application.

A batch shares one commit of the journal and one of the quarantine, and each request's answer is
known only afterwards: what could not be kept is answered 503, so that it comes again.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

import msgspec
import structlog

from landed.errors import BadSignature, JournalUnable
from landed.gate.judge import CHECK, REPEATED, SPARED, TOO_LARGE, Judge, Keep, Verdict
from landed.gate.meter import Kept, Meter
from landed.gate.seen import Seen
from landed.journal import Journal
from landed.journal.disk import Disk
from landed.journal.quarantine import Held, Quarantine, SqliteQuarantine, Suspect
from landed.journal.record import CheckRecord, Ids, RequestRecord, TickRecord, encode
from landed.settings import Limits
from landed.vonage.check import check_id
from landed.vonage.messages import MESSAGE_ID_NAMES
from landed.vonage.request import Pairs, Request, read_body, read_pairs
from landed.vonage.signing import SIG, Coverage, Trust, bearer_token, flat_json

# Of a body over the limit no more is kept than shows whose it was.
CUT_BYTES = 4 * 1024
# What Vonage makes anew for each try of the SMS API.
VARYING = frozenset((SIG, b"timestamp", b"nonce"))
# Read from the quarantine and let in together.
BATCH_ROWS = 200
LOOK_SECONDS = 1.0
SAY_SECONDS = 60.0

_COVERAGES = {coverage: coverage.value for coverage in Coverage}
_MESSAGE_ID_NAMES = frozenset(name.encode() for name in MESSAGE_ID_NAMES)

log = structlog.get_logger("landed.gate")


class Judged(msgspec.Struct, gc=False):
    """A request with its verdict, on its way to the disk: as a record of the journal, or as a suspect."""

    verdict: Verdict
    at_us: int
    signature: bytes
    record: bytes
    suspect: Suspect | None = None


class Keeper:
    """Commits batches of judged requests. It belongs to one thread at a time."""

    def __init__(
        self,
        journal: Journal,
        quarantine: Quarantine,
        limits: Limits,
        disk: Disk | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._journal = journal
        self._quarantine = quarantine
        self._disk = disk
        self.meter = meter or Meter()
        self.meter.count_for(journal.epoch)
        self.seen = Seen(copies_max=limits.copies_max, signatures_max=limits.signatures_max)
        self.ids = Ids()
        self._was_able = True
        self._has_room = self._has_room_for_unverified = True
        self._look_at = 0.0
        self._say_at: dict[str, float] = {}
        # What was made durable where, how much and in how many microseconds, and is to be counted.
        self._wrote: list[tuple[Kept, int, int]] = []

    @property
    def able(self) -> bool:
        """Whether the last commit to the journal was possible, and the disk has room."""
        return self._was_able and self._has_room

    def look(self) -> bool:
        """Whether the disk has room; it is looked at once a second at most."""
        now = time.monotonic()
        if self._disk is not None and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            shortage = self._disk.shortage(self._journal)
            self._has_room = shortage is None
            if shortage is not None:
                self._say("disk.short", error=shortage, advice="all is answered 503 until there is room: make some")
            spared = self._disk.shortage_for_unverified(self._journal)
            self._has_room_for_unverified = spared is None
            if spared is not None and shortage is None:
                self._say("disk.spared", error=spared, advice="what is not signed is answered 503: make room")
        return self._has_room

    def spare(self, given: Verdict, *, checks: bool) -> Verdict:
        """The verdict, or the one in its place when the disk need not or should not have it.

        `checks` says whether signatures are checked at all: only then is there anything to spare the disk for.
        """
        if given.signature:
            if self.seen.is_kept_often_enough(given.signature):
                return msgspec.structs.replace(given, keep=Keep.NOTHING, reason=REPEATED)
        elif checks and given.keep is not Keep.NOTHING and self.look() and not self._has_room_for_unverified:
            return Verdict(answer=HTTPStatus.SERVICE_UNAVAILABLE, keep=Keep.NOTHING, reason=SPARED)
        return given

    def judged(self, request: Request, verdict: Verdict, now_us: int, peer: str) -> Judged:
        """A request that came now from `peer`, to be kept as its verdict says; of too large a body its beginning."""
        trust = verdict.trust
        record = RequestRecord(
            id=self.ids.next(),
            at_us=now_us,
            received_us=now_us,
            account=verdict.account,
            api_key=trust.api_key,
            # As plain text and number: encoding a member of an enumeration costs more than all else (measured).
            coverage=_COVERAGES[trust.coverage],
            verified=trust.verified,
            stale=trust.stale,
            answer=int(verdict.answer),
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            body=request.body[:CUT_BYTES] if verdict.reason == TOO_LARGE else request.body,
            peer=peer,
        )
        if verdict.keep is Keep.QUARANTINE:
            return Judged(verdict, now_us, b"", b"", _suspect(verdict, record))
        kept = record if verdict.reason != CHECK else _as_check(record, trust)
        return Judged(verdict, now_us, verdict.signature, encode(kept))

    def commit(self, batch: Sequence[Judged]) -> list[HTTPStatus]:
        """Make each durable where its verdict says, and give the answers that may be said now.

        Behind the answers `note` is due. Raises JournalBroken when it cannot be known what is durable; then nothing may
        be answered 2xx.
        """
        if not self.look():
            return [HTTPStatus.SERVICE_UNAVAILABLE] * len(batch)
        suspects = [suspect for each in batch if (suspect := each.suspect) is not None]
        trusted = batch if not suspects else [each for each in batch if each.suspect is None]
        requests = len([each for each in trusted if each.verdict.reason != CHECK])
        is_appended = bool(trusted) and self._append([each.record for each in trusted], requests=requests)
        if is_appended and not suspects:
            return [each.verdict.answer for each in batch]
        held = iter(self._hold(suspects) if suspects else ())
        kept = [is_appended if each.suspect is None else next(held) for each in batch]
        return [
            each.verdict.answer if is_kept else HTTPStatus.SERVICE_UNAVAILABLE
            for each, is_kept in zip(batch, kept, strict=True)
        ]

    def note(self, batch: Sequence[Judged], answers: Sequence[HTTPStatus]) -> None:
        """Note what a commit made durable, and count it; the answers need not wait for that."""
        while self._wrote:
            self.meter.wrote(*self._wrote.pop())
        self.seen.note(
            [
                each.signature
                for each, answer in zip(batch, answers, strict=True)
                if each.signature and answer is each.verdict.answer
            ]
        )

    def tick(self, now_us: int) -> None:
        """Say in the journal that it can be written, if so; raises JournalBroken."""
        if self.look():
            self._append([encode(TickRecord(id=self.ids.next(), at_us=now_us))], requests=0)

    def _append(self, records: list[bytes], *, requests: int) -> bool:
        began_ns = time.perf_counter_ns()
        try:
            self._journal.append(records)
        except JournalUnable as error:
            if self._was_able:
                log.error("journal.unable", error=str(error))  # noqa: TRY400 - the sentence says it all
            self._was_able = False
        else:
            self._was_able = True
            if requests:
                self._wrote.append(("journal", requests, (time.perf_counter_ns() - began_ns) // 1_000))
        return self._was_able

    def _hold(self, suspects: list[Suspect]) -> list[bool]:
        began_ns = time.perf_counter_ns()
        try:
            kept = self._quarantine.keep(suspects)
        except JournalUnable as error:
            self._say("quarantine.unable", error=str(error))
            return [False] * len(suspects)
        self._wrote.append(("quarantine", sum(kept), (time.perf_counter_ns() - began_ns) // 1_000))
        if not all(kept):
            self._say("quarantine.full", advice="answered 503 until there is room: landed quarantine list")
        return kept

    def _say(self, event: str, **about: str) -> None:
        """Log it, once a minute at most."""
        now = time.monotonic()
        if now >= self._say_at.get(event, 0.0):
            self._say_at[event] = now + SAY_SECONDS
            log.error(event, **about)


class Rechecked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the quarantine: how many were let in, and how many stay for which reason."""

    let_in: int = 0
    stay: Mapping[str, int] = {}


class Readmission:
    """Lets requests out of the quarantine into the journal.

    They are appended and then removed, so that a crash in between leaves a duplicate and no hole.
    """

    def __init__(self, quarantine: SqliteQuarantine, journal: Journal, judge: Judge) -> None:
        self._quarantine = quarantine
        self._journal = journal
        self._judge = judge

    def recheck(self, clock_us: Callable[[], int]) -> Rechecked:
        """Judge all of them again, as if they came when they came; what now passes is let in."""
        let_in, stay, after = 0, Counter[str](), 0
        while batch := self._quarantine.read(after, BATCH_ROWS):
            after = batch[-1].id
            verdicts = [self.verdict(held) for held in batch]
            passing = [
                (held, verdict) for held, verdict in zip(batch, verdicts, strict=True) if verdict.keep is Keep.JOURNAL
            ]
            stay.update(verdict.reason for verdict in verdicts if verdict.keep is not Keep.JOURNAL)
            now_us = clock_us()
            self._let_in([(held, _judged_again(held.record, verdict, now_us)) for held, verdict in passing])
            let_in += len(passing)
        return Rechecked(let_in=let_in, stay=stay)

    def verdict(self, held: Held) -> Verdict:
        """What the judge says of one now."""
        if held.reason == TOO_LARGE:
            return self._judge.too_large()
        return self._judge.verdict(request_of(held.record), held.record.received_us, held.record.peer)

    def accept(self, held: Held, *, account: str, by: str, now_us: int) -> None:
        """Let one in, unverified, on a person's word."""
        unverified = Verdict(answer=HTTPStatus.OK, keep=Keep.JOURNAL, account=account)
        record = _judged_again(held.record, unverified, now_us)
        self._let_in([(held, msgspec.structs.replace(record, accepted_by=by))])
        log.warning("quarantine.accepted", id=held.id, by=by, reason=held.reason, account=account)

    def _let_in(self, passing: Sequence[tuple[Held, RequestRecord]]) -> None:
        if passing:
            trusts = [Trust(coverage=Coverage(record.coverage)) for _, record in passing]
            self._journal.append(
                [encode(_as_check(record, trust)) for (_, record), trust in zip(passing, trusts, strict=True)]
            )
            self._quarantine.remove([held for held, _ in passing])


def request_of(record: RequestRecord) -> Request:
    """The request that a record was made of."""
    return Request(method=record.method, path=record.path, query=record.query, headers=record.headers, body=record.body)


def _judged_again(record: RequestRecord, verdict: Verdict, now_us: int) -> RequestRecord:
    """The record with a new verdict; when it came, and what it was answered, stay."""
    return msgspec.structs.replace(
        record,
        at_us=now_us,
        account=verdict.account,
        api_key=verdict.trust.api_key,
        coverage=verdict.trust.coverage,
        verified=verdict.trust.verified,
        stale=verdict.trust.stale,
    )


def _as_check(record: RequestRecord, trust: Trust) -> RequestRecord | CheckRecord:
    """The record of a check in place of a request that is one, by what is trusted of it."""
    found = check_id(request_of(record), trust)
    if found is None:
        return record
    return CheckRecord(
        id=record.id,
        at_us=record.at_us,
        check_id=found,
        verified=record.verified,
        stale=record.stale,
        method=record.method,
        path=record.path,
        peer=record.peer,
    )


def content_of(record: RequestRecord, *, is_cut: bool = False) -> bytes:
    """What a repetition of a request has in common with it, hashed.

    That is all but its headers, and but what the SMS API's signature makes anew for each try. (The
    `timestamp` of the Messages API is a fact.)
    """
    body = read_body(record.body)
    pairs = list(body.pairs)
    if len(body.objects) == 1:
        try:
            pairs = flat_json(body.json)
        except BadSignature:
            pairs = []
    query = read_pairs(record.query)
    parts = (
        record.method,
        record.path,
        _repeated(query) if query else record.query,
        _repeated(pairs) if pairs else record.body,
        is_cut,
    )
    return hashlib.sha256(msgspec.msgpack.encode(parts)).digest()


def _repeated(pairs: Pairs) -> Pairs:
    if any(name in _MESSAGE_ID_NAMES for name, _ in pairs):
        return pairs
    return sorted((name, value) for name, value in pairs if name not in VARYING)


def _suspect(verdict: Verdict, record: RequestRecord) -> Suspect:
    return Suspect(
        content=content_of(record, is_cut=verdict.reason == TOO_LARGE),
        reason=verdict.reason,
        signed=_bears_signature(record),
        record=record,
    )


def _bears_signature(record: RequestRecord) -> bool:
    """Whether there is a signature to judge again, good or bad."""
    request = Request(method=record.method, path=record.path, headers=record.headers)
    if bearer_token(request.header(b"authorization")) is not None:
        return True
    if SIG not in record.query and SIG not in record.body:
        return False
    body = read_body(record.body)
    pairs = (*read_pairs(record.query), *body.pairs)
    return any(name == SIG for name, _ in pairs) or any("sig" in fields for fields in body.objects)
