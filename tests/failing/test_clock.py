"""A clock that jumps by hours, both ways: nothing is lost, and no time limit is fooled."""

import json
import socket
from urllib.parse import parse_qs

import pytest

from landed.journal.record import RequestRecord

# It wants the machine for itself.
pytestmark = pytest.mark.alone


HOUR_US = 3_600 * 1_000_000
ONE_A_SECOND = {"LANDED_LIMITS__UNVERIFIED_PER_SECOND_MAX": "1", "LANDED_LIMITS__UNVERIFIED_BURST_MAX": "2"}
STATUS, RECEIPT = "/webhooks/message-status", "/webhooks/delivery-receipt"
BOTH = {STATUS, RECEIPT}
HEAD_SECONDS = 10
HEAD = b"GET /healthz HTTP/1.1\r\nHost: h\r\n"


def test_what_comes_while_the_clock_jumps_is_kept_and_only_flagged_stale(start, faults, traffic):
    landed = start(**faults.environment)
    children = landed.children()
    # How far the clock is ahead, in hours, and whose signatures are then outside their windows.
    jumps = {0: set(), 6: set(), -6: BOTH, 30: {STATUS}, -30: BOTH, 80: BOTH, 1: set()}
    with traffic(landed.port) as sending:
        for hours in jumps:
            faults.move_clock(hours)
            sending.goes_on()
            assert (landed.status(f"of {hours}"), landed.receipt(f"of {hours}")) == (200, 204)

    assert set(sending.answers) <= {200, 204}
    assert landed.children() == children
    requests = [record for record in landed.records() if isinstance(record, RequestRecord)]
    assert all(record.verified for record in requests)
    of = {hours: [record for record in requests if _is_of(record, hours)] for hours in jumps}
    assert {hours: {record.path for record in of[hours] if record.stale} for hours in jumps} == jumps
    twice = {f"of {hours}" for hours in jumps}
    landed.holds(sending.answered | twice, twice=twice)
    landed.leaves()


def test_ticks_go_on_though_the_clock_was_set_back(start, faults, until):
    landed = start(**faults.environment)
    gate = landed.children()["gate"]
    (first,) = until(landed.ticks)
    faults.move_clock(-6)
    faults.let_pass(31, gate)
    until(lambda: len(landed.ticks()) == 2)
    faults.move_clock(6)
    faults.let_pass(62, gate)
    until(lambda: len(landed.ticks()) == 3)

    assert [round((tick.at_us - first.at_us) / HOUR_US) for tick in landed.ticks()] == [0, -6, 6]
    until(lambda: landed.waiting() == 0)
    landed.leaves()


@pytest.mark.parametrize("hours", [6, -6])
def test_a_jump_neither_ends_the_rate_of_what_is_not_trusted_nor_its_refill(start, faults, until, hours):
    landed = start(**faults.environment, **ONE_A_SECOND)
    until(lambda: landed.forged("forged") == 503)
    faults.move_clock(hours)
    answers = [landed.forged("forged") for _ in range(12)]
    assert answers.count(401) <= 4
    assert answers[-1] == 503
    until(lambda: landed.forged("forged") == 401)
    assert landed.status("signed") == 200

    landed.holds({"signed"})
    landed.leaves()


@pytest.mark.parametrize("hours", [6, -6])
def test_a_jump_neither_cuts_off_a_slow_client_nor_lets_it_stay(start, faults, hours):
    landed = start(**faults.environment, LANDED_LIMITS__FIRST_BYTE_SECONDS_MAX="2")
    gate = landed.children()["gate"]
    with _connected(landed) as slow, _connected(landed) as slower, _connected(landed) as silent:
        slow.sendall(HEAD)
        slower.sendall(HEAD)
        faults.move_clock(hours)
        faults.let_pass(HEAD_SECONDS - 5, gate)
        # With this one's end the gate has looked at them all.
        assert _is_cut_off(silent)
        slow.sendall(b"\r\n")
        assert slow.recv(4_096).startswith(b"HTTP/1.1 200 ")
        faults.let_pass(HEAD_SECONDS + 5, gate)
        assert slower.recv(4_096).startswith(b"HTTP/1.1 408 ")
    landed.leaves()


def _connected(landed):
    return socket.create_connection(("127.0.0.1", landed.port), timeout=20)


def _is_cut_off(client):
    try:
        return client.recv(4_096) == b""
    except ConnectionResetError:
        return True


def _is_of(record, hours):
    body = record.body.decode()
    words = parse_qs(body)["messageId"] if record.path == RECEIPT else json.loads(body).values()
    return f"of {hours}" in words
