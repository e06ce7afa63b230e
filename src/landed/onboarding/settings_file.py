"""The text of a `landed.toml`: in a new one every setting stands, waiting to be set, and any takes values.

Made from the one table of settings. A value goes into the line of its setting, with all other lines as they were.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from landed.errors import SettingsError
from landed.settings import AccountSettings, EventSettings, Limits, Settings, SubscriberSettings

WIDTH = 110
# The settings that are tables: what is written above each, and what is in it.
TABLES: Mapping[str, tuple[tuple[str, str], type[BaseModel]]] = {
    "account": (("# More accounts, a table for each.", "# [[account]]"), AccountSettings),
    "subscriber": (("# Who gets events, a table for each.", "# [[subscriber]]"), SubscriberSettings),
    "events": (("# How events reach those who want them.", "# [events]"), EventSettings),
    "limits": (
        ("# What one client of the public port, and all of them together, may use.", "# [limits]"),
        Limits,
    ),
}


def text_of_new() -> str:
    """A file in which nothing is set yet."""
    return "\n".join(_lines()) + "\n"


def with_values(text: str, values: Mapping[str, str]) -> str:
    """The same file with these settings; SettingsError where it is written in a way that we cannot add to."""
    before = values_in(text)
    lines = text.removesuffix("\n").split("\n") if text else []
    for name, value in values.items():
        if before.get(name) != value:
            _put(lines, name, value)
    changed = "\n".join(lines) + "\n"
    try:
        is_right = tomllib.loads(changed) == {**before, **values}
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        wanted = ", ".join(f"{name} = {_quoted(value)}" for name, value in values.items())
        raise SettingsError(f"The settings file is written in a way that no program should change: set {wanted} there.")
    return changed


def values_in(text: str) -> dict[str, Any]:
    """What a file sets. SettingsError where it is no TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The settings file is no TOML: {error}.") from error


def _put(lines: list[str], name: str, value: str) -> None:
    """Put a setting where it stands, else where it waits, else before the first table."""
    end = "\r" if lines and lines[0].endswith("\r") else ""
    line = f"{name} = {_quoted(value)}{end}"
    first_table = next((number for number, each in enumerate(lines) if each.lstrip().startswith("[")), len(lines))
    for pattern in (rf"\s*{name}\s*=", rf"#\s*{name}\s*="):
        for number in range(first_table):
            if re.match(pattern, lines[number]):
                lines[number] = line
                return
    lines.insert(first_table, line)


def _quoted(value: str) -> str:
    """A text of TOML, whose escapes are those of JSON but for one."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _lines() -> Iterator[str]:
    yield "# Settings of landed. What is here wins over the defaults; the environment and the command line win over it."
    yield "# Secrets may stand in the environment instead, under the names that Vonage gave them."
    for name, field in Settings.model_fields.items():
        if name not in TABLES:
            yield from _setting(name, field)
    for heading, model in TABLES.values():
        yield ""
        yield from heading
        for name, field in model.model_fields.items():
            yield from _setting(name, field)


def _setting(name: str, field: FieldInfo) -> Iterator[str]:
    yield ""
    for line in wrap((field.description or "").replace("`", ""), WIDTH):
        yield f"# {line}"
    alias = field.validation_alias
    if isinstance(alias, str):
        yield f"# In the environment: {alias}"
    yield f"# {name} = {_toml(field.default)}"


def _toml(default: Any) -> str:  # noqa: ANN401 - whatever a setting is
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return str(default)
    if default in (None, (), PydanticUndefined):
        return '"…"'
    if isinstance(default, tuple):
        return f'"{", ".join(default)}"'
    return f'"{default}"'
