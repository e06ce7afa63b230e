"""A worker that does not go on: the gate does, and all is folded when the worker does, too.

For as long as you like: `STOPPED_SECONDS=30 pytest --log-cli-level=INFO tests/failing/test_stopped.py`.
"""

import logging
import os
import signal
import time

import pytest

from landed import run

# It wants the machine for itself.
pytestmark = pytest.mark.alone


STOPPED_SECONDS = float(os.environ.get("STOPPED_SECONDS", "4"))
LAG_RECORDS_MAX = 100

log = logging.getLogger(__name__)


def test_while_the_worker_is_stopped_the_gate_goes_on_and_all_is_folded_afterwards(start, traffic, until):
    landed = start()
    children = landed.children()
    with traffic(landed.port) as sending:
        sending.goes_on()
        os.kill(children["worker"], signal.SIGSTOP)
        ends = time.monotonic() + STOPPED_SECONDS
        while time.monotonic() < ends:
            sending.goes_on()
            assert landed.health() == 200
        lag, size = landed.waiting(), run.journal_path(landed.data).with_name("journal.db-wal").stat().st_size
        os.kill(children["worker"], signal.SIGCONT)
        began = time.monotonic()
        until(lambda: landed.waiting() < LAG_RECORDS_MAX)
        log.info("%d records behind, %d bytes ahead: %.2f s", lag, size, time.monotonic() - began)

    assert lag > LAG_RECORDS_MAX
    assert set(sending.answers) <= {200, 204}
    assert landed.children() == children
    landed.holds(sending.answered)
    landed.leaves()
