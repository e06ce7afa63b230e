"""Options that several commands share, and the logging they share."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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
ShowNumbers = Annotated[bool, typer.Option("--show-numbers", help="Show phone numbers in full.")]


def configure_logging() -> None:
    """Log to standard error: readable on a terminal, one JSON object a line otherwise."""
    import structlog  # noqa: PLC0415 - loaded by the commands that log

    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
