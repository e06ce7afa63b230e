"""What a status is worth: how much Vonage's word tells, by channel, and in places where it tells less.

`show`, the API and the documentation are written from these tables. A word that is in none of them is worth
nothing certain, and that is said.

https://developer.vonage.com/en/messages/concepts/messages-status-callbacks
https://developer.vonage.com/en/messages/concepts/sms-status-callbacks
https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from landed.domain.receipt import Status


class Knows(StrEnum):
    """Up to where the one who said it can know."""

    VONAGE = "vonage"
    PROVIDER = "provider"
    DEVICE = "device"
    PERSON = "person"
    NOBODY = "nobody"


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What a status word is worth: `final` when nothing more is to be expected, `meaning` in a sentence."""

    final: bool
    knows: Knows
    meaning: str


SMS, MMS, RCS, WHATSAPP, MESSENGER, VIBER = "sms", "mms", "rcs", "whatsapp", "messenger", "viber_service"
CHANNELS = (SMS, MMS, RCS, WHATSAPP, MESSENGER, VIBER)
READING_CHANNELS = (RCS, WHATSAPP, MESSENGER, VIBER)
PROVIDERS: Mapping[str, str] = {
    RCS: "Google or the carrier",
    WHATSAPP: "WhatsApp",
    MESSENGER: "Facebook",
    VIBER: "Viber",
}

_OF_SMS: Mapping[str, Worth] = {
    "submitted": Worth(
        final=False, knows=Knows.VONAGE, meaning="Vonage has taken the message and passed it on; it is charged now."
    ),
    "accepted": Worth(
        final=False,
        knows=Knows.VONAGE,
        meaning="Vonage or a carrier has taken the message; whether a phone got it is open.",
    ),
    "buffered": Worth(
        final=False, knows=Knows.PROVIDER, meaning="A carrier keeps the message and will try to deliver it later."
    ),
    "delivered": Worth(
        final=True,
        knows=Knows.DEVICE,
        meaning="The network says that it arrived: mostly the phone's word, in some places only the carrier's.",
    ),
    "expired": Worth(
        final=True,
        knows=Knows.NOBODY,
        meaning="Its time ran out, or 72 hours went by and Vonage gave up waiting: nobody knows whether it arrived.",
    ),
    "failed": Worth(final=True, knows=Knows.PROVIDER, meaning="The network says that it did not arrive."),
    "rejected": Worth(final=True, knows=Knows.PROVIDER, meaning="A carrier, or Vonage for it, refused the message."),
    "undeliverable": Worth(
        final=True, knows=Knows.VONAGE, meaning="Vonage could not hand the message on: an outage, as a rule."
    ),
    "unknown": Worth(
        final=True, knows=Knows.NOBODY, meaning="The carrier answered in a way that tells nothing of the message."
    ),
}
_OF_MMS: Mapping[str, Worth] = {
    "submitted": _OF_SMS["submitted"],
    "delivered": Worth(
        final=True, knows=Knows.PROVIDER, meaning="The carrier says that it delivered the message, or handed it over."
    ),
    "rejected": _OF_SMS["rejected"],
    "undeliverable": _OF_SMS["undeliverable"],
}


def _of_app(provider: str) -> Mapping[str, Worth]:
    return {
        "submitted": Worth(final=False, knows=Knows.VONAGE, meaning=f"Vonage has passed the message on to {provider}."),
        "delivered": Worth(
            final=True,
            knows=Knows.DEVICE,
            meaning=f"{provider} says that the message is on a device; it is charged now.",
        ),
        "read": Worth(
            final=True, knows=Knows.PERSON, meaning=f"{provider} says that the person has opened the message."
        ),
        "rejected": Worth(final=True, knows=Knows.PROVIDER, meaning=f"{provider}, or Vonage, refused the message."),
        "undeliverable": Worth(
            final=True, knows=Knows.VONAGE, meaning=f"Vonage could not reach {provider}: an outage, as a rule."
        ),
    }


# (channel, Vonage's status word) → what it is worth.
WORTH: Mapping[tuple[str, str], Worth] = {
    (channel, word): worth
    for channel, table in (
        (SMS, _OF_SMS),
        (MMS, _OF_MMS),
        *((channel, _of_app(provider)) for channel, provider in PROVIDERS.items()),
    )
    for word, worth in table.items()
}

# (word, what we make of it by its code) → what it is worth then, on every channel.
# https://developer.vonage.com/en/messages/concepts/sms-status-callbacks
QUALIFIED: Mapping[tuple[str, Status], Worth] = {
    ("rejected", Status.UNCONFIRMED): Worth(
        final=True,
        knows=Knows.NOBODY,
        meaning="Vonage also says this of what was never confirmed: whether it arrived is open.",
    ),
    ("expired", Status.FAILED): Worth(
        final=True, knows=Knows.PROVIDER, meaning="Its time ran out, and the code says what stood in the way."
    ),
}

# (channel, word, country) → what else is to be known there.
# https://api.support.vonage.com/hc/en-us/articles/204014863
PLACES: Mapping[tuple[str, str, str], str] = {
    (SMS, "accepted", "US"): (
        "From a long code or a plain short code to the United States this is where it ends: most carriers tell no more."
    ),
    (SMS, "submitted", "US"): (
        "From a long code or a plain short code to the United States it may end here: most carriers tell no more."
    ),
    (SMS, "expired", "PH"): (
        "In the Philippines many networks send no receipts or false ones: messages that arrived end like this, too."
    ),
    (SMS, "delivered", "PH"): "In the Philippines some networks say this of messages that never arrived.",
}

# What a rejected message of several segments may be.
# https://developer.vonage.com/en/messages/concepts/multisegment-sms-handling
SEVERAL_SEGMENTS = (
    "A message of several segments is also called rejected when one of them is confirmed more than five minutes after "
    "the first: it may be late and not lost."
)
UNKNOWN = Worth(final=False, knows=Knows.NOBODY, meaning="Vonage's documents do not say what this word means here.")


def worth_of(channel: str | None, provider_status: str, status: Status) -> Worth:
    """What Vonage's word is worth on a channel, given what we make of it; without a channel, as for SMS."""
    word = provider_status.strip().lower()
    return QUALIFIED.get((word, status)) or WORTH.get(((channel or SMS).lower(), word), UNKNOWN)


def remarks_on(
    channel: str | None, provider_status: str, country: str | None, *, several_segments: bool = False
) -> list[str]:
    """What else is to be known of it in that country, and of a message of several segments."""
    channel, word = (channel or SMS).lower(), provider_status.strip().lower()
    place = PLACES.get((channel, word, country or ""))
    late = [SEVERAL_SEGMENTS] if several_segments and (channel, word) == (SMS, "rejected") else []
    return [*([place] if place else []), *late]
