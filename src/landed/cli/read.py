"""Commands that read what is known: `list`, `show`, `tail`, `stats`, `reasons`. Any process may, at any time."""

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
    from landed.domain.lifecycle import Message
    from landed.store.sqlite import SqliteReader

LIMIT = 50
SHOWN_MAX = 20
STATS_ROWS = 20
HOURS_SHOWN = timedelta(days=7)
TAIL_SECONDS = 0.1
TAIL_ROWS = 500
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
            _say_more(messages[-1].message_id)
    else:
        typer.echo("No message fits." if reader.newest_receipt() else _nothing_yet(_directory(data)))


def show(
    reference: Annotated[str, typer.Argument(metavar="ID", help="Message id, or your client reference.")],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="The requests themselves, as they came, with full numbers.")
    ] = False,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Show one message and all that was said of it.

    Every receipt in order, with Vonage's words and ours, what it means, what it is worth, and what to do.

    Example: landed show aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab
    """
    reader = _reader(data, quiet=json)
    if reader is None:
        return
    from landed.cli.story import print_json, print_requests, print_sending, print_story  # noqa: PLC0415

    messages = reader.find(reference, limit=PAGE_MAX if json else SHOWN_MAX)
    if not messages:
        # What landed was asked to send is known even where nobody took it.
        sendings = reader.sendings_of(reference)
        for sending in sendings:
            print_sending(sending, json=json, show_numbers=show_numbers)
        if not sendings and not json:
            typer.echo(f"No receipt has named {reference}, as a message id or as a client reference.", err=True)
        raise typer.Exit(0 if sendings else 1)
    for message in messages:
        if json:
            print_json(message, reader, _directory(data), raw=raw)
        elif raw:
            print_requests(message, reader, _directory(data))
        else:
            print_story(message, reader, show_numbers=show_numbers)
    if not json and len(messages) == SHOWN_MAX:
        typer.echo(f"These are the newest {SHOWN_MAX}. All of them: landed list --client-ref {reference}")


def stats(  # noqa: PLR0913 - one argument an option
    *,
    by: Annotated[str, typer.Option(help="network, country, channel, sender, reason, hour or account.")] = "network",
    since: Annotated[
        str | None, typer.Option(help="24h, 7d, 2026-11-20 or a full time, by whole hours [all; 7d by hour].")
    ] = None,
    until: Annotated[str | None, typer.Option(help="The same forms.")] = None,
    compare: Annotated[str | None, typer.Option(help="previous: as long a time before --since.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    network: Annotated[str | None, typer.Option(help="Only this network's code.")] = None,
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_MAX, help="How many rows at most, for people.")] = STATS_ROWS,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Show how many messages arrived, how soon, and what they cost.

    The share is of the messages whose outcome is known, with the interval in which the true one lies in 95 of 100
    cases. Messages are counted in the hour in which they were first seen.

    Example: landed stats --by network --since 24h --compare previous
    """
    from landed.store.sqlite import DIMENSIONS  # noqa: PLC0415

    if by not in DIMENSIONS:
        raise SettingsError(f"--by {by!r} is none: choose {', '.join(DIMENSIONS)}.")
    if compare not in (None, "previous") or (compare and since is None):
        raise SettingsError("--compare takes `previous`, and needs --since to know how long a time to compare with.")
    reader = _reader(data, quiet=json)
    if reader is None:
        return
    from landed.cli import stats as told  # noqa: PLC0415
    from landed.cli.printing import Look  # noqa: PLC0415

    now = datetime.now(UTC)
    begins, ends = read_moment(since, now, "--since"), read_moment(until, now, "--until")
    if begins is None and by == "hour":
        # Of a year there are thousands; so many can be looked at.
        begins = (ends or now) - HOURS_SHOWN
    period = told.period(
        reader, since=begins, until=ends, account=account, channel=channel and channel.lower(), network=network
    )
    if period is None:
        if not json:
            typer.echo(_nothing_yet(_directory(data)))
        return
    report = told.report(reader, by, period, compares=compare is not None)
    if json:
        told.print_json(report)
    else:
        told.print_report(report, Look(sys.stdout, show_numbers=show_numbers), limit)


def reasons(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="A code of Vonage's, or a reason.")] = None,
    *,
    json: Json = False,
) -> None:
    """Explain a code of either API, or list all reasons.

    Works offline: what it means, whether another try helps and when, and whose move it is.

    Example: landed reasons 1180
    """
    from landed.cli.reasons import print_reasons  # noqa: PLC0415

    print_reasons(code, json=json)


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
    from landed.cli.printing import Look, clock, encode_line  # noqa: PLC0415
    from landed.domain.views import ReceiptView  # noqa: PLC0415

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
    # Not by way of landed.run, which loads all that serves.
    from landed.store.sqlite import FILE, SqliteReader  # noqa: PLC0415

    directory = _directory(data)
    if not (directory / FILE).exists():
        if not quiet:
            typer.echo(_nothing_yet(directory))
        return None
    return SqliteReader(directory / FILE)


def _directory(data: Path | None) -> Path:
    from landed.settings import load  # noqa: PLC0415

    return load(data=data).data


def _say_more(last: str) -> None:
    import shlex  # noqa: PLC0415

    from landed.cli.printing import Look  # noqa: PLC0415

    # Quoted, since it was written by somebody else and is to be typed again.
    after = Look(sys.stdout, show_numbers=True).clean(shlex.quote(last))
    typer.echo(f"There may be more: landed list … --after {after}")


def _nothing_yet(directory: Path) -> str:
    return (
        f"Nothing here yet, in {directory}. Start `landed serve` and point Vonage at it, "
        "or see it all work offline with `landed demo`."
    )


def _print_json(messages: list[Message]) -> None:
    from landed.cli.printing import encode_line  # noqa: PLC0415
    from landed.domain.views import MessageView  # noqa: PLC0415

    for message in messages:
        typer.echo(encode_line(MessageView.of(message)))


def _print_table(messages: list[Message], *, show_numbers: bool) -> None:
    from landed.cli.printing import Look, message_table  # noqa: PLC0415

    message_table(messages, Look(sys.stdout, show_numbers=show_numbers), sys.stdout)
