"""Seeds are kept one by one, and never taken for those of another setting."""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from pullpush import runs


class Counted:
    """A one_seed that counts its calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, seed: int) -> tuple[Mapping[str, float], Mapping[str, np.ndarray]]:
        self.calls.append(seed)
        values = np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32)
        return {"mean": np.float32(values.mean()), "odd": math.nan}, {"values": values, "name": np.array("x")}


def begun(**given: Any) -> runs.Run:
    return runs.begin("toy", {"seeds": [0, 1], **given})


def test_a_finished_seed_is_loaded_bit_for_bit(light: Any, capsys: pytest.CaptureFixture[str]) -> None:
    train = Counted()
    first = [begun().seed(seed, train) for seed in (0, 1)]
    assert "loaded" not in capsys.readouterr().out
    run = begun()
    again = [run.seed(seed, train) for seed in (0, 1)]
    assert train.calls == [0, 1]
    assert "seed 0: loaded" in capsys.readouterr().out
    for one, two in zip(first, again, strict=True):
        assert (one.seed, one.loaded, two.loaded) == (two.seed, False, True)
        assert one.metrics["mean"] == two.metrics["mean"]
        assert math.isnan(two.metrics["odd"])
        assert one.arrays["values"].tobytes() == two.arrays["values"].tobytes()
        assert str(two.arrays["name"]) == "x"
        assert one.seconds == two.seconds
    assert [result.seed for result in run.seed_results] == [0, 1]


def test_one_more_seed_costs_only_that_seed(light: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLPUSH_RUN", "mine")
    train = Counted()
    for seeds in ([0, 1], [0, 1, 2]):
        run = begun(seeds=seeds)
        for seed in seeds:
            run.seed(seed, train)
    assert train.calls == [0, 1, 2]


@pytest.mark.parametrize("change", ["parameter", "method", "data"])
def test_another_identity_never_loads_them(
    light: Any, change: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PULLPUSH_RUN", "mine")
    train = Counted()
    run = begun()
    checkpoint = run.checkpoint(0)
    run.seed(0, train)
    if change == "method":
        light.notebook.write_text(light.notebook.read_text().replace("size=4", "size=5"))
    run = begun(learning_rate=0.2) if change == "parameter" else begun()
    if change == "data":
        run.uses({"train": "other images"})
    assert run.checkpoint(0) != checkpoint
    capsys.readouterr()
    run.seed(0, train)
    assert train.calls == [0, 0]
    assert (
        capsys.readouterr().out
        == "Seeds kept by this run with other parameters, data or code are not used.\n"
    )


def test_a_crash_keeps_the_seeds_before_it(light: Any) -> None:
    train = Counted()

    def crash(seed: int) -> Any:
        raise RuntimeError("out of memory")

    run = begun()
    run.seed(0, train)
    with pytest.raises(RuntimeError):
        run.seed(1, crash)
    run = begun()
    assert [run.seed(seed, train).loaded for seed in (0, 1)] == [True, False]


def test_the_checkpoint_goes_once_the_seed_is_kept(light: Any) -> None:
    run = begun()

    def train(seed: int) -> Any:
        run.checkpoint(seed).write_bytes(b"state")
        return {"a": 1.0}, {}

    run.seed(0, train)
    assert list(run.checkpoint(0).parent.iterdir()) == []


def test_seconds_count_the_sessions_that_were_cut_off(light: Any) -> None:
    run = begun()

    def cut_off(seed: int) -> Any:
        time.sleep(0.2)
        run.checkpoint(seed).write_bytes(b"state")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.seed(0, cut_off)
    result = begun().seed(0, lambda seed: ({"a": 1.0}, {}))
    assert 0.15 < result.seconds < 1.0


@pytest.mark.parametrize(
    ("metrics", "arrays", "message"),
    [
        ({"loss": 1.0}, {}, "Metric 'loss' of seed 0 has the name of a parameter or a column"),
        ({"seconds": 1.0}, {}, "Metric 'seconds' of seed 0 has the name"),
        ({"a": [1.0, 2.0]}, {}, "Metric 'a' of seed 0 is list, not a number"),
        ({"a": "high"}, {}, "Metric 'a' of seed 0 is str, not a number"),
        ({"a": 1.0}, {"x": [{"a": 1}]}, "Array 'x' holds Python objects"),
    ],
)
def test_what_a_seed_may_give(light: Any, metrics: Any, arrays: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        begun().seed(0, lambda seed: (metrics, arrays))


def test_only_the_seeds_of_the_run(light: Any) -> None:
    with pytest.raises(ValueError, match=r"seed=7 is not one of this run's seeds 0, 1\."):
        begun().seed(7, Counted())


def test_scratch_lives_until_the_seed_is_kept(light: Any) -> None:
    """Snapshots of a training that was cut off are there when it goes on."""
    (begun().scratch(0) / "1.npy").write_bytes(b"a snapshot")
    run = begun()

    def goes_on(seed: int) -> tuple[Mapping[str, float], Mapping[str, np.ndarray]]:
        return {"size": (run.scratch(seed) / "1.npy").stat().st_size}, {}

    assert run.seed(0, goes_on).metrics["size"] == 10
    assert not any(run.checkpoint(0).parent.iterdir())


def test_given_parameters_without_effect_are_told(light: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = begun(flip=False, epochs=5)
    capsys.readouterr()
    run.without_effect(flip=True, limit=True, epochs=False)  # limit is at its default, epochs has an effect
    assert capsys.readouterr().out == "flip=False has no effect beside the other parameters of this run.\n"
