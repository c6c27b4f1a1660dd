"""The chapters of `book/foundations` that are notebooks, and the assignments of `book/assignments`: no
parameters, no record, executed as they stand.

`make book` executes each into `_build/foundations/` or `_build/assignments/`, again when it or the library
has changed (the Snakefile); the stage puts what was executed in its place. `python -m pullpush.foundations
NAME` executes one. No two of them have one name.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullpush import records
from pullpush.parameters import nearest

FOLDERS = ("foundations", "assignments")  # of book/
KERNEL_STARTS = 3  # parallel kernels race for free ports, and the loser dies before its first cell
LIBRARIES = ("python", "torch", "numpy")  # whose versions a number of a chapter may depend on


class ChapterFailed(RuntimeError):
    """A notebook that did not run through; the message names its cell and its error."""


@dataclass(frozen=True)
class Chapter:
    """What a figure says about its origin where there is no run: give it as `run=` to `pullpush.figures`."""

    name: str
    commit: str | None
    dirty: bool | None

    def provenance(self) -> dict[str, Any]:
        """Notebook, commit, versions, and the command that makes the figure again."""
        versions = records.versions()
        return {
            "notebook": notebook_path(self.name).relative_to(records.root()).as_posix(),
            "commit": self.commit,
            "dirty": self.dirty,
            "versions": {name: versions[name] for name in LIBRARIES if name in versions},
            "command": f"python -m pullpush.foundations {self.name}",
        }


def names() -> list[str]:
    """Every chapter of foundations that is a notebook and every assignment, in order of the alphabet."""
    book = records.root() / "book"
    return sorted(path.stem for folder in FOLDERS for path in (book / folder).glob("*.ipynb"))


def notebook_path(name: str) -> Path:
    """Where a chapter lies. Raises ValueError for a name that has no notebook, with the nearest that has."""
    for folder in FOLDERS:
        path = records.root() / "book" / folder / f"{name}.ipynb"
        if path.is_file():
            return path
    raise ValueError(f"No notebook '{name}' in book/{' or book/'.join(FOLDERS)}. {nearest(name, names())}")


def executed_path(name: str) -> Path:
    """Where a chapter lies once it is executed. Raises ValueError for a name that has no notebook."""
    return records.root() / "_build" / notebook_path(name).parent.name / f"{name}.ipynb"


def inputs(name: str) -> list[Path]:
    """What a chapter is executed anew for: its notebook, the library, and the records if it reads them."""
    source, root = notebook_path(name), records.root()
    found = [source, *sorted(root.glob("lib/pullpush/**/*.py"))]
    if re.search(r"\b(load_records|load_arrays|open_record)\b", source.read_text(encoding="utf-8")):
        found += sorted(root.glob("papermill_runs/*/*/*/record.json"))
    return found


def chapter(name: str) -> Chapter:
    """The chapter that calls this, by its file name without `.ipynb`. Raises ValueError if there is none."""
    path = notebook_path(name)
    return Chapter(name, records.source_state()["commit"], _differs(path))


def _differs(path: Path) -> bool | None:
    """Whether the notebook or the library differ from the commit; None where there is no git."""
    command = ["git", "status", "--porcelain", "--", "lib", str(path)]
    try:
        said = subprocess.run(command, cwd=records.root(), capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if said.returncode else bool(said.stdout.strip())


def execute(source: Path, target: Path) -> None:
    """Execute a notebook as it stands; `target` is replaced only when all of it ran.

    Raises ChapterFailed naming the cell that failed and its error.
    """
    import papermill

    root = records.root()
    where = source.relative_to(root) if source.is_relative_to(root) else source
    print(f"Executing {where}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}")
    # Nothing of the user's own IPython, and no history file for which parallel kernels would wait.
    ipython = root / ".cache" / "ipython"
    ipython.mkdir(parents=True, exist_ok=True)
    os.environ |= {"IPYTHONDIR": str(ipython), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    for attempt in range(1, KERNEL_STARTS + 1):
        try:
            papermill.execute_notebook(
                source,
                part,
                cwd=root,
                kernel_name="python3",
                progress_bar=False,
                extra_arguments=["--log-level=ERROR", "--HistoryManager.enabled=False"],
            )
            part.replace(target)
            return
        except papermill.PapermillExecutionError as error:
            said = f"{error.ename}: {error.evalue}"
            raise ChapterFailed(f"{where} failed in cell {error.exec_count}: {said}") from None
        except RuntimeError as error:  # the kernel lost the race for a port, or died
            if attempt == KERNEL_STARTS:
                raise ChapterFailed(f"No kernel for {where}: {error}. Try again.") from error
            time.sleep(attempt)


def main(arguments: Sequence[str]) -> int:
    """Execute the chapters that are named, or all."""
    try:
        for name in arguments or names():
            execute(notebook_path(name), executed_path(name))
    except (ChapterFailed, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
