"""A Flask application that sends texts, and takes what Vonage says of them.

pip install landed flask
VONAGE_SIGNATURE_SECRET=… flask --app flask_app run --port 8000
landed serve --role worker    # beside it, in the same directory: says what became of each message
"""

import os

import flask
import httpx

import landed

SENDER = "ACME"

app = flask.Flask(__name__)
app.register_blueprint(landed.Webhooks().blueprint())  # /webhooks/message-status and its sisters


@app.post("/orders/<order>/text")
def text_about(order: str) -> tuple[dict[str, str], int]:
    """Tell a customer about an order."""
    if "VONAGE_API_SECRET" not in os.environ:
        return {"error": "set VONAGE_API_KEY and VONAGE_API_SECRET to send"}, 503
    to = flask.request.form["to"]
    message_id = send(to, f"Your order {order} is on its way.")
    landed.track(message_id, to=to, sender=SENDER, client_ref=order)
    return {"message_id": message_id}, 202


def send(to: str, text: str) -> str:
    """Send a text through Vonage's Messages API; its message id."""
    answer = httpx.post(
        os.environ.get("VONAGE_API_URL", "https://api.nexmo.com") + "/v1/messages",
        auth=(os.environ["VONAGE_API_KEY"], os.environ["VONAGE_API_SECRET"]),
        json={"channel": "sms", "message_type": "text", "to": to, "from": SENDER, "text": text},
        timeout=10,
    )
    message_id: str = answer.raise_for_status().json()["message_uuid"]
    return message_id
