"""Our webhooks as Vonage is to call them, and what an address that it has says about who is called."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

import msgspec

from landed.settings import Settings
from landed.vonage.configuration import Webhooks

STATUS, INBOUND_MESSAGE = "/webhooks/message-status", "/webhooks/inbound-message"
RECEIPT, INBOUND_SMS = "/webhooks/delivery-receipt", "/webhooks/inbound-sms"
PATHS = (STATUS, INBOUND_MESSAGE, RECEIPT, INBOUND_SMS)
DEFAULT_PORTS = {"http": 80, "https": 443}


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the paths of the webhooks: the public URL and the prefix, without a slash at the end."""

    base: str

    @classmethod
    def of(cls, url: str, path_prefix: str | None) -> Self:
        """Those behind a public URL."""
        return cls(base=url.rstrip("/") + (path_prefix or ""))

    @classmethod
    def of_settings(cls, settings: Settings) -> Self | None:
        """Those of the settings, which may not say where we are."""
        return cls.of(settings.public_url, settings.path_prefix) if settings.public_url else None

    @property
    def application(self) -> Webhooks:
        """An application's webhooks of the Messages API."""
        return Webhooks(receipts=self.base + STATUS, inbound=self.base + INBOUND_MESSAGE)

    @property
    def account(self) -> Webhooks:
        """The account's webhooks of the SMS API."""
        return Webhooks(receipts=self.base + RECEIPT, inbound=self.base + INBOUND_SMS)

    def leads_here(self, url: str) -> bool:
        """Whether a webhook of Vonage's is one of ours; each of ours takes every form."""
        return _place(url) in {_place(self.base + path) for path in PATHS}

    def is_same_host(self, url: str) -> bool:
        """Whether it is our host at least, so that the path alone is wrong."""
        return _place(url)[:3] == _place(self.base)[:3]


def _place(url: str) -> tuple[str, str, int | None, str]:
    """A URL without what does not change where it leads."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return ("", url, None, "")
    return (parts.scheme, parts.hostname or "", port, parts.path.rstrip("/"))
