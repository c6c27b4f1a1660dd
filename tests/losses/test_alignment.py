"""Alignment against a loop over the paper's formula, angles on a circle, properties and derivatives."""

import doctest
import importlib
import math

import pytest
import torch

from pullpush.losses import alignment


@pytest.fixture
def on_sphere(rows):
    """`on_sphere(n, d, seed)`: rows of unit length in float64."""
    return lambda n, d, seed=0: torch.nn.functional.normalize(rows(n, d, seed))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("n", "d"), [(1, 2), (5, 3), (9, 32)])
def test_equals_the_paper(on_sphere, n, d, alpha):
    z_a, z_b = on_sphere(n, d, 1), on_sphere(n, d, 2)
    pairs = zip(z_a.tolist(), z_b.tolist(), strict=True)
    expected = sum(math.dist(a, b) ** alpha for a, b in pairs) / n
    assert alignment(z_a, z_b, alpha).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("angle", "distance"), [(0, 0.0), (60, 1.0), (90, math.sqrt(2)), (180, 2.0)])
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_angles_on_a_circle(circle, angle, distance, alpha):
    found = alignment(circle([10, 40]), circle([10 + angle, 40 + angle]), alpha)
    assert found.item() == pytest.approx(distance**alpha, abs=1e-12)


def test_rotations_and_the_order_of_views_do_not_matter(on_sphere, rows):
    z_a, z_b = on_sphere(6, 4, 1), on_sphere(6, 4, 2)
    rotation = torch.linalg.qr(rows(4, 4, 3)).Q
    expected = alignment(z_a, z_b)
    torch.testing.assert_close(alignment(z_a @ rotation, z_b @ rotation), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(alignment(z_b, z_a), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_first_and_second_derivatives(on_sphere, alpha):
    inputs = on_sphere(4, 3, 1).requires_grad_(), on_sphere(4, 3, 2).requires_grad_()

    def of_directions(z_a, z_b):  # finite differences leave the sphere
        unit = torch.nn.functional.normalize
        return alignment(unit(z_a), unit(z_b), alpha)

    assert torch.autograd.gradcheck(of_directions, inputs)
    assert torch.autograd.gradgradcheck(of_directions, inputs)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_a_pair_that_coincides_stays_put(on_sphere, alpha):
    z = on_sphere(3, 4).requires_grad_()
    alignment(z, z.detach(), alpha).backward()
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_half_precision_is_computed_in_single(circle):
    loss = alignment(circle([0]).bfloat16(), circle([90]).bfloat16())
    assert loss.dtype == torch.float32
    assert loss.item() == 2.0


def test_wrong_input_is_refused(on_sphere):
    z = on_sphere(3, 4)
    with pytest.raises(ValueError, match=r"Row 1 of z_b has length 2; rows must be of unit length"):
        alignment(z, z * torch.tensor([1.0, 2.0, 1.0])[:, None])
    with pytest.raises(ValueError, match="must have the same shape"):
        alignment(z, z[:2])
    for alpha in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"alpha {alpha} must be above 0"):
            alignment(z, z, alpha)


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.losses.alignment")) == (0, 2)
