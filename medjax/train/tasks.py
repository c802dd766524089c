"""Classification and detection beside the segmentation: what their heads learn from a batch."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Float, Integer

from medjax.losses import classification, detection
from medjax.losses.segmentation import IGNORE
from medjax.ops.boxes import heatmap, instance_boxes
from medjax.train.step import Batch, Pairs

TERMS = {  # what each pair counts in its task
    "segmentation": {"dice_loss": 1.0, "cross_entropy": 1.0},
    "classification": {"class_entropy": 1.0},
    "detection": {"heatmap_loss": 1.0, "offset_loss": 1.0, "size_loss": 1.0},
}
HEADS = {"segmentation": "seg", "classification": "cls", "detection": "det"}
OBJECTS = 16  # told apart in a patch; there is no more room for boxes


def pairs(outputs: Mapping[str, Any], batch: Batch) -> Pairs:
    """What the heads `cls` and `det` of a model learn from `target` and `instances` of its batch.

    target: the class of each sample, -1 where nobody said. instances: 0, the numbers of objects from 1 on,
    255 wherever nobody searched. Either may be absent in any sample.
    """
    found: Pairs = {}
    if "cls" in outputs:
        found["class_entropy"] = classification.class_entropy(outputs["cls"], batch["target"])
        score = classification.accuracy(outputs["cls"], batch["target"])
        found["accuracy"] = jax.lax.stop_gradient(score)
    if "det" in outputs:
        found |= detected(outputs["det"], batch["instances"])
    return found


def detected(
    outputs: Mapping[str, Float[Array, "b d h w _"]], instances: Integer[Array, "b D H W"]
) -> Pairs:
    """`heatmap_loss`, `offset_loss` and `size_loss` of one class of objects.

    A voxel of the head's grid was searched where all voxels of its block were, or an object's centre is.
    """
    logits = outputs["heatmap"][..., 0]
    depth, height, width = logits.shape[1:]
    grid = tuple(n // m for n, m in zip(instances.shape[1:], logits.shape[1:], strict=True))
    unknown = instances.reshape(-1, depth, grid[0], height, grid[1], width, grid[2]) == IGNORE
    searched = ~unknown.any(axis=(2, 4, 6))

    def one(sample: tuple[Array, ...]) -> tuple[Array, Any]:
        numbers, offset, size = sample
        boxes = instance_boxes(numbers, OBJECTS).on(grid)
        peaks = heatmap(boxes, (depth, height, width))
        return peaks, detection.box_loss(offset, size, boxes)

    peaks, (offset, size) = jax.lax.map(one, (instances, outputs["offset"], outputs["size"]))
    return {
        "heatmap_loss": detection.heatmap_loss(logits, peaks, searched | (peaks == 1)),
        "offset_loss": (offset[0].sum(), offset[1].sum()),
        "size_loss": (size[0].sum(), size[1].sum()),
    }
