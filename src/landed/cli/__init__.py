"""The command line. Each family of commands has a file; what they need is imported when they run."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from landed import __version__
from landed.cli import (
    demo,
    doctor,
    events,
    handlers,
    init,
    keep,
    parse,
    quarantine,
    read,
    send,
    serve,
    setup,
    simulate,
    tunnel,
)
from landed.errors import LandedError

EXIT_NO = 1
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
app.command("init")(init.init)
app.command("setup")(setup.setup)
app.command("serve")(serve.serve)
app.command("tunnel")(tunnel.tunnel)
app.command("simulate")(simulate.simulate)
app.command("send")(send.send)
app.command("wait")(send.wait)
app.command("track")(send.track)
app.command("jwt")(send.jwt)
app.command("list")(read.list_messages)
app.command("show")(read.show)
app.command("tail")(read.tail)
app.command("stats")(read.stats)
app.command("reasons")(read.reasons)
app.command("parse")(parse.parse)
app.command("handlers")(handlers.handlers)
app.command("doctor")(doctor.doctor)
app.command("rebuild")(keep.rebuild)
app.add_typer(quarantine.app)
app.add_typer(events.app)


def main() -> None:
    """Run a command. What is wrong is said in one sentence, with exit code 2 or 3."""
    if sys.stdout is None:
        # Started without an output: there is nobody to tell.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        # What an output cannot write is written as its code, never an error in the middle of a line.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except LandedError as error:
        _leave(str(error), error.exit_code)
    except BrokenPipeError:
        # Whoever read the output has read enough.
        _leave("", EXIT_NO)
    except OSError as error:
        _leave(f"An output or a file failed: {error}.", EXIT_SURROUNDINGS)


def _leave(sentence: str, code: int) -> NoReturn:
    if sentence:
        typer.echo(f"landed: {sentence}", err=True)
    with suppress(OSError):
        sys.stdout.flush()
        sys.exit(code)
    # What is still to be written cannot be, and Python would say so once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
