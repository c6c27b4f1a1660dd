"""Views against torchvision on PIL images: the same parameters give the same pixels, and are drawn alike."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import transforms
from torchvision.transforms import functional as tv

from pullpush import views

COLOUR = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
FACTORS = ("brightness", "contrast", "saturation", "hue")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def pictures(n, channels, height, width, seed=0):
    """Smooth, noisy, grey, half black and one-coloured images, uint8."""
    stream = seeded(seed)
    coarse = torch.rand(n, channels, height // 4 + 2, width // 4 + 2, generator=stream)
    images = functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1).mul(255).byte()
    images[1::5] = torch.randint(256, images[1::5].shape, generator=stream).byte()
    images[2::5] = images[2::5, :1]
    images[3::5, :, :, : width // 2] = 0
    images[4::10] = images[4::10, :, :1, :1]
    return images


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())


def to_levels(picture):
    array = np.array(picture)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)


def simclr_by_pil(image, row, size, kernel=3):
    """The practicum's chain on one PIL image with the parameters of one sample."""
    box = [int(row[name]) for name in ("top", "left", "height", "width")]
    picture = tv.resized_crop(to_pil(image), *box, [size, size])
    if row["flip"]:
        picture = tv.hflip(picture)
    if row["jitter"]:
        for operation in row["order"].tolist():
            picture = COLOUR[operation](picture, float(row[FACTORS[operation]]))
    if row["grayscale"]:
        picture = tv.rgb_to_grayscale(picture, len(picture.getbands()))
    if row["blur"]:
        picture = tv.gaussian_blur(picture, [kernel, kernel], [float(row["sigma"])] * 2)
    return to_levels(picture)


def pad_rotate_scale_by_pil(image, angle, size):
    picture = tv.pad(tv.resize(to_pil(image), [2 * size]), [18])
    picture = tv.center_crop(tv.rotate(picture, float(angle)), [int(2.25 * size)])
    return to_levels(tv.resize(picture, [size]))


def by_pil(reference, images, parameters, *arguments):
    rows = ({name: value[i] for name, value in parameters.items()} for i in range(len(images)))
    return torch.stack([reference(image, row, *arguments) for image, row in zip(images, rows, strict=True)])


def levels(x):
    """Views as whole levels; fails if they are not."""
    assert x.dtype == torch.float32
    assert torch.equal((x * 255).round() / 255, x)
    return (x * 255).round().to(torch.int16)


def untouched(n, height, width):
    """Parameters of simclr that leave images of this size as they are."""
    off, one = torch.zeros(n, dtype=torch.bool), torch.ones(n)
    parameters = {"flip": off, "jitter": off, "grayscale": off, "blur": off, "sigma": one, "hue": 0 * one}
    parameters |= {"brightness": one, "contrast": one, "saturation": one}
    parameters |= {"top": torch.zeros(n, dtype=torch.int64), "left": torch.zeros(n, dtype=torch.int64)}
    parameters |= {"height": torch.full((n,), height), "width": torch.full((n,), width)}
    return parameters | {"order": torch.arange(4).expand(n, 4)}


# The same pixels


@pytest.mark.parametrize(
    ("channels", "side", "size"), [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 8, 8), (3, 20, 47)]
)
def test_simclr_without_blur_is_pil_pixel_for_pixel(channels, side, size):
    view, stream = views.make("simclr", size, blur=0.0), seeded(1)
    for seed in range(4):  # one order of the colour operations each
        images = pictures(40, channels, side, side, seed)
        parameters = view.draw(40, side, side, stream, "cpu")
        expected = by_pil(simclr_by_pil, images, parameters, size)
        assert torch.equal(levels(view.apply(images, parameters)), expected.short())


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32)])
def test_simclr_with_blur_is_pil_to_one_level(channels, side, kernel):
    view = views.make("simclr", kernel=kernel, blur=0.8)
    images = pictures(150, channels, side, side)
    parameters = view.draw(150, side, side, seeded(2), "cpu")
    expected = by_pil(simclr_by_pil, images, parameters, side, kernel)
    off = (levels(view.apply(images, parameters)) - expected).abs()
    assert off.max() <= 1
    assert off.float().mean() < 1e-4  # only values within rounding of a half


def test_every_order_of_the_colour_operations_is_pil():
    view, images = views.make("simclr", blur=0.0), pictures(10, 3, 12, 12)
    for order in itertools.permutations(range(4)):
        parameters = view.draw(10, 12, 12, seeded(3), "cpu") | {"order": torch.tensor([order]).expand(10, 4)}
        assert torch.equal(
            levels(view.apply(images, parameters)), by_pil(simclr_by_pil, images, parameters, 12).short()
        )


def test_hue_is_pil_for_every_colour():
    view, colours = views.make("simclr", blur=0.0, grayscale=0.0), torch.arange(256, dtype=torch.uint8)
    green, blue = torch.meshgrid(colours, colours, indexing="ij")
    hues = torch.linspace(-0.5, 0.5, 16)
    for reds, hue in zip(colours.split(16), hues, strict=True):
        planes = (reds[:, None, None].expand(16, 256, 256), green.expand(16, -1, -1), blue.expand(16, -1, -1))
        images = torch.stack(planes, 1)
        parameters = untouched(16, 256, 256) | {"jitter": torch.ones(16, dtype=torch.bool)}
        shifted = view.apply(images, parameters | {"hue": hue.expand(16)})
        strip = images.transpose(0, 1).reshape(3, -1, 256)
        expected = to_levels(tv.adjust_hue(to_pil(strip), float(hue)))
        assert torch.equal(levels(shifted).transpose(0, 1).reshape(3, -1, 256), expected.short())


@pytest.mark.parametrize("name", FACTORS[:3])
@pytest.mark.parametrize("channels", [1, 3])
def test_single_colour_operations_are_pil(name, channels):
    images = pictures(100, channels, 16, 20)
    factors = torch.cat([torch.tensor([0.0, 0.5, 1.0, 1.5]), torch.linspace(0, 2, 96)])
    on = {"jitter": torch.ones(100, dtype=torch.bool), name: factors}
    parameters = (
        untouched(100, 16, 20) | on | {"height": torch.full((100,), 16), "width": torch.full((100,), 16)}
    )
    adjust = COLOUR[FACTORS.index(name)]
    cut = images[..., :16]
    expected = [to_levels(adjust(to_pil(x), float(f))) for x, f in zip(cut, factors, strict=True)]
    # hue 0 still passes through PIL's 8-bit HSV, so it is taken out of the jitter here
    view = views.make("simclr", 16, jitter=(1, 1, 1, 0), blur=0, grayscale=0)
    assert torch.equal(levels(view.apply(images, parameters)), torch.stack(expected).short())


@pytest.mark.parametrize(
    ("channels", "side", "size"), [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 24, 40), (1, 150, 150)]
)
def test_pad_rotate_scale_is_pil_pixel_for_pixel(channels, side, size):
    view, images = views.make("pad_rotate_scale", size), pictures(30, channels, side, side)
    parameters = view.draw(30, side, side, seeded(4), "cpu")
    parameters["angle"][:3] = torch.tensor([0.0, 15.0, -15.0])
    expected = [pad_rotate_scale_by_pil(x, a, size) for x, a in zip(images, parameters["angle"], strict=True)]
    assert torch.equal(levels(view.apply(images, parameters)), torch.stack(expected).short())


def test_wide_rotation_without_padding_is_black_outside():
    view = views.make("pad_rotate_scale", degrees=180, padding=0)
    images = torch.full((20, 1, 16, 16), 255, dtype=torch.uint8)
    parameters = view.draw(20, 16, 16, seeded(5), "cpu")
    for image, angle in zip(view.apply(images, parameters), parameters["angle"], strict=True):
        turned = tv.rotate(Image.new("L", (32, 32), 255), float(angle))
        expected = to_levels(tv.resize(tv.center_crop(turned, [36]), [16]))
        assert torch.equal(levels(image), expected.short())


@pytest.mark.parametrize(("side", "size"), [(28, 28), (28, 32), (64, 28), (8, 28), (50, 7)])
def test_none_is_the_image_or_pil_resize(side, size):
    images = pictures(10, 3, side, side)
    expected = torch.stack([to_levels(tv.resize(to_pil(x), [size])) for x in images])
    assert torch.equal(levels(views.make("none", size)(images, seeded(0))), expected.short())


@pytest.mark.parametrize(("height", "width"), [(90, 40), (40, 90)])
def test_shrinking_is_pil_to_one_level_whichever_pass_comes_first(height, width):
    images = pictures(20, 3, height, width)
    view = views.make("simclr", 24, jitter_probability=0, grayscale=0, blur=0)
    parameters = view.draw(20, height, width, seeded(6), "cpu")
    off = levels(view.apply(images, parameters)) - by_pil(simclr_by_pil, images, parameters, 24).short()
    assert off.abs().max() <= 1


# The same distributions


def same_distribution(ours, theirs):
    return stats.ks_2samp(np.asarray(ours), np.asarray(theirs)).pvalue > 1e-3


@pytest.fixture
def global_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("height", "width", "options"),
    [(28, 28, {}), (40, 64, {}), (32, 32, {"scale": (0.9, 1.0), "ratio": (0.4, 2.5)})],
)
def test_crops_are_distributed_as_torchvisions(height, width, options, global_seed):
    parameters = views.make("simclr", 28, **options).draw(4000, height, width, seeded(7), "cpu")
    crop, image = transforms.RandomResizedCrop(28, **options), torch.empty(1, height, width)
    theirs = torch.tensor([crop.get_params(image, crop.scale, crop.ratio) for _ in range(4000)])
    ours = torch.stack([parameters[name] for name in ("top", "left", "height", "width")], 1)
    for mine, other in zip(ours.T, theirs.T, strict=True):
        assert same_distribution(mine, other)
    assert same_distribution(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])
    assert same_distribution(ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2])
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()


@pytest.mark.parametrize(("height", "width"), [(30, 30), (10, 60), (60, 10), (31, 44)])
@pytest.mark.parametrize("ratio", [(3.0, 4.0), (0.2, 0.3), (0.9, 1.1)])
def test_impossible_crops_fall_back_to_torchvisions_centre(height, width, ratio):
    view = views.make("simclr", 8, scale=(1.0, 1.0), ratio=ratio)
    parameters = view.draw(5, height, width, seeded(0), "cpu")
    expected = transforms.RandomResizedCrop.get_params(torch.empty(1, height, width), [1.0, 1.0], list(ratio))
    for name, value in zip(("top", "left", "height", "width"), expected, strict=True):
        assert (parameters[name] == value).all()


def test_factors_are_distributed_as_torchvisions(global_seed):
    ours = views.make("simclr").draw(4000, 28, 28, seeded(8), "cpu")
    jitter, blur = transforms.ColorJitter(0.8, 0.8, 0.8, 0.2), transforms.GaussianBlur(3, (0.1, 2.0))
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    theirs = [jitter.get_params(*ranges)[1:] for _ in range(4000)]
    for name, other in zip(FACTORS, zip(*theirs, strict=True), strict=True):
        assert same_distribution(ours[name], other)
    assert same_distribution(ours["sigma"], [blur.get_params(*blur.sigma) for _ in range(4000)])
    angles = [transforms.RandomRotation.get_params([-15.0, 15.0]) for _ in range(4000)]
    assert same_distribution(
        views.make("pad_rotate_scale").draw(4000, 28, 28, seeded(9), "cpu")["angle"], angles
    )


@pytest.mark.parametrize(
    ("name", "option", "share"),
    [("flip", "flip", 0.5), ("jitter", "jitter_probability", 0.8), ("grayscale", "grayscale", 0.2)],
)
def test_choices_have_their_probability_per_sample(name, option, share):
    assert stats.binomtest(int(_draw(name).sum()), 4000, share).pvalue > 1e-3
    assert not _draw(name, **{option: 0.0}).any()
    assert _draw(name, **{option: 1.0}).all()


def _draw(name, **options):
    return views.make("simclr", **options).draw(4000, 28, 28, seeded(10), "cpu")[name]


def test_choices_and_factors_are_independent():
    drawn = views.make("simclr", blur=0.5).draw(4000, 28, 28, seeded(11), "cpu")
    columns = torch.stack(
        [drawn[n].double() for n in (*FACTORS, "sigma", "flip", "jitter", "grayscale", "blur", "top", "left")]
    )
    off_diagonal = torch.corrcoef(columns) - torch.eye(len(columns))
    assert off_diagonal[:9, :9].abs().max() < 0.06


def test_the_order_is_one_per_batch_and_uniform_over_batches():
    view, stream = views.make("simclr"), seeded(12)
    orders = [view.draw(3, 8, 8, stream, "cpu")["order"] for _ in range(1200)]
    assert all((order == order[0]).all() for order in orders)
    counts = Counter(tuple(order[0].tolist()) for order in orders)
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


# Properties


@pytest.mark.parametrize("name", ["pad_rotate_scale", "simclr"])
def test_every_sample_of_a_batch_gets_its_own_view(name):
    noise = pictures(2, 3, 32, 32)[1:].expand(64, 3, 32, 32)
    out = views.make(name)(noise, seeded(0)).flatten(1)
    assert len(out.unique(dim=0)) > 55  # two angles may be too close to tell apart


@pytest.mark.parametrize("name", views.FAMILIES)
def test_the_generator_alone_decides_and_moves_on(name):
    view, images = views.make(name), pictures(16, 3, 32, 32)
    stream = seeded(0)
    torch.manual_seed(1)
    first, second = view(images, stream), view(images, stream)
    torch.manual_seed(2)
    assert torch.equal(view(images, seeded(0)), first)
    assert torch.equal(second, first) == (name == "none")


@pytest.mark.parametrize("name", views.FAMILIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_s_view_does_not_depend_on_its_batch(name, channels, monkeypatch):
    view, images = views.make(name), pictures(30, channels, 20, 20)
    parameters = view.draw(30, 20, 20, seeded(0), "cpu")
    whole = view.apply(images, parameters)
    monkeypatch.setattr(views, "CPU_BLOCK", 7 * channels * 400)
    assert torch.equal(view.apply(images, parameters), whole)
    backwards = torch.arange(29, -1, -1)
    turned = view.apply(images[backwards], {key: value[backwards] for key, value in parameters.items()})
    assert torch.equal(turned[backwards], whole)


@pytest.mark.parametrize("chosen", [[], [4], [0, 3, 5], range(6)])
def test_on_a_cpu_only_the_chosen_are_jittered_and_each_stays_in_its_place(chosen):
    """`_jitter`, which changes all of them by 0/1 factors, serves GPUs."""
    view, images = views.make("simclr", blur=0, grayscale=0), pictures(6, 3, 16, 16)
    parameters = view.draw(6, 16, 16, seeded(0), "cpu")
    parameters["jitter"] = torch.tensor([row in chosen for row in range(6)])
    out = view.apply(images, parameters)
    plain = view.apply(images, parameters | {"jitter": torch.zeros(6, dtype=torch.bool)})
    changed = (out != plain).flatten(1).any(1)
    assert torch.equal(changed, parameters["jitter"])
    plan = view._plan(parameters, 16, 16, 16)
    levels_of_all = plain.mul(255).round().transpose(0, 1).contiguous()
    assert torch.equal(view._jitter(levels_of_all, plan).transpose(0, 1).div(255), out)


@pytest.mark.parametrize("name", views.FAMILIES)
def test_float_images_give_the_views_of_their_levels_and_inputs_stay(name):
    view, images = views.make(name), pictures(12, 3, 16, 16)
    scaled, kept = images / 255, images.clone()
    out = view(images, seeded(0))
    assert torch.equal(view(scaled, seeded(0)), out)
    assert torch.equal(images, kept)
    assert torch.equal(scaled, kept / 255)
    assert out.shape == (12, 3, 16, 16)
    assert out.is_contiguous()
    assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_parameters_that_do_nothing_give_the_image(channels):
    images = pictures(10, channels, 24, 24)
    assert torch.equal(views.make("simclr").apply(images, untouched(10, 24, 24)), images / 255)


def test_flipping_twice_gives_the_image():
    images, mirror = (
        pictures(10, 3, 24, 24),
        untouched(10, 24, 24) | {"flip": torch.ones(10, dtype=torch.bool)},
    )
    once = views.make("simclr").apply(images, mirror)
    assert torch.equal(once, images.flip(3) / 255)
    assert torch.equal(views.make("simclr").apply(once, mirror), images / 255)


def test_options_switch_operations_off():
    cc = views.make("simclr", flip=0.0, jitter=(0.4, 0.4, 0.4, 0.1), blur=0.0)
    drawn = cc.draw(2000, 32, 32, seeded(0), "cpu")
    assert not drawn["flip"].any()
    assert not drawn["blur"].any()
    assert drawn["brightness"].min() >= 0.6
    assert drawn["brightness"].max() <= 1.4
    assert drawn["hue"].abs().max() <= 0.1
    images = pictures(20, 3, 32, 32)
    crop_only = views.make(
        "simclr", flip=0, jitter_probability=0, grayscale=0, blur=0, scale=(1, 1), ratio=(1, 1)
    )
    assert torch.equal(crop_only(images, seeded(0)), images / 255)


def test_views_are_values_and_know_no_state():
    assert views.make("simclr", flip=0.0) == views.make("simclr", flip=0.0)
    assert views.make("simclr") != views.make("simclr", 32)
    assert len({views.make(name) for name in views.FAMILIES}) == 3


def test_an_empty_batch_gives_an_empty_batch():
    for name in views.FAMILIES:
        assert views.make(name)(torch.empty(0, 3, 8, 8), seeded(0)).shape == (0, 3, 8, 8)


class Reads(TorchDispatchMode):
    """Notes what would make the host wait for a GPU: reading a value, a shape that depends on values."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal.default")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = func is torch.ops.aten.index.Tensor and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if masks or any(name in str(func) for name in self.WAITING):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", views.FAMILIES)
def test_no_value_is_read_back_to_the_host(name):
    with Reads() as reads:
        views.make(name)(pictures(8, 3, 16, 16), seeded(0))
    assert reads.seen == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", views.FAMILIES)
def test_a_gpu_gives_the_same_pixels_without_waiting(name):
    view, images = views.make(name, **({"blur": 0.0} if name == "simclr" else {})), pictures(64, 3, 32, 32)
    on_gpu = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        same = view(on_gpu, seeded(0))
        other = view(on_gpu, torch.Generator("cuda").manual_seed(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert other.device.type == "cuda"
    assert torch.equal(same.cpu(), view(images, seeded(0)))


def test_parameters_are_on_the_device_asked_for():
    drawn = views.make("simclr").draw(4, 8, 8, seeded(0), "meta")
    assert {value.device.type for name, value in drawn.items() if name != "order"} == {"meta"}
    assert drawn["order"].device.type == "cpu"
    assert {len(value) for value in drawn.values()} == {4}


# Storing and scaling


@pytest.mark.parametrize("name", views.FAMILIES)
def test_freeze_keeps_one_view_of_each_image(name):
    view, images = views.make(name), pictures(25, 1, 28, 28)
    frozen = views.freeze(view, images, seeded(0), chunk=10)
    stream = seeded(0)
    fresh = torch.cat([view(part, stream) for part in images.split(10)])
    assert frozen.dtype == torch.uint8
    assert torch.equal(frozen / 255, fresh)
    assert torch.equal(views.freeze(view, images, seeded(0), chunk=10), frozen)
    if name == "none":
        assert torch.equal(frozen, images)


def test_normalize_is_to_tensor_and_normalize():
    images = pictures(5, 3, 16, 16)
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    expected = torch.stack([steps(to_pil(x)) for x in images])
    assert torch.equal(views.normalize(images), expected)
    assert torch.equal(views.normalize(images / 255), expected)
    torch.testing.assert_close(views.normalize(images, mean=0.1, std=0.2), (images / 255 - 0.1) / 0.2)


# Errors


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "simclrr",
            {},
            r"Unknown views 'simclrr'\. Did you mean 'simclr'\? Allowed: none, pad_rotate_scale, simclr\.",
        ),
        ("flowers", {}, "Unknown views 'flowers'. Allowed: none"),
        (
            "simclr",
            {"greyscale": 0.1},
            r"Unknown option 'greyscale' of views 'simclr'. Did you mean 'grayscale'\?",
        ),
        ("none", {"flip": 0.5}, "Unknown option 'flip' of views 'none'. They have none besides size."),
        ("simclr", {"_growth": 2}, "Unknown option '_growth'"),
        ("simclr", {"size": 0}, "size=0 is not allowed"),
        ("simclr", {"flip": 1.5}, "flip=1.5 is not allowed. Give a probability from 0 to 1."),
        ("simclr", {"scale": (0.5, 0.1)}, r"scale=\(0.5, 0.1\) is not allowed. Give 0 < low <= high <= 1."),
        ("simclr", {"ratio": (0.0, 1.0)}, "ratio=.* is not allowed"),
        ("simclr", {"sigma": (0.0, 1.0)}, "sigma=.* is not allowed"),
        ("simclr", {"jitter": (0.8, 0.8, 0.8, 0.6)}, "jitter=.*hue.*up to 0.5"),
        ("simclr", {"jitter": (0.8, 0.8, 0.8)}, "jitter=.*four strengths"),
        ("simclr", {"kernel": 4}, "kernel=4 is not allowed. Give an odd number of pixels."),
        ("pad_rotate_scale", {"degrees": -1}, "degrees=-1 is not allowed"),
        ("pad_rotate_scale", {"padding": -1}, "padding=-1 is not allowed"),
    ],
)
def test_wrong_names_and_options_say_what_is_allowed(name, options, message):
    with pytest.raises(ValueError, match=message):
        views.make(name, **options)


@pytest.mark.parametrize(
    ("name", "images", "message"),
    [
        ("none", torch.zeros(3, 8, 8), r"Images of shape \(3, 8, 8\)"),
        ("simclr", torch.zeros(2, 8, 8, 3), r"Images of shape \(2, 8, 8, 3\)"),
        ("simclr", torch.zeros(2, 3, 8, 8, dtype=torch.int64), "Images of type torch.int64"),
        (
            "simclr",
            torch.zeros(2, 3, 8, 10),
            r"Images of 8x10 are not square\. Give the side of views as `size`\.",
        ),
        ("simclr", torch.zeros(2, 3, 1, 1), "kernel=3 is too wide for views of 1 pixels. Give up to 1."),
    ],
)
def test_wrong_images_say_what_is_wrong(name, images, message):
    with pytest.raises(ValueError, match=message):
        views.make(name)(images, seeded(0))


def test_pad_rotate_scale_needs_square_images():
    with pytest.raises(ValueError, match="pad_rotate_scale needs square images, not 8x10. Crop them first."):
        views.make("pad_rotate_scale", 8)(torch.zeros(2, 3, 8, 10), seeded(0))


def test_freeze_needs_a_chunk():
    with pytest.raises(ValueError, match="chunk=0 is not allowed"):
        views.freeze(views.make("none"), torch.zeros(2, 3, 8, 8), seeded(0), chunk=0)
