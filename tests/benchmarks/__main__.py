"""`make bench`: every `bench_*.py` here in one run, as one table and as `_build/bench.json` and `.csv`.

Each runs in a process of its own. On a quiet machine a run of all of them is also the record that the book
shows, in papermill_runs/bench/.

A benchmark is a module with a `main()` that returns rows: dicts with `benchmark`, `setting`, `ours`, `peer`,
`unit`, `ratio` (how many times better ours is) and `target` (the ratio aimed for, or None).

    make bench                        all of them
    python tests/benchmarks views     only bench_views.py
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COLUMNS = ["benchmark", "setting", "ours", "peer", "unit", "ratio", "target"]
BUSY = 0.5  # one-minute load above which timings of two cores are not worth keeping


def names() -> list[str]:
    """The benchmarks that exist: `views` for bench_views.py."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def running() -> list[str]:
    """The runs that are executing in this tree: each holds a lock of its own."""
    held = []
    for path in (ROOT / ".cache" / "runs").rglob("*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            held.append(path.stem)
        else:
            lock.release()
    return held


def machine() -> dict[str, Any]:
    """Where and with what the numbers were measured."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or None,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "numpy", "pillow")},
        },
    }


def processor() -> str:
    """The processor's name, as Linux tells it; elsewhere what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure our parts against their peers.")
    parser.add_argument("benchmarks", nargs="*", help=f"{', '.join(names())}; all of them if none is named")
    wanted = parser.parse_args().benchmarks or names()
    for name in set(wanted) - set(names()):
        near = get_close_matches(name, names(), 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(names())}."
        sys.exit(f"Unknown benchmark {name!r}. {hint}")
    if runs := running():
        sys.exit(f"Runs are executing, so timings would be wrong: {', '.join(runs)}. Wait for them.")
    torch.set_num_threads(1)
    facts = machine()
    if facts["load"] > BUSY:
        print(
            f"Load is {facts['load']}: something else is running, so take these timings as noisy.",
            file=sys.stderr,
        )

    rows: list[dict[str, Any]] = []
    # Each in a process of its own: in the memory that others have used, the same code ran a tenth slower.
    fresh = ProcessPoolExecutor(
        1, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,), max_tasks_per_child=1
    )
    with fresh as pool:
        for name in wanted:
            print(f"bench_{name} ...", file=sys.stderr, flush=True)
            rows += pool.submit(importlib.import_module(f"bench_{name}").main).result()

    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    build = ROOT / "_build"
    build.mkdir(exist_ok=True)
    (build / "bench.json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    table.to_csv(build / "bench.csv", index=False)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}", na_rep=""))
    print(
        f"{facts['processor']}, one thread, torch {facts['versions']['torch']}. Written to _build/bench.json."
    )
    if set(wanted) == set(names()) and facts["load"] <= BUSY:
        record = ROOT / "papermill_runs" / "bench" / f"{'gpu' if facts['gpu'] else 'cpu'}.json"
        record.parent.mkdir(exist_ok=True)
        record.write_text((build / "bench.json").read_text())
        print(f"The book shows {record.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
