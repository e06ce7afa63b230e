"""Who gets events: addresses and names, and what a start makes of those that settings and handlers name."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from landed.domain.events import Wanted
from landed.errors import SettingsError
from landed.settings import EventSettings
from landed.store.outbox import Kind, Origin, Subscriber, SubscriberState
from landed.worker.subscribing import check_name, enrol, kind_of, name_for

# Apprise imports a module that newer Pythons do without.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

URL, OTHER_URL = "https://shop.example.com/hook", "https://new.example.com/hook"
KINDS = {
    URL: Kind.WEBHOOK,
    "HTTPS://shop.example.com/hook": Kind.WEBHOOK,
    "nats://events.example.com/landed.{type}": Kind.NATS,
    "tls://events.example.com/landed": Kind.NATS,
    "mailto://user:password@example.com": Kind.PEOPLE,
}


@pytest.mark.parametrize(("address", "kind"), KINDS.items(), ids=KINDS)
def test_an_address_is_of_a_kind_by_its_scheme(address, kind):
    assert kind_of(address, EventSettings()) is kind


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("shop.example.com/hook", "begins with no scheme: write https://…"),
        ("", "begins with no scheme"),
        ("localhost:8000", "begins with no scheme"),
        ("htps://shop.example.com/hook", "Nothing goes to htps://: https:// is meant, perhaps."),
        ("natss://shop.example.com/hook", "nats:// is meant, perhaps."),
        ("nonsense://token-abcdef", "is of no service that it knows"),
        ("http://shop.example.com/", "allow it by plain_http in [events]"),
        ("https://192.168.1.1/", "private, unless its network is among networks in [events]."),
        ("https://169.254.169.254/", "which may not be reached: the metadata of a cloud."),
        ("nats://events.example.com", "has no subject"),
    ],
)
def test_an_address_where_nothing_can_or_may_go_is_refused_with_what_to_do(address, sentence):
    with pytest.raises(SettingsError) as refused:
        kind_of(address, EventSettings())
    assert sentence in str(refused.value)
    assert "token-abcdef" not in str(refused.value)


def test_what_the_settings_allow_is_taken():
    near = EventSettings(plain_http=True, networks=["192.168.0.0/16"])
    assert kind_of("http://192.168.1.1/", near) is Kind.WEBHOOK


@pytest.mark.parametrize(
    ("address", "taken", "name"),
    [
        (URL, [], "shop.example.com"),
        (URL, ["shop.example.com"], "shop.example.com-2"),
        (URL, ["shop.example.com", "shop.example.com-2"], "shop.example.com-3"),
        ("nats://secret@10.0.0.1:4222/landed", [], "10.0.0.1"),
        ("https://[2606:4700::1111]/", [], "260647001111"),
        # What stands where a host does is a token there.
        ("tgram://123456789:abcdefg/1", [], "tgram"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", ["slack"], "slack-2"),
    ],
)
def test_a_name_is_made_of_the_host_and_never_of_a_secret(address, taken, name):
    assert name_for(address, taken) == name
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "a:b", "a" * 65, "é"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(SettingsError, match="is no name"):
        check_name(name)


# What a start makes of those that are named.


def shop(**more):
    usual = {"name": "shop", "kind": Kind.WEBHOOK, "address": URL, "origin": Origin.SETTINGS}
    return Subscriber(**(usual | more))


def kept(road):
    return {each.name: each for each in road.outbox.subscribers()}


def test_a_new_one_hears_from_the_next_event_on_and_its_cursor_stays_at_each_start(road):
    road.say(("m1", "delivered"))
    enrol(road.outbox, [shop()], Origin.SETTINGS)
    road.say(("m2", "delivered"))
    enrol(road.outbox, [shop(wanted=Wanted(events=("message.failed",)), address=OTHER_URL)], Origin.SETTINGS)
    found = kept(road)["shop"]
    assert (found.address, found.wanted.events) == (OTHER_URL, ("message.failed",))
    assert road.outbox.backlogs()[found.row].unseen == 1


def test_who_is_named_no_more_is_absent_with_what_waits_and_back_when_named_again(road):
    enrol(road.outbox, [shop(), shop(name="other")], Origin.SETTINGS)
    row = kept(road)["shop"].row
    enrol(road.outbox, [shop(name="other")], Origin.SETTINGS)
    assert {name: each.state for name, each in kept(road).items()} == {"shop": "absent", "other": "active"}
    enrol(road.outbox, [shop(), shop(name="other")], Origin.SETTINGS)
    assert (kept(road)["shop"].state, kept(road)["shop"].row) == (SubscriberState.ACTIVE, row)


def test_one_origin_lets_those_of_the_others_alone(road):
    enrol(road.outbox, [shop()], Origin.SETTINGS)
    enrol(road.outbox, [shop(name="app:arrived", kind=Kind.HANDLER, origin=Origin.HANDLERS)], Origin.HANDLERS)
    road.outbox.add(shop(name="by-hand", origin=Origin.COMMAND))
    enrol(road.outbox, [], Origin.HANDLERS)
    assert {name: each.state for name, each in kept(road).items()} == {
        "shop": "active",
        "app:arrived": "absent",
        "by-hand": "active",
    }


def test_a_name_of_another_origin_is_refused(road):
    road.outbox.add(shop(origin=Origin.COMMAND))
    with pytest.raises(SettingsError, match="by another origin, command"):
        enrol(road.outbox, [shop()], Origin.SETTINGS)


def test_a_start_does_not_resume_who_was_paused(road):
    enrol(road.outbox, [shop()], Origin.SETTINGS)
    road.outbox.change(replace(kept(road)["shop"], state=SubscriberState.PAUSED))
    enrol(road.outbox, [shop(address=OTHER_URL)], Origin.SETTINGS)
    assert kept(road)["shop"].state is SubscriberState.PAUSED


@pytest.mark.parametrize(
    ("address", "state", "reason"),
    [(URL, SubscriberState.STOPPED, "it is gone"), (OTHER_URL, SubscriberState.ACTIVE, "")],
    ids=["same-address", "another-address"],
)
def test_who_said_that_it_is_gone_stays_so_until_its_address_is_another(road, address, state, reason):
    enrol(road.outbox, [shop()], Origin.SETTINGS)
    road.outbox.stop(kept(road)["shop"].row, "it is gone")
    enrol(road.outbox, [shop(address=address)], Origin.SETTINGS)
    assert (kept(road)["shop"].state, kept(road)["shop"].reason) == (state, reason)


def test_who_had_left_after_it_was_stopped_is_back_without_the_reason(road):
    enrol(road.outbox, [shop()], Origin.SETTINGS)
    road.outbox.stop(kept(road)["shop"].row, "it is gone")
    enrol(road.outbox, [], Origin.SETTINGS)
    enrol(road.outbox, [shop()], Origin.SETTINGS)
    assert (kept(road)["shop"].state, kept(road)["shop"].reason) == (SubscriberState.ACTIVE, "")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("json://169.254.169.254/latest", "plain_http"),
        ("form://127.0.0.1:3001/api", "plain_http"),
        ("jsons://10.0.0.1/x", "private"),
        ("apprises://user:password@127.0.0.1/x", "loopback"),
        ("jsons://hooks.example.com/x", None),
    ],
)
def test_a_service_of_apprise_s_that_posts_to_any_url_may_be_given_no_more_than_a_webhook(address, why):
    if why is None:
        assert kind_of(address, EventSettings()) is Kind.PEOPLE
    else:
        with pytest.raises(SettingsError, match=why):
            kind_of(address, EventSettings())
