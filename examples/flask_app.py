"""A Flask application that sends texts, takes what Vonage says of them, and notes at an order that its text failed.

pip install landed flask gunicorn
VONAGE_SIGNATURE_SECRET=… gunicorn flask_app:app --workers 3 --bind :8000 --limit-request-line 8190

Each process takes webhooks, and one of them calls the handler; when that one ends, another goes on. If `landed serve`
runs in the same directory, it is the one: give it the handler, by `--handlers flask_app.py`.
"""

import os
import sqlite3
from contextlib import closing

import flask
import httpx

import landed
from landed.handlers import HandlerEvent

SENDER = "ACME"
DATABASE = "shop.db"

app = flask.Flask(__name__)
app.register_blueprint(landed.Webhooks(worker=landed.Worker()).blueprint())  # /webhooks/message-status and its sisters


@app.post("/orders/<order>/text")
def text_about(order: str) -> tuple[dict[str, str], int]:
    """Tell a customer about an order."""
    if "VONAGE_API_SECRET" not in os.environ:
        return {"error": "set VONAGE_API_KEY and VONAGE_API_SECRET to send"}, 503
    to = flask.request.form["to"]
    message_id = send(to, f"Your order {order} is on its way.")
    landed.track(message_id, to=to, sender=SENDER, client_ref=order)
    return {"message_id": message_id}, 202


@app.get("/orders/<order>")
def about(order: str) -> dict[str, str | None]:
    """Tell whether the customer has to be told by other means, and why."""
    with closing(database()) as db:
        row = db.execute("SELECT why FROM failed_text WHERE order_ref = ?", (order,)).fetchone()
    return {"text_failed": row[0] if row else None}


@landed.on.failed
def note_failure(event: HandlerEvent) -> None:
    """Note it at the order. It can be called twice with one event, and may not mind."""
    order, why = event.message.client_ref, event.reason.meaning if event.reason else "nobody knows why"
    with closing(database()) as db, db:
        db.execute("INSERT OR REPLACE INTO failed_text VALUES (?, ?)", (order, why))
    app.logger.warning("the text about order %s did not arrive: %s", order, why)


def database() -> sqlite3.Connection:
    """The shop's own database."""
    db = sqlite3.connect(DATABASE)
    db.execute("CREATE TABLE IF NOT EXISTS failed_text (order_ref TEXT PRIMARY KEY, why TEXT)")
    return db


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
