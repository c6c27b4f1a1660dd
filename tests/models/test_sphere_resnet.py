"""The backbone of RCC against torchvision's ResNet18, and the end in which it differs."""

import doctest
import importlib

import pytest
import torch
from torch import Tensor, nn

from pullpush.models import SphereResNet

HEADS = ["coded", "linear"]


def network(channels: int = 1, dimensions: int = 3, head: str = "coded", seed: int = 0) -> SphereResNet:
    torch.manual_seed(seed)
    return SphereResNet(channels, dimensions, head)


def torchvision_network(channels: int, dimensions: int, seed: int = 0) -> nn.Module:
    """torchvision's ResNet18 with `channels` inputs and `dimensions` outputs."""
    from torchvision.models import resnet18

    torch.manual_seed(seed)
    net = resnet18(num_classes=dimensions)
    if channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return net


def images(n: int, channels: int, height: int, width: int | None = None, seed: int = 1) -> Tensor:
    """Random images in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, height, width or height, generator=generator)


def moved(net: nn.Module) -> nn.Module:
    """`net` with BN weights, biases and averages away from 1 and 0, where mistakes would not show."""
    generator = torch.Generator().manual_seed(2)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight.data, layer.running_var):
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
            for values in (layer.bias.data, layer.running_mean):
                values.copy_(torch.randn(values.shape, generator=generator) / 4)
    return net


class TestAgainstTorchvision:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("training", [True, False])
    def test_the_linear_head_is_resnet18_at_unit_length(self, channels, training):
        theirs, ours = moved(torchvision_network(channels, 5)), network(channels, 5, head="linear")
        ours.load_state_dict(theirs.state_dict())
        x = images(4, channels, 48)
        expected = nn.functional.normalize(theirs.train(training)(x))
        torch.testing.assert_close(ours.train(training)(x), expected)

    def test_the_coded_head_is_resnet18_with_a_narrow_last_stage_and_no_relu(self):
        """As the authors build it: torchvision's parts with width 3, put together here step by step."""
        from torchvision.models.resnet import BasicBlock

        theirs, ours = torchvision_network(1, 3), network()
        theirs.inplanes, theirs.fc = 256, nn.Identity()
        theirs.layer4 = theirs._make_layer(BasicBlock, 3, 2, stride=2)
        ours.load_state_dict(moved(theirs).state_dict())
        x = images(4, 1, 64)
        h = ours.eval()(x)
        parts = [theirs.conv1, theirs.bn1, theirs.relu, theirs.maxpool]
        maps = nn.Sequential(*parts, theirs.layer1, theirs.layer2, theirs.layer3).eval()(x)
        for block in theirs.layer4.eval():
            inner = block.bn2(block.conv2(block.bn1(block.conv1(maps)).clamp(min=0)))
            maps = inner + (maps if block.downsample is None else block.downsample(maps))
        assert maps.shape == (4, 3, 2, 2)
        torch.testing.assert_close(h, nn.functional.normalize(maps.mean(dim=(2, 3))))

    def test_the_same_seed_draws_the_same_weights(self):
        theirs, ours = torchvision_network(3, 3, seed=7).state_dict(), network(3, head="linear", seed=7)
        assert list(ours.state_dict()) == list(theirs)
        assert all(torch.equal(values, theirs[name]) for name, values in ours.state_dict().items())


@pytest.mark.parametrize(
    ("channels", "head", "last", "total"),
    [
        (1, "coded", [7_953, 0], 2_784_465),
        (1, "linear", [8_393_728, 1_539], 11_171_779),
        (3, "linear", [8_393_728, 1_539], 11_689_512 - 513_000 + 1_539),  # torchvision's but for its fc
    ],
)
def test_the_parameter_counts(channels, head, last, total):
    net = network(channels, head=head)
    parts = [net.conv1, net.bn1, net.layer1, net.layer2, net.layer3, net.layer4, net.fc]
    expected = [3_136 * channels, 128, 147_968, 525_568, 2_099_712, *last]
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == expected
    assert sum(p.numel() for p in net.parameters()) == total


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("height", "width", "dimensions"), [(8, 8, 3), (28, 28, 2), (40, 24, 16)])
def test_points_lie_on_the_unit_sphere(head, height, width, dimensions):
    h = network(1, dimensions, head)(images(4, 1, height, width))
    assert h.shape == (4, dimensions)
    torch.testing.assert_close(h.norm(dim=1), torch.ones(4))


class TestNoOctantIsOutOfReach:
    def test_the_coded_head_starts_with_both_signs_of_each_coordinate(self):
        """It ends in BN, whose output has mean 0 over the batch."""
        h = network()(images(32, 1, 32))
        assert h.amin(dim=0).max() < 0 < h.amax(dim=0).min()

    def test_with_a_last_relu_it_would_have_one(self):
        net = network()
        net.layer4[1].end = nn.ReLU()
        assert net(images(32, 1, 32)).min() == 0

    def test_the_linear_head_is_mirrored_when_its_signs_turn_around(self):
        net, x = network(head="linear").eval(), images(4, 1, 32)
        h = net(x)
        with torch.no_grad():
            net.fc.weight.neg_()
            net.fc.bias.neg_()
        assert torch.equal(net(x), -h)


@pytest.mark.parametrize("head", HEADS)
def test_the_gradient_reaches_all_weights(head):
    net = network(head=head)
    h = net(images(8, 1, 32))
    (h * torch.randn_like(h)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_the_seed_decides():
    one, same, other = (network(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize("head", HEADS)
def test_bf16_autocast_gives_fp32_unit_rows(head):
    net, x = network(head=head).eval(), images(8, 1, 32)
    plain = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = net(x)
    assert h.dtype == torch.float32
    torch.testing.assert_close(h.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(h, plain, rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 3, 28, 28), r"images have 3 channels, .* built for 1\. Build it with channels=3"),
        (torch.zeros(1, 28, 28), r"images have shape \(1, 28, 28\); they must be a batch"),
        (torch.zeros(2, 1, 7, 28), "images have 7x28 pixels; a side must be at least 8"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "images are torch.uint8; they must be floating point"),
    ],
)
def test_wrong_images_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        network()(x)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="channels 0 must be at least 1"):
        SphereResNet(channels=0)
    with pytest.raises(ValueError, match="dimensions 1 must be at least 2"):
        SphereResNet(dimensions=1)
    with pytest.raises(ValueError, match="Unknown head 'printed'. Allowed: coded, linear."):
        SphereResNet(head="printed")


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.models.sphere_resnet")) == (0, 2)
