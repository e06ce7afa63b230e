"""What Vonage keeps for us, looked at and changed through TLS: what is not ours stays, and odd answers are told."""

from __future__ import annotations

import json
import runpy
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from landed.errors import Refused, SettingsError, Unanswered
from landed.settings import load
from landed.simulator.account import Application as Theirs
from landed.simulator.account import Number as TheirNumber
from landed.vonage.configuration import Application, Configuration, Number, Offer, Webhooks
from landed.vonage.keys import key_pair
from landed.vonage.sdk import Credentials

_cutting = runpy.run_path(str(Path(__file__).parent.parent / "onboarding" / "cutting.py"))
Cutting, Cut = _cutting["Cutting"], _cutting["Cut"]
OURS = Webhooks(receipts="https://a.example/status", inbound="https://a.example/inbound")
OTHER = "11111111-2222-4333-8444-555555555555"
CAPABILITIES = {
    "voice": {"webhooks": {"answer_url": {"address": "https://v.example/", "http_method": "GET"}}, "region": "eu-west"},
    "rtc": {"webhooks": {}},
    "verify": {"version": "v2", "webhooks": {}},
    "network_apis": {"network_application_id": "x"},
    "something_new": [1, {"a": None}],
}


@pytest.fixture
def account(vonage):
    return vonage._simulator.account  # noqa: SLF001 - what is done to it is what is tested


@pytest.fixture
def configuration(vonage):  # noqa: ARG001 - its environment says where it is
    return Configuration(Credentials.of(load()))


@pytest.fixture
def road(vonage, monkeypatch):
    with Cutting(vonage) as cutting:
        for name, value in cutting.environment.items():
            monkeypatch.setenv(name, value)
        yield cutting


CALLS = {
    "application": lambda vonage: vonage.application(OTHER),
    "applications": lambda vonage: list(vonage.applications()),
    "create": lambda vonage: vonage.create("new", key_pair()[1], OURS),
    "webhooks": lambda vonage: vonage.webhooks(),
    "change_webhooks": lambda vonage: vonage.change_webhooks(receipts="", inbound=""),
    "numbers": lambda vonage: list(vonage.numbers()),
    "offers": lambda vonage: vonage.offers("GB"),
    "link": lambda vonage: vonage.link(Number(country="GB", msisdn="447700900999"), OTHER),
    "balance": lambda vonage: vonage.balance(),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


def test_what_is_not_ours_of_an_application_stays(account, configuration):
    account.applications[OTHER] = Theirs(
        id=OTHER, name="theirs", public_key=key_pair()[1], capabilities=CAPABILITIES, privacy={"improve_ai": True}
    )
    before = account.applications[OTHER]
    changed = configuration.change(configuration.application(OTHER), webhooks=OURS)
    assert changed.webhooks == OURS
    after = account.applications[OTHER]
    assert (after.name, after.public_key, after.privacy) == (before.name, before.public_key, before.privacy)
    # A verify's version is shown, and must not be set.
    expected = CAPABILITIES | {"verify": {"webhooks": {}}}
    assert {name: each for name, each in after.capabilities.items() if name != "messages"} == expected
    assert after.capabilities["messages"]["version"] == "v1"
    again = configuration.restore(changed, None)
    assert (again.messages, account.applications[OTHER].capabilities) == (None, expected)


def test_of_a_messages_capability_all_but_the_urls_stays(account, configuration):
    account.application.capabilities["messages"] |= {"version": "v0.1", "authenticate_inbound_media": True}
    configuration.change(
        configuration.application(account.application.id), webhooks=Webhooks(receipts="https://a.example/")
    )
    assert account.application.capabilities["messages"] == {
        "version": "v0.1",
        "authenticate_inbound_media": True,
        "webhooks": {"status_url": {"address": "https://a.example/", "http_method": "POST"}},
    }


def test_long_lists_are_read_to_their_end(account, configuration):
    for number in range(250):
        account.applications[f"a-{number}"] = Theirs(id=f"a-{number}", name="x", public_key="")
        account.numbers[f"4477009{number:05}"] = TheirNumber(country="GB", msisdn=f"4477009{number:05}")
    assert len(list(configuration.applications())) == len(account.applications) == 251
    assert len(list(configuration.numbers())) == len(account.numbers) == 251


def test_what_belongs_to_voice_stays_when_a_number_is_linked(account, configuration):
    account.applications[OTHER] = Theirs(id=OTHER, name="x", public_key="")
    about = {"mo_http_url": "https://m.example/", "voice_callback_type": "tel", "voice_callback_value": "447700900001"}
    account.numbers["447700900999"] = TheirNumber(country="GB", msisdn="447700900999", **about)
    (number,) = configuration.numbers()
    configuration.link(number, OTHER)
    linked = account.numbers["447700900999"]
    assert {name: getattr(linked, name) for name in about} == about
    assert linked.app_id == OTHER


def test_a_number_is_bought(account, configuration):
    offer = configuration.offers("GB")[0]
    assert (offer.country, Decimal(offer.cost)) == ("GB", Decimal("0.90"))
    configuration.buy(offer)
    assert offer.msisdn in account.numbers
    with pytest.raises(Refused, match=r"Vonage answered 4\d\d at /number/buy.*\.$"):
        configuration.buy(offer)


def test_the_account_s_webhooks_are_set_by_the_names_of_the_specification(vonage, account, configuration):
    vonage.setting(takes_misspelt_urls=False)
    account.settings.receipt_url = "https://a.example/"
    assert configuration.webhooks() == Webhooks(receipts="https://a.example/")
    assert configuration.change_webhooks(receipts="") == Webhooks()
    assert account.settings.receipt_url == ""


def test_balance_and_clock_are_told(configuration):
    assert configuration.at is None
    assert configuration.balance() == Decimal(100)
    assert abs(configuration.at - datetime.now(UTC)) < timedelta(minutes=1)


def test_without_key_and_secret_nobody_is_asked():
    with pytest.raises(SettingsError, match="needs VONAGE_API_KEY and VONAGE_API_SECRET"):
        Configuration(Credentials(api_key="k"))


@calls
def test_wrong_credentials_are_refused_in_a_sentence_without_them(monkeypatch, vonage, call):
    monkeypatch.setenv("VONAGE_API_SECRET", "a-wrong-secret")
    with pytest.raises(Refused, match="are not those of an account") as refused:
        call(Configuration(Credentials.of(load())))
    assert refused.value.status == 401
    assert "a-wrong-secret" not in str(refused.value)
    assert vonage.messages() == []


@calls
@pytest.mark.parametrize("how", [Cut.BEFORE, Cut.AFTER], ids=["before", "after"])
def test_a_call_is_made_once_however_it_ends(road, call, how):
    road.cut(1, how)
    with pytest.raises(Unanswered, match=r"^Vonage gave no answer at 127\.0\.0\.1:\d+ \(.+\)\.$"):
        call(Configuration(Credentials.of(load())))
    assert len(road.asked) == 1


ODD = (
    *(b"", b"no JSON", b"null", b"[]", b"1", b'"text"', b"{}", b"\xff\xfe", b'{"value": "x"}'),
    *(b'{"numbers": 1}', b'{"numbers": [1]}', b'{"count": {}}', b'{"numbers": [{"country": 1, "msisdn": []}]}'),
    *(b'{"_embedded": []}', b'{"_embedded": {"applications": [1]}}', b'{"total_pages": "x"}', b'{"count": -1}'),
    *(b'{"id": null, "keys": 1, "capabilities": []}', b'{"id": 1, "capabilities": {"messages": {"webhooks": []}}}'),
)


@calls
@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_odd_answer_is_told_and_never_a_surprise(road, call, status):
    vonage = Configuration(Credentials.of(load()))
    for body in ODD:
        road.answer(status, body)
        if status == 200:
            # Some of them can be taken for nothing at all.
            with suppress(Refused, Unanswered):
                seen = call(vonage)
                assert not isinstance(seen, Application) or seen.webhooks == Webhooks()
        else:
            with pytest.raises(Refused, match=r"\.$") as refused:
                call(vonage)
            assert refused.value.status == status


def test_where_nobody_listens_it_is_said(monkeypatch, vonage):  # noqa: ARG001 - its environment
    monkeypatch.setenv("VONAGE_REST_HOST", "127.0.0.1:1")
    with pytest.raises(Unanswered, match=r"127\.0\.0\.1:1 .*[Cc]onnection refused"):
        Configuration(Credentials.of(load())).balance()


def test_a_refusal_says_what_vonage_said(road):
    road.answer(422, json.dumps({"title": "No", "detail": "The name is too long."}).encode())
    with pytest.raises(Refused, match=r"^Vonage answered 422 at /v2/applications: The name is too long\.$"):
        CALLS["create"](Configuration(Credentials.of(load())))


def test_what_is_no_list_is_never_taken_for_an_empty_one(road):
    vonage = Configuration(Credentials.of(load()))
    for body in (
        b'{"error": "try later"}',
        b'{"numbers": "x"}',
        b'{"_embedded": {}}',
        b'{"count": 0, "numbers": null}',
    ):
        road.answer(200, body)
        for name in ("applications", "numbers", "offers"):
            with pytest.raises(Unanswered, match="is no list of"):
                CALLS[name](vonage)
    # So Vonage says that there are none.
    road.answer(200, b"{}")
    assert list(vonage.numbers()) == []


def test_lengths_may_be_texts(road):
    page = {"total_pages": "2", "_embedded": {"applications": [{"id": "a"}]}}
    road.answer(200, json.dumps(page).encode())
    assert [each.id for each in Configuration(Credentials.of(load())).applications()] == ["a", "a"]


def test_a_purchase_that_is_not_answered_is_not_refused(road):
    road.answer(200, b"{}")
    with pytest.raises(Unanswered, match="does not say whether it was done"):
        Configuration(Credentials.of(load())).buy(Offer(country="GB", msisdn="447700900001"))


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_without_a_date_is_one_all_the_same(road, status):
    road.answer(status, b'{"value": 5}', date=None)
    vonage = Configuration(Credentials.of(load()))
    if status == 200:
        assert vonage.balance() == 5
    else:
        with pytest.raises(Refused):
            vonage.balance()
    assert vonage.at is None


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"value": ' + b"1" * 5_000 + b"}", b'{"value": NaN}'], ids=len)
@pytest.mark.parametrize("status", [200, 500])
def test_what_no_answer_has_is_told(road, status, body):
    road.answer(status, body)
    with pytest.raises((Refused, Unanswered)):
        Configuration(Credentials.of(load())).balance()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "[::1"])
def test_a_name_that_no_host_has_is_told(host):
    with pytest.raises(Unanswered):
        Configuration(Credentials(api_key="k", api_secret="s", api_host=host, rest_host=host)).balance()


def test_less_than_a_second_is_a_time_too(vonage):
    host = vonage.host
    short = Credentials(api_key=vonage.api_key, api_secret=vonage.api_secret, rest_host=host, seconds_max=0.5)
    assert Configuration(short).balance() == 100


def test_an_application_without_a_key_can_be_changed(account, configuration):
    account.applications[OTHER] = Theirs(id=OTHER, name="x", public_key="")
    assert configuration.change(configuration.application(OTHER), webhooks=OURS).webhooks == OURS


def test_an_answer_that_says_nothing_of_webhooks_is_not_that_none_are_set(road):
    vonage = Configuration(Credentials.of(load()))
    for body in (b"{}", b'{"error": "try later"}'):
        road.answer(200, body)
        with pytest.raises(Unanswered, match="does not say what the account's webhooks are"):
            vonage.webhooks()
