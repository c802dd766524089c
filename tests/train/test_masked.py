"""Masked reconstruction: what is hidden, what counts, and that no label is read."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.augment import chain
from medjax.train import masked, step
from medjax.train.reconstruction import fixed_mask

SHAPE = (6, 9, 8)
KEY = jax.random.key(2)


class Echo(nn.Module):
    """Gives back what it sees."""

    @nn.compact
    def __call__(self, image, train, present=None):
        return {"seg": image}, {}


def batch_of(n):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.normal(size=(n, *SHAPE, 2)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 3, (n, *SHAPE)), jnp.uint8),
        "index": jnp.arange(n, dtype=jnp.int32),
    }


def pair_of(batch, replicas=1):
    """Sum and count over all replicas, for a network that gives back what it sees."""
    loss = masked.masked(Echo(), chain(), block=3, share=0.5)
    run = jax.vmap(
        lambda b: loss({}, {}, b, KEY, jnp.float32(0))[0]["reconstruction"], axis_name=step.AXIS
    )
    parts = jax.tree.map(lambda a: a.reshape(replicas, -1, *a.shape[1:]), batch)
    return [float(part.sum()) for part in jax.jit(run)(parts)]


@pytest.mark.parametrize("block", [1, 3, 20])
def test_whole_blocks_are_hidden(block):
    hidden = fixed_mask(SHAPE, block, 0.5, seed=1)
    for place in np.ndindex(*masked.cells(SHAPE, block)):
        cell = hidden[tuple(slice(i * block, (i + 1) * block) for i in place)]
        assert cell.all() or not cell.any()
    if block < 20:
        assert 0.2 < hidden.mean() < 0.8
    np.testing.assert_array_equal(hidden, fixed_mask(SHAPE, block, 0.5, seed=1))


def test_the_share_is_met():
    assert fixed_mask((64, 64, 64), 4, 0.6, seed=0).mean() == pytest.approx(0.6, abs=0.03)


def test_only_what_is_hidden_counts():
    """A network that gives back what it sees errs by the image itself, where it is hidden."""
    total, count = pair_of(batch_of(4))
    assert 0.2 < count / (4 * np.prod(SHAPE)) < 0.8
    assert total / count == pytest.approx(1, abs=0.15)  # the variance of what is hidden


def test_what_is_hidden_hangs_on_the_sample_alone():
    batch = batch_of(4)
    assert pair_of(batch) == pytest.approx(pair_of(batch, replicas=2))
    turned = jax.tree.map(lambda a: a[::-1], batch)
    assert pair_of(batch) == pytest.approx(pair_of(turned))


def test_no_label_is_read():
    batch = batch_of(4)
    assert pair_of(batch) == pair_of({**batch, "label": batch["label"][::-1]})
