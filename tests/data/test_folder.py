"""Images of the user's own: how they are read, and one clear error for each way a folder can be wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pullpush import data
from pullpush.data import folder


def paint(
    path: Path, value: int | tuple[int, int, int] = 0, size: tuple[int, int] = (6, 4), mode: str = "RGB"
) -> None:
    """Write an image of one colour; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def weeds(tmp_path: Path) -> Path:
    """Classes of 10, 15 and 5 images; the red channel says the class, the green one the place in it."""
    folder = tmp_path / "weeds"
    for label, (name, count) in enumerate((("dock", 10), ("nettle", 15), ("thistle", 5))):
        for i in range(count):
            paint(folder / name / f"{i:02}.png", (label, i, 7))
    return folder


def seen(images: data.ImageSet) -> list[tuple[int, int]]:
    return [tuple(pixel) for pixel in images.images[:, :2, 0, 0].tolist()]


def fails(match: str, path: Path | str, **options: object) -> None:
    with pytest.raises(data.DataError, match=match) as error:
        data.load(path, **options)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


# --- reading ------------------------------------------------------------------------------------------------


def test_shapes_names_and_pixels(weeds: Path) -> None:
    got = data.load(weeds, split="all")
    assert got.images.shape == (30, 3, 4, 6) and got.images.dtype == torch.uint8
    assert got.classes == ("dock", "nettle", "thistle") and got.name == "weeds"
    assert [label for label, _ in seen(got)] == got.labels.tolist()
    assert (got.images[:, 2] == 7).all()


def test_fixed_stratified_split(weeds: Path) -> None:
    train, test, both = (data.load(weeds, split=split) for split in data.SPLITS)
    assert test.labels.bincount().tolist() == [2, 3, 1]
    assert train.labels.bincount().tolist() == [8, 12, 4]
    assert seen(both) == seen(train) + seen(test)
    assert len(set(seen(both))) == 30
    assert data.load(weeds, split="test").digest == test.digest


def test_classes_take_turns_so_that_a_limit_keeps_all(weeds: Path) -> None:
    train = data.load(weeds)
    assert train.labels.tolist() == [0, 1, 2] * 4 + [0, 1] * 4 + [1] * 4
    for label in range(3):
        places = [i for c, i in seen(train) if c == label]
        assert places == sorted(places)
    few = data.load(weeds, limit=4)
    assert seen(few) == seen(train)[:4] and few.digest != train.digest
    with pytest.raises(
        ValueError, match=r"limit=25 is not possible for .*weeds \(train\), which has 24 images"
    ):
        data.load(weeds, limit=25)


def test_own_train_and_test_folders(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 1)):  # own splits may be as small as they like
        for label, name in enumerate("ab"):
            for i in range(count):
                paint(tmp_path / part / name / f"{i}.png", (label, i + (100 if part == "test" else 0), 0))
    assert seen(data.load(tmp_path)) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert seen(data.load(tmp_path, split="test")) == [(0, 100), (1, 100)]
    assert len(data.load(tmp_path, split="all")) == 8


def test_train_may_be_a_class(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        for i in range(5):
            paint(tmp_path / name / f"{i}.png")
    assert data.load(tmp_path).classes == ("bus", "train")


def test_grey_only_if_all_are_grey(tmp_path: Path) -> None:
    files = [tmp_path / "a" / f"{i}.png" for i in range(5)]
    for file in files:
        paint(file, 99, mode="L")
    assert data.load(tmp_path).images.shape == (4, 1, 4, 6)
    for file in files:  # wherever the one colour image is, also in the other split
        paint(file, (1, 2, 3))
        train, test, both = (data.load(tmp_path, split=split).images[:, :, 0, 0] for split in data.SPLITS)
        assert train.shape == (4, 3) and test.shape == (1, 3)
        assert sorted(both.tolist()) == [[1, 2, 3]] + [[99, 99, 99]] * 4
        paint(file, 99, mode="L")


def test_size_scales_then_crops_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 4:12] = 255  # the middle square is white
    for i in range(5):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "a" / f"{i}.png")
    paint(tmp_path / "a" / "5.png", (255, 255, 255), size=(20, 30))
    got = data.load(tmp_path, split="all", size=4)
    assert got.images.shape == (6, 3, 4, 4)
    assert got.images[..., 1:3].min() > 250


def test_photographs_stand_upright(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    for i in range(4):
        Image.new("RGB", (6, 4)).save(tmp_path / "a" / f"{i}.jpg", exif=exif)
    paint(tmp_path / "a" / "4.png", size=(4, 6))
    assert data.load(tmp_path).images.shape == (4, 3, 6, 4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_modes(tmp_path: Path, mode: str) -> None:
    for i in range(5):
        paint(tmp_path / "a" / f"{i}.tif", mode=mode)
    assert data.load(tmp_path).images.shape[1] == (1 if mode in ("1", "L", "LA") else 3)


def test_found_under_the_data_root_and_by_relative_path(weeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = data.load(weeds).digest
    assert data.load("weeds", root=weeds.parent).digest == expected
    monkeypatch.setenv("PULLPUSH_DATA", str(weeds.parent))
    assert data.load("weeds").digest == expected and data.available("weeds")
    monkeypatch.delenv("PULLPUSH_DATA")
    monkeypatch.chdir(weeds)
    assert data.load("../weeds").digest == data.load(".").digest == expected
    assert data.load(".").name == "weeds"


def test_real_photographs(real_data: Path, missing: Callable[..., None]) -> None:
    if not data.available("deepweeds", real_data):
        missing("data", "deepweeds")
    few = data.load("deepweeds", real_data, limit=18)
    assert few.images.shape == (18, 3, 96, 96) and few.labels.tolist() == [*range(9)] * 2


# --- errors -------------------------------------------------------------------------------------------------


def test_path_missing(tmp_path: Path) -> None:
    fails("There is no folder .*nowhere", tmp_path / "nowhere")
    fails("There is no folder images/nowhere", "images/nowhere")
    assert not data.available(tmp_path / "nowhere")


def test_not_a_folder(tmp_path: Path) -> None:
    paint(tmp_path / "one.png")
    fails("one.png is not a folder", tmp_path / "one.png")


def test_no_class_folders(tmp_path: Path) -> None:
    paint(tmp_path / "one.png")
    fails("has no class sub-folders", tmp_path)


def test_empty_class(weeds: Path) -> None:
    (weeds / "clover").mkdir()
    (weeds / "clover" / "notes.txt").write_text("to do")
    fails("Class folder .*clover holds no image", weeds)


def test_class_too_small_to_split(weeds: Path) -> None:
    (weeds / "thistle" / "00.png").unlink()
    fails("Class folder .*thistle has 4 images, too few", weeds)


def test_one_half_of_a_split(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "a" / "0.png")
    fails("has a train folder but no test folder", tmp_path)
    (tmp_path / "train").rename(tmp_path / "test")
    fails("has a test folder but no train folder", tmp_path)


def test_splits_with_other_classes(tmp_path: Path) -> None:
    for path in ("train/a", "train/b", "test/a"):
        paint(tmp_path / path / "0.png")
    fails(r"differ in their classes \(b\)", tmp_path)


def test_not_an_image(weeds: Path) -> None:
    (weeds / "dock" / "00.png").write_text("not an image")
    fails("dock/00.png cannot be read as an image", weeds)


def test_truncated_image(weeds: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    for file in weeds.glob("*/*.png"):
        Image.fromarray(noise).save(file)
    file = weeds / "nettle" / "03.png"
    file.write_bytes(file.read_bytes()[:-3_000])
    fails("nettle/03.png cannot be read as an image", weeds, split="all")


def test_16_bit_image(weeds: Path) -> None:
    Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(weeds / "dock" / "00.png")
    fails("dock/00.png is an image of mode I;16", weeds)


def test_differing_sizes_without_size(weeds: Path) -> None:
    paint(weeds / "dock" / "03.png", size=(5, 9))
    fails("differ in size .* is 6 x 4.*is 5 x 9.*: give size, for example size=4", weeds)
    assert data.load(weeds, size=4).images.shape[2:] == (4, 4)


def test_size_out_of_range(weeds: Path) -> None:
    with pytest.raises(ValueError, match="size=0 must be at least 1 pixel"):
        data.load(weeds, size=0)


def test_unreadable_image(closed_root) -> None:
    root, close = closed_root
    for i in range(5):
        paint(root / "a" / f"{i}.png")
    (root / "a" / "0.png").chmod(0)
    close()
    fails(r"a/0\.png cannot be read as an image \(.*Permission denied", root)


def test_unreadable_folder(closed_root) -> None:
    root, close = closed_root
    weeds = root / "weeds"
    weeds.mkdir(mode=0)
    close(weeds)
    fails(r"weeds cannot be read \(Permission denied\)", weeds)


# --- the files alone ----------------------------------------------------------------------------------------


def test_listings_are_the_files_in_reading_order(weeds: Path) -> None:
    found = folder.listings(weeds)
    for split in ("train", "test"):
        listing = found[split]
        whole = data.load(weeds, split=split)
        assert listing.classes == whole.classes and listing.labels.tolist() == whole.labels.tolist()
        pixels = [np.asarray(folder.photograph(file))[0, 0, :2].tolist() for file in listing.files]
        assert pixels == [list(pixel) for pixel in seen(whole)]


def test_listings_of_a_folder_that_is_not_there_or_closed(closed_root) -> None:
    root, close = closed_root
    with pytest.raises(data.DataError, match="There is no folder .*nowhere: give one"):
        folder.listings(root / "nowhere")
    weeds = root / "weeds"
    weeds.mkdir(mode=0)
    close(weeds)
    with pytest.raises(data.DataError, match=r"weeds cannot be read \(Permission denied\)"):
        folder.listings(weeds)


def test_a_photograph_is_upright_rgb_or_named(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    Image.new("L", (6, 4), 9).save(tmp_path / "grey.png", exif=exif)
    found = folder.photograph(tmp_path / "grey.png")
    assert (found.mode, found.size) == ("RGB", (4, 6)) and found.getpixel((3, 5)) == (9, 9, 9)
    (tmp_path / "grey.png").write_text("not an image")
    with pytest.raises(data.DataError, match=r"grey\.png cannot be read as an image"):
        folder.photograph(tmp_path / "grey.png")
