"""Validation during training: the Dice over fixed patches of the validation cases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.data.patches import patches
from medjax.data.plan import Plan
from medjax.losses import segmentation
from medjax.train.loop import Validate
from medjax.train.state import State, weights


def same_patches(
    folders: Sequence[Path], plan: Plan, *, batches: int, seed: int
) -> grain.MapDataset:
    """The batches that every validation of a run looks at, half of them around labelled voxels."""
    return patches(
        folders,
        patch=plan.patch,
        batch=plan.batch,
        steps=batches,
        seed=seed + 1,
        foreground=0.5,
    )


def validator(
    model: Any, folders: Sequence[Path], plan: Plan, *, batches: int, seed: int
) -> Validate | None:
    """A function from the state to the mean Dice and `{validation_dice, validation_dice/CLASS}`.

    None without cases. The same patches every time, half of them around labelled voxels, without
    augmentation; overlaps and volumes are summed over all patches before the ratio (nnU-Net's pseudo
    Dice), per class. It judges the running mean of the weights where one is kept. It chooses
    checkpoints; it is no test score.
    """
    if not folders or not batches:
        return None
    fixed = same_patches(folders, plan, batches=batches, seed=seed)

    @jax.jit
    def sums(
        params: Any, image: Array, label: Array
    ) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        outputs, _ = model.apply({"params": params}, image, False)
        logits = outputs["seg"].astype(jnp.float32)
        valid = (label != segmentation.IGNORE)[..., None]
        target = segmentation.targets(label, plan.groups) * valid
        if plan.exclusive:
            decided = (logits >= jnp.max(logits, axis=-1, keepdims=True)) * valid
            decided, target = decided[..., 1:], target[..., 1:]
        else:
            decided = (logits > 0) * valid
        axes = (0, 1, 2, 3)
        return jnp.sum(decided * target, axes), jnp.sum(decided, axes) + jnp.sum(target, axes)

    def validate(state: State) -> tuple[float, dict[str, float]]:
        params = jax.device_put(weights(state), jax.devices()[0])
        overlap = np.zeros(len(plan.names))
        volume = np.zeros(len(plan.names))
        for index in range(batches):
            batch: Any = fixed[index]
            found = sums(params, batch["image"], batch["label"])
            overlap += np.asarray(found[0])
            volume += np.asarray(found[1])
        dice = 2 * overlap / np.maximum(volume, 1)
        by_class = {f"validation_dice/{n}": float(d) for n, d in zip(plan.names, dice, strict=True)}
        mean = float(dice.mean())
        return mean, {"validation_dice": mean, **by_class}

    return validate
