"""The method fingerprint changes with the code of a method, and with nothing else."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pullpush.fingerprint import edited, method_fingerprint
from pullpush.parameters import read_notebook
from pullpush.records import notebook_path

LIBRARY = {
    "__init__.py": '"""A library."""\n',
    "losses/__init__.py": (
        "from pullpush.losses.first import first\nfrom .second import second\n__all__ = ['first', 'second']\n"
    ),
    "losses/first.py": (
        'from pullpush.losses._inputs import unit\n\n\ndef first(x):\n    "One."\n    return unit(x)  # why\n'
    ),
    "losses/second.py": "def second(x):\n    return x + 1\n",
    "losses/_inputs.py": "def unit(x):\n    return x / 2\n",
    "data/__init__.py": "from pullpush.data import source\n\ndef load(name):\n    return source.read(name)\n",
    "data/source.py": "def read(name):\n    return name\n",
    "training.py": "def fit():\n    from pullpush import clock\n    return clock.now()\n",
    "clock.py": "def now():\n    return 1\n",
    "evaluation.py": "def probe():\n    return 1\n",
    "graph.py": "def knn():\n    return 1\n",
    "figures.py": "def show():\n    return 1\n",
    "runs.py": "def begin():\n    return 1\n",
}
IMPORTS = "import numpy as np\nfrom pullpush import data, evaluation, figures, losses, runs, training\n"
METHOD = "%matplotlib inline\ndef step(x):\n    'One step.'\n    return losses.first(x)  # equation 1\n"
OTHER = "data.load('digits'); training.fit(); figures.show(); runs.begin(); evaluation.probe()\n"

Write = Callable[[Path, Sequence[tuple[str, str]]], None]


@pytest.fixture
def study(tmp_path: Path, write_notebook: Write) -> Path:
    folder = tmp_path / "a"
    for name, source in LIBRARY.items():
        (folder / "pullpush" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "pullpush" / name).write_text(source)
    write_notebook(folder / "study.ipynb", [("", IMPORTS), ("method", METHOD), ("", OTHER)])
    return folder


def mark(folder: Path) -> str:
    return method_fingerprint(folder / "study.ipynb", folder / "pullpush")


def changed(folder: Path, file: str, old: str, new: str) -> str:
    """The fingerprint of a copy in which `old` reads `new`."""
    copy = Path(shutil.copytree(folder, folder.with_name(f"b{time.time_ns()}")))
    path = copy / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return mark(copy)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("study.ipynb", "losses.first(x)  # equation 1", "losses.first(x + 1)"),
        ("study.ipynb", "losses.first(x)", "losses.second(x)"),
        ("pullpush/losses/first.py", "unit(x)  #", "-unit(x)  #"),
        ("pullpush/losses/_inputs.py", "x / 2", "x / 3"),
        ("pullpush/data/__init__.py", "source.read(name)", "source.read(name + name)"),
        ("pullpush/data/source.py", "return name", "return name, 1"),
        ("pullpush/training.py", "clock.now()", "clock.now() + 1"),
        ("pullpush/clock.py", "return 1", "return 2"),
        ("pullpush/evaluation.py", "return 1", "return 2"),
    ],
)
def test_code_of_the_method_counts(study: Path, file: str, old: str, new: str) -> None:
    assert changed(study, file, old, new) != mark(study)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("study.ipynb", "  # equation 1", "  # equation 2, the same"),
        ("study.ipynb", "'One step.'", "'A single step.'"),
        ("study.ipynb", "%matplotlib inline", "%matplotlib agg"),
        ("study.ipynb", "data.load('digits')", "data.load('mnist')"),  # not tagged method
        ("pullpush/losses/first.py", "# why", "# because"),
        ("pullpush/losses/first.py", '"One."', '"The first."'),
        ("pullpush/losses/first.py", "\n\n\n", "\n\n\n\n# a heading\n"),
        ("pullpush/losses/second.py", "x + 1", "x + 2"),  # not used
        ("pullpush/losses/__init__.py", "__all__ =", "from .third import third\n__all__ ="),
        ("pullpush/graph.py", "return 1", "return 2"),
        ("pullpush/figures.py", "return 1", "return 2"),
        ("pullpush/runs.py", "return 1", "return 2"),
        ("pullpush/__init__.py", "A library", "The library"),
    ],
)
def test_nothing_else_counts(study: Path, file: str, old: str, new: str) -> None:
    assert changed(study, file, old, new) == mark(study)


def test_a_package_used_as_a_whole_counts_as_a_whole(study: Path, write_notebook: Write) -> None:
    write_notebook(
        study / "study.ipynb", [("", IMPORTS), ("method", "loss = getattr(losses, name)"), ("", OTHER)]
    )
    assert changed(study, "pullpush/losses/second.py", "x + 1", "x + 2") != mark(study)


def test_the_real_studies_have_one_quickly_and_without_torch() -> None:
    script = (
        "import sys, time, pathlib; from pullpush.fingerprint import method_fingerprint as mark\n"
        "library = pathlib.Path('lib/pullpush')\n"
        "for notebook in pathlib.Path('book/experiments').glob('*.ipynb'):\n"
        "    start = time.process_time(); found = mark(notebook, library)\n"
        "    print(notebook.stem, len(found), time.process_time() - start)\n"
        "assert 'torch' not in sys.modules"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for line in printed.splitlines():
        _, length, seconds = line.split()
        assert int(length) == 64
        assert float(seconds) < 0.4  # 0.1 when measured alone


class TestEditedCells:
    """What ran in an open notebook, against the notebook that was saved."""

    CELLS = (
        ("", "import math"),
        ("method", "def f(x):\n    return x"),
        ("method", "g = f(1)"),
        ("", "print(g)"),
    )

    @pytest.fixture
    def notebook(self, tmp_path: Path, write_notebook: Write) -> dict:
        write_notebook(tmp_path / "n.ipynb", self.CELLS)
        return read_notebook(tmp_path / "n.ipynb")

    def test_as_saved(self, notebook: dict) -> None:
        assert edited(notebook, []) == ""
        assert edited(notebook, ["", *(source for _, source in self.CELLS[:3])]) == ""
        assert edited(notebook, ["def f(x):\n    return x  # now with a comment", "g = f(1)"]) == ""

    def test_a_changed_method_above(self, notebook: dict) -> None:
        one = edited(notebook, ["def f(x):\n    return 2 * x", "g = f(1)"])
        two = edited(notebook, ["def f(x):\n    return 3 * x", "g = f(1)"])
        assert one and two and one != two

    def test_a_changed_present_cell(self, notebook: dict) -> None:
        assert edited(notebook, ["def f(x):\n    return x", "g = f(2)"])

    def test_a_method_cell_below_may_not_have_run_yet(self, notebook: dict) -> None:
        assert edited(notebook, ["def f(x):\n    return x"]) == ""


def test_the_path_of_a_study_is_in_the_book() -> None:
    assert notebook_path("toy").parts[-3:] == ("book", "experiments", "toy.ipynb")
