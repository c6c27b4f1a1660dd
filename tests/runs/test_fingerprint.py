"""The method fingerprint changes with the code of a method, and with nothing else."""

import re
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


EVALUATION = """\
import math

from pullpush import clock

FACTOR = 2


def probe(x):
    return _helper(x) + Scorer().score(x)


def _helper(x):
    return FACTOR * math.sqrt(x)


class Scorer:
    def score(self, x):
        return x


def in_table(x):
    return x + 10


FAMILIES = {"table": in_table}
BY_NAME = "in_string"


def in_string(x):
    return x + 20


def from_training(x):
    return x + 30


def unused(x):
    return clock.now() + 40


def register(function):
    FAMILIES[function.__name__] = function
    return function


@register
def registered(x):
    return x + 50
"""
TRAINING = (
    "def fit():\n    from pullpush.evaluation import from_training\n    return from_training(1)\n"
    "def idle():\n    import pullpush.clock\n"
)


class TestDefinitions:
    """Of a module, only what can matter to the study counts."""

    @pytest.fixture
    def one(self, study: Path, write_notebook: Write) -> Path:
        (study / "pullpush" / "evaluation.py").write_text(EVALUATION)
        (study / "pullpush" / "training.py").write_text(TRAINING)
        cells = [
            ("", "from pullpush import evaluation, training"),
            ("method", "training.fit()\nevaluation.probe(1)"),
        ]
        write_notebook(study / "study.ipynb", cells)
        return study

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("_helper(x) +", "_helper(x) -"),
            ("FACTOR * math", "FACTOR + math"),
            ("FACTOR = 2", "FACTOR = 3"),
            ("import math", "import cmath as math"),
            ("        return x\n", "        return x + 1\n"),
            ("x + 10", "x + 11"),
            ('{"table": in_table}', '{"table": in_table, "other": 1}'),
            ("x + 20", "x + 21"),
            ("x + 30", "x + 31"),
            ("x + 50", "x + 51"),
            ("FACTOR = 2", "FACTOR = 2\nfrom pullpush.graph import *"),
        ],
    )
    def test_what_is_reached_counts(self, one: Path, old: str, new: str) -> None:
        assert changed(one, "pullpush/evaluation.py", old, new) != mark(one)

    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("evaluation.py", "def unused(x)", "def brand_new(x):\n    return 1\n\n\ndef unused(x)"),
            ("evaluation.py", "+ 40", "+ 41"),
            ("evaluation.py", "def probe(x):\n", "def probe(x):\n    'Unlike `unused`.'\n"),
            ("evaluation.py", "import math", "import heapq\nimport math"),
            ("evaluation.py", "FACTOR = 2", "__all__ = ['probe', 'unused']\nFACTOR = 2"),
            ("training.py", "import pullpush.clock", "import pullpush.graph"),
            ("clock.py", "return 1", "return 2"),
        ],
    )
    def test_what_is_not_reached_does_not_count(self, one: Path, file: str, old: str, new: str) -> None:
        assert changed(one, f"pullpush/{file}", old, new) == mark(one)

    @pytest.mark.parametrize(
        "use",
        [
            "getattr(evaluation, 'probe')",
            "from pullpush.evaluation import *",
            "import pullpush.evaluation",
            "evaluation.unused(1)",
            "from pullpush.evaluation import unused as other\nother(1)",
        ],
    )
    def test_more_use_counts_more(self, one: Path, write_notebook: Write, use: str) -> None:
        write_notebook(one / "study.ipynb", [("", f"from pullpush import evaluation\n{use}")])
        assert changed(one, "pullpush/evaluation.py", "+ 40", "+ 41") != mark(one)
        assert changed(one, "pullpush/clock.py", "return 1", "return 2") != mark(one)

    def test_a_name_handed_on_is_followed(self, one: Path, write_notebook: Write) -> None:
        (one / "pullpush" / "views.py").write_text("from pullpush.evaluation import unused as handed_on\n")
        write_notebook(one / "study.ipynb", [("", "from pullpush import views\nviews.handed_on(1)")])
        assert changed(one, "pullpush/evaluation.py", "+ 40", "+ 41") != mark(one)
        assert changed(one, "pullpush/evaluation.py", "+ 30", "+ 31") == mark(one)

    def test_globals_may_take_any_name(self, one: Path) -> None:
        file = one / "pullpush" / "evaluation.py"
        file.write_text(EVALUATION.replace("FACTOR * math.sqrt(x)", "globals()['un' + 'used'](x)"))
        assert changed(one, "pullpush/evaluation.py", "+ 40", "+ 41") != mark(one)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("def _checked(", "def brand_new():\n    return 1\n\n\ndef _checked(", True),
        ("LogisticRegression(max_iter=1000)", "LogisticRegression(max_iter=999)", False),
        ("if z.ndim != 2 or", "if z.ndim > 2 or", False),  # in _checked
    ],
)
def test_a_real_study_counts_what_it_uses(tmp_path: Path, old: str, new: str, same: bool) -> None:
    root, folder = Path(__file__).parents[2], tmp_path / "a"
    shutil.copytree(root / "lib" / "pullpush", folder / "pullpush")
    shutil.copy(root / "book" / "experiments" / "pair_vs_triplet.ipynb", folder / "study.ipynb")
    assert (changed(folder, "pullpush/evaluation.py", old, new) == mark(folder)) is same


def test_a_new_data_set_leaves_a_real_study_alone(tmp_path: Path) -> None:
    root, folder = Path(__file__).parents[2], tmp_path / "a"
    shutil.copytree(root / "lib" / "pullpush", folder / "pullpush")
    shutil.copy(root / "book" / "experiments" / "pair_vs_triplet.ipynb", folder / "study.ipynb")
    more = Path(shutil.copytree(folder, tmp_path / "b"))
    (more / "pullpush" / "data" / "brand_new.py").write_text("NAMES = ('brand_new',)\n")
    assert mark(more) == mark(folder)
    assert changed(folder, "pullpush/data/digits.py", "255 / 16", "255 / 17") == mark(folder)
    load = ("images[:limit].clone()", "images[-limit:].clone()")
    assert changed(folder, "pullpush/data/__init__.py", *load) != mark(folder)


def test_every_real_study_has_one_and_none_needs_torch() -> None:
    script = (
        "import sys, pathlib; from pullpush.fingerprint import method_fingerprint as mark\n"
        "library = pathlib.Path('lib/pullpush')\n"
        "for notebook in pathlib.Path('book/experiments').glob('*.ipynb'):\n"
        "    print(notebook.stem, mark(notebook, library))\n"
        "assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    marks = dict(line.split() for line in printed.splitlines())
    assert set(marks) == {notebook.stem for notebook in (root / "book" / "experiments").glob("*.ipynb")}
    assert all(re.fullmatch("[0-9a-f]{64}", found) for found in marks.values())


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
