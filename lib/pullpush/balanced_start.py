"""Where cluster centres start: of many runs of k-means, the one whose clusters have the expected sizes.

Taught in "Locally normalised clusters".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def balanced_start(
    z: ArrayLike, k: int, shares: str | Sequence[float] = "uniform", *, runs: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Of several runs of k-means, the one whose clusters come nearest to the sizes that one expects.

    KL(pi || r) = sum_k pi_k log(pi_k / r_k) is smallest,      r: the share of each cluster that a run found.

    So starts the release of LNSCC (Ma & Kim, IJCAI 2022, doi:10.24963/ijcai.2022/460), pi uniform. A run is
    scikit-learn's `KMeans` with n_init=1, which seeds by k-means++.

    z: (n, d), finite; k: clusters, 1 to n.
    shares: pi. "uniform" is 1/k for all; or k numbers with the sum 1, the largest for the largest cluster;
        or "estimated", where nothing is expected: the run with the smallest sum of squared distances (WCSS)
        is kept, and pi is what it found.
    runs: at least 1; seed: of the first, the others count on from it.

    Returns centres (k, d) float32, clusters (n,) int64, shares (k,) float64, pi in the order of the centres,
    divergence (KL, infinite if a cluster is empty) and wcss of the run that is kept, and divergences (runs,).
    Raises ValueError for other shares, sizes or runs.
    """
    from sklearn.cluster import KMeans

    x = np.asarray(z, dtype=np.float32)
    if x.ndim != 2 or not 1 <= k <= len(x):
        raise ValueError(f"k={k} must be between 1 and the number of rows of z, which has shape {x.shape}.")
    if runs < 1:
        raise ValueError(f"runs={runs} must be at least 1.")
    expected = _expected(shares, k)
    found = [KMeans(k, n_init=1, random_state=seed + run).fit(x) for run in range(runs)]
    sizes = [np.bincount(run.labels_, minlength=k) / len(x) for run in found]
    wcss = [float(run.inertia_) for run in found]
    if expected is None:
        kept = int(np.argmin(wcss))
        expected = np.sort(sizes[kept])
    divergences = np.array([_divergence(expected, np.sort(size)) for size in sizes])
    if not isinstance(shares, str) or shares == "uniform":
        kept = int(divergences.argmin())
    order = np.argsort(sizes[kept], kind="stable")  # of the clusters, smallest first, as `expected` is
    pi = np.empty(k)
    pi[order] = expected
    return {
        "centres": found[kept].cluster_centers_.astype(np.float32),
        "clusters": found[kept].labels_.astype(np.int64),
        "shares": pi,
        "divergence": float(divergences[kept]),
        "wcss": wcss[kept],
        "divergences": divergences,
    }


def _expected(shares: str | Sequence[float], k: int) -> np.ndarray | None:
    """pi in ascending order; None where it is to be estimated."""
    if isinstance(shares, str):
        if shares not in ("uniform", "estimated"):
            raise ValueError(f"Unknown shares '{shares}'. Allowed: uniform, estimated, or {k} numbers.")
        return np.full(k, 1 / k) if shares == "uniform" else None
    pi = np.sort(np.asarray(shares, dtype=np.float64))
    if pi.shape != (k,) or not (pi[0] >= 0 and abs(pi.sum() - 1) <= 1e-3):
        raise ValueError(f"shares={pi.tolist()} must be {k} numbers of at least 0 with the sum 1.")
    return pi


def _divergence(pi: np.ndarray, r: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        return float(np.sum(pi[pi > 0] * np.log(pi[pi > 0] / r[pi > 0])))
