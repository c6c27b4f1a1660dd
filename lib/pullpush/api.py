"""The reference of the library: pages made of docstrings, and links between them and the chapters.

A page of `book/api` holds `<!-- pullpush:api-NAME -->`, which is filled with an entry for each public name of
the modules in `PAGES[NAME]`. Modules are parsed, never imported. An entry says in which chapters its name is
taught (its docstring, or its module's, says so, with the title in quotes) and used (by the code cells); each
chapter lists the same names before it says where to go next.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullpush.docstrings import fence, inline, myst
from pullpush.pages import dump, load
from pullpush.parameters import nearest

PAGES: dict[str, tuple[str, ...]] = {
    "losses": ("losses",),
    "views": ("views", "crops"),
    "samplers": ("samplers",),
    "graph": ("graph",),
    "models": ("models", "models.masks"),
    "data": ("data", "data.fields", "data.packed"),
    "training": ("training", "capture", "detectors"),
    "evaluation": ("evaluation", "clustering", "outliers", "balanced_start"),
    "statistics": ("statistics",),
    "figures": ("figures",),
    "runs": ("runs",),
    "results": ("results", "tables", "ledger"),
}
HIDDEN = {"read", "check", "download"}  # what a source of data defines for `data` to call
FEW = 6  # chapters that an entry names
LONGEST = 120  # characters of a constant that is shown
TAUGHT = re.compile(r'\s*\bTaught\s+in\s+("[^"]+"(?:(?:,|\s+and)\s+"[^"]+")*)\.?')
NEXT = re.compile(r"^(?:\*\*Next:|## Where next)", re.M)  # with this a chapter ends

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign


class UnknownChapter(ValueError):
    """A docstring says that a chapter teaches its name, and there is no such chapter."""


# ------------------------------------------------------------------------------------------------ the library


@dataclass(frozen=True)
class Entry:
    """A public name, as notebooks write it (`evaluation.elbow`), and where it is defined (`clustering`)."""

    name: str
    page: str
    section: str  # the module of PAGES under which it stands
    module: str
    node: Definition

    @property
    def doc(self) -> str:
        return (not isinstance(self.node, ast.Assign) and ast.get_docstring(self.node)) or ""

    @property
    def parameters(self) -> list[str]:
        """What a function takes, or a class is made with."""
        if isinstance(self.node, ast.ClassDef):
            return _made(self.module, self.node)[0]
        return _names(self.node.args) if isinstance(self.node, ast.FunctionDef) else []

    @property
    def link(self) -> str:
        return f"{{py:obj}}`{self.name} <pullpush.{self.name}>`"


@functools.cache
def _source(module: str) -> str:
    """The text of `pullpush.MODULE`; empty where there is no such module."""
    base = Path(__file__).parent.joinpath(*module.split("."))
    found = [path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()]
    return found[0].read_text(encoding="utf-8") if found else ""


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module))


def _define(module: str, name: str) -> tuple[str, Definition] | None:
    """The module that defines a name, and the statement that does; imports in the package are followed."""
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return module, node
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pullpush."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _define(str(node.module).removeprefix("pullpush."), alias.name)
    return None


def _public(module: str) -> list[str]:
    """`__all__`, or the functions and classes that a module defines."""
    listed = _define(module, "__all__")
    if listed and isinstance(listed[1], ast.Assign):
        return list(ast.literal_eval(listed[1].value))
    names = [node.name for node in _tree(module).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [n for n in names if not (n.startswith("_") or (module.startswith("data.") and n in HIDDEN))]


@functools.cache
def entries() -> dict[str, Entry]:
    """The entries of all pages by name, in their order there. A function or class needs a docstring."""
    found: dict[str, Entry] = {}
    for page, sections in PAGES.items():
        listed = _public(page)
        for place, section in enumerate(sections):
            for name in _public(section):
                module, node = _define(section, name) or ("", None)
                if node is None or module in sections[place + 1 :]:
                    continue
                entry = Entry(f"{page if name in listed else section}.{name}", page, section, module, node)
                if entry.doc or isinstance(node, ast.Assign):
                    found.setdefault(entry.name, entry)
    return found


def find(name: str, page: str = "") -> Entry | None:
    """The entry that a text means by a name: by its whole name, or by its end where that is one entry's."""
    name = name.removesuffix("()")
    ends = [entry for entry in entries().values() if f".{entry.name}".endswith(f".{name}")]
    here = [entry for entry in ends if entry.page == page]
    return next((few[0] for few in ([e for e in ends if e.name == name], here, ends) if len(few) == 1), None)


# ----------------------------------------------------------------------------------------------- the chapters


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book: its path below book/, its title, and the entries that its code uses."""

    path: str
    title: str
    uses: frozenset[str]

    @property
    def link(self) -> str:
        return f"[{inline(self.title)}](/{self.path})"


def chapters(root: Path) -> list[Chapter]:
    """The notebooks of the book, in the order of its table of contents."""
    import yaml

    contents = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))
    named = [entry.get("file") for part in contents["parts"] for entry in part["chapters"]]
    found = []
    for path in (root / "book" / f"{name}.ipynb" for name in named):
        if path.is_file():
            cells = load(path)["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
            title = re.search(r"^# (.+)$", text, re.M)
            name = path.relative_to(root / "book").as_posix()
            code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
            found.append(Chapter(name, title[1] if title else path.stem, uses(code)))
    return found


@functools.cache
def uses(code: str) -> frozenset[str]:
    """The names of the entries that the code of a notebook uses, under whatever name it imports them."""
    known = {(entry.module, entry.name.split(".")[-1]): entry.name for entry in entries().values()}
    tree = ast.parse(re.sub(r"^[%!].*", "", code, flags=re.M))
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pullpush"
        for alias in node.names
    }
    found = set()
    for path in {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}:
        first, *rest = path.split(".")
        module, _, name = ".".join([imported.get(first, ""), *rest]).partition(".")[2].rpartition(".")
        definition = _define(module, name) if module else None
        if definition and (definition[0], name) in known:
            found.add(known[definition[0], name])
    return frozenset(found)


def titles(doc: str) -> list[str]:
    """What a docstring says about where its subject is taught: the titles of chapters."""
    found = TAUGHT.search(doc)
    return [" ".join(title.split()) for title in re.findall(r'"([^"]+)"', found[1])] if found else []


def teachers(entry: Entry, everywhere: Iterable[Chapter]) -> list[Chapter]:
    """The chapters that the docstring names, or of those that its module names the ones that use it.

    Raises UnknownChapter for a title that no chapter has, as a whole or before its colon.
    """
    own, of_module = titles(entry.doc), titles(_module_doc(entry.module))
    named = [_chapter(title, entry.name, list(everywhere)) for title in own or of_module]
    return [chapter for chapter in named if own or entry.name in chapter.uses]


def _chapter(title: str, where: str, everywhere: list[Chapter]) -> Chapter:
    for chapter in everywhere:
        if title in (chapter.title, chapter.title.split(":")[0]):
            return chapter
    known = nearest(title, [chapter.title for chapter in everywhere])
    raise UnknownChapter(f"{where} is taught in '{title}', which is no chapter. {known}")


def link_chapters(root: Path, files: MutableMapping[str, bytes]) -> None:
    """Staged notebooks get a list of what they teach and use of the library, above where they end."""
    import json

    everywhere = chapters(root) if (root / "book" / "api").is_dir() else []
    lessons = {entry.name: teachers(entry, everywhere) for entry in entries().values() if everywhere}
    for chapter in everywhere:
        teaches = [name for name, taught in lessons.items() if chapter in taught]
        text = _listed(teaches, [name for name in entries() if name in chapter.uses])
        if text and chapter.path in files:
            notebook = json.loads(files[chapter.path])
            _insert(notebook["cells"], text)
            files[chapter.path] = dump(notebook)


def _listed(teaches: list[str], every: list[str]) -> str:
    """What a chapter teaches, and under a fold all that it uses, by page of the reference."""
    groups: dict[str, list[str]] = {}
    for name in every:
        entry = entries()[name]
        short = f"{{py:obj}}`{name.removeprefix(f'{entry.page}.')} <pullpush.{name}>`"
        groups.setdefault(entry.page, []).append(short)
    lines = "\n".join(f"- [{page}](/api/{page}.md): {', '.join(links)}" for page, links in groups.items())
    taught = f"**In the library:** this chapter teaches {', '.join(entries()[n].link for n in teaches)}."
    title = "All that it uses of the library" if teaches else "What it uses of the library"
    fold = f":::{{dropdown}} {title}\n{lines}\n:::"
    return "\n\n".join([*[taught] * bool(teaches), *[fold] * bool(every)])


def _insert(cells: list[dict[str, Any]], text: str) -> None:
    """Above the words with which the chapter ends, or at its end."""
    cell = {"cell_type": "markdown", "id": "in-the-library", "metadata": {}, "source": text}
    for place in reversed(range(len(cells))):
        source = "".join(cells[place]["source"])
        if cells[place]["cell_type"] == "markdown" and (end := NEXT.search(source)):
            before = {**cells[place], "source": source[: end.start()].rstrip()}
            after = {**cells[place], "id": "where-next", "source": source[end.start() :]}
            cells[place : place + 1] = [*[before] * bool(before["source"]), cell, after]
            return
    cells.append(cell)


# -------------------------------------------------------------------------------------------------- the pages


def blocks(root: Path) -> dict[str, str]:
    """`api`, the list of all pages and their names; `api-NAME`, a page. Raises UnknownChapter."""
    if not (root / "book" / "api").is_dir():
        return {}
    everywhere = chapters(root)
    return {"api": "\n\n".join(map(_summary, PAGES))} | {f"api-{p}": _page(p, everywhere) for p in PAGES}


def _module_doc(module: str) -> str:
    return ast.get_docstring(_tree(module)) or ""


def _text(doc: str, page: str, names: Iterable[str] = (), own: str = "") -> str:
    """A docstring as MyST, without what it says about chapters; names of the library are links."""

    def link(name: str) -> str | None:
        entry = find(name, page)
        return entry.link if entry and entry.name != own else None

    return myst(TAUGHT.sub("", doc), list(names), link)


def _summary(page: str) -> str:
    names = ", ".join(entry.link for entry in entries().values() if entry.page == page)
    return f"[{page}]({page}.md)\n: {_text(_module_doc(page).split(chr(10) * 2)[0], page)}\n\n  {names}"


def _page(page: str, everywhere: list[Chapter]) -> str:
    parts = [fence("python", f"from pullpush import {page}"), "```{py:currentmodule} pullpush\n```"]
    for section in PAGES[page]:
        doc = _module_doc(section)
        lessons = [_chapter(title, section, everywhere).link for title in titles(doc)]
        here = [entry for entry in entries().values() if (entry.page, entry.section) == (page, section)]
        parts += [f"## `{section}`" * (section != page), _text(doc, page)]
        parts += [f"Taught in {', '.join(lessons)}." * bool(lessons), *(_entry(e, everywhere) for e in here)]
    return "\n\n".join(part for part in parts if part)


def _entry(entry: Entry, everywhere: list[Chapter]) -> str:
    """One name with its signature, docstring and chapters, as a directive of Sphinx's Python domain."""
    node, lessons = entry.node, teachers(entry, everywhere)
    others = [chapter for chapter in everywhere if entry.name in chapter.uses and chapter not in lessons]
    rows = [("Taught in", lessons), ("Also used in" if lessons else "Used in", others)]
    text = [_text(entry.doc, entry.page, entry.parameters, entry.name)]
    chapters_of = [f"{title}\n: {_links(found)}" for title, found in rows if found]
    if isinstance(node, ast.FunctionDef):
        return _directive("function", entry.name + _signature(node), [*text, *chapters_of])
    if isinstance(node, ast.ClassDef):
        methods = [_method(method, entry) for method in node.body if isinstance(method, ast.FunctionDef)]
        call = _made(entry.module, node)[1]
        return _directive("class", entry.name + call, [*text, *chapters_of, *methods], marks=6)
    value = ast.unparse(node.value)
    comment = _source(entry.module).splitlines()[(node.end_lineno or 1) - 1].partition("  # ")[2]
    said = [f"{inline(comment[:1].upper() + comment[1:])}."] * bool(comment)
    head = entry.name + f"\n:value: {value}" * (len(value) <= LONGEST)
    return _directive("data", head, [*said, *chapters_of])


def _links(found: list[Chapter]) -> str:
    more = f" and {len(found) - FEW} more" * (len(found) > FEW)
    return ", ".join(chapter.link for chapter in found[:FEW]) + more


def _method(node: ast.FunctionDef, entry: Entry) -> str:
    """A public method or property of a class, or nothing if it has no docstring."""
    doc = ast.get_docstring(node)
    if not doc or node.name.startswith("_"):
        return ""
    text = [_text(doc, entry.page, _names(node.args), entry.name)]
    if "property" in map(ast.unparse, node.decorator_list):
        kind = f"\n:type: {ast.unparse(node.returns)}" if node.returns else ""
        return _directive("property", node.name + kind, text)
    return _directive("method", node.name + _signature(node), text)


def _directive(kind: str, head: str, parts: Iterable[str], marks: int = 5) -> str:
    return fence(f"{{py:{kind}}} {head}", "\n" + "\n\n".join(part for part in parts if part), marks)


def _names(arguments: ast.arguments) -> list[str]:
    """The names of all arguments but `self`."""
    rest = [one for one in (arguments.vararg, arguments.kwarg) if one]
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]
    return [one.arg for one in every if one.arg != "self"]


def _signature(node: ast.FunctionDef) -> str:
    """The arguments without `self`, and what is returned."""
    shown = re.sub(r"^self(?:, )?", "", ast.unparse(node.args))
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"({shown}){returns}"


def _made(module: str, node: ast.ClassDef) -> tuple[list[str], str]:
    """The names and the text of what a class is made with: the arguments of its `__init__`, or its fields."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return _names(method.args), _signature(method)
    fields = _fields(module, node)
    return list(fields), f"({', '.join(fields.values())})" * bool(fields)


def _fields(module: str, node: ast.ClassDef) -> dict[str, str]:
    """The annotated fields of a class, those of its bases first."""
    found: dict[str, str] = {}
    for base in node.bases:
        home, of_base = _define(module, ast.unparse(base)) or ("", None)
        if isinstance(of_base, ast.ClassDef):
            found |= _fields(home, of_base)
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and not ast.unparse(field.annotation).startswith("ClassVar"):
            found[ast.unparse(field.target)] = ast.unparse(field)
    return {name: text for name, text in found.items() if not name.startswith("_")}
