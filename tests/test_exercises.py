"""The solution is the source: what a student gets, what the book shows, and that each exercise is one."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from pullpush import cli, exercises
from pullpush.exercises import ExerciseError

ROOT = Path(__file__).parents[1]
SOLVED = """def double(x):
    "Twice x."
    # begin solution
    for _ in range(1):
        x = x + x
    return x
    # end solution


def half(x):
    # begin solution
    return x / 2
    # end solution
"""
TASK = """def double(x):
    "Twice x."
    ...  # your code


def half(x):
    ...  # your code"""


def code(source, *tags, id="a"):
    return {
        "cell_type": "code", "id": id, "metadata": {"tags": list(tags)}, "source": source.splitlines(True),
        "execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": "seen"}],
    }  # fmt: skip


def prose(text):
    return {"cell_type": "markdown", "id": "text", "metadata": {}, "source": text}


def notebook(*cells):
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


CHAPTER = notebook(
    prose("# Twice"),
    code("three = 3", id="above"),
    code(SOLVED, "solution", id="solved"),
    prose("It holds that"),
    code("assert double(three) == 6", "check", id="first"),
    code("assert half(three) == 1.5", "check", id="second"),
    prose("**Next:** [on](on.md)"),
)


def chapters_with_exercises():
    return [name for name, _ in exercises.chapters()]


# ---------------------------------------------------------------------------------------------- the chapters


@pytest.mark.parametrize("name", chapters_with_exercises())
def test_each_exercise_fails_its_check_without_its_solution_and_passes_with_it(name, tmp_path):
    """In a process of its own: each cell tagged `solution` as a student gets it, then as it stands."""
    command = [sys.executable, "-m", "pullpush.exercises", str(ROOT / "book" / name)]
    place = os.environ | {"PULLPUSH_WORK": str(tmp_path)}  # where the run of a study leaves its files
    done = subprocess.run(command, cwd=ROOT, env=place, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout.splitlines()[-1])
    assert rows
    assert [row["solution"] for row in rows if not row["without"]] == [], "passes its checks unsolved"
    assert [row for row in rows if row["with_"]] == []


@pytest.mark.parametrize("part", ["foundations", "experiments"])
def test_every_chapter_has_an_exercise_that_checks_itself(part):
    chapters = {path.relative_to(ROOT / "book").as_posix() for path in (ROOT / "book" / part).glob("*.ipynb")}
    assert chapters <= set(chapters_with_exercises())


def test_the_four_assignments_have_exercises():
    found = {name.removeprefix("assignments/") for name in chapters_with_exercises() if "assignments" in name}
    assert found == {f"{name}.ipynb" for name in ("nt_xent", "hard_triplets", "collapsed_run", "ledger_row")}


@pytest.mark.parametrize("name", chapters_with_exercises())
def test_a_student_gets_the_whole_chapter_but_the_solutions(name, tmp_path):
    exercises.write(tmp_path)
    source, given = (nbformat.read(folder / name, 4) for folder in (ROOT / "book", tmp_path))
    nbformat.validate(given)
    assert len(source.cells) == len(given.cells)
    for ours, theirs in zip(source.cells, given.cells, strict=True):
        if "solution" not in ours.metadata.get("tags", []):
            assert ours == theirs
            continue
        assert theirs.source.count(exercises.YOURS) == ours.source.count(exercises.BEGIN) > 0
        kept, left = ours.source.splitlines(), theirs.source.splitlines()
        assert [line for line in left if exercises.YOURS not in line] == [
            line for line in kept if line in left
        ]
        assert len(left) < len(kept) and "solution" not in theirs.source
        ast.parse(theirs.source)


# ------------------------------------------------------------------------------------------------- stripping


def test_a_solution_becomes_a_line_at_its_indentation():
    assert exercises.stripped(SOLVED) == TASK
    assert exercises.stripped("a = 1\n# begin solution\nb = 2\n# end solution") == "a = 1\n...  # your code"


@pytest.mark.parametrize(("source", "said"), [
    ("a = 1", "no line says '# begin solution'"),
    ("# begin solution\na = 1", "begins and does not end"),
    ("a = 1\n# end solution", "line 2 says '# end solution', but a solution has not begun"),
    ("# begin solution\n# begin solution\n# end solution", "line 2 says .* has begun already"),
    ("if x:\n# begin solution\n    a = 1\n# end solution", "does not parse: .* line 2"),
], ids=["no marker", "no end", "no begin", "nested", "wrong indentation"])  # fmt: skip
def test_markers_that_do_not_fit_are_named(source, said):
    with pytest.raises(ExerciseError, match=said):
        exercises.stripped(source)


def test_exercises_are_found_with_their_checks():
    assert exercises.exercises_of(CHAPTER) == [exercises.Exercise(2, (4, 5), ("first", "second"))]
    assert exercises.exercises_of(notebook(prose("# Nothing"), code("1"))) == []


@pytest.mark.parametrize(("cells", "said"), [
    ([code(SOLVED, "solution", id="x"), prose("no check")], r"book/a: the last solution has no cell tagged"),
    ([code(SOLVED, "solution"), code(SOLVED, "solution", id="x")], r"cell 2 \(x\): .* before it has no"),
    ([prose("#"), code("1", "check", id="x")], r"book/a, cell 2 \(x\): a check needs"),
    ([code(SOLVED, id="x")], r"cell 1 \(x\): it marks a solution"),
    ([code("a = 1", "solution", id="x"), code("1", "check")], r"cell 1 \(x\): no line says"),
], ids=["no check", "no check between", "no solution", "no tag", "no marker"])  # fmt: skip
def test_a_chapter_marked_wrongly_is_refused_with_its_cell(cells, said):
    with pytest.raises(ExerciseError, match=said):
        exercises.exercises_of(notebook(*cells), "book/a")


def test_nothing_but_solutions_and_outputs_is_taken_out():
    given = exercises.student(CHAPTER)
    assert [cell.get("id") for cell in given["cells"]] == [cell.get("id") for cell in CHAPTER["cells"]]
    assert given["cells"][2]["source"] == TASK and given["cells"][2]["metadata"] == {"tags": ["solution"]}
    assert all(not cell.get("outputs") for cell in given["cells"])
    assert given["cells"][6] == CHAPTER["cells"][6] and given["metadata"] == CHAPTER["metadata"]
    assert CHAPTER["cells"][2]["outputs"]  # the chapter itself is left alone


# -------------------------------------------------------------------------------------------------- the book


def test_the_book_folds_a_solution_under_its_task():
    cells = exercises.folded(CHAPTER)["cells"]
    assert len(cells) == len(CHAPTER["cells"]) + 1
    task, solution = cells[2], cells[3]
    assert task["cell_type"] == "markdown" and task["source"] == f"```python\n{TASK}\n```"
    assert solution["metadata"]["tags"] == ["solution", "hide-cell"]
    assert solution["metadata"]["mystnb"]["code_prompt_show"] == "Solution"
    assert "begin solution" not in solution["source"] and "x = x + x" in solution["source"]
    assert [*cells[:2], *cells[4:]] == [*CHAPTER["cells"][:2], *CHAPTER["cells"][3:]]


# ------------------------------------------------------------------------------------------------ trying out


def test_trying_out_sees_a_check_that_proves_nothing_and_a_solution_that_is_wrong():
    good, (idle, wrong) = exercises.try_out(CHAPTER), exercises.try_out(notebook(
        code("# begin solution\ntwo = 2\n# end solution", "solution", id="idle"),
        code("assert 1 + 1 == 2", "check"),
        code("# begin solution\nthree = 2\n# end solution", "solution", id="wrong"),
        code("assert three == two + 1, 'one more'", "check"),
    ))  # fmt: skip
    assert [(row["solution"], row["with_"]) for row in good] == [("solved", "")]
    assert good[0]["without"].startswith("AssertionError")
    assert idle == {"solution": "idle", "without": "", "with_": ""}
    assert wrong["without"].startswith("NameError") and wrong["with_"] == "AssertionError: one more"


def test_a_proof_runs_what_an_exercise_stands_on_and_nothing_else():
    rows = exercises.try_out(
        notebook(
            code("import math\nscale = 2"),
            code("raise RuntimeError('a long training')", id="aside"),
            code("near = 1\nraise RuntimeError('bound again before it is used')"),
            code("def stretched(x):\n    return scale * x"),
            code("near = stretched(1)"),
            code("raise RuntimeError(str(near))", id="figure"),
            code(
                "def root(x):\n    # begin solution\n    return math.sqrt(x)\n    # end solution", "solution"
            ),
            code("x = near + stretched(1)\nassert root(x) == 2 and [x for x in [3]] == [3]", "check"),
        )
    )
    assert [row["with_"] for row in rows] == [""] and rows[0]["without"].startswith("AssertionError")


# ----------------------------------------------------------------------------------------------- the command


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one chapter that has an exercise, and one that has none."""
    for part in exercises.PARTS:
        (tmp_path / "book" / part).mkdir(parents=True)
    (tmp_path / "book" / "foundations" / "twice.ipynb").write_text(json.dumps(CHAPTER))
    (tmp_path / "book" / "experiments" / "plain.ipynb").write_text(json.dumps(notebook(prose("# Plain"))))
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))
    return tmp_path


def called(*arguments):
    done = CliRunner().invoke(cli.app, ["exercises", *map(str, arguments)])
    return done.exit_code, done.output


def test_the_command_writes_notebooks_and_keeps_work(root, tmp_path):
    where = "_build/exercises/foundations/twice.ipynb"
    assert called() == (0, f"written: {where}\n")
    path = root / where
    assert "begin solution" not in path.read_text() and "your code" in path.read_text()
    assert not (root / "_build" / "exercises" / "experiments").exists()
    assert called() == (0, f"current: {where}\n")
    path.write_text(path.read_text().replace("...  # your code", "return 2 * x"))
    code_, said = called()
    assert code_ == 0 and said.startswith(f"kept: {where}: it differs") and "return 2 * x" in path.read_text()
    assert called("--fresh") == (0, f"written: {where}\n") and "return 2 * x" not in path.read_text()
    assert called(tmp_path / "mine")[0] == 0 and (tmp_path / "mine" / "foundations" / "twice.ipynb").is_file()


def test_mistakes_end_in_a_sentence(root, tmp_path):
    (tmp_path / "file").write_text("")
    assert called(tmp_path / "file") == (2, f"Error: {tmp_path / 'file'} is a file; name a folder.\n")
    broken = notebook(code("a = 1", "check", id="x"))
    (root / "book" / "experiments" / "plain.ipynb").write_text(json.dumps(broken))
    said = "a check needs a cell tagged 'solution' before it."
    assert called() == (2, f"Error: book/experiments/plain.ipynb, cell 1 (x): {said}\n")
    assert not (root / "_build").exists()
