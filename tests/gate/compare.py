"""Each row of test_http.py, sent to landed, to uvicorn with either of its parsers, and to nginx.

Run by hand where nginx is installed, `python tests/gate/compare.py`: prints the rows that landed answers
otherwise than all references that agree do. `--all` prints every row. What is right is said by the table
and its RFCs; the references are there to make us look twice.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from test_http import MALFORMED, WELL_FORMED

HOST = "127.0.0.1"
# A reference that waits for more says nothing for so long.
SILENCE_SECONDS = 1.0
START_SECONDS = 15.0
AT_ONCE = 16

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\r\n]*\r\n")
LENGTH_LINE = re.compile(rb"^content-length: *([0-9]+)", re.IGNORECASE | re.MULTILINE)

NGINX = """
daemon off; worker_processes 1; pid {directory}/pid; error_log /dev/null;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 256k; large_client_header_buffers 8 16k; client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u;
  scgi_temp_path {directory}/s;
  server {{
    listen {host}:{port};
    # Handed on, so that bodies are read before they are answered.
    location / {{ proxy_pass http://unix:{directory}/behind; }}
  }}
  server {{
    listen unix:{directory}/behind;
    if ($request_method !~ ^(GET|HEAD|POST)$) {{ return 405; }}
    location / {{ return 404; }}
    location = /healthz {{ return 200; }}
    location = /webhooks/message-status {{ return 200; }}
    location = /webhooks/inbound-sms {{ return 200; }}
    location = /webhooks/delivery-receipt {{ return 204; }}
    location = /webhooks/delivery-receipt/ {{ return 204; }}
  }}
}}
"""

APPLICATION = """
STATUSES = {"webhooks/message-status": 200, "webhooks/inbound-sms": 200, "healthz": 200}
STATUSES["webhooks/delivery-receipt"] = 204

async def app(scope, receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    path = "/".join(part for part in scope["path"].removeprefix("http://example.com").split("/") if part)
    status = STATUSES.get(path, 404)
    if status != 404 and scope["method"] not in ("GET", "HEAD", "POST"):
        status = 405
    headers = [] if status == 204 else [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 413 if size > 262_144 else status, "headers": headers})
    await send({"type": "http.response.body"})
"""


@contextmanager
def running(command: list[str], port: int, directory: Path) -> Iterator[int]:
    """A server, until it is no longer needed."""
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                with suppress(OSError), socket.create_connection((HOST, port), 1):
                    break
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit(f"It does not start: {' '.join(command)}")
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


@contextmanager
def landed(directory: Path) -> Iterator[int]:
    """Our gate."""
    command = [sys.executable, str(Path(__file__).with_name("serve.py")), str(directory / "journal.db"), "{}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def statuses(got: bytes, *, to_head: bool) -> list[int]:
    """The statuses in what a server said."""
    found = []
    while (line := STATUS_LINE.match(got)) is not None:
        head, _, got = got.partition(b"\r\n\r\n")
        status = int(line[1])
        found.append(status)
        length = LENGTH_LINE.search(head)
        if status not in (100, 204) and not to_head:
            got = got[int(length[1]) :] if length else b""
    return found


async def ask(port: int, data: bytes, gate: asyncio.Semaphore) -> list[int]:
    async with gate:
        reader, writer = await asyncio.open_connection(HOST, port)
        got = b""
        with suppress(OSError, TimeoutError):
            writer.write(data)
            while piece := await asyncio.wait_for(reader.read(65_536), SILENCE_SECONDS):
                got += piece
        writer.transport.abort()
    return statuses(got, to_head=data.startswith(b"HEAD"))


async def compare(ports: dict[str, int], *, show_all: bool) -> None:
    rows = [(each.id, each.values[0]) for each in WELL_FORMED + MALFORMED]
    turns = {name: asyncio.Semaphore(AT_ONCE) for name in ports}
    asked = [asyncio.gather(*(ask(port, data, turns[name]) for _, data in rows)) for name, port in ports.items()]
    answers = await asyncio.gather(*asked)
    for (name, _), ours, *theirs in zip(rows, *answers, strict=True):
        if show_all or all(each == theirs[0] != ours for each in theirs):
            said = "  ".join(f"{of} {each}" for of, each in zip(ports, [ours, *theirs], strict=True))
            print(f"{name:<36}{said}")  # noqa: T201 - what it is for


def main() -> None:
    """Start all four and compare."""
    if shutil.which("nginx") is None:
        raise SystemExit("compare.py needs nginx: install Debian's package nginx-light.")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        (directory / "application.py").write_text(APPLICATION)
        ports = {"landed": stack.enter_context(landed(directory))}
        for parser in ("httptools", "h11"):
            port = free_port()
            uvicorn = [sys.executable, "-m", "uvicorn", "--host", HOST, "--port", str(port), "--http", parser]
            ports[parser] = stack.enter_context(running([*uvicorn, "application:app"], port, directory))
        port = free_port()
        (directory / "nginx.conf").write_text(NGINX.format(directory=directory, host=HOST, port=port))
        nginx = ["nginx", "-c", str(directory / "nginx.conf")]
        ports["nginx"] = stack.enter_context(running(nginx, port, directory))
        asyncio.run(compare(ports, show_all="--all" in sys.argv))


if __name__ == "__main__":
    main()
