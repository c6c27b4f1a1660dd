"""Grading: the checks of a chapter over a folder of submissions, each in a process of its own.

A submission is a notebook that `pullpush exercises` wrote and a student filled in. Cells are matched by
their ids: of the chapter's own cells only those tagged `solution` are taken from the student, so that an
edited check checks nothing less; cells that a student added run where they stand.

The limits keep an endless loop or a huge array from stopping the grading. They are no sandbox: a student's
code can read and write what you can. Grade code that you do not trust in a container or as another user.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pullpush import exercises, records
from pullpush.exercises import Notebook, exercises_of, source_of, tags_of
from pullpush.parameters import nearest

KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "PULLPUSH_DATA",
    "VIRTUAL_ENV",
    "TMPDIR",
)  # nothing else of the teacher's environment
HEAVY = ("torch", "numpy", "pandas", "matplotlib", "scipy", "sklearn")  # loaded before memory is counted
FILE_BYTES = 100_000_000  # the largest file that a submission may write
SAID = 200  # letters of an error that are kept


@dataclass
class Graded:
    """One submission: `found` says of each check of the chapter '' (passed) or why it failed; `note`, what
    stopped the submission or its first error.
    """

    name: str
    chapter: str = ""
    found: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def passed(self) -> int:
        return sum(not why for why in self.found.values())


def grade(
    folder: Path,
    *,
    chapter: str | None = None,
    seconds: float = 300,
    megabytes: int = 2000,
    say: Callable[[Graded], None] = lambda graded: None,
) -> list[Graded]:
    """Grade every file in `folder` and the folders in it, in order of their names.

    chapter: such as one_family; by default the one whose checks a submission holds. seconds, megabytes: the
    limits of one submission, megabytes beyond what its libraries take. say: told of each as it is done.
    Raises ValueError for an unknown chapter, and FileNotFoundError if there is no such folder or it is empty.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {folder}.")
    sheets = {Path(name).stem: notebook for name, notebook in exercises.chapters()}
    if chapter is not None and chapter not in sheets:
        raise ValueError(f"No chapter '{chapter}' with exercises. {nearest(chapter, sorted(sheets))}")
    if chapter is not None:
        sheets = {chapter: sheets[chapter]}
    graded = []
    for path in _submissions(folder):
        name = path.relative_to(folder).as_posix().removesuffix(".ipynb")
        graded.append(_grade_one(path, name, sheets, seconds, megabytes))
        say(graded[-1])
    if not graded:
        raise FileNotFoundError(f"{folder} holds no submission.")
    return graded


def _submissions(folder: Path) -> Iterator[Path]:
    """Every file below `folder` but hidden ones and tables."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix != ".csv":
            yield path


def _grade_one(
    path: Path, name: str, sheets: Mapping[str, Notebook], seconds: float, megabytes: int
) -> Graded:
    try:
        submission = json.loads(path.read_text(encoding="utf-8"))
        cells = [(str(cell.get("id")), source_of(cell)) for cell in submission["cells"] if _is_code(cell)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Graded(name, note=f"is no notebook ({type(error).__name__})")
    ids = {id_ for id_, _ in cells}
    chapter, checks = max(
        ((title, _checks(sheet)) for title, sheet in sheets.items()),
        key=lambda sheet: len(ids & set(sheet[1])),
    )
    if not ids & set(checks):
        return Graded(
            name, note=f"holds no check of {' or '.join(sheets)}: is it made by pullpush exercises?"
        )
    own = {
        str(cell.get("id")): source_of(cell)
        for cell in sheets[chapter]["cells"]
        if _is_code(cell) and "solution" not in tags_of(cell)
    }
    plan: list[dict[str, Any]] = [
        {"id": id_, "source": own.get(id_, source), "check": id_ in checks} for id_, source in cells
    ]
    events, note = _run(plan, seconds, megabytes)
    found = dict.fromkeys(checks, "its cell is missing")
    found |= {cell["id"]: f"not reached: {note}" if note else "not reached" for cell in plan if cell["check"]}
    errors = []
    for event in events:
        if event["id"] in found:  # a check that stands there twice has to pass twice
            again = found[event["id"]]
            found[event["id"]] = event["error"] or ("" if again.startswith("not reached") else again)
        elif event["error"]:
            errors.append(f"code cell {event['place'] + 1}: {event['error']}")
    return Graded(name, chapter, found, note or next(iter(errors), ""))


def _is_code(cell: Any) -> bool:
    return bool(cell["cell_type"] == "code")


def _checks(notebook: Notebook) -> list[str]:
    return [id_ for exercise in exercises_of(notebook) for id_ in exercise.ids]


# --------------------------------------------------------------------------------------- in its own process


def _run(
    plan: Sequence[Mapping[str, Any]], seconds: float, megabytes: int
) -> tuple[list[dict[str, Any]], str]:
    """What each cell of the plan raised, as far as it came, and in a line what stopped it, or ''."""
    with tempfile.TemporaryDirectory(prefix="pullpush-grade-") as scratch:
        told = Path(scratch) / "told.jsonl"
        home = Path(scratch) / "home"
        home.mkdir()
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        environment |= {"PULLPUSH_ROOT": str(records.root()), "HOME": str(home), "MPLBACKEND": "Agg"}
        process = subprocess.Popen(
            [sys.executable, "-m", "pullpush.grading", str(told), str(megabytes), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env=environment,
            start_new_session=True,  # so that what it starts ends with it
        )
        late = False
        try:
            process.communicate(json.dumps(plan).encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _end(process)
        lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    events = [event for line in lines if "id" in (event := _json(line))]
    if late or process.returncode == -signal.SIGXCPU:
        return events, f"ran out of time ({seconds:g} s)"
    if any(event.get("memory") for event in events):
        return events, f"ran out of memory ({megabytes} MB)"
    if process.returncode or not lines or "done" not in _json(lines[-1]):
        code = process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return events, f"crashed ({how})"
    return events, ""


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _json(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:  # cut off when the process ended
        return {}
    return found if isinstance(found, dict) else {}


def _child(told: Path, megabytes: int, seconds: float) -> None:
    """Run the plan on stdin: a line of JSON for each cell, written as soon as it is done."""
    plan = json.loads(sys.stdin.buffer.read())
    text = "\n".join(cell["source"] for cell in plan)
    for name in HEAVY:
        if f"import {name}" in text or f"from {name}" in text:
            importlib.import_module(name)
    _limit(megabytes, seconds)
    names: dict[str, Any] = {"__name__": "__main__"}
    with told.open("a", encoding="utf-8") as file:
        for place, cell in enumerate(plan):
            event = {"id": cell["id"], "place": place, **_outcome(cell["source"], place, names)}
            file.write(json.dumps(event) + "\n")
            file.flush()
        file.write('{"done": true}\n')


def _outcome(source: str, place: int, names: dict[str, Any]) -> dict[str, Any]:
    try:
        exec(compile(source, f"<code cell {place + 1}>", "exec"), names)
    except MemoryError:
        return {"error": "MemoryError", "memory": True}
    except BaseException as error:  # exit() too
        said = " ".join(f"{type(error).__name__}: {error}".split())
        # torch has no MemoryError of its own.
        return {
            "error": said[:SAID],
            "memory": "not enough memory" in said or "can't allocate memory" in said,
        }
    return {"error": ""}


def _limit(megabytes: int, seconds: float) -> None:
    """Of this process: memory beyond what it has now, seconds of computing, size of a file."""
    import resource

    try:  # private memory alone; libraries are mapped files. Linux counts it, macOS does not
        status = Path("/proc/self/status").read_text()
        kilobytes = int(status.split("VmData:")[1].split()[0])
        most = kilobytes * 1024 + megabytes * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    except OSError:
        pass
    processor = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# ---------------------------------------------------------------------------------------------- the results


def table(graded: Sequence[Graded]) -> list[dict[str, Any]]:
    """One row a submission: name, chapter, how many checks passed of how many, each check, note."""
    most = max((len(one.found) for one in graded), default=0)
    rows = []
    for one in graded:
        row: dict[str, Any] = {"submission": one.name, "chapter": one.chapter}
        row |= {"passed": one.passed, "checks": len(one.found)}
        marks = ["failed" if why else "passed" for why in one.found.values()]
        row |= {f"check {k + 1}": marks[k] if k < len(marks) else "" for k in range(most)}
        why = [f"check {k + 1}: {why}" for k, why in enumerate(one.found.values()) if why]
        rows.append(row | {"note": one.note, "why": " | ".join(why)})
    return rows


def write_csv(graded: Sequence[Graded], path: Path) -> None:
    """The table as CSV. A cell that a spreadsheet would take for a formula gets an apostrophe."""
    import csv
    import io

    rows = table(graded)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({
            key: f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
            for key, value in row.items()
        })  # fmt: skip
    records.write_atomically(path, stream.getvalue().encode())


def line(one: Graded) -> str:
    """One submission in one line."""
    if not one.found:
        return f"{one.name}: {one.note}"
    marks = " ".join("-" if why else "+" for why in one.found.values())
    return f"{one.name}: {one.passed} of {len(one.found)}  {marks}" + (f"  {one.note}" if one.note else "")


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
