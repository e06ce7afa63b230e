"""What the dispatch counts of its attempts, for `/metrics`."""

from math import inf

import pytest

from landed.domain.events import EventType, Traits
from landed.domain.moments import moment
from landed.store.outbox import Ask, KeptEvent, Kind, Subscriber, SubscriberState, Taken
from landed.worker.dispatch import ATTEMPT_BOUNDS_SECONDS, Desk, Figures
from landed.worker.lane import ATTEMPTS_MAX, SECOND_US, Manner
from landed.worker.letters import Answer

NOON_US = 1_800_000_000 * SECOND_US
SHOP = Subscriber(name="shop", kind=Kind.WEBHOOK, address="https://shop.example", row=1)
OTHER = Subscriber(name="other", kind=Kind.WEBHOOK, address="https://other.example", row=2)
OK = Answer(taken=True, said="204", took_seconds=0.02)
NO = Answer(taken=False, said="503", took_seconds=31.0)


def desk_of(*subscribers):
    desk = Desk({Kind.WEBHOOK: Manner(together_max=10)}, lambda: 0.5)
    desk.meet(subscribers)
    return desk


def taken(subscriber, *, count=1, attempts=0):
    """So many events that were tried so often before."""
    return [
        Taken(
            subscriber=subscriber.row,
            kept=KeptEvent(
                seq=seq, id=f"evt_{seq}", type=EventType.READ, at=moment(NOON_US), traits=Traits(), event=None
            ),
            attempts=attempts,
        )
        for seq in range(count)
    ]


def answer(desk, subscriber, given, **about):
    """Such events go out together, and this comes of it."""
    desk.done(desk.lanes[subscriber.row], taken(subscriber, **about), given, NOON_US)


def counts_of(*seconds):
    """How many attempts took no longer than each bound."""
    return [(bound, sum(each <= bound for each in seconds)) for bound in (*ATTEMPT_BOUNDS_SECONDS, inf)]


@pytest.mark.parametrize(
    ("given", "attempts", "counts"),
    [
        (OK, 0, (3, 0, 0)),
        (OK, ATTEMPTS_MAX - 1, (3, 0, 0)),
        (NO, 0, (0, 3, 0)),
        (NO, ATTEMPTS_MAX - 2, (0, 3, 0)),
        (NO, ATTEMPTS_MAX - 1, (0, 0, 3)),
    ],
    ids=["taken", "taken at last", "failed", "failed again", "failed at last"],
)
def test_each_event_is_counted_by_what_came_of_it_and_each_attempt_by_its_time(given, attempts, counts):
    desk = desk_of(SHOP)
    answer(desk, SHOP, given, count=3, attempts=attempts)
    figures = desk.figures["shop"]
    assert (figures.delivered, figures.failed, figures.dead) == counts
    assert (figures.upto(), figures.seconds) == (counts_of(given.took_seconds), given.took_seconds)


def test_what_goes_back_untried_is_counted_as_nothing():
    desk = desk_of(SHOP)
    lane = desk.lanes[SHOP.row]
    lane.put(Ask(subscriber=SHOP, count=5), taken(SHOP, count=5))
    for _ in range(30):
        answer(desk, SHOP, NO)
    assert lane.is_open
    assert lane.give_back() == [], "they have gone back"
    assert desk.figures["shop"] == Figures(failed=30, seconds=30 * 31.0, counts=[0] * 11 + [30])


def test_subscribers_are_counted_apart_and_forgotten_when_they_are_removed():
    desk = desk_of(SHOP, OTHER)
    looked_into = desk.figures
    for given in (OK, NO, OK):
        answer(desk, SHOP, given)
    answer(desk, OTHER, NO)
    assert looked_into["shop"].upto() == counts_of(0.02, 31.0, 0.02)
    assert looked_into["other"].upto() == counts_of(31.0)
    desk.meet([SHOP, Subscriber(name="other", kind=Kind.WEBHOOK, address="", row=2, state=SubscriberState.PAUSED)])
    assert looked_into.keys() == {"shop", "other"}
    desk.meet([SHOP])
    assert looked_into.keys() == {"shop"}
