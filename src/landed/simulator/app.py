"""The simulated Vonage's HTTP: every address that it answers, for `api.nexmo.com` and `rest.nexmo.com` alike."""

from __future__ import annotations

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landed.errors import SettingsError, SurroundingsError
from landed.simulator.accounts import Accounts
from landed.simulator.applications import Applications
from landed.simulator.callbacks import Sender
from landed.simulator.control import Control, say_what_is_wrong
from landed.simulator.endpoints import Action, Endpoint, guarded
from landed.simulator.reports import Reports
from landed.simulator.sends import Sends
from landed.simulator.simulator import Simulator

BODY_BYTES_MAX = 1 << 20


def create_app(simulator: Simulator, sender: Sender) -> Starlette:
    """An ASGI application; `sender` tries the addresses that somebody wants saved."""
    account = simulator.account
    sends, accounts, reports = Sends(simulator), Accounts(simulator, sender), Reports(simulator)
    applications = Applications(account, simulator.dice)

    def mine(action: Action) -> Endpoint:
        return guarded(account, action)

    return Starlette(
        routes=[
            Route("/v1/messages", sends.messages, methods=["POST"]),
            Route("/v0.1/messages", sends.messages, methods=["POST"]),
            Route("/v1/messages/{message_id}", sends.message, methods=["PATCH"]),
            Route("/sms/json", sends.sms, methods=["GET", "POST"]),
            Route("/conversions/sms", accounts.conversions, methods=["POST"]),
            Route("/v2/applications", mine(applications.page), methods=["GET"]),
            Route("/v2/applications", mine(applications.create), methods=["POST"]),
            Route("/v2/applications/{application_id}", mine(applications.read), methods=["GET"]),
            Route("/v2/applications/{application_id}", mine(applications.update), methods=["PUT"]),
            Route("/v2/applications/{application_id}", mine(applications.delete), methods=["DELETE"]),
            Route("/account/settings", mine(accounts.change_settings), methods=["POST"]),
            Route("/account/get-balance", mine(accounts.balance), methods=["GET"]),
            Route("/account/numbers", mine(accounts.owned), methods=["GET"]),
            Route("/number/search", mine(accounts.for_sale), methods=["GET"]),
            Route("/number/buy", mine(accounts.buy), methods=["POST"]),
            Route("/number/update", mine(accounts.update), methods=["POST"]),
            Route("/number/cancel", mine(accounts.cancel), methods=["POST"]),
            Route("/v2/reports/records", mine(reports.records), methods=["GET"]),
            *Control(simulator).routes,
        ],
        exception_handlers={SettingsError: say_what_is_wrong, SurroundingsError: say_what_is_wrong},
        middleware=[Middleware(Bounded)],
    )


class Bounded:
    """Refuses bodies that are too long for any of the APIs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as far as it may go."""
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_BYTES_MAX:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self._app(scope, bounded, send)
