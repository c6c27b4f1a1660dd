"""Uniformity against a loop over the paper's formula, `pdist`, known answers, tiles and derivatives."""

import doctest
import importlib
import itertools
import math

import pytest
import torch
from torch import Tensor

from pullpush import losses
from pullpush.losses import _others, uniformity


@pytest.fixture
def on_sphere(rows):
    """`on_sphere(n, d, seed)`: rows of unit length in float64."""
    return lambda n, d, seed=0: torch.nn.functional.normalize(rows(n, d, seed))


@pytest.fixture
def tiles(monkeypatch):
    """Tiles of 5 rows, from 2 rows on."""
    monkeypatch.setattr(_others, "TILE", {"cpu": 5})
    monkeypatch.setattr(_others, "TILED_FROM", {"cpu": 2})


def by_pdist(z: Tensor, t: float = 2.0) -> Tensor:
    """The authors' line."""
    return torch.pdist(z).pow(2).mul(-t).exp().mean().log()


@pytest.mark.parametrize("t", [0.5, 2.0, 4.0])
@pytest.mark.parametrize(("n", "d"), [(2, 2), (5, 3), (9, 32)])
def test_equals_the_paper(on_sphere, n, d, t):
    z = on_sphere(n, d)
    potentials = [math.exp(-t * math.dist(a, b) ** 2) for a, b in itertools.combinations(z.tolist(), 2)]
    assert uniformity(z, t).item() == pytest.approx(math.log(sum(potentials) / len(potentials)), rel=1e-12)


@pytest.mark.parametrize("n", [2, 4, 5, 6, 17])
@pytest.mark.parametrize("t", [0.5, 2.0])
def test_tiles_and_plain_form_are_pdist_with_gradients(on_sphere, tiles, n, t):
    z = on_sphere(n, 3).requires_grad_()
    expected = by_pdist(z, t)
    (gradient,) = torch.autograd.grad(expected, z)
    in_tiles = uniformity(z, t)
    with losses.plain_forms():
        plain = uniformity(z, t)
    for found in (in_tiles, plain):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, z)[0], gradient)


def test_real_sizes_agree_in_fp32():
    """2,048 rows in tiles of 512: value to 1e-6, gradients to 1e-5 of the largest."""
    z = torch.nn.functional.normalize(torch.randn(2048, 3, generator=torch.Generator().manual_seed(0)))
    z.requires_grad_()
    found, expected = uniformity(z), by_pdist(z)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,), (theirs,) = torch.autograd.grad(found, z), torch.autograd.grad(expected, z)
    assert (gradient - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_known_answers(circle):
    """All in one place: 0. Opposite points: -4t. The vertices of a square: two sides to one diagonal."""
    assert uniformity(circle([30, 30, 30])).item() == pytest.approx(0, abs=1e-12)
    assert uniformity(circle([0, 180]), 3.0).item() == pytest.approx(-12)
    square = uniformity(circle([0, 90, 180, 270]), 1.0).item()
    assert square == pytest.approx(math.log((4 * math.exp(-2) + 2 * math.exp(-4)) / 6))


@pytest.mark.parametrize("t", [1.0, 2.0])
def test_even_spread_on_the_sphere(t):
    """log((1 - exp(-4t)) / 4t) in three dimensions, -2.08 at t = 2."""
    z = torch.nn.functional.normalize(torch.randn(8000, 3, generator=torch.Generator().manual_seed(1)))
    assert uniformity(z, t).item() == pytest.approx(math.log((1 - math.exp(-4 * t)) / (4 * t)), abs=0.01)


def test_rotations_and_order_do_not_matter(on_sphere, rows):
    z, rotation = on_sphere(7, 4), torch.linalg.qr(rows(4, 4, 3)).Q
    torch.testing.assert_close(uniformity(z @ rotation), uniformity(z), rtol=1e-12, atol=0)
    torch.testing.assert_close(uniformity(z.flip(0)), uniformity(z), rtol=1e-12, atol=0)


def test_first_and_second_derivatives(on_sphere, tiles):
    z = on_sphere(7, 3).requires_grad_()

    def of_directions(z):  # finite differences leave the sphere
        return uniformity(torch.nn.functional.normalize(z))

    assert torch.autograd.gradcheck(of_directions, z)
    with pytest.raises(RuntimeError, match=r"no second derivative.*plain_forms"):
        torch.autograd.grad(uniformity(z), z, create_graph=True)
    with losses.plain_forms():
        assert torch.autograd.gradgradcheck(of_directions, z)


def test_points_that_coincide_do_not_move(tiles):
    z = torch.tensor([[1.0, 0.0]]).expand(6, 2).clone().requires_grad_()
    uniformity(z).backward()
    torch.testing.assert_close(z.grad, torch.zeros_like(z))


def test_autocast_changes_nothing(on_sphere):
    z = on_sphere(16, 8).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = uniformity(z)
    assert torch.equal(inside, uniformity(z))


def test_wrong_input_is_refused(on_sphere):
    with pytest.raises(ValueError, match="z has 1 row; uniformity compares pairs and needs at least 2"):
        uniformity(on_sphere(1, 3))
    with pytest.raises(ValueError, match="Row 0 of z has length 3; rows must be of unit length"):
        uniformity(3 * on_sphere(4, 3))
    for t in (0.0, -2.0, math.nan):
        with pytest.raises(ValueError, match=f"t {t} must be above 0"):
            uniformity(on_sphere(4, 3), t)


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.losses.uniformity")) == (0, 1)
