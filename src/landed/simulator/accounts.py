"""The APIs of an account and its numbers, and what it is told of conversions.

Settings and balance: https://developer.vonage.com/en/api/account
Numbers: https://developer.vonage.com/en/api/numbers
Conversions: https://developer.vonage.com/en/api/conversion
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from landed.domain.networks import calling_code
from landed.domain.numbers import normal_number
from landed.errors import SurroundingsError
from landed.simulator.account import THROUGHPUT, Conversion, Number
from landed.simulator.callbacks import Sender
from landed.simulator.credentials import Unauthorized, check_parameters
from landed.simulator.endpoints import BAD_REQUEST, METHOD_FAILURE, Asked, Refusal, asked_of
from landed.simulator.simulator import Simulator
from landed.simulator.wire import NoAnswer, target_of

PAGE_MAX = 100
# How many numbers a country has to buy, and what one costs a month, in EUR.
FOR_SALE = 30
MONTHLY_COST = "0.90"
COUNTRY_CHARACTERS = 2
FEATURES = ("SMS", "VOICE")
OK = {"error-code": "200", "error-code-label": "success"}


class Accounts:
    """The endpoints, in front of a simulator. `sender` tries the addresses that somebody wants saved."""

    def __init__(self, simulator: Simulator, sender: Sender) -> None:
        self._simulator = simulator
        self._account = simulator.account
        self._sender = sender

    async def change_settings(self, asked: Asked) -> dict[str, object]:
        """Change the account's webhooks, each of which must answer 200 when it is tried."""
        settings = self._account.settings
        wanted = {"inbound_url": asked.fields.get("moCallBackUrl"), "receipt_url": asked.fields.get("drCallBackUrl")}
        if settings.takes_misspelt_urls:
            wanted = {
                "inbound_url": asked.fields.get("moCallbackUrl", wanted["inbound_url"]),
                "receipt_url": asked.fields.get("drCallbackUrl", wanted["receipt_url"]),
            }
        for url in wanted.values():
            if url:
                await self._probe(url)
        for name, url in wanted.items():
            if url is not None:
                setattr(settings, name, url)
        rate = settings.throughput or THROUGHPUT
        return {
            "mo-callback-url": settings.inbound_url,
            "dr-callback-url": settings.receipt_url,
            "max-outbound-request": rate,
            "max-inbound-request": rate,
            "max-calls-per-second": rate,
        }

    async def _probe(self, url: str) -> None:
        """An address is saved only when it answers 200 to a GET without parameters."""
        try:
            target_of(url)
            status = await self._sender.call("GET", url, b"", (), b"")
            said = f"answered {status}"
        except SurroundingsError as error:
            status, said = None, str(error)
        except NoAnswer as error:
            status, said = None, f"gave no answer: {error}"
        if status != HTTPStatus.OK:
            raise Refusal(BAD_REQUEST, "Bad Request", f"The address {url} must answer 200 to be saved; it {said}.")

    def balance(self, _asked: Asked) -> dict[str, object]:
        """What is left of the account's money."""
        return {"value": float(self._account.balance), "autoReload": False}

    def owned(self, asked: Asked) -> dict[str, object]:
        """The account's numbers."""
        numbers = [number for number in self._account.numbers.values() if _is_wanted(number, asked)]
        return _page(numbers, asked, [_shown(number) for number in numbers])

    def for_sale(self, asked: Asked) -> dict[str, object]:
        """Numbers of a country that can be bought."""
        country = asked.field("country").upper()
        if len(country) != COUNTRY_CHARACTERS:
            raise Refusal(BAD_REQUEST, "Bad Request", "A search needs a country of two letters.")
        numbers = [number for number in self._for_sale(country) if _is_wanted(number, asked)]
        shown = [
            {
                "country": number.country,
                "msisdn": number.msisdn,
                "type": number.type,
                "features": list(number.features),
                "cost": MONTHLY_COST,
            }
            for number in numbers
        ]
        return _page(numbers, asked, shown)

    def _for_sale(self, country: str) -> Iterator[Number]:
        prefix = calling_code(country)
        for number in range(FOR_SALE if prefix else 0):
            msisdn = f"{prefix}{int(self._simulator.dice.share('for sale', country, number) * 9e8) + 10**8}"
            if msisdn not in self._account.numbers:
                yield Number(country=country, msisdn=msisdn, features=FEATURES)

    def buy(self, asked: Asked) -> Mapping[str, str]:
        """Buy a number."""
        country, msisdn = asked.field("country").upper(), normal_number(asked.field("msisdn"))
        number = next((each for each in self._for_sale(country) if each.msisdn == msisdn), None)
        if number is None:
            raise Refusal(BAD_REQUEST, "Bad Request", "That number is not for sale.")
        self._account.numbers[msisdn] = number
        return OK

    def update(self, asked: Asked) -> Mapping[str, str]:
        """Link a number to an application, or to addresses; what is not named is removed."""
        number = self._owned(asked)
        application_id = asked.fields.get("app_id")
        if application_id and application_id not in self._account.applications:
            raise Refusal(BAD_REQUEST, "Bad Request", "There is no application of that id.")
        self._account.numbers[number.msisdn] = msgspec.structs.replace(
            number,
            app_id=application_id or None,
            mo_http_url=asked.fields.get("moHttpUrl") or None,
            voice_callback_type=asked.fields.get("voiceCallbackType") or None,
            voice_callback_value=asked.fields.get("voiceCallbackValue") or None,
        )
        return OK

    def cancel(self, asked: Asked) -> Mapping[str, str]:
        """Give a number back."""
        del self._account.numbers[self._owned(asked).msisdn]
        return OK

    def _owned(self, asked: Asked) -> Number:
        number = self._account.numbers.get(normal_number(asked.field("msisdn")))
        if number is None or number.country != asked.field("country").upper():
            raise Refusal(BAD_REQUEST, "Bad Request", "The account has no such number in that country.")
        return number

    async def conversions(self, request: Request) -> Response:
        """Keep what an application says of a message: whether its user acted on it."""
        asked = await asked_of(request)
        try:
            check_parameters(asked.fields, request.headers.get("authorization"), self._account)
        except Unauthorized:
            return Response("Wrong credentials", HTTPStatus.UNAUTHORIZED)
        if not self._account.settings.takes_conversions:
            return Response("Conversions are not enabled for this account", HTTPStatus.PAYMENT_REQUIRED)
        message_id = asked.field("message-id")
        if message_id not in self._simulator.messages or not asked.field("delivered"):
            return Response("Invalid parameters: message-id and delivered", METHOD_FAILURE)
        at = None
        with suppress(ValueError):
            at = _utc(datetime.fromisoformat(asked.field("timestamp")))
        delivered = asked.field("delivered").lower() in ("true", "1")
        self._account.conversions.append(Conversion(message_id=message_id, delivered=delivered, at=at))
        return Response("", HTTPStatus.OK)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _shown(number: Number) -> dict[str, object]:
    shown: dict[str, object] = msgspec.to_builtins(number)
    return {name: value for name, value in shown.items() if value is not None}


def _is_wanted(number: Number, asked: Asked) -> bool:
    """Whether a number fits the filters of a list or a search."""
    pattern, how = asked.field("pattern"), asked.fields.get("search_pattern", "0")
    fits = {"0": number.msisdn.startswith, "1": number.msisdn.__contains__, "2": number.msisdn.endswith}
    if pattern and not fits.get(how, number.msisdn.startswith)(pattern):
        return False
    if asked.field("country") and number.country != asked.field("country").upper():
        return False
    if asked.field("type") and number.type != asked.field("type"):
        return False
    if not set(filter(None, asked.field("features").split(","))) <= set(number.features):
        return False
    if asked.field("application_id") and number.app_id != asked.field("application_id"):
        return False
    has_application = asked.field("has_application").lower()
    return not has_application or (number.app_id is not None) == (has_application == "true")


def _page(numbers: Sequence[Number], asked: Asked, shown: Sequence[object]) -> dict[str, object]:
    size, index = asked.number("size", 10, most=PAGE_MAX), asked.number("index", 1)
    return {"count": len(numbers), "numbers": list(shown[(index - 1) * size : index * size])} if numbers else {}
