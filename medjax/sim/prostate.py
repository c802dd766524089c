"""A phantom of biparametric prostate MRI: zones, cancers, and what is taken for them.

Tissues are layers, each over those before, with a T2 and an apparent diffusion coefficient (ADC) of its
own; their signals, not their parameters, are mixed. Means over patients: peripheral zone T2 149 ms and ADC
1.68 um2/ms, transition zone 125 and 1.48, cancer T2 97, with the deviations between patients (Simpkin and
others 2013); ADC of significant cancer 0.86, of insignificant 1.1 (Meyer and others 2020, 1633 lesions);
prostatitis 1.08 (Nagel and others 2013); benign nodules 1.27 to 1.34 (PubMed 26760185). All else, T2 of
nodules and of prostatitis and what lies around the gland among it, is a design prior.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from medjax.ops.sampling import Coordinates
from medjax.sim.draws import normal
from medjax.sim.fields import smooth_noise
from medjax.sim.receiver import bias_field, rician

SHAPE, SPACING = (48, 48, 16), (1.25, 1.25, 3.0)  # voxels and mm along right, anterior, superior
CHANNELS = ("T2", "ADC", "DWI")
CLASSES = ("background", "transition", "peripheral", "lesion")
LESIONS, NODULES = 3, 5  # at most
NUMBER = (0.25, 0.4, 0.25, 0.1)  # chances of 0 to 3 lesions
PERIPHERAL = 0.7  # share of the lesions that lie in the peripheral zone
ECHO, ECHO_DWI = 100.0, 70.0  # ms
B = (0.05, 0.8, 1.4)  # ms/um2: the first two give the ADC, the last is the high b-value
EDGE = 0.8  # mm over which one tissue becomes the next
MOST_ADC = 3.5  # um2/ms, of the map
_DRAWS = [
    "bend",
    "size",
    "cancers",
    "tissue",
    "texture",
    "shift",
    "around",
    "nodules",
    "prostatitis",
    "scan",
]


class Cancers(NamedTuple):
    """Lesions of a patient, each only where `there`; places and radii in mm, T2 in ms, ADC in um2/ms."""

    centre: Float[Array, "n 3"]
    radius: Float[Array, "n 3"]
    adc: Float[Array, " n"]
    t2: Float[Array, " n"]
    there: Bool[Array, " n"]
    significant: Bool[Array, " n"]


class Prostate(NamedTuple):
    """A patient: image (T2-weighted, ADC in um2/ms, DWI at the high b-value), zones, lesions by number.

    zones: 0, 1 transition, 2 peripheral. lesions: 0, or the number from 1 on of that row of `cancers`.
    """

    image: Float[Array, "x y z 3"]
    zones: UInt8[Array, "x y z"]
    lesions: UInt8[Array, "x y z"]
    cancers: Cancers


class Layer(NamedTuple):
    """A tissue: its share of each voxel, proton density, T2 (ms), ADC (um2/ms); fat is suppressed in DWI."""

    share: Float[Array, "x y z"]
    density: Array | float
    t2: Array | float
    adc: Array | float
    suppressed: float = 1.0


def draw(key: Array) -> Prostate:
    """One patient, of the key alone; to be compiled."""
    keys = dict(zip(_DRAWS, jax.random.split(key, len(_DRAWS)), strict=True))
    points = _moved(_grid(), 2.0 * smooth_noise(keys["bend"], SHAPE, SPACING, 25.0, 3))
    size = jax.random.uniform(keys["size"], (4,))
    radii = jnp.array([22.0, 14.0, 17.0]) + size[:3] * jnp.array([6.0, 5.0, 6.0])
    inner = 0.55 + 0.3 * size[3]  # the transition zone grows with age
    middle = jnp.array([0.0, 0.6, 0.0]) * (1 - inner) * radii
    gland = _inside(points, jnp.zeros(3), radii)
    transition = _inside(points, middle, inner * radii)
    zones = gland * transition, gland * (1 - transition)
    cancers = _cancers(keys["cancers"], zones)
    spread = jnp.array([0.21, 0.33, 0.094, 0.128])  # T2, then ADC, of both zones
    tissue = jnp.array([125.0, 149.0, 1.478, 1.68]) * _around_one(keys["tissue"], spread)
    texture = smooth_noise(keys["texture"], SHAPE, SPACING, 6.0, 2)
    shift = jax.random.uniform(keys["shift"], minval=-2.0, maxval=2.0)  # mm, of echo-planar images

    def layers(points: Coordinates) -> list[Layer]:
        """The tissues at these points, from the background to the lesions."""
        gland = _inside(points, jnp.zeros(3), radii)
        inside = _inside(points, middle, inner * radii)
        return [
            *_around(points, radii, keys["around"]),
            Layer(gland, 0.9, tissue[1] * jnp.exp(0.1 * texture[1]), tissue[3]),
            Layer(gland * inside, 0.85, tissue[0] * jnp.exp(0.15 * texture[0]), tissue[2]),
            *_nodules(points, keys["nodules"], middle, inner * radii, gland * inside),
            _prostatitis(points, keys["prostatitis"], gland * (1 - inside), radii),
            *[
                Layer(share * gland, 0.85, cancers.t2[number], cancers.adc[number])
                for number, share in enumerate(_shares(points, cancers))
            ],
        ]

    shares = jnp.stack([share * gland for share in _shares(points, cancers)])
    lesions = jnp.where(shares.max(axis=0) > 0.5, shares.argmax(axis=0) + 1, 0).astype(jnp.uint8)
    there = jnp.arange(1, LESIONS + 1)[:, None, None, None] == lesions[None]
    cancers = cancers._replace(there=cancers.there & there.any(axis=(1, 2, 3)))
    image = _scan(keys["scan"], layers(points), layers(_moved(points, (0.0, -shift, 0.0))))
    parts = jnp.where(zones[0] > zones[1], 1, 2)
    return Prostate(image, jnp.where(gland > 0.5, parts, 0).astype(jnp.uint8), lesions, cancers)


def _grid() -> Coordinates:
    """Places of the voxels in mm from the middle of the view."""
    lines = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(SHAPE, SPACING, strict=True)]
    x, y, z = np.meshgrid(*lines, indexing="ij")
    return jnp.float32(x), jnp.float32(y), jnp.float32(z)


def _around_one(key: Array, spread: Array) -> Array:
    """Log-normal factors of mean 1 and about these deviations."""
    return jnp.exp(spread * normal(key, spread.shape) - spread**2 / 2)


def _moved(points: Coordinates, by: Any) -> Coordinates:
    x, y, z = (place + step for place, step in zip(points, by, strict=True))
    return x, y, z


def _inside(points: Coordinates, centre: Array, radii: Array) -> Float[Array, "x y z"]:
    """The share of an ellipsoid in each voxel: its edge is soft."""
    scaled = sum(((points[i] - centre[i]) / radii[i]) ** 2 for i in range(3))
    return jax.nn.sigmoid((1 - jnp.sqrt(jnp.asarray(scaled))) * radii.min() / EDGE)


def _cancers(key: Array, zones: tuple[Array, Array]) -> Cancers:
    """How many, where, how large, and how aggressive.

    The more aggressive, the lower the ADC; significant is one with a chance that rises as the ADC falls and
    with the volume, as a biopsy says it: what is seen does not decide it.
    """
    number_key, zone_key, place_key, size_key, grade_key, chance_key = jax.random.split(key, 6)
    number = jax.random.choice(number_key, LESIONS + 1, p=jnp.array(NUMBER))
    outer = jax.random.bernoulli(zone_key, PERIPHERAL, (LESIONS,))
    grid = jnp.stack([place.ravel() for place in _grid()], axis=-1)

    def place(own: Array, peripheral: Array) -> Array:
        weight = jnp.where(peripheral, zones[1], zones[0]).ravel() > 0.6
        return grid[jax.random.categorical(own, jnp.where(weight, 0.0, -jnp.inf))]

    centre = jax.vmap(place)(jax.random.split(place_key, LESIONS), outer)
    drawn = normal(size_key, (LESIONS, 4))
    radius = jnp.clip(5.5 * jnp.exp(0.35 * drawn[:, :1] + 0.12 * drawn[:, 1:]), 3.0, 14.0)
    grade = normal(grade_key, (LESIONS, 2))
    adc = jnp.clip(0.95 + 0.17 * grade[:, 0], 0.5, 1.5)
    t2 = 97.0 * jnp.exp(0.23 * grade[:, 1] - 0.23**2 / 2)
    volume = 4 / 3 * jnp.pi * radius.prod(axis=1) / 1000  # ml
    chance = jax.nn.sigmoid((1.0 - adc) / 0.05 + 1.5 * jnp.log(volume / 0.5))
    significant = jax.random.bernoulli(chance_key, chance)
    return Cancers(centre, radius, adc, t2, jnp.arange(LESIONS) < number, significant)


def _shares(points: Coordinates, cancers: Cancers) -> list[Array]:
    """The share of each lesion in each voxel, 0 of those that are not."""
    return [
        jnp.where(cancers.there[i], _inside(points, cancers.centre[i], cancers.radius[i]), 0)
        for i in range(LESIONS)
    ]


def _nodules(
    points: Coordinates, key: Array, middle: Array, radii: Array, zone: Array
) -> list[Layer]:
    """Benign nodules of the transition zone: stromal ones are dark on T2, and dim on the ADC."""
    drawn = jax.random.uniform(key, (NODULES, 8))
    layers = []
    for row in drawn:
        centre = middle + (2 * row[:3] - 1) * 0.6 * radii
        stromal, radius = row[3] < 0.5, 4.0 + 5.0 * row[4]
        share = _inside(points, centre, jnp.full(3, radius)) * zone * (row[5] < 0.7)
        t2 = jnp.where(stromal, 85.0, 165.0) * (0.85 + 0.3 * row[6])
        adc = jnp.where(stromal, 1.2, 1.45) + 0.3 * (row[7] - 0.5)
        layers.append(Layer(share, 0.85, t2, adc))
    return layers


def _prostatitis(points: Coordinates, key: Array, zone: Array, radii: Array) -> Layer:
    """In half of the patients a part of the peripheral zone that is inflamed: a blurred wedge, no ball."""
    side_key, there_key, adc_key = jax.random.split(key, 3)
    direction = normal(side_key, (3,)) * jnp.array([1.0, 0.4, 0.6])
    direction = direction / jnp.maximum(jnp.linalg.norm(direction), 1e-6)
    along = jnp.asarray(sum(points[i] * (direction[i] / radii[i]) for i in range(3)))
    wedge = jax.nn.sigmoid((along - 0.45) / 0.08) * jax.random.bernoulli(there_key)
    adc = 1.08 + 0.18 * normal(adc_key, ())
    return Layer(0.8 * wedge * zone, 0.9, 110.0, jnp.clip(adc, 0.7, 1.5))


def _around(points: Coordinates, radii: Array, key: Array) -> list[Layer]:
    """Fat, muscle at the sides, the bladder above and the rectum behind, full of gas or not."""
    drawn = jax.random.uniform(key, (4,))
    everywhere = jnp.ones(SHAPE)
    lateral = jax.nn.sigmoid((jnp.abs(points[0]) - radii[0] - 3.0 - 3.0 * drawn[0]) / EDGE)
    above = jnp.array([0.0, 4.0, 0.0]) + jnp.array([0.0, 0.0, 1.0]) * (radii[2] + 9.0)
    bladder = _inside(points, above, jnp.array([22.0, 16.0, 8.0]) + 4.0 * drawn[1])
    tube = points[0], points[1], jnp.zeros(SHAPE)
    behind = jnp.array([0.0, -1.0, 0.0]) * (radii[1] + 9.0)
    wall, lumen = (
        _inside(tube, behind, jnp.full(3, 8.0 + 2.0 * drawn[2] - thick)) for thick in (0.0, 3.0)
    )
    gas = jnp.where(drawn[3] < 0.5, 0.0, 0.6)
    return [
        Layer(everywhere, 0.9, 80.0, 0.1, suppressed=0.05),
        Layer(lateral, 0.8, 40.0, 1.4),
        Layer(bladder, 1.0, 600.0, 2.8),
        Layer(wall, 0.8, 60.0, 1.3),
        Layer(lumen, gas, 150.0, 1.2),
    ]


def _scan(key: Array, layers: list[Layer], moved: list[Layer]) -> Float[Array, "x y z 3"]:
    """The three images with their noise; diffusion-weighted ones of the tissues where they lay by then."""
    gain_key, level_key, *noise_keys = jax.random.split(key, 6)
    level = 10 ** jax.random.uniform(level_key, (2,), minval=-2.0, maxval=-1.6)

    def mixed(layers: list[Layer], echo: float, b: float, suppress: bool) -> Array:
        signal = jnp.zeros(SHAPE)
        for own in layers:
            density = own.density * (own.suppressed if suppress else 1.0)
            value = density * jnp.exp(-echo / own.t2) * jnp.exp(-b * jnp.asarray(own.adc))
            signal = signal * (1 - own.share) + own.share * value
        return signal

    t2 = bias_field(gain_key, mixed(layers, ECHO, 0.0, False), strength=0.2, spacing=SPACING)
    t2 = rician(noise_keys[0], t2, level[0])
    weighted = [
        rician(own, mixed(moved, ECHO_DWI, b, True), level[1] * factor)
        for own, b, factor in zip(noise_keys[1:], B, (1.0, 0.7, 0.5), strict=True)
    ]  # more averages the higher the b-value
    low, high = (jnp.maximum(image, 1e-4) for image in weighted[:2])
    adc = jnp.clip(jnp.log(low / high) / (B[1] - B[0]), 0, MOST_ADC)
    return jnp.stack([t2, adc, weighted[2]], axis=-1)


def label_map(patient: Prostate, known: Bool[Array, " n"]) -> UInt8[Array, "x y z"]:
    """Class indices of `CLASSES`; of the lesions those that somebody drew."""
    drawn = jnp.concatenate([jnp.zeros(1, bool), known])[patient.lesions.astype(jnp.int32)]
    return jnp.where(drawn, 3, patient.zones).astype(jnp.uint8)


def significant(cancers: Cancers, known: Bool[Array, " n"]) -> Int[Array, ""]:
    """1 where a lesion that somebody drew is significant, else 0."""
    return jnp.any(cancers.there & cancers.significant & known).astype(jnp.int32)
