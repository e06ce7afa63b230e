"""A pytest plugin: the fixture `vonage` is an offline Vonage for one test, in time that passes when the test says so.

    def test_a_lost_code_is_sent_again(vonage, shop):
        vonage.webhooks(status=vonage.serve(shop) + "/webhooks/message-status")
        vonage.choose("447911123456", "absent-subscriber-temporary")
        ...                                     # whatever makes the application send
        vonage.step(minutes=2)
        assert [callback.says for callback in vonage.callbacks()] == ["submitted", "rejected"]

What programs need to find it in Vonage's place is in the environment while the test runs: keys, hosts and certificates,
under the names that `landed simulate --env` uses. `@pytest.mark.vonage(seed=7, speed=60)` changes how it is started.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import wsgiref.simple_server
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
import pytest

if TYPE_CHECKING:
    from landed.simulator.control import ShownCallback, ShownMessage
    from landed.simulator.scenario import Scenario
    from landed.simulator.server import Server

HOST = "127.0.0.1"
STOP_SECONDS = 10.0

_T = TypeVar("_T")


class Vonage:
    """An offline Vonage that runs in a thread of its own."""

    def __init__(self, scenario: Scenario, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vonage", daemon=True)
        self._thread.start()
        self._stops: list[Callable[[], None]] = []
        try:
            self._server = self._run(_start(scenario, directory))
        except BaseException:
            self._end()
            raise
        self._simulator = self._server.simulator
        account = self._simulator.account
        self.url: str = self._server.url
        self.tls_url: str = self._server.tls_url
        self.environment: Mapping[str, str] = self._server.environment
        # As Vonage's SDKs want it: a name and a port, always spoken to with TLS.
        self.host: str = self.environment["VONAGE_API_HOST"]
        self.api_key: str = account.api_key
        self.api_secret: str = account.api_secret
        self.signature_secret: str = account.signature_secret
        self.application_id: str = account.application.id
        self.private_key: str = self.environment["VONAGE_PRIVATE_KEY"]

    def webhooks(self, *, status: str | None = None, receipt: str | None = None) -> None:
        """Set where receipts go: the application's status URL, and the account's URL for delivery receipts."""
        from landed.simulator.account import messages_capability  # noqa: PLC0415
        from landed.simulator.wire import target_of  # noqa: PLC0415

        account = self._simulator.account
        for url in filter(None, (status, receipt)):
            target_of(url)
        if status is not None:
            account.application.capabilities = messages_capability(status)
        if receipt is not None:
            account.settings.receipt_url = receipt

    def serve(self, app: Any) -> str:  # noqa: ANN401 - WSGI and ASGI applications have no type in common
        """Serve a WSGI or ASGI application on a port of its own until the test ends; the URL without a path."""
        url, stop = _serve_asgi(app) if _is_asgi(app) else _serve_wsgi(app)
        self._stops.append(stop)
        return url

    def choose(self, recipient: str, fate: str) -> None:
        """Choose what becomes of messages to a number; `landed simulate --list` has all fates."""
        self._call(lambda: self._simulator.choose(recipient, fate))

    def setting(self, **settings: object) -> None:
        """Change the account: `webhook_format`, `sms_setting`, `throughput`, … as in a scenario's [account]."""
        from landed.simulator.account import changed_settings  # noqa: PLC0415

        self._simulator.account.settings = changed_settings(self._simulator.account.settings, settings)

    @contextmanager
    def fault(self, kind: str, **options: object) -> Iterator[None]:
        """Let something go wrong for as long as the context lasts: `outage`, `unsigned`, `wrong-secret`, and so on.

        Options are those of the command line; those that Python has taken end in an underscore: `for_="1m"`.
        """
        from landed.simulator.faults import wanted  # noqa: PLC0415

        caller, named = self._simulator.caller, {name.rstrip("_"): value for name, value in options.items()}
        fault = self._call(lambda: caller.begin(wanted({"kind": kind, **named})))
        try:
            yield
        finally:
            self._call(lambda: caller.end(fault.id))

    @property
    def now(self) -> datetime:
        """The simulated time."""
        return self._simulator.clock.now()

    def step(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        """Let so much time pass at once, with all that happens in it."""
        by = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)
        self._run(self._simulator.clock.step(by))

    def settle(self) -> None:
        """Let time pass until nothing is left that is to happen."""
        self._run(self._simulator.clock.settle())

    def messages(self, to: str | None = None) -> list[ShownMessage]:
        """What was sent, in order, each with its truth and with what was said of it."""
        from landed.simulator.control import shown_message  # noqa: PLC0415

        sent = self._call(lambda: list(self._simulator.messages.values()))
        return [shown_message(message) for message in sent if to in (None, message.send.to)]

    def callbacks(self, message_id: str | None = None) -> list[ShownCallback]:
        """The calls that were made or are to be made, in order, each with all its tries."""
        from landed.simulator.control import shown_callback  # noqa: PLC0415

        made = self._call(lambda: list(self._simulator.caller.callbacks))
        return [shown_callback(callback) for callback in made if message_id in (None, callback.message_id)]

    def conversions(self) -> list[Mapping[str, object]]:
        """What the application said of its messages through the Conversion API."""
        return [msgspec.to_builtins(each) for each in self._simulator.account.conversions]

    def stop(self) -> None:
        """End it, and what it serves."""
        for stop in reversed(self._stops):
            stop()
        self._run(self._server.stop())
        self._end()

    def _end(self) -> None:
        self._run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        self._loop.close()

    def _run(self, activity: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(activity, self._loop).result()

    def _call(self, action: Callable[[], _T]) -> _T:
        async def activity() -> _T:
            return action()

        return self._run(activity())


@pytest.fixture
def vonage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Vonage]:
    """An offline Vonage for this test, in stepped time unless its mark says otherwise."""
    mark = request.node.get_closest_marker("vonage")
    running = Vonage(_scenario(mark.kwargs if mark else {}), tmp_path_factory.getbasetemp() / "vonage")
    try:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
    finally:
        running.stop()


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "vonage(seed, speed, scenario, …): how the fixture `vonage` is started")


def fields_of(callback: ShownCallback) -> Mapping[str, object]:
    """What a call said, whichever of its forms it came in."""
    text = callback.body or callback.query or ""
    if text.startswith("{"):
        fields: Mapping[str, object] = msgspec.json.decode(text)
        return fields
    return dict(parse_qsl(text))


def _scenario(options: Mapping[str, Any]) -> Scenario:
    """The scenario of a test, in which time is stepped unless it says otherwise. SettingsError for an odd option."""
    from landed.errors import SettingsError  # noqa: PLC0415
    from landed.simulator.account import changed_settings  # noqa: PLC0415
    from landed.simulator.clock import STEPPED  # noqa: PLC0415
    from landed.simulator.faults import wanted_of  # noqa: PLC0415
    from landed.simulator.scenario import Scenario, load_scenario, speed_of  # noqa: PLC0415

    changes = dict(options)
    file = changes.pop("scenario", None)
    scenario = load_scenario(Path(file) if file else None)
    speed = speed_of(changes.pop("speed")) if "speed" in changes else STEPPED if file is None else scenario.speed
    faults = tuple(map(wanted_of, changes.pop("faults", ())))
    settings = changed_settings(scenario.settings, changes.pop("account", {}))
    if unknown := set(changes) - set(Scenario.__struct_fields__):
        raise SettingsError(f"The mark vonage has no {', '.join(sorted(unknown))}; docs/simulate.md has what it has.")
    return msgspec.structs.replace(
        scenario, speed=speed, settings=settings, faults=(*scenario.faults, *faults), **changes
    )


async def _start(scenario: Scenario, directory: Path) -> Server:
    from landed.simulator.server import Server  # noqa: PLC0415

    listening, listening_tls = (socket.create_server((HOST, 0)) for _ in range(2))
    return await Server.start(scenario, listening, listening_tls, directory)


def _is_asgi(app: Any) -> bool:  # noqa: ANN401
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)


class _WsgiServer(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _Silent(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the test tells what it wants to know."""


def _serve_wsgi(app: Any) -> tuple[str, Callable[[], None]]:  # noqa: ANN401
    server = wsgiref.simple_server.make_server(HOST, 0, app, _WsgiServer, _Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(STOP_SECONDS)

    return f"http://{HOST}:{server.server_port}", stop


def _serve_asgi(app: Any) -> tuple[str, Callable[[], None]]:  # noqa: ANN401
    import uvicorn  # noqa: PLC0415

    from landed.asgi import Unsignalled, at_once  # noqa: PLC0415
    from landed.errors import SurroundingsError  # noqa: PLC0415

    listening = socket.create_server((HOST, 0))
    at_once(listening)
    config = uvicorn.Config(app, interface="asgi3", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    is_up = threading.Event()
    server: list[Unsignalled] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        server.append(Unsignalled(config))
        serving = asyncio.create_task(server[0].serve(sockets=[listening]))
        up = asyncio.create_task(server[0].is_up.wait())
        await asyncio.wait({serving, up}, return_when=asyncio.FIRST_COMPLETED)
        is_up.set()
        up.cancel()
        with suppress(SurroundingsError):
            await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    if not is_up.wait(STOP_SECONDS) or not server[0].started:
        listening.close()
        raise SurroundingsError("The application did not start; the log of uvicorn.error says why.")

    def stop() -> None:
        loops[0].call_soon_threadsafe(server[0].leave)
        thread.join(STOP_SECONDS)

    return f"http://{HOST}:{listening.getsockname()[1]}", stop
