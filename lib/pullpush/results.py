"""Numbers in plain text pages and the README, written from the records.

A page holds blocks `<!-- pullpush:NAME -->...<!-- /pullpush -->`; the text between is replaced by what the function registered
under NAME returns. Nobody types a score.
"""

import re
from collections.abc import Callable
from pathlib import Path

from pullpush import records
from pullpush.parameters import nearest

BLOCK = re.compile(r"(<!-- pullpush:([\w-]+) -->)(.*?)(<!-- /pullpush -->)", re.DOTALL)
BLOCKS: dict[str, Callable[[], str]] = {}


def block(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register a function that returns the text of the blocks called `name`."""

    def register(function: Callable[[], str]) -> Callable[[], str]:
        BLOCKS[name] = function
        return function

    return register


def write(check: bool = False) -> list[Path]:
    """Rewrite every block of README.md and book/**/*.md; the pages that changed, or with `check` would change.

    Raises ValueError naming the page and the nearest registered name for a block that nobody writes.
    """
    root = records.root()
    changed = []
    for page in [root / "README.md", *sorted((root / "book").rglob("*.md"))]:
        if not page.is_file():
            continue
        old = page.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda found: _filled(found, page.relative_to(root)), old)  # noqa: B023
        if new != old:
            changed.append(page)
            if not check:
                records.write_atomically(page, new.encode())
    return changed


def _filled(found: re.Match[str], page: Path) -> str:
    opening, name, _, closing = found.groups()
    if name not in BLOCKS:
        raise ValueError(f"{page} has a block '{name}' that nobody writes. {nearest(name, BLOCKS)}")
    return f"{opening}\n{BLOCKS[name]().strip()}\n{closing}"
