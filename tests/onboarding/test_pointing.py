"""Vonage's webhooks are pointed elsewhere and put back: just as they were, but for what somebody else changed."""

from __future__ import annotations

import json
import runpy
import socket
import stat
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from landed.errors import LandedError, Refused, SurroundingsError, Unanswered
from landed.onboarding.addresses import Addresses
from landed.onboarding.pointing import FILE, LOCK_FILE, is_guarded, point, pointed_in, restore
from landed.settings import load
from landed.simulator.account import messages_capability
from landed.simulator.scenario import load_scenario
from landed.testing import Vonage
from landed.vonage.configuration import Application, Configuration, Webhooks
from landed.vonage.keys import key_pair
from landed.vonage.sdk import Credentials

_cutting = runpy.run_path(str(Path(__file__).parent / "cutting.py"))
Cutting, Cut = _cutting["Cutting"], _cutting["Cut"]

OLD = "https://old.example"
VOICE = {"voice": {"webhooks": {"answer_url": {"address": OLD, "http_method": "GET"}}, "region": "eu-west"}}
# A cut connection is told within this time, and not waited for.
SECONDS_MAX = 5.0


class Place:
    """An account at Vonage, a URL where all is answered 200, and one where nobody answers."""

    def __init__(self, vonage, data):
        self.vonage = vonage
        self.account = vonage._simulator.account  # noqa: SLF001 - what is done to it is what is tested
        self.data = data
        answering = Starlette(routes=[Route("/{path:path}", lambda _: Response(), methods=["GET", "POST"])])
        self.alive = vonage.serve(answering)
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            self.dead = f"http://127.0.0.1:{server.getsockname()[1]}"
        self.addresses = Addresses(base=self.alive + "/tunnel")
        self.configuration = Configuration(Credentials.of(load()))

    def has(self, capabilities, receipts="", inbound=""):
        """Let the application and the account be so."""
        self.account.application.capabilities = deepcopy(capabilities)
        self.account.settings.receipt_url, self.account.settings.inbound_url = receipts, inbound

    def point(self, configuration=None, addresses=None, *, application=True, has_sms=True):
        return point(
            configuration or self.configuration,
            addresses or self.addresses,
            self.data,
            application_id=self.account.application.id if application else None,
            has_sms=has_sms,
        )

    def restore(self):
        return restore(self.configuration, self.data)

    @property
    def urls(self):
        """Of statuses and inbound messages, of receipts and inbound SMS."""
        shown = {"capabilities": self.account.application.capabilities}
        application = Application(id="", name="", public_key="", shown=shown).webhooks
        settings = self.account.settings
        return application.receipts, application.inbound, settings.receipt_url, settings.inbound_url

    @property
    def tunnel_urls(self):
        there = self.addresses
        return there.application.receipts, there.application.inbound, there.account.receipts, there.account.inbound

    def seen(self):
        """What Vonage has: all of each application, and where the account's receipts and inbound SMS go."""
        applications = {
            each.id: (each.name, hash(each.public_key), each.privacy, each.capabilities)
            for each in self.account.applications.values()
        }
        settings = self.account.settings
        return deepcopy((applications, settings.receipt_url, settings.inbound_url))


@pytest.fixture
def place(vonage, tmp_path):
    there = Place(vonage, tmp_path)
    there.has(messages_capability(OLD + "/status", OLD + "/inbound") | VOICE, there.alive + "/dlr", there.alive + "/mo")
    return there


APPLICATIONS = {
    "no capability": {},
    "voice alone": VOICE,
    "both URLs, and voice": messages_capability(OLD + "/status", OLD + "/inbound") | VOICE,
    "status URL alone": messages_capability(OLD + "/status"),
    "inbound URL alone": {"messages": {"version": "v1", "webhooks": {"inbound_url": {"address": OLD}}}},
    "no webhooks": {"messages": {"version": "v1", "authenticate_inbound_media": False}},
    "empty webhooks": {"messages": {"webhooks": {}}},
    "empty messages": {"messages": {}},
    "v0.1 that authenticates media, and others": {
        "messages": messages_capability(OLD + "/status", OLD + "/inbound")["messages"]
        | {"version": "v0.1", "authenticate_inbound_media": True},
        "rtc": {"webhooks": {}},
        "vbc": {},
        "something_new": [1, {"a": None}],
    }
    | VOICE,
}
BOTH = ("/dlr", "/mo")
BEFORE = {
    **{name: (capabilities, BOTH) for name, capabilities in APPLICATIONS.items()},
    "nothing at all": ({}, ("", "")),
    "receipts of the account alone": (VOICE, ("/dlr", "")),
    "inbound SMS of the account alone": (VOICE, ("", "/mo")),
}


@pytest.mark.parametrize(("capabilities", "paths"), BEFORE.values(), ids=BEFORE.keys())
def test_all_is_put_back_exactly_as_it_was(place, capabilities, paths):
    place.has(capabilities, *(place.alive + path if path else "" for path in paths))
    before = place.seen()
    pointed = place.point()
    assert place.urls == place.tunnel_urls
    assert (pointed_in(place.data), pointed.url) == (pointed, place.addresses.base)
    assert place.restore() is not None
    assert place.seen() == before
    assert list(place.data.iterdir()) == []


def test_what_is_put_back_twice_is_put_back_once(place):
    place.point()
    place.restore()
    after = place.seen()
    assert place.restore() is None
    assert place.seen() == after


@pytest.mark.parametrize("has_application", [True, False], ids=["application", "no application"])
@pytest.mark.parametrize("has_sms", [True, False], ids=["SMS", "no SMS"])
def test_only_what_is_wanted_is_pointed_and_put_back(place, has_application, has_sms):
    before, urls = place.seen(), place.urls
    place.point(application=has_application, has_sms=has_sms)
    assert place.urls == (
        *(place.tunnel_urls if has_application else urls)[:2],
        *(place.tunnel_urls if has_sms else urls)[2:],
    )
    assert place.restore() is not None
    assert (place.seen(), pointed_in(place.data)) == (before, None)


class Watched(Configuration):
    """Refuses the first change, and keeps what was on the disk and at Vonage at that moment."""

    def __init__(self, place, error):
        super().__init__(Credentials.of(load()))
        self._place, self._error = place, error
        self.first = None

    def _watch(self):
        if self.first is None:
            file = self._place.data / FILE
            mode = stat.S_IMODE(file.stat().st_mode) if file.exists() else None
            self.first = pointed_in(self._place.data), mode, self._place.seen()
            raise self._error

    def change(self, *arguments, **named):
        self._watch()
        return super().change(*arguments, **named)

    def change_webhooks(self, *arguments, **named):
        self._watch()
        return super().change_webhooks(*arguments, **named)


FIRST = {
    "application, refused": (Refused(403, "No."), True, True),
    "application, unanswered": (Unanswered("No answer."), True, False),
    "account, refused": (Refused(420, "No."), False, True),
    "account, unanswered": (Unanswered("No answer."), False, True),
}


@pytest.mark.parametrize(("error", "has_application", "has_sms"), FIRST.values(), ids=FIRST.keys())
def test_what_was_there_is_on_the_disk_before_the_first_change(place, error, has_application, has_sms):
    before, urls = place.seen(), place.urls
    watched = Watched(place, error)
    with pytest.raises(LandedError) as raised:
        place.point(watched, application=has_application, has_sms=has_sms)
    assert raised.value is error
    on_disk, mode, seen = watched.first
    assert (mode, seen) == (0o600, before)
    messages = place.account.application.capabilities["messages"]
    assert on_disk.messages_before == (messages if has_application else None)
    assert on_disk.account_before == (Webhooks(receipts=urls[2], inbound=urls[3]) if has_sms else None)
    place.restore()
    assert (place.seen(), pointed_in(place.data)) == (before, None)


def test_where_the_disk_takes_nothing_nothing_is_changed(place):
    before = place.seen()
    place.data /= "nowhere"
    with pytest.raises(SurroundingsError, match=r"cannot be written .* nothing was pointed anywhere"):
        place.point()
    assert place.seen() == before


def test_where_the_account_refuses_the_application_is_put_back(place):
    before = place.seen()
    with pytest.raises(Refused, match="must answer 200"):
        place.point(addresses=Addresses(base=place.dead))
    assert (place.seen(), pointed_in(place.data)) == (before, None)


def test_an_application_that_is_not_there_changes_nothing(place):
    before = place.seen()
    with pytest.raises(Refused):
        point(place.configuration, place.addresses, place.data, application_id="nobody's", has_sms=True)
    assert (place.seen(), pointed_in(place.data)) == (before, None)


def test_where_vonage_takes_other_urls_than_those_it_was_given_all_is_put_back(place):
    class Forgetful(Configuration):
        def change_webhooks(self, **wanted):
            return Webhooks(receipts=super().change_webhooks(**wanted).receipts)

    before = place.seen()
    with pytest.raises(SurroundingsError, match=r"says that they are .* and none"):
        place.point(Forgetful(Credentials.of(load())))
    assert (place.seen(), pointed_in(place.data)) == (before, None)


@pytest.fixture
def road(vonage, monkeypatch, place):
    """A way to Vonage on which each request can be cut."""
    with Cutting(vonage) as cutting:
        for name, value in cutting.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LANDED_SEND_SECONDS_MAX", str(SECONDS_MAX))
        place.configuration = Configuration(Credentials.of(load()))
        yield cutting


CUTS = {f"{how.name.lower()} {at}": (at, how) for at in range(1, 5) for how in (Cut.BEFORE, Cut.AFTER)}


@pytest.mark.parametrize(("at", "how"), CUTS.values(), ids=CUTS.keys())
def test_whichever_request_is_cut_all_is_as_before_in_the_end(place, road, at, how):
    before = place.seen()
    road.cut(at, how)
    with pytest.raises(Unanswered):
        place.point()
    # Where a change may be under way at Vonage, what was there is not forgotten.
    assert (pointed_in(place.data) is None) == (at < 3)
    road.mend()
    place.restore()
    assert (place.seen(), pointed_in(place.data)) == (before, None)
    road.mend()
    pointed = place.point()
    road.mend()
    road.cut(at, how)
    with pytest.raises(Unanswered):
        place.restore()
    assert pointed_in(place.data) == pointed
    assert place.restore() is not None
    assert (place.seen(), pointed_in(place.data)) == (before, None)


def test_where_vonage_is_gone_in_the_middle_the_file_stays_for_another_try(place, road):
    before = place.seen()
    # The application is changed, and nothing of the account, nor is anything put back.
    for at in range(4, 7):
        road.cut(at, Cut.BEFORE)
    with pytest.raises(Unanswered):
        place.point()
    assert pointed_in(place.data) is not None
    assert place.seen() != before
    road.mend()
    place.restore()
    assert (place.seen(), pointed_in(place.data)) == (before, None)


def test_who_may_not_ask_any_more_leaves_the_file(place):
    place.point()
    place.account.api_secret = "changed meanwhile"
    after = place.seen()
    with pytest.raises(Refused) as raised:
        place.restore()
    assert (raised.value.status, place.seen()) == (401, after)
    assert pointed_in(place.data) is not None


def _messages(place):
    return place.account.application.capabilities["messages"]


def _status(place):
    _messages(place)["webhooks"]["status_url"]["address"] = OLD + "/theirs"


def _inbound(place):
    _messages(place)["webhooks"]["inbound_url"]["address"] = OLD + "/theirs"


def _no_inbound(place):
    del _messages(place)["webhooks"]["inbound_url"]


def _both(place):
    _status(place)
    _inbound(place)


def _no_messages(place):
    del place.account.application.capabilities["messages"]


def _receipts(place):
    place.account.settings.receipt_url = place.alive + "/theirs"


def _sms(place):
    place.account.settings.inbound_url = place.alive + "/theirs"


def _account(place):
    _receipts(place)
    _sms(place)


MEANWHILE = {
    # Whether there were URLs before, what somebody did, and which of the four URLs are as they wanted them then.
    "status": (True, _status, {0}),
    "status, none before": (False, _status, {0}),
    "inbound": (True, _inbound, {1}),
    "inbound removed": (True, _no_inbound, {1}),
    "both of the application": (True, _both, {0, 1}),
    "the capability removed": (True, _no_messages, {0, 1}),
    "receipts": (True, _receipts, {2}),
    "receipts, none before": (False, _receipts, {2}),
    "inbound SMS": (True, _sms, {3}),
    "both of the account": (True, _account, {2, 3}),
}


@pytest.mark.parametrize(("has_some", "change", "theirs"), MEANWHILE.values(), ids=MEANWHILE.keys())
def test_what_somebody_changed_meanwhile_stays_and_the_others_are_put_back(place, has_some, change, theirs):
    if not has_some:
        place.has({})
    was = place.urls
    place.point()
    change(place)
    wanted = place.urls
    assert place.restore() is not None
    assert place.urls == tuple((wanted if which in theirs else was)[which] for which in range(4))
    assert pointed_in(place.data) is None


def test_what_else_somebody_changed_of_the_application_stays(place):
    place.point()
    application = place.account.application
    application.name, application.public_key = "another name", key_pair()[1]
    application.capabilities = application.capabilities | {"rtc": {"webhooks": {}}}
    wanted = (application.name, application.public_key, {"rtc": {"webhooks": {}}} | VOICE)
    place.restore()
    after = place.account.application
    others = {name: each for name, each in after.capabilities.items() if name != "messages"}
    assert (after.name, after.public_key, others) == wanted


@pytest.mark.parametrize(("name", "value"), [("authenticate_inbound_media", True), ("version", "v0.1")])
def test_what_somebody_changed_of_the_capability_beside_the_urls_stays(place, name, value):
    was = place.urls
    place.point()
    assert _messages(place)[name] != value
    _messages(place)[name] = value
    place.restore()
    assert (place.urls, _messages(place)[name]) == (was, value)


def test_an_application_that_was_deleted_meanwhile_is_no_hindrance(place):
    was = place.urls
    place.point()
    place.account.applications.clear()
    assert place.restore() is not None
    assert (place.account.settings.receipt_url, place.account.settings.inbound_url) == was[2:]
    assert (place.account.applications, pointed_in(place.data)) == ({}, None)


DEAD = {
    # What was before, and what of it is taken back: Vonage takes no URL that does not answer 200.
    "receipts": (("dead", ""), ("", "")),
    "receipts, and inbound SMS answers": (("dead", "alive"), ("", "alive")),
    "inbound SMS, and receipts answer": (("alive", "dead"), ("alive", "")),
    "both": (("dead", "dead"), ("", "")),
}


@pytest.mark.parametrize(("before", "after"), DEAD.values(), ids=DEAD.keys())
def test_of_the_account_s_urls_only_what_does_not_answer_any_more_is_unset(place, before, after):
    paths = {"dead": place.dead + "/{}", "alive": place.alive + "/{}", "": ""}
    was, expected = (
        tuple(paths[each].format(path) for each, path in zip(which, ("dlr", "mo"), strict=True))
        for which in (before, after)
    )
    place.has({}, *was)
    place.point(application=False)
    restored = place.restore()
    assert place.urls[2:] == expected
    assert restored.unset == tuple(sorted(set(was) - set(expected)))
    assert pointed_in(place.data) is None


@pytest.mark.parametrize("which", ["receipt_url", "inbound_url"])
def test_a_url_of_somebody_s_that_does_not_answer_now_stays_and_is_no_hindrance(place, which):
    was = {"receipt_url": place.urls[2], "inbound_url": place.urls[3]}
    place.point(application=False)
    setattr(place.account.settings, which, place.dead + "/theirs")
    place.restore()
    after = {name: getattr(place.account.settings, name) for name in was}
    assert after == was | {which: place.dead + "/theirs"}
    assert pointed_in(place.data) is None


def test_an_application_that_is_refused_is_no_hindrance_to_the_account(place):
    class Stubborn(Configuration):
        def restore(self, *_):
            raise Refused(403, "Nothing of the application may be changed.")

    was = place.urls
    place.point()
    with pytest.raises(Refused):
        restore(Stubborn(Credentials.of(load())), place.data)
    assert place.urls[2:] == was[2:]
    assert pointed_in(place.data) is not None


BROKEN = {
    "empty": b"",
    "no JSON": b"nothing",
    "half": b'{"url": "http',
    "a list": b"[]",
    "no url": b"{}",
    "a number for a url": b'{"url": 1}',
    "a list for the capability": b'{"url": "", "messages_before": []}',
    "no UTF-8": b'{"url": "\xff"}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_cannot_be_read_is_told_in_one_sentence_and_kept(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    # Nobody is there to be asked, and nobody is.
    nobody = Configuration(Credentials(api_key="k", api_secret="s", api_host="127.0.0.1:1", rest_host="127.0.0.1:1"))
    for act in (lambda: restore(nobody, tmp_path), lambda: pointed_in(tmp_path)):
        with pytest.raises(SurroundingsError, match="compare them with the dashboard") as raised:
            act()
        assert "\n" not in str(raised.value)
    assert (tmp_path / FILE).read_bytes() == content


def test_what_was_left_is_to_be_put_back_before_anything_is_pointed_anew(place):
    before = place.seen()
    place.point()
    with pytest.raises(SurroundingsError, match="Something is pointed already"):
        place.point(addresses=Addresses(base=place.alive + "/second"))
    place.restore()
    assert (place.seen(), pointed_in(place.data)) == (before, None)


def test_what_was_pointed_at_another_account_is_not_forgotten(place, tmp_path_factory, monkeypatch):
    place.point()
    pointed = place.seen()
    other = Vonage(replace(load_scenario(None), seed=7), tmp_path_factory.getbasetemp() / "vonage")
    assert other.api_key != place.vonage.api_key
    try:
        for name, value in other.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(LandedError):
            restore(Configuration(Credentials.of(load())), place.data)
    finally:
        other.stop()
    assert place.seen() == pointed
    assert pointed_in(place.data) is not None


def test_what_is_kept_has_no_secret(place):
    place.point()
    text = (place.data / FILE).read_text()
    assert json.loads(text)["url"] == place.addresses.base
    for secret in (place.account.api_secret, place.account.signature_secret, "PRIVATE KEY"):
        assert secret not in text


def test_nothing_is_guarded_where_no_guard_is(tmp_path):
    assert not is_guarded(tmp_path)
    (tmp_path / LOCK_FILE).touch()
    assert not is_guarded(tmp_path)
