"""How the values of a label map are named: classes, regions that overlap, voxels that nobody labelled.

In some cases only some classes may have been drawn. Their background may be any of the others, and has a
class index of its own, so that whatever is cut from such a case, moved or mixed still says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from medjax.errors import UserError

IGNORE = 255  # the class index of voxels that no loss and no score may count
_OUTSIDE = 254  # marks a file value that the convention does not name
_ROUNDING = 1e-3  # float label maps (a scale factor in the header) may be off by this much


@dataclass(frozen=True)
class Region:
    """A union of classes that is learned and judged as one, e.g. the whole tumour.

    Regions overlap. A label map is made from them by painting them in the order of the
    convention, each in its class `paint`, the later over the earlier.
    """

    name: str
    classes: tuple[str, ...]
    paint: str


@dataclass(frozen=True)
class Convention:
    """How the values of a label file are named, e.g. brats2018: 0/1/2/4.

    values: file value -> class name, background first. A class's index is the position of its
        name; several values may share a name ({0: background, 255: vessel, 1: vessel}), the
        first of them is the one that `decode` writes.
    regions: overlapping unions (sigmoid heads), in painting order, or none (exclusive classes).
    ignore: the file value of voxels that nobody annotated; class index 255.
    partial: each set of classes that is all that was drawn in some cases, in the order of the classes.
        The background of these cases has the index of its set, counted on from the last class.
    """

    name: str
    values: Mapping[int, str]
    regions: tuple[Region, ...] = ()
    ignore: int | None = None
    partial: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self):
        if len(self.classes) < 2 or len(self.classes) + len(self.partial) > _OUTSIDE:
            raise UserError(
                f"convention {self.name}: {len(self.classes)} classes and {len(self.partial)} choices of "
                f"them; name 2 to {_OUTSIDE} together, background first"
            )
        known = self._known()
        if self.ignore is not None and self.ignore in self.values:
            raise UserError(
                f"convention {self.name}: value {self.ignore} is both the class "
                f"{self.values[self.ignore]!r} and ignored; give each value one meaning"
            )
        if max(known) - min(known) >= 1 << 20:
            raise UserError(
                f"convention {self.name}: values from {min(known)} to {max(known)}; "
                "use a span below 2^20"
            )
        for region in self.regions:
            strange = {*region.classes, region.paint} - set(self.classes)
            if strange or region.paint not in region.classes:
                raise UserError(
                    f"convention {self.name}: region {region.name} has classes {region.classes} "
                    f"painted as {region.paint!r}; use {self.classes}, painted as one of its own"
                )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by class index, background first."""
        return tuple(dict.fromkeys(self.values.values()))

    @property
    def judged(self) -> tuple[str, ...]:
        """What is judged: the foreground classes, or the regions."""
        return tuple(region.name for region in self.regions) or self.classes[1:]

    @property
    def membership(self) -> Bool[np.ndarray, "r k"]:
        """Which region holds which class: row = region, column = class index."""
        rows = [[name in region.classes for name in self.classes] for region in self.regions]
        return np.array(rows, dtype=bool).reshape(len(self.regions), len(self.classes))

    def background(self, drawn: Sequence[str] | None) -> int:
        """The class index of the background where only the classes `drawn` were drawn: 0 for all (None).

        Raises UserError for a set that is not among `partial`.
        """
        if drawn is None:
            return 0
        if tuple(drawn) not in self.partial:
            raise UserError(
                f"convention {self.name}: no case was known of which only {', '.join(drawn)} is drawn when "
                "this run was planned; use another --workdir"
            )
        return len(self.classes) + self.partial.index(tuple(drawn))

    def decided(self, drawn: Sequence[str] | None) -> tuple[str, ...]:
        """What of `judged` a case can be judged by where only the classes `drawn` were drawn (None: all)."""
        if drawn is None:
            return self.judged
        holding = {region.name: region.classes for region in self.regions}
        return tuple(n for n in self.judged if set(holding.get(n, (n,))) <= set(drawn))

    @property
    def undecided(self) -> tuple[tuple[int, ...], ...]:
        """For each of `judged` the indices of a background that may belong to it."""
        return tuple(
            tuple(self.background(own) for own in self.partial if name not in self.decided(own))
            for name in self.judged
        )

    def outside(self, array: Shaped[np.ndarray, "..."]) -> dict[float, int]:
        """The values of a label file that the convention does not name, with their voxel counts.

        NaN is one value. At most the 20 smallest are listed.
        """
        strange = array[self._lookup(array) == _OUTSIDE]
        values, counts = np.unique(strange, return_counts=True)
        return {float(v): int(n) for v, n in zip(values[:20], counts[:20], strict=True)}

    def encode(self, array: Shaped[np.ndarray, "*grid"]) -> UInt8[np.ndarray, "*grid"]:
        """Class indices of file values; `ignore` becomes 255.

        Integer, bool or float files; a float within 1e-3 of an integer is that integer.
        Raises UserError that lists the values outside the convention (the caller names the file).
        """
        indices = self._lookup(array)
        if (indices == _OUTSIDE).any():
            listed = ", ".join(f"{v:g} ({n} voxels)" for v, n in self.outside(array).items())
            raise UserError(
                f"label values outside the convention {self.name} "
                f"({self.describe()}): {listed}; correct the file or name another convention"
            )
        return indices

    def decode(
        self, indices: Shaped[np.ndarray, "*grid"], dtype: Any = np.uint8
    ) -> Shaped[np.ndarray, "*grid"]:
        """File values of class indices, in a dtype that can hold them; 255 becomes `ignore`."""
        by_index = [
            next(value for value, name in self.values.items() if name == wanted)
            for wanted in self.classes
        ]
        table = np.full(256, np.nan)
        table[: len(by_index)] = by_index
        if self.ignore is not None:
            table[IGNORE] = self.ignore
        kept = table[np.isfinite(table)]
        values = np.nan_to_num(table).astype(dtype)
        if not (values[np.isfinite(table)] == kept).all():
            raise UserError(
                f"convention {self.name}: its values {kept.astype(int).tolist()} do not fit "
                f"{np.dtype(dtype)}; write a wider type"
            )

        def decoded(part: np.ndarray) -> np.ndarray:
            part = part.astype(np.intp)
            strange = (part < 0) | (part > IGNORE)
            strange |= np.isnan(table)[np.where(strange, 0, part)]
            if strange.any():
                raise UserError(
                    f"convention {self.name}: class index {part[strange].flat[0]} means nothing "
                    f"in it; it has {len(by_index)} classes"
                )
            return values[part]

        return _slice_by_slice(decoded, indices, values.dtype)

    def paint(self, regions: Bool[np.ndarray, "*grid r"]) -> UInt8[np.ndarray, "*grid"]:
        """Class indices from region masks: each region in turn, the later over the earlier.

        A voxel in a later region but not in the earlier ones takes the later one's class.
        """
        indices = np.zeros(regions.shape[:-1], np.uint8)
        for position, region in enumerate(self.regions):
            indices[regions[..., position]] = self.classes.index(region.paint)
        return indices

    def describe(self) -> str:
        """One line: value and name of every class."""
        ignored = [] if self.ignore is None else [f"{self.ignore} ignored"]
        return ", ".join([f"{value} {name}" for value, name in self.values.items()] + ignored)

    def to_dict(self) -> dict[str, Any]:
        """The convention as JSON can hold it; `from_dict` is the inverse."""
        return {
            "name": self.name,
            "values": {str(value): name for value, name in self.values.items()},
            "regions": [
                {"name": region.name, "classes": list(region.classes), "paint": region.paint}
                for region in self.regions
            ],
            "ignore": self.ignore,
            **({"partial": [list(own) for own in self.partial]} if self.partial else {}),
        }

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "Convention":
        """The convention that `to_dict` stored."""
        return Convention(
            name=stored["name"],
            values={int(value): name for value, name in stored["values"].items()},
            regions=tuple(
                Region(region["name"], tuple(region["classes"]), region["paint"])
                for region in stored["regions"]
            ),
            ignore=stored["ignore"],
            partial=tuple(map(tuple, stored.get("partial", ()))),
        )

    def _known(self) -> list[int]:
        return [*self.values, *([] if self.ignore is None else [self.ignore])]

    def _lookup(self, array: Shaped[np.ndarray, "*grid"]) -> UInt8[np.ndarray, "*grid"]:
        """Class indices, with 254 where the value has no name."""
        if array.dtype.kind not in "biuf":
            raise UserError(f"label voxels are {array.dtype}; a label map holds one number a voxel")
        low, high = min(self._known()), max(self._known())
        table = np.full(high - low + 2, _OUTSIDE, np.uint8)  # the last entry: off the table
        for value, name in self.values.items():
            table[value - low] = self.classes.index(name)
        if self.ignore is not None:
            table[self.ignore - low] = IGNORE

        def looked_up(part: np.ndarray) -> np.ndarray:
            if part.dtype.kind == "f":
                with np.errstate(invalid="ignore"):  # infinity minus infinity
                    whole = np.rint(part)
                    valid = np.abs(part - whole) <= _ROUNDING
            else:
                whole, valid = part.astype(np.int64), True
            valid &= (whole >= low) & (whole <= high)
            return table[np.where(valid, whole, high + 1).astype(np.int64) - low]

        return _slice_by_slice(looked_up, array, np.dtype(np.uint8))


def _slice_by_slice(
    function: Callable[[np.ndarray], np.ndarray], array: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """An elementwise function without its 64-bit temporaries for a whole volume at once."""
    if array.ndim < 3:
        return function(array)
    result = np.empty_like(array, dtype=dtype)
    for position in range(array.shape[2]):
        result[:, :, position] = function(array[:, :, position])
    return result
