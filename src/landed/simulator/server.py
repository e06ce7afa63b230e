"""A simulator that runs: its parts put together, and its two ports served, one plain and one with TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec
import uvicorn

from landed.asgi import Unsignalled, at_once
from landed.simulator.account import Account
from landed.simulator.app import create_app
from landed.simulator.callbacks import Caller, now_utc
from landed.simulator.clock import Clock
from landed.simulator.dice import Dice
from landed.simulator.environment import Keys, environment_of, write_curl_settings
from landed.simulator.scenario import Scenario
from landed.simulator.simulator import Simulator
from landed.simulator.wire import Client, target_of

KEEP_ALIVE_SECONDS = 60


class Server:
    """A running simulator: `url` without and `tls_url` with TLS, `environment` what programs need to use it."""

    def __init__(self, simulator: Simulator, client: Client, keys: Keys) -> None:
        self.simulator = simulator
        self.url = ""
        self.tls_url = ""
        self.environment: Mapping[str, str] = {}
        self._keys = keys
        self._client = client
        self._servers: list[Unsignalled] = []
        self._serving: list[asyncio.Task[None]] = []

    @classmethod
    async def start(
        cls,
        scenario: Scenario,
        listening: socket.socket,
        listening_tls: socket.socket,
        directory: Path,
        real_now: Callable[[], datetime] = now_utc,
    ) -> Server:
        """Start a scenario on two listening sockets; keys and certificates are kept in the directory."""
        for url in filter(None, (scenario.status_url, scenario.receipt_url)):
            target_of(url)
        keys = await asyncio.to_thread(Keys.kept_in, directory)
        client = Client()
        server = cls(simulator_of(scenario, client, keys.public_key(), real_now), client, keys)
        await server._serve(listening, listening_tls)
        return server

    async def stop(self) -> None:
        """End it where it is."""
        await self.simulator.clock.stop()
        for server in self._servers:
            server.leave()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._client.close()

    async def _serve(self, listening: socket.socket, listening_tls: socket.socket) -> None:
        app = create_app(self.simulator, self._client)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate = await asyncio.to_thread(self._keys.certificate, listening_tls.getsockname()[0])
        certificate.configure_cert(context)
        for sock, tls in ((listening, None), (listening_tls, context)):
            at_once(sock)
            config = uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=1,
                ssl_context_factory=(lambda _config, _default: context) if tls is not None else None,
            )
            server = Unsignalled(config)
            self._servers.append(server)
            self._serving.append(asyncio.create_task(server.serve(sockets=[sock])))
        for server in self._servers:
            await server.is_up.wait()
        self.url, tls_address = f"http://{_address(listening)}", _address(listening_tls)
        self.tls_url = f"https://{tls_address}"
        write_curl_settings(self._keys, tls_address)
        self.environment = environment_of(self.simulator.account, self._keys, self.url, tls_address)


def simulator_of(
    scenario: Scenario, client: Client, public_key: str, real_now: Callable[[], datetime] = now_utc
) -> Simulator:
    """The parts of a simulation, put together; its clock runs."""
    settings = msgspec.structs.replace(scenario.settings)
    if scenario.receipt_url:
        settings.receipt_url = scenario.receipt_url
    dice = Dice(scenario.seed)
    clock = Clock(scenario.begins_at(now_utc()), scenario.speed, scenario.lanes)
    account = Account.of_seed(dice, settings, public_key, scenario.status_url)
    account.balance = scenario.balance
    account.api_key = scenario.api_key or account.api_key
    account.api_secret = scenario.api_secret or account.api_secret
    account.signature_secret = scenario.signature_secret or account.signature_secret
    caller = Caller(client, clock, account, dice, real_now)
    simulator = Simulator(account, caller, clock, dice, scenario.networks)
    for recipient, fate in scenario.fates.items():
        simulator.choose(recipient, fate)
    for fault in scenario.faults:
        caller.begin(fault)
    return simulator


def _address(listening: socket.socket) -> str:
    """Where a socket can be reached from this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared, not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
