"""Who gets events and what did not arrive, on the command line: `landed events`, but for `listen` and `try`."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from landed.domain.events import EventType
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, store_path
from landed.store.outbox import Ask, DeliveryState, Kind, Note, Origin, Subscriber, SubscriberState
from landed.store.sqlite import SqliteStore
from landed.store.sqlite_outbox import SqliteOutbox
from landed.work import only_worker
from landed.worker.fold import Fold

_spec = importlib.util.spec_from_file_location("terminal", Path(__file__).with_name("within.py"))
within = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(within)
command = within.command

# Apprise imports a module that newer Pythons do without.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

URL = "https://shop.example.com/hooks/texts"
SECRET, OTHER_SECRET = ("whsec_" + letter * 44 for letter in "AB")
LONG_AGO = "2025-01-01"
NUMBER = "447700900001"
IDLE = "so nothing is sent now. Start one with: landed serve\n"
EVENT_ID = "evt_0123456789abcdef0123456789abcdef"
# What the six messages are said of.
COUNT = 7
SECOND_US = 1_000_000


@pytest.fixture
def events(command, tmp_path):
    """Run `landed events …` on the test's directory."""
    return lambda *arguments, **environment: command("events", *arguments, "--data", tmp_path, **environment)


@pytest.fixture
def outbox(tmp_path):
    """Open the outbox of the test's directory, as another process may."""
    return lambda: closing(SqliteOutbox(store_path(tmp_path)))


@pytest.fixture
def shop(events, data, record):
    """Somebody who is to get all events of the six messages that are known, of which one came later."""
    late = {"message_uuid": "m-late", "to": NUMBER, "channel": "sms", "status": "delivered"}
    with closing(SqliteJournal(journal_path(data))) as journal, closing(SqliteStore(store_path(data))) as store:
        journal.append([record(600, json.dumps(late).encode())])
        while Fold(journal, store).step():
            pass
    assert events("subscribe", URL, "--name", "shop", "--secret", SECRET, "--since", LONG_AGO).code == 0
    return data


@pytest.fixture
def end_badly(outbox, now_us):
    """Let what one is to get end so, as if it had been tried."""

    def end(name="shop", *, state=DeliveryState.DEAD, said="503", attempts=8):
        with outbox() as store:
            (found,) = (each for each in store.subscribers() if each.name == name)
            taken = store.step((), [Ask(subscriber=found, count=2_000)], now_us)
            about = {"state": state, "attempts": attempts, "at_us": now_us, "said": said, "took_us": 1_200_000}
            store.step([Note(subscriber=found.row, event=each.kept.seq, failed=True, **about) for each in taken], (), 0)
            return [each.kept for each in taken]

    return end


def lines(run):
    assert (run.code, run.err) == (0, "")
    return [json.loads(line) for line in run.out.splitlines()]


def refused(run, sentence, code=2):
    """It ended with that code and one sentence."""
    assert (run.code, run.out) == (code, ""), run
    assert sentence in run.err
    assert len(run.err.splitlines()) == 1


# Nothing there yet.


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["list"], 0, "Nobody gets events yet. Begin with: landed events subscribe URL\n"),
        (["list", "--json"], 0, ""),
        (["dead"], 0, "No event is dead.\n"),
        (["dead", "--json"], 0, ""),
        (["show", EVENT_ID, "--json"], 1, ""),
        (["replay"], 0, "Nothing fits, so nothing is sent again. What arrived is: --delivered\n"),
        (["replay", "--dry-run"], 0, "Nothing fits, so nothing is sent again. What arrived is: --delivered\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_where_nothing_is_nothing_goes_wrong_and_nothing_is_made(events, tmp_path, arguments, code, said):
    run = events(*arguments)
    assert (run.code, run.out, run.err) == (code, said, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command_", ["pause", "resume", "rotate", "remove"])
@pytest.mark.parametrize("with_store", [False, True], ids=["no-store", "store"])
def test_one_that_is_not_there_is_said_to_be_and_no_file_is_made(events, tmp_path, store_of, command_, with_store):
    if with_store:
        store_of({"message_uuid": "m", "status": "delivered"})
    before = set(tmp_path.iterdir())
    refused(events(command_, "nobody"), "There is no subscriber 'nobody': see landed events list.")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command_", ["dead", "replay"])
@pytest.mark.usefixtures("shop")
def test_a_subscriber_to_choose_by_must_be_there(events, command_):
    refused(events(command_, "--subscriber", "shopp"), "There is no subscriber 'shopp'")


@pytest.mark.parametrize("command_", ["show", "replay"])
@pytest.mark.parametrize("reference", [EVENT_ID, "evt_none", "evt_", "m-none"])
@pytest.mark.usefixtures("data")
def test_an_event_that_is_not_there_is_said_to_be(events, command_, reference):
    refused(events(command_, reference), f"There is no event {reference}, and none of a message", code=1)


# Subscribing.


def test_a_webhook_gets_a_secret_that_is_shown_once_and_never_again(events, outbox):
    run = events("subscribe", URL, "--event", "message.failed", "--channel", "SMS", "--reason", "handset-busy")
    said = run.out.splitlines()
    assert said[0] == ("shop.example.com gets message.failed from now on, only channels sms; reasons handset-busy.")
    secret = re.search(r"whsec_\S+", said[1])[0]
    assert said[2].endswith("landed events try delivered --subscriber shop.example.com")
    assert said[3].endswith(IDLE.strip())
    with outbox() as store:
        (kept,) = store.subscribers()
    assert (kept.kind, kept.address, kept.origin) == (Kind.WEBHOOK, URL, Origin.COMMAND)
    assert kept.secrets_at(0) == [secret]
    for options in ([], ["--json"]):
        assert secret not in events("list", *options).out


def test_each_filter_is_kept_and_listed(events):
    options = {
        "--event": ["message.failed", "message.unconfirmed"],
        "--channel": ["sms", "mms"],
        "--network": ["23410"],
        "--outcome": ["failed"],
        "--reason": ["handset-busy"],
        "--permanence": ["temporary"],
    }
    arguments = [part for option, values in options.items() for value in values for part in (option, value)]
    told = lines(events("subscribe", URL, "--name", "shop", "--secret", SECRET, *arguments, "--json"))[0]
    assert (told["name"], told["secret"], told["state"]) == ("shop", SECRET, "active")
    (listed,) = lines(events("list", "--json"))
    assert listed["wanted"] == told["wanted"] == {f"{option[2:]}s": values for option, values in options.items()}
    assert "channels sms, mms; networks 23410; outcomes failed; reasons handset-busy" in events("list").out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["http://shop.example.com/"], "give https://, or allow it by plain_http in [events]."),
        (["https://10.0.0.1/hook"], "private, unless its network is among networks in [events]."),
        (["https://169.254.169.254/"], "may not be reached: the metadata of a cloud."),
        (["shop.example.com/hook"], "begins with no scheme: write https://…"),
        (["htps://shop.example.com"], "https:// is meant, perhaps."),
        (["nats://host"], "has no subject"),
        ([URL, "--event", "message.fialed"], "'message.failed' is meant, perhaps."),
        ([URL, "--outcome", "lost"], "No outcome is 'lost': there are delivered, failed, pending, unconfirmed."),
        ([URL, "--reason", "handset-bussy"], "'handset-busy' is meant, perhaps."),
        ([URL, "--permanence", "never"], "No permanence is 'never'"),
        ([URL, "--event", "quarantine.growing", "--channel", "sms"], "quarantine.growing has no channel to filter by."),
        ([URL, "--secret", "letmein"], "The secret is none: it begins with whsec_"),
        (["nats://host/subject", "--secret", SECRET], "--secret is for webhooks"),
        ([URL, "--name", "a/b"], "'a/b' is no name"),
        ([URL, "--since", "soon"], "--since 'soon' is no time"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_what_cannot_be_subscribed_is_said_in_one_sentence_and_makes_nothing(events, tmp_path, arguments, sentence):
    refused(events("subscribe", *arguments), sentence)
    assert list(tmp_path.iterdir()) == []


def test_what_the_settings_allow_may_be_subscribed(events):
    near = {"LANDED_EVENTS__PLAIN_HTTP": "true", "LANDED_EVENTS__NETWORKS": "10.0.0.0/8"}
    assert events("subscribe", "http://10.0.0.1/hook", **near).code == 0


def test_a_name_is_given_once_and_made_where_none_is_given(events, tmp_path):
    assert events("subscribe", URL, "--name", "shop").code == 0
    refused(events("subscribe", URL, "--name", "shop"), "There is a subscriber 'shop' already: give another name.")
    again = events("subscribe", URL).out
    assert "shop has the same address: what both want goes there twice" in again
    (tmp_path / "landed.toml").write_text(f'[[subscriber]]\nname = "filed"\nurl = "{URL}"\nsecret = "{SECRET}"\n')
    refused(events("subscribe", URL, "--name", "filed"), "landed.toml names a subscriber 'filed'")


@pytest.mark.parametrize(("since", "unseen"), [(None, 0), (LONG_AGO, COUNT), ("2025-02-03T12:20:00+00:00", 1)])
@pytest.mark.usefixtures("shop")
def test_one_begins_with_the_next_event_or_with_those_since(events, since, unseen):
    events("subscribe", URL, *([] if since is None else ["--since", since]))
    assert lines(events("list", "--json"))[1]["unseen"] == unseen


def test_no_password_and_no_token_of_an_address_is_shown(events, outbox):
    addresses = {
        "query": f"{URL}?key=hidden1",
        "token": "https://hooks.example.com/services/T0HIDDEN2XYZABCDEFGH/x",
        "queue": "nats://me:hidden3@events.example.com/landed.{type}",
        "people": "tgram://123456789:hidden4_abcdefghijk/12315544",
    }
    with outbox() as store:
        for name, address in addresses.items():
            kind = {"queue": Kind.NATS, "people": Kind.PEOPLE}.get(name, Kind.WEBHOOK)
            store.add(Subscriber(name=name, kind=kind, address=address))
    shown = events("list").out, events("list", "--json").out
    assert "hidden" not in "".join(shown).lower()
    assert {each["name"]: each["address"] for each in map(json.loads, shown[1].splitlines())} == {
        "query": f"{URL}?…",
        "token": "https://hooks.example.com/services/…/x",
        "queue": "nats://events.example.com/landed.{type}",
        "people": "tgram://…",
    }


# How it stands.


def test_list_says_what_a_person_should_know_and_do(events, shop, end_badly, outbox):
    events("subscribe", "nats://127.0.0.1/landed", "--name", "queue", "--since", LONG_AGO)
    end_badly(said="connection refused", state=DeliveryState.WAITING, attempts=3)
    end_badly("queue")
    events("rotate", "shop")
    events("pause", "queue")
    with outbox() as store:
        store.add(
            Subscriber(name="old", kind=Kind.WEBHOOK, address=URL, origin=Origin.SETTINGS, state=SubscriberState.ABSENT)
        )
        store.add(
            Subscriber(
                name="app:gone",
                kind=Kind.HANDLER,
                address="app:gone",
                origin=Origin.HANDLERS,
                state=SubscriberState.ABSENT,
            )
        )
        row = store.add(Subscriber(name="left", kind=Kind.WEBHOOK, address=URL)).row
        store.stop(row, "it is gone")
    said = events("list").out
    for words in (
        r"shop did not take what was tried at \S+ \S+: connection refused\. It is tried again\.",
        r"shop is signed with its old secret, too, until \S+ \S+\.",
        r"queue is paused\. Go on with: landed events resume queue",
        r"queue did not get what is dead\. Look at it with: landed events dead --subscriber queue",
        r"old is absent, since landed\.toml names it no more: .* landed events remove old\.",
        r"app:gone is absent, since no handler has that name any more: .* landed events remove app:gone\.",
        r"left is stopped: it is gone\. Go on with: landed events resume left",
    ):
        assert re.search(words, said), words
    assert said.endswith(IDLE)
    listed = {each["name"]: each for each in lines(events("list", "--json"))}
    assert (listed["shop"]["waiting"], listed["shop"]["said"], listed["shop"]["secrets"]) == (
        *(COUNT, "connection refused"),
        2,
    )
    assert (listed["queue"]["dead"], listed["queue"]["said"], listed["queue"]["state"]) == (COUNT, None, "paused")
    with only_worker(shop):
        assert IDLE not in events("list").out


@pytest.mark.usefixtures("shop")
def test_one_is_paused_and_goes_on(events, outbox):
    def state():
        with outbox() as store:
            return [(each.state, each.reason) for each in store.subscribers()]

    assert events("pause", "shop").out.startswith("shop is paused, and what happens waits for it.")
    assert state() == [("paused", "")]
    assert events("resume", "shop").out.startswith("shop gets what waited, oldest first")
    assert state() == [("active", "")]
    with outbox() as store:
        store.stop(store.subscribers()[0].row, "it is gone")
    events("pause", "shop")
    assert state() == [("paused", "it is gone")]
    events("resume", "shop")
    assert state() == [("active", "")]


@pytest.mark.usefixtures("shop")
def test_a_secret_is_rotated_with_the_old_one_beside_it_for_a_while(events, outbox, now_us):
    def secrets(after_hours=0):
        with outbox() as store:
            return store.subscribers()[0].secrets_at(now_us + after_hours * 3_600 * SECOND_US)

    run = events("rotate", "shop", "--secret", OTHER_SECRET)
    assert run.out.startswith("shop is signed with the new secret, and with the old one, too, for 24h.\n")
    assert (secrets(), secrets(after_hours=25)) == ([OTHER_SECRET, SECRET], [OTHER_SECRET])
    refused(events("rotate", "shop", "--secret", OTHER_SECRET), "is signed with that secret already")
    told = lines(events("rotate", "shop", "--keep", "1h", "--json"))[0]
    assert secrets() == [told["secret"], OTHER_SECRET, SECRET]
    assert secrets(after_hours=2) == [told["secret"]]
    assert events("rotate", "shop", "--keep", "0s").out.startswith("shop is signed with the new secret alone.\n")
    assert len(secrets()) == 1
    for options in ([], ["--json"]):
        assert "whsec_" not in events("list", *options).out


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("shop", ["--keep", "soon"], "'soon' is no time"),
        ("shop", ["--secret", "short"], "The secret is none"),
        ("queue", [], "queue is no webhook, so nothing is signed for it."),
        ("filed", [], "The secrets of filed stand in landed.toml: write the new one there before the old one"),
    ],
)
@pytest.mark.usefixtures("shop")
def test_what_cannot_be_rotated_is_said(events, outbox, name, options, sentence):
    events("subscribe", "nats://127.0.0.1/landed", "--name", "queue")
    with outbox() as store:
        store.add(Subscriber(name="filed", kind=Kind.WEBHOOK, address=URL, origin=Origin.SETTINGS))
    refused(events("rotate", name, *options), sentence)


@pytest.mark.usefixtures("shop")
def test_one_is_removed_with_all_that_waits_by_a_persons_word_alone(events, end_badly):
    end_badly()
    refused(events("remove", "shop"), "say --yes")
    assert events("remove", "shop", "--yes").out == "shop gets nothing any more.\n"
    assert events("dead", "--json").out == events("list", "--json").out == ""


@pytest.mark.parametrize(("origin", "place"), [(Origin.SETTINGS, "landed.toml"), (Origin.HANDLERS, "handlers")])
def test_who_is_named_elsewhere_is_removed_only_when_that_names_it_no_more(events, outbox, origin, place):
    with outbox() as store:
        one = store.add(Subscriber(name="one", kind=Kind.HANDLER, address="one", origin=origin))
    refused(events("remove", "one", "--yes"), f"{place}: take it out there, restart landed, and then remove it")
    with outbox() as store:
        store.change(
            Subscriber(
                name="one", kind=Kind.HANDLER, address="one", origin=origin, state=SubscriberState.ABSENT, row=one.row
            )
        )
    refused(events("resume", "one"), "one is absent, since")
    assert events("remove", "one", "--yes").code == 0


# What did not arrive.


@pytest.mark.usefixtures("shop")
def test_the_dead_are_listed_with_what_was_answered_last(events, end_badly):
    kept = end_badly(said="503")
    dead = lines(events("dead", "--json"))
    assert [each["id"] for each in dead] == [each.id for each in kept]
    assert (
        next(each for each in dead if each["message_id"] == "m-late").items()
        >= {
            "type": "message.delivered",
            "subscriber": "shop",
            "state": "dead",
            "attempts": 8,
            "said": "503",
            "replay": False,
        }.items()
    )
    said = events("dead", "--limit", "2").out
    assert (said.count("evt_"), "There may be more: --limit 20" in said) == (2, True)
    assert "landed events show ID" in said
    assert NUMBER not in said


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--event", "message.failed"], ["m-failed"]),
        (["--event", "message.read", "--event", "message.conflict"], ["m-both", "m-read"]),
        (["--outcome", "failed"], ["m-failed"]),
        (["--subscriber", "shop", "--until", "2025-02-03T12:20:00+00:00", "--event", "*.conflict"], ["m-both"]),
        (["--since", "2025-02-03T12:20:00+00:00"], ["m-late"]),
        (["--since", "1h"], []),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("shop")
def test_the_dead_are_found_and_replayed_by_who_when_and_what(events, end_badly, options, messages):
    end_badly()
    found = [each["message_id"] for each in lines(events("dead", "--json", *options))]
    assert sorted(set(found)) == messages
    run = events("replay", "--yes", *options)
    assert run.code == 0
    assert run.out.startswith(f"{len(found)} are sent again: {len(found)} to shop." if found else "Nothing fits")
    assert len(lines(events("dead", "--json"))) == COUNT - len(found)
    if not found:
        assert events("dead", *options).out == "No dead event fits.\n"


@pytest.mark.parametrize("command_", ["dead", "replay"])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--event", "failed"], "No event is 'failed'"),
        (["--outcome", "lost"], "No outcome is 'lost'"),
        (["--since", "ever"], "--since 'ever' is no time"),
        (["--until", "ever"], "--until 'ever' is no time"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_sought_is_said(events, command_, options, sentence):
    refused(events(command_, *options), sentence)


@pytest.mark.usefixtures("shop")
def test_an_event_is_shown_with_its_message_its_attempts_and_what_to_do(events, end_badly):
    end_badly(said="connection refused")
    said = events("show", "m-failed").out
    for words in (
        r"message\.failed  evt_[0-9a-f]{32}",
        r"message +m-failed, sms to 4477\S+001 from AcmeInc",
        r"stands now +failed \(rejected\)",
        r"why +The phone was switched off",
        r"what to do +Send it again",
        r"shop: dead .* after 8 attempts: connection refused",
        r"attempt 8: connection refused \(1\.2 s\)",
        r"Send it again with: landed events replay evt_",
    ):
        assert re.search(words, said), words
    assert NUMBER not in said
    assert NUMBER in events("show", "m-failed", "--show-numbers").out
    told = lines(events("show", "m-failed", "--json"))[0]
    assert (told["body"]["data"]["message"]["to"], told["to"][0]["state"]) == (NUMBER, "dead")
    assert told["failed"][0]["said"] == "connection refused"
    assert lines(events("show", told["id"], "--json")) == [told]
    assert SECRET not in said + json.dumps(told)


@pytest.mark.usefixtures("shop")
def test_all_events_of_a_message_are_shown(events):
    shown = [line.split()[0] for line in events("show", "m-both").out.splitlines() if "evt_" in line]
    assert shown == ["message.conflict", "message.delivered"]
    assert "Nobody has got it, or is about to" in events("show", "m-read").out


# Again.


def test_a_replay_asks_first_and_a_dry_run_changes_nothing(events, shop, end_badly):
    end_badly()
    refused(events("replay"), "say --yes")
    assert events("replay", "--dry-run").out == f"{COUNT} would be sent again: {COUNT} to shop.\n"
    assert len(lines(events("dead", "--json"))) == COUNT
    run = events("replay", "--yes")
    assert run.out == f"{COUNT} are sent again: {COUNT} to shop.\nNo worker runs on {shop}, {IDLE}"
    assert events("dead", "--json").out == ""
    assert lines(events("list", "--json"))[0]["waiting"] == COUNT


@pytest.mark.usefixtures("shop")
def test_one_event_or_those_of_a_message_are_replayed_without_being_asked(events, end_badly):
    first = end_badly()[0]
    assert events("replay", first.id).out.startswith("1 are sent again")
    assert (
        lines(events("show", first.id, "--json"))[0]["to"][0].items()
        >= {"state": "waiting", "attempts": 0, "replay": True}.items()
    )
    assert events("replay", first.id).out.startswith("Nothing fits")
    assert events("replay", "m-both").out.startswith("2 are sent again")


@pytest.mark.usefixtures("shop")
def test_what_arrived_is_replayed_only_when_that_is_asked_for(events, end_badly):
    end_badly(state=DeliveryState.DELIVERED, said="200", attempts=1)
    assert events("replay", "--yes").out.startswith(
        "Nothing fits, so nothing is sent again. What arrived is: --delivered"
    )
    assert events("replay", "--yes", "--delivered").out.startswith(f"{COUNT} are sent again")


@pytest.mark.usefixtures("shop")
def test_a_replay_to_who_is_paused_says_that_it_waits(events, end_badly):
    end_badly()
    events("pause", "shop")
    assert "shop is paused, so they wait. Go on with: landed events resume shop\n" in events("replay", "--yes").out


def test_a_replay_of_many_says_on_a_terminal_how_far_it_is(events, store_of, end_badly, tmp_path):
    store_of(*({"message_uuid": f"m{number}", "status": "delivered"} for number in range(1_200)))
    events("subscribe", URL, "--name", "shop", "--since", LONG_AGO)
    end_badly()
    text = on_terminal("events", "replay", "--data", str(tmp_path), answer=b"y\n")
    assert "Send 1,200 again: 1,200 to shop?" in text
    assert "\r500 of 1,200" in text
    assert "1,200 are sent again: 1,200 to shop." in text


def on_terminal(*arguments, answer):
    """What is seen by a person who answers that."""
    parent, child = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LANDED_")}
    program = [sys.executable, "-m", "landed", *arguments]
    with subprocess.Popen(program, stdin=child, stdout=child, stderr=child, env=environment) as process:
        os.close(child)
        shown = b""
        # The end of a terminal is an error to read.
        with suppress(OSError):
            while piece := os.read(parent, 65_536):
                shown += piece
                if b"?" in piece:
                    os.write(parent, answer)
    os.close(parent)
    assert process.returncode == 0, shown
    return shown.decode()


# As any command.


@pytest.mark.parametrize(
    "name",
    ["subscribe", "list", "pause", "resume", "rotate", "remove", "listen", "try", "dead", "show", "replay"],
)
def test_each_command_explains_itself_with_an_example(events, name):
    assert f"Example: landed events {name}" in events(name, "--help").out


def test_a_directory_that_cannot_be_is_the_surroundings_fault(command, tmp_path):
    (tmp_path / "file").write_text("")
    refused(command("events", "subscribe", URL, "--data", tmp_path / "file"), "cannot be written", code=3)


@pytest.mark.parametrize("arguments", [["list"], ["dead"], ["show", "m"], ["pause", "shop"], ["replay", "--yes"]])
def test_a_file_that_is_not_ours_is_left_alone(events, tmp_path, arguments):
    store_path(tmp_path).write_bytes(b"no database" * 100)
    refused(events(*arguments), "not a file of landed's", code=3)


@pytest.mark.usefixtures("shop")
def test_what_is_changed_outlasts_a_power_cut(events, monkeypatch):
    seen = []
    opened = SqliteOutbox.__init__

    def watched(self, path, *, synchronous="normal", only_read=False):
        seen.append(None if only_read else synchronous)
        opened(self, path, synchronous=synchronous, only_read=only_read)

    monkeypatch.setattr(SqliteOutbox, "__init__", watched)
    for arguments in (["pause", "shop"], ["resume", "shop"], ["rotate", "shop"], ["remove", "shop", "--yes"]):
        assert events(*arguments).code == 0
    events("subscribe", URL)
    assert [each for each in seen if each is not None] == ["full"] * 5


def test_types_of_events_are_all_known_to_the_filters(events):
    for event in EventType:
        assert events("subscribe", URL, "--event", str(event)).code == 0
