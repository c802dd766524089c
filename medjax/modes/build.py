"""From a config and a plan to what is trained: network, augmentation, update, step, first state."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from medjax.data.augment import Augmentation, Motion, default, spatial
from medjax.data.plan import Plan
from medjax.errors import UserError
from medjax.modes.defaults import Config
from medjax.nn.twin import Twin
from medjax.nn.unet import UNet
from medjax.train import optim, step
from medjax.train.state import State, create
from medjax.train.step import Loss


def dtype(config: Config) -> Any:
    """What networks compute in. Errors: an unknown precision."""
    precision = config.train.precision
    if precision not in ("auto", "float32", "bfloat16"):
        raise UserError(
            f"train.precision: {precision!r} is unknown; choose auto, float32 or bfloat16"
        )
    half = precision == "bfloat16" or (precision == "auto" and jax.default_backend() != "cpu")
    return jnp.bfloat16 if half else jnp.float32


def model(config: Config, plan: Plan) -> UNet | Twin:
    """The network of the plan with the config's blocks, two for `cps`; for `masked` it makes the channels.

    Errors name the key.
    """
    outputs = plan.channels if config.train.paradigm == "masked" else plan.groups
    make = partial(
        UNet,
        heads={"seg": len(outputs)},
        widths=plan.widths,
        kernels=plan.kernels,
        strides=plan.strides,
        dtype=dtype(config),
        axis=step.AXIS,
        **config.model,
    )
    return Twin(make) if config.train.paradigm == "cps" else make()


def optimizer(config: Config) -> optax.GradientTransformation:
    """The update rule of the config, for a rate of 1."""
    chosen = config.train
    return optim.optimizer(
        chosen.optimizer,
        weight_decay=chosen.weight_decay,
        clip=chosen.clip,
        momentum=chosen.momentum,
        beta1=chosen.beta1,
    )


def params(network: UNet | Twin, plan: Plan, seed: int) -> Any:
    """The weights at the start, a function of the seed; compiled without the forward pass."""
    image = jnp.zeros((1, *plan.patch, len(plan.channels)))
    return jax.jit(lambda key: network.init(key, image, False)["params"])(jax.random.key(seed))


def augmentation(config: Config, plan: Plan) -> tuple[Augmentation, Motion | None]:
    """The augmentation of the config and what its loader must know of it."""
    chosen = config.augment
    return default(
        plan.patch,
        plan.spacing,
        strength=chosen.strength,
        flips=None if chosen.flips else (),
        rotation=chosen.rotation,
        scale=tuple(chosen.scale),
        shear=chosen.shear,
        elastic=tuple(chosen.elastic) or None,
        probability_scanner=chosen.scanner,
    )


def flips(config: Config, plan: Plan) -> Augmentation:
    """The flips of the augmentation alone."""
    axes = [axis for axis in range(3) if plan.patch[axis] > 1] if config.augment.flips else ()
    return spatial(
        plan.patch,
        plan.spacing,
        flips=axes,
        probability_rotation=0.0,
        probability_scale=0.0,
        probability_elastic=0.0,
    )


def train_step(
    config: Config, loss: Loss, weights: Mapping[str, float], *, ema: bool
) -> Callable[..., Any]:
    """The step of a loss body with the config's update, for one replica."""
    chosen = config.train
    gradients = step.differentiate(loss, weights, accumulate=chosen.accumulate)
    rate = optim.schedule(chosen.schedule, peak=chosen.learning_rate, warmup=chosen.warmup)
    return step.make_step(gradients, optimizer(config), rate, step.average if ema else None)


def start(
    config: Config, plan: Plan, network: UNet | Twin, trained: Any = None, *, ema: bool
) -> State:
    """The state before the first step, with `trained` weights where they are given."""
    first = params(network, plan, config.seed) if trained is None else trained
    return create(first, optimizer(config), horizon=config.train.steps, ema=ema)
