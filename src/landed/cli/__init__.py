"""The command line. Each family of commands has a file; what they need is imported when they run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from landed import __version__
from landed.cli import demo, keep, parse, read, serve
from landed.errors import LandedError, SettingsError

EXIT_SETTINGS = 2
EXIT_SURROUNDINGS = 3

app = typer.Typer(
    name="landed",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"landed {__version__}")
        raise typer.Exit


@app.callback()
def _landed(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Know which of your text messages arrived, through Vonage's delivery receipts."""


app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("list")(read.list_messages)
app.command("show")(read.show)
app.command("tail")(read.tail)
app.command("parse")(parse.parse)
app.command("rebuild")(keep.rebuild)


def main() -> None:
    """Run a command. What is wrong is said in one sentence, with exit code 2 or 3."""
    try:
        app()
    except LandedError as error:
        typer.echo(f"landed: {error}", err=True)
        sys.exit(EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_SURROUNDINGS)
