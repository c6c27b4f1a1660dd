"""The page "How this book is made": what the records cost, which of them are stale, and why."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from pullpush import matrix, records, runs
from pullpush.fingerprint import method_files

PROFILES = ("laptop", "paper")  # whose records are committed
SUBJECTS = 3  # commits that are named as the reason of a stale record
FOLD = 3  # more names of runs than these are folded


def blocks(root: Path) -> dict[str, str]:
    """`cost` and `stale`: Markdown for the page, from the committed records and the plans of all profiles."""
    frame = runs.load_records()
    frame = frame[frame["profile"].isin(PROFILES)] if len(frame) else frame
    return {"cost": cost(frame), "stale": stale(root, frame)}


def cost(frame: Any) -> str:
    """A table with one row a study and profile: runs recorded and planned, trainings, hours, machines.

    frame: what `runs.load_records` gives, one row a seed. Hours are those of one core, or of one GPU; after a
    plus stand those of runs that go beyond the hours of their profile.
    """
    lines = [
        "| study | profile | runs recorded | of | trainings | hours | machine |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for profile in PROFILES:
        plan = matrix.read_profile(profile, missing_ok=True)
        planned = Counter(run.study for run in plan)
        part = frame[frame["profile"] == profile] if len(frame) else frame
        for study, count in planned.items():
            mine = part[part["study"] == study] if len(part) else part
            done = mine["run"].nunique() if len(mine) else 0
            beyond = {run.name for run in plan if run.study == study and run.needs == "hours"}
            hours = _hours(mine, beyond) if done else "–"
            device = ", ".join(sorted(set(mine["device"]))) if done else "not run yet"
            lines.append(f"| `{study}` | {profile} | {done} | {count} | {len(mine)} | {hours} | {device} |")
    return "\n".join(lines)


def _hours(rows: Any, beyond: set[str]) -> str:
    """Hours of the profile's own runs, and after a plus of those beyond, by name; rows: one a seed."""
    later = rows["run"].isin(beyond)
    hours = [rows.loc[part, "seconds"].sum() / 3600 for part in (~later, later)]
    return " + ".join(f"{each:.1f}" for each in (hours if later.any() else hours[:1]))


def stale(root: Path, frame: Any) -> str:
    """The records whose method has changed since they were made or rechecked, and by which commits.

    One row a study, profile and commit: runs that were made together are stale together.
    """
    if not len(frame):
        return "No run is recorded yet."
    old = frame[frame["stale"].astype(bool)]
    if not len(old):
        return "None. All records were made with today’s method, or one seed of each gave the same with it."
    groups: dict[tuple[str, str, str], list[str]] = {}
    for profile, study, run in sorted(set(zip(old["profile"], old["study"], old["run"], strict=True))):
        groups.setdefault((profile, study, _last_check(profile, study, run)), []).append(run)
    lines = ["| study | profile | runs | made with | changed since by |", "|---|---|---|---|---|"]
    for (profile, study, commit), names in groups.items():
        told = ", ".join(f"`{name}`" for name in names)
        if len(names) > FOLD:
            told = f"<details><summary>{len(names)} runs</summary>{told}</details>"
        lines.append(f"| `{study}` | {profile} | {told} | `{commit[:7]}` | {_changes(root, study, commit)} |")
    return "\n".join(lines)


def _last_check(profile: str, study: str, run: str) -> str:
    record = records.open_record(study, profile, run)
    return str([record.content, *record.rechecks][-1]["commit"])


def _changes(root: Path, study: str, commit: str) -> str:
    """The newest commits after `commit` that touched the notebook or a module that its method reaches."""
    notebook = records.notebook_path(study)
    files = method_files(notebook, root / "lib" / "pullpush") if notebook.is_file() else [notebook]
    paths = [path.relative_to(root).as_posix() for path in files]
    command = ["git", "log", f"-{SUBJECTS}", "--format=%s", f"{commit}..HEAD", "--", *paths]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    subjects = [line.replace("|", "\\|") for line in said.stdout.splitlines()]
    return "<br>".join(subjects) or "a module that these use, or a commit that is not in this history"
