"""Read and write images of every format by their suffix."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from medjax.errors import UserError
from medjax.io import nifti
from medjax.space.volume import Affine, Header, Volume

NIFTI = (".nii", ".nii.gz")
ITK = (".mha", ".mhd", ".nrrd")
RASTER = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".gif")


def read(path: str | Path) -> Volume:
    """The image of a file, or of a folder that holds one DICOM series.

    Formats: NIfTI (.nii, .nii.gz), MHA, MHD, NRRD, PNG, TIFF, JPEG, GIF (its
    first frame). An axis of length 1 after the
    third is dropped: one channel has no channel axis. Raises `UserError` for what cannot be read.
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix in NIFTI:
        volume = nifti.read(path)
    elif suffix in ITK:
        volume = _codec("itk").read(path)
    elif suffix in RASTER:
        volume = _codec("raster").read(path)
    else:
        volume = _codec("itk").read_series(path)
    _check_affine(volume.affine, path)
    return volume


def read_header(path: str | Path) -> Header:
    """Shape, affine and voxel type as `read` would give them.

    NIfTI, MHA, MHD and NRRD are not decoded for it (so their voxels may still prove corrupt).
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix in NIFTI:
        header = nifti.read_header(path)
    elif suffix in ITK:
        header = _codec("itk").read_header(path)
    else:
        volume = read(path)
        header = Header(volume.array.shape, volume.affine, volume.array.dtype)
    _check_affine(header.affine, path)
    return header


def write(volume: Volume, path: str | Path) -> None:
    """Write a volume in the format of the suffix, whole or not at all.

    NIfTI keeps voxels and voxel type bit for bit, and the affine to float32, which is exact for
    every affine that was read from a NIfTI; MHA, MHD and NRRD keep voxels likewise and the affine
    to rounding; PNG takes 2-D uint8 or uint16 alone and drops the affine. A mask of bool is stored
    as uint8 0/1. Raises `UserError` for another suffix, a voxel type that the format lacks, or a
    place that cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path, writing=True)
    if volume.array.dtype == bool:
        volume = Volume(volume.array.astype(np.uint8), volume.affine)
    try:
        if suffix in NIFTI:
            nifti.write(volume, path)
        elif suffix in ITK:
            _codec("itk").write(volume, path)
        else:
            _codec("raster").write(volume, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); choose another place") from error


def _codec(name: str) -> Any:
    """`medjax.io.itk` or `medjax.io.raster`, whose libraries load slowly and may be missing on a device."""
    try:
        return import_module(f"medjax.io.{name}")
    except ModuleNotFoundError as error:
        raise UserError(
            f"this format needs {error.name}, which is not installed; install it, or give NIfTI files"
        ) from error


def _suffix(path: Path, writing: bool = False) -> str:
    """The suffix that decides on the format; empty for a folder."""
    if not writing and not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if not writing and path.is_dir():
        return ""
    allowed = (*NIFTI, *ITK, ".png") if writing else (*NIFTI, *ITK, *RASTER)
    name = path.name.lower()
    for suffix in allowed:
        if name.endswith(suffix):
            return suffix
    hint = "" if writing else "; a DICOM series is given as its folder"
    raise UserError(f"{path}: unknown image suffix; use one of {', '.join(allowed)}{hint}")


def _check_affine(affine: Affine, path: Path) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (
        not np.isfinite(affine).all()
        or not spacing.all()
        or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-6
    ):
        raise UserError(
            f"{path}: its affine is singular or not finite, so voxels have no place in the world; "
            "repair the header (sform, qform or spacing)"
        )
