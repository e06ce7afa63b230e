"""Events by HTTP: the limits of an attempt, which connections are kept, and where nothing goes."""

from __future__ import annotations

import asyncio
import errno
import gzip
import importlib.util
import socket
import ssl
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import pytest
import trustme
from yarl import URL

_spec = importlib.util.spec_from_file_location("subscriber", Path(__file__).with_name("subscriber.py"))
subscriber = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(subscriber)
OUTSIDE = subscriber.OUTSIDE
INSIDE = subscriber.INSIDE
SECRET = subscriber.SECRET
OK = subscriber.OK
CLOSE = subscriber.CLOSE
NEVER = subscriber.NEVER
letter = subscriber.letter
serving = subscriber.serving
carrying = subscriber.carrying
meeting = subscriber.meeting
carried = subscriber.carried
status = subscriber.status
run = subscriber.run


# Limits.


async def drip(writer):
    """A head, and then a body that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await dripping(writer, b"1\r\nx\r\n")


async def drip_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await dripping(writer, b"X: y\r\n")


async def drip_hints(writer):
    await dripping(writer, b"HTTP/1.1 103 Early Hints\r\n\r\n")


async def dripping(writer, drop):
    while not writer.is_closing():
        writer.write(drop)
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "limits", "taken", "said"),
    [
        (NEVER, {"first_byte_seconds_max": 0.2}, False, "not answered within 0.2 s"),
        (drip_head, {"first_byte_seconds_max": 0.2}, False, "not answered within 0.2 s"),
        (drip_hints, {"first_byte_seconds_max": 0.2}, False, "not answered within 0.2 s"),
        (NEVER, {"whole_seconds_max": 0.2}, False, "not ended within 0.2 s"),
        (drip, {"whole_seconds_max": 0.3, "first_byte_seconds_max": 0.2}, True, "200, and not ended within 0.3 s"),
    ],
    ids=["never", "slow-head", "only-hints", "whole-before-first", "slow-body"],
)
def test_each_limit_of_time_ends_an_attempt_and_names_itself(run, answer, limits, taken, said):
    given, _ = carried(run, answer, **limits)
    assert (given.taken, given.said) == (taken, said)
    # A clock of whole milliseconds rounds.
    assert min(limits.values()) - 0.01 < given.took_seconds < 2


def test_a_server_that_never_accepts_ends_by_the_limit_for_connecting(run):
    async def going():
        with full() as port:
            async with carrying(connect_seconds_max=0.2) as webhook:
                return await webhook.carry(f"http://127.0.0.1:{port}/", [SECRET], [letter()])

    answer = run(going())
    assert (answer.taken, answer.said) == (False, "not connected within 0.2 s")


@contextmanager
def full():
    """A port whose queue of connections is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(closing(socket.socket()))
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.settimeout(0)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def test_a_look_up_without_an_answer_ends_by_the_limit_for_connecting(run):
    async def never(_host, _port):
        await asyncio.Event().wait()

    async def going():
        async with carrying(resolver=never, connect_seconds_max=0.2) as webhook:
            first, second = await asyncio.gather(
                webhook.carry("http://hooks.example/", [SECRET], [letter()]),
                webhook.carry("http://hooks.example/", [SECRET], [letter()]),
            )
            return first, second

    # The two share one look-up, which has the same limit and may end first.
    for answer in run(going()):
        assert not answer.taken
        assert answer.said in {"not connected within 0.2 s", "hooks.example was not looked up within 0.2 s"}


def test_tls_that_is_never_answered_ends_by_the_limit_for_connecting(run):
    async def going():
        async with silent() as port, carrying(connect_seconds_max=0.2) as webhook:
            return await webhook.carry(f"https://127.0.0.1:{port}/", [SECRET], [letter()])

    assert run(going()).said == "not connected within 0.2 s"


@asynccontextmanager
async def silent():
    """A port that reads and never says anything."""

    async def read(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(read, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


def test_of_a_huge_answer_only_so_much_is_read_and_its_connection_is_closed(run):
    sent = []

    async def flood(writer):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent.append(65_536)

    async def going():
        async with meeting(flood, answer_bytes_max=100_000) as (server, webhook):
            answer = await webhook.carry(server.url, [SECRET], [letter()])
            await server.ended.wait()
            return answer

    answer = run(going())
    assert (answer.taken, answer.said) == (True, "200, and too much came with it")
    # Beside what is read there is what the kernel holds for us.
    assert sum(sent) < 10_000_000


@pytest.mark.parametrize(
    "piece", [b"1;" + b"e" * 65_536, b"0\r\n" + b"X: y\r\n" * 10_000], ids=["extensions", "trailers"]
)
def test_what_stands_beside_a_body_ends_too(run, piece):
    async def flood(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(piece)
            await writer.drain()

    answer, _ = carried(run, flood, whole_seconds_max=0.5)
    assert answer.took_seconds < 2


def test_an_answer_is_never_unpacked(run):
    bomb = gzip.compress(bytes(10_000_000))
    answer, _ = carried(run, status(200, "Content-Encoding: gzip", body=bomb), answer_bytes_max=len(bomb))
    assert (answer.taken, answer.said) == (True, "200")


@pytest.mark.parametrize(("more", "said"), [(0, "200"), (1, "200, and too much came with it")])
def test_the_limit_of_an_answer_is_exact(run, more, said):
    answer, _ = carried(run, status(200, body=b"x" * (1_000 + more)), answer_bytes_max=1_000)
    assert (answer.taken, answer.said) == (True, said)


@pytest.mark.filterwarnings("ignore:Sending a large body")
def test_who_answers_before_it_read_the_event_is_not_sent_the_rest(run):
    read = []

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(status(413))
        await answered.wait()
        with suppress(ConnectionError):
            while part := await reader.read(65_536):
                read.append(len(part))
        writer.close()
        ended.set()

    answered, ended = asyncio.Event(), asyncio.Event()

    async def going():
        with closing(socket.socket()) as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            narrow.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{narrow.getsockname()[1]}/"
            async with await asyncio.start_server(refuse, sock=narrow), carrying() as webhook:
                answer = await webhook.carry(url, [SECRET], [letter(body=b"x" * 20_000_000)])
                answered.set()
                await ended.wait()
                return answer.said

    assert run(going()) == "413"
    assert sum(read) < 20_000_000


def test_no_more_than_so_many_connections_are_open_at_once(run):
    async def going():
        async with meeting(connections_max=2) as (server, webhook):
            letters = [webhook.carry(server.url, [SECRET], [letter(number)]) for number in range(20)]
            answers = await asyncio.gather(*letters)
            return all(answer.taken for answer in answers), server.connections, len(server.requests)

    assert run(going()) == (True, 2, 20)


def test_a_subscriber_that_is_slow_holds_up_none_on_the_same_host(run):
    async def going():
        heard = asyncio.Semaphore(0)

        async def never(_writer):
            heard.release()

        async with meeting(never, concurrency=2) as (slow, webhook):
            hung = [asyncio.create_task(webhook.carry(slow.url, [SECRET], [letter(number)])) for number in range(40)]
            for _ in hung:
                await heard.acquire()
            slow.answers = [OK]
            answer = await webhook.carry(slow.url, [SECRET], [letter(41)])
            for each in hung:
                each.cancel()
            await asyncio.wait(hung)
            return answer.taken, answer.took_seconds < 1

    assert run(going()) == (True, True)


def test_who_got_no_connection_was_not_tried(run):
    async def going():
        async with meeting(NEVER, connections_max=1, whole_seconds_max=0.6) as (server, webhook):
            first = asyncio.create_task(webhook.carry(server.url, [SECRET], [letter(1)]))
            await server.heard.wait()
            second = await webhook.carry(server.url, [SECRET], [letter(2)])
            return await first, second, ids(server)

    first, second, came = run(going())
    assert (first.said, first.is_untried) == ("not ended within 0.6 s", False)
    assert (second.taken, second.is_untried) == (False, True)
    assert second.said == "no connection was free within 0.3 s"
    assert came == [letter(1).id]


def test_without_a_file_for_a_socket_nobody_was_tried(run, monkeypatch):
    def none_left(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    async def going():
        async with meeting() as (server, webhook):
            with monkeypatch.context() as patched:
                patched.setattr("landed.worker.webhook.judge", none_left)
                return await webhook.carry("http://127.0.0.1:1/", [SECRET], [letter()]), server.connections

    answer, connections = run(going())
    assert (answer.taken, answer.is_untried, connections) == (False, True, 0)
    assert answer.said == "too many open files"


# Kept connections.


def test_a_connection_is_kept_for_the_next_event(run):
    async def going():
        async with meeting() as (server, webhook):
            for number in range(5):
                assert (await webhook.carry(server.url, [SECRET], [letter(number)])).taken
            return server.connections, len(server.requests)

    assert run(going()) == (1, 5)


def ids(server):
    return [request.headers["webhook-id"] for request in server.requests]


@pytest.mark.parametrize(
    ("event", "pause_seconds"),
    [
        ({"end": True}, 0),
        ({"end": True}, 0.05),
        ({"say": OK}, 0),
        ({"say": OK}, 0.05),
        ({"say": status(408), "end": True}, 0),
        ({"say": status(408), "end": True}, 0.05),
        ({"say": b"HTTP/1.1 200 OK\r\nX: "}, 0),
        ({"say": b"nonsense"}, 0),
        ({"say": b"nonsense"}, 0.05),
    ],
)
def test_a_kept_connection_that_ended_or_spoke_fails_no_attempt_and_repeats_nothing(run, event, pause_seconds):
    """Without a pause it is in the kernel, and the loop had no turn to hear of it."""

    async def going():
        async with meeting(OK, status(503)) as (server, webhook):
            answers = [await webhook.carry(server.url, [SECRET], [letter(1)])]
            server.now(**event)
            if pause_seconds:
                await asyncio.sleep(pause_seconds)
            answers.append(await webhook.carry(server.url, [SECRET], [letter(2)]))
            return [answer.said for answer in answers], ids(server), server.connections

    assert run(going()) == (["200", "503"], [letter(1).id, letter(2).id], 2)


def test_an_event_whose_connection_ends_without_an_answer_was_sent_once(run):
    async def going():
        async with meeting(OK, CLOSE, OK) as (server, webhook):
            answers = [await webhook.carry(server.url, [SECRET], [letter(number)]) for number in (1, 2)]
            return [answer.taken for answer in answers], ids(server)

    assert run(going()) == ([True, False], [letter(1).id, letter(2).id])


def test_a_server_of_another_kind_that_speaks_first_is_asked_once(run):
    async def going():
        async def greet(_reader, writer):
            greeted.append(writer)
            writer.write(b"220 mail.example ESMTP\r\n")
            writer.close()

        greeted = []
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as listening, carrying() as webhook:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
            answer = await webhook.carry(url, [SECRET], [letter()])
            return answer.taken, len(greeted)

    assert run(going()) == (False, 1)


def test_closing_ends_kept_connections_and_what_comes_later_opens_new_ones(run):
    async def going():
        async with meeting() as (server, webhook):
            await webhook.close()
            assert (await webhook.carry(server.url, [SECRET], [letter(1)])).taken
            await webhook.close()
            await server.ended.wait()
            assert (await webhook.carry(server.url, [SECRET], [letter(2)])).taken
            return server.connections

    assert run(going()) == 2


def test_an_attempt_that_is_cancelled_ends_its_connection(run):
    async def going():
        async with meeting(NEVER) as (server, webhook):
            attempt = asyncio.create_task(webhook.carry(server.url, [SECRET], [letter()]))
            await server.heard.wait()
            attempt.cancel()
            await asyncio.wait([attempt])
            await server.ended.wait()
            return attempt.cancelled()

    assert run(going())


def test_no_cookie_is_kept(run):
    async def going():
        async with meeting(status(200, "Set-Cookie: a=b; Path=/")) as (server, webhook):
            for number in range(2):
                await webhook.carry(server.url, [SECRET], [letter(number)])
            return [request.headers.get("cookie") for request in server.requests]

    assert run(going()) == [None, None]


# Where nothing goes.


@asynccontextmanager
async def inside(port=0):
    """A server that nobody may reach, on the port of one who may be."""
    async with serving(host=str(INSIDE), port=port) as server:
        yield server


class Answers:
    """A resolver that gives each of these in turn, the last for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def __call__(self, host, port):
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_a_name_that_leads_inside_is_refused_with_the_reason(run):
    async def going():
        async with inside() as neighbour, carrying(resolver=Answers([INSIDE])) as webhook:
            answer = await webhook.carry(f"http://hooks.example:{neighbour.port}/", [SECRET], [letter()])
            return answer, neighbour.connections

    answer, connections = run(going())
    assert not answer.taken
    assert answer.said == "hooks.example leads to 127.0.0.2, which may not be reached: loopback"
    assert connections == 0


def test_a_name_that_leads_out_at_first_and_then_inside_is_looked_up_once_for_a_connection(run):
    async def going():
        resolver = Answers([OUTSIDE], [INSIDE])
        closing_answer = status(200, "Connection: close")
        async with (
            serving(closing_answer) as server,
            inside(server.port) as neighbour,
            carrying(resolver=resolver) as webhook,
        ):
            url = f"http://hooks.example:{server.port}/"
            answers = [await webhook.carry(url, [SECRET], [letter(number)]) for number in range(3)]
            return [answer.taken for answer in answers], server.connections, neighbour.connections, len(resolver.asked)

    assert run(going()) == ([True, False, False], 1, 0, 3)


@pytest.mark.parametrize("order", [(OUTSIDE, INSIDE), (INSIDE, OUTSIDE)], ids=["first", "last"])
def test_of_several_addresses_only_those_that_may_be_are_dialled(run, order):
    async def going():
        async with serving(status(200, "Connection: close")) as server, inside(server.port) as neighbour:
            async with carrying(resolver=Answers(order)) as webhook:
                url = f"http://hooks.example:{server.port}/"
                answers = [await webhook.carry(url, [SECRET], [letter(number)]) for number in range(4)]
            return [answer.taken for answer in answers], neighbour.connections

    assert run(going()) == ([True] * 4, 0)


def test_when_the_only_address_that_may_be_dialled_is_deaf_no_other_is(run):
    async def going():
        async with inside() as neighbour, carrying(resolver=Answers([OUTSIDE, INSIDE])) as webhook:
            answer = await webhook.carry(f"http://hooks.example:{neighbour.port}/", [SECRET], [letter()])
            return answer, neighbour.connections

    answer, connections = run(going())
    assert (answer.taken, answer.said, connections) == (False, "connection refused", 0)


@pytest.mark.parametrize("literal", ["127.0.0.2", "[::ffff:127.0.0.2]"])
def test_an_address_in_a_url_is_refused_at_the_socket_too(run, literal):
    async def going():
        async with inside() as neighbour, carrying() as webhook:
            url = f"http://{literal}:{neighbour.port}/"
            # Past the judge of URLs, on purpose.
            with pytest.raises(OSError, match="Cannot connect") as refused:
                await webhook._post(URL(url), {}, b"{}")  # noqa: SLF001
            assert "may not be reached: " in str(refused.value.__cause__)
            return await webhook.carry(url, [SECRET], [letter()]), neighbour.connections

    answer, connections = run(going())
    assert "may not be reached" in answer.said
    assert connections == 0


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_to_inside_is_not_followed(run, code):
    async def going():
        async with inside() as neighbour, meeting(status(code, f"Location: {neighbour.url}")) as (server, webhook):
            answer = await webhook.carry(server.url, [SECRET], [letter()])
            return answer, neighbour.connections, len(server.requests)

    answer, connections, requests = run(going())
    assert (answer.taken, answer.said) == (False, f"{code}, and redirects are not followed")
    assert (connections, requests) == (0, 1)


def test_a_proxy_in_the_environment_is_not_asked(run, monkeypatch):
    async def going():
        async with inside() as neighbour, meeting() as (server, webhook):
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://{INSIDE}:{neighbour.port}")
            return (await webhook.carry(server.url, [SECRET], [letter()])).taken, neighbour.connections

    assert run(going()) == (True, 0)


@pytest.mark.parametrize(
    ("resolver", "said"),
    [
        (Answers([]), "hooks.example has no address"),
        (None, "its name cannot be looked up"),
    ],
    ids=["no-address", "no-name"],
)
def test_a_name_without_an_address_is_an_answer(run, resolver, said):
    async def going():
        async with carrying(resolver=resolver or missing) as webhook:
            return await webhook.carry("http://hooks.example/", [SECRET], [letter()])

    assert run(going()).said == said


async def missing(_host, _port):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_the_machines_own_resolver_is_asked_by_default(run):
    async def going():
        async with serving() as server, carrying(resolver=None, networks=["127.0.0.0/8", "::1/128"]) as webhook:
            return await webhook.carry(f"http://localhost:{server.port}/", [SECRET], [letter()])

    assert run(going()).taken


# TLS.


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_tls(authority, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def securely(run, host, served, trusted, *answers, count=1):
    async def going():
        async with serving(*answers or (OK,), tls=served) as server, carrying(tls=trusted) as webhook:
            url = f"https://{host}:{server.port}/"
            said = [await webhook.carry(url, [SECRET], [letter(number)]) for number in range(count)]
            return said, server

    return run(going())


@pytest.mark.parametrize("host", ["hooks.example", "127.0.0.1"])
def test_a_certificate_for_the_host_from_an_authority_is_enough(run, authority, host):
    answers, server = securely(run, host, server_tls(authority, host), trusting(authority), count=3)
    assert [answer.said for answer in answers] == ["200"] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    ("host", "name"), [("hooks.example", "other.example"), ("127.0.0.1", "127.0.0.3"), ("a.b.example", "*.example")]
)
def test_a_certificate_for_another_host_is_not(run, authority, host, name):
    (answer,), server = securely(run, host, server_tls(authority, name), trusting(authority))
    assert not answer.taken
    assert answer.said.startswith("its certificate does not hold: ")
    assert "mismatch" in answer.said
    assert not server.requests


def test_a_certificate_of_somebody_else_is_not(run, authority):
    (answer,), server = securely(run, "hooks.example", server_tls(authority, "hooks.example"), None)
    assert answer.said == "its certificate does not hold: unable to get local issuer certificate"
    assert not server.requests


def test_plain_http_where_tls_is_asked_for_is_an_answer(run):
    async def refuse(reader, writer):
        await reader.read(1)
        writer.write(status(400))
        writer.close()

    async def going():
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listening, carrying() as webhook:
            url = f"https://hooks.example:{listening.sockets[0].getsockname()[1]}/"
            return await webhook.carry(url, [SECRET], [letter()])

    answer = run(going())
    assert not answer.taken
    assert answer.said.startswith("no TLS with it: ")


def test_a_kept_connection_of_tls_that_was_closed_fails_no_attempt(run, authority):
    served = server_tls(authority, "hooks.example")

    async def going():
        async with serving(tls=served) as server, carrying(tls=trusting(authority)) as webhook:
            url = f"https://hooks.example:{server.port}/"
            answers = [await webhook.carry(url, [SECRET], [letter(1)])]
            server.now(end=True)
            answers.append(await webhook.carry(url, [SECRET], [letter(2)]))
            return [answer.said for answer in answers], ids(server)

    assert run(going()) == (["200", "200"], [letter(1).id, letter(2).id])
