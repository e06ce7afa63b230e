"""Commands that keep the data in order."""

from __future__ import annotations

import sys
import time

import typer

from landed.cli.options import Data
from landed.errors import SurroundingsError

PROGRESS_SECONDS = 0.5


def rebuild(data: Data = None) -> None:
    """Make the store's views again from the journal.

    Needs the worker's place, so stop `landed serve` first. The old views stay until the new ones are whole. What was
    told by requests that are retired from the journal (see journal_days) is carried over as it stands.

    Example: landed rebuild --data landed-data
    """
    from landed import run  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415

    settings = load(data=data)
    directory = settings.data
    if not run.journal_path(directory).exists():
        raise SurroundingsError(f"There is no journal in {directory}: name the directory that has one with --data.")
    shown = time.monotonic()

    def progress(position: int, last: int) -> None:
        nonlocal shown
        if sys.stderr.isatty() and time.monotonic() - shown > PROGRESS_SECONDS:
            shown = time.monotonic()
            typer.echo(f"\r{position:,} of {last:,} records ({100 * position // max(last, 1)} %)", nl=False, err=True)

    tally, sealed = run.rebuild(directory, progress, compiled=settings.compiled)
    if sys.stderr.isatty():
        typer.echo("\r", nl=False, err=True)
    typer.echo(
        f"Made again from {tally.received:,} requests: {tally.folded:,} new, {tally.duplicate:,} duplicate, "
        f"{tally.unreadable:,} unreadable."
    )
    if sealed:
        typer.echo(f"Messages carried over sealed, since the journal no longer has all of their requests: {sealed:,}.")
