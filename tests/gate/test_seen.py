"""Signatures that were made durable: their copies are counted, and those seen last are remembered."""

from landed.gate.seen import Seen


def test_copies_count_until_there_are_enough():
    seen = Seen(copies_max=2, signatures_max=10)
    answers = []
    for _ in range(4):
        answers.append(seen.is_kept_often_enough(b"a"))
        seen.note([b"a"])
    assert answers == [False, False, True, True]
    assert not seen.is_kept_often_enough(b"b")


def test_what_is_seen_again_and_again_is_not_forgotten():
    seen = Seen(copies_max=3, signatures_max=20)
    for number in range(1_000):
        seen.note([b"a", b"%d" % number])
    assert seen.is_kept_often_enough(b"a")


def test_what_was_not_seen_for_long_is_forgotten_and_the_room_is_bounded():
    seen = Seen(copies_max=2, signatures_max=20)
    seen.note([b"a", b"a"])
    for number in range(1_000):
        seen.note([b"%d" % number])
    assert not seen.is_kept_often_enough(b"a")
    assert len(seen.newer) + len(seen.older) <= 20
