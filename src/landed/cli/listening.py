"""`landed events listen` and `try`: for who writes an application that gets events."""

from __future__ import annotations

import asyncio
import secrets as randomness
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import Data, Json, ShowNumbers
from landed.cli.subscribers import (
    Channels,
    Events,
    Networks,
    Outcomes,
    Permanences,
    Reasons,
    find,
    read_wanted,
    reading,
    shown_address,
)
from landed.errors import SettingsError

if TYPE_CHECKING:
    from landed.cli.printing import Look
    from landed.domain.events import AnyEvent, Wanted
    from landed.settings import EventSettings, Settings
    from landed.store.outbox import KeptEvent
    from landed.store.sqlite_outbox import SqliteOutbox
    from landed.worker.letters import Answer, Carrier, Letter

LOOK_SECONDS = 0.1
A_TIME = 200
# Where one's own application is while one writes it.
LOOPBACK = ("127.0.0.0/8", "::1/128")
SHORT = "message."


def listen(  # noqa: PLR0913 - one argument an option
    *,
    forward_to: Annotated[
        str | None, typer.Option(help="Post each event there, such as http://localhost:8000/hooks.", metavar="URL")
    ] = None,
    events: Events = None,
    channels: Channels = None,
    networks: Networks = None,
    outcomes: Outcomes = None,
    reasons: Reasons = None,
    permanences: Permanences = None,
    secret: Annotated[str | None, typer.Option(help="Sign with this, whsec_… [a new one].")] = None,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Print each new event, and post it to an application that you are writing.

    Without a subscription: what does not arrive is not tried again. It ends with Ctrl-C.

    Example: landed events listen --forward-to http://localhost:8000/hooks/texts
    """
    from landed.cli.printing import Look  # noqa: PLC0415
    from landed.worker.webhook import check_secret, new_secret  # noqa: PLC0415

    settings = _settings(data)
    wanted = read_wanted(events, channels, networks, outcomes, reasons, permanences)
    text = new_secret() if secret is None else check_secret(secret)
    if forward_to is not None:
        _check_near(forward_to, settings)
        typer.echo(f"Events go to {forward_to}, signed with {_told_secret(secret, text)}", err=True)
    look = None if json else Look(sys.stdout, show_numbers=show_numbers)
    asyncio.run(_until_told(_listen(settings, wanted, look, forward_to, text)))


def try_event(
    event: Annotated[str, typer.Argument(metavar="TYPE", help="delivered, failed, … or message.delivered, …")],
    *,
    to: Annotated[
        str | None, typer.Option(help="Where to, such as http://localhost:8000/hooks.", metavar="URL")
    ] = None,
    subscriber: Annotated[str | None, typer.Option(help="To this subscriber, signed with its secret.")] = None,
    secret: Annotated[str | None, typer.Option(help="With --to: sign with this, whsec_… [a new one].")] = None,
    data: Data = None,
) -> None:
    """Send a sample of an event now, and say what was answered.

    It bears the header landed-sample, and nothing of the kind happened. Exit code 1 when it was not taken.

    Example: landed events try delivered --to http://localhost:8000/hooks/texts
    """
    from landed.worker.webhook import check_secret, new_secret  # noqa: PLC0415

    if (to is None) == (subscriber is None):
        raise SettingsError("Say where to: either --to URL or --subscriber NAME.")
    if secret is not None and to is None:
        raise SettingsError("--secret goes with --to: a subscriber is signed with its own.")
    settings = _settings(data)
    letter = _sample(event)
    if to is not None:
        _check_near(to, settings)
        text = new_secret() if secret is None else check_secret(secret)
        typer.echo(f"{letter.type} goes to {to}, signed with {_told_secret(secret, text)}")
        answer = asyncio.run(_sent(_near_webhook(settings.events), to, [text], letter))
    else:
        answer = asyncio.run(_tried(settings, str(subscriber), letter))
    typer.echo(f"{'taken' if answer.taken else 'not taken'}: {answer.said} ({answer.took_seconds:.1f} s)")
    raise typer.Exit(0 if answer.taken else 1)


async def _until_told(listening: Coroutine[object, object, None]) -> None:
    """Listen until Ctrl-C, or until told to end; also where whoever started us has signals ignored."""
    task = asyncio.create_task(listening)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


async def _listen(settings: Settings, wanted: Wanted, look: Look | None, forward_to: str | None, secret: str) -> None:
    """Look for new events, and tell of each, in their order."""
    from landed.worker.dispatch import letter_of  # noqa: PLC0415

    types = wanted.types()
    async with _closing(_near_webhook(settings.events)) as webhook:
        outbox, seq = await _opened(settings)
        try:
            while True:
                newest, found = outbox.newest(), outbox.events_after(seq, types, A_TIME)
                # What is of other types behind it need not be looked at again.
                seq = max([each.seq for each in found] + [newest] * (len(found) < A_TIME))
                for kept in found:
                    if not wanted.takes(kept.traits) or (letter := letter_of(kept)) is None:
                        continue
                    answer = await webhook.carry(forward_to, [secret], [letter]) if forward_to is not None else None
                    _tell(kept, letter, answer, look)
                if len(found) < A_TIME:
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            outbox.close()


async def _opened(settings: Settings) -> tuple[SqliteOutbox, int]:
    """The outbox, as soon as there is one, and behind which event all are new."""
    from landed.store.sqlite import FILE  # noqa: PLC0415
    from landed.store.sqlite_outbox import SqliteOutbox  # noqa: PLC0415

    path = settings.data / FILE
    was_there = path.exists()
    if not was_there:
        typer.echo(f"Nothing is in {settings.data} yet: waiting for `landed serve`.", err=True)
    while not path.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(LOOK_SECONDS)
    outbox = SqliteOutbox(path, only_read=True)
    return outbox, outbox.newest() if was_there else 0


def _tell(kept: KeptEvent, letter: Letter, answer: Answer | None, look: Look | None) -> None:
    import msgspec  # noqa: PLC0415

    if look is None:
        line = msgspec.to_builtins(kept.event)
        typer.echo(msgspec.json.encode(line if answer is None else line | {"answer": answer.said}).decode())
        return
    from landed.cli.printing import clock  # noqa: PLC0415

    said = "" if answer is None else look.paint(f"  {look.arrow} {answer.said}", "green" if answer.taken else "red")
    typer.echo(f"{look.paint(clock(kept.at), 'dim')}  {kept.type:<20}  {_about(letter.event, look)}{said}")


def _about(event: AnyEvent, look: Look) -> str:
    from landed.domain.events import InboundData, MessageData  # noqa: PLC0415

    data = event.data
    if isinstance(data, MessageData):
        reason = f"  {data.reason.slug}" if data.reason is not None else ""
        return f"{look.clean(data.message.message_id)}  {look.number(data.message.to)}{reason}"
    if isinstance(data, InboundData):
        return f"{look.clean(data.inbound.message_id)}  {look.number(data.inbound.sender)}"
    return f"{data.came:,} came, {data.held:,} are held"


def _sample(named: str) -> Letter:
    """A sample of a type, with an id of its own, since receivers know repeats by it."""
    from msgspec.structs import replace  # noqa: PLC0415

    from landed.domain.events import ID_BYTES, EventType, encode_event, id_text, instead_of  # noqa: PLC0415
    from landed.domain.samples import sample_of  # noqa: PLC0415
    from landed.worker.letters import Letter  # noqa: PLC0415

    types = {str(each): each for each in EventType} | {str(each).split(".")[-1]: each for each in EventType}
    short = {str(each).partition(".")[0]: each for each in EventType if not str(each).startswith(SHORT)}
    known = types | short
    if named not in known:
        raise SettingsError(f"No event is {named!r}{instead_of(named, EventType)}.")
    now = datetime.now(UTC)
    event = replace(sample_of(known[named], now), id=id_text(randomness.token_bytes(ID_BYTES)))
    return Letter(
        id=event.id, type=event.type, at=now, attempt=1, event=event, body=encode_event(event), is_sample=True
    )


async def _tried(settings: Settings, name: str, letter: Letter) -> Answer:
    from landed.store.outbox import Kind  # noqa: PLC0415
    from landed.work import carriers_of  # noqa: PLC0415
    from landed.worker.dispatch import clock_us  # noqa: PLC0415

    with reading(settings) as outbox:
        subscriber = find(outbox, name)
    if subscriber.kind is Kind.HANDLER:
        raise SettingsError(f"{name} is a handler: try it with landed handlers --try.")
    typer.echo(f"{letter.type} goes to {shown_address(subscriber)}")
    carrier = carriers_of(settings.events)[subscriber.kind]
    return await _sent(carrier, subscriber.address, subscriber.secrets_at(clock_us()), letter)


async def _sent(carrier: Carrier, address: str, secrets: list[str], letter: Letter) -> Answer:
    async with _closing(carrier):
        return await carrier.carry(address, secrets, [letter])


@asynccontextmanager
async def _closing(carrier: Carrier) -> AsyncIterator[Carrier]:
    try:
        yield carrier
    finally:
        await carrier.close()


def _near(settings: EventSettings) -> EventSettings:
    """As the settings say, and this machine, too: whoever types its address means it."""
    from ipaddress import ip_network  # noqa: PLC0415

    networks = (*settings.networks, *map(ip_network, LOOPBACK))
    return settings.model_copy(update={"plain_http": True, "networks": networks})


def _near_webhook(settings: EventSettings) -> Carrier:
    from landed.worker.webhook import Webhook  # noqa: PLC0415

    return Webhook(_near(settings))


def _told_secret(given: str | None, text: str) -> str:
    """A secret that nobody knows yet; one that was given is on the terminal often enough."""
    return text if given is None else "the secret that was given"


def _check_near(address: str, settings: Settings) -> None:
    from landed.worker.reach import read_url  # noqa: PLC0415

    if "://" not in address:
        raise SettingsError(f"{address} begins with no scheme: write http://{address.lstrip('/')}")
    read_url(address, plain_http=True, allowed=_near(settings.events).networks)


def _settings(data: Path | None) -> Settings:
    from landed.settings import load  # noqa: PLC0415

    return load(data=data)
