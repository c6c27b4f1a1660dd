"""Exercises whose solution is the source: student notebooks are the chapters without it.

In a chapter (a notebook of a folder in PARTS) a code cell tagged `solution` holds a working solution. Its
lines between `# begin solution` and `# end solution` are what a student has to write.
The code cell tagged `check` that follows asserts what must hold. `pullpush exercises` writes the chapters
without those lines; `make book` shows them folded; tests/test_exercises.py proves of each that it is needed
and that it works.
"""

from __future__ import annotations

import ast
import json
import re
import symtable
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullpush import records

BEGIN, END = "# begin solution", "# end solution"
YOURS = "...  # your code"
PARTS = ("foundations", "experiments", "assignments")  # the folders of book/ that may hold exercises

Notebook = Mapping[str, Any]


class ExerciseError(ValueError):
    """A chapter whose exercises are not marked as they must be; the message names the cell."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter: where its cells stand, and the ids by which a submission is matched."""

    solution: int
    checks: tuple[int, ...]
    ids: tuple[str, ...]  # of the checks


# ------------------------------------------------------------------------------------------------ one chapter


def stripped(source: str) -> str:
    """The cell as a student gets it: each solution replaced by `...  # your code` at its own indentation.

    Raises ExerciseError where markers do not pair, where none is there, and where the rest does not parse.
    """
    lines: list[str] = []
    inside = ""
    for number, line in enumerate(source.splitlines(), start=1):
        mark = line.strip()
        if mark in (BEGIN, END) and (mark == BEGIN) == bool(inside):
            raise ExerciseError(f"line {number} says '{mark}', but a solution {_state(inside)}.")
        if mark == BEGIN:
            inside = line[: line.index("#")] + YOURS
            lines.append(inside)
        elif mark == END:
            inside = ""
        elif not inside:
            lines.append(line)
    if inside:
        raise ExerciseError(f"a solution begins and does not end: write '{END}' under it.")
    text = "\n".join(lines)
    if text == "\n".join(source.splitlines()):
        raise ExerciseError(f"no line says '{BEGIN}': nothing would be left for a student to write.")
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise ExerciseError(
            f"without its solution it does not parse: {error.msg}, line {error.lineno}."
        ) from None
    return text


def _state(inside: str) -> str:
    return "has begun already" if inside else "has not begun"


def shown(source: str) -> str:
    """The whole solution as the book shows it: without the two markers."""
    return "\n".join(line for line in source.splitlines() if line.strip() not in (BEGIN, END))


def exercises_of(notebook: Notebook, where: str = "the notebook") -> list[Exercise]:
    """The exercises of a chapter, in order. Raises ExerciseError where a solution has no check after it, a
    check no solution before it, or a marker stands in a cell that is not tagged.
    """
    found: list[tuple[int, list[int]]] = []
    for place, cell in enumerate(notebook["cells"]):
        tags, here = tags_of(cell), f"{where}, cell {place + 1} ({cell.get('id')})"
        if "solution" in tags:
            if found and not found[-1][1]:
                raise ExerciseError(f"{here}: the solution before it has no cell tagged 'check' after it.")
            try:
                stripped(source_of(cell))
            except ExerciseError as error:
                raise ExerciseError(f"{here}: {error}") from None
            found.append((place, []))
        elif "check" in tags:
            if not found:
                raise ExerciseError(f"{here}: a check needs a cell tagged 'solution' before it.")
            found[-1][1].append(place)
        elif cell["cell_type"] == "code" and re.search(f"{BEGIN}|{END}", source_of(cell)):
            raise ExerciseError(f"{here}: it marks a solution, so it must be tagged 'solution'.")
    if found and not found[-1][1]:
        raise ExerciseError(f"{where}: the last solution has no cell tagged 'check' after it.")
    return [
        Exercise(place, tuple(checks), tuple(str(notebook["cells"][check].get("id")) for check in checks))
        for place, checks in found
    ]


def student(notebook: Notebook, where: str = "the notebook") -> dict[str, Any]:
    """The chapter as a student gets it: every solution stripped, nothing else changed, no outputs."""
    solutions = {exercise.solution for exercise in exercises_of(notebook, where)}
    cells = []
    for place, cell in enumerate(notebook["cells"]):
        if place in solutions:
            cell = {**cell, "source": stripped(source_of(cell))}
        if cell["cell_type"] == "code":
            cell = {**cell, "outputs": [], "execution_count": None}
        cells.append(cell)
    return {**notebook, "cells": cells}


def folded(notebook: Notebook, where: str = "the notebook") -> dict[str, Any]:
    """The chapter as the book shows it: above each solution what a student gets, the solution in a fold."""
    solutions = {exercise.solution for exercise in exercises_of(notebook, where)}
    cells: list[dict[str, Any]] = []
    for place, cell in enumerate(notebook["cells"]):
        if place not in solutions:
            cells.append(cell)
            continue
        task = f"```python\n{stripped(source_of(cell))}\n```"
        cells.append(
            {"cell_type": "markdown", "id": f"{cell.get('id')}-task", "metadata": {}, "source": task}
        )
        prompts = {"code_prompt_show": "Solution", "code_prompt_hide": "Hide the solution"}
        metadata = {**cell["metadata"], "tags": [*tags_of(cell), "hide-cell"], "mystnb": prompts}
        cells.append({**cell, "metadata": metadata, "source": shown(source_of(cell))})
    return {**notebook, "cells": cells}


def tags_of(cell: Mapping[str, Any]) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def source_of(cell: Mapping[str, Any]) -> str:
    return "".join(cell["source"])


# ----------------------------------------------------------------------------------------------- all chapters


def chapters() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every chapter with an exercise, as (its path below book/, its notebook). Raises ExerciseError."""
    book = records.root() / "book"
    for path in sorted(path for part in PARTS for path in (book / part).glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        name = path.relative_to(book).as_posix()
        if exercises_of(notebook, f"book/{name}"):
            yield name, notebook


def write(out: Path | None = None, *, fresh: bool = False) -> dict[str, str]:
    """Write the student notebooks to `out` (_build/exercises by default): file -> written, current or kept.

    A file that is there and differs may hold somebody's work, so it is kept unless `fresh` says otherwise.
    Raises ExerciseError before anything is written, and ValueError if `out` is a file.
    """
    out = out or records.root() / "_build" / "exercises"
    if out.is_file():
        raise ValueError(f"{out} is a file; name a folder.")
    ready = {name: student(notebook, f"book/{name}") for name, notebook in chapters()}
    done = {}
    for name, notebook in ready.items():
        path = out / name
        content = (json.dumps(notebook, ensure_ascii=False, indent=1) + "\n").encode()
        if path.is_file() and path.read_bytes() == content:
            done[name] = "current"
        elif path.is_file() and not fresh:
            done[name] = "kept"
        else:
            records.write_atomically(path, content)
            done[name] = "written"
    return done


# ----------------------------------------------------------------------------------------------------- proofs


def try_out(notebook: Notebook) -> list[dict[str, str]]:
    """Run each exercise of a chapter twice, in what it stands on: without its solution, then with it.

    Of the other cells those run that bind a name which an exercise needs: figures and most trainings do not.
    One row an exercise: `solution` (the cell's id), `without` and `with_`, the error of its checks or ''.
    Call it in a process of its own: cells may leave anything behind. Plain Python only, no IPython magic.
    """
    exercises = {exercise.solution: exercise for exercise in exercises_of(notebook)}
    needed = _stood_on(notebook)
    names: dict[str, Any] = {"__name__": "__main__"}
    rows = []
    for place, cell in enumerate(notebook["cells"]):
        if place in exercises:
            sources = [source_of(notebook["cells"][check]) for check in exercises[place].checks]
            without = _error([stripped(source_of(cell)), *sources], dict(names))
            with_ = _error([source_of(cell), *sources], names)
            rows.append({"solution": str(cell.get("id")), "without": without, "with_": with_})
        elif place in needed:
            exec(compile(source_of(cell), f"<cell {place + 1}>", "exec"), names)
    return rows


def _stood_on(notebook: Notebook) -> set[int]:
    """The code cells that bind a name which a solution or check uses, or which one of these cells uses.

    By names alone: a change in place is not seen, and is told by the check that fails for the lack of it.
    """
    mine = {place for one in exercises_of(notebook) for place in (one.solution, *one.checks)}
    wanted: set[str] = set()
    needed = set()
    for place, cell in reversed(list(enumerate(notebook["cells"]))):
        if cell["cell_type"] != "code":
            continue
        bound, used = _names(source_of(cell))
        if place in mine:
            wanted = wanted - bound | used - bound  # what it uses and binds is its own
        elif bound & wanted:
            wanted = wanted - bound | used
            needed.add(place)
    return needed


def _names(source: str) -> tuple[set[str], set[str]]:
    """The global names that a cell binds, and those that it uses, in functions too."""
    top = symtable.symtable(source, "<cell>", "exec")
    tables = [top]
    for table in tables:  # which grows as it goes
        tables += table.get_children()
    bound = {one.get_name() for one in top.get_symbols() if one.is_assigned() or one.is_imported()}
    return bound, {
        one.get_name()
        for table in tables
        for one in table.get_symbols()
        if one.is_referenced() and (table is top or one.is_global())
    }


def _error(sources: list[str], names: dict[str, Any]) -> str:
    """What the first of these cells that fails raises, as '<type>: <message>', or ''."""
    try:
        for source in sources:
            exec(compile(source, "<exercise>", "exec"), names)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":  # python -m pullpush.exercises CHAPTER: one line of JSON for the tests
    print(json.dumps(try_out(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
