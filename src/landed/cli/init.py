"""`landed init`: a `landed.toml` in which every setting stands, with its meaning, waiting to be set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    from landed.files import PRIVATE, put  # noqa: PLC0415
    from landed.onboarding.settings_file import text_of_new  # noqa: PLC0415
    from landed.settings import FILE  # noqa: PLC0415

    file = file or Path(FILE)
    if file.exists() and not force:
        raise SettingsError(f"{file} is there already: name another file, or write over it with --force.")
    try:
        put(file, text_of_new().encode(), PRIVATE)
    except OSError as error:
        raise SurroundingsError(f"{file} cannot be written: {error.strerror}.") from error
    typer.echo(f"Wrote {file}. Nothing in it is set yet; docs/settings.md says more.")
