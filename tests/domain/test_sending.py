"""What became of a send: a join, so that neither order nor repetition of what was told matters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landed.domain.sending import Sending, SendState, joined_sending

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
INTENT = Sending(
    id=b"i", position=1, at=NOON, account="default", api="sms", channel="sms", to="1", sender="a", client_ref="r"
)
FIRST, SECOND = (
    Sending(
        **{name: getattr(INTENT, name) for name in ("id", "account", "api", "channel", "to", "sender", "client_ref")},
        position=number + 1,
        at=NOON + timedelta(seconds=number),
        state=SendState.SENT,
        parts=((number, f"m{number}"),),
    )
    for number in (1, 2)
)
REFUSED = Sending(
    id=b"i", position=4, at=NOON, account="default", state=SendState.REFUSED, reason="throttled", detail="Slower."
)
UNCLEAR = Sending(id=b"i", position=5, at=NOON, account="default", state=SendState.UNCLEAR, detail="no answer")
TOLD = [INTENT, FIRST, SECOND, REFUSED, UNCLEAR]


@pytest.mark.parametrize(
    ("told", "state", "ids"),
    [
        ([INTENT], SendState.BEGUN, []),
        ([INTENT, FIRST, SECOND], SendState.SENT, ["m1", "m2"]),
        ([INTENT, REFUSED], SendState.REFUSED, []),
        ([INTENT, FIRST, REFUSED], SendState.REFUSED, ["m1"]),
        ([INTENT, UNCLEAR], SendState.UNCLEAR, []),
        ([UNCLEAR], SendState.UNCLEAR, []),
    ],
    ids=["begun", "sent", "refused", "in part", "unclear", "of a retired intent"],
)
def test_what_is_told_makes_the_send_in_any_order(told, state, ids):
    for order in permutations(told):
        sending = reduce(joined_sending, order)
        assert (sending.state, sending.message_ids) == (state, ids)
        assert sending.client_ref == max(each.client_ref for each in told)


@given(st.lists(st.sampled_from(TOLD), min_size=1, max_size=8), st.randoms())
def test_repetition_and_order_change_nothing(told, random):
    once = reduce(joined_sending, [each for each in TOLD if each in told])
    random.shuffle(told)
    assert reduce(joined_sending, told) == once
