"""Training steps on the CPU: bf16 and channels-last against plain fp32."""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pullpush import losses
from pullpush.models import ClusterHead, InstanceHead, PracticumNet, SphereResNet
from pullpush.training import pick_precision


def step_seconds(
    model: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    precision: str,
    steps: int = 8,
) -> float:
    """Median seconds of a step, after a warm-up."""
    dtype = pick_precision(precision, torch.device("cpu"))
    times = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        times.append(time.perf_counter() - began)
    return sorted(times[2:])[steps // 2]


def triplet(channels: int, side: int, precision: str, layout: torch.memory_format) -> float:
    """The practicum's network, 1,024 triplets, SGD."""
    torch.manual_seed(0)
    model = PracticumNet(channels).to(memory_format=layout)
    images = [torch.rand(1024, channels, side, side).contiguous(memory_format=layout) for _ in range(3)]

    def loss() -> Tensor:
        return F.triplet_margin_loss(*(model(part).float() for part in images))

    return step_seconds(model, loss, torch.optim.SGD(model.parameters(), 0.15), precision)


def clustering(precision: str, layout: torch.memory_format) -> float:
    """CC on RCC's ResNet-18: 256 grey images of 64 pixels in two views, Adam."""
    torch.manual_seed(0)
    parts = nn.ModuleList([SphereResNet(1, 3), InstanceHead(3), ClusterHead(3, 10)]).to(memory_format=layout)
    backbone, instance, cluster = parts
    images = [torch.rand(256, 1, 64, 64).contiguous(memory_format=layout) for _ in range(2)]

    def loss() -> Tensor:
        h_a, h_b = (backbone(part) for part in images)
        apart = losses.nt_xent(instance(h_a), instance(h_b), 0.5)
        return apart + losses.cluster_contrast(cluster(h_a), cluster(h_b))

    return step_seconds(parts, loss, torch.optim.Adam(parts.parameters(), 3e-4), precision, steps=4)


def row(
    benchmark: str, setting: str, target: float, seconds: Callable[..., float], *given: Any
) -> dict[str, Any]:
    plain = seconds(*given, "fp32", torch.contiguous_format)
    ours = seconds(*given, "bf16", torch.channels_last)
    return {
        "benchmark": benchmark, "setting": setting,
        "ours": ours, "peer": plain, "ratio": plain / ours, "unit": "s", "target": target,
    }  # fmt: skip


def main() -> list[dict[str, Any]]:
    return [
        *(
            row(
                "triplet step, bf16 channels-last",
                f"batch 1024, {side}x{side}x{channels}",
                1.6,
                triplet,
                channels,
                side,
            )
            for channels, side in ((1, 28), (3, 32))
        ),
        row("CC step on ResNet-18, bf16 channels-last", "batch 256, two views of 64x64x1", 1.4, clustering),
    ]
