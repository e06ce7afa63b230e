"""An event of each type that never happened: for the documentation, and to try a receiver with.

Each is made as real ones are, from facts that call for it; only the facts are made up. The numbers are of a range that
is given to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from landed.domain.events import (
    AnyEvent,
    Data,
    Event,
    EventType,
    InboundData,
    QuarantineData,
    cause_of,
    event_id,
    id_text,
    message_data,
)
from landed.domain.lifecycle import Fact, inbound_key, message_of, receipt_key, status_of
from landed.domain.receipt import Api, Inbound, Receipt
from landed.domain.views import InboundView

ACCOUNT = "default"
MESSAGE_ID = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
PERSON, NUMBER, NETWORK = "447700900001", "447700900002", "23410"
CLIENT_REF = "order-7"
PRICE, CURRENCY = Decimal("0.0333"), "EUR"

# What the receipts say, in their order: Vonage's word, and where there is one the code with its detail.
Said = tuple[str, str | None, str | None]
TAKEN: Said = ("submitted", None, None)
ARRIVED: Said = ("delivered", None, None)
SWITCHED_OFF: Said = ("rejected", "1180", "Absent Subscriber Temporary")
CASES: Mapping[EventType, tuple[Api, str, Sequence[Said]]] = {
    EventType.ACCEPTED: (Api.MESSAGES, "sms", (TAKEN,)),
    EventType.DELIVERED: (Api.MESSAGES, "sms", (TAKEN, ARRIVED)),
    EventType.READ: (Api.MESSAGES, "whatsapp", (TAKEN, ARRIVED, ("read", None, None))),
    EventType.FAILED: (Api.MESSAGES, "sms", (TAKEN, SWITCHED_OFF)),
    EventType.UNCONFIRMED: (Api.SMS, "sms", (("accepted", None, None), ("expired", None, None))),
    EventType.CONFLICT: (Api.MESSAGES, "sms", (TAKEN, SWITCHED_OFF, ARRIVED)),
}
BETWEEN_RECEIPTS = timedelta(seconds=4)
# What it takes from the provider's clock to ours.
ON_THE_WAY = timedelta(seconds=1)


def sample_of(event: EventType, at: datetime) -> AnyEvent:
    """An event of that type, as if it had been understood at that time."""
    subject, data = _about(event, at)
    return Event(id=id_text(event_id(ACCOUNT, subject, event)), type=event, timestamp=at, data=data)


def facts_of(event: EventType, at: datetime) -> list[Fact]:
    """What is known of the message of a sample; the last of it was received at that time."""
    api, channel, several = CASES[event]
    return [
        _fact(api, channel, said, at - BETWEEN_RECEIPTS * (len(several) - number))
        for number, said in enumerate(several, start=1)
    ]


def _about(event: EventType, at: datetime) -> tuple[str, Data]:
    if event is EventType.QUARANTINE:
        return event, QuarantineData(held=12, came=3, reasons={"wrong": 2, "missing": 1})
    if event is EventType.INBOUND:
        inbound = _inbound(at)
        return inbound_key(ACCOUNT, inbound).hex(), InboundData(account=ACCOUNT, inbound=InboundView.of(inbound))
    facts = facts_of(event, at)
    return MESSAGE_ID, message_data(message_of(ACCOUNT, facts), cause_of(event, facts))


def _inbound(at: datetime) -> Inbound:
    return Inbound(
        api=Api.MESSAGES,
        message_id=MESSAGE_ID,
        channel="sms",
        message_type="text",
        text="Yes, at nine.",
        to=NUMBER,
        sender=PERSON,
        occurred_at=at - ON_THE_WAY,
        verified=True,
    )


def _fact(api: Api, channel: str, said: Said, received_at: datetime) -> Fact:
    word, code, detail = said
    receipt = Receipt(
        api=api,
        message_id=MESSAGE_ID,
        channel=channel,
        status=status_of(api, word, code),
        provider_status=word,
        to=PERSON,
        sender=NUMBER,
        network=NETWORK if channel == "sms" else None,
        code=code,
        detail=detail,
        client_ref=CLIENT_REF,
        occurred_at=received_at - ON_THE_WAY,
        price=PRICE,
        currency=CURRENCY if api is Api.MESSAGES else None,
        verified=True,
    )
    return Fact(receipt=receipt, key=receipt_key(ACCOUNT, receipt), received_at=received_at)
