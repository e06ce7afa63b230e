"""Events by HTTP: what is sent, how it is signed, and which answers count as taken."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import standardwebhooks
import svix.webhooks
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from landed import __version__
from landed.errors import SettingsError
from landed.worker.letters import ANSWER_CHARACTERS_MAX
from landed.worker.webhook import check_secret, new_secret, wait_of

_spec = importlib.util.spec_from_file_location("subscriber", Path(__file__).with_name("subscriber.py"))
subscriber = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(subscriber)
SECONDS_MAX = subscriber.SECONDS_MAX
NOON = subscriber.NOON
SECRET = subscriber.SECRET
OLD_SECRET = subscriber.OLD_SECRET
OK = subscriber.OK
CLOSE = subscriber.CLOSE
RESET = subscriber.RESET
letter = subscriber.letter
carrying = subscriber.carrying
meeting = subscriber.meeting
carried = subscriber.carried
status = subscriber.status
run = subscriber.run


# What is sent.


def test_an_event_is_posted_as_it_is_with_who_sends_it(run):
    answer, server = carried(run, OK)
    (request,) = server.requests
    assert answer.taken
    assert answer.said == "200"
    assert 0 < answer.took_seconds < SECONDS_MAX
    assert request.line == "POST /hook?a=1 HTTP/1.1"
    assert request.body == letter().body
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"landed/{__version__}"
    assert request.headers["webhook-id"] == letter().id
    assert request.headers["landed-attempt"] == "1"
    assert not {"accept-encoding", "cookie", "authorization", "landed-replay", "landed-sample"} & request.headers.keys()


@pytest.mark.parametrize(
    ("more", "marks"),
    [
        ({"attempt": 7}, {"landed-attempt": "7"}),
        ({"is_replay": True}, {"landed-attempt": "1", "landed-replay": "true"}),
        ({"is_sample": True}, {"landed-attempt": "1", "landed-sample": "true"}),
    ],
)
def test_attempt_replay_and_sample_are_marked(run, more, marks):
    async def going():
        async with meeting() as (server, webhook):
            await webhook.carry(server.url, [SECRET], [letter(**more)])
            return server.requests[0].headers

    assert {name: value for name, value in run(going()).items() if name.startswith("landed-")} == marks


def test_letters_go_in_turn_up_to_the_first_that_is_not_taken(run):
    async def going():
        async with meeting(OK, b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n") as (server, webhook):
            answer = await webhook.carry(server.url, [SECRET], [letter(1), letter(2), letter(3)])
            return answer.said, [request.headers["webhook-id"] for request in server.requests]

    assert run(going()) == ("500", [letter(1).id, letter(2).id])


# Signatures.

LIBRARIES = {"standardwebhooks": standardwebhooks.Webhook, "svix": svix.webhooks.Webhook}
TAMPERED = {
    "body": lambda body, headers: (body + b" ", headers),
    "id": lambda body, headers: (body, headers | {"webhook-id": "evt_other"}),
    "timestamp": lambda body, headers: (body, headers | {"webhook-timestamp": str(int(time.time()) + 1)}),
    "signature": lambda body, headers: (body, headers | {"webhook-signature": "v1,AAAA"}),
}


def signed(run, secrets, now=None):
    async def going():
        async with meeting(now=now) as (server, webhook):
            assert (await webhook.carry(server.url, secrets, [letter()])).taken
            return server.requests[0].body, server.requests[0].headers

    return run(going())


@pytest.mark.parametrize("library", LIBRARIES)
def test_while_secrets_rotate_a_receiver_may_have_either(run, library):
    body, headers = signed(run, [SECRET, OLD_SECRET])
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OLD_SECRET):
        LIBRARIES[library](secret).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        LIBRARIES[library](new_secret()).verify(body, headers)


@pytest.mark.parametrize("tamper", TAMPERED)
@pytest.mark.parametrize("library", LIBRARIES)
def test_what_was_tampered_with_is_refused(run, library, tamper):
    body, headers = signed(run, [SECRET])
    LIBRARIES[library](SECRET).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        LIBRARIES[library](SECRET).verify(*TAMPERED[tamper](body, headers))


def test_a_clock_of_another_zone_is_converted(run):
    east = timezone(timedelta(hours=5, minutes=30))
    body, headers = signed(run, [SECRET], now=lambda: datetime.now(east))
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < SECONDS_MAX
    standardwebhooks.Webhook(SECRET).verify(body, headers)


def test_a_new_secret_is_one_and_made_of_the_bytes_that_are_given():
    assert check_secret(new_secret()) != check_secret(new_secret())
    assert new_secret(lambda count: b"k" * count) == "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.mark.parametrize("length", [24, 32, 64])
def test_a_secret_of_24_to_64_bytes_is_one(length):
    text = "whsec_" + base64.b64encode(b"\xff" * length).decode()
    assert check_secret(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "secret",
        base64.b64encode(b"k" * 32).decode(),
        "WHSEC_" + base64.b64encode(b"k" * 32).decode(),
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        "whsec_" + base64.b64encode(b"k" * 32).decode().rstrip("="),
        "whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        "whsec_" + base64.b64encode(b"k" * 32).decode() + "\n",
        "whsec_é" + "A" * 43,
    ],
)
def test_any_other_text_is_no_secret(text):
    with pytest.raises(SettingsError, match="24 to 64 bytes in base64"):
        check_secret(text)


@given(st.text().map("whsec_{}".format) | st.text())
def test_checking_a_secret_ends_with_it_or_a_sentence(text):
    try:
        assert check_secret(text) == text
    except SettingsError:
        return
    standardwebhooks.Webhook(text)


@pytest.mark.parametrize("secrets", [[], ["whsec_short"], [SECRET, "nonsense"]], ids=["none", "short", "one-wrong"])
def test_nothing_goes_out_unsigned(run, secrets):
    async def going():
        async with meeting() as (server, webhook):
            return await webhook.carry(server.url, secrets, [letter()]), server.connections

    answer, connections = run(going())
    assert not answer.taken
    assert "secret" in answer.said
    assert connections == 0


# What counts.

NO_HTTP = "what it answered is no HTTP, or its head is too large"


@pytest.mark.parametrize(
    ("answer", "taken", "said"),
    [
        (status(200), True, "200"),
        (status(201, body=b"made"), True, "201"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True, "204"),
        (b"HTTP/1.1 299 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", True, "299"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True, "200"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK, True, "200"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", True, "200"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", False, "101"),
        (status(400), False, "400"),
        (status(404), False, "404"),
        (status(410), False, "410"),
        (status(500), False, "500"),
        (status(503, body=b"later"), False, "503"),
        (status(599), False, "599"),
        (status(300), False, "300, and redirects are not followed"),
        (status(302), False, "302, and redirects are not followed"),
        (status(304), False, "304, and redirects are not followed"),
    ],
    ids=lambda value: value[:24].decode() if isinstance(value, bytes) else None,
)
def test_any_2xx_is_taken_and_nothing_else(run, answer, taken, said):
    given, _ = carried(run, answer)
    assert (given.taken, given.said) == (taken, said)
    assert given.is_gone == (said == "410")
    assert given.is_refusal == (said in {"400", "500"})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("86400", 86_400.0),
        ("86401", 86_400.0),
        ("9" * 5_000, 86_400.0),
        ("Sat, 01 Aug 2026 12:01:00 GMT", 60.0),
        ("Sat, 01 Aug 2026 14:01:00 +0200", 60.0),
        ("Saturday, 01-Aug-26 12:01:00 GMT", 60.0),
        ("Sat Aug  1 12:01:00 2026", 60.0),
        ("Sat, 01 Aug 2026 11:00:00 GMT", 0.0),
        ("Sat, 01 Aug 2099 11:00:00 GMT", 86_400.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("١٢", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Sat, 99 Aug 2026 12:01:00 GMT", None),
        ("Sat, 01 Aug 2026 12:01:00 +9999", None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(header, seconds):
    assert wait_of(header, NOON) == seconds


@given(st.text())
@example("1 Jan 0 0:0:0")
def test_no_retry_after_breaks_anything(header):
    seconds = wait_of(header, NOON)
    assert seconds is None or 0 <= seconds <= 86_400


@pytest.mark.parametrize(
    ("code", "seconds"), [(503, 30.0), (429, 30.0), (302, 30.0), (410, 30.0), (400, 30.0), (200, None)]
)
def test_who_does_not_take_an_event_may_ask_for_time(run, code, seconds):
    assert carried(run, status(code, "Retry-After: 30"))[0].wait_seconds == seconds


@pytest.mark.parametrize(
    ("answer", "taken", "said"),
    [
        (CLOSE, False, "the connection was closed without an answer"),
        (RESET, False, "connection reset by peer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", False, "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", True, "200, and it was cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", True, "200, and it was cut off"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nabc", False, "500, and it was cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", False, NO_HTTP),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", True, "200"),
    ],
    ids=["after-reading", "reset", "in-the-head", "in-the-body", "in-a-chunk", "no", "no-chunk", "by-the-end"],
)
def test_a_whole_head_counts_when_the_rest_is_cut_off_and_nothing_else_does(run, answer, taken, said):
    async def cut(writer):
        writer.write(answer)
        await writer.drain()
        raise ConnectionAbortedError

    given, _ = carried(run, cut if isinstance(answer, bytes) else answer)
    assert (given.taken, given.said) == (taken, said)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
    ],
    ids=lambda answer: ascii(answer[:30]),
)
def test_what_is_no_http_or_too_much_of_it_is_not_taken(run, answer):
    given, _ = carried(run, answer, first_byte_seconds_max=2)
    assert (given.taken, given.said) == (False, NO_HTTP)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.binary(max_size=60).map(b"HTTP/1.1 200 OK\r\n".__add__))
def test_whatever_a_server_sends_there_is_an_answer(answer):
    async def cut(writer):
        writer.write(answer)
        await writer.drain()
        raise ConnectionAbortedError

    given, _ = carried(asyncio.run, cut, first_byte_seconds_max=2)
    assert len(given.said) <= ANSWER_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "begins with https://"),
        ("ftp://hooks.example/", "begin with https://"),
        ("http://10.0.0.1/", "private"),
        ("http://" + "a" * 300 + "/", "is no name"),
    ],
)
def test_an_address_that_is_no_webhooks_is_an_answer_too(run, url, words):
    async def going():
        async with carrying() as webhook:
            return await webhook.carry(url, [SECRET], [letter()])

    answer = run(going())
    assert not answer.taken
    assert words in answer.said
