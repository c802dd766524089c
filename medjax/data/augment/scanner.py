"""Faults of an MR scanner as augmentation: at most one a channel, drawn for each sample."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from medjax.data.augment.chain import (
    Augmentation,
    Batch,
    Parameters,
    random_words,
    uniform,
    unmoved,
)
from medjax.errors import UserError
from medjax.sim import kspace, receiver

Volume = Float[Array, "d h w"]
Fault = Callable[[PRNGKeyArray, Float[Array, "2"], Volume], Volume]


def scanner(
    spacing: Sequence[float],
    *,
    motion: float = 0.0,
    ghosting: float = 0.0,
    spikes: float = 0.0,
    gibbs: float = 0.0,
    undersampling: float = 0.0,
    thick_slices: float = 0.0,
    channels: int | None = None,
) -> Augmentation:
    """Put faults into the image, each with its probability in each channel; their sum is 1 at most.

    spacing: of the voxels in mm, along d, h, w.
    channels: only the first so many carry intensities; None for all. Absent ones (`present`) stay.

    The axis along which k-space is read or sliced is any with more than one voxel, and the severity
    uniform: motion up to 3 degrees and 3 mm in 16 segments; 2 to 6 ghosts of lines weakened by up
    to 0.8; one to three spikes of up to 0.15; k-space cut to 0.3 of its extent or more; up to four
    times fewer lines, their middle tenth kept; slices up to 6 mm thick, or two voxels where that is
    more. See `medjax.sim` for what these mean.
    Images need not be magnitudes: their minimum is subtracted before and added after. Faults leave
    signal outside the head, also where a scan was skull-stripped.
    What is drawn becomes a list of jobs, done one after the other in place: the rest costs nothing,
    and faults of probability 0 are not compiled. Not differentiable in reverse.
    """
    chances = (motion, ghosting, spikes, gibbs, undersampling, thick_slices)
    if min(chances) < 0 or sum(chances) > 1 + 1e-6:
        raise UserError(
            f"scanner: probabilities {chances}; give 0 or more each and 1 or less together"
        )
    makers = (_motion, _ghosting, _spikes, _gibbs, _undersampling, _thick_slices)
    some = [(chance, make) for chance, make in zip(chances, makers, strict=True) if chance > 0]
    limits = np.cumsum([chance for chance, _ in some], dtype=np.float32)

    def sample(key: PRNGKeyArray, batch: Batch) -> Parameters:
        image = batch["image"]
        count = image[0, 0, 0, 0, :channels].size
        words = random_words(key, batch, (6, count))
        fault = (uniform(words[:, 0])[..., None] >= limits.reshape(1, 1, -1)).sum(-1)
        present = batch.get("present", jnp.ones((image.shape[0], image.shape[-1]), bool))
        fault = jnp.where(present[:, :count], fault, len(some))  # the number after the last: none
        return {"fault": fault, "words": jnp.moveaxis(words[:, 1:], 1, -1)}

    def apply(parameters: Parameters, batch: Batch) -> Batch:
        if not some:
            return batch
        shape = batch["image"].shape[1:4]
        axes = [axis for axis in range(3) if shape[axis] > 1]
        runs = [_offset(make(axis, spacing)) for _, make in some for axis in axes]
        fault, words = parameters["fault"], parameters["words"]
        drawn = fault < len(some)
        jobs = jnp.flatnonzero(drawn, size=drawn.size, fill_value=0)

        def job(i: Array, images: Float[Array, "b d h w c"]) -> Float[Array, "b d h w c"]:
            number, channel = jnp.divmod(jobs[i], fault.shape[1])
            own = words[number, channel]
            which = fault[number, channel] * len(axes) + own[0] % len(axes)
            key = jax.random.wrap_key_data(own[1:3], impl="threefry2x32")
            start = (number, 0, 0, 0, channel)
            volume = lax.dynamic_slice(images, start, (1, *shape, 1)).reshape(shape)
            volume = lax.switch(which, runs, key, uniform(own[3:]), volume.astype(jnp.float32))
            volume = volume.astype(images.dtype).reshape(1, *shape, 1)
            return lax.dynamic_update_slice(images, volume, start)

        return {**batch, "image": lax.fori_loop(0, drawn.sum(), job, batch["image"])}

    return Augmentation(sample, apply, unmoved, unmoved)


def _offset(fault: Fault) -> Fault:
    """The fault of an image that is no magnitude: taken from its minimum."""

    def run(key: PRNGKeyArray, severity: Float[Array, "2"], volume: Volume) -> Volume:
        low = volume.min()
        return fault(key, severity, volume - low) + low

    return run


def _between(share: Float[Array, ""], low: float, high: float) -> Float[Array, ""]:
    return low + (high - low) * share


def _motion(axis: int, spacing: Sequence[float]) -> Fault:
    return lambda key, severity, volume: kspace.motion(
        key, volume, axis=axis, degrees=3 * severity[0], mm=3 * severity[1], spacing=spacing
    )


def _ghosting(axis: int, spacing: Sequence[float]) -> Fault:
    return lambda key, severity, volume: kspace.ghosting(
        key,
        volume,
        axis=axis,
        ghosts=jnp.floor(_between(severity[1], 2, 7)).astype(jnp.int32),
        strength=0.8 * severity[0],
    )


def _spikes(axis: int, spacing: Sequence[float]) -> Fault:
    """Spikes have no axis: it says how many there are."""
    return lambda key, severity, volume: kspace.spikes(
        key, volume, count=axis + 1, strength=0.15 * severity[0]
    )


def _gibbs(axis: int, spacing: Sequence[float]) -> Fault:
    return lambda key, severity, volume: kspace.gibbs(
        volume, axis=axis, keep=_between(severity[0], 1.0, 0.3)
    )


def _undersampling(axis: int, spacing: Sequence[float]) -> Fault:
    return lambda key, severity, volume: kspace.undersample(
        key, volume, axis=axis, acceleration=_between(severity[0], 1.0, 4.0)
    )


def _thick_slices(axis: int, spacing: Sequence[float]) -> Fault:
    thickest = max(6.0, 2 * spacing[axis])
    return lambda key, severity, volume: receiver.thick_slices(
        volume,
        axis=axis,
        thickness=_between(severity[0], spacing[axis], thickest),
        spacing=spacing[axis],
    )
