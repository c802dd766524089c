"""PNG, TIFF, JPEG and GIF pictures through Pillow."""

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from medjax.errors import UserError
from medjax.io.atomic import atomic
from medjax.space.volume import Volume

_BROKEN = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
_ONE_CHANNEL = {"1": np.uint8, "L": np.uint8, "I": np.int32, "F": np.float32}


def read(path: Path) -> Volume:
    """A picture as (x, y, 1[, c]) with the identity affine: x to the right, y down, pixels as mm.

    Grey keeps its type (uint8, uint16, int32, float32), 1 bit becomes uint8 0/1, a mask stored as
    0/255 stays so. Palettes are expanded (to one channel where all their colours are grey), other
    colours become RGB uint8, alpha is dropped. The pages of a TIFF are the z axis. The orientation
    tag of photographs is ignored: labels are drawn on the stored pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # slides are large
            with Image.open(path) as picture:
                paged = picture.format == "TIFF"
                pages = ImageSequence.Iterator(picture) if paged else [picture]
                arrays = [_array(page) for page in pages]
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path}: not a readable picture ({reason}); fetch or export it again"
        ) from error
    if any(a.shape != arrays[0].shape or a.dtype != arrays[0].dtype for a in arrays):
        raise UserError(f"{path}: its pages differ in size or colour; split it into single files")
    return Volume(np.stack(arrays).swapaxes(0, 2), np.eye(4))


def write(volume: Volume, path: Path) -> None:
    """Write one slice as PNG: grey uint8 or uint16, or RGB uint8. The affine is lost."""
    array = volume.array
    grey = array.ndim == 3 and array.dtype in (np.uint8, np.uint16)
    colour = array.ndim == 4 and array.shape[3] == 3 and array.dtype == np.uint8
    if array.shape[2] != 1 or not (grey or colour):
        raise UserError(
            f"{path}: PNG holds one slice of uint8, uint16 or RGB uint8, not {array.dtype} "
            f"{array.shape}; write .nii.gz"
        )
    with atomic(path) as temporary:
        Image.fromarray(np.ascontiguousarray(array[:, :, 0].swapaxes(0, 1))).save(temporary)


def _array(picture: Image.Image) -> np.ndarray:
    """(y, x) or (y, x, 3)."""
    mode = picture.mode
    if mode in _ONE_CHANNEL:
        return np.asarray(picture).astype(_ONE_CHANNEL[mode])
    if mode.startswith("I;16"):
        return np.asarray(picture).astype(np.uint16)
    if mode in ("LA", "La"):
        return np.asarray(picture.convert("LA"))[..., 0]
    colours = np.asarray(picture.convert("RGB"))
    if mode in ("P", "PA") and (colours == colours[..., :1]).all():
        return colours[..., 0]
    return colours
