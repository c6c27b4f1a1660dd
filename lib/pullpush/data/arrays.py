"""Arrays in a .npz file: read whole or refused in one sentence, told apart by digest, written at once."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pullpush.data.imageset import DataError


def read_npz(path: Path, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name; all of them, or those `wanted` that it has.

    Raises DataError if the file is missing, unreadable, cut short, or holds pickled objects, which would run
    code on reading.
    """
    key = ""
    try:
        if not zipfile.is_zipfile(path):  # False for a file that does not exist
            size = path.stat().st_size
            raise DataError(f"{path} is no .npz file, or is cut short ({size:,} bytes): write it again.")
        arrays = {}
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                if wanted is None or key in wanted:
                    arrays[key] = archive[key]
        return arrays
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check the path.") from error
    except ValueError as error:
        raise DataError(
            f"Array '{key}' of {path} cannot be read ({error}): save it as numbers or text, not as objects."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"Array '{key}' of {path} is damaged ({error}): write the file again.") from error


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz file; a reader sees the old one or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    named: dict[str, Any] = dict(arrays)
    with part.open("wb") as stream:
        np.savez_compressed(stream, **named)
        stream.flush()
        os.fsync(stream.fileno())  # or a power cut could leave the name without the content
    os.replace(part, path)


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256, in hex, of names, types, shapes and bytes in the given order: not of how a file packs them."""
    digest = hashlib.sha256()
    for key, array in arrays.items():
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_known(path: Path, keys: tuple[str, ...], digest: str, remedy: str) -> dict[str, np.ndarray]:
    """The arrays `keys` of a set that we know. Raises DataError, with the remedy, for another digest."""
    if not path.exists():
        raise DataError(f"{path} is missing; {remedy}")
    try:
        arrays = read_npz(path, keys)
    except DataError as error:
        raise DataError(f"{str(error).rpartition(':')[0]}; {remedy}") from error
    lacking = [key for key in keys if key not in arrays]
    if lacking:
        raise DataError(f"{path} has no array '{lacking[0]}'; {remedy}")
    found = digest_of({key: arrays[key] for key in keys})
    if found != digest:
        raise DataError(f"{path} is altered (sha256 {found[:8]}... instead of {digest[:8]}...); {remedy}")
    return arrays
