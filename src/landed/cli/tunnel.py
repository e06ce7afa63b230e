"""`landed tunnel`: a public URL for a landed that runs here, and Vonage pointed at it while it lasts."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import Data, Only

if TYPE_CHECKING:
    from landed.onboarding.pointing import Restored
    from landed.onboarding.tunnel import Tunnel, Wanted
    from landed.settings import Settings

HEALTH_SECONDS_MAX = 5.0
TEND_SECONDS = 0.1

TunnelUrl = Annotated[
    str | None,
    typer.Option("--public-url", help="A URL that leads here already: cloudflared's, a reverse proxy's …"),
]
Domain = Annotated[str | None, typer.Option(help="A domain of yours at ngrok [a new one].")]


def tunnel(  # noqa: PLR0913 - one argument an option
    *,
    port: Annotated[int | None, typer.Option(help="The public port of the landed that runs [3000].")] = None,
    public_url: TunnelUrl = None,
    domain: Domain = None,
    only: Annotated[Only | None, typer.Option(help="Point only this API's webhooks at it.")] = None,
    data: Data = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Only put back what a tunnel left behind when its machine crashed.")
    ] = False,
    guard: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Give a running landed a public URL, and point Vonage's webhooks at it while this runs.

    They are put back as they were when it ends, however it ends.

    Example: landed tunnel --port 3000
    """
    from landed.onboarding.tunnel import tunnelled  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415

    settings = load(data=data, port=port)
    if guard is not None or restore:
        _put_back(settings, guard)
        return
    wanted = wanted_of(public_url, domain, only)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: stopping.append(received))
    _look_for_landed(settings)
    with tunnelled(settings, settings.port, wanted) as opened:
        tell(opened)
        while not stopping:
            time.sleep(TEND_SECONDS)


def wanted_of(public_url: str | None, domain: str | None, only: Only | None) -> Wanted:
    """Which tunnel is wanted. SettingsError for a URL that is none."""
    from landed.onboarding.tunnel import Wanted  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415

    # Judged as the setting of that name is.
    url = load(public_url=public_url).public_url if public_url is not None else None
    return Wanted(url=url, domain=domain, has_messages=only is not Only.SMS, has_sms=only is not Only.MESSAGES)


def tell(opened: Tunnel) -> None:
    """Say where it leads, and what was pointed at it."""
    addresses, pointed = opened.addresses, opened.pointed
    lines = [f"  tunnel      {addresses.application.receipts}", f"  tunnel      {addresses.account.receipts}"]
    if pointed is None:
        lines.append("  Vonage      not asked: set VONAGE_API_KEY and VONAGE_API_SECRET, or give it these URLs by hand")
    else:
        what = [f"application {pointed.application_id}"] if pointed.application is not None else []
        what += ["the account's SMS webhooks"] if pointed.account is not None else []
        lines.append(f"  Vonage      calls here while this runs: {' and '.join(what)}")
    typer.echo("\n".join(lines), err=True)


def _look_for_landed(settings: Settings) -> None:
    """SurroundingsError where nothing answers on the port that is to be reached."""
    import httpx  # noqa: PLC0415

    from landed.errors import SurroundingsError  # noqa: PLC0415
    from landed.onboarding.addresses import Addresses  # noqa: PLC0415

    # As Vonage looks before it saves an address; an application that mounts landed has this, too.
    url = Addresses.of(f"http://127.0.0.1:{settings.port}", settings.path_prefix).account.receipts
    try:
        answer = httpx.get(url, timeout=HEALTH_SECONDS_MAX, trust_env=False)
        said = "" if answer.is_success else f"it answers {answer.status_code}"
    except httpx.HTTPError as error:
        said = str(error)
    if said:
        raise SurroundingsError(
            f"No landed answers at {url} ({said}): start `landed serve` first, or both with `landed serve --tunnel`."
        )


def _put_back(settings: Settings, guarding: int | None) -> None:
    from landed.errors import SurroundingsError  # noqa: PLC0415
    from landed.onboarding import pointing  # noqa: PLC0415
    from landed.vonage.configuration import Configuration  # noqa: PLC0415
    from landed.vonage.sdk import Credentials  # noqa: PLC0415

    if guarding is None:
        found = pointing.pointed_in(settings.data)
        if found is not None and pointing.is_guarded(settings.data):
            raise SurroundingsError(f"A tunnel runs on {settings.data}: it puts them back itself when it ends.")
        restored = pointing.restore(Configuration(Credentials.of(settings)), settings.data) if found else None
    else:
        # Whoever ends everything at once, as a service manager does, leaves us the time to do this.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        credentials = Credentials.of(settings)
        configuration = Configuration(credentials)
        restored = pointing.guard(guarding, settings.data, configuration, settle_seconds=credentials.seconds_max)
    _tell_restored(restored, settings.data, is_guard=guarding is not None)


def _tell_restored(restored: Restored | None, data: Path, *, is_guard: bool) -> None:
    if restored is not None:
        but = ", but for:" if restored.unset else "."
        typer.echo(f"Vonage's webhooks are as they were before the tunnel{but}", err=True)
        for url in restored.unset:
            typer.echo(
                f"  {url}: nobody answers 200 there any more, so Vonage does not take it back, and nothing is "
                "set in its place. Set it in the dashboard once it answers.",
                err=True,
            )
    elif not is_guard:
        typer.echo(f"Nothing is left to put back in {data}.", err=True)
