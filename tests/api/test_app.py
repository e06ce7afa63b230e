"""The private port's application, over a real socket."""

from __future__ import annotations

import re

import apsw
import pytest
from msgspec.structs import replace

from landed.errors import SurroundingsError


def test_health_says_how_far_the_fold_is(private):
    answer = private.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "position": 7, "behind": 2, "lag_seconds": 1.5}


def test_health_says_no_when_the_fold_has_stopped(serve, road):
    stopped = replace(road, health=replace(road.health, folding=False))
    with serve(lambda: stopped.health, lambda: stopped) as private:
        assert private.get("/healthz").status_code == 503
        assert "the fold has stopped" in private.get("/").text


def test_the_page_says_what_this_is_and_escapes_what_it_shows(private):
    page = private.get("/").text
    assert "landed tells you which of your text messages arrived" in page
    assert "&lt;landed-data&gt;" in page


def test_the_page_shows_the_ledger_and_what_is_in_quarantine(private):
    page = " ".join(private.get("/").text.split())
    assert "8 received: 4 new, 1 duplicate, 1 unreadable, 2 waiting" in page
    assert "2 waiting, the first for 1.5 s" in page
    assert "5 requests that were not trusted" in page
    assert "does not add up" not in page


def test_the_page_shows_how_it_stands_with_those_who_get_events(private):
    page = " ".join(re.sub(r"<[^>]*>", " ", private.get("/").text).split())
    assert "To State Waiting Unseen Dead Oldest open shop active 12 4,500 3 2:00:00 odd" in page
    assert "absent 0 0 0 Here" in page
    assert "&lt;b&gt;file" in page


def test_the_page_says_how_to_begin_where_nobody_gets_events(serve, road):
    alone = replace(road, subscribers=())
    with serve(lambda: alone.health, lambda: alone) as private:
        assert "Nobody gets events yet: <code>landed events subscribe URL</code>" in private.get("/").text


def test_the_page_says_when_the_ledger_does_not_add_up(serve, road):
    odd = replace(road, is_even=False)
    with serve(lambda: odd.health, lambda: odd) as private:
        assert "does not add up" in private.get("/").text


@pytest.mark.parametrize(
    "error", [SurroundingsError("The store cannot be opened."), apsw.CorruptError("The store cannot be opened.")]
)
def test_what_cannot_be_read_is_said_in_a_sentence(serve, error):
    def fail():
        raise error

    with serve(fail, fail) as private:
        for path in ("/", "/healthz", "/metrics"):
            answer = private.get(path)
            assert (answer.status_code, answer.json()["error"]) == (503, "The store cannot be opened.")


@pytest.mark.parametrize(("host", "status"), [("localhost:3001", 200), ("127.0.0.1", 200), ("evil.example", 400)])
def test_a_name_that_others_point_here_is_refused(private, host, status):
    assert private.get("/healthz", headers={"Host": host}).status_code == status
