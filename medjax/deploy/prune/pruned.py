"""A model without some of its units, in the place of the whole one."""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float

from medjax.deploy.prune.smaller import smaller
from medjax.deploy.prune.structure import Entries, analyse

INTERMEDIATE = ("1/features",)  # of what a model gives, what nobody outside of it counts on


@dataclass(frozen=True)
class Pruned:
    """`apply` of a model whose parameters have lost `entries` (`Structure.entries`).

    shapes: of the whole parameters, abstract. The program is made anew for each size of image, in a fraction
    of a second, and kept. aux: `features` have the channels that are left.
    """

    model: nn.Module
    shapes: Any
    entries: Entries
    made: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

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

        def whole(params: Any, image: Array, present: Array | None, rngs: Any) -> Any:
            return self.model.apply({"params": params}, image, train, present=present, rngs=rngs)

        given = image, present, rngs
        kinds = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), given)
        key = train, str(kinds)
        if key not in self.made:
            found = analyse(whole, self.shapes, *kinds, shrinks=INTERMEDIATE)
            self.made[key] = smaller(found, found.removed(self.entries))
        return self.made[key](variables["params"], *given)
