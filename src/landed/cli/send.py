"""`landed send`, `wait`, `track` and `jwt`: the sending side."""

from __future__ import annotations

import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import Data, Json, ShowNumbers

if TYPE_CHECKING:
    from landed.domain.lifecycle import Message
    from landed.domain.receipt import Api
    from landed.sending.sender import Sent
    from landed.settings import Settings
    from landed.store.sqlite import SqliteReader
    from landed.vonage.account import Outgoing

POLL_SECONDS = 0.2
WAIT = "2m"
EXIT_NO = 1
FIND_MAX = 100

To = Annotated[str, typer.Option(help="Recipient: a number with its country code, or an id on Messenger.")]
From = Annotated[str, typer.Option("--from", help="Sender: a number of yours, or a name.")]
ApiName = Annotated[str, typer.Option("--api", help="messages or sms.")]
Channel = Annotated[str, typer.Option(help="Of the Messages API: sms, mms, rcs, whatsapp, messenger, viber_service.")]
ClientRef = Annotated[str, typer.Option(help="A reference of your own, which comes back in each receipt.")]
Ttl = Annotated[int | None, typer.Option(help="How long to try to deliver it, in seconds.", min=20)]
Wait = Annotated[bool, typer.Option("--wait", help="Show its receipts as they come; exit code 0 is delivered.")]
WaitFor = Annotated[str, typer.Option(help="How long to wait for the last word.", metavar="TIME")]


def send(  # noqa: PLR0913 - one argument an option
    text: Annotated[str, typer.Argument(help="What to send.")],
    *,
    to: To,
    sender: From,
    api: ApiName = "messages",
    channel: Channel = "sms",
    client_ref: ClientRef = "",
    ttl: Ttl = None,
    wait: Wait = False,
    wait_for: WaitFor = WAIT,
    data: Data = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Send one text through Vonage, once.

    It is kept before it leaves, and never repeated where no answer came: that is said to be unclear.

    Example: landed send --to 447700900001 --from ACME "Your code is 123456." --wait
    """
    from landed.domain.numbers import normal_number  # noqa: PLC0415
    from landed.domain.sending import SendState  # noqa: PLC0415
    from landed.sending.sender import opened  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415
    from landed.vonage.account import Outgoing  # noqa: PLC0415

    settings = load(data=data)
    outgoing = Outgoing(
        api=_api(api),
        channel=channel,
        to=to if channel == "messenger" else normal_number(to),
        sender=normal_number(sender),
        text=text,
        client_ref=client_ref,
        ttl_seconds=ttl,
    )
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
    from landed.sending.sender import credentials_of  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415
    from landed.vonage.account import TOKEN_SECONDS, application_token  # noqa: PLC0415

    seconds = int(seconds_of(lasts))
    if seconds not in TOKEN_SECONDS:
        raise SettingsError("A token is good for 30 seconds to 24 hours: give --for a time between them.")
    typer.echo(application_token(credentials_of(load()), seconds))


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


def _wait(settings: Settings, references: tuple[str, ...], wait_for: str, *, json: bool, show_numbers: bool) -> int:
    """Show what is said of these messages until the last word on each; 0 when all of them were delivered."""
    from landed.api.models import ReceiptView  # noqa: PLC0415
    from landed.cli.printing import Look, clock, encode_line  # noqa: PLC0415
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
