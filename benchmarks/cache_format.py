"""What the cache could be kept as: npy memory maps, zarr through tensorstore, blosc2 as nnU-Net keeps it.

    python -m benchmarks.cache_format --peers .venv-peers/bin/python [--image CACHE/CASE/image.npy]

Size on disk of one case, and the median time of reading a random patch of 96^3 (files in the
page cache, two threads where a library uses them). Chunks of 64^3 voxels with all channels; zarr with zstd 1,
blosc2 with zstd 1 and 8 (nnU-Net's). Without --image Gaussian noise stands in, which no compressor shrinks;
a prepared case of a real scan lies in the cache after any training.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorstore

PATCH, READS = 96, 40


def corners(shape: tuple[int, ...]) -> list[list[int]]:
    """Where the patches begin."""
    rng = np.random.default_rng(1)
    return [[int(rng.integers(0, n - PATCH + 1)) for n in shape[:3]] for _ in range(READS)]


def milliseconds(read: Callable[[tuple[slice, ...]], np.ndarray], starts: list[list[int]]) -> float:
    """Median time of a patch."""
    taken = []
    for start in [*starts[:5], *starts]:
        box = tuple(slice(s, s + PATCH) for s in start)
        begin = time.perf_counter()
        np.array(read(box))
        taken.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(taken[5:])


def megabytes(path: Path) -> float:
    """Size on disk of a file or folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6


def zarr(image: np.ndarray, folder: Path) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Writes the image through tensorstore and gives a reader without a cache of chunks."""
    metadata = {
        "shape": list(image.shape),
        "chunks": [64, 64, 64, image.shape[-1]],
        "dtype": "<f4",
        "compressor": {"id": "zstd", "level": 1},
    }
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": str(folder)},
        "metadata": metadata,
    }
    store = tensorstore.open(spec, create=True).result()
    store.write(image).result()
    return lambda box: store[box].read().result()


def main() -> None:
    """Prints one row a format."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peers", default=".venv-peers/bin/python")
    arguments.add_argument("--image", default="")
    chosen = arguments.parse_args()
    noise = np.random.default_rng(0).normal(size=(140, 190, 150, 4)).astype(np.float32)
    image = np.load(chosen.image) if chosen.image else noise
    starts = corners(image.shape)
    print("| format | MB | ms a patch |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        npy = Path(folder, "image.npy")
        np.save(npy, image)
        found = milliseconds(lambda box: np.load(npy, mmap_mode="r")[box], starts)
        print(f"| npy, memory-mapped | {megabytes(npy):.0f} | {found:.1f} |")
        read = zarr(image, Path(folder, "image.zarr"))
        found = milliseconds(read, starts)
        print(f"| zarr, zstd 1 | {megabytes(Path(folder, 'image.zarr')):.0f} | {found:.1f} |")
        script = Path(__file__).parent / "peers" / "cache_blosc2.py"
        command = [chosen.peers, str(script), folder, json.dumps(starts), str(PATCH)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
