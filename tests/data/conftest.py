"""Tiny stand-ins for MNIST and CIFAR-10, and a server on this machine that can misbehave."""

import codecs
import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from pullpush.data import torchvision_sets

LIBRARY = Path(torchvision_sets.__file__).parents[2]

# Applies the same changes in another process: what comes in is what `Tiny.changes` returns.
PATCH = """
import json, sys, torchvision.datasets
from dataclasses import replace
from pullpush import data
from pullpush.data import torchvision_sets
name, root, files, attributes = json.loads(sys.argv[1])
source = torchvision_sets.SOURCES[name]
torchvision_sets.SOURCES[name] = replace(source, files={k: tuple(v) for k, v in files.items()})
for key, value in attributes.items():
    setattr(getattr(torchvision.datasets, source.torchvision_class), key, value)
"""


@dataclass
class Server:
    """Serves `content` by path; `fault` is applied to every answer. Counts the answers in `served`."""

    url: str
    content: dict[str, bytes] = field(default_factory=dict)
    fault: str | None = None  # cut, altered, stall, silent, error
    served: list[str] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.served.append(self.path)
            body = state.content.get(self.path.lstrip("/"), b"")
            if state.fault == "silent":
                state.closing.wait(20)
                return
            if state.fault == "error" or not body:
                self.send_error(404)
                return
            if state.fault == "altered":
                body = body[:-20] + bytes([body[-20] ^ 1]) + body[-19:]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            half = len(body) // 2 if state.fault in ("cut", "stall") else len(body)
            try:
                self.wfile.write(body[:half])
            except OSError:  # torchvision first asks where the address leads and does not read that answer
                return
            if state.fault == "stall":
                self.wfile.flush()
                if state.served.count(self.path) == 2:
                    state.stalled.set()
                    state.closing.wait(20)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    state = Server(f"http://127.0.0.1:{httpd.server_address[1]}/")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    state.closing.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@dataclass
class Tiny:
    """A small data set in the format of `name`, put in its place for one test."""

    name: str
    files: dict[str, bytes]
    archives: dict[str, bytes]
    attributes: dict[str, object]  # of torchvision's class
    images: np.ndarray
    labels: np.ndarray

    def write(self, root: Path) -> Path:
        """Lay the files out under a root and return their folder."""
        folder = root / torchvision_sets.SOURCES[self.name].folder
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in self.files.items():
            (folder / file).write_bytes(content)
        return folder

    def fingerprints(self) -> dict[str, tuple[int, str]]:
        return {
            file: (len(content), hashlib.sha256(content).hexdigest()) for file, content in self.files.items()
        }

    def start(self, root: Path, code: str) -> subprocess.Popen[str]:
        """Run Python code, with `data` and `root` at hand, in another process that knows this set."""
        changes = json.dumps([self.name, str(root), self.fingerprints(), self.attributes])
        return subprocess.Popen(
            [sys.executable, "-c", PATCH + code, changes],
            env={**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _put_in_place(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    source = torchvision_sets.SOURCES[tiny.name]
    monkeypatch.setitem(torchvision_sets.SOURCES, tiny.name, replace(source, files=tiny.fingerprints()))
    for key, value in tiny.attributes.items():
        monkeypatch.setattr(getattr(torchvision.datasets, source.torchvision_class), key, value)
    return tiny


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def tiny_mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """7 training and 3 test images of 28 x 28, served as four archives."""
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (10, 28, 28)).astype(np.uint8)
    labels = np.arange(10, dtype=np.uint8)
    files = {}
    for prefix, part in (("train", slice(0, 7)), ("t10k", slice(7, 10))):
        x, y = images[part], labels[part]
        files[f"{prefix}-images-idx3-ubyte"] = struct.pack(">4i", 0x803, *x.shape) + x.tobytes()
        files[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">2i", 0x801, len(y)) + y.tobytes()
    archives = {f"{file}.gz": gzip.compress(content, mtime=0) for file, content in files.items()}
    server.content.update(archives)
    attributes = {
        "mirrors": [server.url],
        "resources": [(file, _md5(content)) for file, content in archives.items()],
    }
    return _put_in_place(Tiny("mnist", files, archives, attributes, images[:, None], labels), monkeypatch)


@pytest.fixture
def tiny_cifar(server: Server, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """Five batches and a test batch of 2 images each, served as one archive."""
    random = np.random.RandomState(1)
    images = random.randint(0, 256, (12, 3, 32, 32)).astype(np.uint8)
    labels = np.arange(12) % 10
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    files = {
        name: pickle.dumps(
            {"data": images[2 * i : 2 * i + 2].reshape(2, -1), "labels": labels[2 * i : 2 * i + 2]}
        )
        for i, name in enumerate(names)
    }
    files["batches.meta"] = pickle.dumps({"label_names": list(torchvision_sets.SOURCES["cifar10"].classes)})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive = "cifar-10-python.tar.gz"
    server.content[archive] = buffer.getvalue()
    lists = [[name, _md5(files[name])] for name in names]
    attributes = {
        "url": server.url + archive,
        "tgz_md5": _md5(buffer.getvalue()),
        "train_list": lists[:5],
        "test_list": lists[5:],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": _md5(files["batches.meta"])},
    }
    archives = {archive: buffer.getvalue()}
    return _put_in_place(Tiny("cifar10", files, archives, attributes, images, labels), monkeypatch)


@pytest.fixture
def closed_root() -> Iterator[tuple[Path, Callable[..., None]]]:
    """An empty folder, and a function that makes it and all folders in it read-only, but for those given.

    root may read and write anywhere; if it runs the tests, closing makes this process nobody until the end.
    """
    root = Path(tempfile.mkdtemp())  # not tmp_path, which other users cannot enter

    def folders() -> list[Path]:
        return [root, *(path for path in root.rglob("*") if path.is_dir())]

    def close(*spared: Path) -> None:
        for folder in folders():
            if folder not in spared:
                folder.chmod(0o555)
        if was_root:
            # torchvision and Pillow import these late, when nobody may be unable to.
            codecs.lookup("hex")
            Image.init()
            os.seteuid(65534)

    was_root = os.geteuid() == 0
    yield root, close
    if was_root:
        os.seteuid(0)
    for folder in folders():
        folder.chmod(0o755)
    shutil.rmtree(root)
