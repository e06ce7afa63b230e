"""The gate inside an application of one's own: under Flask, Django, FastAPI, any WSGI or ASGI server.

The verdicts, the answers and the journal are the gate's. Several processes may append, each through a
connection of its own that is opened at its first receipt, while one folds: the `worker` of one of these processes, or
`landed serve --role worker`. `landed.track` puts the sending side's word into the same journal.

The server around it reads the request, so HTTP's own rules and its timeouts are that server's. What is
ours is the raw query and the raw body, never a form that a framework has read: signatures cover bytes.
Frameworks are imported only when they are used.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from landed.errors import LandedError, SettingsError
from landed.gate.answers import ADVICE, RETRY_AFTER_SECONDS
from landed.gate.http import ADVICE_ON_REFUSED, HEALTH_PATH
from landed.gate.judge import ANSWERS, METHODS, Judge, Keep, keyring_of, normal
from landed.gate.keeper import CUT_BYTES
from landed.gate.meter import HEALTH, UNJUDGED, Meter
from landed.gate.shelf import Refused, Room, Shelf, Waiting, log
from landed.settings import Settings, load
from landed.vonage.request import Request
from landed.vonage.signing import Keyring

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped] # Django has no types
    from django.urls import URLPattern  # type: ignore[import-untyped] # the same
    from flask import Blueprint, Flask
    from flask.blueprints import BlueprintSetupState

ROOT = "/webhooks"
NAMES = tuple(path.removeprefix(ROOT) for path in ANSWERS)
READ_BYTES_MAX = 64 * 1024
LENGTH_DIGITS_MAX = 18
REFUSED_LINE_SECONDS = 1.0

ADVICE_ON_WORKER = "answered 503 until that is mended, and this process starts again"
ADVICE_ON_BODY = "something in the application took the body before landed: let it leave landed's paths alone"

Secrets = str | Iterable[str] | Mapping[str, str | Iterable[str]]
Environ = Mapping[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Startable(Protocol):
    """What is started in each process that serves."""

    @property
    def data(self) -> Path:
        """The directory on which it works."""

    def start(self) -> None:
        """Work from now on; called again and again, from any thread. A LandedError says why it never can."""

    def stop(self) -> None:
        """End soon."""


class Webhooks:
    """The webhooks of one data directory, for an application to mount.

    Settings come as everywhere, from `landed.toml` and the environment; `data` names another data
    directory, `secrets` the signature secrets as for `landed.parse`, `prefix` what stands before
    `/webhooks`. A `worker`, such as `landed.Worker()`, is started in each process that serves, with its first webhook
    or with `lifespan`; one that cannot be started, since handlers are wrong, lets everything be answered 503.
    Raises SettingsError; whatever the machine says no to is answered 503, and tried again.

    `wsgi` and `asgi` are applications, `blueprint()` is Flask's, `urls()` and `view` are Django's. A path
    may come whole (`/webhooks/message-status`) or below where it is mounted (`/message-status`). `lifespan` is for
    FastAPI and Starlette.

    Apache's mod_wsgi hides the signatures of the Messages API unless WSGIPassAuthorization is on.
    """

    def __init__(
        self,
        *,
        data: Path | str | None = None,
        secrets: Secrets | None = None,
        prefix: str | None = None,
        settings: Settings | None = None,
        worker: Startable | None = None,
    ) -> None:
        settings = settings or load(data=data)
        self._worker, self._said_of_worker = worker, ""
        keys = keyring_of(settings) if secrets is None else Keyring.of(secrets)
        self._prefix = normal(prefix if prefix is not None else settings.path_prefix or "").rstrip("/")
        self._limits = settings.limits
        self._judge = Judge.of(settings, keys)
        directory = Path(data) if data is not None else settings.data
        if worker is not None and worker.data.absolute() != directory.absolute():
            raise SettingsError(
                f"The webhooks are kept in {directory}, and the worker works on {worker.data}: give both the same data."
            )
        self._meter = Meter(directory, "mount")
        self._shelf = Shelf(directory, settings.limits, self._meter)
        self._room = Room(settings.limits.buffered_bytes_max)
        os.register_at_fork(
            before=_weakly(self._shelf.hold),
            after_in_parent=_weakly(self._shelf.go_on),
            after_in_child=_weakly(self._forget),
        )
        self._refused: Counter[str] = Counter()
        self._refused_said = 0.0
        if not keys.has_secrets:
            log.warning("signatures.unchecked", advice="set VONAGE_SIGNATURE_SECRET: anybody can send receipts")

    # WSGI.

    def wsgi(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """A WSGI application."""
        path = self._path(environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", ""))
        return self._wsgi(environ, start_response, path)

    def blueprint(self, name: str = "landed") -> Blueprint:
        """A Flask blueprint; it stands at `/webhooks`, or at the `url_prefix` that it is registered with.

        It answers before Flask does: no session, no check of forms and no hook of the application's
        sees Vonage's requests or takes their bodies.
        """
        from flask import Blueprint  # noqa: PLC0415 - only where there is Flask

        blueprint = Blueprint(name, __name__, url_prefix=self._prefix + ROOT)
        blueprint.record(self._into_flask)
        return blueprint

    # Django.

    def urls(self) -> list[URLPattern]:
        """URL patterns of Django's, for `urlpatterns` or `include`."""
        from django.urls import re_path  # noqa: PLC0415 - only where there is Django

        root = "/+".join(re.escape(part) for part in (self._prefix + ROOT).split("/") if part)
        names = "|".join(name.removeprefix("/") for name in (*NAMES, HEALTH_PATH))
        return [re_path(rf"^/*{root}/+(?:{names})/*$", self.view)]

    @property
    def view(self) -> Callable[..., HttpResponse]:
        """A view of Django's; of the path that led to it only the last part counts."""

        def view(request: HttpRequest, *_: object, **__: object) -> HttpResponse:
            return self._django(request)

        # What the decorator csrf_exempt does: Vonage knows no token.
        view.csrf_exempt = True  # type: ignore[attr-defined]
        return view

    # ASGI.

    @property
    def asgi(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """An ASGI application, for servers on asyncio."""

        # A function: uvicorn takes a bound method for an application of ASGI 2.
        async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await self._lifespan(receive, send)
            elif scope["type"] == "http":
                await self._asgi(scope, receive, send)
            else:
                await send({"type": "websocket.close"})

        return asgi

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """From the application's start to its end: `FastAPI(lifespan=webhooks.lifespan)`.

        Frameworks tell a mount of neither, and uvicorn leaves nothing of a process behind that.
        """
        del app
        if self._worker is not None:
            self._worker.start()
        try:
            yield
        finally:
            if self._worker is not None:
                await asyncio.to_thread(self._worker.stop)
            self.close()

    def close(self) -> None:
        """Let go of the journal; it is opened again when something comes."""
        self._shelf.close()
        self._meter.close()

    # Within: one request, as each protocol brings it.

    def _wsgi(self, environ: Environ, start_response: StartResponse, path: str | None) -> list[bytes]:
        asked = _asked_by_wsgi(environ, path)
        answer = _Answer.of(self._answer(asked, lambda bytes_max: _read_wsgi(environ, asked, bytes_max)), asked.method)
        start_response(f"{answer.status.value} {answer.status.phrase}", list(answer.headers))
        return [answer.body]

    def _into_flask(self, state: BlueprintSetupState) -> None:
        app: Flask = state.app  # type: ignore[assignment] # the type of what has no wsgi_app yet
        inner = app.wsgi_app
        mount = normal(state.url_prefix or "").rstrip("/")

        def wsgi_app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
            path = normal(environ.get("PATH_INFO", ""))
            known = _named(path.removeprefix(mount)) if path.startswith(mount + "/") else None
            if known is not None:
                return self._wsgi(environ, start_response, known)
            return inner(environ, start_response)  # type: ignore[arg-type] # another name for the same function

        # https://flask.palletsprojects.com/en/stable/api/#flask.Flask.wsgi_app
        app.wsgi_app = wsgi_app  # type: ignore[method-assign] # as Flask's documentation says

    def _django(self, request: HttpRequest) -> HttpResponse:
        from django.http import HttpResponse  # noqa: PLC0415 - only where there is Django

        environ: Environ = request.META
        asked = _asked_by_wsgi(environ, _named("/" + normal(request.path).rpartition("/")[2]))
        answer = _Answer.of(
            self._answer(asked, lambda bytes_max: _read_django(request, asked, bytes_max)), asked.method
        )
        response = HttpResponse(answer.body, status=answer.status.value)
        del response["Content-Type"]
        for name, value in answer.headers:
            response[name] = value
        return response

    async def _asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._asked_by_asgi(scope)
        status = await self._answer_asgi(asked, receive)
        if status is not None:
            answer = _Answer.of(status, asked.method)
            headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
            await send({"type": "http.response.start", "status": status.value, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})

    def _asked_by_asgi(self, scope: Scope) -> _Asked:
        mount, path, query = scope.get("root_path", ""), scope["path"], bytes(scope.get("query_string", b""))
        # By the specification the path is whole; some servers and frameworks give what is below the mount.
        rest = path.removeprefix(mount) if path.startswith(mount) else path
        return _Asked(
            method=scope["method"],
            path=self._path(mount, rest),
            target_bytes=len(scope.get("raw_path") or path) + 1 + len(query),
            query=query,
            headers=tuple((bytes(name), bytes(value)) for name, value in scope["headers"]),
            peer=(scope.get("client") or ("",))[0],
        )

    async def _answer_asgi(self, asked: _Asked, receive: Receive) -> HTTPStatus | None:
        """The answer; None when the client is gone before its request was whole."""
        body = bytearray()
        try:
            status = self._early(asked)
            if status is None:
                await self._read_asgi(receive, body, self._bytes_to_read(asked))
                waiting = self._judged(asked, bytes(body))
                status = waiting if isinstance(waiting, HTTPStatus) else await self._settled(waiting)
        except Refused as refused:
            status = self._not_kept(refused.status)
        except _Gone:
            return None
        finally:
            self._room.give_back(len(body))
        return status

    async def _read_asgi(self, receive: Receive, body: bytearray, bytes_max: int) -> None:
        deadline = asyncio.get_running_loop().time() + self._limits.request_seconds_max
        more = True
        while more and len(body) < bytes_max:
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise Refused(HTTPStatus.REQUEST_TIMEOUT) from None
            if message["type"] == "http.disconnect":
                raise _Gone
            piece = message.get("body", b"")
            self._room.take(len(piece))
            body += piece
            more = message.get("more_body", False)

    async def _settled(self, waiting: Waiting) -> HTTPStatus:
        # A thread of ours commits what has gathered meanwhile. Measured in one process with 16 and 64
        # clients: 7,000 and 9,900 a second, and the loop is held up for 0.4 ms (median); with the commit
        # on the loop, as the gate does it, each request has its own: 2,200 and 2,500, and 20 and 75 ms.
        # Alone a request takes 0.5 ms instead of 0.4. Nor must the application wait when a disk does.
        return await asyncio.get_running_loop().run_in_executor(self._shelf.thread, self._shelf.settle, waiting)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except LandedError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    # Within: the same for all protocols.

    def _path(self, mount: str, rest: str) -> str | None:
        """Which of our paths this is: whole, or, where no prefix is asked for, below the mount."""
        whole, below = normal(mount + rest), normal(rest)
        if self._prefix:
            return _known(whole.removeprefix(self._prefix)) if whole.startswith(self._prefix + "/") else None
        if known := _known(whole):
            return known
        return _known(below) or _known(ROOT + below) if mount.strip("/") else None

    def _answer(self, asked: _Asked, read: Callable[[int], bytes]) -> HTTPStatus:
        """The answer to a request, once it is due; its body, up to so many bytes, is read by that function."""
        taken_bytes = 0
        try:
            if (status := self._early(asked)) is not None:
                return status
            body = read(self._bytes_to_read(asked))
            self._room.take(len(body))
            taken_bytes = len(body)
            waiting = self._judged(asked, body)
            return waiting if isinstance(waiting, HTTPStatus) else self._shelf.settle(waiting)
        except Refused as refused:
            return self._not_kept(refused.status)
        finally:
            self._room.give_back(taken_bytes)

    def _early(self, asked: _Asked) -> HTTPStatus | None:
        """The answer to a request whose body need not be read."""
        self._start_worker()
        limits = self._limits
        if asked.target_bytes > limits.url_bytes_max:
            raise Refused(HTTPStatus.REQUEST_URI_TOO_LONG)
        header_bytes = sum(len(name) + len(value) + 4 for name, value in asked.headers)
        if header_bytes > limits.header_bytes_max or len(asked.headers) > limits.header_count_max:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if asked.path == HEALTH_PATH and asked.method in ("GET", "HEAD"):
            able = self._shelf.able
            return self._not_kept(HTTPStatus.OK if able else HTTPStatus.SERVICE_UNAVAILABLE, HEALTH)
        if asked.path in ANSWERS and asked.method in METHODS:
            return None
        if (asked.length or 0) > limits.body_bytes_max:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED if asked.path in ANSWERS else HTTPStatus.NOT_FOUND)

    def _start_worker(self) -> None:
        # Not when this was made: a server that forks would have its first process work, which serves nobody.
        try:
            if self._worker is not None:
                self._worker.start()
        except LandedError as error:
            # To take receipts of which nobody hears would look as if all were well; Vonage tries again.
            if str(error) != self._said_of_worker:
                log.critical("worker.not_started", error=str(error), advice=ADVICE_ON_WORKER)
            self._said_of_worker = str(error)
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE) from error

    def _bytes_to_read(self, asked: _Asked) -> int:
        """How much of the body is wanted: of one over the limit no more than is kept."""
        limit = self._limits.body_bytes_max
        return CUT_BYTES if (asked.length or 0) > limit else limit + 1

    def _judged(self, asked: _Asked, body: bytes) -> Waiting | HTTPStatus:
        """The answer, or what must first be kept, which waits for a commit already."""
        request = Request(
            method=asked.method, path=asked.path or "", query=asked.query, headers=asked.headers, body=body
        )
        now_us = time.time_ns() // 1_000
        if max(asked.length or 0, len(body)) > self._limits.body_bytes_max:
            verdict = self._judge.too_large(now_us)
        else:
            verdict = self._judge.verdict(request, now_us, asked.peer)
        verdict = self._shelf.spare(verdict, checks=self._judge.checks)
        if verdict.answer >= HTTPStatus.BAD_REQUEST:
            self._count_refused(verdict.reason)
        if verdict.keep is Keep.NOTHING:
            return self._not_kept(verdict.answer, verdict.reason)
        return self._shelf.put(Waiting(request, verdict, now_us, asked.peer))

    def _not_kept(self, status: HTTPStatus, word: str = UNJUDGED) -> HTTPStatus:
        """Count a request that is answered with that status at once; `word` is its verdict's."""
        self._meter.refused(status, word)
        self._meter.write_soon()
        return status

    def _forget(self) -> None:
        """In the child of a fork: what its parent had in hand is not ours."""
        self._room = Room(self._limits.buffered_bytes_max)
        self._shelf.forget()

    def _count_refused(self, reason: str) -> None:
        """Gathered, so that a flood of forged requests is one line a second."""
        self._refused[reason] += 1
        now = time.monotonic()
        if now - self._refused_said >= REFUSED_LINE_SECONDS:
            self._refused_said = now
            refused, self._refused = self._refused, Counter()
            log.warning("requests.refused", advice=ADVICE_ON_REFUSED, **refused)


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What came, before its body is read; `path` is None when it is none of ours."""

    method: str
    path: str | None
    target_bytes: int
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    peer: str

    @property
    def length(self) -> int | None:
        """The declared length of the body."""
        declared = next((value for name, value in self.headers if name.lower() == b"content-length"), b"")
        if not declared:
            return None
        if not declared.isdigit() or len(declared) > LENGTH_DIGITS_MAX:
            raise Refused(HTTPStatus.BAD_REQUEST)
        return int(declared)

    @property
    def is_chunked(self) -> bool:
        """Whether there may be a body without a length."""
        return any(name.lower() == b"transfer-encoding" for name, _ in self.headers)


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as the gate gives it."""

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def of(cls, status: HTTPStatus, method: str) -> _Answer:
        """The answer of that status to a request of that method."""
        sentence = b"" if status < HTTPStatus.BAD_REQUEST else f"{status.phrase}: {ADVICE.get(status, '')}\n".encode()
        headers = [] if status is HTTPStatus.NO_CONTENT else [("Content-Length", str(len(sentence)))]
        if sentence:
            headers.append(("Content-Type", "text/plain; charset=utf-8"))
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
        if status is HTTPStatus.UNAUTHORIZED:
            # https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2
            headers.append(("WWW-Authenticate", "Bearer"))
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", ", ".join(METHODS)))
        return cls(status=status, headers=tuple(headers), body=b"" if method == "HEAD" else sentence)


class _Gone(Exception):
    """The client left before its request was whole."""


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A function that calls a method for as long as what it belongs to is there."""
    weak = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := weak()) is not None:
            alive()

    return call


def _named(name: str) -> str | None:
    """The path of that last part."""
    return name if name == HEALTH_PATH else _known(ROOT + name)


def _known(path: str) -> str | None:
    return path if path in ANSWERS or path == HEALTH_PATH else None


def _asked_by_wsgi(environ: Environ, path: str | None) -> _Asked:
    query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
    return _Asked(
        method=environ["REQUEST_METHOD"],
        path=path,
        target_bytes=len(environ.get("SCRIPT_NAME", "")) + len(environ.get("PATH_INFO", "")) + 1 + len(query),
        query=query,
        headers=tuple(_headers_of_wsgi(environ)),
        peer=environ.get("REMOTE_ADDR", ""),
    )


def _headers_of_wsgi(environ: Environ) -> Iterable[tuple[bytes, bytes]]:
    """The headers, as far as WSGI keeps them: their letter case and their order are gone."""
    for key, value in environ.items():
        if key.startswith("HTTP_") or (key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value):
            name = key.removeprefix("HTTP_").replace("_", "-").title()
            yield name.encode("latin-1", "replace"), str(value).encode("latin-1", "replace")


def _read_wsgi(environ: Environ, asked: _Asked, bytes_max: int) -> bytes:
    if asked.length is None and not asked.is_chunked:
        return b""
    if asked.length is None and not environ.get("wsgi.input_terminated"):
        # There is a body, but where it ends cannot be told: not the sender's fault, so no 4xx.
        log.error("body.endless", advice="this WSGI server does not decode chunks: use another, or a proxy that does")
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE)
    body = _read_from(environ["wsgi.input"], bytes_max if asked.length is None else min(asked.length, bytes_max))
    if asked.length is not None and len(body) < min(asked.length, bytes_max):
        raise Refused(HTTPStatus.BAD_REQUEST)
    return body


def _read_django(request: HttpRequest, asked: _Asked, bytes_max: int) -> bytes:
    if asked.length is None and hasattr(request, "environ"):
        # Under WSGI Django takes a body without a length for none at all.
        return _read_wsgi(request.environ, asked, bytes_max)
    # Django gives the raw bytes of the request here, even when its own `body` was asked for before.
    body = _read_from(request, bytes_max)
    if asked.length is not None and len(body) < min(asked.length, bytes_max):
        log.error("body.taken", advice=ADVICE_ON_BODY)
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE)
    return body


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _read_from(stream: _Readable, bytes_max: int) -> bytes:
    body = bytearray()
    try:
        while len(body) < bytes_max and (piece := stream.read(min(READ_BYTES_MAX, bytes_max - len(body)))):
            body += piece
    except OSError:
        # The client is gone, or broke HTTP's rules; nobody may be there to read this.
        raise Refused(HTTPStatus.BAD_REQUEST) from None
    return bytes(body)
