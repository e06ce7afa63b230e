"""`landed send`, `wait`, `track` and `jwt`: the sending side."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import Data, Json, ShowNumbers

if TYPE_CHECKING:
    from landed.domain.lifecycle import Message
    from landed.domain.receipt import Api
    from landed.sending.many import Result
    from landed.sending.sender import Sent
    from landed.settings import Settings
    from landed.store.sqlite import SqliteReader
    from landed.vonage.account import Outgoing

POLL_SECONDS = 0.2
PROGRESS_SECONDS = 0.5
WAIT = "2m"
EXIT_NO = 1
FIND_MAX = 100

ApiName = Annotated[str, typer.Option("--api", help="messages or sms.")]
Channel = Annotated[str, typer.Option(help="Of the Messages API: sms, mms, rcs, whatsapp, messenger, viber_service.")]
ClientRef = Annotated[str, typer.Option(help="A reference of your own, which comes back in each receipt.")]
Ttl = Annotated[int | None, typer.Option(help="How long to try to deliver it, in seconds.", min=20)]
Wait = Annotated[bool, typer.Option("--wait", help="Show its receipts as they come; exit code 0 is delivered.")]
WaitFor = Annotated[str, typer.Option(help="How long to wait for the last word.", metavar="TIME")]
Many = Annotated[
    Path | None,
    typer.Option(help="Send a list: a CSV file with to and text, and perhaps from, client_ref, api …", metavar="FILE"),
]
Batch = Annotated[
    str | None, typer.Option(help="What the list is called [its file's name]; nothing of one name is sent twice.")
]
Failover = Annotated[
    Path | None,
    typer.Option(help="What to send when it is rejected: a JSON list as Vonage's `failover`.", metavar="FILE"),
]
Rate = Annotated[float, typer.Option(help="Sends a second, of a list.", min=0.01, max=1_000)]


def send(  # noqa: PLR0913 - one argument an option
    text: Annotated[str | None, typer.Argument(help="What to send.")] = None,
    *,
    to: Annotated[str, typer.Option(help="Recipient: a number with its country code, or an id on Messenger.")] = "",
    sender: Annotated[str, typer.Option("--from", help="Sender: a number of yours, or a name [`sender`].")] = "",
    api: ApiName = "messages",
    channel: Channel = "sms",
    client_ref: ClientRef = "",
    ttl: Ttl = None,
    wait: Wait = False,
    wait_for: WaitFor = WAIT,
    failover: Failover = None,
    many: Many = None,
    batch: Batch = None,
    rate: Rate = 20.0,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Send one text through Vonage, once; or a list of them.

    It is kept before it leaves, and never repeated where no answer came: that is said to be unclear.

    Example: landed send --to 447700900001 --from ACME "Your code is 123456." --wait
    """
    from msgspec.structs import replace  # noqa: PLC0415

    from landed.domain.numbers import normal_number  # noqa: PLC0415
    from landed.domain.sending import SendState  # noqa: PLC0415
    from landed.errors import SettingsError  # noqa: PLC0415
    from landed.sending.sender import opened  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415
    from landed.vonage.account import Outgoing  # noqa: PLC0415

    settings = load(data=data)
    outgoing = Outgoing(
        api=_api(api),
        channel=channel,
        to=to if channel == "messenger" else normal_number(to),
        sender=normal_number(sender or settings.sender or ""),
        text=text or "",
        client_ref=client_ref,
        ttl_seconds=ttl,
    )
    if many is not None:
        if text or to or client_ref or wait:
            raise SettingsError("--many takes texts, recipients and references from the list: leave them out.")
        raise typer.Exit(_send_list(settings, many, batch or many.name, outgoing, rate, json=json))
    if failover is not None:
        outgoing = replace(outgoing, failover=_failover(failover, outgoing))
    if not (text and to and outgoing.sender):
        raise SettingsError("A send needs a text, --to and --from (or the setting `sender`); or --many with a list.")
    with opened(settings) as open_sender:
        sent = open_sender.send(outgoing)
    _tell(sent, outgoing, json=json)
    if sent.state is not SendState.SENT:
        raise typer.Exit(EXIT_NO)
    if wait:
        raise typer.Exit(_wait(settings, sent.message_ids, wait_for, json=json, show_numbers=show_numbers))


def wait(
    reference: Annotated[str, typer.Argument(help="A message id, or a client reference.", metavar="ID")],
    *,
    wait_for: WaitFor = WAIT,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Wait for the last word on a message, and show what is said meanwhile; exit code 0 is delivered.

    Example: landed wait 6cdbd8ed-7217-4bbf-ba3f-da9cdcaeaf2b
    """
    from landed.settings import load  # noqa: PLC0415

    raise typer.Exit(_wait(load(data=data), (reference,), wait_for, json=json, show_numbers=show_numbers))


def track(  # noqa: PLR0913 - one argument an option
    message_ids: Annotated[list[str], typer.Argument(help="The ids that Vonage gave; all parts of a long text.")],
    *,
    to: Annotated[str | None, typer.Option(help="Recipient.")] = None,
    sender: Annotated[str | None, typer.Option("--from", help="Sender.")] = None,
    api: ApiName = "messages",
    channel: Channel = "sms",
    client_ref: ClientRef = "",
    data: Data = None,
) -> None:
    """Say that a message was sent elsewhere, so that its silence is noticed, too.

    Example: landed track 6cdbd8ed-7217-4bbf-ba3f-da9cdcaeaf2b --to 447700900001
    """
    from landed.gate.track import track as keep  # noqa: PLC0415

    keep(message_ids, api=api, channel=channel, to=to, sender=sender, client_ref=client_ref or None, data=data)


def jwt(
    *,
    lasts: Annotated[str, typer.Option("--for", help="How long it is good, from 30s to 24h.", metavar="TIME")] = "15m",
) -> None:
    """Print a token of the application, for `Authorization: Bearer`.

    Example: curl -H "Authorization: Bearer $(landed jwt)" …
    """
    from landed.durations import seconds_of  # noqa: PLC0415
    from landed.errors import SettingsError  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415
    from landed.vonage.sdk import TOKEN_SECONDS, Credentials, application_token  # noqa: PLC0415

    seconds = int(seconds_of(lasts))
    if seconds not in TOKEN_SECONDS:
        raise SettingsError("A token is good for 30 seconds to 24 hours: give --for a time between them.")
    typer.echo(application_token(Credentials.of(load()), seconds))


def _api(name: str) -> Api:
    from landed.domain.receipt import Api  # noqa: PLC0415
    from landed.errors import SettingsError  # noqa: PLC0415

    try:
        return Api(name)
    except ValueError:
        raise SettingsError(f"{name!r} is no API: it is one of {', '.join(Api)}.") from None


def _tell(sent: Sent, outgoing: Outgoing, *, json: bool) -> None:
    """What became of the send, and what to do where it is not plainly sent."""
    from landed.cli.printing import encode_line  # noqa: PLC0415
    from landed.domain.meanings import REASONS  # noqa: PLC0415
    from landed.domain.sending import SendState  # noqa: PLC0415

    if json:
        view = {
            "state": sent.state.name.lower(),
            "message_ids": sent.message_ids,
            "client_ref": sent.client_ref,
            "workflow_id": sent.workflow_id,
            "reason": sent.reason or None,
            "detail": sent.detail or None,
        }
        typer.echo(encode_line(view))
        return
    ids = "\n".join(f"  {message_id}" for message_id in sent.message_ids)
    if sent.state is SendState.SENT:
        parts = f" in {len(sent.message_ids)} parts" if len(sent.message_ids) > 1 else ""
        typer.echo(f"Sent by {outgoing.channel}{parts}, client reference {sent.client_ref}\n{ids}")
    elif sent.state is SendState.REFUSED:
        advice = REASONS[sent.reason].advice if sent.reason in REASONS else ""
        some = f" but for\n{ids}" if sent.message_ids else "."
        typer.echo(f"Not sent ({sent.reason}): {sent.detail.rstrip('.')}. {advice}\nNothing was taken{some}", err=True)
    else:
        typer.echo(
            f"Unclear: {sent.detail}, so nobody knows whether Vonage took it. It is not repeated. Its receipts would "
            f"tell: landed wait {sent.client_ref}",
            err=True,
        )


def _failover(file: Path, first: Outgoing) -> tuple[Outgoing, ...]:
    """The texts that are sent in turn when the one before is rejected; what they do not say is as in the first."""
    import msgspec  # noqa: PLC0415

    from landed.domain.receipt import Api  # noqa: PLC0415
    from landed.errors import SettingsError  # noqa: PLC0415
    from landed.vonage.account import Outgoing  # noqa: PLC0415

    class Message(msgspec.Struct, forbid_unknown_fields=True, rename={"sender": "from"}):
        channel: str
        text: str
        to: str = first.to
        sender: str = first.sender
        ttl: int | None = None
        message_type: str = "text"

    if first.api is not Api.MESSAGES:
        raise SettingsError("Only the Messages API has failover: leave out --api sms, or --failover.")
    try:
        messages = msgspec.json.decode(file.read_bytes(), type=list[Message])
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"The failover {file} cannot be read: {error}.") from error
    return tuple(
        Outgoing(
            api=first.api,
            channel=each.channel,
            to=each.to,
            sender=each.sender,
            text=each.text,
            client_ref=first.client_ref,
            ttl_seconds=each.ttl,
        )
        for each in messages
    )


def _send_list(  # noqa: PLR0913 - what to send, how, and how to tell
    settings: Settings, file: Path, batch: str, usual: Outgoing, rate: float, *, json: bool
) -> int:
    """Send a list, and say what became of it; 0 when all of it was sent, now or before."""
    from landed.sending.many import alone, known_of, read_list, send_list  # noqa: PLC0415
    from landed.sending.sender import opened  # noqa: PLC0415

    lines = read_list(file, batch, usual)
    stop, began, told = Event(), time.monotonic(), Progress(len(lines), json=json)
    with alone(settings.data, batch), opened(settings) as sender:
        before = signal.signal(signal.SIGINT, lambda *_: stop.set())
        try:
            known = known_of(settings.data, batch)
            summary = send_list(lines, known, sender, batch, rate=rate, heard=told.heard, is_stopped=stop.is_set)
        finally:
            signal.signal(signal.SIGINT, before)
    told.end()
    counts = ", ".join(f"{count:,} {state}" for state, count in summary.states.items()) or "nothing to send"
    rest = summary.lines - summary.states.total()
    not_begun = f", {rest:,} not begun" if rest else ""
    took = time.monotonic() - began
    typer.echo(f"{batch}: {summary.lines:,} lines: {counts}{not_begun}, in {took:.1f} s.", err=True)
    for reason, count in summary.reasons.most_common():
        typer.echo(f"  {count:,} refused: {reason}", err=True)
    if summary.stopped:
        typer.echo(f"It ended early ({summary.stopped}). The same command goes on from there.", err=True)
    return 0 if summary.is_sent else EXIT_NO


class Progress:
    """How far a list is: a line that is written over on a terminal, and one object a line for programs."""

    def __init__(self, lines: int, *, json: bool) -> None:
        self._lines = lines
        self._json = json
        self._heard = 0
        self._shown_at = 0.0

    def heard(self, result: Result) -> None:
        """Tell of a line."""
        from landed.cli.printing import encode_line  # noqa: PLC0415

        self._heard += 1
        if self._json:
            sent = result.sent
            view = {
                "line": result.line.number,
                "to": result.line.outgoing.to,
                "client_ref": result.line.outgoing.client_ref,
                "state": result.state.name.lower(),
                "before": result.before,
                "message_ids": sent.message_ids if sent else (),
                "reason": (sent.reason or None) if sent else None,
            }
            typer.echo(encode_line(view))
        if sys.stderr.isatty() and time.monotonic() - self._shown_at > PROGRESS_SECONDS:
            self._shown_at = time.monotonic()
            typer.echo(f"\r{self._heard:,} of {self._lines:,} ", err=True, nl=False)

    def end(self) -> None:
        """Leave the line."""
        if sys.stderr.isatty():
            typer.echo("\r", err=True, nl=False)


def _wait(settings: Settings, references: tuple[str, ...], wait_for: str, *, json: bool, show_numbers: bool) -> int:
    """Show what is said of these messages until the last word on each; 0 when all of them were delivered."""
    from landed.cli.printing import Look, clock, encode_line  # noqa: PLC0415
    from landed.domain.views import ReceiptView  # noqa: PLC0415
    from landed.durations import seconds_of  # noqa: PLC0415

    until = time.monotonic() + seconds_of(wait_for)
    look, shown, found = Look(sys.stdout, show_numbers=show_numbers), set(), {}
    with suppress(KeyboardInterrupt):
        while True:
            reader = _reader(settings)
            if reader is not None:
                with closing(reader):
                    found = {each.message_id: each for ref in references for each in reader.find(ref, limit=FIND_MAX)}
                    facts = [fact for each in found.values() for fact in reader.facts(each)]
                for kept in sorted(facts, key=lambda kept: kept.row):
                    if kept.fact.source == "sent" or kept.fact.key in shown:
                        continue
                    shown.add(kept.fact.key)
                    receipt = kept.fact.receipt
                    line = f"{look.paint(clock(kept.fact.received_at), 'dim')}  {look.receipt_line(receipt)}"
                    typer.echo(encode_line(ReceiptView.of_fact(kept.fact)) if json else line)
            if (found and all(map(_is_over, found.values()))) or time.monotonic() > until:
                break
            time.sleep(POLL_SECONDS)
    if not found or not all(map(_is_over, found.values())):
        typer.echo(f"No last word within {wait_for}; it may still come: landed show {references[0]}", err=True)
    return 0 if found and all(each.outcome == "delivered" for each in found.values()) else EXIT_NO


def _is_over(message: Message) -> bool:
    return message.outcome != "pending"


def _reader(settings: Settings) -> SqliteReader | None:
    """The store, once there is one."""
    from landed.errors import SurroundingsError  # noqa: PLC0415
    from landed.run import store_path  # noqa: PLC0415
    from landed.store.sqlite import SqliteReader  # noqa: PLC0415

    with suppress(SurroundingsError):
        return SqliteReader(store_path(settings.data))
    return None
