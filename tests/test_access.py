"""The built site for readers who hear it, who use a keyboard alone, and who ask for less motion.

axe-core looks at every page; what it calls serious or critical fails. Contrast is measured on every page by
tests/test_site.py; here axe gives a second opinion of it, on one page of each kind. Its script comes from a
package and is put into the page: nothing is fetched.
"""

from pathlib import Path

import pytest
import yaml
from axe_playwright_python.base import AXE_SCRIPT

ROOT = Path(__file__).parents[1]
PHONE, DESKTOP = {"width": 375, "height": 720}, {"width": 1280, "height": 800}
FRONT, CHAPTER, IDEA = "index.html", "experiments/cc_vs_rcc.html", "foundations/pull_and_push.html"
# A page of each kind.
KINDS = (FRONT, CHAPTER, IDEA, "results/claws.html", "results/ledger.html", "status.html")
FAILING = ("serious", "critical")
# Of what axe finds, what cannot be mended here: {rule: {selector: why}}.
LEFT: dict[str, dict[str, str]] = {}


@pytest.fixture
def look(browse, site):
    """`look(check, name, **options)`: what check(page) returns of a page of the site.

    drawn: with plotly, so that interactive figures take the place of their stills.
    """

    def visit(check, name, *, drawn=False, **options):
        usual = {"viewport": DESKTOP, "reduced_motion": "reduce"}
        return browse(check, f"file://{site / name}", drawn=drawn, **(usual | options))

    return visit


def pages():
    """Every page of the table of contents, one run of each study, and the search."""

    def files(entries):
        for entry in entries:
            yield from [entry["file"]] if "file" in entry else []
            yield from files([*entry.get("chapters", ()), *entry.get("sections", ())])

    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    records = sorted((ROOT / "papermill_runs").glob("*/*/*/record.json"))
    runs = {path.parts[-3]: "/".join(path.parts[-4:-1]) for path in reversed(records)}
    named = [contents["root"], *files(contents["parts"]), *(f"runs/{run}" for run in runs.values()), "search"]
    return [f"{name}.html" for name in named]


# ------------------------------------------------------------------------------------------------------- axe

# axe looks at every element, so code becomes one text, as its colours are measured by tests/test_site.py, and
# ten rows of a table and three of the list of runs are left. Folds are opened.
THIN = """() => {
  document.querySelectorAll('main tbody tr:nth-child(n + 11)').forEach(row => row.remove());
  document.querySelectorAll('pre').forEach(pre => { pre.textContent = pre.textContent });
  document.querySelectorAll('.bd-links .has-children li:nth-child(n + 4)').forEach(item => item.remove());
  document.querySelectorAll('main details').forEach(fold => { fold.open = true });
}"""
AXE = """async ([all, rules]) => {
  const chosen = Object.fromEntries(rules.map(rule => [rule, { enabled: !all }]));
  const options = all ? { rules: chosen } : { runOnly: { type: 'rule', values: rules } };
  const { violations } = await axe.run({ preload: false, resultTypes: ['violations'], ...options });
  return violations.flatMap(({ id, impact, nodes }) => nodes.map(({ target, html }) =>
    [impact, id, target.join(' '), html.slice(0, 160)]));
}"""
COLOUR = ["color-contrast", "link-in-text-block"]


def violations(page, only=(), without=()):
    """What axe calls serious or critical and `LEFT` does not excuse, one line each."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(THIN)
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate(AXE, [not only, [*(only or without)]])
    scheme = page.evaluate("document.documentElement.dataset.theme")
    return [
        f"{scheme}, {impact}, {rule}: {selector} {html}"
        for impact, rule, selector, html in found
        if impact in FAILING and selector not in LEFT.get(rule, {})
    ]


@pytest.mark.parametrize("name", pages())
def test_axe_finds_nothing_serious(look, name):
    assert look(lambda page: violations(page, without=COLOUR), name) == []


@pytest.mark.parametrize("name", KINDS)
def test_axe_finds_nothing_pale(look, name):
    def check(page):
        found = violations(page, only=COLOUR)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        return found + violations(page, only=COLOUR)

    assert look(check, name) == []


@pytest.mark.parametrize("name", KINDS)
def test_axe_finds_nothing_serious_on_a_phone(look, name):
    assert look(lambda page: violations(page, without=COLOUR), name, viewport=PHONE) == []


def test_axe_finds_nothing_serious_in_drawn_figures(look):
    def check(page):
        draw(page, "figure.pp-figure:has(.pp-live)")
        return violations(page, without=COLOUR), page.locator(".pp-slider, .pp-legend").count()

    found, controls = look(check, CHAPTER, drawn=True)
    assert found == [] and controls >= 2


def test_axe_sees_what_is_wrong(look):
    wrong = """document.querySelector('main').innerHTML +=
      '<button></button><p style="color:#aaa;background:#fff">pale</p><img src="data:,">'"""

    def check(page):
        page.evaluate(wrong)
        return violations(page)

    found = look(check, "search.html")
    assert sorted(line.split(":")[0].split(", ")[2] for line in found) == [
        "button-name", "color-contrast", "image-alt",
    ]  # fmt: skip


def draw(page, figures):
    """Scroll to interactive figures, each until it is drawn."""
    for figure in page.query_selector_all(figures):
        figure.scroll_into_view_if_needed()
        page.wait_for_function("figure => figure.classList.contains('pp-drawn')", arg=figure)


# -------------------------------------------------------------------------------------------------- keyboard

# Numbers what the keyboard should reach, and keeps how it looks while it is not in focus.
LOOKS = """() => {
  const ring = (e, pseudo) => {
    const s = getComputedStyle(e, pseudo);
    const line = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1 ? s.outline : '';
    return [line, s.boxShadow, s.borderStyle === 'none' ? '' : s.border].join();
  };
  const label = e => e.closest('.sd-tab-set > input')?.nextElementSibling;
  const parts = e => [e, label(e), e.querySelector('.toctree-toggle')];
  window.looks = e => parts(e).filter(Boolean).map(part => ring(part) + ring(part, '::after')).join();
  const all = [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex]')];
  window.stops = all.filter(e => e.tabIndex >= 0 && !e.disabled && e.id !== 'pst-back-to-top' &&
    e.checkVisibility({ visibilityProperty: true }) && !(e.type === 'radio' && !e.checked));
  window.before = new Map(all.map(e => [e, looks(e)]));
  return stops.length;
}"""
FOCUS = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const shown = e.closest('.sd-tab-set > input')?.nextElementSibling ?? e;
  const { top, bottom } = shown.getBoundingClientRect();
  return {
    place: stops.indexOf(e), ring: looks(e) !== before.get(e), seen: bottom > 0 && top < innerHeight,
    name: e.outerHTML.slice(0, 160),
  };
}"""


@pytest.mark.parametrize("name", [FRONT, CHAPTER, "results/ledger.html", "foundations/similarity.html"])
def test_tab_reaches_everything_and_shows_where_it_is(look, name):
    def check(page):
        count = page.evaluate(LOOKS)
        walked = []
        for _ in range(count + 20):
            page.keyboard.press("Tab")
            stop = page.evaluate(FOCUS)
            if stop is None or (walked and stop["place"] == walked[0]["place"]):
                break
            walked.append(stop)
        missed = set(range(count)) - {stop["place"] for stop in walked}
        return walked, page.evaluate("missed => missed.map(i => stops[i].outerHTML.slice(0, 160))", [*missed])

    walked, missed = look(check, name)
    assert missed == [] and len(walked) > 40
    assert [stop["name"] for stop in walked if not stop["ring"]] == []
    assert [stop["name"] for stop in walked if not stop["seen"]] == []


def test_the_skip_link_skips(look):
    def check(page):
        page.keyboard.press("Tab")
        link = page.locator("#pst-skip-link a")
        first = page.evaluate("document.activeElement.textContent"), link.bounding_box()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        return *first, page.evaluate("!!document.activeElement.closest('main')")

    name, box, inside = look(check, CHAPTER)
    assert name == "Skip to main content" and inside
    assert box["x"] >= 0 and box["y"] >= 0 and box["height"] > 15


def test_the_front_page_by_keyboard(look):
    """The spheres turn and go through training; a door opens."""

    def check(page):
        globes = "document.querySelector('.pp-idea svg').innerHTML"
        seen = [page.evaluate(globes)]
        page.locator(".pp-spheres .pp-idea").focus()
        for _ in range(2):
            page.keyboard.press("ArrowLeft")
            seen.append(page.evaluate(globes))
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        playing = page.evaluate("document.activeElement.textContent")
        page.keyboard.press("Space")
        page.keyboard.press("Tab")
        page.keyboard.press("Home")
        untrained = page.locator(".pp-spheres output").text_content()
        page.locator(".sd-card .sd-stretched-link").first.focus()
        with page.expect_navigation():
            page.keyboard.press("Enter")
        return len(set(seen)), playing, untrained, page.url

    turned, playing, untrained, url = look(check, FRONT)
    assert turned == 3 and playing == "Pause" and untrained == "untrained"
    assert url.endswith("foundations/pull_and_push.html")


def test_tabs_and_folds_by_keyboard(look):
    def check(page):
        found = {}
        page.locator(".sd-tab-set > input:checked").first.focus()
        page.keyboard.press("ArrowRight")
        found["tab"] = page.evaluate(
            "[...document.querySelector('.sd-tab-set').querySelectorAll('.sd-tab-content')]"
            ".map(content => content.checkVisibility())"
        )
        folds = {"code": "details.hide", "origin": "details.pp-made", "solution": "details.sd-dropdown"}
        for kind, fold in folds.items():
            for key in ("Enter", "Space"):
                page.locator(f"main {fold} > summary").first.focus()
                page.keyboard.press(key)
                found[kind, key] = page.locator(f"main {fold}").first.evaluate("fold => fold.open")
        return found

    found = look(check, CHAPTER)
    assert found.pop("tab")[:2] == [False, True]
    assert len(found) == 6 and all(opened == (key == "Enter") for (_, key), opened in found.items())


def test_a_fold_is_called_by_what_is_written_on_it(look):
    def check(page):
        folds = page.locator("summary")
        names = [folds.nth(i).aria_snapshot() for i in range(folds.count()) if folds.nth(i).is_visible()]
        return names

    names = look(check, "foundations/similarity.html")
    assert any("Solution" in name for name in names) and any("Show code" in name for name in names)
    assert not [name for name in names if "Toggle" in name]


def test_search_theme_and_download_by_keyboard(look):
    def check(page):
        found = {}
        mode = "document.documentElement.dataset.mode"
        page.locator(".theme-switch-button >> visible=true").first.focus()
        before = page.evaluate(mode)
        page.keyboard.press("Enter")
        found["theme"] = page.evaluate(mode) != before

        page.locator(".dropdown-download-buttons > button").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowDown")
        found["menu"] = page.evaluate("!!document.activeElement.closest('.dropdown-menu.show')")
        page.keyboard.press("Escape")
        found["menu closed"] = page.locator(".dropdown-menu.show").count() == 0

        button = page.locator(".search-button-field >> visible=true").first
        button.focus()
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement.type === 'search'")
        page.keyboard.press("Escape")
        found["search left"] = page.evaluate("document.activeElement.matches('.search-button-field')")
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement.type === 'search'")
        page.keyboard.type("triplet")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        page.wait_for_selector("#search-results li a")
        return found, page.url

    found, url = look(check, CHAPTER)
    assert found == dict.fromkeys(found, True) and len(found) == 4
    assert url.endswith("search.html?q=triplet")


def test_the_contents_on_a_phone_by_keyboard(look):
    def check(page):
        toggle = page.locator(".primary-toggle >> visible=true")
        toggle.focus()
        page.keyboard.press("Enter")
        page.wait_for_function("!!document.activeElement.closest('#pst-primary-sidebar-modal')")
        page.keyboard.press("Escape")
        page.wait_for_function("document.activeElement.matches('.primary-toggle')")
        return page.locator("#pst-primary-sidebar-modal").is_visible()

    assert not look(check, CHAPTER, viewport=PHONE)


def test_what_scrolls_sideways_is_reached_as_long_as_it_does(look):
    """A still on a phone scrolls in its box; on a desktop it does not, and Tab passes it."""
    boxes = ".pp-stills, .pp-scroll, mjx-container[display], pre, .pst-scrollable-table-container"
    stops = f"""() => [...document.querySelectorAll('{boxes}')]
      .filter(box => box.clientWidth && box.scrollWidth > box.clientWidth && box.tabIndex < 0)
      .map(box => box.outerHTML.slice(0, 160))"""

    def check(page):
        page.wait_for_timeout(500)  # the theme waits before it looks
        return page.evaluate(stops), page.locator(".pp-stills[tabindex]").count()

    missed, reached = look(check, CHAPTER, viewport=PHONE)
    assert missed == [] and reached >= 1
    missed, reached = look(check, CHAPTER)
    assert missed == [] and reached == 0


# ---------------------------------------------------------------------------------------------------- motion

LONG = 5000  # milliseconds: what moves longer needs a way to stop it (WCAG 2.2.2)
MOVING = f"""() => document.getAnimations().filter(animation =>
  animation.playState === 'running' && animation.effect.getComputedTiming().endTime > {LONG}).length"""
GLOBES = "[...document.querySelectorAll('.pp-idea svg')].map(svg => svg.innerHTML)"


def moves(page):
    """Whether the spheres of a page move: by a script, or by the style sheet."""
    before = page.evaluate(GLOBES)
    page.wait_for_timeout(400)
    return page.evaluate(GLOBES) != before or page.evaluate(MOVING) > 0


@pytest.mark.parametrize("name", [FRONT, IDEA])
def test_spheres_move_until_paused(look, name):
    def check(page):
        page.locator(".pp-idea").first.scroll_into_view_if_needed()
        button = page.locator(".pp-play button").first
        page.wait_for_function("document.querySelector('.pp-play button').textContent === 'Pause'")
        found = [moves(page)]
        for _ in range(2):
            button.focus()
            page.keyboard.press("Enter")
            found.append(moves(page))
        return found

    assert look(check, name, reduced_motion="no-preference") == [True, False, True]


@pytest.mark.parametrize("name", [FRONT, IDEA])
def test_for_a_reader_who_asks_for_less_motion_nothing_moves_until_played(look, name):
    def check(page):
        page.locator(".pp-idea").first.scroll_into_view_if_needed()
        still = moves(page)
        page.get_by_role("button", name="Play").first.click()
        played = moves(page)
        page.get_by_role("button", name="Pause").first.click()
        return still, played, moves(page)

    assert look(check, name) == (False, True, False)


def test_a_wish_for_less_motion_is_followed_at_once(look):
    def check(page):
        page.wait_for_function("document.querySelector('.pp-play button').textContent === 'Pause'")
        page.emulate_media(reduced_motion="reduce")
        page.wait_for_function("document.querySelector('.pp-play button').textContent === 'Play'")
        return moves(page)

    assert not look(check, IDEA, reduced_motion="no-preference")


def test_without_scripts_nothing_moves_that_could_not_be_stopped(look):
    """getAnimations needs no script of the page."""
    options = {"reduced_motion": "no-preference", "java_script_enabled": False}
    running = look(lambda page: page.locator(".pp-move").count(), IDEA, **options)
    moving = look(lambda page: page.locator(".pp-moving").count(), IDEA, **options)
    assert running > 10 and moving == 0


@pytest.mark.parametrize("name", [FRONT, CHAPTER])
def test_nothing_slides_for_a_reader_who_asks_for_less_motion(look, name):
    sliding = """() => [...document.querySelectorAll('*')].filter(element => {
      const style = getComputedStyle(element);
      return style.scrollBehavior === 'smooth' || style.animationName !== 'none' ||
        style.transitionDuration.split(',').some(time => parseFloat(time) > 0);
    }).map(element => element.outerHTML.slice(0, 120))"""
    assert look(lambda page: page.evaluate(sliding), name) == []


def test_drawn_spheres_wait_for_a_reader_who_asks_for_less_motion(look):
    plot = "[...document.querySelectorAll('.pp-plot')].find(plot => plot._fullLayout.scene2)"
    eye = f"Object.values({plot}._fullLayout.scene._scene.getCamera().eye)"

    def check(page):
        draw(page, "figure.pp-figure:has(.pp-live)")
        before = page.evaluate(eye)
        page.wait_for_timeout(400)
        return page.locator(".pp-stop").count(), page.evaluate(eye) == before

    assert look(check, "results/cc_vs_rcc.html", drawn=True) == (0, True)
