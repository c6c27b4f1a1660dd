"""The method cells of "CLAWS", executed as they stand, for every way to set its parameters."""

import contextlib
import functools
import io
import math
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from pullpush import data, losses, models, runs, sheets
from pullpush.data import fields, packed

CHAPTER = Path(__file__).parents[1] / "book" / "experiments" / "claws.ipynb"
TINY = {"limit": 110, "image_height": 24, "crop_size": 12, "simclr_size": 16, "per_class": 2}


@pytest.fixture
def execute(method_cells):
    return functools.partial(method_cells, "claws", **TINY)


@pytest.fixture
def parts(execute):
    """`parts(**parameters)`: the names of the method cells up to the training."""
    return lambda **parameters: execute(until="def batches_of", **parameters)


def batch_of(names, n=22, seed=0):
    """A batch of random views, their labels and noise."""
    stream = torch.Generator().manual_seed(seed)
    i = torch.randperm(len(names["labels"]), generator=stream)[:n]
    noise = torch.rand(n, names["dimensions"], generator=stream)
    return *names["two_views"](i, stream), names["labels"][i], noise


def after_a_step(names, batch):
    """The numbers of one step, and the weights after it."""
    torch.manual_seed(0)
    network = names["make_network"]()
    logged = names["make_step"](network)(batch)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    logged["loss"].backward()
    optimizer.step()
    return {key: value.item() for key, value in logged.items()}, network.state_dict()


SETTINGS = [
    {"mask": "hard", "seeds": [0, 1]},
    {"mask": "gumbel", "mask_source": "full"},
    {"mask": "soft", "mask_source": "mean", "density_weight": 1.0},
    {"mask": "top_k", "dimensions": 8, "mask_source": "backbone", "measured": "masked"},
    {"mask": "random", "positives": "class", "wrong_labels": 0.3},
    {"mask": "none", "contrast_weight": 0.0, "blur": True},
    {"label_weight": 0.0, "precision": "bf16"},
    {"labelled": 0.1, "positives": "class"},
    {"method": "simclr"},
    {"negative_mask": "anchor", "label_input": "masked", "projection": "norm"},
    {"class_negatives": False, "label_input": "full", "labelled": 0.5, "measured": "masked"},
    {"label_input": "separate", "projection": "linear", "attention_width": 8, "epoch_steps": 7},
    {"mask": "random", "measured": "both", "outlier_share": 0.1},
    {"encoder": "efficientnet", "image_height": 32, "limit": 55},
]


@pytest.mark.parametrize(
    "setting", SETTINGS, ids=lambda setting: "-".join(f"{k}={v}" for k, v in setting.items())
)
def test_every_setting_trains_and_is_measured(execute, setting):
    results = execute(**setting)["results"]
    metrics, arrays = results[0]
    assert all(math.isfinite(value) for one, _ in results for value in one.values())
    for name in ("acc", "nmi", "acc_test", "nmi_test", "probe", "head_test", "third_corn", "outlier_ap"):
        assert 0 <= metrics[name] <= 1
    assert ("density" in metrics) == (setting.get("method") != "simclr")
    n = len(arrays["rank"])
    views = 2 if setting.get("measured") == "both" else 1
    assert arrays["z"].shape == (n, views * setting.get("dimensions", 32))
    np.testing.assert_allclose(np.linalg.norm(arrays["z"].astype(float), axis=1), 1, atol=5e-3)
    assert arrays["contingency"].sum() == n
    if setting.get("method") != "simclr":
        assert arrays["opened"].shape == (2, 11, setting.get("dimensions", 32))


def test_one_seed_gives_the_same_numbers_twice(execute):
    first, second = (execute(epochs=2)["results"][0][0] for _ in range(2))
    assert first == second


def test_a_packed_set_gives_the_numbers_of_the_same_images_in_memory(execute, tmp_path):
    """Batches gathered from the file are the batches of the images in memory."""
    made = fields.render(132, size=(24, 38))
    for i, (image, label) in enumerate(zip(made.images, made.labels, strict=True)):
        folder = tmp_path / "own" / fields.CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:03}.png")
    packed.pack(tmp_path / "own", tmp_path / "set", (24, 38))
    found = [
        execute(data=str(path), limit=None)["results"][0] for path in (tmp_path / "own", tmp_path / "set.npy")
    ]
    assert found[0][0] == found[1][0]
    for name in found[0][1].keys() - {"history_seconds"}:
        values = found[0][1][name]
        np.testing.assert_array_equal(values, found[1][1][name], name)


def test_an_epoch_has_the_steps_that_it_is_given(execute):
    for steps in (3, 5, 12):
        names = execute(epoch_steps=steps, until="watched =")
        order = list(names["batches_of"](names["labels"], torch.Generator().manual_seed(0)))
        assert len(order) == steps
        assert all(batch[2].bincount().tolist() == [2] * 11 for batch in order)
    longer, plain = (
        execute(epoch_steps=steps, until="watched =")["batches_of"](
            names["labels"], torch.Generator().manual_seed(0)
        )
        for steps in (5, None)
    )  # 110 images, 22 a step: five steps are the default
    for a, b in zip(longer, plain, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_what_cross_entropy_reads_is_what_it_is_called(parts):
    z_full, z_crop = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
    m = (z_crop > 0).float()
    for kind, given in {
        "both": [("head", z_full), ("head", z_crop)],
        "full": [("head", z_full)],
        "masked": [("head", z_full * m), ("head", z_crop * m)],
        "separate": [("head", z_full), ("head_crop", z_crop)],
    }.items():
        names = parts(label_input=kind)
        network = names["make_network"]()
        found = names["label_logits"](network, z_full, z_crop, m)
        expected = [network[head](z) for head, z in given]
        assert len(found) == len(expected) and all(map(torch.equal, found, expected)), kind


def test_the_contrast_takes_the_mask_and_the_negatives_that_it_is_told(parts):
    z_full, z_crop = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    m, y = (torch.randn(6, 32, generator=torch.Generator().manual_seed(1)) > 0).float(), torch.arange(6) // 2
    anchor = parts(negative_mask="anchor")["contrast"](z_full, z_crop, m, y)
    assert anchor == losses.masked_nt_xent(z_full, z_crop, m, 0.5, of_anchor=True)
    fewer = parts(class_negatives=False)["contrast"](z_full, z_crop, m, y)
    assert fewer == losses.masked_nt_xent(z_full, z_crop, m, 0.5, labels=y)
    assert fewer < parts()["contrast"](z_full, z_crop, m, y)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "simclr", "mask": "random"}, "mask random is of claws alone: simclr has no mask"),
        ({"method": "simclr", "measured": "both"}, "measured both is of claws alone"),
        ({"positives": "class", "class_negatives": False}, "positives class goes with"),
        ({"pretrained": True}, "pretrained goes with encoder efficientnet"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(given, message, monkeypatch):
    cells = [cell for cell in nbformat.read(CHAPTER, 4).cells if cell.cell_type == "code"]
    names = {}
    exec(cells[0].source, names)
    names |= given
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(runs.ParameterError, match=message):
        exec(cells[1].source, names)


def test_two_views_show_the_whole_and_an_unresized_piece(parts):
    names = parts(colour_strength=0.0)
    plain = torch.tensor([0, 1])
    whole, piece = names["two_views"](plain, torch.Generator().manual_seed(0))
    assert whole.shape == (2, 3, 24, 38) and piece.shape == (2, 3, 12, 12)
    gray = whole.std(1).amax((1, 2)) < 1e-6  # a fifth loses its colour
    images = names["prepare"](names["train_images"][:2])
    for turned, image in zip(whole[~gray], images[~gray], strict=True):
        turns = [image, image.flip(1), image.flip(2), image.flip(1, 2)]
        assert any(torch.allclose(turned, one) for one in turns)
    both = parts(method="simclr")["two_views"](plain, torch.Generator().manual_seed(0))
    assert [view.shape for view in both] == [(2, 3, 16, 16)] * 2


def test_one_mask_is_laid_on_both_embeddings(parts):
    names = parts()
    z_full, z_crop = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    y, ones = torch.arange(6), torch.ones(6, 32)
    half = ones.clone()
    half[:, ::2] = 0
    expected = losses.nt_xent(z_full[:, 1::2], z_crop[:, 1::2], 0.5)
    torch.testing.assert_close(names["contrast"](z_full, z_crop, half, y), expected)
    assert names["contrast"](z_full, z_crop, ones, y) != expected
    shut = names["contrast"](z_full, z_crop, 0 * ones, y)
    assert shut.item() == pytest.approx(math.log(11))  # exercise 1


@pytest.mark.parametrize("kind", ["hard", "gumbel", "soft", "top_k", "random", "none"])
def test_masks_change_the_loss_and_learn_as_they_should(parts, kind):
    names = parts(mask=kind, label_weight=0.0)
    batch = batch_of(names)
    torch.manual_seed(0)
    network = names["make_network"]()
    with torch.no_grad():  # some gates shut, some open
        network["attention"].layers[2].bias.copy_(torch.linspace(-1, 1, 32))
    logged = names["make_step"](network)(batch)
    logged["loss"].backward()
    learns = any(
        weight.grad is not None and weight.grad.abs().max() > 0
        for weight in network["attention"].parameters()
    )
    assert learns == (kind not in ("random", "none"))
    z_full, z_crop = network["f"](batch[0]), network["g"](batch[1])
    plain = losses.nt_xent(z_full, z_crop, 0.5)
    assert math.isclose(logged["l_con"].item(), plain.item(), rel_tol=1e-5) == (kind == "none")
    assert (logged["density"].item() == 1) == (kind == "none")


def test_the_source_of_the_mask_is_what_it_is_called(parts):
    def answers(z):
        return z

    rows = [torch.full((2, 32), number) for number in (3.0, -1.0, 2.0)]
    opened = {
        source: parts(mask_source=source)["gates"](answers, *rows, None).mean().item()
        for source in ("crop", "full", "mean", "backbone")
    }
    assert opened == {"crop": 0.0, "full": 1.0, "mean": 1.0, "backbone": 1.0}


def test_gates_may_be_opened_by_what_comes_before_the_projection(parts):
    names = parts(mask_source="backbone")
    torch.manual_seed(0)
    network = names["make_network"]()
    assert network["attention"].layers[0].in_features == 128
    batch = batch_of(names)
    logged = names["make_step"](network)(batch)
    opened = models.mask(network["attention"](network["g"][0](batch[1])))
    assert logged["density"].item() == opened.mean().item()


def test_no_mask_and_instance_positives_are_plain_nt_xent_plus_cross_entropy(parts):
    names = parts(mask="none", contrast_weight=2.0, label_weight=0.5)
    batch = batch_of(names)
    torch.manual_seed(0)
    network = names["make_network"]()
    logged = names["make_step"](network)(batch)
    z_full, z_crop = network["f"](batch[0]), network["g"](batch[1])
    l_con = losses.nt_xent(z_full, z_crop, 0.5)
    l_lab = torch.nn.functional.cross_entropy(
        network["head"](torch.cat([z_full, z_crop])), batch[2].repeat(2)
    )
    torch.testing.assert_close(logged["l_con"], l_con)
    torch.testing.assert_close(logged["l_lab"], l_lab)
    torch.testing.assert_close(logged["loss"], 2 * l_con + 0.5 * l_lab)


def test_without_a_label_weight_labels_are_irrelevant(parts):
    names = parts(label_weight=0.0)
    x_full, x_crop, y, noise = batch_of(names)
    weights = [
        after_a_step(names, (x_full, x_crop, labels, noise))[1] for labels in (y, y.flip(0), 0 * y - 1)
    ]
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in other)
    names = parts()
    first, second = (after_a_step(names, (x_full, x_crop, labels, noise))[1] for labels in (y, y.flip(0)))
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_without_a_label_weight_batches_do_not_know_the_labels(execute):
    names = execute(label_weight=0.0, until="watched =")
    orders = []
    for seen in (names["labels"], names["labels"].flip(0)):
        orders.append([batch[0] for batch in names["batches_of"](seen, torch.Generator().manual_seed(0))])
    assert len(orders[0]) == 5
    assert all(torch.equal(a, b) for a, b in zip(*orders, strict=True))


def test_batches_hold_as_many_of_each_class_and_every_mask_meets_the_same_views(execute):
    seen = {}
    for kind in ("hard", "none", "random"):
        names = execute(mask=kind, until="watched =")
        stream = torch.Generator().manual_seed(0)
        seen[kind] = list(names["batches_of"](names["field_labels"](0), stream))
        assert all(batch[2].bincount().tolist() == [2] * 11 for batch in seen[kind])
    for kind in ("none", "random"):
        for a, b in zip(seen["hard"], seen[kind], strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 1.0])
def test_wrong_labels_change_the_stated_share(parts, share):
    names = parts(wrong_labels=share)
    given = names["field_labels"](0)
    assert (given != names["labels"]).sum().item() == round(share * 110)
    assert given.min() >= 0 and given.max() < 11
    if share == 0.3:
        assert not torch.equal(given, names["field_labels"](1))
        assert torch.equal(given, names["field_labels"](0))


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0), (0.01, 1), (0.1, 1), (0.3, 3), (1.0, 10)])
def test_labelled_keeps_a_share_of_each_class(parts, share, kept):
    names = parts(labelled=share)
    given = names["field_labels"](0)
    known = given >= 0
    assert given[known].bincount(minlength=11).tolist() == [kept] * 11
    assert torch.equal(given[known], names["labels"][known])


def test_images_without_a_label_count_in_no_loss_of_labels(parts):
    names = parts(positives="class")
    logits = torch.randn(4, 11, generator=torch.Generator().manual_seed(0))
    some = torch.tensor([3, -1, 5, -1])
    expected = torch.nn.functional.cross_entropy(logits[::2], some[::2])
    torch.testing.assert_close(names["label_loss"](logits, some), expected)
    assert names["label_loss"](logits, some * 0 - 1) == 0
    z_full, z_crop = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    alone = names["contrast"](z_full, z_crop, torch.ones(4, 32), some * 0 - 1)
    torch.testing.assert_close(alone, losses.nt_xent(z_full, z_crop, 0.5))


def test_planted_outliers_and_stages_are_found_where_they_lie_apart(execute):
    names = execute(until="run.uses", limit=660, image_height=16)
    stream = np.random.default_rng(0)
    planted, classes_of = names["planted"], names["labels"].numpy()
    z = stream.normal(size=(660, 32)) * 0.01
    late = np.zeros(660, bool)
    for c in range(11):
        stage = planted.stage[classes_of == c]
        late[classes_of == c] = (stage > stage[planted.outlier[classes_of == c] == 0].median()).numpy()
    z[:, 0] += late
    outlier = planted.outlier.numpy() > 0
    z[outlier, 1] += stream.choice([-4, 4], outlier.sum()) * (1 + stream.random(outlier.sum()))
    metrics, _ = names["outlier_metrics"](z)
    assert metrics["outlier_ap"] > 0.6 and metrics["outlier_precision"] > 0.6
    assert metrics["ari_stage"] > metrics["ari_weedy"]


@pytest.fixture
def run_all(execute_notebook, monkeypatch, tmp_path):
    """`run_all(**parameters)`: every cell of the chapter, at a size of seconds, recorded in `tmp_path`."""
    monkeypatch.setenv("PULLPUSH_WORK", str(tmp_path))
    return functools.partial(execute_notebook, CHAPTER, **TINY | {"epochs": 1, "limit": 99})


def test_photographs_of_unknown_licence_are_never_shown(run_all, monkeypatch, tmp_path):
    images = torch.randint(
        256, (330, 3, 24, 38), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    classes = ("cotton", "maize", *"abcdefghi")
    photographs = data.ImageSet(images, torch.arange(330) % 11, classes, "crops", "0" * 64)
    monkeypatch.setattr(data, "load", lambda name, split: photographs)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        names, drawn, _ = run_all(data="crops")
    assert {"training", "plane", "scores", "contingency", "inside-2"} <= set(drawn)
    assert not {"images", "views", "planted", "gallery", "outliers"} & set(drawn)
    assert all(figure.told.get("images") is None for figure in drawn.values())
    assert "no pictures here" in said.getvalue()
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert not {"thumbs", "gallery_pictures"} & set(arrays.files)
        assert arrays["flat"].shape == (99, 2) and arrays["gallery"].shape == (6, 8)
    assert names["named"] == [0, 1]


def test_photographs_are_shown_with_their_credit(run_all, monkeypatch):
    """CC BY 4.0 asks for it wherever they are seen, in the pages of recorded runs too."""
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(256, (330, 3, 24, 38), dtype=torch.uint8, generator=stream)
    weeds = data.ImageSet(images, torch.arange(330) % 11, tuple("abcdefghijk"), "deepweeds", "0" * 64)
    monkeypatch.setattr(data, "load", lambda name, split: weeds)
    with contextlib.redirect_stdout(io.StringIO()):
        _, drawn, _ = run_all(data="deepweeds")
    seen = {name for name, one in drawn.items() if one.kind == "image_grid" or "images" in one.told}
    assert seen == {"images", "views", "plane", "gallery"}
    for name in seen:
        assert drawn[name].told["caption"].endswith("Photographs: DeepWeeds, Olsen et al. 2019, CC BY 4.0.")


def test_every_figure_is_drawn_for_rendered_fields(run_all, tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        names, drawn, _ = run_all(method="simclr")
    shown = {"images", "full-size", "planted", "views", "gallery", "inside-2", "outliers", "idea", "gate"}
    assert shown <= set(drawn) and "gates" not in drawn
    assert "density" not in drawn["training"].told["y"]
    assert (tmp_path / "arrays.npz").stat().st_size < 300_000
    with np.load(tmp_path / "arrays.npz") as arrays:
        for name, count in (("thumbs", 99), ("gallery_pictures", 48)):
            assert sheets.unpack(arrays[name], count).shape[:2] == (count, 3)
        members = names["labels"].numpy()[arrays["gallery"]]
        assert (members == np.repeat(names["named"], 3)[:, None]).all()
        np.testing.assert_array_equal(arrays["gallery_outlier"], names["planted"].outlier[arrays["gallery"]])
        ranks = names["first"]["rank"][arrays["gallery"]]
        assert (ranks[::3].max(1) < 1).all() and (np.diff(ranks[::3]) > 0).sum() >= 14  # least likely first
    assert [names["classes"][c] for c in names["named"]] == ["cotton", "corn"]
