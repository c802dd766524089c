import numpy as np
import pytest
import SimpleITK as sitk

from medjax.errors import UserError
from medjax.io.files import read, read_header, write
from medjax.space.volume import Volume

SUFFIXES = [".mha", ".mhd", ".nrrd"]


def oblique():
    return sitk.Euler3DTransform((0, 0, 0), 0.3, -0.5, 0.7).GetMatrix()


def picture(array, spacing=(0.7, 1.3, 5.0), origin=(-90.5, 126.3, -72.1), direction=None):
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction or oblique())
    return image


def saved(path, image):
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_voxel_has_the_place_that_itk_gives_it_but_in_ras(tmp_path, suffix):
    array = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
    image = picture(array)
    volume = read(saved(tmp_path / f"a{suffix}", image))
    for index in np.ndindex(4, 5, 6):
        lps = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(
            volume.affine @ (*index, 1), (-lps[0], -lps[1], lps[2], 1), atol=1e-9
        )
        assert volume.array[index] == image[index]
    np.testing.assert_allclose(volume.spacing, (0.7, 1.3, 5))


def test_nifti_through_itk_lies_at_the_same_place(tmp_path):
    image = picture(np.arange(120, dtype=np.int16).reshape(6, 5, 4))
    other = read(saved(tmp_path / "a.nii.gz", image))
    volume = read(saved(tmp_path / "a.mha", image))
    np.testing.assert_allclose(volume.affine, other.affine, atol=1e-4)
    np.testing.assert_array_equal(volume.array, other.array)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_write_and_read_keep_voxels_and_type(tmp_path, suffix, dtype):
    array = np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(dtype)
    affine = read(saved(tmp_path / "o.mha", picture(np.zeros((2, 2, 2), np.uint8)))).affine
    write(Volume(array, affine), tmp_path / f"a{suffix}")
    volume, header = read(tmp_path / f"a{suffix}"), read_header(tmp_path / f"a{suffix}")
    assert volume.array.dtype == header.dtype == dtype
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-10)
    np.testing.assert_array_equal(header.affine, volume.affine)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_channels_are_vectors_and_views_are_written(tmp_path, suffix):
    array = np.arange(4 * 3 * 2 * 5, dtype=np.float32).reshape(5, 2, 3, 4).T
    write(Volume(array[::-1], np.eye(4)), tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}").array, array[::-1])
    assert read_header(tmp_path / f"a{suffix}").shape == (4, 3, 2, 5)
    write(Volume(array[..., :1], np.eye(4)), tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}").array, array[..., 0])


def test_two_and_four_axes(tmp_path):
    flat = sitk.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    flat.SetSpacing((2, 3))
    flat.SetOrigin((5, 7))
    volume = read(saved(tmp_path / "flat.mha", flat))
    np.testing.assert_array_equal(volume.array, np.arange(12).reshape(3, 4).T[:, :, None])
    expected = [[-2, 0, 0, -5], [0, -3, 0, -7], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(volume.affine, expected)

    series = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    image = sitk.GetImageFromArray(series, isVector=False)
    image.SetSpacing((1, 2, 3, 0.5))
    volume = read(saved(tmp_path / "time.nrrd", image))
    np.testing.assert_array_equal(volume.array, series.transpose(3, 2, 1, 0))
    assert volume.spacing == (1, 2, 3)

    both = sitk.Image([2, 2, 2, 2], sitk.sitkVectorFloat32, 3)
    with pytest.raises(UserError, match=r"both\.mha: 4 axes of vectors"):
        read(saved(tmp_path / "both.mha", both))


def test_what_the_formats_cannot_hold_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.mha: ITK formats cannot hold float16"):
        write(Volume(np.zeros((2, 2, 2), np.float16), np.eye(4)), tmp_path / "a.mha")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_file_is_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    array = np.random.default_rng(0).normal(size=(9, 9, 9))
    write(Volume(array, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=rf"a\{suffix}: not a readable image"):
        read(path)


def scanned(folder, array, *, positions=None, tilt=0.0, slope=None, series="1.2.3.4"):
    """A CT series as a scanner writes it; file names in another order than the positions."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    n = array.shape[2]
    for k, position in enumerate(positions or [2.5 * k for k in range(n)]):
        image = sitk.GetImageFromArray(array[:, :, k].T[None])
        origin = (-10.0, 20.0 + tilt * k, position)
        image.SetSpacing((0.5, 0.75, 2.5))
        image.SetOrigin(origin)
        tags = {
            "0008|0018": f"{series}.{k + 1}",
            "0008|0060": "CT",
            "0008|103e": "thorax",
            "0018|0050": "2.5",
            "0020|000d": "1.2.3",
            "0020|000e": series,
            "0020|0032": "\\".join(map(str, origin)),
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        if slope is not None:
            tags |= {"0028|1052": str(slope[1]), "0028|1053": str(slope[0])}
        if array.dtype == np.float32:  # stored as int16
            tags |= {"0028|0100": "16", "0028|0101": "16", "0028|0102": "15", "0028|0103": "1"}
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{series}_{(5 * k + 2) % n:03d}.dcm"))
        writer.Execute(image)
    return folder


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(-1000, 2000, (4, 5, 7)).astype(np.int16)


def test_a_series_is_ordered_by_position(tmp_path, voxels):
    folder = scanned(tmp_path / "s", voxels)
    volume = read(folder)
    assert np.issubdtype(volume.array.dtype, np.integer)
    np.testing.assert_array_equal(volume.array, voxels)
    expected = [[-0.5, 0, 0, 10], [0, -0.75, 0, -20], [0, 0, 2.5, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected, atol=1e-9)
    header = read_header(folder)
    assert (header.shape, header.dtype) == (volume.array.shape, volume.array.dtype)
    assert (
        read(scanned(tmp_path / "r", voxels, positions=[-2.5 * k for k in range(7)])).array[1, 2, 0]
        == (voxels[1, 2, 6])
    )


def test_the_world_is_that_of_itks_own_series_reader(tmp_path, voxels):
    folder = scanned(tmp_path / "s", voxels)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image, volume = reader.Execute(), read(folder)
    for index in ((0, 0, 0), (3, 4, 6), (1, 2, 3)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((volume.affine @ (*index, 1))[:3], (-x, -y, z), atol=1e-6)
        assert volume.array[index] == image[index]


def test_slope_and_intercept_are_applied(tmp_path, voxels):
    volume = read(scanned(tmp_path / "hu", voxels, slope=(1, -1024)))
    assert np.issubdtype(volume.array.dtype, np.integer)
    np.testing.assert_array_equal(volume.array, voxels)  # ITK stored them less the intercept
    values = (voxels * 0.25).astype(np.float32)
    volume = read(scanned(tmp_path / "pet", values, slope=(0.25, -250)))
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, values, atol=1e-3)


def test_a_tilted_gantry_shears_the_grid(tmp_path, voxels):
    volume = read(scanned(tmp_path / "s", voxels, tilt=0.5))
    np.testing.assert_allclose(volume.affine[:3, 2], (0, -0.5, 2.5), atol=1e-9)
    np.testing.assert_array_equal(volume.array, voxels)


def test_one_slice_is_as_thick_as_it_says(tmp_path, voxels):
    volume = read(scanned(tmp_path / "s", voxels[:, :, :1]))
    assert volume.array.shape == (4, 5, 1)
    assert volume.spacing == pytest.approx((0.5, 0.75, 2.5))


@pytest.mark.parametrize(
    "positions", [[0, 1, 2, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 7], [0, 0, 1, 1, 2, 2, 3], [3] * 7]
)
def test_missing_and_double_slices_are_refused(tmp_path, voxels, positions):
    folder = scanned(tmp_path / "s", voxels, positions=[2.5 * p for p in positions])
    with pytest.raises(UserError, match=r"s: its slices are .* mm apart"):
        read(folder)


def test_several_series_are_listed_with_their_size(tmp_path, voxels):
    folder = scanned(tmp_path / "s", voxels)
    scanned(folder, voxels[:, :, :3], series="1.2.3.5")
    with pytest.raises(
        UserError, match=r"s: 2 DICOM series \(CT thorax, \d files; CT thorax, \d files\)"
    ) as error:
        read(folder)
    assert "7 files" in str(error.value)
    assert "3 files" in str(error.value)
    assert "give a sub-folder" in str(error.value)


def test_a_slice_of_another_size_is_refused(tmp_path, voxels):
    folder = scanned(tmp_path / "s", voxels)
    other = scanned(tmp_path / "t", voxels[:3], positions=[2.5 * k + 50 for k in range(7)])
    next(other.iterdir()).rename(folder / "other.dcm")
    with pytest.raises(UserError, match="differ in size"):
        read(folder)


def test_a_truncated_slice_is_refused(tmp_path, voxels):
    folder = scanned(tmp_path / "s", voxels)
    path = sorted(folder.iterdir())[3]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"not a readable image|mm apart"):
        read(folder)


def test_real_series_agree_with_their_nifti(shared):
    """STS_002: the NIfTI of the same scans, made by other software."""
    for name, tolerance in (("CT", 1e-6), ("PET", 1e-3), ("MR_T1", 2e-2)):  # int16 steps of NIfTI
        series = read(shared / "dicom" / "STS_002" / name / "image")
        file = read(shared / "sts" / "STS_002" / f"{name}_image.nii.gz")
        np.testing.assert_allclose(series.affine, file.affine, atol=1e-4)
        np.testing.assert_allclose(series.array, file.array, atol=tolerance)
        if name == "CT":
            assert series.array.dtype == file.array.dtype == np.int16
            assert series.array.min() >= -1024


def test_a_real_rtstruct_is_no_image(shared, tmp_path):
    folder = shared / "dicom" / "STS_002" / "CT"
    with pytest.raises(UserError, match=r"mask: no DICOM image series"):
        read(folder / "mask")
    for file in [*(folder / "mask").iterdir(), *(folder / "image").iterdir()]:
        (tmp_path / f"{file.parent.name}_{file.name}").symlink_to(file)
    np.testing.assert_array_equal(read(tmp_path).array, read(folder / "image").array)
