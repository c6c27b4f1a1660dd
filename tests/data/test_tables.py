"""Tables: what each source gives, and every way in which a file or a home can be wrong."""

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from pullpush import data
from pullpush.cli import app
from pullpush.data import arrays, fetch, handwritten, har, reuters, reuters10k
from pullpush.data.fetch import Remote
from pullpush.data.imageset import held_out

LIBRARY = Path(fetch.__file__).parents[2]
REAL = {
    "usps": ((9298, 256), (7291, 2007), (0.0, 1.0)),
    "pendigits": ((10992, 16), (7494, 3498), (0.0, 100.0)),
    "reuters": ((8129, 2000), (5905, 2224), (0.0, 1.0)),
}


def one_sentence(error: pytest.ExceptionInfo[data.DataError]) -> str:
    message = str(error.value)
    assert "\n" not in message and message.endswith(".")
    return message


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.name.endswith(".part")]


# --- what holds for every table -----------------------------------------------------------------------------


def test_names() -> None:
    only_tables = ("usps", "pendigits", "har", "reuters", "reuters10k")
    assert data.table_names() == (*data.names(), *only_tables)


def test_images_are_rows_of_pixels() -> None:
    for split in data.SPLITS:
        images, table = data.load("digits", split=split), data.load_table("digits", split=split)
        assert table.x.dtype == torch.float32 and table.x.shape == (len(images), 64)
        assert torch.equal((table.x * 255).round().to(torch.uint8).view_as(images.images), images.images)
        assert torch.equal(table.labels, images.labels) and table.classes == images.classes
    assert table.x.min() == 0 and table.x.max() == 1 and table.rows is None
    assert torch.equal(data.load_table("digits").x, table.x)  # all of them unless asked otherwise
    assert table.dense() is table.x


def test_mnist_is_rows_of_pixels(real_data: Path) -> None:
    table = data.load_table("mnist", real_data, "test", limit=2000)
    images = data.load("mnist", real_data, "test", limit=2000).images
    assert torch.equal(table.x, images.flatten(1) / 255) and table.x.shape == (2000, 784)


def test_digest_is_of_what_is_returned() -> None:
    table = data.load_table("digits", limit=100)
    expected = hashlib.sha256(table.x.numpy().tobytes() + table.labels.numpy().tobytes()).hexdigest()
    assert table.digest == expected != data.load_table("digits").digest


def test_limit_takes_the_first() -> None:
    whole, few = data.load_table("digits"), data.load_table("digits", limit=7)
    assert len(few) == 7 and torch.equal(few.x, whole.x[:7]) and torch.equal(few.labels, whole.labels[:7])
    assert few.x.untyped_storage().nbytes() == 7 * 64 * 4  # the rest of the set is not kept alive


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": 0}, "limit=0 must be at least 1"),
        ({"limit": 1798}, r"limit=1798 is not possible for digits \(all\), which has 1,797 rows"),
        ({"split": "tets"}, "Unknown split 'tets'. Did you mean 'test'"),
        ({"name": "pendigit"}, "Unknown data 'pendigit'. Did you mean 'pendigits'"),
        ({"label": "age"}, "label='age' is for a .csv file of your own"),
    ],
)
def test_wrong_arguments(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.load_table(**{"name": "digits", **given})


@pytest.mark.parametrize("name", REAL)
def test_real_sets(real_data: Path, missing: Callable[..., None], name: str) -> None:
    try:
        data.check_table(name, real_data)
    except data.DataError:
        missing("data", name)
    shape, sizes, (low, high) = REAL[name]
    both, train, test = (data.load_table(name, real_data, split) for split in ("all", "train", "test"))
    assert (
        both.x.shape == shape and (len(train), len(test)) == sizes and both.x.dtype in (torch.float32, "f4")
    )
    assert both.x.min() == low and both.x.max() <= high
    assert set(both.labels.tolist()) == set(range(10)) and len(both.classes) == 10
    assert torch.equal(both.dense(), torch.cat([train.dense(), test.dense()]))
    assert torch.equal(both.labels, torch.cat([train.labels, test.labels]))
    assert len({both.digest, train.digest, test.digest}) == 3


def test_real_reuters_is_sparse_and_as_scikit_learn_weighs_it(
    real_data: Path, missing: Callable[..., None]
) -> None:
    if not (real_data / reuters.FILE).exists():
        missing("data", "reuters")
    z = np.load(real_data / reuters.FILE)
    shape = tuple(z["shape"])
    counts = scipy.sparse.csr_matrix((z["data"], z["indices"].astype("int32"), z["indptr"]), shape=shape)
    expected = TfidfTransformer(sublinear_tf=True).fit_transform(counts.astype("float64"))
    got = data.load_table("reuters", real_data)
    assert scipy.sparse.issparse(got.x) and got.x.format == "csr"
    order = np.argsort(z["lewissplit"] == "TEST", kind="stable")
    assert abs(expected[order] - got.x).max() < 1e-7
    assert got.labels.bincount().tolist() == [3897, 2322, 401, 357, 302, 282, 157, 153, 142, 116]


# --- standardising ------------------------------------------------------------------------------------------


def test_standardise_equals_scikit_learn() -> None:
    x = torch.from_numpy(np.random.RandomState(0).lognormal(size=(50, 6)) * 10.0 ** np.arange(-3, 3))
    new = x[:5] + 1
    scaler = StandardScaler().fit(x.numpy())
    for given, like in ((x, None), (new, x)):
        got = data.standardise(given, like)
        torch.testing.assert_close(got, torch.from_numpy(scaler.transform(given.numpy())))
    assert data.standardise(x.float()).dtype == torch.float32


def test_standardise_naive_loop_and_constant_columns() -> None:
    x = torch.tensor([[1.0, 0.1, 5.0], [3.0, 0.1, 5.0], [8.0, 0.1, 11.0]])
    got = data.standardise(x)
    for j in (0, 2):
        column = x[:, j].tolist()
        mean = sum(column) / 3
        deviation = (sum((value - mean) ** 2 for value in column) / 3) ** 0.5
        assert got[:, j].tolist() == pytest.approx([(value - mean) / deviation for value in column], rel=1e-6)
    assert got[:, 1].abs().max() < 1e-7  # not 0 / 0, and not noise blown up to 1
    new = data.standardise(torch.tensor([[0.0, 0.6, 0.0]]), like=x)
    assert new[0, 1].item() == pytest.approx(0.5, rel=1e-6)


def test_standardise_refuses() -> None:
    with pytest.raises(TypeError, match="csr_matrix"):
        data.standardise(scipy.sparse.csr_matrix(np.eye(3)))
    for x, like in ((torch.ones(3), None), (torch.ones(3, 2), torch.ones(3, 4)), (torch.ones(0, 2), None)):
        with pytest.raises(ValueError, match=r"must be \(n, d\)"):
            data.standardise(x, like)


# --- word weights -------------------------------------------------------------------------------------------


def test_tf_idf_naive_loop_and_scikit_learn() -> None:
    random = np.random.RandomState(1)
    counts = random.poisson(0.7, (12, 5))
    counts[3] = 0
    counts[0] = 1  # so that every word occurs
    frequency = (counts > 0).sum(0)
    got = reuters.tf_idf(scipy.sparse.csr_matrix(counts), 12, frequency).toarray()
    naive = np.zeros(counts.shape)
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if count:
                naive[i, j] = (1 + np.log(count)) * (1 + np.log((1 + 12) / (1 + frequency[j])))
        if row.any():
            naive[i] /= np.sqrt((naive[i] ** 2).sum())
    np.testing.assert_allclose(got, naive, atol=1e-7)
    theirs = TfidfTransformer(sublinear_tf=True).fit_transform(scipy.sparse.csr_matrix(counts)).toarray()
    np.testing.assert_allclose(got, theirs, atol=1e-7)
    assert got.dtype == np.float32 and (got[3] == 0).all()


@pytest.fixture
def tiny_reuters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    counts = scipy.sparse.csr_matrix(np.random.RandomState(2).poisson(1.0, (6, 4)).astype(np.uint8))
    stored = {
        "data": counts.data,
        "indices": counts.indices.astype(np.int16),
        "indptr": counts.indptr,
        "shape": np.array([6, 4]),
        "y": np.array([0, 1, 0, 1, 0, 1], dtype=np.uint8),
        "classes": np.array(["earn", "acq"]),
        "lewissplit": np.array(["TRAIN", "TEST", "NOT-USED", "TEST", "TRAIN", "TRAIN"]),
    }
    monkeypatch.setattr(reuters, "DIGEST", arrays.digest_of(stored))
    np.savez(tmp_path / "reuters21578.npz", **stored, vocab=np.array(list("abcd")))
    return stored


def test_reuters_splits(tiny_reuters: dict[str, np.ndarray], tmp_path: Path) -> None:
    both, train, test = (data.load_table("reuters", tmp_path, split) for split in ("all", "train", "test"))
    assert train.labels.tolist() == [0, 0, 0, 1] and test.labels.tolist() == [
        1,
        1,
    ]  # unused ones are trained on
    assert both.classes == ("earn", "acq")
    assert torch.equal(both.dense(), torch.cat([train.dense(), test.dense()]))
    few = data.load_table("reuters", tmp_path, limit=3)
    assert torch.equal(few.dense(), both.dense()[:3]) and few.digest != both.digest
    csr = both.x
    parts = (csr.data, csr.indices.astype("int32"), csr.indptr.astype("int32"), both.labels.numpy())
    assert both.digest == hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_reuters_altered_or_missing(tiny_reuters: dict[str, np.ndarray], tmp_path: Path) -> None:
    file = tmp_path / "reuters21578.npz"
    tiny_reuters["y"][0] = 1
    np.savez(file, **tiny_reuters)
    with pytest.raises(data.DataError, match=r"altered \(sha256 .* lay them out as") as error:
        data.load_table("reuters", tmp_path)
    assert str(file) in one_sentence(error)
    del tiny_reuters["y"]
    np.savez(file, **tiny_reuters)
    with pytest.raises(data.DataError, match="has no array 'y'"):
        data.check_table("reuters", tmp_path)
    file.unlink()
    with pytest.raises(data.DataError, match=r"is missing; .*no public download.*kdd\.ics\.uci\.edu"):
        data.download_table("reuters", tmp_path)


# --- usps and pendigits from their public text files --------------------------------------------------------


def text_files(name: str, x: np.ndarray, y: np.ndarray, cut: int) -> tuple[bytes, bytes]:
    """The train and test part as they are published."""
    files = []
    for part in (slice(0, cut), slice(cut, None)):
        if name == "usps":
            rows = [
                f"{c:.4f} " + " ".join(f"{v:.4f}" for v in row)
                for row, c in zip(x[part], y[part], strict=True)
            ]
            files.append(gzip.compress(" \n".join(rows).encode(), mtime=0))
        else:
            rows = [
                ",".join(f"{int(v):3d}" for v in (*row, c)) for row, c in zip(x[part], y[part], strict=True)
            ]
            files.append("\n".join(rows).encode() + b"\n")
    return files[0], files[1]


@pytest.fixture(params=["usps", "pendigits"])
def tiny_digits(request: pytest.FixtureRequest, server, monkeypatch: pytest.MonkeyPatch):
    """A tiny set of that name, served as published; returns name, x in natural units, and labels."""
    name, random = request.param, np.random.RandomState(3)
    source = handwritten.SOURCES[name]
    stored = random.randint(0, source.top + 1, (9, 4))
    y = random.randint(0, 10, 9)
    published = stored / 1000 - 1 if name == "usps" else stored
    server.content.update(
        zip(
            ("a.gz" if name == "usps" else "a", "b.gz" if name == "usps" else "b"),
            text_files(name, published, y, 6),
            strict=True,
        )
    )
    known = {
        "x_train": stored[:6].astype(source.dtype),
        "y_train": y[:6].astype(np.uint8),
        "x_test": stored[6:].astype(source.dtype),
        "y_test": y[6:].astype(np.uint8),
    }
    ending = ".gz" if name == "usps" else ""
    changed = replace(
        source, digest=arrays.digest_of(known), homes=(f"{server.url}a{ending}", f"{server.url}b{ending}")
    )
    monkeypatch.setitem(handwritten.SOURCES, name, changed)
    return name, stored * source.high / source.top, y


def test_made_from_the_public_text(tiny_digits, server, tmp_path: Path) -> None:
    name, x, y = tiny_digits
    both = data.load_table(name, tmp_path)
    np.testing.assert_allclose(both.x.numpy(), x, rtol=1e-6)
    assert both.labels.tolist() == y.tolist() and both.classes == tuple("0123456789")
    assert torch.equal(data.load_table(name, tmp_path, "train").x, both.x[:6])
    assert torch.equal(data.load_table(name, tmp_path, "test").x, both.x[6:])
    assert len(server.served) == 2 and not leftovers(tmp_path)  # the others read the file
    data.check_table(name, tmp_path)
    assert data.download_table(name, tmp_path) == tmp_path and len(server.served) == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("cut", "truncated, "),
        ("error", "HTTP 404"),
        ("silent", "timed out"),
        ("altered", "not what (it was|they were)"),
    ],
)
def test_home_that_fails(tiny_digits, server, tmp_path: Path, monkeypatch, fault: str, message: str) -> None:
    name, x, _ = tiny_digits
    monkeypatch.setattr(fetch, "SILENCE", 0.3)
    server.fault = fault
    with pytest.raises(data.DataError, match=message) as error:
        data.load_table(name, tmp_path)
    assert f"{name}.npz" in one_sentence(error)
    assert not leftovers(tmp_path) and not (tmp_path / f"{name}.npz").exists()
    server.fault = None  # the network comes back
    assert len(data.load_table(name, tmp_path)) == len(x)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda content: content[:-100], "cut short"),
        (lambda content: b"", "cut short"),
        (
            lambda content: content[:80] + bytes([content[80] ^ 1]) + content[81:],
            "damaged|altered|cannot be read",
        ),
    ],
)
def test_damaged_file_is_named_and_replaced_on_demand(
    tiny_digits, tmp_path: Path, damage: Callable, found: str
) -> None:
    name, x, _ = tiny_digits
    file = data.download_table(name, tmp_path) / f"{name}.npz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(data.DataError, match=found) as error:
        data.load_table(name, tmp_path)
    message = one_sentence(error)
    assert str(file) in message and f"pullpush data download {name} --data-root {tmp_path}" in message
    data.download_table(name, tmp_path)  # what the message advises
    assert len(data.load_table(name, tmp_path)) == len(x)


# --- a user's own .npz --------------------------------------------------------------------------------------

X = np.arange(24, dtype=np.float64).reshape(12, 2)
Y = np.array([0] * 5 + [1] * 7)


def saved(folder: Path, **named: np.ndarray) -> Path:
    np.savez(folder / "own.npz", **named)
    return folder / "own.npz"


def test_own_npz(tmp_path: Path) -> None:
    table = data.load_table(saved(tmp_path, X=X, labels=Y + 3))
    assert table.name == "own" and table.classes == ("3", "4")
    assert table.x.dtype == torch.float32 and table.labels.dtype == torch.int64
    assert sorted(table.rows.tolist()) == list(range(12))
    assert (table.x.numpy() == X[table.rows]).all() and (table.labels.numpy() == Y[table.rows]).all()
    train, test = (data.load_table(tmp_path / "own.npz", split=split) for split in ("train", "test"))
    assert table.rows.tolist() == train.rows.tolist() + test.rows.tolist()
    assert len(test) == 3 and set(test.labels.tolist()) == {0, 1}  # a stratified fifth, rounded up
    assert data.load_table("own.npz", root=tmp_path).digest == table.digest  # found under the data root
    data.check_table("own.npz", root=tmp_path)


def test_own_classes_take_turns(tmp_path: Path) -> None:
    path = saved(tmp_path, x=X, y=Y)
    assert data.load_table(path, split="train", limit=6).labels.tolist() == [0, 1, 0, 1, 0, 1]
    rows = data.load_table(path, split="train").rows
    for c in (0, 1):  # in the order of the file within a class
        mine = rows[torch.from_numpy(Y)[rows] == c].tolist()
        assert mine == sorted(mine)
    few = data.load_table(path, limit=4)
    assert len(few.rows) == 4 and torch.equal(few.x, data.load_table(path).x[:4])


def test_own_split_text_labels_and_images(tmp_path: Path) -> None:
    pixels = np.arange(12 * 4, dtype=np.uint8).reshape(12, 2, 2)
    names = np.array(["rye", "oat"])[Y]
    path = saved(
        tmp_path, train_images=pixels[2:], train_labels=names[2:], x_test=pixels[:2], y_test=names[:2, None]
    )
    train, test = (data.load_table(path, split=split) for split in ("train", "test"))
    assert train.classes == test.classes == ("oat", "rye")
    assert train.x.shape == (10, 4) and test.x.tolist() == pixels[:2].reshape(2, 4).tolist()
    assert test.labels.tolist() == [1, 1] and test.rows.tolist() == [10, 11]


def test_own_sparse_and_class_names(tmp_path: Path) -> None:
    csr = scipy.sparse.csr_matrix(np.where(X % 3, 0, X))
    path = saved(tmp_path, data=csr.data, indices=csr.indices, indptr=csr.indptr, shape=csr.shape, y=Y,
                 classes=np.array(["no", "yes", "never"]))  # fmt: skip
    table = data.load_table(path)
    assert table.x.format == "csr" and table.x.dtype == np.float32 and table.classes == ("no", "yes", "never")
    assert (table.dense().numpy() == csr.toarray()[table.rows]).all()
    bad = csr.copy()
    bad.data[2] = np.nan
    saved(tmp_path, data=bad.data, indices=bad.indices, indptr=bad.indptr, shape=bad.shape, y=Y)
    row = int(np.repeat(np.arange(12), np.diff(csr.indptr))[2])
    with pytest.raises(data.DataError, match=rf"1 rows with a NaN, .* the first is row {row}:"):
        data.load_table(path)
    saved(tmp_path, data=csr.data, indices=csr.indices + 1, indptr=csr.indptr, shape=csr.shape, y=Y)
    with pytest.raises(data.DataError, match="is no CSR matrix"):
        data.load_table(path)


HOLED = X.copy()
HOLED[[3, 8], 0] = np.nan


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"x": X}, r"has no array y \(found: x\): call the labels"),
        ({"y": Y}, r"has no array x \(found: y\): call the features"),
        ({}, r"has no array x \(found: none\)"),
        ({"x": X, "y": Y[:-1]}, "has 12 rows and 11 labels"),
        ({"x": HOLED, "y": Y}, "2 rows with a NaN, infinite or too large value, the first is row 3:"),
        ({"x": X * 1e300, "y": Y}, "12 rows with a NaN, infinite or too large value, the first is row 0"),
        ({"x": X.astype(str), "y": Y}, "holds <U32, not numbers"),
        ({"x": X * 1j, "y": Y}, "holds complex128, not numbers"),
        ({"x": X[:, 0], "y": Y}, r"x of .* has shape \(12,\): give it rows and columns"),
        ({"x": X[:0], "y": Y[:0]}, r"has shape \(0, 2\)"),
        ({"x": X, "y": np.eye(12)}, r"y of .* has shape \(12, 12\): give one label a row"),
        ({"x": X, "y": Y * 0}, "All 12 rows of .* have the label 0: give at least two classes"),
        ({"x": X, "y": np.arange(12)}, "Each of the 12 rows of .* has a label of its own"),
        ({"x": X, "y": Y + 0.5}, r"not classes \(0.5 is no whole number\)"),
        ({"x": X, "y": np.where(Y, np.nan, 1.0)}, "7 rows without a label, the first is row 5"),
        ({"x": X, "y": Y, "Y": Y}, "two arrays called y but for case"),
        ({"x": X, "data": X, "y": Y}, "has x and data, which mean the same"),
        ({"x": X, "y": Y.astype(object)}, "Array 'y' of .* cannot be read .*not as objects"),
        ({"x": X, "y": Y, "classes": np.array(["one"])}, "names 1 classes but has labels 0 to 1"),
        ({"x_train": X, "y_train": Y}, "has a train part or a test part, not both"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "has x_test but no y_test: add it"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, "have 2 and 1 columns"),
    ],
)  # fmt: skip
def test_own_npz_that_is_wrong(tmp_path: Path, named: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(data.DataError, match=message) as error:
        data.load_table(saved(tmp_path, **named))
    assert str(tmp_path / "own.npz") in one_sentence(error)


def test_own_npz_truncated_missing_or_another_file(tmp_path: Path) -> None:
    path = saved(tmp_path, x=X, y=Y)
    content = path.read_bytes()
    for damaged in (content[:-30], content[: len(content) // 2], b"x,y\n1,2\n", b""):
        path.write_bytes(damaged)
        with pytest.raises(data.DataError, match=r"is no .npz file, or is cut short \(\d+ bytes\)") as error:
            data.load_table(path)
        one_sentence(error)
    path.write_bytes(content[:150] + bytes([content[150] ^ 1]) + content[151:])
    with pytest.raises(data.DataError, match="Array 'x' of .* is damaged"):
        data.load_table(path)
    with pytest.raises(data.DataError, match=r"There is no file nowhere.npz, neither .* nor under"):
        data.load_table("nowhere.npz", tmp_path)
    with pytest.raises(ValueError, match="label='a' names a column of a .csv"):
        data.load_table(saved(tmp_path, x=X, y=Y), label="a")


def test_own_classes_too_small_to_hold_out(tmp_path: Path) -> None:
    path = saved(tmp_path, x=X, y=np.array([0] * 3 + [1] * 9))
    assert len(data.load_table(path)) == 12
    with pytest.raises(data.DataError, match="Class 0 of .* has 3 rows, too few to hold out a fifth"):
        data.load_table(path, split="train")


# --- a user's own .csv --------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    (folder / "own.csv").write_text(text, encoding="utf-8")
    return folder / "own.csv"


@pytest.mark.parametrize(
    ("text", "label", "x", "labels", "classes"),
    [
        ("a,b,kind\n1,2,oat\n3,4,rye\n5,6,oat\n", None, [[1, 2], [3, 4], [5, 6]], [0, 1, 0], ("oat", "rye")),
        ("\ufeffkind,a\noat,1\nrye,3\noat,5\n", "kind", [[1], [3], [5]], [0, 1, 0], ("oat", "rye")),
        ("Label, a, b\n2, 1, 2\n10, 3, 4\n2, 5, 6\n", None, [[1, 2], [3, 4], [5, 6]], [0, 1, 0], ("2", "10")),
        ("1,2,7\n3,4,8\n5,6,7\n", None, [[1, 2], [3, 4], [5, 6]], [0, 1, 0], ("7", "8")),
        ("1,2,7\n3,4,8\n5,6,8\n", "column 1", None, None, None),
        ("a,a,y\n1,2,no\n3,4,yes\n5,6,no\n", None, [[1, 2], [3, 4], [5, 6]], [0, 1, 0], ("no", "yes")),
        ("0,1,label\n1,2,oat\n3,4,rye\n5,6,oat\n", None, [[1, 2], [3, 4], [5, 6]], [0, 1, 0], ("oat", "rye")),
        ("0,1,kind\n1,2,7\n3,4,8\n5,6,7\n", "kind", [[1, 2], [3, 4], [5, 6]], [0, 1, 0], ("7", "8")),
        ("a,b,y\n1,true,7\n2,false,8\n3,true,7\n", None, [[1, 1], [2, 0], [3, 1]], [0, 1, 0], ("7", "8")),
    ],
)  # fmt: skip
def test_own_csv(tmp_path: Path, text: str, label: str | None, x, labels, classes) -> None:
    path = written(tmp_path, text)
    if x is None:
        with pytest.raises(data.DataError, match="Each of the 3 rows"):  # a column of its own was chosen
            data.load_table(path, label=label)
        return
    table = data.load_table(path, label=label)
    order = torch.argsort(table.rows)
    assert table.x[order].tolist() == x and table.labels[order].tolist() == labels
    assert table.classes == classes and table.name == "own"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no .csv file"),
        ("a,b\n", "has 0 rows and 2 columns"),
        ("a;b\n1;2\n3;4\n", r"has 2 rows and 1 columns \(a;b\): .*separated by commas"),
        ("a,b,y\n1,2,0\n3,4,1,9\n", r"is no .csv file \(.*line 3, saw 4\)"),
        ("a,y\n1,2,0\n3,4,1\n5,6,0\n", r"is no .csv file \(Length of header"),
        ("1,2,oat\n3,4,rye\n5,6,oat\n", "has numbers and the word 'oat', so it can be names or a row"),
        ("a,b,y\n1,red,0\n3,4,1\n", r"Column 'b' of .* not numeric \(line 2 holds 'red'\).*read from 'y'"),
        ("1,2,0\n3,x,1\n4,5,0\n", r"Column 'column 2' of .* is not numeric \(line 2 holds 'x'\)"),
        ("a,b,y\n1,,0\n3,4,1\n4,NaN,1\n", "2 rows with an empty or NaN cell, the first in line 2, .* 'b'"),
        ("a,b,y\n1,2,0\n3,4,1\n4,5", "1 rows with an empty or NaN cell, the first in line 4, column 'y'"),
        ("a,b,y\n1,inf,0\n3,4,1\n4,5,1\n", "1 rows with a NaN, infinite or too large .* first is row 0"),
        ("a,y\n1,oat\n2,oat\n", "All 2 rows of .* have the label oat"),
        ("a,price\n1,0.5\n2,0.25\n3,0.5\n", r"not classes \(0.5 is no whole number\): name the column"),
    ],
)  # fmt: skip
def test_own_csv_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(data.DataError, match=message) as error:
        data.load_table(written(tmp_path, text))
    assert str(tmp_path / "own.csv") in one_sentence(error)


def test_own_csv_without_the_label(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match="has no column 'kind': label is one of a, b, y"):
        data.load_table(written(tmp_path, "a,b,y\n1,2,0\n3,4,1\n4,5,1\n"), label="kind")
    (tmp_path / "own.csv").write_bytes(b"a,b\n1,\xff\xfe\n")
    with pytest.raises(data.DataError, match="is no .csv file"):
        data.load_table(tmp_path / "own.csv")


# --- har ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_har(server, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """7 training and 5 test windows of 3 features and 2 activities, in an archive within an archive."""
    random = np.random.RandomState(4)
    x, y = random.uniform(-1, 1, (12, 3)).astype(np.float32), np.array([1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 1])
    inner, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for part, rows in (("train", slice(0, 7)), ("test", slice(7, None))):
            lines = ["  ".join(f"{value: .8e}" for value in row) for row in x[rows]]
            archive.writestr(f"UCI HAR Dataset/{part}/X_{part}.txt", "\n".join(lines) + "\n")
            archive.writestr(f"UCI HAR Dataset/{part}/y_{part}.txt", "\n".join(map(str, y[rows])) + "\n")
            archive.writestr(f"__MACOSX/UCI HAR Dataset/{part}/._X_{part}.txt", b"\0\1")
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("UCI HAR Dataset.zip", inner.getvalue())
        archive.writestr("UCI HAR Dataset.names", "about")
    server.content["har.zip"] = outer.getvalue()
    digest = hashlib.sha256(outer.getvalue()).hexdigest()
    monkeypatch.setattr(har, "ARCHIVE", Remote("har.zip", (f"{server.url}har.zip",), digest))
    monkeypatch.setattr(har, "FEATURES", 3)
    monkeypatch.setattr(har, "CLASSES", ("walking", "sitting"))
    monkeypatch.setattr(har, "WINDOWS", {"train": (4, 3), "test": (3, 2)})
    return x


def test_known_counts_of_har_add_up() -> None:
    train, test = har.WINDOWS["train"], har.WINDOWS["test"]
    assert (sum(train), sum(test)) == (7352, 2947) and len(train) == len(test) == len(har.CLASSES)
    assert [a + b for a, b in zip(train, test, strict=True)] == [1722, 1544, 1406, 1777, 1906, 1944]


def test_har(tiny_har: np.ndarray, server, tmp_path: Path) -> None:
    both, train, test = (data.load_table("har", tmp_path, split) for split in ("all", "train", "test"))
    np.testing.assert_allclose(both.x.numpy(), tiny_har, atol=1e-7)
    assert both.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
    assert torch.equal(both.x, torch.cat([train.x, test.x])) and len(train) == 7
    assert server.served == ["/har.zip"] and not leftovers(tmp_path)
    assert not fetch.note(tmp_path / "har/har.zip").exists()  # the digest is in the code


def test_har_altered_missing_or_not_what_it_was(tiny_har, server, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(
        data.DataError, match=r"har.zip is missing. Run `pullpush data download har --data-root"
    ):
        data.check_table("har", tmp_path)
    assert not server.served  # checking needs no network
    file = data.download_table("har", tmp_path) / "har.zip"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(data.DataError, match=r"har.zip is truncated or altered \(sha256 .* Run `pullpush"):
        data.load_table("har", tmp_path)
    assert data.download_table("har", tmp_path) == tmp_path / "har"  # what the message advises
    assert len(data.load_table("har", tmp_path)) == 12
    monkeypatch.setattr(har, "WINDOWS", {"train": (4, 3), "test": (4, 1)})
    with pytest.raises(data.DataError, match="test has 5 rows of 3, and .3, 2. of the classes"):
        data.load_table("har", tmp_path, "test")


def test_har_put_there_by_hand(tiny_har, server, tmp_path: Path) -> None:
    (tmp_path / "har").mkdir()
    (tmp_path / "har/har.zip").write_bytes(server.content["har.zip"])
    assert len(data.load_table("har", tmp_path)) == 12 and not server.served


def test_har_that_is_another_archive(tiny_har, server, tmp_path: Path) -> None:
    server.content["har.zip"] += b"x"
    with pytest.raises(data.DataError, match="what arrived has sha256 .*, not .*put the file there yourself"):
        data.load_table("har", tmp_path)
    assert not leftovers(tmp_path) and not (tmp_path / "har/har.zip").exists()


# --- reuters10k ---------------------------------------------------------------------------------------------

ROOTS = ["CCAT", "GCAT", "MCAT", "ECAT"]


@pytest.fixture
def tiny_rcv1(server, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[int]]:
    """60 documents, 50 of them in exactly one root category; returns these, as text, and their roots."""
    random = np.random.RandomState(5)
    words = [f"w{chr(97 + i)}" for i in range(20)] + ["x"]  # one of a single letter, which is no word
    share = np.arange(21, 0, -1) / 231
    qrels, files, texts, labels = [], ["", ""], [], []
    for document in range(60):
        text = [" ".join(random.choice(words, 9, p=share)) for _ in range(2)]
        files[document // 40] += f".I {2286 + document}\n.W\n{text[0]}\n{text[1]}\n\n"
        roots = [document % 4] if document % 6 else [0, 1]
        qrels += [f"{ROOTS[root]} {2286 + document} 1" for root in roots] + [f"C15 {2286 + document} 1"]
        if document % 6:
            texts.append(" ".join(text))
            labels.append(document % 4)
    server.content.update({f"{i}.gz": gzip.compress(text.encode(), mtime=0) for i, text in enumerate(files)})
    server.content["topics.gz"] = gzip.compress("\n".join(qrels).encode(), mtime=0)
    digest = hashlib.sha256(server.content["topics.gz"]).hexdigest()
    monkeypatch.setattr(reuters10k, "TOPICS", Remote("topics.gz", (f"{server.url}topics.gz",), digest))
    homes = (f"{server.url}gone/", server.url)  # the first home has nothing
    tokens = tuple(Remote(f"{i}.gz", tuple(f"{home}{i}.gz" for home in homes)) for i in range(2))
    monkeypatch.setattr(reuters10k, "TOKENS", tokens)
    monkeypatch.setattr(reuters10k, "DOCUMENTS", 30)
    monkeypatch.setattr(reuters10k, "WORDS", 8)
    return texts, labels


def test_reuters10k_is_the_first_of_all_as_scikit_learn_counts(tiny_rcv1, server, tmp_path: Path) -> None:
    texts, labels = tiny_rcv1
    vectorizer = CountVectorizer(max_features=8)
    counts = vectorizer.fit_transform(texts)
    used = np.sort(np.asarray(CountVectorizer().fit_transform(texts).sum(0)).ravel())[::-1]
    assert used[7] > used[8]  # else which words count would hang on the order of equals
    expected = TfidfTransformer(sublinear_tf=True).fit_transform(counts)[:30].toarray()
    table = data.load_table("reuters10k", tmp_path)
    assert scipy.sparse.issparse(table.x) and table.x.shape == (30, 8)
    assert table.classes == ("corporate/industrial", "government/social", "markets", "economics")
    train, test = (data.load_table("reuters10k", tmp_path, split) for split in ("train", "test"))
    assert torch.equal(table.dense(), torch.cat([train.dense(), test.dense()])) and len(test) == 6
    held = held_out(np.array(labels[:30]))
    order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
    np.testing.assert_allclose(table.dense().numpy(), expected[order], atol=1e-6)
    assert table.labels.tolist() == np.array(labels[:30])[order].tolist()
    kept = sorted(path.name for path in (tmp_path / "reuters10k").iterdir())
    assert kept == ["0.gz.sha256", "1.gz.sha256", "reuters10k.npz", "reuters10k.npz.sha256"]
    served = len(server.served)
    assert (
        data.download_table("reuters10k", tmp_path) == tmp_path / "reuters10k"
        and len(server.served) == served
    )


def test_reuters10k_is_trusted_on_first_use_only(tiny_rcv1, server, tmp_path: Path) -> None:
    folder = data.download_table("reuters10k", tmp_path)
    recorded = fetch.note(folder / "1.gz").read_text().split()
    assert recorded == [hashlib.sha256(server.content["1.gz"]).hexdigest(), "1.gz"]
    (folder / "reuters10k.npz").write_bytes(b"half a fi")
    with pytest.raises(data.DataError, match=r"reuters10k.npz is truncated or altered \(sha256") as error:
        data.load_table("reuters10k", tmp_path)
    assert f"pullpush data download reuters10k --data-root {tmp_path}" in one_sentence(error)
    first, server.content["1.gz"] = server.content["1.gz"], gzip.compress(b".I 1\n.W\nother\n")
    with pytest.raises(data.DataError, match="or remove .*1.gz.sha256 to accept another one"):
        data.download_table("reuters10k", tmp_path)
    server.content["1.gz"] = first
    data.download_table("reuters10k", tmp_path)
    assert len(data.load_table("reuters10k", tmp_path)) == 30


def test_reuters10k_with_a_file_that_does_not_unpack(tiny_rcv1, server, tmp_path: Path) -> None:
    """A home that does not say how long a file is can cut it; its digest must not be trusted then."""
    whole = server.content["0.gz"]
    server.content["0.gz"] = whole[:-12]
    with pytest.raises(data.DataError, match=r"0.gz is truncated or altered .* was removed") as error:
        data.load_table("reuters10k", tmp_path)
    one_sentence(error)
    server.content["0.gz"] = whole
    assert len(data.load_table("reuters10k", tmp_path)) == 30


def test_reuters10k_unfinished_is_not_taken_for_whole(tiny_rcv1, tmp_path: Path) -> None:
    folder = data.download_table("reuters10k", tmp_path)
    fetch.note(folder / "reuters10k.npz").unlink()  # as a kill between the two would leave it
    with pytest.raises(data.DataError, match="without its digest, so perhaps not finished"):
        data.load_table("reuters10k", tmp_path)
    data.download_table("reuters10k", tmp_path)
    data.check_table("reuters10k", tmp_path)


def test_reuters10k_too_small(tiny_rcv1, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reuters10k, "DOCUMENTS", 51)
    with pytest.raises(data.DataError, match="give 50 documents of 8 words, not 51 of 8 in 4 classes"):
        data.load_table("reuters10k", tmp_path)


# --- fetching -----------------------------------------------------------------------------------------------


def test_leftover_of_a_killed_download_is_overwritten(server, tmp_path: Path) -> None:
    server.content["f"] = b"whole content"
    (tmp_path / ".f.part").write_bytes(b"who")
    assert fetch.fetch(Remote("f", (f"{server.url}f",)), tmp_path).read_bytes() == b"whole content"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "f.sha256"]


def test_note_is_as_sha256sum_reads_it(server, tmp_path: Path) -> None:
    server.content["f"] = b"whole content"
    fetch.fetch(Remote("f", (f"{server.url}f",)), tmp_path)
    assert fetch.note(tmp_path / "f").read_text() == f"{hashlib.sha256(b'whole content').hexdigest()}  f\n"


def test_every_home_is_named_when_none_has_it(server, tmp_path: Path) -> None:
    remote = Remote("f", (f"{server.url}f", "http://127.0.0.1:1/f"))  # nobody listens on port 1
    with pytest.raises(data.DataError, match=r"HTTP 404 .*; 127.0.0.1:1: Connection refused") as error:
        fetch.fetch(remote, tmp_path)
    assert str(tmp_path) in one_sentence(error) and not list(tmp_path.iterdir())


def test_root_without_permission(tiny_har, closed_root, server) -> None:
    root, close = closed_root
    close()
    with pytest.raises(
        data.DataError, match=r"cannot be downloaded there \(Permission denied\): name a folder .*_DATA\.$"
    ):
        data.load_table("har", root)
    assert not server.served


def start_har(root: Path, before: str = "") -> subprocess.Popen[str]:
    """Load har, as this process has it, in another process."""
    code = (
        "import json, sys, pathlib, time; from pullpush import data; from pullpush.data import har\n"
        "from pullpush.data.fetch import Remote\n"
        "root, file, urls, digest, har.FEATURES, har.CLASSES, windows = json.loads(sys.argv[1])\n"
        "har.ARCHIVE, har.WINDOWS = Remote(file, urls, digest), {k: tuple(v) for k, v in windows.items()}\n"
        f"{before}print(data.load_table('har', root).digest)"
    )
    archive = har.ARCHIVE
    known = [str(root), archive.file, archive.urls, archive.sha256, har.FEATURES, har.CLASSES, har.WINDOWS]
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(known)],
        env={**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_download_once(tiny_har, server, tmp_path: Path) -> None:
    gate = "print('ready', flush=True)\nwhile not (pathlib.Path(root) / 'go').exists(): time.sleep(0.005)\n"
    both = [start_har(tmp_path, gate) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    answers = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0] == data.load_table("har", tmp_path).digest + "\n"
    assert server.served == ["/har.zip"] and not leftovers(tmp_path)


def test_killed_in_the_middle_then_repeated(tiny_har, server, tmp_path: Path) -> None:
    server.fault = "stall"
    server.served.append("/har.zip")  # the server stalls the second time
    process = start_har(tmp_path)
    assert server.stalled.wait(300)
    until = time.monotonic() + 60  # what was sent may lie a moment unread
    while not leftovers(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert leftovers(tmp_path) == [".har.zip.part"]  # the kill left no time to tidy up
    with pytest.raises(data.DataError, match="har.zip is missing"):
        data.check_table("har", tmp_path)
    server.fault = None
    assert len(data.load_table("har", tmp_path)) == 12 and not leftovers(tmp_path)


# --- the command line ---------------------------------------------------------------------------------------


def test_command_line(tiny_har, tmp_path: Path) -> None:
    def call(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["data", *words, "--data-root", str(tmp_path)])
        return result.exit_code, result.output

    code, printed = call("list")
    assert code == 0
    assert "pendigits       absent: pullpush data download pendigits" in printed
    assert "digits          here" in printed and "reuters10k" in printed
    assert call("check", "har")[0] == 1
    assert call("download", "har")[0] == 0
    assert call("check", "har") == (0, "har is whole.\n")
    code, printed = call("download", "reuters")
    assert code == 2 and "no public download" in printed
    code, printed = call("check", str(saved(tmp_path, x=X)))
    assert code == 1 and "has no array y" in printed
    code, printed = call("download", "pendigit")
    assert code == 2 and "Did you mean 'pendigits'" in printed
