"""The runs that a profile holds, in order of worth, and which of them have no record yet.

papermill_runs/<profile>.yaml:

    profile: paper
    studies:
      pair_vs_triplet:
        defaults: {seeds: [0, 1, 2, 3, 4], batch_size: 1024}
        runs:
          mnist-none-triplet: {data: mnist, views: none, loss: triplet}
          a-large-one: {needs: gpu, data: cifar10}
          a-further-one: {needs: hours, data: mnist, batch_size: 8}

A run that needs hours goes beyond those that its profile promises: it waits until it is asked for.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pullpush import records
from pullpush.parameters import ParameterError, nearest, read_schema, read_yaml


@dataclass(frozen=True)
class Planned:
    """One run of a profile, its parameters validated and complete."""

    study: str
    name: str
    profile: str
    parameters: dict[str, Any]
    needs: str | None = None

    @property
    def record(self) -> records.Record | None:
        """Its record, if there is one."""
        path = records.run_folder(self.profile, self.study, self.name) / "record.json"
        return records.read_record(path) if path.is_file() else None

    @property
    def stale(self) -> bool:
        """Whether its record was made by older code."""
        return self.record is not None and self.record.stale

    @property
    def done(self) -> bool:
        """Whether it has a record with exactly these parameters."""
        record = self.record
        if record is None:
            return False
        # A parameter that the study got after the record was made had, in effect, its default.
        defaults = read_schema(records.notebook_path(self.study)).validate({})
        written = {
            name: records.portable(value) if isinstance(value, str) else value
            for name, value in self.parameters.items()
        }
        return bool({**defaults, **record.content["parameters"]} == written)


def read_profile(profile: str, *, missing_ok: bool = False) -> list[Planned]:
    """Every run of a profile, in order. Raises ParameterError naming file, run and what is wrong there."""
    path = records.root() / "papermill_runs" / f"{profile}.yaml"
    if missing_ok and not path.is_file():
        return []
    where, planned = f"papermill_runs/{path.name}", []
    for study, entry in _studies(profile).items():
        schema = read_schema(records.notebook_path(study))
        for name, settings in (entry.get("runs") or {}).items():
            here = f"{where}, {study}, {name}"
            check_name(str(name), where)
            given = {"profile": profile, **(entry.get("defaults") or {}), **(settings or {})}
            needs = given.pop("needs", None)
            if needs not in (None, "gpu", "hours"):
                raise ParameterError(f"{here}: needs '{needs}' is unknown. A run can need 'gpu' or 'hours'.")
            try:
                parameters = schema.validate(given)
            except ParameterError as error:
                raise ParameterError(f"{here}: {error}") from None
            if parameters.get("profile") != profile:
                raise ParameterError(f"{here}: profile is '{parameters['profile']}'; it must be '{profile}'.")
            planned.append(Planned(study, str(name), profile, parameters, needs))
    return planned


def usual(profile: str, study: str) -> dict[str, Any]:
    """The parameters that a run of the study has in this profile unless its own line says otherwise."""
    given = dict(_studies(profile).get(study, {}).get("defaults") or {})
    given.pop("needs", None)
    return read_schema(records.notebook_path(study)).validate({"profile": profile, **given})


def _studies(profile: str) -> dict[str, dict[str, Any]]:
    """What the file of a profile says about each study."""
    path = records.root() / "papermill_runs" / f"{profile}.yaml"
    if not path.is_file():
        there = sorted(found.stem for found in path.parent.glob("*.yaml"))
        raise ParameterError(f"Unknown profile '{profile}'. {nearest(profile, there)}")
    content = read_yaml(path) or {}
    where = f"papermill_runs/{path.name}"
    _check_keys(where, content, {"profile", "studies"})
    if content.get("profile", profile) != profile:
        raise ParameterError(f"{where} says profile '{content['profile']}'; it must say '{profile}'.")
    studies = {study: entry or {} for study, entry in (content.get("studies") or {}).items()}
    for study, entry in studies.items():
        _check_keys(f"{where}, {study}", entry, {"defaults", "runs"})
    return studies


def pending(
    profile: str,
    rerun: str | None = None,
    *,
    study: str | None = None,
    gpu: bool | None = None,
    hours: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Planned]:
    """The runs of a profile, or of one study of it, without a record of exactly these parameters, in order.

    rerun: 'stale' adds the runs whose record was made by older code; the name of a run (or study/run) adds
    that run. Neither file times nor code changes add any by themselves. gpu: whether the runs will find a
    GPU; None asks torch. Runs that need one are left out where there is none. hours: whether to do those that
    go beyond the hours of the profile too; the one that `rerun` names is done anyway. What is left out, `say`
    is told. Raises ParameterError for a profile, study or run that there is not.
    """
    planned = read_profile(profile)
    studies = {run.study for run in planned}
    if study and study not in studies:
        raise ParameterError(f"No study '{study}' in profile {profile}. {nearest(study, sorted(studies))}")
    names = {run.name for run in planned} | {f"{run.study}/{run.name}" for run in planned}
    if rerun not in (None, "", "stale") and rerun not in names:
        raise ParameterError(
            f"No run '{rerun}' in profile {profile}. {nearest(str(rerun), ['stale', *sorted(names)])}"
        )
    planned = [run for run in planned if study in (None, run.study)]
    wanted = [run for run in planned if not run.done or named(run, rerun) or (rerun == "stale" and run.stale)]
    skipped = [run for run in wanted if run.needs == "gpu" and not (gpu_present() if gpu is None else gpu)]
    later = [run for run in wanted if run.needs == "hours" and not hours and not named(run, rerun)]
    for left_out, why in (
        (skipped, "Skipped, as there is no GPU here"),
        (later, f"Left to --hours (make: HOURS=yes), as they go beyond the hours of {profile}"),
    ):
        if left_out:
            say(f"{why}: {', '.join(run.name for run in left_out)}.")
    return [run for run in wanted if run not in skipped + later]


def named(run: Planned, rerun: str | None) -> bool:
    """Whether `rerun` is the name of this run."""
    return rerun in (run.name, f"{run.study}/{run.name}")


def planned(study: str, parameters: dict[str, Any], name: str | None = None) -> Planned:
    """A run with these validated parameters: the profile's if it has one, else called `name` or by a hash."""
    profile = parameters["profile"]
    for run in read_profile(profile, missing_ok=True):
        if name is None and run.study == study and run.parameters == parameters:
            return run
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    return Planned(study, name or f"own-{digest[:8]}", profile, parameters)


@functools.cache
def gpu_present() -> bool:
    """Whether torch sees a CUDA device. Asked only where a run needs one, as importing torch is slow."""
    import torch

    return torch.cuda.is_available()


def check_name(name: str, where: str = "--name") -> None:
    """Raise ParameterError unless a run may have this name, which becomes a folder and part of a link."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", name):
        raise ParameterError(f"{where}: '{name}' cannot name a run. Use a-z, 0-9, '-', '_' and '.'.")


def _check_keys(where: str, content: Mapping[str, Any], allowed: set[str]) -> None:
    for key in content:
        if key not in allowed:
            raise ParameterError(f"{where}: unknown key '{key}'. {nearest(str(key), sorted(allowed))}")
