"""Commands for who gets events: `landed events subscribe | list | pause | resume | rotate | remove`."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from landed.cli.options import Data, Json, Yes, ask
from landed.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from landed.cli.printing import Look
    from landed.domain.events import Wanted
    from landed.settings import Settings
    from landed.store.outbox import Backlog, Delivery, Subscriber
    from landed.store.sqlite_outbox import SqliteOutbox

SECOND_US = 1_000_000
KEEP = "24h"
ADDRESS_CHARACTERS_MAX = 48
# A part of a path that may be all that keeps others out, as services give them: long, with a digit in it.
TOKEN = re.compile(r"(?<=/)(?=[^/]*[0-9])[^/]{20,}")
# Of what waits for one so much is looked at, to tell what came of its last try.
LOOKED_AT = 100
# Handlers have it in their names, and nobody else may.
HANDLER_MARK = ":"
NEVER = datetime.min.replace(tzinfo=UTC)

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


class _Standing(NamedTuple):
    """How it stands with one; `failed` is what was tried last, of what waits."""

    subscriber: Subscriber
    backlog: Backlog
    failed: Delivery | None


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
    wanted, since_us = read_wanted(events, channels, networks, outcomes, reasons, permanences), _since_us(since)
    # At its next start landed would refuse a second one of that name.
    in_file = {each.name for each in settings.subscriber}
    if name is not None and check_name(name) in in_file:
        raise SettingsError(f"landed.toml names a subscriber {name!r}: give this one another name.")
    with writing(settings) as outbox:
        others = outbox.subscribers()
        taken = {each.name for each in others} | in_file
        subscriber = Subscriber(
            name=name or name_for(address, taken),
            kind=kind,
            address=address,
            wanted=wanted,
            secrets=() if text is None else (SecretKept(text),),
            created_us=_now_us(),
        )
        outbox.add(subscriber, since_us=since_us)
    if json:
        typer.echo(encode_line(_view(subscriber) | {"secret": text}))
        return
    _tell_new(subscriber, since, text)
    for same in (each.name for each in others if each.address == address):
        typer.echo(f"  beware      {same} has the same address: what both want goes there twice")
    say_if_idle(settings)


def list_subscribers(*, data: Data = None, json: Json = False) -> None:
    """List who gets events, and how it stands with each.

    Waiting are those that are on their way or are tried again; unseen those behind them, wanted or not.

    Example: landed events list
    """
    from landed.cli.printing import encode_line  # noqa: PLC0415

    settings = _settings(data)
    with reading(settings) as outbox:
        found = [] if outbox is None else _standings(outbox)
    if json:
        for each in found:
            typer.echo(encode_line(_view(each.subscriber) | _view_of_standing(each)))
    elif found:
        _print_table(found)
        for each in found:
            for note in _notes(each):
                typer.echo(note)
        say_if_idle(settings)
    else:
        typer.echo("Nobody gets events yet. Begin with: landed events subscribe URL")


def pause(name: Name, *, data: Data = None) -> None:
    """Send nothing to one for now.

    What happens meanwhile waits for it.

    Example: landed events pause shop
    """
    from landed.store.outbox import SubscriberState  # noqa: PLC0415

    _set_state(name, SubscriberState.PAUSED, data)
    typer.echo(f"{name} is paused, and what happens waits for it. Go on with: landed events resume {name}")


def resume(name: Name, *, data: Data = None) -> None:
    """Go on with one that was paused, or stopped by its own word.

    Example: landed events resume shop
    """
    from landed.store.outbox import SubscriberState  # noqa: PLC0415

    settings = _set_state(name, SubscriberState.ACTIVE, data)
    typer.echo(f"{name} gets what waited, oldest first, and what happens from now on.")
    say_if_idle(settings)


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
    now_us = _now_us()
    until_us = now_us + round(seconds_of(keep) * SECOND_US)
    with changing(_settings(data), name) as (outbox, subscriber):
        if subscriber.kind not in SIGNED:
            raise SettingsError(f"{name} is no webhook, so nothing is signed for it.")
        if subscriber.origin is Origin.SETTINGS:
            raise SettingsError(
                f"The secrets of {name} stand in landed.toml: write the new one there before the old one, and restart "
                "landed."
            )
        if subscriber.secrets_at(now_us)[:1] == [text]:
            raise SettingsError(f"{name} is signed with that secret already: give another one, or none.")
        old = [
            SecretKept(each.text, until_us if each.until_us is None else min(until_us, each.until_us))
            for each in subscriber.secrets
            if each.text != text
        ]
        kept = tuple(each for each in old if (each.until_us or 0) > now_us)
        outbox.change(replace(subscriber, secrets=(SecretKept(text), *kept)), was=subscriber.state)
    if json:
        typer.echo(encode_line({"name": name, "secret": text}))
        return
    beside = f", and with the old one, too, for {keep}" if kept else " alone"
    typer.echo(f"{name} is signed with the new secret{beside}.")
    typer.echo(f"  secret      {text}")


def remove(name: Name, *, yes: Yes = False, data: Data = None) -> None:
    """Forget one, with all that waits for it and its dead letters.

    Example: landed events remove shop --yes
    """
    from landed.store.outbox import Origin, SubscriberState  # noqa: PLC0415

    with changing(_settings(data), name) as (outbox, subscriber):
        if subscriber.origin is not Origin.COMMAND and subscriber.state is not SubscriberState.ABSENT:
            place = "landed.toml" if subscriber.origin is Origin.SETTINGS else "the application's handlers"
            raise SettingsError(
                f"{name} stands in {place}: take it out there, restart landed, and then remove it with all that waits."
            )
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
        # A type of event stays as it is written.
        begins = sentence[:1].upper() if sentence.partition(" ")[0].isalpha() else sentence[:1]
        raise SettingsError(f"{begins}{sentence[1:]}.") from error


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
def changing(settings: Settings, name: str) -> Iterator[tuple[SqliteOutbox, Subscriber]]:
    """The outbox to change a subscriber in, and that one; SettingsError, and no file is made, where there is none."""
    with reading(settings) as outbox:
        find(outbox, name)
    with writing(settings) as outbox:
        yield outbox, find(outbox, name)


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
    """An address without what may be secret in it: a user, a query, a token; of Apprise's the scheme alone."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    from landed.store.outbox import Kind  # noqa: PLC0415

    if subscriber.kind is Kind.HANDLER:
        return subscriber.address
    if subscriber.kind is Kind.PEOPLE:
        return subscriber.address.partition(":")[0] + "://…"
    parts = urlsplit(subscriber.address)
    path = TOKEN.sub("…", parts.path) if subscriber.kind is Kind.WEBHOOK else parts.path
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}" + ("?…" if parts.query else "")


def filters_of(wanted: Wanted) -> Iterator[str]:
    """What somebody filters by, beside the types."""
    import msgspec  # noqa: PLC0415

    for name, words in msgspec.to_builtins(wanted).items():
        if name != "events":
            yield f"{name} {', '.join(words)}"


def told(name: str, said: str, look: Look) -> str:
    """What came of an attempt at a subscriber. A handler's own words may have numbers of phones in them."""
    return look.clean((look.mask(said) or "") if HANDLER_MARK in name else said)


def say_if_idle(settings: Settings) -> None:
    """Say so where nobody brings events now."""
    from landed.work import worker_runs  # noqa: PLC0415

    if not worker_runs(settings.data):
        typer.echo(f"No worker runs on {settings.data}, so nothing is sent now. Start one with: landed serve")


def _set_state(name: str, state: str, data: Path | None) -> Settings:
    from msgspec.structs import replace  # noqa: PLC0415

    from landed.store.outbox import SubscriberState  # noqa: PLC0415

    settings = _settings(data)
    with changing(settings, name) as (outbox, subscriber):
        if subscriber.state is SubscriberState.ABSENT:
            raise SettingsError(_absent(subscriber))
        # Why it was stopped is worth knowing until it goes on.
        reason = subscriber.reason if state == SubscriberState.PAUSED else ""
        outbox.change(replace(subscriber, state=SubscriberState(state), reason=reason))
    return settings


def _absent(subscriber: Subscriber) -> str:
    from landed.store.outbox import Origin  # noqa: PLC0415

    name, is_settings = subscriber.name, subscriber.origin is Origin.SETTINGS
    why = "landed.toml names it no more" if is_settings else "no handler has that name any more"
    return f"{name} is absent, since {why}: put it back there, or forget it with landed events remove {name}."


def _tell_new(subscriber: Subscriber, since: str | None, secret: str | None) -> None:
    from landed.domain.events import ONLY_BY_NAME  # noqa: PLC0415

    but = f"all events but {', '.join(sorted(ONLY_BY_NAME))}"
    events = but if subscriber.wanted.events == ("*",) else ", ".join(subscriber.wanted.events)
    begins = "from now on" if since is None else f"beginning with those since {since}"
    only = "; ".join(filters_of(subscriber.wanted))
    typer.echo(f"{subscriber.name} gets {events} {begins}{f', only {only}' if only else ''}.")
    if secret is not None:
        typer.echo(f"  secret      {secret}")
    typer.echo(f"  try it      landed events try delivered --subscriber {subscriber.name}")


def _settings(data: Path | None) -> Settings:
    from landed.settings import load  # noqa: PLC0415

    return load(data=data)


def _now_us() -> int:
    return time.time_ns() // 1_000


def _since_us(since: str | None) -> int | None:
    from landed.cli.read import read_moment  # noqa: PLC0415
    from landed.domain.moments import microseconds  # noqa: PLC0415

    moment = read_moment(since, datetime.now(UTC), "--since")
    return None if moment is None else microseconds(moment)


def _standings(outbox: SqliteOutbox) -> list[_Standing]:
    from landed.store.outbox import Backlog, DeliveryState, Sought  # noqa: PLC0415

    backlogs, standings = outbox.backlogs(), []
    for each in outbox.subscribers():
        backlog = backlogs.get(each.row, Backlog())
        sought = Sought(states=(DeliveryState.WAITING,), subscriber=each.name)
        waiting = outbox.deliveries(sought, limit=LOOKED_AT) if backlog.waiting else []
        tried = [delivery for _, delivery in waiting if delivery.said and delivery.at is not None]
        standings.append(_Standing(each, backlog, max(tried, key=lambda delivery: delivery.at or NEVER, default=None)))
    return standings


def _notes(standing: _Standing) -> Iterator[str]:
    """What a person should know of one, and what to do about it."""
    from landed.cli.printing import Look, clock  # noqa: PLC0415
    from landed.domain.moments import moment  # noqa: PLC0415
    from landed.store.outbox import SubscriberState  # noqa: PLC0415

    each, failed = standing.subscriber, standing.failed
    if each.state is SubscriberState.ABSENT:
        yield _absent(each)
    elif each.state is not SubscriberState.ACTIVE:
        why = f": {each.reason}" if each.reason else ""
        yield f"{each.name} is {each.state}{why}. Go on with: landed events resume {each.name}"
    if failed is not None:
        said = told(each.name, failed.said, Look(sys.stdout, show_numbers=False))
        yield f"{each.name} did not take what was tried at {clock(failed.at)}: {said}. It is tried again."
    if standing.backlog.dead:
        yield f"{each.name} did not get what is dead. Look at it with: landed events dead --subscriber {each.name}"
    now_us = _now_us()
    ends_us = [secret.until_us for secret in each.secrets if secret.until_us is not None and secret.until_us > now_us]
    if ends_us:
        yield f"{each.name} is signed with its old secret, too, until {clock(moment(max(ends_us)))}."


def _view(subscriber: Subscriber) -> dict[str, object]:
    import msgspec  # noqa: PLC0415

    return {
        "name": subscriber.name,
        "kind": subscriber.kind,
        "address": shown_address(subscriber),
        "state": subscriber.state,
        "reason": subscriber.reason or None,
        "origin": subscriber.origin,
        "wanted": {"events": subscriber.wanted.events} | msgspec.to_builtins(subscriber.wanted),
    }


def _view_of_standing(standing: _Standing) -> dict[str, object]:
    import msgspec  # noqa: PLC0415

    failed = standing.failed
    last = {"said": failed and failed.said, "failed_at": failed and failed.at}
    backlog: dict[str, object] = msgspec.to_builtins(standing.backlog)
    return backlog | {"secrets": len(standing.subscriber.secrets_at(_now_us()))} | last


def _print_table(standings: Sequence[_Standing]) -> None:
    from landed.cli.printing import Column, Look, clock, print_table  # noqa: PLC0415

    look = Look(sys.stdout, show_numbers=True)
    subscribers, backlogs = [each.subscriber for each in standings], [each.backlog for each in standings]
    addresses = [shown_address(each) for each in subscribers]
    columns = [
        Column(name="name", cells=[look.clean(each.name) for each in subscribers]),
        Column(name="kind", cells=[each.kind for each in subscribers], leaves=4),
        Column(name="address", cells=[look.clean(_shortened(each)) for each in addresses], leaves=3),
        Column(name="events", cells=[", ".join(each.wanted.events) for each in subscribers], leaves=2),
        Column(name="only", cells=["; ".join(filters_of(each.wanted)) for each in subscribers], leaves=5),
        Column(name="state", cells=[each.state for each in subscribers]),
        Column(name="waiting", cells=[f"{each.waiting:,}" for each in backlogs], is_number=True),
        Column(name="unseen", cells=[f"{each.unseen:,}" for each in backlogs], is_number=True),
        Column(name="dead", cells=[f"{each.dead:,}" for each in backlogs], is_number=True),
        Column(name="oldest open", cells=[clock(each.oldest_at) for each in backlogs], leaves=1),
    ]
    print_table(columns, look, sys.stdout)


def _shortened(address: str) -> str:
    return address if len(address) <= ADDRESS_CHARACTERS_MAX else address[: ADDRESS_CHARACTERS_MAX - 1] + "…"
