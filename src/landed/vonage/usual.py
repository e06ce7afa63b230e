"""The usual receipts, read in brief at a third of the cost, for whoever reads very many: the fold.

A request of another shape goes the way of all, through `parse.read`. What is read here says exactly what
would be read there, except that `raw` is empty; a property holds this.
"""

from __future__ import annotations

from typing import Protocol

from landed.domain.brief import Brief
from landed.vonage.messages import usual_status
from landed.vonage.parse import MESSAGE_ID_CHARACTERS_MAX
from landed.vonage.request import BACKSLASH, BRACKETS_MAX
from landed.vonage.signing import Coverage, Trust
from landed.vonage.sms import usual_receipt


class Parameters(Protocol):
    """Where a request has what facts are read from."""

    @property
    def query(self) -> bytes:
        """The raw query string without its question mark."""

    @property
    def body(self) -> bytes:
        """The body as it came."""


# What is longer is no usual receipt; and of each kind much is remembered.
BYTES_MAX = 2 * 1024


def read_usual(account: str, request: Parameters, trust: Trust) -> Brief | None:
    """The one receipt in a request of a usual shape, of that account; None for any other, even if it can be read."""
    query, body = request.query, request.body
    if len(query) + len(body) > BYTES_MAX:
        return None
    brief = None
    if body[:1] == b"{":
        # What has a message_uuid is judged by its body alone, whatever the signature covers.
        brief = usual_status(account, body, trust) if _has_one_reading(body) else None
    elif trust.coverage is not Coverage.BODY and not (query and body):
        brief = usual_receipt(account, query or body, trust)
    return brief if brief is not None and len(brief.message_id) <= MESSAGE_ID_CHARACTERS_MAX else None


def _has_one_reading(body: bytes) -> bool:
    """Whether no text in this JSON stands for another: an escape may be a NUL or half a character."""
    return BACKSLASH not in body and body.count(b"{") + body.count(b"[") <= BRACKETS_MAX
