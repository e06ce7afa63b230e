"""Receipts on the terminal: as they are folded, or as they are read again.

`pretty` is for people, `json` for programs (one object a line), `raw` shows the fields exactly as
Vonage sent them. Phone numbers are masked unless they were asked for; `raw` shows them. What others
sent is never let near the terminal with characters that would steer it.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TextIO

import msgspec

from landed.domain.moments import moment
from landed.domain.numbers import BULLET, masked
from landed.domain.reasons import reason_for, reason_of, says_something
from landed.domain.receipt import Outcome, Receipt
from landed.domain.views import InboundView, ReceiptView

if TYPE_CHECKING:
    from decimal import Decimal

    from landed.domain.lifecycle import Message
    from landed.domain.receipt import Inbound
    from landed.settings import PrintMode
    from landed.worker.fold import Folded

GAP = 2
YEARS_OF_FOUR_DIGITS = 1_000
NAME_WIDTH = 13
WIDTH_MIN = 40
WIDTH_MAX = 110
PIPED_WIDTH = 100
SECOND_MS, MINUTE, HOUR, DAY = 1_000, 60, 3_600, 86_400
PIPED_WIDTH_MAX = 10_000
WAITING_LINES_MAX = 20_000
WAITING_BYTES_MAX = 16 * 1024 * 1024
CLOSE_SECONDS = 1.0

WHOLE_NUMBER = re.compile(r"\+?\d{10,15}")
PARTY_DIGITS = 7

# Control characters, and those that turn the direction of text.
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

Style = Literal["green", "red", "yellow", "cyan", "dim", "bold"]
STYLES: Mapping[Style, str] = {
    "green": "32",
    "red": "31",
    "yellow": "33",
    "cyan": "36",
    "dim": "2",
    "bold": "1",
}
OUTCOME_STYLES: Mapping[str, Style] = {
    Outcome.DELIVERED: "green",
    Outcome.FAILED: "red",
    Outcome.UNCONFIRMED: "yellow",
    Outcome.PENDING: "cyan",
}

MOVES = {
    "nobody": "nobody's",
    "sender": "yours",
    "recipient": "the recipient's",
    "carrier": "the carrier's",
    "vonage": "Vonage's",
}

_numbers = msgspec.json.Encoder(decimal_format="number")


def mode_for(wanted: PrintMode | None, out: TextIO) -> PrintMode:
    """The mode asked for, or the one that suits where the output goes."""
    return wanted or ("pretty" if out.isatty() else "json")


def encode_line(view: object) -> str:
    """One JSON object, for one line."""
    return msgspec.json.encode(view).decode()


class Look:
    """How one output looks: with or without colour, numbers masked or not, in its encoding."""

    def __init__(self, out: TextIO, *, show_numbers: bool) -> None:
        self.is_terminal = out.isatty()
        self.colour = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._show_numbers = show_numbers
        self.is_wide = "utf" in (out.encoding or "").lower()
        self.arrow = "→" if self.is_wide else "->"
        self._bullet = BULLET if self.is_wide else "*"

    def mask(self, text: str | None) -> str | None:
        """A text with its numbers as they may be shown here."""
        return text if self._show_numbers or text is None else masked(text, self._bullet)

    def number(self, number: str | None) -> str:
        """A party's number or name, for people."""
        return self.clean(self.mask(number) or "?")

    def clean(self, text: str) -> str:
        """What somebody else wrote, without the characters that would steer the terminal."""
        return STEERING.sub("\ufffd", text)

    def paint(self, text: str, style: Style) -> str:
        """Text in a style, where colour is wanted."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self.colour else text

    def receipt_line(self, receipt: Receipt) -> str:
        """One receipt in a line: Vonage's word, ours, and what identifies it."""
        said = self.clean(receipt.provider_status) or "(no status)"
        parts = [self.paint(f"{said:<13}", OUTCOME_STYLES[receipt.outcome]), self.clean(receipt.message_id)]
        parts.append(self.number(receipt.channel))
        parts.append(f"{self.number(receipt.to)} from {self.number(receipt.sender)}")
        if receipt.network:
            parts.append(f"network {self.clean(receipt.network)}")
        if says_something(receipt.code):
            code = self.clean(receipt.code or "")
            parts.append(self.paint(f"code {code} ({reason_for(receipt.api, code).slug})", "red"))
        if receipt.segments is not None and receipt.segments > 1:
            parts.append(f"{receipt.segments} segments")
        if receipt.price is not None:
            parts.append(self.price(receipt.price, receipt.currency))
        if receipt.status != receipt.provider_status:
            parts.append(self.paint(f"({receipt.status})", "dim"))
        return "  ".join(parts)

    def inbound_line(self, inbound: Inbound) -> str:
        """One inbound message in a line."""
        parts = [f"{'inbound':<13}", self.clean(inbound.message_id), self.clean(inbound.channel or "?")]
        parts.append(f"from {self.number(inbound.sender)} to {self.number(inbound.to)}")
        if inbound.text:
            parts.append(self.clean(self.mask(inbound.text) or ""))
        return "  ".join(parts)

    def reference(self, reference: str | None, *parties: str | None) -> str:
        """Somebody's own reference; one that is a number, or has one of the parties' in it, is masked like those."""
        text = reference or ""
        numbers = [each for each in parties if each is not None and len(each) >= PARTY_DIGITS]
        is_number = WHOLE_NUMBER.fullmatch(text) or any(number in text for number in numbers)
        return self.clean((self.mask(text) or "") if is_number else text)

    def price(self, price: Decimal, currency: str | None) -> str:
        """A price, with its currency where Vonage names one."""
        return f"{self.clean(currency or '')} {price:f}".strip()


class Printer:
    """Prints what was folded, in a thread of its own, so that a slow terminal never holds up the fold."""

    def __init__(self, out: TextIO, mode: PrintMode, *, show_numbers: bool) -> None:
        self._out = out
        self._mode = mode
        self._look = Look(out, show_numbers=show_numbers)
        self._queue: queue.Queue[Folded | None] = queue.Queue(WAITING_LINES_MAX)
        self._waiting_bytes = 0
        self._missed = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="printer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(CLOSE_SECONDS)

    def heard(self, folded: Sequence[Folded]) -> None:
        """Take what was folded; what the terminal cannot keep up with is counted, not waited for."""
        for each in folded:
            size = _size(each)
            with self._counting:
                if self._waiting_bytes + size > WAITING_BYTES_MAX or self._queue.full():
                    self._missed += 1
                    continue
                self._waiting_bytes += size
            self._queue.put(each)

    def _run(self) -> None:
        # A reader that went away (a closed pipe) ends the printing, never the fold.
        with suppress(OSError):
            while (folded := self._queue.get()) is not None and not self._out.closed:
                with self._counting:
                    self._waiting_bytes -= _size(folded)
                    missed, self._missed = self._missed, 0
                for line in self._lines(folded):
                    self._out.write(line + "\n")
                if missed:
                    self._out.write(self._note(missed) + "\n")
                if self._queue.empty():
                    self._out.flush()
            self._out.flush()

    def _note(self, missed: int) -> str:
        if self._mode == "json" or not self._look.is_terminal:
            return encode_line({"event": "not_printed", "count": missed})
        return f"… {missed} more were kept but not printed: the terminal was too slow."

    def _lines(self, folded: Folded) -> Iterator[str]:
        if self._mode == "raw":
            yield from self._raw(folded)
        elif self._mode == "json":
            yield from self._json(folded)
        else:
            yield from self._pretty(folded)

    def _pretty(self, folded: Folded) -> Iterator[str]:
        record, look = folded.record, self._look
        time = moment(record.received_us).astimezone().strftime("%H:%M:%S")
        trust = "signed" if record.verified else look.paint("unverified", "yellow")
        notes = [trust, *(["stale"] if record.stale else []), *([] if folded.new else ["duplicate"])]
        request = look.paint(f"{record.method} {record.path}", "bold")
        yield f"{look.paint(time, 'dim')}  {request} {record.answer}  {look.paint(', '.join(notes), 'dim')}"
        for fact in folded.facts:
            yield "          " + (look.receipt_line(fact) if isinstance(fact, Receipt) else look.inbound_line(fact))
        if folded.unreadable is not None:
            yield "          " + look.paint(f"unreadable: {folded.unreadable} Kept as record {folded.position}.", "red")

    def _json(self, folded: Folded) -> Iterator[str]:
        record = folded.record
        received_at = moment(record.received_us)
        about: dict[str, object] = {"request": f"{record.method} {record.path}", "answer": record.answer}
        about |= {"received_at": received_at, "position": folded.position, "duplicate": not folded.new}
        for fact in folded.facts:
            event, view = _view(fact, received_at)
            fields = msgspec.to_builtins(view)
            fields |= {name: self._look.mask(fields[name]) for name in ("to", "from", "text") if name in fields}
            yield encode_line({"event": event, **about, **fields})
        if folded.unreadable is not None:
            yield encode_line({"event": "unreadable", **about, "reason": folded.unreadable})

    def _raw(self, folded: Folded) -> Iterator[str]:
        record = folded.record
        target = record.path + (f"?{record.query.decode(errors='replace')}" if record.query else "")
        fields: Sequence[object] = [fact.raw for fact in folded.facts] or [record.body.decode(errors="replace")]
        for each in fields:
            if self._look.is_terminal:
                yield self._look.clean(f"{record.method} {target} {record.answer}")
                yield from map(self._look.clean, msgspec.json.format(_numbers.encode(each)).decode().split("\n"))
            else:
                line = {"request": f"{record.method} {target}", "answer": record.answer, "fields": each}
                yield _numbers.encode(line).decode()


def _size(folded: Folded) -> int:
    return len(folded.record.body) + len(folded.record.query)


def _view(fact: Receipt | Inbound, received_at: datetime) -> tuple[str, ReceiptView | InboundView]:
    if isinstance(fact, Receipt):
        return "receipt", ReceiptView.of(fact, received_at)
    return "inbound", InboundView.of(fact)


def clock(time: datetime | None) -> str:
    """A time for people: local, to the second; in UTC at the ends of time, where no zone reaches."""
    if time is None:
        return ""
    with suppress(OverflowError, ValueError):
        time = time.astimezone()
    return f"{time:%Y-%m-%d %H:%M:%S}" if time.year >= YEARS_OF_FOUR_DIGITS else time.isoformat(" ", "seconds")[:19]


class Column(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A column of a table; numbers stand to the right. Of a narrow terminal the highest `leaves` goes first."""

    name: str
    cells: Sequence[str]
    leaves: int = 0
    styles: Sequence[Style] = ()
    is_number: bool = False


def print_table(columns: Sequence[Column], look: Look, out: TextIO) -> None:
    """Columns side by side: all of them on a pipe, as many as fit on a terminal; none is ever cut."""
    from rich.cells import cell_len  # noqa: PLC0415 - only tables need it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = {column: max(map(cell_len, [column.name, *column.cells])) for column in columns if any(column.cells)}
    width = shutil.get_terminal_size().columns if look.is_terminal else PIPED_WIDTH_MAX
    while sum(shown.values()) + GAP * (len(shown) - 1) > width and any(column.leaves for column in shown):
        del shown[max(shown, key=lambda column: column.leaves)]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column, cells_wide in shown.items():
        # Rich aligns nothing that it may not cut.
        name = column.name.rjust(cells_wide) if column.is_number else column.name
        table.add_column(name, no_wrap=True, overflow="ignore")
    for row in range(len(columns[0].cells)):
        cells = (
            (column.cells[row].rjust(width) if column.is_number else column.cells[row], column)
            for column, width in shown.items()
        )
        table.add_row(*(Text(cell, column.styles[row] if column.styles else "") for cell, column in cells))
    console = Console(file=out, width=max(width, sum(shown.values()) + GAP * len(shown)), color_system=_colours(look))
    console.print(table, crop=False)


def _colours(look: Look) -> Literal["standard"] | None:
    return "standard" if look.colour else None


def message_table(messages: Sequence[Message], look: Look, out: TextIO) -> None:
    """What `list` shows of messages."""

    def cells(field: str) -> list[str]:
        return [look.clean(str(getattr(message, field) or "")) for message in messages]

    conflict = ["conflict" if message.conflict else "" for message in messages]
    codes = [look.clean((message.code or "") if says_something(message.code) else "") for message in messages]
    reasons = [reason_of(each.api, each.status, each.outcome, each.provider_status, each.code) for each in messages]
    references = [look.reference(each.client_ref, each.to, each.sender) for each in messages]
    columns = [
        Column(name="first seen", cells=[clock(message.seen_at) for message in messages], leaves=3),
        Column(name="outcome", cells=cells("outcome"), styles=[OUTCOME_STYLES[each.outcome] for each in messages]),
        Column(name="", cells=conflict),
        Column(name="Vonage said", cells=cells("provider_status"), leaves=2),
        Column(name="why", cells=["" if reason is None else reason.slug for reason in reasons], leaves=1),
        Column(name="code", cells=codes, leaves=8),
        Column(
            name="channel", cells=[look.number(each.channel) if each.channel else "" for each in messages], leaves=4
        ),
        Column(name="to", cells=["" if each.to is None else look.number(each.to) for each in messages]),
        Column(
            name="from", cells=["" if each.sender is None else look.number(each.sender) for each in messages], leaves=6
        ),
        Column(name="network", cells=cells("network"), leaves=5),
        Column(name="client ref", cells=references, leaves=7),
        Column(name="message id", cells=cells("message_id")),
    ]
    print_table(columns, look, out)


def named_lines(rows: Mapping[str, str], look: Look) -> Iterator[str]:
    """Names and texts, the texts wrapped beside their names; what is empty is left out."""
    for name, value in rows.items():
        if value:
            first, *others = wrapped(value, look, indent=" " * (NAME_WIDTH + 2))
            yield f"  {look.paint(f'{name:<{NAME_WIDTH}}', 'dim')}{first.lstrip()}"
            yield from others


def wrapped(text: str, look: Look, *, indent: str) -> list[str]:
    """A text in lines as wide as may be."""
    if not text.isascii():
        return _wrapped_by_cells(text, width_of(look), indent)
    lines = textwrap.wrap(
        text,
        width_of(look),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return lines or [indent]


def _wrapped_by_cells(text: str, width: int, indent: str) -> list[str]:
    """The same where a character may be two columns wide, or none."""
    from rich.console import Console  # noqa: PLC0415 - only what is seldom needs it
    from rich.text import Text  # noqa: PLC0415

    lines = Text(text).wrap(Console(width=width), width - len(indent))
    return [f"{indent}{line.plain.rstrip()}" for line in lines]


def width_of(look: Look) -> int:
    """How wide text may be: as the terminal, within what reads well."""
    columns = shutil.get_terminal_size().columns if look.is_terminal else PIPED_WIDTH
    return max(WIDTH_MIN, min(columns, WIDTH_MAX))


def duration(milliseconds: float) -> str:
    """A time that something took, short and exact enough."""
    if milliseconds < SECOND_MS:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / SECOND_MS
    return f"{seconds:.1f} s" if seconds < MINUTE else span(seconds)


def span(seconds: float) -> str:
    """A longer time in its two greatest units."""
    whole = int(seconds)
    for unit, name, lesser, lesser_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // lesser
            return f"{whole // unit} {name}" + (f" {rest} {lesser_name}" if rest else "")
    return f"{max(whole, 0)} s"
