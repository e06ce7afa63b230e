"""`landed handlers`: an application's handlers listed, and tried on a past event."""

from __future__ import annotations

import json
import re

import pytest

APP = """
from landed import on

print("loaded")

@on.delivered
def arrived(event):
    print("arrived", event.message.message_id, event.attempt, event.is_replay)

@on.failed(reason="absent-subscriber-temporary", channel=["sms", "mms"])
async def lost(event):
    print("lost", event.message.message_id)

@on.conflict
@on.failed(channel=["sms"])
def breaks(event):
    raise ValueError(f"no customer {event.message.to}")
"""
# Filters of several decorators must be alike.
APP = APP.replace("@on.conflict\n@on.failed", "@on.conflict(channel=['sms'])\n@on.failed")


@pytest.fixture
def handlers(landed, tmp_path):
    """Run `landed handlers …` beside an application."""
    (tmp_path / "app.py").write_text(APP)
    return lambda *arguments, **environment: landed("handlers", *arguments, "--data", tmp_path, **environment)


def lines(run):
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_handlers_are_listed_with_what_they_hear_and_where_they_stand(handlers):
    run = handlers("app.py")
    assert (run.returncode, run.stderr) == (0, "")
    for words in (
        r"app:arrived +message\.delivered +app\.py:6",
        r"app:lost +message\.failed +channels sms, mms; reasons absent-subscriber-temporary +app\.py:10",
        r"app:breaks +message\.conflict, message\.failed|app:breaks +message\.failed, message\.conflict",
    ):
        assert re.search(words, run.stdout), run.stdout


def test_handlers_are_told_to_programs_and_what_the_application_prints_is_apart(handlers, tmp_path):
    (tmp_path / "landed.toml").write_text('handlers = "app.py"\n')
    run = handlers("--json")
    assert run.returncode == 0
    assert "loaded" in run.stderr
    assert [(each["name"], each["async"], each["line"]) for each in lines(run)] == [
        ("app:arrived", False, 6),
        ("app:lost", True, 10),
        ("app:breaks", False, 15),
    ]
    assert lines(run)[1]["wanted"] == {
        "events": ["message.failed"],
        "channels": ["sms", "mms"],
        "reasons": ["absent-subscriber-temporary"],
    }
    assert [each["name"] for each in lines(handlers("--json", "--handler", "app:lost"))] == ["app:lost"]


@pytest.mark.usefixtures("data")
def test_those_that_want_a_past_event_are_called_with_it(handlers):
    run = handlers("app.py", "--try", "m-delivered")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == [
        "loaded",
        "arrived m-delivered 1 True",
        "app:arrived  message.delivered  returned",
    ]


@pytest.mark.usefixtures("data")
def test_one_that_raises_is_a_no_with_its_line_and_nothing_else_is_said(handlers):
    run = handlers("app.py", "--try", "m-failed", "--json")
    assert run.returncode == 1
    assert run.stderr.splitlines() == ["loaded", "lost m-failed"]
    lost, breaks = lines(run)
    assert (lost["handler"], lost["taken"], lost["said"]) == ("app:lost", True, "returned")
    assert (breaks["handler"], breaks["taken"]) == ("app:breaks", False)
    assert breaks["said"] == "ValueError: no customer 447700900001 (app.py:17)"
    for_people = handlers("app.py", "--try", "m-failed").stdout
    assert "ValueError: no customer" in for_people
    assert "447700900001" not in for_people


@pytest.mark.usefixtures("data")
def test_one_is_called_whether_it_wants_it_or_not(handlers):
    run = handlers("app.py", "--try", "m-failed", "--handler", "app:arrived")
    assert (run.returncode, "arrived m-failed 1 True" in run.stdout) == (0, True)


@pytest.mark.usefixtures("data")
def test_an_event_that_no_handler_wants_is_a_no(handlers, tmp_path):
    (tmp_path / "app.py").write_text("from landed import on\n\n@on.read\ndef seen(event): ...\n")
    run = handlers("app.py", "--try", "m-failed")
    assert run.returncode == 1
    assert run.stdout.startswith("No handler wants it.")
    assert handlers("app.py", "--try", "m-failed", "--json").stdout == ""


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["people", "programs"])
def test_an_event_that_is_not_there_is_a_no_also_where_nothing_is(handlers, tmp_path, options):
    run = handlers("app.py", "--try", "m-none", *options)
    assert run.returncode == 1
    assert ("There is no event m-none" in run.stderr) is (not options)
    assert [file.name for file in tmp_path.iterdir()] == ["app.py"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name the file with your handlers, as in landed handlers app.py."),
        (["none.py"], "none.py does not exist"),
        (["app.py", "--handler", "app:arived"], "There is no handler 'app:arived' in app.py: there are app:arrived, "),
        (["broken.py"], "broken.py:1 does not load: SyntaxError"),
    ],
    ids=["nothing-named", "no-file", "no-handler", "broken"],
)
def test_a_wrong_use_is_said_in_one_sentence(handlers, tmp_path, arguments, sentence):
    (tmp_path / "broken.py").write_text("def f(:\n")
    run = handlers(*arguments)
    assert (run.returncode, run.stderr.count("\n")) == (2, 1), run.stderr
    assert sentence in run.stderr


def test_it_explains_itself_with_an_example(landed):
    assert "Example: landed handlers app.py" in landed("handlers", "--help").stdout
