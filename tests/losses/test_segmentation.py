"""Losses against plain numpy, at their limits, and over partial labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.losses import segmentation as seg

CLASSES = ((0,), (1,), (2,))
REGIONS = ((1, 2), (2,))


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 3, 4, 5, 3)), jnp.float32)
    label = jnp.asarray(rng.integers(0, 3, (2, 3, 4, 5)))
    return logits, label


def plain_dice_loss(p, t, smooth=1e-5):
    values = []
    for sample in range(p.shape[0]):
        for channel in range(p.shape[-1]):
            a, b = p[sample, ..., channel], t[sample, ..., channel]
            values.append(1 - (2 * (a * b).sum() + smooth) / (a.sum() + b.sum() + smooth))
    return sum(values), len(values)


def test_targets_of_classes_and_regions():
    label = jnp.array([[[[0, 1, 2, 255]]]])
    assert seg.targets(label, CLASSES)[0, 0, 0].tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [0, 0, 0],
    ]
    assert seg.targets(label, REGIONS)[0, 0, 0].tolist() == [[0, 0], [1, 0], [1, 1], [0, 0]]


def test_dice_loss_is_the_plain_one_without_background(case):
    logits, label = case
    target, valid = seg.targets(label, CLASSES), jnp.ones(label.shape, bool)
    total, count = seg.dice_loss(logits, target, valid, exclusive=True)
    p = np.asarray(jax.nn.softmax(logits))[..., 1:]
    assert (float(total), float(count)) == pytest.approx(
        plain_dice_loss(p, np.asarray(target)[..., 1:])
    )


def test_batch_dice_pools_the_samples(case):
    logits, label = case
    target, valid = seg.targets(label, CLASSES), jnp.ones(label.shape, bool)
    pooled, count = seg.dice_loss(logits, target, valid, exclusive=True, batch=True)
    joined = [a.reshape(1, 6, 4, 5, *a.shape[4:]) for a in (logits, target, valid)]
    assert float(pooled / count) == pytest.approx(
        float(np.divide(*seg.dice_loss(*joined, exclusive=True))), abs=1e-6
    )


def test_cross_entropy_is_the_plain_one(case):
    logits, label = case
    target, valid = seg.targets(label, CLASSES), jnp.ones(label.shape, bool)
    total, count = seg.cross_entropy(logits, target, valid, exclusive=True)
    p = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.asarray(label)[..., None], -1)
    assert float(total / count) == pytest.approx(-p.mean(), abs=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
def test_ignored_voxels_change_nothing(case, exclusive):
    logits, label = case
    groups = CLASSES if exclusive else REGIONS
    logits = logits[..., : len(groups)]
    masked = label.at[:, 0].set(seg.IGNORE)
    other = logits.at[:, 0].add(3.0)
    for loss in (seg.dice_loss, seg.cross_entropy, seg.hard_dice):
        pairs = [
            loss(x, seg.targets(masked, groups), masked != seg.IGNORE, exclusive=exclusive)
            for x in (logits, other)
        ]
        np.testing.assert_allclose(pairs[0], pairs[1], rtol=1e-6)


def test_losses_vanish_for_a_certain_right_answer(case):
    _, label = case
    target, valid = seg.targets(label, CLASSES), jnp.ones(label.shape, bool)
    logits = 100 * target
    assert float(seg.dice_loss(logits, target, valid, exclusive=True)[0]) == pytest.approx(
        0, abs=1e-4
    )
    assert float(seg.cross_entropy(logits, target, valid, exclusive=True)[0]) == pytest.approx(
        0, abs=1e-4
    )
    assert np.divide(*seg.hard_dice(logits, target, valid, exclusive=True)) == pytest.approx(1)


def test_binary_cross_entropy_is_finite_for_huge_logits():
    logits, target = jnp.full((1, 1, 1, 1, 2), 1e4), jnp.zeros((1, 1, 1, 1, 2))
    value, grad = jax.value_and_grad(
        lambda x: seg.cross_entropy(x, target, jnp.ones((1, 1, 1, 1), bool), exclusive=False)[0]
    )(logits)
    assert float(value) == pytest.approx(1e4)
    assert np.isfinite(grad).all()


def test_an_absent_class_is_no_gift():
    label = jnp.zeros((1, 2, 2, 2), jnp.int32)
    target, valid = seg.targets(label, CLASSES), jnp.ones(label.shape, bool)
    total, count = seg.hard_dice(100 * target, target, valid, exclusive=True)
    assert (float(total), float(count)) == (0, 0)


def test_nothing_labelled_gives_zero_and_finite_gradients():
    logits = jnp.zeros((1, 2, 2, 2, 3))
    label = jnp.full((1, 2, 2, 2), seg.IGNORE)

    def loss(x):
        total, count = seg.cross_entropy(
            x, seg.targets(label, CLASSES), label != seg.IGNORE, exclusive=True
        )
        return total / jnp.maximum(count, 1)

    value, grad = jax.value_and_grad(loss)(logits)
    assert float(value) == 0
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("batch", [False, True])
def test_a_sample_without_labels_changes_no_loss(case, batch):
    logits, label = case
    both = jnp.concatenate([label, jnp.full_like(label, seg.IGNORE)])
    wide = jnp.concatenate([logits, logits[::-1]])

    def ratio(loss, logits, label, **options):
        target, valid = seg.targets(label, CLASSES), label != seg.IGNORE
        total, count = loss(logits, target, valid, exclusive=True, **options)
        return float(total / count)

    for loss, options in ((seg.dice_loss, {"batch": batch}), (seg.cross_entropy, {})):
        assert ratio(loss, wide, both, **options) == pytest.approx(
            ratio(loss, logits, label, **options)
        )


def test_merge_weighs_ratios():
    pairs = [(jnp.float32(4), jnp.float32(2)), (jnp.float32(30), jnp.float32(3))]
    total, count = seg.merge(pairs, [1.0, 0.5])
    assert float(total / count) == pytest.approx((2 * 1 + 10 * 0.5) / 1.5)
