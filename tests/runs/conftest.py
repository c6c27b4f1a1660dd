"""A repository in a temporary folder with one study, `toy`, that trains two small seeds in milliseconds."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import pullpush

PARAMETERS = """\
from typing import Optional

from pydantic import PositiveFloat, PositiveInt

from pullpush.runs import Device, Loss, Profile

profile: Profile = "quick"  # where the record is kept
seeds: list[int] = [0, 1]  # one training a seed
epochs: PositiveInt = 2  # passes
learning_rate: PositiveFloat = 0.1  # step size
loss: Loss = "pair"  # pair or triplet
flip: bool = True  # mirror the images
limit: Optional[int] = None  # number of images; None is all
device: Device = "cpu"  # auto, cpu or cuda
nap: float = 0.0  # seconds to sleep in an epoch
"""
BEGIN = """\
import time

import torch

from pullpush import runs, training

run = runs.begin("toy", globals())
"""
METHOD = """\
def one_seed(seed):
    "Fit a line to noise."
    stream = training.generator(seed)
    torch.manual_seed(seed)
    model = torch.nn.Linear(4, 1)
    images = torch.randn(64, 4, generator=training.generator(7))

    def step(i):
        noise = torch.randn(len(i), 4, generator=stream)
        time.sleep(nap / 4)
        return {"loss": (model(images[i] + noise) ** 2).mean()}

    history = training.fit(
        step, lambda epoch: torch.randperm(64, generator=stream).split(16),
        model=model, optimizer=torch.optim.SGD(model.parameters(), learning_rate), epochs=epochs,
        generator=stream, checkpoint=run.checkpoint(seed), identity=run.identity,
    )
    return {"last": history[-1]["loss"], "undefined": float("nan")}, {"weight": model.weight.detach().numpy()}


results = [run.seed(seed, one_seed) for seed in seeds]
"""
FINISH = """\
run.finish({"weights": torch.tensor([r.arrays["weight"].tolist() for r in results])}, {"train": "0" * 64})
"""
# The same study without torch, for tests that are not about training: its kernel starts in half the time.
LIGHT_BEGIN = 'import numpy as np\n\nfrom pullpush import runs\n\nrun = runs.begin("toy", globals())\n'
LIGHT_METHOD = """\
def one_seed(seed):
    weight = np.random.default_rng(seed).normal(size=4) * learning_rate
    print(f"epoch 1/1  loss {weight @ weight:.3f}")
    return {"last": weight @ weight, "undefined": float("nan")}, {"weight": weight}


results = [run.seed(seed, one_seed) for seed in seeds]
"""
LIGHT_FINISH = (
    'run.finish({"weights": np.stack([r.arrays["weight"] for r in results])}, {"train": "0" * 64})\n'
)

LAPTOP = """\
profile: laptop
studies:
  toy:
    defaults: {seeds: [0, 1], epochs: 3}
    runs:
      one: {loss: pair}
      two: {loss: triplet}
"""


def write_notebook(path: Path, cells: Sequence[tuple[str, str]]) -> None:
    """A notebook of code cells, each (tag or '', source)."""
    notebook = {
        "cells": [
            {
                "cell_type": "code", "id": f"cell-{i}", "metadata": {"tags": [tag] if tag else []},
                "source": source, "outputs": [], "execution_count": None,
            }
            for i, (tag, source) in enumerate(cells)
        ],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1))


class Tree:
    """A repository: its files, and `pullpush` and other programs run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notebook = path / "book" / "experiments" / "toy.ipynb"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PULLPUSH")
        }
        library = Path(pullpush.__file__).parents[1]
        self.environment |= {"PYTHONPATH": str(library), "PULLPUSH_ROOT": str(path)}

    def write(
        self, *, parameters: str = PARAMETERS, begin: str = BEGIN, method: str = METHOD, finish: str = FINISH
    ) -> None:
        write_notebook(
            self.notebook, [("parameters", parameters), ("", begin), ("method", method), ("", finish)]
        )

    def profile(self, name: str, text: str) -> None:
        (self.path / "papermill_runs" / f"{name}.yaml").write_text(text)

    def start(self, *command: str, **options: object) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        return subprocess.Popen(command, cwd=self.path, env=self.environment, text=True, **pipes)

    def call(self, *command: str) -> tuple[int, str]:
        """Exit code and everything printed."""
        process = self.start(*command)
        printed, _ = process.communicate(timeout=400)
        return process.returncode, printed

    def pullpush(self, *arguments: str) -> tuple[int, str]:
        return self.call(sys.executable, "-m", "pullpush.cli", *arguments)

    def commit(self) -> None:
        """Commit everything, as an author would."""
        (self.path / ".gitignore").write_text(".cache/\n_build/\n.snakemake/\n")
        user = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        for arguments in (("init", "-q"), ("add", "."), (*user, "commit", "-q", "-m", "All")):
            subprocess.run(["git", *arguments], cwd=self.path, check=True)

    def status(self) -> str:
        """What `git status` has to tell."""
        arguments = ["git", "status", "--porcelain", "--untracked-files=all"]
        return subprocess.run(arguments, cwd=self.path, check=True, capture_output=True, text=True).stdout

    def record(self, run: str, profile: str = "laptop") -> dict:
        base = self.path / ("_build/quick" if profile == "quick" else f"papermill_runs/{profile}")
        return json.loads((base / "toy" / run / "record.json").read_text())


@pytest.fixture(name="write_notebook")
def _write_notebook() -> Callable[[Path, Sequence[tuple[str, str]]], None]:
    return write_notebook


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """The repository without its notebook; also where this process finds itself."""
    for name in [name for name in os.environ if name.startswith("PULLPUSH")]:
        monkeypatch.delenv(name)
    (tmp_path / "papermill_runs").mkdir()
    (tmp_path / "book" / "experiments").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))
    return Tree(tmp_path)


@pytest.fixture
def toy(empty: Tree) -> Tree:
    """The study trains by `pullpush.training`."""
    empty.write()
    empty.profile("laptop", LAPTOP)
    return empty


@pytest.fixture
def light(empty: Tree) -> Tree:
    """The study does without torch."""
    empty.write(begin=LIGHT_BEGIN, method=LIGHT_METHOD, finish=LIGHT_FINISH)
    empty.profile("laptop", LAPTOP)
    return empty
