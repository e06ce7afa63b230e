"""What reaches a terminal: as wide as it is, in its encoding, and never steered by what others sent."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading

import pytest

import landed as library
from landed.cli import printing
from landed.cli.printing import Column, Look, Printer, print_table
from landed.domain.receipt import Outcome
from landed.journal.record import decode
from landed.vonage.parse import UNTRUSTED, read
from landed.vonage.request import Request
from landed.worker.fold import Folded

STEERING = "\x1b[2J\x1b]0;title\x07\n\r\x9b1m\u202e\u2028"


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def folded(fields: dict[str, object], record) -> Folded:
    request = Request(method="POST", path="/webhooks/message-status", body=json.dumps(fields).encode())
    return Folded(position=1, record=decode(record(0, request.body)), facts=read(request, UNTRUSTED), new=True)


def printed(out: io.StringIO, mode: str, *many: Folded, show_numbers: bool = False) -> str:
    with Printer(out, mode, show_numbers=show_numbers) as printer:
        printer.heard(many)
    return out.getvalue()


@pytest.mark.parametrize("form", ["status", "inbound"])
@pytest.mark.parametrize("mode", ["pretty", "raw"])
def test_what_others_sent_cannot_steer_the_terminal(record, monkeypatch, mode, form):
    monkeypatch.setenv("NO_COLOR", "1")
    names = ["message_uuid", "to", "from", "channel", "client_ref", "text", *(["status"] if form == "status" else [])]
    fields = {name: name + STEERING for name in names} | {"destination": {"network_code": STEERING + "n"}}
    fields |= {"error": {"title": STEERING + "e", "detail": STEERING + "d"}, "message_type": "text"}
    out = printed(Terminal(), mode, folded(fields, record))
    assert not set(out) & (set(STEERING) - {"\n", *map(chr, range(0x20, 0x7F))})
    if mode == "pretty":
        assert len(out.splitlines()) == 2


def test_no_story_and_no_table_can_steer_the_terminal(tmp_path, store_of):
    store_of(
        {"message_uuid": "m" + STEERING, "status": "delivered" + STEERING, "client_ref": "r", "from": STEERING},
        {
            **{name: name + STEERING for name in ("message_uuid", "to", "from", "channel")},
            "client_ref": "r",
            "status": "rejected",
            "usage": {"price": "1", "currency": STEERING},
            "error": {"title": "1" + STEERING, "detail": STEERING},
            "destination": {"network_code": STEERING + "n"},
            "workflow": {"workflow_id": STEERING, "items_number": STEERING + "1", "items_total": STEERING + "2"},
        },
    )
    by = ("network", "country", "channel", "sender", "reason", "hour", "account")
    reports = [["stats", "--by", each] for each in by]
    for command in (["list"], ["list", "--limit", "1"], ["show", "r"], ["show", "r", "--raw"], ["tail"], *reports):
        arguments = [sys.executable, "-m", "landed", *command, "--data", str(tmp_path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=os.environ | {"PYTHONUTF8": "1"}) as process:
            out = process.stdout.readline() if command == ["tail"] else process.stdout.read()
            process.terminate()
        assert not set(out.decode()) & (set(STEERING) - {"\n", *map(chr, range(0x20, 0x7F))}), command


def test_numbers_are_masked_in_json_and_shown_when_asked_for(record):
    fields = {"message_uuid": "m", "message_type": "text", "text": "Call +447700900009", "to": "447700900001"}
    (line,) = printed(io.StringIO(), "json", folded(fields, record)).splitlines()
    assert "7700900" not in line
    (line,) = printed(io.StringIO(), "json", folded(fields, record), show_numbers=True).splitlines()
    assert json.loads(line)["to"] == "447700900001"


def test_raw_shows_the_fields_as_they_were_sent(record):
    fields = {"message_uuid": "m", "status": "delivered", "zeta": None, "alpha": 0.0333, "to": "447700900001"}
    (line,) = printed(io.StringIO(), "raw", folded(fields, record)).splitlines()
    assert json.loads(line)["fields"] == fields
    assert list(json.loads(line)["fields"]) == list(fields)
    assert json.dumps(fields, indent=2) in printed(Terminal(), "raw", folded(fields, record))


def test_a_closed_output_does_not_hold_up_whoever_is_heard(record):
    out = io.StringIO()
    with Printer(out, "json", show_numbers=False) as printer:
        out.close()
        for _ in range(3):
            printer.heard([folded({"message_uuid": "m", "status": "read"}, record)])


class Held(io.StringIO):
    """An output that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def write(self, text: str) -> int:
        self.let_go.wait(10)
        return super().write(text)


def test_what_a_slow_output_cannot_take_is_counted(record, monkeypatch):
    monkeypatch.setattr(printing, "WAITING_BYTES_MAX", 10_000)
    one = folded({"message_uuid": "m", "status": "read", "text": "x" * 1000}, record)
    out = Held()
    with Printer(out, "json", show_numbers=False) as printer:
        printer.heard([one] * 100)
        out.let_go.set()
        while "not_printed" not in out.getvalue():
            printer.heard([one])
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    missed = sum(line["count"] for line in lines if line["event"] == "not_printed")
    assert missed > 80
    assert sum(line["event"] == "receipt" for line in lines) + missed >= 100


@pytest.mark.parametrize("width", [80, 200])
def test_a_table_is_cut_by_columns_and_never_within_one(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    columns = [
        Column(name="kept", cells=["k" * 30]),
        Column(name="first to leave", cells=["f" * 30], leaves=2),
        Column(name="second", cells=["s" * 30], leaves=1),
        Column(name="empty", cells=[""]),
        Column(name="also kept", cells=["界" * 15]),
    ]
    out = Terminal()
    print_table(columns, Look(out, show_numbers=False), out)
    assert ("f" * 30 in out.getvalue()) == (width == 200)
    assert ("k" * 30 in out.getvalue(), "界" * 15 in out.getvalue(), "empty" in out.getvalue()) == (True, True, False)


@pytest.mark.parametrize("width", [80, 150])
def test_list_on_a_narrow_terminal_keeps_outcome_and_id_whole(data, width):
    reading, terminal = pty.openpty()
    arguments = [sys.executable, "-m", "landed", "list", "--data", str(data)]
    environment = os.environ | {"COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1"}
    subprocess.run(arguments, stdout=terminal, stderr=terminal, env=environment, check=True)
    os.close(terminal)
    lines = os.read(reading, 100_000).decode().splitlines()
    os.close(reading)
    assert all(len(line) <= width for line in lines)
    assert [line.split()[-1] for line in lines[1:]] == ["m-both", "m-pending", "m-read", "m-failed", "m-delivered"]
    assert sum(any(f"{outcome} " in line for outcome in Outcome) for line in lines[1:]) == 5


@pytest.mark.parametrize(
    "command", [["list"], ["show", "order"], ["parse", '{"message_uuid":"m","status":"r","from":"Café"}']]
)
def test_an_output_of_ascii_gets_codes_not_errors(landed, tmp_path, store_of, command):
    store_of({"message_uuid": "m", "status": "delivered", "client_ref": "order", "from": "Café", "to": "447700900001"})
    where = [] if command[0] == "parse" else ["--data", tmp_path]
    run = landed(*command, *where, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (run.returncode, run.stderr) == (0, "")
    assert "Caf" in run.stdout


def test_an_output_that_fails_is_told_in_one_sentence(data):
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        arguments = [sys.executable, "-m", "landed", "list", "--data", str(data)]
        run = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, len(run.stderr.splitlines())) == (3, 1)


def test_an_output_that_is_closed_is_no_traceback(data):
    command = f"{sys.executable} -m landed list --data {data} >&-"
    run = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S602 - ours
    assert run.stderr == ""


def test_the_library_and_the_command_line_say_the_same_version(landed):
    assert landed("--version").stdout == f"landed {library.__version__}\n"
