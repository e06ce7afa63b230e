"""The private port's application: health, metrics, and the page that says what this is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

import apsw
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.templating import Jinja2Templates
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from landed.api.metrics import Health, Road, RoadCollector
from landed.errors import LandedError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

log = structlog.get_logger("landed.api")


def create_app(
    health: Callable[[], Health],
    look: Callable[[], Road],
    *,
    version: str,
    facts: Mapping[str, str],
    host: str,
) -> FastAPI:
    """The application. `look` gives the road's figures of now; `facts` are lines for the page."""
    app = FastAPI(title="landed", version=version, docs_url=None, redoc_url=None)
    # A page elsewhere must not reach this port through a name that it points here.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK_NAMES, host])
    app.add_exception_handler(LandedError, _unable)
    app.add_exception_handler(apsw.Error, _unable)
    templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
    registry = CollectorRegistry()
    registry.register(RoadCollector(look))

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        shown = {"road": look(), "facts": facts, "version": version}
        return templates.TemplateResponse(request, "index.html", shown)

    @app.get("/healthz")
    def healthz() -> Response:
        """Whether receipts are being folded, how many records wait, and for how long the first has."""
        now = health()
        content = {
            "status": "ok" if now.folding else "stopped",
            "position": now.position,
            "behind": now.behind,
            "lag_seconds": now.lag_seconds,
        }
        return JSONResponse(content, HTTPStatus.OK if now.folding else HTTPStatus.SERVICE_UNAVAILABLE)

    @app.get("/metrics")
    def metrics() -> Response:
        """The ledger, the gates, the fold and the sizes, for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _unable(_request: Request, error: Exception) -> Response:
    """The journal or the store cannot be read now: one sentence, and no stack of calls."""
    log.error("figures.unable", error=str(error))
    content = {"status": "unable", "error": str(error)}
    return JSONResponse(content, HTTPStatus.SERVICE_UNAVAILABLE)
