"""The ledger, tables, cards and blocks, on small repositories with none, some or all of made-up records."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from pullpush import cli, figures, ledger, records, results, statistics
from pullpush.parameters import read_schema, read_yaml

ROOT = Path(__file__).parents[1]
STUDY = "pair_vs_triplet"
CIFAR = ledger.class_names("cifar10")
PAPER = read_yaml(ROOT / "papermill_runs" / "paper.yaml")["studies"][STUDY]

# Runs of the kind that a laptop profile holds: one reference a loss, and runs that leave it in one setting.
LAPTOP = {
    "defaults": {"seeds": [0, 1, 2, 3, 4], "limit": 10_000, "data": "mnist", "precision": "fp32"},
    "runs": {
        "mnist-simclr-triplet": {"loss": "triplet"},
        "mnist-simclr-pair": {"loss": "pair", "learning_rate": 0.05},
        "mnist-noflip-triplet": {"loss": "triplet", "flip": False},
        "mnist-noflip-pair": {"loss": "pair", "learning_rate": 0.05, "flip": False},
        "mnist-matched-triplet": {"loss": "triplet", "arm": "matched"},
        "mnist-matched-pair": {"loss": "pair", "arm": "matched", "learning_rate": 0.1, "margin": 0.5},
        "mnist-simclr-margin": {"loss": "margin"},
        "mnist-hard-triplet": {"loss": "triplet", "mining": "hard"},
        "mnist-bf16-triplet": {"loss": "triplet", "precision": "bf16"},
        "mnist-tune-pair": {"loss": "pair", "arm": "matched", "learning_rate": 0.5, "seeds": [0]},
    },
}


class Repository:
    """A repository with its plans and notebooks, and as many records as a test writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("experiments", "results"):
            shutil.copytree(ROOT / "book" / name, root / "book" / name, ignore=shutil.ignore_patterns(".*"))
        (root / "papermill_runs").mkdir()
        for profile, runs in (("paper", PAPER), ("laptop", LAPTOP)):
            plan = {"profile": profile, "studies": {STUDY: runs}}
            (root / "papermill_runs" / f"{profile}.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))

    def record(self, profile: str, run: str, accuracy=None, *, seeds=None, arrays=None, method=None) -> None:
        """One record. accuracy: one a seed; by default near the paper's number."""
        plan = {"paper": PAPER, "laptop": LAPTOP}[profile]
        given = {"profile": profile, **plan["defaults"], **plan["runs"][run]}
        given.pop("needs", None)
        parameters = read_schema(records.notebook_path(STUDY)).validate(given)
        seeds = parameters["seeds"] if seeds is None else seeds
        random = np.random.default_rng(sum(map(ord, run)))
        if accuracy is None:
            table = ledger.reported(STUDY)["accuracy"].to_dict()
            accuracy = table.get(run, 0.6) + random.normal(0, 0.004, len(seeds))
        pixels = (
            {f"pixels_{name}": 0.9 for name in ("accuracy", "top3", "knn30")} if "baseline" in run else {}
        )
        metrics = [
            {"seed": seed, "accuracy": float(a), "top3": min(1.0, float(a) + 0.1), "knn30": float(a) - 0.01}
            | {f"{name}_running": float(a) + 0.005 for name in ("accuracy", "top3", "knn30")}
            | {"train_test": float(a) + 0.01, "accuracy_std": 0.01, **pixels}
            | ({} if pixels else {"final_loss": 0.01})
            for seed, a in zip(seeds, accuracy, strict=True)
        ]  # fmt: skip
        folder = self.root / "papermill_runs" / profile / STUDY / run
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "schema": 1, "study": STUDY, "run": run, "profile": profile, "parameters": parameters,
            "seconds": [60.0] * len(seeds), "device": "cpu", "device_name": "a processor", "threads": 1,
            "versions": {"torch": "2.0"}, "commit": "0" * 40, "dirty": False, "metrics": metrics,
            "command": f"pullpush run {STUDY} --profile {profile} --name {run}",
            "data": {"train": "0", "test": "1"},
            "method": method or records.fingerprint(STUDY), "finished": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        (folder / "record.json").write_text(json.dumps(content))
        np.savez_compressed(folder / "arrays.npz", **(arrays or self.arrays(accuracy, random)))

    @staticmethod
    def arrays(accuracy, random) -> dict[str, np.ndarray]:
        """Confusion with this accuracy; vehicles and frogs easy, errors of animals among animals."""
        k, n = 10, len(accuracy)
        easy = np.isin(
            np.arange(k), [CIFAR.index(name) for name in ("airplane", "automobile", "frog", "ship", "truck")]
        )
        vehicle = np.isin(
            np.arange(k), [CIFAR.index(name) for name in ("airplane", "automobile", "ship", "truck")]
        )
        confusion = np.zeros((n, k, k), int)
        for seed, a in enumerate(accuracy):
            for c in range(k):
                right = np.clip(a + (0.04 if easy[c] else -0.04) + random.normal(0, 0.005), 0, 1)
                weight = np.where(vehicle == vehicle[c], 3.0, 1.0) * (np.arange(k) != c)
                confusion[seed, c] = np.round(1000 * (1 - right) * weight / weight.sum())
                confusion[seed, c, c] = round(1000 * right)
        spread = 0.5 + random.normal(0, 0.01, (n, k))
        spread[:, 8] += 0.2
        return {
            "labels": np.arange(1000, dtype=np.uint8) % k, "z": random.random((1000, 32)).astype(np.float16),
            "centre": random.random((k, 32)), "confusion": confusion, "spread": spread,
        }  # fmt: skip

    def fill(self, profile: str = "paper") -> None:
        for run in {"paper": PAPER, "laptop": LAPTOP}[profile]["runs"]:
            self.record(profile, run)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Repository:
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))
    return Repository(tmp_path)


def judged(claim: str, study: str = STUDY) -> ledger.Judged:
    return next(one for one in ledger.judge(study) if one.claim.id == claim)


# --- the files of the claims ---


def test_every_claim_compares_runs_that_are_planned():
    profiles = {name: read_yaml(ROOT / "papermill_runs" / f"{name}.yaml") for name in ("laptop", "paper")}
    claims = ledger.read_claims()
    found = {one.claim.id: one for study in {claim.study for claim in claims} for one in ledger.judge(study)}
    assert set(found) == {claim.id for claim in claims}
    for claim in claims:
        plan = profiles[claim.profile]["studies"][claim.study]["runs"]
        for comparison in found[claim.id].comparisons:
            assert comparison.runs, comparison.test
            assert set(comparison.runs) <= set(plan), comparison.test


def test_the_reported_table_holds_the_twelve_scenarios():
    table = ledger.reported(STUDY)
    assert set(table.index) == {run for run in PAPER["runs"] if "baseline" not in run}
    assert table[["accuracy", "top3", "knn30"]].stack().between(0, 1).all()
    assert table["epochs"].to_dict() == {run: PAPER["runs"][run]["epochs"] for run in table.index}


def test_the_claims_agree_with_the_table_that_they_are_read_from():
    """Each comparison points the way of the source's numbers, '>=' where they differ by less than a point."""
    for one in ledger.judge(STUDY):
        for part in one.comparisons:
            if np.isfinite(part.paper) and " = paper " not in part.test:
                assert part.paper > 0
                if one.claim.id.startswith("order-"):
                    assert (part.paper < 0.01) == (">=" in part.test), part.test


# --- claims, judged ---


def test_without_records_every_claim_is_not_run_yet(repository):
    assert set(results.claims(STUDY)["chip"]) == {"not run yet"}
    assert judged("triplet-over-pair").average is None


def test_with_all_records_near_the_paper_its_claims_are_reproduced(repository):
    repository.fill()
    chips = results.claims(STUDY).set_index("id")["chip"].to_dict()
    expected = {
        "triplet-over-pair",
        "stronger-views-help-triplets",
        "order-mnist-pair",
        "easiest-classes",
        "animals-confused",
    }
    assert {name: chips[name] for name in expected} == dict.fromkeys(expected, "reproduced")
    assert chips["twelve-accuracies"] == "reproduced"


def test_one_missing_run_leaves_a_claim_open(repository):
    repository.fill()
    shutil.rmtree(repository.root / "papermill_runs" / "paper" / STUDY / "mnist-fer-pair")
    one = judged("triplet-over-pair")
    assert (one.chip, one.upheld, one.judged) == ("not run yet", 5, 5)
    assert "5 of 6 comparisons so far" in results.headline_sentence(one)


def test_three_seeds_are_too_few_for_a_claim(repository):
    repository.fill()
    repository.record("paper", "mnist-fer-pair", [0.7, 0.7, 0.7], seeds=[0, 1, 2])
    assert judged("triplet-over-pair").chip == "n too small"


def test_a_claim_that_fails_once_is_partly_reproduced(repository):
    repository.fill()
    repository.record("paper", "mnist-none-triplet", [0.5] * 5)
    one = judged("triplet-over-pair")
    assert (one.chip, one.upheld) == ("partly", 5)
    assert one.comparisons[0].verdict.word == "lower"


def test_the_average_is_taken_within_each_seed(repository):
    """Two comparisons whose noise cancels within a seed: the mean has no spread although each part has."""
    noise = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    repository.record("paper", "mnist-none-pair", [0.5] * 5)
    repository.record("paper", "mnist-none-triplet", 0.6 + noise)
    repository.record("paper", "mnist-fer-pair", [0.5] * 5)
    repository.record("paper", "mnist-fer-triplet", 0.8 - noise)
    average = judged("triplet-over-pair").average
    assert average.values == pytest.approx([0.2] * 5)
    assert (average.low, average.high) == pytest.approx((0.2, 0.2))


def test_class_quantities_by_hand():
    confusion = np.array([[[8, 1, 1], [2, 6, 2], [0, 5, 5]]])
    arrays = {"confusion": confusion, "spread": np.array([[0.2, 0.4, 0.9]])}
    assert ledger.recall(arrays) == pytest.approx(np.array([[0.8, 0.6, 0.5]]))
    assert ledger.recall(arrays, [0, 2]) == pytest.approx([0.65])
    assert ledger.spread(arrays, [1, 2]) == pytest.approx([0.65])
    # errors of classes 1 and 2: four and five, of which two and five stay; evenly spread, one in two would
    assert ledger.kin(arrays, [1, 2]) == pytest.approx([7 / 9 - 1 / 2])


def test_errors_spread_evenly_have_no_kin():
    even = np.full((1, 10, 10), 3) + 50 * np.eye(10, dtype=int)
    assert ledger.kin({"confusion": even}, [2, 3, 4, 5, 6, 7]) == pytest.approx([0])


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("a < b", "is no test"),
        ("mnist-none-triplet > recall[frog]", "names no run"),
        ("mnist-none-triplet > mnist-none-pair:recall[frog]", "'frog' is no class of mnist"),
        ("mnist-none-triplet > mnist-none-pair:acuracy", "Did you mean 'accuracy'"),
        ("mnist-none-triplet:recal[1] > mnist-none-pair", "Did you mean 'recall'"),
    ],
)
def test_a_test_that_cannot_be_read_says_so(repository, test, message):
    repository.record("paper", "mnist-none-pair")
    repository.record("paper", "mnist-none-triplet")
    entry = {
        "id": "x",
        "study": STUDY,
        "profile": "paper",
        "claim": "c",
        "source": "s",
        "protocol": "p",
        "compare": {"one": test},
    }
    (repository.root / "book" / "results" / "claims.yaml").write_text(yaml.safe_dump({"claims": [entry]}))
    with pytest.raises(ValueError, match=re.escape(message)):
        ledger.judge()


def test_a_misspelled_key_of_a_claim_is_named(repository):
    (repository.root / "book" / "results" / "claims.yaml").write_text("claims: [{id: x, protocoll: p}]")
    with pytest.raises(ValueError, match=r"claim 'x'.*'protocoll'.*Did you mean 'protocol'"):
        ledger.read_claims()


# --- many tests at once ---


def test_luck_is_the_one_sided_t_test():
    from scipy import stats

    for values in ([0.1, 0.2, 0.05, -0.02, 0.3], [-1.0, 0.5, 0.1], [3.0, 2.0]):
        expected = stats.ttest_1samp(values, 0, alternative="greater").pvalue
        assert ledger.by_luck(statistics.interval(values)) == pytest.approx(expected, rel=1e-10)
    edge = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    half = statistics.interval(edge).high
    assert ledger.by_luck(statistics.interval(edge + half)) == pytest.approx(0.025)
    assert [ledger.by_luck(statistics.interval([x] * 5)) for x in (1.0, 0.0, -1.0)] == [0.0, 0.5, 1.0]
    assert np.isnan(ledger.by_luck(statistics.interval([1.0]))) and np.isnan(ledger.by_luck(None))


def made_up(differences, test="a > b"):
    """A claim of one comparison, with these differences by seed."""
    claim = ledger.Claim("x", STUDY, "paper", "c", "s", "p", {})
    found = statistics.interval(differences)
    verdict = statistics.verdict(found, ">=" if ">=" in test else ">")
    part = ledger.Comparison(claim, "one", test, (), pd.Series(differences), np.nan, verdict)
    return ledger.Judged(claim, (part,))


def test_chance_counts_decided_differences_alone():
    strong, weak = [1.0, 1.1, 0.9, 1.0, 1.05], [0.1, 0.3, 0.05, 0.2, 0.15]
    every = [
        *(made_up(strong) for _ in range(3)), made_up(weak), made_up([-x for x in strong]),
        made_up(strong[:3]), made_up(strong, "a >= b"), made_up([0.01, -0.01, 0.02, 0.0, -0.02]),
    ]  # fmt: skip
    chance = ledger.by_chance(every)
    assert len(chance.decided) == 6 and chance.expected == pytest.approx(0.15)
    assert (chance.upheld, chance.reversed, len(chance.standing)) == (4, 1, 3)  # the weak one does not stand
    alone = ledger.by_chance([made_up(weak)])
    assert (alone.upheld, len(alone.standing)) == (1, 1)  # alone it does
    assert ledger.by_chance([]).expected == 0


def test_chance_upholds_one_in_forty_of_differences_that_are_zero():
    random = np.random.default_rng(0)
    chance = ledger.by_chance([made_up(random.normal(size=5)) for _ in range(2000)])
    for count in (chance.upheld, chance.reversed):
        assert abs(count - chance.expected) < 4 * np.sqrt(chance.expected)
    assert len(chance.standing) <= 1


def test_a_band_of_counts_speaks_of_no_points(repository, monkeypatch):
    """An elbow is a number of groups: "within 1", where an accuracy says "within 3 points"."""
    monkeypatch.setattr(ledger, "_values", lambda *_: pd.Series([7.0, 7.0, 8.0, 7.0, 7.0]))
    words = {part.test: part.verdict.word for part in judged("rcc-elbow", "cc_vs_rcc").comparisons}
    assert words["mnist-rcc-k5 = paper ± 1"] == "farther than 1"
    assert words["mnist-cc-k5 = paper ± 1"] == "partly within 1"
    assert judged("twelve-accuracies").comparisons[0].verdict.word == "farther than 5 points"


# --- tables ---


def test_the_table_lists_planned_runs_whether_recorded_or_not(repository):
    repository.record("paper", "mnist-none-triplet", [0.80, 0.81, 0.82, 0.83, 0.84])
    repository.record("paper", "mnist-none-pair", method="older")
    table = results.table(results.arms(STUDY, "paper"), ["accuracy", "top3"]).set_index("run")
    assert list(table.index) == list(PAPER["runs"])
    row = table.loc["mnist-none-triplet"]
    assert row["accuracy"] == pytest.approx(0.82)
    assert row["accuracy_low"] < 0.82 < row["accuracy_high"]
    assert (row["n"], row["accuracy_paper"], row["note"]) == (5, 0.814, "")
    assert row["link"] == f"../runs/paper/{STUDY}/mnist-none-triplet.html"
    assert (table.loc["mnist-none-pair", "note"], table.loc["mnist-fer-pair", "note"]) == (
        "older code",
        "not run yet",
    )
    assert table.loc["mnist-fer-pair", "n"] == 0


def test_baselines_are_read_by_prefix(repository):
    repository.record("paper", "mnist-baseline")
    arms = [arm for arm in results.arms(STUDY, "paper") if arm.run == "mnist-baseline"]
    assert results.table(arms, ["accuracy"], prefix="pixels_")["accuracy"].tolist() == pytest.approx([0.9])


def test_ablations_pair_runs_that_differ_in_one_setting(repository):
    repository.record("laptop", "mnist-simclr-triplet", [0.90, 0.91, 0.92, 0.93, 0.94])
    repository.record("laptop", "mnist-noflip-triplet", [0.92, 0.93, 0.94, 0.95, 0.97])
    found = results.ablations(STUDY, "laptop", tuned=("learning_rate", "epochs", "margin", "temperature"))
    pairs = {(one.setting, one.base.run, one.arm.run): one for one in found}
    assert set(pairs) == {
        ("flip", "mnist-simclr-triplet", "mnist-noflip-triplet"),
        ("flip", "mnist-simclr-pair", "mnist-noflip-pair"),
        ("loss", "mnist-simclr-triplet", "mnist-simclr-pair"),
        ("loss", "mnist-simclr-triplet", "mnist-simclr-margin"),
        ("loss", "mnist-noflip-triplet", "mnist-noflip-pair"),
        ("loss", "mnist-matched-triplet", "mnist-matched-pair"),
        ("arm", "mnist-simclr-triplet", "mnist-matched-triplet"),
        ("arm", "mnist-simclr-pair", "mnist-matched-pair"),
        ("mining", "mnist-simclr-triplet", "mnist-hard-triplet"),
        ("precision", "mnist-simclr-triplet", "mnist-bf16-triplet"),
    }
    flip = pairs.pop(("flip", "mnist-simclr-triplet", "mnist-noflip-triplet"))
    assert flip.ours.mean == pytest.approx(0.022)
    assert flip.verdict.word == "higher"
    assert flip.turned.ours.mean == pytest.approx(-0.022)
    assert (flip.turned.base, flip.turned.verdict.word) == (flip.arm, "lower")
    assert {one.verdict.chip for one in pairs.values()} == {"not run yet"}
    matched = pairs["loss", "mnist-matched-triplet", "mnist-matched-pair"]
    assert matched.shared == {"arm": "matched"}  # what the profile makes usual is not told each time
    assert matched.also == {"learning_rate": (0.15, 0.1), "margin": (None, 0.5)}
    assert matched.turned.also["learning_rate"] == (0.1, 0.15)
    page = f'<a href="../runs/laptop/{STUDY}/mnist-{{0}}-triplet.html" title="mnist-{{0}}-triplet">'
    runs = [f"{page.format(kind)}mnist-{kind}-triplet</a>" for kind in ("noflip", "simclr")]
    assert flip.told == f"{flip.ours.signed}, n = 5, **higher** ({runs[0]} against {runs[1]})"
    assert matched.told == "*not run yet* (`mnist-matched-pair` against `mnist-matched-triplet`)"


def test_a_number_links_to_the_runs_that_made_it(repository):
    repository.record("paper", "mnist-none-triplet")
    arms = {arm.run: arm for arm in results.arms(STUDY, "paper")}
    page = f'<a href="../runs/paper/{STUDY}/mnist-none-{{0}}.html" title="mnist-none-{{0}}">'
    assert arms["mnist-none-triplet"].link(".814") == f"{page.format('triplet')}.814</a>"
    assert (arms["mnist-none-pair"].link(".5"), arms["mnist-none-pair"].link()) == (".5", "`mnist-none-pair`")

    def comparison():
        claim = next(one for one in results.judge(STUDY) if one.claim.id == "triplet-over-pair")
        return next(part for part in claim.comparisons if "mnist-none-pair" in part.runs)

    assert results.linked(comparison(), "+.3") == f"{page.format('triplet')}+.3</a>"
    repository.record("paper", "mnist-none-pair")
    linked = f"{page.format('triplet')}+.3</a> {page.format('pair')}[2]</a>"
    assert results.linked(comparison(), "+.3") == linked


# --- cards and blocks ---


def test_the_tally_counts_claims_and_what_chance_would_find(repository):
    every = ledger.judge(STUDY)
    parts = [part for one in every for part in one.comparisons]
    asked = sum(part.test.count(" > ") for part in parts)
    told = results.tally(every)
    assert told.startswith(f"Of {len(every)} claims, {len(every)} are not run yet. They make {len(parts)} ")
    assert f"{asked} of them ask for a difference above zero. None of these has the seeds" in told
    repository.fill()
    every = ledger.judge(STUDY)
    decided = [part for one in every for part in one.comparisons if part.decided and " > " in part.test]
    upheld = sum(part.verdict.chip == "reproduced" for part in decided)
    told = results.tally(every)
    assert 10 < upheld <= len(decided) < asked  # the claim on laptop runs has no records
    assert f"Of these, {len(decided)} are decided and {upheld} upheld." in told
    assert f"one in forty: {0.025 * len(decided):.1f} on average." in told
    assert f"Of the {upheld} upheld {len(ledger.by_chance(every).standing)} stand" in told


@pytest.mark.parametrize("filled", ["none", "some", "all"])
def test_cards_and_tables_of_verdicts_read_at_every_stage(repository, filled):
    if filled == "some":
        repository.record("paper", "mnist-none-pair")
        repository.record("paper", "mnist-none-triplet")
    elif filled == "all":
        repository.fill()
    card, verdicts = results.card(STUDY).data, results.verdicts(ledger.judge(STUDY)).data
    expected = {
        "none": "not run yet",
        "some": "1 of 6 comparisons so far",
        "all": "averaged over 6 comparisons, n = 5 seeds",
    }[filled]
    assert expected in card
    assert "nan" not in re.sub(r"<[^>]*>", "", card + verdicts)
    assert ("runs/paper" in verdicts) == (filled != "none")


def execute_ledger(monkeypatch):
    """Execute the ledger's page; what it draws, by name, and all that it says."""
    drawn, said = {}, []
    for kind in ("show", "table"):
        monkeypatch.setattr(figures, kind, lambda name, *given, **told: drawn.update({name: (given, told)}))
    monkeypatch.setattr("IPython.display.display", lambda output: said.append(output.data))
    names = {}
    for cell in nbformat.read(ROOT / "book" / "results" / "ledger.ipynb", 4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    for _, told in drawn.values():
        if "still" in told:
            for theme in figures.THEMES:
                told["still"](theme)
    return names, drawn, "\n".join(said)


@pytest.mark.parametrize("filled", ["none", "some", "all"])
def test_the_ledger_reads_at_every_stage(repository, monkeypatch, filled):
    for profile in ("laptop", "paper"):  # the real plans, of all studies
        shutil.copy(ROOT / "papermill_runs" / f"{profile}.yaml", repository.root / "papermill_runs")
    if filled == "some":
        repository.record("paper", "mnist-none-pair")
        repository.record("paper", "mnist-none-triplet")
    elif filled == "all":
        repository.fill()
    names, drawn, said = execute_ledger(monkeypatch)
    plain = re.sub(r"<[^>]*>", "", said)
    assert not re.search(r"\bnan\b", plain)
    for claim in ledger.read_claims():
        assert claim.claim.replace("<", "&lt;") in said and claim.protocol in said
    rows = drawn["counts"][0][0].set_index("study")
    assert rows["claims"].tolist() == [*map(len, names["of"].values()), len(names["every"])]
    assert rows.loc["all four", "decided"] == {"none": 0, "some": 3, "all": 36}[filled]
    assert ("distances" in drawn) == (filled != "none")
    assert rows["link"].tolist()[:4] == [f"{study}.html" for study in names["STUDIES"]]
    for study in names["STUDIES"]:
        assert (ROOT / "book" / "results" / f"{study}.ipynb").is_file()
    if filled == "some":  # of the pair and the triplet: one difference, two agreements with the paper
        assert drawn["distances"][1]["data"]["comparison"].tolist() == ["MNIST, none"]


def test_the_ledgers_rows_tell_the_whole_protocol(repository):
    repository.record("paper", "mnist-none-pair")
    repository.record("paper", "mnist-none-triplet")
    text = results.verdicts([judged("triplet-over-pair")], fold=3, whole=True).data
    about = "Profile paper; metric <code>accuracy</code>; data MNIST, CIFAR-10; 12 runs; n = 5 seeds."
    assert about in text and "1 of 6 comparisons upheld</summary>" in text
    assert about not in results.verdicts([judged("triplet-over-pair")]).data
    repository.fill()
    text = results.verdicts([judged("triplet-over-pair")], fold=3, whole=True).data
    means = [part.ours.mean for part in judged("triplet-over-pair").comparisons]
    low, high = statistics.difference(min(means)), statistics.difference(max(means))
    assert f"6 of 6 comparisons upheld, ours {low} to {high}</summary>" in text
    text = results.verdicts([judged("eight-scattered")], whole=True).data
    assert "In the source: no number." in text


def test_write_fills_blocks_and_says_what_changed(repository):
    readme = repository.root / "README.md"
    blocks = (f"<!-- pullpush:{name} -->\nold\n<!-- /pullpush -->" for name in ("pair_vs_triplet", "records"))
    readme.write_text("Before\n\n" + "\n\nBetween\n\n".join(blocks) + "\n\nAfter\n")
    assert results.write(check=True) == [readme]
    assert "old" in readme.read_text()
    assert results.write() == [readme]
    assert results.write(check=True) == []
    text = readme.read_text()
    assert text.startswith("Before\n\n<!-- pullpush:pair_vs_triplet -->\n| data")
    assert text.count("not run yet") == 6 * 4 + 1
    assert "No laptop or paper run is recorded yet." in text
    repository.fill()
    assert results.write() == [readme]
    text = readme.read_text()
    assert f"](papermill_runs/paper/{STUDY}/mnist-none-pair/run.ipynb)" in text
    assert "paper: 14 runs with 70 seeds on cpu" in text
    assert (
        re.sub(r"(?s)(<!-- pullpush).*?(/pullpush -->)", "", text) == "Before\n\n\n\nBetween\n\n\n\nAfter\n"
    )


def test_every_study_has_its_headline_in_the_readme(repository):
    readme = repository.root / "README.md"
    readme.write_text("<!-- pullpush:studies -->\n<!-- /pullpush -->\n")
    repository.fill()
    results.write()
    lines = [line for line in readme.read_text().splitlines() if line.startswith("| [")]
    assert len(lines) == len(ledger_studies()) > 1
    one = next(one for one in ledger.judge(STUDY) if one.claim.headline)
    ours = f"{one.average.signed}, n = {one.average.n}"
    paper = statistics.difference(one.paper_average)
    assert lines[0] == (
        f"| [Pair against triplet](book/results/{STUDY}.ipynb) "
        f"| {one.claim.claim} | {ours} | {paper} | {one.chip} |"
    )
    assert all(line.endswith("| not run yet | – | not run yet |") for line in lines[1:] if "CC" in line)
    assert results.page_blocks()["studies"].count(f"](/results/{STUDY}.ipynb)") == 1
    written = (ROOT / "README.md").read_text()
    for study in ledger_studies():
        assert f"](book/results/{study}.ipynb)" in written


def test_an_origin_says_the_seeds_and_the_command_that_makes_a_record_again(repository):
    for run, seeds in (("mnist-simclr-triplet", [0, 1]), ("mnist-simclr-pair", [1, 2])):
        repository.record("laptop", run, seeds=seeds)
    repository.record("paper", "mnist-none-pair", seeds=[7])
    planned = [*results.arms(STUDY, "laptop"), *results.arms(STUDY, "paper")]
    made = results.Origin(planned).provenance()
    assert made["seeds"] == [0, 1, 2, 7] and made["trainings"] == 5
    one, two = made["command"].split("; ")
    assert one == f"pullpush run {STUDY} --profile laptop --rerun NAME"
    assert two == f"pullpush run {STUDY} --profile paper --rerun mnist-none-pair"
    asked = CliRunner().invoke(cli.app, [*two.split()[1:], "--list"])
    assert asked.exit_code == 0 and f"{STUDY}/mnist-none-pair" in asked.output.splitlines()


def test_parameters_are_written_as_numbers_are():
    written = {0.0: "0", 10.0: "10", 0.25: "0.25", 1000: "1,000", True: "on", None: "own", "mnist": "MNIST"}
    assert {value: results.label(value) for value in written} == written


def test_blocks_of_the_stage_are_left_alone_and_others_are_mistakes(repository):
    page = repository.root / "book" / "page.md"
    page.write_text("<!-- pullpush:status -->\nkept\n<!-- /pullpush:status -->\n")
    assert results.write() == []
    page.write_text("<!-- pullpush:pair_vs_triplets -->\n<!-- /pullpush -->\n")
    with pytest.raises(ValueError, match=r"book/page\.md.*Did you mean 'pair_vs_triplet'"):
        results.write()


def test_blocks_on_the_site_link_to_pages_of_the_site(repository):
    repository.fill()
    blocks = results.page_blocks()
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in blocks)
    assert f"](/runs/paper/{STUDY}/mnist-none-pair.ipynb)" in blocks["pair-vs-triplet"]
    assert {f"thumb-{study.replace('_', '-')}" for study in ledger_studies()} <= set(blocks)


# --- cards of the front page ---


def ledger_studies() -> set[str]:
    return {claim.study for claim in ledger.read_claims()}


def told(block: str) -> str:
    """The words of a card, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", block).split())


def test_a_card_sets_our_number_beside_the_source(repository):
    empty = results.page_blocks()["verdict-pair-vs-triplet"]
    source = judged("triplet-over-pair")
    expected = statistics.difference(np.mean([part.paper for part in source.comparisons]))
    assert told(empty) == (
        f"not run yet ours – the practicum {expected} Accuracy, triplet − pair, mean of 6 comparisons."
    )
    repository.fill()
    one, block = judged("triplet-over-pair"), results.page_blocks()["verdict-pair-vs-triplet"]
    assert told(block) == (
        f"reproduced ours {one.average.signed} the practicum {expected} "
        "Accuracy, triplet − pair, mean of 6 comparisons, n = 5 seeds. "
        "6 of 6 intervals leave out zero on the claimed side."
    )
    assert block.startswith("<div") and "\n" not in block  # a block of HTML in Markdown
    repository.record("paper", "mnist-fer-pair", [0.7, 0.7, 0.7], seeds=[0, 1, 2])
    assert "n = 3 seeds" in told(results.page_blocks()["verdict-pair-vs-triplet"])
    shutil.rmtree(repository.root / "papermill_runs" / "paper" / STUDY / "mnist-fer-pair")
    assert "mean of 5 of 6 comparisons" in told(results.page_blocks()["verdict-pair-vs-triplet"])


def test_a_card_and_the_ledger_say_how_many_runs_are_of_older_code(repository):
    repository.fill()
    for run in ("mnist-none-pair", "mnist-fer-pair"):
        repository.record("paper", run, method="older")
    count = len(results._records(judged("triplet-over-pair")))
    words = f"Older code: 2 of {count} runs."
    assert words in told(results.page_blocks()["verdict-pair-vs-triplet"])
    assert words in told(results.card(STUDY).data)
    assert words in told(results.verdicts(ledger.judge(STUDY), whole=True).data)


def test_a_source_without_numbers_is_not_given_one(repository):
    assert "the paper not available" in told(results.page_blocks()["verdict-lnscc"])


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        (["a > b"], "The interval leaves out zero on the claimed side."),
        (["a > b", "a > c"], "2 of 2 intervals leave out zero on the claimed side."),
        (["a >= b", "a >= c"], "2 of 2 intervals lie above zero, or at most a point below."),
        (["a > b", "a >= c"], "2 of 2 comparisons are upheld."),
    ],
)
def test_what_is_upheld_says_what_was_asked(tests, said):
    """'At most a point below' may be upheld by an interval that holds zero."""
    parts = [made_up([0.1, 0.11, 0.09, 0.1, 0.1], test).comparisons[0] for test in tests]
    claim = ledger.Claim("x", STUDY, "paper", "c", "s", "p", {})
    assert results.headline_sentence(ledger.Judged(claim, tuple(parts))).endswith(said)


def test_every_headline_says_what_is_subtracted():
    assert set(results.DIFFERENCES) == {claim.study for claim in ledger.read_claims() if claim.headline}


def test_every_block_of_this_book_is_written_by_somebody():
    assert all(page.suffix == ".md" for page in results.write(check=True))
