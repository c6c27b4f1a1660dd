"""SimCLR views without blur: batched tensor code against torchvision's PIL chain in a two-worker DataLoader.

First both get the same parameters and must give the same pixels. Then both deliver batches of 256: the peer
from two worker processes of one torch thread each, ours from the main process alone, with one torch thread
(what the target is about) and with two (as many cores as the peer uses).
"""

import time
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional as tv

from pullpush import views

BATCH, WORKERS = 256, 2
TARGETS = {(28, 1): 10, (32, 3): 6, (64, 3): 2}  # (side, channels): how many times faster than the peer
WARM, TIMED = 6, 12  # batches; the peer's workers prefetch four


def pictures(n: int, channels: int, side: int) -> Tensor:
    """Smooth images: noise would slow PIL's branches down and flatter us."""
    coarse = torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1).mul(255).byte()


def picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())


class Peer(Dataset[Tensor]):
    """The chain as one would write it with torchvision, from an array in memory to a tensor."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.chain = transforms.Compose(
            [
                transforms.RandomResizedCrop(images.shape[-1]),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
                transforms.RandomGrayscale(0.2),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.chain(picture(self.images[index]))


def check_equality(view: views.View, images: Tensor) -> None:
    """Raises AssertionError unless torchvision's functions give the same pixels for the same parameters."""
    colour = {0: "brightness", 1: "contrast", 2: "saturation", 3: "hue"}
    side = images.shape[-1]
    drawn = view.draw(len(images), side, side, torch.Generator().manual_seed(1), "cpu")
    for i, ours in enumerate(view.apply(images, drawn)):
        row = {name: value[i].tolist() for name, value in drawn.items()}
        expected = tv.resized_crop(
            picture(images[i]), row["top"], row["left"], row["height"], row["width"], [side, side]
        )
        expected = tv.hflip(expected) if row["flip"] else expected
        for operation in row["order"] if row["jitter"] else []:
            name = colour[operation]
            expected = getattr(tv, f"adjust_{name}")(expected, row[name])
        expected = tv.rgb_to_grayscale(expected, len(images[i])) if row["grayscale"] else expected
        off = (ours - tv.to_tensor(expected)).abs().max()
        assert off < 0.5 / 255, f"a view of {side} pixels is off by {off * 255:.1f} levels"


def peer_rate(images: Tensor) -> float:
    """Images a second that arrive from the workers, once they are under way."""
    stamps = [time.perf_counter() for _ in DataLoader(Peer(images), BATCH, shuffle=True, num_workers=WORKERS)]
    return BATCH * TIMED / (stamps[-1] - stamps[-1 - TIMED])


def our_rate(view: views.View, images: Tensor, threads: int) -> float:
    """Images a second, picked from the data set at random and viewed."""
    stream, before = torch.Generator().manual_seed(0), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rows in torch.randperm(len(images)).split(BATCH)[:WARM]:
            view(images.index_select(0, rows), stream)
        start = time.perf_counter()
        for rows in torch.randperm(len(images)).split(BATCH)[:TIMED]:
            view(images.index_select(0, rows), stream)
        return BATCH * TIMED / (time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)


def main() -> list[dict[str, Any]]:
    """Check, measure (the best of three, in turn), print a table; one row a setting."""
    view, rows = views.make("simclr", blur=0.0), []
    for (side, channels), target in TARGETS.items():
        images = pictures(BATCH * (WARM + TIMED), channels, side)
        check_equality(view, images[:200])
        ours, peer = {1: 0.0, 2: 0.0}, 0.0
        for _ in range(3):
            peer = max(peer, peer_rate(images))
            ours = {threads: max(best, our_rate(view, images, threads)) for threads, best in ours.items()}
        for threads, rate in ours.items():
            rows.append(
                {
                    "benchmark": "SimCLR views without blur",
                    "setting": f"{side}x{side}x{channels}, {'one thread' if threads == 1 else 'two threads'}",
                    "ours": round(rate),
                    "peer": round(peer),
                    "ratio": round(rate / peer, 1),
                    "unit": "images/s",
                    "target": target if threads == 1 else None,
                }
            )
    print(f"{'views':24}{'ours':>10}{'peer':>10}{'ratio':>8}{'target':>8}   images/s, pixels equal")
    for row in rows:
        print(f"{row['setting']:24}{row['ours']:10}{row['peer']:10}{row['ratio']:8}{row['target'] or '':>8}")
    return rows


if __name__ == "__main__":
    main()
