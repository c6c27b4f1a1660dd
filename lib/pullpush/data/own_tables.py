"""A user's own table: the arrays of a .npz file, or a .csv file with a column of labels.

.npz: `x` (n, d) and `y` (n,), or x_train, y_train, x_test, y_test; other spellings are in X_NAMES and
    Y_NAMES, and case does not matter. More dimensions are flattened. A sparse x is a scipy CSR matrix's data,
    indices, indptr and shape. `classes` may name the labels 0, 1, ...
.csv: separated by commas, numbers in every column but that of the labels, which may hold text. A first line
    of names may be missing.
"""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullpush.data.arrays import read_npz
from pullpush.data.folder import FEWEST
from pullpush.data.imageset import DataError, held_out

ENDINGS = (".npz", ".csv")
X_NAMES = ("x", "data", "features", "inputs", "images")
Y_NAMES = ("y", "labels", "label", "targets", "target", "class")
SPARSE = {"data", "indices", "indptr", "shape"}

Parts = list[tuple[Any, np.ndarray]]  # x and y: of the whole file, or of its train and its test part


def read(path: Path, split: str, label: str | None) -> tuple[Any, Tensor, tuple[str, ...], Tensor]:
    """x, labels (n,) int64, class names (sorted), and rows (n,) int64, which row of the file each was.

    x: (n, d) float32 Tensor, or scipy CSR if the file is sparse. rows count from 0, without a line of names,
    and a test part of the file's own goes on where its training part ends.

    Without a split of its own, `test` is a fixed stratified fifth and `train` the rest; `all` is train then
    test. Within a split the classes take turns (first row of each class, second of each, ...), so that the
    first n rows hold every class.

    label: .csv only, the column of labels. None means one called as in Y_NAMES, else the last.
    Raises DataError, one sentence for each way in which the file can be wrong.
    """
    if path.suffix.casefold() == ".npz":
        if label is not None:
            raise ValueError(f"label='{label}' names a column of a .csv file; {path} has arrays.")
        parts, names = _npz(path)
    else:
        parts, names = _csv(path, label), None
    y = np.concatenate([labels for _, labels in parts])
    numbers, classes = _encode(y, names, path)
    test = np.arange(len(y)) >= len(parts[0][1]) if len(parts) == 2 else held_out(numbers)
    if len(parts) == 1 and split != "all":
        smallest, count = min(Counter(numbers.tolist()).items(), key=lambda item: item[1])
        if count < FEWEST:
            raise DataError(
                f"Class {classes[smallest]} of {path} has {count} rows, too few to hold out a fifth: use "
                f"split='all', add rows until it has {FEWEST}, or give x_train, y_train, x_test and y_test."
            )
    halves = {"train": [~test], "test": [test], "all": [~test, test]}[split]
    rows = np.concatenate([_take_turns(np.flatnonzero(half), numbers) for half in halves])
    x = _join([part for part, _ in parts])[rows]
    labels = torch.from_numpy(numbers[rows])
    return torch.from_numpy(x) if isinstance(x, np.ndarray) else x, labels, classes, torch.from_numpy(rows)


def _npz(path: Path) -> tuple[Parts, Sequence[str] | None]:
    arrays: dict[str, np.ndarray] = {}
    for key, array in read_npz(path).items():
        if key.casefold() in arrays:
            raise DataError(f"{path} has two arrays called {key.casefold()} but for case: remove one.")
        arrays[key.casefold()] = array
    parts: Parts = []
    for part in ("train", "test"):
        x, y = (_find(arrays, names, part, path) for names in (X_NAMES, Y_NAMES))
        if (x is None) != (y is None):
            have, lack = ("x", "y") if y is None else ("y", "x")
            raise DataError(f"{path} has {have}_{part} but no {lack}_{part}: add it.")
        if x is not None and y is not None:
            parts.append((x, y))
    if len(parts) == 1:
        raise DataError(
            f"{path} has a train part or a test part, not both: add the other, or call them x and y."
        )
    if not parts:
        found = ", ".join(arrays) or "none"
        x = _sparse(arrays, path) if arrays.keys() >= SPARSE else _find(arrays, X_NAMES, "", path)
        y = _find(arrays, Y_NAMES, "", path)
        if x is None:
            raise DataError(f"{path} has no array x (found: {found}): call the features x, the labels y.")
        if y is None:
            raise DataError(f"{path} has no array y (found: {found}): call the labels of the rows y.")
        parts = [(x, y)]
    parts = [(_numbers(x, path), _labels(y, path)) for x, y in parts]
    for x, y in parts:
        if x.shape[0] != len(y):
            raise DataError(f"{path} has {x.shape[0]:,} rows and {len(y):,} labels: give each row one label.")
    if len({x.shape[1] for x, _ in parts}) > 1:
        widths = " and ".join(f"{x.shape[1]:,}" for x, _ in parts)
        raise DataError(f"The train and test part of {path} have {widths} columns: give them the same.")
    names = arrays.get("classes")
    return parts, None if names is None else [str(name) for name in names.ravel()]


def _find(arrays: dict[str, np.ndarray], names: Sequence[str], part: str, path: Path) -> np.ndarray | None:
    """The array called by one of `names`, beside the name of the part. Raises DataError for several."""
    spelled = [f"{name}_{part}" for name in names] + [f"{part}_{name}" for name in names] if part else names
    found = [name for name in spelled if name in arrays]
    if len(found) > 1:
        raise DataError(f"{path} has {' and '.join(found)}, which mean the same: remove all but one.")
    return arrays[found[0]] if found else None


def _sparse(arrays: dict[str, np.ndarray], path: Path) -> Any:
    import scipy.sparse

    try:
        shape = tuple(int(side) for side in arrays["shape"])
        x = scipy.sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        x.check_format(full_check=True)
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"{path} is no CSR matrix ({error}): write it with the parts of a scipy one."
        ) from error
    return x


def _numbers(x: Any, path: Path) -> Any:
    """x as (n, d) float32. Raises DataError unless it holds finite numbers."""
    if isinstance(x, np.ndarray):
        if x.ndim < 2 or 0 in x.shape:
            raise DataError(f"x of {path} has shape {x.shape}: give it rows and columns, (n, d).")
        x = x.reshape(len(x), -1)
    if x.dtype.kind not in "buif":
        raise DataError(f"x of {path} holds {x.dtype}, not numbers: encode it as numbers.")
    values = x if isinstance(x, np.ndarray) else x.data
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype(np.float32))
    if bad.any():
        rows = bad.any(1) if isinstance(x, np.ndarray) else np.diff(np.r_[0, np.cumsum(bad)][x.indptr]) > 0
        raise DataError(
            f"{path} has {rows.sum():,} rows with a NaN, infinite or too large value, the first is row "
            f"{rows.argmax()}: remove or fill them."
        )
    return x.astype(np.float32)


def _labels(y: np.ndarray, path: Path) -> np.ndarray:
    """y as (n,), one label a row."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(
            f"y of {path} has shape {y.shape}: give one label a row, (n,), not one column a class."
        )
    return y


def _csv(path: Path, label: str | None) -> Parts:
    import pandas as pd

    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            first = next(csv.reader(stream), [])
        header = _header(first, label, path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop what is beyond the names
            frame = pd.read_csv(path, header=header, index_col=False, skipinitialspace=True, low_memory=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check the path.") from error
    except (
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
        csv.Error,
        UnicodeDecodeError,
    ) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is no .csv file ({reason}): give each line the same columns.") from error
    if header is None:
        frame.columns = [f"column {i}" for i in range(1, len(frame.columns) + 1)]
    columns = [str(column) for column in frame.columns]
    if len(columns) < 2 or not len(frame):
        raise DataError(
            f"{path} has {len(frame):,} rows and {len(columns)} columns ({', '.join(columns[:3])}): give at "
            f"least one column of numbers and one of labels, separated by commas."
        )
    chosen = _label_column(columns, label, path)
    features, y = frame.drop(columns=frame.columns[chosen]), frame.iloc[:, chosen]
    offset = 1 if header is None else 2  # of a row's line in the file
    for column in features:
        if not pd.api.types.is_numeric_dtype(features[column]):
            wrong = features[column].notna() & pd.to_numeric(features[column], errors="coerce").isna()
            at = int(wrong.to_numpy().argmax())
            raise DataError(
                f"Column '{column}' of {path} is not numeric (line {at + offset} holds "
                f"'{features[column].iloc[at]}'): remove it or encode it as numbers; the labels are read "
                f"from '{columns[chosen]}'."
            )
    empty = (features.isna().any(axis=1) | y.isna()).to_numpy()
    if empty.any():
        at = int(empty.argmax())
        where = next(
            column for column in columns if pd.isna(frame[frame.columns[columns.index(column)]].iloc[at])
        )
        raise DataError(
            f"{path} has {empty.sum():,} rows with an empty or NaN cell, the first in line {at + offset}, "
            f"column '{where}': remove or fill them."
        )
    labels = y.to_numpy()
    return [
        (
            _numbers(features.to_numpy(dtype=np.float64), path),
            labels.astype(str) if labels.dtype == object else labels,
        )
    ]


def _header(first: Sequence[str], label: str | None, path: Path) -> int | None:
    """0 if the first line holds names, None if it is a row. Raises DataError if it can be either."""
    text = [cell.strip() for cell in first if not _is_number(cell)]
    if not text:
        return None
    if len(text) == 1 < len(first) and text[0] != label and text[0].casefold() not in Y_NAMES:
        raise DataError(
            f"The first line of {path} has numbers and the word '{text[0]}', so it can be names or a row: "
            f"add a line of names, or name that column with label."
        )
    return 0


def _label_column(columns: Sequence[str], label: str | None, path: Path) -> int:
    if label is not None:
        if label not in columns:
            raise DataError(f"{path} has no column '{label}': label is one of {', '.join(columns)}.")
        return columns.index(label)
    called = [i for i, column in enumerate(columns) if column.strip().casefold() in Y_NAMES[1:]]
    return called[0] if len(called) == 1 else len(columns) - 1


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True


def _encode(y: np.ndarray, names: Sequence[str] | None, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels 0, 1, ... as int64, and class names, sorted. Raises DataError unless they can be classes."""
    if y.dtype.kind not in "buifUS" and not (y.dtype.kind in "OT" and all(isinstance(one, str) for one in y)):
        raise DataError(f"The labels of {path} hold {y.dtype}: give whole numbers or text.")
    if y.dtype.kind == "f":
        bad = ~np.isfinite(y)
        if bad.any():
            raise DataError(
                f"{path} has {bad.sum():,} rows without a label, the first is row {bad.argmax()}."
            )
        if (y != np.rint(y)).any():
            odd = y[y != np.rint(y)][0]
            raise DataError(
                f"The labels of {path} are not classes ({odd} is no whole number): name the column of labels "
                f"with label, or give whole numbers or text."
            )
        y = y.astype(np.int64)
    found, numbers = np.unique(y, return_inverse=True)
    if len(found) == 1:
        raise DataError(
            f"All {len(y):,} rows of {path} have the label {found[0]}: give at least two classes."
        )
    if len(found) == len(y):
        raise DataError(
            f"Each of the {len(y):,} rows of {path} has a label of its own: name the column of labels with "
            f"label, or give rows that share their class."
        )
    if names is not None and y.dtype.kind in "ui":
        if found[0] < 0 or found[-1] >= len(names):
            raise DataError(f"{path} names {len(names)} classes but has labels {found[0]} to {found[-1]}.")
        return y.astype(np.int64), tuple(names)
    text = [one.decode() if isinstance(one, bytes) else str(one) for one in found.tolist()]
    return numbers.astype(np.int64), tuple(text)


def _take_turns(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """`rows` in the order first of each class, second of each class, ..."""
    by_class = rows[np.argsort(numbers[rows], kind="stable")]
    of = numbers[by_class]
    turn = np.arange(len(of)) - np.searchsorted(of, of)  # how many of its class come before
    return by_class[np.argsort(turn, kind="stable")]


def _join(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import scipy.sparse

    return scipy.sparse.vstack(parts, format="csr")
