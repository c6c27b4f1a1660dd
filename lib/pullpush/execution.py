"""Executing a run: its notebook by papermill in `.cache/`, then its folder put in place whole.

Nothing outside `.cache/` changes before the run is finished, so it may be killed at any moment; the next call
loads the seeds that are finished and goes on with the one that is not.
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pullpush import kernels, records
from pullpush.matrix import Planned
from pullpush.parameters import code_cells, read_notebook, read_schema

NOTEBOOK_LIMIT = 500_000  # bytes; beyond it the page is told of, not refused
UNFINISHED = re.compile(r"epoch (\d+)/(?!\1 )\d+ ")  # a line of an epoch that is not the last
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class RunFailed(RuntimeError):
    """A run that did not finish; the message says why and how to go on."""


def execute(run: Planned, *, target: Path | None = None, fresh: bool = False) -> records.Record:
    """Execute one run and put its folder (run.ipynb, record.json, arrays.npz) at `target`, or in its place.

    fresh: drop the seeds that an earlier attempt kept. Raises RunFailed, and ValueError for a target that
    holds anything but a run.
    """
    target = check_target(run, target)
    work = records.work_folder(run.profile, run.study, run.name)
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work.with_name(f"{work.name}.lock"))  # the system drops it when the process dies
    waited = False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _say(run, "another process works on this run: waiting for it")
        waited = True
        lock.acquire()
    try:
        if not (waited and not fresh and (target / "record.json").is_file() and run.done):
            _execute_in(work, run, target, fresh)
    finally:
        lock.release()
    return records.read_record(target / "record.json")


def _execute_in(work: Path, run: Planned, target: Path, fresh: bool) -> None:
    for name in (*records.FILES, "whole", *(("seeds", "checkpoints") if fresh else ())):
        _remove(work / name)
    started = time.perf_counter()
    _say(run, "started")
    kernels.prepare(PULLPUSH_RUN=run.name, PULLPUSH_WORK=str(work), PULLPUSH_ROOT=str(records.root()))
    _execute_notebook(run, work)
    if not (work / "record.json").is_file():
        raise RunFailed(f"{run.name} ended without a record: its notebook must call run.finish.")
    text = (work / "run.ipynb").read_text(encoding="utf-8")
    notebook = clean_notebook(text, brief=run.profile == "laptop").encode()
    if len(notebook) > NOTEBOOK_LIMIT:
        _say(run, f"run.ipynb has {len(notebook) // 1000} kB; a page should have {NOTEBOOK_LIMIT // 1000}")
    whole = work / "whole"
    records.write_atomically(whole / "run.ipynb", notebook)
    for name in ("arrays.npz", "record.json"):
        (work / name).rename(whole / name)
    records.publish(whole, target)
    _remove(work / "run.ipynb")
    _say(run, f"finished in {(time.perf_counter() - started) / 60:.1f} min")


def recheck(run: Planned) -> list[str]:
    """Compute the first seed of a recorded run with today's code; what differs, nothing if all is equal.

    If the data and every metric are equal to the last bit, measured time (names that end in "seconds") apart,
    the record is no longer told to be made by older code: it notes seed, method and commit of this check. So
    code that was only made clearer or faster costs one seed instead of all. On another machine last bits
    differ, and only a rerun helps.
    Raises ValueError for a run without a record, RunFailed as `execute`.
    """
    record = run.record
    if record is None or not run.done:
        raise ValueError(f"{run.name} has no record with these parameters: run it without --recheck.")
    seed = record.content["metrics"][0]["seed"]
    once = dataclasses.replace(
        run, name=f"{run.name}.recheck", parameters={**run.parameters, "seeds": [seed]}
    )
    work = records.work_folder(once.profile, once.study, once.name)
    found = execute(once, target=work / "result", fresh=True).content
    old, new = record.content["metrics"][0], found["metrics"][0]
    compared = sorted(name for name in {*old, *new} if not name.endswith("seconds"))
    differs = [name for name in compared if old.get(name) != new.get(name)]
    differs += [] if record.content["data"] == found["data"] else ["data"]
    if not differs:
        kept = ("method", "commit", "dirty", "device_name", "finished")
        check = {"seed": seed} | {name: found[name] for name in kept}
        content = record.content | {"rechecks": [*record.rechecks, check]}
        records.write_json(record.folder / "record.json", content)
    _remove(work)
    return [f"{name} {old.get(name)} then, {new.get(name)} now" for name in differs]


def check_target(run: Planned, target: Path | None) -> Path:
    """Where the folder of a run goes. Raises ValueError if other files are there: they would be replaced."""
    target = target.resolve() if target else records.run_folder(run.profile, run.study, run.name)
    if target.is_file():
        raise ValueError(f"{target} is a file; name a folder.")
    names = sorted(path.name for path in target.glob("*"))
    others = [name for name in names if name not in records.FILES and not name.startswith(".")]
    if others:
        raise ValueError(f"{target} holds {others[0]}; name a new folder, as all in it is replaced.")
    return target


def check_data(run: Planned) -> None:
    """See, before a kernel starts, that a run finds the data it names; fetch what can be downloaded.

    A study's own default is embedded. Raises ValueError for an unknown name, RunFailed for data that is
    missing, altered or out of reach.
    """
    chapter = records.notebook_path(run.study)
    named = run.parameters.get("data")
    if named is None or named == read_schema(chapter).validate({})["data"]:
        return
    from pullpush import data

    rows = any("load_table" in cell for cell in code_cells(read_notebook(chapter)))
    check, load = (data.check_table, data.load_table) if rows else (data.check, data.load)
    kernels.absolute_data_root()
    try:
        with contextlib.chdir(records.root()):  # where the kernel will be
            try:
                check(named)
            except data.DataError:
                load(named)  # fetches what is missing, or says why it cannot be had
    except data.DataError as error:
        raise RunFailed(str(error)) from None


def _execute_notebook(run: Planned, work: Path) -> None:
    """The notebook of a run by papermill, its output passed on line by line."""
    from papermill.exceptions import PapermillExecutionError

    changed = read_schema(records.notebook_path(run.study)).changed(run.parameters)
    source, output, lines = _source(run, work), work / "run.ipynb", _Lines(run)
    say = functools.partial(_say, run)
    try:
        kernels.execute(source, output, changed, say=say, stdout_file=lines, stderr_file=lines)
    except PapermillExecutionError as error:
        trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
        reason = error.evalue
        if not _tells_of_data(error.ename, trace):
            print(trace, file=sys.stderr)
            reason = f"{error.ename}: {reason}"
        raise RunFailed(f"{run.name} failed: {reason}\n{_how_to_go_on(output)}") from None
    except kernels.KernelDied as error:
        why = f"the kernel died, often for lack of memory ({error})"
        raise RunFailed(f"{run.name}: {why}.\n{_how_to_go_on(output)}") from error


def _tells_of_data(name: str, trace: str) -> bool:
    """Whether an exception is a sentence of `pullpush.data` to the reader, who needs no traceback for it."""
    places = re.findall(r"^(?:File (\S+?)(?::\d+| in )|Cell )", trace, flags=re.MULTILINE)
    inside = bool(places) and "/pullpush/data/" in places[-1]
    return name == "DataError" or (name == "ValueError" and inside)


def _source(run: Planned, work: Path) -> Path:
    """The notebook to execute; one of many laptop runs goes without `teaching` cells and prose."""
    chapter = records.notebook_path(run.study)
    if run.profile != "laptop":
        return chapter
    notebook = json.loads(chapter.read_text(encoding="utf-8"))
    notebook["cells"] = brief_cells(notebook["cells"])
    records.write_json(work / "source.ipynb", notebook)
    return work / "source.ipynb"


def brief_cells(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cells without those that only teach; of the text between them, the headings."""
    kept = []
    for cell in cells:
        if "teaching" in cell["metadata"].get("tags", []):
            continue
        if cell["cell_type"] == "markdown":
            heading = "".join(cell["source"]).split("\n")[0]
            if not heading.startswith("#"):
                continue
            cell = cell | {"source": heading}
        kept.append(cell)
    return kept


def _how_to_go_on(output: Path) -> str:
    return (
        f"The notebook up to there: {output.relative_to(records.root())}. "
        "Finished seeds are kept; the same command goes on from them."
    )


class _Lines:
    """A text stream that puts the name of the run before each line, to tell parallel runs apart."""

    def __init__(self, run: Planned) -> None:
        self.run, self.rest = run, ""

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if line.strip():
                _say(self.run, line.rsplit("\r", 1)[-1])

    def flush(self) -> None:
        pass


def _say(run: Planned, line: str) -> None:
    sys.stdout.write(f"{run.name} | {line}\n")  # one write a line: parallel runs share the terminal
    sys.stdout.flush()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clean_notebook(text: str, brief: bool = False) -> str:
    """An executed notebook fit to be committed: no paths of this machine, printed lines in one piece.

    brief: of each training only the last epoch's line; the curves have the others.
    """
    notebook = json.loads(records.portable(text))
    papermill = notebook["metadata"].get("papermill", {})
    for name in ("input_path", "output_path", "environment_variables"):
        papermill.pop(name, None)
    for cell in notebook["cells"]:
        for name in ("papermill", "execution"):  # the times of each cell
            cell.get("metadata", {}).pop(name, None)
        if "outputs" in cell:
            cell["outputs"] = _joined(cell["outputs"], brief)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _joined(outputs: Sequence[dict[str, Any]], brief: bool) -> list[dict[str, Any]]:
    """Outputs of a cell with neighbouring streams joined and of an overwritten line only its last state."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        if output["output_type"] == "stream":
            text = "".join(output["text"])
            if joined and joined[-1].get("name") == output["name"]:
                text = joined.pop()["text"] + text
            output = output | {"text": text}
        joined.append(output)
    for output in joined:
        if output["output_type"] == "stream":
            lines = output["text"].removesuffix("\n").split("\n")
            lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines]
            if brief:
                lines = [line for line in lines if not UNFINISHED.match(line)]
            output["text"] = [line + "\n" for line in lines]
    return joined


def execute_all(runs: Sequence[Planned], jobs: int, options: Callable[[Planned], Sequence[str]]) -> list[str]:
    """Execute runs in order, each in its own process, `jobs` at a time; the names of those that failed.

    options: what `pullpush run` is given for a run besides its name, such as --fresh.
    """
    environment = os.environ | dict.fromkeys(THREADS, "1") if jobs > 1 else dict(os.environ)
    processes: list[subprocess.Popen[bytes]] = []

    def one(run: Planned) -> bool:
        command = [sys.executable, "-m", "pullpush.cli", "run", run.study, "--profile", run.profile]
        command += ["--name", run.name, *options(run)]
        processes.append(process := subprocess.Popen(command, env=environment))
        return process.wait() == 0

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, run) for run in runs]
        try:
            succeeded = [future.result() for future in futures]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.send_signal(signal.SIGINT)  # Ctrl-C in a terminal has reached them already
            raise
    return [run.name for run, good in zip(runs, succeeded, strict=True) if not good]


def describe_record(record: records.Record) -> str:
    """The means of a record in a line: 'accuracy 0.912, top3 0.98 (mean of 5 seeds)'."""
    rows: list[Mapping[str, Any]] = record.content["metrics"]
    names = [name for name in rows[0] if name != "seed"]
    means = [sum(records.number(row.get(name)) for row in rows) / len(rows) for name in names]
    numbers = ", ".join(f"{name} {mean:.4g}" for name, mean in zip(names, means, strict=True))
    return f"{numbers} ({'one seed' if len(rows) == 1 else f'mean of {len(rows)} seeds'})"
