"""What a paradigm gives to the one training loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medjax.data.augment import Motion
from medjax.train.loop import Validate
from medjax.train.state import State


@dataclass(frozen=True)
class Paradigm:
    """A step of one replica, the state before the first one, and what reading and reporting must know.

    groups: positions of training cases that take turns in the rows of a batch; () for all alike.
    Rows of one turn stay on one device. shown: the means beside the progress bar.
    """

    step: Callable[..., Any]
    start: State
    validate: Validate | None
    motion: Motion | None
    shown: tuple[str, ...]
    groups: Sequence[Sequence[int]] = ()

    @property
    def rows(self) -> int:
        """Rows of a batch that belong together."""
        return max(1, len(self.groups))
