"""The results page of the third study, with no, few and all records; its plans, its claims, its classes."""

import functools
from pathlib import Path

import numpy as np
import pytest
import yaml

from pullpush import data, ledger, matrix, records, sheets
from pullpush.data import fields, photographs

ROOT = Path(__file__).parents[1]
STUDY = "claws"
PAGE = ROOT / "book" / "results" / "claws.ipynb"
FIGURES = ("image_grid", "curves", "matrix", "paired", "points3d", "scatter_frames", "show", "table")
CUT_DOWN = ("limit", "image_height", "crop_size", "simclr_size", "epochs", "colour_strength", "seeds")


@functools.cache  # the plans are this repository's, wherever a test puts its records
def planned(profile):
    return {run.name: run for run in matrix.read_profile(profile) if run.study == STUDY}


# --- plans and claims ---


@pytest.mark.parametrize("profile", ["laptop", "paper"])
def test_plans_set_all_that_the_quick_profile_cuts_down(profile):
    content = yaml.safe_load((ROOT / "papermill_runs" / f"{profile}.yaml").read_text())["studies"][STUDY]
    for name, settings in content["runs"].items():
        assert set(CUT_DOWN) <= set(content["defaults"]) | set(settings), name
    assert all(run.parameters["profile"] == profile for run in planned(profile).values())


def test_the_paper_profile_is_the_paper():
    runs = planned("paper")
    assert list(runs) == [
        f"{name}-{m}" for name in ("crops", "fields", "deepweeds") for m in ("claws", "simclr")
    ]
    for run in runs.values():
        given = run.parameters
        assert run.needs == "gpu" and given["seeds"] == [0, 1, 2, 3, 4]
        assert (given["encoder"], given["epochs"], given["per_class"]) == ("efficientnet", 300, 5)
        assert given["epoch_steps"] == (12 if given["data"] == "crops" else None)  # 663 photographs by 55
        assert (given["crop_size"], given["simclr_size"], given["colour_strength"]) == (32, 100, 1)
        assert given["image_height"] is None and given["limit"] is None
        assert (given["mask"], given["positives"], given["labelled"]) == ("hard", "instance", 1)


def test_the_two_arms_differ_in_the_method_alone():
    for profile in ("laptop", "paper"):
        runs = planned(profile)
        for name, run in runs.items():
            if "simclr" in name and name.replace("simclr", "claws") in runs:
                other = runs[name.replace("simclr", "claws")].parameters
                assert {k for k in other if other[k] != run.parameters[k]} == {"method"}


def test_runs_with_a_claim_have_five_seeds():
    for claim in ledger.read_claims(STUDY):
        for one in ledger.judge(STUDY):
            if one.claim.id == claim.id:
                for run in {run for part in one.comparisons for run in part.runs}:
                    assert len(planned(claim.profile)[run].parameters["seeds"]) == 5, run


def test_the_reported_numbers_are_those_of_the_paper():
    table = ledger.reported(STUDY)
    for name in ("fields", "deepweeds", "crops"):
        assert table.loc[f"{name}-claws", ["nmi", "ari", "ami"]].tolist() == [0.7325, 0.5069, 0.7324]
        assert table.loc[f"{name}-simclr", ["nmi", "ari", "ami"]].tolist() == [0.6101, 0.2873, 0.6101]
    shares = table.loc["fields-claws", ["third_corn", "third_cotton"]].tolist()
    assert shares == [round(315 / 19_792, 4), round(3_401 / 66_053, 4)]


def test_classes_are_known_without_their_images():
    assert ledger.class_names("fields") == fields.CLASSES and len(fields.CLASSES) == 11
    for name in ("crops", "deepweeds"):
        assert ledger.class_names(name) == photographs.ALBUMS[name].classes
    assert {len(ledger.class_names(name)) for name in ("mnist", "cifar10", "digits")} == {10}
    assert set(data.names()) >= {"fields", "crops", "deepweeds"}
    with pytest.raises(ValueError, match="Did you mean 'fields'"):
        ledger.class_names("feilds")


# --- the page ---


def arrays_of(run, random):
    """What a record of this run holds, made up: the names and shapes of the chapter's `run.finish`."""
    given = run.parameters
    classes, seeds, epochs, n = ledger.class_names(given["data"]), len(given["seeds"]), 3, 110
    z = random.normal(size=(n, 32))
    held = {
        "labels": (np.arange(n) % len(classes)).astype(np.uint8),
        "z": (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float16),
        "flat": random.normal(size=(n, 2)).astype(np.float16),
        "gmm": random.integers(0, 2, n).astype(np.uint8),
        "called": random.random(n) < 0.1, "named": np.array([1, 3], np.uint8),
        "gallery": random.integers(0, n, (6, 8)).astype(np.uint32), "stops": np.array([0, epochs], np.uint16),
        "history_epoch": np.tile(np.arange(1, epochs + 1, dtype=np.float32), (seeds, 1)),
        "history_nmi": random.random((seeds, epochs)), "history_density": random.random((seeds, epochs)),
    }  # fmt: skip
    if given["method"] == "claws":
        held["opened"] = random.integers(0, 256, (seeds, 2, len(classes), 32)).astype(np.uint8)
    if given["data"] == "fields":
        held["gallery_outlier"] = random.integers(0, 2, (6, 8)).astype(np.uint8)
        held["curve_recall"] = np.tile(np.linspace(1, 0, 20), (seeds, 1)).astype(np.float16)
        held["curve_precision"] = random.random((seeds, 20)).astype(np.float16)
    if given["data"] != "crops":
        held["thumbs"] = sheets.pack(random.integers(0, 256, (n, 3, 8, 12), dtype=np.uint8), 45_000)
        held["gallery_pictures"] = sheets.pack(
            random.integers(0, 256, (48, 3, 8, 12), dtype=np.uint8), 45_000
        )
    return held


def metrics_of(run, seed, random):
    given, level = run.parameters, 0.6 if run.parameters["method"] == "claws" else 0.4
    names = ["acc", "nmi", "ari", "ami", "acc_test", "nmi_test", "ari_test", "ami_test", "probe", "head_test"]
    if given["data"] == "fields":
        names += ["third_cotton", "third_corn", "outlier_ap", "ari_stage", "ari_close_up", "ari_weedy"]
    found = {"seed": seed} | {name: level + random.normal(0, 0.01) for name in names}
    return found | ({"density": 0.01} if given["method"] == "claws" else {})


@pytest.fixture
def write(write_record):
    """`write(profile, name)`: a made-up record of a planned run."""

    def record(profile, name):
        run, random = planned(profile)[name], np.random.default_rng(sum(map(ord, name)))
        metrics = [metrics_of(run, seed, random) for seed in run.parameters["seeds"]]
        write_record(run, metrics, arrays_of(run, random))

    return record


def test_without_records_the_page_says_so_everywhere(write, read_page):
    _, drawn, said = read_page(STUDY)
    assert set(drawn) == {"beside-laptop", "beside-paper", "within"}
    assert said.count("*Not run yet.*") == 8
    assert "1. Rendered fields, images trained on: not run yet." in said


def test_a_few_records_fill_their_places_alone(write, read_page):
    for name in ("fields-claws", "fields-mask-none", "fields-claws-labels-10"):
        write("laptop", name)
    write("paper", "crops-claws")
    _, drawn, said = read_page(STUDY)
    assert {
        "parts",
        "density",
        "gates",
        "few-labels",
        "plane-fields",
        "inside-corn",
        "gallery-fields",
    } <= set(drawn)
    assert not {"wrong-labels", "plane-deepweeds", "gallery-deepweeds"} & set(drawn)
    assert len(drawn["parts"].given[0]) == 2  # against no mask, on two splits
    assert "In 5 of 5 seeds that is less than one gate of 32" in said


def test_with_all_records_every_claim_has_its_verdict(write, read_page):
    for profile in ("laptop", "paper"):
        for name in planned(profile):
            write(profile, name)
    _, drawn, said = read_page(STUDY)
    assert "not run yet" not in said.lower()
    judged = {one.claim.id: one.chip for one in ledger.judge(STUDY)}
    assert judged["claws-over-simclr"] == judged["claws-over-simclr-full"] == "reproduced"
    assert judged["claws-share-corn"] == "not" and judged["claws-mask"] != "reproduced"
    assert not [name for name in drawn if "crops" in name]  # scores only: their licences are unknown
    for name, figure in drawn.items():
        assert figure.told["caption"], name
        if "deepweeds" in name:
            assert "Olsen et al. 2019, CC BY 4.0" in figure.told["caption"]
    for name in ("few-labels", "wrong-labels", "outlier-curve"):
        assert "n = 5 seeds" in drawn[name].told["caption"], name
    assert "fields-gumbel</a> against <a href=" in said  # each comparison is linked to both of its runs
    assert {"held-out-laptop", "held-out-paper"} <= set(drawn)
    apart = drawn["held-out-laptop"].given[0]
    assert (
        apart["nmi_test"].notna().all()
        and [name.split(",")[0] for name in apart["method"]] == ["SimCLR", "CLAWS"] * 2
    )
    rows = drawn["beside-paper"].given[0]
    assert rows["data"].tolist() == [
        name for name in ("the paper's own", "crops", "rendered fields", "DeepWeeds") for _ in range(2)
    ]
    assert rows["nmi"].iloc[:2].tolist() == [0.6101, 0.7325]


def test_planted_outliers_are_framed(write, read_page):
    write("laptop", "fields-claws")
    pictures = read_page(STUDY).drawn["gallery-fields"].given[0]
    held = records.load_arrays(STUDY, "laptop", "fields-claws")
    orange = np.array([217, 112, 26])
    framed = (pictures[..., 0, :] == orange[:, None]).all((-1, -2))
    np.testing.assert_array_equal(framed, held["gallery_outlier"] > 0)
    assert 0 < framed.sum() < framed.size
