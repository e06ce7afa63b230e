"""`landed init`: a `landed.toml` in which every setting stands, with its meaning, waiting to be set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

WIDTH = 110
MODE = 0o600


def init(
    file: Annotated[Path | None, typer.Argument(help="Where to write it [landed.toml].", metavar="FILE")] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Write a commented landed.toml: each setting with its default, its meaning and its unit.

    Nothing in it is set. It may have secrets in it later, so others cannot read it.

    Example: landed init
    """
    from landed.errors import SettingsError, SurroundingsError  # noqa: PLC0415
    from landed.settings import FILE  # noqa: PLC0415

    file = file or Path(FILE)
    if file.exists() and not force:
        raise SettingsError(f"{file} is there already: name another file, or write over it with --force.")
    try:
        file.touch(MODE)
        file.write_text("\n".join(lines()) + "\n", encoding="utf-8")
    except OSError as error:
        raise SurroundingsError(f"{file} cannot be written: {error.strerror}.") from error
    typer.echo(f"Wrote {file}. Nothing in it is set yet; docs/settings.md says more.")


def lines() -> Iterator[str]:
    """The file, from the one table of settings."""
    from landed.settings import AccountSettings, Limits, Settings  # noqa: PLC0415

    tables = {"limits", "account"}
    yield "# Settings of landed. What is here wins over the defaults; the environment and the command line win over it."
    yield "# Secrets may stand in the environment instead, under the names that Vonage gave them."
    for name, field in Settings.model_fields.items():
        if name not in tables:
            yield from _setting(name, field)
    yield from ("", "# More accounts, a table for each.", "# [[account]]")
    for name, field in AccountSettings.model_fields.items():
        yield from _setting(name, field)
    yield from ("", "# What one client of the public port, and all of them together, may use.", "# [limits]")
    for name, field in Limits.model_fields.items():
        yield from _setting(name, field)


def _setting(name: str, field: FieldInfo) -> Iterator[str]:
    from textwrap import wrap  # noqa: PLC0415

    yield ""
    for line in wrap((field.description or "").replace("`", ""), WIDTH):
        yield f"# {line}"
    alias = field.validation_alias
    if isinstance(alias, str):
        yield f"# In the environment: {alias}"
    yield f"# {name} = {_toml(field.default)}"


def _toml(default: Any) -> str:  # noqa: ANN401 - whatever a setting is
    from pydantic_core import PydanticUndefined  # noqa: PLC0415

    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return str(default)
    if default in (None, (), PydanticUndefined):
        return '"…"'
    return f'"{default}"'
