"""The locally normalised neighbour graph of LNSCC, which is UMAP's: who is near whom, and how much it counts.

    indices, distances = neighbours(x, k)                      the k nearest points, each point first
    rho, sigma = local_scale(distances)                        what "near" means around each point
    edges = fuzzy_union(indices, weights(distances, rho, sigma))
    for rows, columns in epoch(edges, batch_size, generator):  positive pairs, as often as their weight says

McInnes, Healy & Melville 2018, arXiv:1802.03426, section 3.1, for scale, weights and union; the sampling is
that of the public code of LNSCC. All of it stays on the device of x.
Taught in "Graphs, UMAP's loss and clusters" and "Locally normalised clusters".
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# The search. Numbers of recall are of k = 30 on MNIST and Fashion-MNIST, 70,000 x 784.
HOW = ("auto", "exact", "cells")
MARGIN = 16  # nearest by the quick formula that are kept beyond k, to be ordered by exact distances
MANY = 20_000  # points from which "auto" looks into cells on a CPU: there they take half the time, at d = 784
ENOUGH, CHECKED = 0.99, 500  # the recall that "auto" asks of cells, and the points on which it is measured
CELL, PROBED = 64, 256  # points to a cell, on average, and cells looked into: 99.7 and 99.99 % are there
PLANE = 192  # principal axes that stand for x in the shortlist of 2 k: 99.98 and 99.7 % are in it
COARSE = 64  # principal axes in which cells are formed

# The scale
STEPS = 48  # halvings of the interval of sigma
FLOOR = 1e-3  # of the mean distance: sigma is not smaller, as in umap-learn

# The edges
SHUFFLED = 2**25  # rows of the repeated list, up to which `epoch` shuffles it: 134 MB of int32
DRAWN = 2**20  # places of the list that are turned into edges at a time


class Edges(NamedTuple):
    """A weighted graph without self edges, each edge in both directions, sorted by row and then column.

    rows, columns: (m,) int64, the two ends; weights: (m,) in (0, 1].
    """

    rows: Tensor
    columns: Tensor
    weights: Tensor


# Who is near whom


@torch.no_grad()
def neighbours(x: Any, k: int, how: str = "auto") -> tuple[Tensor, Tensor]:
    """The k nearest points of every point, by Euclidean distance, the point itself first.

    exact: blocks of |x_j|^2 - 2 x_i . x_j give a shortlist, and the differences x_i - x_j the distances in
           it, so that equal points have distance 0. A list counts only if rounding cannot have kept a nearer
           point out of the shortlist, which is made longer otherwise. Of points equally far the one of
           smaller index comes first. O(n^2 d).
    cells: approximate. k-means makes cells of some 64 points; a point looks into the 256 cells nearest to its
           own, in coordinates of 192 principal axes but with full lengths, and the distances of its best 2 k
           are exact. The work of a point does not grow with n, but for finding its cell, which is cheap.
    auto:  cells on a CPU from 20,000 points on, if their recall on 500 of these is at least 0.99 (noise
           without structure fails there); otherwise exact. On a GPU exact search is fast enough.

    x: (n, d), a tensor (the search stays on its device), array or scipy sparse matrix (made dense: 4 n d
    bytes); computed in fp32. Returns indices (n, k) int64 and distances (n, k) fp32, ascending along a row;
    indices[:, 0] is 0..n-1, with distance 0. The same x gives the same lists on the same machine.
    Raises ValueError unless x is (n, d) and finite, and 2 <= k <= n, and for an unknown `how`.
    """
    if how not in HOW:
        raise ValueError(f"Unknown how={how!r}. Allowed: {', '.join(HOW)}.")
    points = _points(x)
    n = len(points)
    if not 2 <= k <= n:
        raise ValueError(f"k={k} must be between 2 and the number of points, {n}; a point counts as its own.")
    with torch.autocast(points.device.type, enabled=False), _full_precision():
        if how == "exact" or (how == "auto" and (points.is_cuda or n < MANY)):
            return _exact(points, torch.arange(n, device=points.device), k)
        found = _cells(points, k)
        if how == "auto":
            some = torch.randperm(n, generator=_stream())[:CHECKED].to(points.device)
            if recall(found[0][some], _exact(points, some, k)[0]) < ENOUGH:
                return _exact(points, torch.arange(n, device=points.device), k)
        return found


def recall(found: Tensor, exact: Tensor) -> float:
    """Share of the true neighbours that were found, in [0, 1].

    found, exact: (n, k) indices, none twice in a row. The first column, the point itself, is not counted.
    Raises ValueError if shapes differ or k < 2.
    """
    if found.shape != exact.shape or found.ndim != 2 or found.shape[1] < 2:
        raise ValueError(f"Lists of neighbours must both be (n, k), k >= 2: {found.shape} and {exact.shape}.")
    hits = [(exact[:, j, None] == found).any(1).double().mean() for j in range(1, exact.shape[1])]
    return float(torch.stack(hits).mean())


def _points(x: Any) -> Tensor:
    """(n, d) fp32, centred: small coordinates lose less in |x_j|^2 - 2 x_i . x_j.

    The centre of a column is its mean, rounded to a multiple of the power of two below its standard
    deviation: so whole numbers stay exact, and what was equally far stays so.
    """
    if hasattr(x, "toarray"):  # of scipy.sparse
        x = x.astype(np.float32).toarray()
    points = torch.as_tensor(x).detach()
    if points.ndim != 2 or points.numel() == 0:
        raise ValueError(f"Points must be (n, d), not {tuple(points.shape)}.")
    points = points if points.dtype == torch.float64 else points.float()
    unit = torch.exp2(points.std(0, correction=0).log2().floor())
    centre = torch.where(unit > 0, (points.mean(0) / unit).round() * unit, points[0])
    points = (points - centre).float()
    if not bool(points.isfinite().all()):
        raise ValueError("Points hold NaN or infinite numbers.")
    return points


def _stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products in fp32 proper, not TF32 or bf16: shortlists rely on it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _exact(points: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The lists of some of the points: rows (m,). Returns indices and distances, (m, k)."""
    n, d = points.shape
    square = points.square().sum(1)
    indices = torch.empty(len(rows), k, dtype=torch.int64, device=rows.device)
    distances = torch.empty(len(rows), k, device=rows.device)
    left, size = torch.arange(len(rows), device=rows.device), min(n, k + MARGIN)
    while len(left):
        chosen = rows[left]
        near, last = _shortlists(points, square, chosen, size)
        indices[left], distances[left] = _ordered(points, chosen, near, k)
        if size == n:
            break
        # What lies within r of x_i has |x_j| <= |x_i| + r, which bounds the rounding of the formula above.
        reach, length = distances[left, -1], square[chosen].sqrt()
        rounding = (4 + d**0.5) * torch.finfo(torch.float32).eps * (2 * length + reach).square()
        left = left[last + square[chosen] <= reach.square() + rounding]
        size = min(n, 4 * size)
    return indices, distances


def _shortlists(points: Tensor, square: Tensor, rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Of each row the `size` points of smallest |x_j|^2 - 2 x_i . x_j, in no order, and the largest of it."""
    # A block and its tile of points stay in a CPU's cache; a GPU wants few and large products.
    tall, wide = (2048, 2**17) if points.is_cuda else (512, 2**13)
    near, last = [], []
    for block in rows.split(tall):
        values, columns = [], []
        for start in range(0, len(points), wide):
            tile = slice(start, start + wide)
            value, column = _smallest(_gap(points[block], points[tile], square[tile]), size)
            values.append(value)
            columns.append(column + start)
        value, place = _smallest(torch.cat(values, 1), size)
        near.append(torch.cat(columns, 1).gather(1, place))
        last.append(value.amax(1))
    return torch.cat(near), torch.cat(last)


def _gap(queries: Tensor, points: Tensor, square: Tensor) -> Tensor:
    """|x_j|^2 - 2 x_i . x_j: the squared distance less |x_i|^2."""
    return torch.addmm(square, queries, points.T, alpha=-2)


def _smallest(values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The `size` smallest of each row (all, if there are fewer) and their columns, in no order.

    The row is folded: the smallest numbers lie in those columns of the fold whose minima are smallest. So
    only the minima and then these columns are searched, several times faster than all of the row.
    """
    n, total = values.shape
    size = min(size, total)
    fold = math.isqrt(total // size)
    if fold < 4:
        value, column = values.topk(size, largest=False, sorted=False)
        return value, column
    width = total // fold
    minima = values[:, : fold * width].unflatten(1, (fold, width)).amin(1)
    chosen = minima.topk(size, largest=False, sorted=False).indices
    unfolded = chosen[:, None] + width * torch.arange(fold, device=values.device)[:, None]
    rest = torch.arange(fold * width, total, device=values.device).expand(n, -1)
    columns = torch.cat([unfolded.flatten(1), rest], 1)
    value, place = values.gather(1, columns).topk(size, largest=False, sorted=False)
    return value, columns.gather(1, place)


def _ordered(points: Tensor, rows: Tensor, near: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The point itself and the k - 1 nearest of a shortlist (m, s), by distance and then index."""
    indices, distances = [], []
    at_once = 2**26 if points.is_cuda else 2**20  # coordinates
    step = max(1, at_once // (near.shape[1] * points.shape[1]))
    for own, some in zip(rows.split(step), near.split(step), strict=True):
        some = some.sort(1).values
        away = points[some].sub_(points[own, None]).norm(dim=2)
        away, order = away.masked_fill_(some == own[:, None], math.inf).sort(dim=1, stable=True)
        indices.append(torch.cat([own[:, None], some.gather(1, order[:, : k - 1])], 1))
        distances.append(torch.cat([torch.zeros_like(away[:, :1]), away[:, : k - 1]], 1))
    return torch.cat(indices), torch.cat(distances)


def _cells(points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Approximate lists of all points. Returns indices and distances, (n, k)."""
    n = len(points)
    plane = _principal(points, PLANE)
    own, centres = _partition(plane[:, :COARSE].contiguous(), max(1, n // CELL))
    # Points of a cell lie together in memory from here on; `order` holds their old indices.
    order = own.argsort(stable=True)
    points, plane = points[order], plane[order]
    square = points.square().sum(1)
    ends = torch.bincount(own, minlength=len(centres)).cumsum(0).tolist()
    spans = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    probed = min(len(spans), max(PROBED, 2 * k))  # no cell is empty, so that these hold 2 k points
    apart = torch.cdist(centres, centres).fill_diagonal_(-1)
    probes = apart.topk(probed, largest=False).indices.sort(1).values.tolist()
    indices, distances = [], []
    places = torch.arange(n, device=points.device)
    for span, cells in zip(spans, probes, strict=True):
        columns = torch.cat([places[spans[cell]] for cell in cells])
        seen, lengths = plane[columns], square[columns]
        for rows in places[span].split(512):
            _, near = _smallest(_gap(plane[rows], seen, lengths), 2 * k)
            index, distance = _ordered(points, rows, columns[near], k)
            indices.append(index)
            distances.append(distance)
    back = order.argsort()
    return order[torch.cat(indices)[back]], torch.cat(distances)[back]


def _principal(points: Tensor, axes: int) -> Tensor:
    """Coordinates (n, min(d, axes)) along the principal axes of at most 10,000 points, the largest first."""
    if points.shape[1] <= axes:
        return points
    some = points[torch.randperm(len(points), generator=_stream())[:10_000].to(points.device)]
    return points @ torch.linalg.eigh(some.T @ some).eigenvectors[:, -axes:].flip(1)


def _partition(plane: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """The cell of each point (n,) and the centres, after three steps by Lloyd on 16 points a cell.

    Cells without points are left out.
    """
    some = plane[torch.randperm(len(plane), generator=_stream())[: 16 * cells].to(plane.device)]
    centres = some[:cells]
    for _ in range(3):
        own = _nearest(some, centres)
        count = torch.bincount(own, minlength=cells)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, own, some)
        centres = torch.where(count > 0, sums / count.clamp(min=1), centres)
    used, own = _nearest(plane, centres).unique(return_inverse=True)
    return own, centres[used]


def _nearest(plane: Tensor, centres: Tensor) -> Tensor:
    square = centres.square().sum(1)
    return torch.cat([_gap(block, centres, square).argmin(1) for block in plane.split(4096)])


# How much it counts


@torch.no_grad()
def local_scale(distances: Tensor) -> tuple[Tensor, Tensor]:
    """rho_i, the distance to the nearest point that differs from point i, and sigma_i, which solves

        sum_{j in kNN(i), j != i} exp(-max(0, d_ij - rho_i) / sigma_i) = log2(k)

    by bisection, in all rows at once. The sum grows with sigma and is at least (k - 1) exp(-g / sigma) for
    the largest gap g = d - rho, so the solution lies below g / ln((k - 1) / log2 k). Where so many points are
    as near as the nearest that there is none, sigma is 1/1000 of the mean distance in the row (in all rows,
    if no point of the row differs): umap-learn's floor, which holds everywhere.

    distances: (n, k) floating, ascending, the point itself first. Returns rho (n,) >= 0 and sigma (n,) >= 0,
    in the unit of the distances; sigma is 0 only if all distances are. Raises ValueError as `weights` does.
    """
    _check_distances(distances)
    k = distances.shape[1]
    infinite = torch.full_like(distances, math.inf)
    rho = torch.where(distances > 0, distances, infinite).amin(1)
    rho = torch.where(rho.isfinite(), rho, 0)
    gap = (distances[:, 1:] - rho[:, None]).clamp(min=0)
    target = math.log2(k)
    # With k = 2 the only gap is 0: any sigma does.
    high = gap.amax(1) / (math.log((k - 1) / target) if k > 2 else 1)
    low = torch.zeros_like(high)
    for _ in range(STEPS):
        middle = (low + high) / 2
        above = _membership(gap, middle).sum(1) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    mean = torch.where(rho > 0, distances.mean(1), distances.mean())
    return rho, torch.maximum((low + high) / 2, FLOOR * mean)


@torch.no_grad()
def weights(distances: Tensor, rho: Tensor, sigma: Tensor) -> Tensor:
    """w_{j|i} = exp(-max(0, d_ij - rho_i) / sigma_i): how much of a neighbour j is to i, locally normalised.

    UMAP's membership strength. The nearest neighbour gets 1 everywhere, however far it is; a row sums to
    log2(k), unless sigma is at its floor.

    distances: (n, k), the point itself first; rho, sigma: (n,), from `local_scale`. Returns (n, k) in [0, 1],
    whose first column is 0: no point is its own neighbour. Raises ValueError unless distances are (n, k)
    floating numbers with k at least 2, finite and not negative, and 0 in the first column.
    """
    _check_distances(distances)
    gap = (distances[:, 1:] - rho[:, None]).clamp(min=0)
    return torch.cat([torch.zeros_like(distances[:, :1]), _membership(gap, sigma)], 1)


def _membership(gap: Tensor, sigma: Tensor) -> Tensor:
    return torch.where(gap > 0, torch.exp(-gap / sigma[:, None]), 1)


def _check_distances(distances: Tensor) -> None:
    if distances.ndim != 2 or distances.shape[1] < 2 or not distances.is_floating_point():
        raise ValueError(
            f"Distances must be floating numbers of shape (n, k), k >= 2, not {distances.dtype} of shape "
            f"{tuple(distances.shape)}."
        )
    if not bool(((distances >= 0) & distances.isfinite()).all()):
        raise ValueError("Distances must be finite and not negative.")
    if bool(distances[:, 0].any()):
        raise ValueError("The first column of distances must be 0: a list begins with the point itself.")


@torch.no_grad()
def fuzzy_union(indices: Tensor, weights: Tensor) -> Edges:
    """Both directions made one: w_ij = w_{j|i} + w_{i|j} - w_{j|i} w_{i|j}, UMAP's probabilistic union.

    If i and j each call the other a neighbour with these probabilities, independently, w_ij is the
    probability that at least one does. No n x n matrix is made: the pairs are sorted, and equal ones stand
    side by side.

    indices: (n, k) integers, none twice in a row; -1 stands for no neighbour. weights: (n, k), of `weights`.
    Returns the symmetric edges with w > 0, without self edges. Raises ValueError if shapes differ or an index
    is below -1 or not below n.
    """
    n = len(indices)
    if indices.shape != weights.shape or indices.ndim != 2 or indices.numel() == 0:
        shapes = f"indices {tuple(indices.shape)} and weights {tuple(weights.shape)}"
        raise ValueError(f"{shapes} must both be (n, k).")
    low, high = (int(end) for end in indices.aminmax())
    if low < -1 or high >= n:
        raise ValueError(f"indices lie in [{low}, {high}], but points are 0 to {n - 1} (and -1 is none).")
    rows = torch.arange(n, device=indices.device)[:, None].expand_as(indices)
    kept = (indices >= 0) & (indices != rows) & (weights > 0)
    rows, columns, w = rows[kept], indices[kept].long(), weights[kept]
    keys, order = torch.cat([rows * n + columns, columns * n + rows]).sort()
    w = torch.cat([w, w])[order]
    second = torch.zeros_like(keys, dtype=torch.bool)
    second[1:] = keys[1:] == keys[:-1]
    other = torch.where(second, w, 0).roll(-1)  # the weight of the other direction, beside the first; else 0
    keys, w, other = keys[~second], w[~second], other[~second]
    less, more = torch.minimum(w, other), torch.maximum(w, other)
    return Edges(keys // n, keys % n, more + less * (1 - more))  # so 1 stays 1, and both directions are equal


# Positive pairs


@torch.no_grad()
def repeats(edges: Edges, times: int = 200) -> Tensor:
    """How often a directed edge stands in the list of positives: floor(times w), or 0 if w < max(w) / times.

    The sampling of UMAP (`times` is its n_epochs), as the public code of LNSCC has it. Returns (m,) int64.
    Raises ValueError if there is no edge or `times` is below 1.
    """
    if times < 1 or len(edges.weights) == 0:
        raise ValueError(f"times={times} and the number of edges={len(edges.weights)} must be at least 1.")
    w = edges.weights
    return torch.where(w < w.max() / times, 0, (times * w).floor()).long()


def epoch(
    edges: Edges, batch_size: int, generator: torch.Generator, times: int = 200, shuffled: bool | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of positive pairs: the list in which each edge stands `repeats` times, in batches.

    The list itself is never made: place p of it belongs to the first edge whose cumulative repeats exceed p.

    shuffled: True goes through all places in random order, once each, as the release does: a permutation in
    int32, 4 bytes a place. False draws each place on its own instead, in constant memory: an edge comes as
    often on average, but its count in an epoch varies as a multinomial one. None: True up to 2^25 places.
    MNIST (k = 30) has 117 million, of which 50,000 batches of 500 are a fifth in both cases.

    generator: on any device. Yields rows and columns, each (batch_size,) int64 on the device of the edges;
    the last batch may be smaller. A training that needs fewer batches may stop at any.
    Raises ValueError as `repeats` does, if batch_size is below 1, or if 2^31 places or more are to be
    shuffled.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1.")
    ends = repeats(edges, times).cumsum(0)
    total = int(ends[-1])
    if shuffled and total >= 2**31:
        raise ValueError(f"A list of {total:,} places is too long to be shuffled. Give shuffled=False.")
    return _batches(edges, ends, batch_size, generator, total <= SHUFFLED if shuffled is None else shuffled)


@torch.no_grad()
def _batches(
    edges: Edges, ends: Tensor, batch_size: int, generator: torch.Generator, shuffled: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    total, device = int(ends[-1]), generator.device
    if shuffled:
        permuted = torch.randperm(total, generator=generator, device=device, dtype=torch.int32)
    step = batch_size * max(1, DRAWN // batch_size)
    for start in range(0, total, step):
        if shuffled:
            places = permuted[start : start + step]
        else:
            places = torch.randint(total, (min(step, total - start),), generator=generator, device=device)
        picked = torch.searchsorted(ends, places.to(ends), right=True)
        batches = (end[picked].split(batch_size) for end in (edges.rows, edges.columns))
        yield from zip(*batches, strict=True)
