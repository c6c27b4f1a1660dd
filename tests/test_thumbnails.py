"""The small pictures on the cards of the studies: drawn from records, empty without."""

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from pullpush import thumbnails
from pullpush.looks import class_look
from pullpush.statistics import interval
from pullpush.thumbnails import Panel, Thumbnail, thumbnail

STUDY = "lnscc"
SCORES = [0.8, 0.9, 0.85]
LIMIT = 15_000  # characters of one thumbnail


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty repository, in which study STUDY may have a record of run `mnist-lnscc`."""
    (tmp_path / "papermill_runs").mkdir()
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))
    return tmp_path


def record(root, run, arrays, study=STUDY, metric="acc"):
    folder = root / "papermill_runs" / "laptop" / study / run
    folder.mkdir(parents=True)
    np.savez(folder / "arrays.npz", **arrays)
    content = {
        "schema": 1, "study": study, "run": run, "profile": "laptop", "parameters": {"data": "mnist"},
        "metrics": [{"seed": seed, metric: score} for seed, score in enumerate(SCORES)],
        "seconds": [60.0] * 3, "device": "cpu", "commit": "0" * 40, "dirty": False, "method": "0",
    }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(content))


def flat(n=400, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float16)


def svgs(text):
    """(alternative text, drawing) of each panel."""
    found = re.findall(r'<svg viewBox="[-\d ]+" role="img" aria-label="([^"]*)">(.*?)</svg>', text)
    return [(unescape(alt), inner) for alt, inner in found]


def dots(inner):
    """{colour: [(x, y), ...]}."""
    return {
        shade: [(int(x), int(y)) for x, y in re.findall(r"M(-?\d+) (-?\d+)h0", way)]
        for shade, way in re.findall(r'<path stroke="(#\w+)" d="([^"]*)"', inner)
    }


def test_each_study_has_one(root):
    studies = {path.stem for path in (Path(__file__).parents[1] / "book" / "experiments").glob("*.ipynb")}
    assert set(thumbnails.THUMBNAILS) <= studies
    with pytest.raises(ValueError, match="No thumbnail of study 'claw' .*Did you mean 'claws'"):
        thumbnail("claw")


@pytest.mark.parametrize("study", thumbnails.THUMBNAILS)
def test_without_records_the_panels_are_empty_and_say_so(root, study):
    text = thumbnail(study)
    panels = svgs(text)
    assert [alt.endswith(": no record to draw yet") for alt, _ in panels] == [True, True]
    assert "pp-dots" not in text and "<p>not run yet</p>" in text and "\n" not in text


def test_each_point_stands_at_its_place_in_the_colour_of_its_class(root):
    labels = (np.arange(400) % 10).astype(np.uint8)
    first, last = flat(seed=1), flat(seed=2)
    record(root, "mnist-lnscc", {"labels": labels, "flat0": first, "flat500": flat(seed=3), "flat3000": last})
    (left, before), (right, after) = svgs(thumbnail(STUDY))
    assert left == "untrained: 300 images of MNIST, PCA of ten dimensions, coloured by class."
    assert right.startswith("trained: 300 images of MNIST")
    assert f"accuracy of the clusters {interval(SCORES)}, n = 3" in right
    for inner, places in ((before, first), (after, last)):
        drawn = dots(inner)
        assert sum(map(len, drawn.values())) == 300
        for k in range(10):
            mine = places[labels == k].astype(float)
            # up to one scale and shift for all: what is drawn lies on these points, the y axis pointing down
            low, high = places.astype(float).min(0), places.astype(float).max(0)
            scale = 180 / (high - low).max()
            wanted = (mine - (low + high) / 2) * scale * (1, -1)
            distance = np.abs(np.array(drawn[class_look(k)[0]])[:, None] - wanted).max(-1).min(1)
            assert distance.max() <= 0.5 + 1e-6


def test_many_dimensions_become_their_two_principal_components():
    """A cloud that is wide along two directions of eight is drawn along these, the wider one across."""
    random = np.random.default_rng(0)
    plane = random.normal(size=(200, 2)) * (6, 2)
    basis = np.linalg.qr(random.normal(size=(8, 8)))[0]
    places = thumbnails._flat(plane @ basis[:2] + 5)
    assert np.abs(places).max() == pytest.approx(thumbnails.INNER)
    for j in range(2):
        assert abs(np.corrcoef(places[:, j], plane[:, j])[0, 1]) > 0.99
    assert (thumbnails._flat(np.ones((4, 3))) == 0).all()  # all in one place


def test_both_panels_show_the_same_images(root, monkeypatch):
    plan = Thumbnail(Panel("a", "A", "z"), Panel("b", "B", "z"), "acc", "PCA")
    monkeypatch.setitem(thumbnails.THUMBNAILS, STUDY, plan)
    labels = np.random.default_rng(0).integers(0, 10, 1000).astype(np.uint8)
    for seed, run in enumerate("ab"):
        record(root, run, {"labels": labels, "z": np.random.default_rng(seed).normal(size=(1000, 32))})
    text = thumbnail(STUDY)
    left, right = ({shade: len(at) for shade, at in dots(inner).items()} for _, inner in svgs(text))
    assert left == right and sum(left.values()) == thumbnails.POINTS
    assert len(text) < LIMIT


def test_one_record_of_two_is_not_enough(root, monkeypatch):
    plan = Thumbnail(Panel("a", "A", "z"), Panel("b", "B", "z"), "acc", "PCA")
    monkeypatch.setitem(thumbnails.THUMBNAILS, STUDY, plan)
    record(root, "a", {"labels": np.zeros(9, np.uint8), "z": flat(9)})
    assert "no record to draw yet" in thumbnail(STUDY)


def test_spheres_are_those_of_the_front_page_with_fewer_points(root):
    labels = (np.arange(800) % 10).astype(np.uint8)
    for seed, run in enumerate(("fashion-cc-k10", "fashion-rcc-k10")):
        h = np.random.default_rng(seed).normal(size=(2, 800, 3))
        h /= np.linalg.norm(h, axis=-1, keepdims=True)
        record(root, run, {"labels": labels, "h0": h[0], "h5": h[1]}, "cc_vs_rcc")
    text = thumbnail("cc_vs_rcc")
    assert len(text) < LIMIT
    assert len(re.findall(r"h0", text)) == 2 * thumbnails.ON_A_SPHERE
    assert re.findall(r'aria-label="(R?CC): 200 images', text) == ["CC", "RCC"]


@pytest.mark.parametrize("study", thumbnails.THUMBNAILS)
def test_those_of_this_repository_are_small(study):
    assert 2_000 < len(thumbnail(study)) < LIMIT
