"""The private port's application, over a real socket."""

from __future__ import annotations

import socket
import threading
import time

import httpx
import pytest
import uvicorn

from landed.api.app import Health, create_app
from landed.store import Tally

HEALTH = Health(
    folding=True,
    position=7,
    behind=2,
    tally=Tally(received=6, folded=4, duplicate=1, unreadable=1),
)
OUTCOMES = {"delivered": 3, "failed": 1}


@pytest.fixture
def private(request):
    """A client of the application on a free port; parametrise with the health that it has."""
    health = getattr(request, "param", HEALTH)
    app = create_app(lambda: health, lambda: OUTCOMES, version="0", facts={"Data": "<landed-data>"}, host="127.0.0.1")
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
        while not server.started:
            time.sleep(0.01)
        yield client
    server.should_exit = True
    thread.join()


def test_health_says_how_far_the_fold_is(private):
    answer = private.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "position": 7, "behind": 2})


@pytest.mark.parametrize("private", [Health(folding=False, position=7, behind=9, tally=Tally())], indirect=True)
def test_health_says_no_when_the_fold_has_stopped(private):
    assert private.get("/healthz").status_code == 503
    assert "the fold has stopped" in private.get("/").text


def test_metrics_show_the_ledger(private):
    lines = private.get("/metrics").text.splitlines()
    assert "landed_requests_received_total 6.0" in lines
    assert 'landed_requests_total{result="duplicate"} 1.0' in lines
    assert 'landed_messages{outcome="delivered"} 3.0' in lines
    assert "landed_fold_behind 2.0" in lines
    assert "landed_ledger_even 1.0" in lines


def test_the_page_says_what_this_is_and_escapes_what_it_shows(private):
    page = private.get("/").text
    assert "landed tells you which of your text messages arrived" in page
    assert "&lt;landed-data&gt;" in page


@pytest.mark.parametrize(("host", "status"), [("localhost:3001", 200), ("127.0.0.1", 200), ("evil.example", 400)])
def test_a_name_that_others_point_here_is_refused(private, host, status):
    assert private.get("/healthz", headers={"Host": host}).status_code == status
