"""Records: whole or absent, free of machine paths, and back as a table."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pullpush import records, runs


def finished(tree: Any, run: str = "one", profile: str = "laptop", **settings: Any) -> runs.Run:
    """A run with two seeds, in the place of a committed one."""
    os.environ["PULLPUSH_RUN"], os.environ["PULLPUSH_WORK"] = (
        run,
        str(records.run_folder(profile, "toy", run)),
    )
    try:
        begun = runs.begin("toy", {"profile": profile, "seeds": [0, 3], **settings})
    finally:
        del os.environ["PULLPUSH_RUN"], os.environ["PULLPUSH_WORK"]
    for seed in begun.seeds:
        begun.seed(
            seed,
            lambda seed: ({"accuracy": 0.5 + seed, "odd": math.nan, "far": math.inf}, {"z": np.arange(3.0)}),
        )
    begun.finish({"z": np.arange(6.0)}, {"train": "abc"})
    return begun


class TestFinish:
    def test_the_record_says_how_the_numbers_were_made(self, light: Any) -> None:
        run = finished(light, loss="triplet")
        record = light.record("one")
        assert record["schema"] == 1
        assert (record["study"], record["run"], record["profile"]) == ("toy", "one", "laptop")
        assert record["parameters"] == {
            "profile": "laptop", "seeds": [0, 3], "epochs": 2, "learning_rate": 0.1, "loss": "triplet",
            "flip": True,
            "limit": None, "device": "cpu", "nap": 0.0,
        }  # fmt: skip
        assert record["metrics"][1] == {"seed": 3, "accuracy": 3.5, "odd": None, "far": "inf"}
        assert len(record["seconds"]) == 2
        assert record["device"] == "cpu"
        assert record["threads"] >= 1
        assert record["device_name"]
        assert {"python", "torch", "numpy", "papermill"} <= set(record["versions"])
        assert record["data"] == {"train": "abc"}
        assert record["method"] == runs.fingerprint("toy")
        assert record["command"] == "pullpush run toy --profile laptop --name one"
        assert run.provenance()["seeds"] == [0, 3]

    def test_commit_and_dirty_are_those_of_the_code(self, light: Any) -> None:
        finished(light)
        assert light.record("one")["commit"] is None
        assert light.record("one")["dirty"] is None and records.differs("lib") is None
        light.commit()
        (light.path / "README.md").write_text("prose does not make numbers")
        finished(light)
        assert len(light.record("one")["commit"]) == 40
        assert light.record("one")["dirty"] is False
        (light.path / "lib").mkdir()
        (light.path / "lib" / "new.py").write_text("x = 1")
        finished(light)
        assert light.record("one")["dirty"] is True
        assert (records.differs("lib"), records.differs("book"), records.differs("book", "lib")) == (
            True,
            False,
            True,
        )

    def test_a_commit_may_be_told_where_there_is_no_git(
        self, light: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PULLPUSH_COMMIT", "abc123")
        finished(light)
        assert light.record("one")["commit"] == "abc123"

    def test_too_large_arrays_are_refused_by_how_much(self, light: Any) -> None:
        run = finished(light)
        noise = np.random.default_rng(0).random(50_000)
        with pytest.raises(
            ValueError, match=r"arrays.npz would be 3\d\d kB, \d+ kB over the limit of 300 kB"
        ):
            run.finish({"z": noise})

    def test_every_seed_is_needed(self, light: Any) -> None:
        run = runs.begin("toy", {"seeds": [0, 1]})
        run.seed(0, lambda seed: ({"a": 1.0}, {}))
        with pytest.raises(ValueError, match="Seeds 1 have no result: call run.seed for each of 0, 1"):
            run.finish()

    def test_data_must_be_those_it_began_with(self, light: Any) -> None:
        run = runs.begin("toy", {"seeds": [0]})
        run.uses({"train": "abc"})
        run.seed(0, lambda seed: ({"a": 1.0}, {}))
        with pytest.raises(ValueError, match="The data changed during the run"):
            run.finish({}, {"train": "xyz"})
        run.finish()
        assert json.loads((run.work / "record.json").read_text())["data"] == {"train": "abc"}

    def test_paths_of_this_machine_stay_here(self, light: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        light.write(parameters=PARAMETERS_WITH_DATA)
        home = light.path.parent / "home of me"
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("PULLPUSH_DATA", str(home / "sets"))
        for given, written in (
            (light.path / "mine", "./mine"),
            (home / "mine", "~/mine"),
            (home / "sets" / "mnist", "$PULLPUSH_DATA/mnist"),
        ):
            run = runs.begin("toy", {"data": str(given)})
            assert run.provenance()["parameters"]["data"] == written
            assert str(light.path.parent) not in json.dumps(run.provenance())


PARAMETERS_WITH_DATA = 'profile: Profile = "quick"\nseeds: list[int] = [0]\ndata: str = "digits"\n'


@pytest.mark.parametrize(
    ("text", "portable"),
    [
        ("{root}/lib/x.py", "./lib/x.py"),
        ('File "{root}/x.py", line 3', 'File "./x.py", line 3'),
        ("file://{root}/x.py", "./x.py"),
        ("{root}", "."),
        ("{root}-other/x", "{root}-other/x"),
        ("https://site{root}/x", "https://site{root}/x"),
        ("/tmp/ipykernel_4242/1234.py:3: UserWarning", "<cell>:3: UserWarning"),
        ("/private/var/folders/x_y/T/ipykernel_42/12.py", "<cell>"),
    ],
)
def test_portable(light: Any, text: str, portable: str) -> None:
    assert records.portable(text.format(root=light.path)) == portable.format(root=light.path)


class TestReading:
    def test_one_row_a_seed(self, light: Any) -> None:
        finished(light, "one", loss="pair")
        finished(light, "two", loss="triplet")
        finished(light, "default", profile="quick")
        table = runs.load_records()
        assert list(table.columns[:7]) == ["study", "run", "profile", "seed", "stale", "device", "seconds"]
        assert table.groupby(["profile", "run"]).size().to_dict() == {
            ("laptop", "one"): 2, ("laptop", "two"): 2, ("quick", "default"): 2,
        }  # fmt: skip
        row = table[(table.run == "two") & (table.seed == 3)].iloc[0]
        assert (row.loss, row.epochs, row.accuracy, row.far, row.seeds) == (
            "triplet",
            2,
            3.5,
            math.inf,
            [0, 3],
        )
        assert math.isnan(row.odd)
        assert not row.stale
        assert row.device == "cpu"
        assert len(runs.load_records("toy", "laptop")) == 4
        assert len(runs.load_records("toy", "paper")) == 0

    def test_no_record_is_an_empty_table(self, light: Any) -> None:
        table = runs.load_records()
        assert isinstance(table, pd.DataFrame)
        assert list(table.columns) == list(records.COLUMNS)
        with pytest.raises(ValueError, match=r"Unknown profile 'papr'\. Did you mean 'paper'"):
            runs.load_records(profile="papr")

    def test_a_changed_method_makes_a_record_stale(self, light: Any) -> None:
        finished(light)
        light.notebook.write_text(light.notebook.read_text().replace("size=4", "size=5"))
        assert runs.load_records().stale.all()
        light.notebook.unlink()
        assert runs.load_records().stale.all()

    def test_arrays(self, light: Any) -> None:
        finished(light)
        np.testing.assert_array_equal(runs.load_arrays("toy", "laptop", "one")["z"], np.arange(6.0))
        with pytest.raises(
            FileNotFoundError, match=r"No record of run 'ones' of toy in profile laptop\. Did you mean 'one'"
        ):
            runs.load_arrays("toy", "laptop", "ones")

    def test_a_damaged_record_is_named(self, light: Any) -> None:
        finished(light)
        path = records.run_folder("laptop", "toy", "one") / "record.json"
        text = path.read_text()
        path.write_text(text[:100])
        with pytest.raises(ValueError, match=r"one/record.json is not JSON .* Restore it from git"):
            runs.load_records()
        path.write_text(text.replace('"schema": 1', '"schema": 99'))
        with pytest.raises(ValueError, match="has schema 99; this version reads 1"):
            runs.load_records()


class TestWriting:
    def test_a_failed_write_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        records.write_atomically(tmp_path / "a", b"old")

        def fail(number: int) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            records.write_atomically(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"old"

    def test_json_is_strict(self, tmp_path: Path) -> None:
        records.write_json(tmp_path / "a.json", {"x": [math.nan, math.inf, -math.inf, 0.1]})
        stored = json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda name: pytest.fail(name))
        assert [records.number(value) for value in stored["x"][1:]] == [math.inf, -math.inf, 0.1]
        assert math.isnan(records.number(stored["x"][0]))

    @pytest.mark.parametrize("exchange", [True, False])
    def test_publish_replaces_a_folder_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
    ) -> None:
        if not exchange:  # a file system that cannot swap two folders

            def refuse(left: Path, right: Path) -> None:
                raise OSError(records.errno.EINVAL, "no")

            monkeypatch.setattr(records, "_exchange", refuse)
        for turn in ("old", "new"):
            whole = tmp_path / "whole"
            whole.mkdir()
            for name in records.FILES:
                (whole / name).write_text(turn)
            records.publish(whole, tmp_path / "deep" / "run")
            assert not whole.exists()
        found = {path.name: path.read_text() for path in (tmp_path / "deep" / "run").iterdir()}
        assert found == dict.fromkeys(records.FILES, "new")


class TestRoot:
    def test_the_nearest_repository_above(self, light: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PULLPUSH_ROOT")
        monkeypatch.chdir(light.path / "book" / "experiments")
        assert runs.root() == light.path

    def test_else_that_of_the_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PULLPUSH_ROOT", raising=False)
        monkeypatch.chdir(tmp_path)
        assert (runs.root() / "lib" / "pullpush" / "runs.py").is_file()
