"""`landed demo`: everything at work offline, in a directory of its own that goes when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from landed.cli.options import ShowNumbers, configure_logging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from landed.domain.lifecycle import Message
    from landed.run import Parent
    from landed.settings import Settings
    from landed.simulator.server import Server
    from landed.simulator.simulator import Message as Simulated
    from landed.simulator.simulator import Simulator

HOST = "127.0.0.1"
PUBLIC_PORT = 3000
PRIVATE_PORT = 3001
API_KEY = "abcd1234"
SIGNATURE_SECRET = "demo-signature-secret"  # noqa: S105 - of an account that exists nowhere
SENDER = "landed"
SHORT_TEXT = "Your code is 123456."
LONG_TEXT = "Your code is 123456. " + "It is valid for ten minutes, and for you alone. " * 6

# A minute of the demo's networks passes in a second; the days that some receipts take pass at once.
SPEED = 60.0
SEED = 4
FAULTS = ("outage,from=30s,for=40s", "slow,by=20ms,from=80s,for=30s", "burst,from=110s,for=20s")
DAYS = 3.5

# With the sending of a few dozen messages these stay below the 30 seconds that `--exit` may take.
START_SECONDS = 8.0
PLAY_SECONDS = 1.5
SETTLE_SECONDS = 15.0
POLL_SECONDS = 0.05
SEND_SECONDS = 0.1

# Recipient, text and channel of each message, through the Messages API or, where it is None, the SMS API; begun again
# when more are wanted. First the numbers whose fate is known, then some whose network decides.
SENDS: Sequence[tuple[str, str, str | None]] = (
    ("447700900001", SHORT_TEXT, "sms"),
    ("447700900001", SHORT_TEXT, None),
    ("447700900001", LONG_TEXT, "sms"),
    ("447700900001", LONG_TEXT, None),
    ("447700900002", SHORT_TEXT, "sms"),
    ("447700900002", SHORT_TEXT, None),
    ("447700900003", SHORT_TEXT, "sms"),
    ("447700900004", SHORT_TEXT, None),
    ("447700900005", SHORT_TEXT, None),
    ("447700900006", SHORT_TEXT, None),
    ("447700900007", SHORT_TEXT, "sms"),
    ("447700900008", SHORT_TEXT, None),
    ("447700900009", SHORT_TEXT, None),
    ("447700900010", SHORT_TEXT, "sms"),
    ("447700900011", SHORT_TEXT, None),
    ("447700900012", SHORT_TEXT, "sms"),
    ("447700900013", SHORT_TEXT, None),
    ("447700900014", SHORT_TEXT, "whatsapp"),
    ("447700900015", LONG_TEXT, "sms"),
    ("447700900016", LONG_TEXT, None),
    ("447700900018", SHORT_TEXT, "sms"),
    ("447700900019", SHORT_TEXT, "sms"),
    ("447700900020", SHORT_TEXT, "sms"),
    ("491511234567", SHORT_TEXT, "sms"),
    ("33612345678", SHORT_TEXT, None),
    ("12125550123", SHORT_TEXT, None),
    ("639171234567", SHORT_TEXT, "sms"),
    ("919876543210", SHORT_TEXT, None),
    ("2348031234567", SHORT_TEXT, "sms"),
)
# An outcome that something says outranks one that nothing or less does; landed's own table is not asked.
RANKS = {"pending": 0, "unconfirmed": 1, "failed": 2, "delivered": 3}


class Sent(NamedTuple):
    """A message of the demo: what becomes of it, in truth and by its receipts."""

    api: str
    message_id: str
    to: str
    what: str
    arrived: bool
    outcome: str


def demo(
    *,
    messages: Annotated[int, typer.Option(min=1, max=1000, help="How many to send.")] = len(SENDS),
    leave: Annotated[bool, typer.Option("--exit", help="End when all is known: 0 if it is as it should be.")] = False,
    print_: Annotated[str, typer.Option("--print", help="pretty, json, raw or none.", metavar="MODE")] = "pretty",
    show_numbers: ShowNumbers = False,
) -> None:
    """See it all work, offline.

    A small Vonage takes messages through both APIs, their receipts come, and a table says what became of each.

    Example: landed demo --messages 20 --exit
    """
    configure_logging()
    with tempfile.TemporaryDirectory(prefix="landed-demo-") as directory:
        before = Path.cwd()
        # The demo is the same everywhere: neither a landed.toml nor the environment may change it.
        os.chdir(directory)
        for name in [name for name in os.environ if name.startswith(("LANDED_", "VONAGE_"))]:
            del os.environ[name]
        os.environ |= {"VONAGE_API_KEY": API_KEY, "VONAGE_SIGNATURE_SECRET": SIGNATURE_SECRET}
        try:
            code = asyncio.run(_demo(Path(directory), messages, leave=leave, print_=print_, show_numbers=show_numbers))
        finally:
            os.chdir(before)
    raise typer.Exit(code)


async def _demo(directory: Path, count: int, *, leave: bool, print_: str, show_numbers: bool) -> int:
    from landed import run  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415

    settings = load(host=HOST, data=directory / "data", print=print_, show_numbers=show_numbers)
    run.prepare(settings.data)
    parent = run.Parent(settings, _listen(PUBLIC_PORT), _listen(PRIVATE_PORT))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        ended = asyncio.create_task(_until_ended(parent, stop))
        stack.push_async_callback(asyncio.to_thread, parent.stop)
        server, sender = await stack.enter_async_context(_vonage(parent.port, directory / "vonage"))
        played = asyncio.create_task(_play(settings, parent, server, sender, count))
        await asyncio.wait({played, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not played.done():
            played.cancel()
            return (await ended) or (1 if leave else 0)
        code = _report(await played, show_numbers=show_numbers)
        if leave:
            stop.set()
            return (await ended) or code
        _invite(parent)
        return await ended


def _listen(usual: int) -> socket.socket:
    """The usual port if it is free, else any."""
    from landed import run  # noqa: PLC0415
    from landed.errors import SurroundingsError  # noqa: PLC0415

    try:
        return run.listen(HOST, usual, "--port")
    except SurroundingsError:
        return run.listen(HOST, 0, "--port")


async def _until_ended(parent: Parent, stop: asyncio.Event) -> int:
    """Run gate and worker, as `landed serve` does, until told to stop; not 0 if they would not go on."""
    from landed.run import TEND_SECONDS  # noqa: PLC0415

    parent.start()
    while not stop.is_set():
        code = parent.tend()
        if code is not None:
            return code
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), TEND_SECONDS)
    return 0


@asynccontextmanager
async def _vonage(port: int, directory: Path) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """The offline Vonage on ports of its own, and a client that sends through it."""
    import httpx  # noqa: PLC0415

    from landed.simulator.account import Settings as AccountSettings  # noqa: PLC0415
    from landed.simulator.faults import wanted_of  # noqa: PLC0415
    from landed.simulator.scenario import Scenario  # noqa: PLC0415
    from landed.simulator.server import Server  # noqa: PLC0415

    scenario = Scenario(
        seed=SEED,
        speed=SPEED,
        status_url=f"http://{HOST}:{port}/webhooks/message-status",
        receipt_url=f"http://{HOST}:{port}/webhooks/delivery-receipt",
        settings=AccountSettings(webhook_format=None, throughput=0),
        api_key=API_KEY,
        signature_secret=SIGNATURE_SECRET,
        faults=tuple(map(wanted_of, FAULTS)),
    )
    listening, listening_tls = (socket.create_server((HOST, 0)) for _ in range(2))
    server = await Server.start(scenario, listening, listening_tls, directory)
    try:
        async with httpx.AsyncClient(base_url=server.url) as sender:
            yield server, sender
    finally:
        await server.stop()


async def _play(
    settings: Settings, parent: Parent, server: Server, sender: httpx.AsyncClient, count: int
) -> list[tuple[Sent, Message | None]]:
    """Send, let the receipts come, and wait until landed has an outcome for each message."""
    await _ready(parent)
    typer.echo(
        f"Sending {count} messages through an offline Vonage, whose minutes are seconds here; "
        f"their receipts come to port {parent.port}.\n"
        "On their way are an outage of 40 seconds, a slow network and a burst.\n"
    )
    for number in range(count):
        ids = await _send(server, sender, *SENDS[number % len(SENDS)])
        await asyncio.to_thread(_track, settings, [server.simulator.messages[each] for each in ids])
        await asyncio.sleep(SEND_SECONDS)
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
    await asyncio.sleep(PLAY_SECONDS)
    typer.echo("\nNow three days pass at once, so that the last word on each message is spoken.\n")
    with suppress(TimeoutError):
        await asyncio.wait_for(server.simulator.clock.step(timedelta(days=DAYS)), SETTLE_SECONDS)
    while True:
        known = await asyncio.to_thread(_known, settings, list(server.simulator.messages))
        results = [
            (_sent(server.simulator, message), known.get(message_id))
            for message_id, message in server.simulator.messages.items()
        ]
        late = asyncio.get_running_loop().time() > deadline
        if late or all(_is_right(sent, message) for sent, message in results):
            # What is still in the printer's queue is printed before the table.
            await asyncio.sleep(4 * POLL_SECONDS)
            return results
        await asyncio.sleep(POLL_SECONDS)


async def _ready(parent: Parent) -> None:
    """Wait until gate and worker answer."""
    import httpx  # noqa: PLC0415

    from landed.errors import SurroundingsError  # noqa: PLC0415

    deadline = asyncio.get_running_loop().time() + START_SECONDS
    async with httpx.AsyncClient() as client:
        for port in (parent.port, parent.private_port):
            while True:
                with suppress(httpx.HTTPError):
                    answer = await client.get(f"http://{HOST}:{port}/healthz", timeout=START_SECONDS)
                    if answer.is_success:
                        break
                if asyncio.get_running_loop().time() > deadline:
                    raise SurroundingsError(f"landed did not start on port {port} within {START_SECONDS:.0f} seconds.")
                await asyncio.sleep(POLL_SECONDS)


async def _send(server: Server, sender: httpx.AsyncClient, to: str, text: str, channel: str | None) -> list[str]:
    """Send one message; the ids that Vonage gave it, several for the parts of a long text through the SMS API."""
    if channel is not None:
        body = {"message_type": "text", "text": text, "to": to, "from": SENDER, "channel": channel}
        token = {"Authorization": f"Bearer {server.environment['JWT']}"}
        answer = await sender.post("/v1/messages", json=body, headers=token)
        return [answer.json()["message_uuid"]]
    key_and_secret = (API_KEY, server.environment["VONAGE_API_SECRET"])
    answer = await sender.post("/sms/json", data={"text": text, "to": to, "from": SENDER}, auth=key_and_secret)
    return [part["message-id"] for part in answer.json()["messages"]]


def _track(settings: Settings, messages: Sequence[Simulated]) -> None:
    """Tell landed what was sent, as an application does that tracks its sends."""
    import landed  # noqa: PLC0415

    send = messages[0].send
    landed.track(
        [message.message_id for message in messages],
        api=send.api,
        channel=send.channel,
        to=send.to,
        sender=send.sender,
        sent_at=messages[0].sent_at,
        data=settings.data,
    )


def _sent(simulator: Simulator, message: Simulated) -> Sent:
    """What the simulator knows of a message, and the outcome that the receipts which landed took imply."""
    from landed.simulator.fates import FATES  # noqa: PLC0415

    callbacks = [each for each in simulator.caller.callbacks if each.message_id == message.message_id]
    outcomes = [str(each.receipt.outcome) for each in callbacks if each.is_taken]
    return Sent(
        api=str(message.send.api),
        message_id=message.message_id,
        to=message.send.to,
        what=FATES[message.fate].what,
        arrived=message.arrived_at is not None,
        outcome=max(outcomes, key=RANKS.__getitem__, default="pending"),
    )


def _known(settings: Settings, message_ids: Sequence[str]) -> Mapping[str, Message]:
    from landed.run import store_path  # noqa: PLC0415
    from landed.store.sqlite import SqliteReader  # noqa: PLC0415

    reader = SqliteReader(store_path(settings.data))
    try:
        return {message_id: message for message_id in message_ids for message in reader.find(message_id, limit=1)}
    finally:
        reader.close()


def _is_right(sent: Sent, message: Message | None) -> bool:
    """Whether landed's outcome is the one that the receipts sent for the message imply."""
    return message is not None and message.outcome == sent.outcome


def _report(results: Sequence[tuple[Sent, Message | None]], *, show_numbers: bool) -> int:
    """The table of what became of every message; 1 with the list of those that are not as they should be."""
    from landed.cli.printing import OUTCOME_STYLES, Column, Look, print_table  # noqa: PLC0415

    look = Look(sys.stdout, show_numbers=show_numbers)
    outcomes = [str(message.outcome) if message else "unknown" for _, message in results]
    columns = [
        Column(name="API", cells=[sent.api for sent, _ in results]),
        Column(name="to", cells=[look.number(sent.to) for sent, _ in results], leaves=3),
        Column(name="what becomes of it", cells=[sent.what for sent, _ in results]),
        Column(name="arrived", cells=["yes" if sent.arrived else "no" for sent, _ in results], leaves=5),
        Column(name="receipts", cells=[str(message.receipts) if message else "0" for _, message in results], leaves=1),
        Column(name="Vonage said", cells=[_last_word(message) for _, message in results], leaves=2),
        Column(name="outcome", cells=outcomes, styles=[OUTCOME_STYLES.get(outcome, "dim") for outcome in outcomes]),
        Column(name="message id", cells=[sent.message_id for sent, _ in results], leaves=4),
    ]
    typer.echo("")
    print_table(columns, look, sys.stdout)
    wrong = [(sent, message) for sent, message in results if not _is_right(sent, message)]
    if not wrong:
        typer.echo(
            f"\nEvery one of {len(results)} message ids has the outcome that its receipts imply. (A long text through "
            "the SMS API has an id for each part.) What arrived, the simulator knows; receipts may say otherwise."
        )
        return 0
    typer.echo(f"\n{len(wrong)} of {len(results)} messages do not have the outcome that their receipts imply:")
    for sent, message in wrong:
        typer.echo(f"  {sent.message_id}  {message.outcome if message else 'unknown'}, not {sent.outcome}")
    return 1


def _last_word(message: Message | None) -> str:
    return message.provider_status if message and message.receipts else ""


def _invite(parent: Parent) -> None:
    """Where to point curl, with a line to copy."""
    url = f"http://{HOST}:{parent.port}/webhooks/delivery-receipt"
    query = "msisdn=447700900009&to=landed&network-code=23410&messageId=0A0000001234567B&price=0.03330000"
    typer.echo(
        f"\nlanded stays up. Its page is http://{HOST}:{parent.private_port}/. Send it a receipt of your own:\n\n"
        f"  curl -i '{url}?{query}&status=delivered&scts=2611221200&err-code=0'\n\n"
        "Ctrl-C ends it and removes what it kept."
    )
