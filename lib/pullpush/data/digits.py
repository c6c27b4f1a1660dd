"""scikit-learn's embedded digits: 1,797 grey images of 8 x 8, no file and no network needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pullpush.data.imageset import held_out

NAMES = ("digits",)
CLASSES = tuple("0123456789")


def read(name: str, root: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (n, 1, 8, 8) uint8, labels (n,) int64 in scikit-learn's order within a split, and class names.

    The source counts ink from 0 to 16; here 255 x / 16, rounded. The set has no split of its own: `test` is a
    fixed stratified fifth (360), `train` the rest (1,437), `all` is train then test.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    images = torch.from_numpy(np.rint(source.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(source.target.astype(np.int64))
    test = torch.from_numpy(held_out(source.target))
    chosen = {
        "train": (~test).nonzero().squeeze(1),
        "test": test.nonzero().squeeze(1),
        "all": torch.argsort(test.to(torch.uint8), stable=True),
    }[split]
    return images[chosen], labels[chosen], CLASSES


def check(name: str, root: Path) -> None:
    """Do nothing: the set comes with scikit-learn."""


def download(name: str, root: Path) -> Path:
    """Return `root`: there is nothing to fetch."""
    return root
