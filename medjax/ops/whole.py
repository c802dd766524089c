"""Functions that stay whole in a traced program, so that exporters can put one operation in their place."""

from collections.abc import Callable
from typing import Any

import jax

PREFIX = "medjax."


def whole(name: str, fn: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
    """`fn` as a call of its own, named after what it is and its settings; compilers take it apart again."""

    def call(*args: Any) -> Any:
        return fn(*args)

    call.__name__ = PREFIX + " ".join([name, *(f"{k}={v}" for k, v in settings.items())])
    return jax.jit(call)


def recognise(name: str) -> tuple[str, dict[str, str]] | None:
    """What a call is and its settings, from its name; None of any other call."""
    if not name.startswith(PREFIX):
        return None
    kind, *settings = name.removeprefix(PREFIX).split(" ")
    return kind, dict(setting.split("=", 1) for setting in settings)
