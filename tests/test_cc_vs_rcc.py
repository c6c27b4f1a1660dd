"""The method cells of "CC against RCC", executed as they stand, for every way to set its parameters."""

import functools
import math

import numpy as np
import pytest
import torch


@pytest.fixture
def execute(method_cells):
    return functools.partial(method_cells, "cc_vs_rcc")


SETTINGS = [
    {"lam": 1.0},
    {"lam": 0.0, "align_weight": 1.0},
    {"clusters": 5},
    {"clusters": 12, "dimensions": 8},
    {"imbalance": 0.2, "split": "all"},
    {"entropy_sign": -1.0, "include_self": True, "blur": True},
    {"instance_weight": 0.0, "cluster_weight": 2.0, "image_size": 16},
    {"backbone": "resnet18", "image_size": 16},
    {"backbone": "resnet18_linear", "precision": "bf16", "image_size": 16},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: "-".join(map(str, setting.values())))
def test_every_setting_trains_and_is_measured(execute, setting):
    metrics, arrays = execute(**setting)["results"][0]
    assert all(math.isfinite(value) for value in metrics.values())
    assert 0.1 <= metrics["acc"] <= 1
    assert 1 <= metrics["elbow"] <= 30
    assert ("acc_test" in metrics) == (setting.get("split") != "all")
    assert ("occupied" in metrics) == (setting.get("dimensions", 3) == 3)
    assert arrays["contingency"].shape == (10, setting.get("clusters", 10))
    lengths = np.linalg.norm(arrays["h1"].astype(float), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-2)


def test_a_long_tail_keeps_the_first_images_of_each_class(execute):
    names = execute(until="view_families.make", limit=200, imbalance=0.1)
    counts = names["labels"].bincount().tolist()
    assert counts == [round(20 * (1 - 0.1 * c)) for c in range(10)]
    whole = execute(until="view_families.make", limit=None)
    assert len(whole["labels"]) == len(whole["images_of"])


def test_the_total_is_the_weighted_sum(execute):
    names = execute(
        until="def make_network", lam=0.9, instance_weight=2.0, cluster_weight=0.5, align_weight=0.1
    )
    h_a, h_b = (torch.nn.functional.normalize(torch.randn(8, 3)) for _ in range(2))
    loss, l_unif, l_align = names["total"](torch.tensor(3.0), torch.tensor(2.0), h_a, h_b)
    assert loss.item() == pytest.approx(0.9 * (6 + 1) + 0.1 * l_unif.item() + 0.1 * l_align.item(), rel=1e-5)


def test_two_views_of_a_batch_differ_and_keep_their_order(execute):
    names = execute(until="def contrastive_part")
    i = torch.arange(16)
    x_a, x_b = names["two_views"](i, torch.Generator().manual_seed(0))
    assert x_a.shape == x_b.shape == (16, 1, 8, 8)
    assert (x_a != x_b).flatten(1).any(1).all()
    assert x_a.min() >= 0 and x_a.max() <= 1  # no normalisation, as the authors
