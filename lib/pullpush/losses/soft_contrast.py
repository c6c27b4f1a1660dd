"""The edge loss of UMAP and of LNSCC: ends of a drawn edge together, points that met by chance apart."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_above_zero, widen

SOFTENED = (
    1e-3  # what a squared distance of a negative counts more in UMAP's form, as in umap-learn's gradient
)


def soft_contrast(
    d_positive: Tensor, d_negative: Tensor, a: float = 1.5769, b: float = 0.8951, *, form: str = "logit"
) -> Tensor:
    """Binary cross-entropy on p(d) = 1 / (1 + a d^2b): 1 for the ends of an edge, 0 for points met by chance.

    L = 1/(m + m') (sum_+ -log q(d) + sum_- -log(1 - q(d)))
    logit:  q = sigmoid(log p) = p / (1 + p):   -log q = log(2 + a d^2b),  -log(1 - q) = log(1 + p)
    umap:   q = p:                              -log q = log(1 + a d^2b),  -log(1 - q) = -log(1 - p)

    UMAP: McInnes et al. 2018 (arXiv:1802.03426). Parametric UMAP (Sainburg et al. 2021) and the release of
    LNSCC (Ma & Kim, IJCAI 2022, doi:10.24963/ijcai.2022/460) hand log p to a loss that takes logits: "logit".
    A negative costs at most log 2 there, and two points in one place do not push each other.
    Taught in "Graphs, UMAP's loss and clusters" and "Locally normalised clusters".

    d_positive: (m,), distances in the embedding between the two ends of the batch's edges, none below 0;
        `(z_to - z_from).norm(dim=1)` has the slope 0 at distance 0, never nan.
    d_negative: (m, negatives) or flat, m' distances of negatives, see `samplers.shuffled_negatives`.
    a, b: above 0; the defaults fit p to UMAP's curve for spread 1 and min_dist 0.1.
    form: "logit" or "umap". In "umap" a negative at distance 0 would cost infinitely much: the square of its
        distance counts 0.001 more, as in umap-learn's gradient, so with the default a and b it costs 5.73.

    Returns a scalar, at least 0, in fp32 (fp64 for fp64 input), under autocast too. It can be differentiated
    twice; the derivatives of d^2b at distance 0, which may be infinite, count as 0.
    Raises ValueError for another form, wrong or empty shapes, distances that are not floating point or below
    0 (not checked on a GPU, where looking would mean waiting), or unless a and b are above 0.

    >>> soft_contrast(torch.zeros(2), torch.zeros(2, 10))  # all points in one place: log 2
    tensor(0.6931)
    """
    if form not in ("logit", "umap"):
        raise ValueError(f"Unknown form '{form}'. Allowed: logit, umap.")
    check_above_zero("a", a)
    check_above_zero("b", b)
    _check_distances(d_positive, d_negative)
    with torch.autocast(d_positive.device.type, enabled=False):
        d_positive, d_negative = widen(d_positive), widen(d_negative)
        if form == "logit":
            pull = (2 + a * _power(d_positive, 2 * b)).log()
            push = (1 / (1 + a * _power(d_negative, 2 * b))).log1p()
        else:
            pull = (a * _power(d_positive, 2 * b)).log1p()
            push = (1 / (a * (d_negative.square() + SOFTENED).pow(b))).log1p()
        return (pull.sum() + push.sum()) / (pull.numel() + push.numel())


def _power(d: Tensor, exponent: float) -> Tensor:
    """d^exponent, whose derivatives at 0, which may be infinite, count as 0."""
    # 0 * inf is nan: take the power of 1 there, then drop it. Written so that a nan stays one.
    coincide = d == 0
    return d.masked_fill(coincide, 1).pow(exponent).masked_fill(coincide, 0)


def _check_distances(d_positive: Tensor, d_negative: Tensor) -> None:
    m = len(d_positive) if d_positive.ndim == 1 else 0
    if m == 0:
        raise ValueError(
            f"d_positive has shape {tuple(d_positive.shape)}; it must be (m,), one an edge, not empty."
        )
    rows = len(d_negative) if d_negative.ndim == 2 else m
    if d_negative.ndim not in (1, 2) or rows != m or d_negative.numel() == 0:
        raise ValueError(
            f"d_negative has shape {tuple(d_negative.shape)}; it must be ({m}, negatives) or flat, not empty."
        )
    for name, d in (("d_positive", d_positive), ("d_negative", d_negative)):
        if not d.is_floating_point():
            raise ValueError(f"{name} is {d.dtype}; distances must be floating point.")
        if d.device.type == "cpu" and (d < 0).any():
            raise ValueError(f"{name} holds {d.min().item():.4g}; a distance is at least 0.")
