import numpy as np
import pytest
from PIL import Image

from medjax.errors import UserError
from medjax.io.files import read, read_header, write
from medjax.space.volume import Volume

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # rows y, columns x
COLOUR = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_grey_keeps_values_and_type(tmp_path, suffix, dtype):
    grey = GREY.astype(dtype) * (200 if dtype == "u2" else 1)
    Image.fromarray(grey).save(tmp_path / f"a{suffix}")
    volume = read(tmp_path / f"a{suffix}")
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, grey.T[:, :, None])
    np.testing.assert_array_equal(volume.affine, np.eye(4))
    header = read_header(tmp_path / f"a{suffix}")
    assert (header.shape, header.dtype) == ((4, 3, 1), dtype)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wide_tiff_keeps_its_type(tmp_path, dtype):
    Image.fromarray(GREY.astype(dtype) - 70).save(tmp_path / "a.tif")
    volume = read(tmp_path / "a.tif")
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array[:, :, 0].T, GREY.astype(dtype) - 70)


def test_masks_keep_their_two_values(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "bit.png")
    bits = read(tmp_path / "bit.png").array
    assert bits.dtype == np.uint8
    np.testing.assert_array_equal(bits[:, :, 0].T, GREY > 100)
    Image.fromarray((GREY > 100).astype(np.uint8) * 255).save(tmp_path / "byte.png")
    assert np.unique(read(tmp_path / "byte.png").array).tolist() == [0, 255]


def test_colour_has_channels_last_and_alpha_is_dropped(tmp_path):
    alpha = np.full((3, 4, 1), 7, np.uint8)
    Image.fromarray(COLOUR).save(tmp_path / "rgb.png")
    Image.fromarray(np.concatenate([COLOUR, alpha], 2)).save(tmp_path / "rgba.png")
    for name in ("rgb.png", "rgba.png"):
        array = read(tmp_path / name).array
        np.testing.assert_array_equal(array, COLOUR.swapaxes(0, 1)[:, :, None])
    Image.fromarray(np.concatenate([GREY[..., None], alpha], 2)).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read(tmp_path / "la.png").array, GREY.T[:, :, None])


def test_palettes_are_expanded(tmp_path):
    for name, colours in (("grey", [(9, 9, 9), (80, 80, 80)]), ("red", [(0, 0, 0), (200, 0, 0)])):
        picture = Image.fromarray((GREY > 100).astype(np.uint8), mode="P")
        picture.putpalette(sum(colours, ()))
        picture.save(tmp_path / f"{name}.png")
    grey = read(tmp_path / "grey.png").array
    np.testing.assert_array_equal(grey[:, :, 0].T, np.where(GREY > 100, 80, 9))
    red = read(tmp_path / "red.png").array
    assert red.shape == (4, 3, 1, 3)
    np.testing.assert_array_equal(red[:, :, 0, 0].T, np.where(GREY > 100, 200, 0))


def test_jpeg_is_near(tmp_path):
    smooth = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 3
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    volume = read(tmp_path / "a.jpg")
    assert volume.array.shape == (24, 16, 1)
    np.testing.assert_allclose(volume.array[:, :, 0].T, smooth, atol=4)


def test_pages_are_the_z_axis(tmp_path):
    pages = [Image.fromarray(GREY + k) for k in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    array = read(tmp_path / "a.tif").array
    assert array.shape == (4, 3, 5)
    for k in range(5):
        np.testing.assert_array_equal(array[:, :, k].T, GREY + k)
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=[Image.fromarray(GREY.T)])
    with pytest.raises(UserError, match=r"b\.tif: its pages differ"):
        read(tmp_path / "b.tif")


@pytest.mark.parametrize(
    "array",
    [
        GREY.T[:, :, None],
        GREY.T[:, :, None].astype(np.uint16) * 255,
        COLOUR.swapaxes(0, 1)[:, :, None],
    ],
)
def test_png_is_written_and_read_bit_for_bit(tmp_path, array):
    write(Volume(array, np.eye(4)), tmp_path / "a.png")
    volume = read(tmp_path / "a.png")
    assert volume.array.dtype == array.dtype
    np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4, 2), np.uint8),
        np.zeros((3, 4, 1), np.float32),
        np.zeros((3, 4, 1), np.int16),
        np.zeros((3, 4, 1, 3), np.uint16),
        np.zeros((3, 4, 1, 2), np.uint8),
    ],
)
def test_png_refuses_what_it_cannot_hold(tmp_path, array):
    with pytest.raises(UserError, match=r"a\.png: PNG holds one slice"):
        write(Volume(array, np.eye(4)), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("part", [0.05, 0.3, 0.8])
def test_a_truncated_picture_is_named(tmp_path, suffix, part):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60)).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(UserError, match=rf"a\{suffix}: not a readable picture"):
        read(path)


def test_real_photographs_and_their_masks(shared):
    names = sorted((shared / "chase_db1").glob("Image_0[1-4]*"))
    assert len(names) == 24
    for path in names:
        volume = read(path)
        if path.suffix == ".jpg":
            assert volume.array.shape == (999, 960, 1, 3)
            assert volume.array.dtype == np.uint8
        else:
            assert volume.array.shape == (999, 960, 1)
            assert np.unique(volume.array).tolist() == [0, 1]
            assert 0.02 < volume.array.mean() < 0.2


def test_a_grey_gif_is_a_mask_of_one_channel(tmp_path):
    """As the manual segmentations of DRIVE are stored."""
    mask = np.zeros((5, 7), np.uint8)
    mask[1:3, 2:6] = 255
    Image.fromarray(mask).save(tmp_path / "21_manual1.gif")
    array = read(tmp_path / "21_manual1.gif").array
    assert array.shape == (7, 5, 1)
    np.testing.assert_array_equal(array[:, :, 0].T, mask)
