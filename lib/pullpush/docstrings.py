"""Docstrings as MyST: what stands in them is plain text in blocks, with empty lines between.

Formulas, aligned columns, examples and indented blocks keep their lines. `name: text`, for a name of the
signature, becomes an entry of a list, as does what is returned, yielded and raised. All else is prose, in
which code, shapes, errors and papers are marked up and nothing is taken for markup by accident.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

Link = Callable[[str], str | None]  # what a name in the text is replaced by; None where nothing has that name

SENTENCES = ("Returns", "Yields", "Raises")
HOMES = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
MARKED = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\b(?P<kind>arXiv|doi):(?P<number>\d{4}\.\d{4,5}|10\.\d+/[\w.()/-]*\w)"
    r"|(?P<shape>(?<![\w.)])\((?:[a-z]\w?|\d+)(?:,(?: ?(?:[a-z]\w?|\d+|negatives|size)(?:, |(?=\))))*)\))"
    r"|(?P<word>\b[A-Z]\w+Error\b|\b[a-zA-Z]\w*_\w+\b)"
)


def myst(doc: str, names: Sequence[str] = (), link: Link = lambda name: None) -> str:
    """A docstring, cleaned as `inspect.cleandoc` does it; names: those of the signature it belongs to."""
    parts: list[str] = []
    for block in re.split(r"\n[ ]*\n", doc.strip("\n")):
        lines = block.splitlines()
        if lines and lines[0].startswith(">>> "):
            parts.append(fence("pycon", block))
        elif lines and keeps_its_lines(lines, names):
            parts.append(fence("python" if _is_code(block) else "text", textwrap.dedent(block)))
        elif lines:
            parts += _flowing(lines, names, lambda text: inline(text, names, link))
    return "\n\n".join(part for part in parts if part)


def fence(kind: str, text: str, marks: int = 3) -> str:
    return f"{'`' * marks}{kind}\n{text}\n{'`' * marks}"


def keeps_its_lines(lines: Sequence[str], names: Sequence[str] = ()) -> bool:
    """Whether a block is a formula, a table in columns, or indented as a whole."""
    if re.match(rf"{_group(names)}(?:: | -> | {{2,}})", lines[0]):
        return False
    if all(line.startswith(" ") for line in lines) or any(re.search(r"\S {3,}\S", line) for line in lines):
        return True
    prose = any("`" in line or re.search(r"\. [A-Z]|\.$", line) for line in lines)
    return bool(re.match(r"[^\s=]+ = ", lines[0])) and not prose


def _group(names: Sequence[str]) -> str:
    """A pattern for `a`, `a, b`, `a and b` or `a(x)`, where a and b are names of the signature."""
    one = f"(?:{'|'.join(sorted(map(re.escape, names), key=len, reverse=True))})\\b(?:\\([^()]*\\))?"
    return rf"{one}(?:(?:, | and ){one})*" if names else r"(?!)"


def _flowing(lines: Sequence[str], names: Sequence[str], words: Callable[[str], str]) -> Iterator[str]:
    """Paragraphs, and lists of names with what is said of them."""
    item = re.compile(rf"(?:^|(?<=[;,.] )|(?<=\s{{3}}))({_group(names)})(?:: | (?=-> )| {{2,}})")
    sentence = re.compile(rf"(?:^|(?<=\. ))({'|'.join(SENTENCES)}) ")
    rows: list[tuple[str, str]] = []  # what is listed, and what is said of it
    for chunk in _chunks(lines, item):
        start, *sentences = sentence.split(chunk)
        before, *items = item.split(start)
        if before.strip() and rows and rows[-1][0] in SENTENCES:  # more of what is returned
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {before.strip()}")
        elif before.strip():
            yield from (_list(rows, words), words(before.strip()))
            rows = []
        pairs = (*items, *sentences)
        rows += [(pairs[i], pairs[i + 1].strip().rstrip(",;")) for i in range(0, len(pairs), 2)]
    yield _list(rows, words)


def _chunks(lines: Sequence[str], item: re.Pattern[str]) -> Iterator[str]:
    """The lines joined, but for those with which a name or, behind names, a sentence begins."""
    chunk = ""
    listing = False
    for line in lines:
        named = bool(item.match(line))
        if chunk and (named or (listing and chunk.endswith(".") and line[0].isupper())):
            yield chunk
            chunk = ""
        listing = listing or named
        chunk += f" {line.strip()}" if chunk else line.strip()
    yield chunk


def _list(rows: Sequence[tuple[str, str]], words: Callable[[str], str]) -> str:
    """A definition list: names in code, sentences by their first word."""
    terms = ((name if name in SENTENCES else f"`{name}`", said) for name, said in rows)
    return "\n\n".join(f"{term}\n: {words(said)}" for term, said in terms)


def inline(text: str, names: Sequence[str] = (), link: Link = lambda name: None) -> str:
    """One paragraph: code and shapes in code font, what `link` knows and papers as links."""
    shown, place = "", 0
    for found in MARKED.finditer(text):
        code = found["code"] or found["shape"] or found["word"]
        target = None if not code or code in names else link(code)
        if found["word"] and not (target or code in names or code.endswith("Error")):
            continue  # u_i is no name of the library
        shown += _plain(text[place : found.start()])
        place = found.end()
        if found["kind"]:
            paper = f"{found['kind']}:{found['number']}"
            shown += f"[{paper}]({HOMES[found['kind']]}{found['number']})"
        else:
            shown += target or f"`{code}`"
    shown += _plain(text[place:])
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", re.sub(r"^([-+:=])", r"\\\1", shown))


def _plain(text: str) -> str:
    return re.sub(r"([\\*_<>\[\]{}$#~|&^@])", r"\\\1", text)


def _is_code(block: str) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(block))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Call) for node in ast.walk(tree))
