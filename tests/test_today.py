"""The method cells of "What would we do today?", executed as they stand; its plans, its results page."""

import functools
import itertools
import json
import math
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pullpush import figures, ledger, losses, matrix, records, samplers
from pullpush.runs import Objective

ROOT = Path(__file__).parents[1]
STUDY = "today"
CHAPTER = ROOT / "book" / "experiments" / f"{STUDY}.ipynb"
PAGE = ROOT / "book" / "results" / f"{STUDY}.ipynb"
LOSSES = Objective.__args__
PARTS = {"cross_entropy": 1, "nt_xent": 2, "sup_con": 2, "triplet": 3, "semi_hard": 3}
TINY = {"limit": 120, "batch_size": 60, "epochs": 2}
PRACTICUM = {
    "loss": "triplet", "views": "simclr", "flip": True, "fresh": False, "descent": "sgd",
    "schedule": "constant", "learning_rate": 0.15,
}  # fmt: skip


@pytest.fixture
def execute(method_cells):
    """`execute(until="", **parameters)`: the names of the method cells."""
    return functools.partial(method_cells, STUDY, **TINY)


# --- training ---


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_and_is_measured(execute, loss):
    metrics, arrays = execute(loss=loss)["results"][0]
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"validation", "accuracy", "top3_running", "knn30", "train_test"} <= set(metrics)
    assert metrics["weights"] == 181_248  # the head of cross-entropy is not part of the network
    assert len(arrays["history_loss"]) == len(arrays["history_knn"]) == 6 // PARTS[loss]
    assert ((arrays["history_knn"] >= 0) & (arrays["history_knn"] <= 1)).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_budget_is_the_same_for_every_loss(execute, loss):
    """Counted at the network's door: 3 n images an epoch, whatever meets."""
    names = execute(loss=loss, until="def one_seed")
    forward, sizes = names["models"].PracticumNet.forward, []

    def counted(self, images):
        sizes.append(len(images))
        return forward(self, images)

    names["watch"] = lambda f: {}
    names["models"].PracticumNet.forward = counted
    try:
        names["train_network"](0)
    finally:
        names["models"].PracticumNet.forward = forward
    assert sum(sizes) == 2 * 3 * 120
    assert max(sizes) * PARTS[loss] == 60


def test_with_the_practicums_settings_it_is_the_practicum_to_the_bit(execute, method_cells):
    given = {"data": "digits", "limit": None, "epochs": 2}
    names = execute(**given, **PRACTICUM, batch_size=768, until="def one_seed")
    f, history = names["train_network"](3)
    chapter = method_cells(
        "pair_vs_triplet", until="def practicum_scores", **given, batch_size=256, learning_rate=0.15
    )
    model, expected = chapter["train_network"](3)
    assert [row["loss"] for row in history] == [row["loss"] for row in expected]
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, f.state_dict()[name]), name


def test_an_interrupted_training_ends_with_the_same_weights(execute, kept_run, tmp_path):
    """Momentum, and a rate that depends on how much is done."""

    def cells(folder):
        run = kept_run(tmp_path / folder, checkpoints=True)
        return execute(run=run, descent="nesterov", learning_rate=0.05, epochs=4, until="def one_seed")

    whole, history = cells("whole")["train_network"](0)
    names, batches = cells("broken"), samplers.batches
    calls = itertools.count()

    def broken(*given):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return batches(*given)

    names["samplers"].batches = broken
    try:
        with pytest.raises(KeyboardInterrupt):
            names["train_network"](0)
    finally:
        names["samplers"].batches = batches
    again, found = names["train_network"](0)
    assert [row["loss"] for row in found] == [row["loss"] for row in history]
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name]), name


# --- schedules ---


def test_rates_rise_and_fall_as_their_names_say(execute):
    t = np.linspace(0, 1, 1001)
    rates = {}
    for schedule in ("constant", "cosine", "one_cycle"):
        names = execute(schedule=schedule, learning_rate=0.2, until="rounds, rest")
        rates[schedule] = np.array([names["rate"](share) for share in t])
    assert (rates["constant"] == 0.2).all()
    assert rates["cosine"] == pytest.approx(0.1 * (1 + np.cos(np.pi * t)))
    top = rates["one_cycle"].argmax()
    assert t[top] == 0.25 and rates["one_cycle"][top] == pytest.approx(0.2)
    rises = np.diff(rates["one_cycle"]) > 0
    assert rises[:top].all() and not rises[top:].any()
    assert rates["one_cycle"][0] == pytest.approx(0.01) and rates["one_cycle"][-1] == pytest.approx(0)
    assert np.abs(np.diff(rates["one_cycle"])).max() < 0.001  # no jump


@pytest.mark.parametrize(("descent", "kind"), [("sgd", "SGD"), ("nesterov", "SGD"), ("adam", "AdamW")])
def test_every_step_has_the_rate_of_the_schedule(execute, descent, kind):
    names = execute(descent=descent, learning_rate=0.01, until="def one_seed")
    make, seen = names["make_optimizer"], []

    def watched(weights):
        optimizer = make(weights)
        optimizer.register_step_pre_hook(lambda one, *_: seen.append(one.param_groups[0]["lr"]))
        assert type(optimizer).__name__ == kind
        assert optimizer.param_groups[0].get("momentum", 0) == (0.9 if descent == "nesterov" else 0)
        return optimizer

    names["make_optimizer"] = watched
    names["train_network"](0)
    assert seen == pytest.approx([names["rate"](done / 12) for done in range(12)])


# --- images, views and losses ---


def test_choices_tests_and_training_have_images_of_their_own(execute):
    names = execute(until="SOFTER", limit=1000)
    chosen, spare = set(names["chosen"].tolist()), set(names["spare"].tolist())
    assert len(chosen) == 1000 and not chosen & spare and len(chosen | spare) == len(names["train"])
    assert len(names["images"]) == 1000 and sorted(names["anchors"].tolist()) == list(range(1000))


def test_a_choice_never_looks_at_a_test_image(execute):
    names = execute(judge="validation", until="def one_seed")
    f, history = names["train_network"](0)
    names["test"] = None
    assert set(names["scores"](f, 0)) == {"validation"}
    assert all(math.isnan(row["knn"]) for row in history)


def test_soft_views_leave_what_they_say(execute):
    plain = torch.full((40, 3, 28, 28), 90, dtype=torch.uint8)
    plain[:, 2] = 200
    stream = torch.Generator().manual_seed(0)
    half = torch.zeros(200, 1, 28, 28, dtype=torch.uint8)
    half[..., 14:] = 255  # dark left, light right
    for views, keeps_colours in (("crop", True), ("soft", False), ("simclr", False)):
        names = execute(views=views, flip=False, until="def meet")
        seen = names["view"](plain, stream)
        assert torch.equal(seen, plain / 255) == keeps_colours
        sides = names["view"](half, stream).mean((1, 2))  # (n, columns)
        assert (sides[:, 0] <= sides[:, -1] + 1e-6).all()  # never mirrored
    mirrored = execute(views="crop", flip=True, until="def meet")["view"](half, stream).mean((1, 2))
    assert 0.3 < (mirrored[:, 0] > mirrored[:, -1]).float().mean() < 0.55


@pytest.mark.parametrize("fresh", [True, False])
def test_what_meets_what(execute, fresh):
    """With views that change nothing: the parts are anchor, anchor, negative, in the order of the labels."""
    names = execute(loss="triplet", fresh=fresh, until="WARM_UP")
    names["view"] = lambda images, stream: images / 255
    met, told = names["meet"](torch.Generator().manual_seed(0))
    i = torch.tensor([3, 50, 7, 99])
    own, y = (part[names["anchors"][i]] for part in (names["images"], names["labels"]))
    anchor, positive, negative = met(i)
    expected = names["prepare"](own)
    torch.testing.assert_close(anchor, expected)
    torch.testing.assert_close(positive, expected)
    assert torch.equal(told(i)[0], y) and (told(i)[1] != y).all()
    rows = names["prepare"](names["images"])
    which = [(rows - one).abs().sum((1, 2, 3)).argmin() for one in negative]
    assert torch.equal(names["labels"][torch.stack(which)], told(i)[1])


def test_losses_are_those_of_the_chapters(execute):
    z = torch.rand(3, 12, 32, generator=torch.Generator().manual_seed(1))
    y = torch.arange(12) % 4
    y_negative = (y + 1) % 4
    unit = [F.normalize(2 * part - 1, dim=1) for part in z]
    head = torch.nn.Linear(32, 10)
    far = torch.cdist(z[0], z[2]).masked_fill(y[:, None] == y_negative, torch.inf)
    beyond = far.masked_fill(far <= (z[0] - z[1]).norm(dim=1, keepdim=True), torch.inf)
    assert beyond.isfinite().any(1).all()
    expected = {
        "triplet": F.triplet_margin_loss(*z),
        "semi_hard": F.triplet_margin_loss(z[0], z[1], z[2][beyond.argmin(1)]),
        "nt_xent": losses.nt_xent(unit[0], unit[1], 0.3),
        "sup_con": losses.sup_con(torch.cat(unit[:2]), torch.cat([y, y]), 0.3),
        "cross_entropy": -head(z[0]).log_softmax(1)[torch.arange(12), y].mean(),
    }
    for loss, value in expected.items():
        names = execute(loss=loss, temperature=0.3, until="def meet")
        u = [names["compared"](part) for part in z[: PARTS[loss]]]
        torch.testing.assert_close(names["loss_of"](head, u, y, y_negative), value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 5}, "epochs=5 must be even for loss=sup_con, or budgets differ. Try 6"),
        ({"batch_size": 64}, "batch_size=64 must be a multiple of 6, or budgets differ. Try 66"),
        ({"judge": "validation", "limit": None}, "needs 300 training images to spare, limit=None leaves 0"),
    ],
)
def test_settings_that_do_not_go_together_are_told_before_training(execute, setting, message):
    with pytest.raises(ValueError, match=message):
        execute(until="few =", **setting)


# --- the whole notebook ---


@pytest.mark.parametrize("judge", ["test", "validation"])
def test_every_figure_is_drawn_and_the_record_holds_what_the_page_draws(monkeypatch, tmp_path, judge):
    drawn = {}
    for kind in ("image_grid", "curves", "show", "table"):
        monkeypatch.setattr(figures, kind, lambda name, *given, **told: drawn.update({name: (given, told)}))
    monkeypatch.setenv("PULLPUSH_WORK", str(tmp_path))
    names = {}
    for cell in nbformat.read(CHAPTER, 4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.tags:
                names |= TINY | {"judge": judge, "profile": "laptop", "seeds": [0, 1]}
    assert set(drawn) == {"views", "rate", "scores"} | ({"training"} if judge == "test" else set())
    for theme in figures.THEMES:
        drawn["rate"][1]["still"](theme)
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["history_loss"].shape == arrays["history_knn"].shape == (2, 3)
    metrics = json.loads((tmp_path / "record.json").read_text())["metrics"]
    assert [row["seed"] for row in metrics] == [0, 1]
    assert all(("accuracy" in row) == (judge == "test") and "validation" in row for row in metrics)


# --- plans ---

SETTINGS = ("loss", "views", "flip", "fresh", "batch_size", "descent", "schedule", "learning_rate")
SETTINGS += ("weight_decay", "temperature")
STAGES = {
    "steps": {"batch_size", "descent", "schedule", "learning_rate", "weight_decay"},
    "loss": {"loss"},
    "views": {"views", "flip", "fresh"},
    "temperature": {"temperature"},
}


@functools.cache  # the plans are this repository's, wherever a test puts its records
def planned(profile):
    return {run.name: run for run in matrix.read_profile(profile) if run.study == STUDY}


def differ(one, other):
    return {name for name in SETTINGS if one[name] != other[name]}


@pytest.mark.parametrize("data", ["mnist", "cifar10"])
def test_tries_change_one_thing_at_a_time_and_see_no_test_label(data):
    runs = {name: run.parameters for name, run in planned("laptop").items()}
    tries = {name: given for name, given in runs.items() if name.startswith(f"{data}-select-")}
    assert 8 <= len(tries) <= 12
    first, stages = next(iter(tries.values())), list(STAGES)
    assert {name: first[name] for name in PRACTICUM} == PRACTICUM and first["batch_size"] == 3072
    earlier, kept = [], []
    for stage, allowed in STAGES.items():
        here = [given for name, given in tries.items() if name.split("-")[2] == stage]
        if kept:  # all tries of a stage start from one of those before it
            assert any(all(differ(given, base) <= allowed for given in here) for base in earlier), stage
        kept += here
        earlier = list(kept)
    assert len(kept) == len(tries) and stages[0] == "steps"
    assert all(given["judge"] == "validation" and given["data"] == data for given in tries.values())
    assert all((given["seeds"], given["epochs"], given["limit"]) == ([0], 4, 10_000) for given in kept)
    assert any(not differ(runs[f"{data}-today"], given) for given in kept), "today was never tried"


@pytest.mark.parametrize("data", ["mnist", "cifar10"])
def test_rows_hold_network_images_and_budget_and_lack_one_part_each(data):
    runs = {name: run.parameters for name, run in planned("laptop").items()}
    rows = {name: given for name, given in runs.items() if re.fullmatch(f"{data}-(?!select).*", name)}
    today, old = rows[f"{data}-today"], rows[f"{data}-practicum"]
    for given in rows.values():
        assert given["judge"] == "test" and (given["limit"], given["epochs"]) == (10_000, 10)
        assert (given["data"], given["precision"]) == (data, "fp32") and len(given["seeds"]) >= 3
    assert today["seeds"] == old["seeds"] == [0, 1, 2, 3, 4]
    for stage, part in list(STAGES.items())[:3]:
        less = rows.get(f"{data}-less-{stage}")
        assert (less is None) == (not differ(today, old) & part), stage  # nothing to give back
        if less:
            assert differ(less, today) <= part and differ(less, old) <= set(SETTINGS) - part, stage
    assert differ(rows[f"{data}-labels"], today) == {"loss"}
    assert {name: old[name] for name in PRACTICUM} == PRACTICUM


def test_the_paper_profile_has_the_settings_that_the_laptop_chose():
    laptop, paper = planned("laptop"), planned("paper")
    assert set(paper) == {
        f"{data}-{name}" for data in ("mnist", "cifar10") for name in ("today", "practicum")
    }
    for name, run in paper.items():
        given = run.parameters
        assert not differ(given, laptop[name].parameters), f"{name}: {differ(given, laptop[name].parameters)}"
        assert (given["limit"], given["judge"], given["epochs"]) == (None, "test", 10)
    assert list(planned("quick")) == [STUDY]
    assert not ledger.read_claims(STUDY)  # no paper claims anything about it


# --- the results page ---


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`write(run, level, seeds)`: a made-up record in a repository of its own."""
    for name in ("experiments", "results"):
        shutil.copytree(ROOT / "book" / name, tmp_path / "book" / name, ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "papermill_runs").mkdir()
    for profile in ("laptop", "paper"):
        shutil.copy(ROOT / "papermill_runs" / f"{profile}.yaml", tmp_path / "papermill_runs")
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))
    plans = {profile: planned(profile) for profile in ("laptop", "paper")}

    def record(name, level=0.7, seeds=None, profile="laptop"):
        run, random = plans[profile][name], np.random.default_rng(len(name))
        seeds = run.parameters["seeds"] if seeds is None else seeds
        final = run.parameters["judge"] == "test"
        names = ["accuracy", "top3", "knn30", "accuracy_running", "train_test"] if final else []
        metrics = [
            {"seed": seed, "train_seconds": 30 + random.random(), "validation": level}
            | {metric: level + random.normal(0, 0.004) for metric in names}
            for seed in seeds
        ]
        content = {
            "schema": 1, "study": STUDY, "run": name, "profile": profile, "parameters": run.parameters,
            "seconds": [60.0] * len(seeds), "device": "cpu", "device_name": "a processor", "threads": 1,
            "versions": {}, "commit": "0" * 40, "dirty": False, "command": "pullpush", "metrics": metrics,
            "data": {"train": "0", "test": "1"}, "method": records.fingerprint(STUDY),
            "finished": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        folder = tmp_path / "papermill_runs" / profile / STUDY / name
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(content))
        rounds = 30 // PARTS[run.parameters["loss"]]
        curve = np.full((len(seeds), rounds), level if final and profile == "laptop" else np.nan)
        np.savez(folder / "arrays.npz", history_knn=curve, history_loss=curve)

    record.plans = plans
    return record


@pytest.fixture
def read(monkeypatch):
    """`read()`: execute the page; the figures it draws, by name, and all that it says."""

    def execute():
        drawn, said = {}, []
        for kind in ("table", "show", "paired"):
            monkeypatch.setattr(
                figures, kind, lambda name, *given, **told: drawn.update({name: (given, told)})
            )
        monkeypatch.setattr("IPython.display.display", lambda output: said.append(output.data))
        names = {}
        for cell in nbformat.read(PAGE, 4).cells:
            if cell.cell_type == "code":
                exec(cell.source, names)
        for _, told in drawn.values():
            assert "nan" not in told["caption"] + told.get("alt", "")
            if "still" in told:
                for theme in figures.THEMES:
                    told["still"](theme)
        return drawn, "\n".join(said)

    return execute


ALWAYS = {"rows-mnist", "rows-cifar10", "choice-mnist", "choice-cifar10", "context"}


def test_without_records_the_page_says_so(write, read):
    drawn, said = read()
    assert set(drawn) == ALWAYS and said.count("*Not run yet.*") == 2
    assert "MNIST: not run yet." in said and said.count("*The choice is not made yet:*") == 2
    assert "The practicum published .928" in said and "The practicum published .364" in said
    assert all("not run yet" in text for text in drawn["rows-mnist"][0][0]["settings"])


def test_a_few_records_fill_their_places_alone(write, read):
    write("mnist-today", 0.97, seeds=[0])
    write("mnist-practicum", 0.88)
    write("cifar10-select-steps-practicum", 0.33)
    drawn, said = read()
    assert set(drawn) == ALWAYS | {"steps", "parts", "curves"}
    assert "too few for a claim" in said and "CIFAR-10: not run yet." in said
    assert said.count("*The choice is not made yet:*") == 2
    validation = drawn["choice-cifar10"][0][0]["validation"]
    assert validation[0] == 0.33 and validation[1:].isna().all()


def test_with_all_records_today_stands_beside_the_practicum(write, read):
    for j, (name, run) in enumerate(write.plans["laptop"].items()):
        row = name.split("-", 1)[1]
        best = not differ(run.parameters, write.plans["laptop"][f"{run.parameters['data']}-today"].parameters)
        write(name, {"today": 0.95, "practicum": 0.8}.get(row, 0.96 if best else 0.9 - j / 1000))
    for name in write.plans["paper"]:
        write(name, 0.98 if name.endswith("today") else 0.93, profile="paper")
    drawn, said = read()
    assert set(drawn) == ALWAYS | {"steps", "parts", "curves"}
    assert "not run yet" not in re.sub("replication of that is not run yet", "", said)
    assert said.count("The row *today* has the settings of the best try") == 2
    assert re.search(
        r"MNIST: \.9\d\d \[.*\+\.1\d\d \[.*\(n = 5, higher\); most is lost without today's", said
    )
    assert "24 tries included, took" in said
    rows = drawn["rows-mnist"][0][0]
    final = [name for name in planned("laptop") if name.startswith("mnist-") and "-select-" not in name]
    assert list(rows["images"]) == ["10,000"] * len(final) + ["50,000"] * 2
    parts = drawn["parts"][0][0]
    assert len(parts) == 9 and sorted(parts["n"]) == [3] * 7 + [5] * 2
    assert set(parts["word"]) == {"higher", "too few for a claim"}


def test_a_row_that_is_not_the_best_try_is_told(write, read):
    tries = [name for name in write.plans["laptop"] if name.startswith("mnist-select-")]
    for name in tries:
        write(name, 0.9 if name.endswith("practicum") else 0.8)
    _, said = read()
    assert "**The row *today* does not have the settings of the best try:** it differs by " in said
    table = read()[0]["choice-mnist"][0][0]
    assert table["try"][0] == "the practicum's settings"
    assert "descent nesterov" in table["try"][1] and "loss" not in table["try"][1]
