"""Every code has a reason, in our own words; a reason that both APIs know is one."""

import hashlib
import re
from pathlib import Path

import pytest

from landed.domain.meanings import REASONS, UNKNOWN_CODE, Kind, Move
from landed.domain.reasons import CODES, Source, lists_with, reason_for, reason_of, send_reason_of
from landed.domain.receipt import OUTCOMES, Api, Outcome, Status
from landed.domain.worth import PLACES, QUALIFIED, SEVERAL_SEGMENTS, WORTH

# The lists as Vonage publishes them.
SMS_CODES = {*map(str, range(17)), *map(str, range(50, 55)), "95", "99"}
MESSAGES_CODES = (
    "1000 1010 1020 1021 1022 1030 1040 1050 1060 1070 1080 1090 1100 1120 1130 1140 1150 1160 1170 1180 "
    "1190 1200 1210 1220 1230 1240 1241 1250 1251 1260 1270 1280 1282 1290 1300 1310 1320 1330 1331 1340 "
    "1350 1360 1370 1380 1381 1382 1400 1410 1420 1430 1440 1450 1451 1460 1461 1470 1472 1473 1480 1481 "
    "1482 1483 1484 "
)
MESSAGES_SEND_TYPES = {"110", "1000", "1060", "1100", "1110", "1120", "1140", "1150"}
MESSAGES_SEND_TYPES |= {"low-balance", "invalid-json", "unathorized", "unprovisioned", "not-found"}
SMS_SEND_CODES = {*map(str, range(13)), "14", "15", "22", "23", "29", "32", "33"}

# What the two APIs call by the same words, or turn into each other.
# https://developer.vonage.com/en/messages/concepts/sms-status-callbacks
SAME = {
    "1": "1330",
    "2": "1180",
    "3": "1190",
    "5": "1200",
    "6": "1210",
    "7": "1220",
    "8": "1230",
    "9": "1240",
    "11": "1250",
    "12": "1260",
    "13": "1270",
    "14": "1280",
    "15": "1290",
    "50": "1480",
    "51": "1481",
    "52": "1482",
    "53": "1483",
    "54": "1484",
    "99": "1330",
}
SAME_SENDS = {"1": "1000", "2": "1010", "3": "1020", "5": "1030", "6": "1040", "7": "1050", "8": "1060", "9": "1070"}
SAME_SENDS |= {"11": "1080", "12": "1090", "15": "1120", "29": "1160"}

# Hashes of each five words that follow each other in Vonage's own texts on codes.
PHRASES = set((Path(__file__).parent / "vonage_phrases.txt").read_text().split())
PHRASE_WORDS = 5
SENTENCES = [
    *((slug, text) for slug, reason in REASONS.items() for text in (reason.meaning, reason.advice)),
    *((f"{channel} {word}", worth.meaning) for (channel, word), worth in WORTH.items()),
    *((" ".join(place), text) for place, text in PLACES.items()),
    ("segments", SEVERAL_SEGMENTS),
    *((" ".join(key), worth.meaning) for key, worth in QUALIFIED.items()),
]


def phrases_of(text):
    words = re.findall(r"[a-z0-9']+", text.lower())
    for start in range(len(words) - PHRASE_WORDS + 1):
        phrase = " ".join(words[start : start + PHRASE_WORDS])
        yield phrase, hashlib.blake2b(phrase.encode(), digest_size=5).hexdigest()


@pytest.mark.parametrize(
    ("source", "published"),
    [
        (Source.SMS, SMS_CODES),
        (Source.MESSAGES, set(MESSAGES_CODES.split())),
        (Source.SMS_SEND, SMS_SEND_CODES),
        (Source.MESSAGES_SEND, MESSAGES_SEND_TYPES),
    ],
)
def test_every_published_code_has_its_reason_and_no_other_has(source, published):
    assert set(CODES[source]) == published
    assert len(CODES[Source.MESSAGES]) == 63


def test_every_reason_is_meant_by_something_and_says_all_that_it_should():
    meant = {slug for table in CODES.values() for slug in table.values()}

    assert set(REASONS) - meant == {UNKNOWN_CODE, "no-reason-given", "segments-late"}
    for slug, reason in REASONS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", slug)
        for text in (reason.meaning, reason.advice):
            assert re.fullmatch(r"[A-Z].*\.", text), slug
            assert not re.search(r"\.\s", text), f"{slug}: one sentence each"
        assert isinstance(reason.kind, Kind)
        assert isinstance(reason.move, Move)
        # Another try makes sense after a time, or never.
        assert (reason.retry_seconds is not None) == (
            reason.kind is Kind.TEMPORARY or slug in {"too-many-binds", "daily-limit-exceeded", "burst-blocked"}
        ), slug


@pytest.mark.parametrize(("slug", "text"), SENTENCES, ids=lambda value: value[:30])
def test_no_sentence_is_vonages_own(slug, text):
    assert [phrase for phrase, known in phrases_of(text) if known in PHRASES] == [], slug


def test_vonages_own_sentences_would_be_found():
    told = "The carrier blocked this message. This could be due to several reasons."

    assert any(known in PHRASES for _, known in phrases_of(told))


@pytest.mark.parametrize(("sms", "messages"), SAME.items(), ids=str)
def test_a_reason_that_both_apis_know_has_one_slug(sms, messages):
    assert reason_for(Api.SMS, sms) is reason_for(Api.MESSAGES, messages)
    assert CODES[Source.SMS][sms] == CODES[Source.MESSAGES][messages]


@pytest.mark.parametrize(("sms", "messages"), SAME_SENDS.items(), ids=str)
def test_a_refused_send_has_the_slug_that_the_other_api_gives_it(sms, messages):
    assert CODES[Source.SMS_SEND][sms] == CODES[Source.MESSAGES][messages]


@pytest.mark.parametrize("code", ["17", "100", "-1", "words", "1 2", "1485", "٣"])
@pytest.mark.parametrize("api", Api)
def test_a_code_in_no_list_is_said_to_be_unknown(api, code):
    assert reason_for(api, code).slug == UNKNOWN_CODE


@pytest.mark.parametrize("code", ["2", "02", " 2 ", "0002"])
def test_a_code_is_known_however_it_is_written(code):
    assert reason_for(Api.SMS, code).slug == "absent-subscriber-temporary"


@pytest.mark.parametrize(
    ("api", "status", "word", "code", "slug"),
    [
        (Api.SMS, Status.DELIVERED, "delivered", "0", None),
        (Api.SMS, Status.DELIVERED, "delivered", "6", None),
        (Api.SMS, Status.ACCEPTED, "accepted", "0", None),
        (Api.SMS, Status.ACCEPTED, "accepted", None, None),
        (Api.SMS, Status.BUFFERED, "buffered", "2", "absent-subscriber-temporary"),
        (Api.SMS, Status.FAILED, "failed", "12", "destination-unreachable"),
        (Api.SMS, Status.FAILED, "failed", "0", "no-reason-given"),
        (Api.SMS, Status.FAILED, "failed", "000", "no-reason-given"),
        (Api.SMS, Status.FAILED, "rejected", None, "no-reason-given"),
        (Api.SMS, Status.UNCONFIRMED, "expired", "0", "expired"),
        (Api.SMS, Status.UNCONFIRMED, "Expired ", None, "expired"),
        (Api.SMS, Status.FAILED, "expired", "8", "network-error"),
        (Api.SMS, Status.UNCONFIRMED, "unknown", "0", "unknown"),
        (Api.SMS, Status.FAILED, "failed", "77", UNKNOWN_CODE),
        (Api.MESSAGES, Status.READ, "read", None, None),
        (Api.MESSAGES, Status.UNCONFIRMED, "rejected", "1360", "expired"),
        (Api.MESSAGES, Status.UNCONFIRMED, "rejected", "1330", "unknown"),
        (Api.MESSAGES, Status.UNCONFIRMED, "rejected", None, "segments-late"),
        (Api.MESSAGES, Status.FAILED, "rejected", None, "no-reason-given"),
        (Api.MESSAGES, Status.FAILED, "undeliverable", None, "provider-error"),
        (Api.MESSAGES, Status.FAILED, "undeliverable", "1260", "destination-unreachable"),
        (Api.MESSAGES, Status.ACCEPTED, "submitted", "1220", "handset-busy"),
        (Api.MESSAGES, Status.UNRECOGNISED, "seen", None, None),
    ],
)
def test_why_a_message_is_where_it_is(api, status, word, code, slug):
    reason = reason_of(api, status, OUTCOMES[status], word, code)

    assert (None if reason is None else reason.slug) == slug
    assert slug is None or OUTCOMES[status] is not Outcome.DELIVERED


@pytest.mark.parametrize(
    ("status", "problem", "slug"),
    [
        (429, "https://developer.vonage.com/api-errors/messages#1000", "throttled"),
        (500, "https://developer.vonage.com/api-errors/messages#1000", "internal-error"),
        (422, "https://developer.vonage.com/api-errors/messages#1120", "invalid-sender"),
        (422, "https://developer.vonage.com/api-errors/messages#110", "invalid-number"),
        (422, "https://developer.vonage.com/api-errors/messages#1060", "invalid-client-reference"),
        (402, "https://developer.vonage.com/api-errors/#low-balance", "insufficient-credit"),
        (401, "https://developer.vonage.com/api-errors/#unathorized", "invalid-credentials"),
        (401, "https://developer.vonage.com/api-errors/#unprovisioned", "not-provisioned"),
        (422, "https://developer.vonage.com/api-errors#invalid-json", "invalid-json"),
        (404, "https://developer.vonage.com/api-errors#not-found", "message-not-found"),
        (401, "", "invalid-credentials"),
        (422, "https://developer.vonage.com/api-errors/messages#9999", "invalid-parameters"),
        (418, "about:blank", UNKNOWN_CODE),
    ],
)
def test_why_the_messages_api_refused_a_send(status, problem, slug):
    assert send_reason_of(status, problem).slug == slug


def test_a_code_is_looked_up_in_every_list_and_by_its_slug_too():
    assert [source for source, _ in lists_with("2")] == [Source.SMS, Source.SMS_SEND]
    assert {reason.slug for _, reason in lists_with("handset-busy")} == {"handset-busy"}
    assert lists_with("4711") == []
