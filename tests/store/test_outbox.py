"""What every outbox does. Events come into it as they do in life: by the fold, from records of a journal."""
# ruff: noqa: SLF001 - who else holds the lock, and how a file is read, is of the connection itself

import tempfile
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from landed import run
from landed.domain.events import EventType, QuarantineData, Wanted, event_id, id_text
from landed.domain.moments import microseconds
from landed.errors import SettingsError, StoreUnable
from landed.journal.record import Ids, RequestRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.store import sqlite_outbox
from landed.store.outbox import (
    Ask,
    Backlog,
    DeliveryState,
    How,
    Kind,
    Note,
    Origin,
    SecretKept,
    Sought,
    Subscriber,
    SubscriberState,
)
from landed.store.rows import EVENT_NUMBERS
from landed.store.sqlite import SqliteStore
from landed.store.sqlite_outbox import INDEXES, SqliteOutbox
from landed.worker.fold import Fold

OUTBOXES = {"sqlite": (SqliteStore, SqliteOutbox)}
NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
NOON_US = microseconds(NOON)
MINUTE_US = 60_000_000
LATER_US = NOON_US + 1_000 * MINUTE_US
IDS = Ids()
ACCOUNT = "default"
ACCEPTED, DELIVERED, READ, FAILED = EventType.ACCEPTED, EventType.DELIVERED, EventType.READ, EventType.FAILED
WAITING, TAKEN, DONE, DEAD = DeliveryState
GROWING = QuarantineData(held=7, came=3, reasons={"bad-signature": 3})


class Place:
    """Where a test's outbox is, and the fold that fills it."""

    def __init__(self, kind, directory):
        self.store_kind, self.outbox_kind = OUTBOXES[kind]
        self.directory = Path(directory)
        self.path = run.store_path(self.directory)
        self.journal = SqliteJournal(run.journal_path(self.directory))
        self.store = self.store_kind(self.path)
        self.fold = Fold(self.journal, self.store)
        self.outbox = self.outbox_kind(self.path)

    def close(self):
        for each in (self.outbox, self.store, self.journal):
            each.close()

    def begin_again(self):
        """As after a crash: what was in memory is gone."""
        self.outbox.close()
        self.outbox = self.outbox_kind(self.path)
        self.outbox.begin()

    def rebuild(self, *, lost=()):
        """Make the views again from the journal, of which these records were lost."""
        with closing(apsw.Connection(str(run.journal_path(self.directory)))) as db:
            db.executemany("DELETE FROM record WHERE position = ?", [(position,) for position in lost])
        run.rebuild(self.directory, lambda _position, _last: None)
        self.store.close()
        self.store = self.store_kind(self.path)
        self.fold = Fold(self.journal, self.store)

    def say(self, *told, minutes=0):
        """Fold these statuses: (message id, word), or with more fields."""
        at_us = NOON_US + minutes * MINUTE_US
        self.journal.append([encode(_request(*each, at_us=at_us)) for each in told])
        while self.fold.step():
            pass

    def deliver(self, count, *, minutes=0):
        """Let so many more events happen, each of a message of its own."""
        first = self.outbox.newest() + 1
        self.say(*((f"m{number}", "delivered") for number in range(first, first + count)), minutes=minutes)

    def subscribe(self, name="all", *, since_us=None, **fields):
        about = {"kind": Kind.WEBHOOK, "address": f"https://{name}.example"}
        return self.outbox.add(Subscriber(name=name, **(about | fields)), since_us=since_us)

    def take(self, subscriber, count=100, *, now_us=NOON_US, **how):
        return self.outbox.step([], [Ask(subscriber=subscriber, count=count, **how)], now_us)

    def note(self, *notes):
        assert self.outbox.step(notes, [], NOON_US) == []

    def settle(self, subscriber, state, *, count=100, **fields):
        """Take what may be taken, and write that it came to this."""
        several = self.take(subscriber, count)
        self.note(*(note_of(taken, state, **fields) for taken in several))
        return seqs(several)

    def states(self, subscriber):
        """Each event that has a row for that subscriber: its number to the row's state."""
        return {each.event: each.state for each in self.listed(subscriber=subscriber.name)}

    def listed(self, *, limit=1_000, after=(0, 0), **sought):
        sought = Sought(**({"states": tuple(DeliveryState)} | sought))
        return [each for _, each in self.outbox.deliveries(sought, limit=limit, after=after)]

    def backlog(self, subscriber):
        return self.outbox.backlogs()[subscriber.row]

    def rows(self, table):
        """How many there are, also of those that nobody would be told of."""
        return self.outbox._db.execute(f"SELECT count(*) FROM {table}").get  # noqa: S608 - our own names

    @contextmanager
    def watching(self):
        """Tells whether anything was written since the last time it was asked."""
        with closing(apsw.Connection(str(self.path))) as db:
            versions = [db.pragma("data_version")]

            def is_written():
                versions.append(db.pragma("data_version"))
                return versions[-1] != versions[-2]

            yield is_written

    @contextmanager
    def held_by_another(self):
        """Another process writes and does not end, and nobody waits for it for long."""
        self.outbox._db.set_busy_handler(None)
        with closing(apsw.Connection(str(self.path))) as db:
            db.execute("BEGIN IMMEDIATE")
            yield


def _request(message_id, word, more=None, *, at_us):
    about = {"message_uuid": message_id, "channel": "sms", "status": word, "timestamp": "2026-08-01T12:00:00Z"}
    about |= more or {}
    account = about.pop("account", ACCOUNT)
    return RequestRecord(
        id=IDS.next(),
        at_us=at_us,
        received_us=at_us,
        account=account,
        api_key=None,
        coverage="body",
        verified=True,
        stale=False,
        answer=200,
        method="POST",
        path="/webhooks/message-status",
        query=b"",
        headers=(),
        body=msgspec.json.encode({name: value for name, value in about.items() if value is not None}),
    )


def inbound(message_id, text):
    return (message_id, None, {"message_type": "text", "text": text, "from": "491701234567"})


def note_of(taken, state=DONE, **fields):
    about = {"attempts": taken.attempts + 1, "at_us": NOON_US + 5, "said": f"said {state.name}", "took_us": 1_500_000}
    return Note(subscriber=taken.subscriber, event=taken.kept.seq, state=state, **(about | fields))


def untried(taken):
    note = {"subscriber": taken.subscriber, "event": taken.kept.seq, "attempts": taken.attempts}
    return Note(state=WAITING, next_us=taken.due_us, **note)


def seqs(several):
    return [taken.kept.seq for taken in several]


def messages(several):
    return [kept.event.data.message.message_id for kept in several]


@contextmanager
def a_place(kind):
    with tempfile.TemporaryDirectory() as directory, closing(Place(kind, directory)) as place:
        yield place


@pytest.fixture(params=OUTBOXES)
def kind(request):
    return request.param


@pytest.fixture
def place(kind):
    with a_place(kind) as place:
        yield place


def test_every_type_of_event_has_one_number():
    assert set(EVENT_NUMBERS) == set(EventType)
    assert len(set(EVENT_NUMBERS.values())) == len(EventType)
    assert set(sqlite_outbox.EVENT_TYPES.values()) == set(EventType)


# Who wants what.


def test_every_field_of_a_subscriber_is_read_as_it_was_written(place):
    given_one = Subscriber(
        name="shop",
        kind=Kind.NATS,
        address="nats://events",
        wanted=Wanted(events=("message.*", "message.accepted"), channels=("sms",), networks=("26201",)),
        secrets=(SecretKept("new"), SecretKept("old", NOON_US)),
        state=SubscriberState.PAUSED,
        reason="at night",
        origin=Origin.SETTINGS,
        created_us=NOON_US,
    )
    kept = place.outbox.add(given_one)

    assert kept == replace(given_one, row=kept.row)
    assert kept.row > 0
    assert place.outbox.subscribers() == [kept]


def test_subscribers_are_told_in_the_order_in_which_they_came(place):
    for name in "bca":
        place.subscribe(name)

    assert [each.name for each in place.outbox.subscribers()] == ["b", "c", "a"]


def test_a_name_is_given_once_until_it_is_free_again(place):
    first = place.subscribe("shop")
    with pytest.raises(SettingsError, match="'shop' already"):
        place.subscribe("shop", address="https://other.example")
    assert place.outbox.subscribers() == [first]

    place.outbox.remove(first.row)
    again = place.subscribe("shop", address="https://other.example")
    assert place.outbox.subscribers() == [again]
    assert again.row != first.row


def test_a_new_subscriber_begins_with_the_next_event(place):
    place.deliver(3)
    subscriber = place.subscribe()
    assert place.take(subscriber) == []

    place.deliver(2)
    assert seqs(place.take(subscriber)) == [4, 5]


@pytest.mark.parametrize(
    ("since_us", "expected"),
    [
        pytest.param(0, [1, 2, 3], id="all"),
        pytest.param(NOON_US, [1, 2, 3], id="that-moment-is-included"),
        pytest.param(NOON_US + 1, [2, 3], id="a-little-later"),
        pytest.param(NOON_US + 2 * MINUTE_US, [3], id="the-last"),
        pytest.param(LATER_US, [], id="none"),
    ],
)
def test_a_new_subscriber_may_begin_with_the_events_since_a_moment(place, since_us, expected):
    for minutes in range(3):
        place.deliver(1, minutes=minutes)
    subscriber = place.subscribe(since_us=since_us)

    assert seqs(place.take(subscriber)) == expected
    assert place.take(subscriber) == []


def test_what_is_new_of_a_subscriber_is_kept_and_its_place_stays(place):
    subscriber = place.subscribe(since_us=0)
    place.deliver(3)
    place.take(subscriber, 2)
    new = replace(
        subscriber,
        address="https://new.example",
        wanted=Wanted(channels=("sms",)),
        secrets=(SecretKept("new"),),
        state=SubscriberState.PAUSED,
        reason="for a while",
    )
    place.outbox.change(new)
    assert place.outbox.subscribers() == [new]
    assert place.take(new) == []

    place.outbox.change(subscriber)
    assert seqs(place.take(subscriber)) == [3]


def test_a_subscriber_is_removed_with_all_that_was_for_it_and_nothing_else(place):
    one, other = place.subscribe("one"), place.subscribe("other")
    place.deliver(2)
    for subscriber in (one, other):
        place.settle(subscriber, WAITING, failed=True)
    place.outbox.remove(one.row)

    assert place.outbox.subscribers() == [other]
    assert {each.subscriber for each in place.listed()} == {"other"}
    assert [each.subscriber for each in place.outbox.attempts(1)] == ["other"]
    assert place.rows("attempt") == place.rows("delivery") == 2
    assert list(place.outbox.backlogs()) == [other.row]
    assert place.take(one) == []
    assert seqs(place.take(other)) == [1, 2]


def test_who_is_stopped_gets_nothing_more_and_the_reason_is_kept(place):
    one, other = place.subscribe("one"), place.subscribe("other")
    place.deliver(2)
    place.settle(one, WAITING)
    place.outbox.stop(one.row, "it is gone")

    assert place.outbox.subscribers() == [replace(one, state=SubscriberState.STOPPED, reason="it is gone"), other]
    assert place.take(one) == []
    assert seqs(place.take(other)) == [1, 2]


@pytest.mark.parametrize("state", [SubscriberState.PAUSED, SubscriberState.ABSENT])
def test_who_is_not_served_anyhow_is_not_stopped(place, state):
    subscriber = place.subscribe(state=state, reason="as somebody said")
    place.outbox.stop(subscriber.row, "it is gone")

    assert place.outbox.subscribers() == [subscriber]


# A step.


def test_new_events_are_taken_oldest_first_and_once(place):
    subscriber = place.subscribe()
    place.deliver(5)
    taken = place.take(subscriber)

    assert seqs(taken) == [1, 2, 3, 4, 5]
    assert messages(each.kept for each in taken) == ["m1", "m2", "m3", "m4", "m5"]
    assert {(each.subscriber, each.attempts, each.due_us, each.is_replay) for each in taken} == {
        (subscriber.row, 0, 0, False)
    }
    assert place.states(subscriber) == dict.fromkeys(range(1, 6), TAKEN)
    assert place.take(subscriber) == []


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
def test_no_more_is_taken_than_was_asked_for(place, count):
    subscriber = place.subscribe()
    place.deliver(3)
    place.settle(subscriber, WAITING)
    place.deliver(3)

    pages = []
    while page := place.take(subscriber, count):
        assert len(page) <= count
        pages += seqs(page)
    assert pages == [1, 2, 3, 4, 5, 6]


def test_what_is_due_goes_before_what_is_new(place):
    subscriber = place.subscribe()
    place.deliver(4)
    taken = place.take(subscriber)
    place.note(*(note_of(each, WAITING, next_us=NOON_US - at) for at, each in enumerate(taken) if at != 1))
    place.deliver(2)

    assert [(each.kept.seq, each.due_us) for each in place.take(subscriber, 4)] == [
        (1, NOON_US),
        (3, NOON_US - 2),
        (4, NOON_US - 3),
        (5, 0),
    ]
    assert seqs(place.take(subscriber, 4)) == [6]


def test_of_what_is_due_that_goes_first_which_was_due_first(place):
    subscriber = place.subscribe()
    place.deliver(3)
    due_us = {1: NOON_US, 2: NOON_US - 2, 3: NOON_US - 1}
    place.note(*(note_of(each, WAITING, next_us=due_us[each.kept.seq]) for each in place.take(subscriber)))

    assert [seqs(place.take(subscriber, 1)) for _ in range(3)] == [[2], [3], [1]]


def test_what_waits_is_taken_at_its_time_and_not_before(place):
    subscriber = place.subscribe()
    place.deliver(1)
    place.settle(subscriber, WAITING, next_us=NOON_US + 10)

    assert place.take(subscriber, now_us=NOON_US + 9) == []
    (taken,) = place.take(subscriber, now_us=NOON_US + 10)
    assert (taken.attempts, taken.due_us) == (1, NOON_US + 10)


def test_a_probe_is_one_that_waits_due_or_not_in_turn(place):
    subscriber = place.subscribe()
    place.deliver(4)
    taken = place.take(subscriber, 3)
    place.note(*(note_of(each, WAITING, next_us=LATER_US - at) for at, each in enumerate(taken)))

    (probe,) = place.take(subscriber, 1, how=How.PROBE)
    assert (probe.kept.seq, probe.due_us) == (1, LATER_US)
    assert seqs(place.take(subscriber, 1, how=How.PROBE, after=2)) == [3]
    assert seqs(place.take(subscriber, 1, how=How.PROBE, after=3)) == [2], "from the first again"
    assert place.states(subscriber) == {1: TAKEN, 2: TAKEN, 3: TAKEN}


@pytest.mark.parametrize("how", [How.PROBE, How.PROBE_NEW])
def test_a_probe_is_taken_where_nothing_is_new_or_due(place, how):
    subscriber = place.subscribe()
    place.deliver(1)
    place.settle(subscriber, WAITING, next_us=LATER_US)

    assert place.take(subscriber) == []
    assert seqs(place.take(subscriber, 1, how=how)) == [1]


@pytest.mark.parametrize("how", [How.PROBE, How.PROBE_NEW])
def test_a_probe_is_a_new_event_where_none_waits(place, how):
    subscriber = place.subscribe()
    place.deliver(2)

    assert seqs(place.take(subscriber, 1, how=how)) == [1]


def test_a_probe_with_what_is_new_leaves_what_waits(place):
    subscriber = place.subscribe()
    place.deliver(2)
    place.settle(subscriber, WAITING, count=1, next_us=LATER_US)

    assert seqs(place.take(subscriber, 1, how=How.PROBE_NEW)) == [2]


def test_to_catch_up_takes_what_was_tried_since_then_due_or_not_and_nothing_new(place):
    one, other = place.subscribe("one"), place.subscribe("other")
    place.deliver(5)
    for subscriber in (one, other):
        taken = place.take(subscriber, 4)
        times = (NOON_US - 1, NOON_US, NOON_US + 1, NOON_US + 2)
        place.note(*(note_of(each, WAITING, next_us=LATER_US, at_us=at) for each, at in zip(taken, times, strict=True)))

    caught_up = {"how": How.CATCH_UP, "since_us": NOON_US}
    assert seqs(place.take(one, 2, **caught_up)) == [2, 3]
    (last,) = place.take(one, 2, after=3, **caught_up)
    assert (last.kept.seq, last.due_us) == (4, LATER_US)
    assert place.take(one, 2, after=4, **caught_up) == []
    assert place.states(one) == {1: WAITING, 2: TAKEN, 3: TAKEN, 4: TAKEN}
    assert place.states(other) == dict.fromkeys((1, 2, 3, 4), WAITING)


def test_notes_and_what_is_taken_are_one_transaction(place):
    one, other = place.subscribe("one"), place.subscribe("other")
    place.deliver(2)
    first = place.take(one, 1)
    commits = []
    place.outbox._db.set_commit_hook(lambda: bool(commits.append(1)))
    asks = [Ask(subscriber=one, count=9), Ask(subscriber=other, count=9)]
    taken = place.outbox.step([note_of(each) for each in first], iter(asks), NOON_US)

    assert len(commits) == 1
    assert [(each.subscriber, each.kept.seq) for each in taken] == [(one.row, 2), (other.row, 1), (other.row, 2)]
    assert place.states(one) == {1: DONE, 2: TAKEN}


def test_nothing_is_written_when_nothing_is_to_be_done(place):
    subscriber, nobody = place.subscribe(), Subscriber(name="nobody", kind=Kind.HANDLER, address="", row=99)
    paused = place.subscribe("paused", since_us=0, state=SubscriberState.PAUSED)
    picky = place.subscribe("picky", wanted=Wanted(channels=("viber",)))
    place.deliver(3)
    first, *rest = place.take(subscriber)
    place.note(*map(note_of, rest), note_of(first, WAITING, next_us=LATER_US))
    assert place.take(picky) == []
    commits = []
    place.outbox._db.set_commit_hook(lambda: bool(commits.append(1)))
    with place.watching() as is_written:
        for each in (subscriber, picky, paused, nobody):
            assert place.take(each) == []
        for each, how in product((picky, paused, nobody), How):
            assert place.take(each, 1, how=how) == []
        assert place.outbox.step([], [], NOON_US) == []
        place.outbox.begin()
        place.outbox.retire(0)

        assert not is_written()
        place.deliver(1)
        assert is_written()
    assert len(place.take(subscriber)) == len(commits) - 1 == 1


@pytest.mark.parametrize("how", How)
def test_a_step_that_fails_changes_nothing(place, how):
    subscriber = place.subscribe()
    place.deliver(4)
    first, second = place.take(subscriber, 2)
    place.note(note_of(second, WAITING, next_us=NOON_US))
    before = place.listed(), place.backlog(subscriber)
    with place.held_by_another():
        for notes in ([note_of(first, DEAD, failed=True)], []):
            with pytest.raises(StoreUnable, match="cannot be written now"):
                place.outbox.step(notes, [Ask(subscriber=subscriber, count=1, how=how)], NOON_US)

    assert (place.listed(), place.backlog(subscriber)) == before
    assert place.outbox.attempts(1) == []
    assert seqs(place.outbox.step([note_of(first)], [Ask(subscriber=subscriber, count=9)], NOON_US)) == [2, 3, 4]


def test_what_people_change_cannot_be_written_while_another_holds_the_store(place):
    subscriber = place.subscribe()
    place.deliver(2)
    place.settle(subscriber, DEAD)
    with place.held_by_another():
        for change in (
            lambda: place.subscribe("other"),
            lambda: place.outbox.change(replace(subscriber, address="")),
            lambda: place.outbox.stop(subscriber.row, "gone"),
            lambda: place.outbox.remove(subscriber.row),
            lambda: place.outbox.retire(LATER_US),
            lambda: place.outbox.say_quarantine("today", GROWING, NOON_US),
            lambda: next(place.outbox.replay(Sought())),
            place.outbox.begin,
        ):
            with pytest.raises(StoreUnable):
                change()

    assert place.outbox.subscribers() == [subscriber]
    assert place.states(subscriber) == {1: DEAD, 2: DEAD}
    assert place.outbox.newest() == 2


@pytest.mark.parametrize(
    "state", [SubscriberState.PAUSED, SubscriberState.STOPPED, SubscriberState.ABSENT], ids=lambda state: state.value
)
def test_who_is_not_active_gets_nothing_and_later_what_came_meanwhile(place, state):
    subscriber = place.subscribe()
    place.deliver(2)
    place.settle(subscriber, WAITING, count=1)
    place.outbox.change(replace(subscriber, state=state))
    served = place.subscribe("served")
    place.deliver(1)
    for how in How:
        assert place.take(subscriber, 9, how=how) == []
        # With something to write, too.
        (taken,) = place.take(served)
        assert place.outbox.step([untried(taken)], [Ask(subscriber=subscriber, count=9, how=how)], NOON_US) == []

    place.outbox.change(subscriber)
    assert seqs(place.take(subscriber)) == [1, 2, 3]


def test_two_subscribers_are_independent(place):
    one, other = place.subscribe("one"), place.subscribe("other")
    place.deliver(3)
    assert place.settle(one, DONE, count=2) == [1, 2]
    assert place.settle(other, DEAD, count=1) == [1]
    asks = [Ask(subscriber=each, count=9) for each in (other, one)]
    taken = place.outbox.step([], asks, NOON_US)

    assert [(each.subscriber, each.kept.seq) for each in taken] == [(other.row, 2), (other.row, 3), (one.row, 3)]
    assert place.states(one) == {1: DONE, 2: DONE, 3: TAKEN}
    assert place.states(other) == {1: DEAD, 2: TAKEN, 3: TAKEN}


@pytest.mark.parametrize("state", [WAITING, DONE, DEAD], ids=lambda state: state.name)
def test_what_became_of_a_delivery_is_written_as_it_is_noted(place, state):
    subscriber = place.subscribe()
    place.deliver(1)
    (taken,) = place.take(subscriber)
    place.note(note_of(taken, state, attempts=3, next_us=LATER_US, at_us=NOON_US + MINUTE_US, said="HTTP 500: «non»"))

    (delivery,) = place.listed()
    assert (delivery.subscriber, delivery.event, delivery.state, delivery.attempts) == ("all", 1, state, 3)
    assert (delivery.at, delivery.said) == (NOON + timedelta(minutes=1), "HTTP 500: «non»")
    assert delivery.next_at == (NOON + timedelta(minutes=1_000) if state is WAITING else None)
    assert not delivery.is_replay


def test_what_was_not_tried_waits_again_as_it_did(place):
    subscriber = place.subscribe()
    place.deliver(2)
    place.settle(subscriber, WAITING, next_us=NOON_US, count=1)
    before = place.listed()
    taken = place.take(subscriber)
    place.note(*map(untried, taken))

    assert place.listed()[0] == before[0]
    assert [(each.event, each.attempts, each.at, each.said) for each in place.listed()[1:]] == [(2, 0, None, "")]
    assert place.take(subscriber) == taken


@pytest.mark.parametrize("failed", [False, True])
def test_a_note_for_a_delivery_that_is_gone_does_nothing(place, failed):
    subscriber, other = place.subscribe(), place.subscribe("other")
    place.deliver(1)
    (taken,) = place.take(subscriber)
    place.outbox.remove(subscriber.row)
    place.note(note_of(taken, DEAD, failed=failed))

    assert place.listed() == []
    assert place.rows("attempt") == 0
    assert seqs(place.take(other)) == [1]


@pytest.mark.parametrize("state", [WAITING, DONE, DEAD], ids=lambda state: state.name)
def test_a_note_for_what_is_not_on_its_way_does_nothing(place, state):
    subscriber = place.subscribe()
    place.deliver(1)
    (taken,) = place.take(subscriber)
    place.note(note_of(taken, state, next_us=LATER_US))
    before = place.listed()
    for again in (DONE, DEAD, WAITING):
        place.note(note_of(taken, again, attempts=7, said="late", failed=True))

    assert place.listed() == before
    assert place.outbox.attempts(1) == []


def test_at_the_beginning_all_that_was_on_its_way_waits_again_at_once(place):
    one, other = place.subscribe("one"), place.subscribe("other")
    place.deliver(3)
    place.settle(one, DONE, count=1)
    place.settle(one, WAITING, count=1, next_us=LATER_US)
    place.settle(other, WAITING, count=1, next_us=LATER_US)
    lost = place.take(one) + place.take(other, 1, how=How.PROBE) + place.take(other)
    place.begin_again()

    assert place.states(one) == {1: DONE, 2: WAITING, 3: WAITING}
    asks = [Ask(subscriber=each, count=9) for each in (one, other)]
    again = place.outbox.step([], asks, NOON_US)
    assert [(each.subscriber, each.kept) for each in again] == [(each.subscriber, each.kept) for each in lost]
    assert {each.due_us for each in again} == {0}


# Who wants which of them.

CAME = (
    ("plain", "delivered", {"destination": {"network_code": "26201"}}),
    ("read", "read", {"channel": "mms", "destination": {"network_code": "26202"}}),
    ("left", "rejected", {"channel": "MMS", "error": {"title": "1240"}}),
    ("away", "undeliverable", {"error": {"title": "1180"}}),
    ("late", "rejected", {"error": {"title": "1360"}}),
    inbound("hello", "Hello"),
)
# The events of these, in order: delivered, delivered and read, failed, failed, unconfirmed, inbound.
WANTED = {
    "all": (Wanted(), [1, 2, 3, 4, 5, 6, 7]),
    "by-type": (Wanted(events=("message.failed", "message.read")), [3, 4, 5]),
    "by-pattern": (Wanted(events=("inbound.*",)), [7]),
    "no-type": (Wanted(events=("nothing",)), []),
    "by-channel": (Wanted(channels=("mms",)), [2, 3, 4]),
    "by-channels": (Wanted(channels=("mms", "sms")), [1, 2, 3, 4, 5, 6, 7]),
    "by-network": (Wanted(networks=("26201", "26203")), [1]),
    "by-outcome": (Wanted(outcomes=("failed",)), [4, 5]),
    "by-reason": (Wanted(reasons=("opted-out",)), [4]),
    "by-permanence": (Wanted(permanences=("temporary", "unknown")), [5, 6]),
    "by-all-of-these": (Wanted(events=("message.*",), channels=("sms",), outcomes=("failed", "unconfirmed")), [5, 6]),
    "nothing-fits-all": (Wanted(channels=("mms",), networks=("26201",)), []),
}


@pytest.mark.parametrize(("wanted", "expected"), WANTED.values(), ids=WANTED)
@pytest.mark.parametrize("count", [1, 2, 100])
def test_only_what_is_wanted_is_taken_and_the_cursor_passes_over_the_rest(place, wanted, expected, count):
    subscriber = place.subscribe(wanted=wanted)
    place.say(*CAME)
    pages = []
    while page := place.take(subscriber, count):
        assert len(page) <= count
        pages += seqs(page)

    assert pages == expected
    assert list(place.states(subscriber)) == expected
    assert place.backlog(subscriber).unseen == 0


def test_a_filter_goes_by_the_message_as_it_stands(place):
    subscriber = place.subscribe(wanted=Wanted(outcomes=("delivered",)))
    place.say(("m", "rejected"))
    place.say(("m", "delivered"))

    assert [each.kept.type for each in place.take(subscriber)] == [FAILED, EventType.CONFLICT, DELIVERED]


def test_accepted_is_told_only_to_who_names_it(place):
    everything = place.subscribe("everything", wanted=Wanted(events=("*", "message.*")))
    named = place.subscribe("named", wanted=Wanted(events=("message.accepted",)))
    place.say(("m", "submitted"))
    place.say(("m", "delivered"))

    assert [each.kept.type for each in place.take(everything)] == [DELIVERED]
    assert [each.kept.type for each in place.take(named)] == [ACCEPTED]


def test_many_that_are_not_wanted_are_looked_at_a_part_at_a_time(place, monkeypatch):
    monkeypatch.setattr(sqlite_outbox, "LOOKED_AT_MAX", 10)
    monkeypatch.setattr(sqlite_outbox, "LOOKED_AT_MIN", 1)
    subscriber = place.subscribe(wanted=Wanted(events=("message.failed",)))
    place.deliver(25)
    place.say(("bad", "rejected"))
    steps = [seqs(place.take(subscriber)) for _ in range(3)]

    assert steps == [[], [], [26]]
    assert place.take(subscriber) == []


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(st.sampled_from(["delivered", "rejected", "read"]), max_size=25),
    wanted=st.sampled_from(
        [Wanted(), Wanted(events=("message.failed",)), Wanted(outcomes=("failed",)), Wanted(channels=("mms",))]
    ),
    count=st.integers(1, 7),
    looked_at_max=st.integers(1, 9),
)
@pytest.mark.parametrize("kind", OUTBOXES)
def test_whatever_is_wanted_is_taken_once_and_in_order(kind, words, wanted, count, looked_at_max):
    with a_place(kind) as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_outbox, "LOOKED_AT_MAX", looked_at_max)
        subscriber = place.subscribe(wanted=wanted)
        place.say(*((f"m{at}", word, {"channel": "mms" if at % 3 else "sms"}) for at, word in enumerate(words)))
        kept = place.outbox.events(range(1, place.outbox.newest() + 1))
        expected = [each.seq for each in kept if each.type in wanted.types() and wanted.takes(each.traits)]
        taken = []
        while place.backlog(subscriber).unseen:
            page = seqs(place.take(subscriber, count))
            assert len(page) <= count
            taken += page

        assert taken == expected


# Events, with what they are about.


def test_an_event_is_told_with_its_message_its_receipt_and_the_time(place):
    place.say(("m", "rejected", {"error": {"title": "1240"}, "to": "491701234567"}), minutes=3)
    (kept,) = place.outbox.events([1])

    assert (kept.seq, kept.type, kept.at) == (1, FAILED, NOON + timedelta(minutes=3))
    assert kept.id == id_text(event_id(ACCOUNT, "m", FAILED))
    assert (kept.event.id, kept.event.type, kept.event.timestamp) == (kept.id, kept.type, kept.at)
    assert kept.event.data.account == ACCOUNT
    assert (kept.event.data.message.message_id, kept.event.data.message.outcome) == ("m", "failed")
    assert (kept.event.data.receipt.provider_status, kept.event.data.receipt.code) == ("rejected", "1240")
    assert kept.event.data.reason.slug == kept.traits.reason == "opted-out"


def test_events_are_told_oldest_first_and_those_that_are_not_there_are_left_out(place):
    place.deliver(3)

    assert [kept.seq for kept in place.outbox.events([3, 9, 1])] == [1, 3]
    assert place.outbox.events([]) == []


def test_events_are_read_on_from_a_number(place):
    place.say(*CAME)
    types = {DELIVERED, READ, EventType.INBOUND}

    assert [kept.seq for kept in place.outbox.events_after(0, types, 3)] == [1, 2, 3]
    assert [kept.seq for kept in place.outbox.events_after(3, types, 3)] == [7]
    assert [kept.seq for kept in place.outbox.events_after(2, EventType, 2)] == [3, 4]
    assert place.outbox.events_after(7, EventType, 3) == []
    assert place.outbox.events_after(0, [], 3) == []


def test_an_event_is_found_by_its_id_and_by_its_messages(place):
    place.say(("m", "read"), ("n", "delivered"), ("m", "delivered", {"account": "other"}))
    kept = place.outbox.events(range(1, 9))

    for each in kept:
        assert place.outbox.find(each.id) == [each]
    assert place.outbox.find("m") == [each for each in kept if each.event.data.message.message_id == "m"]
    assert {each.event.data.account for each in place.outbox.find("m")} == {ACCOUNT, "other"}
    assert [each.type for each in place.outbox.find("n")] == [DELIVERED]


@pytest.mark.parametrize("reference", ["", "nobody", "evt_", "evt_0", "evt_zz", "evt_" + "0" * 32, "evt_" + "0" * 64])
def test_what_is_not_there_is_not_found(place, reference):
    place.deliver(1)

    assert place.outbox.find(reference) == []


def test_an_event_is_not_found_by_the_beginning_of_its_id(place):
    place.deliver(1)
    (kept,) = place.outbox.events([1])

    assert place.outbox.find(kept.id[:20]) == []


def told(place):
    """All events and what they carry."""
    return [
        (kept.id, kept.at, kept.traits, kept.event) for kept in place.outbox.events(range(1, place.outbox.newest() + 1))
    ]


INTERLEAVED = (
    ("first", "submitted"),
    ("one", "submitted"),
    ("two", "rejected", {"error": {"title": "1240"}}),
    ("one", "delivered", {"to": "491701111111"}),
    inbound("i", "STOP"),
    ("two", "delivered", {"to": "491702222222"}),
    ("one", "read", {"channel": "mms"}),
)


def test_after_a_rebuild_an_event_has_its_own_message_and_its_own_receipt(place):
    for each in INTERLEAVED:
        place.say(each)
    before = told(place)
    rows = list(place.outbox._db.execute("SELECT id, message_id FROM message"))
    place.rebuild(lost=[1])

    # Where the first message was is another one now, and so on.
    assert {message_id: row - 1 for row, message_id in rows if message_id != "first"} == {
        message_id: row for row, message_id in place.outbox._db.execute("SELECT id, message_id FROM message")
    }
    assert told(place) == before
    subscriber = place.subscribe(since_us=0)
    assert [each.kept.event for each in place.take(subscriber)] == [event for *_, event in before]
    assert messages(place.outbox.find("two")) == ["two"] * 3


def test_a_rebuild_keeps_what_was_delivered_and_where_each_subscriber_is(place):
    subscriber = place.subscribe()
    place.deliver(4)
    place.settle(subscriber, DONE, count=1)
    place.settle(subscriber, DEAD, count=1)
    place.settle(subscriber, WAITING, count=1, failed=True)
    before = place.listed(), place.backlog(subscriber), place.outbox.attempts(3)
    place.rebuild()

    assert (place.listed(), place.backlog(subscriber), place.outbox.attempts(3)) == before
    assert seqs(place.take(subscriber)) == [3, 4]
    place.say(*((f"m{number}", "delivered") for number in range(1, 5)))
    assert place.outbox.newest() == 4


def test_an_event_of_which_nothing_is_known_any_more_is_told_without_what_it_was_about(place):
    place.say(("one", "delivered"))
    place.say(("two", "rejected"))
    place.say(inbound("i", "STOP"))
    subscriber = place.subscribe(since_us=0)
    ids = [kept.id for kept in place.outbox.events([1, 2, 3])]
    place.rebuild(lost=[2, 3])
    # The row that the lost message had is another's now.
    place.say(("three", "delivered"))
    taken = place.take(subscriber)

    assert [each.kept.event is None for each in taken] == [False, True, True, False]
    assert [each.kept.type for each in taken] == [DELIVERED, FAILED, EventType.INBOUND, DELIVERED]
    assert [each.kept.id for each in taken[:3]] == ids
    assert messages(each.kept for each in taken if each.kept.event) == ["one", "three"]
    assert [kept.event for kept in place.outbox.find(ids[1])] == [None]
    assert place.outbox.find("two") == []


# What we say ourselves.


def test_the_quarantine_is_said_once_a_subject(place):
    subscriber = place.subscribe()
    assert place.outbox.newest_of(EventType.QUARANTINE) == (0, None)
    place.deliver(1)
    place.outbox.say_quarantine("today", GROWING, NOON_US)
    place.outbox.say_quarantine("today", replace(GROWING, held=99), NOON_US + 1)
    assert place.outbox.newest_of(EventType.QUARANTINE) == (NOON_US, GROWING)
    place.deliver(1)
    more = replace(GROWING, came=1)
    place.outbox.say_quarantine("tomorrow", more, NOON_US + 2)
    assert place.outbox.newest_of(EventType.QUARANTINE) == (NOON_US + 2, more)

    taken = [each.kept for each in place.take(subscriber)]
    assert [kept.type for kept in taken] == [DELIVERED, EventType.QUARANTINE, DELIVERED, EventType.QUARANTINE]
    assert [kept.event.data for kept in taken[1::2]] == [GROWING, more]
    assert [kept.at for kept in taken[1::2]] == [NOON, NOON + timedelta(microseconds=2)]
    assert place.outbox.find(taken[1].id) == [taken[1]]


# What people ask.


def test_a_backlog_is_what_is_open_what_is_dead_and_what_was_not_looked_at(place):
    one, other = place.subscribe("one"), place.subscribe("other")
    assert place.outbox.backlogs() == {one.row: Backlog(), other.row: Backlog()}
    for minutes in range(6):
        place.deliver(1, minutes=minutes)
    assert place.backlog(one) == Backlog(unseen=6, oldest_at=NOON)

    place.settle(one, DONE, count=1)
    place.settle(one, DEAD, count=1)
    place.take(one, 1)
    place.settle(one, WAITING, count=1, next_us=LATER_US)
    assert place.outbox.backlogs() == {
        # The oldest that is open is on its way.
        one.row: Backlog(waiting=2, dead=1, unseen=2, oldest_at=NOON + timedelta(minutes=2)),
        other.row: Backlog(unseen=6, oldest_at=NOON),
    }
    place.settle(one, DONE)
    place.begin_again()
    place.settle(one, DONE)
    assert place.backlog(one) == Backlog(waiting=1, dead=1, oldest_at=NOON + timedelta(minutes=3))


def test_what_is_retired_is_not_unseen_by_who_is_stopped(place):
    subscriber = place.subscribe()
    for minutes in range(4):
        place.deliver(1, minutes=minutes)
    place.outbox.stop(subscriber.row, "gone")
    assert place.outbox.retire(NOON_US + 2 * MINUTE_US) == 2

    assert place.backlog(subscriber) == Backlog(unseen=2, oldest_at=NOON + timedelta(minutes=2))
    place.outbox.change(subscriber)
    assert seqs(place.take(subscriber)) == [3, 4]


def test_what_is_retired_is_not_looked_for(place, monkeypatch):
    monkeypatch.setattr(sqlite_outbox, "LOOKED_AT_MAX", 2)
    monkeypatch.setattr(sqlite_outbox, "LOOKED_AT_MIN", 1)
    subscriber = place.subscribe(state=SubscriberState.STOPPED)
    place.deliver(9)
    place.outbox.retire(LATER_US)
    place.outbox.change(replace(subscriber, state=SubscriberState.ACTIVE))

    assert seqs(place.take(subscriber)) == [9]


@pytest.fixture
def mixed(place):
    """CAME at a minute each; `one` had all of it, and `other` the first three."""
    one, other = place.subscribe("one"), place.subscribe("other")
    for minutes, each in enumerate(CAME):
        place.say(each, minutes=minutes)
    for state, count in ((DONE, 2), (DEAD, 3), (WAITING, 1)):
        place.settle(one, state, count=count, next_us=LATER_US)
    place.take(one)
    for state in (DEAD, DONE, DEAD):
        place.settle(other, state, count=1)
    return place


SOUGHT = {
    "dead-by-default": (Sought(), [("one", 3), ("one", 4), ("one", 5), ("other", 1), ("other", 3)]),
    "delivered": (Sought(states=(DONE,)), [("one", 1), ("one", 2), ("other", 2)]),
    "waiting": (Sought(states=(WAITING,)), [("one", 6)]),
    "on-its-way": (Sought(states=(TAKEN,)), [("one", 7)]),
    "open": (Sought(states=(TAKEN, WAITING)), [("one", 6), ("one", 7)]),
    "delivered-and-waiting": (
        Sought(states=(DONE, WAITING)),
        [("one", 1), ("one", 2), ("one", 6), ("other", 2)],
    ),
    "no-state": (Sought(states=()), []),
    "of-an-event": (Sought(states=tuple(DeliveryState), event=2), [("one", 2), ("other", 2)]),
    "dead-of-an-event": (Sought(event=3), [("one", 3), ("other", 3)]),
    "of-no-event": (Sought(states=tuple(DeliveryState), event=99), []),
    "of-a-subscriber": (Sought(subscriber="other"), [("other", 1), ("other", 3)]),
    "of-nobody": (Sought(subscriber="nobody"), []),
    "since-is-included": (Sought(since=NOON + timedelta(minutes=2)), [("one", 4), ("one", 5)]),
    "until-is-not": (Sought(until=NOON + timedelta(minutes=1)), [("other", 1)]),
    "of-a-type": (Sought(types=frozenset({FAILED})), [("one", 4), ("one", 5)]),
    "of-types": (Sought(types=frozenset({READ, DELIVERED})), [("one", 3), ("other", 1), ("other", 3)]),
    "of-no-type": (Sought(types=frozenset()), []),
    "of-an-outcome": (Sought(outcome="delivered"), [("one", 3), ("other", 1), ("other", 3)]),
    "open-of-an-outcome": (Sought(states=(WAITING, TAKEN), outcome="unconfirmed"), [("one", 6)]),
    "together": (Sought(subscriber="one", types=frozenset({FAILED, READ}), outcome="delivered"), [("one", 3)]),
}


@pytest.mark.parametrize(("sought", "expected"), SOUGHT.values(), ids=SOUGHT)
def test_deliveries_are_those_that_fit_by_subscriber_and_then_by_age(mixed, sought, expected):
    found = mixed.outbox.deliveries(sought, limit=100)

    assert [(each.subscriber, each.event) for _, each in found] == expected
    # Each page alone gives the same, and no page goes on for ever.
    for limit in (1, 2):
        pages, after = [], (0, 0)
        while page := mixed.outbox.deliveries(sought, limit=limit, after=after):
            assert len(page) <= limit
            pages += page
            after = page[-1][0]
            assert len(pages) <= len(expected)
        assert pages == found


def test_deliveries_are_found_by_outcome_where_a_rebuild_moved_the_messages(place):
    subscriber = place.subscribe()
    for each in INTERLEAVED:
        place.say(each)
    place.say(("two", "rejected", {"account": "other"}))
    place.settle(subscriber, DEAD)
    before = {outcome: place.listed(outcome=outcome) for outcome in ("delivered", "failed", "pending")}
    place.rebuild(lost=[1])

    assert [len(found) for found in before.values()] == [5, 1, 0]
    assert {outcome: place.listed(outcome=outcome) for outcome in before} == before


def test_what_is_dead_or_delivered_is_replayed_from_the_first_attempt_on(place):
    subscriber, other = place.subscribe(), place.subscribe("other")
    place.deliver(2)
    place.settle(subscriber, DEAD, count=1, attempts=8)
    place.settle(subscriber, DONE, count=1)
    place.settle(other, DEAD)
    ids = [kept.id for kept in place.outbox.events([1, 2])]
    counts = list(place.outbox.replay(Sought(states=(DEAD, DONE), subscriber="all")))
    again = place.take(subscriber)

    assert counts == [2]
    assert [each.kept.id for each in again] == ids
    assert {(each.attempts, each.due_us, each.is_replay) for each in again} == {(0, 0, True)}
    assert place.states(other) == {1: DEAD, 2: DEAD}
    place.note(*(note_of(each, WAITING) for each in again))
    assert [each.is_replay for each in place.listed(subscriber="all")] == [True, True]
    assert [each.attempts for each in place.take(subscriber)] == [1, 1]


def test_a_replay_touches_nothing_that_waits_or_is_on_its_way(place):
    subscriber = place.subscribe()
    place.deliver(4)
    place.settle(subscriber, WAITING, count=1, next_us=LATER_US)
    place.settle(subscriber, DEAD, count=1)
    place.take(subscriber, 1)
    before = place.listed()
    counts = list(place.outbox.replay(Sought(states=tuple(DeliveryState))))

    assert sum(counts) == 1
    after = place.listed()
    assert [each for each in after if each.event != 2] == [each for each in before if each.event != 2]
    assert after[1].state is WAITING
    assert place.backlog(subscriber).unseen == 1


def test_a_replay_goes_on_part_by_part(place, monkeypatch):
    monkeypatch.setattr(sqlite_outbox, "REPLAYED_A_TIME", 2)
    one, other = place.subscribe("one"), place.subscribe("other")
    place.deliver(3)
    for subscriber in (one, other):
        place.settle(subscriber, DEAD)
    replay = place.outbox.replay(Sought())

    assert next(replay) == 2
    assert place.states(one) == {1: WAITING, 2: WAITING, 3: DEAD}
    assert list(replay) == [2, 2]
    assert list(place.outbox.replay(Sought())) == []
    assert seqs(place.take(other)) == [1, 2, 3]


def test_the_attempts_that_failed_are_told_in_their_order(place):
    one, other = place.subscribe("one"), place.subscribe("other")
    place.deliver(2)
    for number in (1, 2):
        place.settle(one, WAITING, count=1, failed=True, at_us=NOON_US + number, said=f"HTTP 50{number}")
    place.settle(other, DONE, count=1)
    place.settle(one, DONE, count=1)

    first, second = place.outbox.attempts(1)
    assert (first.subscriber, first.number, first.said, first.took_seconds) == ("one", 1, "HTTP 501", 1.5)
    assert (second.number, second.at, second.said) == (2, NOON + timedelta(microseconds=2), "HTTP 502")
    assert place.outbox.attempts(2) == []


# What is let go of.


def test_what_happened_before_is_retired_with_what_became_of_it_but_never_the_newest(place):
    subscriber = place.subscribe()
    for minutes in range(4):
        place.deliver(1, minutes=minutes)
    place.settle(subscriber, DEAD, failed=True)
    assert place.outbox.retire(NOON_US) == 0
    assert place.outbox.retire(NOON_US + 2 * MINUTE_US) == 2

    assert [kept.seq for kept in place.outbox.events(range(9))] == [3, 4]
    assert list(place.states(subscriber)) == [3, 4]
    assert place.outbox.attempts(1) == []
    assert place.rows("attempt") == place.rows("delivery") == 2
    assert len(place.outbox.attempts(3)) == 1
    assert place.outbox.retire(LATER_US) == 1
    assert place.outbox.retire(LATER_US) == 0
    assert [kept.seq for kept in place.outbox.events(range(9))] == [4]


def test_the_numbers_of_events_never_run_backwards(place):
    for expected in (3, 6):
        place.deliver(3)
        while place.outbox.retire(LATER_US):
            pass
        assert place.outbox.newest() == expected
    place.outbox.say_quarantine("today", GROWING, NOON_US)
    assert place.outbox.newest() == 7


@pytest.mark.parametrize("state", [SubscriberState.ACTIVE, SubscriberState.PAUSED], ids=lambda state: state.value)
def test_what_a_subscriber_has_yet_to_get_is_not_retired(place, state):
    late, quick = place.subscribe("late"), place.subscribe("quick")
    place.deliver(5)
    place.settle(late, DONE, count=2)
    place.settle(quick, DONE)
    place.outbox.change(replace(late, state=state))

    assert place.outbox.retire(LATER_US) == 2
    assert place.outbox.retire(LATER_US) == 0
    place.outbox.change(late)
    assert seqs(place.take(late)) == [3, 4, 5]


@pytest.mark.parametrize("state", [SubscriberState.STOPPED, SubscriberState.ABSENT], ids=lambda state: state.value)
def test_who_is_not_served_any_more_holds_up_nothing_that_it_did_not_begin(place, state):
    gone = place.subscribe()
    place.deliver(3)
    place.outbox.change(replace(gone, state=state))

    assert place.outbox.retire(LATER_US) == 2


@pytest.mark.parametrize("state", [WAITING, TAKEN], ids=lambda state: state.name)
def test_what_waits_or_is_on_its_way_is_not_retired(place, state):
    one, other = place.subscribe("one"), place.subscribe("other")
    place.deliver(5)
    place.settle(other, DONE)
    place.settle(one, DONE, count=2)
    taken = place.take(one)
    if state is WAITING:
        place.note(note_of(taken[0], WAITING, next_us=LATER_US), *map(note_of, taken[1:]))
    assert place.outbox.retire(LATER_US) == 2
    assert place.outbox.retire(LATER_US) == 0
    assert list(place.states(one)) == [3, 4, 5]

    place.outbox.remove(one.row)
    assert place.outbox.retire(LATER_US) == 2


def test_only_so_many_are_retired_at_once(place, monkeypatch):
    monkeypatch.setattr(sqlite_outbox, "RETIRED_A_TIME", 4)
    place.deliver(10)

    assert [place.outbox.retire(LATER_US) for _ in range(4)] == [4, 4, 1, 0]


def test_a_state_that_changed_meanwhile_is_not_written_over(place):
    subscriber = place.subscribe()
    place.outbox.stop(subscriber.row, "it is gone")
    place.outbox.change(replace(subscriber, secrets=(SecretKept("whsec_new"),)), was=subscriber.state)
    (kept,) = place.outbox.subscribers()
    assert (kept.state, kept.reason) == (SubscriberState.STOPPED, "it is gone")
    assert kept.secrets == (SecretKept("whsec_new"),)


# Who only reads.


def test_who_only_reads_sees_what_is_written_and_changes_nothing(mixed):
    outbox = mixed.outbox
    with closing(mixed.outbox_kind(mixed.path, only_read=True)) as reader:
        assert reader.subscribers() == outbox.subscribers()
        assert reader.backlogs() == outbox.backlogs()
        assert reader.events(range(9)) == outbox.events(range(9))
        assert reader.find("plain") == outbox.find("plain")
        sought = Sought(outcome="failed")
        assert reader.deliveries(sought, limit=9) == outbox.deliveries(sought, limit=9) != []
        with pytest.raises(StoreUnable):
            reader.begin()
    # No read is left open.
    assert outbox._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE) == (0, 0)


# What must always hold.

ANSWERS = st.sampled_from([DONE, DEAD, WAITING, None])
MOVES = st.one_of(
    st.tuples(st.just("say"), st.lists(st.sampled_from(["delivered", "rejected", "read"]), min_size=1, max_size=6)),
    st.tuples(
        st.just("step"),
        st.lists(
            st.tuples(st.integers(0, 1), st.integers(1, 4), st.sampled_from(How), st.integers(0, 6)),
            max_size=2,
            unique_by=lambda ask: ask[0],
        ),
        st.lists(ANSWERS, max_size=6),
    ),
    st.just(("crash",)),
    st.just(("retire",)),
)


class Life:
    """What a dispatch does with an outbox, and what it has seen of it."""

    def __init__(self, place):
        self.place = place
        self.subscribers = [
            place.subscribe("all"),
            place.subscribe("some", wanted=Wanted(outcomes=("failed",))),
        ]
        self.taken = []
        self.ended = {}
        self.said = {}
        self.now_us = NOON_US
        self.messages = 0

    def say(self, words):
        self.place.say(*((f"m{self.messages + at}", word) for at, word in enumerate(words)))
        self.messages += len(words)
        for kept in self.place.outbox.events_after(max(self.said, default=0), EventType, 99):
            self.said[kept.seq] = kept

    def step(self, asks, answers):
        self.now_us += MINUTE_US
        known, self.taken = self.taken[: len(answers)], self.taken[len(answers) :]
        notes = []
        for taken, answer in zip(known, answers, strict=False):
            if answer is None:
                notes.append(untried(taken))
                continue
            notes.append(note_of(taken, answer, next_us=self.now_us + 2 * MINUTE_US, failed=answer is not DONE))
            if answer in (DONE, DEAD):
                self.ended[taken.subscriber, taken.kept.seq] = answer
        asks = [
            Ask(subscriber=self.subscribers[number], count=count, how=how, after=after)
            for number, count, how, after in asks
        ]
        taken = self.place.outbox.step(notes, asks, self.now_us)
        for ask in asks:
            assert sum(each.subscriber == ask.subscriber.row for each in taken) <= ask.count
        on_their_way = {(each.subscriber, each.kept.seq) for each in self.taken}
        for each in taken:
            place = (each.subscriber, each.kept.seq)
            assert place not in on_their_way
            assert place not in self.ended
            on_their_way.add(place)
        self.taken += taken

    def crash(self):
        self.taken = []
        self.place.begin_again()

    def retire(self):
        self.place.outbox.retire(LATER_US)

    def check(self):
        """Each event that is wanted is in one place for each subscriber, and nothing else is anywhere."""
        kept = [each.seq for each in self.place.outbox.events(self.said)]
        for subscriber in self.subscribers:
            unseen = self.place.backlog(subscriber).unseen
            seen = self.place.outbox.newest() - unseen
            wanted = {seq for seq, each in self.said.items() if subscriber.wanted.takes(each.traits)}
            states = self.place.states(subscriber)
            assert set(states) == {seq for seq in wanted if seq <= seen and seq in kept}
            ended = {seq: state for (row, seq), state in self.ended.items() if row == subscriber.row}
            assert {seq: state for seq, state in states.items() if state in (DONE, DEAD)} == {
                seq: state for seq, state in ended.items() if seq in kept
            }
            on_their_way = {each.kept.seq for each in self.taken if each.subscriber == subscriber.row}
            assert {seq for seq, state in states.items() if state is TAKEN} == on_their_way
            # What was let go of was done with.
            assert {seq for seq in wanted if seq not in kept} <= ended.keys()

    def drain(self):
        self.crash()
        self.now_us += 100 * MINUTE_US
        while any(each.unseen or each.waiting for each in self.place.outbox.backlogs().values()):
            self.step([(0, 4, How.USUAL, 0), (1, 4, How.USUAL, 0)], [DONE] * len(self.taken))


@settings(max_examples=100, deadline=None)
@given(moves=st.lists(MOVES, max_size=25))
@pytest.mark.parametrize("kind", OUTBOXES)
def test_each_event_that_is_wanted_comes_to_one_end_whatever_happens(kind, moves):
    with a_place(kind) as place:
        life = Life(place)
        for name, *values in moves:
            getattr(life, name)(*values)
            life.check()
        life.drain()
        life.check()

        assert {row: {seq for each, seq in life.ended if each == row} for row in (1, 2)} == {
            subscriber.row: {seq for seq, kept in life.said.items() if subscriber.wanted.takes(kept.traits)}
            for subscriber in life.subscribers
        }


# How it is found.

# The statements of each step, and those that people wait for.
SEARCHES = {
    "newest_event",
    "begin",
    "standing",
    "cursor",
    "move_cursor",
    "due",
    "waiting",
    "take",
    "take_new",
    "note",
    "note_attempts",
    "events_after",
    "events_by_seq",
    "event_by_key",
    "events_by_key",
    "receipts_by_row",
    "newest_of_type",
    "backlogs",
    "replay",
    "attempts",
    "retirable",
    "oldest_events",
    "retire_attempts",
    "retire_deliveries",
    "retire_events",
    "forget_deliveries",
}
OF_FEW = {"begin": "delivery_open", "waiting": "delivery_open", "due": "delivery_due"}


class _Anything(dict):
    def __missing__(self, _name):
        return None


def plan(outbox, sql):
    return [row[3] for row in outbox._db.execute("EXPLAIN QUERY PLAN " + sql, _Anything())]


def whole_tables_in(steps):
    # There are few subscribers, and what is given as JSON is read as it is.
    small = ("SCAN s", "SCAN CONSTANT ROW")
    return [step for step in steps if step.startswith("SCAN") and step not in small and "VIRTUAL TABLE" not in step]


def test_the_plans_of_all_statements_can_be_told(place):
    for sql in place.outbox._sql.values():
        assert plan(place.outbox, place.outbox._among(sql, (DONE,))) or "VALUES" in sql


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_no_statement_of_a_step_reads_a_whole_table(place, name):
    steps = plan(place.outbox, place.outbox._sql[name])

    assert whole_tables_in(steps) == []
    assert any(OF_FEW.get(name, "") in step for step in steps)


def test_what_is_written_of_many_is_driven_by_what_is_given(place):
    for name in ("note", "replay"):
        given, searched = plan(place.outbox, place.outbox._sql[name])
        assert given.startswith("SCAN")
        assert "VIRTUAL TABLE" in given
        assert searched == "SEARCH delivery USING PRIMARY KEY (subscriber=? AND event=?)"


@pytest.mark.parametrize(
    ("states", "index"),
    [
        *(((state,), index) for index, (states, _) in INDEXES.items() for state in sorted(states)),
        ((DONE,), "PRIMARY KEY"),
        ((DONE, DEAD), "PRIMARY KEY"),
        (tuple(DeliveryState), "PRIMARY KEY"),
    ],
)
def test_deliveries_are_read_in_their_order_from_the_index_that_has_the_fewest(place, states, index):
    steps = plan(place.outbox, place.outbox._among(place.outbox._sql["deliveries"], states))

    assert whole_tables_in(steps) == []
    assert not [step for step in steps if "ORDER BY" in step]
    (searched,) = [step for step in steps if step.startswith("SEARCH d ")]
    assert index in searched
    assert "(subscriber=? AND event>? AND event<?)" in searched
