"""How fast the gate takes signed receipts, durably, beside nginx and what is usually built.

Needs wrk and nginx on the PATH and the `bench` extra; it says so and does nothing where they are not.
All servers are on 127.0.0.1, one at a time, in alternating rounds of the same minute: read the ratios
to nginx `return 204`, since wrk shares the machine's cores with whatever it measures. How much of nginx a
server in Python can reach at all on a machine is told by one that answers without reading.

Last, one receipt at a time on a gate without load, beside an append with fdatasync on the same disk and processor.

    python bench/gate.py [--seconds 5] [--rounds 3] [--connections 64 256] [--only landed nginx]

`--only` takes those whose names begin so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from landed.vonage.signing import sign_jwt, sign_sig

HERE = Path(__file__).parent
RIVALS = HERE / "rivals"
HOST = "127.0.0.1"
REQUESTS = 60_000
LONE_REQUESTS = 1_000
LONE_BLOCK = 100
API_KEY = "abcd1234"
SECRET = "bench-signature-secret"  # noqa: S105 - of nobody's account
LINE_BREAK = "\x01"
START_SECONDS = 20.0

NGINX_NAME = "nginx, return 204"
NGINX = """
worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {directory}; server {{ listen {host}:{port}; return 204; }} }}
"""

# Without Lua's collector: it would go through all requests again and again, and take most of a core for it.
WRK = """
local requests, count, turn = {}, 0, 0
for line in io.lines("%s") do count = count + 1; requests[count] = (line:gsub("\\1", "\\r\\n")) end
collectgarbage("stop")
request = function() turn = turn %% count + 1; return requests[turn] end
"""


class Measured(msgspec.Struct):
    """One run: requests a second, p50 and p99 in milliseconds, and answers that were not 2xx."""

    rate: float
    p50_ms: float
    p99_ms: float
    refused: int


class Server(msgspec.Struct):
    """What to start, on the port that it is told by `{port}` or PORT."""

    name: str
    command: Sequence[str]
    needs: Sequence[str] = ()
    program: str = ""
    environment: Mapping[str, str] = {}


def servers(directory: Path) -> list[Server]:
    """All that is compared; ours first."""
    python = sys.executable
    landed = [python, "-m", "landed", "serve", "--role", "gate", "--host", HOST, "--port", "{port}"]
    uvicorn = [python, "-m", "uvicorn", "--host", HOST, "--port", "{port}", "--log-level", "critical"]
    secrets = {"VONAGE_SIGNATURE_SECRET": SECRET, "VONAGE_API_KEY": API_KEY}
    gunicorn = [python, "-m", "gunicorn", "--workers", "2", "--bind", f"{HOST}:{{port}}", "tutorial:app"]
    data, several = str(directory / "data"), str(directory / "data-of-several")
    return [
        Server("landed, verified and durable", [*landed, "--data", data], environment=secrets),
        Server("landed, with 2 gates", [*landed, "--data", several, "--gates", "2"], environment=secrets),
        Server(NGINX_NAME, ["nginx", "-c", "{config}"], program="nginx"),
        Server("uvloop, which answers unread", [python, "nothing.py"]),
        Server("tutorial, Flask's development server", [python, "tutorial.py"], needs=["flask"]),
        Server("tutorial, gunicorn with 2 workers", gunicorn, needs=["flask", "gunicorn"]),
        Server("FastAPI, SQLAlchemy, SQLite", [*uvicorn, "orm:app"], needs=["sqlalchemy"]),
        Server("FastAPI, sqlite3", [*uvicorn, "raw:app"]),
    ]


def signed_requests(count: int) -> Iterator[str]:
    """Distinct signed webhooks: three of the Messages API to one of the SMS API."""
    now = int(time.time())
    for number in range(count):
        yield sms_request(now) if number % 4 == 0 else messages_request(now, number)


def signed_lines(directory: Path) -> Path:
    """A file of signed requests, one a line, for wrk."""
    file = directory / "requests"
    file.write_text("\n".join(request.replace("\r\n", LINE_BREAK) for request in signed_requests(REQUESTS)))
    return file


def messages_request(now: int, number: int) -> str:
    """A status webhook of the Messages API."""
    fields = {
        "message_uuid": str(uuid.uuid4()),
        "to": "447700900000",
        "from": "447700900001",
        "timestamp": "2025-02-03T12:14:25Z",
        "status": "delivered",
        "channel": "sms",
        "client_ref": f"order-{number}",
        "usage": {"currency": "EUR", "price": "0.0333"},
        "destination": {"network_code": "12345"},
    }
    body = json.dumps(fields)
    token = sign_jwt(body.encode(), SECRET, issued_at=now, token_id=str(uuid.uuid4()), api_key=API_KEY)
    head = f"POST /webhooks/message-status HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def sms_request(now: int) -> str:
    """A delivery receipt of the SMS API, by GET."""
    fields = {
        "msisdn": "447700900001",
        "to": "AcmeInc",
        "network-code": "23410",
        "messageId": str(uuid.uuid4()),
        "price": "0.03330000",
        "status": "delivered",
        "scts": "2001011400",
        "err-code": "0",
        "api-key": API_KEY,
        "message-timestamp": "2020-01-01 12:00:00",
        "timestamp": str(now),
        "nonce": str(uuid.uuid4()),
    }
    fields["sig"] = sign_sig(fields, SECRET, "sha256")
    return f"GET /webhooks/delivery-receipt?{urlencode(fields)} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"


@contextmanager
def running(server: Server, directory: Path) -> Iterator[int]:
    """The server on a free port, until it is no longer needed."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, host=HOST, port=port))
    command = [part.format(port=port, config=config) for part in server.command]
    environment = os.environ | {"PORT": str(port), "DATABASE": str(directory / f"{port}.db")} | dict(server.environment)
    process = subprocess.Popen(
        command, cwd=RIVALS, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    )
    try:
        wait_for(port)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(START_SECONDS)


def wait_for(port: int) -> None:
    """Wait until somebody listens there."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def measure(port: int, script: Path, seconds: int, connections: int) -> Measured:
    """One run of wrk, one thread, keep-alive."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        f"http://{HOST}:{port}",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    return Measured(
        rate=float(rate[1]) if rate else 0.0,
        p50_ms=milliseconds(said, "50%"),
        p99_ms=milliseconds(said, "99%"),
        refused=int(refused[1]) if refused else 0,
    )


def milliseconds(said: str, name: str) -> float:
    """A percentile of wrk's report."""
    found = re.search(rf"{name}\s+([\d.]+)(us|ms|s)\b", said)
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]] if found else float("nan")


def can_run(server: Server) -> bool:
    """Whether what it needs is installed."""
    has_modules = all(importlib.util.find_spec(module) for module in server.needs)
    return has_modules and (not server.program or shutil.which(server.program) is not None)


def main() -> None:
    """Run all in alternating rounds, and print medians and ratios."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--seconds", type=int, default=5)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--connections", type=int, nargs="+", default=[64, 256])
    arguments.add_argument("--only", nargs="+", default=[""], metavar="NAME")
    asked = arguments.parse_args()
    if shutil.which("wrk") is None:
        print("bench/gate.py needs wrk: install Debian's packages wrk and nginx-light.")
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        script = directory / "wrk.lua"
        script.write_text(WRK % signed_lines(directory))
        compared = [each for each in servers(directory) if can_run(each) and each.name.startswith(tuple(asked.only))]
        for connections in asked.connections:
            runs: dict[str, list[Measured]] = {server.name: [] for server in compared}
            for _ in range(asked.rounds):
                for server in compared:
                    with running(server, directory) as port:
                        runs[server.name].append(measure(port, script, asked.seconds, connections))
                    forget(directory)
            report(runs, connections)
        lone(directory)


def forget(directory: Path) -> None:
    """Let the next one begin with nothing stored, in memory that was used before.

    Memory that the host of a virtual machine has yet to give takes five times as long to fill (measured).
    """
    for data in directory.glob("data*"):
        shutil.rmtree(data)
    for file in directory.glob("*.db*"):
        file.unlink()


def lone(directory: Path) -> None:
    """One receipt at a time, beside an append of as many bytes by the processor that the gate has: medians.

    Whoever waits for the disk is woken sooner by a third on the processor that the disk interrupts (measured). Where
    the scheduler happens to put the gate and whoever appends would decide; so both are on each one in turn, and the
    client.
    """
    requests = [request.encode() for request in signed_requests(LONE_REQUESTS)]
    processors = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else [0]
    ratios = []
    for processor in processors:
        move_to(processor)
        with running(servers(directory)[0], directory) as port:
            for client in processors:
                receipt_ms, append_ms = alone(port, requests, directory, processor, client)
                ratios.append(receipt_ms / append_ms)
                print(
                    f"one receipt {receipt_ms:.3f} ms, an append with fdatasync {append_ms:.3f} ms: {ratios[-1]:.2f} "
                    f"(the gate on processor {processor}, its client on {client})"
                )
    print(f"a receipt takes as long as {statistics.median(ratios):.2f} appends, {max(ratios):.2f} at most")


def alone(
    port: int, requests: Sequence[bytes], directory: Path, processor: int, client_processor: int
) -> tuple[float, float]:
    """Receipts and appends in turn, a hundred each: their medians in milliseconds."""
    answered, appended = [], []
    with socket.create_connection((HOST, port)) as client, (directory / "appended").open("ab", buffering=0) as file:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(requests), LONE_BLOCK):
            block = requests[start : start + LONE_BLOCK]
            move_to(client_processor)
            for data in block:
                began = time.perf_counter()
                client.sendall(data)
                client.recv(4_096)
                answered.append(time.perf_counter() - began)
            move_to(processor)
            for data in block:
                began = time.perf_counter()
                file.write(data)
                os.fdatasync(file.fileno())
                appended.append(time.perf_counter() - began)
    return statistics.median(answered) * 1000, statistics.median(appended) * 1000


def move_to(processor: int) -> None:
    """Run on this processor alone from now on, with what is started from here."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {processor})


def report(runs: Mapping[str, Sequence[Measured]], connections: int) -> None:
    """The table."""
    base = statistics.median(run.rate for run in runs.get(NGINX_NAME, next(iter(runs.values()))))
    print(f"{connections} connections, medians of {len(next(iter(runs.values())))} alternating rounds")
    print(f"{'':<40}{'requests/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'of nginx':>10}{'refused':>9}")
    for name, several in runs.items():
        rate, p50, p99 = (
            statistics.median(getattr(run, field) for run in several) for field in ("rate", "p50_ms", "p99_ms")
        )
        refused = sum(run.refused for run in several)
        print(f"{name:<40}{rate:>11,.0f}{p50:>9.2f}{p99:>9.2f}{rate / base:>10.3f}{refused:>9}")


if __name__ == "__main__":
    main()
