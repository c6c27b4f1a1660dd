"""The encoder of the fourth study: its formula, counts and start, dropout, and what bf16 leaves alone."""

import doctest
import importlib
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pullpush.models import ResidualMLP


def network(inputs: int = 16, outputs: int = 2, seed: int = 0, **options) -> ResidualMLP:
    torch.manual_seed(seed)
    return ResidualMLP(inputs, outputs, **options)


def points(n: int, inputs: int = 16, seed: int = 1) -> Tensor:
    return torch.randn(n, inputs, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("inputs", "outputs", "widths", "total"),
    [
        (384, 2, (512, 256), 1_648_130),
        (784, 10, (512, 256), 1_854_986),
        (16, 10, (512, 256), 1_461_770),
        (3, 4, (5,), (3 * 5 + 5) + 10 + (5 * 10 + 10) + 20 + (10 * 5 + 5) + 10 + (5 * 4 + 4)),
    ],
)
def test_shapes_and_parameter_counts(inputs, outputs, widths, total):
    net = network(inputs, outputs, widths=widths)
    assert net(points(5, inputs)).shape == (5, outputs)
    assert sum(p.numel() for p in net.parameters()) == total


def test_what_the_docstring_says_of_further_inputs_and_outputs():
    def total(inputs: int, outputs: int) -> int:
        return sum(p.numel() for p in network(inputs, outputs).parameters())

    assert total(17, 2) - total(16, 2) == 512
    assert total(16, 3) - total(16, 2) == 257


@pytest.mark.parametrize("widths", [(6,), (6, 4), (3, 5, 7)])
def test_it_is_its_formula(widths):
    """The same weights, in the order in which they were made, in torch's own functions."""
    net, x = network(widths=widths), points(9)
    with torch.no_grad():  # a start at 1 and 0 would hide where these belong
        for p in net.parameters():
            if p.ndim == 1:
                p.add_(0.3 * torch.randn_like(p))
    weights = iter(net.parameters())

    def linear(x: Tensor) -> Tensor:
        return functional.linear(x, next(weights), next(weights))

    def norm(x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        x = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return x * next(weights) + next(weights)

    def leaky(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.1 * x)

    expected = x
    for _ in widths:
        expected = norm(leaky(linear(expected)))
        expected = leaky(expected + norm(linear(norm(leaky(linear(expected))))))
    torch.testing.assert_close(net(x), linear(expected))
    assert next(weights, None) is None


class TestStart:
    def test_weights_are_normal_with_the_variance_of_he_and_biases_0(self):
        """Standard deviation sqrt(2 / inputs), within 5 of its own standard errors, and a kurtosis of 3."""
        for module in network(384).modules():
            if isinstance(module, torch.nn.Linear):
                weight, wanted = module.weight.detach().double(), math.sqrt(2 / module.in_features)
                tolerance = 5 / math.sqrt(2 * weight.numel())
                assert weight.std().item() == pytest.approx(wanted, rel=tolerance)
                assert weight.mean().item() == pytest.approx(0, abs=5 * wanted / math.sqrt(weight.numel()))
                kurtosis = (weight / wanted).pow(4).mean().item()  # 1.8 for uniform weights
                assert kurtosis == pytest.approx(3, abs=5 * math.sqrt(96 / weight.numel()))
                assert torch.equal(module.bias, torch.zeros_like(module.bias))

    def test_layer_norms_start_as_they_are_in_torch(self):
        norms = [m for m in network().modules() if isinstance(m, torch.nn.LayerNorm)]
        assert len(norms) == 6
        assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)

    def test_the_spread_of_the_embedding_does_not_depend_on_the_number_of_inputs(self):
        """LayerNorm before the last layer: rows of any scale start with coordinates of a variance near 2."""
        for inputs, scale in ((16, 1.0), (784, 0.01), (784, 100.0)):
            z = network(inputs, 256)(scale * points(256, inputs))
            assert 1.0 < z.var().item() < 3.0

    def test_the_seed_decides(self):
        one, same, other = (network(seed=seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not torch.equal(one["output.weight"], other["output.weight"])


class TestDropout:
    def test_it_is_off_in_evaluation_mode(self):
        net, x = network(dropout=0.3), points(32)
        plain = network()(x)
        assert not torch.allclose(net(x), plain)
        assert not torch.equal(net(x), net(x))
        assert torch.equal(net.eval()(x), plain)

    def test_without_it_training_and_evaluation_are_the_same(self):
        net, x = network(), points(32)
        assert torch.equal(net(x), net.eval()(x))

    def test_it_is_where_the_release_has_it(self):
        """Three times for each width: behind each LayerNorm, with the share that was asked for."""
        net = network(dropout=0.3)
        assert [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)] == [0.3] * 6
        for parent in net.modules():
            if isinstance(parent, torch.nn.Sequential):
                names = [type(m).__name__ for m in parent]
                assert all(names[i - 1] == "LayerNorm" for i, name in enumerate(names) if name == "Dropout")


def test_the_gradient_reaches_all_weights_and_the_input():
    net, x = network(), points(32).requires_grad_()
    z = net(x)
    (z * torch.randn_like(z)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in (x, *net.parameters()))


def test_rows_do_not_depend_on_their_batch():
    """A new point is embedded alone as it is in any company."""
    net, x = network(), points(32)
    torch.testing.assert_close(torch.cat([net(row[None]) for row in x]), net(x))


class TestPrecision:
    def test_bf16_autocast_gives_fp32_that_is_finer_than_bf16(self):
        net, x = network(), points(256)
        with torch.no_grad():
            net.output.bias.fill_(20.0)
            plain = net(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                z = net(x)
        assert z.dtype == torch.float32
        torch.testing.assert_close(z, plain, rtol=0, atol=0.1)
        assert (z - plain).abs().mean() < 0.02
        assert (z != z.bfloat16().float()).float().mean() > 0.9  # in bf16 steps would be 0.125 long

    def test_the_stages_do_use_bf16(self):
        net = network()
        seen = []
        net.stages[0][0].register_forward_hook(lambda module, given, out: seen.append(out.dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            net(points(4))
        assert seen == [torch.bfloat16]

    def test_fp64_stays_fp64(self):
        assert network().double()(points(4).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": 0}, "inputs 0 must be at least 1"),
        ({"outputs": 0}, "outputs 0 must be at least 1"),
        ({"widths": ()}, "widths must hold at least one width"),
        ({"widths": (512, 0)}, "width 0 must be at least 1"),
        ({"dropout": 1.0}, "dropout 1.0 must be at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout -0.1 must be at least 0 and below 1"),
        ({"dropout": math.nan}, "dropout nan must be at least 0 and below 1"),
    ],
)
def test_wrong_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5, 17), r"x has shape \(5, 17\); this network was built for rows \(n, 16\)"),
        (torch.zeros(16), r"x has shape \(16,\)"),
        (torch.zeros(5, 16, dtype=torch.uint8), "x is torch.uint8; it must be floating point"),
    ],
)
def test_wrong_rows_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        network()(x)


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.models.residual_mlp")) == (0, 1)
