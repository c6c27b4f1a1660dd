"""The elbow: k-means for k = 1..30 on 60,000 points of the sphere, against scikit-learn with 10 restarts.

First the sums of squared distances (WCSS) of both are compared: ours must lie within 1 % on average over k,
and 7 % at worst, on three embeddings. Then the time for all thirty is. One thread each.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from pullpush import evaluation

N, KS = 60_000, range(1, 31)
TARGET = 2.5  # times as fast as the peer
MEAN, WORST = 0.01, 0.07  # relative excess of our WCSS
WIDTHS = {"evenly spread": None, "10 groups that touch": 0.2, "10 groups far apart": 0.05}


def embedding(n: int, width: float | None) -> np.ndarray:
    """Unit rows (n, 3): uniform, or in ten groups that are spread evenly over the sphere (a spiral)."""
    stream = np.random.default_rng(0)
    x = stream.normal(size=(n, 3))
    if width is not None:
        i = np.arange(10) + 0.5
        height, turn = 1 - i / 5, np.pi * (1 + 5**0.5) * i
        radius = np.sqrt(1 - height**2)
        centres = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], 1)
        x = centres[stream.integers(10, size=n)] + width * x
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def check_quality(ours: np.ndarray, peer: np.ndarray, setting: str) -> None:
    """Raises AssertionError if our WCSS is too far above the peer's."""
    excess = ours / peer - 1
    mean, worst, k = excess.mean(), excess.max(), KS[excess.argmax()]
    assert mean < MEAN, f"{setting}: WCSS {mean:.1%} above the peer's on average"
    assert worst < WORST, f"{setting}: WCSS {worst:.1%} above the peer's at k = {k}"


def timed(call: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def main() -> list[dict[str, Any]]:
    """Measure, check, print a table; one row an embedding. Ours is the median of three, around the peer's."""
    rows, before = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, width in WIDTHS.items():
            z = embedding(N, width)

            def ours(z: np.ndarray = z) -> np.ndarray:
                return evaluation.elbow(z, KS)["wcss"]

            def peer(z: np.ndarray = z) -> np.ndarray:
                return np.array([KMeans(k, n_init=10, random_state=0).fit(z).inertia_ for k in KS])

            evaluation.elbow(z[:5000], KS)  # warm
            first = timed(ours)
            with threadpool_limits(1):
                peer_wcss, peer_seconds = timed(peer)
            check_quality(first[0], peer_wcss, name)
            seconds = float(np.median([first[1], timed(ours)[1], timed(ours)[1]]))
            rows.append(
                {
                    "benchmark": "elbow, k = 1..30",
                    "setting": f"{N:,} x 3, {name}",
                    "ours": round(seconds, 2),
                    "peer": round(peer_seconds, 2),
                    "ratio": round(peer_seconds / seconds, 1),
                    "unit": "s",
                    "target": TARGET,
                }
            )
    finally:
        torch.set_num_threads(before)
    print(f"{'elbow':40}{'ours':>8}{'peer':>8}{'ratio':>8}{'target':>8}   s, WCSS within {MEAN:.0%}")
    for row in rows:
        print(f"{row['setting']:40}{row['ours']:8}{row['peer']:8}{row['ratio']:8}{row['target']:8}")
    return rows


if __name__ == "__main__":
    main()
