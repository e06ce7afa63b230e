"""`landed events`: who gets events, and what did not arrive."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli import listening, subscribers
from landed.cli.options import PAGE_MAX, Data, Json, ShowNumbers, Yes, ask
from landed.cli.subscribers import Events, find, read_wanted, reading, writing

if TYPE_CHECKING:
    from landed.cli.printing import Look
    from landed.settings import Settings
    from landed.store.outbox import Delivery, KeptEvent, Sought
    from landed.store.sqlite_outbox import SqliteOutbox

LIMIT = 50
A_TIME = 500
PROGRESS_SECONDS = 0.2
NAME_WIDTH = 20

app = typer.Typer(
    name="events",
    help="Send events to webhooks, queues and people; see what did not arrive.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("subscribe")(subscribers.subscribe)
app.command("list")(subscribers.list_subscribers)
app.command("pause")(subscribers.pause)
app.command("resume")(subscribers.resume)
app.command("rotate")(subscribers.rotate)
app.command("remove")(subscribers.remove)
app.command("listen")(listening.listen)
app.command("try")(listening.try_event)

Of = Annotated[str | None, typer.Option("--subscriber", help="Only those of this subscriber.")]
Outcome = Annotated[str | None, typer.Option(help="Only those of messages that stand like this now.")]
Since = Annotated[str | None, typer.Option(help="Only events since then: 2h, 3d, 2026-11-20 or a full time.")]
Until = Annotated[str | None, typer.Option(help="The same forms.")]


@app.command()
def dead(  # noqa: PLR0913 - one argument a filter
    *,
    subscriber: Of = None,
    events: Events = None,
    outcome: Outcome = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_MAX, help="How many at most.")] = LIMIT,
    data: Data = None,
    json: Json = False,
) -> None:
    """List events that never arrived: the dead letters.

    Each was tried as often as it may be. They are kept as long as events are.

    Example: landed events dead --since 24h
    """
    from landed.cli.printing import encode_line  # noqa: PLC0415

    sought = _sought(subscriber, events, outcome, since, until)
    with reading(_settings(data)) as outbox:
        found = [] if outbox is None else [each for _, each in outbox.deliveries(sought, limit=limit)]
        kept = {} if outbox is None else {each.seq: each for each in outbox.events({each.event for each in found})}
    if json:
        for each in found:
            typer.echo(encode_line(_about(kept[each.event]) | _view(each)))
    elif found:
        _print_dead(found, kept)
        if len(found) == limit:
            typer.echo(f"There may be more: --limit {min(10 * limit, PAGE_MAX)}")
    else:
        typer.echo("No event is dead.")


@app.command()
def show(
    reference: Annotated[str, typer.Argument(metavar="ID", help="An event's id, or a message's.")],
    *,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Show an event, who has it, and what came of each attempt.

    Example: landed events show evt_0123456789abcdef0123456789abcdef
    """
    from landed.cli.printing import Look, encode_line  # noqa: PLC0415

    with reading(_settings(data)) as outbox:
        found = [] if outbox is None else outbox.find(reference)
        if outbox is None or not found:
            if not json:
                typer.echo(f"There is no event {reference}, and none of a message with that id.", err=True)
            raise typer.Exit(1)
        for kept in found:
            if json:
                attempts = outbox.attempts(kept.seq)
                deliveries = [_view(each) for each in _deliveries(outbox, kept.seq)]
                typer.echo(encode_line(_about(kept) | {"body": kept.event, "to": deliveries, "failed": attempts}))
            else:
                for line in _story(outbox, kept, Look(sys.stdout, show_numbers=show_numbers)):
                    typer.echo(line)


@app.command()
def replay(  # noqa: PLR0913 - one argument a filter
    reference: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="An event's id, or a message's [all that fit].")
    ] = None,
    *,
    subscriber: Of = None,
    events: Events = None,
    outcome: Outcome = None,
    since: Since = None,
    until: Until = None,
    delivered: Annotated[bool, typer.Option("--delivered", help="Those that arrived, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many.")] = False,
    yes: Yes = False,
    data: Data = None,
) -> None:
    """Send dead letters again, with all their attempts before them.

    They keep their ids, and say that they are replays.

    Example: landed events replay --subscriber shop --since 24h --dry-run
    """
    from msgspec.structs import replace  # noqa: PLC0415

    from landed.store.outbox import DeliveryState  # noqa: PLC0415

    sought = _sought(subscriber, events, outcome, since, until)
    if delivered:
        sought = replace(sought, states=(DeliveryState.DEAD, DeliveryState.DELIVERED))
    with writing(_settings(data)) as outbox:
        if subscriber is not None:
            find(outbox, subscriber)
        wanted = [replace(sought, event=seq) for seq in _seqs(outbox, reference)] if reference else [sought]
        count = sum(_count(outbox, each) for each in wanted)
        if dry_run or not count:
            typer.echo(f"{count:,} would be sent again." if count else "Nothing fits, so nothing is sent again.")
            return
        ask(f"Send {count:,} again?", yes=yes or reference is not None)
        done = _replayed(outbox, wanted, count)
    typer.echo(f"{done:,} are sent again, as soon as `landed serve` or another worker runs.")


def _settings(data: Path | None) -> Settings:
    from landed.settings import load  # noqa: PLC0415

    return load(data=data)


def _sought(
    subscriber: str | None,
    events: Sequence[str] | None,
    outcome: str | None,
    since: str | None,
    until: str | None,
) -> Sought:
    from datetime import UTC, datetime  # noqa: PLC0415

    from landed.cli.read import read_moment  # noqa: PLC0415
    from landed.domain.events import EventType  # noqa: PLC0415
    from landed.store.outbox import Sought  # noqa: PLC0415

    now = datetime.now(UTC)
    wanted = read_wanted(events, None, None, None if outcome is None else [outcome], None, None)
    return Sought(
        subscriber=subscriber,
        since=read_moment(since, now, "--since"),
        until=read_moment(until, now, "--until"),
        types=wanted.types() if events else frozenset(EventType),
        outcome=outcome,
    )


def _seqs(outbox: SqliteOutbox, reference: str) -> list[int]:
    found = [kept.seq for kept in outbox.find(reference)]
    if not found:
        typer.echo(f"There is no event {reference}, and none of a message with that id.", err=True)
        raise typer.Exit(1)
    return found


def _count(outbox: SqliteOutbox, sought: Sought) -> int:
    count, place = 0, (0, 0)
    while found := outbox.deliveries(sought, limit=A_TIME, after=place):
        place = found[-1][0]
        count += len(found)
    return count


def _replayed(outbox: SqliteOutbox, wanted: Iterable[Sought], count: int) -> int:
    done, shown, is_terminal = 0, time.monotonic(), sys.stderr.isatty()
    for sought in wanted:
        for part in outbox.replay(sought):
            done += part
            if is_terminal and time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                typer.echo(f"\r{done:,} of {count:,}", nl=False, err=True)
    if is_terminal:
        typer.echo("\r", nl=False, err=True)
    return done


def _deliveries(outbox: SqliteOutbox, seq: int) -> list[Delivery]:
    from landed.store.outbox import DeliveryState, Sought  # noqa: PLC0415

    sought = Sought(states=tuple(DeliveryState), event=seq)
    return [each for _, each in outbox.deliveries(sought, limit=PAGE_MAX)]


def _about(kept: KeptEvent) -> dict[str, object]:
    return {"id": kept.id, "type": kept.type, "timestamp": kept.at}


def _view(delivery: Delivery) -> dict[str, object]:
    return {
        "subscriber": delivery.subscriber,
        "state": delivery.state.name.lower(),
        "attempts": delivery.attempts,
        "said": delivery.said or None,
        "last_at": delivery.at,
        "next_at": delivery.next_at,
        "replay": delivery.is_replay,
    }


def _print_dead(found: Sequence[Delivery], kept: Mapping[int, KeptEvent]) -> None:
    from landed.cli.printing import Column, Look, clock, print_table  # noqa: PLC0415

    look = Look(sys.stdout, show_numbers=False)
    columns = [
        Column(name="happened", cells=[clock(kept[each.event].at) for each in found], leaves=2),
        Column(name="event", cells=[kept[each.event].type for each in found]),
        Column(name="subscriber", cells=[look.clean(each.subscriber) for each in found]),
        Column(name="attempts", cells=[str(each.attempts) for each in found], leaves=3, is_number=True),
        Column(name="given up", cells=[clock(each.at) for each in found], leaves=1),
        Column(name="last answer", cells=[look.clean(each.said) for each in found], leaves=4),
        Column(name="id", cells=[kept[each.event].id for each in found]),
    ]
    print_table(columns, look, sys.stdout)


def _story(outbox: SqliteOutbox, kept: KeptEvent, look: Look) -> Iterator[str]:
    import msgspec  # noqa: PLC0415

    from landed.cli.printing import clock  # noqa: PLC0415

    yield look.paint(f"{kept.type}  {kept.id}", "bold")
    yield f"  {'happened':<{NAME_WIDTH}}{clock(kept.at)}"
    deliveries = _deliveries(outbox, kept.seq)
    if not deliveries:
        yield "  Nobody has wanted it so far."
    for each in deliveries:
        yield f"  {look.clean(each.subscriber):<{NAME_WIDTH}}{_standing(each, look)}"
    for attempt in outbox.attempts(kept.seq):
        name = f"{look.clean(attempt.subscriber)}, {attempt.number}."
        yield f"    {name:<{NAME_WIDTH}}{clock(attempt.at)}  {look.clean(attempt.said)} ({attempt.took_seconds:.1f} s)"
    if kept.event is None:
        yield "  What it speaks of is not known any more."
        return
    body = msgspec.json.format(msgspec.json.encode(kept.event.data)).decode()
    yield from (f"  {look.clean(look.mask(line) or '')}" for line in body.split("\n"))


def _standing(delivery: Delivery, look: Look) -> str:
    from landed.cli.printing import clock  # noqa: PLC0415
    from landed.store.outbox import DeliveryState  # noqa: PLC0415

    said = f": {look.clean(delivery.said)}" if delivery.said else ""
    again = ", sent again" if delivery.is_replay else ""
    if delivery.state is DeliveryState.DELIVERED:
        return f"{look.paint('delivered', 'green')} {clock(delivery.at)} at attempt {delivery.attempts}{again}{said}"
    if delivery.state is DeliveryState.DEAD:
        return f"{look.paint('dead', 'red')} {clock(delivery.at)} after {delivery.attempts} attempts{again}{said}"
    due = f", next {clock(delivery.next_at)}" if delivery.next_at is not None else ""
    return f"{look.paint('waiting', 'yellow')} after {delivery.attempts} attempts{again}{due}{said}"
