"""`landed handlers`: which events an application's own Python hears, and what it does with one."""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import Data, Json
from landed.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from landed.handlers import Handler
    from landed.settings import Settings
    from landed.worker.letters import Answer, Letter


def handlers(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="The file, or the module [as the settings say].")
    ] = None,
    *,
    reference: Annotated[
        str | None,
        typer.Option("--try", help="Call those that want it with an event: its id, or a message's.", metavar="ID"),
    ] = None,
    only: Annotated[str | None, typer.Option("--handler", help="Only this one, wanted or not.", metavar="NAME")] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """List an application's handlers, or try them on a past event.

    A try is a call here and now; nothing of it is written down. Exit code 1 when one raises, or none wants it.

    Example: landed handlers app.py --try aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab
    """
    from landed.cli.printing import Look, encode_line  # noqa: PLC0415
    from landed.cli.subscribers import told  # noqa: PLC0415
    from landed.settings import load as load_settings  # noqa: PLC0415

    settings = load_settings(data=data, handlers=file)
    # What the application prints must not stand between lines for programs.
    with redirect_stdout(sys.stderr) if json else nullcontext():
        found = _found(settings, only)
        answers = None if reference is None else _answers(settings, found, reference, only, json=json)
    if answers is not None:
        look = Look(sys.stdout, show_numbers=False)
        for name, letter, answer in answers:
            about = {"handler": name, "id": letter.id, "type": letter.type, "taken": answer.taken, "said": answer.said}
            typer.echo(encode_line(about) if json else f"{name}  {letter.type}  {told(name, answer.said, look)}")
        if not answers and not json:
            typer.echo("No handler wants it. One of them hears it all the same with: --handler NAME")
        raise typer.Exit(0 if answers and all(answer.taken for *_, answer in answers) else 1)
    if json:
        for handler in found:
            typer.echo(encode_line(_view(handler)))
    else:
        _print_table(found)


def _found(settings: Settings, only: str | None) -> list[Handler]:
    from landed.handlers import load  # noqa: PLC0415

    if settings.handlers is None:
        raise SettingsError("Name the file with your handlers, as in landed handlers app.py.")
    found = load(settings.handlers)
    if only is None:
        return found
    named = [handler for handler in found if handler.name == only]
    if not named:
        names = ", ".join(handler.name for handler in found)
        raise SettingsError(f"There is no handler {only!r} in {settings.handlers}: there are {names}.")
    return named


def _answers(
    settings: Settings, found: Sequence[Handler], reference: str, only: str | None, *, json: bool
) -> list[tuple[str, Letter, Answer]]:
    import structlog  # noqa: PLC0415

    # Each answer is told in a line of its own, and on the output a line of the log would stand between them.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    letters = _letters(settings, reference, quiet=json)
    return asyncio.run(_tried(settings, found, letters, is_forced=only is not None))


def _letters(settings: Settings, reference: str, *, quiet: bool) -> list[Letter]:
    from landed.cli.subscribers import reading  # noqa: PLC0415
    from landed.worker.dispatch import letter_of  # noqa: PLC0415

    with reading(settings) as outbox:
        kept = [] if outbox is None else outbox.find(reference)
    letters = [letter for each in kept if (letter := letter_of(each, is_replay=True)) is not None]
    if not letters:
        if not quiet:
            typer.echo(f"There is no event {reference}, and none of a message with that id.", err=True)
        raise typer.Exit(1)
    return letters


async def _tried(
    settings: Settings, found: Sequence[Handler], letters: Sequence[Letter], *, is_forced: bool
) -> list[tuple[str, Letter, Answer]]:
    from landed.worker.calls import Calls  # noqa: PLC0415

    calls = Calls(found, settings.events)
    wanted = [
        (handler.name, letter)
        for letter in letters
        for handler in found
        if is_forced or (letter.type in handler.wanted.types() and handler.wanted.takes(letter.traits))
    ]
    try:
        return [(name, letter, await calls.carry(name, (), [letter])) for name, letter in wanted]
    finally:
        await calls.close()


def _view(handler: Handler) -> dict[str, object]:
    import msgspec  # noqa: PLC0415

    wanted = {"events": handler.wanted.events} | msgspec.to_builtins(handler.wanted)
    return {
        "name": handler.name,
        "file": str(handler.path),
        "line": handler.line,
        "async": handler.is_async,
        "wanted": wanted,
    }


def _print_table(found: Sequence[Handler]) -> None:
    from landed.cli.printing import Column, Look, print_table  # noqa: PLC0415
    from landed.cli.subscribers import filters_of  # noqa: PLC0415

    look = Look(sys.stdout, show_numbers=True)
    columns = [
        Column(name="handler", cells=[handler.name for handler in found]),
        Column(name="events", cells=[", ".join(handler.wanted.events) for handler in found]),
        Column(name="only", cells=["; ".join(filters_of(handler.wanted)) for handler in found], leaves=1),
        Column(name="at", cells=[f"{Path(handler.path).name}:{handler.line}" for handler in found], leaves=2),
    ]
    print_table(columns, look, sys.stdout)
