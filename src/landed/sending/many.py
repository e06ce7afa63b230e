"""Many sends from a list, at a rate, which go on where they ended: nothing of the list is sent twice.

Each line has a client reference: its own, or one made of what it says. What was begun, sent or left unclear under that
reference in a list of that name is not sent again, whoever ran it and however it ended; what Vonage certainly
refused is.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from landed.domain.numbers import normal_number
from landed.domain.receipt import Api
from landed.domain.sending import SendState
from landed.errors import SettingsError, SurroundingsError
from landed.journal.record import IntentRecord, NotSentRecord, SentRecord, decode_told
from landed.journal.sqlite import FILE, SqliteJournal
from landed.sending.sender import REF_PREFIX, Sender, Sent
from landed.store.sqlite import FILE as STORE_FILE
from landed.store.sqlite import SqliteReader
from landed.vonage.account import Outgoing

COLUMNS = ("to", "text", "from", "client_ref", "channel", "api", "ttl")
RECORDS_A_READ = 10_000
LINES_MAX = 1_000_000
# What is wrong with the account is wrong with every line.
FATAL = frozenset({"invalid-credentials", "insufficient-credit", "account-barred", "communication-failed"})


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a list, and what is to be sent for it."""

    number: int
    outgoing: Outgoing


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a line: `before` is a run before this one, which is why it was left alone."""

    line: Line
    state: SendState
    before: bool = False
    sent: Sent | None = None


class Summary(msgspec.Struct, kw_only=True):
    """What became of a list. `stopped` has the reason why it ended before its end."""

    lines: int
    states: Counter[str] = msgspec.field(default_factory=Counter)
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    stopped: str = ""

    @property
    def is_sent(self) -> bool:
        """Whether every line was sent, now or before."""
        return self.states["sent"] + self.states["sent before"] == self.lines


def read_list(file: Path, batch: str, usual: Outgoing) -> list[Line]:
    """The lines of a CSV file with a header; `usual` has what they do not say. SettingsError names all wrong ones."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            _check_header(file, reader.fieldnames or ())
            return _lines(file, reader, batch, usual)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"The list {file} cannot be read: {error}.") from error


def send_list(  # noqa: PLR0913 - what bounds it, and whom it tells
    lines: Iterable[Line],
    known: Mapping[str, SendState],
    sender: Sender,
    batch: str,
    *,
    rate: float,
    heard: Callable[[Result], None],
    is_stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Summary:
    """Send what was not sent before, at most so many a second; each line's result is told as it comes."""
    lines = list(lines)
    _check(sender, [line for line in lines if line.outgoing.client_ref not in known])
    summary = Summary(lines=len(lines))
    next_at = clock()
    for line in lines:
        if is_stopped():
            summary.stopped = "interrupted"
            break
        state = known.get(line.outgoing.client_ref)
        if state is not None:
            # Of what was begun and has no end, nobody knows.
            state = SendState.UNCLEAR if state is SendState.BEGUN else state
            result = Result(line=line, state=state, before=True)
        else:
            wait(max(0.0, next_at - clock()))
            next_at = max(next_at, clock()) + 1 / rate
            sent = sender.send(line.outgoing, batch=batch, number=line.number)
            result = Result(line=line, state=sent.state, sent=sent)
        summary.states[_name(result)] += 1
        heard(result)
        if result.sent is not None and result.state is SendState.REFUSED:
            summary.reasons[result.sent.reason] += 1
            if result.sent.reason in FATAL:
                summary.stopped = result.sent.reason
                break
    return summary


def known_of(data: Path, batch: str) -> dict[str, SendState]:
    """What was begun before in a list of that name, by client reference; what was only refused is as if it were not.

    It is read from the store as far as that goes, and from the journal behind it.
    """
    position, partly = 0, set[str]()
    states: dict[str, SendState] = {}
    refs: dict[bytes, str] = {}
    with suppress(SurroundingsError), closing(SqliteReader(data / STORE_FILE)) as reader:
        progress = reader.progress()
        if progress is not None:
            position = progress.position
            for sending in reader.sendings(batch):
                refs[sending.id] = sending.client_ref
                _note(states, sending.client_ref, sending.state)
                if sending.parts:
                    partly.add(sending.client_ref)
    if (data / FILE).exists():
        with closing(SqliteJournal(data / FILE)) as journal:
            while rows := journal.read(position, RECORDS_A_READ):
                position = rows[-1][0]
                for _, record in rows:
                    _read(record, batch, refs, states, partly)
    return {ref: state for ref, state in states.items() if state is not SendState.REFUSED or ref in partly}


@contextmanager
def alone(data: Path, batch: str) -> Iterator[None]:
    """Let nobody else send this list meanwhile. SurroundingsError when somebody does."""
    data.mkdir(parents=True, exist_ok=True)
    name = hashlib.blake2b(batch.encode(), digest_size=8).hexdigest()
    with (data / f"sending-{name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SurroundingsError(
                f"The list {batch} is being sent by another process: let that one end, or stop it."
            ) from error
        yield


def _check(sender: Sender, lines: Iterable[Line]) -> None:
    """SettingsError where one of these could not be sent at all: nothing of the list is then."""
    for line in lines:
        try:
            sender.check(line.outgoing)
        except SettingsError as error:
            raise SettingsError(f"Nothing of the list was sent: line {line.number}: {error}") from error


def _name(result: Result) -> str:
    return f"{result.state.name.lower()} before" if result.before else result.state.name.lower()


def _note(states: dict[str, SendState], ref: str, state: SendState) -> None:
    """Of several sends under one reference, one that may have left weighs more than one that certainly did not."""
    weights = {SendState.REFUSED: 0, SendState.BEGUN: 1, SendState.UNCLEAR: 2, SendState.SENT: 3}
    if ref not in states or weights[state] > weights[states[ref]]:
        states[ref] = state


def _read(data: bytes, batch: str, refs: dict[bytes, str], states: dict[str, SendState], partly: set[str]) -> None:
    record = decode_told(data)
    if isinstance(record, IntentRecord) and record.batch == batch:
        refs[record.id] = record.client_ref
        _note(states, record.client_ref, SendState.BEGUN)
    elif isinstance(record, SentRecord) and record.intent in refs:
        _note(states, refs[record.intent], SendState.SENT)
        partly.add(refs[record.intent])
    elif isinstance(record, NotSentRecord) and record.intent in refs:
        state = SendState.UNCLEAR if record.unclear else SendState.REFUSED
        if states.get(refs[record.intent]) is SendState.BEGUN:
            states[refs[record.intent]] = state


def _check_header(file: Path, names: Iterable[str]) -> None:
    names = list(names)
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in ("to", "text") if name not in names]
    if unknown or missing:
        raise SettingsError(
            f"The header of {file} is {', '.join(names) or 'empty'}: it must have to and text, and may have "
            f"{', '.join(COLUMNS[2:])}, and nothing else."
        )


def _lines(file: Path, rows: Iterable[Mapping[str, str | None]], batch: str, usual: Outgoing) -> list[Line]:
    lines: list[Line] = []
    wrong: list[str] = []
    counted: Counter[tuple[str, str]] = Counter()
    refs: dict[str, int] = {}
    for number, row in enumerate(rows, 2):
        if number > LINES_MAX:
            raise SettingsError(f"The list {file} has more than {LINES_MAX:,} lines: send it in pieces.")
        try:
            outgoing = _outgoing(row, usual)
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
            continue
        counted[outgoing.to, outgoing.text] += 1
        ref = outgoing.client_ref or _ref(batch, outgoing, counted[outgoing.to, outgoing.text])
        if ref in refs:
            wrong.append(f"line {number}: its client reference {ref} is line {refs[ref]}'s, too")
        refs[ref] = number
        lines.append(Line(number=number, outgoing=msgspec.structs.replace(outgoing, client_ref=ref)))
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""  # noqa: PLR2004 - as many as a person reads
        raise SettingsError(f"The list {file} cannot be sent; {'; '.join(wrong[:5])}{more}.")
    return lines


def _outgoing(row: Mapping[str, str | None], usual: Outgoing) -> Outgoing:
    """What a line wants sent. ValueError says what is wrong with it."""
    if None in row:
        raise ValueError("it has more fields than the header")
    given = {name: (value or "").strip() for name, value in row.items()}
    to, text = normal_number(given["to"]), row["text"] or ""
    if not to or not text or not (given.get("from") or usual.sender):
        raise ValueError("to, text or from is empty")
    if given.get("api") and given["api"] not in tuple(Api):
        raise ValueError(f"{given['api']!r} is no API")
    if given.get("ttl") and not given["ttl"].isdecimal():
        raise ValueError(f"{given['ttl']!r} is no time to live in seconds")
    return Outgoing(
        api=Api(given["api"]) if given.get("api") else usual.api,
        channel=given.get("channel") or usual.channel,
        to=to,
        sender=normal_number(given.get("from") or usual.sender),
        text=text,
        client_ref=given.get("client_ref", ""),
        ttl_seconds=int(given["ttl"]) if given.get("ttl") else usual.ttl_seconds,
    )


def _ref(batch: str, outgoing: Outgoing, nth: int) -> str:
    """A reference that is the same each time the same line of the same list is read."""
    told = "\0".join((batch, outgoing.to, outgoing.text, str(nth)))
    return REF_PREFIX + hashlib.blake2b(told.encode(), digest_size=12).hexdigest()
