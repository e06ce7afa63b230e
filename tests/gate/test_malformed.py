"""A thousand malformed requests, always the same ones, against one gate in a process of its own."""

import random
import subprocess

import pytest

REQUESTS = 1_000
A_HUNDRED = 100
GROWTH_KIB_MAX = 4 * 1024
ATTACK_KIB_MAX = 96 * 1024

HOST = b"Host: a\r\n"
GOOD = b"GET /webhooks/delivery-receipt?messageId=m&status=delivered HTTP/1.1\r\n" + HOST + b"\r\n"
BODY = b'{"message_uuid":"u","to":"1","from":"2","channel":"sms","status":"delivered","price":"0.1"}'
POST = (
    b"POST /webhooks/message-status HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
CHUNKED = (
    b"POST /webhooks/inbound-message HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    b"10;a=b\r\n" + BODY[:16] + b"\r\n3\r\nx&y\r\n0\r\nX-Sum: 1\r\n\r\n"
)
UPGRADE = POST.replace(HOST, HOST + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n")
VALID = (GOOD, POST, CHUNKED, UPGRADE, GOOD + POST + CHUNKED)
SOUP = (
    b"GET ", b"POST ", b"PRI * HTTP/2.0", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r",
    b" ", b"\t", b":", b"\0", b"\xff", b";", b"%", b"/webhooks/inbound-sms", b"?a=b", b"http://", b"Host: a\r\n",
    b"Host: b\r\n", b"Content-Length: ", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n", b"Connection: Upgrade\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n",
    b"Expect: x\r\n", b"X: y\r\n z\r\n", b"X : y\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n",
    b"CONNECT a:1", b"A" * 9_000, b"X: y\r\n" * 65, b"{", b"[" * 300, b"&" * 600, b"\x16\x03\x01\x02\x00\x01",
)  # fmt: skip


def truncated(chance, data):
    return data[: chance.randrange(len(data))]


def flipped(chance, data):
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def spliced(chance, data):
    at = chance.randrange(len(data))
    return data[:at] + chance.choice(SOUP) + data[at + chance.randint(0, 6) :]


def crossed(chance, data):
    other = chance.choice(VALID)
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


def noise(chance, _data):
    return chance.randbytes(chance.randint(1, 2_000))


def soup(chance, _data):
    return b"".join(chance.choices(SOUP, k=chance.randint(1, 20)))


def soup_of_headers(chance, _data):
    fields = b"".join(chance.choices([part for part in SOUP if part.endswith(b"\r\n")], k=chance.randint(1, 8)))
    return b"POST /webhooks/inbound-sms HTTP/1.1\r\n" + HOST + fields + b"\r\n" + chance.choice((b"", BODY, CHUNKED))


WAYS = (truncated, flipped, spliced, crossed, noise, soup, soup_of_headers)


def malformed(number):
    chance = random.Random(number)  # noqa: S311 - the same ones each time
    return WAYS[number % len(WAYS)](chance, chance.choice(VALID))


def rss_kib(process):
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(process.pid)], capture_output=True, check=True)  # noqa: S607
    return int(shown.stdout)


def rubbish(client, port, data):
    """The statuses of what was answered, each a well-formed answer until the gate closes."""
    with client(port) as one:
        one.send_all(data)
        return [answer.status for answer in one.answers()]


def test_a_thousand_malformed_requests_are_answered_or_closed_and_leave_nothing_behind(tmp_path, start_process, client):
    with start_process(tmp_path / "journal.db") as (process, port):
        seen = set()
        for number in range(REQUESTS, REQUESTS + 3 * A_HUNDRED):
            rubbish(client, port, malformed(number))
        warm_kib = rss_kib(process)
        for number in range(REQUESTS):
            statuses = rubbish(client, port, malformed(number))
            assert all(status < 500 for status in statuses), (number, statuses)
            seen.update(statuses)
            if number % A_HUNDRED == A_HUNDRED - 1:
                assert rubbish(client, port, GOOD) == [204]
        grown_kib = rss_kib(process) - warm_kib

    assert seen >= {100, 200, 204, 400, 404, 405, 431}
    assert grown_kib < GROWTH_KIB_MAX


def test_a_thousand_malformed_requests_are_answered_alike_in_pieces(shared):
    for number in range(REQUESTS):
        data = malformed(number)
        chance = random.Random(number)  # noqa: S311 - the same ones each time
        ends = [*sorted(chance.choices(range(len(data) + 1), k=chance.randint(1, 6))), len(data)]
        pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        shared.holds_in_pieces(data, pieces)


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(POST[: -len(BODY)].replace(b": %d" % len(BODY), b": 262144") + b"x" * 262_143, id="bodies"),
        pytest.param(CHUNKED[: CHUNKED.index(b"10;")] + b"2\r\nab\r\n" * 131_072, id="chunks-of-two-bytes"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 40_000, id="unread-answers"),
        pytest.param(GOOD[:-2] + b"X: y\r\n" * 62, id="headers"),
        pytest.param(GOOD[:-2] + b"X: " + b"y" * 16_000, id="one-header"),
    ],
)
def test_what_a_crowd_leaves_unfinished_takes_no_more_than_was_said(tmp_path, start_process, client, attack):
    with start_process(tmp_path / "journal.db", buffered_bytes_max=16 * 1024 * 1024) as (process, port):
        rubbish(client, port, GOOD)
        before_kib = rss_kib(process)
        crowd = [client(port) for _ in range(40)]
        for one in crowd:
            one.socket.settimeout(0.2)
            one.try_to_send(attack)
        # Its answer comes when the gate has read what came before.
        assert rubbish(client, port, GOOD) == [204]
        assert rss_kib(process) - before_kib < ATTACK_KIB_MAX
        for one in crowd:
            one.socket.close()
        assert rubbish(client, port, GOOD) == [204]
