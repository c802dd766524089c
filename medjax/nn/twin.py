"""Two networks of one kind that start apart, for each to teach the other."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from medjax.nn.blocks import Make


class Twin(nn.Module):
    """What `make` makes, twice, from other random weights; the first is the one that predicts.

    aux: in training `twin`, the outputs of the second, beside the intermediates of the first.
    """

    make: Make

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "b d h w c"],
        train: bool,
        present: Bool[Array, "b c"] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give outputs and intermediates of the first; the second is not run where it is not trained."""
        outputs, aux = self.make(name="first")(image, train, present)
        if train or self.is_initializing():
            second, _ = self.make(name="second")(image, train, present)
            aux = {**aux, "twin": second}
        return outputs, aux
