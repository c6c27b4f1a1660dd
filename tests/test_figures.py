"""Figures: every form is there, the numbers are the data's, colours hold for every eye, files stay small."""

import base64
import gzip
import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from pullpush import display, figures, stills

PROVENANCE = {
    "study": "pair_vs_triplet", "run": "mnist-none-pair", "parameters": {"data": "<mnist>", "epochs": 5},
    "seeds": [0, 1], "seconds": [10.0, 11.5], "device": "cpu", "commit": "abc1234", "dirty": True,
    "command": "pullpush run pair_vs_triplet -p epochs 5",
}  # fmt: skip
RUN = SimpleNamespace(provenance=lambda: dict(PROVENANCE))
CLASSES = [f"class {k}" for k in range(10)]


@pytest.fixture
def repository():
    return Path(__file__).parents[1]


@pytest.fixture
def shown(monkeypatch):
    """The HTML of what a figure displays, in order."""
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda output: outputs.append(output.data))
    return outputs


def line(theme):
    figure, ax = figures.canvas(5, 3)
    ax.plot([1, 2, 3], [2, 1, 3], color=figures.PULL)
    ax.set_xlabel("epoch")
    return figure


def crowd(theme):
    figure, ax = figures.canvas(7, 5)
    ax.scatter(*np.random.default_rng(0).normal(size=(2, 3000)), c=np.arange(3000), s=9, cmap="turbo")
    return figure


def images_of(text):
    return re.findall(r"<img [^>]*>", text)


def payload(uri):
    return base64.b64decode(uri.split(",", 1)[1])


def spec_of(text):
    return json.loads(
        re.search(r'<script type="application/json" class="pp-spec">(.*?)</script>', text, re.S)[1].replace(
            "<\\/", "</"
        )
    )


def table_of(text):
    file, uri = re.search(r'<a download="([^"]+)" href="([^"]+)"', text).groups()
    if file.endswith(".gz"):
        return pd.read_csv(io.BytesIO(gzip.decompress(payload(uri))))
    return pd.read_csv(io.StringIO(unquote(uri.split(",", 1)[1])))


def cloud(n, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, n)
    return random.normal(size=(10, 3))[labels] * 30 + random.normal(size=(n, 3)) * 5, labels


# ------------------------------------------------------------------------------------------------------- show


def test_every_form_is_in_one_element():
    data = pd.DataFrame({"epoch": [1, 2, 3], "loss": [2.0, 1.5, 3.0]})
    text = figures.render(
        "a-line", line, "Loss falls from 2 to 1.5, then rises to 3.", "What to see, \\(n = 1\\).", data, RUN
    )
    light, dark = images_of(text)
    assert all('alt="Loss falls from 2 to 1.5, then rises to 3."' in image for image in (light, dark))
    assert (
        "pp-light" in light and "pp-dark" in dark and "display:none" in dark
    )  # Jupyter has no style sheet of ours
    drawn = [payload(re.search(r'src="([^"]+)"', image)[1]) for image in (light, dark)]
    assert drawn[0] != drawn[1]
    assert all(len(still) <= stills.STILL_BYTES for still in drawn)
    assert figures.LIGHT.paper.encode() in drawn[0] and figures.DARK.paper.encode() in drawn[1]
    assert 'id="fig-a-line"' in text and "<figcaption>What to see, \\(n = 1\\).</figcaption>" in text
    pd.testing.assert_frame_equal(table_of(text), data)
    assert text.count("<figure") == 1 and "pp-live" not in text  # nothing interactive was given


@pytest.mark.parametrize(("profile", "budget"), [("laptop", "STILL_BYTES"), ("quick", "BUILT_BYTES")])
def test_a_still_of_a_committed_notebook_is_the_lighter_one(profile, budget):
    run = SimpleNamespace(provenance=lambda: PROVENANCE | {"profile": profile})
    text = figures.render("a-crowd", crowd, "A crowd.", "What to see.", pd.DataFrame({"n": [1]}), run)
    most = getattr(stills, budget)
    for image in images_of(text):
        assert most / 2 < len(payload(re.search(r'src="([^"]+)"', image)[1])) <= most


def test_the_fold_says_how_it_was_made():
    text = figures.render("a-line", line, "alt", "caption", pd.DataFrame({"a": [1]}), RUN)
    assert "data = &lt;mnist&gt;, epochs = 5" in text
    assert "<code>pullpush run pair_vs_triplet -p epochs 5</code>" in text
    assert "<dd>21.5</dd>" in text and "abc1234, with uncommitted changes" in text and "<dd>0, 1</dd>" in text


def test_long_tables_are_packed_and_keep_their_numbers():
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 3)), columns=["x", "y", "z"])
    text = figures.render("a-line", line, "alt", "caption", data)
    assert 'download="a-line.csv.gz"' in text
    np.testing.assert_allclose(table_of(text), data, rtol=1e-5)


def test_a_caption_keeps_the_per_cent_sign_with_its_number():
    text = figures.render("a-line", line, "alt", "With 95 % intervals.", pd.DataFrame({"a": [1]}))
    assert "<figcaption>With 95\N{NO-BREAK SPACE}% intervals.</figcaption>" in text


@pytest.mark.parametrize(("name", "alt", "caption", "message"), [
    ("Two Words", "alt", "caption", "'Two Words' must be made of a-z"),
    ("ok", " ", "caption", "empty alt"),
    ("ok", "alt", "", "empty caption"),
])  # fmt: skip
def test_a_figure_without_words_is_an_error(name, alt, caption, message):
    with pytest.raises(ValueError, match=message):
        figures.render(name, line, alt, caption, pd.DataFrame({"a": [1]}))


def test_a_plotly_figure_is_taken_without_its_template():
    go = pytest.importorskip("plotly.graph_objects")
    live = go.Figure(
        go.Scatter(x=np.array([1.23456, np.nan]), y=[1e-7, 3]), layout={"title": {"text": "</script>"}}
    )
    text = figures.render("a-line", line, "alt", "caption", pd.DataFrame({"a": [1]}), interactive=live)
    spec = spec_of(text)
    assert spec["data"][0]["y"] == [1e-7, 3]
    assert "template" not in spec["layout"]
    assert text.count("</script>") == 1  # the title cannot end the element
    with pytest.raises(ValueError, match="not traces"):
        figures.render("a-line", line, "alt", "caption", pd.DataFrame({"a": [1]}), interactive={"traces": []})


def test_numbers_become_short_json():
    given = {
        "a": np.array([1.23456, 0.000123456, np.inf]),
        "b": np.float32(2),
        "c": np.int64(3),
        "d": (True, None, "x"),
    }
    assert display._compact(given) == {"a": [1.235, 0.0001235, None], "b": 2, "c": 3, "d": [True, None, "x"]}


def test_stills_drawn_with_pyplot_leave_nothing_open():
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_fignums()

    def still(theme):
        figure, ax = plt.subplots()
        ax.plot([0, 1])
        return figure

    figures.render("a-line", still, "alt", "caption", pd.DataFrame({"a": [1]}))
    assert plt.get_fignums() == before


def test_stills_are_the_same_every_time():
    data = pd.DataFrame({"a": [1]})
    assert figures.render("a-line", line, "alt", "caption", data) == figures.render(
        "a-line", line, "alt", "caption", data
    )


def test_importing_it_is_quick():
    heavy = ("matplotlib", "plotly", "pandas", "PIL", "IPython")
    code = f"import sys, pullpush.figures; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ----------------------------------------------------------------------------------------------- shared forms


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_point_cloud_holds_every_point_in_every_frame(shown, dimensions):
    points, labels = cloud(500)
    frames = {
        "5": points[:, :dimensions],
        "20": points[:, :dimensions] * [1, 2, 3][:dimensions],
        "50": -points[:, :dimensions],
    }
    images = np.random.default_rng(0).random((500, 1, 8, 8))
    draw = figures.scatter_frames if dimensions == 2 else figures.points3d
    draw(
        "cloud",
        frames,
        labels,
        CLASSES,
        alt="500 points",
        caption="n = 500",
        images=images,
        slider="perplexity",
        run=RUN,
    )
    spec = spec_of(shown[0])
    meta = spec["layout"]["meta"]
    assert list(meta["columns"]) == ["5", "20", "50"] and meta["start"] == "20"
    assert meta["sprite"]["count"] == 500
    assert [trace["name"] for trace in spec["data"]] == CLASSES
    found = table_of(shown[0])  # which the script draws from
    for stop, columns in meta["columns"].items():
        np.testing.assert_allclose(found[columns], frames[stop], atol=0.005 * np.abs(frames[stop]).max())
    assert list(found["class"]) == [CLASSES[k] for k in labels] and list(found["point"]) == list(range(500))
    go = pytest.importorskip("plotly.graph_objects")
    go.Figure(spec)  # plotly knows every key


def test_eleven_classes_look_different(shown):
    points = np.random.default_rng(0).normal(size=(110, 2))
    names = [f"class {k}" for k in range(11)]
    figures.scatter_frames("cloud", {"": points}, np.arange(110) % 11, names, alt="alt", caption="n = 110")
    looks = [trace["marker"] for trace in spec_of(shown[0])["data"]]
    assert len({look["color"] for look in looks}) == len({look["symbol"] for look in looks}) == 11


@pytest.mark.parametrize("theme", figures.THEMES, ids=lambda theme: theme.name)
def test_stills_in_space_have_the_page_behind_them_and_the_legend_beside(monkeypatch, theme):
    told = {}
    monkeypatch.setattr(figures, "show", lambda name, **given: told.update(given))
    axes = ("number 3", "number 12", "number 26")
    figures.points3d("cloud", np.eye(3), [0, 1, 2], CLASSES[:3], axes=axes, alt="alt", caption="n = 3")
    with figures.style(theme):
        figure = told["still"](theme)
        figure.canvas.draw()
    (ax,) = figure.axes
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        assert to_hex(axis.pane.get_facecolor()) == theme.paper
    legend = ax.get_legend().get_window_extent()
    assert not legend.overlaps(ax.zaxis.label.get_window_extent())
    assert legend.x1 <= figure.bbox.x1


def test_images_enter_a_notebook_once(shown):
    points, labels = cloud(40)
    images = np.random.default_rng(7).random((40, 1, 8, 8))
    given = {"classes": CLASSES, "alt": "alt", "caption": "n", "images": images}
    for name in ("first", "second", "first"):
        figures.points3d(name, points, labels, **given)
    first, second, again = (spec_of(text)["layout"]["meta"]["sprite"] for text in shown)
    assert second == {"id": first["id"]} and again == first


def test_a_full_cloud_stays_small(shown):
    """A thousand MNIST-like images at six perplexities: the heaviest figure of a chapter."""
    points, labels = cloud(1000)
    images = np.kron(np.random.default_rng(0).random((1000, 1, 7, 7)), np.ones((4, 4)))
    figures.scatter_frames(
        "cloud",
        {str(k): points[:, :2] + k for k in range(6)},
        labels,
        CLASSES,
        alt="alt",
        caption="n",
        images=images,
    )
    assert len(shown[0]) < 140_000


def test_one_set_of_points_has_no_slider(shown):
    points, labels = cloud(30)
    figures.points3d("cloud", points, labels, CLASSES, alt="alt", caption="n = 30")
    assert spec_of(shown[0])["layout"]["meta"]["columns"] == {"": ["x", "y", "z"]}
    assert list(table_of(shown[0])) == ["point", "class", "x", "y", "z"]


@pytest.mark.parametrize(("change", "message"), [
    ({"start": "7"}, "start='7' is not a frame of 'cloud': 5"),
    ({"labels": [0, 1]}, r"shape \(30, 2\), not \(2, 2\)"),
    ({"frames": {"5": np.zeros((3001, 2))}, "labels": np.zeros(3001)}, "3001 points in 'cloud'"),
])  # fmt: skip
def test_wrong_clouds_are_refused(change, message):
    points, labels = cloud(30)
    given = {
        "frames": {"5": points[:, :2]},
        "labels": labels,
        "classes": CLASSES,
        "alt": "alt",
        "caption": "n",
    } | change
    with pytest.raises(ValueError, match=message):
        figures.scatter_frames("cloud", **given)


def test_image_grids_show_every_pixel(shown):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 5, 5), dtype=np.uint8)
    figures.image_grid(
        "grid", images, rows=["anchor", "<positive>"], columns=list("abc"), alt="Six images", caption="n = 6"
    )
    (image,) = images_of(shown[0])
    assert 'alt="Six images"' in image
    sheet = np.asarray(Image.open(io.BytesIO(payload(re.search(r'src="([^"]+)"', image)[1]))).convert("RGBA"))
    assert sheet.shape == (11, 17, 4)  # two rows and three columns of 5 x 5, one pixel between
    np.testing.assert_array_equal(sheet[6:11, 12:17, :3], images[1, 2].transpose(1, 2, 0))
    assert (sheet[5, :, 3] == 0).all()
    assert "&lt;positive&gt;" in shown[0]
    assert len(table_of(shown[0])) == 6


def test_photographs_keep_their_size_and_get_the_bytes_that_they_are_given(shown):
    """Digits are enlarged and show their pixels; photographs are neither enlarged nor squared."""
    photographs = np.random.default_rng(0).integers(0, 256, (1, 3, 3, 120, 190), dtype=np.uint8)
    for i, budget in enumerate((16_000, 60_000)):
        figures.image_grid(f"grid-{i}", photographs, budget=budget, alt="alt", caption="n = 3")
    figures.image_grid("digits", np.zeros((1, 3, 1, 28, 28)), alt="alt", caption="n = 3")
    (small,), (large,), (digits,) = map(images_of, shown)
    weights = [len(payload(re.search(r'src="([^"]+)"', one)[1])) for one in (small, large)]
    assert weights[0] <= 16_000 < weights[1] <= 60_000
    assert "image-rendering:auto" in large and "max-width:592px" in large  # 3 x 190 and two gaps of 11
    assert "image-rendering:pixelated" in digits and "max-width:288px" in digits  # 3 x 96


def test_image_grids_wrap_and_count(shown):
    figures.image_grid("grid", np.zeros((13, 1, 8, 8)), alt="alt", caption="n = 13")
    assert len(table_of(shown[0])) == 13
    with pytest.raises(ValueError, match=r"rows has 3 entries for 2; image grid 'grid' is 2 x 10"):
        figures.image_grid("grid", np.zeros((13, 1, 8, 8)), rows=list("abc"), alt="alt", caption="n")
    with pytest.raises(ValueError, match=r"Images of shape \(1, 1, 2, 2, 2\)|\(n, 1, h, w\)"):
        figures.image_grid("grid", np.zeros((1, 1, 2, 2, 2)), alt="alt", caption="n")


def curve_data():
    rows = itertools.product(["pair", "triplet"], range(3), range(1, 6))
    return pd.DataFrame(
        [{"method": m, "seed": s, "epoch": e, "loss": 1 / e + 0.1 * s, "knn": 1 - 1 / e} for m, s, e in rows]
    )


def test_curves_carry_the_rows_they_draw(shown):
    figures.curves(
        "loss",
        curve_data(),
        y=["loss", "knn"],
        y_label=["loss", "kNN-30"],
        alt="alt",
        caption="n = 3",
        run=RUN,
    )
    pd.testing.assert_frame_equal(table_of(shown[0]), curve_data(), rtol=1e-5)
    with pytest.raises(ValueError, match="No column 'los' in the data of curves 'loss'. Did you mean 'loss'"):
        figures.curves("loss", curve_data(), y="los", alt="alt", caption="n")


def test_a_matrix_writes_its_numbers(shown):
    values = np.array([[0.9, 0.0], [0.25, 0.75]])
    figures.matrix(
        "confusion",
        values,
        rows=["cat", "dog"],
        columns=["cat", "dog"],
        alt="alt",
        caption="n",
        y_label="true",
    )
    still = payload(re.search(r'src="([^"]+)"', shown[0])[1]).decode()
    assert all(f">{text}<" in still for text in ("0.90", "0", "0.25", "0.75"))
    np.testing.assert_allclose(table_of(shown[0])[["cat", "dog"]], values)
    with pytest.raises(ValueError, match=r"shape \(2, 2\) for 1 row and 2 column names"):
        figures.matrix("confusion", values, rows=["cat"], columns=["cat", "dog"], alt="alt", caption="n")


@pytest.mark.parametrize("theme", figures.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("diverging", [False, True])
def test_numbers_in_a_matrix_can_be_read(monkeypatch, theme, diverging):
    drawn = {}
    monkeypatch.setattr(figures, "show", lambda name, **parts: drawn.update(parts))
    values = np.linspace(-1, 1, 25).reshape(5, 5)
    figures.matrix(
        "m", values, rows=list("abcde"), columns=list("abcde"), alt="a", caption="c", diverging=diverging
    )
    with figures.style(theme):
        ax = drawn["still"](theme).axes[0]
    image = ax.images[0]
    for (i, j), value in np.ndenumerate(values):
        text = next(t for t in ax.texts if t.get_position() == (j, i))
        background = "#" + "".join(f"{round(255 * c):02x}" for c in image.cmap(image.norm(value))[:3])
        assert contrast(text.get_color(), background) >= 4.5


def test_paired_differences(shown):
    data = pd.DataFrame({
        "comparison": ["MNIST", "CIFAR-10"], "difference": [0.1, 0.01], "low": [0.05, -0.02],
        "high": [0.15, 0.04], "differences": [[0.09, 0.11], [0.0, 0.02]],
    })  # fmt: skip
    figures.paired("gap", data, alt="alt", caption="n = 2", x_label="triplet minus pair")
    found = table_of(shown[0])
    assert list(found["differences"]) == ["0.09 0.11", "0 0.02"] and list(found["low"]) == [0.05, -0.02]
    still = payload(re.search(r'src="([^"]+)"', shown[0])[1])
    assert (
        figures.PULL.encode() in still and figures.PUSH.encode() not in still
    )  # the second interval holds zero


def test_the_records_behind_a_figure_are_links_to_their_pages(shown):
    class Behind:
        def provenance(self):
            return {"records": ["laptop/claws/fields-claws", "paper/today/mnist-today"]}

    data = pd.DataFrame({"k": [8], "accuracy": [0.5]})
    figures.table("scores", data, scores=["accuracy"], caption="n = 1", run=Behind())
    links = dict(re.findall(r'<a href="([^"]+)">([^<]+)</a>', shown[0]))
    assert links["../runs/laptop/claws/fields-claws.html"] == "laptop/claws/fields-claws"
    assert links["../runs/paper/today/mnist-today.html"] == "paper/today/mnist-today"


def test_whole_numbers_stand_flush_right_and_words_do_not(shown):
    data = pd.DataFrame({
        "k": [8, 10], "seconds": ["1,099", "<1"], "change": ["−3", "–"], "why": ["2 runs", "3"],
        "accuracy": [0.5, 0.6], "n": [5, "–"],
    })  # fmt: skip
    labels = ["k", "seconds", "change", "why"]
    figures.table("scores", data, scores=["accuracy"], caption="n = 5", labels=labels)
    right = re.findall(r'<(?:th|td)[^>]* class="pp-count">(.*?)</t', shown[0])
    assert right == ["seconds", "change", "n", "1,099", "−3", "5", "&lt;1", "–", "–"]


def test_tables_mark_the_best_and_put_the_paper_beside(shown):
    data = pd.DataFrame({
        "data": ["MNIST", "MNIST", "CIFAR-10"], "loss": ["pair", "triplet", "triplet"],
        "accuracy": [0.66, 0.9231, np.nan], "accuracy_low": [0.65, 0.918, np.nan],
        "accuracy_high": [0.67, 0.928, np.nan], "accuracy_paper": [0.659, 0.928, 0.331],
        "n": [5, 5, 0], "page": ["runs/a.html", None, None],
    })  # fmt: skip
    figures.table(
        "scores",
        data,
        scores=["accuracy"],
        caption="n = 5",
        group="data",
        link="page",
        headings={"accuracy": "probe"},
    )
    text = shown[0]
    assert '<strong>.923</strong><span class="pp-hear"> (best)</span> <small>[.918, .928]</small>' in text
    assert text.count("<strong>") == 1 and '<td class="pp-number pp-paper">.928</td>' in text
    assert '<a href="runs/a.html">MNIST</a>' in text and ">–<" in text and ">probe<" in text
    assert table_of(text)["accuracy_paper"].tolist() == [0.659, 0.928, 0.331]
    assert text.count('<td class="pp-count">') == 3 and 'class="pp-count">n</th>' in text
    with pytest.raises(ValueError, match="No column 'acuracy' in the data of table 'scores'. Did you mean"):
        figures.table("scores", data, scores=["acuracy"], caption="n")
    with pytest.raises(ValueError, match="best='most' is not allowed"):
        figures.table("scores", data, scores=["accuracy"], caption="n", best="most")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9231, ".923"),
        (-0.0123, "−.012"),
        (-0.0001, ".000"),
        (1.0, "1.000"),
        (np.nan, "–"),
        (None, "–"),
        (5.66, "5.660"),
    ],
)
def test_numbers_are_written_as_in_the_text(value, text):
    assert figures._number(value) == text


# ---------------------------------------------------------------------------------------------------- colours

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(colour, eye="none"):
    rgb = np.clip(np.array(BLINDNESS[eye]) @ linear(colour), 0, 1)
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ rgb
        / [0.9505, 1, 1.089]
    )
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", BLINDNESS)
def test_classes_stay_apart_for_every_eye(eye):
    seen = [lab(colour, eye) for colour in figures.CLASS_COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 20


def test_classes_stay_apart_in_grey():
    lightness = sorted(lab(colour)[0] for colour in figures.CLASS_COLOURS)
    assert min(np.diff(lightness)) >= 4.5
    assert len(set(figures.CLASS_MARKERS)) == len(figures.CLASS_COLOURS) == 11


@pytest.mark.parametrize("eye", BLINDNESS)
def test_pull_and_push_stay_apart_for_every_eye(eye):
    assert np.linalg.norm(lab(figures.PULL, eye) - lab(figures.PUSH, eye)) >= 40


@pytest.mark.parametrize("theme", figures.THEMES, ids=lambda theme: theme.name)
def test_lines_and_words_stand_out_from_the_page(theme):
    assert contrast(theme.ink, theme.paper) >= 7 and contrast(theme.muted, theme.paper) >= 4.5
    for colour in (figures.PULL, figures.PUSH, *figures.METHOD_COLOURS.values()):
        assert contrast(colour, theme.paper) >= 3


# What one figure shows together. Ten colours with 3:1 on both pages cannot all be 20 apart for every eye.
STUDIES = [
    ("pair", "triplet", "margin", "nt_xent", "sup_con"),
    ("cc", "rcc"),
    ("claws", "simclr"),
    ("lnscc",),
]


@pytest.mark.parametrize("eye", BLINDNESS)
def test_trained_methods_stay_apart_for_every_eye(eye):
    trained = {name: look.colour for name, look in figures.METHODS.items()}
    assert {name for study in STUDIES for name in study} == set(trained) - {"pixels", "untrained"}
    apart = {
        frozenset(pair): np.linalg.norm(lab(trained[pair[0]], eye) - lab(trained[pair[1]], eye))
        for pair in itertools.combinations([name for study in STUDIES for name in study], 2)
    }
    assert min(apart.values()) >= 15
    for study in STUDIES:
        assert min((apart[frozenset(pair)] for pair in itertools.combinations(study, 2)), default=20) >= 20


def test_methods_differ_by_more_than_colour():
    assert len({(look.marker, look.dash) for look in figures.METHODS.values()}) == len(figures.METHODS)
    with pytest.raises(ValueError, match="No colour for method 'triplets'. Did you mean 'triplet'"):
        figures.colour("triplets")


def test_the_themes_are_those_of_the_style_sheet(repository):
    sheet = (repository / "book" / "_static" / "pullpush.css").read_text()
    light, dark = (
        re.search(r":root \{(.*?)\}", sheet, re.S)[1],
        re.search(r'html\[data-theme="dark"\] \{(.*?)\}', sheet, re.S)[1],
    )
    for theme, block in ((figures.LIGHT, light), (figures.DARK, dark)):
        for name in ("ink", "muted", "paper", "grid"):
            assert f"--pp-{name}: {getattr(theme, name)};" in block
    assert f"--pp-pull: {figures.PULL};" in light and f"--pp-push: {figures.PUSH};" in light
