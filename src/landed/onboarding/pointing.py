"""Vonage's webhooks pointed at a public URL for a while, and put back as they were, also after a crash.

What was there is on the disk before anything is changed. While it lasts, a process of its own, the guard, holds a lock
and the reading end of a pipe: when the other end is closed, in whatever way its holder went, it puts everything back.
After a crash of the machine the next start does, or `landed tunnel --restore`. What somebody else changed meanwhile
stays as they wanted it.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import msgspec

from landed.errors import LandedError, Refused, SurroundingsError
from landed.files import PRIVATE, put
from landed.onboarding.addresses import Addresses
from landed.vonage.configuration import Application, Configuration, Webhooks

FILE, LOCK_FILE = "pointed.json", "pointed.lock"
READY = b"ready\n"
# Refusals that say nothing of the URLs.
NOT_OF_URLS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
# The guard asks Vonage four things at most; each has its time limit in settings.
GUARD_SECONDS_MAX = 120.0
START_SECONDS_MAX = 20.0


class Pointed(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed and what was there before; None for what was left alone.

    `messages_before` is the application's whole Messages capability, which it may not have had.
    """

    url: str
    application_id: str | None = None
    messages_before: dict[str, Any] | None = None
    application: Webhooks | None = None
    account_before: Webhooks | None = None
    account: Webhooks | None = None


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was put back. `unset` are URLs of the account that Vonage did not take back, since nobody answers there."""

    unset: tuple[str, ...] = ()


def pointed_in(data: Path) -> Pointed | None:
    """What is, or was left, pointed elsewhere. SurroundingsError where it cannot be read."""
    try:
        return msgspec.json.decode((data / FILE).read_bytes(), type=Pointed)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise SurroundingsError(
            f"{data / FILE}, which says where Vonage's webhooks led before, cannot be read ({error}): compare them "
            "with the dashboard, then remove the file."
        ) from error


def is_guarded(data: Path) -> bool:
    """Whether a guard holds what is pointed."""
    try:
        with (data / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def point(
    configuration: Configuration, addresses: Addresses, data: Path, *, application_id: str | None, has_sms: bool
) -> Pointed:
    """Point an application, and the account's SMS webhooks, at these addresses; the former are on the disk before.

    What fails is put back as far as it came, and raised.
    """
    application = configuration.application(application_id) if application_id else None
    account = configuration.webhooks() if has_sms else None
    pointed = Pointed(
        url=addresses.base,
        application_id=application_id,
        messages_before=dict(application.messages) if application and application.messages is not None else None,
        application=addresses.application if application else None,
        account_before=account,
        account=addresses.account if has_sms else None,
    )
    _keep(data, pointed)
    try:
        if application is not None:
            configuration.change(application, webhooks=addresses.application)
        echo = configuration.change_webhooks(addresses.account) if has_sms else addresses.account
        if echo != addresses.account:
            raise SurroundingsError(
                f"Vonage took the account's URLs, but says that they are {echo.receipts or 'none'} and "
                f"{echo.inbound or 'none'}."
            )
    except LandedError:
        with suppress(LandedError):
            restore(configuration, data)
        raise
    return pointed


def restore(configuration: Configuration, data: Path) -> Restored | None:
    """Put back what was pointed, where it still is as it was pointed; None when there is nothing to put back.

    A URL of the account's that does not answer any more is not taken back, and is unset: better than one of a tunnel,
    which may be given to somebody else. Refused or Unanswered where Vonage cannot be asked: then the file stays, for
    another try.
    """
    pointed = pointed_in(data)
    if pointed is None:
        return None
    if pointed.application_id is not None and pointed.application is not None:
        _restore_application(configuration, pointed)
    unset: tuple[str, ...] = ()
    if pointed.account is not None and pointed.account_before is not None:
        unset = _restore_account(configuration, pointed.account, pointed.account_before)
    (data / FILE).unlink(missing_ok=True)
    return Restored(unset=unset)


def _restore_application(configuration: Configuration, pointed: Pointed) -> None:
    try:
        application = configuration.application(pointed.application_id or "")
    except Refused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            # Somebody deleted it: nothing is left to put back.
            return
        raise
    if application.webhooks == pointed.application:
        configuration.restore(application, pointed.messages_before)
    elif pointed.application is not None:
        _restore_half(configuration, application, pointed.application, pointed.messages_before)


def _restore_half(
    configuration: Configuration, application: Application, pointed: Webhooks, before: dict[str, Any] | None
) -> None:
    """Put back the one of two addresses that nobody has changed since."""
    was = Application(id="", name="", public_key="", shown={"capabilities": {"messages": before or {}}}).webhooks
    now = application.webhooks
    wanted = _merged(now, pointed, was)
    if wanted != now:
        configuration.change(application, webhooks=wanted)


def _restore_account(configuration: Configuration, pointed: Webhooks, before: Webhooks) -> tuple[str, ...]:
    """Put the account's webhooks back; those that Vonage did not take."""
    now = configuration.webhooks()
    wanted = _merged(now, pointed, before)
    try:
        if wanted != now:
            configuration.change_webhooks(wanted)
    except Refused as error:
        if error.status in NOT_OF_URLS or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        unset = _merged(now, pointed, Webhooks())
        configuration.change_webhooks(unset)
        return tuple(sorted({wanted.receipts, wanted.inbound} - {unset.receipts, unset.inbound, ""}))
    return ()


def _merged(now: Webhooks, pointed: Webhooks, before: Webhooks) -> Webhooks:
    return Webhooks(
        receipts=before.receipts if now.receipts == pointed.receipts else now.receipts,
        inbound=before.inbound if now.inbound == pointed.inbound else now.inbound,
    )


def _keep(data: Path, pointed: Pointed) -> None:
    try:
        put(data / FILE, msgspec.json.encode(pointed), PRIVATE)
    except OSError as error:
        raise SurroundingsError(
            f"{data / FILE} cannot be written ({error.strerror}), so nothing was pointed anywhere."
        ) from error


@contextmanager
def guarded(data: Path) -> Iterator[None]:
    """Have a guard while it lasts, and what was pointed put back behind it; it outlives us, however we go."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "landed", "tunnel", "--guard", str(reading), "--data", str(data)]
    # In a session of its own, so that neither Ctrl-C nor a closed terminal reaches it.
    with subprocess.Popen(  # noqa: S603 - our own program
        command, pass_fds=(reading,), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    ) as guard:
        os.close(reading)
        try:
            _wait_until_ready(guard)
            yield
        finally:
            os.close(writing)
            try:
                guard.wait(GUARD_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                guard.kill()


def guard(reading: int, data: Path, configuration: Configuration) -> Restored | None:
    """Be the guard: hold the lock until the pipe's other end is closed, then put back. It says when it is ready."""
    with _locked(data):
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        while os.read(reading, 1):
            pass
        return restore(configuration, data)


@contextmanager
def _locked(data: Path) -> Iterator[IO[str]]:
    data.mkdir(parents=True, exist_ok=True)
    with (data / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SurroundingsError(
                f"Another tunnel runs on {data}, or is putting Vonage's webhooks back: wait, or stop it first."
            ) from error
        yield file


def _wait_until_ready(guard: subprocess.Popen[bytes]) -> None:
    if guard.stdout is None or not select.select([guard.stdout], [], [], START_SECONDS_MAX)[0]:
        raise SurroundingsError("The guard that puts Vonage's webhooks back did not start: try again.")
    if guard.stdout.readline() != READY:
        # It has said why.
        raise SurroundingsError("Nothing was pointed at the tunnel.")
