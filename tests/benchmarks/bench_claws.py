"""The third study: rendering fields, a step of CLAWS with its data, and a set that is never all in memory.

Rendering has no peer: beside it stand the 500 images a second that were aimed for.

A step: ours picks rows of a uint8 tensor, draws both views of the batch at once, and trains channels-last.
The peer is what one would write first: torchvision's transforms on PIL images in two worker processes, and
the same networks in torch's default memory layout with the losses written out. First both must give the same
views for the same parameters, level for level, and the same loss for the same weights and views.

The packed set: rendered images as JPEG files, each under many names, as a tenth of the paper's 227,060
photographs. A process of its own packs them and trains the small networks on all of them once, in full size,
from a file that the system has been told to forget. Batches must come faster than the step takes them, and
the process must not grow after its first steps; beside its growth stands the size of the set.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from pullpush import losses, models, samplers, training
from pullpush.crops import Window
from pullpush.data import fields, packed

RATE = 500  # rendered images a second, on two cores
PER_CLASS, TEMPERATURE, LEARNING_RATE, DIMENSIONS = 5, 0.5, 0.001, 32
BATCH = PER_CLASS * len(fields.CLASSES)
JITTER = (0.8, 0.8, 0.8, 0.2)  # SimCLR's strengths
COLOURS = {"jitter": JITTER, "blur": 0.0}
PACKED, RENDERED = 227_060 // 10, 2_200
WARM = 10  # steps after which training from the packed set shall not need more memory
ROOM = 2 * 10**9  # bytes of disk for the packed tenth and its JPEG files

Batch = tuple[Tensor, Tensor, Tensor]  # whole images and crops, floats in [0, 1], and labels


class Setting(NamedTuple):
    """Images of `size`, crops of `crop`; how many steps warm up, how many are timed, and how often."""

    encoder: str
    size: tuple[int, int]
    crop: int
    warm: int
    timed: int
    rounds: int
    threads: tuple[int, ...]

    def views(self) -> tuple[Window, Window]:
        return Window(**COLOURS), Window(size=self.crop, **COLOURS)

    def network(self, layout: torch.memory_format) -> nn.ModuleDict:
        torch.manual_seed(0)
        parts = {"head": models.LabelHead(len(fields.CLASSES)), "attention": models.MaskNetwork()}
        for name, small_input in (("f", False), ("g", True)):
            if self.encoder == "small":
                backbone, width = models.SmallFieldNet(), 128
            else:
                backbone, width = models.EfficientNetB0(small_input=small_input), 1280
            parts[name] = nn.Sequential(backbone, models.Projector(width, DIMENSIONS))
        return nn.ModuleDict(parts).to(memory_format=layout)


SMALL = Setting("small", (60, 95), 16, 6, 20, 3, (1, 2))
LARGE = Setting("EfficientNet-B0", (120, 190), 32, 1, 2, 2, (2,))
FULL = SMALL._replace(size=(120, 190), crop=32)  # the small networks, on the paper's sizes


# --- a step, ours and the peer's ----------------------------------------------------------------------------


def our_loss(network: nn.ModuleDict, batch: Batch) -> Tensor:
    """As in the study's notebook."""
    whole, crop, labels = batch
    z_whole, z_crop = network["f"](whole), network["g"](crop)
    gates = models.mask(network["attention"](z_crop))
    contrast = losses.nt_xent(z_whole * gates, z_crop * gates, TEMPERATURE)
    named = [functional.cross_entropy(network["head"](z), labels) for z in (z_whole, z_crop)]
    return contrast + sum(named) / 2


def plain_loss(network: nn.ModuleDict, batch: Batch) -> Tensor:
    """The same, written out: every similarity of the batch, and of each row the other view as its class."""
    whole, crop, labels = batch
    z_whole, z_crop = network["f"](whole), network["g"](crop)
    soft = torch.sigmoid(network["attention"](z_crop))
    gates = (soft > 0.5).float() + soft - soft.detach()
    z = functional.normalize(torch.cat([z_whole * gates, z_crop * gates]), dim=1)
    n = len(labels)
    similarity = (z @ z.T / TEMPERATURE).masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
    contrast = functional.cross_entropy(similarity, (torch.arange(2 * n) + n) % (2 * n))
    logits = network["head"](torch.cat([z_whole, z_crop]))
    return contrast + functional.cross_entropy(logits, labels.repeat(2))


def our_views(setting: Setting, images: Tensor, stream: torch.Generator) -> Iterator[Tensor]:
    return (view(images, stream).contiguous(memory_format=torch.channels_last) for view in setting.views())


class Pictures(Dataset[Batch]):
    """A whole view and a crop of each image, made from PIL images in memory, one by one."""

    def __init__(self, setting: Setting, images: Tensor, labels: Tensor) -> None:
        from torchvision import transforms

        self.pictures, self.labels = [picture(image) for image in images], labels.tolist()
        colours = [
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            transforms.RandomApply([transforms.ColorJitter(*JITTER)], 0.8),
            transforms.RandomGrayscale(0.2),
            transforms.ToTensor(),
        ]
        self.whole = transforms.Compose(colours)
        self.crop = transforms.Compose([transforms.RandomCrop(setting.crop), *colours])

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        return self.whole(self.pictures[i]), self.crop(self.pictures[i]), self.labels[i]


def picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def seconds_per_step(setting: Setting, images: Tensor, labels: Tensor, threads: int, ours: bool) -> float:
    """Of a whole step, data included, once those are done that warm up or were prefetched."""
    order = samplers.balanced_batches(labels, PER_CLASS, training.generator(0))
    if ours:
        network, loss = setting.network(torch.channels_last), our_loss
        stream = training.generator(1)
        batches = (
            (*our_views(setting, images.index_select(0, rows), stream), labels[rows]) for rows in order
        )
    else:
        network, loss = setting.network(torch.contiguous_format), plain_loss
        data = Pictures(setting, images, labels)
        batches = DataLoader(data, batch_sampler=order.tolist(), num_workers=2)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    torch.set_num_threads(threads)
    stamps = []
    for batch in batches:
        train(network, loss, optimizer, batch)
        stamps.append(time.perf_counter())
    torch.set_num_threads(1)
    return (stamps[-1] - stamps[-1 - setting.timed]) / setting.timed


def train(network: nn.ModuleDict, loss: Any, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    optimizer.zero_grad()
    loss(network, batch).backward()
    optimizer.step()


def check_views(setting: Setting, images: Tensor) -> None:
    """Raises AssertionError unless torchvision's functions give the same levels for the same parameters."""
    from torchvision.transforms import functional as tv

    colour = {0: "brightness", 1: "contrast", 2: "saturation", 3: "hue"}
    for view in setting.views():
        drawn = view.draw(len(images), *setting.size, training.generator(2), "cpu")
        for i, ours in enumerate(view.apply(images, drawn)):
            row = {name: value[i].tolist() for name, value in drawn.items()}
            expected = tv.crop(picture(images[i]), row["top"], row["left"], row["height"], row["width"])
            expected = tv.hflip(expected) if row["flip"] else expected
            expected = tv.vflip(expected) if row["upside_down"] else expected
            for operation in row["order"] if row["jitter"] else []:
                name = colour[operation]
                expected = getattr(tv, f"adjust_{name}")(expected, row[name])
            expected = tv.rgb_to_grayscale(expected, 3) if row["grayscale"] else expected
            assert torch.equal(ours, tv.to_tensor(expected)), f"a view of {tuple(ours.shape[1:])} differs"


def check_loss(setting: Setting, images: Tensor, labels: Tensor) -> None:
    """Raises AssertionError unless both losses agree to 1e-5 for the same weights and views."""
    found = []
    views = list(our_views(setting, images[:BATCH], training.generator(3)))
    for layout, loss in ((torch.channels_last, our_loss), (torch.contiguous_format, plain_loss)):
        network = setting.network(layout)
        torch.manual_seed(1)  # which blocks an EfficientNet leaves out
        given = (*(view.contiguous(memory_format=layout) for view in views), labels[:BATCH])
        with torch.no_grad():
            found.append(loss(network, given).item())
    assert abs(found[0] - found[1]) < 1e-5, f"loss of {setting.encoder}: {found[0]} and {found[1]}"


def step_rows(setting: Setting) -> list[dict[str, Any]]:
    """Best of some rounds, in turn; the peer has as many threads as suit it better."""
    made = fields.render(BATCH * (setting.warm + setting.timed), size=setting.size)
    check_views(setting, made.images[:BATCH])
    check_loss(setting, made.images, made.labels)
    best = {(threads, ours): float("inf") for threads in setting.threads for ours in (True, False)}
    for _ in range(setting.rounds):
        for (threads, ours), so_far in best.items():
            found = seconds_per_step(setting, made.images, made.labels, threads, ours)
            best[threads, ours] = min(so_far, found)
    peer = min(seconds for (_, ours), seconds in best.items() if not ours)
    shape = f"batch {BATCH}, {'x'.join(map(str, setting.size))} and {setting.crop}x{setting.crop}"
    return [
        {
            "benchmark": f"CLAWS step with its data, {setting.encoder}",
            "setting": f"{shape}, {'one thread' if threads == 1 else 'two threads'}",
            "ours": best[threads, True], "peer": peer, "ratio": peer / best[threads, True], "unit": "s",
            "target": None,
        }
        for threads in setting.threads
    ]  # fmt: skip


# --- rendering ----------------------------------------------------------------------------------------------


def rendering_rows() -> list[dict[str, Any]]:
    rows = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        fields.render(11)  # draws the plants
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            fields.render(440)
            best = min(best, time.perf_counter() - began)
        rows.append({
            "benchmark": f"rendered fields, against {RATE} a second",
            "setting": f"120x190x3, {'one thread' if threads == 1 else 'two threads'}", "ours": 440 / best,
            "peer": RATE, "ratio": 440 / best / RATE, "unit": "images/s",
            "target": 1 if threads == 2 else None,
        })  # fmt: skip
    torch.set_num_threads(1)
    return rows


# --- the packed set -----------------------------------------------------------------------------------------


def photographs(folder: Path) -> None:
    """An ImageFolder of `PACKED` JPEG files, which are `RENDERED` images under many names."""
    made = fields.render(RENDERED)
    for name in fields.CLASSES:
        (folder / name).mkdir(parents=True)
    for i in range(PACKED):
        file = folder / fields.CLASSES[made.labels[i % RENDERED]] / f"{i:06}.jpg"
        if i < RENDERED:
            picture(made.images[i]).save(file, quality=90)
        else:
            os.link(file.with_name(f"{i % RENDERED:06}.jpg"), file)


def held() -> dict[str, float]:
    """MB of memory of this process, on Linux: its own, and pages of files."""
    status = Path("/proc/self/status").read_text()
    return {name: int(status.split(f"{name}:")[1].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


@contextmanager
def watching(highest: dict[str, float]) -> Iterator[None]:
    """Puts into `highest` the most that `held` tells meanwhile, looked at a hundred times a second."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            highest.update({name: max(highest.get(name, 0), value) for name, value in held().items()})

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def forget(file: Path) -> None:
    """Ask the system to drop what it keeps of a file, which has been synced."""
    with file.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def pack_and_train(folder: Path, target: Path) -> dict[str, Any]:
    """What a process of its own finds: how much it grows by, in MB, and images a second."""
    import torchvision.datasets  # noqa: F401  what libraries take on first use does not count

    torch.set_num_threads(2)
    before, packing = held(), {}
    began = time.perf_counter()
    with watching(packing):
        whole = packed.pack(folder, target, fields.SIZE, workers=2)
    seconds = {"packing": time.perf_counter() - began}
    grown = {f"packing {name}": value - before[name] for name, value in packing.items()}

    forget(whole.path)
    network, stream = FULL.network(torch.channels_last), training.generator(0)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    order = samplers.balanced_batches(whole.labels, PER_CLASS, stream)

    def epoch(part: Tensor) -> dict[str, float]:
        spent = {"gather": 0.0, "views": 0.0, "step": 0.0}
        for rows in part:
            stamps = [time.perf_counter()]
            picked = whole.gather(rows)
            stamps.append(time.perf_counter())
            batch = (*our_views(FULL, picked, stream), whole.labels[rows])
            stamps.append(time.perf_counter())
            train(network, our_loss, optimizer, batch)
            stamps.append(time.perf_counter())
            for name, start, end in zip(spent, stamps, stamps[1:], strict=False):
                spent[name] += end - start
        return spent

    first: dict[str, float] = {}
    later: dict[str, float] = {}
    with watching(first):
        epoch(order[:WARM])
    with watching(later):
        seconds |= epoch(order[WARM:])
    grown |= {f"training {name}": max(0.0, value - first[name]) for name, value in later.items()}
    images = {"packing": len(whole)}
    rates = {name: images.get(name, (len(order) - WARM) * BATCH) / one for name, one in seconds.items()}
    told = f"Packed at {rates['packing']:,.0f} images/s, trained in {later['RssAnon']:,.0f} MB of memory."
    print(told, file=sys.stderr)
    return {"images": len(whole), "bytes": whole.images.nbytes, "grown": grown, "rates": rates}


def packed_rows() -> list[dict[str, Any]]:
    beside = Path(__file__).parents[2] / ".cache"  # a disk, where the system's own folder may be memory
    beside.mkdir(exist_ok=True)
    if not Path("/proc/self/status").exists() or shutil.disk_usage(beside).free < ROOM:
        print(f"The packed set needs Linux and {ROOM:,} bytes of disk: not measured.", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(dir=beside) as place:
        folder, target = Path(place) / "photographs", Path(place) / "packed"
        photographs(folder)
        command = [sys.executable, __file__, str(folder), str(target)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    rates, grown = found["rates"], found["grown"]
    told = f"{found['images']:,} photographs of 120x190"
    both = 1 / (1 / rates["gather"] + 1 / rates["views"])
    speed = [
        {
            "benchmark": f"packed set, {what}, against what a step takes",
            "setting": f"{told}, two threads", "ours": rate, "peer": rates["step"],
            "ratio": rate / rates["step"], "unit": "images/s", "target": 1,
        }
        for what, rate in (("gathered", rates["gather"]), ("gathered and viewed", both))
    ]  # fmt: skip
    size = found["bytes"] / 2**20
    memory = [
        {
            "benchmark": f"packed set, growth of {what} while {when}", "setting": told,
            "ours": grown[f"{when} {name}"], "peer": size, "ratio": size / max(grown[f"{when} {name}"], 1),
            "unit": "MB", "target": target,
        }
        for when, what, name, target in (
            ("packing", "memory", "RssAnon", 10), ("training", "memory", "RssAnon", 10),
            ("training", "mapped file", "RssFile", None),
        )
    ]  # fmt: skip
    return speed + memory


def main() -> list[dict[str, Any]]:
    return [*rendering_rows(), *step_rows(SMALL), *step_rows(LARGE), *packed_rows()]


if __name__ == "__main__":
    print(json.dumps(pack_and_train(Path(sys.argv[1]), Path(sys.argv[2]))))
