"""Files from their public homes: one process at a time, whole or not at all, always against a digest.

Where a home's digest is known it is pinned here in the code. Where nobody publishes one, the file is trusted
on first use: the sha256 found then is written beside it (`FILE.sha256`, as `sha256sum -c` reads it), and
every later copy must have it. What else is known of such a file, such as its counts, is checked by who reads
it.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from urllib.parse import urlparse

from filelock import FileLock
from tqdm import tqdm

from pullpush.data.imageset import DataError, root_folder

SILENCE = 30.0  # seconds without a byte after which a download is given up
BLOCK = 2**18  # bytes read at a time
FAILURES = (OSError, http.client.HTTPException)  # URLError, HTTPError and timeouts are OSErrors


@dataclass(frozen=True)
class Remote:
    """A file and the addresses of its public homes, tried in this order.

    sha256: in hex; None where nobody publishes it, which means trust on first use.
    """

    file: str
    urls: tuple[str, ...]
    sha256: str | None = None


@contextmanager
def alone(name: str, root: Path, otherwise: str = "") -> Iterator[None]:
    """Hold the lock of a data set under `root` while others wait. Raises DataError without permission.

    otherwise: what else the reader can do, as the end of the error's sentence: ", or ...".
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / f".{name}.lock")
        lock.acquire()
    except OSError as error:
        raise DataError(
            f"{name} is not whole in {root} and cannot be downloaded there ({error.strerror or error}): name "
            f"a folder you can write to with root, --data-root or $PULLPUSH_DATA{otherwise}."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch(name: str, root: Path) -> Iterator[Path]:
    """An empty folder under `root` that is gone afterwards. Use it within `alone`."""
    part = root / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)  # left by a killed process: the lock says nobody uses it
    try:
        part.mkdir(parents=True)
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def fetch(remote: Remote, folder: Path) -> Path:
    """Make sure that `folder` holds the whole file, and return its path. Use it within `alone`.

    A file that lies there already is kept if it has its digest, so that it can be put there by hand.
    Raises DataError if it cannot be had, or if what arrives has another digest.
    """
    path = folder / remote.file
    if fault_of(remote, folder) is not None:
        get(remote, folder)
    if remote.sha256 is None and not note(path).exists():
        write_note(path)
    return path


def fault_of(remote: Remote, folder: Path) -> str | None:
    """What is wrong with the file in `folder`, as the end of a sentence, or None.

    Without a pinned digest and a note beside it, a file is as good as its name.
    """
    path, expected = folder / remote.file, _expected(remote, folder)
    try:
        found = digest_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    if expected and found != expected:
        return f"truncated or altered (sha256 {found[:8]}... instead of {expected[:8]}...)"
    return None


def get(remote: Remote, folder: Path, otherwise: str = "put the file there yourself") -> None:
    """Download the file, check it and only then give it its name. Raises DataError if no home has it.

    otherwise: what the reader can do without a network, the last words of the error.
    """
    path, expected, failures = folder / remote.file, _expected(remote, folder), []
    part = path.with_name(f".{path.name}.part")  # overwritten, whatever a killed process left in it
    for url in remote.urls:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = _download(url, part)
        except FAILURES as error:
            failures.append(f"{_host(url)}: {_words(error)}")
            part.unlink(missing_ok=True)
            continue
        if expected and found != expected:
            failures.append(f"{_host(url)}: what arrived has sha256 {found[:8]}..., not {expected[:8]}...")
            part.unlink(missing_ok=True)
            continue
        if remote.sha256 is None:
            write_note(path, found)  # first, so that no file is without it after a kill
        os.replace(part, path)
        return
    accept = "" if remote.sha256 or not expected else f", or remove {note(path)} to accept another one"
    raise DataError(
        f"{remote.file} could not be downloaded into {folder} ({'; '.join(failures)}): check the network and "
        f"the disk and try again, or {otherwise}{accept}."
    )


def note(path: Path) -> Path:
    """Where the digest of a file is written that is trusted on first use."""
    return path.with_name(f"{path.name}.sha256")


def write_note(path: Path, digest: str | None = None) -> None:
    """Trust this file from now on, or the one with this digest that is about to get this name."""
    part = path.with_name(f".{path.name}.sha256.part")
    part.write_text(f"{digest or digest_of(path)}  {path.name}\n", encoding="utf-8")
    os.replace(part, note(path))


def command(name: str, root: Path) -> str:
    """The command that fetches the set into this root, in the reader's shell."""
    option = "" if root == root_folder() else f" --data-root {root}"
    return f"pullpush data download {name}{option}"


def digest_of(path: Path) -> str:
    """sha256, in hex, of a file's bytes."""
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _download(url: str, target: Path) -> str:
    """Write what `url` holds to `target`; sha256 in hex. Raises one of FAILURES if not all arrives."""
    print(f"Getting {url}", file=sys.stderr, flush=True)
    request = urllib.request.Request(
        url, headers={"User-Agent": "pullpush"}
    )  # some homes refuse Python's own
    digest = sha256()
    with urllib.request.urlopen(request, timeout=SILENCE) as answer, target.open("wb") as stream:
        announced = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=announced or None, unit="B", unit_scale=True, disable=None, desc=target.name) as bar:
            while block := answer.read(BLOCK):
                stream.write(block)
                digest.update(block)
                bar.update(len(block))
        if announced and stream.tell() != announced:  # reading in blocks does not tell
            raise OSError(f"truncated, {stream.tell():,} of {announced:,} bytes arrived")
        if stream.tell() == 0:
            raise OSError("what arrived is empty")
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()


def _expected(remote: Remote, folder: Path) -> str | None:
    """The digest that the file must have: pinned, or found at the first download."""
    if remote.sha256:
        return remote.sha256
    beside = note(folder / remote.file)
    words = beside.read_text(encoding="utf-8").split() if beside.exists() else []
    return words[0] if words else None


def _host(url: str) -> str:
    return urlparse(url).netloc


def _words(error: Exception) -> str:
    """urllib's words on one line."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    if isinstance(error, urllib.error.HTTPError):
        text = f"HTTP {error.code} {text}"
    return " ".join(text.split()) or type(error).__name__
