"""The chapters of `book/foundations` that are notebooks, and the assignments of `book/assignments`: no
parameters, no record, executed as they stand.

`make book` executes each into `_build/foundations/` or `_build/assignments/`, again when it or the library
has changed (the Snakefile); the stage puts what was executed in its place. `python -m pullpush.foundations
NAME` executes one. No two of them have one name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullpush import kernels, records
from pullpush.parameters import nearest

FOLDERS = ("foundations", "assignments")  # of book/
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
    return Chapter(name, records.source_state()["commit"], records.differs("lib", str(path)))


def execute(source: Path, target: Path) -> None:
    """Execute a notebook as it stands; `target` is replaced only when all of it ran.

    Raises ChapterFailed naming the cell that failed and its error.
    """
    from papermill.exceptions import PapermillExecutionError

    root = records.root()
    where = source.relative_to(root) if source.is_relative_to(root) else source
    print(f"Executing {where}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}")
    kernels.prepare()
    try:
        kernels.execute(source, part, say=lambda line: print(f"{where} | {line}", flush=True))
    except PapermillExecutionError as error:
        said = f"{error.ename}: {error.evalue}"
        raise ChapterFailed(f"{where} failed in cell {error.exec_count}: {said}") from None
    except kernels.KernelDied as error:
        raise ChapterFailed(f"The kernel of {where} died ({error}). Try again.") from error
    part.replace(target)


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
