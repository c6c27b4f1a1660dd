"""The method cells of "Locally normalised clusters", executed as they stand, for every way to set them."""

import functools
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from pullpush import evaluation, ledger, losses, matrix

CHAPTER = Path(__file__).parents[1] / "book" / "experiments" / "lnscc.ipynb"
TINY = {"limit": 120, "widths": [16], "contrast_steps": 4, "joint_steps": 3, "neighbours": 6, "dimensions": 3}


@pytest.fixture
def execute(method_cells):
    """`execute(until="", **parameters)`: the names of the method cells."""
    return functools.partial(method_cells, "lnscc", **TINY)


@pytest.fixture
def trained(execute):
    """The names of the method cells up to the baselines."""
    return functools.partial(execute, until="def autoencoder")


def train(names, seed=0):
    return names["train_network"](seed, names["x"], names["edges"])


@pytest.fixture
def planted(tmp_path):
    """The path of a table with four groups in eight dimensions, 300 rows, a fifth of them held out."""
    stream = np.random.default_rng(0)
    labels = np.arange(300) % 4
    x = 6 * np.eye(8)[labels] + stream.normal(size=(300, 8))
    np.savez(tmp_path / "planted.npz", x=x.astype(np.float32), y=labels)
    return {"data": str(tmp_path / "planted.npz"), "limit": None, "features": "raw"}


@pytest.fixture
def fake_umap(monkeypatch):
    """In place of umap-learn, which takes half a minute to compile: principal components. Keeps the calls."""
    calls = []

    class UMAP:
        def __init__(self, neighbours, dimensions, **told):
            calls.append({"neighbours": neighbours, "dimensions": dimensions} | told)

        def fit_transform(self, rows):
            return PCA(calls[-1]["dimensions"], random_state=0).fit_transform(rows).astype(np.float32)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    return calls


SETTINGS = [
    {"seeds": [0, 1]},
    {"split": "all", "features": "standard", "precision": "bf16"},
    {"assign": "fc", "precision": "bf16", "widths": [16, 8]},
    {"edge_loss": "umap", "prior": "estimated", "features": "pca"},
    {"clusters": 3, "dropout": 0.3, "learning_rate": 0.008},
    {"clusters": 14, "dimensions": 2, "negatives": 2},
    {"kl_weight": 0.0, "balance_weight": 0.0, "features": "raw"},
    {"joint_steps": 0, "contrast_steps": 1},
    {"contrast_steps": 11, "joint_steps": 25, "batch_size": 100_000},
    {"features": "autoencoder", "n2d_epochs": 2, "clusters": 7},
    {"local_scale": False},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: "-".join(f"{k}={v}" for k, v in one.items()))
def test_every_setting_trains_and_is_measured(execute, setting):
    names = execute(**setting)
    for metrics, arrays in names["results"]:
        assert all(math.isfinite(value) for value in metrics.values())
        assert ("acc_test" in metrics) == (setting.get("split") != "all")
        assert all(0 <= metrics[f"{name}{end}"] <= 1 for name in ("acc", "nmi") for end in ("", "_before"))
        assert metrics["clusters_used"] <= names["k"] == setting.get("clusters", 10)
        assert arrays["contingency"].sum() == len(arrays["found"]) == 120
        assert sorted(arrays["border"].tolist()) == sorted(set(arrays["border"].tolist()))
        assert len(arrays["border"]) == 6
        steps = names["contrast_steps"] + names["joint_steps"]
        assert arrays["history_step"][-1] == steps and f"z{steps}" in arrays and "z0" in arrays
        assert len(arrays["history_step"]) == len(arrays["history_nmi"])


@pytest.mark.parametrize("method", ["kmeans", "pca_kmeans", "spectral", "umap", "n2d"])
def test_every_baseline_finds_planted_groups(execute, planted, fake_umap, method):
    names = execute(method=method, neighbours=10, n2d_epochs=15, seeds=[0, 1], **planted)
    for metrics, arrays in names["results"]:
        assert metrics["nmi"] > (0.7 if method == "n2d" else 0.9), metrics  # so short trained a code is poor
        assert arrays["contingency"].shape == (4, 4) and arrays["contingency"].sum() == 240
        assert ("acc_gmm" in metrics, "acc_kmeans" in metrics) == (method == "umap", method == "n2d")
    asked = [(call["neighbours"], call["dimensions"], call["min_dist"]) for call in fake_umap]
    assert asked == {"umap": [(10, 3, 0.0)] * 2, "n2d": [(20, 4, 0.0)] * 2}.get(method, [])


def test_n2d_is_scored_by_its_mixture(execute, fake_umap):
    names = execute(method="n2d", n2d_epochs=1)
    codes = names["samples_of"](0)[0]
    found = names["baseline"](0, codes)
    z = names["umap_of"](codes.numpy(), 0, 20, 10)
    mixture = GaussianMixture(10, random_state=0).fit_predict(z.astype(np.float64))
    np.testing.assert_array_equal(found[""], mixture)
    np.testing.assert_array_equal(found["_kmeans"], evaluation.kmeans(z, 10, 0)[0])


def test_the_method_finds_planted_groups_and_places_new_rows(execute, planted):
    """Two thirds of a random start's clusters are wrong; edges alone bring the groups together."""
    setting = {"contrast_steps": 60, "joint_steps": 20, "neighbours": 10, "batch_size": 64}
    metrics, _ = execute(**(planted | setting))["results"][0]
    assert metrics["acc_before"] > 0.97 and metrics["acc"] > 0.97 and metrics["acc_test"] > 0.95
    assert metrics["silhouette"] > 0.5
    untrained, _ = execute(**(planted | setting | {"learning_rate": 1e-9}))["results"][0]
    assert untrained["silhouette"] < metrics["silhouette"] - 0.2


def test_a_table_of_the_readers_own_is_clustered(execute, tmp_path):
    rows = [f"{i % 3 * 10 + i % 7 / 10},{i % 3 * -5 + i % 5 / 10},{'abc'[i % 3]}" for i in range(60)]
    (tmp_path / "own.csv").write_text("width,height,label\n" + "\n".join(rows))
    names = execute(data=str(tmp_path / "own.csv"), limit=None, contrast_steps=60, learning_rate=0.01)
    assert (names["classes"], names["k"]) == (("a", "b", "c"), 3)
    assert names["x"].mean(0).abs().max() < 1e-5  # not in [0, 1]: standardised
    assert names["results"][0][0]["acc"] > 0.9


def test_new_rows_are_placed_one_by_one_without_a_graph(trained):
    names = trained()
    network, *_ = train(names)
    for name in ("graph", "edges"):
        names[name] = None
    z = evaluation.embed(network["f"], names["x_test"], names["prepare"])
    q = names["assigned"](network, z)
    torch.testing.assert_close(q.sum(1), torch.ones(len(z)))
    for i in (0, 5):
        alone = evaluation.embed(network["f"], names["x_test"][i : i + 1], names["prepare"])
        torch.testing.assert_close(names["assigned"](network, alone)[0], q[i], rtol=1e-4, atol=1e-5)


def test_held_out_rows_change_nothing(trained):
    names, alone = trained(), trained(split="all")
    assert len(names["test"]) > 0 and alone["test"] is None
    first, second = (train(each)[0].state_dict() for each in (names, alone))
    assert all(torch.equal(first[name], second[name]) for name in first)  # `limit` gives both the same rows


def test_features_first_are_codes_that_each_seed_learns_for_itself(execute):
    names = execute(features="autoencoder", n2d_epochs=3, clusters=7, seeds=[0, 1])
    (x, x_test), (other, _), (again, _) = (names["samples_of"](seed) for seed in (0, 1, 0))
    assert x.shape == (120, 7) and x_test.shape == (len(names["test"]), 7)
    assert torch.equal(x, again) and not torch.allclose(x, other)
    graph_of_codes = names["graph_for"](x)
    assert names["graph_for"](names["x"]) is names["edges"]
    assert not torch.equal(graph_of_codes.columns[:500], names["edges"].columns[:500])
    same = names["labels"][graph_of_codes.rows] == names["labels"][graph_of_codes.columns]
    share = graph_of_codes.weights[same].sum() / graph_of_codes.weights.sum()
    assert names["results"][0][0]["pure"] == pytest.approx(share.item(), rel=1e-4)
    network, *_ = names["train_network"](0, x, graph_of_codes)
    z = evaluation.embed(network["f"], x_test, names["prepare"])
    placed = evaluation.clustering_scores(names["test"].labels, names["assigned"](network, z).argmax(1))
    assert placed["acc"] == names["results"][0][0]["acc_test"]  # a new row goes through the same encoder


def test_labels_change_nothing_but_scores(trained):
    names = trained()
    first = train(names)[0].state_dict()
    other = trained()
    other["labels"] = other["labels"].flip(0)
    second = train(other)[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_a_joint_phase_the_clusters_are_those_of_k_means(trained):
    for assign in ("centres", "fc"):
        names = trained(joint_steps=0, assign=assign)
        network, _, _, before = train(names)
        metrics, found, _ = names["cluster_metrics"](network, before[0], before, names["x_test"])
        np.testing.assert_array_equal(found.numpy(), before[1])
        assert (
            metrics["acc"] == metrics["acc_before"] and metrics["silhouette"] == metrics["silhouette_before"]
        )


def test_the_layer_starts_unsure_enough_to_learn(trained):
    """Two centres differ by a logit of 4 on average; unscaled by hundreds, with nothing left to sharpen."""
    names = trained(assign="fc")
    network = names["make_network"](names["x"].shape[1])
    z = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * 30
    names["place_centres"](network, z.numpy(), 0)
    centres = torch.as_tensor(evaluation.balanced_start(z, 10, seed=0)["centres"])
    layer = network["clusters"]
    logits = centres @ layer.weight.detach().T + layer.bias.detach()
    gaps = logits.diagonal()[:, None] - logits
    assert gaps[~torch.eye(10, dtype=torch.bool)].mean().item() == pytest.approx(4, rel=1e-3)
    moving = z.clone().requires_grad_()
    q = names["assignment"](network, moving)
    assert torch.equal(q.argmax(1), torch.cdist(z, centres).argmin(1))
    losses.cluster_sharpening(q).backward()
    assert 0.3 < q.amax(1).mean() < 0.97
    assert moving.grad.abs().amax(1).gt(1e-9).double().mean() > 0.9


def test_with_both_weights_zero_the_centres_stay(trained):
    for weights, stay in (({"kl_weight": 0.0, "balance_weight": 0.0}, True), ({}, False)):
        names, placed = trained(**weights), {}
        place = names["place_centres"]

        def placing(network, z, seed, place=place, placed=placed):
            given = place(network, z, seed)
            placed["centres"] = network["clusters"].weight.detach().clone()
            return given

        names["place_centres"] = placing
        network = train(names)[0]
        assert torch.equal(network["clusters"].weight, placed["centres"]) == stay


def test_the_loss_of_a_step_is_the_sum_of_its_parts(trained):
    names = trained(kl_weight=0.3, balance_weight=0.7)
    torch.manual_seed(0)
    network = names["make_network"](names["x"].shape[1])
    stream = torch.Generator().manual_seed(0)
    batch = next(names["edge_batches"](names["edges"], 1, stream))
    ends, met = batch
    expected = torch.full((10,), 0.1)
    logged = names["make_step"](network, names["x"], expected)(batch)
    z = network["f"](names["x"][ends])
    m = len(ends) // 2
    pull = [math.log(2 + 1.5769 * (z[i] - z[m + i]).norm().item() ** 1.7902) for i in range(m)]
    push = [
        math.log1p(1 / (1 + 1.5769 * (z[i] - z[m + j]).norm().item() ** 1.7902))
        for i in range(m)
        for j in met[i].tolist()
    ]
    assert len(push) == 10 * m
    assert logged["l_edge"].item() == pytest.approx((sum(pull) + sum(push)) / (11 * m), rel=1e-4)
    q = losses.student_t(z, network["clusters"].weight)
    torch.testing.assert_close(logged["l_kl"], losses.cluster_sharpening(q))
    torch.testing.assert_close(logged["l_size"], losses.size_prior(q, expected))
    parts = logged["l_edge"] + 0.3 * logged["l_kl"] + 0.7 * logged["l_size"]
    torch.testing.assert_close(logged["loss"], parts)
    alone = names["make_step"](network, names["x"])(batch)
    torch.testing.assert_close(alone["loss"], logged["l_edge"])


def test_batches_are_edges_of_the_graph_and_as_many_as_asked_for(trained):
    names = trained(batch_size=40)
    edges, stream = names["edges"], torch.Generator().manual_seed(0)
    known = set(zip(edges.rows.tolist(), edges.columns.tolist(), strict=True))
    batches = list(names["edge_batches"](edges, 700, stream))  # more than one pass
    assert len(batches) == 700 and {len(ends) for ends, _ in batches} == {80}
    for ends, met in batches[::50]:
        assert set(zip(*(part.tolist() for part in ends.chunk(2)), strict=True)) <= known
        assert met.shape == (40, 10)


def test_without_local_normalisation_one_scale_measures_all_distances(trained):
    names = trained(local_scale=False)
    x = names["x"].double()
    far = torch.cdist(x, x).fill_diagonal_(0)
    near = far.topk(6, largest=False)
    scale = near.values[:, 1:].mean()
    weight = torch.zeros(120, 120, dtype=torch.float64)
    weight.scatter_(1, near.indices[:, 1:], (-near.values[:, 1:] / scale).exp())
    weight = weight + weight.T - weight * weight.T
    edges = names["edges"]
    torch.testing.assert_close(
        edges.weights.double(), weight[edges.rows, edges.columns], rtol=1e-4, atol=1e-6
    )
    assert len(edges.rows) == (weight > 0).sum()


@pytest.mark.parametrize("blow", [("contrast", 2), ("joint", 2)], ids=str)
def test_an_interrupted_training_ends_with_the_same_weights(trained, kept_run, tmp_path, blow):
    steps = {"contrast_steps": 20, "joint_steps": 12, "dropout": 0.2}
    whole = trained(run=kept_run(tmp_path / "whole", checkpoints=True), **steps)
    expected, history, *_ = train(whole)
    names = trained(run=kept_run(tmp_path / "broken", checkpoints=True), **steps)
    watch_with = names["watch_with"]

    def broken(network, x, folder, phase):
        watch = watch_with(network, x, folder, phase)

        def watching(epoch):
            if (phase, epoch) == blow:
                raise KeyboardInterrupt
            return watch(epoch)

        return watching

    names["watch_with"] = broken
    with pytest.raises(KeyboardInterrupt):
        train(names)
    names["watch_with"] = watch_with
    found, again, *_ = train(names)
    for name, weights in expected.state_dict().items():
        assert torch.equal(weights, found.state_dict()[name]), name
    numbers = [[{**row, "seconds": 0} for row in rows] for rows in (history, again)]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("clusters", [1, 120])
def test_a_k_that_cannot_be_is_told_before_training(execute, clusters):
    with pytest.raises(ValueError, match=f"clusters={clusters} must be at least 2 and below"):
        execute(clusters=clusters, until="def graph_of")


@pytest.fixture
def run_all(execute_notebook, monkeypatch, tmp_path):
    """`run_all(skip="", **parameters)`: every cell of the chapter, tiny, recorded in `tmp_path`."""
    monkeypatch.setenv("PULLPUSH_WORK", str(tmp_path))
    return functools.partial(execute_notebook, CHAPTER, **TINY, profile="laptop")


def test_every_figure_is_drawn_and_the_arrays_hold_them(run_all, tmp_path):
    names, drawn, _ = run_all(seeds=[0, 1])
    shown = {"samples", "local", "weights", "edge-loss", "training", "embedding", "scores", "contingency"}
    assert shown | {"border"} == set(drawn)
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["flat7"].shape == (60, 2) and arrays["thumbs"].shape == (60, 1, 8, 8)
        assert arrays["contingency"].shape == (2, 10, 10) and arrays["history_nmi"].shape == (2, 7)
        assert arrays["weights"].sum() == pytest.approx(1) and arrays["border_images"].shape == (6, 1, 8, 8)
        np.testing.assert_array_equal(arrays["border_labels"], names["labels"][arrays["border"].astype(int)])
        np.testing.assert_array_equal(arrays["labels"], names["labels"][::2])


@pytest.mark.parametrize("setting", [{}, {"joint_steps": 0}, {"method": "kmeans"}, {"data": "own"}], ids=str)
def test_recorded_runs_do_without_the_teaching_cells(run_all, tmp_path, planted, setting):
    table = planted | {"dimensions": 2} if setting.get("data") == "own" else {}
    drawn = run_all(skip="teaching", **(setting | table)).drawn
    steps = setting.get("method") is None
    assert set(drawn) == {"scores"} | ({"training", "weights"} if steps else set()) | (
        {"border"} if steps and not table else set()
    )
    assert (tmp_path / "record.json").stat().st_size > 0
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert ("flat0" in arrays) == steps and ("thumbs" in arrays) == (steps and not table)


# --- plans and claims ---


def planned(profile):
    return {run.name: run.parameters for run in matrix.read_profile(profile) if run.study == "lnscc"}


def test_baselines_and_controls_differ_from_the_method_in_what_they_are_named_for():
    for name, given in planned("laptop").items():
        kind = name.split("-", 1)[1]
        method = planned("laptop")[f"{name.split('-')[0]}-lnscc"]
        differ = {key for key in given if given[key] != method[key]} - {"seeds"}
        differ -= {"n2d_epochs"} if kind.startswith("code") else set()  # of its autoencoder
        expected = {
            "lnscc": 0,
            "edges-alone": 2,  # both terms
            "uniform": 2,  # the prior and its weight
            "no-sizes": 2,  # the same two
            "code-no-sizes": 3,  # the same two, after the features
        }.get(kind, 1)
        assert len(differ) == expected, (name, differ)
        if kind in ("kmeans", "pca", "spectral", "umap", "n2d"):
            assert differ == {"method"}


def test_laptop_and_paper_runs_are_of_whole_data_sets_in_the_releases_network():
    for profile, steps in (("laptop", (1500, 1500)), ("paper", (10_000, 40_000))):
        for name, given in planned(profile).items():
            assert given["limit"] is None and given["widths"] == [512, 256] and given["batch_size"] == 500
            asked = (5000, 5000) if profile == "laptop" and name[:5] in ("mnist", "fashi") else steps
            assert (given["contrast_steps"], given["joint_steps"]) == asked, name


def test_runs_with_a_claim_have_five_seeds():
    few = set()
    for one in ledger.judge("lnscc"):
        runs = planned(one.claim.profile)
        few |= {run for part in one.comparisons for run in part.runs if len(runs[run]["seeds"]) < 5}
    assert not few


def test_published_numbers_are_of_other_methods_and_none_is_taken_for_the_papers():
    assert ledger.reported("lnscc").empty
    table = ledger.reported("lnscc", "published")
    assert not table.index.str.endswith("-lnscc").any()
    assert table[["acc", "nmi"]].stack().dropna().between(0, 1).all()
    assert set(table["checked"]) <= {"both", "acc", "nmi", "no"} and table["source"].notna().all()
    assert all(math.isnan(part.paper) for one in ledger.judge("lnscc") for part in one.comparisons)
