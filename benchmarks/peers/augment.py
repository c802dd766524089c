"""The peers of `benchmarks/augment.py`: the same kinds of augmentation in nnU-Net, MONAI and TorchIO.

Two worker processes of one thread each, as users run them; per line as many patches as were asked for. With
--folder each patch is first cut out of a random case there (image.npy, label.npy, memory-mapped).
"""

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROTATION = np.pi / 6


def nnunet(patch):
    """nnU-Net's own training transforms."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    run = nnUNetTrainer.get_training_transforms(
        np.array(patch), (-ROTATION, ROTATION), None, (0, 1, 2), False
    )

    def apply(image, label):
        return run(image=torch.from_numpy(image), segmentation=torch.from_numpy(label).short())[
            "image"
        ]

    return apply


def monai(patch):
    """MONAI's transforms with nnU-Net's probabilities and ranges."""
    from monai import transforms as t

    both = ["image", "label"]
    run = t.Compose(
        [
            t.RandAffined(
                both, patch, prob=0.36, rotate_range=[ROTATION] * 3, scale_range=[(-0.3, 0.4)] * 3,
                mode=("bilinear", "nearest"), padding_mode="zeros",
            ),
            t.CenterSpatialCropd(both, patch),
            t.RandGaussianNoised("image", prob=0.1, std=0.1),
            t.RandGaussianSmoothd("image", (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.2),
            t.RandScaleIntensityd("image", 0.25, prob=0.15, channel_wise=True),
            t.RandAdjustContrastd("image", prob=0.15, gamma=(0.75, 1.25), retain_stats=True),
            t.RandSimulateLowResolutiond("image", prob=0.25, zoom_range=(0.5, 1.0)),
            t.RandAdjustContrastd("image", 0.1, (0.7, 1.5), invert_image=True, retain_stats=True),
            t.RandAdjustContrastd("image", 0.3, (0.7, 1.5), retain_stats=True),
            *[t.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)],
        ]
    )  # fmt: skip

    def apply(image, label):
        return run({"image": torch.from_numpy(image), "label": torch.from_numpy(label)})["image"]

    return apply


def torchio(patch):
    """TorchIO's transforms with nnU-Net's probabilities and ranges."""
    import torchio as t

    run = t.Compose(
        [
            t.RandomAffine(scales=(0.7, 1.4), degrees=30, isotropic=True, p=0.36),
            t.CropOrPad(patch),
            t.RandomNoise(std=(0, 0.1), p=0.1),
            t.RandomBlur(std=(0.5, 1.0), p=0.2),
            t.RandomGamma(log_gamma=(-0.3, 0.3), p=0.15),
            t.RandomAnisotropy(axes=(0, 1, 2), downsampling=(1, 2), p=0.25),
            t.RandomGamma(log_gamma=(-0.36, 0.4), p=0.4),
            t.RandomFlip(axes=(0, 1, 2), flip_probability=0.5),
        ]
    )

    def apply(image, label):
        subject = t.Subject(
            image=t.ScalarImage(tensor=torch.from_numpy(image)),
            label=t.LabelMap(tensor=torch.from_numpy(label)),
        )
        return run(subject)["image"].data

    return apply


PEERS = {"nnunet": nnunet, "monai": monai, "torchio": torchio}
state = {}


def begin(which, patch, crop, folder, channels):
    """Sets a worker up."""
    torch.set_num_threads(1)
    state["apply"] = PEERS[which](patch)
    state["crop"] = crop
    state["folders"] = sorted(Path(folder).iterdir()) if folder else []
    rng = np.random.default_rng(0)
    state["image"] = rng.normal(size=(channels, *crop)).astype(np.float32)
    state["label"] = rng.integers(0, 4, (1, *crop)).astype(np.uint8)


def one(number):
    """One augmented patch; only a sign of it goes back."""
    np.random.seed(number)
    torch.manual_seed(number)
    image, label = state["image"], state["label"]
    if state["folders"]:
        rng, crop = np.random.default_rng(number), state["crop"]
        case = state["folders"][rng.integers(len(state["folders"]))]
        image, label = (np.load(case / f"{n}.npy", mmap_mode="r") for n in ("image", "label"))
        start = [rng.integers(0, max(1, n - c + 1)) for n, c in zip(label.shape, crop, strict=True)]
        box = tuple(slice(s, s + c) for s, c in zip(start, crop, strict=True))
        image = np.ascontiguousarray(np.moveaxis(image[box], -1, 0))
        label = np.ascontiguousarray(label[box])[None]
    return float(state["apply"](image.copy(), label.copy()).flatten()[0])


def triple(text):
    """Whole numbers between commas."""
    return tuple(int(n) for n in text.split(","))


def main():
    """A number of patches a line."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--which", choices=list(PEERS))
    arguments.add_argument("--patch", type=triple)
    arguments.add_argument("--crop", type=triple)
    arguments.add_argument("--channels", type=int, default=4)
    arguments.add_argument("--count", type=int)
    arguments.add_argument("--folder", default="")
    chosen = arguments.parse_args()
    setup = (chosen.which, chosen.patch, chosen.crop, chosen.folder, chosen.channels)
    with multiprocessing.get_context("spawn").Pool(2, begin, setup) as pool:
        pool.map(one, range(4), chunksize=1)
        print(json.dumps({"peer": chosen.which}), flush=True)
        number = 4
        for _ in sys.stdin:
            start = time.perf_counter()
            pool.map(one, range(number, number + chosen.count), chunksize=1)
            number += chosen.count
            print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
