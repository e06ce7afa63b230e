"""What was not trusted, on the command line: why, judged again, let in, dropped."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import closing
from urllib.parse import urlencode

import pytest

from landed.gate.judge import Judge
from landed.gate.keeper import Keeper
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.record import RequestRecord, decode
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, quarantine_path, store_path
from landed.settings import Limits
from landed.store.sqlite import SqliteStore
from landed.vonage.request import Request
from landed.vonage.signing import Keyring, sign_jwt, sign_sig
from landed.worker.fold import Fold

RIGHT, WRONG = "the-right-secret", "the-wrong-secret"
NOON_US = 1_738_584_000_000_000
HOUR_US = 3_600_000_000


def status(name, secret=RIGHT, **more):
    body = json.dumps({"message_uuid": name, "to": "447700900001", "channel": "sms", "status": "delivered"} | more)
    headers = [(b"X-From", b"447700900009\x1b[31m")]
    if secret is not None:
        token = sign_jwt(body.encode(), secret, issued_at=NOON_US // 1_000_000, token_id="j", api_key=None)
        headers.append((b"Authorization", b"Bearer " + token.encode()))
    return Request(method="POST", path="/webhooks/message-status", headers=tuple(headers), body=body.encode())


def receipt(secret=RIGHT):
    params = {"messageId": "m-sms", "to": "2", "msisdn": "447700900003", "status": "delivered"}
    params |= {"timestamp": str(NOON_US // 1_000_000)}
    query = urlencode(params | {"sig": sign_sig(params, secret, "sha256")})
    return Request(method="GET", path="/webhooks/delivery-receipt", query=query.encode())


@pytest.fixture
def hold(tmp_path):
    """Put requests into quarantine, as a gate with the wrong secret does; their answers."""

    def put(*requests, at_us=NOON_US, large=False):
        judge = Judge(Keyring.of(WRONG))
        with (
            closing(SqliteJournal(journal_path(tmp_path))) as journal,
            closing(SqliteQuarantine(quarantine_path(tmp_path))) as quarantine,
        ):
            keeper = Keeper(journal, quarantine, Limits())
            batch = []
            for request in requests:
                from_noon = judge.too_large() if large else judge.verdict(request, at_us, "192.0.2.1")
                batch.append(keeper.judged(request, from_noon, at_us, "192.0.2.1"))
            return [int(answer) for answer in keeper.commit(batch)]

    return put


@pytest.fixture
def quarantine(landed, tmp_path):
    """Run `landed quarantine …` on the test's directory, with the right secret unless another is given."""

    def run(*arguments, **environment):
        return landed(
            "quarantine", *arguments, "--data", tmp_path, **({"VONAGE_SIGNATURE_SECRET": RIGHT} | environment)
        )

    return run


@pytest.fixture
def kept(tmp_path):
    """The requests in the journal."""

    def read():
        with closing(SqliteJournal(journal_path(tmp_path))) as journal:
            records = [decode(data) for _, data in journal.read(0, 1_000)]
        return [record for record in records if isinstance(record, RequestRecord)]

    return read


def lines(run):
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("command", [["list"], ["recheck"], ["drop", "--all", "--yes"]], ids=" ".join)
def test_where_nothing_is_nothing_goes_wrong(quarantine, command, tmp_path):
    run = quarantine(*command)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout in ("Nothing is in quarantine.\n", "0 let in, 0 stay.\n", "0 dropped.\n")
    assert not quarantine_path(tmp_path).exists()
    assert quarantine("list", "--json").stdout == ""


@pytest.mark.parametrize("command", [["show", "7"], ["accept", "7", "--yes"], ["drop", "7", "--yes"]], ids=" ".join)
@pytest.mark.parametrize("number", ["7", "9223372036854775808"])
def test_one_that_is_not_there_is_said_to_be(quarantine, hold, command, number):
    for _ in range(2):
        run = quarantine(*(number if part == "7" else part for part in command))
        assert (run.returncode, run.stdout) == (1, "")
        assert "No request is in quarantine" in run.stderr
        hold(status("a"))


def test_list_shows_what_is_there_and_goes_on_behind_an_id(quarantine, hold):
    assert hold(status("a"), status("b"), status("a", None), receipt()) == [401, 401, 503, 401]
    hold(status("a"), at_us=NOON_US + HOUR_US)

    one, two, three = lines(quarantine("list", "--json"))
    assert (one["reason"], one["signed"], one["copies"], one["answer"]) == ("wrong", True, 3, 401)
    assert (one["first_at"], one["last_at"]) == ("2025-02-03T12:00:00Z", "2025-02-03T13:00:00Z")
    assert (three["method"], three["path"], three["peer"]) == ("GET", "/webhooks/delivery-receipt", "192.0.2.1")
    assert lines(quarantine("list", "--json", "--after", one["id"], "--limit", "1")) == [two]
    shown = quarantine("list").stdout
    assert "secret does not fit" in shown
    assert "--after 1" in quarantine("list", "--limit", "1").stdout


def test_show_says_why_and_hides_numbers_tokens_and_what_would_steer_a_terminal(quarantine, hold):
    hold(status("a"))
    shown = quarantine("show", "1", VONAGE_SIGNATURE_SECRET=WRONG, PYTHONUTF8="1").stdout
    assert "none of the secrets here fits" in shown
    assert "447700900001" not in shown
    assert "4477•••••001" in shown
    assert "447700900009" not in shown
    assert "\x1b" not in shown
    assert "eyJ" not in shown
    assert "447700900001" in quarantine("show", "1", "--show-numbers").stdout
    assert "landed quarantine recheck" in quarantine("show", "1").stdout


@pytest.mark.parametrize(
    ("environment", "kinds"),
    [
        ({}, ["clock", "holds"]),
        ({"VONAGE_SIGNATURE_SECRET": WRONG}, ["secret"]),
        ({"LANDED_NETWORKS": "198.51.100.0/24"}, ["address", "clock", "holds"]),
    ],
    ids=["mended", "as-it-was", "address"],
)
def test_show_for_programs_has_the_findings_and_the_request(quarantine, hold, environment, kinds):
    hold(status("a"), at_us=NOON_US + 30 * HOUR_US)
    (shown,) = lines(quarantine("show", "1", "--json", **environment))
    assert [finding["kind"] for finding in shown["findings"]] == kinds
    assert json.loads(shown["body"])["to"] == "447700900001"
    assert "Bearer" not in json.dumps(shown["headers"])


def test_of_a_body_cut_short_it_is_said_and_nothing_is_let_in(quarantine, hold, kept):
    assert hold(status("a"), large=True) == [413]
    assert "over the limit" in quarantine("show", "1").stdout
    assert "1 stay: 1 body over the limit" in quarantine("recheck").stdout
    run = quarantine("accept", "1", "--yes")
    assert (run.returncode, run.stdout) == (2, "")
    assert "only the beginning" in run.stderr
    assert kept() == []


def test_recheck_lets_in_what_passes_now_and_keeps_when_it_came(quarantine, hold, kept, tmp_path):
    hold(status("a"), status("b", "another"), status("c", None), receipt())
    assert quarantine("recheck", VONAGE_SIGNATURE_SECRET=WRONG).stdout.startswith("0 let in, 4 stay")

    assert lines(quarantine("recheck", "--json")) == [{"let_in": 2, "stay": {"wrong": 1, "missing": 1}}]

    one, two = kept()
    assert (one.received_us, one.verified, one.stale, one.coverage, one.answer) == (NOON_US, True, False, "body", 401)
    assert (two.received_us, two.verified, two.coverage, two.accepted_by) == (NOON_US, True, "parameters", "")
    assert one.at_us > NOON_US + HOUR_US
    assert [each["reason"] for each in lines(quarantine("list", "--json"))] == ["wrong", "missing"]
    with closing(SqliteJournal(journal_path(tmp_path))) as journal, closing(SqliteStore(store_path(tmp_path))) as store:
        Fold(journal, store).step()
    assert quarantine("recheck").stdout.startswith("0 let in, 2 stay")


def test_recheck_is_by_all_of_todays_settings(quarantine, hold, kept):
    hold(status("a"))
    assert quarantine("recheck", LANDED_NETWORKS="198.51.100.0/24").stdout == (
        "0 let in, 1 stay: 1 address not listed.\n"
    )
    assert kept() == []
    assert quarantine("recheck", LANDED_NETWORKS="192.0.2.0/24").stdout == "1 let in, 0 stay.\n"


def test_recheck_takes_more_than_one_batch_and_the_rate_does_not_bind_it(quarantine, hold, kept):
    hold(*(status(f"m{number}") for number in range(450)), status("bad", "x"))
    run = quarantine("recheck", LANDED_LIMITS__UNVERIFIED_BURST_MAX="1")
    assert run.stdout == "450 let in, 1 stay: 1 secret does not fit.\n"
    assert len({record.id for record in kept()}) == 450


CUT_OFF = """
import os, sys
from pathlib import Path
from landed.gate.judge import Judge
from landed.gate.keeper import Readmission
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, quarantine_path
from landed.vonage.signing import Keyring

class Dying(SqliteQuarantine):
    def remove(self, held):
        os._exit(9)

data = Path(sys.argv[1])
judge = Judge(Keyring.of(sys.argv[2]))
Readmission(Dying(quarantine_path(data)), SqliteJournal(journal_path(data)), judge).recheck(lambda: 1)
"""


def test_a_crash_between_append_and_removal_leaves_a_duplicate_and_no_hole(quarantine, hold, kept, landed, tmp_path):
    hold(status("a"), status("b"))
    died = subprocess.run([sys.executable, "-c", CUT_OFF, str(tmp_path), RIGHT], check=False)
    assert died.returncode == 9
    assert (len(kept()), len(lines(quarantine("list", "--json")))) == (2, 2)

    assert quarantine("recheck").stdout == "2 let in, 0 stay.\n"

    assert len(kept()) == 4
    with closing(SqliteJournal(journal_path(tmp_path))) as journal, closing(SqliteStore(store_path(tmp_path))) as store:
        fold = Fold(journal, store)
        fold.step()
        assert (fold.progress.tally.folded, fold.progress.tally.duplicate) == (2, 2)
    assert len(lines(landed("list", "--data", tmp_path, "--json"))) == 2


def test_accept_lets_one_in_unverified_with_the_name_of_who_did(quarantine, hold, kept):
    hold(status("a", None), status("b", None))
    run = quarantine("accept", "1", "--yes", LOGNAME="alex")
    assert (run.returncode, run.stdout) == (0, "Request 1 is let in, unverified.\n")
    (logged,) = (json.loads(line) for line in run.stderr.splitlines())
    assert (logged["event"], logged["id"], logged["by"]) == ("quarantine.accepted", 1, "alex")

    (record,) = kept()
    assert (record.accepted_by, record.verified, record.coverage, record.account) == (
        *("alex", False),
        *("nothing", "default"),
    )
    assert (record.received_us, json.loads(record.body)["message_uuid"]) == (NOON_US, "a")
    assert [each["id"] for each in lines(quarantine("list", "--json"))] == [2]


@pytest.mark.parametrize("command", [["accept", "1"], ["drop", "1"], ["drop", "--all"]], ids=" ".join)
def test_without_a_persons_word_nothing_is_done(quarantine, hold, kept, command):
    hold(status("a"))
    run = quarantine(*command)
    assert (run.returncode, run.stdout) == (2, "")
    assert "--yes" in run.stderr
    assert (len(lines(quarantine("list", "--json"))), kept()) == (1, [])


def test_drop_drops_one_or_all(quarantine, hold):
    hold(*(status(f"m{number}") for number in range(450)))
    assert quarantine("drop", "7", "--yes").stdout == "1 dropped.\n"
    assert quarantine("drop", "--all", "--yes").stdout == "449 dropped.\n"
    assert quarantine("list").stdout == "Nothing is in quarantine.\n"


@pytest.mark.parametrize("command", [["drop", "--yes"], ["drop", "1", "--all", "--yes"]], ids=" ".join)
def test_drop_needs_one_or_all(quarantine, command):
    assert quarantine(*command).returncode == 2


def test_gates_keep_on_while_all_is_judged_again(quarantine, hold, kept, tmp_path):
    answers = []

    def keep_on():
        for number in range(100):
            (answer,) = hold(status(f"m{number}"))
            answers.append((f"m{number}", answer))

    hold(*(status(f"before-{number}") for number in range(300)))
    gates = [threading.Thread(target=keep_on) for _ in range(2)]
    for gate in gates:
        gate.start()
    while any(gate.is_alive() for gate in gates):
        assert quarantine("recheck").returncode == 0
    for gate in gates:
        gate.join()
    quarantine("recheck")

    assert {answer for _, answer in answers} <= {401, 503}
    names = {json.loads(record.body)["message_uuid"] for record in kept()}
    assert {f"before-{number}" for number in range(300)} <= names
    assert {name for name, answer in answers if answer == 401} <= names
    assert quarantine("list").stdout == "Nothing is in quarantine.\n"
    with closing(SqliteQuarantine(quarantine_path(tmp_path), only_read=True)) as held:
        assert (held.totals().rows, held.totals().bytes) == (0, 0)


@pytest.mark.parametrize("command", ["list", "show", "recheck", "accept", "drop"])
def test_each_command_explains_itself_with_an_example(landed, command):
    assert f"Example: landed quarantine {command}" in landed("quarantine", command, "--help").stdout
