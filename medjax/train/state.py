"""What a run carries from step to step: arrays and nothing else."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

Params = Any  # a pytree of arrays


class State(flax.struct.PyTreeNode):
    """The whole of a run between two steps, all arrays, so that it can be donated, saved and compared.

    `horizon` is the number of steps that the run will have: schedules follow it, and as an array it
    can be set after the step was compiled and timed. `extra` holds what a paradigm adds: the
    running mean of the weights ("ema"), a teacher, task weights. Model, optimizer and losses are
    closed over by the step: a new state never retraces it.
    """

    step: (
        Any  # int32 scalars; as of every pytree, a tree_map may put specs or shapes in their place
    )
    horizon: Any
    params: Params
    opt: Any
    extra: Any  # a dict; Orbax puts something else in the place of an empty one


def create(
    params: Params, optimizer: optax.GradientTransformation, *, horizon: int, ema: bool = True
) -> State:
    """The state before the first step; it owns its buffers, as a donated state must."""
    extra = {"ema": jax.tree.map(jnp.copy, params)} if ema else {}
    own = jax.tree.map(jnp.copy, params)
    return State(jnp.int32(0), jnp.int32(horizon), own, optimizer.init(params), extra)


def weights(state: State) -> Params:
    """The weights to judge and predict with: the running mean where one is kept."""
    return state.extra.get("ema", state.params)
