"""landed tells you which of your text messages arrived.

The public names, loaded when first used so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from landed.domain.lifecycle import Message
    from landed.domain.receipt import Inbound, Outcome, Receipt, Status
    from landed.errors import BadSignature, LandedError, Unreadable
    from landed.gate.mount import Webhooks
    from landed.gate.track import track
    from landed.handlers import on
    from landed.vonage.parse import parse
    from landed.work import Worker

__version__ = "0.1.0"

__all__ = [
    "BadSignature",
    "Inbound",
    "LandedError",
    "Message",
    "Outcome",
    "Receipt",
    "Status",
    "Unreadable",
    "Webhooks",
    "Worker",
    "on",
    "parse",
    "track",
]

_HOMES = {
    "BadSignature": "landed.errors",
    "Inbound": "landed.domain.receipt",
    "LandedError": "landed.errors",
    "Message": "landed.domain.lifecycle",
    "Outcome": "landed.domain.receipt",
    "Receipt": "landed.domain.receipt",
    "Status": "landed.domain.receipt",
    "Unreadable": "landed.errors",
    "Webhooks": "landed.gate.mount",
    "Worker": "landed.work",
    "on": "landed.handlers",
    "parse": "landed.vonage.parse",
    "track": "landed.gate.track",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        sentence = f"landed has no public name {name!r}"
        raise AttributeError(sentence)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
