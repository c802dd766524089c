"""MHA, MHD, NRRD and DICOM series through SimpleITK; its world is LPS, ours is RAS."""

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medjax.errors import UserError
from medjax.io.atomic import atomic
from medjax.space.volume import Affine, Header, Volume

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DESCRIPTION, _MODALITY = "0008|103e", "0008|0060"
_SPACING_BETWEEN_SLICES, _SLICE_THICKNESS = "0018|0088", "0018|0050"


def read(path: Path) -> Volume:
    """An MHA, MHD or NRRD file: vectors and a fourth axis become channels."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _broken(path, error) from error
    shape = _shape(image, path)
    array = sitk.GetArrayFromImage(image)  # (t, z, y, x, c), the first and last where they exist
    dimension = image.GetDimension()
    array = array.transpose((*range(dimension)[::-1], *range(dimension, array.ndim)))
    return Volume(array.reshape(shape), _affine(image))


def read_header(path: Path) -> Header:
    """As `read`, without the voxels."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _broken(path, error) from error
    voxel = sitk.Image([1, 1], reader.GetPixelID(), reader.GetNumberOfComponents())
    dtype = sitk.GetArrayViewFromImage(voxel).dtype
    return Header(_shape(reader, path), _affine(reader), dtype)


def write(volume: Volume, path: Path) -> None:
    """Write MHA, MHD or NRRD, compressed; channels as vectors.

    An MHD holds its voxels itself (ElementDataFile = LOCAL): two files could not appear at once.
    """
    array = volume.array.transpose((2, 1, 0, *range(3, volume.array.ndim)))
    affine = _LPS_TO_RAS @ volume.affine
    try:
        image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=array.ndim == 4)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: ITK formats cannot hold {array.dtype} voxels; convert them first"
        ) from error
    image.SetSpacing(volume.spacing)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / volume.spacing).ravel().tolist())
    with atomic(path) as temporary:
        whole = temporary.with_name(temporary.name + ".mha") if _is_mhd(path) else temporary
        try:
            sitk.WriteImage(image, str(whole), useCompression=True, compressionLevel=1)
            os.replace(whole, temporary)
        except RuntimeError as error:
            raise UserError(f"{path}: cannot be written ({_reason(error)})") from error
        finally:
            if whole != temporary:
                whole.unlink(missing_ok=True)


def read_series(folder: Path) -> Volume:
    """The one DICOM image series of a folder (its sub-folders are not looked at).

    Slices in the order of their position along the slice normal, values after rescale slope and
    intercept (HU for CT), as integers where those are whole, else float32. The third column of the
    affine is the step from slice to slice, so a tilted gantry shears the grid as it did the scan.
    Objects without pixels (RTSTRUCT) are ignored. Raises `UserError` for no series, several, or
    one whose slices differ in size or orientation or are not evenly spaced within a tenth.
    """
    images = [_slice(file, folder) for file in _series(folder)]
    if len(images) == 1 and images[0].GetSize()[2] > 1:  # one multi-frame object
        return Volume(_values(images[0]), _affine(images[0]))
    normal = np.array(images[0].GetDirection())[2::3]
    images.sort(key=lambda image: float(normal @ image.GetOrigin()))
    first = images[0]
    for image in images:
        same = image.GetSize() == (*first.GetSize()[:2], 1) and np.allclose(
            image.GetDirection() + image.GetSpacing()[:2],
            first.GetDirection() + first.GetSpacing()[:2],
            atol=1e-4,
        )
        if not same:
            raise UserError(
                f"{folder}: its slices differ in size, spacing or orientation; "
                "remove the localizer or split the series"
            )
    affine = _affine(first)
    affine[:3, 2] = _step(images, folder)
    dtype = np.result_type(*[_values(image).dtype for image in images])
    array = np.concatenate([_values(image) for image in images], axis=2, dtype=dtype)
    return Volume(array, affine)


def _series(folder: Path) -> tuple[str, ...]:
    """The files of the one image series of a folder."""
    display = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ours says what to do
    try:
        files = {
            series: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
            for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        }
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(display)
    if not files:
        raise UserError(
            f"{folder}: no DICOM image series; give the folder that holds the slices themselves"
        )
    if len(files) > 1:
        listed = "; ".join(f"{_title(names[0])}, {len(names)} files" for names in files.values())
        raise UserError(
            f"{folder}: {len(files)} DICOM series ({listed}); give a sub-folder with one of them"
        )
    return next(iter(files.values()))


def _title(file: str) -> str:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    keys = [key for key in (_MODALITY, _DESCRIPTION) if reader.HasMetaDataKey(key)]
    return " ".join(reader.GetMetaData(key).strip() for key in keys) or Path(file).name


def _slice(file: str, folder: Path) -> sitk.Image:
    try:
        image = sitk.ReadImage(file, imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise _broken(Path(file), error) from error
    if image.GetDimension() != 3:
        raise UserError(f"{folder}: {Path(file).name} is not a slice of a volume")
    return image


def _values(image: sitk.Image) -> np.ndarray:
    """(x, y, z[, c]); stored values have at most 16 bits, so float32 holds them once rescaled."""
    array = sitk.GetArrayViewFromImage(image)
    array = array.transpose((2, 1, 0, *range(3, array.ndim)))
    return array.astype(np.float32 if array.dtype == np.float64 else array.dtype)


def _step(images: list[sitk.Image], folder: Path) -> np.ndarray:
    """From one slice to the next, RAS mm."""
    if len(images) == 1:
        image = images[0]
        for key in (_SPACING_BETWEEN_SLICES, _SLICE_THICKNESS):
            if image.HasMetaDataKey(key) and float(image.GetMetaData(key)) > 0:
                return _affine(image)[:3, 2] / image.GetSpacing()[2] * float(image.GetMetaData(key))
        return _affine(image)[:3, 2]
    origins = np.array([image.GetOrigin() for image in images])
    even = np.linspace(origins[0], origins[-1], len(origins))
    gaps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    if np.linalg.norm(origins - even, axis=1).max() > 0.1 * gaps.mean() or gaps.min() == 0:
        raise UserError(
            f"{folder}: its slices are {gaps.min():.3g} to {gaps.max():.3g} mm apart; "
            "complete or split the series (missing slices, or several images of one place)"
        )
    return (_LPS_TO_RAS[:3, :3] @ (origins[-1] - origins[0])) / (len(origins) - 1)


def _shape(source: sitk.Image | sitk.ImageFileReader, path: Path) -> tuple[int, ...]:
    """(x, y, z[, c]) of what ITK holds."""
    if isinstance(source, sitk.Image):
        components = source.GetNumberOfComponentsPerPixel()
    else:
        components = source.GetNumberOfComponents()
    size = tuple(source.GetSize())
    channels = [n for n in (*size[3:], components) if n > 1]
    if len(channels) > 1:
        raise UserError(f"{path}: {len(size)} axes of vectors; give a 3-D image with channels")
    return (*size[:3], *[1] * (3 - len(size)), *channels)


def _affine(source: sitk.Image | sitk.ImageFileReader) -> Affine:
    """Index to RAS mm of the first three axes; a 2-D image gets a unit third one."""
    n = source.GetDimension()
    matrix = np.array(source.GetDirection()).reshape(n, n) * source.GetSpacing()
    m = min(n, 3)
    affine = np.eye(4)
    affine[:m, :m] = matrix[:m, :m]
    affine[:m, 3] = source.GetOrigin()[:m]
    return _LPS_TO_RAS @ affine


def _is_mhd(path: Path) -> bool:
    return path.suffix.lower() == ".mhd"


def _broken(path: Path, error: RuntimeError) -> UserError:
    return UserError(f"{path}: not a readable image ({_reason(error)}); fetch or export it again")


def _reason(error: RuntimeError) -> str:
    """The last words of ITK's message, which comes with many lines of file names."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
