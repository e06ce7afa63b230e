"""Every command explains itself, with an example."""

from __future__ import annotations

from contextlib import closing

import pytest

from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path

COMMANDS = ("demo", "serve", "list", "show", "tail", "stats", "reasons", "rebuild", "doctor", "parse")


def test_help_names_every_command(landed):
    shown = landed("--help").stdout
    assert [command for command in COMMANDS if f"  {command} " in shown] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(landed, command):
    run = landed(command, "--help")
    assert run.returncode == 0
    assert f"Example: landed {command}" in run.stdout


def test_an_unknown_command_is_wrong_usage(landed):
    assert landed("fly").returncode == 2


def test_the_version_is_said(landed):
    assert landed("--version").stdout.startswith("landed 0.")


def test_rebuild_without_a_journal_says_so(landed):
    run = landed("rebuild")
    assert (run.returncode, len(run.stderr.splitlines())) == (3, 1)
    assert "no journal" in run.stderr


def test_rebuild_makes_the_same_again(landed, data):
    before = landed("list", "--data", data, "--json").stdout
    run = landed("rebuild", "--data", data)
    assert run.stdout == "Made again from 7 requests: 7 new, 0 duplicate, 0 unreadable.\n"
    assert landed("list", "--data", data, "--json").stdout == before != ""


def test_rebuild_says_of_how_many_messages_the_requests_are_retired(landed, data):
    before = landed("list", "--data", data, "--json").stdout
    with closing(SqliteJournal(journal_path(data))) as journal:
        assert journal.retire(4, 2**62) == 4
    run = landed("rebuild", "--data", data)
    assert run.stdout.splitlines() == [
        "Made again from 7 requests: 7 new, 0 duplicate, 0 unreadable.",
        "Messages carried over sealed, since the journal no longer has all of their requests: 2.",
    ]
    assert landed("list", "--data", data, "--json").stdout == before
