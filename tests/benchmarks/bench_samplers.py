"""Preparing the practicum's triplets: index tensors and batched views against lists of PIL images.

Both sides end with the same things for every anchor: the anchor, a positive drawn once, a negative of another
class, ready to be stacked into batches. One process each, ours with one of torch's threads and with two;
lists of images are made by one whatever is allowed. The target is about the practicum's preparation as a
whole, a set of triplets for each of its three families of views, and stands beside both.
"""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from pullpush import samplers, views
from pullpush.training import generator

PER_CLASS = {"ours": 5000, "peer": 300}  # the list of PIL images is timed on a part: its cost is per image


def picture_set(per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(10).repeat(per_class)
    return torch.randint(256, (len(labels), 1, 28, 28), dtype=torch.uint8, generator=generator(0)), labels


def as_lists(images: list[Image.Image], labels: list[int], per_class: int, view: Any) -> list[tuple]:
    """The practicum's way: a list a class, a shuffled list of all other images, one transform an image."""
    base = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
    triplets = []
    for c in range(10):
        mine = [image for image, label in zip(images, labels, strict=True) if label == c][:per_class]
        others = [image for image, label in zip(images, labels, strict=True) if label != c]
        random.shuffle(others)
        for image, other in zip(mine, others, strict=False):
            triplets.append((base(image), base(view(image)), base(other)))
    return triplets


def as_tensors(images: torch.Tensor, labels: torch.Tensor, per_class: int, view: views.View) -> tuple:
    stream = generator(0)
    anchors = samplers.first_per_class(labels, per_class)
    negatives = samplers.class_aware_negatives(labels, anchors, stream)
    return anchors, views.freeze(view, images[anchors], stream), negatives


def seconds_per_anchor(prepare: Callable[[], Any], anchors: int) -> float:
    began = time.perf_counter()
    prepare()
    return (time.perf_counter() - began) / anchors


def best_seconds(view: views.View, peer_view: Any) -> dict[str, float]:
    """Per anchor, of ours with one thread and with two, and of the peer: the best of three, in turn."""
    images, labels = picture_set(PER_CLASS["ours"])
    some, few = picture_set(PER_CLASS["peer"])
    pictures, plain = [Image.fromarray(np.asarray(image[0])) for image in some], few.tolist()
    as_tensors(images[:1000], labels[:1000], 100, view)  # warm up
    best = {"one thread": float("inf"), "two threads": float("inf"), "peer": float("inf")}
    for _ in range(3):
        for threads, name in ((1, "one thread"), (2, "two threads")):
            torch.set_num_threads(threads)
            ours = seconds_per_anchor(
                partial(as_tensors, images, labels, PER_CLASS["ours"], view), len(labels)
            )
            best[name] = min(best[name], ours)
        peer = seconds_per_anchor(
            partial(as_lists, pictures, plain, PER_CLASS["peer"], peer_view), len(plain)
        )
        best["peer"] = min(best["peer"], peer)
    torch.set_num_threads(1)  # what benchmarks after this one take for granted
    return best


def main() -> list[dict[str, Any]]:
    side = 28
    peers = {
        "none": transforms.Lambda(lambda image: image),
        "pad_rotate_scale": transforms.Compose([
            transforms.Resize(2 * side), transforms.Pad(18), transforms.RandomRotation(15),
            transforms.CenterCrop(int(2.25 * side)), transforms.Resize(side),
        ]),
        "simclr": transforms.Compose([
            transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            transforms.RandomGrayscale(0.2), transforms.GaussianBlur(3, (0.1, 2.0)),
        ]),
    }  # fmt: skip
    best = {name: best_seconds(views.make(name, side), peer_view) for name, peer_view in peers.items()}
    whole = {side: sum(seconds[side] for seconds in best.values()) for side in best["none"]}
    return [
        {
            "benchmark": "prepare 50,000 triplets", "setting": f"{name}, {threads}",
            "ours": 50_000 * seconds[threads], "peer": 50_000 * seconds["peer"],
            "ratio": seconds["peer"] / seconds[threads], "unit": "s",
            "target": 20.0 if seconds is whole else None,
        }
        for name, seconds in [
            *((f"{name}, 28x28x1", seconds) for name, seconds in best.items()),
            ("all three of the practicum's views", whole),
        ]
        for threads in ("one thread", "two threads")
    ]  # fmt: skip
