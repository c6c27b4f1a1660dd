"""The neighbour graph against loops over points, umap-learn, and what is known in closed form."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from pullpush import graph
from pullpush.training import generator

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request) -> str:
    return request.param


@pytest.fixture
def blobs(device) -> Tensor:
    """300 points in five groups of different width, in 7 dimensions, far from the origin."""
    stream = generator(0)
    centres = 5 * torch.randn(5, 7, generator=stream) + 40
    width = torch.tensor([0.1, 0.3, 1.0, 1.0, 3.0])
    group = torch.arange(300) % 5
    return (centres[group] + width[group, None] * torch.randn(300, 7, generator=stream)).to(device)


def many(n: int, d: int, groups: int = 20, seed: int = 0) -> Tensor:
    """Groups that are flat: five directions of their own each, and a little noise in all d."""
    stream = generator(seed)
    group = torch.randint(groups, (n,), generator=stream)
    centres = 2 * torch.randn(groups, d, generator=stream)
    spread = torch.randn(groups, 5, d, generator=stream)
    flat = torch.einsum("nk,nkd->nd", torch.randn(n, 5, generator=stream), spread[group])
    return centres[group] + flat + 0.1 * torch.randn(n, d, generator=stream)


def loop_neighbours(x: Tensor, k: int) -> tuple[list[list[int]], list[list[float]]]:
    """By sorting all distances, in float64: the point itself, then by distance and index."""
    points = x.double().cpu()
    indices, distances = [], []
    for i, point in enumerate(points):
        away = (points - point).norm(dim=1).tolist()
        order = [i, *sorted((j for j in range(len(points)) if j != i), key=lambda j: (away[j], j))][:k]
        indices.append(order)
        distances.append([away[j] for j in order])
    return indices, distances


# --- who is near whom ---


@pytest.mark.parametrize("k", [2, 15, 40])
def test_exact_neighbours_are_a_loop_over_points(blobs, k):
    indices, distances = graph.neighbours(blobs, k, "exact")
    expected, away = loop_neighbours(blobs, k)
    assert indices.device == distances.device == blobs.device
    assert indices.tolist() == expected
    assert torch.allclose(distances.double().cpu(), torch.tensor(away, dtype=torch.float64), rtol=1e-5)


def test_a_list_may_hold_all_points(blobs):
    indices, distances = graph.neighbours(blobs, 300)
    assert (indices.sort(1).values == torch.arange(300, device=blobs.device)).all()
    away = (blobs[indices] - blobs[:, None]).double().norm(dim=2)
    assert torch.allclose(distances.double(), away, atol=1e-5) and (distances.diff(dim=1) >= 0).all()


def test_a_search_in_several_blocks_and_tiles_is_the_same(device):
    """10,000 points make two tiles, and 600 rows two blocks, of the CPU's size."""
    x = many(10_000, 24).to(device)
    rows = torch.arange(0, 10_000, 16, device=device)
    found, _ = graph._exact(graph._points(x), rows, 20)
    away = torch.cdist(x[rows].double(), x.double())
    away[torch.arange(len(rows)), rows] = -1
    assert torch.equal(found, away.topk(20, largest=False).indices)


def test_points_equally_far_come_by_index(device):
    """On a grid of integers most distances are shared, more often than the shortlist allows for at first."""
    grid = torch.cartesian_prod(*[torch.arange(3)] * 5)
    x = torch.cat([grid, grid[:50] + torch.tensor([3, 0, 0, 0, 0])]).to(device)  # means are not whole numbers
    for k, unit in [(4, 1), (12, 100), (40, 0.25)]:
        x = (unit * x).float()
        indices, distances = graph.neighbours(x, k)
        expected, away = loop_neighbours(x, k)
        assert indices.tolist() == expected
        assert torch.allclose(distances.cpu(), torch.tensor(away))


def test_equal_points_have_distance_0_and_each_its_own_first(device):
    x = torch.randn(40, 30, generator=generator(0)).repeat(5, 1).to(device) + 1000
    indices, distances = graph.neighbours(x, 5, "exact")
    assert (distances == 0).all()
    assert torch.equal(indices[:, 0], torch.arange(200, device=device))
    assert (indices % 40 == indices[:, :1] % 40).all()


def test_far_outliers_do_not_disturb_the_others(blobs):
    """Their length is 10^4 times that of the differences that count: fp32 has 7 digits."""
    with_outliers = torch.cat([blobs, blobs.new_tensor([[1e5] * 7, [-1e5] * 7])])
    indices, _ = graph.neighbours(with_outliers, 10, "exact")
    assert torch.equal(indices[:300], graph.neighbours(blobs, 10)[0])


def test_lists_do_not_depend_on_the_precision_asked_of_products(blobs):
    expected = graph.neighbours(blobs, 10)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast(blobs.device.type, dtype=torch.bfloat16):
            found = graph.neighbours(blobs, 10)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(map(torch.equal, found, expected))


def test_arrays_and_sparse_matrices_are_points_too(blobs):
    x = blobs.cpu().numpy() * (np.random.default_rng(0).random(blobs.shape) < 0.3)
    expected = graph.neighbours(torch.tensor(x), 6)
    for given in (x, x.astype(np.float64), sparse.csr_matrix(x), sparse.csr_array(x.astype(np.float64))):
        assert all(map(torch.equal, graph.neighbours(given, 6), expected))
    counts = sparse.csr_matrix((x > 0).astype(np.uint8))
    assert torch.equal(graph.neighbours(counts, 6)[0], graph.neighbours(torch.tensor(counts.toarray()), 6)[0])


def test_an_offset_of_a_float64_table_costs_no_digits(blobs):
    x = blobs.double()
    for offset in (0.3, 1e9):
        assert torch.equal(graph.neighbours(x + offset, 10)[0], graph.neighbours(x, 10)[0])


@pytest.mark.parametrize("total, size", [(10, 3), (10, 10), (5, 9), (1000, 7), (1003, 7), (8192, 46)])
def test_the_smallest_of_a_row_by_folding_it(total, size, device):
    values = torch.randn(13, total, generator=generator(0)).to(device)
    found, columns = graph._smallest(values, size)
    assert torch.equal(found, values.gather(1, columns))
    assert torch.equal(found.sort(1).values, values.sort(1).values[:, :size])
    assert all(len(set(row)) == len(row) for row in columns.tolist())


@pytest.mark.parametrize("d", [5, 300])
def test_cells_find_nearly_all_neighbours_with_their_exact_distances(d, device, monkeypatch):
    """6,000 points in 93 cells, of which 40 are looked into; d above and below the number of axes."""
    monkeypatch.setattr(graph, "PROBED", 40)
    x = many(6000, d).to(device)
    indices, distances = graph.neighbours(x, 15, "cells")
    rows = torch.arange(0, 6000, 12, device=device)
    exact = graph._exact(graph._points(x), rows, 15)[0]
    assert graph.recall(indices[rows], exact) > 0.99
    assert torch.equal(indices[:, 0], torch.arange(6000, device=device))
    assert all(len(set(row)) == 15 for row in indices[rows].tolist())
    away = (x[indices[rows]] - x[rows, None]).norm(dim=2)
    assert torch.allclose(distances[rows], away, atol=1e-4)
    assert (distances.diff(dim=1) >= 0).all()


def test_cells_of_few_or_equal_points(blobs):
    """With fewer cells than are looked into nothing is missed; equal points share a cell, however many."""
    assert torch.equal(graph.neighbours(blobs, 10, "cells")[0], graph.neighbours(blobs, 10, "exact")[0])
    indices, distances = graph.neighbours(blobs[:1].repeat(700, 1), 10, "cells")
    assert (distances == 0).all()
    assert all(len(set(row)) == 10 for row in indices.tolist())


def test_auto_is_exact_for_few_points_and_where_cells_would_miss_neighbours(monkeypatch):
    monkeypatch.setattr(graph, "MANY", 1000)
    used = []
    for name in ("_cells", "_exact"):
        whole = getattr(graph, name)
        monkeypatch.setattr(graph, name, lambda *a, name=name, whole=whole: used.append(name) or whole(*a))
    few, flat = many(900, 40), many(4000, 40)
    graph.neighbours(few, 5)
    assert used == ["_exact"]
    used.clear()
    found = graph.neighbours(flat, 5)[0]
    assert used == ["_cells", "_exact"]  # exact on the sample only
    assert graph.recall(found, graph.neighbours(flat, 5, "exact")[0]) > 0.99
    used.clear()
    monkeypatch.setattr(graph, "PROBED", 10)
    noise = torch.randn(4000, 40, generator=generator(0))
    found = graph.neighbours(noise, 5)[0]
    assert used == ["_cells", "_exact", "_exact"]
    assert torch.equal(found, graph.neighbours(noise, 5, "exact")[0])


def test_recall_counts_what_is_shared_but_not_the_point_itself():
    exact = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3]])
    assert graph.recall(exact, exact) == 1
    assert graph.recall(exact[:, [0, 3, 1, 2]], exact) == 1  # in another order
    assert graph.recall(torch.tensor([[0, 1, 8, 9], [1, 7, 8, 9]]), exact) == pytest.approx(1 / 6)


# --- how much it counts ---


def lists(blobs: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    indices, distances = graph.neighbours(blobs, k)
    return indices, distances, graph.weights(distances, *graph.local_scale(distances))


@pytest.mark.parametrize("k", [3, 15, 60])
def test_weights_of_a_row_sum_to_log2_k_and_the_nearest_has_1(blobs, k):
    _, distances, w = lists(blobs, k)
    free = graph.local_scale(distances)[1] > 1.001e-3 * distances.mean(1)  # not held by the floor
    assert free.double().mean() > 0.9
    assert torch.allclose(w.sum(1)[free], torch.full_like(w[free, 0], math.log2(k)), atol=1e-5)
    assert (w[:, 0] == 0).all() and (w[:, 1] == 1).all()
    assert (w.diff(dim=1)[:, 1:] <= 0).all()


def test_scale_in_closed_form(device):
    """Two gaps g of 2^m - 2 neighbours at rho + g and one at rho: 1 + (k - 2) exp(-g / sigma) = log2 k."""
    for k, g in [(4, 1.0), (8, 0.25), (32, 3.0)]:
        distances = torch.tensor([0, 2.0, *[2.0 + g] * (k - 2)], dtype=torch.float64, device=device)[None]
        rho, sigma = graph.local_scale(distances)
        assert float(rho) == 2
        assert float(sigma) == pytest.approx(g / math.log((k - 2) / (math.log2(k) - 1)), rel=1e-10)


def test_scale_is_a_bisection_by_hand(blobs):
    distances = graph.neighbours(blobs, 12)[1].double()
    rho, sigma = graph.local_scale(distances)
    for i in range(0, 300, 10):
        row = distances[i].tolist()
        low, high = 0.0, 1e3
        for _ in range(100):
            middle = (low + high) / 2
            total = sum(math.exp(-max(0.0, d - row[1]) / middle) for d in row[1:])
            low, high = (low, middle) if total > math.log2(12) else (middle, high)
        assert float(rho[i]) == row[1]
        assert float(sigma[i]) == pytest.approx(high, rel=1e-9)


def test_unit_of_the_distances_does_not_matter(blobs):
    _, distances, w = lists(blobs, 10)
    for unit in (1e-6, 0.25, 1e6):
        rho, sigma = graph.local_scale(unit * distances)
        assert torch.allclose(graph.weights(unit * distances, rho, sigma), w, atol=1e-5)


def test_rho_leaves_out_equal_points_and_ties_meet_the_floor(device):
    distances = torch.tensor(
        [[0, 0, 0, 3, 4, 5], [0, 2, 2, 2, 2, 2], [0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 7]],
        dtype=torch.float64,
        device=device,
    )
    rho, sigma = graph.local_scale(distances)
    assert rho.tolist() == [3, 2, 0, 1]
    w = graph.weights(distances, rho, sigma)
    assert w[0, 1:4].tolist() == [1, 1, 1]  # equal points and the nearest other
    assert w[1].tolist() == w[2].tolist() == [0, 1, 1, 1, 1, 1]
    means = [distances[1].mean(), distances.mean(), distances[3].mean()]
    assert sigma[1:].tolist() == pytest.approx(
        [1e-3 * float(mean) for mean in means]
    )  # too many weights of 1
    everything_equal = torch.zeros(3, 4, device=device)
    rho, sigma = graph.local_scale(everything_equal)
    assert (rho == 0).all() and (sigma == 0).all()
    assert graph.weights(everything_equal, rho, sigma).tolist() == [[0, 1, 1, 1]] * 3


def test_a_union_is_a_loop_over_pairs(blobs):
    indices, _, w = lists(blobs[:60], 7)
    one_way = {
        (i, j): float(value)
        for i, (near, values) in enumerate(zip(indices.tolist(), w.double().tolist(), strict=True))
        for j, value in zip(near, values, strict=True)
        if i != j
    }
    expected = {}
    for i in range(60):
        for j in range(60):
            a, b = one_way.get((i, j), 0.0), one_way.get((j, i), 0.0)
            if a + b - a * b > 0:
                expected[i, j] = a + b - a * b
    edges = graph.fuzzy_union(indices, w)
    found = list(zip(edges.rows.tolist(), edges.columns.tolist(), strict=True))
    assert found == list(expected)  # sorted, each once
    assert edges.weights.tolist() == pytest.approx(list(expected.values()), abs=1e-6)


def test_a_union_is_symmetric_without_self_edges_and_each_point_has_an_edge_of_weight_1(blobs):
    indices, _, w = lists(blobs, 15)
    edges = graph.fuzzy_union(indices, w)
    assert edges.rows.device == blobs.device
    assert (edges.weights > 0).all() and (edges.weights <= 1).all() and (edges.rows != edges.columns).all()
    forward = {(i, j): value for i, j, value in zip(*(end.tolist() for end in edges), strict=True)}
    assert all(forward[j, i] == value for (i, j), value in forward.items())
    assert edges.rows[edges.weights == 1].unique().tolist() == list(range(300))


def test_a_union_skips_missing_neighbours():
    edges = graph.fuzzy_union(
        torch.tensor([[0, 1, -1], [1, 0, 2], [2, -1, -1]]),
        torch.tensor([[0, 0.5, 0.9], [0, 0.5, 0.25], [0, 0.3, 0.3]]),
    )
    assert edges.rows.tolist() == [0, 1, 1, 2]
    assert edges.columns.tolist() == [1, 0, 2, 1]
    assert edges.weights.tolist() == [0.75, 0.75, 0.25, 0.25]


def test_permuting_the_points_permutes_the_graph(blobs):
    order = torch.randperm(300, generator=generator(4)).to(blobs.device)
    plain, permuted = (graph.fuzzy_union(lists(x, 15)[0], lists(x, 15)[2]) for x in (blobs, blobs[order]))
    dense = blobs.new_zeros(2, 300, 300)
    dense[0, plain.rows, plain.columns] = plain.weights
    dense[1, order[permuted.rows], order[permuted.columns]] = permuted.weights
    assert torch.allclose(dense[0], dense[1], atol=1e-5)


@pytest.mark.parametrize("k", [2, 5, 15, 30])
def test_the_graph_is_that_of_umap(blobs, k):
    """On the same neighbours, with duplicates and with points that have many equally near ones."""
    from umap.umap_ import fuzzy_simplicial_set

    grid = torch.cartesian_prod(*[torch.arange(3.0)] * 4).to(blobs)
    for x in (blobs, torch.cat([blobs, blobs[:40], blobs[:20]]), grid):
        indices, distances, w = lists(x, k)
        ours = graph.fuzzy_union(indices, w)
        theirs = fuzzy_simplicial_set(
            np.zeros((len(x), 1)), k, np.random.RandomState(0), "euclidean",
            knn_indices=indices.cpu().numpy(), knn_dists=distances.cpu().numpy(),
        )[0].tocsr()  # fmt: skip
        same = sparse.csr_matrix(
            (ours.weights.cpu().double(), (ours.rows.cpu(), ours.columns.cpu())), shape=theirs.shape
        )
        assert abs(same - theirs).max() < 1e-5
        assert len(ours.weights) > k


# --- positive pairs ---


def small() -> graph.Edges:
    """A triangle and a weak edge: 1/200 of the strongest is still taken, less is not."""
    rows = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3, 3, 4])
    columns = torch.tensor([1, 2, 0, 2, 0, 1, 3, 2, 4, 3])
    w = {(0, 1): 1.0, (0, 2): 0.5, (1, 2): 0.0275, (2, 3): 0.0055, (3, 4): 0.0045}
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return graph.Edges(rows, columns, torch.tensor([w[min(i, j), max(i, j)] for i, j in pairs]))


def counted(edges: graph.Edges, *args, **keywords) -> Counter:
    batches = graph.epoch(edges, *args, **keywords)
    return Counter(pair for i, j in batches for pair in zip(i.tolist(), j.tolist(), strict=True))


def test_edges_are_repeated_as_their_weight_says():
    edges = small()
    assert graph.repeats(edges).tolist() == [200, 100, 200, 5, 100, 5, 1, 1, 0, 0]
    half = edges._replace(weights=edges.weights / 2)  # the bound is relative, the count is not
    assert graph.repeats(half).tolist() == [100, 50, 100, 2, 50, 2, 0, 0, 0, 0]
    assert graph.repeats(edges, times=10).tolist() == [10, 5, 10, 0, 5, 0, 0, 0, 0, 0]


def test_an_epoch_is_the_repeated_list_shuffled_and_cut(monkeypatch):
    monkeypatch.setattr(graph, "DRAWN", 100)  # several draws an epoch
    edges = small()
    expected = Counter()
    for i, j, w in zip(*(end.tolist() for end in edges), strict=True):
        if w >= 1 / 200:
            expected[i, j] += math.floor(200 * w)
    assert counted(edges, 32, generator(0)) == expected
    sizes = [len(rows) for rows, _ in graph.epoch(edges, 32, generator(0))]
    assert sizes == [32] * (612 // 32) + [612 % 32]
    first, again, other = (
        torch.cat([rows for rows, _ in graph.epoch(edges, 32, generator(seed))]) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert abs(float((first[:306] == 0).double().mean()) - 300 / 612) < 0.1  # not in the order of edges


def test_drawn_places_come_as_often_on_average(monkeypatch):
    monkeypatch.setattr(graph, "DRAWN", 1000)
    edges, found = small(), Counter()
    for seed in range(50):
        one = counted(edges, 100, generator(seed), shuffled=False)
        assert sum(one.values()) == 612
        found += one
    columns = (edges.rows.tolist(), edges.columns.tolist(), graph.repeats(edges).tolist())
    for i, j, times in zip(*columns, strict=True):
        share = times / 612
        assert abs(found[i, j] - 50 * times) <= 5 * math.sqrt(50 * 612 * share * (1 - share))
    epochs = [counted(edges, 100, generator(seed), shuffled=False) for seed in range(5)]
    assert any(one != epochs[0] for one in epochs)


def test_long_lists_are_drawn_unless_asked_otherwise(monkeypatch):
    edges = small()
    whole = counted(edges, 100, generator(0))
    monkeypatch.setattr(graph, "SHUFFLED", 611)
    assert counted(edges, 100, generator(0)) != whole
    assert counted(edges, 100, generator(0), shuffled=True) == whole


def test_an_epoch_of_a_real_graph_stays_on_its_device(blobs):
    indices, _, w = lists(blobs, 15)
    edges = graph.fuzzy_union(indices, w)
    found = counted(edges, 500, generator(0), times=20)
    assert sum(found.values()) == int(graph.repeats(edges, 20).sum())
    assert next(graph.epoch(edges, 500, generator(0)))[0].device == blobs.device


# --- errors ---

X = torch.randn(6, 3, generator=generator(0))
NEAR = torch.arange(6)[:, None].expand(6, 3)
ONE = small()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: graph.neighbours(X, 1), "k=1 must be between 2 and the number of points, 6"),
        (lambda: graph.neighbours(X, 7), "k=7"),
        (lambda: graph.neighbours(X, 3, "exactly"), "'exactly'. Allowed: auto, exact, cells"),
        (lambda: graph.neighbours(X[0], 2), r"\(n, d\), not \(3,\)"),
        (lambda: graph.neighbours(X[:0], 2), r"not \(0, 3\)"),
        (lambda: graph.neighbours(X * torch.nan, 2), "NaN"),
        (lambda: graph.recall(NEAR, NEAR[:5]), r"\(n, k\), k >= 2"),
        (lambda: graph.recall(NEAR[:, :1], NEAR[:, :1]), "k >= 2"),
        (lambda: graph.local_scale(NEAR), "not torch.int64 of shape"),
        (lambda: graph.local_scale(X[:, :1] * 0), r"\(n, k\), k >= 2"),
        (lambda: graph.local_scale(-X.abs()), "not negative"),
        (lambda: graph.local_scale(X.abs() + 1), "first column of distances must be 0"),
        (lambda: graph.weights(X.abs() + 1, X[:, 0], X[:, 0]), "first column"),
        (lambda: graph.fuzzy_union(NEAR, X[:5]), r"\(6, 3\) and weights \(5, 3\)"),
        (lambda: graph.fuzzy_union(NEAR + 1, X), r"lie in \[1, 6\], but points are 0 to 5"),
        (lambda: graph.fuzzy_union(NEAR - 2, X), r"lie in \[-2, 3\]"),
        (lambda: graph.repeats(ONE, 0), "times=0"),
        (lambda: graph.repeats(graph.Edges(*(end[:0] for end in ONE))), "number of edges=0"),
        (lambda: graph.epoch(ONE, 0, generator(0)), "batch_size=0 must be at least 1"),
        (lambda: graph.epoch(ONE, 5, generator(0), times=2**30, shuffled=True), "too long to be shuffled"),
    ],
)
def test_bad_input_says_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()
