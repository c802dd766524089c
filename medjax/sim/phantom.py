"""One synthetic subject: anatomy, tumour, four MR contrasts with bias field and Rician noise."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int16, UInt8

from medjax.sim.anatomy import grid_affine, sample_deformation, subject_tissue
from medjax.sim.fields import smooth_noise
from medjax.sim.signal import (
    CONTRASTS,
    Protocol,
    Tissue,
    mix,
    protocols,
    signal_table,
    tissues,
)
from medjax.sim.tumour import paint

CLASSES = ("background", "necrosis", "oedema", "enhancing")  # labels 0 to 3, BraTS 2023


class Phantom(NamedTuple):
    """`image` channels in the order of `signal.CONTRASTS`, 0 outside the brain and only there;
    `labels` index `CLASSES`; `affine` to RAS world (mm); `parameters`: all that was drawn, as JSON.
    """

    image: Int16[np.ndarray, "x y z contrasts"]
    labels: UInt8[np.ndarray, "x y z"]
    affine: Float[np.ndarray, "4 4"]
    parameters: dict[str, Any]


def phantom(seed: int, index: int, *, spacing: float = 2.0, field: float = 3.0) -> Phantom:
    """Subject number `index` of the family `seed`: the same arguments give the same bits.

    Subjects draw from disjoint random streams, and so do the four stages of a subject (anatomy,
    tumour, signal, noise). `spacing` in mm, isotropic; `field` 1.5 or 3.0 T.
    """
    streams = np.random.SeedSequence(seed, spawn_key=(index,)).spawn(4)
    head, lesion, contrast, receiver = (np.random.default_rng(stream) for stream in streams)
    table = jitter_tissues(contrast, tissues(field))
    sequences = jitter_protocols(contrast, protocols(field))
    signals = signal_table(table, sequences)
    affine = grid_affine(spacing)
    deformation = sample_deformation(head)
    tissue = subject_tissue(deformation, spacing)
    painted = paint(lesion, tissue, affine)
    clean = mix(painted.fractions, signals)
    brain = tissue.sum(axis=-1) > 0

    image = np.zeros(clean.shape, np.int16)
    channels = {}
    for c, name in enumerate(CONTRASTS):
        brightest = float(signals[:3, c].max())  # of the normal tissues, as BrainWeb states noise
        drawn = {
            "bias": float(receiver.uniform(0.02, 0.1)),
            "texture": float(receiver.uniform(0.015, 0.04)),
            "noise": float(receiver.uniform(0.01, 0.03)),
            "scale": float(receiver.uniform(400, 1600)),
        }
        channel = clean[..., c] / brightest
        channel = channel * bias_field(receiver, brain, spacing, drawn["bias"])
        # Tissue is not uniform: a few per cent of grain, which averaged tissue maps cannot have.
        grain = smooth_noise(receiver, brain.shape, spacing, 5.0)
        channel = channel * (1 + drawn["texture"] * grain)
        channel = rician(receiver, channel, drawn["noise"])
        whole = np.clip(np.rint(channel * drawn["scale"]), 1, np.iinfo(np.int16).max)
        image[..., c] = np.where(brain, whole, 0)
        channels[name] = drawn | {"protocol": sequences[name]._asdict()}
    parameters = {
        "deformation": {
            "matrix": deformation.matrix.tolist(),
            "largest_velocity_mm": float(np.abs(deformation.velocity).max()),
        },
        "tumour": painted.parameters,
        "tissues": {name: values._asdict() for name, values in table.items()},
        "channels": channels,
    }
    return Phantom(image, painted.labels, affine, parameters)


def jitter_tissues(rng: np.random.Generator, table: dict[str, Tissue]) -> dict[str, Tissue]:
    """Times and densities of one subject, log-normal.

    Within 5 % of the table for normal tissue and 15 % for lesions (two standard deviations).
    T1 before and after gadolinium move apart only where they differ in the table.
    """
    drawn = {}
    for name, tissue in table.items():
        width = 0.05 if name in ("csf", "gm", "wm") else 0.15
        factors = np.exp(np.clip(rng.normal(0, width / 2, 5), -width, width))
        if tissue.t1_gd == tissue.t1:
            factors[4] = factors[0]
        drawn[name] = Tissue(*(float(v) for v in np.array(tissue) * factors))
    return drawn


def jitter_protocols(
    rng: np.random.Generator, sequences: dict[str, Protocol]
) -> dict[str, Protocol]:
    """Scanner settings of one subject: every time and angle within 4 %."""
    return {
        name: type(sequence)(*(float(v * rng.uniform(0.96, 1.04)) for v in sequence))
        for name, sequence in sequences.items()
    }


def bias_field(
    rng: np.random.Generator, brain: Bool[np.ndarray, "x y z"], spacing: float, strength: float
) -> Float[np.ndarray, "x y z"]:
    """Smooth gain of the receiver coil: from 1 - `strength` to 1 + `strength` in the brain."""
    field = smooth_noise(rng, brain.shape, spacing, 90.0)
    low, high = field[brain].min(), field[brain].max()
    return 1 + strength * (2 * (field - low) / (high - low) - 1)


def rician(
    rng: np.random.Generator, signal: Float[np.ndarray, "*shape"], sigma: float
) -> Float[np.ndarray, "*shape"]:
    """Magnitude |signal + n1 + i n2| with n1, n2 normal of standard deviation `sigma`."""
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(sigma)
    return np.hypot(signal + noise[0], noise[1])
