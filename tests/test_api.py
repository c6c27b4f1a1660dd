"""The reference: every public name has an entry in its own words; chapters and entries name each other."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml

from pullpush import api
from pullpush.docstrings import inline, myst

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())
EXTENSIONS = CONFIG["parse"]["myst_enable_extensions"]


@pytest.fixture(scope="module")
def html():
    """What the book's own parser makes of a text."""
    from markdown_it.renderer import RendererHTML
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser

    return create_md_parser(MdParserConfig(enable_extensions=set(EXTENSIONS)), RendererHTML).render


def words(text):
    return re.findall(r"\w+", text)


# ----------------------------------------------------------------------------------------- docstrings to MyST


def test_a_docstring_becomes_text_formulas_and_a_list():
    doc = """Mean of it, to the power alpha.

    L = 1/n sum_i ||z_a,i||^alpha

    Wang & Isola 2020 (arXiv:2005.10242).

    z_a, z_b: (n, d), rows of unit length,
        as ever.
    alpha: above 0; see `other`.
    Weights are drawn.

    Returns a scalar in [0, 2**alpha]. Raises ValueError
    if n is 0.

    >>> mean(z, z)
    tensor(1.)
    """
    links = {"other": "{py:obj}`losses.other <pullpush.losses.other>`"}
    assert myst(inspect.cleandoc(doc), ["z_a", "z_b", "alpha"], links.get) == inspect.cleandoc(r"""
        Mean of it, to the power alpha.

        ```text
        L = 1/n sum_i ||z_a,i||^alpha
        ```

        Wang \& Isola 2020 ([arXiv:2005.10242](https://arxiv.org/abs/2005.10242)).

        `z_a, z_b`
        : `(n, d)`, rows of unit length, as ever.

        `alpha`
        : above 0; see {py:obj}`losses.other <pullpush.losses.other>`.

        Weights are drawn.

        Returns
        : a scalar in \[0, 2\*\*alpha\].

        Raises
        : `ValueError` if n is 0.

        ```pycon
        >>> mean(z, z)
        tensor(1.)
        ```
    """)


@pytest.mark.parametrize(
    "line, shown",
    [
        ("z: (n, d); labels: (n,). Returns it", "`z`\n: `(n, d)`\n\n`labels`\n: `(n,)`.\n\nReturns\n: it"),
        ("labels and z: rows", "`labels and z`\n: rows"),
        ("z(batch) -> rows", "`z(batch)`\n: \\-\\> rows"),
        ("z  one row      labels: one column", "`z`\n: one row\n\n`labels`\n: one column"),
        ("other: no name of the signature", "other: no name of the signature"),
        ("q_ik = f(z)\n  + labels", "```text\nq_ik = f(z)\n  + labels\n```"),
        ("acc = mean of `z`. A sentence", "acc = mean of `z`. A sentence"),
        ("part     layers\nstage1   one", "```text\npart     layers\nstage1   one\n```"),
        ("    print(z)", "```python\nprint(z)\n```"),
        ("    w = z_1 / labels : 2", "```text\nw = z_1 / labels : 2\n```"),
    ],
)
def test_blocks_are_told_apart(line, shown):
    assert myst(line, ["z", "labels"]) == shown


@pytest.mark.parametrize(
    "text",
    [
        "*a* _b_ **c**",
        "[a](b) ![c]",
        "<b>",
        "$x$ and {term}`y`",
        "1. one",
        "- two",
        "# three",
        "a | b ~~c~~ ^d^",
        "= e",
    ],
)
def test_plain_text_stays_plain(html, text):
    code = "`" in text
    bare = unescape(re.sub(r"</?(p|code)>", "", html(inline(text)))).strip()
    assert bare == text.replace("`", "") and ("<code>" in html(inline(text))) == code


def documented():
    return [entry for entry in api.entries().values() if entry.doc]


@pytest.mark.parametrize("entry", documented(), ids=lambda entry: entry.name)
def test_no_word_of_a_docstring_is_lost_or_moved(html, entry):
    shown = html(myst(entry.doc, entry.parameters))
    assert words(unescape(re.sub(r"<[^>]+>", " ", shown))) == words(entry.doc)


# ----------------------------------------------------------------------------------------------- the library


@pytest.mark.parametrize("page", api.PAGES)
def test_every_public_name_is_on_its_page(page):
    module = importlib.import_module(f"pullpush.{page}")
    for name in getattr(module, "__all__", []):
        found = getattr(module, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert f"{page}.{name}" in api.entries(), name


@pytest.mark.parametrize("entry", documented(), ids=lambda entry: entry.name)
def test_entries_are_what_is_imported(entry):
    """Parsed and imported, a name has the same docstring and the same parameters."""
    module, _, name = entry.name.rpartition(".")
    found = getattr(importlib.import_module(f"pullpush.{module}"), name)
    assert inspect.cleandoc(found.__doc__) == entry.doc
    if not (inspect.isclass(found) and issubclass(found, Exception)):
        assert entry.parameters == list(inspect.signature(found).parameters)


def test_the_names_that_others_build_on_are_there():
    """Those of the design."""
    wanted = {
        "data.load",
        "data.load_table",
        "losses.nt_xent",
        "losses.sup_con",
        "losses.cluster_contrast",
        "losses.alignment",
        "losses.uniformity",
        "losses.margin_contrastive",
        "losses.soft_contrast",
        "evaluation.clustering_scores",
        "evaluation.linear_probe",
        "evaluation.knn_probe",
        "evaluation.elbow",
        "evaluation.gmm_outliers",
        "runs.load_records",
        "runs.pending",
    }
    assert wanted <= set(api.entries())


def test_names_in_a_text_are_found():
    for name in ("losses.nt_xent", "nt_xent", "nt_xent()"):
        assert api.find(name).name == "losses.nt_xent"
    assert api.find("Arm", "results").name == "results.Arm" and api.find("Arm", "runs").name == "runs.Arm"
    assert api.find("Arm", "losses") is None and api.find("xent") is None


# ----------------------------------------------------------------------------------------------- the chapters


def test_uses_are_found_under_every_name():
    assert api.uses("""
%matplotlib inline
from pullpush import evaluation, losses as l
from pullpush.losses import sup_con as s
import pullpush

l.nt_xent(z, z).item()
evaluation.elbow
s(z, y)
losses.alignment  # no such name here
""") == {"losses.nt_xent", "evaluation.elbow", "losses.sup_con"}


def docstrings():
    for path in sorted((ROOT / "lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                yield f"{path.stem}:{getattr(node, 'name', '')}", ast.get_docstring(node)


def test_what_is_taught_is_taught_in_a_chapter():
    everywhere = api.chapters(ROOT)
    remarks = 0
    for where, doc in docstrings():
        if re.match(r"api:|docstrings:", where):
            continue
        assert len(re.findall(r"[Tt]aught\s+in\b", doc)) == bool(api.titles(doc)), where
        for title in api.titles(doc):
            assert api._chapter(title, where, everywhere)
            remarks += 1
    assert remarks > 30


def test_an_unknown_chapter_stops_the_build(monkeypatch):
    entry = api.entries()["losses.nt_xent"]
    node = ast.parse('def nt_xent():\n    """It. Taught in "Pair against triplets"."""').body[0]
    with pytest.raises(api.UnknownChapter, match=r"losses.nt_xent .*Did you mean 'Pair against triplet'\?"):
        api.teachers(api.Entry(entry.name, entry.page, entry.section, entry.module, node), api.chapters(ROOT))


@pytest.fixture(scope="module")
def staged():
    """All notebooks of the book, as they are staged."""
    paths = sorted((ROOT / "book").glob("*/*.ipynb"))
    files = {path.relative_to(ROOT / "book").as_posix(): path.read_bytes() for path in paths}
    api.link_chapters(ROOT, files)
    return {name: json.loads(content)["cells"] for name, content in files.items()}


def list_of(cells):
    found = [place for place, cell in enumerate(cells) if cell["id"] == "in-the-library"]
    assert len(found) == 1
    return found[0], set(re.findall(r"<pullpush\.([\w.]+)>", cells[found[0]]["source"]))


def test_chapters_and_entries_link_to_each_other(staged):
    everywhere = api.chapters(ROOT)
    blocks = api.blocks(ROOT)
    assert {c.path.split("/")[0] for c in everywhere} >= {"foundations", "experiments", "results"}
    told = re.compile(r"^`{5,6}\{py:\w+\} ([\w.]+)(.*?)^`{5,6}$", re.M | re.S)
    shown = {name: body for page in api.PAGES for name, body in told.findall(blocks[f"api-{page}"])}
    assert set(shown) >= {"losses.nt_xent", "samplers.Support", "figures.PULL"}
    for chapter in everywhere:
        if not chapter.uses:  # such as a page that draws from files alone
            assert not any(cell["id"] == "in-the-library" for cell in staged[chapter.path])
            continue
        _, listed = list_of(staged[chapter.path])
        assert listed >= chapter.uses and listed <= set(api.entries())
        for name in listed:
            few = len([other for other in everywhere if name in other.uses]) <= api.FEW
            taught = chapter in api.teachers(api.entries()[name], everywhere)
            assert not (few or taught) or f"(/{chapter.path})" in shown[name], (name, chapter.path)
    for name in api.entries():
        for chapter in api.teachers(api.entries()[name], everywhere):
            assert name in list_of(staged[chapter.path])[1]
            assert "this chapter teaches" in "".join(
                cell["source"] for cell in staged[chapter.path] if cell["id"] == "in-the-library"
            )


def test_every_chapter_that_calls_the_library_has_a_list(staged):
    calls = re.compile(r"^from pullpush import .*\b(losses|data|graph)\b", re.M)
    for chapter in api.chapters(ROOT):
        cells = staged[chapter.path]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        if chapter.path.startswith(("experiments/", "results/", "assignments/")) or calls.search(code):
            assert list_of(cells)[1], chapter.path


def test_the_list_stands_above_where_to_go_next(staged):
    for name in ("foundations/sample_bias.ipynb", "experiments/lnscc.ipynb", "experiments/cc_vs_rcc.ipynb"):
        place, _ = list_of(staged[name])
        assert api.NEXT.match("".join(staged[name][place + 1]["source"])) and place + 2 == len(staged[name])
        before = json.loads((ROOT / "book" / name).read_text())["cells"]
        kept = ["".join(cell["source"]) for cell in staged[name] if cell["id"] != "in-the-library"]
        assert words("".join(kept)) == words("".join("".join(cell["source"]) for cell in before))
        assert len({cell["id"] for cell in staged[name]}) == len(staged[name])


# -------------------------------------------------------------------------------------------------- the pages


def test_each_page_is_in_the_contents_and_takes_its_block():
    contents = (ROOT / "book" / "_toc.yml").read_text()
    for page in api.PAGES:
        assert f"file: api/{page}\n" in contents
        assert f"<!-- pullpush:api-{page} -->" in (ROOT / "book" / "api" / f"{page}.md").read_text()
    assert {path.stem for path in (ROOT / "book" / "api").glob("*.md")} == {"index", *api.PAGES}


def test_sphinx_takes_the_pages_without_a_warning(tmp_path):
    """And every name that is a link leads to an entry."""
    from pullpush.pages import fill

    blocks = api.blocks(ROOT)
    for path in (ROOT / "book" / "api").glob("*.md"):
        (tmp_path / path.name).write_text(fill(path.read_text(), blocks))
    with (tmp_path / "index.md").open("a") as index:
        index.write("\n```{toctree}\n:glob:\n\n*\n```\n")
    (tmp_path / "conf.py").write_text(
        f"extensions = ['myst_parser']\nmyst_enable_extensions = {EXTENSIONS}\nadd_module_names = False\n"
        "suppress_warnings = ['myst.xref_missing']\n"  # chapters are not built here
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", ".", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in api.PAGES:
        text = (tmp_path / "out" / f"{page}.html").read_text()
        marked, linked = (
            'code class="xref py py-obj',
            r'<a class="reference internal" [^>]*><code class="xref py py-obj',
        )
        assert text.count(marked) == len(re.findall(linked, text))
        for entry in api.entries().values():
            assert entry.page != page or f'id="pullpush.{entry.name}"' in text, entry.name
