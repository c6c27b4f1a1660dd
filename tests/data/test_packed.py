"""A packed folder holds what decoding every image gives, survives a kill, and notices what was changed."""

import os
import re
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pullpush import data
from pullpush.data import packed


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """20 noisy photographs of three classes, of unlike sizes."""
    folder, stream = tmp_path / "fields", np.random.default_rng(0)
    for name, count in (("corn", 9), ("oats", 6), ("wheat", 5)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            height, width = stream.integers(20, 40, 2)
            image = Image.fromarray(stream.integers(0, 256, (height, width, 3), dtype=np.uint8))
            image.save(folder / name / f"{i}.png")
    return folder


def pack(folder: Path, size: tuple[int, int] = (12, 19)) -> packed.PackedSet:
    return packed.pack(folder, folder.parent / "out" / "set", size, workers=2)


def naive(folder: Path, files: tuple[str, ...], size: tuple[int, int] = (12, 19)) -> np.ndarray:
    images = [ImageOps.fit(Image.open(folder / file), size[::-1], Image.Resampling.BICUBIC) for file in files]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])


def test_it_holds_every_image_in_the_order_and_split_of_a_folder(fields: Path) -> None:
    whole = pack(fields)
    assert whole.images.shape == (20, 3, 12, 19)
    np.testing.assert_array_equal(whole.images, naive(fields, whole.files))
    square = packed.pack(fields, fields.parent / "square", (16, 16))
    everything = data.load(fields, split="all", size=16)
    assert torch.equal(torch.from_numpy(np.array(square.images)), everything.images)
    assert torch.equal(square.labels, everything.labels)
    assert square.digest == everything.digest
    assert whole.classes == everything.classes == ("corn", "oats", "wheat")
    assert whole.train == len(data.load(fields, split="train", size=16))
    assert [file.split("/")[0] for file in whole.files] == [whole.classes[label] for label in whole.labels]


def test_a_part_stands_in_for_a_tensor_of_its_images(fields: Path) -> None:
    whole = pack(fields)
    assert whole.train < len(whole)
    for split, rows in (("train", slice(None, whole.train)), ("test", slice(whole.train, None))):
        part, held = whole.part(split), torch.from_numpy(np.array(whole.images[rows]))
        assert part.classes == whole.classes and part.digest == whole.digest and part.name == "set"
        assert torch.equal(part.labels, whole.labels[rows])
        chosen = torch.tensor([2, 0, 1])
        lazy = packed.on(part.images, chosen, torch.device("cpu"))
        assert isinstance(lazy, packed.Rows) and lazy.shape == held[chosen].shape and len(lazy) == 3
        for index in (torch.tensor([1, 1, 0]), [2]):
            assert torch.equal(lazy[index], held[chosen][index])
        assert torch.equal(lazy.index_select(0, torch.tensor([2])), held[chosen][[2]])
        assert torch.equal(packed.on(held, chosen, torch.device("cpu")), held[chosen])
    with pytest.raises(ValueError, match="Unknown split 'all'. Allowed: train, test"):
        whole.part("all")
    with pytest.raises(ValueError, match="gathered along 0 alone"):
        lazy.index_select(1, chosen)
    data.check(f"{fields.parent / 'out' / 'set'}.npy")
    with pytest.raises(data.DataError, match="nothing was packed there"):
        data.check(f"{fields.parent / 'out' / 'other'}.npy")


def test_gather_takes_any_order_and_repeats(fields: Path) -> None:
    whole = pack(fields)
    for indices in ([7, 0, 19, 7, 3], [], [5]):
        batch = whole.gather(torch.tensor(indices, dtype=torch.int64))
        assert batch.dtype == torch.uint8
        np.testing.assert_array_equal(batch.numpy(), whole.images[indices])
    batch = whole.gather(torch.tensor([1]))
    batch.zero_()  # a copy
    assert whole.gather(torch.tensor([1])).any()
    for indices in ([20], [-1, 3]):
        with pytest.raises(IndexError, match="must lie from 0 to 19"):
            whole.gather(torch.tensor(indices))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells pages of files apart")
def test_what_was_gathered_does_not_stay_in_memory(tmp_path: Path) -> None:
    shape, file = (400, 3, 120, 190), tmp_path / "set.npy"  # 27 MB
    written = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    written[:] = np.arange(400, dtype=np.uint8)[:, None, None, None]  # modulo 256
    written.flush()
    images, labels = np.lib.format.open_memmap(file, "r"), torch.zeros(400, dtype=torch.int64)
    whole = packed.PackedSet(file, images, labels, ("a",), 400, (), "")

    def held() -> int:
        return int(re.findall(r"RssFile:\s*(\d+) kB", Path("/proc/self/status").read_text())[0])

    whole.gather(torch.arange(10))
    before = held()
    for rows in torch.randperm(400, generator=torch.Generator().manual_seed(0)).split(50):
        assert torch.equal(whole.gather(rows)[:, 2, 7, 9], rows.byte())
    assert held() - before < 2000
    assert images.sum() > 0  # what touches every page
    assert held() - before > 20_000


def test_packing_again_opens_what_is_there(fields: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack(fields)
    monkeypatch.setattr(packed, "_decode", None)
    again = pack(fields)
    opened = packed.open_packed(fields.parent / "out" / "set")
    assert again.digest == opened.digest == first.digest
    assert {p.name for p in (fields.parent / "out").iterdir()} == {"set.json", "set.npy", "set.lock"}


def test_it_goes_on_after_any_interruption(fields: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "BLOCK", 4)
    decode, seen = packed._decode, []

    def stumbling(file: Path, size: tuple[int, int]) -> np.ndarray:
        seen.append(file)
        if len(seen) == 11:
            raise KeyboardInterrupt
        return decode(file, size)

    monkeypatch.setattr(packed, "_decode", stumbling)
    with pytest.raises(KeyboardInterrupt):
        pack(fields)
    with pytest.raises(data.DataError, match="nothing was packed there, or not to the end"):
        packed.open_packed(fields.parent / "out" / "set")
    (part,) = (fields.parent / "out").glob("*.part")
    with part.open("ab") as stream:
        stream.write(b"half an image")
    seen.clear()
    seen += [None] * 11
    whole = pack(fields)
    assert len(seen) == 11 + 12  # two blocks of four were there
    np.testing.assert_array_equal(whole.images, naive(fields, whole.files))
    whole.check()


def test_it_goes_on_after_a_kill(fields: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = packed._decode
    monkeypatch.setattr(packed, "BLOCK", 2)
    monkeypatch.setattr(packed, "_decode", lambda file, size: (time.sleep(0.1), decode(file, size))[1])
    child = os.fork()
    if child == 0:
        pack(fields)
        os._exit(0)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        parts = list((fields.parent / "out").glob("*.part"))
        if parts and parts[0].stat().st_size > 4 * 3 * 12 * 19:
            break
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert parts[0].stat().st_size < 20 * 3 * 12 * 19
    whole = pack(fields)
    np.testing.assert_array_equal(whole.images, naive(fields, whole.files))
    whole.check()


def test_other_files_or_sizes_need_another_target(fields: Path) -> None:
    pack(fields)
    with pytest.raises(data.DataError, match="at another size than .* at 10x10: give another target"):
        pack(fields, (10, 10))
    Image.new("RGB", (30, 30)).save(fields / "corn" / "new.png")
    with pytest.raises(data.DataError, match="was packed from other files"):
        pack(fields)
    (fields.parent / "out" / "set.json").unlink()
    assert len(pack(fields)) == 21


def test_a_part_of_another_list_is_not_continued(fields: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed.os, "replace", None)
    with pytest.raises(TypeError):
        pack(fields)
    monkeypatch.undo()
    whole = pack(fields, (10, 10))
    np.testing.assert_array_equal(whole.images, naive(fields, whole.files, (10, 10)))


def test_what_was_changed_is_noticed(fields: Path) -> None:
    whole = pack(fields)
    file = fields.parent / "out" / "set.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(data.DataError, match=r"set\.npy was altered"):
        whole.check()
    file.write_bytes(content[:-5])
    with pytest.raises(data.DataError, match="has become shorter"):
        whole.gather(torch.tensor([19]))
    with pytest.raises(data.DataError, match="cannot be opened"):
        packed.open_packed(fields.parent / "out" / "set")
    np.save(file, np.zeros((3, 4)))
    with pytest.raises(data.DataError, match=r"holds \(3, 4\), not \(20, 3, 12, 19\)"):
        packed.open_packed(fields.parent / "out" / "set")
    file.unlink()
    with pytest.raises(data.DataError, match="cannot be opened"):
        packed.open_packed(fields.parent / "out" / "set")


def test_photographs_stand_upright_and_become_rgb(tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    for i in range(4):
        Image.new("L", (6, 4), 9).save(tmp_path / "in" / "a" / f"{i}.jpg", exif=exif)
    half = np.zeros((4, 6), np.uint8)
    half[2:] = 255  # the lower half, which a quarter turn puts to the left
    Image.fromarray(half).save(tmp_path / "in" / "a" / "4.png", exif=exif)
    turned = packed.pack(tmp_path / "in", tmp_path / "set", (6, 4))
    white = turned.images[turned.files.index("a/4.png")]
    assert white[:, :, :2].min() == 255 and white[:, :, 2:].max() == 0


def test_a_full_disk_is_noticed_before_it_starts(fields: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(data.DataError, match="has 0 bytes free, 13,680 are needed: give another target"):
        pack(fields)


def test_a_bad_image_or_folder_is_named(fields: Path) -> None:
    (fields / "oats" / "3.png").write_text("not an image")
    with pytest.raises(data.DataError, match=r"oats/3\.png cannot be read as an image"):
        pack(fields)
    with pytest.raises(data.DataError, match="There is no folder .*nowhere"):
        packed.pack(fields / "nowhere", fields.parent / "set")
    with pytest.raises(data.DataError, match="has no class sub-folders"):
        packed.pack(fields / "corn", fields.parent / "set")
    with pytest.raises(ValueError, match=r"size=\(0, 190\) must be \(height, width\)"):
        packed.pack(fields, fields.parent / "set", (0, 190))


def test_the_names_of_data_sets_are_as_before() -> None:
    assert not hasattr(packed, "NAMES")
    assert "packed" not in data.names()
