"""The mount within one process: its files, its limits, threads, forks and broken disks."""

import asyncio
import io
import json
import resource
import subprocess
import sys
import threading
import time
from contextlib import closing
from urllib.parse import urlencode

import apsw
import pytest

import landed
from landed.errors import SettingsError
from landed.gate.judge import ANSWERS
from landed.journal.record import RequestRecord, decode
from landed.journal.sqlite import FILE, SqliteJournal
from landed.settings import Limits, Settings
from landed.vonage.signing import sign_jwt

STATUS_PATH = "/webhooks/message-status"
RECEIPT_PATH = "/webhooks/delivery-receipt"
RECEIPT = urlencode({"messageId": "m", "msisdn": "1", "to": "2", "status": "delivered"})


@pytest.fixture(autouse=True)
def _bare(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("LANDED_DATA", "VONAGE_API_KEY", "VONAGE_SIGNATURE_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make(tmp_path):
    """Make mounts; all are closed in the end."""
    made = []

    def make_one(**options):
        made.append(landed.Webhooks(**{"data": tmp_path / "data"} | options))
        return made[-1]

    yield make_one
    for each in made:
        each.close()


def ask(webhooks, path=RECEIPT_PATH, query=RECEIPT, method="GET", body=b"", *, mount="", **environ):
    """The answer of the WSGI application: its status, and its headers."""
    given = []
    about = {"REQUEST_METHOD": method, "SCRIPT_NAME": mount, "PATH_INFO": path, "QUERY_STRING": query}
    about |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body), "REMOTE_ADDR": "192.0.2.1"} | environ
    said = b"".join(webhooks.wsgi(about, lambda status, headers: given.append((int(status[:3]), dict(headers)))))
    ((status, headers),) = given
    assert headers.get("Content-Length", "0") == str(len(said))
    return status, headers


def ask_asgi(webhooks, *messages, path=STATUS_PATH, method="POST", root_path="", kind="http", headers=()):
    """What the ASGI application sends when it receives these; behind them nothing comes."""
    sent = []
    waiting = list(messages)

    async def receive():
        return waiting.pop(0) if waiting else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "method": method, "path": path, "root_path": root_path, "query_string": b""}
    asyncio.run(webhooks.asgi(scope | {"headers": list(headers), "client": ("192.0.2.1", 1)}, receive, send))
    return sent


def piece(body, *, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def kept(data):
    with closing(SqliteJournal(data / FILE)) as journal:
        records = [decode(record) for _, record in journal.read(0, 10_000)]
    return [record for record in records if isinstance(record, RequestRecord)]


def test_making_one_touches_no_disk_and_loads_no_framework(tmp_path):
    code = (
        "import sys, landed; landed.Webhooks(); "
        "sys.exit(bool({'flask', 'django', 'starlette', 'fastapi'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_said_when_it_is_made(make, monkeypatch):
    with pytest.raises(SettingsError):
        make(secrets="")
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", " ")
    with pytest.raises(SettingsError):
        make()


@pytest.mark.parametrize("secrets", ["one", ["two", "one"], {"key-a": "one"}], ids=["one", "rotating", "by-key"])
def test_secrets_are_given_as_to_parse(make, tmp_path, secrets):
    webhooks = make(secrets=secrets)
    body = b'{"message_uuid":"u","status":"delivered","channel":"sms"}'
    token = sign_jwt(body, "one", issued_at=int(time.time()), token_id="j", api_key="key-a")

    status, _ = ask(webhooks, STATUS_PATH, "", "POST", body, HTTP_AUTHORIZATION=f"Bearer {token}")

    assert status == 200
    assert [record.verified for record in kept(tmp_path / "data")] == [True]


@pytest.mark.parametrize(
    ("mount", "path", "status"),
    [
        *(pytest.param("", path, ANSWERS[path], id=path) for path in ANSWERS),
        *(pytest.param("/webhooks", path[9:], ANSWERS[path], id=f"below-{path[10:]}") for path in ANSWERS),
        pytest.param("/hooks", "/delivery-receipt", 204, id="below-another-mount"),
        pytest.param("/hooks", "/webhooks/delivery-receipt", 204, id="whole-below-a-mount"),
        pytest.param("/webhooks", "//delivery-receipt/", 204, id="slashes"),
        pytest.param("", "//webhooks//delivery-receipt/", 204, id="slashes-in-the-whole"),
        pytest.param("", "/delivery-receipt", 404, id="name-without-mount"),
        pytest.param("/", "/delivery-receipt", 404, id="name-below-the-root"),
        pytest.param("/webhooks", "/other", 404, id="another"),
        pytest.param("/webhooks", "", 404, id="the-mount-itself"),
        pytest.param("", "/healthz", 200, id="health"),
        pytest.param("/webhooks", "/healthz", 200, id="health-below"),
    ],
)
def test_a_path_comes_whole_or_below_the_mount(make, mount, path, status):
    webhooks = make()

    assert ask(webhooks, path, mount=mount)[0] == status
    for whole in (path, mount + path):
        (start, _) = ask_asgi(webhooks, piece(b"{}"), path=whole, root_path=mount, method="GET")
        assert start["status"] == status


@pytest.mark.parametrize(
    ("path", "status"),
    [("/a/b/webhooks/delivery-receipt", 204), ("/a/b/healthz", 200)]
    + [(path, 404) for path in (RECEIPT_PATH, "/a/bwebhooks/delivery-receipt", "/healthz", "/a/b/delivery-receipt")],
)
def test_a_prefix_must_be_there(make, monkeypatch, path, status):
    assert ask(make(prefix="a/b/"), path)[0] == status
    assert ask(make(prefix="/a/b"), path.removeprefix("/a"), mount="/a" if path.startswith("/a") else "")[0] == status
    monkeypatch.setenv("LANDED_PATH_PREFIX", "/a/b")
    assert ask(make(), path)[0] == status


def test_the_limits_are_the_gate_s(make):
    webhooks = make(settings=Settings(limits=Limits(body_bytes_max=10, url_bytes_max=60)))

    assert ask(webhooks, STATUS_PATH, "", "POST", b"x" * 10)[0] == 200
    assert ask(webhooks, STATUS_PATH, "", "POST", b"x" * 11)[0] == 413
    assert ask(webhooks, RECEIPT_PATH, "x" * 60)[0] == 414
    assert ask(webhooks, STATUS_PATH, "", "POST", b"x", CONTENT_LENGTH="+1")[0] == 400
    assert ask(webhooks, STATUS_PATH, "", "POST", b"x", CONTENT_LENGTH="9" * 5_000)[0] == 400


def test_a_body_cut_short_is_not_kept(make, tmp_path):
    webhooks = make()

    assert ask(webhooks)[0] == 204
    assert ask(webhooks, STATUS_PATH, "", "POST", b"half", CONTENT_LENGTH="8")[0] == 400
    assert ask_asgi(webhooks, piece(b"half", more=True), {"type": "http.disconnect"}) == []
    assert len(kept(tmp_path / "data")) == 1


def test_a_body_whose_end_cannot_be_told_is_never_taken_for_none(make):
    webhooks = make()
    chunked = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}

    assert ask(webhooks, STATUS_PATH, "", "POST", b"{}", **chunked)[0] == 503
    assert ask(webhooks, STATUS_PATH, "", "POST", b"{}", **chunked, **{"wsgi.input_terminated": True})[0] == 200


def test_a_slow_body_has_its_time(make):
    webhooks = make(settings=Settings(limits=Limits(request_seconds_max=0.05)))

    start, _ = ask_asgi(webhooks, piece(b"{", more=True))

    assert start["status"] == 408


def test_bodies_have_so_much_room_together(make):
    webhooks = make(settings=Settings(limits=Limits(buffered_bytes_max=100)))

    for _ in range(3):
        assert ask_asgi(webhooks, piece(b"x" * 60, more=True), piece(b"x" * 60))[0]["status"] == 503
        assert ask(webhooks, STATUS_PATH, "", "POST", b"x" * 101)[0] == 503
        # What was refused has given its room back.
        assert ask_asgi(webhooks, piece(b"x" * 60, more=True), piece(b"x" * 40))[0]["status"] == 200


def test_other_protocols_of_asgi_are_answered(make):
    webhooks = make()
    started, stopped = ask_asgi(webhooks, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, kind="lifespan")

    assert (started["type"], stopped["type"]) == ("lifespan.startup.complete", "lifespan.shutdown.complete")
    assert ask_asgi(webhooks, {"type": "websocket.connect"}, kind="websocket") == [{"type": "websocket.close"}]


def test_threads_may_wait_for_one_commit_and_each_has_its_answer(make, tmp_path):
    webhooks = make()
    assert ask(webhooks)[0] == 204
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(webhooks, query=f"{RECEIPT}&n={threading.get_ident()}")[0]))
        for _ in range(20)
    ]
    with closing(apsw.Connection(str(tmp_path / "data" / FILE))) as holder:
        holder.execute("BEGIN IMMEDIATE")
        for thread in threads:
            thread.start()
        holder.execute("COMMIT")
    for thread in threads:
        thread.join()

    assert answers == [204] * 20
    records = kept(tmp_path / "data")
    assert len({record.id for record in records}) == len({record.query for record in records}) == 21


def test_a_held_journal_is_503_and_then_goes_on(make, tmp_path):
    webhooks = make()
    assert ask(webhooks)[0] == 204
    with closing(apsw.Connection(str(tmp_path / "data" / FILE))) as holder:
        holder.execute("BEGIN IMMEDIATE")
        status, headers = ask(webhooks)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert ask(webhooks, "/healthz")[0] == 503
        holder.execute("COMMIT")

    assert ask(webhooks)[0] == 204
    assert ask(webhooks, "/healthz")[0] == 200
    assert len(kept(tmp_path / "data")) == 2


def test_a_directory_that_cannot_be_made_is_503_until_it_can(make, tmp_path):
    (tmp_path / "data").write_text("in the way")
    webhooks = make()
    assert ask(webhooks)[0] == 503
    assert ask_asgi(webhooks, piece(b"{}"))[0]["status"] == 503

    (tmp_path / "data").unlink()

    assert ask(webhooks)[0] == 204


def test_after_a_failed_write_nothing_is_tried_again_until_a_restart(make, tmp_path):
    webhooks = make()
    assert ask(webhooks)[0] == 204
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        assert ask(webhooks)[0] == 503
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert [ask(webhooks)[0], ask(webhooks, "/healthz")[0], ask_asgi(webhooks, piece(b"{}"))[0]["status"]] == [503] * 3
    assert len(kept(tmp_path / "data")) == 1
    assert ask(make())[0] == 204


FORKING = """
import os, sys
sys.path.insert(0, {here!r})
import landed
import json

webhooks = landed.Webhooks(data={data!r})

def ask(name):
    def said(status, headers):
        assert status[:3] == "204", status
    asked = {{"REQUEST_METHOD": "GET", "PATH_INFO": "/webhooks/delivery-receipt", "QUERY_STRING": "messageId=" + name}}
    webhooks.wsgi(asked, said)

ask("before")
children = []
for number in range(3):
    if not (child := os.fork()):
        for each in range(20):
            ask(f"child-{{number}}-{{each}}")
        sys.exit(0)
    children.append(child)
for each in range(20):
    ask(f"parent-{{each}}")
for child in children:
    assert os.waitpid(child, 0)[1] == 0
ask("behind")
"""


def test_a_fork_goes_on_with_files_of_its_own(tmp_path):
    data = tmp_path / "data"
    code = FORKING.format(here=str(tmp_path), data=str(data))

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    records = kept(data)
    assert len(records) == len({record.id for record in records}) == len({record.query for record in records}) == 82
    with closing(apsw.Connection(str(data / FILE))) as db:
        assert db.execute("PRAGMA integrity_check").get == "ok"


def test_the_record_is_as_the_gate_s(make, tmp_path):
    body = json.dumps({"message_uuid": "u", "status": "delivered"}).encode()
    ask(make(), "/message-status", "a=%20b", "POST", body, mount="/webhooks", CONTENT_TYPE="a/b", HTTP_X_ONE="1")

    (record,) = kept(tmp_path / "data")
    assert (record.method, record.path, record.query, record.body) == ("POST", STATUS_PATH, b"a=%20b", body)
    assert (record.answer, record.peer, record.account) == (200, "192.0.2.1", "default")
    assert set(record.headers) == {
        (b"Content-Type", b"a/b"),
        (b"Content-Length", b"%d" % len(body)),
        (b"X-One", b"1"),
    }
