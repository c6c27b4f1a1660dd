"""Build the site: `python -m pullpush.stage`.

The staged book, `_build/stage/`, is `book/` with executed notebooks in the place of their sources and one
page for each committed run (design.md, "The stage"). jupyter-book turns it into `_build/html/`. Everything is
compared by content: a call with nothing to do takes seconds.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS_FORM = (
    "2"  # raise it when execution of a results notebook changes in a way that its inputs do not show
)
BUILDERS = (
    "jupyter-book",
    "sphinx",
    "sphinx-book-theme",
    "sphinx-design",
    "myst-nb",
    "plotly",
    "sphinx-mathjax-offline",
)


KERNEL_STARTS = 3  # parallel kernels race for free ports, and the loser dies before its first cell


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
        return {n for n in kept if _is_page(n)} != {n for n in self.files if _is_page(n)}

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
        stage.files[f"experiments/{path.name}"] = _dump(chapter(root, path))
    records = sorted((root / "papermill_runs").glob("*/*/*/record.json"))
    for path in records:
        run = path.parent
        name = run.relative_to(root / "papermill_runs").as_posix()
        stage.files[f"runs/{name}.ipynb"] = _dump(
            run_page(_load(run / "run.ipynb"), json.loads(path.read_text()), stage.files)
        )
    for path in sorted((book / "results").glob("*.ipynb")):
        stage.files[f"results/{path.name}"] = executed_results(root, path)
    blocks = page_blocks(root)
    for name in [name for name in stage.files if name.endswith(".md")]:
        stage.files[name] = fill(stage.files[name].decode(), blocks).encode()
    for name in [name for name in stage.files if name.startswith("experiments/") and name.endswith(".ipynb")]:
        stage.files[name] = _filled(stage.files[name], blocks)
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
    return _tidy(_load(path or source))


def run_page(notebook: dict[str, Any], record: Mapping[str, Any], pages: Iterable[str]) -> dict[str, Any]:
    """The notebook of a committed run as a page: a title, its parameters and a link to its chapter in the
    place of the prose.

    Without the prose no label appears twice in the book; `nosearch` keeps a page that repeats its chapter out
    of the index.
    """
    study, run, profile = record["study"], record["run"], record["profile"]
    chapter_page = f"experiments/{study}.ipynb"
    link = f"Its cells are explained in the chapter [](/{chapter_page})." if chapter_page in pages else ""
    facts = {
        "seeds": ", ".join(str(row["seed"]) for row in record["metrics"]),
        "seconds": _seconds(record),
        "machine": _machine(record),
        "commit": record["commit"],
        "command": f"`{record['command']}`",
    }
    parameters = (f"| `{name}` | `{json.dumps(value)}` |" for name, value in record["parameters"].items())
    about = (f"| {name} | {_cell(value)} |" for name, value in facts.items())
    lines = [
        f"# {study}: {run}", "",
        f"One run of the *{profile}* profile, as it was executed and committed. {link}", "",
        "| parameter | value |", "|---|---|", *parameters, "",
        "| about | |", "|---|---|", *about,
    ]  # fmt: skip
    # The table has the values of this run; the tagged cell would show the defaults.
    hidden = {"parameters", "remove-cell"}
    code = [c for c in notebook["cells"] if c["cell_type"] == "code" and not hidden & set(_tags(c))]
    head = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "\n".join(lines)}
    page = _tidy({**notebook, "cells": [head, *code]})
    page["metadata"]["nosearch"] = True
    return page


def _tidy(notebook: dict[str, Any]) -> dict[str, Any]:
    """Without what the machine of the run left behind: times, paths, papermill's own cell and progress on
    stderr.
    """
    cells = []
    for cell in notebook["cells"]:
        if "injected-parameters" in _tags(cell):
            continue
        cell = {**cell, "metadata": {"tags": _tags(cell)} if _tags(cell) else {}}
        if cell["cell_type"] == "code":
            outputs = [out for out in cell["outputs"] if out.get("name") != "stderr"]
            cell = {**cell, "outputs": outputs, "execution_count": None}
            cell["outputs"] = [
                {**out, "execution_count": None} if "execution_count" in out else out for out in outputs
            ]
        cells.append(cell)
    kept = {
        key: notebook["metadata"][key]
        for key in ("kernelspec", "language_info")
        if key in notebook["metadata"]
    }
    return {**notebook, "cells": cells, "metadata": kept}


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
    digest = _digest(
        RESULTS_FORM.encode(),
        *(p for path in inputs for p in (path.relative_to(root).as_posix().encode(), path.read_bytes())),
    )
    kept = root / "_build" / "results" / f"{source.stem}.ipynb"
    stamp = kept.with_suffix(".sha256")
    if not (kept.is_file() and stamp.is_file() and stamp.read_text() == digest):
        _execute(root, source, kept)
        stamp.write_text(digest)
    return _dump(_tidy(_load(kept)))


def _execute(root: Path, source: Path, target: Path) -> None:
    import papermill

    print(f"Executing {source.relative_to(root)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".sha256").unlink(missing_ok=True)
    for attempt in range(KERNEL_STARTS):
        try:
            papermill.execute_notebook(
                source,
                target,
                cwd=root,
                kernel_name="python3",
                progress_bar=False,
                extra_arguments=["--log-level=ERROR"],
            )
            return
        except papermill.PapermillExecutionError as error:
            where = f"{source.relative_to(root)} failed in cell {error.exec_count}"
            raise StageError(f"{where}: {error.ename}: {error.evalue}") from None
        except RuntimeError as error:  # the kernel lost the race for a port
            if attempt + 1 == KERNEL_STARTS:
                raise StageError(f"No kernel for {source.relative_to(root)}: {error}. Try again.") from error


# ------------------------------------------------------------------------------------------------- text pages


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Replace what stands between `<!-- pullpush:NAME -->` and `<!-- /pullpush:NAME -->`; unknown names keep
    their text.
    """
    pattern = re.compile(r"(<!-- pullpush:([a-z0-9-]+) -->\n).*?(<!-- /pullpush(?::\2)? -->)", re.S)
    return pattern.sub(
        lambda block: (
            block[1] + blocks[block[2]].rstrip() + "\n" + block[3] if block[2] in blocks else block[0]
        ),
        text,
    )


def _filled(notebook: bytes, blocks: Mapping[str, str]) -> bytes:
    """A chapter with the blocks of its text cells filled: its result card follows the records."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = fill("".join(cell["source"]), blocks)
    return _dump(content)


def page_blocks(root: Path) -> dict[str, str]:
    """The parts of text pages that are made when the book is: the picture of the idea, the status line, the
    list of records, and what `pullpush.results` says.
    """
    from pullpush import idea, results

    return {"idea": idea.html(), **status_blocks(root), **results.page_blocks()}


def status_blocks(root: Path) -> dict[str, str]:
    """`status`: a table of all records; `statusline`: one sentence for the front page."""
    found = [
        (path.parent.relative_to(root / "papermill_runs").as_posix(), json.loads(path.read_text()))
        for path in sorted((root / "papermill_runs").glob("*/*/*/record.json"))
    ]
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%h, %cs"], cwd=root, capture_output=True, text=True, check=False
    ).stdout.strip()
    built = f"Built from commit {commit}." if commit else "Built outside a repository."
    shown = "The chapters show the quick profile, executed by this build."
    if not found:
        nothing = "No laptop or paper run is recorded yet."
        return {"statusline": f"{built} {shown} {nothing}", "status": nothing}
    devices = sorted({_machine(record) for _, record in found})
    rows = sum(len(record["metrics"]) for _, record in found)
    line = (
        f"{built} {shown} The results rest on {len(found)} recorded run{'s' * (len(found) > 1)} with {rows} "
        f"seeds in all, made on {_joined(devices)}. [All records](status.md)"
    )
    table = [
        "| run | profile | seeds | minutes | machine | torch | commit | code |",
        "|---|---|---|---|---|---|---|---|",
    ]
    stale = _stale_runs()
    for name, record in found:
        profile, study, run = name.split("/")
        changed = " and changes" if record["dirty"] else ""
        cells = [
            f"[{study}, {run}](/runs/{name}.ipynb)",
            profile,
            len(record["metrics"]),
            f"{_seconds(record) / 60:.1f}",
            _machine(record),
            record["versions"]["torch"],
            f"`{str(record['commit'])[:7]}`{changed}",
            "older" if (profile, study, run) in stale else "today’s",
        ]
        table.append(f"| {' | '.join(map(_cell, cells))} |")
    return {"statusline": line, "status": "\n".join(table)}


def _stale_runs() -> set[tuple[str, str, str]]:
    """Profile, study and run of the records that were made by a method that has changed since."""
    from pullpush import runs

    frame = runs.load_records()
    old = frame[frame["stale"].astype(bool)] if len(frame) else frame
    return {(row["profile"], row["study"], row["run"]) for _, row in old.iterrows()}


def _machine(record: Mapping[str, Any]) -> str:
    """Such as 'AMD EPYC, 1 thread' or 'NVIDIA H100'."""
    name = record.get("device_name") or record["device"]
    threads = record.get("threads")
    if record["device"] != "cpu" or not threads:
        return str(name)
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


def _seconds(record: Mapping[str, Any]) -> float:
    return round(float(sum(record["seconds"])), 1)


def _joined(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _cell(value: Any) -> str:
    """Text that cannot break out of a cell of a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def prune_toc(text: str, files: Iterable[str]) -> str:
    """The table of contents without globs that match no page, which would be warnings."""
    import yaml

    toc = yaml.safe_load(text)
    pages = [str(Path(name).with_suffix("")) for name in files if _is_page(name)]

    def kept(entry: dict[str, Any]) -> bool:
        for key in ("chapters", "sections"):
            if key in entry:
                entry[key] = [inner for inner in entry[key] if kept(inner)]
                if not entry[key]:
                    del entry[key]
        if "glob" in entry:
            return any(fnmatch.fnmatch(page, entry["glob"]) for page in pages)
        return True

    toc["parts"] = [part for part in toc["parts"] if kept(part) and "chapters" in part]
    return yaml.safe_dump(toc, sort_keys=False)


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


def _is_page(name: str) -> bool:
    return name.endswith((".md", ".ipynb")) and not name.startswith("_")


def _tags(cell: Mapping[str, Any]) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def _load(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def _dump(notebook: Mapping[str, Any]) -> bytes:
    return json.dumps(notebook, ensure_ascii=False, indent=1).encode()


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
