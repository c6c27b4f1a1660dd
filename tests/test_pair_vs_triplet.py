"""The method cells of "Pair against triplet", executed as they stand, for every way to set its parameters."""

import math
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

CHAPTER = Path(__file__).parents[1] / "book" / "experiments" / "pair_vs_triplet.ipynb"


class Unkept:
    """Stands where a run stands: keeps nothing, so that every seed is computed here."""

    identity = ""

    def uses(self, digests: dict[str, str]) -> None: ...

    def checkpoint(self, seed: int) -> None: ...

    def seed(self, seed: int, one_seed: Any) -> Any:
        return one_seed(seed)


def execute(until: str = "", **parameters: Any) -> dict[str, Any]:
    """The names that the parameters cell, the imports and the method cells define, at a size of seconds.

    until: stop before the cell that holds this text.
    """
    cells = [cell for cell in nbformat.read(CHAPTER, 4).cells if cell.cell_type == "code"]
    tagged = {
        tag: [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]
        for tag in ("parameters", "method")
    }
    imports = next(cell.source for cell in cells if "runs.begin" in cell.source).split("run = runs.begin")[0]
    names: dict[str, Any] = {"run": Unkept()}
    exec(tagged["parameters"][0], names)
    names |= {"limit": 200, "epochs": 1, "seeds": [0], "splits": 1, "batch_size": 32} | parameters
    for source in (imports, *tagged["method"]):
        if until and until in source:
            break
        exec(source, names)
    return names


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
def test_every_setting_trains_and_is_measured(setting):
    metrics, arrays = execute(**setting)["results"][0]
    assert all(math.isfinite(value) for value in metrics.values())
    assert 0.5 < metrics["accuracy"] <= 1  # random features of digits already give that
    assert arrays["confusion"].shape == (10, 10)
    if setting.get("arm") == "baseline":
        assert metrics["pixels_accuracy"] > 0.8
    else:
        blind = setting.get("negatives") == "blind"
        assert (metrics["false_negatives"] > 0) == blind


def test_mining_without_tuples_is_refused():
    with pytest.raises(
        ValueError, match="mining=hard chooses among the negatives of tuples, which loss=pair"
    ):
        execute(loss="pair", mining="hard")


def test_frozen_positives_are_the_same_in_every_epoch_and_fresh_ones_are_not():
    for frozen in (True, False):
        names = execute(until="def pair_step", frozen=frozen)
        _, positive, _, _ = names["meet"](torch.Generator().manual_seed(0))
        i = torch.arange(16)
        assert torch.equal(positive(i), positive(i)) == frozen


def test_negatives_do_not_depend_on_views():
    drawn = []
    for views in ("none", "simclr"):
        names = execute(until="def pair_step", views=views)
        drawn.append(names["meet"](torch.Generator().manual_seed(0))[3])
    assert torch.equal(*drawn)


def test_pairs_are_pulled_if_same_and_pushed_if_not():
    """Two points at right angles cost a positive pair 1 and a negative one nothing."""
    pair_loss = execute(until="def pair_step", loss="pair")["pair_loss"]
    z_1, z_2 = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert pair_loss(z_1, z_2, torch.tensor([True])).item() == pytest.approx(1)
    assert pair_loss(z_1, z_2, torch.tensor([False])).item() == pytest.approx(0)
    assert pair_loss(z_1, z_1, torch.tensor([False])).item() == pytest.approx(1)
