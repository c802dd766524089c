"""What synthetic patients are made with, and the compiled function that makes one."""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int16, UInt8

from medjax.data.convention import Convention
from medjax.data.layouts.conventions import CONVENTIONS
from medjax.errors import UserError
from medjax.sim import anatomy, tissue
from medjax.sim.scan import PLANES
from medjax.sim.shape import grid_affine, grid_shape
from medjax.sim.signal import CONTRASTS, PRESETS
from medjax.sim.subject import GROWTHS, make_subject

VERSION = 9  # of the generator: raise it with every change of what a seed gives
STYLES = ("physics", "random")
LARGE = 300  # numbers: longer arrays are described in a record, as the seed gives them again


@dataclass(frozen=True)
class Recipe:
    """Everything but seed and parent that decides what a patient is.

    `spacing` mm, isotropic; `fields` tesla to draw from; `contrasts` of `signal.PRESETS`; `growth` of
    `GROWTHS`; `style` physics, or random contrasts as SynthSeg's; `faults` the chance of an artefact
    in an image; `slices` the plane of thick ones, of `PLANES` or any; `head` keeps what lies around the
    brain. Errors name the key.
    """

    spacing: float = 2.0
    fields: tuple[float, ...] = (1.5, 3.0)
    contrasts: tuple[str, ...] = CONTRASTS
    growth: str = "two_species"
    style: str = "physics"
    faults: float = 0.1
    slices: str = "any"
    head: bool = False

    def __post_init__(self) -> None:
        grid_shape(anatomy.EXTENT, self.spacing)
        if not self.fields:
            raise UserError("synth.fields: is empty; give 1.5, 3.0 or both (tesla)")
        for field in self.fields:
            tissue.tissues(field)
        for key, chosen, known in (
            ("growth", (self.growth,), GROWTHS),
            ("style", (self.style,), STYLES),
            ("slices", (self.slices,), ("any", *PLANES)),
            ("contrasts", self.contrasts, PRESETS),
        ):
            strange = [name for name in chosen if name not in known]
            if strange or not chosen:
                named = ", ".join(map(repr, strange)) or "nothing"
                raise UserError(f"synth.{key}: {named} is unknown; choose of {', '.join(known)}")
        if len(set(self.contrasts)) < len(self.contrasts):
            raise UserError(f"synth.contrasts: {self.contrasts}: names one twice; give each once")
        if not 0 <= self.faults <= 1:
            raise UserError(f"synth.faults: {self.faults} is no probability; give 0 to 1")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the images."""
        return grid_shape(anatomy.VIEW if self.head else anatomy.EXTENT, self.spacing)

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """Voxel index -> RAS mm from the middle of the brain."""
        return grid_affine(self.shape, self.spacing)

    @property
    def convention(self) -> Convention:
        """What the values of the labels mean."""
        return CONVENTIONS["plaque" if self.growth == "plaques" else "brats2023"]

    def facts(self) -> dict[str, Any]:
        """The recipe as plain data."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True, eq=False)
class Patient:
    """One synthetic patient in RAS axes: images, label by `Recipe.convention`, what was drawn as JSON."""

    image: Int16[np.ndarray, "x y z c"]
    label: UInt8[np.ndarray, "x y z"]
    drawn: dict[str, Any]


@functools.lru_cache(maxsize=4)
def maker(recipe: Recipe) -> Callable[[int, int, anatomy.Anatomy], Patient]:
    """`make(seed, index, parent)`: patient number `index` of the family `seed`.

    Compiled once a recipe and process. The same arguments give the same bits on one kind of device.
    """

    def make(key: jax.Array, shares: jax.Array, depth: jax.Array) -> Any:
        return make_subject(
            key,
            anatomy.Anatomy(shares.astype(jnp.float32), depth, ""),  # many are kept in half
            shape=recipe.shape,
            spacing=recipe.spacing,
            contrasts=recipe.contrasts,
            fields=recipe.fields,
            faults=recipe.faults,
            plane=recipe.slices,
            growth=recipe.growth,
            randomised=recipe.style == "random",
            head=recipe.head,
        )

    compiled = jax.jit(make)

    def numbered(seed: int, index: int, parent: anatomy.Anatomy) -> Patient:
        key = jax.random.fold_in(jax.random.key(seed), index)
        made = jax.device_get(compiled(key, parent.shares, parent.depth))
        image = np.clip(made.image, 0, np.iinfo(np.int16).max).astype(np.int16)
        return Patient(image, made.label, plain(made.drawn))

    return numbered


def plain(tree: Any) -> Any:
    """Arrays as JSON can hold them; long ones as their shape and range."""
    if isinstance(tree, dict):
        return {name: plain(value) for name, value in tree.items()}
    array = np.asarray(tree)
    if array.size > LARGE:
        return {"shape": list(array.shape), "range": [float(array.min()), float(array.max())]}
    return array.tolist()
