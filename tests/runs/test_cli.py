"""The command line, as a reader types it."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from pullpush import data, execution, matrix, records, results, runs
from pullpush.cli import app

runner = CliRunner()


def call(*arguments: str) -> tuple[int, str]:
    """Exit code and everything printed, in this process."""
    result = runner.invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


class TestMistakes:
    """None of these starts a kernel."""

    @pytest.fixture(autouse=True)
    def _no_kernel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("a kernel would start"))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ("toy", "-p", "losss", "pair"),
                "Unknown parameter 'losss'. Did you mean 'loss' (one of pair, triplet",
            ),
            (("toy", "-p", "loss", "tripel"), "loss='tripel' is not allowed"),
            (("toy", "-p", "epochs", "-3"), "epochs='-3' is not allowed. 'epochs' takes int, above 0."),
            (("toy", "-p"), "-p needs a name and a value: -p NAME VALUE."),
            (("toy", "-p", "epochs"), "epochs='' is not allowed"),
            (("toi",), "Unknown study 'toi': no such notebook. Did you mean 'toy'?"),
            (("toy", "--profile", "papr"), "Unknown profile 'papr'. There are: laptop."),
            (("toy", "--profile", "papr", "-p", "epochs", "2"), "profile='papr' is not allowed"),
            (("toi", "--profile", "laptop"), "No study 'toi' in profile laptop. Did you mean 'toy'?"),
            (
                ("toy", "--profile", "laptop", "--name", "tow"),
                "No run 'tow' of toy in profile laptop. Did you mean 'two'?",
            ),
            (
                ("toy", "--profile", "laptop", "--name", "two", "-p", "epochs", "9"),
                "Give yours another --name",
            ),
            (
                ("toy", "--profile", "laptop", "-p", "profile", "quick"),
                "--profile laptop and -p profile quick differ",
            ),
            (("toy", "--name", "../x", "-p", "epochs", "9"), "--name: '../x' cannot name a run"),
            (
                ("toy", "--out", "book"),
                "book holds experiments; name a new folder, as all in it is replaced.",
            ),
            (("toy", "--out", "papermill_runs/laptop.yaml"), "laptop.yaml is a file; name a folder."),
            (("--profile", "laptop", "--name", "one"), "-p, --name and --out are for a single run"),
            (
                ("--profile", "laptop", "--rerun", "tow"),
                "No run 'tow' in profile laptop. Did you mean 'two'?",
            ),
            (("-j", "2"), "Name a study, or a profile with --profile quick, laptop or paper."),
        ],
    )
    def test_one_sentence_and_exit_code_2(self, light: Any, arguments: tuple[str, ...], message: str) -> None:
        code, printed = call("run", *arguments)
        assert code == 2
        assert message in printed
        assert printed.startswith("Error: ")
        assert "Traceback" not in printed


class TestDataOfARun:
    """A run names its data; what is wrong with it is one sentence, before a kernel where it can be."""

    @pytest.fixture
    def study(self, light: Any) -> Any:
        """The toy study, which now loads images."""
        parameters = json.loads(light.notebook.read_text())["cells"][0]["source"]
        begin = "from pullpush import data as sets, runs\nrun = runs.begin('toy', globals())\n"
        begin += "sets.load(data, limit=limit)"
        data_line = 'data: str = "digits"  # its name\n'
        light.write(parameters=parameters + data_line, begin=begin, method="", finish="")
        return light

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("mnst", "Unknown data 'mnst'. Did you mean 'mnist'?"),
            ("crops", "crops needs the folder "),
            ("pictures/of/mine", "There is no folder pictures/of/mine: give the folder"),
            ("own.csv", "Unknown data 'own.csv'."),
        ],
    )
    def test_it_is_missing(
        self, study: Any, monkeypatch: pytest.MonkeyPatch, given: str, message: str
    ) -> None:
        monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("a kernel would start"))
        code, printed = call("run", "toy", "-p", "data", given, "--data-root", "nowhere")
        assert code == 2
        assert printed.startswith(f"Error: {message}") and "Traceback" not in printed

    def test_a_study_of_rows_takes_tables(self, study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []
        monkeypatch.setattr(data, "check_table", asked.append)
        text = study.notebook.read_text()
        plan = matrix.planned("toy", {"profile": "quick", "data": "pendigits"}, "mine")
        with pytest.raises(ValueError, match="Unknown data 'pendigits'"):
            execution.check_data(plan)
        study.notebook.write_text(text.replace("sets.load(", "sets.load_table("))
        execution.check_data(plan)
        assert asked == ["pendigits"]

    def test_what_can_be_fetched_is_fetched_and_else_told(
        self, study: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def absent(name: str) -> None:
            raise data.DataError("no network: copy the files")

        plan = matrix.planned("toy", {"profile": "quick", "data": "mnist"}, "mine")
        fetched: list[str] = []
        monkeypatch.setattr(data, "check", absent)
        monkeypatch.setattr(data, "load", fetched.append)
        execution.check_data(plan)
        assert fetched == ["mnist"]
        monkeypatch.setattr(data, "load", absent)
        with pytest.raises(execution.RunFailed, match=r"^no network: copy the files$"):
            execution.check_data(plan)
        monkeypatch.setattr(data, "load", lambda name: pytest.fail("the default is embedded"))
        execution.check_data(matrix.planned("toy", {"profile": "quick", "data": "digits"}, "mine"))

    def test_a_folder_is_meant_as_the_kernel_will_see_it(
        self, study: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (study.path / "weeds").mkdir()
        (study.path / "elsewhere").mkdir()
        monkeypatch.chdir(study.path / "elsewhere")
        execution.check_data(matrix.planned("toy", {"profile": "quick", "data": "weeds"}, "mine"))

    def test_no_traceback_for_a_sentence_about_data(self, study: Any) -> None:
        code, printed = study.pullpush("run", "toy", "--name", "mine", "-p", "limit", "5000")
        assert code == 1 and "Traceback" not in printed and "sets.load" not in printed
        assert "Error: mine failed: limit=5000 is not possible for digits (train), which has 1,437" in printed


class TestHelp:
    def test_a_study_lists_its_parameters(self, light: Any) -> None:
        code, printed = call("run", "toy", "--help")
        assert code == 0
        assert "epochs = 2  (int, above 0)" in printed
        assert "step size" in printed

    def test_without_arguments(self) -> None:
        assert "run" in call()[1]
        assert "--profile" in call("run")[1]
        assert "--profile" in call("run", "--help")[1]


class TestWhichRun:
    """What `pullpush run` would execute, seen where it hands over."""

    @pytest.fixture(autouse=True)
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[matrix.Planned]:
        asked: list[matrix.Planned] = []

        def fail(run: matrix.Planned, **_: Any) -> None:
            asked.append(run)
            raise execution.RunFailed("not in this test")

        monkeypatch.setattr(execution, "execute", fail)
        return asked

    def test_pairs_and_equal_signs(self, light: Any, asked: list[matrix.Planned]) -> None:
        call(
            "run",
            "toy",
            "-p",
            "loss",
            "triplet",
            "--parameter",
            "flip",
            "false",
            "-p",
            "epochs=4",
            "-p",
            "nap",
            "0.5",
        )
        (run,) = asked
        assert (run.profile, run.name[:4]) == ("quick", "own-")
        assert run.parameters == {
            "profile": "quick", "seeds": [0, 1], "epochs": 4, "learning_rate": 0.1, "loss": "triplet",
            "flip": False, "limit": None, "device": "cpu", "nap": 0.5,
        }  # fmt: skip

    def test_a_name_of_the_profile_brings_its_parameters(
        self, light: Any, asked: list[matrix.Planned]
    ) -> None:
        call("run", "toy", "--profile", "laptop", "--name", "two")
        call("run", "toy", "-p", "loss", "triplet", "-p", "epochs", "3", "--profile", "laptop")
        assert asked == [runs.read_profile("laptop")[1]] * 2

    def test_a_name_of_ones_own(self, light: Any, asked: list[matrix.Planned]) -> None:
        code, printed = call("run", "toy", "-p", "loss", "triplet", "--name", "mine")
        assert (asked[0].name, asked[0].parameters["loss"]) == ("mine", "triplet")
        assert (code, printed) == (1, "Error: not in this test\n")

    def test_list(self, light: Any, asked: list[matrix.Planned]) -> None:
        assert call("run", "--profile", "laptop", "--list") == (0, "toy/one\ntoy/two\n")
        assert call("run", "toy", "--profile", "laptop", "--list") == (0, "toy/one\ntoy/two\n")
        assert call("run", "toy", "-p", "epochs", "3", "--profile", "laptop", "--list") == (0, "toy/one\n")
        plan = light.path / "papermill_runs" / "laptop.yaml"
        light.profile("laptop", plan.read_text().replace("one: {", "one: {needs: hours, "))
        code, printed = call("run", "--profile", "laptop", "--list")
        assert (code, printed.splitlines()[-1]) == (0, "toy/two")
        assert "as they go beyond the hours of laptop: one." in printed
        assert call("run", "--profile", "laptop", "--hours", "--list") == (0, "toy/one\ntoy/two\n")
        assert asked == []


def test_a_run_from_the_terminal(light: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Another kernelspec called python3 is not used, and no path of the machine is kept."""
    other = tmp_path_factory.mktemp("jupyter")
    (other / "kernels" / "python3").mkdir(parents=True)
    kernel = {"argv": ["/bin/false"], "display_name": "Other", "language": "python"}
    (other / "kernels" / "python3" / "kernel.json").write_text(json.dumps(kernel))
    light.environment |= {"JUPYTER_PATH": str(other), "PULLPUSH_DATA": str(light.path.parent / "sets")}
    light.write(
        begin="import warnings, os, sys, pathlib\nwarnings.warn(os.environ['PULLPUSH_DATA'])\n"
        "print(sys.executable)\nprint(pathlib.Path.cwd())\n"
        "from pullpush import runs\nrun = runs.begin('toy', globals())",
        method="for seed in seeds:\n    run.seed(seed, lambda seed: ({'a': seed + flip}, {}))\n"
        "print(end='\\r 10 %\\rdone\\n')",
        finish="run.finish()",
    )
    code, printed = light.pullpush(
        "run", "toy", "-p", "flip", "false", "-p", "seeds", "4,5", "--name", "mine"
    )
    assert code == 0, printed
    assert sys.executable in printed
    assert "mine | started" in printed
    assert "mine | a 4.5 (mean of 2 seeds)" in printed
    assert "mine | _build/quick/toy/mine" in printed
    record = light.record("mine", "quick")
    assert record["parameters"]["flip"] is False
    assert record["metrics"] == [{"seed": 4, "a": 4.0}, {"seed": 5, "a": 5.0}]
    assert record["command"] == "pullpush run toy -p seeds '[4, 5]' -p flip False"
    folder = light.path / "_build" / "quick" / "toy" / "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", "record.json", "run.ipynb"]
    for name in ("run.ipynb", "record.json"):
        text = (folder / name).read_text()
        assert not re.search(
            rf"{light.path.parent}|{Path.home()}/|{re.escape(sys.prefix)}|input_path|output_path", text
        )
    notebook = json.loads((folder / "run.ipynb").read_text())
    printed = "".join(
        line for cell in notebook["cells"] for output in cell["outputs"] for line in output["text"]
    )
    assert "UserWarning: $PULLPUSH_DATA" in printed
    assert "<cell>:2:" in printed
    assert printed.endswith("\ndone\n")


def test_printed_lines_are_joined() -> None:
    streams = [
        ("stdout", "a\n"),
        ("stdout", "b"),
        ("stdout", "c\n"),
        ("stderr", "1 %\r2 %\r\n"),
        ("stdout", "d\n"),
    ]
    outputs = [{"output_type": "stream", "name": name, "text": text} for name, text in streams]
    outputs.insert(3, {"output_type": "display_data", "data": {}})
    cells = [{"cell_type": "code", "outputs": outputs}, {"cell_type": "markdown"}]
    cleaned = json.loads(execution.clean_notebook(json.dumps({"metadata": {}, "cells": cells})))
    found = [output.get("text") for output in cleaned["cells"][0]["outputs"]]
    assert found == [["a\n", "bc\n"], None, ["2 %\n"], ["d\n"]]


def test_brief_notebooks_keep_the_last_line_of_each_training() -> None:
    text = "".join(f"epoch {i}/{n}  loss 0.{i}\n" for n in (2, 12) for i in range(1, n + 1))
    text += "accuracy 1\n"
    metadata = {"tags": ["method"], "papermill": {"duration": 1.0}, "execution": {"shell": "now"}}
    output = {"output_type": "stream", "name": "stdout", "text": text}
    cells = [{"cell_type": "code", "metadata": metadata, "outputs": [output]}]
    full, brief = (
        json.loads(execution.clean_notebook(json.dumps({"metadata": {}, "cells": cells}), brief=brief))
        for brief in (False, True)
    )
    assert len(full["cells"][0]["outputs"][0]["text"]) == 15
    kept = ["epoch 2/2  loss 0.2\n", "epoch 12/12  loss 0.12\n", "accuracy 1\n"]
    assert brief["cells"][0]["outputs"][0]["text"] == kept
    assert brief["cells"][0]["metadata"] == {"tags": ["method"]}


def test_out_and_an_error_in_a_cell(light: Any, tmp_path: Path) -> None:
    light.write(
        begin="from pullpush import runs\nrun = runs.begin('toy', globals())\n1 / 0", method="", finish=""
    )
    code, printed = light.pullpush(
        "run", "toy", "--name", "mine", "-p", "epochs", "3", "--out", str(tmp_path / "out")
    )
    assert code == 1
    assert "Error: mine failed: ZeroDivisionError: division by zero" in printed
    assert "The notebook up to there: .cache/runs/quick/toy/mine/run.ipynb" in printed
    assert "the same command goes on" in printed
    assert not (tmp_path / "out").exists()
    light.write(begin="from pullpush import runs\nrun = runs.begin('toy', globals())", method="", finish="")
    code, printed = light.pullpush("run", "toy", "--name", "mine", "-p", "epochs", "3")
    assert (code, "ended without a record: its notebook must call run.finish." in printed) == (1, True)


def test_plain_papermill(light: Any) -> None:
    """papermill knows no schema; the notebook itself coerces and refuses."""
    papermill = (sys.executable, "-m", "papermill", str(light.notebook), "out.ipynb", "--log-output")
    code, printed = light.call(
        *papermill, "-p", "flip", "false", "-p", "seeds", "[7]", "-p", "learning_rate", "1"
    )
    assert code == 0, printed
    (path,) = (light.path / ".cache" / "runs" / "quick" / "toy").glob("own-*/record.json")
    parameters = json.loads(path.read_text())["parameters"]
    assert (parameters["flip"], parameters["seeds"], parameters["learning_rate"]) == (False, [7], 1.0)
    code, printed = light.call(*papermill, "-p", "losss", "pair")
    assert code != 0
    assert "Unknown parameter 'losss'. Did you mean 'loss'" in printed


class TestData:
    def test_list_where_check_download(self, tmp_path: Path) -> None:
        code, printed = call("data", "list", "--data-root", str(tmp_path))
        assert code == 0
        assert "digits          here" in printed
        assert f"absent: pullpush data download mnist --data-root {tmp_path}\n" in printed
        assert "crops           absent: no public download (pullpush data check crops)\n" in printed
        assert call("data", "where", "--data-root", str(tmp_path)) == (0, f"{tmp_path}\n")
        assert call("data", "check", "digits") == (0, "digits is whole.\n")
        assert call("data", "download", "digits") == (0, "digits is whole.\n")
        code, printed = call("data", "check", "digits", "mnist", "--data-root", str(tmp_path))
        assert code == 1
        assert "digits is whole." in printed
        assert "pullpush data download mnist" in printed and "mnist: mnist:" not in printed
        code, printed = call("data", "download", "mnits")
        assert code == 2
        assert "mnist" in printed

    def test_images_tables_and_folders_are_each_checked_as_what_they_are(self, tmp_path: Path) -> None:
        (tmp_path / "weeds").mkdir()
        (tmp_path / "own.csv").write_text("a,label\n1,x\n2,y\n3,x\n4,y\n")
        given = ("data", "check", "digits", "own.csv", "weeds", "pendigits", "--data-root", str(tmp_path))
        code, printed = call(*given)
        assert code == 1
        first, second, third, missing = printed.splitlines()
        assert [first, second, third] == [f"{name} is whole." for name in ("digits", "own.csv", "weeds")]
        assert missing.startswith("pendigits: ") and "pullpush data download pendigits" in missing
        code, printed = call("data", "check", "weedz", "--data-root", str(tmp_path))
        assert code == 2 and "give the path of their folder" in printed

    def test_a_folder_is_packed_into_a_file_to_train_on(self, tmp_path: Path) -> None:
        for name in ("oats", "wheat"):
            (tmp_path / "own" / name).mkdir(parents=True)
            for i in range(5):
                Image.new("RGB", (20, 10 + i), (i, 90, 9)).save(tmp_path / "own" / name / f"{i}.png")
        given = ("data", "pack", str(tmp_path / "own"), str(tmp_path / "set.npy"))
        code, printed = call(*given, "--size", "8x12")
        assert code == 0 and "set.npy holds 10 images of 2 classes." in printed
        assert f"pullpush run claws -p data {tmp_path / 'set.npy'}" in printed
        assert call("data", "check", str(tmp_path / "set.npy"))[0] == 0
        whole = (tmp_path / "set.npy").read_bytes()
        (tmp_path / "set.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        code, printed = call("data", "check", str(tmp_path / "set.npy"))
        assert code == 1 and "was altered" in printed
        (tmp_path / "set.npy").write_bytes(whole)
        for size, told in {
            "8": "not height x width",
            "ax9": "not height x width",
            "0x9": "at least 1 pixel",
        }.items():
            code, printed = call(*given, "--size", size)
            assert code == 2 and told in " ".join(printed.split())
        code, printed = call("data", "pack", str(tmp_path / "none"), str(tmp_path / "x"))
        assert code == 2 and "none" in printed

    def test_a_set_that_cannot_be_had(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(name: str, root: Path | None) -> Path:
            raise data.DataError("no network: copy the files")

        monkeypatch.setattr(data, "download", fail)
        assert call("data", "download", "mnist") == (2, "Error: no network: copy the files\n")


def test_one_set_that_cannot_be_had_does_not_keep_the_others_away(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(name: str, root: Path | None) -> None:
        asked.append(name)
        if name == "crops":
            raise data.DataError("crops has no home")

    monkeypatch.setattr(data, "download_table", fetch)
    code, printed = call("data", "download")
    assert code == 2 and asked == list(data.table_names())
    assert printed.count("Error: ") == 1 and "Error: crops has no home\n" in printed
    assert printed.count(" is whole.") == len(asked) - 1


def test_results_writes_pages_or_tells_which_are_out_of_date(
    light: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def write(check: bool) -> list[Path]:
        asked.append(check)
        return [records.root() / "README.md"]

    monkeypatch.setattr(results, "write", write)
    assert call("results") == (0, "written: README.md\n")
    assert call("results", "--check") == (1, "out of date: README.md\n")
    assert asked == [False, True]


def test_laptop_runs_leave_out_the_cells_for_teaching(light: Any) -> None:
    notebook = json.loads(light.notebook.read_text())
    shown = {**notebook["cells"][0], "id": "shown", "metadata": {"tags": ["teaching"]}}
    notebook["cells"].insert(2, shown | {"source": 'print("a picture")\n'})
    prose = {"cell_type": "markdown", "metadata": {}}
    notebook["cells"].insert(1, prose | {"id": "told", "source": ["## A heading\n", "\n", "and its text"]})
    notebook["cells"].insert(1, prose | {"id": "more", "source": "more text"})
    light.notebook.write_text(json.dumps(notebook))
    assert "a picture" not in light.pullpush("run", "toy", "--profile", "laptop", "--name", "one")[1]
    recorded = json.loads((records.run_folder("laptop", "toy", "one") / "run.ipynb").read_text())
    texts = ["".join(cell["source"]) for cell in recorded["cells"] if cell["cell_type"] == "markdown"]
    assert texts == ["## A heading"]
    assert "a picture" in light.pullpush("run", "toy", "-p", "epochs", "3")[1]
