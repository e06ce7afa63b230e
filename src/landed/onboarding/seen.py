"""What the doctor has to look at, and what it says of it: no I/O, and no judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from landed.domain.receipt import Api
from landed.journal.quarantine import Totals
from landed.onboarding.addresses import Addresses
from landed.store import Tally
from landed.store.outbox import Backlog, Kind, Origin, SubscriberState
from landed.vonage.configuration import Application, Number, Webhooks


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, or piece of advice, in three sentences."""

    name: str
    what: str
    why: str
    do: str
    advice: bool = False


class VonageSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What Vonage says of us.

    `trouble` is a sentence where it could not be asked, or not to the end; `refused`, that it does not know our key and
    secret; `has_sdk`, that there is something to ask it with. `key_fits` says whether our private key is the
    application's; None where there is none to compare. `at` is the time by Vonage's clock when it was `asked_at` ours.
    """

    asked_at: datetime
    trouble: str = ""
    refused: bool = False
    has_sdk: bool = True
    application: Application | None = None
    is_application_missing: bool = False
    key_fits: bool | None = None
    account: Webhooks | None = None
    numbers: tuple[Number, ...] | None = None
    balance: Decimal | None = None
    at: datetime | None = None


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt of our own making that was sent to the public URL.

    `fault` is why there was no answer: dns, refused, timeout, tls or other, with `detail`. `has_arrived` says whether
    it is in our journal; `held_for` is the gate's reason where it is in quarantine, `diagnosis` what is found there.
    """

    api: Api
    url: str
    fault: str = ""
    detail: str = ""
    status: int | None = None
    location: str = ""
    has_arrived: bool = False
    is_stale: bool = False
    held_for: str = ""
    diagnosis: str = ""


class SubscriberSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who gets events, and how it stands with them; without address and secrets.

    `said` is the newest answer to those events that still wait, given at `said_at`; None where none of them was tried.
    `goes_plain` says that events go there by http, over a network.
    """

    name: str
    kind: Kind = Kind.WEBHOOK
    state: SubscriberState = SubscriberState.ACTIVE
    reason: str = ""
    origin: Origin = Origin.COMMAND
    backlog: Backlog = Backlog()
    said: str = ""
    said_at: datetime | None = None
    goes_plain: bool = False


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there was to see. `unusable` has a sentence for each part that could not be looked at.

    `journal_requests` counts the request records up to the fold's position, counted in the journal
    itself; `waiting` those behind it. `newest_at` is the append time of the journal's last record,
    `oldest_waiting_at` that of the first one not folded. `delays` are how long the receipts of the last
    hour took by Vonage's clock and ours. `gates_kept` counts what gates say that they put into this
    very journal.
    """

    now: datetime
    data: str
    unusable: Mapping[str, str] = {}
    has_data: bool = True
    has_secrets: bool = False
    has_odd_secrets: bool = False
    sms_must_be_signed: bool = False
    journal_epoch: str | None = None
    store_epoch: str | None = None
    journal_position: int = 0
    fold_position: int = 0
    newest_at: datetime | None = None
    oldest_waiting_at: datetime | None = None
    worker_runs: bool = False
    gates_serving: int = 0
    gates_mounted: int = 0
    only_mounts: bool = False
    gates_kept: int = 0
    unverified: int = 0
    tally: Tally = msgspec.field(default_factory=Tally)
    journal_requests: int = 0
    waiting: int = 0
    journal_bytes: int = 0
    journal_bytes_max: int = 0
    free_bytes: int = 0
    free_bytes_min: int = 0
    quarantine: Totals | None = None
    quarantine_rows_max: int = 0
    quarantine_bytes_max: int = 0
    newest_verified_at: datetime | None = None
    sms_signed: int = 0
    sms_unsigned: int = 0
    delays: Sequence[timedelta] = ()
    # How many of the last messages that were sent had a receipt, and how many had none in good time.
    heard_sends: int = 0
    silent_sends: int = 0
    # How many of them were sent through one API, and had their receipts in the form of the other.
    messages_heard_as_sms: int = 0
    sms_heard_as_messages: int = 0
    uses_sms: bool = False
    subscribers: tuple[SubscriberSeen, ...] = ()
    # What the settings say of Vonage, which may be an offline one, and of us.
    has_credentials: bool = False
    application_id: str | None = None
    has_private_key: bool = False
    key_trouble: str = ""
    sender: str = ""
    is_real_vonage: bool = True
    # Where we are for Vonage; None where nobody said so. `left_pointed` is the URL of a tunnel that is no more,
    # `tunnel_trouble` a sentence where what it left cannot be read.
    addresses: Addresses | None = None
    left_pointed: str = ""
    tunnel_trouble: str = ""
    is_far_seen: bool = False
    vonage: VonageSeen | None = None
    tries: tuple[Try, ...] = ()

    @property
    def behind(self) -> int:
        """How many records wait to be folded; less than none when the journal went back."""
        return self.journal_position - self.fold_position


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """received = folded + duplicate + unreadable + waiting; counts of requests, the quarantined ones beside."""

    received: int
    folded: int
    duplicate: int
    unreadable: int
    waiting: int
    quarantined: int

    @property
    def is_even(self) -> bool:
        """Whether nothing was lost or counted twice."""
        return self.received == self.accounted

    @property
    def accounted(self) -> int:
        """What the sum comes to."""
        return self.folded + self.duplicate + self.unreadable + self.waiting


def ledger_of(seen: Seen) -> Ledger:
    """The sum of invariant 2: what the journal has received beside what the store made of it."""
    return Ledger(
        received=seen.journal_requests + seen.waiting,
        folded=seen.tally.folded,
        duplicate=seen.tally.duplicate,
        unreadable=seen.tally.unreadable,
        waiting=seen.waiting,
        quarantined=seen.quarantine.rows if seen.quarantine else 0,
    )
