"""What each word is worth on each channel, written out."""

import pytest

from landed.domain.lifecycle import STATES
from landed.domain.receipt import Api, Status
from landed.domain.worth import CHANNELS, READING_CHANNELS, UNKNOWN, WORTH, Knows, remarks_on, worth_of

# Per channel: each word, whether it is final, and up to where whoever said it can know.
APP = {
    "submitted": (False, Knows.VONAGE),
    "delivered": (True, Knows.DEVICE),
    "read": (True, Knows.PERSON),
    "rejected": (True, Knows.PROVIDER),
    "undeliverable": (True, Knows.VONAGE),
}
TABLE = {
    "sms": {
        "submitted": (False, Knows.VONAGE),
        "accepted": (False, Knows.VONAGE),
        "buffered": (False, Knows.PROVIDER),
        "delivered": (True, Knows.DEVICE),
        "expired": (True, Knows.NOBODY),
        "failed": (True, Knows.PROVIDER),
        "rejected": (True, Knows.PROVIDER),
        "undeliverable": (True, Knows.VONAGE),
        "unknown": (True, Knows.NOBODY),
    },
    "mms": {
        "submitted": (False, Knows.VONAGE),
        "delivered": (True, Knows.PROVIDER),
        "rejected": (True, Knows.PROVIDER),
        "undeliverable": (True, Knows.VONAGE),
    },
    "rcs": APP,
    "whatsapp": APP,
    "messenger": APP,
    "viber_service": APP,
}


def test_the_whole_table():
    told = {
        channel: {word: (w.final, w.knows) for (of, word), w in WORTH.items() if of == channel} for channel in TABLE
    }

    assert told == TABLE
    assert {channel for channel, _ in WORTH} == set(CHANNELS)


def test_read_exists_on_four_channels_only():
    assert {channel for channel, word in WORTH if word == "read"} == set(READING_CHANNELS)
    assert len(READING_CHANNELS) == 4


def test_every_word_that_has_a_state_has_its_worth_for_sms_or_an_app():
    for api, word in STATES:
        channels = ["sms"] if api is Api.SMS else CHANNELS
        assert any((channel, word) in WORTH for channel in channels), word


@pytest.mark.parametrize(
    ("channel", "word", "country", "several", "words"),
    [
        ("sms", "accepted", "US", False, ["long code", "ends"]),
        ("sms", "accepted", "GB", False, []),
        ("sms", "expired", "PH", False, ["Philippines", "no receipts"]),
        ("sms", "rejected", "GB", True, ["five minutes", "late and not lost"]),
        ("sms", "rejected", "GB", False, []),
        ("whatsapp", "rejected", "GB", True, []),
        (None, " Accepted", "US", False, ["long code"]),
        ("sms", "odd", None, True, []),
    ],
)
def test_what_else_is_to_be_known_in_a_place(channel, word, country, several, words):
    told = " ".join(remarks_on(channel, word, country, several_segments=several))

    assert all(each in told for each in words)
    assert bool(told) == bool(words)


def test_an_expired_sms_is_no_proof_of_loss_and_an_unknown_word_is_worth_nothing():
    assert "72 hours" in worth_of("sms", "EXPIRED", Status.UNCONFIRMED).meaning
    assert worth_of("sms", "teleported", Status.UNRECOGNISED) is UNKNOWN
    assert worth_of("sms", "read", Status.READ) is UNKNOWN
    assert worth_of(None, "delivered", Status.DELIVERED) is WORTH["sms", "delivered"]


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_was_only_not_confirmed_is_not_said_to_be_refused(channel):
    told = worth_of(channel, "rejected", Status.UNCONFIRMED)

    assert (told.final, told.knows) == (True, Knows.NOBODY)
    assert "never confirmed" in told.meaning
    assert "refused" in worth_of(channel, "rejected", Status.FAILED).meaning


def test_what_expired_for_a_reason_is_known():
    assert worth_of("sms", "expired", Status.FAILED).knows is Knows.PROVIDER
