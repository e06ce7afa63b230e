"""Every limit of the public port: what a client gets that goes beyond it, and that others do not notice."""

import select
import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

from landed.gate import http

HOST = b"Host: a\r\n"
GOOD = b"GET /webhooks/delivery-receipt?messageId=m&status=delivered HTTP/1.1\r\n" + HOST + b"\r\n"
UNKNOWN = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


def post(length, sent=b"", *fields):
    head = b"POST /webhooks/inbound-sms HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n" % length
    return head + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + sent


FLOODS = 20
SECONDS_MAX = 10


def is_at_rest(gate):
    return lambda: not gate.gate.connections and gate.gate.buffered_bytes == 0


def test_a_client_beyond_the_limit_of_connections_is_told_so_and_a_freed_place_is_taken(start):
    gate = start(connections_max=2)
    with gate.connect() as first, gate.connect() as second:
        for client in (first, second):
            client.send(GOOD)
            assert client.answer().status == 204
        (answer,) = gate.ask(GOOD)
        assert (answer.status, answer.headers[b"retry-after"]) == (503, b"5")
        second.socket.close()
        gate.wait_until(lambda: len(gate.gate.connections) == 1)
        assert gate.statuses(GOOD) == [204]
        first.send(GOOD)
        assert first.answer().status == 204


def test_a_crowd_beyond_the_limit_is_closed_at_once(start):
    gate = start(connections_max=1)
    crowd = [gate.connect() for _ in range(http.TURNED_AWAY_MAX + 20)]
    try:
        assert sum(client.answer() is None for client in crowd[1:]) >= 19
        gate.wait_until(lambda: len(gate.gate.connections) <= 1 + http.TURNED_AWAY_MAX)
    finally:
        for client in crowd:
            client.socket.close()
    gate.wait_until(is_at_rest(gate))
    assert gate.statuses(GOOD) == [204]


SLOW = 0.2


@pytest.fixture
def slow(start, monkeypatch):
    """A gate with little patience, which it looks after often."""
    monkeypatch.setattr(http, "SWEEP_SECONDS", SLOW / 4)
    return start(first_byte_seconds_max=SLOW, head_seconds_max=SLOW, request_seconds_max=SLOW, idle_seconds_max=SLOW)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"", None, id="silent"),
        pytest.param(b"\r\n\r\n", None, id="only-lines"),
        pytest.param(GOOD[:3], 408, id="half-a-method"),
        pytest.param(GOOD[:-2], 408, id="half-a-head"),
        pytest.param(post(10, b"a=b"), 408, id="half-a-body"),
        pytest.param(post(10, b"a=b", b"Expect: 100-continue"), 408, id="half-a-body-expecting"),
        pytest.param(GOOD, None, id="idle"),
        pytest.param(GOOD + GOOD[:20], 408, id="half-of-the-next"),
        pytest.param(GOOD + b"\r\n\r\n", None, id="idle-with-lines"),
    ],
)
def test_what_is_not_whole_in_time_is_ended(slow, sent, status):
    with slow.connect() as client:
        client.send(sent)
        statuses = [answer.status for answer in client.answers()]

    before = [204] * sent.count(GOOD) + [100] * (b"Expect" in sent)
    assert statuses == before + ([status] if status else [])


@pytest.mark.parametrize(
    ("before", "drop"),
    [
        pytest.param(b"", b"\r\n", id="lines"),
        pytest.param(GOOD[:-2], b"X: y\r\n", id="headers"),
        pytest.param(GOOD[:-2] + b"X: ", b"x", id="one-header"),
        pytest.param(post(100_000), b"x", id="body"),
        pytest.param(GOOD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", id="chunks"),
        pytest.param(GOOD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x", id="chunk-extension"),
    ],
)
def test_dripping_does_not_put_off_the_end(slow, before, drop):
    deadline = time.monotonic() + 5
    with slow.connect() as client:
        client.send(before)
        while not select.select([client.socket], [], [], 0.05)[0]:
            assert time.monotonic() < deadline
            client.send(drop)
        answer = client.answer()

    assert answer is None if not before else answer.status == 408


def test_a_client_that_does_not_read_its_answers_is_cut_off(start):
    gate = start(write_seconds_max=SLOW)
    with gate.connect() as client, pytest.raises(ConnectionError):
        client.send(UNKNOWN * 1_000_000)

    gate.wait_until(is_at_rest(gate))
    assert gate.statuses(GOOD) == [204]


def test_a_client_that_reads_a_byte_now_and_then_is_cut_off(start):
    gate = start(write_seconds_max=SLOW)
    with gate.connect() as client:
        client.socket.settimeout(SLOW / 10)
        with pytest.raises(ConnectionError):
            sip(client, time.monotonic() + SECONDS_MAX)

    gate.wait_until(is_at_rest(gate))
    assert gate.statuses(GOOD) == [204]


def sip(client, deadline):
    """Ask for far more than is read, as long as there is a connection."""
    while time.monotonic() < deadline:
        with suppress(TimeoutError):
            client.send(UNKNOWN * 10_000)
        client.socket.recv(1)


def test_what_unread_answers_and_unread_requests_take_is_counted_and_bounded(start):
    gate = start(buffered_bytes_max=300_000)
    clients = [gate.connect() for _ in range(12)]
    for client in clients:
        client.socket.settimeout(0)
    most = 0
    for _ in range(60):
        for client in clients:
            client.try_to_send(UNKNOWN * 5_000)
        most = max(most, gate.on_loop(lambda: gate.gate.buffered_bytes))
    assert 0 < most < 600_000
    for client in clients:
        client.socket.close()
    gate.wait_until(is_at_rest(gate))
    assert gate.statuses(GOOD) == [204]


def test_many_requests_at_once_are_all_answered_in_their_order(start):
    gate = start()
    pattern = [
        (GOOD, 204),
        (UNKNOWN, 404),
        (post(3, b"a=b"), 200),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    ]
    with gate.connect() as client:
        sender = threading.Thread(target=client.send, args=(b"".join(data for data, _ in pattern) * 3_000,))
        sender.start()
        got = [client.answer().status for _ in range(4 * 3_000)]
        sender.join()

    assert got == [status for _, status in pattern] * 3_000
    assert len(gate.kept()) == 6_000


def test_floods_leave_the_others_their_turn(start):
    gate = start()
    for _ in range(FLOODS):
        flood = gate.connect()
        flood.socket.settimeout(0)
        flood.try_to_send(UNKNOWN * 20_000)

    begun = time.monotonic()
    assert gate.statuses(GOOD) == [204]
    assert time.monotonic() - begun < 2


def test_requests_that_wait_for_one_commit_have_a_limit(start):
    gate = start(in_flight_max=3)

    answers = gate.ask(GOOD * 5)

    assert [answer.status for answer in answers] == [204, 204, 204, 503, 503]
    assert answers[-1].headers[b"retry-after"] == b"5"
    assert len(gate.kept()) == 3


def test_large_requests_do_not_gather_for_one_commit(start):
    gate = start(body_bytes_max=3_000_000)
    body = b"a=" + b"x" * 1_000_000

    with gate.connect() as client:
        for _ in range(3):
            client.send(post(len(body), body) * 6)
            assert [client.answer().status for _ in range(6)] == [200] * 6
    assert len(gate.kept()) == 18


def test_a_body_may_have_all_bytes_of_its_limit(start):
    gate = start(body_bytes_max=1_000)
    chunks = GOOD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1_000 + b"0\r\n\r\n"

    assert gate.statuses(post(1_000, b"x" * 1_000)) == [200]
    assert gate.statuses(post(1_001, b"x" * 1_001)) == [413]
    assert gate.statuses(chunks) == [204]
    assert gate.statuses(chunks.replace(b"0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n")) == [413]


@pytest.mark.parametrize(
    ("limits", "fits", "does_not", "status"),
    [
        pytest.param({"url_bytes_max": 20}, b"/webhooks/inbound-sm", b"/webhooks/inbound-sms", 414, id="url"),
        pytest.param({"header_count_max": 3}, HOST * 0 + b"X: y\r\n" * 2, b"X: y\r\n" * 3, 431, id="count"),
        pytest.param({"header_bytes_max": 109}, b"X: " + b"y" * 95, b"X: " + b"y" * 96, 431, id="bytes"),
    ],
)
def test_a_head_may_have_all_of_its_limit(start, limits, fits, does_not, status):
    def head(part):
        if part.startswith(b"/"):
            return b"GET " + part + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        return b"GET / HTTP/1.1\r\n" + HOST + part.rstrip() + b"\r\n\r\n"

    gate = start(**limits)

    assert gate.statuses(head(fits)) == [404]
    assert gate.statuses(head(does_not)) == [status]


@pytest.mark.parametrize("line", [b"X:\r\n", b"X: \r\n", b"X: y\r\n", b"X:  y  \r\n"])
def test_the_limit_of_a_head_is_the_same_in_pieces(start, line):
    data = b"GET / HTTP/1.1\r\n" + HOST + line * 20 + b"\r\n"
    seen = set()
    for bytes_max in range(100, 200, 5):
        gate = start(header_bytes_max=bytes_max)
        gate.holds_in_pieces(data, [data[:20], data[20:]])
        seen.update(gate.statuses(data))
    assert seen == {404, 431}


def test_unfinished_bodies_together_have_a_limit(start):
    gate = start(buffered_bytes_max=290_000)
    clients = [gate.connect() for _ in range(6)]
    for client in clients:
        client.send(post(200_000, b"x" * 100_000))
    gate.wait_until(lambda: sum(_refused(client) for client in clients) == 4)
    refused = [client for client in clients if _refused(client)]
    finishing, *others = [client for client in clients if client not in refused]
    assert {client.answer().status for client in refused} == {503}
    for client in refused + others:
        client.socket.close()
    gate.wait_until(lambda: len(gate.gate.connections) == 1)
    finishing.send(b"x" * 100_000)
    assert finishing.answer().status == 200
    finishing.socket.close()
    gate.wait_until(is_at_rest(gate))


def _refused(client):
    return bool(select.select([client.socket], [], [], 0)[0])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(post(1_000_000, b"x" * 1_000_000), 413, id="too-large"),
        pytest.param(b"POST / HTTP/1.1\r\n\r\n" + b"x" * 1_000_000, 400, id="malformed"),
        pytest.param(post(300_000, b"", b"Expect: 100-continue") + b"x" * 1_000_000, 413, id="expecting"),
    ],
)
def test_a_client_that_goes_on_sending_can_still_read_why_it_was_refused(shared, data, status):
    with shared.connect() as client:
        client.send(data)
        assert client.answer().status == status
        assert client.is_closed()


def test_a_client_that_will_not_leave_is_cut_off(start):
    gate = start()
    with gate.connect() as client:
        client.send(b"\x00")
        assert client.answer().status == 400
        assert client.is_closed()
        gate.wait_until(is_at_rest(gate))


def test_what_a_client_sent_whole_is_kept_though_it_is_gone(start):
    gate = start()
    with gate.connect() as client:
        client.send(GOOD)
    gate.wait_until(is_at_rest(gate))

    assert len(gate.kept()) == 1


def test_a_reset_leaves_nothing_behind(start):
    gate = start()
    for data in (b"", GOOD[:20], post(1_000, b"x" * 500), GOOD * 100, UNKNOWN * 1_000):
        for _ in range(20):
            with gate.connect() as client:
                client.send(data)
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gate.wait_until(is_at_rest(gate))

    assert gate.statuses(GOOD) == [204]
