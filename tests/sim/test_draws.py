import jax
import numpy as np
import pytest
from scipy import stats

from medjax.sim.draws import drawer, normal


def test_numbers_are_uniform_and_never_twice_the_same():
    draw = drawer(jax.random.key(3), 2001)
    first, rest = draw(0, 1), draw(-2.0, 5.0, (500, 4))
    assert first.shape == ()
    assert rest.shape == (500, 4)
    shares = (np.asarray(rest).ravel() + 2) / 7
    assert len({float(first), *shares.tolist()}) == 2001
    assert stats.kstest(shares, "uniform").pvalue > 0.01


def test_more_numbers_than_there_are_is_an_error():
    draw = drawer(jax.random.key(0), 3)
    draw(0, 1, (2,))
    with pytest.raises(ValueError, match="4 random numbers are wanted of 3"):
        draw(0, 1, (2,))


def test_normal_numbers_of_different_keys_are_independent():
    keys = jax.random.split(jax.random.key(0), 64)
    drawn = np.asarray(jax.vmap(lambda key: normal(key, (40, 25)))(keys)).reshape(64, -1)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 0.01
    between = np.corrcoef(drawn)[~np.eye(64, dtype=bool)]
    assert abs(between).max() < 5 / 1000**0.5
    assert abs(between.std() * 1000**0.5 - 1) < 0.1
