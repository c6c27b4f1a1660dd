"""A named data set as uint8 image tensors and labels, checked by digest.

    mnist = data.load("mnist", split="train", limit=5000)
    mnist.images.shape, mnist.classes        # (5000, 1, 28, 28), ("0", ..., "9")

For rows of numbers instead of images see `load_table` (pullpush.data.tables).

`digits` is embedded; `mnist`, `fashion_mnist` and `cifar10` come from a data root (argument, $PULLPUSH_DATA,
./data) and are downloaded when absent; any other name is the path of a folder of the user's own images.

To add a data set, add one file to this folder, which finds it by its `NAMES: tuple[str, ...]`. It defines
`read(name, root, split) -> (images, labels, classes)` with uint8 (n, c, h, w) and int64 (n,), `check(name,
root) -> None`, which raises DataError with the remedy, and `download(name, root) -> Path`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import pkgutil
from pathlib import Path
from types import ModuleType

from pullpush.data import folder
from pullpush.data.imageset import DataError, ImageSet, check_limit, root_folder, sha256_of
from pullpush.data.tables import (
    TableSet,
    check_table,
    download_table,
    load_table,
    standardise,
    table_names,
)

__all__ = [
    "SPLITS",
    "DataError",
    "ImageSet",
    "TableSet",
    "available",
    "check",
    "check_table",
    "download",
    "download_table",
    "load",
    "load_table",
    "names",
    "root_folder",
    "standardise",
    "table_names",
]

SPLITS = ("train", "test", "all")

PathLike = str | os.PathLike[str]


def names() -> tuple[str, ...]:
    """The data sets known by name."""
    return tuple(_sources())


def load(
    name: PathLike,
    root: PathLike | None = None,
    split: str = "train",
    limit: int | None = None,
    *,
    size: int | None = None,
) -> ImageSet:
    """Read one split of a data set into memory.

    name: one of `names()`, or the path of an ImageFolder (as given, or under the data root).
    root: the data root; None means $PULLPUSH_DATA, else ./data.
    split: train, test, or all (train then test).
    limit: the first `limit` images in the set's order, 1 to its size. The classes of an ImageFolder take
        turns in that order, so that a limit keeps all of them.
    size: ImageFolder only; side of the square to which images are scaled and centre-cropped.

    Downloads a named set of which files are missing. Raises ValueError for an unknown name or split, a limit
    out of range, a size below 1 or for a named set; DataError for data that is missing, truncated, altered
    or out of reach.
    """
    if split not in SPLITS:
        raise ValueError(_unknown("split", split, SPLITS))
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} must be at least 1, or None for all images.")
    if name not in names():
        path = _folder_path(name, root)
        if size is not None and size < 1:
            raise ValueError(f"size={size} must be at least 1 pixel, or None to keep the images' own size.")
        images, labels, classes = folder.read(path, split, limit, size)
        return ImageSet(images, labels, classes, path.resolve().name, sha256_of(images, labels))

    name = str(name)
    if size is not None:
        raise ValueError(
            f"size={size} is for a folder of your own; {name} has a fixed size, and views can resize it."
        )
    images, labels, classes = _sources()[name].read(name, root_folder(root), split)
    if limit is not None:
        check_limit(limit, len(labels), f"{name} ({split})")
        images, labels = (
            images[:limit].clone(),
            labels[:limit].clone(),
        )  # views would keep the whole set alive
    return ImageSet(images, labels, classes, name, sha256_of(images, labels))


def check(name: PathLike, root: PathLike | None = None) -> None:
    """Raise DataError, with the remedy, unless the data set can be loaded without a network.

    Named and packed sets: every file against its digest. A folder of the user's own: it exists.
    """
    if str(name).endswith(".npy"):
        from pullpush.data import packed

        packed.open_packed(str(name).removesuffix(".npy")).check()
        return
    if name in names():
        _sources()[str(name)].check(str(name), root_folder(root))
    else:
        _folder_path(name, root)


def available(name: PathLike, root: PathLike | None = None) -> bool:
    """Whether `check` passes. Raises ValueError for an unknown name."""
    try:
        check(name, root)
    except DataError:
        return False
    return True


def download(name: str, root: PathLike | None = None) -> Path:
    """Make a named data set whole under the data root, replacing files that are not, and return its folder.

    Does nothing for `digits`, or if every file has its digest. Raises ValueError for an unknown name,
    DataError if the set cannot be had.
    """
    if name not in names():
        raise ValueError(_unknown("data", name, names()))
    return _sources()[name].download(name, root_folder(root))


@functools.cache
def _sources() -> dict[str, ModuleType]:
    """Name of a data set -> the module that reads it, in the order of the files in this folder."""
    found = [importlib.import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    return {name: module for module in found for name in getattr(module, "NAMES", ())}


def _folder_path(name: PathLike, root: PathLike | None) -> Path:
    """The folder meant by `name`: the path itself, or one under the data root."""
    given = Path(name).expanduser()
    # A known name in other letters is a slip, even where torchvision keeps a folder such as MNIST.
    if str(name).casefold() not in names():
        for path in (given, root_folder(root) / given):
            if os.path.isdir(path):  # False, not an error, where permission is missing
                return path
        if os.path.exists(given):
            raise DataError(
                f"{given} is not a folder: give the folder that holds one sub-folder of images a class."
            )
        if isinstance(name, os.PathLike) or os.sep in name:
            raise DataError(
                f"There is no folder {given}: give the folder that holds one sub-folder of images a class."
            )
    raise ValueError(
        _unknown("data", str(name), names()) + " For images of your own give the path of their folder."
    )


def _unknown(parameter: str, given: str, allowed: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(given.casefold(), allowed, n=1, cutoff=0)[0]
    return f"Unknown {parameter} '{given}'. Did you mean '{near}'? Allowed: {', '.join(allowed)}."
