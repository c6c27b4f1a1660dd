"""The picture of the idea: computed where there are no records, from those of CC and RCC where there are.
Its script moves it only as long as the reader likes.
"""

import base64
import json
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from pullpush import idea, results, stage
from pullpush.looks import CLASS_COLOURS
from pullpush.statistics import interval

STATIC = Path(__file__).parents[1] / "book" / "_static"
EPOCHS = (0, 1, 2, 3, 5, 8, 14, 24, 40)
IMAGES = 800
SIZE_LIMIT = 60_000  # characters of the whole block
CC = {"acc": [0.41, 0.47, 0.44], "occupied": [0.52, 0.50, 0.57]}
RCC = {"acc": [0.55, 0.58, 0.50], "occupied": [0.93, 0.95, 0.96]}


def test_the_idea_pulls_groups_together_and_apart():
    path = idea.trajectories()
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), 1, atol=1e-9)
    group = np.arange(path.shape[1]) // idea.MEMBERS
    same = (group[:, None] == group) & ~np.eye(len(group), dtype=bool)
    first, last = (np.linalg.norm(places[:, None] - places, axis=-1) for places in (path[0], path[-1]))
    assert last[same].mean() < 0.35 * first[same].mean()
    assert last[group[:, None] != group].min() > last[same].max()


def test_the_idea_is_said_in_words_too():
    text = idea.html()
    assert text.count('role="img"') == 2 and len(re.findall(r'aria-label="[^"]{40,}"', text)) == 2
    assert len(text) < 40_000


# ---------------------------------------------------------------------------------------------- from records


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty repository."""
    (tmp_path / "papermill_runs").mkdir()
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))
    return tmp_path


def snapshots(seed):
    """{h0: (n, 3), ...}: at first one spot, the same under every seed, at last ten groups, one a class."""
    random = np.random.default_rng(seed)
    labels = np.random.default_rng(7).integers(0, 10, IMAGES)
    spot = np.random.default_rng(7).normal((0.5, -0.7, 0.4), 0.2, (IMAGES, 3))
    group = random.normal(size=(10, 3))[labels] + random.normal(0, 0.4, (IMAGES, 3))
    arrays = {"labels": labels.astype(np.uint8)}
    for epoch in EPOCHS:
        share = (epoch / EPOCHS[-1]) ** 0.5
        h = (1 - share) * spot + share * group
        arrays[f"h{epoch}"] = (h / np.linalg.norm(h, axis=1, keepdims=True)).astype(np.float16)
    return arrays


def record(root, run, metrics, profile="laptop", arrays=None):
    """What a finished run leaves behind, with one value of each metric a seed."""
    folder = root / "papermill_runs" / profile / "cc_vs_rcc" / run
    folder.mkdir(parents=True)
    np.savez(folder / "arrays.npz", **(arrays or snapshots(seed=len(run))))
    rows = [{"seed": seed, **{name: metrics[name][seed] for name in metrics}} for seed in range(3)]
    content = {
        "schema": 1, "study": "cc_vs_rcc", "run": run, "profile": profile, "metrics": rows,
        "parameters": {"data": "mnist", "epochs": EPOCHS[-1]}, "seconds": [60.0] * 3, "device": "cpu",
        "commit": "abc1234567", "dirty": False, "method": "0", "command": "make runs",
    }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(content))


@pytest.fixture
def recorded(root):
    record(root, "mnist-cc-k10", CC)
    record(root, "mnist-rcc-k10", RCC)
    return root


def data_of(text):
    """What the script reads, with the places as arrays (2, moments, points, 3)."""
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])
    flat = [np.frombuffer(base64.b64decode(path), np.int8) for path in data["places"]]
    places = [path.reshape(len(data["stops"]), len(data["labels"]), 3) / idea.LEVELS for path in flat]
    return data | {"places": np.stack(places)}


def dots_of(globe):
    """(width, opacity, colour, x, y) of every dot of a sphere, in the order of drawing."""
    found = []
    for width, opacity, paths in re.findall(
        r'<g class="pp-dots" stroke-width="([\d.]+)" opacity="([\d.]+)">(.*?)</g>', globe
    ):
        for colour, way in re.findall(r'stroke="(#\w+)" d="([^"]*)"', paths):
            for x, y in re.findall(r"M(-?[\d.]+) (-?[\d.]+)h0", way):
                found.append((float(width), float(opacity), colour, float(x), float(y)))
    return found


def globes_of(text):
    return re.findall(r'<svg viewBox="[-\d ]*" role="img".*?</svg>', text)


@pytest.mark.parametrize("there", [(), ("mnist-cc-k10",)], ids=["none", "one"])
def test_without_both_records_it_is_computed_and_says_so(root, there):
    for run in there:
        record(root, run, CC)
    picture, sentence = idea.front().split("\n\n")
    assert picture == idea.html()
    assert f"{idea.trajectories().shape[1]} points" in sentence and "computed" in sentence


def test_with_both_records_it_shows_and_says_what_they_hold(recorded):
    text = idea.front()
    assert "computed" not in text
    cc, rcc = globes_of(text)
    for globe, name, metrics in ((cc, "CC", CC), (rcc, "RCC", RCC)):
        told = unescape(re.search(r'aria-label="([^"]*)"', globe)[1]).replace("\u00a0", " ")
        assert told.startswith(f"{name}, epoch 40: 300 MNIST images")
        assert f"accuracy of the clusters {interval(metrics['acc'])}, n = 3" in told
        assert f"sphere in use {interval(metrics['occupied'])}, n = 3" in told
        assert len(dots_of(globe)) == 300
    seen = text.replace("\u00a0", " ")
    for words in (str(interval(CC["acc"])), str(interval(RCC["occupied"])), "seed 0, laptop profile"):
        assert words in re.sub(r'aria-label="[^"]*"', "", seen)
    assert "[CC against RCC](experiments/cc_vs_rcc.ipynb)" in text.split("\n\n")[1]
    assert '<a href="runs/laptop/cc_vs_rcc/' in text and "../runs/" not in text  # from the front page


def test_it_is_small(recorded):
    assert len(idea.front()) <= SIZE_LIMIT


def test_the_paper_profile_comes_first_once_it_has_both(recorded):
    paper = {"acc": [0.9, 0.91, 0.92], "occupied": [0.8, 0.8, 0.8]}
    record(recorded, "mnist-rcc-k10", paper, "paper")
    assert "laptop profile" in idea.front()
    record(recorded, "mnist-cc-k10", paper, "paper")
    text = idea.front().replace("\u00a0", " ")
    assert "paper profile" in text and str(interval(paper["acc"])) in text


def test_the_script_gets_the_recorded_points_as_they_lie_among_each_other(recorded):
    data = data_of(idea.front())
    assert data["stops"] == ["untrained", *(f"epoch {epoch}" for epoch in EPOCHS[1:])]
    for run, path in zip(idea.PAIR, data["places"], strict=True):
        held = dict(np.load(recorded / "papermill_runs" / "laptop" / "cc_vs_rcc" / run / "arrays.npz"))
        drawn = np.sort(np.random.default_rng(0).permutation(IMAGES)[:300])
        assert "".join(map(str, held["labels"][drawn])) == data["labels"]
        for epoch, places in zip(EPOCHS, path, strict=True):
            h = held[f"h{epoch}"][drawn].astype(float)
            np.testing.assert_allclose(places @ places.T, h @ h.T, atol=0.025)
            wide = np.argsort(h @ h[0])[[0, 150, 299]]  # a mirror image would have the same angles
            assert np.linalg.det(places[wide]) == pytest.approx(np.linalg.det(h[wide]), abs=0.03)


def test_how_the_records_are_turned_does_not_matter(recorded):
    """Every moment is turned onto the one before and onto the other sphere, so its own turn is not seen."""
    before = data_of(idea.front())["places"]
    random = np.random.default_rng(1)
    for run in idea.PAIR:
        path = recorded / "papermill_runs" / "laptop" / "cc_vs_rcc" / run / "arrays.npz"
        held = dict(np.load(path))
        for epoch in EPOCHS if "rcc" in run else EPOCHS[1:]:
            turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
            held[f"h{epoch}"] = held[f"h{epoch}"] @ (turn * np.sign(np.linalg.det(turn)))
        np.savez(path, **held)
    np.testing.assert_allclose(data_of(idea.front())["places"], before, atol=0.02)


def test_runs_with_other_images_are_not_set_side_by_side(root):
    record(root, "mnist-cc-k10", CC)
    other = snapshots(0)
    record(root, "mnist-rcc-k10", RCC, arrays=other | {"labels": other["labels"][::-1]})
    with pytest.raises(ValueError, match="mnist-cc-k10 and mnist-rcc-k10 do not hold the same images"):
        idea.front()


def test_what_is_far_is_pale_and_small_and_behind():
    """Five points from behind the sphere to before it, along the line of sight."""
    seen = np.array([[10.0 * i, 0.0, z] for i, z in enumerate((0.95, -0.95, 0.4, -0.4, 0.1))])
    globe = idea._globe("", seen, np.zeros(5, np.uint8), 0.0)
    dots = dots_of(globe)
    assert [x for *_, x, _ in dots] == [10.0, 30.0, 40.0, 20.0, 0.0]  # the farthest first
    for look in zip(*[dot[:2] for dot in dots], strict=True):
        assert list(look) == sorted(set(look))
    behind, grid, before = (
        globe.split('<path class="pp-wire" d=')[0],
        "pp-wire",
        globe.rsplit("pp-wire", 1)[1],
    )
    assert grid in behind and len(dots_of(behind)) == 2 and len(dots_of(before)) == 3


def test_a_greyscale_eye_tells_near_from_far():
    """Every class loses at least half of its contrast with the page from the front to the back."""
    assert idea.DEPTHS[0][1] < 0.5 * idea.DEPTHS[-1][1]
    assert idea.DEPTHS[0][0] < 0.7 * idea.DEPTHS[-1][0]


def test_only_the_front_page_shows_the_records(recorded, monkeypatch):
    """Elsewhere the text speaks of the computed points."""
    monkeypatch.setattr(stage, "status_blocks", lambda root: {})
    monkeypatch.setattr(results, "page_blocks", dict)
    (recorded / "book").mkdir(exist_ok=True)
    shutil.copy(STATIC.parent / "_config.yml", recorded / "book")
    blocks = stage.page_blocks(recorded)
    assert blocks["idea"] == idea.html() and blocks["card-spheres"] == idea.front()
    book = STATIC.parent
    assert "<!-- pullpush:card-spheres -->" in (book / "index.md").read_text()
    assert "<!-- pullpush:idea -->" in (book / "foundations" / "pull_and_push.md").read_text()


# ---------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def look(browse, recorded, tmp_path):
    """`look(check, **options)`: the same of a page with the picture, our style sheet and its script alone."""
    for name in ("pullpush.css", "idea.js"):
        (tmp_path / name).write_bytes((STATIC / name).read_bytes())
    (tmp_path / "index.html").write_text(
        "<!doctype html><html lang=en data-theme=light><head><meta charset=utf-8><link rel=icon href=data:,>"
        "<link rel=stylesheet href=pullpush.css><script src=idea.js></script></head>"
        f"<body>{idea.front().split(chr(10))[0]}</body></html>"
    )
    return lambda check, **options: browse(check, f"file://{tmp_path / 'index.html'}", **options)


EPOCH = "document.querySelector('output').value"


def drawing(page):
    """Both spheres as drawn now."""
    return page.evaluate("[...document.querySelectorAll('.pp-idea svg')].map(svg => svg.innerHTML)")


def moves(page):
    before = drawing(page)
    page.wait_for_timeout(400)
    return drawing(page) != before


def test_without_scripts_the_still_stands(look):
    def check(page):
        globes = page.locator(".pp-idea svg")
        boxes = [globes.nth(i).bounding_box() for i in range(globes.count())]
        return boxes, page.locator("button, input").count(), page.locator(".pp-key").is_visible()

    (left, right), controls, key = look(check, java_script_enabled=False)
    assert left["width"] > 200 and left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    assert controls == 0 and key


def test_nothing_moves_for_a_reader_who_asks_for_less_motion_until_played(look):
    def check(page):
        still = drawing(page), moves(page), page.locator(".pp-play output").text_content()
        page.get_by_role("button", name="Play").click()
        return *still, moves(page), page.locator(".pp-play output").text_content()

    globes, moved, epoch, moved_on_request, first = look(check, reduced_motion="reduce")
    assert not moved and epoch == "epoch 40"
    assert moved_on_request and first != "epoch 40"
    for drawn, still in zip(
        globes, globes_of(idea.front()), strict=True
    ):  # the script draws what Python drew
        here, there = dots_of(drawn), dots_of(still)
        assert len(here) == len(there) == 300
        for colour in CLASS_COLOURS[:10]:
            ours, theirs = (np.array([dot[3:] for dot in dots if dot[2] == colour]) for dots in (here, there))
            assert np.linalg.norm(ours[:, None] - theirs, axis=-1).min(1).max() < 1.5


def test_it_moves_by_itself_until_paused_by_keyboard(look):
    def check(page):
        page.wait_for_function(f"{EPOCH} === 'untrained'")  # it begins once it is in view
        moving = moves(page)
        page.keyboard.press("Tab")  # the spheres, which arrow keys turn
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.textContent")
        page.keyboard.press("Enter")
        paused = moves(page)
        page.keyboard.press("Enter")
        return moving, name, paused, moves(page)

    assert look(check, reduced_motion="no-preference") == (True, "Pause", False, True)


def test_training_plays_to_its_end_and_the_trained_spheres_turn_on(look):
    def check(page):
        page.locator("input").focus()
        page.keyboard.press("Home")
        for _ in EPOCHS[:-3]:
            page.keyboard.press("ArrowRight")
        chosen = page.locator("output").text_content(), moves(page)
        page.get_by_role("button", name="Play").click()
        for epoch in EPOCHS[-2:]:
            page.wait_for_function(f"{EPOCH} === 'epoch {epoch}'")
        page.wait_for_timeout(1500)  # the second half of the last stage
        return *chosen, moves(page), page.locator("input").get_attribute("aria-valuetext")

    assert look(check, reduced_motion="reduce") == ("epoch 14", False, True, "epoch 40")


def test_both_turn_together_by_dragging_and_by_keys(look):
    """The untrained points are the same in both records, so both spheres are the same picture."""

    def check(page):
        page.locator("input").evaluate("r => { r.value = 0; r.dispatchEvent(new Event('input')) }")
        seen = [drawing(page)]
        box = page.locator(".pp-idea svg").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 60, y + 20, steps=4)
        seen.append(drawing(page))
        page.mouse.up()
        page.mouse.move(x, y)
        seen.append(drawing(page))
        page.locator(".pp-idea").focus()
        page.keyboard.press("ArrowLeft")
        seen.append(drawing(page))
        return seen

    still, dragged, released, keyed = look(check, reduced_motion="reduce")
    for left, right in (still, dragged, keyed):
        assert dots_of(left) == dots_of(right)
    assert dots_of(dragged[0]) != dots_of(still[0]) and keyed != dragged
    assert released == dragged
    move = np.mean([dot[3:] for dot in dots_of(dragged[0])], 0) - np.mean(
        [dot[3:] for dot in dots_of(still[0])], 0
    )
    assert (move > 5).all()  # with the pointer, right and down


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overlaps(look, width):
    def check(page):
        parts = page.locator(
            ".pp-idea svg, .pp-idea figcaption, .pp-play > *, .pp-key, .pp-figure > figcaption"
        )
        return [parts.nth(i).bounding_box() for i in range(parts.count())]

    boxes = look(check, reduced_motion="reduce", viewport={"width": width, "height": 800})
    assert len(boxes) == 9
    for i, a in enumerate(boxes):
        assert a["x"] >= 0 and a["x"] + a["width"] <= width
        for b in boxes[:i]:
            across = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
            down = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
            assert across <= 0.5 or down <= 0.5
