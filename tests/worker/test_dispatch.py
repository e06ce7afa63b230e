"""The dispatch: in stepped time over a real outbox, and at real speed with carriers that fail."""

import asyncio
import re
import time
import tracemalloc
from collections import Counter, defaultdict
from contextlib import closing, suppress
from ipaddress import ip_network

import apsw
import pytest

from landed import run
from landed.domain.events import EventType, Wanted
from landed.settings import EventSettings
from landed.store.outbox import DeliveryState, Kind, SecretKept, Sought, Subscriber, SubscriberState
from landed.store.rows import EVENT_NUMBERS
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker.dispatch import Desk, Dispatch
from landed.worker.lane import BUFFERED_MAX, SECOND_US, Manner
from landed.worker.letters import Answer
from landed.worker.webhook import Webhook, new_secret

NOON_US = 1_800_000_000 * SECOND_US
HOUR_US = 3_600 * SECOND_US
OK = Answer(taken=True, said="204")
NO = Answer(taken=False, said="503")
REFUSED = Answer(taken=False, said="500", is_refusal=True)
MANNERS = {Kind.WEBHOOK: Manner(), Kind.PEOPLE: Manner(concurrency=1, together_max=10_000, every_seconds=300)}


class Stepped:
    """A desk in stepped time: whoever is asked answers at once, by a function of subscriber, event and time."""

    def __init__(self, outbox, answers):
        self.outbox = outbox
        self.desk = Desk(MANNERS, lambda: 0.5)
        self.answers = answers
        self.now_us = NOON_US
        self.told = defaultdict(list)
        outbox.begin()

    def step(self):
        self.desk.meet(self.outbox.subscribers())
        while True:
            todo = self.desk.round(self.now_us)
            taken = self.outbox.step(todo.notes, todo.asks, self.now_us)
            self.desk.got(todo, taken, self.now_us)
            went = [self._go(lane) for lane in self.desk.lanes.values()]
            if not any(went) and not todo.notes and not taken:
                return

    def run(self, seconds, step_seconds):
        for _ in range(seconds // step_seconds):
            self.now_us += step_seconds * SECOND_US
            self.step()

    def _go(self, lane):
        went = 0
        while several := lane.next(self.now_us):
            name = lane.subscriber.name
            answer = self.answers(name, several, self.now_us)
            if answer.taken:
                self.told[name] += [(taken.kept.seq, self.now_us) for taken in several]
            self.desk.done(lane, several, answer, self.now_us)
            went += 1
        return went


def subscribe(outbox, name, kind=Kind.WEBHOOK, **more):
    return outbox.add(Subscriber(name=name, kind=kind, address=f"https://{name}.example", **more))


def happen(data, count, first=1):
    """So many events of which no message is needed, as fast as SQLite can."""
    with closing(apsw.Connection(str(run.store_path(data)))) as db:
        db.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2) "
            "INSERT INTO event SELECT n, n >> 16, n, ?3, ?4, '', 'hour ' || n, 0, 0, x'', "
            """'{"held": 1, "came": 1, "reasons": {}}' FROM numbers""",
            (first, first + count - 1, EVENT_NUMBERS[EventType.QUARANTINE], NOON_US),
        )


def test_one_that_is_dead_for_a_day_delays_nobody_and_gets_all_oldest_first_when_it_is_back(road):
    healthy = [f"healthy-{number}" for number in range(20)]
    for name in (*healthy, "dead"):
        subscribe(road.outbox, name)
    back_us = NOON_US + 24 * HOUR_US
    attempts = Counter()

    def answers(name, _several, now_us):
        attempts[name] += 1
        return NO if name == "dead" and now_us < back_us else OK

    stepped = Stepped(road.outbox, answers)
    happened = []
    for number in range(144):
        happen(road.data, 3, 3 * number + 1)
        happened += [(3 * number + each, stepped.now_us) for each in (1, 2, 3)]
        stepped.step()
        stepped.run(600, 10)
    for name in healthy:
        assert stepped.told[name] == happened, "each in the very step in which it happened"
    assert stepped.told["dead"] == []
    assert attempts["dead"] < 400, "it was let alone but for probes"
    stepped.run(600, 10)
    probe, *others = [seq for seq, _ in stepped.told["dead"]]
    assert others == [seq for seq, _ in happened if seq != probe], "all but the probe oldest first"
    states = (DeliveryState.WAITING, DeliveryState.TAKEN, DeliveryState.DEAD)
    assert road.outbox.deliveries(Sought(states=states), limit=10) == []


def test_one_that_never_comes_back_has_its_oldest_events_dead_after_the_schedule_and_all_of_them_to_be_seen(road):
    dead = subscribe(road.outbox, "dead")
    happen(road.data, 40)
    stepped = Stepped(road.outbox, lambda *_: NO)
    stepped.run(72 * 3_600, 60)
    backlog = road.outbox.backlogs()[dead.row]
    assert backlog.dead > 0
    assert backlog.dead + backlog.waiting + backlog.unseen == 40
    first = road.outbox.deliveries(Sought(), limit=1)[0][1]
    assert first.attempts == 8
    # Tries before its time have the number of the attempt before them.
    assert sorted({each.number for each in road.outbox.attempts(first.event)}) == list(range(1, 9))


def test_events_that_are_never_taken_hold_up_no_others(road):
    subscribe(road.outbox, "shop")
    # A third of all, a hundred on end; they soon are the oldest that wait.
    stepped = Stepped(road.outbox, lambda _name, several, _now_us: REFUSED if several[0].kept.seq % 300 < 100 else OK)
    happen(road.data, 3_000)
    stepped.run(1_200, 5)
    assert len(stepped.told["shop"]) == 2_000
    assert road.outbox.backlogs()[1].waiting == 1_000
    stepped.run(33 * 3_600, 60)
    assert road.outbox.backlogs()[1].dead == 1_000


def test_memory_is_flat_with_a_million_waiting(road):
    subscribe(road.outbox, "dead")
    subscribe(road.outbox, "slow")
    peaks = {}
    for count, first in ((1_000, 1), (1_000_000, 1_001)):
        happen(road.data, count, first)
        stepped = Stepped(road.outbox, lambda name, *_: NO if name == "dead" else OK)
        tracemalloc.start()
        # A slow one takes a few at each step, so that what is behind waits.
        for _ in range(20):
            stepped.now_us += SECOND_US
            stepped.desk.meet(road.outbox.subscribers())
            todo = stepped.desk.round(stepped.now_us)
            stepped.desk.got(todo, road.outbox.step(todo.notes, todo.asks, stepped.now_us), stepped.now_us)
            for lane in stepped.desk.lanes.values():
                if several := lane.next(stepped.now_us):
                    stepped.desk.done(lane, several, OK if lane.subscriber.name == "slow" else NO, stepped.now_us)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert all(backlog.unseen > 900_000 for backlog in road.outbox.backlogs().values())
    assert peaks[1_000_000] < 2 * peaks[1_000]
    assert peaks[1_000_000] < BUFFERED_MAX * 2 * 16 * 1024


def test_what_is_paused_gets_nothing_and_all_of_it_afterwards(road):
    paused = subscribe(road.outbox, "paused")
    stepped = Stepped(road.outbox, lambda *_: OK)
    for state, told in ((SubscriberState.PAUSED, []), (SubscriberState.ACTIVE, [1, 2, 3])):
        road.outbox.change(_in_state(paused, state))
        if state is SubscriberState.PAUSED:
            happen(road.data, 3)
        stepped.step()
        assert [seq for seq, _ in stepped.told["paused"]] == told


def _in_state(subscriber, state):
    from msgspec.structs import replace  # noqa: PLC0415

    return replace(subscriber, state=state)


def test_people_are_told_of_a_flood_in_one_message_at_once_and_of_the_rest_after_a_while(road):
    subscribe(road.outbox, "people", Kind.PEOPLE)
    messages = []
    stepped = Stepped(road.outbox, lambda _name, several, now_us: messages.append((len(several), now_us)) or OK)
    happen(road.data, 1)
    stepped.step()
    happen(road.data, 5_000, 2)
    stepped.run(299, 1)
    assert messages == [(1, NOON_US)]
    stepped.run(2, 1)
    assert [count for count, _ in messages] == [1, 5_000]


def test_what_is_not_known_any_more_is_dead_and_said_so(road):
    subscribe(road.outbox, "shop")
    road.say(("m", "delivered"))
    with closing(apsw.Connection(str(run.store_path(road.data)))) as db:
        db.execute("DELETE FROM message")
    stepped = Stepped(road.outbox, lambda *_: OK)
    stepped.step()
    stepped.step()
    ((_, dead),) = road.outbox.deliveries(Sought(), limit=9)
    assert "not known any more" in dead.said
    assert stepped.told["shop"] == []


# At real speed.


class Shaky:
    """Takes letters, or does not, as it is told for each."""

    def __init__(self, answer):
        self.letters = []
        self.closed = False
        self._answer = answer

    async def carry(self, address, _secrets, letters):
        self.letters += letters
        answer = self._answer(address, letters)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def close(self):
        self.closed = True


async def dispatched(road, carrier, until, seconds_max=10.0, **options):
    """Run a dispatch until something holds, and then until it has left."""
    dispatch = Dispatch(
        lambda: SqliteOutbox(run.store_path(road.data), **options), {Kind.WEBHOOK: carrier}, MANNERS, days=30
    )
    running = asyncio.create_task(dispatch.run())
    deadline = time.monotonic() + seconds_max
    while not until() and time.monotonic() < deadline and not running.done():  # noqa: ASYNC110 - rows, not events
        await asyncio.sleep(0.01)
    dispatch.leave()
    await running
    assert until()


def test_events_reach_their_subscriber_and_it_is_noted(road):
    subscribe(road.outbox, "shop", wanted=Wanted(events=("message.failed",)))
    road.say(("one", "delivered"), ("two", "rejected"))
    carrier = Shaky(lambda *_: OK)
    asyncio.run(dispatched(road, carrier, lambda: carrier.letters))
    (letter,) = carrier.letters
    assert (letter.type, letter.attempt, letter.is_replay) == (EventType.FAILED, 1, False)
    assert letter.event.data.message.message_id == "two"
    ((_, delivery),) = road.outbox.deliveries(Sought(states=(DeliveryState.DELIVERED,)), limit=9)
    assert (delivery.said, delivery.attempts) == ("204", 1)
    assert carrier.closed


def test_a_carrier_that_raises_is_a_failed_attempt(road, capsys):
    subscribe(road.outbox, "shop")
    road.say(("one", "delivered"))

    def broken(*_):
        raise RuntimeError

    carrier = Shaky(broken)
    asyncio.run(dispatched(road, carrier, lambda: carrier.letters))
    ((_, delivery),) = road.outbox.deliveries(Sought(states=(DeliveryState.WAITING,)), limit=9)
    assert "mistake" in delivery.said
    assert "carrier.failed" in capsys.readouterr().out


def test_who_is_gone_is_stopped_and_gets_nothing_more(road):
    subscriber = subscribe(road.outbox, "shop")
    road.say(*((f"m{number}", "delivered") for number in range(3)))
    carrier = Shaky(lambda *_: Answer(taken=False, said="410", is_gone=True))
    stopped = SubscriberState.STOPPED
    asyncio.run(dispatched(road, carrier, lambda: road.outbox.subscribers()[0].state is stopped))
    assert "gone" in road.outbox.subscribers()[0].reason
    assert road.outbox.backlogs()[subscriber.row].waiting == 3


def test_a_note_of_success_that_cannot_be_written_sends_nothing_again(road):
    subscribe(road.outbox, "shop")
    road.say(("one", "delivered"))
    blocker = apsw.Connection(str(run.store_path(road.data)))
    blocker.set_busy_timeout(5_000)

    def answer(*_):
        blocker.execute("BEGIN IMMEDIATE")
        return OK

    async def scenario():
        carrier = Shaky(answer)

        async def release():
            while not carrier.letters:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            # Longer than the dispatch waits for a file that is held.
            await asyncio.sleep(3.0)
            blocker.execute("ROLLBACK")

        releasing = asyncio.create_task(release())
        await dispatched(
            road, carrier, lambda: road.outbox.deliveries(Sought(states=(DeliveryState.DELIVERED,)), limit=9)
        )
        await releasing
        return carrier

    carrier = asyncio.run(scenario())
    assert len(carrier.letters) == 1
    blocker.close()


def test_what_is_under_way_at_the_end_waits_again_and_what_was_answered_does_not(road):
    subscribe(road.outbox, "shop")
    road.say(("fast", "delivered"), ("slow", "delivered"))

    async def scenario():
        never = asyncio.Event()

        async def slow():
            await never.wait()
            return OK

        carrier = Shaky(lambda _address, letters: slow() if "slow" in str(letters[0].event.data.message) else OK)
        await dispatched(road, carrier, lambda: len(carrier.letters) == 2)

    asyncio.run(scenario())
    stepped = Stepped(road.outbox, lambda *_: OK)
    stepped.step()
    ids = [road.outbox.events([seq])[0].event.data.message.message_id for seq, _ in stepped.told["shop"]]
    assert ids == ["slow"]


def test_one_that_never_answers_slows_no_other_on_its_own_host(road):
    secrets = (SecretKept(new_secret()),)
    had = Counter()

    async def answer(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
                await reader.readexactly(length)
                path = head.split()[1].decode()
                had[path] += 1
                if path == "/fast":
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def scenario():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for name in ("fast", "hangs"):
            url = f"http://127.0.0.1:{port}/{name}"
            road.outbox.add(Subscriber(name=name, kind=Kind.WEBHOOK, address=url, secrets=secrets))
        road.say(*((f"m{number}", "delivered") for number in range(400)))
        webhook = Webhook(EventSettings(networks=(ip_network("127.0.0.0/8"),), plain_http=True))
        began = time.monotonic()
        await dispatched(road, webhook, lambda: had["/fast"] == 400)
        server.close()
        return time.monotonic() - began

    seconds = asyncio.run(scenario())
    assert had["/hangs"] == Manner().concurrency, "all that it may have are on their way"
    assert seconds < 8, "one of them takes fifteen"


def test_a_letter_says_that_it_is_a_replay(road):
    subscribe(road.outbox, "shop")
    road.say(("one", "delivered"))
    stepped = Stepped(road.outbox, lambda *_: OK)
    stepped.step()
    assert list(road.outbox.replay(Sought(states=(DeliveryState.DELIVERED,)))) == [1]
    carrier = Shaky(lambda *_: OK)
    asyncio.run(dispatched(road, carrier, lambda: carrier.letters))
    assert [(letter.is_replay, letter.attempt) for letter in carrier.letters] == [(True, 1)]


@pytest.mark.parametrize("count", [1, 21])
def test_events_that_are_too_old_go_when_everybody_has_them(road, count):
    subscribe(road.outbox, "shop")
    happen(road.data, count)
    stepped = Stepped(road.outbox, lambda *_: OK)
    assert road.outbox.retire(NOON_US + HOUR_US) == 0
    stepped.step()
    assert road.outbox.retire(NOON_US) == 0, "they are not older than that"
    assert road.outbox.retire(NOON_US + HOUR_US) == count - 1, "never the newest"
    assert road.outbox.newest() == count
