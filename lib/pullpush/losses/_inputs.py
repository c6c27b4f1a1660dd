"""What the losses do before their formula begins: check the input, widen it, bring rows to unit length.

The checks look at shapes, types and plain numbers, never at values on a GPU, which would make the CPU wait.
"""

import math

import torch
from torch import Tensor


def check_rows(name: str, z: Tensor) -> None:
    """Raise ValueError unless `z` is a floating point tensor (n, d) with n and d of at least 1."""
    if z.ndim != 2 or z.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(z.shape)}; it must be (n, d) with n and d of at least 1.")
    if not z.is_floating_point():
        raise ValueError(f"{name} is {z.dtype}; embeddings must be floating point.")


def check_pair(z_a: Tensor, z_b: Tensor) -> None:
    """Raise ValueError unless row i of `z_a` can be compared with row i of `z_b`."""
    check_rows("z_a", z_a)
    check_rows("z_b", z_b)
    if z_a.shape != z_b.shape:
        raise ValueError(f"z_a {tuple(z_a.shape)} and z_b {tuple(z_b.shape)} must have the same shape.")


def check_one_per_row(name: str, values: Tensor, n: int) -> None:
    """Raise ValueError unless `values` is (n,): a column (n, 1) would silently broadcast to (n, n)."""
    if values.shape != (n,):
        raise ValueError(f"{name} has shape {tuple(values.shape)}; it must be ({n},), one value a row.")


def check_above_zero(name: str, value: float) -> None:
    """Raise ValueError unless `value` is above 0 and finite. Written so that nan fails too."""
    if not value > 0:
        raise ValueError(f"{name} {value} must be above 0.")
    if math.isinf(value):
        raise ValueError(f"{name} {value} must be finite.")


def widen(z: Tensor) -> Tensor:
    """`z` in at least fp32: a loss sums many small terms, and bf16 keeps only eight bits of each."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def unit_rows(z: Tensor) -> Tensor:
    """Rows of `z` at unit length, in at least fp32. A row of zeros stays zero and has gradient 0.

    So does a float64 row whose largest entry is below about 1e-190 or above 1e190; all lengths of fp32 work.
    `torch.nn.functional.normalize` would multiply the gradient of such a row by 1e12, and has no second one.
    """
    z = widen(z)
    # Each row is first brought near 1 by a power of two, which changes no bit of the result: the squares of a
    # row of 1e-30 would all be nothing.
    largest = z.detach().abs().amax(dim=1, keepdim=True).clamp(2.0**-100, 2.0**100)
    z = z * (largest.frexp().mantissa / largest)
    squared = z.square().sum(dim=1, keepdim=True)
    return z / torch.where(squared > 0, squared, torch.inf).sqrt()


def check_unit_rows(name: str, z: Tensor) -> None:
    """Raise ValueError if a row of `z` is not of unit length, to 1e-3; not on a GPU."""
    if z.device.type != "cpu":
        return
    lengths = widen(z.detach()).norm(dim=1)
    wrong = ((lengths - 1).abs() > 1e-3).nonzero()
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"Row {i} of {name} has length {lengths[i].item():.4g}; rows must be of unit length. "
            "Normalise them, with torch.nn.functional.normalize."
        )
