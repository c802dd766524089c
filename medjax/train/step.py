"""The one train step: written for one replica with the named axis `data`, mapped last."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from medjax.ops.sharing import AXIS, grid, over
from medjax.train.optim import Rate
from medjax.train.state import Params, State

Batch = Mapping[str, Array]
Pairs = dict[str, tuple[Array, Array]]
Loss = Callable[[Params, dict, Batch, Array, Array], tuple[Pairs, dict]]
Gradients = Callable[[Params, dict, Batch, Array, Array], tuple[Params, dict[str, Array], dict]]
After = Callable[[State, State, Batch, Array], dict]


def differentiate(loss: Loss, weights: Mapping[str, float], *, accumulate: int = 1) -> Gradients:
    """The default `gradients` slot: differentiates a loss body that returns (sum, count) pairs.

    A body is `loss(params, extra, batch, key, progress) -> (pairs, extra)`; progress is the share of
    the run's steps that are done, from 0 to below 1, so that what depends on it fits every run.
    The objective is the weighted sum of the ratios named in `weights`; other pairs are only
    reported. The pairs are summed over the replicas inside the loss and the gradients averaged
    outside: right under `vmap`, `jax.pmap` and `jax.shard_map`, where averaging the gradients of
    local means is N times too large under shard_map's default check. With `accumulate` > 1 the
    replica's batch is split into that many parts that run in turn; the result is that of the whole
    batch, because the counts of all parts are known first (they hang on no parameter, so the
    compiler drops their forward passes).
    """

    def objective(params, extra, batch, key, progress, counts=None):
        pairs, extra = loss(params, extra, batch, key, progress)
        pairs = lax.psum(pairs, AXIS)
        means = {
            name: total / jnp.maximum(count if counts is None else counts[name], 1)
            for name, (total, count) in pairs.items()
        }
        total = sum((weights[name] * means[name] for name in weights), jnp.float32(0))
        return total, (means, extra)

    def counts_of(params, extra, batch, key, progress):
        pairs, _ = loss(params, extra, batch, key, progress)
        return lax.psum({name: pair[1] for name, pair in pairs.items()}, AXIS)

    value_and_grad = jax.value_and_grad(objective, has_aux=True)

    def whole(params, extra, batch, key, progress):
        (total, (means, extra)), grads = value_and_grad(params, extra, batch, key, progress)
        return lax.pmean(grads, AXIS), {"loss": total, **means}, extra

    def in_parts(params, extra, batch, key, progress):
        size = jax.tree.leaves(batch)[0].shape[0]
        if size % accumulate:
            raise ValueError(
                f"a batch of {size} per device cannot be split into {accumulate} parts"
            )
        part = size // accumulate
        stacked = jax.tree.map(lambda a: a.reshape(accumulate, part, *a.shape[1:]), dict(batch))
        parts = [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(accumulate)]
        counted = [counts_of(params, extra, p, key, progress) for p in parts]
        counts = jax.tree.map(lambda *c: sum(c), *counted)

        def body(carry, p):
            extra, grads, means = carry
            (total, (new, extra)), g = value_and_grad(params, extra, p, key, progress, counts)
            added = jax.tree.map(jnp.add, (grads, means), (g, {"loss": total, **new}))
            return (extra, *added), None

        zeros = jax.tree.map(jnp.zeros_like, (params, {"loss": jnp.float32(0), **counts}))
        (extra, grads, means), _ = lax.scan(body, (extra, *zeros), stacked)
        return lax.pmean(grads, AXIS), means, extra

    return whole if accumulate == 1 else in_parts


def average(old: State, new: State, _batch: Batch, _key: Array) -> dict:
    """The running mean of the weights, free of start-up bias (Tarvainen and Valpola 2017).

    The factor at step t is min(1 - 1/(t + 1), decay): a plain mean first, then exponential
    forgetting over a tenth of the run, and over no more than a thousand steps.
    """
    decay = jnp.clip(1 - 10 / old.horizon, 0.0, 0.999)
    alpha = jnp.minimum(1 - 1 / (old.step + 1), decay)
    mean = jax.tree.map(lambda m, p: alpha * m + (1 - alpha) * p, old.extra["ema"], new.params)
    return {**new.extra, "ema": mean}


def make_step(
    gradients: Gradients,
    optimizer: optax.GradientTransformation,
    rate: Rate,
    *afters: After,
) -> Callable[[State, Batch, Array], tuple[State, dict[str, Array]]]:
    """`step(state, batch, key) -> (state, means)` for one replica of the axis `data`.

    `key` is the run's own; the step folds its number in, and what is drawn per sample folds in the
    sample's global index, so a draw depends on neither the number of devices nor the resume.
    A step with a non-finite loss or gradient leaves everything but the step number as it was
    (`means["finite"]` is 0): the guard costs one pass over the parameters and no host read.
    """

    def step(state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        own, progress = jax.random.fold_in(key, state.step), state.step / state.horizon
        grads, means, extra = gradients(state.params, state.extra, batch, own, progress)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(means["loss"])
        updates, opt = optimizer.update(grads, state.opt, state.params)
        scale = rate(state.step, state.horizon)
        params = jax.tree.map(lambda p, u: p + (scale * u).astype(p.dtype), state.params, updates)
        new = State(state.step + 1, state.horizon, params, opt, extra)
        for after in afters:
            new = new.replace(extra=after(state, new, batch, own))
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        kept = kept.replace(step=state.step + 1)
        reported = {"learning_rate": scale, "gradient_norm": norm, "finite": finite}
        return kept, {**means, **{k: v.astype(jnp.float32) for k, v in reported.items()}}

    return step


def data_mesh(devices: int | None = None, space: int = 1) -> Mesh:
    """A mesh of all devices (or so many, as many of each process) along the axis `data`.

    The devices of a process are neighbours, so that what it reads is one piece of the batch; so many of them
    share each patch where `space` > 1.
    """
    share = (devices or jax.device_count()) // jax.process_count()
    chosen: dict[int, list[Any]] = {}
    for device in jax.devices():
        chosen.setdefault(device.process_index, []).append(device)
    return grid([device for process in sorted(chosen) for device in chosen[process][:share]], space)


def map_step(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compiles a replica's step over the mesh: batch split, state whole on each device and donated.

    The gradients above are right without shard_map's check of them (`ops.sharing.over`), and a test holds the
    mapped step against `jax.pmap` and against one device.
    """
    whole = PartitionSpec()
    return jax.jit(over(step, mesh, (whole, PartitionSpec(AXIS), whole), whole), donate_argnums=0)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The tree whole on every device of the mesh; of several processes, each must have the same one."""
    whole = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, whole)

    def put(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # which device_put keeps at home
            bits = jax.device_put(jax.random.key_data(leaf), whole)
            return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(leaf))
        return jax.device_put(leaf, whole)

    return jax.tree.map(put, tree)


def local(tree: Any) -> Any:
    """A replicated tree as this process alone can use it."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda a: a.addressable_data(0), tree)


def shard(batch: Any, mesh: Mesh) -> Any:
    """A host batch, or this process's part of it, split along its first axis over the mesh."""
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return jax.make_array_from_process_local_data(sharding, batch)
