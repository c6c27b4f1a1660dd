"""The three perceptrons of CLAWS against their formula in plain Python, and the counts that follow."""

import doctest
import importlib

import pytest
import torch
from torch import Tensor, nn

from pullpush.models import LabelHead, MaskNetwork, Projector, mask


def networks() -> list[nn.Module]:
    torch.manual_seed(0)
    return [Projector(12, outputs=5), MaskNetwork(12, hidden=7), LabelHead(4, inputs=12, hidden=9)]


def rows(n: int, inputs: int = 12, seed: int = 1) -> Tensor:
    return torch.randn(n, inputs, generator=torch.Generator().manual_seed(seed))


def by_hand(layers: nn.Sequential, x: list[float]) -> list[float]:
    """W_2 relu(W_1 x + b_1) + b_2 of one row, in loops."""
    first, _, second = layers
    for layer in (first, second):
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        x = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        x = [max(v, 0) for v in x] if layer is first else x
    return x


def test_they_are_their_formula():
    for network in networks():
        x = rows(4)
        expected = torch.tensor([by_hand(network.layers, row) for row in x.tolist()])
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (lambda: Projector(1280), 1280 * 1280 + 1280 + 1280 * 32 + 32),
        (lambda: Projector(1280), 1_680_672),
        (lambda: Projector(128), 20_640),
        (lambda: MaskNetwork(), 2_112),
        (lambda: LabelHead(11), 2_827),
        (lambda: LabelHead(12), 2_827 + 65),
    ],
)
def test_the_parameter_counts(network, count):
    assert sum(p.numel() for p in network().parameters()) == count


def test_most_gates_start_open_and_can_be_shut():
    torch.manual_seed(0)
    network = MaskNetwork()
    assert torch.equal(network.layers[2].bias, torch.ones(32))
    z = rows(500, 32)
    assert mask(network(z)).mean() > 0.9
    with torch.no_grad():
        network.layers[2].bias.fill_(-1)
    assert mask(network(z)).mean() < 0.1


def test_other_weights_are_torch_defaults():
    for build, sizes in (
        (lambda: Projector(6), (6, 6, 32)),
        (lambda: MaskNetwork(6, 5), (6, 5, 6)),
        (lambda: MaskNetwork(6, 5, 9), (9, 5, 6)),
        (lambda: LabelHead(3, 6, 5), (6, 5, 3)),
    ):
        torch.manual_seed(3)
        first, second = nn.Linear(*sizes[:2]), nn.Linear(*sizes[1:])
        torch.manual_seed(3)
        layers = build().layers
        assert torch.equal(layers[0].weight, first.weight) and torch.equal(layers[0].bias, first.bias)
        assert torch.equal(layers[2].weight, second.weight)


def test_the_gradient_reaches_all_weights_and_the_input():
    for network in networks():
        x = rows(16).requires_grad_()
        out = network(x)
        (out * torch.randn_like(out)).sum().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in (x, *network.parameters()))


def test_bf16_autocast_gives_fp32_and_fp64_stays():
    for network in networks():
        plain = network(rows(16))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = network(rows(16))
        assert out.dtype == torch.float32
        torch.testing.assert_close(out, plain, rtol=0, atol=0.05)
        assert network.double()(rows(3).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Projector(0), "inputs 0 must be at least 1"),
        (lambda: Projector(3, outputs=1), "outputs 1 must be at least 2"),
        (lambda: MaskNetwork(0), "dimensions 0 must be at least 1"),
        (lambda: MaskNetwork(3, hidden=0), "hidden 0 must be at least 1"),
        (lambda: MaskNetwork(3, inputs=0), "inputs 0 must be at least 1"),
        (lambda: LabelHead(1), "classes 1 must be at least 2"),
        (lambda: LabelHead(3, inputs=0), "inputs 0 must be at least 1"),
        (lambda: LabelHead(3, hidden=0), "hidden 0 must be at least 1"),
    ],
)
def test_wrong_sizes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_wrong_rows_are_refused():
    for network, name in zip(networks(), "hzz", strict=True):
        for x in (torch.zeros(5, 13), torch.zeros(12)):
            with pytest.raises(ValueError, match=rf"{name} has shape .*; .* built for rows \(n, 12\)"):
                network(x)
        with pytest.raises(ValueError, match=f"{name} is torch.int64; it must be floating point"):
            network(torch.zeros(5, 12, dtype=torch.int64))


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(importlib.import_module("pullpush.models.claws")) == (0, 6)
