"""What the log shows on a terminal when something of ours goes wrong."""

import re

import structlog

from landed.cli.options import configure_logging


class Terminal:
    """An error output that somebody looks at."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        """It is there at once."""


def test_a_stack_of_calls_shows_no_values(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    before = structlog.get_config()
    secret = "whsec_" + "MYSECRET"
    try:
        configure_logging()
        try:
            secret[len(secret)]
        except IndexError:
            structlog.get_logger("landed.test").exception("carrier.failed")
    finally:
        structlog.configure(**before)
    assert "carrier.failed" in terminal.text
    assert "test_logging.py" in terminal.text
    # In the source it stands in two parts.
    assert secret not in re.sub("\x1b\\[[0-9;]*m", "", terminal.text)
