"""Grading a folder of submissions: who passed what, and one line for each that did not run."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pullpush import cli, exercises, grading

TASK = "def double(x):\n    # begin solution\n    return 2 * x\n    # end solution"
WRITE = "# begin solution\nname = 'me'\n# end solution"


def code(source, id, *tags):
    return {
        "cell_type": "code", "id": id, "metadata": {"tags": list(tags)}, "source": source,
        "execution_count": None, "outputs": [],
    }  # fmt: skip


CHAPTER = {
    "cells": [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Twice"},
        code("three = 3", "above"),
        code(TASK, "double", "solution"),
        code("assert double(three) == 6\nassert double(0) == 0", "twice", "check"),
        code(WRITE, "name", "solution"),
        code("assert name == 'me', f'who is {name}?'", "named", "check"),
    ],
    "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
}  # fmt: skip
SOLVED = {"double": "def double(x):\n    return x + x", "name": "name = 'me'"}
PASSED = {"twice": "", "named": ""}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one chapter of two exercises."""
    for part in exercises.PARTS:
        (tmp_path / "book" / part).mkdir(parents=True)
    (tmp_path / "book" / "foundations" / "twice.ipynb").write_text(json.dumps(CHAPTER))
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def hand_in(root):
    """hand_in(name, id=source, ...): a submission, unsolved but for the cells given; None drops a cell."""

    def save(name, /, **written):
        notebook = exercises.student(CHAPTER)
        cells = [{**cell, "source": written.pop(cell["id"], cell["source"])} for cell in notebook["cells"]]
        cells = [cell for cell in cells if cell["source"] is not None]
        cells[1:1] = [code(source, id_) for id_, source in written.items()]  # cells of the student's own
        path = root / "handed" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**notebook, "cells": cells}))
        return root / "handed"

    return save


def one(folder, **options):
    (graded,) = grading.grade(folder, **options)
    return graded


def test_a_solved_submission_passes_and_an_empty_one_does_not(hand_in):
    hand_in("ada", **SOLVED)
    folder = hand_in("group/eve")
    ada, eve = grading.grade(folder)
    assert (ada.name, ada.chapter, ada.found, ada.note, ada.passed) == ("ada", "twice", PASSED, "", 2)
    assert (eve.name, eve.passed, eve.note) == ("group/eve", 0, "")
    assert eve.found["twice"] == "AssertionError:" and eve.found["named"].startswith("NameError: name 'name'")


def test_one_wrong_answer_costs_its_own_check(hand_in):
    graded = one(hand_in("ada", **SOLVED | {"name": "name = 'you'"}))
    assert graded.found == {"twice": "", "named": "AssertionError: who is you?"}


@pytest.mark.parametrize(("written", "found"), [
    ({"twice": "pass", "double": "double = abs"}, {"twice": "AssertionError:", "named": ""}),
    ({"above": "three = 0", "double": "double = abs"}, {"twice": "AssertionError:", "named": ""}),
    ({"twice": None}, {"twice": "its cell is missing", "named": ""}),
    ({"helper": "add = sum", "double": "def double(x):\n    return add([x, x])"}, PASSED),
], ids=["edited check", "edited cell above", "deleted check", "own cell"])  # fmt: skip
def test_only_solutions_and_new_cells_are_the_students_own(hand_in, written, found):
    assert one(hand_in("ada", **SOLVED | written)).found == found


def test_an_error_in_a_cell_is_told_and_the_rest_still_runs(hand_in):
    graded = one(hand_in("ada", **SOLVED | {"double": "def double(x) return x"}))
    assert graded.found["named"] == "" and graded.found["twice"].startswith("NameError")
    assert graded.note.startswith("code cell 2: SyntaxError")


@pytest.mark.parametrize(("cell", "note"), [
    ("while True:\n    pass", "ran out of time (4 s)"),
    ("import time\ntime.sleep(100)", "ran out of time (4 s)"),
    ("name = bytearray(400_000_000)", "ran out of memory (200 MB)"),
    ("import os\nos._exit(3)", "crashed (exit code 3)"),
    ("import os\nos.kill(os.getpid(), 11)", "crashed (SIGSEGV)"),
], ids=["endless", "asleep", "memory", "exit", "crash"])  # fmt: skip
def test_what_stops_a_submission_is_one_line_and_what_was_reached_counts(hand_in, cell, note):
    seconds = 4 if "time" in note else 120
    graded = one(hand_in("ada", **SOLVED | {"name": cell}), seconds=seconds, megabytes=200)
    assert graded.note == note
    assert graded.found["twice"] in ("", f"not reached: {note}")  # a busy machine may not come so far in 4 s
    assert graded.found["named"] != ""


def test_leaving_early_passes_nothing(hand_in):
    graded = one(hand_in("ada", double="raise SystemExit(0)", name=SOLVED["name"]))
    assert graded.found["twice"] and not graded.found["named"]


def test_submissions_do_not_see_each_other_nor_the_teachers_environment(hand_in, monkeypatch, root):
    monkeypatch.setenv("SECRET", "x")
    hand_in("ada", **SOLVED | {"name": "import os\nname = os.environ.get('SECRET', 'me')\nopen('left', 'w')"})
    ada, eve = grading.grade(hand_in("eve", **SOLVED | {"name": "import os\nname = str(os.listdir())"}))
    assert ada.found == PASSED and eve.found["named"] == "AssertionError: who is []?"


def test_what_is_no_submission_is_said_so(root, hand_in):
    folder = hand_in("ada", **SOLVED)
    (folder / "bob.ipynb").write_text("{")
    (folder / "eve.pdf").write_bytes(b"%PDF \xff")
    (folder / "kim.ipynb").write_text(json.dumps({"cells": [code("1", "other")]}))
    (folder / ".hidden").write_text("")
    ada, *others = grading.grade(folder)
    assert ada.note == ""
    assert [(other.name, other.found) for other in others] == [("bob", {}), ("eve.pdf", {}), ("kim", {})]
    assert [other.note[:14] for other in others[:2]] == ["is no notebook"] * 2
    assert others[2].note == "holds no check of twice: is it made by pullpush exercises?"


def test_the_command_prints_a_line_each_and_writes_a_table(root, hand_in):
    hand_in("=ada", **SOLVED)
    folder = hand_in("eve", double=SOLVED["double"])
    (folder / "kim.ipynb").write_text("no")
    done = CliRunner().invoke(cli.app, ["grade", str(folder)])
    assert done.exit_code == 0, done.output
    first, second, third, last = done.output.splitlines()
    assert first == "=ada: 2 of 2  + +" and second == "eve: 1 of 2  + -"
    assert third == "kim: is no notebook (JSONDecodeError)" and last == "written: handed/grades.csv"
    with (folder / "grades.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["submission"] for row in rows] == ["'=ada", "eve", "kim"]
    assert [row["passed"] for row in rows] == ["2", "1", "0"]
    assert [row["check 2"] for row in rows] == ["passed", "failed", ""]
    assert rows[1]["why"].startswith("check 2: NameError")
    again = CliRunner().invoke(cli.app, ["grade", str(folder), "--chapter", "twise"])
    assert again.exit_code == 2 and "No chapter 'twise' with exercises. Did you mean 'twice'" in again.output
    (root / "empty").mkdir()
    assert "holds no submission" in CliRunner().invoke(cli.app, ["grade", str(root / "empty")]).output


ASSIGNMENTS = {
    Path(name).stem: sheet for name, sheet in exercises.chapters() if name.startswith("assignments/")
}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_a_solved_assignment_gets_all_points_and_an_unsolved_one_none(name, tmp_path):
    """As a class hands it in: the student's notebook, once with every solution written and once as given."""
    sheet = ASSIGNMENTS[name]
    unsolved = exercises.student(sheet)
    sources = [exercises.shown(exercises.source_of(cell)) for cell in sheet["cells"]]
    solved = [{**cell, "source": text} for cell, text in zip(unsolved["cells"], sources, strict=True)]
    (tmp_path / "ada.ipynb").write_text(json.dumps({**unsolved, "cells": solved}))
    (tmp_path / "eve.ipynb").write_text(json.dumps(unsolved))
    ada, eve = grading.grade(tmp_path, seconds=500)
    assert (ada.chapter, ada.note, set(ada.found.values())) == (name, "", {""})
    assert eve.chapter == name and len(eve.found) == len(ada.found) and eve.passed == 0, eve.found
