"""Random views of a batch of images, drawn per sample, on the batch's device.

Taught in "What a view may destroy" and "Pair against triplet".

Three families, those of the practicum, built by name with `make`:

    none              the image itself
    pad_rotate_scale  Resize(2s), Pad(18), RandomRotation(15), CenterCrop(2.25 s), Resize(s)
    simclr            RandomResizedCrop, flip, ColorJitter, RandomGrayscale, GaussianBlur
                      (Chen et al. 2020, arXiv:2002.05709)

The definitions are torchvision's on PIL images, down to the arithmetic: values are whole levels 0..255 after
every operation, resizing uses PIL's 22-bit weights, hue goes through PIL's 8-bit HSV. Given the same
parameters the result is PIL's own, pixel for pixel, except that a blurred value between two levels may fall
on either. (Where a resize shrinks the height more than the width, Pillow from 13 on takes the vertical pass
first and may differ by one level at that step; square images that keep their size never meet this.) What
differs from torchvision is how parameters are drawn: one row a sample, from an explicit generator, and the
order of the four colour operations once a batch.

A view is used in one step, `view(images, generator)`, or in two, `view.apply(images, view.draw(...))`, when
the parameters themselves are of interest. Neither waits for the device: no value is read back to the host.
"""

from __future__ import annotations

import difflib
import functools
import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

Parameters = dict[str, Tensor]

WEIGHT_BITS = 22  # PIL resizes 8-bit images with integer weights of this many fractional bits
ROTATION_BITS = 16  # and rotates them with coordinates of this many
CROP_TRIES = 10  # torchvision redraws an impossible crop this often before it takes the centre
CPU_BLOCK = 3 * 2**17  # values of a batch that are worked on together on a CPU: 1.5 MB
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # torchvision's numbering of the colour operations


@dataclass(frozen=True)
class View:
    """One family of random views with its settings.

    size: side of the result in pixels, by default the input's (which then must be square). Families set
    their own options, implement `draw` and `_render`, and are listed in `FAMILIES`.
    """

    size: int | None = None
    _growth: ClassVar[int] = 1  # how many times larger than image and view the intermediate results are

    def __post_init__(self) -> None:
        _check(self.size is None or self.size >= 1, "size", self.size, "a side from 1, or None to keep it")

    def draw(
        self, n: int, height: int, width: int, generator: torch.Generator, device: torch.device | str
    ) -> Parameters:
        """Parameters for n images of height x width, one row a sample, on `device`.

        They are drawn on the generator's own device: a CPU generator gives the same views on every device.
        """
        raise NotImplementedError

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """The views given by `parameters`.

        images: (n, c, h, w) with c 1 or 3, uint8 or float in [0, 1] (rounded to the nearest of 256 levels).
        Returns (n, c, size, size), float32 in [0, 1]. Raises ValueError for any other shape or type.
        """
        _check_images(images)
        n, c, height, width = images.shape
        shape = self._shape(height, width)
        result = torch.empty((n, c, *shape), device=images.device)  # not in inference mode: for training
        # In blocks on a CPU: what stays in the cache and in the allocator's hands is several times faster.
        values = n * self._growth * c * max(height * width, shape[0] * shape[1])
        blocks = min(n, 1 if images.is_cuda else math.ceil(values / CPU_BLOCK))
        with torch.inference_mode():
            plan = self._plan(parameters, height, width, shape[0])
            for block in range(blocks):
                rows = slice(block * n // blocks, (block + 1) * n // blocks)
                chosen = {name: value[rows] for name, value in plan.items()}
                torch.div(self._render(_levels(images[rows]), chosen, shape[0]), 255, out=result[rows])
        return result

    def _shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the views of images of height x width."""
        if self.size is None and height != width:
            raise ValueError(f"Images of {height}x{width} are not square. Give the side of views as `size`.")
        side = self.size or height
        return side, side

    def _plan(self, parameters: Parameters, height: int, width: int, side: int) -> Parameters:
        """The parameters, with what can be computed from them for all samples at once."""
        return parameters

    def _render(self, x: Tensor, plan: Parameters, side: int) -> Tensor:
        """Views of x (n, c, h, w), int32 levels: (n, c, side, side), levels of any numeric type."""
        raise NotImplementedError

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Fresh views of `images`: draw, then apply."""
        _check_images(images)
        n, _, height, width = images.shape
        return self.apply(images, self.draw(n, height, width, generator, images.device))


@dataclass(frozen=True)
class Same(View):
    """`none`: the image itself, resized (bilinear, antialiased) only where `size` asks for it."""

    def draw(
        self, n: int, height: int, width: int, generator: torch.Generator, device: torch.device | str
    ) -> Parameters:
        return {}

    def _render(self, x: Tensor, plan: Parameters, side: int) -> Tensor:
        return _resize(x, side)


@dataclass(frozen=True)
class PadRotateScale(View):
    """`pad_rotate_scale`: rotation on a padded canvas of twice the side, and a central cut scaled back.

    degrees: angles are uniform in [-degrees, degrees]. padding: black pixels around the canvas. Parameters:
    angle (n,) in degrees, counter-clockwise. Rotation takes the nearest pixel, as torchvision's default.
    """

    degrees: float = 15.0
    padding: int = 18
    _growth: ClassVar[int] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.degrees >= 0, "degrees", self.degrees, "a number from 0")
        _check(self.padding >= 0, "padding", self.padding, "a whole number from 0")

    def draw(
        self, n: int, height: int, width: int, generator: torch.Generator, device: torch.device | str
    ) -> Parameters:
        angle = _uniform((n,), -self.degrees, self.degrees, generator).float()
        return _placed({"angle": angle}, generator, device)

    def _render(self, x: Tensor, plan: Parameters, side: int) -> Tensor:
        height, width = x.shape[-2:]
        if height != width:
            raise ValueError(f"pad_rotate_scale needs square images, not {height}x{width}. Crop them first.")
        enlarged = _resize(x, 2 * side)
        return _resize(_rotate_and_cut(enlarged, self.padding, plan["angle"], int(2.25 * side)), side)


@dataclass(frozen=True)
class SimCLR(View):
    """`simclr`: crop, flip, colour jitter, grayscale, blur.

    scale, ratio: range of the crop's share of the area, and of width / height (log-uniform). flip:
    probability of a mirror image. jitter: strengths of brightness, contrast, saturation (factors uniform in
    [max(0, 1 - strength), 1 + strength]) and hue (shift uniform in [-strength, strength], at most 0.5 of the
    circle), applied together with jitter_probability. grayscale: probability of losing colour. blur:
    probability of a Gaussian blur of `kernel` x `kernel` pixels, sigma uniform; the practicum always blurs.

    Parameters, each (n,): top, left, height, width of the crop; flip, jitter, grayscale, blur (bool);
    brightness, contrast, saturation, hue, sigma; and order (n, 4), the order of the colour operations, on the
    CPU and the same in every row. On one channel saturation, hue and grayscale do nothing, as in torchvision.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    jitter_probability: float = 0.8
    grayscale: float = 0.2
    blur: float = 1.0
    kernel: int = 3
    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("flip", "jitter_probability", "grayscale", "blur"):
            _check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a probability from 0 to 1")
        for name, highest in (("scale", 1.0), ("ratio", math.inf), ("sigma", math.inf)):
            low, high = getattr(self, name)
            _check(0 < low <= high <= highest, name, (low, high), f"0 < low <= high <= {highest:g}")
        possible = len(self.jitter) == 4 and min(self.jitter) >= 0 and self.jitter[HUE] <= 0.5
        _check(possible, "jitter", self.jitter, "four strengths from 0, the last one (hue) up to 0.5")
        _check(self.kernel >= 1 and self.kernel % 2 == 1, "kernel", self.kernel, "an odd number of pixels")

    def draw(
        self, n: int, height: int, width: int, generator: torch.Generator, device: torch.device | str
    ) -> Parameters:
        parameters = self._draw_crop(n, height, width, generator)
        probabilities = {
            "flip": self.flip,
            "jitter": self.jitter_probability,
            "grayscale": self.grayscale,
            "blur": self.blur,
        }
        for name, probability in probabilities.items():
            parameters[name] = _uniform((n,), 0, 1, generator) < probability
        for name, strength in zip(("brightness", "contrast", "saturation"), self.jitter, strict=False):
            parameters[name] = _uniform((n,), max(0.0, 1 - strength), 1 + strength, generator).float()
        parameters["hue"] = _uniform((n,), -self.jitter[HUE], self.jitter[HUE], generator).float()
        parameters["sigma"] = _uniform((n,), *self.sigma, generator).float()
        parameters = _placed(parameters, generator, device)
        # The host walks through the operations, so it must know their order without asking the device.
        parameters["order"] = torch.randperm(4, generator=_on_host(generator)).expand(n, 4)
        return parameters

    def _draw_crop(self, n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
        """Boxes of RandomResizedCrop: the first possible of ten tries, else the largest central one."""
        tries = (n, CROP_TRIES)
        area = height * width * _uniform(tries, *self.scale, generator)
        ratio = _uniform(tries, math.log(self.ratio[0]), math.log(self.ratio[1]), generator).exp()
        widths, heights = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        possible = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        first = possible.byte().argmax(1, keepdim=True)  # of equal values, argmax gives the first
        found = possible.gather(1, first).squeeze(1)
        central_height, central_width = height, width
        if width / height < self.ratio[0]:
            central_height = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            central_width = round(height * self.ratio[1])
        crop_height = torch.where(found, heights.gather(1, first).squeeze(1), central_height)
        crop_width = torch.where(found, widths.gather(1, first).squeeze(1), central_width)
        top = (_uniform((n,), 0, 1, generator) * (height - crop_height + 1)).long()
        left = (_uniform((n,), 0, 1, generator) * (width - crop_width + 1)).long()
        return {
            "top": torch.where(found, top, (height - central_height) // 2),
            "left": torch.where(found, left, (width - central_width) // 2),
            "height": crop_height,
            "width": crop_width,
        }

    def _plan(self, parameters: Parameters, height: int, width: int, side: int) -> Parameters:
        plan, flip = dict(parameters), parameters["flip"]
        indices, weights = _taps(  # of both axes at once, columns first
            torch.cat([parameters["left"], parameters["top"]]),
            torch.cat([parameters["width"], parameters["height"]]),
            max(width, height),
            side,
            torch.cat([flip, torch.zeros_like(flip)]),
        )
        plan["x_indices"], plan["y_indices"] = indices.chunk(2)
        plan["x_weights"], plan["y_weights"] = weights.chunk(2)
        for name in ("brightness", "contrast", "saturation"):
            plan[name] = plan[name].where(parameters["jitter"], 1)
        return plan

    def _render(self, x: Tensor, plan: Parameters, side: int) -> Tensor:
        # From here on channels come first, (c, n, h, w): colour works on whole ones.
        x = _resample_columns(x, plan["x_indices"], plan["x_weights"])
        x = _resample_rows(x, plan["y_indices"], plan["y_weights"]).float()
        # In grey there is too little to spare, and on a GPU the chosen cannot be counted without waiting.
        x = self._jitter(x, plan) if x.is_cuda or len(x) == 1 else self._jitter_chosen(x, plan)
        if self.grayscale > 0 and len(x) == 3:
            x.lerp_(_luma(x), _column(plan["grayscale"].float()))
        x = x.transpose(0, 1)
        if self.blur > 0:
            x = _blur(x, plan["sigma"], plan["blur"], self.kernel)
        return x

    def _jitter_chosen(self, x: Tensor, plan: Parameters) -> Tensor:
        """`_jitter`, sparing the samples that keep their colours: the others come first, as one slice."""
        place = plan["jitter"].int().argsort(descending=True)
        chosen = place[: int(plan["jitter"].sum())]
        x = x.index_select(1, place)
        names = ("order", "jitter", "brightness", "contrast", "saturation", "hue")
        self._jitter(x[:, : len(chosen)], {name: plan[name][chosen] for name in names})
        return x.index_select(1, place.argsort())

    def _jitter(self, x: Tensor, plan: Parameters) -> Tensor:
        """The colour operations in the batch's order on x (c, n, h, w), changed in place."""
        for operation in plan["order"][:1].flatten().tolist():
            if self.jitter_probability == 0 or self.jitter[operation] == 0:
                continue
            if operation == BRIGHTNESS:
                x.mul_(_column(plan["brightness"])).clamp_(max=255).floor_()
            elif operation == CONTRAST:
                _blend(x, _mean_luma(x), _column(plan["contrast"]))
            elif operation == SATURATION and len(x) == 3:
                _blend(x, _luma(x), _column(plan["saturation"]))
            elif operation == HUE and len(x) == 3:
                x.lerp_(_shift_hue(x, plan["hue"]), _column(plan["jitter"].float()))
        return x


FAMILIES: dict[str, type[View]] = {"none": Same, "pad_rotate_scale": PadRotateScale, "simclr": SimCLR}


def make(name: str, size: int | None = None, **options: Any) -> View:
    """The family `name` (none, pad_rotate_scale, simclr) with views of `size` pixels; options are its fields.

        make("simclr", flip=0.0, blur=0.0)(images, torch.Generator().manual_seed(0))

    Raises ValueError for an unknown name or option, naming the nearest one, and for a value out of range.
    """
    if name not in FAMILIES:
        raise ValueError(f"Unknown views {name!r}.{_nearest(name, FAMILIES)} Allowed: {', '.join(FAMILIES)}.")
    family = FAMILIES[name]
    allowed = [field.name for field in fields(family) if field.name != "size"]
    for option in options:
        if option not in allowed:
            listed = f"Allowed: {', '.join(allowed)}." if allowed else "They have none besides size."
            near = _nearest(option, allowed)
            raise ValueError(f"Unknown option {option!r} of views {name!r}.{near} {listed}")
    return family(size=size, **options)


def freeze(view: View, images: Tensor, generator: torch.Generator, chunk: int = 1000) -> Tensor:
    """One view of each image, drawn once and stored: the practicum's positives.

    images: (n, c, h, w) as `View.apply` takes them. Returns (n, c, size, size) uint8 on the same device;
    nothing is lost, as views are whole levels. Works `chunk` images at a time to bound memory; each chunk has
    its own order of colour operations, so another chunk size gives other views. ValueError if chunk < 1.
    """
    _check(chunk >= 1, "chunk", chunk, "a whole number from 1")
    parts = []
    for start in range(0, len(images), chunk):
        fresh = view(images[start : start + chunk], generator)
        parts.append(fresh.mul_(255).round_().to(torch.uint8))
    return torch.cat(parts)


def normalize(images: Tensor, mean: float = 0.5, std: float = 0.5) -> Tensor:
    """(x - mean) / std in float32, by default from [0, 1] to [-1, 1]. images: uint8, or float in [0, 1]."""
    x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    return (x - mean) / std


def _check(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value!r} is not allowed. Give {allowed}.")


def _check_images(images: Tensor) -> None:
    shape, dtype = tuple(images.shape), images.dtype
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise ValueError(f"Images of shape {shape} are not (n, 1 or 3, height, width). Reshape them.")
    if dtype != torch.uint8 and not dtype.is_floating_point:
        raise ValueError(f"Images of type {dtype} are neither uint8 nor float in [0, 1]. Convert them.")


def _nearest(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Float64, so that a draw times a whole number never rounds up to it."""
    share = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
    return low + (high - low) * share


def _placed(parameters: Parameters, generator: torch.Generator, device: torch.device | str) -> Parameters:
    """Parameters on `device`. Going up to a GPU need not wait; coming down must, or is read too early."""
    up = generator.device.type == "cpu"
    return {name: value.to(device, non_blocking=up) for name, value in parameters.items()}


def _on_host(generator: torch.Generator) -> torch.Generator:
    """The generator, or for one on a GPU a CPU generator fixed by its seed and how far it has been used."""
    if generator.device.type == "cpu":
        return generator
    return torch.Generator().manual_seed((generator.initial_seed() + generator.get_offset()) % 2**63)


def _column(values: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1), to meet images of one channel, or channels (c, n, h, w)."""
    return values[:, None, None]


def _levels(images: Tensor) -> Tensor:
    """Images as whole levels 0..255, int32."""
    return (images if images.dtype == torch.uint8 else images.mul(255).round()).int()


def _taps(start: Tensor, length: Tensor, longest: int, size: int, flip: Tensor) -> tuple[Tensor, Tensor]:
    """Which input positions make up each output position, and how much: PIL's bilinear filter on one axis.

    The window [start, start + length), of `longest` pixels at most, is resized to `size`; `flip` mirrors it.
    start, length, flip: (n,). Returns positions (n, taps, size) int64 and weights of the same shape, int32,
    in units of 2**-22: w(d) = max(0, 1 - |d| / support), support = max(1, length / size), scaled to sum 1.
    """
    position = torch.arange(size, device=start.device, dtype=torch.float64)
    position = torch.where(flip[:, None, None], size - 1 - position, position)
    start, length = start[:, None, None], length[:, None, None]
    scale = length.double() / size
    support = scale.clamp(min=1)
    centre = (position + 0.5) * scale
    taps = torch.arange(math.ceil(2 * max(1, longest / size)), device=start.device)[:, None]
    inside = (centre - support + 0.5).floor() + taps
    weight = (1 - (inside + 0.5 - centre).abs() / support).clamp(min=0)
    weight = weight * ((inside >= 0) & (inside < length))
    weight = weight / weight.sum(1, keepdim=True)
    index = start + inside.long().clamp_(min=0).minimum(length - 1)  # those outside weigh nothing
    return index, (weight * 2**WEIGHT_BITS + 0.5).int()


def _resample_columns(x: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """(n, c, h, w) -> (c, n, h, size): sums along each row with the weights of `_taps`, rounded to levels.

    The three levels of a colour travel in one number: moving scattered values is what takes the time.
    """
    n, c, h, _ = x.shape
    packed = x[:, 0] if c == 1 else x[:, 0].add(x[:, 1], alpha=2**8).add_(x[:, 2], alpha=2**16)
    total = x.new_full((c, n, h, indices.shape[2]), 2 ** (WEIGHT_BITS - 1))
    for index, weight in zip(indices.unbind(1), weights[:, :, None].unbind(1), strict=True):
        taken = packed.gather(2, index[:, None].expand(total.shape[1:]))
        if c == 1:
            total[0].addcmul_(taken, weight)
        else:
            total[0].addcmul_(taken & 255, weight)
            total[1].addcmul_((taken >> 8).bitwise_and_(255), weight)
            total[2].addcmul_(taken.bitwise_right_shift_(16), weight)
    return total.bitwise_right_shift_(WEIGHT_BITS)


def _resample_rows(x: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """(c, n, h, w) -> (c, n, size, w): the same along each column, taking whole rows at a time."""
    c, n, h, w = x.shape
    total = x.new_full((c, n, indices.shape[2], w), 2 ** (WEIGHT_BITS - 1))
    planes = torch.arange(c * n, device=x.device).view(c, n, 1) * h
    for index, weight in zip(indices.unbind(1), weights[..., None].unbind(1), strict=True):
        taken = x.view(-1, w).index_select(0, (planes + index).flatten())
        total.addcmul_(taken.view(total.shape), weight)
    return total.bitwise_right_shift_(WEIGHT_BITS)


@functools.cache
def _whole_axis(side: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The taps of an axis that is resized as a whole, the same for all images: two tensors (taps, size)."""
    start = torch.zeros(1, dtype=torch.int64, device=device)
    index, weight = _taps(start, torch.full_like(start, side), side, size, start > 0)
    return index[0], weight[0]


def _resize_rows(x: Tensor, size: int) -> Tensor:
    """(n, c, h, w) -> (n, c, size, w), levels in and out: every output row is a sum of a few whole rows."""
    if x.shape[2] == size:
        return x
    total = x.new_full((*x.shape[:2], size, x.shape[3]), 2 ** (WEIGHT_BITS - 1))
    for index, weight in zip(*_whole_axis(x.shape[2], size, x.device), strict=True):
        total.addcmul_(x.index_select(2, index), weight[:, None])
    return total.bitwise_right_shift_(WEIGHT_BITS)


def _resize(x: Tensor, size: int) -> Tensor:
    """Whole images (n, c, h, w), int32 levels, to (n, c, size, size), bilinear and antialiased.

    PIL's order, columns first. They are turned into rows for it: on a CPU whole rows move several times
    faster than scattered values.
    """
    if x.shape[3] != size:
        x = _resize_rows(x.transpose(2, 3).contiguous(), size).transpose(2, 3).contiguous()
    return _resize_rows(x, size)


def _rotate_and_cut(x: Tensor, padding: int, angle: Tensor, cut: int) -> Tensor:
    """Square images (n, c, w, w) on black canvases with `padding` around, turned by `angle` degrees (n,).

    Returns the central (n, c, cut, cut). PIL's nearest-pixel rotation: the source of output pixel (x, y) is
    centre + R(-angle) ((x, y) + 1/2 - centre), in 16-bit fixed point; positions outside are black. Where
    canvas and cut differ by an odd number, torchvision puts the cut's corner on an even pixel.
    """
    n, c, width, _ = x.shape
    canvas = width + 2 * padding
    kept = min(cut, canvas)
    corner, margin = round((canvas - kept) / 2), cut - kept
    centre, turn = canvas / 2, torch.deg2rad(-angle.double())[:, None, None]
    cos, sin = turn.cos(), turn.sin()

    def fixed(value: Tensor) -> Tensor:
        return (value * 2**ROTATION_BITS + 0.5).floor().int()

    # The canvas is black around the image: instead of drawing it, positions outside end on a frame of 1.
    framed = functional.pad(x, (1, 1, 1, 1))
    to_frame = (1 - padding) * 2**ROTATION_BITS
    first_x = fixed(centre - (cos + sin) * centre + (cos + sin) * 0.5) + to_frame
    first_y = fixed(centre - (cos - sin) * centre + (cos - sin) * 0.5) + to_frame
    along = torch.arange(corner, corner + kept, dtype=torch.int32, device=x.device)
    down = along[:, None]
    column = (first_x + fixed(cos) * along) + fixed(sin) * down
    row = (first_y + fixed(-sin) * along) + fixed(cos) * down
    column.bitwise_right_shift_(ROTATION_BITS).clamp_(0, width + 1)
    row.bitwise_right_shift_(ROTATION_BITS).clamp_(0, width + 1)
    index = column.add_(row, alpha=width + 2).long().view(n, 1, -1).expand(n, c, -1)
    taken = framed.flatten(2).gather(2, index).view(n, c, kept, kept)
    return functional.pad(taken, (margin // 2, (margin + 1) // 2) * 2) if margin else taken


def _blend(x: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    """base + factor (x - base) in place, cut to [0, 255] and truncated, as PIL enhances an image."""
    return x.sub_(base).mul_(factor).add_(base).clamp_(0, 255).floor_()


def _luma(x: Tensor) -> Tensor:
    """(3, n, h, w) -> (n, h, w): PIL's grey, ITU-R 601-2 in 16-bit fixed point (below 2**24: exact)."""
    red, green, blue = x
    grey = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471)
    return grey.add_(2**15).mul_(2**-16).floor_()


def _mean_luma(x: Tensor) -> Tensor:
    """(c, n, h, w) -> (n, 1, 1): the mean grey of each image as a whole level."""
    grey = _luma(x) if len(x) == 3 else x[0]
    pixels = grey.shape[1] * grey.shape[2]
    exact = torch.float32 if 255 * pixels < 2**24 else torch.float64
    total = grey.sum((1, 2), keepdim=True, dtype=exact).long()
    return ((2 * total + pixels) // (2 * pixels)).float()  # in whole numbers: halves round up on every device


def _shift_hue(x: Tensor, hue: Tensor) -> Tensor:
    """(3, n, h, w) with its hue turned by `hue` (n,) of a circle, through PIL's 8-bit HSV.

    Hue in sixths of a circle: 1 + (g - r) / chroma where blue is the smallest channel, 3 + (b - g) / chroma
    where red is, 5 or -1 + (r - b) / chroma where green is. Hue and saturation become bytes, the shift is a
    byte that wraps around, and back: channel = value (1 - saturation w), with w a trapezium in hue. Formulas
    and rounding are chosen so that every colour gives PIL's bytes (a test runs through all of them).
    """
    # Tensors, because by a Python number CUDA does not divide: it multiplies by the rounded reciprocal.
    six, square = torch.full((), 6.0, device=x.device), torch.full((), 255.0**2, device=x.device)
    red, green, blue = x
    low = torch.minimum(torch.minimum(red, green), blue)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - low
    saturation = (chroma / value.clamp(min=1)).mul_(255).floor_()

    # Choices between whole numbers as 0/1 arithmetic: on a CPU masks and `where` take ten times as long.
    not_red = (red - low).clamp_(max=1)  # 0 where red is the smallest
    not_blue = (blue - low).clamp_(max=1)
    ahead = (blue - green).lerp_(red - blue, not_red)
    ahead = (green - red).lerp_(ahead, not_blue)
    offset = (blue - red).clamp_(0, 1).mul_(6).sub_(4)  # -1 or 5, less 3
    offset.mul_(not_red).add_(2).mul_(not_blue).add_(1)
    angle = ahead.div_(chroma.clamp_(min=1)).add_(offset).div_(six)
    angle = angle.sub_(angle.floor()).mul_(255).floor_()
    shift = (hue.double() * 255).trunc().remainder(256).float()
    sixths = angle.add_(_column(shift)).div_(256).frac_().mul_(6 * 256)  # a whole circle is 6 * 255

    # round(value (255**2 - saturation w) / 255**2), exact in float32: all are whole numbers below 2**24.
    product = saturation.mul_(value)
    rounded = value.mul_(255**2).add_(255**2 // 2)
    result = torch.empty_like(x)
    for channel, (centre, falling, height) in enumerate(
        ((765, True, 510), (510, False, 255), (1020, False, 255))
    ):
        w = (sixths - centre).abs_()
        w = (height - w if falling else w.sub_(height)).clamp_(0, 255)
        torch.floor(torch.addcmul(rounded, w, product, value=-1).div_(square), out=result[channel])
    return result


def _blur(x: Tensor, sigma: Tensor, on: Tensor, kernel: int) -> Tensor:
    """Gaussian blur of the samples that are `on`, edges mirrored, rounded to levels."""
    half = kernel // 2
    if x.shape[-1] <= half:
        widest = 2 * x.shape[-1] - 1
        raise ValueError(
            f"kernel={kernel} is too wide for views of {x.shape[-1]} pixels. Give up to {widest}."
        )
    distance = torch.arange(-half, half + 1, device=x.device, dtype=torch.float32)
    weight = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2)
    weight = torch.where(on[:, None], weight / weight.sum(1, keepdim=True), (distance == 0).float())
    for axis in (3, 2):
        size = x.shape[axis]
        padded = functional.pad(x, (half, half, 0, 0) if axis == 3 else (0, 0, half, half), mode="reflect")
        x = padded.narrow(axis, 0, size) * weight[:, 0, None, None, None]
        for tap in range(1, kernel):
            x.addcmul_(padded.narrow(axis, tap, size), weight[:, tap, None, None, None])
    return x.round_()
