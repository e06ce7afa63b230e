"""The private port's application on a free port, and a road to show there."""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn

from landed.api.app import create_app
from landed.api.metrics import Attempts, Buckets, GateFigures, Health, Road, SubscriberFigures
from landed.journal.quarantine import Totals
from landed.store import Tally
from landed.store.outbox import Backlog, Kind, SubscriberState

# A handler's, of a file whose name is no good, and longer than is convenient.
ODD_NAME = 'odd "<b>file\\</b>\n\u00e9:arrived.<locals>.' + 100 * "x"
TIMES = Buckets(upto=((0.001, 3), (0.01, 4), (math.inf, 5)), sum=1.25)


@pytest.fixture
def road():
    """A road on which something of everything was seen."""
    return Road(
        health=Health(folding=True, position=7, behind=2, lag_seconds=1.5),
        epoch="e",
        tally=Tally(received=6, folded=4, duplicate=1, unreadable=1),
        waiting=2,
        checked_at=datetime(2026, 11, 22, tzinfo=UTC),
        outcomes={"delivered": 3, "failed": 1},
        quarantine=Totals(rows=5, bytes=2_000, copies=11),
        file_bytes={"journal": 8_192, "store": 4_096, "quarantine": 100},
        free_bytes=10**9,
        gates=GateFigures(
            processes={"serve": 1, "mount": 2},
            requests={("verified", "200"): 8, ("wrong", "401"): 11},
            kept_in={"e": 8, "other": 100},
            held=11,
            batches=Buckets(upto=((1, 2), (2, 3), (math.inf, 3)), sum=4),
            commits={"journal": TIMES, "quarantine": TIMES},
            answers=TIMES,
            unwritten=1,
        ),
        events=900,
        subscribers=(
            SubscriberFigures(
                name="shop",
                kind=Kind.WEBHOOK,
                state=SubscriberState.ACTIVE,
                backlog=Backlog(waiting=12, dead=3, unseen=4_500),
                oldest_seconds=7_200.4,
                attempts=Attempts(results={"delivered": 70, "failed": 8, "dead": 3}, times=TIMES),
            ),
            SubscriberFigures(name=ODD_NAME, kind=Kind.HANDLER, state=SubscriberState.ABSENT),
        ),
    )


@pytest.fixture
def serve():
    """Serve an application with this health and this look; a client of it."""

    @contextmanager
    def served(health, look):
        app = create_app(health, look, version="0", facts={"Data": "<landed-data>"}, host="127.0.0.1")
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
                while not server.started:
                    time.sleep(0.01)
                yield client
        finally:
            server.should_exit = True
            thread.join()

    return served


@pytest.fixture
def private(serve, road):
    """A client of the application that shows that road."""
    with serve(lambda: road.health, lambda: road) as client:
        yield client
