"""What an embedding is worth: probes on frozen features, with the protocol said by name.

Classifiers and neighbours are scikit-learn's; ours is only the protocol.
Taught in "Judging a representation" and "Pair against triplet".
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pullpush.balanced_start import balanced_start
from pullpush.clustering import (
    adam_probe,
    clustering_scores,
    coverage,
    elbow,
    kmeans,
    match,
    plane_separation,
    silhouette,
    uniform_coverage,
)
from pullpush.outliers import gmm_outliers, outlier_curve

__all__ = [
    "adam_probe",
    "balanced_start",
    "class_spread",
    "clustering_scores",
    "coverage",
    "elbow",
    "embed",
    "gmm_outliers",
    "kmeans",
    "knn_probe",
    "linear_probe",
    "match",
    "outlier_curve",
    "plane_separation",
    "silhouette",
    "split_probe",
    "uniform_coverage",
]


def embed(
    model: nn.Module,
    images: Tensor,
    prepare: Callable[[Tensor], Tensor],
    *,
    bn: str = "running",
    batch_size: int = 1024,
    seed: int = 0,
) -> np.ndarray:
    """Embeddings of `images` in their own order; `model` stays as it is.

    images: (n, c, h, w) uint8 on any device; `prepare` turns a batch of them into the model's input.
    bn: "running" normalises by the averages of training, as `model.eval()` does; "batch" by the statistics
        of each evaluation batch, as a network left in training mode does.
    seed: of the order in which batches are drawn, so that they are mixed even where the data set is sorted.
    Returns float32 (n, d). Raises ValueError for another `bn`.
    """
    if bn not in ("running", "batch"):
        raise ValueError(f"Unknown bn '{bn}'. Allowed: running, batch.")
    device = next(model.parameters()).device
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(bn == "batch")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).to(images.device)
    with torch.inference_mode():
        rows = torch.cat(
            [model(prepare(images[part]).to(device)).float() for part in order.split(batch_size)]
        )
        z = torch.empty_like(rows)
        z[order.to(device)] = rows
    return z.cpu().numpy()


def linear_probe(
    train_z: ArrayLike, train_labels: ArrayLike, test_z: ArrayLike, test_labels: ArrayLike
) -> dict[str, Any]:
    """Multinomial logistic regression on frozen features: scikit-learn's with max_iter=1000.

    train_z: (n, d), test_z: (m, d); labels: (n,) and (m,) integers. Returns accuracy and top3 in [0, 1],
    confusion (k, k) counts with the true class in rows, recall (k,) per class (NaN for a class without test
    samples), predictions (m,), classes (k,) and converged (bool). Raises ValueError if features and labels
    differ in length.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import confusion_matrix

    train_z, train_labels, test_z, test_labels = _checked(train_z, train_labels, test_z, test_labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told as `converged`
        probe = LogisticRegression(max_iter=1000).fit(train_z, train_labels)
    ranked = probe.classes_[np.argsort(-probe.predict_proba(test_z), axis=1)]
    hits = ranked == test_labels[:, None]
    classes = np.union1d(probe.classes_, test_labels)
    confusion = confusion_matrix(test_labels, ranked[:, 0], labels=classes)
    with np.errstate(invalid="ignore"):
        recall = np.diag(confusion) / confusion.sum(1)
    return {
        "accuracy": float(hits[:, 0].mean()),
        "top3": float(hits[:, :3].any(1).mean()),
        "confusion": confusion,
        "recall": recall,
        "predictions": ranked[:, 0],
        "classes": classes,
        "converged": bool(probe.n_iter_.max() < 1000),
    }


def knn_probe(
    train_z: ArrayLike,
    train_labels: ArrayLike,
    test_z: ArrayLike,
    test_labels: ArrayLike,
    neighbours: int = 30,
) -> dict[str, Any]:
    """Majority vote of the nearest training features (Euclidean, uniform weights), as the practicum's kNN-30.

    Shapes as in `linear_probe`. Returns accuracy in [0, 1] and predictions (m,).
    Raises ValueError if `neighbours` is not in 1..n.
    """
    from sklearn.neighbors import KNeighborsClassifier

    train_z, train_labels, test_z, test_labels = _checked(train_z, train_labels, test_z, test_labels)
    if not 1 <= neighbours <= len(train_z):
        raise ValueError(
            f"neighbours={neighbours} must be between 1 and the number of training features, {len(train_z)}."
        )
    predictions = (
        KNeighborsClassifier(neighbours, algorithm="brute").fit(train_z, train_labels).predict(test_z)
    )
    return {"accuracy": float((predictions == test_labels).mean()), "predictions": predictions}


def split_probe(
    z: ArrayLike, labels: ArrayLike, *, splits: int = 5, neighbours: int = 30, seed: int = 0
) -> dict[str, Any]:
    """The practicum's protocol: features of the test set, cut at random into 80 % to fit and 20 % to score.

    Splits are not stratified, as in the source; all three scores share a split, where the source drew a fresh
    one for top-3. z: (n, d); labels: (n,). Returns the means over splits of accuracy, top3 and knn30, their
    standard deviations over splits as accuracy_std, ..., the summed confusion (k, k), and its recall (k,).
    """
    z, labels = np.asarray(z), np.asarray(labels)
    classes = np.unique(labels)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    scores: dict[str, list[float]] = {"accuracy": [], "top3": [], "knn30": []}
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(len(z))
        fit, score = np.split(order, [int(0.8 * len(z))])
        linear = linear_probe(z[fit], labels[fit], z[score], labels[score])
        nearest = knn_probe(z[fit], labels[fit], z[score], labels[score], min(neighbours, len(fit)))
        scores["accuracy"].append(linear["accuracy"])
        scores["top3"].append(linear["top3"])
        scores["knn30"].append(nearest["accuracy"])
        place = np.searchsorted(classes, linear["classes"])
        confusion[np.ix_(place, place)] += linear["confusion"]
    result: dict[str, Any] = {name: float(np.mean(values)) for name, values in scores.items()}
    result |= {
        f"{name}_std": float(np.std(values, ddof=1)) if splits > 1 else 0.0 for name, values in scores.items()
    }
    with np.errstate(invalid="ignore"):
        recall = np.diag(confusion) / confusion.sum(1)
    return result | {"confusion": confusion, "recall": recall}


def class_spread(z: ArrayLike, labels: ArrayLike) -> dict[str, np.ndarray]:
    """Where each class lies and how wide it is: centre (k, d), and spread (k,).

    z: (n, d); labels: (n,). spread: mean squared distance of a class to its centre, over that of all samples
    to theirs; 0 for a single point, about 1 for a class that is scattered among all others.
    """
    z, labels = np.asarray(z), np.asarray(labels)
    of_class = [z[labels == c] for c in np.unique(labels)]
    within = np.array([members.var(0).sum() for members in of_class])
    return {"centre": np.stack([members.mean(0) for members in of_class]), "spread": within / z.var(0).sum()}


def _checked(*given: ArrayLike) -> list[np.ndarray]:
    arrays: list[np.ndarray] = [np.asarray(a.cpu() if isinstance(a, Tensor) else a) for a in given]
    for part, z, labels in zip(("train", "test"), arrays[::2], arrays[1::2], strict=True):
        if z.ndim != 2 or labels.shape != z.shape[:1]:
            raise ValueError(
                f"{part} features {z.shape} need shape (n, d) and {part} labels {labels.shape} shape (n,)."
            )
    return arrays
