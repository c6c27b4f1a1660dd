"""The built site in a real browser with the network cut."""

import contextlib
import functools
import html
import http.server
import os
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from pullpush import figures, stage

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
CHAPTER = "experiments/pair_vs_triplet.html"
PHONE, DESKTOP = {"width": 375, "height": 720}, {"width": 1280, "height": 800}
PAGE_LIMIT = 3_000_000  # bytes, shared scripts apart


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def address(site):
    """Where a web server of this machine shows the site."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--enable-unsafe-swiftshader",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the network is cut
    ]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


def open_page(browser, url, viewport=DESKTOP, scheme="light", **options):
    """A page, in a context of its own, that `watched` watches."""
    return watched(browser.new_context(viewport=viewport, color_scheme=scheme, **options), url)


def watched(context, url):
    """A page whose `.problems` lists console errors, failed requests and requests to other hosts."""
    page = context.new_page()
    page.problems = problems = []
    own = urlsplit(url).netloc

    def asked(request):
        asks = urlsplit(request.url)
        if asks.scheme not in ("data", "blob") and asks.netloc != own:
            problems.append(f"request to {request.url}")

    def said(message):
        if message.type == "error":
            problems.append(f"console: {message.text}")

    def answered(response):
        if response.status >= 400:
            problems.append(f"{response.status}: {response.url}")

    page.on("request", asked)
    page.on("console", said)
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("requestfailed", lambda failed: problems.append(f"failed: {failed.url}"))
    page.on("response", answered)
    page.goto(url)
    return page


@pytest.fixture
def visit(browser):
    """visit(url, ...) opens a page for this test alone; see `open_page`."""
    opened = []

    def visit(url, **options):
        opened.append(open_page(browser, url, **options))
        return opened[-1]

    yield visit
    for page in opened:
        page.context.close()


@pytest.fixture(scope="module")
def chapter_pages(browser, address):
    """Pages of the site that several tests look at, each opened once, drawn and without motion."""
    opened = {}

    def get(name):
        if name not in opened:
            opened[name] = watched(context, address + name)
            show_all(opened[name])
        page = opened[name]
        page.bring_to_front()  # a page behind another is not drawn anew
        page.emulate_media(color_scheme="light", media="screen")
        page.set_viewport_size(DESKTOP)
        page.wait_for_function("document.documentElement.dataset.theme === 'light'")
        return page

    # One context, so that the scripts that all pages share are fetched once.
    with browser.new_context(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce") as context:
        yield get


def pages():
    """The pages of the table of contents, and one page of a run."""
    import yaml

    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    entries = [entry for part in contents["parts"] for entry in part["chapters"]]
    below = [inner for entry in entries for inner in entry.get("sections", ()) if "file" in inner]
    chapters = [entry["file"] for entry in entries + below]
    runs = sorted((ROOT / "papermill_runs").glob("*/*/*/record.json"))[:1]
    named = [f"runs/{run.parent.relative_to(ROOT / 'papermill_runs').as_posix()}" for run in runs]
    return [f"{name}.html" for name in [contents["root"], *chapters, *named, "search"]]


def show_all(page):
    """Scroll through the page, and wait for its interactive figures."""
    live = page.locator("figure.pp-figure:has(.pp-live)")
    for index in range(live.count()):
        live.nth(index).scroll_into_view_if_needed()
        page.wait_for_function(
            "figure => figure.classList.contains('pp-drawn')", arg=live.nth(index).element_handle()
        )
    return live.count()


# ------------------------------------------------------------------------------------------------- every page


def test_a_request_to_another_host_is_seen_and_fails(visit, address):
    """What the tests below stand on."""
    page = visit(f"{address}search.html")
    assert page.problems == []
    page.evaluate("fetch('https://example.org/').catch(() => 0)")
    assert {"request to https://example.org/", "failed: https://example.org/"} <= set(page.problems)


@pytest.mark.parametrize("name", pages())
def test_a_page_works_without_a_network(chapter_pages, name):
    page = chapter_pages(name)
    assert page.problems == []
    page.wait_for_function(
        "document.querySelectorAll('mjx-container').length >= document.querySelectorAll('.math').length"
    )
    assert page.locator("mjx-merror").count() == 0
    bare = page.eval_on_selector_all(
        "img", "images => images.filter(i => !i.alt.trim()).map(i => i.outerHTML.slice(0, 200))"
    )
    assert bare == []
    assert page.locator(".bd-article svg[role=img]:not([aria-label], [aria-hidden=true])").count() == 0
    assert page.locator("h1").count() >= 1 and page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("name", pages())
def test_a_page_fits_a_phone(chapter_pages, name):
    from playwright.sync_api import TimeoutError

    page = chapter_pages(name)
    page.set_viewport_size(PHONE)
    wide = """() => [...document.querySelectorAll('.bd-article *')]
      .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(
        '.pp-scroll, .pp-stills, pre, .highlight, mjx-container, .pst-scrollable-table-container'))
      .slice(0, 5).map(e => e.outerHTML.slice(0, 120))"""
    fits = f"document.documentElement.scrollWidth <= {PHONE['width']}"
    with contextlib.suppress(TimeoutError):  # plotly follows the new width
        page.wait_for_function(f"() => {fits} && ({wide})().length === 0", timeout=5000)
    assert (page.evaluate(wide), page.evaluate(fits)) == ([], True)


CONTRAST = """() => {
  const parse = text => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return [...parts.slice(0, 3), parts[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
  const linear = c => c / 255 <= .03928 ? c / 255 / 12.92 : ((c / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const bad = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim().length > 1);
    if (!own || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest('svg, script, .plot-container, mjx-assistive-mml, .pp-hear, [disabled]')) continue;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    let ground = [255, 255, 255];
    for (const layer of layers.reverse()) ground = over(layer, ground);
    const [a, b] = [light(over(parse(style.color), ground)), light(ground)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05), size = parseFloat(style.fontSize);
    const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    const name = `${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 40)}`;
    if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${name}`);
  }
  return bad;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", pages())
def test_a_page_is_legible(chapter_pages, name, scheme):
    page = chapter_pages(name)
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    assert page.evaluate(CONTRAST) == []


def test_the_measure_of_contrast_sees_grey_on_grey(gallery, visit):
    page = visit(gallery)
    page.evaluate("""document.body.innerHTML += '<p style="color:#888">grey on white</p>'""")
    assert [bad[:6] for bad in page.evaluate(CONTRAST)] == ["3.54 P"]


def test_pages_are_light(site):
    for path in site.rglob("*.html"):
        pictures = [
            site / "_images" / Path(source).name
            for source in re.findall(r'src="[^"]*_images/([^"]+)"', path.read_text())
        ]
        assert path.stat().st_size + sum(picture.stat().st_size for picture in pictures) <= PAGE_LIMIT, path


class References:
    """The addresses and the anchors of a page, as Sphinx writes them: a parser takes ten times as long."""

    def __init__(self, text):
        self.to, self.anchors = set(), set()
        for tag in re.findall(r"<[a-zA-Z][^>]*>", text):
            for name, value in re.findall(r'\s(id|name|href|src)="([^"]+)"', tag):
                (self.anchors if name in ("id", "name") else self.to).add(html.unescape(value))


def test_every_link_within_the_site_leads_somewhere(site):
    found = {
        path: References(path.read_text()) for path in site.rglob("*.html") if "_static" not in path.parts
    }
    files = {path for path in site.rglob("*") if path.is_file()}

    @functools.cache  # pages of a folder have most links in common
    def target_of(folder, address):
        return Path(os.path.normpath(folder / unquote(address)))

    broken = []
    for path, page in found.items():
        for address in page.to:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = target_of(path.parent, parts.path) if parts.path else path
            anchors = found[target].anchors if target in found else {parts.fragment}
            if target not in files or (parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append(f"{path.relative_to(site)}: {address}")
    assert broken == []


# ------------------------------------------------------------------------------------------------ the chapter


def test_the_figures_of_the_chapter_are_drawn(chapter_pages):
    page = chapter_pages(CHAPTER)
    flat = page.locator("figure:has(.scatterlayer)").first
    points = flat.locator(".scatterlayer .points path").count()
    named = page.evaluate(
        "f => f.querySelector('.pp-plot').data.reduce((n, trace) => n + trace.x.length, 0)",
        flat.element_handle(),
    )
    assert points == named >= 100
    solid = page.locator("figure:has(.gl-container canvas)").first
    assert (
        page.evaluate(
            "f => f.querySelector('.pp-plot').data.reduce((n, t) => n + t.z.length, 0)",
            solid.element_handle(),
        )
        >= 100
    )
    assert not page.locator(
        "figure.pp-drawn .pp-still >> visible=true"
    ).count()  # never the same figure twice
    assert page.locator("figure.pp-figure:not(.pp-drawn) img >> visible=true").count() >= 3
    assert page.locator("button.copybtn").count() >= 3
    page.emulate_media(media="print")
    assert page.locator(".pp-live >> visible=true").count() == 0
    assert (
        page.locator("figure.pp-drawn .pp-light >> visible=true").count()
        == page.locator("figure.pp-drawn").count()
    )


def test_without_scripts_the_stills_stand(address, visit):
    page = visit(address + CHAPTER, java_script_enabled=False)
    stills = page.locator("figure.pp-figure .pp-light")
    assert stills.count() >= 4 and all(stills.nth(i).is_visible() for i in range(stills.count()))
    assert page.locator("figure.pp-figure .pp-dark >> visible=true").count() == 0
    assert page.locator(".pp-live >> visible=true").count() == 0


def test_it_works_as_files_too(site, visit):
    """Opened by double click, without a server."""
    page = visit(f"file://{site / CHAPTER}")
    assert show_all(page) >= 2
    assert page.problems == []


def test_search_finds_the_chapter_and_no_run(address, visit):
    page = visit(f"{address}search.html?q=triplet")
    page.wait_for_selector("#search-results li a")
    hits = page.eval_on_selector_all(
        "#search-results li a", "links => links.map(link => link.getAttribute('href'))"
    )
    assert any(hit.startswith(CHAPTER) for hit in hits)
    assert not any(hit.startswith("runs/") for hit in hits)
    assert page.problems == []


def test_the_bibliography_is_linked(address, visit):
    page = visit(address + CHAPTER)
    page.locator("main a[href*='bibliography.html#']").first.click()
    page.wait_for_selector(":target")


# ------------------------------------------------------------------------------------- figures, by themselves


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A page of one flat and one solid point cloud with our own script and style sheet, and nothing else."""
    shown = []
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    cloud = {
        "labels": labels,
        "classes": ["one", "two", "three"],
        "caption": "n = 60",
        "images": random.random((60, 1, 8, 8)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda output: shown.append(output.data))
        figures.scatter_frames(
            "flat", {str(k): random.normal(size=(60, 2)) for k in (5, 20, 50)}, alt="Sixty points", **cloud
        )
        figures.points3d("solid", random.normal(size=(60, 3)), alt="Sixty points in space", **cloud)
    return write_gallery(tmp_path_factory.mktemp("gallery"), shown)


def write_gallery(folder, shown):
    """The address of a page of these figures with our own script and style sheet."""
    for name in ("pullpush.js", "pullpush.css"):
        (folder / name).write_bytes((ROOT / "book" / "_static" / name).read_bytes())
    (folder / "plotly.min.js").write_bytes(stage._plotly_script())
    (folder / "index.html").write_text(
        "<!doctype html><html lang=en data-theme=light><head><meta charset=utf-8><link rel=icon href=data:,>"
        "<link rel=stylesheet href=pullpush.css><script src=pullpush.js></script></head>"
        f"<body style='max-width:44rem'>{''.join(shown)}</body></html>"
    )
    return f"file://{folder / 'index.html'}"


STATE = "f => f.querySelector('.pp-plot').data.map(trace => [...trace.x])"


def test_the_slider_is_reached_and_moved_by_keyboard(gallery, visit):
    page = visit(gallery, reduced_motion="reduce")
    show_all(page)
    figure = page.locator("#fig-flat")
    before = page.evaluate(STATE, figure.element_handle())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "range"
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert figure.locator("output").text_content() == "50"
    assert figure.locator("input").get_attribute("aria-valuetext") == "50"
    drawn = page.evaluate(
        "f => f.querySelector('.pp-plot').calcdata.map(t => t.map(p => p.x))", figure.element_handle()
    )
    assert drawn != before
    assert page.problems == []


def test_classes_are_hidden_by_keyboard(gallery, visit):
    page = visit(gallery)
    show_all(page)
    button = page.locator("#fig-flat .pp-legend button").first
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    page.wait_for_function("document.querySelectorAll('#fig-flat .scatterlayer .points path').length === 40")
    assert page.locator("#fig-flat .pp-live").get_attribute("aria-label") == "Sixty points"


def test_a_solid_cloud_turns_by_keyboard(gallery, visit):
    page = visit(gallery)
    show_all(page)
    eye = "f => Object.values(f.querySelector('.pp-plot')._fullLayout.scene.camera.eye)"
    figure = page.locator("#fig-solid").element_handle()
    before = page.evaluate(eye, figure)
    page.locator("#fig-solid .pp-plot").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)
    after = page.evaluate(eye, figure)
    assert after != before and np.isclose(np.linalg.norm(after), np.linalg.norm(before))


def test_hovering_shows_the_image(gallery, visit):
    page = visit(gallery)
    show_all(page)
    point = page.locator("#fig-flat .scatterlayer .points path").nth(7)
    point.scroll_into_view_if_needed()
    point = point.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2, steps=4)
    tip = page.locator("#fig-flat .pp-tip")
    tip.wait_for(state="visible")
    assert tip.locator("span").text_content() in ("one", "two", "three")
    assert "data:image/webp" in tip.locator(".pp-tip-image").evaluate("e => e.style.backgroundImage")


def test_the_theme_switch_reaches_drawn_figures(gallery, visit):
    page = visit(gallery)
    show_all(page)
    colour = "document.querySelector('#fig-flat .pp-plot').layout.font.color"
    assert page.evaluate(colour) == figures.LIGHT.ink
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"{colour} === '{figures.DARK.ink}'")


def test_without_plotly_the_still_stays(gallery, visit, tmp_path):
    source = Path(gallery.removeprefix("file://")).parent
    for name in ("index.html", "pullpush.js", "pullpush.css"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    page = visit(f"file://{tmp_path / 'index.html'}")
    page.wait_for_timeout(500)
    assert page.locator(".pp-light >> visible=true").count() == 2
    assert page.locator(".pp-live >> visible=true").count() == 0


@pytest.fixture(scope="module")
def spheres(tmp_path_factory):
    """A page of two spheres: thirty points of two classes at three epochs."""
    shown = []
    random = np.random.default_rng(0)
    places = random.normal(size=(2, 3, 30, 3))
    places /= np.linalg.norm(places, axis=-1, keepdims=True)
    panels = {
        title: dict(zip(("0", "5", "20"), path, strict=True))
        for title, path in zip(("CC", "RCC"), places, strict=True)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda output: shown.append(output.data))
        figures.spheres(
            "spheres", panels, np.arange(30) % 2, ["one", "two"],
            alt="Two spheres", caption="n = 30", images=random.random((30, 1, 8, 8)),
        )  # fmt: skip
    return write_gallery(tmp_path_factory.mktemp("spheres"), shown), panels


PLOT = "document.querySelector('#fig-spheres .pp-plot')"
EYES = f"['scene', 'scene2'].map(s => Object.values({PLOT}._fullLayout[s]._scene.getCamera().eye))"


def test_two_spheres_are_moved_hidden_and_turned_together(spheres, visit):
    address, panels = spheres
    page = visit(address, reduced_motion="reduce")
    show_all(page)
    figure = page.locator("#fig-spheres")

    def lie_at(stop):
        two = f"{PLOT}._fullData.filter(t => t.name === 'two')"
        found = page.evaluate(f"{two}.map(t => [t.scene, [...t.x], [...t.y], [...t.z]])")
        assert [scene for scene, *_ in found] == ["scene", "scene2"]
        for (_, *place), path in zip(found, panels.values(), strict=True):
            np.testing.assert_allclose(np.transpose(place), path[stop][1::2], atol=5.1e-4)  # not centred

    lie_at("20")
    figure.locator("input").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)
    assert figure.locator("output").text_content() == "5"
    lie_at("5")

    assert figure.locator(".pp-legend button").count() == 2
    figure.locator(".pp-legend button").last.click()
    page.wait_for_timeout(300)
    seen = f"{PLOT}._fullData.filter(t => t.visible).map(t => [t._input.name, t.scene])"
    assert [trace for trace in page.evaluate(seen) if trace[0]] == [["one", "scene"], ["one", "scene2"]]

    before = page.evaluate(EYES)
    box = figure.locator(".pp-plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4 + 40, box["y"] + box["height"] / 2, steps=6)
    page.wait_for_timeout(300)
    held = page.evaluate(EYES)
    page.mouse.up()
    page.wait_for_timeout(300)
    after = page.evaluate(EYES)
    assert np.abs(np.subtract(held[0], before[0])).max() > 0.1
    np.testing.assert_allclose(held[0], held[1], atol=1e-6)
    np.testing.assert_allclose(after, held, atol=1e-3)
    figure.locator(".pp-plot").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    turned = page.evaluate(EYES)
    assert np.abs(np.subtract(turned, after)).max() > 0.05
    np.testing.assert_allclose(turned[0], turned[1], atol=1e-6)

    # The point of class "one" that is nearest to the reader, in the second sphere: its image is shown.
    shown = np.arange(0, 30, 2)
    nearest = panels["RCC"]["5"][shown[np.argmax(panels["RCC"]["5"][shown] @ turned[1])]]
    across, down = page.evaluate(
        f"""([x, y, z]) => {{
          const scene = {PLOT}._fullLayout.scene2._scene;
          const {{ model, view, projection }} = scene.glplot.cameraParams;
          const by = (m, v) => [0, 1, 2, 3].map(i => v.reduce((sum, c, j) => sum + m[4 * j + i] * c, 0));
          const scaled = [x, y, z].map((c, i) => c * scene.dataScale[i]);
          const [a, b, , w] = [model, view, projection].reduce((v, m) => by(m, v), [...scaled, 1]);
          const box = scene.container.getBoundingClientRect();
          return [box.left + box.width * (0.5 + a / w / 2), box.top + box.height * (0.5 - b / w / 2)];
        }}""",
        nearest.tolist(),
    )
    page.mouse.move(across - 3, down)
    page.mouse.move(across, down, steps=3)
    tip = figure.locator(".pp-tip")
    tip.wait_for(state="visible")
    assert tip.locator("span").text_content() == "one"
    page.mouse.move(0, 0)
    tip.wait_for(state="hidden")
    page.set_viewport_size({"width": 360, "height": 720})
    page.wait_for_function("document.documentElement.scrollWidth <= 360")
    assert page.problems == []


def test_spheres_turn_by_themselves_until_stopped(spheres, visit):
    page = visit(spheres[0], reduced_motion="no-preference")
    show_all(page)
    before = page.evaluate(EYES)
    page.wait_for_function(f"Math.abs({EYES}[1][0] - {before[1][0]}) > 0.01")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"{PLOT}._fullData.some(t => t.line?.color === '{figures.DARK.grid}')")
    button = page.locator("#fig-spheres .pp-stop")
    button.focus()
    page.keyboard.press("Enter")
    assert button.count() == 0
    page.wait_for_timeout(300)
    stopped = page.evaluate(EYES)
    page.wait_for_timeout(300)
    assert page.evaluate(EYES) == stopped
    np.testing.assert_allclose(stopped[0], stopped[1], atol=1e-6)
    assert page.problems == []
