"""A killed run goes on by itself, ends bit for bit like any other, and leaves no trace in git."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil  # comes with ipykernel
import pytest

from pullpush import execution, kernels, records, runs

SLOW = """\
profile: laptop
studies:
  toy:
    defaults: {seeds: [0, 1], epochs: 8, nap: 0.12}
    runs:
      one: {}
"""
LAPTOP = """\
profile: laptop
studies:
  toy:
    runs:
      one: {loss: pair}
      two: {loss: triplet}
"""
COMMAND = (sys.executable, "-m", "pullpush.cli", "run", "--profile", "laptop")


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """What a process prints up to a line that holds `text`, or to its end."""
    read = ""
    for line in process.stdout or ():
        read += line
        if text in line:
            break
    return read


def test_killed_at_random_moments(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    toy.profile("laptop", SLOW)
    toy.commit()
    other = type(toy)(tmp_path_factory.mktemp("undisturbed") / "tree")
    subprocess.run(["git", "clone", "-q", toy.path, other.path], check=True)
    reference = other.start(*COMMAND)

    chance = random.randrange(10**6)
    print(f"random.Random({chance})")
    moments = random.Random(chance)
    folder = toy.path / "papermill_runs" / "laptop" / "toy" / "one"
    kills, printed = 0, ""
    while kills < 4 and not folder.exists():
        process = toy.start(*COMMAND, start_new_session=True)
        if kills:  # the first kill may come at any time, the later ones once seeds and epochs are under way
            printed += wait_for(process, "epoch")
        time.sleep(moments.uniform(0.0, 0.7))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
        assert folder.exists() or toy.status() == ""
    code, rest = toy.call(*COMMAND)
    assert code == 0, rest
    assert kills >= 2
    assert "resumed after epoch" in printed + rest or "loaded" in printed + rest

    assert reference.wait(400) == 0
    one, two = toy.record("one"), other.record("one")
    for part in ("metrics", "parameters", "method", "data"):
        assert one[part] == two[part]
    arrays = [tree.path / "papermill_runs/laptop/toy/one/arrays.npz" for tree in (toy, other)]
    assert arrays[0].read_bytes() == arrays[1].read_bytes()
    assert toy.status() == other.status()


@pytest.mark.parametrize(("number", "matrix"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_stop_says_how_to_go_on(light: Any, number: int, matrix: bool) -> None:
    """Ctrl-C, or the SIGTERM of a cluster, to the process that was started; its kernel ends too."""
    light.write(
        begin="from pullpush import runs\nrun = runs.begin('toy', globals())\n"
        "import os\nprint('kernel', os.getpid())",
        method="import time\ntime.sleep(600)",
    )
    what = ("--profile", "laptop") if matrix else ("toy", "-p", "epochs", "3")
    process = light.start(sys.executable, "-m", "pullpush.cli", "run", *what, start_new_session=True)
    kernel = int(wait_for(process, "kernel").split()[-1])
    process.send_signal(number)
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 130
    assert "stopped. Finished seeds are kept; the same command goes on from them." in printed
    assert ("Stopped. Finished runs and seeds are kept" in printed) == matrix
    assert "Traceback" not in printed
    for _ in range(400):
        if not alive(kernel):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the kernel goes on")


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and is not yet reaped does not."""
    return psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE


def test_two_at_once_and_one_that_fails(light: Any) -> None:
    """A whole profile without Snakemake: in parallel, one thread each; a failure does not stop the others."""
    light.profile("laptop", LAPTOP + "      three: {loss: margin}\n")
    light.write(
        begin="import os\nfrom pullpush import runs\nrun = runs.begin('toy', globals())",
        method="import time\ntime.sleep(1.5)\nassert loss != 'margin', 'broken'\nfor seed in seeds:\n"
        "    run.seed(seed, lambda seed: ({'threads': int(os.environ['OMP_NUM_THREADS'])}, {}))",
        finish="run.finish()",
    )
    light.environment.pop("OMP_NUM_THREADS", None)
    code, printed = light.pullpush("run", "--profile", "laptop", "-j", "2")
    assert code == 1
    events = [
        line.split(" | ")[1] for line in printed.splitlines() if re.search("started$|finished in", line)
    ]
    assert [event.split()[0] for event in events[:3]] == ["started", "started", "finished"]
    assert [light.record(run)["metrics"][0]["threads"] for run in ("one", "two")] == [1, 1]
    assert "Error: three failed: AssertionError: broken" in printed
    assert printed.endswith("Error: 1 of 3 runs failed: three.\n")


def test_a_second_process_waits_and_does_not_repeat_the_work(
    light: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGKILL of a caller whose job lives on."""
    run = runs.read_profile("laptop")[0]
    executed = []

    def finish(run: Any, work: Path) -> None:
        executed.append(run.name)
        for name in ("run.ipynb", "arrays.npz"):
            (work / name).write_text('{"metadata": {}, "cells": []}')
        rows = [{"seed": seed} for seed in run.parameters["seeds"]]
        content = {
            "schema": 1,
            "study": "toy",
            "parameters": run.parameters,
            "metrics": rows,
            "seconds": [1.0, 1.0],
        }
        records.write_json(work / "record.json", content)

    class Busy(execution.FileLock):  # type: ignore[misc, valid-type]
        def acquire(self, *arguments: Any, blocking: bool = True, **options: Any) -> Any:
            if not blocking:
                raise execution.Timeout("busy")
            monkeypatch.setattr(execution, "FileLock", lock)
            execution.execute(run)  # the other process ends its work
            return super().acquire(*arguments, blocking=blocking, **options)

    lock = execution.FileLock
    monkeypatch.setattr(execution, "_execute_notebook", finish)
    monkeypatch.setattr(kernels, "prepare", lambda **_: None)
    monkeypatch.setattr(execution, "FileLock", Busy)
    execution.execute(run)
    assert executed == ["one"]
