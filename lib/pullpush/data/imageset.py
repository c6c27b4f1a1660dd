"""What every source of images returns, the error it raises, and where data lives."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor


class DataError(RuntimeError):
    """Data that is missing, truncated, altered or out of reach; the message names the file and the remedy."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images in memory.

    images: (n, c, h, w) uint8, c is 1 (grey) or 3 (RGB). labels: (n,) int64 in [0, len(classes)).
    digest: sha256, in hex, of the bytes of images followed by those of labels: exactly what is held here,
    so a `limit` or another `split` has another digest.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    digest: str

    def __len__(self) -> int:
        return len(self.labels)


def sha256_of(images: Tensor, labels: Tensor) -> str:
    """The `digest` of an ImageSet. images, labels: any shape, on the CPU. Returns 64 hex digits."""
    digest = hashlib.sha256(images.contiguous().numpy().data)
    digest.update(labels.contiguous().numpy().data)
    return digest.hexdigest()


def root_folder(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the data sets, absolute: `root` if given, else $PULLPUSH_DATA, else ./data."""
    return Path(root or os.environ.get("PULLPUSH_DATA") or "data").expanduser().absolute()


def check_limit(limit: int, count: int, what: str) -> None:
    """Raise ValueError unless 1 <= limit <= count."""
    if not 1 <= limit <= count:
        raise ValueError(
            f"limit={limit} is not possible for {what}, which has {count:,} images: "
            f"give 1 to {count}, or None for all of them."
        )


def held_out(labels: np.ndarray) -> np.ndarray:
    """A fixed, stratified fifth of a set that has no test split of its own.

    Shuffle with a fixed seed, sort by class, take every fifth: ceil(n / 5) images, each class within one of
    its fifth, and every class of five or more on both sides. labels: (n,) integers. Returns (n,) bool.
    """
    # RandomState, because NumPy promises its stream for ever; the newer Generator may change.
    shuffled = np.random.RandomState(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    mask = np.zeros(len(labels), dtype=bool)
    mask[by_class[::5]] = True
    return mask
