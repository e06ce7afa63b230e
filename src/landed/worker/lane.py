"""One subscriber's queue: what may go out now, and what comes of what went. No I/O and no clock.

1. Each event is tried at most so often, at the times of `SCHEDULE_SECONDS`, spread a little; then it is dead.
2. Oldest first: what is due again goes before what is new.
3. A *breaker* for each: after so many failures on end, of which refusals weigh less, nothing goes out but a *probe*
   now and then, in turn one that waits and one that is new, since those that wait may be such as it never takes.
4. When one arrives after that, or after it failed for a while, it *catches up*: what failed since the failures began
   is tried again, oldest first, before anything new. If it fails again in that, it does not catch up the next time, so
   that what is never taken holds up nothing else.
5. A try before an event's own time is no attempt: nothing dies of a subscriber that was away.
6. Who asks to be left alone is, for as long as asked; who says that it is gone is not served any more.

What was taken from the outbox and not sent yet lies in a buffer of bounded length; whatever it says, the truth is the
row: a lane that ends gives back what it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import ceil

import msgspec
from msgspec.structs import replace

from landed.store.outbox import Ask, DeliveryState, How, Note, Subscriber, Taken
from landed.worker.letters import ANSWER_CHARACTERS_MAX, Answer

# From one attempt to the next. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
SCHEDULE_SECONDS: Sequence[int] = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
ATTEMPTS_MAX = len(SCHEDULE_SECONDS)
# Many that failed at once must not come back at once.
SPREAD_SHARE = 0.1

# More than are on their way at once as a rule. A refusal may be of that event alone, so it weighs a tenth, and that of
# one that was refused before nothing: events that are never taken must not look like a dead subscriber.
FAILURES_TO_OPEN = 20
REFUSALS_TO_OPEN = 200
OPEN_FIRST_SECONDS = 5.0
OPEN_LAST_SECONDS = 300.0
# Who gets little fails too seldom to open a breaker, and may have been away all the same.
AWAY_SECONDS = 60
UNTRIED_SECONDS = 1.0
BUFFERED_MAX = 256
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
NEVER_US = 2**63 - 1
# Of the failures of one subscriber; the rest is counted in the next line.
LOGGED_A_MINUTE_MAX = 10


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How a kind of subscriber is served: how many at once, how many together, how long from one to the next."""

    concurrency: int = 16
    together_max: int = 1
    every_seconds: float = 0.0

    @property
    def buffered_max(self) -> int:
        """How many are taken ahead."""
        return max(self.together_max, BUFFERED_MAX)


class Lane:
    """The queue of one subscriber. Times are microseconds since 1970; `random` gives numbers from 0 to below 1."""

    def __init__(self, subscriber: Subscriber, manner: Manner, random: Callable[[], float]) -> None:
        self.subscriber = subscriber
        self.failures = 0.0
        self._manner = manner
        self._random = random
        self._buffer: deque[Taken] = deque()
        self._flying = 0
        self._rests_until_us = self._seen_us = 0
        self._failing_since_us = 0
        # How often the breaker opened on end; the probe under way, and the event that the last one was of.
        self._opened = 0
        self._probes = False
        self._probed = 0
        self._probes_new = False
        # Behind which event it catches up; whether failures on end were of that, so that it does not the next time.
        self._catches_up_after: int | None = None
        self._failed_in_that = False
        self._has_all = False
        self._logged_in = self._logged = self._unsaid = 0

    @property
    def is_open(self) -> bool:
        """Whether the breaker keeps everything back but probes."""
        return self._opened > 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is on its way."""
        return not self._flying

    def ask(self, now_us: int) -> Ask | None:
        """What it could take from the outbox now."""
        self._heed_clock(now_us)
        if now_us < self._rests_until_us:
            return None
        if self.is_open:
            is_free = not self._flying and not self._buffer
            how = How.PROBE_NEW if self._probes_new else How.PROBE
            return Ask(subscriber=self.subscriber, count=1, how=how, after=self._probed) if is_free else None
        room = self._manner.buffered_max - len(self._buffer)
        # What goes out together is taken until it is full; of the rest, half of the buffer is enough.
        enough = 1 if self._manner.together_max > 1 else self._manner.buffered_max // 2
        if room < enough:
            return None
        if self._catches_up_after is None:
            return Ask(subscriber=self.subscriber, count=room)
        return Ask(
            subscriber=self.subscriber,
            count=room,
            how=How.CATCH_UP,
            after=self._catches_up_after,
            since_us=self._failing_since_us,
        )

    def put(self, ask: Ask, several: Sequence[Taken]) -> None:
        """Let these go out in their turn; they are what the outbox had for that ask."""
        self._buffer.extend(several)
        self._has_all = not several or len(self._buffer) >= self._manner.together_max
        if ask.how is How.CATCH_UP:
            self._catches_up_after = several[-1].kept.seq if several else None
        elif ask.how is not How.USUAL and several:
            self._probes_new = ask.how is How.PROBE
            is_new = not several[0].attempts and not several[0].due_us
            self._probed = self._probed if is_new else several[0].kept.seq

    def next(self, now_us: int) -> list[Taken]:
        """What is to go out now, together; empty where nothing may. Each must come back by `done`."""
        places = 1 if self.is_open else self._manner.concurrency
        if not self._buffer or self._flying >= places or now_us < self._rests_until_us:
            return []
        if self._manner.together_max > 1 and not (self._has_all or self.is_open):
            return []
        self._probes = self.is_open
        count = min(len(self._buffer), self._manner.together_max)
        self._flying += 1
        if self._manner.every_seconds:
            self._rests_until_us = now_us + round(self._manner.every_seconds * SECOND_US)
        return [self._buffer.popleft() for _ in range(count)]

    def done(self, several: Sequence[Taken], answer: Answer, now_us: int) -> list[Note]:
        """What is to be written of what went out together."""
        self._flying -= 1
        if answer.is_untried:
            self._probes = False
            # Who is told from time to time was not told, so that time does not count.
            rests_us = 0 if self._manner.every_seconds else self._rests_until_us
            self._rests_until_us = max(rests_us, now_us + round(UNTRIED_SECONDS * SECOND_US))
            return [_untried(taken) for taken in several] + self.give_back()
        is_early = not self._probes and any(taken.due_us > now_us for taken in several)
        self._failed_in_that = self._failed_in_that or is_early
        self._heed(several, answer, now_us)
        notes = [self._note(taken, answer, now_us) for taken in several]
        # What is older waits in the outbox now, and nothing but probes goes out, or nothing at all.
        return notes + self.give_back() if self.is_open or answer.is_gone else notes

    def may_log(self, now_us: int) -> int | None:
        """Whether a failure is told of in the log: so many a minute, and how many were not before; None if not."""
        minute = now_us // MINUTE_US
        if minute != self._logged_in:
            self._logged_in, self._logged = minute, 0
        self._logged += 1
        if self._logged > LOGGED_A_MINUTE_MAX:
            self._unsaid += 1
            return None
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid

    def give_back(self) -> list[Note]:
        """Let what did not go out yet wait again, as it did."""
        notes = [_untried(taken) for taken in self._buffer]
        self._buffer.clear()
        return notes

    def _heed_clock(self, now_us: int) -> None:
        """Rest as long as was meant, though the machine's clock was set back meanwhile."""
        back_us = self._seen_us - now_us
        if back_us > SECOND_US:
            self._rests_until_us = max(self._rests_until_us - back_us, 0)
            self._failing_since_us = min(self._failing_since_us, now_us)
        self._seen_us = now_us

    def _heed(self, several: Sequence[Taken], answer: Answer, now_us: int) -> None:
        """Open or close the breaker, and leave alone who asked for it."""
        if answer.taken:
            was_away = self.failures > 0 and now_us - self._failing_since_us >= AWAY_SECONDS * SECOND_US
            if self.is_open or was_away:
                self._catches_up_after = None if self._failed_in_that else 0
            self.failures, self._opened = 0.0, 0
            self._failed_in_that = self._probes = False
            return
        if answer.is_gone:
            self._rests_until_us = NEVER_US
        self._failing_since_us = self._failing_since_us if self.failures else now_us
        self.failures += _weight(several, answer)
        wait_seconds = answer.wait_seconds or 0.0
        if self.is_open or self.failures >= FAILURES_TO_OPEN:
            # Those that were on their way when it opened say nothing new.
            self._opened = self._opened + 1 if self._probes else max(self._opened, 1)
            self._catches_up_after = None
            open_seconds = min(OPEN_FIRST_SECONDS * 2.0 ** (self._opened - 1), OPEN_LAST_SECONDS)
            wait_seconds = max(wait_seconds, self._spread(open_seconds))
        self._probes = False
        self._rests_until_us = max(self._rests_until_us, now_us + ceil(wait_seconds * SECOND_US))

    def _note(self, taken: Taken, answer: Answer, now_us: int) -> Note:
        note = Note(
            subscriber=taken.subscriber,
            event=taken.kept.seq,
            state=DeliveryState.DELIVERED,
            attempts=taken.attempts + 1,
            at_us=now_us,
            said=answer.said[:ANSWER_CHARACTERS_MAX],
            took_us=round(answer.took_seconds * SECOND_US),
        )
        if answer.taken:
            return note
        note = replace(note, failed=True)
        if taken.due_us > now_us:
            return replace(note, state=DeliveryState.WAITING, attempts=taken.attempts, next_us=taken.due_us)
        if note.attempts >= ATTEMPTS_MAX:
            return replace(note, state=DeliveryState.DEAD)
        wait_seconds = max(self._spread(SCHEDULE_SECONDS[note.attempts]), answer.wait_seconds or 0.0)
        next_us = now_us + ceil(wait_seconds * SECOND_US)
        return replace(note, state=DeliveryState.WAITING, next_us=next_us)

    def _spread(self, seconds: float) -> float:
        return seconds * (1 + SPREAD_SHARE * self._random())


def _weight(several: Sequence[Taken], answer: Answer) -> float:
    """How much a failure says of the subscriber."""
    if not answer.is_refusal:
        return 1.0
    return FAILURES_TO_OPEN / REFUSALS_TO_OPEN if any(not taken.attempts for taken in several) else 0.0


def _untried(taken: Taken) -> Note:
    return Note(
        subscriber=taken.subscriber,
        event=taken.kept.seq,
        state=DeliveryState.WAITING,
        attempts=taken.attempts,
        next_us=taken.due_us,
    )
