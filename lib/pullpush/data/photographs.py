"""Photographs from the field: `crops`, eleven crops, and `deepweeds`, eight weeds and none of them.

Both lie under the data root as ImageFolders. Nobody hosts them in this form, so they cannot be downloaded.

crops: 663 photographs of 190 x 120 pixels, pooled from three public collections; the eleven largest arable
    crops of the 32 in `crops_field`. Their licences are unknown: show scores, never the pictures.
deepweeds: 9,453 photographs of 96 x 96 pixels, scaled down from Olsen et al., DeepWeeds, Scientific Reports
    2019 (CC BY 4.0); all 8,403 with weeds and 1,050 without.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from pullpush.data import folder
from pullpush.data.imageset import DataError


@dataclass(frozen=True)
class Album:
    """An ImageFolder under the data root; digest: `digest_of` its files."""

    folder: str
    classes: tuple[str, ...]
    images: int
    digest: str


ALBUMS = {
    "crops": Album(
        "crops_field",
        (
            "alfalfa",
            "barley",
            "cotton",
            "jute",
            "maize",
            "pearl_millet_bajra",
            "rice",
            "soybean",
            "sugarcane",
            "tobacco_plant",
            "wheat",
        ),
        663,
        "3238f1e3906bf228de27c42353da884b865d549da5e3c2052ae18f64bdeca998",
    ),
    "deepweeds": Album(
        "deepweeds",
        (
            "chinee_apple",
            "lantana",
            "negative",
            "parkinsonia",
            "parthenium",
            "prickly_acacia",
            "rubber_vine",
            "siam_weed",
            "snake_weed",
        ),
        9_453,
        "2cbe6f1a91a97760b90b003ec1086fadc8799d91552cf867ae10e9ecb3ebc1e0",
    ),
}
NAMES = tuple(ALBUMS)


def read(name: str, root: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (n, 3, h, w) uint8, labels (n,) int64 and class names; `test` is a fixed stratified fifth.

    The classes take turns, as in any ImageFolder. Raises DataError if a file is missing, added or altered.
    """
    check(name, root)
    album = ALBUMS[name]
    images, labels, classes = folder.read(root / album.folder, split, None, None)
    number = torch.tensor([album.classes.index(one) if one in album.classes else -1 for one in classes])
    kept = number[labels] >= 0
    return images[kept], number[labels[kept]], album.classes


def check(name: str, root: Path) -> None:
    """Raise DataError unless the set's files are all there and are what they were (0.1 s)."""
    album = ALBUMS[name]
    path = root / album.folder
    missing = [one for one in album.classes if not (path / one).is_dir()]
    if missing:
        raise DataError(f"{name} needs the folder {path / missing[0]}. {_remedy(name, root)}")
    found, count = digest_of(path, album.classes)
    if count != album.images:
        raise DataError(
            f"{path} holds {count:,} files of {name}, not {album.images:,}. {_remedy(name, root)}"
        )
    if found != album.digest:
        raise DataError(f"A file of {name} in {path} was renamed or altered. {_remedy(name, root)}")


def download(name: str, root: Path) -> Path:
    """Return the set's folder if it is whole. Raises DataError if not: there is nowhere to fetch it from."""
    check(name, root)
    return root / ALBUMS[name].folder


def digest_of(path: Path, classes: tuple[str, ...]) -> tuple[str, int]:
    """sha256, in hex, of the names and bytes of the files of these classes, and how many there are."""
    digest, count = sha256(), 0
    for name in classes:
        for file in sorted((path / name).iterdir()):
            digest.update(f"{name}/{file.name}\n".encode() + sha256(file.read_bytes()).digest())
            count += 1
    return digest.hexdigest(), count


def _remedy(name: str, root: Path) -> str:
    return (
        f"It has no public download in this form: lay it out as {root / ALBUMS[name].folder}/CLASS/FILE, "
        "or give the path of an ImageFolder of your own as the data set."
    )
