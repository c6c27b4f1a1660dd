"""The small encoder of photographs: the shapes and counts of its docstring, its cost and its formula."""

import doctest
import importlib

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pullpush.models import SmallFieldNet


def network(channels: int = 3, seed: int = 0) -> SmallFieldNet:
    torch.manual_seed(seed)
    return SmallFieldNet(channels)


def images(n: int, height: int, width: int, channels: int = 3, seed: int = 1) -> Tensor:
    """Random images in [0, 1]."""
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("height", "width", "sides"),
    [
        (120, 190, [(60, 95), (30, 48), (15, 24), (8, 12)]),
        (32, 32, [(16, 16), (8, 8), (4, 4), (2, 2)]),
        (16, 16, [(8, 8), (4, 4), (2, 2), (1, 1)]),
        (2, 5, [(1, 3), (1, 2), (1, 1), (1, 1)]),
    ],
)
def test_the_shapes(height, width, sides):
    net, maps = network(), images(2, height, width)
    assert net(maps).shape == (2, 128)
    for stage, outputs, side in zip(net.children(), (16, 32, 64, 128), sides, strict=True):
        maps = stage(maps)
        assert maps.shape == (2, outputs, *side)


def test_the_parameter_counts():
    stages = [432 + 32, 4_608 + 64, 18_432 + 128, 73_728 + 256]
    assert [sum(p.numel() for p in stage.parameters()) for stage in network().children()] == stages
    assert sum(p.numel() for p in network().parameters()) == 97_680
    assert sum(p.numel() for p in network(1).parameters()) == 97_680 - 2 * 144


@pytest.mark.parametrize(("height", "width", "millions"), [(120, 190, 22.8), (32, 32, 1.0)])
def test_the_multiply_adds(height, width, millions):
    """Each weight of a convolution is used once a pixel that it puts out."""
    maps, total = images(1, height, width), 0
    for stage in network().eval().children():
        maps = stage(maps)
        total += stage[0].weight.numel() * maps.shape[2] * maps.shape[3]
    assert round(total / 1e6, 1) == millions


@pytest.mark.parametrize(("height", "width"), [(24, 38), (16, 16)])
def test_it_is_its_formula(height, width):
    net = network().eval()
    x = expected = images(3, height, width)
    for stage in net.children():
        stage[1].running_mean.uniform_(-0.1, 0.1)
        expected = stage[1](functional.conv2d(expected, stage[0].weight, stride=2, padding=1)).clamp(min=0)
    torch.testing.assert_close(net(x), functional.adaptive_avg_pool2d(expected, 1).flatten(1))


def test_the_gradient_reaches_all_weights_and_the_seed_decides():
    net = network()
    h = net(images(8, 12, 19))
    (h * torch.randn_like(h)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    one, same, other = (network(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["stage1.0.weight"], other["stage1.0.weight"])


def test_bf16_autocast_and_channels_last_stay_close():
    net, x = network(), images(16, 24, 38)
    plain = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = net(x)
    assert h.dtype == torch.float32
    torch.testing.assert_close(h, plain, rtol=0, atol=0.05)
    net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 28, 28), r"images have 1 channels, .* built for 3\. Build it with channels=1"),
        (torch.zeros(2, 3, 1, 28), "images have 1x28 pixels; a side must be at least 2"),
        (torch.zeros(2, 3, 28, 28, dtype=torch.uint8), "images are torch.uint8; they must be floating point"),
    ],
)
def test_wrong_images_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        network()(x)


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match="channels 0 must be at least 1"):
        SmallFieldNet(channels=0)


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.models.small_field")) == (0, 3)
