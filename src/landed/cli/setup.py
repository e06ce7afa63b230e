"""`landed setup`: the account at Vonage and `landed.toml`, brought to where receipts come."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import Only, PublicUrl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from landed.onboarding.setup import Change, Setup, Wishes
    from landed.settings import Settings

EXIT_NO = 1
KEY_FILE = Path("private.key")


def setup(  # noqa: PLR0913 - one argument an option
    *,
    public_url: PublicUrl = None,
    application: Annotated[
        str | None, typer.Option(help="The application's id [the one of our key, else a new one].", metavar="ID")
    ] = None,
    name: Annotated[str, typer.Option(help="What a new application is called.")] = "landed",
    key: Annotated[Path, typer.Option(help="Where a new private key is kept.", metavar="FILE")] = KEY_FILE,
    new_key: Annotated[bool, typer.Option("--new-key", help="Give the application another key.")] = False,
    number: Annotated[str, typer.Option(help="A number of the account's, to link to the application.")] = "",
    buy_number: Annotated[
        str, typer.Option(help="Buy a number of that country, such as GB, where none is free.", metavar="CC")
    ] = "",
    only: Annotated[Only | None, typer.Option(help="Set up only this API.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Make the changes without asking, purchases too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes, and make none.")] = False,
) -> None:
    """Set up the account at Vonage and landed.toml, so that receipts come.

    Shows what it will change, and asks. Run again, it changes nothing, or goes on where it was interrupted.

    Example: landed setup --public-url https://hooks.example.com
    """
    from landed.domain.numbers import normal_number  # noqa: PLC0415
    from landed.errors import SettingsError  # noqa: PLC0415
    from landed.onboarding.addresses import Addresses  # noqa: PLC0415
    from landed.onboarding.setup import Setup, Wishes  # noqa: PLC0415
    from landed.settings import FILE, load  # noqa: PLC0415
    from landed.vonage.configuration import Configuration  # noqa: PLC0415
    from landed.vonage.sdk import Credentials  # noqa: PLC0415

    if number and buy_number:
        raise SettingsError("Give --number or --buy-number: one of yours, or a new one.")
    if not name.strip():
        raise SettingsError("An application has a name: give another --name.")
    settings = load(public_url=public_url)
    credentials, url = Credentials.of(settings), _url_of(settings)
    configuration = Configuration(credentials)
    wishes = Wishes(
        addresses=Addresses.of(url, settings.path_prefix),
        public_url=url,
        api_key=credentials.api_key or "",
        name=name,
        key_file=key,
        settings_file=Path(FILE),
        application_id=application or credentials.application_id,
        private_key=credentials.private_key,
        new_key=new_key,
        number=normal_number(number) or None,
        buy_country=buy_number.strip().upper() or None,
        has_messages=only is not Only.SMS,
        has_sms=only is not Only.MESSAGES,
    )
    setting_up = Setup(configuration, wishes)
    setting_up.look()
    changes = setting_up.changes()
    _show(changes, setting_up)
    if dry_run or not changes:
        _show_steps(settings, wishes)
        return
    if not yes and not _is_agreed(changes):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(EXIT_NO)
    _make(changes)
    _show_steps(settings, wishes)


def _url_of(settings: Settings) -> str:
    from landed.errors import SettingsError  # noqa: PLC0415

    if settings.public_url is None:
        raise SettingsError(
            "Where does Vonage reach landed? Give --public-url https://…, of your reverse proxy; or, to try it without "
            "one, run `landed serve --tunnel` in place of this."
        )
    return settings.public_url


def _show(changes: Sequence[Change], setting_up: Setup) -> None:
    if not changes:
        typer.echo("Everything is as it should be; nothing to change.")
    for number, change in enumerate(changes, 1):
        was = f"\n     (was {change.before})" if change.before else ""
        lines = change.what.replace("\n", "\n   ")
        typer.echo(f"{number}. {lines}{was}")
    for note in setting_up.notes():
        typer.echo(f"Note: {note}")


def _is_agreed(changes: Sequence[Change]) -> bool:
    from landed.errors import SettingsError  # noqa: PLC0415

    if sys.stdin is None or not sys.stdin.isatty():
        raise SettingsError("Nobody is there to be asked: look with --dry-run, then add --yes.")
    for change in changes:
        if change.cost and not typer.confirm(f"Really {change.what}?"):
            return False
    return typer.confirm(f"Make {'this change' if len(changes) == 1 else f'these {len(changes)} changes'}?")


def _make(changes: Sequence[Change]) -> None:
    """Make them one after the other; where one fails, the rest is left to the next run."""
    from landed.errors import LandedError  # noqa: PLC0415

    for number, change in enumerate(changes, 1):
        typer.echo(f"{number}/{len(changes)} {change.what.partition(chr(10))[0]} … ", nl=False)
        try:
            change.make()
        except LandedError:
            typer.echo("no")
            typer.echo(
                f"{number - 1} of {len(changes)} changes were made; the same command goes on from there.", err=True
            )
            raise
        typer.echo("done")


def _show_steps(settings: Settings, wishes: Wishes) -> None:
    from landed.gate.judge import keyring_of  # noqa: PLC0415
    from landed.onboarding.setup import steps_by_hand  # noqa: PLC0415

    has_secret = keyring_of(settings).has_secrets
    steps = list(steps_by_hand(has_messages=wishes.has_messages, has_sms=wishes.has_sms, has_secret=has_secret))
    typer.echo("\nWhat only its dashboard can do (https://dashboard.nexmo.com/settings):")
    for step in steps:
        typer.echo(f"  - {step}")
    typer.echo("\nThen: landed doctor, which looks whether a receipt can come.")
