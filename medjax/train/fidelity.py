"""How true made images are: over patches while the run goes on, on whole unseen scans at its end."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Integer

from medjax.data.cases import Case
from medjax.data.convention import IGNORE
from medjax.data.plan import Plan
from medjax.data.prepare import Scan, load
from medjax.infer.predictor import Forward, Predictor
from medjax.infer.restore import channel_masks, restore_channel
from medjax.infer.sliding import sliding_window
from medjax.io.files import write
from medjax.metrics import synthesis
from medjax.metrics.overlap import count, dice
from medjax.space.volume import Volume
from medjax.train.cyclegan import Networks
from medjax.train.evaluate import Row
from medjax.train.loop import Validate
from medjax.train.report.sheets import Sheet
from medjax.train.state import Params, State, weights
from medjax.train.validate import same_patches

IMAGE = "image"  # the `class` of a row about the whole image
MEAN, SPREAD = 2000, 250  # of the brain in files of made images: any unit will do, 0 is outside
SHOWN = 4  # sample sheets


def there_and_back(
    networks: Networks,
    params: Params,
    image: Float[Array, "b d h w 1"],
    masks: Float[Array, "b d h w k"],
) -> tuple[Float[Array, "b d h w 1"], Float[Array, "b d h w 1"]]:
    """The target made from a source image, and the source made from that."""
    made = networks.translate(params["g"], image, masks)
    return made, networks.translate(params["f"], made, masks)


def validator(
    networks: Networks, folders: Sequence[Path], plan: Plan, *, batches: int, seed: int
) -> Validate | None:
    """A function from the state to a score and `{validation_mae, validation_cycle}`, or None without cases.

    The same patches every time, half of them around labelled voxels. `validation_mae` compares the
    made target with the true one of the same case, `validation_cycle` the source with its way there
    and back, in the plan's units over voxels that are not 0. The score is 1 / (1 + validation_mae).
    """
    if not folders or not batches:
        return None
    fixed = same_patches(folders, plan, batches=batches, seed=seed)

    @jax.jit
    def sums(params: Params, image: Array, label: Array) -> Float[Array, "3"]:
        source = image[..., networks.source, None]
        made, returned = there_and_back(networks, params, source, networks.masks(label))
        errors = jnp.abs(jnp.concatenate([made, returned], -1) - image[..., _channels(networks)])
        known = jnp.any(image != 0, axis=-1, keepdims=True)
        counted = jnp.concatenate([errors * known, known.astype(jnp.float32)], axis=-1)
        return jnp.sum(counted, axis=(0, 1, 2, 3))

    def validate(state: State) -> tuple[float, dict[str, float]]:
        params = jax.device_put(weights(state), jax.local_devices()[0])
        total = np.zeros(3)
        for index in range(batches):
            batch: Any = fixed[index]
            total += np.asarray(sums(params, batch["image"], batch["label"]))
        error, cycle = (total[:2] / max(total[2], 1)).tolist()
        return 1 / (1 + error), {"validation_mae": error, "validation_cycle": cycle}

    return validate


def _channels(networks: Networks) -> np.ndarray:
    return np.array([networks.target, networks.source])


def translator(networks: Networks, params: Params) -> Forward:
    """Compiled windows (t, d, h, w, 1 + k) of image and masks -> (t, d, h, w, 2): there, and back."""

    @jax.jit
    def apply(params: Params, seen: Array) -> Array:
        pair = there_and_back(networks, params, seen[..., :1], seen[..., 1:])
        return jnp.concatenate(pair, axis=-1)

    return lambda seen: apply(params, seen)


def translate_prepared(
    image: Float32[np.ndarray, "d h w c"],
    label: Integer[np.ndarray, "d h w"],
    forward: Forward,
    networks: Networks,
    plan: Plan,
    *,
    tiles: int,
) -> Float32[np.ndarray, "d h w 2"]:
    """A case on the plan's grid and in its units, window by window: the made target, and the way back."""
    masks = np.asarray(networks.masks(jnp.asarray(label)[None])[0])
    seen = np.concatenate([image[..., networks.source, None], masks], axis=-1)
    return sliding_window(forward, seen, plan.patch, tiles=tiles)


def translate(
    scan: Scan, name: str, forward: Forward, networks: Networks, plan: Plan, *, tiles: int
) -> dict[str, Float32[np.ndarray, "x y z"]]:
    """A labelled scan on its own RAS+ grid, in the plan's units: made, returned, target, source."""
    image, label, geometry = plan.prepare(scan, name)
    assert label is not None
    found = translate_prepared(image, label, forward, networks, plan, tiles=tiles)
    channels = np.concatenate([found, image[..., _channels(networks)]], axis=-1)
    names = ("made", "returned", "target", "source")
    return {n: restore_channel(channels[..., i], geometry) for i, n in enumerate(names)}


def compare(
    images: dict[str, Float32[np.ndarray, "x y z"]],
    scan: Scan,
    brain: Bool[np.ndarray, "x y z"],
    plan: Plan,
) -> list[Row]:
    """One row of the whole image, one of each class or region; errors in deviations of the brain.

    image: `mae`, `mae_source` (of the source itself: what no translation gives), `mae_lesion`,
    `mae_cycle`, `ssim`. Each class: `contrast` and `contrast_true` against the brain within 10 mm of
    the lesions, and `contrast_error`, their absolute difference.
    """
    assert scan.label is not None  # it was split as a labelled case
    lesions = (scan.label > 0) & (scan.label != IGNORE)
    unit = {n: max(float(images[n][brain].std()), 1e-8) for n in ("target", "source")}
    made, target, source = (np.where(brain, images[n], 0) for n in ("made", "target", "source"))
    rows: list[Row] = [
        {
            "class": IMAGE,
            "mae": synthesis.mae(made, target, brain) / unit["target"],
            "mae_source": synthesis.mae(source, target, brain) / unit["target"],
            "mae_lesion": synthesis.mae(made, target, brain & lesions) / unit["target"],
            "mae_cycle": synthesis.mae(images["returned"], source, brain) / unit["source"],
            "ssim": synthesis.ssim(made, target, brain),
        }
    ]
    around = synthesis.surroundings(lesions, brain, scan.spacing)
    for name, mask in channel_masks(scan.label, plan.labels).items():
        found, true = (synthesis.contrast(image, mask, around) for image in (made, target))
        scores = {"contrast": found, "contrast_true": true, "contrast_error": abs(found - true)}
        rows.append({"class": name, **scores})
    return rows


def audit(
    cases: Sequence[Case],
    networks: Networks,
    params: Params,
    plan: Plan,
    folder: Path,
    *,
    judge: Predictor | None = None,
    spacing: Sequence[float] = (),
    tiles: int = 8,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[list[Row], list[Sheet]]:
    """Makes the target of each test case from its source, saves it, and holds it against the true one.

    `judge`, a segmenter of the target channel that was trained on true images, adds to the row of
    each class its Dice on the made image, `dice_made`, and on the true one, `dice_true`: where they
    part, lesions were lost or invented. Rows as `compare` gives them, and sheets of the first `SHOWN` cases.
    """
    forward = translator(networks, params)
    source, target = (plan.channels[c] for c in (networks.source, networks.target))
    rows: list[Row] = []
    sheets: list[Sheet] = []
    for case in progress(cases):
        scan = load(case, plan.labels, len(plan.channels), spacing=spacing)
        assert scan.label is not None
        images = translate(scan, case.id, forward, networks, plan, tiles=tiles)
        brain = np.any(scan.image != 0, axis=-1)
        stored = as_scan(images["made"], brain)
        volume = scan.orientation.undo(Volume(stored.astype(np.int16), scan.affine))
        write(volume, folder / f"{case.id}_{target}.nii.gz")
        found = compare(images, scan, brain, plan)
        if judge is not None:
            both = (stored, scan.image[..., networks.target])
            dices = [segmented(judge, scan, image) for image in both]
            found[1:] = [
                {"class": row["class"], "dice_made": made, "dice_true": true, **row}
                for row, made, true in zip(found[1:], *dices, strict=True)
            ]
        rows += [{"case": case.id, **row} for row in found]
        if len(sheets) < SHOWN:
            panels = {
                source: images["source"],
                f"{target}, made": images["made"] * brain,
                f"{target}, true": images["target"],
                f"{source}, there and back": images["returned"] * brain,
            }
            names = list(panels)
            levels = dict(zip(names, (names[0], names[2], names[2], names[0]), strict=True))
            scores = {key: value for key, value in found[0].items() if key != "class"}
            sheets.append(Sheet(case.id, panels, levels, scan.label, scan.spacing, scores))
    return rows, sheets


def as_scan(
    image: Float32[np.ndarray, "x y z"], brain: Bool[np.ndarray, "x y z"]
) -> Float32[np.ndarray, "x y z"]:
    """Whole numbers as a scanner's: mean 2000 and deviation 250 in the brain, 0 outside and only there."""
    inside = image[brain]
    scaled = (image - inside.mean()) / max(float(inside.std()), 1e-8) * SPREAD + MEAN
    return np.where(brain, np.clip(np.rint(scaled), 1, np.iinfo(np.int16).max), 0)


def segmented(judge: Predictor, scan: Scan, image: Float32[np.ndarray, "x y z"]) -> list[float]:
    """The Dice of each class or region when `judge` segments this image of the scan."""
    assert scan.label is not None
    shown = Scan(image[..., None], scan.label, scan.affine, scan.spacing, scan.orientation)
    found, wanted = (
        channel_masks(labels, judge.plan.labels)
        for labels in (judge.labels(shown, "made"), scan.label)
    )
    counted = scan.label != IGNORE
    return [dice(count(found[n] & counted, wanted[n] & counted)) for n in judge.plan.names]
