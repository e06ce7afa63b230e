"""Requests made of good, awkward and malformed parts: how they are cut on their way changes nothing."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

# No more than a connection can be asked in some milliseconds.
REQUESTS_MAX = 4
HEADERS_MAX = 24
PIECES_MAX = 40

METHODS = [b"GET", b"POST", b"HEAD"]
TARGETS = [
    b"/webhooks/message-status", b"/webhooks/inbound-sms?a=b", b"//webhooks/inbound-sms/?a=b", b"/healthz", b"/",
    b"/webhooks/delivery%2Dreceipt?a=b", b"http://a/webhooks/inbound-sms?a=b", b"/webhooks/inbound-sms?" + b"x" * 60,
    b'/webhooks/inbound-sms?a=%zz&&"<>{}|^`~', b"/webhooks/inbound-sms?a?b", b"/webhooks/inbound-sms#c?a=b", b"*",
    b"/webhooks/inbound-sms?a=b#c", b"/webhooks/inbound-sms?a=\\b", b"?a=b", b"a:80", b"/\xe9", b"/a b", b"/\x7f", b"",
]  # fmt: skip
VERSIONS = [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.1 ", b"http/1.1", b"HTTP/1", b""]
FIELDS = [
    b"X: y", b"X:", b"x:y", b"X: ", b"X:y  ", b"X:\ty\t", b"X: \xff", b"X: y: z", b"X-Y_Z.!#$%&'*+^`|~: y",
    b"Authorization: Bearer a.b.c", b"Content-Type: application/json", b"Connection: keep-alive", b"Keep-Alive: 5",
    b"Connection: close", b"Connection: Keep-Alive, x", b"Connection: Upgrade", b"Upgrade: h2c", b"TE: trailers",
    b"Expect: 100-continue", b"Expect: x", b"Trailer: X", b"Proxy-Connection: close", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip", b"Content-Length: 0", b"Content-Length: 3", b"Content-Length: +3", b"Content-Length:",
    b"content-length: 3, 3", b"Content-Length: 003", b"Content-Length: 9999999999", b"Content-Length: 101",
    b"Host: a", b"Host:", b"Host: a b", b"Host: a/b", b"X : y", b"X\t: y", b" X: y", b"\tX: y", b"X", b": y", b"",
    b"X: \x00", b"X: \x7f", b"X: \x0b", b"X\xff: y", b"X: a\rb", b"X: a\nb", b"X(y): z", b"X\x00: y",
]  # fmt: skip
BODIES = [b"", b"a=b", b'{"a":"b"}', b" \r\n", b"\r\n\r\n", b"x" * 100, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
ENDS = [b"\n", b"\r", b"\r\r\n", b" \r\n", b""]
RUBBISH = [b"\r\n", b"\n", b"\r", b" ", b"\0", b":", b"0", b"\xff", b"GET ", b"\r\n\r\n", b"HTTP/1.1", b"%", b";"]
HEAD_OF_MANY = b"GET /?a HTTP/1.1\r\nHost: a\r\n" + b"X:\r\n" * 20 + b"\r\n"
TWO = b"GET /webhooks/inbound-sms?a=b HTTP/1.1\r\nHost: a\r\n\r\n" * 2


def mostly(usual, *others):
    """The usual, but for one time in eight."""
    return st.integers(0, 7).flatmap(lambda turn: st.sampled_from(others) if turn == 0 else st.just(usual))


def chunks(body, size, extension):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n\r\n"


@st.composite
def requests(draw):
    """One request, usually as it should be."""
    body = draw(st.sampled_from(BODIES))
    framing = draw(mostly(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked", b"X: none"))
    fields = [draw(mostly(b"Host: a", b"Host: b:80", b"HOST:a", b"X: no host")), framing]
    fields += draw(st.lists(st.sampled_from(FIELDS[:11]), max_size=HEADERS_MAX))
    fields += draw(mostly([], *([field] for field in FIELDS[11:])))
    fields = draw(st.permutations(fields))
    if framing.endswith(b"chunked"):
        body = chunks(body, draw(st.integers(1, 40)), draw(mostly(b"", b";a=b", b' ; a="b"', b";a=\x01", b" ")))
    target = draw(mostly(draw(st.sampled_from(TARGETS[:2])), *TARGETS[2:]))
    first = b" ".join([draw(st.sampled_from(METHODS)), target, draw(mostly(b"HTTP/1.1", *VERSIONS))])
    end = draw(mostly(b"\r\n", *ENDS))
    return end.join([first, *fields, b""]) + draw(mostly(b"\r\n", *ENDS)) + body


@st.composite
def streams(draw):
    """Several requests behind each other, sometimes with a place where something else stands."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=REQUESTS_MAX)))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(RUBBISH)) + data[at + draw(st.integers(0, 3)) :]
    return data


@st.composite
def ways(draw):
    """A stream, and two ways in which it is cut: often between its requests, else anywhere."""
    data = draw(streams())
    ends = [at + 4 for at in range(len(data)) if data.startswith(b"\r\n\r\n", at)]
    places = st.one_of(st.integers(0, len(data)), st.sampled_from(ends)) if ends else st.integers(0, len(data))
    return data, [cut(data, draw(st.sets(places, max_size=most))) for most in (3, PIECES_MAX)]


def cut(data, places):
    ends = [*sorted(places), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.fixture(scope="module")
def gates(shared, start_shared):
    """One gate with ordinary limits, and one that a request of a few lines already exceeds."""
    return shared, start_shared(url_bytes_max=64, header_count_max=20, body_bytes_max=99)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ways())
@example((HEAD_OF_MANY, [[HEAD_OF_MANY[:9], HEAD_OF_MANY[9:]]]))
@example((TWO, [cut(TWO, [len(TWO) // 2]), cut(TWO, [3])]))
def test_the_pieces_of_a_stream_do_not_change_what_it_is(gates, stream):
    data, pieces = stream
    for gate in gates:
        gate.holds_in_pieces(data, *pieces)
