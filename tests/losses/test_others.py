"""The tiled sum over all other rows against the plain one, which the tests of each loss hold to its paper."""

import doctest
import importlib

import pytest
import torch
from torch import Tensor

from pullpush import losses
from pullpush.losses import _others


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 5 rows, from 2 rows on."""
    monkeypatch.setattr(_others, "TILE", {"cpu": 5})
    monkeypatch.setattr(_others, "TILED_FROM", {"cpu": 2})


def with_gradient(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return [loss, *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("n", [1, 2, 4, 5, 6, 17])
@pytest.mark.parametrize("include_self", [False, True])
def test_nt_xent_in_tiles_is_the_plain_one(rows, tiles, n, include_self):
    z_a, z_b = rows(n, 3).requires_grad_(), rows(n, 3, seed=1).requires_grad_()
    found = with_gradient(losses.nt_xent(z_a, z_b, 0.2, include_self=include_self), z_a, z_b)
    with losses.plain_forms():
        plain = with_gradient(losses.nt_xent(z_a, z_b, 0.2, include_self=include_self), z_a, z_b)
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("n", [2, 5, 11, 16])
def test_sup_con_in_tiles_is_the_plain_one(rows, tiles, n):
    z, labels = rows(n, 4).requires_grad_(), torch.arange(n) % 4
    found = with_gradient(losses.sup_con(z, labels), z)
    with losses.plain_forms():
        plain = with_gradient(losses.sup_con(z, labels), z)
    torch.testing.assert_close(found, plain)


def test_real_sizes_agree_in_fp32():
    """1,024 pairs in tiles of 512: values to 1e-6, gradients to 1e-5 of the largest."""
    z_a, z_b = (torch.randn(1024, 32, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    z_a.requires_grad_()
    found = with_gradient(losses.nt_xent(z_a, z_b), z_a)
    with losses.plain_forms():
        plain = with_gradient(losses.nt_xent(z_a, z_b), z_a)
    assert found[0].item() == pytest.approx(plain[0].item(), rel=1e-6)
    assert (found[1] - plain[1]).abs().max() < 1e-5 * plain[1].abs().max()


def test_gradients_are_those_of_finite_differences(rows, tiles):
    assert torch.autograd.gradcheck(
        lambda u: _others.log_sum_of_others(u, 3.0), rows(7, 3).double().requires_grad_()
    )


def test_tiles_refuse_second_derivatives_and_plain_forms_give_them(rows, tiles):
    z = rows(6, 3).double().requires_grad_()

    def loss(z):
        return losses.nt_xent(z, z.flip(0))

    with pytest.raises(RuntimeError, match=r"no second derivative.*plain_forms"):
        torch.autograd.grad(loss(z), z, create_graph=True)
    with losses.plain_forms():
        assert torch.autograd.gradgradcheck(loss, z)


def test_steep_similarities_take_the_plain_form(rows, tiles):
    """At temperature 0.01 sums of exp(100) leave fp32; the loss must not."""
    z_a, z_b = rows(8, 3), rows(8, 3, seed=1)
    assert losses.nt_xent(z_a, z_b, 0.01).isfinite()
    with losses.plain_forms():
        plain = losses.nt_xent(z_a, z_b, 0.01)
    assert torch.equal(losses.nt_xent(z_a, z_b, 0.01), plain)


def test_no_tensor_holds_all_similarities(monkeypatch):
    """A batch of 4,096 rows makes no tensor larger than a tile or the embeddings."""
    largest = 0

    class Sizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    z = torch.randn(2048, 8, requires_grad=True)
    with Sizes():
        losses.nt_xent(z, z.flip(0))
    assert largest <= _others.TILE["cpu"] ** 2


def test_the_example_in_the_docstring():
    module = importlib.import_module("pullpush.losses._others")
    assert doctest.testmod(module).failed == 0
