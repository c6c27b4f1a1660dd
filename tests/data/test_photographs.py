"""The photographs' own rules: which classes count, what is noticed, what the remedy is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pullpush import data
from pullpush.data import photographs
from pullpush.data.photographs import ALBUMS, Album

CLASSES = ("maize", "wheat")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root where `crops` has two classes of six images each, and a fruit beside them."""
    for c, name in enumerate(("banana", *CLASSES)):
        (tmp_path / "crops_field" / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.full((12, 19, 3), 50 * c + i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "crops_field" / name / f"web_{i}.png")
    digest, count = photographs.digest_of(tmp_path / "crops_field", CLASSES)
    monkeypatch.setitem(ALBUMS, "crops", Album("crops_field", CLASSES, count, digest))
    return tmp_path


def test_only_the_crops_that_count_are_read(root: Path) -> None:
    train, test = (data.load("crops", root=root, split=split) for split in ("train", "test"))
    assert train.classes == test.classes == CLASSES
    assert train.images.shape[1:] == (3, 12, 19) and len(train) + len(test) == 12
    for part in (train, test):
        assert (part.images[:, 0, 0, 0] // 50 == part.labels + 1).all()
    seen = torch.cat([train.images, test.images])[:, 0, 0, 0].tolist()
    assert sorted(seen) == [50 * c + i for c in (1, 2) for i in range(6)]


def test_a_missing_class_an_added_and_an_altered_file_are_noticed(root: Path) -> None:
    folder = root / "crops_field"
    (folder / "wheat" / "web_9.png").write_bytes(b"")
    with pytest.raises(data.DataError, match="holds 13 files of crops, not 12"):
        data.load("crops", root=root)
    (folder / "wheat" / "web_9.png").unlink()
    Image.new("RGB", (19, 12)).save(folder / "wheat" / "web_0.png")
    with pytest.raises(data.DataError, match="renamed or altered"):
        data.check("crops", root=root)
    (folder / "maize").rename(folder / "corn")
    with pytest.raises(data.DataError, match=r"needs the folder .*maize.*lay it out as"):
        data.download("crops", root=root)


def test_a_file_beside_the_classes_does_not_matter(root: Path) -> None:
    (root / "crops_field" / "banana" / "web_0.png").unlink()
    data.check("crops", root=root)


def test_a_changed_name_is_a_changed_set(root: Path) -> None:
    before = ALBUMS["crops"].digest
    (root / "crops_field" / "wheat" / "web_0.png").rename(root / "crops_field" / "wheat" / "web_00.png")
    assert photographs.digest_of(root / "crops_field", CLASSES)[0] != before


@pytest.mark.parametrize(
    ("name", "shape", "n"), [("crops", (3, 120, 190), 663), ("deepweeds", (3, 96, 96), 9453)]
)
def test_the_real_sets(real_data: Path, name: str, shape: tuple[int, ...], n: int) -> None:
    held = data.load(name, root=real_data, split="test")
    album = ALBUMS[name]
    assert held.images.shape[1:] == shape and held.classes == album.classes
    assert len(held) == pytest.approx(n / 5, rel=0.02)
    assert held.labels.bincount(minlength=len(album.classes)).min() > 0
