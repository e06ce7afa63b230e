"""Ten thousand mixed messages through real sockets: the report is what another program counts from the requests."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

import pytest

from landed.store.sqlite import FILE, SqliteReader
from landed.vonage.signing import sign_jwt, sign_sig

MESSAGES = 10_000
CONNECTIONS = 16
SECONDS_MAX = 60
SECRET, KEY = "a signature secret of the tests", "abcd1234"
NETWORKS = ["23410", "26201", "310260", "51502", "US-TOLL-FREE", ""]
SENDERS = ["AcmeInc", "447700900123", "Shop & Co"]
SMS_ENDS = [("delivered", "0"), ("failed", "6"), ("failed", "0"), ("rejected", "9"), ("expired", "0"), ("unknown", "0")]
SMS_ENDS += [("failed", "2"), ("failed", "012")]
STATUS_ENDS = [("delivered", None), ("read", None), ("rejected", "1180"), ("rejected", "1240"), ("rejected", "1360")]
STATUS_ENDS += [("undeliverable", None), ("rejected", None), ("rejected", "1300")]


def signed_status(fields):
    body = json.dumps(fields).encode()
    token = sign_jwt(body, SECRET, issued_at=int(time.time()), token_id=fields["message_uuid"], api_key=KEY)
    head = f"POST /webhooks/message-status HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def signed_receipt(fields, form):
    told = fields | {"api-key": KEY, "timestamp": str(int(time.time()))}
    told["sig"] = sign_sig(told, SECRET, "sha256")
    head, query, body = "GET /webhooks/delivery-receipt", urlencode(told), b""
    if form == "json":
        head, query, body = "POST /webhooks/delivery-receipt", "", json.dumps(told).encode()
    elif form == "form":
        head, query, body = "POST /webhooks/delivery-receipt", "", query.encode()
    kind = "application/json" if form == "json" else "application/x-www-form-urlencoded"
    target = head + (f"?{query}" if query else "")
    return (
        f"{target} HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


def requests_of(number, chance):
    """All that is told of one message, in any order, some of it twice."""
    network, sender = chance.choice(NETWORKS), chance.choice(SENDERS)
    price = chance.choice(["0.0333", "0.03330000", "0.1", "0"])
    told = []
    if number % 2:
        fields = {"msisdn": f"4477009{number:05}", "to": sender, "messageId": f"s{number}", "scts": "2608011200"}
        fields |= {"price": price} | ({"network-code": network} if network else {})
        form = chance.choice(["query", "form", "json"])
        if chance.random() < 0.5:
            told.append(signed_receipt(fields | {"status": "accepted", "err-code": "0"}, form))
        if not told or chance.random() < 0.9:
            word, code = chance.choices(SMS_ENDS, [20, *[1] * (len(SMS_ENDS) - 1)])[0]
            told.append(signed_receipt(fields | {"status": word, "err-code": code}, form))
    else:
        channel = chance.choice(["sms", "whatsapp", "rcs"])
        fields = {"message_uuid": f"m{number}", "to": f"4477009{number:05}", "from": sender, "channel": channel}
        fields |= {"timestamp": "2026-08-01T12:00:00Z"}
        fields |= {"destination": {"network_code": network}} if network and channel == "sms" else {}
        if chance.random() < 0.8:
            told.append(signed_status(fields | {"status": "submitted", "usage": {"currency": "EUR", "price": price}}))
        if not told or chance.random() < 0.9:
            word, code = chance.choices(STATUS_ENDS, [20, 3, *[1] * (len(STATUS_ENDS) - 2)])[0]
            told.append(signed_status(fields | {"status": word} | ({"error": {"title": code}} if code else {})))
    chance.shuffle(told)
    return told + [again for again in told if chance.random() < 0.1]


async def send_all(port, several):
    """Over a few connections, each request answered before the next."""

    async def send(requests):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 204 ")), head
        writer.close()

    await asyncio.gather(*(send(several[start::CONNECTIONS]) for start in range(CONNECTIONS)))


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A data directory that a server filled, and the recount."""
    directory = tmp_path_factory.mktemp("stats")
    chance = random.Random(11)  # noqa: S311 - a mix, not a secret
    told = [request for number in range(MESSAGES) for request in requests_of(number, chance)]
    command = [sys.executable, "-m", "landed", "serve", "--port", "0", "--private-port", "0", "--host", "127.0.0.1"]
    command += ["--data", str(directory / "data"), "--print", "none"]
    environment = {"VONAGE_SIGNATURE_SECRET": SECRET, "VONAGE_API_KEY": KEY, "PATH": ""}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=directory) as serve:
        said = ""
        while "message-status" not in said:
            said += serve.stderr.readline()
        asyncio.run(send_all(int(re.search(r"http://127\.0\.0\.1:(\d+)", said)[1]), told))
        with closing(SqliteReader(directory / "data" / FILE)) as reader:
            deadline = time.monotonic() + SECONDS_MAX
            while (progress := reader.progress()) is None or progress.tally.received < len(told):
                assert time.monotonic() < deadline, "it was not folded in time"
                time.sleep(0.05)
        serve.send_signal(signal.SIGTERM)
        serve.stderr.read()
    recount = [sys.executable, str(Path(__file__).with_name("recount.py")), str(directory / "data" / "journal.db")]
    return directory / "data", json.loads(subprocess.run(recount, check=True, capture_output=True, text=True).stdout)


def reported(data, by):
    command = [sys.executable, "-m", "landed", "stats", "--by", by, "--data", str(data), "--json"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {(row["value"] or ""): row for row in map(json.loads, lines) if row["by"] == by}


@pytest.mark.parametrize("by", ["network", "country", "channel", "sender", "reason", "hour"])
def test_the_report_is_what_another_program_counts(counted, by):
    data, recount = counted
    rows = reported(data, by)
    if by == "hour":
        rows = {f"{int(datetime.fromisoformat(value).timestamp()) // 3_600}": row for value, row in rows.items()}

    ours = {
        value: {outcome: row[outcome] for outcome in ("pending", "delivered", "failed", "unconfirmed") if row[outcome]}
        for value, row in rows.items()
    }
    assert ours == recount["counts"][by]
    assert sum(row["messages"] for row in rows.values()) == MESSAGES
    for value, row in rows.items():
        cost = {}
        for by_outcome in row["cost_by_outcome"].values():
            for outcome, each in by_outcome.items():
                cost[outcome] = cost.get(outcome, 0) + Decimal(each)
        assert cost == {outcome: Decimal(each) for outcome, each in recount["cost"][by].get(value, {}).items()}


def test_the_latencies_are_those_of_the_requests(counted):
    data, recount = counted
    for network, row in reported(data, "network").items():
        times = recount["latencies"][network]
        assert len(times) > 50
        for name, part in (("p50_ms", 0.5), ("p95_ms", 0.95)):
            # To a bucket's width, and to a millisecond where that is more.
            assert row[name] == pytest.approx(times[int(part * (len(times) - 1))], rel=0.25, abs=2)
