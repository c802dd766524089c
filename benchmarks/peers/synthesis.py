"""The peer of `benchmarks/synthesis.py`: four images of a label map by TorchIO's transforms."""

import json
import sys
import time

import numpy as np
import torch
import torchio as t

CONTRASTS = ("T1", "T1ce", "T2", "FLAIR")
SPACING = 1.4


def head(shape):
    """Nested ellipsoids with ids 0 to 5: background, skin, skull, CSF, grey and white matter."""
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    far = np.sqrt(sum(g**2 for g in grid))
    ids = sum((far < limit).astype(np.uint8) for limit in (0.95, 0.9, 0.85, 0.8, 0.7))
    return t.LabelMap(tensor=torch.from_numpy(ids[None]), affine=np.diag([SPACING] * 3 + [1.0]))


def main():
    """One patient a line."""
    torch.set_num_threads(2)
    shape = tuple(int(n) for n in sys.argv[1].split(","))
    subject = t.Subject(label=head(shape))
    deform = t.Compose([t.RandomAffine(), t.RandomElasticDeformation()])
    paint = [t.RandomLabelsToImage(label_key="label", image_key=name) for name in CONTRASTS]
    scan = t.Compose([t.RandomBiasField(), t.RandomBlur((0.2, 0.6)), t.RandomNoise()])
    print(json.dumps({"peer": "torchio", "version": t.__version__}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        made = deform(subject)
        for step in paint:
            made = step(made)
        scan(made)
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    main()
