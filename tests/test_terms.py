"""Glossary links: where a term is linked, where it is not, and what that does to the pages of this book."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pullpush import stage, terms

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
ROLE = re.compile(r"\{term\}`([^`<]+?)(?: <([^`>]+)>)?`")


@pytest.fixture(scope="module")
def glossary():
    return terms.read((BOOK / terms.GLOSSARY).read_text())


@pytest.fixture
def link(glossary):
    """link(text) as on a page of its own."""
    return lambda text: terms.link(text, glossary, set())


@pytest.fixture(scope="module")
def pages():
    """The text pages and notebooks of this book by name, as the stage finds them."""
    found = (path for path in sorted(BOOK.rglob("*")) if path.suffix in (".md", ".ipynb"))
    return {path.relative_to(BOOK).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def staged(pages):
    files = dict(pages)
    terms.link_pages(files)
    return files


def prose(name, page):
    """All that is not code, in the order of the page."""
    if name.endswith(".md"):
        return page.decode()
    cells = [cell for cell in json.loads(page)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def roles(text):
    return [target or words for words, target in ROLE.findall(text)]


# ------------------------------------------------------------------------------------------- one made-up text


@pytest.mark.parametrize(("text", "expected"), [
    ("An anchor and an anchor.", "An {term}`anchor` and an anchor."),
    ("Anchors pull.", "{term}`Anchors <anchor>` pull."),
    ("Two batches, one batch.", "Two {term}`batches <batch>`, one batch."),
    ("It **collapses**; *margins*.", "It **{term}`collapses <collapse>`**; *{term}`margins <margin>`*."),
    ("NMI and nmi.", "{term}`NMI` and nmi."),
    ("A false negative is a negative.", "A {term}`false negative` is a {term}`negative`."),
    ("a fuzzy\nunion of views", "a {term}`fuzzy\nunion <fuzzy union>` of {term}`views <view>`"),
    ("> > a tile\n> > and a shard", "> > a {term}`tile`\n> > and a {term}`shard`"),
    ("- a tile\n\n  and a shard\n- x", "- a {term}`tile`\n\n  and a {term}`shard`\n- x"),
    ("an anchor's class", "an {term}`anchor`'s class"),
], ids=[
    "second use", "plural, capital", "own plural", "emphasis", "case", "longest", "two lines", "quote",
    "list", "genitive",
])  # fmt: skip
def test_first_use_is_linked(link, text, expected):
    assert link(text) == expected


@pytest.mark.parametrize("text", [
    "# An anchor",
    "The margin of errors\n====================",
    "`anchor` and ``margin``",
    "$\\text{anchor}$ and\n\n$$\nmargin\n$$\n\n$$ margin $$ (eq-margin)",
    "\\begin{equation}\n\\text{margin}\n\\end{equation}",
    "[the anchor](pull.md), [anchor][a], <https://anchor.org>, ![anchor](a.png)\n\n[a]: b.md",
    "| anchor | view |\n|---|---|\n| `tile` | 1 |",
    "```python\nanchor = 1\n```\n\n    margin = 2",
    "```{code-block} python\nanchor\n```\n\n:::{figure} a.png\nAn anchor\n:::",
    "```{math}\n\\text{anchor}\n```",
    ":::{grid-item-card} Read the anchor\n:link: anchor\nAn anchor.\n:::",
    '<div class="margin">\nanchor\n</div>\n\na <span title="anchor">b</span>',
    "<!-- anchor -->\n\n% anchor\n\n(anchor)=",
    "{cite}`anchor` {eq}`margin` {term}`view` {ref}`the anchor <margin>`",
    "marginal, semi-anchor, anchor-free, anchors2",
    "no negative coordinate, with labels in view, in pairs",
    "[anchor]{.small}",
    "",
], ids=[
    "heading", "underlined heading", "code span", "mathematics", "amsmath", "links", "head of a table",
    "code", "directives", "mathematics directive", "card that is a link", "html", "comments", "roles",
    "parts of words", "other senses", "span", "nothing",
])  # fmt: skip
def test_no_use_is_no_link(link, text):
    assert link(text) == text


def test_cells_of_tables_are_linked_in_order(link):
    text = "| anchor | view |\n|---|---|\n| | a view \\| an anchor |\n| anchor `x` | an anchor, a tile |\n"
    assert roles(link(text)) == ["anchor", "tile"]  # the cell with an escaped bar is left alone
    assert "| {term}`anchor` `x` | an anchor, a {term}`tile` |" in link(text)


def test_prose_in_directives_is_linked(link):
    text = (
        "A tile.\n\n::::{tab-set}\n:::{tab-item} An anchor\n:sync: margin\nA margin, a tile.\n\n```bash\n"
        "anchor\n```\n:::\n::::\n\n```{note}\n---\nclass: shard\n---\nA shard.\n```\n"
    )
    expected = text.replace("A tile.", "A {term}`tile`.", 1).replace("A margin", "A {term}`margin`")
    assert link(text) == expected.replace("A shard", "A {term}`shard`")


def test_what_is_linked_is_not_linked_again(link, glossary):
    text = "An anchor, two views of it.\n\n| a |\n|---|\n| the margin |\n"
    once = link(text)
    assert roles(once) == ["anchor", "view", "margin"]
    assert terms.link(once, glossary, terms.linked(once)) == once
    assert terms.linked("{term}`A view <view>` and {term}`fuzzy union`") == {"view", "fuzzy union"}


def test_cells_of_a_notebook_share_their_first_uses():
    def cell(kind, *lines):
        return {"cell_type": kind, "metadata": {}, "source": list(lines)}

    notebook = {
        "cells": [
            cell("markdown", "# Anchors\n", "An anchor."), cell("code", "# an anchor, a tile"),
            cell("markdown", "Another anchor, a tile and a margin."), cell("markdown", "{term}`tile`"),
        ]
    }  # fmt: skip
    page = json.dumps(notebook).encode()
    files = {
        "a.ipynb": page, "runs/paper/a.ipynb": page, "_toc.yml": b"anchor", "b.md": b"A tile.",
        terms.GLOSSARY: (BOOK / terms.GLOSSARY).read_bytes(),
    }  # fmt: skip
    before = dict(files)
    terms.link_pages(files)
    texts = ["".join(cell["source"]) for cell in json.loads(files["a.ipynb"])["cells"]]
    assert texts == [
        "# Anchors\nAn {term}`anchor`.", "# an anchor, a tile",
        "Another anchor, a tile and a {term}`margin`.", "{term}`tile`",
    ]  # fmt: skip
    assert files["b.md"] == b"A {term}`tile`."
    assert all(files[name] == before[name] for name in ("runs/paper/a.ipynb", "_toc.yml", terms.GLOSSARY))
    without = {"b.md": b"A tile."}
    terms.link_pages(without)
    assert without == {"b.md": b"A tile."}  # a book without a glossary


def test_words_for_a_term_that_is_not_there_are_an_error():
    with pytest.raises(ValueError, match=r"no entry .*'ACC'.*for which FORMS has words"):
        terms.read(":::{glossary}\nanchor\n  x\n:::\n")


# -------------------------------------------------------------------------------------------------- this book


def test_the_glossary_is_read_whole(glossary):
    text = (BOOK / terms.GLOSSARY).read_text()
    named = set(glossary.by_form.values()) - {None}
    assert len(named) > 80 and {"anchor", "NMI", "fuzzy union", "weak label"} <= named
    assert all(f"\n{name}\n" in text for name in named)
    forms = {form for form, name in glossary.by_form.items() if name}
    for phrase in terms.OTHER_SENSES:
        assert any(re.search(rf"\b{re.escape(form)}\b", phrase) for form in forms), (
            f"'{phrase}' holds no term"
        )


def test_the_reader_knows_the_books_markdown():
    config = yaml.safe_load((BOOK / "_config.yml").read_text())
    assert set(config["parse"]["myst_enable_extensions"]) == terms.EXTENSIONS


def test_each_page_links_each_of_its_terms_once(pages, staged, glossary):
    known = set(glossary.by_form.values())
    for name, page in staged.items():
        text = prose(name, page)
        found = roles(text)
        assert len(found) == len(set(found)), f"{name} links a term twice"
        assert set(found) <= known, f"{name} links what the glossary does not have"
        assert ROLE.sub(lambda role: role[1], text) == prose(name, pages[name]), f"{name} has other text"
    linked = {name: len(roles(prose(name, page))) for name, page in staged.items()}
    assert (
        linked[terms.GLOSSARY] == 0
        and min(linked["foundations/pull_and_push.md"], linked["experiments/claws.ipynb"]) > 15
    )
    again = dict(staged)
    terms.link_pages(again)
    assert again == staged


@pytest.mark.parametrize(
    "word", ["NT-Xent", "SupCon", "silhouette", "k-means", "temperature", "UMAP", "margin"]
)
def test_no_use_of_a_plain_word_is_missed(pages, staged, word):
    """Against regular expressions that take out what is no prose."""
    no_prose = [
        r"(?s)```.*?```", r"(?s)\$\$.*?\$\$", r"(?m)^#.*$", r"(?m)^.*\n\|[-|]+$", r"\[[^]]*\]\([^)]*\)",
        r"`[^`]*`", r"\$[^$]*\$", r"<[^>]*>", r"(?m)^:.*$",
    ]  # fmt: skip
    seen = 0
    for name in staged:
        text = prose(name, pages[name])
        for pattern in no_prose:
            text = re.sub(pattern, " ", text)
        used = (
            re.search(rf"(?<![\w-])[{word[0].upper()}{word[0]}]{word[1:]}s?(?![\w-])", text)
            and name != terms.GLOSSARY
        )
        assert bool(used) == (word in roles(prose(name, staged[name]))), name
        seen += bool(used)
    assert seen >= 2


def test_source_pages_have_no_roles(pages):
    assert not [name for name, page in pages.items() if roles(prose(name, page))]


def test_the_stage_links_terms(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "page_blocks", lambda root: {"facts": "A margin."})
    monkeypatch.setattr(stage, "_plotly_script", lambda: b"")
    for name, text in {
        "index.md": "# Front\n\n<!-- pullpush:facts -->\n<!-- /pullpush:facts -->\n",
        "_toc.yml": "format: jb-book\nroot: index\nparts: []\n",
        "_config.yml": 'repository:\n  url: ""\n',
        terms.GLOSSARY: (BOOK / terms.GLOSSARY).read_text(),
    }.items():
        (tmp_path / "book" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "book" / name).write_text(text)
    assert "A {term}`margin`." in stage.gather(tmp_path).files["index.md"].decode()  # blocks too


def test_sphinx_finds_every_term(tmp_path, glossary):
    """Each form as a role, through the builder that the book has, with warnings as errors."""
    text = "\n\n".join(f"A {form} here." for form, name in glossary.by_form.items() if name)
    page = "".join(terms.link(part, glossary, set()) + "\n\n" for part in text.split("\n\n"))
    assert len(roles(page)) == len([name for name in glossary.by_form.values() if name])
    entries = re.sub(r"\]\(\.*[^)]*\)", "](index.md)", (BOOK / terms.GLOSSARY).read_text())
    (tmp_path / "index.md").write_text(f"# Page\n\n{page}\n```{{toctree}}\nglossary\n```\n")
    (tmp_path / "glossary.md").write_text(entries)
    extensions = sorted(terms.EXTENSIONS)
    (tmp_path / "conf.py").write_text(
        f"extensions = ['myst_parser']\nmyst_enable_extensions = {extensions}\n"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", ".", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "out" / "index.html").read_text()
    assert html.count('href="glossary.html#term-') == len(roles(page)) and "{term}" not in html


# -------------------------------------------------------------------------------------------- reference pages


def test_the_teachers_page_lists_every_page(pages):
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    listed = [page["file"] for part in toc["parts"] for page in part["chapters"] if "file" in page]
    teach = pages["foundations/teach.md"].decode()
    links = {
        (BOOK / "foundations" / target).resolve().relative_to(BOOK).with_suffix("").as_posix()
        for target in re.findall(r"\]\(([\w./]+)\)", teach)
    }
    missing = set(listed) - links - {"foundations/teach"}
    assert not missing, f"no row or link for {sorted(missing)}"
    for row in re.findall(r"^\| \[.*", teach, re.M):
        assert row.count("|") in (5, 6), row  # the assignments have a table of their own


def test_the_bibliography_holds_what_is_cited(pages):
    entries = dict(re.findall(r"@\w+\{(\w+),\n(.*?)\n\}", (BOOK / "references.bib").read_text(), re.S))
    cited = {
        key.strip()
        for name, page in pages.items()
        for keys in re.findall(r"\{cite\}`([^`]+)`", prose(name, page))
        for key in keys.split(",")
    }
    assert cited == set(entries)
    for key, entry in entries.items():
        fields = dict(re.findall(r"^  (\w+)\s*= \{(.*)\},$", entry, re.M))
        assert {"author", "title", "year"} <= set(fields) and len(fields) == entry.count("\n") + 1, key
        assert {"booktitle", "journal", "url", "howpublished"} & set(fields), f"{key} appeared nowhere"
        assert fields["year"] == key[-4:] and key[:-4].isalpha(), key
