"""Which runs of a profile are left to do."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pullpush import matrix, records, runs
from pullpush.parameters import ParameterError


def finish(run: matrix.Planned) -> None:
    """Give a planned run its record."""
    folder = records.run_folder(run.profile, run.study, run.name)
    os.environ["PULLPUSH_RUN"], os.environ["PULLPUSH_WORK"] = run.name, str(folder)
    begun = runs.begin(run.study, dict(run.parameters))
    del os.environ["PULLPUSH_RUN"], os.environ["PULLPUSH_WORK"]
    for seed in begun.seeds:
        begun.seed(seed, lambda seed: ({"a": 1.0}, {}))
    begun.finish()
    shutil.rmtree(folder / "seeds")


def names(profile: str = "laptop", **options: Any) -> list[str]:
    return [run.name for run in runs.pending(profile, **options)]


def edit(tree: Any, old: str, new: str) -> None:
    path = tree.path / "papermill_runs" / "laptop.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_profile_is_read_in_order_with_defaults_filled_in(light: Any) -> None:
    one, two = runs.read_profile("laptop")
    assert (one.study, one.name, one.profile, one.needs) == ("toy", "one", "laptop", None)
    assert two.parameters == {
        "profile": "laptop", "seeds": [0, 1], "epochs": 3, "learning_rate": 0.1, "loss": "triplet",
        "flip": True, "limit": None, "device": "cpu", "nap": 0.0,
    }  # fmt: skip


class TestPending:
    def test_runs_without_a_record(self, light: Any) -> None:
        assert names() == ["one", "two"]
        finish(runs.pending("laptop")[0])
        assert names() == ["two"]
        finish(runs.pending("laptop")[0])
        assert names() == []

    @pytest.mark.parametrize(
        ("old", "new", "left"),
        [
            ("{loss: triplet}", "{loss: triplet, learning_rate: 0.2}", ["two"]),
            ("seeds: [0, 1]", "seeds: [0, 1, 2]", ["one", "two"]),
            ("epochs: 3", "epochs: 3, flip: true", []),  # said aloud, but no change
            ("two:", "three:", ["three"]),
        ],
    )
    def test_a_record_counts_only_with_exactly_these_parameters(
        self, light: Any, old: str, new: str, left: list[str]
    ) -> None:
        for run in runs.pending("laptop"):
            finish(run)
        edit(light, old, new)
        assert names() == left

    def test_neither_file_times_nor_code_bring_them_back(self, light: Any) -> None:
        for run in runs.pending("laptop"):
            finish(run)
        light.notebook.write_text(light.notebook.read_text().replace("size=4", "size=5"))
        for path in light.path.rglob("*"):
            os.utime(path)
        assert names() == []
        assert names(rerun="stale") == ["one", "two"]

    def test_a_new_parameter_does_not_bring_them_back(self, light: Any) -> None:
        for run in runs.pending("laptop"):
            finish(run)
        text = light.notebook.read_text()
        light.notebook.write_text(text.replace("flip: bool", "blur: bool = False\\nflip: bool"))
        assert "blur" in runs.read_profile("laptop")[0].parameters
        assert names() == []

    def test_a_named_run_is_done_again(self, light: Any) -> None:
        for run in runs.pending("laptop"):
            finish(run)
        assert names(rerun="two") == ["two"]
        assert names(rerun="toy/one") == ["one"]
        assert names(rerun="stale") == []
        with pytest.raises(ParameterError, match=r"No run 'tow' in profile laptop\. Did you mean 'two'"):
            names(rerun="tow")

    @pytest.mark.parametrize("gpu", [True, False])
    def test_runs_that_need_a_gpu(self, light: Any, gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        edit(light, "{loss: pair}", "{needs: gpu, loss: pair}")
        said: list[str] = []
        assert names(gpu=gpu, say=said.append) == (["one", "two"] if gpu else ["two"])
        assert said == ([] if gpu else ["Skipped, as there is no GPU here: one."])
        monkeypatch.setattr(matrix, "gpu_present", lambda: gpu)
        assert names() == (["one", "two"] if gpu else ["two"])

    def test_runs_beyond_the_hours_of_their_profile(self, light: Any) -> None:
        """They wait for `hours`, or to be named; their records count like any other's."""
        edit(light, "{loss: pair}", "{needs: hours, loss: pair}")
        said: list[str] = []
        assert names(say=said.append) == ["two"]
        assert said == ["Left to --hours (make: HOURS=yes), as they go beyond the hours of laptop: one."]
        assert names(hours=True, say=said.append) == names(rerun="one", say=said.append) == ["one", "two"]
        plan = (light.path / "papermill_runs" / "laptop.yaml").read_text()
        light.profile("laptop", plan + "  bare: {runs: {bare: {}}}\n")
        light.notebook.with_name("bare.ipynb").write_text(light.notebook.read_text())
        assert names(study="bare", say=said.append) == ["bare"]  # nor is more said than of that study
        light.profile("laptop", plan)
        assert len(said) == 1
        for run in runs.pending("laptop", hours=True):
            finish(run)
        assert names(hours=True) == names(say=said.append) == []
        assert len(said) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "loss: pair",
            "los: pair",
            "papermill_runs/laptop.yaml, toy, one: Unknown parameter 'los'. Did you mean 'loss'",
        ),
        ("loss: pair", "loss: pear", "laptop.yaml, toy, one: loss='pear' is not allowed"),
        ("epochs: 3", "epochs: none", "laptop.yaml, toy, one: epochs='none' is not allowed"),
        ("profile: laptop", "profile: paper", "says profile 'paper'; it must say 'laptop'"),
        ("loss: pair", "profile: paper", "toy, one: profile is 'paper'; it must be 'laptop'"),
        ("loss: pair", "needs: tpu", "toy, one: needs 'tpu' is unknown"),
        ("studies:", "study:", "unknown key 'study'. Did you mean 'studies'?"),
        ("defaults:", "default:", "laptop.yaml, toy: unknown key 'default'. Did you mean 'defaults'?"),
        ("one:", "../one:", "papermill_runs/laptop.yaml: '../one' cannot name a run"),
        ("one:", "One two:", "'One two' cannot name a run. Use a-z, 0-9"),
        ("toy:", "toi:", "Unknown study 'toi': no such notebook. Did you mean 'toy'?"),
    ],
)
def test_a_wrong_profile_says_where(light: Any, old: str, new: str, message: str) -> None:
    edit(light, old, new)
    with pytest.raises((ParameterError, FileNotFoundError)) as error:
        runs.read_profile("laptop")
    assert message in str(error.value)


def test_an_unknown_profile_brings_the_nearest(light: Any) -> None:
    with pytest.raises(ParameterError, match=r"Unknown profile 'labtop'\. Did you mean 'laptop'"):
        runs.pending("labtop")


def test_own_runs_have_names_of_their_own(light: Any) -> None:
    known = runs.read_profile("laptop")[1]
    assert matrix.planned("toy", known.parameters) == known
    other = matrix.planned("toy", known.parameters | {"epochs": 5})
    assert other.name.startswith("own-")
    assert other.name != matrix.planned("toy", known.parameters | {"epochs": 6}).name
    assert matrix.planned("toy", other.parameters, "mine").name == "mine"


def test_the_profiles_of_this_repository_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULLPUSH_ROOT", raising=False)
    monkeypatch.chdir(Path(__file__).parent)
    for path in (runs.root() / "papermill_runs").glob("*.yaml"):
        planned = runs.read_profile(path.stem)
        assert len({(run.study, run.name) for run in planned}) == len(planned) > 0
