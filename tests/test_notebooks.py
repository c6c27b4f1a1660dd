"""What every notebook of the book holds to. nbval runs their cells: see `make test`."""

import ast
import re
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

BOOK = Path(__file__).parents[1] / "book"
NOTEBOOKS = sorted(path for path in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
EXPERIMENTS = [path for path in NOTEBOOKS if path.parent.name == "experiments"]
FOUNDATIONS = [path for path in NOTEBOOKS if path.parent.name == "foundations"]
ASSIGNMENTS = [path for path in NOTEBOOKS if path.parent.name == "assignments"]


def name_of(path: Path) -> str:
    return str(path.relative_to(BOOK))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def python(cell: nbformat.NotebookNode) -> str:
    """The cell's source without the lines that only IPython understands."""
    return re.sub(r"^\s*[%!].*$", "pass", cell.source, flags=re.MULTILINE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_is_valid_source(path):
    """Sources hold no outputs, so that a diff shows what an author changed and nothing else."""
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert [cell.id for cell in code if {"execution", "papermill"} & set(cell.metadata)] == []
    assert "papermill" not in notebook.metadata


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_asserts_something(path):
    """nbval fails a cell that raises; a notebook says with `assert` which of its statements must hold."""
    code = [ast.parse(python(cell)) for cell in read(path).cells if cell.cell_type == "code"]
    assert any(isinstance(node, ast.Assert) for tree in code for node in ast.walk(tree))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_is_in_the_table_of_contents(path):
    contents = yaml.safe_load((BOOK / "_toc.yml").read_text())

    def files(entry: object) -> set[str]:
        if isinstance(entry, list):
            return {file for part in entry for file in files(part)}
        if isinstance(entry, dict):
            here = {str(entry[key]) for key in ("file", "root") if key in entry}
            return here.union(*(files(part) for part in entry.values() if isinstance(part, list)))
        return set()

    listed = {name.removesuffix(".ipynb") for name in files(contents)}
    assert name_of(path).removesuffix(".ipynb") in listed


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_experiment_declares_its_parameters_so_that_papermill_explains_them(path):
    """One `parameters` cell; each has a type that papermill understands, a default and a help text."""
    notebook = read(path)
    assert len(tagged(notebook, "parameters")) == 1
    parameters = papermill.inspect_notebook(str(path))
    assert {"data", "profile", "seeds"} <= set(parameters)
    silent = [name for name, facts in parameters.items() if not facts["help"]]
    untyped = [name for name, facts in parameters.items() if facts["inferred_type_name"] == "None"]
    assert (silent, untyped) == ([], [])


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_experiment_shows_its_method(path):
    """The cells tagged `method` are the fingerprint's source, and fit on a screen."""
    cells = tagged(read(path), "method")
    assert cells, "no cell is tagged 'method'"
    assert max(len(cell.source.splitlines()) for cell in cells) <= 28


@pytest.mark.parametrize("path", FOUNDATIONS, ids=name_of)
def test_chapter_of_foundations_is_plain_and_says_where_its_figures_come_from(path):
    """No parameters and no record; every figure has the chapter as its origin, under the notebook's name."""
    notebook = read(path)
    assert tagged(notebook, "parameters") == []
    calls = [
        node
        for cell in notebook.cells
        if cell.cell_type == "code"
        for node in ast.walk(ast.parse(python(cell)))
        if isinstance(node, ast.Call)
    ]
    named = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "foundations.chapter"]
    assert named == [f"foundations.chapter({path.stem!r})"]
    drawn = [call for call in calls if {word.arg for word in call.keywords} >= {"caption"}]
    assert drawn
    assert [call.lineno for call in drawn if "run=chapter" not in map(ast.unparse, call.keywords)] == []


def test_no_two_chapters_have_one_name():
    """`grade --chapter NAME` and `python -m pullpush.foundations NAME` take it without its folder."""
    names = [path.stem for path in (*EXPERIMENTS, *FOUNDATIONS, *ASSIGNMENTS)]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("path", ASSIGNMENTS, ids=name_of)
def test_assignment_says_how_many_points_its_checks_are_worth(path):
    """A table of exercises with points; every check is one. Plain: no parameters, no magic."""
    notebook = read(path)
    assert tagged(notebook, "parameters") == []
    exercises, checks = len(tagged(notebook, "solution")), len(tagged(notebook, "check"))
    title, table = notebook.cells[0].source, re.compile(r"^\| (\d+) \|.*\| (\d+) \| \[", re.MULTILINE)
    rows = [(int(number), int(points)) for number, points in table.findall(title)]
    assert [number for number, _ in rows] == list(range(1, exercises + 1)) and 4 <= exercises <= 6
    assert sum(points for _, points in rows) == checks and f"{checks} in all" in title
