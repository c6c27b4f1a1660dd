"""The method cells of "Side by side", executed as they stand for each method; its plans, its results page."""

import functools
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pullpush import evaluation, ledger, losses, matrix
from pullpush.runs import Method

ROOT = Path(__file__).parents[1]
STUDY = "side_by_side"
CHAPTER = ROOT / "book" / "experiments" / f"{STUDY}.ipynb"
METHODS = Method.__args__
IMAGES = ("pair", "triplet", "nt_xent", "sup_con", "cc", "rcc", "claws")
TINY = {
    "limit": 120, "batch_size": 60, "epochs": 2, "contrast_steps": 6, "joint_steps": 4, "widths": [16],
    "neighbours": 6, "dimensions": 3, "edge_batch": 40,
}  # fmt: skip


@pytest.fixture
def execute(method_cells):
    """`execute(until="", **parameters)`: the names of the method cells."""
    return functools.partial(method_cells, STUDY, **TINY)


# --- training ---


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_is_measured(execute, method):
    names = execute(method=method)
    metrics, arrays = names["results"][0]
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(0 <= metrics[name] <= 1 for name in ("probe", "knn", "acc", "nmi"))
    assert ("own_acc" in metrics, "own_nmi" in metrics) == (method in ("cc", "rcc", "lnscc"),) * 2
    assert (metrics["train_seconds"] > 0) == (method not in ("untrained", "pixels"))
    assert arrays["flat"].shape == (len(names["test"]), 2)
    expected = {"untrained": 0, "pixels": 0, "lnscc": 6}.get(method, 2)  # blocks of 2 and of 1 steps, 3 and 4
    assert len(arrays["history_loss"]) == (7 if method == "lnscc" else expected)
    assert metrics["weights"] >= {"pixels": 0, "lnscc": 1000}.get(method, 181_248)


def test_every_image_method_sees_as_many_images_in_as_many_steps(execute):
    seen = {}
    for method in IMAGES:
        names = execute(method=method, until="def edge_step", epochs=3)
        sizes, met = [], names["met"]

        def counted(*given, met=met, sizes=sizes):
            parts = met(*given)
            sizes.append(sum(map(len, parts)))
            return parts

        names["met"] = counted
        names["train_images_method"](0)
        seen[method] = sizes
    assert all(sizes == [60] * 6 for sizes in seen.values()), seen  # 3 passes over 120 images in steps of 60


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 64}, "batch_size=64 must be a multiple of 6, .* Try 60 or 66"),
        ({"batch_size": 126}, "at most the 120 training images. Try 114 or 120"),
        ({"crop_size": 17}, "crop_size=17 must be between 18, or the network gives fewer numbers, and 28"),
        ({"crop_size": 29}, "crop_size=29 must be between 18"),
    ],
)
def test_settings_that_do_not_go_together_are_told_before_training(execute, setting, message):
    with pytest.raises(ValueError, match=message):
        execute(until="colours =", **setting)


def test_what_meets_what(execute):
    """With views that change nothing: rows of the parts are what the method says they are."""
    for method in ("pair", "triplet", "nt_xent"):
        names = execute(method=method, until="def edge_step")
        names["view"] = lambda images, stream: images / 255
        stream, everybody = torch.Generator().manual_seed(0), torch.arange(120)
        negative_of = names["samplers"].class_aware_negatives(names["labels"], everybody, stream)
        i = torch.tensor([3, 7, 50, 99])
        parts = names["met"](i, negative_of, stream)
        own, other = (names["prepare"](names["train_images"][j] / 255) for j in (i, negative_of[i]))
        assert torch.equal(parts[0], own) and len(parts) == (3 if method == "triplet" else 2)
        if method == "pair":  # positive, negative, positive, negative
            assert torch.equal(parts[1][::2], own[::2]) and torch.equal(parts[1][1::2], other[1::2])
        else:
            assert torch.equal(parts[1], own)
        if method == "triplet":
            assert torch.equal(parts[2], other)
            assert (names["labels"][i] != names["labels"][negative_of[i]]).all()


def test_claws_compares_the_whole_with_a_piece_that_is_not_enlarged(execute):
    names = execute(method="claws", until="def edge_step", crop_size=20)
    whole, piece = names["met"](torch.arange(5), None, torch.Generator().manual_seed(0))
    assert whole.shape == (5, 1, 28, 28) and piece.shape == (5, 1, 20, 20)
    network = names["make_network"]()
    assert network["f"](whole).shape == network["g"](piece).shape == (5, 32)


def test_losses_are_those_of_the_chapters(execute):
    z = torch.rand(3, 12, 32, generator=torch.Generator().manual_seed(1))
    i = torch.arange(12)
    for method in IMAGES:
        names = execute(method=method, until="def edge_step", temperature=0.4, lam=0.9)
        torch.manual_seed(0)
        network, y = names["make_network"](), names["labels"][:12]
        parts = [names["compared"](part) for part in (z if method == "triplet" else z[:2])]
        a, b = (F.normalize(2 * part - 1, dim=1) for part in z[:2])
        cosine = F.cosine_similarity(z[0], z[1])
        if method == "pair":
            expected = torch.where(i % 2 == 0, 1 - cosine, cosine.clamp(min=0)).mean()
        elif method == "triplet":
            expected = F.triplet_margin_loss(*z)
        elif method == "sup_con":
            expected = losses.sup_con(torch.cat([a, b]), torch.cat([y, y]), 0.4)
        elif method == "claws":
            m = (network["attention"](b) > 0).float()
            guesses = [-network["head"](u).log_softmax(1)[i, y].mean() for u in (a, b)]
            expected = losses.nt_xent(a * m, b * m, 0.4) + sum(guesses) / 2
        elif method == "nt_xent":
            expected = losses.nt_xent(z[0] * 2 - 1, z[1] * 2 - 1, 0.4)
        else:
            heads = [[network[name](u) for u in (a, b)] for name in ("instance", "cluster")]
            contrast = losses.nt_xent(*heads[0], 0.4) + losses.cluster_contrast(*heads[1])
            spread = losses.uniformity(a) + losses.uniformity(b)
            expected = contrast if method == "cc" else 0.9 * contrast + 0.1 * spread
        torch.testing.assert_close(names["loss_of"](network, parts, i), expected)


def test_an_interrupted_lnscc_ends_with_the_same_weights(execute, kept_run, tmp_path, monkeypatch):
    def trained(run):
        return execute(method="lnscc", until="def embeddings", run=run)["train_lnscc"](0)

    whole, history, _ = trained(kept_run(tmp_path / "whole", checkpoints=True))
    names = execute(
        method="lnscc", until="def embeddings", run=kept_run(tmp_path / "broken", checkpoints=True)
    )
    place, edges = names["place_centres"], names["edge_batches"]
    calls = itertools.count()

    def broken(*given):
        if next(calls) == 5:  # the second block of the second phase
            raise KeyboardInterrupt
        return edges(*given)

    names["edge_batches"] = broken
    with pytest.raises(KeyboardInterrupt):
        names["train_lnscc"](0)
    names["edge_batches"] = edges
    assert names["place_centres"] is place
    again, found, _ = names["train_lnscc"](0)
    assert [row["loss"] for row in found] == [row["loss"] for row in history]
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name]), name


# --- scores ---


def test_scores_are_the_librarys_and_do_not_depend_on_the_size_of_numbers(execute):
    names = execute(method="pixels", until="def one_seed")
    z, z_test = names["rows"], names["test_rows"]
    found = names["scores"](z, z_test, 0)
    moved = names["scores"](50 * z + 7, 50 * z_test + 7, 0)
    assert moved == pytest.approx(found, abs=1e-6)
    told = (z, names["labels"], z_test, names["test"].labels)
    assert found["knn"] == evaluation.knn_probe(*told)["accuracy"]
    perfect = F.one_hot(names["labels"], 10).float(), F.one_hot(names["test"].labels, 10).float()
    assert set(names["scores"](*perfect, 0).values()) == {1.0}


def test_clusters_of_its_own_come_from_its_own_head(execute):
    names = execute(method="cc", until="def one_seed")
    network, z = names["make_network"](), F.normalize(torch.randn(9, 32), dim=1)
    assert torch.equal(names["own_clusters"](network, z), network["cluster"](z).argmax(1))
    names = execute(method="lnscc", until="def one_seed")
    network, z = names["lnscc_network"](), torch.randn(9, 3)
    nearest = torch.cdist(z, network["centres"].weight).argmin(1)
    assert torch.equal(names["own_clusters"](network, z), nearest)


# --- the whole notebook ---


@pytest.mark.parametrize("method", ["rcc", "pixels"])
def test_every_figure_is_drawn_and_the_record_holds_what_the_page_draws(
    execute_notebook, monkeypatch, tmp_path, method
):
    monkeypatch.setenv("PULLPUSH_WORK", str(tmp_path))
    given = TINY | {"method": method, "profile": "laptop", "seeds": [0, 1]}
    drawn = execute_notebook(CHAPTER, **given).drawn
    assert set(drawn) == {"views", "scores", "space"} | ({"training"} if method == "rcc" else set())
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["flat"].shape == (360, 2) and arrays["labels"].shape == (360,)
        assert arrays["history_loss"].shape == (2, 2 if method == "rcc" else 0)
        assert ("thumbs" in arrays) == (method == "pixels")
    metrics = json.loads((tmp_path / "record.json").read_text())["metrics"]
    assert [row["seed"] for row in metrics] == [0, 1]


# --- plans ---


@functools.cache  # the plans are this repository's, wherever a test puts its records
def planned(profile):
    return {run.name: run for run in matrix.read_profile(profile) if run.study == STUDY}


def test_the_plans_differ_in_the_method_alone():
    runs = {name: run.parameters for name, run in planned("laptop").items()}
    assert sorted(given["method"] for given in runs.values()) == sorted(METHODS)
    for given in runs.values():
        assert {**given, "method": ""} == {**runs["mnist-rcc"], "method": ""}
    given = runs["mnist-lnscc"]
    assert given["seeds"] == [0, 1, 2, 3, 4] and (given["data"], given["limit"]) == ("mnist", 10_000)
    assert given["contrast_steps"] + given["joint_steps"] == 3000 and given["batch_size"] % 6 == 0
    assert list(planned("quick")) == [STUDY]
    assert not ledger.read_claims(STUDY)  # no paper claims anything about it


# --- the results page ---


@pytest.fixture
def write(write_record):
    """`write(method, level, seeds)`: a made-up record in a repository of its own."""
    plans = {run.parameters["method"]: run for run in planned("laptop").values()}

    def record(method, level=0.7, seeds=5):
        run, random = plans[method], np.random.default_rng(len(method))
        names = ["probe", "knn", "acc", "nmi", "ari", "ami"]
        names += ["own_acc", "own_nmi"] if method in ("cc", "rcc", "lnscc") else []
        floor = method in ("untrained", "pixels")
        metrics = [
            {"seed": seed, "train_seconds": 0.0 if floor else 30 + random.random(), "weights": 181_248}
            | {name: level + random.normal(0, 0.004) for name in names}
            for seed in range(seeds)
        ]
        arrays = {"flat": random.normal(size=(60, 2)).astype(np.float16), "labels": np.arange(60) % 10}
        thumbs = {"thumbs": np.zeros((60, 1, 14, 14), np.uint8)} if method == "pixels" else {}
        write_record(run, metrics, arrays | thumbs, data={"train": "0", "test": "1"})

    return record


def test_without_records_the_page_says_so(write, read_page):
    _, drawn, said = read_page(STUDY)
    assert set(drawn) == {"beside"} and said.count("*Not run yet.*") == 3
    assert "With labels: not run yet." in said
    assert all("(not run yet)" in name for name in drawn["beside"].given[0]["method"])


def test_a_few_records_fill_their_places_alone(write, read_page):
    write("rcc", 0.8, seeds=1)
    write("pixels", 0.5)
    _, drawn, said = read_page(STUDY)
    assert set(drawn) == {"beside", "own", "cost", "over-pixels", "spaces"}
    assert "some have too few seeds to say" in said and "With labels: not run yet." in said
    assert len(drawn["over-pixels"].given[0]) == 1


def test_with_all_records_methods_stand_beside_their_floors(write, read_page):
    for j, method in enumerate(METHODS):
        write(method, 0.5 if method in ("untrained", "pixels") else 0.55 + 0.05 * j)
    _, drawn, said = read_page(STUDY)
    assert set(drawn) == {"beside", "own", "cost", "over-untrained", "over-pixels", "spaces"}
    assert "not run yet" not in said.lower()
    found = r"Without labels: accuracy of a linear probe is highest for LNSCC, <a .* next is <a .*>RCC<"
    assert re.search(found, said)
    assert re.search(
        r"With labels: NMI of k-means is highest for CLAWS.* next is <a .*>SupCon<.*, higher\.", said
    )
    assert "8 of 8 methods are above the untrained network by their interval" in said
    rows = drawn["beside"].given[0].set_index("method")
    assert rows.loc["LNSCC", "told"] == "none; k" and rows.loc["raw pixels", "seconds"] == "0"
    assert drawn["beside"].told["group"] == "kind" and len(rows) == 10
    assert drawn["spaces"].told["images"].shape == (60, 1, 14, 14)
    assert next(iter(drawn["spaces"].given[0])) in ("untrained", "raw pixels")
