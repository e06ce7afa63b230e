"""Why a message did not arrive: every code of both APIs, and the reason that it stands for.

A reason that both APIs know has one slug, whatever each calls it, so that an application asks about one word. A
code that is in no table is said to be unknown, with the code; it is never taken for another one. What a reason means,
and what to do about it, is in `landed.domain.meanings`.

Codes of the SMS API's receipts: https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts
Codes of the Messages API's statuses: https://developer.vonage.com/en/api/messages (x-errors of specification 1.11)
Status codes of the SMS API's answers: https://developer.vonage.com/en/messaging/sms/guides/troubleshooting-sms
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from zlib import crc32

from landed.domain.meanings import REASONS, UNKNOWN_CODE, Reason
from landed.domain.receipt import Api, Outcome, Status


class Source(StrEnum):
    """Which list a code stands in: what a receipt says, or what an API answers to a send."""

    SMS = "sms"
    MESSAGES = "messages"
    SMS_SEND = "sms-send"
    MESSAGES_SEND = "messages-send"


SMS_CODES: Mapping[str, str] = {
    "0": "delivered",
    "1": "unknown",
    "2": "absent-subscriber-temporary",
    "3": "absent-subscriber-permanent",
    "4": "call-barred",
    "5": "portability-error",
    "6": "anti-spam-rejection",
    "7": "handset-busy",
    "8": "network-error",
    # Its name there is "illegal number"; what it means is an opt-out.
    # https://developer.vonage.com/en/opt-out-assist/guides/messaging-opted-out-numbers
    "9": "opted-out",
    "10": "illegal-message",
    "11": "unroutable",
    "12": "destination-unreachable",
    "13": "age-restricted",
    "14": "blocked-by-carrier",
    "15": "recipient-out-of-credit",
    "16": "gateway-quota-exceeded",
    "50": "entity-filter",
    "51": "header-filter",
    "52": "content-filter",
    "53": "consent-filter",
    "54": "regulation-error",
    "95": "unknown",
    "99": "unknown",
}

MESSAGES_CODES: Mapping[str, str] = {
    "1000": "throttled",
    "1010": "missing-parameters",
    "1020": "invalid-parameters",
    "1021": "invalid-tag",
    "1022": "invalid-template",
    "1030": "internal-error",
    "1040": "invalid-message",
    "1050": "number-barred",
    "1060": "account-barred",
    "1070": "insufficient-credit",
    "1080": "not-enabled-for-http",
    "1090": "message-too-long",
    "1100": "communication-failed",
    "1120": "invalid-sender",
    "1130": "invalid-ttl",
    "1140": "facility-not-allowed",
    "1150": "invalid-message-class",
    "1160": "destination-not-allowed",
    "1170": "invalid-number",
    "1180": "absent-subscriber-temporary",
    "1190": "absent-subscriber-permanent",
    "1200": "portability-error",
    "1210": "anti-spam-rejection",
    "1220": "handset-busy",
    "1230": "network-error",
    "1240": "opted-out",
    "1241": "too-many-to-number",
    "1250": "unroutable",
    "1251": "no-route-allowed",
    "1260": "destination-unreachable",
    "1270": "age-restricted",
    "1280": "blocked-by-carrier",
    "1282": "blocked-by-provider",
    "1290": "recipient-out-of-credit",
    "1300": "not-a-user",
    "1310": "unsuitable-device",
    "1320": "already-sent",
    "1330": "unknown",
    "1331": "provider-error",
    "1340": "outside-window",
    "1350": "matching-fee-unpaid",
    "1360": "expired",
    "1370": "token-expired",
    "1380": "resource-unreachable",
    "1381": "resource-too-large",
    "1382": "resource-type-invalid",
    "1400": "unsupported-channel",
    "1410": "invalid-channel-parameters",
    "1420": "invalid-sender",
    "1430": "invalid-number",
    "1440": "invalid-message-type",
    "1450": "invalid-client-reference",
    "1451": "invalid-context",
    "1460": "daily-limit-exceeded",
    "1461": "limited-by-provider",
    "1470": "prefix-blocked",
    "1472": "burst-blocked",
    "1473": "pumping-blocked",
    "1480": "entity-filter",
    "1481": "header-filter",
    "1482": "content-filter",
    "1483": "consent-filter",
    "1484": "regulation-error",
}

SMS_SEND_CODES: Mapping[str, str] = {
    "0": "delivered",
    "1": "throttled",
    "2": "missing-parameters",
    "3": "invalid-parameters",
    "4": "invalid-credentials",
    "5": "internal-error",
    "6": "invalid-message",
    "7": "number-barred",
    "8": "account-barred",
    "9": "insufficient-credit",
    "10": "too-many-binds",
    "11": "not-enabled-for-http",
    "12": "message-too-long",
    "14": "invalid-signature",
    "15": "invalid-sender",
    "22": "invalid-network-code",
    "23": "invalid-callback-url",
    "29": "destination-not-allowed",
    "32": "signature-and-secret",
    "33": "sender-deactivated",
}

# By the end of the problem's `type`, behind its last `#` or `/`. The numbers are others than those of receipts.
MESSAGES_SEND_CODES: Mapping[str, str] = {
    "110": "invalid-number",
    "1060": "invalid-client-reference",
    "1100": "unsupported-channel",
    "1110": "invalid-channel-parameters",
    "1120": "invalid-sender",
    "1140": "invalid-message-type",
    "1150": "invalid-parameters",
    # Both 429 and 500 bear it; 429 is the usual one.
    "1000": "throttled",
    "low-balance": "insufficient-credit",
    "invalid-json": "invalid-json",
    # As Vonage spells it.
    "unathorized": "invalid-credentials",
    "unprovisioned": "not-provisioned",
    "not-found": "message-not-found",
}
# What an HTTP status alone says, or says better than the type.
MESSAGES_SEND_STATUSES: Mapping[int, str] = {
    401: "invalid-credentials",
    402: "insufficient-credit",
    404: "message-not-found",
    422: "invalid-parameters",
    429: "throttled",
    500: "internal-error",
}

CODES: Mapping[Source, Mapping[str, str]] = {
    Source.SMS: SMS_CODES,
    Source.MESSAGES: MESSAGES_CODES,
    Source.SMS_SEND: SMS_SEND_CODES,
    Source.MESSAGES_SEND: MESSAGES_SEND_CODES,
}

# What a status word says by itself where no code says more.
WORDS: Mapping[tuple[Api, str], str] = {
    (Api.SMS, "expired"): "expired",
    (Api.SMS, "unknown"): "unknown",
    (Api.MESSAGES, "undeliverable"): "provider-error",
}

CODES_OF_SUCCESS = frozenset({"", "0"})


def reason_for(api: Api, code: str) -> Reason:
    """The reason behind a receipt's code; one that is in no list is `unknown-code`."""
    table = SMS_CODES if api is Api.SMS else MESSAGES_CODES
    return REASONS[table.get(normal_code(code), UNKNOWN_CODE)]


def reason_of(api: Api, status: Status, outcome: Outcome, provider_status: str, code: str | None) -> Reason | None:
    """Why a message is where it is; None where nothing is wrong with it."""
    if outcome is Outcome.DELIVERED:
        return None
    if says_something(code):
        return reason_for(api, code or "")
    slug = WORDS.get((api, provider_status.strip().lower()))
    if slug is not None:
        return REASONS[slug]
    if status is Status.FAILED:
        return REASONS["no-reason-given"]
    return REASONS["segments-late"] if status is Status.UNCONFIRMED else None


def says_something(code: str | None) -> bool:
    """Whether a code is there and is not that of success."""
    return normal_code(code or "") not in CODES_OF_SUCCESS


def send_reason_of(http_status: int, problem_type: str) -> Reason:
    """Why the Messages API refused a send, by the answer's HTTP status and the `type` of its problem."""
    end = problem_type.rstrip("/").rpartition("/")[2].rpartition("#")[2].lower()
    slug = MESSAGES_SEND_CODES.get(end)
    if slug is None or end == "1000":
        slug = MESSAGES_SEND_STATUSES.get(http_status, slug or UNKNOWN_CODE)
    return REASONS[slug]


def lists_with(code: str) -> list[tuple[Source, Reason]]:
    """Every list that has this code, or this slug, with what it means there; however it is written."""
    wanted = normal_code(code)
    return [
        (source, REASONS[slug])
        for source, table in CODES.items()
        for listed, slug in table.items()
        if wanted in (listed, slug)
    ]


@cache
def reasons_version() -> str:
    """Which edition of these tables this is."""
    return f"{crc32(repr((sorted(CODES.items()), sorted(WORDS.items()))).encode()):08x}"


def normal_code(code: str) -> str:
    """A code as the lists have it: without blanks and leading zeros, in small letters."""
    code = code.strip().lower()
    return (code.lstrip("0") or code[:1]) if code.isdigit() else code
