"""The small encoder: the shapes and counts of its docstring, its cost, and where its points lie."""

import doctest
import importlib

import pytest
import torch
from torch import Tensor

from pullpush.models import SmallSphereNet


def network(channels: int = 1, dimensions: int = 3, seed: int = 0) -> SmallSphereNet:
    torch.manual_seed(seed)
    return SmallSphereNet(channels, dimensions)


def images(n: int, channels: int, height: int, width: int | None = None, seed: int = 1) -> Tensor:
    """Random images in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, height, width or height, generator=generator)


@pytest.mark.parametrize(
    ("channels", "height", "width", "sides"),
    [
        (1, 8, 8, [(4, 4), (2, 2), (2, 2), (2, 2)]),
        (1, 28, 28, [(14, 14), (7, 7), (4, 4), (2, 2)]),
        (3, 32, 32, [(16, 16), (8, 8), (4, 4), (2, 2)]),
        (1, 2, 2, [(2, 2), (2, 2), (2, 2), (2, 2)]),
        (1, 3, 28, [(2, 14), (2, 7), (2, 4), (2, 2)]),
    ],
)
def test_the_shapes(channels, height, width, sides):
    net, maps = network(channels), images(5, channels, height, width)
    assert net(maps).shape == (5, 3)
    for stage, outputs, side in zip(
        (net.stage1, net.stage2, net.stage3, net.stage4), (16, 32, 64, 64), sides, strict=True
    ):
        maps = stage(maps)
        assert maps.shape == (5, outputs, *side)


@pytest.mark.parametrize(("channels", "first", "total"), [(1, 144, 60_598), (3, 432, 60_886)])
def test_the_parameter_counts(channels, first, total):
    net = network(channels)
    stages = [first + 32, 4_608 + 64, 18_432 + 128, 36_864 + 128, 192, 6]
    assert [sum(p.numel() for p in stage.parameters()) for stage in net.children()] == stages
    assert sum(p.numel() for p in net.parameters()) == total


@pytest.mark.parametrize(("side", "millions"), [(28, 0.70), (8, 0.24)])
def test_the_multiply_adds(side, millions):
    """Each weight of a convolution is used once a pixel that it puts out."""
    net, maps, total = network(), images(2, 1, side), 64 * 3
    for stage in (net.stage1, net.stage2, net.stage3, net.stage4):
        maps = stage(maps)
        total += stage[0].weight.numel() * maps.shape[2] * maps.shape[3]
    assert round(total / 1e6, 2) == millions


def test_it_is_its_formula():
    """The same weights, stage by stage in torch's own functions, as it is for images of 28 pixels."""
    net, x = network().eval(), images(4, 1, 28)
    with torch.no_grad():
        net.norm.running_mean.uniform_(-1, 1)
    expected = x
    for stage, stride in zip((net.stage1, net.stage2, net.stage3, net.stage4), (2, 2, 2, 2), strict=True):
        convolved = torch.nn.functional.conv2d(expected, stage[0].weight, stride=stride, padding=1)
        expected = stage[1](convolved).clamp(min=0)
    expected = net.norm(net.linear(torch.nn.functional.adaptive_avg_pool2d(expected, 1).flatten(1)))
    torch.testing.assert_close(net(x), expected / expected.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("dimensions", [2, 3, 64])
def test_points_lie_on_the_unit_sphere(dimensions):
    for training in (True, False):
        h = network(dimensions=dimensions).train(training)(images(16, 1, 8))
        assert h.shape == (16, dimensions)
        torch.testing.assert_close(h.norm(dim=1), torch.ones(16))


def test_no_octant_is_out_of_reach():
    """A linear layer with the signs turned around mirrors every point: nothing behind it cuts at 0."""
    net, x = network().eval(), images(16, 1, 28)
    h = net(x)
    with torch.no_grad():
        net.linear.weight.neg_()
    assert torch.equal(net(x), -h)


def test_training_starts_all_around_the_sphere():
    """As `SphereResNet` does: images lie on all sides, and their mean near the centre."""
    assert network()(images(256, 1, 28)).mean(0).norm() < 0.3


def test_the_gradient_reaches_all_weights():
    net = network(3)
    h = net(images(8, 3, 8))
    (h * torch.randn_like(h)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_the_seed_decides():
    one, same, other = (network(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["stage1.0.weight"], other["stage1.0.weight"])


def test_bf16_autocast_gives_fp32_unit_rows():
    net, x = network(), images(16, 1, 28)
    plain = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = net(x)
    assert h.dtype == torch.float32
    torch.testing.assert_close(h.norm(dim=1), torch.ones(16))
    torch.testing.assert_close(h, plain, rtol=0, atol=0.05)


def test_channels_last_gives_the_same_points():
    net, x = network(3), images(8, 3, 32)
    plain = net(x)
    net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 3, 28, 28), r"images have 3 channels, .* built for 1\. Build it with channels=3"),
        (torch.zeros(1, 28, 28), r"images have shape \(1, 28, 28\); they must be a batch"),
        (torch.zeros(2, 1, 28, 1), "images have 28x1 pixels; a side must be at least 2"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "images are torch.uint8; they must be floating point"),
    ],
)
def test_wrong_images_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        network()(x)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="channels 0 must be at least 1"):
        SmallSphereNet(channels=0)
    with pytest.raises(ValueError, match="dimensions 1 must be at least 2"):
        SmallSphereNet(dimensions=1)


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.models.small_sphere")) == (0, 2)
