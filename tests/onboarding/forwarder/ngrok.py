"""A stand-in for ngrok's own SDK, whose service is on the internet: the same functions, and a local forwarder."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

_open = {}


class Listener:
    """What forwards from a port of its own to an address."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self._there = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self._url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self):
        return self._url

    def close(self):
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                here, _ = self._server.accept()
                there = socket.create_connection(self._there)
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(source, target):
    with suppress(OSError):
        while piece := source.recv(65_536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def forward(addr=None, *, authtoken_from_env=False, **_options):
    """Open a tunnel; as ngrok's does, it wants a token."""
    if not (authtoken_from_env and os.environ.get("NGROK_AUTHTOKEN")):
        raise ValueError("failed to connect session", "authentication failed: no token")
    listener = Listener(addr)
    _open[listener.url()] = listener
    return listener


def disconnect(url=None):
    """Close it."""
    _open.pop(url).close()
