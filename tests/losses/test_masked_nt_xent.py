"""NT-Xent under a mask: a loop over pairs, what it is without its options, and its gradients."""

import math

import pytest
import torch
from torch import Tensor

from pullpush.losses import masked_nt_xent, nt_xent


def batch(n: int = 5, d: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Two views and a mask of zeros and ones, one row of it all zeros."""
    stream = torch.Generator().manual_seed(seed)
    z_a, z_b = torch.randn(2, n, d, generator=stream, dtype=torch.float64)
    mask = (torch.rand(n, d, generator=stream) < 0.6).double()
    mask[1] = 0
    return z_a, z_b, mask


def naive(z_a: Tensor, z_b: Tensor, mask: Tensor, tau: float, of_anchor: bool, labels: list[int]) -> float:
    z, m, n, total = torch.cat([z_a, z_b]), torch.cat([mask, mask]), len(z_a), 0.0
    y = labels + labels

    def similarity(i: int, k: int) -> float:
        a, b = z[i] * m[i], z[k] * (m[i] if of_anchor else m[k])
        length = float(a.norm() * b.norm())
        return float(a @ b) / length if length else 0.0

    for i in range(2 * n):
        other = (i + n) % (2 * n)
        compared = [k for k in range(2 * n) if k == other or (k != i and (y[i] < 0 or y[k] != y[i]))]
        total += math.log(sum(math.exp(similarity(i, k) / tau) for k in compared))
        total -= similarity(i, other) / tau
    return total / (2 * n)


@pytest.mark.parametrize("of_anchor", [False, True])
@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 0], [-1, -1, 3, 3, -1], [0, 1, 2, 3, 4]])
def test_it_is_the_loop_over_all_pairs(of_anchor: bool, labels: list[int]) -> None:
    z_a, z_b, mask = batch()
    found = masked_nt_xent(z_a, z_b, mask, 0.3, of_anchor=of_anchor, labels=torch.tensor(labels))
    assert found.item() == pytest.approx(naive(z_a, z_b, mask, 0.3, of_anchor, labels), rel=1e-12)


def test_without_options_it_is_nt_xent_of_the_masked_embeddings() -> None:
    z_a, z_b, mask = batch()
    torch.testing.assert_close(masked_nt_xent(z_a, z_b, mask), nt_xent(z_a * mask, z_b * mask))


def test_with_all_gates_open_it_does_not_matter_whose_mask_it_is() -> None:
    z_a, z_b, mask = batch()
    ones = torch.ones_like(mask)
    torch.testing.assert_close(masked_nt_xent(z_a, z_b, ones, of_anchor=True), nt_xent(z_a, z_b))
    assert masked_nt_xent(z_a, z_b, mask, of_anchor=True) != masked_nt_xent(z_a, z_b, mask)


@pytest.mark.parametrize("of_anchor", [False, True])
def test_gradients_reach_embeddings_and_gates_and_are_finite_for_shut_rows(of_anchor: bool) -> None:
    z_a, z_b, mask = (part.requires_grad_() for part in batch())
    labels = torch.tensor([0, 1, 0, 2, -1])
    masked_nt_xent(z_a, z_b, mask, of_anchor=of_anchor, labels=labels).backward()
    for part in (z_a, z_b, mask):
        assert part.grad is not None and part.grad.isfinite().all() and part.grad.abs().sum() > 0
    soft = batch()[2].mul(0.5).add(0.25).requires_grad_()  # away from 0, where a length has no derivative
    inputs = (*(part.detach().requires_grad_() for part in batch()[:2]), soft)
    assert torch.autograd.gradcheck(lambda *given: masked_nt_xent(*given, of_anchor=of_anchor), inputs)


def test_inputs_that_do_not_agree_are_named() -> None:
    z_a, z_b, mask = batch()
    with pytest.raises(ValueError, match=r"mask has shape \(4, 6\); it must be that of z_a, \(5, 6\)"):
        masked_nt_xent(z_a, z_b, mask[:4])
    with pytest.raises(ValueError, match=r"labels has shape \(5, 1\)"):
        masked_nt_xent(z_a, z_b, mask, labels=torch.zeros(5, 1))
    with pytest.raises(ValueError, match="temperature 0 must be above 0"):
        masked_nt_xent(z_a, z_b, mask, 0)
