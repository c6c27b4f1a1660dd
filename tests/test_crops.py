"""Views of field photographs against torchvision on PIL images, one image at a time."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import functional as tv

from pullpush import crops, views

COLOUR = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
FACTORS = ("brightness", "contrast", "saturation", "hue")
VIEWS = {"window": crops.Window(size=8), "whole": crops.Window(), "turned": crops.Turned(size=10)}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def photographs(n, height=24, width=38, channels=3, seed=0):
    """Smooth colours with a little noise: no two rows, columns or samples are alike."""
    stream = seeded(seed)
    coarse = torch.rand(n, channels, 4, 5, generator=stream)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1).mul(230)
    return (smooth + 25 * torch.rand(n, channels, height, width, generator=stream)).byte()


def by_pil(view, images, parameters):
    """The views one by one: crop, resize, both flips, colours in their order, grey."""
    out = []
    for i, image in enumerate(images):
        row = {name: value[i] for name, value in parameters.items()}
        picture = Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())
        box = [int(row[name]) for name in ("top", "left", "height", "width")]
        if isinstance(view, crops.Window):
            picture = tv.crop(picture, *box)
        else:
            picture = tv.resized_crop(picture, *box, [view.size] * 2)
        picture = tv.hflip(picture) if row["flip"] else picture
        picture = tv.vflip(picture) if row["upside_down"] else picture
        if row["jitter"]:
            for operation in row["order"].tolist():
                picture = COLOUR[operation](picture, float(row[FACTORS[operation]]))
        if row["grayscale"]:
            picture = tv.rgb_to_grayscale(picture, len(picture.getbands()))
        array = np.array(picture)
        out.append(torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1))
    return torch.stack(out)


def levels(x):
    """Views as whole levels; fails if they are not."""
    assert x.dtype == torch.float32
    assert torch.equal((x * 255).round() / 255, x)
    return (x * 255).round().byte()


@pytest.mark.parametrize(
    ("height", "width", "size", "channels"),
    [
        (24, 38, 8, 3),
        (24, 38, None, 3),
        (38, 24, None, 3),
        (20, 20, 20, 3),
        (24, 38, 8, 1),
        (24, 38, None, 1),
    ],
)
def test_windows_are_pil_pixel_for_pixel(height, width, size, channels):
    view, stream = crops.Window(size=size), seeded(1)
    for seed in range(4):  # one order of the colour operations each
        images = photographs(20, height, width, channels, seed)
        parameters = view.draw(20, height, width, stream, "cpu")
        out = view.apply(images, parameters)
        assert out.shape == (20, channels, size or height, size or width)
        assert torch.equal(levels(out), by_pil(view, images, parameters))


def test_the_papers_shapes():
    images, stream = photographs(4, 120, 190), seeded(0)
    for view, shape in ((crops.Window(), (120, 190)), (crops.Window(size=32), (32, 32))):
        parameters = view.draw(4, 120, 190, stream, "cpu")
        out = view.apply(images, parameters)
        assert out.shape == (4, 3, *shape)
        assert torch.equal(levels(out), by_pil(view, images, parameters))
    assert crops.Turned(size=100)(images, stream).shape == (4, 3, 100, 100)


def test_resized_views_are_pil_to_one_level():
    view = crops.Turned(size=10, jitter_probability=0, grayscale=0)
    images = photographs(40)
    parameters = view.draw(40, 24, 38, seeded(2), "cpu")
    off = levels(view.apply(images, parameters)).int() - by_pil(view, images, parameters).int()
    assert off.abs().max() <= 1


def test_without_vertical_flips_it_is_the_view_of_simclr():
    ours, theirs = crops.Turned(size=10, upside_down=0), views.make("simclr", 10, blur=0.0)
    images = photographs(30)
    parameters = ours.draw(30, 24, 38, seeded(3), "cpu")
    assert not parameters["upside_down"].any()
    assert torch.equal(ours.apply(images, parameters), theirs.apply(images, parameters))
    turned = parameters | {"upside_down": torch.ones(30, dtype=torch.bool)}
    assert torch.equal(ours.apply(images, turned), theirs.apply(images, parameters).flip(2))


def test_a_blurred_window_is_the_blur_of_simclr():
    images = photographs(20, 16, 16)
    ours, theirs = crops.Window(blur=1.0), views.make("simclr", blur=1.0)
    parameters = ours.draw(20, 16, 16, seeded(3), "cpu")
    parameters["upside_down"][:] = False
    assert torch.equal(ours.apply(images, parameters), theirs.apply(images, parameters))
    assert not torch.equal(ours.apply(images, parameters), crops.Window().apply(images, parameters))


def test_every_place_of_a_window_is_as_likely():
    drawn = crops.Window(size=20).draw(6000, 24, 38, seeded(4), "cpu")
    for name, places in (("top", 5), ("left", 19)):
        counts = torch.bincount(drawn[name], minlength=places)
        assert len(counts) == places
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert (drawn["height"] == 20).all()
    assert (drawn["width"] == 20).all()
    whole = crops.Window().draw(10, 24, 38, seeded(4), "cpu")
    assert not whole["top"].any() and not whole["left"].any()
    assert (whole["height"] == 24).all() and (whole["width"] == 38).all()


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_flips_both_ways_are_independent_halves(view):
    drawn = view.draw(4000, 24, 38, seeded(5), "cpu")
    both = 2 * drawn["flip"].long() + drawn["upside_down"].long()
    assert stats.chisquare(torch.bincount(both, minlength=4).numpy()).pvalue > 1e-3
    assert not drawn["blur"].any()


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_the_generator_alone_decides_and_samples_differ(view):
    images, stream = photographs(1).expand(40, -1, -1, -1), seeded(6)
    torch.manual_seed(1)
    first, second = view(images, stream), view(images, stream)
    torch.manual_seed(2)
    assert torch.equal(view(images, seeded(6)), first)
    assert not torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=0)) > 35


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_s_view_does_not_depend_on_its_batch(view, channels, monkeypatch):
    images = photographs(15, channels=channels)
    parameters = view.draw(15, 24, 38, seeded(0), "cpu")
    whole = view.apply(images, parameters)
    monkeypatch.setattr(views, "CPU_BLOCK", 4 * channels * 24 * 38)
    assert torch.equal(view.apply(images, parameters), whole)
    backwards = torch.arange(14, -1, -1)
    turned = view.apply(images[backwards], {name: value[backwards] for name, value in parameters.items()})
    assert torch.equal(turned[backwards], whole)


def test_float_images_give_the_views_of_their_levels():
    images = photographs(10)
    for view in VIEWS.values():
        out = view(images, seeded(0))
        assert torch.equal(view(images / 255, seeded(0)), out)
        assert out.is_contiguous()
        assert not out.is_inference()


def test_a_window_that_nothing_is_done_to_is_the_image():
    view = crops.Window(flip=0, upside_down=0, jitter_probability=0, grayscale=0)
    images = photographs(5)
    assert torch.equal(view(images, seeded(0)), images / 255)
    flipped = crops.Window(flip=1, upside_down=1, jitter_probability=0, grayscale=0)(images, seeded(0))
    assert torch.equal(flipped, images.flip(2, 3) / 255)


def test_an_empty_batch_gives_an_empty_batch():
    assert crops.Window()(torch.empty(0, 3, 8, 9), seeded(0)).shape == (0, 3, 8, 9)
    assert crops.Window(size=4)(torch.empty(0, 3, 8, 9), seeded(0)).shape == (0, 3, 4, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_gpu_gives_the_same_pixels_without_waiting(view):
    images = photographs(32)
    on_gpu = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        same = view(on_gpu, seeded(0))
        other = view(on_gpu, torch.Generator("cuda").manual_seed(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert other.device.type == "cuda"
    assert torch.equal(same.cpu(), view(images, seeded(0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: crops.Turned(upside_down=1.5), "upside_down=1.5 is not allowed. Give a probability"),
        (lambda: crops.Window(size=0), "size=0 is not allowed"),
        (
            lambda: crops.Window(size=32)(photographs(2), seeded(0)),
            "size=32 does not fit into images of 24x38. Give up to 24",
        ),
        (lambda: crops.Window()(torch.zeros(2, 2, 8, 8), seeded(0)), r"shape \(2, 2, 8, 8\)"),
        (lambda: crops.Window()(torch.zeros(2, 3, 8, 8).long(), seeded(0)), "neither uint8 nor float"),
    ],
)
def test_bad_input_says_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()
