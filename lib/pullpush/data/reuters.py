"""Reuters-21578, the documents with exactly one of the ten most frequent topics: 8,129 rows of 2,000 words.

    x, labels, classes = read("reuters", root, "all")    # x: (8129, 2000) scipy CSR, float32, unit rows

The file under the data root, `reuters21578.npz`, holds word counts. The words are the 2,000 that occur in
most of these documents, train and test: title and body in lower case, three letters or more, without
scikit-learn's English stop words. Lewis 1987/1997; the texts are for research use. This is not the
"Reuters-10k" of DEC, IDEC and VaDE (see `reuters10k`): scores cannot be compared.

x stays sparse, because 1.6 % of it is not 0: dense it is 65 MB, and `TableSet.dense` makes it so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullpush.data.arrays import read_known

TABLES = ("reuters",)
FILE = "reuters21578.npz"
KEYS = ("data", "indices", "indptr", "shape", "y", "classes", "lewissplit")
DIGEST = "ba683144ee0e0628c99ba99dfb6173f1f137909899406f302075d956b237c400"
HOME = "https://kdd.ics.uci.edu/databases/reuters21578/reuters21578.html"


def read(name: str, root: Path, split: str) -> tuple[Any, Tensor, tuple[str, ...]]:
    """x (n, 2000) CSR float32, rows of unit length; labels (n,) int64; class names, most frequent first.

    `test` is Lewis' TEST (2,224), `train` his TRAIN (5,671) and what he left unused (234), `all` is train
    then test. The weights of the words are of all 8,129 documents, whatever the split, as the words
    themselves are.
    """
    import scipy.sparse

    arrays = _arrays(name, root)
    counts = scipy.sparse.csr_matrix(
        (arrays["data"], arrays["indices"].astype(np.int32), arrays["indptr"]), shape=tuple(arrays["shape"])
    )
    x = tf_idf(counts, counts.shape[0], np.bincount(counts.indices, minlength=counts.shape[1]))
    test = arrays["lewissplit"] == "TEST"
    parts = {"train": [~test], "test": [test], "all": [~test, test]}[split]
    rows = np.concatenate([np.flatnonzero(part) for part in parts])
    labels = torch.from_numpy(arrays["y"][rows].astype(np.int64))
    return x[rows], labels, tuple(arrays["classes"].tolist())


def check(name: str, root: Path) -> None:
    """Raise DataError, with the remedy, unless the counts are there and have their digest."""
    _arrays(name, root)


def download(name: str, root: Path) -> Path:
    """Return `root` if the set is whole. Raises DataError if not: nobody hosts these counts."""
    check(name, root)
    return root


def tf_idf(counts: Any, documents: int, frequency: np.ndarray) -> Any:
    """Term weights of unit length, as scikit-learn's TfidfTransformer(sublinear_tf=True).

    x_ij = (1 + ln c_ij) (1 + ln((1 + documents) / (1 + frequency_j))) / |x_i|; a row without words stays 0.

    counts: (n, d) CSR, whole numbers from 1. frequency: (d,), in how many of `documents` each term occurs.
    Returns (n, d) CSR float32. Computed in float64 and rounded once, so that processors agree on the bytes.
    """
    x = counts.astype(np.float64)
    x.data = (1 + np.log(x.data)) * (1 + np.log((1 + documents) / (1 + frequency)))[x.indices]
    of_row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    x.data /= np.sqrt(np.bincount(of_row, x.data**2, minlength=x.shape[0]))[of_row]
    return x.astype(np.float32)


def _arrays(name: str, root: Path) -> dict[str, np.ndarray]:
    remedy = (
        f"{name} has no public download as word counts: lay them out as {root / FILE}, made from the texts "
        f"at {HOME} as the docstring of pullpush.data.reuters says, or choose another data set."
    )
    return read_known(root / FILE, KEYS, DIGEST, remedy)
