"""Real files and their digests; every way in which a file, the network or the disk can fail."""

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from pullpush import data
from pullpush.data import torchvision_sets

CLOSED = "http://127.0.0.1:1/"  # nobody listens on port 1


def one_sentence(error: pytest.ExceptionInfo[data.DataError]) -> str:
    message = str(error.value)
    assert "\n" not in message and message.endswith(".")
    return message


def no_leftovers(root: Path) -> None:
    assert not [path.name for path in root.iterdir() if path.name.endswith(".part")]


# --- the real sets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "mean"),
    [
        ("mnist", (1, 28, 28), [0.1307]),  # the means that everybody normalises with
        ("fashion_mnist", (1, 28, 28), [0.2860]),
        ("cifar10", (3, 32, 32), [0.4914, 0.4822, 0.4465]),
    ],
)
def test_real_set(
    real_data: Path, missing: Callable[..., None], name: str, shape: tuple[int, ...], mean: list[float]
) -> None:
    if not data.available(name, real_data):
        missing("data", name)
    train, test = (data.load(name, real_data, split) for split in ("train", "test"))
    assert train.images.dtype == torch.uint8 and train.labels.dtype == torch.int64
    assert train.images.is_contiguous() and train.images.shape[1:] == test.images.shape[1:] == shape
    assert len(train) in (50_000, 60_000) and len(test) == 10_000
    assert len(train.classes) == 10 and set(train.labels.tolist()) == set(range(10))
    pixels = train.images[:, 0].numel()
    assert (train.images.sum((0, 2, 3)) / pixels / 255).tolist() == pytest.approx(mean, abs=1e-4)
    both = data.load(name, real_data, "all")
    assert torch.equal(both.images, torch.cat([train.images, test.images]))
    assert torch.equal(both.labels, torch.cat([train.labels, test.labels]))


def test_real_sets_equal_torchvision(real_data: Path) -> None:
    for name, kind in (("mnist", torchvision.datasets.MNIST), ("cifar10", torchvision.datasets.CIFAR10)):
        ours, theirs = data.load(name, real_data, "test"), kind(real_data, train=False)
        for i in (0, 17, 9_999):
            image, label = theirs[i]
            pixels = np.array(image)
            pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
            assert (ours.images[i].numpy() == pixels).all() and ours.labels[i] == label
    assert tuple(theirs.classes) == ours.classes


def test_known_histogram_of_mnist(real_data: Path) -> None:
    labels = data.load("mnist", real_data).labels
    assert labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_known_digest_of_cifar10(real_data: Path) -> None:
    """The sha256 of the test images, channels last, as published beside a copy of the set."""
    pixels = data.load("cifar10", real_data, "test").images.permute(0, 2, 3, 1).contiguous().numpy()
    expected = "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04"
    assert hashlib.sha256(pixels.data).hexdigest() == expected


# --- tiny sets: reading -------------------------------------------------------------------------------------


def test_reads_what_was_written(tiny_mnist, tiny_cifar, tmp_path: Path) -> None:
    for tiny, cut in ((tiny_mnist, 7), (tiny_cifar, 10)):
        tiny.write(tmp_path)
        for split, part in (("train", slice(0, cut)), ("test", slice(cut, None)), ("all", slice(None))):
            got = data.load(tiny.name, tmp_path, split)
            assert (got.images.numpy() == tiny.images[part]).all()
            assert (got.labels.numpy() == tiny.labels[part]).all()
            assert got.name == tiny.name


def test_limit_takes_the_first(tiny_mnist, tmp_path: Path) -> None:
    tiny_mnist.write(tmp_path)
    got = data.load("mnist", tmp_path, limit=3)
    assert (got.images.numpy() == tiny_mnist.images[:3]).all()
    assert got.images.untyped_storage().nbytes() == 3 * 28 * 28  # the rest of the set is not kept alive
    with pytest.raises(ValueError, match=r"limit=8 .* 7 images"):
        data.load("mnist", tmp_path, limit=8)


def test_a_cache_of_old_torchvision_is_not_trusted(tiny_mnist, tmp_path: Path) -> None:
    processed = tiny_mnist.write(tmp_path).parent / "processed"
    processed.mkdir()
    for file in ("training.pt", "test.pt"):
        torch.save(
            (torch.zeros(7, 28, 28, dtype=torch.uint8), torch.zeros(7, dtype=torch.int64)), processed / file
        )
    assert (data.load("mnist", tmp_path).images.numpy() == tiny_mnist.images[:7]).all()


def test_whole_set_on_a_root(tiny_mnist, closed_root) -> None:
    root, close = closed_root
    tiny_mnist.write(root)
    close()
    assert len(data.load("mnist", root)) == 7
    assert data.download("mnist", root) == root / "MNIST/raw"
    assert data.available("mnist", root)


# --- tiny sets: files that are not right --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda content: content[:-100], "truncated"),
        (lambda content: b"", "truncated"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "altered"),
        (lambda content: content + b"x", "altered"),
    ],
)
@pytest.mark.parametrize("which", ["tiny_mnist", "tiny_cifar"])
def test_damaged_file_is_named_and_replaced_on_demand(
    which: str, damage, found: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tiny = request.getfixturevalue(which)
    folder = tiny.write(tmp_path)
    for file, content in tiny.files.items():
        (folder / file).write_bytes(damage(content))
        with pytest.raises(data.DataError) as error:
            data.load(tiny.name, tmp_path)
        message = one_sentence(error)
        assert str(folder / file) in message and found in message
        assert f"pullpush data download {tiny.name} --data-root {tmp_path}" in message
        assert not data.available(tiny.name, tmp_path)
        (folder / file).write_bytes(content)
    (folder / file).write_bytes(damage(content))
    assert data.download(tiny.name, tmp_path) == folder  # what the message advises
    assert len(data.load(tiny.name, tmp_path, "all")) == len(tiny.labels)
    no_leftovers(tmp_path)


def test_unreadable_file(tiny_mnist, closed_root) -> None:
    root, close = closed_root
    folder = tiny_mnist.write(root)
    (folder / "t10k-labels-idx1-ubyte").chmod(0)
    close()
    with pytest.raises(data.DataError, match=r"t10k-labels-idx1-ubyte is unreadable \(Permission denied\)"):
        data.load("mnist", root)


def test_the_remedy_is_short_in_the_default_root(tiny_mnist, tmp_path: Path, monkeypatch) -> None:
    folder = tiny_mnist.write(tmp_path)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"")
    monkeypatch.setenv("PULLPUSH_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match="run `pullpush data download mnist` to"):
        data.load("mnist")


def test_check_tells_missing_files_without_downloading(tiny_mnist, server, tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"train-images-idx3-ubyte is missing \(and 3 more"):
        data.check("mnist", tmp_path)
    assert not data.available("mnist", tmp_path)
    assert not server.served and not list(tmp_path.iterdir())


# --- tiny sets: downloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["tiny_mnist", "tiny_cifar"])
def test_downloads_when_absent_with_progress(
    which: str, tmp_path: Path, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny = request.getfixturevalue(which)
    root = tmp_path / "not" / "yet"
    got = data.load(tiny.name, root, "all")
    assert (got.images.numpy() == tiny.images).all()
    shown = capfd.readouterr().err
    assert f"Getting {tiny.name} into {root}" in shown and "100%" in shown
    no_leftovers(root)
    data.load(tiny.name, root)
    assert capfd.readouterr().err == ""  # nothing to do the second time


def test_only_missing_files_are_fetched_into_place(tiny_mnist, tmp_path: Path) -> None:
    folder = tiny_mnist.write(tmp_path)
    (folder / "t10k-images-idx3-ubyte").unlink()
    assert len(data.load("mnist", tmp_path, "test")) == 3


def test_archives_at_hand_are_used_without_a_network(tiny_mnist, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [CLOSED])
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for file, content in tiny_mnist.archives.items():
        (raw / file).write_bytes(content)
    assert len(data.load("mnist", tmp_path)) == 7


def test_the_next_mirror_is_tried(tiny_mnist, server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [CLOSED, server.url])
    assert len(data.load("mnist", tmp_path)) == 7


@pytest.mark.parametrize("which", ["tiny_mnist", "tiny_cifar"])
@pytest.mark.parametrize("fault", ["cut", "altered", "error", "silent", "no network"])
def test_a_failed_download_is_one_sentence_and_leaves_nothing(
    which: str, fault: str, server, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch
) -> None:
    tiny = request.getfixturevalue(which)
    monkeypatch.setattr(torchvision_sets, "SILENCE", 0.3)
    if fault == "no network":
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [CLOSED])
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", CLOSED + "cifar-10-python.tar.gz")
    else:
        server.fault = fault
    with pytest.raises(data.DataError) as error:
        data.load(tiny.name, tmp_path)
    message = one_sentence(error)
    reason = {
        "cut": "truncated or altered",
        "altered": "truncated or altered",
        "error": "404",
        "silent": "timed out",
        "no network": "refused",
    }[fault]
    assert reason in message
    assert f"pullpush data download {tiny.name}" in message
    assert all(archive in message for archive in tiny.archives)
    assert not data.available(tiny.name, tmp_path)
    no_leftovers(tmp_path)
    assert not (tmp_path / torchvision_sets.SOURCES[tiny.name].folder).exists()

    server.fault = None  # the network comes back
    for key, value in tiny.attributes.items():
        monkeypatch.setattr(
            getattr(torchvision.datasets, torchvision_sets.SOURCES[tiny.name].torchvision_class), key, value
        )
    assert len(data.load(tiny.name, tmp_path, "all")) == len(tiny.labels)


def test_archives_with_right_md5_and_wrong_content(tiny_mnist, tmp_path: Path, monkeypatch) -> None:
    """torchvision's md5 is not the last word: what is unpacked must have our sha256."""
    source = torchvision_sets.SOURCES["mnist"]
    file = "train-labels-idx1-ubyte"
    monkeypatch.setitem(source.files, file, (source.files[file][0], "0" * 64))
    with pytest.raises(data.DataError, match=f"{file} is altered"):
        data.load("mnist", tmp_path)
    assert not (tmp_path / "MNIST/raw" / file).exists()


def test_root_without_the_set(tiny_mnist, closed_root, server) -> None:
    root, close = closed_root
    close()
    for folder in (root, root / "deeper"):
        with pytest.raises(data.DataError) as error:
            data.load("mnist", folder)
        message = one_sentence(error)
        assert "Permission denied" in message and str(folder) in message
        files = ", ".join(torchvision_sets.SOURCES["mnist"].files)
        assert message.endswith(f"$PULLPUSH_DATA, or have {files} put into {folder}/MNIST/raw.")
    assert not server.served


def test_read_only_set_folder_in_a_writable_root(tiny_mnist, closed_root) -> None:
    root, close = closed_root
    (root / "MNIST/raw").mkdir(parents=True)
    root.chmod(0o777)
    close(root)
    with pytest.raises(data.DataError, match=r"could not be downloaded .*Permission denied"):
        data.load("mnist", root)
    no_leftovers(root)


def test_root_that_is_a_file(tiny_mnist, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(data.DataError, match=r"cannot be downloaded there \(File exists\)"):
        data.load("mnist", tmp_path / "data")


def test_full_disk(tiny_mnist, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torchvision_sets.os, "replace", full)
    with pytest.raises(data.DataError, match=r"No space left on device.* check the network and the disk"):
        data.load("mnist", tmp_path)
    no_leftovers(tmp_path)


# --- two processes ------------------------------------------------------------------------------------------

LOAD = "print(data.load(name, root, 'all').digest)"


@pytest.mark.parametrize("which", ["tiny_mnist", "tiny_cifar"])
def test_two_processes_download_once(
    which: str, server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tiny = request.getfixturevalue(which)
    # Both wait for a file before they load, so that slow imports cannot put one after the other.
    gate = "import pathlib, time\nwhile not (pathlib.Path(root) / 'go').exists(): time.sleep(0.005)\n"
    ready = "print('ready', flush=True)\n"
    both = [tiny.start(tmp_path, ready + gate + LOAD) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0] == data.load(tiny.name, tmp_path, "all").digest + "\n"
    assert len(server.served) == 2 * len(tiny.archives)  # torchvision asks twice for each archive
    no_leftovers(tmp_path)


def test_killed_in_the_middle_then_repeated(tiny_mnist, server, tmp_path: Path) -> None:
    server.fault = "stall"
    process = tiny_mnist.start(tmp_path, LOAD)
    assert server.stalled.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not data.available("mnist", tmp_path)
    assert (tmp_path / ".mnist.part").exists()  # the kill left no time to tidy up
    server.fault = None
    assert len(data.load("mnist", tmp_path)) == 7
    no_leftovers(tmp_path)


def test_half_written_leftovers_are_not_taken_for_a_download(tiny_mnist, tmp_path: Path) -> None:
    """torchvision alone would see four extracted files and fetch nothing."""
    left = tmp_path / ".mnist.part" / "MNIST/raw"
    left.mkdir(parents=True)
    for file, content in tiny_mnist.files.items():
        (left / file).write_bytes(content[:-1])
    assert len(data.load("mnist", tmp_path)) == 7
    no_leftovers(tmp_path)


def test_two_processes_read_the_real_set(real_data: Path) -> None:
    code = "import sys; from pullpush import data; print(data.load('mnist', sys.argv[1], 'test').digest)"
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(real_data)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    digests = {process.communicate(timeout=120)[0].strip() for process in both}
    assert digests == {data.load("mnist", real_data, "test").digest}


def test_interrupted_copy_of_the_real_set_is_noticed(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "MNIST/raw", tmp_path / "MNIST/raw", ignore=shutil.ignore_patterns("*.gz"))
    with (tmp_path / "MNIST/raw/train-images-idx3-ubyte").open("r+b") as stream:
        stream.truncate(40_000_000)
    with pytest.raises(data.DataError, match=r"truncated \(40,000,000 of 47,040,016 bytes\)"):
        data.load("mnist", tmp_path)
