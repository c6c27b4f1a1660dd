"""What holds for every data set: names, splits, limits, digests; and the embedded digits."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pullpush import data


def test_names() -> None:
    assert data.names() == (
        "digits", "fields", "crops", "deepweeds", "mnist", "fashion_mnist", "cifar10"
    )  # fmt: skip


BRAND_NEW = """
import torch
NAMES = ("white", "black")
def read(name, root, split):
    images = torch.full((4, 1, 2, 2), 255 if name == "white" else 0, dtype=torch.uint8)
    return images, torch.tensor([0, 1, 0, 1]), (split, root.name)
def check(name, root):
    from pullpush.data import DataError
    raise DataError(f"{name} is not in {root}.")
def download(name, root):
    return root / name
"""


def test_a_data_set_is_added_by_one_file(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "brand_new.py").write_text(BRAND_NEW)
    code = (
        "import sys, pathlib; from pullpush import data; root = pathlib.Path(sys.argv[1])\n"
        "data.__path__.append(str(root / 'new'))\n"
        "assert data.names()[-3:] == ('cifar10', 'white', 'black')\n"
        "got = data.load('white', root, 'test', limit=3)\n"
        "assert (got.images == 255).all() and got.labels.tolist() == [0, 1, 0]\n"
        "assert (got.name, got.classes) == ('white', ('test', root.name))\n"
        "assert not data.available('black', root) and data.download('black', root) == root / 'black'"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_digits_match_their_source() -> None:
    source = load_digits()
    got = data.load("digits", split="all")
    assert got.images.shape == (1797, 1, 8, 8) and got.images.dtype == torch.uint8
    ours = {
        (label, image.tobytes()) for label, image in zip(got.labels.tolist(), got.images.numpy(), strict=True)
    }
    scaled = np.rint(source.images * 255 / 16).astype(np.uint8)
    theirs = {(label, image.tobytes()) for label, image in zip(source.target.tolist(), scaled, strict=True)}
    assert ours == theirs
    assert got.images.min() == 0 and got.images.max() == 255
    assert got.classes == tuple("0123456789")


def test_digits_split_is_fixed_and_stratified() -> None:
    train, test, both = (data.load("digits", split=split) for split in data.SPLITS)
    assert (len(train), len(test), len(both)) == (1437, 360, 1797)
    share = test.labels.bincount() / both.labels.bincount()
    assert (share - 0.2).abs().max() < 0.006  # within one image of a fifth of each class
    assert torch.equal(both.images, torch.cat([train.images, test.images]))
    # Records of runs hold these: a change here makes every one of them incomparable.
    assert train.digest.startswith("88133a3f") and test.digest.startswith("5d3c754b")


def test_digest_is_of_what_is_returned() -> None:
    digits = data.load("digits", limit=100)
    expected = hashlib.sha256(digits.images.numpy().tobytes() + digits.labels.numpy().tobytes()).hexdigest()
    assert digits.digest == expected != data.load("digits").digest


def test_limit_takes_the_first() -> None:
    whole, few = data.load("digits"), data.load("digits", limit=10)
    assert len(few) == 10 and torch.equal(few.images, whole.images[:10])
    assert torch.equal(data.load("digits", limit=1437).labels, whole.labels)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (0, "limit=0 must be at least 1"),
        (-5, "limit=-5 must be at least 1"),
        (1438, r"limit=1438 is not possible for digits \(train\), which has 1,437 images"),
    ],
)
def test_limit_out_of_range(limit: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.load("digits", limit=limit)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("mnits", "mnist"),
        ("MNIST", "mnist"),
        ("fashion-mnist", "fashion_mnist"),
        ("cifar", "cifar10"),
        ("digit", "digits"),
    ],
)
def test_unknown_name(given: str, nearest: str, tmp_path: Path) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)  # as torchvision leaves it: not a user's folder
    for function in (data.load, data.available, data.check):
        with pytest.raises(ValueError, match=f"Unknown data '{given}'. Did you mean '{nearest}'") as error:
            function(given, tmp_path)
        assert all(name in str(error.value) for name in data.names())
    with pytest.raises(ValueError, match=f"Did you mean '{nearest}'"):
        data.download(given, tmp_path)


def test_unknown_split() -> None:
    with pytest.raises(
        ValueError, match=r"Unknown split 'tets'. Did you mean 'test'. Allowed: train, test, all"
    ):
        data.load("digits", split="tets")


def test_size_is_for_folders() -> None:
    with pytest.raises(ValueError, match="size=28 is for a folder of your own; digits"):
        data.load("digits", size=28)


def test_digits_need_nothing(tmp_path: Path) -> None:
    assert data.available("digits", tmp_path)
    data.download("digits", tmp_path)
    assert not list(tmp_path.iterdir())


def test_root_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PULLPUSH_DATA", raising=False)
    assert data.root_folder() == tmp_path / "data"
    monkeypatch.setenv("PULLPUSH_DATA", "")
    assert data.root_folder() == tmp_path / "data"
    monkeypatch.setenv("PULLPUSH_DATA", "~/sets")
    assert data.root_folder() == Path.home() / "sets"
    assert data.root_folder(tmp_path) == tmp_path


def test_import_and_digits_leave_torchvision_alone() -> None:
    code = (
        "import sys; from pullpush import data; data.load('digits'); assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
