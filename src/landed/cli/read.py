"""Commands that read what is known: `list`, `show`, `tail`. They read the store directly, from any process."""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import PAGE_MAX, Data, Json, ShowNumbers
from landed.domain.numbers import normal_number
from landed.errors import SettingsError

if TYPE_CHECKING:
    from landed.cli.printing import Look
    from landed.domain.lifecycle import Fact, Message
    from landed.store.sqlite import SqliteReader

LIMIT = 50
SHOWN_MAX = 20
TAIL_SECONDS = 0.1
TAIL_ROWS = 500
SECOND_MS = 1_000
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Outcome = Annotated[str | None, typer.Option(help="pending, delivered, failed or unconfirmed.")]


def list_messages(  # noqa: PLR0913 - one argument a filter
    *,
    outcome: Outcome = None,
    status: Annotated[str | None, typer.Option(help="Our word for the state, or Vonage's.")] = None,
    channel: Annotated[str | None, typer.Option(help="sms, mms, rcs, whatsapp, messenger, viber_service.")] = None,
    network: Annotated[str | None, typer.Option(help="Network code, as Vonage gives it.")] = None,
    to: Annotated[str | None, typer.Option(help="Recipient; +, 00 and spaces are understood.")] = None,
    client_ref: Annotated[str | None, typer.Option(help="Your own reference.")] = None,
    since: Annotated[str | None, typer.Option(help="2h, 3d, 2026-11-20 or a full time.")] = None,
    until: Annotated[str | None, typer.Option(help="The same forms.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_MAX, help="How many at most.")] = LIMIT,
    after: Annotated[str | None, typer.Option(help="Go on behind this message id.", metavar="ID")] = None,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """List messages, newest first.

    Example: landed list --outcome failed --since 24h
    """
    from landed.store import Filter  # noqa: PLC0415

    now = datetime.now(UTC)
    wanted = Filter(
        outcome=_outcome(outcome),
        status=None if status is None else status.lower(),
        channel=None if channel is None else channel.lower(),
        network=network,
        to=None if to is None else normal_number(to),
        client_ref=client_ref,
        since=read_moment(since, now, "--since"),
        until=read_moment(until, now, "--until"),
    )
    reader = _reader(data, quiet=json)
    if reader is None:
        return
    if after is not None and not reader.find(after, limit=1):
        raise SettingsError(f"--after {after} is no message that is known here.")
    messages = reader.messages(wanted, limit=limit, after=after)
    if json:
        _print_json(messages)
    elif messages:
        _print_table(messages, show_numbers=show_numbers)
        if len(messages) == limit:
            typer.echo(f"There may be more: landed list … --after {messages[-1].message_id}")
    else:
        typer.echo("No message fits." if reader.newest_receipt() else _nothing_yet(_directory(data)))


def show(
    reference: Annotated[str, typer.Argument(metavar="ID", help="Message id, or your client reference.")],
    *,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Show one message and all that was said of it.

    Every receipt in order, with Vonage's words and ours.

    Example: landed show aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab
    """
    reader = _reader(data, quiet=json)
    if reader is None:
        return
    messages = reader.find(reference, limit=PAGE_MAX if json else SHOWN_MAX)
    if not messages:
        if not json:
            typer.echo(f"No receipt has named {reference}, as a message id or as a client reference.", err=True)
        raise typer.Exit(1)
    from landed.domain.lifecycle import in_order  # noqa: PLC0415

    for message in messages:
        facts = in_order(kept.fact for kept in reader.facts(message))
        if json:
            _print_story_json(message, facts)
        else:
            _print_story(message, facts, show_numbers=show_numbers)
    if not json and len(messages) == SHOWN_MAX:
        typer.echo(f"These are the newest {SHOWN_MAX}. All of them: landed list --client-ref {reference}")


def tail(
    *,
    outcome: Outcome = None,
    last: Annotated[
        int, typer.Option(min=0, max=PAGE_MAX, help="Begin with the fitting ones of so many already there.")
    ] = 10,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Print each new receipt, live.

    It may run beside the server, and ends with Ctrl-C.

    Example: landed tail --outcome failed
    """
    from landed.api.models import ReceiptView  # noqa: PLC0415
    from landed.cli.printing import Look, clock, encode_line  # noqa: PLC0415

    wanted = _outcome(outcome)
    reader = _reader(data, quiet=json)
    look = Look(sys.stdout, show_numbers=show_numbers)
    with suppress(KeyboardInterrupt):
        while reader is None:
            time.sleep(TAIL_SECONDS)
            reader = _reader(data, quiet=True)
        row = max(0, reader.newest_receipt() - last)
        while True:
            rows = list(reader.receipts_after(row, TAIL_ROWS))
            for kept, _message in rows:
                row = kept.row
                if kept.fact.source == "sent" or wanted not in (None, kept.fact.receipt.outcome):
                    continue
                view = ReceiptView.of_fact(kept.fact)
                typer.echo(
                    encode_line(view)
                    if json
                    else f"{look.paint(clock(kept.fact.received_at), 'dim')}  {look.receipt_line(kept.fact.receipt)}"
                )
            if len(rows) < TAIL_ROWS:
                time.sleep(TAIL_SECONDS)


def read_moment(typed: str | None, now: datetime, option: str) -> datetime | None:
    """A moment as a person types it: `2h` ago, a day, or a time (local where no zone is given)."""
    if typed is None:
        return None
    ago = re.fullmatch(r"(\d{1,6})([smhdw])", typed.strip())
    try:
        if ago:
            return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(typed.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{option} {typed!r} is no time: write 2h, 3d, 2026-11-20 or 2026-11-20T14:00.") from error


def _outcome(typed: str | None) -> str | None:
    from landed.domain.receipt import Outcome as Known  # noqa: PLC0415

    if typed is not None and typed not in tuple(Known):
        raise SettingsError(f"--outcome {typed!r} is none: choose {', '.join(Known)}.")
    return typed


def _reader(data: Path | None, *, quiet: bool) -> SqliteReader | None:
    from landed import run  # noqa: PLC0415

    directory = _directory(data)
    path = run.store_path(directory)
    if not path.exists():
        if not quiet:
            typer.echo(_nothing_yet(directory))
        return None
    from landed.store.sqlite import SqliteReader  # noqa: PLC0415

    return SqliteReader(path)


def _directory(data: Path | None) -> Path:
    from landed.settings import load  # noqa: PLC0415

    return load(data=data).data


def _nothing_yet(directory: Path) -> str:
    return (
        f"Nothing here yet, in {directory}. Start `landed serve` and point Vonage at it, "
        "or see it all work offline with `landed demo`."
    )


def _print_json(messages: list[Message]) -> None:
    from landed.api.models import MessageView  # noqa: PLC0415
    from landed.cli.printing import encode_line  # noqa: PLC0415

    for message in messages:
        typer.echo(encode_line(MessageView.of(message)))


def _print_story_json(message: Message, facts: list[Fact]) -> None:
    import msgspec  # noqa: PLC0415

    from landed.api.models import MessageView, ReceiptView  # noqa: PLC0415
    from landed.cli.printing import encode_line  # noqa: PLC0415

    story = [msgspec.to_builtins(ReceiptView.of_fact(fact)) for fact in facts]
    typer.echo(encode_line(msgspec.to_builtins(MessageView.of(message)) | {"history": story}))


def _print_table(messages: list[Message], *, show_numbers: bool) -> None:
    from landed.cli.printing import Look, message_table  # noqa: PLC0415

    message_table(messages, Look(sys.stdout, show_numbers=show_numbers), sys.stdout)


def _print_story(message: Message, facts: list[Fact], *, show_numbers: bool) -> None:
    from landed.cli.printing import Look  # noqa: PLC0415

    look = Look(sys.stdout, show_numbers=show_numbers)
    for line in _story(message, facts, look):
        typer.echo(line)


def _story(message: Message, facts: list[Fact], look: Look) -> list[str]:
    from landed.cli.printing import CODES_OF_SUCCESS, OUTCOME_STYLES, clock  # noqa: PLC0415

    conflict = look.paint("  conflict: both delivered and failed were said", "red") if message.conflict else ""
    about = {
        "outcome": look.paint(message.outcome, OUTCOME_STYLES[message.outcome]) + conflict,
        "status": f"{message.status} (Vonage: {look.clean(message.provider_status) or 'no status'})",
        "channel": f"{look.clean(message.channel or '?')}, {message.api} API",
        "to": None if message.to is None else look.number(message.to),
        "from": None if message.sender is None else look.number(message.sender),
        "client ref": None if message.client_ref is None else look.clean(message.client_ref),
        "network": None if message.network is None else look.clean(message.network),
        "code": None if message.code in CODES_OF_SUCCESS else look.clean(message.code or ""),
        "price": None if message.price is None else look.price(message.price, message.currency),
        "sent": clock(message.sent_at) or None,
        "latency": None if message.latency_ms is None else _duration(message.latency_ms),
        "signed": "yes" if message.verified else "no: unverified",
    }
    lines = [look.paint(look.clean(message.message_id), "bold")]
    lines += [f"  {name:<11}{value}" for name, value in about.items() if value is not None]
    return [*lines, "", *(_line_of_story(fact, look) for fact in facts), ""]


def _duration(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < SECOND_MS else f"{milliseconds / SECOND_MS:.1f} s"


def _line_of_story(fact: Fact, look: Look) -> str:
    from landed.cli.printing import CODES_OF_SUCCESS, clock  # noqa: PLC0415

    receipt = fact.receipt
    notes = [f"occurred {clock(receipt.occurred_at)}" if receipt.occurred_at else "no time given"]
    if receipt.code not in CODES_OF_SUCCESS:
        notes.append(f"code {look.clean(receipt.code or '')}")
    if receipt.detail:
        notes.append(look.clean(receipt.detail))
    if fact.copies > 1:
        notes.append(f"came {fact.copies} times")
    if fact.source == "sent":
        notes.append("told by the sender")
    elif not receipt.verified:
        notes.append("unverified")
    if receipt.stale:
        notes.append("stale")
    said = f"{look.clean(receipt.provider_status) or '(no status)':<13} → {receipt.status:<12}"
    return f"  {look.paint(clock(fact.received_at), 'dim')}  {said}  {', '.join(notes)}"
