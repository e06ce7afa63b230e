"""Looks at a data directory for the doctor: journal, store, quarantine and disk, each by itself.

What cannot be read is said in a sentence, and the rest is looked at all the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import apsw
import msgspec
from msgspec.structs import replace

from landed.domain.lifecycle import Fact, Source
from landed.domain.moments import moment
from landed.domain.numbers import masked
from landed.domain.receipt import Api
from landed.errors import LandedError
from landed.journal.quarantine import FILE as QUARANTINE_FILE
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.record import decode
from landed.journal.sqlite import FILE as JOURNAL_FILE
from landed.journal.sqlite import SqliteJournal
from landed.onboarding.outside_findings import LOCAL_NAMES
from landed.onboarding.seen import Seen, SubscriberSeen
from landed.store import Tally
from landed.store.outbox import Backlog, DeliveryState, Kind, Sought, Subscriber
from landed.store.sqlite import FILE as STORE_FILE
from landed.store.sqlite import SqliteReader
from landed.store.sqlite_outbox import SqliteOutbox

# So many of the last receipts are looked at.
RECEIPTS = 1_000
LATELY = timedelta(hours=1)
# Networks take seconds, and some of them minutes.
SILENT_AFTER = timedelta(minutes=10)
# Of a subscriber's events that wait so many of the oldest are looked at for its last answer.
WAITING = 500
OPEN = (DeliveryState.WAITING, DeliveryState.TAKEN)

FILES: Mapping[str, str] = {"journal": JOURNAL_FILE, "store": STORE_FILE, "quarantine": QUARANTINE_FILE}


def look_at(data: Path, seen: Seen) -> Seen:
    """All that can be seen in the directory, put into `seen`; it changes nothing there."""
    seen = replace(seen, has_data=data.is_dir(), free_bytes=free_bytes(data))
    # The store before the journal, which goes on: so the fold is never ahead of what is seen of the journal.
    looks: Mapping[str, Callable[[Path, Seen], Seen]] = {
        "store": _store,
        "journal": _journal,
        "quarantine": _quarantine,
    }
    for part, look in looks.items():
        path = data / FILES[part]
        if not path.exists() and (part != "store" or not (data / JOURNAL_FILE).exists()):
            continue
        try:
            seen = look(path, seen)
        except (LandedError, apsw.Error, msgspec.MsgspecError, OSError) as error:
            seen = replace(seen, unusable={**seen.unusable, part: _sentence(path, error)})
    return seen


def file_bytes(data: Path) -> Mapping[str, int]:
    """The sizes of journal, store and quarantine, each with its write-ahead log, in bytes."""
    return {
        part: sum(_size(data / (file + suffix)) for suffix in ("", "-wal"))
        for part, file in FILES.items()
        if (data / file).exists()
    }


def free_bytes(data: Path) -> int:
    """How much room is left to us on the disk of a directory that may not be there yet."""
    existing = next(directory for directory in (data, *data.absolute().parents) if directory.is_dir())
    return shutil.disk_usage(existing).free


def _store(path: Path, seen: Seen) -> Seen:
    with closing(SqliteReader(path)) as reader:
        progress = reader.progress()
        facts = [kept.fact for kept, _ in reader.receipts_after(max(0, reader.newest_receipt() - RECEIPTS), RECEIPTS)]
    with closing(SqliteOutbox(path, only_read=True)) as outbox:
        subscribers = _subscribers(outbox)
    came = [fact for fact in facts if fact.source is Source.WEBHOOK]
    sms = [fact.receipt.verified for fact in came if fact.receipt.api is Api.SMS]
    return replace(
        seen,
        store_epoch=progress.epoch if progress else None,
        fold_position=progress.position if progress else 0,
        tally=progress.tally if progress else Tally(),
        newest_verified_at=max((fact.received_at for fact in came if fact.receipt.verified), default=None),
        sms_signed=sum(sms),
        sms_unsigned=len(sms) - sum(sms),
        delays=[delay for fact in came if (delay := _delay(fact, seen.now - LATELY)) is not None],
        uses_sms=any(fact.receipt.api is Api.SMS for fact in facts),
        subscribers=subscribers,
        **_heard(facts, seen.now - SILENT_AFTER),
    )


def _heard(facts: Sequence[Fact], before: datetime) -> dict[str, int]:
    """Of the messages among them that were sent before then: how many had a receipt, and in which API's form."""
    heard: dict[str, set[Api]] = {}
    for fact in facts:
        if fact.source is Source.WEBHOOK:
            heard.setdefault(fact.receipt.message_id, set()).add(fact.receipt.api)
    sent = [fact for fact in facts if fact.source is Source.SENT and fact.received_at < before]
    pairs = [(fact.receipt.api, heard.get(fact.receipt.message_id, set())) for fact in sent]
    return {
        "heard_sends": sum(bool(apis) for _, apis in pairs),
        "silent_sends": sum(not apis for _, apis in pairs),
        "messages_heard_as_sms": sum(api is Api.MESSAGES and Api.SMS in apis for api, apis in pairs),
        "sms_heard_as_messages": sum(api is Api.SMS and Api.MESSAGES in apis for api, apis in pairs),
    }


def _subscribers(outbox: SqliteOutbox) -> tuple[SubscriberSeen, ...]:
    """All there are; one that came or went meanwhile is left out."""
    several, backlogs = outbox.subscribers(), outbox.backlogs()
    return tuple(_subscriber(outbox, each, backlogs[each.row]) for each in several if each.row in backlogs)


def _subscriber(outbox: SqliteOutbox, subscriber: Subscriber, backlog: Backlog) -> SubscriberSeen:
    waiting = outbox.deliveries(Sought(states=OPEN, subscriber=subscriber.name), limit=WAITING)
    tried = [(each.at, each.said) for _, each in waiting if each.at is not None]
    said_at, said = max(tried, default=(None, ""))
    return SubscriberSeen(
        name=subscriber.name,
        kind=subscriber.kind,
        state=subscriber.state,
        reason=subscriber.reason,
        origin=subscriber.origin,
        backlog=backlog,
        # An application's own error may have numbers of phones in its text.
        said=masked(said) if subscriber.kind is Kind.HANDLER else said,
        said_at=said_at,
        goes_plain=_goes_plain(subscriber),
    )


def _goes_plain(subscriber: Subscriber) -> bool:
    """Whether others can read what goes there; on this machine nobody can who could not read the store."""
    parts = urlsplit(subscriber.address) if subscriber.kind is Kind.WEBHOOK else None
    if parts is None or parts.scheme != "http":
        return False
    try:
        return not ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname not in LOCAL_NAMES


def _delay(fact: Fact, since: datetime) -> timedelta | None:
    """How long a receipt took by Vonage's clock and ours, if both can be trusted in it."""
    receipt = fact.receipt
    made_at = receipt.pushed_at or receipt.occurred_at
    if made_at is None or not receipt.verified or receipt.zone_assumed or fact.received_at < since:
        return None
    return fact.received_at - made_at


def _journal(path: Path, seen: Seen) -> Seen:
    with closing(SqliteJournal(path, only_read=True)) as journal:
        position, last = seen.fold_position, journal.last_position()
        append_time = partial(_append_time, journal)
        return replace(
            seen,
            journal_epoch=journal.epoch,
            journal_position=last,
            newest_at=append_time(last - 1),
            oldest_waiting_at=append_time(position),
            journal_requests=journal.count_requests(0, position),
            waiting=journal.count_requests(position, last),
            journal_bytes=journal.used_bytes(),
        )


def _append_time(journal: SqliteJournal, after: int) -> datetime | None:
    """When the record behind that position was appended; None when there is none."""
    rows = journal.read(after, 1)
    return moment(decode(rows[0][1]).at_us) if rows else None


def _quarantine(path: Path, seen: Seen) -> Seen:
    with closing(SqliteQuarantine(path, only_read=True)) as quarantine:
        return replace(seen, quarantine=quarantine.totals())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sentence(path: Path, error: Exception) -> str:
    if isinstance(error, LandedError):
        return str(error)
    return f"{path} cannot be read ({error})."
