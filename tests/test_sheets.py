"""Sheets of pictures: every picture comes back in its place, within the budget."""

import numpy as np
import pytest

from pullpush import sheets


def flat(n, height=16, width=24):
    """n pictures, each of one colour of its own."""
    colours = np.random.default_rng(0).integers(30, 226, (n, 3))
    return np.broadcast_to(colours[:, :, None, None], (n, 3, height, width)).astype(np.uint8)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 48, 100])
def test_every_picture_comes_back_in_its_place(n):
    images = flat(n)
    packed = sheets.pack(images, 40_000)
    assert packed.dtype == np.uint8 and packed.ndim == 1 and len(packed) <= 40_000
    found = sheets.unpack(packed, n)
    assert found.shape == images.shape and found.dtype == np.uint8
    middle = np.abs(found.astype(int) - images)[..., 4:-4, 4:-4]  # colours bleed over the edges of a tile
    assert middle.max() <= 12


def test_a_small_budget_costs_quality_and_nothing_else():
    noise = np.random.default_rng(1).integers(0, 256, (30, 3, 16, 16), dtype=np.uint8)
    large, small = sheets.pack(noise, 1_000_000), sheets.pack(noise, 5_000)
    assert len(small) <= 5_000 < len(large)
    assert sheets.unpack(small, 30).shape == noise.shape
    error = [np.abs(sheets.unpack(packed, 30).astype(int) - noise).mean() for packed in (large, small)]
    assert error[0] < error[1]


@pytest.mark.parametrize(("n", "height", "width", "budget"), [(48, 48, 76, 30_000), (500, 16, 25, 20_000)])
def test_pictures_that_no_quality_keeps_within_the_budget_become_smaller(n, height, width, budget):
    """The two sheets of a record of CLAWS, of noise, which compresses worst: they cost no run."""
    noise = np.random.default_rng(2).integers(0, 256, (n, 3, height, width), dtype=np.uint8)
    shade = np.linspace(0.2, 1, n)[:, None, None, None]
    images = (noise * shade).astype(np.uint8)
    packed = sheets.pack(images, budget)
    found = sheets.unpack(packed, n)
    assert len(packed) <= budget and found.shape[:2] == (n, 3)
    assert sheets.SMALLEST <= found.shape[2] < height and found.shape[3] < width
    assert np.corrcoef(found.mean((1, 2, 3)), images.mean((1, 2, 3)))[0, 1] > 0.99  # each in its place


def test_grey_and_floating_pictures_are_taken():
    grey = np.linspace(0, 1, 5)[:, None, None, None] * np.ones((1, 1, 16, 16))
    found = sheets.unpack(sheets.pack(grey, 10_000), 5)
    np.testing.assert_allclose(found[:, :, 8, 8], np.round(255 * grey[:, :, 8, 8]).repeat(3, 1), atol=6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sheets.pack(flat(0), 1000), "no images"),
        (lambda: sheets.pack(flat(9), 50), "over the budget of 50"),
        (lambda: sheets.pack(np.zeros((4, 2, 8, 8)), 1000), "cannot be shown"),
        (lambda: sheets.unpack(sheets.pack(flat(9), 10_000), 50), "does not hold 50 images"),
    ],
)
def test_what_cannot_be_packed_says_so(call, message):
    with pytest.raises(ValueError, match=message):
        call()
