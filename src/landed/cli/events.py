"""`landed events`: who gets events, and what did not arrive."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli import listening, subscribers
from landed.cli.options import PAGE_MAX, Data, Json, ShowNumbers, Yes, ask
from landed.cli.subscribers import Events, find, read_wanted, reading, say_if_idle, told, writing

if TYPE_CHECKING:
    from landed.cli.printing import Look
    from landed.domain.events import MessageData
    from landed.settings import Settings
    from landed.store.outbox import Delivery, KeptEvent, Sought
    from landed.store.sqlite_outbox import SqliteOutbox

LIMIT = 50
A_TIME = 500
PROGRESS_SECONDS = 0.2

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
    from landed.store.outbox import Sought  # noqa: PLC0415

    sought = _sought(subscriber, events, outcome, since, until)
    with reading(_settings(data)) as outbox:
        if subscriber is not None:
            find(outbox, subscriber)
        found = [] if outbox is None else [each for _, each in outbox.deliveries(sought, limit=limit)]
        kept = {} if outbox is None else {each.seq: each for each in outbox.events({each.event for each in found})}
    # A worker may have let go of some between the two.
    shown = [each for each in found if each.event in kept]
    if json:
        for each in shown:
            typer.echo(encode_line(_about(kept[each.event]) | _view(each)))
    elif shown:
        _print_dead(shown, kept)
        if len(found) == limit:
            typer.echo(f"There may be more: --limit {min(10 * limit, PAGE_MAX)}")
        typer.echo("Look at one with: landed events show ID. Send them again with: landed events replay")
    else:
        typer.echo("No event is dead." if sought == Sought() else "No dead event fits.")


@app.command()
def show(
    reference: Annotated[str, typer.Argument(metavar="ID", help="An event's id, or a message's.")],
    *,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Show an event, who has it, and what came of each attempt.

    Or all events of a message. Of the message itself, with all its receipts, `landed show` tells more.

    Example: landed events show evt_0123456789abcdef0123456789abcdef
    """
    from landed.cli.printing import Look, encode_line  # noqa: PLC0415

    with reading(_settings(data)) as outbox:
        found = [] if outbox is None else outbox.find(reference)
        if outbox is None or not found:
            if not json:
                typer.echo(f"There is no event {reference}, and none of a message with that id.", err=True)
            raise typer.Exit(1)
        look = Look(sys.stdout, show_numbers=show_numbers)
        for kept in found:
            if json:
                attempts = outbox.attempts(kept.seq)
                deliveries = [_view(each) for each in _deliveries(outbox, kept.seq)]
                typer.echo(encode_line(_about(kept) | {"body": kept.event, "to": deliveries, "failed": attempts}))
            else:
                for line in _story(outbox, kept, look):
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

    They keep their ids, and say that they are replays: an event, those of a message, or all that fit.

    Example: landed events replay --subscriber shop --since 24h --dry-run
    """
    from msgspec.structs import replace  # noqa: PLC0415

    from landed.store.outbox import DeliveryState, SubscriberState  # noqa: PLC0415

    sought = _sought(subscriber, events, outcome, since, until)
    if delivered:
        sought = replace(sought, states=(DeliveryState.DEAD, DeliveryState.DELIVERED))
    settings = _settings(data)
    with reading(settings) as outbox:
        if subscriber is not None:
            find(outbox, subscriber)
        wanted = [sought] if reference is None else [replace(sought, event=seq) for seq in _seqs(outbox, reference)]
        counts = _counts(outbox, wanted)
        states = {} if outbox is None else {each.name: each.state for each in outbox.subscribers()}
    if not counts:
        typer.echo("Nothing fits, so nothing is sent again." + ("" if delivered else " What arrived is: --delivered"))
        return
    count, to = counts.total(), ", ".join(f"{number:,} to {name}" for name, number in sorted(counts.items()))
    if dry_run:
        typer.echo(f"{count:,} would be sent again: {to}.")
        return
    ask(f"Send {count:,} again: {to}?", yes=yes or reference is not None)
    with writing(settings) as outbox:
        done = _replayed(outbox, wanted, count)
    typer.echo(f"{done:,} are sent again: {to}.")
    for name in sorted(name for name in counts if states.get(name) != SubscriberState.ACTIVE):
        typer.echo(f"{name} is {states.get(name)}, so they wait. Go on with: landed events resume {name}")
    say_if_idle(settings)


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


def _seqs(outbox: SqliteOutbox | None, reference: str) -> list[int]:
    found = [] if outbox is None else [kept.seq for kept in outbox.find(reference)]
    if not found:
        typer.echo(f"There is no event {reference}, and none of a message with that id.", err=True)
        raise typer.Exit(1)
    return found


def _counts(outbox: SqliteOutbox | None, wanted: Iterable[Sought]) -> Counter[str]:
    """How many would be sent again, by subscriber."""
    counts: Counter[str] = Counter()
    if outbox is None:
        return counts
    for sought in wanted:
        place = (0, 0)
        while found := outbox.deliveries(sought, limit=A_TIME, after=place):
            place = found[-1][0]
            counts.update(each.subscriber for _, each in found)
    return counts


def _replayed(outbox: SqliteOutbox, wanted: Iterable[Sought], count: int) -> int:
    """Send them again, and on a terminal say how far that is; how many they were."""
    done, shown, is_terminal = 0, float("-inf"), sys.stderr.isatty()
    for sought in wanted:
        for part in outbox.replay(sought):
            done += part
            if is_terminal and time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                typer.echo(f"\r{done:,} of {count:,}", nl=False, err=True)
    if is_terminal:
        # What is written next stands in its place.
        typer.echo("\r\x1b[K", nl=False, err=True)
    return done


def _deliveries(outbox: SqliteOutbox, seq: int) -> list[Delivery]:
    from landed.store.outbox import DeliveryState, Sought  # noqa: PLC0415

    sought = Sought(states=tuple(DeliveryState), event=seq)
    return [each for _, each in outbox.deliveries(sought, limit=PAGE_MAX)]


def _about(kept: KeptEvent) -> dict[str, object]:
    return {"id": kept.id, "type": kept.type, "timestamp": kept.at, "message_id": _message_id(kept)}


def _message_id(kept: KeptEvent) -> str | None:
    from landed.domain.events import InboundData, MessageData  # noqa: PLC0415

    data = None if kept.event is None else kept.event.data
    if isinstance(data, MessageData):
        return data.message.message_id
    return data.inbound.message_id if isinstance(data, InboundData) else None


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
        Column(name="happened", cells=[clock(kept[each.event].at) for each in found], leaves=3),
        Column(name="event", cells=[kept[each.event].type for each in found]),
        Column(name="subscriber", cells=[look.clean(each.subscriber) for each in found]),
        Column(name="attempts", cells=[str(each.attempts) for each in found], leaves=4, is_number=True),
        Column(name="given up", cells=[clock(each.at) for each in found], leaves=2),
        Column(name="last answer", cells=[told(each.subscriber, each.said, look) for each in found], leaves=1),
        Column(name="id", cells=[kept[each.event].id for each in found]),
    ]
    print_table(columns, look, sys.stdout)


def _story(outbox: SqliteOutbox, kept: KeptEvent, look: Look) -> Iterator[str]:
    from landed.cli.printing import clock, named_lines  # noqa: PLC0415
    from landed.store.outbox import DeliveryState  # noqa: PLC0415

    yield look.paint(f"{kept.type}  {kept.id}", "bold")
    yield from named_lines({"happened": clock(kept.at)} | _facts(kept, look), look)
    deliveries, attempts = _deliveries(outbox, kept.seq), outbox.attempts(kept.seq)
    if not deliveries:
        yield "  Nobody has got it, or is about to: nobody wanted it when it happened, or it is yet to be looked at."
    for each in deliveries:
        yield f"  {look.paint(look.clean(each.subscriber), 'bold')}: {_standing(each, look)}"
        for attempt in attempts:
            if attempt.subscriber == each.subscriber:
                said = told(each.subscriber, attempt.said, look)
                yield f"    {clock(attempt.at)}  attempt {attempt.number}: {said} ({attempt.took_seconds:.1f} s)"
    if any(each.state is DeliveryState.DEAD for each in deliveries):
        yield f"  Send it again with: landed events replay {kept.id}"


def _facts(kept: KeptEvent, look: Look) -> dict[str, str]:
    """What it speaks of, as that stands now."""
    from landed.domain.events import InboundData, MessageData  # noqa: PLC0415

    data = None if kept.event is None else kept.event.data
    if isinstance(data, MessageData):
        return _message_facts(data, look)
    if isinstance(data, InboundData):
        inbound = data.inbound
        parties = f"from {look.number(inbound.sender)} to {look.number(inbound.to)}"
        text = look.clean(look.mask(inbound.text) or "")
        return {"message": f"{look.clean(inbound.message_id)}, {parties}", "text": text}
    if data is None:
        return {"about": "What it speaks of is not known any more."}
    reasons = ", ".join(f"{count:,} {look.clean(reason)}" for reason, count in sorted(data.reasons.items()))
    return {"came": f"{data.came:,}: {reasons}", "held": f"{data.held:,}. Look at them with: landed quarantine list"}


def _message_facts(data: MessageData, look: Look) -> dict[str, str]:
    message, reason = data.message, data.reason
    parties = f"to {look.number(message.to)} from {look.number(message.sender)}"
    stands = f"{message.outcome} ({look.clean(message.provider_status)})"
    unsigned = "" if message.verified else ", by nothing that is signed"
    return {
        "message": f"{look.clean(message.message_id)}, {look.clean(message.channel or '?')} {parties}",
        "client ref": look.reference(message.client_ref, message.to, message.sender),
        "stands now": stands + (", receipts contradict each other" if message.conflict else "") + unsigned,
        "why": "" if reason is None else f"{reason.meaning} ({reason.slug})",
        "what to do": "" if reason is None else reason.advice,
    }


def _standing(delivery: Delivery, look: Look) -> str:
    from landed.cli.printing import clock  # noqa: PLC0415
    from landed.store.outbox import DeliveryState  # noqa: PLC0415

    attempts = f"{delivery.attempts} attempt{'s' * (delivery.attempts != 1)}"
    said = f": {told(delivery.subscriber, delivery.said, look)}" if delivery.said else ""
    again = ", sent again" if delivery.is_replay else ""
    if delivery.state is DeliveryState.DELIVERED:
        return f"{look.paint('delivered', 'green')} {clock(delivery.at)} at attempt {delivery.attempts}{again}{said}"
    if delivery.state is DeliveryState.DEAD:
        return f"{look.paint('dead', 'red')} {clock(delivery.at)} after {attempts}{again}{said}"
    due = f", next {clock(delivery.next_at)}" if delivery.next_at is not None else ""
    return f"{look.paint('waiting', 'yellow')} after {attempts}{again}{due}{said}"
