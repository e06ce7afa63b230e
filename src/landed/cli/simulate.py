"""`landed simulate`: an offline Vonage to send through, or one that drives a receiver with as much as it can take."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landed.cli.options import Json

if TYPE_CHECKING:
    from landed.simulator.callbacks import Attempt, Callback
    from landed.simulator.load import Report
    from landed.simulator.scenario import Scenario
    from landed.simulator.server import Server

HOST = "127.0.0.1"
PORT, TLS_PORT = 4010, 4011
# Where the tutorials, and `landed serve`, listen.
STATUS_URL = "http://127.0.0.1:3000/webhooks/message-status"
RECEIPT_URL = "http://127.0.0.1:3000/webhooks/delivery-receipt"
RATE_MAX = 100_000.0


Port = Annotated[int, typer.Option(help="Port of the APIs, without TLS; 0 is any.")]
TlsPort = Annotated[int, typer.Option(help="Port of the APIs, with TLS, as SDKs want it; 0 is any.")]
StatusUrl = Annotated[
    str | None, typer.Option(help=f"Where statuses of the Messages API go [{STATUS_URL}].", metavar="URL")
]
ReceiptUrl = Annotated[
    str | None, typer.Option(help=f"Where delivery receipts of the SMS API go [{RECEIPT_URL}].", metavar="URL")
]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same account, fates and ids [1].")]
Speed = Annotated[
    str | None, typer.Option(help="Simulated seconds a real one, or stepped: by the control API alone [1].")
]
Begin = Annotated[datetime | None, typer.Option(help="When simulated time begins, in UTC.")]
ScenarioFile = Annotated[Path | None, typer.Option(help="A TOML file with all of this, and more.", metavar="FILE")]
Faults = Annotated[
    list[str] | None,
    typer.Option(help="What goes wrong, such as outage,from=10m,for=1h; again for more.", metavar="KIND,…"),
]
Fates = Annotated[
    list[str] | None,
    typer.Option(help="What becomes of messages to a number, such as 447911123456=buffered.", metavar="TO=FATE"),
]
WebhookFormat = Annotated[
    str | None, typer.Option(help="Form of SMS receipts: GET, POST, POST-JSON, or each in turn [POST-JSON].")
]
SignatureSecret = Annotated[
    str | None, typer.Option(help="Sign with this secret instead of the seed's.", metavar="SECRET")
]
Env = Annotated[Path | None, typer.Option(help="Write what programs need to a file, once it listens.", metavar="FILE")]
Rate = Annotated[
    float | None, typer.Option(help="Drive the receiver with so many receipts a second, and report.", min=0.1)
]
For = Annotated[str, typer.Option("--for", help="How long to do so, such as 60s.", metavar="TIME")]
Wait = Annotated[
    str, typer.Option("--wait", help="How long to wait then for what is still to be taken.", metavar="TIME")
]
List = Annotated[bool, typer.Option("--list", help="List well-known numbers, fates, faults and networks.")]


def simulate(  # noqa: PLR0913 - one argument an option
    *,
    port: Port = PORT,
    tls_port: TlsPort = TLS_PORT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = HOST,
    status_url: StatusUrl = None,
    receipt_url: ReceiptUrl = None,
    seed: Seed = None,
    speed: Speed = None,
    begin: Begin = None,
    scenario: ScenarioFile = None,
    fault: Faults = None,
    fate: Fates = None,
    webhook_format: WebhookFormat = None,
    signature_secret: SignatureSecret = None,
    env: Env = None,
    rate: Rate = None,
    for_: For = "10s",
    wait: Wait = "10s",
    list_: List = False,
    json: Json = False,
) -> None:
    """Be an offline Vonage: take messages through its APIs, and call back with signed receipts.

    SDKs, curl and applications work against it unchanged, with what --env writes in their environment.

    Example: landed simulate --env vonage.env --speed 60
    """
    from landed.durations import seconds_of  # noqa: PLC0415
    from landed.errors import SettingsError  # noqa: PLC0415
    from landed.simulator.scenario import load_scenario  # noqa: PLC0415

    if list_:
        _list()
        return
    wanted = _with_options(
        load_scenario(scenario),
        {
            "seed": seed,
            "speed": speed,
            "began_at": begin,
            "signature_secret": signature_secret,
            "status_url": status_url,
            "receipt_url": receipt_url,
            "webhook_format": webhook_format,
            "fate": fate or None,
            "fault": fault or None,
        },
    )
    if rate is None:
        raise typer.Exit(_run(_serve(wanted, host, port, tls_port, env and env.absolute())))
    if rate > RATE_MAX or env is not None:
        raise SettingsError(
            f"--rate is {RATE_MAX:,.0f} receipts a second at most, and does not listen: it takes no --env."
        )
    if seconds_of(for_) <= 0:
        raise SettingsError("--for is how long to drive the receiver, such as 60s.")
    raise typer.Exit(_run(_drive(wanted, rate, (seconds_of(for_), seconds_of(wait)), json=json)))


def _with_options(scenario: Scenario, options: Mapping[str, Any]) -> Scenario:
    """A scenario with the options of the command line, which win; those that are None were not given."""
    from msgspec.structs import replace  # noqa: PLC0415

    from landed.simulator.account import changed_settings  # noqa: PLC0415
    from landed.simulator.fates import fate_named  # noqa: PLC0415
    from landed.simulator.faults import wanted_of  # noqa: PLC0415
    from landed.simulator.scenario import aware, speed_of  # noqa: PLC0415

    given = {name: value for name, value in options.items() if value is not None}
    fates = dict(scenario.fates)
    for text in given.pop("fate", ()):
        recipient, _, name = text.partition("=")
        fate_named(name)
        fates[recipient] = name
    if "speed" in given:
        given["speed"] = speed_of(given["speed"])
    if "began_at" in given:
        given["began_at"] = aware(given["began_at"])
    if "webhook_format" in given:
        given["settings"] = changed_settings(scenario.settings, {"webhook_format": given.pop("webhook_format")})
    faults = (*scenario.faults, *map(wanted_of, given.pop("fault", ())))
    usual = {
        "status_url": scenario.status_url or STATUS_URL,
        "receipt_url": scenario.receipt_url or scenario.settings.receipt_url or RECEIPT_URL,
    }
    return replace(scenario, **(usual | given), fates=fates, faults=faults)


def _run(activity: Coroutine[Any, Any, int]) -> int:
    import uvloop  # noqa: PLC0415

    return uvloop.run(activity)


async def _serve(scenario: Scenario, host: str, port: int, tls_port: int, env: Path | None) -> int:
    """Listen until told to stop."""
    from landed.run import listen  # noqa: PLC0415
    from landed.simulator.environment import write_environment  # noqa: PLC0415
    from landed.simulator.server import Server  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with ExitStack() as stack:
        listening = stack.enter_context(listen(host, port, "--port"))
        listening_tls = stack.enter_context(listen(host, tls_port, "--tls-port"))
        directory = env.with_name(env.name + ".d") if env is not None else None
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="landed-simulate-")))
        server = await Server.start(scenario, listening, listening_tls, directory)
        try:
            server.simulator.caller.heard = lambda callback, attempt: _print_try(callback, attempt, stop)
            if env is not None:
                write_environment(env, server.environment)
            _announce(server, scenario, env)
            await stop.wait()
        finally:
            await server.stop()
    return 0


def _announce(server: Server, scenario: Scenario, env: Path | None) -> None:
    from landed import __version__  # noqa: PLC0415

    account = server.simulator.account
    speed = f"{scenario.speed:g} simulated seconds a real one" if scenario.speed else "stepped, by POST /_sim/time"
    rows = {
        "APIs": f"{server.url} and {server.tls_url}",
        "control": f"{server.url}/_sim",
        "API key": f"{account.api_key}, secret {account.api_secret}",
        "signatures": account.signature_secret,
        "application": account.application.id,
        "statuses to": scenario.status_url,
        "receipts to": account.settings.receipt_url,
        "time": f"{speed}, seed {scenario.seed}",
        "in short": f'eval "$(cat {env})"' if env is not None else "--env FILE writes all of it for programs",
    }
    typer.echo("\n".join([f"landed {__version__}, an offline Vonage", *(f"  {k:<12}{v}" for k, v in rows.items()), ""]))


def _print_try(callback: Callback, attempt: Attempt, stop: asyncio.Event) -> None:
    """One line for each try, as a tunnel prints what goes through it; where nobody reads them any more, it ends."""
    method = callback.request.method if callback.request else "-"
    line = (
        f"{attempt.at:%H:%M:%S}  {method:<4} {callback.url}  {attempt.status or attempt.error}  "
        f"{callback.receipt.provider_status} {callback.message_id}"
    )
    try:
        typer.echo(line if len(callback.attempts) == 1 else f"{line}  try {len(callback.attempts)}")
    except BrokenPipeError:
        stop.set()


async def _drive(scenario: Scenario, rate: float, times: tuple[float, float], *, json: bool) -> int:
    """Call a receiver at a rate, for so long and then waiting so long; 0 when it took every receipt."""
    from landed.simulator.load import Load  # noqa: PLC0415
    from landed.simulator.server import simulator_of  # noqa: PLC0415
    from landed.simulator.wire import Client  # noqa: PLC0415

    client = Client()
    simulator = simulator_of(scenario, client, "")
    load = Load(simulator, rate)
    if not json:
        typer.echo(
            f"{rate:,.0f} receipts a second for {times[0]:g} s to {scenario.status_url} and "
            f"{simulator.account.settings.receipt_url}, signed with {simulator.account.signature_secret}"
        )
    driving = asyncio.ensure_future(load.drive(*times, _progress))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, driving.cancel)
    try:
        report, is_whole = await driving, True
    except asyncio.CancelledError:
        typer.echo("Interrupted before the end; until then:", err=True)
        report, is_whole = load.report(whole=True), False
    finally:
        await simulator.clock.stop()
        client.close()
    _tell(report, json=json)
    return 0 if is_whole and report.is_taken else 1


def _progress(report: Report) -> None:
    if sys.stderr.isatty():
        p99 = report.latency_ms.get("p99", 0.0)
        typer.echo(
            f"\r{report.seconds:6.0f} s  {report.asked:,} receipts  {report.states['waiting']:,} not taken yet  "
            f"{report.retries:,} retries  p99 {p99:.1f} ms   ",
            err=True,
            nl=False,
        )


def _tell(report: Report, *, json: bool) -> None:
    import msgspec  # noqa: PLC0415

    if json:
        typer.echo(msgspec.json.encode(report).decode())
        return
    rate = report.asked / max(report.seconds, 1e-9)
    rows = {
        "receipts": f"{report.asked:,} in {report.seconds:.1f} s, {rate:,.0f} a second",
        "calls": f"{report.calls:,}, {report.retries:,} of them retries",
        "answers": ", ".join(f"{answer}: {count:,}" for answer, count in report.answers.items()) or "none",
        "receipts are": ", ".join(f"{state}: {count:,}" for state, count in report.states.items()),
        "answered in": ", ".join(f"{name} {value:.1f} ms" for name, value in report.latency_ms.items()) or "-",
        "held back": f"{report.held_back_ms:.0f} ms at most; {report.not_called:,} could not be called in time",
    }
    if sys.stderr.isatty():
        typer.echo("", err=True)
    typer.echo("\n".join(f"  {name:<14}{value}" for name, value in rows.items()))


def _list() -> None:
    """What there is to choose from."""
    from landed.cli.printing import Column, Look, print_table  # noqa: PLC0415
    from landed.domain.networks import country_name, network_of  # noqa: PLC0415
    from landed.simulator.fates import CARDS, FATES, LAST_PART_REFUSED, REFUSED  # noqa: PLC0415
    from landed.simulator.faults import KINDS  # noqa: PLC0415
    from landed.simulator.networks import NETWORKS  # noqa: PLC0415

    look = Look(sys.stdout, show_numbers=True)

    def table(title: str, *columns: Column) -> None:
        typer.echo(f"\n{title}\n")
        print_table(list(columns), look, sys.stdout)

    numbers = [*CARDS, *REFUSED, LAST_PART_REFUSED]
    refused = {number: f"refused: status {code}" for number, code in REFUSED.items()}
    told = {**CARDS, **refused, LAST_PART_REFUSED: "the last part of a long text is refused"}
    table(
        "Numbers that force one fate each, under every seed",
        Column(name="to", cells=numbers),
        Column(name="fate", cells=[told[number] for number in numbers]),
    )
    table(
        "Fates, for --fate, a scenario's [fates] and /_sim/fates",
        Column(name="fate", cells=list(FATES)),
        Column(name="what becomes of the message", cells=[fate.what for fate in FATES.values()]),
    )
    table(
        "Faults, for --fault, a scenario's [[fault]] and /_sim/faults; each takes from, for and part",
        Column(name="fault", cells=[str(kind) for kind in KINDS]),
        Column(name="what happens", cells=[told.does for told in KINDS.values()]),
        Column(
            name="option", cells=[f"{told.option}={told.usual:g}" if told.option else "" for told in KINDS.values()]
        ),
    )
    table(
        "Networks, for a scenario's [network.CODE]",
        Column(name="code", cells=[network.code for network in NETWORKS]),
        Column(name="country", cells=[country_name(network.country) for network in NETWORKS]),
        Column(name="operator", cells=[network_of(network.code).name for network in NETWORKS]),
        Column(name="latency", cells=[f"{network.latency_seconds:g} s" for network in NETWORKS]),
    )
