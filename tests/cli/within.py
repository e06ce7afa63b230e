"""The command line within the tests' own process, which is quicker than another one: as `landed` is run otherwise."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

import pytest

from landed.cli import main


class Run(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command in the test's directory; the environment has nothing of landed's or Vonage's."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("LANDED_", "VONAGE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments, **environment):
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["landed", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                main()
        printed = capsys.readouterr()
        return Run(ended.value.code or 0, printed.out, printed.err)

    return run
