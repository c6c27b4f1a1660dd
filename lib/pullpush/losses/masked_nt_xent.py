"""NT-Xent under a mask: the readings of CLAWS (2021) that plain NT-Xent of z * m does not cover."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_above_zero, check_one_per_row, check_pair, unit_rows, widen


def masked_nt_xent(
    z_a: Tensor,
    z_b: Tensor,
    mask: Tensor,
    temperature: float = 0.5,
    *,
    of_anchor: bool = False,
    labels: Tensor | None = None,
) -> Tensor:
    """NT-Xent of masked pairs, with a choice of the mask of negatives and of what counts as one.

    L = 1/2n sum_i -log( exp(s_i,p(i) / tau) / sum_{k in K(i)} exp(s_ik / tau) )
    s_ik = cos(z_i * m_i, z_k * m_k), each row under its own mask; with of_anchor cos(z_i * m_i, z_k * m_i)

    z: the 2n rows of both views; p(i): the other view of i; K(i): all rows but i. CLAWS says only that "the
    same mask is applied to both embeddings" of a pair, and not which mask its negatives carry.
    Taught in "CLAWS".

    z_a, z_b: (n, d), two views. mask: (n, d), one row for both views of an image.
    temperature: tau, above 0.
    of_anchor: lay the anchor's mask on all that it is compared with. No n x n x d numbers are held: with
        squares taken element by element, |z_k * m_i|^2 is m_i^2 . z_k^2.
    labels: (n,) integers, or None. Rows of the anchor's label other than p(i) leave K(i), except where the
        label is negative, which stands for unknown.

    With neither option it is `nt_xent(z_a * mask, z_b * mask)`. Returns a scalar in fp32 (fp64 for fp64
    input), under autocast too. A row of zeros has similarity 0 to every row.
    Raises ValueError for shapes that do not agree, z that is not floating point, or temperature not above 0.

    >>> z = torch.ones(4, 32)
    >>> masked_nt_xent(z, z, z, labels=torch.tensor([0, 0, 1, 1])).exp()
    tensor(5.)
    """
    check_pair(z_a, z_b)
    check_above_zero("temperature", temperature)
    if mask.shape != z_a.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; it must be that of z_a, {tuple(z_a.shape)}.")
    n = len(z_a)
    with torch.autocast(z_a.device.type, enabled=False):
        z, m = unit_rows(torch.cat([z_a, z_b])), widen(mask).repeat(2, 1)
        u = unit_rows(z * m)
        similarity = (_under_anchor(u, z, m) if of_anchor else u @ u.T) / temperature
        itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
        left_out, positive = itself, itself.roll(n, 1)
        if labels is not None:
            check_one_per_row("labels", labels, n)
            y = labels.repeat(2)
            left_out = itself | ((y[:, None] == y) & (y >= 0) & ~positive)
        others = similarity.masked_fill(left_out, -torch.inf).logsumexp(dim=1)
        return (others - (similarity * positive).sum(dim=1)).mean()


def _under_anchor(u: Tensor, z: Tensor, m: Tensor) -> Tensor:
    """s_ik = cos(z_i * m_i, z_k * m_i), (2n, 2n), of z, its mask m, and u, rows of z * m at unit length."""
    squared = m.square() @ z.square().T
    return (u * m) @ z.T / torch.where(squared > 0, squared, torch.inf).sqrt()
