"""Results: tables, cards and sentences from the records, for results pages, plain text pages and the README.
Nobody types a score.

In a results notebook: `arms` (the runs of a profile, recorded or not), `table` (their scores beside the
paper's), `claims` and `verdicts` (the ledger), `ablations` (runs that differ in one setting). `write` fills
the blocks of text pages:

    <!-- pullpush:NAME -->...<!-- /pullpush -->

Everything works with no, some or all records; what is missing is said to be "not run yet".
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pullpush import matrix, records, statistics
from pullpush.ledger import Judged, judge, reported
from pullpush.parameters import nearest, read_schema
from pullpush.statistics import Chip, Interval

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

__all__ = [
    "Arm", "Origin", "ablations", "arms", "card", "chip", "claims", "comparisons", "judge", "page",
    "page_blocks", "reported", "table", "verdicts", "write",
]  # fmt: skip

LABELS = {
    "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10",
    "pad_rotate_scale": "pad-rotate-scale", "simclr": "SimCLR",
    "margin": "Hadsell", "nt_xent": "NT-Xent", "sup_con": "SupCon",
}  # fmt: skip
SOURCES = {"pair_vs_triplet": "the practicum"}  # what a sentence calls the paper


def label(value: Any) -> str:
    """A value of a parameter as a table writes it: 'MNIST', 'on', 'semi hard'."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return LABELS.get(str(value), str(value).replace("_", " "))


# Runs and their scores ----------------------------------------------------------------------------------------------------


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

    def interval(self, metric: str) -> Interval | None:
        """The mean of a metric with its interval; None where there is no record, or no such metric in it."""
        rows = self.rows
        return None if rows is None or metric not in rows else statistics.interval(statistics.by_seed(rows, metric))


def arms(study: str, profile: str) -> list[Arm]:
    """The planned runs of a profile in their order, then the recorded ones that are not planned (any more)."""
    folder = records.run_folder(profile, study, "*").parent
    found = {path.parent.name: records.read_record(path) for path in sorted(folder.glob("*/record.json"))}
    plan = [run for run in matrix.read_profile(profile, missing_ok=True) if run.study == study]
    listed = [Arm(study, profile, run.name, run.parameters, found.pop(run.name, None)) for run in plan]
    return listed + [Arm(study, profile, name, record.content["parameters"], record) for name, record in found.items()]


def page(arm: Arm) -> str | None:
    """The page of a run as linked from a page of `book/results`; None where it has no record."""
    return None if arm.record is None else f"../runs/{arm.profile}/{arm.study}/{arm.run}.html"


def table(chosen: Sequence[Arm], scores: Sequence[str], prefix: str = "") -> pd.DataFrame:
    """One row a run: run, data, views, loss, n, link, note, and for each score s the columns s, s_low,
    s_high, s_paper.

    prefix is put before the names of the metrics ("pixels_"). Scores are nan and n is 0 for a run without a record; note says
    "not run yet", or "older code" where the method has changed since.
    """
    import pandas as pd

    rows = []
    for arm in chosen:
        paper = reported(arm.study)
        row: dict[str, Any] = {"run": arm.run} | {name: label(arm.parameters.get(name)) for name in ("data", "views", "loss")}
        note = "not run yet" if arm.record is None else "older code" if arm.record.stale else ""
        row |= {"n": 0, "link": page(arm), "note": note}
        for score in scores:
            found = arm.interval(prefix + score)
            row |= {score: math.nan, f"{score}_low": math.nan, f"{score}_high": math.nan}
            row[f"{score}_paper"] = paper[score].get(arm.run, math.nan) if score in paper and not prefix else math.nan
            if found:
                row |= {"n": found.n, score: found.mean, f"{score}_low": found.low, f"{score}_high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Origin:
    """What the fold under a figure of a results page says: the records that it was drawn from."""

    arms: Sequence[Arm]

    def provenance(self) -> dict[str, Any]:
        found = [arm for arm in self.arms if arm.record]
        content = [arm.record.content for arm in found if arm.record]
        if not content:
            return {"records": "none yet"}
        profiles = sorted({arm.profile for arm in found})
        return {
            "records": ", ".join(f"{arm.profile}/{arm.study}/{arm.run}" for arm in found),
            "seeds": len([row for one in content for row in one["metrics"]]),
            "commits": sorted({f"{str(one['commit'])[:7]}{' and changes' if one['dirty'] else ''}" for one in content}),
            "device": sorted({str(one.get("device_name") or one["device"]) for one in content}),
            "seconds": round(sum(sum(one["seconds"]) for one in content)),
            "command": "; ".join(f"make runs PROFILE={profile}" for profile in profiles),
        }


def ablations(study: str, profile: str, tuned: Collection[str], metric: str = "accuracy", seeds: int = 3) -> pd.DataFrame:
    """Pairs of runs that differ in one setting, grouped by that setting: what the change costs or gains.

    One run of each pair has the study's default of the setting (the base), the other does not. Settings are
    all parameters but `seeds`, `profile`, `device` and those in `tuned`, which may follow the setting (a
    learning rate belongs to its loss); what of them differs is told in `also`. Runs planned with fewer than
    `seeds` seeds are left out: they chose settings. Columns: setting, base_value, value, shared (what both
    have off default), also, base, run, ours (the paired Interval or None), difference, low, high, n,
    differences, chip, word.
    """
    import pandas as pd

    defaults = read_schema(records.notebook_path(study)).validate({})
    settings = [name for name in defaults if name not in {"seeds", "profile", "device", *tuned}]
    chosen = [arm for arm in arms(study, profile) if len(arm.parameters["seeds"]) >= seeds]
    rows = []
    for base in chosen:
        for arm in chosen:
            differ = [name for name in settings if base.parameters.get(name, defaults[name]) != arm.parameters.get(name, defaults[name])]
            if len(differ) != 1 or base.parameters.get(differ[0], defaults[differ[0]]) != defaults[differ[0]]:
                continue
            (name,) = differ
            shared = {
                other: arm.parameters[other]
                for other in settings
                if other != name and arm.parameters.get(other) != defaults[other]
            }
            also = [
                f"{other.replace('_', ' ')} {base.parameters[other]} → {arm.parameters[other]}"
                for other in tuned
                if base.parameters.get(other) != arm.parameters.get(other)
            ]
            ours = None
            if (a := arm.rows) is not None and (b := base.rows) is not None:
                ours = statistics.paired(a, b, metric)
            verdict = statistics.verdict(ours)
            rows.append({
                "setting": name, "base_value": label(base.parameters.get(name, defaults[name])), "value": label(arm.parameters[name]),
                "shared": shared, "also": ", ".join(also), "base": base.run, "run": arm.run, "ours": ours,
                "difference": ours.mean if ours else math.nan, "low": ours.low if ours else math.nan,
                "high": ours.high if ours else math.nan, "n": ours.n if ours else 0,
                "differences": ours.values if ours else (), "chip": verdict.chip, "word": verdict.word,
            })  # fmt: skip
    columns = [
        "setting", "base_value", "value", "shared", "also", "base", "run", "ours", "difference", "low", "high", "n",
        "differences", "chip", "word",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


# The ledger as tables -----------------------------------------------------------------------------------------------------


def claims(study: str | None = None) -> pd.DataFrame:
    """The ledger: one row a claim with its chip and how many of its comparisons are upheld."""
    import pandas as pd

    return pd.DataFrame([
        {
            "id": one.claim.id, "study": one.claim.study, "profile": one.claim.profile, "claim": one.claim.claim,
            "source": one.claim.source, "protocol": one.claim.protocol, "chip": one.chip, "upheld": one.upheld,
            "judged": one.judged, "comparisons": len(one.comparisons),
        }
        for one in judge(study)
    ])  # fmt: skip


def comparisons(judged: Sequence[Judged]) -> pd.DataFrame:
    """One row a comparison: what `figures.paired` draws, with the chip and the paper's own difference."""
    import pandas as pd

    rows = []
    for one in judged:
        for part in one.comparisons:
            ours = part.ours or Interval(math.nan, math.nan, math.nan, ())
            rows.append({
                "claim": one.claim.id, "comparison": part.label, "test": part.test, "runs": " ".join(part.runs),
                "difference": ours.mean, "low": ours.low, "high": ours.high, "n": ours.n, "differences": ours.values,
                "paper": part.paper, "chip": part.verdict.chip, "word": part.verdict.word,
            })  # fmt: skip
    return pd.DataFrame(rows)


def chip(verdict: Chip) -> str:
    """The HTML of a verdict chip."""
    kind = {"not run yet": "not-run-yet", "n too small": "not-run-yet"}.get(verdict, verdict)
    return f'<span class="pp-chip pp-{kind}">{"not reproduced" if verdict == "not" else verdict}</span>'


def verdicts(judged: Sequence[Judged]) -> HTML:
    """The claims as an HTML table: each with its chip, under it its comparisons beside the paper's numbers,
    linked to the runs.
    """
    lines = []
    for one in judged:
        claim = one.claim
        about = f"{_text(claim.source)}. Tested: {_text(claim.protocol)}."
        lines.append(
            f'<tr class="pp-claim"><th scope="rowgroup" colspan="3">{_text(claim.claim)}<br><small>{about}</small></th><td>{chip(one.chip)}</td></tr>'
        )
        for part in one.comparisons:
            agrees = " = paper " in part.test
            ours = "–" if part.ours is None else str(part.ours) if agrees else part.ours.signed
            paper = (statistics.score if agrees else statistics.difference)(part.paper)
            n = f", n = {part.ours.n}" if part.ours and part.verdict.chip != "n too small" and "seeds" not in part.verdict.word else ""
            lines.append(
                f'<tr><td>{_linked(claim.profile, claim.study, part.runs, part.label)}</td><td class="pp-number">{ours}</td>'
                f'<td class="pp-number pp-paper">{paper}</td><td>{part.verdict.word}{n}</td></tr>'
            )
    head = "".join(f'<th scope="col">{text}</th>' for text in ("claim and comparisons", "ours", "source", "verdict"))
    return _html(
        '<div class="pp-scroll" tabindex="0" role="region" aria-label="Claims and verdicts"><table class="pp-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _linked(profile: str, study: str, runs: Sequence[str], text: str) -> str:
    """The text, linked to the page of the first run if that has a record, and with a number for each further
    one.
    """
    there = [run for run in runs if (records.run_folder(profile, study, run) / "record.json").is_file()]
    links = [
        f'<a href="../runs/{profile}/{study}/{run}.html" title="{run}">{_text(text) if i == 0 else f"[{i + 1}]"}</a>' for i, run in enumerate(there)
    ]
    return " ".join(links) or _text(text)


# Cards and blocks ---------------------------------------------------------------------------------------------------------


def card(study: str) -> HTML:
    """The result card at the top of a chapter: the headline claim, our number beside the paper's, the chip,
    where it was computed.
    """
    return _html(_card(study))


def _headline(study: str) -> Judged | None:
    judged = judge(study)
    return next((one for one in judged if one.claim.headline), judged[0] if judged else None)


def _card(study: str) -> str:
    one = _headline(study)
    if one is None:
        return '<div class="pp-card">No claim of this study is listed yet.</div>'
    lines = [
        f"<strong>Claim of {SOURCES.get(study, 'the paper')}.</strong> {_text(one.claim.claim)} {chip(one.chip)}",
        _text(headline_sentence(one)),
        _text(_where(one)),
    ]
    return f'<div class="pp-card">{"".join(f"<p>{line}</p>" for line in lines)}</div>'


def headline_sentence(one: Judged) -> str:
    """What was found, in a sentence: the mean over the recorded comparisons beside the paper's, and how many
    are upheld.
    """
    average = one.average
    if average is None:
        return f"Not run yet: none of the {len(one.comparisons)} comparisons has records of the {one.claim.profile} profile."
    recorded = sum(part.ours is not None for part in one.comparisons)
    of = f"the {recorded} comparisons" if recorded == len(one.comparisons) else f"{recorded} of {len(one.comparisons)} comparisons so far"
    paper = f", {SOURCES.get(one.claim.study, 'the paper')}: {statistics.difference(one.paper_average)}" if math.isfinite(one.paper_average) else ""
    return (
        f"Ours: {average.signed} {one.claim.metric} on the mean of {of}, n = {average.n} seeds{paper}. "
        f"{one.upheld} of {recorded} intervals leave out zero on the claimed side."
    )


def _where(one: Judged) -> str:
    """Profile, devices and minutes of the records behind a claim."""
    names = dict.fromkeys(run for part in one.comparisons for run in part.runs)
    found = [arm.record.content for arm in arms(one.claim.study, one.claim.profile) if arm.run in names and arm.record]
    if not found:
        return f"Profile {one.claim.profile}."
    devices = sorted({str(content["device"]) for content in found})
    minutes = sum(sum(content["seconds"]) for content in found) / 60
    return f"Profile {one.claim.profile}, on {' and '.join(devices)}, {minutes:.0f} minutes for {len(found)} runs."


def _glance(on_site: bool) -> str:
    """Study 1 as a Markdown table: the six comparisons."""
    one = _headline("pair_vs_triplet")
    if one is None:
        return "No claim is listed yet."
    known = {arm.run: arm for arm in arms(one.claim.study, one.claim.profile)}
    lines = [
        "| data, views | pair | triplet | triplet − pair | the practicum | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for part in one.comparisons:
        triplet, pair = (_cell(known.get(run), one.claim.metric, on_site) for run in part.runs)
        ours = "not run yet" if part.ours is None else part.ours.signed
        lines.append(f"| {part.label} | {pair} | {triplet} | {ours} | {statistics.difference(part.paper)} | {part.verdict.word} |")
    ns = sorted({part.ours.n for part in one.comparisons if part.ours})
    n = "–".join(dict.fromkeys((str(ns[0]), str(ns[-1])))) if ns else "0"
    tally = _tally(claims(one.claim.study)["chip"])
    return "\n".join([
        *lines,
        "",
        f"Accuracy of a linear probe, mean and 95 % interval over n = {n} seeds, differences paired by seed. {tally}",
    ])


def _cell(arm: Arm | None, metric: str, on_site: bool) -> str:
    """A score as a Markdown link to the executed notebook that made it."""
    found = arm.interval(metric) if arm else None
    if arm is None or found is None:
        return "not run yet"
    folder = f"{arm.profile}/{arm.study}/{arm.run}"
    return f"[{found}]({f'/runs/{folder}.ipynb' if on_site else f'papermill_runs/{folder}/run.ipynb'})"


def _tally(chips: Collection[str]) -> str:
    """'Of 10 claims tested, 7 are reproduced, 2 partly, 1 not.'"""
    counts = {chip: sum(one == chip for one in chips) for chip in ("reproduced", "partly", "not", "n too small", "not run yet")}
    parts = [f"{count} {chip if chip != 'not' else 'not reproduced'}" for chip, count in counts.items() if count]
    return f"Of {len(chips)} claims: {', '.join(parts)}."


def _records_line(on_site: bool) -> str:
    """How many runs and seeds are recorded, by profile."""
    frame = records.load_records()
    frame = frame[frame["profile"] != "quick"] if len(frame) else frame
    if not len(frame):
        return "No laptop or paper run is recorded yet."
    parts = [
        f"{profile}: {part.groupby(['study', 'run']).ngroups} runs with {len(part)} seeds on {' and '.join(sorted(set(part['device'])))}"
        for profile, part in frame.groupby("profile")
    ]
    return f"Recorded so far, {'; '.join(parts)}; {frame['seconds'].sum() / 3600:.1f} hours in all."


def _html(text: str) -> HTML:
    from IPython.display import HTML

    return HTML(text)


def _text(text: str) -> str:
    return html.escape(text, quote=False)


# Blocks of text pages -----------------------------------------------------------------------------------------------------

BLOCK = re.compile(r"(<!-- pullpush:([\w-]+) -->)((?:(?!<!-- pullpush:).)*?)(<!-- /pullpush(?::\2)? -->)", re.DOTALL)
BLOCKS: dict[str, Callable[[bool], str]] = {"pair_vs_triplet": _glance, "records": _records_line}
STAGED = {"idea", "cards", "status", "statusline"}  # filled when the book is staged, see pullpush.stage


def page_blocks() -> dict[str, str]:
    """The blocks that the stage may put on pages of the book: those of `BLOCKS`, and card-STUDY and
    verdict-STUDY for every study.
    """
    studies = dict.fromkeys(one.claim.study for one in judge())
    found = {name: make(True) for name, make in BLOCKS.items()}
    for study in studies:
        one = _headline(study)
        assert one is not None
        found |= {f"card-{study}": _card(study), f"verdict-{study}": f"{chip(one.chip)} {_text(headline_sentence(one))}"}
    return {name.replace("_", "-"): text for name, text in found.items()}


def write(check: bool = False) -> list[Path]:
    """Rewrite the blocks of README.md and book/**/*.md; the pages that changed, or with `check` would change.

    Raises ValueError naming the page and the nearest known name for a block that nobody writes.
    """
    root = records.root()
    changed = []
    for page in [root / "README.md", *sorted((root / "book").rglob("*.md"))]:
        if not page.is_file():
            continue
        old = page.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda found: _filled(found, page.relative_to(root)), old)  # noqa: B023
        if new != old:
            changed.append(page)
            if not check:
                records.write_atomically(page, new.encode())
    return changed


def _filled(found: re.Match[str], page: Path) -> str:
    opening, name, _, closing = found.groups()
    make = BLOCKS.get(name) or BLOCKS.get(name.replace("-", "_"))
    if make:
        return f"{opening}\n{make(page.parts[0] == 'book').strip()}\n{closing}"
    if name in STAGED or name.startswith(("card-", "verdict-")):
        return found[0]
    raise ValueError(f"{page} has a block '{name}' that nobody writes. {nearest(name, [*BLOCKS, *sorted(STAGED)])}")
