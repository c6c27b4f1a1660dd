"""Build the site: `python -m pullpush.stage`.

The staged book, `_build/stage/`, is `book/` with executed notebooks in the place of their sources and one
page for each committed run (design.md, "The stage"). jupyter-book turns it into `_build/html/`. Everything is
compared by content: a call with nothing to do takes seconds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pullpush import api, elsewhere, exercises, foundations, terms
from pullpush.pages import dump, fill, fill_notebook, is_page, load, prune_toc, run_page, status_blocks, tidy

BUILDERS = (
    "jupyter-book", "sphinx", "sphinx-book-theme", "sphinx-design", "myst-nb", "plotly",
    "sphinx-mathjax-offline",
)  # fmt: skip


class StageError(RuntimeError):
    """The book cannot be built as it stands; the message says what to do."""


@dataclass
class Stage:
    """The files of the staged book, by their path below `_build/stage`."""

    root: Path
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.root / "_build" / "stage"

    def write(self) -> bool:
        """Make the folder hold exactly these files, touching only those that differ; whether pages came or
        went.
        """
        kept = {
            path.relative_to(self.folder).as_posix(): path
            for path in self.folder.rglob("*")
            if path.is_file()
        }
        for name in kept.keys() - self.files.keys():
            kept[name].unlink()
        for name, content in self.files.items():
            path = self.folder / name
            if name not in kept or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        return {n for n in kept if is_page(n)} != {n for n in self.files if is_page(n)}

    def digest(self) -> str:
        """Of every file, and of the versions of what turns them into pages."""
        versions = {name: metadata.version(name) for name in BUILDERS}
        return _digest(
            json.dumps(versions).encode(),
            *(part for n in sorted(self.files) for part in (n.encode(), self.files[n])),
        )


def build(root: Path) -> Path:
    """Stage the book and render it; the path of its front page. Raises StageError where a notebook or a page
    is wrong.
    """
    stage = gather(root)
    page = root / "_build" / "html" / "index.html"
    stamp = root / "_build" / "site.sha256"
    moved = stage.write()
    digest = stage.digest()
    if page.is_file() and stamp.is_file() and stamp.read_text() == digest:
        print(f"The site is up to date: {page.relative_to(root)}")
        return page
    # Adding or removing a page changes the navigation of all of them, which Sphinx does not notice by itself.
    # After a build that failed it would not repeat the warnings of pages that it keeps.
    everything = moved or not (page.is_file() and stamp.is_file())
    stamp.unlink(missing_ok=True)
    _render(root, everything)
    stamp.write_text(digest)
    print(f"The site is built: {page.relative_to(root)}")
    return page


def gather(root: Path) -> Stage:
    """Everything that the staged book holds."""
    stage = Stage(root)
    book = root / "book"
    for path in sorted(book.rglob("*")):
        name = path.relative_to(book).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(book).parts):
            stage.files[name] = path.read_bytes()
    for path in sorted((book / "experiments").glob("*.ipynb")):
        stage.files[f"experiments/{path.name}"] = dump(chapter(root, path))
    for path in sorted(path for folder in foundations.FOLDERS for path in (book / folder).glob("*.ipynb")):
        stage.files[path.relative_to(book).as_posix()] = executed_foundations(root, path)
    records = sorted((root / "papermill_runs").glob("*/*/*/record.json"))
    for path in records:
        run = path.parent
        name = run.relative_to(root / "papermill_runs").as_posix()
        stage.files[f"runs/{name}.ipynb"] = dump(
            run_page(load(run / "run.ipynb"), json.loads(path.read_text()), stage.files)
        )
    for path in sorted((book / "results").glob("*.ipynb")):
        stage.files[f"results/{path.name}"] = executed_results(root, path)
    blocks = page_blocks(root)
    for name in [name for name in stage.files if name.endswith(".md")]:
        stage.files[name] = fill(stage.files[name].decode(), blocks).encode()
    for name in [name for name in stage.files if name.startswith("experiments/") and name.endswith(".ipynb")]:
        stage.files[name] = fill_notebook(stage.files[name], blocks)
    terms.link_pages(stage.files)
    api.link_chapters(root, stage.files)
    try:
        elsewhere.apply(root, stage.files)
    except elsewhere.RepositoryError as error:
        raise StageError(str(error)) from None
    stage.files["_toc.yml"] = prune_toc(stage.files["_toc.yml"].decode(), stage.files).encode()
    stage.files["_extra/_static/plotly.min.js"] = _plotly_script()
    return stage


# -------------------------------------------------------------------------------------------------- notebooks


def chapter(root: Path, source: Path) -> dict[str, Any]:
    """The chapter as executed by the quick profile, or its source where that has not run."""
    study = source.stem
    runs = sorted((root / "_build" / "quick" / study).glob("*/run.ipynb"))
    named = {path.parent.name: path for path in runs}
    path = named.get(study) or named.get("default") or (runs[0] if runs else None)
    if path is None:
        print(
            f"{study} has not been executed: its page shows no outputs. Run `pullpush run {study}` first.",
            file=sys.stderr,
        )
    return _folded(root, source, path or source)


def executed_foundations(root: Path, source: Path) -> bytes:
    """A chapter or assignment with outputs. It is executed here only where `make book` has not done it."""
    kept = root / "_build" / source.parent.name / source.name
    if not kept.is_file():
        _execute(root, source, kept)
    return dump(_folded(root, source, kept))


def _folded(root: Path, source: Path, executed: Path) -> dict[str, Any]:
    try:
        return exercises.folded(tidy(load(executed)), source.relative_to(root).as_posix())
    except exercises.ExerciseError as error:
        raise StageError(str(error)) from None


def executed_results(root: Path, source: Path) -> bytes:
    """A results notebook with outputs, executed again only when it, a record or the library has changed."""
    inputs = [
        source,
        *sorted((root / "lib").rglob("*.py")),
        *sorted((root / "papermill_runs").rglob("record.json")),
        *sorted((root / "papermill_runs").glob("*.yaml")),
        *sorted((root / "book" / "results").glob("*.yaml")),
        *sorted((root / "book" / "results").glob("*.csv")),
    ]
    inputs += sorted((root / "papermill_runs").rglob("arrays.npz"))
    inputs += sorted((root / "papermill_runs" / "bench").glob("*.json"))
    digest = _digest(
        *(p for path in inputs for p in (path.relative_to(root).as_posix().encode(), path.read_bytes())),
    )
    kept = root / "_build" / "results" / f"{source.stem}.ipynb"
    stamp = kept.with_suffix(".sha256")
    if not (kept.is_file() and stamp.is_file() and stamp.read_text() == digest):
        _execute(root, source, kept)
        stamp.write_text(digest)
    return dump(tidy(load(kept)))


def _execute(root: Path, source: Path, target: Path) -> None:
    target.with_suffix(".sha256").unlink(missing_ok=True)
    try:
        foundations.execute(source, target)
    except foundations.ChapterFailed as error:
        raise StageError(str(error)) from None


def page_blocks(root: Path) -> dict[str, str]:
    """The parts of text pages that are made when the book is: the pictures of the idea, the status line, the
    list of records, what they cost, and what `pullpush.results` says.
    """
    from pullpush import idea, made, results

    pictures = {"idea": idea.html(), "card-spheres": idea.front()}
    try:
        reference = api.blocks(root)
    except api.UnknownChapter as error:
        raise StageError(str(error)) from None
    from_files = status_blocks(root) | made.blocks(root) | elsewhere.blocks(root)
    return pictures | reference | from_files | results.page_blocks()


# -------------------------------------------------------------------------------------------------- rendering


def _render(root: Path, everything: bool) -> None:
    """jupyter-book with warnings as errors, in a process of its own."""
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        "_build/stage",
        "--path-output",
        ".",
        "-W",
        "--keep-going",
        "-q",
    ]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command + ["--all"] * everything,
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        lines = [
            line for line in said.splitlines() if "WARNING" in line or "ERROR" in line or "Error" in line
        ] or said.splitlines()[-20:]
        raise StageError("The book has warnings:\n" + "\n".join(lines))


def _plotly_script() -> bytes:
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise StageError("plotly is not installed: run `make env`.")
    return (Path(found.origin).parent / "package_data" / "plotly.min.js").read_bytes()


def _digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()


def main() -> int:
    from pullpush import runs

    try:
        build(runs.root())
    except StageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
