"""Scores, k-means, elbow, cover of the sphere and the report's probe, against answers known in advance."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn import metrics
from sklearn.cluster import KMeans

from pullpush import clustering, evaluation


def blobs(k, per=150, width=0.03, seed=0):
    """k groups of `per` points about the corners of a simplex, all equally far apart: z (n, k) and labels."""
    labels = np.repeat(np.arange(k), per)
    z = np.eye(k)[labels] + width * np.random.default_rng(seed).normal(size=(k * per, k))
    return z.astype(np.float32), labels


def on_the_sphere(n, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_all_names_are_part_of_evaluation():
    for name in (
        *("adam_probe", "clustering_scores", "coverage", "elbow", "kmeans", "match"),
        *("plane_separation", "silhouette", "uniform_coverage"),
    ):
        assert getattr(evaluation, name) is getattr(clustering, name)


# Agreement with labels


def best_accuracy(labels, clusters):
    """The best of all one-to-one maps from clusters to classes or to nothing, one by one."""
    names, column = np.unique(clusters, return_inverse=True)
    targets = [*np.unique(labels), *[-1] * len(names)]
    return max(
        (np.array(mapping)[column] == labels).mean()
        for mapping in set(itertools.permutations(targets, len(names)))
    )


@pytest.mark.parametrize(("classes", "k"), [(3, 3), (2, 4), (4, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_the_best_of_all_maps(classes, k, seed):
    stream = np.random.default_rng(seed)
    labels, clusters = stream.integers(0, classes, 12), 7 * stream.integers(0, k, 12)
    scores = clustering.clustering_scores(labels, clusters)
    assert scores["acc"] == pytest.approx(best_accuracy(labels, clusters))
    mapping = clustering.match(labels, clusters)
    assert np.mean([mapping.get(c, -1) for c in clusters] == labels) == pytest.approx(scores["acc"])
    assert len(set(mapping.values())) == len(mapping) == min(len(set(labels)), len(set(clusters)))


def test_scores_do_not_depend_on_names_and_follow_their_definitions():
    stream = np.random.default_rng(0)
    labels = stream.integers(0, 4, 500)
    clusters = np.where(stream.random(500) < 0.6, labels, stream.integers(0, 5, 500))
    scores = clustering.clustering_scores(labels, clusters)
    renamed = clustering.clustering_scores(torch.tensor(labels), torch.tensor([3, 9, 0, 7, 1])[clusters])
    assert renamed == pytest.approx(scores)
    joint = np.histogram2d(labels, clusters, [np.arange(5), np.arange(6)])[0] / 500

    def entropy(p):
        return -sum(x * math.log(x) for x in np.ravel(p) if x > 0)

    of_labels, of_clusters = entropy(joint.sum(1)), entropy(joint.sum(0))
    assert scores["nmi"] == pytest.approx(
        2 * (of_labels + of_clusters - entropy(joint)) / (of_labels + of_clusters)
    )
    assert scores["ari"] == metrics.adjusted_rand_score(labels, clusters)
    assert scores["ami"] == metrics.adjusted_mutual_info_score(labels, clusters)


def test_scores_of_perfect_and_of_random_clusters():
    labels = np.arange(600) % 3
    perfect = clustering.clustering_scores(labels, (labels + 1) % 3)
    assert perfect == {name: pytest.approx(1) for name in ("acc", "nmi", "ari", "ami")}
    assert clustering.match(labels, (labels + 1) % 3) == {1: 0, 2: 1, 0: 2}
    chance = clustering.clustering_scores(labels, np.random.default_rng(0).integers(0, 3, 600))
    assert chance["acc"] < 0.4
    assert abs(chance["ari"]) < 0.02 > abs(chance["ami"])


def test_a_plane_separates_two_caps_and_not_one():
    """Cluster 0 holds a large and a small class far apart, cluster 1 two classes mixed, cluster 2 one."""
    stream = np.random.default_rng(0)
    clusters = np.repeat([0, 1, 2], [440, 800, 50])
    labels = np.concatenate([[5] * 300 + [2] * 100 + [9] * 40, stream.integers(0, 2, 800), [4] * 50])
    z = stream.normal(size=(1290, 3)) * 0.05
    z[300:400] += 1
    rows = clustering.plane_separation(z, labels, clusters)
    assert [row["cluster"] for row in rows] == [0, 1, 2]
    assert rows[0]["classes"] == (5, 2)
    assert (rows[0]["samples"], rows[0]["accuracy"]) == (400, 1)
    assert rows[0]["share"] == pytest.approx(400 / 440)
    assert rows[1]["samples"] == 800
    assert abs(rows[1]["accuracy"] - 0.5) < 0.08
    assert rows[2]["classes"] == (4,)
    assert math.isnan(rows[2]["accuracy"])
    for again, row in zip(clustering.plane_separation(1e-3 * z - 4, labels, clusters), rows, strict=True):
        assert again.pop("classes") == row.pop("classes")
        assert again == pytest.approx(row, nan_ok=True)


def test_a_plane_between_overlapping_classes_is_as_good_as_it_can_be():
    """Two unit normal clouds 2 apart: no rule beats Phi(1) = 0.841, however unequal their sizes."""
    stream = np.random.default_rng(1)
    labels = np.repeat([0, 1], [5500, 500])
    z = stream.normal(size=(6000, 2)) + 2 * labels[:, None] * np.array([1, 0])
    (row,) = clustering.plane_separation(z, labels, np.zeros(6000, dtype=int))
    assert row["accuracy"] == pytest.approx(0.841, abs=0.03)


# k-means and the elbow


def wcss(z, clusters):
    """Sum of squared distances of the members of each cluster to their mean."""
    return sum(len(own) * own.var(0).sum() for c in np.unique(clusters) if len(own := z[clusters == c]))


@pytest.mark.parametrize("k", [2, 5, 7])
def test_kmeans_is_as_good_as_scikit_learns(k):
    stream = np.random.default_rng(k)
    z = (stream.normal(size=(5, 3)).repeat(600, 0) + 0.3 * stream.normal(size=(3000, 3))).astype(np.float32)
    clusters, centres = clustering.kmeans(z, k)
    peer = KMeans(k, n_init=10, random_state=0).fit(z)
    assert wcss(z, clusters) == pytest.approx(peer.inertia_, rel=0.01)
    assert wcss(z, clusters) == pytest.approx(((z - centres[clusters]) ** 2).sum(), rel=1e-3)


def test_kmeans_assigns_to_the_nearest_of_centres_that_are_means():
    z, labels = blobs(4)
    clusters, centres = clustering.kmeans(z, 4)
    assert clusters.dtype == np.int64
    assert metrics.adjusted_rand_score(labels, clusters) == 1
    for x, cluster in zip(z, clusters, strict=True):
        assert cluster == np.argmin([((x - centre) ** 2).sum() for centre in centres])
    for cluster in range(4):
        np.testing.assert_allclose(centres[cluster], z[clusters == cluster].mean(0), atol=1e-6)


def test_kmeans_is_fixed_by_its_seed_alone():
    z = on_the_sphere(5000).astype(np.float32)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = clustering.kmeans(z, 7, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    for again in (clustering.kmeans(torch.tensor(z), 7, 3), clustering.kmeans(z.copy(), 7, seed=3)):
        np.testing.assert_array_equal(again[0], first[0])
        np.testing.assert_array_equal(again[1], first[1])
    assert not np.array_equal(clustering.kmeans(z, 7, seed=4)[0], first[0])


def test_kmeans_far_from_the_origin_in_fp64_and_in_small_blocks(monkeypatch):
    z, labels = blobs(5)
    for moved in (z.astype(np.float64) + 1e4, z + 100):
        clusters, centres = clustering.kmeans(moved, 5)
        assert centres.dtype == moved.dtype
        assert metrics.adjusted_rand_score(labels, clusters) == 1
    plain = clustering.kmeans(z, 3)
    monkeypatch.setattr(clustering, "AT_ONCE", 1000)
    blocked = clustering.kmeans(z, 3)
    assert wcss(z, blocked[0]) == pytest.approx(wcss(z, plain[0]))


def test_kmeans_at_its_ends():
    z, _ = blobs(2, per=10, width=1.0)
    np.testing.assert_allclose(clustering.kmeans(z, 1)[1], z.mean(0)[None], rtol=1e-5)
    assert sorted(clustering.kmeans(z, 20)[0]) == list(range(20))
    clusters, centres = clustering.kmeans(np.repeat([[0.0, 1.0], [5.0, 5.0]], 10, axis=0), 4)
    assert len(np.unique(clusters)) == 2  # two different rows cannot fill four clusters
    assert np.isfinite(centres).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_kmeans_and_elbow_on_a_gpu():
    z, labels = blobs(5)
    clusters, _ = clustering.kmeans(torch.tensor(z, device="cuda"), 5)
    assert metrics.adjusted_rand_score(labels, clusters) == 1
    assert clustering.elbow(torch.tensor(z, device="cuda"), range(1, 9))["k"] == 5
    assert clustering.adam_probe(torch.tensor(z, device="cuda"), labels, z, labels)["accuracy"] >= 0


@pytest.mark.parametrize("k", [3, 6, 10])
def test_elbow_finds_the_number_of_separated_blobs(k):
    z, _ = blobs(k, per=40)
    found = clustering.elbow(z, range(1, 14))
    assert found["k"] == k
    assert found["wcss"][0] == pytest.approx(wcss(z, np.zeros(len(z))), rel=1e-5)
    assert (np.diff(found["wcss"]) < 0).all()


def test_elbow_keeps_up_with_ten_restarts_of_scikit_learn():
    ks = [1, 2, 4, 9, 14]
    z = on_the_sphere(4000).astype(np.float32)
    z[:2000] = z[:10].repeat(200, 0) + 0.1 * z[2000:]
    found = clustering.elbow(z, ks, seed=1)
    peer = [KMeans(k, n_init=10, random_state=0).fit(z).inertia_ for k in ks]
    excess = found["wcss"] / peer - 1
    assert excess.mean() < 0.01
    assert excess.max() < 0.07


def test_the_elbow_is_the_point_farthest_from_the_chord():
    """Distances to the line through the first and the last point, in coordinates from 0 to 1."""
    found = clustering.elbow(on_the_sphere(500), [2, 3, 5, 8, 13])
    curve = found["wcss"]
    points = np.stack([(found["ks"] - 2) / 11, (curve - curve[-1]) / (curve[0] - curve[-1])], 1)
    along = (points[-1] - points[0]) / np.linalg.norm(points[-1] - points[0])
    expected = [np.linalg.norm(p - points[0] - (p - points[0]) @ along * along) for p in points]
    np.testing.assert_allclose(found["distance"], expected, atol=1e-12)
    assert found["k"] == [2, 3, 5, 8, 13][int(np.argmax(expected))]


def test_the_elbow_of_a_collapsed_embedding_is_the_first_k():
    found = clustering.elbow(np.ones((50, 3)), range(1, 5))
    assert found["k"] == 1
    np.testing.assert_array_equal(found["wcss"], 0)
    np.testing.assert_array_equal(found["distance"], 0)


def test_silhouette_is_scikit_learns_on_the_drawn_rows():
    z, labels = blobs(3, width=0.3)
    whole = metrics.silhouette_score(z, labels)
    assert clustering.silhouette(z, labels) == pytest.approx(whole, rel=1e-5)
    part = clustering.silhouette(torch.tensor(z), torch.tensor(labels), sample=200, seed=1)
    assert part == clustering.silhouette(z, labels, sample=200, seed=1)
    assert part == pytest.approx(whole, abs=0.05)
    assert part != pytest.approx(whole, rel=1e-5)


# Cover of the sphere


def test_one_point_takes_one_cell_of_a_thousand():
    for h in (np.array([[0, 0, 1.0]]), torch.tensor([[0.6, -0.8, 0.0]]).repeat(40, 1), -np.eye(3)[2:]):
        assert clustering.coverage(h) == {"occupied": 1 / 1000, "entropy": 0}
    poles = clustering.coverage(np.array([[0, 0, 1.0], [0, 0, -1.0]]))
    assert poles == {"occupied": 2 / 1000, "entropy": pytest.approx(math.log(2) / math.log(1000))}


@pytest.mark.parametrize("cells", [2, 7, 100, 997, 1000])
def test_cells_have_equal_area(cells):
    """Uniform points fall into all cells alike: chi squared within its central 99.9 %."""
    count = np.bincount(clustering._cell(on_the_sphere(100_000), cells), minlength=cells)
    assert len(count) == cells
    expected = 100_000 / cells
    assert chi2.cdf(((count - expected) ** 2 / expected).sum(), cells - 1) == pytest.approx(0.5, abs=0.4995)


def test_cells_are_compact():
    """No cell is a sliver: points of one cell lie within 2.5 times the side of a square of its area."""
    x = on_the_sphere(30_000)
    cell = clustering._cell(x, 1000)
    x, cell = x[np.argsort(cell)], np.sort(cell)
    for own in np.split(x, np.flatnonzero(np.diff(cell)) + 1):
        assert np.linalg.norm(own[:, None] - own, axis=2).max() < 2.5 * math.sqrt(4 * math.pi / 1000)


@pytest.mark.parametrize("n", [300, 1000, 10_000])
def test_coverage_of_uniform_points_is_near_its_expectation(n):
    expected = clustering.uniform_coverage(n)
    assert expected["occupied"] == pytest.approx(1 - 0.999**n)
    seeds = [clustering.coverage(on_the_sphere(n, seed)) for seed in range(4)]
    for name, tolerance in (("occupied", 0.02), ("entropy", 0.005)):
        assert np.mean([one[name] for one in seeds]) == pytest.approx(expected[name], abs=tolerance)


def test_uniform_coverage_in_closed_form():
    assert clustering.uniform_coverage(1) == {"occupied": pytest.approx(1 / 1000), "entropy": 0}
    two = clustering.uniform_coverage(2, cells=10)  # in different cells with 9 / 10, then log 2
    assert two == {
        "occupied": pytest.approx(0.19),
        "entropy": pytest.approx(0.9 * math.log(2) / math.log(10)),
    }
    assert clustering.uniform_coverage(10**5)["entropy"] == pytest.approx(1, abs=1e-3)


# The probe of the report


def naive_probe(x, y, *, epochs, learning_rate, batch_size, seed):
    """Softmax regression by Adam, written out in fp64 from the formulas of Kingma & Ba."""
    stream = torch.Generator().manual_seed(seed)
    n, d, k = len(x), x.shape[1], y.max() + 1
    theta = torch.empty(k, d + 1).uniform_(-(d**-0.5), d**-0.5, generator=stream).double().numpy()
    m, v, t = np.zeros_like(theta), np.zeros_like(theta), 0
    for _ in range(epochs):
        order = torch.randperm(n, generator=stream).numpy()
        for start in range(0, n, batch_size):
            rows = np.concatenate([x, np.ones((n, 1))], 1)[order[start : start + batch_size]]
            p = np.exp(rows @ theta.T)
            p /= p.sum(1, keepdims=True)
            p[np.arange(len(rows)), y[order[start : start + batch_size]]] -= 1
            gradient, t = p.T @ rows / len(rows), t + 1
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            theta -= learning_rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return theta


def test_adam_probe_is_softmax_regression_by_adam():
    stream = np.random.default_rng(0)
    x, y = stream.normal(size=(150, 3)), stream.integers(0, 4, 150)
    settings = {"epochs": 3, "learning_rate": 0.02, "batch_size": 32, "seed": 5}
    theta = naive_probe(x, y, **settings)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    result = clustering.adam_probe(x, y, x, y, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    expected = (x @ theta[:, :3].T + theta[:, 3]).argmax(1)
    np.testing.assert_array_equal(result["predictions"], expected)
    assert result["accuracy"] == (expected == y).mean()


def test_adam_probe_learns_separable_blobs_and_names_classes_as_given():
    z, labels = blobs(4, per=500)
    result = clustering.adam_probe(torch.tensor(z), 10 * labels, z, 10 * labels, learning_rate=0.05)
    assert result["accuracy"] == 1
    assert set(result["predictions"]) == {0, 10, 20, 30}
    assert result["loss"] < 0.4
    unknown = clustering.adam_probe(z, labels, z[:9], np.full(9, 7), epochs=1)
    assert unknown["accuracy"] == 0


def test_adam_probe_of_the_report_hardly_moves_its_first_weights():
    """235 steps an epoch are too few at 1e-4: what it scores is mostly the draw of the first weights."""
    z, labels = blobs(3, per=1000)
    start = clustering.adam_probe(z, labels, z, labels, learning_rate=0.0)
    end = clustering.adam_probe(z, labels, z, labels)
    assert 0 < start["loss"] - end["loss"] < 0.02


# Errors

Z, Y = np.eye(4), np.arange(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clustering.clustering_scores(Y, Y[:3]), r"shape \(4,\) and \(3,\)"),
        (lambda: clustering.match([], []), r"shape \(0,\) and \(0,\)"),
        (lambda: clustering.plane_separation(Z, Y[:3], Y), r"shape \(3,\) and \(4,\)"),
        (lambda: clustering.kmeans(Z, 0), "k=0 must be between 1 and the number of rows, 4"),
        (lambda: clustering.kmeans(Z, 5), "k=5 must be"),
        (lambda: clustering.kmeans(Z[0], 1), r"not \(4,\)"),
        (lambda: clustering.kmeans(Z * np.nan, 1), "NaN"),
        (lambda: clustering.elbow(Z, [1, 2]), r"ks=\[1, 2\] must be at least three"),
        (lambda: clustering.elbow(Z, [3, 2, 1]), "ascending"),
        (lambda: clustering.silhouette(Z, Y), "4 rows needs 2 to 3 clusters; these have 4"),
        (lambda: clustering.silhouette(Z, Y * 0), "these have 1"),
        (lambda: clustering.coverage(Z), r"\(n, 3\) on the sphere, not \(4, 4\)"),
        (lambda: clustering.coverage(Z[:3, :3] * [[1], [2], [1]]), "Row 1 has length 2"),
        (lambda: clustering.coverage(Z[:3, :3], cells=1), "cells=1 must be at least 2"),
        (lambda: clustering.uniform_coverage(0), "n=0 must be at least 1"),
        (lambda: clustering.uniform_coverage(5, cells=1), "cells=1"),
        (lambda: clustering.adam_probe(Z, Y, Z[:, :3], Y), "differ in d"),
        (lambda: clustering.adam_probe(Z, Y[:3], Z, Y), r"shape \(3,\)"),
        (lambda: clustering.adam_probe(Z, Y, Z, Y, epochs=0), "epochs=0"),
    ],
)
def test_bad_input_says_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()
