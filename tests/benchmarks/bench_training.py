"""A training step of the practicum's network on the CPU: bf16 and channels-last against plain fp32."""

import time
from typing import Any

import torch
import torch.nn.functional as F

from pullpush.models import PracticumNet
from pullpush.training import pick_precision


def step_seconds(
    channels: int, side: int, precision: str, layout: torch.memory_format, steps: int = 8
) -> float:
    """Median seconds of one triplet step at batch 1024, after a warm-up."""
    torch.manual_seed(0)
    model = PracticumNet(channels).to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), 0.15)
    parts = [torch.rand(1024, channels, side, side).contiguous(memory_format=layout) for _ in range(3)]
    dtype = pick_precision(precision, torch.device("cpu"))
    times = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            z = [model(part).float() for part in parts]
        F.triplet_margin_loss(*z).backward()
        optimizer.step()
        times.append(time.perf_counter() - began)
    return sorted(times[2:])[steps // 2]


def main() -> list[dict[str, Any]]:
    rows = []
    for channels, side in ((1, 28), (3, 32)):
        plain = step_seconds(channels, side, "fp32", torch.contiguous_format)
        ours = step_seconds(channels, side, "bf16", torch.channels_last)
        rows.append({
            "benchmark": "triplet step, bf16 channels-last",
            "setting": f"batch 1024, {side}x{side}x{channels}",
            "ours": ours, "peer": plain, "ratio": plain / ours, "unit": "s", "target": 1.6,
        })  # fmt: skip
    return rows
