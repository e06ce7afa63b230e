"""Settings: who wins, what is refused, and that nothing falls back to accepting everything."""

from __future__ import annotations

import pytest

from landed.errors import SettingsError
from landed.run import keyring
from landed.settings import load


@pytest.fixture(autouse=True)
def _empty_surroundings(monkeypatch, tmp_path):
    for name in ("LANDED_PORT", "VONAGE_API_KEY", "VONAGE_SIGNATURE_SECRET", "VONAGE_SIGNATURE_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults_need_nothing():
    settings = load()
    assert (settings.port, settings.private_port, str(settings.data)) == (3000, 3001, "landed-data")
    assert not keyring(settings).has_secrets


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(monkeypatch, tmp_path):
    (tmp_path / "landed.toml").write_text('port = 1\nprivate_port = 1\nhost = "::1"\n')
    monkeypatch.setenv("LANDED_PORT", "2")
    monkeypatch.setenv("LANDED_PRIVATE_PORT", "2")
    settings = load(port=3)
    assert (settings.port, settings.private_port, settings.host) == (3, 2, "::1")


def test_several_secrets_come_with_commas_between(monkeypatch):
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "new, old")
    (account,) = keyring(load()).accounts
    assert account.secrets == (b"new", b"old")


def test_secrets_are_not_shown_where_settings_are(monkeypatch):
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "do-not-show")
    assert "do-not-show" not in repr(load())


def test_accounts_of_the_file_stand_behind_the_usual_one(monkeypatch, tmp_path):
    (tmp_path / "landed.toml").write_text('[[account]]\nname = "b"\napi_key = "k"\nsignature_secret = ["x", "y"]\n')
    assert [account.name for account in keyring(load()).accounts] == ["b"]
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "s")
    assert [account.name for account in keyring(load()).accounts] == ["default", "b"]


@pytest.mark.parametrize("empty", ["", " ", ","])
def test_an_empty_secret_is_refused_and_never_means_to_check_nothing(monkeypatch, empty):
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", empty)
    with pytest.raises(SettingsError, match="check nothing"):
        load()


def test_all_errors_are_told_together(tmp_path):
    (tmp_path / "landed.toml").write_text('port = 70000\nrole = "boss"\ncolour = "red"\njwt_window_hours = 1\n')
    with pytest.raises(SettingsError) as error:
        load()
    told = str(error.value).splitlines()
    assert [line.split()[1].rstrip(":") for line in told] == ["port", "role", "jwt_window_hours", "colour"]


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    (tmp_path / "landed.toml").write_text("port: 3000")
    with pytest.raises(SettingsError, match=r"landed\.toml cannot be read"):
        load()
