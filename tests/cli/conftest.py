"""A store with a few known messages, made the way all are: through the journal and the fold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from landed.journal.record import Ids, RequestRecord, SentRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.run import journal_path, store_path
from landed.store.sqlite import SqliteStore
from landed.worker.fold import Fold

BEGAN_US = 1_738_584_865_000_000  # 2025-02-03T12:14:25Z
SECOND_US = 1_000_000

STATUSES = (
    # seconds, message, status, channel, further fields
    (0, "m-delivered", "submitted", "sms", {"client_ref": "order-1", "destination": {"network_code": "23410"}}),
    (4, "m-delivered", "delivered", "sms", {"client_ref": "order-1", "usage": {"price": "0.0333", "currency": "EUR"}}),
    (10, "m-failed", "rejected", "sms", {"error": {"title": "1180", "detail": "Absent Subscriber Temporary"}}),
    (20, "m-read", "read", "whatsapp", {"client_ref": "order-1"}),
    (30, "m-pending", "submitted", "rcs", {"to": "447700900002"}),
    (40, "m-both", "delivered", "sms", {}),
    (50, "m-both", "undeliverable", "sms", {}),
)


def as_record(seconds: int, body: bytes, *, path: str = "/webhooks/message-status") -> bytes:
    at = BEGAN_US + seconds * SECOND_US
    return encode(
        RequestRecord(
            id=Ids().next(),
            at_us=at,
            received_us=at,
            account="default",
            api_key=None,
            coverage="body",
            verified=True,
            stale=False,
            answer=200,
            method="POST",
            path=path,
            query=b"",
            headers=(),
            body=body,
        )
    )


@pytest.fixture
def now_us() -> int:
    """This moment, in microseconds since 1970."""
    return time.time_ns() // 1_000


@pytest.fixture
def record():
    """Make a journal record of a signed body that came so many seconds after the beginning."""
    return as_record


@pytest.fixture
def store_of(tmp_path: Path):
    """Make a store, in the test's directory, out of these statuses."""

    def make(*statuses: dict[str, object]) -> None:
        journal = SqliteJournal(journal_path(tmp_path))
        journal.append([as_record(0, json.dumps(status).encode()) for status in statuses])
        store = SqliteStore(store_path(tmp_path))
        Fold(journal, store).step()
        store.close()
        journal.close()

    return make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory in which five messages are known."""
    journal = SqliteJournal(journal_path(tmp_path))
    sent = SentRecord(
        id=Ids().next(),
        at_us=BEGAN_US,
        account="default",
        message_id="m-delivered",
        api="messages",
        channel="sms",
        to="447700900001",
        sender="AcmeInc",
        client_ref="order-1",
        sent_us=BEGAN_US - SECOND_US,
    )
    records = [encode(sent)]
    for seconds, message, status, channel, more in STATUSES:
        fields = {"message_uuid": message, "to": "447700900001", "from": "AcmeInc", "channel": channel}
        fields |= {"status": status, "timestamp": "2025-02-03T12:14:25Z"} | more
        records.append(as_record(seconds, json.dumps(fields).encode()))
    journal.append(records)
    store = SqliteStore(store_path(tmp_path))
    fold = Fold(journal, store)
    while fold.step():
        pass
    store.close()
    journal.close()
    return tmp_path


@pytest.fixture
def landed(tmp_path: Path):
    """Run the command line as a person does; the environment has nothing of landed's or Vonage's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LANDED_", "VONAGE_"))}

    def run(*arguments: str | Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "landed", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env=environment | more,
        )

    return run
