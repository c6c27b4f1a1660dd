"""A named data set, or a table of the user's own, as rows of numbers and labels, checked by digest.

    pendigits = load_table("pendigits")              # train then test, as deep clustering papers join them
    pendigits.x.shape, pendigits.classes             # (10992, 16), ("0", ..., "9")
    z = standardise(pendigits.x)                     # columns of mean 0 and variance 1: a step of its own

`x` is in natural units. Images known by name to `pullpush.data` (mnist, fashion_mnist, digits, ...) come as
rows of pixels from 0 to 1. Any path that ends in .npz or .csv is a table of the user's own (see
`own_tables`).

To add a table, add one file to this folder, which finds it by its `TABLES: tuple[str, ...]`. It defines
`read(name, root, split) -> (x, labels, classes)` with x (n, d) float32, dense or CSR, and labels (n,) int64,
`check(name, root) -> None`, which raises DataError with the remedy, and `download(name, root) -> Path`.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import os
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pullpush.data import own_tables
from pullpush.data.imageset import DataError, root_folder, sha256_of

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class TableSet:
    """Labelled rows in memory.

    x: (n, d) float32, a Tensor, or a scipy CSR matrix where most of it is 0 (reuters, reuters10k, an own
    sparse .npz); finite, in natural units. labels: (n,) int64 in [0, len(classes)).
    digest: sha256, in hex, of the bytes of x (CSR: data, then indices and indptr as int32) followed by those
    of labels: exactly what is held here, so a `limit` or another `split` has another digest.
    rows: (n,) int64, which row of the file each was; only of a table of the user's own, which is reordered.
    """

    x: Any
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    digest: str
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def dense(self) -> Tensor:
        """x as (n, d) float32 Tensor; the same one if it is dense already."""
        return self.x if isinstance(self.x, Tensor) else torch.from_numpy(self.x.toarray())


def table_names() -> tuple[str, ...]:
    """The tables known by name: first images, as rows of pixels, then those that are tables only."""
    from pullpush import data

    return tuple(dict.fromkeys((*data.names(), *_sources())))


def load_table(
    name: PathLike,
    root: PathLike | None = None,
    split: str = "all",
    limit: int | None = None,
    *,
    label: str | None = None,
) -> TableSet:
    """Read one split of a table into memory.

    name: one of `table_names()`, or the path of a .npz or .csv file (as given, or under the data root).
    root: the data root; None means $PULLPUSH_DATA, else ./data.
    split: train, test, or all (train then test).
    limit: the first `limit` rows in the set's order, 1 to its size. The classes of an own table take turns in
        that order, so that a limit keeps all of them.
    label: own .csv only, the column of labels; None means one called label, target or class, else the last.

    Downloads a named set of which files are missing. Raises ValueError for an unknown name or split, a limit
    out of range, or a label for a named set; DataError for data that is missing, truncated, altered, out of
    reach or, in an own table, not a table of numbers with labels.
    """
    from pullpush import data

    if split not in data.SPLITS:
        raise ValueError(_unknown("split", split, data.SPLITS))
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} must be at least 1, or None for all rows.")
    rows = None
    if _is_own(name):
        path = _own_path(name, root)
        x, labels, classes, rows = own_tables.read(path, split, label)
        called = path.stem
    else:
        called = str(name)
        if called not in table_names():
            raise ValueError(
                _unknown("data", called, table_names()) + " A table of your own ends in .npz or .csv."
            )
        if label is not None:
            raise ValueError(f"label='{label}' is for a .csv file of your own; {called} has its own labels.")
        if called in _sources():
            x, labels, classes = _sources()[called].read(called, root_folder(root), split)
        else:
            images = data.load(called, root, split)
            x, labels, classes = images.images, images.labels, images.classes
    if limit is not None:
        if limit > len(labels):
            raise ValueError(
                f"limit={limit} is not possible for {called} ({split}), which has {len(labels):,} rows: "
                f"give 1 to {len(labels)}, or None for all of them."
            )
        x, labels = x[:limit], labels[:limit].clone()  # views would keep the whole set alive
        rows = None if rows is None else rows[:limit].clone()
    if isinstance(x, Tensor):
        x = x.flatten(1) / 255 if x.dtype == torch.uint8 else x.clone()
    return TableSet(x, labels, classes, called, _digest(x, labels), rows)


def standardise(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Columns of mean 0 and variance 1: (x - mean) / deviation, both of `like`, or of x itself.

    x: (n, d) of any float dtype. like: (m, d), say the training rows while x are new ones. The deviation is
    that of all rows (divided by m, not m - 1), computed in float64; a column that is constant in `like` is
    only shifted. Returns (n, d) of x's dtype.

    A step of its own, because images and TF-IDF rows are best left as they are. Raises TypeError for a sparse
    x, which would not stay so, and ValueError for shapes that do not fit or no rows.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"x is a {type(x).__name__}: standardise takes a Tensor; `dense()` of a TableSet is one."
        )
    reference = x if like is None else like
    if x.ndim != 2 or reference.ndim != 2 or reference.shape[1] != x.shape[1] or not len(reference):
        raise ValueError(
            f"x {tuple(x.shape)} and like {tuple(reference.shape)} must be (n, d) and (m, d), m > 0."
        )
    wide = reference.double()
    mean, deviation = wide.mean(0), wide.std(0, correction=0)
    constant = (wide == wide[:1]).all(0)  # whose deviation rounding can make larger than 0
    deviation = torch.where(constant, torch.ones_like(deviation), deviation)
    return ((x.double() - mean) / deviation).to(x.dtype)


def check_table(name: PathLike, root: PathLike | None = None) -> None:
    """Raise DataError, with the remedy, unless the table can be loaded without a network.

    Named sets: against their digests. An own table: it is read. Raises ValueError for an unknown name.
    """
    from pullpush import data

    if _is_own(name):
        own_tables.read(_own_path(name, root), "all", None)
    elif str(name) in _sources():
        _sources()[str(name)].check(str(name), root_folder(root))
    elif str(name) in table_names():
        data.check(name, root)
    else:
        raise ValueError(_unknown("data", str(name), table_names()))


def download_table(name: str, root: PathLike | None = None) -> Path:
    """Make a named table whole under the data root, and return its folder.

    Does nothing if it is whole. Raises ValueError for an unknown name, DataError if the set cannot be had.
    """
    from pullpush import data

    if name in _sources():
        return _sources()[name].download(name, root_folder(root))
    if name in table_names():
        return data.download(name, root)
    raise ValueError(_unknown("data", name, table_names()))


@functools.cache
def _sources() -> dict[str, ModuleType]:
    """Name of a table -> the module that reads it, in the order of the files in this folder."""
    from pullpush import data

    found = [
        importlib.import_module(f"{data.__name__}.{file.name}")
        for file in pkgutil.iter_modules(data.__path__)
    ]
    return {name: module for module in found for name in getattr(module, "TABLES", ())}


def _is_own(name: PathLike) -> bool:
    return os.fspath(name).casefold().endswith(own_tables.ENDINGS)


def _own_path(name: PathLike, root: PathLike | None) -> Path:
    """The file meant by `name`: the path itself, or one under the data root."""
    given = Path(name).expanduser()
    for path in (given, root_folder(root) / given):
        if path.is_file():
            return path
    raise DataError(
        f"There is no file {given}, neither as given nor under {root_folder(root)}: check the path."
    )


def _digest(x: Any, labels: Tensor) -> str:
    if isinstance(x, Tensor):
        return sha256_of(x, labels)
    digest = hashlib.sha256(x.data.data)
    for part in (x.indices, x.indptr):
        digest.update(part.astype("int32").data)
    digest.update(labels.numpy().data)
    return digest.hexdigest()


def _unknown(parameter: str, given: str, allowed: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(given.casefold(), allowed, n=1, cutoff=0)[0]
    return f"Unknown {parameter} '{given}'. Did you mean '{near}'? Allowed: {', '.join(allowed)}."
