"""`landed doctor`: what is wrong, why it matters, what to do."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import Data, Json
from landed.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from landed.onboarding.seen import Finding, Ledger
    from landed.onboarding.vonage_findings import Route


def doctor(
    *,
    data: Data = None,
    json: Json = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Look at this machine alone: ask nobody, and try no URL.")
    ] = False,
) -> None:
    """Look for whatever may keep receipts from coming: here, at Vonage, and on the way from there.

    Each finding says what is wrong, why it matters and what to do. Exit code 1 when something is wrong;
    advice alone is no fault.

    Example: landed doctor --data landed-data
    """
    from landed import run  # noqa: PLC0415
    from landed.onboarding.doctor import examine, wrong_settings  # noqa: PLC0415
    from landed.onboarding.seen import ledger_of  # noqa: PLC0415
    from landed.onboarding.vonage_findings import routes_of  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415

    ledger, routes = None, []
    try:
        seen = run.look_around(load(data=data), datetime.now(UTC), None if offline else _say)
    except SettingsError as error:
        # Wrong settings are what a doctor is asked about, so they end no look with exit code 2.
        findings = wrong_settings(str(error))
    else:
        findings, ledger, routes = examine(seen), ledger_of(seen), routes_of(seen)
    faults = [finding for finding in findings if not finding.advice]
    if json:
        typer.echo(_line(findings, ledger, routes, ok=not faults))
    else:
        _tell(findings, ledger, routes)
    if faults:
        raise typer.Exit(1)


def _line(findings: Sequence[Finding], ledger: Ledger | None, routes: Sequence[Route], *, ok: bool) -> str:
    import msgspec  # noqa: PLC0415

    from landed.cli.printing import encode_line  # noqa: PLC0415

    return encode_line({"ok": ok, "findings": findings, "ledger": msgspec.to_builtins(ledger), "routes": routes})


def _say(what: str) -> None:
    """What is looked at now, since it takes a while."""
    if sys.stderr.isatty():
        typer.echo(what, err=True)


def _tell(findings: Sequence[Finding], ledger: Ledger | None, routes: Sequence[Route]) -> None:
    from landed.cli.printing import Look  # noqa: PLC0415

    look = Look(sys.stdout, show_numbers=False)
    for finding in findings:
        # Some of the words are somebody else's: the answers of subscribers, the names of handlers.
        what, why, do = map(look.clean, (finding.what, finding.why, finding.do))
        what = look.paint(what, "yellow" if finding.advice else "red")
        typer.echo(f"{what} {look.paint(f'[{finding.name}]', 'dim')}")
        typer.echo(f"  why  {why}\n  do   {do}\n")
    for route in routes:
        whose = {True: "here", False: "not here", None: "public_url would tell whether that is here"}[route.is_ours]
        typer.echo(f"Receipts of {route.sent_by} go to {route.url} ({whose}).")
    if ledger is not None:
        counts = f"{ledger.received:,} requests received: {ledger.folded:,} new, {ledger.duplicate:,} duplicate"
        counts += f", {ledger.unreadable:,} unreadable, {ledger.waiting:,} waiting"
        typer.echo(f"{counts}; {ledger.quarantined:,} in quarantine.")
    faults = sum(not finding.advice for finding in findings)
    advice = f" {len(findings) - faults} to think about." if len(findings) > faults else ""
    typer.echo((f"{faults} to mend." if faults else "Nothing is wrong in what was looked at.") + advice)
