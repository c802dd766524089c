"""Optimizers and schedules by name, with the defaults of nnU-Net (SGD) and of AdamW."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from medjax.errors import UserError

Rate = Callable[[Int[Array, ""], Int[Array, ""]], Float[Array, ""]]


def schedule(name: str, *, peak: float, warmup: int = 0) -> Rate:
    """Learning rate by (step, horizon): a linear rise over `warmup` steps to `peak`, then the decay.

    `poly` is (1 - t)^0.9 (Chen 2017; nnU-Net), `cosine` goes to 0 along half a wave (Loshchilov and
    Hutter 2017), `constant` stays, `late_linear` stays for half the way and then goes straight to 0
    (Zhu 2017). The run's length is an argument, not a constant, so that the
    step compiled to time itself also runs the training whose length was timed. Errors: an unknown
    name.
    """
    shapes: dict[str, Callable[[Array], Array]] = {
        "poly": lambda t: (1 - t) ** 0.9,
        "cosine": lambda t: 0.5 * (1 + jnp.cos(jnp.pi * t)),
        "constant": jnp.ones_like,
        "late_linear": lambda t: jnp.minimum(1.0, 2 * (1 - t)),
    }
    if name not in shapes:
        raise UserError(f"train.schedule: {name!r} is unknown; choose one of {', '.join(shapes)}")
    shape = shapes[name]

    def rate(step: Int[Array, ""], horizon: Int[Array, ""]) -> Float[Array, ""]:
        rise = jnp.minimum((step + 1) / (warmup + 1), 1.0)
        t = jnp.clip((step - warmup) / jnp.maximum(horizon - warmup, 1), 0.0, 1.0)
        return peak * rise * shape(t)

    return rate


def optimizer(
    name: str,
    *,
    weight_decay: float = 0.0,
    clip: float = 12.0,
    momentum: float = 0.99,
    beta1: float = 0.9,
) -> optax.GradientTransformation:
    """`sgd` (Nesterov, L2 in the gradient, as nnU-Net) or `adamw` (decoupled decay), for a rate of 1.

    The step scales what it returns by the schedule's rate. `momentum` is of sgd, `beta1` of adamw.
    `clip` bounds the global norm of the gradient; 0 leaves it free. Errors: an unknown name.
    """
    bound = optax.clip_by_global_norm(clip) if clip > 0 else optax.identity()
    if name == "sgd":
        rule = optax.chain(
            optax.add_decayed_weights(weight_decay), optax.trace(momentum, nesterov=True)
        )
    elif name == "adamw":
        rule = optax.chain(optax.scale_by_adam(beta1), optax.add_decayed_weights(weight_decay))
    else:
        raise UserError(f"train.optimizer: {name!r} is unknown; choose sgd or adamw")
    return optax.chain(bound, rule, optax.scale(-1.0))
