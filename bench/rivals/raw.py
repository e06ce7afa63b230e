"""The same with sqlite3 and nothing between."""

import os
import sqlite3

from fastapi import FastAPI, Request

db = sqlite3.connect(os.environ["DATABASE"], check_same_thread=False)
db.execute("PRAGMA journal_mode = wal")
db.execute("PRAGMA synchronous = full")
db.execute("CREATE TABLE IF NOT EXISTS receipt (message_id TEXT PRIMARY KEY, status TEXT)")
app = FastAPI()


@app.api_route("/webhooks/message-status", methods=["GET", "POST"])
@app.api_route("/webhooks/delivery-receipt", methods=["GET", "POST"])
async def receipt(request: Request) -> dict[str, str]:
    """Store what came, and commit."""
    data = await request.json() if request.method == "POST" else dict(request.query_params)
    key = data.get("message_uuid") or data["messageId"]
    db.execute("INSERT OR REPLACE INTO receipt VALUES (?, ?)", (key, data["status"]))
    db.commit()
    return {}
