"""The plan of the house: imports point down only, and what is public is documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import landed

ROOT = Path(landed.__file__).parent

# Each room's floor. A module imports only from its own room or from floors below its own: rooms on
# one floor never import each other, but for the bottom one.
FLOORS: dict[str, int] = {
    "": 0,
    "errors": 0,
    "asgi": 0,
    "durations": 0,
    "files": 0,
    "domain": 0,
    "settings": 0,
    "sqlite": 0,
    "journal": 0,
    "handlers": 1,
    "vonage": 1,
    "store": 1,
    "gate": 2,
    "worker": 2,
    "api": 2,
    "simulator": 2,
    "onboarding": 2,
    "sending": 2,
    "work": 3,
    "run": 4,
    "testing": 4,
    "cli": 5,
    "__main__": 6,
}
MODULES = sorted(ROOT.rglob("*.py"))


def room_of(module: Path) -> str:
    first = module.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_rooms(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "landed":
                names.update(alias.name for alias in node.names if alias.name in FLOORS)
            elif node.module.startswith("landed."):
                names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("landed."))
    return names


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_imports_point_down_only(module):
    room = room_of(module)
    if room == "":
        return
    wrong = {
        other
        for other in imported_rooms(ast.parse(module.read_text())) - {room}
        if FLOORS[other] > FLOORS[room] or (FLOORS[other] == FLOORS[room] and FLOORS[room] != 0)
    }
    assert not wrong, f"{room} may not import {wrong}"


def test_the_domain_is_pure():
    forbidden = {"asyncio", "os", "pathlib", "socket", "time", "random", "apsw", "httpx", "threading", "subprocess"}
    clocks = {"now", "utcnow", "today"}
    for module in (ROOT / "domain").glob("*.py"):
        names = {
            (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
            for node in ast.walk(ast.parse(module.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not names & forbidden, module.name
        tree = ast.parse(module.read_text())
        assert imported_rooms(tree) <= {"domain"}, module.name
        assert not clocks & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}, module.name


def test_no_function_is_longer_than_seventy_lines():
    long = [
        f"{module.relative_to(ROOT)}:{node.name}"
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno > 70
    ]
    assert not long


@pytest.mark.parametrize("module", ["fastapi", "pydantic", "rich", "httpx", "apsw", "uvicorn"])
def test_help_loads_none_of_what_commands_need(module):
    code = f"import sys, landed.cli; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
