"""Commands for who gets events: `landed events subscribe | list | pause | resume | rotate | remove`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import Data, Json, Yes, ask
from landed.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from landed.domain.events import Wanted
    from landed.settings import Settings
    from landed.store.outbox import Backlog, Subscriber
    from landed.store.sqlite_outbox import SqliteOutbox

SECOND_US = 1_000_000
KEEP = "24h"
# How much of an address is shown: the rest may be a password or a token.
ADDRESS_CHARACTERS_MAX = 48

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name in `landed events list`.")]
Events = Annotated[
    list[str] | None, typer.Option("--event", help="A type, or a pattern such as message.*; repeat it for more [*].")
]
Channels = Annotated[list[str] | None, typer.Option("--channel", help="Only those of this channel; may be repeated.")]
Networks = Annotated[list[str] | None, typer.Option("--network", help="Only those of this network code; the same.")]
Outcomes = Annotated[list[str] | None, typer.Option("--outcome", help="Only those of messages with this outcome.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only those with this reason; see reasons.")]
Permanences = Annotated[
    list[str] | None, typer.Option("--permanence", help="Only those with such a reason: permanent, temporary, …")
]


def subscribe(  # noqa: PLR0913 - one argument an option
    address: Annotated[
        str, typer.Argument(metavar="URL", help="https://…, nats://host/subject, or a URL of Apprise's for people.")
    ],
    *,
    name: Annotated[str | None, typer.Option(help="What to call it [by its host].")] = None,
    events: Events = None,
    channels: Channels = None,
    networks: Networks = None,
    outcomes: Outcomes = None,
    reasons: Reasons = None,
    permanences: Permanences = None,
    secret: Annotated[str | None, typer.Option(help="A webhook's secret, whsec_… [a new one].")] = None,
    since: Annotated[str | None, typer.Option(help="Begin with the events since then: 2h, 3d [those to come].")] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Send events to a webhook, a NATS subject, or people.

    A webhook is signed by its secret, which is shown now: give it to whoever receives.

    Example: landed events subscribe https://shop.example.com/hooks/texts --event message.failed
    """
    from landed.cli.printing import encode_line  # noqa: PLC0415
    from landed.store.outbox import SecretKept, Subscriber  # noqa: PLC0415
    from landed.worker.subscribing import SIGNED, check_name, kind_of, name_for  # noqa: PLC0415
    from landed.worker.webhook import check_secret, new_secret  # noqa: PLC0415

    settings = _settings(data)
    kind = kind_of(address, settings.events)
    if secret is not None and kind not in SIGNED:
        raise SettingsError("--secret is for webhooks: nothing else is signed by one.")
    text = None if kind not in SIGNED else new_secret() if secret is None else check_secret(secret)
    with writing(settings) as outbox:
        taken = {each.name for each in outbox.subscribers()}
        subscriber = Subscriber(
            name=name_for(address, taken) if name is None else check_name(name),
            kind=kind,
            address=address,
            wanted=read_wanted(events, channels, networks, outcomes, reasons, permanences),
            secrets=() if text is None else (SecretKept(text),),
            created_us=_now_us(),
        )
        outbox.add(subscriber, since_us=_since_us(since))
    if json:
        typer.echo(encode_line(_view(subscriber, None) | {"secret": text}))
        return
    typer.echo(f"{subscriber.name} gets {', '.join(subscriber.wanted.events)} from now on.")
    if text is not None:
        typer.echo(f"  secret      {text}")
        typer.echo(f"  try it      landed events try delivered --subscriber {subscriber.name}")


def list_subscribers(*, data: Data = None, json: Json = False) -> None:
    """List who gets events, and how it stands with each.

    Waiting are those that are on their way or are tried again; unseen those behind them, wanted or not.

    Example: landed events list
    """
    from landed.cli.printing import encode_line  # noqa: PLC0415

    with reading(_settings(data)) as outbox:
        subscribers = outbox.subscribers() if outbox is not None else []
        backlogs = outbox.backlogs() if outbox is not None else {}
    if json:
        for each in subscribers:
            typer.echo(encode_line(_view(each, backlogs.get(each.row))))
    elif subscribers:
        _print_table(subscribers, [backlogs[each.row] for each in subscribers])
        for each in subscribers:
            if each.reason:
                typer.echo(f"{each.name} is {each.state}: {each.reason}. Go on with: landed events resume {each.name}")
    else:
        typer.echo("Nobody gets events: landed events subscribe URL.")


def pause(name: Name, *, data: Data = None) -> None:
    """Send nothing to one for now.

    What happens meanwhile waits for it.

    Example: landed events pause shop
    """
    from landed.store.outbox import SubscriberState  # noqa: PLC0415

    _set_state(name, SubscriberState.PAUSED, data)
    typer.echo(f"{name} is paused: go on with landed events resume {name}.")


def resume(name: Name, *, data: Data = None) -> None:
    """Go on with one that was paused, or stopped by its own word.

    Example: landed events resume shop
    """
    from landed.store.outbox import SubscriberState  # noqa: PLC0415

    _set_state(name, SubscriberState.ACTIVE, data)
    typer.echo(f"{name} gets what waited, oldest first, and what happens from now on.")


def rotate(
    name: Name,
    *,
    secret: Annotated[str | None, typer.Option(help="The new secret, whsec_… [a new one].")] = None,
    keep: Annotated[str, typer.Option(help="How long to sign with the old one, too.")] = KEEP,
    data: Data = None,
    json: Json = False,
) -> None:
    """Give a webhook a new secret; the old one signs beside it for a while.

    Example: landed events rotate shop --keep 24h
    """
    from msgspec.structs import replace  # noqa: PLC0415

    from landed.cli.printing import encode_line  # noqa: PLC0415
    from landed.durations import seconds_of  # noqa: PLC0415
    from landed.store.outbox import Origin, SecretKept  # noqa: PLC0415
    from landed.worker.subscribing import SIGNED  # noqa: PLC0415
    from landed.worker.webhook import check_secret, new_secret  # noqa: PLC0415

    text = new_secret() if secret is None else check_secret(secret)
    until_us = _now_us() + round(seconds_of(keep) * SECOND_US)
    with writing(_settings(data)) as outbox:
        subscriber = find(outbox, name)
        if subscriber.kind not in SIGNED:
            raise SettingsError(f"{name} is no webhook, so nothing is signed for it.")
        if subscriber.origin is Origin.SETTINGS:
            raise SettingsError(f"The secrets of {name} stand in landed.toml: write the new one before the old one.")
        old = [
            secret if secret.until_us is not None and secret.until_us <= until_us else SecretKept(secret.text, until_us)
            for secret in subscriber.secrets
            if secret.text != text and (secret.until_us is None or secret.until_us > _now_us())
        ]
        outbox.change(replace(subscriber, secrets=(SecretKept(text), *old)))
    if json:
        typer.echo(encode_line({"name": name, "secret": text}))
    else:
        typer.echo(f"{name} is signed with the new secret now, and with the old one, too, for {keep}.")
        typer.echo(f"  secret      {text}")


def remove(name: Name, *, yes: Yes = False, data: Data = None) -> None:
    """Forget one, with all that waits for it and its dead letters.

    Example: landed events remove shop --yes
    """
    from landed.store.outbox import Origin, SubscriberState  # noqa: PLC0415

    with writing(_settings(data)) as outbox:
        subscriber = find(outbox, name)
        if subscriber.origin is not Origin.COMMAND and subscriber.state is not SubscriberState.ABSENT:
            place = "landed.toml" if subscriber.origin is Origin.SETTINGS else "the application's handlers"
            raise SettingsError(f"{name} stands in {place}: take it out there, and restart landed.")
        backlog = outbox.backlogs()[subscriber.row]
        ask(f"Forget {name}, with {backlog.waiting:,} that wait and {backlog.dead:,} that are dead?", yes=yes)
        outbox.remove(subscriber.row)
    typer.echo(f"{name} gets nothing any more.")


# For the other commands of this family.


def read_wanted(  # noqa: PLR0913, PLR0917 - one argument a filter
    events: Sequence[str] | None,
    channels: Sequence[str] | None,
    networks: Sequence[str] | None,
    outcomes: Sequence[str] | None,
    reasons: Sequence[str] | None,
    permanences: Sequence[str] | None,
) -> Wanted:
    """What was asked for on the command line; SettingsError says what there is not."""
    from landed.domain.events import Wanted, check_wanted  # noqa: PLC0415

    wanted = Wanted(
        events=tuple(events or ("*",)),
        channels=tuple(channels or ()),
        networks=tuple(networks or ()),
        outcomes=tuple(outcomes or ()),
        reasons=tuple(reasons or ()),
        permanences=tuple(permanences or ()),
    )
    try:
        return check_wanted(wanted)
    except ValueError as error:
        sentence = str(error)
        raise SettingsError(f"{sentence[:1].upper()}{sentence[1:]}.") from error


def find(outbox: SqliteOutbox | None, name: str) -> Subscriber:
    """The subscriber of that name; SettingsError where there is none."""
    for each in outbox.subscribers() if outbox is not None else ():
        if each.name == name:
            return each
    raise SettingsError(f"There is no subscriber {name!r}: see landed events list.")


@contextmanager
def writing(settings: Settings) -> Iterator[SqliteOutbox]:
    """The outbox, made where there is none yet; what is changed in it outlasts a power cut."""
    from landed import run  # noqa: PLC0415
    from landed.store.sqlite_outbox import SqliteOutbox  # noqa: PLC0415

    run.prepare(settings.data)
    with closing(SqliteOutbox(run.store_path(settings.data), synchronous="full")) as outbox:
        yield outbox


@contextmanager
def reading(settings: Settings) -> Iterator[SqliteOutbox | None]:
    """The outbox to read in, None where there is none."""
    from landed.store.sqlite import FILE  # noqa: PLC0415
    from landed.store.sqlite_outbox import SqliteOutbox  # noqa: PLC0415

    if not (settings.data / FILE).exists():
        yield None
        return
    with closing(SqliteOutbox(settings.data / FILE, only_read=True)) as outbox:
        yield outbox


def shown_address(subscriber: Subscriber) -> str:
    """An address without what may be secret in it: for webhooks host and path, else the scheme and the host."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    from landed.store.outbox import Kind  # noqa: PLC0415

    if subscriber.kind is Kind.HANDLER:
        return subscriber.address
    if subscriber.kind is Kind.PEOPLE:
        return subscriber.address.partition(":")[0] + "://…"
    parts = urlsplit(subscriber.address)
    text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" + ("?…" if parts.query else "")
    return text if len(text) <= ADDRESS_CHARACTERS_MAX else text[: ADDRESS_CHARACTERS_MAX - 1] + "…"


def _set_state(name: str, state: str, data: Path | None) -> None:
    from msgspec.structs import replace  # noqa: PLC0415

    from landed.store.outbox import SubscriberState  # noqa: PLC0415

    with writing(_settings(data)) as outbox:
        subscriber = find(outbox, name)
        if subscriber.state is SubscriberState.ABSENT:
            raise SettingsError(f"{name} is named no more by the {subscriber.origin}: put it back there.")
        outbox.change(replace(subscriber, state=SubscriberState(state), reason=""))


def _settings(data: Path | None) -> Settings:
    from landed.settings import load  # noqa: PLC0415

    return load(data=data)


def _now_us() -> int:
    return time.time_ns() // 1_000


def _since_us(since: str | None) -> int | None:
    from datetime import UTC, datetime  # noqa: PLC0415

    from landed.cli.read import read_moment  # noqa: PLC0415
    from landed.domain.moments import microseconds  # noqa: PLC0415

    moment = read_moment(since, datetime.now(UTC), "--since")
    return None if moment is None else microseconds(moment)


def _view(subscriber: Subscriber, backlog: Backlog | None) -> dict[str, object]:
    import msgspec  # noqa: PLC0415

    view: dict[str, object] = {
        "name": subscriber.name,
        "kind": subscriber.kind,
        "address": shown_address(subscriber),
        "state": subscriber.state,
        "reason": subscriber.reason or None,
        "origin": subscriber.origin,
        "wanted": {"events": subscriber.wanted.events} | msgspec.to_builtins(subscriber.wanted),
    }
    return view if backlog is None else view | msgspec.to_builtins(backlog)


def _print_table(subscribers: Sequence[Subscriber], backlogs: Sequence[Backlog]) -> None:
    from landed.cli.printing import Column, Look, clock, print_table  # noqa: PLC0415

    look = Look(sys.stdout, show_numbers=True)
    columns = [
        Column(name="name", cells=[look.clean(each.name) for each in subscribers]),
        Column(name="kind", cells=[each.kind for each in subscribers], leaves=4),
        Column(name="address", cells=[look.clean(shown_address(each)) for each in subscribers], leaves=3),
        Column(name="events", cells=[", ".join(each.wanted.events) for each in subscribers], leaves=2),
        Column(name="state", cells=[each.state for each in subscribers]),
        Column(name="waiting", cells=[f"{each.waiting:,}" for each in backlogs], is_number=True),
        Column(name="unseen", cells=[f"{each.unseen:,}" for each in backlogs], is_number=True),
        Column(name="dead", cells=[f"{each.dead:,}" for each in backlogs], is_number=True),
        Column(name="oldest open", cells=[clock(each.oldest_at) for each in backlogs], leaves=1),
    ]
    print_table(columns, look, sys.stdout)
