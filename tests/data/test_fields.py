"""The rendered fields: the same whatever the batch; what is planted shows; mean colour does not tell all."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pullpush import data
from pullpush.data import fields
from pullpush.data.imageset import sha256_of

SMALL = (48, 76)
NORMAL = {"outliers": 0.0, "close_ups": 0.0, "weedy": 0.0}


@pytest.fixture(scope="module")
def many() -> fields.Fields:
    return fields.render(880, seed=3, size=SMALL)


def test_shapes_types_and_ranges(many: fields.Fields) -> None:
    assert many.images.shape == (880, 3, *SMALL) and many.images.dtype == torch.uint8
    assert many.labels.tolist() == [*range(11)] * 80 and many.labels.dtype == torch.int64
    assert len(many) == len(many.planted) == 880
    for name, column in vars(many.planted).items():
        codes = name in ("sub_cluster", "outlier", "fault")
        assert column.shape == (880,) and column.dtype == (torch.int64 if codes else torch.float32), name
    truth = many.planted
    for share in (truth.stage, truth.sunlight):
        assert share.min() >= 0 and share.max() <= 1
    assert truth.row_angle.min() >= 0 and truth.row_angle.max() <= 90
    assert truth.row_spacing.min() > 0.1 and truth.row_spacing.max() < 2
    bare = many.labels == fields.CLASSES.index("no crop")
    assert (truth.stage[bare] == 0).all() and (truth.plant_height[bare] == 0).all()
    assert truth.stage[~bare].std() > 0.25 and (truth.plant_height[~bare] > 0).all()
    assert len(truth[:5]) == 5


def test_pictures_use_the_range_and_differ(many: fields.Fields) -> None:
    means = many.images.float().mean((1, 2, 3))
    assert means.quantile(0.05) > 40 and means.quantile(0.95) < 225
    assert many.images.float().std((2, 3)).mean() > 20
    assert len({image.numpy().tobytes() for image in many.images}) == 880


# --- the same for ever --------------------------------------------------------------------------------------


def test_an_image_depends_on_seed_number_and_label_alone(many: fields.Fields) -> None:
    pieces = [fields.render(n, seed=3, size=SMALL, first=at) for at, n in ((0, 1), (1, 37), (38, 12))]
    assert torch.equal(torch.cat([piece.images for piece in pieces]), many.images[:50])
    assert torch.equal(torch.cat([piece.labels for piece in pieces]), many.labels[:50])
    for name, column in vars(many.planted).items():
        assert torch.equal(torch.cat([getattr(piece.planted, name) for piece in pieces]), column[:50]), name
    other = torch.arange(30) % 11
    other[::2] = 3  # a change of half the labels leaves the other half of the images alone
    mixed = fields.render(other, seed=3, size=SMALL).images
    assert torch.equal(mixed[1::2], many.images[1:30:2])
    assert not torch.equal(mixed[0], many.images[0])


def test_faulty_images_do_not_depend_on_the_batch() -> None:
    """Blur, fingers and tilts run on some images of a batch only."""
    together = fields.render([3] * 40, seed=1, size=SMALL, outliers=1.0)
    assert len(together.planted.fault.unique()) == len(fields.FAULTS)
    for i in range(0, 40, 3):
        assert torch.equal(
            fields.render([3], seed=1, size=SMALL, first=i, outliers=1.0).images[0], together.images[i]
        )


def test_same_digest_in_another_process() -> None:
    here = fields.render(24, seed=5, size=SMALL)
    code = (
        "from pullpush.data import fields, imageset\n"
        "got = fields.render(24, seed=5, size=(48, 76))\nprint(imageset.sha256_of(got.images, got.labels))"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == sha256_of(here.images, here.labels)


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_draws_the_same_and_is_left_as_it_was(threads: int) -> None:
    before = torch.get_num_threads()
    drawn = {}
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            drawn[count] = fields.render(70, seed=6, size=SMALL).images
            assert torch.get_num_threads() == count
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(drawn[1], drawn[threads])


def test_what_fails_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(scene: object, size: tuple[int, int]) -> None:
        raise MemoryError("no room for a block")

    monkeypatch.setattr(fields, "_photograph", fail)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(MemoryError, match="no room"):
            fields.render(70, size=SMALL)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_seeds_and_sizes() -> None:
    a, b = (fields.render(22, seed=seed, size=SMALL) for seed in (0, 1))
    assert all(not torch.equal(x, y) for x, y in zip(a.images, b.images, strict=True))
    large = fields.render(22, seed=0, size=(96, 152))
    assert torch.equal(large.planted.stage, a.planted.stage)  # the same scenes ...
    reduced = torch.nn.functional.avg_pool2d(large.images.float(), 2)
    same = (reduced - a.images.float()).abs().mean((1, 2, 3))
    other = (reduced - a.images.roll(11, 0).float()).abs().mean((1, 2, 3))
    assert same.mean() < 16 and (same < other).float().mean() > 0.9  # ... and so the pictures look the same


# --- as a data set ------------------------------------------------------------------------------------------


def test_loads_by_name_with_a_split_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def small(labels: int, first: int = 0) -> fields.Fields:
        calls.append((labels, first))
        return render(labels, size=(16, 20), first=first)

    render = fields.render
    monkeypatch.setattr(fields, "render", small)
    fields._half.cache_clear()
    try:
        train, test, both = (data.load("fields", split=split) for split in data.SPLITS)
        assert calls == [(1650, 0), (550, 1650)]  # once a process
        assert train.classes == fields.CLASSES and len(fields.CLASSES) == 11
        assert train.labels.bincount().tolist() == [150] * 11 and test.labels.bincount().tolist() == [50] * 11
        assert torch.equal(both.images, torch.cat([train.images, test.images]))
        assert len({image.numpy().tobytes() for image in both.images}) == 2200  # none is in both halves
        truth = fields.planted("all")
        assert torch.equal(truth.stage, torch.cat([fields.planted(k).stage for k in ("train", "test")]))
        again = render(1650 + 550, size=(16, 20))
        assert torch.equal(again.images, both.images) and torch.equal(again.planted.stage, truth.stage)
        train.images.zero_()  # what a caller does to its images leaves the next one's alone
        assert torch.equal(data.load("fields").images, both.images[:1650])
        assert data.load("fields", limit=22).labels.tolist() == [*range(11)] * 2
    finally:
        fields._half.cache_clear()
    data.check("fields")
    with pytest.raises(ValueError, match=r"Unknown split 'trian'\. Allowed: train, test, all\."):
        fields.planted("trian")


# --- what is planted ----------------------------------------------------------------------------------------


def test_shares(many: fields.Fields) -> None:
    truth = fields.render([0, 5] * 1000, size=(16, 16), seed=2).planted
    outlier = truth.outlier > 0
    assert outlier.float().mean() == pytest.approx(0.03, abs=0.012)
    for code in (1, 2):
        assert (truth.sub_cluster[~outlier] == code).float().mean() == pytest.approx(0.15, abs=0.025)
    assert (truth.sub_cluster[outlier] == 0).all()
    capture = truth.outlier == fields.OUTLIERS.index("bad capture")
    assert ((truth.fault > 0) == capture).all()
    kinds = [truth.outlier[place::2].bincount(minlength=5) for place in (0, 1)]
    assert (kinds[0][1:] > 0).all()
    assert kinds[1][1] == kinds[1][2] == 0  # a bare field cannot be emptier, nor badly planted
    every = fields.render(200, size=(16, 16), outliers=0.5, close_ups=0.5, weedy=0.5).planted
    assert (every.sub_cluster[every.outlier == 0] > 0).all()
    assert (fields.render(50, size=(16, 16), **NORMAL).planted.sub_cluster == 0).all()


def greenness(images: torch.Tensor) -> torch.Tensor:
    """Share of an image's lower half in which green leads, (n,)."""
    red, green, blue = images[:, :, images.shape[2] // 2 :].float().unbind(1)
    return ((green > red + 6) & (green > blue + 6)).float().mean((1, 2))


def test_empty_fields_and_gaps_show_less_green_and_weeds_more() -> None:
    labels = [fields.CLASSES.index(name) for name in ("corn", "soybeans", "cotton", "sugar")] * 60
    normal = fields.render(labels, seed=4, size=SMALL, **NORMAL)
    usual = greenness(normal.images)
    off = fields.render(labels, seed=4, size=SMALL, **{**NORMAL, "outliers": 1.0})
    less = {name: (off.planted.outlier == code) for code, name in enumerate(fields.OUTLIERS)}
    assert greenness(off.images)[less["empty"]].mean() < 0.25 * usual.mean()
    assert greenness(off.images)[less["badly planted"]].mean() < 0.7 * usual.mean()
    assert greenness(off.images)[less["residue"]].mean() < 0.5 * usual.mean()
    bare = [fields.CLASSES.index("no crop")] * 60
    weedy = fields.render(bare, size=SMALL, **{**NORMAL, "weedy": 1.0})
    clean = fields.render(bare, size=SMALL, **NORMAL)
    assert greenness(weedy.images).mean() > greenness(clean.images).mean() + 0.1


def test_bad_captures_are_bad() -> None:
    labels = [fields.CLASSES.index("corn")] * 400
    off = fields.render(labels, size=SMALL, outliers=1.0)
    normal = fields.render(labels, size=SMALL, **NORMAL).images.float()
    image = {name: off.images[off.planted.fault == code].float() for code, name in enumerate(fields.FAULTS)}

    def edges(images: torch.Tensor) -> float:
        return float((images[:, :, 1:] - images[:, :, :-1]).abs().mean())

    assert edges(image["blurred"]) < 0.6 * edges(normal)
    assert edges(image["sky only"]) < 0.6 * edges(normal)
    assert image["over-exposed"].mean() > normal.mean() + 60
    assert (off.planted.horizon[off.planted.fault == fields.FAULTS.index("sky only")] > 1).all()


def test_growth_shows() -> None:
    """Cotton turns white, sorghum red at the top, wheat from green to gold."""
    grown = fields.render([1] * 200 + [0] * 200, size=SMALL, **NORMAL)
    ripe, young = grown.planted.stage > 0.9, grown.planted.stage < 0.4
    low = grown.images[:, :, 24:].float()
    white = ((low.amin(1) > 170) & (low.amax(1) - low.amin(1) < 60)).float().mean((1, 2))
    cotton, wheat = grown.labels == 1, grown.labels == 0
    assert white[cotton & ripe].mean() > white[cotton & young].mean() + 0.1
    assert greenness(grown.images)[wheat & ripe].mean() + 0.2 < greenness(grown.images)[wheat & young].mean()


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a linear probe fitted on three quarters and scored on the rest."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.3))
    cut = len(labels) * 3 // 4
    return float(probe.fit(features[:cut], labels[:cut]).score(features[cut:], labels[cut:]))


def test_mean_colour_tells_little_and_texture_more() -> None:
    n = 880
    normal = fields.render(n, seed=7, size=SMALL, **NORMAL)
    images, labels = normal.images.float() / 255, normal.labels.numpy()
    mean = images.mean((2, 3)).numpy()
    strips = torch.nn.functional.adaptive_avg_pool2d(images, (6, 1)).flatten(1)
    spread = torch.nn.functional.adaptive_avg_pool2d(
        (images - images.mean((2, 3), keepdim=True)).abs(), (6, 1)
    ).flatten(1)
    steps = torch.nn.functional.adaptive_avg_pool2d(
        (images[:, :, :, 1:] - images[:, :, :, :-1]).abs(), (6, 1)
    ).flatten(1)
    rich = torch.cat([strips, spread, steps], 1).numpy()
    by_mean, by_more = accuracy(mean, labels), accuracy(rich, labels)
    assert 1.3 / 11 < by_mean < 0.5
    assert by_more > by_mean + 0.08


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": 0}, "n=0 images cannot be rendered: give 1 or more"),
        ({"labels": []}, r"labels of shape \(0,\)"),
        ({"labels": torch.tensor([0.5])}, "torch.float32: give whole numbers"),
        ({"labels": [0, 11]}, "Unknown class 11. Allowed: 0 to 10, that is wheat, cotton,"),
        ({"labels": [-1]}, "Unknown class -1."),
        ({"size": (8, 76)}, r"size=\(8, 76\) is too small to show a field: .* at least \(16, 16\)"),
        ({"seed": -1}, "seed=-1 is not possible: give 0 or more"),
        ({"first": -2}, "first=-2 is not possible: give 0 or more"),
        ({"outliers": 1.5}, "outliers=1.5 is a share: give 0 to 1"),
        ({"close_ups": 0.6, "weedy": 0.5}, "close_ups=0.6 and weedy=0.5 exclude each other"),
    ],
)
def test_errors_say_what_is_allowed(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        fields.render(**{"labels": 1, **options})
    assert re.search(r"[.]$", str(error.value))
