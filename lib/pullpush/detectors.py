"""Numbers that notice a training which goes wrong and says nothing. Taught in "Collapse and other failures".

The right value of each is known beforehand: far from 0 for `collapse`, 0 for `empty_clusters` and
`mode_shift`, n for `different_views` and `samples_seen`, chance for `leakage`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pullpush import evaluation, losses

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["collapse", "different_views", "empty_clusters", "leakage", "mode_shift", "samples_seen"]


def collapse(z: Tensor) -> float:
    """Uniformity of the directions of z, in [-8, 0]: near 0, all embeddings point one way.

    Wang & Isola 2020, section 4.1.2, see `losses.uniformity`. Taught in "Collapse and other failures".
    z: (n, d) floating point, n at least 2; lengths do not count. Raises ValueError for another shape.
    """
    return float(losses.uniformity(F.normalize(z.float())))


def empty_clusters(clusters: ArrayLike, k: int) -> int:
    """How many of k clusters have no sample. Taught in "Collapse and other failures".

    clusters: (n,) whole numbers in [0, k). Raises ValueError for another shape or a cluster outside.
    """
    found = torch.as_tensor(clusters)
    if found.ndim != 1 or found.is_floating_point():
        raise ValueError(
            f"clusters of shape {tuple(found.shape)} and {found.dtype}: give whole numbers, (n,)."
        )
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) < k:
        raise ValueError(f"clusters from {int(found.min())} to {int(found.max())}: with k={k}, 0 to {k - 1}.")
    return k - len(found.unique())


def different_views(
    view: Callable[[Tensor, torch.Generator], Tensor], image: Tensor, n: int = 10, seed: int = 0
) -> int:
    """How many different views come of an image that stands n times in a batch: 1, if drawn together.

    Taught in "Collapse and other failures". view: as `views.make` gives it, (b, c, h, w) uint8 and a
    generator to (b, c, h', w'). image: (c, h, w) uint8. A transform that draws from the global generator is
    seeded, too; that generator is left as it was. Raises ValueError for an image of another shape.
    """
    if image.ndim != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}: give one image, (c, h, w).")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        seen = view(image.expand(n, -1, -1, -1), torch.Generator(image.device).manual_seed(seed))
    return len(seen.flatten(1).unique(dim=0))


def leakage(
    train_z: ArrayLike,
    train_source: ArrayLike,
    test_z: ArrayLike,
    test_source: ArrayLike,
    labels: ArrayLike,
    shuffles: int = 20,
    seed: int = 0,
) -> float:
    """Accuracy of the nearest neighbour when labels are shuffled among the sources: above chance, rows leak.

    Taught in "Collapse and other failures". A source is what rows were made from, as crops are from an image:
    all rows of one get the same label, which says nothing about another source. What is told right all the
    same was recognised. The mean over `shuffles`; chance is the sum of the squared shares of the classes.

    train_z: (n, d), test_z: (m, d). train_source: (n,) and test_source: (m,), places in labels (s,).
    Raises ValueError as `evaluation.knn_probe` does, and if shuffles is below 1.
    """
    if shuffles < 1:
        raise ValueError(f"shuffles={shuffles} is not possible: give 1 or more.")
    true, train, test = (torch.as_tensor(given) for given in (labels, train_source, test_source))
    told = 0.0
    for shuffle in range(shuffles):
        mixed = true[torch.randperm(len(true), generator=torch.Generator().manual_seed(seed + shuffle))]
        told += evaluation.knn_probe(train_z, mixed[train], test_z, mixed[test], neighbours=1)["accuracy"]
    return told / shuffles


def mode_shift(
    model: nn.Module, images: Tensor, prepare: Callable[[Tensor], Tensor], batch_size: int = 32
) -> float:
    """Largest difference of an embedding by `model` as it stands to that by `evaluation.embed`.

    Taught in "Collapse and other failures". About 0 in evaluation mode; large where batch normalisation or
    dropout was left in training mode. Batches of `batch_size` or a few more are taken in the order of the
    images; the model, its running averages and the global generator stay as they are.

    images: (n, c, h, w) uint8. prepare: turns a batch of them into the model's input.
    """
    asked = copy.deepcopy(model)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        device = next(model.parameters()).device
        parts = images.tensor_split(max(1, len(images) // batch_size))  # none has a single image
        rows = [asked(prepare(part).to(device)).float().cpu() for part in parts]
    reference = torch.as_tensor(evaluation.embed(model, images, prepare))
    return float((torch.cat(rows) - reference).abs().max())


def samples_seen(loss: Callable[[Tensor, Tensor], Tensor], n: int) -> float:
    """How many pairs NT-Xent really compares when it is given n, as on one of several devices.

    Where all embeddings are equal, each anchor has 2 n - 1 equal choices and the loss is log(2 n - 1), at any
    temperature (Chen et al. 2020, equation 1). Taught in "Collapse and other failures".
    loss: takes the embeddings of both views, (n, d) each.
    """
    ones = torch.ones(n, 2)
    return (float(loss(ones, ones).double().exp()) + 1) / 2
