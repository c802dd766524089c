"""Where the figures of a run go while it runs: metrics.jsonl, and TensorBoard through clu."""

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from medjax.io.atomic import atomic
from medjax.train import processes


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that a kill cut short is left out."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Writers:
    """Appends rows of scalars, one line of JSON each, and mirrors them to TensorBoard.

    On resume the rows after `step` are dropped: they will be written again. A figure that is not
    finite is stored as null, which JSON can hold. Without tensorflow, TensorBoard is left out with
    one warning. Of several processes the first writes alone.
    """

    def __init__(self, folder: Path, *, step: int = 0, tensorboard: bool = True):
        self._path = folder / "metrics.jsonl"
        self._file, self._board = None, None
        if not processes.first():
            return
        rows = [row for row in read_rows(self._path) if row["step"] <= step]
        with atomic(self._path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _board(folder / "tensorboard") if tensorboard else None

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One row at `step`, on disk when the call returns."""
        if self._file is None:
            return
        finite = {k: float(v) if math.isfinite(v) else None for k, v in scalars.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.write_scalars(step, {k: v for k, v in finite.items() if v is not None})
            self._board.flush()

    def __enter__(self) -> "Writers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def _board(folder: Path) -> Any:
    """clu's TensorBoard writer, or None where tensorflow is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # it only writes events; on, it talks
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tensorflow's own, of no use to the reader
            import tensorflow as tf
            from clu import metric_writers

            tf.config.set_visible_devices([], "GPU")  # the GPUs belong to JAX
        return metric_writers.SummaryWriter(str(folder))
    except ImportError:
        warnings.warn(
            "TensorBoard is left out: it needs `pip install medjax[board]`; metrics.jsonl holds all",
            stacklevel=2,
        )
        return None
