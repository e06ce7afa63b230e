"""`landed parse`: says what a webhook request is, offline."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from landed.cli.options import Json, ShowNumbers
from landed.errors import SettingsError

if TYPE_CHECKING:
    from landed.vonage.request import Request

METHODS = ("GET", "POST", "HEAD")


def parse(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A file, - for standard input, or the text itself.")],
    *,
    secret: Annotated[
        str | None, typer.Option(help="Check the signature with this secret.", envvar="VONAGE_SIGNATURE_SECRET")
    ] = None,
    json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Say what a request from Vonage is, offline.

    It may be a body, a URL, a line of an access log, a whole request, or what a tutorial's script printed.

    Example: landed parse '{"message_uuid":"aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab","status":"delivered"}'
    """
    import landed  # noqa: PLC0415
    from landed.api.models import InboundView, ReceiptView  # noqa: PLC0415
    from landed.cli.printing import Look, encode_line  # noqa: PLC0415

    request = as_request(_text(what))
    look = Look(sys.stdout, show_numbers=show_numbers)
    try:
        facts = landed.parse(
            request.method, request.path, request.query, request.headers, request.body, secrets=secret or None
        )
    except (landed.BadSignature, landed.Unreadable) as error:
        typer.echo(f"landed: {error}", err=True)
        raise typer.Exit(1) from error
    if not facts and not json:
        typer.echo("A probe: no parameters and no body, as Vonage sends when a URL is saved.")
    for fact in facts:
        if isinstance(fact, landed.Receipt):
            view: object = ReceiptView.of(fact, received_at=None, source="webhook", copies=1)
            line = f"Receipt, {fact.api} API: {look.receipt_line(fact)}\nOutcome: {fact.outcome}"
        else:
            view = InboundView.of(fact)
            line = f"Inbound message, {fact.api} API: {look.inbound_line(fact)}"
        typer.echo(encode_line(view) if json else line)


def as_request(text: bytes) -> Request:
    """The request that a text shows, whichever way it was copied."""
    from landed.vonage.request import Request  # noqa: PLC0415

    first, _, rest = text.strip().partition(b"\n")
    words = first.split()
    if words and words[0].strip(b'"').decode(errors="replace") in METHODS and len(words) > 1:
        method, target = words[0].strip(b'"').decode(), words[1]
        head, _, body = rest.replace(b"\r\n", b"\n").partition(b"\n\n")
        return _request(method, target, head, body)
    if b'"GET ' in first:
        # A line of an access log, as Flask, nginx and Apache write them.
        return _request("GET", first.partition(b'"GET ')[2].split()[0], b"", b"")
    if text.strip().startswith((b"http://", b"https://", b"/")) and b"?" in first:
        return _request("GET", words[0], b"", b"")
    return Request(method="POST", path="/", body=_printed_dictionary(text.strip()))


def _request(method: str, target: bytes, head: bytes, body: bytes) -> Request:
    from landed.vonage.request import Request  # noqa: PLC0415

    parts = urlsplit(target)
    headers = [line.partition(b":") for line in head.split(b"\n") if b":" in line]
    return Request(
        method=method,
        path=parts.path.decode(errors="replace"),
        query=parts.query,
        headers=tuple((name.strip(), value.strip()) for name, _, value in headers),
        body=body.strip(b"\n") if method == "POST" else body,
    )


def _printed_dictionary(text: bytes) -> bytes:
    """A dictionary as the tutorials' scripts print it, turned back into JSON; anything else as it is."""
    import msgspec  # noqa: PLC0415

    if not text.startswith(b"{"):
        return text
    try:
        printed = ast.literal_eval(text.decode())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if not isinstance(printed, Mapping):
        return text
    # Werkzeug's form as a dictionary has a list of one for each value.
    single = {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in printed.items()
    }
    return msgspec.json.encode(single)


def _text(what: str) -> bytes:
    if what == "-":
        return sys.stdin.buffer.read()
    if "\n" in what or what.lstrip().startswith("{") or "=" in what:
        return what.encode()
    try:
        return Path(what).read_bytes()
    except OSError as error:
        raise SettingsError(f"{what} is neither a file that can be read ({error.strerror}) nor a request.") from error
