"""No descriptors left: who is connected is served, others when some are free, and nobody is kept busy by it."""

import os
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

# It wants the machine for itself.
pytestmark = pytest.mark.alone


FILES_MAX = 64
MORE_THAN_THERE_ARE = 120
LOOK_SECONDS = 2.0
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
SECONDS_MAX = 20


def test_with_no_descriptors_left_those_who_are_connected_are_served_and_others_when_some_are_free(start, until):
    landed = start(files_max=FILES_MAX)
    gate = landed.children()["gate"]
    with ExitStack() as stack, _connected(landed) as first:
        assert _is_served(first)
        others = [stack.enter_context(_connected(landed)) for _ in range(MORE_THAN_THERE_ARE)]
        served = [other for other in others if _is_served(other)]
        assert 10 < len(served) < FILES_MAX
        for other in set(others) - set(served):
            other.close()
        before = _busy_seconds(gate)
        turned_away = [stack.enter_context(_connected(landed)) for _ in range(MORE_THAN_THERE_ARE)]
        # A while in which to see whether it does anything.
        time.sleep(LOOK_SECONDS)
        assert _busy_seconds(gate) - before < LOOK_SECONDS / 4
        for other in turned_away:
            other.close()
        # Whoever is connected, and the journal, go on.
        assert all(_is_served(other) for other in [first, *served])
        assert landed.status_on(first, "m1") == 200
        for other in served:
            other.close()
        until(lambda: landed.status("m2") == 200)

    assert landed.children()["gate"] == gate
    landed.holds({"m1", "m2"})
    assert len(landed.events("descriptors.few")) == 1
    assert len(landed.said.splitlines()) < 50
    landed.leaves()


def _connected(landed):
    return closing(socket.create_connection(("127.0.0.1", landed.port), timeout=SECONDS_MAX))


def _is_served(connection):
    try:
        connection.sendall(HEALTH)
        return connection.recv(4_096).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def _busy_seconds(process):
    """The processor's time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
