"""The size prior: clusters shall have the sizes that one expects of them."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_rows, widen


def size_prior(q: Tensor, shares: Tensor | None = None) -> Tensor:
    """Mean squared gap between the share of each cluster in the batch and the share it is expected to have.

    L = 1/k sum_k (1/n sum_i q_ik - pi_k)^2

    The release of LNSCC (Ma & Kim, IJCAI 2022, doi:10.24963/ijcai.2022/460) weighs it by 0.1. Uniform shares
    are side information where classes are equally frequent. Its rows are ends of drawn edges, among which
    points with many neighbours are more frequent than in the data. Taught in "Locally normalised clusters".

    q: (n, k), rows are probabilities. shares: (k,), pi, at least 0 and with the sum 1; None is 1/k for all.
    Returns a scalar in [0, 2/k], in fp32 (fp64 for fp64 input), that can be differentiated twice.
    Raises ValueError unless q is a floating point tensor (n, k) and shares are (k,), or if they do not sum to
    1 (tolerance 1e-3; not checked on a GPU, where looking would mean waiting).

    >>> size_prior(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))  # two gaps of a half
    tensor(0.2500)
    """
    check_rows("q", q)
    k = q.shape[1]
    if shares is not None:
        if shares.shape != (k,):
            raise ValueError(f"shares have shape {tuple(shares.shape)}; they must be ({k},), one a cluster.")
        if shares.device.type == "cpu" and not (abs(shares.sum() - 1) <= 1e-3 and (shares >= 0).all()):
            raise ValueError(f"shares {shares.tolist()} must be at least 0 and sum to 1.")
    with torch.autocast(q.device.type, enabled=False):
        expected = 1 / k if shares is None else widen(shares)
        return (widen(q).mean(dim=0) - expected).square().mean()
