"""Gradients of several tasks at once, each counted by a rule of `losses.weighting`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from medjax.losses.weighting import Look, Rule, Seen, Tasks
from medjax.train.state import Params, State
from medjax.train.step import AXIS, After, Batch, Gradients, Loss, Pairs

Terms = Mapping[str, Mapping[str, float]]  # of each task its pairs and what they count in it
TRUNK = "encoder"  # what all tasks share: modules whose names begin so


def start(rule: Rule, tasks: int) -> dict[str, Any]:
    """What the state of a run holds under "tasks" before its first step."""
    zero = jnp.zeros(tasks)
    look = Look(zero, jnp.zeros(tasks, bool), zero, zero)
    return jax.tree.map(jnp.array, {"state": rule.start, "look": look})


def weigh(loss: Loss, terms: Terms, rule: Rule) -> tuple[Gradients, After]:
    """The `gradients` and `after` slots of a step whose objective is the rule's weighted sum of task losses.

    A task's loss is the sum of its pairs' ratios, times what each counts in it; a task of which no replica
    has a label is not seen. The rule's state and its last look are in `extra["tasks"]`. What is reported
    beside the pairs: `task/NAME`, the losses, and `weight/NAME`.
    """

    def losses(params, extra, batch, key, progress):
        pairs, new = loss(params, extra, batch, key, progress)
        pairs = lax.psum(pairs, AXIS)
        means = {name: total / jnp.maximum(count, 1) for name, (total, count) in pairs.items()}
        return _by_task(terms, means), (means, _seen(terms, pairs), new)

    def gradients(params, extra, batch, key, progress):
        own = extra["tasks"]["state"]
        if rule.asks == "norms":
            found, pull, (means, seen, extra) = jax.vjp(
                lambda p: losses(p, extra, batch, key, progress), params, has_aux=True
            )
            each = lax.pmean(lax.map(lambda one: pull(one)[0], jnp.eye(len(terms))), AXIS)
            weights = rule.weights(own, found, seen)
            grads = jax.tree.map(lambda g: jnp.tensordot(weights, g, axes=1), each)
            norms = jax.vmap(optax.tree.norm)(shared(each))
        else:

            def objective(params):
                found, (means, seen, new) = losses(params, extra, batch, key, progress)
                weights = lax.stop_gradient(rule.weights(own, found, seen))
                return jnp.sum(weights * found), (found, weights, means, seen, new)

            grads, (found, weights, means, seen, extra) = jax.grad(objective, has_aux=True)(params)
            grads, norms = lax.pmean(grads, AXIS), jnp.zeros(len(terms))
        look = Look(found, seen, jnp.zeros(len(terms)), norms)
        means = {"loss": jnp.sum(weights * found), **means}
        for number, name in enumerate(terms):
            means |= {f"task/{name}": found[number], f"weight/{name}": weights[number]}
        return grads, means, {**extra, "tasks": {"state": own, "look": look}}

    def after(old: State, new: State, batch: Batch, key: Array) -> dict:
        look = new.extra["tasks"]["look"]
        if rule.asks == "later":
            progress = old.step / old.horizon
            found, _ = losses(new.params, old.extra, batch, key, progress)
            look = look._replace(later=found)
        moved = rule.update(old.extra["tasks"]["state"], look)
        return {**new.extra, "tasks": {"state": moved, "look": look}}

    return gradients, after


def shared(params: Params) -> Params:
    """The weights that every task uses: those of the encoder."""
    return {name: tree for name, tree in params.items() if name.startswith(TRUNK)}


def _by_task(terms: Terms, means: Mapping[str, Array]) -> Tasks:
    return jnp.stack([sum(w * means[name] for name, w in own.items()) for own in terms.values()])


def _seen(terms: Terms, pairs: Pairs) -> Seen:
    """A heatmap without a centre has a loss and no count."""

    def there(pair: tuple[Array, Array]) -> Array:
        return (pair[0] != 0) | (pair[1] > 0)

    return jnp.stack([sum(there(pairs[name]) for name in own) > 0 for own in terms.values()])
