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
    target, valid = seg.known(label, CLASSES)
    total, count = seg.dice_loss(logits, target, valid, exclusive=True)
    p = np.asarray(jax.nn.softmax(logits))[..., 1:]
    assert (float(total), float(count)) == pytest.approx(
        plain_dice_loss(p, np.asarray(target)[..., 1:])
    )


def test_batch_dice_pools_the_samples(case):
    logits, label = case
    target, valid = seg.known(label, CLASSES)
    pooled, count = seg.dice_loss(logits, target, valid, exclusive=True, batch=True)
    joined = [a.reshape(1, 6, 4, 5, *a.shape[4:]) for a in (logits, target, valid)]
    assert float(pooled / count) == pytest.approx(
        float(np.divide(*seg.dice_loss(*joined, exclusive=True))), abs=1e-6
    )


def test_cross_entropy_is_the_plain_one(case):
    logits, label = case
    target, valid = seg.known(label, CLASSES)
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
            loss(
                x,
                seg.targets(masked, groups),
                (masked != seg.IGNORE)[..., None],
                exclusive=exclusive,
            )
            for x in (logits, other)
        ]
        np.testing.assert_allclose(pairs[0], pairs[1], rtol=1e-6)


def test_losses_vanish_for_a_certain_right_answer(case):
    _, label = case
    target, valid = seg.known(label, CLASSES)
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
        lambda x: seg.cross_entropy(x, target, jnp.ones((1, 1, 1, 1, 1), bool), exclusive=False)[0]
    )(logits)
    assert float(value) == pytest.approx(1e4)
    assert np.isfinite(grad).all()


def test_an_absent_class_is_no_gift():
    label = jnp.zeros((1, 2, 2, 2), jnp.int32)
    target, valid = seg.known(label, CLASSES)
    total, count = seg.hard_dice(100 * target, target, valid, exclusive=True)
    assert (float(total), float(count)) == (0, 0)


def test_nothing_labelled_gives_zero_and_finite_gradients():
    logits = jnp.zeros((1, 2, 2, 2, 3))
    label = jnp.full((1, 2, 2, 2), seg.IGNORE)

    def loss(x):
        total, count = seg.cross_entropy(x, *seg.known(label, CLASSES), exclusive=True)
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
        target, valid = seg.known(label, CLASSES)
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


# ------------------------------------------------------------------ classes that nobody drew

OPEN = 3  # the background of a case in which class 1 alone was drawn: it may be of class 2
UNDECIDED = ((OPEN,), (), (OPEN,))


@pytest.fixture
def partial(case):
    """The first sample without class 2, which nobody drew: its voxels look like background."""
    logits, label = case
    return logits, label.at[0].set(jnp.where(label[0] == 1, 1, OPEN))


def test_all_channels_valid_apart_are_as_one_for_all(case):
    logits, label = case
    target, valid = seg.known(label.at[0, 0].set(seg.IGNORE), CLASSES)
    wide = jnp.repeat(valid, 3, axis=-1)
    for exclusive in (True, False):
        for loss in (seg.dice_loss, seg.cross_entropy, seg.hard_dice):
            np.testing.assert_allclose(
                loss(logits, target, wide, exclusive=exclusive),
                loss(logits, target, valid, exclusive=exclusive),
                rtol=1e-6,
            )


def test_a_voxel_of_one_of_two_classes_has_the_entropy_of_their_sum(partial):
    logits, label = partial
    total, count = seg.cross_entropy(logits, *seg.known(label, CLASSES, UNDECIDED), exclusive=True)
    p, label = np.asarray(jax.nn.softmax(logits), float), np.asarray(label)
    own = np.take_along_axis(p, np.where(label == OPEN, 0, label)[..., None], -1)[..., 0]
    expected = -np.log(np.where(label == OPEN, p[..., 0] + p[..., 2], own)).mean()
    assert float(total / count) == pytest.approx(expected, rel=1e-5)
    assert float(count) == label.size


def test_nobody_is_taught_which_of_two_classes_it_is(partial):
    """Turning the odds between background and an undrawn class changes no loss."""
    logits, label = partial
    known = seg.known(label, CLASSES, UNDECIDED)
    both = jnp.where(label == OPEN, jax.nn.logsumexp(logits[..., ::2], axis=-1), 0)
    turned = jnp.stack([both + np.log(0.9), logits[..., 1], both + np.log(0.1)], axis=-1)
    turned = jnp.where((label == OPEN)[..., None], turned, logits)
    for loss in (seg.dice_loss, seg.cross_entropy):
        np.testing.assert_allclose(
            loss(turned, *known, exclusive=True), loss(logits, *known, exclusive=True), rtol=1e-5
        )


@pytest.mark.parametrize("batch", [False, True])
def test_an_undrawn_class_has_no_dice(partial, batch):
    logits, label = partial
    known = seg.known(label, CLASSES, UNDECIDED)
    total, count = seg.dice_loss(logits, *known, exclusive=True, batch=batch)
    p = np.asarray(jax.nn.softmax(logits))
    drawn = {1: (0, 1), 2: (1,)}  # by class the samples in which it was drawn
    expected = 0.0
    for index, samples in drawn.items():
        rows = [list(samples)] if batch else [[sample] for sample in samples]
        for own in rows:
            ours, theirs = p[own][..., index], np.asarray(label)[own] == index
            expected += 1 - 2 * (ours * theirs).sum() / (ours.sum() + theirs.sum())
    assert (float(total), float(count)) == pytest.approx((expected, 2 if batch else 3), rel=1e-4)
    found = seg.overlaps(logits, *known, exclusive=True)
    assert float(found[1][0, 1]) == 0 < float(found[1][1, 1])


def test_a_region_that_holds_an_undrawn_class_learns_where_it_is_decided(case):
    """Regions (1, 2) and (2,): class 1 decides both, the open background neither."""
    logits, label = case
    logits = logits[..., :2]
    label = jnp.where(label == 1, 1, OPEN)
    target, valid = seg.known(label, REGIONS, ((OPEN,), (OPEN,)))
    np.testing.assert_array_equal(valid, np.repeat((label == 1)[..., None], 2, axis=-1))
    total, count = seg.cross_entropy(logits, target, valid, exclusive=False)
    x = np.asarray(logits, float)[np.asarray(label) == 1]
    expected = np.log1p(np.exp(x)) - x * [1, 0]
    assert float(total / count) == pytest.approx(expected.mean(), rel=1e-5)


def test_open_and_ignored_voxels_have_finite_gradients():
    label = jnp.array([OPEN, seg.IGNORE, 1, 0]).reshape(1, 1, 2, 2)
    known = seg.known(label, CLASSES, UNDECIDED)
    gradient = jax.grad(lambda x: seg.cross_entropy(x, *known, exclusive=True)[0])(
        jnp.array([50.0, -50.0, 0.0]).reshape(1, 1, 1, 1, 3) * jnp.ones((1, 1, 2, 2, 1))
    )
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0, 0, 0, 1], 0)
    np.testing.assert_allclose(gradient[0, 0, 1, 0], [1, -1, 0], atol=1e-6)


def test_cases_in_which_one_class_each_was_drawn_teach_all():
    """A linear classifier of noisy colours. Taken for background, undrawn classes are lost."""
    colour = np.random.default_rng(0).integers(0, 4, (3, 4, 8, 8))
    x = np.eye(4)[colour] + np.random.default_rng(1).normal(0, 0.1, (*colour.shape, 4))
    x, drawn = jnp.asarray(x, jnp.float32), np.arange(1, 4).reshape(3, 1, 1, 1)
    groups, undecided = ((0,), (1,), (2,), (3,)), ((4, 5, 6), (5, 6), (4, 6), (4, 5))

    def accuracy(background):
        label = jnp.asarray(np.where(colour == drawn, drawn, background))
        known = seg.known(label, groups, undecided if np.any(background) else ())

        def loss(w):
            logits = jnp.einsum("bdhwc,ck->bdhwk", x, w)
            pairs = (f(logits, *known, exclusive=True) for f in (seg.dice_loss, seg.cross_entropy))
            return sum(total / count for total, count in pairs)

        w = jax.lax.fori_loop(0, 300, lambda _, w: w - jax.grad(loss)(w), jnp.zeros((4, 4)))
        return (np.asarray(x @ w).argmax(-1) == colour).mean()

    assert accuracy(drawn + 3) == 1
    assert accuracy(0) < 0.5
