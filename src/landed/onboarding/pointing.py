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
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec.structs import replace

from landed.errors import LandedError, Refused, SettingsError, SurroundingsError, Unanswered
from landed.files import PRIVATE, put
from landed.onboarding.addresses import Addresses
from landed.vonage.configuration import Configuration, Webhooks, webhooks_in

FILE, LOCK_FILE = "pointed.json", "pointed.lock"
READY = b"ready\n"
# Refusals that say nothing of the URLs.
NOT_OF_URLS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
# The guard asks Vonage four things at most; each has its time limit in settings.
GUARD_SECONDS_MAX = 120.0
START_SECONDS_MAX = 20.0
LOOK_AGAIN_SECONDS = 1.0


class Pointed(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed and what was there before; None for what was left alone.

    `messages_before` is the application's whole Messages capability, which it may not have had, and `messages` what it
    was made to. `is_settled` says that all changes were answered: before, one may still be under way at Vonage.
    """

    url: str
    api_key: str
    application_id: str | None = None
    messages_before: dict[str, Any] | None = None
    messages: dict[str, Any] | None = None
    application: Webhooks | None = None
    account_before: Webhooks | None = None
    account: Webhooks | None = None
    is_settled: bool = False


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was put back. `unset` are URLs of the account that Vonage did not take back, since nobody answers there."""

    unset: tuple[str, ...] = ()


def pointed_in(data: Path) -> Pointed | None:
    """What is, or was left, pointed elsewhere. SurroundingsError where it cannot be read."""
    try:
        return msgspec.json.decode((data / FILE).read_bytes(), type=Pointed)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
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

    What is refused is put back as far as it came. Where no answer came, a change may still be under way, and what was
    there stays on the disk for `restore`.
    """
    if pointed_in(data) is not None:
        raise SurroundingsError(f"Something is pointed already, by {data / FILE}: `landed tunnel --restore` first.")
    application = configuration.application(application_id) if application_id else None
    pointed = Pointed(
        url=addresses.base,
        api_key=configuration.api_key,
        application_id=application_id,
        messages_before=dict(application.messages) if application and application.messages is not None else None,
        application=addresses.application if application else None,
        account_before=configuration.webhooks() if has_sms else None,
        account=addresses.account if has_sms else None,
    )
    _keep(data, pointed)
    try:
        if application is not None:
            changed = configuration.change(application, webhooks=addresses.application)
            pointed = replace(pointed, messages=dict(changed.messages or {}))
        if has_sms:
            wanted = addresses.account
            echo = configuration.change_webhooks(receipts=wanted.receipts, inbound=wanted.inbound)
            _check_echo(echo, wanted)
    except Unanswered:
        raise
    except LandedError:
        with suppress(LandedError):
            restore(configuration, data)
        raise
    pointed = replace(pointed, is_settled=True)
    _keep(data, pointed)
    return pointed


def _check_echo(echo: Webhooks, wanted: Webhooks) -> None:
    if echo != wanted:
        raise SurroundingsError(
            f"Vonage took the account's URLs, but says that they are {echo.receipts or 'none'} and "
            f"{echo.inbound or 'none'}."
        )


def restore(configuration: Configuration, data: Path, *, settle_seconds: float = 0.0) -> Restored | None:
    """Put back what was pointed, where it still is as it was pointed; None when there is nothing to put back.

    A URL of the account's that does not answer any more is not taken back, and is unset: better than one of a tunnel,
    which may be given to somebody else. Refused or Unanswered where Vonage cannot be asked, or says no: then the file
    stays, for another try. Where a change may be under way it looks again and again, for so long.
    """
    pointed = pointed_in(data)
    if pointed is None:
        return None
    if pointed.api_key != configuration.api_key:
        raise SettingsError(
            f"What is pointed at a tunnel is of the account {pointed.api_key}, and these settings are of "
            f"{configuration.api_key}: run it with that account's key and secret."
        )
    until = time.monotonic() + (0.0 if pointed.is_settled else settle_seconds)
    unset = _put_back(configuration, pointed)
    while time.monotonic() < until:
        time.sleep(min(LOOK_AGAIN_SECONDS, settle_seconds))
        unset = tuple(sorted({*unset, *_put_back(configuration, pointed)}))
    (data / FILE).unlink(missing_ok=True)
    return Restored(unset=unset)


def _put_back(configuration: Configuration, pointed: Pointed) -> tuple[str, ...]:
    """Both, the one though the other may not be; then the first error."""
    wrong: list[LandedError] = []
    unset: tuple[str, ...] = ()
    try:
        if pointed.application_id is not None and pointed.application is not None:
            _restore_application(configuration, pointed.application_id, pointed, pointed.application)
    except LandedError as error:
        wrong.append(error)
    try:
        if pointed.account is not None and pointed.account_before is not None:
            unset = _restore_account(configuration, pointed.account, pointed.account_before)
    except LandedError as error:
        wrong.append(error)
    if wrong:
        raise wrong[0]
    return unset


def _restore_application(configuration: Configuration, application_id: str, pointed: Pointed, wanted: Webhooks) -> None:
    try:
        application = configuration.application(application_id)
    except Refused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            # Somebody deleted it: nothing is left to put back.
            return
        raise
    now = application.webhooks
    is_untouched = now == wanted and pointed.messages in (None, application.messages)
    before = webhooks_in(pointed.messages_before)
    back = Webhooks(
        receipts=before.receipts if now.receipts == wanted.receipts else now.receipts,
        inbound=before.inbound if now.inbound == wanted.inbound else now.inbound,
    )
    if is_untouched:
        configuration.restore(application, pointed.messages_before)
    elif back != now:
        # Somebody changed something of it meanwhile, and that stays.
        configuration.change(application, webhooks=back)


def _restore_account(configuration: Configuration, pointed: Webhooks, before: Webhooks) -> tuple[str, ...]:
    """Put back each of the account's webhooks by itself; those that Vonage did not take, since nobody answers there."""
    now, unset = configuration.webhooks(), []
    for name in ("receipts", "inbound"):
        was = getattr(before, name)
        if getattr(now, name) != getattr(pointed, name) or getattr(now, name) == was:
            continue
        try:
            configuration.change_webhooks(**{name: was})
        except Refused as error:
            if not was or error.status in NOT_OF_URLS or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            configuration.change_webhooks(**{name: ""})
            unset.append(was)
    return tuple(unset)


def _keep(data: Path, pointed: Pointed) -> None:
    try:
        put(data / FILE, msgspec.json.encode(pointed), PRIVATE)
    except OSError as error:
        raise SurroundingsError(
            f"{data / FILE} cannot be written ({error.strerror}), so nothing was pointed anywhere."
        ) from error


@contextmanager
def guarded(data: Path, configuration: Configuration) -> Iterator[None]:
    """Have a guard while it lasts, and what was pointed put back behind it; it outlives us, however we go."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "landed", "tunnel", "--guard", str(reading), "--data", str(data)]
    # In a session of its own, so that neither Ctrl-C nor a closed terminal reaches it.
    with subprocess.Popen(  # noqa: S603 - our own program
        command, pass_fds=(reading,), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    ) as guarding:
        os.close(reading)
        try:
            _wait_until_ready(guarding)
            yield
        finally:
            os.close(writing)
            try:
                guarding.wait(GUARD_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                guarding.kill()
                guarding.wait()
            if guarding.returncode < 0:
                # Somebody ended it, so it is ours to do.
                restore(configuration, data)


def guard(reading: int, data: Path, configuration: Configuration, *, settle_seconds: float) -> Restored | None:
    """Be the guard: hold the lock until the pipe's other end is closed, then put back. It says when it is ready."""
    with _locked(data):
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        while os.read(reading, 1):
            pass
        try:
            return restore(configuration, data, settle_seconds=settle_seconds)
        except LandedError as error:
            raise SurroundingsError(
                f"{error} Vonage still calls the tunnel: `landed tunnel --restore` puts its webhooks back."
            ) from error


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
        # It has said why, and one sentence is enough.
        raise SurroundingsError("")
