"""What the doctor says of events: to whom they do not come, and what is dead. That nobody gets any is no fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from shlex import quote

from landed.onboarding.seen import Finding, Seen, SubscriberSeen
from landed.store.outbox import Backlog, Kind, Origin, SubscriberState

# So long an event is open without a fault; people may be told once an hour, as `digest_seconds` has it.
LATE_AFTER = timedelta(hours=1)
LATE_AFTER_OF: Mapping[Kind, timedelta] = {Kind.PEOPLE: timedelta(hours=2)}
PAUSED_FOR_LONG = timedelta(days=1)
NAMED_MAX = 5

# What to look at where events do not arrive.
LOOK_AT: Mapping[Kind, str] = {
    Kind.WEBHOOK: "Look at its log and at the way there; `landed events try delivered --subscriber {}` sends a sample.",
    Kind.NATS: "Look at the server and its log; `landed events try delivered --subscriber {}` sends a sample.",
    Kind.PEOPLE: "Look at the service and its token; `landed events try delivered --subscriber {}` sends a sample.",
    Kind.HANDLER: "Mend it, try it with `landed handlers FILE --try ID`, and restart what calls it.",
}
# How a subscriber is let go for good, by who named it.
LET_GO: Mapping[Origin, str] = {
    Origin.COMMAND: "run `landed events remove {}`",
    Origin.SETTINGS: "take it out of landed.toml, restart landed, and run `landed events remove {}`",
    Origin.HANDLERS: "take the handler out, restart the worker, and run `landed events remove {}`",
}
NAMED_NO_MORE: Mapping[Origin, str] = {
    Origin.COMMAND: "{} is gone",
    Origin.SETTINGS: "{} stands in landed.toml no more",
    Origin.HANDLERS: "There is no handler {} any more",
}


def _stopped(seen: Seen) -> Iterable[Finding]:
    for each in _in_state(seen, SubscriberState.STOPPED):
        since = "" if each.said_at is None else f" {_rounded(seen.now - each.said_at)} ago"
        yield Finding(
            name="subscriber-stopped",
            what=f"{each.name} was stopped{since}: {each.reason or 'by its own word'}; {_open(each.backlog)}.",
            why="Nothing is told to it until a person asks for it; what happens waits as long as events are kept.",
            do=f"Run `landed events resume {quote(each.name)}` when it wants them again, or {_let_go(each)}.",
        )


def _late(seen: Seen) -> Iterable[Finding]:
    # Where nobody dispatches, that is the fault.
    for each in _in_state(seen, SubscriberState.ACTIVE) if seen.worker_runs else ():
        waited = _waited(seen, each)
        if waited > LATE_AFTER_OF.get(each.kind, LATE_AFTER):
            how = f"{_open(each.backlog)}, the oldest for {waited}{_answer(seen, each)}"
            yield Finding(
                name="events-late",
                what=f"Events do not arrive at {each.name}: {how}.",
                why="It does not know what became of these messages, and after its last attempt an event is dead.",
                do=LOOK_AT[each.kind].format(quote(each.name)),
            )


def _dead(seen: Seen) -> Iterable[Finding]:
    dead = {each.name: each.backlog.dead for each in seen.subscribers if each.backlog.dead}
    if dead:
        of_whom = _listed([f"{count:,} of {name}" for name, count in dead.items()])
        yield Finding(
            name="dead-letters",
            what=f"{_events(sum(dead.values()))} dead: {of_whom}.",
            why="Each was tried as often as it may be, and is told again only when a person asks for it.",
            do="See them with `landed events dead`, mend what they say, then run `landed events replay`.",
            advice=True,
        )


def _paused(seen: Seen) -> Iterable[Finding]:
    for each in _in_state(seen, SubscriberState.PAUSED):
        waited = _waited(seen, each)
        if waited > PAUSED_FOR_LONG:
            yield Finding(
                name="subscriber-paused",
                what=f"{each.name} is paused, and events pile up: {_open(each.backlog)}, the oldest for {waited}.",
                why="It hears of them only when it goes on; until then they are kept, however many they are.",
                do=f"Run `landed events resume {quote(each.name)}`, or {_let_go(each)}.",
                advice=True,
            )


def _absent(seen: Seen) -> Iterable[Finding]:
    for each in _in_state(seen, SubscriberState.ABSENT):
        if each.backlog.waiting or each.backlog.unseen:
            yield Finding(
                name="subscriber-absent",
                what=f"{NAMED_NO_MORE[each.origin].format(each.name)}: {_open(each.backlog)}.",
                why="With a new name it is a new subscriber: what waits under the old one reaches nobody.",
                do=f"Put the old name back and restart landed, or run `landed events remove {quote(each.name)}`.",
                advice=True,
            )


def _plain(seen: Seen) -> Iterable[Finding]:
    names = [each.name for each in seen.subscribers if each.goes_plain and each.state is not SubscriberState.ABSENT]
    if names:
        yield Finding(
            name="webhook-plain",
            what=f"Events go by http:// to {_listed(names)}.",
            why="Phone numbers and texts go over the network for everybody on the way to read: signing hides nothing.",
            do="Give it a certificate, and name its https:// URL instead.",
            advice=True,
        )


def _in_state(seen: Seen, state: SubscriberState) -> Iterable[SubscriberSeen]:
    return (each for each in seen.subscribers if each.state is state)


def _waited(seen: Seen, subscriber: SubscriberSeen) -> timedelta:
    """How long the oldest event that is open has been so."""
    return _rounded(seen.now - (subscriber.backlog.oldest_at or seen.now))


def _open(backlog: Backlog) -> str:
    """How many wait, in the words of `landed events list`."""
    return f"{backlog.waiting:,} waiting, {backlog.unseen:,} unseen"


def _answer(seen: Seen, subscriber: SubscriberSeen) -> str:
    """What came of its last attempt, where there was one."""
    if subscriber.said_at is None:
        return ""
    return f"; the last attempt, {_rounded(seen.now - subscriber.said_at)} ago: {subscriber.said.rstrip('.')}"


def _let_go(subscriber: SubscriberSeen) -> str:
    return LET_GO[subscriber.origin].format(quote(subscriber.name))


def _events(count: int) -> str:
    return "One event is" if count == 1 else f"{count:,} events are"


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - NAMED_MAX:,} more" if len(words) > NAMED_MAX else ""
    return ", ".join(words[:NAMED_MAX]) + more


def _rounded(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds()))


CHECKS: Sequence[Callable[[Seen], Iterable[Finding]]] = (_stopped, _late, _dead, _paused, _absent, _plain)
