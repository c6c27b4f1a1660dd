"""A user's own images, one sub-folder a class, as torchvision's ImageFolder lays them out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from pullpush.data.imageset import DataError, check_limit, held_out

GREY_MODES = {"1", "L", "LA"}
COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
FEWEST = 5  # images a class, so that a fifth of it is at least one and the rest is not empty


@dataclass(frozen=True)
class Listing:
    """The files of one split in reading order, with labels (n,) and the class names."""

    files: list[Path]
    labels: np.ndarray
    classes: tuple[str, ...]


def read(
    path: Path, split: str, limit: int | None, size: int | None
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (n, c, h, w) uint8, labels (n,) int64 and class names of an ImageFolder.

    With `train` and `test` sub-folders those are the splits; else `test` is a fixed stratified fifth and
    `train` the rest; `all` is train then test. Within a split the classes take turns (first file of each
    class, second of each, ...), so that the first `limit` images, the only ones decoded, hold every class.
    size: side of a square to which every image is scaled and, if it is not square, centre-cropped.
    Grey images give c = 1 only if all images of the folder are grey. The header of every image is read each
    time, so that the answer is the same for every split and limit.

    Raises DataError, one sentence for each way in which the folder can be wrong.
    """
    try:
        splits = _splits(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): allow yourself to read it and the folders in it."
        ) from error
    files = [file for listing in splits.values() for file in listing.files]
    channels = _channels(path, files, size)
    chosen = list(splits.values()) if split == "all" else [splits[split]]
    files = [file for listing in chosen for file in listing.files]
    labels = np.concatenate([listing.labels for listing in chosen])
    if limit is not None:
        check_limit(limit, len(files), f"{path} ({split})")
        files, labels = files[:limit], labels[:limit]
    progress = tqdm(files, desc=f"Reading {path.name}", unit="image", disable=None, delay=2)
    images = torch.stack([_decode(file, channels, size) for file in progress])
    return images, torch.from_numpy(labels), splits["train"].classes


def listings(path: Path) -> dict[str, Listing]:
    """The `train` and the `test` files of an ImageFolder, as `read` takes them; nothing is decoded.

    Raises DataError, one sentence for each way in which the folder can be wrong.
    """
    if not path.is_dir():
        raise DataError(f"There is no folder {path}: give one that holds a sub-folder of images a class.")
    try:
        return _splits(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): allow yourself to read it and the folders in it."
        ) from error


def photograph(file: Path) -> Image.Image:
    """One image of any size and mode, upright and RGB. Raises DataError, with the remedy, if it is none."""
    try:
        with Image.open(file) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except Exception as error:  # Pillow's decoders raise many types for a bad file
        raise _unreadable(file, error) from error


def _splits(path: Path) -> dict[str, Listing]:
    """The train and the test listing of the folder, in each the classes taking turns."""
    own = [name for name in ("train", "test") if (path / name).is_dir()]
    if len(own) == 1 and _has_folders(path / own[0]):  # without sub-folders it is a class, say of vehicles
        other = "test" if own == ["train"] else "train"
        raise DataError(
            f"{path} has a {own[0]} folder but no {other} folder: add {path / other}, "
            f"or point to {path / own[0]} to have it split 80 to 20."
        )
    if len(own) == 2:
        train, test = _listing(path / "train"), _listing(path / "test")
        if train.classes != test.classes:
            odd = ", ".join(sorted(set(train.classes) ^ set(test.classes)))
            raise DataError(
                f"{path / 'train'} and {path / 'test'} differ in their classes ({odd}): make them the same."
            )
        return {"train": _take_turns(train), "test": _take_turns(test)}
    whole = _listing(path)
    smallest, count = min(Counter(whole.labels.tolist()).items(), key=lambda item: item[1])
    if count < FEWEST:
        raise DataError(
            f"Class folder {path / whole.classes[smallest]} has {count} images, too few to hold out a fifth: "
            f"add images until it has {FEWEST}, or make {path / 'train'} and {path / 'test'} yourself."
        )
    test_mask = held_out(whole.labels)
    return {"train": _take_turns(_only(whole, ~test_mask)), "test": _take_turns(_only(whole, test_mask))}


def _listing(path: Path) -> Listing:
    """Every image file below `path` as torchvision's ImageFolder finds them, sorted by class and name."""
    if not _has_folders(path):
        raise DataError(
            f"{path} has no class sub-folders: put the images of each class into a folder of its own."
        )
    from torchvision.datasets import ImageFolder

    found = ImageFolder(str(path), allow_empty=True)
    labels = np.array(found.targets, dtype=np.int64)
    counts = np.bincount(labels, minlength=len(found.classes))
    for name, count in zip(found.classes, counts.tolist(), strict=True):
        if count == 0:
            raise DataError(
                f"Class folder {path / name} holds no image: add images (jpg, png, webp, ...) or remove it."
            )
    return Listing([Path(file) for file, _ in found.samples], labels, tuple(found.classes))


def _has_folders(path: Path) -> bool:
    return any(entry.is_dir() for entry in path.iterdir())


def _only(listing: Listing, chosen: np.ndarray) -> Listing:
    """The files at the chosen positions, given as indices or as a mask."""
    positions = np.arange(len(listing.files))[chosen]
    return Listing([listing.files[i] for i in positions], listing.labels[positions], listing.classes)


def _take_turns(listing: Listing) -> Listing:
    """A listing sorted by class, reordered: the first file of each class, the second of each, and so on."""
    turn = np.concatenate([np.arange(count) for count in np.bincount(listing.labels)])
    return _only(listing, np.lexsort((listing.labels, turn)))


def _channels(path: Path, files: list[Path], size: int | None) -> int:
    """1 if every image is grey, else 3; checks from the headers that all can be joined in one tensor."""
    colour = False
    shapes: dict[tuple[int, int], Path] = {}
    for file in files:
        mode, shape = _header(file)
        if mode not in GREY_MODES | COLOUR_MODES:
            raise DataError(
                f"{file} is an image of mode {mode}, not of 8 bits a channel: save it as grey or RGB PNG."
            )
        colour = colour or mode in COLOUR_MODES
        shapes.setdefault(shape, file)
    if len(shapes) > 1 and size is None:
        examples = [f"{file} is {width} x {height}" for (width, height), file in list(shapes.items())[:2]]
        raise DataError(
            f"The images of {path} differ in size ({', '.join(examples)}): give size, for example "
            f"size={min(map(min, shapes))}, to scale and crop all to a square."
        )
    return 3 if colour else 1


def _header(file: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height) as shown, without decoding the pixels."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 lie on their side
            width, height = image.size
            return image.mode, (height, width) if turned else (width, height)
    except Exception as error:  # Pillow's decoders raise many types for a bad file
        raise _unreadable(file, error) from error


def _decode(file: Path, channels: int, size: int | None) -> Tensor:
    """One image as (channels, h, w) uint8, upright."""
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
    except Exception as error:  # as above
        raise _unreadable(file, error) from error
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1)


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{file} cannot be read as an image ({reason}): replace or remove it.")
