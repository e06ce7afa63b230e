"""A stand-in for ngrok's own SDK, whose service is on the internet: its names, and a forwarder on this machine.

Put this directory on PYTHONPATH, and `import ngrok` is this. A test that wants a road it can close takes `Forwarder`.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

HOST = "127.0.0.1"
PIECE_BYTES = 65_536
STOP_SECONDS = 10.0

_forwarders = {}


class Forwarder:
    """Carries bytes from a fresh port to an address, until it is stopped, which ends what it carries."""

    def __init__(self, address, name=HOST):
        host, _, port = str(address).rpartition(":")
        self._there = (host or HOST, int(port))
        self._listening = socket.create_server((HOST, 0))
        self.address = f"{name}:{self._listening.getsockname()[1]}"
        self._lock = threading.Lock()
        self._open = set()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def url(self):
        return f"http://{self.address}"

    def stop(self):
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join(STOP_SECONDS)
        with self._lock:
            ends = list(self._open)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                with self._lock:
                    self._open.add(here)
                threading.Thread(target=self._carry, args=(here,), daemon=True).start()

    def _carry(self, here):
        with here, suppress(OSError), socket.create_connection(self._there) as there:
            with self._lock:
                self._open.add(there)
            back = threading.Thread(target=_pump, args=(there, here), daemon=True)
            back.start()
            _pump(here, there)
            back.join()
            with self._lock:
                self._open -= {here, there}


def _pump(source, target):
    with suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def forward(addr=None, *, authtoken_from_env=False, domain=None):
    """Open a tunnel; without a token it raises what ngrok 1.4 raises."""
    if not (authtoken_from_env and os.environ.get("NGROK_AUTHTOKEN")):
        raise ValueError("failed to connect session", "authentication failed: no authtoken was given")
    forwarder = Forwarder(addr, domain or HOST)
    _forwarders[forwarder.url()] = forwarder
    return forwarder


def disconnect(url=None):
    """Close the tunnel of that URL, or all of them."""
    for each in [url] if url else list(_forwarders):
        _forwarders.pop(each).stop()
