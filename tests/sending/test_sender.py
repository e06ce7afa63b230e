"""One send is one message: what is kept, what Vonage got, what is said; against the offline Vonage, over TLS."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import msgspec
import pytest
import trustme

from landed.domain.receipt import Api
from landed.domain.sending import SendState
from landed.errors import SettingsError
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, store_path
from landed.sending.sender import Sender
from landed.settings import load
from landed.store.sqlite import SqliteReader, SqliteStore
from landed.vonage.account import Gateway, Outgoing
from landed.vonage.sdk import Credentials
from landed.worker.fold import Fold

TO = "447700900001"
LONG_TEXT = "x" * 400


def text(api=Api.MESSAGES, to=TO, **options):
    return Outgoing(
        **({"api": api, "channel": "sms", "to": to, "sender": "ACME", "text": "Hi", "client_ref": ""} | options)
    )


class Place:
    """A data directory, a sender into it, and what the fold makes of its journal."""

    def __init__(self, directory, credentials):
        self.directory = directory
        self.waited = []
        self.journal = SqliteJournal(journal_path(directory))
        self.sender = Sender(self.journal, Gateway(credentials), "default", wait=self.waited.append)

    def sendings(self, client_ref):
        with closing(SqliteStore(store_path(self.directory))) as store:
            fold = Fold(self.journal, store)
            while fold.step():
                pass
        with closing(SqliteReader(store_path(self.directory))) as reader:
            return reader.sendings_of(client_ref)


@pytest.fixture
def credentials(vonage):  # noqa: ARG001 - its environment is read
    """Of the offline Vonage, as an application's settings have them."""
    return Credentials.of(load())


@pytest.fixture
def place(tmp_path, credentials):
    place = Place(tmp_path, credentials)
    yield place
    place.journal.close()


@pytest.mark.parametrize("api", Api)
def test_a_send_is_kept_before_and_after_and_is_one_message(vonage, place, api):
    sent = place.sender.send(text(api, client_ref="order-7"))
    (sending,) = place.sendings("order-7")
    (message,) = vonage.messages()
    assert (sent.state, sending.state) == (SendState.SENT, SendState.SENT)
    assert sent.message_ids == tuple(sending.message_ids) == (message.message_id,)
    assert (message.to, message.client_ref, message.text) == (TO, "order-7", "Hi")
    assert (sending.to, sending.sender, sending.api) == (TO, "ACME", api)


def test_a_send_without_a_reference_is_given_one_of_its_own(vonage, place):
    first, second = place.sender.send(text()), place.sender.send(text())
    assert first.client_ref != second.client_ref
    assert [message.client_ref for message in vonage.messages()] == [first.client_ref, second.client_ref]


def test_a_long_text_is_one_group_of_its_parts(vonage, place):
    sent = place.sender.send(text(Api.SMS, text=LONG_TEXT, client_ref="long"))
    (sending,) = place.sendings("long")
    assert sending.message_ids == list(sent.message_ids) == [message.message_id for message in vonage.messages()]
    with closing(SqliteReader(store_path(place.directory))) as reader:
        (message,) = reader.find(sent.message_ids[0], limit=1)
        assert reader.group(message).of == 3


@pytest.mark.parametrize("text_", ["Grüße, 5 €", "Здравствуйте"], ids=["GSM", "UCS-2"])
def test_a_text_goes_out_as_it_was_written(vonage, place, text_):
    place.sender.send(text(Api.SMS, text=text_))
    assert [message.text for message in vonage.messages()] == [text_]


REFUSED = [
    (Api.MESSAGES, "447700900709", "insufficient-credit"),
    (Api.MESSAGES, "447700900707", "invalid-number"),
    (Api.SMS, "447700900709", "insufficient-credit"),
    (Api.SMS, "447700900707", "number-barred"),
    (Api.SMS, "447700900704", "invalid-credentials"),
]


@pytest.mark.parametrize(("api", "to", "reason"), REFUSED, ids=[f"{api}-{reason}" for api, _, reason in REFUSED])
def test_what_vonage_refuses_is_said_with_its_reason_and_not_sent_again(vonage, place, api, to, reason):
    sent = place.sender.send(text(api, to, client_ref="order-7"))
    (sending,) = place.sendings("order-7")
    assert (sent.state, sent.reason, sending.state, sending.reason) == (
        *(SendState.REFUSED, reason, SendState.REFUSED, reason),
    )
    assert vonage.messages() == []
    assert place.waited == []


@pytest.mark.parametrize(("api", "wait"), [(Api.MESSAGES, 1.0), (Api.SMS, 1.0)])
def test_who_is_throttled_waits_as_long_as_it_is_told_and_then_gives_up(place, api, wait):
    sent = place.sender.send(text(api, "447700900701", client_ref="order-7"))
    assert (sent.state, sent.reason, place.waited) == (SendState.REFUSED, "throttled", [wait] * 4)
    assert len(place.sendings("order-7")) == 1


def test_who_is_throttled_once_sends_one_message(vonage, place):
    vonage.setting(throughput=1)
    place.sender.send(text(Api.SMS))
    place.sender._wait = lambda seconds: (place.waited.append(seconds), vonage.step(seconds=seconds))  # noqa: SLF001
    sent = place.sender.send(text(Api.SMS))
    assert (sent.state, len(vonage.messages())) == (SendState.SENT, 2)
    assert place.waited == [pytest.approx(1.0, abs=0.01)]


def test_of_a_text_whose_last_part_is_refused_the_others_are_known_and_none_is_sent_again(vonage, place):
    sent = place.sender.send(text(Api.SMS, "447700900799", text=LONG_TEXT, client_ref="order-7"))
    (sending,) = place.sendings("order-7")
    ids = [message.message_id for message in vonage.messages()]
    assert (sent.state, sending.state, len(ids)) == (SendState.REFUSED, SendState.REFUSED, 2)
    assert list(sent.message_ids) == sending.message_ids == ids


def test_wrong_credentials_are_said(tmp_path, credentials):
    place = Place(tmp_path, msgspec.structs.replace(credentials, api_secret="wrong"))
    sent = place.sender.send(text(Api.SMS))
    assert (sent.state, sent.reason) == (SendState.REFUSED, "invalid-credentials")
    place.journal.close()


def test_what_cannot_be_sent_at_all_leaves_no_intent(place):
    before = place.journal.last_position()
    with pytest.raises(SettingsError, match="recipient"):
        place.sender.send(text(to="123"))
    with pytest.raises(SettingsError, match="is no channel"):
        place.sender.send(text(channel="pigeon"))
    assert place.journal.last_position() == before


# What Vonage may do instead of answering.


@contextmanager
def unanswering(monkeypatch, tmp_path, answer):
    """A server with TLS that reads a request and does this with the connection; how many requests it read."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    listening = socket.create_server(("127.0.0.1", 0))
    read = []

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, context.wrap_socket(connection, server_side=True) as secure:
                read.append(secure.recv(65_536))
                answer(secure)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}", read
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


def status(code, body=b"{}"):
    return lambda secure: secure.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (code, len(body), body))


UNCLEAR = {
    "closed after the request": lambda _secure: None,
    "no answer in time": lambda _secure: time.sleep(1.5),
    "an answer cut short": lambda secure: secure.sendall(b"HTTP/1.1 202 X\r\nContent-Length: 99\r\n\r\n{"),
    "no JSON": status(202, b"<html>"),
    "another JSON": status(202, b"[]"),
    "500": status(500),
    "503": status(503, b"try later"),
}


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
def test_what_is_unclear_is_said_to_be_and_is_sent_once(monkeypatch, tmp_path, api, answer):
    with unanswering(monkeypatch, tmp_path, answer) as (host, read):
        credentials = Credentials(api_key="k", api_secret="s", api_host=host, rest_host=host, seconds_max=1)
        place = Place(tmp_path, credentials)
        sent = place.sender.send(text(api, client_ref="order-7"))
        (sending,) = place.sendings("order-7")
        place.journal.close()
    assert (sent.state, sending.state, len(read)) == (SendState.UNCLEAR, SendState.UNCLEAR, 1)
    assert sent.message_ids == ()


def test_where_there_is_no_connection_nothing_was_sent(tmp_path):
    place = Place(tmp_path, Credentials(api_key="k", api_secret="s", api_host="127.0.0.1:1", rest_host="127.0.0.1:1"))
    sent = place.sender.send(text())
    assert (sent.state, sent.reason) == (SendState.REFUSED, "communication-failed")
    place.journal.close()


SENDS = """
import sys
from landed.domain.receipt import Api
from landed.sending.sender import opened
from landed.settings import load
from landed.vonage.account import Outgoing
with opened(load()) as sender:
    for number in range(1000):
        ref = f"{sys.argv[1]}-{number}"
        sender.send(Outgoing(
            api=Api.SMS, channel="sms", to="447700900001", sender="ACME", text="Hi", client_ref=ref
        ))
"""


def test_a_sender_that_is_killed_has_sent_each_message_once_and_hides_none(vonage, tmp_path):
    environment = os.environ | {"LANDED_DATA": str(tmp_path)}
    for life in range(12):
        command = [sys.executable, "-c", SENDS, str(life)]
        with subprocess.Popen(command, env=environment) as sending:
            known = len(vonage.messages())
            deadline = time.monotonic() + 20
            while len(vonage.messages()) < known + 3 + life and time.monotonic() < deadline:
                time.sleep(0.003)
            sending.send_signal(signal.SIGKILL)
    with closing(SqliteJournal(journal_path(tmp_path))) as journal:
        with closing(SqliteStore(store_path(tmp_path))) as store:
            fold = Fold(journal, store)
            while fold.step():
                pass
        with closing(SqliteReader(store_path(tmp_path))) as reader:
            got = [message.client_ref for message in vonage.messages()]
            assert len(got) == len(set(got)) > 50
            for message in vonage.messages():
                (sending,) = reader.sendings_of(message.client_ref)
                assert sending.state in (SendState.SENT, SendState.BEGUN)
                if sending.state is SendState.SENT:
                    assert sending.message_ids == [message.message_id]
