"""Student-t assignments, their targets and divergence against DEC's equations in loops, and its gradients."""

import doctest
import importlib
import math

import pytest
import torch
from torch import Tensor

from pullpush.losses import cluster_sharpening, sharpened, student_t


def probabilities(n: int, k: int, seed: int = 0) -> Tensor:
    """Random assignments (n, k) in float64, some rows sure and some not."""
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(n, k, generator=generator, dtype=torch.float64)).softmax(1)


def dec_assignment(z: list[list[float]], centres: list[list[float]]) -> list[list[float]]:
    """Equation 1 of Xie et al., row by row."""
    near = [[1 / (1 + math.dist(row, centre) ** 2) for centre in centres] for row in z]
    return [[x / sum(row) for x in row] for row in near]


def dec_target(q: list[list[float]]) -> list[list[float]]:
    """Equation 3 of Xie et al., row by row."""
    f = [sum(row[j] for row in q) for j in range(len(q[0]))]
    weight = [[x**2 / size for x, size in zip(row, f, strict=True)] for row in q]
    return [[x / sum(row) for x in row] for row in weight]


@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (5, 3, 2), (20, 10, 10)])
def test_the_assignment_equals_the_paper(rows, n, k, d):
    z, centres = rows(n, d, 1), rows(k, d, 2)
    q = student_t(z, centres)
    expected = dec_assignment(z.tolist(), centres.tolist())
    torch.testing.assert_close(q, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 3), (40, 10)])
def test_target_and_divergence_equal_the_paper(n, k):
    q = probabilities(n, k)
    p = dec_target(q.tolist())
    torch.testing.assert_close(sharpened(q), torch.tensor(p, dtype=torch.float64), rtol=1e-12, atol=0)
    expected = 0.0
    for target, row in zip(p, q.tolist(), strict=True):
        expected += sum(x * math.log(x / y) for x, y in zip(target, row, strict=True)) / n
    assert cluster_sharpening(q).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


class TestStudentT:
    def test_points_at_distances_that_can_be_checked_by_hand(self):
        """1/(1+0), 1/(1+1), 1/(1+9) for centres at 0, 1 and 3 from the point."""
        q = student_t(torch.zeros(1, 1), torch.tensor([[0.0], [1.0], [-3.0]]))
        torch.testing.assert_close(q, torch.tensor([[1.0, 0.5, 0.1]]) / 1.6)

    def test_the_nearest_centre_is_the_likeliest_and_rows_sum_to_1(self, rows):
        z, centres = rows(100, 4, 1), rows(7, 4, 2)
        q = student_t(z, centres)
        assert torch.equal(q.argmax(1), torch.cdist(z, centres).argmin(1))
        torch.testing.assert_close(q.sum(1), torch.ones(100).double())

    def test_a_shift_and_a_rotation_do_not_matter_and_clusters_have_no_order(self, rows):
        z, centres = rows(20, 3, 1), rows(5, 3, 2)
        rotation, shift = torch.linalg.qr(rows(3, 3, 3)).Q, rows(1, 3, 4)
        q = student_t(z, centres)
        torch.testing.assert_close(student_t(z @ rotation + shift, centres @ rotation + shift), q)
        assert torch.equal(student_t(z, centres.flip(0)).flip(1).argmax(1), q.argmax(1))

    def test_first_and_second_derivatives_at_a_centre_too(self, rows):
        z, centres = rows(4, 3, 1), rows(3, 3, 2)
        z[0] = centres[0]
        given = (z.requires_grad_(), centres.requires_grad_())
        assert torch.autograd.gradcheck(student_t, given)
        assert torch.autograd.gradgradcheck(student_t, given)

    def test_far_away_all_centres_are_as_likely(self):
        q = student_t(torch.full((1, 2), 1e6), torch.tensor([[0.0, 0.0], [1.0, 5.0]]))
        torch.testing.assert_close(q, torch.full((1, 2), 0.5), rtol=1e-4, atol=0)


class TestSharpened:
    def test_equal_clusters_are_squared(self):
        p = sharpened(torch.tensor([[0.8, 0.2], [0.2, 0.8]]))
        torch.testing.assert_close(p, torch.tensor([[0.64, 0.04], [0.04, 0.64]]) / 0.68)

    def test_uniform_and_sure_rows_stay_as_they_are(self):
        for q in (torch.full((6, 4), 0.25), torch.eye(4)):
            torch.testing.assert_close(sharpened(q), q)

    def test_sure_rows_become_surer_where_clusters_are_balanced(self):
        q = probabilities(6, 3)
        q = torch.stack([q.roll(shift, 1) for shift in range(3)]).flatten(0, 1)  # all columns sum to 6
        p = sharpened(q)
        assert torch.equal(p.argmax(1), q.argmax(1))
        assert (p.amax(1) > q.amax(1)).all()

    def test_an_undecided_row_goes_to_the_smaller_cluster(self):
        q = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
        p = sharpened(q)[2]
        torch.testing.assert_close(p, torch.tensor([0.7, 2.3]) / 3)  # in inverse proportion to 2.3 and 0.7

    def test_an_empty_cluster_gets_nothing(self):
        q = torch.tensor([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0]])
        p = sharpened(q)
        assert torch.equal(p[:, 2], torch.zeros(2))
        torch.testing.assert_close(p[:, :2], sharpened(q[:, :2]))

    def test_it_has_no_gradient(self):
        assert not sharpened(probabilities(4, 3).requires_grad_()).requires_grad


class TestClusterSharpening:
    def test_what_it_is_for_two_points(self):
        """P = 16/17, 1/17 against q = 4/5, 1/5."""
        loss = cluster_sharpening(torch.tensor([[0.8, 0.2], [0.2, 0.8]], dtype=torch.float64))
        expected = 16 / 17 * math.log(16 / 17 / 0.8) + 1 / 17 * math.log(1 / 17 / 0.2)
        assert loss.item() == pytest.approx(expected, rel=1e-12)

    def test_it_is_0_for_sure_and_for_equal_rows_and_above_0_otherwise(self):
        assert cluster_sharpening(torch.eye(4)).item() == 0
        assert cluster_sharpening(torch.full((6, 4), 0.25)).item() == pytest.approx(0, abs=1e-6)
        assert cluster_sharpening(probabilities(6, 4)) > 0.01

    def test_it_agrees_with_torchs_divergence(self):
        q = probabilities(30, 5)
        expected = torch.nn.functional.kl_div(q.log(), sharpened(q), reduction="batchmean")
        torch.testing.assert_close(cluster_sharpening(q), expected, rtol=1e-9, atol=0)

    def test_neither_rows_nor_clusters_have_an_order(self):
        q = probabilities(8, 5)
        mixed = q[torch.tensor([3, 0, 5, 1, 4, 2, 7, 6])][:, torch.tensor([2, 0, 1, 4, 3])]
        torch.testing.assert_close(cluster_sharpening(mixed), cluster_sharpening(q))

    def test_the_gradient_is_that_of_a_fixed_target(self):
        q = probabilities(6, 4).requires_grad_()
        (gradient,) = torch.autograd.grad(cluster_sharpening(q), q)
        torch.testing.assert_close(gradient, -sharpened(q) / q.detach() / 6)

    def test_points_and_centres_move_as_the_paper_says(self, rows):
        """Equations 4 and 5, with one degree of freedom and a mean instead of a sum."""
        z, centres = rows(12, 3, 1).requires_grad_(), rows(4, 3, 2).requires_grad_()
        q = student_t(z, centres)
        of_z, of_centres = torch.autograd.grad(cluster_sharpening(q), (z, centres))
        gap = (z[:, None] - centres).detach()  # (n, k, d)
        force = (sharpened(q) - q.detach()) / (1 + gap.square().sum(2))
        torch.testing.assert_close(of_z, 2 * (force[..., None] * gap).sum(1) / 12)
        torch.testing.assert_close(of_centres, -2 * (force[..., None] * gap).sum(0) / 12)

    def test_the_second_derivative_is_that_of_a_fixed_target(self):
        q = probabilities(3, 2).requires_grad_()
        (first,) = torch.autograd.grad(cluster_sharpening(q), q, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), q)
        torch.testing.assert_close(second, sharpened(q) / q.detach().square() / 3)

    def test_probabilities_of_0_are_finite(self):
        """As a softmax in fp32 gives them, for an empty cluster too."""
        logits = torch.tensor([[200.0, 0.0, -300.0], [0.0, 1.0, -300.0]], requires_grad=True)
        loss = cluster_sharpening(logits.softmax(1))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()

    def test_a_step_down_the_gradient_contracts_clusters(self, rows):
        """Two groups of points and a centre in each: their points come nearer to their own centre."""
        z = torch.cat([rows(20, 2, 1) * 0.3 + 2, rows(20, 2, 2) * 0.3 - 2]).requires_grad_()
        centres = torch.tensor([[2.0, 2.0], [-2.0, -2.0]], dtype=torch.float64)
        (gradient,) = torch.autograd.grad(cluster_sharpening(student_t(z, centres)), z)

        def spread(z: Tensor) -> Tensor:
            return torch.cdist(z, centres).amin(1).square().mean()

        assert spread(z.detach() - gradient) < spread(z.detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_computed_in_single(rows, dtype):
    z, centres = rows(50, 8, 1).to(dtype).requires_grad_(), rows(5, 8, 2).to(dtype)
    q = student_t(z, centres)
    loss = cluster_sharpening(q)
    loss.backward()
    assert q.dtype == sharpened(q).dtype == loss.dtype == torch.float32
    assert z.grad.dtype == dtype
    exact = student_t(z.detach().double(), centres.double())
    torch.testing.assert_close(q, exact.float(), rtol=1e-5, atol=0)
    assert loss.item() == pytest.approx(cluster_sharpening(exact).item(), rel=1e-4)


def test_autocast_changes_nothing(rows):
    z, centres = rows(16, 8, 1).float(), rows(4, 8, 2).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = student_t(z, centres), cluster_sharpening(student_t(z, centres))
    outside = student_t(z, centres), cluster_sharpening(student_t(z, centres))
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: student_t(torch.ones(3, 2), torch.ones(4, 3)),
            r"z \(3, 2\) and centres \(4, 3\) must have rows",
        ),
        (lambda: student_t(torch.ones(3), torch.ones(4, 3)), r"z has shape \(3,\); it must be \(n, d\)"),
        (lambda: student_t(torch.ones(3, 2), torch.ones(0, 2)), r"centres has shape \(0, 2\)"),
        (lambda: student_t(torch.ones(3, 2).int(), torch.ones(4, 2)), "z is torch.int32"),
        (lambda: sharpened(torch.ones(3)), r"q has shape \(3,\)"),
        (lambda: cluster_sharpening(torch.ones(0, 3)), r"q has shape \(0, 3\)"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(importlib.import_module("pullpush.losses.cluster_sharpening")) == (0, 3)
