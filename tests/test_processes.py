"""`landed serve` as it is run: a parent, its two children, signals, ports, directories, output."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import apsw
import httpx
import pytest
from ports import free_port

from landed import run
from landed.errors import SurroundingsError
from landed.store.sqlite import SqliteReader
from landed.vonage.signing import sign_jwt, sign_sig

SECRET = "a signature secret of the tests"
KEY = "abcd1234"
SECONDS_MAX = 30
LEAVE_SECONDS_MAX = 5
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}
SIGNED = ENVIRONMENT | {"VONAGE_SIGNATURE_SECRET": SECRET}


def command(*arguments):
    return [sys.executable, "-m", "landed", *arguments]


def until(condition, seconds_max=SECONDS_MAX):
    """Wait for what a condition gives, as long as it gives nothing."""
    deadline = time.monotonic() + seconds_max
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


def processes():
    """All processes: id to (parent's id, command line)."""
    listed = subprocess.run(
        [shutil.which("ps"), "-A", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    )
    lines = (line.split(None, 3) for line in listed.stdout.splitlines())
    return {int(pid): (int(parent), args[0] if args else "") for pid, parent, state, *args in lines if state[0] != "Z"}


class Serve:
    """A running `landed serve` in a directory of its own, on free ports of this machine."""

    def __init__(self, directory, *options, stdout=None, environment=SIGNED):
        self.data = directory / "data"
        self.said = directory / "stderr"
        self.printed = directory / "stdout"
        arguments = ["--host", "127.0.0.1", "--port", "0", "--private-port", "0", "--data", str(self.data)]
        with self.said.open("wb") as stderr, self.printed.open("wb") as printed:
            self.process = subprocess.Popen(
                command("serve", *arguments, *options),
                stdin=subprocess.DEVNULL,
                stdout=printed if stdout is None else stdout,
                stderr=stderr,
                env=environment,
                cwd=directory,
            )
        # Every process that was seen, so that none is left when a test fails.
        self.seen = {self.process.pid}
        until(lambda: "signatures" in self.said.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said.read_text()
        self.public, self.private = re.findall(r"http://127\.0\.0\.1:\d+", self.said.read_text())[0::4]
        until(self.is_up)
        self.children()

    def all_children(self):
        """Each child's role and process id."""
        children = sorted(
            (re.search(r"--role (\w+)", args)[1], pid)
            for pid, (parent, args) in processes().items()
            if parent == self.process.pid and "--role" in args
        )
        self.seen.update(pid for _, pid in children)
        return children

    def children(self):
        """Each child's process id, by its role."""
        return dict(self.all_children())

    def is_up(self):
        with httpx.Client(timeout=1) as client:
            try:
                return all(client.get(f"{url}/healthz").is_success for url in (self.public, self.private))
            except httpx.HTTPError:
                return False

    def get(self, path):
        return httpx.get(self.private + path, timeout=5)

    def status(self, message_id, word="delivered", **fields):
        """Send a signed Messages API status; its HTTP status."""
        about = {"message_uuid": message_id, "channel": "sms", "status": word, "to": "491701234567", "from": "ACME"}
        body = json.dumps(about | fields).encode()
        token = sign_jwt(body, SECRET, issued_at=int(time.time()), token_id=message_id, api_key=KEY)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        answer = httpx.post(self.public + "/webhooks/message-status", content=body, headers=headers, timeout=5)
        return answer.status_code

    def receipt(self, message_id, word="delivered"):
        """Send a signed SMS API receipt; its HTTP status."""
        fields = {"messageId": message_id, "status": word, "msisdn": "491701234567", "to": "ACME", "api-key": KEY}
        fields |= {"timestamp": str(int(time.time())), "scts": "2608011200", "err-code": "0"}
        fields["sig"] = sign_sig(fields, SECRET)
        return httpx.get(self.public + "/webhooks/delivery-receipt", params=fields, timeout=5).status_code

    def known(self):
        """The messages that were folded, by id."""
        with closing(SqliteReader(run.store_path(self.data))) as reader:
            progress = reader.progress()
            return 0 if progress is None else progress.tally.received

    def lines(self):
        return self.printed.read_text().splitlines()

    def leaves(self, code=0, seconds_max=LEAVE_SECONDS_MAX):
        """The parent ends with that code, and no process of its own is left."""
        began = time.monotonic()
        assert self.process.wait(SECONDS_MAX) == code, self.said.read_text()
        assert time.monotonic() - began < seconds_max
        assert not self.seen & processes().keys()

    def end(self):
        for pid in self.seen & processes().keys():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(SECONDS_MAX)


@contextmanager
def serving(directory, *options, **more):
    serve = Serve(directory, *options, **more)
    try:
        yield serve
    finally:
        serve.end()


def refused(*arguments, code, words, environment=SIGNED, cwd=None):
    """A command that ends at once with that code and one sentence, nothing else."""
    ended = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment, cwd=cwd, timeout=SECONDS_MAX, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert re.search(words, ended.stderr), ended.stderr
    if code == SurroundingsError.exit_code:
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        assert ended.stderr.startswith("landed: ")
        assert ended.stderr.endswith(".\n")


def on_free_ports(data):
    ports = ["--port", str(free_port()), "--private-port", str(free_port())]
    return ["serve", "--host", "127.0.0.1", *ports, "--data", str(data)]


# Starting, serving, leaving.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_it_starts_serves_and_leaves_when_told(tmp_path, number):
    with serving(tmp_path) as serve:
        assert sorted(serve.children()) == ["gate", "worker"]
        assert (serve.status("m1"), serve.receipt("m2")) == (200, 204)
        until(lambda: serve.known() == 2)

        assert serve.get("/healthz").json().items() >= {"status": "ok", "behind": 0, "lag_seconds": 0}.items()
        metrics = serve.get("/metrics").text
        assert 'landed_requests_total{result="folded"} 2.0' in metrics
        assert "landed_ledger_even 1.0" in metrics
        page = serve.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "landed" in page.text

        serve.process.send_signal(number)
        serve.leaves()
        left = ["gate-0.figures", "journal.db", "quarantine.db", "store.db", "worker.lock"]
        assert sorted(file.name for file in serve.data.iterdir()) == left


def test_what_is_in_flight_is_answered_and_folded_before_it_leaves(tmp_path):
    with serving(tmp_path) as serve:
        host, port = serve.public.removeprefix("http://").split(":")
        body = b'{"messageId": "m1", "status": "delivered"}'
        with socket.create_connection((host, int(port)), timeout=SECONDS_MAX) as client:
            head = f"POST /webhooks/delivery-receipt HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[:10])
            # Another request, so that the gate has surely read what came before it.
            assert serve.receipt("m2") == 204
            serve.process.send_signal(signal.SIGTERM)
            until(lambda: "gate" not in serve.children() or _refuses(host, int(port)))
            client.sendall(body[10:])
            assert client.recv(4_096).startswith(b"HTTP/1.1 204")
        serve.leaves()
        assert serve.known() == 2


def _refuses(host, port):
    try:
        with socket.create_connection((host, port), timeout=0.2) as client:
            client.settimeout(0.2)
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            return not client.recv(100)
    except OSError:
        return True


def test_the_worker_gives_way_to_the_gate(tmp_path):
    with serving(tmp_path) as serve:
        niceness = {role: os.getpriority(os.PRIO_PROCESS, pid) for role, pid in serve.children().items()}

        assert niceness["worker"] > niceness["gate"]


@pytest.mark.parametrize(("killed", "other"), [("gate", "worker"), ("worker", "gate")])
def test_a_child_that_is_killed_is_started_again_while_the_other_goes_on(tmp_path, killed, other):
    with serving(tmp_path) as serve:
        before = serve.children()
        os.kill(before[killed], signal.SIGKILL)
        if killed == "worker":
            assert serve.status("m1") == 200
        else:
            assert serve.get("/healthz").json()["status"] == "ok"
        after = until(lambda: len(children := serve.children()) == 2 and children)

        assert after[killed] != before[killed]
        assert after[other] == before[other]
        until(serve.is_up)
        assert serve.receipt("m2") == 204
        until(lambda: serve.known() == (2 if killed == "worker" else 1))
        serve.process.send_signal(signal.SIGTERM)
        serve.leaves()
        assert '"event": "child.died"' in serve.said.read_text()


def test_one_of_several_gates_that_is_killed_is_missed_by_nobody(tmp_path):
    with serving(tmp_path, "--gates", "3") as serve:
        before = serve.all_children()
        assert [role for role, _ in before] == ["gate", "gate", "gate", "worker"]
        os.kill(before[0][1], signal.SIGKILL)
        assert [serve.status(f"m{number}") for number in range(20)] == [200] * 20
        after = until(lambda: len(children := serve.all_children()) == 4 and children)

        assert len(set(before) & set(after)) == 3
        until(lambda: serve.known() == 20)
        until(lambda: 'landed_gate_processes{kind="serve"} 3.0' in serve.get("/metrics").text)
        assert "landed_ledger_even 1.0" in serve.get("/metrics").text
        serve.process.send_signal(signal.SIGTERM)
        serve.leaves()


def test_gates_alone_have_a_parent_and_no_worker(tmp_path):
    port, data = free_port(), tmp_path / "data"
    arguments = ["--role", "gate", "--gates", "2", "--host", "127.0.0.1", "--port", str(port), "--data", str(data)]
    process = subprocess.Popen(command("serve", *arguments), stderr=subprocess.PIPE, text=True, env=SIGNED)
    try:
        until(lambda: not _refuses("127.0.0.1", port))
        children = until(
            lambda: [args for parent, args in processes().values() if parent == process.pid and "--role gate" in args]
        )
        process.terminate()
        _, said = process.communicate(timeout=SECONDS_MAX)
    finally:
        process.kill()

    assert len(children) == 2
    assert "webhooks/message-status" in said
    assert "private" not in said
    assert process.returncode == 0


def test_when_the_parent_is_killed_the_children_leave_by_themselves(tmp_path):
    with serving(tmp_path) as serve:
        assert serve.receipt("m1") == 204
        os.kill(serve.process.pid, signal.SIGKILL)

        serve.process.wait(SECONDS_MAX)
        until(lambda: not serve.seen & processes().keys(), LEAVE_SECONDS_MAX)
        # Nothing of it is in the way of the next start.
        with serving(tmp_path) as again:
            assert again.known() == 1


# What it refuses.


@pytest.mark.parametrize("option", ["--port", "--private-port"])
def test_a_port_that_is_taken_is_said_in_one_sentence(tmp_path, option):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        arguments = [*on_free_ports(tmp_path / "data"), option, port]
        refused(*arguments, code=3, words=rf"Port {port} on 127\.0\.0\.1 .*{option}\.", cwd=tmp_path)


@pytest.mark.parametrize("below", ["data", "data/further"])
def test_a_directory_that_cannot_be_made_is_said_in_one_sentence(tmp_path, below):
    (tmp_path / "file").write_text("")
    refused(*on_free_ports(tmp_path / "file" / below), code=3, words="cannot be written .*--data", cwd=tmp_path)


@pytest.mark.parametrize("file", ["journal.db", "store.db"])
@pytest.mark.parametrize(
    ("pragma", "words"),
    [
        ("user_version = 99", "written by a newer landed"),
        ("application_id = 99", "not a file of landed's"),
    ],
    ids=["newer", "foreign"],
)
def test_data_of_a_newer_version_and_of_others_is_said_in_one_sentence(tmp_path, file, pragma, words):
    run.prepare(tmp_path)
    with closing(apsw.Connection(str(tmp_path / file))) as db:
        db.execute(f"PRAGMA {pragma}")

    refused(*on_free_ports(tmp_path), code=3, words=f"{file} .*{words}", cwd=tmp_path)


def test_a_second_worker_on_the_same_data_is_refused_and_so_is_a_rebuild_beside_one(tmp_path):
    with serving(tmp_path) as serve:
        for arguments in (
            on_free_ports(serve.data),
            [*on_free_ports(serve.data), "--role", "worker"],
            ["rebuild", "--data", str(serve.data)],
        ):
            refused(*arguments, code=3, words="Another worker runs on", cwd=tmp_path)
        assert serve.receipt("m1") == 204
        until(lambda: serve.known() == 1)


@pytest.mark.parametrize(
    ("options", "environment", "toml", "words"),
    [
        pytest.param(["--port", "99999"], {}, "", "Setting port", id="port"),
        pytest.param(["--print", "loud"], {}, "", "Setting print", id="print"),
        pytest.param(["--role", "boss"], {}, "", "Setting role", id="role"),
        pytest.param(["--nonsense"], {}, "", "No such option", id="option"),
        pytest.param([], {"VONAGE_SIGNATURE_METHOD": "crc32"}, "", "signature_method|VONAGE", id="method"),
        pytest.param([], {"VONAGE_SIGNATURE_SECRET": " , "}, "", "empty", id="empty-secret"),
        pytest.param([], {}, "prot = 3000", "Setting prot", id="unknown-setting"),
        pytest.param([], {}, "port = ", "cannot be read, in landed.toml", id="broken-file"),
    ],
)
def test_wrong_settings_end_the_start(tmp_path, options, environment, toml, words):
    (tmp_path / "landed.toml").write_text(toml)
    arguments = ["serve", "--data", str(tmp_path / "data"), *options]

    refused(*arguments, code=2, words=words, environment=ENVIRONMENT | environment, cwd=tmp_path)
    assert not (tmp_path / "data").exists()


# What it prints.


def test_json_is_one_object_for_each_receipt_with_numbers_masked(tmp_path):
    with serving(tmp_path, "--print", "json") as serve:
        assert (serve.status("m1", client_ref="order-7"), serve.status("m1", client_ref="order-7")) == (200, 200)
        lines = until(lambda: len(lines := serve.lines()) == 2 and lines)
    first, second = (json.loads(line) for line in lines)

    assert (first["event"], first["message_id"], first["outcome"]) == ("receipt", "m1", "delivered")
    assert (first["request"], first["answer"]) == ("POST /webhooks/message-status", 200)
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert (first["client_ref"], first["verified"]) == ("order-7", True)
    assert "491701234567" not in "".join(lines)


def test_a_pipe_gets_json_and_numbers_in_full_when_they_are_asked_for(tmp_path):
    with serving(tmp_path, "--show-numbers") as serve:
        assert serve.receipt("m1") == 204
        (line,) = until(serve.lines)

    assert json.loads(line)["to"] == "491701234567"


def test_raw_shows_the_fields_as_they_were_sent(tmp_path):
    with serving(tmp_path, "--print", "raw") as serve:
        assert serve.status("m1", added={"deep": [1, "two"]}) == 200
        (line,) = until(serve.lines)
    said = json.loads(line)

    assert said["request"] == "POST /webhooks/message-status"
    assert said["fields"]["added"] == {"deep": [1, "two"]}
    assert said["fields"]["to"] == "491701234567"


def test_pretty_is_for_people_and_masks_numbers(tmp_path):
    with serving(tmp_path, "--print", "pretty") as serve:
        assert serve.receipt("m1", "failed") == 204
        lines = until(lambda: len(lines := serve.lines()) == 2 and lines)

    assert re.search(r"GET /webhooks/delivery-receipt 204  signed", lines[0])
    assert re.search(r"failed +m1 +sms +4917\S+567 from ACME", lines[1])
    assert "\x1b" not in "".join(lines)
    assert "491701234567" not in "".join(lines)


def test_none_prints_nothing(tmp_path):
    with serving(tmp_path, "--print", "none") as serve:
        assert serve.receipt("m1") == 204
        until(lambda: serve.known() == 1)
        serve.process.send_signal(signal.SIGTERM)
        serve.leaves()
        assert serve.lines() == []


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "blocked"])
def test_an_output_that_nobody_reads_does_not_stop_the_fold(tmp_path, closed):
    read, write = os.pipe()
    if closed:
        os.close(read)
    with serving(tmp_path, "--print", "raw", stdout=write) as serve:
        os.close(write)
        large = "x" * 50_000
        for number in range(20):
            assert serve.status(f"m{number}", added=large) == 200
        until(lambda: serve.known() == 20)
        before = serve.children()
        assert serve.receipt("m99") == 204
        until(lambda: serve.known() == 21)

        assert serve.children() == before
        serve.process.send_signal(signal.SIGTERM)
        serve.leaves()
        assert not re.search(r"Traceback|Fatal|child\.", serve.said.read_text())
    if not closed:
        os.close(read)


def test_without_a_secret_it_says_that_nothing_is_checked(tmp_path):
    with serving(tmp_path, environment=ENVIRONMENT) as serve:
        assert "NOT checked" in serve.said.read_text()
        assert httpx.get(serve.public + "/webhooks/delivery-receipt?messageId=m1&status=accepted").status_code == 204
        (line,) = until(serve.lines)
        assert json.loads(line)["verified"] is False


def secrets_file(directory, *secrets):
    new = directory / "landed.toml.new"
    new.write_text(f"vonage_signature_secret = {list(secrets)!r}\n")
    return new.replace(directory / "landed.toml")


@pytest.mark.parametrize("gates", ["1", "2"])
@pytest.mark.parametrize("how", ["file", "hangup"])
def test_secrets_are_rotated_without_a_restart(tmp_path, how, gates):
    secrets_file(tmp_path, SECRET)
    with serving(tmp_path, "--gates", gates, environment=ENVIRONMENT) as serve:
        children = serve.all_children()
        assert serve.status("before") == 200
        secrets_file(tmp_path, "another")
        if how == "hangup":
            serve.process.send_signal(signal.SIGHUP)
        until(lambda: {serve.status("while") for _ in range(10)} == {401})
        secrets_file(tmp_path, "another", SECRET)
        until(lambda: {serve.status("after") for _ in range(10)} == {200})
        assert serve.all_children() == children


def test_a_gate_that_is_told_to_read_its_settings_again_while_it_starts_does_not_die_of_it(tmp_path):
    with serving(tmp_path) as serve:
        before = serve.children()["gate"]
        os.kill(before, signal.SIGKILL)
        after = until(lambda: (gate := serve.children().get("gate")) != before and gate)
        os.kill(after, signal.SIGHUP)
        until(serve.is_up)

        assert serve.children()["gate"] == after
        assert serve.receipt("m1") == 204


@pytest.mark.parametrize("text", ["", "port = ", "vonage_signature_secret = ''", "colour = 1", None])
def test_settings_that_are_wrong_or_would_check_nothing_change_nothing(tmp_path, text):
    secrets_file(tmp_path, SECRET)
    with serving(tmp_path, environment=ENVIRONMENT) as serve:
        file = tmp_path / "landed.toml"
        file.write_text(text) if text is not None else file.unlink()
        until(lambda: "settings.not_renewed" in serve.said.read_text())
        assert serve.status("signed") == 200
        unsigned = json.dumps({"message_uuid": "unsigned", "status": "delivered"})
        assert httpx.post(serve.public + "/webhooks/message-status", content=unsigned, timeout=5).status_code == 503
