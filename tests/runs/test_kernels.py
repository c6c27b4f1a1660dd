"""Kernels that do not come up are started again, whoever asks for one; those that die later are not."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from pullpush import execution, foundations, kernels, runs

EMPTY = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between starts, without waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(kernels.time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> Callable[..., list[Any]]:
    """`attempts(*errors, ran=False)`: papermill raises one error a call, then succeeds; the calls so far.

    ran: whether a cell has run when it raises.
    """

    def plan(*errors: Exception, ran: bool = False) -> list[Any]:
        calls: list[Any] = []
        due: Iterator[Exception] = iter(errors)

        def execute(source: Path, output: Path, *given: Any, **options: Any) -> None:
            calls.append(options)
            cells = [{"cell_type": "code", "execution_count": 1 if ran else None}]
            output.write_text(json.dumps(EMPTY | {"cells": cells}))
            if error := next(due, None):
                raise error

        monkeypatch.setattr(papermill, "execute_notebook", execute)
        return calls

    return plan


def died(number: int = 1) -> list[Exception]:
    return [RuntimeError("Kernel died before replying to kernel_info") for _ in range(number)]


@pytest.fixture
def chapter(empty: Any, write_notebook: Any) -> Path:
    """A chapter of foundations in a repository of its own."""
    path = empty.path / "book" / "foundations" / "idea.ipynb"
    write_notebook(path, [("", "print(6 * 7)")])
    return path


@pytest.mark.parametrize("error", [RuntimeError("died"), OSError("address in use"), TimeoutError("slow")])
def test_a_kernel_that_does_not_come_up_is_started_three_times(
    empty: Any, attempts: Any, slept: list[float], error: Exception
) -> None:
    calls, said = attempts(error, error), []
    kernels.execute(Path("a.ipynb"), empty.path / "b.ipynb", say=said.append, log_output=True)
    assert len(calls) == kernels.STARTS == 3 and slept == [1, 2]
    assert said == [f"the kernel did not start ({error}): trying again"] * 2
    expected = {"kernel_name": "python3", "cwd": empty.path, "start_timeout": 120, "log_output": True}
    assert all(call == expected | {"progress_bar": False} for call in calls)
    calls = attempts(error, error, error)
    with pytest.raises(kernels.KernelDied, match=f"^{type(error).__name__}: {error}$"):
        kernels.execute(Path("a.ipynb"), empty.path / "b.ipynb")
    assert len(calls) == 3


def test_a_kernel_that_dies_in_a_cell_is_not_started_again(empty: Any, attempts: Any) -> None:
    calls = attempts(*died(), ran=True)
    with pytest.raises(kernels.KernelDied):
        kernels.execute(Path("a.ipynb"), empty.path / "b.ipynb")
    assert len(calls) == 1


def test_cells_of_an_earlier_call_do_not_count_as_run(empty: Any, monkeypatch: Any, slept: Any) -> None:
    output, calls = empty.path / "b.ipynb", []
    output.write_text(json.dumps(EMPTY | {"cells": [{"execution_count": 4}]}))

    def execute(*_: Any, **__: Any) -> None:  # dies before it writes anything
        calls.append(output.exists())
        if len(calls) < 3:
            raise RuntimeError("Kernel died")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    kernels.execute(Path("a.ipynb"), output)
    assert calls == [False] * 3


def test_death_while_the_notebook_is_written_counts_as_a_cell_that_ran(
    empty: Any, monkeypatch: Any, slept: Any
) -> None:
    def execute(source: Path, output: Path, *_: Any, **__: Any) -> None:
        output.write_text('{"cells": [{"execut')
        raise RuntimeError("Kernel died")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    with pytest.raises(kernels.KernelDied):
        kernels.execute(Path("a.ipynb"), empty.path / "b.ipynb")
    assert slept == []


def test_a_cell_that_fails_is_papermills_own_error_at_once(empty: Any, attempts: Any) -> None:
    calls = attempts(PapermillExecutionError(0, 1, "1 / 0", "ZeroDivisionError", "division by zero", []))
    with pytest.raises(PapermillExecutionError, match=r"Exception encountered at \"In \[1\]\""):
        kernels.execute(Path("a.ipynb"), empty.path / "b.ipynb")
    assert len(calls) == 1


def test_chapters_and_runs_start_their_kernels_by_it(
    light: Any, write_notebook: Any, attempts: Any, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(kernels, "prepare", lambda **_: None)
    source, target = light.path / "book" / "foundations" / "idea.ipynb", light.path / "_build" / "idea.ipynb"
    write_notebook(source, [("", "1")])
    attempts(*died(2))
    foundations.execute(source, target)
    assert target.is_file()
    where = "book/foundations/idea.ipynb"
    again = "the kernel did not start (Kernel died before replying to kernel_info): trying again"
    assert capsys.readouterr().out == f"Executing {where}\n" + f"{where} | {again}\n" * 2
    calls = attempts(*died(3))
    with pytest.raises(
        foundations.ChapterFailed, match=rf"The kernel of {where} died \(RuntimeError: .*\)\."
    ):
        foundations.execute(source, target)
    assert len(calls) == 3
    calls = attempts(*died(2))
    with pytest.raises(execution.RunFailed, match="ended without a record"):  # papermill did nothing
        execution.execute(runs.read_profile("laptop")[0])
    assert len(calls) == 3 and capsys.readouterr().out.count(f"one | {again}") == 2
    calls = attempts(*died(), ran=True)
    with pytest.raises(
        execution.RunFailed, match=r"one: the kernel died, often for lack of memory \(Runtime"
    ):
        execution.execute(runs.read_profile("laptop")[0])
    assert len(calls) == 1


def test_a_kernel_inherits_this_interpreter_and_library_and_nothing_of_the_users_own(
    empty: Any, monkeypatch: Any
) -> None:
    for name in ("JUPYTER_PATH", "IPYTHONDIR", "PULLPUSH_OWN"):  # given back after the test
        monkeypatch.setenv(name, "the user's own")
    library = str(Path(kernels.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["one", library, "two"]))
    monkeypatch.setenv("PULLPUSH_DATA", "sets")
    for _ in range(2):  # as often as one likes
        kernels.prepare(PULLPUSH_OWN="this run")
        cache = empty.path / ".cache"
        assert os.environ["PULLPUSH_OWN"] == "this run"
        assert os.environ["JUPYTER_PATH"] == str(cache / "jupyter")
        assert os.environ["IPYTHONDIR"] == str(cache / "ipython") and (cache / "ipython").is_dir()
        assert os.environ["PYTHONPATH"].split(os.pathsep) == [library, "one", "two"]
        assert os.environ["PULLPUSH_DATA"] == str(empty.path / "sets")
    kernel = json.loads((cache / "jupyter" / "kernels" / "python3" / "kernel.json").read_text())
    assert kernel["argv"][0] == sys.executable and "--HistoryManager.enabled=False" in kernel["argv"]


def test_a_chapter_uses_no_kernel_of_the_users_own(
    chapter: Path, empty: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    own = tmp_path / "own" / "kernels" / "python3"
    own.mkdir(parents=True)
    kernel = {"argv": ["/bin/false"], "display_name": "Other", "language": "python"}
    (own / "kernel.json").write_text(json.dumps(kernel))
    for name in ("IPYTHONDIR", "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "own"))
    target = empty.path / "_build" / "idea.ipynb"
    foundations.execute(chapter, target)
    assert json.loads(target.read_text())["cells"][0]["outputs"][0]["text"] == ["42\n"]


def test_papermill_is_imported_without_a_grammar_that_no_notebook_needs() -> None:
    code = "import sys, pullpush.kernels, papermill; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
