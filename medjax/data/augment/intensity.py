"""Intensity augmentation of single volumes: what nnU-Net draws, one volume and channel at a time.

Ranges and probabilities are those of nnU-Net v2 (Isensee et al., 2021); images are meant to be
normalised (about zero mean and unit variance). Each transform costs time only where it is drawn.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt32

from medjax.data.augment.chain import (
    Augmentation,
    Batch,
    Parameters,
    around_one,
    chosen,
    random_words,
    uniform,
    unmoved,
)
from medjax.ops import filters
from medjax.ops.noise import normal

Words = UInt32[Array, "8 c"]

_TINY = 1e-7


class Intensity(NamedTuple):
    """One transform of one volume, applied with `probability`.

    draw(words, present) -> parameters: from 8 random words a channel (8, c); `present` (c,) says
        which channels the sample has.
    run(parameters, image (d, h, w, c)) -> image.
    """

    probability: float
    draw: Callable[[Words, Bool[Array, "c"]], Any]
    run: Callable[[Any, Float[Array, "d h w c"]], Float[Array, "d h w c"]]


def intensity(*transforms: Intensity, channels: int | None = None) -> Augmentation:
    """Transforms of the image in the order given, each drawn on its own for each sample.

    `channels`: only the first so many are transformed (further ones carry no intensities, as maps
    of clicks); None for all. Transforms of probability 0 leave no trace in the compiled graph.
    What is drawn becomes a list of jobs, done one after the other in place: the rest costs nothing,
    on a GPU too, at the price of a small read-back a job; under `vmap` (replicas simulated on one
    device) every transform is computed in each job and selected. Not differentiable in reverse.
    """
    numbered = [(n, t) for n, t in enumerate(transforms) if t.probability > 0]

    def sample(key: PRNGKeyArray, batch: Batch) -> Parameters:
        image = batch["image"]
        count = image[0, 0, 0, 0, :channels].size
        present = batch.get("present", jnp.ones((image.shape[0], image.shape[-1]), bool))
        words = random_words(key, batch, (len(transforms), 9, count))

        def one(words: UInt32[Array, "n 9 c"], present: Bool[Array, "c"]) -> Parameters:
            return tuple(
                (chosen(words[n, 8, 0], t.probability), t.draw(words[n, :8], present))
                for n, t in numbered
            )

        return jax.vmap(one)(words, present[:, :count])

    def apply(parameters: Parameters, batch: Batch) -> Batch:
        if not numbered:
            return batch
        drawn = jnp.stack([on for on, _ in parameters], 1)  # (sample, transform)
        jobs = jnp.flatnonzero(drawn, size=drawn.size, fill_value=0)  # a sample's in their order

        def branch(transform: Intensity, own: Parameters) -> Callable[[Array, Array], Array]:
            def run(sample: Array, image: Array) -> Array:
                return transform.run(jax.tree.map(lambda a: a[sample], own), image)

            return run

        runs = [branch(t, own) for (_, t), (_, own) in zip(numbered, parameters, strict=True)]

        def job(i: Array, images: Float[Array, "b d h w c"]) -> Float[Array, "b d h w c"]:
            sample, transform = jnp.divmod(jobs[i], len(numbered))
            image = images[sample, ..., :channels].astype(jnp.float32)
            image = lax.switch(transform, runs, sample, image).astype(images.dtype)
            return lax.dynamic_update_slice(images, image[None], (sample, 0, 0, 0, 0))

        return {**batch, "image": lax.fori_loop(0, drawn.sum(), job, batch["image"])}

    return Augmentation(sample, apply, unmoved, unmoved)


def noise(probability: float = 0.1, deviation: tuple[float, float] = (0.0, 0.1)) -> Intensity:
    """Add white Gaussian noise; one standard deviation a channel, none where a channel is absent.

    nnU-Net calls this range a variance and uses it as the deviation.
    """

    def draw(words: Words, present: Bool[Array, "c"]) -> Parameters:
        return jnp.where(present, uniform(words[0], *deviation), 0), words[1:3, 0]

    def run(parameters: Parameters, image: Float[Array, "d h w c"]) -> Array:
        width, seed = parameters
        return image + _channelwise(width) * normal(seed, image.shape)

    return Intensity(probability, draw, run)


def blur(
    probability: float = 0.2, sigma: tuple[float, float] = (0.5, 1.0), each: float = 0.5
) -> Intensity:
    """Gaussian blur, sigma in voxels drawn for each axis and channel; each channel by chance."""
    radius = max(1, round(3 * sigma[1]))

    def draw(words: Words, present: Bool[Array, "c"]) -> Parameters:
        return jnp.where(chosen(words[3:4], each), uniform(words[:3], *sigma), 0)

    return Intensity(
        probability, draw, lambda width, image: filters.gaussian_blur(image, width, radius=radius)
    )


def brightness(probability: float = 0.15, factor: tuple[float, float] = (0.75, 1.25)) -> Intensity:
    """Multiply each channel."""
    return Intensity(
        probability,
        lambda words, _: around_one(words[:2], factor),
        lambda factor, image: image * _channelwise(factor),
    )


def contrast(probability: float = 0.15, factor: tuple[float, float] = (0.75, 1.25)) -> Intensity:
    """Stretch each channel about its mean, clipped to its range before."""

    def run(factor: Float[Array, "c"], image: Float[Array, "d h w c"]) -> Array:
        (low, high), (mean, _) = _range(image), _moments(image)
        shift, low, high = _computed((mean - factor * mean, low, high))
        image = image * _channelwise(factor) + _channelwise(shift)
        return jnp.clip(image, _channelwise(low), _channelwise(high))

    return Intensity(probability, lambda words, _: around_one(words[:2], factor), run)


def low_resolution(
    probability: float = 0.25,
    zoom: tuple[float, float] = (0.5, 1.0),
    each: float = 0.5,
    axes: tuple[int, ...] = (0, 1, 2),
) -> Intensity:
    """Simulated low resolution along `axes`: nearest down to `zoom`, linear up.

    One zoom for each channel, each channel by chance. Down-sampling without a filter aliases: fine
    as an augmentation, wrong as a model of thick slices.
    """

    def draw(words: Words, present: Bool[Array, "c"]) -> Parameters:
        return chosen(words[0], each), uniform(words[1], *zoom)

    def one(item: tuple[Array, Array, Array]) -> Array:
        image, on, factor = item
        along = jnp.stack([factor if axis in axes else jnp.ones(()) for axis in range(3)])
        return lax.cond(on, filters.low_resolution, lambda image, _: image, image, along)

    def run(parameters: Parameters, image: Float[Array, "d h w c"]) -> Array:
        return jnp.moveaxis(lax.map(one, (jnp.moveaxis(image, -1, 0), *parameters)), 0, -1)

    return Intensity(probability, draw, run)


def gamma(
    probability: float = 0.3, exponent: tuple[float, float] = (0.7, 1.5), inverted: bool = False
) -> Intensity:
    """Gamma curve over the range of each channel, its mean and deviation restored after.

    `inverted` bends the negative image (bright and dark change places); nnU-Net draws it first,
    with probability 0.1. A constant channel stays as it is.
    """
    sign = -1 if inverted else 1

    def run(exponent: Float[Array, "c"], image: Float[Array, "d h w c"]) -> Array:
        low, high = _range(image) if sign > 0 else _range(image)[::-1]
        extent = jnp.maximum(jnp.abs(high - low), _TINY)
        low, slope = _computed((low, sign / extent))
        unit = (image - _channelwise(low)) * _channelwise(slope)
        # x ** y of XLA:CPU is not vectorised: exp and log are four times faster.
        bent = jnp.exp(_channelwise(exponent) * jnp.log(jnp.maximum(unit, _TINY)))
        (mean, deviation), (bent_mean, bent_deviation) = _moments(image), _moments(bent)
        scale = sign * deviation / jnp.maximum(bent_deviation, _TINY)
        scale, shift = _computed((scale, mean - scale * bent_mean))
        return bent * _channelwise(scale) + _channelwise(shift)

    return Intensity(probability, lambda words, _: around_one(words[:2], exponent), run)


def _range(image: Float[Array, "d h w c"]) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """Least and greatest value, over rows first: XLA:CPU is slow where it reduces to few numbers."""
    rows = image.reshape(-1, image.shape[-2] * image.shape[-1])

    def over(reduce: Callable[..., Array]) -> Float[Array, "c"]:
        return reduce(reduce(rows, 0).reshape(image.shape[-2:]), 0)

    return over(jnp.min), over(jnp.max)


def _moments(image: Float[Array, "d h w c"]) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """Mean and standard deviation, in two passes: the square of a mean would cancel.

    Sums are products with a row of ones, before which XLA finishes the image: fused into a plain
    reduction, its exp and log would be computed anew and one by one.
    """

    def mean_of(image: Array) -> Float[Array, "c"]:
        rows = image.reshape(-1, image.shape[-2] * image.shape[-1])
        ones = jnp.full((1, rows.shape[0]), 1 / rows.shape[0], rows.dtype)
        sums = jnp.matmul(ones, rows, precision=lax.Precision.HIGHEST)
        return sums.reshape(image.shape[-2:]).mean(0)

    mean = mean_of(image)
    return mean, jnp.sqrt(mean_of(jnp.square(image - _channelwise(mean))))


def _computed(values: Any) -> Any:
    """Have XLA finish these first: fused with what uses them, reductions take twice as long."""
    return lax.optimization_barrier(values)


def _channelwise(value: Float[Array, "c"]) -> Float[Array, "1 1 1 c"]:
    return value[None, None, None, :]
