"""A folder of photographs decoded once into one file, for sets that do not fit into memory.

    photographs = packed.pack("fields", "fields-120x190")    # or, once that is done, packed.open_packed
    batch = photographs.gather(indices)                      # (b, 3, 120, 190) uint8

CLAWS' 227,060 photographs at 120x190 are 15.5 GB. `<target>.npy` holds them, as `numpy.load` reads it, and
`<target>.json` what they show; it is written last, so that a set without it is not finished. A `pack` that is
killed goes on where it was: it appends to `<target>.<list>.part`, named after the list of files.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from pullpush.data.folder import listings, photograph
from pullpush.data.imageset import DataError, ImageSet

BLOCK = 256  # images held at a time while packing: 18 MB of 120x190
HASHED = 2**24  # bytes held at a time while hashing


@dataclass(frozen=True, eq=False)
class PackedSet:
    """Labelled images in a file.

    images: (n, 3, h, w) uint8, memory-mapped and read-only. labels: (n,) int64 in [0, len(classes)).
    train: how many come first that are for training; the others are held out, as `data.load` splits a folder.
    files: where each came from, relative to the folder. digest: as of an `ImageSet`, sha256 of the bytes of
    images followed by those of labels.
    """

    path: Path
    images: np.memmap
    labels: Tensor
    classes: tuple[str, ...]
    train: int
    files: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Tensor) -> Tensor:
        """The images at `indices`, (b,) int64 in any order: (b, 3, h, w) uint8, in memory.

        Read from front to back of the file. Its pages are let go of afterwards, as they would count as memory
        of this process once touched; the system keeps them for the next time as long as it has room.
        Raises IndexError for an index out of range, DataError if the file has become shorter.
        """
        wanted = indices.cpu().numpy()
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"Indices {wanted.min()} to {wanted.max()} must lie from 0 to {len(self) - 1}.")
        pages = self.images.base
        assert isinstance(pages, mmap.mmap)
        if pages.size() < len(pages):  # reading beyond the end would kill the process
            raise DataError(f"{self.path} has become shorter: remove it and pack again.")
        order = wanted.argsort(kind="stable")
        batch = np.empty((len(wanted), *self.images.shape[1:]), np.uint8)
        batch[order] = self.images[wanted[order]]
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            pages.madvise(mmap.MADV_DONTNEED)
        return torch.from_numpy(batch)

    def part(self, split: str) -> ImageSet:
        """The images of one split, train or test, left in the file: an `ImageSet` whose images are `Rows`.

        Its digest is that of the whole set. Raises ValueError for another split.
        """
        if split not in ("train", "test"):
            raise ValueError(f"Unknown split '{split}'. Allowed: train, test.")
        every = torch.arange(len(self))
        rows = every[: self.train] if split == "train" else every[self.train :]
        images: Any = Rows(self, rows)
        return ImageSet(images, self.labels[rows], self.classes, self.path.stem, self.digest)

    def check(self) -> None:
        """Read everything. Raises DataError unless it has the digest that it was packed with."""
        if _digest(self.path, self.images.offset, self.labels) != self.digest:
            raise DataError(f"{self.path} was altered since it was packed: remove it and pack again.")


@dataclass(frozen=True, eq=False)
class Rows:
    """Some images of a packed set, in the place of a tensor that holds them: an index reads the file.

    `rows[i]` and `rows.index_select(0, i)` gather the images at i, (b,) int64 or a list: (b, 3, h, w) uint8
    on `device`. rows: (n,) int64, where each lies in `whole`.
    """

    whole: PackedSet
    rows: Tensor
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.whole.images.shape[1:]))

    def __getitem__(self, index: Tensor | list[int]) -> Tensor:
        return self.whole.gather(self.rows[torch.as_tensor(index).cpu()]).to(self.device)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        if dim != 0:
            raise ValueError(f"dim={dim}: images of a packed set are gathered along 0 alone.")
        return self[index]


def on(images: Tensor | Rows, chosen: Tensor | slice, device: torch.device) -> Tensor | Rows:
    """The chosen images on a device; those of a packed set stay in the file until they are gathered."""
    if isinstance(images, Rows):
        return Rows(images.whole, images.rows[chosen], device)
    return images[chosen].to(device)


def pack(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    size: tuple[int, int] = (120, 190),
    workers: int | None = None,
) -> PackedSet:
    """Decode an ImageFolder into `<target>.npy` and `<target>.json`, or open them if that is done.

    Every image is turned upright, made RGB, scaled (bicubic) and centre-cropped to `size`, (height, width).
    Order and split are those of `data.load`: train then test, the classes taking turns. At most `BLOCK`
    images are in memory. One process packs while others wait.

    workers: threads that decode; None is one a core.
    Raises ValueError for a size below 1, and DataError, with the remedy, for each way in which the folder can
    be wrong, for a disk without room, and for a target packed of another list of files or size.
    """
    source, goal = Path(folder), Path(target).absolute()
    if min(size) < 1:
        raise ValueError(f"size={tuple(size)} must be (height, width), each at least 1 pixel.")
    splits = listings(source)
    files = [file for listing in splits.values() for file in listing.files]
    labels = np.concatenate([listing.labels for listing in splits.values()])
    index: dict[str, Any] = {
        "schema": 1,
        "list": _identity(source, files, size),
        "size": list(size),
        "train": len(splits["train"].files),
        "classes": list(splits["train"].classes),
        "files": [file.relative_to(source).as_posix() for file in files],
        "labels": labels.tolist(),
    }
    goal.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{goal}.lock"):
        if not _beside(goal, ".json").exists():
            _write(goal, files, index, workers)
        packed = open_packed(goal)
    if _read_index(goal)["list"] != index["list"]:
        raise DataError(
            f"{goal}.npy was packed from other files or at another size than {source} at "
            f"{size[0]}x{size[1]}: give another target, or remove {goal}.json to pack anew."
        )
    return packed


def open_packed(target: str | os.PathLike[str]) -> PackedSet:
    """What `pack` made, at once: nothing is read but the index.

    Raises DataError if it is not there, not finished, or not as long as it should be.
    """
    goal = Path(target).absolute()
    index, path = _read_index(goal), _beside(goal, ".npy")
    shape = (len(index["labels"]), 3, *index["size"])
    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be opened ({error}): remove {goal}.json and pack again.") from error
    if images.shape != shape or images.dtype != np.uint8:
        raise DataError(f"{path} holds {images.shape}, not {shape}: remove {goal}.json and pack again.")
    labels = torch.tensor(index["labels"], dtype=torch.int64)
    return PackedSet(
        path, images, labels, tuple(index["classes"]), index["train"], tuple(index["files"]), index["digest"]
    )


def _write(goal: Path, files: list[Path], index: dict[str, Any], workers: int | None) -> None:
    """Append what is missing to the part file, put it in its place, and the index last."""
    height, width = index["size"]
    one = 3 * height * width
    part = _beside(goal, f".{index['list'][:12]}.part")
    with part.open("ab") as stream:
        if stream.tell() == 0:
            shape = (len(files), 3, height, width)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
    offset = _offset(part)
    done = (part.stat().st_size - offset) // one
    os.truncate(part, offset + done * one)  # an image that was cut in two
    free, needed = shutil.disk_usage(part.parent).free, (len(files) - done) * one
    if needed > free:
        raise DataError(f"{part.parent} has {free:,} bytes free, {needed:,} are needed: give another target.")
    progress = tqdm(total=len(files), initial=done, desc=f"Packing {goal.name}", unit="image", disable=None)
    with progress, part.open("ab") as stream, ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for first in range(done, len(files), BLOCK):
            block = files[first : first + BLOCK]
            images = pool.map(lambda file: _decode(file, (height, width)), block)
            stream.write(b"".join(image.tobytes() for image in images))
            stream.flush()
            os.fsync(stream.fileno())  # or a power cut could leave zeros in place of images
            progress.update(len(block))
    labels = torch.tensor(index["labels"], dtype=torch.int64)
    index["digest"] = _digest(part, offset, labels)
    whole = _beside(goal, ".json.tmp")
    whole.write_text(json.dumps(index), encoding="utf-8")
    os.replace(part, _beside(goal, ".npy"))
    os.replace(whole, _beside(goal, ".json"))


def _offset(path: Path) -> int:
    """Where the header of a .npy file ends and the images begin."""
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        return stream.tell()


def _decode(file: Path, size: tuple[int, int]) -> np.ndarray:
    """One image as (3, height, width) uint8, upright."""
    image = ImageOps.fit(photograph(file), size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1)


def _identity(source: Path, files: list[Path], size: tuple[int, int]) -> str:
    """sha256 of the size and of the files' names and lengths: what tells lists apart without reading them."""
    lines = [f"{file.relative_to(source).as_posix()} {file.stat().st_size}" for file in files]
    return hashlib.sha256("\n".join([str(tuple(size)), *lines]).encode()).hexdigest()


def _digest(path: Path, offset: int, labels: Tensor) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while read := stream.read(HASHED):
            digest.update(read)
    digest.update(labels.numpy().data)
    return digest.hexdigest()


def _read_index(goal: Path) -> dict[str, Any]:
    path = _beside(goal, ".json")
    if not path.exists():
        raise DataError(f"There is no {path}: nothing was packed there, or not to the end. Run pack.")
    index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return index


def _beside(goal: Path, ending: str) -> Path:
    return goal.with_name(goal.name + ending)
