"""EfficientNet-B0 against torchvision's own: the same numbers from the same weights, and another stem."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from pullpush import models
from pullpush.models import EfficientNetB0

COUNTS = [928, 1_448, 16_714, 46_640, 242_930, 543_148, 2_026_348, 717_232, 412_160]


def network(channels: int = 3, small_input: bool = False, seed: int = 0) -> EfficientNetB0:
    torch.manual_seed(seed)
    return EfficientNetB0(channels, small_input)


def images(n: int, height: int, width: int, channels: int = 3, seed: int = 1) -> Tensor:
    """Random images in [0, 1]."""
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


def test_it_is_torchvisions_without_the_classifier():
    """In training mode: with the averages of fresh BN layers, signals fade away before they reach the end."""
    theirs, net, x = efficientnet_b0(), network(), images(4, 48, 80)
    net.features.load_state_dict(theirs.features.state_dict())
    theirs.classifier = torch.nn.Identity()
    with torch.no_grad():
        torch.manual_seed(1)
        h = net(x)
        torch.manual_seed(1)
        torch.testing.assert_close(h, theirs(x))
    assert h.shape == (4, 1280)
    assert h.std() > 0.1


def test_the_parameter_counts():
    net = network()
    assert [sum(p.numel() for p in part.parameters()) for part in net.features] == COUNTS
    assert sum(p.numel() for p in net.parameters()) == 4_007_548
    assert sum(p.numel() for p in network(1).parameters()) == 4_007_548 - 2 * 288
    assert sum(p.numel() for p in network(small_input=True).parameters()) == 4_007_548


@pytest.mark.parametrize(
    ("height", "width", "small_input", "sides"),
    [
        (120, 190, False, [(60, 95), (60, 95), (30, 48), (15, 24), (8, 12), (8, 12), *[(4, 6)] * 3]),
        (32, 32, False, [(16, 16), (16, 16), (8, 8), (4, 4), (2, 2), (2, 2), *[(1, 1)] * 3]),
        (32, 32, True, [(32, 32), (32, 32), (16, 16), (8, 8), (4, 4), (4, 4), *[(2, 2)] * 3]),
    ],
)
def test_the_shapes(height, width, small_input, sides):
    net, maps = network(small_input=small_input).eval(), images(1, height, width)
    outputs = [32, 16, 24, 40, 80, 112, 192, 320, 1280]
    with torch.no_grad():
        assert net(maps).shape == (1, 1280)
        for part, channels, side in zip(net.features, outputs, sides, strict=True):
            maps = part(maps)
            assert maps.shape == (1, channels, *side)


def test_the_small_stem_changes_the_stride_alone():
    """With stride 1, every second pixel of the first convolution is what stride 2 computes."""
    large, small, x = network(), network(small_input=True), images(2, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(large.parameters(), small.parameters(), strict=True))
    torch.testing.assert_close(small.features[0][0](x)[..., ::2, ::2], large.features[0][0](x))
    one_channel = network(1, small_input=True)
    assert one_channel.features[0][0](images(2, 32, 32, 1)).shape == (2, 32, 32, 32)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_stem_is_drawn_with_the_variance_of_fan_out(channels):
    weights = torch.cat([network(channels, seed=s).features[0][0].weight.flatten() for s in range(3)])
    assert weights.var().item() == pytest.approx(2 / (9 * 32), rel=0.2)


def test_the_seed_decides_weights_and_the_blocks_left_out():
    one, same, other = (network(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["features.0.0.weight"], other["features.0.0.weight"])
    net, x = network(small_input=True), images(4, 16, 16)
    torch.manual_seed(5)
    first, second = net(x), net(x)
    torch.manual_seed(5)
    torch.testing.assert_close(net(x), first)
    assert not torch.allclose(first, second)


def test_the_gradient_reaches_all_weights():
    torch.manual_seed(0)
    net = network(small_input=True)
    for part in net.features.modules():
        if type(part).__name__ == "StochasticDepth":
            part.p = 0.0  # one that is left out has no gradient
    h = net(images(4, 16, 16))
    (h * torch.randn_like(h)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert sum(bool(p.grad.any()) for p in net.parameters()) == len(list(net.parameters()))


def test_bf16_autocast_gives_fp32():
    net = network(small_input=True).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(images(2, 16, 16)).dtype == torch.float32


def test_torchvision_is_imported_only_when_a_network_is_built():
    """Its import takes seconds, which no other study should wait for."""
    files = Path(models.__file__).parent.glob("*.py")
    imports = [line for file in files for line in file.read_text().splitlines() if "import" in line.split()]
    found = [line for line in imports if "torchvision" in line]
    assert len(found) == 1 and found[0].startswith("    ")  # within a function


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 28, 28), r"images have 1 channels, .* built for 3\. Build it with channels=1"),
        (torch.zeros(2, 3, 7, 28), "images have 7x28 pixels; a side must be at least 8"),
        (torch.zeros(2, 3, 28, 28, dtype=torch.uint8), "images are torch.uint8; they must be floating point"),
    ],
)
def test_wrong_images_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        network()(x)


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match="channels 0 must be at least 1"):
        EfficientNetB0(channels=0)


# ------------------------------------------------------------------------------------------------- pretrained


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Where torch keeps weights; nothing there yet, and no network."""

    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    return tmp_path / "checkpoints"


def test_pretrained_starts_from_the_weights_that_torchvision_keeps(hub):
    hub.mkdir()
    torch.manual_seed(5)
    kept = efficientnet_b0()
    torch.save(kept.state_dict(), hub / EfficientNet_B0_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    net = EfficientNetB0(small_input=True, pretrained=True)
    for name, weight in net.features.state_dict().items():
        assert torch.equal(weight, kept.features.state_dict()[name]), name
    assert net(images(2, 32, 32)).shape == (2, 1280)


def test_without_weights_and_network_the_remedy_is_told(hub):
    with pytest.raises(OSError, match=rf"no network.*Put https://\S+\.pth into {hub}"):
        EfficientNetB0(pretrained=True)


def test_pretrained_weights_are_for_colour():
    with pytest.raises(ValueError, match="channels=1: pretrained weights are for images of 3 channels"):
        EfficientNetB0(channels=1, pretrained=True)
