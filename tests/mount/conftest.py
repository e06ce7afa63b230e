"""The mount under each framework and server, as processes on real ports, beside the gate itself."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from landed.journal.quarantine import FILE as QUARANTINE_FILE
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.record import RequestRecord, decode
from landed.journal.sqlite import FILE, SqliteJournal
from landed.vonage.signing import sign_jwt

SECONDS = 30
HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}
CHECKED = {"VONAGE_API_KEY": "key-a", "VONAGE_SIGNATURE_SECRET": "secret-a,secret-a-old"}
SECOND = '[[account]]\nname = "second"\napi_key = "key-b"\nsignature_secret = "secret-b"\n'

STATUS = {"message_uuid": "u", "to": "1", "from": "2", "channel": "sms", "status": "delivered"}

# How each is started.
COMMANDS = {
    "gate": ["-m", "landed", "serve", "--role", "gate", "--host", "127.0.0.1", "--port={port}"],
    "flask": ["-m", "flask", "--app", "flask_app", "run", "--port={port}"],
    "flask-gunicorn": [
        "-m",
        "gunicorn",
        "flask_app:app",
        "--workers=2",
        "--preload",
        "--threads=4",
        "-b",
        "127.0.0.1:{port}",
    ],
    "flask-waitress": ["-m", "waitress", "--listen=127.0.0.1:{port}", "flask_app:app"],
    "wsgi-gunicorn": ["-m", "gunicorn", "apps:wsgi", "--workers=2", "-b", "127.0.0.1:{port}"],
    "django": ["{examples}/django_app.py", "runserver", "--noreload", "{port}"],
    "django-gunicorn": [
        "-m",
        "gunicorn",
        "django_app:application",
        "--workers=2",
        "--threads=4",
        "-b",
        "127.0.0.1:{port}",
    ],
    "django-asgi": ["-m", "uvicorn", "--log-level=warning", "django_asgi:application", "--port={port}"],
    "fastapi": ["-m", "uvicorn", "--log-level=warning", "fastapi_app:app", "--port={port}"],
    "fastapi-workers": ["-m", "uvicorn", "--log-level=warning", "--workers=2", "fastapi_app:app", "--port={port}"],
    "asgi": ["-m", "uvicorn", "--log-level=warning", "apps:asgi", "--port={port}"],
}
GUNICORN = ["-m", "gunicorn", "--workers=3", "-b", "127.0.0.1:{port}"]
UVICORN = ["-m", "uvicorn", "--log-level=warning", "--port={port}", "--factory"]
# The same for applications with handlers, whose processes work themselves.
SHOPS = {
    "flask-shop": [*GUNICORN, "shops:flask()"],
    "flask-shop-preloaded": [*GUNICORN, "--preload", "--threads=4", "shops:flask()"],
    "django-shop": [*GUNICORN, "shops:django()"],
    "fastapi-shop": [*UVICORN, "shops:fastapi"],
    "fastapi-shop-workers": [*UVICORN, "--workers=2", "shops:fastapi"],
    "asgi-shop": [*UVICORN, "shops:asgi"],
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Mounted:
    """One server process with its data directory."""

    def __init__(self, name, directory, environment, settings=""):
        self.name = name
        self.directory = directory
        self.data = directory / "data"
        (directory / "landed.toml").write_text(settings)
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        arguments = [each.format(port=self.port, examples=EXAMPLES) for each in (COMMANDS | SHOPS)[name]]
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=BARE
                | {
                    "HOME": str(directory),
                    "LANDED_DATA": str(self.data),
                    "TEST_CALLS": str(directory / "calls"),
                    "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{HERE}",
                    "PYTHONWARNINGS": "error",
                }
                | environment,
                start_new_session=True,
            )

    @property
    def said(self):
        return (self.directory / "log").read_text()

    def ask(self, method, target, body=None, headers=(), *, chunked=False):
        """Ask on a new connection; a body that is a list goes out in chunks."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
            elif body is not None and not any(name.lower() == "content-length" for name, _ in headers):
                connection.putheader("Content-Length", str(len(body)))
            connection.putheader("Connection", "close")
            connection.endheaders()
            try:
                if chunked:
                    for start in range(0, len(body), 1000):
                        piece = body[start : start + 1000]
                        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                    connection.send(b"0\r\n\r\n")
                elif body:
                    connection.send(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # It was answered before all of it was there.
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def status(self, message_id, word="delivered", path="/webhooks/message-status"):
        """Send a signed status of the Messages API; its answer."""
        body = json.dumps(STATUS | {"message_uuid": message_id, "status": word}).encode()
        token = sign_jwt(body, "secret-a", issued_at=int(time.time()), token_id="j", api_key="key-a")
        return self.ask("POST", path, body, [("Authorization", f"Bearer {token}")]).status

    def kept(self, after=0):
        """The requests in the journal."""
        return [record for record in records(self.data, after) if isinstance(record, RequestRecord)]

    def position(self):
        with closing(SqliteJournal(self.data / FILE)) as journal:
            return journal.last_position()

    def held(self):
        """What is in the quarantine, by id."""
        if not (self.data / QUARANTINE_FILE).exists():
            return {}
        with closing(SqliteQuarantine(self.data / QUARANTINE_FILE, only_read=True)) as quarantine:
            return {each.id: each for each in quarantine.read(0, 10_000)}

    def processes(self):
        """The processes that the server has started and that serve."""
        listed = subprocess.run(
            [shutil.which("ps"), "-A", "-ww", "-o", "pid=,ppid=,stat=,args="],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = (line.split(None, 3) for line in listed.stdout.splitlines())
        return [
            int(pid)
            for pid, parent, state, *args in lines
            if int(parent) == self.process.pid and state[0] != "Z" and "resource_tracker" not in "".join(args)
        ]

    def end(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(SECONDS)

    def wait(self):
        deadline = time.monotonic() + SECONDS
        while True:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            with closing(socket.socket()) as trying:
                if trying.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)


def records(data, after=0):
    """All records of a journal."""
    found = []
    with closing(SqliteJournal(data / FILE)) as journal:
        while rows := journal.read(after, 1_000):
            found += [decode(record) for _, record in rows]
            after = rows[-1][0]
    return found


@contextmanager
def mounting(name, directory, environment=None, settings=""):
    directory.mkdir(parents=True, exist_ok=True)
    mounted = Mounted(name, directory, environment or {}, settings)
    try:
        mounted.wait()
        yield mounted
    finally:
        mounted.end()


@pytest.fixture(scope="session", params=COMMANDS)
def checked(request, tmp_path_factory):
    """Each mount with two accounts, each with its key and secret; the first one rotates."""
    with mounting(request.param, tmp_path_factory.mktemp(request.param), CHECKED, SECOND) as mounted:
        assert mounted.status("first") == 200
        yield mounted


@pytest.fixture(scope="session", params=["gate", "flask", "django", "fastapi"])
def unchecked(request, tmp_path_factory):
    """Each kind of mount without any secret."""
    with mounting(request.param, tmp_path_factory.mktemp(request.param)) as mounted:
        assert mounted.status("first") == 200
        yield mounted


@pytest.fixture
def mount(tmp_path):
    """Start one for a test of its own."""
    return lambda name, environment=CHECKED, settings="": mounting(name, tmp_path / name, environment, settings)
