"""Handwritten digits: `usps`, 16 x 16 pixels from envelopes, and `pendigits`, 8 points on a pen's way.

usps: 7,291 + 2,007 rows of 256 pixels, ink from 0 to 1. Published by Hastie, Tibshirani and Friedman beside
    The Elements of Statistical Learning, from -1 to 1 in steps of 0.001; kept as whole numbers, 0 to 2,000.
pendigits: 7,494 + 3,498 rows of 16 coordinates, 0 to 100, x and y in turn. Alpaydin and Alimoglu 1998, UCI.

Each lies under the data root as one .npz of x_train, y_train, x_test, y_test, and is made from the public
text files when absent. Whatever made it, the arrays must have the digest in `SOURCES`.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pullpush.data import fetch
from pullpush.data.arrays import digest_of, read_known, write_npz
from pullpush.data.fetch import Remote
from pullpush.data.imageset import DataError

KEYS = ("x_train", "y_train", "x_test", "y_test")
CLASSES = tuple("0123456789")


@dataclass(frozen=True)
class Source:
    """A set with its own test part.

    file: under the data root. digest: `arrays.digest_of` its arrays. top: the integer that stands for `high`,
    the largest value of x. dtype: of the stored x. homes: text files of train and test, a row of numbers a
    line. label_first: whether the label is a row's first number, else the last. low: the smallest number
    there.
    """

    file: str
    digest: str
    dtype: str
    top: int
    high: float
    homes: tuple[str, str]
    label_first: bool = False
    low: float = 0.0


SOURCES = {
    "usps": Source(
        "usps.npz",
        "c1c8819697f387826f1c16fe07fc292783d76cea5b49589ba2bc484781e07405",
        "uint16",
        2_000,
        1.0,
        (
            "https://hastie.su.domains/ElemStatLearn/datasets/zip.train.gz",
            "https://hastie.su.domains/ElemStatLearn/datasets/zip.test.gz",
        ),
        label_first=True,
        low=-1.0,
    ),
    "pendigits": Source(
        "pendigits.npz",
        "9d05f63083dd3644ebf6efda90e23ce80405fa807b6700462c3a85129146bd51",
        "uint8",
        100,
        100.0,
        (
            "https://archive.ics.uci.edu/ml/machine-learning-databases/pendigits/pendigits.tra",
            "https://archive.ics.uci.edu/ml/machine-learning-databases/pendigits/pendigits.tes",
        ),
    ),
}
TABLES = tuple(SOURCES)


def read(name: str, root: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """x (n, d) float32, labels (n,) int64 of a split in the set's own order, class names.

    `all` is train then test. Downloads what is missing. Raises DataError if the arrays are not what
    they should be, or cannot be had.
    """
    source = SOURCES[name]
    if not (root / source.file).exists():
        download(name, root)
    arrays = _arrays(name, root)
    parts = ("train", "test") if split == "all" else (split,)
    x = np.concatenate([arrays[f"x_{part}"] for part in parts]).astype(np.float32)
    y = np.concatenate([arrays[f"y_{part}"] for part in parts]).astype(np.int64)
    return torch.from_numpy(x / np.float32(source.top / source.high)), torch.from_numpy(y), CLASSES


def check(name: str, root: Path) -> None:
    """Raise DataError, with the remedy, unless the arrays are there and have their digest."""
    _arrays(name, root)


def download(name: str, root: Path) -> Path:
    """Make the set whole under `root`, fetching only if it is not, and return `root`.

    One process fetches while others wait. Raises DataError if the set cannot be had.
    """
    if _whole(name, root):  # before the lock: a whole set on a read-only disk needs none
        return root
    with fetch.alone(name, root):
        if not _whole(name, root):  # another process may have finished while this one waited
            with fetch.scratch(name, root) as part:
                arrays = _from_home(name, part)
            write_npz(root / SOURCES[name].file, arrays)
    return root


def _whole(name: str, root: Path) -> bool:
    try:
        check(name, root)
    except DataError:
        return False
    return True


def _arrays(name: str, root: Path) -> dict[str, np.ndarray]:
    source, home = SOURCES[name], SOURCES[name].homes[0].rpartition("/")[0]
    remedy = (
        f"run `{fetch.command(name, root)}` to make it from {home}, or put a {source.file} with "
        f"{', '.join(KEYS)} there."
    )
    return read_known(root / source.file, KEYS, source.digest, f"{name}: {remedy}")


def _from_home(name: str, folder: Path) -> dict[str, np.ndarray]:
    """The arrays, from the public text files. Raises DataError if they are not those that they were."""
    source, arrays = SOURCES[name], {}
    for part, url in zip(("train", "test"), source.homes, strict=True):
        remote = Remote(url.rpartition("/")[2], (url,))
        text = folder / remote.file
        fetch.get(remote, folder, f"put {source.file} into {folder.parent}")
        try:
            content = gzip.decompress(text.read_bytes()) if text.suffix == ".gz" else text.read_bytes()
            rows = np.array(
                [line.split() for line in content.decode().replace(",", " ").splitlines() if line.strip()],
                dtype=np.float64,
            )
            labels, x = (rows[:, 0], rows[:, 1:]) if source.label_first else (rows[:, -1], rows[:, :-1])
        except (OSError, EOFError, ValueError, IndexError) as error:
            raise DataError(
                f"{url} is not what it was ({error}): get {source.file} from somebody who has it."
            ) from error
        arrays[f"x_{part}"] = np.rint((x - source.low) * source.top / (source.high - source.low))
        arrays[f"x_{part}"] = arrays[f"x_{part}"].astype(source.dtype)
        arrays[f"y_{part}"] = labels.astype(np.uint8)
    if (found := digest_of(arrays)) != source.digest:
        raise DataError(
            f"{source.homes[0]} and its test part are not what they were (sha256 of the arrays "
            f"{found[:8]}..., not {source.digest[:8]}...): get {source.file} from somebody who has it."
        )
    return arrays
