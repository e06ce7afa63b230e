"""Who gets events: an address is judged before anything goes there, and who is named no more is let alone.

Subscribers come from commands, from the settings' file and from the application's own handlers. The latter two are
brought to what they say at each start; what such a one has not got yet waits for it under its name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
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
GENERIC = {
    **dict.fromkeys(("json", "xml", "form", "apprise"), "http"),
    **dict.fromkeys(("jsons", "xmls", "forms", "apprises"), "https"),
}
SIGNED = frozenset({Kind.WEBHOOK})
# How alike a scheme must be to one of these to be taken for a slip of the pen.
SCHEME_LIKENESS_MIN = 0.75
FORMS = "https://… for a webhook, nats://host/subject, or a URL of Apprise's such as mailto://… for people"


def kind_of(address: str, settings: EventSettings) -> Kind:
    """What sort of address it is; SettingsError when nothing may or can go there."""
    if "://" not in address:
        # Not said by those who read what stands behind it: each would miss its own scheme.
        raise SettingsError(f"The address begins with no scheme: write {FORMS}.")
    kind = SCHEMES.get(address.partition(":")[0].strip().lower(), Kind.PEOPLE)
    if kind is Kind.WEBHOOK:
        read_url(address, plain_http=settings.plain_http, allowed=settings.networks)
    elif kind is Kind.NATS:
        read_nats_url(address)
    else:
        _check_people(address)
        _check_generic(address, settings)
    return kind


def _check_people(address: str) -> None:
    try:
        read_people_url(address)
    except SettingsError as error:
        scheme = address.partition(":")[0].strip().lower()
        if close := get_close_matches(scheme, SCHEMES, n=1, cutoff=SCHEME_LIKENESS_MIN):
            raise SettingsError(f"Nothing goes to {scheme}://: {close[0]}:// is meant, perhaps.") from error
        raise


def _check_generic(address: str, settings: EventSettings) -> None:
    """Apprise's services that post to any URL are webhooks by another name, and may be given no more than those."""
    scheme, _, rest = address.strip().partition("://")
    same = GENERIC.get(scheme.lower())
    if same is not None:
        # What stands before the host is a name and a password there.
        authority, slash, path = rest.partition("/")
        plain = f"{same}://{authority.rpartition('@')[2]}{slash}{path}"
        read_url(plain, plain_http=settings.plain_http, allowed=settings.networks)


def check_name(name: str) -> str:
    """A name as people type it in commands; SettingsError when it is none."""
    if not NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name: letters, digits, and - . _ between them, 64 at most.")
    return name


def name_for(address: str, taken: Collection[str]) -> str:
    """A name by an address's host, or else its scheme, that is not taken."""
    scheme = address.partition(":")[0].strip().lower()
    try:
        # What stands there in a URL of Apprise's is often a token.
        host = urlsplit(address).hostname or "" if scheme in SCHEMES else ""
    except ValueError:
        host = ""
    stem = re.sub(r"[^A-Za-z0-9._-]", "", host).strip("._-")[:48] or scheme[:48]
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
        state, reason = _standing(kept, subscriber)
        changed = replace(subscriber, row=kept.row, state=state, reason=reason, created_us=kept.created_us)
        if changed != kept:
            outbox.change(changed)
    for kept in known.values():
        if kept.origin is origin and kept.name not in present and kept.state is not SubscriberState.ABSENT:
            outbox.change(replace(kept, state=SubscriberState.ABSENT))


def _standing(kept: Subscriber, named: Subscriber) -> tuple[SubscriberState, str]:
    """How it stands with one that is named again: who was paused by a person stays so; who had left is back.

    Who said that it is gone has said so of its address, and nothing of another one.
    """
    is_back = kept.state is SubscriberState.ABSENT
    has_moved = kept.state is SubscriberState.STOPPED and kept.address != named.address
    if is_back or has_moved:
        return SubscriberState.ACTIVE, ""
    return kept.state, kept.reason
