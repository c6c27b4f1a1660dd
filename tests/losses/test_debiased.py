"""Debiased NT-Xent against the paper's formula in loops, NT-Xent, known mixtures, and its floor."""

import doctest
import importlib
import math

import pytest
import torch
from torch import Tensor

from pullpush import losses
from pullpush.losses import _others, debiased_nt_xent, nt_xent


def by_the_paper(z_a: Tensor, z_b: Tensor, t: float, tau: float, floored: list[bool] | None = None) -> float:
    """Equations 7 and 8 in nested loops, with M = 1: the other view is the one positive sample."""
    z = [row.tolist() for row in torch.cat([z_a, z_b])]
    n = len(z_a)

    def e(i: int, k: int) -> float:
        dot = sum(a * b for a, b in zip(z[i], z[k], strict=True))
        return math.exp(dot / (math.hypot(*z[i]) * math.hypot(*z[k]) * t))

    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        u = [e(i, k) for k in range(2 * n) if k not in (i, partner)]
        count = len(u)
        estimate = (sum(u) / count - tau * e(i, partner)) / (1 - tau) if count else 0.0
        g = max(estimate, math.exp(-1 / t))
        if floored is not None:
            floored.append(g > estimate)
        total -= math.log(e(i, partner) / (e(i, partner) + count * g))
    return total / (2 * n)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 1), (2, 2), (5, 32), (9, 4)])
def test_equals_the_paper(rows, n, d, temperature, probability):
    z_a, z_b = rows(n, d, 1), rows(n, d, 2)
    loss = debiased_nt_xent(z_a, z_b, temperature, class_probability=probability)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    expected = by_the_paper(z_a, z_b, temperature, probability)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_defaults_are_half_and_a_tenth(rows):
    z_a, z_b = rows(4, 3, 1), rows(4, 3, 2)
    assert debiased_nt_xent(z_a, z_b) == debiased_nt_xent(z_a, z_b, 0.5, class_probability=0.1)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_without_false_negatives_it_is_nt_xent_with_its_gradient(rows, n, temperature):
    z_a, z_b = rows(n, 8, 1).requires_grad_(), rows(n, 8, 2)
    loss = debiased_nt_xent(z_a, z_b, temperature, class_probability=0)
    expected = nt_xent(z_a, z_b, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-14)
    (gradient,), (theirs,) = torch.autograd.grad(loss, z_a), torch.autograd.grad(expected, z_a)
    torch.testing.assert_close(gradient, theirs, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.8])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_all_rows_equal_is_the_logarithm_of_the_number_of_candidates(rows, n, probability):
    z = rows(1, 8).expand(n, 8)
    loss = debiased_nt_xent(z, z, class_probability=probability)
    assert loss.item() == pytest.approx(math.log(2 * n - 1), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("per_class", [2, 5])
def test_it_takes_out_exactly_what_is_false(circle, per_class, temperature):
    """Three classes, each on one point, 120 degrees apart: false negatives look just like the other view.

    Of 6m-2 negatives 2m-2 are false. Told so, the loss is that of 6m-2 true ones, with a cosine of -1/2.
    """
    z = circle([0, 120, 240] * per_class)
    negatives, false = 6 * per_class - 2, 2 * per_class - 2
    loss = debiased_nt_xent(z, z, temperature, class_probability=false / negatives)
    assert loss.item() == pytest.approx(math.log1p(negatives * math.exp(-1.5 / temperature)), rel=1e-9)
    blind = math.log1p(false + (negatives - false) * math.exp(-1.5 / temperature))
    assert nt_xent(z, z, temperature).item() == pytest.approx(blind, rel=1e-9)


def test_blind_negatives_cost_about_what_true_ones_would():
    """Four classes with some spread, drawn blindly. The target is the same loss over the mean of negatives
    that are in truth of other classes; nine tenths of NT-Xent's distance from it are gone.

    In small batches less is gone: the share of a class varies, and the logarithm of a mean is not the mean of
    logarithms (the paper's bound falls with the square root of N)."""
    stream = torch.Generator().manual_seed(0)
    n, classes, temperature = 256, 4, 0.5
    centres = torch.nn.functional.one_hot(torch.arange(classes), 6).double()

    def embed(labels: Tensor) -> Tensor:
        noise = torch.randn(len(labels), 6, generator=stream, dtype=torch.float64)
        return torch.nn.functional.normalize(centres[labels] + 0.1 * noise)

    found = []
    for _ in range(20):
        labels = torch.randint(classes, (n,), generator=stream)
        z_a, z_b = embed(labels), embed(labels)
        e = (torch.cat([z_a, z_b]) @ torch.cat([z_a, z_b]).T / temperature).exp()
        other = (labels.repeat(2)[:, None] != labels.repeat(2)).double()
        g = (e * other).sum(1) / other.sum(1)
        target = ((2 * n - 2) * g / e.diagonal(n).repeat(2)).log1p().mean()
        debiased = debiased_nt_xent(z_a, z_b, temperature, class_probability=1 / classes)
        found.append((debiased - target, nt_xent(z_a, z_b, temperature) - target))
    after, before = torch.tensor(found).mean(0).tolist()
    assert before > 0.5
    assert abs(after) < 0.1 * before


class TestFloor:
    """g stops at exp(-1/t), the smallest that a mean over negatives could be."""

    def test_a_large_share_leaves_nothing_but_the_floor_and_only_pulls(self, rows):
        """With tau+ = 0.98 every estimate falls below the floor: the loss is one of the positives alone."""
        n, t = 5, 0.5
        together = rows(n, 6, 1)
        z_a, z_b = together.clone().requires_grad_(), together + 0.3 * rows(n, 6, 2)
        floored: list[bool] = []
        by_the_paper(z_a.detach(), z_b, t, 0.98, floored)
        assert all(floored)
        loss = debiased_nt_xent(z_a, z_b, t, class_probability=0.98)
        cosine = torch.cosine_similarity(z_a, z_b)
        expected = ((2 * n - 2) * (-(1 + cosine) / t).exp()).log1p().mean()
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
        (gradient,) = torch.autograd.grad(loss, z_a)
        (pull,) = torch.autograd.grad(cosine.sum(), z_a)
        assert (torch.cosine_similarity(-gradient, pull) > 1 - 1e-9).all()  # nobody is pushed

    def test_it_sleeps_where_the_estimate_is_possible(self, rows):
        """Views that do not resemble each other: the estimate of every anchor is above the floor."""
        z_a = rows(6, 32, 1)
        z_b, floored = rows(6, 32, 2), []
        by_the_paper(z_a, z_b, 0.5, 0.1, floored)
        assert not any(floored)
        z_a.requires_grad_()
        (gradient,) = torch.autograd.grad(debiased_nt_xent(z_a, z_b), z_a)
        (pull,) = torch.autograd.grad(torch.cosine_similarity(z_a, z_b).sum(), z_a)
        assert (torch.cosine_similarity(-gradient, pull) < 0.999).any()

    def test_the_lower_bound_is_reached_on_the_circle(self, circle):
        """Partners together, the others opposite: an estimate below what is possible, raised to it."""
        z = circle([0, 180])
        for probability in (0.0, 0.1, 0.5):
            loss = debiased_nt_xent(z, z, 0.5, class_probability=probability)
            assert loss.item() == pytest.approx(math.log1p(2 * math.exp(-4)), rel=1e-12)


class TestProperties:
    def test_lengths_and_rotations_do_not_matter(self, rows):
        z_a, z_b, loss = rows(6, 4, 1), rows(6, 4, 2), debiased_nt_xent(rows(6, 4, 1), rows(6, 4, 2))
        lengths = torch.logspace(-6, 6, 6, dtype=torch.float64)[:, None]
        rotation = torch.linalg.qr(rows(4, 4, 3)).Q
        torch.testing.assert_close(debiased_nt_xent(z_a * lengths, z_b / lengths), loss, rtol=1e-11, atol=0)
        torch.testing.assert_close(debiased_nt_xent(z_a @ rotation, z_b @ rotation), loss, rtol=1e-11, atol=0)

    def test_order_of_images_and_of_views_does_not_matter(self, rows):
        z_a, z_b, order = rows(7, 4, 1), rows(7, 4, 2), [3, 0, 6, 1, 5, 2, 4]
        loss = debiased_nt_xent(z_a, z_b)
        torch.testing.assert_close(debiased_nt_xent(z_a[order], z_b[order]), loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(debiased_nt_xent(z_b, z_a), loss, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("probability", [0.1, 0.6])
    def test_first_and_second_derivatives(self, rows, probability):
        z_a, z_b = rows(3, 4, 1).requires_grad_(), rows(3, 4, 2).requires_grad_()

        def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
            return debiased_nt_xent(z_a, z_b, 0.8, class_probability=probability)

        assert torch.autograd.gradcheck(loss, (z_a, z_b))
        assert torch.autograd.gradgradcheck(loss, (z_a, z_b))

    def test_a_false_negative_is_pushed_less(self, circle):
        """Two images of one class 20 degrees apart, two others opposite: the correction weakens the push."""
        pushes = []
        for probability in (0.0, 1 / 3):
            degrees = torch.tensor([0.0, 20.0, 180.0, 200.0], dtype=torch.float64).requires_grad_()
            z = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], 1)
            loss = debiased_nt_xent(z, z, class_probability=probability)
            (gradient,) = torch.autograd.grad(loss, degrees)
            pushes.append(gradient[0].item())  # above 0: the first goes back, away from the second
        assert pushes[0] > 0
        assert pushes[1] < 0.7 * pushes[0]


@pytest.mark.parametrize("n", [2, 5, 17])
def test_in_tiles_it_is_the_plain_one(rows, monkeypatch, n):
    monkeypatch.setattr(_others, "TILE", {"cpu": 5})
    monkeypatch.setattr(_others, "TILED_FROM", {"cpu": 2})
    z_a, z_b = rows(n, 3).requires_grad_(), rows(n, 3, seed=1)
    loss = debiased_nt_xent(z_a, z_b, 0.2)
    with losses.plain_forms():
        plain = debiased_nt_xent(z_a, z_b, 0.2)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(torch.autograd.grad(loss, z_a), torch.autograd.grad(plain, z_a))


class TestPrecision:
    def test_half_precision_input_is_computed_in_single(self, rows):
        z_a, z_b = rows(64, 32, 1).bfloat16(), rows(64, 32, 2).bfloat16()
        loss = debiased_nt_xent(z_a, z_b, 0.1)
        assert loss.dtype == torch.float32
        exact = debiased_nt_xent(z_a.double(), z_b.double(), 0.1)
        assert loss.item() == pytest.approx(exact.item(), rel=1e-5)

    def test_autocast_changes_nothing(self, rows):
        z_a, z_b = rows(16, 32, 1).float(), rows(16, 32, 2).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = debiased_nt_xent(z_a, z_b, 0.1)
        assert torch.equal(inside, debiased_nt_xent(z_a, z_b, 0.1))

    def test_a_tiny_temperature_does_not_overflow(self, rows):
        z_a, z_b = rows(8, 4, 1).float().requires_grad_(), rows(8, 4, 2).float()
        loss = debiased_nt_xent(z_a, z_b, 1e-3)
        (gradient,) = torch.autograd.grad(loss, z_a)
        assert gradient.isfinite().all()
        exact = debiased_nt_xent(z_a.detach().double(), z_b.double(), 1e-3)
        assert loss.item() == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_agrees_with_pytorch_metric_learning_without_false_negatives(rows, temperature):
    """It has no debiased loss: only what is left at class_probability 0 can be compared."""
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    z_a, z_b = rows(12, 16, 1), rows(12, 16, 2)
    theirs = pml.NTXentLoss(temperature=temperature)(torch.cat([z_a, z_b]), torch.arange(12).repeat(2))
    loss = debiased_nt_xent(z_a, z_b, temperature, class_probability=0.0)
    torch.testing.assert_close(loss, theirs, rtol=1e-9, atol=0)


@pytest.mark.parametrize("probability", [-0.1, 1.0, 3.0, math.nan])
def test_a_class_probability_lies_in_0_to_1(rows, probability):
    with pytest.raises(ValueError, match=f"class_probability {probability} must be at least 0 and below 1"):
        debiased_nt_xent(rows(2, 3), rows(2, 3), class_probability=probability)


def test_wrong_input_is_refused(rows):
    with pytest.raises(ValueError, match=r"temperature 0.0 must be above 0"):
        debiased_nt_xent(rows(2, 3), rows(2, 3), 0.0)
    with pytest.raises(ValueError, match=r"z_a \(3, 4\) and z_b \(2, 4\) must have the same shape"):
        debiased_nt_xent(rows(3, 4), rows(2, 4))


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.losses.debiased")) == (0, 2)
