"""Chapters on paper: the print style in a browser, and the PDFs that `pullpush.printing` writes."""

import re
import shutil
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pypdf import PdfReader

from pullpush import printing

# With an exercise, tabs, formulas, tables, code, still and interactive figures between them.
CHAPTERS = ["foundations/similarity", "experiments/claws", "results/claws", "results/ledger", "status"]


def in_a_thread(work, *given):
    """Playwright allows one session a thread, and tests/test_site.py keeps one open."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *given).result()


# --------------------------------------------------------------------------------------------- which, and how


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A repository whose site has five empty pages."""
    for name in (
        "index",
        "foundations/claws",
        "foundations/views",
        "experiments/claws",
        "runs/laptop/claws/a",
    ):
        page = tmp_path / "_build" / "html" / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"<title>{name}</title>")
    contents = tmp_path / "_build" / "stage" / "_toc.yml"
    contents.parent.mkdir()
    contents.write_text(
        "root: index\nparts:\n- chapters:\n  - file: foundations/claws\n  - file: foundations/views\n"
        "- chapters:\n  - file: experiments/claws\n    sections:\n    - glob: runs/*/*/*\n"
    )
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))
    return tmp_path


def test_every_page_is_a_chapter_but_for_runs(built):
    known = ["index", "foundations/claws", "foundations/views", "experiments/claws"]
    assert printing.chapters(built) == known == printing.choose([], built)


@pytest.mark.parametrize(
    ("given", "page"),
    [
        ("views", "foundations/views"),
        ("foundations/views.html", "foundations/views"),
        ("book/foundations/views.ipynb", "foundations/views"),
        ("experiments/claws", "experiments/claws"),
        ("runs/laptop/claws/a", "runs/laptop/claws/a"),
    ],
)
def test_a_page_is_named_as_one_likes(built, given, page):
    assert printing.choose([given], built) == [page]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("vews", "No page 'vews' in the built site. Did you mean 'views'?"),
        ("claws", "'claws' may be foundations/claws or experiments/claws: name one of them."),
    ],
)
def test_an_unknown_page_is_a_sentence(built, capsys, given, says):
    assert printing.main([given]) == 1
    assert capsys.readouterr() == ("", f"{says}\n")


def test_without_a_site_it_says_what_to_run(built, capsys):
    shutil.rmtree(built / "_build" / "html")
    assert printing.main([]) == 1
    assert capsys.readouterr().err.endswith("Run: make book\n")


def test_without_playwright_or_a_browser_it_says_what_to_install(built, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "playwright.sync_api", None)
        assert printing.main(["views"]) == 1
    assert "Playwright" in capsys.readouterr().err
    monkeypatch.setattr(printing.shutil, "which", lambda name: None)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(built))
    assert in_a_thread(printing.main, ["views"]) == 1
    assert "apt install chromium" in capsys.readouterr().err
    assert not (built / "_build" / "pdf").exists()


def test_make_names_the_command():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert re.search(r"^pdf: env ## .*\n\t@\$\(BIN\)/python -m pullpush.printing \$\(PAGE\)$", makefile, re.M)


# ---------------------------------------------------------------------------------------------------- the PDF


@pytest.fixture(scope="module")
def printed(chromium, site, tmp_path_factory):
    """`printed(page, *options)`: the PDF of a page of the site, printed once."""
    out = tmp_path_factory.mktemp("pdf")
    kept = {}

    def get(page, *options):
        if (page, *options) not in kept:
            folder = out / str(len(kept))
            assert in_a_thread(printing.main, [page, "--out", str(folder), *options]) == 0
            kept[page, *options] = PdfReader(folder / f"{page}.pdf")
        return kept[page, *options]

    return get


def text_of(pdf):
    """Its words, ligatures taken apart."""
    text = "\n".join(page.extract_text() for page in pdf.pages)
    return " ".join(unicodedata.normalize("NFKC", text).split())


def html_of(site, page):
    return (site / f"{page}.html").read_text()


def test_a_chapter_is_printed_whole(printed, site):
    pdf, page = printed("foundations/similarity"), html_of(site, "foundations/similarity")
    text = text_of(pdf)
    titles = [
        re.sub(r"<[^>]+>", "", title)
        for title in re.findall(r"<h[123]>(.*?)<a class=\"headerlink\"", page.split("<article")[1])
    ]
    assert len(pdf.pages) > 1 and len(titles) >= 4
    assert "Similarity and the sphere" in pdf.pages[0].extract_text()
    assert [title for title in titles if title not in text] == []
    assert f"1 / {len(pdf.pages)}" in text
    for unwanted in ("Loading", "Skip to main content", "Search this book", "Show code", "How this was made"):
        assert unwanted not in text
    bookmarks = [mark.title for mark in pdf.outline if not isinstance(mark, list)]
    assert bookmarks and "Similarity and the sphere" in bookmarks[0]


def test_every_figure_is_printed_and_none_is_blank(printed, site):
    page = html_of(site, "foundations/similarity")
    stills = page.count('<img class="pp-still pp-light')
    pictures = {}
    for sheet in printed("foundations/similarity").pages:
        for image in sheet.images:
            pictures[image.data] = np.asarray(image.image.convert("L"), dtype=float)
    assert stills >= 2 and len(pictures) >= stills
    assert [picture.std() > 2 for picture in pictures.values()] == [True] * len(pictures)


def fonts_of(pdf):
    """Name and descriptor of every font of a PDF; those of type 3 hold their own drawings."""
    for sheet in pdf.pages:
        for font in sheet["/Resources"].get("/Font", {}).values():
            font = font.get_object()
            if font["/Subtype"] == "/Type0":
                font = font["/DescendantFonts"][0].get_object()
            if font["/Subtype"] != "/Type3":
                yield font["/BaseFont"], font["/FontDescriptor"]


def test_fonts_are_embedded(printed):
    fonts = list(fonts_of(printed("foundations/similarity")))
    assert fonts
    assert [name for name, about in fonts if not {"/FontFile", "/FontFile2", "/FontFile3"} & set(about)] == []


def test_links_lead_into_the_pdf_or_to_the_web(printed):
    """Not to the folders of the machine that printed it."""
    found = []
    for sheet in printed("foundations/bibliography").pages:
        for note in sheet.get("/Annots") or []:
            found.append(note.get_object().get("/A", {}).get("/URI", "#"))
    assert any(address.startswith("https:") for address in found)
    assert [address for address in found if not re.match("#|https?:", address)] == []


def test_what_is_folded_is_printed_when_asked_for(printed, site):
    page = "foundations/similarity"
    folded, opened = text_of(printed(page)), text_of(printed(page, "--open"))
    assert "How this was made" not in folded and "How this was made" in opened
    assert len(opened) > 1.2 * len(folded)


def test_a_line_is_said_for_each_page(built, chromium, capsys):
    assert in_a_thread(printing.main, ["views", "index"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"foundations/views: 1 sheet, 0\.0 MB, .*views\.pdf$", first) and "index" in second
    assert (built / "_build" / "pdf" / "foundations" / "views.pdf").read_bytes().startswith(b"%PDF")


def test_a_page_that_is_not_built_is_not_printed(built, capsys):
    (built / "_build" / "html" / "foundations" / "views.html").unlink()
    assert printing.main(["views"]) == 1
    assert "No page 'views' in the built site." in capsys.readouterr().err


# -------------------------------------------------------------------------------------------- the print style


@pytest.fixture
def look(browse, site):
    """`look(check, page, **options)`: what check(page) returns of a page laid out for paper."""

    def visit(check, name, **options):
        def print_it(page):
            page.emulate_media(media="print")
            page.reload()
            page.evaluate(printing.READY, False)
            return check(page)

        usual = {"viewport": {"width": printing.WIDTH, "height": 1000}, "reduced_motion": "reduce"}
        return browse(print_it, f"file://{site / name}.html", drawn=False, **(usual | options))

    return visit


CUT = """() => [...document.querySelectorAll('.bd-article *')].filter(element => {
  const apart = element.closest('svg, mjx-assistive-mml, span.math, .pp-hear');
  if (apart || !element.checkVisibility()) return false;
  const { right, width } = element.getBoundingClientRect();
  const clips = element.clientWidth && getComputedStyle(element).overflowX !== 'visible';
  return width && (right > innerWidth + 1 || clips && element.scrollWidth > element.clientWidth + 1);
}).slice(0, 5).map(element => element.outerHTML.slice(0, 160))"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_nothing_is_cut_at_the_edge_of_the_paper(look, name):
    assert look(lambda page: page.evaluate(CUT), name) == []


def test_the_measure_of_what_is_cut_sees_a_wide_box(look):
    wide = "document.querySelector('article').innerHTML += '<div style=\"width:2000px\">wide</div>'"

    def check(page):
        page.evaluate(wide)
        return page.evaluate(CUT)

    assert "wide" in look(check, "foundations/similarity")[0]


def seen(page, selector):
    return page.locator(f"{selector} >> visible=true").count()


def test_paper_has_no_furniture(look):
    furniture = (
        ".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-footer, .headerlink, "
        ".copybtn, button, input, #jb-print-docs-body, .pp-live, .pp-play, summary"
    )
    assert look(lambda page: seen(page, furniture), "experiments/claws") == 0


def test_every_tab_is_printed(look):
    def check(page):
        return page.locator(".sd-tab-content").count(), seen(page, ".sd-tab-content")

    tabs, printed_tabs = look(check, "experiments/claws")
    assert tabs == printed_tabs >= 3


def test_a_fold_that_the_reader_opened_is_printed(look):
    def check(page):
        folded = seen(page, ".sd-dropdown"), seen(page, ".pp-made")
        for fold in (".sd-dropdown", ".pp-made"):
            page.locator(fold).first.evaluate("fold => { fold.open = true }")
        return folded, (seen(page, ".sd-dropdown"), seen(page, ".pp-made"))

    assert look(check, "experiments/claws") == ((0, 0), (1, 1))


def test_paper_is_light_for_a_reader_of_dark_pages(look):
    theme = "document.documentElement.dataset.theme"

    def check(page):
        page.wait_for_function(f"{theme} === 'dark'")
        found = [page.evaluate(theme)]
        for event in ("beforeprint", "afterprint"):
            page.evaluate(f"dispatchEvent(new Event('{event}'))")
            found.append(page.evaluate(theme))
        return found

    assert look(check, "foundations/similarity", color_scheme="dark") == ["dark", "light", "dark"]


def test_a_heading_stays_with_what_follows_it_and_a_figure_on_one_sheet(look):
    kept = """() => {
      const of = (selector, read) => [...document.querySelectorAll(`.bd-article ${selector}`)].map(read);
      return {
        headings: of(':is(h2, h3)', e => getComputedStyle(e).breakAfter),
        figures: of('.pp-figure', e => getComputedStyle(e).breakInside),
        heights: of('.pp-figure', e => e.getBoundingClientRect().height),
      };
    }"""
    found = look(lambda page: page.evaluate(kept), "experiments/claws")
    assert set(found["headings"]) == {"avoid"} and set(found["figures"]) == {"avoid"}
    sheet = (297 - 16 - 18) / 25.4 * 96
    assert max(found["heights"]) < sheet


def test_an_address_is_printed_beside_its_link(look):
    def check(page):
        return page.locator(".bd-article a.external").evaluate_all(
            "links => links.map(l => [l.textContent, getComputedStyle(l, '::after').content])"
        )

    links = look(check, "foundations/bibliography")
    assert links
    for text, after in links:
        assert (after in ("none", "normal")) == bool(re.match("https?:|arXiv", text)), text
