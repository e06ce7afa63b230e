"""What `reasons` prints: what any code of Vonage's means."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import msgspec
import typer

from landed.cli.printing import MOVES, Column, Look, encode_line, named_lines, print_table, span
from landed.domain.meanings import REASONS, Reason
from landed.domain.reasons import CODES, Source, lists_with

LISTS = {
    "sms": "SMS API, in a receipt",
    "messages": "Messages API, in a status",
    "sms-send": "SMS API, in the answer to a send",
    "messages-send": "Messages API, in the answer to a send",
}


def print_reasons(code: str | None, *, json: bool) -> None:
    """Explain a code, or a reason by its slug; without one, list all reasons."""
    reasons = list(REASONS.values()) if code is None else _explained(code)
    if json:
        for reason in reasons:
            typer.echo(encode_line(msgspec.to_builtins(reason) | {"codes": _codes_of(reason)}))
    elif code is None:
        _print_all(reasons)
    else:
        look = Look(sys.stdout, show_numbers=True)
        for reason in reasons:
            for line in _lines(reason, code, look):
                typer.echo(line)


def _explained(code: str) -> list[Reason]:
    """What a code means: several reasons where the lists do not agree."""
    found = list({reason.slug: reason for _, reason in lists_with(code)}.values())
    slug = code.strip().lower()
    if not found and slug not in REASONS:
        typer.echo(f"{code!r} is in none of Vonage's lists: run `landed reasons` to see all of them.", err=True)
        raise typer.Exit(1)
    return found or [REASONS[slug]]


def _codes_of(reason: Reason) -> dict[str, list[str]]:
    """The codes that mean it, by list."""
    codes = {source: [code for code, slug in table.items() if slug == reason.slug] for source, table in CODES.items()}
    return {str(source): several for source, several in codes.items() if several}


def _print_all(reasons: Sequence[Reason]) -> None:
    codes = [_codes_of(reason) for reason in reasons]

    def of(source: Source) -> list[str]:
        return [", ".join(each.get(source, ())) for each in codes]

    columns = [
        Column(name="reason", cells=[reason.slug for reason in reasons]),
        Column(name="kind", cells=[reason.kind for reason in reasons]),
        Column(name="SMS", cells=of(Source.SMS)),
        Column(name="Messages", cells=of(Source.MESSAGES)),
        Column(name="again after", cells=[_again(reason, "") for reason in reasons], leaves=1),
        Column(name="whose move", cells=[MOVES[reason.move] for reason in reasons], leaves=2),
        Column(name="meaning", cells=[reason.meaning for reason in reasons], leaves=3),
    ]
    print_table(columns, Look(sys.stdout, show_numbers=True), sys.stdout)


def _lines(reason: Reason, asked: str, look: Look) -> Iterator[str]:
    codes = _codes_of(reason)
    yield look.paint(reason.slug, "bold")
    yield from named_lines(
        {
            "means": reason.meaning,
            "what to do": reason.advice,
            "kind": reason.kind,
            "try again": _again(reason, "another try does not help by itself"),
            "whose move": MOVES[reason.move],
            "codes": "; ".join(f"{', '.join(several)} ({LISTS[source]})" for source, several in codes.items()),
            "asked for": "" if asked == reason.slug else look.clean(asked),
        },
        look,
    )
    yield ""


def _again(reason: Reason, otherwise: str) -> str:
    return span(reason.retry_seconds) if reason.retry_seconds else otherwise
