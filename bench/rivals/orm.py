"""What is usually built: FastAPI, and SQLAlchemy that commits each receipt to SQLite."""

import os

from fastapi import FastAPI, Request
from sqlalchemy import String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The tables."""


class Receipt(Base):
    """One row a message."""

    __tablename__ = "receipt"
    message_id: Mapped[str] = mapped_column(String, primary_key=True)
    status: Mapped[str] = mapped_column(String)


engine = create_engine("sqlite:///" + os.environ["DATABASE"])
Base.metadata.create_all(engine)
app = FastAPI()


@app.api_route("/webhooks/message-status", methods=["GET", "POST"])
@app.api_route("/webhooks/delivery-receipt", methods=["GET", "POST"])
async def receipt(request: Request) -> dict[str, str]:
    """Store what came, and commit."""
    data = await request.json() if request.method == "POST" else dict(request.query_params)
    with Session(engine) as session:
        session.merge(Receipt(message_id=data.get("message_uuid") or data["messageId"], status=data["status"]))
        session.commit()
    return {}
