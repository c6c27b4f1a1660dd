"""The start of the centres: which run of k-means is kept, and that shares and centres stay together."""

import math

import numpy as np
import pytest
import torch

from pullpush.evaluation import balanced_start


def blobs(sizes: list[int], seed: int = 0) -> np.ndarray:
    """Well separated clusters of the given sizes, at the corners of a grid, (n, 2)."""
    stream = np.random.default_rng(seed)
    places = [(10 * (i % 4), 10 * (i // 4)) for i in range(len(sizes))]
    return np.concatenate([stream.normal(p, 1, (n, 2)) for p, n in zip(places, sizes, strict=True)])


def divergence(pi: list[float], r: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(pi, r, strict=True))


def test_of_all_runs_the_most_balanced_is_kept():
    """Against scikit-learn's runs, one by one."""
    from sklearn.cluster import KMeans

    z = np.random.default_rng(0).random((600, 2)).astype(np.float32)  # no clusters: every run differs
    found = balanced_start(z, 12, runs=8, seed=3)
    expected = []
    for seed in range(3, 11):
        r = np.bincount(KMeans(12, n_init=1, random_state=seed).fit(z).labels_) / len(z)
        expected.append(divergence([1 / 12] * 12, r.tolist()))
    assert found["divergences"] == pytest.approx(expected)
    assert found["divergence"] == min(found["divergences"]) < max(found["divergences"])
    kept = KMeans(12, n_init=1, random_state=3 + int(np.argmin(expected))).fit(z)
    np.testing.assert_array_equal(found["clusters"], kept.labels_)
    np.testing.assert_array_equal(found["centres"], kept.cluster_centers_)
    assert found["wcss"] == pytest.approx(kept.inertia_)


def test_blobs_of_one_size_are_found():
    found = balanced_start(blobs([50] * 10), 10)
    assert sorted(np.bincount(found["clusters"])) == [50] * 10
    assert found["divergence"] == pytest.approx(0, abs=1e-12)
    assert found["centres"].shape == (10, 2)
    assert found["centres"].dtype == np.float32
    assert found["shares"].tolist() == [0.1] * 10


@pytest.mark.parametrize("shares", ["estimated", [0.1, 0.3, 0.6], [0.6, 0.1, 0.3]])
def test_shares_are_in_the_order_of_the_centres(shares):
    """Expected sizes name no cluster: the largest share goes to the largest cluster."""
    z = blobs([100, 300, 600])
    found = balanced_start(z, 3, shares)
    truth = {0: 0.1, 10: 0.3, 20: 0.6}
    for centre, share in zip(found["centres"], found["shares"], strict=True):
        assert share == pytest.approx(truth[round(float(centre[0]), -1)])
    r = np.bincount(found["clusters"]) / 1000
    np.testing.assert_allclose(found["shares"], r)
    assert found["divergence"] == pytest.approx(0, abs=1e-12)


def test_estimated_keeps_the_run_with_the_smallest_wcss():
    from sklearn.cluster import KMeans

    z = blobs([20, 40, 80, 160, 320, 640]).astype(np.float32)
    found = balanced_start(z, 6, "estimated", runs=10)
    each = [KMeans(6, n_init=1, random_state=seed).fit(z).inertia_ for seed in range(10)]
    assert found["wcss"] == pytest.approx(min(each))
    assert found["shares"].sum() == pytest.approx(1)


def test_uniform_prefers_balance_where_wcss_does_not():
    """Corners of a rectangle, 1 wide and 2 high, few points below and many above. Lloyd rests with the halves
    left and right, 50 points each and a WCSS of 2 (10 40 / 50) 2^2, and with 20 below and 80 above, 5 + 20.
    """
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 2.0]])
    z = corners.repeat([10, 10, 40, 40], axis=0)
    balanced, tight = balanced_start(z, 2, runs=40), balanced_start(z, 2, "estimated", runs=40)
    assert sorted(np.bincount(balanced["clusters"])) == [50, 50]
    assert balanced["wcss"] == pytest.approx(64)
    assert balanced["divergence"] == 0
    assert sorted(np.bincount(tight["clusters"])) == [20, 80]
    assert tight["wcss"] == pytest.approx(25)
    assert sorted(tight["shares"]) == [0.2, 0.8]
    lopsided = balanced_start(z, 2, [0.75, 0.25], runs=40)
    assert sorted(np.bincount(lopsided["clusters"])) == [20, 80]
    assert lopsided["divergence"] == pytest.approx(divergence([0.25, 0.75], [0.2, 0.8]))


def test_a_tensor_is_taken_and_the_seed_decides():
    z = torch.from_numpy(blobs([40] * 9)).float()
    one, same = (balanced_start(z, 9, runs=3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one["centres"], same["centres"])
    np.testing.assert_array_equal(
        balanced_start(z, 9, runs=3, seed=6)["divergences"][:2], one["divergences"][1:]
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_empty_cluster_is_infinitely_far_from_uniform():
    z = np.array([[0.0, 0.0], [1.0, 1.0]] * 5)
    found = balanced_start(z, 3, runs=2)
    assert math.isinf(found["divergence"])
    estimated = balanced_start(z, 3, "estimated", runs=2)
    assert sorted(estimated["shares"]) == [0, 0.5, 0.5]
    assert estimated["divergence"] == 0


@pytest.mark.parametrize(
    ("z", "k", "options", "message"),
    [
        (np.ones((3, 2)), 4, {}, r"k=4 must be between 1 and the number of rows of z, .* \(3, 2\)"),
        (np.ones((3, 2)), 0, {}, "k=0 must be between 1"),
        (np.ones(3), 1, {}, r"shape \(3,\)"),
        (np.ones((3, 2)), 2, {"runs": 0}, "runs=0 must be at least 1"),
        (
            np.ones((3, 2)),
            2,
            {"shares": "unifrom"},
            "Unknown shares 'unifrom'. Allowed: uniform, estimated, or 2",
        ),
        (np.ones((3, 2)), 2, {"shares": [0.5, 0.6]}, "must be 2 numbers of at least 0 with the sum 1"),
        (np.ones((3, 2)), 2, {"shares": [1.0]}, "must be 2 numbers"),
    ],
)
def test_wrong_input_is_refused(z, k, options, message):
    with pytest.raises(ValueError, match=message):
        balanced_start(z, k, **options)
