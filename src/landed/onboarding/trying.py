"""Tries the way from outside: sends receipts of our own making to the public URL, and looks for them here.

They are kept as what they are and are never messages; where one ends up in quarantine it is taken out again.
"""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import apsw
import httpx
from msgspec.structs import replace

from landed.domain.receipt import Api
from landed.errors import LandedError
from landed.journal.quarantine import FILE as QUARANTINE_FILE
from landed.journal.quarantine import Held, SqliteQuarantine
from landed.journal.record import CheckRecord, decode
from landed.journal.sqlite import FILE as JOURNAL_FILE
from landed.journal.sqlite import SqliteJournal
from landed.onboarding.addresses import RECEIPT, STATUS, Addresses
from landed.onboarding.seen import Try
from landed.vonage.check import PREFIX, messages_check, sms_check
from landed.vonage.diagnosis import diagnose
from landed.vonage.request import Request
from landed.vonage.signing import Keyring, Windows

# Somebody waits for the answer.
SECONDS_MAX = 10.0
ROWS = 1_000
KINDS = ((ssl.SSLError, "tls"), (socket.gaierror, "dns"), (ConnectionRefusedError, "refused"))


class Trial:
    """Tries the way to the landed whose data directory this is, with what it trusts."""

    def __init__(self, data: Path, keyring: Keyring, windows: Windows) -> None:
        self._data = data
        self._keyring = keyring
        self._windows = windows
        self._nonce = secrets.token_hex(16)

    def of(self, addresses: Addresses) -> Iterator[Try]:
        """A receipt of each API, in the form that is the most delicate; the second only if there was an answer."""
        account = next((each for each in self._keyring.accounts if each.secrets), self._keyring.accounts[0])
        for api, path, made in ((Api.MESSAGES, STATUS, messages_check), (Api.SMS, RECEIPT, sms_check)):
            nonce = f"{self._nonce}-{api}"
            before, held_before = self._journal_end(), self._quarantine_end()
            tried = _sent(api, addresses.base + path, made(path, nonce, account, datetime.now(UTC)))
            if tried.fault:
                yield tried
                return
            tried = self._in_journal(before, tried, PREFIX + nonce)
            yield tried if tried.has_arrived else self._in_quarantine(held_before, tried, PREFIX + nonce)

    def _journal_end(self) -> int:
        with suppress(LandedError, apsw.Error, OSError), closing(self._journal()) as journal:
            return journal.last_position()
        return 0

    def _quarantine_end(self) -> int:
        end = 0
        with suppress(LandedError, apsw.Error, OSError), closing(self._quarantine()) as quarantine:
            while rows := quarantine.read(end, ROWS):
                end = rows[-1].id
        return end

    def _in_journal(self, after: int, tried: Try, check_id: str) -> Try:
        with suppress(LandedError, apsw.Error, OSError), closing(self._journal()) as journal:
            while rows := journal.read(after, ROWS):
                after = rows[-1][0]
                for _, encoded in rows:
                    record = decode(encoded)
                    if isinstance(record, CheckRecord) and record.check_id == check_id:
                        return replace(tried, has_arrived=True, is_stale=record.stale)
        return tried

    def _in_quarantine(self, after: int, tried: Try, check_id: str) -> Try:
        mark = check_id.encode()
        with suppress(LandedError, apsw.Error, OSError), closing(self._quarantine()) as quarantine:
            while rows := quarantine.read(after, ROWS):
                after = rows[-1].id
                for held in rows:
                    if mark in held.record.body or mark in held.record.query:
                        quarantine.remove([held])
                        return replace(tried, held_for=held.reason, diagnosis=self._diagnosis(held))
        return tried

    def _diagnosis(self, held: Held) -> str:
        """What is wrong with it, by what we trust; empty where nothing is."""
        came = held.record
        request = Request(method=came.method, path=came.path, query=came.query, headers=came.headers, body=came.body)
        first = diagnose(request, self._keyring, self._windows, datetime.now(UTC))[0]
        return "" if first.kind == "holds" else first.sentence

    def _journal(self) -> SqliteJournal:
        return SqliteJournal(_there(self._data / JOURNAL_FILE), only_read=True)

    def _quarantine(self) -> SqliteQuarantine:
        return SqliteQuarantine(_there(self._data / QUARANTINE_FILE))


def _there(file: Path) -> Path:
    """A file that is there; to look for something must not make it."""
    file.stat()
    return file


def _sent(api: Api, url: str, request: Request) -> Try:
    target = f"{url}?{request.query.decode()}" if request.query else url
    try:
        answer = httpx.request(
            request.method, target, content=request.body, headers=list(request.headers), timeout=SECONDS_MAX
        )
    except httpx.TimeoutException:
        return Try(api=api, url=url, fault="timeout", detail=f"{SECONDS_MAX:.0f} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Try(api=api, url=url, fault=_kind_of(error), detail=str(error))
    return Try(api=api, url=url, status=answer.status_code, location=answer.headers.get("location", ""))


def _kind_of(error: BaseException) -> str:
    """What kind of fault it is, by what lies beneath."""
    cause: BaseException | None = error
    while cause is not None:
        for kind, name in KINDS:
            if isinstance(cause, kind):
                return name
        cause = cause.__cause__ or cause.__context__
    # Several addresses of one name that all refuse come as one error without a cause.
    return "refused" if "All connection attempts failed" in str(error) else "other"
