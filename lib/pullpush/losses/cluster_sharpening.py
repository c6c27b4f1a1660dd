"""Soft assignments by nearness to centres, and the pull towards a sharper form of themselves."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_rows, widen

SMALLEST = 1e-12  # what a probability counts at least in a logarithm


def student_t(z: Tensor, centres: Tensor) -> Tensor:
    """How much each point belongs to each cluster, by Student's t with one degree of freedom.

    q_ik = (1 + ||z_i - mu_k||^2)^-1 / sum_j (1 + ||z_i - mu_j||^2)^-1

    Xie et al. 2016, "Unsupervised Deep Embedding for Clustering Analysis" (DEC, arXiv:1511.06335), eq. 1.
    The nearest centre has the largest q, so a new point is assigned by its embedding alone.
    Taught in "Graphs, UMAP's loss and clusters" and "Locally normalised clusters".

    z: (n, d), embeddings; centres: (k, d), mu, k at least 1, trained with them. Used as given.
    Returns q (n, k), rows that sum to 1, in fp32 (fp64 for fp64 input), under autocast too.
    Raises ValueError unless both are floating point rows of the same length.

    >>> student_t(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]]))  # 1 to 1/2
    tensor([[0.6667, 0.3333]])
    """
    check_rows("z", z)
    check_rows("centres", centres)
    if z.shape[1] != centres.shape[1]:
        raise ValueError(
            f"z {tuple(z.shape)} and centres {tuple(centres.shape)} must have rows of the same length."
        )
    with torch.autocast(z.device.type, enabled=False):
        squared = (widen(z)[:, None] - widen(centres)).square().sum(dim=2)
        near = 1 / (1 + squared)
        return near / near.sum(dim=1, keepdim=True)


def sharpened(q: Tensor) -> Tensor:
    """The target of DEC: assignments squared, so that sure ones grow, over the size of their cluster.

    P_ik = (q_ik^2 / f_k) / sum_j (q_ij^2 / f_j),    f_k = sum_i q_ik            Xie et al. 2016, eq. 3.

    DEC takes f over the data set and keeps P for a while; LNSCC's release over the rows of a batch, anew in
    each step. Rows pull harder towards a small cluster than towards a large one.
    Taught in "Locally normalised clusters".

    q: (n, k), rows are probabilities. Returns P (n, k), rows that sum to 1, in at least fp32, without a
    gradient: it is a target. A cluster to which nothing belongs gets nothing.
    Raises ValueError unless q is a floating point tensor (n, k).

    >>> sharpened(torch.tensor([[0.8, 0.2], [0.2, 0.8]]))  # 0.64 to 0.04
    tensor([[0.9412, 0.0588],
            [0.0588, 0.9412]])
    """
    check_rows("q", q)
    q = widen(q.detach())
    weight = q * (q / q.sum(dim=0).clamp(min=SMALLEST))
    return weight / weight.sum(dim=1, keepdim=True)


def cluster_sharpening(q: Tensor) -> Tensor:
    """Mean divergence of assignments from what `sharpened` makes of them: clusters contract.

    L = 1/n sum_i KL(P_i || Q_i) = 1/n sum_i sum_k P_ik log(P_ik / q_ik),   P = sharpened(q), held fixed

    Xie et al. 2016 (arXiv:1511.06335), eq. 2, here a mean where the paper has a sum; so has LNSCC's release,
    which weighs it by 0.1. Taught in "Graphs, UMAP's loss and clusters" and "Locally normalised clusters".

    q: (n, k), rows are probabilities: `student_t` of embeddings, or the softmax of a layer.
    Returns a scalar, at least 0, in fp32 (fp64 for fp64 input), that can be differentiated twice: the fixed P
    has no part in it. It is 0 for rows that are all equal or all sure. A probability counts as at least
    1e-12 in the logarithm. Raises ValueError unless q is a floating point tensor (n, k).

    >>> cluster_sharpening(torch.eye(3))
    tensor(0.)
    """
    target = sharpened(q)
    with torch.autocast(q.device.type, enabled=False):
        log_q = widen(q).clamp(min=SMALLEST).log()
        return (target * (target.clamp(min=SMALLEST).log() - log_q)).sum(dim=1).mean()
