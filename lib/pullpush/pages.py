"""The pages of the staged book that are made from something else: a committed run, a list of records, a text
with blocks.
"""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


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
    page = tidy({**notebook, "cells": [head, *code]})
    page["metadata"]["nosearch"] = True
    return page


def tidy(notebook: dict[str, Any]) -> dict[str, Any]:
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


def fill_notebook(notebook: bytes, blocks: Mapping[str, str]) -> bytes:
    """A chapter with the blocks of its text cells filled: its result card follows the records."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = fill("".join(cell["source"]), blocks)
    return dump(content)


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
            "older" if (profile, study, run) in stale else _code(record),
        ]
        table.append(f"| {' | '.join(map(_cell, cells))} |")
    return {"statusline": line, "status": "\n".join(table)}


def _code(record: Mapping[str, Any]) -> str:
    """Which code the numbers of a record that is not stale stand for."""
    if not record.get("rechecks"):
        return "today’s"
    return f"older; seed {record['rechecks'][-1]['seed']} gave the same numbers with today’s"


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
    pages = [str(Path(name).with_suffix("")) for name in files if is_page(name)]

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


def is_page(name: str) -> bool:
    return name.endswith((".md", ".ipynb")) and not name.startswith("_")


def _tags(cell: Mapping[str, Any]) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def load(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def dump(notebook: Mapping[str, Any]) -> bytes:
    return json.dumps(notebook, ensure_ascii=False, indent=1).encode()
