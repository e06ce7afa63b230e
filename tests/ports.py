"""Ports for programs that are told theirs."""

import random
import socket

# Below those that systems give to whoever asks for any, as each connection of another test does.
FIRST, LAST = 20_000, 32_000


def free_port():
    """A port of this machine that nobody listens on, and that nobody is given unasked."""
    while True:
        port = random.randrange(FIRST, LAST)  # noqa: S311 - nothing secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
