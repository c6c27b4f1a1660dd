"""A record survives a change of code that changes no number, at the cost of one seed."""

import shutil
from typing import Any

import pytest

from pullpush import runs


@pytest.fixture
def recorded(light: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two laptop runs with records, by a committed method; run once, then copied."""
    kept = tmp_path_factory.getbasetemp() / "recorded"
    if not kept.is_dir():
        light.commit()
        code, printed = light.pullpush("run", "--profile", "laptop")
        assert code == 0, printed
        shutil.copytree(light.path, kept)
    shutil.copytree(kept, light.path, dirs_exist_ok=True)
    return light


def change(tree: Any, old: str, new: str) -> None:
    text = tree.notebook.read_text()
    assert old in text
    tree.notebook.write_text(text.replace(old, new))


def test_equal_numbers_keep_the_record(recorded: Any) -> None:
    before = recorded.record("one")
    change(recorded, "weight @ weight, ", "(weight * weight).sum() if False else weight @ weight, ")
    assert runs.load_records().stale.all()
    code, printed = recorded.pullpush("run", "--profile", "laptop", "--recheck", "-j", "2")
    assert code == 0, printed
    assert "two | equal to the last bit: the record holds for today's code" in printed
    assert not runs.load_records().stale.any()
    after = recorded.record("one")
    (check,) = after.pop("rechecks")
    assert after == before  # who made the numbers, and when, is still told
    assert check["seed"] == 0
    assert check["method"] == runs.fingerprint("toy") != before["method"]
    assert recorded.pullpush("run", "--profile", "laptop", "--rerun", "stale", "--list") == (0, "")
    assert recorded.pullpush("run", "--profile", "laptop", "--recheck", "--list") == (0, "")
    status = recorded.status()
    assert "recheck" not in status


def test_another_number_leaves_it_stale_and_is_told(recorded: Any) -> None:
    before = recorded.record("one")
    change(recorded, "normal(size=4)", "normal(size=4) * 2")
    code, printed = recorded.pullpush("run", "toy", "--profile", "laptop", "--name", "one", "--recheck")
    assert code == 1
    assert "one | differs, so the record stays as it was: last 0.0" in printed
    assert recorded.record("one") == before
    assert runs.load_records().stale.all()


def test_a_later_change_makes_it_stale_again(recorded: Any) -> None:
    change(recorded, "return {", "weight = weight + 0\\n    return {")
    assert recorded.pullpush("run", "--profile", "laptop", "--recheck")[0] == 0
    change(recorded, "weight = weight + 0", "weight = weight + 1")
    assert runs.load_records().stale.all()


def test_a_run_without_a_record_has_nothing_to_check(light: Any) -> None:
    code, printed = light.pullpush("run", "toy", "--profile", "laptop", "--name", "one", "--recheck")
    assert code == 2
    assert "Error: one has no record with these parameters: run it without --recheck." in printed


def test_measured_time_is_not_compared(light: Any) -> None:
    change(light, "return {", 'import time\\n    return {\\"train_seconds\\": time.perf_counter(), ')
    light.commit()
    one = ("run", "toy", "--profile", "laptop", "--name", "one")
    assert light.pullpush(*one)[0] == 0
    change(light, "weight @ weight, ", "(weight * weight).sum() if False else weight @ weight, ")
    code, printed = light.pullpush(*one, "--recheck")
    assert code == 0, printed
    assert not runs.load_records().stale.any()
