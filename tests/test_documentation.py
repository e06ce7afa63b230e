"""What is documented is there, what is there is documented, and the README's code runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic_core import PydanticUndefined

from landed.gate.judge import ANSWERS
from landed.settings import AccountSettings, Limits, Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()


def rows(model):
    """The documentation's table rows for a settings model: name, default, meaning and choices."""
    for name, field in model.model_fields.items():
        if name in ("limits", "account"):
            continue
        default = "required" if field.default is PydanticUndefined else shown(field.default)
        choices = re.findall(r"'([\w-]+)'", str(field.annotation)) if "Literal" in str(field.annotation) else []
        named = f" One of: {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
        yield f"| `{name}` | {default} | {field.description}{named} |"


def shown(default):
    return "unset" if default in (None, ()) else f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize(
    "row", [*rows(Settings), *rows(AccountSettings), *rows(Limits)], ids=lambda row: row.split("`")[1]
)
def test_every_setting_is_documented_with_its_default_and_meaning(row):
    assert row in SETTINGS


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "serve",
        "list",
        "show",
        "tail",
        "stats",
        "reasons",
        "rebuild",
        "doctor",
        "parse",
        "quarantine",
        "simulate",
        "init",
        "setup",
        "tunnel",
        "send",
        "wait",
        "track",
        "jwt",
    ],
)
def test_every_command_is_in_the_readme(command):
    assert f"landed {command}" in README


@pytest.mark.parametrize("path", [*ANSWERS, "/healthz", "/metrics"])
def test_every_route_is_in_the_readme(path):
    assert path in README


def test_the_readme_s_library_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(code.replace('secrets="your signature secret"', "secrets=None"), names)  # noqa: S102 - it is what is tested
    body = json.dumps({"message_uuid": "m", "status": "delivered", "channel": "sms"}).encode()
    request = SimpleNamespace(
        method="POST", path="/webhooks/message-status", query_string=b"", headers={}, get_data=lambda: body
    )
    assert names["webhook"](request) == ("", 200)
    assert capsys.readouterr().out == "m delivered delivered None\n"


def test_documents_that_are_made_from_tables_are_as_the_tables_are(tmp_path):
    subprocess.run([sys.executable, str(ROOT / "tools" / "tables.py"), str(tmp_path)], check=True)

    for name in ("reasons.md", "statuses.md", "fates.md"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text(), "run `make tables`"


def test_the_readme_s_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link
