"""The neighbour graph, k = 30: each search in a process of its own, imports and compilation included.

First 70,000 x 784 against the first call of pynndescent, which umap-learn searches with: shown beside the
seconds is the recall of both on the same 1,000 points. Then 10,000, 20,000, 40,000 and 70,000 points for the
growth of our cost with n, imports left out: it shall be at most that of n log n, so beside it stands what it
would be if it grew like that from the smallest on. Last a whole fit of 10,000 points to 10 dimensions: graph
and 3,000 steps of LNSCC's network, as the laptop profile has it, against umap-learn's `fit`.
The images are MNIST where PULLPUSH_DATA has it, else groups of points near curved surfaces of 12 dimensions.
All cores are free to both.
"""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np  # and not torch: the searches shall pay for their imports

K, SIZES, CHECKED = 30, (10_000, 20_000, 40_000, 70_000), 1000
TARGET, ENOUGH = 2.0, 0.99  # times as fast as the peer; recall
FITTED, DIMENSIONS, STEPS, BATCH = 10_000, 10, 3000, 500


def images() -> tuple[np.ndarray, str]:
    """All points in random order, (70,000, 784) fp32 in [0, 1], and what they are."""
    n, order = SIZES[-1], np.random.default_rng(0).permutation(SIZES[-1])
    root = Path(os.environ.get("PULLPUSH_DATA", "data"))
    import torch

    if (root / "MNIST" / "raw").is_dir():
        from torchvision.datasets import MNIST

        parts = [MNIST(str(root), train=train).data for train in (True, False)]
        return torch.cat(parts).flatten(1).numpy()[order].astype(np.float32) / 255, "MNIST"
    stream = torch.Generator().manual_seed(0)
    group = torch.randint(10, (n,), generator=stream)
    inner = torch.randn(n, 12, generator=stream)
    bend = torch.randn(10, 12, 48, generator=stream)
    raised = torch.tanh(torch.einsum("ni,nij->nj", inner, bend[group]) / 4)
    shape = torch.randn(10, 48, 784, generator=stream)
    offset = torch.randn(10, 784, generator=stream)
    x = torch.cat([raised[group == c] @ shape[c] / 7 + offset[c] for c in range(10)])
    x = torch.sigmoid(x + 0.05 * torch.randn(n, 784, generator=stream))
    return x.numpy()[order], "synthetic"


def search(side: str, table: Path, n: int) -> None:
    """What a fresh process runs: one search of the first n points. Leaves seconds and lists in the folder."""
    x = np.load(table)[:n]
    start = time.perf_counter()
    if side == "ours":
        from pullpush import graph

        imported = time.perf_counter()
        indices, distances = graph.neighbours(x, K)
        found = time.perf_counter()
        graph.fuzzy_union(indices, graph.weights(distances, *graph.local_scale(distances)))
        lists = indices.numpy()
    else:
        from pynndescent import NNDescent

        imported = time.perf_counter()
        # As umap-learn calls it.
        trees, rounds = min(64, 5 + round(n**0.5 / 20)), max(5, round(math.log2(n)))
        lists, _ = NNDescent(
            x,
            n_neighbors=K,
            n_trees=trees,
            n_iters=rounds,
            max_candidates=60,
            random_state=0,
            compressed=False,
        ).neighbor_graph
        found = time.perf_counter()
    seconds = {"search": found - start, "graph": time.perf_counter() - imported}
    np.save(table.parent / "lists.npy", lists)
    (table.parent / "seconds.json").write_text(json.dumps(seconds))


def fit(side: str, table: Path, n: int) -> None:
    """What a fresh process runs: an embedding of the first n points, left in the folder with its seconds."""
    x = np.load(table)[:n]
    start = time.perf_counter()
    z = our_fit(x) if side == "our-fit" else peer_fit(x)
    seconds = {"fit": time.perf_counter() - start}
    np.save(table.parent / "lists.npy", z)
    (table.parent / "seconds.json").write_text(json.dumps(seconds))


def our_fit(x: np.ndarray) -> np.ndarray:
    """The first phase of LNSCC and no clusters, for as many steps as its two phases have together."""
    import torch

    from pullpush import graph, losses, models, samplers

    stream, rows = torch.Generator().manual_seed(0), torch.from_numpy(x)
    torch.manual_seed(0)
    near, far = graph.neighbours(x, K)
    edges = graph.fuzzy_union(near, graph.weights(far, *graph.local_scale(far)))
    network = models.ResidualMLP(x.shape[1], DIMENSIONS, [512, 256])
    adam = torch.optim.Adam(network.parameters(), 0.001)
    done = 0
    while done < STEPS:
        for to, near_to in graph.epoch(edges, BATCH, stream):
            if len(to) < BATCH or done == STEPS:
                break
            met = samplers.shuffled_negatives(BATCH, 10, stream)
            with torch.autocast("cpu", torch.bfloat16):
                z_to, z_near = network(rows.index_select(0, torch.cat([to, near_to]))).chunk(2)
            d_positive = (z_to - z_near).norm(dim=1)
            loss = losses.soft_contrast(d_positive, (z_to[:, None] - z_near[met]).norm(dim=2))
            adam.zero_grad()
            loss.backward()
            adam.step()
            done += 1
    with torch.inference_mode():
        return network.eval()(rows).numpy()


def peer_fit(x: np.ndarray) -> np.ndarray:
    import umap

    return umap.UMAP(K, DIMENSIONS, min_dist=0.0).fit_transform(x)


def measured(side: str, table: Path, n: int) -> tuple[dict[str, float], np.ndarray]:
    """Seconds and lists of a fresh process, which has all cores: the environment of this one asks for one."""
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    subprocess.run([sys.executable, __file__, side, str(table), str(n)], env=free, check=True)
    return json.loads((table.parent / "seconds.json").read_text()), np.load(table.parent / "lists.npy")


def recall(lists: np.ndarray, x: np.ndarray) -> float:
    """Share of the true neighbours of some points that are in their lists, by plain sorting."""
    import torch

    rows = np.random.default_rng(1).permutation(len(x))[:CHECKED]
    hits = 0
    for part in np.array_split(rows, 10):
        away = torch.cdist(torch.from_numpy(x[part]), torch.from_numpy(x)).numpy()
        away[np.arange(len(part)), part] = np.inf
        nearest = np.argpartition(away, K - 1)[:, : K - 1]
        hits += sum(len(np.intersect1d(*pair)) for pair in zip(nearest, lists[part], strict=True))
    return hits / (CHECKED * (K - 1))


def main() -> list[dict[str, Any]]:
    """Search, check the recall, print a table; rows for the peer and for the growth."""
    x, name = images()
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        table = Path(folder) / "x.npy"
        np.save(table, x)
        seconds, lists = measured("ours", table, len(x))
        costs = {len(x): seconds["graph"]}
        quality = {"ours": recall(lists, x)}
        peer, lists = measured("peer", table, len(x))
        quality["peer"] = recall(lists, x)
        setting = f"{name}, {len(x):,} x {x.shape[1]}"
        print(f"recall on {setting}: ours {quality['ours']:.4f}, pynndescent {quality['peer']:.4f}")
        assert quality["ours"] >= ENOUGH, f"recall {quality['ours']:.4f} is below {ENOUGH}"
        rows.append({
            "benchmark": "nearest neighbours, fresh process",
            "setting": f"{setting}, recall {quality['ours']:.3f} (peer {quality['peer']:.3f})",
            "ours": round(seconds["search"], 1), "peer": round(peer["search"], 1), "unit": "s",
            "ratio": round(peer["search"] / seconds["search"], 1), "target": TARGET,
        })  # fmt: skip
        for n in SIZES[:-1]:
            costs[n] = measured("ours", table, n)[0]["graph"]
        ours, theirs = (measured(side, table, FITTED)[0]["fit"] for side in ("our-fit", "peer-fit"))
    first = SIZES[0]
    for n in SIZES:
        allowed = costs[first] * n * math.log(n) / (first * math.log(first))
        rows.append({
            "benchmark": "graph, growth with n, peer: n log n", "setting": f"{name}, {n:,} points",
            "ours": round(costs[n], 1), "peer": round(allowed, 1), "unit": "s",
            "ratio": round(allowed / costs[n], 2), "target": 1.0 if n == SIZES[-1] else None,
        })  # fmt: skip
    rows.append({
        "benchmark": "fit to 10 dimensions, fresh process, peer: umap-learn",
        "setting": f"{name}, {FITTED:,} points", "ours": round(ours, 1), "peer": round(theirs, 1),
        "unit": "s", "ratio": round(theirs / ours, 2), "target": None,
    })  # fmt: skip
    slope = np.polyfit(np.log(list(costs)), np.log(list(costs.values())), 1)[0]
    print(f"seconds grow as n^{slope:.2f}; n log n grows as n^{1 + 1 / np.log(SIZES).mean():.2f}")
    for row in rows:
        print(f"{row['setting']:30}{row['ours']:8}{row['peer']:8}{row['ratio']:8}   {row['benchmark']}, s")
    return rows


if __name__ == "__main__":
    if len(sys.argv) == 4:
        asked = fit if sys.argv[1].endswith("fit") else search
        asked(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
