"""`show`, `stats` and `reasons` as a person sees them: on terminals of 80 and 200 columns, without colour, piped."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections import Counter
from contextlib import closing, suppress
from itertools import pairwise
from urllib.parse import urlencode

import msgspec
import pytest
from rich.cells import cell_len

from landed.domain.meanings import REASONS
from landed.journal.record import Ids, SentRecord, decode, encode
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, store_path
from landed.store.sqlite import SqliteStore
from landed.worker.fold import Fold

SECOND_US = 1_000_000
NOON_US = 1_785_585_600_000_000  # 2026-08-01T12:00:00Z
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
TO = "447700900001"


def sent(message_id, *, part=0, parts=0, seconds=0):
    at_us = NOON_US + seconds * SECOND_US
    about = {"account": "default", "api": "sms", "channel": "sms", "to": TO, "sender": "ACME", "client_ref": "long"}
    group = "p1" if parts else ""
    return encode(
        SentRecord(
            id=Ids().next(),
            at_us=at_us,
            message_id=message_id,
            sent_us=at_us,
            group=group,
            part=part,
            parts=parts,
            **about,
        )
    )


def receipt(record, message_id, word, code="0", *, seconds=0, **more):
    fields = {"msisdn": TO, "to": "ACME", "messageId": message_id, "status": word, "err-code": code}
    fields |= {"scts": "2608011200", "price": "0.03330000"} | {
        name.replace("_", "-"): value for name, value in more.items()
    }
    at_us = NOON_US + seconds * SECOND_US
    request = decode(record(0, b"", path="/webhooks/delivery-receipt"))
    about = {"at_us": at_us, "received_us": at_us, "method": "GET", "query": urlencode(fields).encode()}
    return encode(
        msgspec.structs.replace(request, coverage="parameters", headers=((b"User-Agent", b"Nexmo"),), **about)
    )


def status(record, message_id, word, *, seconds=0, **more):
    fields = {"message_uuid": message_id, "to": TO, "from": "447700900123", "channel": "whatsapp", "status": word}
    at_us = NOON_US + seconds * SECOND_US
    told = decode(record(0, json.dumps(fields | {"timestamp": "2026-08-01T12:00:00Z"} | more).encode()))
    return encode(msgspec.structs.replace(told, at_us=at_us, received_us=at_us))


def store_with(tmp_path, *records):
    with closing(SqliteJournal(journal_path(tmp_path))) as journal, closing(SqliteStore(store_path(tmp_path))) as store:
        journal.append(records)
        fold = Fold(journal, store)
        while fold.step():
            pass
    return tmp_path


@pytest.fixture
def told(tmp_path, record):
    """A data directory with a long text in three parts, a conflict, an expired one, and messages by WhatsApp."""
    records = [
        *(sent(f"p{number}", part=number, parts=3) for number in (1, 2, 3)),
        receipt(record, "p1", "delivered", seconds=9, network_code="23410"),
        receipt(record, "p2", "failed", "6", seconds=5, network_code="23410"),
        receipt(record, "p2", "delivered", seconds=65, network_code="23410"),
        receipt(record, "p3", "failed", "7", seconds=9, network_code="23410"),
        receipt(record, "p3", "failed", "7", seconds=70, network_code="23410"),
        receipt(record, "us", "accepted", seconds=3, network_code="US-TOLL-FREE"),
        receipt(record, "ph", "expired", seconds=259_200, network_code="51502"),
        status(record, "w", "submitted", seconds=1),
        status(record, "w", "read", seconds=4, usage={"price": "0", "currency": "EUR"}),
        status(record, "r", "rejected", seconds=3_600, error={"title": 1340, "detail": "Outside"}),
    ]
    return store_with(tmp_path, *records)


def on_terminal(columns, *arguments, **more):
    """What a terminal of that width is given, and its lines as they are seen there."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "NO_COLOR"))}
    environment |= {"TERM": "xterm", "TZ": "UTC", "PYTHONUTF8": "1"} | more
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-m", "landed", *map(str, arguments)]
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment) as process:
        os.close(child)
        shown = b""
        # The end of a terminal is an error to read.
        with suppress(OSError):
            while piece := os.read(parent, 65_536):
                shown += piece
    os.close(parent)
    assert process.returncode == 0, shown
    text = shown.decode().replace("\r\n", "\n")
    return text, COLOUR.sub("", text).splitlines()


def joined(lines):
    """The text without its line breaks."""
    return " ".join(" ".join(lines).split())


def test_a_failed_part_of_a_long_text_is_told_in_plain_words(landed, told):
    shown = landed("show", "p3", "--data", told, PYTHONUTF8="1", TZ="UTC").stdout
    text = joined(shown.splitlines())

    assert shown.splitlines()[:2] == ["p3", "  failed 9.0 s after it was sent"]
    for words in (
        "The network says that it did not arrive.",
        "The phone could not take the message at that moment. (handset-busy, code 7)",
        "what to do Send it again after a quarter of an hour.",
        "whose move the recipient's",
        "to 4477•••••001 (United Kingdom)",
        "network O2 (UK), United Kingdom (23410)",
        "long text 2 of 3 delivered, part 3: handset busy",
        "whole failed",
        "price of all 0.09990000",
        "failed → failed",
        "came 2 times",
        "told by the sender",
    ):
        assert words in text, words
    assert TO not in shown


def test_a_conflict_is_explained(landed, told):
    text = joined(landed("show", "p2", "--data", told, PYTHONUTF8="1").stdout.splitlines())

    assert "both that it arrived and that it failed. Delivered stands" in text
    assert text.index("failed → failed") < text.index("delivered → delivered")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("us", ["pending, for", "this is where it ends"]),
        ("ph", ["unconfirmed", "72 hours", "In the Philippines", "Do not take it for lost", "ported, or roaming"]),
        ("w", ["delivered 3.0 s after the first receipt", "the person has opened the message", "price EUR 0"]),
        ("r", ["outside-window, code 1340", "Send an approved template", "whose move yours", "“Outside”"]),
    ],
)
def test_what_each_status_is_worth_is_said(landed, told, message, words):
    text = joined(landed("show", message, "--data", told, PYTHONUTF8="1").stdout.splitlines())

    assert [each for each in words if each not in text] == []


def shown(landed, message, data, **more):
    return joined(landed("show", message, "--data", data, PYTHONUTF8="1", **more).stdout.splitlines())


def test_what_is_still_being_tried_is_not_to_be_sent_again(landed, tmp_path, record):
    data = store_with(
        tmp_path,
        status(record, "m", "submitted", channel="sms", error={"title": "1220"}),
        receipt(record, "s", "buffered", "2"),
    )

    for message, reason in (("m", "handset-busy"), ("s", "absent-subscriber-temporary")):
        text = shown(landed, message, data)
        assert f"({reason}, code" in text
        assert "another send could arrive twice" in text
        assert "Send it again" not in text


def test_a_send_that_is_told_after_its_end_makes_no_latency(landed, tmp_path, record):
    data = store_with(tmp_path, receipt(record, "m", "delivered", seconds=0), sent("m", seconds=3_600))

    assert "delivered after" not in shown(landed, "m", data)
    assert "-" not in landed("show", "m", "--data", data).stdout.splitlines()[1]


def test_our_own_word_vouches_for_nothing_and_is_not_explained_as_vonages(landed, tmp_path, record):
    unsigned = msgspec.structs.replace(decode(receipt(record, "m", "seen")), verified=False)
    data = store_with(tmp_path, sent("m"), encode(unsigned), sent("only"))

    assert "signed no: nobody vouches" in shown(landed, "m", data)
    assert "no receipt has come yet" in shown(landed, "only", data)
    assert "signed" not in shown(landed, "only", data)


def test_parts_that_nobody_tracked_stand_side_by_side_unjudged(landed, tmp_path, record):
    words = ("delivered", "failed")
    parts = [receipt(record, f"u{number}", word, client_ref="one") for number, word in enumerate(words)]
    text = shown(landed, "one", store_with(tmp_path, *parts))

    assert "long text" not in text
    assert "whole" not in text
    assert text.index("u1 failed") < text.index("u0 delivered")


@pytest.mark.parametrize("stamp", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_ends_of_time_are_shown(landed, tmp_path, record, stamp, zone):
    data = store_with(tmp_path, status(record, "m", "delivered", timestamp=stamp))

    assert f"occurred {stamp[:4]}" in shown(landed, "m", data, TZ=zone)
    ends = ("--since", "0001-01-01T00:00Z", "--until", "9999-12-31T23:30Z")
    assert landed("stats", "--data", data, *ends, TZ=zone).returncode == 0


def test_a_reference_that_is_a_number_is_masked_and_another_is_not(landed, tmp_path, record):
    data = store_with(
        tmp_path,
        receipt(record, "a", "delivered", client_ref="447700900777"),
        receipt(record, "b", "delivered", client_ref=f"order-{TO}"),
        receipt(record, "c", "delivered", client_ref="order-20260801123"),
    )
    listed = landed("list", "--data", data, PYTHONUTF8="1").stdout

    assert "447700900777" not in listed
    assert TO not in listed
    assert "order-20260801123" in listed
    assert "447700900777" in landed("list", "--data", data, "--show-numbers").stdout


def test_what_is_wide_in_a_terminal_is_wrapped_by_its_width(tmp_path, record):
    data = store_with(
        tmp_path, status(record, "m", "rejected", error={"title": "1210", "detail": "\u767c\u9001 " * 60})
    )
    lines = on_terminal(80, "show", "m", "--data", data)[1]

    assert max(map(cell_len, lines)) <= 80
    assert sum(line.count("\u767c") for line in lines) == 60


def test_a_number_in_the_channel_s_place_is_masked(landed, tmp_path, record):
    data = store_with(tmp_path, status(record, "m", "delivered", channel="447700900999"))

    for command in (["show", "m"], ["list"], ["stats", "--by", "channel"]):
        assert "447700900999" not in landed(*command, "--data", data).stdout


def test_an_island_s_own_network_is_no_foreign_country(landed, tmp_path, record):
    data = store_with(tmp_path, receipt(record, "m", "delivered", msisdn="447781123456", network_code="23455"))
    text = shown(landed, "m", data)

    assert "(Guernsey)" in text
    assert "Sure Mobile, United Kingdom (23455)" in text
    assert "ported" not in text


def test_raw_of_another_journal_is_refused(landed, told):
    journal_path(told).unlink()
    for file in told.glob("journal.db-*"):
        file.unlink()
    SqliteJournal(journal_path(told)).close()
    run = landed("show", "p3", "--raw", "--data", told)

    assert (run.returncode, len(run.stderr.splitlines())) == (3, 1)
    assert "not the one that the store was made from" in run.stderr


def test_raw_shows_the_requests_themselves(landed, told):
    shown = landed("show", "p3", "--raw", "--data", told).stdout.splitlines()

    assert shown[0] == "p3"
    (line,) = [line for line in shown if "GET /webhooks/delivery-receipt?" in line]
    assert "msisdn=447700900001" in line
    assert "  User-Agent: Nexmo" in shown
    assert "  told by: the sender" in shown


def test_raw_for_programs_and_a_group_for_programs(landed, told):
    (line,) = landed("show", "p3", "--raw", "--json", "--data", told).stdout.splitlines()
    message = json.loads(line)

    assert message["reason"] == "handset-busy"
    assert message["country"] == "GB"
    assert [part["outcome"] for part in message["group"]["parts"]] == ["delivered", "delivered", "failed"]
    assert (message["group"]["outcome"], message["group"]["of"], message["group"]["price"]) == (
        "failed",
        3,
        "0.09990000",
    )
    assert [request.get("method") for request in message["requests"]] == [None, "GET"]
    assert [receipt["copies"] for receipt in message["history"]] == [1, 2]
    said = message["history"][1]
    assert (said["reason"], said["final"], said["knows"]) == ("handset-busy", True, "provider")


def test_a_record_that_is_retired_is_said_to_be(landed, told):
    import apsw  # noqa: PLC0415

    with closing(apsw.Connection(str(journal_path(told)))) as db:
        db.execute("DELETE FROM record WHERE position < 8")

    assert "no longer in the journal" in landed("show", "p3", "--raw", "--data", told).stdout


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize(
    "arguments",
    [("show", "p3"), ("show", "ph"), ("stats",), ("stats", "--by", "reason"), ("reasons", "1180"), ("list",)],
    ids=" ".join,
)
def test_no_line_is_wider_than_the_terminal(told, columns, arguments):
    data = [] if arguments[0] == "reasons" else ["--data", told]
    text, lines = on_terminal(columns, *arguments, *data)
    _, plain = on_terminal(columns, *arguments, *data, NO_COLOR="1")

    assert max(map(len, lines)) <= columns
    assert COLOUR.search(text)
    assert plain == lines
    assert TO not in text


def test_a_wide_terminal_shows_more_of_a_table_than_a_narrow_one(told):
    narrow, wide = on_terminal(80, "stats", "--data", told)[1], on_terminal(200, "stats", "--data", told)[1]

    assert "p99" not in narrow[2]
    assert re.split(r"\s{2,}", wide[2].strip()) == [
        *("network", "messages", "delivered", "failed", "unconfirmed", "pending", "arrived", "95 % sure", "p50", "p95"),
        *("p99", "cost"),
    ]


def test_an_output_that_is_not_utf8_gets_what_it_can_show(landed, told):
    for arguments in (("show", "p3"), ("stats",), ("reasons", "7")):
        data = [] if arguments[0] == "reasons" else ["--data", told]
        run = landed(*arguments, *data, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
        assert run.returncode == 0
        assert run.stdout.isascii()
        assert "\\u" not in run.stdout
    assert "4477*****001" in landed("show", "p3", "--data", told, PYTHONUTF8="0", PYTHONIOENCODING="ascii").stdout
    assert "####" in landed("stats", "--data", told, PYTHONUTF8="0", PYTHONIOENCODING="ascii").stdout


# stats


def rows(run):
    assert run.returncode == 0, run.stderr
    return {row["value"] or row["by"]: row for row in map(json.loads, run.stdout.splitlines())}


def test_stats_count_outcomes_latency_and_cost(landed, told):
    told_by = rows(landed("stats", "--data", told, "--json"))
    ours = told_by["23410"]

    assert (ours["messages"], ours["delivered"], ours["failed"], ours["pending"]) == (3, 2, 1, 0)
    assert ours["delivered_share"] == pytest.approx(2 / 3)
    assert ours["delivered_share_low"] < 2 / 3 < ours["delivered_share_high"]
    assert ours["p50_ms"] == pytest.approx(9_000, rel=0.2)
    assert ours["p99_ms"] == pytest.approx(65_000, rel=0.2)
    assert ours["cost"] == {"": "0.09990000"}
    assert ours["cost_by_outcome"] == {"": {"delivered": "0.06660000", "failed": "0.03330000"}}
    assert told_by["all"]["messages"] == 7


@pytest.mark.parametrize(
    ("by", "values"),
    [
        ("network", {"23410": 3, "51502": 1, "US-TOLL-FREE": 1, "network": 2}),
        ("country", {"GB": 5, "PH": 1, "US": 1}),
        ("channel", {"sms": 5, "whatsapp": 2}),
        ("sender", {"ACME": 5, "447700900123": 2}),
        ("reason", {"handset-busy": 1, "expired": 1, "outside-window": 1, "reason": 4}),
        ("account", {"default": 7}),
    ],
)
def test_stats_by_each_dimension(landed, told, by, values):
    told_by = rows(landed("stats", "--by", by, "--data", told, "--json"))

    assert {value: row["messages"] for value, row in told_by.items()} == values | {"all": 7}


def test_stats_by_the_hour_are_in_order_and_by_when_a_message_was_first_seen(landed, told):
    run = landed("stats", "--by", "hour", "--since", "2026-08-01", "--data", told, "--json", TZ="UTC")
    names = [json.loads(line)["name"] for line in run.stdout.splitlines()]

    assert names == ["2026-08-01 12:00", "2026-08-01 13:00", "2026-08-04 12:00", "all"]


def test_stats_by_the_hour_are_of_the_last_week_unless_more_is_asked_for(landed, told):
    assert rows(landed("stats", "--by", "hour", "--data", told, "--json"))["all"]["messages"] == 0
    until = ("--until", "2026-08-08T12:30Z")
    assert rows(landed("stats", "--by", "hour", *until, "--data", told, "--json"))["all"]["messages"] == 7


def test_stats_of_a_time_and_the_time_before(landed, told):
    times = ("--since", "2026-08-01T13:00Z", "--until", "2026-08-01T14:00Z", "--compare", "previous")
    told_by = rows(landed("stats", "--by", "channel", *times, "--data", told, "--json"))

    assert (told_by["whatsapp"]["messages"], told_by["whatsapp"]["previous"]["messages"]) == (1, 1)
    assert (told_by["sms"]["messages"], told_by["sms"]["previous"]["messages"]) == (0, 4)
    assert "arrived before" in landed("stats", "--by", "channel", *times, "--data", told).stdout


def test_stats_of_whole_days_and_parts_of_days_are_the_same_messages(landed, told):
    whole = rows(landed("stats", "--data", told, "--json", "--since", "2026-07-01"))
    counts = Counter()
    moments = ["2026-07-01", "2026-08-01T12:00Z", "2026-08-04T09:00Z", "2026-08-05"]
    for since, until in pairwise(moments):
        part = rows(landed("stats", "--data", told, "--json", "--since", since, "--until", until, TZ="UTC"))
        counts.update({value: row["messages"] for value, row in part.items()})

    assert counts == {value: row["messages"] for value, row in whole.items()}


def test_filters_of_stats(landed, told):
    assert rows(landed("stats", "--data", told, "--json", "--channel", "WhatsApp"))["all"]["messages"] == 2
    assert rows(landed("stats", "--data", told, "--json", "--network", "23410"))["all"]["messages"] == 3
    assert rows(landed("stats", "--data", told, "--json", "--account", "other"))["all"]["messages"] == 0


def test_senders_are_masked_for_people(landed, told):
    shown = landed("stats", "--by", "sender", "--data", told, PYTHONUTF8="1").stdout

    assert "4477•••••123" in shown
    assert "447700900123" not in shown
    assert "447700900123" in landed("stats", "--by", "sender", "--data", told, "--show-numbers").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--by", "colour"], "choose network, country"),
        (["--compare", "previous"], "needs --since"),
        (["--compare", "yesterday", "--since", "1d"], "takes `previous`"),
        (["--since", "yesterday"], "is no time"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(landed, told, arguments, words):
    run = landed("stats", "--data", told, *arguments)

    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1)
    assert words in run.stderr


def test_stats_before_the_messages_are_counted_say_so(landed, told):
    import apsw  # noqa: PLC0415

    with closing(apsw.Connection(str(store_path(told)))) as db:
        db.execute("DELETE FROM rollup; DELETE FROM rollup_made")
    run = landed("stats", "--data", told)

    assert (run.returncode, len(run.stderr.splitlines())) == (3, 1)
    assert "not counted yet" in run.stderr


def test_stats_of_nothing_is_a_friendly_answer(landed):
    assert "landed demo" in landed("stats").stdout
    assert landed("stats", "--json").stdout == ""


def test_a_long_report_is_cut_and_says_so(landed, told):
    shown = landed("stats", "--limit", "2", "--data", told).stdout

    assert "… and 2 more: --limit 4" in shown or "\\u2026 and 2 more" in shown


# reasons


def test_a_code_is_explained_offline(landed):
    text = joined(landed("reasons", "1180").stdout.splitlines())

    assert text.startswith("absent-subscriber-temporary means The phone was switched off")
    assert "2 (SMS API, in a receipt); 1180 (Messages API, in a status)" in text
    assert "try again 1 h" in text


def test_a_code_that_means_different_things_is_explained_for_each(landed):
    shown = landed("reasons", "9").stdout.splitlines()

    assert [line for line in shown if line in REASONS] == ["opted-out", "insufficient-credit"]


def test_all_reasons_are_listed(landed):
    shown = landed("reasons").stdout.splitlines()

    assert [line.split()[0] for line in shown[1:]] == list(REASONS)
    assert [json.loads(line)["slug"] for line in landed("reasons", "--json").stdout.splitlines()] == list(REASONS)


def test_an_unknown_code_says_so(landed):
    run = landed("reasons", "4711")

    assert (run.returncode, len(run.stderr.splitlines())) == (1, 1)
    assert landed("reasons", "Unknown-Code").stdout.startswith("unknown-code")
