"""Settings: who wins, what is refused, and that nothing falls back to accepting everything."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from landed.domain.moments import microseconds
from landed.errors import SettingsError
from landed.gate.judge import Judge, Keep, keyring_of
from landed.settings import load
from landed.vonage.request import Request

NOON = datetime(2025, 2, 3, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _empty_surroundings(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("LANDED_", "VONAGE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_need_nothing():
    settings = load()
    assert (settings.port, settings.private_port, str(settings.data)) == (3000, 3001, "landed-data")
    assert not keyring_of(settings).has_secrets


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(monkeypatch, tmp_path):
    (tmp_path / "landed.toml").write_text('port = 1\nprivate_port = 1\nhost = "::1"\n')
    monkeypatch.setenv("LANDED_PORT", "2")
    monkeypatch.setenv("LANDED_PRIVATE_PORT", "2")
    settings = load(port=3)
    assert (settings.port, settings.private_port, settings.host) == (3, 2, "::1")


def test_several_secrets_come_with_commas_between(monkeypatch):
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "new, old")
    (account,) = keyring_of(load()).accounts
    assert account.secrets == (b"new", b"old")


def test_secrets_are_not_shown_where_settings_are(monkeypatch):
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "do-not-show")
    assert "do-not-show" not in repr(load())


def test_accounts_of_the_file_stand_behind_the_usual_one(monkeypatch, tmp_path):
    (tmp_path / "landed.toml").write_text('[[account]]\nname = "b"\napi_key = "k"\nsignature_secret = ["x", "y"]\n')
    assert [account.name for account in keyring_of(load()).accounts] == ["b"]
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "s")
    assert [account.name for account in keyring_of(load()).accounts] == ["default", "b"]


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
    with pytest.raises(SettingsError, match=r"cannot be read, in landed\.toml"):
        load()


def test_only_vonages_own_names_are_vonages(monkeypatch):
    for name in ("API_KEY", "SIGNATURE_SECRET", "SIGNATURE_METHOD"):
        monkeypatch.setenv(name, "unrelated")
    settings = load()
    assert (settings.vonage_api_key, settings.vonage_signature_secret, settings.vonage_signature_method) == (
        None,
        (),
        None,
    )


def test_the_file_takes_vonages_settings_by_the_same_names(tmp_path):
    (tmp_path / "landed.toml").write_text('vonage_api_key = "k"\nvonage_signature_secret = ["x", "y"]\n')
    (account,) = keyring_of(load()).accounts
    assert (account.api_key, account.secrets) == ("k", (b"x", b"y"))


@pytest.mark.parametrize("days", [0, 4, 365])
def test_requests_are_kept_for_ever_or_as_long_as_vonage_may_repeat_them(tmp_path, days):
    assert load().journal_days == 0
    (tmp_path / "landed.toml").write_text(f"journal_days = {days}\n")
    assert load().journal_days == days


def test_a_blank_key_is_no_key(monkeypatch):
    monkeypatch.setenv("VONAGE_API_KEY", "")
    monkeypatch.setenv("VONAGE_SIGNATURE_METHOD", " ")
    settings = load()
    assert (settings.vonage_api_key, settings.vonage_signature_method) == (None, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("vonage_signature_secret = []", "check nothing"),
        ("jwt_window_hours = inf", "jwt_window_hours"),
        ("[limits]\nidle_seconds_max = nan", "limits.idle_seconds_max"),
        ("colour = 1", "no setting of landed's"),
        ('[[account]]\nname = "a"\nsignature_secret = "x"\n' * 2, "a name of its own"),
        ('[[account]]\nname = "a"\n', "account.0.signature_secret"),
        ('networks = ["192.0.2.1/24", "here", "10.0.0.0/8"]', "192.0.2.1/24 has host bits set; 'here'"),
        ("networks = 5", "no list of networks"),
        ('networks = " "', "accept from anywhere"),
        ('trusted_proxies = ["0.0.0.0/0"]', "anybody could say to be anybody"),
        ('path_prefix = "hooks"', "no path such as /hooks"),
        ('path_prefix = "/hooks?a=b"', "no path such as /hooks"),
        ('sms_signature = "required"', "no signature secret to check with"),
        ('sms_signature = "never"', "sms_signature"),
        ("[limits]\nunverified_per_second_max = 0", "limits.unverified_per_second_max"),
        ("[limits]\nfree_bytes_min = -1", "limits.free_bytes_min"),
        ("journal_days = 3", "journal_days: it is too short, since .* again for three days: give at least 4, or 0"),
        ("journal_days = -1", "journal_days"),
    ],
    ids=[
        *("no-secret", "endless", "not-a-number", "unknown", "same-name", "account-without-secret"),
        *("networks-that-are-none", "no-list", "blank-networks", "all-proxies", "no-path", "path-with-query"),
        *("nothing-to-check-with", "unknown-word", "no-rate", "negative", "too-few-days", "negative-days"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_by_its_name(tmp_path, text, told):
    (tmp_path / "landed.toml").write_text(text)
    with pytest.raises(SettingsError, match=told):
        load()


def test_a_misspelt_variable_is_told(monkeypatch):
    monkeypatch.setenv("LANDED_PRTO", "3")
    with pytest.raises(SettingsError, match="LANDED_PRTO"):
        load()


def test_a_limit_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("LANDED_LIMITS__BODY_BYTES_MAX", "1000")
    assert load().limits.body_bytes_max == 1000


def test_a_variable_that_cannot_be_read_is_wrong_settings(monkeypatch):
    monkeypatch.setenv("LANDED_ACCOUNT", "oops")
    with pytest.raises(SettingsError, match="account"):
        load()


def test_networks_come_from_the_environment_and_the_file(monkeypatch, tmp_path):
    (tmp_path / "landed.toml").write_text(
        'networks = ["192.0.2.0/24", "2001:db8::/32"]\ntrusted_proxies = "10.0.0.1"\n'
    )
    settings = load()
    assert settings.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert settings.trusted_proxies == (ip_network("10.0.0.1/32"),)
    monkeypatch.setenv("LANDED_NETWORKS", "198.51.100.0/24, 203.0.113.7")
    assert load().networks == (ip_network("198.51.100.0/24"), ip_network("203.0.113.7/32"))


@pytest.mark.parametrize(
    ("typed", "prefix"),
    [("/hooks", "/hooks"), ("/a/b/", "/a/b"), ("/", None), ("", None), (" ", None)],
)
def test_a_path_prefix_is_a_path_or_none(monkeypatch, typed, prefix):
    monkeypatch.setenv("LANDED_PATH_PREFIX", typed)
    assert load().path_prefix == prefix


def test_wrong_policy_is_told_with_all_else_that_is_wrong(tmp_path):
    (tmp_path / "landed.toml").write_text(
        'port = 70000\nnetworks = ["x"]\ntrusted_proxies = ["y"]\npath_prefix = "z"\nsms_signature = "required"\n'
    )
    with pytest.raises(SettingsError) as error:
        load()
    told = [line.split()[1].rstrip(":") for line in str(error.value).splitlines()]
    assert told == ["port", "path_prefix", "networks", "trusted_proxies", "sms_signature"]


@pytest.mark.parametrize(("wanted", "keep"), [("when-present", Keep.JOURNAL), ("required", Keep.QUARANTINE)])
def test_the_judge_is_made_by_the_settings(monkeypatch, wanted, keep):
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "s")
    monkeypatch.setenv("LANDED_SMS_SIGNATURE", wanted)
    settings = load()
    request = Request(method="GET", path="/webhooks/delivery-receipt", query=b"messageId=m&status=delivered")
    assert Judge.of(settings, keyring_of(settings)).verdict(request, microseconds(NOON), "192.0.2.1").keep is keep


def test_the_rate_is_a_setting_that_does_not_bind_what_came_before(monkeypatch):
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "s")
    monkeypatch.setenv("LANDED_LIMITS__UNVERIFIED_BURST_MAX", "1")
    settings = load()
    request = Request(method="GET", path="/webhooks/delivery-receipt", query=b"messageId=m&status=delivered")
    judges = [Judge.of(settings, keyring_of(settings), at_any_rate=at_any_rate) for at_any_rate in (False, True)]
    assert [[judge.verdict(request, microseconds(NOON)).reason for _ in range(2)] for judge in judges] == [
        ["", "rate"],
        ["", ""],
    ]


def test_several_gates_share_what_all_clients_together_may_use(monkeypatch):
    monkeypatch.setenv("LANDED_LIMITS__CONNECTIONS_MAX", "100")
    whole, part = load(gates=4).limits, load(gates=4).of_one_gate().limits
    assert (part.connections_max, part.unverified_per_second_max) == (25, whole.unverified_per_second_max / 4)
    assert part.copies_max == whole.copies_max // 4
    assert (part.body_bytes_max, part.idle_seconds_max) == (whole.body_bytes_max, whole.idle_seconds_max)
    assert load(gates=64).of_one_gate().limits.copies_max == 2
    assert load().of_one_gate().limits == load().limits
