"""A data directory with its own journal, store and outbox, as one worker has them."""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import UTC, datetime

import msgspec
import pytest

from landed import run
from landed.domain.moments import microseconds
from landed.journal.record import Ids, RequestRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.store.sqlite import SqliteStore
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker.fold import Fold

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
NOON_US = microseconds(NOON)
IDS = Ids()


class Road:
    """What receipts go through, from the journal to the outbox."""

    def __init__(self, data):
        run.prepare(data)
        self.data = data
        self.journal = SqliteJournal(run.journal_path(data))
        self.store = SqliteStore(run.store_path(data))
        self.outbox = SqliteOutbox(run.store_path(data))
        self.fold = Fold(self.journal, self.store)

    def receive(self, *told, at_us=NOON_US):
        """Messages API statuses: (message id, word), or with more fields; `verified` and `account` are the gate's."""
        self.journal.append([encode(_request(*each, at_us=at_us)) for each in told])

    def say(self, *told, at_us=NOON_US):
        """Receive these and fold them, together."""
        self.receive(*told, at_us=at_us)
        while self.fold.step():
            pass

    def events(self):
        """All events there are: (type, message id)."""
        return [
            (kept.type, kept.event.data.message.message_id)
            for kept in self.outbox.events(range(1, self.outbox.newest() + 1))
        ]

    def begin_fold_again(self):
        """As after the worker was started again."""
        self.store.close()
        self.store = SqliteStore(run.store_path(self.data))
        self.fold = Fold(self.journal, self.store)

    def close(self):
        for each in (self.journal, self.store, self.outbox):
            with suppress(Exception), closing(each):
                pass


def _request(message_id, word, more=None, *, at_us):
    more = dict(more or {})
    verified = more.pop("verified", True)
    account = more.pop("account", "default")
    about = {"message_uuid": message_id, "channel": "sms", "status": word, "timestamp": "2026-08-01T12:00:00Z"}
    return RequestRecord(
        id=IDS.next(),
        at_us=at_us,
        received_us=at_us,
        account=account,
        api_key="abcd1234" if verified else None,
        coverage="body" if verified else "nothing",
        verified=verified,
        stale=False,
        answer=200,
        method="POST",
        path="/webhooks/message-status",
        query=b"",
        headers=(),
        body=msgspec.json.encode({name: value for name, value in (about | more).items() if value is not None}),
    )


@pytest.fixture
def road(tmp_path):
    road = Road(tmp_path / "data")
    yield road
    road.close()
