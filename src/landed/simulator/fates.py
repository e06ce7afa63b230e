"""What can become of a message: where it ends, and what its network says of it. The two need not agree.

A fate is a table row, timed in seconds and in the latency of its network. Networks draw fates by their weights
(`landed.simulator.networks`); well-known numbers force one each, as test cards do, and so may a scenario or a test.
Words and codes are the SMS API's; the Messages API has others for the same:
https://developer.vonage.com/en/messages/concepts/sms-status-callbacks
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from landed.domain.meanings import REASONS
from landed.domain.reasons import MESSAGES_CODES, SMS_CODES, SMS_SEND_CODES
from landed.domain.receipt import Api
from landed.errors import SettingsError

HOUR_SECONDS = 3_600.0
# More than the five minutes for which the Messages API waits for the other segments.
LATE_SEGMENT_SECONDS = 390.0
# The most that was seen in the wild: https://github.com/sendgrid/docs/issues/2933
COPIES_MAX = 46


class Word(StrEnum):
    """What a network, or Vonage for it, says of a message."""

    ACCEPTED = "accepted"
    BUFFERED = "buffered"
    DELIVERED = "delivered"
    EXPIRED = "expired"
    FAILED = "failed"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    UNDELIVERABLE = "undeliverable"
    READ = "read"


FINALS = frozenset(Word) - {Word.ACCEPTED, Word.BUFFERED, Word.READ}

# What each API says for a word; None where it says nothing.
WORDS: Mapping[Api, Mapping[Word, str | None]] = {
    Api.SMS: {word: str(word) for word in Word} | {Word.UNDELIVERABLE: "rejected", Word.READ: None},
    Api.MESSAGES: {
        Word.ACCEPTED: "submitted",
        Word.BUFFERED: None,
        Word.DELIVERED: "delivered",
        Word.EXPIRED: "rejected",
        Word.FAILED: "rejected",
        Word.REJECTED: "rejected",
        Word.UNKNOWN: "rejected",
        Word.UNDELIVERABLE: "undeliverable",
        Word.READ: "read",
    },
}

NO_CODE: Mapping[Api, str | None] = {Api.SMS: "0", Api.MESSAGES: None}
# Of the codes with one meaning the first, which is the one that is documented.
_CODES: Mapping[Api, Mapping[str, str]] = {
    Api.SMS: {reason: code for code, reason in reversed(tuple(SMS_CODES.items()))} | {"expired": "1"},
    Api.MESSAGES: {reason: code for code, reason in reversed(tuple(MESSAGES_CODES.items()))}
    # Vonage does not publish which codes these are there; the nearest.
    | {"call-barred": "1280", "illegal-message": "1040", "gateway-quota-exceeded": "1331"},
}
# https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts: any other failure of a route.
_OTHER: Mapping[Api, str] = {Api.SMS: "99", Api.MESSAGES: "1330"}


def code_of(api: Api, reason: str) -> str | None:
    """The code by which an API gives a reason; no reason has the code that says so."""
    return _CODES[api].get(reason, _OTHER[api]) if reason else NO_CODE[api]


class Difference(StrEnum):
    """Why what the receipts say may be something else than what became of the message."""

    FALSE = "false receipt"
    CARRIER = "receipt of a carrier, not of a handset"
    SILENT = "no final receipt"
    WRONG = "a failure said of what arrived"
    SEGMENTS = "a segment's receipt came too late"


class Signature(StrEnum):
    """What is wrong with the signature of its receipts."""

    UNSIGNED_ONCE = "unsigned-once"
    WRONG_SECRET = "wrong-secret"  # noqa: S105 - the name of a fault
    SKEWED = "skewed"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is said: `seconds` and `latencies` of its network after the send.

    `before` moves the time that it bears, but not when it comes, so many seconds back.
    """

    word: Word
    reason: str = ""
    seconds: float = 0.0
    latencies: float = 0.0
    before_seconds: float = 0.0
    copies: int = 1

    def after(self, latency_seconds: float) -> float:
        """When it is said, in seconds after the send."""
        return self.seconds + self.latencies * latency_seconds


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a message. `arrives` is whether the handset gets it, `reads` whether it is read there.

    `mute` has not even the `expired` that Vonage makes up when nothing came; `settled` needs none. `last` is
    what is said of the last of several segments instead of the final word.
    """

    what: str
    steps: Sequence[Step]
    arrives: bool = True
    arrives_seconds: float = 0.0
    reads: bool = False
    settled: bool = False
    mute: bool = False
    last: Step | None = None
    last_arrives: bool = True
    differs: frozenset[Difference] = frozenset()
    signature: Signature | None = None


ACCEPTED = Step(word=Word.ACCEPTED, seconds=0.2)
DELIVERED = Step(word=Word.DELIVERED, seconds=0.3, latencies=1)


def _ends(what: str, word: Word, reason: str = "", **options: float) -> Fate:
    step = Step(word=word, reason=reason, **{"seconds": 0.3, "latencies": 1, **options})  # type: ignore[arg-type]
    return Fate(what=what, steps=(ACCEPTED, step), arrives=False)


# Which reasons are a network's refusal; any other one is a failure.
_REFUSALS = frozenset(
    {"call-barred", "anti-spam-rejection", "illegal-message", "blocked-by-carrier", "entity-filter", "header-filter"}
    | {"content-filter", "consent-filter", "regulation-error"}
)

FATES: dict[str, Fate] = {
    slug: _ends(f"fails: {slug.replace('-', ' ')}", Word.REJECTED if slug in _REFUSALS else Word.FAILED, slug)
    for slug in dict.fromkeys((*SMS_CODES.values(), *MESSAGES_CODES.values()))
    if slug in REASONS and slug not in ("delivered", "unknown", "expired")
} | {
    "delivered": Fate(what="arrives", steps=(ACCEPTED, DELIVERED)),
    "read": Fate(
        what="is read, where the channel tells",
        steps=(ACCEPTED, DELIVERED, Step(word=Word.READ, seconds=20, latencies=2)),
        reads=True,
    ),
    "buffered": Fate(
        what="phone off for half an hour",
        steps=(
            ACCEPTED,
            Step(word=Word.BUFFERED, seconds=5),
            msgspec.structs.replace(DELIVERED, seconds=HOUR_SECONDS / 2),
        ),
        arrives_seconds=HOUR_SECONDS / 2,
    ),
    "late": Fate(
        what="arrives, receipt four hours late",
        steps=(
            ACCEPTED,
            msgspec.structs.replace(DELIVERED, seconds=4 * HOUR_SECONDS, before_seconds=4 * HOUR_SECONDS),
        ),
    ),
    "duplicates": Fate(
        what="receipts come twice",
        steps=(msgspec.structs.replace(ACCEPTED, copies=2), msgspec.structs.replace(DELIVERED, copies=3)),
    ),
    "flood": Fate(
        what=f"one receipt {COPIES_MAX} times",
        steps=(ACCEPTED, msgspec.structs.replace(DELIVERED, copies=COPIES_MAX)),
    ),
    "disorder": Fate(
        what="receipts in the wrong order",
        steps=(DELIVERED, msgspec.structs.replace(ACCEPTED, seconds=1.5, latencies=1, before_seconds=1.3)),
    ),
    "mute": Fate(what="no receipt ever", steps=(), mute=True, differs=frozenset({Difference.SILENT})),
    "silent": Fate(what="accepted, then silence", steps=(ACCEPTED,), differs=frozenset({Difference.SILENT})),
    "lost": Fate(
        what="lost on the way, nobody says so",
        steps=(ACCEPTED,),
        arrives=False,
        differs=frozenset({Difference.SILENT}),
    ),
    "false": Fate(
        what="a receipt that lies",
        steps=(ACCEPTED, DELIVERED),
        arrives=False,
        differs=frozenset({Difference.FALSE}),
    ),
    "carrier": Fate(
        what="accepted is the last word",
        steps=(ACCEPTED,),
        settled=True,
        differs=frozenset({Difference.CARRIER}),
    ),
    "carrier-lost": Fate(
        what="accepted is the last word, and lost",
        steps=(ACCEPTED,),
        arrives=False,
        settled=True,
        differs=frozenset({Difference.CARRIER}),
    ),
    "conflict": Fate(
        what="delivered, then said to have failed",
        steps=(ACCEPTED, DELIVERED, Step(word=Word.FAILED, reason="network-error", seconds=30, latencies=1)),
    ),
    "denied": Fate(
        what="arrives, said to have failed",
        steps=(ACCEPTED, Step(word=Word.FAILED, reason="network-error", seconds=0.3, latencies=1)),
        differs=frozenset({Difference.WRONG}),
    ),
    "expired": Fate(
        what="never confirmed",
        steps=(ACCEPTED, Step(word=Word.EXPIRED, reason="expired", seconds=90)),
        arrives=False,
        differs=frozenset({Difference.SILENT}),
    ),
    "switched-off": Fate(
        what="phone off for longer than a day",
        steps=(
            ACCEPTED,
            Step(word=Word.BUFFERED, seconds=5),
            Step(word=Word.EXPIRED, reason="expired", seconds=24 * HOUR_SECONDS),
        ),
        arrives=False,
        differs=frozenset({Difference.SILENT}),
    ),
    "unknown": Fate(
        what="nobody knows",
        steps=(ACCEPTED, Step(word=Word.UNKNOWN, reason="unknown", seconds=0.3, latencies=1)),
        arrives=False,
        differs=frozenset({Difference.SILENT}),
    ),
    "undeliverable": _ends("number no longer in use", Word.UNDELIVERABLE, "absent-subscriber-permanent"),
    "late-segment": Fate(
        what="last segment's receipt is late",
        steps=(ACCEPTED, DELIVERED),
        last=msgspec.structs.replace(DELIVERED, seconds=LATE_SEGMENT_SECONDS),
        differs=frozenset({Difference.SEGMENTS}),
    ),
    "lost-segment": Fate(
        what="last segment fails",
        steps=(ACCEPTED, DELIVERED),
        last=Step(word=Word.FAILED, reason="handset-busy", seconds=2, latencies=1),
        last_arrives=False,
    ),
    "unsigned": Fate(what="unsigned at first", steps=(ACCEPTED, DELIVERED), signature=Signature.UNSIGNED_ONCE),
    "wrong-secret": Fate(
        what="signed with a wrong secret", steps=(ACCEPTED, DELIVERED), signature=Signature.WRONG_SECRET
    ),
    "skewed": Fate(what="signed by a clock gone wrong", steps=(ACCEPTED, DELIVERED), signature=Signature.SKEWED),
}


def fate_named(name: str) -> Fate:
    """A fate by its name. SettingsError when there is none."""
    if name not in FATES:
        raise SettingsError(f"{name!r} is no fate; `landed simulate --list` has them all.")
    return FATES[name]


# The well-known numbers, of a range that is given to nobody; 4477009001NN fails with the code NN of a receipt.
# https://www.ofcom.org.uk/phones-and-broadband/phone-numbers/numbers-for-drama
CARDS: Mapping[str, str] = {
    f"4477009000{number:02}": fate
    for number, fate in enumerate(
        (
            *("delivered", "absent-subscriber-temporary", "duplicates", "disorder", "mute", "silent", "expired"),
            *("undeliverable", "false", "conflict", "buffered", "late", "carrier", "read", "late-segment"),
            *("lost-segment", "flood", "unsigned", "wrong-secret", "skewed", "unknown", "lost", "switched-off"),
            "denied",
        ),
        start=1,
    )
} | {
    f"4477009001{int(code):02}": reason
    for code, reason in SMS_CODES.items()
    if reason in FATES and code == code_of(Api.SMS, reason) and code != "0"
}

# To whom a long text through the SMS API is taken but for its last part.
LAST_PART_REFUSED = "447700900799"
# Whom a send to is refused, with the status of the SMS API that the last two digits say.
REFUSED: Mapping[str, str] = {f"4477009007{int(code):02}": code for code in SMS_SEND_CODES if code != "0"}
