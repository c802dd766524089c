"""Progress on the terminal for anything that takes longer than a moment."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
console = Console(highlight=False, soft_wrap=True)


def _columns(*more: TextColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        *more,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stdout.isatty(),
    )


def bar(description: str) -> Callable[[Iterable[T]], Iterator[T]]:
    """A function that walks a collection behind a progress bar; where no person watches, one line."""

    def walk(items: Iterable[T]) -> Iterator[T]:
        listed = list(items)
        if not sys.stdout.isatty():
            console.print(f"{description}: {len(listed)}")
        with _columns() as progress:
            yield from progress.track(listed, description=description)

    return walk


@contextmanager
def counter(description: str) -> Iterator[Callable[[int, int], None]]:
    """The same for work that reports `(done, total)` by itself."""
    with _columns() as progress:
        task = progress.add_task(description, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            if progress.disable and done == total:
                console.print(f"{description}: {total}")

        yield show


@contextmanager
def steps(total: int, done: int, *, lines: int = 20) -> Iterator[Callable[[int, str], Any]]:
    """A bar over training steps: call it with the step's number and the words to show beside it.

    Where no person watches, about `lines` plain lines are printed over the whole run instead.
    """
    every = max(1, total // lines)
    with _columns(TextColumn("{task.fields[words]}")) as progress:
        task = progress.add_task("training", total=total, completed=done, words="")

        def show(number: int, words: str) -> None:
            progress.update(task, completed=number, words=words)
            if progress.disable and (number % every == 0 or number == total):
                console.print(f"step {number}/{total}  {words}")

        yield show
