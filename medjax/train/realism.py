"""How real synthetic images are: can a small network tell them from real ones it has never met?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int

from medjax.metrics.ranking import clustered_auc, wins
from medjax.metrics.statistics import Interval
from medjax.nn.blocks import Norm, Plain

Slices = Float32[np.ndarray, "_ h w c"]  # of one patient
WIDTHS = (16, 32, 64, 64)
PEAK = 2e-3  # learning rate
DETAIL = 3.0  # brings fine structure to about the range of the slice itself


class Judge(nn.Module):
    """Slices to one logit each, above 0 for synthetic: four convolutions of stride 2, then the mean.

    It sees the slice and, beside it, what the mean of 3 x 3 pixels takes away: given, not learned, as
    that makes a sharper judge of the same few steps.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
        """Judge a batch."""
        fine = x - nn.avg_pool(x, (3, 3), padding="SAME")
        x = jnp.concatenate([x, DETAIL * fine], axis=-1)[:, None]
        for width in WIDTHS:
            x = Plain(width, (1, 3, 3), (1, 2, 2), norm=partial(Norm, group=8))(x)
        return nn.Dense(1)(x.mean((1, 2, 3)))[:, 0]


@dataclass(frozen=True, eq=False)
class Realism:
    """What came out: AUC over patients and over slices (both intervals over patients: `n` of them), the
    mean logit of each patient, above 0 for synthetic, and the numbers it was done with."""

    patients: Interval
    slices: Interval
    real: Float[np.ndarray, " p"]
    made: Float[np.ndarray, " q"]
    settings: dict[str, int]


def assign(real: int, made: int, *, folds: int, seed: int) -> Int[np.ndarray, " p"]:
    """The fold of each patient, real ones first: both kinds in every fold, in as equal a share as can be."""
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.permutation(size) % folds for size in (real, made)])


def tell_apart(
    real: Sequence[Slices],
    made: Sequence[Slices],
    *,
    folds: int = 3,
    repeats: int = 2,
    steps: int = 300,
    batch: int = 32,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Realism:
    """Trains a judge for each fold on the patients of the others, and ranks the patients of the fold.

    `real` and `made` hold the slices of one patient an entry, two patients at least; no patient may be
    in both. Scores are compared within a fold alone: another judge has another scale, and a patient
    whom a judge has learned from is never its to judge. Without a difference between the sets, real and
    synthetic patients of a fold are exchangeable, so 0.5 is to be expected however few they are. All is
    done `repeats` times with other folds. `progress(done, steps)` is called after each step of all.

    Raises ValueError for fewer than two patients a kind, or one without slices.
    """
    if min(len(real), len(made)) < 2 or not all(map(len, (*real, *made))):
        raise ValueError("tell_apart: two patients of each kind are needed, each with a slice")
    folds = min(folds, len(real), len(made))
    everyone, first = [*real, *made], len(real)
    start, step, judge = _programs(everyone[0].shape[1:], steps)
    by_patient, by_slice = np.zeros((2, 2, len(made), len(real)))  # won, compared
    total = np.zeros(len(everyone))
    for number in range(repeats * folds):
        repeat, fold = divmod(number, folds)
        tested = assign(len(real), len(made), folds=folds, seed=seed + repeat) == fold
        learned = np.flatnonzero(~tested)
        groups = [learned[learned < first], learned[learned >= first]]
        draw = np.random.default_rng([seed, number])
        state = start(jax.random.key(int(draw.integers(2**31))))
        for done in range(steps):
            state = step(state, *_batch(everyone, groups, batch, draw))
            if progress is not None:
                progress(number * steps + done + 1, repeats * folds * steps)
        logits = {
            int(i): _logits(partial(judge, state), everyone[i], batch)
            for i in np.flatnonzero(tested)
        }
        means = {i: found.mean(keepdims=True) for i, found in logits.items()}
        _compare(by_patient, means, first)
        _compare(by_slice, logits, first)
        total[list(means)] += [float(mean[0]) for mean in means.values()]
    settings = {"folds": folds, "repeats": repeats, "steps": steps, "batch": batch}
    patients, slices = (clustered_auc(*table, seed=seed) for table in (by_patient, by_slice))
    return Realism(patients, slices, total[:first] / repeats, total[first:] / repeats, settings)


def _compare(
    table: Float[np.ndarray, "2 q p"], scores: Mapping[int, Float[np.ndarray, "_"]], first: int
) -> None:
    """Adds the pairs of one fold to the table: won, and compared; the synthetic patients begin at `first`."""
    for i, ours in scores.items():
        for j, theirs in scores.items():
            if j < first <= i:
                table[:, i - first, j] += wins(ours, theirs), ours.size * theirs.size


def _programs(shape: Sequence[int], steps: int) -> tuple[Callable, Callable, Callable]:
    """The start of a training, its step and its judgement, compiled once for all folds."""
    model = Judge()
    rule = optax.adamw(optax.cosine_decay_schedule(PEAK, steps), weight_decay=1e-2)

    @jax.jit
    def start(key: Array) -> Any:
        params = model.init(key, jnp.zeros((1, *shape)))
        return params, rule.init(params)

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, image: Array, truth: Array) -> Any:
        params, opt = state

        def loss(params: Any) -> Array:
            return optax.sigmoid_binary_cross_entropy(model.apply(params, image), truth).mean()

        updates, opt = rule.update(jax.grad(loss)(params), opt, params)
        return optax.apply_updates(params, updates), opt

    @jax.jit
    def judge(state: Any, image: Array) -> Array:
        return model.apply(state[0], image)  # pyright: ignore[reportReturnType]

    return start, step, judge


def _batch(
    everyone: Sequence[Slices],
    groups: Sequence[Int[np.ndarray, "_"]],
    batch: int,
    draw: np.random.Generator,
) -> tuple[Float32[np.ndarray, "b h w c"], Float32[np.ndarray, " b"]]:
    """Real and synthetic slices in turn, all patients of a kind as often, mirrored at random."""
    images = []
    for row in range(batch):
        slices = everyone[draw.choice(groups[row % 2])]
        image = slices[draw.integers(len(slices))]
        images.append(image[::-1] if draw.random() < 0.5 else image)
    return np.stack(images), np.arange(batch, dtype=np.float32) % 2


def _logits(judge: Callable[[Array], Array], slices: Slices, batch: int) -> Float[np.ndarray, " n"]:
    """One logit a slice; batches of one size, so that it compiles once."""
    padded = np.pad(slices, [(0, -len(slices) % batch), (0, 0), (0, 0), (0, 0)])
    parts = [judge(jnp.asarray(padded[i : i + batch])) for i in range(0, len(padded), batch)]
    return np.concatenate([np.asarray(part) for part in parts])[: len(slices)].astype(float)
