"""The peer of `benchmarks/cache_format.py`: blosc2 arrays, read as nnU-Net reads them."""

import json
import statistics
import sys
import time
from pathlib import Path

import blosc2
import numpy as np

CODECS = {"zstd 1": (blosc2.Codec.ZSTD, 1), "zstd 8": (blosc2.Codec.ZSTD, 8)}


def main():
    """One row a setting."""
    folder, starts, patch = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    image = np.load(folder / "image.npy")
    blosc2.set_nthreads(1)  # nnU-Net: one a worker
    for name, (codec, level) in CODECS.items():
        path = folder / f"{name}.b2nd"
        chunk = (64, 64, 64, image.shape[-1])
        blosc2.asarray(
            image,
            chunks=chunk,
            blocks=(16, 16, 16, image.shape[-1]),
            cparams={"codec": codec, "clevel": level},
            urlpath=str(path),
        )
        taken = []
        for start in [*starts[:5], *starts]:
            box = tuple(slice(s, s + patch) for s in start)
            begin = time.perf_counter()
            np.asarray(blosc2.open(urlpath=str(path), mode="r", mmap_mode="r")[box])
            taken.append(time.perf_counter() - begin)
        size = path.stat().st_size / 1e6
        print(f"| blosc2, {name} | {size:.0f} | {1e3 * statistics.median(taken[5:]):.1f} |")


if __name__ == "__main__":
    main()
