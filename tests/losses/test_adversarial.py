"""The losses of a CycleGAN against values worked out by hand."""

import jax.numpy as jnp
import pytest

from medjax.losses import adversarial

REAL, MADE = jnp.array([[1.0, 0.5], [2.0, 0.0]]), jnp.array([[0.0, 1.0], [0.5, -1.0]])


@pytest.mark.parametrize(
    ("pair", "total"),
    [
        (adversarial.generator(MADE), 1 + 0 + 0.25 + 4),
        (adversarial.discriminator(REAL, MADE), (0 + 0.25 + 1 + 1) / 2 + (0 + 1 + 0.25 + 1) / 2),
        (adversarial.l1(REAL, MADE), 1 + 0.5 + 1.5 + 1),
    ],
)
def test_sums_and_counts_by_hand(pair, total):
    assert float(pair[0]) == pytest.approx(total)
    assert float(pair[1]) == 4


def test_the_limits_of_a_fooled_a_perfect_and_a_guessing_discriminator():
    ones, zeros, half = jnp.ones((3, 2)), jnp.zeros((3, 2)), jnp.full((3, 2), 0.5)
    assert float(adversarial.generator(ones)[0]) == 0
    assert float(adversarial.discriminator(ones, zeros)[0]) == 0
    total, count = adversarial.discriminator(half, half)
    assert float(total / count) == 0.25
