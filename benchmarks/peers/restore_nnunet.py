"""The peer of `benchmarks/restore.py`: nnU-Net's resampling of probabilities, and the largest class."""

import json
import resource
import sys
import time

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape


def main():
    """One label map a line."""
    network, scan = (tuple(int(n) for n in text.split(",")) for text in sys.argv[1:])
    found = np.random.default_rng(0).random((3, *network), dtype=np.float32)
    spacing, target = (1.5, 1.5, 1.5), (1.5, 0.75, 0.75)
    print(json.dumps({"peer": "nnU-Net"}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        whole = resample_data_or_seg_to_shape(found, scan, spacing, target, order=1, order_z=0)
        whole.argmax(0).astype(np.uint8)
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": seconds, "peak_gb": peak}), flush=True)


if __name__ == "__main__":
    main()
