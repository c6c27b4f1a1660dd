"""The size prior against its formula in loops, its bounds and its gradient."""

import doctest
import importlib

import pytest
import torch
from torch import Tensor

from pullpush.losses import size_prior


def probabilities(n: int, k: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(n, k, generator=generator, dtype=torch.float64)).softmax(1)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (6, 3), (40, 10)])
@pytest.mark.parametrize("uniform", [True, False])
def test_equals_its_formula(n, k, uniform):
    q = probabilities(n, k)
    shares = torch.full((k,), 1 / k, dtype=torch.float64) if uniform else probabilities(1, k, seed=1)[0]
    gaps = [sum(row[j] for row in q.tolist()) / n - pi for j, pi in enumerate(shares.tolist())]
    expected = sum(gap**2 for gap in gaps) / k
    loss = size_prior(q, None if uniform else shares)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-18)


def test_it_is_0_for_the_expected_sizes_however_sure_the_rows_are():
    for q in (torch.eye(4), torch.full((3, 4), 0.25)):
        assert size_prior(q).item() == 0
    assert size_prior(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([0.75, 0.25])).item() == 0


def test_it_is_largest_when_all_samples_are_in_one_wrong_cluster():
    """2/k where another cluster was to hold all; (1 - 1/k)/k where all were to be equal."""
    q = torch.eye(5, dtype=torch.float64)[[2] * 7]
    assert size_prior(q, torch.eye(5, dtype=torch.float64)[0]).item() == pytest.approx(2 / 5)
    assert size_prior(q).item() == pytest.approx((1 - 1 / 5) / 5)


def test_first_and_second_derivatives():
    q, shares = probabilities(6, 3).requires_grad_(), probabilities(1, 3, seed=1)[0]
    for given in (None, shares):
        assert torch.autograd.gradcheck(lambda q, given=given: size_prior(q, given), q)
        assert torch.autograd.gradgradcheck(lambda q, given=given: size_prior(q, given), q)
    (gradient,) = torch.autograd.grad(size_prior(q, shares), q)
    torch.testing.assert_close(gradient, (2 / 3 * (q.detach().mean(0) - shares) / 6).expand(6, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype):
    q = probabilities(1000, 10).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = size_prior(q)
    loss.backward()
    assert loss.dtype == torch.float32
    assert q.grad.dtype == dtype
    assert loss.item() == pytest.approx(size_prior(q.detach().double()).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (torch.tensor([0.5, 0.5]), r"shares have shape \(2,\); they must be \(3,\)"),
        (torch.full((3, 1), 1 / 3), r"shares have shape \(3, 1\); they must be \(3,\)"),
        (torch.tensor([0.5, 0.5, 0.5]), "must be at least 0 and sum to 1"),
        (torch.tensor([1.5, -0.5, 0.0]), "must be at least 0 and sum to 1"),
        (torch.tensor([torch.nan, 0.5, 0.5]), "must be at least 0 and sum to 1"),
    ],
)
def test_wrong_shares_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        size_prior(probabilities(4, 3), shares)


def test_wrong_assignments_are_refused():
    with pytest.raises(ValueError, match=r"q has shape \(4,\)"):
        size_prior(torch.ones(4))


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.losses.size_prior")) == (0, 1)
