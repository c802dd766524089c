"""What a model file says of itself: all that leads from a scan to a label map and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medjax.data.convention import Convention
from medjax.errors import UserError

KEY = "medjax"
SCHEMA = 1
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Facts:
    """How scans are prepared, tiled and restored, as `data.plan.Plan` has it; and where the model is from.

    spacing, patch and divisor in network order (d, h, w); axes: the RAS+ axis of each. given_spacing: mm
    along x, y, z that stand in for those that the files lost, or (). keep_largest: output channels of which
    the largest component stays. targets: the classes of whole scans. provenance, parity, metrics, pruning and
    quantisation are for the reader.
    """

    channels: tuple[str, ...]
    spacing: tuple[float, float, float]
    axes: Triple
    coarse_axis: int | None
    normalisation: tuple[dict[str, Any], ...]
    convention: dict[str, Any]
    patch: Triple
    divisor: Triple
    overlap: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    keep_largest: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    given_spacing: tuple[float, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    pruning: dict[str, Any] = field(default_factory=dict)
    quantisation: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def labels(self) -> Convention:
        """The label convention."""
        return Convention.from_dict(self.convention)

    @property
    def activation(self) -> str:
        """What makes logits probabilities."""
        return "sigmoid" if self.labels.regions else "softmax"

    def text(self) -> str:
        """As it stands in a model file."""
        return json.dumps({**asdict(self), "activation": self.activation}, sort_keys=True)


def read_facts(metadata: Mapping[str, str], path: str) -> Facts:
    """The facts of a model file. Errors: none there, of a newer medjax, or not what they should be."""
    if KEY not in metadata:
        raise UserError(f"{path}: says nothing of how to prepare a scan; export it with medjax")
    try:
        stored = json.loads(metadata[KEY])
        if stored["schema"] > SCHEMA:
            raise UserError(
                f"{path}: schema {stored['schema']} is newer than {SCHEMA}; update medjax on this device"
            )
        stored.pop("activation", None)
        facts = Facts(**{name: _frozen(value) for name, value in stored.items()})
        outputs = len(facts.labels.judged) + (not facts.labels.regions)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: its description is broken ({error}); export it again") from error
    if len(facts.normalisation) != len(facts.channels) or outputs < 1:
        raise UserError(f"{path}: its description contradicts itself; export it again")
    return facts


def _frozen(value: Any) -> Any:
    """JSON lists as tuples."""
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
