"""Which samples meet: anchors and their negatives, batches, and mining inside a batch.

Everything here is an index tensor. Images never pass through a sampler, so choosing 50,000 triplets costs
milliseconds, and the same indices serve every view, loss and seed that should see the same tuples.
Taught in "Pair against triplet". One thing here holds more than indices: `Support`, the embeddings of past
batches among which NNCLR looks for a positive.
"""

import torch
from torch import Tensor, nn


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
    Taught in "Sample bias" and "Pair against triplet".
    Raises ValueError for fewer than 2 samples.
    """
    if len(labels) < 2:
        raise ValueError(f"Blind negatives need at least 2 samples, got {len(labels)}.")
    drawn = torch.randint(len(labels) - 1, anchors.shape, generator=generator, device=generator.device).to(
        anchors.device
    )
    return drawn + (drawn >= anchors)


def false_negative_share(labels: Tensor, anchors: Tensor, negatives: Tensor) -> float:
    """Share of negatives, in [0, 1], that have the class of their anchor. Taught in "Sample bias"."""
    return (labels[anchors] == labels[negatives]).double().mean().item()


def batches(n: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """One epoch: the numbers 0..n-1 shuffled and cut into batches; the last may be smaller.

    50,000 triplets at 1,024 give 49 batches, 100,000 pairs 98, as the practicum counts.
    """
    if n < 1 or batch_size < 1:
        raise ValueError(f"n={n} and batch_size={batch_size} must be at least 1.")
    return torch.randperm(n, generator=generator, device=generator.device).split(batch_size)


def balanced_batches(labels: Tensor, per_class: int, generator: torch.Generator) -> Tensor:
    """One epoch of floor(n / batch) batches with `per_class` samples of every class, as CLAWS draws them.

    A pass over a class shuffles it and deals it out, `per_class` to a batch; when fewer are left, the next
    pass begins. So no sample is twice in a batch, a small class is seen several times an epoch, and of a
    large one a part, another one each epoch. Taught in "CLAWS".

    labels: (n,) integers, of k classes. Returns (steps, k * per_class) int64 indices into `labels`, with
    batch = k * per_class, in each row grouped by class in ascending order.
    Raises ValueError if `per_class` is below 1, there are no labels, or a class has fewer samples.
    """
    if per_class < 1 or len(labels) == 0:
        raise ValueError(f"per_class={per_class} and the number of labels={len(labels)} must be at least 1.")
    classes, sizes = labels.unique(return_counts=True)
    if int(sizes.min()) < per_class:
        raise ValueError(
            f"Class {int(classes[sizes.argmin()])} has {int(sizes.min())} samples, too few for "
            f"per_class={per_class}. Give at most {int(sizes.min())}, or leave out small classes."
        )
    steps = len(labels) // (len(classes) * per_class)
    columns = []
    for label in classes:
        members = (labels == label).nonzero().squeeze(1)
        rounds = len(members) // per_class  # batches that one pass serves
        passes = (-(-steps // rounds), len(members))
        keys = torch.rand(passes, generator=generator, device=generator.device, dtype=torch.float64)
        dealt = keys.argsort(1)[:, : rounds * per_class].reshape(-1, per_class)[:steps]
        columns.append(members[dealt.to(members.device)])
    return torch.cat(columns, 1)


def mine(
    z_anchor: Tensor, z_positive: Tensor, z_negative: Tensor, allowed: Tensor, how: str = "semi_hard"
) -> Tensor:
    """For each anchor of a batch, which of the batch's negatives to push away.

    Taught in "Pair against triplet" and "Assignment: hard triplets".

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


def shuffled_negatives(m: int, negatives: int, generator: torch.Generator) -> Tensor:
    """Which "from" ends a batch of m edges takes as negatives: row i for the "to" end of edge i.

    The m numbers, `negatives` times each, shuffled once: so each "from" end serves exactly `negatives` times,
    as in parametric UMAP and the release of LNSCC. Nothing keeps out a neighbour, the same partner twice, or
    the edge's own end, which one negative in m is. Taught in "Graphs, UMAP's loss and clusters"
    and "Locally normalised clusters".

    m and negatives: at least 1. Returns (m, negatives) int64 in 0..m-1 on the generator's device.
    Raises ValueError if m or negatives is below 1.

    >>> shuffled_negatives(500, 10, torch.Generator()).shape
    torch.Size([500, 10])
    """
    if m < 1 or negatives < 1:
        raise ValueError(f"m={m} and negatives={negatives} must be at least 1.")
    order = torch.randperm(m * negatives, generator=generator, device=generator.device)
    return (order // negatives).view(m, negatives)


class Support(nn.Module):
    """The embeddings of the last `size` images, first in, first out: where NNCLR looks for neighbours.

    Dwibedi et al. 2021 (arXiv:2104.14548), section 3.2. Taught in "Sample bias". It starts as random
    directions, as in the paper: in the first steps neighbours mean nothing. It has buffers and no weights, is
    a module so that it moves with the model it belongs to and lies in its checkpoint, and never waits for a
    GPU.

    size, d: rows and columns, at least 1. generator: of the random start, drawn on the generator's device.
    `rows`: (size, d) fp32, of unit length.
    Raises ValueError if size or d is below 1.

    >>> support = Support(256, 32, torch.Generator())
    >>> support.push(torch.randn(100, 32))
    >>> support.rows.shape
    torch.Size([256, 32])
    """

    rows: Tensor
    oldest: Tensor

    def __init__(self, size: int, d: int, generator: torch.Generator) -> None:
        super().__init__()
        if size < 1 or d < 1:
            raise ValueError(f"size={size} and d={d} must be at least 1.")
        start = torch.randn(size, d, generator=generator, device=generator.device)
        self.register_buffer("rows", nn.functional.normalize(start))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64, device=start.device))

    @torch.no_grad()
    def push(self, z: Tensor) -> None:
        """Put z (n, d), floating point, in the place of the n oldest rows, at unit length, without gradient.

        Of more than `size` rows the last ones stay. Raises ValueError for another shape.
        """
        size, d = self.rows.shape
        if z.ndim != 2 or z.shape[1] != d:
            raise ValueError(f"z has shape {tuple(z.shape)}; this support holds rows of (n, {d}).")
        z = nn.functional.normalize(z.detach().to(self.rows), dim=1)[-size:]
        place = (self.oldest + torch.arange(len(z), device=z.device)) % size
        self.rows.index_copy_(0, place, z)
        self.oldest.add_(len(z)).remainder_(size)
