"""Our webhooks' addresses, which of Vonage's lead to them, and what is taken for where we are."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from landed.errors import SettingsError
from landed.onboarding.addresses import PATHS, Addresses
from landed.settings import load

HERE = Addresses.of("https://hooks.example.com", None)
PREFIXED = Addresses.of("https://hooks.example.com", "/hooks")
PORTED = Addresses.of("http://127.0.0.1:3000", None)


@pytest.fixture(autouse=True)
def _empty_surroundings(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("LANDED_", "VONAGE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "prefix", "base"),
    [
        ("https://hooks.example.com", None, "https://hooks.example.com"),
        ("https://hooks.example.com/", None, "https://hooks.example.com"),
        ("https://hooks.example.com", "/hooks", "https://hooks.example.com/hooks"),
        ("https://hooks.example.com/", "/hooks", "https://hooks.example.com/hooks"),
        ("https://example.com/sub/", "/hooks", "https://example.com/sub/hooks"),
    ],
    ids=["bare", "slash", "prefix", "slash and prefix", "path and prefix"],
)
def test_the_paths_follow_the_public_url_and_the_prefix(url, prefix, base):
    addresses = Addresses.of(url, prefix)
    assert addresses.application.receipts == f"{base}/webhooks/message-status"
    assert addresses.application.inbound == f"{base}/webhooks/inbound-message"
    assert addresses.account.receipts == f"{base}/webhooks/delivery-receipt"
    assert addresses.account.inbound == f"{base}/webhooks/inbound-sms"


def test_settings_say_where_we_are_or_do_not():
    assert Addresses.of_settings(load()) is None
    there = load(public_url="https://hooks.example.com/", path_prefix="/hooks/")
    assert Addresses.of_settings(there) == PREFIXED


@pytest.mark.parametrize("addresses", [HERE, PREFIXED, PORTED], ids=["https", "prefix", "port"])
@pytest.mark.parametrize("path", PATHS)
def test_each_of_ours_leads_here(addresses, path):
    assert addresses.leads_here(addresses.base + path)
    assert addresses.is_same_host(addresses.base + path)


@pytest.mark.parametrize(
    ("addresses", "url", "leads_here", "is_same_host"),
    [
        (HERE, "https://hooks.example.com:443/webhooks/message-status", True, True),
        (HERE, "https://hooks.example.com/webhooks/message-status/", True, True),
        (HERE, " https://hooks.example.com/webhooks/message-status\n", True, True),
        (HERE, "HTTPS://Hooks.Example.COM/webhooks/message-status", True, True),
        (HERE, "https://hooks.example.com/Webhooks/Message-Status", False, True),
        (HERE, "https://hooks.example.com/webhooks/status", False, True),
        (HERE, "https://hooks.example.com", False, True),
        (HERE, "https://hooks.example.com/hooks/webhooks/message-status", False, True),
        (HERE, "http://hooks.example.com/webhooks/message-status", False, False),
        (HERE, "http://hooks.example.com:443/webhooks/message-status", False, False),
        (HERE, "https://hooks.example.com:8443/webhooks/message-status", False, False),
        (HERE, "https://example.com/webhooks/message-status", False, False),
        (HERE, "https://hooks.example.com.evil.test/webhooks/message-status", False, False),
        (HERE, "https://hooks.example.com@evil.test/webhooks/message-status", False, False),
        (HERE, "//hooks.example.com/webhooks/message-status", False, False),
        (HERE, "/webhooks/message-status", False, False),
        (HERE, "", False, False),
        (PREFIXED, "https://hooks.example.com/hooks/webhooks/inbound-sms", True, True),
        (PREFIXED, "https://hooks.example.com/webhooks/inbound-sms", False, True),
        (PORTED, "http://127.0.0.1:3000/webhooks/delivery-receipt", True, True),
        (PORTED, "http://127.0.0.1/webhooks/delivery-receipt", False, False),
        (Addresses.of("https://h.test:443", None), "https://h.test/webhooks/inbound-sms", True, True),
        (Addresses.of("http://h.test", None), "http://h.test:80/webhooks/inbound-sms", True, True),
        (Addresses.of("https://H.Test", None), "https://h.test/webhooks/inbound-sms", True, True),
        (Addresses.of("http://[::1]:3000", None), "http://[::1]:3000/webhooks/inbound-sms", True, True),
    ],
)
def test_an_address_leads_here_or_to_the_same_host_or_elsewhere(addresses, url, leads_here, is_same_host):
    assert (addresses.leads_here(url), addresses.is_same_host(url)) == (leads_here, is_same_host)


@given(st.text() | st.text(alphabet="htps:/[]@%#?.0123456789\\").map("http://".__add__))
@example("http://[::1")
@example("http://[x]/")
@example("https://hooks.example.com:port/")
@example("https://hooks.example.com:99999/webhooks/message-status")
@example("https://hooks.example.com:-1/")
@example("http://\u2100.example.com/")
@example("\ud800")
@example("\x00")
def test_rubbish_leads_elsewhere_and_never_fails(url):
    assert not HERE.leads_here(url)
    assert not HERE.is_same_host(url)


@pytest.mark.parametrize(
    ("given_url", "taken"),
    [
        ("https://hooks.example.com", "https://hooks.example.com"),
        ("http://hooks.example.com", "http://hooks.example.com"),
        ("https://hooks.example.com/", "https://hooks.example.com"),
        (" https://hooks.example.com// ", "https://hooks.example.com"),
        ("https://example.com/a_path/", "https://example.com/a_path"),
        ("https://hooks.example.com:8443", "https://hooks.example.com:8443"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("", None),
        (" ", None),
    ],
)
def test_a_public_url_is_taken_without_the_slash_at_its_end(given_url, taken):
    assert load(public_url=given_url).public_url == taken


@pytest.mark.parametrize(
    "url",
    [
        "https://my_hooks.example.com",
        "https://hooks.my_company.example",
        "https://hooks.example.com?a=b",
        "https://hooks.example.com/?",
        "https://hooks.example.com/#",
        "https://hooks.example.com#fragment",
        "https://user@hooks.example.com",
        "https://user:password@hooks.example.com",
        "https://hooks.example.com\\@evil.test",
        "hooks.example.com",
        "//hooks.example.com",
        "/hooks",
        "ftp://hooks.example.com",
        "ws://hooks.example.com",
        "https:hooks.example.com",
        "https://",
        "https:///hooks",
        "https://:443",
        "https://hooks.example.com:0",
        "https://hooks.example.com:65536",
        "https://hooks.example.com:port",
        "https://hooks example.com",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/a\nb",
        "https://hooks.example.com/a\tb",
        "https://hooks.example.com/a\x00b",
        "https://hooks.example.com/a\x7fb",
        "https://münchen.example",
        "https://[::1",
    ],
)
def test_what_vonage_could_not_call_is_no_public_url(url):
    with pytest.raises(SettingsError, match=r"^Setting public_url: .*\.$"):
        load(public_url=url)


def test_a_public_url_may_stand_in_the_environment_or_the_file(monkeypatch, tmp_path):
    (tmp_path / "landed.toml").write_text('public_url = "https://file.example.com/"\n')
    assert load().public_url == "https://file.example.com"
    monkeypatch.setenv("LANDED_PUBLIC_URL", "https://environment.example.com/")
    assert load().public_url == "https://environment.example.com"
