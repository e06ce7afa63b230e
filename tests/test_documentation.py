"""What is documented is there, what is there is documented, and the README's code runs."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic_core import PydanticUndefined
from standardwebhooks import Webhook

from landed.domain.events import EventType, encode_event
from landed.domain.samples import sample_of
from landed.gate.judge import ANSWERS
from landed.onboarding.look import FILES
from landed.onboarding.outside_findings import CHANGED, FAULTS, HELD, OTHER_SECRETS
from landed.onboarding.settings_file import TABLES
from landed.settings import AccountSettings, EventSettings, Limits, Settings, SubscriberSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
EVENTS = (ROOT / "docs" / "events.md").read_text()


def rows(model):
    """The documentation's table rows for a settings model: name, default, meaning and choices."""
    for name, field in model.model_fields.items():
        if model is Settings and name in TABLES:
            continue
        default = "required" if field.default is PydanticUndefined else shown(field.default)
        choices = re.findall(r"'([\w-]+)'", str(field.annotation)) if "Literal" in str(field.annotation) else []
        named = f" One of: {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
        yield f"| `{name}` | {default} | {field.description}{named} |"


def shown(default):
    if isinstance(default, tuple) and default:
        return f"`{', '.join(default)}`"
    return "unset" if default in (None, ()) else f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize(
    "row",
    [row for model in (Settings, AccountSettings, SubscriberSettings, EventSettings, Limits) for row in rows(model)],
    ids=lambda row: row.split("`")[1],
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
        "events subscribe",
        "events list",
        "events dead",
        "events show",
        "events replay",
        "events listen",
        "events try",
        "handlers",
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

    for name in ("reasons.md", "statuses.md", "fates.md", "events.md", "events.schema.json"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text(), "run `make tables`"


def test_the_receiver_of_events_in_the_documentation_runs(monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", EVENTS, re.DOTALL)
    secret = f"whsec_{base64.b64encode(bytes(32)).decode()}"
    monkeypatch.setenv("EVENTS_SECRET", secret)
    names: dict[str, object] = {"__name__": "__main__"}
    exec(code, names)  # noqa: S102 - it is what is tested
    client, now = names["app"].test_client(), datetime.now(UTC).replace(microsecond=0)
    body = encode_event(sample_of(EventType.DELIVERED, now)).decode()
    signed = {
        "webhook-id": json.loads(body)["id"],
        "webhook-timestamp": f"{now.timestamp():.0f}",
        "webhook-signature": Webhook(secret).sign(json.loads(body)["id"], now, body),
    }

    assert [client.post("/events", data=body, headers=signed).status_code for _ in range(2)] == [204, 204]
    assert client.post("/events", data=body + " ", headers=signed).status_code == 401
    assert client.post("/events", data=body).status_code == 401
    assert capsys.readouterr().out.count("message.delivered") == 1


def test_the_readme_s_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_everything_that_the_doctor_finds_is_documented():
    documented = set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs" / "doctor.md").read_text()))
    assert set(names_of_findings()) <= documented


def names_of_findings():
    """Each name that a finding can have, as the program has them."""
    for file in (ROOT / "src" / "landed" / "onboarding").glob("*.py"):
        text = file.read_text()
        yield from re.findall(r'name="([a-z0-9-]+)"', text)
        yield from re.findall(r'"(outside-[a-z0-9]+)",$', text, re.MULTILINE)
    yield from (
        f"outside-{fault}" for fault in (*FAULTS, *(row[0] for row in HELD.values()), CHANGED[0], OTHER_SECRETS[0])
    )
    yield from (
        f"{whose}-{what}" for whose in ("application", "account") for what in ("no-url", "path", "elsewhere", "inbound")
    )
    yield from (f"{part}-unusable" for part in FILES)


@pytest.mark.parametrize("file", sorted((ROOT / "docs").glob("*.md")), ids=lambda file: file.name)
def test_the_links_of_each_document_lead_somewhere(file):
    for link in re.findall(r"\]\(([^)]+)\)", file.read_text()):
        path = link.partition("#")[0]
        assert "://" in link or not path or (file.parent / path).exists(), link
