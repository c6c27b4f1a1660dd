"""NNCLR against the paper's algorithm in loops, known answers, and where its gradient goes."""

import doctest
import importlib
import math

import pytest
import torch
from torch import Tensor

from pullpush.losses import nearest_in, nnclr


def unit(row: list[float]) -> list[float]:
    length = math.hypot(*row)
    return [value / length for value in row]


def by_the_paper(p_a: Tensor, p_b: Tensor, z_a: Tensor, z_b: Tensor, support: Tensor, t: float) -> float:
    """Algorithm 1 in nested loops; the neighbour by Euclidean distance on the sphere, as in the text."""
    queue = [unit(row) for row in support.tolist()]

    def one_way(z: Tensor, p: Tensor) -> float:
        total, views = 0.0, [unit(row) for row in p.tolist()]
        for i, row in enumerate(z.tolist()):
            nearest = min(queue, key=lambda q: math.dist(q, unit(row)))
            e = [math.exp(sum(a * b for a, b in zip(nearest, u, strict=True)) / t) for u in views]
            total -= math.log(e[i] / sum(e))
        return total / len(z)

    return (one_way(z_a, p_b) + one_way(z_b, p_a)) / 2


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize(("n", "d", "m"), [(1, 3, 4), (2, 2, 1), (5, 32, 20), (9, 4, 3)])
def test_equals_the_paper(rows, n, d, m, temperature):
    z_a, z_b, support = rows(n, d, 1), rows(n, d, 2), rows(m, d, 3)
    loss = nnclr(z_a, z_b, support, temperature)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    expected = by_the_paper(z_a, z_b, z_a, z_b, support, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_a_prediction_head_changes_views_but_not_neighbours(rows):
    z_a, z_b, support, p_a, p_b = (rows(6, 8, seed) for seed in range(5))
    loss = nnclr(z_a, z_b, support, 0.3, predicted=(p_a, p_b))
    assert loss.item() == pytest.approx(by_the_paper(p_a, p_b, z_a, z_b, support, 0.3), rel=1e-10)
    swapped = nnclr(z_a, z_b, support, 0.3, predicted=(p_b, p_a))
    assert abs(loss.item() - swapped.item()) > 1e-3
    torch.testing.assert_close(nnclr(z_a, z_b, support, predicted=(z_a, z_b)), nnclr(z_a, z_b, support))


def test_the_default_temperature_is_a_tenth(rows):
    z_a, z_b, support = rows(4, 3, 1), rows(4, 3, 2), rows(9, 3, 3)
    assert nnclr(z_a, z_b, support) == nnclr(z_a, z_b, support, 0.1)


def test_with_the_views_themselves_as_support_it_is_cross_entropy_between_views(rows):
    """Each row is then its own nearest neighbour: NT-Xent with the n-1 negatives of the other view alone."""
    z_a, z_b, t = rows(6, 16, 1), rows(6, 16, 2), 0.4
    s = torch.nn.functional.normalize(z_a) @ torch.nn.functional.normalize(z_b).T / t
    expected = (s.logsumexp(0) + s.logsumexp(1)).mean() / 2 - s.diagonal().mean()
    loss = nnclr(z_a, z_b, torch.cat([z_a, z_b]), t)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_views_in_one_place_give_the_logarithm_of_the_batch(rows, n):
    z, support = rows(1, 8, 1).expand(n, 8), rows(30, 8, 2)
    assert nnclr(z, z, support).item() == pytest.approx(math.log(n), abs=1e-12)


def test_its_bounds_are_reached_on_the_circle(circle):
    z, t = circle([0, 180]), 0.5
    assert nnclr(z, z, z, t).item() == pytest.approx(math.log1p(math.exp(-4)), rel=1e-12)
    # z_b is opposite: the neighbour of each row is the other image's view.
    assert nnclr(z, z.flip(0), z, t).item() == pytest.approx(math.log1p(math.exp(4)), rel=1e-12)


def test_the_neighbour_is_found_by_angle_not_by_length(circle):
    support = circle([10, 80, 170]) * torch.tensor([[100.0], [0.01], [1.0]], dtype=torch.float64)
    assert nearest_in(circle([0, 50, 130, 250]), support).tolist() == [0, 1, 2, 2]


class TestGradient:
    def test_a_view_learns_only_as_the_target_of_the_other_ones_neighbour(self, rows):
        """z_a enters by its neighbour, which has no gradient, and as u_a, which has."""
        z_a, z_b, support = rows(5, 8, 1).requires_grad_(), rows(5, 8, 2), rows(20, 8, 3).requires_grad_()
        loss = nnclr(z_a, z_b, support, 0.2)
        gradient, nothing = torch.autograd.grad(loss, (z_a, support), allow_unused=True)
        assert nothing is None
        q = torch.nn.functional.normalize(support.detach()[nearest_in(z_b, support)])
        logits = q @ torch.nn.functional.normalize(z_a).T / 0.2
        half = torch.nn.functional.cross_entropy(logits, torch.arange(5)) / 2
        torch.testing.assert_close(gradient, torch.autograd.grad(half, z_a)[0], rtol=1e-10, atol=1e-15)

    def test_it_turns_a_view_towards_the_neighbour_of_the_other(self, circle):
        degrees = torch.tensor([0.0, 180.0], dtype=torch.float64).requires_grad_()
        z_a = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], 1)
        loss = nnclr(z_a, circle([30, 210]), circle([50, 230]))
        (gradient,) = torch.autograd.grad(loss, degrees)
        assert (gradient < 0).all()  # both turn on, to 50 and 230

    def test_first_and_second_derivatives(self, rows):
        z_a, z_b, support = rows(3, 4, 1).requires_grad_(), rows(3, 4, 2).requires_grad_(), rows(9, 4, 3)

        def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
            return nnclr(z_a, z_b, support, 0.5)

        assert torch.autograd.gradcheck(loss, (z_a, z_b))
        assert torch.autograd.gradgradcheck(loss, (z_a, z_b))


class TestProperties:
    def test_order_of_the_support_does_not_matter(self, rows):
        z_a, z_b, support = rows(5, 8, 1), rows(5, 8, 2), rows(20, 8, 3)
        torch.testing.assert_close(nnclr(z_a, z_b, support.flip(0)), nnclr(z_a, z_b, support))

    def test_order_of_images_and_of_views_does_not_matter(self, rows):
        z_a, z_b, support, order = rows(5, 8, 1), rows(5, 8, 2), rows(20, 8, 3), [3, 0, 4, 1, 2]
        loss = nnclr(z_a, z_b, support)
        torch.testing.assert_close(nnclr(z_a[order], z_b[order], support), loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(nnclr(z_b, z_a, support), loss, rtol=1e-12, atol=0)

    def test_lengths_and_rotations_do_not_matter(self, rows):
        z_a, z_b, support = rows(5, 4, 1), rows(5, 4, 2), rows(20, 4, 3)
        loss = nnclr(z_a, z_b, support)
        lengths, rotation = torch.logspace(-5, 5, 5).double()[:, None], torch.linalg.qr(rows(4, 4, 4)).Q
        scaled = nnclr(z_a * lengths, z_b / lengths, 7 * support)
        turned = nnclr(z_a @ rotation, z_b @ rotation, support @ rotation)
        torch.testing.assert_close(scaled, loss, rtol=1e-11, atol=0)
        torch.testing.assert_close(turned, loss, rtol=1e-11, atol=0)


class TestPrecision:
    def test_half_precision_input_is_computed_in_single(self, rows):
        z_a, z_b, support = (rows(32, 16, seed).bfloat16() for seed in (1, 2, 3))
        loss = nnclr(z_a, z_b, support.float())
        assert loss.dtype == torch.float32
        exact = nnclr(z_a.double(), z_b.double(), support.double())
        assert loss.item() == pytest.approx(exact.item(), rel=1e-5)

    def test_a_support_in_single_serves_double_embeddings(self, rows):
        loss = nnclr(rows(4, 8, 1), rows(4, 8, 2), rows(20, 8, 3).float())
        assert loss.dtype == torch.float64

    def test_autocast_changes_nothing(self, rows):
        z_a, z_b, support = (rows(16, 32, seed).float() for seed in (1, 2, 3))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = nnclr(z_a, z_b, support)
        assert torch.equal(inside, nnclr(z_a, z_b, support))

    def test_a_tiny_temperature_does_not_overflow(self, rows):
        z_a, z_b, support = (rows(8, 4, seed).float() for seed in (1, 2, 3))
        assert nnclr(z_a, z_b, support, 1e-3).isfinite()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0 must be above 0"),
        ({"z_b": torch.ones(2, 4)}, r"z_a \(3, 4\) and z_b \(2, 4\) must have the same shape"),
        (
            {"support": torch.ones(9, 5)},
            r"support \(9, 5\) and z \(3, 4\) must have the same number of columns",
        ),
        ({"support": torch.ones(0, 4)}, r"support has shape \(0, 4\)"),
        ({"support": torch.ones(9, 4).long()}, "support is torch.int64"),
        ({"predicted": (torch.ones(3, 4), torch.ones(3, 5))}, r"predicted\[1\] has shape \(3, 5\).*\(3, 4\)"),
    ],
)
def test_wrong_input_is_refused(given, message):
    sound = {"z_a": torch.ones(3, 4), "z_b": torch.ones(3, 4), "support": torch.ones(9, 4)}
    with pytest.raises(ValueError, match=message):
        nnclr(**(sound | given))


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(importlib.import_module("pullpush.losses.nnclr")) == (0, 3)
