"""Numbers as people may see them."""

import pytest

from landed.domain.numbers import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("447700900001", "4477•••••001"),
        ("972532208231", "9725•••••231"),
        ("AcmeInc", "AcmeInc"),
        ("72404", "72404"),
        ("4477009", "•••••09"),
        ("+44 7700 900001", "+44 77•• •••001"),
        ("tel:+447700900001", "tel:+4477•••••001"),
        ("447700900001 ", "4477•••••001 "),
        ("+44_7700_900001", "+44_77••_•••001"),
        ("4477\u200b00900001", "4477\u200b•••••001"),
        ("Call 447700900001, code 123456", "Call 4477•••••001, code 123456"),
        ("call 447700900001 or 447700900002", "call 4477•••••001 or 4477•••••002"),
        ("123456", "123456"),
    ],
)
def test_numbers_are_masked_in_the_middle(text, shown):
    assert masked(text) == shown
