"""NNCLR: the nearest neighbour among recent embeddings takes the place of one view."""

import torch
from torch import Tensor
from torch.nn import functional

from pullpush.losses._inputs import check_above_zero, check_pair, check_rows, unit_rows


def nnclr(
    z_a: Tensor,
    z_b: Tensor,
    support: Tensor,
    temperature: float = 0.1,
    *,
    predicted: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """NT-Xent across two views, with one of them replaced by its nearest neighbour in a support set.

    L = 1/2 (l(q_a, u_b) + l(q_b, u_a)),    l(q, u) = 1/n sum_i -log( exp(q_i . u_i / tau)
                                                                      / sum_k exp(q_i . u_k / tau) )

    u: rows at unit length; q_i: the row of `support` nearest to u_i, see `nearest_in`. Another image is the
    positive; the negatives are the n-1 other rows of one view, not 2n-2 as in NT-Xent. It is symmetric in the
    two views as the paper's algorithm 1 is. No gradient goes through a neighbour: z_a learns as u_a alone.
    Dwibedi et al. 2021 (arXiv:2104.14548), section 3.2. Taught in "Sample bias".

    z_a, z_b: (n, d), two views, row i of both shows the same image; n and d at least 1. Rows need not be of
        unit length; a row of zeros has similarity 0 to every row.
    support: (m, d), embeddings of other images, m at least 1; `samplers.Support` keeps those of past batches.
        Push the batch after its loss: an image in the support is its own nearest neighbour.
    temperature: tau, above 0.
    predicted: (p_a, p_b), each (n, d), what a prediction head makes of z_a and z_b. They take the place of u;
        neighbours are still those of z_a and z_b. The paper has such a head; None goes without.

    Returns a scalar in fp32 (fp64 for fp64 z), under autocast too. It can be differentiated twice.
    It lies between log(1 + (n-1) exp(-2/tau)) and log(1 + (n-1) exp(2/tau)), and is log(n) when all rows of a
    view are equal.
    Raises ValueError if shapes do not fit, n or m is 0, an input is not floating point, or temperature is not
    above 0.

    >>> z = torch.ones(4, 32)
    >>> nnclr(z, z, torch.randn(64, 32)).exp()
    tensor(4.)
    """
    check_pair(z_a, z_b)
    check_above_zero("temperature", temperature)
    p_a, p_b = (z_a, z_b) if predicted is None else predicted
    for name, p in (("predicted[0]", p_a), ("predicted[1]", p_b)):
        check_rows(name, p)
        if p.shape != z_a.shape:
            raise ValueError(
                f"{name} has shape {tuple(p.shape)}; it must be that of z_a, {tuple(z_a.shape)}."
            )
    with torch.autocast(z_a.device.type, enabled=False):
        of_itself = torch.arange(len(z_a), device=z_a.device)
        towards = []
        for z, p in ((z_a, p_b), (z_b, p_a)):
            u = unit_rows(p)
            q = unit_rows(support.detach()[nearest_in(z, support)].to(u.dtype))
            towards.append(functional.cross_entropy(q @ u.T / temperature, of_itself))
        return (towards[0] + towards[1]) / 2


def nearest_in(z: Tensor, support: Tensor) -> Tensor:
    """Which row of `support` is nearest to each row of z, by angle: all are compared, no gradient flows.

    Taught in "Sample bias".

    z: (n, d); support: (m, d), rows of any length. Returns (n,) int64 in 0..m-1; of equally near rows, any.
    Memory: n x m similarities. Raises ValueError if shapes do not fit, or one is empty or not floating point.

    >>> nearest_in(torch.tensor([[2.0, 0.1]]), torch.eye(2))
    tensor([0])
    """
    check_rows("z", z)
    check_rows("support", support)
    if support.shape[1] != z.shape[1]:
        raise ValueError(
            f"support {tuple(support.shape)} and z {tuple(z.shape)} must have the same number of columns."
        )
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        u = unit_rows(z)
        return (u @ unit_rows(support.to(u.dtype)).T).argmax(dim=1)
