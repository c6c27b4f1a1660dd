"""Reuters-10k, as deep clustering papers have it: 10,000 documents of RCV1, 2,000 word stems, 4 classes.

Of the documents in exactly one of the root categories CCAT, GCAT, MCAT and ECAT (DEC counts 685,071), the
first 10,000 in the order of the public files; of the stems, the 2,000 used most often in all these documents,
with TF-IDF weights from all of them. So does IDEC's script, which then multiplies the rows, of unit length
here, by sqrt(2000). DEC draws its 10,000 at random; VaDE's file of this name is another draw.

Lewis et al., RCV1: A New Benchmark Collection for Text Categorization Research, JMLR 5, 2004. Downloaded when
absent (about 180 MB), which takes minutes; `reuters10k/reuters10k.npz` under the data root is kept. Nobody
publishes digests of the token files, so they are trusted on first use (see `fetch`).
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pullpush.data import fetch
from pullpush.data.arrays import read_npz, write_npz
from pullpush.data.fetch import Remote
from pullpush.data.imageset import DataError, held_out
from pullpush.data.reuters import tf_idf

TABLES = ("reuters10k",)
FOLDER = "reuters10k"
KEPT = Remote("reuters10k.npz", ())  # made here, so its digest is found on first use
ROOTS = {"CCAT": "corporate/industrial", "GCAT": "government/social", "MCAT": "markets", "ECAT": "economics"}
DOCUMENTS, WORDS = 10_000, 2_000
WORD = re.compile(r"\b\w\w+\b")  # as scikit-learn's CountVectorizer, which the others use
HOMES = (
    "https://jmlr.csail.mit.edu/papers/volume5/lewis04a",
    "http://www.ai.mit.edu/projects/jmlr/papers/volume5/lewis04a",
)
TOPICS = Remote(  # scikit-learn's copy, with the digest that scikit-learn pins
    "rcv1v2.topics.qrels.gz",
    ("https://ndownloader.figshare.com/files/5976048",),
    "2a98e5e5d8b770bded93afc8930d88299474317fe14181aee1466cc754d0d1c1",
)
TOKENS = tuple(
    Remote(file, tuple(f"{home}/a12-token-files/{file}" for home in HOMES))
    for file in (*(f"lyrl2004_tokens_test_pt{i}.dat.gz" for i in range(4)), "lyrl2004_tokens_train.dat.gz")
)


def read(name: str, root: Path, split: str) -> tuple[Any, Tensor, tuple[str, ...]]:
    """x (n, 2000) CSR float32, rows of unit length or 0; labels (n,) int64; class names.

    The set has no split of its own: `test` is a fixed stratified fifth, `train` the rest, `all` train then
    test. Downloads what is missing. Raises DataError if it is not what it was, or cannot be had.
    """
    import scipy.sparse

    if not (root / FOLDER / KEPT.file).exists():
        download(name, root)
    check(name, root)
    arrays = read_npz(root / FOLDER / KEPT.file)
    shape = tuple(arrays["shape"])
    counts = scipy.sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    x = tf_idf(counts, int(arrays["documents"]), arrays["frequency"])
    test = held_out(arrays["y"])
    parts = {"train": [~test], "test": [test], "all": [~test, test]}[split]
    rows = np.concatenate([np.flatnonzero(part) for part in parts])
    return x[rows], torch.from_numpy(arrays["y"][rows].astype(np.int64)), tuple(ROOTS.values())


def check(name: str, root: Path) -> None:
    """Raise DataError, with the remedy, unless the counts are there and are those that were made here."""
    fault = _fault(root)
    if fault:
        raise DataError(
            f"{name}: {root / FOLDER / KEPT.file} is {fault}; run `{fetch.command(name, root)}` to make it "
            f"from {HOMES[0]} (about 180 MB)."
        )


def download(name: str, root: Path) -> Path:
    """Make the set whole under `root`, fetching only if it is not, and return its folder.

    One process fetches while others wait. Files of a broken attempt are kept if whole; once the counts are
    made, the texts are removed and their digests stay. Raises DataError if the set cannot be had.
    """
    folder = root / FOLDER
    if _fault(root) is not None:  # a whole set on a read-only disk needs no lock
        with fetch.alone(name, root):
            if _fault(root) is not None:
                topics, *tokens = [fetch.fetch(remote, folder) for remote in (TOPICS, *TOKENS)]
                _make(topics, tokens, folder)
                for path in (topics, *tokens):
                    path.unlink()
    return folder


def counted(
    documents: Iterable[tuple[int, list[str]]], kept: int, words: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Counts of the most used words in the first `kept` of (label, words) documents, and these words, sorted.

    Arrays: data, indices, indptr, shape of the CSR counts; y, labels of the rows; frequency, in how many of
    all `documents` each word occurs. Of words used equally often, the first in the alphabet count.
    """
    used: Counter[str] = Counter()
    frequency: Counter[str] = Counter()
    labels, first, total = [], [], 0
    for label, document in documents:
        counts = Counter(document)
        used.update(counts)
        frequency.update(counts.keys())
        if total < kept:
            labels.append(label)
            first.append(counts)
        total += 1
    vocabulary = sorted(sorted(used, key=lambda word: (-used[word], word))[:words])
    number = {word: i for i, word in enumerate(vocabulary)}
    rows = [sorted((number[word], count) for word, count in one.items() if word in number) for one in first]
    pairs = np.array([pair for row in rows for pair in row], dtype=np.int32).reshape(-1, 2)
    arrays = {
        "data": pairs[:, 1].copy(),
        "indices": pairs[:, 0].copy(),
        "indptr": np.cumsum([0, *map(len, rows)], dtype=np.int32),
        "shape": np.array([len(rows), len(vocabulary)]),
        "y": np.array(labels, dtype=np.uint8),
        "frequency": np.array([frequency[word] for word in vocabulary], dtype=np.int64),
        "documents": np.array(total),
    }
    return arrays, vocabulary


def roots_of(lines: Iterable[str]) -> dict[int, int]:
    """Document -> index of its root category, of those in exactly one. Lines: `CCAT 2286 1`."""
    found: dict[int, set[int]] = {}
    for line in lines:
        category, document, _ = line.split()
        if category in ROOTS:
            found.setdefault(int(document), set()).add(list(ROOTS).index(category))
    return {document: labels.pop() for document, labels in found.items() if len(labels) == 1}


def documents_of(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """(document, words) of a token file: `.I 2286`, `.W`, then the stems until an empty line."""
    document: int | None = None
    words: list[str] = []
    for line in lines:
        if line.startswith(".I"):
            if document is not None:
                yield document, words
            document, words = int(line.split()[1]), []
        elif not line.startswith(".W"):
            words += WORD.findall(line.lower())
    if document is not None:
        yield document, words


def _make(topics: Path, tokens: list[Path], folder: Path) -> None:
    """Write the counts. Raises DataError, and removes the file, if one does not unpack to the end."""
    reading = topics
    try:
        with gzip.open(topics, "rt", encoding="ascii") as lines:
            roots = roots_of(lines)

        def documents() -> Iterator[tuple[int, list[str]]]:
            nonlocal reading
            for reading in tqdm(tokens, desc="Counting words", unit="file", disable=None):
                with gzip.open(reading, "rb") as stream:
                    for document, words in documents_of(io.TextIOWrapper(stream, "latin-1")):
                        if document in roots:
                            yield roots[document], words

        arrays, _ = counted(documents(), DOCUMENTS, WORDS)
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        reading.unlink()
        reading.with_name(f"{reading.name}.sha256").unlink(missing_ok=True)  # trusted too early
        raise DataError(
            f"{reading} is truncated or altered ({error}) and was removed: download again."
        ) from error
    if arrays["shape"].tolist() != [DOCUMENTS, WORDS] or len(set(arrays["y"].tolist())) != len(ROOTS):
        rows, columns = arrays["shape"].tolist()
        raise DataError(
            f"The files in {folder} give {rows:,} documents of {columns:,} words, not {DOCUMENTS:,} of "
            f"{WORDS:,} in {len(ROOTS)} classes: remove them and download again."
        )
    path = folder / KEPT.file
    path.unlink(missing_ok=True)
    fetch.note(path).unlink(missing_ok=True)
    write_npz(path, arrays)
    fetch.write_note(path)


def _fault(root: Path) -> str | None:
    folder = root / FOLDER
    fault = fetch.fault_of(KEPT, folder)
    if fault is None and not fetch.note(folder / KEPT.file).exists():
        return "without its digest, so perhaps not finished"
    return fault
