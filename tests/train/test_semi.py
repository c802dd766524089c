"""Learning without labels: one table for all methods, and what each of them is about."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.augment import Augmentation, chain, spatial
from medjax.data.augment.chain import random_words, uniform, unmoved
from medjax.losses.segmentation import IGNORE
from medjax.nn.blocks import ChannelDropout
from medjax.nn.twin import Twin
from medjax.train import bcp, optim, state, step
from medjax.train.bcp import copy_paste
from medjax.train.cps import cross_pseudo_supervision
from medjax.train.mean_teacher import mean_teacher
from medjax.train.supervised import WEIGHTS, Segmenter
from medjax.train.unimatch import paste_boxes, unimatch
from medjax.train.views import Views, answer, moved, take, weak_view

PATCH = (6, 8, 8)
SPACING = (1.0, 1.0, 1.0)
CLASSES = ((0,), (1,), (2,))
REGIONS = ((1, 2), (2,))
KEY = jax.random.key(5)
STILL = {"probability_rotation": 0.0, "probability_scale": 0.0, "probability_elastic": 0.0}


class Tiny(nn.Module):
    """Two convolutions with the interface of a model; `tearing` drops channels between them."""

    outputs: int = 3
    tearing: float = 0.0

    @nn.compact
    def __call__(self, image, train, present=None):
        x = nn.tanh(nn.Conv(8, (3, 3, 3))(image))
        x = ChannelDropout(self.tearing, step.AXIS)(x, train)
        return {"seg": nn.Conv(self.outputs, (1, 1, 1))(x)}, {}


class Echo(nn.Module):
    """A network that gives its input back, as logits of the probabilities that it is."""

    @nn.compact
    def __call__(self, image, train, present=None):
        return {"seg": jnp.log(image)}, {}


FLIPS = spatial(PATCH, SPACING, **STILL)


def shade(parameters, batch):
    return {**batch, "image": batch["image"] + parameters[:, None, None, None, None]}


# As cheap to compile as can be: the step is what is tested here.
SHADES = Augmentation(
    sample=lambda key, batch: uniform(random_words(key, batch, (1,))[:, 0], -0.5, 0.5),
    apply=shade,
    move=unmoved,
    invert=unmoved,
)


def views(turn=(True, False), noise=0.1):
    return Views(chain(FLIPS, SHADES), FLIPS, turn, noise)


def batch_of(turns, turn=(True, False), seed=0, shift=0):
    rng = np.random.default_rng(seed)
    n = turns * len(turn)
    label = rng.integers(0, 3, (n, *PATCH)).astype(np.uint8)
    image = label[..., None] + rng.normal(0, 0.5, (n, *PATCH, 1))
    label[~np.resize(turn, n)] = IGNORE
    return {
        "image": jnp.asarray(image, jnp.float32),
        "label": jnp.asarray(label),
        "index": shift + jnp.arange(n, dtype=jnp.int32),
        "case": jnp.zeros(n, jnp.int32),
    }


def unimatch_of(segmenter, seen):
    torn = Segmenter(segmenter.model.clone(tearing=0.5), segmenter.groups, segmenter.exclusive)
    return unimatch(segmenter, torn, seen, unit=2, confidence=0.4)


METHODS = {
    "mean_teacher": (partial(mean_teacher, ramp=0.4), {"consistency": 1.0}),
    "ua_mt": (partial(mean_teacher, ramp=0.4, passes=3), {"consistency": 1.0}),
    "cps": (partial(cross_pseudo_supervision, ramp=0.4), {"cross": 0.1}),
    "unimatch": (unimatch_of, {"strong": 0.5, "features": 0.5}),
    "bcp": (
        partial(copy_paste, pretrain=0.2, largest=True),
        {"pseudo_dice_loss": 0.5, "pseudo_cross_entropy": 0.5},
    ),
}


def parts(name, *, exclusive=True, seen=None, only=None, horizon=20, momentum=0.0):
    """Step, gradients and state of a method."""
    groups = CLASSES if exclusive else REGIONS
    model = Tiny(outputs=len(groups))
    if name == "cps":
        model = Twin(partial(Tiny, outputs=len(groups)))
    segmenter = Segmenter(model, groups, exclusive)
    make, own = METHODS[name]
    weights = WEIGHTS | own
    weights = {k: v for k, v in weights.items() if only is None or k in only}
    loss = make(segmenter, seen or views())
    gradients = step.differentiate(loss, weights)
    rule = optim.optimizer("sgd", momentum=momentum, clip=0.0)
    made = step.make_step(gradients, rule, optim.schedule("constant", peak=0.1), step.average)
    image = jnp.zeros((1, *PATCH, 1))
    params = jax.jit(lambda key: model.init(key, image, False))(jax.random.key(1))["params"]
    return made, gradients, state.create(params, rule, horizon=horizon)


def pairs_of(make, seen, undecided=(), **options):
    """The pairs of a loss on one replica, as a compiled function of weights, extra, batch and progress."""
    loss = make(Segmenter(Tiny(), CLASSES, True, undecided=undecided), seen, **options)

    def found(params, extra, batch, progress):
        alone = jax.tree.map(lambda a: a[None], batch)
        run = jax.vmap(lambda b: loss(params, extra, b, KEY, progress)[0], axis_name=step.AXIS)
        return jax.tree.map(lambda a: a[0], run(alone))

    compiled = jax.jit(found)
    return lambda params, extra, batch, progress: compiled(
        params, extra, batch, jnp.float32(progress)
    )


def run(name, devices, *, steps=3, progress=0, **options):
    made, _, start = parts(name, **options)
    start = start.replace(step=jnp.int32(progress))
    mesh = step.data_mesh(devices)
    compiled, now = step.map_step(made, mesh), step.replicate(start, mesh)
    found = []
    for number in range(steps):
        batch = batch_of(4, seed=number, shift=8 * number)
        now, means = compiled(now, step.shard(batch, mesh), KEY)
        found.append(jax.device_get(means))
    return found, jax.device_get(now)


@pytest.mark.parametrize(
    ("name", "exclusive"),
    [
        pytest.param(name, True, marks=[] if name in ("mean_teacher", "bcp") else pytest.mark.long)
        for name in METHODS
    ]
    + [pytest.param("bcp", False, marks=pytest.mark.long)],
)
def test_every_method_on_one_and_two_devices(name, exclusive):
    """The same step however the batch is spread, finite, and each of its terms teaches."""
    one, alone = run(name, 1, exclusive=exclusive, progress=10)
    two, spread = run(name, 2, exclusive=exclusive, progress=10)
    for a, b in zip(
        jax.tree.leaves((one, alone.params)), jax.tree.leaves((two, spread.params)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    assert all(means["finite"] == 1 for means in one)
    for term in METHODS[name][1]:
        assert one[0][term] > 0, term
    assert 0 < one[0].get("sure", 1) <= 1


@pytest.mark.parametrize("name", METHODS)
def test_what_has_no_label_teaches_and_its_label_is_never_read(name):
    """Without labels the terms of a method alone move the weights; the ignored labels hold nothing."""
    _, gradients, now = parts(name, only=METHODS[name][1])

    @jax.jit
    def grads(batch):
        own = jax.vmap(
            lambda b: gradients(now.params, now.extra, b, KEY, jnp.float32(0.9))[0],
            axis_name=step.AXIS,
        )
        return own(jax.tree.map(lambda a: a[None], batch))

    batch = batch_of(2)
    first = grads(batch)
    sizes = [float(jnp.abs(g).max()) for g in jax.tree.leaves(first)]
    assert min(sizes) > 0
    free = np.flatnonzero(np.resize([False, True], 4))
    other = {**batch, "image": batch["image"].at[free].add(1.0)}
    changed = [
        float(jnp.abs(a - b).max())
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(grads(other)), strict=True)
    ]
    assert max(changed) > 0


@pytest.mark.parametrize("name", ["mean_teacher", "bcp"])
def test_no_gradient_reaches_the_teacher(name):
    make, own = METHODS[name]
    _, _, now = parts(name)
    found = pairs_of(make, views())

    def total(teacher):
        pairs = found(now.params, {"ema": teacher}, batch_of(2), 0.9)
        return sum(pairs[term][0] for term in own)

    assert total(now.params) > 0
    grads = jax.grad(total)(now.extra["ema"])
    assert all(float(jnp.abs(g).max()) == 0 for g in jax.tree.leaves(grads))


def test_the_answer_lies_on_the_patch_whatever_the_flips():
    """A network that gives its input back answers with the patch itself."""
    p = jax.nn.softmax(jax.random.normal(KEY, (4, *PATCH, 3)))
    batch = {"image": p, "index": jnp.arange(4, dtype=jnp.int32)}
    seen = views(noise=0.0)
    found = answer(seen, Segmenter(Echo(), CLASSES, True), {}, batch, KEY)
    np.testing.assert_allclose(found, p, atol=1e-6)
    image, flipped = weak_view(seen, batch, KEY)
    assert (np.asarray(image) != np.asarray(p)).any((1, 2, 3, 4)).all()
    assert np.asarray(flipped["flip"]).any(1).all()


def test_the_learner_and_the_answer_speak_of_the_same_voxels():
    strong = spatial(PATCH, SPACING, translation=2.0, probability_rotation=1.0)
    p = jax.random.uniform(KEY, (4, *PATCH, 2))
    batch = {"image": p, "index": jnp.arange(4, dtype=jnp.int32)}
    drawn = strong.sample(KEY, batch)
    image = strong.apply(drawn, batch)["image"]
    found, seen = moved(strong, drawn, p)
    assert 0.1 < float(seen.mean()) < 1
    np.testing.assert_allclose(found, image, atol=1e-6)


@pytest.mark.long
def test_noise_is_the_samples_own_and_bounded():
    batch = {"image": jnp.zeros((4, *PATCH, 1)), "index": jnp.arange(4, dtype=jnp.int32)}
    image, _ = weak_view(views(noise=0.1), batch, KEY)
    half, _ = weak_view(views(noise=0.1), take(batch, [2, 3]), KEY)
    np.testing.assert_array_equal(image[2:], half)
    assert float(jnp.abs(image).max()) == pytest.approx(0.2, abs=1e-6)
    assert float(image.std()) == pytest.approx(0.1, abs=0.01)


def test_a_teacher_that_agrees_leaves_nothing_to_learn():
    """Without noise, flips or augmentation the student's own weights answer as the student does."""
    still = spatial(PATCH, SPACING, flips=(), **STILL)
    _, _, now = parts("mean_teacher")
    found = pairs_of(mean_teacher, Views(still, still, (True, False), 0.0), ramp=0.0)
    total, count = found(now.params, {"ema": now.params}, batch_of(2), 0.5)["consistency"]
    assert float(total) == pytest.approx(0, abs=1e-9)
    assert float(count) == 2 * np.prod(PATCH)


def test_consistency_rises_with_the_run():
    _, _, now = parts("mean_teacher")
    teacher = jax.tree.map(lambda a: 0.5 * a, now.params)
    found = pairs_of(mean_teacher, views(), ramp=0.4)
    totals = [
        float(found(now.params, {"ema": teacher}, batch_of(2), progress)["consistency"][0])
        for progress in (0.0, 0.2, 0.4, 0.9)
    ]
    np.testing.assert_allclose(totals / np.float64(totals[3]), np.exp([-5, -1.25, 0, 0]), rtol=1e-4)


def test_the_twins_start_apart_and_one_predicts():
    model = Twin(Tiny)
    image = jax.random.normal(KEY, (2, *PATCH, 1))
    params = model.init(jax.random.key(1), image, False)["params"]
    one, other = (jax.tree.leaves(params[name]) for name in ("first", "second"))
    assert all(bool((a != b).any()) for a, b in zip(one, other, strict=True) if a.ndim > 1)
    outputs, aux = model.apply({"params": params}, image, False)
    assert "twin" not in aux
    alone, _ = Tiny().apply({"params": params["first"]}, image, False)
    np.testing.assert_allclose(outputs["seg"], alone["seg"], atol=1e-6)
    _, aux = model.apply({"params": params}, image, True, rngs={"dropout": KEY})
    alone, _ = Tiny().apply({"params": params["second"]}, image, False)
    np.testing.assert_allclose(aux["twin"]["seg"], alone["seg"], atol=1e-6)


def test_pasted_boxes_are_as_large_as_said():
    batch = {"image": jnp.zeros((400, 24, 24, 24, 1)), "index": jnp.arange(400, dtype=jnp.int32)}
    share = np.asarray(jax.jit(paste_boxes)(batch, KEY)).mean((1, 2, 3))
    assert (share == 0).mean() == pytest.approx(0.5, abs=0.08)
    drawn = share[share > 0]
    assert 0.01 < drawn.min() < 0.03
    assert 0.35 < drawn.max() < 0.45
    assert drawn.mean() == pytest.approx(0.21, abs=0.04)


def test_bcp_learns_from_labels_alone_at_first():
    """While it pre-trains no unlabelled voxel counts; later all those of both patches are seen once."""
    still = spatial(PATCH, SPACING, flips=(), **STILL)
    _, _, now = parts("bcp")
    seen = Views(still, still, (True, False), 0.0)
    pairs = pairs_of(copy_paste, seen, pretrain=0.2, largest=False)
    for progress, labelled in ((0.1, 4), (0.9, 2)):
        counts = pairs(now.params, now.extra, batch_of(2), progress)
        assert float(counts["cross_entropy"][1]) == labelled * np.prod(PATCH)
        assert float(counts["pseudo_cross_entropy"][1]) == (4 - labelled) * np.prod(PATCH)


def test_copy_paste_judges_whole_patches():
    """A network that sees one voxel at a time does not care where a box lies, and neither does its loss."""
    still = spatial(PATCH, SPACING, flips=(), **STILL)
    segmenter = Segmenter(Echo(), CLASSES, True)
    batch = batch_of(2)
    p = jax.nn.softmax(jax.random.normal(KEY, (4, *PATCH, 3)))
    loss = copy_paste(segmenter, Views(still, still, (True, False)), pretrain=0.2, largest=False)
    found, _ = jax.jit(loss)({}, {"ema": {}}, {**batch, "image": p}, KEY, jnp.float32(0.9))
    logits, target = jnp.log(p), jax.nn.one_hot(jnp.argmax(p, -1), 3)
    drawn, valid = segmenter.known(batch["label"][::2])
    expected = segmenter.terms(logits[::2], drawn, valid)
    guessed = segmenter.terms(logits[1::2], target[1::2], jnp.ones_like(valid))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
        np.testing.assert_allclose(found[f"pseudo_{name}"], guessed[name], rtol=1e-5)


def test_copy_paste_of_a_case_of_which_one_class_was_drawn():
    """What is guessed has a Dice of both classes, what was drawn of the drawn one alone."""
    _, _, now = parts("bcp")
    still = spatial(PATCH, SPACING, flips=(), **STILL)
    batch = batch_of(2)
    label = batch["label"]
    batch["label"] = jnp.where((label == 0) | (label == 2), 3, label)
    found = pairs_of(
        copy_paste,
        Views(still, still, (True, False)),
        ((3,), (), (3,)),
        pretrain=0.2,
        largest=False,
    )(now.params, now.extra, batch, 0.9)
    assert (float(found["dice_loss"][1]), float(found["pseudo_dice_loss"][1])) == (2, 4)
    assert float(found["cross_entropy"][1]) == 2 * np.prod(PATCH)
    assert all(np.isfinite(pair[0]) for pair in found.values())


def test_a_tidy_guess_has_one_part_a_class():
    target = np.zeros((1, *PATCH, 3), np.float32)
    target[0, 0, 0, 0, 1] = target[0, 3:5, 3:5, 3:5, 1] = 1
    target[0, 5, 7, 7, 2] = 1
    target[..., 0] = 1 - target[..., 1:].sum(-1)
    found = np.asarray(bcp.tidy(jnp.asarray(target), exclusive=True))
    expected = target.copy()
    expected[0, 0, 0, 0] = (1, 0, 0)
    np.testing.assert_array_equal(found, expected)
    regions = np.asarray(bcp.tidy(jnp.asarray(target[..., 1:]), exclusive=False))
    np.testing.assert_array_equal(regions, expected[..., 1:])
