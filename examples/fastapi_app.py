"""A FastAPI application that sends texts, takes what Vonage says of them, and notes at an order that its text failed.

pip install landed fastapi uvicorn
VONAGE_SIGNATURE_SECRET=… uvicorn fastapi_app:app --workers 2 --port 8000

Each process takes webhooks, and one of them calls the handler; when that one ends, another goes on. If `landed serve`
runs in the same directory, it is the one: give it the handler, by `--handlers fastapi_app.py`.
"""

import asyncio
import logging
import os
import sqlite3
from contextlib import closing

import httpx
from fastapi import FastAPI, HTTPException

import landed
from landed.handlers import HandlerEvent

SENDER = "ACME"
DATABASE = "shop.db"

log = logging.getLogger(__name__)
webhooks = landed.Webhooks(worker=landed.Worker())
app = FastAPI(lifespan=webhooks.lifespan)  # so that calls may end before the process does
app.mount("/webhooks", webhooks.asgi)  # /webhooks/message-status and its sisters


@app.post("/orders/{order}/text", status_code=202)
def text_about(order: str, to: str) -> dict[str, str]:
    """Tell a customer about an order."""
    if "VONAGE_API_SECRET" not in os.environ:
        raise HTTPException(503, "set VONAGE_API_KEY and VONAGE_API_SECRET to send")
    message_id = send(to, f"Your order {order} is on its way.")
    landed.track(message_id, to=to, sender=SENDER, client_ref=order)
    return {"message_id": message_id}


@app.get("/orders/{order}")
def about(order: str) -> dict[str, str | None]:
    """Tell whether the customer has to be told by other means, and why."""
    with closing(database()) as db:
        row = db.execute("SELECT why FROM failed_text WHERE order_ref = ?", (order,)).fetchone()
    return {"text_failed": row[0] if row else None}


@landed.on.failed
async def note_failure(event: HandlerEvent) -> None:
    """Note it at the order. It can be called twice with one event, and may not mind."""
    order, why = event.message.client_ref, event.reason.meaning if event.reason else "nobody knows why"
    await asyncio.to_thread(note, order, why)
    log.warning("the text about order %s did not arrive: %s", order, why)


def note(order: str | None, why: str) -> None:
    """Note why the customer could not be told."""
    with closing(database()) as db, db:
        db.execute("INSERT OR REPLACE INTO failed_text VALUES (?, ?)", (order, why))


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
