"""Clusters and what they are worth: agreement with labels, k-means and its elbow, cover of the sphere.

Scores, silhouettes and planes are scikit-learn's and scipy's; k-means is ours, because an elbow needs thirty
of them. All public names are part of `pullpush.evaluation`.
Taught in "Judging a representation" and "CC against RCC".
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

KEPT = 4  # starts that are compared on all rows
ITERATIONS = 100  # of Lloyd, at most
SETTLED = 1e-4  # centres that together moved less, squared and in mean variances, rest; as in scikit-learn
AT_ONCE = 2**20  # similarities held at a time: 4 MB of fp32, which stay in the cache


# Agreement with labels


def clustering_scores(labels: ArrayLike, clusters: ArrayLike) -> dict[str, float]:
    """How well clusters agree with labels, whatever the clusters are called.

    acc = max_sigma mean_i 1[labels_i = sigma(clusters_i)], sigma one-to-one (`match`). Samples of a cluster
    without a class count as wrong, so k may differ from the number of classes. nmi is normalised by the
    arithmetic mean of both entropies; ari and ami are adjusted: 0 on average for clusters at random.

    labels, clusters: (n,) integers. Returns acc and nmi in [0, 1], ari and ami at most 1.
    Raises ValueError unless both are (n,) with n at least 1.
    """
    from sklearn import metrics

    labels, clusters = _names(labels, clusters)
    hits = sum(
        np.count_nonzero((clusters == cluster) & (labels == label))
        for cluster, label in match(labels, clusters).items()
    )
    return {
        "acc": float(hits / len(labels)),
        "nmi": float(metrics.normalized_mutual_info_score(labels, clusters)),
        "ari": float(metrics.adjusted_rand_score(labels, clusters)),
        "ami": float(metrics.adjusted_mutual_info_score(labels, clusters)),
    }


def match(labels: ArrayLike, clusters: ArrayLike) -> dict[int, int]:
    """The class that each cluster stands for in `acc`: cluster -> label, by the Hungarian method.

    One-to-one with as many agreements as possible: scipy's linear_sum_assignment on the rectangular table of
    counts. With more clusters than classes the surplus clusters are missing; with fewer, some classes are.
    Shapes and errors as in `clustering_scores`.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    labels, clusters = _names(labels, clusters)
    rows, columns = linear_sum_assignment(contingency_matrix(clusters, labels), maximize=True)
    return dict(zip(np.unique(clusters)[rows].tolist(), np.unique(labels)[columns].tolist(), strict=True))


def plane_separation(
    z: ArrayLike, labels: ArrayLike, clusters: ArrayLike, seed: int = 0
) -> list[dict[str, Any]]:
    """How well a plane separates the two largest classes of each cluster: the RCC report's bimodality claim.

    Logistic regression on standardised coordinates, both classes weighted alike, fitted on one half of the
    two classes' samples and scored on the other by balanced accuracy. `seed` draws the stratified halves.

    z: (n, d); labels, clusters: (n,) integers. Returns one row a cluster, in ascending order: cluster,
    classes (the larger first), samples (of the two together), share (of the cluster that they make up) and
    accuracy, about 0.5 where no plane helps. It is NaN where the second class has fewer than two samples;
    `classes` is short where there is no second. Raises ValueError for shapes that do not agree.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = _rows(z).cpu().numpy()
    labels, clusters = _names(labels, clusters, n=len(x))
    found = []
    for cluster in np.unique(clusters):
        inside = clusters == cluster
        names, sizes = np.unique(labels[inside], return_counts=True)
        two = np.argsort(-sizes, kind="stable")[:2]
        members = np.flatnonzero(inside & np.isin(labels, names[two]))
        accuracy = math.nan
        if sizes[two].min() > 1 and len(two) == 2:
            fit, score = train_test_split(members, test_size=0.5, random_state=seed, stratify=labels[members])
            plane = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
            guessed = plane.fit(x[fit], labels[fit]).predict(x[score])
            accuracy = float(balanced_accuracy_score(labels[score], guessed))
        found.append(
            {
                "cluster": int(cluster),
                "classes": tuple(names[two].tolist()),
                "samples": len(members),
                "share": len(members) / int(inside.sum()),
                "accuracy": accuracy,
            }
        )
    return found


# k-means, and how many clusters there are


def kmeans(z: ArrayLike, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """k clusters with a small sum of squared distances to their centres (WCSS).

    The best of 8 to 32 starts: greedy k-means++ seeds (Arthur & Vassilvitskii 2007), all taken a few steps by
    Lloyd on a subsample; the best four then on all rows, and the best of these until it settles.

    z: (n, d), on any device. Returns clusters (n,) int64 and centres (k, d), fixed by `seed`. Clusters may be
    empty where fewer than k rows differ. Raises ValueError unless z is (n, d), finite, and 1 <= k <= n.
    """
    points, mean = _points(z)
    centres = _fit(points, k, torch.Generator().manual_seed(seed))
    return _nearest(points, centres).cpu().numpy(), (centres + mean).cpu().numpy()


def elbow(z: ArrayLike, ks: Sequence[int], seed: int = 0) -> dict[str, Any]:
    """k-means for every k in `ks`, and the k at which the curve of their WCSS bends most.

    x = (k - k_1) / (k_m - k_1),  y = (WCSS_k - WCSS_m) / (WCSS_1 - WCSS_m),  distance = (1 - x - y) / sqrt(2)

    is how far the curve lies below the chord between its ends; the elbow is where it is largest, the smaller
    k in a tie. Clusters that lie in groups bend the curve early: this k can then be too small.

    Each k starts as in `kmeans`, and from the centres of the k before it. z: (n, d), on any device; ks: at
    least three, ascending. Returns k, and one value for each of ks in the arrays ks, wcss and distance.
    Raises ValueError for other ks, and as `kmeans` does.
    """
    ks = [int(k) for k in ks]
    if len(ks) < 3 or ks != sorted(set(ks)):
        raise ValueError(f"ks={ks} must be at least three different numbers in ascending order.")
    points, _ = _points(z)
    stream = torch.Generator().manual_seed(seed)
    centres, wcss = None, []
    for k in ks:
        centres = _fit(points, k, stream, centres)
        own = centres.T[:, _nearest(points, centres)]
        wcss.append(float((points[:-1] - own).double().square().sum()))
    curve, x = np.array(wcss), (np.array(ks) - ks[0]) / (ks[-1] - ks[0])
    height = curve[0] - curve[-1]
    distance = (1 - x - (curve - curve[-1]) / height) / math.sqrt(2) if height > 0 else np.zeros(len(ks))
    return {"k": ks[int(distance.argmax())], "ks": np.array(ks), "wcss": curve, "distance": distance}


def silhouette(z: ArrayLike, clusters: ArrayLike, sample: int = 5000, seed: int = 0) -> float:
    """Mean silhouette of at most `sample` rows, drawn by `seed`: scikit-learn's, Euclidean, in [-1, 1].

    z: (n, d); clusters: (n,) integers. Raises ValueError unless m drawn rows lie in 2 to m - 1 clusters.
    """
    from sklearn.metrics import silhouette_score

    x = _rows(z).cpu().numpy()
    (clusters,) = _names(clusters, n=len(x))
    drawn = np.random.default_rng(seed).permutation(len(x))[:sample]
    found = len(np.unique(clusters[drawn]))
    if not 2 <= found < len(drawn):
        raise ValueError(
            f"A silhouette of {len(drawn)} rows needs 2 to {len(drawn) - 1} clusters; these have {found}."
        )
    return float(silhouette_score(x[drawn], clusters[drawn]))


def _fit(points: Tensor, k: int, stream: torch.Generator, before: Tensor | None = None) -> Tensor:
    """Centres (k, d). before: centres of fewer clusters, from which `KEPT` more starts are made."""
    n = points.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k={k} must be between 1 and the number of rows, {n}.")
    # Few clusters are fitted faster, and their local optima differ more: they get more starts and more rows.
    starts, size = min(max(8, 128 // k), 32), min(max(4096, 2**17 // k), 2**14)
    part = points[:, torch.randperm(n, generator=stream)[: max(size, 32 * k)].to(points.device)]
    first = torch.randint(part.shape[1], (starts, 1), generator=stream).to(points.device)
    centres = _seeds(part, part[:-1].T[first], k, stream)
    if before is not None:
        centres = torch.cat([centres, _seeds(part, before.expand(KEPT, -1, -1), k, stream)])
    centres = _lloyd(part, centres, 8)
    centres = centres[_closeness(part, centres).topk(KEPT).indices]
    centres = _lloyd(points, centres, 2)
    best = _closeness(points, centres).argmax()
    return _lloyd(points, centres[best, None], ITERATIONS)[0]


def _seeds(points: Tensor, centres: Tensor, k: int, stream: torch.Generator) -> Tensor:
    """Add to each set of centres (s, j, d), one by one, the point out of three that lowers the WCSS most.

    Points are drawn with a probability in proportion to their squared distance to the nearest centre.
    """
    coordinates, square = points[:-1].T, points[:-1].square().sum(0)
    every = torch.arange(len(centres), device=points.device)
    gap = (square - 2 * _similarity(points, centres).amax(1)).clamp(min=0)  # (s, n): squared distances
    while centres.shape[1] < k:
        reach = gap.cumsum(1)
        drawn = torch.rand(len(centres), 3, generator=stream).to(reach) * reach[:, -1:]
        candidates = coordinates[torch.searchsorted(reach, drawn).clamp(max=len(coordinates) - 1)]
        narrowed = (square - 2 * _similarity(points, candidates)).clamp(min=0).minimum(gap[:, None])
        best = narrowed.sum(2).argmin(1)
        gap = narrowed[every, best]
        centres = torch.cat([centres, candidates[every, best][:, None]], 1)
    return centres


def _lloyd(points: Tensor, centres: Tensor, iterations: int) -> Tensor:
    """Move each of the sets of centres (s, k, d) to the means of their points, until all sets rest.

    A point as near to two centres counts for both; a centre without points stays.
    """
    rest = SETTLED * float(points[:-1].square().mean())
    for _ in range(iterations):
        sums = torch.zeros(len(points), centres.shape[:2].numel()).to(points)
        for block in _blocks(points, centres):
            nearest = _similarity(block, centres)
            nearest.eq_(nearest.amax(1, keepdim=True))  # 1 for the nearest centre, 0 for the others
            sums += block @ nearest.flatten(0, 1).T
        total, count = sums.T.unflatten(0, centres.shape[:2]).split([len(points) - 1, 1], dim=2)
        means = torch.where(count > 0, total / count.clamp(min=1), centres)
        moved = (means - centres).square().sum((1, 2)).max()
        centres = means
        if moved <= rest:
            break
    return centres


def _points(z: ArrayLike) -> tuple[Tensor, Tensor]:
    """Columns (x - mean, 1), shape (d + 1, n), and the mean (d,).

    The 1 lets one product give what decides on the nearest centre, and one give sums and counts.
    """
    x = _rows(z)
    mean = x.mean(0, dtype=torch.double).to(x.dtype)
    return _with_ones(x - mean).T.contiguous(), mean


def _similarity(points: Tensor, centres: Tensor) -> Tensor:
    """c . x - |c|^2 / 2 for sets of centres (s, k, d): (s, k, n). |x|^2 less twice this is |x - c|^2."""
    planes = torch.cat([centres, centres.square().sum(-1, keepdim=True) / -2], -1)
    return (planes.flatten(0, 1) @ points).unflatten(0, centres.shape[:2])


def _closeness(points: Tensor, centres: Tensor) -> Tensor:
    """What the WCSS of each set of centres (s, k, d) decreases with, (s,)."""
    blocks = _blocks(points, centres)
    return torch.stack([_similarity(block, centres).amax(1).double().sum(1) for block in blocks]).sum(0)


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The nearest of the centres (k, d) for each point, (n,) int64."""
    blocks = _blocks(points, centres[None])
    return torch.cat([_similarity(block, centres[None])[0].max(0).indices for block in blocks])


def _blocks(points: Tensor, centres: Tensor) -> tuple[Tensor, ...]:
    return points.split(max(1, AT_ONCE // centres.shape[:2].numel()), dim=1)


# How much of the sphere is in use


def coverage(h: ArrayLike, cells: int = 1000) -> dict[str, float]:
    """How much of the sphere S^2 the points use, beside which `uniform_coverage` puts what chance gives.

    Cells of equal area: bands between latitudes, each cut into the whole number of cells that its area is
    worth; by Archimedes the area of a band is in proportion to its height. h: (n, 3), rows of unit length.
    Returns occupied, the share of cells that hold a point, and entropy, -sum p log p / log(cells) for the
    shares p of points in the cells. Both lie in [0, 1]: all points in one cell give 1 / cells and 0.
    Raises ValueError unless h is (n, 3), a row has unit length (tolerance 1e-3), and cells is at least 2.
    """
    _check_cells(cells)
    x = _rows(h).double().cpu().numpy()
    if x.shape[1] != 3:
        raise ValueError(f"Coverage is defined for points (n, 3) on the sphere, not {x.shape}.")
    length = np.linalg.norm(x, axis=1)
    off = np.abs(length - 1)
    if off.max() > 1e-3:
        raise ValueError(f"Row {off.argmax()} has length {length[off.argmax()]:.4g}: all must have length 1.")
    share = np.bincount(_cell(x, cells), minlength=cells) / len(x)
    held = share[share > 0]
    return {"occupied": len(held) / cells, "entropy": float(held @ np.log(1 / held)) / math.log(cells)}


def uniform_coverage(n: int, cells: int = 1000) -> dict[str, float]:
    """What `coverage` gives on average for n points drawn uniformly on the sphere, exactly.

    A cell holds c of them with the binomial probability B(c), of n draws that each hit with 1 / cells:

        occupied = 1 - (1 - 1 / cells)^n
        entropy = -cells sum_c B(c) (c / n) log(c / n) / log(cells)

    Raises ValueError unless n is at least 1 and cells at least 2.
    """
    from scipy.stats import binom

    _check_cells(cells)
    if n < 1:
        raise ValueError(f"n={n} must be at least 1.")
    share = np.arange(1, n + 1) / n
    each = binom.pmf(np.arange(1, n + 1), n, 1 / cells) @ (share * np.log(1 / share))
    return {"occupied": 1 - (1 - 1 / cells) ** n, "entropy": cells * float(each) / math.log(cells)}


def _cell(x: np.ndarray, cells: int) -> np.ndarray:
    """The number, below `cells`, of the cell that each point (n, 3) lies in."""
    bands = max(1, round(math.sqrt(math.pi * cells) / 2))  # about as high as their cells are wide
    above = cells * (1 - np.cos(np.linspace(0, np.pi, bands + 1))) / 2  # area above a latitude, in cells
    first = np.unique(np.round(above)).astype(int)  # number of each band's first cell, and of none
    depth = cells * (1 - x[:, 2]) / 2
    band = np.clip(np.searchsorted(first, depth, side="right") - 1, 0, len(first) - 2)
    turn = np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi) % 1
    width = np.diff(first)[band]
    return first[band] + np.minimum(turn * width, width - 1).astype(int)


# The probe of the report


def adam_probe(
    train_z: ArrayLike,
    train_labels: ArrayLike,
    test_z: ArrayLike,
    test_labels: ArrayLike,
    *,
    epochs: int = 5,
    learning_rate: float = 1e-4,
    batch_size: int = 256,
    seed: int = 0,
) -> dict[str, Any]:
    """The linear probe as the RCC report ran it: Linear(d, classes) on frozen features, by Adam, five epochs.

    That is far from converged: a weight moves at most about learning_rate times the number of steps, 0.12 for
    60,000 rows, while the first ones are drawn from U(-1, 1) / sqrt(d), as torch's. `linear_probe` converges.
    Adam (Kingma & Ba 2015, arXiv:1412.6980) has torch's defaults and is written out, for one matrix.

    train_z: (n, d), test_z: (m, d); labels: (n,) and (m,) integers. Computed on the device of train_z, with
    first weights and batches drawn by `seed`. Returns accuracy in [0, 1], predictions (m,), and loss, the
    mean cross-entropy of the last epoch. Raises ValueError for shapes that do not agree.
    """
    x, unseen = _rows(train_z), _rows(test_z)
    (train_labels,), (test_labels,) = _names(train_labels, n=len(x)), _names(test_labels, n=len(unseen))
    if unseen.shape[1] != x.shape[1]:
        raise ValueError(f"train_z {tuple(x.shape)} and test_z {tuple(unseen.shape)} differ in d.")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs={epochs} and batch_size={batch_size} must be at least 1.")
    classes, target = np.unique(train_labels, return_inverse=True)
    x, unseen = _with_ones(x), _with_ones(unseen.to(x))
    wanted = functional.one_hot(torch.from_numpy(target), len(classes)).to(x)
    stream, bound = torch.Generator().manual_seed(seed), 1 / math.sqrt(x.shape[1] - 1)
    weight = torch.empty(len(classes), x.shape[1]).uniform_(-bound, bound, generator=stream).to(x)
    mean, square, steps = torch.zeros_like(weight), torch.zeros_like(weight), 0
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=stream).to(x.device)
        total = torch.zeros_like(weight[0, 0])
        for rows, truth in zip(x[order].split(batch_size), wanted[order].split(batch_size), strict=True):
            log_p = (rows @ weight.T).log_softmax(1)
            total -= (truth * log_p).sum()
            gradient = (log_p.exp() - truth).T @ rows / len(rows)
            steps += 1
            mean.lerp_(gradient, 0.1)
            square.lerp_(gradient.square(), 0.001)
            scale = (square / (1 - 0.999**steps)).sqrt_().add_(1e-8)
            weight.addcdiv_(mean, scale, value=-learning_rate / (1 - 0.9**steps))
    guessed = (unseen @ weight.T).argmax(1)
    predictions = classes[guessed.cpu().numpy()]
    return {
        "accuracy": float((predictions == test_labels).mean()),
        "predictions": predictions,
        "loss": float(total) / len(x),
    }


# What is given


def _rows(z: ArrayLike) -> Tensor:
    """z as a finite floating tensor (n, d) with n at least 1, on its device; fp64 stays, all else is fp32."""
    x = z.detach() if isinstance(z, Tensor) else torch.tensor(np.asarray(z))
    x = x if x.dtype == torch.double else x.float()
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"Features need shape (n, d) with at least one row, not {tuple(x.shape)}.")
    if not x.isfinite().all():
        raise ValueError("Features hold NaN or infinite values.")
    return x


def _with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def _names(*given: ArrayLike, n: int | None = None) -> list[np.ndarray]:
    """Labels or clusters as arrays of shape (n,); n is that of the first where it is not said."""
    arrays: list[np.ndarray] = [np.asarray(one.cpu() if isinstance(one, Tensor) else one) for one in given]
    expected = (arrays[0].size if n is None else n,)
    if expected == (0,) or any(one.shape != expected for one in arrays):
        shapes = " and ".join(str(one.shape) for one in arrays)
        raise ValueError(f"Labels or clusters have shape {shapes}; one for each sample is {expected}.")
    return arrays


def _check_cells(cells: int) -> None:
    if cells < 2:
        raise ValueError(f"cells={cells} must be at least 2.")
