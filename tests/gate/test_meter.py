"""The meter: figures of many processes, through restarts, kills, forks and bad files."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
import time
import zlib
from contextlib import closing
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landed.errors import BadSignature
from landed.gate.judge import REPEATED, SPARED, TOO_LARGE, Keep, Verdict
from landed.gate.meter import (
    BATCH_BOUNDS,
    HALF_BYTES,
    TIME_BOUNDS_US,
    UNJUDGED,
    Histogram,
    Meter,
    figures_in,
)
from landed.vonage.signing import Coverage, Trust

OK, GONE, BUSY = HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE
REASONS = ("missing", "malformed", "algorithm", "issuer", "wrong", "body", "account", "uncovered", "address", TOO_LARGE)
# A process that counts one request after the other and writes each down, until it is killed.
COUNTING = """
import sys
from http import HTTPStatus
from pathlib import Path
from landed.gate.meter import Meter
meter = Meter(Path(sys.argv[1]))
while True:
    meter.refused(HTTPStatus.NOT_FOUND)
    meter.write()
    print(flush=True)
"""
FORKING = """
import os, sys
from http import HTTPStatus
from pathlib import Path
from landed.gate.meter import Meter
meter = Meter(Path(sys.argv[1]))
meter.count_for("e")
meter.wrote("journal", 5, 1)
meter.write()
child = os.fork()
meter.wrote("journal", 1 if child else 2, 1)
meter.write()
if child:
    os.waitpid(child, 0)
    meter.wrote("journal", 1, 1)
    meter.write()
os._exit(0)
"""


def verdict(*, verified=True, stale=False, reason=""):
    trust = Trust(coverage=Coverage.BODY, verified=verified, stale=stale, api_key=None)
    return Verdict(answer=OK, keep=Keep.JOURNAL, trust=trust, reason=reason)


def checked(text):
    return b"%08x %s\n" % (zlib.crc32(text), text)


def refusals(data):
    return figures_in(data).requests.get((UNJUDGED, "404"), 0)


def test_requests_are_counted_by_verdict_and_answer(tmp_path):
    meter = Meter(tmp_path)
    rows = [
        (verdict(), OK),
        (verdict(), OK),
        (verdict(), BUSY),
        (verdict(stale=True), OK),
        (verdict(verified=False), HTTPStatus.NO_CONTENT),
        (verdict(verified=False, reason="wrong"), HTTPStatus.UNAUTHORIZED),
    ]
    meter.answered([each for each, _ in rows], [answer for _, answer in rows], range(100, 700, 100), 1_100)
    meter.answered([verdict(), verdict()], [OK, OK], [5_000, 1_000], 2_000)
    meter.refused(BUSY, "rate", 7)
    meter.refused(GONE)
    meter.write()
    gates = figures_in(tmp_path)
    assert gates.requests == {
        ("verified", "200"): 4,
        ("verified", "503"): 1,
        ("stale", "200"): 1,
        ("unverified", "204"): 1,
        ("wrong", "401"): 1,
        ("rate", "503"): 7,
        ("unjudged", "404"): 1,
    }
    assert dict(gates.sums.batches.upto(BATCH_BOUNDS))[2] == 1
    assert dict(gates.sums.batches.upto(BATCH_BOUNDS))[8] == 2
    # A clock that was set back between the two makes no answer that took less than nothing.
    assert gates.sums.answers_us.sum == 1_000 + 900 + 800 + 700 + 600 + 500 + 0 + 1_000
    assert dict(gates.sums.answers_us.upto(TIME_BOUNDS_US))[500] == 2


@given(st.lists(st.integers(0, 60_000_000), min_size=1, max_size=200))
def test_values_counted_together_are_counted_as_one_by_one(values):
    together, singly = Histogram.over(TIME_BOUNDS_US), Histogram.over(TIME_BOUNDS_US)
    together.add_all(TIME_BOUNDS_US, sorted(values))
    for value in values:
        singly.add(TIME_BOUNDS_US, value)
    assert together == singly
    assert together.upto(TIME_BOUNDS_US) == [
        *((bound, sum(value <= bound for value in values)) for bound in TIME_BOUNDS_US),
        (None, len(values)),
    ]


def test_several_processes_add_up_and_those_at_work_are_known(tmp_path):
    one, other, mount = Meter(tmp_path), Meter(tmp_path), Meter(tmp_path, "mount")
    for meter in (one, other, mount):
        meter.refused(GONE)
        meter.write()
    assert refusals(tmp_path) == 3
    assert (figures_in(tmp_path).serving, figures_in(tmp_path).mounted) == (2, 1)
    other.close()
    assert refusals(tmp_path) == 3
    assert (figures_in(tmp_path).serving, figures_in(tmp_path).mounted) == (1, 1)


def test_whoever_starts_again_counts_on_in_the_same_file(tmp_path):
    for count in range(1, 30):
        with closing(Meter(tmp_path)) as meter:
            meter.refused(GONE)
            meter.write()
            assert refusals(tmp_path) == count
    assert [file.name for file in tmp_path.iterdir()] == ["gate-0.figures"]


def test_a_mount_after_a_gate_does_not_hide_that_there_was_one(tmp_path):
    Meter(tmp_path).close()
    meter = Meter(tmp_path, "mount")
    meter.write()
    gates = figures_in(tmp_path)
    assert (gates.serving, gates.mounted, gates.sums.was_served) == (0, 1, True)


def test_figures_do_not_run_backwards_when_a_gate_is_killed_at_any_moment(tmp_path):
    seen = 0
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", COUNTING, tmp_path], stdout=subprocess.PIPE) as process:
            for _ in range(20):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            written = 20 + len(process.stdout.read().splitlines())
        assert seen + written <= refusals(tmp_path) <= seen + written + 1
        seen = refusals(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_fork_s_child_counts_for_itself(tmp_path):
    subprocess.run([sys.executable, "-c", FORKING, tmp_path], check=True)
    assert figures_in(tmp_path).kept_in == {"e": 5 + 1 + 2 + 1}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_half_that_was_written_in_part_leaves_the_other(tmp_path):
    meter = Meter(tmp_path)
    file = tmp_path / "gate-0.figures"
    for _ in range(2):
        meter.refused(GONE)
        meter.write()
    whole = bytearray(file.read_bytes())
    for torn in range(1, 60):
        # The second write went to the first half.
        file.write_bytes(whole[:torn] + b"\0" * (HALF_BYTES - torn) + whole[HALF_BYTES:])
        assert refusals(tmp_path) == 1


def test_a_file_of_that_form_is_counted(tmp_path):
    (tmp_path / "gate-0.figures").write_bytes(checked(b'{"requests":{"unjudged 404":9}}'))
    assert refusals(tmp_path) == 9


@pytest.mark.parametrize(
    "there",
    [
        b"",
        b"\xff" * 2 * HALF_BYTES,
        b'{"requests":{"unjudged 404":9}}\n',
        checked(b""),
        checked(b'{"version":2,"requests":{"unjudged 404":9}}'),
        checked(b'{"requests":{"unjudged 404":9},"batches":[[9],9]}'),
        checked(b'{"requests":{"unjudged 404":9},"kept":{}}'),
        checked(b'{"requests":{"unjudged 404":"9"}}'),
    ],
    ids=["empty", "noise", "no checksum", "nothing", "another version", "fewer buckets", "too little", "other types"],
)
def test_a_file_that_is_no_good_is_counted_as_nothing_and_used(tmp_path, there):
    (tmp_path / "gate-0.figures").write_bytes(there)
    assert refusals(tmp_path) == 0
    meter = Meter(tmp_path)
    meter.refused(GONE)
    meter.write()
    assert refusals(tmp_path) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_has_its_room_on_the_disk_from_the_beginning(tmp_path):
    meter = Meter(tmp_path)
    meter.write()
    before = (tmp_path / "gate-0.figures").stat()
    assert before.st_blocks * 512 >= before.st_size == 2 * HALF_BYTES
    for _ in range(10):
        meter.refused(GONE)
        meter.write()
    after = (tmp_path / "gate-0.figures").stat()
    assert (after.st_size, after.st_blocks) == (before.st_size, before.st_blocks)


def test_all_that_can_be_counted_has_room_in_its_half(tmp_path):
    meter = Meter(tmp_path)
    many = 10**15
    for word in (*REASONS, "verified", "stale", "unverified", "unjudged", "health", "probe", "rate", REPEATED, SPARED):
        for answer in (OK, HTTPStatus.NO_CONTENT, HTTPStatus.UNAUTHORIZED, BUSY, GONE, HTTPStatus.CONTINUE):
            meter.refused(answer, word, many)
    for name in ("journal", "quarantine"):
        meter.wrote(name, many, many)
    meter.write()
    assert figures_in(tmp_path).sums.unwritten == 0
    assert figures_in(tmp_path).requests["wrong", "401"] == many


def test_the_words_for_what_is_wrong_are_those_of_bad_signature():
    assert all(f"`{word}`" in BadSignature.__doc__ for word in REASONS[:8])


def test_what_cannot_be_written_hurts_nobody_and_is_written_later(tmp_path):
    data = tmp_path / "data"
    meter = Meter(data)
    meter.refused(GONE)
    meter.write()
    data.mkdir()
    # The disk refuses to let a file grow.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        meter.refused(GONE)
        meter.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refusals(data) == 0
    meter.write()
    assert refusals(data) == 2
    assert figures_in(data).sums.unwritten == 2


def test_a_data_directory_put_in_the_place_of_another_gets_the_figures(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    meter = Meter(data)
    meter.refused(GONE)
    meter.write()
    data.rename(tmp_path / "old")
    data.mkdir()
    meter.write()
    assert refusals(data) == 1


def test_requests_kept_in_another_journal_are_not_counted_with_those_of_this_one(tmp_path):
    with closing(Meter(tmp_path)) as old:
        old.count_for("old")
        old.wrote("journal", 5, 1)
        old.wrote("quarantine", 2, 1)
    with closing(Meter(tmp_path)) as restarted:
        # Before it knows its journal, which must forget nothing.
        restarted.write()
        restarted.count_for("old")
        restarted.wrote("journal", 1, 1)
        restarted.write()
        assert figures_in(tmp_path).kept_in == {"old": 6}
        restarted.count_for("new")
        restarted.wrote("journal", 3, 1)
        restarted.write()
    assert figures_in(tmp_path).kept_in == {"new": 3}
    assert figures_in(tmp_path).sums.kept["quarantine"] == 2


def test_threads_lose_no_count(tmp_path):
    meter = Meter(tmp_path)

    def count():
        for _ in range(500):
            meter.refused(GONE)
            meter.answered([verdict()], [OK], [1], 2)
            meter.write_soon()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    meter.close()
    assert figures_in(tmp_path).requests == {("unjudged", "404"): 2_000, ("verified", "200"): 2_000}


def test_what_was_counted_last_is_written_without_another_request(tmp_path):
    meter = Meter(tmp_path)
    for _ in range(3):
        meter.refused(GONE)
        meter.write_soon()
    assert refusals(tmp_path) == 1
    deadline = time.monotonic() + 10
    while refusals(tmp_path) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert refusals(tmp_path) == 3
    meter.close()
