"""The peer of `benchmarks/surface_metrics.py`: MONAI's HD95 and surface Dice of one class."""

import json
import sys
import time

import numpy as np
import torch
from monai.metrics import SurfaceDiceMetric, compute_hausdorff_distance


def main():
    """One pair of masks a line."""
    masks = np.load(sys.argv[1])
    prediction, reference = (
        torch.from_numpy(masks[k][None, None]) for k in ("prediction", "reference")
    )
    surface = SurfaceDiceMetric([1.0], include_background=True)
    print(json.dumps({"peer": "MONAI"}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        hd95 = compute_hausdorff_distance(
            prediction, reference, include_background=True, percentile=95, spacing=(1, 1, 1)
        )
        nsd = surface(prediction, reference, spacing=(1, 1, 1))
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "hd95": float(hd95), "nsd": float(nsd)}), flush=True)


if __name__ == "__main__":
    main()
