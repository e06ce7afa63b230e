"""Receipts on the terminal: as they are folded, or as they are read again.

`pretty` is for people, `json` for programs (one object a line), `raw` shows the fields exactly as
Vonage sent them. Phone numbers are masked unless they were asked for; `raw` shows them.
"""

from __future__ import annotations

import os
import pprint
import queue
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TextIO

import msgspec

from landed.api.models import InboundView, ReceiptView
from landed.domain.lifecycle import moment
from landed.domain.receipt import Outcome, Receipt

if TYPE_CHECKING:
    from rich.table import Table

    from landed.domain.lifecycle import Message
    from landed.domain.receipt import Inbound
    from landed.settings import PrintMode
    from landed.worker.fold import Folded

WAITING_LINES_MAX = 20_000
CLOSE_SECONDS = 1.0
PIPED_WIDTH = 200
MASKED_FROM_DIGITS = 7
HEAD_DIGITS = 4
TAIL_DIGITS = 3

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

_numbers = msgspec.json.Encoder(decimal_format="number")


def mode_for(wanted: PrintMode | None, out: TextIO) -> PrintMode:
    """The mode asked for, or the one that suits where the output goes."""
    return wanted or ("pretty" if out.isatty() else "json")


def mask(number: str | None, bullet: str = "•") -> str | None:
    """A phone number with its middle hidden; a sender's name or short code as it is."""
    if number is None or len(number) < MASKED_FROM_DIGITS or not number.lstrip("+").isdigit():
        return number
    hidden = max(1, len(number) - HEAD_DIGITS - TAIL_DIGITS)
    return number[:HEAD_DIGITS] + bullet * hidden + number[len(number) - TAIL_DIGITS :]


def encode_line(view: object) -> str:
    """One JSON object, for one line."""
    return msgspec.json.encode(view).decode()


class Look:
    """How one output looks: with or without colour, numbers masked or not, in its encoding."""

    def __init__(self, out: TextIO, *, show_numbers: bool) -> None:
        self.colour = out.isatty() and not os.environ.get("NO_COLOR")
        self._show_numbers = show_numbers
        self._bullet = "•" if "utf" in (out.encoding or "").lower() else "*"

    def number(self, number: str | None) -> str | None:
        """A number as it may be shown here."""
        return number if self._show_numbers else mask(number, self._bullet)

    def paint(self, text: str, style: Style) -> str:
        """Text in a style, where colour is wanted."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self.colour else text

    def receipt_line(self, receipt: Receipt) -> str:
        """One receipt in a line: Vonage's word, ours, and what identifies it."""
        said = receipt.provider_status or "(no status)"
        status = self.paint(f"{said:<13}", OUTCOME_STYLES[receipt.outcome])
        parts = [status, receipt.message_id, receipt.channel or "?"]
        parts.append(f"{self.number(receipt.to) or '?'} from {self.number(receipt.sender) or '?'}")
        if receipt.network:
            parts.append(f"network {receipt.network}")
        if receipt.code not in (None, "0"):
            parts.append(self.paint(f"code {receipt.code}", "red"))
        if receipt.segments is not None and receipt.segments > 1:
            parts.append(f"{receipt.segments} segments")
        if receipt.price is not None:
            parts.append(f"{receipt.currency or ''} {receipt.price:f}".strip())
        if receipt.status != receipt.provider_status:
            parts.append(self.paint(f"({receipt.status})", "dim"))
        return "  ".join(parts)

    def inbound_line(self, inbound: Inbound) -> str:
        """One inbound message in a line."""
        sender, to = self.number(inbound.sender) or "?", self.number(inbound.to) or "?"
        said = f"{'inbound':<13}  {inbound.message_id}  {inbound.channel or '?'}  from {sender} to {to}"
        return f"{said}  {inbound.text}" if inbound.text else said


class Printer:
    """Prints what was folded, in a thread of its own, so that a slow terminal never holds up the fold."""

    def __init__(self, out: TextIO, mode: PrintMode, *, show_numbers: bool) -> None:
        self._out = out
        self._mode = mode
        self._terminal = out.isatty()
        self._look = Look(out, show_numbers=show_numbers)
        self._queue: queue.Queue[Folded | None] = queue.Queue(WAITING_LINES_MAX)
        self._missed = 0
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
            try:
                self._queue.put_nowait(each)
            except queue.Full:
                self._missed += 1

    def _run(self) -> None:
        # A reader that went away (a closed pipe) ends the printing, never the fold.
        with suppress(OSError, ValueError):
            while (folded := self._queue.get()) is not None:
                for line in self._lines(folded):
                    self._out.write(line + "\n")
                if self._queue.empty():
                    self._out.flush()
                if self._missed:
                    missed, self._missed = self._missed, 0
                    self._out.write(self._note(missed) + "\n")
            self._out.flush()

    def _note(self, missed: int) -> str:
        if self._mode == "json" or not self._terminal:
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
            fields["to"], fields["from"] = self._look.number(fields["to"]), self._look.number(fields["from"])
            yield encode_line({"event": event, **about, **fields})
        if folded.unreadable is not None:
            yield encode_line({"event": "unreadable", **about, "reason": folded.unreadable})

    def _raw(self, folded: Folded) -> Iterator[str]:
        record = folded.record
        target = record.path + (f"?{record.query.decode(errors='replace')}" if record.query else "")
        fields: Sequence[object] = [fact.raw for fact in folded.facts] or [record.body.decode(errors="replace")]
        if self._terminal:
            yield f"{record.method} {target} {record.answer}"
            for each in fields:
                yield pprint.pformat(each)
        else:
            for each in fields:
                line = {"request": f"{record.method} {target}", "answer": record.answer, "fields": each}
                yield _numbers.encode(line).decode()


def _view(fact: Receipt | Inbound, received_at: datetime) -> tuple[str, ReceiptView | InboundView]:
    if isinstance(fact, Receipt):
        return "receipt", ReceiptView.of(fact, received_at=received_at, source="webhook", copies=1)
    return "inbound", InboundView.of(fact)


def clock(time: datetime | None) -> str:
    """A time for people: local, to the second."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def message_table(messages: Sequence[Message], look: Look) -> None:
    """Messages as a table; on a pipe as wide as it needs, on a terminal as wide as that is."""
    from rich.markup import escape  # noqa: PLC0415 - only tables need it
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("seen", "outcome", "said", "channel", "to", "from", "network", "code", "ref"):
        table.add_column(name, no_wrap=True)
    table.add_column("message id", overflow="fold")
    for message in messages:
        style = OUTCOME_STYLES[message.outcome]
        flag = " (conflict)" if message.conflict else ""
        table.add_row(
            clock(message.seen_at),
            f"[{style}]{message.outcome}[/]{flag}",
            *(
                escape(str(value or ""))
                for value in (
                    message.provider_status,
                    message.channel,
                    look.number(message.to),
                    look.number(message.sender),
                    message.network,
                    message.code if message.code != "0" else "",
                    message.client_ref,
                    message.message_id,
                )
            ),
        )
    _print_rich(table, look)


def outcome_table(rows: Sequence[tuple[str, str, str, Message | None]], look: Look) -> None:
    """What became of each message of a demonstration: (what happens to it, API, recipient, message)."""
    from rich.table import Table  # noqa: PLC0415 - only tables need it

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("api", "to", "what the network does", "receipts", "Vonage's last word", "outcome", "message id"):
        table.add_column(name, no_wrap=True)
    for what, api, to, message in rows:
        if message is None:
            table.add_row(api, look.number(to), what, "0", "", "unknown", "")
            continue
        outcome = f"[{OUTCOME_STYLES[message.outcome]}]{message.outcome}[/]"
        said = message.provider_status if message.receipts else ""
        table.add_row(api, look.number(to), what, str(message.receipts), said, outcome, message.message_id)
    _print_rich(table, look)


def _print_rich(table: Table, look: Look) -> None:
    from rich.console import Console  # noqa: PLC0415 - only tables need it

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    Console(width=width, no_color=not look.colour, highlight=False).print(table)
