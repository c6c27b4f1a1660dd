"""The method cells of "Pair against triplet", executed as they stand, for every way to set its parameters."""

import functools
import math

import pytest
import torch


@pytest.fixture
def execute(method_cells):
    return functools.partial(method_cells, "pair_vs_triplet")


LOSSES = ("pair", "triplet", "margin", "nt_xent", "sup_con")
SETTINGS = [
    *({"arm": arm, "loss": loss} for arm in ("scenario", "matched") for loss in LOSSES),
    {"mining": "semi_hard"},
    {"mining": "hard", "negatives": "blind"},
    {"arm": "matched", "loss": "pair", "mining": "hard", "margin": 0.5},
    {"loss": "pair", "negatives": "blind", "frozen": False},
    {"augment_anchor": True, "flip": False},
    {"augment_anchor": True, "frozen": False, "views": "pad_rotate_scale"},
    {"precision": "bf16", "image_size": 32},
    {"arm": "baseline"},
]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: "-".join(map(str, setting.values())))
def test_every_setting_trains_and_is_measured(execute, setting):
    metrics, arrays = execute(**setting)["results"][0]
    assert all(math.isfinite(value) for value in metrics.values())
    assert 0.5 < metrics["accuracy"] <= 1  # random features of digits already give that
    assert arrays["confusion"].shape == (10, 10)
    if setting.get("arm") == "baseline":
        assert metrics["pixels_accuracy"] > 0.8
    else:
        blind = setting.get("negatives") == "blind"
        assert (metrics["false_negatives"] > 0) == blind


def test_mining_without_tuples_is_refused(execute):
    with pytest.raises(
        ValueError, match="mining=hard chooses among the negatives of tuples, which loss=pair"
    ):
        execute(loss="pair", mining="hard")


def test_frozen_positives_are_the_same_in_every_epoch_and_fresh_ones_are_not(execute):
    for frozen in (True, False):
        names = execute(until="def pair_step", frozen=frozen)
        _, positive, _, _ = names["meet"](torch.Generator().manual_seed(0))
        i = torch.arange(16)
        assert torch.equal(positive(i), positive(i)) == frozen


def test_negatives_do_not_depend_on_views(execute):
    drawn = []
    for views in ("none", "simclr"):
        names = execute(until="def pair_step", views=views)
        drawn.append(names["meet"](torch.Generator().manual_seed(0))[3])
    assert torch.equal(*drawn)


def test_pairs_are_pulled_if_same_and_pushed_if_not(execute):
    """Two points at right angles cost a positive pair 1 and a negative one nothing."""
    pair_loss = execute(until="def pair_step", loss="pair")["pair_loss"]
    z_1, z_2 = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert pair_loss(z_1, z_2, torch.tensor([True])).item() == pytest.approx(1)
    assert pair_loss(z_1, z_2, torch.tensor([False])).item() == pytest.approx(0)
    assert pair_loss(z_1, z_1, torch.tensor([False])).item() == pytest.approx(1)
