import numpy as np
import pytest
from PIL import ImageColor

from medjax.train import contact
from medjax.train.appearance import Brain

NAMES = ("background", "oedema", "enhancing")
OUTLINE = 4 * 20 - 4 + 4 * 5  # pixels: the oedema's border, and around the hole in it
COLOURS = [ImageColor.getrgb(colour) for colour in contact.COLOURS]


def brain(spacing=(1.0, 1.0, 1.0), label=True):
    """A grey box with one bright corner: the patient's right, in front; its lesion is largest at z = 7."""
    image = np.random.default_rng(0).normal(0, 0.1, (40, 60, 12, 2)).astype(np.float32)
    image[30:, 50:] = 1.0
    classes = np.zeros((40, 60, 12), np.uint8)
    classes[10:14, 10:14, 3] = 1
    classes[10:30, 10:30, 7] = 1
    classes[15:20, 15:20, 7] = 2
    mask = np.ones(classes.shape, bool)
    return Brain(image, mask, classes if label else None, spacing)


def coloured(panel, colour):
    return np.argwhere((panel == np.array(colour)).all(axis=-1))


def test_the_slice_is_that_of_the_largest_cross_section():
    row = contact.row(brain(), "one")
    assert len(row.panels) == 2
    for panel in row.panels:
        assert panel.shape == (*contact.PANEL[::-1], 3)
        assert len(coloured(panel, COLOURS[0])) == OUTLINE
        assert len(coloured(panel, COLOURS[1])) == 4 * 5 - 4


def test_it_is_turned_as_radiologists_look():
    row = contact.row(brain(), "one")
    bright = np.argwhere(row.panels[0][..., 0] > 230)
    shown = np.argwhere(row.panels[0].any(axis=-1))
    middle = (shown.min(axis=0) + shown.max(axis=0)) / 2
    corner = np.median(bright, axis=0)
    assert (corner < middle).all()  # in front is up, the patient's right is on the left


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (3.0, 1.5, 5.0)])
def test_panels_are_in_true_proportions(spacing):
    panel = contact.row(brain(spacing, label=False), "one").panels[0]
    shown = np.argwhere(panel.any(axis=-1))
    rows, columns = shown.max(axis=0) - shown.min(axis=0) + 1
    assert columns == pytest.approx(40 * spacing[0], abs=2)
    assert rows == pytest.approx(60 * spacing[1], abs=2)


def test_without_a_lesion_it_is_the_largest_slice_of_the_brain():
    found = brain(label=False)
    found.mask[:] = False
    found.mask[:, :20, 4] = True
    found.mask[:5, :5, 8] = True
    panel = contact.row(found, "one").panels[0]
    assert np.count_nonzero(panel.any(axis=-1)) > 400
    assert not len(coloured(panel, COLOURS[0]))


def test_a_constant_image_is_no_fault():
    found = brain()
    found.image[:] = 1.0
    assert contact.row(found, "one").panels[0].dtype == np.uint8


@pytest.mark.parametrize("counts", [(3,), (2, 5), (4, 0)])
def test_the_sheet_holds_every_panel(counts):
    rows = [contact.row(brain(), f"case {i}") for i in range(5)]
    blocks = [(f"set {i}", rows[:count]) for i, count in enumerate(counts)]
    page = np.asarray(contact.sheet(blocks, ("T1", "T2"), NAMES))
    drawn = 2 * sum(counts) * OUTLINE
    legend = coloured(page[: -contact.LINE], COLOURS[0])
    assert len(legend) == drawn
