"""Outliers by a Gaussian mixture: the closed form for one component, planted outliers, and counts by hand."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from pullpush import evaluation


def field(n: int = 600, d: int = 5, scattered: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two unlike Gaussian clusters, three in four samples in the first, and `scattered` points far off."""
    stream = np.random.default_rng(seed)
    z = stream.normal(size=(n, d)) @ stream.normal(size=(d, d))
    z[: n // 4] = 0.5 * stream.normal(size=(n // 4, d)) + 8
    truth = np.zeros(n, dtype=bool)
    truth[stream.permutation(n)[:scattered]] = True
    direction = stream.normal(size=(scattered, d))
    z[truth] = 40 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return z, truth


def test_one_component_is_one_gaussian():
    """log p in closed form, from mean and covariance, with 1/1000 of the mean variance on the diagonal."""
    z, _ = field()
    ridge = 1e-3 * z.var(0).mean() * np.eye(5)
    gaussian = multivariate_normal(z.mean(0), np.cov(z.T, bias=True) + ridge)
    found = evaluation.gmm_outliers(z, components=1, share=0.1)
    np.testing.assert_allclose(found["log_likelihood"], gaussian.logpdf(z), rtol=1e-9)
    assert (found["clusters"] == 0).all()
    assert set(np.flatnonzero(found["outlier"])) == set(np.argsort(gaussian.logpdf(z))[:60])


def test_two_components_are_the_mixture_of_their_gaussians():
    """Once settled, weights, means and covariances are those of the responsibilities that they give."""
    z, _ = field()
    found = evaluation.gmm_outliers(z)
    peer = GaussianMixture(2, reg_covar=1e-3 * z.var(0).mean(), random_state=1, max_iter=300).fit(z)
    parts = [
        np.log(w) + multivariate_normal(m, s).logpdf(z)
        for w, m, s in zip(peer.weights_, peer.means_, peer.covariances_, strict=True)
    ]
    np.testing.assert_allclose(found["log_likelihood"], logsumexp(parts, axis=0), atol=0.05)


def test_clusters_are_numbered_by_size():
    z, _ = field(scattered=0)
    for seed in range(4):
        clusters = evaluation.gmm_outliers(z, seed=seed)["clusters"]
        assert clusters.dtype == np.int64
        np.testing.assert_array_equal(clusters, np.arange(600) < 150)
        sizes = np.bincount(evaluation.gmm_outliers(z, components=4, seed=seed)["clusters"], minlength=4)
        assert (np.diff(sizes) <= 0).all()


def test_scattered_outliers_are_found_exactly():
    z, truth = field()
    found = evaluation.gmm_outliers(z, share=0.02)
    np.testing.assert_array_equal(found["outlier"], truth)
    curve = evaluation.outlier_curve(found["log_likelihood"], truth)
    assert curve["average_precision"] == 1


def test_a_small_component_of_its_own_is_the_outliers_of_the_other_reading():
    z, _ = field(scattered=0)
    z[-20:] = 0.1 * np.random.default_rng(1).normal(size=(20, 5)) - 15
    found = evaluation.gmm_outliers(z, components=3, share=None)
    np.testing.assert_array_equal(found["outlier"], np.arange(600) >= 580)
    np.testing.assert_array_equal(found["outlier"], found["clusters"] == 2)
    # Together they are likely, once they have a component: the lowest log p lies elsewhere.
    assert evaluation.outlier_curve(found["log_likelihood"], found["outlier"])["average_precision"] < 0.2


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.001, 1), (0.02, 12), (0.0159, 10), (1, 600)])
def test_the_share_is_a_count(share, count):
    z, _ = field()
    found = evaluation.gmm_outliers(z, share=share)
    assert found["outlier"].sum() == count
    if 0 < count < 600:
        outside, inside = (found["log_likelihood"][mask] for mask in (found["outlier"], ~found["outlier"]))
        assert outside.max() <= inside.min()


def test_the_unit_and_the_origin_of_z_do_not_matter():
    z, _ = field()
    plain, moved = evaluation.gmm_outliers(z), evaluation.gmm_outliers(1e-3 * z + 7)
    np.testing.assert_array_equal(plain["clusters"], moved["clusters"])
    np.testing.assert_array_equal(plain["outlier"], moved["outlier"])
    np.testing.assert_allclose(moved["log_likelihood"], plain["log_likelihood"] + 5 * np.log(1e3), rtol=1e-6)


def test_directions_without_spread_and_repeated_rows_are_no_trouble():
    z, truth = field()
    flat = np.concatenate([z, np.zeros((600, 3)), z[:, :1]], 1)
    np.testing.assert_array_equal(evaluation.gmm_outliers(flat)["outlier"], truth)
    few = evaluation.gmm_outliers(np.repeat([[0.0, 1.0], [5.0, 5.0]], [9, 3], axis=0), share=None)
    assert few["outlier"].sum() == 3
    assert np.isfinite(few["log_likelihood"]).all()


def test_it_is_fixed_by_its_seed_and_takes_tensors():
    z, _ = field()
    state = torch.get_rng_state()
    first = evaluation.gmm_outliers(z.astype(np.float32), seed=3)
    for again in (torch.tensor(z, dtype=torch.float32), torch.tensor(z).float().requires_grad_()):
        for name, value in evaluation.gmm_outliers(again, seed=3).items():
            np.testing.assert_array_equal(value, first[name])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_curve_is_a_loop_over_thresholds():
    stream = np.random.default_rng(0)
    scores, truth = stream.integers(0, 30, 80).astype(float), stream.random(80) < 0.2  # with ties
    curve = evaluation.outlier_curve(scores, torch.tensor(truth))
    assert curve["threshold"][-1] == -np.inf and curve["precision"][-1] == 1 and curve["recall"][-1] == 0
    for t, precision, recall in list(
        zip(curve["threshold"], curve["precision"], curve["recall"], strict=True)
    )[:-1]:
        called = [bool(truth[i]) for i in range(80) if scores[i] <= t]
        assert precision == pytest.approx(sum(called) / len(called))
        assert recall == pytest.approx(sum(called) / truth.sum())
    assert (np.diff(curve["threshold"]) < 0).all()
    steps = -np.diff(curve["recall"])
    assert curve["average_precision"] == pytest.approx((steps * curve["precision"][:-1]).sum())


def test_the_curve_by_hand():
    """From the least likely: an outlier, another sample, an outlier."""
    curve = evaluation.outlier_curve([-9.0, -5.0, -4.0, -1.0], [True, False, True, False])
    assert curve["threshold"].tolist() == [-1, -4, -5, -9, -np.inf]
    assert curve["precision"].tolist() == pytest.approx([1 / 2, 2 / 3, 1 / 2, 1, 1])
    assert curve["recall"].tolist() == [1, 1, 1 / 2, 1 / 2, 0]
    assert curve["average_precision"] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


Z = np.eye(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.gmm_outliers(Z[0]), r"need shape \(n, d\) with at least one row, not \(4,\)"),
        (lambda: evaluation.gmm_outliers(Z[:0]), r"not \(0, 4\)"),
        (lambda: evaluation.gmm_outliers(Z * np.nan), "NaN"),
        (lambda: evaluation.gmm_outliers(Z, components=0), "components=0 must be between 1 and .* 4"),
        (lambda: evaluation.gmm_outliers(Z, components=5), "components=5"),
        (lambda: evaluation.gmm_outliers(Z, share=1.5), "share=1.5 of outliers must be between 0 and 1"),
        (lambda: evaluation.gmm_outliers(Z, share=np.nan), "share=nan"),
        (lambda: evaluation.gmm_outliers(Z, components=1, share=None), "components of at least 2"),
        (lambda: evaluation.gmm_outliers(np.ones((9, 3))), "All 9 rows are equal"),
        (lambda: evaluation.outlier_curve([1, 2], [True]), r"\(2,\) and truth \(1,\)"),
        (lambda: evaluation.outlier_curve([1, np.nan], [True, False]), "NaN"),
        (lambda: evaluation.outlier_curve([1, 2], [0, 0]), "None of 2 samples is an outlier"),
    ],
)
def test_bad_input_says_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()
