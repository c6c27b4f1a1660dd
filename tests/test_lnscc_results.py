"""The results page of the fourth study with made-up records: what it says follows from their numbers."""

import functools
import re

import numpy as np
import pytest

from pullpush import figures, ledger, matrix, statistics

STUDY = "lnscc"
SETS = ("mnist", "fashion", "usps", "pendigits", "reuters")
LEVELS = {
    "lnscc": 0.90,
    "code": 0.80,
    "kmeans": 0.50,
    "pca": 0.55,
    "spectral": 0.60,
    "umap": 0.70,
    "n2d": 0.65,
}
SWAY = (-0.02, -0.01, 0.0, 0.01, 0.02)  # of the five seeds around the level
HALF = (
    2.776445 * 0.0158114 / 5**0.5
)  # of the interval of one mean; the difference of two that sway alike has none
ALWAYS = {*(f"beside-{name}" for name in SETS), "goals", "compact", "held-out"}  # drawn without a record too


@functools.cache  # the plans are this repository's, wherever a test puts its records
def planned(profile):
    return {run.name: run for run in matrix.read_profile(profile) if run.study == STUDY}


def arrays_of(run, seeds, random):
    """What the chapter records of a run, made up: its names and shapes."""
    given, n, k, images = run.parameters, 12, 10, run.parameters["data"] not in ("pendigits", "reuters")
    counts = np.ones((seeds, 10, k), np.int32)
    counts[:, np.arange(10), (np.arange(10) + 3) % k] = 91  # class c went to cluster c + 3
    held = {"weights": np.full(20, 0.05, np.float32), "pure": np.float32([0.5, 0.75]), "contingency": counts}
    if given["method"] != "lnscc":
        return held
    steps = given["contrast_steps"] + given["joint_steps"]
    stops = np.linspace(0, steps, 9).astype(int)
    held |= {f"flat{stop}": random.normal(size=(n, 2)).astype(np.float16) for stop in stops}
    held |= {
        "labels": (np.arange(n) % 10).astype(np.uint8),
        "border_labels": np.arange(40, dtype=np.uint8) % 10,
    }
    held["history_step"] = np.tile(stops[1:], (seeds, 1))
    held["history_l_edge"] = random.random((seeds, 8))
    held["history_nmi"] = np.linspace(0.1, 0.8, 8) + 0.1 * np.arange(seeds)[:, None]
    if images:
        held["thumbs"] = random.integers(0, 16, (n, 1, 8, 8)).astype(np.uint8)
        held["border_images"] = random.integers(0, 16, (40, 1, 8, 8)).astype(np.uint8)
    return held


@pytest.fixture
def write(write_record):
    """`write(name, level=None, seeds=5, sway=1, profile="laptop", older=False, counts=None, **metrics)`.

    A made-up record. Every score is its level, by default that of the method in LEVELS, swaying with the
    seed; counts: another contingency.
    """

    def record(name, level=None, *, seeds=5, sway=1, profile="laptop", older=False, counts=None, **metrics):
        run, kind = planned(profile)[name], name.split("-", 1)[1]
        if level is None:
            level = LEVELS.get(kind, LEVELS["lnscc"]) - 0.05 * kind.endswith("no-sizes")
        scores = {"acc": level, "nmi": level, "ami": level}
        method = run.parameters["method"]
        if method == "umap":
            scores |= {"acc_gmm": level - 0.02, "nmi_gmm": level - 0.02}
        if run.parameters["features"] == "autoencoder":
            scores |= {"pure": 0.875}
        if method == "n2d":
            scores |= {"acc_kmeans": level + 0.01, "nmi_kmeans": level + 0.01}
        if method == "lnscc":
            scores |= {"acc_before": level - 0.05, "silhouette": level, "silhouette_before": level - 0.3}
            scores |= {"acc_border": level - 0.4, "acc_inside": level + 0.02}
            scores |= (
                {"acc_test": level - 0.03, "nmi_test": level} if run.parameters["split"] == "train" else {}
            )
        scores |= metrics
        rows = [
            {"seed": seed} | {key: value + sway * SWAY[seed] for key, value in scores.items()}
            for seed in range(seeds)
        ]
        random = np.random.default_rng(len(name))
        content = {"seconds": [1000.0 + 500 * (method == "lnscc")] * seeds} | (
            {"method": "0"} if older else {}
        )
        arrays = arrays_of(run, seeds, random) | ({} if counts is None else {"contingency": counts})
        write_record(run, rows, arrays, **content)

    return record


@pytest.fixture
def write_all(write):
    """`write_all(**levels)`: every run of both profiles; `usps_umap=0.95` for another level."""

    def records(**levels):
        for profile in ("laptop", "paper"):
            for name, run in planned(profile).items():
                level = levels.get(name.replace("-", "_")) if profile == "laptop" else None
                write(name, level, seeds=len(run.parameters["seeds"]), profile=profile)

    return records


def chips():
    return {one.claim.id: one.chip for one in ledger.judge(STUDY)}


def summary(said):
    """The last sentences of the page, by claim: every one of the laptop profile has its own."""
    claims = [one.claim.id for one in ledger.judge(STUDY) if one.claim.profile == "laptop"]
    said_of = re.findall(r"^\d+\. (.*)$", said, re.MULTILINE)
    return {claim.removeprefix("lnscc-"): one for claim, one in zip(claims, said_of, strict=True)}


def best(figure, score, table=figures.table):
    """The rows that a drawn table marks as best in a column of scores, read from its HTML."""
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda output: shown.append(output.data))
        table("any", *figure.given, **figure.told)
    body = re.search(r"<tbody>(.*)</tbody>", shown[0], re.DOTALL)[1]
    place = figure.told["scores"].index(score)
    marked = []
    for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL):
        ours = re.findall(r'<td class="pp-number">(.*?)</td>', row)
        if "<strong>" in ours[place]:
            marked.append(re.sub(r"<[^>]*>", "", re.search(r'<th scope="row">(.*?)</th>', row)[1]))
    return marked


def rows_of(figure, column="method"):
    return figure.given[0].set_index(column)


# --- without records ---


def test_without_records_the_page_says_so_everywhere(write, read_page):
    _, drawn, said = read_page(STUDY)
    assert set(drawn) == ALWAYS
    assert said.count("*Not run yet.*") == 19  # six figures of their own, the paper profile, twelve questions
    assert said.count("PROFILE=paper") == 1
    for name in SETS:
        rows = drawn[f"beside-{name}"].given[0]
        ours = rows[rows["n"] == 0]
        assert len(ours) == len(LEVELS) + 2 * (name == "usps")
        assert ours["method"].str.endswith("(not run yet)").all()
        assert rows["acc"].isna().all() and set(rows["seconds a seed"]) == {"–"}
        assert best(drawn[f"beside-{name}"], "acc") == []
    assert set(drawn["goals"].given[0]["verdict"]) == {"not run yet"}
    assert set(summary(said).values()) == {
        f"{one.claim.claim} Verdict: not run yet."
        for one in ledger.judge(STUDY)
        if one.claim.profile == "laptop"
    }
    count = len(ledger.judge(STUDY))
    assert f"Of {count} claims, {count} are not run yet." in said
    assert drawn["goals"].told["run"].provenance() == {"records": "none yet"}


def test_the_page_promises_what_the_plans_hold(write, read_page):
    """Its sentences on steps, epochs and seeds are typed: they must be those of the plans."""
    laptop, paper = ({name: run.parameters for name, run in planned(p).items()} for p in ("laptop", "paper"))
    steps = {
        given["contrast_steps"] + given["joint_steps"]
        for name, given in laptop.items()
        if name[:5] not in ("mnist", "fashi")
    }
    large = {
        given["contrast_steps"] + given["joint_steps"]
        for name, given in laptop.items()
        if name[:5] in ("mnist", "fashi")
    }
    assert (steps, large) == ({3000}, {10_000})
    assert {(given["contrast_steps"], given["joint_steps"]) for given in paper.values()} == {(10_000, 40_000)}
    assert {given["contrast_steps"] == given["joint_steps"] for given in laptop.values()} == {
        True
    }  # half and half
    assert {name: given["n2d_epochs"] for name, given in laptop.items() if given["n2d_epochs"] != 100} == {
        "fashion-code": 20, "mnist-code": 20
    }  # fmt: skip
    baselines = ("kmeans", "pca", "spectral", "umap", "n2d")
    methods = {name for name in laptop if name.endswith((*baselines, "lnscc", "code", "no-sizes"))}
    assert {len(laptop[name]["seeds"]) for name in methods} == {5}  # "on the same data and seeds"
    for name, given in paper.items():
        assert given["n2d_epochs"] == (laptop[name]["n2d_epochs"] if "-code" in name else 1000)
    released = {
        (given["dimensions"], given["learning_rate"]) for name, given in paper.items() if "release" in name
    }
    assert released == {(2, 0.008)}


# --- a part of the runs ---


def test_one_seed_and_missing_runs_are_told_and_decide_nothing(write, read_page):
    write("usps-lnscc", 0.96, seeds=1)
    write("usps-kmeans", 0.50)
    write("pendigits-lnscc", 0.96)
    write("pendigits-spectral", 0.50)
    _, drawn, said = read_page(STUDY)
    matrices = {"contingency-usps", "contingency-pendigits"}
    assert ALWAYS | {
        "overview",
        "training",
        "embedding-pendigits",
        "weights",
        "border-usps",
        *matrices,
    } == set(drawn)
    rows = rows_of(drawn["beside-usps"])
    assert list(rows["n"][:9]) == [1, 0, 0, 0, 5, 0, 0, 0, 0]
    assert list(rows.index[:5]) == [
        "LNSCC", "LNSCC, features first (not run yet)", "LNSCC, no sizes expected (not run yet)",
        "LNSCC, features first, no sizes expected (not run yet)", "k-means",
    ]  # fmt: skip
    assert rows.loc["LNSCC", "acc"] == pytest.approx(0.94) and np.isnan(rows.loc["LNSCC", "acc_low"])
    assert list(rows["seconds a seed"][:6]) == ["1,500", "–", "–", "–", "1,000", "–"]
    assert rows_of(drawn["beside-mnist"])["acc"].isna().all()
    goals = drawn["goals"].given[0].set_index(["data", "score"])["verdict"].to_dict()
    assert {words for (data, _), words in goals.items() if "," in data} == {"not run yet"}
    assert {key: words for key, words in goals.items() if "," not in key[0]} == {
        ("MNIST", "accuracy"): "not run yet", ("Fashion-MNIST", "accuracy"): "not run yet",
        ("Fashion-MNIST", "NMI"): "not run yet", ("USPS", "accuracy"): "n too small",
        ("Pendigits", "accuracy"): "reached",
    }  # fmt: skip
    assert "USPS .940 (n = 1); Pendigits .960 [.940, .980] (n = 5)." in drawn["overview"].told["caption"]
    assert len(drawn["overview"].told["data"]) == 2 * 4
    assert set(chips().values()) == {"not run yet"}
    told = summary(said)
    assert told["images"].endswith("Verdict: not run yet.")  # the one comparison that is there has one seed
    assert told["tables"].endswith("Verdict: not all run yet, 1 of 1 decided comparisons upheld.")
    assert told["held-out"].endswith("Verdict: not run yet.")


def test_what_lacks_seeds_is_too_small_for_a_claim(write, read_page):
    """All runs are there, with three seeds: no verdict but one, and no goal reached or missed."""
    for name in planned("laptop"):
        write(name, seeds=min(3, len(planned("laptop")[name].parameters["seeds"])))
    _, drawn, said = read_page(STUDY)
    found = chips()
    assert found.pop("lnscc-full") == "not run yet" and set(found.values()) == {"n too small"}
    assert set(drawn["goals"].given[0]["verdict"]) == {"n too small"}
    assert set(drawn["control-terms"].given[0]["word"]) == {"too few for a claim"}
    assert all(sentence.endswith("Verdict: n too small.") for sentence in summary(said).values())
    assert "None of these has the seeds to be decided yet." in said


def test_baselines_alone_draw_no_picture_of_the_method(write, read_page):
    for kind in ("kmeans", "umap"):
        write(f"usps-{kind}")
    _, drawn, _said = read_page(STUDY)
    assert set(drawn) == ALWAYS | {"overview"}
    assert "Its accuracy: not run yet." in drawn["overview"].told["caption"]
    assert best(drawn["beside-usps"], "acc") == ["UMAP + k-means"]
    assert best(drawn["beside-mnist"], "acc") == []


# --- all runs ---


def test_with_all_records_the_best_and_the_verdicts_are_those_of_the_numbers(write_all, read_page):
    write_all()
    _, drawn, said = read_page(STUDY)
    assert "not run yet" not in said.lower()
    for name in SETS:
        assert best(drawn[f"beside-{name}"], "acc") == best(drawn[f"beside-{name}"], "nmi") == ["LNSCC"]
        rows = rows_of(drawn[f"beside-{name}"])
        assert rows.loc["UMAP + mixture", ["acc", "nmi", "n"]].tolist() == pytest.approx([0.68, 0.68, 5])
        of_n2d = rows.loc["N2D, k-means for its mixture", ["acc", "nmi", "n"]].tolist()
        assert of_n2d == pytest.approx([0.66, 0.66, 5])
        for kind, level in LEVELS.items():
            row = next(rows[rows["run"] == f"{name}-{kind}"].itertuples(), None)
            if row and row.n == 5:
                ours = (row.acc, row.acc_low, row.acc_high)
                assert ours == pytest.approx((level, level - HALF, level + HALF), abs=1e-6)
    found = chips()
    assert found["lnscc-joint-terms"] == "not" and found["lnscc-held-out"] == "not"
    for claim in ("images", "tables", "n2d-small", "n2d-large", "end-to-end", "border", "full"):
        assert found[f"lnscc-{claim}"] == "reproduced", claim
    assert found["lnscc-compact"] == "partly"  # over the first phase; edges alone are as compact
    told = summary(said)
    assert found["lnscc-local"] == "not"  # as good with one scale for all
    assert told["images"].endswith("Verdict: reproduced, 15 of 15 decided comparisons upheld.")
    assert told["compact"].endswith("Verdict: partly, 4 of 6 decided comparisons upheld.")
    assert told["held-out"].endswith("Verdict: not reproduced, 0 of 2 decided comparisons upheld.")


def test_other_numbers_have_another_winner_and_other_verdicts(write_all, read_page):
    write_all(usps_umap=0.95, mnist_lnscc=0.40, mnist_code=0.30, reuters_lnscc=0.40)
    _, drawn, said = read_page(STUDY)
    assert best(drawn["beside-usps"], "acc") == ["UMAP + k-means"]
    assert best(drawn["beside-mnist"], "nmi") == ["UMAP + k-means"]
    assert best(drawn["beside-pendigits"], "acc") == ["LNSCC"]
    found = chips()
    assert found["lnscc-images"] == found["lnscc-tables"] == "partly"
    told = summary(said)
    assert told["images"].endswith(
        "Verdict: partly, 8 of 15 decided comparisons upheld."
    )  # 5 of MNIST, 2 of USPS
    assert told["tables"].endswith("Verdict: partly, 5 of 10 decided comparisons upheld.")


@pytest.mark.parametrize(("level", "verdict"), [
    (0.95 + HALF + 0.001, "reached"), (0.95 + HALF - 0.001, "not decided, the mean is above"),
    (0.95 - HALF + 0.001, "not decided, the mean is below"), (0.95 - HALF - 0.001, "missed"),
])  # fmt: skip
def test_a_goal_is_reached_or_missed_by_the_whole_interval(write, read_page, level, verdict):
    write("usps-lnscc", level)
    goals = read_page(STUDY).drawn["goals"]
    row, told = goals.given[0].set_index("data").loc["USPS"], goals.told["caption"]
    assert ("seed by seed: USPS, accuracy: " in told) == ("decided" in verdict)
    assert (row["verdict"], row["goal"], row["n"]) == (verdict, "≥\N{NO-BREAK SPACE}.950", 5)
    assert row["ours"] == pytest.approx(level)


def test_features_first_are_compared_told_and_held_to_the_same_goals(write, read_page):
    for name, level in (("fashion", 0.60), ("mnist", 0.90)):
        write(f"{name}-lnscc", level)
        write(f"{name}-code", level + 0.05, sway=0)
    _, drawn, said = read_page(STUDY)
    rows = rows_of(drawn["control-features"], "comparison")
    assert rows["difference"].tolist() == pytest.approx([0.05] * 4)
    assert list(rows.index) == [
        f"{s}, features first, {k}" for s in ("MNIST", "Fashion-MNIST") for k in ("accuracy", "NMI")
    ]
    goals = drawn["goals"].given[0].set_index(["data", "score"])["verdict"].to_dict()
    assert goals["MNIST, features first", "accuracy"] == "missed"  # 0.95 in every seed, 0.97 asked
    assert goals["Fashion-MNIST, features first", "accuracy"] == "reached"
    assert goals["Fashion-MNIST, features first", "NMI"] == "missed"
    assert goals["USPS, features first", "accuracy"] == "not run yet"
    assert re.search(r"changes accuracy by: MNIST <a .*mnist-code.*>\+\.050</a> \(higher\); Fashion", said)
    assert "(features first): MNIST 87.5%; Fashion-MNIST 87.5%." in drawn["weights"].told["caption"]


def test_a_control_is_the_setting_minus_the_method_seed_by_seed(write, read_page):
    for name in ("usps", "pendigits"):
        write(f"{name}-lnscc", 0.80)
    write("usps-edges-alone", 0.70)  # sways alike: lower, whatever the seeds do
    write("pendigits-edges-alone", 0.81, sway=-1)  # sways against it: a point is nothing
    write("pendigits-no-balance", 0.90, seeds=3, nmi=0.75)
    _, drawn, _said = read_page(STUDY)
    assert {name for name in drawn if name.startswith("control")} == {"control-terms"}
    told = drawn["control-terms"].told
    rows = rows_of(drawn["control-terms"], "comparison")
    expected = {
        "USPS, neither term": (-0.1, 5, "lower"),
        "Pendigits, neither term": (0.01, 5, "not separated with 5 seeds"),
        "Pendigits, no size term": (0.1, 3, "too few for a claim"),
    }  # fmt: skip
    for what, (difference, n, word) in expected.items():
        row = rows.loc[f"{what}, accuracy"]
        assert (row["n"], row["word"]) == (n, word), what
        assert row["difference"] == pytest.approx(difference)
        assert f"{what}, accuracy: {statistics.difference(difference)} ({word})" in told["alt"]
    assert rows.loc["Pendigits, no size term, NMI", "difference"] == pytest.approx(-0.05)
    assert len(rows) == 6 and "n = 3 or 5 seeds" in told["caption"]
    made = told["run"].provenance()
    assert len(made["records"]) == len(set(made["records"])) == 5 and made["trainings"] == 23


def test_classes_that_are_cut_or_have_no_cluster_are_named(write, read_page):
    counts = np.ones((5, 10, 10), np.int32) + 90 * np.eye(10, dtype=np.int32)
    counts[0, 0, [0, 5]], counts[0, 5], counts[0, 3, 3] = (50, 41), 1, 180
    counts[0, 5, 3] = 91  # in seed 0 the zeros have cluster 5 as well, and the fives are with the threes
    counts[1, :, 9], counts[1, 9, 8], counts[1, 8, 8] = 0, 50, 180  # in seed 1 cluster 9 is empty
    write("usps-lnscc", counts=counts)
    write("mnist-lnscc")
    said = re.sub(r"<[^>]*>", "", read_page(STUDY).said)
    lost = ("0 is cut", "5 is in the cluster of 3", "9 is in the cluster of 8")
    found = "; ".join(f"{words} (1 of 5 seeds)" for words in lost)
    assert f"- USPS: {found}. Most frequent error: 19% of 5 in the cluster of 3." in said
    assert "- MNIST: every class has its own cluster in every seed. Most frequent error: 1% of " in said


def test_figures_say_the_numbers_of_their_runs(write, read_page):
    write("mnist-lnscc", 0.80)
    _, drawn, _ = read_page(STUDY)
    assert set(drawn) == ALWAYS | {
        "overview",
        "training",
        "embedding-mnist",
        "weights",
        "contingency-mnist",
        "border-mnist",
    }
    shares = drawn["contingency-mnist"].given[0]
    np.testing.assert_allclose(shares, 0.01 + 0.90 * np.eye(10))  # clusters are sorted by their class
    assert drawn["contingency-mnist"].told["columns"] == [str((c + 3) % 10) for c in range(10)]
    assert "7 mostly in cluster 0 (0.91)" in drawn["contingency-mnist"].told["alt"]
    assert drawn["training"].told["caption"].endswith("At the end: MNIST 1.00.")  # .8 and 0 to .4 by seed
    curve = drawn["training"].given[0]
    assert len(curve) == 5 * 8 and curve["share"].max() == 1
    frames = drawn["embedding-mnist"].given[0]
    assert (
        list(frames) == ["0", "2500", "5000", "7500", "10000"]
        and drawn["embedding-mnist"].told["start"] == "10000"
    )
    assert "Accuracy of the clusters .800 [.780, .820], n = 5." in drawn["embedding-mnist"].told["caption"]
    assert "of one class: MNIST 75.0%" in drawn["weights"].told["caption"]
    border = drawn["border-mnist"].told["caption"]
    assert "are .400 [.380, .420] of those at the border, .820 [.800, .840] of all others (n = 5)" in border
    assert drawn["border-mnist"].given[0].shape == (20, 1, 8, 8)
    rows = rows_of(drawn["compact"], "run of")
    assert rows.loc["MNIST", ["silhouette_before", "silhouette", "acc_border", "acc_inside"]].tolist() == (
        pytest.approx([0.5, 0.8, 0.4, 0.82])
    )


def test_rows_of_older_code_say_so(write, read_page):
    for kind in ("lnscc", "umap"):
        write(f"usps-{kind}", older=kind == "umap")
    rows = rows_of(read_page(STUDY).drawn["beside-usps"])
    assert rows.index[0] == "LNSCC"
    assert {name for name in rows.index if "older" in name} == {
        "UMAP + k-means (older code)", "UMAP + mixture (older code)"
    }  # fmt: skip


def test_published_numbers_stand_beside_their_own_method_alone(write, read_page):
    write("mnist-umap", 0.99)
    rows = rows_of(read_page(STUDY).drawn["beside-mnist"])
    published = ledger.reported(STUDY, "published")
    assert rows["acc_paper"].max() == published["acc"][published.index.str.startswith("mnist-")].max()
    for name in ("LNSCC (not run yet)", "UMAP + k-means", "UMAP + mixture"):
        assert np.isnan(rows.loc[name, "acc_paper"]), name
    assert rows.loc["N2D (not run yet)", ["acc_paper", "nmi_paper"]].tolist() == [0.979, 0.942]


@pytest.mark.parametrize("release", [False, True])
def test_the_named_variant_is_told_only_where_it_has_run(write, read_page, release):
    write("usps-lnscc", profile="paper")
    if release:
        write("usps-release", 0.7, profile="paper")
    _, drawn, said = read_page(STUDY)
    assert "PROFILE=paper" not in said
    rows = rows_of(drawn["full"])
    assert list(rows.index) == ["usps-lnscc", "usps-release"][: 1 + release]
    assert ("Runs called release" in drawn["full"].told["caption"]) == release
    if release:
        assert rows.loc["usps-release", "acc"] == pytest.approx(0.7)
    assert np.isnan(rows_of(drawn["beside-usps"])["acc"]).all()  # a run of the paper profile is no laptop run
