"""Losses with their gradients, in time and memory, against public peers: 256, 1,024 and 4,096 pairs, d = 128.

NT-Xent: the instance loss of Contrastive Clustering as its authors wrote it, first shown equal to that of
pytorch-metric-learning (which itself asks for 34 GB at 1,024 pairs). SupCon: that of
pytorch-metric-learning. Uniformity: its authors' line on `torch.pdist`. One thread; memory is the growth of
a fresh process at its highest.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pullpush import losses

PAIRS, DIMENSIONS = (256, 1024, 4096), 128
TARGETS = {  # how many times faster than the peer; memory: how many times smaller
    ("NT-Xent", 1024): 2.5, ("NT-Xent", 4096): 5, ("SupCon", 1024): 3, ("SupCon", 4096): 5,
    ("uniformity", 1024): 2, ("uniformity", 4096): 4,
}  # fmt: skip
MEMORY_TARGET = 10

Loss = Callable[[Tensor, Tensor], Tensor]


def instance_loss(pairs: int, temperature: float = 0.5) -> Loss:
    """`InstanceLoss` of Contrastive Clustering on unit rows, as its head gives; the mask is made once."""
    size = 2 * pairs
    mask = ~torch.eye(size, dtype=torch.bool)
    one = torch.arange(pairs)
    mask[one, pairs + one] = mask[pairs + one, one] = False

    def loss(z_i: Tensor, z_j: Tensor) -> Tensor:
        z = functional.normalize(torch.cat((z_i, z_j), dim=0))
        similarity = torch.matmul(z, z.T) / temperature
        partners = torch.diag(similarity, pairs), torch.diag(similarity, -pairs)
        positive = torch.cat(partners, dim=0).reshape(size, 1)
        logits = torch.cat((positive, similarity[mask].reshape(size, -1)), dim=1)
        target = torch.zeros(size, dtype=torch.int64)
        return functional.cross_entropy(logits, target, reduction="sum") / size

    return loss


def both(name: str, pairs: int) -> tuple[Loss, Loss]:
    """Ours and the peer's, as functions of two views; both bring the rows to unit length."""
    if name == "NT-Xent":
        return losses.nt_xent, instance_loss(pairs)
    if name == "SupCon":
        from pytorch_metric_learning.losses import SupConLoss

        theirs, labels = SupConLoss(0.1), torch.arange(pairs).remainder(10).repeat(2)
        return (
            lambda a, b: losses.sup_con(torch.cat([a, b]), labels),
            lambda a, b: theirs(torch.cat([a, b]), labels),
        )

    def of_both(uniformity: Callable[[Tensor], Tensor]) -> Loss:
        return lambda a, b: uniformity(functional.normalize(a)) + uniformity(functional.normalize(b))

    return of_both(losses.uniformity), of_both(lambda z: torch.pdist(z).pow(2).mul(-2).exp().mean().log())


def views(pairs: int) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    # Not around the origin: there the gradient of uniformity is nothing but rounding.
    z_a, z_b = (0.3 + torch.randn(pairs, DIMENSIONS, generator=stream) for _ in range(2))
    return z_a.requires_grad_(), z_b.requires_grad_()


def check_equality(name: str, pairs: int) -> None:
    """Raises AssertionError unless ours agrees with the peer in fp64: values to 1e-6, gradients to 1e-5 of
    the largest. In fp32 `torch.pdist` alone is further off than that.
    """
    if name == "NT-Xent":
        from pytorch_metric_learning.losses import NTXentLoss

        z_a, z_b = views(32)
        public = NTXentLoss(0.5)(torch.cat([z_a, z_b]), torch.arange(32).repeat(2))
        torch.testing.assert_close(instance_loss(32)(z_a, z_b), public)
    z = views(pairs)
    exact = tuple(one.detach().double().requires_grad_() for one in z)
    ours, theirs = (loss(*given) for loss, given in zip(both(name, pairs), (z, exact), strict=True))
    assert abs(ours.item() / theirs.item() - 1) < 1e-6, (name, ours.item(), theirs.item())
    first, second = torch.autograd.grad(ours, z[0])[0], torch.autograd.grad(theirs, exact[0])[0]
    assert (first - second).abs().max() < 1e-5 * second.abs().max(), name


def seconds(loss: Loss, pairs: int) -> float:
    """Best time of a loss with its gradient."""
    z_a, z_b = views(pairs)
    best = float("inf")
    for _ in range(3 if pairs > 1024 else 10):
        began = time.perf_counter()
        loss(z_a, z_b).backward()
        best = min(best, time.perf_counter() - began)
    return best


def growth(name: str, pairs: int, whose: int) -> float:
    """MB by which a fresh process grows at its highest in one step of our (0) or the peer's (1) loss."""
    arguments = [sys.executable, __file__, name, str(pairs), str(whose)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, env=environment).stdout)


def measure_growth(name: str, pairs: int, whose: int) -> float:
    both(name, 8)[whose](*views(8)).backward()  # what libraries take on first use does not count
    loss, (z_a, z_b) = both(name, pairs)[whose], views(pairs)
    Path("/proc/self/clear_refs").write_text("5")  # forget how high the imports went
    before = highest()
    loss(z_a, z_b).backward()
    return highest() - before


def highest() -> float:
    """MB that this process has held at its highest, on Linux; `getrusage` would tell the parent's, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    rows = []
    for name in ("NT-Xent", "SupCon", "uniformity"):
        for pairs in PAIRS:
            check_equality(name, pairs)
            ours, peer = (seconds(loss, pairs) for loss in both(name, pairs))
            rows.append({
                "benchmark": f"{name} with gradient", "setting": f"{pairs:,} pairs", "ours": 1000 * ours,
                "peer": 1000 * peer, "ratio": peer / ours, "unit": "ms", "target": TARGETS.get((name, pairs)),
            })  # fmt: skip
        ours, peer = (growth(name, PAIRS[-1], whose) for whose in (0, 1))
        rows.append({
            "benchmark": f"{name}, memory", "setting": f"{PAIRS[-1]:,} pairs", "ours": ours, "peer": peer,
            "ratio": peer / max(ours, 1), "unit": "MB", "target": MEMORY_TARGET,
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    print(measure_growth(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
