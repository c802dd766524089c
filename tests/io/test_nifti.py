import gzip
import itertools
import random

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from medjax.errors import UserError
from medjax.io.files import read, read_header, write
from medjax.space.volume import Volume

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8"]
ORIENTATIONS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nifti")


def single(affine):
    return np.asarray(affine, np.float32).astype(np.float64)


def oblique(shear=0.0, origin=(-90.5, 126.3, -72.1)):
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    affine[:3, :3] = rotation @ (np.eye(3) + shear * np.eye(3, k=1)) * [0.45, 0.45, 5.0]
    affine[:3, 3] = origin
    return single(affine)


def assert_same(first, second):
    assert first.array.dtype == second.array.dtype
    assert first.array.shape == second.array.shape
    bits = f"u{first.array.itemsize}"
    assert np.array_equal(first.array.view(bits), second.array.view(bits))
    assert first.affine.tobytes() == second.affine.tobytes()


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=3, max_dims=3, max_side=4))
    ),
    st.sampled_from(ORIENTATIONS),
    hnp.arrays("f4", (3, 4), elements=st.floats(-300, 300, width=32)),
    st.sampled_from([".nii", ".nii.gz"]),
)
@settings(deadline=None, max_examples=60)
def test_write_and_read_is_bit_for_bit(folder, array, orientation, noise, suffix):
    axes, signs = orientation
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(axes)] * signs * (0.7, 1.3, 5)
    affine[:3] += noise * [1e-3, 1e-3, 1e-3, 1]
    volume = Volume(array, single(affine))
    write(volume, folder / f"a{suffix}")
    back = read(folder / f"a{suffix}")
    assert_same(back, volume)
    header = read_header(folder / f"a{suffix}")
    assert (header.shape, header.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(header.affine, volume.affine)
    canonical, reorientation = back.canonical()
    assert_same(reorientation.undo(canonical), volume)


def test_channels_views_and_masks(folder):
    array = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(5, 4, 3, 2).T
    write(Volume(array, oblique()), folder / "c.nii.gz")
    assert_same(read(folder / "c.nii.gz"), Volume(array, oblique()))
    assert nib.load(folder / "c.nii.gz").shape == (2, 3, 4, 5)
    mask = np.arange(24).reshape(2, 3, 4) % 2 == 0
    write(Volume(mask[::-1], oblique()), folder / "m.nii.gz")
    assert_same(read(folder / "m.nii.gz"), Volume(mask[::-1].astype(np.uint8), oblique()))


def test_the_same_volume_gives_the_same_bytes(folder):
    for name in ("first.nii.gz", "second.nii.gz"):
        write(Volume(np.ones((3, 3, 3), np.uint8), oblique()), folder / name)
    assert (folder / "first.nii.gz").read_bytes() == (folder / "second.nii.gz").read_bytes()


def test_sform_and_qform_say_the_same_and_a_shear_has_no_qform(folder):
    write(Volume(np.zeros((200, 200, 30), np.uint8), oblique()), folder / "q.nii.gz")
    header = nib.load(folder / "q.nii.gz").header
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), oblique(), atol=1e-4)
    np.testing.assert_allclose(header.get_zooms(), (0.45, 0.45, 5), rtol=1e-6)
    assert header.get_xyzt_units()[0] == "mm"
    write(Volume(np.zeros((20, 20, 3), np.uint8), oblique(shear=0.1)), folder / "s.nii.gz")
    assert nib.load(folder / "s.nii.gz").header["qform_code"] == 0
    np.testing.assert_array_equal(read(folder / "s.nii.gz").affine, oblique(shear=0.1))


def saved(path, array, affine=None, edit=lambda header: None, kind=nib.Nifti1Image, dtype=None):
    image = kind(array, affine, dtype=dtype or array.dtype)
    edit(image.header)
    image.to_filename(path)
    return path


def test_sform_counts_before_qform_before_pixdim(folder):
    array = np.zeros((10, 10, 10), np.int16)
    moved = oblique(origin=(-85.5, 126.3, -72.1))

    def both(header):
        header.set_sform(oblique(), 2)
        header.set_qform(moved, 1)

    path = saved(folder / "both.nii.gz", array, edit=both)
    with pytest.warns(UserWarning, match=r"both\.nii\.gz: sform and qform disagree by up to 5 mm"):
        np.testing.assert_array_equal(read(path).affine, oblique())

    def qform_alone(header):
        header.set_sform(oblique(), 0)
        header.set_qform(moved, 1)

    volume = read(saved(folder / "qform.nii.gz", array, edit=qform_alone))
    np.testing.assert_allclose(volume.affine, moved, atol=1e-4)
    write(volume, folder / "again.nii.gz")  # exact from here on
    assert_same(read(folder / "again.nii.gz"), volume)

    def neither(header):
        header.set_zooms((2, 3, 4))
        header["sform_code"] = header["qform_code"] = 0

    path = saved(folder / "neither.nii.gz", array, edit=neither)
    np.testing.assert_array_equal(read(path).affine, nib.load(path).header.get_base_affine())
    assert read(path).spacing == (2, 3, 4)


def test_a_qform_that_is_no_rotation_is_warned_of(folder):
    def broken(header):
        header.set_sform(oblique(), 1)
        header["qform_code"], header["quatern_b"] = 1, 2

    path = saved(folder / "quaternion.nii.gz", np.zeros((2, 2, 2), np.uint8), edit=broken)
    with pytest.warns(UserWarning, match="disagree by up to inf mm"):
        np.testing.assert_array_equal(read(path).affine, oblique())


@pytest.mark.parametrize(("code", "scale"), [(1, 1000), (2, 1), (3, 0.001), (0, 1)])
def test_units_become_mm(folder, code, scale):
    def unit(header):
        header["xyzt_units"] = code

    path = saved(folder / "unit.nii.gz", np.zeros((2, 2, 2), np.uint8), oblique(), unit)
    np.testing.assert_allclose(read(path).affine[:3], oblique()[:3] * scale, rtol=1e-6)


def scaled(path, raw, slope, intercept):
    image = nib.Nifti1Image(raw, np.eye(4), dtype=raw.dtype)
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, path)
    content = bytearray(path.read_bytes())  # nibabel has divided the voxels: put them back
    content[352:] = raw.tobytes(order="F")
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("stored", "read_as"),
    [("u1", "f4"), ("i2", "f4"), ("u2", "f4"), ("f4", "f4"), ("i4", "f8"), ("f8", "f8")],
)
def test_scaled_voxels_are_rounded_once(folder, stored, read_as):
    raw = np.random.default_rng(0).integers(0, 120, (4, 5, 6)).astype(stored)
    path = scaled(folder / "scaled.nii", raw, 0.0023598859552294016, -61.08564758300781)
    volume = read(path)
    assert volume.array.dtype == read_header(path).dtype == read_as
    np.testing.assert_array_equal(volume.array, nib.load(path).get_fdata().astype(read_as))
    write(volume, folder / "unscaled.nii.gz")
    assert_same(read(folder / "unscaled.nii.gz"), volume)


def test_big_endian_and_nifti2(folder):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    big = nib.Nifti1Image(array, oblique(), nib.Nifti1Header(endianness=">"), dtype=">i2")
    big.to_filename(folder / "big.nii.gz")
    second = saved(folder / "second.nii", array, oblique(), kind=nib.Nifti2Image)
    for path in (folder / "big.nii.gz", second):
        assert_same(read(path), Volume(array, oblique()))


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        ((4, 5), (4, 5, 1)),
        ((4, 5, 6, 1), (4, 5, 6)),
        ((4, 5, 6, 2), (4, 5, 6, 2)),
        ((4, 5, 6, 1, 3), (4, 5, 6, 3)),
        ((4, 5, 6, 1, 1), (4, 5, 6)),
    ],
)
def test_shapes_become_three_axes_and_channels(folder, stored, shape):
    array = np.arange(np.prod(stored), dtype=np.int16).reshape(stored)
    path = saved(folder / "shape.nii.gz", array, oblique())
    assert read(path).array.shape == read_header(path).shape == shape
    np.testing.assert_array_equal(read(path).array, array.reshape(shape))


def rgb(path):
    array = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.Nifti1Image(array, np.eye(4)).to_filename(path)


def five_axes(path):
    saved(path, np.zeros((2, 2, 2, 2, 2), np.uint8))


def flat(path):
    def edit(header):
        header.set_sform(np.eye(4), 1)
        header["srow_z"] = 0

    saved(path, np.zeros((2, 2, 2), np.uint8), edit=edit)


def nowhere(path):
    def edit(header):
        header.set_sform(np.eye(4), 1)
        header["srow_z"] = np.nan

    saved(path, np.zeros((2, 2, 2), np.uint8), edit=edit)


@pytest.mark.parametrize(
    ("make", "message"),
    [(rgb, "RGB voxels"), (five_axes, "shape"), (flat, "singular"), (nowhere, "finite")],
)
def test_what_no_volume_can_be_is_named(folder, make, message):
    path = folder / "odd.nii.gz"
    make(path)
    for reader in (read, read_header):
        with pytest.raises(UserError, match=rf"odd\.nii\.gz: .*{message}"):
            reader(path)


@pytest.fixture(scope="module")
def whole():
    noise = np.random.default_rng(0).integers(0, 99, (12, 12, 12)).astype(np.int16)
    return nib.Nifti1Image(noise, np.eye(4)).to_bytes()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("part", [0, 3, 100, 348, 400, 0.5, -1])
def test_a_truncated_file_is_named(folder, whole, suffix, part):
    content = gzip.compress(whole) if suffix == ".nii.gz" else whole
    cut = int(part * len(content)) if isinstance(part, float) else part
    path = folder / f"cut{suffix}"
    path.write_bytes(content[:cut])
    with pytest.raises(UserError, match=r"cut\.nii.*: not a whole NIfTI file"):
        read(path)


def test_a_flipped_byte_never_passes_the_checksum_unseen(folder, whole):
    content, path, chance = gzip.compress(whole), folder / "flip.nii.gz", random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        damaged[chance.randrange(10, len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"flip\.nii\.gz"):
            read(path)


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_header_is_a_user_error_or_readable(folder, whole):
    path, chance = folder / "header.nii", random.Random(1)
    errors = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 4))):
            damaged[chance.randrange(348)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            read(path)
        except UserError:
            errors += 1
    assert errors > 20


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 2), np.float16), "cannot hold float16"),
        (np.zeros((40000, 1, 1), np.uint8), "32767 voxels per axis"),
    ],
)
def test_what_nifti_cannot_hold_is_named(folder, array, message):
    with pytest.raises(UserError, match=rf"x\.nii\.gz: NIfTI.* {message}"):
        write(Volume(array, np.eye(4)), folder / "x.nii.gz")
    assert not (folder / "x.nii.gz").exists()


@pytest.mark.filterwarnings("ignore:.*sform and qform disagree")
def test_real_files_keep_voxels_type_and_affine(shared, folder):
    """The smallest file of each data set, type and scaling; all 680 pass, in half a minute."""
    smallest = {}
    for path in sorted(shared.rglob("*.nii.gz"), key=lambda path: -path.stat().st_size):
        stored = nib.load(path)
        kind = (path.relative_to(shared).parts[0], stored.get_data_dtype().str)
        smallest[(*kind, stored.dataobj.slope == 1)] = path
    assert len(smallest) > 10
    for path in smallest.values():
        stored = nib.load(path)
        volume = read(path)
        if stored.dataobj.slope == 1 and stored.dataobj.inter == 0:
            assert volume.array.dtype == stored.get_data_dtype()
            assert np.array_equal(volume.array, np.asarray(stored.dataobj))
        else:
            assert np.array_equal(volume.array, stored.get_fdata().astype(np.float32))
        assert np.array_equal(volume.affine, stored.affine)
        write(volume, folder / "real.nii")
        assert_same(read(folder / "real.nii"), volume)
        canonical, reorientation = volume.canonical()
        assert canonical.orientation == "RAS"
        assert_same(reorientation.undo(canonical), volume)
