"""The page "How this book is made": what runs cost and which are stale, told of a small repository."""

import json
import subprocess
from typing import Any

from pullpush import made


def test_without_records(light: Any) -> None:
    blocks = made.blocks(light.path)
    assert "| toy | laptop | 0 | 2 | 0 | – | not run yet |" in blocks["cost"]
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
    assert f"| toy | laptop | 2 | 2 | {seeds} | {seeds / 2:.1f} | cpu |" in blocks["cost"]
    assert blocks["stale"].startswith("None.")

    text = light.notebook.read_text()
    light.notebook.write_text(text.replace("def one_seed(seed):", "def one_seed(seed, more=0):"))
    user = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", *user, "commit", "-qam", "More | seeds"], cwd=light.path, check=True)
    commit = light.record("one")["commit"][:7]
    lines = made.blocks(light.path)["stale"].splitlines()
    assert lines[2] == f"| toy, one (laptop) | `{commit}` | More \\| seeds |"
    assert len(lines) == 4
