"""landed as it is started by a user, on a machine that fails: real processes, sockets, file systems.

A disk that is small or turns read-only needs root and loop devices, failing syncs and other clocks need
a C compiler: without them these tests are skipped, but fail where `CI` or `NOTHING_SKIPPED` is set.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import apsw
import pytest

from landed import run
from landed.journal.record import RequestRecord, TickRecord, decode
from landed.journal.sqlite import SqliteJournal
from landed.store.sqlite import SqliteReader
from landed.vonage.signing import sign_jwt, sign_sig

SECRET = "a signature secret of the tests"
KEY = "abcd1234"
SECONDS_MAX = 40
CLIENTS = 4
PAUSE_SECONDS = 0.01
DISK_BYTES = 48 * 1024 * 1024
EXAMPLES = Path(__file__).parents[2] / "examples"
FAULTS = Path(__file__).with_name("fault.c")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}
ENVIRONMENT |= {"VONAGE_SIGNATURE_SECRET": SECRET, "VONAGE_API_KEY": KEY}


def _with_files(files_max):
    """The beginning of a command that may have only so many files open."""
    return [] if files_max is None else ["sh", "-c", f'ulimit -n {files_max} && exec "$@"', "sh"]


def wait_until(condition):
    """Wait for what a condition gives, as long as it gives nothing."""
    deadline = time.monotonic() + SECONDS_MAX
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


def not_here(reason):
    """Skip, but not where all must be there."""
    if os.environ.get("CI") or os.environ.get("NOTHING_SKIPPED"):
        pytest.fail(reason)
    pytest.skip(reason)


class Landed:
    """A running `landed serve`; its data, what it says and whom it started."""

    def __init__(self, directory, data, *options, files_max=None, environment):
        self.data = data
        self._stderr = directory / f"stderr-{len(list(directory.glob('stderr-*')))}"
        command = [*_with_files(files_max), sys.executable, "-m", "landed", "serve", "--print", "none", *options]
        command += ["--host", "127.0.0.1", "--port", "0", "--private-port", "0", "--data", str(data)]
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=ENVIRONMENT | environment,
                cwd=directory,
            )
        self._seen = {self.process.pid}
        self.port = self.private_port = 0

    def wait(self):
        """Until gate and worker answer."""
        wait_until(lambda: "signatures" in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said
        ports = re.findall(r"http://127\.0\.0\.1:(\d+)", self.said)
        self.port, self.private_port = int(ports[0]), int(ports[4])
        wait_until(lambda: self.health(self.port) == self.health(self.private_port) == 200)
        self.children()

    @property
    def said(self):
        return self._stderr.read_text()

    def events(self, name):
        """The log's lines of that name."""
        lines = (json.loads(line) for line in self.said.splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == name]

    def children(self):
        """Each child's process id, by its role."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = {}
        for pid in map(int, listed):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "--role" in words:
                found[words[words.index("--role") + 1]] = pid
        self._seen.update(found.values())
        return found

    def health(self, port=None):
        """The answer of a `/healthz`, the public one if none is named; 0 for none."""
        return ask(port or self.port, "GET", "/healthz")

    def status(self, message_id, word="delivered", **more):
        """Send a signed status of the Messages API; its answer."""
        return ask(self.port, *status_of(message_id, word, **more))

    def status_on(self, connection, message_id):
        """The answer to a signed status on a connection that is there already."""
        method, path, body, headers = status_of(message_id, "delivered")
        lines = [f"{method} {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return int(connection.recv(4_096).split()[1])

    def receipt(self, message_id, word="delivered", **more):
        """Send a signed receipt of the SMS API; its answer."""
        return ask(self.port, *receipt_of(message_id, word, **more))

    def forged(self, message_id):
        """Send a status whose signature does not hold; its answer."""
        return ask(self.port, *status_of(message_id, "delivered", secret="another"))

    def records(self):
        """All records of the journal."""
        records, after = [], 0
        with closing(SqliteJournal(run.journal_path(self.data))) as journal:
            while rows := journal.read(after, 1_000):
                records += [decode(data) for _, data in rows]
                after = rows[-1][0]
        return records

    def ticks(self):
        return [record for record in self.records() if isinstance(record, TickRecord)]

    def progress(self):
        with closing(SqliteReader(run.store_path(self.data))) as reader:
            return reader.progress()

    def waiting(self):
        """How many records the worker has not yet folded."""
        with closing(SqliteJournal(run.journal_path(self.data))) as journal:
            progress = self.progress()
            return journal.last_position() - (progress.position if progress else 0)

    def receipts(self):
        """How often each receipt was stored, by message."""
        with closing(apsw.Connection(str(run.store_path(self.data)))) as db:
            sql = "SELECT message.message_id FROM receipt JOIN message ON message.id = receipt.message"
            return Counter(message_id for (message_id,) in db.execute(sql))

    def holds(self, answered, *, sent=0, twice=frozenset(), duplicates=None):
        """What was answered 2xx is kept and folded, once, and the ledger is even."""
        # The gate goes on to tick.
        wait_until(lambda: self.waiting() == 0)
        requests = sum(isinstance(record, RequestRecord) for record in self.records())
        receipts, tally = self.receipts(), self.progress().tally
        assert answered <= set(receipts)
        # Some are told of through both APIs.
        assert receipts == Counter([*receipts, *twice])
        assert tally.is_even
        assert (tally.received, tally.folded, tally.unreadable) == (requests, receipts.total() - sent, 0)
        assert duplicates in (None, tally.duplicate)
        assert "Traceback" not in self.said

    def leaves(self, code=0):
        """It ends with that code when it is told to."""
        self.children()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(SECONDS_MAX) == code, self.said

    def end(self):
        """Kill what is left of it."""
        if self.process.poll() is None:
            # Stopped first, so that it starts no other child meanwhile.
            self.process.send_signal(signal.SIGSTOP)
            self.children()
        for pid in self._seen:
            if (words := Path(f"/proc/{pid}/cmdline")).exists() and str(self.data) in words.read_text():
                os.kill(pid, signal.SIGKILL)
        self.process.wait(SECONDS_MAX)


class Application:
    """A Flask application with landed's webhooks in it, in one process."""

    def __init__(self, directory, data, environment):
        self.data = data
        self._said = directory / f"application-{len(list(directory.glob('application-*')))}"
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flask", "--app", "flask_app", "run", f"--port={self.port}"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=ENVIRONMENT
                | {"PYTHONPATH": f"{EXAMPLES}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "LANDED_DATA": str(data)}
                | environment,
                cwd=directory,
            )

    @property
    def said(self):
        return self._said.read_text()

    def health(self):
        """The answer of landed's health within the application; 0 for none."""
        return ask(self.port, "GET", "/webhooks/healthz")

    def status(self, message_id, word="delivered"):
        """Send a signed status of the Messages API; its answer."""
        return ask(self.port, *status_of(message_id, word))

    def own(self):
        """The answer of a page of the application itself."""
        return ask(self.port, "POST", "/orders/7/text")

    def end(self):
        """Kill it."""
        self.process.kill()
        self.process.wait(SECONDS_MAX)


class Traffic:
    """Clients that send receipts of both APIs, each again and again until it is answered 2xx."""

    def __init__(self, port, *, body_bytes=0, name="client"):
        self.answered = set()
        self.answers = Counter()
        # Answered 503 without a Retry-After.
        self.unsaid = 0
        self._port = port
        self._body_bytes = body_bytes
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(f"{name}{number}",)) for number in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join(SECONDS_MAX)
            assert not thread.is_alive()

    def goes_on(self, count=40):
        """Until so many more are answered 2xx."""
        before = len(self.answered)
        wait_until(lambda: len(self.answered) >= before + count)

    def until(self, answer, count=10):
        """Until so many more have that answer; 0 is none at all."""
        before = self.answers[answer]
        wait_until(lambda: self.answers[answer] >= before + count)

    def _send(self, name):
        number = 0
        while not self._stopping.is_set():
            number += 1
            message_id = f"{name}-{number}"
            form = receipt_of if number % 2 else status_of
            while not self._try(form, message_id) and not self._stopping.wait(PAUSE_SECONDS):
                pass

    def _try(self, form, message_id):
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS_MAX)) as connection:
            try:
                connection.request(*form(message_id, "delivered", padding="x" * self._body_bytes))
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException):
                self.answers[0] += 1
                return False
        self.answers[answer.status] += 1
        self.unsaid += answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE and not answer.getheader("Retry-After")
        if answer.status not in (http.HTTPStatus.OK, http.HTTPStatus.NO_CONTENT):
            return False
        self.answered.add(message_id)
        return True


def status_of(message_id, word, *, at=None, secret=SECRET, **more):
    """A signed status of the Messages API: method, path, body, headers."""
    body = json.dumps({"message_uuid": message_id, "channel": "sms", "status": word} | more).encode()
    token = sign_jwt(body, secret, issued_at=int(at or time.time()), token_id=message_id, api_key=KEY)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return "POST", "/webhooks/message-status", body, headers


def receipt_of(message_id, word, *, at=None, **more):
    """A signed receipt of the SMS API."""
    fields = {"messageId": message_id, "status": word, "msisdn": "491701234567", "to": "ACME", "api-key": KEY}
    fields |= {"timestamp": str(int(at or time.time())), "scts": "2608011200", "err-code": "0"} | more
    fields["sig"] = sign_sig(fields, SECRET)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return "POST", "/webhooks/delivery-receipt", urlencode(fields).encode(), headers


def ask(port, *request):
    """The status of the answer to a request; 0 when there is none."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)) as connection:
        try:
            connection.request(*request)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0


class SmallDisk:
    """A file system of a few MiB, made by the test."""

    def __init__(self, directory):
        self.path = directory / "disk"
        self.path.mkdir()
        self._image = directory / "image"
        with self._image.open("wb") as image:
            image.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", "-m", "0", "-J", "size=1", str(self._image))
        self.mount()

    def mount(self):
        """Put it in place, as it is after a repair."""
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path))

    def unmount(self):
        """Take it away, if no file in it is open."""
        return _works("umount", str(self.path))

    def repair(self):
        """What an operator does after an error of the file system."""
        _works("e2fsck", "-fy", str(self._image))

    def remount(self, *options):
        """Change how it is mounted, if the kernel lets us."""
        return _works("mount", "-o", ",".join(("remount", *options)), str(self.path))

    def fail(self):
        """Let the kernel find an error, upon which it makes the file system read-only."""
        device = Path(_run("findmnt", "-no", "SOURCE", str(self.path)).strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("by a test")

    def fill(self, leave_bytes):
        """Leave only so much room."""
        with (self.path / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            # Whoever else writes takes a part of it, so the last bytes may not be there.
            while self._free_bytes() > leave_bytes:
                filler.write(bytes(min(64 * 1024, self._free_bytes() - leave_bytes)))

    def _free_bytes(self):
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def make_room(self):
        """Give back what was taken."""
        (self.path / "filler").unlink()

    def end(self):
        """Take it away, whoever uses it."""
        _works("umount", "-l", str(self.path))


def _program(name):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        not_here(f"{name} is not installed: these tests need mount, e2fsprogs and a C compiler")
    return found


def _run(name, *arguments):
    return subprocess.run([_program(name), *arguments], capture_output=True, text=True, check=True).stdout


def _works(name, *arguments):
    return subprocess.run([_program(name), *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A small ext4 in place."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        not_here("mounting a small file system needs root and loop devices")
    try:
        disk = SmallDisk(tmp_path)
    except subprocess.CalledProcessError as error:
        not_here(f"no small file system can be mounted here: {error.stderr}")
    yield disk
    disk.end()


class Faults:
    """What shall fail in processes that are started in this environment; see fault.c."""

    def __init__(self, library, directory):
        self._directory = directory
        self.environment = {"LD_PRELOAD": str(library), "FAULTS": str(directory)}

    @contextmanager
    def failing(self, path_end, process=0):
        """Syncs of such files fail for so long, in every process or in one."""
        self._ask("eio", f"{process} {path_end}")
        yield
        (self._directory / "eio").unlink()

    def kill_after_sync(self, path_end, process):
        """Kill a process as soon as its next sync of such a file is done."""
        self._ask("kill", f"{process} {path_end}")

    def move_clock(self, hours):
        """Move the clock of the day."""
        self._ask("clock", f"0 {round(hours * 3_600)}")

    def let_pass(self, seconds, process):
        """Let so many more seconds have passed since a process started, by the clocks that only go forward."""
        self._ask("passed", f"{process} {seconds}")

    def happened(self, fault):
        """The processes to which it happened, in order."""
        file = self._directory / "happened"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [int(pid) for name, pid, _ in lines if name == fault]

    def _ask(self, fault, text):
        # Put in place whole: processes read it at any moment.
        new = self._directory / "new"
        new.write_text(text)
        new.replace(self._directory / fault)


@pytest.fixture(scope="session")
def fault_library(tmp_path_factory):
    """The library that makes faults, built from its source."""
    if sys.platform != "linux" or (compiler := shutil.which("cc")) is None:
        not_here("faults of system calls need Linux and a C compiler named cc")
    library = tmp_path_factory.mktemp("fault") / "fault.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(FAULTS), "-ldl"], check=True)
    return library


@pytest.fixture
def faults(fault_library, tmp_path):
    """Faults to be made at will."""
    directory = tmp_path / "faults"
    directory.mkdir()
    return Faults(fault_library, directory)


@pytest.fixture
def start(tmp_path):
    """Start landed; all are ended at last."""
    started = []

    def start_landed(*options, data=None, files_max=None, **environment):
        landed = Landed(tmp_path, data or tmp_path / "data", *options, files_max=files_max, environment=environment)
        started.append(landed)
        landed.wait()
        return landed

    yield start_landed
    for landed in started:
        landed.end()


@pytest.fixture
def start_application(tmp_path):
    """Start applications with landed in them; all are ended at last."""
    started = []

    def start(data=None, **environment):
        application = Application(tmp_path, data or tmp_path / "data", environment)
        started.append(application)
        wait_until(lambda: application.health() or application.process.poll() is not None)
        assert application.process.poll() is None, application.said
        return application

    yield start
    for application in started:
        application.end()


@pytest.fixture
def until():
    """Wait for a condition."""
    return wait_until


@pytest.fixture
def traffic():
    """Send receipts of both APIs while something is done."""
    return Traffic
