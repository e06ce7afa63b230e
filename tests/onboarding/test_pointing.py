"""Vonage's webhooks are pointed elsewhere and put back: just as they were, but for what somebody else changed."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from landed.errors import LandedError, Refused, SurroundingsError
from landed.onboarding.addresses import Addresses
from landed.onboarding.pointing import FILE, is_guarded, point, pointed_in, restore
from landed.settings import load
from landed.simulator.account import messages_capability
from landed.vonage.configuration import Configuration
from landed.vonage.sdk import Credentials

VOICE = {"voice": {"region": "eu-west"}}


@pytest.fixture
def account(vonage):
    return vonage._simulator.account  # noqa: SLF001 - what is done to it is what is tested


@pytest.fixture
def configuration(vonage):  # noqa: ARG001 - its environment says where it is
    return Configuration(Credentials.of(load()))


@pytest.fixture
def addresses(vonage):
    answering = Starlette(routes=[Route("/{path:path}", lambda _: Response(), methods=["GET", "POST"])])
    return Addresses(base=vonage.serve(answering))


@pytest.fixture
def here(account, configuration, addresses, tmp_path):
    """All of it."""
    return account, configuration, addresses, tmp_path


def urls(account):
    webhooks = account.application.capabilities.get("messages", {}).get("webhooks", {})
    settings = account.settings
    return {name: each["address"] for name, each in webhooks.items()}, settings.receipt_url, settings.inbound_url


@pytest.mark.parametrize(
    "capabilities",
    [
        {},
        VOICE,
        messages_capability("https://old.example/status", "https://old.example/inbound") | VOICE,
        messages_capability("https://old.example/status"),
        {"messages": {"version": "v0.1", "authenticate_inbound_media": True}},
        {"messages": {"version": "v1", "webhooks": {"inbound_url": {"address": "https://old.example/in"}}}},
    ],
    ids=["none", "voice alone", "all", "status alone", "v0.1 without URLs", "inbound alone"],
)
@pytest.mark.parametrize(
    "before", [("", ""), ("https://o.example/dlr", ""), ("https://o.example/", "https://o.example/i")]
)
def test_all_is_put_back_as_it_was(here, capabilities, before):
    account, configuration, addresses, tmp_path = here
    answering = addresses.base
    account.application.capabilities = capabilities
    account.settings.receipt_url, account.settings.inbound_url = (
        each.replace("https://o.example", answering) for each in before
    )
    was, kept = urls(account), deepcopy(capabilities)
    point(configuration, addresses, tmp_path, application_id=account.application.id, has_sms=True)
    assert urls(account) == (
        {"status_url": answering + "/webhooks/message-status", "inbound_url": answering + "/webhooks/inbound-message"},
        answering + "/webhooks/delivery-receipt",
        answering + "/webhooks/inbound-sms",
    )
    assert restore(configuration, tmp_path) is not None
    assert (urls(account), account.application.capabilities) == (was, kept)
    assert restore(configuration, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def change_status(account, addresses):
    account.application.capabilities["messages"]["webhooks"]["status_url"]["address"] = addresses.base + "/mine"
    return {"status_url": addresses.base + "/mine"}, "", ""


def change_receipts(account, addresses):
    account.settings.receipt_url = addresses.base + "/mine"
    return {}, addresses.base + "/mine", ""


def change_all(account, addresses):
    account.application.capabilities = messages_capability(addresses.base + "/a", addresses.base + "/b")
    account.settings.receipt_url = addresses.base + "/c"
    account.settings.inbound_url = addresses.base + "/d"
    return urls(account)


@pytest.mark.parametrize("change", [change_status, change_receipts, change_all])
def test_what_somebody_changed_meanwhile_stays(here, change):
    account, configuration, addresses, tmp_path = here
    account.application.capabilities = {}
    point(configuration, addresses, tmp_path, application_id=account.application.id, has_sms=True)
    stays = change(account, addresses)
    restore(configuration, tmp_path)
    assert urls(account) == stays


def test_an_application_that_was_deleted_meanwhile_is_no_hindrance(account, configuration, addresses, tmp_path):
    point(configuration, addresses, tmp_path, application_id=account.application.id, has_sms=True)
    account.applications.clear()
    restore(configuration, tmp_path)
    assert (account.settings.receipt_url, pointed_in(tmp_path)) == ("", None)


@pytest.mark.parametrize(("has_application", "has_sms"), [(True, False), (False, True)])
def test_only_what_is_wanted_is_pointed(here, has_application, has_sms):
    account, configuration, addresses, tmp_path = here
    was = urls(account)
    application_id = account.application.id if has_application else None
    point(configuration, addresses, tmp_path, application_id=application_id, has_sms=has_sms)
    assert (urls(account)[0] != was[0], account.settings.receipt_url != "") == (has_application, has_sms)
    restore(configuration, tmp_path)
    assert urls(account) == was


def test_where_the_account_refuses_the_application_is_put_back(account, configuration, tmp_path):
    was = urls(account)
    nowhere = Addresses(base="http://127.0.0.1:1")
    with pytest.raises(Refused, match="must answer 200"):
        point(configuration, nowhere, tmp_path, application_id=account.application.id, has_sms=True)
    assert (urls(account), pointed_in(tmp_path)) == (was, None)


def test_a_url_that_does_not_answer_any_more_is_unset_and_told(account, configuration, addresses, tmp_path):
    account.settings.receipt_url = "http://127.0.0.1:1/dlr"
    point(configuration, addresses, tmp_path, application_id=None, has_sms=True)
    assert restore(configuration, tmp_path).unset == ("http://127.0.0.1:1/dlr",)
    assert (account.settings.receipt_url, account.settings.inbound_url, pointed_in(tmp_path)) == ("", "", None)


class Forbidding(Configuration):
    """Lets nothing be changed, and tells what is on the disk at that moment."""

    def change(self, application, **_):
        self.saw = pointed_in(self.data)
        raise Refused(403, f"Nothing of {application.id} may be changed.")


def test_what_was_there_is_on_the_disk_before_anything_is_changed(account, addresses, tmp_path):
    account.application.capabilities = messages_capability("https://old.example/")
    forbidding = Forbidding(Credentials.of(load()))
    forbidding.data = tmp_path
    with pytest.raises(Refused):
        point(forbidding, addresses, tmp_path, application_id=account.application.id, has_sms=True)
    assert forbidding.saw.messages_before == messages_capability("https://old.example/")["messages"]
    assert (tmp_path / FILE).exists() is False


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"url": 1}'])
def test_a_file_that_cannot_be_read_is_told_and_kept(configuration, tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(SurroundingsError, match="compare them with the dashboard"):
        restore(configuration, tmp_path)
    assert (tmp_path / FILE).read_text() == text


def test_where_vonage_cannot_be_asked_the_file_stays(account, configuration, addresses, tmp_path, monkeypatch):
    point(configuration, addresses, tmp_path, application_id=account.application.id, has_sms=True)
    monkeypatch.setenv("VONAGE_API_HOST", "127.0.0.1:1")
    with pytest.raises(LandedError):
        restore(Configuration(Credentials.of(load())), tmp_path)
    assert pointed_in(tmp_path) is not None
    assert json.loads((tmp_path / FILE).read_bytes())["url"] == addresses.base
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert not is_guarded(tmp_path)
