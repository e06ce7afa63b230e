"""How fast the journal takes records and the fold understands them, beside plain SQLite inserts.

Run it with `make bench`. Rates differ between machines and minutes; read the ratios.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec

from landed.journal.record import Ids, RequestRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.store.sqlite import SqliteStore
from landed.worker.fold import Fold

RECORDS = 40_000
RECORDS_A_COMMIT = 40
ROUNDS = 3


def records(count: int) -> list[bytes]:
    """Status webhooks: each message is submitted, and delivered twenty messages later."""
    ids, now_us = Ids(), time.time_ns() // 1_000
    messages = [str(uuid.uuid4()) for _ in range(count // 2)]
    made = []
    for number in range(count):
        delivered = number % 2
        message = messages[max(0, number // 2 - 20 * delivered)]
        fields = {
            "message_uuid": message,
            "to": "447700900000",
            "from": "447700900001",
            "timestamp": f"2025-02-03T12:{number // 60_000 % 60:02}:{number // 1_000 % 60:02}Z",
            "status": "delivered" if delivered else "submitted",
            "channel": "sms",
            "client_ref": f"order-{message[:8]}",
            "usage": {"currency": "EUR", "price": "0.0333"},
            "destination": {"network_code": "12345"},
        }
        record = RequestRecord(
            id=ids.next(),
            at_us=now_us,
            received_us=now_us,
            account="default",
            api_key="abcd1234",
            coverage="body",
            verified=True,
            stale=False,
            answer=200,
            method="POST",
            path="/webhooks/message-status",
            query=b"",
            headers=((b"content-type", b"application/json"),),
            body=msgspec.json.encode(fields),
        )
        made.append(encode(record))
    return made


def plain(directory: Path, rows: list[bytes]) -> None:
    """The same bytes into a bare table, row by row, committed as often."""
    db = apsw.Connection(str(directory / "plain.db"))
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    db.execute("CREATE TABLE record (position INTEGER PRIMARY KEY, data BLOB)")
    for start in range(0, len(rows), RECORDS_A_COMMIT):
        with db:
            for row in rows[start : start + RECORDS_A_COMMIT]:
                db.execute("INSERT INTO record (data) VALUES (?)", (row,))
    db.close()


def append(directory: Path, rows: list[bytes]) -> None:
    """Into the journal."""
    journal = SqliteJournal(directory / "journal.db")
    for start in range(0, len(rows), RECORDS_A_COMMIT):
        journal.append(rows[start : start + RECORDS_A_COMMIT])
    journal.close()


def fold(directory: Path, _rows: list[bytes]) -> None:
    """From the journal into the store."""
    journal, store = SqliteJournal(directory / "journal.db"), SqliteStore(directory / "store.db")
    folding = Fold(journal, store)
    while folding.step():
        pass
    store.close()
    journal.close()


def main() -> None:
    """Alternate the three, and print the medians."""
    rows = records(RECORDS)
    works: dict[str, Callable[[Path, list[bytes]], None]] = {"plain SQLite": plain, "append": append, "fold": fold}
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as directory:
            for name, work in works.items():
                began = time.perf_counter()
                work(Path(directory), rows)
                rates[name].append(RECORDS / (time.perf_counter() - began))
    base = statistics.median(rates["plain SQLite"])
    print(
        f"{RECORDS:,} records, {RECORDS_A_COMMIT} a commit, median of {ROUNDS} rounds, Python {sys.version.split()[0]}"
    )
    for name, several in rates.items():
        rate = statistics.median(several)
        print(f"  {name:<13}{rate:>10,.0f} records/s   {rate / base:.2f} of plain SQLite")


if __name__ == "__main__":
    main()
