"""The method cells of "Pair against triplet", executed as they stand, for every way to set its parameters."""

import functools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from pullpush import figures, samplers
from pullpush.parameters import code_cells, read_notebook

ROOT = Path(__file__).parents[1]
CHAPTER = ROOT / "book" / "experiments" / "pair_vs_triplet.ipynb"
RECORDS = ROOT / "papermill_runs"


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


# --- what the chapter says of its own figures and parameters ---


def cell_with(text):
    """The source of the chapter's only code cell that holds `text`."""
    found = [cell for cell in code_cells(read_notebook(CHAPTER)) if text in cell]
    assert len(found) == 1
    return found[0]


def test_the_alt_text_of_the_training_tells_what_happened(monkeypatch):
    told = {}
    monkeypatch.setattr(figures, "curves", lambda *_, **given: told.update(given))
    rising = {"epoch": [1, 2, 3], "loss": [0.5, 0.7, 0.9], "d_positive": [1, 1, 1], "d_negative": [2, 2, 2]}
    arrays = {f"history_{name}": np.array(values) for name, values in rising.items()}
    kept = [SimpleNamespace(seed=seed, arrays=arrays) for seed in (0, 1)]
    given = {"arm": "scenario", "loss": "triplet", "epochs": 3, "seeds": [0, 1], "results": kept, "run": None}
    exec(cell_with('"training",'), given | {"pd": pd, "figures": figures})
    assert "the loss goes from 0.5 to 0.9;" in told["alt"]


@pytest.mark.parametrize(("limit", "said"), [(25, "limit=25 gives 20 anchors: 2 of each class"), (20, "")])
def test_a_limit_that_is_not_kept_is_told(monkeypatch, capsys, limit, said):
    monkeypatch.setattr(figures, "image_grid", lambda *_, **__: None)
    given = {
        "limit": limit, "per_class": 2, "anchors": range(20), "labels": torch.arange(10).repeat(12),
        "train": SimpleNamespace(classes=range(10)), "train_images": torch.zeros(120, 1, 8, 8),
        "run": None, "data": "digits", "samplers": samplers, "figures": figures,
    }  # fmt: skip
    exec(cell_with('"images",'), given)
    printed = capsys.readouterr().out
    assert printed.startswith(said) and bool(printed) == bool(said)


def test_the_results_page_says_n_and_the_measured_share_of_false_negatives(read_page):
    page = read_page("pair_vs_triplet")
    recorded = [json.loads(path.read_text()) for path in RECORDS.glob("*/pair_vs_triplet/*/record.json")]
    shares = [
        np.mean([row["false_negatives"] for row in one["metrics"]])
        for one in recorded
        if one["profile"] == "laptop" and one["parameters"].get("negatives") == "blind"
    ]
    for share in (min(shares), max(shares)):
        assert f"{100 * share:.1f} %" in page.said
    for name in ("heat", "spread"):
        assert "mean over n = 5 seeds" in page.drawn[name].told["caption"]
