"""A fold that does nothing but fold is killed again and again: it repeats nothing and skips nothing."""

import random
import signal
import subprocess
import sys
import time
from contextlib import closing

import apsw
import msgspec

from landed import run
from landed.journal.record import Ids, RequestRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.store import Tally
from landed.store.sqlite import VIEWS, SqliteReader

MESSAGES = 3_000
KILLS = 15
SECONDS_MAX = 30
WORDS = ("submitted", "delivered", "submitted", "read")
IDS = Ids()

FOLD = """
import sys
from pathlib import Path
from landed import run
from landed.journal.sqlite import SqliteJournal
from landed.store.sqlite import SqliteStore
from landed.worker.fold import Fold
data = Path(sys.argv[1])
fold = Fold(SqliteJournal(run.journal_path(data)), SqliteStore(run.store_path(data)), records_a_batch=20)
print("ready", flush=True)
while fold.step():
    pass
"""


def _record(number, word):
    fields = {"message_uuid": f"m{number}", "channel": "sms", "status": word}
    return encode(
        RequestRecord(
            id=IDS.next(),
            at_us=number,
            received_us=number,
            account="default",
            api_key=None,
            coverage="body",
            verified=True,
            stale=False,
            answer=200,
            method="POST",
            path="/webhooks/message-status",
            query=b"",
            headers=(),
            body=msgspec.json.encode(fields),
        )
    )


def _views(data):
    with closing(apsw.Connection(str(run.store_path(data)))) as db:
        return {table: list(db.execute(f"SELECT * FROM {table} ORDER BY 1")) for table in VIEWS}  # noqa: S608


def _begun(data):
    process = subprocess.Popen([sys.executable, "-c", FOLD, str(data)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_fold_killed_at_any_instant_goes_on_where_it_was(tmp_path):
    chance = random.Random(1)  # noqa: S311 - one that can be had again
    with closing(SqliteJournal(run.journal_path(tmp_path))) as journal:
        journal.append([_record(number, word) for number in range(MESSAGES) for word in WORDS])
    for _ in range(KILLS):
        process = _begun(tmp_path)
        # A random instant is what is asked for here; nearly all of them are within a transaction.
        time.sleep(chance.uniform(0, 0.025))
        process.kill()
        process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == -signal.SIGKILL
    last = _begun(tmp_path)
    assert last.wait(SECONDS_MAX) == 0
    last.stdout.close()
    grown = _views(tmp_path)

    with closing(SqliteReader(run.store_path(tmp_path))) as reader:
        tally = reader.progress().tally
    assert tally == Tally(received=4 * MESSAGES, folded=3 * MESSAGES, duplicate=MESSAGES)
    assert (len(grown["message"]), len(grown["receipt"])) == (MESSAGES, 3 * MESSAGES)
    assert run.rebuild(tmp_path, lambda _position, _last: None) == (tally, 0)
    assert _views(tmp_path) == grown
