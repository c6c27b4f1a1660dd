"""RCC on one GPU: an epoch of 70,000 images, views included, against a plain loop fed by PIL workers.

Ours keeps the images on the device, draws the views there, and runs the step in bf16, channels-last, with a
fused optimizer, recorded as a CUDA graph. The peer is what one would write first: fp32, eager, torchvision's
views of PIL images from as many workers as there are cores. Both train the same network with the same losses.
Without a GPU there is nothing to measure.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from pullpush import losses, samplers, training, views
from pullpush.capture import cuda_graph
from pullpush.models import ClusterHead, InstanceHead, SphereResNet

IMAGES, SIDE, SIZE, BATCH = 70_000, 28, 64, 256
PEER_STEPS = 40  # of 273: the peer's epoch is told from these
GOAL = 1.0  # seconds an epoch on an H100
FLOOR = 0.3  # seconds: 1.1 ms of memory traffic a step at 3 TB/s; the 0.84 GFLOP a view take half of that
JITTER = (0.4, 0.4, 0.4, 0.1)

Batch = tuple[Tensor, ...]


def network(device: torch.device) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList([SphereResNet(1, 3), InstanceHead(3), ClusterHead(3, 10)]).to(device)


def step_of(parts: nn.ModuleList) -> training.Step:
    backbone, instance, cluster = parts

    def step(batch: Batch) -> dict[str, Tensor]:
        h_a, h_b = (backbone(x) for x in batch)
        contrast = losses.nt_xent(instance(h_a), instance(h_b), 0.5)
        contrast = contrast + losses.cluster_contrast(cluster(h_a), cluster(h_b))
        spread = losses.uniformity(h_a) + losses.uniformity(h_b)
        return {"loss": 0.95 * contrast + 0.05 * spread}

    return step


def our_batches(images: Tensor, stream: torch.Generator) -> Iterator[Batch]:
    view = views.make("simclr", SIZE, flip=0.0, jitter=JITTER, blur=0.0)
    for rows in samplers.batches(len(images), BATCH, stream):
        if len(rows) == BATCH:
            picked = images.index_select(0, rows.to(images.device))
            yield tuple(view(picked, stream).contiguous(memory_format=torch.channels_last) for _ in range(2))


def ours(device: torch.device, images: Tensor) -> dict[str, float]:
    """Seconds of an epoch, of its views alone, and of its steps alone; the third epoch counts."""
    stream, parts = training.generator(0, device), network(device).to(memory_format=torch.channels_last)
    on_gpu = device.type == "cuda"
    optimizer = torch.optim.Adam(parts.parameters(), 3e-4, capturable=on_gpu, fused=on_gpu)

    def epochs(batches: Callable[[int], Any]) -> float:
        history = training.fit(
            step_of(parts), batches, model=parts, optimizer=optimizer, epochs=3, generator=stream,
            precision=torch.bfloat16, capture=cuda_graph if on_gpu else None,
        )  # fmt: skip
        return history[-1]["seconds"]

    whole = epochs(lambda _: our_batches(images, stream))
    fixed = [next(our_batches(images, stream))] * (len(images) // BATCH)
    steps = epochs(lambda _: fixed)
    seconds = []
    for _ in range(2):
        synchronize(device)
        began = time.perf_counter()
        for _ in our_batches(images, stream):
            pass
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return {"epoch": whole, "views": seconds[-1], "steps": steps}


class TwoViews(Dataset[Batch]):
    """Two views of each image, made from PIL images as the report's code does."""

    def __init__(self, images: Tensor) -> None:
        self.images = [to_pil_image(image) for image in images.cpu()]
        self.chain = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE),
                transforms.RandomApply([transforms.ColorJitter(*JITTER)], 0.8),
                transforms.RandomGrayscale(0.2),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return self.chain(self.images[index]), self.chain(self.images[index])


def peer(device: torch.device, images: Tensor) -> float:
    """Seconds of an epoch, told from `PEER_STEPS` steps after five to warm up."""
    parts = network(device)
    step, optimizer = step_of(parts), torch.optim.Adam(parts.parameters(), 3e-4)
    few = images[: BATCH * (PEER_STEPS + 5)]
    loader = DataLoader(TwoViews(few), BATCH, shuffle=True, drop_last=True, num_workers=os.cpu_count() or 1)
    began, steps = 0.0, 0
    for i, batch in enumerate(loader):
        if i == min(5, len(loader) - 1):
            synchronize(device)
            began = time.perf_counter()
        steps += i >= min(5, len(loader) - 1)
        optimizer.zero_grad()
        step(tuple(x.to(device) for x in batch))["loss"].backward()
        optimizer.step()
    synchronize(device)
    return (time.perf_counter() - began) / steps * (len(images) // BATCH)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        print("No GPU here: the epoch of RCC is not measured.", file=sys.stderr)
        return []
    device, name = torch.device("cuda"), torch.cuda.get_device_name()
    images = torch.randint(0, 256, (IMAGES, 1, SIDE, SIDE), dtype=torch.uint8, device=device)
    found, plain = ours(device, images), peer(device, images)
    told = f"{IMAGES:,} images, {SIDE} to {SIZE} pixels, {name}"
    epoch = found["epoch"]
    print(
        f"{told}: {epoch:.2f} s an epoch, {2 * IMAGES / epoch:,.0f} views/s, {FLOOR / epoch:.0%} of what an "
        f"H100 can do (goal: {GOAL:.1f} s). Views alone {found['views']:.2f} s, steps {found['steps']:.2f} s."
    )
    ratio = plain / epoch
    row = {"benchmark": "an epoch of RCC on a GPU", "setting": told, "ours": epoch, "peer": plain}
    return [{**row, "ratio": ratio, "unit": "s", "target": None}]
