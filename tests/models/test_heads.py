"""The two heads against their formulas in plain Python, and the counts that follow from them."""

import doctest
import importlib
import math

import pytest
import torch
from torch import Tensor

from pullpush.models import ClusterHead, InstanceHead
from pullpush.models._inputs import unit_rows


def heads() -> list[InstanceHead | ClusterHead]:
    torch.manual_seed(0)
    return [InstanceHead(3), ClusterHead(3, clusters=10)]


def points(n: int, inputs: int = 3, seed: int = 1) -> Tensor:
    """Random points on the unit sphere."""
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, inputs, generator=generator))


def by_hand(head: InstanceHead | ClusterHead, h: list[float]) -> list[float]:
    """W_2 relu(W_1 h + b_1) + b_2 of one row, in loops."""
    for layer in (head.layers[0], head.layers[2]):
        rows, bias = layer.weight.tolist(), layer.bias.tolist()
        h = [sum(w * x for w, x in zip(row, h, strict=True)) + b for row, b in zip(rows, bias, strict=True)]
        if layer is head.layers[0]:
            h = [max(x, 0) for x in h]
    return h


def test_the_instance_head_is_its_formula():
    torch.manual_seed(0)
    head, h = InstanceHead(3, hidden=7, outputs=5), points(4)
    for z, row in zip(head(h), h, strict=True):
        v = by_hand(head, row.tolist())
        expected = [x / math.sqrt(sum(y * y for y in v)) for x in v]
        torch.testing.assert_close(z, torch.tensor(expected))


def test_the_cluster_head_is_its_formula():
    torch.manual_seed(0)
    head, h = ClusterHead(3, clusters=4, hidden=7), points(4)
    for p, row in zip(head(h), h, strict=True):
        v = [math.exp(x) for x in by_hand(head, row.tolist())]
        torch.testing.assert_close(p, torch.tensor([x / sum(v) for x in v]))


def test_shapes_and_parameter_counts():
    """3 to 512 to 128 and 3 to 512 to 10, with biases: the sizes in the authors' code."""
    instance, cluster = heads()
    assert instance(points(5)).shape == (5, 128)
    assert cluster(points(5)).shape == (5, 10)
    assert [sum(p.numel() for p in head.parameters()) for head in (instance, cluster)] == [67_712, 7_178]
    assert InstanceHead(64, hidden=16, outputs=2)(points(5, 64)).shape == (5, 2)
    assert ClusterHead(64, clusters=2, hidden=16)(points(5, 64)).shape == (5, 2)


def test_embeddings_have_unit_length_and_both_signs():
    z = heads()[0](points(32))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(32))
    assert z.min() < 0 < z.max()


def test_probabilities_sum_to_1():
    p = heads()[1](points(32))
    torch.testing.assert_close(p.sum(dim=1), torch.ones(32))
    assert p.min() > 0


def test_the_gradient_reaches_all_weights_and_the_input():
    for head in heads():
        h = points(16).requires_grad_()
        out = head(h)
        (out * torch.randn_like(out)).sum().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in (h, *head.parameters()))


def test_the_seed_decides_and_weights_are_torch_defaults():
    torch.manual_seed(3)
    first, second = torch.nn.Linear(3, 512), torch.nn.Linear(512, 128)
    torch.manual_seed(3)
    head = InstanceHead(3)
    assert torch.equal(head.layers[0].weight, first.weight)
    assert torch.equal(head.layers[2].bias, second.bias)


class TestPrecision:
    def test_bf16_autocast_gives_fp32(self):
        for head in heads():
            plain = head(points(32))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = head(points(32))
            assert out.dtype == torch.float32
            torch.testing.assert_close(out, plain, rtol=0, atol=0.02)
            length = out.norm(dim=1) if isinstance(head, InstanceHead) else out.sum(dim=1)
            torch.testing.assert_close(length, torch.ones(32))

    def test_fp64_stays_fp64(self):
        for head in heads():
            assert head.double()(points(4).double()).dtype == torch.float64


class TestUnitRows:
    def test_a_row_of_zeros_stays_zero_with_gradient_0(self):
        x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
        z = unit_rows(x)
        torch.testing.assert_close(z, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
        z.sum().backward()
        assert x.grad is not None
        torch.testing.assert_close(x.grad, torch.tensor([[0.032, -0.024], [0.0, 0.0]]))

    def test_bf16_and_fp16_are_widened_first(self):
        for dtype in (torch.bfloat16, torch.float16):
            z = unit_rows(torch.full((2, 3), 300.0, dtype=dtype))  # 300 squared is beyond fp16
            assert z.dtype == torch.float32
            torch.testing.assert_close(z, torch.full((2, 3), 3**-0.5))

    def test_a_head_that_puts_out_zeros_has_finite_gradients(self):
        head = heads()[0]
        with torch.no_grad():
            head.layers[2].weight.zero_()
            head.layers[2].bias.zero_()
        z = head(points(4))
        assert torch.equal(z, torch.zeros(4, 128))
        z.sum().backward()
        assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in head.parameters())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: InstanceHead(0), "inputs 0 must be at least 1"),
        (lambda: InstanceHead(3, hidden=0), "hidden 0 must be at least 1"),
        (lambda: InstanceHead(3, outputs=1), "outputs 1 must be at least 2"),
        (lambda: ClusterHead(-1, clusters=10), "inputs -1 must be at least 1"),
        (lambda: ClusterHead(3, clusters=1), "clusters 1 must be at least 2"),
        (lambda: ClusterHead(3, clusters=10, hidden=-2), "hidden -2 must be at least 1"),
    ],
)
def test_wrong_sizes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("h", "message"),
    [
        (torch.zeros(5, 512), r"h has shape \(5, 512\); this head was built for rows \(n, 3\)"),
        (torch.zeros(3), r"h has shape \(3,\); this head was built for rows \(n, 3\)"),
        (torch.zeros(5, 3, dtype=torch.int64), "h is torch.int64; it must be floating point"),
    ],
)
def test_wrong_rows_are_refused(h, message):
    for head in heads():
        with pytest.raises(ValueError, match=message):
            head(h)


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(importlib.import_module("pullpush.models.heads")) == (0, 4)
