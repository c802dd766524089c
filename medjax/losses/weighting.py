"""Learned task weights: how much each task of a step counts, decided by the losses themselves.

A rule gives weights w (held constant) for the gradient sum_i w_i grad L_i, and then moves its own state;
no weight is a parameter of the network, so that neither its optimizer nor its clipping nor its weight
decay touches it.

What does not work, and why: to learn w by descent on sum_i w_i L_i. The gradient of w_i is L_i > 0, so w_i
falls in every step, the hardest task's fastest; after w_i / (rate L_i) steps (15 for w = 1, a rate of 0.1
and L = 0.7) it is below 0 and the task's loss is maximised from there on, without end. A rule needs a
term that holds the weights up, a constraint, or another objective than the sum.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

Tasks = Float[Array, " tasks"]
Seen = Bool[Array, " tasks"]
RATE = 0.025  # how far a state moves in a step (that of FAMO's Adam: Liu and others 2023)
TINY = 1e-8


class Look(NamedTuple):
    """What a step knows of its tasks: the mean `losses` (> 0) of those `seen` in its batch.

    `later` are the losses of the same batch after the step, `norms` those of the gradients of each loss
    for the weights that all tasks share; zeros for a rule that does not ask for them.
    """

    losses: Tasks
    seen: Seen
    later: Tasks
    norms: Tasks


class Rule(NamedTuple):
    """`start` is the state before the first step, `weights(state, losses, seen)` what each task counts.

    `update(state, look)` gives the state after a step; a task that is not seen keeps its own. `asks` for
    "later" or "norms", which cost a forward pass, or a backward pass a task.
    """

    start: Any
    weights: Callable[[Any, Tasks, Seen], Tasks]
    update: Callable[[Any, Look], Any]
    asks: str = ""


def static(weights: Sequence[float]) -> Rule:
    """The same weights in every step; equal ones are the baseline that every other rule must beat."""
    fixed = jnp.array(weights, jnp.float32)
    return Rule((), lambda state, losses, seen: fixed, lambda state, look: state)


def uncertainty(scales: Sequence[float], *, rate: float = RATE, bound: float = 4.0) -> Rule:
    """Homoscedastic uncertainty (Kendall, Gal and Cipolla 2018): sum_i k_i exp(-s_i) L_i + s_i / 2.

    `scales` k: 1 for the loss of a classification or segmentation, 1/2 for that of a regression. The
    state is s = log sigma^2, moved down its gradient by at most `rate` a step and within +- `bound`. It
    rests where exp(s) = 2 k L: the weight is 1 / (2 L), and the scale of a loss does not matter. Losses
    must be above 0 (1 - Dice, not -Dice): a negative one has no resting place and drives s to its bound.
    """
    k = jnp.array(scales, jnp.float32)

    def weights(s: Any, losses: Tasks, seen: Seen) -> Tasks:
        return k * jnp.exp(-s)

    def update(s: Any, look: Look) -> Any:
        # Clipped, not by Adam: the first slopes of a loss 100 times too large would brake it for long.
        slope = jnp.clip(1 - 2 * weights(s, look.losses, look.seen) * look.losses, -1, 1)
        return jnp.where(look.seen, jnp.clip(s - rate * slope, -bound, bound), s)

    return Rule(jnp.zeros_like(k), weights, update)


def famo(tasks: int, *, rate: float = RATE, decay: float = 1e-3) -> Rule:
    """FAMO (Liu and others 2023): the logarithms of all losses shall fall equally fast.

    The weights are z_i / L_i with z = softmax(state), scaled so that their sum is the number of tasks
    seen. After the step the state falls where a logarithm fell faster than the z-weighted mean of all,
    by Adam with a weight decay. Losses must be above 0.
    """
    adam = optax.chain(optax.add_decayed_weights(decay), optax.adam(rate))

    def shares(state: Any, seen: Seen) -> Tasks:
        return jnp.where(seen, jax.nn.softmax(state["logits"], where=seen), 0)

    def weights(state: Any, losses: Tasks, seen: Seen) -> Tasks:
        pull = shares(state, seen) / jnp.maximum(losses, TINY)
        return seen.sum() * pull / jnp.maximum(pull.sum(), TINY)

    def update(state: Any, look: Look) -> Any:
        before, after = (jnp.log(jnp.maximum(x, TINY)) for x in (look.losses, look.later))
        fell = jnp.where(look.seen, before - after, 0)
        z = shares(state, look.seen)
        slope = z * (fell - jnp.sum(z * fell))
        logits, memory = _descend(adam, state["logits"], state["memory"], slope, look.seen)
        return {"logits": logits, "memory": memory}

    zero = jnp.zeros(tasks)
    return Rule({"logits": zero, "memory": adam.init(zero)}, weights, update, asks="later")


def dwa(tasks: int, *, period: int, temperature: float = 2.0) -> Rule:
    """Dynamic weight average (Liu, Johns and Davison 2019): more for the task whose loss falls slowest.

    weights = tasks * softmax(r / temperature), r the mean loss of the last `period` steps over that of
    the period before (the article has epochs); 1 until there are two.
    """

    def weights(state: Any, losses: Tasks, seen: Seen) -> Tasks:
        known = (state["before"] > 0) & (state["last"] > 0)
        ratio = jnp.where(known, state["last"] / jnp.where(known, state["before"], 1), 1)
        return tasks * jax.nn.softmax(ratio / temperature)

    def update(state: Any, look: Look) -> Any:
        total = state["total"] + jnp.where(look.seen, look.losses, 0)
        count = state["count"] + look.seen
        done = state["steps"] + 1 == period
        ends = done & (count > 0)
        mean = total / jnp.maximum(count, 1)
        return {
            "before": jnp.where(ends, state["last"], state["before"]),
            "last": jnp.where(ends, mean, state["last"]),
            "total": jnp.where(done, 0, total),
            "count": jnp.where(done, 0, count),
            "steps": jnp.where(done, 0, state["steps"] + 1),
        }

    zero = jnp.zeros(tasks)
    start = {"before": zero, "last": zero, "total": zero, "count": zero, "steps": jnp.int32(0)}
    return Rule(start, weights, update)


def gradnorm(tasks: int, *, alpha: float = 1.5, rate: float = RATE) -> Rule:
    """GradNorm (Chen and others 2018): gradients of one size, larger for tasks that lag behind.

    The state is w, moved along the gradient of sum_i | w_i n_i - mean(w n) r_i^alpha |, the right-hand
    side held constant, n the norms and r_i the share of its first loss that a task still has, over the
    mean of all; then brought back to the sum `tasks`.
    """

    def weights(state: Any, losses: Tasks, seen: Seen) -> Tasks:
        return state["w"]

    def update(state: Any, look: Look) -> Any:
        first = jnp.where(look.seen & (state["first"] == 0), look.losses, state["first"])
        left = look.losses / jnp.maximum(first, TINY)
        size = state["w"] * look.norms
        lag = left / jnp.maximum(_mean(left, look.seen), TINY)
        slope = jnp.sign(size - _mean(size, look.seen) * lag**alpha) * look.norms
        w, memory = _descend(optax.adam(rate), state["w"], state["memory"], slope, look.seen)
        w = jnp.maximum(w, TINY)
        return {"w": w * (tasks / w.sum()), "first": first, "memory": memory}

    one = jnp.ones(tasks)
    start = {"w": one, "first": jnp.zeros(tasks), "memory": optax.adam(rate).init(one)}
    return Rule(start, weights, update, asks="norms")


def _mean(values: Tasks, seen: Seen) -> Float[Array, ""]:
    return jnp.sum(jnp.where(seen, values, 0)) / jnp.maximum(seen.sum(), 1)


def _descend(
    rule: optax.GradientTransformation, value: Tasks, memory: Any, slope: Tasks, seen: Seen
) -> tuple[Tasks, Any]:
    """One step of an optimizer for the tasks that are seen; the others keep their value and moments."""
    moved, new = rule.update(jnp.where(seen, slope, 0), memory, value)
    kept = jax.tree.map(lambda a, b: jnp.where(seen, a, b) if a.ndim else a, new, memory)
    return jnp.where(seen, value + jnp.asarray(moved), value), kept
