"""A sync that fails: no 2xx follows it, its commit is never tried again, and nothing answered 2xx is lost."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing, contextmanager

import pytest

from landed import run
from landed.journal.record import Ids, SentRecord, decode
from landed.journal.sqlite import FILE, SqliteJournal

# It wants the machine for itself.
pytestmark = pytest.mark.alone


JOURNAL_LOG = "/journal.db-wal"
SECONDS_MAX = 40
SENT = 12_000
PAGE_BYTES = 4_096
IDS = Ids()


def test_after_a_failed_sync_the_gate_ends_and_a_new_one_takes_over_when_the_fault_is_gone(
    start, faults, traffic, until
):
    landed = start(**faults.environment)
    gate = landed.children()["gate"]
    with traffic(landed.port) as sending:
        sending.goes_on()
        with faults.failing(JOURNAL_LOG):
            until(lambda: gate in faults.happened("eio"))
            # By now each client has seen it.
            until(lambda: sending.answers[503] + sending.answers[0] > 20)
            answered = set(sending.answered)
            until(lambda: landed.children().get("gate") not in (gate, None))
            sending.until(503)
            assert landed.health() == 503
            assert sending.answered == answered
        sending.goes_on()

    assert set(sending.answers) <= {200, 204, 503, 0}
    assert sending.unsaid == 0
    # That very commit was never tried again.
    assert Counter(faults.happened("eio"))[gate] == 1
    assert landed.process.poll() is None
    landed.holds(sending.answered)
    landed.leaves()


def test_after_a_failed_sync_of_the_quarantine_nothing_is_answered_401_that_was_not_kept(start, faults, until):
    landed = start(**faults.environment)
    gate = landed.children()["gate"]
    assert landed.forged("kept") == 401
    with faults.failing("/quarantine.db-wal"):
        assert landed.forged("not kept") == 503
        until(lambda: landed.children().get("gate") not in (gate, None))
        assert landed.forged("not kept") == 503
    until(lambda: landed.forged("kept again") == 401)

    assert landed.status("signed") == 200
    assert Counter(faults.happened("eio"))[gate] == 1
    landed.holds({"signed"})
    landed.leaves()


def _sent(number):
    return SentRecord(
        id=IDS.next(),
        at_us=number,
        account="default",
        message_id=f"sent-{number}",
        api="messages",
        channel="sms",
        to=None,
        sender=None,
        client_ref=None,
        sent_us=number,
    )


def test_a_sync_of_the_journal_that_fails_for_the_worker_starts_the_worker_again_alone(start, faults, traffic, until):
    landed = start(**faults.environment)
    before = landed.children()
    with traffic(landed.port) as sending:
        with faults.failing("/journal.db"):
            until(lambda: before["worker"] in faults.happened("eio"))
            until(lambda: landed.children().get("worker") not in (before["worker"], None))
            sending.goes_on()
        until(lambda: landed.health(landed.private_port) == 200)

    assert set(sending.answers) <= {200, 204}
    assert landed.children()["gate"] == before["gate"]
    landed.holds(sending.answered)
    landed.leaves()


def test_a_sync_of_the_store_that_fails_holds_up_nothing(start, faults, traffic, until):
    landed = start(**faults.environment)
    before = landed.children()
    # Enough for the store to move what it wrote ahead into its file, which is when it syncs that.
    run.record(landed.data, [_sent(number) for number in range(SENT)])
    with traffic(landed.port) as sending, faults.failing("/store.db"):
        until(lambda: before["worker"] in faults.happened("eio"))
        sending.goes_on(100)
        until(lambda: landed.waiting() < 100)

    assert set(sending.answers) <= {200, 204}
    assert landed.children()["gate"] == before["gate"]
    landed.holds(sending.answered, sent=SENT)
    landed.leaves()


@pytest.mark.parametrize("beside", [True, False], ids=["beside-a-worker", "alone"])
def test_a_gate_that_is_killed_between_sync_and_answer_has_folded_once_what_is_sent_again(start, faults, until, beside):
    landed = start(**faults.environment)
    children = landed.children()
    until(lambda: landed.ticks() and landed.waiting() == 0)
    # So that nobody begins the log anew, which takes a sync of its own.
    os.kill(children["worker"], signal.SIGSTOP)
    if not beside:
        landed.process.send_signal(signal.SIGSTOP)
        os.kill(children["worker"], signal.SIGKILL)
    assert landed.status("m0") == 200
    faults.kill_after_sync(JOURNAL_LOG, children["gate"])
    assert landed.status("m1") == 0
    assert faults.happened("kill") == [children["gate"]]
    if not beside:
        landed.end()
        landed = start()
    until(lambda: landed.health() == 200)
    assert landed.status("m1") == 200
    if beside:
        os.kill(children["worker"], signal.SIGCONT)

    # Whoever opens the journal first takes all that is on disk; for one who had it open all the while a
    # commit is what its writer lived to announce, and the next one takes the place of the other.
    landed.holds({"m0", "m1"}, duplicates=0 if beside else 1)
    landed.leaves()


def test_after_a_failed_sync_an_application_answers_503_until_it_starts_again(start_application, faults):
    application = start_application(**faults.environment)
    assert application.status("before") == 200
    with faults.failing(JOURNAL_LOG):
        assert application.status("while") == 503
    assert [application.status("after"), application.health()] == [503, 503]
    # What is the application's own goes on; this page says that it cannot send.
    assert application.own() == 503
    assert faults.happened("eio") == [application.process.pid]
    assert "journal.broken" in application.said
    application.end()
    application = start_application()

    assert [application.status("after"), application.health()] == [200, 200]
    with closing(SqliteJournal(application.data / FILE)) as journal:
        kept = [json.loads(decode(data).body)["message_uuid"] for _, data in journal.read(0, 100)]
    # What was on its way when the sync failed may be there or not.
    assert [message_id for message_id in kept if message_id != "while"] == ["before", "after"]


# Appends, waits for a word, appends again, and ends as if the power were cut.
APPEND = """
import os, sys
from pathlib import Path
from landed.errors import JournalBroken
from landed.journal.sqlite import SqliteJournal
journal = SqliteJournal(Path(sys.argv[1]))
journal.append([b"first of " + sys.argv[2].encode()])
print("open", flush=True)
sys.stdin.readline()
try:
    journal.append([sys.argv[2].encode()])
except JournalBroken:
    print("broken", flush=True)
else:
    print("kept", flush=True)
os.kill(os.getpid(), 9)
"""


@contextmanager
def _appending(path, what, environment):
    """A process that has appended to the journal and waits."""
    arguments = [sys.executable, "-c", APPEND, str(path), what]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        assert process.stdout.readline() == "open\n"
        yield process


def _become(process):
    """Let it append; what became of that."""
    return process.communicate("go on\n", SECONDS_MAX)[0].strip()


def test_what_follows_a_failed_sync_does_not_hang_on_bytes_that_never_reached_the_disk(faults, tmp_path):
    """The kernel takes what it could not write for clean: to a new process it looks as if it were there."""
    path, log = tmp_path / FILE, tmp_path / f"{FILE}-wal"
    with _appending(path, "one", {}) as one:
        assert _become(one) == "kept"
    with _appending(path, "two", faults.environment) as two, faults.failing(JOURNAL_LOG):
        before = log.read_bytes()
        assert _become(two) == "broken"
    seen = log.read_bytes()
    with _appending(path, "three", {}) as three:
        assert _become(three) == "kept"

    assert seen != before
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / path.name).write_bytes(path.read_bytes())
    (cut / log.name).write_bytes(_on_disk(before, seen, log.read_bytes()))
    with closing(SqliteJournal(cut / path.name)) as journal:
        kept = {data.decode() for _, data in journal.read(0, 10)}
    assert {"first of one", "one", "first of two", "first of three", "three"} <= kept


def _on_disk(before, seen, after):
    """What is there after a power cut: of what the failed sync should have written only what was written anew."""
    pages = range(0, len(after), PAGE_BYTES)
    return b"".join(
        before[at : at + PAGE_BYTES].ljust(PAGE_BYTES, b"\0")
        if after[at : at + PAGE_BYTES] == seen[at : at + PAGE_BYTES]
        else after[at : at + PAGE_BYTES]
        for at in pages
    )
