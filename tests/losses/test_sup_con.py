"""SupCon against the paper's equation, known answers, properties, derivatives and a second implementation."""

import doctest
import importlib
import math

import pytest
import torch
from torch import Tensor

from pullpush.losses import nt_xent, sup_con


def by_the_paper(z: Tensor, labels: Tensor, temperature: float) -> float:
    """Equation 2 of Khosla et al. in nested loops; an anchor with no positive adds 0."""
    rows, y = z.tolist(), labels.tolist()

    def similarity(i: int, j: int) -> float:
        dot = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
        return dot / (math.hypot(*rows[i]) * math.hypot(*rows[j]))

    total = 0.0
    for i in range(len(rows)):
        others = [k for k in range(len(rows)) if k != i]
        positives = [p for p in others if y[p] == y[i]]
        denominator = sum(math.exp(similarity(i, k) / temperature) for k in others)
        for p in positives:
            total -= math.log(math.exp(similarity(i, p) / temperature) / denominator) / len(positives)
    return total / len(rows)


@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0, 4.0])
@pytest.mark.parametrize(
    "labels",
    [[0, 0], [0, 1], [0, 0, 1, 1, 1], [3, 1, 3, 2, 1, 3, 7], [5] * 6, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]],
    ids=lambda labels: "".join(map(str, labels)),
)
@pytest.mark.parametrize("d", [1, 2, 32])
def test_equals_the_paper(rows, labels, d, temperature):
    z, labels = rows(len(labels), d), torch.tensor(labels)
    loss = sup_con(z, labels, temperature)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(by_the_paper(z, labels, temperature), rel=1e-12, abs=1e-12)


def test_the_default_temperature_is_a_tenth(rows):
    z, labels = rows(6, 4), torch.tensor([0, 1, 0, 1, 2, 2])
    assert sup_con(z, labels) == sup_con(z, labels, 0.1)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
@pytest.mark.parametrize("n", [1, 2, 8])
def test_a_label_for_each_image_makes_it_nt_xent(rows, n, temperature):
    z_a, z_b = rows(n, 16, 1), rows(n, 16, 2)
    loss = sup_con(torch.cat([z_a, z_b]), torch.arange(n).repeat(2), temperature)
    torch.testing.assert_close(loss, nt_xent(z_a, z_b, temperature), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("labels", [[0, 0], [0, 0, 1, 1], [4, 4, 4, 2, 2, 9, 9]])
def test_all_rows_equal_is_the_logarithm_of_the_number_of_candidates(rows, labels):
    n = len(labels)
    loss = sup_con(rows(1, 8).expand(n, 8), torch.tensor(labels))
    assert loss.item() == pytest.approx(math.log(n - 1), abs=1e-12)


def test_two_classes_on_opposite_sides_of_the_circle(circle):
    """Each anchor: 2 positives at cosine 1, 3 negatives at -1, so the loss is log(2 + 3 exp(-2 / tau))."""
    z, labels = circle([0, 0, 0, 180, 180, 180]), torch.tensor([0, 0, 0, 1, 1, 1])
    assert sup_con(z, labels, 0.5).item() == pytest.approx(math.log(2 + 3 * math.exp(-4)), abs=1e-12)


class TestAnchorsWithNoPositive:
    def test_they_count_in_the_mean(self, rows):
        """Rows 2 and 3 add 0 and are 2 of 4: the mean is half of the mean over the other anchors."""
        z, labels = rows(4, 8), torch.tensor([0, 0, 1, 2])
        u = z / z.norm(dim=1, keepdim=True)
        similarity = (u @ u.T / 0.1).fill_diagonal_(-torch.inf)
        with_positive = -similarity.log_softmax(dim=1)[[0, 1], [1, 0]]
        torch.testing.assert_close(sup_con(z, labels), with_positive.mean() / 2, rtol=1e-12, atol=0)

    def test_a_batch_of_nothing_else_is_0_with_gradient_0(self, rows):
        z = rows(5, 8).requires_grad_()
        loss = sup_con(z, torch.arange(5))
        loss.backward()
        assert loss == 0
        assert torch.equal(z.grad, torch.zeros_like(z))

    def test_a_single_row_is_0_with_gradient_0(self, rows):
        z = rows(1, 8).requires_grad_()
        loss = sup_con(z, torch.tensor([3]))
        (first,) = torch.autograd.grad(loss, z, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), z)
        assert loss == 0
        assert torch.equal(first, torch.zeros_like(z))
        assert torch.equal(second, torch.zeros_like(z))


@pytest.mark.parametrize("base_temperature", [0.07, 0.1, 1.0])
def test_the_base_temperature_only_scales(rows, base_temperature):
    z, labels = rows(6, 4), torch.tensor([0, 1, 0, 1, 2, 2])
    scaled = sup_con(z, labels, 0.1, base_temperature=base_temperature)
    torch.testing.assert_close(scaled, sup_con(z, labels, 0.1) * 0.1 / base_temperature, rtol=1e-12, atol=0)


class TestProperties:
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])

    def test_the_length_of_a_row_does_not_matter(self, rows):
        z = rows(7, 4)
        lengths = torch.logspace(-6, 6, 7, dtype=torch.float64)[:, None]
        torch.testing.assert_close(
            sup_con(z * lengths, self.labels), sup_con(z, self.labels), rtol=1e-11, atol=0
        )

    def test_gradients_follow_the_rows_when_the_batch_is_shuffled(self, rows):
        z = rows(7, 4).requires_grad_()
        order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
        shuffled_z = z.detach()[order].requires_grad_()
        loss, shuffled = sup_con(z, self.labels), sup_con(shuffled_z, self.labels[order])
        torch.testing.assert_close(shuffled, loss, rtol=1e-12, atol=0)
        (gradient,) = torch.autograd.grad(loss, z)
        (shuffled_gradient,) = torch.autograd.grad(shuffled, shuffled_z)
        torch.testing.assert_close(shuffled_gradient, gradient[order], rtol=1e-11, atol=1e-14)

    def test_the_names_of_the_classes_do_not_matter(self, rows):
        z = rows(7, 4)
        renamed = torch.tensor([9, -4, 5, 0])[self.labels]
        assert sup_con(z, renamed) == sup_con(z, self.labels)

    def test_first_and_second_derivatives(self, rows):
        z = rows(7, 3).requires_grad_()

        def loss(z: Tensor) -> Tensor:
            return sup_con(z, self.labels, 0.3, base_temperature=0.07)

        assert torch.autograd.gradcheck(loss, (z,))
        assert torch.autograd.gradgradcheck(loss, (z,))

    def test_a_row_of_zeros_has_finite_derivatives(self, rows):
        z = rows(7, 3)
        z[2] = 0
        z.requires_grad_()
        (first,) = torch.autograd.grad(sup_con(z, self.labels), z, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), z)
        assert torch.equal(first[2], torch.zeros(3, dtype=torch.float64))
        assert first.isfinite().all()
        assert second.isfinite().all()


class TestPrecision:
    labels = torch.arange(8).repeat(8)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_input_is_computed_in_single(self, rows, dtype):
        z = rows(64, 32)
        half = z.to(dtype).requires_grad_()
        loss = sup_con(half, self.labels)
        loss.backward()
        assert loss.dtype == torch.float32
        assert half.grad.dtype == dtype
        assert torch.equal(loss, sup_con(z.to(dtype).float(), self.labels))
        assert loss.item() == pytest.approx(sup_con(z, self.labels).item(), rel=2e-3)

    def test_autocast_changes_nothing(self, rows):
        z = rows(64, 32).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = sup_con(z, self.labels)
        assert torch.equal(inside, sup_con(z, self.labels))

    def test_a_tiny_temperature_does_not_overflow(self, rows):
        z = rows(64, 32)
        loss = sup_con(z.float(), self.labels, 1e-3)
        assert loss.item() == pytest.approx(sup_con(z, self.labels, 1e-3).item(), rel=1e-4)


def test_agrees_with_pytorch_metric_learning(rows):
    """It leaves anchors with no positive out of the mean, we count them: 2 of these 12."""
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    z, labels = rows(12, 16), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 1])
    theirs = pml.SupConLoss(temperature=0.1)(z, labels)
    torch.testing.assert_close(sup_con(z, labels, 0.1), theirs * 10 / 12, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["temperature", "base_temperature"])
@pytest.mark.parametrize("value", [0.0, -0.5, math.nan])
def test_temperatures_must_be_above_0(rows, name, value):
    with pytest.raises(ValueError, match=f"^{name} {value} must be above 0"):
        sup_con(rows(2, 3), torch.tensor([0, 0]), **{name: value})


@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (torch.ones(3, 4), torch.zeros(2), r"labels has shape \(2,\); it must be \(3,\)"),
        (torch.ones(3, 4), torch.zeros(3, 1), r"labels has shape \(3, 1\); it must be \(3,\)"),
        (torch.ones(0, 4), torch.zeros(0), r"z has shape \(0, 4\).*n and d of at least 1"),
        (torch.ones(4), torch.zeros(4), r"z has shape \(4,\); it must be \(n, d\)"),
        (torch.ones(3, 4).long(), torch.zeros(3), "z is torch.int64; embeddings must be floating point"),
    ],
)
def test_wrong_input_is_refused(z, labels, message):
    with pytest.raises(ValueError, match=message):
        sup_con(z, labels)


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.losses.sup_con")) == (0, 2)
