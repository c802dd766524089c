import numpy as np
import pytest

from medjax.errors import UserError
from medjax.io.files import read, read_header, write
from medjax.space.volume import Volume

VOLUME = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([-2.0, -2.0, 3.0, 1.0]))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ", ".mha", ".mhd", ".nrrd"])
def test_every_volume_format_keeps_voxels_type_and_affine(tmp_path, suffix):
    path = tmp_path / "new" / f"a.b{suffix}"
    write(VOLUME, str(path))
    volume, header = read(str(path)), read_header(str(path))
    assert volume.array.dtype == header.dtype == np.int16
    assert header.shape == VOLUME.array.shape
    assert header.spacing == volume.spacing == (2, 2, 3)
    assert header.orientation == volume.orientation == "LPS"
    np.testing.assert_array_equal(volume.array, VOLUME.array)
    np.testing.assert_allclose(volume.affine, VOLUME.affine, atol=1e-12)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".mhd", ".nrrd", ".png"])
def test_a_mask_of_bool_is_stored_as_0_and_1(tmp_path, suffix):
    mask = np.arange(12).reshape(3, 4, 1) % 3 == 0
    write(Volume(mask, np.eye(4)), tmp_path / f"mask{suffix}")
    assert read(tmp_path / f"mask{suffix}").array.dtype == np.uint8
    np.testing.assert_array_equal(read(tmp_path / f"mask{suffix}").array, mask)


@pytest.mark.parametrize("reader", [read, read_header])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.nii.gz", "no such file"),
        ("notes.txt", "unknown image suffix; use one of .nii"),
        ("slice.dcm", "a DICOM series is given as its folder"),
        ("broken.nii.gz", "not a whole NIfTI file"),
        ("broken.nii", "not a whole NIfTI file"),
        ("broken.mha", "not a readable image"),
        ("broken.mhd", "not a readable image"),
        ("broken.nrrd", "not a readable image"),
        ("broken.png", "not a readable picture"),
        ("broken.jpeg", "not a readable picture"),
        ("broken.tif", "not a readable picture"),
        ("empty", "no DICOM image series"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, reader, name, message):
    path = tmp_path / name
    if name == "empty":
        path.mkdir()
    elif not name.startswith("absent"):
        path.write_bytes(b"this is no image at all")
    with pytest.raises(UserError, match=message) as error:
        reader(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.tif", "a.jpg", "a.txt", "a"])
def test_formats_that_lose_voxels_are_not_written(tmp_path, name):
    with pytest.raises(UserError, match=r"unknown image suffix; use one of \.nii"):
        write(VOLUME, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".mhd", ".png"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, suffix):
    (tmp_path / "file").write_text("in the way")
    volume = Volume(np.zeros((2, 2, 1), np.uint8), np.eye(4))
    with pytest.raises(UserError, match="cannot be written"):
        write(volume, tmp_path / "file" / f"a{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write(volume, tmp_path / f"folder{suffix}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", f"folder{suffix}"]
