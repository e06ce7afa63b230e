"""Options that several commands share, and how they ask and log."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from landed.errors import SettingsError

PAGE_MAX = 10_000


class Only(StrEnum):
    """One of the two APIs."""

    MESSAGES = "messages"
    SMS = "sms"


Data = Annotated[
    Path | None, typer.Option("--data", help="Directory of the journal and the store [landed-data].", metavar="DIR")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, numbers in full.")]
PublicUrl = Annotated[
    str | None, typer.Option(help="What Vonage reaches the public port by, such as https://hooks.example.com.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
ShowNumbers = Annotated[bool, typer.Option("--show-numbers", help="Show phone numbers in full.")]


def ask(question: str, *, yes: bool) -> None:
    """A person's word: by the option, or on the terminal."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise SettingsError("This needs a person's word: say --yes.")
    if not typer.confirm(question):
        raise typer.Exit(1)


def configure_logging() -> None:
    """Log to standard error: readable on a terminal, one JSON object a line otherwise."""
    import structlog  # noqa: PLC0415 - loaded by the commands that log

    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        # Not the usual way, which shows the values of variables: secrets and numbers among them.
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
