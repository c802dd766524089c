"""NIfTI-1 and -2: voxels, voxel type and affine, bit for bit."""

import gzip
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from medjax.errors import UserError
from medjax.io.atomic import atomic
from medjax.space.volume import Affine, Header, Volume, displacement

# What nibabel, gzip and numpy raise on damaged files (found by flipping bytes, tests/io).
_BROKEN = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)
_BROKEN += (ValueError, OverflowError, MemoryError)
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # xyzt_units: metres, micrometres; all else is mm
_LONGEST = 32767  # NIfTI-1 counts voxels in int16
_NARROW = (np.dtype(np.float32), *(np.dtype(t) for t in ("i1", "u1", "i2", "u2")))


def read(path: Path) -> Volume:
    """Voxels (x, y, z[, c]) in the type of the file, or scaled by scl_slope and scl_inter.

    An unscaled file keeps its integer type. A scaled one becomes float32 where the stored type is
    float32 or has at most 16 bits, else float64, each voxel rounded once from float64. The affine
    is the sform where set, else the qform, else nibabel's base affine, in mm and rounded to
    float32, so that it can be written and read again without change. Where sform and qform
    disagree by more than 1e-3 mm the sform counts, with a warning. Raises `UserError` for a file
    that is truncated, damaged (the checksum of a .nii.gz is verified) or holds RGB voxels.
    """
    with _open(path) as (image, stream):
        header = _header(image, path)
        raw = image.dataobj.get_unscaled()
        while stream.read(1 << 20):  # the end of a gzip stream is where its checksum is verified
            pass
    raw = np.asarray(raw).reshape(header.shape, order="F")
    if not _is_scaled(image):
        return Volume(raw.astype(header.dtype, copy=False), header.affine)
    slope, intercept = np.float64(image.dataobj.slope), np.float64(image.dataobj.inter)
    array = np.empty(header.shape, header.dtype, order="F")
    for k in range(raw.shape[2]):  # slice by slice: no float64 copy of the whole
        array[:, :, k] = raw[:, :, k] * slope + intercept
    return Volume(array, header.affine)


def read_header(path: Path) -> Header:
    """As `read`, without the voxels."""
    with _open(path) as (image, _):
        return _header(image, path)


def write(volume: Volume, path: Path) -> None:
    """Write NIfTI-1 in mm with the affine as sform, and as qform where it can say the same.

    The affine is stored as float32: exact for what `read` gave, else to about 1e-7 of its size.
    Shears have no qform; its code is then 0. The same volume gives the same bytes.
    """
    header: Any = nib.Nifti1Header()
    if max(volume.array.shape) > _LONGEST:
        raise UserError(f"{path}: NIfTI-1 holds {_LONGEST} voxels per axis; write .nrrd")
    try:
        header.set_data_dtype(volume.array.dtype)
    except HeaderDataError as error:
        raise UserError(
            f"{path}: NIfTI cannot hold {volume.array.dtype} voxels; convert them first"
        ) from error
    header.set_data_shape(volume.array.shape)
    header.set_xyzt_units("mm")
    header.set_sform(volume.affine, code="scanner")
    header.set_qform(volume.affine, code="scanner")
    if _qform_error(header, volume.array.shape) > 1e-3:
        header["qform_code"] = 0
    with atomic(path) as temporary:
        nib.Nifti1Image(volume.array, None, header).to_filename(temporary)


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, BinaryIO | gzip.GzipFile]]:
    """The image, not yet decoded, and the stream that it reads; what is broken is a `UserError`."""
    try:
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as stream:
            size = stream.read(4)
            stream.seek(0)
            nifti2 = 540 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
            yield (nib.Nifti2Image if nifti2 else nib.Nifti1Image).from_stream(stream), stream
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path}: not a whole NIfTI file ({reason}); fetch or export it again"
        ) from error


def _header(image: Any, path: Path) -> Header:
    shape, stored = image.shape, image.header.get_data_dtype().newbyteorder("=")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 5 and shape[3] == 1:  # vectors: (x, y, z, time = 1, c)
        shape = (*shape[:3], shape[4])
    shape = (*shape, *[1] * (3 - len(shape)))
    if len(shape) > 4 or 0 in shape:
        raise UserError(f"{path}: shape {image.shape}; give a 3-D image or 4-D with channels last")
    if stored.names:
        raise UserError(f"{path}: RGB voxels; export it as a picture or as one file per channel")
    if _is_scaled(image):
        stored = np.dtype(np.float32) if stored in _NARROW else np.result_type(stored, np.float64)
    return Header(tuple(int(n) for n in shape), _affine(image.header, shape, path), stored)


def _is_scaled(image: Any) -> bool:
    return (image.dataobj.slope, image.dataobj.inter) != (1, 0)


def _affine(header: Any, shape: tuple[int, ...], path: Path) -> Affine:
    affine = header.get_best_affine()
    scale = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    if header["sform_code"] > 0 and header["qform_code"] > 0:
        difference = _qform_error(header, shape) * scale
        if difference > 1e-3:
            warnings.warn(
                f"{path}: sform and qform disagree by up to {difference:.3g} mm; the sform is used",
                stacklevel=5,
            )
    affine = np.concatenate([affine[:3] * scale, affine[3:]])
    return affine.astype(np.float32).astype(np.float64)


def _qform_error(header: Any, shape: tuple[int, ...]) -> float:
    """How far the qform lies from the sform, in units of the file; inf where it has none."""
    try:
        return displacement(header.get_sform(), header.get_qform(), shape)
    except ValueError:
        return math.inf
