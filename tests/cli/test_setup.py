"""`landed setup`, as it is run, against the offline Vonage through TLS; a receiver answers at the public URL."""

from __future__ import annotations

import json
import os
import pty
import re
import runpy
import select
import signal
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from landed.simulator.account import Application, Number, messages_capability
from landed.vonage.keys import key_pair, public_key_of

SECONDS_MAX = 60
OTHER = "11111111-2222-4333-8444-555555555555"
_cutting = runpy.run_path(str(Path(__file__).parent.parent / "onboarding" / "cutting.py"))
Cutting, Cut = _cutting["Cutting"], _cutting["Cut"]


class Place:
    """A directory, an account at Vonage, and something that answers 200 where Vonage will call."""

    def __init__(self, vonage, directory, url):
        self.account = vonage._simulator.account  # noqa: SLF001 - what was done to it is what is tested
        self.vonage = vonage
        self.directory = directory
        self.url = url
        # As somebody has it who never made an application.
        for name in ("VONAGE_APPLICATION_ID", "VONAGE_PRIVATE_KEY"):
            os.environ.pop(name)

    def start(self, *arguments, stdin=subprocess.DEVNULL, **environment):
        return subprocess.Popen(
            [sys.executable, "-m", "landed", "setup", *arguments],
            env=os.environ | environment,
            cwd=self.directory,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments, **environment):
        with self.start(*arguments, **environment) as running:
            out, err = running.communicate(timeout=SECONDS_MAX)
        return subprocess.CompletedProcess(arguments, running.returncode, out, err)

    def setup(self, *arguments, **environment):
        return self.run("--public-url", self.url, *arguments, **environment)

    def seen(self):
        """All that Vonage has, and all that is here."""
        applications = [
            (each.name, each.public_key, json.dumps(each.capabilities)) for each in self.account.applications.values()
        ]
        settings = self.account.settings
        files = {file.name: file.read_bytes() for file in self.directory.iterdir()}
        numbers = [(each.msisdn, each.app_id) for each in self.account.numbers.values()]
        return applications, settings.receipt_url, settings.inbound_url, numbers, files

    @property
    def made(self):
        """The applications that were made by us."""
        return [each for each in self.account.applications.values() if each.name == "landed"]

    @property
    def settings(self):
        return tomllib.loads((self.directory / "landed.toml").read_text())


@pytest.fixture
def place(vonage, tmp_path, monkeypatch):
    for name in ("VONAGE_APPLICATION_ID", "VONAGE_PRIVATE_KEY"):
        monkeypatch.setenv(name, os.environ[name])
    answering = Starlette(routes=[Route("/{path:path}", lambda _: Response(), methods=["GET", "POST"])])
    directory = tmp_path / "here"
    directory.mkdir()
    return Place(vonage, directory, vonage.serve(answering))


def assert_is_set_up(place, *, number=False):
    """One application of ours, with our key and our URLs; the account's URLs; the files, for us alone."""
    (application,) = place.made
    key = (place.directory / "private.key").read_text()
    assert application.public_key == public_key_of(key)
    webhooks = application.capabilities["messages"]["webhooks"]
    assert {name: each["address"] for name, each in webhooks.items()} == {
        "status_url": place.url + "/webhooks/message-status",
        "inbound_url": place.url + "/webhooks/inbound-message",
    }
    assert place.account.settings.receipt_url == place.url + "/webhooks/delivery-receipt"
    assert place.account.settings.inbound_url == place.url + "/webhooks/inbound-sms"
    linked = [each.msisdn for each in place.account.numbers.values() if each.app_id == application.id]
    assert len(linked) == number
    assert place.settings == {
        "vonage_api_key": place.account.api_key,
        "public_url": place.url,
        "vonage_application_id": application.id,
        "vonage_private_key": "private.key",
        **({"sender": linked[0]} if number else {}),
    }
    for name in ("private.key", "landed.toml"):
        assert stat.S_IMODE((place.directory / name).stat().st_mode) == 0o600


def test_a_dry_run_shows_the_changes_and_makes_none(place):
    before = place.seen()
    done = place.setup("--dry-run", "--buy-number", "GB")
    assert (done.returncode, done.stderr) == (0, "")
    for line in ("create the application landed", "for EUR 0.90 a month", "write landed.toml", "SMS webhooks"):
        assert line in done.stdout
    assert place.seen() == before


def test_everything_is_set_up_and_a_second_run_changes_nothing(place):
    done = place.setup("--yes", "--buy-number", "gb")
    assert (done.returncode, done.stderr) == (0, "")
    assert_is_set_up(place, number=True)
    before = place.seen()
    with Cutting(place.vonage) as road:
        again = place.run("--yes", "--buy-number", "GB", **road.environment)
        asked = {(each.method, each.path.partition("?")[0], each.body) for each in road.asked}
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing to change" in again.stdout
    assert place.seen() == before
    # Nothing but looking: the account's webhooks have no other way to be looked at than a change of nothing.
    assert {each for each in asked if each[0] != "GET"} == {("POST", "/account/settings", b"")}


def test_what_is_set_up_is_enough_to_send(place):
    place.setup("--yes", "--buy-number", "GB")
    done = subprocess.run(
        [sys.executable, "-m", "landed", "send", "Hello", "--to", "447700900001", "--json"],
        env={name: value for name, value in os.environ.items() if not name.startswith("VONAGE_API_S")},
        cwd=place.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (message,) = place.vonage.messages()
    assert message.sender == place.settings["sender"]


CALLS = 8
WAYS = [pytest.param(how, id=how.name.lower()) for how in Cut]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("at", range(1, CALLS + 1))
def test_interrupted_at_any_call_the_next_run_goes_on(place, at, how):
    with Cutting(place.vonage) as road:
        road.cut(at, how)
        running = place.start("--public-url", place.url, "--yes", "--buy-number", "GB", **road.environment)
        if how is Cut.HELD:
            assert road.held.wait(SECONDS_MAX)
            running.send_signal(signal.SIGKILL)
        out, err = running.communicate(timeout=SECONDS_MAX)
        calls = len(road.asked)
    assert running.returncode not in (0, 1), out
    # No call is repeated by itself, and none follows one that failed.
    assert calls == at
    assert how is Cut.HELD or err.endswith(".\n")
    done = place.setup("--yes", "--buy-number", "GB")
    assert (done.returncode, done.stderr) == (0, "")
    assert_is_set_up(place, number=True)
    # Of the account's first number and one that was bought.
    assert len(place.account.numbers) == 2
    assert len(place.account.applications) == 2


def test_there_are_no_more_calls_than_those(place):
    with Cutting(place.vonage) as road:
        assert place.setup("--yes", "--buy-number", "GB", **road.environment).returncode == 0
        assert len(road.asked) == CALLS


def test_a_settings_file_keeps_what_is_in_it(place):
    before = "# Ours.\nport = 3100 # taken\n\n[limits]\nin_flight_max = 100\n"
    (place.directory / "landed.toml").write_text(before)
    (place.directory / "landed.toml").chmod(0o640)
    assert place.setup("--yes").returncode == 0
    text = (place.directory / "landed.toml").read_text()
    assert [line for line in text.splitlines() if line in before.splitlines()] == before.splitlines()
    assert (place.settings["port"], place.settings["limits"]) == (3100, {"in_flight_max": 100})
    assert stat.S_IMODE((place.directory / "landed.toml").stat().st_mode) == 0o640


def plant_other(place, key="", app_id=None):
    place.account.applications[OTHER] = Application(
        id=OTHER, name="landed", public_key=key, capabilities={"voice": {"region": "eu-west"}, "new": {"x": 1}}
    )
    place.account.numbers["447700900123"] = Number(country="GB", msisdn="447700900123", app_id=app_id)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--application", "00000000-0000-4000-8000-000000000000"], "has no application 00000000"),
        (
            ["--name", "new", "--number", "447700900777"],
            "The account has no number 447700900777; it has 447700900999, 447700900123.",
        ),
        (["--name", "new", "--buy-number", "ZZ"], "No number of ZZ that takes SMS is for sale"),
        (["--public-url", "nowhere"], "Setting public_url"),
        ([], f"name it with --application {OTHER}"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wish_that_does_not_fit_is_refused_in_a_sentence(place, arguments, sentence):
    plant_other(place, key_pair()[1])
    before = place.seen()
    done = place.setup("--yes", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert sentence in done.stderr
    assert place.seen() == before


def test_an_application_with_another_key_is_left_alone_unless_it_is_to_have_ours(place):
    plant_other(place, key_pair()[1])
    (place.directory / "private.key").write_text(key_pair()[0])
    done = place.setup("--yes", "--application", OTHER)
    assert (done.returncode, "--new-key" in done.stderr) == (2, True)
    assert place.setup("--yes", "--application", OTHER, "--new-key").returncode == 0
    application = place.account.applications[OTHER]
    assert application.public_key == public_key_of((place.directory / "private.key").read_text())
    # What else it had is there still.
    assert application.capabilities["voice"] == {"region": "eu-west"}
    assert application.capabilities["new"] == {"x": 1}
    assert "nothing to change" in place.setup("--yes", "--application", OTHER, "--new-key").stdout


def test_without_its_key_an_application_is_set_up_and_the_key_is_asked_for(place):
    plant_other(place, key_pair()[1])
    done = place.setup("--yes", "--application", OTHER)
    assert done.returncode == 0
    assert "put its path into VONAGE_PRIVATE_KEY, or give the application another one with --new-key." in done.stdout
    assert not (place.directory / "private.key").exists()


def test_a_number_that_is_linked_elsewhere_is_linked_anew_and_said_so(place):
    plant_other(place, app_id=OTHER)
    place.account.applications[OTHER].name = "other"
    done = place.setup("--yes", "--number", "+44 7700 900123")
    assert done.returncode == 0
    assert f"(was application {OTHER})" in done.stdout
    assert_is_set_up(place, number=True)


def test_no_number_is_bought_where_one_is_free(place):
    plant_other(place)
    place.account.applications[OTHER].name = "other"
    done = place.setup("--yes", "--buy-number", "GB")
    assert (done.returncode, "buy" in done.stdout) == (0, False)
    assert_is_set_up(place, number=True)
    assert place.settings["sender"] == "447700900123"
    assert "nothing to change" in place.setup("--yes", "--buy-number", "GB").stdout
    assert len(place.account.numbers) == 2


def test_only_one_api_is_set_up_when_that_is_wanted(place):
    assert place.setup("--yes", "--only", "sms").returncode == 0
    assert (place.made, place.account.settings.receipt_url != "") == ([], True)
    place.account.settings.receipt_url = place.account.settings.inbound_url = ""
    done = place.setup("--yes", "--only", "messages")
    assert (done.returncode, len(place.made), place.account.settings.receipt_url) == (0, 1, "")
    assert "Webhook format" not in done.stdout


def test_without_a_public_url_it_asks_for_one(place):
    done = place.run("--yes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--public-url" in done.stderr


def test_without_anybody_to_ask_nothing_is_changed(place):
    before = place.seen()
    done = place.setup()
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    assert place.seen() == before


def at_a_terminal(place, answers, *arguments):
    """Run it with a person before it, who answers each question in turn; all that was said, and the exit code."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "landed", "setup", "--public-url", place.url, *arguments],
        cwd=place.directory,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    ) as running:
        os.close(slave)
        said, waiting = "", list(answers)
        while select.select([master], [], [], SECONDS_MAX)[0]:
            try:
                said += os.read(master, 4_096).decode(errors="replace")
            except OSError:
                break
            if waiting and said.count("[y/N]: ") == len(answers) - len(waiting) + 1:
                os.write(master, (waiting.pop(0) + "\n").encode())
        running.wait(SECONDS_MAX)
    os.close(master)
    return said, running.returncode


def test_a_person_is_asked_and_for_money_by_itself(place):
    before = place.seen()
    for answers in (["n"], ["y", "n"]):
        said, code = at_a_terminal(place, answers, "--buy-number", "GB")
        assert (code, "Nothing was changed." in said) == (1, True)
        assert re.search(r"Really buy the number \+44\d+ \(GB\) for EUR 0.90 a month\? \[y/N\]", said)
        assert place.seen() == before
    said, code = at_a_terminal(place, ["y", "y"], "--buy-number", "GB")
    assert (code, "Make these 6 changes?" in said) == (0, True)
    assert_is_set_up(place, number=True)


def test_webhooks_where_nobody_answers_are_refused_and_the_next_run_goes_on(place):
    there, place.url = place.url, "http://127.0.0.1:1"
    done = place.setup("--yes")
    assert done.returncode == 3
    assert "3 of 4 changes were made; the same command goes on from there." in done.stderr
    assert "start `landed serve`" in done.stderr
    place.url = there
    assert place.setup("--yes").returncode == 0
    assert_is_set_up(place)


def test_the_account_s_webhooks_are_called_what_the_specification_calls_them(place):
    place.vonage.setting(takes_misspelt_urls=False)
    assert place.setup("--yes").returncode == 0
    assert_is_set_up(place)


def test_nothing_secret_is_said(place):
    done = place.setup("--yes")
    wrong = place.setup("--yes", VONAGE_API_SECRET="a-wrong-secret")
    assert (done.returncode, wrong.returncode) == (0, 3)
    said = done.stdout + done.stderr + wrong.stdout + wrong.stderr
    for secret in (place.vonage.api_secret, place.vonage.signature_secret, "a-wrong-secret", "PRIVATE KEY"):
        assert secret not in said


@pytest.mark.parametrize("has_secret", [True, False])
def test_what_only_the_dashboard_can_do_is_printed(place, has_secret, monkeypatch):
    if not has_secret:
        monkeypatch.delenv("VONAGE_SIGNATURE_SECRET")
    said = place.setup("--dry-run").stdout
    for words in ("SMS settings", "Webhook format", "support"):
        assert words in said
    assert ("into VONAGE_SIGNATURE_SECRET" in said) is not has_secret


def test_an_existing_application_is_known_by_its_key(place):
    private, public = key_pair()
    (place.directory / "private.key").write_text(private)
    place.account.applications[OTHER] = Application(
        id=OTHER, name="ours", public_key=public, capabilities=messages_capability("https://old.example/")
    )
    done = place.setup("--yes")
    assert (done.returncode, place.made) == (0, [])
    assert "(was https://old.example/, none)" in done.stdout
    assert place.settings["vonage_application_id"] == OTHER


def test_a_list_that_cannot_be_read_makes_and_buys_nothing(place):
    assert place.setup("--yes", "--buy-number", "GB").returncode == 0
    (place.directory / "landed.toml").unlink()
    before = place.seen()
    with Cutting(place.vonage) as road:
        for at in (1, 2):
            road.mend()
            road.answer(200, b'{"error": "try later"}', at=at)
            done = place.setup("--yes", "--buy-number", "GB", **road.environment)
            assert (done.returncode, done.stderr.count("\n")) == (3, 1)
            assert place.seen() == before


def test_for_one_api_alone_no_second_number_is_bought(place):
    place.setup("--yes", "--buy-number", "GB")
    before = place.seen()
    done = place.setup("--yes", "--only", "sms", "--buy-number", "GB")
    assert (done.returncode, "nothing to change" in done.stdout) == (0, True)
    assert place.seen() == before


def test_a_new_key_is_made_once(place):
    plant_other(place, key_pair()[1])
    assert place.setup("--yes", "--application", OTHER).returncode == 0
    done = place.setup("--yes", "--application", OTHER, "--new-key")
    assert (done.returncode, "Note: The private key" in done.stdout) == (0, False)
    assert "nothing to change" in place.setup("--yes", "--application", OTHER).stdout


def test_the_ends_of_lines_and_a_link_stay(place):
    target = place.directory.parent / "settings.toml"
    target.write_bytes(b"# Ours.\r\nport = 3100\r\n")
    (place.directory / "landed.toml").symlink_to(target)
    assert place.setup("--yes").returncode == 0
    assert (place.directory / "landed.toml").is_symlink()
    lines = target.read_bytes().split(b"\n")
    assert lines[:2] == [b"# Ours.\r", b"port = 3100\r"]
    assert all(line.endswith(b"\r") for line in lines if line)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--number", "447700900999", "--buy-number", "GB"], "--number or --buy-number"),
        (["--name", " "], "An application has a name"),
        (["--key", b"\xff.key"], "must be one that can be written down"),
    ],
    ids=["two numbers", "no name", "no text"],
)
def test_odd_wishes_are_refused_before_anything_is_done(place, arguments, sentence):
    before = place.seen()
    done = place.setup("--yes", *(each if isinstance(each, str) else os.fsdecode(each) for each in arguments))
    assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
    assert place.seen() == before


def test_without_any_input_it_is_as_without_a_person(place):
    command = f'exec "{sys.executable}" -m landed setup --public-url {place.url} <&-'
    done = subprocess.run(["/bin/sh", "-c", command], cwd=place.directory, capture_output=True, text=True, check=False)
    assert (done.returncode, "--yes" in done.stderr) == (2, True), done.stderr
