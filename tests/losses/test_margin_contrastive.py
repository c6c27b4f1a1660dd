"""The margin loss against the paper's equation, points on a circle, properties and derivatives."""

import doctest
import importlib
import math

import pytest
import torch
from torch import Tensor

from pullpush.losses import margin_contrastive


def by_the_paper(z_a: Tensor, z_b: Tensor, different: Tensor, margin: float) -> float:
    """Equation 4 of Hadsell, Chopra & LeCun, pair by pair, averaged."""
    total = 0.0
    for a, b, y in zip(z_a.tolist(), z_b.tolist(), different.tolist(), strict=True):
        distance = math.dist(a, b)
        total += (1 - y) * distance**2 / 2 + y * max(0, margin - distance) ** 2 / 2
    return total / len(z_a)


@pytest.mark.parametrize("margin", [0.3, 1.0, 5.0, 20.0])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 3), (7, 32), (20, 2)])
def test_equals_the_paper(rows, n, d, margin):
    z_a, z_b = rows(n, d, 1), rows(n, d, 2)
    different = torch.arange(n) % 3 == 0
    loss = margin_contrastive(z_a, z_b, different, margin)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(by_the_paper(z_a, z_b, different, margin), rel=1e-12)


def test_the_default_margin_is_1(rows):
    z_a, z_b, different = rows(4, 3, 1), rows(4, 3, 2), torch.tensor([0, 1, 1, 0])
    assert margin_contrastive(z_a, z_b, different) == margin_contrastive(z_a, z_b, different, 1.0)


@pytest.mark.parametrize(
    ("degrees", "different", "margin", "expected"),
    [
        (0, 0, 1.0, 0),  # together and similar
        (60, 0, 1.0, 1 / 2),  # distance 1
        (90, 0, 1.0, 1),  # distance sqrt 2
        (180, 0, 1.0, 2),  # distance 2
        (0, 1, 1.0, 1 / 2),  # together and dissimilar: the whole margin is missing
        (60, 1, 1.0, 0),  # exactly at the margin
        (60, 1, 1.5, 1 / 8),  # half a unit short
        (180, 1, 3.0, 1 / 2),  # one unit short
        (120, 1, 1.0, 0),  # beyond the margin
    ],
)
def test_points_on_a_circle(circle, degrees, different, margin, expected):
    loss = margin_contrastive(circle([10]), circle([10 + degrees]), torch.tensor([different]), margin)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_a_batch_is_the_mean_of_its_pairs(circle):
    z_a, z_b = circle([0, 0, 0, 0]), circle([60, 90, 0, 180])
    loss = margin_contrastive(z_a, z_b, torch.tensor([0, 0, 1, 1]))
    assert loss.item() == pytest.approx((1 / 2 + 1 + 1 / 2 + 0) / 4, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64])
def test_the_marks_may_be_bools_or_numbers(rows, dtype):
    z_a, z_b, different = rows(4, 3, 1), rows(4, 3, 2), torch.tensor([0, 1, 1, 0])
    loss = margin_contrastive(z_a, z_b, different.to(dtype), 5.0)
    assert loss == margin_contrastive(z_a, z_b, different, 5.0)


class TestGradient:
    def test_similar_pairs_are_pulled_by_their_distance(self, circle):
        z_a, z_b = circle([0]).requires_grad_(), circle([90])
        (gradient,) = torch.autograd.grad(margin_contrastive(z_a, z_b, torch.tensor([0])), z_a)
        torch.testing.assert_close(gradient, z_a.detach() - z_b)

    def test_dissimilar_pairs_are_pushed_by_what_is_missing(self, circle):
        """At distance 1 and margin 1.5 half a unit is missing, along the unit vector between the points."""
        z_a, z_b = circle([0]).requires_grad_(), circle([60])
        (gradient,) = torch.autograd.grad(margin_contrastive(z_a, z_b, torch.tensor([1]), 1.5), z_a)
        torch.testing.assert_close(gradient, -0.5 * (z_a.detach() - z_b))

    def test_dissimilar_pairs_beyond_the_margin_are_left_alone(self, circle):
        z_a, z_b = circle([0]).requires_grad_(), circle([180])
        (gradient,) = torch.autograd.grad(margin_contrastive(z_a, z_b, torch.tensor([1])), z_a)
        assert torch.equal(gradient, torch.zeros_like(gradient))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_at_distance_0_it_is_0_and_never_nan(self, dtype):
        z_a, z_b = torch.ones(2, 3, dtype=dtype, requires_grad=True), torch.ones(2, 3, dtype=dtype)
        loss = margin_contrastive(z_a, z_b, torch.tensor([0, 1]))
        (first,) = torch.autograd.grad(loss, z_a, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), z_a)
        assert loss.item() == 1 / 4
        assert torch.equal(first, torch.zeros_like(first))
        # A similar pair sits at the bottom of a parabola of curvature 1, divided by the two pairs.
        assert torch.equal(second, torch.tensor([[0.5] * 3, [0.0] * 3], dtype=dtype))

    def test_first_and_second_derivatives(self, rows):
        z_a, z_b = rows(6, 3, 1).requires_grad_(), rows(6, 3, 2).requires_grad_()
        different = torch.tensor([0, 1, 1, 0, 1, 1])

        def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
            return margin_contrastive(z_a, z_b, different, 5.0)

        distance = (z_a - z_b).norm(dim=1)[different == 1]
        assert distance.min() < 5 < distance.max()  # both sides of the margin are looked at
        assert torch.autograd.gradcheck(loss, (z_a, z_b))
        assert torch.autograd.gradgradcheck(loss, (z_a, z_b))


class TestProperties:
    different = torch.tensor([0, 1, 1, 0, 1, 1])

    def test_the_two_sides_can_change_places(self, rows):
        z_a, z_b = rows(6, 3, 1), rows(6, 3, 2)
        assert margin_contrastive(z_a, z_b, self.different) == margin_contrastive(z_b, z_a, self.different)

    def test_the_order_of_the_pairs_does_not_matter(self, rows):
        z_a, z_b = rows(6, 3, 1), rows(6, 3, 2)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        shuffled = margin_contrastive(z_a[order], z_b[order], self.different[order], 5.0)
        loss = margin_contrastive(z_a, z_b, self.different, 5.0)
        torch.testing.assert_close(shuffled, loss, rtol=1e-12, atol=0)

    def test_a_shift_and_a_rotation_do_not_matter(self, rows):
        z_a, z_b = rows(6, 3, 1), rows(6, 3, 2)
        rotation, shift = torch.linalg.qr(rows(3, 3, 3)).Q, rows(1, 3, 4)
        moved = margin_contrastive(z_a @ rotation + shift, z_b @ rotation + shift, self.different, 5.0)
        loss = margin_contrastive(z_a, z_b, self.different, 5.0)
        torch.testing.assert_close(moved, loss, rtol=1e-12, atol=0)

    def test_it_grows_with_the_square_of_the_scale_if_the_margin_grows_too(self, rows):
        z_a, z_b = rows(6, 3, 1), rows(6, 3, 2)
        scaled = margin_contrastive(3 * z_a, 3 * z_b, self.different, 15.0)
        loss = margin_contrastive(z_a, z_b, self.different, 5.0)
        torch.testing.assert_close(scaled, 9 * loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_computed_in_single(rows, dtype):
    z_a, z_b, different = rows(64, 32, 1), rows(64, 32, 2), torch.arange(64) % 2
    half_a = z_a.to(dtype).requires_grad_()
    loss = margin_contrastive(half_a, z_b.to(dtype), different, 20.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half_a.grad.dtype == dtype
    assert loss.item() == pytest.approx(margin_contrastive(z_a, z_b, different, 20.0).item(), rel=2e-3)


def test_autocast_changes_nothing(rows):
    z_a, z_b, different = rows(16, 8, 1).float(), rows(16, 8, 2).float(), torch.arange(16) % 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = margin_contrastive(z_a, z_b, different)
    assert torch.equal(inside, margin_contrastive(z_a, z_b, different))


def test_agrees_with_pytorch_metric_learning(rows):
    """Its ContrastiveLoss is max(0, D) or max(0, m - D), neither squared nor halved, on unit rows unless told
    otherwise, and averages similar and dissimilar pairs apart. We take its value of each pair and go on.
    """
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, reducers

    z_a, z_b, different = rows(10, 4, 1), rows(10, 4, 2), torch.arange(10) % 2
    similar, dissimilar = (different == 0).nonzero()[:, 0], (different == 1).nonzero()[:, 0]
    theirs = losses.ContrastiveLoss(
        pos_margin=0,
        neg_margin=5.0,
        distance=distances.LpDistance(normalize_embeddings=False, p=2, power=1),
        reducer=reducers.DoNothingReducer(),
    )(z_a, indices_tuple=(similar, similar, dissimilar, dissimilar), ref_emb=z_b)
    each = torch.cat([theirs["pos_loss"]["losses"], theirs["neg_loss"]["losses"]])
    ours = margin_contrastive(z_a, z_b, different, 5.0)
    torch.testing.assert_close(ours, (each**2 / 2).mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan])
def test_a_margin_must_be_above_0(rows, margin):
    with pytest.raises(ValueError, match=f"margin {margin} must be above 0"):
        margin_contrastive(rows(2, 3), rows(2, 3), torch.tensor([0, 1]), margin)


@pytest.mark.parametrize(
    ("different", "message"),
    [
        (torch.tensor([1, -1, 1]), "different holds -1; it must be 0 .* or 1 .* pass target < 0"),
        (torch.tensor([0, 1, 2]), "different holds 2; it must be 0"),
        (torch.tensor([0, 1, 0.5]), "different holds 0.5; it must be 0"),
        (torch.tensor([0, 1, math.nan]), "different holds nan; it must be 0"),
        (torch.tensor([0, 1]), r"different has shape \(2,\); it must be \(3,\)"),
        (torch.tensor([[0], [1], [1]]), r"different has shape \(3, 1\); it must be \(3,\)"),
    ],
)
def test_wrong_marks_are_refused(rows, different, message):
    with pytest.raises(ValueError, match=message):
        margin_contrastive(rows(3, 4, 1), rows(3, 4, 2), different)


@pytest.mark.parametrize(
    ("z_a", "z_b", "message"),
    [
        (torch.ones(3, 4), torch.ones(1, 4), r"z_a \(3, 4\) and z_b \(1, 4\) must have the same shape"),
        (torch.ones(0, 4), torch.ones(0, 4), r"z_a has shape \(0, 4\).*n and d of at least 1"),
        (torch.ones(3), torch.ones(3), r"z_a has shape \(3,\); it must be \(n, d\)"),
        (torch.ones(3, 4), torch.ones(3, 4).int(), "z_b is torch.int32; embeddings must be floating point"),
    ],
)
def test_wrong_embeddings_are_refused(z_a, z_b, message):
    with pytest.raises(ValueError, match=message):
        margin_contrastive(z_a, z_b, torch.zeros(len(z_a)))


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.losses.margin_contrastive")) == (0, 2)
