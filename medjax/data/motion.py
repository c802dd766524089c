"""Between loader and augmentation: which samples move, and how much to read for them."""

from typing import NamedTuple

Triple = tuple[int, int, int]


class Motion(NamedTuple):
    """What the loader must know of an augmentation that moves space, to read no more than it needs.

    crop: shape of what is read around the patch of a sample that moves.
    probabilities: how often a sample is turned, scaled, bent: drawn here, so that the loader knows.
    """

    crop: Triple
    probabilities: tuple[float, float, float]
