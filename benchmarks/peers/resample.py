"""The peers of `benchmarks/resample.py`: cubic resampling of one channel."""

import json
import resource
import sys
import time

import numpy as np

SPACING, TARGET = (0.7, 0.7, 3.0), (1.0, 1.0, 1.0)


def nnunet(image, shape):
    """nnU-Net's default for images; it finds z strongly anisotropic and goes nearest along it."""
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    return resample_data_or_seg_to_shape(image[None], shape, SPACING, TARGET, order=3, order_z=0)


def scipy(image, shape):
    """scipy.ndimage.zoom, order 3, all axes."""
    from scipy import ndimage

    zoom = [n / m for n, m in zip(shape, image.shape, strict=True)]
    return ndimage.zoom(image, zoom, order=3, mode="nearest", grid_mode=True)


def simpleitk(image, shape):
    """SimpleITK's B-spline of order 3, all axes."""
    import SimpleITK as sitk

    source = sitk.GetImageFromArray(np.ascontiguousarray(image.T))
    source.SetSpacing(SPACING)
    return sitk.Resample(
        source, shape, sitk.Transform(), sitk.sitkBSpline, source.GetOrigin(), TARGET
    )


def monai(image, shape):
    """MONAI's Spacing with spline order 3."""
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    tensor = MetaTensor(
        torch.from_numpy(image[None]), affine=torch.diag(torch.tensor((*SPACING, 1.0)))
    )
    return Spacing(TARGET, mode=3)(tensor)


def main():
    """One volume a line."""
    run = {"nnunet": nnunet, "scipy": scipy, "simpleitk": simpleitk, "monai": monai}[sys.argv[1]]
    shape = tuple(int(n) for n in sys.argv[2].split(","))
    image = np.random.default_rng(0).normal(size=(512, 512, 100)).astype(np.float32)
    print(json.dumps({"peer": sys.argv[1]}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        run(image, shape)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": time.perf_counter() - begin, "peak_gb": peak}), flush=True)


if __name__ == "__main__":
    main()
