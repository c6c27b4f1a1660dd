"""The stage on a tiny tree: what takes whose place, what runs again, and that warnings stop the build."""

import json
import os
import shutil
from pathlib import Path

import pytest

from pullpush import foundations, pages, stage

REPOSITORY = Path(__file__).parents[1]
RECORD = {
    "schema": 1, "study": "toy", "run": "first", "profile": "paper",
    "parameters": {"data": "mnist", "seeds": [0, 1], "margin": None},
    "metrics": [{"seed": 0, "accuracy": 0.9}, {"seed": 1, "accuracy": 0.8}], "seconds": [30.0, 60.0],
    "device": "cpu", "device_name": "AMD EPYC", "threads": 1, "versions": {"torch": "2.15.0"},
    "commit": "abc1234567", "dirty": False,
    "command": "pullpush run toy --profile paper --name first",
}  # fmt: skip
RUN = "papermill_runs/paper/toy/first"


def code(source, tags=(), outputs=()):
    return {
        "cell_type": "code", "metadata": {"tags": list(tags), "papermill": {"duration": 1.5}},
        "execution_count": 3, "source": source, "outputs": list(outputs),
    }  # fmt: skip


def prose(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def said(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def save(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "papermill": {"input_path": "/home/me"},
    }
    cells = [{**cell, "id": f"cell-{i}"} for i, cell in enumerate(cells)]
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one study: executed at quick size, one committed run, one results notebook."""
    book = tmp_path / "book"
    (book / "_static").mkdir(parents=True)
    for name in (
        "_config.yml",
        "references.bib",
        "_static/pullpush.css",
        "_static/pullpush.js",
        "_static/logo.svg",
        "_static/favicon.svg",
    ):
        shutil.copy(REPOSITORY / "book" / name, book / name)
    shutil.copytree(REPOSITORY / "book" / "_templates", book / "_templates")
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- caption: A\n  chapters:\n  - file: experiments/toy\n"
        "  - file: results/toy\n- caption: B\n  chapters:\n  - file: status\n    sections:\n"
        "    - glob: runs/*/*/*\n"
    )
    (book / "index.md").write_text(
        "# Front\n\n<!-- pullpush:statusline -->\nold\n<!-- /pullpush:statusline -->\n"
    )
    (book / "status.md").write_text("# Records\n\n<!-- pullpush:status -->\n<!-- /pullpush:status -->\n")
    label = prose("(a-label)=\n# Toy study\n\n$$ x = 1 $$ (eq-toy)")
    save(book / "experiments" / "toy.ipynb", label, code("print(1)", ["parameters"]))
    executed = [
        label,
        code("data = 1", ["parameters"]),
        code("data = 2", ["injected-parameters"]),
        code("print(1)", ["method"], [said("1\n")]),
    ]
    save(tmp_path / "_build" / "quick" / "toy" / "toy" / "run.ipynb", *executed)
    run = tmp_path / "papermill_runs" / "paper" / "toy" / "first"
    save(run / "run.ipynb", *executed, code("1", [], [said("epoch 1\n", "stderr"), said("a zebra\n")]))
    (run / "record.json").write_text(json.dumps(RECORD))
    (run / "arrays.npz").write_bytes(b"")
    save(book / "results" / "toy.ipynb", prose("# Results"), code("print('executed', 1 + 1)"))
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))
    monkeypatch.setattr(
        stage,
        "page_blocks",
        lambda root: {"status": "[](/runs/paper/toy/first.ipynb)", "statusline": "Built."},
    )
    return tmp_path


@pytest.fixture
def executions(monkeypatch):
    """Notebooks that the stage executed, without executing them."""
    done = []

    def execute(root, source, target):
        done.append(source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    monkeypatch.setattr(stage, "_execute", execute)
    return done


def cells(staged, name):
    return json.loads(staged.files[name])["cells"]


def test_executed_notebooks_take_the_place_of_their_sources(root, executions):
    staged = stage.gather(root)
    chapter = cells(staged, "experiments/toy.ipynb")
    assert [cell["source"] for cell in chapter[1:]] == [
        "data = 1",
        "print(1)",
    ]  # what papermill injected repeats the fold
    assert chapter[2]["outputs"] == [said("1\n")]
    assert "/home/me" not in staged.files["experiments/toy.ipynb"].decode()
    assert executions == ["toy.ipynb"]


def test_a_chapter_that_has_not_run_is_shown_without_outputs(root, executions, capsys):
    shutil.rmtree(root / "_build" / "quick")
    assert cells(stage.gather(root), "experiments/toy.ipynb")[1]["source"] == "print(1)"
    assert "toy has not been executed" in capsys.readouterr().err


def test_a_chapter_of_foundations_shows_its_outputs_and_folds_its_solutions(root, executions):
    solved = code("def one():\n    # begin solution\n    return 1\n    # end solution", ["solution"])
    source = [prose("# Idea"), solved, code("assert one() == 1", ["check"]), code("print(one())")]
    save(root / "book" / "foundations" / "idea.ipynb", *source)
    stage.gather(root)
    assert executions == ["idea.ipynb", "toy.ipynb"]  # nothing was there yet
    done = root / "_build" / "foundations" / "idea.ipynb"
    save(done, *source[:3], code("print(one())", [], [said("1\n")]))
    _, task, solution, check, shown = cells(stage.gather(root), "foundations/idea.ipynb")
    assert executions == ["idea.ipynb", "toy.ipynb"]  # the Snakefile keeps it up to date
    assert shown["outputs"] == [said("1\n")] and check["source"] == "assert one() == 1"
    assert "...  # your code" in task["source"] and "return" not in task["source"]
    assert "hide-cell" in solution["metadata"]["tags"] and "return 1" in solution["source"]
    save(root / "book" / "foundations" / "idea.ipynb", *source[:2])
    save(done, *source[:2])
    with pytest.raises(stage.StageError, match=r"book/foundations/idea.ipynb: the last solution has no cell"):
        stage.gather(root)


def test_a_chapter_of_foundations_is_executed_whole_or_not_at_all(root):
    path, done = root / "book" / "foundations" / "idea.ipynb", root / "_build" / "foundations" / "idea.ipynb"
    save(path, prose("# Idea"), code("print(6 * 7)"))
    assert foundations.names() == ["idea"] and foundations.main([]) == 0
    assert json.loads(done.read_text())["cells"][1]["outputs"][0]["text"] == ["42\n"]
    before = done.read_bytes()
    save(path, code("print(1)"), code("{}['gone']"))
    with pytest.raises(
        foundations.ChapterFailed, match=r"book/foundations/idea.ipynb failed in cell 2: KeyError"
    ):
        foundations.execute(path, done)
    assert done.read_bytes() == before


def test_an_assignment_is_executed_and_staged_as_a_chapter_of_foundations_is(root, executions):
    save(root / "book" / "assignments" / "task.ipynb", prose("# Task"), code("print(1)"))
    save(root / "book" / "foundations" / "idea.ipynb", code("1"))
    assert foundations.names() == ["idea", "task"]
    assert foundations.executed_path("task") == root / "_build" / "assignments" / "task.ipynb"
    assert foundations.chapter("task").provenance()["notebook"] == "book/assignments/task.ipynb"
    save(foundations.executed_path("task"), prose("# Task"), code("print(1)", [], [said("1\n")]))
    assert cells(stage.gather(root), "assignments/task.ipynb")[1]["outputs"] == [said("1\n")]
    assert "task.ipynb" not in executions


def test_a_chapter_that_reads_records_follows_them(root):
    path = root / "book" / "foundations" / "idea.ipynb"
    save(path, code("1"))
    assert foundations.inputs("idea") == [path]  # this root has no library
    save(path, code("runs.load_records('toy')"))
    assert foundations.inputs("idea") == [path, root / RUN / "record.json"]


def test_the_origin_of_a_figure_without_a_run_is_its_chapter(root, capsys):
    save(root / "book" / "foundations" / "idea.ipynb", code("1"))
    origin = foundations.chapter("idea").provenance()
    assert origin["notebook"] == "book/foundations/idea.ipynb" and origin["commit"] is None  # no repository
    assert origin["command"] == "python -m pullpush.foundations idea" and "torch" in origin["versions"]
    with pytest.raises(
        ValueError, match=r"No notebook 'ideal' in book/foundations or .*\. Did you mean 'idea'"
    ):
        foundations.chapter("ideal")
    assert foundations.main(["ideal"]) == 1 and "Did you mean 'idea'" in capsys.readouterr().err


def test_a_committed_run_becomes_a_page_without_prose(root, executions):
    head, *rest = cells(stage.gather(root), "runs/paper/toy/first.ipynb")
    text = head["source"]
    assert text.startswith("# toy: first\n")
    assert (
        '| `data` | `"mnist"` |' in text and "| `margin` | `null` |" in text and "| seconds | 90.0 |" in text
    )
    assert "[](/experiments/toy.ipynb)" in text
    assert all(cell["cell_type"] == "code" for cell in rest)  # no label can appear twice
    assert rest[-1]["outputs"] == [said("a zebra\n")]  # progress on stderr is left out


def test_blocks_of_text_pages_are_filled(root, executions):
    page = stage.gather(root).files["index.md"].decode()
    assert "<!-- pullpush:statusline -->\nBuilt.\n<!-- /pullpush:statusline -->" in page and "old" not in page
    assert (
        pages.fill("<!-- pullpush:other -->\nkept\n<!-- /pullpush:other -->", {"status": "x"})
        == "<!-- pullpush:other -->\nkept\n<!-- /pullpush:other -->"
    )


def test_globs_without_a_page_leave_the_contents(root, executions):
    assert "runs/*/*/*" in stage.gather(root).files["_toc.yml"].decode()
    shutil.rmtree(root / "papermill_runs" / "paper")
    toc = stage.gather(root).files["_toc.yml"].decode()
    assert "runs/" not in toc and "sections" not in toc and "status" in toc


def test_only_what_differs_is_written(root, executions):
    assert stage.gather(root).write() is True  # pages came
    folder = root / "_build" / "stage"
    (folder / "gone.md").write_text("# An old page")
    os.utime(folder / "index.md", (1, 1))
    (root / "book" / "status.md").write_text("# Other")
    assert stage.gather(root).write() is True  # a page went
    assert (folder / "index.md").stat().st_mtime == 1 and (folder / "status.md").read_text() == "# Other"
    assert not (folder / "gone.md").exists()
    assert stage.gather(root).write() is False


@pytest.mark.parametrize(("touch", "again"), [
    (lambda root: os.utime(root / "book" / "results" / "toy.ipynb", (1, 1)), False),
    (lambda root: (root / "book" / "index.md").write_text("# New"), False),
    (lambda root: save(root / "book" / "results" / "toy.ipynb", code("print(2)")), True),
    (lambda root: (root / RUN / "record.json").write_text(json.dumps(RECORD | {"device": "cuda"})), True),
    (lambda root: (root / RUN / "arrays.npz").write_bytes(b"1"), True),
    (lambda root: (root / "lib").mkdir() or (root / "lib" / "figures.py").write_text("x = 1"), True),
], ids=["time of the notebook", "another page", "notebook", "record", "arrays", "library"])  # fmt: skip
def test_results_are_executed_again_when_their_inputs_change(root, executions, touch, again):
    stage.gather(root)
    stage.gather(root)
    assert len(executions) == 1
    touch(root)
    stage.gather(root)
    assert len(executions) == 1 + again


def test_a_failing_results_notebook_says_where(root):
    save(root / "book" / "results" / "toy.ipynb", code("1"), code("{}['accuracy']"))
    with pytest.raises(
        stage.StageError, match=r"book/results/toy.ipynb failed in cell 2: KeyError: 'accuracy'"
    ):
        stage.gather(root)
    assert not list((root / "_build").rglob("toy.sha256"))


def test_the_site_is_built_once_and_warnings_stop_it(root, capsys):
    page = stage.build(root)
    built = page.parent
    assert page == root / "_build" / "html" / "index.html"
    assert "executed 2" in (built / "results" / "toy.html").read_text()
    assert "a zebra" in (built / "runs" / "paper" / "toy" / "first.html").read_text()
    assert (built / "_static" / "plotly.min.js").stat().st_size > 1_000_000
    index = (built / "searchindex.js").read_text()
    assert "zebra" not in index and "result" in index
    before = page.stat().st_mtime_ns
    stage.build(root)
    assert "The site is up to date: _build/html/index.html" in capsys.readouterr().out
    assert page.stat().st_mtime_ns == before
    (root / "book" / "index.md").write_text("# Front\n\n[gone](nowhere.md) {cite}`nobody1900`\n")
    with pytest.raises(stage.StageError, match=r"(?s)warnings.*nowhere.*nobody1900"):
        stage.build(root)
    (root / "book" / "index.md").write_text("# Front\n")
    stage.build(root)


def test_status_names_the_records(root, monkeypatch):
    monkeypatch.setattr(pages, "_stale_runs", lambda: {("paper", "toy", "first")})
    blocks = pages.status_blocks(root)
    row = "paper | 2 | 1.5 | AMD EPYC, 1 thread | 2.15.0 | `abc1234` | older |"
    assert f"| [toy, first](/runs/paper/toy/first.ipynb) | {row}" in blocks["status"]
    assert "1 recorded run with 2 seeds in all, made on AMD EPYC, 1 thread." in blocks["statusline"]
    shutil.rmtree(root / "papermill_runs" / "paper")
    assert "No laptop or paper run is recorded yet" in pages.status_blocks(root)["statusline"]
