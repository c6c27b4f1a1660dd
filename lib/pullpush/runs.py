"""A run of a study: its parameters, its seeds kept one by one, its record.

In a notebook, after the cell tagged `parameters`:

    from pullpush import runs
    run = runs.begin("pair_vs_triplet", globals())
    for seed in seeds:
        run.seed(seed, one_seed)  # one_seed(seed) -> (metrics, arrays); a finished seed is loaded
    run.finish({"embedding": run.seed_results[0].arrays["z"]}, {"train": train.digest})

The same cells work under `pullpush run`, plain papermill, Jupyter and nbval. A run is known by its identity:
study, method fingerprint and every parameter except `seeds`. Kept seeds and checkpoints of another identity
are never loaded.
"""

import dataclasses
import datetime
import hashlib
import io
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np

from pullpush import records
from pullpush.fingerprint import edited
from pullpush.matrix import Planned, pending, planned, read_profile
from pullpush.parameters import (
    Approach,
    Arm,
    Assignment,
    Backbone,
    Clusterer,
    Descent,
    Device,
    EdgeLoss,
    Encoder,
    Features,
    Gate,
    GateSource,
    Judge,
    LabelInput,
    Loss,
    MaskOf,
    Measured,
    Method,
    Mining,
    Negatives,
    Objective,
    ParameterError,
    Positives,
    Precision,
    Prior,
    Profile,
    Projection,
    Schedule,
    Schema,
    Share,
    Split,
    Strength,
    Temperature,
    Views,
    injected_names,
    read_notebook,
    read_schema,
)
from pullpush.records import (
    Record,
    fingerprint,
    load_arrays,
    load_records,
    notebook_path,
    open_record,
    root,
    run_folder,
    work_folder,
)

__all__ = [
    "Approach", "Arm", "Assignment", "Backbone", "Clusterer", "Descent", "Device", "EdgeLoss", "Encoder",
    "Features", "Gate", "GateSource", "Judge", "LabelInput", "Loss", "MaskOf", "Measured", "Method",
    "Mining", "Negatives", "Objective", "ParameterError", "Planned", "Positives", "Precision", "Prior",
    "Profile", "Projection", "Record", "Run", "Schedule", "SeedResult", "Share", "Split", "Strength",
    "Temperature", "Views", "begin", "fingerprint", "load_arrays", "load_records", "notebook_path",
    "open_record", "pending", "read_profile", "root", "run_folder", "work_folder",
]  # fmt: skip

OneSeed = Callable[[int], tuple[Mapping[str, float], Mapping[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """What one seed gave. `loaded`: kept by an earlier run of the same identity."""

    seed: int
    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]
    seconds: float
    loaded: bool


def begin(study: str, namespace: MutableMapping[str, Any]) -> "Run":
    """Check the parameters of a notebook, write them back coerced, and open its run.

    `namespace` is the notebook's globals(). Raises ParameterError for a value out of range and for a name
    that papermill injected although the study does not have it.
    """
    schema = read_schema(notebook_path(study))
    schema.check_names(injected_names(_executed_cells()))
    parameters = schema.validate({name: namespace[name] for name in schema.names if name in namespace})
    namespace.update(parameters)
    plan = planned(study, parameters, os.environ.get("PULLPUSH_RUN"))
    work = Path(os.environ.get("PULLPUSH_WORK") or work_folder(plan.profile, study, plan.name))
    print(f"{study}, run {plan.name}, profile {plan.profile}, seeds {_listed(parameters['seeds'])}")
    return Run(plan, work, _command(plan, schema))


def _command(plan: Planned, schema: Schema) -> str:
    """How to execute a run again."""
    known = [(run.study, run.name) for run in read_profile(plan.profile, missing_ok=True)]
    if (plan.study, plan.name) in known:
        return f"pullpush run {plan.study} --profile {plan.profile} --name {plan.name}"
    words = ["pullpush", "run", plan.study]
    for name, value in schema.changed(plan.parameters).items():
        words += ["-p", name, str(_portable(value))]
    return shlex.join(words)


def _executed_cells() -> list[str]:
    """Sources of the cells that this kernel has executed, oldest first; none outside IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return list(shell.history_manager.input_hist_raw) if shell else []


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


class Run:
    """One setting, several seeds. Made by `begin`."""

    def __init__(self, plan: Planned, work: Path, command: str) -> None:
        self.study, self.name, self.profile = plan.study, plan.name, plan.profile
        self.parameters, self.work, self.command = plan.parameters, work, command
        # All of this is taken at the start: notebook and library may be worked on while a long run goes on.
        self.method = fingerprint(self.study)
        self.notebook = read_notebook(notebook_path(self.study))
        self.source = records.source_state()
        self.data: dict[str, str] = {}
        self._results: dict[int, SeedResult] = {}
        self._edited = ""

    @property
    def seeds(self) -> list[int]:
        return list(self.parameters["seeds"])

    @property
    def identity(self) -> str:
        """Sixteen hex digits of everything that the result of a seed depends on, the seed aside."""
        setting = {name: value for name, value in self.parameters.items() if name != "seeds"}
        code = [self.study, self.method, edited(self.notebook, _executed_cells())]
        return _digest([*code, setting, self.data])[:16]

    def uses(self, data: Mapping[str, str]) -> None:
        """Make digests of the data ({"train": images.digest}) part of the identity, before the first seed."""
        self.data = dict(data)

    def checkpoint(self, seed: int) -> Path:
        """Where training keeps its state of this seed; removed once the seed is kept."""
        path = self.work / "checkpoints" / self.identity / f"seed-{seed}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def scratch(self, seed: int) -> Path:
        """A folder for what training wants to keep on the way, such as snapshots; it lives as long as the
        checkpoint does.
        """
        path = self.checkpoint(seed).with_suffix("")
        path.mkdir(exist_ok=True)
        return path

    def seed(self, seed: int, one_seed: OneSeed) -> SeedResult:
        """The metrics and arrays of `one_seed(seed)`: kept on disk at once, loaded if they are there already.

        Metrics are numbers, nan included; their names must differ from the parameters'. Raises ValueError
        otherwise, or for a seed that is not among the run's seeds.
        """
        if seed not in self.seeds:
            raise ValueError(f"seed={seed} is not one of this run's seeds {_listed(self.seeds)}.")
        kept = self._kept(seed)
        if not self._results:
            self._tell_of_others(kept.parent)
        if kept.is_file():
            result = _load_seed(kept, seed)
            print(f"seed {seed}: loaded, as it was finished before with the same parameters and code")
        else:
            clock = _Clock(self.checkpoint(seed))
            metrics, arrays = one_seed(seed)
            result = SeedResult(
                seed, self._numbers(metrics, seed), _arrays(arrays), clock.seconds(), loaded=False
            )
            records.write_atomically(kept, _dump_seed(result))
            clock.remove()
            shutil.rmtree(self.checkpoint(seed).with_suffix(""), ignore_errors=True)
        self._results[seed] = result
        self._edited = self._edited or edited(self.notebook, _executed_cells())
        return result

    @property
    def seed_results(self) -> list[SeedResult]:
        """The finished seeds, in the order of the parameter."""
        return [self._results[seed] for seed in self.seeds if seed in self._results]

    def finish(
        self, arrays: Mapping[str, np.ndarray] | None = None, data: Mapping[str, str] | None = None
    ) -> None:
        """Write arrays.npz, then record.json.

        arrays: what a results page draws, at most 300 kB compressed. data: digests of the data sets, by role.
        Raises ValueError when a seed is missing, the arrays are too large, or the data are not those given to
        `uses`.
        """
        missing = [seed for seed in self.seeds if seed not in self._results]
        if missing:
            raise ValueError(
                f"Seeds {_listed(missing)} have no result: call run.seed for each of {_listed(self.seeds)}."
            )
        if self.data and data is not None and dict(data) != self.data:
            raise ValueError(
                f"The data changed during the run: it began with {self.data} and ends with {dict(data)}."
            )
        packed = _pack(_arrays(arrays or {}))
        if len(packed) > records.ARRAYS_LIMIT:
            over = (len(packed) - records.ARRAYS_LIMIT) / 1000
            raise ValueError(
                f"arrays.npz would be {len(packed) / 1000:.0f} kB, {over:.0f} kB over the limit of "
                f"{records.ARRAYS_LIMIT // 1000} kB. Keep fewer points, or round to float16."
            )
        record = {"schema": records.SCHEMA, **self.provenance()}
        del record["seeds"]
        record |= {
            "metrics": [{"seed": result.seed, **result.metrics} for result in self.seed_results],
            "data": dict(data or self.data),
            "method": f"edited-{self._edited}" if self._edited else self.method,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        self.work.mkdir(parents=True, exist_ok=True)
        records.write_atomically(self.work / "arrays.npz", packed)
        records.write_json(self.work / "record.json", record)
        if "PULLPUSH_WORK" not in os.environ:
            print(f"recorded in {records.portable(str(self.work))}")

    def without_effect(self, **idle: bool) -> None:
        """Print a sentence for each parameter off its default that has no effect in this run.

        idle: name of a parameter -> whether the others leave it without effect.
        """
        changed = read_schema(notebook_path(self.study)).changed(self.parameters)
        for name in (name for name in changed if idle.get(name)):
            print(f"{name}={changed[name]!r} has no effect beside the other parameters of this run.")

    def provenance(self) -> dict[str, Any]:
        """What a figure or a record says about its origin."""
        return {
            "study": self.study,
            "run": self.name,
            "profile": self.profile,
            "parameters": {name: _portable(value) for name, value in self.parameters.items()},
            "seeds": [result.seed for result in self.seed_results],
            "seconds": [round(result.seconds, 2) for result in self.seed_results],
            **records.machine(self.parameters.get("device", "auto")),
            "versions": records.versions(),
            **self.source,
            "command": self.command,
        }

    def _tell_of_others(self, mine: Path) -> None:
        if not mine.is_dir() and any(mine.parent.glob("*/*.npz")):
            print("Seeds kept by this run with other parameters, data or code are not used.")

    def _kept(self, seed: int) -> Path:
        return self.work / "seeds" / self.identity / f"seed-{seed}.npz"

    def _numbers(self, metrics: Mapping[str, float], seed: int) -> dict[str, float]:
        taken = {"seed", *records.COLUMNS, *self.parameters}
        for name, value in metrics.items():
            if name in taken:
                raise ValueError(
                    f"Metric '{name}' of seed {seed} has the name of a parameter or a column; rename it."
                )
            try:
                float(value)
            except (TypeError, ValueError):
                raise ValueError(
                    f"Metric '{name}' of seed {seed} is {type(value).__name__}, not a number. "
                    "Arrays go in the second dictionary."
                ) from None
        return {name: float(value) for name, value in metrics.items()}


class _Clock:
    """Seconds spent on a seed in all its sessions; one that was cut off counts up to its last checkpoint."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint, self.file = checkpoint, checkpoint.with_suffix(".clock")
        self.spent = 0.0
        if checkpoint.is_file() and self.file.is_file():
            earlier = json.loads(self.file.read_text(encoding="utf-8"))
            self.spent = earlier["spent"] + max(0.0, checkpoint.stat().st_mtime - earlier["started"])
        records.write_json(self.file, {"spent": self.spent, "started": time.time()})
        self.started = time.perf_counter()

    def seconds(self) -> float:
        return self.spent + time.perf_counter() - self.started

    def remove(self) -> None:
        self.checkpoint.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))


def _portable(value: Any) -> Any:
    return records.portable(value) if isinstance(value, str) else value


def _arrays(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """As numpy arrays, from CPU tensors too. Raises ValueError for anything that needs pickling."""
    converted = {name: np.asarray(value) for name, value in arrays.items()}
    for name, array in converted.items():
        if array.dtype.hasobject:
            raise ValueError(f"Array '{name}' holds Python objects; give numbers or fixed-length text.")
    return converted


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A compressed npz; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})
    return buffer.getvalue()


def _dump_seed(result: SeedResult) -> bytes:
    about = json.dumps({"metrics": result.metrics, "seconds": result.seconds})
    arrays = {f"array/{name}": array for name, array in result.arrays.items()}
    return _pack({"about": np.array(about)} | arrays)


def _load_seed(path: Path, seed: int) -> SeedResult:
    with np.load(path, allow_pickle=False) as kept:
        about = json.loads(str(kept["about"]))
        arrays = {name.removeprefix("array/"): kept[name] for name in kept.files if name != "about"}
    return SeedResult(seed, about["metrics"], arrays, about["seconds"], loaded=True)
