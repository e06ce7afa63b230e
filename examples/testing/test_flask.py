"""A Flask application that texts its customers, tested against an offline Vonage.

pip install landed flask pytest vonage-messages
pytest test_flask.py
"""

import os

import flask
import pytest
from vonage_http_client import Auth, HttpClient, HttpClientOptions
from vonage_messages import Messages, Sms

# The application. It sends through Vonage's own SDK, and offers a call where a text did not arrive.

shop = flask.Flask(__name__)
orders: dict[str, str] = {}
messages: dict[str, str] = {}


@shop.post("/orders/<order>/text")
def text_about(order: str) -> tuple[dict[str, str], int]:
    """Tell a customer that an order is on its way."""
    auth = Auth(application_id=os.environ["VONAGE_APPLICATION_ID"], private_key=os.environ["VONAGE_PRIVATE_KEY"])
    options = HttpClientOptions(
        api_host=os.environ.get("VONAGE_API_HOST", "api.nexmo.com"), pool_maxsize=1, max_retries=0, timeout=10
    )
    text = Sms(to=flask.request.form["to"], from_="ACME", text=f"Your order {order} is on its way.")
    message_id = Messages(HttpClient(auth, options)).send(text).message_uuid
    messages[message_id] = order
    orders[order] = "told"
    return {"message_id": message_id}, 202


@shop.post("/webhooks/message-status")
def message_status() -> tuple[str, int]:
    """Take Vonage's word on a text."""
    status = flask.request.get_json()
    order = messages.get(status["message_uuid"])
    if order is None:
        return "not mine, or not yet", 503
    if status["status"] == "delivered":
        orders[order] = "knows"
    if status["status"] in ("rejected", "undeliverable"):
        orders[order] = "call them"
    return "", 200


# The tests.


@pytest.fixture
def url(vonage) -> str:
    """The application on a port of its own, which Vonage calls back."""
    orders.clear()
    messages.clear()
    url: str = vonage.serve(shop)
    vonage.webhooks(status=f"{url}/webhooks/message-status")
    return url


def test_a_customer_knows_once_the_text_arrived(vonage, url) -> None:
    """447700900001 is delivered within a minute, always."""
    shop.test_client().post("/orders/7/text", data={"to": "447700900001"})
    assert orders == {"7": "told"}

    vonage.step(minutes=1)
    assert orders == {"7": "knows"}


def test_a_customer_whose_phone_is_off_is_called(vonage, url) -> None:
    """Any number can have any fate."""
    vonage.choose("447911123456", "absent-subscriber-temporary")
    shop.test_client().post("/orders/7/text", data={"to": "447911123456"})
    vonage.step(minutes=5)
    assert orders == {"7": "call them"}


def test_a_receipt_that_comes_while_we_are_down_comes_again(vonage, url) -> None:
    """An outage is a context; what Vonage tried meanwhile can be read."""
    with vonage.fault("outage"):
        shop.test_client().post("/orders/7/text", data={"to": "447700900001"})
        vonage.step(minutes=30)
        assert orders == {"7": "told"}
    vonage.step(minutes=15)
    assert orders == {"7": "knows"}

    delivered = vonage.callbacks()[1]
    assert [attempt.verdict for attempt in delivered.attempts] == ["again"] * 9 + ["taken"]
