"""Signals: what they raise at once, and what is held back until it is asked for."""

import signal
import subprocess
import sys
import threading

import pytest

from medjax import interrupt

AT_ONCE = """
import signal
from medjax import interrupt
before = signal.getsignal(signal.SIGTERM)
try:
    with interrupt.noticed():
        signal.raise_signal(signal.SIGTERM)
except interrupt.Preempted:
    assert signal.getsignal(signal.SIGTERM) == before
    print("raised")
"""
DEFERRED = """
import signal, sys
from medjax import interrupt
with interrupt.deferred() as asked:
    assert asked() == 0
    signal.raise_signal(int(sys.argv[1]))
    print(type(interrupt.interruption(asked())).__name__)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("at once")
"""


def run(script, *arguments):
    """What a script prints in a process of its own: a signal may end one that runs tests."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_sigterm_is_an_interruption_of_its_own():
    assert run(AT_ONCE) == ["raised"]


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Preempted")],
)
def test_the_first_signal_waits_and_the_second_does_not(number, raised):
    assert run(DEFERRED, int(number)) == [raised, "at once"]


def test_other_threads_handle_no_signals():
    seen = []

    def work():
        with interrupt.noticed(), interrupt.deferred() as asked:
            seen.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]
