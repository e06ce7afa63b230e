"""`landed doctor`: what is wrong, why it matters, what to do."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import typer

from landed.cli.options import Data, Json


def doctor(*, data: Data = None, json: Json = False) -> None:
    """Look for whatever may keep receipts from coming.

    Each finding says what is wrong, why it matters and what to do. Exit code 1 when there is one.

    Example: landed doctor --data landed-data
    """
    import msgspec  # noqa: PLC0415

    from landed import run  # noqa: PLC0415
    from landed.cli.printing import Look, encode_line  # noqa: PLC0415
    from landed.onboarding.doctor import examine, ledger_of  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415

    seen = run.look_around(load(data=data), datetime.now(UTC))
    findings, ledger = examine(seen), ledger_of(seen)
    if json:
        typer.echo(encode_line({"ok": not findings, "findings": findings, "ledger": msgspec.to_builtins(ledger)}))
    else:
        look = Look(sys.stdout, show_numbers=False)
        for finding in findings:
            typer.echo(look.paint(finding.what, "red"))
            typer.echo(f"  why  {finding.why}\n  do   {finding.do}\n")
        counts = f"{ledger.received:,} requests received: {ledger.folded:,} new, {ledger.duplicate:,} duplicate"
        typer.echo(f"{counts}, {ledger.unreadable:,} unreadable, {ledger.waiting:,} waiting.")
        typer.echo("Nothing is wrong." if not findings else f"{len(findings)} to mend.")
    if findings:
        raise typer.Exit(1)
