"""An examination: what a scanner makes of a body, by MR physics or with contrasts at random."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from medjax.ops import filters
from medjax.sim import kspace, receiver
from medjax.sim.draws import drawer
from medjax.sim.fields import smooth_noise
from medjax.sim.signal import SpinEcho, protocols, signal_table, vary_protocols
from medjax.sim.tissue import HEAD, TISSUES, Number, stack, tissues, vary

PLANES = ("sagittal", "coronal", "axial")  # of slices, by the axis that they are thick along
FAULTS = ("none", "motion", "ghosting", "spikes", "gibbs")
GRAIN = 3.0  # mm
BLUR = (0.2, 0.6)  # mm
PARENT = 1.0  # mm: the voxels of the parents, of which those of a coarser grid are means
SPIN_ECHO = 0.75  # of the T1-weighted scans; the others are gradient echoes (a design prior)
# How many scans are thick slices, a design prior: of six patients of BraTS 2015 every FLAIR has much less
# detail along one axis, and no T1 after gadolinium has.
SLICED = {"T1": 0.8, "T1ce": 0.15}
OTHERS_SLICED = 0.95


class Look(NamedTuple):
    """What is drawn for one examination: per contrast (c), per tissue (t) and contrast.

    `signals` with the brightest normal tissue at 1 (of each contrast); `texture` the relative
    standard deviation within a tissue; `bias` the logarithm's half span; `noise` relative to 1, before
    the blur; `blur` mm, standard deviation of what interpolation takes; `thickness` mm along `slices`,
    an axis; `fault` indexes `FAULTS`, of strength `degrees`; `scale` brings 1 to the units of a file.
    """

    signals: Float[Array, "t c"]
    texture: Float[Array, "t c"]
    bias: Float[Array, " c"]
    noise: Float[Array, " c"]
    blur: Float[Array, " c"]
    thickness: Float[Array, " c"]
    slices: Array
    fault: Array
    degrees: Float[Array, " c"]
    scale: Float[Array, " c"]


def draw_physics(
    key: Array, contrasts: Sequence[str], *, fields: Sequence[float], faults: float = 0.1
) -> tuple[Look, dict[str, Any]]:
    """An examination at one of the `fields` (1.5, 3.0), and its tissue table and protocols.

    Tissues and settings vary; `SPIN_ECHO` of the T1-weighted scans are spin echoes. With probability
    `faults` a scan shows one of the faults of k-space.
    """
    own_key, tissue_key, protocol_key, look_key = jax.random.split(key, 4)
    draw = drawer(own_key, 3)
    choice = draw(0, len(fields)).astype(jnp.int32)

    def at(options: Sequence[Any]) -> Any:
        return jax.tree.map(lambda *v: jnp.stack([jnp.asarray(x) for x in v])[choice], *options)

    tissue = vary(tissue_key, at([stack(tissues(field)) for field in fields]), normal=0.06)
    rim = draw(0.7, 1.2)  # the published T1 of an enhancing rim is a mean, patients differ
    place = TISSUES.index("enhancing")
    tissue = tissue._replace(t1_gd=jnp.asarray(tissue.t1_gd).at[place].multiply(rim))
    chosen = {name: at([protocols(field)[name] for field in fields]) for name in contrasts}
    chosen = vary_protocols(protocol_key, chosen)
    signals = signal_table(tissue, chosen)
    spin_echo = {name: SpinEcho(600.0, 12.0) for name in contrasts if name in ("T1", "T1ce")}
    echo = draw(0, 1) < SPIN_ECHO
    other = vary_protocols(protocol_key, spin_echo)
    if other:
        both = signal_table(tissue, {**chosen, **other})
        signals = jnp.where(echo, both, signals)
    drawn = {
        "field": jnp.array(fields)[choice],
        "tissue": tissue._asdict(),
        "protocols": {name: protocol._asdict() for name, protocol in chosen.items()},
        "spin_echo_t1": echo,
        "spin_echo_protocols": {name: protocol._asdict() for name, protocol in other.items()},
    }
    brightest = signals[:3].max(axis=0)
    sliced = jnp.array([SLICED.get(name, OTHERS_SLICED) for name in contrasts])
    return _receiver(look_key, signals / brightest[None], 0.03, faults, sliced), drawn


def draw_random(
    key: Array, contrasts: Sequence[str], *, faults: float = 0.1
) -> tuple[Look, dict[str, Any]]:
    """An examination of contrasts that no physics gave: as in SynthSeg (Billot et al., 2023).

    Every tissue has a mean of 25 to 225 and a standard deviation of 5 to 25 at random, here in
    units of 225, in each contrast by itself.
    """
    mean_key, spread_key, look_key = jax.random.split(key, 3)
    size = (len(TISSUES), len(contrasts))
    means = jax.random.uniform(mean_key, size, minval=25, maxval=225)
    spreads = jax.random.uniform(spread_key, size, minval=5, maxval=25)
    look = _receiver(look_key, means / 225, 0.0, faults, 0.5)
    return look._replace(texture=spreads / means), {}


def _receiver(
    key: Array, signals: Array, texture: float, faults: float, sliced: Array | float
) -> Look:
    count = signals.shape[1]
    draw = drawer(key, signals.size + 10 * count)

    def uniform(low: float, high: float) -> Array:
        return draw(low, high, (count,))

    slices = uniform(0, 3).astype(jnp.int32)
    lesion = jnp.where(jnp.arange(len(TISSUES)) < len(HEAD), 1.0, 2.5)[:, None]
    thick = uniform(0, 1) < sliced
    faulty = uniform(0, 1) < faults
    return Look(
        signals=signals,
        texture=texture * lesion * draw(0.5, 1.5, signals.shape),
        bias=uniform(0.02, 0.2),
        noise=uniform(0.005, 0.03),
        blur=uniform(*BLUR),
        thickness=jnp.where(thick, uniform(2.0, 6.0), 0.0),
        slices=slices,
        fault=faulty * (1 + jnp.floor(uniform(0, len(FAULTS) - 1))).astype(jnp.int32),
        degrees=uniform(0.5, 3.0),
        scale=jnp.exp(uniform(6.0, 7.4)),
    )


def in_plane(look: Look, plane: str) -> Look:
    """The examination with its thick slices in one of `PLANES`, or as they were drawn ("any")."""
    if plane == "any":
        return look
    return look._replace(slices=jnp.full_like(look.slices, PLANES.index(plane)))


def scan(
    key: Array, shares: Float[Array, "x y z t"], look: Look, *, spacing: float
) -> Float[Array, "x y z c"]:
    """The magnitude images of a body, in the units of `look.scale`.

    Signals are mixed by the shares of the tissues, with grain; then come the coil's gain, a fault of
    k-space where one was drawn, Rician noise, thick slices, and the blur of a registration and of voxels
    coarser than the parent's, which are read at points.
    """
    keys = jax.random.split(key, (4, look.signals.shape[1]))

    def contrast(own: tuple[tuple[Array, ...], Look]) -> Float[Array, "x y z"]:
        (grain, bias, fault, noise), its = own
        mean = jnp.tensordot(shares, its.signals, 1)
        spread = jnp.tensordot(shares, its.signals * its.texture, 1)
        image = mean + spread * _grain(grain, shares.shape[:3], spacing)
        image = jnp.maximum(image, 0)
        image = receiver.bias_field(bias, image, strength=its.bias, spacing=(spacing,) * 3)
        image = lax.switch(its.fault, _faults(fault, spacing, its.degrees), image)
        # The noise is that of a slice, which averages what the voxels of this grid have.
        averaged = jnp.sqrt(jnp.maximum(its.thickness / spacing, 1))
        image = receiver.rician(noise, image, its.noise * averaged)
        image = lax.switch(its.slices, _slicers(spacing), image, its.thickness)
        passes = math.ceil(2 * _variance(BLUR[1], spacing))
        return filters.spread(image, _variance(its.blur, spacing), passes=passes) * its.scale

    # One after the other, as there is much to compile.
    each = look._replace(signals=look.signals.T, texture=look.texture.T)
    return jnp.moveaxis(lax.map(contrast, (tuple(keys), each)), 0, -1)


def _variance(blur: Number, spacing: float) -> Number:
    """In voxels^2, of what a voxel is a mean of: the blur (mm), and more than the parent's voxels."""
    return (blur**2 + max(spacing**2 - PARENT**2, 0) / 12) / spacing**2


def _grain(key: Array, shape: Sequence[int], spacing: float) -> Float[Array, "x y z"]:
    """Tissue is uneven over some mm and over some more."""
    fine_key, coarse_key = jax.random.split(key)
    fine = smooth_noise(fine_key, shape, spacing, GRAIN)[0]
    return 0.8 * fine + 0.6 * smooth_noise(coarse_key, shape, spacing, 4 * GRAIN)[0]


def _slicers(spacing: float) -> list[Any]:
    """Thick slices along each axis."""

    def along(axis: int) -> Any:
        return lambda image, thickness: receiver.thick_slices(
            image, axis=axis, thickness=thickness, spacing=spacing
        )

    return [along(axis) for axis in range(3)]


def _faults(key: Array, spacing: float, degrees: Array) -> list[Any]:
    """One function a fault, in the order of `FAULTS`; phases are encoded along y."""
    return [
        lambda v: v,
        lambda v: kspace.motion(
            key, v, axis=1, degrees=degrees, mm=degrees, spacing=(spacing,) * 3
        ),
        lambda v: kspace.ghosting(key, v, axis=1, ghosts=2, strength=degrees / 10),
        lambda v: kspace.spikes(key, v, count=2, strength=degrees / 20),
        lambda v: jnp.abs(kspace.gibbs(v, keep=0.6)),
    ]
