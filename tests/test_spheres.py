"""Spheres side by side: what the page's script is given, what the table holds, and what is refused."""

import base64
import gzip
import io
import json
import re
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from pullpush import figures, spheres, stills

CLASSES = ["one", "two", "three", "absent"]


@pytest.fixture
def shown(monkeypatch):
    """The HTML of what a figure displays, in order."""
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda output: outputs.append(output.data))
    return outputs


def directions(n, seed):
    rows = np.random.default_rng(seed).normal(size=(n, 3))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def given(n=90, **changes):
    panels = {
        title: {stop: directions(n, seed + i) for i, stop in enumerate(("0", "5", "20"))}
        for title, seed in (("CC", 0), ("RCC", 10))
    }
    return {
        "panels": panels,
        "labels": np.arange(n) % 3,
        "classes": CLASSES,
        "alt": "Two spheres",
        "caption": "n",
    } | changes


def spec_of(text):
    found = re.search(r'<script type="application/json" class="pp-spec">(.*?)</script>', text, re.S)[1]
    return json.loads(found.replace("<\\/", "</"))


def table_of(text):
    file, uri = re.search(r'<a download="([^"]+)" href="([^"]+)"', text).groups()
    content = uri.split(",", 1)[1]
    if file.endswith(".gz"):
        return pd.read_csv(io.BytesIO(gzip.decompress(base64.b64decode(content))))
    return pd.read_csv(io.StringIO(unquote(content)))


def test_the_table_holds_where_every_point_lies(shown):
    arguments = given()
    figures.spheres("both", **arguments)
    meta = spec_of(shown[0])["layout"]["meta"]
    table = table_of(shown[0])
    assert (meta["slider"], meta["start"], meta["unit"]) == ("epoch", "20", True)
    assert list(meta["columns"]) == ["0", "5", "20"]
    for stop, columns in meta["columns"].items():
        assert columns[1] == f"CC h2 at epoch {stop}" and columns[3] == f"RCC h1 at epoch {stop}"
        wanted = np.hstack([arguments["panels"][title][stop] for title in ("CC", "RCC")])
        np.testing.assert_allclose(table[columns], wanted, atol=5.1e-4)
    assert list(table["class"]) == [CLASSES[k] for k in arguments["labels"]]
    assert list(table["point"]) == list(range(90))


def test_both_spheres_are_seen_from_one_place(shown):
    figures.spheres("both", **given(axes=("a", "b", "c")))
    spec = spec_of(shown[0])
    first, second = spec["layout"]["scene"], spec["layout"]["scene2"]
    assert first["camera"] == second["camera"] and first["domain"] != second["domain"]
    for scene in (first, second):
        assert scene["aspectmode"] == "cube"
        assert all(scene[f"{letter}axis"]["range"] == [-1.08, 1.08] for letter in "xyz")
    assert [title["text"] for title in spec["layout"]["annotations"]] == ["CC", "RCC"]
    clouds = [trace for trace in spec["data"] if "name" in trace]
    assert spec["data"][: len(clouds)] == clouds  # the script numbers them so
    assert [(trace["name"], trace["scene"], trace["meta"]["panel"]) for trace in clouds] == [
        (name, scene, panel) for panel, scene in enumerate(("scene", "scene2")) for name in CLASSES[:3]
    ]
    assert [trace["showlegend"] for trace in clouds] == [True] * 3 + [False] * 3
    assert {trace["hoverinfo"] for trace in spec["data"][len(clouds) :]} == {"skip"}
    assert [trace["text"] for trace in spec["data"] if trace.get("mode") == "text"] == [["a", "b", "c"]] * 2
    go = pytest.importorskip("plotly.graph_objects")
    go.Figure(spec)  # plotly knows every key


def test_one_sphere_without_training_time(shown):
    figures.spheres("one", **given(panels={"RCC": {"": directions(90, 0)}}))
    layout = spec_of(shown[0])["layout"]
    assert layout["meta"]["columns"] == {"": ["RCC h1", "RCC h2", "RCC h3"]}
    assert "scene" in layout and "scene2" not in layout


def test_wire_and_ball_lie_on_the_sphere():
    for places in (spheres._wire(), spheres._ball()):
        np.testing.assert_allclose(np.linalg.norm(places, axis=-1), 1, atol=1e-12)


def test_a_still_shows_the_start_with_the_far_side_faint(monkeypatch):
    drawn = {}
    monkeypatch.setattr("pullpush.spheres.show", lambda name, **parts: drawn.update(parts))
    places = np.array([spheres.EYE, -spheres.EYE]) / np.linalg.norm(spheres.EYE)  # the nearest, the farthest
    stops = {"0": directions(2, 0), "5": places}
    figures.spheres("both", **given(2, panels={"CC": stops, "RCC": stops}, labels=[0, 0], start="5"))
    for theme in figures.THEMES:
        with figures.style(theme):
            left, right = drawn["still"](theme).axes
        assert (left.get_title("center"), right.get_title("center")) == ("CC, epoch 5", "RCC, epoch 5")
        far, near = (group.get_facecolor()[0, :3] for group in left.collections)
        own = np.array([int(figures.CLASS_COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5)])
        np.testing.assert_allclose(near, own, atol=1e-6)
        paper = int(theme.paper[1:3], 16) / 255
        assert np.abs(far - paper).max() < 0.5 * np.abs(own - paper).max()
        np.testing.assert_allclose([group.get_offsets()[0] for group in left.collections], 0, atol=1e-9)


def test_a_still_says_how_many_points_it_shows(monkeypatch):
    drawn = {}
    monkeypatch.setattr("pullpush.spheres.show", lambda name, **parts: drawn.update(parts))
    for n, title in ((900, "240 of 900 points"), (90, "")):
        figures.spheres("both", **given(n))
        with figures.style(figures.LIGHT):
            figure = drawn["still"](figures.LIGHT)
        assert figure.legends[0].get_title().get_text() == title
        assert sum(len(group.get_offsets()) for group in figure.axes[0].collections) == min(n, 240)


def test_two_full_spheres_stay_small(shown):
    """A thousand points at six epochs, with images of the size of MNIST's."""
    n = 1000
    images = np.kron(np.random.default_rng(0).random((n, 1, 7, 7)), np.ones((4, 4)))
    panels = {
        title: {str(stop): directions(n, seed + stop) for stop in (0, 5, 20, 50, 100, 200)}
        for title, seed in (("CC", 0), ("RCC", 1000))
    }
    recorded = SimpleNamespace(provenance=lambda: {"profile": "laptop"})
    figures.spheres("both", **given(n, panels=panels, images=images, run=recorded))
    assert len(shown[0]) < 220_000
    uris = re.findall(r'<img class="pp-still[^>]*?src="data:image/[^;]+;base64,([^"]+)"', shown[0])
    light, dark = map(base64.b64decode, uris)
    assert light != dark
    assert len(light) <= stills.STILL_BYTES and len(dark) <= stills.STILL_BYTES


PATH = {"0": directions(90, 0)}


@pytest.mark.parametrize(("change", "message"), [
    ({"start": "7"}, "start='7' is not a stop of 'both': 0, 5, 20."),
    ({"panels": {}}, "0 panels in 'both': give one or two"),
    ({"panels": dict.fromkeys("abc", PATH)}, "3 panels in 'both'"),
    ({"panels": {"CC": {}}}, "Panel 'CC' of 'both' has no stops"),
    ({"panels": {"CC": PATH, "RCC": {"1": PATH["0"]}}}, "differ in their stops: 'CC' has 0, 'RCC' has 1"),
    ({"panels": {"CC": PATH, "RCC": {"0": PATH["0"][:9]}}}, r"'RCC' in 'both' has shape \(9, 3\), not \(90"),
    ({"panels": {"CC": {"0": PATH["0"][:, :2]}}}, r"shape \(90, 2\), not \(90, 3\)"),
    ({"panels": {"CC": {"0": PATH["0"] * 1.02}}}, "'0' of panel 'CC' in 'both': row 0 has length 1.02"),
    ({"panels": {"CC": {"0": PATH["0"] * np.nan}}}, "row 0 has length nan, not 1"),
    ({"panels": {"CC": {"0": directions(3001, 0)}}, "labels": np.zeros(3001)}, "3001 points in 'both'"),
    ({"labels": np.arange(90) - 1}, "Labels of 'both' are not all from 0 to 3"),
    ({"images": np.zeros((3, 1, 8, 8))}, "3 images for the 90 points of 'both'"),
])  # fmt: skip
def test_wrong_spheres_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        figures.spheres("both", **given(**change))


def test_rows_may_be_of_unit_length_to_a_hundredth(shown):
    figures.spheres("one", **given(panels={"CC": {"0": PATH["0"] * 1.009}}))
    assert len(shown) == 1
