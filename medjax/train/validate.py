"""Validation during training: what fixed patches of the validation cases score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from medjax.data.patches import patches
from medjax.data.plan import Plan
from medjax.losses import segmentation
from medjax.ops.sharing import grid, over
from medjax.train import tasks
from medjax.train.loop import Validate
from medjax.train.state import State, weights


def same_patches(
    folders: Sequence[Path], plan: Plan, *, batches: int, seed: int, targets: Sequence[int] = ()
) -> grain.MapDataset:
    """The batches that every validation of a run looks at, half of them around labelled voxels."""
    return patches(
        folders,
        patch=plan.patch,
        batch=plan.batch,
        steps=batches,
        seed=seed + 1,
        foreground=0.5,
        targets=targets,
    )


def validator(
    model: Any,
    folders: Sequence[Path],
    plan: Plan,
    *,
    batches: int,
    seed: int,
    targets: Sequence[int] = (),
    space: int = 1,
) -> Validate | None:
    """A function from the state to a score and `{validation_dice, validation_dice/CLASS, ...}`.

    None without cases. The same patches every time, half of them around labelled voxels, without
    augmentation; overlaps and volumes are summed over all patches before the ratio (nnU-Net's pseudo
    Dice), per class. Other heads give `validation_PAIR`, of what they learn (`tasks.pairs`). The score is
    the mean Dice; with other heads its mean with the accuracy and with 1 / (1 + loss of detection). It
    judges the running mean of the weights where one is kept. It chooses checkpoints; it is no test score.
    One device sees a batch, or `space` of them that share it.
    """
    if not folders or not batches:
        return None
    fixed = same_patches(folders, plan, batches=batches, seed=seed, targets=targets)

    mesh = grid(jax.local_devices()[:space], space)
    one = NamedSharding(mesh, PartitionSpec())

    def sums(params: Any, batch: dict[str, Array]) -> dict[str, tuple[Array, Array]]:
        outputs, _ = model.apply({"params": params}, batch["image"], False)
        found = tasks.pairs(outputs, batch)
        if "seg" in outputs:
            known = segmentation.known(batch["label"], plan.groups, plan.undecided)
            overlap, volume = segmentation.overlaps(
                outputs["seg"], *known, exclusive=plan.exclusive
            )
            found["dice"] = overlap.sum(axis=0), volume.sum(axis=0)
        return found

    compiled = jax.jit(over(sums, mesh, PartitionSpec(), PartitionSpec()))

    def validate(state: State) -> tuple[float, dict[str, float]]:
        params = jax.device_put(weights(state), one)
        drawn: Any = (fixed[index] for index in range(batches))
        rows = [jax.device_get(compiled(params, jax.device_put(batch, one))) for batch in drawn]
        totals = {
            name: [np.sum([row[name][part] for row in rows], axis=0) for part in (0, 1)]
            for name in rows[0]
        }
        parts, found = [], {}
        if "dice" in totals:
            overlap, volume = totals.pop("dice")
            dice = 2 * overlap / np.maximum(volume, 1)
            parts.append(float(dice.mean()))
            found = {"validation_dice": parts[0]}
            found |= {
                f"validation_dice/{n}": float(d) for n, d in zip(plan.names, dice, strict=True)
            }
        means = {name: float(total / max(count, 1)) for name, (total, count) in totals.items()}
        if "accuracy" in means:
            parts.append(means["accuracy"])
        if "heatmap_loss" in means:
            parts.append(1 / (1 + sum(means[name] for name in tasks.TERMS["detection"])))
        found |= {f"validation_{name}": mean for name, mean in means.items()}
        return float(np.mean(parts)), found

    return validate
