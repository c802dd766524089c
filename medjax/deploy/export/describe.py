"""The description that goes into a model file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from medjax.data.plan import Plan
from medjax.deploy.facts import KEY, Facts
from medjax.io.atomic import atomic
from medjax.nn.unet import divisor


def facts_of(
    plan: Plan,
    *,
    overlap: float = 0.5,
    mirror_axes: Sequence[int] = (),
    keep_largest: Sequence[int] = (),
    given_spacing: Sequence[float] = (),
    **told: Any,
) -> Facts:
    """What a plan and a predictor do with a scan; `told`: provenance, parity, metrics and the like."""
    factors = divisor(plan.strides)
    return Facts(
        channels=plan.channels,
        spacing=plan.spacing,
        axes=plan.axes,
        coarse_axis=plan.coarse_axis,
        normalisation=plan.normalisation,
        convention=plan.convention,
        patch=plan.patch,
        divisor=(int(factors[0]), int(factors[1]), int(factors[2])),
        overlap=overlap,
        mirror_axes=tuple(mirror_axes),
        keep_largest=tuple(keep_largest),
        targets=plan.targets,
        given_spacing=tuple(given_spacing),
        **told,
    )


def write_model(model: onnx.ModelProto, facts: Facts, path: Path) -> None:
    """The model with its description, whole or not at all."""
    described = onnx.ModelProto()
    described.CopyFrom(model)
    helper.set_model_props(described, {KEY: facts.text()})
    with atomic(path) as temporary:
        onnx.save(described, str(temporary))
