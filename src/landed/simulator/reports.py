"""The Reports API, as far as it tells of messages: https://developer.vonage.com/en/api/reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import count

from starlette.datastructures import URL

from landed.domain.networks import country_name, country_of_number, network_of
from landed.domain.receipt import Api, Receipt
from landed.simulator.endpoints import Asked, Refusal
from landed.simulator.simulator import CURRENCY, Message, Simulator
from landed.vonage.values import iso

RECORDS_MAX = 1_000
IDS_MAX = 20
SPAN_MAX = timedelta(hours=24)
# Of the statuses that the Messages API rejects with, this one is an expiry.
EXPIRED = "1360"
NOT_FINAL = frozenset({"submitted", "accepted", "buffered"})
UNPROCESSABLE = HTTPStatus.UNPROCESSABLE_ENTITY


class Reports:
    """The endpoint, in front of a simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._account = simulator.account
        self._requests = count(1)

    def records(self, asked: Asked) -> dict[str, object]:
        """What Vonage knows of messages, whether or not a receipt of them was taken."""
        product, direction = asked.field("product"), asked.field("direction")
        if product not in ("SMS", "MESSAGES"):
            raise Refusal(UNPROCESSABLE, "Invalid product", "The product is SMS or MESSAGES.")
        if direction not in ("inbound", "outbound"):
            raise Refusal(UNPROCESSABLE, "Invalid direction", "It is inbound or outbound.")
        if asked.fields.get("account_id") != self._account.api_key:
            raise Refusal(HTTPStatus.FORBIDDEN, "Forbidden", "The account_id is not the account's key.")
        api = Api.SMS if product == "SMS" else Api.MESSAGES
        found, missing = self._reported(api, direction, asked)
        with_text = asked.field("include_message").lower() == "true"
        records = [self._record(message, with_text=with_text) for message in found]
        status = asked.fields.get("status")
        if status is not None and "id" not in asked.fields:
            records = [record for record in records if record["status"] == status]
        at = asked.number("cursor", 0, least=0)
        links = {"self": {"href": asked.url}}
        if len(records) > at + RECORDS_MAX:
            links["next"] = {"href": str(URL(asked.url).include_query_params(cursor=at + RECORDS_MAX))}
        return {
            "_links": links,
            "request_id": self._simulator.dice.uuid("report", next(self._requests)),
            "request_status": "SUCCESS",
            "received_at": iso(self._simulator.clock.now().replace(microsecond=0)),
            "items_count": len(records[at : at + RECORDS_MAX]),
            "product": product,
            "account_id": self._account.api_key,
            "ids_not_found": ",".join(missing),
            "records": records[at : at + RECORDS_MAX],
        }

    def _reported(self, api: Api, direction: str, asked: Asked) -> tuple[list[Message], list[str]]:
        messages = self._simulator.messages
        if "id" in asked.fields:
            ids = asked.fields["id"].split(",")
            if len(ids) > IDS_MAX:
                raise Refusal(UNPROCESSABLE, "Too many ids", f"At most {IDS_MAX} at once.")
            found = [messages[each] for each in ids if each in messages and direction == "outbound"]
            found = [message for message in found if self._simulator.form_api(message.send) is api]
            return found, [each for each in ids if each not in {message.message_id for message in found}]
        began, ended = (_moment(asked, name) for name in ("date_start", "date_end"))
        if not timedelta() < ended - began <= SPAN_MAX:
            raise Refusal(UNPROCESSABLE, "Invalid dates", "They are at most 24 hours apart.")
        sent = [
            message
            for message in messages.values()
            if direction == "outbound"
            and self._simulator.form_api(message.send) is api
            and began <= message.sent_at < ended
        ]
        return sent, []

    def _record(self, message: Message, *, with_text: bool) -> dict[str, str]:
        finals = [each for each in message.said if each.provider_status not in NOT_FINAL]
        said = next(reversed(finals or message.said), None)
        country = country_of_number(message.send.to) or ""
        network = network_of(message.network.code)
        at = finals[-1].occurred_at if finals else None
        record = {
            "account_id": self._account.api_key,
            "message_id": message.message_id,
            "client_ref": message.send.client_ref,
            "direction": "outbound",
            "from": message.send.sender,
            "to": message.send.to,
            "network": message.network.code,
            "network_name": network.name,
            "country": country,
            "country_name": country_name(country),
            "date_received": _stamp(message.sent_at),
            "date_finalized": None if at is None else _stamp(at),
            "latency": None if at is None else str(max(0, (at - message.sent_at) // timedelta(milliseconds=1))),
            "status": _reported_status(said),
            "error_code": said.code if said is not None else None,
            "currency": CURRENCY,
            "total_price": f"{message.price:.8f}",
            "message_body": message.send.text if with_text else None,
        }
        return {name: value for name, value in record.items() if value is not None}


def _reported_status(said: Receipt | None) -> str:
    if said is None:
        return "submitted"
    is_expired = said.provider_status == "rejected" and said.code == EXPIRED
    return "expired" if is_expired else said.provider_status


def _moment(asked: Asked, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(asked.field(name))
    except ValueError:
        told = f"{name} is a time, such as 2026-01-01T12:00:00+0000."
        raise Refusal(UNPROCESSABLE, "Invalid dates", told, name) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _stamp(moment: datetime) -> str:
    """A time as the reports write it."""
    return moment.replace(microsecond=0).isoformat()
