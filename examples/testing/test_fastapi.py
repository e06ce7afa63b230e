"""A FastAPI application that sends codes through the SMS API, tested against an offline Vonage.

pip install landed fastapi httpx pytest vonage-sms
pytest test_fastapi.py
"""

import os
from collections.abc import Iterator
from urllib.parse import parse_qsl

import httpx
import pytest
from fastapi import FastAPI, Request
from vonage_http_client import Auth, HttpClient, HttpClientOptions
from vonage_sms import Sms, SmsMessage

# The application. A code is sent in one text or several; it is there once all parts are.

codes = FastAPI()
parts: dict[str, str] = {}


@codes.post("/codes", status_code=202)
def send_code(to: str, text: str) -> list[str]:
    """Send a code; the ids of its parts."""
    auth = Auth(api_key=os.environ["VONAGE_API_KEY"], api_secret=os.environ["VONAGE_API_SECRET"])
    options = HttpClientOptions(
        rest_host=os.environ.get("VONAGE_REST_HOST", "rest.nexmo.com"), pool_maxsize=1, max_retries=0, timeout=10
    )
    answer = Sms(HttpClient(auth, options)).send(SmsMessage(to=to, from_="ACME", text=text))
    ids = [str(part.message_id) for part in answer.messages]
    parts.update(dict.fromkeys(ids, "sent"))
    return ids


@codes.api_route("/webhooks/delivery-receipt", methods=["GET", "POST"])
async def delivery_receipt(request: Request) -> None:
    """Take Vonage's word on a part, in any of its three forms."""
    if request.headers.get("content-type") == "application/json":
        receipt = await request.json()
    else:
        receipt = dict(request.query_params) or dict(parse_qsl((await request.body()).decode()))
    if parts.get(receipt["messageId"]) != "delivered":
        parts[receipt["messageId"]] = receipt["status"]


# The tests.


@pytest.fixture
def client(vonage) -> Iterator[httpx.Client]:
    """The application on a port of its own, which Vonage calls back, and a client to it."""
    parts.clear()
    url = vonage.serve(codes)
    vonage.webhooks(receipt=f"{url}/webhooks/delivery-receipt")
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize("webhook_format", ["GET", "POST", "POST-JSON"])
def test_receipts_are_taken_in_every_form(vonage, client, webhook_format) -> None:
    """What is set in the dashboard is set here."""
    vonage.setting(webhook_format=webhook_format)
    client.post("/codes", params={"to": "447700900001", "text": "Your code is 123456."})
    vonage.step(minutes=1)
    assert list(parts.values()) == ["delivered"]


def test_a_long_text_has_a_receipt_for_each_part(vonage, client) -> None:
    """447700900016 loses the last of several."""
    ids = client.post("/codes", params={"to": "447700900016", "text": "It is valid for ten minutes. " * 12}).json()
    vonage.step(minutes=1)
    assert [parts[each] for each in ids] == ["delivered", "delivered", "failed"]


def test_a_late_intermediate_receipt_changes_nothing(vonage, client) -> None:
    """447700900004 has its receipts in the wrong order."""
    client.post("/codes", params={"to": "447700900004", "text": "Your code is 123456."})
    vonage.step(minutes=1)
    assert [callback.says for callback in vonage.callbacks()] == ["delivered", "accepted"]
    assert list(parts.values()) == ["delivered"]


def test_what_nobody_confirms_expires_after_three_days(vonage, client) -> None:
    """What a receipt says is one thing, and what became of the text another."""
    client.post("/codes", params={"to": "447700900006", "text": "Your code is 123456."})
    vonage.step(days=3)
    (message,) = vonage.messages()
    assert list(parts.values()) == ["expired"]
    assert message.truth.arrived_at is not None
