"""The carrier to people, through Apprise to a real server of ours; and what a digest says, as tables."""

import asyncio
import functools
import json
import logging
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from landed.domain.events import Event, EventType, InboundData, QuarantineData, encode_event, message_data
from landed.domain.lifecycle import Fact, message_of
from landed.domain.receipt import Api, Inbound, Receipt, Status
from landed.domain.views import InboundView
from landed.errors import SettingsError
from landed.settings import EventSettings
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Letter
from landed.worker.people import (
    BODY_CHARACTERS_MAX,
    BODY_CHARACTERS_MIN,
    SENDS_MAX,
    TITLE_CHARACTERS_MAX,
    People,
    digest_of,
    read_people_url,
)

# Apprise looks whether a module of Python's own is there, which warns that it will not be for long.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SECONDS_MAX = 10
NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
NUMBER = "447700900001"
STATUSES = {
    EventType.ACCEPTED: Status.ACCEPTED,
    EventType.DELIVERED: Status.DELIVERED,
    EventType.READ: Status.READ,
    EventType.FAILED: Status.FAILED,
    EventType.UNCONFIRMED: Status.UNCONFIRMED,
    EventType.CONFLICT: Status.DELIVERED,
}


def in_a_loop(test):
    """A test that awaits, in a loop of its own and no longer than it may."""

    @functools.wraps(test)
    def run(*arguments, **fixtures):
        return asyncio.run(asyncio.wait_for(test(*arguments, **fixtures), SECONDS_MAX))

    return run


def letter_of(type_, data, *, seconds=0, **fields):
    at = NOON + timedelta(seconds=seconds)
    event = Event(id=f"evt_{seconds:032x}", type=type_, timestamp=at, data=data)
    about = {"attempt": 1} | fields
    return Letter(id=event.id, type=type_, at=at, event=event, body=encode_event(event), **about)


def told(type_, *, message_id="m1", to=NUMBER, network=None, code=None, status=None, seconds=0, **fields):
    """A letter about a message."""
    status = status or STATUSES[type_]
    receipt = Receipt(
        api=Api.SMS,
        message_id=message_id,
        channel="sms",
        status=status,
        provider_status=status.value,
        to=to,
        sender="ACME",
        network=network,
        code=code,
    )
    fact = Fact(receipt=receipt, key=b"k", received_at=NOON)
    return letter_of(type_, message_data(message_of("default", [fact]), fact), seconds=seconds, **fields)


def inbound(*, sender=NUMBER, **fields):
    view = InboundView.of(
        Inbound(api=Api.SMS, message_id="i1", channel="sms", text="my secret", to="ACME", sender=sender)
    )
    return letter_of(EventType.INBOUND, InboundData(account="default", inbound=view), **fields)


def quarantine(**fields):
    data = QuarantineData(held=12, came=5, reasons={"missing": 4, "wrong": 1})
    return letter_of(EventType.QUARANTINE, data, **fields)


FAILED, UNCONFIRMED, DELIVERED = EventType.FAILED, EventType.UNCONFIRMED, EventType.DELIVERED


@pytest.fixture
def logged():
    """What anybody who logs everything gets to see; asyncio says there which of the system's calls it waits by."""
    lines = []
    root, handler = logging.getLogger(), logging.Handler()
    handler.emit = lambda record: record.name == "asyncio" or lines.append(record.getMessage())
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.setLevel(level)
    root.removeHandler(handler)


# The digest.


@pytest.mark.parametrize(
    ("letters", "title"),
    [
        ([told(FAILED, code="3")], "landed: message to 4477•••••001 failed: absent-subscriber-permanent"),
        ([told(FAILED, code="3", is_sample=True)], "landed (sample): message to 4477•••••001 failed: absent-"),
        ([told(FAILED, code="3", is_replay=True)], "landed (again): message to 4477•••••001 failed: absent-"),
        ([told(UNCONFIRMED, code="99")], "landed: message to 4477•••••001 unconfirmed: unknown"),
        ([told(FAILED, status=Status.DELIVERED)], "landed: message to 4477•••••001 failed: now delivered"),
        ([told(DELIVERED)], "landed: message to 4477•••••001 delivered"),
        ([told(EventType.READ, to=None)], "landed: message to ? read"),
        ([told(EventType.ACCEPTED)], "landed: message to 4477•••••001 accepted"),
        ([told(EventType.CONFLICT)], "landed: receipts disagree about the message to 4477•••••001"),
        ([inbound()], "landed: message from 4477•••••001"),
        ([inbound(sender="ACME")], "landed: message from ACME"),
        ([quarantine()], "landed: 12 requests in quarantine"),
        ([told(FAILED)] * 37, "landed: 37 events, all failed"),
        ([told(DELIVERED)] * 2 + [told(FAILED)] * 31, "landed: 33 events: 31 failed, 2 delivered"),
        ([told(DELIVERED, is_sample=True)] * 2, "landed (sample): 2 events, all delivered"),
        ([told(DELIVERED, is_sample=True), told(DELIVERED)], "landed: 2 events, all delivered"),
        (
            [inbound(), told(DELIVERED), told(FAILED), told(UNCONFIRMED)],
            "landed: 4 events: 1 failed, 1 unconfirmed, 1 inbound, …",
        ),
    ],
)
def test_a_title_says_how_many_and_the_worst_first(letters, title):
    assert digest_of(letters).title.startswith(title)
    assert len(digest_of(letters).title) <= TITLE_CHARACTERS_MAX


def test_one_event_is_told_with_its_network_and_what_to_do():
    letter = told(FAILED, code="3", network="23415", message_id="0A00000123ABCD21")
    assert digest_of([letter]).body.split("\n") == [
        "2026-08-01 12:00:00 message.failed to 4477•••••001, absent-subscriber-permanent, id 0A00000123ABCD21",
        "Network: Vodafone UK (23415)",
        f"{letter.event.data.reason.meaning} {letter.event.data.reason.advice}",
    ]


def test_many_are_told_as_counts_reasons_networks_and_examples():
    letters = [
        *(told(DELIVERED, message_id=f"d{at}", seconds=at) for at in range(2)),
        *(told(FAILED, message_id=f"f{at}", code="3", network="23415", seconds=10 + at) for at in range(9)),
        told(FAILED, message_id="g", code="14", network="26201", seconds=20, is_replay=True),
        *(told(UNCONFIRMED, message_id=f"u{code}", code=code, seconds=30) for code in ("99", "2", "7")),
        quarantine(seconds=40),
        inbound(seconds=50, is_sample=True),
    ]
    reasons = {each.event.data.reason.slug: each.event.data.reason for each in letters[2:15]}
    assert len(reasons) == 5
    gone, blocked, absent = (
        reasons[slug] for slug in ("absent-subscriber-permanent", "blocked-by-carrier", "absent-subscriber-temporary")
    )
    assert digest_of(letters, 5_000).body.split("\n") == [
        "2026-08-01 12:00:00 to 12:00:50 UTC",
        "Asked for again by a person: 1.",
        "Samples, which never happened: 1.",
        "",
        "10 message.failed",
        " 3 message.unconfirmed",
        " 1 quarantine.growing",
        " 1 inbound.received",
        " 2 message.delivered",
        "",
        "Why they failed, or are unconfirmed:",
        f"9 absent-subscriber-permanent: {gone.meaning} {gone.advice}",
        f"1 absent-subscriber-temporary: {absent.meaning} {absent.advice}",
        f"1 blocked-by-carrier: {blocked.meaning} {blocked.advice}",
        "2 for other reasons",
        "",
        "Networks most hit: Vodafone UK (23415) 9, Telekom (26201) 1",
        "",
        *(
            f"2026-08-01 12:00:{10 + at} message.failed to 4477•••••001, absent-subscriber-permanent, id f{at}"
            for at in range(9)
        ),
        "2026-08-01 12:00:20 message.failed (again) to 4477•••••001, blocked-by-carrier, id g",
        "… and 7 more",
    ]


@pytest.mark.parametrize(
    ("letter", "line"),
    [
        (quarantine(), "2026-08-01 12:00:00 quarantine.growing 12 held, 5 new: missing 4, wrong 1"),
        (inbound(), "2026-08-01 12:00:00 inbound.received from 4477•••••001 to ACME, id i1"),
        (inbound(is_sample=True), "2026-08-01 12:00:00 inbound.received (sample) from 4477•••••001 to ACME, id i1"),
        (told(DELIVERED), "2026-08-01 12:00:00 message.delivered to 4477•••••001, id m1"),
        (
            told(DELIVERED, message_id="a\nlanded: all is well\x1b[2J\u202e"),
            "2026-08-01 12:00:00 message.delivered to 4477•••••001, id a\ufffdlanded: all is well\ufffd[2J\ufffd",
        ),
        (
            told(DELIVERED, message_id="x" * 10_000),
            f"2026-08-01 12:00:00 message.delivered to 4477•••••001, id {'x' * 64}…",
        ),
    ],
)
def test_what_others_wrote_stays_on_one_line_and_is_cut(letter, line):
    assert digest_of([letter]).body.split("\n")[0] == line


def test_days_are_told_where_there_are_several():
    body = digest_of([told(DELIVERED), told(DELIVERED, seconds=86_400)]).body
    assert body.startswith("2026-08-01 12:00:00 to 2026-08-02 12:00:00 UTC\n")


@pytest.mark.parametrize("count", [1, 2, 11, 10_000])
@pytest.mark.parametrize("characters_max", [BODY_CHARACTERS_MIN, 300, BODY_CHARACTERS_MAX, 32_768])
def test_a_body_fits_and_says_how_many_it_does_not_show(count, characters_max):
    letters = [told(FAILED, code="3", message_id=f"message-{at}", network="23415", seconds=at) for at in range(count)]
    body = digest_of(letters, characters_max).body
    assert 0 < len(body) <= characters_max
    shown = sum(line.count("id message-") for line in body.split("\n"))
    rest = [line for line in body.split("\n") if line.startswith("… and ")]
    assert rest == ([f"… and {count - shown} more"] if shown < count else [])
    assert shown == min(count, 10) or characters_max < 32_768


def test_no_number_is_told_in_full():
    letters = [told(FAILED, code="3"), inbound(), told(DELIVERED, to="+44 7700 900001"), told(DELIVERED, to="4915112")]
    text = "".join(f"{digest_of([each]).title} {digest_of([each]).body}" for each in letters) + digest_of(letters).body
    assert "my secret" not in text
    for number in (NUMBER, "7700900", "7700 900", "4915112"):
        assert number not in text


# Addresses.


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("json://127.0.0.1:8080/path", "JSON"),
        (" mailto://user:password@example.com ", "E-Mail"),
        ("https://discord.com/api/webhooks/123456789012345678/abcdefghTOKEN", "Discord"),
        ("ntfys://topic", "ntfy"),
    ],
)
def test_a_url_is_of_a_service(url, service):
    assert read_people_url(url) == service


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "is of no service"),
        ("hunter2", "is of no service"),
        ("nowhere://user:hunter2@example.com", "is of no service"),
        ("file:///etc/hunter2", "is of no service"),
        ("discord://hunter2", "is incomplete"),
        ("json://127.0.0.1/hunter2?method=BREW", "is incomplete"),
        ("json://a, json://hunter2", "has blanks"),
        ("json://a\njson://hunter2", "has blanks or line ends"),
        (f"json://a/{'x' * 3000}", "too long"),
        ("discord://123456789012345678/hunter2hunter2?template=/etc/passwd", "names a file"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template=http://example.com/x", "names a file"),
        ("fcm://project/device?keyfile=/etc/passwd", "names a file"),
        ("mailto://user:hunter2@example.com?pgp=encrypt&pgppub=/etc/passwd", "names a file"),
        ("mailto://user:hunter2@example.com?pgpprv=/etc/passwd", "names a file"),
    ],
)
def test_what_is_no_address_is_said_in_one_sentence_without_secrets(url, what, capfd, logged):
    with pytest.raises(SettingsError) as raised:
        read_people_url(url)
    assert what in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert capfd.readouterr() == ("", "")
    assert logged == []


# A server that is told.


class Told(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.came.release()
        self.server.goes_on.wait(SECONDS_MAX)
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.server.bodies.append(b"")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Listening(ThreadingHTTPServer):
    """A server that takes what Apprise sends; it answers a status, and not before it may."""

    daemon_threads = True
    # A connection beyond those that wait is tried again by the kernel after a second, and then after two.
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Told)
        self.bodies = []
        self.status = 200
        self.came = threading.Semaphore(0)
        self.goes_on = threading.Event()
        self.goes_on.set()

    def handle_error(self, *_):
        """A client that gave up is what some tests are about."""

    def url(self, rest="", *, who=""):
        return f"json://{who}127.0.0.1:{self.server_address[1]}/{rest}"

    def messages(self):
        return [json.loads(body) for body in self.bodies]


@contextmanager
def listening():
    with Listening() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.goes_on.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def server():
    with listening() as server:
        yield server


def people(**limits):
    about = {"connect_seconds_max": 2, "first_byte_seconds_max": 5, "whole_seconds_max": 5}
    return People(EventSettings(**(about | limits)))


@in_a_loop
async def test_people_are_told(server):
    letter = told(FAILED, code="3")
    answer = await people().carry(server.url(), [], [letter])
    assert answer.taken
    assert answer.said == "taken by JSON"
    assert 0 < answer.took_seconds < SECONDS_MAX
    (message,) = server.messages()
    digest = digest_of([letter])
    assert (message["title"], message["message"], message["type"]) == (digest.title, digest.body, "warning")
    assert message["attachments"] == []


@in_a_loop
async def test_what_is_no_trouble_is_no_warning(server):
    assert (await people().carry(server.url(), [], [told(DELIVERED)])).taken
    assert [message["type"] for message in server.messages()] == ["info"]


@in_a_loop
async def test_ten_thousand_are_one_message_of_bounded_length(server):
    letters = [told(FAILED, code="3", message_id=f"m{at}", seconds=at) for at in range(10_000)]
    answer = await people().carry(server.url(), [], letters)
    assert answer.taken
    (message,) = server.messages()
    assert message["title"] == "landed: 10000 events, all failed"
    assert len(message["message"]) <= BODY_CHARACTERS_MAX
    assert message["message"].endswith(" more")


@in_a_loop
async def test_the_loop_goes_on_while_people_are_told(server):
    server.goes_on.clear()
    sending = asyncio.ensure_future(people().carry(server.url(), [], [told(DELIVERED)]))
    assert await asyncio.to_thread(server.came.acquire, timeout=SECONDS_MAX)
    longest, last = 0.0, time.monotonic()
    for _ in range(20):
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert not sending.done()
    server.goes_on.set()
    assert (await sending).taken
    assert longest < 0.5


@in_a_loop
async def test_nobody_is_told_of_nothing(server):
    answer = await people().carry(server.url(), [], [])
    assert answer.taken
    assert answer.said == "there was nothing to tell"
    assert server.bodies == []


@in_a_loop
async def test_a_service_that_fails_is_asked_once_and_quoted_without_secrets(server, capfd, logged):
    server.status = 500
    url = server.url("hunter2/x?retry=3&wait=0&optional=yes&+Authorization=hunter2b", who="who:hunter2c@")
    answer = await people().carry(url, ["hunter2d"], [told(FAILED, code="3")])
    assert not answer.taken
    assert answer.said == "Failed to send JSON POST notification: Internal server error., error=500."
    assert len(server.bodies) == 1
    assert capfd.readouterr() == ("", "")
    assert logged == []


@in_a_loop
async def test_who_is_not_there_is_said_without_the_address(server):
    url = server.url("hunter2", who="who:hunter2@")
    server.shutdown()
    server.server_close()
    answer = await people().carry(url, [], [told(FAILED, code="3")])
    assert not answer.taken
    assert answer.said == "A Connection error occurred sending JSON notification to •••."


@in_a_loop
async def test_a_redirect_is_not_followed_to_an_answer_that_means_nothing(server):
    server.status = 302
    answer = await people().carry(server.url(), [], [told(DELIVERED)])
    assert not answer.taken
    assert "error=302" in answer.said
    assert len(server.bodies) == 1


@in_a_loop
async def test_a_service_that_hangs_is_given_up(server):
    server.goes_on.clear()
    answer = await people(whole_seconds_max=0.3).carry(server.url("hunter2?rto=600"), [], [told(DELIVERED)])
    assert not answer.taken
    assert answer.said == "no answer within 0.3 s"
    assert answer.took_seconds < 2


@in_a_loop
async def test_a_service_is_let_go_of_after_the_time_for_its_first_byte(server):
    server.goes_on.clear()
    answer = await people(first_byte_seconds_max=0.3).carry(server.url("?rto=600"), [], [told(DELIVERED)])
    assert not answer.taken
    assert answer.took_seconds < 2


@in_a_loop
async def test_services_that_hang_hold_up_no_more_than_so_many_threads(server):
    server.goes_on.clear()
    before = set(threading.enumerate())
    carrier = people(whole_seconds_max=0.3)
    hung = asyncio.gather(*(carrier.carry(server.url(), [], [told(DELIVERED)]) for _ in range(SENDS_MAX)))
    more = asyncio.gather(*(carrier.carry(server.url(), [], [told(DELIVERED)]) for _ in range(2)))
    assert {(answer.said, answer.is_untried) for answer in await hung} == {("no answer within 0.3 s", False)}
    for answer in await more:
        assert (answer.taken, answer.is_untried) == (False, True)
        assert answer.said == f"not tried: of {SENDS_MAX} threads for messages to people none was free within 0.3 s"
    assert len(server.bodies) <= SENDS_MAX
    started = [each.name for each in set(threading.enumerate()) - before]
    assert started.count("messages to people") <= SENDS_MAX
    server.goes_on.set()
    assert (await carrier.carry(server.url(), [], [told(DELIVERED)])).taken


@in_a_loop
async def test_all_that_are_told_at_the_same_moment_are_told_in_turn(server):
    carrier = people()
    count = 3 * SENDS_MAX
    answers = await asyncio.gather(*(carrier.carry(server.url(), [], [told(DELIVERED)]) for _ in range(count)))
    assert {(answer.taken, answer.said) for answer in answers} == {(True, "taken by JSON")}
    assert len(server.bodies) == count


@in_a_loop
async def test_who_waits_for_others_is_told_when_one_of_them_ends(server):
    server.goes_on.clear()
    carrier = people()
    hung = [asyncio.create_task(carrier.carry(server.url(), [], [told(DELIVERED)])) for _ in range(SENDS_MAX)]
    for _ in hung:
        assert await asyncio.to_thread(server.came.acquire, timeout=SECONDS_MAX)
    with listening() as other:
        waiting = asyncio.create_task(carrier.carry(other.url(), [], [told(DELIVERED)]))
        await asyncio.sleep(0.05)
        assert (waiting.done(), other.bodies) == (False, [])
        server.goes_on.set()
        assert (await waiting).taken
    assert all(answer.taken for answer in await asyncio.gather(*hung))


@in_a_loop
async def test_what_is_told_at_once_to_two_is_answered_to_each(server):
    server.status = 500
    with listening() as other:
        first, second = await asyncio.gather(
            people().carry(server.url(), [], [told(DELIVERED)]), people().carry(other.url(), [], [told(DELIVERED)])
        )
    assert (first.taken, second.taken) == (False, True)
    assert "error=500" in first.said
    assert second.said == "taken by JSON"


@in_a_loop
async def test_a_wrong_address_is_an_answer():
    answer = await people().carry("nowhere://user:hunter2@example", [], [told(DELIVERED)])
    assert not answer.taken
    assert answer.said.startswith("That Apprise address is of no service that it knows")
    assert "hunter2" not in answer.said
    assert len(answer.said) <= ANSWER_CHARACTERS_MAX


def test_an_exit_waits_for_no_service_that_hangs(server):
    server.goes_on.clear()
    code = f"""
import asyncio, warnings
warnings.simplefilter("ignore")
from landed.settings import EventSettings
from landed.worker.people import People
from landed.domain.events import *
from landed.worker.letters import Letter
from datetime import datetime, UTC
data = QuarantineData(held=1, came=1, reasons={{}})
event = Event(id="evt_1", type=EventType.QUARANTINE, timestamp=datetime.now(UTC), data=data)
letter = Letter(id="evt_1", type=event.type, at=event.timestamp, attempt=1, event=event, body=b"")
settings = EventSettings(whole_seconds_max=1.5, first_byte_seconds_max=600)
print(asyncio.run(People(settings).carry("{server.url()}", [], [letter])).said)
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no answer within 1.5 s\n", "")
    assert time.monotonic() - began < SECONDS_MAX


# Without Apprise.


def test_without_apprise_the_answer_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    answer = asyncio.run(people().carry("json://127.0.0.1", [], [told(DELIVERED)]))
    assert not answer.taken
    assert answer.said == "To tell people needs Apprise: pip install 'landed[alerts]'."


def test_it_is_imported_when_it_is_first_used():
    code = "import sys, landed.worker.people; sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
