"""How well a network makes what is hidden: over patches while the run goes on, on unseen scans at its end."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32

from medjax.data.cases import Case
from medjax.data.convention import IGNORE
from medjax.data.plan import Plan
from medjax.data.prepare import load
from medjax.infer.restore import restore_channel
from medjax.infer.sliding import sliding_window
from medjax.train.evaluate import Row
from medjax.train.loop import Validate
from medjax.train.masked import cells, hide
from medjax.train.report.sheets import Sheet
from medjax.train.state import Params, State, weights
from medjax.train.validate import same_patches

IMAGE = "image"  # the `class` of a row about the whole image
SHOWN = 4  # sample sheets


def fixed_mask(
    shape: Sequence[int], block: int, share: float, seed: int
) -> Bool[np.ndarray, "d h w"]:
    """The mask that a volume is judged with, the same every time."""
    depth, height, width = shape
    size = depth, height, width
    chosen = np.random.default_rng(seed).random(cells(size, block)) < share
    return np.asarray(hide(jnp.asarray(chosen), size, block))


def validator(
    model: Any,
    folders: Sequence[Path],
    plan: Plan,
    *,
    block: int,
    share: float,
    batches: int,
    seed: int,
) -> Validate | None:
    """A function from the state to 1 / (1 + error) and `{validation_reconstruction}`; None without cases.

    The squared error of hidden voxels over the same patches and masks every time.
    """
    if not folders or not batches:
        return None
    fixed = same_patches(folders, plan, batches=batches, seed=seed)
    masks = np.stack([fixed_mask(plan.patch, block, share, seed + i) for i in range(plan.batch)])

    @jax.jit
    def total(params: Params, image: Array) -> Float[Array, ""]:
        given = jnp.where(masks[..., None], 0, image)
        outputs, _ = model.apply({"params": params}, given, False)
        return jnp.sum(jnp.square(outputs["seg"] - image).mean(axis=-1) * masks)

    def validate(state: State) -> tuple[float, dict[str, float]]:
        params = jax.device_put(weights(state), jax.local_devices()[0])
        found = 0.0
        for index in range(batches):
            batch: Any = fixed[index]
            found += float(total(params, batch["image"]))
        error = found / (batches * max(int(masks.sum()), 1))
        return 1 / (1 + error), {"validation_reconstruction": error}

    return validate


def audit(
    cases: Sequence[Case],
    model: Any,
    params: Params,
    plan: Plan,
    *,
    block: int,
    share: float,
    spacing: Sequence[float] = (),
    tiles: int = 2,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[list[Row], list[Sheet]]:
    """How well hidden parts of unseen scans are made: a row a case, and sheets of the first `SHOWN`.

    `mae_hidden` is the mean absolute error of hidden voxels within the scan, in the plan's units, `mae_mean`
    that of its mean in their place: what nothing learned gives.
    """

    @jax.jit
    def forward(params: Params, seen: Array) -> Array:
        return model.apply({"params": params}, seen, False)[0]["seg"]

    rows: list[Row] = []
    sheets: list[Sheet] = []
    for number, case in enumerate(progress(cases)):
        scan = load(case, plan.labels, len(plan.channels), spacing=spacing)
        image, label, geometry = plan.prepare(scan, case.id)
        hidden = fixed_mask(image.shape[:3], block, share, number)
        given = np.where(hidden[..., None], np.float32(0), image)
        made = sliding_window(lambda seen: forward(params, seen), given, plan.patch, tiles=tiles)
        counted = hidden & np.any(image != 0, axis=-1)
        errors = {"mae_hidden": np.abs(made - image), "mae_mean": np.abs(image)}
        row = {
            name: float(error[counted].mean()) if counted.any() else math.nan
            for name, error in errors.items()
        }
        rows.append({"case": case.id, "class": IMAGE, **row})
        if len(sheets) < SHOWN:
            filled = np.where(hidden[..., None], made, image)
            shown: dict[str, Float32[np.ndarray, "x y z"]] = {
                f"{plan.channels[0]}{suffix}": restore_channel(volume[..., 0], geometry)
                for suffix, volume in (("", image), (", hidden", given), (", filled in", filled))
            }
            levels = dict.fromkeys(shown, plan.channels[0])
            outlined = np.zeros(scan.image.shape[:3], np.uint8) if label is None else scan.label
            assert outlined is not None
            outlined = np.where(outlined == IGNORE, 0, outlined)
            sheets.append(Sheet(case.id, shown, levels, outlined, scan.spacing, row))
    return rows, sheets
