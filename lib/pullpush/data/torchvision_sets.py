"""MNIST, Fashion-MNIST and CIFAR-10: torchvision's classes, with every file checked before it is read.

torchvision alone takes extracted MNIST files on trust and leaves half-written ones behind after a crash. Here
each file is compared with its sha256 on every load (0.03 s for MNIST, 0.1 s for CIFAR-10), and a download
happens in a folder of its own, under a lock, and is moved into place file by file once it is whole.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pullpush.data.fetch import SILENCE, alone, command, scratch
from pullpush.data.imageset import DataError


@dataclass(frozen=True)
class Source:
    """One torchvision data set: its class there, where its files lie under a root, and what they must be.

    files: name -> (bytes, sha256) of the files that are read, in `folder`.
    archives: paths under the root of what is downloaded; torchvision knows their md5.
    """

    torchvision_class: str
    folder: str
    files: dict[str, tuple[int, str]]
    archives: tuple[str, ...]
    classes: tuple[str, ...]


def _idx_source(
    torchvision_class: str, digests: tuple[str, str, str, str], classes: tuple[str, ...]
) -> Source:
    """A set in MNIST's format; digests of train images, train labels, test images, test labels."""
    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    sizes = (16 + 60_000 * 28 * 28, 8 + 60_000, 16 + 10_000 * 28 * 28, 8 + 10_000)
    folder = f"{torchvision_class}/raw"
    return Source(
        torchvision_class,
        folder,
        dict(zip(names, zip(sizes, digests, strict=True), strict=True)),
        tuple(f"{folder}/{name}.gz" for name in names),
        classes,
    )


SOURCES = {
    "mnist": _idx_source(
        "MNIST",
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        tuple("0123456789"),
    ),
    "fashion_mnist": _idx_source(
        "FashionMNIST",
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    "cifar10": Source(
        "CIFAR10",
        "cifar-10-batches-py",
        {
            "data_batch_1": (31_035_704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
            "data_batch_2": (31_035_320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
            "data_batch_3": (31_035_999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
            "data_batch_4": (31_035_696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
            "data_batch_5": (31_035_623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
            "test_batch": (31_035_526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
            "batches.meta": (158, "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb"),
        },
        ("cifar-10-python.tar.gz",),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
}
NAMES = tuple(SOURCES)


def read(name: str, root: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (n, c, h, w) uint8 and labels (n,) int64 of `split` in the set's own order, and class names.

    `all` is train then test. Downloads what is missing first. Raises DataError if a file is not what it
    should be, or cannot be had.
    """
    faults = faults_of(name, root)
    if faults and set(faults.values()) == {"missing"}:
        download(name, root)
    elif faults:
        raise DataError(_sentence(name, root, faults))
    parts = {"train": (True,), "test": (False,), "all": (True, False)}[split]
    pairs = [_read_part(name, root, train) for train in parts]
    images, labels = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
    return images, labels, SOURCES[name].classes


def check(name: str, root: Path) -> None:
    """Raise DataError, naming the first file at fault, unless every file of the set has its digest."""
    faults = faults_of(name, root)
    if faults:
        raise DataError(_sentence(name, root, faults))


def faults_of(name: str, root: Path) -> dict[str, str]:
    """File name -> what is wrong with it: missing, truncated, altered, unreadable. Empty for a whole set."""
    source = SOURCES[name]
    faults = {}
    for file, (size, sha256) in source.files.items():
        path = root / source.folder / file
        try:
            found = path.stat().st_size
            if found < size:
                faults[file] = f"truncated ({found:,} of {size:,} bytes)"
            elif found > size:
                faults[file] = f"altered ({found:,} bytes instead of {size:,})"
            else:
                with path.open("rb") as stream:
                    digest = file_digest(stream, "sha256").hexdigest()
                if digest != sha256:
                    faults[file] = f"altered (sha256 {digest[:8]}... instead of {sha256[:8]}...)"
        except (FileNotFoundError, NotADirectoryError):
            faults[file] = "missing"
        except OSError as error:
            faults[file] = f"unreadable ({error.strerror})"
    return faults


def download(name: str, root: Path) -> Path:
    """Make the set whole under `root`, fetching only if it is not, and return its folder.

    One process fetches while others wait. A kill at any moment leaves no half-written file in that folder.
    Archives already lying under the root are used instead of the network if they are whole.
    Raises DataError if the root cannot be written, the network fails or what arrives is not the set.
    """
    if not faults_of(name, root):  # before the lock: a whole set on a read-only disk needs none
        return root / SOURCES[name].folder
    source = SOURCES[name]
    with alone(name, root, f", or have {', '.join(source.files)} put into {root / source.folder}"):
        if faults_of(name, root):  # another process may have finished while this one waited
            _fetch(name, root)
    return root / source.folder


def _fetch(name: str, root: Path) -> None:
    """Download into a folder next to the target, check, and move each file over. Call it under the lock."""
    source = SOURCES[name]
    print(f"Getting {name} into {root}", file=sys.stderr, flush=True)
    try:
        with scratch(name, root) as part:
            for archive in source.archives:  # torchvision keeps one whose md5 is right and fetches the others
                if (root / archive).is_file():
                    (part / archive).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(root / archive, part / archive)
            with _socket_timeout(SILENCE):
                _torchvision_class(name)(part, download=True)
            faults = faults_of(name, part)
            if faults:
                raise RuntimeError("; ".join(f"{file} is {fault}" for file, fault in faults.items()))
            (root / source.folder).mkdir(parents=True, exist_ok=True)
            for file in source.files:
                os.replace(part / source.folder / file, root / source.folder / file)
    except (RuntimeError, OSError, EOFError, http.client.HTTPException) as error:
        archives = [root / archive for archive in source.archives]
        raise DataError(
            f"{name} could not be downloaded into {root} ({_reason(error)}): check the network and the disk "
            f"and run `{command(name, root)}` again, or put {', '.join(path.name for path in archives)} "
            f"into {archives[0].parent}."
        ) from error


def _read_part(name: str, root: Path, train: bool) -> tuple[Tensor, Tensor]:
    """One split as torchvision reads it, channels first."""
    dataset = _torchvision_class(name)(root, train=train)
    images = torch.as_tensor(dataset.data)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return images, torch.as_tensor(dataset.targets, dtype=torch.int64)


def _torchvision_class(name: str) -> Any:
    """torchvision's class of the set, imported only here because the import takes seconds."""
    import torchvision.datasets

    original = getattr(torchvision.datasets, SOURCES[name].torchvision_class)
    # MNIST prefers a `processed` cache of torchvision before 0.9, without digest, to the files checked here.
    # The subclass keeps the name, because torchvision derives the folder from it.
    return type(original.__name__, (original,), {"_check_legacy_exist": lambda self: False})


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision opens its connections without a timeout and would wait for ever on a silent server."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: Exception) -> str:
    """torchvision's and urllib's words on one line, without their brackets."""
    words = re.sub(r"<urlopen error (?:\[Errno -?\d+\] )?(.*?)>", r"\1;", str(error))
    words = words.replace(
        "File not found or corrupted.", "what arrived is truncated or altered, its md5 is wrong;"
    )
    return " ".join(words.split()).rstrip(";") or type(error).__name__


def _sentence(name: str, root: Path, faults: dict[str, str]) -> str:
    """What is wrong with the first faulty file, how many others are, and the remedy."""
    file, fault = next(iter(faults.items()))
    path = root / SOURCES[name].folder / file
    others = f" (and {len(faults) - 1} more of its files)" if len(faults) > 1 else ""
    return (
        f"{name}: {path} is {fault}{others}; run `{command(name, root)}` to fetch a whole one, "
        f"or name another data root with root, --data-root or $PULLPUSH_DATA."
    )
