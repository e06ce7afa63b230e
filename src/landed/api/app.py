"""The private port's application: health, metrics, and the page that says what this is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.templating import Jinja2Templates
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.middleware.trustedhost import TrustedHostMiddleware

from landed.store import Tally

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the worker is. `behind` counts journal records that wait to be folded."""

    folding: bool
    position: int
    behind: int
    tally: Tally


def create_app(
    health: Callable[[], Health],
    outcomes: Callable[[], Mapping[str, int]],
    *,
    version: str,
    facts: Mapping[str, str],
    host: str,
) -> FastAPI:
    """The application. `outcomes` counts the messages of each outcome; `facts` are lines for the page."""
    app = FastAPI(title="landed", version=version, docs_url=None, redoc_url=None)
    # A page elsewhere must not reach this port through a name that it points here.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK_NAMES, host])
    templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
    registry = CollectorRegistry()
    registry.register(_Road(health, outcomes))

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        shown = {"health": health(), "outcomes": outcomes(), "facts": facts, "version": version}
        return templates.TemplateResponse(request, "index.html", shown)

    @app.get("/healthz")
    def healthz() -> Response:
        """Whether receipts are being folded, and how many wait."""
        now = health()
        content = {"status": "ok" if now.folding else "stopped", "position": now.position, "behind": now.behind}
        return JSONResponse(content, HTTPStatus.OK if now.folding else HTTPStatus.SERVICE_UNAVAILABLE)

    @app.get("/metrics")
    def metrics() -> Response:
        """The ledger and the fold, for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


class _Road(Collector):
    """Reads the road's figures when it is scraped, so that they are those of the store."""

    def __init__(self, health: Callable[[], Health], outcomes: Callable[[], Mapping[str, int]]) -> None:
        self._health = health
        self._outcomes = outcomes

    def collect(self) -> list[Metric]:
        now = self._health()
        requests = CounterMetricFamily("landed_requests", "Requests folded, by what they were.", labels=["result"])
        for result in ("folded", "duplicate", "unreadable"):
            requests.add_metric([result], getattr(now.tally, result))
        messages = GaugeMetricFamily("landed_messages", "Messages, by outcome.", labels=["outcome"])
        for outcome, count in self._outcomes().items():
            messages.add_metric([outcome], count)
        return [
            CounterMetricFamily("landed_requests_received", "Requests read from the journal.", now.tally.received),
            requests,
            messages,
            GaugeMetricFamily("landed_fold_position", "Position of the last record folded.", now.position),
            GaugeMetricFamily("landed_fold_behind", "Journal records that wait to be folded.", now.behind),
            GaugeMetricFamily("landed_fold_alive", "1 while the fold goes on.", int(now.folding)),
            GaugeMetricFamily(
                "landed_ledger_even", "1 while nothing is lost or counted twice.", int(now.tally.is_even)
            ),
        ]
