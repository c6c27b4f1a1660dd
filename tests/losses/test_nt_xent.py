"""NT-Xent against SimCLR's pseudocode, known answers, properties, derivatives and a second implementation."""

import doctest
import importlib
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pullpush.losses import nt_xent


def by_the_paper(z_a: Tensor, z_b: Tensor, temperature: float, include_self: bool = False) -> float:
    """Algorithm 1 of SimCLR in nested loops: views interleaved, rows 2k-1 and 2k show the same image."""
    z = [row.tolist() for pair in zip(z_a, z_b, strict=True) for row in pair]

    def similarity(i: int, j: int) -> float:
        return sum(a * b for a, b in zip(z[i], z[j], strict=True)) / (math.hypot(*z[i]) * math.hypot(*z[j]))

    def one(i: int, j: int) -> float:
        others = [k for k in range(len(z)) if include_self or k != i]
        denominator = sum(math.exp(similarity(i, k) / temperature) for k in others)
        return -math.log(math.exp(similarity(i, j) / temperature) / denominator)

    return sum(one(k, k + 1) + one(k + 1, k) for k in range(0, len(z), 2)) / len(z)


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0, 4.0])
@pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 1), (2, 2), (5, 32), (9, 4)])
def test_equals_the_paper(rows, n, d, temperature, include_self):
    z_a, z_b = rows(n, d, 1), rows(n, d, 2)
    loss = nt_xent(z_a, z_b, temperature, include_self=include_self)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(
        by_the_paper(z_a, z_b, temperature, include_self), rel=1e-12, abs=1e-12
    )


def test_the_default_temperature_is_a_half(rows):
    z_a, z_b = rows(4, 3, 1), rows(4, 3, 2)
    assert nt_xent(z_a, z_b) == nt_xent(z_a, z_b, 0.5)


@pytest.mark.parametrize("temperature", [0.01, 0.5, 2.0])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_all_rows_equal_is_the_logarithm_of_the_number_of_candidates(rows, n, temperature):
    z = rows(1, 8).expand(n, 8)
    assert nt_xent(z, z, temperature).item() == pytest.approx(math.log(2 * n - 1), abs=1e-12)
    assert nt_xent(z, z, temperature, include_self=True).item() == pytest.approx(math.log(2 * n), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_its_bounds_are_reached_on_the_circle(circle, temperature):
    best, worst = (
        circle([0, 180]),
        circle([180, 0]),
    )  # partners together and the others opposite, and the reverse
    negatives = 2 * 2 - 2
    lowest = math.log(1 + negatives * math.exp(-2 / temperature))
    assert nt_xent(best, best, temperature).item() == pytest.approx(lowest, abs=1e-12)
    # Partners opposite: one negative of each anchor coincides with it, the other one is opposite too.
    loss = nt_xent(best, worst, temperature).item()
    assert loss == pytest.approx(math.log(2 + math.exp(2 / temperature)), abs=1e-12)
    assert loss < math.log(1 + negatives * math.exp(2 / temperature))


def test_a_single_pair_has_nothing_to_be_told_from(rows):
    z_a, z_b = rows(1, 5, 1).requires_grad_(), rows(1, 5, 2)
    loss = nt_xent(z_a, z_b)
    loss.backward()
    assert loss == 0
    assert torch.equal(z_a.grad, torch.zeros_like(z_a))


def test_the_cross_entropy_of_cc_is_the_same_function(rows):
    """CC's instance loss: cross-entropy "sum" over [positive, negatives] with target 0, divided by 2n."""
    n, temperature = 6, 0.5
    z_a, z_b = rows(n, 16, 1), rows(n, 16, 2)
    z = F.normalize(torch.cat([z_a, z_b]))
    similarity = z @ z.T / temperature
    logits = torch.stack(
        [
            torch.cat([row[[partner]], row[[k for k in range(2 * n) if k not in (i, partner)]]])
            for i, row in enumerate(similarity)
            for partner in [(i + n) % (2 * n)]
        ]
    )
    expected = F.cross_entropy(logits, torch.zeros(2 * n, dtype=torch.long), reduction="sum") / (2 * n)
    torch.testing.assert_close(nt_xent(z_a, z_b, temperature), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("include_self", [False, True])
class TestProperties:
    def test_the_length_of_a_row_does_not_matter(self, rows, include_self):
        z_a, z_b = rows(6, 4, 1), rows(6, 4, 2)
        lengths = torch.logspace(-6, 6, 6, dtype=torch.float64)[:, None]
        scaled = nt_xent(z_a * lengths, z_b / lengths, include_self=include_self)
        torch.testing.assert_close(scaled, nt_xent(z_a, z_b, include_self=include_self), rtol=1e-12, atol=0)

    def test_a_rotation_does_not_matter(self, rows, include_self):
        z_a, z_b = rows(6, 4, 1), rows(6, 4, 2)
        rotation = torch.linalg.qr(rows(4, 4, 3)).Q
        turned = nt_xent(z_a @ rotation, z_b @ rotation, include_self=include_self)
        torch.testing.assert_close(turned, nt_xent(z_a, z_b, include_self=include_self), rtol=1e-12, atol=0)

    def test_gradients_follow_the_rows_when_the_batch_is_shuffled(self, rows, include_self):
        z_a, z_b = rows(7, 4, 1).requires_grad_(), rows(7, 4, 2)
        order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
        loss = nt_xent(z_a, z_b, include_self=include_self)
        shuffled_a = z_a.detach()[order].requires_grad_()
        shuffled = nt_xent(shuffled_a, z_b[order], include_self=include_self)
        torch.testing.assert_close(shuffled, loss, rtol=1e-12, atol=0)
        (gradient,) = torch.autograd.grad(loss, z_a)
        (shuffled_gradient,) = torch.autograd.grad(shuffled, shuffled_a)
        torch.testing.assert_close(shuffled_gradient, gradient[order], rtol=1e-12, atol=1e-15)

    def test_the_two_views_can_change_places_even_one_by_one(self, rows, include_self):
        z_a, z_b = rows(6, 4, 1), rows(6, 4, 2)
        swap = torch.tensor([True, False, True, True, False, False])[:, None]
        swapped = nt_xent(torch.where(swap, z_b, z_a), torch.where(swap, z_a, z_b), include_self=include_self)
        torch.testing.assert_close(swapped, nt_xent(z_a, z_b, include_self=include_self), rtol=1e-12, atol=0)

    def test_first_and_second_derivatives(self, rows, include_self):
        z_a, z_b = rows(3, 4, 1).requires_grad_(), rows(3, 4, 2).requires_grad_()

        def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
            return nt_xent(z_a, z_b, 0.3, include_self=include_self)

        assert torch.autograd.gradcheck(loss, (z_a, z_b))
        assert torch.autograd.gradgradcheck(loss, (z_a, z_b))


def test_the_self_term_only_adds(rows):
    z_a, z_b = rows(6, 4, 1), rows(6, 4, 2)
    assert nt_xent(z_a, z_b, include_self=True) > nt_xent(z_a, z_b)


def test_partners_pull_and_all_others_push(circle):
    """Two images on opposite sides, their second views 30 degrees on: what would turning each point do?"""
    degrees = torch.tensor([0.0, 180.0, 30.0, 210.0], dtype=torch.float64).requires_grad_()
    angles = degrees.deg2rad()
    z = torch.stack([angles.cos(), angles.sin()], dim=1)
    (gradient,) = torch.autograd.grad(nt_xent(z[:2], z[2:]), degrees)
    assert (gradient[:2] < 0).all()  # first views turn on, towards their partners
    assert (gradient[2:] > 0).all()  # second views turn back
    together, near, wrong = circle([0, 180]), circle([30, 210]), circle([180, 0])
    assert nt_xent(together, together) < nt_xent(together, near) < nt_xent(together, wrong)


def test_a_row_of_zeros_is_similar_to_nothing_and_stays_put(rows):
    z_a, z_b = rows(3, 4, 1), rows(3, 4, 2)
    z_a[1] = 0
    z_a.requires_grad_()
    loss = nt_xent(z_a, z_b)
    (first,) = torch.autograd.grad(loss, z_a, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), z_a)
    assert torch.equal(first[1], torch.zeros(4, dtype=torch.float64))
    assert first.isfinite().all()
    assert second.isfinite().all()
    u = F.normalize(torch.cat([z_a.detach(), z_b]))
    similarity = (u @ u.T / 0.5).fill_diagonal_(-torch.inf)
    expected = (similarity.logsumexp(1) - similarity[range(6), [3, 4, 5, 0, 1, 2]]).mean()
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=0)


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_input_is_computed_in_single(self, rows, dtype):
        z_a, z_b = rows(64, 32, 1), rows(64, 32, 2)
        exact = nt_xent(z_a, z_b, 0.1)
        half_a = z_a.to(dtype).requires_grad_()
        loss = nt_xent(half_a, z_b.to(dtype), 0.1)
        loss.backward()
        assert loss.dtype == torch.float32
        assert half_a.grad.dtype == dtype
        assert torch.equal(loss, nt_xent(z_a.to(dtype).float(), z_b.to(dtype).float(), 0.1))
        assert loss.item() == pytest.approx(exact.item(), rel=2e-3)

    def test_autocast_changes_nothing(self, rows):
        z_a, z_b = rows(16, 32, 1).float(), rows(16, 32, 2).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = nt_xent(z_a, z_b, 0.1)
        assert torch.equal(inside, nt_xent(z_a, z_b, 0.1))

    def test_a_tiny_temperature_does_not_overflow(self, rows):
        z_a, z_b = rows(8, 4, 1), rows(8, 4, 2)
        loss = nt_xent(z_a.float(), z_b.float(), 1e-3)
        assert loss.item() == pytest.approx(nt_xent(z_a, z_b, 1e-3).item(), rel=1e-4)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_agrees_with_pytorch_metric_learning(rows, temperature):
    """Its labels say which rows are partners; it averages over all positive pairs, 2n of them, as we do."""
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    z_a, z_b = rows(12, 16, 1), rows(12, 16, 2)
    theirs = pml.NTXentLoss(temperature=temperature)(torch.cat([z_a, z_b]), torch.arange(12).repeat(2))
    torch.testing.assert_close(nt_xent(z_a, z_b, temperature), theirs, rtol=1e-9, atol=0)


@pytest.mark.parametrize("temperature", [0.0, -0.5, math.nan])
def test_a_temperature_must_be_above_0(rows, temperature):
    with pytest.raises(ValueError, match=f"temperature {temperature} must be above 0"):
        nt_xent(rows(2, 3), rows(2, 3), temperature)


def test_an_infinite_temperature_is_refused(rows):
    with pytest.raises(ValueError, match="temperature inf must be finite"):
        nt_xent(rows(2, 3), rows(2, 3), math.inf)


@pytest.mark.parametrize(
    ("z_a", "z_b", "message"),
    [
        (torch.ones(3, 4), torch.ones(2, 4), r"z_a \(3, 4\) and z_b \(2, 4\) must have the same shape"),
        (torch.ones(3, 4), torch.ones(3, 5), r"z_a \(3, 4\) and z_b \(3, 5\) must have the same shape"),
        (torch.ones(0, 4), torch.ones(0, 4), r"z_a has shape \(0, 4\).*n and d of at least 1"),
        (torch.ones(3, 0), torch.ones(3, 0), r"z_a has shape \(3, 0\).*n and d of at least 1"),
        (torch.ones(4), torch.ones(4), r"z_a has shape \(4,\); it must be \(n, d\)"),
        (torch.ones(3, 4), torch.ones(3, 4, 1), r"z_b has shape \(3, 4, 1\); it must be \(n, d\)"),
        (torch.ones(3, 4).long(), torch.ones(3, 4).long(), "z_a is torch.int64; embeddings must be floating"),
    ],
)
def test_wrong_embeddings_are_refused(z_a, z_b, message):
    with pytest.raises(ValueError, match=message):
        nt_xent(z_a, z_b)


def test_the_example_in_the_docstring():
    # By name: the package holds the function under the name of its module.
    assert doctest.testmod(importlib.import_module("pullpush.losses.nt_xent")) == (0, 2)
