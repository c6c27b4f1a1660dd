"""Which samples meet: anchors and their negatives, batches, and mining inside a batch.

Everything here is an index tensor. Images never pass through a sampler, so choosing 50,000 triplets costs
milliseconds, and the same indices serve every view, loss and seed that should see the same tuples.
Taught in "Pair against triplet".
"""

import torch
from torch import Tensor


def first_per_class(labels: Tensor, per_class: int) -> Tensor:
    """The first `per_class` samples of every class in data-set order, grouped by class.

    labels: (n,) int64. Returns (m,) int64 indices into `labels`; a class with fewer samples gives all it
    has. Raises ValueError if `per_class` is below 1. The practicum takes 5,000 of each class.
    """
    if per_class < 1:
        raise ValueError(f"per_class={per_class} must be at least 1.")
    order = torch.argsort(labels, stable=True)
    sizes = torch.bincount(labels)
    rank = torch.arange(len(labels), device=labels.device) - (sizes.cumsum(0) - sizes)[labels[order]]
    return order[rank < per_class]


def class_aware_negatives(labels: Tensor, anchors: Tensor, generator: torch.Generator) -> Tensor:
    """One negative for each anchor, of another class, as the practicum ties them.

    Each class has one shuffled list of all samples of the other classes; its j-th anchor gets entry j, so no
    negative serves two anchors of one class. labels: (n,); anchors: (m,) indices into labels. Returns (m,)
    indices.
    Raises ValueError if a class has more anchors than the other classes have samples.
    """
    negatives = torch.empty_like(anchors)
    anchor_labels = labels[anchors]
    for label in anchor_labels.unique():
        others = (labels != label).nonzero().squeeze(1)
        mine = (anchor_labels == label).nonzero().squeeze(1)
        if len(mine) > len(others):
            raise ValueError(
                f"Class {int(label)} has {len(mine)} anchors, but the other classes have only {len(others)} "
                "samples. Take fewer anchors of each class."
            )
        drawn = torch.randperm(len(others), generator=generator, device=generator.device)[: len(mine)]
        negatives[mine] = others[drawn.to(others.device)]
    return negatives


def blind_negatives(labels: Tensor, anchors: Tensor, generator: torch.Generator) -> Tensor:
    """One negative for each anchor, drawn from all other samples: what a method without labels can do.

    Shapes as in `class_aware_negatives`; never the anchor itself. About one in k is a false negative
    ("sampling bias", Chuang et al. 2020, arXiv:2007.00224); `false_negative_share` measures it.
    Raises ValueError for fewer than 2 samples.
    """
    if len(labels) < 2:
        raise ValueError(f"Blind negatives need at least 2 samples, got {len(labels)}.")
    drawn = torch.randint(len(labels) - 1, anchors.shape, generator=generator, device=generator.device).to(
        anchors.device
    )
    return drawn + (drawn >= anchors)


def false_negative_share(labels: Tensor, anchors: Tensor, negatives: Tensor) -> float:
    """Share of negatives, in [0, 1], that have the class of their anchor."""
    return (labels[anchors] == labels[negatives]).double().mean().item()


def batches(n: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """One epoch: the numbers 0..n-1 shuffled and cut into batches; the last may be smaller.

    50,000 triplets at 1,024 give 49 batches, 100,000 pairs 98, as the practicum counts.
    """
    if n < 1 or batch_size < 1:
        raise ValueError(f"n={n} and batch_size={batch_size} must be at least 1.")
    return torch.randperm(n, generator=generator, device=generator.device).split(batch_size)


def mine(
    z_anchor: Tensor, z_positive: Tensor, z_negative: Tensor, allowed: Tensor, how: str = "semi_hard"
) -> Tensor:
    """For each anchor of a batch, which of the batch's negatives to push away.

    hard:       the nearest allowed negative.
    semi_hard:  the nearest one that is farther than the positive; where none is, the farthest
                (Schroff et al. 2015, arXiv:1503.03832, section 3.2).

    z_anchor, z_positive: (n, d); z_negative: (m, d); allowed: (n, m) bool, False where negative j must not
    meet anchor i. Returns (n,) int64 indices into z_negative; the choice itself carries no gradient.
    Raises ValueError for an unknown `how`. A row without any allowed negative gets an index of no meaning:
    with class-aware negatives each anchor's own negative is always allowed.
    """
    if how not in ("semi_hard", "hard"):
        raise ValueError(f"Unknown mining '{how}'. Allowed: semi_hard, hard.")
    with torch.no_grad():
        distance = torch.cdist(z_anchor.float(), z_negative.float())
        nearest = distance.masked_fill(~allowed, torch.inf)
        if how == "hard":
            return nearest.argmin(1)
        to_positive = (z_anchor.float() - z_positive.float()).norm(dim=1, keepdim=True)
        semi_hard = nearest.masked_fill(distance <= to_positive, torch.inf)
        farthest = distance.masked_fill(~allowed, -torch.inf).argmax(1)
        return torch.where(semi_hard.isfinite().any(1), semi_hard.argmin(1), farthest)
