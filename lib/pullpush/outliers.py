"""Outliers within a class: what a Gaussian mixture finds unlikely, and how well that finds planted ones.

The mixture and the curve are scikit-learn's. All public names are part of `pullpush.evaluation`. Taught in
"CLAWS".
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

RIDGE = 1e-3  # added to each variance, in mean variances of a column: keeps narrow components invertible
STARTS = 5  # of expectation maximisation, each from another k-means; the likeliest end is kept
ITERATIONS = 300  # in each start, at most


def gmm_outliers(
    z: ArrayLike, components: int = 2, share: float | None = 0.02, seed: int = 0
) -> dict[str, np.ndarray]:
    """Clusters of one class by a mixture of Gaussians with full covariances, and the samples outside them.

    log p(z) = log sum_j w_j N(z; mu_j, Sigma_j)

    Outliers are the round(share * n) samples of lowest log p; or with share=None those of the smallest
    component. CLAWS' "2 clusters + 1 for outliers" is either of components=2, share=0.02 and components=3,
    share=None. They see different outliers: those of the second have a component, and so are likely.

    Each variance gets 1/1000 of the mean variance of a column on top, so that neither the unit of z nor
    directions without spread matter. A covariance has d (d + 1) / 2 numbers: a component of fewer than some
    10 d samples fits their noise, and outliers among them become likely.

    z: (n, d), one class, on any device. Returns, fixed by `seed`, clusters (n,) int64, numbered by falling
    size; outlier (n,) bool; log_likelihood (n,), log p(z) in nats, which `outlier_curve` takes.
    Raises ValueError unless z is (n, d), finite, of rows that differ; 1 <= components <= n; and
    0 <= share <= 1, or None with at least 2 components.
    """
    from sklearn.mixture import GaussianMixture

    x = np.asarray(z.detach().cpu() if isinstance(z, Tensor) else z, dtype=np.float64)
    _check(x, components, share)
    scale = np.sqrt(x.var(0).mean())
    scaled = (x - x.mean(0)) / scale
    model = GaussianMixture(
        components, reg_covar=RIDGE, n_init=STARTS, max_iter=ITERATIONS, random_state=seed
    ).fit(scaled)
    found = model.predict(scaled)
    order = np.argsort(-np.bincount(found, minlength=components), kind="stable")
    clusters = np.argsort(order)[found]
    log_likelihood = model.score_samples(scaled) - x.shape[1] * np.log(scale)  # a density has the unit of z
    if share is None:
        outlier = clusters == components - 1
    else:
        outlier = np.zeros(len(x), dtype=bool)
        outlier[np.argsort(log_likelihood, kind="stable")[: round(share * len(x))]] = True
    return {"clusters": clusters, "outlier": outlier, "log_likelihood": log_likelihood}


def outlier_curve(log_likelihood: ArrayLike, truth: ArrayLike) -> dict[str, Any]:
    """Precision and recall of calling outliers what is no likelier than a threshold, for every threshold t.

    average_precision = sum_t (recall_t - recall_before_t) precision_t

    with t rising, so from few outliers called to many: 1 if every outlier is less likely than every other
    sample, and about the share of outliers by chance.

    log_likelihood: (n,), of `gmm_outliers`; truth: (n,), true for planted outliers. Returns precision, recall
    and threshold, arrays of one length, t falling to -inf, where none is called and precision is 1 by
    definition; and average_precision. Of equal likelihoods all or none are called.
    Raises ValueError for shapes that do not agree, likelihoods that are NaN, or a truth without outliers.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    scores = np.asarray(log_likelihood, dtype=np.float64)
    planted = np.asarray(truth.cpu() if isinstance(truth, Tensor) else truth).astype(bool)
    if scores.ndim != 1 or scores.shape != planted.shape:
        raise ValueError(f"Likelihoods {scores.shape} and truth {planted.shape} must both have shape (n,).")
    if np.isnan(scores).any():
        raise ValueError("Likelihoods hold NaN.")
    if not planted.any():
        raise ValueError(f"None of {len(planted)} samples is an outlier in truth: recall is not defined.")
    precision, recall, threshold = precision_recall_curve(planted, -scores)
    return {
        "precision": precision,
        "recall": recall,
        "threshold": np.append(-threshold, -np.inf),
        "average_precision": float(average_precision_score(planted, -scores)),
    }


def _check(x: np.ndarray, components: int, share: float | None) -> None:
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"Features need shape (n, d) with at least one row, not {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError("Features hold NaN or infinite values.")
    if not 1 <= components <= len(x):
        raise ValueError(f"components={components} must be between 1 and the number of rows, {len(x)}.")
    if share is None and components < 2:
        raise ValueError("share=None calls the smallest component outliers: give components of at least 2.")
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"share={share} of outliers must be between 0 and 1, or None for a component.")
    if not (x.var(0) > 0).any():
        raise ValueError(f"All {len(x)} rows are equal: the embedding has collapsed, and none lies outside.")
