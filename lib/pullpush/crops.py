"""Views of field photographs as CLAWS (2021) draws them: no shape is too oblong, and up may be down.

Taught in "CLAWS".

    Window()           the whole image                   the full view, of any height and width
    Window(size=32)    a small window, not resized       the crop view
    Turned(size=100)   a random part, resized            the views of SimCLR, its baseline

All three flip both ways and distort colours as `views.SimCLR` does, whose options, promises and arithmetic
they share: levels 0..255, PIL's pixels, parameters per sample from an explicit generator. None blurs unless
asked.
"""

from dataclasses import dataclass

import torch

from pullpush.views import WEIGHT_BITS, Parameters, SimCLR


@dataclass(frozen=True)
class Turned(SimCLR):
    """SimCLR's view, upside down at times: a photograph from above has no up.

    upside_down: probability of a vertical flip, after the crop. It adds `upside_down` (n,) bool to the
    parameters. blur: 0 unless given; CLAWS takes SimCLR's augmentations "except performing Gaussian blur".
    """

    blur: float = 0.0
    upside_down: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.upside_down <= 1:
            raise ValueError(
                f"upside_down={self.upside_down} is not allowed. Give a probability from 0 to 1."
            )

    def _draw_crop(self, n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
        box = self._draw_box(n, height, width, generator)
        drawn = torch.rand(n, generator=generator, device=generator.device)
        return box | {"upside_down": drawn < self.upside_down}

    def _draw_box(self, n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
        """top, left, height and width (n,) of what each view shows."""
        return super()._draw_crop(n, height, width, generator)

    def _plan(self, parameters: Parameters, height: int, width: int, side: int) -> Parameters:
        plan = super()._plan(parameters, height, width, side)
        turned = parameters["upside_down"][:, None, None]
        for name in ("y_indices", "y_weights"):
            plan[name] = torch.where(turned, plan[name].flip(2), plan[name])
        return plan


@dataclass(frozen=True)
class Window(Turned):
    """A window of `size` x `size` pixels at a random place, not resized; without a size the whole image.

    Every place inside the image is as likely. `scale` and `ratio` of SimCLR have no meaning here. Parameters
    as in `Turned`; height and width are the window's. ValueError for images that are smaller than `size`.
    """

    def _draw_box(self, n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
        inner_height, inner_width = self._shape(height, width)
        top, left = (
            torch.randint(places, (n,), generator=generator, device=generator.device)
            for places in (height - inner_height + 1, width - inner_width + 1)
        )
        lengths = {"height": torch.full_like(top, inner_height), "width": torch.full_like(left, inner_width)}
        return {"top": top, "left": left, **lengths}

    def _plan(self, parameters: Parameters, height: int, width: int, side: int) -> Parameters:
        plan = dict(parameters)
        inner_height, inner_width = self._shape(height, width)
        for axis, first, length, mirror in (
            ("x", "left", inner_width, "flip"),
            ("y", "top", inner_height, "upside_down"),
        ):
            step = torch.arange(length, device=parameters[first].device)
            step = torch.where(parameters[mirror][:, None], length - 1 - step, step)
            taken = (parameters[first][:, None] + step)[:, None]  # one pixel makes one pixel
            plan[f"{axis}_indices"] = taken
            plan[f"{axis}_weights"] = torch.full_like(taken, 2**WEIGHT_BITS, dtype=torch.int32)
        for name in ("brightness", "contrast", "saturation"):
            plan[name] = plan[name].where(parameters["jitter"], 1)
        return plan

    def _shape(self, height: int, width: int) -> tuple[int, int]:
        if self.size is None:
            return height, width
        if self.size > min(height, width):
            raise ValueError(
                f"size={self.size} does not fit into images of {height}x{width}. "
                f"Give up to {min(height, width)}."
            )
        return self.size, self.size
