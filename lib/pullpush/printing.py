"""Chapters as PDF: `make pdf`, or `python -m pullpush.printing [PAGE ...]`.

Chromium prints the pages of the built site to `_build/pdf/<page>.pdf` by the book's own print style (the end
of `_static/pullpush.css`), so that what you print from the browser looks the same. What is folded on a page
is not printed: a chapter can be handed out without its solutions. `--open` prints it too.
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pullpush import records
from pullpush.parameters import nearest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, PdfMargins

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MARGIN: PdfMargins = {"top": "16mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}  # of A4
WIDTH = round((210 - 2 * 16) / 25.4 * 96)  # of what is printed, in CSS pixels
SECONDS = 120  # for a page to be loaded, and for its formulas

# Before a page is printed: its formulas are typeset; links to other pages, which would name folders of this
# machine, are text; a table that is too wide is made smaller.
READY = """async (open) => {
  await window.MathJax?.startup?.promise;
  if (open) document.querySelectorAll("main details").forEach((fold) => (fold.open = true));
  for (const link of document.querySelectorAll("a[href]"))
    if (link.protocol === "file:" && link.pathname !== location.pathname) link.removeAttribute("href");
  for (const table of document.querySelectorAll(".bd-article table")) {
    const room = table.parentElement.clientWidth;
    if (table.offsetWidth > room) table.style.zoom = room / table.offsetWidth;
  }
}"""
FOOT = (
    '<div style="display:flex;justify-content:space-between;width:100%;margin:0 16mm;font:8px sans-serif;'
    'color:#48566b"><span>{title}</span>'
    '<span><span class="pageNumber"></span> / <span class="totalPages"></span></span></div>'
)


class PrintError(RuntimeError):
    """Nothing can be printed; the message says what is missing and how to get it."""


def chapters(root: Path) -> list[str]:
    """The pages of the table of contents but for those of single runs, such as 'foundations/similarity'.

    Raises PrintError where no site is built.
    """
    import yaml

    contents = root / "_build" / "stage" / "_toc.yml"
    if not (contents.is_file() and (root / "_build" / "html" / "index.html").is_file()):
        raise PrintError("No site is built, and it is what gets printed. Run: make book")
    toc = yaml.safe_load(contents.read_text(encoding="utf-8"))
    return [str(toc["root"]), *_files(toc["parts"])]


def _files(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in entries:
        if "file" in entry:
            yield str(entry["file"])
        yield from _files([*entry.get("chapters", ()), *entry.get("sections", ())])


def choose(wanted: Sequence[str], root: Path) -> list[str]:
    """The pages that are meant, all chapters where none is named. 'similarity' will do where no other page
    is called so; a page of a run is named by its path. Raises PrintError for a name without a page.
    """
    known = chapters(root)
    chosen = []
    for given in wanted:
        name = re.sub(r"\.(html|ipynb|md)$", "", given).removeprefix("book/")
        found = [page for page in known if page == name or page.endswith(f"/{name}")]
        if len(found) > 1 and name not in found:
            raise PrintError(f"'{given}' may be {' or '.join(found)}: name one of them.")
        page = found[0] if len(found) == 1 else name
        if not (root / "_build" / "html" / f"{page}.html").is_file():
            names = [*known, *(page.rsplit("/", 1)[-1] for page in known)]
            raise PrintError(f"No page '{given}' in the built site. {nearest(name, names)}")
        chosen.append(page)
    return chosen or known


def write(
    wanted: Sequence[str] = (), out: Path | None = None, *, unfold: bool = False
) -> Iterator[tuple[str, Path, int]]:
    """Print pages, one at a time: (page, file, number of sheets). `choose` says what `wanted` may hold.

    out: a folder, `_build/pdf` by default      unfold: print what is folded too
    Raises PrintError where no site is built, a page is unknown, or Playwright or a browser is missing.
    """
    root = records.root()
    pages = choose(wanted, root)
    out = out or root / "_build" / "pdf"
    if out.is_file():
        raise PrintError(f"{out} is a file; name a folder.")
    with _browser() as browser:
        # Without plotly every figure stays what is printed of it, its still; nothing is asked of a network.
        context = browser.new_context(
            viewport={"width": WIDTH, "height": 1000}, color_scheme="light", reduced_motion="reduce"
        )
        context.set_default_timeout(SECONDS * 1000)
        context.route(re.compile("^(?!file:|data:|blob:)|/plotly[.]min[.]js$"), lambda route: route.abort())
        tab = context.new_page()
        tab.emulate_media(media="print")
        for name in pages:
            tab.goto((root / "_build" / "html" / f"{name}.html").as_uri())
            content = _pdf(tab, unfold)
            target = out / f"{name}.pdf"
            records.write_atomically(target, content)
            yield name, target, len(re.findall(rb"/Type\s*/Page\b", content))


def _pdf(tab: Page, unfold: bool) -> bytes:
    tab.evaluate(READY, unfold)
    return tab.pdf(
        format="A4",
        margin=MARGIN,
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOT.format(title=html.escape(tab.title())),
        tagged=True,  # for screen readers
        outline=True,
    )


@contextmanager
def _browser() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise PrintError("Playwright, which drives the browser, is not installed. Run: make env") from None
    with sync_playwright() as playwright:
        found = [path for name in BROWSERS if (path := shutil.which(name))]
        own = playwright.chromium.executable_path
        if not found and not Path(own).exists():
            raise PrintError("No Chromium or Chrome. apt install chromium, or playwright install chromium")
        arguments = ["--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=found[0] if found else own, args=arguments)
        try:
            yield opened
        finally:
            opened.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pullpush.printing",
        description="Print pages of the built site to PDF. What is folded on a page is not printed.",
    )
    parser.add_argument(
        "page", nargs="*", metavar="PAGE",
        help="such as similarity or runs/laptop/claws/fields-claws; none for all chapters",
    )  # fmt: skip
    parser.add_argument("--open", action="store_true", help="print what is folded too, solutions among it")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to (default: _build/pdf)")
    given = parser.parse_args(arguments)
    try:
        for name, path, sheets in write(given.page, given.out, unfold=given.open):
            size = path.stat().st_size
            here = Path.cwd()
            shown = path.relative_to(here) if path.is_relative_to(here) else path
            print(f"{name}: {sheets} sheet{'s' * (sheets > 1)}, {size / 1e6:.1f} MB, {shown}", flush=True)
    except (PrintError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
