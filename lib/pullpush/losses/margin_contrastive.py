"""The margin loss of 2006: pull similar pairs together, push dissimilar ones apart up to a margin."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_above_zero, check_one_per_row, check_pair, widen


def margin_contrastive(z_a: Tensor, z_b: Tensor, different: Tensor, margin: float = 1.0) -> Tensor:
    """Half the squared distance of a similar pair, half the squared shortfall to the margin of another.

    L = 1/n sum_i (1 - Y_i) 1/2 D_i^2 + Y_i 1/2 max(0, m - D_i)^2        D_i = ||z_a,i - z_b,i||_2

    Hadsell, Chopra & LeCun 2006 (doi:10.1109/CVPR.2006.100), eq. 4.
    Taught in "Pairs, triplets, NT-Xent, SupCon: one family" and "Pair against triplet".
    The paper sums over pairs, this is their mean; some libraries drop the half or let 1 mean similar.

    z_a, z_b: (n, d), row i of both is a pair; n and d at least 1. Used as given, not normalised.
    different: (n,), bool or 0 and 1. Y: 1 marks a dissimilar pair.
    margin: m, above 0.

    Returns a scalar, at least 0, in fp32 (fp64 for fp64 input), that can be differentiated twice. Two equal
    points that should be apart have no direction to go: their gradient is 0, never nan.
    Raises ValueError if shapes differ, n is 0, z is not floating point, different is not (n,), margin is not
    above 0, or different holds anything but 0 and 1 (not checked on a GPU, where looking would mean waiting).

    >>> z_a, z_b = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.3, 0.4]])
    >>> margin_contrastive(z_a, z_b, torch.tensor([0, 1]))  # (1/2 1.0^2 + 1/2 (1 - 0.5)^2) / 2
    tensor(0.3125)
    """
    check_pair(z_a, z_b)
    check_one_per_row("different", different, len(z_a))
    check_above_zero("margin", margin)
    if different.device.type == "cpu":
        _check_zero_one(different)
    difference = widen(z_a) - widen(z_b)
    squared = difference.square().sum(dim=1)
    # The square root of 0 has an infinite slope, and 0 * inf is nan: take the root of 1 there, then drop it.
    apart = squared > 0
    distance = torch.where(apart, squared, 1).sqrt() * apart
    y = different.to(distance.dtype)
    pull, push = squared / 2, (margin - distance).clamp(min=0).square() / 2
    return torch.mean((1 - y) * pull + y * push)


def _check_zero_one(different: Tensor) -> None:
    strange = different[(different != 0) & (different != 1)]
    if len(strange):
        raise ValueError(
            f"different holds {strange[0].item()}; it must be 0 (similar) or 1 (dissimilar). "
            "From the targets +1 and -1 of cosine embedding, pass target < 0."
        )
