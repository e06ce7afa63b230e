"""The Application API: https://developer.vonage.com/en/api/application.v2."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from itertools import count

import msgspec
from starlette.responses import JSONResponse, Response

from landed.errors import SurroundingsError
from landed.simulator.account import Account, Application
from landed.simulator.dice import Dice
from landed.simulator.endpoints import BAD_REQUEST, Asked, Refusal
from landed.simulator.wire import target_of
from landed.vonage.keys import is_public_key, key_pair

PAGE_MAX = 100
VERSIONS = ("v1", "v0.1")


class Applications:
    """The applications of an account: list, create, read, update, delete."""

    def __init__(self, account: Account, dice: Dice) -> None:
        self._account = account
        self._dice = dice
        self._created = count(1)

    def page(self, asked: Asked) -> dict[str, object]:
        """A page of the account's applications."""
        size, page = asked.number("page_size", 10, most=PAGE_MAX), asked.number("page", 1)
        applications = list(self._account.applications.values())
        pages = max(1, -(-len(applications) // size))
        there = f"/v2/applications?page_size={size}&page="
        links = {"self": page, "first": 1, "last": pages}
        return {
            "page_size": size,
            "page": page,
            "total_items": len(applications),
            "total_pages": pages,
            "_embedded": {"applications": [_shown(each) for each in applications[(page - 1) * size : page * size]]},
            "_links": {name: {"href": f"{there}{number}"} for name, number in links.items()},
        }

    def create(self, asked: Asked) -> Response:
        """Make an application; its private key is shown this once, where the pair is ours."""
        wanted = _object(asked.body)
        application_id = self._dice.uuid("application", next(self._created))
        application, private_key = self._configured(application_id, wanted, None)
        self._account.applications[application_id] = application
        shown = _shown(application)
        if private_key is not None:
            shown["keys"] = {"public_key": application.public_key, "private_key": private_key}
        return JSONResponse(shown, HTTPStatus.CREATED)

    def read(self, asked: Asked) -> dict[str, object]:
        """One application."""
        return _shown(self._application(asked))

    def update(self, asked: Asked) -> dict[str, object]:
        """Put another configuration in the place of what was."""
        before = self._application(asked)
        application, _ = self._configured(before.id, _object(asked.body), before)
        self._account.applications[before.id] = application
        return _shown(application)

    def delete(self, asked: Asked) -> Response:
        """Remove an application."""
        del self._account.applications[self._application(asked).id]
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _application(self, asked: Asked) -> Application:
        application = self._account.applications.get(asked.path["application_id"])
        if application is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "Not Found", "There is no application of that id.")
        return application

    def _configured(
        self, application_id: str, wanted: Mapping[str, object], before: Application | None
    ) -> tuple[Application, str | None]:
        """The application that somebody wants, and its private key where the pair is ours. It replaces what was."""
        name, keys = wanted.get("name"), wanted.get("keys") or {}
        if not isinstance(name, str) or not name.strip():
            raise Refusal(BAD_REQUEST, "Bad Request", "An application has a name.", "name")
        capabilities, privacy = wanted.get("capabilities") or {}, wanted.get("privacy") or {"improve_ai": False}
        if not isinstance(capabilities, dict) or not isinstance(privacy, dict) or not isinstance(keys, dict):
            raise Refusal(BAD_REQUEST, "Bad Request", "Capabilities, keys and privacy are objects.")
        _check_messages(capabilities)
        private_key, public_key = None, keys.get("public_key")
        if public_key is None and before is not None:
            public_key = before.public_key
        elif public_key is None:
            private_key, public_key = key_pair()
        elif not isinstance(public_key, str) or not is_public_key(public_key):
            raise Refusal(BAD_REQUEST, "Bad Request", "The public key is no RSA key in PEM.", "public_key")
        application = Application(
            id=application_id, name=name, public_key=public_key, capabilities=capabilities, privacy=privacy
        )
        return application, private_key


def _shown(application: Application) -> dict[str, object]:
    return {
        "id": application.id,
        "name": application.name,
        "keys": {"public_key": application.public_key},
        "privacy": dict(application.privacy),
        "capabilities": dict(application.capabilities),
        "_links": {"self": {"href": f"/v2/applications/{application.id}"}},
    }


def _check_messages(capabilities: Mapping[str, object]) -> None:
    """The Messages API has two versions, and its webhooks are posted to, nothing else."""
    messages = capabilities.get("messages")
    if isinstance(messages, dict) and messages.get("version", "v1") not in VERSIONS:
        raise Refusal(BAD_REQUEST, "Bad Request", "The version is v1 or v0.1.", "messages.version")
    webhooks = messages.get("webhooks") if isinstance(messages, dict) else None
    for name, webhook in (webhooks or {}).items() if isinstance(webhooks, dict) else ():
        address = webhook.get("address") if isinstance(webhook, dict) else None
        try:
            if address:
                target_of(str(address))
        except SurroundingsError as error:
            raise Refusal(BAD_REQUEST, "Bad Request", str(error), f"messages.webhooks.{name}") from error
        if isinstance(webhook, dict) and webhook.get("http_method", "POST") != "POST":
            raise Refusal(BAD_REQUEST, "Bad Request", "Its method is POST.", f"messages.webhooks.{name}.http_method")


def _object(body: bytes) -> Mapping[str, object]:
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        wanted = msgspec.json.decode(body)
        if isinstance(wanted, dict):
            return wanted
    raise Refusal(BAD_REQUEST, "Bad Request", "An application is a JSON object.")
