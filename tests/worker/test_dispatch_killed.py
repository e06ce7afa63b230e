"""A worker that is killed at random instants, a hundred times, while it brings events to subscribers that fail.

Every event arrives or is to be seen as dead; an id comes twice only where an answer was lost; none is invented.
"""

import random
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

from landed import run
from landed.domain.events import decode_event
from landed.store.outbox import DeliveryState, Kind, SecretKept, Sought, Subscriber
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker.webhook import new_secret

KILLS = 100
SEED = 11
MESSAGES = 1_500
SECONDS_MAX = 240
LATE_SECONDS = 0.5
TOO_LATE = "within 0.3 s"
# A kill may come while the request waits in a busy server, or the answer is on its way.
KILLED_BEFORE_SECONDS = 1.0
NEST = Path(__file__).parent / "nest.py"
WORDS = ("submitted", "delivered", "read", "rejected", "undeliverable")


class Shop(ThreadingHTTPServer):
    """Receives events, fails at random, answers late or cuts the line after reading, and notes what it answered."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Counter)
        self.dice = random.Random(SEED)  # noqa: S311 - what to answer
        self.lock = threading.Lock()
        # By path and id: (when, whether a whole 204 was given to the other end).
        self.had = defaultdict(list)
        self.bodies = {}

    def handle_error(self, _request, _address):
        """A worker that is killed closes its connections as it likes."""

    def note(self, path, event, body, *, answered):
        with self.lock:
            self.had[path, event].append((time.time(), answered))
            self.bodies[event] = body

    def choose(self, path, body):
        with self.lock:
            chance = self.dice.random()
        if path == "/never" and decode_event(body).data.message.message_id.endswith("7"):
            return "refuse"
        return "take" if chance < 0.6 else "refuse" if chance < 0.8 else "cut" if chance < 0.95 else "late"


class Counter(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Shop

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        event = self.headers["webhook-id"]
        choice = self.server.choose(self.path, body)
        answered = False
        if choice == "late":
            time.sleep(LATE_SECONDS)
        if choice == "cut":
            self.close_connection = True
        else:
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % (500 if choice == "refuse" else 204))
                answered = choice == "take"
        self.server.note(self.path, event, body, answered=answered)

    def log_message(self, *_):
        pass


def test_a_worker_killed_a_hundred_times_loses_no_event_and_repeats_only_what_may_be_lost(road):
    shop = Shop()
    threading.Thread(target=shop.serve_forever, daemon=True).start()
    paths = ("/first", "/second", "/never")
    for path in paths:
        url = f"http://127.0.0.1:{shop.server_port}{path}"
        secret = SecretKept(new_secret())
        road.outbox.add(Subscriber(name=path[1:], kind=Kind.WEBHOOK, address=url, secrets=(secret,)))
    kills = []
    nest = subprocess.Popen(
        [sys.executable, str(NEST), str(road.data), str(KILLS), str(SEED)], stdout=subprocess.PIPE, text=True
    )
    try:
        dice = random.Random(SEED)  # noqa: S311 - which receipts come
        told = [(f"m{dice.randrange(MESSAGES)}", dice.choice(WORDS)) for _ in range(3 * MESSAGES)]
        for line in nest.stdout:
            kills.append(float(line))
            # Receipts come all the while.
            count = -(-len(told) // max(KILLS - len(kills), 1)) if told else 0
            road.receive(*told[:count])
            del told[:count]
        assert nest.wait(SECONDS_MAX) == 0
    finally:
        nest.kill()
        nest.wait()
        nest.stdout.close()
        shop.shutdown()
        shop.server_close()
    assert len(kills) == KILLS
    with closing(SqliteOutbox(run.store_path(road.data))) as outbox:
        check(shop, outbox, paths, kills)
    run.rebuild(road.data, lambda _position, _last: None)
    count = road.outbox.newest()
    road.begin_fold_again()
    assert road.fold.step() == 0
    assert road.outbox.newest() == count, "a rebuild says nothing"


def check(shop, outbox, paths, kills):
    events = {kept.id: kept.seq for kept in outbox.events(range(1, outbox.newest() + 1))}
    assert len(events) > MESSAGES
    dead = {(f"/{each.subscriber}", each.event) for _, each in outbox.deliveries(Sought(), limit=10**6)}
    delivered = {
        (f"/{each.subscriber}", each.event)
        for _, each in outbox.deliveries(Sought(states=(DeliveryState.DELIVERED,)), limit=10**6)
    }
    assert not dead & delivered
    assert len(dead) + len(delivered) == len(paths) * len(events), "each is one of both for each subscriber"
    assert any(path == "/never" for path, _ in dead)
    assert {event for _, event in shop.had} <= events.keys(), "none is invented"
    for (path, event), several in shop.had.items():
        if (path, events[event]) in delivered:
            assert any(answered for _, answered in several), "what is noted as delivered was answered"
        for (at, answered), (again_at, _) in pairwise(sorted(several)):
            # The answer was lost with the worker that was killed meanwhile, or came too late on a busy machine.
            first = bisect_left(kills, at - KILLED_BEFORE_SECONDS)
            was_killed = first < len(kills) and kills[first] <= again_at
            if answered and not was_killed:
                failed = [each for each in outbox.attempts(events[event]) if f"/{each.subscriber}" == path]
                assert any(TOO_LATE in each.said for each in failed), (path, event, at, again_at, failed)
    repeats = sum(answered for several in shop.had.values() for _, answered in several[:-1])
    assert repeats < KILLS * len(paths) * 8, "no more than were on their way at a kill"
