"""Who gets events: an address is judged before anything goes there, and who is named no more is let alone.

Subscribers come from commands, from the settings' file and from the application's own handlers. The latter two are
brought to what they say at each start; what such a one has not got yet waits for it under its name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from msgspec.structs import replace

from landed.errors import SettingsError
from landed.settings import EventSettings
from landed.store.outbox import Kind, Origin, Subscriber, SubscriberState
from landed.store.sqlite_outbox import SqliteOutbox
from landed.worker.nats import read_nats_url
from landed.worker.people import read_people_url
from landed.worker.reach import read_url

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SCHEMES = {"http": Kind.WEBHOOK, "https": Kind.WEBHOOK, "nats": Kind.NATS, "tls": Kind.NATS}
SIGNED = frozenset({Kind.WEBHOOK})


def kind_of(address: str, settings: EventSettings) -> Kind:
    """What sort of address it is; SettingsError when nothing may or can go there."""
    kind = SCHEMES.get(address.partition(":")[0].strip().lower(), Kind.PEOPLE)
    if kind is Kind.WEBHOOK:
        read_url(address, plain_http=settings.plain_http, allowed=settings.networks)
    elif kind is Kind.NATS:
        read_nats_url(address)
    else:
        read_people_url(address)
    return kind


def check_name(name: str) -> str:
    """A name as people type it in commands; SettingsError when it is none."""
    if not NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name: letters, digits, and - . _ between them, 64 at most.")
    return name


def name_for(address: str, taken: Collection[str]) -> str:
    """A name by an address's host, or else its scheme, that is not taken."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        host = ""
    stem = re.sub(r"[^A-Za-z0-9._-]", "", host).strip("._-")[:48] or address.partition(":")[0][:48]
    stem = stem if NAME.fullmatch(stem) else "subscriber"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def enrol(outbox: SqliteOutbox, named: Iterable[Subscriber], origin: Origin) -> None:
    """Bring the subscribers of an origin to what it says now: new ones hear from the next event on."""
    known = {each.name: each for each in outbox.subscribers()}
    present = set()
    for subscriber in named:
        present.add(subscriber.name)
        kept = known.get(subscriber.name)
        if kept is None:
            outbox.add(subscriber)
            continue
        if kept.origin is not origin:
            raise SettingsError(
                f"There is a subscriber {subscriber.name!r} by another origin, {kept.origin}: give one of them another "
                "name, or remove it with `landed events remove`."
            )
        # Who was paused by a person stays so; who had left is back.
        state = SubscriberState.ACTIVE if kept.state is SubscriberState.ABSENT else kept.state
        changed = replace(subscriber, row=kept.row, state=state, reason=kept.reason, created_us=kept.created_us)
        if changed != kept:
            outbox.change(changed)
    for kept in known.values():
        if kept.origin is origin and kept.name not in present and kept.state is not SubscriberState.ABSENT:
            outbox.change(replace(kept, state=SubscriberState.ABSENT))
