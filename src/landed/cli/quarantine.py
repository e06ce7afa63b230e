"""Commands for what was not trusted: why, and whether it may come in after all."""

from __future__ import annotations

import getpass
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import PAGE_MAX, Data, Json, ShowNumbers, Yes, ask, configure_logging
from landed.errors import SettingsError, SurroundingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from landed.cli.printing import Look
    from landed.journal.quarantine import Held, SqliteQuarantine
    from landed.settings import Settings
    from landed.vonage.diagnosis import Finding

LIMIT = 50
BATCH_ROWS = 200
BODY_CHARACTERS_MAX = 2_000
# A person waits for a busy gate longer than a gate waits for a person.
BUSY_MS = 5_000

REASONS = {
    "missing": "not signed",
    "malformed": "token is none",
    "algorithm": "other algorithm",
    "issuer": "not by Vonage",
    "wrong": "secret does not fit",
    "body": "other body",
    "account": "unknown account",
    "uncovered": "cannot be signed so",
    "address": "address not listed",
    "too-large": "body over the limit",
}

app = typer.Typer(
    name="quarantine",
    help="See why requests were not trusted, let them in.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Number = Annotated[int, typer.Argument(metavar="ID", help="Its number in the list.")]


@app.command("list")
def list_held(
    *,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_MAX, help="How many at most.")] = LIMIT,
    after: Annotated[int, typer.Option(min=0, help="Go on behind this ID.", metavar="ID")] = 0,
    data: Data = None,
    json: Json = False,
) -> None:
    """List what is in quarantine, oldest first.

    Example: landed quarantine list
    """
    quarantine = _reading(_settings(data))
    held = [] if quarantine is None else list(_all(quarantine, after, limit))
    if json:
        _print_json(held)
    elif held:
        _print_table(held)
        if len(held) == limit:
            typer.echo(f"There may be more: landed quarantine list --after {held[-1].id}")
    else:
        typer.echo("Nothing is in quarantine.")


@app.command()
def show(number: Number, *, data: Data = None, json: Json = False, show_numbers: ShowNumbers = False) -> None:
    """Show one request and why it was not trusted.

    All that usually goes wrong is tried: secrets, algorithms, changes on the way.

    Example: landed quarantine show 7
    """
    from landed.cli.printing import Look, encode_line  # noqa: PLC0415

    settings = _settings(data)
    held = _found(_reading(settings), number, quiet=json)
    findings = _diagnosis(settings, held)
    if json:
        record = held.record
        about = _about(held) | {
            "query": record.query.decode(errors="replace"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in _shown_headers(held)],
            "body": record.body.decode(errors="replace"),
            "findings": [{"kind": finding.kind, "sentence": finding.sentence} for finding in findings],
        }
        typer.echo(encode_line(about))
    else:
        for line in _story(held, findings, Look(sys.stdout, show_numbers=show_numbers)):
            typer.echo(line)


@app.command()
def recheck(*, data: Data = None, json: Json = False) -> None:
    """Judge all again by today's settings; what passes is let in.

    For after a secret was mended. What is let in keeps the time at which it came.

    Example: landed quarantine recheck
    """
    from landed import run  # noqa: PLC0415
    from landed.cli.printing import encode_line  # noqa: PLC0415
    from landed.gate.judge import Judge, keyring_of  # noqa: PLC0415
    from landed.gate.keeper import Readmission, Rechecked  # noqa: PLC0415
    from landed.journal.sqlite import SqliteJournal  # noqa: PLC0415

    settings = _settings(data)
    done = Rechecked()
    quarantine = _writing(settings)
    if quarantine is not None:
        judge = Judge.of(settings, keyring_of(settings), at_any_rate=True)
        with closing(quarantine), closing(SqliteJournal(run.journal_path(settings.data))) as journal:
            done = Readmission(quarantine, journal, judge).recheck(_now_us)
    if json:
        typer.echo(encode_line({"let_in": done.let_in, "stay": done.stay}))
    else:
        stay = ", ".join(f"{count:,} {REASONS.get(reason, reason)}" for reason, count in sorted(done.stay.items()))
        typer.echo(f"{done.let_in:,} let in, {sum(done.stay.values()):,} stay{': ' if stay else ''}{stay}.")


@app.command()
def accept(number: Number, *, yes: Yes = False, data: Data = None) -> None:
    """Let one in on your word, as unverified.

    Your name is kept with it. A verified receipt still outweighs it.

    Example: landed quarantine accept 7 --yes
    """
    from landed import run  # noqa: PLC0415
    from landed.gate.judge import TOO_LARGE, Judge, keyring_of  # noqa: PLC0415
    from landed.gate.keeper import Readmission, request_of  # noqa: PLC0415
    from landed.journal.sqlite import SqliteJournal  # noqa: PLC0415
    from landed.vonage.parse import named_api_key  # noqa: PLC0415

    configure_logging()
    settings = _settings(data)
    quarantine = _writing(settings)
    held = _found(quarantine, number, quiet=False)
    if quarantine is None or held.reason == TOO_LARGE:
        raise SettingsError(f"Of request {number} only the beginning was kept, so nothing can be let in.")
    ask(f"Let request {number} in, unverified, though nothing says that Vonage sent it?", yes=yes)
    keyring = keyring_of(settings)
    account = keyring.name_of(named_api_key(request_of(held.record))) or keyring.default
    with closing(quarantine), closing(SqliteJournal(run.journal_path(settings.data))) as journal:
        readmission = Readmission(quarantine, journal, Judge.of(settings, keyring, at_any_rate=True))
        readmission.accept(held, account=account, by=_person(), now_us=_now_us())
    typer.echo(f"Request {number} is let in, unverified.")


@app.command()
def drop(
    number: Annotated[int | None, typer.Argument(metavar="[ID]", help="Its number in the list.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that are there now.")] = False,
    yes: Yes = False,
    data: Data = None,
) -> None:
    """Drop one, or all, for good.

    Example: landed quarantine drop 7 --yes
    """
    if (number is None) == (not every):
        raise SettingsError("Say which request to drop by its ID, or --all of them; not both.")
    quarantine = _writing(_settings(data))
    if quarantine is None:
        dropped = 0
        if number is not None:
            _found(None, number, quiet=False)
    else:
        with closing(quarantine):
            held = None if number is None else _found(quarantine, number, quiet=False)
            rows = quarantine.totals().rows
            ask(f"Drop request {number} for good?" if held else f"Drop all {rows:,} requests for good?", yes=yes)
            dropped = quarantine.remove([held]) if held is not None else _drop_all(quarantine)
    typer.echo(f"{dropped:,} dropped.")


def _settings(data: Path | None) -> Settings:
    from landed.settings import load  # noqa: PLC0415

    return load(data=data)


def _reading(settings: Settings) -> SqliteQuarantine | None:
    return _open(settings, only_read=True)


def _writing(settings: Settings) -> SqliteQuarantine | None:
    return _open(settings, only_read=False)


def _open(settings: Settings, *, only_read: bool) -> SqliteQuarantine | None:
    from landed import run  # noqa: PLC0415

    path = run.quarantine_path(settings.data)
    if not path.exists():
        return None
    from landed.journal.quarantine import SqliteQuarantine  # noqa: PLC0415

    return SqliteQuarantine(path, busy_ms=BUSY_MS, only_read=only_read)


def _found(quarantine: SqliteQuarantine | None, number: int, *, quiet: bool) -> Held:
    held = None if quarantine is None or number >= 2**63 else quarantine.find(number)
    if held is None:
        if not quiet:
            typer.echo(f"No request is in quarantine under {number}: see landed quarantine list.", err=True)
        raise typer.Exit(1)
    return held


def _all(quarantine: SqliteQuarantine, after: int, limit: int) -> Iterator[Held]:
    while limit > 0 and (batch := quarantine.read(after, min(limit, BATCH_ROWS))):
        yield from batch
        limit -= len(batch)
        after = batch[-1].id


def _drop_all(quarantine: SqliteQuarantine) -> int:
    dropped = after = 0
    while batch := quarantine.read(after, BATCH_ROWS):
        after = batch[-1].id
        dropped += quarantine.remove(batch)
    return dropped


def _person() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise SurroundingsError("Who you are cannot be told: set USER, since it is kept with the request.") from error


def _now_us() -> int:
    return time.time_ns() // 1_000


def _diagnosis(settings: Settings, held: Held) -> Sequence[Finding]:
    from landed.domain.moments import moment  # noqa: PLC0415
    from landed.gate.judge import TOO_LARGE, Judge, keyring_of, windows_of  # noqa: PLC0415
    from landed.gate.keeper import request_of  # noqa: PLC0415
    from landed.vonage.diagnosis import diagnose  # noqa: PLC0415

    request, keyring = request_of(held.record), keyring_of(settings)
    return diagnose(
        request,
        keyring,
        windows_of(settings),
        moment(held.record.received_us),
        is_listed=Judge.of(settings, keyring).is_listed(request, held.record.peer),
        is_whole=held.reason != TOO_LARGE,
    )


def _shown_headers(held: Held) -> Iterator[tuple[bytes, bytes]]:
    """Its headers, but for the token: whoever has it can send the same again."""
    for name, value in held.record.headers:
        yield name, value if name.lower() != b"authorization" else b"(%d characters)" % len(value)


def _about(held: Held) -> dict[str, object]:
    from landed.domain.moments import moment  # noqa: PLC0415

    record = held.record
    return {
        "id": held.id,
        "reason": held.reason,
        "signed": held.signed,
        "copies": held.copies,
        "first_at": moment(held.first_us),
        "last_at": moment(held.last_us),
        "answer": record.answer,
        "method": record.method,
        "path": record.path,
        "peer": record.peer,
        "bytes": len(record.query) + len(record.body),
    }


def _print_json(held: Sequence[Held]) -> None:
    from landed.cli.printing import encode_line  # noqa: PLC0415

    for each in held:
        typer.echo(encode_line(_about(each)))


def _print_table(held: Sequence[Held]) -> None:
    from landed.cli.printing import Column, Look, clock, print_table  # noqa: PLC0415
    from landed.domain.moments import moment  # noqa: PLC0415

    look = Look(sys.stdout, show_numbers=False)
    columns = [
        Column(name="id", cells=[str(each.id) for each in held]),
        Column(name="first came", cells=[clock(moment(each.first_us)) for each in held], leaves=1),
        Column(name="last came", cells=[clock(moment(each.last_us)) for each in held], leaves=3),
        Column(name="copies", cells=[str(each.copies) for each in held], leaves=2),
        Column(name="why", cells=[REASONS.get(each.reason, look.clean(each.reason)) for each in held]),
        Column(name="answer", cells=[str(each.record.answer) for each in held], leaves=5),
        Column(name="request", cells=[f"{each.record.method} {look.clean(each.record.path)}" for each in held]),
        Column(name="from", cells=[look.clean(each.record.peer) for each in held], leaves=4),
    ]
    print_table(columns, look, sys.stdout)


def _story(held: Held, findings: Sequence[Finding], look: Look) -> Iterator[str]:
    from landed.cli.printing import clock  # noqa: PLC0415
    from landed.domain.moments import moment  # noqa: PLC0415

    record = held.record
    came = clock(moment(held.first_us))
    if held.copies > 1:
        came += f", {held.copies} times, at last {clock(moment(held.last_us))}"
    yield look.paint(f"{held.id}  {record.method} {look.clean(record.path)}", "bold")
    yield f"  {'came':<11}{came}"
    yield f"  {'from':<11}{look.clean(record.peer) or '?'}"
    yield f"  {'answered':<11}{record.answer}: {REASONS.get(held.reason, look.clean(held.reason))}"
    for header in _shown_headers(held):
        yield f"  {'header':<11}{look.number(b': '.join(header).decode('latin-1'))}"
    for name, text in (("query", record.query), ("body", record.body)):
        if text:
            shown = text.decode(errors="replace")
            cut = f" … ({len(text):,} bytes)" if len(shown) > BODY_CHARACTERS_MAX else ""
            yield f"  {name:<11}{look.number(shown[:BODY_CHARACTERS_MAX])}{cut}"
    yield ""
    for finding in findings:
        yield look.clean(look.mask(finding.sentence) or "")
