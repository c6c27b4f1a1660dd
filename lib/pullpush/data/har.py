"""HAR: what a phone on the waist felt in 2.56 s of walking, climbing, sitting, standing or lying.

10,299 windows of 30 people, 561 features each, from -1 to 1; six activities. The test part is 9 people who
are not in the training part. Anguita et al., A Public Domain Dataset for Human Activity Recognition Using
Smartphones, ESANN 2013; UCI, CC BY 4.0. Downloaded when absent (about 60 MB).
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pullpush.data import fetch
from pullpush.data.fetch import Remote
from pullpush.data.imageset import DataError

TABLES = ("har",)
FOLDER = "har"
# The digest is the one that independent users of this address noted; UCI publishes none, and the file was
# never fetched while this was written. So rows, features and windows of each activity are counted as well.
ARCHIVE = Remote(
    "human+activity+recognition+using+smartphones.zip",
    ("https://archive.ics.uci.edu/static/public/240/human+activity+recognition+using+smartphones.zip",),
    "c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031",
)
CLASSES = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing", "laying")
FEATURES = 561
WINDOWS = {"train": (1226, 1073, 986, 1286, 1374, 1407), "test": (496, 471, 420, 491, 532, 537)}


def read(name: str, root: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """x (n, 561) float32, labels (n,) int64 of a split in the set's own order, class names.

    `all` is train then test. Downloads what is missing. Raises DataError if the archive is not what
    it should be, or cannot be had.
    """
    if not (root / FOLDER / ARCHIVE.file).exists():
        download(name, root)
    check(name, root)
    parts = ("train", "test") if split == "all" else (split,)
    path = root / FOLDER / ARCHIVE.file
    try:
        with zipfile.ZipFile(path) as outer, zipfile.ZipFile(_inner(outer)) as archive:
            pairs = [_part(archive, part) for part in parts]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not the archive that it was ({error}). {_remedy(name, root)}") from error
    x, y = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return torch.from_numpy(x), torch.from_numpy(y), CLASSES


def check(name: str, root: Path) -> None:
    """Raise DataError, with the remedy, unless the archive is there and has its digest (0.1 s)."""
    fault = fetch.fault_of(ARCHIVE, root / FOLDER)
    if fault:
        raise DataError(f"{name}: {root / FOLDER / ARCHIVE.file} is {fault}. {_remedy(name, root)}")


def download(name: str, root: Path) -> Path:
    """Make the archive whole under `root`, fetching only if it is not, and return its folder.

    One process fetches while others wait. Raises DataError if it cannot be had.
    """
    if fetch.fault_of(ARCHIVE, root / FOLDER) is not None:  # a whole set on a read-only disk needs no lock
        with fetch.alone(name, root):
            fetch.fetch(ARCHIVE, root / FOLDER)
    return root / FOLDER


def _inner(outer: zipfile.ZipFile) -> io.BytesIO:
    """UCI's archive holds the authors' archive."""
    return io.BytesIO(outer.read("UCI HAR Dataset.zip"))


def _part(archive: zipfile.ZipFile, part: str) -> tuple[np.ndarray, np.ndarray]:
    """x (n, 561) float32 and y (n,) int64 from 0. Raises ValueError for other counts than the known."""
    import pandas as pd

    with archive.open(f"UCI HAR Dataset/{part}/X_{part}.txt") as stream:
        x = pd.read_csv(stream, sep=r"\s+", header=None, dtype=np.float32).to_numpy()
    with archive.open(f"UCI HAR Dataset/{part}/y_{part}.txt") as stream:
        y = np.loadtxt(stream, dtype=np.int64) - 1
    counts = tuple(np.bincount(y, minlength=len(CLASSES)).tolist())
    if x.shape != (len(y), FEATURES) or counts != WINDOWS[part]:
        raise ValueError(f"{part} has {x.shape[0]:,} rows of {x.shape[1]:,}, and {counts} of the classes")
    return x, y


def _remedy(name: str, root: Path) -> str:
    return f"Run `{fetch.command(name, root)}` to fetch a whole one, or put it there from {ARCHIVE.urls[0]}."
