"""The page "How this book is made": what runs cost and which are stale, told of a small repository."""

import json
import subprocess
from typing import Any

import pandas as pd
import pytest

from pullpush import made, records

USER = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def test_without_records(light: Any) -> None:
    blocks = made.blocks(light.path)
    assert "| `toy` | laptop | 0 | 2 | 0 | – | not run yet |" in blocks["cost"]
    assert blocks["stale"] == "No run is recorded yet."


def test_cost_and_what_is_stale(light: Any) -> None:
    light.commit()
    assert light.pullpush("run", "toy", "--profile", "laptop")[0] == 0
    assert light.pullpush("run", "toy", "-p", "epochs", "3")[0] == 0  # a quick record is no evidence
    for name in ("one", "two"):
        path = light.path / "papermill_runs" / "laptop" / "toy" / name / "record.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"seconds": [1800.0] * len(content["seconds"])}))
    seeds = sum(len(light.record(name)["metrics"]) for name in ("one", "two"))
    blocks = made.blocks(light.path)
    assert f"| `toy` | laptop | 2 | 2 | {seeds} | {seeds / 2:.1f} | cpu |" in blocks["cost"]
    assert blocks["stale"].startswith("None.")
    plan = light.path / "papermill_runs" / "laptop.yaml"
    planned = plan.read_text()
    plan.write_text(planned.replace("one: {", "one: {needs: hours, "))
    first = len(light.record("one")["metrics"])
    told = f"{(seeds - first) / 2:.1f} + {first / 2:.1f}"
    assert f"| `toy` | laptop | 2 | 2 | {seeds} | {told} | cpu |" in made.blocks(light.path)["cost"]
    plan.write_text(planned)

    text = light.notebook.read_text()
    light.notebook.write_text(text.replace("def one_seed(seed):", "def one_seed(seed, more=0):"))
    git(light, *USER, "commit", "-qam", "More | seeds")
    commit = light.record("one")["commit"][:7]
    lines = made.blocks(light.path)["stale"].splitlines()
    assert lines[2:] == [f"| `toy` | laptop | `one`, `two` | `{commit}` | More \\| seeds |"]
    frame = records.load_records()
    many = pd.concat([frame.assign(run=f"{run}-{i}") for run in ("one", "two") for i in range(2)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "_last_check", lambda profile, study, run: commit)
        folded = made.stale(light.path, many).splitlines()[2]
    assert "<details><summary>4 runs</summary>`one-0`, `one-1`, `two-0`, `two-1`</details>" in folded


def test_a_change_of_any_module_that_the_method_reaches_is_named(light: Any) -> None:
    """Also of those that no list of method modules holds, as `evaluation` imports `clustering`."""
    library = light.path / "lib" / "pullpush"
    library.mkdir(parents=True)
    (library / "evaluation.py").write_text("from pullpush.clustering import kmeans\n\nprobe = kmeans\n")
    (library / "clustering.py").write_text("def kmeans():\n    return 1\n")
    (library / "looks.py").write_text("PULL = 1\n")  # not reached
    content = json.loads(light.notebook.read_text())
    method = next(cell for cell in content["cells"] if "method" in cell["metadata"].get("tags", []))
    method["source"] = "from pullpush import evaluation\n\nevaluation.probe\n" + "".join(method["source"])
    light.notebook.write_text(json.dumps(content))
    light.commit()
    first = git(light, "rev-parse", "HEAD")
    for name in ("clustering", "looks", "evaluation"):
        file = library / f"{name}.py"
        file.write_text(file.read_text() + "MORE = 2\n")
        git(light, *USER, "commit", "-qam", f"A change of {name}")
    assert made._changes(light.path, "toy", first) == "A change of evaluation<br>A change of clustering"
    light.notebook.unlink()
    git(light, *USER, "commit", "-qam", "The study is gone")
    assert made._changes(light.path, "toy", first) == "The study is gone"


def git(tree: Any, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=tree.path, check=True, capture_output=True, text=True
    ).stdout.strip()
