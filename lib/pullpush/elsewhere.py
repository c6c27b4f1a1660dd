"""The book on Colab, on Binder and at other hosts: where `repository.url` is set in `book/_config.yml`.

Colab opens a notebook from its repository, alone: without the library, the records and the other files. So
each notebook of `book/` gets a first code cell that fetches the repository and installs what this Python
lacks. Where `pullpush` is installed (`make env`, Binder, the dev container) that cell does nothing, and no
page shows it. It stands in the sources because these are what Colab and Binder open, and there is one copy
of each: `python -m pullpush.elsewhere` writes it, or takes it out where no repository is named.

The cell calls `install` in a Python that has none of our packages yet: this module imports only what comes
with Python, the rest inside functions.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

TAGS = ["elsewhere", "remove-cell"]
BOOK = "book"  # the folder of the notebooks in the repository
CLONE = "pull-and-push"  # the folder that the cell makes
LAUNCH = {  # `launch_buttons` of _config.yml names other hubs; "" leaves one out
    "notebook_interface": "jupyterlab",
    "colab_url": "https://colab.research.google.com",
    "binderhub_url": "https://mybinder.org",
}
CELL = """\
# Colab and its like open this notebook alone. Then this cell fetches the book and installs what is missing.
# Where pullpush is installed, it does nothing.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("pullpush") is None:
    book = "../.." if os.path.isdir("../../lib/pullpush") else {clone}
    if not os.path.isdir(book):
        clone = ["git", "clone", "--quiet", "--depth=1", "--branch", {branch}, {url}, book]
        subprocess.run(clone, check=True)
    lib = os.path.abspath(f"{{book}}/lib")
    subprocess.run([sys.executable, "-m", "pullpush.elsewhere", "install"], cwd=lib, check=True)
    os.chdir(book)
    sys.path.append(lib)
    importlib.invalidate_caches()"""
TAB = """\
:::{{tab-item}} {title}
{links}

The first code cell fetches the book and installs what is missing.
:::
"""
WITHOUT = """\
This copy of the book names no repository, so its pages have no buttons for Colab and Binder. \
[Yours can](#buttons-for-your-copy)."""


class RepositoryError(ValueError):
    """What `book/_config.yml` or a notebook says about the repository cannot work; the message says why."""


@dataclass(frozen=True)
class Repository:
    """Where the book's sources are published: a repository of GitHub or GitLab, and a branch or tag of it."""

    url: str  # without .git and without a slash at its end
    branch: str
    launch: Mapping[str, Any]  # what the theme gets as `launch_buttons`

    @property
    def name(self) -> str:
        """Such as 'owner/repository'."""
        return "/".join(self.url.split("/")[-2:])

    def links(self, page: str) -> dict[str, str]:
        """Where a notebook opens, such as {"Colab": ..., "Binder": ...}. page: 'experiments/claws.ipynb'."""
        path, found = f"{BOOK}/{page}", {}
        if hub := self.launch.get("colab_url"):
            found["Colab"] = f"{hub.rstrip('/')}/github/{self.name}/blob/{self.branch}/{path}"
        if hub := self.launch.get("binderhub_url"):
            kind, name = (
                ("gh", self.name) if "github.com" in self.url else ("gl", self.name.replace("/", "%2F"))
            )
            face = {"jupyterlab": "lab/tree", "classic": "tree"}[self.launch["notebook_interface"]]
            found["Binder"] = f"{hub.rstrip('/')}/v2/{kind}/{name}/{self.branch}?urlpath={face}/{path}"
        return found


def repository(config: Mapping[str, Any]) -> Repository | None:
    """The repository that `book/_config.yml` names, or None. Raises RepositoryError for one that no button
    can lead to.
    """
    named = config.get("repository") or {}
    url = re.sub(r"(\.git)?/*$", "", str(named.get("url") or "").strip())
    if not url:
        return None
    if not re.fullmatch(r"https://(github|gitlab)\.com/[\w.-]+/[\w.-]+", url):
        raise RepositoryError(
            f"book/_config.yml: repository.url is '{named['url']}'. It must be https://github.com/OWNER/NAME "
            "or https://gitlab.com/OWNER/NAME, or '' for a book without buttons."
        )
    launch = LAUNCH | (config.get("launch_buttons") or {})
    if launch["notebook_interface"] not in ("jupyterlab", "classic"):
        raise RepositoryError(
            f"book/_config.yml: launch_buttons.notebook_interface is '{launch['notebook_interface']}'. "
            "It must be jupyterlab or classic."
        )
    if "github.com" not in url:
        launch["colab_url"] = ""  # Colab opens notebooks from GitHub alone
    return Repository(url, str(named.get("branch") or "main"), launch)


# ------------------------------------------------------------------------------------------- the cell


def cell(url: str, branch: str) -> dict[str, Any]:
    """The first code cell of a notebook whose sources are at `url`: any address that `git clone` takes."""
    source = CELL.format(url=json.dumps(url), branch=json.dumps(branch), clone=json.dumps(CLONE))
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": "elsewhere",
        "metadata": {"tags": list(TAGS)},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


def with_cell(notebook: Mapping[str, Any], where: Repository | None) -> dict[str, Any]:
    """The notebook with that cell before its first code cell; without it where `where` is None."""
    cells = [one for one in notebook["cells"] if TAGS[0] not in one["metadata"].get("tags", [])]
    if where is not None:
        first = next((i for i, one in enumerate(cells) if one["cell_type"] == "code"), len(cells))
        cells.insert(first, cell(where.url, where.branch))
    return {**notebook, "cells": cells}


def write(root: Path) -> list[str]:
    """Write the cell into the notebooks of the book as its configuration asks, or take it out: the files
    that changed, relative to `root`.
    """
    where, changed = _configured(root), []
    for path in _notebooks(root):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        wanted = with_cell(notebook, where)
        if wanted != notebook:
            path.write_text(json.dumps(wanted, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            changed.append(path.relative_to(root).as_posix())
    return changed


def install(folder: Path) -> None:
    """Install the book at `folder` into this Python, with the packages that it lacks.

    What runs this cell stays as it is: Colab's own parts ask for exactly the ipykernel that is there, and a
    kernel that is replaced while it runs may not come up again.
    """
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    kernel = any(True for _ in metadata.distributions(name="ipykernel"))
    wanted = [one for one in project["dependencies"] if not (kernel and one.startswith("ipykernel"))]
    print(
        "Installing what the book needs. This takes a few minutes where torch has to be fetched.", flush=True
    )
    for what in (wanted, ["--no-deps", "--editable", str(folder)]):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *what], check=True)


# ------------------------------------------------------------------------------------------- the pages


def apply(root: Path, files: MutableMapping[str, bytes]) -> None:
    """Give the staged book its buttons and tabs where a repository is configured; else change nothing.

    files: content by path below the stage. Raises RepositoryError where a notebook lacks its first cell.
    """
    import yaml

    config = yaml.safe_load(files["_config.yml"])
    where = repository(config)
    old = [
        path.relative_to(root).as_posix()
        for path in _notebooks(root)
        if with_cell(notebook := json.loads(path.read_text(encoding="utf-8")), where) != notebook
    ]
    if old:
        says = f"names {where.url} ({where.branch})" if where else "names no repository"
        raise RepositoryError(
            f"book/_config.yml {says}, and the first code cell of {old[0]}"
            + (f" and {len(old) - 1} more" if len(old) > 1 else "")
            + " says otherwise: run `python -m pullpush.elsewhere`, then commit the notebooks."
        )
    if where is None:
        return
    sphinx = config["sphinx"]["config"]
    sphinx["extensions"] = [*sphinx["extensions"], "pullpush.elsewhere"]
    # Here and not at the top, where jupyter-book looks: options written here would replace those.
    sphinx["html_theme_options"] |= {
        "repository_url": where.url,
        "repository_branch": where.branch,
        "path_to_docs": BOOK,
        "launch_buttons": dict(where.launch),
        "use_repository_button": True,
        "use_source_button": True,
    }
    files["_config.yml"] = yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()
    for name in [name for name in files if re.fullmatch(r"experiments/[^/]+\.ipynb", name)]:
        notebook = with_tab(json.loads(files[name]), where.links(name))
        files[name] = json.dumps(notebook, ensure_ascii=False, indent=1).encode()


def with_tab(notebook: Mapping[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """A chapter with one more tab in the set under "Run this"; as it is where there is no such set."""
    said = " or ".join(f"[Open this notebook on {name}]({url})" for name, url in links.items())
    tab, cells = TAB.format(title=" or ".join(links), links=said), []
    for one in notebook["cells"]:
        source = "".join(one["source"])
        if links and one["cell_type"] == "markdown" and source.startswith("## Run this"):
            one = {**one, "source": re.sub(r"^::::$", lambda end: tab + end[0], source, count=1, flags=re.M)}
        cells.append(one)
    return {**notebook, "cells": cells}


def blocks(root: Path) -> dict[str, str]:
    """`elsewhere`: what the page on rerunning says of this copy of the book."""
    where = _configured(root)
    if where is None:
        return {"elsewhere": WITHOUT}
    opens = " or ".join(where.links(""))
    rocket = f" The rocket at the top of a notebook's page opens it on {opens}." if opens else ""
    text = f"The sources of this book are at [{where.name}]({where.url}).{rocket}"
    return {"elsewhere": f"{text}\n\n```bash\ngit clone {where.url}\n```"}


def setup(app: Any) -> dict[str, bool]:
    """A Sphinx extension of one hook, after the theme's own (501 and 502)."""
    app.connect("html-page-context", _lead_to_sources, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _lead_to_sources(app: Any, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """The buttons of a page that the build has made lead to what it is made of, or are left out."""
    root = Path(app.srcdir).parents[1]
    suffix = context.get("page_source_suffix") or ""
    own = (root / BOOK / f"{pagename}{suffix}").is_file()
    made_of = re.sub(r"^runs/(.+)", r"papermill_runs/\1/run.ipynb", pagename)
    made_of = made_of if (root / made_of).is_file() else ""
    kept = []
    for button in context.get("header_buttons", []):
        if button.get("label") == "launch-buttons" and not own:
            continue  # a committed run is evidence: its chapter is what one runs again
        if button.get("label") == "source-buttons":
            parts = [_source(part, f"/{pagename}{suffix}", own, made_of) for part in button["buttons"]]
            button = {**button, "buttons": [part for part in parts if part]}
        kept.append(button)
    context["header_buttons"] = kept


def _source(part: dict[str, Any], page: str, own: bool, made_of: str) -> dict[str, Any] | None:
    """One button of the group of sources, or None. A notebook is shown as one, not as its JSON."""
    if part.get("label") != "source-file-button":
        return part
    url = part["url"].removesuffix("?plain=1") if page.endswith(".ipynb") else part["url"]
    if own:
        return {**part, "url": url}
    start = url.split(page)[0].rsplit("/", 1)[0]  # without the folder of the book
    return {**part, "url": f"{start}/{made_of}"} if made_of else None


# ------------------------------------------------------------------------------------------- shared


def _configured(root: Path) -> Repository | None:
    import yaml

    return repository(yaml.safe_load((root / BOOK / "_config.yml").read_text(encoding="utf-8")))


def _notebooks(root: Path) -> list[Path]:
    return sorted(path for path in (root / BOOK).rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def main(arguments: list[str]) -> int:
    """`install` is what the cell calls; without it, write the cell into the notebooks."""
    if arguments == ["install"]:
        install(Path(__file__).resolve().parents[2])
        return 0
    from pullpush import records

    try:
        changed = write(records.root())
    except RepositoryError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print("\n".join(changed) or "The first cells of all notebooks are as book/_config.yml asks.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
