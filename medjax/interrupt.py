"""Ctrl-C and SIGTERM: what they raise, and how a loop holds them back until its state is whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Preempted(KeyboardInterrupt):
    """SIGTERM: the machine is wanted back. No fault of the run, which goes on elsewhere or later."""


def interruption(number: int) -> KeyboardInterrupt:
    """What a signal raises."""
    return Preempted() if number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def noticed() -> Iterator[None]:
    """SIGTERM raises `Preempted`, as Ctrl-C raises KeyboardInterrupt; not outside the main thread."""

    def note(number: int, frame: Any) -> None:
        raise interruption(number)

    with _handled(note, signal.SIGTERM):
        yield


@contextmanager
def deferred() -> Iterator[Callable[[], int]]:
    """Holds the first Ctrl-C or SIGTERM back: the function given says its number, 0 before; a second acts.

    A step in flight has given its state away: only between two steps is there a whole one to save.
    """
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        if asked:
            raise interruption(number)
        asked.append(number)

    with _handled(note, signal.SIGINT, signal.SIGTERM):
        yield lambda: asked[0] if asked else 0


@contextmanager
def _handled(note: Callable[[int, Any], None], *numbers: int) -> Iterator[None]:
    """Gives signals to `note`, and afterwards to whom they went before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
