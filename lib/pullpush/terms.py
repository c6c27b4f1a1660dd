"""Links to the glossary: a page of the staged book links each term where it first uses it.

Sources stay clean; `link_pages` writes MyST's `{term}` roles when the book is staged. Which words stand for a
term is said by `FORMS` and `OTHER_SENSES`, for a word such as "run" or "pair" is plain English elsewhere.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pullpush.pages import dump, is_page

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

GLOSSARY = "foundations/glossary.md"
EXTENSIONS = {
    "amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist", "substitution",
}  # of book/_config.yml  # fmt: skip

# The words that count for a term; of a term that is not listed, it and its plural. The longest form wins, so
# that "false negative" is no use of "negative".
FORMS: dict[str, tuple[str, ...]] = {
    "ACC": ("ACC",),
    "AMI": ("AMI",),
    "ARI": ("ARI",),
    "NMI": ("NMI",),
    "NNCLR": ("NNCLR",),
    "NT-Xent": ("NT-Xent",),
    "SimCLR": ("SimCLR",),
    "SupCon": ("SupCon",),
    "UMAP": ("UMAP",),
    "alignment": ("alignment",),
    "batch": ("batch", "batches"),
    "batch normalisation": ("batch normalisation", "batch norm"),
    "border": ("border",),
    "cluster accuracy": ("cluster accuracy", "accuracy of the clusters", "clusters' accuracy"),
    "cluster loss": ("cluster loss", "cluster contrast"),
    "collapse": ("collapse", "collapses", "collapsed"),
    "confusion matrix": ("confusion matrix", "confusion matrices"),
    "coverage": ("coverage",),
    "debiased loss": ("debiased loss", "debiased NT-Xent", "debiased contrastive learning"),
    "frozen positive": ("frozen positive", "frozen positives", "positives are frozen"),
    "gather": ("gather", "gathered"),
    "gradient noise": ("gradient noise", "noise of the gradient", "variance of the gradient"),
    "hard negative": (
        "hard negative", "hard negatives", "hardest negatives", "harder negatives", "hard mining",
    ),
    "held-out image": (
        "held-out image", "held-out images", "held-out sample", "held-out samples", "held-out", "held out",
    ),
    "k-means": ("k-means",),
    "kNN": ("kNN",),
    "leakage": ("leakage", "leak", "leaks"),
    "mining": ("mining",),
    "neighbour graph": ("neighbour graph", "graph of neighbours", "graph of the digits"),
    "paired interval": ("paired interval", "paired difference", "paired differences", "paired by seed"),
    "perplexity": ("perplexity",),
    "probe": ("probe", "probes", "linear probe", "linear probes"),
    "run": ("recorded run", "recorded runs", "laptop run", "laptop runs", "comparisons of runs"),
    "sampling bias": ("sampling bias", "sample bias"),
    "semi-hard negative": ("semi-hard negative", "semi-hard negatives", "semi-hard"),
    "sharpening": ("sharpening", "sharpen", "sharpens", "sharpened"),
    "spectral clustering": ("spectral clustering",),
    "stale": ("stale",),
    "straight-through": ("straight-through", "straight through"),
    "study": ("study", "studies"),
    "t-SNE": ("t-SNE",),
    "uniformity": ("uniformity",),
    "unit sphere": ("unit sphere", "sphere", "spheres", "hypersphere"),
    "weak label": ("weak label", "weak labels", "weak supervision"),
}  # fmt: skip

# Phrases of this book in which a form means something else.
OTHER_SENSES = (
    "all pairs", "batch mode", "black border", "by their pairs", "cluster images", "clusters first",
    "clusters frozen", "clusters without", "cosine embedding", "cuts straight through", "gather at",
    "half of them positive", "in pairs", "in view", "is negative", "is positive", "it claims", "it clusters",
    "method claims", "negative coordinate", "pair against triplet", "pair counts", "pair of points",
    "pair of rows", "pair of views", "pair of weight", "pairs of images", "pairs of views", "paper claims",
    "pairs those", "papers claim", "positive or negative", "rather cluster", "that claims",
    "their views are joined", "whose head",
)  # fmt: skip

# Directives whose body is prose.
PROSE = {
    "admonition", "card", "dropdown", "grid", "grid-item", "grid-item-card", "hint", "important", "note",
    "tab-item", "tab-set", "tip", "warning",
}  # fmt: skip


@dataclass(frozen=True)
class Terms:
    """The terms of a glossary. `by_form` leads from words of a text to their term, None for another sense."""

    by_form: dict[str, str | None]
    pattern: re.Pattern[str]


def read(glossary: str) -> Terms:
    """The terms of the `{glossary}` of a page: its lines that are not indented.

    Raises ValueError if FORMS names a term that is not there.
    """
    block = re.search(r"^:::\{glossary\}\n(?::\w+:[^\n]*\n)*(.*?)^:::$", glossary, re.S | re.M)
    names = [line.strip() for line in (block[1] if block else "").splitlines() if line[:1].strip()]
    if unknown := FORMS.keys() - set(names):
        raise ValueError(f"The glossary has no entry {sorted(unknown)}, for which FORMS has words.")
    by_form: dict[str, str | None] = dict.fromkeys(OTHER_SENSES)
    for name in names:
        by_form |= dict.fromkeys(FORMS.get(name, (name, f"{name}s")), name)
    words = "|".join(map(_either_case, sorted(by_form, key=len, reverse=True)))
    return Terms(by_form, re.compile(rf"(?<![\w-])(?:{words})(?!\w|-\w)"))


def _either_case(form: str) -> str:
    """An expression for the form, with a capital where a sentence begins and any space between its words."""
    first = f"[{form[0]}{form[0].upper()}]" if form[0].islower() else re.escape(form[0])
    return first + r"\s+".join(map(re.escape, form[1:].split(" ")))


# ---------------------------------------------------------------------------------------- one text, all pages


def link(text: str, terms: Terms, seen: set[str]) -> str:
    """Markdown with a role at the first use of each term that is not in `seen`, to which it is added.

    Headings, heads of tables, code, mathematics, links, roles and HTML tags stay as they are, and the body of
    every directive that is not prose.
    """
    for start, end, term in reversed(list(_uses(text, terms, seen))):
        words = text[start:end]
        role = f"{{term}}`{words}`" if words == term else f"{{term}}`{words} <{term}>`"
        text = text[:start] + role + text[end:]
    return text


def link_pages(files: MutableMapping[str, bytes]) -> None:
    """Link the terms of all pages of a staged book, in place: text pages, and the prose of notebooks.

    Pages of runs repeat their chapter and keep their text, as does the glossary. A role that a page already
    has is the use of its term.
    """
    if GLOSSARY not in files:
        return
    terms = read(files[GLOSSARY].decode())
    for name in [n for n in files if is_page(n) and n != GLOSSARY and not n.startswith("runs/")]:
        page = files[name].decode()
        if name.endswith(".md"):
            files[name] = link(page, terms, linked(page)).encode()
            continue
        notebook = json.loads(page)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
        texts = ["".join(cell["source"]) for cell in cells]
        seen = linked("\n".join(texts))
        for cell, text in zip(cells, texts, strict=True):
            cell["source"] = link(text, terms, seen)
        files[name] = dump(notebook)


def linked(text: str) -> set[str]:
    """The terms that a text links."""
    return {name.strip() for name in re.findall(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`", text)}


# ------------------------------------------------------------------------------------------------- first uses


def _uses(text: str, terms: Terms, seen: set[str]) -> Iterator[tuple[int, int, str]]:
    """Start, end and term of every first use in the text, in order."""
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    env: dict[str, Any] = {}
    inside, read_up_to = "", [0] * len(lines)
    for token in _reader().parse(text, env):
        if token.type == "inline" and inside in ("paragraph_open", "td_open"):
            places = _places(token, lines, starts, read_up_to)
            if places:
                for start, end, term in _found(_plain(token.content, env), terms, seen):
                    yield places[start], places[end - 1] + 1, term
        elif token.type in ("fence", "colon_fence") and token.level == 0 and token.map:
            body = _prose(token)
            shift = starts[token.map[0] + 1] + len(token.content) - len(body)
            for start, end, term in _uses(body, terms, seen) if body else ():
                yield shift + start, shift + end, term
        inside = token.type


def _found(plain: str, terms: Terms, seen: set[str]) -> Iterator[tuple[int, int, str]]:
    for match in terms.pattern.finditer(plain):
        words = " ".join(match[0].split())
        term = terms.by_form.get(words) or terms.by_form.get(words[0].lower() + words[1:])
        if term and term not in seen:
            seen.add(term)
            yield match.start(), match.end(), term


def _prose(token: Token) -> str:
    """The body of a directive without its options; "" where it is code, a picture, or a link as a whole."""
    name = re.match(r"\{([\w-]+)\}", token.info.strip())
    options = re.match(r"(?:---\n[\s\S]*?\n---\n|(?::[\w-]+:[^\n]*\n)*)", token.content)
    if name is None or name[1] not in PROSE or options is None or ":link:" in options[0]:
        return ""
    return token.content[options.end() :]


def _places(token: Token, lines: Sequence[str], starts: Sequence[int], read_up_to: list[int]) -> list[int]:
    """The place in the text of each character of an inline token; [] where the text shows it otherwise.

    A token has lost what marks lists and cells. read_up_to: the end of the last token in each line.
    """
    places: list[int] = []
    for line, content in enumerate(token.content.split("\n"), token.map[0] if token.map else 0):
        column = lines[line].find(content, read_up_to[line])
        if column < 0:
            return []
        read_up_to[line] = column + len(content)
        first = starts[line] + column
        places += range(first, first + len(content) + 1)  # with the end of the line
    return places


def _plain(content: str, env: dict[str, Any]) -> str:
    """The content with a mark, which is in no word, for each character that is not plain text."""
    taken: list[tuple[int, int]] = []
    reader = _reader()
    reader.inline.parse(content, reader, env | {"taken": taken}, [])
    plain = list(content)
    for start, end in taken:
        plain[start:end] = "\0" * (end - start)
    return "".join(plain)


@functools.cache
def _reader() -> MarkdownIt:
    """The book's Markdown, read block by block. Its inline rules, run by `_plain`, note what they take."""
    from markdown_it.renderer import RendererHTML
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser

    reader = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)
    reader.core.ruler.enableOnly(["normalize", "block"])
    rules = reader.inline.ruler
    for name, rule in zip(rules.get_active_rules(), rules.getRules(""), strict=True):
        if name not in ("text", "newline"):
            rules.at(name, _noting(rule))
    return reader


def _noting(rule: Callable[[StateInline, bool], bool]) -> Callable[[StateInline, bool], bool]:
    def noting(state: StateInline, silent: bool) -> bool:
        start = state.pos
        took = rule(state, silent)
        if took and not silent:
            state.env["taken"].append((start, state.pos))
        return took

    return noting
