"""The HTTP client: every way in which a receiver may answer, or not, on raw sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager, suppress

import pytest
import trustme

from landed.errors import SurroundingsError
from landed.simulator import wire
from landed.simulator.wire import Client, NoAnswer, target_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
# Ends a connection, without a word more.
CUT = None


class Server:
    """Answers on raw sockets: to each connection its own list of bytes, one for each request, the last for ever.

    A number among them waits so many seconds before the next bytes; CUT closes the connection.
    """

    def __init__(self, *connections):
        self.connections = list(connections)
        self.requests = []
        self.opened = 0
        self.open = 0
        self.port = 0
        self._changed = asyncio.Event()

    async def serve(self, reader, writer):
        self.opened += 1
        self.open += 1
        self._changed.set()
        answers = list(self.connections.pop(0) if len(self.connections) > 1 else self.connections[0])
        number = self.opened
        try:
            while True:
                self.requests.append((number, await self._request(reader)))
                self._changed.set()
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                for part in answer if isinstance(answer, list) else [answer]:
                    if part is CUT:
                        return
                    if isinstance(part, float):
                        await asyncio.sleep(part)
                    else:
                        writer.write(part)
                        await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.open -= 1
            self._changed.set()

    async def until(self, holds):
        """Wait until something holds of this server."""
        while not holds(self):
            self._changed.clear()
            await self._changed.wait()

    async def _request(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
        return head + await reader.readexactly(length)


@asynccontextmanager
async def serving(*connections, host="127.0.0.1", tls=None):
    """A server and a client, and at its end no connection is left."""
    server, client = Server(*connections), Client()
    listening = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server, client
    finally:
        client.close()
        listening.close()
        await server.until(lambda server: not server.open)


@pytest.fixture
def answers():
    """What so many calls, one after the other, get from a server: statuses, or why there was none; and the server."""

    def called(*connections, calls=1, tls=None, name="127.0.0.1", body=b"{}"):
        async def play():
            async with serving(*connections, tls=tls) as (server, client):
                scheme = "http" if tls is None else "https"
                url = f"{scheme}://{name}:{server.port}/hook"
                return [await answer_of(client, url, body) for _ in range(calls)], server

        return run(play())

    return called


async def answer_of(client, url, body=b"{}"):
    try:
        return await client.call("POST", url, b"", (), body)
    except NoAnswer as error:
        return str(error)


def run(play):
    return asyncio.run(asyncio.wait_for(play, 20))


# Connections.


def test_a_connection_is_kept(answers):
    statuses, server = answers([OK, b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy", OK], calls=3)
    assert (statuses, server.opened) == ([200, 503, 200], 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", CUT],
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["said", "said and done", "HTTP/1.0"],
)
def test_a_connection_that_is_closed_is_not_used_again(answers, answer):
    statuses, server = answers([answer], calls=3)
    assert (statuses, server.opened) == ([200] * 3, 3)


def test_a_kept_connection_that_ends_at_the_next_request_is_no_answer_and_nothing_is_sent_twice(answers):
    statuses, server = answers([OK, CUT], [OK], calls=3)
    assert statuses == [200, "connection lost: closed by the receiver", 200]
    assert server.opened == 2
    assert len(server.requests) == 3


def test_a_kept_connection_that_ends_within_an_answer_is_not_tried_again(answers):
    (first, second), server = answers([OK, [b"HTTP/1.1 2", CUT]], [OK], calls=2)
    assert (first, server.opened, len(server.requests)) == (200, 1, 2)
    assert second.startswith("connection lost")


@pytest.mark.parametrize(
    "answer",
    [CUT, [b"HTTP/1.1 2", CUT], [b"HTTP/1.1 200 OK\r\nContent-", CUT], [b"HTTP/1.1 100 Continue\r\n\r\n", CUT]],
    ids=["nothing", "half a line", "half a head", "only announced"],
)
def test_a_connection_that_ends_before_the_status_is_known_is_no_answer(answers, answer):
    (said,), server = answers([answer])
    assert said.startswith("connection lost")
    assert server.opened == 1


def test_calls_at_the_same_time_have_a_connection_each_which_is_then_kept():
    async def play():
        async with serving([[0.01, OK]]) as (server, client):
            url = f"http://127.0.0.1:{server.port}/"
            twice = [await asyncio.gather(*(answer_of(client, url) for _ in range(5))) for _ in range(2)]
            return twice, server.opened

    assert run(play()) == ([[200] * 5] * 2, 5)


def test_no_more_connections_are_kept_than_may_be(monkeypatch):
    monkeypatch.setattr(wire, "IDLE_MAX", 2)

    async def play():
        async with serving([[0.01, OK]]) as (server, client):
            url = f"http://127.0.0.1:{server.port}/"
            await asyncio.gather(*(answer_of(client, url) for _ in range(5)))
            await server.until(lambda server: server.open <= 2)
            return server.opened

    assert run(play()) == 5


def test_a_client_that_is_closed_keeps_no_connection():
    async def play():
        async with serving([OK]) as (server, client):
            await answer_of(client, f"http://127.0.0.1:{server.port}/")
            kept = server.open
            client.close()
            await server.until(lambda server: not server.open)
            return kept

    assert run(play()) == 1


# Answers.


@pytest.mark.parametrize(
    ("answer", "status", "is_kept"),
    [
        ([b"HTTP/1.1 200 OK\r\n\r\nhello", CUT], 200, False),
        ([b"HTTP/1.1 503 No\r\n\r\n", CUT], 503, False),
        (b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 201, True),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", 0.002, b"llo\r\n0\r\n\r\n"], 200, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, True),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", 0.002, OK], 200, True),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", OK], 200, True),
        ([b"H", 0.002, b"TTP/1.1 200 OK\r\nContent-Length: 5\r\n\r", 0.002, b"\nhel", 0.002, b"lo"], 200, True),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, True),
        (b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", 599, True),
    ],
    ids=[
        *("no length", "no length and no body", "chunked", "chunks that come slowly", "204", "304", "100 first"),
        *("100 and a while later", "103 and 100 first", "piece by piece", "302", "599"),
    ],
)
def test_an_answer_has_a_status_however_it_comes(answers, answer, status, is_kept):
    statuses, server = answers([answer], calls=2)
    assert (statuses, server.opened) == ([status] * 2, 1 if is_kept else 2)


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00\x01\x02\x03", b"HTTP/1.1 abc OK\r\n\r\n", b"<html>\r\n\r\n"],
    ids=["ssh", "bytes", "no status", "html"],
)
def test_what_is_no_http_is_no_answer(answers, answer):
    (said,), _ = answers([answer])
    assert said.startswith("no HTTP answer")


def test_an_answer_that_is_too_long_is_none(answers, monkeypatch):
    monkeypatch.setattr(wire, "ANSWER_BYTES_MAX", 1_000)
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2_000
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 900
    (first, second, third), server = answers([long], [short], calls=3)
    assert "too long" in first
    assert (second, third, server.opened) == (200, 200, 2)


def test_an_answer_that_never_ends_is_none(answers, monkeypatch):
    monkeypatch.setattr(wire, "ANSWER_BYTES_MAX", 1_000)
    (said,), _ = answers([[b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 100, 0.0] * 50]])
    assert "too long" in said


def test_an_answer_that_comes_too_late_is_none_and_is_not_taken_for_the_next_one(answers, monkeypatch):
    monkeypatch.setattr(wire, "ANSWER_SECONDS_MAX", 0.02)
    late = [0.04, b"HTTP/1.1 500 Late\r\nContent-Length: 0\r\n\r\n"]
    (first, second), server = answers([late], [OK], calls=2)
    assert first.startswith("no answer within")
    assert (second, server.opened) == (200, 2)


def test_an_answer_whose_end_comes_too_late_is_none(answers, monkeypatch):
    monkeypatch.setattr(wire, "ANSWER_SECONDS_MAX", 0.02)
    (said,), _ = answers([[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", 0.04, b"llo"]])
    assert said.startswith("no answer within")


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(answers):
    twice = OK + b"HTTP/1.1 500 Again\r\nContent-Length: 0\r\n\r\n"
    statuses, _ = answers([twice, OK], [OK], calls=2)
    assert statuses == [200, 200]


def test_what_comes_between_two_answers_ends_the_connection():
    async def play():
        async with serving([[OK, 0.002, OK], OK], [OK]) as (server, client):
            url = f"http://127.0.0.1:{server.port}/"
            first = await answer_of(client, url)
            await server.until(lambda server: not server.open)
            return first, await answer_of(client, url), server.opened

    assert run(play()) == (200, 200, 2)


def test_who_does_not_listen_refuses_the_connection():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    said = run(answer_of(Client(), f"http://127.0.0.1:{port}/"))
    assert said.startswith("no connection: ")


def test_a_call_that_is_given_up_leaves_no_connection_behind():
    async def play():
        async with serving([[0.02, OK]], [OK]) as (server, client):
            url = f"http://127.0.0.1:{server.port}/"
            call = asyncio.create_task(answer_of(client, url))
            await server.until(lambda server: server.requests)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return await answer_of(client, url), server.opened

    assert run(play()) == (200, 2)


# Requests.


@pytest.mark.parametrize(
    ("asked", "line", "length"),
    [
        (("POST", "/hook", b"", b'{"a": 1}'), b"POST /hook HTTP/1.1", [b"content-length: 8"]),
        (("POST", "/hook", b"", b""), b"POST /hook HTTP/1.1", [b"content-length: 0"]),
        (("GET", "/hook", b"a=b", b""), b"GET /hook?a=b HTTP/1.1", []),
        (("GET", "/hook?c=d", b"a=b", b""), b"GET /hook?c=d&a=b HTTP/1.1", []),
        (("GET", "/hook?c=d", b"", b""), b"GET /hook?c=d HTTP/1.1", []),
        (("GET", "", b"a=b", b""), b"GET /?a=b HTTP/1.1", []),
        (("GET", "/hook#there", b"", b""), b"GET /hook HTTP/1.1", []),
    ],
)
def test_a_request_has_line_headers_and_body(asked, line, length):
    method, path, query, body = asked

    async def play():
        async with serving([OK]) as (server, client):
            url = f"http://127.0.0.1:{server.port}{path}"
            await client.call(method, url, query, [(b"content-type", b"text/plain")], body)
            return server.port, server.requests[0][1]

    port, request = run(play())
    head, _, sent = request.partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    expected = [b"host: 127.0.0.1:%d" % port, b"accept: */*", b"content-type: text/plain"]
    assert (first, headers, sent) == (line, [*expected, *length], body)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "path"),
    [
        ("http://example.com", "example.com", 80, b"example.com", b"/"),
        ("https://example.com/x", "example.com", 443, b"example.com", b"/x"),
        ("HTTP://Example.com:8080/x?a=b", "example.com", 8080, b"Example.com:8080", b"/x?a=b"),
        ("http://[::1]:8080/x", "::1", 8080, b"[::1]:8080", b"/x"),
        ("https://[2001:db8::1]", "2001:db8::1", 443, b"[2001:db8::1]", b"/"),
        ("http://bücher.example/", "bücher.example", 80, b"xn--bcher-kva.example", b"/"),
    ],
)
def test_a_url_leads_somewhere(url, host, port, authority, path):
    target = target_of(url)
    assert (target.host, target.port, target.authority, target.path) == (host, port, authority, path)
    assert target.is_secure == url.lower().startswith("https")


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "/hook", "//example.com/", "ftp://example.com/", "http:", "http://", "http:///hook"),
        *("http://:80/", "http://example.com:99999/", "http://example.com:port/", "http://[::1/", "mailto:a@b"),
        *("http://a..b/", f"http://{'x' * 64}.com/", "http://exa mple.com/", "http://example.com/a b"),
        "http://example.com/a\x00b",
    ],
)
def test_a_url_that_is_none_is_refused_with_a_sentence(url):
    with pytest.raises(SurroundingsError) as error:
        target_of(url)
    assert str(error.value).endswith(".")


def test_a_url_that_is_none_is_no_call_either():
    with pytest.raises(SurroundingsError):
        run(Client().call("POST", "example.com", b"", (), b""))


def test_an_address_of_ipv6_is_called():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("This machine has no IPv6.")

    async def play():
        async with serving([OK], host="::1") as (server, client):
            status = await answer_of(client, f"http://[::1]:{server.port}/")
            return status, b"host: [::1]:%d\r\n" % server.port in server.requests[0][1]

    assert run(play()) == (200, True)


# TLS.


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def certified(authority):
    """A server's context with a certificate for these names."""

    def context(*names):
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*names).configure_cert(made)
        return made

    return context


@pytest.fixture
def trusted(authority, monkeypatch):
    """The client trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    monkeypatch.setattr(wire, "_tls", lambda: context)


@pytest.mark.usefixtures("trusted")
def test_a_certificate_that_is_trusted_is_called_over_kept_connections(answers, certified):
    statuses, server = answers([OK], calls=3, tls=certified("127.0.0.1"))
    assert (statuses, server.opened) == ([200] * 3, 1)


@pytest.mark.usefixtures("trusted")
def test_an_answer_without_length_ends_with_its_connection_over_tls_too(answers, certified):
    statuses, server = answers([[b"HTTP/1.1 200 OK\r\n\r\nhello", CUT]], calls=2, tls=certified("127.0.0.1"))
    assert (statuses, server.opened) == ([200] * 2, 2)


def test_a_certificate_that_is_not_trusted_is_not_called(certified):
    assert "certificate" in refused(certified("127.0.0.1"))


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_another_name_is_not_called(certified):
    assert "certificate" in refused(certified("example.com"))


@pytest.mark.usefixtures("trusted")
def test_who_speaks_no_tls_is_not_called_with_it(monkeypatch):
    monkeypatch.setattr(wire, "CONNECT_SECONDS_MAX", 0.05)
    assert refused(None).startswith("no connection")


def refused(tls):
    """Why a server with this context was not called; it took no request."""

    async def play():
        async with serving([b"HTTP/1.1 400 Bad Request\r\n\r\n"], tls=tls) as (server, client):
            said = await answer_of(client, f"https://127.0.0.1:{server.port}/")
            return said, server.requests

    said, requests = run(play())
    assert not requests
    return said
