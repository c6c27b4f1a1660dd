"""The practicum's network against the shapes and counts that its report prints."""

import doctest
import importlib

import pytest
import torch
from torch import Tensor, nn

from pullpush.models import PracticumNet


def network(channels: int, seed: int = 0) -> PracticumNet:
    torch.manual_seed(seed)
    return PracticumNet(channels)


def images(n: int, channels: int, height: int, width: int | None = None, seed: int = 1) -> Tensor:
    """Random images in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(n, channels, height, width or height, generator=generator) - 1


@pytest.mark.parametrize(
    ("channels", "side", "shapes"),
    [
        (1, 28, [(32, 15, 15), (64, 8, 8), (128, 5, 5), (256, 3, 3), (8, 2, 2)]),
        (3, 32, [(32, 17, 17), (64, 9, 9), (128, 5, 5), (256, 3, 3), (8, 2, 2)]),
    ],
)
def test_the_shapes_of_the_report(channels, side, shapes):
    net, x = network(channels), images(5, channels, side)
    assert [tuple(stage.shape) for stage in net.activations(x)] == [(5, *shape) for shape in shapes]
    assert net(x).shape == (5, 32)


@pytest.mark.parametrize(
    ("channels", "stages", "total"),
    [
        (1, [128, 8_192 + 128, 32_768 + 256, 131_072 + 512, 8_192], 181_248),
        (3, [384, 8_192 + 128, 32_768 + 256, 131_072 + 512, 8_192], 181_504),
    ],
)
def test_the_parameter_counts_of_the_report(channels, stages, total):
    net = network(channels)
    assert [name for name, _ in net.named_children()] == ["stage1", "stage2", "stage3", "stage4", "stage5"]
    assert [sum(p.numel() for p in stage.parameters()) for stage in net.children()] == stages
    assert sum(p.numel() for p in net.parameters()) == total


def test_the_layers_in_order():
    """No BN after the first and after the last convolution, and no bias anywhere."""
    layers = [[type(layer) for layer in stage] for stage in network(1).children()]
    inner = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert layers == [[nn.Conv2d, nn.LeakyReLU], inner, inner, inner, [nn.Conv2d, nn.Sigmoid]]
    convolutions = [layer for layer in network(1).modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size for layer in convolutions] == [(2, 2)] * 5
    assert [layer.stride for layer in convolutions] == [(2, 2)] * 4 + [(1, 1)]
    assert [layer.padding for layer in convolutions] == [(1, 1)] * 4 + [(0, 0)]
    assert all(layer.bias is None for layer in convolutions)
    slopes = {layer.negative_slope for layer in network(1).modules() if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.2}


@pytest.mark.parametrize("training", [True, False])
def test_the_embedding_lies_between_0_and_1(training):
    z = network(3).train(training)(images(64, 3, 32))
    assert z.min() > 0
    assert z.max() < 1
    cosines = nn.functional.normalize(z) @ nn.functional.normalize(z).T
    assert cosines.min() > 0  # so the cosine of a negative pair never reaches 0
    assert torch.cdist(z, z).max() < 32**0.5


def test_the_embedding_is_the_last_stage_laid_out_channel_by_channel():
    net, x = network(1).eval(), images(3, 1, 28)
    assert torch.equal(net(x), net.activations(x)[-1].reshape(3, 32))


def test_the_activations_are_those_after_the_non_linearity():
    net, x = network(1).eval(), images(3, 1, 28)
    first, *_, fourth, last = net.activations(x)
    assert torch.equal(first, nn.functional.leaky_relu(net.stage1[0](x), 0.2))
    assert torch.equal(last, net.stage5[0](fourth).sigmoid())


@pytest.mark.parametrize(
    ("height", "width", "out"),
    [
        (2, 2, 8),
        (8, 8, 8),
        (17, 17, 8),
        (18, 18, 32),
        (33, 33, 32),
        (34, 34, 72),
        (64, 64, 128),
        (28, 64, 64),
    ],
)
def test_the_width_for_other_sizes(height, width, out):
    assert network(1)(images(4, 1, height, width)).shape == (4, out)


class TestBatchNorm:
    def test_each_call_has_statistics_of_its_own(self):
        """The practicum calls the network on each part of a batch: a part must not see the others."""
        net, a, b = network(1), images(16, 1, 28, seed=1), images(16, 1, 28, seed=2) / 4
        apart, together = net(a), net(torch.cat([a, b]))[:16]
        assert torch.equal(apart, net(a))
        assert (apart - together).abs().max() > 1e-3

    def test_each_call_moves_the_running_averages(self):
        net = network(1)
        net(images(16, 1, 28, seed=1))
        after_one = net.stage2[1].running_mean.clone()
        net(images(16, 1, 28, seed=2) / 4)
        assert net.stage2[1].num_batches_tracked == 2
        assert not torch.equal(net.stage2[1].running_mean, after_one)

    def test_in_eval_mode_the_batch_does_not_matter(self):
        net, a, b = network(1).eval(), images(4, 1, 28, seed=1), images(4, 1, 28, seed=2)
        torch.testing.assert_close(net(torch.cat([a, b]))[:4], net(a))


class TestWeights:
    def test_the_seed_decides(self):
        one, same, other = (network(1, seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not torch.equal(one["stage1.0.weight"], other["stage1.0.weight"])

    def test_they_are_torch_defaults_drawn_in_the_order_of_the_layers(self):
        net = network(3, seed=7)
        torch.manual_seed(7)
        expected = [
            nn.Conv2d(c, out, 2, bias=False).weight
            for c, out in [(3, 32), (32, 64), (64, 128), (128, 256), (256, 8)]
        ]
        convolutions = [layer.weight for layer in net.modules() if isinstance(layer, nn.Conv2d)]
        assert all(torch.equal(ours, default) for ours, default in zip(convolutions, expected, strict=True))

    def test_the_gradient_reaches_all_of_them(self):
        net = network(3)
        net(images(8, 3, 32)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_channels_last_gives_the_same_embedding_and_is_kept():
    net, x = network(3), images(8, 3, 32)
    plain = net(x)
    net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x), plain, rtol=1e-4, atol=1e-6)
    stages = net.activations(x)
    assert all(stage.is_contiguous(memory_format=torch.channels_last) for stage in stages)


def test_bf16_autocast_stays_close():
    net, x = network(3), images(32, 3, 32)
    plain = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = net(x)
    torch.testing.assert_close(z.float(), plain, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 3, 28, 28), r"images have 3 channels, .* built for 1\. .*PracticumNet\(channels=3\)"),
        (torch.zeros(1, 28, 28), r"images have shape \(1, 28, 28\); they must be a batch"),
        (torch.zeros(2, 1, 28, 1), "images have 28x1 pixels; a side must be at least 2"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "images are torch.uint8; they must be floating point"),
    ],
)
def test_wrong_images_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        network(1)(x)
    with pytest.raises(ValueError, match=message):
        network(1).activations(x)


@pytest.mark.parametrize("channels", [0, -3])
def test_a_wrong_number_of_channels_is_refused(channels):
    with pytest.raises(ValueError, match=f"channels {channels} must be at least 1"):
        PracticumNet(channels)


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.models.practicum")) == (0, 2)
