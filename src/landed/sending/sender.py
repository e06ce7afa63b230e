"""One send, kept before it leaves and when its answer came; never repeated where the answer is unclear.

The intent is durable in the journal before the call, and what became of it after: sent with its message ids, not taken,
or unclear. Who finds an intent without an end knows that its process died between the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Protocol

import msgspec

from landed.domain.sending import SendState
from landed.errors import NotTaken, SurroundingsError, Unclear
from landed.journal import Journal
from landed.journal.record import Ids, IntentRecord, NotSentRecord, SentRecord, encode
from landed.journal.sqlite import FILE, SqliteJournal
from landed.settings import Settings
from landed.vonage.account import THROTTLED, Gateway, Outgoing, Taken
from landed.vonage.sdk import Credentials

# A send that Vonage puts off is tried again so often, each time after the wait that it asks for.
TRIES_MAX = 5
REF_PREFIX = "landed-"
USUAL_ACCOUNT = "default"


class Vonage(Protocol):
    """Whoever sends one message, once."""

    def check(self, outgoing: Outgoing) -> None:
        """SettingsError when it could not be sent at all."""

    def send(self, outgoing: Outgoing) -> Taken:
        """NotTaken when it was certainly not taken, Unclear when nobody can know."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a send. `reason` and `detail` are empty where all of it was taken."""

    state: SendState
    client_ref: str
    message_ids: tuple[str, ...] = ()
    workflow_id: str | None = None
    reason: str = ""
    detail: str = ""


class Sender:
    """Sends through a Vonage, with a journal that remembers it; for one account."""

    def __init__(
        self,
        journal: Journal,
        vonage: Vonage,
        account: str,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._journal = journal
        self._vonage = vonage
        self._account = account
        self._now_us = now_us
        self._wait = wait
        self._ids = Ids()

    def check(self, outgoing: Outgoing) -> None:
        """SettingsError when it could not be sent at all."""
        self._vonage.check(outgoing)

    def send(self, outgoing: Outgoing, *, batch: str = "", number: int = 0) -> Sent:
        """Send one message, and say what became of it. An empty client reference is given one of its own.

        SettingsError when it could not be sent at all, and JournalUnable when the intent could not be kept: nothing has
        left then.
        """
        self._vonage.check(outgoing)
        intent = self._ids.next()
        if not outgoing.client_ref:
            outgoing = msgspec.structs.replace(outgoing, client_ref=REF_PREFIX + intent.hex())
        self._keep(
            IntentRecord(
                id=intent,
                at_us=self._now_us(),
                account=self._account,
                api=outgoing.api,
                channel=outgoing.channel,
                to=outgoing.to,
                sender=outgoing.sender,
                client_ref=outgoing.client_ref,
                batch=batch,
                number=number,
            )
        )
        sent = self._sent(outgoing)
        if sent.message_ids:
            self._keep(*self._sent_records(intent, outgoing, sent.message_ids))
        if sent.state is not SendState.SENT:
            self._keep(self._not_sent_record(intent, sent))
        return sent

    def _sent(self, outgoing: Outgoing) -> Sent:
        """Send, and again where Vonage says that it did not take it and when it would."""
        for tries_left in range(TRIES_MAX - 1, -1, -1):
            try:
                taken = self._vonage.send(outgoing)
            except NotTaken as error:
                # Of a text of which a part was taken, no other try is made: that part would arrive twice.
                if error.reason == THROTTLED and tries_left and not error.taken:
                    self._wait(error.wait_seconds)
                    continue
                state = SendState.REFUSED
                return Sent(
                    state=state,
                    client_ref=outgoing.client_ref,
                    message_ids=error.taken,
                    reason=error.reason,
                    detail=str(error),
                )
            except Unclear as error:
                return Sent(state=SendState.UNCLEAR, client_ref=outgoing.client_ref, detail=str(error))
            return Sent(
                state=SendState.SENT,
                client_ref=outgoing.client_ref,
                message_ids=taken.message_ids,
                workflow_id=taken.workflow_id,
            )
        raise AssertionError("the last try ends in one way or another")

    def _sent_records(self, intent: bytes, outgoing: Outgoing, message_ids: tuple[str, ...]) -> list[SentRecord]:
        now_us, of = self._now_us(), len(message_ids)
        return [
            SentRecord(
                id=self._ids.next(),
                at_us=now_us,
                account=self._account,
                message_id=message_id,
                api=outgoing.api,
                channel=outgoing.channel,
                to=outgoing.to,
                sender=outgoing.sender,
                client_ref=outgoing.client_ref,
                sent_us=now_us,
                group=message_ids[0] if of > 1 else "",
                part=number if of > 1 else 0,
                parts=of if of > 1 else 0,
                intent=intent,
            )
            for number, message_id in enumerate(message_ids, 1)
        ]

    def _not_sent_record(self, intent: bytes, sent: Sent) -> NotSentRecord:
        return NotSentRecord(
            id=self._ids.next(),
            at_us=self._now_us(),
            account=self._account,
            intent=intent,
            unclear=sent.state is SendState.UNCLEAR,
            reason=sent.reason,
            detail=sent.detail,
        )

    def _keep(self, *records: IntentRecord | SentRecord | NotSentRecord) -> None:
        self._journal.append([encode(record) for record in records])


@contextmanager
def opened(settings: Settings) -> Iterator[Sender]:
    """A sender with the credentials and the journal of these settings."""
    credentials = Credentials.of(settings)
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SurroundingsError(
            f"The data directory {settings.data} cannot be written ({error.strerror}): name another with --data."
        ) from error
    with closing(SqliteJournal(settings.data / FILE)) as journal:
        yield Sender(journal, Gateway(credentials), account_of(settings))


def account_of(settings: Settings) -> str:
    """What the account that sends is called here: by its key where it is an `[[account]]`, else the usual one."""
    names = [each.name for each in settings.account if each.api_key and each.api_key == settings.vonage_api_key]
    return names[0] if names and not settings.vonage_signature_secret else USUAL_ACCOUNT
