"""Views without blur: batched tensor code against torchvision's PIL chain in a two-worker DataLoader.

SimCLR's views, and those of Contrastive Clustering as RCC draws them: grey digits of 28 pixels seen at 64.

First both get the same parameters and must give the same pixels. Then both deliver batches of 256: the peer
from two worker processes of one torch thread each, ours from the main process alone, with one torch thread
and with two, as many cores as the peer uses. The target stands beside both.
"""

import multiprocessing
import time
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional as tv

from pullpush import views

BATCH, WORKERS = 256, 2
WARM, TIMED = 6, 12  # batches; the peer's workers prefetch four


class Setting(NamedTuple):
    """Images of `side` pixels, seen at `size`; target: how many times faster than the peer."""

    family: str
    side: int
    channels: int
    size: int
    flip: float
    jitter: tuple[float, float, float, float]
    target: float

    def view(self) -> views.View:
        return views.make("simclr", self.size, flip=self.flip, jitter=self.jitter, blur=0.0)

    def chain(self) -> transforms.Compose:
        """The same as one would write it with torchvision."""
        return transforms.Compose(
            [
                transforms.RandomResizedCrop(self.size),
                transforms.RandomHorizontalFlip(self.flip),
                transforms.RandomApply([transforms.ColorJitter(*self.jitter)], 0.8),
                transforms.RandomGrayscale(0.2),
                transforms.ToTensor(),
            ]
        )


SIMCLR, CLUSTERING = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1)
SETTINGS = (
    Setting("SimCLR views without blur", 28, 1, 28, 0.5, SIMCLR, 10),
    Setting("SimCLR views without blur", 32, 3, 32, 0.5, SIMCLR, 6),
    Setting("SimCLR views without blur", 64, 3, 64, 0.5, SIMCLR, 2),
    Setting("CC views without blur", 28, 1, 64, 0.0, CLUSTERING, 4),
)


def pictures(n: int, channels: int, side: int) -> Tensor:
    """Smooth images: noise would slow PIL's branches down and flatter us."""
    coarse = torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1).mul(255).byte()


def picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())


class Peer(Dataset[Tensor]):
    """The chain applied to an array in memory, image by image."""

    def __init__(self, images: Tensor, chain: transforms.Compose) -> None:
        self.images, self.chain = images, chain

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.chain(picture(self.images[index]))


def check_equality(view: views.View, images: Tensor, size: int) -> None:
    """Raises AssertionError unless torchvision's functions give the same pixels for the same parameters."""
    colour = {0: "brightness", 1: "contrast", 2: "saturation", 3: "hue"}
    side = images.shape[-1]
    drawn = view.draw(len(images), side, side, torch.Generator().manual_seed(1), "cpu")
    for i, ours in enumerate(view.apply(images, drawn)):
        row = {name: value[i].tolist() for name, value in drawn.items()}
        expected = tv.resized_crop(
            picture(images[i]), row["top"], row["left"], row["height"], row["width"], [size, size]
        )
        expected = tv.hflip(expected) if row["flip"] else expected
        for operation in row["order"] if row["jitter"] else []:
            name = colour[operation]
            expected = getattr(tv, f"adjust_{name}")(expected, row[name])
        expected = tv.rgb_to_grayscale(expected, len(images[i])) if row["grayscale"] else expected
        off = (ours - tv.to_tensor(expected)).abs().max()
        assert off < 0.5 / 255, f"a view of {size} pixels is off by {off * 255:.1f} levels"


def peer_rate(images: Tensor, chain: transforms.Compose) -> float:
    """Images a second that arrive from the workers, once they are under way."""
    loader = DataLoader(Peer(images, chain), BATCH, shuffle=True, num_workers=WORKERS)
    stamps = [time.perf_counter() for _ in loader]
    for worker in multiprocessing.active_children():  # which take a moment to go, and our time with them
        worker.join()
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
    rows = []
    for setting in SETTINGS:
        side, channels, size = setting.side, setting.channels, setting.size
        view, images = setting.view(), pictures(BATCH * (WARM + TIMED), channels, side)
        check_equality(view, images[:200], size)
        ours, peer = {1: 0.0, 2: 0.0}, 0.0
        for _ in range(3):
            peer = max(peer, peer_rate(images, setting.chain()))
            ours = {threads: max(best, our_rate(view, images, threads)) for threads, best in ours.items()}
        for threads, rate in ours.items():
            shape = f"{side}x{side}x{channels}" + (f" to {size}x{size}" if size != side else "")
            rows.append(
                {
                    "benchmark": setting.family,
                    "setting": f"{shape}, {'one thread' if threads == 1 else 'two threads'}",
                    "ours": round(rate),
                    "peer": round(peer),
                    "ratio": round(rate / peer, 1),
                    "unit": "images/s",
                    "target": setting.target,
                }
            )
    print(f"{'views':32}{'ours':>10}{'peer':>10}{'ratio':>8}{'target':>8}   images/s, pixels equal")
    for row in rows:
        print(f"{row['setting']:32}{row['ours']:10}{row['peer']:10}{row['ratio']:8}{row['target'] or '':>8}")
    return rows


if __name__ == "__main__":
    main()
