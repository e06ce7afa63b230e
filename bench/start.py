"""How long a person waits: for the help, and for a demo that was installed before to begin its work.

Run it with `make bench`. Seconds differ between machines; the ratio is to a bare Python's start.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 5
HELP_SECONDS_MAX = 0.35
DEMO_SECONDS_MAX = 3.0


def bare() -> float:
    """Seconds that Python takes to do nothing."""
    return _whole([sys.executable, "-c", "pass"])


def help_text() -> float:
    """Seconds of `landed --help`."""
    return _whole([sys.executable, "-m", "landed", "--help"])


def _whole(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def demo() -> float:
    """`landed demo`, until gate and worker answer and it begins to send; the clock stops there."""
    command = [sys.executable, "-u", "-m", "landed", "demo", "--messages", "1", "--print", "none"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        while "Sending" not in process.stdout.readline():
            pass
        seconds = time.perf_counter() - began
        process.terminate()
    return seconds


def main() -> None:
    """Print the medians, and what they should be below."""
    base = statistics.median(bare() for _ in range(ROUNDS))
    print(f"a person waits, median of {ROUNDS}, Python {sys.version.split()[0]}")
    for name, work, most in (("landed --help", help_text, HELP_SECONDS_MAX), ("landed demo", demo, DEMO_SECONDS_MAX)):
        seconds = statistics.median(work() for _ in range(ROUNDS))
        print(f"  {name:<15}{seconds:>6.2f} s   {seconds / base:>5.1f} of a bare start   to be below {most:.2f} s")


if __name__ == "__main__":
    main()
