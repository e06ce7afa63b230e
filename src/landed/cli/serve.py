"""`landed serve`: the real job."""

from __future__ import annotations

import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from landed.cli.options import Data, PublicUrl, ShowNumbers, configure_logging
from landed.cli.tunnel import Domain, tell, wanted_of
from landed.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from landed.onboarding.tunnel import Wanted
    from landed.run import Parent
    from landed.settings import Settings


def serve(  # noqa: PLR0913 - one argument an option
    *,
    host: Annotated[str | None, typer.Option(help="Address of the public port [0.0.0.0].")] = None,
    port: Annotated[int | None, typer.Option(help="Public port: the webhooks [3000].")] = None,
    private_port: Annotated[int | None, typer.Option(help="Private port: page, health, metrics [3001].")] = None,
    data: Data = None,
    role: Annotated[str | None, typer.Option(help="all, gate or worker [all].")] = None,
    gates: Annotated[int | None, typer.Option(help="Processes that take webhooks [1].")] = None,
    print_: Annotated[
        str | None,
        typer.Option("--print", help="pretty, json, raw or none [pretty on a terminal, else json].", metavar="MODE"),
    ] = None,
    show_numbers: ShowNumbers = False,
    public_url: PublicUrl = None,
    tunnel: Annotated[
        bool, typer.Option("--tunnel", help="Point Vonage's webhooks here while it runs: by ngrok, or --public-url.")
    ] = False,
    domain: Domain = None,
    handlers: Annotated[
        str | None, typer.Option(help="Your own Python that hears events: a file, or a module.", metavar="FILE")
    ] = None,
    socket_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    parent_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Receive, keep and print delivery receipts.

    Each is kept before it is answered, and printed as it is understood.

    Example: landed serve --port 3000 --print pretty
    """
    from landed import run  # noqa: PLC0415
    from landed.settings import load  # noqa: PLC0415

    configure_logging()

    def read_settings() -> Settings:
        return load(
            host=host,
            port=port,
            private_port=private_port,
            data=data,
            role=role,
            gates=gates,
            print=print_,
            show_numbers=show_numbers or None,
            public_url=public_url,
            handlers=handlers,
        )

    settings = read_settings()
    if settings.role == "all" or (settings.role == "gate" and settings.gates > 1 and socket_fd is None):
        wanted = wanted_of(public_url, domain, None) if tunnel else None
        raise typer.Exit(run.run_parent(settings, lambda parent: _announced(settings, parent, wanted)))
    if tunnel:
        raise SettingsError("--tunnel needs a landed that owns its port: leave out --role, or give more --gates.")
    if socket_fd is None:
        # Whoever gave us a socket has seen to the files.
        run.prepare(settings.data)
    if settings.role == "gate":
        listening = _listening(socket_fd) or run.listen(settings.host, settings.port, "--port")
        raise typer.Exit(run.run_gate(settings, listening, parent_fd, read_settings))
    listening = _listening(socket_fd) or run.listen(settings.private_host, settings.private_port, "--private-port")
    raise typer.Exit(_work(settings, listening, parent_fd))


@contextmanager
def _announced(settings: Settings, parent: Parent, wanted: Wanted | None) -> Iterator[None]:
    """Say where it listens, and have the tunnel that is wanted."""
    from landed.onboarding.tunnel import tunnelled  # noqa: PLC0415

    announce(settings, parent)
    if wanted is None:
        if settings.public_url is not None:
            typer.echo(f"  public      {settings.public_url}{settings.path_prefix or ''}", err=True)
        yield
        return
    with tunnelled(settings, parent.port, wanted) as opened:
        tell(opened)
        yield


def announce(settings: Settings, parent: Parent) -> None:
    """Say where landed listens, and what a person should know now."""
    from landed import __version__  # noqa: PLC0415
    from landed.gate.judge import ANSWERS, keyring_of  # noqa: PLC0415

    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else _in_url(settings.host)  # noqa: S104 - compared
    checked = keyring_of(settings).has_secrets
    lines = [f"landed {__version__}"]
    prefix = settings.path_prefix or ""
    lines += [f"  webhook     http://{host}:{parent.port}{prefix}{path}" for path in ANSWERS]
    if parent.private is not None:
        lines.append(f"  private     http://{_in_url(settings.private_host)}:{parent.private_port}/")
    lines.append(f"  data        {settings.data}")
    if checked:
        lines.append("  signatures  checked")
    else:
        lines.append(
            "  signatures  NOT checked: everything is taken as unverified until VONAGE_SIGNATURE_SECRET is set"
        )
    typer.echo("\n".join(lines), err=True)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listening(number: int | None) -> socket.socket | None:
    return None if number is None else socket.socket(fileno=number)


def _work(settings: Settings, listening: socket.socket, parent_fd: int | None) -> int:
    from landed import run  # noqa: PLC0415
    from landed.cli.printing import Printer, mode_for  # noqa: PLC0415

    mode = mode_for(settings.print, sys.stdout)
    if mode == "none":
        return run.run_worker(settings, listening, parent_fd, None)
    with Printer(sys.stdout, mode, show_numbers=settings.show_numbers) as printer:
        return run.run_worker(settings, listening, parent_fd, printer.heard)
