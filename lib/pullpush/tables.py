"""The runs of a profile and their scores as tables, for results pages. What has no record yet has a row too.

`arms` lists the runs that are planned or recorded, `table` sets their scores beside the paper's, `ablations`
pairs those that differ in one setting, and `Origin` says under a figure which records it was drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pullpush import matrix, records, statistics
from pullpush.display import RUNS
from pullpush.ledger import reported
from pullpush.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd

LABELS = {
    "None": "own",  # a margin of None is the loss's own
    "True": "on",
    "False": "off",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "fields": "rendered fields",
    "deepweeds": "DeepWeeds",
    "usps": "USPS",
    "pendigits": "Pendigits",
    "reuters": "Reuters",
    "pad_rotate_scale": "pad-rotate-scale",
    "simclr": "SimCLR",
    "margin": "Hadsell",
    "nt_xent": "NT-Xent",
    "sup_con": "SupCon",
}
NO_SETTINGS = ("seeds", "profile", "device")  # parameters that do not change what is compared


def label(value: Any) -> str:
    """The value of a parameter as a page writes it: 'MNIST', 'on', 'semi hard', '0', '1,000'."""
    if type(value) in (int, float):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return LABELS.get(str(value), str(value).replace("_", " "))


def run_page(profile: str, study: str, run: str) -> str:
    """The page of a recorded run, as linked from a page in a folder of the book."""
    return f"{RUNS}{profile}/{study}/{run}.html"


def run_link(profile: str, study: str, run: str, words: str) -> str:
    """`words` (HTML) linked to the page of a recorded run, whose name shows under the pointer."""
    return f'<a href="{run_page(profile, study, run)}" title="{run}">{words}</a>'


@dataclass(frozen=True)
class Arm:
    """One run of a profile: planned, recorded, or both."""

    study: str
    profile: str
    run: str
    parameters: Mapping[str, Any]
    record: records.Record | None

    @property
    def rows(self) -> pd.DataFrame | None:
        """One row a seed, as in `load_records`; None without a record."""
        import pandas as pd

        return None if self.record is None else pd.DataFrame(self.record.rows())

    @property
    def page(self) -> str | None:
        """Its page, as linked from a page in book/results; None without a record."""
        return None if self.record is None else run_page(self.profile, self.study, self.run)

    def link(self, words: str = "") -> str:
        """`words`, by default its name, as HTML that links to `page`; without a record they are plain."""
        if self.record is None:
            return words or f"`{self.run}`"
        return run_link(self.profile, self.study, self.run, words or self.run)

    def interval(self, metric: str) -> Interval | None:
        """The mean of a metric with its interval; None without a record, or where that has no such metric."""
        rows = self.rows
        if rows is None or metric not in rows:
            return None
        return statistics.interval(statistics.by_seed(rows, metric))


def arms(study: str, profile: str) -> list[Arm]:
    """The planned runs of a profile, in their order, then the recorded ones that are no longer planned."""
    folder = records.run_folder(profile, study, "*").parent
    found = {path.parent.name: records.read_record(path) for path in sorted(folder.glob("*/record.json"))}
    plan = [run for run in matrix.read_profile(profile, missing_ok=True) if run.study == study]
    listed = [Arm(study, profile, run.name, run.parameters, found.pop(run.name, None)) for run in plan]
    others = [Arm(study, profile, name, one.content["parameters"], one) for name, one in found.items()]
    return listed + others


def table(chosen: Sequence[Arm], scores: Sequence[str], prefix: str = "") -> pd.DataFrame:
    """One row a run: run, data, views, loss, n, link, note, and for each score s: s, s_low, s_high, s_paper.

    prefix is put before the names of the metrics ("pixels_"). Without a record scores are nan and n is 0;
    note is then "not run yet", and "older code" where the method has changed since the record was made.
    """
    import pandas as pd

    papers = {study: reported(study) for study in {arm.study for arm in chosen}}
    rows = []
    for arm in chosen:
        paper = papers[arm.study]
        row: dict[str, Any] = {"run": arm.run}
        row |= {name: label(arm.parameters.get(name)) for name in ("data", "views", "loss")}
        row |= {"n": 0, "link": arm.page, "note": "not run yet"}
        if arm.record:
            row["note"] = "older code" if arm.record.stale else ""
        for score in scores:
            found = arm.interval(prefix + score) or Interval(math.nan, math.nan, math.nan, ())
            row |= {"n": max(row["n"], found.n)}
            row |= {score: found.mean, f"{score}_low": found.low, f"{score}_high": found.high}
            known = score in paper and not prefix
            row[f"{score}_paper"] = paper[score].get(arm.run, math.nan) if known else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Origin:
    """The records behind a figure, for the fold under it; an arm may be named twice, and counts once."""

    arms: Sequence[Arm]

    def provenance(self) -> dict[str, Any]:
        """What `figures.show` asks of a run."""
        once = {(arm.profile, arm.study, arm.run): arm for arm in self.arms}
        found = [(arm, arm.record.content) for arm in once.values() if arm.record]
        if not found:
            return {"records": "none yet"}
        commits = {f"{str(one['commit'])[:7]}{' and changes' if one['dirty'] else ''}" for _, one in found}
        return {
            "records": [f"{arm.profile}/{arm.study}/{arm.run}" for arm, _ in found],
            "trainings": sum(len(one["metrics"]) for _, one in found),
            "seeds": sorted({row["seed"] for _, one in found for row in one["metrics"]}),
            "commits": sorted(commits),
            "device": sorted({str(one.get("device_name") or one["device"]) for _, one in found}),
            "seconds": round(sum(sum(one["seconds"]) for _, one in found)),
            "command": "; ".join(dict.fromkeys(self._command(arm, found) for arm, _ in found)),
        }

    @staticmethod
    def _command(arm: Arm, found: Collection[tuple[Arm, Any]]) -> str:
        """What makes the record of `arm` again; NAME is any of several that are drawn of its study."""
        others = [one for one, _ in found if (one.profile, one.study) == (arm.profile, arm.study)]
        name = arm.run if len(others) == 1 else "NAME"
        return f"pullpush run {arm.study} --profile {arm.profile} --rerun {name}"


@dataclass(frozen=True)
class Ablation:
    """Two runs that differ in one setting. `ours`: the paired interval of `arm` minus `base`, if recorded."""

    setting: str
    base: Arm
    arm: Arm
    shared: dict[str, Any]  # what both have off the study's default
    also: dict[str, tuple[Any, Any]]  # tuned parameters that differ: (of base, of arm)
    ours: Interval | None

    @property
    def verdict(self) -> statistics.Verdict:
        return statistics.verdict(self.ours)

    @property
    def told(self) -> str:
        """The difference with n and its word, and the two runs, linked, as Markdown."""
        ours = self.ours
        found = f"{ours.signed}, n = {ours.n}, **{self.verdict.word}**" if ours else "*not run yet*"
        return f"{found} ({self.arm.link()} against {self.base.link()})"

    @property
    def turned(self) -> Ablation:
        """The same comparison, base minus arm."""
        also = {name: (there, here) for name, (here, there) in self.also.items()}
        ours = self.ours and statistics.interval(-value for value in self.ours.values)
        return Ablation(self.setting, self.arm, self.base, self.shared, also, ours)


def ablations(
    study: str, profile: str, tuned: Collection[str], metric: str = "accuracy", seeds: int = 3
) -> list[Ablation]:
    """Every two runs of a profile that differ in one setting, of which `base` has the profile's usual value.

    Settings are all parameters but `NO_SETTINGS` and those in `tuned`, which may follow the setting, as a
    learning rate belongs to its loss. Runs planned with fewer than `seeds` seeds, which served to choose
    settings, are left out.
    """
    defaults = matrix.usual(profile, study)
    settings = [name for name in defaults if name not in (*NO_SETTINGS, *tuned)]
    chosen = [(arm, {**defaults, **arm.parameters}) for arm in arms(study, profile)]
    chosen = [(arm, values) for arm, values in chosen if len(values["seeds"]) >= seeds]
    found = []
    for base, old in chosen:
        for arm, new in chosen:
            differ = [name for name in settings if old[name] != new[name]]
            if len(differ) != 1 or old[differ[0]] != defaults[differ[0]]:
                continue
            shared = {
                name: new[name] for name in settings if name not in differ and new[name] != defaults[name]
            }
            also = {name: (old[name], new[name]) for name in tuned if old[name] != new[name]}
            a, b = arm.rows, base.rows
            ours = None if a is None or b is None else statistics.paired(a, b, metric)
            found.append(Ablation(differ[0], base, arm, shared, also, ours))
    return found
