"""What the networks share: checks of their input, and the way onto the sphere."""

import torch
from torch import Tensor


def check_size(name: str, size: int, smallest: int) -> None:
    """Raise ValueError if `size` is below `smallest`."""
    if size < smallest:
        raise ValueError(f"{name} {size} must be at least {smallest}.")


def check_images(images: Tensor, channels: int, smallest: int) -> None:
    """Raise ValueError unless images are floating point (n, channels, h, w), h and w at least `smallest`."""
    shape = tuple(images.shape)
    if len(shape) != 4:
        raise ValueError(f"images have shape {shape}; they must be a batch (n, channels, h, w).")
    if shape[1] != channels:
        raise ValueError(
            f"images have {shape[1]} channels, this network was built for {channels}. "
            f"Build it with channels={shape[1]}."
        )
    if min(shape[2:]) < smallest:
        raise ValueError(f"images have {shape[2]}x{shape[3]} pixels; a side must be at least {smallest}.")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; they must be floating point, see views.normalize.")


def widen(x: Tensor) -> Tensor:
    """`x` in at least fp32: under autocast a layer puts out bf16, which has eight bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit_rows(x: Tensor) -> Tensor:
    """Rows of `x` (n, d) at unit length, in at least fp32. A row of zeros stays zero and has gradient 0."""
    x = widen(x)
    squared = x.square().sum(dim=1, keepdim=True)
    return x / torch.where(squared > 0, squared, torch.inf).sqrt()
