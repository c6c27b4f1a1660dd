"""Masks over the numbers of an embedding: which of them are compared. Taught in "CLAWS".

CLAWS (2021) multiplies both embeddings of a pair by one mask in {0, 1}, which a perceptron computes, but does
not say how a gradient passes through 0 and 1. Every answer here is a pure function of the logits a, of the
gates: (n, d), floating point. `mask` picks one by name. Nothing is drawn here: noise comes in as numbers, so
that a step can be recorded as a CUDA graph and repeated.

A row whose gates are all shut makes an embedding of zeros. `losses.nt_xent` gives it similarity 0 to every
row and no gradient: neither its embedding nor its gates learn from that step.
"""

import difflib

import torch
from torch import Tensor

from pullpush.models._inputs import widen

KINDS = ("hard", "gumbel", "soft", "top_k", "random", "none")


def mask(
    a: Tensor,
    kind: str = "hard",
    *,
    uniform: Tensor | None = None,
    temperature: float = 1.0,
    share: float = 0.5,
) -> Tensor:
    """The mask of each row, (n, d), in at least fp32; numbers in {0, 1}, for `soft` in (0, 1).

    hard     `hard_mask`, open where sigmoid(a) > 1/2.
    gumbel   `gumbel_mask` with `uniform` noise and `temperature`.
    soft     sigmoid(a).
    top_k    `top_k_mask`, round(share * d) gates of each row open.
    random   a control: each gate is open where `uniform` < `share`, whatever a is; no gradient.
    none     a control: all gates open; no gradient.

    a: (n, d), floating point.
    uniform: (n, d), drawn from [0, 1) with `torch.rand`: gumbel and random need it, others do not look at it.
    Raises ValueError for an unknown kind, a of another shape or type, noise that is missing or of another
    shape, a share beyond (0, 1], and as the functions named above do.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"Unknown mask '{kind}'.{hint} Allowed: {', '.join(KINDS)}.")
    _check_logits(a)
    if not 0 < share <= 1:
        raise ValueError(f"share={share} of open gates must be above 0 and at most 1.")
    if kind in ("gumbel", "random"):
        if uniform is None:
            raise ValueError(f"The {kind} mask needs noise: give uniform=torch.rand(a.shape, generator=...).")
        return gumbel_mask(a, uniform, temperature) if kind == "gumbel" else random_mask(a, uniform, share)
    if kind == "hard":
        return hard_mask(a)
    if kind == "soft":
        return widen(a).sigmoid()
    if kind == "top_k":
        return top_k_mask(a, round(share * a.shape[1]))
    return torch.ones_like(widen(a))


def hard_mask(a: Tensor) -> Tensor:
    """m = 1[sigmoid(a) > 1/2], with the gradient of sigmoid(a): straight through.

    Bengio et al. 2013 (arXiv:1308.3432). Shapes as in `mask`.
    """
    _check_logits(a)
    return _straight_through((a > 0).to(a.dtype), widen(a).sigmoid())


def gumbel_mask(a: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """m = 1[y > 1/2],  y = sigmoid((a + log u - log(1 - u)) / temperature), with the gradient of y.

    The hard form of the binary concrete distribution, Maddison et al. 2017 (arXiv:1611.00712), appendix B,
    and Jang et al. 2017 (arXiv:1611.01144), section 2.2. A gate is open with probability sigmoid(a) at any
    temperature; a lower one makes the gradient larger for gates near their threshold, smaller for the others.

    Shapes as in `mask`. temperature: above 0. Raises ValueError for another one, or noise of another shape.
    """
    _check_logits(a)
    _check_noise(a, uniform)
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be above 0.")
    y = ((widen(a) + uniform.to(widen(a)).logit()) / temperature).sigmoid()
    return _straight_through((y > 0.5).to(y.dtype), y)


def top_k_mask(a: Tensor, k: int) -> Tensor:
    """1 for the k largest logits of each row, 0 for the others, with the gradient of sigmoid(a).

    Of equal logits torch's `topk` chooses. Shapes as in `mask`. Raises ValueError unless 1 <= k <= d.
    """
    _check_logits(a)
    if not 1 <= k <= a.shape[1]:
        raise ValueError(f"k={k} open gates must be between 1 and the number of gates, {a.shape[1]}.")
    return _straight_through(torch.zeros_like(a).scatter(1, a.topk(k, dim=1).indices, 1), widen(a).sigmoid())


def random_mask(a: Tensor, uniform: Tensor, share: float = 0.5) -> Tensor:
    """1[uniform < share]: each gate open by itself with probability `share`. Shapes as in `mask`."""
    _check_logits(a)
    _check_noise(a, uniform)
    return (uniform < share).to(widen(a))


def _straight_through(mask: Tensor, soft: Tensor) -> Tensor:
    """The values of `mask`, exactly, and the gradient of `soft`."""
    return mask + (soft - soft.detach())


def _check_logits(a: Tensor) -> None:
    if a.ndim != 2 or not a.is_floating_point():
        raise ValueError(
            f"Logits of shape {tuple(a.shape)}, {a.dtype}, must be (n, d), floating point: see MaskNetwork."
        )


def _check_noise(a: Tensor, uniform: Tensor) -> None:
    if uniform.shape != a.shape:
        raise ValueError(
            f"uniform has shape {tuple(uniform.shape)}; it must have that of the logits, {tuple(a.shape)}."
        )
