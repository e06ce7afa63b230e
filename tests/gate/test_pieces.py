"""Requests made of good, awkward and malformed parts: how they are cut on their way changes nothing."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

# No more than a connection can be asked in some milliseconds.
REQUESTS_MAX = 3
HEADERS_MAX = 24
PIECES_MAX = 40

METHODS = [b"GET", b"POST", b"HEAD"]
PARTS = ["framing", "host", "field", "extension", "target", "version", "end", "head's end"]
TARGETS = [b"/webhooks/message-status", b"/webhooks/inbound-sms?a=b", b"//webhooks/delivery%2Dreceipt/?a=b"]
ODD_TARGETS = [
    b"/healthz", b"/", b"http://a/webhooks/inbound-sms?a=b", b"/webhooks/inbound-sms?" + b"x" * 60, b"a:80", b"*",
    b'/webhooks/inbound-sms?a=%zz&&"<>{}|^`~', b"/webhooks/inbound-sms?a?b", b"/webhooks/inbound-sms#c?a=b", b"",
    b"/webhooks/inbound-sms?a=b#c", b"/webhooks/inbound-sms?a=\\b", b"?a=b", b"/\xe9", b"/a b", b"/\x7f", b"/\0",
]  # fmt: skip
VERSIONS = [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.1 ", b"http/1.1", b"HTTP/1", b""]
USUAL_FIELDS = [
    b"X: y", b"X:", b"x:y", b"X: ", b"X:y  ", b"X: y: z", b"X-Y_Z.!#$%&'*+^`|~: y", b"Accept: */*",
    b"Authorization: Bearer a.b.c", b"Content-Type: application/json", b"User-Agent: Nexmo/MessagingHUB/v1.0",
]  # fmt: skip
ODD_FIELDS = [
    b"Connection: close", b"Connection: keep-alive", b"Connection: Keep-Alive, close", b"Connection: Upgrade",
    b"Upgrade: h2c", b"Keep-Alive: 5", b"Proxy-Connection: close", b"TE: trailers", b"Trailer: X", b"Expect: x",
    b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Content-Length: 0",
    b"Content-Length: 3", b"Content-Length: +3", b"Content-Length:", b"content-length: 3, 3", b"Content-Length: 003",
    b"Content-Length: 9999999999", b"Content-Length: 101", b"Host: a", b"Host:", b"Host: a b", b"Host: a/b",
    b"X : y", b"X\t: y", b" X: y", b"\tX: y", b"X", b": y", b"", b"X:\ty\t", b"X: \xff", b"X: \0", b"X: \x7f",
    b"X: \x0b", b"X\xff: y", b"X: a\rb", b"X: a\nb", b"X(y): z", b"X\0: y",
]  # fmt: skip
BODIES = [b"", b"a=b", b'{"a":"b"}', b" \r\n", b"\r\n\r\n", b"x" * 100, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
ENDS = [b"\n", b"\r", b"\r\r\n", b" \r\n", b""]
RUBBISH = [b"\r\n", b"\n", b"\r", b" ", b"\0", b":", b"0", b"\xff", b"GET ", b"\r\n\r\n", b"HTTP/1.1", b"%", b";"]
HEAD_OF_MANY = b"GET /?a HTTP/1.1\r\nHost: a\r\n" + b"X:\r\n" * 20 + b"\r\n"
TWO = b"GET /webhooks/inbound-sms?a=b HTTP/1.1\r\nHost: a\r\n\r\n" * 2


def chunks(body, size, extension):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n\r\n"


@st.composite
def requests(draw):
    """One request, with at most two parts that are not as they usually are."""
    odd = draw(st.lists(st.sampled_from(PARTS), max_size=2))

    def part(name, usual, others):
        return draw(st.sampled_from(others)) if name in odd else usual

    body = draw(st.sampled_from(BODIES))
    length = b"Content-Length: %d" % len(body)
    framing = part("framing", length if body else b"X: y", [length, b"Transfer-Encoding: chunked", b"X: none"])
    fields = [part("host", b"Host: a", [b"Host: b:80", b"HOST:a", b"X: no host"]), framing]
    fields += draw(st.lists(st.sampled_from(USUAL_FIELDS), max_size=HEADERS_MAX))
    fields += part("field", [], [[field] for field in ODD_FIELDS])
    if framing.endswith(b"chunked"):
        extension = part("extension", b"", [b";a=b", b' ; a="b"', b";a=\x01", b" "])
        body = chunks(body, draw(st.integers(1, 40)), extension)
    target = part("target", draw(st.sampled_from(TARGETS)), ODD_TARGETS)
    first = b" ".join([draw(st.sampled_from(METHODS)), target, part("version", b"HTTP/1.1", VERSIONS)])
    head = part("end", b"\r\n", ENDS).join([first, *draw(st.permutations(fields)), b""])
    return head + part("head's end", b"\r\n", ENDS) + body


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


def odd_ones():
    """Plain requests but for one part, each odd part in its turn."""
    for target in TARGETS + ODD_TARGETS:
        yield b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    for version in [*VERSIONS, b"HTTP/1.1"]:
        yield b"GET /webhooks/inbound-sms?a=b " + version + b"\r\nHost: a\r\n\r\n"
    for end in ENDS:
        for at in range(3):
            yield TWO[: len(TWO) // 2].replace(b"\r\n", end, at + 1)
    for field in USUAL_FIELDS + ODD_FIELDS + [b"Content-Length: 4", b"Content-Length: 5", b"Content-Length: 6"]:
        for host in (b"", b"Host: a\r\n"):
            for body in (b"", b"a=b&c"):
                yield b"POST /webhooks/inbound-sms HTTP/1.1\r\n" + host + field + b"\r\n\r\n" + body


@pytest.mark.parametrize("data", list(odd_ones()))
def test_the_pieces_of_a_request_with_an_odd_part_do_not_change_what_it_is(gates, data):
    for gate in gates:
        gate.holds_in_pieces(data, *(cut(data, [at]) for at in (1, len(data) // 2, len(data) - 1)))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ways())
@example((HEAD_OF_MANY, [[HEAD_OF_MANY[:9], HEAD_OF_MANY[9:]]]))
@example((TWO, [cut(TWO, [len(TWO) // 2]), cut(TWO, [3])]))
def test_the_pieces_of_a_stream_do_not_change_what_it_is(gates, stream):
    data, pieces = stream
    for gate in gates:
        gate.holds_in_pieces(data, *pieces)
