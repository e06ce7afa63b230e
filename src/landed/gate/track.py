"""The sending side's word that a message was sent, put into the journal by the application itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from landed.domain.moments import microseconds
from landed.domain.numbers import normal_number
from landed.domain.receipt import Api
from landed.errors import SettingsError, SurroundingsError
from landed.gate.judge import keyring_of
from landed.journal.record import Ids, SentRecord, encode
from landed.journal.sqlite import FILE, SqliteJournal
from landed.settings import Settings, load

MESSAGE_ID_CHARACTERS_MAX = 256
# The header of a concatenated SMS counts them in one byte.
PARTS_MAX = 255


def track(  # noqa: PLR0913 - what is known of a send, all but its id by name
    message_id: str | Sequence[str],
    *,
    api: str = "messages",
    channel: str = "sms",
    to: str | None = None,
    sender: str | None = None,
    client_ref: str | None = None,
    sent_at: datetime | None = None,
    account: str | None = None,
    data: Path | str | None = None,
) -> None:
    """Say that a message was sent: the id that Vonage gave it, before or after its receipts come.

    `api` is "messages" or "sms", `channel` as Vonage writes it, `sent_at` an aware datetime (now if
    None), `account` the name of the account (the first one if None), `data` the data directory. Numbers
    may be written with `+`, `00` and blanks. A long text through the SMS API goes out in parts, each with an id of its
    own: give all of them, in order, and landed tells what became of the whole.

    It returns when that is durable; a coroutine calls it in a thread. Any process may. Raises SettingsError for what
    is wrong in the call or the settings, SurroundingsError when the journal cannot be written now: the
    message was sent all the same, so do not send it again, and track it later.
    """
    settings = load(data=data)
    now_us = time.time_ns() // 1_000
    parts = _message_ids(message_id)
    ids = Ids()
    records = [
        SentRecord(
            id=ids.next(),
            at_us=now_us,
            account=_account(settings, account),
            message_id=part,
            api=_api(api),
            channel=channel.lower(),
            to=None if not to else normal_number(to),
            sender=None if not sender else normal_number(sender),
            client_ref=client_ref or None,
            sent_us=now_us if sent_at is None else _microseconds(sent_at),
            group=parts[0] if len(parts) > 1 else "",
            part=number if len(parts) > 1 else 0,
            parts=len(parts) if len(parts) > 1 else 0,
        )
        for number, part in enumerate(parts, 1)
    ]
    with _making(settings.data), closing(SqliteJournal(settings.data / FILE)) as journal:
        journal.append([encode(record) for record in records])


@contextmanager
def _making(data: Path) -> Iterator[None]:
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SurroundingsError(
            f"The data directory {data} cannot be written ({error.strerror}): name another."
        ) from error
    yield


def _message_ids(given: str | Sequence[str]) -> list[str]:
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    parts = [_message_id(each) for each in several]
    if not 0 < len(parts) <= PARTS_MAX or len(set(parts)) < len(parts):
        raise SettingsError(f"A text has 1 to {PARTS_MAX} parts, each with an id of its own; {len(parts)} were given.")
    return parts


def _message_id(message_id: str) -> str:
    if not isinstance(message_id, str) or not message_id.strip() or len(message_id) > MESSAGE_ID_CHARACTERS_MAX:
        raise SettingsError(f"{message_id!r} is no message id: give the one in Vonage's answer to your send.")
    return message_id


def _api(api: str) -> Api:
    try:
        return Api(api)
    except ValueError:
        raise SettingsError(f"{api!r} is no API: it is one of {', '.join(Api)}.") from None


def _account(settings: Settings, account: str | None) -> str:
    keys = keyring_of(settings)
    names = {each.name for each in keys.accounts}
    if account is not None and settings.account and account not in names:
        raise SettingsError(f"{account!r} is no account in the settings: it is one of {', '.join(sorted(names))}.")
    return account or keys.default


def _microseconds(sent_at: datetime) -> int:
    if sent_at.tzinfo is None:
        raise SettingsError(f"sent_at {sent_at} has no zone: give an aware datetime.")
    return microseconds(sent_at)
