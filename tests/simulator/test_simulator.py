"""The offline Vonage: what it takes, and that what it sends is signed and means what it should."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import httpx
import pytest

import landed
from landed.domain.receipt import Api, Outcome
from landed.simulator.app import Sent, Simulator, receipt_of
from landed.simulator.callbacks import Account, Caller, Transport, receipt_request, status_request
from landed.simulator.clock import STEPPED, Clock
from landed.simulator.networks import BEHAVIOURS, behaviour_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = "signature-secret"
ACCOUNT = Account(
    api_key="abcd1234",
    signature_secret=SECRET,
    application_id="app",
    status_url="http://127.0.0.1:1/webhooks/message-status",
    receipt_url="http://127.0.0.1:1/webhooks/delivery-receipt",
)
RANKED = [Outcome.PENDING, Outcome.UNCONFIRMED, Outcome.FAILED, Outcome.DELIVERED]


def sent(api: Api, to: str, segments: int = 1) -> Sent:
    return Sent(
        api=api, message_id="m", to=to, sender="landed", client_ref="r", segments=segments, behaviour=behaviour_of(to)
    )


def parsed(request):
    return landed.parse(
        request.method,
        request.path,
        request.query,
        request.headers,
        request.body,
        secrets={"abcd1234": SECRET},
        now=NOW,
    )


@pytest.mark.parametrize("number", [*BEHAVIOURS, "15551234567"])
@pytest.mark.parametrize("api", list(Api))
def test_the_receipts_of_a_behaviour_imply_its_outcome(api, number):
    message = sent(api, number)
    outcomes = [receipt_of(message, step, NOW, NOW, "abcd1234").outcome for step in message.behaviour.steps]
    assert max(outcomes, key=RANKED.index, default=Outcome.PENDING) == message.behaviour.outcome


@pytest.mark.parametrize("transport", list(Transport))
def test_a_receipt_of_the_sms_api_is_signed_in_every_transport(transport):
    message = sent(Api.SMS, "447700900002")
    receipt = receipt_of(message, message.behaviour.steps[-1], NOW, NOW, "abcd1234")
    (fact,) = parsed(receipt_request(receipt, ACCOUNT, "/webhooks/delivery-receipt", NOW, transport))
    assert (fact.verified, fact.stale, fact.provider_status, fact.code, fact.to) == (
        *(True, False, "failed", "2"),
        "447700900002",
    )


def test_a_status_of_the_messages_api_is_signed_and_breaks_down_its_segments():
    message = sent(Api.MESSAGES, "447700900001", segments=3)
    receipt = receipt_of(message, message.behaviour.steps[-1], NOW, NOW, "abcd1234")
    (fact,) = parsed(status_request(receipt, ACCOUNT, "/webhooks/message-status", NOW))
    assert (fact.verified, fact.outcome, fact.segments, len(fact.segment_receipts)) == (True, "delivered", 3, 3)


@pytest.mark.parametrize(
    ("path", "form", "body", "status", "key"),
    [
        ("/v1/messages", "json", {"to": "1", "from": "a", "channel": "sms", "text": "t"}, 202, "message_uuid"),
        ("/v1/messages", "json", {"to": "1"}, 422, "title"),
        ("/sms/json", "data", {"to": "1", "from": "a", "text": "t"}, 200, "messages"),
        ("/sms/json", "json", {"to": "1", "from": "a", "text": "t"}, 200, "messages"),
        ("/sms/json", "data", {"to": "1"}, 200, "messages"),
    ],
    ids=["messages", "messages-incomplete", "sms-form", "sms-json", "sms-incomplete"],
)
def test_sends_are_answered_as_vonage_answers(path, form, body, status, key):
    async def send() -> httpx.Response:
        async with httpx.AsyncClient() as callbacks:
            clock = Clock(NOW, STEPPED)
            simulator = Simulator(ACCOUNT, Caller(callbacks, clock), clock)
            transport = httpx.ASGITransport(simulator.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://vonage") as client:
                answer = await client.post(path, **{form: body})
            await clock.stop()
        return answer

    answer = asyncio.run(send())
    assert answer.status_code == status
    assert key in answer.json()


def test_a_long_sms_has_an_id_for_each_part():
    async def send() -> list[dict[str, str]]:
        async with httpx.AsyncClient() as callbacks:
            clock = Clock(NOW, STEPPED)
            simulator = Simulator(ACCOUNT, Caller(callbacks, clock), clock)
            transport = httpx.ASGITransport(simulator.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://vonage") as client:
                answer = await client.post("/sms/json", data={"to": "1", "from": "a", "text": "x" * 400})
            await clock.stop()
        return answer.json()["messages"]

    parts = asyncio.run(send())
    assert len({part["message-id"] for part in parts}) == 3
