"""A mount in an application is reached through `landed tunnel` as a landed that serves is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

SECONDS_MAX = 30


@pytest.mark.parametrize("name", ["flask-waitress", "django", "fastapi"])
def test_vonage_is_pointed_at_an_application_that_mounts_landed(mount, vonage, name):
    account = vonage._simulator.account  # noqa: SLF001 - what is done to it is what is tested
    with mount(name, {"VONAGE_SIGNATURE_SECRET": vonage.signature_secret}) as mounted:
        url, said = f"http://127.0.0.1:{mounted.port}", mounted.directory / "tunnel"
        with said.open("wb") as output:
            tunnel = subprocess.Popen(
                [sys.executable, "-m", "landed", "tunnel", "--port", str(mounted.port), "--public-url", url],
                env=os.environ | {"LANDED_DATA": str(mounted.data)},
                cwd=mounted.directory,
                stdout=output,
                stderr=output,
            )
        deadline, tick = time.monotonic() + SECONDS_MAX, threading.Event()
        while "calls here while this runs" not in said.read_text():
            assert tunnel.poll() is None, said.read_text()
            assert time.monotonic() < deadline
            tick.wait(0.05)
        assert account.application.status_url == url + "/webhooks/message-status"
        assert account.settings.receipt_url == url + "/webhooks/delivery-receipt"
        tunnel.send_signal(signal.SIGINT)
        assert tunnel.wait(SECONDS_MAX) == 0
        assert (account.application.status_url, account.settings.receipt_url) == ("", "")
