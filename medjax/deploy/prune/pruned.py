"""A model without some of its units, in the place of the whole one."""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float

from medjax.deploy.prune.smaller import smaller
from medjax.deploy.prune.structure import Entries, Structure, analyse, cut

INTERMEDIATE = ("1/features",)  # of what a model gives, what nobody outside of it counts on


@dataclass(frozen=True)
class Pruned:
    """`init` and `apply` of a model whose parameters have lost `entries` (`Structure.entries`).

    The program is made anew for each size of image and each mesh, in a fraction of a second, and kept. aux:
    `features` have the channels that are left.
    """

    module: nn.Module
    entries: Entries
    made: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def init(self, rng: Any, image: Float[Array, "b d h w c"], train: bool) -> dict[str, Any]:
        """The variables of the whole model, without what is removed."""
        whole = self.module.init(rng, image, train)["params"]
        structure = structure_of(self.module, image)
        return {"params": cut(structure, whole, structure.removed(self.entries))}

    def apply(
        self,
        variables: Any,
        image: Float[Array, "b d h w c"],
        train: bool,
        present: Bool[Array, "b c"] | None = None,
        *,
        rngs: Any = None,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the model gives whose removed parameters are zero. Errors: see `Structure.removed`."""
        given = image, present, rngs
        kinds = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), given)
        key = train, str(kinds), str(jax.sharding.get_abstract_mesh())
        if key not in self.made:

            def whole(params: Any, image: Array, present: Array | None, rngs: Any) -> Any:
                own = {"params": params}
                return self.module.apply(own, image, train, present=present, rngs=rngs)

            shapes = shapes_of(self.module, image)
            found = analyse(whole, shapes, *kinds, shrinks=INTERMEDIATE)
            self.made[key] = smaller(found, found.removed(self.entries))
        return self.made[key](variables["params"], *given)


def shapes_of(module: nn.Module, image: Any) -> Any:
    """The abstract parameters of a module for images of this kind."""
    kind = jax.ShapeDtypeStruct(image.shape, image.dtype)
    key = jax.eval_shape(
        jax.random.key, 0
    )  # a real one would stand in a program that is being traced
    made = jax.eval_shape(lambda key, x: module.init(key, x, False), key, kind)
    return made["params"]


def structure_of(module: nn.Module, image: Any) -> Structure:
    """The structure of what a module gives in use: its outputs, without its intermediates."""
    kind = jax.ShapeDtypeStruct(image.shape, image.dtype)

    def fn(params: Any, image: Any) -> Any:
        return module.apply({"params": params}, image, False)[0]

    return analyse(fn, shapes_of(module, image), kind)
