"""Segments of a text: GSM 03.38 with its extension, UCS-2, and the edges of both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landed.vonage.text import GSM_BASIC, GSM_EXTENSION, ROOMS, Encoding, encoding_of, segments_of, units_of


def test_the_alphabet_is_whole():
    # 128 codes, but for the escape.
    assert len(GSM_BASIC) == len(set(GSM_BASIC)) == 127
    assert len(GSM_EXTENSION) == 10
    assert not set(GSM_BASIC) & set(GSM_EXTENSION)


@pytest.mark.parametrize(
    ("text", "encoding", "lengths"),
    [
        ("", Encoding.GSM, [0]),
        ("a" * 160, Encoding.GSM, [160]),
        ("a" * 161, Encoding.GSM, [153, 8]),
        ("a" * 306, Encoding.GSM, [153, 153]),
        ("a" * 307, Encoding.GSM, [153, 153, 1]),
        ("€" * 80, Encoding.GSM, [80]),
        ("€" * 81, Encoding.GSM, [76, 5]),
        ("a" * 152 + "€" * 5, Encoding.GSM, [152, 5]),
        ("ç", Encoding.UCS2, [1]),
        ("Ç", Encoding.GSM, [1]),
        ("ж" * 70, Encoding.UCS2, [70]),
        ("ж" * 71, Encoding.UCS2, [67, 4]),
        ("\U0001f600" * 35, Encoding.UCS2, [35]),
        ("\U0001f600" * 36, Encoding.UCS2, [33, 3]),
        ("a" * 159 + "\u2019", Encoding.UCS2, [67, 67, 26]),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_text_is_cut_where_it_must_be(text, encoding, lengths):
    assert encoding_of(text) is encoding
    assert [len(segment) for segment in segments_of(text)] == lengths


def test_an_alphabet_may_be_asked_for():
    assert [len(segment) for segment in segments_of("a" * 100, Encoding.UCS2)] == [67, 33]


@given(st.text(max_size=500), st.sampled_from([None, Encoding.UCS2]))
def test_nothing_is_lost_and_no_segment_is_too_long(text, asked):
    encoding = asked or encoding_of(text)
    segments = segments_of(text, asked)
    room = ROOMS[encoding]

    assert "".join(segments) == text
    for segment in segments:
        used = sum(units_of(character, encoding) for character in segment)
        assert used <= (room.single if len(segments) == 1 else room.joined)
        assert segment or len(segments) == 1
