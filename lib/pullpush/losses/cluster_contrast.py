"""The cluster loss of Contrastive Clustering: columns of assignments instead of rows of embeddings."""

import math

import torch
from torch import Tensor

from pullpush.losses._inputs import check_pair, widen
from pullpush.losses.nt_xent import nt_xent


def cluster_contrast(
    p_a: Tensor, p_b: Tensor, temperature: float = 1.0, *, entropy_sign: float = 1
) -> Tensor:
    """Tell a cluster in the other view from all other clusters, and keep all clusters in use.

    L = NT-Xent(columns of p_a, columns of p_b) + s sum_v (log k + sum_j m_j^v log m_j^v)
    m_j^v = sum_i p_ij^v / sum_ij p_ij^v,        the share of cluster j in the batch, in view v = a, b

    Li et al. 2021, "Contrastive Clustering" (arXiv:2009.09687), as its code has it: cosines of the columns as
    they are, the column itself left out. Taught in "CC against RCC".

    p_a, p_b: (n, k), rows are probabilities of the k clusters, row i of both shows the same image.
    temperature: tau of the columns, above 0.
    entropy_sign: s. 1 is the authors' code: the entropy of the shares is maximised, log k minus entropy is
        added once a view. -1 is the sign that Robust Contrastive Clustering (2022) prints: all samples end
        in one cluster. 0 leaves the term out.

    Returns a scalar in fp32 (fp64 for fp64 input) that can be differentiated twice. An empty cluster is
    similar to nothing; its share counts as 1e-12 in the logarithm, so that nothing becomes infinite.
    Raises ValueError if shapes differ, n is 0, p is not floating point, or temperature is not above 0.

    >>> p = torch.eye(3)  # three samples, each sure of a cluster of its own
    >>> cluster_contrast(p, p)  # log(e + 4) - 1: every column has one twin and four at right angles
    tensor(0.9048)
    """
    check_pair(p_a, p_b)
    with torch.autocast(p_a.device.type, enabled=False):
        p_a, p_b = widen(p_a), widen(p_b)
        contrast = nt_xent(p_a.T, p_b.T, temperature)
        return contrast + entropy_sign * (_missing_entropy(p_a) + _missing_entropy(p_b))


def _missing_entropy(p: Tensor) -> Tensor:
    """log k minus the entropy of the shares of k clusters: 0 if all are equal, log k if only one is used."""
    share = p.sum(dim=0) / p.sum()
    return math.log(p.shape[1]) + (share * share.clamp(min=1e-12).log()).sum()
