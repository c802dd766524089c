"""Signals: what they raise at once, and what is held back until it is asked for."""

import signal
import threading

import pytest

from medjax import interrupt


def send(number):
    signal.raise_signal(number)  # os.kill may reach another thread first, and later


def test_sigterm_is_an_interruption_of_its_own():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(interrupt.Preempted), interrupt.noticed():
        send(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, interrupt.Preempted)],
)
def test_the_first_signal_waits_and_the_second_does_not(number, raised):
    with interrupt.deferred() as act:
        act()
        send(number)
        with pytest.raises(KeyboardInterrupt) as caught:
            act()
        assert caught.type is raised
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_other_threads_handle_no_signals():
    seen = []

    def work():
        with interrupt.noticed(), interrupt.deferred() as act:
            act()
            seen.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
