"""Lists: read whole or not at all, sent at a rate, and gone on with so that nothing is sent twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

import pytest

from landed.domain.receipt import Api
from landed.domain.sending import SendState
from landed.errors import SettingsError, SurroundingsError
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, store_path
from landed.sending.many import alone, known_of, read_list, send_list
from landed.sending.sender import Sender
from landed.settings import load
from landed.store.sqlite import SqliteStore
from landed.vonage.account import Gateway, Outgoing
from landed.vonage.sdk import Credentials
from landed.worker.fold import Fold

USUAL = Outgoing(api=Api.SMS, channel="sms", to="", sender="ACME", text="", client_ref="")
SECONDS_MAX = 30


def listed(directory, *rows, header="to,text"):
    file = directory / "list.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def numbers(count, start=0):
    return [f"4474000{number:05},Your code is {number}." for number in range(start, start + count)]


class Place:
    def __init__(self, directory):
        self.directory = directory
        self.journal = SqliteJournal(journal_path(directory))
        self.waited = []
        self.now = 0.0
        self.heard = []

    def wait(self, seconds):
        self.now += seconds
        self.waited.append(seconds)

    def send(self, file, batch="codes", rate=10.0, vonage=None, is_stopped=lambda: False):
        sender = Sender(self.journal, vonage or Gateway(Credentials.of(load())), "default", wait=self.wait)
        lines = read_list(file, batch, USUAL)
        return send_list(
            *(lines, known_of(self.directory, batch), sender, batch),
            rate=rate,
            heard=self.heard.append,
            is_stopped=is_stopped,
            clock=lambda: self.now,
            wait=self.wait,
        )

    def fold(self):
        with closing(SqliteStore(store_path(self.directory))) as store:
            fold = Fold(self.journal, store)
            while fold.step():
                pass


@pytest.fixture
def place(vonage, tmp_path):  # noqa: ARG001 - its environment is read
    place = Place(tmp_path)
    yield place
    place.journal.close()


def test_each_line_is_one_message(vonage, place, tmp_path):
    summary = place.send(listed(tmp_path, *numbers(5)))
    assert (summary.states, summary.is_sent) == ({"sent": 5}, True)
    assert [(message.to, message.text) for message in vonage.messages()] == [
        (f"4474000{number:05}", f"Your code is {number}.") for number in range(5)
    ]


@pytest.mark.parametrize("is_folded", [False, True], ids=["from the journal", "from the store"])
def test_what_was_sent_before_is_not_sent_again(vonage, place, tmp_path, is_folded):
    place.send(listed(tmp_path, *numbers(3)))
    if is_folded:
        place.fold()
    # The list was put in another order, and has more in it.
    summary = place.send(listed(tmp_path, *reversed(numbers(5))))
    assert (summary.states, summary.is_sent) == ({"sent": 2, "sent before": 3}, True)
    assert len(vonage.messages()) == 5


def test_a_list_of_another_name_is_another_list(vonage, place, tmp_path):
    place.send(listed(tmp_path, *numbers(2)))
    place.send(listed(tmp_path, *numbers(2)), batch="reminders")
    assert len(vonage.messages()) == 4


def test_the_same_line_twice_is_two_messages(vonage, place, tmp_path):
    file = listed(tmp_path, *numbers(1), *numbers(1))
    assert place.send(file).states == {"sent": 2}
    assert place.send(file).states == {"sent before": 2}
    assert len({message.client_ref for message in vonage.messages()}) == 2


def test_what_was_refused_is_tried_again_and_what_is_unclear_is_not(vonage, place, tmp_path):
    file = listed(tmp_path, "447700900707,a", "447700900001,b")
    assert place.send(file).states == {"refused": 1, "sent": 1}
    assert place.send(file).states == {"refused": 1, "sent before": 1}

    class Deaf(Gateway):
        def send(self, outgoing):
            super().send(outgoing)
            raise KeyboardInterrupt

    file = listed(tmp_path, "447700900001,c")
    with pytest.raises(KeyboardInterrupt):
        place.send(file, vonage=Deaf(Credentials.of(load())))
    summary = place.send(file)
    assert (summary.states, summary.is_sent) == ({"unclear before": 1}, False)
    assert [message.text for message in vonage.messages()] == ["b", "c"]


def test_what_is_wrong_with_the_account_ends_the_list(vonage, place, tmp_path):
    file = listed(tmp_path, "447700900709,a", *numbers(3))
    summary = place.send(file)
    assert (summary.states, summary.stopped) == ({"refused": 1}, "insufficient-credit")
    assert vonage.messages() == []


def test_it_is_sent_at_its_rate(place, tmp_path):
    place.send(listed(tmp_path, *numbers(5)), rate=4.0)
    assert place.waited == [0.0, 0.25, 0.25, 0.25, 0.25]


def test_it_stops_between_two_sends(vonage, place, tmp_path):
    summary = place.send(listed(tmp_path, *numbers(5)), is_stopped=lambda: len(place.heard) == 2)
    assert (summary.states, summary.stopped, len(vonage.messages())) == ({"sent": 2}, "interrupted", 2)
    assert place.send(listed(tmp_path, *numbers(5))).states == {"sent": 3, "sent before": 2}


def test_a_line_may_say_more_than_the_command(vonage, place, tmp_path):
    header = "to,text,from,client_ref,channel,api,ttl"
    place.send(listed(tmp_path, '+44 7400 000001,"Hi, you",SHOP,order-7,sms,messages,600', header=header))
    (message,) = vonage.messages()
    assert (message.api, message.to, message.text, message.sender, message.client_ref) == (
        *("messages", "447400000001", "Hi, you", "SHOP", "order-7"),
    )


@pytest.mark.parametrize(
    ("rows", "header", "sentence"),
    [
        ([], "number,text", "it must have to and text"),
        ([], "to,text,colour", "and nothing else"),
        ([",text"], "to,text", "line 2: to, text or from is empty"),
        (["447400000001,Hi,more"], "to,text", "line 2: it has more fields"),
        (["447400000001,Hi,voice"], "to,text,api", "line 2: 'voice' is no API"),
        (["447400000001,Hi,soon"], "to,text,ttl", "line 2: 'soon' is no time to live"),
        (["1,a,x", "2,b,x"], "to,text,client_ref", "line 3: its client reference x is line 2's, too"),
        ([",a"] * 7, "to,text", "and 2 more"),
    ],
    ids=["no to", "unknown column", "empty", "too long", "api", "ttl", "reference twice", "many"],
)
def test_a_list_that_is_wrong_is_not_begun(tmp_path, rows, header, sentence):
    with pytest.raises(SettingsError, match=sentence):
        read_list(listed(tmp_path, *rows, header=header), "codes", USUAL)


def test_a_list_with_a_line_that_vonage_would_not_take_is_not_begun(vonage, place, tmp_path):
    file = listed(tmp_path, "447400000001,Hi,messages", "12,Hi,messages", header="to,text,api")
    with pytest.raises(SettingsError, match=r"Nothing of the list was sent: line 3: .*recipient"):
        place.send(file)
    assert vonage.messages() == []


def test_one_list_is_sent_by_one_process(tmp_path):
    with alone(tmp_path, "codes"):
        with alone(tmp_path, "others"):
            pass
        with pytest.raises(SurroundingsError, match="another process"), alone(tmp_path, "codes"):
            pass


def command(*arguments):
    return [sys.executable, "-m", "landed", "send", "--many", *arguments]


def test_a_list_whose_process_is_killed_again_and_again_is_sent_once(vonage, tmp_path):
    file = listed(tmp_path, *numbers(120))
    environment = os.environ | {"LANDED_DATA": str(tmp_path / "data")}
    arguments = command(str(file), "--from", "ACME", "--api", "sms", "--rate", "1000", "--json")
    for life in range(8):
        with subprocess.Popen(arguments, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL) as sending:
            until = time.monotonic() + SECONDS_MAX
            while len(vonage.messages()) < 12 * (life + 1) and sending.poll() is None and time.monotonic() < until:
                time.sleep(0.002)
            sending.send_signal(signal.SIGKILL)
    done = subprocess.run(
        arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    got = Counter(message.to for message in vonage.messages())
    assert max(got.values()) == 1
    assert len(told) == 120
    states = Counter(each["state"] for each in told)
    # A process that died between the call and its answer leaves one line unclear, and no more.
    assert states["unclear"] <= 8
    for each in told:
        if each["state"] == "sent":
            assert got[each["to"]] == 1
    assert states["sent"] + states["unclear"] == 120
    assert done.returncode == (1 if states["unclear"] else 0)


def test_a_list_that_is_interrupted_says_so_and_goes_on_later(vonage, tmp_path):
    file = listed(tmp_path, *numbers(30))
    environment = os.environ | {"LANDED_DATA": str(tmp_path / "data")}
    arguments = command(str(file), "--from", "ACME", "--api", "sms")
    with subprocess.Popen(
        [*arguments, "--rate", "20"], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as sending:
        while len(vonage.messages()) < 3:
            time.sleep(0.005)
        sending.send_signal(signal.SIGINT)
        said = sending.communicate(timeout=SECONDS_MAX)[1]
    assert sending.returncode == 1
    assert "It ended early (interrupted). The same command goes on from there." in said
    assert SendState.SENT.name.lower() in said
    done = subprocess.run(
        [*arguments, "--rate", "1000"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Counter(message.to for message in vonage.messages()).most_common(1)[0][1] == 1
    assert len(vonage.messages()) == 30
