"""Buttons, the cell that installs the book, and the folders that Binder and dev containers read.

The cell is run in a fresh environment: this one's packages without `pullpush`, from a repository made of the
working tree. pip gets no index, so nothing is fetched and nothing is skipped where there is no network.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from bs4 import BeautifulSoup
from packaging.specifiers import SpecifierSet

from pullpush import elsewhere, stage
from pullpush.fingerprint import method_fingerprint

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
NOTEBOOKS = sorted(path for path in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
EXPERIMENTS = [path for path in NOTEBOOKS if path.parent.name == "experiments"]
URL = "https://github.com/owner/name"
WHERE = elsewhere.Repository(URL, "main", elsewhere.LAUNCH)


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def configuration(url, branch="main"):
    config = yaml.safe_load((BOOK / "_config.yml").read_text())
    return config | {"repository": {"url": url, "branch": branch}}


def codes(notebook):
    return ["".join(one["source"]) for one in notebook["cells"] if one["cell_type"] == "code"]


# --- which repository, and where a notebook of it opens ---


def test_no_url_is_no_repository():
    assert elsewhere.repository({}) is None
    assert elsewhere.repository({"repository": {"url": "", "branch": "main"}}) is None


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}.git", f" {URL}.git/ "])
def test_one_repository_has_one_name(url):
    assert elsewhere.repository(configuration(url)) == WHERE
    assert WHERE.name == "owner/name"


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:owner/name",
        "http://github.com/owner/name",
        "https://github.com/owner",
        "https://github.com/owner/name/tree/main",
        "https://example.org/owner/name",
        "https://gitlab.com/group/sub/name",
    ],
)
def test_a_url_to_which_no_button_leads_is_refused(url):
    with pytest.raises(elsewhere.RepositoryError, match=re.escape(f"is '{url}'. It must be https://github")):
        elsewhere.repository(configuration(url))


def test_the_interface_is_one_of_two():
    config = configuration(URL) | {"launch_buttons": {"notebook_interface": "retro"}}
    with pytest.raises(elsewhere.RepositoryError, match="is 'retro'. It must be jupyterlab or classic"):
        elsewhere.repository(config)


def test_links_lead_to_the_notebook_in_the_repository():
    links = WHERE.links("experiments/claws.ipynb")
    assert links == {
        "Colab": "https://colab.research.google.com/github/owner/name/blob/main/book/experiments/claws.ipynb",
        "Binder": "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/book/experiments/claws.ipynb",
    }


def test_colab_opens_github_alone_and_a_hub_can_be_left_out():
    gitlab = elsewhere.repository(configuration("https://gitlab.com/owner/name", "v1"))
    assert gitlab.links("a.ipynb") == {
        "Binder": "https://mybinder.org/v2/gl/owner%2Fname/v1?urlpath=lab/tree/book/a.ipynb"
    }
    config = configuration(URL) | {"launch_buttons": {"binderhub_url": ""}}
    assert list(elsewhere.repository(config).links("a.ipynb")) == ["Colab"]


# --- the cell in the sources ---


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cell_is_the_first_code_and_comes_and_goes_without_a_trace(path):
    source = elsewhere.with_cell(load(path), None)
    there = elsewhere.with_cell(source, WHERE)
    nbformat.validate(nbformat.from_dict(there))
    assert codes(there) == ["".join(elsewhere.cell(URL, "main")["source"]), *codes(source)]
    assert there["cells"][0] == source["cells"][0]  # the title stays on top
    assert elsewhere.with_cell(there, WHERE) == there
    assert elsewhere.with_cell(there, None) == source
    (cell,) = (one for one in there["cells"] if one not in source["cells"])
    assert "remove-cell" in cell["metadata"]["tags"]


def test_the_sources_hold_the_cell_that_the_configuration_asks_for():
    where = elsewhere.repository(yaml.safe_load((BOOK / "_config.yml").read_text()))
    differ = [path.name for path in NOTEBOOKS if elsewhere.with_cell(load(path), where) != load(path)]
    assert differ == [], "run `python -m pullpush.elsewhere`"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_cell_changes_neither_the_method_nor_the_parameters(path, tmp_path):
    plain, other = tmp_path / "plain.ipynb", tmp_path / "other.ipynb"
    plain.write_text(json.dumps(elsewhere.with_cell(load(path), None)))
    other.write_text(json.dumps(elsewhere.with_cell(load(path), WHERE)))
    library = ROOT / "lib" / "pullpush"
    assert method_fingerprint(plain, library) == method_fingerprint(other, library)
    assert papermill.inspect_notebook(str(plain)) == papermill.inspect_notebook(str(other))


def test_where_pullpush_is_installed_the_cell_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("it ran a command"))
    path = list(sys.path)
    exec("".join(elsewhere.cell(URL, "main")["source"]), {})
    assert (Path.cwd(), sys.path, list(tmp_path.iterdir())) == (tmp_path, path, [])


def test_what_a_url_holds_cannot_end_its_string():
    source = "".join(elsewhere.cell('file:///a"b', "it's")["source"])
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    assert 'file:///a"b' in texts and "it's" in texts


def test_write_changes_what_differs_and_says_it(tmp_path):
    book = tmp_path / "book"
    (book / "experiments").mkdir(parents=True)
    path = book / "experiments" / "claws.ipynb"
    source = elsewhere.with_cell(load(BOOK / "experiments" / "claws.ipynb"), None)
    path.write_text(json.dumps(source, ensure_ascii=False, indent=1) + "\n")
    before = path.read_bytes()
    (book / "_config.yml").write_text(yaml.safe_dump(configuration(URL)))
    assert elsewhere.write(tmp_path) == ["book/experiments/claws.ipynb"]
    assert URL in path.read_text() and elsewhere.write(tmp_path) == []
    (book / "_config.yml").write_text(yaml.safe_dump(configuration("")))
    assert elsewhere.write(tmp_path) == ["book/experiments/claws.ipynb"] and path.read_bytes() == before


# --- the pages ---


def executed(*cells):
    return {
        "cells": [{"id": f"cell-{i}", "metadata": {}, **cell} for i, cell in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }  # fmt: skip


def prose(text):
    return {"cell_type": "markdown", "source": text}


def code(text):
    return {"cell_type": "code", "source": text, "outputs": [], "execution_count": None}


RUN_THIS = """## Run this

::::{tab-set}
:::{tab-item} One command
```bash
pullpush run toy
```
:::
::::

What it does."""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A tiny book: a front page, a study, a committed run of it, and a page that the build makes."""
    book = tmp_path / "book"
    for folder in ("_static", "_templates"):
        shutil.copytree(BOOK / folder, book / folder)
    (book / "references.bib").touch()
    (book / "_config.yml").write_text(yaml.safe_dump(configuration(URL, "v1")))
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- caption: A\n  chapters:\n  - file: experiments/toy\n"
        "  - file: made_page\n  - glob: runs/*/*/*\n"
    )
    (book / "index.md").write_text(
        "# Front\n\n<!-- pullpush:elsewhere -->\n<!-- /pullpush:elsewhere -->\n\n"
        "(buttons-for-your-copy)=\n## Buttons\n"
    )
    toy = executed(prose("# Toy"), code("print('the work')"), prose(RUN_THIS))
    (book / "experiments").mkdir()
    (book / "experiments" / "toy.ipynb").write_text(json.dumps(toy))
    record = {
        "study": "toy", "run": "first", "profile": "paper", "parameters": {}, "metrics": [{"seed": 0}],
        "seconds": [1.0], "device": "cpu", "threads": 1, "commit": "abc", "dirty": False, "command": "-",
        "versions": {"torch": "2"},
    }  # fmt: skip
    run = tmp_path / "papermill_runs" / "paper" / "toy" / "first"
    run.mkdir(parents=True)
    (run / "record.json").write_text(json.dumps(record))
    (run / "run.ipynb").write_text(json.dumps(toy))
    monkeypatch.setattr(stage, "page_blocks", elsewhere.blocks)
    gather = stage.gather

    def with_made_page(root):
        staged = gather(root)
        staged.files["made_page.md"] = b"# Made\n"
        return staged

    monkeypatch.setattr(stage, "gather", with_made_page)
    monkeypatch.setattr(stage, "prune_toc", lambda text, files: text)
    return tmp_path


def header(page):
    """The links of the buttons at the top of a page, by their label."""
    links = BeautifulSoup(page.read_text(), "html.parser").select(".article-header-buttons a[href]")
    return {link.get_text(strip=True): link["href"] for link in links}


def test_a_configured_book_has_buttons_that_lead_to_its_sources(root):
    elsewhere.write(root)
    html = stage.build(root).parent
    where = elsewhere.repository(configuration(URL, "v1"))
    sources = f"{URL}/blob/v1"
    chapter = header(html / "experiments" / "toy.html")
    assert where.links("experiments/toy.ipynb").items() <= chapter.items()  # ours are the theme's
    assert chapter["Show source"] == f"{sources}/book/experiments/toy.ipynb"
    assert chapter["Repository"] == URL
    text = (html / "experiments" / "toy.html").read_text()
    assert "find_spec" not in text and "the work" in text  # no page shows the cell
    tabs = BeautifulSoup(text, "html.parser").select(".sd-tab-set > label")
    assert [tab.get_text(strip=True) for tab in tabs] == ["One command", "Colab or Binder"]
    front = header(html / "index.html")
    assert front["Show source"] == f"{sources}/book/index.md?plain=1" and "Colab" not in front
    assert f'href="{URL}"' in (html / "index.html").read_text()
    run = header(html / "runs" / "paper" / "toy" / "first.html")
    assert run["Show source"] == f"{sources}/papermill_runs/paper/toy/first/run.ipynb"
    assert not {"Colab", "Binder"} & set(run)  # a record is evidence; one runs its chapter
    assert "Show source" not in header(html / "made_page.html")


def test_a_book_without_a_repository_has_no_buttons(root):
    (root / "book" / "_config.yml").write_text(yaml.safe_dump(configuration("")))
    staged = stage.gather(root)
    assert staged.files["_config.yml"] == (root / "book" / "_config.yml").read_bytes()
    assert b"Colab" not in staged.files["experiments/toy.ipynb"]
    assert "has no buttons" not in staged.files["index.md"].decode()
    assert "names no repository" in staged.files["index.md"].decode()
    assert "github.com" not in staged.files["index.md"].decode()


def test_buttons_that_would_open_a_notebook_without_its_cell_stop_the_build(root):
    says = rf"names {URL} \(v1\), and the first code cell of book/experiments/toy.ipynb says otherwise: run"
    with pytest.raises(stage.StageError, match=says):
        stage.gather(root)
    elsewhere.write(root)
    stage.gather(root)
    (root / "book" / "_config.yml").write_text(yaml.safe_dump(configuration("")))
    with pytest.raises(stage.StageError, match="names no repository, and"):
        stage.gather(root)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_study_has_tabs_that_take_one_more(path):
    notebook = load(path)
    more = elsewhere.with_tab(notebook, WHERE.links(f"experiments/{path.name}"))
    assert json.dumps(more).count(":::{tab-item} Colab or Binder") == 1
    assert elsewhere.with_tab(notebook, {})["cells"] == notebook["cells"]


# --- a fresh environment ---


ROOT_OF_RECORDS = "from pullpush import records; print(records.root().name)"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """`bare(command, cwd)` with a Python of its own: our packages, but no pullpush; pip fetches nothing."""
    folder = tmp_path_factory.mktemp("bare")
    shared = folder / "shared"
    shared.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "pullpush" not in path.name:
            (shared / path.name).symlink_to(path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(str(shared))
    own = ("PULLPUSH_", "PYTHON", "PIP_", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment |= {
        "PATH": f"{folder / 'env' / 'bin'}{os.pathsep}{environment['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the answer to "isolate?"
        "GIT_CONFIG_GLOBAL": os.devnull,
    }

    def run(command, cwd):
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    run.packages = packages
    return run


@pytest.fixture
def published(tmp_path):
    """The working tree as a git repository, without what the first cells do not need: its address."""
    if not shutil.which("git"):
        pytest.skip("no git: apt install git")
    folder = tmp_path / "published"
    skip = shutil.ignore_patterns(
        "__pycache__", "*.ipynb_checkpoints", "laptop", "paper", "bench", ".snakemake"
    )
    for name in ("lib", "book", "papermill_runs"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / ".binder", folder / ".binder")
    for command in ("init -q -b trunk", "add .", "commit -q -m all"):
        git(folder, *command.split())
    return f"file://{folder}"


def git(folder, *command):
    me = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", *me, *command], cwd=folder, check=True)


def forget(bare):
    for path in bare.packages.glob("*pullpush*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_the_cell_installs_the_book_where_it_is_missing(bare, published, tmp_path):
    """It fails at first, for want of a package, and is run again; then the kernel starts anew."""
    forget(bare)
    here, project = tmp_path / "content", tmp_path / "published" / "pyproject.toml"
    here.mkdir()
    assert "No module named 'pullpush'" in bare(["python", "-c", "import pullpush"], here)[2]
    whole = project.read_text()
    project.write_text(whole.replace('"papermill>=2.7"', '"no-such-package-at-all"'))
    git(project.parent, "commit", "-q", "-a", "-m", "less")
    where = elsewhere.Repository(published, "trunk", elsewhere.LAUNCH)
    chapter = elsewhere.with_cell(load(BOOK / "experiments" / "pair_vs_triplet.ipynb"), where)
    first = codes(chapter)[:3]  # what installs it, the parameters, the imports with `runs.begin`
    assert "runs.begin" in first[2]
    rc, _, err = bare(["python", "-c", first[0]], here)
    assert rc != 0 and "no-such-package-at-all" in err

    (here / elsewhere.CLONE / "pyproject.toml").write_text(whole)
    said = 'print("began", run.study, run.source["commit"] is not None)'
    rc, out, err = bare(["python", "-c", "\n".join([*first, said])], here)
    assert rc == 0, err
    assert "began pair_vs_triplet True" in out and "Installing" in out
    assert [path.name for path in here.iterdir()] == [elsewhere.CLONE]
    assert not (here / elsewhere.CLONE / elsewhere.CLONE).exists()

    shutil.rmtree(tmp_path / "published")  # nothing is fetched or installed again
    rc, out, err = bare(["python", "-c", f"{first[0]}\n{ROOT_OF_RECORDS}"], here)
    assert (rc, out) == (0, f"{elsewhere.CLONE}\n"), err


def test_in_a_checkout_the_cell_installs_that_checkout(bare, published, tmp_path):
    forget(bare)
    source = "".join(elsewhere.cell("file:///nowhere", "trunk")["source"])
    folder = tmp_path / "published" / "book" / "experiments"
    rc, out, err = bare(["python", "-c", f"{source}\n{ROOT_OF_RECORDS}"], folder)
    assert rc == 0 and out.endswith("published\n"), err


def test_the_kernel_that_runs_the_cell_is_not_replaced(monkeypatch):
    """Colab's own parts ask for an older ipykernel than we do."""
    asked = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command))
    elsewhere.install(ROOT)
    packages, book = asked
    assert not [one for one in packages if "ipykernel" in one]
    assert [one for one in packages if one.startswith("torch>=")] and book[-3:] == [
        "--no-deps", "--editable", str(ROOT)
    ]  # fmt: skip
    monkeypatch.setattr(elsewhere.metadata, "distributions", lambda name: iter(()))
    elsewhere.install(ROOT)
    assert [one for one in asked[2] if one.startswith("ipykernel>=")]


# --- Binder and the dev container ---


def python_of(environment):
    (python,) = (one for one in environment["dependencies"] if str(one).startswith("python="))
    return python.split("=")[1]


def test_binder_gets_the_python_of_environment_yml():
    binder = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())
    assert python_of(binder) == python_of(yaml.safe_load((ROOT / "environment.yml").read_text()))
    script = ROOT / ".binder" / "postBuild"
    assert script.read_text().startswith("#!/bin/bash\n") and os.access(script, os.X_OK)


def test_post_build_installs_the_lock_and_the_book(bare, published, tmp_path):
    forget(bare)
    folder = tmp_path / "published"
    rc, _, err = bare([folder / ".binder" / "postBuild"], folder)
    assert rc == 0, f"if this environment lacks what the lock names: make env\n{err}"
    rc, out, err = bare(["python", "-c", ROOT_OF_RECORDS], tmp_path)
    assert (rc, out) == (0, "published\n"), err
    assert bare(["which", "pullpush"], folder)[1].endswith("env/bin/pullpush\n")


def test_the_dev_container_is_described():
    folder = ROOT / ".devcontainer"
    described = json.loads((folder / "devcontainer.json").read_text())
    dockerfile = (folder / described["build"]["dockerfile"]).read_text()
    (python,) = re.findall(r"^FROM python:(\d+\.\d+)-", dockerfile, flags=re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"{python}.0" in SpecifierSet(project["requires-python"])
    assert f"USER {described['remoteUser']}" in dockerfile
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    make, target = described["postCreateCommand"].split()
    assert make == "make" and {target, "serve"} <= targets
    assert described["forwardPorts"] == [int(re.search(r"^PORT \?= (\d+)", makefile, re.MULTILINE)[1])]
    assert described["hostRequirements"]["gpu"] == "optional"


def test_the_dev_container_leaves_the_environment_of_its_host_alone():
    described = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    environment = os.environ | described["containerEnv"]
    planned = subprocess.run(
        ["make", "-n", "env"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    folder = described["containerEnv"]["MAKEFLAGS"].removeprefix("VENV=")
    assert f"{folder}/bin/python" in planned and ".venv/" not in planned
    assert f"/{folder.split('/')[0]}/" in (ROOT / ".gitignore").read_text().splitlines()
    settings = described["customizations"]["vscode"]["settings"]
    used = [described["remoteEnv"]["PATH"], settings["python.defaultInterpreterPath"]]
    assert all(f"/{folder}/bin" in path for path in used)
