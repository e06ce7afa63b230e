"""`landed init`: every setting stands in the file, and the file sets nothing until a line is made to."""

from __future__ import annotations

import re
import stat
import tomllib

import pytest

from landed.onboarding.settings_file import text_of_new
from landed.settings import AccountSettings, Limits, Settings, load


def test_a_file_that_was_just_written_sets_nothing(landed, tmp_path, monkeypatch):
    done = landed("init")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "landed.toml"
    assert tomllib.loads(file.read_text()) == {}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.chdir(tmp_path)
    assert load() == Settings()


@pytest.mark.parametrize("name", [*Settings.model_fields, *AccountSettings.model_fields, *Limits.model_fields])
def test_every_setting_stands_in_it(name):
    assert re.search(rf"^# {name} = |^# \[+{name}\]+$", text_of_new(), re.MULTILINE)


@pytest.mark.parametrize("name", ["port", "journal_days", "host", "jwt_window_hours", "sms_signature"])
def test_a_default_that_is_made_a_setting_is_taken(tmp_path, monkeypatch, name):
    (line,) = [line for line in text_of_new().splitlines() if line.startswith(f"# {name} = ")]
    (tmp_path / "landed.toml").write_text(line.removeprefix("# "))
    monkeypatch.chdir(tmp_path)
    assert getattr(load(), name) == getattr(Settings(), name)


def test_a_file_that_is_there_is_left_alone(landed, tmp_path):
    (tmp_path / "landed.toml").write_text("port = 1")
    done = landed("init")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert (tmp_path / "landed.toml").read_text() == "port = 1"
    assert landed("init", "--force").returncode == 0
    assert landed("init", "other.toml").returncode == 0
