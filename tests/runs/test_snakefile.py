"""The run matrix as Snakemake sees it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = (
    *(sys.executable, "-m", "snakemake", "-s", "papermill_runs/Snakefile", "--cores", "2"),
    *("--nolock", "--rerun-incomplete", "--keep-going"),
)


@pytest.fixture
def tree(light: Any) -> Any:
    shutil.copy(ROOT / "papermill_runs" / "Snakefile", light.path / "papermill_runs")
    return light


def snakemake(tree: Any, *arguments: str) -> tuple[int, str]:
    return tree.call(*COMMAND, *arguments)


def jobs(printed: str) -> dict[str, int]:
    """The job table of a dry run."""
    return {name: int(n) for name, n in re.findall(r"^(toy_\w+|pair_\S+) +(\d+)$", printed, re.MULTILINE)}


def test_laptop_runs_what_has_no_record_and_nothing_else(tree: Any) -> None:
    part = tree.path / "lib" / "pullpush" / "part.py"
    part.parent.mkdir(parents=True)
    part.write_text("x = 1\n")
    tree.commit()
    assert jobs(snakemake(tree, "--config", "profile=laptop", "-n")[1]) == {"toy_one": 1, "toy_two": 1}
    process = tree.start(*COMMAND, "--config", "profile=laptop", start_new_session=True)
    while "started" not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert tree.status() == ""
    code, printed = snakemake(tree, "--config", "profile=laptop")  # nothing to unlock, nothing to clean
    assert code == 0, printed
    assert tree.record("one")["metrics"] and tree.record("two")["metrics"]
    new = [line[:3] for line in tree.status().splitlines()]
    assert new == ["?? "] * 6  # the two runs, whole, and nothing else

    for path in [*tree.path.rglob("*.ipynb"), part]:  # neither file times nor code
        path.touch()
    tree.notebook.write_text(tree.notebook.read_text().replace("size=4", "size=5"))
    assert jobs(snakemake(tree, "--config", "profile=laptop", "-n")[1]) == {}
    printed = snakemake(tree, "--config", "profile=laptop", "rerun=stale", "-n")[1]
    assert jobs(printed) == {"toy_one": 1, "toy_two": 1}

    # Snakemake deletes the outputs of a job that fails; records are not among them.
    tree.commit()
    tree.write(begin="raise RuntimeError('broken')", method="", finish="")
    code, printed = snakemake(tree, "--config", "profile=laptop", "rerun=two")
    assert code == 1
    assert "two failed: RuntimeError: broken" in printed
    assert "one |" not in printed
    assert tree.status() == " M book/experiments/toy.ipynb\n"


def test_the_command_for_a_cluster_runs_with_the_local_executor(tree: Any) -> None:
    """README's line, with another executor and profile, and without the resources of a SLURM account."""
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"^snakemake (-s [^`]*--executor slurm[^`]*)```", readme, re.MULTILINE)
    words = shlex.split(found[1].replace("\\\n", " ").split("--default-resources")[0])
    other = {"slurm": "local", "--jobs": "--cores", "20": "2", "profile=paper": "profile=laptop"}
    assert other.keys() <= set(words)
    tree.commit()
    code, printed = tree.call(sys.executable, "-m", "snakemake", *(other.get(word, word) for word in words))
    assert code == 0, printed
    assert tree.record("one")["metrics"] and tree.record("two")["metrics"]


def test_a_wrong_name_starts_nothing(tree: Any) -> None:
    code, printed = snakemake(tree, "--config", "profile=laptop", "rerun=tow", "-n")
    assert code != 0
    assert "No run 'tow' in profile laptop. Did you mean 'two'?" in printed


def test_runs_beyond_the_hours_of_a_profile_wait_for_hours(tree: Any) -> None:
    plan = tree.path / "papermill_runs" / "laptop.yaml"
    plan.write_text(plan.read_text().replace("{loss: pair}", "{needs: hours, loss: pair}"))
    printed = snakemake(tree, "--config", "profile=laptop", "-n")[1]
    assert jobs(printed) == {"toy_two": 1}
    assert "as they go beyond the hours of laptop: one." in printed
    assert jobs(snakemake(tree, "--config", "profile=laptop", "hours=yes", "-n")[1]) == {
        "toy_one": 1, "toy_two": 1
    }  # fmt: skip


def test_quick_follows_its_inputs(tree: Any) -> None:
    quick = "profile: quick\nstudies:\n  toy:\n    runs:\n      toy: {epochs: 1}\n"
    tree.profile("quick", quick)
    part = tree.path / "lib" / "pullpush" / "part.py"
    part.parent.mkdir(parents=True)
    part.write_text("x = 1\n")
    code, printed = snakemake(tree)
    assert code == 0, printed
    assert tree.record("toy", "quick")["profile"] == "quick"
    assert jobs(snakemake(tree, "-n")[1]) == {}
    tree.profile("quick", quick.replace("epochs: 1", "epochs: 5"))
    assert jobs(snakemake(tree, "-n")[1]) == {"toy_toy": 1}
    tree.profile("quick", quick)
    part.write_text("x = 2\n")
    assert jobs(snakemake(tree, "-n")[1]) == {"toy_toy": 1}


def test_a_copy_in_which_every_library_file_changed_runs_nothing_again(tmp_path: Path) -> None:
    """The repository itself: the same laptop and paper runs are pending, with newer files and other code."""
    trees = [tmp_path / "as_it_is", tmp_path / "changed"]
    for tree in trees:
        for part in ("lib", "book/experiments", "papermill_runs"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (trees[1] / "lib").rglob("*.py"):
        path.write_text(path.read_text() + "\nCHANGED = True\n")
    script = (
        "from pullpush import runs\n"
        "for profile in ('laptop', 'paper'): print(*(run.name for run in runs.pending(profile, gpu=True)))"
    )
    pending = []
    for tree in trees:
        environment = os.environ | {"PYTHONPATH": str(tree / "lib"), "PULLPUSH_ROOT": str(tree)}
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        pending.append(result.stdout)
    assert pending[0] == pending[1]
    assert len(pending[0].splitlines()) == 2
