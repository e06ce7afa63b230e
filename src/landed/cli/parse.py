"""`landed parse`: says what a webhook request is, offline.

A text is copied from wherever a request was seen, so its form is found out: the forms stand in a
table and the first that fits is taken. Any bytes give requests, or none; never an error.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from landed.cli.options import Json, ShowNumbers
from landed.errors import SettingsError

if TYPE_CHECKING:
    from landed.cli.printing import Look
    from landed.domain.receipt import Inbound, Receipt
    from landed.vonage.request import Request

TEXT_BYTES_MAX = 1_048_576
# Beyond this, the shell's and Python's grammars are slow to read, and no receipt is as long.
GRAMMAR_BYTES_MAX = 65_536
NAME_CHARACTERS_MAX = 200
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# A request line begins a line and has a query or nothing but the version behind it, unlike the
# lines that ngrok shows: `POST /webhooks/message-status  200 OK`.
_request_line = re.compile(
    rb"^(GET|HEAD|POST)[ \t]+((?:/|https?://)(?:\S*\?\S+|\S*(?=[ \t\r]*$|[ \t]+HTTP/))).*$", re.MULTILINE
)
_end_of_head = re.compile(rb"\r?\n\r?\n")
# What nginx, Apache, Flask and uvicorn quote of a request; Flask may colour it. Without a query
# such a line says nothing of a receipt.
_logged = re.compile(rb'"(?:\x1b\[[0-9;]*m)*(GET|HEAD|POST) ([^\s"?]*\?[^\s"\x1b]+)')
# An object that begins a line, and the lines that go on with it: pprint and JSON indent them.
_object = re.compile(rb"^\{.*(?:\n[ \t}].*)*", re.MULTILINE)
_url = re.compile(rb"^[ \t]*[\"'<]?([^\s\"'<>?&=]*\?[^\s\"'<>]+=[^\s\"'<>]*)", re.MULTILINE)
_form = re.compile(rb"^[ \t]*([\w%.+-]+=[^\r\n]*&[^\r\n]*)", re.MULTILINE)

_curl_begins = re.compile(rb"^[ \t]*(?:[$#%>][ \t]*)?(?=curl\s)", re.MULTILINE)
# Short options in one word: those without a value, one that has a value, and perhaps that value.
_curl_short = re.compile(r"-[#0-6aBfgGiIjJklLMnNOpqRsSvVZ]*([AbcCdDeEFHKmoPQrtTuUwxXyYz])(.*)", re.DOTALL)
_CURL_OPTIONS = {
    "H": "header",
    "X": "method",
    "d": "body",
    "--data": "body",
    "--data-ascii": "body",
    "--data-binary": "body",
    "--data-raw": "body",
    "--header": "header",
    "--json": "body",
    "--request": "method",
    "--url": "url",
}


def parse(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A file, - for standard input, or the text itself.")],
    *,
    secret: Annotated[
        str | None, typer.Option(help="Check the signature with this secret, or several with commas between.")
    ] = None,
    as_json: Json = False,
    show_numbers: ShowNumbers = False,
) -> None:
    """Say what a request from Vonage is, offline.

    It may be a body, a URL, a curl command, lines of an access log, whole requests, or what a tutorial's script
    printed; one text may hold several.

    Example: landed parse '{"message_uuid":"1","status":"delivered"}'
    """
    from landed.cli.printing import Look  # noqa: PLC0415 - loaded when it runs, as by every command

    requests = as_requests(_text(what))
    if not requests:
        typer.echo("landed: That is no request, body, URL, log line or printed receipt that is known.", err=True)
        raise typer.Exit(1)
    secrets = None if secret is None else _secrets(secret)
    look = None if as_json else Look(sys.stdout, show_numbers=show_numbers)
    failures = 0
    for number, request in enumerate(requests, 1):
        which = f"Request {number} of {len(requests)}: " if len(requests) > 1 else ""
        failures += not _say(request, secrets, look, which)
    if failures:
        raise typer.Exit(1)


def as_requests(text: bytes) -> tuple[Request, ...]:
    """The requests that a text shows, whichever way they were copied; none when it shows none."""
    text = text.removeprefix(BYTE_ORDER_MARK).strip()
    if not text:
        return (_request(),)
    return next((requests for form in _FORMS if (requests := form(text))), ())


def _say(request: Request, secrets: str | Sequence[str] | None, look: Look | None, which: str) -> bool:
    """Print what one request says, as JSON without a `look`. Whether it could be read."""
    import landed  # noqa: PLC0415 - loaded when it runs

    try:
        facts = landed.parse(
            request.method, request.path, request.query, request.headers, request.body, secrets=secrets
        )
    except (landed.BadSignature, landed.Unreadable) as error:
        typer.echo(f"landed: {which}{error}", err=True)
        return False
    if not facts and look is not None:
        typer.echo("A probe: no parameters and no body, as Vonage sends when a URL is saved.")
    for fact in facts:
        typer.echo(_json_line(fact) if look is None else _line(fact, look))
    return True


def _json_line(fact: Receipt | Inbound) -> bytes:
    import landed  # noqa: PLC0415 - loaded when it runs
    from landed.cli.printing import encode_line  # noqa: PLC0415
    from landed.domain.views import InboundView, ReceiptView  # noqa: PLC0415

    view = ReceiptView.of(fact) if isinstance(fact, landed.Receipt) else InboundView.of(fact)
    return encode_line(view).encode()  # JSON is UTF-8, whatever the terminal's encoding is


def _line(fact: Receipt | Inbound, look: Look) -> bytes:
    import landed  # noqa: PLC0415 - loaded when it runs

    signature = "signature holds" if fact.verified else "signature not checked"
    if isinstance(fact, landed.Receipt):
        line = f"Receipt, {fact.api} API, {signature}: {look.receipt_line(fact)}\nOutcome: {fact.outcome}"
    else:
        line = f"Inbound message, {fact.api} API, {signature}: {look.inbound_line(fact)}"
    return line.encode(sys.stdout.encoding or "utf-8", "replace")


def _secrets(secret: str) -> str | list[str]:
    # Nothing between the commas is refused as an empty secret, where secrets are read.
    return [part for each in secret.split(",") if (part := each.strip())] or ""


def _text(what: str) -> bytes:
    """The bytes of a file, of standard input or, when it is no file, of the argument itself."""
    if what != "-" and not _is_file(what):
        # The bytes as they were typed, whatever the locale made of them.
        text = os.fsencode(what)
        if any(sign in text for sign in (b"\n", b"{", b"=")) or as_requests(text):
            return text
    return _standard_input() if what == "-" else _file(what)


def _standard_input() -> bytes:
    try:
        return _within_limit(typer.get_binary_stream("stdin").read(TEXT_BYTES_MAX + 1), "Standard input")
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "it is closed"
        raise SettingsError(f"Standard input cannot be read ({reason}).") from error


def _file(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            return _within_limit(file.read(TEXT_BYTES_MAX + 1), name)
    except OSError as error:
        shown = name[:NAME_CHARACTERS_MAX]
        raise SettingsError(f"{shown} is neither a file that can be read ({error.strerror}) nor a request.") from error


def _within_limit(text: bytes, name: str) -> bytes:
    if len(text) > TEXT_BYTES_MAX:
        raise SettingsError(f"{name} is longer than the {TEXT_BYTES_MAX} bytes that are read; cut out a part.")
    return text


def _is_file(what: str) -> bool:
    try:
        return Path(what).is_file()
    except OSError:
        return False


def _request(
    method: bytes = b"POST", target: bytes = b"/", headers: Iterable[bytes] = (), body: bytes = b""
) -> Request:
    from landed.vonage.request import Request  # noqa: PLC0415 - loaded when it runs

    path, _, query = target.partition(b"?")
    pairs = [line.partition(b":") for line in headers if b":" in line]
    return Request(
        method=method.decode(errors="replace"),
        path=path.decode(errors="replace"),
        query=query.partition(b"#")[0],
        headers=tuple((name.strip(), value.strip()) for name, _, value in pairs),
        body=body.strip(b"\r\n"),
    )


def _reads_as_json(text: bytes) -> bool:
    from landed.vonage.request import read_body  # noqa: PLC0415 - loaded when it runs

    return bool(read_body(text).objects)


def _json_text(text: bytes) -> tuple[Request, ...]:
    """JSON, byte for byte as it came; each item of a list is a request of its own."""
    import msgspec  # noqa: PLC0415 - loaded when it runs

    if not _reads_as_json(text):
        return ()
    if not text.startswith(b"["):
        return (_request(body=text),)
    try:
        items = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return (_request(body=text),)
    return tuple(_request(body=bytes(item)) for item in items)


def _curl_commands(text: bytes) -> tuple[Request, ...]:
    before, *commands = _curl_begins.split(text)
    if before or any(len(command) > GRAMMAR_BYTES_MAX for command in commands):
        return ()
    try:
        return tuple(_curl_command(command) for command in commands)
    except ValueError:  # a quotation that does not end
        return ()


def _curl_command(command: bytes) -> Request:
    # A backslash at a line's end joins the lines. Bytes that are no UTF-8 pass as they are.
    joined = re.sub(rb"\\\r?\n", b" ", command).decode(errors="surrogateescape")
    given: dict[str, list[bytes]] = {"url": [], "method": [], "header": [], "body": []}
    for name, value in _curl_arguments(shlex.split(joined)[1:]):
        given[name].append(value.encode(errors="surrogateescape"))
    # A word may also be the value of an option that is not known here.
    url = max(given["url"], key=lambda word: (b"://" in word, b"?" in word), default=b"/")
    method = (*given["method"], b"POST" if given["body"] else b"GET")[0]
    return _request(method, url, given["header"], b"&".join(given["body"]))


def _curl_arguments(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The arguments that make the request, by name."""
    rest = iter(words)
    for word in rest:
        short = _curl_short.fullmatch(word)
        if short is not None:
            name, value = _CURL_OPTIONS.get(short[1]), short[2] or next(rest, "")
        elif word in _CURL_OPTIONS:
            name, value = _CURL_OPTIONS[word], next(rest, "")
        else:
            name, value = (None if word.startswith("-") else "url"), word
        if name is not None:
            # Of bash's $'…' the dollar is left.
            yield name, value.removeprefix("$") if value.startswith(("${", "$[")) else value


def _whole_requests(text: bytes) -> tuple[Request, ...]:
    """Request lines, each with the headers and the body that may follow."""
    lines = list(_request_line.finditer(text))
    if not lines or lines[0].start() != 0:
        return ()
    ends = [*(line.start() for line in lines[1:]), len(text)]
    requests = []
    for line, end in zip(lines, ends, strict=True):
        head, *body = _end_of_head.split(text[line.end() : end], maxsplit=1)
        requests.append(_request(line[1], line[2], head.splitlines(), b"".join(body)))
    return tuple(requests)


def _log_lines(text: bytes) -> tuple[Request, ...]:
    return tuple(_request(line[1], line[2]) for line in _logged.finditer(text))


def _objects(text: bytes) -> tuple[Request, ...]:
    """Objects among other lines: JSON, or dictionaries as the tutorials' scripts print them."""
    found = [each[0][: each[0].rfind(b"}") + 1] or each[0] for each in _object.finditer(text)]
    bodies = [each if _reads_as_json(each) else _printed_dictionary(each) for each in found]
    if not any(bodies):
        return ()
    # What is broken among them is a request that cannot be read, and is said to be.
    return tuple(_request(body=body or each) for body, each in zip(bodies, found, strict=True))


def _printed_dictionary(text: bytes) -> bytes | None:
    """The body of which Python printed the dictionary; None when it is none."""
    if len(text) > GRAMMAR_BYTES_MAX or not text.endswith(b"}"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own, about odd escapes
            printed = ast.literal_eval(text.decode(errors="replace"))
        if not isinstance(printed, dict):
            return None
        # A form that was made a dictionary has a list for each name.
        if all(isinstance(value, list) for value in printed.values()):
            return urlencode(printed, doseq=True).encode()
        return json.dumps(printed).encode()
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _urls(text: bytes) -> tuple[Request, ...]:
    return tuple(_request(b"GET", url[1]) for url in _url.finditer(text))


def _forms(text: bytes) -> tuple[Request, ...]:
    return tuple(_request(body=form[1]) for form in _form.finditer(text))


# The first form that fits is what the text is. Log lines stand before objects, since a script that
# prints what it received and logs the request says the same twice.
_FORMS: tuple[Callable[[bytes], tuple[Request, ...]], ...] = (
    _json_text,
    _curl_commands,
    _whole_requests,
    _log_lines,
    _objects,
    _urls,
    _forms,
)
