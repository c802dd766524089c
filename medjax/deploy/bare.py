"""Annotations that mean nothing, for devices without jaxtyping."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Shape:
    """Stands in for `Float32` and its like: takes an array type and its axes."""

    def __class_getitem__(cls, item: Any) -> Any:
        """Any array."""
        return Any


class _Jaxtyping(ModuleType):
    """A module of which every name is a `_Shape`."""

    def __getattr__(self, name: str) -> Any:
        """The annotation of that name."""
        if name.startswith("__"):
            raise AttributeError(name)
        return _Shape


def stand_in() -> None:
    """Puts a stand-in where jaxtyping is not installed; where it is, nothing changes."""
    try:
        import_module("jaxtyping")
    except ModuleNotFoundError:
        sys.modules["jaxtyping"] = _Jaxtyping("jaxtyping")
