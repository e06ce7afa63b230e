"""What a dispatch survives: a store that fails between two steps, clocks that jump, many subscribers, a resumption."""

import asyncio
import time
from contextlib import closing

import apsw
from msgspec.structs import replace

from landed import run
from landed.domain.events import EventType, Wanted
from landed.errors import StoreUnable
from landed.store.outbox import DeliveryState, Kind, Note, Sought, Subscriber, SubscriberState
from landed.store.rows import EVENT_NUMBERS
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker import dispatch as dispatching
from landed.worker.dispatch import ASKS_A_STEP, WAIT_US_MAX, Desk, Dispatch
from landed.worker.lane import SECOND_US, Manner
from landed.worker.letters import Answer

NOW_US = 1_800_000_000 * SECOND_US
DAY_US = 24 * 3_600 * SECOND_US
OK = Answer(taken=True, said="204")


def subscribe(outbox, name, **more):
    return outbox.add(Subscriber(name=name, kind=Kind.WEBHOOK, address=f"https://{name}.example", **more))


def happen(data, count, *, at_us=NOW_US, first=1):
    """So many events of which no message is needed."""
    with closing(apsw.Connection(str(run.store_path(data)))) as db:
        db.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2) "
            "INSERT INTO event SELECT n, n >> 16, n, ?3, ?4, '', 'hour ' || n, 0, 0, x'', "
            """'{"held": 1, "came": 1, "reasons": {}}' FROM numbers""",
            (first, first + count - 1, EVENT_NUMBERS[EventType.QUARANTINE], at_us),
        )


class Unable(SqliteOutbox):
    """Cannot be written, once, behind the step that took something."""

    failed = False

    def step(self, notes, asks, now_us):
        self.has_taken = super().step(notes, asks, now_us)
        return self.has_taken

    def wake(self, beyond_us):
        if getattr(self, "has_taken", None) and not self.failed:
            self.failed = True
            raise StoreUnable("The store cannot be written now.")
        super().wake(beyond_us)


class Taking:
    """Takes all, or waits for a sign first."""

    def __init__(self, waits=None):
        self.letters = []
        self._waits = waits

    async def carry(self, _address, _secrets, letters):
        self.letters += letters
        if self._waits is not None:
            await self._waits.wait()
        return OK

    async def close(self):
        """Nothing is open."""


def test_what_was_taken_before_the_store_could_not_be_written_is_brought_all_the_same(road, monkeypatch):
    # Each step tidies up, the first one with something in hand.
    monkeypatch.setattr(dispatching, "RETIRE_SECONDS", -1)
    subscribe(road.outbox, "shop")
    happen(road.data, 3)
    carrier, opened = Taking(), []

    def outbox():
        opened.append(Unable(run.store_path(road.data)))
        return opened[0]

    async def scenario():
        dispatch = Dispatch(outbox, {Kind.WEBHOOK: carrier}, {}, days=36_500)
        running = asyncio.create_task(dispatch.run())
        deadline = time.monotonic() + 10
        while len(carrier.letters) < 3 and time.monotonic() < deadline:  # noqa: ASYNC110 - rows, not events
            await asyncio.sleep(0.01)
        dispatch.leave()
        await running

    asyncio.run(scenario())
    assert opened[0].failed
    assert len(carrier.letters) == 3


def test_who_is_resumed_while_the_last_answer_is_on_its_way_is_served(road):
    shop = subscribe(road.outbox, "shop")
    happen(road.data, 2)
    desk = Desk({Kind.WEBHOOK: Manner(concurrency=2)}, lambda: 0.0)

    def step():
        desk.meet(road.outbox.subscribers())
        todo = desk.round(NOW_US)
        desk.got(todo, road.outbox.step(todo.notes, todo.asks, NOW_US), NOW_US)

    step()
    lane = desk.lanes[shop.row]
    slow, gone = lane.next(NOW_US), lane.next(NOW_US)
    desk.done(lane, gone, Answer(taken=False, said="410", is_gone=True), NOW_US)
    road.outbox.stop(shop.row, "gone")
    step()
    road.outbox.change(replace(shop, state=SubscriberState.ACTIVE))
    happen(road.data, 1, first=3)
    step()
    assert [taken.kept.seq for taken in desk.lanes[shop.row].next(NOW_US)] == [3]
    desk.done(lane, slow, OK, NOW_US)
    step()
    ((_, delivered),) = road.outbox.deliveries(Sought(states=(DeliveryState.DELIVERED,)), limit=9)
    assert delivered.event == 1


def test_two_hundred_that_want_nothing_keep_no_step_long_and_nobody_waiting(road):
    for number in range(200):
        subscribe(road.outbox, f"picky-{number}", wanted=Wanted(channels=("viber_service",)))
    shop = subscribe(road.outbox, "shop")
    happen(road.data, 3_000)
    desk = Desk({}, lambda: 0.0)
    desk.meet(road.outbox.subscribers())
    served, steps = 0, 0
    while served < 3_000:
        todo = desk.round(NOW_US)
        stood_back, taken = dispatching.stepped(road.outbox, todo, NOW_US)
        assert len(todo.asks) - len(stood_back) <= ASKS_A_STEP or steps, "the first step has work for all"
        desk.got(todo, taken, NOW_US, stood_back)
        while several := desk.lanes[shop.row].next(NOW_US):
            served += len(several)
            desk.done(desk.lanes[shop.row], several, OK, NOW_US)
        steps += 1
        assert steps < 1_000
    assert steps > 200 / ASKS_A_STEP


def test_what_waits_for_a_moment_that_no_waiting_can_reach_waits_no_more(road):
    shop = subscribe(road.outbox, "shop")
    happen(road.data, 2)
    todo = Desk({}, lambda: 0.0)
    todo.meet(road.outbox.subscribers())
    road.outbox.step([], todo.round(NOW_US).asks, NOW_US)
    soon, never = NOW_US + WAIT_US_MAX, NOW_US + 400 * DAY_US
    road.outbox.step(
        [
            Note(subscriber=shop.row, event=seq, state=DeliveryState.WAITING, attempts=1, next_us=next_us)
            for seq, next_us in ((1, soon), (2, never))
        ],
        [],
        NOW_US,
    )
    road.outbox.wake(NOW_US + WAIT_US_MAX)
    taken = road.outbox.step([], todo.round(NOW_US).asks, NOW_US)
    assert [each.kept.seq for each in taken] == [2]


def test_a_clock_that_is_far_ahead_for_a_moment_retires_nothing(road, monkeypatch):
    monkeypatch.setattr(dispatching, "RETIRE_SECONDS", -1)
    happen(road.data, 20)
    steps = []

    def now_us():
        steps.append(1)
        return NOW_US + 400 * DAY_US

    async def scenario():
        dispatch = Dispatch(lambda: SqliteOutbox(run.store_path(road.data)), {}, {}, days=30, now_us=now_us)
        running = asyncio.create_task(dispatch.run())
        deadline = time.monotonic() + 10
        while len(steps) < 5 and time.monotonic() < deadline:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        dispatch.leave()
        await running

    asyncio.run(scenario())
    assert len(road.outbox.events(range(1, 21))) == 20
