"""scikit-learn's embedded digits: 1,797 grey images of 8 x 8, no file and no network needed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pullpush.data.imageset import held_out

CLASSES = tuple("0123456789")


def read(split: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 8, 8) uint8 and labels (n,) int64, in scikit-learn's order within a split.

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
    return images[chosen], labels[chosen]
