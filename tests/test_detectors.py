"""Each detector on a training that is well and on one that fails, against counts by hand and closed forms."""

import math

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from pullpush import detectors, losses, views


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def pictures(n: int, side: int = 8) -> torch.Tensor:
    return torch.randint(
        256, (n, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_collapse_is_uniformity_of_directions():
    z = rows(50, 8)
    unit = z / z.norm(dim=1, keepdim=True)
    pairs = torch.pdist(unit.double()) ** 2
    assert detectors.collapse(z) == pytest.approx(math.log((-2 * pairs).exp().mean()), abs=1e-5)
    assert detectors.collapse(z * rows(50, 1, 1).abs()) == pytest.approx(detectors.collapse(z), abs=1e-5)
    assert detectors.collapse(torch.ones(9, 4)) == pytest.approx(0, abs=1e-6)
    assert detectors.collapse(torch.tensor([[1.0, 0], [-3, 0]])) == pytest.approx(-8)


@pytest.mark.parametrize(("clusters", "k", "empty"), [([0, 1, 2], 3, 0), ([1, 1, 1], 3, 2), ([0, 4], 10, 8)])
def test_empty_clusters_are_counted(clusters, k, empty):
    assert detectors.empty_clusters(clusters, k) == empty
    assert detectors.empty_clusters(torch.tensor(clusters), k) == empty


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ([0, 3], "clusters from 0 to 3: with k=3, 0 to 2"),
        ([-1, 0], "from -1 to 0"),
        ([[0]], r"shape \(1, 1\)"),
        ([0.5], "float32"),
    ],
)
def test_what_is_no_cluster_is_refused(clusters, message):
    with pytest.raises(ValueError, match=message):
        detectors.empty_clusters(clusters, 3)


def test_views_of_one_image_differ_unless_drawn_once_a_batch():
    image = pictures(1, 16)[0]
    each = views.make("simclr", 16, flip=0.0, jitter_probability=0.0, blur=0.0)
    once = v2.RandomResizedCrop(16, antialias=True)
    state = torch.random.get_rng_state()
    assert detectors.different_views(each, image) == 10
    assert detectors.different_views(each, image, n=4) == 4
    assert detectors.different_views(lambda images, stream: once(images.float()), image) == 1
    assert detectors.different_views(views.make("none", 16), image) == 1
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(ValueError, match=r"image has shape \(1, 1, 16, 16\): give one image"):
        detectors.different_views(each, image[None])


def test_rows_of_one_source_on_both_sides_leak():
    source = torch.arange(100).repeat_interleave(4)
    z, labels = rows(100, 16)[source] + 0.01 * rows(400, 16, 1), torch.arange(100) % 10
    mixed = torch.arange(400) % 4 < 3  # the fourth row of each source is for testing
    whole = source < 75
    leaks = detectors.leakage(z[mixed], source[mixed], z[~mixed], source[~mixed], labels)
    clean = detectors.leakage(z[whole], source[whole], z[~whole], source[~whole], labels)
    assert leaks == 1.0  # every row has a sister
    assert clean == pytest.approx(0.1, abs=0.04)
    with pytest.raises(ValueError, match="shuffles=0 is not possible"):
        detectors.leakage(z, source, z, source, labels, shuffles=0)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(16), nn.Dropout(0.5)])
def test_a_mode_left_on_shows_and_nothing_is_changed(layer):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), layer)
    images, before = pictures(65), {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    assert detectors.mode_shift(model.train(), images, views.normalize) > 0.1
    assert model.training and all(
        torch.equal(value, before[name]) for name, value in model.state_dict().items()
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert detectors.mode_shift(model.eval(), images, views.normalize) < 1e-5


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("n", [2, 64, 300])
def test_equal_embeddings_tell_how_many_are_compared(n, temperature):
    assert detectors.samples_seen(lambda a, b: losses.nt_xent(a, b, temperature), n) == pytest.approx(
        n, rel=1e-4
    )

    def halves(a, b):
        parts = zip(a.chunk(2), b.chunk(2), strict=True)
        return torch.stack([losses.nt_xent(x, y, temperature) for x, y in parts]).mean()

    assert detectors.samples_seen(halves, n) == pytest.approx(n / 2, rel=1e-4)
